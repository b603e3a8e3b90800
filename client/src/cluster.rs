//! `stanchion cluster init` and `stanchion cluster status`, on the nodes' peer address.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use stanchion_proto::admin::admin_client::AdminClient;
use stanchion_proto::admin::{InitClusterRequest, Member, StatusReply, StatusRequest};
use tonic::transport::{Channel, Endpoint};

/// Creating a cluster starts every group on every node.
const INIT_WITHIN: Duration = Duration::from_secs(60);
const STATUS_WITHIN: Duration = Duration::from_secs(10);
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// Why an operation did not work, in words for whoever typed it.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("`{address}` is not an address of the form HOST:PORT")]
    Address { address: String },
    #[error("no node answers at {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("{address}: {message}")]
    Refused { address: String, message: String },
}

/// Creates a cluster over nodes that belong to none yet. Returns its id.
pub async fn init(members: &[(u64, String)], groups: u32) -> Result<String, ClusterError> {
    let Some((_, first)) = members.first() else {
        return Err(ClusterError::Address { address: String::new() });
    };
    let mut admin = connect(first, INIT_WITHIN).await?;
    let members = members
        .iter()
        .map(|(node_id, peer)| Member { node_id: *node_id, peer_address: peer.clone(), ..Default::default() })
        .collect();
    let reply = admin.init_cluster(InitClusterRequest { members, groups }).await.map_err(|s| refused(first, &s))?;
    Ok(reply.into_inner().cluster_id)
}

/// What one node knows of the cluster.
pub async fn status(peer: &str) -> Result<StatusReply, ClusterError> {
    let mut admin = connect(peer, STATUS_WITHIN).await?;
    Ok(admin.status(StatusRequest {}).await.map_err(|s| refused(peer, &s))?.into_inner())
}

async fn connect(address: &str, within: Duration) -> Result<AdminClient<Channel>, ClusterError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| ClusterError::Address { address: address.to_owned() })?
        .connect_timeout(CONNECT_WITHIN)
        .timeout(within);
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| ClusterError::Unreachable { address: address.to_owned(), reason: root_cause(&error) })?;
    Ok(AdminClient::new(channel))
}

fn refused(address: &str, status: &tonic::Status) -> ClusterError {
    ClusterError::Refused { address: address.to_owned(), message: status.message().to_owned() }
}

/// The innermost reason: the outer ones only say "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The status as JSON, for programs.
pub fn to_json(status: &StatusReply) -> Value {
    let nodes: Vec<Value> = status
        .nodes
        .iter()
        .map(|node| {
            let member = node.member.clone().unwrap_or_default();
            json!({
                "id": member.node_id,
                "peer": member.peer_address,
                "grpc": member.grpc_address,
                "http": member.http_address,
                "live": node.live,
                "disk_bytes": node.disk_bytes,
            })
        })
        .collect();
    let groups: Vec<Value> = status
        .groups
        .iter()
        .map(|group| {
            let replicas: BTreeMap<String, u64> =
                group.replicas.iter().map(|(node, index)| (node.to_string(), *index)).collect();
            let stopped: BTreeMap<String, &str> =
                group.stopped.iter().map(|(node, why)| (node.to_string(), why.as_str())).collect();
            json!({
                "group": group.group,
                "leader": group.leader,
                "term": group.term,
                "applied": group.applied,
                "last_log": group.last_log,
                "replicas": replicas,
                "stopped": stopped,
            })
        })
        .collect();
    json!({ "cluster_id": status.cluster_id, "nodes": nodes, "groups": groups })
}

/// The status as two tables, for people.
pub fn to_text(status: &StatusReply) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "cluster {}\n", status.cluster_id);
    let _ = writeln!(text, "{:<6}{:<24}{:<24}{:<7}{:>12}", "node", "peer", "grpc", "state", "disk MiB");
    for node in &status.nodes {
        let member = node.member.clone().unwrap_or_default();
        let state = if node.live { "live" } else { "away" };
        let _ = writeln!(
            text,
            "{:<6}{:<24}{:<24}{:<7}{:>12.1}",
            member.node_id,
            member.peer_address,
            member.grpc_address,
            state,
            node.disk_bytes as f64 / (1024.0 * 1024.0)
        );
    }
    let _ = writeln!(text, "\n{:<7}{:<8}{:<7}{:>10}{:>10}   lag by node", "group", "leader", "term", "last", "applied");
    for group in &status.groups {
        let leader = if group.leader == 0 { "none".to_owned() } else { group.leader.to_string() };
        let lags: Vec<String> = group
            .replicas
            .iter()
            .map(|(node, index)| format!("{node}:{}", group.last_log.saturating_sub(*index)))
            .collect();
        let _ = writeln!(
            text,
            "{:<7}{:<8}{:<7}{:>10}{:>10}   {}",
            group.group,
            leader,
            group.term,
            group.last_log,
            group.applied,
            lags.join("  ")
        );
    }
    for group in &status.groups {
        for (node, why) in &group.stopped {
            let _ = writeln!(text, "\ngroup {} has STOPPED on node {node}: {why}", group.group);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use stanchion_proto::admin::{GroupStatus, NodeStatus};

    #[test]
    fn a_status_names_leader_and_lag() {
        let status = StatusReply {
            cluster_id: "c".into(),
            nodes: vec![NodeStatus {
                member: Some(Member { node_id: 1, peer_address: "127.0.0.1:7433".into(), ..Default::default() }),
                live: true,
                disk_bytes: 1024 * 1024,
            }],
            groups: vec![GroupStatus {
                group: 1,
                leader: 1,
                term: 2,
                last_log: 10,
                applied: 9,
                replicas: [(1, 10), (2, 7)].into_iter().collect(),
                stopped: [(3, "B1: no".to_owned())].into_iter().collect(),
            }],
        };
        assert!(to_text(&status).contains("1:0  2:3"));
        assert_eq!(to_json(&status)["groups"][0]["replicas"]["2"], 7);
        assert!(to_text(&status).ends_with("\ngroup 1 has STOPPED on node 3: B1: no\n"));
        assert_eq!(to_json(&status)["groups"][0]["stopped"]["3"], "B1: no");
    }
}
