//! Random families: runs under a few ids that start one another as children, signal and cancel one another, and close in every way, while
//! messages between them are delivered in any cut, late, and twice.
//!
//! Checked beside the scenarios' own checks: one start and one end for each initiation, one answer for each signal and cancel request,
//! as many signals as senders were told of; and once nothing is under way, no open run waits for anything that cannot come.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use stanchion_engine::effects::OutboxKey;
use stanchion_proto::temporal::command::v1 as cmd;
use stanchion_proto::temporal::enums::v1::WorkflowIdReusePolicy;
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

use crate::replay;
use crate::scenario::*;

const IDS: [&str; 4] = ["wf", "one", "two", "three"];

#[derive(Clone, Debug)]
enum Step {
    Start(usize),
    Poll(usize),
    Complete {
        of: usize,
        orders: Vec<Order>,
        forced: bool,
    },
    Terminate(usize),
    /// Messages that wait, up to so many; the receivers' answers come later.
    Deliver(usize),
    /// What was delivered last, once more.
    Again,
    Pass(i64),
    FireTimers,
    FireDeadlines,
}

#[derive(Clone, Debug)]
enum Order {
    Child { of: usize, policy: i32, retries: bool },
    Signal(usize),
    Cancel { of: usize, child_only: bool },
    Marker,
    Complete,
    Fail,
    ContinueAsNew,
}

fn id() -> impl Strategy<Value = usize> {
    0..IDS.len()
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let order = prop_oneof![
        6 => (id(), 0..4_i32, prop::bool::weighted(0.2)).prop_map(|(of, policy, retries)| Order::Child { of, policy, retries }),
        4 => id().prop_map(Order::Signal),
        2 => (id(), any::<bool>()).prop_map(|(of, child_only)| Order::Cancel { of, child_only }),
        1 => Just(Order::Marker),
    ];
    let last = prop_oneof![
        6 => Just(None),
        2 => Just(Some(Order::Complete)),
        1 => Just(Some(Order::Fail)),
        1 => Just(Some(Order::ContinueAsNew)),
    ];
    (prop::collection::vec(order, 0..3), last).prop_map(|(mut orders, last)| {
        orders.extend(last);
        orders
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => id().prop_map(Step::Start),
        16 => id().prop_map(Step::Poll),
        16 => (id(), orders(), prop::bool::weighted(0.2))
            .prop_map(|(of, orders, forced)| Step::Complete { of, orders, forced }),
        1 => id().prop_map(Step::Terminate),
        14 => (1..4_usize).prop_map(Step::Deliver),
        2 => Just(Step::Again),
        3 => (1..5_i64).prop_map(Step::Pass),
        4 => Just(Step::FireTimers),
        2 => Just(Step::FireDeadlines),
    ]
}

fn command_of(order: &Order) -> cmd::Command {
    match order {
        Order::Child { of, policy, retries: again } => start_child_with(IDS[*of], |child| {
            child.parent_close_policy = *policy;
            child.retry_policy = again.then(|| retries(2));
        }),
        Order::Signal(of) => signal_external(IDS[*of], "s"),
        Order::Cancel { of, child_only: false } => cancel_external(IDS[*of]),
        Order::Cancel { of, child_only: true } => cancel_child(IDS[*of]),
        Order::Marker => marker("m"),
        Order::Complete => complete_workflow("done"),
        Order::Fail => fail_workflow("no"),
        Order::ContinueAsNew => continue_as_new("again"),
    }
}

fn take(w: &mut World, step: &Step) {
    match step {
        Step::Start(of) => {
            w.start_with(|request| {
                request.workflow_id = IDS[*of].into();
                request.workflow_id_reuse_policy = WorkflowIdReusePolicy::AllowDuplicate as i32;
            });
        }
        Step::Poll(of) => {
            w.poll_of(IDS[*of]);
        }
        Step::Complete { of, orders, forced } => {
            if w.tasks.contains_key(IDS[*of]) {
                let commands = orders.iter().map(command_of).collect();
                w.work_on(IDS[*of]).complete_with(commands, |request| request.force_create_new_workflow_task = *forced);
            }
        }
        Step::Terminate(of) => {
            w.terminate_with(|request| request.workflow_execution = Some(execution_of(IDS[*of])));
        }
        Step::Deliver(count) => {
            // A prefix keeps the order of each pair of slots.
            let keys: Vec<OutboxKey> = w.outbox.iter().take(*count).copied().collect();
            if !keys.is_empty() {
                w.deliver_these(&keys);
            }
        }
        Step::Again => w.redeliver(),
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

/// What histories say of messages between runs.
#[derive(Default)]
struct Told {
    /// By the sender's run and the initiating event.
    initiated: BTreeMap<(String, i64), &'static str>,
    started: BTreeSet<(String, i64)>,
    answered: BTreeSet<(String, i64)>,
    /// Signals that a sender was told of, and those in histories of receivers, by the sender's run.
    signals_told: BTreeMap<String, usize>,
    signals_had: BTreeMap<String, usize>,
    /// Children by the run of the parent and the initiating event: first runs of chains.
    children: BTreeSet<(String, i64)>,
    closed: BTreeSet<String>,
}

impl Told {
    fn read(w: &World) -> Self {
        let mut told = Self::default();
        for (run, event) in w.all_events() {
            use Attributes::*;
            let id = event.event_id;
            match event.attributes.unwrap() {
                StartChildWorkflowExecutionInitiatedEventAttributes(_) => told.begin(run, id, "child"),
                SignalExternalWorkflowExecutionInitiatedEventAttributes(_) => told.begin(run, id, "signal"),
                RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(_) => told.begin(run, id, "cancel"),
                ChildWorkflowExecutionStartedEventAttributes(a) => {
                    assert!(told.started.insert((run, a.initiated_event_id)), "G1: a child started twice");
                }
                StartChildWorkflowExecutionFailedEventAttributes(a) => told.answer(run, a.initiated_event_id),
                ChildWorkflowExecutionCompletedEventAttributes(a) => {
                    told.end(run, a.initiated_event_id, a.started_event_id)
                }
                ChildWorkflowExecutionFailedEventAttributes(a) => {
                    told.end(run, a.initiated_event_id, a.started_event_id)
                }
                ChildWorkflowExecutionCanceledEventAttributes(a) => {
                    told.end(run, a.initiated_event_id, a.started_event_id)
                }
                ChildWorkflowExecutionTimedOutEventAttributes(a) => {
                    told.end(run, a.initiated_event_id, a.started_event_id)
                }
                ChildWorkflowExecutionTerminatedEventAttributes(a) => {
                    told.end(run, a.initiated_event_id, a.started_event_id);
                }
                ExternalWorkflowExecutionSignaledEventAttributes(a) => {
                    *told.signals_told.entry(run.clone()).or_default() += 1;
                    told.answer(run, a.initiated_event_id);
                }
                SignalExternalWorkflowExecutionFailedEventAttributes(a) => told.answer(run, a.initiated_event_id),
                ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => told.answer(run, a.initiated_event_id),
                RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => {
                    told.answer(run, a.initiated_event_id)
                }
                WorkflowExecutionSignaledEventAttributes(a) => {
                    if let Some(sender) = a.external_workflow_execution {
                        *told.signals_had.entry(sender.run_id).or_default() += 1;
                    }
                }
                WorkflowExecutionStartedEventAttributes(a) => {
                    if let Some(parent) = a.parent_workflow_execution
                        && a.continued_execution_run_id.is_empty()
                    {
                        let child = (parent.run_id, a.parent_initiated_event_id);
                        assert!(told.children.insert(child), "G1: one initiation made two chains of runs");
                    }
                }
                WorkflowExecutionCompletedEventAttributes(_)
                | WorkflowExecutionFailedEventAttributes(_)
                | WorkflowExecutionTimedOutEventAttributes(_)
                | WorkflowExecutionTerminatedEventAttributes(_)
                | WorkflowExecutionContinuedAsNewEventAttributes(_)
                | WorkflowExecutionCanceledEventAttributes(_) => {
                    told.closed.insert(run);
                }
                _ => {}
            }
        }
        for event in w.all_run_ids().iter().flat_map(|run| w.buffered_of(run)) {
            if let Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) = event.attributes
                && let Some(sender) = a.external_workflow_execution
            {
                *told.signals_had.entry(sender.run_id).or_default() += 1;
            }
        }
        for (sender, count) in &told.signals_told {
            let had = told.signals_had.get(sender).copied().unwrap_or(0);
            // A run that is terminated takes what it has not seen into its history; one that is deleted is not in this test.
            assert!(had >= *count, "G3: {sender} was told of {count} signals and {had} arrived");
        }
        for started in &told.started {
            assert!(told.children.contains(started), "G1: {started:?} was told of a child that there is not");
        }
        told
    }

    fn begin(&mut self, run: String, id: i64, what: &'static str) {
        self.initiated.insert((run, id), what);
    }

    fn answer(&mut self, run: String, id: i64) {
        assert!(self.initiated.contains_key(&(run.clone(), id)), "B4: an answer to nothing");
        assert!(self.answered.insert((run, id)), "G1, G3: a second answer");
    }

    fn end(&mut self, run: String, id: i64, started: i64) {
        assert!(started > id, "G1: a child ended with started event {started}");
        assert!(self.started.contains(&(run.clone(), id)), "G1: a child ended that was not started");
        self.answer(run, id);
    }

    /// Nothing is under way: every open run has heard of whatever it began, except of children that go on.
    fn check_quiet(&self, w: &World) {
        for ((run, id), what) in &self.initiated {
            if self.closed.contains(run) {
                continue;
            }
            let key = (run.clone(), *id);
            let waits = w.buffered_of(run).iter().filter_map(answers).any(|answered| answered == *id);
            match *what {
                "child" => {
                    let heard = self.started.contains(&key) || self.answered.contains(&key);
                    assert!(heard || waits, "G1: run {run} never heard of its child {id}");
                }
                _ => assert!(self.answered.contains(&key) || waits, "G3: run {run} never heard of {what} {id}"),
            }
        }
    }
}

/// The initiating event that an event tells the outcome of.
fn answers(event: &HistoryEvent) -> Option<i64> {
    use Attributes::*;
    match event.attributes.as_ref()? {
        ChildWorkflowExecutionStartedEventAttributes(a) => Some(a.initiated_event_id),
        StartChildWorkflowExecutionFailedEventAttributes(a) => Some(a.initiated_event_id),
        ExternalWorkflowExecutionSignaledEventAttributes(a) => Some(a.initiated_event_id),
        SignalExternalWorkflowExecutionFailedEventAttributes(a) => Some(a.initiated_event_id),
        ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => Some(a.initiated_event_id),
        RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => Some(a.initiated_event_id),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn random_families_keep_every_rule(steps in prop::collection::vec(step(), 1..100)) {
        let mut w = World::new();
        w.start();
        for step in &steps {
            take(&mut w, step);
            w.check();
            Told::read(&w);
        }
        w.deliver();
        w.check();
        Told::read(&w).check_quiet(&w);
        let hash = w.state.hash();
        prop_assert_eq!(replay(&w, 1, 3), hash);
        prop_assert_eq!(replay(&w, 7, 1), hash);
        prop_assert_eq!(replay(&w, 64, usize::MAX), hash);
    }
}
