//! Reports: what a run says of itself reads back as what it knew, or an honest history would be judged a false one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use stanchion_proof::program::commands::{ActivityInput, payloads};
use stanchion_proof::program::{
    Child, Close, Ends, Input, Issue, OnCancel, Op, Outcome, ParentCloses, Program, Report, Sent, Told, ToldOfChild,
    child_workflow_id, cleanup, replay,
};
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::history::v1::history_event::Attributes as A;
use stanchion_proto::temporal::history::v1::*;

fn numbered(attributes: Vec<A>) -> Vec<HistoryEvent> {
    let event = |(place, attributes)| HistoryEvent {
        event_id: place as i64 + 1,
        attributes: Some(attributes),
        ..Default::default()
    };
    attributes.into_iter().enumerate().map(event).collect()
}

fn task() -> [A; 2] {
    [
        A::WorkflowTaskScheduledEventAttributes(Default::default()),
        A::WorkflowTaskStartedEventAttributes(Default::default()),
    ]
}

#[test]
fn everything_told_of_a_child_reads_back() {
    let sent = [Sent::OnItsWay, Sent::Reached, Sent::NotReached];
    let cancels = sent.into_iter().map(Some).chain([None]);
    for cancel in cancels {
        for ended in [None, Some(Outcome::Canceled), Some(Outcome::TimedOut("child".into()))] {
            let told = ToldOfChild {
                run_id: Some("run".into()),
                failed_to_start: false,
                signals: sent.to_vec(),
                cancel,
                ended,
            };
            let ops = [("0".to_owned(), Told::Child(told))].into();
            let report = Report { chain: 0, carried: Default::default(), ops };
            let back: Report = serde_json::from_slice(&serde_json::to_vec(&report).unwrap()).unwrap();
            assert_eq!(back, report);
        }
    }
}

/// The start of the child becomes known while its parent cleans up. The task that then closes the parent asks for the child's
/// cancellation as well, so the parent closes with a request on its way.
#[test]
fn a_run_closes_with_a_request_on_its_way() {
    let id = "parent";
    let nothing = Program { body: Vec::new(), ends: Ends::Completes, on_cancel: OnCancel::Ignores };
    let child = Child {
        program: nothing.clone(),
        parent_closes: ParentCloses::Abandon,
        signals: 0,
        cancels: false,
        waits: true,
    };
    let program =
        Program { body: vec![Op::Child(Box::new(child))], ends: Ends::Completes, on_cancel: OnCancel::CleansUp };
    let input = |program| payloads(&Input { program, chain: 0, carried: Default::default() });
    let child_run = WorkflowExecution { workflow_id: child_workflow_id(id, 0, "0"), run_id: "run-of-the-child".into() };
    let mut history = vec![A::WorkflowExecutionStartedEventAttributes(WorkflowExecutionStartedEventAttributes {
        input: Some(input(program)),
        ..Default::default()
    })];
    history.extend(task());
    history.push(A::WorkflowTaskCompletedEventAttributes(Default::default()));
    history.push(A::StartChildWorkflowExecutionInitiatedEventAttributes(
        StartChildWorkflowExecutionInitiatedEventAttributes {
            workflow_id: child_run.workflow_id.clone(),
            input: Some(input(nothing)),
            ..Default::default()
        },
    ));
    let initiated_event_id = history.len() as i64;
    history.push(A::WorkflowExecutionCancelRequestedEventAttributes(Default::default()));
    history.extend(task());
    history.push(A::WorkflowTaskCompletedEventAttributes(Default::default()));
    history.push(A::ActivityTaskScheduledEventAttributes(ActivityTaskScheduledEventAttributes {
        activity_id: "cleanup".into(),
        input: Some(payloads(&ActivityInput { path: "cleanup".into(), activity: cleanup() })),
        ..Default::default()
    }));
    let scheduled_event_id = history.len() as i64;
    history.push(A::ChildWorkflowExecutionStartedEventAttributes(ChildWorkflowExecutionStartedEventAttributes {
        initiated_event_id,
        workflow_execution: Some(child_run.clone()),
        ..Default::default()
    }));
    history.push(A::ActivityTaskCompletedEventAttributes(ActivityTaskCompletedEventAttributes {
        scheduled_event_id,
        result: Some(payloads(&"done")),
        ..Default::default()
    }));
    history.extend(task());

    let issues = replay(id, &numbered(history.clone())).expect("an honest history").decide(&[]);
    let [Issue::CancelChild { .. }, Issue::Close(Close::Canceled(report))] = &issues[..] else {
        panic!("it did {issues:?}");
    };
    let Some(Told::Child(told)) = report.ops.get("0") else { panic!("it told {report:?}") };
    assert_eq!(told.cancel, Some(Sent::OnItsWay));

    history.push(A::WorkflowTaskCompletedEventAttributes(Default::default()));
    history.push(A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(
        RequestCancelExternalWorkflowExecutionInitiatedEventAttributes {
            workflow_execution: Some(child_run),
            ..Default::default()
        },
    ));
    history.push(A::WorkflowExecutionCanceledEventAttributes(WorkflowExecutionCanceledEventAttributes {
        details: Some(payloads(report)),
        ..Default::default()
    }));
    replay(id, &numbered(history)).expect("what the worker did is what its events make");
}
