//! Queries that wait for a worker.

use super::*;

fn run() -> RunKey {
    RunKey { namespace_id: "n".into(), workflow_id: "w".into(), run_id: "r".into() }
}

fn result(message: &str) -> BTreeMap<String, WorkflowQueryResult> {
    let result = WorkflowQueryResult { error_message: message.into(), ..Default::default() };
    BTreeMap::from([("q".to_owned(), result)])
}

fn asked(queries: &Queries, from_stamp: u64) -> oneshot::Receiver<Answer> {
    queries.wait(&run(), "q", WorkflowQuery::default(), from_stamp, 10).ok().unwrap()
}

fn text(answer: Answer) -> String {
    match answer {
        Answer::Result(result) => result.error_message,
        Answer::AskDirectly => "ask directly".into(),
    }
}

#[test]
fn a_query_goes_with_no_task_that_started_before_what_its_asker_knows() {
    let queries = Queries::default();
    let _receiver = asked(&queries, 5);
    assert!(queries.attach(&run(), 4).is_empty(), "its history may lack an acknowledged signal");
    assert_eq!(queries.attach(&run(), 5).len(), 1);
}

#[test]
fn answers_of_a_refused_completion_never_go_out_with_another_one() {
    let queries = Queries::default();
    let mut receiver = asked(&queries, 1);
    let valid = queries.announce(&run(), result("right"));
    let stale = queries.announce(&run(), result("stale"));
    queries.run_is_idle(&run());
    valid.deliver();
    drop(stale);
    assert_eq!(text(receiver.try_recv().unwrap()), "right");
    assert!(queries.arriving.lock().is_empty() && queries.runs.lock().is_empty());
}

#[test]
fn an_asker_whose_only_answer_was_refused_asks_again() {
    let queries = Queries::default();
    let mut receiver = asked(&queries, 1);
    let stale = queries.announce(&run(), result("stale"));
    queries.announce(&run(), BTreeMap::new()).deliver();
    queries.run_is_idle(&run());
    assert!(receiver.try_recv().is_err(), "not decided yet");
    drop(stale);
    assert_eq!(text(receiver.try_recv().unwrap()), "ask directly");
}
