//! RECV into a buffer of the caller's.

use libc::MSG_WAITALL;

use crate::ring::Ring;
use crate::sockets::{FAMILIES, Family, everywhere, has_arrived, put, waiting};
use crate::world::{CANCELLED, MODES, Mode, NOT_FOUND};

#[test]
fn an_idle_recv_is_cancelled_and_takes_nothing() {
    for (mode, family) in everywhere() {
        let (near, far) = family.pair();
        let mut ring = Ring::new(mode);
        let recv = ring.recv(&near, 16, 0);
        ring.submit();
        let pair = ring.pair(&format!("recv idle ({family})"), recv);
        assert_eq!(pair, (0, CANCELLED));

        put(&far, b"later");
        assert!(has_arrived(&near));
        assert_eq!(waiting(&near, 16), b"later");
    }
}

#[test]
fn under_defer_a_cancelled_recv_leaves_arrived_bytes_to_the_next() {
    for family in FAMILIES {
        let (near, far) = family.pair();
        let mut ring = Ring::new(Mode::Defer);
        let recv = ring.recv(&near, 16, 0);
        ring.submit();
        put(&far, b"hello");
        assert!(has_arrived(&near));
        let pair = ring.pair(&format!("recv, data arrived ({family})"), recv);
        assert_eq!(pair, (0, CANCELLED));

        let next = ring.recv(&near, 16, 0);
        let len = ring.result(next);
        assert_eq!(ring.bytes(next, len), b"hello");
    }
}

#[test]
fn on_a_default_ring_arrived_bytes_complete_the_recv_before_its_cancel() {
    let (near, far) = Family::Unix.pair();
    let mut ring = Ring::new(Mode::Default);
    let recv = ring.recv(&near, 16, 0);
    ring.submit();
    put(&far, b"hello");
    let pair = ring.pair("recv, data arrived (unix)", recv);
    assert_eq!(pair, (NOT_FOUND, 5));
    assert_eq!(ring.bytes(recv, 5), b"hello");
    assert!(waiting(&near, 16).is_empty());
}

#[test]
fn on_a_default_ring_bytes_from_a_softirq_are_delivered_or_stay() {
    let (near, far) = Family::Tcp.pair();
    let mut ring = Ring::new(Mode::Default);
    let recv = ring.recv(&near, 16, 0);
    ring.submit();
    put(&far, b"hello");
    match ring.pair("recv, data arrived (tcp)", recv) {
        (NOT_FOUND, 5) => assert_eq!(ring.bytes(recv, 5), b"hello"),
        (0, CANCELLED) => {
            assert!(has_arrived(&near));
            assert_eq!(waiting(&near, 16), b"hello");
        }
        other => panic!("bytes neither delivered nor left: {other:?}"),
    }
    assert!(waiting(&near, 16).is_empty());
}

#[test]
fn a_waitall_recv_cancelled_half_way_reports_its_bytes() {
    for (mode, family) in everywhere() {
        let (near, far) = family.pair();
        let mut ring = Ring::new(mode);
        put(&far, b"abc");
        assert!(has_arrived(&near));
        let recv = ring.recv(&near, 10, MSG_WAITALL);
        ring.submit();
        let pair = ring.pair(&format!("recv WAITALL, 3 of 10 ({family})"), recv);
        // The cancel says 0, as it does for an operation without effect (D5).
        assert_eq!(pair, (0, 3));
        assert_eq!(ring.bytes(recv, 3), b"abc");
        assert!(waiting(&near, 16).is_empty());
    }
}

#[test]
fn a_waitall_recv_without_a_byte_is_cancelled() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let mut ring = Ring::new(mode);
        let recv = ring.recv(&near, 10, MSG_WAITALL);
        ring.submit();
        assert_eq!(ring.pair("recv WAITALL, nothing yet", recv), (0, CANCELLED));

        put(&far, b"later");
        assert_eq!(waiting(&near, 16), b"later");
    }
}
