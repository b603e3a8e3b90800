//! A node: everything it is made of, put together, started and ended.
//!
//! ```text
//! bind addresses -> open store -> open replicas -> serve peers -> [join or create a cluster] -> serve clients -> ready
//! SIGTERM: matching moves away -> polls answered empty -> leaders move away -> calls in flight end -> store closed
//! ```
//!
//! Two runtimes: consensus (Raft, the peer address) and clients (gRPC, HTTP, handlers), so that neither starves the other.
//!
//! Never: a listener before its address is known to be free; data opened that belongs to another cluster or node.
//!
//! What a node stands on (sockets, the end of its process, the thread of its log) is given to it as [`Surroundings`]: real ones by [`start`],
//! others by the simulator, which runs several nodes in one thread.
//!
//! Called by `main` and by `node/sim`.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use stanchion_dispatch::Dispatch;
use stanchion_engine::GroupId;
use stanchion_engine::limits::Limits;
use stanchion_proto::admin::admin_server::AdminServer;
use stanchion_proto::node::PingRequest;
use stanchion_proto::node::peer_server::PeerServer;
use stanchion_replica::{
    FatalHook, Listener, Net, PEER_MESSAGE_BYTES_MAX, PeerTransport, RealNet, Replica, ReplicaOptions, Timings,
    incoming, off_thread,
};
use stanchion_store::{Faults, LogWriter, Store, StoreOptions};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::admin::AdminService;
use crate::config::NodeConfig;
use crate::courier::Carrier;
use crate::liveness::{Liveness, PING_EVERY, PING_WITHIN};
use crate::meta::Meta;
use crate::neighbours::{Nodes, was_refused};
use crate::peer::PeerService;
use crate::shell::{Parts, Shells};
use crate::{batch, bootstrap, grpc, http};

/// Calls in flight get this long at the end.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
const TRANSFER_WITHIN: Duration = Duration::from_secs(3);

/// What handlers work with. One a process.
pub struct Node {
    pub config: NodeConfig,
    pub limits: Arc<Limits>,
    pub store: Store,
    pub dispatch: Arc<Dispatch>,
    pub shells: Arc<Shells>,
    pub neighbours: Nodes,
    pub meta: Arc<Meta>,
    replica: OnceLock<Replica>,
    followed: Mutex<HashSet<GroupId>>,
    clients: tokio::runtime::Handle,
    /// The addresses that were bound; they differ from the configured ones where those have port 0.
    pub addresses: Addresses,
}

#[derive(Clone, Debug)]
pub struct Addresses {
    pub grpc: std::net::SocketAddr,
    pub http: std::net::SocketAddr,
    pub peer: std::net::SocketAddr,
}

impl Node {
    pub fn id(&self) -> u64 {
        self.config.node_id
    }

    /// None only while the node starts.
    pub fn replica(&self) -> Option<&Replica> {
        self.replica.get()
    }

    /// Makes sure that every group of this node has a shell that follows its role.
    pub fn follow_groups(&self) {
        let Some(replica) = self.replica() else { return };
        let mut followed = self.followed.lock();
        for group in replica.groups() {
            if followed.insert(group)
                && let Some(handle) = replica.group(group)
            {
                self.clients.spawn(self.shells.clone().follow(handle));
            }
        }
    }

    /// Whether every call can be served; the reason if not.
    pub fn readiness(&self) -> Result<(), String> {
        let replica = self.replica().ok_or("the node is starting")?;
        let groups = replica.groups();
        if groups.is_empty() {
            return Err("the node belongs to no cluster yet; run `stanchion cluster init`".to_owned());
        }
        for group in groups {
            // Others serve it, if they can; what is stopped does not come back by waiting.
            if replica.group(group).is_some_and(|group| group.stopped().is_some()) {
                continue;
            }
            let leader = replica.leader_of(group).ok_or_else(|| format!("group {group} has no known leader"))?;
            if leader == self.id() && self.shells.term(group).is_err() {
                return Err(format!("group {group} is being taken over by this node"));
            }
        }
        if self.meta.view().namespace(bootstrap::FIRST_NAMESPACE).is_none() {
            return Err(format!("namespace `{}` is not there yet", bootstrap::FIRST_NAMESPACE));
        }
        Ok(())
    }

    /// Figures that are looked up rather than counted.
    pub fn note_gauges(&self) {
        metrics::gauge!("stanchion_disk_bytes").set(self.store.disk_bytes() as f64);
        metrics::gauge!("stanchion_queues").set(self.dispatch.queues() as f64);
        let Some(replica) = self.replica() else { return };
        for status in replica.status() {
            let group = status.group.to_string();
            let lag = status.last_log_index.saturating_sub(status.applied_index);
            metrics::gauge!("stanchion_apply_lag_entries", "group" => group.clone()).set(lag as f64);
            metrics::gauge!("stanchion_leading", "group" => group).set(if status.leader == Some(self.id()) {
                1.0
            } else {
                0.0
            });
        }
    }
}

/// A node that runs, until [`Running::end`].
pub struct Running {
    pub node: Arc<Node>,
    consensus: tokio::runtime::Handle,
    over: CancellationToken,
    servers: Vec<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

/// What a node stands on.
pub struct Surroundings {
    /// For the gRPC and peer addresses, and for connections to other nodes.
    pub net: Arc<dyn Net>,
    /// What the HTTP port shows. Without figures there is no HTTP port.
    pub figures: Option<PrometheusHandle>,
    /// The runtime of Raft and the peer address.
    pub consensus: tokio::runtime::Handle,
    /// Must end the node: a replica cannot go on.
    pub fatal: FatalHook,
    pub store: StoreHooks,
    pub timings: Timings,
}

/// What a node's store stands on.
pub struct StoreHooks {
    /// Must end the node: its disk can no longer be trusted.
    pub fatal: FatalHook,
    pub log_writer: LogWriter,
    /// For tests.
    pub faults: Option<Faults>,
    /// Little memory: for many nodes in one process.
    pub small: bool,
}

impl Surroundings {
    /// A process of its own: this machine's sockets, and an end of the process where a node must stop.
    pub fn real(figures: PrometheusHandle, consensus: tokio::runtime::Handle) -> Self {
        Self {
            net: Arc::new(RealNet),
            figures: Some(figures),
            consensus,
            fatal: ReplicaOptions::default().fatal,
            store: StoreHooks {
                fatal: Arc::new(stop_at_once),
                log_writer: LogWriter::Thread,
                faults: None,
                small: false,
            },
            timings: Timings::default(),
        }
    }
}

struct Listeners {
    grpc: Box<dyn Listener>,
    http: Option<TcpListener>,
    peer: Box<dyn Listener>,
}

impl Listeners {
    async fn bind(config: &NodeConfig, net: &dyn Net, with_http: bool) -> anyhow::Result<Self> {
        let grpc = net.bind(config.grpc).await.map_err(|error| not_bound("grpc", config.grpc, &error))?;
        let http = match with_http {
            true => Some(TcpListener::bind(config.http).await.map_err(|error| not_bound("http", config.http, &error))?),
            false => None,
        };
        let peer = net.bind(config.peer).await.map_err(|error| not_bound("peer", config.peer, &error))?;
        Ok(Self { grpc, http, peer })
    }

    fn addresses(&self, config: &NodeConfig) -> std::io::Result<Addresses> {
        let http = self.http.as_ref().map_or(Ok(config.http), TcpListener::local_addr)?;
        Ok(Addresses { grpc: self.grpc.local_addr()?, http, peer: self.peer.local_addr()? })
    }
}

fn not_bound(name: &str, address: std::net::SocketAddr, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow!(
                "the {name} address {address} is in use by another process; choose another one with the setting `{name}`"
            )
        }
        _ => anyhow!("cannot listen on the {name} address {address}: {error}"),
    }
}

/// Starts a node on this machine's sockets, in a process of its own.
pub async fn start(
    config: NodeConfig,
    figures: PrometheusHandle,
    consensus: tokio::runtime::Handle,
) -> anyhow::Result<Running> {
    start_on(config, Surroundings::real(figures, consensus)).await
}

/// Starts a node. It serves once [`Node::readiness`] says so; without a cluster it listens and waits.
pub async fn start_on(config: NodeConfig, around: Surroundings) -> anyhow::Result<Running> {
    let Surroundings { net, figures, consensus, fatal, store: hooks, timings } = around;
    let listeners = Listeners::bind(&config, &*net, figures.is_some()).await?;
    let addresses = listeners.addresses(&config)?;
    let limits = Arc::new(config.limits.clone());
    let store = open_store(&config, &limits, hooks).await?;
    let identity = store.identity();
    if let Some(cluster_id) = &identity.cluster_id {
        // Refuses a folder of another node.
        store.adopt(cluster_id, config.node_id)?;
    }

    let clients = tokio::runtime::Handle::current();
    let (node_id, incarnation) = (config.node_id, identity.incarnation.clone());
    let dial = config.dial.clone();
    let transport = consensus.spawn(async move { PeerTransport::over(net, node_id, incarnation, dial) }).await?;
    let liveness = Arc::new(Liveness::new(config.node_id));
    let neighbours = Nodes::new(config.node_id, liveness, transport.clone());
    let dispatch = Dispatch::new(limits.clone());
    let courier = Arc::new(Carrier::default());
    let meta = Arc::new(Meta::default());
    let batches_found = Arc::new(Notify::new());
    let parts = Parts {
        limits: limits.clone(),
        dispatch: dispatch.clone(),
        neighbours: Arc::new(neighbours.clone()),
        courier: courier.clone(),
        meta: meta.clone(),
        batches_found: batches_found.clone(),
    };
    let node = Arc::new(Node {
        config,
        limits: limits.clone(),
        store: store.clone(),
        dispatch,
        shells: Shells::new(parts),
        neighbours,
        meta,
        replica: OnceLock::new(),
        followed: Mutex::default(),
        clients: clients.clone(),
        addresses,
    });
    courier.set(&node);

    let over = CancellationToken::new();
    let mut servers = Vec::new();
    let peers = serve_peers(node.clone(), listeners.peer, clients.clone(), over.clone());
    servers.push(consensus.spawn(peers));
    if let (Some(figures), Some(listener)) = (figures, listeners.http) {
        let web = http::serve(node.clone(), figures, listener, over.clone());
        servers.push(tokio::spawn(async move { web.await.context("the HTTP server ended") }));
    }

    let options = ReplicaOptions { timings, limits, fatal };
    let replica = consensus.spawn(Replica::open(store, transport, options)).await??;
    if node.replica.set(replica).is_err() {
        return Err(anyhow!("the node was started twice"));
    }
    node.follow_groups();
    tokio::spawn(ping(node.clone()));
    tokio::spawn(Meta::follow(node.clone()));
    tokio::spawn(batch::drive_all(node.clone(), batches_found));
    let front = grpc::serve(node.clone(), listeners.grpc, over.clone());
    servers.push(tokio::spawn(front));
    Ok(Running { node, consensus, over, servers })
}

/// Some ten entries.
const SMALL_STRETCH: u64 = 4 * 1024;

async fn open_store(config: &NodeConfig, limits: &Limits, hooks: StoreHooks) -> anyhow::Result<Store> {
    let mut options = match (config.ephemeral, hooks.small) {
        (true, _) => StoreOptions::ephemeral(),
        // Within a test hardly anything fills a stretch of the usual size, or lasts as long: logs would rarely be purged.
        (false, true) => StoreOptions { log_stretch_bytes: SMALL_STRETCH, ..StoreOptions::small(&config.data) },
        (false, false) => StoreOptions::new(&config.data),
    };
    options.entry_cache_bytes_per_group = usize::try_from(limits.entry_cache_bytes_max)?;
    options.run_cache_bytes_per_group = usize::try_from(limits.run_cache_bytes_max)?;
    options.fatal = Some(hooks.fatal);
    options.log_writer = hooks.log_writer;
    options.faults = hooks.faults;
    Ok(off_thread(move || Store::open(options)).await??)
}

/// The disk can no longer be trusted: a node that went on could lose what it acknowledged.
fn stop_at_once(reason: &str) {
    tracing::error!(reason, "this node stops at once: its disk can no longer be trusted");
    eprintln!("stanchion: this node stops at once: {reason}");
    std::process::exit(70);
}

impl Running {
    /// Waits until the node can serve. A server that fails meanwhile is the error.
    pub async fn wait_ready(&mut self) -> anyhow::Result<()> {
        loop {
            if self.node.readiness().is_ok() {
                return Ok(());
            }
            self.check().await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for a server to end, which none does by itself.
    pub async fn failed(&mut self) -> anyhow::Error {
        loop {
            if let Err(error) = self.check().await {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn check(&mut self) -> anyhow::Result<()> {
        if let Some(at) = self.servers.iter().position(tokio::task::JoinHandle::is_finished) {
            self.servers.remove(at).await??;
            return Err(anyhow!("a server ended by itself"));
        }
        Ok(())
    }

    /// Ends the node in order: nothing acknowledged is lost, and nobody waits who need not.
    pub async fn end(self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let node = &self.node;
        tracing::info!("ending: polls are answered, leaders move away");
        node.neighbours.liveness.drain();
        node.dispatch.drain();
        if let Some(replica) = node.replica().cloned() {
            let transfer = self.consensus.spawn(async move {
                let _ = tokio::time::timeout(TRANSFER_WITHIN, replica.transfer_all()).await;
            });
            transfer.await?;
        }
        self.over.cancel();
        let servers = futures::future::join_all(self.servers);
        if tokio::time::timeout(DRAIN_WITHIN, servers).await.is_err() {
            tracing::info!("some calls did not end in time and are cut off");
        }
        if let Some(replica) = node.replica().cloned() {
            self.consensus.spawn(async move { replica.shutdown().await }).await?;
        }
        let store = node.store.clone();
        off_thread(move || store.shutdown()).await??;
        tracing::info!(seconds = begun.elapsed().as_secs_f64(), "ended");
        Ok(())
    }
}

async fn serve_peers(
    node: Arc<Node>,
    listener: Box<dyn Listener>,
    clients: tokio::runtime::Handle,
    over: CancellationToken,
) -> anyhow::Result<()> {
    let peer = PeerServer::new(PeerService::new(node.clone(), clients.clone()))
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let admin = AdminServer::new(AdminService::new(node, clients));
    // Streams between nodes do not end by themselves, so the end is not waited for beyond the listener's.
    let server = Server::builder()
        .initial_stream_window_size(16 * 1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
        .http2_keepalive_interval(Some(Duration::from_secs(1)))
        .http2_keepalive_timeout(Some(Duration::from_secs(2)))
        .add_service(peer)
        .add_service(admin)
        .serve_with_incoming(incoming(listener));
    tokio::select! {
        outcome = server => outcome.context("the peer server ended"),
        () = over.cancelled() => Ok(()),
    }
}

/// Asks every other node whether it is there, for as long as this one is.
async fn ping(node: Arc<Node>) {
    let mut every = tokio::time::interval(PING_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let asking: Arc<Mutex<HashSet<u64>>> = Arc::default();
    loop {
        every.tick().await;
        node.follow_groups();
        for peer in node.neighbours.transport.peers().list() {
            if peer.node_id != node.id() && asking.lock().insert(peer.node_id) {
                let (node, asking) = (node.clone(), asking.clone());
                tokio::spawn(async move {
                    ping_once(&node, peer.node_id).await;
                    asking.lock().remove(&peer.node_id);
                });
            }
        }
    }
}

async fn ping_once(node: &Node, to: u64) {
    let liveness = &node.neighbours.liveness;
    let peers = node.neighbours.transport.peers();
    let Ok(mut client) = peers.client(to) else { return };
    let was_live = liveness.is_live(to);
    let request = PingRequest {
        node_id: node.id(),
        cluster_id: peers.cluster_id().unwrap_or_default(),
        incarnation: node.store.identity().incarnation,
    };
    match tokio::time::timeout(PING_WITHIN, client.ping(peers.identify(to, request))).await {
        Ok(Ok(reply)) => {
            let draining = reply.into_inner().draining;
            liveness.answered(to, draining);
            peers.set_draining(to, draining);
        }
        Ok(Err(status)) => {
            liveness.silent(to, was_refused(&status));
            tracing::debug!(to, %status, "no answer to a ping");
        }
        Err(_) => liveness.silent(to, false),
    }
    if was_live && !liveness.is_live(to) {
        node.dispatch.drop_node(to);
    }
}
