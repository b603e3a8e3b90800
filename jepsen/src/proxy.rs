//! A TCP proxy for one directed link, with every harm that can be done to a byte stream from outside.
//!
//! One link is what one party dials to reach another: bytes `out` go from the party that dialled to the one that listens, bytes `back`
//! the other way. Each direction can be held (what a partition looks like: nothing arrives, nobody is told, and after it heals what was
//! sent arrives late), delayed with jitter, and throttled; the link as a whole can be reset (connections closed, new ones closed at
//! once), and its connections broken now and then. One more harm is for what carries checksums of its own: a bit of a bulky transfer is
//! flipped on its way ([`Proxy::flip`]).
//!
//! Limits: TCP cannot reorder or drop within a stream, so neither can this. Jitter is drawn for each connection, so that calls on different
//! connections overtake each other; calls on one HTTP/2 connection never do. A held link still accepts connections, which a real
//! partition would not; no byte of them gets anywhere.
//!
//! Called by `network`, which knows who dials whom.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

const CHUNK: usize = 16 * 1024;
/// A connection is a transfer beside the usual one, and worth flipping a bit of, once so many bytes have gone out on it …
const FLIPS_BEHIND: u64 = 4 * 1024;
/// … in a chunk of at least so many more.
const FLIPS_IN: usize = 4 * 1024;
/// Bytes under way in one direction of one connection; beyond them the sender feels it, as it would in a network.
const UNDER_WAY_MAX: usize = 1024 * 1024;

/// What is done to one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    pub held: bool,
    pub delay: Duration,
    /// Each connection waits longer by something between nothing and this, drawn anew for each chunk.
    pub jitter: Duration,
    /// 0: as fast as it goes.
    pub bytes_per_second: u64,
}

/// What is done to a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harm {
    pub out: Flow,
    pub back: Flow,
    /// Connections are closed, and new ones closed as soon as they are made.
    pub refused: bool,
    /// Of a thousand chunks, how many break their connection.
    pub breaks_per_mille: u32,
}

impl Harm {
    pub fn held() -> Self {
        let flow = Flow { held: true, ..Flow::default() };
        Self { out: flow, back: flow, ..Self::default() }
    }

    pub fn refused() -> Self {
        Self { refused: true, ..Self::default() }
    }

    pub fn slow(delay: Duration, jitter: Duration) -> Self {
        let flow = Flow { delay, jitter, ..Flow::default() };
        Self { out: flow, back: flow, ..Self::default() }
    }

    pub fn throttled(bytes_per_second: u64) -> Self {
        let flow = Flow { bytes_per_second, ..Flow::default() };
        Self { out: flow, back: flow, ..Self::default() }
    }

    pub fn breaking(breaks_per_mille: u32) -> Self {
        Self { breaks_per_mille, ..Self::default() }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Out,
    Back,
}

impl Harm {
    fn flow(&self, direction: Direction) -> Flow {
        match direction {
            Direction::Out => self.out,
            Direction::Back => self.back,
        }
    }
}

/// What `watch` tells connections: the harm, and a number that grows when all connections are to be closed.
#[derive(Clone, Copy, Default)]
struct State {
    harm: Harm,
    epoch: u64,
}

/// See the module.
pub struct Proxy {
    pub name: String,
    pub listens: SocketAddr,
    state: watch::Sender<State>,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct Shared {
    connections: AtomicU64,
    bytes: AtomicU64,
    /// Connections at this moment.
    open: AtomicU64,
    /// Bits still to be flipped.
    to_flip: AtomicU64,
}

impl Shared {
    /// Takes one of the bits that are to be flipped, if there is one.
    fn take_flip(&self) -> bool {
        self.to_flip.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// A connection among those that are open.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Proxy {
    /// Listens on `listens` and passes everything on to `to`, which need not be there yet.
    pub async fn begin(name: &str, listens: SocketAddr, to: SocketAddr, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind(listens).await.with_context(|| format!("the proxy {name} on {listens}"))?;
        let (state, watched) = watch::channel(State::default());
        let shared = Arc::new(Shared::default());
        let chance = Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed)));
        let accepting = tokio::spawn(accept(listener, to, watched, shared.clone(), chance)).abort_handle();
        Ok(Self { name: name.to_owned(), listens, state, shared, accepting })
    }

    pub fn harm(&self, harm: Harm) {
        self.state.send_modify(|state| {
            if harm.refused && !state.harm.refused {
                state.epoch += 1;
            }
            state.harm = harm;
        });
    }

    /// Closes all connections; new ones are welcome.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.epoch += 1);
    }

    /// No harm any more. With `reset`, what was held is lost with its connections; without, it arrives late.
    pub fn heal(&self, reset: bool) {
        self.state.send_modify(|state| {
            state.harm = Harm::default();
            state.epoch += u64::from(reset);
        });
    }

    /// Flips so many bits, each in the middle of a large chunk that goes out on a connection which was made while there was another: a
    /// node keeps one to a peer, and makes a second one for a transfer, whose chunks have checksums. What TCP carries of the usual one is
    /// not to be harmed: TCP itself promises that.
    pub fn flip(&self, bits: u64) {
        self.shared.to_flip.store(bits, Ordering::Relaxed);
    }

    /// Bits not yet flipped; none will be any more.
    pub fn flip_no_more(&self) -> u64 {
        self.shared.to_flip.swap(0, Ordering::Relaxed)
    }

    /// Connections so far: none means that nobody goes this way, and that harming it shows nothing.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.reset();
    }
}

async fn accept(
    listener: TcpListener,
    to: SocketAddr,
    watched: watch::Receiver<State>,
    shared: Arc<Shared>,
    chance: Arc<Mutex<ChaCha8Rng>>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if watched.borrow().harm.refused {
            continue;
        }
        let seed = chance.lock().random();
        tokio::spawn(carry(stream, to, watched.clone(), shared.clone(), seed));
    }
}

/// One connection, until either side ends it or the link is reset.
async fn carry(near: TcpStream, to: SocketAddr, watched: watch::Receiver<State>, shared: Arc<Shared>, seed: u64) {
    let epoch = watched.borrow().epoch;
    let mut over = watched.clone();
    let carried = async {
        // A connection through a cut link is not made: the far side must not see one whose bytes then never come.
        let mut passing = watched.clone();
        if passing.wait_for(|state| !state.harm.out.held && !state.harm.back.held).await.is_err() {
            return;
        }
        let Ok(far) = TcpStream::connect(to).await else { return };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let beside = shared.open.fetch_add(1, Ordering::Relaxed) > 0;
        let _open = Open(shared.clone());
        let _ = near.set_nodelay(true);
        let _ = far.set_nodelay(true);
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        let out = pump(near_read, far_write, Direction::Out, beside, watched.clone(), shared.clone(), seed);
        let back = pump(far_read, near_write, Direction::Back, false, watched.clone(), shared.clone(), seed ^ 1);
        // Either direction's end takes both down only after the other one has ended too, unless one was broken.
        let (mut out, mut back) = (std::pin::pin!(out), std::pin::pin!(back));
        tokio::select! {
            ended = &mut out => if ended == Ended::Closed { back.await; },
            ended = &mut back => if ended == Ended::Closed { out.await; },
        }
    };
    tokio::select! {
        () = carried => (),
        _ = over.wait_for(|state| state.epoch != epoch) => (),
    }
}

#[derive(PartialEq, Eq)]
enum Ended {
    /// The reading side said that nothing more comes, and everything was passed on.
    Closed,
    Broken,
}

/// One direction of one connection. Reads ahead, up to a bound, so that a delay costs time and not throughput. `may_flip`: it is one whose
/// bits may be flipped.
async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    direction: Direction,
    may_flip: bool,
    mut watched: watch::Receiver<State>,
    shared: Arc<Shared>,
    seed: u64,
) -> Ended {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut under_way_bytes = 0;
    let mut last_due = Instant::now();
    let mut ended = false;
    let mut gone_out = 0;
    let mut buffer = vec![0; CHUNK];
    loop {
        let harm = watched.borrow_and_update().harm;
        let flow = harm.flow(direction);
        if ended && under_way.is_empty() {
            let _ = to.shutdown().await;
            return Ended::Closed;
        }
        let due = under_way.front().map(|(due, _)| *due);
        tokio::select! {
            changed = watched.changed() => if changed.is_err() { return Ended::Broken },
            () = tokio::time::sleep_until(due.unwrap_or(last_due)), if due.is_some() && !flow.held => {
                let Some((_, chunk)) = under_way.pop_front() else { continue };
                under_way_bytes -= chunk.len();
                shared.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                if to.write_all(&chunk).await.is_err() {
                    return Ended::Broken;
                }
            }
            read = from.read(&mut buffer), if !ended && under_way_bytes < UNDER_WAY_MAX => match read {
                Ok(0) => ended = true,
                Err(_) => return Ended::Broken,
                Ok(size) => {
                    if harm.breaks_per_mille > 0 && chance.random_range(0..1000) < harm.breaks_per_mille {
                        return Ended::Broken;
                    }
                    if may_flip && gone_out >= FLIPS_BEHIND && size >= FLIPS_IN && shared.take_flip() {
                        buffer[size / 2] ^= 1 << chance.random_range(0..8);
                    }
                    gone_out += size as u64;
                    let mut at = Instant::now() + flow.delay;
                    if !flow.jitter.is_zero() {
                        at += flow.jitter.mul_f64(chance.random());
                    }
                    if flow.bytes_per_second > 0 {
                        at = at.max(last_due) + Duration::from_secs_f64(size as f64 / flow.bytes_per_second as f64);
                    }
                    // Within a stream nothing overtakes.
                    last_due = at.max(last_due);
                    under_way_bytes += size;
                    under_way.push_back((last_due, buffer[..size].to_vec()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
