//! What the simulator and the fault tests share: programs for workflows to run, workers and clients that speak plain gRPC, and the
//! checkers that judge what these were told. Nothing here knows how a node works inside.
//!
//! Called by `node/sim` and `jepsen/`.

pub mod check;
pub mod drive;
pub mod history;
pub mod journal;
pub mod ledger;
pub mod program;
