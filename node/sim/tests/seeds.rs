//! What the simulator promises: a seed gives the same run twice, and what was found once is not found again. A few seeds only; `make sim`
//! and the soak run many.

#![allow(clippy::unwrap_used)]

use std::process::Command;

fn sim(arguments: &[&str]) {
    let ran = Command::new(env!("CARGO_BIN_EXE_stanchion-sim")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{arguments:?}: {}\n{said}{}", ran.status, String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    sim(&["check-determinism", "--from", "1", "--seeds", "2"]);
}

#[test]
fn what_was_found_once_is_not_found_again() {
    sim(&["replay", "--past", concat!(env!("CARGO_MANIFEST_DIR"), "/regressions.jsonl")]);
}
