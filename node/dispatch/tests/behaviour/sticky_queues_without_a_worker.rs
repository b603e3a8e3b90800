use super::*;

fn sticky(n: i64) -> Offer {
    Offer { sticky: true, normal_task_queue: "normal".into(), ..task(n) }
}

#[tokio::test]
async fn a_sticky_queue_that_nobody_has_polled_takes_no_task() {
    let matcher = matcher();
    assert!(!matcher.offer(queue(), sticky(1), HERE));
    assert_eq!(matcher.describe(&queue()).backlog_count_hint, 0);
    assert!(matcher.offer(queue(), task(2), HERE), "a normal queue waits for its first poller");
}

#[tokio::test(start_paused = true)]
async fn a_sticky_queue_is_its_workers_for_ten_seconds_after_the_last_poll() {
    let matcher = matcher();
    matcher.poll(queue(), poller("w", Duration::from_secs(1))).await.unwrap();
    tokio::time::advance(Duration::from_secs(8)).await;
    assert!(matcher.offer(queue(), sticky(1), HERE));
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(!matcher.offer(queue(), sticky(2), HERE));
    assert!(matcher.offer(queue(), sticky(1), HERE), "what was taken stays, however often it is offered");
}

#[tokio::test]
async fn a_worker_that_shuts_down_gets_no_more_sticky_tasks() {
    let matcher = matcher();
    let poll = waiting_poll(&matcher, "w").await;
    matcher.cancel_queue(&queue());
    assert!(matches!(outcome(poll).await, PollOutcome::Empty));
    assert!(!matcher.offer(queue(), sticky(1), HERE));
}
