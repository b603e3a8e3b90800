//! What the leader is to do after a command was applied. Followers drop it.
//!
//! Everything here can be rebuilt from the tables (`read::pending`, `read::timers`), which is what a new leader does: effects are
//! a shortcut, never the only copy.

use stanchion_proto::temporal::workflowservice::v1::PollActivityTaskQueueResponse;

use crate::reply::{UpdateStatus, WorkflowTaskStart};
use crate::types::{Attempt, EventId, RunKey, ShardTime, Slot};

/// A task as matchers and tokens name it. `stamp` changes whenever the task is scheduled anew, so an old offer does nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TaskRef {
    pub run: RunKey,
    pub scheduled_event_id: EventId,
    pub attempt: Attempt,
    pub stamp: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TaskKind {
    Workflow,
    Activity,
}

/// A task that waits for a worker: one row of the pending table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    pub slot: Slot,
    pub kind: TaskKind,
    /// The queue to poll: for a sticky workflow task, the sticky queue.
    pub task_queue: String,
    /// True when `task_queue` is a sticky one.
    pub sticky: bool,
    /// Of a sticky task, the queue that any worker polls; otherwise empty.
    pub normal_task_queue: String,
    pub task: TaskRef,
    pub scheduled_at: ShardTime,
    /// Temporal's priority key, 1 (first) to 5; 0 is unset, which means 3.
    pub priority: i32,
}

impl Offer {
    /// The sticky task as one for the normal queue: nobody polls its sticky queue. The task itself stays what it is.
    pub fn for_any_worker(mut self) -> Self {
        if self.sticky {
            self.task_queue = std::mem::take(&mut self.normal_task_queue);
            self.sticky = false;
        }
        self
    }
}

/// A workflow task's time limit, kept in leader memory (its table row is the pending row, from which a new leader rebuilds it).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkflowTaskDeadline {
    pub task: TaskRef,
    pub at: ShardTime,
    /// False: a sticky task that nobody has started in time.
    pub start_to_close: bool,
}

/// A row of the timer queue, in the order of its key: due time first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimerKey {
    pub at: ShardTime,
    pub slot: Slot,
    /// The row's whole key within the table.
    pub key: Vec<u8>,
}

/// A run's history grew: wakes history long polls and waiting queries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunChange {
    pub run: RunKey,
    /// The id that the next event will get.
    pub next_event_id: EventId,
    pub closed: bool,
    /// No workflow task is scheduled or started any more (queries that waited for one can go out directly).
    pub idle: bool,
}

/// An update has come further: wakes those who wait for it.
#[derive(Clone, PartialEq, Debug)]
pub struct UpdateChange {
    pub run: RunKey,
    pub update_id: String,
    /// Its place in the run's order of admission: a rejected update's id may come again, as another one.
    pub order: u64,
    pub status: UpdateStatus,
}

/// A reservation of the command that was used: the task was written as started for that poller.
#[derive(Clone, PartialEq, Debug)]
pub struct HandOver {
    pub ticket: u64,
    pub start: TaskStart,
}

#[derive(Clone, PartialEq, Debug)]
pub enum TaskStart {
    Workflow(Box<WorkflowTaskStart>),
    Activity(Box<PollActivityTaskQueueResponse>),
}

/// A message that waits in an outbox: its two slots and its number in their sequence. Ordered as it must be delivered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OutboxKey {
    pub source: Slot,
    pub destination: Slot,
    pub sequence: u64,
}

/// A batch operation that its group's leader is to go on with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BatchJob {
    pub namespace_id: String,
    pub job_id: String,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Effects {
    /// Pending rows written.
    pub offers: Vec<Offer>,
    /// Pending rows that are no longer waiting (started, or gone).
    pub withdrawn: Vec<(TaskKind, TaskRef)>,
    pub timers_set: Vec<TimerKey>,
    pub timers_cleared: Vec<TimerKey>,
    pub workflow_task_deadlines: Vec<WorkflowTaskDeadline>,
    pub changes: Vec<RunChange>,
    pub updates: Vec<UpdateChange>,
    pub hand_overs: Vec<HandOver>,
    /// Messages put into the outbox.
    pub outbox: Vec<OutboxKey>,
    /// Batch operations started.
    pub batches: Vec<BatchJob>,
    /// Runs opened and closed by this command, for the gauges.
    pub runs_opened: u32,
    pub runs_closed: u32,
}

impl Effects {
    /// A task is no longer waiting. What was offered by the same effects is taken back without a trace: a reader need not mind in which
    /// order it goes through the vectors.
    pub fn withdraw(&mut self, kind: TaskKind, task: &TaskRef) {
        let before = self.offers.len();
        self.offers.retain(|offer| offer.task != *task);
        if self.offers.len() == before {
            self.withdrawn.push((kind, task.clone()));
        }
    }

    /// An update has come further. What the same command said of it before is of no interest any more.
    pub fn update_changed(&mut self, change: UpdateChange) {
        self.updates.retain(|before| {
            (&before.run, &before.update_id, before.order) != (&change.run, &change.update_id, change.order)
        });
        self.updates.push(change);
    }

    /// A row of the timer queue was written.
    pub fn set_timer(&mut self, timer: TimerKey) {
        self.timers_cleared.retain(|cleared| *cleared != timer);
        self.timers_set.push(timer);
    }

    /// A row of the timer queue was deleted. See [`Effects::withdraw`].
    pub fn clear_timer(&mut self, timer: TimerKey) {
        let before = self.timers_set.len();
        self.timers_set.retain(|set| *set != timer);
        if self.timers_set.len() == before {
            self.timers_cleared.push(timer);
        }
    }

    /// Appends what a later command of the same entry asks for.
    pub fn merge(&mut self, later: Effects) {
        for (kind, task) in &later.withdrawn {
            self.withdraw(*kind, task);
        }
        for timer in later.timers_cleared {
            self.clear_timer(timer);
        }
        for timer in later.timers_set {
            self.set_timer(timer);
        }
        self.offers.extend(later.offers);
        self.workflow_task_deadlines.extend(later.workflow_task_deadlines);
        self.changes.extend(later.changes);
        self.updates.extend(later.updates);
        self.hand_overs.extend(later.hand_overs);
        self.outbox.extend(later.outbox);
        self.batches.extend(later.batches);
        self.runs_opened += later.runs_opened;
        self.runs_closed += later.runs_closed;
    }
}
