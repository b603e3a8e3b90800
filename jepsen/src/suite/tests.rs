use std::collections::BTreeSet;

use super::*;

#[test]
fn each_cell_comes_once_and_each_fault_before_any_comes_again() {
    let workloads = vec!["a", "b", "c"];
    let faults = vec!["1", "2", "3", "4", "5"];
    let cells = spread(workloads.clone(), faults.clone(), &mut ChaCha8Rng::seed_from_u64(1));
    assert_eq!(cells.iter().collect::<BTreeSet<_>>().len(), workloads.len() * faults.len());
    for turn in cells.chunks(faults.len()) {
        assert_eq!(turn.iter().map(|(_, fault)| fault).collect::<BTreeSet<_>>().len(), faults.len());
        assert_eq!(turn.iter().map(|(workload, _)| workload).collect::<BTreeSet<_>>().len(), workloads.len());
    }
}
