//! What one group's log keeps on disk, in stretches of about a megabyte or ten seconds, so that it can be purged by bytes and by age:
//! a follower that was away for a second must find what it missed, and a log must not grow for ever.
//!
//! Closed stretches are rows of `meta`, so that opening a log reads only what lies behind the last of them. Sizes are estimates where
//! a stretch was cut by a truncation.
//!
//! Owned by [`super::GroupLog`], under its lock.

use std::collections::VecDeque;

use stanchion_proto::row::KeptRow;

/// A stretch is closed when it has its bytes, or this age.
const STRETCH_SECONDS: i64 = 10;

/// Entries `first..=last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stretch {
    first: u64,
    last: u64,
    bytes: u64,
    /// When it was opened, or, once closed, when it was closed.
    unix_seconds: i64,
}

pub(super) struct Keeper {
    /// A stretch that has so many is closed.
    stretch_bytes: u64,
    /// Contiguous, oldest first.
    closed: VecDeque<Stretch>,
    open: Option<Stretch>,
}

impl Keeper {
    pub fn new(stretch_bytes: u64) -> Self {
        Self { stretch_bytes, closed: VecDeque::new(), open: None }
    }

    /// Bytes of all entries kept.
    pub fn bytes(&self) -> u64 {
        self.closed.iter().chain(&self.open).map(|stretch| stretch.bytes).sum()
    }

    /// A closed stretch as found on disk, `first` being the first entry of it that is still there.
    pub fn restore(&mut self, first: u64, last: u64, row: &KeptRow) {
        self.closed.push_back(Stretch { first, last, bytes: row.bytes, unix_seconds: row.closed_unix_seconds });
    }

    /// Last entry of the closed stretches.
    pub fn closed_last(&self) -> Option<u64> {
        self.closed.back().map(|stretch| stretch.last)
    }

    /// Counts an entry appended. If that closes a stretch, its row: the index of its last entry, and the rest.
    pub fn append(&mut self, index: u64, bytes: u64, now: i64) -> Option<(u64, KeptRow)> {
        let fresh = Stretch { first: index, last: index, bytes: 0, unix_seconds: now };
        let open = self.open.get_or_insert(fresh);
        open.last = index;
        open.bytes += bytes;
        if open.bytes < self.stretch_bytes && now - open.unix_seconds < STRETCH_SECONDS {
            return None;
        }
        let stretch = Stretch { unix_seconds: now, ..*open };
        self.open = None;
        self.closed.push_back(stretch);
        Some((index, KeptRow { bytes: stretch.bytes, closed_unix_seconds: now }))
    }

    /// Counts an entry found behind the closed stretches when the log is opened. Its age starts now.
    pub fn reopen(&mut self, index: u64, bytes: u64, now: i64) {
        let open = self.open.get_or_insert(Stretch { first: index, last: index, bytes: 0, unix_seconds: now });
        open.last = index;
        open.bytes += bytes;
    }

    /// Forgets entries above `last`. A stretch that is cut is open again.
    pub fn truncate_after(&mut self, last: Option<u64>) {
        let Some(last) = last else {
            *self = Self::new(self.stretch_bytes);
            return;
        };
        if let Some(open) = self.open.take() {
            self.open = cut(open, open.first, last);
        }
        while let Some(back) = self.closed.back().copied()
            && back.last > last
        {
            self.closed.pop_back();
            self.open = cut(back, back.first, last);
        }
    }

    /// Forgets entries up to `upto`.
    pub fn purge(&mut self, upto: u64) {
        while let Some(front) = self.closed.front().copied()
            && front.first <= upto
        {
            self.closed.pop_front();
            if let Some(rest) = cut(front, upto + 1, front.last) {
                self.closed.push_front(rest);
                break;
            }
        }
        if let Some(open) = self.open.filter(|open| open.first <= upto) {
            self.open = cut(open, upto + 1, open.last);
        }
    }

    /// The last entry that may go so that at most `bytes_max` stay and nothing older than `seconds_max`; only whole closed stretches,
    /// and none with an entry above `flushed`.
    pub fn candidate(&self, bytes_max: u64, seconds_max: u64, flushed: u64, now: i64) -> Option<u64> {
        let oldest = now.saturating_sub_unsigned(seconds_max);
        let mut kept = self.bytes();
        let mut candidate = None;
        for stretch in &self.closed {
            if stretch.last > flushed || (kept <= bytes_max && stretch.unix_seconds >= oldest) {
                break;
            }
            kept -= stretch.bytes;
            candidate = Some(stretch.last);
        }
        candidate
    }
}

/// The part of a stretch from `first` to `last`, with its share of the bytes.
fn cut(stretch: Stretch, first: u64, last: u64) -> Option<Stretch> {
    let (first, last) = (first.max(stretch.first), last.min(stretch.last));
    if first > last {
        return None;
    }
    let (kept, all) = (last - first + 1, stretch.last - stretch.first + 1);
    let bytes = (u128::from(stretch.bytes) * u128::from(kept) / u128::from(all)) as u64;
    Some(Stretch { first, last, bytes, ..stretch })
}

#[cfg(test)]
mod tests;
