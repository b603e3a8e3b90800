//! Which folders are watched, which open descriptors are files of them, and what each call on one means for the model.
//!
//! A call on a descriptor that is not watched costs one load of a byte. Nothing is allocated and no lock is taken before a call is known
//! to be one on a watched file, so that what runs in a signal handler, or in the child of a fork, passes straight through.
//!
//! Never: uses the standard library's files for its own I/O (they would come back here). Called by [`crate::interpose`], and by the
//! tests that watch folders of their own process.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use libc::c_int;

use crate::control::{Control, Kind};
use crate::journal;
use crate::loss::{self, Lost, PowerLoss};
use crate::model::{Change, Entry, Event, Model, Undo};
use crate::raw::{self, Fd};

/// Descriptors from this number on are not watched. A node has some hundreds.
const DESCRIPTORS: usize = 1 << 16;

static ROOTS: RwLock<Vec<Arc<Root>>> = RwLock::new(Vec::new());
static WATCHED_ROOTS: AtomicUsize = AtomicUsize::new(0);
static WATCHED: [AtomicBool; DESCRIPTORS] = [const { AtomicBool::new(false) }; DESCRIPTORS];
static OPEN: RwLock<BTreeMap<c_int, Arc<OpenFile>>> = RwLock::new(BTreeMap::new());

thread_local! {
    /// This thread does the watcher's own work: its calls pass.
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// A folder of this process, watched until this is dropped.
pub struct Disk {
    root: Arc<Root>,
    control: Arc<Control>,
}

/// Watches `root` in this process. `graves`, beside it on the same file system, takes what is removed until the removal is durable.
pub fn watch(root: &Path, graves: &Path) -> io::Result<Disk> {
    crate::interpose::link_in();
    let control = Arc::new(Control::default());
    let root = Arc::new(Root::new(root, graves, Told::Own(control.clone()), None, Model::default())?);
    register(root.clone());
    Ok(Disk { root, control })
}

impl Disk {
    /// What the disk is told to do.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// From now on nothing changes on this disk, whoever still tries; waits for calls that are under way. What a crashed node's threads
    /// do while they wind down fails with `EIO`.
    pub fn cut(&self) {
        self.root.cut();
    }

    /// The power comes back to a process that had merely died: everything that it wrote is there. Descriptors from before stay dead.
    pub fn revive(&self) {
        let _own = Own::enter();
        self.root.generation.fetch_add(1, Ordering::SeqCst);
        self.control.cut.store(0, Ordering::SeqCst);
    }

    /// The power comes back to a machine that had lost it. Cuts first, if that has not been done.
    pub fn power_loss(&self, how: PowerLoss, seed: u64) -> io::Result<Lost> {
        self.cut();
        let _own = Own::enter();
        let mut model = self.root.model();
        let lost = loss::power_loss(&self.root.path, &self.root.graves, &model, how, seed)?;
        *model = Model::default();
        drop(model);
        self.revive();
        Ok(lost)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut roots = ROOTS.write().unwrap_or_else(PoisonError::into_inner);
        roots.retain(|root| !Arc::ptr_eq(root, &self.root));
        WATCHED_ROOTS.store(roots.len(), Ordering::Release);
        drop(roots);
        self.root.generation.fetch_add(1, Ordering::SeqCst);
        let _own = Own::enter();
        let _ = std::fs::remove_dir_all(&self.root.graves);
    }
}

/// While it lives, this thread's calls are the watcher's own.
pub(crate) struct Own(bool);

impl Own {
    pub fn enter() -> Self {
        Self(OWN.replace(true))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        OWN.set(self.0);
    }
}

pub(crate) enum Told {
    Own(Arc<Control>),
    /// A page shared with the test.
    Shared(&'static Control),
}

pub(crate) struct Root {
    /// Canonical.
    path: PathBuf,
    /// The same folder as it may be named by the process: as given, and canonical.
    names: Vec<Vec<u8>>,
    graves: PathBuf,
    told: Told,
    model: Mutex<Model>,
    journal: Option<Fd>,
    /// Held for reading by every call that changes something, for writing to cut.
    gate: RwLock<()>,
    generation: AtomicU64,
}

/// A watched file, open for writing.
pub(crate) struct OpenFile {
    root: Arc<Root>,
    inode: u64,
    kind: Kind,
    generation: u64,
    append: bool,
    /// `O_SYNC` or `O_DSYNC`.
    sync: bool,
}

/// A path below a watched root.
pub(crate) struct Place {
    root: Arc<Root>,
    /// Whole.
    pub path: CString,
    /// Below the root: the directory (empty for the root itself) and the name in it.
    directory: Vec<u8>,
    name: Vec<u8>,
}

pub(crate) fn register(root: Arc<Root>) {
    let mut roots = ROOTS.write().unwrap_or_else(PoisonError::into_inner);
    roots.push(root);
    WATCHED_ROOTS.store(roots.len(), Ordering::Release);
}

/// Whether there is anything to look for in a path.
fn idle() -> bool {
    WATCHED_ROOTS.load(Ordering::Acquire) == 0 || OWN.get()
}

/// The watched file that is open as `fd`.
pub(crate) fn open_file(fd: c_int) -> Option<Arc<OpenFile>> {
    let watched = WATCHED.get(usize::try_from(fd).ok()?)?;
    if !watched.load(Ordering::Acquire) || OWN.get() {
        return None;
    }
    OPEN.read().unwrap_or_else(PoisonError::into_inner).get(&fd).cloned()
}

/// Before `fd` is closed.
pub(crate) fn closing(fd: c_int) {
    let Some(watched) = usize::try_from(fd).ok().and_then(|fd| WATCHED.get(fd)) else { return };
    if watched.load(Ordering::Acquire) && watched.swap(false, Ordering::AcqRel) {
        OPEN.write().unwrap_or_else(PoisonError::into_inner).remove(&fd);
    }
}

/// The place below a watched root that the path names, if it does.
pub(crate) fn place(directory: c_int, path: &CStr) -> Option<Place> {
    if idle() {
        return None;
    }
    let path = path.to_bytes();
    let whole = match path.first() {
        Some(b'/') => normal(path),
        Some(_) => {
            let mut base =
                if directory == libc::AT_FDCWD { raw::working_directory()? } else { raw::path_of(directory)? };
            base.push(b'/');
            base.extend_from_slice(path);
            normal(&base)
        }
        None => return None,
    };
    below_a_root(&whole)
}

fn below_a_root(whole: &[u8]) -> Option<Place> {
    let roots = ROOTS.read().unwrap_or_else(PoisonError::into_inner);
    roots.iter().find_map(|root| {
        let below = root.names.iter().find_map(|name| whole.strip_prefix(name.as_slice()))?;
        // The root itself has no name in a directory of ours.
        let below = below.strip_prefix(b"/")?;
        let (directory, name) = match below.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&below[..at], &below[at + 1..]),
            None => (&[][..], below),
        };
        let path = [root.path.as_os_str().as_bytes(), b"/", below].concat();
        let path = CString::new(path).ok()?;
        Some(Place { root: root.clone(), path, directory: directory.to_vec(), name: name.to_vec() })
    })
}

/// Without `.`, `..` and repeated slashes; links are not followed.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut whole = Vec::with_capacity(path.len());
    for part in parts {
        whole.push(b'/');
        whole.extend_from_slice(part);
    }
    whole
}

impl Root {
    pub fn new(path: &Path, graves: &Path, told: Told, journal: Option<Fd>, model: Model) -> io::Result<Self> {
        let _own = Own::enter();
        std::fs::create_dir_all(path)?;
        std::fs::create_dir_all(graves)?;
        let given = std::path::absolute(path)?;
        let path = path.canonicalize()?;
        let names = vec![normal(path.as_os_str().as_bytes()), normal(given.as_os_str().as_bytes())];
        let graves = graves.canonicalize()?;
        let (gate, generation) = (RwLock::new(()), AtomicU64::new(0));
        Ok(Self { path, names, graves, told, model: Mutex::new(model), journal, gate, generation })
    }

    fn control(&self) -> &Control {
        match &self.told {
            Told::Own(control) => control,
            Told::Shared(control) => control,
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        let _closed = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.control().cut.store(1, Ordering::SeqCst);
    }

    /// Runs `change` unless the power is cut.
    fn unless_cut(&self, generation: u64, change: impl FnOnce() -> isize) -> isize {
        let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if self.control().is_cut() || self.generation.load(Ordering::SeqCst) != generation {
            return raw::fail(libc::EIO);
        }
        change()
    }

    /// As [`Self::unless_cut`], of a path.
    fn now_unless_cut(&self, change: impl FnOnce() -> isize) -> isize {
        self.unless_cut(self.generation.load(Ordering::SeqCst), change)
    }

    fn note(&self, model: &mut Model, event: Event) {
        if let Some(journal) = &self.journal
            && raw::write_all(journal.0, &journal::encode(&event)).is_err()
        {
            self.control().lost_track.fetch_add(1, Ordering::Relaxed);
        }
        for grave in model.apply(event) {
            if let Some(path) = self.grave(grave) {
                raw::unlink(&path);
            }
        }
    }

    fn grave(&self, number: u64) -> Option<CString> {
        CString::new([self.graves.as_os_str().as_bytes(), b"/", number.to_string().as_bytes()].concat()).ok()
    }

    /// Keeps the file under another name. None where there is none, or another file system.
    fn bury(&self, path: &CStr) -> Option<u64> {
        let ticket = self.model().next_ticket();
        let grave = self.grave(ticket)?;
        raw::link(path, &grave).then_some(ticket)
    }

    fn entry(&self, directory: &[u8], what: Entry) {
        let mut model = self.model();
        let ticket = model.next_ticket();
        self.note(&mut model, Event::Entry { directory: directory.to_vec(), change: Change { ticket, what } });
    }

    /// Notes what stands in `from..to` of the file, as far as it is durable.
    fn keep_old(&self, fd: c_int, inode: u64, from: u64, to: u64) {
        let mut model = self.model();
        for (from, to) in model.uncovered(inode, from, to) {
            match raw::read_range(fd, from, to - from) {
                Ok(bytes) => {
                    let ticket = model.next_ticket();
                    self.note(&mut model, Event::Undo { inode, undo: Undo { ticket, at: from, bytes } });
                }
                Err(_) => drop(self.control().lost_track.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }
}

impl Place {
    /// `open` with a mode that can write, create or truncate.
    pub fn open(&self, flags: c_int, open: impl FnOnce() -> c_int) -> c_int {
        let errno = raw::errno();
        let opened = self.root.now_unless_cut(|| {
            let before = raw::lstat(&self.path).filter(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
            if let Some(stat) = before {
                self.known(stat.st_ino, stat.st_size as u64);
                if flags & libc::O_TRUNC != 0
                    && let Ok(file) = raw::open(&self.path, libc::O_RDONLY)
                {
                    self.root.keep_old(file.0, stat.st_ino, 0, u64::MAX);
                }
            }
            raw::set_errno(errno);
            let fd = open();
            if fd >= 0 {
                self.opened(fd, flags, before.is_none());
            }
            fd as isize
        });
        opened as c_int
    }

    fn known(&self, inode: u64, durable: u64) {
        let mut model = self.root.model();
        if !model.files.contains_key(&inode) {
            self.root.note(&mut model, Event::Known { inode, durable });
        }
    }

    fn opened(&self, fd: c_int, flags: c_int, new: bool) {
        let Some(stat) = raw::fstat(fd).filter(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG) else { return };
        let inode = stat.st_ino;
        if new {
            let mut model = self.root.model();
            self.root.note(&mut model, Event::Known { inode, durable: 0 });
            drop(model);
            self.root.entry(&self.directory, Entry::Made { name: self.name.clone(), inode });
        }
        let watched = usize::try_from(fd).ok().and_then(|fd| WATCHED.get(fd));
        let Some(watched) = watched else {
            self.root.control().lost_track.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let file = OpenFile {
            root: self.root.clone(),
            inode,
            kind: Kind::of(&self.name),
            generation: self.root.generation.load(Ordering::SeqCst),
            append: flags & libc::O_APPEND != 0,
            sync: flags & (libc::O_SYNC | libc::O_DSYNC) != 0,
        };
        OPEN.write().unwrap_or_else(PoisonError::into_inner).insert(fd, Arc::new(file));
        watched.store(true, Ordering::Release);
    }

    pub fn make_directory(&self, make: impl FnOnce() -> isize) -> isize {
        self.root.now_unless_cut(|| {
            let made = make();
            if made == 0 {
                self.root.entry(&self.directory, Entry::MadeDirectory { name: self.name.clone() });
            }
            made
        })
    }

    pub fn remove_directory(&self, remove: impl FnOnce() -> isize) -> isize {
        self.root.now_unless_cut(|| {
            let removed = remove();
            if removed == 0 {
                self.root.entry(&self.directory, Entry::GoneDirectory { name: self.name.clone() });
            }
            removed
        })
    }

    pub fn unlink(&self, unlink: impl FnOnce() -> isize) -> isize {
        self.root.now_unless_cut(|| {
            let kept = self.root.bury(&self.path);
            let removed = unlink();
            match removed {
                0 => self.root.entry(&self.directory, Entry::Gone { name: self.name.clone(), kept }),
                _ => self.forget(kept),
            }
            removed
        })
    }

    /// A further name of a file, from wherever.
    pub fn link(&self, link: impl FnOnce() -> isize) -> isize {
        self.root.now_unless_cut(|| {
            let linked = link();
            if linked == 0
                && let Some(stat) = raw::lstat(&self.path)
            {
                self.known(stat.st_ino, stat.st_size as u64);
                self.root.entry(&self.directory, Entry::Made { name: self.name.clone(), inode: stat.st_ino });
            }
            linked
        })
    }

    fn forget(&self, kept: Option<u64>) {
        let errno = raw::errno();
        if let Some(grave) = kept.and_then(|kept| self.root.grave(kept)) {
            raw::unlink(&grave);
        }
        raw::set_errno(errno);
    }
}

/// A rename of which at least one end is watched.
pub(crate) fn rename(from: Option<Place>, to: Option<Place>, rename: impl FnOnce() -> isize) -> isize {
    match (from, to) {
        (Some(from), Some(to)) => from.root.now_unless_cut(|| {
            let inode = raw::lstat(&from.path).map_or(0, |stat| stat.st_ino);
            let same = from.directory == to.directory && Arc::ptr_eq(&from.root, &to.root);
            let replaced = to.root.bury(&to.path);
            let kept = if same { None } else { from.root.bury(&from.path) };
            let renamed = rename();
            if renamed != 0 {
                to.forget(replaced);
                from.forget(kept);
            } else if same {
                let (name, to) = (from.name.clone(), to.name.clone());
                from.root.entry(&from.directory, Entry::Moved { from: name, to, inode, replaced });
            } else {
                if replaced.is_some() {
                    to.root.entry(&to.directory, Entry::Gone { name: to.name.clone(), kept: replaced });
                }
                to.root.entry(&to.directory, Entry::Made { name: to.name.clone(), inode });
                from.root.entry(&from.directory, Entry::Gone { name: from.name.clone(), kept });
            }
            renamed
        }),
        (Some(from), None) => from.unlink(rename),
        (None, Some(to)) => to.link(rename),
        (None, None) => rename(),
    }
}

impl OpenFile {
    /// A write of `bytes` at `at`, or at the file's position. `write` is told how many of them.
    pub fn write(&self, fd: c_int, bytes: u64, at: Option<i64>, write: impl FnOnce(usize) -> isize) -> isize {
        self.root.unless_cut(self.generation, || {
            let size = raw::fstat(fd).map_or(0, |stat| stat.st_size as u64);
            let at = match at {
                _ if self.append => size,
                Some(at) => at as u64,
                None => raw::position(fd) as u64,
            };
            let growth = (at + bytes).saturating_sub(size);
            let bytes = match self.root.control().before_write(self.kind, bytes, growth) {
                Ok(bytes) => bytes,
                Err(code) => return raw::fail(code),
            };
            if at < size {
                self.read_and_keep(fd, at, at + bytes);
            }
            let began = self.sync.then(|| self.root.model().sync_begins(self.inode));
            let written = write(bytes as usize);
            if let (Some(began), true) = (began, written > 0) {
                self.synced(began, size.max(at + written as u64));
            }
            written
        })
    }

    pub fn truncate(&self, fd: c_int, length: u64, truncate: impl FnOnce() -> isize) -> isize {
        self.root.unless_cut(self.generation, || {
            self.read_and_keep(fd, length, u64::MAX);
            truncate()
        })
    }

    /// Whether so many bytes behind `size` could still be taken.
    pub fn allocate(&self, fd: c_int, end: u64, allocate: impl FnOnce() -> isize) -> isize {
        self.root.unless_cut(self.generation, || {
            let size = raw::fstat(fd).map_or(0, |stat| stat.st_size as u64);
            let space = self.root.control().space.load(Ordering::Relaxed);
            if space >= 0 && end.saturating_sub(size) > space as u64 {
                return raw::fail(libc::ENOSPC);
            }
            allocate()
        })
    }

    pub fn sync(&self, fd: c_int, sync: impl FnOnce() -> isize) -> isize {
        self.root.unless_cut(self.generation, || {
            // Writes that end while the sync is under way are not taken for covered by it.
            let began = self.root.model().sync_begins(self.inode);
            let size = raw::fstat(fd).map_or(0, |stat| stat.st_size as u64);
            let told = self.root.control().before_sync(self.kind);
            let result = match told {
                Ok(true) => sync(),
                Ok(false) => return 0,
                Err(_) => -1,
            };
            if result == 0 {
                self.synced(began, size);
            } else {
                let errno = told.err().unwrap_or_else(raw::errno);
                let mut model = self.root.model();
                self.root.note(&mut model, Event::Frozen { inode: self.inode });
                drop(model);
                raw::set_errno(errno);
            }
            result
        })
    }

    fn synced(&self, upto: u64, durable: u64) {
        let mut model = self.root.model();
        self.root.note(&mut model, Event::Synced { inode: self.inode, durable, upto });
    }

    /// Notes what is about to be overwritten. The descriptor may be for writing only, so another one reads.
    fn read_and_keep(&self, fd: c_int, from: u64, to: u64) {
        if self.root.model().uncovered(self.inode, from, to).is_empty() {
            return;
        }
        let mut path = [0u8; 32];
        let path = match io::Write::write_fmt(&mut &mut path[..31], format_args!("/proc/self/fd/{fd}")) {
            Ok(()) => CStr::from_bytes_until_nul(&path).unwrap_or(c""),
            Err(_) => c"",
        };
        match raw::open(path, libc::O_RDONLY) {
            Ok(reader) => self.root.keep_old(reader.0, self.inode, from, to),
            Err(_) => drop(self.root.control().lost_track.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// A sync of a descriptor that is no file open for writing: of a directory, or of a file through a descriptor for reading.
pub(crate) fn sync_other(fd: c_int, sync: impl FnOnce() -> isize) -> isize {
    if idle() {
        return sync();
    }
    let Some(stat) = raw::fstat(fd) else { return sync() };
    let kind = stat.st_mode & libc::S_IFMT;
    if kind != libc::S_IFDIR && kind != libc::S_IFREG {
        return sync();
    }
    let Some(path) = raw::path_of(fd) else { return sync() };
    let Some((root, below)) = watched(&path) else { return sync() };
    if kind == libc::S_IFREG {
        let name = Kind::of(&below);
        let generation = root.generation.load(Ordering::SeqCst);
        let file = OpenFile { root, inode: stat.st_ino, kind: name, generation, append: false, sync: false };
        return file.sync(fd, sync);
    }
    root.now_unless_cut(|| {
        let upto = root.model().ticket;
        match root.control().before_sync(Kind::Directory) {
            Ok(true) => {}
            Ok(false) => return 0,
            Err(code) => return raw::fail(code),
        }
        let result = sync();
        if result == 0 {
            let mut model = root.model();
            root.note(&mut model, Event::DirectorySynced { directory: below.clone(), upto });
        }
        result
    })
}

/// The root that the path is or lies in, and the rest of the path.
fn watched(path: &[u8]) -> Option<(Arc<Root>, Vec<u8>)> {
    let roots = ROOTS.read().unwrap_or_else(PoisonError::into_inner);
    roots.iter().find_map(|root| {
        let below = path.strip_prefix(root.path.as_os_str().as_bytes())?;
        match below.split_first() {
            None => Some((root.clone(), Vec::new())),
            Some((b'/', rest)) => Some((root.clone(), rest.to_vec())),
            Some(_) => None,
        }
    })
}
