use stanchion_proto::temporal::common::v1::{Payload, Payloads};
use stanchion_proto::temporal::history::v1::{
    WorkflowExecutionCompletedEventAttributes, WorkflowExecutionStartedEventAttributes,
};

use super::*;

fn events() -> Vec<HistoryEvent> {
    let payload = Payload {
        metadata: [("encoding".to_owned(), b"json/plain".to_vec().into())].into(),
        data: "\"you\"".into(),
        ..Default::default()
    };
    let started = WorkflowExecutionStartedEventAttributes {
        workflow_id: "w".into(),
        original_execution_run_id: "r".into(),
        input: Some(Payloads { payloads: vec![payload] }),
        ..Default::default()
    };
    let event = |event_id, attributes| HistoryEvent { event_id, attributes: Some(attributes), ..Default::default() };
    vec![
        event(1, Attributes::WorkflowExecutionStartedEventAttributes(started)),
        event(
            2,
            Attributes::WorkflowExecutionCompletedEventAttributes(WorkflowExecutionCompletedEventAttributes::default()),
        ),
    ]
}

#[test]
fn an_export_is_read_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut export = Export::into(dir.path()).unwrap();
    export.add("a/b", "w", "..", &events()).unwrap();
    export.finish().unwrap();
    assert!(Export::into(dir.path()).is_err(), "the folder is not empty");
    let [kept] = &read(dir.path()).unwrap()[..] else { panic!("one run") };
    assert_eq!((kept.namespace.as_str(), kept.workflow_id.as_str(), kept.run_id.as_str()), ("a/b", "w", ".."));
    assert_eq!(kept.events, events());

    let file = dir.path().join("a%2Fb").join("%2E..json");
    let changed = fs::read_to_string(&file).unwrap().replace("\"2\"", "\"3\"");
    fs::write(&file, changed).unwrap();
    let error = read(dir.path()).err().unwrap().to_string();
    assert!(error.contains("is not what was exported"), "{error}");
    let [alone] = &read(&file).unwrap()[..] else { panic!("one run") };
    assert_eq!((alone.workflow_id.as_str(), alone.run_id.as_str(), alone.events[1].event_id), ("w", "r", 3));
}

#[test]
fn payloads_as_the_cli_shortens_them_are_passed_over() {
    let text = r#"{"events": [{
        "eventId": "1", "eventTime": "2026-11-21T14:00:00.5Z", "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED", "notYet": 1,
        "workflowExecutionStartedEventAttributes": {"workflowId": "w", "input": ["you", {"a": [1]}], "header": {"fields": {"h": "x"}}}
    }]}"#;
    let read = Json::new().unwrap().read(text.as_bytes()).unwrap();
    let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) = &read[0].attributes else {
        panic!("{read:?}")
    };
    assert_eq!((started.workflow_id.as_str(), &started.input), ("w", &None));
    assert_eq!(read[0].event_time.as_ref().unwrap().nanos, 500_000_000);
}

#[test]
fn what_is_no_history_is_refused() {
    let json = Json::new().unwrap();
    for text in ["", "[]", "{}", r#"{"events": [{"eventId": true}]}"#] {
        assert!(json.read(text.as_bytes()).is_err(), "{text}");
    }
}
