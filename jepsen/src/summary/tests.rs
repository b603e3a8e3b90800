use super::*;

const TABLE: &str = "\
| time (UTC) | workload | fault | seed | nodes | seconds | faults done | ok | refused | unknown | checks | outcome | folder |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
| 2026-11-21 17:06:23 | timers | ring | 7 | 3 | 25 | 2 | 660 | 0 | 1 | 5 | clean | a |
| 2026-11-21 17:06:42 | timers | ring | 8 | 5 | 19 | 2 | 54 | 3 | 0 | 12 | **VIOLATION** F1 | b |
| 2026-11-21 17:06:42 | signal-list | kill-all | 9 | | | | | | | | harness failed: no port | |
| 2026-11-21 17:06:42 | signal-list | kill-workers | 10 | | | | | | | | not possible: it has none | |
";

#[test]
fn lines_are_summed_by_fault_and_workload() {
    let expected = "\
| fault | signal-list | timers | faults done | ok / refused / unknown | runs | with five nodes | violated | seconds |
|---|---|---|---|---|---|---|---|---|
| `kill-all` | 0, 1 harness failed |  | 0 | 0 / 0 / 0 | 1 | 0 | 0 | 0 |
| `kill-workers` | – |  | 0 | 0 / 0 / 0 | 0 | 0 | 0 | 0 |
| `ring` |  | 1, **1 violated** | 4 | 714 / 3 / 1 | 2 | 1 | 1 | 44 |
| all | 0, 1 harness failed | 1, **1 violated** | 4 | 714 / 3 / 1 | 3 | 1 | 1 | 44 |
";
    assert_eq!(of(TABLE), expected);
}
