//! Random lives with resets: to any event of any run, with any of the choices of what is applied again, while activities, timers,
//! children, updates and signals are in every state.
//!
//! Checked beside the scenarios' own checks (a run made anew from its events is the run that commands made): a new run begins with the
//! events in front of its point; one run of a workflow id is open; each update id is asked and accepted once in a run; and once nothing is
//! under way, no open run waits for a child that it has not heard of.

use std::collections::BTreeSet;

use proptest::prelude::*;
use stanchion_engine::effects::OutboxKey;
use stanchion_proto::temporal::command::v1 as cmd;
use stanchion_proto::temporal::enums::v1::{ResetReapplyExcludeType, WorkflowIdReusePolicy};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::protocol::v1::Message;

use crate::replay;
use crate::scenario::*;

const IDS: [&str; 2] = [WORKFLOW, "child"];
const UPDATES: [&str; 3] = ["u", "v", "w"];

#[derive(Clone, Debug)]
enum Step {
    Start(usize),
    Signal,
    Update(usize),
    Poll(usize),
    Complete {
        of: usize,
        orders: Vec<Order>,
        forced: bool,
    },
    /// The worker answers the updates that it knows of.
    Answer(Vec<(usize, Word)>),
    FailTask,
    Terminate(usize),
    /// A run by its place among all, a point by its place in its history.
    Reset {
        run: usize,
        point: usize,
        exclude: Vec<i32>,
        repeated: bool,
    },
    Deliver(usize),
    Again,
    PollActivity,
    Pass(i64),
    FireTimers,
    FireDeadlines,
}

#[derive(Clone, Debug)]
enum Word {
    Accept,
    AcceptAndComplete,
    Complete,
    Reject,
}

#[derive(Clone, Debug)]
enum Order {
    Schedule,
    Timer(i64),
    Child(i32),
    Signal,
    Complete,
    ContinueAsNew,
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let order = prop_oneof![
        2 => Just(Order::Schedule),
        2 => (1..20_i64).prop_map(Order::Timer),
        3 => (0..4_i32).prop_map(Order::Child),
        1 => Just(Order::Signal),
    ];
    let last = prop_oneof![8 => Just(None), 1 => Just(Some(Order::Complete)), 1 => Just(Some(Order::ContinueAsNew))];
    (prop::collection::vec(order, 0..3), last).prop_map(|(mut orders, last)| {
        orders.extend(last);
        orders
    })
}

fn step() -> impl Strategy<Value = Step> {
    let word = prop_oneof![
        2 => Just(Word::Accept),
        2 => Just(Word::AcceptAndComplete),
        1 => Just(Word::Complete),
        1 => Just(Word::Reject),
    ];
    let exclude = prop_oneof![
        4 => Just(Vec::new()),
        1 => Just(vec![ResetReapplyExcludeType::Signal as i32]),
        1 => Just(vec![ResetReapplyExcludeType::Update as i32]),
    ];
    prop_oneof![
        2 => (0..2_usize).prop_map(Step::Start),
        4 => Just(Step::Signal),
        6 => (0..3_usize).prop_map(Step::Update),
        16 => (0..2_usize).prop_map(Step::Poll),
        12 => (0..2_usize, orders(), prop::bool::weighted(0.2))
            .prop_map(|(of, orders, forced)| Step::Complete { of, orders, forced }),
        8 => prop::collection::vec((0..3_usize, word), 1..3).prop_map(Step::Answer),
        1 => Just(Step::FailTask),
        1 => (0..2_usize).prop_map(Step::Terminate),
        8 => (0..4_usize, 0..12_usize, exclude, prop::bool::weighted(0.1))
            .prop_map(|(run, point, exclude, repeated)| Step::Reset { run, point, exclude, repeated }),
        10 => (1..4_usize).prop_map(Step::Deliver),
        1 => Just(Step::Again),
        2 => Just(Step::PollActivity),
        3 => (1..5_i64).prop_map(Step::Pass),
        3 => Just(Step::FireTimers),
        2 => Just(Step::FireDeadlines),
    ]
}

fn command_of(w: &World, place: usize, order: &Order) -> cmd::Command {
    let fresh = w.log.len();
    match order {
        Order::Schedule => schedule(&format!("a-{fresh}-{place}")),
        Order::Timer(seconds) => start_timer(&format!("t-{fresh}-{place}"), *seconds),
        Order::Child(policy) => start_child_with(IDS[1], |child| child.parent_close_policy = *policy),
        Order::Signal => signal_external(IDS[1], "s"),
        Order::Complete => complete_workflow("done"),
        Order::ContinueAsNew => continue_as_new("again"),
    }
}

fn said(words: &[(usize, Word)]) -> Vec<Message> {
    let of = |(which, word): &(usize, Word)| {
        let id = UPDATES[*which];
        match word {
            Word::Accept => vec![accepts(id)],
            Word::AcceptAndComplete => vec![accepts(id), completes(id, "done")],
            Word::Complete => vec![completes(id, "done")],
            Word::Reject => vec![rejects(id)],
        }
    };
    words.iter().flat_map(of).collect()
}

fn take(w: &mut World, step: &Step) {
    match step {
        Step::Start(of) => {
            w.start_with(|request| {
                request.workflow_id = IDS[*of].into();
                request.workflow_id_reuse_policy = WorkflowIdReusePolicy::AllowDuplicate as i32;
            });
        }
        Step::Signal => {
            w.signal("s");
        }
        Step::Update(which) => {
            w.update(UPDATES[*which]);
        }
        Step::Poll(of) => {
            w.poll_of(IDS[*of]);
        }
        Step::Complete { of, orders, forced } => {
            if w.tasks.contains_key(IDS[*of]) {
                let commands = orders.iter().enumerate().map(|(n, order)| command_of(w, n, order)).collect();
                w.work_on(IDS[*of]).complete_with(commands, |request| request.force_create_new_workflow_task = *forced);
            }
        }
        Step::Answer(words) => {
            if w.tasks.contains_key(WORKFLOW) {
                w.work_on(WORKFLOW).say(said(words));
            }
        }
        Step::FailTask => {
            if w.tasks.contains_key(WORKFLOW) {
                w.work_on(WORKFLOW).fail_task();
            }
        }
        Step::Terminate(of) => {
            w.terminate_with(|request| request.workflow_execution = Some(execution_of(IDS[*of])));
        }
        Step::Reset { run, point, exclude, repeated } => reset(w, *run, *point, exclude, *repeated),
        Step::Deliver(count) => {
            let keys: Vec<OutboxKey> = w.outbox.iter().take(*count).copied().collect();
            if !keys.is_empty() {
                w.deliver_these(&keys);
            }
        }
        Step::Again => w.redeliver(),
        Step::PollActivity => {
            let _ = w.try_activity();
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

/// Resets the run that was started so many runs ago to so many workflow tasks from its end.
fn reset(w: &mut World, run: usize, point: usize, exclude: &[i32], repeated: bool) {
    let runs = w.all_run_ids().len();
    let Some(n) = runs.checked_sub(run) else { return };
    if n == 0 {
        return;
    }
    let events = w.events_of(n);
    let Some(point) = events.len().checked_sub(point) else { return };
    let point = point as i64;
    let reset = |w: &mut World| {
        let id = format!("reset-{}", w.log.len() - usize::from(repeated && w.log.len() > 1));
        w.reset_run_with(n, point, |request| {
            request.reset_reapply_exclude_types = exclude.to_vec();
            request.request_id = id;
        })
    };
    let answer = reset(w);
    if !answer.starts_with("reset to") || w.all_run_ids().len() == runs {
        return;
    }
    let new = w.events_of(w.all_run_ids().len());
    let kept = usize::try_from(point - 1).unwrap();
    assert_eq!(new[..kept], events[..kept], "B6: a reset run begins as its base did");
    let failed = new[kept..].iter().find_map(|event| match &event.attributes {
        Some(Attributes::WorkflowTaskFailedEventAttributes(a)) => Some(a.base_run_id.clone()),
        _ => None,
    });
    assert_eq!(failed, Some(w.run_id(n)), "B6: the task at the point ends by the reset");
}

/// What histories say: of each run, an update is asked by at most one event, accepted once, and completed once behind that.
fn check_updates(w: &World) {
    for n in 1..=w.all_run_ids().len() {
        let (mut admitted, mut accepted, mut completed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for event in w.events_of(n) {
            match event.attributes {
                Some(Attributes::WorkflowExecutionUpdateAdmittedEventAttributes(a)) => {
                    let id = a.request.unwrap().meta.unwrap().update_id;
                    assert!(!accepted.contains(&id), "E3: {id} was asked again when it was accepted");
                    admitted.insert(id);
                }
                Some(Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(a)) => {
                    let id = a.protocol_instance_id;
                    // One that an event admitted and the worker rejected, of which no event tells, may be asked again.
                    assert!(a.accepted_request.is_some() || admitted.contains(&id), "E3: {id} has no request");
                    assert!(accepted.insert(id), "E3: an update is accepted twice");
                }
                Some(Attributes::WorkflowExecutionUpdateCompletedEventAttributes(a)) => {
                    let id = a.meta.unwrap().update_id;
                    assert!(accepted.contains(&id), "E3: an outcome without an acceptance");
                    assert!(completed.insert(id), "E3: an update has two outcomes");
                }
                _ => {}
            }
        }
    }
}

/// No open run waits to hear whether a child has started.
fn check_quiet(w: &World) {
    for (run, id, child) in w.pending_children() {
        assert!(!child.run_id.is_empty(), "G1: {run} never heard of its child {id}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn random_resets_keep_every_rule(steps in prop::collection::vec(step(), 1..100)) {
        let mut w = World::new();
        w.start();
        for step in &steps {
            take(&mut w, step);
            w.check();
            check_updates(&w);
        }
        w.deliver();
        w.check();
        check_quiet(&w);
        let hash = w.state.hash();
        prop_assert_eq!(replay(&w, 1, 3), hash);
        prop_assert_eq!(replay(&w, 7, 1), hash);
        prop_assert_eq!(replay(&w, 64, usize::MAX), hash);
    }
}
