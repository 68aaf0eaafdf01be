//! POLL_ADD, single and multishot.

use crate::ring::Ring;
use crate::sockets::{eventfd, put};
use crate::world::{CANCELLED, MODES, Mode, NOT_FOUND};

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
