//! After the last fault: everything that was begun must end (C4, L5).
//!
//! Workers go on, as after a restart; whoever waits for a signal gets some. What is still open at the end of the bound is named.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::call::Told;
use super::client::{Client, FINISHER, Stage};
use super::workers::Workers;
use super::{Load, Nodes};
use crate::journal::Journal;
use crate::ledger::Ledger;

/// How long after a parent's end a child may still be as if nothing had happened, with all nodes up.
const PARENT_CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Runs that did not close within the bound.
#[derive(Clone, Debug, thiserror::Error)]
#[error("open after {within:?}: {}", open.join(", "))]
pub struct Unfinished {
    pub within: Duration,
    pub open: Vec<String>,
}

/// Waits until every run is closed, for at most `within`.
pub async fn finish(
    load: Load,
    nodes: impl Nodes,
    journal: Journal,
    ledger: Ledger,
    within: Duration,
) -> Result<(), Unfinished> {
    let load = Arc::new(load);
    let workers = Workers::start(&load, &nodes, &ledger, "finish");
    let mut client = Client::new(&load, &nodes, &journal, &Stage::default(), FINISHER as usize);
    let started = journal.operations().into_iter().filter(|operation| operation.f == "start").map(|start| start.key);
    let begun: BTreeSet<String> = started.filter(|id| id.starts_with(&load.prefix())).collect();
    let mut open = vec!["everything: nothing could be asked".to_owned()];
    let all_closed = tokio::time::timeout(within, async {
        // A list may be behind; two in a row that show nothing open, and each program closed when asked itself, are enough.
        let mut quiet = 0;
        let mut before: Vec<String> = Vec::new();
        let mut unchanged_since = Instant::now();
        while quiet < 2 {
            match open_now(&mut client, &load, &begun).await {
                Some(found) => open = found,
                None => continue,
            }
            quiet = if open.is_empty() { quiet + 1 } else { 0 };
            // Parents before their children: what a parent's end does to a child must come of itself, so a child gets a signal only once
            // nothing above it is open and nothing has happened for a while.
            let lowest: Vec<String> = match open.iter().map(|id| depth(id)).min() {
                Some(least) => open.iter().filter(|id| depth(id) == least).cloned().collect(),
                None => Vec::new(),
            };
            if lowest != before {
                unchanged_since = Instant::now();
                before.clone_from(&lowest);
            }
            for id in &lowest {
                if depth(id) == 0 || unchanged_since.elapsed() > PARENT_CLOSE_WITHIN {
                    client.signal(id).await;
                }
            }
            tokio::time::sleep(load.timings.pause * 2).await;
        }
    })
    .await;
    workers.stop().await;
    all_closed.map_err(|_| Unfinished { within, open })
}

/// How many parents a workflow has, by its id.
fn depth(id: &str) -> usize {
    id.matches('/').count()
}

/// Workflows that are open; none if it cannot be known now.
async fn open_now(client: &mut Client<impl Nodes>, load: &Load, begun: &BTreeSet<String>) -> Option<Vec<String>> {
    let listed = client.open().await.ok()?;
    let mut open: Vec<String> =
        listed.into_iter().map(|(id, _)| id).filter(|id| id.starts_with(&load.prefix())).collect();
    if open.is_empty() {
        for id in begun {
            match client.status(id).await {
                Told::Ok((status, _)) if status.ends_with("_RUNNING") => open.push(id.clone()),
                // It is closed, or its start had no effect.
                Told::Ok(_) | Told::Fail(_) => {}
                Told::Unknown(_) => return None,
            }
        }
    }
    open.sort();
    open.dedup();
    Some(open)
}
