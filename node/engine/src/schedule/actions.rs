//! Acting: from actions that wait to start messages, and messages that end what an overlap policy wants ended.
//!
//! Never: a start for an action that stays in the buffer; two starts with one number.

use bytes::Bytes;
use stanchion_proto::row::{
    BufferedStartRow, ScheduledByRow, StartScheduled, StartingRow, StopScheduled, outbox_message,
};
use stanchion_proto::temporal::common::v1::{Payload, SearchAttributes};
use stanchion_proto::temporal::enums::v1::{ScheduleOverlapPolicy, WorkflowIdReusePolicy};
use stanchion_proto::temporal::workflow::v1::NewWorkflowExecutionInfo;
use stanchion_proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest;

use super::date::DateTime;
use super::overlap;
use super::schedule::Schedule;
use crate::outbox::{self, Destination};
use crate::time::SECOND;
use crate::transaction::Transaction;
use crate::validate::absent;

/// Search attributes of every run that a schedule starts.
const SCHEDULED_START_TIME: &str = "TemporalScheduledStartTime";
const SCHEDULED_BY_ID: &str = "TemporalScheduledById";

/// Starts what may be started now; what must wait goes on waiting.
pub fn act(tx: &mut Transaction<'_>, schedule: &mut Schedule) {
    if tx.retention > 0 {
        schedule.row.retention = tx.retention;
    }
    // Again while an action was refused: the one behind it may go.
    while pass(tx, schedule) {}
}

/// True: an action was refused, because the schedule is paused or has used up its actions.
fn pass(tx: &mut Transaction<'_>, schedule: &mut Schedule) -> bool {
    let waiting = std::mem::take(&mut schedule.row.buffered);
    let Some(action) = schedule.action().filter(|_| !waiting.is_empty()).cloned() else { return false };
    let decision = overlap::decide(waiting, is_running(schedule), schedule.overlap_policy());
    schedule.row.buffered = decision.kept;
    schedule.row.overlap_skipped += decision.skipped;
    let mut refused = false;
    let overlapping = decision.overlapping.into_iter().map(|start| (start, true));
    for (start, overlapping) in overlapping.chain(decision.next.map(|start| (start, false))) {
        if schedule.use_action(start.manual) {
            send_start(tx, schedule, &action, &start, overlapping);
        } else {
            refused = true;
        }
    }
    if decision.terminate || decision.cancel {
        end_running(tx, schedule, decision.terminate);
    }
    refused
}

fn is_running(schedule: &Schedule) -> bool {
    !schedule.row.running.is_empty() || schedule.row.starting.iter().any(|starting| !starting.overlapping)
}

fn send_start(
    tx: &mut Transaction<'_>,
    schedule: &mut Schedule,
    action: &NewWorkflowExecutionInfo,
    start: &BufferedStartRow,
    overlapping: bool,
) {
    schedule.row.starts += 1;
    let number = schedule.row.starts;
    let nominal = DateTime::of(start.nominal_at.div_euclid(SECOND)).to_string();
    let workflow_id = format!("{}-{nominal}", action.workflow_id);
    let alone = start.overlap_policy == ScheduleOverlapPolicy::AllowAll as i32;
    // A matching time leads to one run for ever; somebody who asks for another one may have it.
    let reuse =
        if start.manual { WorkflowIdReusePolicy::AllowDuplicate } else { WorkflowIdReusePolicy::RejectDuplicate };
    let mut memo = action.memo.clone();
    absent::drop_from_memo(&mut memo);
    let request = StartWorkflowExecutionRequest {
        namespace: schedule.row.namespace.clone(),
        workflow_id: workflow_id.clone(),
        workflow_type: action.workflow_type.clone(),
        task_queue: action.task_queue.clone(),
        input: action.input.clone(),
        workflow_execution_timeout: action.workflow_execution_timeout,
        workflow_run_timeout: action.workflow_run_timeout,
        workflow_task_timeout: action.workflow_task_timeout,
        identity: identity(schedule),
        request_id: tx.ids.uuid(),
        workflow_id_reuse_policy: reuse as i32,
        retry_policy: action.retry_policy.clone(),
        memo,
        search_attributes: Some(search_attributes(action.search_attributes.clone(), &nominal, &schedule.id)),
        header: action.header.clone(),
        last_completion_result: if alone { None } else { schedule.row.last_completion_result.clone() },
        continued_failure: if alone { None } else { schedule.row.last_failure.clone() },
        user_metadata: action.user_metadata.clone(),
        priority: action.priority.clone(),
        ..Default::default()
    };
    let message = StartScheduled {
        scheduled_by: Some(origin(schedule, number)),
        request: Some(request),
        retention: schedule.row.retention,
    };
    let to = destination(tx, schedule, &workflow_id);
    outbox::send(tx, schedule.slot, to, outbox_message::Kind::StartScheduled(message));
    schedule.row.starting.push(StartingRow { number, actual_at: start.actual_at, workflow_id, overlapping });
}

/// Asks for the end of what runs, once of each run. What is only being started is asked when it has started.
fn end_running(tx: &mut Transaction<'_>, schedule: &mut Schedule, terminate: bool) {
    let mut running = std::mem::take(&mut schedule.row.running);
    for run in &mut running {
        let sent = if terminate { &mut run.terminate_sent } else { &mut run.cancel_sent };
        if std::mem::replace(sent, true) {
            continue;
        }
        let message = StopScheduled {
            first_run_id: run.run_id.clone(),
            terminate,
            identity: identity(schedule),
            request_id: tx.ids.uuid(),
        };
        let to = destination(tx, schedule, &run.workflow_id);
        outbox::send(tx, schedule.slot, to, outbox_message::Kind::StopScheduled(message));
    }
    schedule.row.running = running;
}

fn destination(tx: &Transaction<'_>, schedule: &Schedule, workflow_id: &str) -> Destination {
    Destination {
        namespace_id: tx.namespace_id.to_owned(),
        namespace: schedule.row.namespace.clone(),
        workflow_id: workflow_id.to_owned(),
    }
}

fn identity(schedule: &Schedule) -> String {
    format!("temporal-scheduler-{}-{}", schedule.row.namespace, schedule.id)
}

fn origin(schedule: &Schedule, number: u64) -> ScheduledByRow {
    ScheduledByRow {
        namespace: schedule.row.namespace.clone(),
        schedule_id: schedule.id.clone(),
        incarnation: schedule.row.incarnation.clone(),
        number,
    }
}

fn search_attributes(mut given: Option<SearchAttributes>, nominal: &str, schedule_id: &str) -> SearchAttributes {
    absent::drop_from_attributes(&mut given);
    let mut attributes = given.unwrap_or_default();
    let fields = &mut attributes.indexed_fields;
    fields.insert(SCHEDULED_START_TIME.to_owned(), attribute("Datetime", nominal));
    fields.insert(SCHEDULED_BY_ID.to_owned(), attribute("Keyword", schedule_id));
    attributes
}

/// A text as a search attribute of that type.
fn attribute(kind: &'static str, text: &str) -> Payload {
    let metadata = [("encoding", "json/plain"), ("type", kind)];
    Payload {
        metadata: metadata.map(|(name, value)| (name.to_owned(), Bytes::from_static(value.as_bytes()))).into(),
        data: json_text(text).into_bytes().into(),
        ..Default::default()
    }
}

fn json_text(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if u32::from(c) < 0x20 => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}
