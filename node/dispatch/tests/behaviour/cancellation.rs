//! A client that goes away takes nothing with it.
use super::*;

#[tokio::test]
async fn an_abandoned_poll_gets_no_task() {
    let matcher = matcher();
    let gone = waiting_poll(&matcher, "gone").await;
    let stays = waiting_poll(&matcher, "stays").await;
    gone.abort();
    let _ = gone.await;
    matcher.offer(queue(), task(1), HERE);
    assert_eq!(number(&matched(outcome(stays).await)), 1);
}

/// The poll was given its task but never ran again before its client left.
#[tokio::test]
async fn a_task_on_its_way_to_an_abandoned_poll_goes_to_the_next() {
    let matcher = matcher();
    let gone = waiting_poll(&matcher, "gone").await;
    // Nothing yields between these two calls, so the poll cannot look at its task.
    matcher.offer(queue(), task(1), HERE);
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(take_all(&matcher).await, [1]);
}

#[tokio::test]
async fn a_task_paired_with_an_abandoned_poll_goes_back_to_the_front() {
    let matcher = matcher();
    for n in 1..=3 {
        matcher.offer(queue(), task(n), HERE);
    }
    let pairing = matched(poll_now(&matcher).await);
    assert_eq!(number(&pairing), 1);
    drop(pairing);
    assert_eq!(take_all(&matcher).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_task_that_comes_back_goes_to_a_poller_that_waits() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    let pairing = matched(poll_now(&matcher).await);
    let next = waiting_poll(&matcher, "next").await;
    drop(pairing);
    assert_eq!(number(&matched(outcome(next).await)), 1);
}

#[tokio::test]
async fn a_query_on_its_way_to_an_abandoned_poll_goes_to_the_next() {
    let matcher = matcher();
    let gone = waiting_poll(&matcher, "gone").await;
    matcher.offer_query(queue(), query("1")).unwrap();
    gone.abort();
    let _ = gone.await;
    assert!(matches!(poll_now(&matcher).await, PollOutcome::Query(query) if query.id == "1"));
}

#[tokio::test(start_paused = true)]
async fn a_poll_ends_empty_at_its_deadline() {
    let matcher = matcher();
    let start = tokio::time::Instant::now();
    let ended = matcher.poll(queue(), poller("w", Duration::from_secs(59))).await.unwrap();
    assert!(matches!(ended, PollOutcome::Empty));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(59) && took < Duration::from_millis(59_050), "{took:?}");
    assert_eq!(matcher.describe(&queue()).waiting_polls, 0);
}
