//! What a workflow writes beside its work.

use expect_test::expect;

use crate::scenario::*;

use stanchion_proto::temporal::command::v1 as cmd;
use stanchion_proto::temporal::command::v1::command::Attributes as A;
use stanchion_proto::temporal::common::v1::Memo;
use stanchion_proto::temporal::enums::v1::CommandType;

#[test]
fn memo_fields_are_added_changed_and_removed() {
    let memo = |fields: &[(&str, &str)]| Memo {
        fields: fields.iter().map(|(name, value)| (name.to_string(), payload(value))).collect(),
    };
    let mut w = World::new();
    w.start_with(|r| r.memo = Some(memo(&[("kept", "1"), ("changed", "2"), ("removed", "3")])));
    w.poll();
    w.complete(vec![command(
        CommandType::ModifyWorkflowProperties,
        A::ModifyWorkflowPropertiesCommandAttributes(cmd::ModifyWorkflowPropertiesCommandAttributes {
            upserted_memo: Some(memo(&[("changed", "two"), ("removed", ""), ("added", "4")])),
        }),
    )]);
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowPropertiesModified fields=added,changed,removed
    "#]]
    .assert_eq(&w.news());
    let now = stanchion_engine::ShardTime(w.now);
    let described = stanchion_engine::read::describe(&w.state, NAMESPACE, WORKFLOW, "", now).unwrap().unwrap();
    let memo = described.workflow_execution_info.unwrap().memo.unwrap();
    expect!["added,changed,kept"].assert_eq(&memo.fields.keys().cloned().collect::<Vec<_>>().join(","));
}
