//! Real processes, real faults, and a verdict.

fn main() {}
