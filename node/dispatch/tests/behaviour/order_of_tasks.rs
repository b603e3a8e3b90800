//! By priority, then by time of scheduling, then by arrival.
use super::*;

fn prioritized(n: i64, priority: i32) -> Offer {
    Offer { priority, ..task(n) }
}

#[tokio::test]
async fn tasks_go_out_in_order_of_scheduling_whatever_the_order_of_offers() {
    let matcher = matcher();
    for n in [3, 1, 4, 2] {
        matcher.offer(queue(), task(n), HERE);
    }
    assert_eq!(take_all(&matcher).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn priority_goes_before_age_and_unset_means_three() {
    let matcher = matcher();
    for (n, priority) in [(1, 5), (2, 0), (3, 4), (4, 3), (5, 1), (6, 2)] {
        matcher.offer(queue(), prioritized(n, priority), HERE);
    }
    assert_eq!(take_all(&matcher).await, [5, 6, 2, 4, 3, 1]);
}

#[tokio::test]
async fn a_priority_out_of_range_counts_as_the_nearest() {
    let matcher = matcher();
    for (n, priority) in [(1, 99), (2, -7), (3, 0)] {
        matcher.offer(queue(), prioritized(n, priority), HERE);
    }
    assert_eq!(take_all(&matcher).await, [2, 3, 1]);
}

#[tokio::test]
async fn queues_do_not_mix() {
    let matcher = matcher();
    let workflow_queue = QueueKey { kind: TaskKind::Workflow, ..queue() };
    let other_namespace = QueueKey { namespace_id: "other".into(), ..queue() };
    matcher.offer(queue(), task(1), HERE);
    for key in [workflow_queue, other_namespace] {
        let empty = matcher.poll(key, poller("w", Duration::from_millis(5))).await.unwrap();
        assert!(matches!(empty, PollOutcome::Empty));
    }
    assert_eq!(take_all(&matcher).await, [1]);
}
