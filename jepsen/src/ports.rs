//! Free loopback ports below the range from which the kernel takes ports for outgoing connections, so that a node that is down finds its
//! port free when it comes back.
//!
//! Called by `cluster` and `network`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};
use parking_lot::Mutex;
use rand::Rng as _;

const FIRST: u16 = 15_000;
const LAST: u16 = 29_999;
const TRIES: usize = 1_000;

static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// An address that nobody listens on, and that is not given out twice by this process.
pub fn free() -> Result<SocketAddr> {
    for _ in 0..TRIES {
        // Which port it is decides nothing that a seed should repeat: two harnesses on one machine must not meet.
        let port = rand::rng().random_range(FIRST..=LAST);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TAKEN.lock().contains(&port) || TcpListener::bind(address).is_err() {
            continue;
        }
        TAKEN.lock().insert(port);
        return Ok(address);
    }
    bail!("no free port between {FIRST} and {LAST} after {TRIES} tries")
}
