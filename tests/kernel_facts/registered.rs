//! READ_FIXED: memory that is registered in a place of a sparse table.

use std::io::ErrorKind;

use crate::ring::Ring;
use crate::sockets::{pipe, put};
use crate::world::{CANCELLED, MODES, alone, names, note};

const LEN: usize = 4096;

#[test]
fn a_read_keeps_to_the_memory_of_its_place() {
    for mode in MODES {
        let (reader, writer) = pipe();
        put(&writer, b"hello");
        let mut ring = Ring::new(mode).with_registered(2, LEN);
        let mut refused = Vec::new();
        for (place, to, len) in
            [(0, LEN - 4, 5), (0, LEN, 1), (0, 0, LEN as u32 + 1), (1, 0, 5), (2, 0, 5)]
        {
            let read = ring.read_registered(&reader, place, to, len);
            refused.push(ring.result(read));
        }
        note("read beyond, of an empty place, of none", mode, names(&refused));
        assert_eq!(refused, [-libc::EFAULT; 5]);

        let read = ring.read_registered(&reader, 0, LEN - 5, 5);
        assert_eq!(ring.result(read), 5);
        assert_eq!(ring.registered()[LEN - 6..], *b"\0hello");
    }
}

#[test]
fn an_idle_read_into_registered_memory_is_cancelled_and_takes_nothing() {
    for mode in MODES {
        let (reader, writer) = pipe();
        let mut ring = Ring::new(mode).with_registered(1, LEN);
        let read = ring.read_registered(&reader, 0, 0, 5);
        ring.submit();
        assert_eq!(ring.pair("read idle (registered)", read), (0, CANCELLED));

        put(&writer, b"later");
        let next = ring.read_registered(&reader, 0, 0, 5);
        assert_eq!(ring.result(next), 5);
        assert!(ring.registered().starts_with(b"later\0"));
    }
}

/// The kernel holds the pages for as long as an operation needs them; the place is free at once.
#[test]
fn memory_is_unregistered_while_an_operation_uses_it() {
    for mode in MODES {
        let (reader, writer) = pipe();
        let mut ring = Ring::new(mode).with_registered(1, LEN);
        let read = ring.read_registered(&reader, 0, 0, 5);
        ring.submit();
        ring.unregister();
        let late = ring.read_registered(&reader, 0, 0, 5);
        assert_eq!(ring.result(late), -libc::EFAULT);
        put(&writer, b"hello");
        assert_eq!(ring.result(read), 5);
        assert!(ring.registered().starts_with(b"hello\0"));
    }
}

#[test]
fn a_place_that_has_memory_takes_other_memory() {
    for mode in MODES {
        let (reader, writer) = pipe();
        let mut ring = Ring::new(mode).with_registered(1, LEN);
        ring.try_register_again().unwrap();
        ring.unregister();
        ring.unregister();
        ring.try_register_again().unwrap();
        put(&writer, b"hello");
        let read = ring.read_registered(&reader, 0, 0, 5);
        assert_eq!(ring.result(read), 5);
        assert!(ring.registered().starts_with(b"hello\0"));
    }
}

/// The limit does not count for those who may lock memory as they like.
#[test]
fn what_the_limit_on_locked_memory_does_not_allow_is_refused() {
    let test = "registered::what_the_limit_on_locked_memory_does_not_allow_is_refused";
    alone(test, || {
        // SAFETY: this process has nothing else to do.
        unsafe { libc::setuid(NOBODY) };
        for mode in MODES {
            // Some kernels count what the ring itself takes.
            let mut ring = Ring::new(mode);
            let before = limit_locked_memory(0);
            let refused = ring.try_register(1, LEN).unwrap_err();
            limit_locked_memory(before);
            note("register beyond the limit", mode, &refused);
            assert_eq!(refused.kind(), ErrorKind::OutOfMemory);
            ring.try_register_again().unwrap();
        }
    });
}

/// Sets the limit of this process, and says what it was.
fn limit_locked_memory(bytes: libc::rlim_t) -> libc::rlim_t {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a place for the answer.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    let before = std::mem::replace(&mut limit.rlim_cur, bytes);
    // SAFETY: a limit to be read.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) }, 0);
    before
}

const NOBODY: libc::uid_t = 65_534;
