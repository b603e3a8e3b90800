//! The cluster as the meta group has it: every node keeps a copy of this view.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use stanchion_proto::row::{ClusterRow, NamespaceRow, NodeRow, SlotMapRow};

use crate::keys;
use crate::meta::{MetaKind, decode_all, key};
use crate::slot::META_SLOT;
use crate::state::{StateReader, StateResult, Table};
use crate::types::{GroupId, Slot};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct MetaView {
    /// Empty until the cluster is created.
    pub cluster_id: String,
    by_name: BTreeMap<String, Arc<NamespaceRow>>,
    by_id: BTreeMap<String, Arc<NamespaceRow>>,
    pub nodes: BTreeMap<u64, NodeRow>,
    pub slot_map: SlotMapRow,
    pub features: BTreeSet<String>,
}

impl MetaView {
    pub fn namespace(&self, name: &str) -> Option<&Arc<NamespaceRow>> {
        self.by_name.get(name)
    }

    pub fn namespace_by_id(&self, id: &str) -> Option<&Arc<NamespaceRow>> {
        self.by_id.get(id)
    }

    /// In order of name.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<NamespaceRow>> {
        self.by_name.values()
    }

    /// The group that owns a slot; none before the cluster is created.
    pub fn group_of(&self, slot: Slot) -> Option<GroupId> {
        let slot = u32::from(slot.0);
        let at = self.slot_map.ranges.partition_point(|range| range.last < slot);
        self.slot_map.ranges.get(at).filter(|range| range.first <= slot).map(|range| GroupId(range.group))
    }
}

/// Reads the whole view.
pub fn meta<R: StateReader>(reader: &R) -> StateResult<MetaView> {
    let cluster: Option<ClusterRow> = rows(reader, MetaKind::Cluster)?.pop();
    let namespaces: Vec<NamespaceRow> = rows(reader, MetaKind::Namespace)?;
    let nodes: Vec<NodeRow> = rows(reader, MetaKind::Node)?;
    let slot_map: Option<SlotMapRow> = rows(reader, MetaKind::SlotMap)?.pop();
    let namespaces: Vec<Arc<NamespaceRow>> = namespaces.into_iter().map(Arc::new).collect();
    let features = raw(reader, MetaKind::Feature)?
        .into_iter()
        .filter_map(|(key, _)| String::from_utf8(key.get(1..)?.to_vec()).ok())
        .collect();
    Ok(MetaView {
        cluster_id: cluster.map(|row| row.cluster_id).unwrap_or_default(),
        by_name: namespaces.iter().map(|row| (row.name.clone(), row.clone())).collect(),
        by_id: namespaces.iter().map(|row| (row.namespace_id.clone(), row.clone())).collect(),
        nodes: nodes.into_iter().map(|row| (row.node_id, row)).collect(),
        slot_map: slot_map.unwrap_or_default(),
        features,
    })
}

fn rows<R: StateReader, M: Message + Default>(reader: &R, kind: MetaKind) -> StateResult<Vec<M>> {
    decode_all(raw(reader, kind)?)
}

fn raw<R: StateReader>(reader: &R, kind: MetaKind) -> StateResult<Vec<(Bytes, Bytes)>> {
    let from = key(kind, &[]);
    reader.range(META_SLOT, Table::Meta, &from, &keys::after(&from), usize::MAX)
}
