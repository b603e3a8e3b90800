//! The worker of a world, and what it gets where it is silent: tasks taken, completed and failed, and the time that passes over them.

use stanchion_engine::effects::{Offer, TaskKind};
use stanchion_engine::reply::Reply;
use stanchion_engine::timer_queue;
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{
    self, CompleteWorkflowTask, FailWorkflowTask, FireTimers, Poller, Reservation, RunRef, StartWorkflowTask,
    TimeoutWorkflowTask, WorkflowTaskToken,
};
use stanchion_proto::temporal::command::v1 as cmd;
use stanchion_proto::temporal::workflowservice::v1::{
    RespondWorkflowTaskCompletedRequest, RespondWorkflowTaskFailedRequest,
};

use super::{World, failure, poller};
impl World {
    /// Holds a poller of a queue for the next command's task.
    pub fn hold_poller(&mut self, task_queue: &str) -> &mut Self {
        self.reservations.push(Reservation {
            task_queue: task_queue.into(),
            is_activity: false,
            poller: Some(poller("worker")),
            ticket: 7,
        });
        self
    }

    /// As [`World::poll`], of one workflow id. The worker keeps the tasks of other ids: [`World::work_on`] turns to one of them.
    pub fn poll_of(&mut self, workflow_id: &str) -> String {
        let of = |offer: &&Offer| offer.kind == TaskKind::Workflow && offer.task.run.workflow_id == workflow_id;
        let Some(offer) = self.offers.iter().find(of).cloned() else { return "nothing on offer".into() };
        let said = self.poll_offer(&offer, &offer.task_queue.clone());
        if let Some(task) = self.task.clone() {
            self.tasks.insert(workflow_id.into(), task);
        }
        said
    }

    /// The next answer of the worker is about the task of this workflow id.
    pub fn work_on(&mut self, workflow_id: &str) -> &mut Self {
        self.task = self.tasks.get(workflow_id).cloned();
        self
    }

    /// Takes the first workflow task on offer, from the queue that it is offered on.
    pub fn poll(&mut self) -> String {
        let Some(offer) = self.offers.iter().find(|offer| offer.kind == TaskKind::Workflow).cloned() else {
            return "nothing on offer".into();
        };
        self.poll_offer(&offer, &offer.task_queue.clone())
    }

    pub fn poll_offer(&mut self, offer: &Offer, queue: &str) -> String {
        let run = &offer.task.run;
        let reply = self.apply(Kind::StartWorkflowTask(StartWorkflowTask {
            run: Some(RunRef { workflow_id: run.workflow_id.clone(), run_id: run.run_id.clone() }),
            scheduled_event_id: offer.task.scheduled_event_id.0,
            attempt: offer.task.attempt,
            stamp: offer.task.stamp,
            poller: Some(Poller { request_id: format!("poll-{}", self.commands), ..poller("worker") }),
            polled_task_queue: queue.into(),
        }));
        if let Reply::WorkflowTaskStarted(start) = &reply {
            self.task = Some((**start).clone());
        }
        self.answer(&reply)
    }

    pub fn complete(&mut self, commands: Vec<cmd::Command>) -> String {
        self.complete_with(commands, |_| {})
    }

    pub fn complete_with(
        &mut self,
        commands: Vec<cmd::Command>,
        change: impl FnOnce(&mut RespondWorkflowTaskCompletedRequest),
    ) -> String {
        let mut request =
            RespondWorkflowTaskCompletedRequest { identity: "worker".into(), commands, ..Default::default() };
        change(&mut request);
        let reservations = std::mem::take(&mut self.reservations);
        let token = self.token();
        let reply = self.apply(Kind::CompleteWorkflowTask(CompleteWorkflowTask {
            token: Some(token),
            request: Some(request),
            reservations,
            has_pending_queries: false,
        }));
        self.eager_activities = match &reply {
            Reply::WorkflowTaskCompleted { eager_activities, .. } => eager_activities.clone(),
            _ => Vec::new(),
        };
        if let Reply::WorkflowTaskCompleted { next: Some(next), .. } = &reply {
            self.task = Some((**next).clone());
        }
        self.answer(&reply)
    }

    pub fn fail_task(&mut self) -> String {
        let request = RespondWorkflowTaskFailedRequest {
            cause: 14,
            failure: Some(failure("bug")),
            identity: "worker".into(),
            ..Default::default()
        };
        let token = self.token();
        let reply = self.apply(Kind::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: Some(request) }));
        self.answer(&reply)
    }

    pub fn token(&self) -> WorkflowTaskToken {
        self.task.as_ref().expect("a workflow task").token.clone()
    }

    /// Fires the rows of the timer queue that are due.
    pub fn fire_timers(&mut self) -> String {
        let (mut due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.timers).into_iter().partition(|timer| {
            // A schedule's is the leader's to answer, by looking.
            timer.at.0 <= self.now && timer_queue::schedule_to_wake(&timer.key).is_none()
        });
        due.sort();
        self.timers = later;
        let keys = due
            .iter()
            .map(|timer| command::TimerKey { slot: timer.slot.0.into(), key: timer.key.clone().into() })
            .collect();
        let reply = self.apply(Kind::FireTimers(FireTimers { keys }));
        self.answer(&reply)
    }

    /// Sends the deadlines of workflow tasks that have passed.
    pub fn fire_deadlines(&mut self) -> String {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.deadlines).into_iter().partition(|deadline| deadline.at.0 <= self.now);
        self.deadlines = later;
        let mut said = Vec::new();
        for deadline in due {
            let reply = self.apply(Kind::TimeoutWorkflowTask(TimeoutWorkflowTask {
                run: Some(RunRef {
                    workflow_id: deadline.task.run.workflow_id.clone(),
                    run_id: deadline.task.run.run_id.clone(),
                }),
                scheduled_event_id: deadline.task.scheduled_event_id.0,
                attempt: deadline.task.attempt,
                stamp: deadline.task.stamp,
                start_to_close: deadline.start_to_close,
            }));
            said.push(self.answer(&reply));
            if reply == Reply::Stale {
                self.idle_deadlines.push(deadline);
            }
        }
        said.join("; ")
    }
}
