//! Who reaches whom, each directed link through a proxy of its own: node to node, clients to a node, workers to a node.
//!
//! A node is told through its setting `dial` to reach each peer at the proxy's address. A binary that does not know that setting would
//! ignore it, and every partition would be a control run: [`Network::unused`] tells, and the harness refuses to call that a result.
//!
//! Called by `cluster` (which makes it), `faults` (which harm it) and `clients` (which go through it).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;

use crate::ports;
use crate::proxy::{Flow, Harm, Proxy};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Link {
    /// Node to node: the first dials the second.
    Peer(u64, u64),
    Clients(u64),
    Workers(u64),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(from, to) => write!(f, "n{from}->n{to}"),
            Self::Clients(to) => write!(f, "clients->n{to}"),
            Self::Workers(to) => write!(f, "workers->n{to}"),
        }
    }
}

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub peer: SocketAddr,
}

/// See the module.
#[derive(Clone)]
pub struct Network {
    links: Arc<BTreeMap<Link, Proxy>>,
}

impl Network {
    pub async fn begin(nodes: &BTreeMap<u64, Addresses>, seed: u64) -> Result<Self> {
        let mut wanted: Vec<(Link, SocketAddr)> = Vec::new();
        for (number, addresses) in nodes {
            wanted.extend(
                nodes.keys().filter(|from| *from != number).map(|from| (Link::Peer(*from, *number), addresses.peer)),
            );
            wanted.push((Link::Clients(*number), addresses.grpc));
            wanted.push((Link::Workers(*number), addresses.grpc));
        }
        let mut links = BTreeMap::new();
        for (at, (link, to)) in wanted.into_iter().enumerate() {
            links
                .insert(link, Proxy::begin(&link.to_string(), ports::free()?, to, seed.wrapping_add(at as u64)).await?);
        }
        Ok(Self { links: Arc::new(links) })
    }

    /// The value of `dial` for one node.
    pub fn dial(&self, from: u64) -> String {
        let peers = self.links.iter().filter_map(|(link, proxy)| match link {
            Link::Peer(me, to) if *me == from => Some(format!("{to}={}", proxy.listens)),
            _ => None,
        });
        peers.collect::<Vec<_>>().join(",")
    }

    /// Where to go to for a link; None when there is no such link.
    pub fn address(&self, link: Link) -> Option<SocketAddr> {
        self.links.get(&link).map(|proxy| proxy.listens)
    }

    pub fn harm(&self, link: Link, harm: Harm) {
        if let Some(proxy) = self.links.get(&link) {
            proxy.harm(harm);
        }
    }

    /// Packets from one node to the other vanish, and only those: its requests, and its answers to the other's.
    pub fn cut_one_way(&self, cuts: &[(u64, u64)]) {
        let held = Flow { held: true, ..Flow::default() };
        for link in self.peer_links() {
            let Link::Peer(from, to) = link else { continue };
            let mut harm = Harm::default();
            if cuts.contains(&(from, to)) {
                harm.out = held;
            }
            if cuts.contains(&(to, from)) {
                harm.back = held;
            }
            self.harm(link, harm);
        }
    }

    /// See [`Proxy::flip`].
    pub fn flip(&self, link: Link, bits: u64) {
        if let Some(proxy) = self.links.get(&link) {
            proxy.flip(bits);
        }
    }

    /// Bits that were to be flipped on a link and have not been; none will be any more.
    pub fn flip_no_more(&self, link: Link) -> u64 {
        self.links.get(&link).map_or(0, Proxy::flip_no_more)
    }

    pub fn peer_links(&self) -> Vec<Link> {
        self.links.keys().copied().filter(|link| matches!(link, Link::Peer(..))).collect()
    }

    pub fn client_links(&self) -> Vec<Link> {
        self.links.keys().copied().filter(|link| matches!(link, Link::Clients(_))).collect()
    }

    pub fn worker_links(&self) -> Vec<Link> {
        self.links.keys().copied().filter(|link| matches!(link, Link::Workers(_))).collect()
    }

    /// Links among `links` that nobody has used yet.
    pub fn unused(&self, links: &[Link]) -> Vec<Link> {
        links.iter().copied().filter(|link| self.links.get(link).is_none_or(|proxy| proxy.connections() == 0)).collect()
    }

    pub fn heal(&self, reset: bool) {
        for proxy in self.links.values() {
            proxy.heal(reset);
        }
    }

    /// Connections and bytes of each link.
    pub fn figures(&self) -> BTreeMap<String, (u64, u64)> {
        self.links.values().map(|proxy| (proxy.name.clone(), (proxy.connections(), proxy.bytes()))).collect()
    }
}
