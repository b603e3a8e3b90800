//! What most workloads begin with: a run, its start in the journal.
//!
//! Never: a start whose outcome is unknown called one that failed. Called by the workloads in this folder.

use std::time::Duration;

use rand::Rng as _;
use serde_json::{Value, json};
use stanchion_proof::journal::OpId;
use stanchion_proto::temporal::common::v1::WorkflowType;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest;
use uuid::Uuid;

use crate::client::{Client, Outcome, json_payloads};
use crate::scene::NAMESPACE;

/// A queue that nobody polls: its runs stay as they are.
pub const NOBODY: &str = "jepsen-nobody";

/// Starts a run under this workflow id; its run id, if that was acknowledged. `Value::Null` is no input.
pub async fn start(
    client: &mut Client,
    workflow_id: &str,
    kind: &str,
    queue: &str,
    input: Value,
    within: Duration,
) -> Option<String> {
    let request = StartWorkflowExecutionRequest {
        namespace: NAMESPACE.into(),
        workflow_id: workflow_id.to_owned(),
        workflow_type: Some(WorkflowType { name: kind.into() }),
        task_queue: Some(TaskQueue { name: queue.into(), ..Default::default() }),
        input: (!input.is_null()).then(|| json_payloads(&input)),
        request_id: Uuid::from_u128(client.chance.random()).to_string(),
        identity: "jepsen".into(),
        ..Default::default()
    };
    let op = client.journal.invoke(client.process, "start", workflow_id, input);
    let started = client
        .call(within, |mut service| {
            let request = request.clone();
            async move { service.start_workflow_execution(request).await.map(tonic::Response::into_inner) }
        })
        .await;
    match started {
        Outcome::Ok { reply, .. } => {
            client.journal.ok(op, json!({ "run": reply.run_id }));
            Some(reply.run_id)
        }
        ended => {
            end_unanswered(client, op, ended);
            None
        }
    }
}

/// Journals a read's answer as `told` has it, and hands it on. One that was not answered has failed: a read has no effect either way.
pub fn answer_of<T>(client: &Client, op: OpId, read: Outcome<T>, told: impl FnOnce(&T) -> Value) -> Option<T> {
    match read {
        Outcome::Ok { reply, .. } => {
            client.journal.ok(op, told(&reply));
            return Some(reply);
        }
        Outcome::Refused { status, .. } => {
            client.journal.fail(op, &format!("{:?}: {}", status.code(), status.message()))
        }
        Outcome::Unknown(why) => client.journal.fail(op, &why),
    }
    None
}

/// Journals a mutation that was not acknowledged.
pub fn end_unanswered<T>(client: &mut Client, op: OpId, ended: Outcome<T>) {
    match ended {
        Outcome::Ok { .. } => client.journal.ok(op, Value::Null),
        Outcome::Refused { status, certain: true, .. } => {
            client.journal.fail(op, &format!("{:?}: {}", status.code(), status.message()))
        }
        Outcome::Refused { status, .. } => {
            client.journal.info(op, &format!("after an unknown attempt, {:?}: {}", status.code(), status.message()));
            client.go_on_as_another();
        }
        Outcome::Unknown(why) => {
            client.journal.info(op, &why);
            client.go_on_as_another();
        }
    }
}
