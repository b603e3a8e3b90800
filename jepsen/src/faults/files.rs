//! Files of a dead node, damaged: a flipped bit, or an end cut off, in each kind of file that a data folder has.
//!
//! A damage can be taken back exactly, so that one node serves for many. Never damages a node that runs.
//! Called by the fault `flip-bit` and by the command `bit-flips`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::BoxFuture;
use rand::Rng as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::Fault;
use super::kill::Whom;
use crate::cluster::{READY_WITHIN, get};
use crate::scene::Scene;

const PAUSE: Duration = Duration::from_millis(20);
/// Of a node's output that is searched for its last words.
const OUTPUT_BYTES: u64 = 4_000;

/// What a file is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    LogWal,
    LogTable,
    LogManifest,
    LogCurrent,
    LogOptions,
    StateTable,
    StateBlob,
    StateManifest,
    StateCurrent,
    StateOptions,
    SyncedMark,
    Identity,
    /// Files of a snapshot that was being received when the node died.
    Staged,
}

impl Kind {
    pub const ALL: [Self; 13] = [
        Self::LogWal,
        Self::LogTable,
        Self::LogManifest,
        Self::LogCurrent,
        Self::LogOptions,
        Self::StateTable,
        Self::StateBlob,
        Self::StateManifest,
        Self::StateCurrent,
        Self::StateOptions,
        Self::SyncedMark,
        Self::Identity,
        Self::Staged,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::LogWal => "log: write-ahead log",
            Self::LogTable => "log: table",
            Self::LogManifest => "log: MANIFEST",
            Self::LogCurrent => "log: CURRENT",
            Self::LogOptions => "log: OPTIONS",
            Self::StateTable => "state: table",
            Self::StateBlob => "state: blob file",
            Self::StateManifest => "state: MANIFEST",
            Self::StateCurrent => "state: CURRENT",
            Self::StateOptions => "state: OPTIONS",
            Self::SyncedMark => "log.synced",
            Self::Identity => "identity",
            Self::Staged => "staged snapshot",
        }
    }

    /// Files of this kind in a node's data folder that have something in them, oldest name first.
    pub fn files(self, data: &Path) -> Vec<PathBuf> {
        let (folder, fits): (&str, fn(&str) -> bool) = match self {
            Self::LogWal => ("log", |name| name.ends_with(".log")),
            Self::LogTable => ("log", |name| name.ends_with(".sst")),
            Self::LogManifest => ("log", |name| name.starts_with("MANIFEST-")),
            Self::LogCurrent => ("log", |name| name == "CURRENT"),
            Self::LogOptions => ("log", |name| name.starts_with("OPTIONS-")),
            Self::StateTable => ("state", |name| name.ends_with(".sst")),
            Self::StateBlob => ("state", |name| name.ends_with(".blob")),
            Self::StateManifest => ("state", |name| name.starts_with("MANIFEST-")),
            Self::StateCurrent => ("state", |name| name == "CURRENT"),
            Self::StateOptions => ("state", |name| name.starts_with("OPTIONS-")),
            Self::SyncedMark => ("", |name| name == "log.synced"),
            Self::Identity => ("", |name| name == "identity"),
            Self::Staged => return under(&data.join("staging")),
        };
        let Ok(entries) = fs::read_dir(data.join(folder)) else { return Vec::new() };
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(fits))
            .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0))
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found
    }
}

/// All files below a folder.
fn under(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .flat_map(|entry| if entry.path().is_dir() { under(&entry.path()) } else { vec![entry.path()] })
        .collect();
    found.sort();
    found
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Harm {
    Flip,
    /// The end is cut off.
    Truncate,
}

/// Where in its file the harm is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Beginning,
    Middle,
    /// Behind which is no byte that is not zero: files have room behind their end.
    End,
    Anywhere,
}

/// One file, before and after.
pub struct Damage {
    pub path: PathBuf,
    before: Vec<u8>,
    after: Vec<u8>,
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)
    }
}

/// What became of a damaged file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undone {
    /// As it was before.
    TakenBack,
    /// The node has written or removed it since: there is no damage any more.
    Gone,
}

impl Damage {
    /// Does the harm.
    pub fn inflict(path: &Path, data: &Path, harm: Harm, place: Place, chance: &mut ChaCha8Rng) -> Result<Self> {
        let before = fs::read(path).with_context(|| path.display().to_string())?;
        let used = before.iter().rposition(|byte| *byte != 0).map_or(before.len(), |last| last + 1);
        if used == 0 {
            bail!("{} is empty", path.display());
        }
        let at = match place {
            Place::Beginning => chance.random_range(0..used.min(16)),
            Place::Middle => used / 3 + chance.random_range(0..=used / 3).min(used - 1 - used / 3),
            Place::End => used - 1 - chance.random_range(0..used.min(16)),
            Place::Anywhere => chance.random_range(0..used),
        };
        let mut after = before.clone();
        let what = match harm {
            Harm::Flip => {
                let bit = chance.random_range(0..8);
                after[at] ^= 1 << bit;
                format!("bit {bit} of byte {at} of {used}")
            }
            Harm::Truncate => {
                after.truncate(at);
                format!("cut to {at} of {used} bytes")
            }
        };
        fs::write(path, &after)?;
        let name = path.strip_prefix(data).unwrap_or(path).display();
        Ok(Self { path: path.to_owned(), before, after, what: format!("{name}, {what}") })
    }

    /// Takes it back, if it is still there.
    pub fn undo(&self) -> Result<Undone> {
        match fs::read(&self.path) {
            Ok(now) if now == self.after => {
                fs::write(&self.path, &self.before)?;
                Ok(Undone::TakenBack)
            }
            // A file that is written on, as a log of RocksDB's that it goes on with: only what was flipped is set right.
            Ok(mut now) if now.len() >= self.before.len() && self.after.len() == self.before.len() => {
                let at = self.before.iter().zip(&self.after).position(|(before, after)| before != after);
                match at {
                    Some(at) if now[at] == self.after[at] => {
                        now[at] = self.before[at];
                        fs::write(&self.path, now)?;
                        Ok(Undone::TakenBack)
                    }
                    _ => Ok(Undone::Gone),
                }
            }
            Ok(_) => Ok(Undone::Gone),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Undone::Gone),
            Err(e) => Err(e).with_context(|| self.path.display().to_string()),
        }
    }
}

/// Copies a dead node's folder.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// How a start with a damaged file went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Start {
    /// It ended before it served, and said so.
    Refused(String),
    Serves,
}

/// Starts the node and waits until it serves or has ended.
pub async fn start(scene: &Scene, number: u64) -> Result<Start> {
    let node = scene.cluster.node(number);
    let logged = node.process.log.metadata().map_or(0, |metadata| metadata.len());
    node.process.start()?;
    node.process.may_end();
    let begin = tokio::time::Instant::now();
    loop {
        if !node.process.is_running() {
            return Ok(Start::Refused(last_words(&node.process.log, logged)));
        }
        if matches!(get(node.addresses.http, "/ready").await, Ok((200, _))) {
            return Ok(Start::Serves);
        }
        if begin.elapsed() > READY_WITHIN {
            bail!(super::nemesis::NotBack(format!(
                "n{number} neither serves nor ends {READY_WITHIN:?} after its start with a damaged file"
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a node said last, from a length of its log on.
pub fn last_words(log: &Path, from: u64) -> String {
    let all = fs::read(log).unwrap_or_default();
    let new = &all[(from as usize).min(all.len())..];
    let new = String::from_utf8_lossy(&new[new.len().saturating_sub(OUTPUT_BYTES as usize)..]).into_owned();
    let telling = new
        .lines()
        .rev()
        .find(|line| line.contains("orrupt") || line.contains("rror") || line.contains("stops at once"));
    telling.or_else(|| new.lines().next_back()).unwrap_or("(it said nothing)").trim().to_owned()
}

/// A bit of one node's files is flipped while it is down. It refuses to start, or stops once it reads the bit, or never needs it.
#[derive(Default)]
pub struct FlipBit {
    done: Option<(u64, Damage, PathBuf, bool)>,
}

impl Fault for FlipBit {
    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (numbers, whom) = Whom::One.choose(scene, chance).await;
            let node = scene.cluster.node(numbers[0]);
            scene.cluster.kill(&numbers);
            let mut kinds = Kind::ALL;
            kinds.shuffle(chance);
            let found =
                kinds.iter().find_map(|kind| kind.files(&node.data).choose(chance).map(|path| (*kind, path.clone())));
            let (kind, path) = found.context("a data folder without files")?;
            let good = scene.cluster.folder.join(format!("{}.good", node.name()));
            let _ = fs::remove_dir_all(&good);
            copy(&node.data, &good)?;
            let damage = Damage::inflict(&path, &node.data, Harm::Flip, Place::Anywhere, chance)?;
            let start = start(scene, node.number).await?;
            let told =
                json!({ "node": whom, "kind": kind.name(), "what": damage.to_string(), "then": format!("{start:?}") });
            self.done = Some((node.number, damage, good, start != Start::Serves));
            Ok(told)
        })
    }

    fn heal<'a>(&'a mut self, scene: &'a Scene, _: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let Some((number, damage, good, refused)) = self.done.take() else { return Ok(json!({})) };
            let node = scene.cluster.node(number);
            let stopped = !node.process.is_running();
            scene.cluster.kill(&[number]);
            let undone = repair(&node.data, &damage, &good, refused)?;
            Ok(json!({ "refused": refused, "stopped": stopped, "damage": undone }))
        })
    }
}

/// Sets a dead node right. One that never served has its folder from before the damage back: it promised nothing since. One that did
/// serve keeps what it has written, and only the damage is taken back: an older folder would have forgotten votes.
pub fn repair(data: &Path, damage: &Damage, good: &Path, refused: bool) -> Result<String> {
    let told = if refused {
        fs::remove_dir_all(data)?;
        fs::rename(good, data)?;
        "the folder of before is back".to_owned()
    } else {
        fs::remove_dir_all(good)?;
        format!("{:?}", damage.undo()?)
    };
    Ok(told)
}
