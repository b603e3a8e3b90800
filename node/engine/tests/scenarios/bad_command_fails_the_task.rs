//! A command that breaks a rule undoes its whole completion and fails the workflow task.

use expect_test::expect;

use crate::scenario::*;

#[test]
fn nothing_of_the_completion_is_left() {
    let mut w = World::at_work();
    expect!["InvalidArgument: BadRecordMarkerAttributes: MarkerName is not set on RecordMarkerCommand."]
        .assert_eq(&w.complete(vec![marker("kept?"), marker("")]));
    expect![[r#"
        offer workflow 5 attempt 2 on tq
        run-1 next event 5
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=BadRecordMarkerAttributes failure="BadRecordMarkerAttributes: MarkerName is not set on RecordMarkerCommand." identity=worker
    "#]].assert_eq(&w.news());
}

#[test]
fn the_same_again_is_left_to_the_time_out() {
    let mut w = World::at_work();
    w.complete(vec![marker("")]);
    w.poll();
    expect!["InvalidArgument: BadRecordMarkerAttributes: MarkerName is not set on RecordMarkerCommand."]
        .assert_eq(&w.complete(vec![marker("")]));
    expect!["nothing"].assert_eq(&w.effects());
    w.pass(10);
    expect!["stale; done"].assert_eq(&w.fire_deadlines());
    expect!["task 6 attempt 3"].assert_eq(&w.poll());
    w.complete(vec![complete_workflow("bye")]);
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=BadRecordMarkerAttributes failure="BadRecordMarkerAttributes: MarkerName is not set on RecordMarkerCommand." identity=worker
        5 WorkflowTaskScheduled queue=tq attempt=3
        6 WorkflowTaskStarted scheduled=5
        7 WorkflowTaskCompleted scheduled=5 started=6
        8 WorkflowExecutionCompleted result=bye
    "#]].assert_eq(&w.news());
}

#[test]
fn commands_behind_a_closing_one_are_refused_without_a_trace() {
    let mut w = World::at_work();
    expect!["InvalidArgument: invalid command sequence: [CompleteWorkflowExecution, RecordMarker], command CompleteWorkflowExecution must be the last command."].assert_eq(&w.complete(vec![complete_workflow("bye"), marker("m")]));
    expect![""].assert_eq(&w.news());
}

#[test]
fn an_unsupported_command_is_named() {
    use stanchion_proto::temporal::enums::v1::CommandType;
    let mut w = World::at_work();
    let nexus = stanchion_proto::temporal::command::v1::Command {
        command_type: CommandType::ScheduleNexusOperation as i32,
        ..Default::default()
    };
    expect!["InvalidArgument: BadScheduleNexusOperationAttributes: ScheduleNexusOperationCommand is not supported by this release."].assert_eq(&w.complete(vec![nexus]));
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=BadScheduleNexusOperationAttributes failure="BadScheduleNexusOperationAttributes: ScheduleNexusOperationCommand is not supported by this release." identity=worker
    "#]].assert_eq(&w.news());
}

#[test]
fn an_oversized_result_ends_the_run() {
    let mut w = World::new();
    w.bounds = Some(stanchion_proto::command::Bounds { payload_bytes_max: 10, ..Default::default() });
    w.start();
    w.poll();
    expect!["InvalidArgument: BadScheduleActivityAttributes: CompleteWorkflowExecutionCommandAttributes.Result exceeds size limit."].assert_eq(&w.complete(vec![complete_workflow("more than ten bytes")]));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskFailed scheduled=2 started=3 cause=BadScheduleActivityAttributes failure="BadScheduleActivityAttributes: CompleteWorkflowExecutionCommandAttributes.Result exceeds size limit." identity=worker
        5 WorkflowExecutionTerminated reason="BadScheduleActivityAttributes: CompleteWorkflowExecutionCommandAttributes.Result exceeds size limit." identity=history-service
    "#]].assert_eq(&w.news());
}

#[test]
fn an_oversized_search_attribute_ends_the_run() {
    use stanchion_proto::temporal::command::v1::UpsertWorkflowSearchAttributesCommandAttributes;
    use stanchion_proto::temporal::command::v1::command::Attributes;
    use stanchion_proto::temporal::common::v1::SearchAttributes;
    use stanchion_proto::temporal::enums::v1::CommandType;
    let mut w = World::new();
    w.start();
    w.poll();
    let fields = [("CustomText".to_owned(), payload(&"x".repeat(2049)))];
    let upsert = UpsertWorkflowSearchAttributesCommandAttributes {
        search_attributes: Some(SearchAttributes { indexed_fields: fields.into() }),
    };
    let upsert = Attributes::UpsertWorkflowSearchAttributesCommandAttributes(upsert);
    expect![
        "InvalidArgument: BadSearchAttributes: search attribute CustomText value size 2049 exceeds size limit 2048"
    ]
    .assert_eq(&w.complete(vec![command(CommandType::UpsertWorkflowSearchAttributes, upsert)]));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskFailed scheduled=2 started=3 cause=BadSearchAttributes failure="BadSearchAttributes: search attribute CustomText value size 2049 exceeds size limit 2048" identity=worker
        5 WorkflowExecutionTerminated reason="BadSearchAttributes: search attribute CustomText value size 2049 exceeds size limit 2048" identity=history-service
    "#]].assert_eq(&w.history());
}
