//! Random lives of runs. After every command the tables, the effects and the histories agree ([`scenario`]'s checks), a replica with a
//! cold cache decides alike, and attempts of activities keep to a small model of their own; at the end the same commands with other
//! batch cuts and a cache that forgets now and then give the same rows.
//!
//! A case that fails is printed shrunk; keep it as a scenario.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../scenario/mod.rs"]
mod scenario;

mod model;

use proptest::prelude::*;
use scenario::*;
use stanchion_engine::memory::MemoryState;
use stanchion_engine::time::{SECOND, duration};
use stanchion_engine::{Features, GroupId, Position, ShardState, apply};
use stanchion_proto::temporal::command::v1 as cmd;
use stanchion_proto::temporal::enums::v1::WorkflowIdReusePolicy;

use model::Model;

/// One thing that callers, workers or time do.
#[derive(Clone, Debug)]
enum Step {
    Start { run_timeout: i64 },
    Signal,
    CancelRun,
    Terminate,
    PollWorkflow,
    Complete(Vec<Order>),
    FailWorkflowTask,
    PollActivity,
    CompleteActivity(usize),
    FailActivity { which: usize, retryable: bool },
    CancelActivity(usize),
    Heartbeat(usize),
    CompleteById(u8),
    Pass(i64),
    FireTimers,
    FireDeadlines,
}

/// One command of a workflow.
#[derive(Clone, Debug)]
enum Order {
    Schedule { id: u8, shape: u8, eager: bool },
    CancelActivity(i64),
    StartTimer { id: u8, seconds: i64 },
    CancelTimer(u8),
    Marker,
    Complete,
    Fail,
    ContinueAsNew,
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        8 => (0..4_u8, 0..5_u8, prop::bool::weighted(0.2))
            .prop_map(|(id, shape, eager)| Order::Schedule { id, shape, eager }),
        2 => (5..16_i64).prop_map(Order::CancelActivity),
        3 => (0..3_u8, 0..12_i64).prop_map(|(id, seconds)| Order::StartTimer { id, seconds }),
        2 => (0..3_u8).prop_map(Order::CancelTimer),
        1 => Just(Order::Marker),
    ]
}

/// Commands of a completion; the last one may close the run.
fn orders() -> impl Strategy<Value = Vec<Order>> {
    let last = prop_oneof![
        10 => Just(None),
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
        2 => prop_oneof![3 => Just(0), 1 => 5..60_i64].prop_map(|run_timeout| Step::Start { run_timeout }),
        3 => Just(Step::Signal),
        1 => Just(Step::CancelRun),
        1 => Just(Step::Terminate),
        8 => Just(Step::PollWorkflow),
        8 => orders().prop_map(Step::Complete),
        1 => Just(Step::FailWorkflowTask),
        8 => Just(Step::PollActivity),
        4 => (0..4_usize).prop_map(Step::CompleteActivity),
        6 => (0..4_usize, prop::bool::weighted(0.9))
            .prop_map(|(which, retryable)| Step::FailActivity { which, retryable }),
        2 => (0..4_usize).prop_map(Step::CancelActivity),
        4 => (0..4_usize).prop_map(Step::Heartbeat),
        1 => (0..4_u8).prop_map(Step::CompleteById),
        6 => (1..8_i64).prop_map(Step::Pass),
        6 => Just(Step::FireTimers),
        3 => Just(Step::FireDeadlines),
    ]
}

fn command_of(order: &Order) -> cmd::Command {
    let seconds = |seconds: i64| Some(duration(seconds * SECOND));
    match order {
        Order::Schedule { id, shape, eager } => schedule_with(&format!("a{id}"), |a| {
            a.request_eager_execution = *eager;
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
        }),
        Order::CancelActivity(id) => request_cancel_activity(*id),
        Order::StartTimer { id, seconds } => start_timer(&format!("t{id}"), *seconds),
        Order::CancelTimer(id) => cancel_timer(&format!("t{id}")),
        Order::Marker => marker("m"),
        Order::Complete => complete_workflow("done"),
        Order::Fail => fail_workflow("no"),
        Order::ContinueAsNew => continue_as_new("again"),
    }
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
        Step::Complete(orders) => {
            if w.task.is_some() {
                w.complete(orders.iter().map(command_of).collect());
                for task in w.eager_activities.clone() {
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
        Step::CompleteById(id) => {
            if !w.log.is_empty() && w.complete_named(by_id(&format!("a{id}")), "r") == "done" {
                model.completed_by_id(&w.events_of_current(), &format!("a{id}"));
            }
        }
        Step::Pass(seconds) => {
            w.pass(*seconds);
        }
        Step::FireTimers => {
            w.fire_timers();
        }
        Step::FireDeadlines => {
            w.fire_deadlines();
        }
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
    fn random_lives_keep_every_rule(steps in prop::collection::vec(step(), 1..90)) {
        let mut w = World::new();
        let mut model = Model::default();
        w.start();
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
