//! Activities changed from outside, and standalone ones: the callers' side of a scenario.

use stanchion_engine::read;
use stanchion_engine::reply::Reply;
use stanchion_engine::{ShardTime, StateReader};
use stanchion_proto::command::activity_control::Action;
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::control_activities::Which;
use stanchion_proto::command::{
    ActivityControl, CancelStandaloneActivity, ControlActivities, ControlStandaloneActivity, DeleteStandaloneActivity,
    PauseActivity, RunRef, StartStandaloneActivity, TerminateStandaloneActivity, UnpauseActivity,
};
use stanchion_proto::temporal::activity::v1::activity_execution_outcome::Value;
use stanchion_proto::temporal::common::v1::ActivityType;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflowservice::v1::{
    DeleteActivityExecutionRequest, RequestCancelActivityExecutionRequest, StartActivityExecutionRequest,
    TerminateActivityExecutionRequest,
};

use super::{NAMESPACE, QUEUE, WORKFLOW, World, payloads};
use stanchion_engine::time::{SECOND, duration};

pub const ALONE: &str = "alone";

pub fn pause() -> Action {
    Action::Pause(PauseActivity { reason: "why".into(), ..Default::default() })
}

pub fn unpause() -> Action {
    Action::Unpause(UnpauseActivity::default())
}

impl World {
    /// Changes pending activities of the run with this id.
    pub fn control(&mut self, activity_id: &str, action: Action) -> String {
        let control = ActivityControl { identity: "operator".into(), action: Some(action) };
        let reply = self.apply(Kind::ControlActivities(ControlActivities {
            run: Some(RunRef { workflow_id: WORKFLOW.into(), run_id: String::new() }),
            which: Some(Which::Id(activity_id.into())),
            control: Some(control),
        }));
        self.options_or(&reply)
    }

    pub fn control_alone(&mut self, action: Action) -> String {
        let control = ActivityControl { identity: "operator".into(), action: Some(action) };
        let reply = self.apply(Kind::ControlStandaloneActivity(ControlStandaloneActivity {
            activity_id: ALONE.into(),
            run_id: String::new(),
            control: Some(control),
        }));
        self.options_or(&reply)
    }

    fn options_or(&self, reply: &Reply) -> String {
        match reply {
            Reply::ActivityOptions(options) => {
                let seconds = |d: Option<prost_types::Duration>| d.map_or(0, |d| d.seconds);
                format!(
                    "options: start to close {}s, schedule to close {}s",
                    seconds(options.start_to_close_timeout),
                    seconds(options.schedule_to_close_timeout)
                )
            }
            other => self.answer(other),
        }
    }

    pub fn start_alone(&mut self, change: impl FnOnce(&mut StartActivityExecutionRequest)) -> String {
        let mut request = StartActivityExecutionRequest {
            activity_id: ALONE.into(),
            activity_type: Some(ActivityType { name: "act".into() }),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            start_to_close_timeout: Some(duration(30 * SECOND)),
            input: Some(payloads("in")),
            request_id: "start".into(),
            ..Default::default()
        };
        change(&mut request);
        let reservation = self.reservations.pop();
        match self.apply(Kind::StartStandaloneActivity(StartStandaloneActivity { request: Some(request), reservation }))
        {
            Reply::ActivityExecution { started: true, .. } => "started".into(),
            Reply::ActivityExecution { started: false, .. } => "existing".into(),
            other => self.answer(&other),
        }
    }

    pub fn cancel_alone(&mut self, request_id: &str) -> String {
        let request = RequestCancelActivityExecutionRequest {
            activity_id: ALONE.into(),
            request_id: request_id.into(),
            reason: "enough".into(),
            ..Default::default()
        };
        let reply = self.apply(Kind::CancelStandaloneActivity(CancelStandaloneActivity { request: Some(request) }));
        self.answer(&reply)
    }

    pub fn terminate_alone(&mut self) -> String {
        let request = TerminateActivityExecutionRequest {
            activity_id: ALONE.into(),
            reason: "because".into(),
            request_id: "end".into(),
            ..Default::default()
        };
        let reply =
            self.apply(Kind::TerminateStandaloneActivity(TerminateStandaloneActivity { request: Some(request) }));
        self.answer(&reply)
    }

    pub fn delete_alone(&mut self) -> String {
        let request = DeleteActivityExecutionRequest { activity_id: ALONE.into(), ..Default::default() };
        let reply = self.apply(Kind::DeleteStandaloneActivity(DeleteStandaloneActivity { request: Some(request) }));
        self.answer(&reply)
    }

    /// The newest run of the standalone activity in a line: status, state, attempt, outcome.
    pub fn alone(&self) -> String {
        let Some(view) = read::standalone(&self.state, NAMESPACE, ALONE, "").unwrap() else { return "none".into() };
        let info = view.info(self.state.clock().max(ShardTime(self.now)));
        let outcome = match view.outcome.as_ref().and_then(|outcome| outcome.value.as_ref()) {
            None => String::new(),
            Some(Value::Result(_)) => " with a result".into(),
            Some(Value::Failure(failure)) => format!(" with '{}'", failure.message),
        };
        let state = match view.is_closed() {
            true => String::new(),
            false => format!(" {}", info.run_state().as_str_name().trim_start_matches("PENDING_ACTIVITY_STATE_")),
        };
        let status = info.status().as_str_name().trim_start_matches("ACTIVITY_EXECUTION_STATUS_").to_owned();
        format!("{status}{state} attempt {}{outcome}", info.attempt)
    }
}
