use super::*;

fn changed(runs: &[&str]) -> Effects {
    let change = |id: &&str| RunChange {
        run: RunKey { namespace_id: "n".into(), workflow_id: "w".into(), run_id: (*id).to_owned() },
        next_event_id: stanchion_engine::EventId(2),
        closed: false,
        idle: false,
    };
    Effects { changes: runs.iter().map(change).collect(), ..Effects::default() }
}

fn picked(purse: &Purse, runs: &[&str]) -> usize {
    let effects = changed(runs);
    purse.pick([&effects].into_iter()).len()
}

#[test]
fn a_share_of_nothing_never_looks_and_a_share_of_all_looks_at_every_run_once() {
    assert_eq!(picked(&Purse::new(0), &["a", "b"]), 0);
    assert_eq!(picked(&Purse::new(1000), &["a", "b", "a"]), 2);
}

#[test]
fn what_was_spent_is_waited_for() {
    let purse = Purse::new(500);
    purse.held.lock().nanos = 1;
    assert_eq!(picked(&purse, &["a", "b"]), 1);
    purse.pay(Duration::from_secs(3600));
    assert_eq!(picked(&purse, &["a", "b"]), 0);
    purse.held.lock().filled -= Duration::from_secs(3 * 3600);
    assert_eq!(picked(&purse, &["a", "b"]), 1);
    assert!(purse.held.lock().nanos <= PURSE_MAX.as_nanos() as i64);
}
