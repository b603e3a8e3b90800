//! Random lives of runs. After every command the tables, the effects and the histories agree ([`scenario`]'s checks), a replica with a
//! cold cache decides alike, and attempts of activities keep to a small model of their own; at the end the same commands with other
//! batch cuts and a cache that forgets now and then give the same rows.
//!
//! A case that fails is printed shrunk; keep it as a scenario.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../scenario/mod.rs"]
mod scenario;

mod families;
mod model;
mod resets;

use proptest::prelude::*;
use scenario::*;
use stanchion_engine::memory::MemoryState;
use stanchion_engine::time::{SECOND, duration};
use stanchion_engine::{Features, GroupId, Position, ShardState, apply};
use stanchion_proto::temporal::command::v1 as cmd;
use stanchion_proto::temporal::enums::v1::WorkflowIdReusePolicy;
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

use model::Model;

/// One thing that callers, workers or time do.
#[derive(Clone, Debug)]
enum Step {
    Start {
        run_timeout: i64,
    },
    Signal,
    CancelRun,
    Terminate,
    PollWorkflow,
    Complete {
        orders: Vec<Order>,
        held: bool,
    },
    FailWorkflowTask,
    PollActivity,
    CompleteActivity(usize),
    FailActivity {
        which: usize,
        retryable: bool,
    },
    CancelActivity(usize),
    Heartbeat(usize),
    CompleteById(usize),
    Pass(i64),
    FireTimers,
    /// By a leader whose clock runs ahead: nothing may happen.
    FireEarly,
    FireDeadlines,
}

/// One command of a workflow. Things are named by their place among those that the run's history begins; mostly that is one that exists.
#[derive(Clone, Debug)]
enum Order {
    Schedule { same_id: bool, shape: u8, eager: bool },
    CancelActivity(usize),
    StartTimer { same_id: bool, seconds: i64 },
    CancelTimer(usize),
    Marker,
    Complete,
    Fail,
    ContinueAsNew,
}

fn order() -> impl Strategy<Value = Order> {
    let rarely = || prop::bool::weighted(0.03);
    prop_oneof![
        8 => (rarely(), 0..5_u8, prop::bool::weighted(0.2))
            .prop_map(|(same_id, shape, eager)| Order::Schedule { same_id, shape, eager }),
        1 => (0..4_usize).prop_map(Order::CancelActivity),
        2 => (rarely(), 0..12_i64).prop_map(|(same_id, seconds)| Order::StartTimer { same_id, seconds }),
        1 => (0..3_usize).prop_map(Order::CancelTimer),
        1 => Just(Order::Marker),
    ]
}

/// Commands of a completion; the last one may close the run.
fn orders() -> impl Strategy<Value = Vec<Order>> {
    let last = prop_oneof![
        40 => Just(None),
        1 => Just(Some(Order::Complete)),
        1 => Just(Some(Order::Fail)),
        1 => Just(Some(Order::ContinueAsNew)),
    ];
    (prop::collection::vec(order(), 0..4), last).prop_map(|(mut orders, last)| {
        orders.extend(last);
        orders
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![6 => Just(0), 1 => 20..90_i64].prop_map(|run_timeout| Step::Start { run_timeout }),
        6 => Just(Step::Signal),
        1 => Just(Step::CancelRun),
        1 => Just(Step::Terminate),
        20 => Just(Step::PollWorkflow),
        20 => (orders(), prop::bool::weighted(0.3)).prop_map(|(orders, held)| Step::Complete { orders, held }),
        1 => Just(Step::FailWorkflowTask),
        24 => Just(Step::PollActivity),
        4 => (0..3_usize).prop_map(Step::CompleteActivity),
        14 => (0..3_usize, prop::bool::weighted(0.95))
            .prop_map(|(which, retryable)| Step::FailActivity { which, retryable }),
        3 => (0..4_usize).prop_map(Step::CancelActivity),
        8 => (0..4_usize).prop_map(Step::Heartbeat),
        1 => (0..6_usize).prop_map(Step::CompleteById),
        12 => (1..5_i64).prop_map(Step::Pass),
        18 => Just(Step::FireTimers),
        2 => Just(Step::FireEarly),
        4 => Just(Step::FireDeadlines),
    ]
}

fn commands_of(w: &World, orders: &[Order]) -> Vec<cmd::Command> {
    let (mut activities, mut timers) = (Vec::new(), Vec::new());
    for event in w.events_of_current() {
        match event.attributes {
            Some(Attributes::ActivityTaskScheduledEventAttributes(_)) => activities.push(event.event_id),
            Some(Attributes::TimerStartedEventAttributes(a)) => timers.push(a.timer_id),
            Some(Attributes::TimerFiredEventAttributes(a)) => timers.retain(|id| *id != a.timer_id),
            _ => {}
        }
    }
    let of = |place: usize, count: usize| count.checked_sub(place + 1);
    let fresh = w.log.len();
    let name = |kind: &str, place: usize, same_id: bool| {
        if same_id { format!("{kind}-same") } else { format!("{kind}-{fresh}-{place}") }
    };
    let commands = orders.iter().enumerate().filter_map(|(place, order)| {
        Some(match order {
            Order::Schedule { same_id, shape, eager } => activity_of(&name("a", place, *same_id), *shape, *eager),
            Order::CancelActivity(which) => request_cancel_activity(activities[of(*which, activities.len())?]),
            Order::StartTimer { same_id, seconds } => start_timer(&name("t", place, *same_id), *seconds),
            Order::CancelTimer(which) => cancel_timer(&timers[of(*which, timers.len())?]),
            Order::Marker => marker("m"),
            Order::Complete => complete_workflow("done"),
            Order::Fail => fail_workflow("no"),
            Order::ContinueAsNew => continue_as_new("again"),
        })
    });
    commands.collect()
}

fn activity_of(id: &str, shape: u8, eager: bool) -> cmd::Command {
    let seconds = |seconds: i64| Some(duration(seconds * SECOND));
    schedule_with(id, |a| {
        a.request_eager_execution = eager;
        match shape {
            0 => {}
            1 => {
                a.start_to_close_timeout = seconds(5);
                a.retry_policy = policy(2, 3);
            }
            2 => {
                a.schedule_to_close_timeout = seconds(12);
                a.retry_policy = policy(1, 0);
            }
            3 => {
                a.heartbeat_timeout = seconds(3);
                a.retry_policy = policy(1, 4);
            }
            _ => {
                a.schedule_to_start_timeout = seconds(4);
                a.retry_policy = policy(1, 1);
            }
        }
    })
}

fn take(w: &mut World, model: &mut Model, step: &Step) {
    match step {
        Step::Start { run_timeout } => {
            w.start_with(|r| {
                r.workflow_id_reuse_policy = WorkflowIdReusePolicy::AllowDuplicate as i32;
                r.workflow_run_timeout = (*run_timeout != 0).then(|| duration(run_timeout * SECOND));
            });
        }
        Step::Signal => {
            w.signal("s");
        }
        Step::CancelRun => {
            w.request_cancel();
        }
        Step::Terminate => {
            w.terminate();
        }
        Step::PollWorkflow => {
            w.poll();
        }
        Step::Complete { orders, held } => {
            if w.task.is_some() {
                let commands = commands_of(w, orders);
                if *held {
                    w.hold_activity_poller(QUEUE);
                }
                w.complete(commands);
                for task in w.eager_activities.clone().into_iter().chain(w.handed_over()) {
                    model.handed_out(w.now, &task);
                }
            }
        }
        Step::FailWorkflowTask => {
            if w.task.is_some() {
                w.fail_task();
            }
        }
        Step::PollActivity => {
            if let Ok(task) = w.try_activity() {
                model.handed_out(w.now, &task);
            }
        }
        Step::CompleteActivity(which) => {
            if let Some(task) = model.task(*which) {
                let done = w.complete_activity(&task, "r") == "done";
                model.answered(w.now, &task, done, model::Answer::Final);
            }
        }
        Step::FailActivity { which, retryable } => {
            if let Some(task) = model.task(*which) {
                let failure = if *retryable { failure("f") } else { non_retryable("f") };
                let done = w.fail_named(named(&task), Some(failure)) == "done";
                let answer = if *retryable { model::Answer::Failed } else { model::Answer::Final };
                model.answered(w.now, &task, done, answer);
            }
        }
        Step::CancelActivity(which) => {
            if let Some(task) = model.task(*which) {
                let done = w.cancel_activity(&task) == "done";
                model.answered(w.now, &task, done, model::Answer::Final);
            }
        }
        Step::Heartbeat(which) => {
            if let Some(task) = model.task(*which) {
                let details = format!("at {}", w.now);
                let alive = matches!(w.heartbeat(&task, &details).as_str(), "alive" | "cancel");
                model.beat(w.now, &task, alive, &details);
            }
        }
        Step::CompleteById(which) => {
            let ids: Vec<_> = w.events_of_current().into_iter().filter_map(activity_id).collect();
            if let Some(place) = ids.len().checked_sub(which + 1)
                && w.complete_named(by_id(&ids[place]), "r") == "done"
            {
                model.completed_by_id(&w.events_of_current(), &ids[place]);
            }
        }
        Step::Pass(seconds) => {
            w.pass(*seconds);
        }
        Step::FireTimers => {
            w.fire_timers();
        }
        Step::FireEarly => {
            let early: Vec<_> = w.timer_keys().into_iter().filter(|timer| timer.at.0 > w.now).collect();
            // The clock moves even by a command that does nothing.
            w.fire(&[]);
            let before = w.state.hash();
            w.fire(&early);
            assert_eq!(w.state.hash(), before, "D6, F1: something fired early");
        }
        Step::FireDeadlines => {
            w.fire_deadlines();
        }
    }
}

fn activity_id(event: HistoryEvent) -> Option<String> {
    match event.attributes {
        Some(Attributes::ActivityTaskScheduledEventAttributes(a)) => Some(a.activity_id),
        _ => None,
    }
}

/// The commands again, in entries of `cut` commands, with a cache that is emptied every `forget` commands.
fn replay(w: &World, cut: u32, forget: usize) -> [u8; 32] {
    let mut state = MemoryState::default();
    for (place, command) in w.log.iter().enumerate() {
        if place % forget == 0 {
            state.run_cache().clear();
        }
        let place = place as u32;
        let at = Position { group: GroupId(1), index: u64::from(place / cut), offset: place % cut };
        apply(&mut state, command, at, Features::default()).unwrap();
    }
    state.hash()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn random_lives_keep_every_rule(
        shapes in prop::collection::vec(0..5_u8, 1..4),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut w = World::new();
        let mut model = Model::default();
        w.start();
        w.poll();
        w.complete(shapes.iter().enumerate().map(|(n, shape)| activity_of(&format!("a{n}"), *shape, false)).collect());
        for step in &steps {
            take(&mut w, &mut model, step);
            w.check();
            model.check(&w);
        }
        let hash = w.state.hash();
        prop_assert_eq!(replay(&w, 1, 3), hash);
        prop_assert_eq!(replay(&w, 7, 1), hash);
        prop_assert_eq!(replay(&w, 64, usize::MAX), hash);
    }
}
