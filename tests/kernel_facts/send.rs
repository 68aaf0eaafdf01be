//! SEND, with and without MSG_WAITALL, and of datagrams.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use libc::{MSG_NOSIGNAL, MSG_WAITALL};

use crate::ring::{Ring, Token};
use crate::sockets::{
    Family, bound_buffers, end_writes, everywhere, fill, has_arrived, read_to_end, udp_pair,
    waiting,
};
use crate::world::{CANCELLED, MODES, name, note};

/// More than the buffers of the sockets below hold.
static MUCH: [u8; 1 << 20] = [7; 1 << 20];

#[test]
fn a_waitall_send_cancelled_half_way_reports_its_bytes() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let mut ring = Ring::new(mode);
        let send = start(&mut ring, &near, &far, MSG_WAITALL);
        let (cancel, sent) = ring.pair("send WAITALL, part of 1048576 (unix)", send);
        assert_eq!(cancel, 0);
        assert_short_and_all_there(sent, near, far);
    }
}

/// A TCP send retries when what it sent is acknowledged, and while the retry is queued a cancel
/// does not find it (see `cancel.rs`). With a send buffer this small the first one always misses
/// under DEFER on 6.18; with default buffers and a peer that reads, now and then.
#[test]
fn a_waitall_send_over_tcp_may_have_to_be_cancelled_more_than_once() {
    for mode in MODES {
        let (near, far) = Family::Tcp.pair();
        let mut ring = Ring::new(mode);
        let send = start(&mut ring, &near, &far, MSG_WAITALL);
        let (cancels, sent) = ring.insist("send WAITALL, part of 1048576 (tcp)", send);
        assert_eq!(cancels.last(), Some(&0), "nobody reads, so it cannot end by itself");
        assert_short_and_all_there(sent, near, far);
    }
}

#[test]
fn a_waitall_send_without_a_byte_is_cancelled() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let filled = fill(&near);
        let mut ring = Ring::new(mode);
        let send = ring.send(&near, b"more", MSG_WAITALL | MSG_NOSIGNAL);
        ring.submit();
        assert_eq!(ring.pair("send WAITALL, nothing yet", send), (0, CANCELLED));

        end_writes(&near);
        assert_eq!(read_to_end(&far), filled);
    }
}

#[test]
fn a_send_without_waitall_into_a_full_socket_is_cancelled() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let filled = fill(&near);
        let mut ring = Ring::new(mode);
        let send = ring.send(&near, b"more", MSG_NOSIGNAL);
        ring.submit();
        assert_eq!(ring.pair("send, nothing yet", send), (0, CANCELLED));

        end_writes(&near);
        assert_eq!(read_to_end(&far), filled);
    }
}

#[test]
fn a_send_without_waitall_completes_short() {
    for (mode, family) in everywhere() {
        let (near, far) = family.pair();
        let mut ring = Ring::new(mode);
        let send = start(&mut ring, &near, &far, 0);
        let sent = ring.result(send);
        let what = format!("send, part of 1048576 ({family})");
        note(&what, mode, format!("completes with {}", name(sent)));
        assert_short_and_all_there(sent, near, far);
    }
}

// Also an empty one: there is nothing that says that there are no bytes.
#[test]
fn a_send_of_a_datagram_goes_to_the_peer_or_to_an_address() {
    for mode in MODES {
        let (near, far) = udp_pair();
        let mut ring = Ring::new(mode);
        for bytes in [&b"to the peer"[..], b""] {
            let send = ring.send(&near, bytes, MSG_NOSIGNAL);
            assert_eq!(ring.result(send), bytes.len() as i32);
            assert!(has_arrived(&far));
            assert_eq!(waiting(&far, 64), bytes);
        }
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("a free loopback port");
        let Ok(SocketAddr::V4(to)) = stranger.local_addr() else { panic!("a socket of IPv4") };
        for bytes in [&b"to a stranger"[..], b""] {
            let send = ring.send_to(&near, bytes, to);
            let sent = ring.result(send);
            note(&format!("send of {} bytes to an address", bytes.len()), mode, sent);
            assert_eq!(sent, bytes.len() as i32);
            assert!(has_arrived(&stranger));
            assert_eq!(waiting(&stranger, 64), bytes);
        }
        let nowhere = ring.send(&stranger, b"nobody", MSG_NOSIGNAL);
        assert_eq!(ring.result(nowhere), -libc::EDESTADDRREQ);
    }
}

/// Submits a send of more than the two sockets hold.
fn start(ring: &mut Ring, near: &OwnedFd, far: &OwnedFd, flags: i32) -> Token {
    bound_buffers(near, far);
    let send = ring.send(near, &MUCH, flags | MSG_NOSIGNAL);
    ring.submit();
    send
}

/// Something was sent, not everything, and the peer gets exactly that.
fn assert_short_and_all_there(sent: i32, near: OwnedFd, far: OwnedFd) {
    let sent = usize::try_from(sent).expect("a count");
    assert!(0 < sent && sent < MUCH.len(), "{sent}");
    end_writes(&near);
    assert_eq!(read_to_end(&far), sent);
}
