//! The meta group: what every node must agree on about the cluster itself. Namespaces and their search attributes, nodes, the slot
//! map, feature switches.
//!
//! Never: anything of a run. Rows stand under a slot of their own ([`META_SLOT`]), so the same storage serves.

use prost::Message;
use stanchion_proto::command::{
    AddSearchAttributes, CreateCluster, MetaCommand, PutNode, PutSlotMap, RegisterNamespace, RemoveSearchAttributes,
    SetFeature, UpdateNamespace, meta_command::Kind,
};
use stanchion_proto::row::{ClusterRow, NamespaceRow, NodeRow, SlotMapRow, SlotRangeRow};
use stanchion_proto::temporal::enums::v1::{IndexedValueType, NamespaceState};

use crate::reply::{Code, Detail, Rejection, Reply};
use crate::slot::{META_SLOT, SLOTS};
use crate::state::Table;
use crate::time;
use crate::transaction::{Outcome, Transaction};
use crate::visibility::BLOCK;

/// What a key of the meta table begins with. Part of the format on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MetaKind {
    Cluster = 1,
    /// By name.
    Namespace = 2,
    /// By id (big-endian).
    Node = 3,
    SlotMap = 4,
    /// By name; the row is empty.
    Feature = 5,
}

/// Key of a row of the meta table.
pub fn key(kind: MetaKind, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(kind as u8);
    key.extend_from_slice(name);
    key
}

/// Applies a command of the meta group.
pub fn apply(tx: &mut Transaction<'_>, command: &MetaCommand) -> Outcome<Reply> {
    match &command.kind {
        Some(Kind::RegisterNamespace(register)) => register_namespace(tx, register),
        Some(Kind::UpdateNamespace(update)) => update_namespace(tx, update),
        Some(Kind::AddSearchAttributes(add)) => add_search_attributes(tx, add),
        Some(Kind::RemoveSearchAttributes(remove)) => remove_search_attributes(tx, remove),
        Some(Kind::CreateCluster(create)) => create_cluster(tx, create),
        Some(Kind::PutNode(node)) => put_node(tx, node),
        Some(Kind::PutSlotMap(map)) => put_slot_map(tx, map),
        Some(Kind::SetFeature(feature)) => set_feature(tx, feature),
        None => Err(Rejection::new(Code::Unimplemented, "this command of the meta group is not known here").into()),
    }
}

fn register_namespace(tx: &mut Transaction<'_>, command: &RegisterNamespace) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("Namespace not set on request.").into());
    };
    let key = key(MetaKind::Namespace, request.namespace.as_bytes());
    if tx.get(META_SLOT, Table::Meta, &key)?.is_some() {
        let message = format!("Namespace \"{}\" already exists", request.namespace);
        return Err(Rejection::new(Code::AlreadyExists, message).with(Detail::NamespaceAlreadyExists).into());
    }
    let row = NamespaceRow {
        namespace_id: command.namespace_id.clone(),
        name: request.namespace.clone(),
        description: request.description.clone(),
        owner_email: request.owner_email.clone(),
        data: request.data.clone(),
        retention: time::nanos(request.workflow_execution_retention_period.as_ref()),
        state: NamespaceState::Registered.into(),
        created_at: tx.now.0,
        search_attributes: Default::default(),
    };
    tx.put_row(META_SLOT, Table::Meta, key, &row);
    Ok(Reply::NamespaceRegistered { namespace_id: command.namespace_id.clone() })
}

fn update_namespace(tx: &mut Transaction<'_>, command: &UpdateNamespace) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("Namespace not set on request.").into());
    };
    let key = key(MetaKind::Namespace, request.namespace.as_bytes());
    let Some(mut row) = tx.get_row::<NamespaceRow>(META_SLOT, Table::Meta, &key)? else {
        return Err(namespace_not_found(&request.namespace).into());
    };
    if let Some(info) = &request.update_info {
        if !info.description.is_empty() {
            row.description.clone_from(&info.description);
        }
        if !info.owner_email.is_empty() {
            row.owner_email.clone_from(&info.owner_email);
        }
        row.data.extend(info.data.clone());
        if info.state != NamespaceState::Unspecified as i32 {
            row.state = info.state;
        }
    }
    if let Some(retention) = request.config.as_ref().and_then(|c| c.workflow_execution_retention_ttl.as_ref()) {
        row.retention = time::nanos(Some(retention));
    }
    tx.put_row(META_SLOT, Table::Meta, key, &row);
    Ok(Reply::Done)
}

fn add_search_attributes(tx: &mut Transaction<'_>, command: &AddSearchAttributes) -> Outcome<Reply> {
    let from = key(MetaKind::Namespace, &[]);
    let to = crate::keys::after(&from);
    let rows = tx.range(META_SLOT, Table::Meta, &from, &to, usize::MAX)?;
    for (key, bytes) in rows {
        let mut row: NamespaceRow = crate::transaction::decode(Table::Meta, bytes)?;
        if row.namespace_id != command.namespace_id {
            continue;
        }
        for (name, kind) in &command.attributes {
            let known = IndexedValueType::try_from(*kind).is_ok_and(|k| k != IndexedValueType::Unspecified);
            if !known {
                let message = format!("Unable to parse search attribute type of {name}: {kind}");
                return Err(Rejection::invalid(message).into());
            }
        }
        // One that is there already keeps its type, and the call succeeds: the real server does so.
        for (name, kind) in &command.attributes {
            row.search_attributes.entry(name.clone()).or_insert(*kind);
        }
        tx.put_row(META_SLOT, Table::Meta, key.to_vec(), &row);
        return Ok(Reply::Done);
    }
    Err(namespace_not_found(&command.namespace_id).into())
}

/// Names that the namespace does not have are passed over, as the real server does.
fn remove_search_attributes(tx: &mut Transaction<'_>, command: &RemoveSearchAttributes) -> Outcome<Reply> {
    let from = key(MetaKind::Namespace, &[]);
    for (key, bytes) in tx.range(META_SLOT, Table::Meta, &from, &crate::keys::after(&from), usize::MAX)? {
        let mut row: NamespaceRow = crate::transaction::decode(Table::Meta, bytes)?;
        if row.namespace_id == command.namespace_id {
            row.search_attributes.retain(|name, _| !command.names.contains(name));
            tx.put_row(META_SLOT, Table::Meta, key.to_vec(), &row);
            return Ok(Reply::Done);
        }
    }
    Err(namespace_not_found(&command.namespace_id).into())
}

fn create_cluster(tx: &mut Transaction<'_>, command: &CreateCluster) -> Outcome<Reply> {
    let key = key(MetaKind::Cluster, &[]);
    if let Some(existing) = tx.get_row::<ClusterRow>(META_SLOT, Table::Meta, &key)? {
        if existing.cluster_id == command.cluster_id {
            return Ok(Reply::Done);
        }
        let message = format!("these nodes are the cluster {} already", existing.cluster_id);
        return Err(Rejection::new(Code::AlreadyExists, message).into());
    }
    if let Some(map) = &command.slot_map {
        put_slot_map(tx, map)?;
    }
    for node in &command.nodes {
        put_node(tx, node)?;
    }
    let row = ClusterRow { cluster_id: command.cluster_id.clone(), created_at: tx.now.0 };
    tx.put_row(META_SLOT, Table::Meta, key, &row);
    Ok(Reply::Done)
}

/// A node says where it is reached. Its number is bound to the first data folder that came with it.
fn put_node(tx: &mut Transaction<'_>, command: &PutNode) -> Outcome<Reply> {
    let key = key(MetaKind::Node, &command.node_id.to_be_bytes());
    if let Some(known) = tx.get_row::<NodeRow>(META_SLOT, Table::Meta, &key)?
        && !known.incarnation.is_empty()
        && !command.incarnation.is_empty()
        && known.incarnation != command.incarnation
    {
        let message = format!(
            "node {} is known with another data folder; a node whose disk was lost comes back under a new number",
            command.node_id
        );
        return Err(Rejection::new(Code::FailedPrecondition, message).into());
    }
    let row = NodeRow {
        node_id: command.node_id,
        peer_address: command.peer_address.clone(),
        grpc_address: command.grpc_address.clone(),
        http_address: command.http_address.clone(),
        incarnation: command.incarnation.clone(),
    };
    tx.put_row(META_SLOT, Table::Meta, key, &row);
    Ok(Reply::Done)
}

fn put_slot_map(tx: &mut Transaction<'_>, command: &PutSlotMap) -> Outcome<Reply> {
    let mut next = 0;
    for range in &command.ranges {
        if range.first != next || range.last < range.first {
            let message = format!("the slot map has a hole or an overlap at slot {next}");
            return Err(Rejection::invalid(message).into());
        }
        if range.first % u32::from(BLOCK) != 0 {
            let message = format!("the slot map cuts the block of {BLOCK} slots that slot {} lies in", range.first);
            return Err(Rejection::invalid(message).into());
        }
        next = range.last + 1;
    }
    if next != u32::from(SLOTS) {
        let message = format!("the slot map covers {next} of {SLOTS} slots");
        return Err(Rejection::invalid(message).into());
    }
    let key = key(MetaKind::SlotMap, &[]);
    if let Some(current) = tx.get_row::<SlotMapRow>(META_SLOT, Table::Meta, &key)?
        && current.epoch >= command.epoch
    {
        let message = format!("the slot map's epoch is {} already, and {} came", current.epoch, command.epoch);
        return Err(Rejection::new(Code::FailedPrecondition, message).into());
    }
    let ranges = command
        .ranges
        .iter()
        .map(|range| SlotRangeRow { first: range.first, last: range.last, group: range.group })
        .collect();
    tx.put_row(META_SLOT, Table::Meta, key, &SlotMapRow { epoch: command.epoch, ranges });
    Ok(Reply::Done)
}

fn set_feature(tx: &mut Transaction<'_>, command: &SetFeature) -> Outcome<Reply> {
    let key = key(MetaKind::Feature, command.name.as_bytes());
    if command.enabled {
        tx.put(META_SLOT, Table::Meta, key, bytes::Bytes::new());
    } else {
        tx.delete(META_SLOT, Table::Meta, key);
    }
    Ok(Reply::Done)
}

/// NOT_FOUND in the real server's words.
pub fn namespace_not_found(name: &str) -> Rejection {
    Rejection::new(Code::NotFound, format!("Namespace {name} is not found."))
        .with(Detail::NamespaceNotFound { namespace: name.to_owned() })
}

/// Decodes rows of a kind; used by [`crate::read::meta`].
pub(crate) fn decode_all<M: Message + Default>(rows: Vec<(bytes::Bytes, bytes::Bytes)>) -> crate::StateResult<Vec<M>> {
    rows.into_iter().map(|(_, bytes)| crate::transaction::decode(Table::Meta, bytes)).collect()
}
