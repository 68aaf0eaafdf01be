//! Every answer that a cancel can get, and what becomes of its target.

use super::*;

fn odd() -> Faults {
    Faults { cancel_odd: 255, ..Faults::none() }
}

/// A receive that waits, on a connection: with the client, the server, and its memory.
fn waiting(rig: &mut Rig) -> (RawFd, RawFd, Memory, Token) {
    let [client, server] = rig.pair();
    let memory = Memory::of(&[0; 8]);
    let token = rig.pending(Request::Recv { fd: server, into: memory.region() });
    (client, server, memory, token)
}

#[test]
fn a_waiting_operation_is_hit_and_the_cancel_says_nothing() {
    let mut rig = Rig::tame();
    let (client, server, _memory, token) = waiting(&mut rig);
    assert_eq!(rig.cancel(token), cancelled(&[], &[-libc::ECANCELED]));
    rig.send(client, b"kept");
    assert_eq!(rig.receive(server, 9).unwrap(), b"kept");
    rig.finish(&[client, server]);
}

#[test]
fn what_is_unknown_or_has_ended_or_comes_later_is_not_found() {
    let mut rig = Rig::tame();
    let nop = rig.push(Request::Nop);
    rig.enter();
    rig.push_cancel(nop);
    rig.enter();
    assert_eq!(rig.poll(nop.for_cancel()).unwrap().result, -libc::ENOENT);
    let [client, server] = rig.pair();
    let memory = Memory::of(&[0; 8]);
    // A cancel before its target, in one batch.
    let late = Token::new(super::super::super::TokenKind::Operation, 999, 9);
    assert!(rig.twin.push_cancel(late));
    assert!(rig.twin.push(late, &Request::Recv { fd: server, into: memory.region() }));
    rig.enter();
    assert_eq!(rig.poll(late.for_cancel()).unwrap().result, -libc::ENOENT);
    assert!(rig.poll(late).is_none(), "it waits");
    assert_eq!(rig.cancel(late), cancelled(&[], &[-libc::ECANCELED]));
    rig.finish(&[client, server]);
}

#[test]
fn a_cancelled_send_reports_what_was_sent() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let memory = Memory::of(&vec![1; LARGE]);
    let all = rig.pending(Request::Send { fd: client, from: memory.region(), all: true });
    assert_eq!(rig.cancel(all), cancelled(&[], &[CAPACITY as i32]));
    let none = rig.pending(Request::Send { fd: client, from: memory.region(), all: true });
    assert_eq!(rig.cancel(none), cancelled(&[], &[-libc::ECANCELED]));
    let mut left = CAPACITY;
    while left > 0 {
        left -= rig.receive(server, LARGE).unwrap().len();
    }
    rig.finish(&[client, server]);
}

#[test]
fn a_cancelled_accept_leaves_the_connection_in_the_backlog() {
    let mut rig = Rig::tame();
    let listener = rig.listen("127.0.0.1:80", 8);
    let accept = rig.pending(Request::Accept { fd: listener, multishot: false });
    let to: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let client = rig.world.tcp_socket(to).unwrap();
    let address = Address::new(to);
    rig.push(Request::Connect { fd: client, to: address.region() });
    // The connection is there, but the task work of the accept has not run.
    assert_eq!(rig.cancel(accept), cancelled(&[], &[-libc::ECANCELED]));
    let server = rig.result(Request::Accept { fd: listener, multishot: false });
    assert!(server > 0);
    rig.finish(&[client, server, listener]);
}

#[test]
fn a_cancelled_connect_goes_on_behind_the_back_of_everybody() {
    let mut rig = Rig::tame();
    let listener = rig.listen("127.0.0.1:80", 8);
    rig.world.set_latency(std::time::Duration::from_millis(1));
    let to: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let client = rig.world.tcp_socket(to).unwrap();
    let address = Address::new(to);
    let request = Request::Connect { fd: client, to: address.region() };
    let connect = rig.pending(request);
    assert_eq!(rig.cancel(connect), cancelled(&[], &[-libc::ECANCELED]));
    assert_eq!(rig.result(request), -libc::EALREADY);
    while let Some(next) = rig.twin.next_event() {
        rig.clock.advance_to(next);
        rig.enter();
    }
    assert_eq!(rig.result(request), 0);
    assert_eq!(rig.result(request), -libc::EISCONN);
    rig.finish(&[client, listener]);
}

#[test]
fn success_may_have_come_first() {
    // Odd, and the first kind; the answer after the success, or before it.
    for (tape, before) in [("cancel:0100", false), ("cancel:010001", true)] {
        let mut rig = Rig::scripted(tape, odd());
        let (client, server, memory, token) = waiting(&mut rig);
        let bytes = Memory::of(b"xyz");
        rig.push(Request::Send { fd: client, from: bytes.region(), all: false });
        rig.push_cancel(token);
        rig.enter();
        let order: Vec<bool> = rig
            .came
            .iter()
            .filter(|c| c.token.index() == token.index())
            .map(|c| c.token == token)
            .collect();
        assert_eq!(order, [!before, before]);
        assert_eq!(rig.poll(token).unwrap().result, 3);
        assert_eq!(rig.poll(token.for_cancel()).unwrap().result, -libc::ENOENT);
        assert_eq!(&memory.bytes()[..3], b"xyz");
        rig.finish(&[client, server]);
    }
}

#[test]
fn success_cannot_come_first_when_there_is_nothing() {
    let mut rig = Rig::scripted("cancel:0100", odd());
    let (client, server, _memory, token) = waiting(&mut rig);
    assert_eq!(rig.cancel(token), cancelled(&[], &[-libc::ECANCELED]));
    rig.finish(&[client, server]);
}

#[test]
fn a_cancel_may_miss_what_goes_on_waiting_but_not_for_ever() {
    for (tape, errno) in [
        ("cancel:01010101010101010101", libc::ENOENT),
        ("cancel:01060106010601060106", libc::EALREADY),
    ] {
        let mut rig = Rig::scripted(tape, odd());
        let (client, server, _memory, token) = waiting(&mut rig);
        for _ in 0..3 {
            rig.push_cancel(token);
            rig.enter();
            assert_eq!(rig.poll(token.for_cancel()).unwrap().result, -errno);
            assert!(rig.poll(token).is_none());
        }
        assert_eq!(rig.cancel(token), cancelled(&[], &[-libc::ECANCELED]));
        rig.finish(&[client, server]);
    }
}

#[test]
fn interruptions_of_all_kinds() {
    let cases: [(&str, &[i32], i32); 4] = [
        ("cancel:0102", &[], -libc::EINTR),
        ("cancel:0103", &[-libc::EALREADY], -512),
        ("cancel:0104", &[], -libc::ECANCELED),
        ("cancel:0105", &[], -libc::ECANCELED),
    ];
    for (tape, answers, result) in cases {
        let mut rig = Rig::scripted(tape, odd());
        let (client, server, _memory, token) = waiting(&mut rig);
        assert_eq!(rig.cancel(token), cancelled(answers, &[result]), "{tape}");
        rig.finish(&[client, server]);
    }
}

#[test]
fn a_running_one_may_succeed_later() {
    let mut rig = Rig::scripted("cancel:0104", odd());
    let (client, server, memory, token) = waiting(&mut rig);
    let bytes = Memory::of(b"xyz");
    rig.push(Request::Send { fd: client, from: bytes.region(), all: false });
    assert_eq!(rig.cancel(token), cancelled(&[-libc::EALREADY], &[3]));
    assert_eq!(&memory.bytes()[..3], b"xyz");
    rig.finish(&[client, server]);
}

#[test]
fn a_multishot_may_bring_a_last_result_before_it_ends() {
    let mut rig = Rig::scripted("cancel:0100", odd());
    let listener = rig.listen("127.0.0.1:80", 8);
    let accept = rig.pending(Request::Accept { fd: listener, multishot: true });
    let to: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let client = rig.world.tcp_socket(to).unwrap();
    let address = Address::new(to);
    rig.push(Request::Connect { fd: client, to: address.region() });
    let Cancelled { answers, results } = rig.cancel(accept);
    assert!(answers.is_empty() && results.len() == 2, "{results:?}");
    assert_eq!(results[1], -libc::ECANCELED);
    rig.finish(&[client, results[0], listener]);
}

#[test]
fn a_delayed_completion_comes_at_once_when_it_is_cancelled() {
    let faults = Faults { delay: 255, ..Faults::none() };
    let mut rig = Rig::scripted("delay:010d", faults);
    let token = rig.pending(Request::Nop);
    let before = rig.clock.now();
    let next = rig.twin.next_event().unwrap();
    assert_eq!(next - before, std::time::Duration::from_micros(8192));
    rig.push_cancel(token);
    rig.enter();
    assert_eq!(rig.poll(token).unwrap().result, 0);
    assert_eq!(rig.poll(token.for_cancel()).unwrap().result, -libc::ENOENT);
    assert_eq!(rig.clock.now(), before);
    assert_eq!(rig.twin.next_event(), None);
    rig.finish(&[]);
}
