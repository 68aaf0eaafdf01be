//! CLOSE and SHUTDOWN with an operation pending on the file.

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use crate::ring::Ring;
use crate::sockets::{Door, Family, everywhere, has_arrived, put, waiting};
use crate::world::{CANCELLED, MODES, alone, name, note};

#[test]
fn closing_the_descriptor_of_a_pending_recv_does_nothing_to_it() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let mut ring = Ring::new(mode);
        let recv = ring.recv(&near, 16, 0);
        let close = ring.close(near);
        assert_eq!(ring.result(close), 0);
        assert!(ring.is_quiet(recv));

        // The operation keeps the file: the peer can still send to it.
        put(&far, b"hello");
        let result = ring.result(recv);
        note("recv pending, fd closed", mode, format!("close 0 | target {}", name(result)));
        assert_eq!(result, 5);
        assert_eq!(ring.bytes(recv, 5), b"hello");
        assert!(has_arrived(&far) && waiting(&far, 1).is_empty(), "the peer sees the end");
    }
}

#[test]
fn an_operation_whose_descriptor_was_closed_can_still_be_cancelled() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let mut ring = Ring::new(mode);
        let recv = ring.recv(&near, 16, 0);
        let close = ring.close(near);
        assert_eq!(ring.result(close), 0);
        assert_eq!(ring.pair("recv, fd closed", recv), (0, CANCELLED));
        assert!(has_arrived(&far) && waiting(&far, 1).is_empty(), "the peer sees the end");
    }
}

#[test]
fn shutting_a_socket_down_ends_its_pending_recv_with_the_end_of_the_stream() {
    for (mode, family) in everywhere() {
        let (near, far) = family.pair();
        let mut ring = Ring::new(mode);
        let recv = ring.recv(&near, 16, 0);
        let shutdown = ring.shutdown(&near);
        let (shutdown, result) = (ring.result(shutdown), ring.result(recv));
        let seen = format!("shutdown {} | target {}", name(shutdown), name(result));
        note(&format!("recv pending, shut down ({family})"), mode, seen);
        assert_eq!((shutdown, result), (0, 0));
        assert!(has_arrived(&far) && waiting(&far, 1).is_empty(), "the peer sees the end");
    }
}

#[test]
fn a_port_is_free_as_soon_as_the_last_accept_is_cancelled_and_reaped() {
    let name = "a_port_is_free_as_soon_as_the_last_accept_is_cancelled_and_reaped";
    // Alone, since between fork and exec a child has copies of all descriptors.
    alone(&format!("close::{name}"), || {
        for mode in MODES {
            // An address of its own, where nobody picks the port by chance.
            let host = Ipv4Addr::new(127, 7, 7, 1);
            let door = Door::tcp(host, 0).expect("a loopback port");
            let port = door.port();
            let mut ring = Ring::new(mode);
            let accept = ring.accept(&door);
            let close = ring.close(door);
            assert_eq!(ring.result(close), 0);
            let busy = Door::tcp(host, port).err().expect("the accept keeps the port").kind();
            assert_eq!(busy, ErrorKind::AddrInUse);
            assert_eq!(ring.pair("accept, fd closed", accept), (0, CANCELLED));
            Door::tcp(host, port).expect("nothing keeps the port");
        }
    });
}
