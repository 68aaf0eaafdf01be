//! POLL_ADD, single and multishot.

use std::process::{Command, Stdio};

use crate::ring::Ring;
use crate::sockets::{Family, end_writes, eventfd, everywhere, has_arrived, pidfd, put};
use crate::world::{CANCELLED, MODES, Mode, NOT_FOUND, note};

const READABLE: i32 = libc::POLLIN as i32;

#[test]
fn an_idle_poll_is_cancelled() {
    for (mode, multi) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let event = eventfd();
        let mut ring = Ring::new(mode);
        let poll = if multi { ring.poll_multi(&event) } else { ring.poll(&event) };
        ring.submit();
        let what = if multi { "multishot poll idle" } else { "poll idle" };
        assert_eq!(ring.pair(what, poll), (0, CANCELLED));
    }
}

#[test]
fn a_poll_that_fired_before_its_cancel_is_seen_or_seen_again() {
    for mode in MODES {
        let event = eventfd();
        let mut ring = Ring::new(mode);
        let poll = ring.poll(&event);
        ring.submit();
        put(&event, &1u64.to_ne_bytes());
        let pair = ring.pair("poll, fired", poll);
        match mode {
            Mode::Default => assert_eq!(pair, (NOT_FOUND, READABLE)),
            Mode::Defer => assert_eq!(pair, (0, CANCELLED)),
        }

        // Level triggered: what one poll lost, the next finds.
        let again = ring.poll(&event);
        assert_eq!(ring.result(again), READABLE);
    }
}

#[test]
fn a_multishot_poll_that_fired_before_its_cancel_is_seen_or_seen_again() {
    for mode in MODES {
        let event = eventfd();
        let mut ring = Ring::new(mode);
        let poll = ring.poll_multi(&event);
        ring.submit();
        put(&event, &1u64.to_ne_bytes());
        let outcome = ring.outcome("multishot poll, fired", poll);
        assert_eq!(outcome.cancel, 0);
        match mode {
            Mode::Default => assert_eq!(outcome.results(), [READABLE, CANCELLED]),
            Mode::Defer => assert_eq!(outcome.results(), [CANCELLED]),
        }

        let again = ring.poll(&event);
        assert_eq!(ring.result(again), READABLE);
    }
}

/// What ends every poll, asked for or not: an error, a hang-up, and also this.
const FINISHED: i32 = libc::POLLRDHUP as i32;

#[test]
fn an_end_and_a_hang_up_count_as_ready() {
    for (mode, family) in everywhere() {
        let (near, far) = family.pair();
        let mut ring = Ring::new(mode);
        let poll = ring.poll(&near);
        ring.submit();
        assert!(ring.is_quiet(poll));
        end_writes(&far);
        assert_eq!(ring.result(poll), READABLE | FINISHED);
        put(&near, b"unread");
        assert!(has_arrived(&far));
        drop(far);
        let mut seen = READABLE | FINISHED;
        while seen == READABLE | FINISHED {
            let poll = ring.poll(&near);
            seen = ring.result(poll);
        }
        assert_eq!(seen & READABLE, READABLE);
        assert_ne!(seen & libc::POLLHUP as i32, 0, "{seen:#x}");
        note(&format!("poll of a {family} socket that was reset"), mode, format!("{seen:#x}"));
    }
}

#[test]
fn a_regular_file_is_always_ready() {
    for mode in MODES {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let mut ring = Ring::new(mode);
        let poll = ring.poll(&file);
        assert_eq!(ring.result(poll), READABLE);
    }
}

// Whoever has a poll under way has the file, whatever becomes of its number.
#[test]
fn a_file_that_is_polled_is_released_when_the_poll_has_ended() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let mut ring = Ring::new(mode);
        let poll = ring.poll(&near);
        ring.submit();
        drop(near);
        assert!(!has_arrived(&far), "the end of the stream");
        assert!(ring.is_quiet(poll), "nobody tells the poll");
        assert_eq!(ring.pair("poll of a closed descriptor", poll), (0, CANCELLED));
        assert!(has_arrived(&far), "the end of the stream");
    }
}

// What a process is waited for by: it says so when it has ended, and goes on saying it until it is reaped.
#[test]
fn a_pidfd_is_readable_when_its_process_has_ended() {
    for mode in MODES {
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd(&child);
        let mut ring = Ring::new(mode);
        let idle = ring.poll(&pidfd);
        ring.submit();
        assert_eq!(ring.pair("poll of a pidfd", idle), (0, CANCELLED));
        let poll = ring.poll(&pidfd);
        ring.submit();
        assert!(ring.is_quiet(poll));
        drop(child.stdin.take());
        assert_eq!(ring.result(poll), READABLE);
        let again = ring.poll(&pidfd);
        assert_eq!(ring.result(again), READABLE);
        assert!(child.try_wait().unwrap().is_some_and(|status| status.success()));
        // Newer kernels add that nobody is left to be waited for.
        let reaped = ring.poll(&pidfd);
        let seen = ring.result(reaped);
        assert_eq!(seen & READABLE, READABLE);
        note("poll of a pidfd of a process that was reaped", mode, format!("{seen:#x}"));
    }
}
