//! A poller taken aside is answered once: by the hand-over, or by what comes after its release.
use super::*;

#[tokio::test]
async fn a_hand_over_answers_the_poll() {
    let matcher = matcher();
    let poll = waiting_poll(&matcher, "w").await;
    let held = matcher.reserve(&queue()).unwrap();
    assert_eq!(held.poller.identity, "w");
    assert!(!held.poller.request_id.is_empty());
    matcher.hand_over(held.ticket, vec![1, 2, 3].into()).unwrap();
    assert!(matches!(outcome(poll).await, PollOutcome::HandedOver(payload) if payload[..] == [1, 2, 3]));
    assert!(matcher.hand_over(held.ticket, vec![4].into()).is_err(), "a ticket is good for once");
    matcher.release(held.ticket);
}

#[tokio::test]
async fn a_held_poller_gets_no_offer() {
    let matcher = matcher();
    let held_poll = waiting_poll(&matcher, "held").await;
    let held = matcher.reserve(&queue()).unwrap();
    let other = waiting_poll(&matcher, "other").await;
    matcher.offer(queue(), task(1), HERE);
    assert_eq!(number(&matched(outcome(other).await)), 1);
    assert!(!held_poll.is_finished());
    matcher.release(held.ticket);
}

#[tokio::test]
async fn a_released_poller_is_back_at_the_front() {
    let matcher = matcher();
    let first = waiting_poll(&matcher, "first").await;
    let _second = waiting_poll(&matcher, "second").await;
    let held = matcher.reserve(&queue()).unwrap();
    assert_eq!(held.poller.identity, "first");
    matcher.release(held.ticket);
    matcher.offer(queue(), task(1), HERE);
    assert_eq!(matched(outcome(first).await).poller().identity, "first");
}

#[tokio::test]
async fn a_released_poller_takes_what_came_meanwhile() {
    let matcher = matcher();
    let poll = waiting_poll(&matcher, "w").await;
    let held = matcher.reserve(&queue()).unwrap();
    matcher.offer(queue(), task(1), HERE);
    matcher.release(held.ticket);
    assert_eq!(number(&matched(outcome(poll).await)), 1);
}

#[tokio::test]
async fn nobody_waits_nobody_is_held() {
    let matcher = matcher();
    assert_eq!(matcher.reserve(&queue()), None);
    let _short = waiting_poll_for(&matcher, "short", Duration::from_millis(400)).await;
    assert_eq!(matcher.reserve(&queue()), None, "a poll about to end is no good for a command");
}

#[tokio::test]
async fn a_hand_over_to_a_poller_that_has_gone_says_so() {
    let matcher = matcher();
    let poll = waiting_poll(&matcher, "w").await;
    let held = matcher.reserve(&queue()).unwrap();
    poll.abort();
    let _ = poll.await;
    let gone = matcher.hand_over(held.ticket, vec![1].into()).unwrap_err();
    assert_eq!(gone.to_string(), "the poller held by this reservation has gone");
}

/// A command in flight may start a task for it: the poll waits a moment longer than its deadline, and no more.
#[tokio::test(start_paused = true)]
async fn a_held_poller_gets_a_hand_over_just_after_its_deadline() {
    let matcher = matcher();
    let poll = waiting_poll_for(&matcher, "w", Duration::from_secs(1)).await;
    let held = matcher.reserve(&queue()).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(!poll.is_finished());
    matcher.hand_over(held.ticket, vec![1].into()).unwrap();
    assert!(matches!(outcome(poll).await, PollOutcome::HandedOver(_)));
}

#[tokio::test(start_paused = true)]
async fn a_held_poller_ends_empty_when_nothing_comes() {
    let matcher = matcher();
    let start = tokio::time::Instant::now();
    let poll = waiting_poll_for(&matcher, "w", Duration::from_secs(1)).await;
    let held = matcher.reserve(&queue()).unwrap();
    assert!(matches!(outcome(poll).await, PollOutcome::Empty));
    assert!(start.elapsed() < Duration::from_millis(1300));
    assert!(matcher.hand_over(held.ticket, vec![1].into()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_held_poller_released_after_its_deadline_ends_empty_at_once() {
    let matcher = matcher();
    let poll = waiting_poll_for(&matcher, "w", Duration::from_secs(1)).await;
    let held = matcher.reserve(&queue()).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let released = tokio::time::Instant::now();
    matcher.release(held.ticket);
    assert!(matches!(outcome(poll).await, PollOutcome::Empty));
    assert_eq!(released.elapsed(), Duration::ZERO);
}

/// A command whose caller went away never releases its pollers.
#[tokio::test(start_paused = true)]
async fn a_forgotten_hold_is_void_once_there_is_work() {
    let matcher = matcher();
    let poll = waiting_poll(&matcher, "w").await;
    let held = matcher.reserve(&queue()).unwrap();
    matcher.offer(queue(), task(1), HERE);
    assert!(!poll.is_finished());
    tokio::time::advance(Duration::from_secs(31)).await;
    matcher.offer(queue(), task(1), HERE);
    matcher.offer(queue(), task(2), HERE);
    assert_eq!(number(&matched(outcome(poll).await)), 1);
    assert!(matcher.hand_over(held.ticket, vec![1].into()).is_err());
}
