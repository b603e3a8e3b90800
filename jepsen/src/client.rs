//! A careful client: every operation journalled, every attempt to some node, repeated on another one with the same request id when its
//! outcome is not known.
//!
//! What a call ends as: *ok*, *refused* (the server looked at it and said no), or *unknown* (zero times or once). Never starts a second
//! operation to hide the first, and never calls a refusal certain that came after an attempt of unknown outcome. Called by the workloads.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use prost::Message as _;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use stanchion_proof::drive::had_no_effect;
use stanchion_proof::journal::Journal;
use stanchion_proto::temporal::common::v1::{Payload, Payloads, WorkflowExecution};
use stanchion_proto::temporal::history::v1::{History, HistoryEvent};
use stanchion_proto::temporal::workflowservice::v1::GetWorkflowExecutionHistoryRequest;
use stanchion_proto::temporal::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::cluster::Cluster;
use crate::network::Link;
use crate::scene::NAMESPACE;

/// One attempt on one node; a careful client asks another one then.
pub const ATTEMPT_WITHIN: Duration = Duration::from_secs(3);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

pub type Service = WorkflowServiceClient<Channel>;

/// The way to one node, which lives on while that node is down.
#[derive(Clone)]
pub struct Api {
    pub node: u64,
    pub channel: Channel,
    pub service: WorkflowServiceClient<Channel>,
}

impl Api {
    pub fn of(cluster: &Cluster, link: Link) -> Result<Self> {
        let (Link::Clients(node) | Link::Workers(node) | Link::Peer(_, node)) = link;
        let address = cluster.network.address(link).with_context(|| format!("there is no link {link}"))?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT_WITHIN)
            // A connection that a cut keeps silent is given up, as one to a lost machine would be.
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2))
            .tcp_nodelay(true);
        let channel = endpoint.connect_lazy();
        let service = WorkflowServiceClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { node, channel, service })
    }
}

/// How a call ended.
#[derive(Debug)]
pub enum Outcome<T> {
    Ok {
        node: u64,
        reply: T,
    },
    /// `certain`: no attempt before it can have had an effect.
    Refused {
        status: Status,
        certain: bool,
    },
    Unknown(String),
}

impl<T> Outcome<T> {
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Ok { node, reply } => Outcome::Ok { node, reply: f(reply) },
            Self::Refused { status, certain } => Outcome::Refused { status, certain },
            Self::Unknown(why) => Outcome::Unknown(why),
        }
    }
}

/// See the module.
pub struct Client {
    apis: Vec<Api>,
    pub journal: Journal,
    /// The number under which the next operation is journalled. Changes after an unknown outcome, as in Jepsen.
    pub process: u64,
    pub chance: ChaCha8Rng,
}

impl Client {
    pub fn new(apis: Vec<Api>, journal: Journal, chance: ChaCha8Rng) -> Self {
        let process = journal.new_process();
        Self { apis, journal, process, chance }
    }

    /// The process of an operation whose outcome is unknown never acts again.
    pub fn go_on_as_another(&mut self) {
        self.process = self.journal.new_process();
    }

    /// Makes a call that must not be repeated.
    pub async fn once<T, F, Fut>(&mut self, call: F) -> Outcome<T>
    where
        F: FnOnce(Service) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let api = &self.apis[self.chance.random_range(0..self.apis.len())];
        match timeout(ATTEMPT_WITHIN, call(api.service.clone())).await {
            Ok(Ok(reply)) => Outcome::Ok { node: api.node, reply },
            Ok(Err(status)) if is_refusal(&status) => Outcome::Refused { status, certain: true },
            Ok(Err(status)) => {
                Outcome::Unknown(format!("{:?} from n{}: {}", status.code(), api.node, status.message()))
            }
            Err(_) => Outcome::Unknown(format!("no answer from n{} within {ATTEMPT_WITHIN:?}", api.node)),
        }
    }

    /// Makes a call that is safe to repeat until a node answers or `within` is over.
    pub async fn call<T, F, Fut>(&mut self, within: Duration, call: F) -> Outcome<T>
    where
        F: Fn(WorkflowServiceClient<Channel>) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let stop = Instant::now() + within;
        let mut unknown = false;
        let mut error = String::from("no attempt was made");
        loop {
            let left = stop.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Outcome::Unknown(error);
            }
            let api = &self.apis[self.chance.random_range(0..self.apis.len())];
            match timeout(left.min(ATTEMPT_WITHIN), call(api.service.clone())).await {
                Ok(Ok(reply)) => return Outcome::Ok { node: api.node, reply },
                Ok(Err(status)) if is_refusal(&status) => {
                    return Outcome::Refused { status, certain: !unknown };
                }
                Ok(Err(status)) => error = format!("{:?} from n{}: {}", status.code(), api.node, status.message()),
                Err(_) => error = format!("no answer from n{} within {ATTEMPT_WITHIN:?}", api.node),
            }
            unknown = true;
            tokio::time::sleep(PAUSE.min(stop.saturating_duration_since(Instant::now()))).await;
        }
    }
}

impl Client {
    /// The whole history of a run, page by page.
    pub async fn history(&mut self, workflow_id: &str, run_id: &str, within: Duration) -> Outcome<Vec<HistoryEvent>> {
        let request = GetWorkflowExecutionHistoryRequest {
            namespace: NAMESPACE.into(),
            execution: Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned() }),
            // Mostly the server's own page size; now and then a small one, so that paging is exercised under faults too.
            maximum_page_size: [0, 0, 0, 7, 50][self.chance.random_range(0..5)],
            ..Default::default()
        };
        self.call(within, |mut service| {
            let mut request = request.clone();
            async move {
                let mut events = Vec::new();
                loop {
                    let page = service.get_workflow_execution_history(request.clone()).await?.into_inner();
                    let history = History::decode(page.history.unwrap_or_default())
                        .map_err(|error| Status::data_loss(format!("a history that cannot be decoded: {error}")))?;
                    events.extend(history.events);
                    if page.next_page_token.is_empty() {
                        return Ok(events);
                    }
                    request.next_page_token = page.next_page_token;
                }
            }
        })
        .await
    }
}

/// The server looked at the call and said no.
pub fn is_refusal(status: &Status) -> bool {
    // What was shed was not looked at.
    had_no_effect(status) && status.code() != Code::ResourceExhausted
}

/// A value as an SDK's default converter writes it.
pub fn json_payloads(value: &serde_json::Value) -> Payloads {
    let payload = Payload {
        metadata: [("encoding".to_owned(), Bytes::from_static(b"json/plain"))].into_iter().collect(),
        data: value.to_string().into_bytes().into(),
        ..Payload::default()
    };
    Payloads { payloads: vec![payload] }
}

/// The first value of payloads, if it is JSON.
pub fn from_payloads(payloads: Option<&Payloads>) -> Option<serde_json::Value> {
    serde_json::from_slice(&payloads?.payloads.first()?.data).ok()
}
