//! The power loss: makes of a folder what a disk could hold of it after the lights went out.
//!
//! First the directories: of each one's changes since its last sync a beginning is kept and the rest undone, newest first (a removed file
//! comes back, a new name goes, a rename is taken back). Then every file that is still there: what its last sync covered stays as it was,
//! and of what was written since, any part is there.
//!
//! ```text
//! file     [ synced ..............................| appended since ........ ]
//!                     [ overwritten since ]
//! after      as it was    sector by sector        a beginning, with a torn sector or garbage behind it,
//!                         old or new, or torn     or page by page there or zero; or nothing
//! ```
//!
//! The same folder, model and seed give the same result. Never: touches a byte that was synced and not written since.
//! Called by [`crate::preload::StateDir`] and [`crate::Disk`], when the process (or simulated node) is dead.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::{Entry, FileState, Model};
use crate::seed::Choices;

const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// How much of what was not synced is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PowerLoss {
    /// All of it: exactly what was synced is there.
    Everything,
    /// Any part of it, drawn for each file and directory.
    Anything,
}

/// What a power loss took.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Files that are not what the process had written.
    pub files: u64,
    /// Bytes by which files are shorter.
    pub bytes: u64,
    /// Files in whose unsynced part something is torn or garbage.
    pub torn: u64,
    /// Changes of directories undone.
    pub entries: u64,
    /// What happened to each file and entry, for a report.
    pub details: Vec<String>,
}

pub fn power_loss(root: &Path, graves: &Path, model: &Model, how: PowerLoss, seed: u64) -> io::Result<Lost> {
    let mut lost = Lost::default();
    directories(root, graves, model, how, seed, &mut lost)?;
    let mut found = Vec::new();
    walk(root, &mut found)?;
    found.sort();
    for path in found {
        if let Some(state) = model.files.get(&path.metadata()?.ino()) {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            file(&path, &name, state, how, &mut Choices::of(seed, &name), &mut lost)?;
        }
    }
    // What is buried now stays so.
    fs::remove_dir_all(graves)?;
    fs::create_dir_all(graves)?;
    Ok(lost)
}

fn directories(
    root: &Path,
    graves: &Path,
    model: &Model,
    how: PowerLoss,
    seed: u64,
    lost: &mut Lost,
) -> io::Result<()> {
    let mut undone: BTreeMap<u64, (&[u8], &Entry)> = BTreeMap::new();
    for (directory, changes) in &model.directories {
        let keep = match how {
            PowerLoss::Everything => 0,
            // One beginning as likely as another.
            PowerLoss::Anything => {
                let name = format!("directory {}", String::from_utf8_lossy(directory));
                Choices::of(seed, &name).below(changes.len() as u64 + 1)
            }
        };
        undone.extend(
            changes[keep as usize..].iter().map(|change| (change.ticket, (directory.as_slice(), &change.what))),
        );
    }
    // Newest first, over all directories: one that was removed is there again before what was in it comes back.
    for (directory, what) in undone.into_values().rev() {
        undo(&root.join(OsStr::from_bytes(directory)), graves, what, lost)?;
    }
    Ok(())
}

/// Takes one change of a directory back. One that the process did not live to make, or that a later one hides, is passed over.
fn undo(directory: &Path, graves: &Path, what: &Entry, lost: &mut Lost) -> io::Result<()> {
    let at = |name: &[u8]| directory.join(OsStr::from_bytes(name));
    let inode = |path: &Path| path.symlink_metadata().map(|metadata| metadata.ino()).ok();
    let restore = |grave: &Option<u64>, to: &Path| match grave {
        Some(grave) if !to.exists() => fs::rename(graves.join(grave.to_string()), to).map(|()| true).or_else(absent),
        _ => Ok(false),
    };
    let (done, say) = match what {
        Entry::Made { name, inode: made } => {
            let path = at(name);
            let is_it = inode(&path) == Some(*made);
            if is_it {
                lost.bytes += path.metadata()?.len();
                fs::remove_file(&path)?;
            }
            (is_it, format!("{} was never there", path.display()))
        }
        Entry::MadeDirectory { name } => {
            let path = at(name);
            (
                fs::remove_dir_all(&path).map(|()| true).or_else(absent)?,
                format!("folder {} was never there", path.display()),
            )
        }
        Entry::Gone { name, kept } => {
            let path = at(name);
            let parent = directory.is_dir();
            (parent && restore(kept, &path)?, format!("{} is there again", path.display()))
        }
        Entry::GoneDirectory { name } => {
            let path = at(name);
            let back = directory.is_dir() && !path.exists();
            if back {
                fs::create_dir(&path)?;
            }
            (back, format!("folder {} is there again", path.display()))
        }
        Entry::Moved { from, to, inode: moved, replaced } => {
            let (from, to) = (at(from), at(to));
            let is_it = inode(&to) == Some(*moved) && !from.exists();
            if is_it {
                fs::rename(&to, &from)?;
                restore(replaced, &to)?;
            }
            (is_it, format!("{} has its old name {} again", to.display(), from.display()))
        }
    };
    if done {
        lost.entries += 1;
        lost.details.push(say);
    }
    Ok(())
}

fn absent(error: io::Error) -> io::Result<bool> {
    if error.kind() == io::ErrorKind::NotFound { Ok(false) } else { Err(error) }
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let kind = path.symlink_metadata()?.file_type();
        if kind.is_dir() {
            walk(&path, found)?;
        } else if kind.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

fn file(
    path: &Path,
    name: &str,
    state: &FileState,
    how: PowerLoss,
    choices: &mut Choices,
    lost: &mut Lost,
) -> io::Result<()> {
    let length = path.metadata()?.len();
    if state.undo.is_empty() && length == state.durable {
        return Ok(());
    }
    let written = fs::read(path)?;
    let synced = as_synced(&written, state);
    let (after, torn) = match how {
        PowerLoss::Everything => (synced.clone(), false),
        PowerLoss::Anything => mix(&synced, &written, choices),
    };
    if after == written {
        return Ok(());
    }
    fs::write(path, &after)?;
    lost.files += 1;
    lost.torn += u64::from(torn);
    lost.bytes += (written.len() as u64).saturating_sub(after.len() as u64);
    let torn = if torn { ", torn" } else { "" };
    lost.details.push(format!(
        "{name}: {} bytes synced, {} written, {} left{torn}",
        synced.len(),
        written.len(),
        after.len()
    ));
    Ok(())
}

/// The bytes that the last sync covered.
fn as_synced(written: &[u8], state: &FileState) -> Vec<u8> {
    let mut synced = written.to_vec();
    for undo in state.undo.iter().rev() {
        let (from, to) = (undo.at as usize, undo.at as usize + undo.bytes.len());
        if synced.len() < to {
            synced.resize(to, 0);
        }
        synced[from..to].copy_from_slice(&undo.bytes);
    }
    synced.resize(state.durable as usize, 0);
    synced
}

/// Any part of what stands between `synced` and `written`. Says whether something is torn.
fn mix(synced: &[u8], written: &[u8], choices: &mut Choices) -> (Vec<u8>, bool) {
    match choices.below(4) {
        0 => return (synced.to_vec(), false),
        1 => return (written.to_vec(), false),
        _ => {}
    }
    let mut torn = false;
    // What both have: sector by sector.
    let common = synced.len().min(written.len());
    let mut after = synced[..common].to_vec();
    for from in (0..common).step_by(SECTOR) {
        let to = (from + SECTOR).min(common);
        if synced[from..to] == written[from..to] {
            continue;
        }
        let new_upto = match choices.below(8) {
            0 => from + choices.below((to - from) as u64) as usize,
            1..=3 => from,
            _ => to,
        };
        torn |= new_upto > from && new_upto < to;
        after[from..new_upto].copy_from_slice(&written[from..new_upto]);
    }
    if written.len() <= synced.len() {
        // Cut off since: or not yet.
        if choices.one_in(2) {
            after.extend_from_slice(&synced[common..]);
        }
        return (after, torn);
    }
    let tail = &written[common..];
    match choices.below(3) {
        // The file system writes pages as it likes, and knows the new length already.
        0 => {
            for page in tail.chunks(PAGE) {
                match choices.below(2) {
                    0 => after.extend_from_slice(page),
                    _ => {
                        torn = true;
                        after.resize(after.len() + page.len(), 0);
                    }
                }
            }
        }
        // A beginning, and garbage to the end of the sector in which it broke off, or beyond.
        garbage => {
            let keep = choices.below(tail.len() as u64 + 1) as usize;
            after.extend_from_slice(&tail[..keep]);
            let left = tail.len() - keep;
            let spoilt = match garbage {
                1 => left.min(SECTOR - after.len() % SECTOR),
                _ => choices.below(left as u64 + 1) as usize,
            };
            torn |= spoilt > 0;
            let from = after.len();
            after.resize(from + spoilt, 0);
            choices.fill(&mut after[from..]);
        }
    }
    (after, torn)
}

#[cfg(test)]
mod tests;
