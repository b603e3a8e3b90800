//! A whole node as the simulator runs it: one thread, a log writer that a task drives, wires that are no sockets, and a crash that is no
//! more than the end of its runtime.

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
use stanchion_proto::admin::StatusRequest;
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

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

async fn start(net: &Loopback, data: &Path) -> Running {
    let setup = DevSetup { groups: 2, namespaces: vec!["default".into()], search_attributes: BTreeMap::new() };
    let config = NodeConfig {
        node_id: 1,
        data: data.to_owned(),
        ephemeral: false,
        grpc: address(1),
        http: address(2),
        peer: address(3),
        dial: BTreeMap::new(),
        insecure: false,
        log_format: LogFormat::Human,
        limits: Default::default(),
        dev: Some(setup.clone()),
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
    let mut running = start_on(config, around).await.unwrap();
    bootstrap::dev(&running.node.clone(), &setup).await.unwrap();
    running.wait_ready().await.unwrap();
    running
}

fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn frontend(net: &Loopback) -> WorkflowServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", address(1))).unwrap();
    WorkflowServiceClient::new(net.connect(endpoint).await.unwrap())
}

async fn description_of(net: &Loopback, namespace: &str) -> String {
    let request = DescribeNamespaceRequest { namespace: namespace.into(), ..Default::default() };
    let found = frontend(net).await.describe_namespace(request).await.unwrap().into_inner();
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
        let _running = start(&net, data.path()).await;
        let retention = Some(prost_types::Duration { seconds: 86_400, nanos: 0 });
        let request = RegisterNamespaceRequest {
            namespace: "kept".into(),
            description: "acknowledged".into(),
            workflow_execution_retention_period: retention,
            ..Default::default()
        };
        frontend(&net).await.register_namespace(request).await.unwrap();
        let mut peer = admin::connect(&net, &address(3).to_string()).await.unwrap();
        let status = peer.status(StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(status.groups.len(), 3, "{status:?}");
        let ours = threads().into_iter().filter(|name| !name.starts_with("rocksdb"));
        for name in ours {
            assert!(!["tokio", "log-writer", "snapshot"].iter().any(|other| name.starts_with(other)), "{name}");
        }
        // Neither node nor store is told of the end.
    });
    on_one_thread(async {
        let net = Loopback::default();
        let running = start(&net, data.path()).await;
        assert_eq!(description_of(&net, "kept").await, "acknowledged");
        running.end().await.unwrap();
    });
    on_one_thread(async {
        let net = Loopback::default();
        start(&net, data.path()).await;
        assert_eq!(description_of(&net, "kept").await, "acknowledged");
    });
}
