//! Makes programs from seeds. A seed and a size give the same program on every machine, and a smaller size a smaller program.
//!
//! Called by clients that start programs, and by judges that must know what was started.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Activity, Attempt, Child, Ends, OnCancel, Op, ParentCloses, Program};

/// The only source of choices.
pub type Dice = ChaCha8Rng;

/// Dice of one task: the same for the same seed and name, and unlike those of any other name.
pub fn named(seed: u64, name: &str) -> Dice {
    let mut key = [0; 32];
    for (part, chunk) in key.chunks_mut(8).enumerate() {
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let begin = 0xcbf2_9ce4_8422_2325 ^ seed.rotate_left(part as u32 * 16) ^ part as u64;
        chunk.copy_from_slice(&name.as_bytes().iter().fold(begin, fold).to_le_bytes());
    }
    Dice::from_seed(key)
}

/// A program of about `size` ops.
pub fn generate(seed: u64, index: u64, size: u32) -> Program {
    let mut dice = named(seed, &format!("program {index}"));
    let mut budget = dice.random_range(1..=size.max(1));
    let mut maker = Maker { dice: &mut dice, signals: 0, signals_max: 6, depth: 0 };
    maker.program(&mut budget)
}

struct Maker<'a> {
    dice: &'a mut Dice,
    /// Signals that the workflow waited for so far.
    signals: u32,
    signals_max: u32,
    /// How many parents the workflow has.
    depth: u32,
}

impl Maker<'_> {
    fn program(&mut self, budget: &mut u32) -> Program {
        let mut body = Vec::new();
        while *budget > 0 {
            body.push(self.op(budget, 0));
            if *budget > 1 && self.dice.random_ratio(1, 12) {
                *budget -= 1;
                let rest = self.program(budget);
                let on_cancel = self.on_cancel();
                return Program { body, ends: Ends::ContinuesAsNew(Box::new(rest)), on_cancel };
            }
        }
        let ends = if self.dice.random_ratio(1, 6) { Ends::Fails } else { Ends::Completes };
        Program { body, ends, on_cancel: self.on_cancel() }
    }

    fn on_cancel(&mut self) -> OnCancel {
        let choices = [OnCancel::Ignores, OnCancel::Closes, OnCancel::CleansUp, OnCancel::CleansUp];
        *choices.choose(self.dice).unwrap_or(&OnCancel::Closes)
    }

    fn op(&mut self, budget: &mut u32, nested: u32) -> Op {
        *budget -= 1;
        match self.dice.random_range(0..100) {
            0..40 => Op::Activity(self.activity()),
            40..54 => Op::Timer { ms: self.dice.random_range(1..400) },
            54..66 if self.signals < self.signals_max => {
                self.signals = (self.signals + self.dice.random_range(1..=2)).min(self.signals_max);
                Op::Signals { at_least: self.signals }
            }
            66..70 => Op::Marker,
            70..73 => Op::Memo,
            73..88 if self.depth < 2 && *budget > 0 => Op::Child(Box::new(self.child(budget))),
            88.. if nested < 2 && *budget > 1 => self.parallel(budget, nested),
            _ => Op::Activity(self.plain()),
        }
    }

    fn parallel(&mut self, budget: &mut u32, nested: u32) -> Op {
        let mut branches = Vec::new();
        for _ in 0..self.dice.random_range(2..=4) {
            let mut branch = Vec::new();
            for _ in 0..self.dice.random_range(1..=2) {
                if *budget > 0 {
                    branch.push(self.op(budget, nested + 1));
                }
            }
            if !branch.is_empty() {
                branches.push(branch);
            }
        }
        Op::Parallel(branches)
    }

    fn child(&mut self, budget: &mut u32) -> Child {
        let mut share = self.dice.random_range(1..=*budget);
        *budget -= share;
        let signals = self.dice.random_range(0..=2);
        let program = Maker { signals: 0, signals_max: signals, depth: self.depth + 1, dice: &mut *self.dice }
            .program(&mut share);
        let policies = [ParentCloses::Terminate, ParentCloses::Abandon, ParentCloses::RequestCancel];
        Child {
            program,
            parent_closes: *policies.choose(self.dice).unwrap_or(&ParentCloses::Abandon),
            signals,
            cancels: self.dice.random_ratio(1, 5),
            waits: self.dice.random_ratio(2, 3),
        }
    }

    fn plain(&mut self) -> Activity {
        Activity {
            backoff_ms: self.dice.random_range(50..300),
            start_to_close_ms: self.dice.random_range(1_000..=3_000),
            eager: self.dice.random_ratio(1, 4),
            ..Activity::default()
        }
    }

    fn activity(&mut self) -> Activity {
        let mut activity = self.plain();
        match self.dice.random_range(0..100) {
            0..36 => {}
            36..45 => {
                // The attempt after the one that hangs is at work while that one is still heard.
                activity.hangs = 1;
                activity.late_beats = 6;
                activity.beats = 3;
                activity.beat_every_ms = 80;
                activity.start_to_close_ms = self.dice.random_range(1_000..1_400);
            }
            45..58 => activity.fails = self.dice.random_range(1..=2),
            58..66 => activity.ends = Attempt::FailsForGood,
            66..73 => {
                activity.max_attempts = self.dice.random_range(1..=3);
                activity.fails = self.dice.random_range(0..=3);
            }
            73..79 => {
                activity.hangs = 1;
                activity.start_to_close_ms = self.dice.random_range(600..1_200);
                activity.max_attempts = self.dice.random_range(0..=2);
            }
            79..86 => {
                activity.beats = self.dice.random_range(1..=4);
                activity.beat_every_ms = self.dice.random_range(5..60);
                activity.heartbeat_ms = 1_000;
                activity.hangs = self.dice.random_range(0..=1);
                activity.fails = self.dice.random_range(0..=1);
            }
            86..91 => {
                activity.schedule_to_close_ms = self.dice.random_range(1_000..2_000);
                activity.hangs = self.dice.random_range(0..=2);
                activity.start_to_close_ms = 700;
            }
            _ => {
                activity.cancel_after_ms = self.dice.random_range(20..400);
                activity.beats = self.dice.random_range(1..=30);
                activity.beat_every_ms = 40;
                activity.heartbeat_ms = 1_500;
                activity.fails = self.dice.random_range(0..=1);
            }
        }
        activity
    }
}
