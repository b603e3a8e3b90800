//! Activity workers of a scenario, and the commands that schedule and cancel activities and timers.

use prost::Message;
use stanchion_engine::effects::{TaskKind, TaskStart};
use stanchion_engine::reply::Reply;
use stanchion_engine::time::{SECOND, duration};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{
    ActivityRef, ActivityTaskToken, CancelActivityTask, CompleteActivityTask, FailActivityTask, FireTimers,
    GiveBackActivityTask, HeartbeatActivityTask, Reservation, RunRef, StartActivityTask, TimerKey,
};
use stanchion_proto::temporal::command::v1 as cmd;
use stanchion_proto::temporal::command::v1::command::Attributes as A;
use stanchion_proto::temporal::common::v1::{ActivityType, RetryPolicy};
use stanchion_proto::temporal::enums::v1::CommandType;
use stanchion_proto::temporal::failure::v1::Failure;
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflowservice::v1::{
    PollActivityTaskQueueResponse, RecordActivityTaskHeartbeatRequest, RespondActivityTaskCanceledRequest,
    RespondActivityTaskCompletedRequest, RespondActivityTaskFailedRequest,
};

use super::{QUEUE, WORKFLOW, World, command, failure, payloads, poller};

pub type ActivityTask = PollActivityTaskQueueResponse;

impl World {
    /// Takes the first activity on offer, or says why not.
    pub fn try_activity(&mut self) -> Result<ActivityTask, String> {
        let Some(offer) = self.offers.iter().find(|offer| offer.kind == TaskKind::Activity).cloned() else {
            return Err("nothing on offer".into());
        };
        let start = StartActivityTask {
            run: Some(RunRef {
                workflow_id: offer.task.run.workflow_id.clone(),
                run_id: offer.task.run.run_id.clone(),
            }),
            scheduled_event_id: offer.task.scheduled_event_id.0,
            attempt: offer.task.attempt,
            stamp: offer.task.stamp,
            poller: Some(poller("activity-worker")),
        };
        match self.apply(Kind::StartActivityTask(start)) {
            Reply::ActivityTaskStarted(task) => Ok(*task),
            other => Err(self.answer(&other)),
        }
    }

    pub fn activity(&mut self) -> ActivityTask {
        self.try_activity().expect("an activity on offer")
    }

    /// Holds a poller of an activity queue for the next command.
    pub fn hold_activity_poller(&mut self, task_queue: &str) -> &mut Self {
        self.reservations.push(Reservation {
            task_queue: task_queue.into(),
            is_activity: true,
            poller: Some(poller("held")),
            ticket: 9,
        });
        self
    }

    /// The activity that the last command handed to a held poller.
    pub fn handed_over(&self) -> Option<ActivityTask> {
        self.effects.hand_overs.iter().find_map(|hand_over| match &hand_over.start {
            TaskStart::Activity(task) => Some((**task).clone()),
            TaskStart::Workflow(_) => None,
        })
    }

    pub fn complete_activity(&mut self, task: &ActivityTask, result: &str) -> String {
        self.complete_named(named(task), result)
    }

    pub fn complete_named(&mut self, activity: ActivityRef, result: &str) -> String {
        let request = RespondActivityTaskCompletedRequest {
            result: Some(payloads(result)),
            identity: "activity-worker".into(),
            ..Default::default()
        };
        let reservation = self.reservations.pop();
        let reply = self.apply(Kind::CompleteActivityTask(CompleteActivityTask {
            activity: Some(activity),
            request: Some(request),
            reservation,
        }));
        self.answer(&reply)
    }

    pub fn fail_activity(&mut self, task: &ActivityTask, message: &str) -> String {
        self.fail_named(named(task), Some(failure(message)))
    }

    pub fn fail_named(&mut self, activity: ActivityRef, failure: Option<Failure>) -> String {
        let request =
            RespondActivityTaskFailedRequest { failure, identity: "activity-worker".into(), ..Default::default() };
        let reply = self.apply(Kind::FailActivityTask(FailActivityTask {
            activity: Some(activity),
            request: Some(request),
            reservation: None,
        }));
        self.answer(&reply)
    }

    pub fn cancel_activity(&mut self, task: &ActivityTask) -> String {
        let request = RespondActivityTaskCanceledRequest { identity: "activity-worker".into(), ..Default::default() };
        let reply = self.apply(Kind::CancelActivityTask(CancelActivityTask {
            activity: Some(named(task)),
            request: Some(request),
            reservation: None,
        }));
        self.answer(&reply)
    }

    /// "alive", "cancel" or why it was refused.
    pub fn heartbeat(&mut self, task: &ActivityTask, details: &str) -> String {
        let request = RecordActivityTaskHeartbeatRequest {
            details: Some(payloads(details)),
            identity: "activity-worker".into(),
            ..Default::default()
        };
        let activity = Some(named(task));
        match self.apply(Kind::HeartbeatActivityTask(HeartbeatActivityTask { activity, request: Some(request) })) {
            Reply::Heartbeat { cancel_requested: true, .. } => "cancel".into(),
            Reply::Heartbeat { paused: true, .. } => "paused".into(),
            Reply::Heartbeat { reset: true, .. } => "reset".into(),
            Reply::Heartbeat { .. } => "alive".into(),
            other => self.answer(&other),
        }
    }

    /// The leader says that nobody got the started task.
    pub fn give_back(&mut self, task: &ActivityTask) -> String {
        let reply = self.apply(Kind::GiveBackActivityTask(GiveBackActivityTask { activity: Some(named(task)) }));
        self.answer(&reply)
    }

    /// Fires these rows, due or not.
    pub fn fire(&mut self, timers: &[stanchion_engine::effects::TimerKey]) {
        let keys = timers.iter().map(|t| TimerKey { slot: t.slot.0.into(), key: t.key.clone().into() }).collect();
        self.apply(Kind::FireTimers(FireTimers { keys }));
    }

    /// Due times of the timers that the leader holds, in nanoseconds, ascending.
    pub fn timer_keys(&self) -> Vec<stanchion_engine::effects::TimerKey> {
        let mut keys = self.timers.clone();
        keys.sort();
        keys
    }
}

/// What the activity's worker says its name is: the token.
pub fn named(task: &ActivityTask) -> ActivityRef {
    let token = token_of(task);
    ActivityRef {
        run: Some(RunRef { workflow_id: token.workflow_id, run_id: token.run_id }),
        scheduled_event_id: token.scheduled_event_id,
        attempt: token.attempt,
        stamp: token.stamp,
        activity_id: token.activity_id,
        standalone: token.scheduled_event_id == 0,
    }
}

pub fn token_of(task: &ActivityTask) -> ActivityTaskToken {
    ActivityTaskToken::decode(task.task_token.as_slice()).expect("a token")
}

pub fn by_id(activity_id: &str) -> ActivityRef {
    ActivityRef {
        run: Some(RunRef { workflow_id: WORKFLOW.into(), run_id: String::new() }),
        activity_id: activity_id.into(),
        ..Default::default()
    }
}

/// The task in a line.
pub fn task_line(task: &ActivityTask) -> String {
    let input = |p: &Option<stanchion_proto::temporal::common::v1::Payloads>| {
        p.iter().flat_map(|p| &p.payloads).map(|p| String::from_utf8_lossy(&p.data).into_owned()).collect::<String>()
    };
    let details = input(&task.heartbeat_details);
    let details = if details.is_empty() { details } else { format!(" details={details}") };
    format!("{} attempt {} input={}{details}", task.activity_id, task.attempt, input(&task.input))
}

pub fn non_retryable(message: &str) -> Failure {
    let mut made = failure(message);
    if let Some(FailureInfo::ApplicationFailureInfo(info)) = &mut made.failure_info {
        info.non_retryable = true;
    }
    made
}

pub fn schedule_with(id: &str, change: impl FnOnce(&mut cmd::ScheduleActivityTaskCommandAttributes)) -> cmd::Command {
    let mut attributes = cmd::ScheduleActivityTaskCommandAttributes {
        activity_id: id.into(),
        activity_type: Some(ActivityType { name: "act".into() }),
        task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
        input: Some(payloads("in")),
        start_to_close_timeout: Some(duration(30 * SECOND)),
        ..Default::default()
    };
    change(&mut attributes);
    command(CommandType::ScheduleActivityTask, A::ScheduleActivityTaskCommandAttributes(attributes))
}

pub fn schedule(id: &str) -> cmd::Command {
    schedule_with(id, |_| {})
}

/// First retry after so many seconds, then twice as long each time.
pub fn policy(initial_seconds: i64, maximum_attempts: i32) -> Option<RetryPolicy> {
    Some(RetryPolicy {
        initial_interval: Some(duration(initial_seconds * SECOND)),
        backoff_coefficient: 2.0,
        maximum_attempts,
        ..Default::default()
    })
}

pub fn request_cancel_activity(scheduled_event_id: i64) -> cmd::Command {
    command(
        CommandType::RequestCancelActivityTask,
        A::RequestCancelActivityTaskCommandAttributes(cmd::RequestCancelActivityTaskCommandAttributes {
            scheduled_event_id,
        }),
    )
}

pub fn cancel_timer(id: &str) -> cmd::Command {
    command(
        CommandType::CancelTimer,
        A::CancelTimerCommandAttributes(cmd::CancelTimerCommandAttributes { timer_id: id.into() }),
    )
}
