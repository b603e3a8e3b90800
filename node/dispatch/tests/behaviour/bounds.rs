//! What is refused names its limit and the value.
use super::*;

#[tokio::test]
async fn one_poll_too_many_is_refused() {
    let matcher = Dispatch::new(Arc::new(Limits { pollers_per_queue_max: 2, ..Limits::default() }));
    let _first = waiting_poll(&matcher, "a").await;
    let second = waiting_poll(&matcher, "b").await;
    let refused = matcher.poll(queue(), poller("c", Duration::from_secs(1))).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "activity task queue `q` has 2 waiting polls already; the limit pollers_per_queue_max is 2"
    );

    second.abort();
    let _ = second.await;
    waiting_poll(&matcher, "c").await;
}

#[tokio::test]
async fn one_query_too_many_is_refused_and_expired_ones_do_not_count() {
    let matcher = Dispatch::new(Arc::new(Limits { offer_window: 1, ..Limits::default() }));
    matcher.offer_query(queue(), QueryTask { deadline: now(), ..query("expired") }).unwrap();
    matcher.offer_query(queue(), query("1")).unwrap();
    let refused = matcher.offer_query(queue(), query("2")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "activity task queue `q` has 1 waiting queries already; the limit offer_window is 1"
    );
}

#[tokio::test]
async fn a_held_poller_still_counts() {
    let matcher = Dispatch::new(Arc::new(Limits { pollers_per_queue_max: 1, ..Limits::default() }));
    let _poll = waiting_poll(&matcher, "a").await;
    matcher.reserve(&queue()).unwrap();
    assert!(matcher.poll(queue(), poller("b", Duration::from_secs(1))).await.is_err());
}
