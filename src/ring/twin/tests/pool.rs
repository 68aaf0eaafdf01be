//! Receives into buffers that the kernel picks.

use super::*;

const GROUP: u16 = 7;
const LEN: usize = 8;

/// A pool of so many buffers, all provided.
fn pool(rig: &mut Rig, count: u16) -> (PoolQueue, Vec<Memory>) {
    pool_of(rig, count, false)
}

fn pool_of(rig: &mut Rig, count: u16, incremental: bool) -> (PoolQueue, Vec<Memory>) {
    let entries = count.next_power_of_two();
    let mut queue = rig.twin.register_buffers(entries, GROUP, incremental).unwrap();
    let memory: Vec<_> = (0..count).map(|_| Memory::of(&[0; LEN])).collect();
    for (id, buffer) in memory.iter().enumerate() {
        queue.provide(id as u16, buffer.region());
    }
    queue.publish();
    (queue, memory)
}

/// The kernel has let go of it.
fn picked(id: u16) -> Option<Picked> {
    Some(Picked { id, unfinished: false })
}

fn multishot(fd: RawFd) -> Request {
    Request::RecvPool { fd, group: GROUP, multishot: true }
}

#[test]
fn buffers_are_picked_in_order_and_the_multishot_ends_when_none_is_left() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let (mut queue, memory) = pool(&mut rig, 2);
    let receive = rig.pending(multishot(server));
    for (id, text) in [b"a", b"b"].into_iter().enumerate() {
        rig.send(client, text);
        let came = rig.wait(receive);
        assert_eq!((came.result, came.more, came.buffer), (1, true, picked(id as u16)));
        assert_eq!(memory[id].bytes()[0], text[0]);
    }
    let empty = rig.wait(receive);
    assert_eq!((empty.result, empty.more, empty.buffer), (-libc::ENOBUFS, false, None));
    rig.send(client, b"c");
    assert_eq!(rig.result(multishot(server)), -libc::ENOBUFS);
    assert_eq!(rig.world.census().buffers_out, 2);

    queue.provide(1, memory[1].region());
    assert_eq!(rig.result(multishot(server)), -libc::ENOBUFS, "it is not published");
    queue.publish();
    let again = rig.push(multishot(server));
    let came = rig.wait(again);
    assert_eq!((came.result, came.buffer), (1, picked(1)), "the byte has waited");
    assert_eq!(memory[1].bytes()[0], b'c');
    assert_eq!(rig.wait(again).result, -libc::ENOBUFS);
    drop(queue);
    rig.finish(&[client, server]);
}

#[test]
fn the_end_of_the_stream_ends_it_and_takes_no_buffer() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let (_queue, _memory) = pool(&mut rig, 4);
    let receive = rig.pending(multishot(server));
    rig.send(client, &[1; LEN + 1]);
    rig.world.close(client);
    assert_eq!(rig.wait(receive).buffer, picked(0));
    let rest = rig.wait(receive);
    assert_eq!((rest.result, rest.more, rest.buffer), (1, true, picked(1)));
    let end = rig.wait(receive);
    assert_eq!((end.result, end.more, end.buffer), (0, false, None));
    rig.finish(&[server]);
}

#[test]
fn a_single_receive_takes_one_buffer() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let (_queue, _memory) = pool(&mut rig, 2);
    let single = Request::RecvPool { fd: server, group: GROUP, multishot: false };
    let receive = rig.pending(single);
    rig.send(client, b"xyz");
    let came = rig.wait(receive);
    assert_eq!((came.result, came.more, came.buffer), (3, false, picked(0)));
    rig.finish(&[client, server]);
}

#[test]
fn a_cancelled_receive_takes_no_buffer_and_the_bytes_stay() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let (_queue, _memory) = pool(&mut rig, 2);
    let receive = rig.pending(multishot(server));
    let bytes = Memory::of(b"xyz");
    // The bytes and the cancel come in one enter: the cancel is first, since it needs no task work.
    let send = rig.push(Request::Send { fd: client, from: bytes.region(), all: true });
    assert_eq!(rig.cancel(receive), cancelled(&[], &[-libc::ECANCELED]));
    assert_eq!(rig.ended[&send.bits()], 3);
    assert_eq!(rig.receive(server, 9).unwrap(), b"xyz");
    assert_eq!(rig.world.census().buffers_out, 0);
    rig.finish(&[client, server]);
}

#[test]
fn an_incremental_buffer_is_filled_piece_by_piece_and_let_go_when_it_is_full() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let (mut queue, memory) = pool_of(&mut rig, 2, true);
    let receive = rig.pending(multishot(server));
    rig.send(client, b"abc");
    let came = rig.wait(receive);
    let begun = Some(Picked { id: 0, unfinished: true });
    assert_eq!((came.result, came.more, came.buffer), (3, true, begun));
    assert_eq!(rig.world.census().buffers_out, 1);
    // More than the rest of it: the next one is begun.
    rig.send(client, b"defghijk");
    let came = rig.wait(receive);
    assert_eq!((came.result, came.more, came.buffer), (5, true, picked(0)));
    assert_eq!(memory[0].bytes()[..], *b"abcdefgh");
    let came = rig.wait(receive);
    let begun = Some(Picked { id: 1, unfinished: true });
    assert_eq!((came.result, came.more, came.buffer), (3, true, begun));
    rig.send(client, b"lmnopq");
    assert_eq!(
        (rig.wait(receive).buffer, memory[1].bytes()[..] == *b"ijklmnop"),
        (picked(1), true)
    );
    assert_eq!(rig.wait(receive).result, -libc::ENOBUFS);
    assert_eq!(rig.world.census().buffers_out, 2);

    queue.provide(0, memory[0].region());
    queue.publish();
    let single = Request::RecvPool { fd: server, group: GROUP, multishot: false };
    assert_eq!(rig.result(single), 1);
    assert_eq!(memory[0].bytes()[0], b'q', "it is filled from its start");
    rig.finish(&[client, server]);
}

#[test]
fn an_unknown_group_has_no_buffers_and_a_known_one_is_not_made_twice() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    assert_eq!(rig.result(multishot(server)), -libc::ENOBUFS);
    let queue = rig.twin.register_buffers(2, GROUP, false).unwrap();
    let twice = rig.twin.register_buffers(2, GROUP, false).unwrap_err();
    assert_eq!(twice.raw_os_error(), Some(libc::EEXIST));
    drop(queue);
    drop(rig.twin.register_buffers(2, GROUP, false).unwrap());
    assert!(rig.twin.register_buffers(3, GROUP, false).is_err(), "not a power of two");
    rig.finish(&[client, server]);
}

#[test]
fn the_ledger_notices_a_buffer_that_is_provided_twice() {
    let mut rig = Rig::tame();
    let (mut queue, memory) = pool(&mut rig, 2);
    queue.provide(1, memory[1].region());
    let complaints = rig.world.violations();
    assert!(complaints[0].contains("buffer 1 was provided while"), "{complaints:?}");
    queue.publish();
    drop(queue);
}

#[test]
fn a_pool_may_look_empty_and_a_multishot_may_end_with_a_good_result() {
    let faults = Faults { empty_pool: 255, multishot_ends: 255, ..Faults::none() };
    let mut rig = Rig::scripted("transfer:01000001", faults);
    let [client, server] = rig.pair();
    let (_queue, _memory) = pool(&mut rig, 2);
    assert_eq!(rig.result(multishot(server)), -libc::ENOBUFS);
    let receive = rig.pending(multishot(server));
    rig.send(client, b"x");
    let came = rig.wait(receive);
    assert_eq!((came.result, came.more, came.buffer), (1, false, picked(0)));
    rig.finish(&[client, server]);
}

#[test]
fn a_full_completion_queue_ends_a_multishot_and_loses_nothing() {
    let mut rig = Rig::tame();
    let [client, server] = rig.pair();
    let size = RingSize { submissions: 2, completions: 4, workers: 1 };
    let mut small = Twin::open(&rig.world, size).unwrap();
    let memory: Vec<_> = (0..8).map(|_| Memory::of(&[0])).collect();
    let mut queue = small.register_buffers(8, GROUP, false).unwrap();
    memory.iter().enumerate().for_each(|(id, m)| queue.provide(id as u16, m.region()));
    queue.publish();
    rig.send(client, b"abcdefgh");
    let token = Token::new(super::super::super::TokenKind::Operation, 1, 1);
    assert!(small.push(token, &multishot(server)));
    small.enter(0).unwrap();
    let mut came = Vec::new();
    small.drain(|completion| came.push((completion.result, completion.more)));
    assert_eq!(came, [(1, true), (1, true), (1, true), (1, true), (1, false)]);
    assert_eq!(rig.receive(server, 9).unwrap(), b"fgh");
    small.close();
    rig.finish(&[client, server]);
}
