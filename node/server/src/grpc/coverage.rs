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
    (
        "ResetWorkflowExecution",
        "updates behind the reset point are not applied again; children that run are not taken over",
    ),
    ("UpdateWorkflowExecutionOptions", "priority only; no versioning override, no time skipping"),
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
mod tests {
    use std::fmt::Write;

    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compatibility.md");

    const HEAD: &str = "# What of Temporal's API is served\n\n\
        Every method of both services, generated from the server's own tables. A method that is not served answers `UNIMPLEMENTED`. To \
        write this page\nanew: `STANCHION_WRITE_DOCS=1 cargo nextest run --workspace coverage`.\n";

    #[test]
    fn the_compatibility_page_says_what_the_tables_say() {
        let page = page();
        if std::env::var_os("STANCHION_WRITE_DOCS").is_some() {
            std::fs::write(PAGE, &page).unwrap();
        }
        let written = std::fs::read_to_string(PAGE).unwrap_or_default();
        assert_eq!(written, page, "docs/compatibility.md is out of date; STANCHION_WRITE_DOCS=1 writes it anew");
    }

    #[test]
    fn only_served_methods_are_called_partly_served() {
        for (method, _) in PARTLY {
            assert!(serves(method), "{method} is not served");
        }
    }

    fn page() -> String {
        let mut page = HEAD.to_owned();
        for (title, service) in [("WorkflowService", WORKFLOW_SERVICE), ("OperatorService", OPERATOR_SERVICE)] {
            let (served, all) = (service.served.len(), service.served.len() + service.unserved.len());
            writeln!(page, "\n## {title}: {served} of {all}\n\n| Method | Served | Missing |\n|---|---|---|").unwrap();
            let mut methods: Vec<_> = service.served.iter().map(|request| (name(request), true)).collect();
            methods.extend(service.unserved.iter().map(|request| (name(request), false)));
            methods.sort_unstable();
            for (method, served) in methods {
                let missing = PARTLY.iter().find(|(partly, _)| *partly == method).map_or("", |(_, missing)| missing);
                let how = match (served, missing) {
                    (false, _) => "no",
                    (true, "") => "yes",
                    (true, _) => "partly",
                };
                writeln!(page, "| `{method}` | {how} | {missing} |").unwrap();
            }
        }
        page
    }
}
