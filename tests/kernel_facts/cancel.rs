//! ASYNC_CANCEL by user_data, whatever the target.

use libc::MSG_WAITALL;

use crate::ring::Ring;
use crate::sockets::{Family, packet_pair, put};
use crate::world::{CANCELLED, MODES, Mode, NOT_FOUND, name, note, row};

#[test]
fn a_cancel_that_finds_nothing_says_so() {
    for mode in MODES {
        let mut ring = Ring::new(mode);
        let ended = ring.nop();
        assert_eq!(ring.result(ended), 0);
        let cancel = ring.cancel(ended);
        let cancel = ring.result(cancel);
        note("unknown user_data", mode, format!("cancel {} | target -", name(cancel)));
        assert_eq!(cancel, NOT_FOUND);
    }
}

#[test]
fn a_nop_completes_before_a_cancel_in_the_same_batch() {
    for mode in MODES {
        let mut ring = Ring::new(mode);
        let nop = ring.nop();
        assert_eq!(ring.pair("nop, cancelled in one batch", nop), (NOT_FOUND, 0));
    }
}

#[test]
fn a_cancel_after_its_target_in_one_batch_finds_it() {
    for mode in MODES {
        let (near, _far) = Family::Unix.pair();
        let mut ring = Ring::new(mode);
        let recv = ring.recv(&near, 16, 0);
        assert_eq!(ring.pair("recv, then cancel, in one batch", recv), (0, CANCELLED));
    }
}

#[test]
fn a_cancel_before_its_target_in_one_batch_misses_and_the_target_stays_armed() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let mut ring = Ring::new(mode);
        let target = ring.token_after_next();
        let cancel = ring.cancel(target);
        assert_eq!(ring.recv(&near, 16, 0), target);
        let cancel = ring.result(cancel);
        assert!(ring.is_quiet(target));

        put(&far, b"hello");
        let result = ring.result(target);
        row("cancel, then recv, in one batch", mode, &[cancel], &[result]);
        assert_eq!((cancel, result), (NOT_FOUND, 5));
    }
}

/// A poll that is ready while it is being armed queues the retry as task work. Until that has run
/// no cancel finds the operation; the retry may arm it again, and then it waits on, uncancelled.
#[test]
fn under_defer_a_cancel_can_miss_a_target_that_goes_on_waiting() {
    for mode in MODES {
        let (near, far) = packet_pair();
        put(&far, b"abc");
        put(&far, b"def");
        let mut ring = Ring::new(mode);
        // Takes the first packet, and finds the second when it arms its poll.
        let recv = ring.recv(&near, 10, MSG_WAITALL);
        ring.submit();
        let (cancels, result) = ring.insist("recv WAITALL, retry queued", recv);
        assert_missed_at_most_once(mode, &cancels);
        assert_eq!(ring.bytes(recv, result), b"abcdef");
    }
}

#[test]
fn under_defer_asking_for_completions_first_is_no_help_against_a_missing_cancel() {
    for mode in MODES {
        let (near, far) = packet_pair();
        let mut ring = Ring::new(mode);
        let recv = ring.recv(&near, 10, MSG_WAITALL);
        ring.submit();
        put(&far, b"abc");
        put(&far, b"def");
        ring.enter(0);
        let (cancels, result) = ring.insist("recv WAITALL, retry queued in enter", recv);
        assert_missed_at_most_once(mode, &cancels);
        assert_eq!(ring.bytes(recv, result), b"abcdef");
    }
}

#[test]
fn a_silent_cancel_that_hits_posts_nothing() {
    for mode in MODES {
        let (near, _far) = Family::Unix.pair();
        let mut ring = Ring::new(mode);
        let recv = ring.recv(&near, 16, 0);
        ring.submit();
        let cancel = ring.cancel_silently(recv);
        let result = ring.result(recv);
        let quiet = ring.is_quiet(cancel);
        let seen = if quiet { "no CQE" } else { "a CQE" };
        note("SKIP_SUCCESS, hit", mode, format!("cancel {seen} | target {}", name(result)));
        assert_eq!((quiet, result), (true, CANCELLED));
    }
}

#[test]
fn a_silent_cancel_that_misses_still_says_so() {
    for mode in MODES {
        let mut ring = Ring::new(mode);
        let ended = ring.nop();
        assert_eq!(ring.result(ended), 0);
        let cancel = ring.cancel_silently(ended);
        let cancel = ring.result(cancel);
        note("SKIP_SUCCESS, miss", mode, format!("cancel {} | target -", name(cancel)));
        assert_eq!(cancel, NOT_FOUND);
    }
}

#[test]
fn under_defer_the_target_ends_only_after_its_cancel_was_submitted() {
    for mode in MODES {
        let (near, _far) = Family::Unix.pair();
        let mut ring = Ring::new(mode);
        let recv = ring.recv(&near, 16, 0);
        ring.submit();
        let cancel = ring.cancel(recv);
        ring.submit();
        let visible = ring.visible();
        note("cancel submitted without GETEVENTS", mode, format!("{visible} of 2 CQEs visible"));
        assert_eq!(visible, if mode == Mode::Defer { 1 } else { 2 });
        assert_eq!((ring.result(cancel), ring.result(recv)), (0, CANCELLED));
    }
}

#[test]
fn a_sweep_of_silent_cancels_leaves_exactly_one_completion_for_each_target() {
    for mode in MODES {
        let pairs: Vec<_> = (0..32).map(|_| Family::Unix.pair()).collect();
        let mut ring = Ring::new(mode);
        let recvs: Vec<_> = pairs.iter().map(|(near, _)| ring.recv(near, 16, 0)).collect();
        ring.submit();
        for &recv in &recvs {
            ring.cancel_silently(recv);
        }
        ring.enter(recvs.len());
        let seen = ring.reap();
        note("32 silent cancels, one enter", mode, format!("{seen} CQEs"));
        assert_eq!(seen, recvs.len());
        assert!(recvs.into_iter().all(|recv| ring.result(recv) == CANCELLED));
    }
}

/// So a missing cancel is known by its CQE, and only by that: whoever ignores it waits for ever.
#[test]
fn under_defer_a_silent_cancel_speaks_exactly_if_its_target_goes_on_waiting() {
    let (near, far) = packet_pair();
    put(&far, b"abc");
    put(&far, b"def");
    let mut ring = Ring::new(Mode::Defer);
    let recv = ring.recv(&near, 10, MSG_WAITALL);
    ring.submit();
    let cancel = ring.cancel_silently(recv);
    let waits = ring.is_quiet(recv);
    let said = ring.take(cancel).map(|completion| completion.result);
    let seen = said.map_or("no CQE".to_owned(), name);
    let target = if waits { "goes on waiting" } else { "has ended" };
    note("SKIP_SUCCESS, retry queued", Mode::Defer, format!("cancel {seen} | target {target}"));
    assert_eq!(said, waits.then_some(NOT_FOUND));

    if waits {
        ring.cancel_silently(recv);
    }
    let result = ring.result(recv);
    assert_eq!(ring.bytes(recv, result), b"abcdef");
}

/// One miss, since what the missing cancel's own enter ran was the last retry.
fn assert_missed_at_most_once(mode: Mode, cancels: &[i32]) {
    match mode {
        Mode::Default => assert_eq!(cancels, [0]),
        Mode::Defer => assert!(matches!(cancels, [0] | [NOT_FOUND, 0]), "{cancels:?}"),
    }
}
