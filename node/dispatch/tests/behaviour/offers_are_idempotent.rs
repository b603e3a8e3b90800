//! Leaders repeat their offers; a task waits once.
use super::*;

#[tokio::test]
async fn the_same_task_waits_once() {
    let matcher = matcher();
    for _ in 0..3 {
        matcher.offer(queue(), task(1), HERE);
    }
    assert_eq!(take_all(&matcher).await, [1]);
}

#[tokio::test]
async fn another_attempt_or_stamp_is_another_task() {
    let matcher = matcher();
    let mut retried = task(1);
    retried.task.attempt = 2;
    let mut rescheduled = task(1);
    rescheduled.task.stamp = 2;
    for offer in [task(1), retried, rescheduled] {
        matcher.offer(queue(), offer, HERE);
    }
    assert_eq!(take_all(&matcher).await.len(), 3);
}

#[tokio::test]
async fn a_task_that_is_being_started_is_not_given_to_a_second_poller() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    let pairing = matched(poll_now(&matcher).await);
    matcher.offer(queue(), task(1), HERE);
    assert_eq!(matcher.describe(&queue()).backlog_count_hint, 0);
    pairing.started();
    assert_eq!(matcher.describe(&queue()).backlog_count_hint, 0, "started is final");
}

#[tokio::test]
async fn a_withdrawn_task_waits_no_more() {
    let matcher = matcher();
    for n in 1..=3 {
        matcher.offer(queue(), task(n), HERE);
    }
    matcher.withdraw(&task(2).task);
    matcher.withdraw(&task(9).task);
    assert_eq!(take_all(&matcher).await, [1, 3]);
}

#[tokio::test]
async fn a_task_withdrawn_while_it_is_being_started_does_not_come_back() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    let pairing = matched(poll_now(&matcher).await);
    matcher.withdraw(&task(1).task);
    drop(pairing);
    assert_eq!(matcher.describe(&queue()).backlog_count_hint, 0);
}
