//! Schedules whose time has come: looks for their matching times and has the engine act on them.
//!
//! A schedule's row in the timer queue says when to look. It stays there until a tick has replaced it, so whoever leads next looks again;
//! a tick that is proposed twice finds the schedule changed by the first and does nothing.
//!
//! Never: a decision about what a matching time leads to (the engine's).
//!
//! Called by the term's clock; [`LeaderTerm::settle_schedule`] by handlers that are about to change a schedule.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stanchion_engine::effects::TimerKey;
use stanchion_engine::schedule::{self, due};
use stanchion_engine::{Reply, timer_queue};
use stanchion_proto::command::{Command, command::Kind};
use stanchion_replica::off_thread;

use super::CallError;
use super::term::LeaderTerm;

/// Schedules looked at side by side.
pub const LOOKED_AT_MAX: usize = 32;
/// Waits after a look that failed.
const AGAIN_MIN: Duration = Duration::from_millis(20);
const AGAIN_MAX: Duration = Duration::from_secs(10);
/// How long a description waits for runs that are being started, and how often it looks.
const STARTS_WITHIN: Duration = Duration::from_secs(1);
const STARTS_LOOK_MIN: Duration = Duration::from_millis(1);
const STARTS_LOOK_MAX: Duration = Duration::from_millis(20);

impl LeaderTerm {
    /// Takes the rows that call for a look at a schedule out of those that are due, and looks.
    pub(super) fn look_at_schedules(self: &Arc<Self>, timers: &mut Vec<TimerKey>) {
        timers.retain(|timer| match timer_queue::schedule_to_wake(&timer.key) {
            None => true,
            Some((namespace_id, schedule_id)) => {
                let term = self.clone();
                tokio::spawn(async move { term.look_until_done(namespace_id, schedule_id).await });
                false
            }
        });
    }

    async fn look_until_done(self: Arc<Self>, namespace_id: String, schedule_id: String) {
        let mut pause = AGAIN_MIN;
        loop {
            let looked = tokio::select! {
                () = self.over.cancelled() => return,
                looked = self.look_at_schedule(&namespace_id, &schedule_id) => looked,
            };
            let Err(error) = looked else { return };
            tracing::debug!(group = %self.group(), %schedule_id, %error, "a schedule stays due");
            tokio::select! {
                () = self.over.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    /// What is due of a schedule is acted on before somebody changes it.
    pub async fn settle_schedule(&self, namespace_id: &str, schedule_id: &str) -> Result<(), CallError> {
        self.handle.read_index().await?;
        self.look_at_schedule(namespace_id, schedule_id).await
    }

    /// As [`LeaderTerm::settle_schedule`], and the runs that it starts have started or were refused: a description shows them. Gives up
    /// waiting after a while, because they may live in a group that has no leader at the moment.
    pub async fn await_schedule_starts(&self, namespace_id: &str, schedule_id: &str) -> Result<(), CallError> {
        self.settle_schedule(namespace_id, schedule_id).await?;
        let until = Instant::now() + STARTS_WITHIN;
        let mut pause = STARTS_LOOK_MIN;
        while schedule::read(&self.handle.reader(), namespace_id, schedule_id)?
            .is_some_and(|row| !row.starting.is_empty())
            && Instant::now() < until
        {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(STARTS_LOOK_MAX);
        }
        Ok(())
    }

    /// Acts on the schedule if it is due; looks again as long as it changes meanwhile.
    async fn look_at_schedule(&self, namespace_id: &str, schedule_id: &str) -> Result<(), CallError> {
        let Ok(_place) = self.schedules_looked_at.acquire().await else { return Ok(()) };
        loop {
            let reader = self.handle.reader();
            let (namespace, id) = (namespace_id.to_owned(), schedule_id.to_owned());
            // The time that the tick will be held against: the wall clock may be ahead of it.
            let now = self.handle.now();
            let look = off_thread(move || {
                let Some(row) = schedule::read(&reader, &namespace, &id)? else { return Ok(None) };
                if row.deleted || row.wake_at == 0 || row.wake_at > now.0 {
                    return Ok(None);
                }
                due::look(&row, &namespace, &id, now).map(Some).map_err(CallError::Fatal)
            });
            let look = look.await.map_err(|error| CallError::Fatal(error.to_string()))?;
            let Some(tick) = look? else { return Ok(()) };
            let command = Command {
                namespace_id: namespace_id.to_owned(),
                kind: Some(Kind::TickSchedule(tick)),
                ..Default::default()
            };
            match self.propose(command).await? {
                // The schedule was changed since it was read: look again.
                Reply::Stale => tokio::task::yield_now().await,
                _ => return Ok(()),
            }
        }
    }
}
