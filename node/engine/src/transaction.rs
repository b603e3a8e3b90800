//! One command being applied: the state it reads, its time, ids and bounds, and what it has decided so far.
//!
//! Writes are staged and reach the state in [`Transaction::commit`]; a rejection drops them, so a refused command changes nothing.
//! Reads see the state before the command: a function that needs what it wrote itself keeps it in the [`Run`].
//!
//! Never: a write past the staging area; an effect that the tables do not also hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use stanchion_proto::command::{Command, Reservation};

use crate::effects::{Effects, HandOver, TaskStart};
use crate::ids::IdSource;
use crate::limits::Limits;
use crate::outbox;
use crate::reply::Rejection;
use crate::run::Run;
use crate::state::{ShardState, StateFault, StateResult, Table};
use crate::types::{Position, RunKey, ShardTime, Slot};
use crate::visibility::stretch;

/// Why a function of the engine ends early.
#[derive(Debug)]
pub enum Halt {
    /// The command is refused; nothing changes.
    Rejected(Rejection),
    /// Storage failed or an invariant is broken: the group stops.
    Fault(StateFault),
}

impl From<Rejection> for Halt {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<StateFault> for Halt {
    fn from(fault: StateFault) -> Self {
        Self::Fault(fault)
    }
}

pub type Outcome<T> = Result<T, Halt>;

/// The bounds that the engine enforces, with the command's own where it carries some.
#[derive(Clone, Copy, Debug)]
pub struct EngineBounds {
    pub history_events_max: u64,
    pub history_bytes_max: u64,
    pub suggest_continue_as_new_events: u64,
    pub suggest_continue_as_new_bytes: u64,
    pub pending_activities_max: usize,
    pub pending_signals_max: usize,
    pub pending_children_max: usize,
    pub pending_cancels_max: usize,
    pub payload_bytes_max: usize,
    pub memo_bytes_max: usize,
    pub updates_in_flight_max: usize,
    pub updates_total_max: usize,
    pub updates_in_flight_bytes_max: usize,
}

impl EngineBounds {
    pub fn of(command: &Command) -> Self {
        let defaults = Limits::default();
        let stamped = command.bounds.unwrap_or_default();
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        let count = |value: u32, default: u64| or(u64::from(value), default) as usize;
        Self {
            history_events_max: or(stamped.history_events_max, defaults.history_events_max),
            history_bytes_max: or(stamped.history_bytes_max, defaults.history_bytes_max),
            suggest_continue_as_new_events: or(
                stamped.suggest_continue_as_new_events,
                defaults.suggest_continue_as_new_events,
            ),
            suggest_continue_as_new_bytes: or(
                stamped.suggest_continue_as_new_bytes,
                defaults.suggest_continue_as_new_bytes,
            ),
            pending_activities_max: count(stamped.pending_activities_max, defaults.pending_activities_max),
            pending_signals_max: count(stamped.pending_signals_max, defaults.pending_signals_max),
            pending_children_max: count(stamped.pending_children_max, defaults.pending_children_max),
            pending_cancels_max: count(stamped.pending_cancels_max, defaults.pending_cancels_max),
            payload_bytes_max: or(stamped.payload_bytes_max, defaults.payload_bytes_max) as usize,
            memo_bytes_max: or(stamped.memo_bytes_max, defaults.memo_bytes_max) as usize,
            updates_in_flight_max: count(stamped.updates_in_flight_max, defaults.updates_in_flight_max),
            updates_total_max: count(stamped.updates_total_max, defaults.updates_total_max),
            updates_in_flight_bytes_max: or(stamped.updates_in_flight_bytes_max, defaults.updates_in_flight_bytes_max)
                as usize,
        }
    }
}

struct Write {
    slot: Slot,
    table: Table,
    key: Vec<u8>,
    /// None deletes.
    value: Option<Bytes>,
}

/// A message on its way into the outbox; it gets its number when it is written.
struct Outgoing {
    source: Slot,
    destination: Slot,
    row: Bytes,
}

/// See the module.
pub struct Transaction<'a> {
    state: &'a mut dyn ShardState,
    pub now: ShardTime,
    pub namespace_id: &'a str,
    /// The namespace's name, for events that carry it.
    pub namespace: &'a str,
    /// The namespace's retention, in nanoseconds; 0 where the command stamps none.
    pub retention: i64,
    pub bounds: EngineBounds,
    pub ids: IdSource,
    /// Where the command stands in the log.
    pub at: Position,
    /// Of what is not committed yet.
    pub effects: Effects,
    committed_effects: Effects,
    /// Rows of runs that this command has deleted ([`crate::run::delete`]).
    pub rows_purged: usize,
    reservations: Vec<&'a Reservation>,
    writes: Vec<Write>,
    /// Boxed as the cache keeps them: a run is large, and only its pointer goes to and fro.
    #[allow(clippy::vec_box)]
    finished: Vec<Box<Run>>,
    outgoing: Vec<Outgoing>,
    /// By home slot and key of [`Table::VisibilityCount`]: how many more there are.
    visible: BTreeMap<(Slot, Vec<u8>), i64>,
    /// By home slot.
    stretches: Vec<(Slot, stretch::Change)>,
}

impl<'a> Transaction<'a> {
    pub fn new(state: &'a mut dyn ShardState, command: &'a Command, at: Position, now: ShardTime) -> Self {
        Self {
            state,
            now,
            namespace_id: &command.namespace_id,
            namespace: &command.namespace,
            retention: command.retention_nanos,
            bounds: EngineBounds::of(command),
            ids: IdSource::new(&command.seed, now),
            at,
            effects: Effects::default(),
            committed_effects: Effects::default(),
            rows_purged: 0,
            reservations: Vec::new(),
            writes: Vec::new(),
            finished: Vec::new(),
            outgoing: Vec::new(),
            visible: BTreeMap::new(),
            stretches: Vec::new(),
        }
    }

    /// Pollers that the leader holds for tasks of this command.
    pub fn reserve(&mut self, reservations: impl IntoIterator<Item = &'a Reservation>) {
        self.reservations.extend(reservations);
    }

    /// A held poller of this queue, if one is left. Whoever takes it must emit the hand-over.
    pub fn take_reservation(&mut self, task_queue: &str, is_activity: bool) -> Option<&'a Reservation> {
        let place =
            self.reservations.iter().position(|r| r.is_activity == is_activity && r.task_queue == task_queue)?;
        Some(self.reservations.remove(place))
    }

    /// Gives a started task to the poller that was held for it.
    pub fn hand_over(&mut self, reservation: &Reservation, start: TaskStart) {
        self.effects.hand_overs.push(HandOver { ticket: reservation.ticket, start });
    }

    /// A row as it was before this command.
    pub fn get(&self, slot: Slot, table: Table, key: &[u8]) -> StateResult<Option<Bytes>> {
        self.state.get(slot, table, key)
    }

    /// A decoded row as it was before this command.
    pub fn get_row<M: Message + Default>(&self, slot: Slot, table: Table, key: &[u8]) -> StateResult<Option<M>> {
        self.get(slot, table, key)?.map(|bytes| decode(table, bytes)).transpose()
    }

    /// Rows as they were before this command.
    pub fn range(
        &self,
        slot: Slot,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> StateResult<Vec<(Bytes, Bytes)>> {
        self.state.range(slot, table, from, to, limit)
    }

    /// The state before this command, for the functions of [`crate::read`] and [`crate::history`].
    pub fn reader(&self) -> &dyn ShardState {
        self.state
    }

    pub fn put(&mut self, slot: Slot, table: Table, key: Vec<u8>, value: Bytes) {
        self.writes.push(Write { slot, table, key, value: Some(value) });
    }

    pub fn put_row<M: Message>(&mut self, slot: Slot, table: Table, key: Vec<u8>, row: &M) {
        self.put(slot, table, key, Bytes::from(row.encode_to_vec()));
    }

    pub fn delete(&mut self, slot: Slot, table: Table, key: Vec<u8>) {
        self.writes.push(Write { slot, table, key, value: None });
    }

    /// A message for the outbox. Called by [`crate::outbox::send`].
    pub(crate) fn post(&mut self, source: Slot, destination: Slot, row: Bytes) {
        self.outgoing.push(Outgoing { source, destination, row });
    }

    /// The run, ready to be changed; none if there is no such run. Give it back with [`Transaction::finish`] or
    /// [`Transaction::release`], or drop it to forget the changes.
    pub fn load(&mut self, key: &RunKey) -> StateResult<Option<Box<Run>>> {
        if let Some(run) = self.state.run_cache().take(key) {
            return Ok(Some(run));
        }
        Run::read(self.state, key).map(|run| run.map(Box::new))
    }

    /// Stages everything that changed in the run. A run whose history is over its bound is ended here.
    pub fn finish(&mut self, mut run: Box<Run>) -> StateResult<()> {
        run.enforce_bounds(self);
        run.flush(self)?;
        self.finished.push(run);
        Ok(())
    }

    /// Gives back a run that was not changed.
    pub fn release(&mut self, run: Box<Run>) {
        self.state.run_cache().put(run);
    }

    /// Forgets everything decided since the last commit: used when a completion fails and its task's failure is recorded instead.
    /// Runs must be loaded anew; ids already made stay used.
    pub fn start_over(&mut self) {
        self.writes.clear();
        self.finished.clear();
        self.outgoing.clear();
        self.visible.clear();
        self.stretches.clear();
        self.effects = Effects::default();
    }

    /// Writes what was staged. The effects are kept, to be taken at the end of the command.
    pub fn commit(&mut self) -> StateResult<()> {
        for Outgoing { source, destination, row } in self.outgoing.drain(..) {
            let key = outbox::store(self.state, source, destination, row)?;
            self.effects.outbox.push(key);
        }
        for ((slot, key), more) in std::mem::take(&mut self.visible) {
            self.count(slot, key, more)?;
        }
        for (home, change) in self.stretches.drain(..) {
            change.apply(self.state, home)?;
        }
        for write in self.writes.drain(..) {
            match write.value {
                Some(value) => self.state.put(write.slot, write.table, &write.key, value),
                None => self.state.delete(write.slot, write.table, &write.key),
            }
        }
        for run in self.finished.drain(..) {
            self.state.run_cache().put(run);
        }
        self.committed_effects.merge(std::mem::take(&mut self.effects));
        Ok(())
    }

    /// The effects of everything committed.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.committed_effects)
    }

    /// `more` things are to be counted under this key. Counters of one command add up.
    pub fn count_visible(&mut self, home: Slot, key: Vec<u8>, more: i64) {
        *self.visible.entry((home, key)).or_default() += more;
    }

    /// A closed record comes to, changes in or leaves its stretch.
    pub(crate) fn change_stretch(&mut self, home: Slot, change: stretch::Change) {
        self.stretches.push((home, change));
    }

    fn count(&mut self, slot: Slot, key: Vec<u8>, more: i64) -> StateResult<()> {
        if more == 0 {
            return Ok(());
        }
        let table = Table::VisibilityCount;
        let count = visible_count(self.state.get(slot, table, &key)?)?;
        let Some(count) = count.checked_add_signed(more) else {
            return Err(StateFault::Invariant(format!("a count of {count} visible things was to grow by {more}")));
        };
        match count {
            0 => self.state.delete(slot, table, &key),
            count => self.state.put(slot, table, &key, Bytes::copy_from_slice(&count.to_be_bytes())),
        }
        Ok(())
    }
}

/// The value of a counter; 0 where there is none.
pub fn visible_count(row: Option<Bytes>) -> StateResult<u64> {
    let Some(row) = row else { return Ok(0) };
    let count = row.first_chunk::<8>().map(|count| u64::from_be_bytes(*count));
    count.ok_or_else(|| StateFault::Corrupt {
        table: Table::VisibilityCount,
        reason: format!("a counter of {} bytes", row.len()),
    })
}

/// Decodes a row; one that does not decode stops the group.
pub fn decode<M: Message + Default>(table: Table, bytes: Bytes) -> StateResult<M> {
    M::decode(bytes).map_err(|e| StateFault::Corrupt { table, reason: e.to_string() })
}
