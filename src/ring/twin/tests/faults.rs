//! Each kind of fault, by a tape that is written out.

use std::time::Duration;

use super::*;

/// A tape whose lane of faults begins like this, after the bytes that would switch kinds off.
fn faulty(bytes: &str) -> String {
    format!("fault:{}{bytes}", "00".repeat(15))
}

#[test]
fn an_interrupted_enter_takes_nothing_or_runs_nothing_but_not_twice_in_a_row() {
    let faults = Faults { interrupt: 255, ..Faults::none() };
    let mut rig = Rig::scripted(&faulty("01000101"), faults);
    let nop = rig.push(Request::Nop);
    rig.enter();
    assert_eq!(rig.twin.unsubmitted(), 1);
    assert_eq!(rig.twin.next_event(), Some(rig.clock.now()), "there is something left to do");
    assert_eq!(rig.wait(nop).result, 0);
    rig.enter();
    assert_eq!(rig.twin.unsubmitted(), 0);
    rig.finish(&[]);
}

#[test]
fn an_enter_may_take_a_part_of_the_queue() {
    let faults = Faults { submit_less: 255, ..Faults::none() };
    let mut rig = Rig::scripted(&faulty("0100"), faults);
    let nops: Vec<_> = (0..3).map(|_| rig.push(Request::Nop)).collect();
    rig.enter();
    assert_eq!((rig.came.len(), rig.twin.unsubmitted()), (1, 2));
    assert_eq!(rig.wait(nops[2]).result, 0);
    rig.finish(&[]);
}

#[test]
fn unasked_interruptions_come_a_few_times_in_a_row_at_most() {
    let faults = Faults { spurious: 255, ..Faults::none() };
    let mut rig = Rig::scripted(&faulty("01000101010201"), faults);
    let listener = rig.listen("127.0.0.1:80", 1);
    let accept = Request::Accept { fd: listener, multishot: true };
    let expected = [-libc::EINTR, -libc::ECANCELED, -512];
    assert_eq!([(); 3].map(|()| rig.result(accept)), expected);
    let waits = rig.pending(accept);
    rig.cancel(waits);
    rig.finish(&[listener]);
}

#[test]
fn an_interrupted_close_has_closed() {
    let faults = Faults { spurious: 255, ..Faults::none() };
    let mut rig = Rig::scripted(&faulty("01"), faults);
    let listener = rig.listen("127.0.0.1:80", 1);
    assert_eq!(rig.result(Request::Close { fd: listener, may_block: false }), -libc::EINTR);
    assert_eq!(rig.listen("127.0.0.1:80", 1), listener, "the number is in use again");
    rig.finish(&[listener]);
}

#[test]
fn completions_may_come_in_another_order() {
    let faults = Faults { reorder: 255, ..Faults::none() };
    // Both are put off; then the second one of the two is taken.
    let mut rig = Rig::scripted("order:01010101", faults);
    let nops = [(); 2].map(|()| rig.push(Request::Nop));
    rig.enter();
    let order: Vec<_> = rig.came.iter().map(|completion| completion.token).collect();
    assert_eq!(order, [nops[1], nops[0]]);
    rig.finish(&[]);
}

#[test]
fn results_of_one_multishot_keep_their_order() {
    let faults = Faults { reorder: 255, delay: 255, ..Faults::none() };
    for seed in 0..if cfg!(miri) { 2 } else { 20 } {
        let mut rig = Rig::new(Tape::from_seed(seed), faults);
        let listener = rig.listen("127.0.0.1:80", 16);
        let clients: Vec<_> = (0..10).map(|_| rig.connect("127.0.0.1:80").0).collect();
        let accept = rig.push(Request::Accept { fd: listener, multishot: true });
        let accepted: Vec<_> = clients.iter().map(|_| rig.wait(accept).result).collect();
        assert!(accepted.is_sorted(), "{accepted:?}");
        rig.cancel(accept);
        rig.finish(&[clients, accepted, vec![listener]].concat());
    }
}

#[test]
fn a_transfer_may_be_short_and_a_connection_narrow() {
    let faults = Faults { short: 255, ..Faults::none() };
    // Two bytes fit on the way to the client; on the way to the server there is one short transfer.
    let mut rig = Rig::scripted("transfer:0101000101", faults);
    let [client, server] = rig.pair();
    assert_eq!(rig.send(client, b"12345"), 2);
    assert_eq!(rig.send(client, b"345"), 3);
    assert_eq!(rig.receive(server, 9).unwrap(), b"12345");
    assert_eq!(rig.send(server, b"12345"), 2, "there is no room for more");
    assert_eq!(rig.receive(client, 9).unwrap(), b"12");
    rig.finish(&[client, server]);
}

#[test]
fn a_connection_may_break_when_something_is_sent() {
    let faults = Faults { reset: 255, ..Faults::none() };
    let mut rig = Rig::scripted("network:01", faults);
    let [client, server] = rig.pair();
    assert_eq!(rig.send(client, b"x"), -libc::ECONNRESET);
    assert_eq!(rig.send(client, b"x"), -libc::EPIPE, "it is told once");
    assert_eq!(rig.receive(server, 9), Err(libc::ECONNRESET));
    rig.finish(&[client, server]);
}

#[test]
fn connects_and_accepts_may_fail_and_be_repeated() {
    let faults = Faults { connect_fails: 255, accept_errors: 255, ..Faults::none() };
    let mut rig = Rig::scripted(&format!("{},network:0101", faulty("0101")), faults);
    let listener = rig.listen("127.0.0.1:80", 1);
    let (client, result) = rig.connect("127.0.0.1:80");
    assert_eq!(result, -libc::ETIMEDOUT);
    assert_eq!(rig.connect_on(client, "127.0.0.1:80".parse().unwrap()), 0);
    let accept = Request::Accept { fd: listener, multishot: false };
    assert_eq!(rig.result(accept), -libc::EMFILE);
    let server = rig.result(accept);
    rig.finish(&[client, server, listener]);
}

#[test]
fn the_kernel_may_scribble_over_what_it_has() {
    let faults = Faults { scribble: 255, ..Faults::none() };
    let mut rig = Rig::scripted(&faulty("000000000108"), faults);
    let [client, server] = rig.pair();
    let memory = Memory::of(&[0; 4]);
    let receive = rig.pending(Request::Recv { fd: server, into: memory.region() });
    rig.enter();
    assert_eq!(rig.send(client, b"x"), 1);
    assert_eq!(rig.wait(receive).result, 1);
    assert_eq!(memory.bytes(), [b'x', 8, 8, 8]);
    rig.finish(&[client, server]);
}

#[test]
fn segments_may_take_longer_than_others_and_stay_in_order() {
    let faults = Faults { delay: 255, ..Faults::none() };
    let mut rig = Rig::scripted("network:010500", faults);
    let [client, server] = rig.pair();
    let began = rig.clock.now();
    assert_eq!(rig.send(client, b"first"), 5);
    assert_eq!(rig.send(client, b"second"), 6);
    assert_eq!(rig.receive(server, 99).unwrap(), b"firstsecond");
    assert_eq!(rig.clock.now() - began, Duration::from_micros(32));
    rig.finish(&[client, server]);
}
