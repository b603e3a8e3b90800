//! Every message that crosses a wire or lands on a disk.
//!
//! [`temporal`] is Temporal's public API; [`command`], [`row`], [`node`] and [`admin`] are ours. The whole crate is generated (see
//! `build.rs` for the three choices that it makes); nothing here has behaviour.
//!
//! Never: a hand-written message type; a `HashMap` (its order would differ between replicas).

#![allow(clippy::all, clippy::unwrap_used, clippy::expect_used, rust_2018_idioms, rustdoc::all)]

/// Everything generated, by its protobuf package.
pub mod api {
    include!(concat!(env!("OUT_DIR"), "/api.rs"));
}

pub use api::google;
pub use api::stanchion::admin::v1 as admin;
pub use api::stanchion::command::v1 as command;
pub use api::stanchion::node::v1 as node;
pub use api::stanchion::row::v1 as row;
pub use api::temporal::api as temporal;

/// All of the above as an encoded `FileDescriptorSet`, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
