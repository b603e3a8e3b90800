//! Everything that a node does, as a library: the binary `stanchion` runs it on real sockets, `node/sim` on simulated ones.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod admin;
pub mod batch;
pub mod bootstrap;
pub mod calls;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod context;
pub mod courier;
pub mod grpc;
pub mod http;
pub mod liveness;
pub mod logging;
pub mod meta;
pub mod metrics;
pub mod neighbours;
pub mod node;
pub mod peer;
pub mod polls;
pub mod routing;
pub mod shell;
pub mod status;
pub mod validate;
pub mod verify;
pub mod visibility;
