//! A poll's wait: from taking a seat to its answer.
//!
//! Never: returns a task without its claim; outlives its deadline by more than [`HELD_GRACE`].

use std::sync::Arc;
use std::time::Duration;

use stanchion_proto::command::Poller;
use tokio::time::{Instant, sleep_until};

use crate::pairing::Pairing;
use crate::queue::{Answer, Expired, Queue, Sat};
use crate::{Dispatch, PollOutcome, PollerSpec, QueueKey, Refused};

/// A poller whose time is up while a command holds it waits this much longer: the command may start a task for it, which would then have to
/// time out. Shorter than the tail that long polls leave before their callers' deadlines (`long_poll_tail_ms`).
const HELD_GRACE: Duration = Duration::from_millis(250);

/// A poller's place in its queue. Dropping it gives the place up.
pub(crate) struct Seat {
    dispatch: Arc<Dispatch>,
    queue: Arc<Queue>,
    arrival: u64,
    spec: Arc<PollerSpec>,
    /// What the first attempt to sit down gave.
    sat: Option<Sat>,
}

impl Seat {
    pub fn take(dispatch: &Arc<Dispatch>, queue: &QueueKey, spec: PollerSpec) -> Result<Self, Refused> {
        let spec = Arc::new(spec);
        dispatch.directory.enter(queue, |queue, state| {
            let (arrival, sat) = state.sit(dispatch, queue, &spec, None)?;
            Ok(Self { dispatch: dispatch.clone(), queue: queue.clone(), arrival, spec: spec.clone(), sat: Some(sat) })
        })
    }

    /// Who polls, with a request id for one start.
    pub fn poller_for_start(&self) -> Poller {
        Poller { request_id: self.dispatch.next_request_id(), ..self.spec.poller.clone() }
    }

    /// Waits for an answer, at the place that the poller has had since it came.
    pub async fn wait(mut self) -> PollOutcome {
        let sat = match self.sat.take() {
            Some(sat) => sat,
            None => self.sit_again(),
        };
        let mut answered = match sat {
            Sat::Answered(answer) => return self.conclude(answer),
            Sat::Waiting(answered) => answered,
        };
        let deadline = Instant::from_std(self.spec.deadline);
        tokio::select! {
            biased;
            answer = &mut answered => return self.conclude(answer.unwrap_or(Answer::Empty)),
            () = sleep_until(deadline) => {}
        }
        let expired = self.queue.state.lock().expire(&self.dispatch, &self.queue, self.arrival);
        if let Expired::Held = expired {
            tokio::select! {
                biased;
                answer = &mut answered => return self.conclude(answer.unwrap_or(Answer::Empty)),
                () = sleep_until(deadline + HELD_GRACE) => {}
            }
            self.queue.state.lock().leave(&self.dispatch, &self.queue, self.arrival);
        }
        // No more answer can come; one may have come between the deadline and the lock.
        let answer = answered.try_recv().unwrap_or(Answer::Empty);
        self.conclude(answer)
    }

    fn sit_again(&self) -> Sat {
        let mut state = self.queue.state.lock();
        // A poller that resumes is never refused, and its queue is still there: it held a task of it, or holds it by this very call.
        match state.sit(&self.dispatch, &self.queue, &self.spec, Some(self.arrival)) {
            Ok((_, sat)) => sat,
            Err(_) => Sat::Answered(Answer::Empty),
        }
    }

    fn conclude(self, answer: Answer) -> PollOutcome {
        match answer {
            Answer::Task(claim) => Pairing::new(claim, self).map_or(PollOutcome::Empty, PollOutcome::Matched),
            Answer::Query(claim) => claim.disarm().map_or(PollOutcome::Empty, PollOutcome::Query),
            Answer::HandedOver(payload) => PollOutcome::HandedOver(payload),
            Answer::Empty => PollOutcome::Empty,
            Answer::Shutdown => PollOutcome::Shutdown,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // What was given and never looked at goes back first, outside the lock.
        self.sat = None;
        self.queue.state.lock().leave(&self.dispatch, &self.queue, self.arrival);
    }
}
