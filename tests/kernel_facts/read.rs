//! READ of what a run waits on: a pipe, an eventfd.

use crate::ring::Ring;
use crate::sockets::{eventfd, pipe, put};
use crate::world::{CANCELLED, MODES, Mode, NOT_FOUND};

#[test]
fn an_idle_read_of_a_pipe_is_cancelled_and_takes_nothing() {
    for mode in MODES {
        let (reader, writer) = pipe();
        let mut ring = Ring::new(mode);
        let read = ring.read(&reader, 16);
        ring.submit();
        assert_eq!(ring.pair("read idle (pipe)", read), (0, CANCELLED));

        put(&writer, b"later");
        let next = ring.read(&reader, 16);
        let len = ring.result(next);
        assert_eq!(ring.bytes(next, len), b"later");
    }
}

#[test]
fn an_idle_read_of_an_eventfd_is_cancelled_and_takes_nothing() {
    for mode in MODES {
        let event = eventfd();
        let mut ring = Ring::new(mode);
        let read = ring.read(&event, 8);
        ring.submit();
        assert_eq!(ring.pair("read idle (eventfd)", read), (0, CANCELLED));

        put(&event, &3u64.to_ne_bytes());
        let next = ring.read(&event, 8);
        let len = ring.result(next);
        assert_eq!(ring.bytes(next, len), 3u64.to_ne_bytes());
    }
}

#[test]
fn a_read_of_an_eventfd_that_was_rung_keeps_the_count_or_brings_it() {
    for mode in MODES {
        let event = eventfd();
        let mut ring = Ring::new(mode);
        let read = ring.read(&event, 8);
        ring.submit();
        put(&event, &3u64.to_ne_bytes());
        match (mode, ring.pair("read, rung (eventfd)", read)) {
            (Mode::Default, (NOT_FOUND, 8)) => assert_eq!(ring.bytes(read, 8), 3u64.to_ne_bytes()),
            (Mode::Defer, (0, CANCELLED)) => {
                let next = ring.read(&event, 8);
                let len = ring.result(next);
                assert_eq!(ring.bytes(next, len), 3u64.to_ne_bytes());
            }
            other => panic!("{other:?}"),
        }
    }
}
