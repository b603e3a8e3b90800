//! What `apply` answers. A rejection is a reply: it is decided by state, so every replica decides it alike.

use stanchion_proto::command::WorkflowTaskToken;
use stanchion_proto::temporal::activity::v1::ActivityOptions;
use stanchion_proto::temporal::common::v1::{Link, WorkflowType};
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::protocol::v1::Message;
use stanchion_proto::temporal::update::v1::Outcome;
use stanchion_proto::temporal::workflow::v1::WorkflowExecutionOptions;
use stanchion_proto::temporal::workflowservice::v1::PollActivityTaskQueueResponse;

use crate::effects::OutboxKey;
use crate::types::{Attempt, EventId, RunKey, ShardTime};

#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// Applied; nothing to say.
    Done,
    /// Nothing to do: the task, timer or attempt that the command names is no longer there.
    Stale,
    /// StartWorkflow, SignalWithStart.
    Started {
        run_id: String,
        first_execution_run_id: String,
        /// False: an existing run was returned by conflict policy. A start deduplicated by its request id is true again.
        started: bool,
        /// temporal.api.enums.v1.WorkflowExecutionStatus of the run.
        status: i32,
        /// The run is open (relevant when `started` is false).
        running: bool,
        /// Granted eager workflow task.
        eager: Option<Box<WorkflowTaskStart>>,
        link: Option<Link>,
    },
    /// SignalWorkflow.
    Signaled { link: Option<Link> },
    /// UpdateWorkflow.
    Updated { run: RunKey, order: u64, status: UpdateStatus },
    /// UpdateWithStartWorkflow.
    UpdatedWithStart {
        run: RunKey,
        order: u64,
        status: UpdateStatus,
        /// This command has started the run.
        started: bool,
        first_execution_run_id: String,
        /// temporal.api.enums.v1.WorkflowExecutionStatus of the run.
        run_status: i32,
    },
    /// ResetWorkflow: the run that was made.
    Reset { run_id: String },
    /// UpdateWorkflowOptions: as they are now.
    OptionsUpdated { options: WorkflowExecutionOptions },
    /// StartWorkflowTask.
    WorkflowTaskStarted(Box<WorkflowTaskStart>),
    /// CompleteWorkflowTask.
    WorkflowTaskCompleted {
        /// When the worker asked for the next one in the answer and there is one.
        next: Option<Box<WorkflowTaskStart>>,
        /// Activities that the worker asked to have at once.
        eager_activities: Vec<PollActivityTaskQueueResponse>,
        reset_history_event_id: i64,
    },
    /// StartActivityTask.
    ActivityTaskStarted(Box<PollActivityTaskQueueResponse>),
    /// HeartbeatActivityTask.
    Heartbeat { cancel_requested: bool, paused: bool, reset: bool },
    /// DeliverOutbox: for each pair of slots that it named, the last message that is applied.
    Delivered { marks: Vec<OutboxKey> },
    /// ControlActivities, ControlStandaloneActivity: the options that are in force now.
    ActivityOptions(Box<ActivityOptions>),
    /// StartStandaloneActivity. Not started: an existing run is the answer.
    ActivityExecution { run_id: String, started: bool },
    /// Meta group: the namespace id that was made.
    NamespaceRegistered { namespace_id: String },
    /// Refused. Nothing changed, with one exception: a completion with a bad command fails its workflow task, and the worker is told
    /// why by a rejection (then the effects are not empty).
    Rejected(Rejection),
}

/// How far an update has come.
#[derive(Clone, PartialEq, Debug)]
pub enum UpdateStatus {
    /// Waits for a worker.
    Admitted,
    Accepted,
    /// Has an outcome. To be rejected is one.
    Completed(Box<Outcome>),
    /// Will have none: nobody accepted it, and the run takes it no more.
    Aborted(Rejection),
}

/// A workflow task as written: all that a poll response needs except the history's bytes.
#[derive(Clone, PartialEq, Debug)]
pub struct WorkflowTaskStart {
    pub run: RunKey,
    pub token: WorkflowTaskToken,
    pub workflow_type: Option<WorkflowType>,
    pub previous_started_event_id: EventId,
    /// Id of the started event; for an attempt that leaves no events, the id that it would have.
    pub started_event_id: EventId,
    pub attempt: Attempt,
    /// The run's normal queue.
    pub task_queue: String,
    /// Polled from the sticky queue: history starts behind `previous_started_event_id`.
    pub sticky: bool,
    /// Stored events end before this id.
    pub next_event_id: EventId,
    /// Scheduled and started events of an attempt that is not stored; they go behind the stored ones.
    pub transient_events: Vec<HistoryEvent>,
    pub scheduled_at: ShardTime,
    pub started_at: ShardTime,
    /// Updates that wait for an answer.
    pub messages: Vec<Message>,
}

/// A call that the rules refuse. Mapped to gRPC and HTTP status in one file of the server.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    pub code: Code,
    /// Temporal's own words where it has some.
    pub message: String,
    pub detail: Detail,
}

/// gRPC's code of the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    ResourceExhausted,
    PermissionDenied,
    Unimplemented,
    Unavailable,
    Aborted,
    Internal,
}

/// The message of `temporal.api.errordetails.v1` that goes with a rejection.
#[derive(Clone, PartialEq, Debug)]
pub enum Detail {
    None,
    NotFound {
        current_cluster: String,
        active_cluster: String,
    },
    WorkflowExecutionAlreadyStarted {
        start_request_id: String,
        run_id: String,
        first_execution_run_id: String,
    },
    NamespaceNotFound {
        namespace: String,
    },
    NamespaceAlreadyExists,
    ActivityExecutionAlreadyStarted {
        start_request_id: String,
        run_id: String,
    },
    /// States are temporal.api.enums.v1.NamespaceState.
    NamespaceInvalidState {
        namespace: String,
        state: i32,
        allowed_states: Vec<i32>,
    },
    QueryFailed,
    WorkflowNotReady,
    ResourceExhausted {
        cause: i32,
        scope: i32,
    },
    PermissionDenied,
    /// Of several operations in one call, what became of each.
    MultiOperation(Vec<OperationOutcome>),
}

/// See [`Detail::MultiOperation`].
#[derive(Clone, PartialEq, Debug)]
pub enum OperationOutcome {
    Done,
    /// Not done because of another one.
    Aborted,
    Refused(Rejection),
}

impl Rejection {
    /// One of the operations of update-with-start was refused: as the real server answers the whole call.
    pub fn of_operations(operations: [OperationOutcome; 2]) -> Self {
        let refused = operations.iter().find_map(|operation| match operation {
            OperationOutcome::Refused(rejection) => Some(rejection.code),
            _ => None,
        });
        Self::new(refused.unwrap_or(Code::Aborted), "Update-with-Start could not be executed.")
            .with(Detail::MultiOperation(operations.into()))
    }

    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: Detail::None }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// NOT_FOUND with its details message, as the real server sends it.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            code: Code::NotFound,
            message: message.into(),
            detail: Detail::NotFound { current_cluster: String::new(), active_cluster: String::new() },
        }
    }

    pub fn with(mut self, detail: Detail) -> Self {
        self.detail = detail;
        self
    }
}
