//! What is shipped holds no planted bug: the binary says so and does not start where one is asked for.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

#[test]
fn a_planted_bug_that_is_not_there_is_refused() {
    // Should the bug be planted after all, the folder ends the process, in other words.
    let node = Command::new(env!("CARGO_BIN_EXE_stanchion"))
        .args(["dev", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data", "/proc/no-folder"])
        .env("STANCHION_MUTANT", if cfg!(feature = "mutants") { "no-such-bug" } else { "skip-fence" })
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&node.stderr);
    assert!(!node.status.success(), "{said}");
    let expected = match cfg!(feature = "mutants") {
        true => "there is no planted bug `no-such-bug`; there are ack-before-commit, skip-fence",
        false => {
            "STANCHION_MUTANT: `skip-fence` cannot be planted: this binary was built without the feature `mutants`"
        }
    };
    assert!(said.contains(expected), "{said}");
}
