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
use tokio::time::Instant;

use super::Nodes;
use super::call::{Told, had_no_effect};
use super::workers::{Worker, nanos};
use crate::ledger::{Handed, Line, Outcome, What, digest};
use crate::program::commands::{ActivityInput, attempt_ends, failure, payloads};
use crate::program::read_payload;

/// Late heartbeats are counted from here on.
const LATE: u32 = 1_000;
const BETWEEN_LATE: Duration = Duration::from_millis(80);

/// What a heartbeat was answered.
enum Beat {
    GoOn,
    Cancel,
    Superseded,
}

/// The attempt that lines of the ledger are about.
struct Whose {
    worker: String,
    workflow_id: String,
    run_id: String,
    activity_id: String,
    attempt: u32,
    token: Vec<u8>,
}

impl Whose {
    fn line(&self, what: What) -> Line {
        Line {
            at: 0,
            worker: self.worker.clone(),
            workflow_id: self.workflow_id.clone(),
            run_id: self.run_id.clone(),
            activity_id: self.activity_id.clone(),
            attempt: self.attempt,
            token: digest(&self.token),
            what,
        }
    }
}

pub async fn perform<N: Nodes>(worker: &mut Worker<N>, task: PollActivityTaskQueueResponse, eager: bool) {
    let began = Instant::now();
    let attempt = u32::try_from(task.attempt).unwrap_or_default();
    let execution = task.workflow_execution.clone().unwrap_or_default();
    let whose = Whose {
        worker: worker.name.clone(),
        workflow_id: execution.workflow_id,
        run_id: execution.run_id,
        activity_id: task.activity_id.clone(),
        attempt,
        token: task.task_token.clone(),
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
    worker.ledger.note(whose.line(What::Began { handed }));
    let input: ActivityInput = match read_payload(task.input.as_ref()) {
        Ok(input) => input,
        Err(error) => {
            worker
                .ledger
                .note(whose.line(What::Nondeterminism { difference: format!("an activity's input: {error}") }));
            return;
        }
    };
    let mut canceled = false;
    for beat in 0..input.activity.beats {
        tokio::time::sleep(Duration::from_millis(input.activity.beat_every_ms)).await;
        match heartbeat(worker, &whose, json!([attempt, beat])).await {
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
        worker.ledger.note(whose.line(What::Abandoned));
        if hangs && input.activity.late_beats > 0 {
            let time = Duration::from_millis(input.activity.start_to_close_ms);
            let late = Late { input, whose, after: time.saturating_sub(began.elapsed()) };
            if eager {
                late.go_on(worker).await;
            } else {
                worker.beside("late", &task.task_token, |mut worker| async move { late.go_on(&mut worker).await });
            }
        }
        return;
    }
    let outcome = match attempt_ends(&input, attempt) {
        _ if canceled => Outcome::Canceled,
        Ok(result) => Outcome::Completed(result),
        Err((message, retryable)) => Outcome::Failed { retryable, message },
    };
    report(worker, &whose, outcome.clone()).await;
    if worker.caller.chance(worker.load.mischief.repeats_completion) {
        report(worker, &whose, outcome).await;
    }
}

/// An attempt that nobody waits for any more, and that does not know.
struct Late {
    input: ActivityInput,
    whose: Whose,
    /// Its time is up then.
    after: Duration,
}

impl Late {
    /// Heartbeats that are heard only while no later attempt has begun; then, unless it was heard to the last, a result that must be refused.
    async fn go_on<N: Nodes>(self, worker: &mut Worker<N>) {
        tokio::time::sleep(self.after).await;
        let mut is_superseded = false;
        for beat in 0..self.input.activity.late_beats {
            let details = json!([self.whose.attempt, LATE + beat]);
            is_superseded = matches!(heartbeat(worker, &self.whose, details).await, Beat::Superseded);
            tokio::time::sleep(BETWEEN_LATE).await;
        }
        if is_superseded {
            let result = json!({ "path": self.input.path, "late": self.whose.attempt });
            report(worker, &self.whose, Outcome::Completed(result)).await;
        }
    }
}

async fn heartbeat<N: Nodes>(worker: &mut Worker<N>, whose: &Whose, details: Value) -> Beat {
    worker.ledger.note(whose.line(What::Beats { details: details.clone() }));
    let request = RecordActivityTaskHeartbeatRequest {
        task_token: whose.token.clone(),
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
            worker.ledger.note(whose.line(What::BeatAcknowledged { details, cancel_requested }));
            if cancel_requested { Beat::Cancel } else { Beat::GoOn }
        }
        Err(status) if status.code() == tonic::Code::NotFound => {
            worker.ledger.note(whose.line(What::BeatRefused { error: status.message().to_owned() }));
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

async fn report<N: Nodes>(worker: &mut Worker<N>, whose: &Whose, outcome: Outcome) {
    worker.ledger.note(whose.line(What::Ended { outcome: outcome.clone() }));
    let (task_token, identity, namespace) = (whose.token.clone(), worker.name.clone(), worker.load.namespace.clone());
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
    worker.ledger.note(whose.line(told));
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
