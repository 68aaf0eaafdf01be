//! CONNECT.

use std::io::Error;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::ring::Ring;
use crate::sockets::{Door, check, has_arrived, to_sockaddr};
use crate::world::{CANCELLED, MODES, NOT_FOUND, name, note};

#[test]
fn a_cancelled_connect_leaves_the_socket_connecting() {
    for mode in MODES {
        let (door, address) = tcp_door();
        let _occupant = occupy(&door);
        let socket = tcp_socket();
        let mut ring = Ring::new(mode);
        let connect = ring.connect(&socket, address);
        ring.submit();
        assert_eq!(ring.pair("connect in progress", connect), (0, CANCELLED));

        // Which is why a cancelled connect is good for nothing but closing (D2: terminal).
        let (state, again) = (tcp_state(&socket), connect_again(socket, address));
        note("connect cancelled", mode, format!("TCP state {state}, again {}", name(again)));
        assert_eq!((state, again), (TCP_SYN_SENT, -libc::EALREADY));
    }
}

#[test]
fn a_finished_connect_is_past_cancelling() {
    for mode in MODES {
        let (door, address) = tcp_door();
        let socket = tcp_socket();
        let mut ring = Ring::new(mode);
        let connect = ring.connect(&socket, address);
        ring.submit();
        assert!(has_arrived(&door));
        let connected = ring.result(connect);
        let cancel = ring.cancel(connect);
        let cancel = ring.result(cancel);
        note("connect finished", mode, format!("cancel {} | target {connected}", name(cancel)));
        assert_eq!((cancel, connected), (NOT_FOUND, 0));
        assert_eq!(tcp_state(&socket), TCP_ESTABLISHED);
    }
}

#[test]
fn a_socket_bound_without_a_port_gets_one_when_it_connects() {
    for mode in MODES {
        let (_door, address) = tcp_door();
        let socket = tcp_socket();
        let (on, len) = (1, size_of::<libc::c_int>() as libc::socklen_t);
        let (level, name) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
        let from = to_sockaddr(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 0));
        let fd = socket.as_raw_fd();
        // SAFETY: a number and an address, each with its length, for the time of the calls.
        unsafe {
            check(libc::setsockopt(fd, level, name, (&raw const on).cast(), len));
            check(libc::bind(fd, from.as_ptr().cast(), from.len() as libc::socklen_t));
        }
        let socket = TcpStream::from(socket);
        let bound = socket.local_addr().expect("it is bound");
        let mut ring = Ring::new(mode);
        let connect = ring.connect(&socket, address);
        ring.submit();
        assert_eq!(ring.result(connect), 0);
        let connected = socket.local_addr().expect("it is connected");
        note("connect from an address", mode, format!("bound to {bound}, then {connected}"));
        assert_eq!((bound.ip(), bound.port()), (connected.ip(), 0));
        assert_ne!(connected.port(), 0);
    }
}

const TCP_ESTABLISHED: u8 = 1;
const TCP_SYN_SENT: u8 = 2;

fn tcp_door() -> (Door, SocketAddrV4) {
    let door = Door::tcp(Ipv4Addr::LOCALHOST, 0).expect("a free loopback port");
    let Door::Tcp(_, address) = &door else { unreachable!("made by Door::tcp") };
    let address = *address;
    (door, address)
}

/// Fills the backlog: from now on the kernel drops every SYN, and a connect stays in progress.
fn occupy(door: &Door) -> OwnedFd {
    // SAFETY: takes no pointers. A backlog of 0 has room for one.
    check(unsafe { libc::listen(door.as_fd().as_raw_fd(), 0) });
    let occupant = door.knock();
    assert!(has_arrived(door));
    occupant
}

fn tcp_socket() -> OwnedFd {
    // SAFETY: takes no pointers.
    let fd =
        check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) });
    // SAFETY: new and ours.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The first byte of `tcp_info`.
fn tcp_state(socket: impl AsFd) -> u8 {
    let (mut state, mut len) = (0u8, 1);
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: room for one byte and its length, for the time of the call.
    check(unsafe {
        let option = (&raw mut state).cast();
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, option, &mut len)
    });
    state
}

/// What a second connect says, without waiting.
fn connect_again(socket: OwnedFd, address: SocketAddrV4) -> i32 {
    let socket = TcpStream::from(socket);
    socket.set_nonblocking(true).expect("a valid descriptor");
    let address = to_sockaddr(address);
    let len = address.len() as libc::socklen_t;
    // SAFETY: an address and its length, for the time of the call.
    match unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), len) } {
        0 => 0,
        _ => -Error::last_os_error().raw_os_error().unwrap_or(0),
    }
}
