//! A disk that fails on command: stands between a process and its C library, and remembers what a power loss may take.
//!
//! This crate defines the file calls of the C library itself (`write`, `fsync`, `rename` …), passes each on to the kernel, and for files
//! below a watched folder notes what has been made durable and does as its [`Control`] says: no space, `EIO` on write or fsync, slow
//! calls, short writes, power cut. [`power_loss`] then turns the folder into what a disk could hold after the lights went out: synced
//! bytes are there, and of all others any part may be old, new or torn.
//!
//! Two ways in. As `libstanchion_faultdisk.so`, named in `LD_PRELOAD`, it watches one folder of a process of its own
//! ([`preload::StateDir`] is the other end of it, in the test that started the process). As a library linked into a test, [`watch`]
//! does the same to folders of the own process, several at a time: one for each simulated node.
//!
//! Never: calls itself durable for what the process has not synced; touches files outside a watched folder; does anything but pass calls
//! on while no folder is watched. It cannot see writes through a shared mapping, through a duplicated descriptor, or by io_uring;
//! neither RocksDB as Stanchion builds it nor Stanchion itself does that.
//!
//! Called by `jepsen` and `node/sim`; nothing that is shipped links it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod control;
mod interpose;
mod journal;
mod loss;
mod model;
pub mod preload;
mod raw;
mod registry;
mod seed;

pub use control::{Control, Kind};
pub use loss::{Lost, PowerLoss};
pub use registry::{Disk, watch};
