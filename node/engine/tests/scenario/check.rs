//! What must hold of a world after every command: the tables and what the leader was told agree, and histories are whole.

use std::collections::BTreeSet;

use prost::Message;
use stanchion_engine::effects::TimerKey;
use stanchion_engine::history::link;
use stanchion_engine::invariants::between::{self, Outline};
use stanchion_engine::keys::{self, RunPart, StandalonePart};
use stanchion_engine::run::{Run, rebuild};
use stanchion_engine::{EventId, RunKey, ShardTime, Slot, StateReader, Table, invariants, outbox, read};
use stanchion_proto::row::{ActivityRow, PendingRow, RunRow, StandaloneRow, TimerQueueRow, timer_queue_row::Kind};
use stanchion_proto::temporal::enums::v1::{EventType, TimeoutType};

use super::World;

impl World {
    /// Checks everything that needs more than one run's row.
    pub fn check(&self) {
        self.check_offers();
        self.check_timers();
        self.check_pending_rows();
        self.check_outbox();
        for n in 1..=self.runs.len() {
            self.check_history(n);
            self.check_rows(n);
        }
        self.check_between();
        if !self.runs.is_empty() {
            self.check_rebuilt(self.runs.len());
        }
    }

    /// What is sampled in production holds.
    fn check_rows(&self, n: usize) {
        let key = &self.runs[n - 1];
        for look in [invariants::rows::check(&self.state, key), invariants::rows::check_history(&self.state, key)] {
            let Some(look) = look.unwrap() else { continue };
            assert_eq!(look.violations, [], "run {n}");
        }
    }

    /// A run made anew from its events is the run that commands made, as far as events tell.
    pub fn check_rebuilt(&self, n: usize) {
        let key = self.runs[n - 1].clone();
        let Some(stored) = Run::read(&self.state, &key).unwrap() else { return };
        if stored.has_buffered() {
            // These have changed the run, and are no history yet.
            return;
        }
        let rebuilt = rebuild::stored(&self.state, &key).unwrap().expect("a run has events").run;
        assert_eq!(told_by_events(&rebuilt, &stored), told_by_events(&stored, &stored), "run {n} made anew");
    }

    /// A new leader, which reads the tables, offers what the old one, which saw the effects, had on offer.
    fn check_offers(&self) {
        let mut rows = Vec::new();
        for slot in self.slots() {
            let mut after = Vec::new();
            loop {
                let page = read::pending(&self.state, slot, &after, 3).unwrap();
                let Some(last) = page.last() else { break };
                after = last.key.to_vec();
                rows.extend(page);
            }
        }
        let mut stored: Vec<_> =
            rows.iter().filter(|row| row.started.is_none()).map(|row| format!("{:?}", row.offer)).collect();
        let mut told: Vec<_> = self.offers.iter().map(|offer| format!("{offer:?}")).collect();
        stored.sort();
        told.sort();
        assert_eq!(stored, told, "the pending table and the offers made");
        for row in &rows {
            for deadline in [&row.started, &row.sticky_deadline].into_iter().flatten() {
                let told = self.deadlines.contains(deadline) || self.idle_deadlines.contains(deadline);
                assert!(told, "{deadline:?} is in the table and nobody was told");
            }
        }
    }

    fn check_timers(&self) {
        let stored = self.stored_timers();
        assert_eq!(stored, self.timer_keys(), "the timer queue and the timers set");
        for timer in &stored {
            let row = self.state.get(timer.slot, Table::TimerQueue, &timer.key).unwrap().unwrap();
            let row = TimerQueueRow::decode(row).unwrap();
            if matches!(row.kind(), Kind::ScheduleWake | Kind::ScheduleRetire) {
                self.check_schedule_timer(&row, timer.at);
                continue;
            }
            let run = RunKey {
                namespace_id: row.namespace_id.clone(),
                workflow_id: row.workflow_id.clone(),
                run_id: row.run_id.clone(),
            };
            if self.alone.contains(&run) {
                let (alone, _) = self.alone_row(&run).expect("a timer of an activity that is gone");
                assert_eq!(row.kind() == Kind::StandaloneRetention, alone.closed_at != 0, "{row:?}");
                continue;
            }
            if row.kind() != Kind::Purge {
                assert_eq!(self.row(&run).closed_at, 0, "a timer of a closed run: {row:?}");
            }
        }
    }

    /// An activity has a pending row exactly while it waits for a worker, and a started one has a deadline.
    fn check_pending_rows(&self) {
        let on_offer: BTreeSet<_> = self
            .state
            .rows(Table::Pending)
            .map(|(_, _, value)| PendingRow::decode(value.clone()).unwrap())
            .filter(|row| row.is_activity)
            .map(|row| (row.run_id, row.scheduled_event_id, row.stamp))
            .collect();
        let timers = self.stored_timers();
        let guarded: BTreeSet<_> = timers
            .iter()
            .map(|timer| self.state.get(timer.slot, Table::TimerQueue, &timer.key).unwrap().unwrap())
            .map(|row| TimerQueueRow::decode(row).unwrap())
            .map(|row| (row.run_id, row.event_id, row.kind, row.timeout_type))
            .collect();
        let has = |run: &RunKey, id: i64, kind: Kind, timeout: TimeoutType| {
            guarded.contains(&(run.run_id.clone(), id, kind as i32, timeout as i32))
        };
        let mut waiting = BTreeSet::new();
        for n in 1..=self.runs.len() {
            let run = self.run_key(n);
            if self.row(&run).closed_at != 0 {
                continue;
            }
            let prefix = keys::run(&run);
            let slot = run.slot();
            for (key, value) in self.state.range(slot, Table::Activity, &prefix, &keys::after(&prefix), 10_000).unwrap()
            {
                let id = i64::from_be_bytes(key[key.len() - 8..].try_into().unwrap());
                let row = ActivityRow::decode(value).unwrap();
                let to_close = has(&run, id, Kind::ActivityTimeout, TimeoutType::ScheduleToClose);
                if row.pause.is_some() {
                    let due = guarded.iter().any(|(of, event, ..)| (of, *event) == (&run.run_id, id));
                    assert!(!due, "something is due of a paused activity: {row:?}");
                    continue;
                }
                assert_eq!(to_close, row.schedule_to_close_timeout > 0, "D6: schedule-to-close of {row:?}");
                if row.backing_off {
                    assert!(has(&run, id, Kind::ActivityRetry, TimeoutType::Unspecified), "nothing retries {row:?}");
                } else if row.started_at != 0 {
                    let start_to_close = has(&run, id, Kind::ActivityTimeout, TimeoutType::StartToClose);
                    assert!(start_to_close || to_close, "D6: nothing ends {row:?}");
                    let beats = has(&run, id, Kind::ActivityTimeout, TimeoutType::Heartbeat);
                    let over_by_then = row.last_heartbeat_at.max(row.started_at) + row.heartbeat_timeout
                        >= row.started_at + row.start_to_close_timeout;
                    let needed = row.heartbeat_timeout > 0 && !over_by_then && !to_close;
                    assert!(beats || !needed, "D6: nobody misses a heartbeat of {row:?}");
                } else {
                    waiting.insert((run.run_id.clone(), id, row.stamp));
                }
            }
        }
        for run in &self.alone {
            let Some((alone, row)) = self.alone_row(run).filter(|(alone, _)| alone.closed_at == 0) else { continue };
            let to_close = has(run, 0, Kind::StandaloneTimeout, TimeoutType::ScheduleToClose);
            assert_eq!(to_close, row.schedule_to_close_timeout > 0, "D6: schedule-to-close of {alone:?}");
            if row.backing_off {
                assert!(has(run, 0, Kind::StandaloneRetry, TimeoutType::Unspecified), "nothing retries {row:?}");
            } else if row.started_at != 0 {
                let start_to_close = has(run, 0, Kind::StandaloneTimeout, TimeoutType::StartToClose);
                assert!(start_to_close || to_close, "D6: nothing ends {row:?}");
            } else if row.pause.is_none() {
                waiting.insert((run.run_id.clone(), 0, row.stamp));
            }
        }
        assert_eq!(waiting, on_offer, "activities that wait and rows on offer");
    }

    /// Ids without a gap, a chain that fits, pages that join, one end to each begin.
    fn check_history(&self, n: usize) {
        let run = self.run_key(n);
        let row = self.row(&run);
        let events = self.events_of(n);
        let ids: Vec<_> = events.iter().map(|event| event.event_id).collect();
        assert_eq!(ids, (1..row.next_event_id).collect::<Vec<_>>(), "B1");
        let chain = events.iter().fold([0; 32], |chain, event| link(&chain, &event.encode_to_vec()));
        assert_eq!(row.history_hash.as_ref(), chain, "the chain of run {n}");
        let page = read::history(&self.state, &run, EventId(1), EventId(row.next_event_id), usize::MAX, usize::MAX);
        assert_eq!(page.unwrap().bytes.len() as u64, row.history_bytes);
        let closing = events.iter().position(|event| is_closing(event.event_type()));
        assert_eq!(closing.is_some(), row.closed_at != 0);
        assert!(closing.is_none_or(|place| place + 1 == events.len()), "B5: an event behind the closing one");
        assert_eq!(invariants::history::check(&run.workflow_id, &run.run_id, &events), []);
    }

    /// What the runs say of one another.
    fn check_between(&self) {
        let outline = |n| {
            let run = self.run_key(n);
            Outline::of(&run.workflow_id, &run.run_id, &self.events_of(n))
        };
        let runs: Vec<_> = (1..=self.runs.len()).map(outline).collect();
        assert_eq!(between::check(&runs), []);
    }

    /// What a new leader would find to deliver is what the old one had.
    fn check_outbox(&self) {
        let mut stored = BTreeSet::new();
        // An answer may come from a slot that has no run.
        let slots: BTreeSet<Slot> = self.state.rows(Table::Outbox).map(|(slot, ..)| slot).collect();
        for slot in slots {
            let mut after = None;
            loop {
                let page = outbox::waiting(&self.state, slot, after, 3).unwrap();
                let Some(last) = page.last() else { break };
                after = Some(*last);
                stored.extend(page);
            }
        }
        assert_eq!(stored, self.outbox, "the outbox and the messages told of");
    }

    fn slots(&self) -> BTreeSet<Slot> {
        let schedule = stanchion_engine::schedule::slot_of(super::NAMESPACE, super::SCHEDULE);
        self.runs.iter().chain(&self.alone).map(RunKey::slot).chain([schedule]).collect()
    }

    fn stored_timers(&self) -> Vec<TimerKey> {
        let of = |slot| read::timers(&self.state, slot, ShardTime(i64::MAX - 1), usize::MAX).unwrap();
        let mut timers: Vec<_> = self.slots().into_iter().flat_map(of).collect();
        timers.sort();
        timers
    }

    fn run_key(&self, n: usize) -> RunKey {
        self.runs[n - 1].clone()
    }

    fn row(&self, run: &RunKey) -> RunRow {
        let row = self.state.get(run.slot(), Table::Run, &keys::run_part(run, RunPart::State)).unwrap();
        RunRow::decode(row.expect("the run's row")).unwrap()
    }
}

impl World {
    /// A standalone activity's run; none once it is deleted.
    fn alone_row(&self, run: &RunKey) -> Option<(StandaloneRow, ActivityRow)> {
        let part = keys::standalone_part(run, StandalonePart::State);
        let row = self.state.get(run.slot(), Table::StandaloneActivity, &part).unwrap()?;
        let mut row = StandaloneRow::decode(row).unwrap();
        let activity = row.activity.take().unwrap();
        Some((row, activity))
    }
}

fn is_closing(kind: EventType) -> bool {
    use EventType::*;
    matches!(
        kind,
        WorkflowExecutionCompleted
            | WorkflowExecutionFailed
            | WorkflowExecutionTimedOut
            | WorkflowExecutionCanceled
            | WorkflowExecutionTerminated
            | WorkflowExecutionContinuedAsNew
    )
}

/// What the history of a run tells of its rows. `stored`: the run as commands left it.
fn told_by_events(run: &Run, stored: &Run) -> String {
    let row = RunRow {
        next_stamp: 0,
        sticky: None,
        workflow_task: None,
        workflow_task_attempt: 0,
        workflow_task_failed_cause: 0,
        transitions: 0,
        retention: 0,
        deleted: false,
        reset_run_id: String::new(),
        request_ids: Vec::new(),
        cancel_request_id: String::new(),
        close_batch_event_id: 0,
        // A reset gives the run times and a name of its own that no event has.
        started_at: stored.row.started_at,
        execution_at: stored.row.execution_at,
        execution_expires_at: stored.row.execution_expires_at,
        run_expires_at: stored.row.run_expires_at,
        reset_at: 0,
        reset_request_id: String::new(),
        original_started_at: 0,
        reset_points: None,
        // Of updates, what waits and what was sent leaves no event.
        updates_admitted: 0,
        updates_sent: 0,
        // An update may have its task while the run still backs off.
        backing_off: false,
        close_attempted: false,
        scheduled_by: None,
        ..run.row.clone()
    };
    let points: Vec<_> = run.row.reset_points.iter().flat_map(|points| &points.points).collect();
    let points: Vec<_> = points
        .into_iter()
        .map(|point| (&point.build_id, &point.run_id, point.first_workflow_task_completed_id, &point.create_time))
        .collect();
    // A result that waited when the run closed has taken its activity with it, and is no event.
    let activities: Vec<_> = run
        .activities
        .iter()
        .filter(|_| run.is_open())
        .map(|(id, row)| {
            let timeouts = [
                row.schedule_to_close_timeout,
                row.schedule_to_start_timeout,
                row.start_to_close_timeout,
                row.heartbeat_timeout,
            ];
            let names = (&row.activity_id, &row.activity_type, &row.task_queue, row.scheduled_batch_event_id);
            (id, names, timeouts, &row.retry_policy, &row.priority, row.cancel_requested_event_id, &row.user_metadata)
        })
        .collect();
    let timers: Vec<_> = run.timers.iter().collect();
    let externals: Vec<_> =
        run.externals.iter().map(|(id, row)| (id, row.is_cancel, &row.workflow_id, &row.run_id)).collect();
    // A closed run keeps the children that were pending, and drops what came too late for it.
    let children: Vec<_> = run
        .children
        .iter()
        .filter(|_| run.is_open())
        .map(|(id, row)| (id, &row.workflow_id, &row.run_id, row.started_event_id, row.parent_close_policy))
        .collect();
    let accepted = run.updates.iter().filter(|(_, row)| run.is_open() && row.accepted_event_id > 0);
    let updates: Vec<_> = accepted.map(|(id, row)| (id, row.accepted_event_id)).collect();
    let detail = (&run.detail().memo, &run.detail().search_attributes, &run.detail().user_metadata);
    format!(
        "{row:#?}\n{points:#?}\n{activities:#?}\n{timers:#?}\n{externals:#?}\n{children:#?}\n{updates:#?}\n{detail:#?}"
    )
}
