//! Who came first is served first, and keeps that place over a pairing that led to nothing.
use super::*;

#[tokio::test]
async fn the_oldest_poll_is_served_first() {
    let matcher = matcher();
    let polls =
        [waiting_poll(&matcher, "a").await, waiting_poll(&matcher, "b").await, waiting_poll(&matcher, "c").await];
    for n in 1..=3 {
        matcher.offer(queue(), task(n), HERE);
    }
    let mut served = Vec::new();
    for poll in polls {
        served.push(number(&matched(outcome(poll).await)));
    }
    assert_eq!(served, [1, 2, 3]);
}

#[tokio::test]
async fn a_poller_whose_task_was_gone_is_served_before_those_that_came_later() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    let pairing = matched(matcher.poll(queue(), poller("first", Duration::from_secs(60))).await.unwrap());
    let _second = waiting_poll(&matcher, "second").await;
    let first = tokio::spawn(async move { Ok(pairing.gone().await) });
    while matcher.describe(&queue()).waiting_polls < 2 {
        tokio::task::yield_now().await;
    }
    matcher.offer(queue(), task(2), HERE);
    let pairing = matched(outcome(first).await);
    assert_eq!((number(&pairing), pairing.poller().identity.as_str()), (2, "first"));
}
