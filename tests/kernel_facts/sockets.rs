//! Sockets to try the operations on, and what they still hold afterwards.

use std::fmt;
use std::io::{self, Error};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::world::{MODES, Mode};

/// Milliseconds a test waits at most for what normally is there at once.
const PATIENCE: i32 = 1000;

/// Who delivers to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The sender, before its system call returns.
    Unix,
    /// A softirq, soon.
    Tcp,
}

pub const FAMILIES: [Family; 2] = [Family::Unix, Family::Tcp];

/// Every mode with every family.
pub fn everywhere() -> impl Iterator<Item = (Mode, Family)> {
    MODES.into_iter().flat_map(|mode| FAMILIES.map(|family| (mode, family)))
}

impl Family {
    /// Two connected stream sockets.
    pub fn pair(self) -> (OwnedFd, OwnedFd) {
        let door = Door::new(self);
        let near = door.knock();
        assert!(has_arrived(&door));
        let far = door.backlog().expect("the connection just made");
        (near, far)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Unix => "unix",
            Family::Tcp => "tcp",
        })
    }
}

/// A listening socket and the address to reach it by.
pub enum Door {
    Unix(UnixListener, SocketAddr),
    Tcp(TcpListener, SocketAddrV4),
}

impl Door {
    pub fn new(family: Family) -> Door {
        match family {
            Family::Unix => Door::unix().expect("an abstract name nobody else has"),
            Family::Tcp => Door::tcp(Ipv4Addr::LOCALHOST, 0).expect("a free loopback port"),
        }
    }

    pub fn tcp(address: Ipv4Addr, port: u16) -> io::Result<Door> {
        let listener = TcpListener::bind((address, port))?;
        let port = listener.local_addr()?.port();
        Ok(Door::Tcp(listener, SocketAddrV4::new(address, port)))
    }

    fn unix() -> io::Result<Door> {
        static DOORS: AtomicU32 = AtomicU32::new(0);
        let door = DOORS.fetch_add(1, Ordering::Relaxed);
        let name = format!("trine-kernel-facts-{}-{door}", std::process::id());
        let address = SocketAddr::from_abstract_name(name)?;
        Ok(Door::Unix(UnixListener::bind_addr(&address)?, address))
    }

    /// Connects. Over TCP the connection may reach the backlog a moment later.
    pub fn knock(&self) -> OwnedFd {
        match self {
            Door::Unix(_, address) => UnixStream::connect_addr(address).expect("connect").into(),
            Door::Tcp(_, address) => TcpStream::connect(address).expect("connect").into(),
        }
    }

    /// The port of a TCP door.
    pub fn port(&self) -> u16 {
        match self {
            Door::Unix(..) => panic!("a unix door has no port"),
            Door::Tcp(_, address) => address.port(),
        }
    }

    /// The connection waiting in the backlog, if there is one.
    pub fn backlog(&self) -> Option<OwnedFd> {
        if !is_readable(self, 0) {
            return None;
        }
        Some(match self {
            Door::Unix(listener, _) => listener.accept().expect("accept").0.into(),
            Door::Tcp(listener, _) => listener.accept().expect("accept").0.into(),
        })
    }
}

impl From<Door> for OwnedFd {
    fn from(door: Door) -> OwnedFd {
        match door {
            Door::Unix(listener, _) => listener.into(),
            Door::Tcp(listener, _) => listener.into(),
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Door::Unix(listener, _) => listener.as_fd(),
            Door::Tcp(listener, _) => listener.as_fd(),
        }
    }
}

/// Two connected sockets that keep the bounds of what is sent (and block, where datagrams over
/// `AF_UNIX` allow only ten at a time).
pub fn packet_pair() -> (OwnedFd, OwnedFd) {
    let mut pair = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `pair` has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) });
    // SAFETY: both are new and ours.
    unsafe { (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1])) }
}

/// Two connected UDP sockets; what is sent has arrived when the sender's system call returns.
pub fn udp_pair() -> (UdpSocket, UdpSocket) {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    let (near, far) = (bind(), bind());
    near.connect(far.local_addr().expect("bound")).expect("connect");
    far.connect(near.local_addr().expect("bound")).expect("connect");
    (near, far)
}

/// The reading and the writing end of a pipe.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) });
    // SAFETY: both are new and ours.
    unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) }
}

/// Where one types, and the terminal.
pub fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: room for two descriptors; the other pointers may be null.
    check(unsafe { libc::openpty(&mut ours, &mut theirs, none, none.cast(), none.cast()) });
    // SAFETY: both are new and ours.
    unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

/// A counter in the kernel, zero.
pub fn eventfd() -> OwnedFd {
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) });
    // SAFETY: new and ours.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// What a child process is watched by.
pub fn pidfd(child: &std::process::Child) -> OwnedFd {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    // SAFETY: new and ours.
    unsafe { OwnedFd::from_raw_fd(check(fd as i32)) }
}

/// Takes ownership of the descriptor an accept brought.
pub fn adopt(result: i32) -> OwnedFd {
    assert!(result >= 0, "a descriptor, not {result}");
    // SAFETY: the result of an accept that nobody else looked at.
    unsafe { OwnedFd::from_raw_fd(result) }
}

/// Sends all of `bytes`.
pub fn put(socket: impl AsFd, bytes: &[u8]) {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the pointer and length of a slice, for the time of the call.
    let sent = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    assert_eq!(sent, bytes.len() as isize, "{}", Error::last_os_error());
}

/// Sends until the socket takes no more; returns how much it took.
pub fn fill(socket: impl AsFd) -> usize {
    let (bytes, mut filled) = ([0u8; 4096], 0);
    loop {
        // SAFETY: the pointer and length of an array, for the time of the call.
        let sent = unsafe {
            let fd = socket.as_fd().as_raw_fd();
            libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT)
        };
        match usize::try_from(sent) {
            Ok(sent) => filled += sent,
            Err(_) => return filled,
        }
    }
}

/// What waits in the socket: at most `len` bytes, none if it is empty or at its end.
pub fn waiting(socket: impl AsFd, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    // SAFETY: the pointer and length of a vector, for the time of the call.
    let got = unsafe {
        let fd = socket.as_fd().as_raw_fd();
        libc::recv(fd, bytes.as_mut_ptr().cast(), len, libc::MSG_DONTWAIT)
    };
    bytes.truncate(usize::try_from(got).unwrap_or(0));
    bytes
}

/// Reads to the end of the stream; returns how many bytes there were.
pub fn read_to_end(socket: impl AsFd) -> usize {
    let mut total = 0;
    loop {
        assert!(has_arrived(&socket), "neither bytes nor the end");
        match waiting(&socket, 65536).len() {
            0 => return total,
            len => total += len,
        }
    }
}

/// No more bytes to the peer.
pub fn end_writes(socket: impl AsFd) {
    // SAFETY: takes no pointers.
    check(unsafe { libc::shutdown(socket.as_fd().as_raw_fd(), libc::SHUT_WR) });
}

/// Bounds what fits between the two sockets. Not by the receiver's buffer alone: with a window
/// smaller than a segment TCP goes on by timer.
pub fn bound_buffers(sender: impl AsFd, receiver: impl AsFd) {
    set_size(sender, libc::SO_SNDBUF, 1 << 12);
    set_size(receiver, libc::SO_RCVBUF, 1 << 17);
}

fn set_size(socket: impl AsFd, option: i32, size: i32) {
    let (fd, len) = (socket.as_fd().as_raw_fd(), size_of::<i32>() as libc::socklen_t);
    // SAFETY: the option is an int; its address and size, for the time of the call.
    check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const size).cast(), len) });
}

/// Waits until there is something to read (bytes, a connection, the end).
pub fn has_arrived(file: impl AsFd) -> bool {
    is_readable(file, PATIENCE)
}

fn is_readable(file: impl AsFd, milliseconds: i32) -> bool {
    let fd = file.as_fd().as_raw_fd();
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one `pollfd`, for the time of the call.
    check(unsafe { libc::poll(&mut poll, 1, milliseconds) }) == 1
}

/// An address as the kernel takes it.
pub fn to_sockaddr(address: SocketAddrV4) -> [u8; 16] {
    let mut bytes = [0; size_of::<libc::sockaddr_in>()];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&address.ip().octets());
    bytes
}

/// A system call's result, which must not be an error.
pub fn check(result: i32) -> i32 {
    assert!(result >= 0, "{}", Error::last_os_error());
    result
}
