//! The store from outside: what it promises, what it refuses, and what is left after a crash. One binary, because linking RocksDB takes
//! long.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod corruption;
mod crash;
mod driven;
mod flips;
mod folder;
mod log;
mod power_loss;
mod snapshots;
mod state;
mod support;
