//! Fetches histories: of one run for a worker that lost its cache, of every run for judges.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use prost::Message;
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{History, HistoryEvent};
use stanchion_proto::temporal::workflowservice::v1::{
    GetWorkflowExecutionHistoryRequest, ListWorkflowExecutionsRequest,
};
use tonic::Status;

use super::call::{Caller, Told};
use super::{Nodes, Timings};
use crate::history::RunHistory;
use crate::program::named;

/// The evidence could not be had, so there is nothing to judge.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {status}")]
pub struct NotFetched {
    pub what: String,
    pub status: Status,
}

/// Every run of a namespace: those that lists show, and those that their histories name.
pub async fn histories(nodes: &impl Nodes, namespace: &str) -> Result<Vec<RunHistory>, NotFetched> {
    let timings = Timings { call: Duration::from_secs(10), tries: 12, ..Timings::default() };
    let mut caller = Caller::new(nodes, named(0, "histories"), &timings);
    let mut wanted: VecDeque<(String, String)> = list(&mut caller, namespace, "").await?.into();
    let mut seen: BTreeSet<(String, String)> = wanted.iter().cloned().collect();
    let mut found = BTreeMap::new();
    while let Some((workflow_id, run_id)) = wanted.pop_front() {
        let events = history(&mut caller, namespace, &workflow_id, &run_id, Vec::new()).await?;
        for run in named_by(&workflow_id, &events) {
            if seen.insert(run.clone()) {
                wanted.push_back(run);
            }
        }
        found.insert((workflow_id, run_id), events);
    }
    Ok(found.into_iter().map(|((workflow_id, run_id), events)| RunHistory { workflow_id, run_id, events }).collect())
}

/// Workflow and run ids that a filter finds.
pub(super) async fn list(
    caller: &mut Caller<impl Nodes>,
    namespace: &str,
    query: &str,
) -> Result<Vec<(String, String)>, NotFetched> {
    let mut found = Vec::new();
    let mut token = Vec::new();
    loop {
        let request = ListWorkflowExecutionsRequest {
            namespace: namespace.to_owned(),
            page_size: 200,
            next_page_token: token,
            query: query.to_owned(),
        };
        let told = caller.ask(request, |mut c, r| async move { c.list_workflow_executions(r).await }).await;
        let page = known(told, || format!("list of {query:?}"))?;
        let runs = page.executions.into_iter().filter_map(|info| info.execution);
        found.extend(runs.map(|run| (run.workflow_id, run.run_id)));
        token = page.next_page_token;
        if token.is_empty() {
            return Ok(found);
        }
    }
}

/// All events of a run, from the page that `token` names on.
pub(super) async fn history(
    caller: &mut Caller<impl Nodes>,
    namespace: &str,
    workflow_id: &str,
    run_id: &str,
    mut token: Vec<u8>,
) -> Result<Vec<HistoryEvent>, NotFetched> {
    let mut events = Vec::new();
    loop {
        let execution = WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned() };
        let request = GetWorkflowExecutionHistoryRequest {
            namespace: namespace.to_owned(),
            execution: Some(execution),
            next_page_token: token,
            ..Default::default()
        };
        let told = caller.ask(request, |mut c, r| async move { c.get_workflow_execution_history(r).await }).await;
        let page = known(told, || format!("history of {workflow_id} {run_id}"))?;
        events.extend(decode(page.history.as_deref())?);
        token = page.next_page_token;
        if token.is_empty() {
            return Ok(events);
        }
    }
}

pub(super) fn decode(history: Option<&[u8]>) -> Result<Vec<HistoryEvent>, NotFetched> {
    let decoded = History::decode(history.unwrap_or_default());
    let history = decoded
        .map_err(|error| NotFetched { what: "a history".into(), status: Status::data_loss(error.to_string()) })?;
    Ok(history.events)
}

fn known<T>(told: Told<T>, what: impl FnOnce() -> String) -> Result<T, NotFetched> {
    match told {
        Told::Ok(answer) => Ok(answer),
        Told::Fail(status) | Told::Unknown(status) => Err(NotFetched { what: what(), status }),
    }
}

/// The runs that a run's events speak of as its successor or its children.
fn named_by(workflow_id: &str, events: &[HistoryEvent]) -> Vec<(String, String)> {
    use Attributes::*;
    let run = |event: &HistoryEvent| match event.attributes.as_ref()? {
        ChildWorkflowExecutionStartedEventAttributes(a) => {
            let run = a.workflow_execution.as_ref()?;
            Some((run.workflow_id.clone(), run.run_id.clone()))
        }
        WorkflowExecutionContinuedAsNewEventAttributes(a) => {
            Some((workflow_id.to_owned(), a.new_execution_run_id.clone()))
        }
        _ => None,
    };
    events.iter().filter_map(run).filter(|(_, run_id)| !run_id.is_empty()).collect()
}
