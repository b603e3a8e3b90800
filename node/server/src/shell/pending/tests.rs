//! The leader's window over the pending tasks of a queue.

use super::*;
use stanchion_engine::effects::TaskKind;
use stanchion_engine::{EventId, RunKey, ShardTime, Slot};

fn offer(n: i64) -> Offer {
    let run = RunKey { namespace_id: "ns".into(), workflow_id: "wf".into(), run_id: "run".into() };
    Offer {
        slot: Slot(0),
        kind: TaskKind::Activity,
        task_queue: "q".into(),
        sticky: false,
        normal_task_queue: String::new(),
        task: TaskRef { run, scheduled_event_id: EventId(n), attempt: 1, stamp: 0 },
        scheduled_at: ShardTime(n),
        priority: 0,
    }
}

#[test]
fn only_the_window_is_offered_and_a_start_lets_the_next_one_in() {
    let now = Instant::now();
    let mut window = PendingWindow::new(2, 100);
    let offered: Vec<_> = (1..=4).filter_map(|n| window.add(offer(n), now)).collect();
    assert_eq!(offered, [offer(1), offer(2)]);
    assert_eq!(window.remove(&offer(3).task, now).next, None, "a waiting one goes without a trace");
    assert_eq!(window.remove(&offer(1).task, now).next, Some(offer(4)));
    assert_eq!(window.remove(&offer(1).task, now).next, None, "twice is once");
}

#[test]
fn a_sticky_task_that_comes_back_is_offered_to_any_worker() {
    let now = Instant::now();
    let mut window = PendingWindow::new(1, 100);
    let sticky = |n| Offer { sticky: true, task_queue: "s".into(), normal_task_queue: "q".into(), ..offer(n) };
    window.add(sticky(1), now);
    window.add(sticky(2), now);
    assert_eq!(window.for_any_worker(&sticky(1).task, now), [offer(1), sticky(2)]);
    assert_eq!(window.for_any_worker(&sticky(1).task, now), [], "it is no sticky offer any more");
    assert_eq!(window.for_any_worker(&sticky(2).task, now), [], "the normal queue's window is full");
    assert_eq!(window.remove(&sticky(1).task, now).next, Some(offer(2)));
}

#[test]
fn tasks_that_go_while_they_wait_leave_nothing_behind() {
    let now = Instant::now();
    let mut window = PendingWindow::new(1, 10_000);
    window.add(offer(0), now);
    for n in 1..=1000 {
        window.add(offer(n), now);
        window.remove(&offer(n).task, now);
    }
    let waiting: usize = window.queues.values().map(|queue| queue.waiting.len()).sum();
    assert!(waiting <= 2 * GONE_MIN, "{waiting} stay");
    assert_eq!(window.remove(&offer(0).task, now).next, None);
    assert!(window.queues.is_empty());
}

#[test]
fn a_full_window_asks_for_a_reload_once_half_of_it_is_gone() {
    let now = Instant::now();
    let mut window = PendingWindow::new(10, 4);
    for n in 1..=5 {
        window.add(offer(n), now);
    }
    assert!(!window.wants_reload());
    for n in 1..=3 {
        window.remove(&offer(n).task, now);
    }
    assert!(window.wants_reload());
    assert!(!window.wants_reload(), "once");
}

#[test]
fn an_offer_that_nobody_takes_is_repeated() {
    let start = Instant::now();
    let mut window = PendingWindow::new(10, 10);
    window.add(offer(1), start);
    assert!(window.again(start + Duration::from_secs(1), false).is_empty());
    assert_eq!(window.again(start + Duration::from_secs(1), true).len(), 1);
    assert_eq!(window.again(start + Duration::from_secs(5), false).len(), 1);
}
