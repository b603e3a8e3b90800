//! The model's changes as bytes, appended to a file outside the watched folder: what survives the end of the process by `kill -9`.
//!
//! ```text
//! length u32, kind u8, fields …      (little-endian; byte strings with a u32 length before them)
//! ```
//!
//! Never: taken for whole where its last record is torn; that one is dropped, and stood for a change that had not been confirmed.
//! Called by [`crate::registry`] and [`crate::preload`].

use crate::model::{Change, Entry, Event, Model, Undo};

pub fn encode(event: &Event) -> Vec<u8> {
    let mut out = vec![0; 4];
    match event {
        Event::Known { inode, durable } => numbers(&mut out, 1, &[*inode, *durable]),
        Event::Undo { inode, undo } => {
            numbers(&mut out, 2, &[*inode, undo.ticket, undo.at]);
            bytes(&mut out, &undo.bytes);
        }
        Event::Synced { inode, durable, upto } => numbers(&mut out, 3, &[*inode, *durable, *upto]),
        Event::Frozen { inode } => numbers(&mut out, 4, &[*inode]),
        Event::DirectorySynced { directory, upto } => {
            numbers(&mut out, 5, &[*upto]);
            bytes(&mut out, directory);
        }
        Event::Entry { directory, change } => {
            let ticket = change.ticket;
            // Graves are numbered by tickets, which begin at 1.
            match &change.what {
                Entry::Made { inode, .. } => numbers(&mut out, 6, &[ticket, *inode]),
                Entry::MadeDirectory { .. } => numbers(&mut out, 7, &[ticket]),
                Entry::Gone { kept, .. } => numbers(&mut out, 8, &[ticket, kept.unwrap_or(0)]),
                Entry::GoneDirectory { .. } => numbers(&mut out, 9, &[ticket]),
                Entry::Moved { inode, replaced, .. } => numbers(&mut out, 10, &[ticket, *inode, replaced.unwrap_or(0)]),
            }
            bytes(&mut out, directory);
            match &change.what {
                Entry::Made { name, .. }
                | Entry::MadeDirectory { name }
                | Entry::Gone { name, .. }
                | Entry::GoneDirectory { name } => bytes(&mut out, name),
                Entry::Moved { from, to, .. } => {
                    bytes(&mut out, from);
                    bytes(&mut out, to);
                }
            }
        }
    }
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_le_bytes());
    out
}

/// The model that a journal leads to.
pub fn replay(mut bytes: &[u8]) -> Model {
    let mut model = Model::default();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>()
        && let Some((record, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)
        && let Some(event) = decode(record)
    {
        model.apply(event);
        bytes = rest;
    }
    model
}

fn decode(record: &[u8]) -> Option<Event> {
    let (kind, mut rest) = record.split_first()?;
    let mut number = || take_number(&mut rest);
    let grave = |number: u64| (number > 0).then_some(number);
    Some(match kind {
        1 => Event::Known { inode: number()?, durable: number()? },
        2 => {
            let (inode, ticket, at) = (number()?, number()?, number()?);
            Event::Undo { inode, undo: Undo { ticket, at, bytes: take_bytes(&mut rest)? } }
        }
        3 => Event::Synced { inode: number()?, durable: number()?, upto: number()? },
        4 => Event::Frozen { inode: number()? },
        5 => {
            let upto = number()?;
            Event::DirectorySynced { directory: take_bytes(&mut rest)?, upto }
        }
        6..=10 => {
            let ticket = number()?;
            let first = if matches!(kind, 6 | 8 | 10) { number()? } else { 0 };
            let second = if *kind == 10 { number()? } else { 0 };
            let directory = take_bytes(&mut rest)?;
            let name = take_bytes(&mut rest)?;
            let what = match kind {
                6 => Entry::Made { name, inode: first },
                7 => Entry::MadeDirectory { name },
                8 => Entry::Gone { name, kept: grave(first) },
                9 => Entry::GoneDirectory { name },
                _ => Entry::Moved { from: name, to: take_bytes(&mut rest)?, inode: first, replaced: grave(second) },
            };
            Event::Entry { directory, change: Change { ticket, what } }
        }
        _ => return None,
    })
}

fn numbers(out: &mut Vec<u8>, kind: u8, numbers: &[u64]) {
    out.push(kind);
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (number, behind) = rest.split_first_chunk::<8>()?;
    *rest = behind;
    Some(u64::from_le_bytes(*number))
}

fn take_bytes(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    let (bytes, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = behind;
    Some(bytes.to_vec())
}

#[cfg(test)]
mod tests;
