//! Drives batch operations: the leader of a job's group works on it, a page of executions at a time, and records each step.
//!
//! ```text
//! recorded page --> next page is looked up --> the operation on each execution of the recorded page, by an ordinary call with a
//!      ^            request id made from the job and the execution --> AdvanceBatch: outcome, and the next page --+
//!      +----------------------------------------------------------------------------------------------------------+
//! ```
//!
//! Whoever leads the group next goes on with the recorded page: what was done of it already does nothing the second time.
//!
//! Never: a rule about what an operation does (each is the call that a client would make); work on a page that is not recorded.
//!
//! [`drive_all`] is started with the node, and woken by terms that have found jobs.

mod operation;
mod targets;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use stanchion_engine::batch::{self, Work};
use stanchion_engine::effects::BatchJob;
use stanchion_engine::{Rejection, Reply};
use stanchion_proto::command::{AdvanceBatch, command::Kind};
use tokio::sync::Notify;

use crate::grpc::workflow::command;
use crate::meta::Namespace;
use crate::node::Node;
use crate::shell::{CallError, LeaderTerm};
use targets::Selection;
pub use targets::{entity_of, running};

/// Calls under way for one job.
const AT_ONCE: usize = 8;
/// Waits after a step that failed.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// A list or a count over all groups.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// A job, and what its steps work with.
struct Job<'a> {
    node: &'a Arc<Node>,
    job_id: &'a str,
    namespace: Namespace,
}

/// Drives the jobs of all groups that this node leads, for as long as the node lives.
pub async fn drive_all(node: Arc<Node>, found: Arc<Notify>) {
    loop {
        found.notified().await;
        for term in node.shells.terms() {
            for job in term.take_batches() {
                tokio::spawn(drive(node.clone(), term.clone(), job));
            }
        }
    }
}

/// Takes steps until the job is over or this node no longer leads its group.
async fn drive(node: Arc<Node>, term: Arc<LeaderTerm>, job: BatchJob) {
    let mut pause = AGAIN_MIN;
    loop {
        let stepped = tokio::select! {
            () = term.ended() => return,
            stepped = step(&node, &term, &job) => stepped,
        };
        match stepped {
            Ok(None) => return,
            Ok(Some(next_at)) => {
                pause = AGAIN_MIN;
                tokio::select! {
                    () = term.ended() => return,
                    () = tokio::time::sleep_until(next_at.into()) => {}
                }
            }
            Err(error) => {
                tracing::warn!(job_id = job.job_id, group = %term.group(), %error, "a step of a batch operation is tried again");
                tokio::select! {
                    () = term.ended() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(AGAIN_MAX);
            }
        }
    }
}

/// Takes the next step. When the one after it may begin; none once the job is over.
async fn step(node: &Arc<Node>, term: &LeaderTerm, job: &BatchJob) -> Result<Option<Instant>, CallError> {
    let BatchJob { namespace_id, job_id } = job;
    let Some(work) = term.read(|reader| batch::work(reader, namespace_id, job_id)).await? else { return Ok(None) };
    let namespace = Namespace { id: namespace_id.clone(), name: work.row.namespace.clone() };
    let job = Job { node, job_id, namespace };
    let begun = Instant::now();
    let per_second = per_second(&job, &work);

    let advance = match look(&job, &work, per_second).await {
        Ok(mut advance) => {
            // Looked up before: a page whose successor cannot be found is not worked on again and again.
            (advance.completed, advance.failed) = work_on(&job, &work, per_second).await;
            advance
        }
        Err(CallError::Rejected(rejection)) => refused(&job, &work, &rejection),
        Err(error) => return Err(error),
    };
    let is_over = advance.next.is_none();
    // Stale: it was stopped meanwhile. The next look at it shows that.
    match term.propose(command(&job.namespace, Kind::AdvanceBatch(advance))).await? {
        Reply::Done | Reply::Stale => {}
        reply => return Err(CallError::Fatal(format!("a step of a batch operation was answered with {reply:?}"))),
    }
    let takes = Duration::from_secs_f64(work.page.targets.len() as f64 / per_second);
    Ok((!is_over).then(|| begun + takes))
}

/// Executions a second, as the request has it but no more than the node's limit.
fn per_second(job: &Job<'_>, work: &Work) -> f64 {
    let most = job.node.limits.batch_executions_per_second_max.max(1) as f64;
    let asked = f64::from(work.request.max_operations_per_second);
    // Slower than one in ten minutes is no rate that anybody means.
    if asked > 0.0 { asked.clamp(1.0 / 600.0, most) } else { most }
}

/// What is next: the first time how many there are too.
async fn look(job: &Job<'_>, work: &Work, per_second: f64) -> Result<AdvanceBatch, CallError> {
    let mut advance = AdvanceBatch { job_id: job.job_id.to_owned(), step: work.row.step, ..Default::default() };
    if work.page.last {
        return Ok(advance);
    }
    let deadline = Instant::now() + LOOK_WITHIN;
    let selection = Selection::of(job, &work.request).await?;
    if work.row.step == 0 {
        advance.total = selection.count(job, deadline).await?;
    }
    // What a second allows, so that progress is seen every second, and no more than that is done again after a failover.
    let size = per_second.ceil() as usize;
    let next = selection.page(job, &work.page.cursor, size, deadline).await?;
    let is_empty = next.last && next.targets.is_empty();
    advance.next = (!is_empty).then_some(next);
    Ok(advance)
}

/// The filter is not one, or has become one that is not.
fn refused(job: &Job<'_>, work: &Work, rejection: &Rejection) -> AdvanceBatch {
    tracing::info!(job_id = job.job_id, %rejection, "a batch operation failed: its filter was refused");
    AdvanceBatch { job_id: job.job_id.to_owned(), step: work.row.step, refused: true, ..Default::default() }
}

/// Does the operation on the recorded page, evenly over its time: on how many executions it was done, and on how many it failed.
async fn work_on(job: &Job<'_>, work: &Work, per_second: f64) -> (i64, i64) {
    let begun = Instant::now();
    let each = work.page.targets.iter().cloned().enumerate();
    let calls = each.map(|(place, target)| async move {
        let due = begun + Duration::from_secs_f64(place as f64 / per_second);
        tokio::time::sleep_until(due.into()).await;
        operation::perform(job, &work.request, &target).await
    });
    let mut outcomes = futures::stream::iter(calls).buffer_unordered(AT_ONCE);
    let (mut completed, mut failed) = (0, 0);
    while let Some(is_done) = outcomes.next().await {
        *(if is_done { &mut completed } else { &mut failed }) += 1;
    }
    (completed, failed)
}
