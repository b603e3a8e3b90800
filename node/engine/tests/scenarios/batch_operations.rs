//! Batch operations: a page is recorded before it is worked on, a step counts once, and what is over stays over until its retention ends.

use stanchion_engine::effects::BatchJob;
use stanchion_engine::read::visibility::{Query, count};
use stanchion_engine::reply::Reply;
use stanchion_engine::time::SECOND;
use stanchion_engine::visibility::{Entity, Filter};
use stanchion_engine::{StateReader, Table, batch};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{AdvanceBatch, StartBatch, StopBatch};
use stanchion_proto::row::{BatchPageRow, BatchTargetRow};
use stanchion_proto::temporal::batch::v1::BatchOperationSignal;
use stanchion_proto::temporal::enums::v1::{BatchOperationState, BatchOperationType};
use stanchion_proto::temporal::workflowservice::v1::StartBatchOperationRequest;
use stanchion_proto::temporal::workflowservice::v1::start_batch_operation_request::Operation;

use crate::scenario::*;

const JOB: &str = "job";

fn begin(w: &mut World, request_id: &str) -> String {
    let signal = BatchOperationSignal { signal: "s".into(), identity: "operator".into(), ..Default::default() };
    let request = StartBatchOperationRequest {
        job_id: JOB.into(),
        reason: "because".into(),
        visibility_query: "WorkflowType = 'T'".into(),
        operation: Some(Operation::SignalOperation(signal)),
        ..Default::default()
    };
    let reply = w.apply(Kind::StartBatch(StartBatch { request: Some(request), request_id: request_id.into() }));
    w.shown(&reply)
}

fn page(ids: &[&str], last: bool) -> Option<BatchPageRow> {
    let target = |id: &&str| BatchTargetRow { workflow_id: (*id).to_owned(), run_id: String::new() };
    Some(BatchPageRow { targets: ids.iter().map(target).collect(), cursor: "behind".into(), last })
}

fn advance(w: &mut World, step: u64, change: impl FnOnce(&mut AdvanceBatch)) -> Reply {
    let mut advance = AdvanceBatch { job_id: JOB.into(), step, ..Default::default() };
    change(&mut advance);
    w.apply(Kind::AdvanceBatch(advance))
}

fn stop(w: &mut World) -> String {
    let stop = StopBatch { job_id: JOB.into(), reason: "enough".into(), identity: "operator".into() };
    let reply = w.apply(Kind::StopBatch(stop));
    w.shown(&reply)
}

/// State, steps, and total, completed, failed.
fn job(w: &World) -> (BatchOperationState, u64, [i64; 3]) {
    let (row, request) = batch::read(&w.state, NAMESPACE, JOB).unwrap().expect("a job");
    assert_eq!(request.reason, "because");
    assert_eq!((row.identity.as_str(), row.operation_type), ("operator", BatchOperationType::SignalWorkflow as i32));
    (BatchOperationState::try_from(row.state).unwrap(), row.step, [row.total, row.completed, row.failed])
}

/// What a new leader would go on with.
fn waiting(w: &World) -> Vec<BatchJob> {
    batch::running(&w.state, batch::home_of(NAMESPACE, JOB)).unwrap()
}

/// How many are listed of each state.
fn listed(w: &World) -> Vec<(i32, u64)> {
    let query = Query {
        namespace_id: NAMESPACE,
        entity: Entity::Batch,
        divisions: false,
        filter: &Filter::All,
        gathered_max: 0,
        keep_going: &|| true,
    };
    count(&w.state, &[batch::home_of(NAMESPACE, JOB)], &query, true).unwrap().into_iter().collect()
}

#[test]
fn a_job_goes_page_by_page_to_its_end() {
    let mut w = World::new();
    assert_eq!(begin(&mut w, "r"), "done");
    let this = BatchJob { namespace_id: NAMESPACE.into(), job_id: JOB.into() };
    assert_eq!(w.effects.batches, std::slice::from_ref(&this), "the leader that started it drives it");
    assert_eq!(waiting(&w), [this]);
    assert_eq!(listed(&w), [(BatchOperationState::Running as i32, 1)]);

    advance(&mut w, 0, |step| (step.total, step.next) = (3, page(&["a", "b"], false)));
    assert_eq!(job(&w), (BatchOperationState::Running, 1, [3, 0, 0]));
    let work = batch::work(&w.state, NAMESPACE, JOB).unwrap().expect("work");
    assert_eq!(Some(work.page), page(&["a", "b"], false), "whoever leads now works on this page and no other");

    advance(&mut w, 1, |step| (step.completed, step.failed, step.next) = (1, 1, page(&["c", "d"], true)));
    assert_eq!(job(&w), (BatchOperationState::Running, 2, [3, 1, 1]));
    advance(&mut w, 2, |step| step.completed = 2);
    // One more came than was counted.
    assert_eq!(job(&w), (BatchOperationState::Completed, 3, [4, 3, 1]));
    assert!(waiting(&w).is_empty() && batch::work(&w.state, NAMESPACE, JOB).unwrap().is_none());
    assert_eq!(listed(&w), [(BatchOperationState::Completed as i32, 1)]);
    w.check();
}

#[test]
fn a_step_that_another_leader_has_taken_counts_once() {
    let mut w = World::new();
    begin(&mut w, "r");
    advance(&mut w, 0, |step| (step.total, step.next) = (2, page(&["a", "b"], false)));
    let done = |step: &mut AdvanceBatch| (step.completed, step.next) = (2, page(&["c"], true));
    assert_eq!(advance(&mut w, 1, done), Reply::Done);
    assert_eq!(advance(&mut w, 1, done), Reply::Stale);
    assert_eq!(advance(&mut w, 7, done), Reply::Stale);
    assert_eq!(job(&w), (BatchOperationState::Running, 2, [2, 2, 0]));
}

#[test]
fn a_stopped_job_has_failed_and_takes_no_step_more() {
    let mut w = World::new();
    assert_eq!(stop(&mut w), "NotFound: workflow not found for ID: job");
    begin(&mut w, "r");
    advance(&mut w, 0, |step| (step.total, step.next) = (5, page(&["a"], false)));
    assert_eq!(stop(&mut w), "done");
    assert_eq!(advance(&mut w, 1, |step| step.completed = 1), Reply::Stale);
    assert_eq!(job(&w), (BatchOperationState::Failed, 1, [5, 0, 0]));
    assert_eq!(stop(&mut w), "NotFound: workflow execution already completed");
    assert!(waiting(&w).is_empty());
    w.check();
}

#[test]
fn a_filter_that_is_none_fails_the_job() {
    let mut w = World::new();
    begin(&mut w, "r");
    advance(&mut w, 0, |step| step.refused = true);
    assert_eq!(job(&w), (BatchOperationState::Failed, 1, [0, 0, 0]));
    assert_eq!(listed(&w), [(BatchOperationState::Failed as i32, 1)]);
}

#[test]
fn a_job_id_is_taken_until_its_retention_ends() {
    let mut w = World::new();
    w.retention = 60 * SECOND;
    begin(&mut w, "r");
    assert_eq!(begin(&mut w, "r"), "done", "the same call again");
    assert!(w.effects.batches.is_empty());
    let refused = begin(&mut w, "another");
    assert!(refused.starts_with("AlreadyExists: Workflow execution is already running. WorkflowId: job"), "{refused}");
    advance(&mut w, 0, |_| ());
    assert_eq!(job(&w).0, BatchOperationState::Completed);
    let refused = begin(&mut w, "another");
    assert!(refused.starts_with("AlreadyExists: Workflow execution already finished. WorkflowId: job"), "{refused}");

    w.pass(61);
    w.fire_timers();
    assert!(batch::read(&w.state, NAMESPACE, JOB).unwrap().is_none());
    assert!(listed(&w).is_empty());
    let rows = w.state.range(batch::home_of(NAMESPACE, JOB), Table::Batch, &[], &[], 10).unwrap();
    assert!(rows.is_empty(), "{rows:?}");
    assert_eq!(begin(&mut w, "another"), "done");
    w.check();
}
