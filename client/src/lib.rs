//! Clients of a Stanchion cluster, in Rust: the operations of `stanchion cluster …`, and a Temporal client that knows every node.
//!
//! Never: repeats a call that may have been applied, unless the repetition carries the same request id.
//!
//! Called by the server's command line, and by the load generator.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod cluster;
pub mod nodes;

pub use nodes::Nodes;
