//! A group's state on its way to a follower that lags, as a stream of chunks.
//!
//! ```text
//! chunk   crc32c u32 (little-endian, over the rest), kind u8, body
//! head    'h': SnapshotHead            first, once
//! rows    's' (state) or 'y' (history): key length u32, key, value length u32, value …    (little-endian lengths)
//! end     'e': SnapshotEnd             last, once: a stream without it is not a snapshot
//! ```
//!
//! Keys travel as slot and table and engine key, without the sender's generation: the receiver writes them under a new one of its own.
//!
//! [`Snapshot`] sends, [`SnapshotReceiver`] writes files beside the live state, `install` makes them the live state. Called by `replica`.

mod install;
mod receive;
mod send;

use bytes::Bytes;

pub(crate) use receive::clear_staging;
pub use receive::{ReceivedSnapshot, SnapshotReceiver};
pub use send::Snapshot;
pub(crate) use send::open;

use crate::db::{HISTORY, STATE};

pub(crate) use install::remove_orphans;

/// Raised when the form of the stream changes.
const FORMAT: u32 = 1;
/// Rows gathered into one chunk, unless a single row is larger.
const CHUNK_BYTES: usize = 1024 * 1024;

const HEAD: u8 = b'h';
const STATE_ROWS: u8 = b's';
const HISTORY_ROWS: u8 = b'y';
const END: u8 = b'e';

const FAMILIES: [(u8, &str); 2] = [(STATE_ROWS, STATE), (HISTORY_ROWS, HISTORY)];

/// A chunk as it is sent.
fn seal(kind: u8, body: &[u8]) -> Bytes {
    let mut chunk = Vec::with_capacity(5 + body.len());
    chunk.extend_from_slice(&[0; 4]);
    chunk.push(kind);
    chunk.extend_from_slice(body);
    let sum = crc32c::crc32c(&chunk[4..]);
    chunk[..4].copy_from_slice(&sum.to_le_bytes());
    chunk.into()
}

/// Kind and body of a chunk as it came.
fn unseal(chunk: &[u8]) -> Result<(u8, &[u8]), String> {
    let Some((sum, rest)) = chunk.split_first_chunk::<4>() else {
        return Err(format!("a snapshot's chunk has {} bytes, too few for its checksum", chunk.len()));
    };
    let (stored, actual) = (u32::from_le_bytes(*sum), crc32c::crc32c(rest));
    if stored != actual {
        return Err(format!("a snapshot's chunk has checksum {actual:08x}, but was sent with {stored:08x}"));
    }
    rest.split_first().map(|(kind, body)| (*kind, body)).ok_or_else(|| "a snapshot's chunk is empty".into())
}

fn push_field(out: &mut Vec<u8>, field: &[u8]) {
    out.extend_from_slice(&(field.len() as u32).to_le_bytes());
    out.extend_from_slice(field);
}

/// Takes one length-prefixed field off the front of `body`.
fn take_field<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = body.split_first_chunk::<4>()?;
    let (field, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *body = rest;
    Some(field)
}
