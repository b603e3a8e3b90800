//! Keys of the tables that belong to runs. Part of the format on disk.
//!
//! Names in a key carry their length in front, so that no name is a prefix of another and rows of one run stand together.

use crate::types::{EventId, RunKey, Slot};

/// First byte of keys of [`crate::Table::Outbox`].
const OUTBOX_MESSAGE: u8 = 0;
const OUTBOX_TAIL: u8 = 1;

/// Which part of a run a row of [`crate::Table::Run`] holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RunPart {
    State = 0,
    Detail = 1,
    Buffered = 2,
}

/// Which of a run's updates a row of [`crate::Table::Update`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum UpdatePart {
    InFlight = 0,
    Completed = 1,
}

/// Key of [`crate::Table::Update`]; with an empty id, what the keys of all updates of that part begin with.
pub fn update(run: &RunKey, part: UpdatePart, update_id: &str) -> Vec<u8> {
    let mut key = run_with(run, 1 + update_id.len());
    key.push(part as u8);
    key.extend_from_slice(update_id.as_bytes());
    key
}

/// Key of [`crate::Table::Current`].
pub fn current(namespace_id: &str, workflow_id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(namespace_id.len() + workflow_id.len() + 4);
    push_name(&mut key, namespace_id);
    push_name(&mut key, workflow_id);
    key
}

/// Which part of a standalone activity a row of [`crate::Table::StandaloneActivity`] holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum StandalonePart {
    State = 0,
    Detail = 1,
    Outcome = 2,
}

/// Key of the row that the policies of standalone activities look at. A run's key has three names, so neither begins another.
pub fn standalone_current(namespace_id: &str, activity_id: &str) -> Vec<u8> {
    let mut key = vec![0];
    push_name(&mut key, namespace_id);
    push_name(&mut key, activity_id);
    key
}

/// Key of a part of a standalone activity's run.
pub fn standalone_part(run: &RunKey, part: StandalonePart) -> Vec<u8> {
    let mut key = vec![1];
    key.extend_from_slice(&run_with(run, 1));
    key.push(part as u8);
    key
}

/// Which part of a batch operation a row of [`crate::Table::Batch`] holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum BatchPart {
    State = 0,
    Request = 1,
    /// There only while the job runs, which is how a new leader finds the jobs that it must go on with.
    Page = 2,
}

/// Key of [`crate::Table::Batch`].
pub fn batch(part: BatchPart, namespace_id: &str, job_id: &str) -> Vec<u8> {
    [&[part as u8], current(namespace_id, job_id).as_slice()].concat()
}

/// The inverse of [`batch`]: namespace id and job id.
pub fn of_batch(key: &[u8]) -> Option<(String, String)> {
    let (namespace_id, rest) = take_name(key.get(1..)?)?;
    let (job_id, _) = take_name(rest)?;
    Some((namespace_id, job_id))
}

/// What all rows of a run begin with.
pub fn run(run: &RunKey) -> Vec<u8> {
    run_with(run, 0)
}

/// Key of [`crate::Table::Run`].
pub fn run_part(run: &RunKey, part: RunPart) -> Vec<u8> {
    let mut key = run_with(run, 1);
    key.push(part as u8);
    key
}

/// Run, then an event id: keys of [`crate::Table::Activity`], [`crate::Table::Child`], [`crate::Table::External`] and
/// [`crate::Table::History`].
pub fn run_event(run: &RunKey, event_id: EventId) -> Vec<u8> {
    let mut key = run_with(run, 8);
    key.extend_from_slice(&event_id.0.to_be_bytes());
    key
}

/// Run, then a name: keys of [`crate::Table::Timer`] and [`crate::Table::Dedup`].
pub fn run_name(run: &RunKey, name: &str) -> Vec<u8> {
    let mut key = run_with(run, name.len());
    key.extend_from_slice(name.as_bytes());
    key
}

/// Key of a message in [`crate::Table::Outbox`].
pub fn outbox(destination: Slot, sequence: u64) -> Vec<u8> {
    let mut key = vec![OUTBOX_MESSAGE];
    key.extend_from_slice(&destination.0.to_be_bytes());
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// Behind the keys of all messages of an outbox.
pub fn outbox_end() -> Vec<u8> {
    vec![OUTBOX_MESSAGE + 1]
}

/// Key of the last number used towards a slot.
pub fn outbox_tail(destination: Slot) -> Vec<u8> {
    let mut key = vec![OUTBOX_TAIL];
    key.extend_from_slice(&destination.0.to_be_bytes());
    key
}

/// The inverse of [`outbox`].
pub fn of_outbox(key: &[u8]) -> Option<(Slot, u64)> {
    let (kind, rest) = key.split_first()?;
    let (slot, sequence) = rest.split_first_chunk::<2>()?;
    let sequence: [u8; 8] = sequence.try_into().ok()?;
    (*kind == OUTBOX_MESSAGE).then(|| (Slot(u16::from_be_bytes(*slot)), u64::from_be_bytes(sequence)))
}

/// Key of [`crate::Table::StartRequest`].
pub fn start_request(namespace_id: &str, workflow_id: &str, request_id: &str) -> Vec<u8> {
    let mut key = current(namespace_id, workflow_id);
    key.extend_from_slice(request_id.as_bytes());
    key
}

/// Key of [`crate::Table::Inbox`].
pub fn inbox(source: Slot) -> Vec<u8> {
    source.0.to_be_bytes().to_vec()
}

/// The least key behind all that begin with `prefix`; empty (the end of the table) if there is none.
pub fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

fn run_with(run: &RunKey, more: usize) -> Vec<u8> {
    let names = run.namespace_id.len() + run.workflow_id.len() + run.run_id.len();
    let mut key = Vec::with_capacity(names + 6 + more);
    push_name(&mut key, &run.namespace_id);
    push_name(&mut key, &run.workflow_id);
    push_name(&mut key, &run.run_id);
    key
}

fn push_name(key: &mut Vec<u8>, name: &str) {
    // Names are bounded far below 64 KiB before they get here (`id_bytes_max`); a longer one only shares its length mark.
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
}

/// The name at the front of what is left of a key, and the rest.
pub fn take_name(key: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = key.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((String::from_utf8(name.to_vec()).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_no_prefix_of_another() {
        let key = |id: &str| RunKey { namespace_id: "n".into(), workflow_id: "w".into(), run_id: id.to_owned() };
        assert!(!run(&key("ab")).starts_with(&run(&key("a"))));
        assert_eq!(after(&[1, 255]), [2]);
        assert_eq!(after(&[255]), [0_u8; 0]);
    }
}
