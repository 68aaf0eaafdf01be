//! UDP: sockets, and the datagrams that they send and receive.

mod common;

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::AsyncFnOnce;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::Poll;
use std::time::Duration;

use futures::poll;
use trine::net::{UdpSocket, option};
use trine::testing::{Faults, Tape, World};
use trine::{Builder, CancelScope, Error, Result, checkpoint, move_on_after, nursery, stats};

use common::{fewer, in_kernel, turns};

const HERE: &str = "127.0.0.1:0";
const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(2);

/// Runs a test; what nothing can wake any more is an error, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(20, || Builder::new().detect_deadlock(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// A socket, and one that it is connected to and that is connected to it.
async fn pair() -> Result<(UdpSocket, UdpSocket)> {
    let (one, two) = (UdpSocket::bind(HERE).await?, UdpSocket::bind(HERE).await?);
    one.connect(two.local_addr()?).await?;
    two.connect(one.local_addr()?).await?;
    Ok((one, two))
}

/// An address at which nobody is.
async fn nobody() -> Result<SocketAddr> {
    let socket = UdpSocket::bind(HERE).await?;
    let address = socket.local_addr()?;
    socket.close().await?;
    Ok(address)
}

/// An error of the operating system, of this kind.
#[track_caller]
fn assert_kind<T>(result: Result<T, impl Into<Error>>, kind: ErrorKind) {
    let error = result.err().map(Into::into).expect("an error");
    assert_eq!(error.io_kind(), Some(kind), "{error}");
}

#[trine::test(kernel = "both")]
fn datagrams_come_whole_and_with_their_sender() {
    run(async || {
        let (one, two) = (UdpSocket::bind(HERE).await?, UdpSocket::bind(HERE).await?);
        let (from, to) = (one.local_addr()?, two.local_addr()?);
        for text in ["first", "the second one"] {
            assert_eq!(one.send_to(text.to_owned(), to).await?, text);
        }
        let (first, sender) = two.recv_from().await?;
        assert_eq!((&*first, sender), (&b"first"[..], from));
        // The chunk can be sent as it is.
        two.send_to(first, sender).await?;
        assert_eq!(two.recv().await?, *b"the second one");
        assert_eq!(one.recv_from().await?.1, to);
        one.close().await?;
        two.close().await
    });
}

#[trine::test(kernel = "both")]
fn an_empty_datagram_is_one() {
    run(async || {
        let (one, two) = pair().await?;
        for round in 0..3 {
            one.send("").await?;
            one.send(vec![round]).await?;
            assert_eq!(two.recv().await?, *b"");
            assert_eq!(two.recv().await?, [round]);
        }
        one.send("").await?;
        assert_eq!(two.recv_into(Vec::with_capacity(1)).await?.0, b"");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn the_largest_datagram_fits_into_a_buffer_of_the_pool() {
    const MOST: usize = 65_507;
    run(async || {
        let (one, two) = pair().await?;
        let bytes: Vec<u8> = (0..MOST).map(|n| (n % 251) as u8).collect();
        let mut sent = one.send(bytes).await?;
        assert_eq!(two.recv().await?, sent[..]);
        sent.push(0);
        let error = one.send(sent).await.unwrap_err();
        assert_eq!(error.buf.len(), MOST + 1, "the buffer comes back");
        let Error::Io(error) = error.error else { panic!("{error:?}") };
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_datagram_that_does_not_fit_is_reported_and_what_fits_comes_with_the_error() {
    run(async || {
        let (one, two) = pair().await?;
        for waits in [false, true] {
            one.send("0123456789").await?;
            one.send("next").await?;
            if waits {
                // It lies with the socket: another way to get it.
                let mut dropped = Box::pin(two.recv());
                assert!(poll!(&mut dropped).is_pending());
                turns(2).await;
            }
            let error = two.recv_into(Vec::with_capacity(4)).await.unwrap_err();
            assert_eq!((error.done, &error.buf[..]), (4, &b"0123"[..]));
            let text = error.error.to_string();
            assert!(text.contains("10 bytes") && text.contains("room for 4"), "{text}");
            assert_kind(Err::<(), _>(error), ErrorKind::InvalidData);
            assert_eq!(two.recv_into(Vec::with_capacity(4)).await?.0, b"next");
        }
        assert_kind(two.recv_into(Vec::new()).await, ErrorKind::InvalidInput);
        Ok(())
    });
}

// RFC 1122, 4.1.3.3: an error of the network is told, and is not the end of the socket.
#[trine::test(kernel = "both")]
fn that_nobody_is_there_is_the_error_of_the_next_call_only() {
    run(async || {
        let (socket, address) = (UdpSocket::bind(HERE).await?, nobody().await?);
        socket.connect(address).await?;
        socket.send("anybody?").await?;
        assert_kind(socket.recv().await, ErrorKind::ConnectionRefused);
        socket.send("anybody?").await?;
        assert_kind(socket.send("hello?").await, ErrorKind::ConnectionRefused);
        socket.send("anybody?").await?;
        let failed = socket.recv_into(vec![1, 2, 3]).await.unwrap_err();
        assert_eq!((failed.done, failed.buf.len()), (0, 0));
        // Also while somebody waits.
        nursery(async |n| {
            n.spawn(async {
                assert_kind(socket.recv().await, ErrorKind::ConnectionRefused);
                Ok(())
            });
            in_kernel(1).await?;
            socket.send("anybody?").await?;
            Ok(())
        })
        .await?;
        // It has come for a receive that is dropped.
        for into in [false, true] {
            {
                let (mut pool, mut own) =
                    (pin!(socket.recv()), pin!(socket.recv_into(Vec::with_capacity(8))));
                match into {
                    true => assert!(poll!(&mut own).is_pending()),
                    false => assert!(poll!(&mut pool).is_pending()),
                }
                in_kernel(1).await?;
                socket.send("anybody?").await?;
                turns(2).await;
            }
            assert_kind(socket.recv().await, ErrorKind::ConnectionRefused);
        }
        // Somebody comes.
        let other = UdpSocket::bind(address).await?;
        socket.send("hello").await?;
        let (hello, from) = other.recv_from().await?;
        other.send_to(hello, from).await?;
        assert_eq!(socket.recv().await?, *b"hello");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_socket_that_is_not_connected_hears_nothing_of_nobody() {
    run(async || {
        let (socket, address) = (UdpSocket::bind(HERE).await?, nobody().await?);
        socket.send_to("anybody?", address).await?;
        let heard = move_on_after(MOMENT, async |_| socket.recv().await).await?;
        assert!(heard.is_none());
        assert_kind(socket.peer_addr().map_err(Error::from), ErrorKind::NotConnected);
        let Error::Io(error) = socket.send("to whom?").await.unwrap_err().error else { panic!() };
        assert_eq!(error.raw_os_error(), Some(libc::EDESTADDRREQ));
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_connected_socket_hears_its_peer_only() {
    run(async || {
        let (one, two) = pair().await?;
        let other = UdpSocket::bind(HERE).await?;
        other.send_to("other", two.local_addr()?).await?;
        one.send("peer").await?;
        assert_eq!(two.recv().await?, *b"peer");
        assert_eq!(two.peer_addr()?, one.local_addr()?);
        // It may have another one.
        two.connect(other.local_addr()?).await?;
        other.send_to("other", two.local_addr()?).await?;
        assert_eq!(two.recv().await?, *b"other");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_socket_of_all_addresses_is_given_one_when_it_is_connected() {
    run(async || {
        let wide = UdpSocket::bind("0.0.0.0:0").await?;
        assert!(wide.local_addr()?.ip().is_unspecified());
        let peer = UdpSocket::bind(HERE).await?;
        wide.connect(peer.local_addr()?).await?;
        assert_eq!(wide.local_addr()?.ip(), Ipv4Addr::LOCALHOST);
        wide.send("hello").await?;
        let (hello, from) = peer.recv_from().await?;
        assert_eq!((&*hello, from), (&b"hello"[..], wide.local_addr()?));
        assert!(matches!(wide.connect("[::1]:9").await, Err(Error::Io(_))), "another family");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn names_are_looked_up_and_an_address_is_had_once() {
    run(async || {
        let one = UdpSocket::bind("localhost:0").await?;
        let address = one.local_addr()?;
        assert_kind(UdpSocket::bind(address).await, ErrorKind::AddrInUse);
        one.close().await?;
        UdpSocket::bind(address).await?.close().await
    });
}

// "Two readers at a time": Busy; a dropped one is none.
#[trine::test(kernel = "both")]
fn a_second_receiver_is_refused_and_a_dropped_one_is_none() {
    run(async || {
        let (one, two) = pair().await?;
        {
            let mut waiting = pin!(two.recv());
            assert!(poll!(&mut waiting).is_pending());
            assert!(matches!(two.recv_from().await, Err(Error::Busy(_))));
            let busy = two.recv_into(vec![7; 3]).await.unwrap_err();
            assert!(matches!(busy.error, Error::Busy(_)));
            assert_eq!(busy.buf, [7; 3], "what did not begin changes nothing");
        }
        one.send("now").await?;
        assert_eq!(two.recv().await?, *b"now");
        // Many may send.
        nursery(async |n| {
            for text in ["a", "b", "c"] {
                let one = &one;
                n.spawn(async move { one.send(text).await.map(drop).map_err(Into::into) });
            }
            let mut came = Vec::new();
            for _ in 0..3 {
                came.extend_from_slice(&two.recv().await?);
            }
            came.sort_unstable();
            assert_eq!(came, b"abc");
            Ok(())
        })
        .await
    });
}

// D7: what comes for a receive that was dropped stays with the socket, in order.
#[trine::test(kernel = "both")]
fn a_dropped_receive_loses_no_datagram() {
    run(async || {
        let (one, two) = pair().await?;
        for into in [false, true] {
            let mut came = Vec::new();
            for n in 0..30_u8 {
                one.send(vec![n]).await?;
                if into {
                    let mut dropped = Box::pin(two.recv_into(Vec::with_capacity(8)));
                    if let Poll::Ready(received) = poll!(&mut dropped) {
                        came.extend(received?.0);
                    }
                    turns(usize::from(n % 3)).await;
                } else {
                    let mut dropped = Box::pin(two.recv());
                    if let Poll::Ready(received) = poll!(&mut dropped) {
                        came.extend_from_slice(&received?);
                    }
                    turns(usize::from(n % 3)).await;
                }
            }
            while came.len() < 30 {
                if came.len() % 2 == 0 {
                    came.extend_from_slice(&two.recv().await?);
                } else {
                    came.extend(two.recv_into(Vec::with_capacity(8)).await?.0);
                }
            }
            assert!(came.iter().copied().eq(0..30), "{came:?}");
        }
        Ok(())
    });
}

// A8, D1, D4: before, during and after.
#[trine::test(kernel = "both")]
fn a_cancelled_call_has_done_nothing_and_a_finished_one_keeps_its_result() {
    run(async || {
        let (one, two) = pair().await?;
        let scope = CancelScope::new();
        scope
            .run(async |scope| {
                let mut receive = pin!(two.recv());
                assert!(poll!(&mut receive).is_pending());
                in_kernel(1).await?;
                one.send("came").await?;
                turns(2).await;
                scope.cancel();
                // It has come before that.
                assert_eq!(receive.as_mut().await?, *b"came");
                // A8: nothing has happened.
                let error = one.send("never").await.unwrap_err();
                assert!(matches!(error.error, Error::Cancelled(_)), "{error:?}");
                assert_eq!(error.buf, "never");
                assert!(matches!(two.recv().await, Err(Error::Cancelled(_))));
                let error = two.recv_into(vec![1]).await.unwrap_err();
                assert!(matches!(error.error, Error::Cancelled(_)), "{error:?}");
                error.error.cancelled().map_or(Ok(()), |c| Err(c.clone().into()))
            })
            .await?;
        // During.
        for into in [false, true] {
            let came = move_on_after(MOMENT, async |_| match into {
                true => two.recv_into(Vec::with_capacity(8)).await.map(drop).map_err(Into::into),
                false => two.recv().await.map(drop),
            });
            assert!(came.await?.is_none());
        }
        one.send("later").await?;
        assert_eq!(two.recv().await?, *b"later");
        Ok(())
    });
}

// M2, D5: closed in a cancelled scope, with a receive in flight; nothing is left.
#[trine::test(kernel = "both")]
fn a_socket_is_closed_in_a_cancelled_scope_too() {
    run(async || {
        let before = stats().in_kernel;
        let (one, two) = pair().await?;
        let mut dropped = Box::pin(two.recv());
        assert!(poll!(&mut dropped).is_pending());
        drop(dropped);
        let scope = CancelScope::new();
        let closed = scope.run(async |scope| {
            scope.cancel();
            two.close().await
        });
        assert!(closed.await?.is_none(), "it says Cancelled");
        assert_eq!(stats().in_kernel, before);
        one.close().await?;
        assert_eq!(stats().pool_leased, 0);
        Ok(())
    });
}

// The pool for messages is limited: when all buffers are held, a receive brings its own.
#[trine::test(kernel = "both")]
fn a_receive_succeeds_however_many_datagrams_are_held() {
    const MANY: u16 = fewer(1500, 40);
    run(async || {
        let (one, two) = pair().await?;
        let mut held = Vec::new();
        for n in 0..MANY {
            one.send(n.to_le_bytes()).await?;
            held.push(two.recv().await?);
        }
        assert!(stats().pool_leased <= 1024, "{:?}", stats());
        for (n, chunk) in (0..MANY).zip(&held) {
            assert_eq!(*chunk, n.to_le_bytes());
        }
        drop(held);
        assert_eq!(stats().pool_leased, 0);
        one.send("pool").await?;
        let chunk = two.recv().await?;
        assert_eq!((&*chunk, stats().pool_leased), (&b"pool"[..], 1));
        Ok(())
    });
}

// A2: what is there already is not received without end.
#[trine::test(kernel = "both")]
fn a_flood_does_not_starve_the_others() {
    run(async || {
        let (one, two) = pair().await?;
        nursery(async |n| {
            n.spawn_daemon(async {
                loop {
                    one.send("more").await?;
                }
            });
            n.spawn_daemon(async {
                loop {
                    two.recv().await?;
                }
            });
            for _ in 0..fewer(500, 20) {
                checkpoint().await?;
            }
            Ok(())
        })
        .await
    });
}

#[trine::test(kernel = "both")]
fn what_is_set_is_read_back() {
    run(async || {
        for here in [HERE, "[::1]:0"] {
            let socket = UdpSocket::bind(here).await?;
            assert!(!socket.option(option::BROADCAST)? && socket.multicast_loop()?);
            assert_eq!((socket.ttl()?, socket.multicast_ttl()?), (64, 1));
            socket.set_ttl(3)?;
            socket.set_multicast_ttl(0)?;
            socket.set_multicast_loop(false)?;
            socket.set_option(option::BROADCAST, true)?;
            assert!(socket.option(option::BROADCAST)? && !socket.multicast_loop()?);
            assert_eq!((socket.ttl()?, socket.multicast_ttl()?), (3, 0));
            assert_eq!(socket.set_ttl(256).unwrap_err().kind(), ErrorKind::InvalidInput);
            socket.set_option(option::RECEIVE_BUFFER, 20_000)?;
            assert_eq!(socket.option(option::RECEIVE_BUFFER)?, 40_000);
            assert_eq!(socket.option(option::SEGMENT_SIZE)?, 0);
            socket.set_option(option::SEGMENT_SIZE, 1400)?;
            assert_eq!(socket.option(option::SEGMENT_SIZE)?, 1400);
            assert!(socket.as_raw_fd() >= 0 && format!("{socket:?}").starts_with("UdpSocket"));
        }
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn one_send_is_cut_into_segments() {
    run(async || {
        let (one, two) = pair().await?;
        one.set_option(option::SEGMENT_SIZE, 4)?;
        one.send("aaaabbbbcc").await?;
        for part in [&b"aaaa"[..], b"bbbb", b"cc"] {
            assert_eq!(two.recv().await?, *part);
        }
        one.set_option(option::SEGMENT_SIZE, 0)?;
        one.send("aaaabbbb").await?;
        assert_eq!(two.recv().await?, *b"aaaabbbb");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn datagrams_that_were_put_together_say_how_long_each_is() {
    run(async || {
        let (one, two) = pair().await?;
        two.set_option(option::COALESCE, true)?;
        assert!(two.option(option::COALESCE)?);
        one.set_option(option::SEGMENT_SIZE, 4)?;
        one.send("aaaabbbbcc").await?;
        let came = two.recv_segments().await?;
        assert_eq!(
            (came.size, &*came.bytes, came.from),
            (4, &b"aaaabbbbcc"[..], one.local_addr()?)
        );
        assert_eq!(came.iter().collect::<Vec<_>>(), [&b"aaaa"[..], b"bbbb", b"cc"]);
        // One alone, and an empty one.
        for alone in ["one", ""] {
            one.send(alone).await?;
            let came = two.recv_segments().await?;
            assert_eq!(came.iter().collect::<Vec<_>>(), [alone.as_bytes()]);
        }
        // D7: for a dropped one.
        {
            let mut dropped = Box::pin(two.recv_segments());
            assert!(poll!(&mut dropped).is_pending());
            one.send("ddddee").await?;
            turns(2).await;
        }
        let came = two.recv_segments().await?;
        assert_eq!(came.iter().collect::<Vec<_>>(), [&b"dddd"[..], b"ee"]);
        Ok(())
    });
}

// Where no multishots are the receive has memory of its own.
#[trine::test]
fn memory_of_ones_own_has_room_for_the_length_too() {
    run(async || {
        World::current().refuse_multishots(true);
        let (one, two) = pair().await?;
        two.set_option(option::COALESCE, true)?;
        one.set_option(option::SEGMENT_SIZE, 4)?;
        one.send("aaaabb").await?;
        let came = two.recv_segments().await?;
        assert_eq!(came.iter().collect::<Vec<_>>(), [&b"aaaa"[..], b"bb"]);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_broadcast_has_to_be_allowed() {
    run(async || {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        let everybody = SocketAddr::from(([255, 255, 255, 255], 9));
        let refused = socket.send_to("hello", everybody).await.expect_err("nobody has allowed it");
        // A machine without a network looks for the way first.
        let kind = refused.error.io_kind();
        let is_right =
            matches!(kind, Some(ErrorKind::PermissionDenied | ErrorKind::NetworkUnreachable));
        assert!(is_right, "{refused}");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn who_has_joined_a_group_hears_it() {
    const LOOPBACK: u32 = 1;
    run(async || {
        let group = Ipv4Addr::new(239, 255, 77, 1);
        let listener = UdpSocket::bind((IpAddr::from(group), 0)).await?;
        listener.join_multicast_on(group, LOOPBACK)?;
        let again = listener.join_multicast_on(group, LOOPBACK);
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
        let no_group = listener.join_multicast_on(Ipv4Addr::LOCALHOST, LOOPBACK);
        assert_eq!(no_group.unwrap_err().kind(), ErrorKind::InvalidInput);
        // From the loopback address it goes over that interface.
        let speaker = UdpSocket::bind(HERE).await?;
        let to = (group, listener.local_addr()?.port()).into();
        speaker.send_to("hello", to).await?;
        assert_eq!(listener.recv().await?, *b"hello");
        if World::try_current().is_some() {
            // On Linux the loopback interface brings them back in any case.
            speaker.set_multicast_loop(false)?;
            speaker.send_to("not here", to).await?;
            speaker.set_multicast_loop(true)?;
        }
        speaker.send_to("here", to).await?;
        assert_eq!(listener.recv().await?, *b"here");
        listener.leave_multicast_on(group, LOOPBACK)?;
        let gone = listener.leave_multicast_on(group, LOOPBACK);
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
        Ok(())
    });
}

// P6: an object belongs to its run.
#[trine::test(kernel = "both")]
fn a_socket_outside_of_its_run_is_refused() {
    let socket = run(async || UdpSocket::bind(HERE).await);
    run(async || {
        assert!(matches!(socket.recv().await, Err(Error::RunFinished)));
        let refused = socket.send("hello").await.unwrap_err();
        assert!(matches!(refused.error, Error::RunFinished), "{refused:?}");
        Ok(())
    });
}

// The simulated network: datagrams may be lost, doubled, and overtake each other.
#[test]
fn a_wild_network_loses_doubles_and_reorders_and_a_simple_protocol_lives_with_it() {
    let (mut lost, mut doubled, mut overtaken) = (0, 0, 0);
    for seed in 0..fewer(200, 5) {
        let faults = World::from_tape(Tape::from_seed(seed), Faults::wild());
        let came = faults.run(async || {
            let (one, two) = (UdpSocket::bind(HERE).await?, UdpSocket::bind(HERE).await?);
            let to = two.local_addr()?;
            nursery(async |n| {
                n.spawn(async {
                    for id in 0..20_u8 {
                        one.send_to(vec![id], to).await?;
                    }
                    Ok(())
                });
                let mut came = Vec::new();
                while let Some((chunk, _)) =
                    move_on_after(LONG, async |_| two.recv_from().await).await?
                {
                    came.extend_from_slice(&chunk);
                }
                Ok(came)
            })
            .await
        });
        let came = came.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let mut distinct = came.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.iter().all(|id| *id < 20));
        lost += usize::from(distinct.len() < 20);
        doubled += usize::from(came.len() > distinct.len());
        overtaken += usize::from(!came.is_sorted());
    }
    assert!(lost > 0 && doubled > 0 && overtaken > 0, "{lost}, {doubled}, {overtaken}");
}

// The same program that awaits each answer, and asks again, gets all of them.
#[test]
fn whoever_asks_again_is_answered_in_any_weather() {
    for seed in 0..fewer(200, 5) {
        let world = World::from_tape(Tape::from_seed(seed), Faults::wild());
        let ended = world.run(async || {
            let server = UdpSocket::bind("10.0.0.1:53").await?;
            nursery(async |n| {
                n.spawn_daemon(async {
                    loop {
                        let (question, from) = server.recv_from().await?;
                        server.send_to(question, from).await?;
                    }
                });
                let client = UdpSocket::bind("0.0.0.0:0").await?;
                client.connect(server.local_addr()?).await?;
                for id in 0..10_u8 {
                    loop {
                        client.send(vec![id]).await?;
                        let answer = move_on_after(LONG, async |_| client.recv().await).await?;
                        if answer.is_some_and(|answer| answer == [id]) {
                            break;
                        }
                    }
                }
                client.close().await
            })
            .await?;
            server.close().await
        });
        ended.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

// A queue has its end: what does not fit is lost, as on Linux.
#[trine::test(kernel = "both")]
fn what_nobody_receives_is_lost_in_the_end() {
    run(async || {
        let (one, two) = pair().await?;
        two.set_option(option::RECEIVE_BUFFER, 10_000)?;
        for n in 0..200_u8 {
            one.send(vec![n; 100]).await?;
        }
        let mut came = 0;
        while let Some(chunk) = move_on_after(MOMENT, async |_| two.recv().await).await? {
            assert_eq!(*chunk, [came as u8; 100]);
            came += 1;
        }
        assert!((1..100).contains(&came), "{came}");
        Ok(())
    });
}

#[test]
fn it_talks_to_other_programs() {
    const ECHO: &str = "import socket\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        s.bind(('127.0.0.1', 0))\n\
        print(s.getsockname()[1], flush=True)\n\
        while True:\n\
        \x20   data, peer = s.recvfrom(65536)\n\
        \x20   s.sendto(data[::-1], peer)\n\
        \x20   if data == b'': break\n";
    if cfg!(miri) {
        return;
    }
    let child = Command::new("python3")
        .args(["-c", ECHO])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        let _ = writeln!(std::io::stderr(), "python3 is not there");
        return;
    };
    let mut port = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut port).unwrap();
    let port: u16 = port.trim().parse().unwrap();
    run(async || {
        let socket = UdpSocket::bind(HERE).await?;
        socket.connect((IpAddr::from(Ipv4Addr::LOCALHOST), port)).await?;
        for len in [1, 10, 1500, 20_000, 65_507, 0] {
            let bytes: Vec<u8> = (0..len).map(|n| (n % 253) as u8).collect();
            let mut sent = socket.send(bytes).await?;
            sent.reverse();
            let answer = trine::fail_after(LONG, async |_| socket.recv().await).await?;
            assert_eq!(answer, sent[..]);
        }
        socket.close().await
    });
    assert!(child.wait().unwrap().success());
}

// D7, and the doc of `recv_into`: what a smaller buffer has cut is not taken for a whole datagram later.
#[trine::test(kernel = "both", runs = 10)]
fn a_datagram_that_was_cut_for_a_dropped_receive_is_no_whole_one() {
    run(async || {
        let a = UdpSocket::bind("127.0.0.1:0").await?;
        let b = UdpSocket::bind("127.0.0.1:0").await?;
        {
            let mut small = pin!(b.recv_into(Vec::with_capacity(10)));
            assert!(poll!(small.as_mut()).is_pending());
            turns(2).await;
            a.send_to([7; 100], b.local_addr()?).await?;
            turns(2).await;
        }
        match b.recv_into(Vec::with_capacity(1000)).await {
            Ok((buf, _)) => assert_eq!(buf, [7; 100]),
            Err(cut) => assert!(cut.to_string().contains("rest is lost"), "{cut}"),
        }
        Ok(())
    });
}
