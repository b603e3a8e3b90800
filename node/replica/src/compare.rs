//! Replicas compare their state: the leader of each group has all of them hash a part of it at the same place in the log, and tells in a
//! later entry what its own hash was. Whoever differs stops the group on his node, loudly, instead of going on with other rows than the
//! rest.
//!
//! ```text
//!   entry 100  CheckHash{slot 7 from its first row}          every replica hashes that part of its state as of entry 100
//!   entry 180  CheckHash{of 100: the leader's hash; next part}   compared; and so on, slot by slot, for ever
//! ```
//!
//! Part by part because a group's state may be large: a part is about `compare_bytes_max`, one every `compare_seconds`, and none
//! while nothing happens in the group.
//!
//! Never: a vote on who is right. If the leader is the one that differs, the others stop, and the group waits for people: nothing says
//! which rows are sound.
//!
//! One task a node, started by [`crate::Replica`]; the state machine hashes and compares.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::Mutex;
use stanchion_engine::invariants::replicas::{self, Part, Place};
use stanchion_engine::{GroupId, Slot, StateReader, StateResult};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{CheckHash, Command};

use crate::group::GroupHandle;
use crate::replica::Inner;

/// A comparison that is not applied by then is forgotten; the next one begins anew.
const PROPOSE_WITHIN: Duration = Duration::from_secs(5);
/// Parts that a replica remembers its hashes of.
const REMEMBERED: usize = 4;

/// A part that this replica hashed, at the entry of that index.
#[derive(Clone, Debug)]
pub(crate) struct Hashed {
    pub index: u64,
    pub from: Place,
    pub part: Part,
}

/// The newest parts hashed. Written by the state machine alone.
#[derive(Default)]
pub(crate) struct Parts(Mutex<Vec<Hashed>>);

impl Parts {
    fn newest(&self) -> Option<Hashed> {
        self.0.lock().last().cloned()
    }

    /// Applies the command at `index`.
    ///
    /// # Errors of the inner result
    /// This replica's rows are not the leader's: in words.
    pub fn apply<S: StateReader + ?Sized>(
        &self,
        state: &S,
        index: u64,
        check: &CheckHash,
    ) -> StateResult<Result<(), String>> {
        let mut parts = self.0.lock();
        let earlier = parts.iter().find(|hashed| hashed.index == check.index);
        if let Some(Hashed { from, part, .. }) = earlier.filter(|_| !check.hash.is_empty())
            && part.hash.as_slice() != check.hash.as_ref()
        {
            let (rows, bytes, ours) = (part.rows, part.bytes, hex(&part.hash));
            return Ok(Err(format!(
                "B2: {rows} rows ({bytes} bytes) from slot {}, {:?}, key {} on are not the leader's: as of entry {} they \
                 hash to {ours}, and the leader's to {}",
                from.slot.0,
                from.table,
                hex(&from.key),
                check.index,
                hex(&check.hash)
            )));
        }
        if check.bytes_max > 0
            && let Some(from) = Place::of(check.slot, check.table, &check.from)
            && let Ok(last) = u16::try_from(check.last_slot)
        {
            let begun = Instant::now();
            let part = replicas::part(state, &from, Slot(last), check.bytes_max)?;
            metrics::counter!("stanchion_compared_nanoseconds_total").increment(begun.elapsed().as_nanos() as u64);
            metrics::counter!("stanchion_compared_rows_total").increment(part.rows);
            if parts.len() == REMEMBERED {
                parts.remove(0);
            }
            parts.push(Hashed { index, from, part });
        }
        Ok(Ok(()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the comparison of one group stands, on its leader.
#[derive(Default)]
struct Cursor {
    next: Option<Place>,
    /// Hashed, and not yet told.
    untold: Option<Hashed>,
    /// The group's last entry when it was last looked at.
    seen: u64,
}

pub(crate) async fn run(node: Weak<Inner>, every: Duration) {
    let mut cursors: BTreeMap<GroupId, Cursor> = BTreeMap::new();
    loop {
        tokio::time::sleep(every).await;
        let Some(node) = node.upgrade() else { return };
        let bytes_max = node.around.options.limits.compare_bytes_max;
        let led: Vec<GroupHandle> = node.handles().into_iter().filter(|group| group.term().is_some()).collect();
        cursors.retain(|id, _| led.iter().any(|group| group.id() == *id));
        let mut asked = Vec::new();
        for group in led {
            let cursor = cursors.remove(&group.id()).unwrap_or_default();
            asked.push(async move { (group.id(), step(&group, cursor, bytes_max).await) });
        }
        cursors.extend(join_all(asked).await);
    }
}

/// Tells the hash of the last part, and asks for the next one.
async fn step(group: &GroupHandle, mut cursor: Cursor, bytes_max: u64) -> Cursor {
    let is_quiet = group.applied_index() == cursor.seen;
    if is_quiet && cursor.untold.is_none() {
        return cursor;
    }
    let (Some(term), Some(first)) = (group.term(), group.slots().first().map(|(first, _)| *first)) else {
        return cursor;
    };
    let untold = cursor.untold.take();
    let mut check = CheckHash::default();
    if let Some(hashed) = &untold {
        check.index = hashed.index;
        check.hash = hashed.part.hash.to_vec().into();
    }
    if !is_quiet {
        let from = cursor.next.take().unwrap_or_else(|| Place::start_of(first));
        check.slot = from.slot.0.into();
        check.table = from.table as u32;
        check.from = from.key.clone().into();
        check.bytes_max = bytes_max;
        let slots = group.slots();
        let holds = slots.iter().find(|(first, last)| (first.0..=last.0).contains(&from.slot.0));
        check.last_slot = holds.map_or(from.slot.0, |(_, last)| last.0).into();
    }
    let asked = check.bytes_max > 0;
    let command = Command { kind: Some(Kind::CheckHash(check)), ..Command::default() };
    match tokio::time::timeout(PROPOSE_WITHIN, group.propose(term, command)).await {
        Ok(Ok(_)) if asked => {
            cursor.untold = group.parts().newest();
            cursor.next = cursor.untold.as_ref().and_then(|hashed| following(group, hashed));
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(group = %group.id(), %error, "replicas were not compared"),
        Err(_) => tracing::debug!(group = %group.id(), "replicas were not compared in time"),
    }
    cursor.seen = group.applied_index();
    cursor
}

/// Where to go on behind a part: in its slots, in the group's next range of slots, or (none) from the front.
fn following(group: &GroupHandle, hashed: &Hashed) -> Option<Place> {
    if let Some(next) = &hashed.part.next {
        return Some(next.clone());
    }
    let behind = group.slots().into_iter().find(|(first, _)| first.0 > hashed.from.slot.0);
    behind.map(|(first, _)| Place::start_of(first))
}
