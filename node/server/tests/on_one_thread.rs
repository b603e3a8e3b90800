//! A whole node as the simulator runs it: one thread, a log writer that a task drives, wires that are no sockets, and a crash that is no
//! more than the end of its runtime.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use stanchion_proto::admin::{InitClusterRequest, Member, StatusRequest};
use stanchion_proto::temporal::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use stanchion_proto::temporal::workflowservice::v1::{DescribeNamespaceRequest, RegisterNamespaceRequest};
use stanchion_replica::{Listener, Net, Socket, Timings, Wire};
use stanchion_server::cli::LogFormat;
use stanchion_server::config::{DevSetup, NodeConfig};
use stanchion_server::node::{Running, StoreHooks, Surroundings, start_on};
use stanchion_server::{admin, bootstrap};
use stanchion_store::{LogWriter, Turns};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint, Uri};

// ---------------------------------------------------------------------------------------------------------------- wires

/// Addresses of this test alone, and byte streams between them.
#[derive(Clone, Default)]
struct Loopback {
    listening: Arc<Mutex<BTreeMap<SocketAddr, mpsc::UnboundedSender<DuplexStream>>>>,
}

struct Accepting {
    address: SocketAddr,
    queue: mpsc::UnboundedReceiver<DuplexStream>,
}

struct End(DuplexStream);

impl Loopback {
    fn dial(&self, uri: &Uri) -> io::Result<DuplexStream> {
        let address = uri.authority().and_then(|to| to.as_str().parse::<SocketAddr>().ok());
        let sender = address.and_then(|address| self.listening.lock().get(&address).cloned());
        let (ours, theirs) = tokio::io::duplex(256 * 1024);
        match sender.map(|sender| sender.send(theirs)) {
            Some(Ok(())) => Ok(ours),
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    fn connector(
        &self,
    ) -> impl tower::Service<
        Uri,
        Response = TokioIo<DuplexStream>,
        Error = io::Error,
        Future = std::future::Ready<io::Result<TokioIo<DuplexStream>>>,
    >
    + Send
    + 'static
    + use<> {
        let net = self.clone();
        tower::service_fn(move |uri: Uri| std::future::ready(net.dial(&uri).map(TokioIo::new)))
    }
}

impl Net for Loopback {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (sender, queue) = mpsc::unbounded_channel();
        self.listening.lock().insert(address, sender);
        async move { Ok(Box::new(Accepting { address, queue }) as Box<dyn Listener>) }.boxed()
    }

    fn connect(&self, endpoint: Endpoint) -> BoxFuture<'static, Result<Channel, tonic::transport::Error>> {
        let connector = self.connector();
        async move { endpoint.connect_with_connector(connector).await }.boxed()
    }

    fn connect_lazy(&self, endpoint: Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.connector())
    }
}

impl Listener for Accepting {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Socket>> {
        async move {
            let stream = self.queue.recv().await.ok_or(io::ErrorKind::ConnectionAborted)?;
            Ok(Socket::Other(Box::new(End(stream))))
        }
        .boxed()
    }
}

impl Wire for End {
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }
}

impl AsyncRead for End {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

// ----------------------------------------------------------------------------------------------------------------- node

async fn drive(mut turns: Turns) {
    loop {
        turns.wait().await;
        if !turns.turn() {
            return;
        }
    }
}

fn grpc(node: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 100 + node))
}

fn peer(node: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 200 + node))
}

/// A node that waits to be made a cluster, or goes on where it was.
async fn start(net: &Loopback, node: u16, data: &Path) -> Running {
    let config = NodeConfig {
        node_id: node.into(),
        data: data.to_owned(),
        ephemeral: false,
        grpc: grpc(node),
        http: SocketAddr::from(([127, 0, 0, 1], 300 + node)),
        peer: peer(node),
        dial: BTreeMap::new(),
        insecure: false,
        log_format: LogFormat::Human,
        limits: Default::default(),
        dev: None,
    };
    let around = Surroundings {
        net: Arc::new(net.clone()),
        figures: None,
        consensus: tokio::runtime::Handle::current(),
        fatal: Arc::new(|reason| panic!("{reason}")),
        store: StoreHooks {
            fatal: Arc::new(|reason| panic!("{reason}")),
            log_writer: LogWriter::Driven(Arc::new(|turns| drop(tokio::spawn(drive(turns))))),
            faults: None,
            small: true,
        },
        timings: Timings::default(),
    };
    start_on(config, around).await.unwrap()
}

async fn start_alone(net: &Loopback, data: &Path) -> Running {
    let setup = DevSetup { groups: 2, namespaces: vec!["default".into()], search_attributes: BTreeMap::new() };
    let mut running = start(net, 1, data).await;
    bootstrap::dev(&running.node.clone(), &setup).await.unwrap();
    running.wait_ready().await.unwrap();
    running
}

fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn frontend(net: &Loopback, node: u16) -> WorkflowServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", grpc(node))).unwrap();
    WorkflowServiceClient::new(net.connect(endpoint).await.unwrap())
}

async fn register(net: &Loopback, node: u16, namespace: &str, description: &str) {
    let request = RegisterNamespaceRequest {
        namespace: namespace.into(),
        description: description.into(),
        workflow_execution_retention_period: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
        ..Default::default()
    };
    frontend(net, node).await.register_namespace(request).await.unwrap();
}

async fn description_of(net: &Loopback, node: u16, namespace: &str) -> String {
    let request = DescribeNamespaceRequest { namespace: namespace.into(), ..Default::default() };
    let found = frontend(net, node).await.describe_namespace(request).await.unwrap().into_inner();
    found.namespace_info.unwrap().description
}

fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect()
}

#[test]
fn a_node_runs_on_one_thread_and_comes_back_after_its_runtime_was_dropped() {
    let data = tempfile::tempdir().unwrap();
    on_one_thread(async {
        let net = Loopback::default();
        let _running = start_alone(&net, data.path()).await;
        register(&net, 1, "kept", "acknowledged").await;
        let mut admin = admin::connect(&net, &peer(1).to_string()).await.unwrap();
        let status = admin.status(StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(status.groups.len(), 3, "{status:?}");
        // Neither node nor store is told of the end.
    });
    on_one_thread(async {
        let net = Loopback::default();
        let running = start_alone(&net, data.path()).await;
        assert_eq!(description_of(&net, 1, "kept").await, "acknowledged");
        running.end().await.unwrap();
    });
    on_one_thread(async {
        let net = Loopback::default();
        start_alone(&net, data.path()).await;
        assert_eq!(description_of(&net, 1, "kept").await, "acknowledged");
    });
}

#[test]
fn three_nodes_share_a_thread_and_all_come_back() {
    let data: Vec<_> = (1..=3).map(|_| tempfile::tempdir().unwrap()).collect();
    let start_all = async |net: &Loopback| {
        let mut nodes = Vec::new();
        for (node, data) in (1..).zip(&data) {
            nodes.push(start(net, node, data.path()).await);
        }
        nodes
    };
    on_one_thread(async {
        let net = Loopback::default();
        let mut nodes = start_all(&net).await;
        let member =
            |node: u16| Member { node_id: node.into(), peer_address: peer(node).to_string(), ..Member::default() };
        let request = InitClusterRequest { members: (1..=3).map(member).collect(), groups: 2 };
        admin::init(&nodes[0].node.clone(), request).await.unwrap();
        for node in &mut nodes {
            node.wait_ready().await.unwrap();
        }
        register(&net, 2, "kept", "acknowledged").await;
        for name in threads().iter().filter(|name| !name.starts_with("rocksdb")) {
            assert!(!["tokio", "log-writer", "snapshot"].iter().any(|other| name.starts_with(other)), "{name}");
        }
    });
    on_one_thread(async {
        let net = Loopback::default();
        let mut nodes = start_all(&net).await;
        for node in &mut nodes {
            node.wait_ready().await.unwrap();
        }
        assert_eq!(description_of(&net, 3, "kept").await, "acknowledged");
        for node in nodes {
            node.end().await.unwrap();
        }
    });
}
