//! `stanchion verify`: reads every run of a live cluster, or histories that were exported, and says which rules of durable execution
//! they break.
//!
//! It uses nothing but Temporal's API, so it can be pointed at any server that speaks it. Runs come and go while it looks: what a rule
//! between runs seems to find is looked at again before it is believed, and a run that is deleted meanwhile is passed over.
//!
//! Never: changes anything but the folder that it exports to. Called by `main`.

mod files;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use serde::Serialize;
use stanchion_client::Nodes;
use stanchion_engine::invariants::between::{self, Ending, Outline};
use stanchion_engine::invariants::{Violation, history};
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::enums::v1::WorkflowExecutionStatus;
use stanchion_proto::temporal::history::v1::{History, HistoryEvent};
use stanchion_proto::temporal::workflowservice::v1::{
    CountWorkflowExecutionsRequest, GetWorkflowExecutionHistoryRequest, ListNamespacesRequest,
    ListWorkflowExecutionsRequest,
};
use tonic::{Code, Status};

use self::files::{Export, Kept};
use crate::cli::VerifyArgs;

const MESSAGE_BYTES_MAX: usize = 64 << 20;
const RUNS_A_PAGE: i32 = 1000;
/// Runs that changed while they were read are read again so often.
const LOOKS: usize = 3;

#[derive(Default, Serialize)]
struct Report {
    namespace: String,
    runs: usize,
    events: usize,
    violations: Vec<String>,
}

/// A run's events, what they break, and what it says of other runs.
type Looked = (Vec<HistoryEvent>, Vec<Violation>, Outline);

/// A run as a list shows it.
#[derive(Clone)]
struct Listed {
    workflow_id: String,
    run_id: String,
    status: WorkflowExecutionStatus,
}

/// Ends with 1 if a rule is broken, and with 2 if it could not look.
pub fn run(args: &VerifyArgs) -> ExitCode {
    match look_and_print(args) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("stanchion: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// How many violations there are.
fn look_and_print(args: &VerifyArgs) -> anyhow::Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reports = runtime.block_on(verify(args))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    } else {
        for Report { namespace, runs, events, violations } in &reports {
            println!("namespace {namespace}: {runs} runs, {events} events, {} violations", violations.len());
            violations.iter().for_each(|violation| println!("  {violation}"));
        }
    }
    Ok(reports.iter().map(|report| report.violations.len()).sum())
}

async fn verify(args: &VerifyArgs) -> anyhow::Result<Vec<Report>> {
    if let Some(path) = &args.histories {
        return Ok(verify_files(files::read(path)?));
    }
    let mut export = args.export.as_deref().map(Export::into).transpose()?;
    let cluster = Cluster {
        nodes: Nodes::new(&args.address, MESSAGE_BYTES_MAX)?,
        at_once: args.at_once.max(1),
        within: Duration::from_secs(args.within),
    };
    let namespaces = if args.namespace.is_empty() { cluster.namespaces().await? } else { args.namespace.clone() };
    let mut reports = Vec::new();
    for namespace in namespaces {
        let looked = cluster.verify(&namespace, export.as_mut()).await;
        reports.push(looked.with_context(|| format!("namespace {namespace}"))?);
    }
    if let Some(export) = export {
        export.finish()?;
    }
    Ok(reports)
}

/// Rules over histories that are all there is: nothing changes any more. A namespace without a name is that of files without a manifest.
fn verify_files(histories: Vec<Kept>) -> Vec<Report> {
    let mut reports: BTreeMap<String, (Report, Vec<Outline>)> = BTreeMap::new();
    for Kept { namespace, workflow_id, run_id, events } in histories {
        let (report, outlines) = reports.entry(namespace).or_default();
        report.runs += 1;
        report.events += events.len();
        let violations = history::check(&workflow_id, &run_id, &events);
        report.violations.extend(violations.iter().map(ToString::to_string));
        outlines.push(Outline::of(&workflow_id, &run_id, &events));
    }
    let judged = reports.into_iter().map(|(namespace, (mut report, outlines))| {
        report.violations.extend(between::check(&outlines).iter().map(ToString::to_string));
        Report { namespace, ..report }
    });
    judged.collect()
}

struct Cluster {
    nodes: Nodes,
    /// Histories read at the same time.
    at_once: usize,
    /// A call is repeated, on other nodes too, for so long.
    within: Duration,
}

impl Cluster {
    async fn verify(&self, namespace: &str, mut export: Option<&mut Export>) -> anyhow::Result<Report> {
        let mut report = Report { namespace: namespace.to_owned(), ..Default::default() };
        let (listed, miscounted) = self.list_and_count(namespace).await?;
        report.violations.extend(miscounted);
        let mut outlines: BTreeMap<String, Outline> = BTreeMap::new();
        let mut looked =
            futures::stream::iter(listed.iter().map(|run| self.look(namespace, run))).buffer_unordered(self.at_once);
        while let Some(run) = looked.try_next().await? {
            let Some((events, violations, outline)) = run else { continue };
            if let Some(export) = export.as_mut() {
                export.add(namespace, &outline.workflow_id, &outline.run_id, &events)?;
            }
            report.runs += 1;
            report.events += events.len();
            report.violations.extend(violations.iter().map(ToString::to_string));
            outlines.insert(outline.run_id.clone(), outline);
        }
        report.violations.extend(self.look_between(namespace, outlines).await?.iter().map(ToString::to_string));
        Ok(report)
    }

    /// I2: a count is the number of rows, whenever nothing came or went meanwhile.
    async fn list_and_count(&self, namespace: &str) -> anyhow::Result<(Vec<Listed>, Option<String>)> {
        let mut miscounted = None;
        for _ in 0..LOOKS {
            let before = self.count(namespace).await?;
            let listed = self.list(namespace).await?;
            let after = self.count(namespace).await?;
            if before == after && after != listed.len() as i64 {
                miscounted = Some(format!("I2: {after} runs are counted and {} listed", listed.len()));
                continue;
            }
            return Ok((listed, None));
        }
        Ok((self.list(namespace).await?, miscounted))
    }

    /// Rules over one run: its events, what they break, and what it says of other runs. None if it is gone.
    async fn look(&self, namespace: &str, run: &Listed) -> anyhow::Result<Option<Looked>> {
        let Some(events) = self.history(namespace, run).await? else { return Ok(None) };
        let mut violations = history::check(&run.workflow_id, &run.run_id, &events);
        let outline = Outline::of(&run.workflow_id, &run.run_id, &events);
        if let Some(listed) = ending(run.status)
            && outline.closed() != Some(listed)
        {
            violations.push(Violation {
                rule: "I1",
                workflow_id: run.workflow_id.clone(),
                run_id: run.run_id.clone(),
                event_id: events.len() as i64,
                what: format!("it is listed as {:?}, and its history says {:?}", run.status, outline.closed()),
            });
        }
        Ok(Some((events, violations, outline)))
    }

    /// Rules between runs. Those that were open when they were read are read again, as long as that changes the verdict.
    async fn look_between(
        &self,
        namespace: &str,
        mut outlines: BTreeMap<String, Outline>,
    ) -> anyhow::Result<Vec<Violation>> {
        let mut violations = Vec::new();
        for look in 0..LOOKS {
            let runs: Vec<Outline> = outlines.values().cloned().collect();
            violations = between::check(&runs);
            if violations.is_empty() || look + 1 == LOOKS {
                break;
            }
            for open in runs.iter().filter(|run| run.closed().is_none()) {
                let status = WorkflowExecutionStatus::Running;
                let run = Listed { workflow_id: open.workflow_id.clone(), run_id: open.run_id.clone(), status };
                match self.history(namespace, &run).await? {
                    Some(events) => {
                        let outline = Outline::of(&run.workflow_id, &run.run_id, &events);
                        outlines.insert(run.run_id, outline);
                    }
                    None => {
                        outlines.remove(&run.run_id);
                    }
                }
            }
        }
        Ok(violations)
    }

    async fn namespaces(&self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut next_page_token = Default::default();
        loop {
            let request = ListNamespacesRequest { page_size: 100, next_page_token, ..Default::default() };
            let answer = self.nodes.call(self.within, |mut node| {
                let request = request.clone();
                async move { node.list_namespaces(request).await }
            });
            let page = answer.await.context("ListNamespaces")?.into_inner();
            names.extend(page.namespaces.into_iter().filter_map(|found| Some(found.namespace_info?.name)));
            if page.next_page_token.is_empty() {
                return Ok(names);
            }
            next_page_token = page.next_page_token;
        }
    }

    async fn count(&self, namespace: &str) -> anyhow::Result<i64> {
        let request = CountWorkflowExecutionsRequest { namespace: namespace.to_owned(), ..Default::default() };
        let answer = self.nodes.call(self.within, |mut node| {
            let request = request.clone();
            async move { node.count_workflow_executions(request).await }
        });
        Ok(answer.await.context("CountWorkflowExecutions")?.into_inner().count)
    }

    async fn list(&self, namespace: &str) -> anyhow::Result<Vec<Listed>> {
        let mut listed = BTreeMap::new();
        let mut next_page_token = Default::default();
        loop {
            let (namespace, page_size) = (namespace.to_owned(), RUNS_A_PAGE);
            let request = ListWorkflowExecutionsRequest { namespace, page_size, next_page_token, ..Default::default() };
            let answer = self.nodes.call(self.within, |mut node| {
                let request = request.clone();
                async move { node.list_workflow_executions(request).await }
            });
            let page = answer.await.context("ListWorkflowExecutions")?.into_inner();
            for run in page.executions {
                let status = run.status();
                let WorkflowExecution { workflow_id, run_id } = run.execution.unwrap_or_default();
                // A run that closes between two pages stands on both.
                listed.insert(run_id.clone(), Listed { workflow_id, run_id, status });
            }
            if page.next_page_token.is_empty() {
                return Ok(listed.into_values().collect());
            }
            next_page_token = page.next_page_token;
        }
    }

    /// All events of a run; none if there is no such run any more.
    async fn history(&self, namespace: &str, run: &Listed) -> anyhow::Result<Option<Vec<HistoryEvent>>> {
        let mut events = Vec::new();
        let mut next_page_token = Default::default();
        loop {
            let (workflow_id, run_id) = (run.workflow_id.clone(), run.run_id.clone());
            let request = GetWorkflowExecutionHistoryRequest {
                namespace: namespace.to_owned(),
                execution: Some(WorkflowExecution { workflow_id, run_id }),
                next_page_token,
                ..Default::default()
            };
            let answer = self.nodes.call(self.within, |mut node| {
                let request = request.clone();
                async move { node.get_workflow_execution_history(request).await }
            });
            let page = match answer.await {
                Ok(page) => page.into_inner(),
                Err(status) if is_gone(&status) => return Ok(None),
                Err(status) => return Err(status).with_context(|| format!("the history of run {}", run.run_id)),
            };
            events.extend(
                History::decode(page.history.unwrap_or_default()).context("a history that does not decode")?.events,
            );
            if page.next_page_token.is_empty() {
                return Ok(Some(events));
            }
            next_page_token = page.next_page_token;
        }
    }
}

fn is_gone(status: &Status) -> bool {
    status.code() == Code::NotFound
}

/// How a listed run ended; none while it is open.
fn ending(status: WorkflowExecutionStatus) -> Option<Ending> {
    use WorkflowExecutionStatus::*;
    Some(match status {
        Completed => Ending::Completed,
        Failed => Ending::Failed,
        Canceled => Ending::Canceled,
        TimedOut => Ending::TimedOut,
        Terminated => Ending::Terminated,
        ContinuedAsNew => Ending::ContinuedAsNew,
        Running | Paused | Unspecified => return None,
    })
}
