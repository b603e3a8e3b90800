//! Sticky queues come and go with their workers: a queue without work and pollers must not stay for ever.
use super::*;

#[tokio::test(start_paused = true)]
async fn a_queue_goes_minutes_after_its_last_poll() {
    let matcher = matcher();
    matcher.poll(queue(), poller("w", Duration::from_secs(1))).await.unwrap();
    matcher.sweep();
    assert_eq!(matcher.queues(), 1, "its pollers are still worth describing");
    tokio::time::advance(Duration::from_secs(301)).await;
    matcher.sweep();
    assert_eq!(matcher.queues(), 0);
    matcher.offer(queue(), task(1), HERE);
    assert_eq!(take_all(&matcher).await, [1], "and comes back when it is used");
}

#[tokio::test(start_paused = true)]
async fn a_queue_in_use_stays() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    let pairing = matched(poll_now(&matcher).await);
    tokio::time::advance(Duration::from_secs(301)).await;
    matcher.sweep();
    assert_eq!(matcher.queues(), 1, "a task of it is being started");
    pairing.started();
    matcher.sweep();
    assert_eq!(matcher.queues(), 0);
}

#[tokio::test]
async fn queues_are_swept_as_they_are_added() {
    let matcher = matcher();
    for n in 0..20_000 {
        let key = QueueKey { name: format!("sticky-{n}"), ..queue() };
        matcher.offer(key, task(n), HERE);
        matcher.withdraw(&task(n).task);
    }
    assert!(matcher.queues() < 5_000, "{} queues are left", matcher.queues());
}
