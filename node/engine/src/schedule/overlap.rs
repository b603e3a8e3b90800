//! What becomes of the actions that wait, given whether one is running: the overlap policies.

use stanchion_proto::row::BufferedStartRow;
use stanchion_proto::temporal::enums::v1::ScheduleOverlapPolicy;

/// See [`decide`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Decision {
    /// To be started beside whatever runs.
    pub overlapping: Vec<BufferedStartRow>,
    /// To be started, and looked at by later ones.
    pub next: Option<BufferedStartRow>,
    /// These go on waiting.
    pub kept: Vec<BufferedStartRow>,
    pub skipped: i64,
    /// What runs must end first.
    pub cancel: bool,
    pub terminate: bool,
}

/// Goes through the actions that wait, in order. Those without a policy of their own have the schedule's as it is now.
pub fn decide(waiting: Vec<BufferedStartRow>, is_running: bool, policy: ScheduleOverlapPolicy) -> Decision {
    use ScheduleOverlapPolicy as Policy;
    let mut decision = Decision::default();
    for start in waiting {
        let policy = match Policy::try_from(start.overlap_policy).unwrap_or_default() {
            Policy::Unspecified => policy,
            own => own,
        };
        if policy == Policy::AllowAll {
            decision.overlapping.push(start);
            continue;
        }
        // Nothing in its way: it is started whatever the policy.
        if !is_running && decision.next.is_none() {
            decision.next = Some(start);
            continue;
        }
        match policy {
            Policy::Unspecified | Policy::Skip | Policy::AllowAll => decision.skipped += 1,
            Policy::BufferOne if decision.kept.is_empty() => decision.kept.push(start),
            Policy::BufferOne => decision.skipped += 1,
            Policy::BufferAll => decision.kept.push(start),
            // The one in its way is only about to be started: this one takes its place.
            Policy::CancelOther | Policy::TerminateOther if !is_running => decision.next = Some(start),
            Policy::CancelOther => {
                decision.cancel = true;
                decision.kept.push(start);
            }
            Policy::TerminateOther => {
                decision.terminate = true;
                decision.kept.push(start);
            }
        }
    }
    if decision.cancel || decision.terminate {
        // They would be ended at once.
        decision.overlapping.clear();
    }
    decision
}

#[cfg(test)]
mod tests;
