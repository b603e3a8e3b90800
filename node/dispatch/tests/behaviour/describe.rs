//! What the matcher says of a queue.
use super::*;

#[tokio::test]
async fn pollers_are_listed_by_identity() {
    let matcher = matcher();
    let mut spec = poller("b", Duration::from_secs(60));
    spec.tasks_per_second_max = Some(7.5);
    spec.poller.build_id = "build".into();
    let theirs = matcher.clone();
    let _b = tokio::spawn(async move { theirs.poll(queue(), spec).await });
    while matcher.describe(&queue()).waiting_polls == 0 {
        tokio::task::yield_now().await;
    }
    let _a = waiting_poll(&matcher, "a").await;
    let _a_again = waiting_poll(&matcher, "a").await;

    let described = matcher.describe(&queue());
    assert_eq!(described.waiting_polls, 3);
    let pollers: Vec<_> =
        described.pollers.iter().map(|p| (p.identity.as_str(), p.tasks_per_second_max, p.build_id.as_str())).collect();
    assert_eq!(pollers, [("a", None, ""), ("b", Some(7.5), "build")]);
    assert!(described.pollers[0].last_access >= described.pollers[1].last_access);
}

#[tokio::test]
async fn the_backlog_has_a_count_and_an_age() {
    let matcher = matcher();
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let a_minute_ago = i64::try_from((since_epoch - Duration::from_secs(60)).as_nanos()).unwrap();
    matcher.offer(queue(), task(a_minute_ago), HERE);
    matcher.offer(queue(), task(a_minute_ago + 1), HERE);
    let described = matcher.describe(&queue());
    assert_eq!(described.backlog_count_hint, 2);
    assert!(described.backlog_age >= Duration::from_secs(60) && described.backlog_age < Duration::from_secs(90));
    assert!(described.tasks_add_rate > 0.0);
    assert_eq!(described.tasks_dispatch_rate, 0.0);
    take_all(&matcher).await;
    assert!(matcher.describe(&queue()).tasks_dispatch_rate > 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_poller_is_forgotten_after_five_minutes() {
    let matcher = matcher();
    matcher.poll(queue(), poller("w", Duration::from_secs(1))).await.unwrap();
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(matcher.describe(&queue()).pollers.len(), 1);
    tokio::time::advance(Duration::from_secs(300)).await;
    assert_eq!(matcher.describe(&queue()).pollers.len(), 0);
}

#[tokio::test]
async fn a_queue_that_nobody_used_is_empty() {
    let matcher = matcher();
    assert_eq!(matcher.describe(&queue()), Default::default());
    assert_eq!(matcher.queues(), 0, "asking makes none");
}
