//! RECV into a provided buffer ring, single and multishot.

use std::os::fd::OwnedFd;

use libc::ENOBUFS;

use crate::ring::{Outcome, Ring};
use crate::sockets::{Family, everywhere, has_arrived, packet_pair, put, waiting};
use crate::world::{CANCELLED, MODES, Mode, NOT_FOUND, names, note, since};

#[test]
fn a_cancelled_pool_recv_takes_no_buffer() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let mut ring = Ring::new(mode).with_pool(1, 16);
        let recv = ring.recv_select(&near);
        ring.submit();
        let outcome = ring.outcome("pool recv idle", recv);
        assert_eq!((outcome.cancel, outcome.results()), (0, vec![CANCELLED]));
        assert_eq!(outcome.target[0].buffer(), None);

        put(&far, b"later");
        assert_eq!(receive(&mut ring, &near), b"later");
    }
}

#[test]
fn under_defer_a_pool_recv_cancelled_with_data_arrived_takes_neither_buffer_nor_bytes() {
    let (near, far) = Family::Unix.pair();
    let mut ring = Ring::new(Mode::Defer).with_pool(1, 16);
    let recv = ring.recv_select(&near);
    ring.submit();
    put(&far, b"hello");
    let outcome = ring.outcome("pool recv, data arrived", recv);
    assert_eq!((outcome.cancel, outcome.results()), (0, vec![CANCELLED]));
    assert_eq!(outcome.target[0].buffer(), None);

    assert_eq!(receive(&mut ring, &near), b"hello");
}

#[test]
fn on_a_default_ring_arrived_bytes_complete_the_pool_recv_before_its_cancel() {
    let (near, far) = Family::Unix.pair();
    let mut ring = Ring::new(Mode::Default).with_pool(1, 16);
    let recv = ring.recv_select(&near);
    ring.submit();
    put(&far, b"hello");
    let outcome = ring.outcome("pool recv, data arrived", recv);
    assert_eq!((outcome.cancel, outcome.results()), (NOT_FOUND, vec![5]));
    assert_eq!(ring.lease(&outcome.target[0]), b"hello");
    assert!(waiting(&near, 16).is_empty());
}

#[test]
fn an_idle_multishot_recv_is_cancelled_and_takes_no_buffer() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let mut ring = Ring::new(mode).with_pool(1, 16);
        let recv = ring.recv_multi(&near);
        ring.submit();
        let outcome = ring.outcome("multishot recv idle", recv);
        assert_eq!(outcome.target.len(), 1);
        assert_eq!(outcome.target[0].buffer(), None);
        assert!(is_multishot_end(&outcome), "{outcome:?}");

        put(&far, b"later");
        assert_eq!(receive(&mut ring, &near), b"later");
    }
}

#[test]
fn a_multishot_recv_cancelled_with_data_pending_loses_no_byte() {
    for (mode, family) in everywhere() {
        let (near, far) = family.pair();
        let mut ring = Ring::new(mode).with_pool(4, 16);
        let recv = ring.recv_multi(&near);
        ring.submit();
        put(&far, b"hello");
        if mode == Mode::Defer {
            assert!(has_arrived(&near));
        }
        let outcome = ring.outcome(&format!("multishot recv, data pending ({family})"), recv);
        assert!(is_multishot_end(&outcome), "{outcome:?}");

        let delivered = delivered(&mut ring, &outcome);
        if delivered.is_empty() {
            assert!(has_arrived(&near), "bytes neither delivered nor left");
        }
        let left = waiting(&near, 16);
        match (mode, family) {
            _ if !since(6, 5) => {}
            (Mode::Defer, _) => assert!(delivered.is_empty()),
            (Mode::Default, Family::Unix) => assert!(left.is_empty()),
            (Mode::Default, Family::Tcp) => {}
        }
        assert_eq!([delivered, left].concat(), b"hello");
    }
}

#[test]
fn a_multishot_recv_that_empties_the_pool_ends_and_the_rest_stays() {
    for mode in MODES {
        let (near, far) = packet_pair();
        put(&far, b"one");
        put(&far, b"two");
        let mut ring = Ring::new(mode).with_pool(1, 16);
        let recv = ring.recv_multi(&near);
        ring.submit();
        let events = ring.finish(recv);
        let results: Vec<i32> = events.iter().map(|event| event.result).collect();
        note("multishot recv, 2 packets, 1 buffer", mode, format!("target {}", names(&results)));
        assert_eq!(results, [3, -ENOBUFS]);
        assert_eq!(events[1].buffer(), None);
        assert_eq!(ring.lease(&events[0]), b"one");

        ring.give_back(&events[0]);
        assert_eq!(receive(&mut ring, &near), b"two");
    }
}

#[test]
fn a_receive_from_an_empty_pool_fails_and_the_bytes_stay() {
    for (mode, multi) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let (near, far) = Family::Unix.pair();
        let mut ring = Ring::new(mode).with_pool(0, 16);
        let recv = if multi { ring.recv_multi(&near) } else { ring.recv_select(&near) };
        ring.submit();
        // Since there is no byte yet, a kernel may fail it now or arm it and fail it later.
        let when = if ring.is_quiet(recv) { "when data arrives" } else { "at once" };
        put(&far, b"hello");
        let result = ring.result(recv);
        let what = if multi { "multishot recv, empty pool" } else { "pool recv, empty pool" };
        note(what, mode, format!("target {}, {when}", names(&[result])));
        assert_eq!(result, -ENOBUFS);
        assert_eq!(waiting(&near, 16), b"hello");
    }
}

/// Receives once from the pool, and shows what.
fn receive(ring: &mut Ring, socket: &OwnedFd) -> Vec<u8> {
    let recv = ring.recv_select(socket);
    let completion = ring.next(recv);
    assert!(!completion.more());
    ring.lease(&completion)
}

/// The bytes that the target's CQEs brought.
fn delivered(ring: &mut Ring, outcome: &Outcome) -> Vec<u8> {
    let events = outcome.target.iter().filter(|event| event.result > 0);
    events.flat_map(|event| ring.lease(event)).collect()
}

/// How a cancelled multishot receive may end: up to 6.4 also as if its pool were empty.
fn is_multishot_end(outcome: &Outcome) -> bool {
    match outcome.pair() {
        (0, CANCELLED) => true,
        (NOT_FOUND, end) => end == -ENOBUFS && !since(6, 5),
        _ => false,
    }
}
