//! When completions become visible, how many at a time, and what happens when the queue is full.

use std::os::fd::OwnedFd;

use crate::ring::{Ring, Token};
use crate::sockets::{Family, packet_pair, put};
use crate::world::{CANCELLED, MODES, Mode, note, since};

/// Receives made ready at once, to see in what batches they complete.
const READY: usize = 64;

#[test]
fn under_defer_completions_appear_only_in_an_enter_that_asks_for_them() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let mut ring = Ring::new(mode);
        let recv = ring.recv(&near, 16, 0);
        ring.submit();
        put(&far, b"hello");
        let (looking, flagged) = (ring.visible(), ring.has_task_work());
        ring.submit();
        let submitting = ring.visible();
        ring.enter(0);
        let asking = ring.visible();
        let seen = format!("visible: looking {looking}, enter {submitting}, GETEVENTS {asking}");
        note("recv, data arrived", mode, seen);
        match mode {
            Mode::Default => assert_eq!((looking, submitting, asking), (1, 1, 1)),
            Mode::Defer => assert_eq!((looking, submitting, asking), (0, 0, 1)),
        }
        assert_eq!(flagged, mode == Mode::Defer, "TASKRUN says that work is waiting");
        assert_eq!(ring.result(recv), 5);
    }
}

#[test]
fn under_defer_an_enter_runs_as_many_completions_as_it_waits_for() {
    for multi in [false, true] {
        let batches = batches(multi, READY);
        note_batches(multi, READY, &batches);
        assert_eq!(batches, [READY]);
    }
}

#[test]
fn under_defer_an_enter_that_waits_for_one_may_leave_ready_ones_for_the_next() {
    for multi in [false, true] {
        let batches = batches(multi, 1);
        note_batches(multi, 1, &batches);
        assert_eq!(batches.iter().sum::<usize>(), READY);
        // 6.13 brought the limit of 20 items of work in one pass; an enter makes a few passes.
        if since(6, 13) {
            assert!(batches[0] < READY, "{batches:?}");
        }
    }
}

#[test]
fn a_full_queue_ends_a_multishot_recv_and_loses_no_packet() {
    for mode in MODES {
        let (near, far) = packet_pair();
        (0..PACKETS).for_each(|packet| put(&far, &[packet]));
        // More buffers than packets: the pool is not what runs out.
        let mut ring = Ring::sized(mode, 4, ENTRIES as u32).with_pool(32, 16);
        let (mut got, mut activations) = (Vec::new(), 0);
        while got.len() < PACKETS.into() {
            let recv = ring.recv_multi(&near);
            ring.enter(1);
            got.extend(activation(&mut ring, recv));
            activations += 1;
        }
        let seen = format!("{PACKETS} packets in {activations} activations, CQ of {ENTRIES}");
        note("multishot recv, CQ full", mode, seen);
        assert!(got.into_iter().eq(0..PACKETS), "each packet once, in order");
        assert!(activations > 1, "a full queue ends a multishot");
    }
}

/// Packets sent into a completion queue of `ENTRIES`.
const PACKETS: u8 = 24;
const ENTRIES: usize = 8;

/// The packets of one activation, until it ends of itself or has nothing more to bring.
fn activation(ring: &mut Ring, recv: Token) -> Vec<u8> {
    if ring.overflowed() {
        assert_eq!(ring.reap(), ENTRIES);
        assert_eq!(ring.visible(), 0, "only an enter brings what did not fit");
    } else {
        ring.cancel_silently(recv);
    }
    let events = ring.finish(recv);
    let packets = events.iter().filter(|event| event.result > 0);
    packets.flat_map(|event| ring.lease(event)).collect()
}

/// Makes all receives ready, then counts what each enter that waits for `wanted` completes.
fn batches(multi: bool, wanted: usize) -> Vec<usize> {
    let pairs: Vec<(OwnedFd, OwnedFd)> = (0..READY).map(|_| Family::Unix.pair()).collect();
    let mut ring = Ring::new(Mode::Defer).with_pool(2 * READY as u16, 16);
    let recvs: Vec<Token> = match multi {
        true => pairs.iter().map(|(near, _)| ring.recv_multi(near)).collect(),
        false => pairs.iter().map(|(near, _)| ring.recv(near, 16, 0)).collect(),
    };
    ring.submit();
    pairs.iter().for_each(|(_, far)| put(far, b"x"));
    let mut batches = Vec::new();
    while batches.iter().sum::<usize>() < READY {
        ring.enter(wanted);
        batches.push(ring.reap());
    }
    assert!(recvs.iter().all(|&recv| ring.take(recv).is_some_and(|event| event.result == 1)));
    if multi {
        recvs.iter().for_each(|&recv| end(&mut ring, recv));
    }
    batches
}

fn end(ring: &mut Ring, armed: Token) {
    ring.cancel_silently(armed);
    assert_eq!(ring.result(armed), CANCELLED);
}

fn note_batches(multi: bool, wanted: usize, batches: &[usize]) {
    let what = if multi { "64 ready multishot recvs" } else { "64 ready recvs" };
    let batches: Vec<String> = batches.iter().map(usize::to_string).collect();
    note(what, Mode::Defer, format!("waiting for {wanted}: {}", batches.join("+")));
}
