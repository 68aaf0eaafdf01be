//! ACCEPT, single and multishot.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libc::EMFILE;

use crate::ring::Ring;
use crate::sockets::{Door, FAMILIES, Family, adopt, check, everywhere, has_arrived};
use crate::world::{CANCELLED, MODES, Mode, NOT_FOUND, alone, names, note};

#[test]
fn an_idle_accept_is_cancelled() {
    for (mode, family) in everywhere() {
        let door = Door::new(family);
        let mut ring = Ring::new(mode);
        let accept = ring.accept(&door);
        ring.submit();
        let pair = ring.pair(&format!("accept idle ({family})"), accept);
        assert_eq!(pair, (0, CANCELLED));

        let _visitor = door.knock();
        assert!(has_arrived(&door), "the cancelled accept took a connection");
    }
}

#[test]
fn under_defer_a_cancelled_accept_leaves_the_connection_in_the_backlog() {
    for family in FAMILIES {
        let door = Door::new(family);
        let mut ring = Ring::new(Mode::Defer);
        let accept = ring.accept(&door);
        ring.submit();
        let _visitor = door.knock();
        assert!(has_arrived(&door));
        let pair = ring.pair(&format!("accept, conn arrived ({family})"), accept);
        assert_eq!(pair, (0, CANCELLED));

        let next = ring.accept(&door);
        adopt(ring.result(next));
        assert!(door.backlog().is_none());
    }
}

#[test]
fn on_a_default_ring_an_arrived_connection_completes_the_accept_before_its_cancel() {
    let door = Door::new(Family::Unix);
    let mut ring = Ring::new(Mode::Default);
    let accept = ring.accept(&door);
    ring.submit();
    let _visitor = door.knock();
    let (cancel, fd) = ring.pair("accept, conn arrived (unix)", accept);
    let _connection = adopt(fd);
    assert_eq!(cancel, NOT_FOUND);
    assert!(door.backlog().is_none());
}

#[test]
fn on_a_default_ring_a_connection_from_a_softirq_is_delivered_or_stays() {
    let door = Door::new(Family::Tcp);
    let mut ring = Ring::new(Mode::Default);
    let accept = ring.accept(&door);
    ring.submit();
    let _visitor = door.knock();
    match ring.pair("accept, conn arrived (tcp)", accept) {
        (NOT_FOUND, fd) => drop(adopt(fd)),
        (0, result) => {
            assert_eq!(result, CANCELLED);
            assert!(has_arrived(&door));
            assert!(door.backlog().is_some());
        }
        other => panic!("a connection neither delivered nor left: {other:?}"),
    }
    assert!(door.backlog().is_none());
}

#[test]
fn an_idle_multishot_accept_is_cancelled() {
    for (mode, family) in everywhere() {
        let door = Door::new(family);
        let mut ring = Ring::new(mode);
        let accept = ring.accept_multi(&door);
        ring.submit();
        let outcome = ring.outcome(&format!("multishot accept idle ({family})"), accept);
        assert_eq!((outcome.cancel, outcome.results()), (0, vec![CANCELLED]));
    }
}

#[test]
fn a_multishot_accept_cancelled_with_a_connection_pending_loses_none() {
    for (mode, family) in everywhere() {
        let door = Door::new(family);
        let mut ring = Ring::new(mode);
        let accept = ring.accept_multi(&door);
        ring.submit();
        let _visitor = door.knock();
        if mode == Mode::Defer {
            assert!(has_arrived(&door));
        }
        let outcome = ring.outcome(&format!("multishot accept, conn pending ({family})"), accept);
        assert_eq!(outcome.pair(), (0, CANCELLED));

        let delivered = descriptors(&outcome.results()).len();
        if delivered == 0 {
            assert!(has_arrived(&door), "a connection neither delivered nor left");
        }
        let left = usize::from(door.backlog().is_some());
        match (mode, family) {
            (Mode::Defer, _) => assert_eq!((delivered, left), (0, 1)),
            (Mode::Default, Family::Unix) => assert_eq!((delivered, left), (1, 0)),
            (Mode::Default, Family::Tcp) => assert_eq!(delivered + left, 1),
        }
    }
}

#[test]
fn a_multishot_accept_out_of_descriptors_ends_and_the_connection_stays_queued() {
    let name = "a_multishot_accept_out_of_descriptors_ends_and_the_connection_stays_queued";
    alone(&format!("accept::{name}"), || MODES.into_iter().for_each(run_out_of_descriptors));
}

fn run_out_of_descriptors(mode: Mode) {
    let door = Door::new(Family::Unix);
    let mut ring = Ring::new(mode);
    let _visitors = [door.knock(), door.knock()];
    // The limit that counts is the one at the time of the submission.
    let limit = Limit::one_more_than_now(&door);
    let accept = ring.accept_multi(&door);
    ring.submit();
    let results: Vec<i32> = ring.finish(accept).iter().map(|event| event.result).collect();
    note("multishot accept, room for 1 of 2", mode, format!("target {}", names(&results)));
    let [first, last] = results[..] else { panic!("two connections, two answers: {results:?}") };
    let _first = adopt(first);
    assert_eq!(last, -EMFILE);
    drop(limit);

    let again = ring.accept(&door);
    adopt(ring.result(again));
    assert!(door.backlog().is_none());
}

/// A lowered limit on open descriptors; dropping it restores the old one.
struct Limit(libc::rlimit);

impl Limit {
    fn one_more_than_now(any: impl AsFd) -> Limit {
        let free = any.as_fd().try_clone_to_owned().expect("room for a clone").as_raw_fd();
        let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a place for one limit, for the time of the call.
        check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut old) });
        Limit::set(libc::rlimit { rlim_cur: free as libc::rlim_t + 1, ..old });
        Limit(old)
    }

    fn set(limit: libc::rlimit) {
        // SAFETY: one limit, for the time of the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) });
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        Limit::set(self.0);
    }
}

/// The descriptors among `results`, adopted.
fn descriptors(results: &[i32]) -> Vec<OwnedFd> {
    results.iter().filter(|&&result| result >= 0).map(|&fd| adopt(fd)).collect()
}
