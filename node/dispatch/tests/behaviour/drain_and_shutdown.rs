//! Polls are answered at once when their worker or this node is about to end.
use super::*;

#[tokio::test]
async fn draining_answers_open_polls_and_later_ones() {
    let matcher = matcher();
    let open = waiting_poll(&matcher, "w").await;
    matcher.drain();
    assert!(matches!(outcome(open).await, PollOutcome::Shutdown));
    matcher.offer(queue(), task(1), HERE);
    assert!(matches!(poll_now(&matcher).await, PollOutcome::Shutdown));
    assert_eq!(matcher.reserve(&queue()), None);
}

#[tokio::test]
async fn a_pairing_made_before_the_drain_is_finished_and_its_poller_does_not_wait_on() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    let pairing = matched(poll_now(&matcher).await);
    matcher.drain();
    assert!(matches!(pairing.gone().await, PollOutcome::Shutdown));
}

#[tokio::test]
async fn a_worker_that_shuts_down_gets_its_polls_back_empty() {
    let matcher = matcher();
    let leaving = waiting_poll(&matcher, "leaving").await;
    let staying = waiting_poll(&matcher, "staying").await;
    matcher.cancel_polls("leaving-key");
    assert!(matches!(outcome(leaving).await, PollOutcome::Empty));

    // A poll that was on its way when its worker said goodbye.
    matcher.offer(queue(), task(1), HERE);
    matcher.offer(queue(), task(2), HERE);
    let late = matcher.poll(queue(), poller("leaving", Duration::from_secs(60))).await.unwrap();
    assert!(matches!(late, PollOutcome::Empty));
    assert_eq!(number(&matched(outcome(staying).await)), 1);
}

#[tokio::test]
async fn a_worker_without_an_instance_key_cancels_nobody() {
    let matcher = matcher();
    let mut spec = poller("old", Duration::from_secs(60));
    spec.poller.worker_instance_key.clear();
    let theirs = matcher.clone();
    let poll = tokio::spawn(async move { theirs.poll(queue(), spec).await });
    while matcher.describe(&queue()).waiting_polls == 0 {
        tokio::task::yield_now().await;
    }
    matcher.cancel_polls("");
    matcher.offer(queue(), task(1), HERE);
    matched(outcome(poll).await);
}

#[tokio::test]
async fn a_sticky_queue_is_answered_empty_as_a_whole() {
    let matcher = matcher();
    let first = waiting_poll(&matcher, "a").await;
    let second = waiting_poll(&matcher, "b").await;
    matcher.cancel_queue(&queue());
    assert!(matches!(outcome(first).await, PollOutcome::Empty));
    assert!(matches!(outcome(second).await, PollOutcome::Empty));
}

#[tokio::test]
async fn a_held_poller_whose_worker_shut_down_is_answered_empty_when_released() {
    let matcher = matcher();
    let poll = waiting_poll(&matcher, "w").await;
    let held = matcher.reserve(&queue()).unwrap();
    matcher.cancel_polls("w-key");
    matcher.release(held.ticket);
    assert!(matches!(outcome(poll).await, PollOutcome::Empty));
}
