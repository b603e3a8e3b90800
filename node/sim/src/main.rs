//! Whole nodes in one process: a simulated clock, network and disk, from a seed.

fn main() {}
