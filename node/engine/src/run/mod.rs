//! A run: its state decoded, as commands work on it. One file a concept beside this one.
//!
//! A run is loaded (from the cache, or its rows), changed in memory by one command, and flushed: what changed is staged as rows, and the
//! new events as one batch. A run that is dropped instead leaves no trace.
//!
//! Never: a change that [`Run::flush`] does not write. A replica whose cache was cold must end with the same bytes.

use std::collections::BTreeMap;

use bytes::BytesMut;
use prost::Message;
use stanchion_proto::row::{
    ActivityRow, BufferedRow, ChildRow, CurrentRow, ExternalRow, RunDetailRow, RunRow, TimerRow, UpdateRow,
    VisibilityRow, run_row::WorkflowTask,
};
use stanchion_proto::temporal::enums::v1::WorkflowExecutionStatus;
use stanchion_proto::temporal::history::v1::HistoryEvent;

use crate::effects::RunChange;
use crate::keys::{self, RunPart, UpdatePart};
use crate::schedule::origin;
use crate::state::{ShardState, StateResult, Table};
use crate::transaction::{Transaction, decode};
use crate::types::{EventId, RunKey, Slot};
use crate::visibility::{self, Entity};
use crate::{history, invariants};

pub mod activities;
pub(crate) mod callbacks;
pub mod children;
pub mod close;
pub mod completion;
mod cron;
pub mod delete;
pub mod events;
pub mod external;
pub mod multi_operation;
pub mod options;
mod reapply;
pub mod rebuild;
pub mod reset;
pub mod signals;
pub mod speculative;
pub mod start;
pub mod timers;
pub mod tracked;
pub mod updates;
pub(crate) mod versioning;
pub mod workflow_task;

pub use events::Extra;
pub use tracked::Tracked;

/// More events than this do not wait for a workflow task to end: it is failed, and they get their ids.
const BUFFERED_EVENTS_MAX: usize = 100;

/// A batch of events that a reset writes ends when it is this large.
const BATCH_BYTES: usize = 1 << 20;

/// Rows read in one go while a run is loaded.
const LOAD_CHUNK: usize = 1024;

/// See the module.
#[derive(Clone, Debug)]
pub struct Run {
    pub key: RunKey,
    pub slot: Slot,
    pub row: RunRow,
    /// By scheduled event id. Kept when the run closes, because describing it shows what was pending.
    pub activities: Tracked<i64, ActivityRow>,
    /// By timer id.
    pub timers: Tracked<String, TimerRow>,
    /// By initiated event id. Kept when the run closes, because describing it shows what was pending.
    pub children: Tracked<i64, ChildRow>,
    /// Signals and cancel requests to other runs that are not answered, by initiated event id.
    pub externals: Tracked<i64, ExternalRow>,
    /// Updates without an outcome, by id. A closed run keeps the accepted ones.
    pub updates: Tracked<String, UpdateRow>,
    detail: RunDetailRow,
    detail_changed: bool,
    /// Events without an id yet. Invariant: empty between commands, unless a workflow task is started.
    buffered: Vec<HistoryEvent>,
    /// The table holds a row of buffered events.
    buffered_stored: bool,
    /// Events of this command, encoded.
    batch: BytesMut,
    /// Id of the first event in `batch`.
    batch_first: i64,
    /// The command is about updates alone: a speculative workflow task stays one.
    keeps_speculative: bool,
    /// Where the last event begins in `batch`.
    last_event_at: usize,
    /// As it was when the command began.
    before: Before,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Before {
    /// False for a run that this command makes.
    exists: bool,
    next_event_id: i64,
    status: i32,
    request_ids: usize,
    idle: bool,
    /// Builds of workers that had completed tasks of the run: they are search attributes.
    builds: usize,
    has_completed_task: bool,
    /// In a division of the namespace, and so out of ordinary lists.
    in_division: bool,
}

impl Run {
    /// A run that this command starts. Its first event is yet to be added.
    pub fn new(key: RunKey, row: RunRow, detail: RunDetailRow) -> Self {
        let slot = key.slot();
        let detail_changed = detail != RunDetailRow::default();
        Self {
            key,
            slot,
            row,
            activities: Tracked::default(),
            timers: Tracked::default(),
            children: Tracked::default(),
            externals: Tracked::default(),
            updates: Tracked::default(),
            keeps_speculative: false,
            detail,
            detail_changed,
            buffered: Vec::new(),
            buffered_stored: false,
            batch: BytesMut::new(),
            batch_first: 0,
            last_event_at: 0,
            before: Before::default(),
        }
    }

    /// The run as its rows have it.
    pub fn read(state: &dyn ShardState, key: &RunKey) -> StateResult<Option<Self>> {
        let slot = key.slot();
        let Some(row) = state.get(slot, Table::Run, &keys::run_part(key, RunPart::State))? else { return Ok(None) };
        let row: RunRow = decode(Table::Run, row)?;
        let mut run = Self::new(key.clone(), row, RunDetailRow::default());
        if let Some(detail) = state.get(slot, Table::Run, &keys::run_part(key, RunPart::Detail))? {
            run.detail = decode(Table::Run, detail)?;
        }
        if let Some(buffered) = state.get(slot, Table::Run, &keys::run_part(key, RunPart::Buffered))? {
            run.buffered = decode::<BufferedRow>(Table::Run, buffered)?.events;
            run.buffered_stored = true;
        }
        let by_event = |rest: &[u8]| rest.try_into().ok().map(i64::from_be_bytes);
        run.activities = Tracked::loaded(read_rows(state, slot, Table::Activity, key, by_event)?);
        run.children = Tracked::loaded(read_rows(state, slot, Table::Child, key, by_event)?);
        run.externals = Tracked::loaded(read_rows(state, slot, Table::External, key, by_event)?);
        run.timers =
            Tracked::loaded(read_rows(state, slot, Table::Timer, key, |rest| String::from_utf8(rest.to_vec()).ok())?);
        run.updates = Tracked::loaded(updates::read_rows(state, key)?);
        run.detail_changed = false;
        run.mark_unchanged();
        Ok(Some(run))
    }

    pub fn is_open(&self) -> bool {
        self.row.status == WorkflowExecutionStatus::Running as i32
    }

    pub fn status(&self) -> WorkflowExecutionStatus {
        WorkflowExecutionStatus::try_from(self.row.status).unwrap_or_default()
    }

    pub fn next_event_id(&self) -> EventId {
        EventId(self.row.next_event_id)
    }

    /// The workflow task is with a worker: what comes meanwhile is buffered.
    pub fn workflow_task_started(&self) -> bool {
        matches!(self.row.workflow_task, Some(WorkflowTask::Started(_)))
    }

    /// A workflow task is scheduled or started.
    pub fn has_workflow_task(&self) -> bool {
        self.row.workflow_task.is_some()
    }

    /// This command is about updates alone: a speculative workflow task need not become an ordinary one.
    pub(super) fn keep_speculative(&mut self) {
        self.keeps_speculative = true;
    }

    /// No worker has a task of this run or is to get one. A closed run may still show the task that it closed over.
    fn is_idle(&self) -> bool {
        !self.has_workflow_task() || !self.is_open()
    }

    pub fn detail(&self) -> &RunDetailRow {
        &self.detail
    }

    /// This command has closed the run, and no other one of its chain follows.
    fn has_just_ended(&self) -> bool {
        let was_open = !self.before.exists || self.before.status == WorkflowExecutionStatus::Running as i32;
        was_open && !self.is_open() && self.row.successor_run_id.is_empty()
    }

    /// For changing: the row will be written.
    pub fn detail_mut(&mut self) -> &mut RunDetailRow {
        self.detail_changed = true;
        &mut self.detail
    }

    /// The next fence: every task that is scheduled, or scheduled anew, takes one.
    pub fn next_stamp(&mut self) -> u64 {
        self.row.next_stamp += 1;
        self.row.next_stamp
    }

    /// Bytes of history including the events of this command.
    pub fn history_bytes(&self) -> u64 {
        self.row.history_bytes
    }

    /// Ends the run if its history has outgrown its bounds, as the real server does.
    pub(crate) fn enforce_bounds(&mut self, tx: &mut Transaction<'_>) {
        if !self.is_open() {
            return;
        }
        if self.buffered.len() > BUFFERED_EVENTS_MAX {
            workflow_task::fail_overtaken(tx, self);
        }
        let events = u64::try_from(self.row.next_event_id - 1).unwrap_or(0);
        if self.row.history_bytes > tx.bounds.history_bytes_max {
            close::terminate_by_engine(tx, self, "Workflow history size exceeds limit.");
        } else if events > tx.bounds.history_events_max {
            close::terminate_by_engine(tx, self, "Workflow history count exceeds limit.");
        }
    }

    /// Rough size in memory, for the cache's bound.
    pub fn memory_bytes(&self) -> usize {
        let names = self.key.namespace_id.len() + self.key.workflow_id.len() + self.key.run_id.len();
        let buffered: usize = self.buffered.iter().map(|event| 256 + event.encoded_len()).sum();
        1024 + 2 * names
            + self.row.encoded_len()
            + self.detail.encoded_len()
            + buffered
            + self.activities.bytes()
            + 512 * self.activities.len()
            + 128 * self.timers.len()
            + self.children.bytes()
            + 256 * self.children.len()
            + self.externals.bytes()
            + 256 * self.externals.len()
            + self.updates.bytes()
            + 128 * self.updates.len()
    }

    /// Stages what changed. Called by [`Transaction::finish`] alone.
    pub(crate) fn flush(&mut self, tx: &mut Transaction<'_>) -> StateResult<()> {
        let keeps_speculative = std::mem::take(&mut self.keeps_speculative);
        if self.is_open() && !keeps_speculative {
            speculative::settle(self);
        }
        if !self.is_open() {
            self.drop_buffered();
            if !self.before.exists || self.before.status != self.row.status {
                updates::run_closed(tx, self);
            }
        } else if !self.workflow_task_started() {
            self.flush_buffered();
        }
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch).freeze();
            if !self.is_open() && self.row.close_batch_event_id == 0 {
                self.row.close_batch_event_id = self.batch_first;
            }
            if self.has_just_ended() {
                origin::closed(tx, self, &batch)?;
            }
            history::append(tx, self.slot, &self.key, EventId(self.batch_first), batch);
        }
        self.row.transitions += 1;
        tx.put_row(self.slot, Table::Run, keys::run_part(&self.key, RunPart::State), &self.row);
        self.flush_visibility(tx)?;
        if std::mem::take(&mut self.detail_changed) {
            tx.put_row(self.slot, Table::Run, keys::run_part(&self.key, RunPart::Detail), &self.detail);
        }
        self.flush_buffered_row(tx);
        let (slot, key) = (self.slot, &self.key);
        self.activities.drain_changed(|id, row| {
            write_row(tx, slot, Table::Activity, keys::run_event(key, EventId(*id)), row);
        });
        self.children.drain_changed(|id, row| {
            write_row(tx, slot, Table::Child, keys::run_event(key, EventId(*id)), row);
        });
        self.externals.drain_changed(|id, row| {
            write_row(tx, slot, Table::External, keys::run_event(key, EventId(*id)), row);
        });
        self.timers.drain_changed(|id, row| write_row(tx, slot, Table::Timer, keys::run_name(key, id), row));
        self.updates.drain_changed(|id, row| {
            write_row(tx, slot, Table::Update, keys::update(key, UpdatePart::InFlight, id), row);
        });
        self.flush_current(tx);
        self.emit_change(tx);
        self.mark_unchanged();
        invariants::check(self)
    }

    /// Stages what the command has recorded so far, if it is a lot: one command may write many events, and none of its batches is large.
    /// Only for a run that stays open to the command's end.
    pub(super) fn spill(&mut self, tx: &mut Transaction<'_>) {
        if self.batch.len() >= BATCH_BYTES {
            let batch = std::mem::take(&mut self.batch).freeze();
            history::append(tx, self.slot, &self.key, EventId(self.batch_first), batch);
        }
    }

    fn flush_buffered_row(&mut self, tx: &mut Transaction<'_>) {
        let key = || keys::run_part(&self.key, RunPart::Buffered);
        if self.buffered.is_empty() {
            if self.buffered_stored {
                tx.delete(self.slot, Table::Run, key());
            }
        } else {
            // Written whole each time: while a worker has the task, few things come in.
            let row = BufferedRow { events: std::mem::take(&mut self.buffered) };
            tx.put_row(self.slot, Table::Run, key(), &row);
            self.buffered = row.events;
        }
        self.buffered_stored = !self.buffered.is_empty();
    }

    /// The row that policies look at follows the newest run of the workflow id: this one, unless a successor has taken its place.
    fn flush_current(&mut self, tx: &mut Transaction<'_>) {
        let changed = !self.before.exists
            || self.before.status != self.row.status
            || self.before.request_ids != self.row.request_ids.len();
        if !changed || !self.row.successor_run_id.is_empty() {
            return;
        }
        let key = keys::current(&self.key.namespace_id, &self.key.workflow_id);
        tx.put_row(self.slot, Table::Current, key, &self.current_row());
    }

    /// What policies of later starts look at.
    pub(crate) fn current_row(&self) -> CurrentRow {
        CurrentRow {
            run_id: self.key.run_id.clone(),
            status: self.row.status,
            first_execution_run_id: self.row.first_execution_run_id.clone(),
            request_ids: self.row.request_ids.clone(),
            started_at: self.row.started_at,
        }
    }

    /// What list and count see of the run: written when it starts, when its memo or attributes change, and when it closes.
    fn flush_visibility(&self, tx: &mut Transaction<'_>) -> StateResult<()> {
        let before = &self.before;
        let was_open = !before.exists || before.status == WorkflowExecutionStatus::Running as i32;
        if self.row.deleted {
            // An open run that a caller deletes closes in the same command: it stands among the open ones still.
            let closed_at = if was_open { 0 } else { self.row.closed_at };
            return visibility::remove_run(tx, &self.key, self.row.started_at, closed_at);
        }
        let changed = !before.exists
            || self.detail_changed
            || before.status != self.row.status
            || before.builds != self.builds()
            || before.has_completed_task != (self.row.previous_started_event_id > 0);
        if !was_open || !changed {
            return Ok(());
        }
        let row = visibility::record::of_run(&self.key, &self.row, &self.detail);
        // Of the record before, only its place counts.
        let old = before.exists.then(|| VisibilityRow {
            run_id: self.key.run_id.clone(),
            status: before.status,
            started_at: self.row.started_at,
            attributes: before.in_division.then(visibility::record::division).into_iter().collect(),
            ..Default::default()
        });
        visibility::put(tx, Entity::Workflow, &self.key.namespace_id, self.slot, old.as_ref(), &row);
        Ok(())
    }

    fn builds(&self) -> usize {
        self.row.reset_points.as_ref().map_or(0, |points| points.points.len())
    }

    fn in_division(&self) -> bool {
        self.detail.search_attributes.as_ref().is_some_and(|attributes| {
            attributes.indexed_fields.get(visibility::DIVISION).and_then(visibility::attributes::text_of).is_some()
        })
    }

    fn emit_change(&self, tx: &mut Transaction<'_>) {
        let closed = !self.is_open();
        let idle = self.is_idle();
        if self.before.exists && self.before.next_event_id == self.row.next_event_id && self.before.idle == idle {
            return;
        }
        if !self.before.exists {
            tx.effects.runs_opened += 1;
        }
        if closed && self.before.status != self.row.status {
            tx.effects.runs_closed += 1;
        }
        tx.effects.changes.push(RunChange { run: self.key.clone(), next_event_id: self.next_event_id(), closed, idle });
    }

    fn mark_unchanged(&mut self) {
        self.before = Before {
            exists: true,
            next_event_id: self.row.next_event_id,
            status: self.row.status,
            request_ids: self.row.request_ids.len(),
            idle: self.is_idle(),
            builds: self.builds(),
            has_completed_task: self.row.previous_started_event_id > 0,
            in_division: self.in_division(),
        };
    }
}

fn write_row<M: Message>(tx: &mut Transaction<'_>, slot: Slot, table: Table, key: Vec<u8>, row: Option<&M>) {
    match row {
        Some(row) => tx.put_row(slot, table, key, row),
        None => tx.delete(slot, table, key),
    }
}

/// All rows of a run in one of its tables; `id` makes the map's key of what follows the run in the row's key.
fn read_rows<K: Ord, M: Message + Default>(
    state: &dyn ShardState,
    slot: Slot,
    table: Table,
    run: &RunKey,
    id: impl Fn(&[u8]) -> Option<K>,
) -> StateResult<BTreeMap<K, M>> {
    read_rows_under(state, slot, table, run, keys::run(run), id)
}

/// As [`read_rows`], of keys that begin with `prefix` alone.
fn read_rows_under<K: Ord, M: Message + Default>(
    state: &dyn ShardState,
    slot: Slot,
    table: Table,
    run: &RunKey,
    prefix: Vec<u8>,
    id: impl Fn(&[u8]) -> Option<K>,
) -> StateResult<BTreeMap<K, M>> {
    let end = keys::after(&prefix);
    let mut from = prefix.clone();
    let mut rows = BTreeMap::new();
    loop {
        let chunk = state.range(slot, table, &from, &end, LOAD_CHUNK)?;
        let full = chunk.len() == LOAD_CHUNK;
        for (key, value) in chunk {
            from = key.to_vec();
            let id = id(&key[prefix.len()..]).ok_or_else(|| crate::StateFault::Corrupt {
                table,
                reason: format!("the key of a row of run {} is malformed", run.run_id),
            })?;
            rows.insert(id, decode(table, value)?);
        }
        if !full {
            return Ok(rows);
        }
        from.push(0);
    }
}
