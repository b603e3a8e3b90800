use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::history::v1::{
    ChildWorkflowExecutionCompletedEventAttributes, ChildWorkflowExecutionStartedEventAttributes, HistoryEvent,
    StartChildWorkflowExecutionInitiatedEventAttributes, WorkflowExecutionCompletedEventAttributes,
};

use super::*;
use crate::client::json_payloads;

fn event(attributes: Attributes) -> HistoryEvent {
    HistoryEvent { attributes: Some(attributes), ..Default::default() }
}

fn child(number: u64) -> Vec<HistoryEvent> {
    let name = format!("family-child-{number}");
    let execution = Some(WorkflowExecution { workflow_id: name.clone(), run_id: format!("run-{number}") });
    vec![
        event(Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(
            StartChildWorkflowExecutionInitiatedEventAttributes { workflow_id: name, ..Default::default() },
        )),
        event(Attributes::ChildWorkflowExecutionStartedEventAttributes(ChildWorkflowExecutionStartedEventAttributes {
            workflow_execution: execution.clone(),
            ..Default::default()
        })),
        event(Attributes::ChildWorkflowExecutionCompletedEventAttributes(
            ChildWorkflowExecutionCompletedEventAttributes {
                workflow_execution: execution,
                result: Some(json_payloads(&json!(number))),
                ..Default::default()
            },
        )),
    ]
}

fn family(sum: u64) -> RunHistory {
    let mut events: Vec<HistoryEvent> = (1..=CHILDREN).flat_map(child).collect();
    events.push(event(Attributes::WorkflowExecutionCompletedEventAttributes(
        WorkflowExecutionCompletedEventAttributes { result: Some(json_payloads(&json!(sum))), ..Default::default() },
    )));
    RunHistory { workflow_id: "family".into(), run_id: "run".into(), events }
}

#[test]
fn a_whole_family_passes() {
    let verdict = families(&[family(21)]);
    assert!(verdict.holds(), "{verdict:?}");
    assert_eq!(verdict.looked_at, CHILDREN);
}

#[test]
fn a_child_told_of_twice_and_a_wrong_sum_are_found() {
    let mut twice = family(21);
    let again = twice.events[2].clone();
    twice.events.push(again);
    assert_eq!(families(&[twice]).violations.len(), 1);
    assert_eq!(families(&[family(20)]).violations.len(), 1);
}
