//! What can go wrong with a node's disk, told apart by who must act.
//!
//! Called by everything in this crate; `replica` turns it into a stopped group or a stopped node.

use std::io;
use std::path::PathBuf;

/// An operation of the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error(
        "data folder {dir}: another process has it open (its lock file is {dir}/LOCK); stop that process or choose another folder"
    )]
    Locked { dir: PathBuf },
    #[error(
        "data folder {dir} belongs to cluster `{found}`, but this node is configured for cluster `{wanted}`; \
         choose another folder or correct the configuration"
    )]
    OtherCluster { dir: PathBuf, found: String, wanted: String },
    #[error(
        "data folder {dir} belongs to node {found}, but this node is configured as node {wanted}; \
         choose another folder or correct the configuration"
    )]
    OtherNode { dir: PathBuf, found: u64, wanted: u64 },
    #[error("data folder {dir} has format {found}, and this release reads format {readable}")]
    OtherFormat { dir: PathBuf, found: String, readable: u32 },
    /// Bytes on disk are not what was written. This node's data is lost: it comes back under a new id.
    #[error("corrupt data in {place}: {reason}")]
    Corrupt { place: String, reason: String },
    #[error("no space left on the device of {place}: {reason}")]
    DiskFull { place: String, reason: String },
    #[error("{place}: {reason}")]
    Io { place: String, reason: String },
    /// An earlier failure stopped the store; nothing is tried again.
    #[error("the store has stopped: {0}")]
    Stopped(String),
    #[error("the store is shut down")]
    Closed,
    /// A caller broke a rule of this crate.
    #[error("{0}")]
    Misuse(String),
}

impl StoreError {
    /// A failed call of RocksDB on `place`.
    pub(crate) fn rocks(place: &str, error: rocksdb::Error) -> Self {
        let (place, reason) = (place.to_owned(), error.to_string());
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Self::Corrupt { place, reason },
            _ if reason.contains("No space left") => Self::DiskFull { place, reason },
            _ => Self::Io { place, reason },
        }
    }

    /// A failed call of the file system on `place`.
    pub(crate) fn io(place: impl ToString, error: io::Error) -> Self {
        let (place, reason) = (place.to_string(), error.to_string());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { place, reason },
            _ => Self::Io { place, reason },
        }
    }

    pub(crate) fn corrupt(place: impl ToString, reason: impl ToString) -> Self {
        Self::Corrupt { place: place.to_string(), reason: reason.to_string() }
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Corrupt { .. } => io::ErrorKind::InvalidData,
            StoreError::DiskFull { .. } => io::ErrorKind::StorageFull,
            StoreError::Misuse(_) => io::ErrorKind::InvalidInput,
            StoreError::Locked { .. }
            | StoreError::OtherCluster { .. }
            | StoreError::OtherNode { .. }
            | StoreError::OtherFormat { .. }
            | StoreError::Io { .. }
            | StoreError::Stopped(_)
            | StoreError::Closed => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

impl From<StoreError> for stanchion_engine::StateFault {
    fn from(error: StoreError) -> Self {
        Self::Storage(error.to_string())
    }
}
