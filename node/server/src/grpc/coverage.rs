//! What is served, read off the service tables: the capabilities that the server claims and `docs/compatibility.md`.
//!
//! Never: a claim about a method that is not in the table of served ones.
//!
//! Called by the handlers that state capabilities, and by the test that keeps the page true.

use super::services::{OPERATOR_SERVICE, WORKFLOW_SERVICE};

/// One gRPC service, by the names of its methods' request messages.
pub(super) struct Service {
    pub served: &'static [&'static str],
    #[cfg_attr(not(test), allow(dead_code, reason = "only the page shows them"))]
    pub unserved: &'static [&'static str],
}

/// Methods that are served, but not all of what they can be asked, with what is missing.
#[cfg(test)]
const PARTLY: &[(&str, &str)] = &[
    ("UpdateWorkflowExecutionOptions", "no override pins a run to a version; no time skipping"),
    ("RecordWorkerHeartbeat", "accepted and counted; its content is not kept"),
    ("RegisterNamespace", "no archival, no replication to other clusters"),
    ("UpdateNamespace", "no archival, no replication to other clusters"),
    ("UpdateWorkflowExecution", "no completion callbacks"),
];

/// Whether the method of that name is served.
pub(super) fn serves(method: &str) -> bool {
    [&WORKFLOW_SERVICE, &OPERATOR_SERVICE]
        .iter()
        .any(|service| service.served.iter().any(|request| name(request) == method))
}

/// A method's name, from that of its request message.
fn name(request: &str) -> &str {
    request.strip_suffix("Request").unwrap_or(request)
}

#[cfg(test)]
mod tests;
