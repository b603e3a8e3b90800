//! A naive model of activity attempts, kept from what workers see alone: who was handed what, and which answers were accepted.
//!
//! It knows nothing of timers or rows; it says which of the engine's decisions break D1 to D5 of the list of invariants.

use std::collections::BTreeMap;

use stanchion_engine::time::{SECOND, nanos};
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

use crate::scenario::{ActivityTask, World, token_of};

pub enum Answer {
    /// Completed, canceled, or failed beyond retry.
    Final,
    /// Failed in a way that the policy may retry.
    Failed,
}

#[derive(Default)]
pub struct Model {
    /// By run and scheduled event.
    activities: BTreeMap<(String, i64), Activity>,
    /// Every task handed out, current or not: workers that answer late are part of the game.
    tasks: Vec<ActivityTask>,
}

#[derive(Default)]
struct Activity {
    attempt: i32,
    /// The attempt that a worker has, as far as workers know.
    live: Option<Live>,
    /// When an answer that allows a retry was accepted.
    failed_at: Option<i64>,
    /// An answer was accepted after which there must be no other attempt.
    ended: bool,
    details: Option<String>,
}

struct Live {
    started_at: i64,
    beat_at: i64,
    start_to_close: i64,
    schedule_to_close_at: Option<i64>,
    heartbeat: i64,
}

impl Live {
    /// From then on another attempt may begin although this one has not answered.
    fn deadline(&self) -> i64 {
        let mut at = self.started_at + self.start_to_close;
        if self.heartbeat > 0 {
            at = at.min(self.beat_at + self.heartbeat);
        }
        at.min(self.schedule_to_close_at.unwrap_or(i64::MAX))
    }
}

impl Model {
    /// One of the last tasks handed out.
    pub fn task(&self, which: usize) -> Option<ActivityTask> {
        self.tasks.len().checked_sub(which + 1).map(|place| self.tasks[place].clone())
    }

    pub fn handed_out(&mut self, now: i64, task: &ActivityTask) {
        let token = token_of(task);
        let activity = self.activities.entry((token.run_id, token.scheduled_event_id)).or_default();
        assert!(!activity.ended, "D1: {} was handed out after its end", task.activity_id);
        assert_eq!(activity.attempt + 1, task.attempt, "D2: attempts count by one");
        let policy = task.retry_policy.clone().unwrap_or_default();
        assert!(policy.maximum_attempts == 0 || task.attempt <= policy.maximum_attempts, "D2: the maximum");
        if let Some(live) = &activity.live {
            assert!(live.deadline() <= now, "D3: attempt {} is still alive", activity.attempt);
        }
        let details = task.heartbeat_details.iter().flat_map(|p| &p.payloads);
        let details = details.map(|p| String::from_utf8(p.data.to_vec()).unwrap()).next();
        assert_eq!(details, activity.details, "D5: the last acknowledged heartbeat");
        let earliest = activity.failed_at.map(|at| at + backoff(&policy, activity.attempt));
        assert!(earliest.is_none_or(|at| at <= now), "D2: the back-off is cut short");
        let schedule_to_close = nanos(task.schedule_to_close_timeout.as_ref());
        let scheduled_at = task.scheduled_time.unwrap();
        let scheduled_at = scheduled_at.seconds * SECOND + i64::from(scheduled_at.nanos);
        activity.attempt = task.attempt;
        activity.failed_at = None;
        activity.live = Some(Live {
            started_at: now,
            beat_at: now,
            start_to_close: nanos(task.start_to_close_timeout.as_ref()),
            schedule_to_close_at: (schedule_to_close > 0).then(|| scheduled_at + schedule_to_close),
            heartbeat: nanos(task.heartbeat_timeout.as_ref()),
        });
        self.tasks.push(task.clone());
    }

    pub fn answered(&mut self, now: i64, task: &ActivityTask, accepted: bool, answer: Answer) {
        let token = token_of(task);
        let Some(activity) = self.activities.get_mut(&(token.run_id, token.scheduled_event_id)) else { return };
        if !accepted {
            return;
        }
        assert_eq!(activity.attempt, task.attempt, "D4: a superseded attempt was heard");
        assert!(activity.live.is_some() && !activity.ended, "D4: an attempt was heard twice");
        activity.live = None;
        match answer {
            Answer::Final => activity.ended = true,
            Answer::Failed => activity.failed_at = Some(now),
        }
    }

    pub fn beat(&mut self, now: i64, task: &ActivityTask, accepted: bool, details: &str) {
        let token = token_of(task);
        let Some(activity) = self.activities.get_mut(&(token.run_id, token.scheduled_event_id)) else { return };
        if !accepted {
            return;
        }
        assert_eq!(activity.attempt, task.attempt, "D4: a superseded attempt was heard");
        let live = activity.live.as_mut().expect("D4: an attempt was heard after its end");
        live.beat_at = now;
        activity.details = Some(details.to_owned());
    }

    /// Somebody named the activity by its id.
    pub fn completed_by_id(&mut self, events: &[HistoryEvent], activity_id: &str) {
        let run_of = |activity: &(String, i64)| activity.0.clone();
        let scheduled = events.iter().rev().find_map(|event| match &event.attributes {
            Some(Attributes::ActivityTaskScheduledEventAttributes(a)) if a.activity_id == activity_id => {
                Some(event.event_id)
            }
            _ => None,
        });
        let newest = self.activities.keys().filter(|key| Some(key.1) == scheduled).map(run_of).next_back();
        if let (Some(run), Some(scheduled)) = (newest, scheduled)
            && let Some(activity) = self.activities.get_mut(&(run, scheduled))
        {
            activity.live = None;
        }
    }

    /// A result in a history is the end of its activity: nothing of it may be handed out any more.
    pub fn check(&mut self, w: &World) {
        for (run_id, event) in w.all_events() {
            use Attributes::*;
            let scheduled = match event.attributes.as_ref().unwrap() {
                ActivityTaskCompletedEventAttributes(a) => a.scheduled_event_id,
                ActivityTaskFailedEventAttributes(a) => a.scheduled_event_id,
                ActivityTaskTimedOutEventAttributes(a) => a.scheduled_event_id,
                ActivityTaskCanceledEventAttributes(a) => a.scheduled_event_id,
                _ => continue,
            };
            if let Some(activity) = self.activities.get_mut(&(run_id, scheduled)) {
                activity.ended = true;
            }
        }
    }
}

/// The policy's back-off after that attempt, by plain arithmetic.
fn backoff(policy: &stanchion_proto::temporal::common::v1::RetryPolicy, attempt: i32) -> i64 {
    let initial = nanos(policy.initial_interval.as_ref());
    let maximum = nanos(policy.maximum_interval.as_ref());
    (1..attempt).fold(initial, |interval, _| interval * 2).min(maximum)
}
