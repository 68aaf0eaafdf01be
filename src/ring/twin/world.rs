//! A world: its descriptors, its network, its choices, and what the oracles have seen in it.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::VirtualClock;

use super::super::address::SockAddr;
use super::super::datagram::Membership;
use super::super::kinds::FdKind;
use super::super::socket::{OptionName, OptionValue};
use super::super::unix::{FileId, PeerIds, UnixKind};
use super::faults::Faults;
use super::machine::Machine;
use super::object::Object;
use super::pipe::PipeEnd;
use super::stream::CAPACITY;
use super::stream::{Conn, Side};
use super::tape::{Lane, Tape};
use super::tcp::{Family, Listener};

/// What the rings of a test share, and what outlives them.
pub(crate) struct World {
    machine: RefCell<Machine>,
}

/// What there is in a world at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Census {
    /// Descriptors that are open.
    pub descriptors: usize,
    /// Operations that were pushed and have not had their terminal completion.
    pub in_flight: usize,
    /// Connections, also those in backlogs.
    pub connections: usize,
    /// Bytes that were sent and not received: in buffers or on the way.
    pub bytes: usize,
    /// Pool buffers that a completion has named and that were not provided again.
    pub buffers_out: usize,
    /// Operations that were ever submitted.
    pub submitted: u64,
    /// Those of them that have ended.
    pub completed: u64,
}

impl World {
    /// A world with nothing in it. `faults` says what may go wrong; what does is up to the tape.
    pub(crate) fn new(clock: Rc<VirtualClock>, tape: Tape, faults: Faults) -> Rc<World> {
        Rc::new(World { machine: RefCell::new(Machine::new(clock, tape, faults)) })
    }

    /// Nobody else's code runs while it is borrowed.
    pub(super) fn machine(&self) -> RefMut<'_, Machine> {
        self.machine.borrow_mut()
    }

    // What the machine answers at once, as `Host` does.

    /// A TCP socket for addresses of this family.
    pub(crate) fn tcp_socket(&self, family: SocketAddr) -> io::Result<RawFd> {
        self.machine().tcp_socket(family).map_err(error)
    }

    pub(crate) fn bind(&self, fd: RawFd, address: SocketAddr) -> io::Result<()> {
        let machine = &mut *self.machine();
        let file = machine.file_of(fd, "bind").map_err(error)?;
        machine.bind(file, address).map_err(error)
    }

    pub(crate) fn listen(&self, fd: RawFd, backlog: u32) -> io::Result<()> {
        let machine = &mut *self.machine();
        let file = machine.file_of(fd, "listen").map_err(error)?;
        machine.listen(file, backlog).map_err(error)
    }

    /// Pipes are as wide as they are here.
    pub(crate) fn widen_pipe(&self, _fd: RawFd, _bytes: u32) -> u32 {
        CAPACITY as u32
    }

    pub(crate) fn widest_pipe(&self) -> u32 {
        CAPACITY as u32
    }

    /// How many bytes a read would find.
    pub(crate) fn unread(&self, fd: RawFd) -> u32 {
        self.machine().unread(fd) as u32
    }

    /// Takes bytes out of a pipe.
    pub(crate) fn drain(&self, fd: RawFd, len: usize) -> io::Result<Vec<u8>> {
        let machine = &mut *self.machine();
        let file = machine.files.find(fd).and_then(|file| machine.object(file));
        let Some(&mut Object::Pipe { pipe, .. }) = file else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        let bytes = machine.peek_pipe(pipe, len);
        machine.drain_pipe(pipe, bytes.len());
        match bytes.len() == len {
            true => Ok(bytes),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The two ends of a pipe: what is read, and what is written to.
    pub(crate) fn pipe(&self) -> io::Result<(RawFd, RawFd)> {
        self.machine().pipe().map_err(error)
    }

    /// Standard input, which is at its end, or output and error, which take everything.
    pub(crate) fn standard(&self, number: RawFd) -> io::Result<RawFd> {
        let end = if number == libc::STDIN_FILENO { PipeEnd::Reader } else { PipeEnd::Writer };
        self.machine().pipe_outside(end).map_err(error)
    }

    /// A UDP socket that is bound to `address`.
    pub(crate) fn udp_socket(&self, address: SocketAddr) -> io::Result<RawFd> {
        self.machine().udp_socket(address).map_err(error)
    }

    /// Says who the only peer is from now on.
    pub(crate) fn udp_connect(&self, fd: RawFd, peer: SocketAddr) -> io::Result<()> {
        let machine = &mut *self.machine();
        let key = machine.file_of(fd, "connect").map_err(error)?;
        machine.udp_connect(key, peer).map_err(error)
    }

    pub(crate) fn change_membership(&self, fd: RawFd, membership: Membership) -> io::Result<()> {
        let machine = &mut *self.machine();
        let key = machine.file_of(fd, "setsockopt").map_err(error)?;
        let socket = machine.udp_of(key).map_err(error)?;
        socket.change_membership(membership).map_err(error)
    }

    /// A Unix socket without a name.
    pub(crate) fn unix_socket(&self, kind: UnixKind) -> io::Result<RawFd> {
        self.machine().unix_socket(kind).map_err(error)
    }

    /// Two Unix sockets that are connected to each other.
    pub(crate) fn unix_pair(&self, kind: UnixKind) -> io::Result<(RawFd, RawFd)> {
        self.machine().unix_pair(kind).map_err(error)
    }

    /// A Unix socket that listens under this name.
    pub(crate) fn unix_listen(&self, name: &SockAddr, backlog: u32) -> io::Result<RawFd> {
        self.machine().unix_listen(name, backlog).map_err(error)
    }

    /// A Unix socket for datagrams that has this name.
    pub(crate) fn unix_bound(&self, name: &SockAddr) -> io::Result<RawFd> {
        self.machine().unix_bound(name).map_err(error)
    }

    /// Says who the only peer of a Unix socket for datagrams is from now on.
    pub(crate) fn unix_connect(&self, fd: RawFd, name: &SockAddr) -> io::Result<()> {
        let machine = &mut *self.machine();
        let key = machine.file_of(fd, "connect").map_err(error)?;
        machine.unix_connect(key, name.unix_name()).map_err(error)
    }

    pub(crate) fn local_name(&self, fd: RawFd) -> io::Result<SockAddr> {
        let machine = &mut *self.machine();
        let key = machine.file_of(fd, "getsockname").map_err(error)?;
        Ok(machine.local_name(key))
    }

    pub(crate) fn peer_name(&self, fd: RawFd) -> io::Result<SockAddr> {
        let machine = &mut *self.machine();
        let key = machine.file_of(fd, "getpeername").map_err(error)?;
        machine.peer_name(key).map_err(error)
    }

    /// Both ends of everything are in this process, which belongs to somebody.
    pub(crate) fn peer_ids(&self, fd: RawFd) -> io::Result<PeerIds> {
        self.peer_name(fd)?;
        Ok(PeerIds { process: std::process::id() as i32, user: 1000, group: 1000 })
    }

    /// Which file has this name.
    pub(crate) fn file_id(&self, path: &Path) -> io::Result<FileId> {
        self.machine().unix_file_id(path.as_os_str().as_bytes()).map_err(error)
    }

    /// Takes a name away.
    pub(crate) fn unlink(&self, path: &Path) -> io::Result<()> {
        self.machine().unix_unlink(path.as_os_str().as_bytes()).map_err(error)
    }

    pub(crate) fn local_addr(&self, fd: RawFd) -> io::Result<SocketAddr> {
        let machine = &mut *self.machine();
        let key = machine.file_of(fd, "getsockname").map_err(error)?;
        let file = machine.files.table.get(key).ok_or_else(|| error(libc::EBADF))?;
        // A socket keeps its connection for as long as it lives.
        let address = |conn, side: Side| match machine.conns.get(conn) {
            Some(Conn { ends, .. }) => ends[side].address,
            None => ([0, 0, 0, 0], 0).into(),
        };
        Ok(file.object.local_addr(address))
    }

    pub(crate) fn peer_addr(&self, fd: RawFd) -> io::Result<SocketAddr> {
        let machine = &mut *self.machine();
        let key = machine.file_of(fd, "getpeername").map_err(error)?;
        machine.peer_of(key).map_err(error)
    }

    /// connect(2) to nobody.
    pub(crate) fn disconnect(&self, fd: RawFd) -> io::Result<()> {
        let machine = &mut *self.machine();
        let file = machine.file_of(fd, "disconnect").map_err(error)?;
        let (conn, _) = machine.stream_of(file).map_err(error)?;
        machine.break_connection(conn);
        Ok(())
    }

    pub(crate) fn option(&self, fd: RawFd, of: OptionName) -> io::Result<OptionValue> {
        self.check_family(fd, of, libc::EOPNOTSUPP)?;
        let machine = &mut *self.machine();
        let key = machine.file_of(fd, "getsockopt").map_err(error)?;
        if of == ERROR {
            let pending = machine.take_error(key);
            return Ok(OptionValue::number(pending.unwrap_or(0)));
        }
        let file = machine.files.table.get(key).ok_or_else(|| error(libc::EBADF))?;
        Ok(file.options.get(of))
    }

    pub(crate) fn set_option(
        &self,
        fd: RawFd,
        of: OptionName,
        value: OptionValue,
    ) -> io::Result<()> {
        self.check_family(fd, of, libc::ENOPROTOOPT)?;
        let machine = &mut *self.machine();
        let key = machine.file_of(fd, "setsockopt").map_err(error)?;
        let file = machine.files.table.get_mut(key).ok_or_else(|| error(libc::EBADF))?;
        file.options.set(of, value).map_err(error)
    }

    /// Options of IPv6 are refused on a socket of IPv4, and all of the internet on a Unix socket.
    fn check_family(&self, fd: RawFd, of: OptionName, errno: i32) -> io::Result<()> {
        if of.level != libc::SOL_SOCKET && self.is_unix(fd)? {
            return Err(error(libc::EOPNOTSUPP));
        }
        let refused = of.level == libc::IPPROTO_IPV6 && self.local_addr(fd)?.is_ipv4();
        if refused { Err(error(errno)) } else { Ok(()) }
    }

    fn is_unix(&self, fd: RawFd) -> io::Result<bool> {
        let machine = &mut *self.machine();
        let file = machine.file_of(fd, "getsockopt").map_err(error)?;
        Ok(match machine.object(file) {
            Some(Object::UnixDatagrams(_) | Object::Listener(Listener { name: Some(_), .. })) => {
                true
            }
            Some(&mut (Object::Stream { conn, .. } | Object::Connecting(conn))) => {
                machine.is_local(conn)
            }
            Some(Object::Fresh { family, .. }) => *family == Family::Unix,
            _ => false,
        })
    }

    /// Whether a descriptor is of this kind.
    pub(crate) fn is_a(&self, fd: RawFd, kind: FdKind) -> io::Result<bool> {
        let machine = &mut *self.machine();
        let file = machine.file_of(fd, "fstat").map_err(error)?;
        Ok(match machine.object(file) {
            Some(Object::Listener(Listener { name, .. })) => match name {
                Some(_) => kind == FdKind::UnixListener,
                None => kind == FdKind::TcpListener,
            },
            Some(&mut Object::Stream { conn, .. }) => match machine.is_local(conn) {
                true => kind == FdKind::UnixStream,
                false => kind == FdKind::TcpStream,
            },
            Some(Object::Udp(_)) => kind == FdKind::UdpSocket,
            Some(Object::UnixDatagrams(_)) => kind == FdKind::UnixDatagram,
            Some(Object::Pipe { end: PipeEnd::Reader, .. }) => kind == FdKind::PipeReader,
            Some(Object::Pipe { end: PipeEnd::Writer, .. }) => kind == FdKind::PipeWriter,
            Some(Object::Node(_)) => kind == FdKind::File,
            Some(Object::Fresh { .. } | Object::Connecting(_)) | None => false,
        })
    }

    /// Whether what is written through a descriptor goes to the end of its file.
    pub(crate) fn appends(&self, fd: RawFd) -> io::Result<bool> {
        let machine = &mut *self.machine();
        let file = machine.file_of(fd, "fcntl").map_err(error)?;
        Ok(matches!(machine.object(file), Some(Object::Node(open)) if open.appends))
    }

    /// dup(2).
    pub(crate) fn duplicate(&self, fd: RawFd) -> io::Result<RawFd> {
        self.machine().duplicate(fd).map_err(error)
    }

    /// close(2). The number is free afterwards.
    pub(crate) fn close(&self, fd: RawFd) {
        // What is wrong with it is a violation, which is kept; there is nobody else to tell.
        let _ = self.machine().close_number(fd);
    }

    /// The addresses of a name.
    pub(crate) fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self.machine().network.addresses(host) {
            Some(ips) => Ok(ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect()),
            None => Err(io::Error::other(
                "failed to lookup address information: Name or service not known",
            )),
        }
    }

    /// Has a name stand for one more address.
    pub(crate) fn add_name(&self, name: &str, ip: IpAddr) {
        self.machine().network.add_name(name, ip);
    }

    /// At most so many descriptors may be open; one more is refused with `EMFILE`.
    pub(crate) fn limit_descriptors(&self, most: usize) {
        self.machine().files.limit(most);
    }

    /// The kernel knows multishots, or refuses them.
    pub(crate) fn refuse_multishots(&self, refuse: bool) {
        self.machine().no_multishots = refuse;
    }

    /// The kernel sends without a copy, or refuses to.
    pub(crate) fn refuse_zero_copy(&self, refuse: bool) {
        self.machine().no_zero_copy = refuse;
    }

    /// The kernel moves bytes through pipes by itself, or refuses to.
    pub(crate) fn refuse_splice(&self, refuse: bool) {
        self.machine().no_splice = refuse;
    }

    /// So many bytes of memory may be registered; more is refused with `ENOMEM`.
    pub(crate) fn limit_locked_memory(&self, most: usize) {
        self.machine().most_locked_memory = most;
    }

    /// Rings opened from now on are refused with this error number (`ENOSYS`, `EPERM`, `ENOMEM`).
    pub(crate) fn refuse_rings(&self, errno: Option<i32>) {
        self.machine().setup_refusal = errno;
    }

    // The network.

    /// How long the way from one end to the other takes, for what is sent from now on.
    pub(crate) fn set_latency(&self, latency: Duration) {
        self.machine().network.latency = latency;
    }

    /// The same for what goes to or from this address.
    pub(crate) fn set_latency_of(&self, ip: IpAddr, latency: Duration) {
        self.machine().network.latencies.insert(ip, latency);
    }

    /// The machine has IPv6, or has not: then there are no sockets for it (`EAFNOSUPPORT`).
    pub(crate) fn refuse_ipv6(&self, refuse: bool) {
        self.machine().network.no_ipv6 = refuse;
    }

    /// Cuts the way between two addresses, which may be one and the same. What is sent meanwhile is held
    /// back; a connect hangs.
    pub(crate) fn partition(&self, a: IpAddr, b: IpAddr) {
        self.machine().partition(a, b);
    }

    /// What was held back is delivered.
    pub(crate) fn heal(&self, a: IpAddr, b: IpAddr) {
        self.machine().heal(a, b);
    }

    /// Cuts everything off that has this very address at one end: a connection, or all of a listener.
    pub(crate) fn isolate(&self, end: SocketAddr) {
        self.machine().isolate_end(end);
    }

    pub(crate) fn rejoin(&self, end: SocketAddr) {
        self.machine().rejoin_end(end);
    }

    /// Cuts an address off from all others.
    pub(crate) fn isolate_ip(&self, ip: IpAddr) {
        self.machine().isolate(ip);
    }

    pub(crate) fn rejoin_ip(&self, ip: IpAddr) {
        self.machine().rejoin(ip);
    }

    /// Resets the connections with this local address, on both sides.
    pub(crate) fn reset(&self, end: SocketAddr) {
        let machine = &mut *self.machine();
        let has = |conn: &Conn| conn.ends.iter().any(|side| side.address == end && !side.gone);
        let keys: Vec<_> =
            machine.conns.iter().filter(|(_, conn)| has(conn)).map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| machine.break_connection(key));
    }

    // The disk.

    pub(crate) fn set_disk_latency(&self, latency: Duration) {
        self.machine().disk.latency = latency;
    }

    /// So many bytes of files fit in all.
    pub(crate) fn set_disk_room(&self, bytes: u64) {
        self.machine().disk.files.limit(bytes);
    }

    /// Reads, writes and syncs of files fail with this error number, or not any more.
    pub(crate) fn break_disk(&self, errno: Option<i32>) {
        self.machine().disk.failure = errno;
    }

    // Choices and checks.

    /// One of `options`; 0 where the tape is tame.
    pub(crate) fn choose(&self, lane: Lane, options: u32) -> u32 {
        self.machine().tape.choose(lane, options)
    }

    /// The choices so far: a tape that leads here again.
    pub(crate) fn tape(&self) -> Tape {
        self.machine().tape.recorded()
    }

    /// What the oracles complained about, in order.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.machine().violations.clone()
    }

    /// At the end of a test: the same, and what was left behind.
    pub(crate) fn finish(&self) -> Vec<String> {
        let mut complaints = self.violations();
        let machine = &*self.machine();
        for (fd, file) in machine.files.iter() {
            let address = |conn, side: Side| match machine.conns.get(conn) {
                Some(Conn { ends, .. }) => ends[side].address,
                None => ([0, 0, 0, 0], 0).into(),
            };
            let at = file.object.local_addr(address);
            let what = match file.object {
                Object::Fresh { .. } => "a socket that is not connected".to_owned(),
                Object::Listener(Listener { name: Some(_), .. }) => "a Unix listener".to_owned(),
                Object::UnixDatagrams(_) => "a Unix socket for datagrams".to_owned(),
                Object::Udp(_) => format!("the UDP socket at {at}"),
                Object::Listener(_) => format!("the listener at {at}"),
                Object::Connecting(_) => format!("a socket that connects from {at}"),
                Object::Stream { side: 0, .. } => format!("a connection made from {at}"),
                Object::Stream { .. } => format!("a connection accepted at {at}"),
                Object::Pipe { .. } => "an end of a pipe".to_owned(),
                Object::Node(_) => "a file".to_owned(),
            };
            complaints.push(format!("descriptor {fd} is still open: {what}"));
        }
        for (_, ring) in machine.rings.iter() {
            let operations = ring.in_flight();
            complaints
                .push(format!("a ring is still open, with {operations} operations in flight"));
        }
        for (_, conn) in machine.conns.iter() {
            complaints.extend(conn.check().err());
        }
        complaints
    }

    /// Of all that has happened: two runs of the same program on the same tape have the same.
    pub(crate) fn trace_hash(&self) -> u64 {
        self.machine().journal.hash()
    }

    /// The last events, one a line.
    pub(crate) fn timeline(&self) -> String {
        self.machine().journal.timeline()
    }

    /// A line of the program's own in the timeline, and in the hash.
    pub(crate) fn note(&self, text: String) {
        let machine = &mut *self.machine();
        let now = machine.now();
        machine.journal.note(now, text);
    }

    pub(crate) fn census(&self) -> Census {
        let machine = self.machine();
        let rings = || machine.rings.iter().map(|(_, ring)| ring);
        Census {
            descriptors: machine.files.open(),
            in_flight: rings().map(|ring| ring.in_flight()).sum(),
            connections: machine.conns.len(),
            bytes: machine.conns.iter().map(|(_, conn)| conn.bytes()).sum::<usize>()
                + machine.pipes.iter().map(|(_, pipe)| pipe.bytes()).sum::<usize>(),
            buffers_out: rings().flat_map(|ring| &ring.groups).map(|group| group.picked()).sum(),
            submitted: machine.submitted,
            completed: machine.completed,
        }
    }
}

/// Why a connection or a connect failed, if nobody has heard of it.
const ERROR: OptionName = OptionName { level: libc::SOL_SOCKET, name: libc::SO_ERROR };

pub(super) fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("census", &self.census()).finish_non_exhaustive()
    }
}
