//! RECVMSG with room beside the bytes: descriptors, and datagrams that were put together.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::messages::end;
use crate::ring::{Ring, Token};
use crate::sockets::{Family, adopt, check, has_arrived, put, read_to_end, udp_pair, waiting};
use crate::world::{MODES, note};

#[test]
fn a_descriptor_comes_with_the_bytes_it_was_sent_with_and_the_receive_ends_there() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let (watch, end) = Family::Unix.pair();
        put(&far, b"a");
        put_with(&far, b"b", end);
        put(&far, b"c");
        let mut ring = Ring::new(mode);
        let recv = ring.recv_control(&near);
        let result = ring.result(recv);
        note("recvmsg of one byte, one with a descriptor, and one", mode, result);
        assert_eq!(result, 2);
        let (bytes, came) = came(&ring, recv);
        assert_eq!(bytes[..2], *b"ab");
        let came = adopt(came.expect("a descriptor"));
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", came.as_raw_fd()));
        // Octal: O_CLOEXEC.
        assert!(about.expect("it is open").contains("flags:\t02000002"), "closed on exec");
        let recv = ring.recv_control(&near);
        assert_eq!((ring.result(recv), self::came(&ring, recv).1), (1, None));
        drop(came);
        assert_eq!(read_to_end(&watch), 0);
    }
}

#[test]
fn a_receive_without_room_for_descriptors_closes_them() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let (watch, end) = Family::Unix.pair();
        put_with(&far, b"x", end);
        assert!(!has_arrived(&watch), "it is under way");
        let mut ring = Ring::new(mode);
        let recv = ring.recv(&near, 16, 0);
        assert_eq!(ring.result(recv), 1);
        assert_eq!(read_to_end(&watch), 0);
    }
}

// Whoever has not received it yet: the kernel closes it with the socket.
#[test]
fn a_descriptor_that_nobody_receives_goes_with_the_socket() {
    let (near, far) = Family::Unix.pair();
    let (watch, end) = Family::Unix.pair();
    put_with(&far, b"x", end);
    drop((near, far));
    assert_eq!(read_to_end(&watch), 0);
}

#[test]
fn the_length_of_datagrams_that_were_put_together_lies_behind_the_name() {
    const NAME_ROOM: usize = 88;
    const CONTROL_ROOM: usize = 24;
    for mode in MODES {
        let (near, far) = udp_pair();
        set(&near, libc::UDP_GRO, 1);
        set(&far, libc::UDP_SEGMENT, 4);
        let mut ring = Ring::new(mode).with_pool(2, 256);
        let recv = ring.recv_messages_with(&near, NAME_ROOM as u32, CONTROL_ROOM);
        put(&far, b"aaaabbbbcc");
        let came = ring.next(recv);
        note("multishot recvmsg, 10 bytes cut by 4", mode, came.result);
        let buffer = ring.lease(&came);
        let word = |at: usize| u32::from_ne_bytes(buffer[at..at + 4].try_into().expect("four"));
        // Of the name, of the control data, of the bytes.
        assert_eq!([word(0), word(4), word(8)], [16, 24, 10]);
        let control = 16 + NAME_ROOM;
        assert_eq!((word(control), word(control + 8), word(control + 12)), (20, 17, 104));
        assert_eq!(word(control + 16), 4);
        assert_eq!(buffer[control + CONTROL_ROOM..], *b"aaaabbbbcc");
        assert!(waiting(&near, 16).is_empty());
        end(&mut ring, &came);
    }
}

fn set(socket: impl AsFd, name: i32, value: i32) {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the address of a number, and its length.
    check(unsafe { libc::setsockopt(fd, libc::SOL_UDP, name, (&raw const value).cast(), 4) });
}

/// The bytes that a finished receive has brought, and the descriptor.
fn came(ring: &Ring, recv: Token) -> (Vec<u8>, Option<i32>) {
    let block = ring.bytes(recv, (Ring::CONTROL + 64 + 16) as i32);
    let control = &block[Ring::CONTROL..];
    let word = |at: usize| i32::from_ne_bytes(control[at..at + 4].try_into().expect("four"));
    let is_there = (word(0), word(8), word(12)) == (20, libc::SOL_SOCKET, libc::SCM_RIGHTS);
    (control[64..].to_vec(), is_there.then(|| word(16)))
}

/// Sends bytes with a descriptor.
fn put_with(socket: impl AsFd, bytes: &[u8], with: OwnedFd) {
    let mut piece =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = [20_u64, 0, 0];
    let words = [libc::SOL_SOCKET, libc::SCM_RIGHTS, with.as_raw_fd()].map(|word| word as u32);
    control[1] = u64::from(words[1]) << 32 | u64::from(words[0]);
    control[2] = u64::from(words[2]);
    // SAFETY: all zeros is a valid header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut piece, 1);
    (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), 24);
    // SAFETY: a header that points to what is alive for the time of the call.
    check(unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const header, 0) } as i32);
}
