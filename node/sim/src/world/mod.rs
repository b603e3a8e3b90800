//! The simulated network: machines, links between them, and TCP connections over the links.
//!
//! A connection behaves as a kernel's does, seen from a process: bytes arrive in order or not at all; what is sent over a link that is
//! cut waits and arrives after the link is whole again; a process that was killed resets its connections; a machine that lost its power
//! says nothing, and resets them when it is back and somebody still talks to it.
//!
//! ```text
//! write -> outbox of this end --(latency; held while the link is cut)--> inbox of the other end -> read
//! ```
//!
//! Segments are delivered between the turns of hosts only, so a host's turn must not be longer than what a link takes at least.
//!
//! Never: a choice that does not come from the seed; two threads.
//!
//! Called by `host` (turns, crashes), by `net` (sockets), and by `faults` (links).

mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

pub use stream::{Listener, Stream};

/// A machine's number: its place in the list of hosts.
pub type Machine = usize;

/// Bytes of one direction that the other process has not read yet; a writer waits above it.
const WINDOW_BYTES: usize = 1024 * 1024;

/// How long a segment takes over a link: `base`, and up to `jitter` more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    pub base: Duration,
    pub jitter: Duration,
}

/// One direction between two machines.
#[derive(Clone, Copy, Debug)]
struct Link {
    cut: bool,
    latency: Latency,
}

#[derive(Debug)]
enum Segment {
    Syn { port: u16 },
    SynAck,
    Data(Bytes),
    Fin,
    Rst,
}

/// An end of a connection. The other end's number differs in the last bit; the caller's is even.
type EndId = u64;

struct End {
    machine: Machine,
    /// The process still holds it.
    open: bool,
    connected: bool,
    eof: bool,
    reset: bool,
    finished: bool,
    inbox: VecDeque<Bytes>,
    outbox: VecDeque<(u64, Segment)>,
    /// Sent, and not yet read by the other process.
    unread: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl End {
    fn new(machine: Machine) -> Self {
        Self {
            machine,
            open: true,
            connected: false,
            eof: false,
            reset: false,
            finished: false,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            unread: 0,
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

#[derive(Default)]
struct Listening {
    backlog: VecDeque<EndId>,
    waker: Option<Waker>,
}

struct Inner {
    now_ns: u64,
    rng: ChaCha8Rng,
    powered: Vec<bool>,
    links: BTreeMap<(Machine, Machine), Link>,
    listening: BTreeMap<(Machine, u16), Listening>,
    ends: BTreeMap<EndId, End>,
    /// When an outbox should be looked at.
    due: BTreeSet<(u64, EndId)>,
    next_connection: u64,
    segments: u64,
    /// Over everything that arrived, and when.
    digest: blake3::Hasher,
}

/// See the module. Clones are the same.
#[derive(Clone)]
pub struct World(Arc<Mutex<Inner>>);

impl World {
    pub fn new(seed: u64, machines: usize, latency: Latency) -> Self {
        let pairs = (0..machines).flat_map(|from| (0..machines).map(move |to| (from, to)));
        Self(Arc::new(Mutex::new(Inner {
            now_ns: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            powered: vec![true; machines],
            links: pairs.map(|pair| (pair, Link { cut: false, latency })).collect(),
            listening: BTreeMap::new(),
            ends: BTreeMap::new(),
            due: BTreeSet::new(),
            next_connection: 0,
            segments: 0,
            digest: blake3::Hasher::new(),
        })))
    }

    /// Segments delivered so far.
    pub fn segments(&self) -> u64 {
        self.0.lock().segments
    }

    /// Forgets what has arrived so far. While a cluster is created, nodes tell each other how large their folders are, and RocksDB's own
    /// messages, with real times in them, are in there.
    pub fn restart_digest(&self) {
        self.0.lock().digest = blake3::Hasher::new();
    }

    /// Equal for two worlds in which the same bytes arrived at the same times.
    pub fn digest(&self) -> String {
        self.0.lock().digest.finalize().to_hex().to_string()
    }

    /// Moves time on and delivers what has arrived by then.
    pub fn advance(&self, now: Duration) {
        let mut inner = self.0.lock();
        inner.now_ns = now.as_nanos() as u64;
        while let Some((at, end)) = inner.due.first().copied().filter(|(at, _)| *at <= inner.now_ns) {
            inner.due.remove(&(at, end));
            inner.drain(end);
        }
    }

    /// What the first machine sends the second no longer arrives.
    pub fn cut(&self, from: Machine, to: Machine) {
        if let Some(link) = self.0.lock().links.get_mut(&(from, to)) {
            link.cut = true;
        }
    }

    /// Segments that were held arrive after the sender has tried again.
    pub fn mend(&self, from: Machine, to: Machine) {
        let mut inner = self.0.lock();
        if let Some(link) = inner.links.get_mut(&(from, to)) {
            link.cut = false;
        }
        inner.retry(|end, peer| end == from && peer == to);
    }

    pub fn set_latency(&self, from: Machine, to: Machine, latency: Latency) {
        if let Some(link) = self.0.lock().links.get_mut(&(from, to)) {
            link.latency = latency;
        }
    }

    /// The process of a machine has ended: its kernel resets the connections.
    pub fn process_ended(&self, machine: Machine) {
        let mut inner = self.0.lock();
        for end in inner.abandon(machine) {
            inner.reset(end);
        }
    }

    /// The machine is without power: nobody is told.
    pub fn power_off(&self, machine: Machine) {
        let mut inner = self.0.lock();
        inner.powered[machine] = false;
        for end in inner.abandon(machine) {
            if let Some(end) = inner.ends.get_mut(&end) {
                end.outbox.clear();
            }
        }
    }

    /// The machine is there again, without a process. Who still talks to its old connections is told.
    pub fn power_on(&self, machine: Machine) {
        let mut inner = self.0.lock();
        inner.powered[machine] = true;
        inner.retry(|_, peer| peer == machine);
    }
}

impl Inner {
    /// Gives up everything that a machine's process held; its open ends.
    fn abandon(&mut self, machine: Machine) -> Vec<EndId> {
        self.listening.retain(|(at, _), _| *at != machine);
        let mut abandoned = Vec::new();
        for (id, end) in &mut self.ends {
            if end.machine == machine && end.open {
                end.open = false;
                end.reader = None;
                end.writer = None;
                abandoned.push(*id);
            }
        }
        abandoned
    }

    fn machine(&self, end: EndId) -> Option<Machine> {
        self.ends.get(&end).map(|end| end.machine)
    }

    fn send(&mut self, from: EndId, segment: Segment) {
        let (Some(here), Some(there)) = (self.machine(from), self.machine(from ^ 1)) else { return };
        let at = self.arrival(here, there);
        let Some(end) = self.ends.get_mut(&from) else { return };
        let at = end.outbox.back().map_or(at, |(last, _)| at.max(*last));
        end.outbox.push_back((at, segment));
        self.due.insert((at, from));
    }

    fn arrival(&mut self, from: Machine, to: Machine) -> u64 {
        let Some(link) = self.links.get(&(from, to)) else { return self.now_ns };
        let Latency { base, jitter } = link.latency;
        // Most are quick, a few are slow.
        let draw = self.rng.random::<f64>();
        self.now_ns + base.as_nanos() as u64 + (jitter.as_nanos() as f64 * draw * draw * draw) as u64
    }

    /// Whoever sent from one machine to another, as `of` says, tries again soon.
    fn retry(&mut self, of: impl Fn(Machine, Machine) -> bool) {
        let waiting = self.ends.iter().filter(|(_, end)| !end.outbox.is_empty()).map(|(id, end)| (*id, end.machine));
        let waiting: Vec<_> = waiting.collect();
        for (id, here) in waiting {
            if self.machine(id ^ 1).is_some_and(|there| of(here, there)) {
                let at = self.now_ns + self.rng.random_range(0..200_000_000);
                self.due.insert((at, id));
            }
        }
    }

    /// Delivers what one end has sent and has arrived.
    fn drain(&mut self, from: EndId) {
        let (Some(here), Some(there)) = (self.machine(from), self.machine(from ^ 1)) else { return };
        let passes = self.powered[there] && self.links.get(&(here, there)).is_some_and(|link| !link.cut);
        if !passes {
            return;
        }
        let now = self.now_ns;
        while let Some(segment) = self.ends.get_mut(&from).and_then(|end| {
            let arrived = end.outbox.front().is_some_and(|(at, _)| *at <= now);
            if arrived { end.outbox.pop_front() } else { None }
        }) {
            self.note(from, &segment.1);
            self.deliver(from ^ 1, segment.1);
        }
        self.forget_if_over(from);
    }

    fn note(&mut self, from: EndId, segment: &Segment) {
        self.segments += 1;
        let (kind, bytes): (u8, &[u8]) = match segment {
            Segment::Syn { .. } => (0, &[]),
            Segment::SynAck => (1, &[]),
            Segment::Data(bytes) => (2, bytes),
            Segment::Fin => (3, &[]),
            Segment::Rst => (4, &[]),
        };
        self.digest.update(&self.now_ns.to_be_bytes());
        self.digest.update(&from.to_be_bytes());
        self.digest.update(&[kind]);
        self.digest.update(&(bytes.len() as u64).to_be_bytes());
        self.digest.update(bytes);
    }

    fn deliver(&mut self, to: EndId, segment: Segment) {
        if let Segment::Syn { port } = segment {
            self.syn(to, port);
            return;
        }
        let Some(end) = self.ends.get_mut(&to) else { return };
        if !end.open {
            if !matches!(segment, Segment::Rst | Segment::Fin) {
                self.reset(to);
            }
            return;
        }
        match segment {
            Segment::SynAck => end.connected = true,
            Segment::Data(bytes) => end.inbox.push_back(bytes),
            Segment::Fin => end.eof = true,
            Segment::Rst => {
                end.reset = true;
                end.inbox.clear();
                end.outbox.clear();
            }
            Segment::Syn { .. } => {}
        }
        end.wake();
    }

    fn syn(&mut self, to: EndId, port: u16) {
        let Some(machine) = self.machine(to) else { return };
        let Some(listening) = self.listening.get_mut(&(machine, port)) else {
            self.reset(to);
            return;
        };
        listening.backlog.push_back(to);
        if let Some(waker) = listening.waker.take() {
            waker.wake();
        }
        if let Some(end) = self.ends.get_mut(&to) {
            end.open = true;
            end.connected = true;
        }
        self.send(to, Segment::SynAck);
    }

    /// Tells the other end that this one is gone.
    fn reset(&mut self, end: EndId) {
        if let Some(end) = self.ends.get_mut(&end) {
            end.open = false;
            end.reset = true;
            end.inbox.clear();
            end.outbox.clear();
        }
        self.send(end, Segment::Rst);
    }

    /// The process lets go of an end.
    fn close(&mut self, id: EndId) {
        let Some(end) = self.ends.get_mut(&id).filter(|end| end.open) else { return };
        end.open = false;
        end.reader = None;
        end.writer = None;
        if end.reset {
            self.forget_if_over(id);
        } else if end.inbox.is_empty() {
            if !std::mem::replace(&mut end.finished, true) {
                self.send(id, Segment::Fin);
            }
        } else {
            // What was not read is lost, and the other side is told so.
            self.reset(id);
        }
    }

    /// Nobody holds either end, and nothing is on its way.
    fn forget_if_over(&mut self, id: EndId) {
        let over = |end: Option<&End>| end.is_none_or(|end| !end.open && end.outbox.is_empty());
        if over(self.ends.get(&id)) && over(self.ends.get(&(id ^ 1))) {
            self.ends.remove(&id);
            self.ends.remove(&(id ^ 1));
        }
    }
}
