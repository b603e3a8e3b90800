//! Planted bugs: what the simulator and the fault tests must find to be believed. Each stands in the code as `mutant!(Name)` where a
//! real one of its kind would, small, at the layer whose promise it breaks; `docs/verification.md` says what found it.
//!
//! Without the cargo feature `mutants`, which nothing that is shipped has, the question is a constant `false` and no code of them is
//! left. With it, one bug can be chosen once, before the node starts: by the binary and the simulator from `STANCHION_MUTANT`.
//!
//! Never: read from the environment here; two at a time.

/// A bug that can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mutant {
    /// Signals and results of activities are acknowledged when their commit takes long, not when it is done.
    AckBeforeCommit = 1,
    /// The token of an earlier attempt of an activity is as good as the newest one's.
    SkipFence,
    /// A timer that has fired stays, with its row in the queue: the next leader fires it again.
    FireTimerTwice,
    /// A workflow task that fails takes the signals with it that came while it ran.
    LoseBufferedSignal,
    /// A result that comes while a workflow task is with a worker leaves the activity pending: it times out and goes out again.
    RedeliverCompletedActivity,
    /// A leader answers reads without asking a majority, under a lease that a follower forgets when it restarts.
    StaleReadAfterRestart,
    /// A checkpoint says that it flushed the state, and did not: the log is purged past what is safe.
    PurgePastFlushed,
    /// Votes are not written down.
    ForgetVote,
    /// A message to another group that is not known to have arrived after half a second is taken to have.
    DropOutboxMessage,
    /// A start that terminates the open run of its workflow id does not terminate it.
    TwoRunsOneId,
    /// The log is written and never synced.
    NoFsync,
}

impl Mutant {
    pub const ALL: [Self; 11] = [
        Self::AckBeforeCommit,
        Self::SkipFence,
        Self::FireTimerTwice,
        Self::LoseBufferedSignal,
        Self::RedeliverCompletedActivity,
        Self::StaleReadAfterRestart,
        Self::PurgePastFlushed,
        Self::ForgetVote,
        Self::DropOutboxMessage,
        Self::TwoRunsOneId,
        Self::NoFsync,
    ];

    /// As `STANCHION_MUTANT` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack-before-commit",
            Self::SkipFence => "skip-fence",
            Self::FireTimerTwice => "fire-timer-twice",
            Self::LoseBufferedSignal => "lose-buffered-signal",
            Self::RedeliverCompletedActivity => "redeliver-completed-activity",
            Self::StaleReadAfterRestart => "stale-read-after-restart",
            Self::PurgePastFlushed => "purge-past-flushed",
            Self::ForgetVote => "forget-vote",
            Self::DropOutboxMessage => "drop-outbox-message",
            Self::TwoRunsOneId => "two-runs-one-id",
            Self::NoFsync => "no-fsync",
        }
    }
}

/// Whether the planted bug `$name` is to show itself.
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::is_planted($crate::mutants::Mutant::$name)
    };
}

#[cfg(not(feature = "mutants"))]
mod planted {
    use super::Mutant;

    #[inline(always)]
    pub const fn is_planted(_: Mutant) -> bool {
        false
    }

    /// Plants the bug of this name for the rest of the process.
    ///
    /// # Errors
    /// Always: there are none in this build.
    pub fn plant(name: &str) -> Result<(), String> {
        Err(format!("`{name}` cannot be planted: this binary was built without the feature `mutants`"))
    }
}

#[cfg(feature = "mutants")]
mod planted {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    /// The number of the one that is planted; 0 for none.
    static PLANTED: AtomicU8 = AtomicU8::new(0);

    #[inline]
    pub fn is_planted(mutant: Mutant) -> bool {
        PLANTED.load(Ordering::Relaxed) == mutant as u8
    }

    /// Plants the bug of this name for the rest of the process.
    ///
    /// # Errors
    /// There is none of this name, or another one is planted already.
    pub fn plant(name: &str) -> Result<(), String> {
        let Some(mutant) = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name) else {
            let names = Mutant::ALL.map(Mutant::name).join(", ");
            return Err(format!("there is no planted bug `{name}`; there are {names}"));
        };
        let before = PLANTED.compare_exchange(0, mutant as u8, Ordering::Relaxed, Ordering::Relaxed);
        match before {
            Err(other) if other != mutant as u8 => Err(format!("`{name}` cannot be planted beside another one")),
            _ => Ok(()),
        }
    }
}

pub use planted::{is_planted, plant};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_its_own() {
        let names: std::collections::BTreeSet<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn an_ordinary_build_plants_nothing() {
        for mutant in Mutant::ALL {
            assert!(plant(mutant.name()).is_err());
            assert!(!is_planted(mutant));
        }
    }
}
