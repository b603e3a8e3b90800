//! What of a watched folder is durable, as far as the process has asked for it.
//!
//! Of each file: the length at its last sync, and for every byte below that length which was overwritten or cut off since, what stood
//! there. Bytes above that length need no note: they are there or not. Of each directory: what has been made, removed and renamed since
//! its last sync, in order; a removed file is kept under another name until then, so that it can come back.
//!
//! A file whose sync failed stays as it was for good: the kernel drops what it could not write and calls the next sync a success.
//!
//! Invariant: what is called durable here was covered by a sync that began after the write had returned and has itself returned.
//! Called by [`crate::registry`], one change at a time, and rebuilt from its [`crate::journal`] after a process's end.

use std::collections::BTreeMap;

#[derive(Default, Debug)]
pub struct Model {
    /// By inode. A file that is not in it was whole and durable when the folder was first watched, and not written since.
    pub files: BTreeMap<u64, FileState>,
    /// Changes of directories not yet durable, by path below the root, in the order of their tickets.
    pub directories: BTreeMap<Vec<u8>, Vec<Change>>,
    /// Of the newest change of any kind. Never reused.
    pub ticket: u64,
}

#[derive(Default, Debug, PartialEq, Eq)]
pub struct FileState {
    pub durable: u64,
    /// What was overwritten or cut off below `durable` since the last sync; oldest first.
    pub undo: Vec<Undo>,
    /// A sync of it has failed.
    pub frozen: bool,
    /// Newest ticket when the last sync began: notes up to it go when that sync returns, so what is overwritten meanwhile is noted anew.
    pub began: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Undo {
    pub ticket: u64,
    pub at: u64,
    pub bytes: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Change {
    pub ticket: u64,
    pub what: Entry,
}

/// A change of a directory's entries. Names have no `/`; `kept` is the name below the folder of graves.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Entry {
    Made { name: Vec<u8>, inode: u64 },
    MadeDirectory { name: Vec<u8> },
    Gone { name: Vec<u8>, kept: Option<u64> },
    GoneDirectory { name: Vec<u8> },
    Moved { from: Vec<u8>, to: Vec<u8>, inode: u64, replaced: Option<u64> },
}

impl Entry {
    pub fn kept(&self) -> Option<u64> {
        match self {
            Self::Gone { kept, .. } => *kept,
            Self::Moved { replaced, .. } => *replaced,
            Self::Made { .. } | Self::MadeDirectory { .. } | Self::GoneDirectory { .. } => None,
        }
    }
}

/// One line of the journal.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The file is open for writing and so much of it is durable; of a new one, nothing.
    Known {
        inode: u64,
        durable: u64,
    },
    Undo {
        inode: u64,
        undo: Undo,
    },
    /// What had been noted up to `upto` is durable, and the length with it.
    Synced {
        inode: u64,
        durable: u64,
        upto: u64,
    },
    Frozen {
        inode: u64,
    },
    Entry {
        directory: Vec<u8>,
        change: Change,
    },
    DirectorySynced {
        directory: Vec<u8>,
        upto: u64,
    },
}

impl Model {
    pub fn next_ticket(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    /// Takes the event in. Gives the graves that are not needed any more.
    pub fn apply(&mut self, event: Event) -> Vec<u64> {
        match event {
            Event::Known { inode, durable } => {
                self.files.insert(inode, FileState { durable, ..FileState::default() });
            }
            Event::Undo { inode, undo } => {
                self.ticket = self.ticket.max(undo.ticket);
                self.files.entry(inode).or_default().undo.push(undo);
            }
            Event::Synced { inode, durable, upto } => {
                let file = self.files.entry(inode).or_default();
                if !file.frozen {
                    file.durable = durable;
                    file.undo.retain(|undo| undo.ticket > upto);
                }
            }
            Event::Frozen { inode } => self.files.entry(inode).or_default().frozen = true,
            Event::Entry { directory, change } => {
                self.ticket = self.ticket.max(change.ticket);
                self.directories.entry(directory).or_default().push(change);
            }
            Event::DirectorySynced { directory, upto } => {
                let Some(changes) = self.directories.get_mut(&directory) else { return Vec::new() };
                let (durable, open) = std::mem::take(changes).into_iter().partition(|change| change.ticket <= upto);
                *changes = open;
                let durable: Vec<Change> = durable;
                return durable.iter().filter_map(|change| change.what.kept()).collect();
            }
        }
        Vec::new()
    }

    /// A sync of the file begins. Gives the ticket up to which it covers.
    pub fn sync_begins(&mut self, inode: u64) -> u64 {
        let began = self.ticket;
        self.files.entry(inode).or_default().began = began;
        began
    }

    /// Parts of `from..to` below the durable length whose bytes are not noted.
    pub fn uncovered(&self, inode: u64, from: u64, to: u64) -> Vec<(u64, u64)> {
        let Some(file) = self.files.get(&inode) else { return Vec::new() };
        let since = if file.frozen { 0 } else { file.began };
        let mut open = vec![(from, to.min(file.durable))];
        for undo in file.undo.iter().filter(|undo| undo.ticket > since) {
            let (start, end) = (undo.at, undo.at + undo.bytes.len() as u64);
            open = open
                .into_iter()
                .flat_map(|(from, to)| [(from, to.min(start)), (from.max(end), to)])
                .filter(|(from, to)| from < to)
                .collect();
        }
        open.retain(|(from, to)| from < to);
        open
    }
}
