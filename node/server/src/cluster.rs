//! `stanchion cluster …`: asks a node's admin service and prints what it says.
//!
//! Never: touches a data folder. Called by `main`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::anyhow;
use serde::Serialize;
use stanchion_proto::admin::{InitClusterRequest, Member, StatusReply, StatusRequest};

use crate::admin::connect;
use crate::cli::ClusterCommand;

pub fn run(command: ClusterCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            ClusterCommand::Init { peers, groups } => init(peers, groups).await,
            ClusterCommand::Status { peer, json } => status(&peer, json).await,
        }
    })
}

async fn init(peers: Vec<(u64, String)>, groups: u32) -> anyhow::Result<()> {
    let (_, first) = peers.first().ok_or_else(|| anyhow!("no peers were given"))?;
    let mut client = connect(first).await.map_err(worded)?;
    let members = peers.iter().map(|(node_id, address)| Member {
        node_id: *node_id,
        peer_address: address.clone(),
        ..Default::default()
    });
    let request = InitClusterRequest { members: members.collect(), groups };
    let reply = client.init_cluster(request).await.map_err(worded)?.into_inner();
    println!("cluster {} created over {} nodes with {groups} shard groups", reply.cluster_id, peers.len());
    Ok(())
}

async fn status(peer: &str, json: bool) -> anyhow::Result<()> {
    let reply = connect(peer).await.map_err(worded)?.status(StatusRequest {}).await.map_err(worded)?.into_inner();
    if json {
        println!("{}", serde_json::to_string(&Shown::of(reply))?);
    } else {
        print!("{}", table(&reply)?);
    }
    Ok(())
}

fn worded(status: tonic::Status) -> anyhow::Error {
    anyhow!("{}", status.message())
}

#[derive(Serialize)]
struct Shown {
    cluster_id: String,
    nodes: Vec<ShownNode>,
    groups: Vec<ShownGroup>,
}

#[derive(Serialize)]
struct ShownNode {
    id: u64,
    peer: String,
    grpc: String,
    live: bool,
    disk_bytes: u64,
}

#[derive(Serialize)]
struct ShownGroup {
    group: u32,
    leader: u64,
    term: u64,
    applied: u64,
    last_log: u64,
    replicas: BTreeMap<u64, u64>,
}

impl Shown {
    fn of(reply: StatusReply) -> Self {
        let nodes = reply.nodes.into_iter().map(|node| {
            let member = node.member.unwrap_or_default();
            ShownNode {
                id: member.node_id,
                peer: member.peer_address,
                grpc: member.grpc_address,
                live: node.live,
                disk_bytes: node.disk_bytes,
            }
        });
        let groups = reply.groups.into_iter().map(|group| ShownGroup {
            group: group.group,
            leader: group.leader,
            term: group.term,
            applied: group.applied,
            last_log: group.last_log,
            replicas: group.replicas,
        });
        Self { cluster_id: reply.cluster_id, nodes: nodes.collect(), groups: groups.collect() }
    }
}

fn table(reply: &StatusReply) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    if reply.cluster_id.is_empty() {
        writeln!(out, "this node belongs to no cluster yet")?;
    } else {
        writeln!(out, "cluster {}", reply.cluster_id)?;
    }
    writeln!(out, "{:>6}  {:<22} {:<22} {:<5} {:>10}", "node", "peer", "grpc", "live", "disk MiB")?;
    for node in &reply.nodes {
        let blank = Member::default();
        let member = node.member.as_ref().unwrap_or(&blank);
        let live = if node.live { "yes" } else { "NO" };
        let mib = node.disk_bytes as f64 / 1_048_576.0;
        writeln!(
            out,
            "{:>6}  {:<22} {:<22} {live:<5} {mib:>10.1}",
            member.node_id, member.peer_address, member.grpc_address
        )?;
    }
    writeln!(out, "{:>6}  {:>6} {:>6} {:>10} {:>10}  lag by node", "group", "leader", "term", "last log", "applied")?;
    for group in &reply.groups {
        let lags: Vec<String> = group
            .replicas
            .iter()
            .map(|(node, matched)| format!("{node}:{}", group.last_log.saturating_sub(*matched)))
            .collect();
        let leader = if group.leader == 0 { "none".to_owned() } else { group.leader.to_string() };
        writeln!(
            out,
            "{:>6}  {leader:>6} {:>6} {:>10} {:>10}  {}",
            group.group,
            group.term,
            group.last_log,
            group.applied,
            lags.join(" ")
        )?;
    }
    Ok(out)
}
