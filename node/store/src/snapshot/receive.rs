//! Writing a snapshot that comes in chunks into sorted files beside the live state, in the folder `staging`.
//!
//! Nothing here touches what is live, and the files go away with the value that names them: a transfer that breaks off leaves nothing,
//! and one cut off by a crash is removed when the store is next opened.
//!
//! Never: accepts a stream that is damaged, out of order, of another group, or without its end. Called by `replica`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use prost::Message;
use rocksdb::{Options, SstFileWriter};
use stanchion_engine::GroupId;
use stanchion_proto::row::{SnapshotEnd, SnapshotHead};

use super::{END, FAMILIES, FORMAT, HEAD, take_field, unseal};
use crate::db::sst_options;
use crate::error::StoreError;
use crate::state::Applied;
use crate::state::keys::Ownership;
use crate::state::shared::{Standing, StateShared};

const STAGING: &str = "staging";
/// A file is closed at this size.
const FILE_BYTES: u64 = 64 * 1024 * 1024;

static SST_OPTIONS: LazyLock<Options> = LazyLock::new(sst_options);

/// Takes the chunks of one snapshot, in order. Writes files: not for an async worker.
pub struct SnapshotReceiver {
    store: Arc<StateShared>,
    group: GroupId,
    staging: Staging,
    head: Option<Standing>,
    generation: u32,
    /// Files by column family, oldest first; the last of each may be open.
    files: BTreeMap<&'static str, Vec<PathBuf>>,
    open: Option<OpenFile>,
    counted: SnapshotEnd,
    ended: bool,
}

struct OpenFile {
    family: &'static str,
    writer: SstFileWriter<'static>,
    bytes: u64,
}

/// A whole snapshot in files, ready for `GroupState::install`.
pub struct ReceivedSnapshot {
    pub(super) group: GroupId,
    /// Under the generation that the files are written for.
    pub(super) standing: Standing,
    pub(super) files: BTreeMap<&'static str, Vec<PathBuf>>,
    _staging: Staging,
}

impl ReceivedSnapshot {
    /// How far the state in it stands.
    pub fn applied(&self) -> &Applied {
        &self.standing.applied
    }
}

impl std::fmt::Debug for ReceivedSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceivedSnapshot")
            .field("group", &self.group)
            .field("applied", self.applied())
            .finish_non_exhaustive()
    }
}

impl SnapshotReceiver {
    pub(crate) fn new(store: Arc<StateShared>, group: GroupId, data_dir: &Path) -> Result<Self, StoreError> {
        let generation = store.fresh_generation()?;
        let staging = Staging::create(data_dir, generation)?;
        Ok(Self {
            store,
            group,
            staging,
            head: None,
            generation,
            files: BTreeMap::new(),
            open: None,
            counted: SnapshotEnd::default(),
            ended: false,
        })
    }

    /// Takes the next chunk. An error is the end of this transfer, and says nothing about the live state.
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        let (kind, body) = unseal(chunk).map_err(|reason| self.refuse(reason))?;
        if self.ended {
            return Err(self.refuse("it goes on behind its end".into()));
        }
        match (kind, &self.head) {
            (HEAD, None) => self.head(body),
            (END, Some(_)) => self.end(body),
            (kind, Some(_)) => match FAMILIES.iter().find(|(tag, _)| *tag == kind) {
                Some((_, family)) => self.rows(family, body),
                None => Err(self.refuse(format!("a chunk has the unknown kind {kind}"))),
            },
            (_, None) => Err(self.refuse("it does not begin with its head".into())),
        }
    }

    /// The whole snapshot, once its last chunk has come.
    pub fn finish(self) -> Result<ReceivedSnapshot, StoreError> {
        match (self.ended, self.head) {
            (true, Some(head)) => Ok(ReceivedSnapshot {
                group: self.group,
                standing: Standing { slots: head.slots.under(self.generation), ..head },
                files: self.files,
                _staging: self.staging,
            }),
            _ => Err(StoreError::Misuse(format!("the snapshot of group {} breaks off before its end", self.group))),
        }
    }

    fn head(&mut self, body: &[u8]) -> Result<(), StoreError> {
        let head = SnapshotHead::decode(body).map_err(|e| self.refuse(e.to_string()))?;
        if head.format != FORMAT {
            return Err(self.refuse(format!("it has format {}, and this release reads format {FORMAT}", head.format)));
        }
        if head.group != self.group.0 {
            return Err(self.refuse(format!("it is of group {}", head.group)));
        }
        let standing = head.row.and_then(Standing::of);
        self.head = Some(standing.ok_or_else(|| self.refuse("its head has no valid row".into()))?);
        Ok(())
    }

    fn rows(&mut self, family: &'static str, mut body: &[u8]) -> Result<(), StoreError> {
        let slots = self.head.as_ref().map_or_else(Ownership::default, |head| head.slots.clone());
        while !body.is_empty() {
            let (key, value) = match (take_field(&mut body), take_field(&mut body)) {
                (Some(key), Some(value)) => (key, value),
                _ => return Err(self.refuse("a row ends within a field".into())),
            };
            let Some((slot, rest)) = key.split_first_chunk::<2>().filter(|(_, rest)| !rest.is_empty()) else {
                return Err(self.refuse(format!("a key has {} bytes", key.len())));
            };
            let slot = stanchion_engine::Slot(u16::from_be_bytes(*slot));
            if slots.generation(slot).is_none() {
                return Err(self.refuse(format!("it has a row of slot {}, which is not the group's", slot.0)));
            }
            let mut stored = Vec::with_capacity(key.len() + 4);
            stored.extend_from_slice(&slot.0.to_be_bytes());
            stored.extend_from_slice(&self.generation.to_be_bytes());
            stored.extend_from_slice(rest);
            self.counted.rows += 1;
            self.counted.bytes += (stored.len() + value.len()) as u64;
            self.put(family, &stored, value)?;
        }
        Ok(())
    }

    fn put(&mut self, family: &'static str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        if self.open.as_ref().is_none_or(|open| open.family != family || open.bytes >= FILE_BYTES) {
            self.close_file()?;
            let files = self.files.entry(family).or_default();
            let path = self.staging.path.join(format!("{family}-{}.sst", files.len()));
            let writer = SstFileWriter::create(&SST_OPTIONS);
            writer.open(&path).map_err(|e| self.store.db.failed(e))?;
            files.push(path);
            self.open = Some(OpenFile { family, writer, bytes: 0 });
        }
        if let Some(open) = &mut self.open {
            // RocksDB refuses a key that is not above the last one: rows out of order do not get through.
            open.writer.put(key, value).map_err(|e| StoreError::rocks("staged snapshot", e))?;
            open.bytes += (key.len() + value.len()) as u64;
        }
        Ok(())
    }

    fn end(&mut self, body: &[u8]) -> Result<(), StoreError> {
        let end = SnapshotEnd::decode(body).map_err(|e| self.refuse(e.to_string()))?;
        if end != self.counted {
            let counted = self.counted;
            return Err(self.refuse(format!("{} rows were sent and {} have come", end.rows, counted.rows)));
        }
        self.close_file()?;
        self.ended = true;
        Ok(())
    }

    fn close_file(&mut self) -> Result<(), StoreError> {
        match self.open.take() {
            Some(mut open) => open.writer.finish().map_err(|e| StoreError::rocks("staged snapshot", e)),
            None => Ok(()),
        }
    }

    fn refuse(&self, reason: String) -> StoreError {
        StoreError::Misuse(format!("the snapshot of group {} is refused: {reason}", self.group))
    }
}

/// The files of one transfer; removed with it.
struct Staging {
    path: PathBuf,
}

impl Staging {
    fn create(data_dir: &Path, generation: u32) -> Result<Self, StoreError> {
        let path = data_dir.join(STAGING).join(generation.to_string());
        fs::create_dir_all(&path).map_err(|e| StoreError::io(path.display(), e))?;
        Ok(Self { path })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.path.display(), %error, "could not remove a staged snapshot");
        }
    }
}

/// Removes what transfers cut off by a crash have left.
pub(crate) fn clear_staging(data_dir: &Path) -> Result<(), StoreError> {
    let path = data_dir.join(STAGING);
    match fs::remove_dir_all(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path.display(), e)),
        _ => Ok(()),
    }
}
