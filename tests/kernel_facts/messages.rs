//! RECVMSG into a provided buffer ring, again and again: what lies where, and what ends it.

use std::net::SocketAddr;

use libc::{ECONNREFUSED, EFAULT};

use crate::ring::{Completion, Ring};
use crate::sockets::{has_arrived, put, to_sockaddr, udp_pair, waiting};
use crate::world::{CANCELLED, MODES, names, note};

/// Of `struct io_uring_recvmsg_out`.
const HEAD: usize = 16;
const NAME_ROOM: usize = 112;
const BEFORE: i32 = (HEAD + NAME_ROOM) as i32;

#[test]
fn an_idle_multishot_of_messages_is_cancelled_and_takes_no_buffer_and_no_datagram() {
    for mode in MODES {
        let (near, far) = udp_pair();
        let mut ring = Ring::new(mode).with_pool(1, 256);
        let recv = ring.recv_messages(&near, NAME_ROOM as u32);
        ring.submit();
        let outcome = ring.outcome("multishot recvmsg idle", recv);
        assert_eq!((outcome.cancel, outcome.results()), (0, vec![CANCELLED]));
        assert_eq!(outcome.target[0].buffer(), None);
        put(&far, b"later");
        assert_eq!(waiting(&near, 16), b"later");
    }
}

#[test]
fn before_the_bytes_lie_a_head_and_the_room_for_a_name() {
    for mode in MODES {
        let (near, far) = udp_pair();
        let mut ring = Ring::new(mode).with_pool(2, 256);
        let recv = ring.recv_messages(&near, NAME_ROOM as u32);
        put(&far, b"hello");
        let first = ring.next(recv);
        note("multishot recvmsg, 5 bytes", mode, first.result);
        assert_eq!((first.result, first.more()), (BEFORE + 5, true));
        let buffer = ring.lease(&first);
        // Of the name, of what is beside the bytes, of the bytes, flags.
        assert_eq!(words(&buffer), [16, 0, 5, 0]);
        let Ok(SocketAddr::V4(from)) = far.local_addr() else { panic!("a socket of IPv4") };
        assert_eq!(buffer[HEAD..][..16], to_sockaddr(from));
        assert_eq!(buffer[HEAD + NAME_ROOM..], *b"hello");
        end(&mut ring, &first);
    }
}

#[test]
fn a_message_that_is_too_long_is_cut_and_its_head_has_the_whole_length() {
    for mode in MODES {
        let (near, far) = udp_pair();
        let mut ring = Ring::new(mode).with_pool(2, HEAD + NAME_ROOM + 4);
        let recv = ring.recv_messages(&near, NAME_ROOM as u32);
        put(&far, b"0123456789");
        let cut = ring.next(recv);
        assert_eq!(cut.result, BEFORE + 4);
        let buffer = ring.lease(&cut);
        assert_eq!(words(&buffer), [16, 0, 10, libc::MSG_TRUNC as u32]);
        assert_eq!(buffer[HEAD + NAME_ROOM..], *b"0123");
        assert!(waiting(&near, 16).is_empty(), "the rest is lost");
        end(&mut ring, &cut);
    }
}

#[test]
fn an_empty_message_has_a_buffer_and_ends_the_multishot() {
    for mode in MODES {
        let (near, far) = udp_pair();
        let mut ring = Ring::new(mode).with_pool(2, 256);
        let recv = ring.recv_messages(&near, NAME_ROOM as u32);
        ring.submit();
        far.send(b"").expect("an empty datagram");
        put(&far, b"next");
        let events = ring.finish(recv);
        let results: Vec<i32> = events.iter().map(|event| event.result).collect();
        note("multishot recvmsg, an empty datagram and one more", mode, names(&results));
        assert_eq!(results, [BEFORE]);
        assert!(events[0].buffer().is_some());
        assert!(has_arrived(&near));
        assert_eq!(waiting(&near, 16), b"next");
    }
}

#[test]
fn an_answer_of_the_network_ends_the_multishot_and_a_new_one_goes_on() {
    for mode in MODES {
        let (near, far) = udp_pair();
        let address = far.local_addr().expect("bound");
        drop(far);
        let mut ring = Ring::new(mode).with_pool(2, 256);
        let recv = ring.recv_messages(&near, NAME_ROOM as u32);
        ring.submit();
        put(&near, b"anybody?");
        let events = ring.finish(recv);
        let results: Vec<i32> = events.iter().map(|event| event.result).collect();
        note("multishot recvmsg, nobody there", mode, names(&results));
        assert_eq!((results, events[0].buffer()), (vec![-ECONNREFUSED], None));

        let far = std::net::UdpSocket::bind(address).expect("free again");
        far.connect(near.local_addr().expect("bound")).expect("connect");
        let recv = ring.recv_messages(&near, NAME_ROOM as u32);
        put(&far, b"here");
        let came = ring.next(recv);
        assert_eq!((came.result, came.more()), (BEFORE + 4, true));
        end(&mut ring, &came);
    }
}

/// So buffers that are filled piece by piece do not do: what is left of one may be too small.
#[test]
fn a_buffer_too_small_for_the_head_and_the_name_is_an_error() {
    for mode in MODES {
        let (near, far) = udp_pair();
        let mut ring = Ring::new(mode).with_pool(1, HEAD);
        let recv = ring.recv_messages(&near, NAME_ROOM as u32);
        put(&far, b"hello");
        let events = ring.finish(recv);
        let results: Vec<i32> = events.iter().map(|event| event.result).collect();
        note("multishot recvmsg, a buffer of 16 bytes", mode, names(&results));
        assert_eq!(results, [-EFAULT]);
        assert_eq!(waiting(&near, 16), b"hello");
    }
}

/// The four words of the head.
fn words(buffer: &[u8]) -> [u32; 4] {
    let word = |at: usize| u32::from_ne_bytes(buffer[at..at + 4].try_into().expect("four bytes"));
    [word(0), word(4), word(8), word(12)]
}

/// Ends a multishot that goes on.
pub fn end(ring: &mut Ring, last: &Completion) {
    let cancel = ring.cancel(last.token);
    assert_eq!((ring.result(cancel), ring.result(last.token)), (0, CANCELLED));
}
