//! Datagrams: sockets without a connection, and a network that promises nothing.
//!
//! A datagram takes the way that bytes of a connection take, but nothing keeps its order, a cut network
//! drops it, and so does a socket that has no room. Faults lose and double some.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

use crate::slots::Key;

use super::super::address::SockAddr;
use super::super::datagram::Membership;
use super::super::socket::OptionName;
use super::files::File;
use super::journal::Deed;
use super::machine::{Happening, Machine};
use super::network::{Network, conflict, source_for};
use super::object::Object;
use super::operations::{Interest, those};
use super::options::Options;
use super::rights::Rights;
use super::tape::Lane;

pub(super) struct UdpSocket {
    pub(super) local: SocketAddr,
    pub(super) peer: Option<SocketAddr>,
    queue: VecDeque<Datagram>,
    /// What the queue is taken to cost.
    queued: usize,
    /// What the network has answered to a former send.
    error: Option<i32>,
    groups: BTreeSet<(IpAddr, u32)>,
}

impl UdpSocket {
    /// What poll(2) finds.
    pub(super) fn events(&self) -> i16 {
        let error = self.error.is_some();
        let readable = error || !self.queue.is_empty();
        libc::POLLOUT | those([(libc::POLLIN, readable), (libc::POLLERR, error)])
    }
}

#[derive(Clone)]
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// What a receive of a datagram finds.
pub(super) struct Received {
    pub(super) from: SockAddr,
    pub(super) bytes: Vec<u8>,
    /// The length of each, if several were put together.
    pub(super) segment: Option<u16>,
    pub(super) rights: Rights,
}

/// A datagram on its way.
pub(super) struct Flight {
    sender: Key<File>,
    to: SocketAddr,
    datagram: Datagram,
}

/// What Linux keeps beside the bytes of each datagram that waits.
const OVERHEAD: usize = 768;

/// What UDP can carry: what is left of an internet packet behind the headers.
const MOST: [usize; 2] = [65_507, 65_527];

const BROADCAST: OptionName = OptionName { level: libc::SOL_SOCKET, name: libc::SO_BROADCAST };
const RECEIVE_BUFFER: OptionName = OptionName { level: libc::SOL_SOCKET, name: libc::SO_RCVBUF };
const SEGMENT: OptionName = OptionName { level: libc::SOL_UDP, name: libc::UDP_SEGMENT };
const COALESCE: OptionName = OptionName { level: libc::SOL_UDP, name: libc::UDP_GRO };
const LOOP: [OptionName; 2] = [
    OptionName { level: libc::IPPROTO_IP, name: libc::IP_MULTICAST_LOOP },
    OptionName { level: libc::IPPROTO_IPV6, name: libc::IPV6_MULTICAST_LOOP },
];

/// Parts that one send is cut into at most.
const MOST_SEGMENTS: usize = 64;

impl UdpSocket {
    fn new(local: SocketAddr) -> UdpSocket {
        UdpSocket {
            local,
            peer: None,
            queue: VecDeque::new(),
            queued: 0,
            error: None,
            groups: BTreeSet::new(),
        }
    }

    pub(super) fn change_membership(&mut self, membership: Membership) -> Result<(), i32> {
        let Membership { group, interface, joins } = membership;
        if !group.is_multicast() || group.is_ipv4() != self.local.is_ipv4() {
            return Err(libc::EINVAL);
        }
        let changes = match joins {
            true => self.groups.insert((group, interface)),
            false => self.groups.remove(&(group, interface)),
        };
        match changes {
            true => Ok(()),
            false => Err(if joins { libc::EADDRINUSE } else { libc::EADDRNOTAVAIL }),
        }
    }

    fn takes_from(&self, from: SocketAddr) -> bool {
        self.peer.is_none_or(|peer| peer == from)
    }
}

impl Network {
    /// Replaces port 0 by one that no UDP socket has.
    fn complete_udp(&mut self, address: SocketAddr) -> Result<SocketAddr, i32> {
        for _ in 0..=u16::MAX {
            let port = if address.port() == 0 { self.following_port() } else { address.port() };
            let whole = SocketAddr::new(address.ip(), port);
            if !self.udp.keys().any(|other| conflict(*other, whole)) {
                return Ok(whole);
            }
            if address.port() != 0 {
                break;
            }
        }
        Err(libc::EADDRINUSE)
    }
}

impl Machine {
    pub(super) fn udp_socket(&mut self, address: SocketAddr) -> Result<RawFd, i32> {
        self.check_descriptors()?;
        let local = self.network.complete_udp(address)?;
        let socket = Object::Udp(Box::new(UdpSocket::new(local)));
        let (fd, file) = self.open_file(socket, Options::of_datagrams(), "udp")?;
        self.network.udp.insert(local, file);
        Ok(fd)
    }

    /// The UDP socket that a file is.
    pub(super) fn udp_of(&mut self, file: Key<File>) -> Result<&mut UdpSocket, i32> {
        match self.files.table.get_mut(file).map(|file| &mut file.object) {
            Some(Object::Udp(socket)) => Ok(socket),
            _ => Err(libc::ENOTSOCK),
        }
    }

    pub(super) fn is_for_datagrams(&self, file: Key<File>) -> bool {
        let object = self.files.table.get(file).map(|file| &file.object);
        matches!(object, Some(Object::Udp(_) | Object::UnixDatagrams(_)))
    }

    fn udp_option(&self, file: Key<File>, name: OptionName) -> usize {
        let options = self.files.table.get(file).map(|file| &file.options);
        options.map_or(0, |options| options.get(name).as_number().unsigned_abs() as usize)
    }

    pub(super) fn udp_connect(&mut self, file: Key<File>, to: SocketAddr) -> Result<(), i32> {
        let socket = self.udp_of(file)?;
        if socket.local.is_ipv4() != to.is_ipv4() {
            return Err(libc::EAFNOSUPPORT);
        }
        let to = meant(to);
        socket.peer = Some(to);
        // From now on it has one address.
        if socket.local.ip().is_unspecified() {
            let before = socket.local;
            socket.local.set_ip(source_for(to.ip()));
            let now = socket.local;
            self.network.udp.remove(&before);
            self.network.udp.insert(now, file);
        }
        Ok(())
    }

    pub(super) fn end_udp(&mut self, file: Key<File>, socket: &UdpSocket) {
        if self.network.udp.get(&socket.local) == Some(&file) {
            self.network.udp.remove(&socket.local);
        }
    }

    /// sendmsg(2); `None`: there is no room.
    pub(super) fn send_message(
        &mut self,
        file: Key<File>,
        to: Option<SockAddr>,
        bytes: &[u8],
        rights: Rights,
    ) -> Option<Result<usize, i32>> {
        if let Some(&mut Object::Stream { conn, side, .. }) = self.object(file) {
            let sent = self.send(conn, side, bytes);
            match sent {
                Some(Ok(count)) if count > 0 => self.enclose(conn, 1 - side, count, rights),
                _ => self.release_rights(rights),
            }
            return sent;
        }
        if self.unix_of(file).is_ok() {
            if to.as_ref().is_some_and(|to| !to.is_unix()) {
                self.release_rights(rights);
                return Some(Err(libc::EINVAL));
            }
            return self.send_unix(file, to.as_ref().map(SockAddr::unix_name), bytes, rights);
        }
        // The network passes none on.
        self.release_rights(rights);
        Some(match to.map(SocketAddr::try_from).transpose() {
            Ok(to) => self.send_datagram(file, to, bytes),
            Err(_) => Err(libc::EAFNOSUPPORT),
        })
    }

    /// recvmsg(2) on a socket for datagrams: who has sent what. `None`: there is nothing.
    pub(super) fn receive_message(&mut self, file: Key<File>) -> Option<Result<Received, i32>> {
        if self.unix_of(file).is_ok() {
            return self.receive_unix(file).map(Ok);
        }
        let Datagram { from, mut bytes } = match self.receive_datagram(file)? {
            Ok(received) => received,
            Err(errno) => return Some(Err(errno)),
        };
        let coalesces = self.udp_option(file, COALESCE) != 0;
        let segment = if coalesces { self.coalesce(file, from, &mut bytes) } else { None };
        Some(Ok(Received { from: from.into(), bytes, segment, rights: Rights::new() }))
    }

    /// Puts those behind a datagram to it that have the same length and are from the same sender; the last one
    /// may be shorter. Linux does it with what comes at one time, here with what waits.
    fn coalesce(&mut self, file: Key<File>, from: SocketAddr, bytes: &mut Vec<u8>) -> Option<u16> {
        let size = bytes.len();
        let fits = |next: &Datagram, before: usize| {
            let len = next.bytes.len();
            next.from == from && (1..=size).contains(&len) && before + len <= MOST[0]
        };
        while bytes.len() % size.max(1) == 0 {
            let socket = self.udp_of(file).ok()?;
            let Some(_) = socket.queue.front().filter(|next| fits(next, bytes.len())) else {
                break;
            };
            let Some(Ok(next)) = self.receive_datagram(file) else { break };
            bytes.extend(next.bytes);
        }
        (bytes.len() > size).then_some(size as u16)
    }

    /// Sends a datagram, or several if it is to be cut.
    pub(super) fn send_datagram(
        &mut self,
        sender: Key<File>,
        to: Option<SocketAddr>,
        bytes: &[u8],
    ) -> Result<usize, i32> {
        let socket = self.udp_of(sender)?;
        if let Some(errno) = socket.error.take() {
            return Err(errno);
        }
        let to = meant(to.or(socket.peer).ok_or(libc::EDESTADDRREQ)?);
        let is_ipv4 = socket.local.is_ipv4();
        if is_ipv4 != to.is_ipv4() {
            return Err(if is_ipv4 { libc::EAFNOSUPPORT } else { libc::ENETUNREACH });
        }
        if to.port() == 0 {
            return Err(libc::EINVAL);
        }
        if bytes.len() > MOST[usize::from(!is_ipv4)] {
            return Err(libc::EMSGSIZE);
        }
        let mut from = socket.local;
        if is_broadcast(to.ip()) && self.udp_option(sender, BROADCAST) == 0 {
            return Err(libc::EACCES);
        }
        let segment = match self.udp_option(sender, SEGMENT) {
            0 => bytes.len().max(1),
            size => size,
        };
        if bytes.len().div_ceil(segment) > MOST_SEGMENTS {
            return Err(libc::EINVAL);
        }
        if from.ip().is_unspecified() {
            from.set_ip(source_for(to.ip()));
        }
        // Everybody is on this machine, where it does not come back to.
        let heard =
            !to.ip().is_multicast() || self.udp_option(sender, LOOP[usize::from(!is_ipv4)]) != 0;
        self.record(Deed::Datagram, "sent from", from.port().into(), bytes.len() as i64);
        if heard && bytes.is_empty() {
            self.launch(sender, from, to, bytes);
        } else if heard {
            bytes.chunks(segment).for_each(|part| self.launch(sender, from, to, part));
        }
        Ok(bytes.len())
    }

    fn launch(&mut self, sender: Key<File>, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let len = bytes.len() as i64;
        if self.network.blocks(from, to) || self.happens(Lane::Network, self.faults.lose) {
            return self.record(Deed::Datagram, "lost on its way to", to.port().into(), len);
        }
        let copies = 1 + u8::from(self.happens(Lane::Network, self.faults.duplicate));
        for _ in 0..copies {
            let mut takes = self.network.latency_between([from, to]);
            if self.happens(Lane::Network, self.faults.delay) {
                takes += self.short_time(Lane::Network);
            }
            let flight = Flight { sender, to, datagram: Datagram { from, bytes: bytes.to_vec() } };
            if takes.is_zero() {
                self.land(flight);
            } else {
                let key = self.network.flights.insert(flight);
                self.schedule(self.now() + takes, Happening::Datagram(key));
            }
        }
    }

    pub(super) fn datagram_arrives(&mut self, key: Key<Flight>) {
        if let Some(flight) = self.network.flights.remove(key) {
            self.land(flight);
        }
    }

    fn land(&mut self, flight: Flight) {
        let Flight { sender, to, datagram } = flight;
        let len = datagram.bytes.len() as i64;
        self.record(Deed::Datagram, "arrives at", to.port().into(), len);
        let receivers = self.receivers(to, datagram.from);
        if receivers.is_empty() && !to.ip().is_multicast() && !is_broadcast(to.ip()) {
            return self.answer_unreachable(sender, to);
        }
        for file in receivers {
            let room = self.udp_option(file, RECEIVE_BUFFER);
            let Ok(socket) = self.udp_of(file) else { continue };
            if socket.queued < room {
                socket.queued += datagram.bytes.len() + OVERHEAD;
                socket.queue.push_back(datagram.clone());
                self.wake(Some(file), Interest::Read);
            }
        }
    }

    /// Nobody is there: only a socket that is connected hears of it.
    fn answer_unreachable(&mut self, sender: Key<File>, to: SocketAddr) {
        let Ok(socket) = self.udp_of(sender) else { return };
        if socket.peer == Some(to) {
            socket.error = Some(libc::ECONNREFUSED);
            self.wake_both(Some(sender));
        }
    }

    /// Who gets what is sent there: the one who has that very address, else who has all; of what is for many,
    /// everybody.
    fn receivers(&mut self, to: SocketAddr, from: SocketAddr) -> Vec<Key<File>> {
        let any: IpAddr = match to.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let exact = self.network.udp.get(&SocketAddr::new(to.ip(), to.port())).copied();
        let wide = self.network.udp.get(&SocketAddr::new(any, to.port())).copied();
        let mut files: Vec<_> = exact.into_iter().chain(wide).collect();
        files.retain(|file| self.udp_of(*file).is_ok_and(|socket| socket.takes_from(from)));
        if to.ip().is_multicast() {
            let joined = |file: &File| match &file.object {
                Object::Udp(socket) => socket.groups.iter().any(|(group, _)| *group == to.ip()),
                _ => false,
            };
            // That one of the machine has joined is enough.
            if !self.files.table.iter().any(|(_, file)| joined(file)) {
                files.clear();
            }
        } else if !is_broadcast(to.ip()) {
            files.truncate(1);
        }
        files
    }

    /// Takes what has arrived; `None`: nothing has. An answer of the network comes first, once.
    pub(super) fn receive_datagram(&mut self, file: Key<File>) -> Option<Result<Datagram, i32>> {
        let socket = match self.udp_of(file) {
            Ok(socket) => socket,
            Err(errno) => return Some(Err(errno)),
        };
        if let Some(errno) = socket.error.take() {
            return Some(Err(errno));
        }
        let datagram = socket.queue.pop_front()?;
        socket.queued -= datagram.bytes.len() + OVERHEAD;
        let (port, len) = (socket.local.port(), datagram.bytes.len() as i64);
        self.record(Deed::Datagram, "received at", port.into(), len);
        Some(Ok(datagram))
    }
}

fn is_broadcast(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// The unspecified address means this machine.
fn meant(mut to: SocketAddr) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => to.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => to.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    to
}
