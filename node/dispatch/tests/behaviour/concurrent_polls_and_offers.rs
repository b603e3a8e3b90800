//! Many pollers, offers, cancellations, reservations and changes of leader at once: no task is lost, none is in two hands.
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const TASKS: i64 = 3_000;
const POLLERS: u64 = 24;
const QUEUES: i64 = 3;

fn queue_number(n: i64) -> QueueKey {
    QueueKey { name: format!("q{}", n % QUEUES), ..queue() }
}

/// A small random generator: the test's choices follow from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What the leader of the tasks knows: the only judge of who starts what.
#[derive(Default)]
struct Ledger {
    in_hand: Mutex<HashMap<i64, u32>>,
    started: Mutex<HashMap<i64, u32>>,
    done: AtomicUsize,
}

impl Ledger {
    fn take(&self, n: i64) {
        let mut in_hand = self.in_hand.lock().unwrap();
        let hands = in_hand.entry(n).or_default();
        *hands += 1;
        assert_eq!(*hands, 1, "task {n} is in two live pairings");
    }

    fn put_down(&self, n: i64) {
        *self.in_hand.lock().unwrap().get_mut(&n).unwrap() -= 1;
    }

    /// True for the one start that counts.
    fn start(&self, n: i64) -> bool {
        let mut started = self.started.lock().unwrap();
        let starts = started.entry(n).or_default();
        *starts += 1;
        if *starts == 1 {
            self.done.fetch_add(1, Ordering::SeqCst);
        }
        *starts == 1
    }

    fn is_started(&self, n: i64) -> bool {
        self.started.lock().unwrap().contains_key(&n)
    }

    fn complete(&self) -> bool {
        self.done.load(Ordering::SeqCst) == usize::try_from(TASKS).unwrap()
    }
}

async fn work(matcher: Arc<Dispatch>, ledger: Arc<Ledger>, key: QueueKey, mut dice: Dice) {
    while !ledger.complete() {
        let patience = Duration::from_micros(200 + dice.roll(3_000));
        let spec = poller("w", Duration::from_millis(2 + dice.roll(40)));
        // The client leaves when its patience is over, wherever the poll stands.
        let Ok(outcome) = tokio::time::timeout(patience, matcher.poll(key.clone(), spec)).await else { continue };
        let mut outcome = outcome.unwrap();
        while let PollOutcome::Matched(pairing) = outcome {
            let n = number(&pairing);
            ledger.take(n);
            if dice.roll(2) == 0 {
                tokio::task::yield_now().await;
            }
            ledger.put_down(n);
            outcome = match dice.roll(4) {
                0 => break,
                1 => match tokio::time::timeout(patience, pairing.retry_later()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
                _ if ledger.start(n) => {
                    pairing.started();
                    break;
                }
                _ => match tokio::time::timeout(patience, pairing.gone()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
        }
    }
}

/// Leaders repeat what is not started, drop it, and come back under other names.
async fn lead(matcher: Arc<Dispatch>, ledger: Arc<Ledger>, mut dice: Dice) {
    let mut source = HERE;
    let mut offered = 0;
    while !ledger.complete() {
        while offered < TASKS && dice.roll(50) != 0 {
            matcher.offer(
                queue_number(offered),
                Offer { task_queue: queue_number(offered).name, ..task(offered) },
                source,
            );
            offered += 1;
        }
        if dice.roll(3) == 0 || offered == TASKS {
            for n in 0..offered {
                if !ledger.is_started(n) {
                    matcher.offer(queue_number(n), Offer { task_queue: queue_number(n).name, ..task(n) }, source);
                } else if dice.roll(4) == 0 {
                    matcher.withdraw(&task(n).task);
                }
            }
        }
        if dice.roll(20) == 0 {
            let old = source;
            source.node += 1;
            matcher.drop_source(old);
        }
        tokio::task::yield_now().await;
    }
}

async fn reserve(matcher: Arc<Dispatch>, ledger: Arc<Ledger>, mut dice: Dice) {
    while !ledger.complete() {
        if let Some(held) = matcher.reserve(&queue_number(i64::try_from(dice.roll(3)).unwrap())) {
            tokio::task::yield_now().await;
            if dice.roll(3) == 0 {
                let _ = matcher.hand_over(held.ticket, vec![0].into());
            } else {
                matcher.release(held.ticket);
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_task_is_lost_and_none_is_in_two_hands() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| RandomState::new().hash_one(0u8));
    println!("SEED={seed}");
    let (matcher, ledger) = (matcher(), Arc::new(Ledger::default()));
    let dice = |n: u64| Dice(seed.wrapping_mul(2 * n + 1) | 1);
    let mut crowd = tokio::task::JoinSet::new();
    for n in 0..POLLERS {
        let key = queue_number(i64::try_from(n).unwrap());
        crowd.spawn(work(matcher.clone(), ledger.clone(), key, dice(n)));
    }
    crowd.spawn(lead(matcher.clone(), ledger.clone(), dice(100)));
    crowd.spawn(reserve(matcher.clone(), ledger.clone(), dice(101)));
    let all = async { while crowd.join_next().await.transpose().unwrap().is_some() {} };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("a task was lost: it is never started");
    for n in 0..QUEUES {
        assert_eq!(matcher.describe(&queue_number(n)).waiting_polls, 0);
    }
}

/// Without repeated offers: whatever clients do, each task stays available until somebody starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_leave_lose_no_task_even_if_it_is_offered_once() {
    let (matcher, ledger) = (matcher(), Arc::new(Ledger::default()));
    let mut crowd = tokio::task::JoinSet::new();
    for seed in 0..POLLERS {
        let (matcher, ledger) = (matcher.clone(), ledger.clone());
        crowd.spawn(async move {
            let mut dice = Dice(seed * 977 + 1);
            while !ledger.complete() {
                let poll = matcher.poll(queue(), poller("w", Duration::from_millis(50)));
                let patience = Duration::from_micros(dice.roll(1_500));
                let Ok(outcome) = tokio::time::timeout(patience, poll).await else { continue };
                if let PollOutcome::Matched(pairing) = outcome.unwrap() {
                    ledger.take(number(&pairing));
                    ledger.put_down(number(&pairing));
                    if dice.roll(3) > 0 {
                        assert!(ledger.start(number(&pairing)), "a task was given out after its start");
                        pairing.started();
                    }
                }
            }
        });
    }
    for n in 0..TASKS {
        matcher.offer(queue(), task(n), HERE);
        if n % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let all = async { while crowd.join_next().await.transpose().unwrap().is_some() {} };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("a task was lost: it is never started");
}
