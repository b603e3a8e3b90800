//! Nodes for tests: real stores in temporary folders, real sockets on loopback, in one process.
//!
//! A node that is killed loses its process's memory and nothing else: its groups end without a word, its connections break, and its
//! state's memtables are gone with the store that held them.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stanchion_engine::slot::slot_of;
use stanchion_engine::{Effects, GroupId, Reply};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{Command, MetaCommand, RegisterNamespace, StartWorkflow, meta_command};
use stanchion_proto::node::peer_server;
use stanchion_proto::node::{CallReply, CallRequest, Frames, PingReply, PingRequest, SnapshotChunk, SnapshotReply};
use stanchion_proto::temporal::common::v1::{Payload, Payloads, WorkflowType};
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflowservice::v1::{RegisterNamespaceRequest, StartWorkflowExecutionRequest};
use stanchion_replica::{
    EffectSink, FrameStream, GroupHandle, NodeId, Peer, PeerTransport, ProposeError, Replica, ReplicaOptions, Role,
    SlotMap, TermId, Timings,
};
use stanchion_store::{Applied, GroupState, Store, StoreError, StoreOptions};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `ready` gives something.
pub async fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Service(Arc<PeerTransport>);

#[tonic::async_trait]
impl peer_server::Peer for Service {
    type RaftStream = FrameStream;

    async fn raft(&self, request: Request<Streaming<Frames>>) -> Result<Response<FrameStream>, Status> {
        self.0.serve_raft(request).await
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotChunk>>) -> Result<Response<SnapshotReply>, Status> {
        self.0.serve_snapshot(request).await
    }

    async fn call(&self, _: Request<CallRequest>) -> Result<Response<CallReply>, Status> {
        Err(Status::unimplemented("not part of replication"))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingReply>, Status> {
        Err(Status::unimplemented("not part of replication"))
    }
}

/// A running node.
pub struct Node {
    pub id: NodeId,
    pub replica: Replica,
    pub store: Store,
    pub transport: Arc<PeerTransport>,
    server: JoinHandle<()>,
}

/// A cluster's folders and addresses, which outlive its nodes.
pub struct Cluster {
    pub members: Vec<Peer>,
    pub groups: u32,
    pub nodes: BTreeMap<NodeId, Node>,
    pub options: ReplicaOptions,
    dirs: BTreeMap<NodeId, tempfile::TempDir>,
    listeners: BTreeMap<NodeId, std::net::TcpListener>,
}

pub fn options() -> ReplicaOptions {
    let timings = Timings {
        checkpoint: Duration::from_millis(300),
        spread_after: Duration::from_secs(3600),
        ..Timings::default()
    };
    let fatal = Arc::new(|reason: &str| panic!("a node had to stop: {reason}"));
    ReplicaOptions { timings, fatal, ..ReplicaOptions::default() }
}

fn log_to_test() {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,openraft=error".into());
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

impl Cluster {
    /// Folders and ports for `count` nodes; none runs yet.
    pub fn prepare(count: u64, groups: u32, options: ReplicaOptions) -> Self {
        log_to_test();
        let mut cluster = Self {
            members: Vec::new(),
            groups,
            nodes: BTreeMap::new(),
            options,
            dirs: BTreeMap::new(),
            listeners: BTreeMap::new(),
        };
        for node_id in 1..=count {
            // Held until the node first runs, so that no other test gets the port.
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            cluster.listeners.insert(node_id, listener);
            cluster.dirs.insert(node_id, tempfile::tempdir().unwrap());
            cluster.members.push(Peer { node_id, address, incarnation: None });
        }
        cluster
    }

    /// Runs and adopts all nodes, and waits until every group has a ready leader.
    pub async fn start(count: u64, groups: u32, options: ReplicaOptions) -> Self {
        let mut cluster = Self::prepare(count, groups, options);
        for id in 1..=count {
            cluster.run(id).await;
        }
        let members = cluster.members.clone();
        for node in cluster.nodes.values() {
            node.replica.adopt_cluster("test-cluster", &members, groups).await.unwrap();
        }
        for group in 0..=groups {
            cluster.leader(GroupId(group)).await;
        }
        cluster
    }

    /// Runs a node over its folder.
    pub async fn run(&mut self, id: NodeId) {
        let address: SocketAddr = self.members[id as usize - 1].address.parse().unwrap();
        let listener = match self.listeners.remove(&id) {
            Some(listener) => {
                listener.set_nonblocking(true).unwrap();
                TcpListener::from_std(listener).unwrap()
            }
            None => TcpListener::bind(address).await.unwrap(),
        };
        let store_options = StoreOptions { sync: false, ..StoreOptions::new(self.dirs[&id].path()) };
        // A node that was just ended in this process may still hold the folder's lock for a moment.
        let store = until("the data folder", || match Store::open(store_options.clone()) {
            Err(StoreError::Locked { .. }) => None,
            opened => Some(opened.unwrap()),
        })
        .await;
        let transport = PeerTransport::new(id, store.identity().incarnation);
        self.members.iter().for_each(|member| transport.peers().set(member.clone()));
        let service = peer_server::PeerServer::new(Service(transport.clone()))
            .max_decoding_message_size(stanchion_replica::PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(stanchion_replica::PEER_MESSAGE_BYTES_MAX);
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move {
            let _ = server.await;
        });
        let replica = Replica::open(store.clone(), transport.clone(), self.options.clone()).await.unwrap();
        self.nodes.insert(id, Node { id, replica, store, transport, server });
    }

    /// Ends a node without any of what an orderly stop does. Its state's memtables are lost, its synced log is not.
    pub async fn kill(&mut self, id: NodeId) {
        let node = self.nodes.remove(&id).unwrap();
        node.server.abort();
        node.transport.close();
        let _ = node.server.await;
        node.replica.halt().await;
    }

    /// Stops a node in an orderly way.
    pub async fn stop(&mut self, id: NodeId) {
        let node = self.nodes.remove(&id).unwrap();
        node.replica.transfer_all().await;
        node.replica.shutdown().await;
        node.server.abort();
        let _ = node.server.await;
        node.store.shutdown().unwrap();
    }

    /// Changes what a node that does not run holds of a group, as no command would.
    pub fn tamper(&self, id: NodeId, group: GroupId, change: impl FnOnce(&mut GroupState)) {
        let store = Store::open(StoreOptions { sync: false, ..StoreOptions::new(self.dirs[&id].path()) }).unwrap();
        let mut state = store.group_state(group).unwrap();
        change(&mut state);
        let applied = state.applied();
        state.commit(applied.index, applied.log_id.unwrap(), None).unwrap();
        drop(state);
        store.shutdown().unwrap();
    }

    /// Gives a node that does not run an empty folder.
    pub fn wipe(&mut self, id: NodeId) {
        self.dirs.insert(id, tempfile::tempdir().unwrap());
    }

    pub fn group(&self, node: NodeId, group: GroupId) -> GroupHandle {
        self.nodes[&node].replica.group(group).unwrap()
    }

    /// The node that leads the group and is ready to, with its term.
    pub async fn leader(&self, group: GroupId) -> (NodeId, TermId) {
        until(&format!("a leader of group {group}"), || {
            self.nodes.values().find_map(|node| {
                let term = node.replica.group(group)?.term()?;
                Some((node.id, term))
            })
        })
        .await
    }

    /// Proposes to whoever leads, again and again until it is acknowledged. True if an attempt on the way had an unknown outcome.
    pub async fn propose(&self, group: GroupId, command: Command) -> (Reply, bool) {
        let mut doubt = false;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (node, term) = self.leader(group).await;
            // Repeated as a client would: with the same request id, so that it takes effect once.
            match self.group(node, group).propose(term, command.clone()).await {
                Ok(reply) => return (reply, doubt),
                Err(ProposeError::NotLeader { .. } | ProposeError::Overloaded { .. }) => {}
                Err(ProposeError::Unknown(_)) => doubt = true,
                Err(fatal @ ProposeError::Fatal(_)) => panic!("{fatal}"),
            }
            assert!(Instant::now() < deadline, "no proposal was acknowledged in {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// [`Cluster::propose`] of [`command`]; it must be accepted. Answers the run's id, except in the meta group.
    pub async fn put(&self, group: GroupId, name: &str) -> Option<String> {
        match self.propose(group, command(group, self.groups, name)).await {
            (Reply::Started { run_id, .. }, _) => Some(run_id),
            (Reply::Rejected(rejection), false) => panic!("{rejection}"),
            _ => None,
        }
    }

    /// What the group's leader has applied after a linearizable read. The lead may pass on meanwhile: leaders are spread anew when a
    /// node comes back.
    async fn read_index(&self, group: GroupId) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (leader, _) = self.leader(group).await;
            match self.group(leader, group).read_index().await {
                Ok(()) => return self.group(leader, group).applied_index(),
                Err(error) => assert!(Instant::now() < deadline, "group {group} was not read in {PATIENCE:?}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until every running node has applied what the leader of each group had at the time of the call.
    pub async fn settle(&self) {
        for group in (0..=self.groups).map(GroupId) {
            let target = self.read_index(group).await;
            until(&format!("group {group} at entry {target} everywhere"), || {
                let applied = |node: &Node| node.replica.group(group).is_some_and(|g| g.applied_index() >= target);
                self.nodes.values().all(applied).then_some(())
            })
            .await;
        }
    }

    /// The group's state on that node: applied id, membership, and every row as a snapshot would carry it. Its head is left out,
    /// because it holds the sender's own generation numbers.
    pub fn state_of(&self, node: NodeId, group: GroupId) -> (Applied, Vec<bytes::Bytes>) {
        let snapshot = self.nodes[&node].store.snapshot(group).unwrap();
        (snapshot.applied.clone(), snapshot.skip(1).map(|chunk| chunk.unwrap()).collect())
    }

    /// Every running node's rows, applied id, membership and clock are the same.
    pub async fn assert_equal(&self) {
        self.settle().await;
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        for group in (0..=self.groups).map(GroupId) {
            for other in &nodes[1..] {
                // A leader elected in between writes one more entry, which reaches the others a little later.
                until(&format!("group {group}: nodes {} and {other} are equal", nodes[0]), || {
                    (self.state_of(nodes[0], group) == self.state_of(*other, group)).then_some(())
                })
                .await;
            }
        }
    }
}

/// A command that leaves rows in that group: a namespace in the meta group, a run of the workflow id in the others. The id is
/// `name` with a number behind it that puts it into one of the group's slots.
pub fn command(group: GroupId, groups: u32, name: &str) -> Command {
    command_of_size(group, groups, name, 0)
}

/// As [`command`], with that many bytes of data.
pub fn command_of_size(group: GroupId, groups: u32, name: &str, bytes: usize) -> Command {
    if group == GroupId::META {
        let description = "x".repeat(bytes);
        let request = RegisterNamespaceRequest { namespace: name.into(), description, ..Default::default() };
        let kind = meta_command::Kind::RegisterNamespace(RegisterNamespace {
            request: Some(request),
            namespace_id: format!("id-of-{name}"),
        });
        return Command { meta: Some(MetaCommand { kind: Some(kind) }), ..Command::default() };
    }
    let map = SlotMap::even(groups);
    let id = (0..).map(|i| format!("{name}-{i}")).find(|id| map.group_of(slot_of("ns-id", id)) == group).unwrap();
    let request = StartWorkflowExecutionRequest {
        namespace: "ns".into(),
        workflow_id: id.clone(),
        workflow_type: Some(WorkflowType { name: "t".into() }),
        task_queue: Some(TaskQueue { name: "q".into(), ..TaskQueue::default() }),
        input: Some(Payloads { payloads: vec![Payload { data: vec![7; bytes].into(), ..Payload::default() }] }),
        request_id: format!("request-{id}"),
        ..Default::default()
    };
    let start = StartWorkflow { request: Some(request), ..Default::default() };
    Command {
        namespace_id: "ns-id".into(),
        namespace: "ns".into(),
        kind: Some(Kind::StartWorkflow(start)),
        ..Command::default()
    }
}

/// Remembers what it was given.
#[derive(Default)]
pub struct Recorder(pub parking_lot::Mutex<Vec<(TermId, u64)>>);

impl EffectSink for Recorder {
    fn applied(&self, term: TermId, index: u64, _: Effects) {
        self.0.lock().push((term, index));
    }
}

pub fn is_leader(role: &Role) -> bool {
    role.term().is_some()
}
