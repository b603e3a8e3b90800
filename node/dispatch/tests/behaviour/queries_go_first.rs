//! Queries are matched like tasks, before them.
use super::*;

#[tokio::test]
async fn a_query_overtakes_tasks() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    matcher.offer_query(queue(), query("1")).unwrap();
    matcher.offer_query(queue(), query("2")).unwrap();
    for id in ["1", "2"] {
        match poll_now(&matcher).await {
            PollOutcome::Query(query) => assert_eq!((query.id.as_str(), &query.response[..]), (id, id.as_bytes())),
            other => panic!("expected a query, got {other:?}"),
        }
    }
    assert_eq!(take_all(&matcher).await, [1]);
}

#[tokio::test]
async fn a_query_finds_a_waiting_poller() {
    let matcher = matcher();
    let poll = waiting_poll(&matcher, "w").await;
    matcher.offer_query(queue(), query("1")).unwrap();
    assert!(matches!(outcome(poll).await, PollOutcome::Query(query) if query.id == "1"));
}

#[tokio::test]
async fn a_query_without_an_asker_is_skipped() {
    let matcher = matcher();
    matcher.offer_query(queue(), query("withdrawn")).unwrap();
    matcher.offer_query(queue(), QueryTask { deadline: now(), ..query("expired") }).unwrap();
    matcher.withdraw_query(&queue(), "withdrawn");
    let empty = matcher.poll(queue(), poller("w", Duration::from_millis(5))).await.unwrap();
    assert!(matches!(empty, PollOutcome::Empty));
}
