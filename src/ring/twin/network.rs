//! The network between the ends: names, how long the way takes, and where it is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::clock::Instant;
use crate::slots::{Key, Slots};

use super::datagram::Flight;
use super::files::File;
use super::machine::{Happening, Machine};
use super::stream::{Conn, Handshake, SIDES};
use super::unix::Name;

pub(super) struct Network {
    /// One way, for what is sent from now on.
    pub(super) latency: Duration,
    /// The same for addresses that are farther away or nearer.
    pub(super) latencies: BTreeMap<IpAddr, Duration>,
    /// The machine has IPv4 only.
    pub(super) no_ipv6: bool,
    /// Pairs that do not hear of each other, the smaller address first.
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    /// Cut off from every other address.
    isolated: BTreeSet<IpAddr>,
    /// One end of connections, cut off from everybody.
    isolated_ends: BTreeSet<SocketAddr>,
    names: BTreeMap<String, Vec<IpAddr>>,
    pub(super) listeners: BTreeMap<SocketAddr, Vec<Key<File>>>,
    /// Who has which address for datagrams.
    pub(super) udp: BTreeMap<SocketAddr, Key<File>>,
    /// Who has which name of a Unix socket. That of a path stays when its socket has gone.
    pub(super) unix: BTreeMap<Name, Key<File>>,
    /// Datagrams on their way.
    pub(super) flights: Slots<Flight>,
    /// The ends of connections that were given a port.
    clients: BTreeSet<SocketAddr>,
    next_port: u16,
}

/// Linux gives out these, unless told otherwise.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

impl Network {
    pub(super) fn new() -> Network {
        let localhost = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        Network {
            latency: Duration::ZERO,
            latencies: BTreeMap::new(),
            no_ipv6: false,
            cuts: BTreeSet::new(),
            isolated: BTreeSet::new(),
            isolated_ends: BTreeSet::new(),
            names: BTreeMap::from([("localhost".to_owned(), localhost)]),
            listeners: BTreeMap::new(),
            udp: BTreeMap::new(),
            unix: BTreeMap::new(),
            flights: Slots::new(),
            clients: BTreeSet::new(),
            next_port: *EPHEMERAL.start(),
        }
    }

    pub(super) fn add_name(&mut self, name: &str, ip: IpAddr) {
        self.names.entry(name.to_owned()).or_default().push(ip);
    }

    pub(super) fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.get(name).map(Vec::as_slice)
    }

    /// Whether nothing comes through between two ends.
    pub(super) fn blocks(&self, a: SocketAddr, b: SocketAddr) -> bool {
        // A world is mostly whole, and this is asked for every segment.
        if self.cuts.is_empty() && self.isolated.is_empty() && self.isolated_ends.is_empty() {
            return false;
        }
        let isolated = |ip| a.ip() != b.ip() && self.isolated.contains(&ip);
        self.cuts.contains(&pair(a.ip(), b.ip()))
            || isolated(a.ip())
            || isolated(b.ip())
            || self.isolated_ends.contains(&a)
            || self.isolated_ends.contains(&b)
    }

    /// How long the way between two ends takes: the longer one, if both have one of their own.
    pub(super) fn latency_between(&self, ends: [SocketAddr; 2]) -> Duration {
        let own = ends.iter().filter_map(|end| self.latencies.get(&end.ip()));
        *own.max().unwrap_or(&self.latency)
    }

    /// Where a client sends from that was bound to this address, or to none.
    pub(super) fn source(
        &mut self,
        bound: Option<SocketAddr>,
        target: IpAddr,
    ) -> Result<SocketAddr, i32> {
        let ip = match bound.map(|address| address.ip()) {
            Some(ip) if !ip.is_unspecified() => ip,
            _ => source_for(target),
        };
        match bound.map_or(0, |address| address.port()) {
            0 => self.take_port(ip),
            port if self.clients.insert((ip, port).into()) => Ok((ip, port).into()),
            _ => Err(libc::EADDRNOTAVAIL),
        }
    }

    /// An address of `ip` with a port that no other client has.
    fn take_port(&mut self, ip: IpAddr) -> Result<SocketAddr, i32> {
        for _ in EPHEMERAL {
            let address = SocketAddr::new(ip, self.following_port());
            let listens = self.listeners.keys().any(|other| conflict(*other, address));
            if !listens && self.clients.insert(address) {
                return Ok(address);
            }
        }
        Err(libc::EADDRNOTAVAIL)
    }

    pub(super) fn give_port_back(&mut self, client: SocketAddr) {
        self.clients.remove(&client);
    }

    pub(super) fn following_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = if port == *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
        port
    }

    /// Replaces port 0 by a free one.
    pub(super) fn complete(&mut self, address: SocketAddr) -> Result<SocketAddr, i32> {
        if address.port() != 0 {
            return Ok(address);
        }
        for _ in EPHEMERAL {
            let address = SocketAddr::new(address.ip(), self.following_port());
            let taken = self.listeners.keys().any(|other| conflict(*other, address))
                || self.clients.iter().any(|client| conflict(*client, address));
            if !taken {
                return Ok(address);
            }
        }
        Err(libc::EADDRINUSE)
    }
}

/// Whether two sockets cannot be bound there both.
pub(super) fn conflict(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && (any || a.ip() == b.ip())
}

/// Every address of a family.
pub(super) fn unspecified(is_ipv4: bool) -> IpAddr {
    if is_ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Where a client that was not bound sends from.
pub(super) fn source_for(target: IpAddr) -> IpAddr {
    match target {
        IpAddr::V4(ip) if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V4(_) => Ipv4Addr::new(10, 0, 0, 254).into(),
        IpAddr::V6(ip) if ip.is_loopback() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe).into(),
    }
}

fn pair(a: IpAddr, b: IpAddr) -> (IpAddr, IpAddr) {
    (a.min(b), a.max(b))
}

impl Machine {
    /// How long the way from one end of a connection to the other takes.
    pub(super) fn latency(&self, key: Key<Conn>) -> Duration {
        let conn = self.conns.get(key);
        if conn.is_some_and(|conn| conn.names.is_some()) {
            return Duration::ZERO;
        }
        let ends = conn.map(|conn| [conn.ends[0].address, conn.ends[1].address]);
        match ends {
            // A world is mostly even, and this is asked for every segment.
            Some(ends) if !self.network.latencies.is_empty() => self.network.latency_between(ends),
            _ => self.network.latency,
        }
    }

    pub(super) fn partition(&mut self, a: IpAddr, b: IpAddr) {
        self.network.cuts.insert(pair(a, b));
    }

    pub(super) fn heal(&mut self, a: IpAddr, b: IpAddr) {
        self.network.cuts.remove(&pair(a, b));
        self.resume();
    }

    pub(super) fn isolate(&mut self, ip: IpAddr) {
        self.network.isolated.insert(ip);
    }

    pub(super) fn rejoin(&mut self, ip: IpAddr) {
        self.network.isolated.remove(&ip);
        self.resume();
    }

    pub(super) fn isolate_end(&mut self, end: SocketAddr) {
        self.network.isolated_ends.insert(end);
    }

    pub(super) fn rejoin_end(&mut self, end: SocketAddr) {
        self.network.isolated_ends.remove(&end);
        self.resume();
    }

    /// What was held back goes on its way where it is free again.
    fn resume(&mut self) {
        let conns: Vec<Key<Conn>> = self.conns.iter().map(|(key, _)| key).collect();
        for key in conns {
            let Some(conn) = self.conns.get(key) else { continue };
            if self.network.blocks(conn.ends[0].address, conn.ends[1].address) {
                continue;
            }
            match conn.handshake {
                Handshake::RequestHeld => self.send_request(key),
                Handshake::AcknowledgementHeld => self.send_acknowledgement(key),
                _ => {}
            }
            for side in SIDES {
                self.resume_segments(key, side);
            }
        }
    }

    fn resume_segments(&mut self, key: Key<Conn>, to: usize) {
        let arrives = self.now() + self.latency(key);
        let Some(conn) = self.conns.get_mut(key) else { return };
        let pipe = &mut conn.ends[to].inbound;
        let arrives = arrives.max(pipe.last_arrival);
        let mut held = false;
        for (at, _) in pipe.segments.iter_mut().filter(|(at, _)| *at == Instant::MAX) {
            *at = arrives;
            held = true;
        }
        if held {
            pipe.last_arrival = arrives;
            self.schedule(arrives, Happening::Arrival(key, to));
        }
    }
}
