//! What each operation does in a tame world.

use super::super::super::socket::{OptionName, OptionValue};
use super::*;

#[test]
fn nop_ends_at_once_and_its_completion_is_visible_after_the_enter_only() {
    let mut rig = Rig::tame();
    let token = rig.push(Request::Nop);
    assert_eq!(rig.twin.unsubmitted(), 1);
    assert!(!rig.twin.has_completions());
    assert_eq!(rig.twin.next_event(), Some(rig.clock.now()));
    rig.twin.enter(0).unwrap();
    assert!(rig.twin.has_completions());
    rig.enter();
    let completion = rig.poll(token).unwrap();
    assert_eq!((completion.result, completion.more, completion.buffer), (0, false, None));
    assert_eq!(rig.twin.next_event(), None, "nothing happens by itself any more");
    rig.finish(&[]);
}

#[test]
fn the_submission_queue_is_a_power_of_two_and_can_be_full() {
    let rig = Rig::tame();
    let size = RingSize { submissions: 3, completions: 8, workers: 1 };
    let mut twin = Twin::open(&rig.world, size).unwrap();
    let token = |n| Token::new(super::super::super::TokenKind::Operation, n, 1);
    let pushed = (0..6).take_while(|n| twin.push(token(*n), &Request::Nop)).count();
    assert_eq!(pushed, 4);
    assert!(!twin.push_cancel(token(0)));
    twin.enter(0).unwrap();
    let mut results = Vec::new();
    twin.drain(|completion| results.push(completion.token.index()));
    assert_eq!(results, [0, 1, 2, 3]);
    twin.close();
    rig.finish(&[]);
}

#[test]
fn rings_are_refused_when_the_world_says_so() {
    let rig = Rig::tame();
    rig.world.refuse_rings(Some(libc::ENOSYS));
    let refused = Twin::open(&rig.world, SIZE).err().unwrap();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOSYS));
    rig.world.refuse_rings(None);
    Twin::open(&rig.world, SIZE).unwrap().close();
    rig.finish(&[]);
}

#[test]
fn bytes_go_through_a_connection_both_ways_and_its_addresses_fit() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    assert_eq!(rig.send(client, b"hello"), 5);
    assert_eq!(rig.receive(server, 3).unwrap(), b"hel");
    assert_eq!(rig.receive(server, 9).unwrap(), b"lo");
    assert_eq!(rig.send(server, b"world"), 5);
    assert_eq!(rig.receive(client, 9).unwrap(), b"world");
    let world = &rig.world;
    assert_eq!(world.local_addr(server).unwrap(), "127.0.0.1:80".parse().unwrap());
    assert_eq!(world.peer_addr(client).unwrap(), world.local_addr(server).unwrap());
    assert_eq!(world.peer_addr(server).unwrap(), world.local_addr(client).unwrap());
    assert_eq!(world.local_addr(client).unwrap().port(), 32_768);
    rig.finish(&[client, server]);
}

#[test]
fn a_receive_waits_for_bytes_and_an_accept_for_a_connection() {
    let mut rig = Rig::tame();
    let listener = rig.listen("[::1]:80", 8);
    let accept = rig.pending(Request::Accept { fd: listener, multishot: false });
    let (client, result) = rig.connect("[::1]:80");
    assert_eq!(result, 0);
    let server = rig.wait(accept).result;
    let memory = Memory::of(&[0; 8]);
    let receive = rig.pending(Request::Recv { fd: server, into: memory.region() });
    assert_eq!(rig.send(client, b"x"), 1);
    assert_eq!(rig.wait(receive).result, 1);
    assert_eq!(memory.bytes()[0], b'x');
    rig.finish(&[client, server, listener]);
}

#[test]
fn a_multishot_accept_brings_one_connection_after_another() {
    let mut rig = Rig::tame();
    let listener = rig.listen("127.0.0.1:0", 8);
    let to = rig.world.local_addr(listener).unwrap();
    let accept = rig.pending(Request::Accept { fd: listener, multishot: true });
    let mut open = vec![listener];
    for _ in 0..3 {
        let (client, result) = rig.connect(&to.to_string());
        assert_eq!(result, 0);
        let accepted = rig.wait(accept);
        assert!(accepted.more && accepted.result >= super::super::files::FIRST_FD);
        open.extend([client, accepted.result]);
    }
    assert_eq!(rig.cancel(accept), cancelled(&[], &[-libc::ECANCELED]));
    rig.finish(&open);
}

#[test]
fn a_backlog_holds_one_more_than_it_was_told_and_the_next_client_waits() {
    let mut rig = Rig::tame();
    let listener = rig.listen("127.0.0.1:80", 1);
    let to: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let (first, _) = rig.connect("127.0.0.1:80");
    let (second, _) = rig.connect("127.0.0.1:80");
    let third = rig.world.tcp_socket(to).unwrap();
    let address = Address::new(to);
    let connect = rig.pending(Request::Connect { fd: third, to: address.region() });
    assert_eq!(rig.send(first, b"early"), 5, "it is established before it is accepted");
    let server = rig.result(Request::Accept { fd: listener, multishot: false });
    assert_eq!(rig.wait(connect).result, 0, "now there is room");
    assert_eq!(rig.receive(server, 9).unwrap(), b"early");
    rig.world.close(listener);
    assert_eq!(rig.receive(second, 9), Err(libc::ECONNRESET), "nobody will accept it");
    rig.finish(&[first, second, third, server]);
}

#[test]
fn connecting_where_nobody_listens_is_refused_and_twice_is_once_too_often() {
    let mut rig = Rig::tame();
    let (lonely, result) = rig.connect("10.1.2.3:4");
    assert_eq!(result, -libc::ECONNREFUSED);
    assert_eq!(rig.receive(lonely, 1), Err(libc::ENOTCONN));
    assert_eq!(rig.send(lonely, b"x"), -libc::EPIPE);
    let listener = rig.listen("10.1.2.3:4", 8);
    let to = "10.1.2.3:4".parse().unwrap();
    assert_eq!(rig.connect_on(lonely, to), 0, "the same socket may try again");
    assert_eq!(rig.connect_on(lonely, to), -libc::EISCONN);
    assert_eq!(rig.connect_on(listener, to), -libc::EISCONN);
    assert_eq!(rig.world.local_addr(lonely).unwrap().ip().to_string(), "10.0.0.254");
    let other = rig.world.tcp_socket("[::1]:1".parse().unwrap()).unwrap();
    assert_eq!(rig.connect_on(other, to), -libc::EAFNOSUPPORT);
    let none = Request::Accept { fd: lonely, multishot: true };
    assert_eq!(rig.result(none), -libc::EINVAL);
    rig.finish(&[lonely, listener, other]);
}

#[test]
fn a_send_blocks_when_the_receiver_has_no_room_and_all_means_all() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let bytes: Vec<u8> = (0..LARGE).map(|n| n as u8).collect();
    let memory = Memory::of(&bytes);
    let part = Request::Send { fd: client, from: memory.region(), all: false };
    assert_eq!(rig.result(part), CAPACITY as i32, "without `all` a part is enough");
    let all = rig.pending(Request::Send { fd: client, from: memory.region(), all: true });
    let mut received = Vec::new();
    while received.len() < CAPACITY + LARGE {
        received.extend(rig.receive(server, CAPACITY - 9).unwrap());
    }
    assert_eq!(rig.wait(all).result, LARGE as i32);
    assert!(received == [&bytes[..CAPACITY], &bytes[..]].concat());
    rig.finish(&[client, server]);
}

#[test]
fn half_closed_is_half_open() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    assert_eq!(rig.send(client, b"last"), 4);
    assert_eq!(rig.result(Request::Shutdown { fd: client, how: libc::SHUT_WR }), 0);
    assert_eq!(rig.send(client, b"more"), -libc::EPIPE);
    assert_eq!(rig.receive(server, 9).unwrap(), b"last");
    assert_eq!(rig.receive(server, 9).unwrap(), b"");
    assert_eq!(rig.receive(server, 9).unwrap(), b"", "the end stays");
    assert_eq!(rig.send(server, b"answer"), 6);
    assert_eq!(rig.receive(client, 9).unwrap(), b"answer");
    assert_eq!(rig.result(Request::Shutdown { fd: server, how: libc::SHUT_WR }), 0);
    assert_eq!(rig.receive(client, 9).unwrap(), b"");
    let both = Request::Shutdown { fd: server, how: libc::SHUT_RDWR };
    assert_eq!(rig.result(both), -libc::ENOTCONN, "both directions are over");
    rig.finish(&[client, server]);
}

#[test]
fn a_shut_read_half_ends_a_waiting_receive() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let memory = Memory::of(&[0; 8]);
    let receive = rig.pending(Request::Recv { fd: server, into: memory.region() });
    assert_eq!(rig.result(Request::Shutdown { fd: server, how: libc::SHUT_RD }), 0);
    assert_eq!(rig.wait(receive).result, 0);
    assert_eq!(rig.result(Request::Shutdown { fd: server, how: 3 }), -libc::EINVAL);
    let fresh = rig.world.tcp_socket("127.0.0.1:1".parse().unwrap()).unwrap();
    assert_eq!(rig.result(Request::Shutdown { fd: fresh, how: 0 }), -libc::ENOTCONN);
    rig.finish(&[client, server, fresh]);
}

#[test]
fn closing_with_unread_bytes_resets_and_the_peer_hears_of_it_once() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    assert_eq!(rig.send(client, b"never read"), 10);
    assert_eq!(rig.send(server, b"queued"), 6);
    assert_eq!(rig.result(Request::Close { fd: server, may_block: false }), 0);
    assert_eq!(rig.world.peer_addr(client).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    assert_eq!(rig.receive(client, 9).unwrap(), b"queued", "what has arrived survives");
    assert_eq!(rig.receive(client, 9), Err(libc::ECONNRESET));
    assert_eq!(rig.receive(client, 9).unwrap(), b"");
    assert_eq!(rig.send(client, b"x"), -libc::EPIPE);
    rig.finish(&[client]);
}

#[test]
fn sending_to_one_that_has_closed_works_once() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    assert_eq!(rig.result(Request::Close { fd: server, may_block: false }), 0);
    assert_eq!(rig.send(client, b"x"), 1, "nobody knows yet");
    assert_eq!(rig.send(client, b"x"), -libc::EPIPE);
    assert_eq!(rig.receive(client, 9).unwrap(), b"");
    rig.finish(&[client]);
}

#[test]
fn a_linger_of_zero_resets() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let linger = OptionName { level: libc::SOL_SOCKET, name: libc::SO_LINGER };
    rig.world.set_option(server, linger, OptionValue::pair([1, 0])).unwrap();
    rig.world.close(server);
    assert_eq!(rig.receive(client, 9), Err(libc::ECONNRESET));
    rig.finish(&[client]);
}

#[test]
fn options_are_kept_and_inherited() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let world = &rig.world;
    let number = |fd, of| world.option(fd, of).unwrap().as_number();
    let set = |fd, of, value| world.set_option(fd, of, OptionValue::number(value));
    let [idle, no_delay] = [libc::TCP_KEEPIDLE, libc::TCP_NODELAY]
        .map(|name| OptionName { level: libc::IPPROTO_TCP, name });
    assert_eq!((number(server, no_delay), number(client, no_delay)), (1, 0));
    assert_eq!(number(client, idle), 7200, "what Linux has until somebody sets it");
    set(client, idle, 3).unwrap();
    assert_eq!((number(client, idle), number(server, idle)), (3, 7200));
    assert_eq!(set(client, idle, 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    rig.finish(&[client, server]);
}

#[test]
fn the_lowest_free_number_is_used_again_at_once_and_a_pending_operation_keeps_its_file() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let family = "127.0.0.1:1".parse().unwrap();
    let low = rig.world.tcp_socket(family).unwrap();
    assert!(low < client, "the number of the listener, which is closed");
    let memory = Memory::of(&[0; 8]);
    let receive = rig.pending(Request::Recv { fd: server, into: memory.region() });
    assert_eq!(rig.result(Request::Close { fd: server, may_block: false }), 0);
    let other = rig.world.tcp_socket(family).unwrap();
    assert_eq!(other, server, "the number is free although the file lives");
    assert_eq!(rig.send(client, b"late"), 4);
    assert_eq!(rig.wait(receive).result, 4, "not of the new socket");
    assert_eq!(rig.receive(client, 1).unwrap(), b"", "now the file is gone too");
    rig.finish(&[client, low, other]);
}

#[test]
fn descriptors_can_run_out_and_a_connection_waits_for_one() {
    let mut rig = Rig::tame();
    let listener = rig.listen("127.0.0.1:80", 8);
    let (client, _) = rig.connect("127.0.0.1:80");
    rig.world.limit_descriptors(2);
    let accept = rig.push(Request::Accept { fd: listener, multishot: true });
    let refused = rig.wait(accept);
    assert_eq!((refused.result, refused.more), (-libc::EMFILE, false));
    let family = "127.0.0.1:1".parse().unwrap();
    assert_eq!(rig.world.tcp_socket(family).unwrap_err().raw_os_error(), Some(libc::EMFILE));
    rig.world.limit_descriptors(3);
    let server = rig.result(Request::Accept { fd: listener, multishot: false });
    assert!(server > 0);
    rig.finish(&[client, server, listener]);
}

#[test]
fn a_pass_runs_twenty_that_have_waited_or_as_many_as_are_wanted() {
    for (want, batches) in [(1, [20, 5]), (25, [25, 0])] {
        let mut rig = Rig::tame();
        let pairs: Vec<_> = (0..25).map(|_| rig.pair()).collect();
        let memory: Vec<_> = pairs.iter().map(|_| Memory::of(b"x")).collect();
        for (pair, memory) in pairs.iter().zip(&memory) {
            rig.pending(Request::Recv { fd: pair[1], into: memory.region() });
        }
        // The sends complete at submission; that wakes the receives.
        let sends: Vec<_> = pairs
            .iter()
            .zip(&memory)
            .map(|(pair, from)| Request::Send { fd: pair[0], from: from.region(), all: true })
            .collect();
        let sends: Vec<_> = sends.into_iter().map(|send| rig.push(send)).collect();
        for batch in batches {
            rig.twin.enter(want).unwrap();
            let mut came = 0;
            rig.twin.drain(|completion| came += usize::from(!sends.contains(&completion.token)));
            assert_eq!(came, batch);
        }
        rig.finish(&pairs.concat());
    }
}

#[test]
fn misuse_is_noticed() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    assert_eq!(rig.result(Request::Close { fd: server, may_block: false }), 0);
    assert_eq!(rig.result(Request::Close { fd: server, may_block: false }), -libc::EBADF);
    assert_eq!(rig.receive(server, 1), Err(libc::EBADF));
    let [waiting, other] = rig.pair();
    let memory = Memory::of(&[0; 4]);
    let receive = rig.pending(Request::Recv { fd: waiting, into: memory.region() });
    assert!(rig.twin.push(receive, &Request::Nop));
    rig.enter();
    let complaints = rig.world.violations();
    let expected = ["close of descriptor", "recv on descriptor", "pushed while in flight"];
    assert_eq!(complaints.len(), 3, "{complaints:?}");
    for (complaint, part) in complaints.iter().zip(expected) {
        assert!(complaint.contains(part), "{complaint}");
    }
    [client, waiting, other].iter().for_each(|fd| rig.world.close(*fd));
    rig.twin.close();
    assert!(rig.world.finish()[3].contains("1 operations in flight"), "{:?}", rig.world.finish());
}

#[test]
fn a_send_whose_memory_changes_is_noticed() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let memory = Memory::of(&vec![1; LARGE]);
    let send = rig.pending(Request::Send { fd: client, from: memory.region(), all: true });
    memory.set(LARGE - 1, 2);
    while rig.poll(send).is_none() {
        rig.receive(server, CAPACITY - 9).unwrap();
    }
    let complaints = rig.world.violations();
    assert!(complaints[0].contains("changed while the kernel had it"), "{complaints:?}");
}

#[test]
fn what_is_left_open_is_listed() {
    let mut rig = Rig::tame();
    let [_client, server] = rig.pair();
    let listener = rig.listen("127.0.0.1:80", 8);
    rig.world.close(server);
    let left = rig.world.finish();
    assert!(left.iter().any(|text| text.contains("made from 127.0.0.1:32768")), "{left:?}");
    assert!(left.iter().any(|text| text.contains("the listener at 127.0.0.1:80")), "{left:?}");
    assert!(left.iter().any(|text| text.contains("a ring is still open")), "{left:?}");
    rig.world.close(listener);
}

#[test]
fn a_poll_ends_when_what_it_waits_for_is_there_and_not_by_anything_else() {
    const IN: u32 = libc::POLLIN as u32;
    const OUT: u32 = libc::POLLOUT as u32;
    let mut rig = Rig::tame();
    let listener = rig.listen("[::1]:80", 8);
    let knocked = rig.pending(Request::Poll { fd: listener, events: IN });
    let (client, _) = rig.connect("[::1]:80");
    assert_eq!(rig.wait(knocked).result, IN as i32);
    let server = rig.result(Request::Accept { fd: listener, multishot: false });
    assert_eq!(rig.result(Request::Poll { fd: server, events: OUT }), OUT as i32);
    let came = rig.pending(Request::Poll { fd: server, events: IN });
    assert_eq!(rig.send(server, b"the other way"), 13);
    assert!(rig.poll(came).is_none());
    assert_eq!(rig.send(client, b"x"), 1);
    assert_eq!(rig.wait(came).result, IN as i32);
    assert_eq!(rig.receive(server, 9).unwrap(), b"x");
    let ended = rig.pending(Request::Poll { fd: server, events: IN });
    rig.world.close(client);
    assert_eq!(rig.wait(ended).result, IN as i32 | libc::POLLERR as i32 | libc::POLLHUP as i32);
    rig.finish(&[listener, server]);
}
