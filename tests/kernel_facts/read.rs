//! READ of what a run waits on: a pipe, a terminal, an eventfd.

use crate::ring::Ring;
use crate::sockets::{eventfd, pipe, put, terminal};
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
fn an_idle_read_of_a_terminal_is_cancelled_and_takes_nothing() {
    for mode in MODES {
        let (typist, terminal) = terminal();
        let mut ring = Ring::new(mode);
        let read = ring.read(&terminal, 16);
        ring.submit();
        assert_eq!(ring.pair("read idle (terminal)", read), (0, CANCELLED));

        put(&typist, b"later\n");
        let next = ring.read(&terminal, 16);
        let len = ring.result(next);
        assert_eq!(ring.bytes(next, len), b"later\n");
    }
}

// What is typed behind the line stays for whoever reads next, who may be another program.
#[test]
fn a_read_of_a_terminal_brings_one_line_however_many_there_are() {
    for mode in MODES {
        let (typist, terminal) = terminal();
        put(&typist, b"one\ntwo\n\x04");
        let mut ring = Ring::new(mode);
        for line in [&b"one\n"[..], b"two\n", b""] {
            let read = ring.read(&terminal, 16);
            let len = ring.result(read);
            assert_eq!(ring.bytes(read, len), line);
        }
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
