//! Sockets before and around a connection: listening, connecting, accepting, closing.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::time::Duration;

use crate::slots::Key;

use super::super::socket::OptionName;
use super::files::File;
use super::journal::Deed;
use super::machine::{Happening, Machine};
use super::network::{conflict, unspecified};
use super::object::Object;
use super::operations::Interest;
use super::options::Options;
use super::stream::{Conn, Handshake, Segment, Side, end_number};
use super::tape::Lane;
use super::unix::Name;

/// What kind of address a socket is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
    Unix,
}

impl Family {
    pub(super) fn of(address: SocketAddr) -> Family {
        if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }
}

pub(super) struct Listener {
    pub(super) address: SocketAddr,
    /// Of a Unix socket; the address means nothing then.
    pub(super) name: Option<Name>,
    /// Established connections that nobody has accepted.
    backlog: VecDeque<Key<Conn>>,
    most: usize,
    /// Connections for which the backlog has no room.
    outside: VecDeque<Key<Conn>>,
}

/// How long a client tries to connect: Linux gives up after about so long.
const PATIENCE: Duration = Duration::from_secs(130);

impl Listener {
    fn new(address: SocketAddr, name: Option<Name>, backlog: u32) -> Listener {
        Listener {
            address,
            name,
            backlog: VecDeque::new(),
            // Linux lets one more wait than it was told.
            most: backlog as usize + 1,
            outside: VecDeque::new(),
        }
    }

    /// Whether a connection waits to be accepted.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// A Unix socket.
    pub(super) fn local(name: Name, backlog: u32) -> Listener {
        Listener::new((Ipv4Addr::UNSPECIFIED, 0).into(), Some(name), backlog)
    }
}

impl Machine {
    /// A TCP socket for addresses of this family.
    pub(super) fn tcp_socket(&mut self, family: SocketAddr) -> Result<RawFd, i32> {
        if self.network.no_ipv6 && family.is_ipv6() {
            return Err(libc::EAFNOSUPPORT);
        }
        self.open_file(Object::fresh(family), Options::default(), "socket").map(|(fd, _)| fd)
    }

    /// bind(2).
    pub(super) fn bind(&mut self, file: Key<File>, address: SocketAddr) -> Result<(), i32> {
        let Some(Object::Fresh { family, bound: None, .. }) = self.object(file) else {
            return Err(libc::EINVAL);
        };
        match (*family == Family::Ipv4, address.is_ipv4()) {
            (true, false) => return Err(libc::EAFNOSUPPORT),
            (false, true) => return Err(libc::EINVAL),
            _ => {}
        }
        let no_port = OptionName { level: libc::IPPROTO_IP, name: libc::IP_BIND_ADDRESS_NO_PORT };
        let at_connect = self.files.table.get(file).is_some_and(|file| file.options.is_on(no_port));
        let address = if at_connect { address } else { self.network.complete(address)? };
        if address.port() != 0 {
            self.check_free(file, address)?;
        }
        if let Some(Object::Fresh { bound, .. }) = self.object(file) {
            *bound = Some(address);
        }
        Ok(())
    }

    /// Whether nobody listens there, or only those who share with this one.
    fn check_free(&self, file: Key<File>, address: SocketAddr) -> Result<(), i32> {
        let reuse_port = OptionName { level: libc::SOL_SOCKET, name: libc::SO_REUSEPORT };
        let shares = |key: &Key<File>| {
            self.files.table.get(*key).is_some_and(|file| file.options.is_on(reuse_port))
        };
        let taken = |(other, files): (&SocketAddr, &Vec<Key<File>>)| {
            conflict(*other, address) && !(shares(&file) && files.iter().all(shares))
        };
        match self.network.listeners.iter().any(taken) {
            true => Err(libc::EADDRINUSE),
            false => Ok(()),
        }
    }

    /// listen(2).
    pub(super) fn listen(&mut self, file: Key<File>, backlog: u32) -> Result<(), i32> {
        let Some(&mut Object::Fresh { family, bound, .. }) = self.object(file) else {
            return Err(libc::EINVAL);
        };
        let address = match bound {
            Some(address) => address,
            None => self.network.complete((unspecified(family == Family::Ipv4), 0).into())?,
        };
        self.check_free(file, address)?;
        let listener = Listener::new(address, None, backlog);
        if let Some(object) = self.object(file) {
            *object = Object::Listener(listener);
        }
        self.network.listeners.entry(address).or_default().push(file);
        Ok(())
    }

    fn listener(&mut self, file: Key<File>) -> Option<&mut Listener> {
        match self.object(file) {
            Some(Object::Listener(listener)) => Some(listener),
            _ => None,
        }
    }

    /// The connection of a file that has one.
    pub(super) fn stream_of(&mut self, file: Key<File>) -> Result<(Key<Conn>, Side), i32> {
        match self.object(file) {
            Some(Object::Stream { conn, side, .. }) => Ok((*conn, *side)),
            Some(Object::Connecting(_)) => Err(libc::EAGAIN),
            _ => Err(self.failure_of(file).unwrap_or(libc::ENOTCONN)),
        }
    }

    /// Why a connect has failed, if nobody has heard of it.
    pub(super) fn failure_of(&mut self, file: Key<File>) -> Option<i32> {
        match self.object(file) {
            Some(Object::Fresh { failed, .. }) => failed.take(),
            _ => None,
        }
    }

    /// What `SO_ERROR` says, once.
    pub(super) fn take_error(&mut self, file: Key<File>) -> Option<i32> {
        match *self.object(file)? {
            Object::Stream { conn, side, .. } => self.conns.get_mut(conn)?.take_error(side),
            _ => self.failure_of(file),
        }
    }

    /// Who is at the other end.
    pub(super) fn peer_of(&mut self, file: Key<File>) -> Result<SocketAddr, i32> {
        let (conn, side) = match self.object(file) {
            Some(&mut Object::Stream { conn, side, .. }) => (conn, side),
            Some(Object::Udp(socket)) => return socket.peer.ok_or(libc::ENOTCONN),
            _ => return Err(libc::ENOTCONN),
        };
        let alive = self.conns.get(conn).filter(|conn| !conn.is_over(side));
        alive.map(|conn| conn.ends[1 - side].address).ok_or(libc::ENOTCONN)
    }

    /// Begins to connect a fresh socket, from the address that is returned.
    pub(super) fn begin_connect(
        &mut self,
        file: Key<File>,
        to: SocketAddr,
    ) -> Result<SocketAddr, i32> {
        let Some(&mut Object::Fresh { family, bound, .. }) = self.object(file) else {
            return Err(libc::EINVAL);
        };
        if family != Family::of(to) {
            return Err(libc::EAFNOSUPPORT);
        }
        let mut to = to;
        match to.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => to.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => to.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        let from = self.network.source(bound, to.ip())?;
        let mut conn = Conn::new(from, to, self.capacities());
        conn.ends[0].file = Some(file);
        let conn = self.conns.insert(conn);
        if let Some(object) = self.object(file) {
            *object = Object::Connecting(conn);
        }
        self.send_request(conn);
        Ok(from)
    }

    /// Whether the way between the ends is cut; then the handshake stops here, and may time out.
    fn holds_handshake(&mut self, key: Key<Conn>, held: Handshake) -> bool {
        let Some(conn) = self.conns.get_mut(key) else { return true };
        let cut =
            conn.names.is_none() && self.network.blocks(conn.ends[0].address, conn.ends[1].address);
        if cut {
            conn.handshake = held;
            self.schedule_timeout(key);
        }
        cut
    }

    fn schedule_timeout(&mut self, key: Key<Conn>) {
        let at = self.now() + PATIENCE;
        self.schedule(at, Happening::Timeout(key));
    }

    /// Has something happen after the way through the network: at once if that takes no time.
    fn after_latency(
        &mut self,
        key: Key<Conn>,
        what: Happening,
        at_once: impl FnOnce(&mut Machine),
    ) {
        let latency = self.latency(key);
        if latency.is_zero() {
            at_once(self);
        } else {
            self.schedule(self.now() + latency, what);
        }
    }

    pub(super) fn send_request(&mut self, key: Key<Conn>) {
        if !self.holds_handshake(key, Handshake::RequestHeld) {
            self.set_handshake(key, Handshake::Requested);
            self.after_latency(key, Happening::Request(key), |me| me.request_arrives(key));
        }
    }

    fn set_handshake(&mut self, key: Key<Conn>, handshake: Handshake) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.handshake = handshake;
        }
    }

    /// A client knocks.
    pub(super) fn request_arrives(&mut self, key: Key<Conn>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let to = conn.ends[1].address;
        match self.find_listener(to) {
            Some(file) => self.knock(file, key),
            None => self.refuse(key),
        }
    }

    /// A connection comes to a listener.
    pub(super) fn knock(&mut self, file: Key<File>, key: Key<Conn>) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.listener = Some(file);
        }
        let Some(listener) = self.listener(file) else { return self.refuse(key) };
        if listener.backlog.len() >= listener.most {
            listener.outside.push_back(key);
            self.set_handshake(key, Handshake::Queued);
            if !self.is_local(key) {
                self.schedule_timeout(key);
            }
        } else {
            self.admit(file, key);
        }
    }

    /// Who listens there: at that very address, else at all; of several one, by chance.
    fn find_listener(&mut self, to: SocketAddr) -> Option<Key<File>> {
        let any = unspecified(to.is_ipv4());
        // A flow or a scope in an address does not concern the listener.
        let exact = SocketAddr::new(to.ip(), to.port());
        let listeners = &self.network.listeners;
        let files =
            listeners.get(&exact).or_else(|| listeners.get(&SocketAddr::new(any, to.port())))?;
        let which = self.tape.choose(Lane::Network, files.len() as u32);
        files.get(which as usize).copied()
    }

    /// The connection is established as far as the server is concerned.
    fn admit(&mut self, file: Key<File>, key: Key<Conn>) {
        let Some(listener) = self.listener(file) else { return };
        listener.backlog.push_back(key);
        if let Some(conn) = self.conns.get_mut(key) {
            conn.ends[1].gone = false;
        }
        self.wake(Some(file), Interest::Read);
        self.send_acknowledgement(key);
    }

    pub(super) fn send_acknowledgement(&mut self, key: Key<Conn>) {
        if !self.holds_handshake(key, Handshake::AcknowledgementHeld) {
            let at = self.now() + self.latency(key);
            if let Some(conn) = self.conns.get_mut(key) {
                conn.handshake = Handshake::Acknowledged;
                // What the server sends does not overtake it.
                conn.ends[0].inbound.last_arrival = at;
            }
            let what = Happening::Acknowledgement(key);
            self.after_latency(key, what, |me| me.acknowledgement_arrives(key));
        }
    }

    pub(super) fn acknowledgement_arrives(&mut self, key: Key<Conn>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.ends[0].gone || conn.is_established() {
            return;
        }
        conn.handshake = Handshake::Established;
        let port = conn.ends[0].address.port();
        let Some(file) = conn.ends[0].file else { return };
        if let Some(object) = self.object(file) {
            *object = Object::Stream { conn: key, side: 0, unreported: true };
        }
        self.record(Deed::Connect, "", end_number(key, 0), port.into());
        self.wake_both(Some(file));
    }

    fn refuse(&mut self, key: Key<Conn>) {
        self.after_latency(key, Happening::Refusal(key, libc::ECONNREFUSED), |me| {
            me.fail_connect(key, libc::ECONNREFUSED);
        });
    }

    pub(super) fn give_up_connect(&mut self, key: Key<Conn>) {
        if self.conns.get(key).is_some_and(|conn| !conn.is_established()) {
            self.fail_connect(key, libc::ETIMEDOUT);
        }
    }

    /// The client hears that there will be no connection.
    pub(super) fn fail_connect(&mut self, key: Key<Conn>, errno: i32) {
        self.leave_queue(key);
        let Some(conn) = self.conns.get_mut(key) else { return };
        let end = &mut conn.ends[0];
        // Not dead: if the server believes in the connection, what it sends is answered with a reset.
        end.gone = true;
        let address = end.address;
        let file = end.file.take();
        let family = if conn.names.is_some() { Family::Unix } else { Family::of(address) };
        self.record(Deed::Refuse, "", end_number(key, 0), -i64::from(errno));
        if let Some(object) = file.and_then(|file| self.object(file)) {
            *object = Object::Fresh { family, bound: None, failed: Some(errno) };
        }
        self.wake_both(file);
        self.free_connection(key);
    }

    /// It does not wait for room in a backlog any more.
    fn leave_queue(&mut self, key: Key<Conn>) {
        let file = self.conns.get(key).and_then(|conn| conn.listener);
        if let Some(listener) = file.and_then(|file| self.listener(file)) {
            listener.outside.retain(|waiting| *waiting != key);
        }
    }

    /// A reset has come to one side, or went out from both.
    pub(super) fn connection_broke(&mut self, key: Key<Conn>, side: Side) {
        let Some(conn) = self.conns.get(key) else { return };
        let file = conn.ends[side].file;
        if side == 0 && !conn.is_established() && !conn.ends[0].gone {
            self.fail_connect(key, libc::ECONNREFUSED);
        } else {
            self.wake_both(file);
        }
    }

    /// Takes a connection from the backlog; `None`: there is none.
    pub(super) fn accept(&mut self, file: Key<File>) -> Option<Result<RawFd, i32>> {
        let Some(listener) = self.listener(file) else { return Some(Err(libc::EINVAL)) };
        if listener.backlog.is_empty() {
            return None;
        }
        if let Err(errno) = self.check_descriptors() {
            return Some(Err(errno));
        }
        let listener = self.listener(file)?;
        let conn = listener.backlog.pop_front()?;
        let next = listener.outside.pop_front();
        let options = self.files.table.get(file)?.options.clone();
        let socket = Object::Stream { conn, side: 1, unreported: false };
        let opened = self.open_file(socket, options, "accepted");
        if let (Ok((_, accepted)), Some(conn)) = (&opened, self.conns.get_mut(conn)) {
            conn.ends[1].file = Some(*accepted);
        }
        if let Some(next) = next {
            self.admit(file, next);
        }
        Some(opened.map(|(fd, _)| fd))
    }

    /// shutdown(2).
    pub(super) fn shutdown(&mut self, file: Key<File>, how: i32) -> Result<(), i32> {
        if !(libc::SHUT_RD..=libc::SHUT_RDWR).contains(&how) {
            return Err(libc::EINVAL);
        }
        match *self.object(file).ok_or(libc::EBADF)? {
            Object::Fresh { .. } | Object::Udp(_) | Object::UnixDatagrams(_) => Err(libc::ENOTCONN),
            Object::Pipe { .. } | Object::Node(_) => Err(libc::ENOTSOCK),
            Object::Stream { conn, side, .. } => self.shut(conn, side, how),
            Object::Connecting(conn) => {
                let server_knows = self.conns.get(conn).is_some_and(|conn| !conn.ends[1].gone);
                if server_knows {
                    self.transmit(conn, 1, Segment::Reset);
                }
                self.fail_connect(conn, libc::ECONNRESET);
                Ok(())
            }
            Object::Listener(_) if how == libc::SHUT_WR => Ok(()),
            Object::Listener(Listener { address, ref name, .. }) => {
                let family = if name.is_some() { Family::Unix } else { Family::of(address) };
                let fresh = Object::Fresh { family, bound: None, failed: None };
                if let Some(object) = self.object(file) {
                    let listener = std::mem::replace(object, fresh);
                    self.end_object(file, listener, Options::default());
                }
                self.wake(Some(file), Interest::Read);
                Ok(())
            }
        }
    }

    /// Nobody listens any more: those who wait to be accepted are reset, and those who try are refused.
    pub(super) fn end_listener(&mut self, file: Key<File>, listener: Listener) {
        if let Some(name) = &listener.name {
            self.end_name(file, name);
        }
        if let Some(files) = self.network.listeners.get_mut(&listener.address) {
            files.retain(|other| *other != file);
            if files.is_empty() {
                self.network.listeners.remove(&listener.address);
            }
        }
        for conn in listener.backlog {
            self.end_side(conn, 1, Some(Duration::ZERO));
        }
        for conn in listener.outside {
            self.refuse(conn);
        }
    }

    /// Nobody has the client's end any more.
    pub(super) fn end_connecting(&mut self, conn: Key<Conn>) {
        self.leave_queue(conn);
        self.end_side(conn, 0, Some(Duration::ZERO));
    }
}
