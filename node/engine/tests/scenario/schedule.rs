//! Schedules in a world: callers' calls, and the leader that looks for matching times when a timer calls for it.

use prost::Message;
use stanchion_engine::schedule::{self, canonical, describe, due};
use stanchion_engine::time::SECOND;
use stanchion_engine::{Reply, ShardTime, StateReader, timer_queue};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{CreateSchedule, DeleteSchedule, PatchSchedule, TickSchedule, UpdateSchedule};
use stanchion_proto::row::ScheduleRow;
use stanchion_proto::temporal::common::v1::WorkflowType;
use stanchion_proto::temporal::enums::v1::{ScheduleOverlapPolicy, WorkflowExecutionStatus};
use stanchion_proto::temporal::schedule::v1::schedule_action::Action;
use stanchion_proto::temporal::schedule::v1::{
    BackfillRequest, IntervalSpec, Schedule, ScheduleAction, SchedulePatch, ScheduleSpec, TriggerImmediatelyRequest,
};
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflow::v1::NewWorkflowExecutionInfo;
use stanchion_proto::temporal::workflowservice::v1::{
    CreateScheduleRequest, DeleteScheduleRequest, DescribeScheduleResponse, PatchScheduleRequest, UpdateScheduleRequest,
};

use super::{NAMESPACE, QUEUE, T0, World};

pub const SCHEDULE: &str = "sched";

/// A schedule that acts every so many seconds, from the epoch on.
pub fn every(seconds: i64) -> Schedule {
    let interval = prost_types::Duration { seconds, nanos: 0 };
    let spec =
        ScheduleSpec { interval: vec![IntervalSpec { interval: Some(interval), phase: None }], ..Default::default() };
    let workflow = NewWorkflowExecutionInfo {
        workflow_id: "run".into(),
        workflow_type: Some(WorkflowType { name: "Demo".into() }),
        task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
        ..Default::default()
    };
    Schedule {
        spec: Some(canonical::canonical(spec).unwrap()),
        action: Some(ScheduleAction { action: Some(Action::StartWorkflow(workflow)) }),
        ..Default::default()
    }
}

pub fn with_overlap(mut schedule: Schedule, policy: ScheduleOverlapPolicy) -> Schedule {
    schedule.policies.get_or_insert_default().set_overlap_policy(policy);
    schedule
}

/// Seconds behind the world's beginning.
pub fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: T0 / SECOND + seconds, nanos: 0 })
}

pub fn trigger(policy: ScheduleOverlapPolicy) -> SchedulePatch {
    let trigger = TriggerImmediatelyRequest { overlap_policy: policy.into(), scheduled_time: None };
    SchedulePatch { trigger_immediately: Some(trigger), ..Default::default() }
}

pub fn backfill(from: i64, to: i64, policy: ScheduleOverlapPolicy) -> SchedulePatch {
    let request = BackfillRequest { start_time: at(from), end_time: at(to), overlap_policy: policy.into() };
    SchedulePatch { backfill_request: vec![request], ..Default::default() }
}

impl World {
    pub fn create_schedule(&mut self, schedule: Schedule) -> String {
        self.create_schedule_with(schedule, |_| {})
    }

    pub fn create_schedule_with(
        &mut self,
        schedule: Schedule,
        change: impl FnOnce(&mut CreateScheduleRequest),
    ) -> String {
        let mut request = CreateScheduleRequest {
            schedule_id: SCHEDULE.into(),
            schedule: Some(schedule),
            request_id: format!("create-{}", self.commands),
            ..Default::default()
        };
        change(&mut request);
        let reply = self.apply(Kind::CreateSchedule(CreateSchedule { request: Some(request) }));
        self.answer(&reply)
    }

    pub fn update_schedule(&mut self, change: impl FnOnce(&mut UpdateScheduleRequest)) -> String {
        let mut request = UpdateScheduleRequest {
            schedule_id: SCHEDULE.into(),
            schedule: self.schedule_row().and_then(|row| row.schedule),
            request_id: format!("update-{}", self.commands),
            ..Default::default()
        };
        change(&mut request);
        let reply = self.apply(Kind::UpdateSchedule(UpdateSchedule { request: Some(request) }));
        self.answer(&reply)
    }

    pub fn patch_schedule(&mut self, patch: SchedulePatch) -> String {
        self.patch_schedule_as(patch, &format!("patch-{}", self.commands))
    }

    pub fn patch_schedule_as(&mut self, patch: SchedulePatch, request_id: &str) -> String {
        let request = PatchScheduleRequest {
            schedule_id: SCHEDULE.into(),
            patch: Some(patch),
            request_id: request_id.into(),
            ..Default::default()
        };
        let reply = self.apply(Kind::PatchSchedule(PatchSchedule { request: Some(request) }));
        self.answer(&reply)
    }

    pub fn delete_schedule(&mut self) -> String {
        let request = DeleteScheduleRequest { schedule_id: SCHEDULE.into(), ..Default::default() };
        let reply = self.apply(Kind::DeleteSchedule(DeleteSchedule { request: Some(request) }));
        self.answer(&reply)
    }

    pub fn schedule_row(&self) -> Option<ScheduleRow> {
        schedule::read(&self.state, NAMESPACE, SCHEDULE).unwrap()
    }

    /// What the leader would propose now.
    pub fn look_at_schedule(&self) -> TickSchedule {
        due::look(&self.schedule_row().unwrap(), NAMESPACE, SCHEDULE, ShardTime(self.now)).unwrap()
    }

    pub fn tick_with(&mut self, tick: TickSchedule) -> Reply {
        self.apply(Kind::TickSchedule(tick))
    }

    /// Does what a leader does until nothing is due and no message waits: looks at schedules whose timers are due, and delivers.
    pub fn settle(&mut self) -> &mut Self {
        loop {
            let is_due = |world: &Self| {
                world
                    .timers
                    .iter()
                    .any(|timer| timer.at.0 <= world.now && timer_queue::schedule_to_wake(&timer.key).is_some())
            };
            while is_due(self) {
                let tick = self.look_at_schedule();
                assert_eq!(self.tick_with(tick), Reply::Done);
            }
            self.deliver();
            if !is_due(self) {
                return self;
            }
        }
    }

    /// Second by second, everything that is due on the way.
    pub fn run_for(&mut self, seconds: i64) -> &mut Self {
        for _ in 0..seconds {
            self.pass(1);
            self.settle();
        }
        self
    }

    pub fn describe_schedule(&self) -> DescribeScheduleResponse {
        let row = self.schedule_row().unwrap();
        describe::describe(&row, NAMESPACE, SCHEDULE, ShardTime(self.now).max(self.state.clock()))
    }

    /// A line for each thing that a description shows; counts of nothing are left out. Times in seconds behind the world's beginning.
    pub fn schedule(&self) -> String {
        let Some(row) = self.schedule_row() else { return "none\n".into() };
        if row.deleted {
            return "deleted\n".into();
        }
        let described = self.describe_schedule();
        let info = described.info.unwrap();
        let state = described.schedule.unwrap().state.unwrap();
        let mut said = format!("actions {}", info.action_count);
        let counts = [
            ("skipped", info.overlap_skipped),
            ("missed", info.missed_catchup_window),
            ("dropped", info.buffer_dropped),
            ("buffered", info.buffer_size),
        ];
        for (what, count) in counts.into_iter().filter(|(_, count)| *count != 0) {
            said += &format!(" {what} {count}");
        }
        if state.limited_actions {
            said += &format!(" left {}", state.remaining_actions);
        }
        if state.paused {
            said += " paused";
        }
        if !state.notes.is_empty() {
            said += &format!(" {:?}", state.notes);
        }
        said += "\n";
        let seconds = |at: &Option<prost_types::Timestamp>| at.as_ref().map_or(0, |at| at.seconds) - T0 / SECOND;
        for action in &info.recent_actions {
            let run = action.start_workflow_result.clone().unwrap();
            let running = info.running_workflows.contains(&run);
            said += &format!(
                "{} for {} at {} {}{}\n",
                run.workflow_id,
                seconds(&action.schedule_time),
                seconds(&action.actual_time),
                WorkflowExecutionStatus::try_from(action.start_workflow_status)
                    .unwrap()
                    .as_str_name()
                    .rsplit('_')
                    .next()
                    .unwrap()
                    .to_lowercase(),
                if running { " counts" } else { "" },
            );
        }
        let next: Vec<_> = info.future_action_times.iter().take(3).map(|at| seconds(&Some(*at))).collect();
        said + &format!("next {next:?}\n")
    }

    /// The run that is open under this id is completed by its worker.
    pub fn finish_run(&mut self, workflow_id: &str, result: &str) {
        self.poll_of(workflow_id);
        self.work_on(workflow_id);
        self.complete(vec![super::complete_workflow(result)]);
        self.settle();
    }

    /// A schedule's timer stands in the queue exactly when its row says so.
    pub(super) fn check_schedule_timer(&self, row: &stanchion_proto::row::TimerQueueRow, at: ShardTime) {
        use stanchion_proto::row::timer_queue_row::Kind as Timer;
        let schedule = schedule::read(&self.state, &row.namespace_id, &row.workflow_id).unwrap();
        let schedule = schedule.expect("a timer of a schedule that is not there");
        let said = if row.kind() == Timer::ScheduleWake { schedule.wake_at } else { schedule.retire_at };
        assert_eq!((schedule.incarnation.as_str(), said), (row.run_id.as_str(), at.0), "{row:?}");
        assert_ne!(schedule.encode_to_vec(), Vec::<u8>::new());
    }
}
