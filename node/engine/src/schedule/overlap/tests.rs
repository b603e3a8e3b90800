//! What each policy makes of times that wait.

use super::*;
use ScheduleOverlapPolicy as Policy;

fn waiting(policies: &[Policy]) -> Vec<BufferedStartRow> {
    let start = |(at, policy): (usize, &Policy)| BufferedStartRow {
        nominal_at: at as i64,
        overlap_policy: *policy as i32,
        ..Default::default()
    };
    policies.iter().enumerate().map(start).collect()
}

fn show(policies: &[Policy], is_running: bool) -> String {
    let decision = decide(waiting(policies), is_running, Policy::Skip);
    let places = |starts: &[BufferedStartRow]| starts.iter().map(|start| start.nominal_at).collect::<Vec<_>>();
    let mut said = format!("start {:?}", places(decision.next.as_slice()));
    said += &format!(" beside {:?} keep {:?}", places(&decision.overlapping), places(&decision.kept));
    said += &format!(" skipped {}", decision.skipped);
    said += if decision.cancel { " cancel" } else { "" };
    said + if decision.terminate { " terminate" } else { "" }
}

#[test]
fn every_policy_over_nothing_and_over_a_run() {
    let thrice = |policy| (show(&[policy; 3], false), show(&[policy; 3], true));
    let both = |idle: &str, running: &str| (idle.to_owned(), running.to_owned());
    let skip = both("start [0] beside [] keep [] skipped 2", "start [] beside [] keep [] skipped 3");
    assert_eq!(thrice(Policy::Skip), skip);
    assert_eq!(thrice(Policy::Unspecified), skip, "the schedule's own");
    assert_eq!(
        thrice(Policy::BufferOne),
        both("start [0] beside [] keep [1] skipped 1", "start [] beside [] keep [0] skipped 2")
    );
    assert_eq!(
        thrice(Policy::BufferAll),
        both("start [0] beside [] keep [1, 2] skipped 0", "start [] beside [] keep [0, 1, 2] skipped 0")
    );
    assert_eq!(
        thrice(Policy::CancelOther),
        both("start [2] beside [] keep [] skipped 0", "start [] beside [] keep [0, 1, 2] skipped 0 cancel")
    );
    assert_eq!(
        thrice(Policy::TerminateOther),
        both("start [2] beside [] keep [] skipped 0", "start [] beside [] keep [0, 1, 2] skipped 0 terminate")
    );
    assert_eq!(
        thrice(Policy::AllowAll),
        both("start [] beside [0, 1, 2] keep [] skipped 0", "start [] beside [0, 1, 2] keep [] skipped 0")
    );
}

#[test]
fn policies_mix() {
    let mixed = [Policy::AllowAll, Policy::Skip, Policy::BufferOne, Policy::AllowAll, Policy::BufferAll];
    assert_eq!(show(&mixed, false), "start [1] beside [0, 3] keep [2, 4] skipped 0");
    let ending = [Policy::AllowAll, Policy::TerminateOther];
    assert_eq!(show(&ending, true), "start [] beside [] keep [1] skipped 0 terminate");
}
