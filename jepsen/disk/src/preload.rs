//! The two ends of a watched process: its own, set up from the environment before `main`, and that of the test that starts and kills it.
//!
//! They share a folder outside the watched one, on the same file system: `control` (one page, mapped by both), `journal` (what the model
//! is, appended before a call returns) and `graves` (removed files that a power loss may bring back).
//!
//! Called by the loader in the process, and by `jepsen` in the test.

#![allow(unsafe_code)] // A shared mapping, and a constructor.

use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::control::Control;
use crate::journal;
use crate::loss::{self, Lost, PowerLoss};
use crate::model::Model;
use crate::raw;
use crate::registry::{Own, Root, Told, register};

/// The folder that the process is watched in.
pub const ROOT: &str = "STANCHION_FAULTDISK_ROOT";
/// The folder that [`StateDir`] made.
pub const STATE: &str = "STANCHION_FAULTDISK_STATE";

const PAGE: usize = 4096;
const _: () = assert!(size_of::<Control>() <= PAGE);

/// Everything about one watched folder, from outside of the process that has it. Outlives that process and its successors.
pub struct StateDir {
    path: PathBuf,
    root: PathBuf,
    control: Page,
}

/// What a power loss would find, for a test that looks closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub files: usize,
    /// Notes of overwritten bytes that are not durable.
    pub overwritten: usize,
    /// Changes of directories that are not durable.
    pub entries: usize,
}

impl StateDir {
    /// For a process that will have its data in `root`. What is in there already counts as durable.
    pub fn create(path: &Path, root: &Path) -> io::Result<Self> {
        fs::create_dir_all(path.join("graves"))?;
        fs::create_dir_all(root)?;
        fs::write(path.join("control"), vec![0; PAGE])?;
        fs::write(path.join("journal"), [])?;
        let control = Page::map(&path.join("control"))?;
        control.get().reset();
        Ok(Self { path: path.canonicalize()?, root: root.canonicalize()?, control })
    }

    /// What the process must find in its environment, `library` being `libstanchion_faultdisk.so`.
    pub fn environment(&self, library: &Path) -> Vec<(OsString, OsString)> {
        vec![
            ("LD_PRELOAD".into(), library.into()),
            (ROOT.into(), self.root.clone().into()),
            (STATE.into(), self.path.clone().into()),
        ]
    }

    /// What the disk is told to do. May be changed while the process runs.
    pub fn control(&self) -> &Control {
        self.control.get()
    }

    pub fn standing(&self) -> io::Result<Standing> {
        let model = self.model()?;
        Ok(Standing {
            files: model.files.len(),
            overwritten: model.files.values().map(|file| file.undo.len()).sum(),
            entries: model.directories.values().map(Vec::len).sum(),
        })
    }

    /// Takes from the folder what a power loss takes. The process must have ended, and been waited for.
    pub fn power_loss(&self, how: PowerLoss, seed: u64) -> io::Result<Lost> {
        let _own = Own::enter();
        let graves = self.path.join("graves");
        let lost = loss::power_loss(&self.root, &graves, &self.model()?, how, seed)?;
        self.forget()?;
        Ok(lost)
    }

    /// What stands in the folder now counts as durable: after it was changed from outside, or made anew.
    pub fn forget(&self) -> io::Result<()> {
        fs::write(self.path.join("journal"), [])?;
        let graves = self.path.join("graves");
        fs::remove_dir_all(&graves)?;
        fs::create_dir_all(graves)
    }

    fn model(&self) -> io::Result<Model> {
        Ok(journal::replay(&fs::read(self.path.join("journal"))?))
    }
}

/// A mapped [`Control`].
struct Page(*mut Control);

// SAFETY: the page holds atomics only.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    fn map(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let file = raw::open(&path, libc::O_RDWR)?;
        let length = raw::fstat(file.0).map_or(0, |stat| stat.st_size);
        if length < PAGE as i64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("control page of {length} bytes, needs {PAGE}"),
            ));
        }
        // SAFETY: a mapping of its own, of a file that has so many bytes.
        let page = unsafe {
            libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.0, 0)
        };
        if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(page.cast())) }
    }

    fn get(&self) -> &Control {
        // SAFETY: mapped for as long as this lives, aligned to a page, and every bit pattern is a valid control.
        unsafe { &*self.0 }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by us, and nobody has a reference any more.
        unsafe { libc::munmap(self.0.cast(), PAGE) };
    }
}

/// Run by the loader, before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = {
    extern "C" fn start() {
        let (Some(root), Some(state)) = (std::env::var_os(ROOT), std::env::var_os(STATE)) else { return };
        if let Err(error) = begin(Path::new(&root), Path::new(&state)) {
            // A test that believes in a watched disk must not run on another.
            eprintln!("stanchion-faultdisk: {} cannot be watched: {error}", Path::new(&root).display());
            std::process::abort();
        }
    }
    start
};

fn begin(root: &Path, state: &Path) -> io::Result<()> {
    crate::interpose::link_in();
    let control: &'static Page = Box::leak(Box::new(Page::map(&state.join("control"))?));
    let journal_path = state.join("journal");
    let model = journal::replay(&fs::read(&journal_path)?);
    let journal_path = CString::new(journal_path.as_os_str().as_bytes())?;
    let journal = raw::open(&journal_path, libc::O_WRONLY | libc::O_APPEND)?;
    let root = Root::new(root, &state.join("graves"), Told::Shared(control.get()), Some(journal), model)?;
    register(Arc::new(root));
    Ok(())
}
