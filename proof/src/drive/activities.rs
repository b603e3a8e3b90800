//! One attempt of an activity: the work that its input describes, noted in the ledger as it is done.
//!
//! Called by workers for each task that they are handed, eagerly or by a poll.

use std::time::Duration;

use prost_types::Timestamp;
use serde_json::{Value, json};
use stanchion_proto::temporal::workflowservice::v1::{
    PollActivityTaskQueueResponse, RecordActivityTaskHeartbeatRequest, RespondActivityTaskCanceledRequest,
    RespondActivityTaskCompletedRequest, RespondActivityTaskFailedRequest,
};

use super::Nodes;
use super::call::{Told, had_no_effect};
use super::workers::{Worker, nanos};
use crate::ledger::{Handed, Line, Outcome, What, digest};
use crate::program::commands::{ActivityInput, attempt_ends, failure, payloads};
use crate::program::read_payload;

/// What a heartbeat was answered.
enum Beat {
    GoOn,
    Cancel,
    Superseded,
}

pub async fn perform<N: Nodes>(worker: &mut Worker<N>, task: PollActivityTaskQueueResponse, eager: bool) {
    let attempt = u32::try_from(task.attempt).unwrap_or_default();
    let execution = task.workflow_execution.clone().unwrap_or_default();
    let name = worker.name.clone();
    let line = |what| Line {
        at: 0,
        worker: name.clone(),
        workflow_id: execution.workflow_id.clone(),
        run_id: execution.run_id.clone(),
        activity_id: task.activity_id.clone(),
        attempt,
        token: digest(&task.task_token),
        what,
    };
    let details = read_payload::<Value>(task.heartbeat_details.as_ref()).unwrap_or(Value::Null);
    let handed = Handed {
        scheduled_at: since_epoch(task.scheduled_time),
        attempt_scheduled_at: since_epoch(task.current_attempt_scheduled_time),
        started_at: since_epoch(task.started_time),
        schedule_to_close: nanos(task.schedule_to_close_timeout.as_ref()),
        start_to_close: nanos(task.start_to_close_timeout.as_ref()),
        heartbeat: nanos(task.heartbeat_timeout.as_ref()),
        details,
        eager,
    };
    worker.ledger.note(line(What::Began { handed }));
    let input: ActivityInput = match read_payload(task.input.as_ref()) {
        Ok(input) => input,
        Err(error) => {
            worker.ledger.note(line(What::Nondeterminism { difference: format!("an activity's input: {error}") }));
            return;
        }
    };
    let mut canceled = false;
    for beat in 0..input.activity.beats {
        tokio::time::sleep(Duration::from_millis(input.activity.beat_every_ms)).await;
        match heartbeat(worker, &line, &task.task_token, json!([attempt, beat])).await {
            Beat::GoOn => {}
            Beat::Cancel => {
                canceled = true;
                break;
            }
            Beat::Superseded => return,
        }
    }
    let hangs = attempt <= input.activity.hangs && !canceled;
    if hangs || worker.caller.chance(worker.load.mischief.drops_activity) {
        worker.ledger.note(line(What::Abandoned));
        return;
    }
    let outcome = match attempt_ends(&input, attempt) {
        _ if canceled => Outcome::Canceled,
        Ok(result) => Outcome::Completed(result),
        Err((message, retryable)) => Outcome::Failed { retryable, message },
    };
    report(worker, &line, &task.task_token, outcome.clone()).await;
    if worker.caller.chance(worker.load.mischief.repeats_completion) {
        report(worker, &line, &task.task_token, outcome).await;
    }
}

async fn heartbeat<N: Nodes>(
    worker: &mut Worker<N>,
    line: &impl Fn(What) -> Line,
    token: &[u8],
    details: Value,
) -> Beat {
    worker.ledger.note(line(What::Beats { details: details.clone() }));
    let request = RecordActivityTaskHeartbeatRequest {
        task_token: token.to_vec(),
        details: Some(payloads(&details)),
        identity: worker.name.clone(),
        namespace: worker.load.namespace.clone(),
        ..Default::default()
    };
    let within = worker.load.timings.call;
    match worker.caller.once(request, within, |mut c, r| async move { c.record_activity_task_heartbeat(r).await }).await
    {
        Ok(answer) => {
            let cancel_requested = answer.cancel_requested;
            worker.ledger.note(line(What::BeatAcknowledged { details, cancel_requested }));
            if cancel_requested { Beat::Cancel } else { Beat::GoOn }
        }
        Err(status) if status.code() == tonic::Code::NotFound => {
            worker.ledger.note(line(What::BeatRefused { error: status.message().to_owned() }));
            Beat::Superseded
        }
        Err(status) => {
            if !had_no_effect(&status) {
                worker.caller.next_node();
            }
            Beat::GoOn
        }
    }
}

async fn report<N: Nodes>(worker: &mut Worker<N>, line: &impl Fn(What) -> Line, token: &[u8], outcome: Outcome) {
    worker.ledger.note(line(What::Ended { outcome: outcome.clone() }));
    let (task_token, identity, namespace) = (token.to_vec(), worker.name.clone(), worker.load.namespace.clone());
    let told = match outcome {
        Outcome::Completed(value) => {
            let result = Some(payloads(&value));
            let request =
                RespondActivityTaskCompletedRequest { task_token, result, identity, namespace, ..Default::default() };
            let call = |mut c: super::call::Client, r| async move { c.respond_activity_task_completed(r).await };
            known(worker.caller.ask(request, call).await)
        }
        Outcome::Failed { retryable, message } => {
            let failure = Some(failure(&message, !retryable, None));
            let request =
                RespondActivityTaskFailedRequest { task_token, failure, identity, namespace, ..Default::default() };
            let call = |mut c: super::call::Client, r| async move { c.respond_activity_task_failed(r).await };
            known(worker.caller.ask(request, call).await)
        }
        Outcome::Canceled => {
            let request = RespondActivityTaskCanceledRequest { task_token, identity, namespace, ..Default::default() };
            let call = |mut c: super::call::Client, r| async move { c.respond_activity_task_canceled(r).await };
            known(worker.caller.ask(request, call).await)
        }
    };
    worker.ledger.note(line(told));
}

fn known<T>(told: Told<T>) -> What {
    match told {
        Told::Ok(_) => What::Acknowledged,
        Told::Fail(status) => What::Refused { error: format!("{:?}: {}", status.code(), status.message()) },
        Told::Unknown(status) => What::Unknown { error: format!("{:?}: {}", status.code(), status.message()) },
    }
}

fn since_epoch(time: Option<Timestamp>) -> i64 {
    time.map_or(0, |at| at.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(at.nanos)))
}
