//! Whose data folder this is: a lock against a second process, and a file that names format, incarnation, cluster and node.
//!
//! The incarnation is drawn when the folder is made. A node that lost its disk comes back with another one, and its peers can tell:
//! a wiped node must never vote under its old id.
//!
//! The file ends with a checksum of its lines: with one bit flipped in its incarnation or groups, a node would start as somebody else, or
//! with another number of groups; with its end cut off, it would wait to be given another cluster.
//!
//! Never: opens a folder of another cluster or node; changes a cluster or node id once adopted; reads a line that it does not know.
//! Called by [`crate::Store::open`].

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::options::StoreOptions;

/// The version of everything in the folder.
const FORMAT: u32 = 1;
const FILE: &str = "identity";
const CHECKSUM: &str = "crc32c";
const NAMES: [&str; 5] = ["format", "incarnation", "cluster_id", "node_id", "groups"];

/// Who wrote a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// None until [`crate::Store::adopt`].
    pub cluster_id: Option<String>,
    /// None until [`crate::Store::adopt`].
    pub node_id: Option<u64>,
    /// Groups besides the meta group that the cluster was begun with. None until [`crate::Store::begin_cluster`], and in folders that
    /// were made before it was written down.
    pub groups: Option<u32>,
    /// Drawn when the folder was made.
    pub incarnation: String,
}

impl Identity {
    fn new() -> Self {
        Self { cluster_id: None, node_id: None, groups: None, incarnation: uuid::Uuid::new_v4().to_string() }
    }

    fn encode(&self) -> String {
        let mut text = format!("format = {FORMAT}\nincarnation = {}\n", self.incarnation);
        if let Some(cluster_id) = &self.cluster_id {
            text += &format!("cluster_id = {cluster_id}\n");
        }
        if let Some(node_id) = self.node_id {
            text += &format!("node_id = {node_id}\n");
        }
        if let Some(groups) = self.groups {
            text += &format!("groups = {groups}\n");
        }
        let checksum = crc32c::crc32c(text.as_bytes());
        text + &format!("{CHECKSUM} = {checksum:08x}\n")
    }

    fn decode(dir: &Path, text: &str) -> Result<Self, StoreError> {
        let corrupt = |reason: String| StoreError::corrupt(dir.join(FILE).display(), reason);
        let mut fields = BTreeMap::new();
        for line in text.split_inclusive('\n') {
            let whole = line.strip_suffix('\n').and_then(|line| line.split_once(" = "));
            let (name, value) = whole.ok_or_else(|| corrupt(format!("line `{}`", line.trim_end())))?;
            fields.insert(name, value);
        }
        let format = fields.get("format").ok_or_else(|| corrupt("no format".into()))?;
        if *format != FORMAT.to_string() {
            return Err(StoreError::OtherFormat { dir: dir.to_owned(), found: (*format).to_owned(), readable: FORMAT });
        }
        check(text, &fields).map_err(corrupt)?;
        let node_id = fields.get("node_id").map(|id| id.parse().map_err(|_| corrupt(format!("node_id `{id}`"))));
        let groups = fields.get("groups").map(|count| count.parse().map_err(|_| corrupt(format!("groups `{count}`"))));
        Ok(Self {
            groups: groups.transpose()?,
            cluster_id: fields.get("cluster_id").map(|id| (*id).to_owned()),
            node_id: node_id.transpose()?,
            incarnation: (*fields.get("incarnation").ok_or_else(|| corrupt("no incarnation".into()))?).to_owned(),
        })
    }
}

/// Whether the lines are those that were written.
fn check(text: &str, fields: &BTreeMap<&str, &str>) -> Result<(), String> {
    if let Some(name) = fields.keys().find(|name| !NAMES.contains(name) && **name != CHECKSUM) {
        return Err(format!("line `{name}`"));
    }
    let Some(written) = fields.get(CHECKSUM) else { return Err("it has no checksum: its end is missing".into()) };
    let Some(lines) = text.strip_suffix(&format!("{CHECKSUM} = {written}\n")) else {
        return Err("lines behind the checksum".into());
    };
    let found = format!("{:08x}", crc32c::crc32c(lines.as_bytes()));
    match found == *written {
        true => Ok(()),
        false => Err(format!("its lines have checksum {found}, but were written with {written}")),
    }
}

/// The folder, locked for as long as any part of the store lives.
pub(crate) struct DataDir {
    pub path: PathBuf,
    ephemeral: bool,
    _lock: File,
}

impl DataDir {
    /// Makes the folder if need be, locks it, and reads or draws its identity.
    pub fn open(options: &StoreOptions) -> Result<(Self, Identity), StoreError> {
        let path = match options.ephemeral {
            true => std::env::temp_dir().join(format!("stanchion-{}", uuid::Uuid::new_v4())),
            false => options.dir.clone(),
        };
        fs::create_dir_all(&path).map_err(|e| StoreError::io(path.display(), e))?;
        let lock = lock(&path)?;
        let dir = Self { path, ephemeral: options.ephemeral, _lock: lock };
        let identity = match fs::read_to_string(dir.path.join(FILE)) {
            Ok(text) => Identity::decode(&dir.path, &text)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => dir.found()?,
            // A flipped bit: what was written is text.
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                return Err(StoreError::corrupt(dir.path.join(FILE).display(), e));
            }
            Err(e) => return Err(StoreError::io(dir.path.join(FILE).display(), e)),
        };
        Ok((dir, identity))
    }

    /// A new folder. One with data but without an identity is not new: it lost a file, and must not pass for an empty disk.
    fn found(&self) -> Result<Identity, StoreError> {
        if self.path.join("log").exists() || self.path.join("state").exists() {
            return Err(StoreError::corrupt(self.path.display(), "it holds data, but its file `identity` is missing"));
        }
        let identity = Identity::new();
        self.save(&identity)?;
        Ok(identity)
    }

    /// Replaces the identity file: wholly, or not at all.
    pub fn save(&self, identity: &Identity) -> Result<(), StoreError> {
        let (file, staged) = (self.path.join(FILE), self.path.join("identity.new"));
        let write = || {
            let mut out = File::create(&staged)?;
            out.write_all(identity.encode().as_bytes())?;
            out.sync_all()?;
            fs::rename(&staged, &file)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|e| StoreError::io(file.display(), e))
    }

    /// Adopts what the configuration says, or says what differs.
    pub fn adopt(
        &self,
        identity: &Identity,
        cluster_id: &str,
        node_id: u64,
        groups: Option<u32>,
    ) -> Result<Identity, StoreError> {
        if cluster_id.is_empty() || cluster_id.contains(['\n', '\r']) {
            return Err(StoreError::Misuse(format!("`{cluster_id}` cannot be a cluster id")));
        }
        if let Some(found) = identity.cluster_id.as_ref().filter(|found| *found != cluster_id) {
            return Err(StoreError::OtherCluster {
                dir: self.path.clone(),
                found: found.clone(),
                wanted: cluster_id.to_owned(),
            });
        }
        if let Some(found) = identity.node_id.filter(|found| *found != node_id) {
            return Err(StoreError::OtherNode { dir: self.path.clone(), found, wanted: node_id });
        }
        if let (Some(found), Some(wanted)) = (identity.groups, groups)
            && found != wanted
        {
            return Err(StoreError::Misuse(format!(
                "this folder's cluster was begun with {found} groups, not {wanted}"
            )));
        }
        let adopted = Identity {
            groups: identity.groups.or(groups),
            cluster_id: Some(cluster_id.to_owned()),
            node_id: Some(node_id),
            incarnation: identity.incarnation.clone(),
        };
        if adopted != *identity {
            self.save(&adopted)?;
        }
        Ok(adopted)
    }

    /// Forgets an ephemeral store. Files that are still open live on until they are closed.
    pub fn remove_if_ephemeral(&self) {
        if self.ephemeral
            && let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.path.display(), %error, "could not remove the ephemeral data folder");
        }
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        self.remove_if_ephemeral();
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("LOCK");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| StoreError::io(path.display(), e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(StoreError::io(path.display(), e)),
    }
}
