//! A Temporal client that knows every node of a cluster: a call goes to one of them, and to the next when that one is away.
//!
//! A call is repeated on another node only if it certainly was not applied, or if the request itself makes repeating safe because it
//! carries a request id. Callers say which by the method they use.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use stanchion_proto::temporal::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Between two attempts of a call that found no node to answer it.
const PAUSE: Duration = Duration::from_millis(50);

/// An address that cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("`{address}` is not an address of the form HOST:PORT")]
pub struct BadAddress {
    pub address: String,
}

/// See the module.
pub struct Nodes {
    clients: Vec<WorkflowServiceClient<Channel>>,
    /// The node that answered last; calls begin there.
    preferred: AtomicUsize,
}

impl Nodes {
    /// Connections are made when they are first used.
    pub fn new(addresses: &[String], message_bytes_max: usize) -> Result<Self, BadAddress> {
        let mut clients = Vec::with_capacity(addresses.len());
        for address in addresses {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .map_err(|_| BadAddress { address: address.clone() })?
                .connect_timeout(CONNECT_WITHIN)
                .tcp_nodelay(true);
            let client = WorkflowServiceClient::new(endpoint.connect_lazy())
                .max_decoding_message_size(message_bytes_max)
                .max_encoding_message_size(message_bytes_max);
            clients.push(client);
        }
        Ok(Self { clients, preferred: AtomicUsize::new(0) })
    }

    pub fn len(&self) -> usize {
        self.clients.len()
    }

    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The client of one node, for calls that are to go there.
    pub fn node(&self, index: usize) -> Option<WorkflowServiceClient<Channel>> {
        self.clients.get(index).cloned()
    }

    /// Makes a call that is safe to repeat (a read, or a request with its own request id) until a node answers or `within` is over.
    pub async fn call<T, F, Fut>(&self, within: Duration, call: F) -> Result<T, Status>
    where
        F: Fn(WorkflowServiceClient<Channel>) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let deadline = Instant::now() + within;
        let count = self.clients.len().max(1);
        let mut index = self.preferred.load(Ordering::Relaxed) % count;
        loop {
            let Some(client) = self.node(index) else {
                return Err(Status::unavailable("this client was given no node"));
            };
            let attempt = tokio::time::timeout_at(deadline.into(), call(client)).await;
            match attempt {
                Ok(Err(status)) if repeatable(&status) => {
                    index = (index + 1) % count;
                    if Instant::now() + PAUSE >= deadline {
                        return Err(status);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(outcome) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return outcome;
                }
                Err(_) => return Err(Status::deadline_exceeded("no node answered in time")),
            }
        }
    }
}

/// The call found nobody, or its outcome is unknown.
fn repeatable(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[tokio::test]
    async fn a_refusal_is_final_and_an_absence_is_not() {
        let nodes = Nodes::new(&["127.0.0.1:1".into(), "127.0.0.1:2".into()], 1024).unwrap();
        let asked = AtomicU32::new(0);
        let outcome = nodes
            .call(Duration::from_secs(5), |_| async {
                match asked.fetch_add(1, Ordering::Relaxed) {
                    0 => Err(Status::unavailable("away")),
                    _ => Err::<(), _>(Status::not_found("no such run")),
                }
            })
            .await;
        assert_eq!(outcome.unwrap_err().code(), Code::NotFound);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
