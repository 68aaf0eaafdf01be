//! Descriptors: sent with bytes, received with them, and made sockets, pipes and files of.

mod common;

use std::fs;
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::ops::AsyncFnOnce;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net as std_unix;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::poll;
use trine::fs::File;
use trine::io::Descriptor;
use trine::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use trine::pipe::{self, PipeReader, PipeWriter};
use trine::testing::World;
use trine::{Builder, CancelScope, Error, Result, move_on_after, nursery, shield, stats};

use common::random::Random;
use common::{descriptors, fewer, in_kernel, turns};

const MOMENT: Duration = Duration::from_millis(2);

/// Runs a test while no other one makes descriptors: none is left.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = descriptors();
    let ended = common::within(20, || Builder::new().detect_deadlock(true).run(main));
    common::assert_no_more(before);
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// A descriptor, and the stream that ends when nobody has it any more.
async fn watched() -> Result<(UnixStream, Descriptor)> {
    let (watch, end) = UnixStream::pair()?;
    Ok((watch, end.into_fd().await?))
}

/// Sends a descriptor to a receive that is dropped then; the stream that ends when nobody has it any more.
async fn send_to_dropped(client: &UnixDatagram, server: &UnixDatagram) -> Result<UnixStream> {
    let (watch, fd) = watched().await?;
    let mut receive = Box::pin(server.recv_fds(room()));
    assert!(poll!(&mut receive).is_pending());
    in_kernel(1).await?;
    client.send_fds("late", [fd]).await?;
    turns(3).await;
    drop(receive);
    Ok(watch)
}

/// Waits until nobody has it any more.
async fn closed(watch: UnixStream) -> Result {
    assert_eq!(watch.read(Vec::with_capacity(1)).await?, b"");
    Ok(())
}

fn room() -> Vec<u8> {
    Vec::with_capacity(64)
}

#[track_caller]
fn assert_kind<T>(result: Result<T, impl Into<Error>>, kind: ErrorKind) {
    let error = result.err().map(Into::into).expect("an error");
    assert_eq!(error.io_kind(), Some(kind), "{error}");
}

#[trine::test(kernel = "both")]
fn a_descriptor_comes_with_the_bytes_that_it_was_sent_with() {
    run(async || {
        let (one, other) = UnixStream::pair()?;
        let (watch, fd) = watched().await?;
        one.write_all("before, ").await?;
        assert_eq!(one.send_fds("with", [fd]).await?, "with");
        one.write_all("after").await?;
        // The kernel goes on to the bytes that have some with them, and not beyond.
        let (bytes, mut fds) = other.recv_fds(room()).await?;
        assert_eq!((&bytes[..], fds.len()), (&b"before, with"[..], 1));
        let (bytes, none) = other.recv_fds(room()).await?;
        assert_eq!((&bytes[..], none.len()), (&b"after"[..], 0));
        let stream = UnixStream::from_fd(fds.remove(0))?;
        stream.write_all("alive").await?;
        assert_eq!(watch.read_exact(vec![0; 5]).await?, b"alive");
        stream.close().await?;
        closed(watch).await?;
        one.close().await?;
        let (end, none) = other.recv_fds(room()).await?;
        assert!(end.is_empty() && none.is_empty());
        Ok(())
    });
}

#[test]
#[cfg_attr(miri, ignore = "the real kernel")]
fn what_is_received_is_closed_on_exec() {
    run(async || {
        let (one, other) = UnixStream::pair()?;
        one.send_fds("x", [fs::File::open("/dev/null")?]).await?;
        let (_, fds) = other.recv_fds(room()).await?;
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", fds[0].as_raw_fd()))?;
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
        let flags = i32::from_str_radix(flags.trim(), 8).expect("they are octal");
        assert_ne!(flags & libc::O_CLOEXEC, 0, "{about}");
        Ok(())
    });
}

// D2, D4, M2: before, during, after.
#[trine::test(kernel = "both")]
fn a_cancelled_receive_of_descriptors_takes_all_or_nothing() {
    run(async || {
        let (one, other) = UnixStream::pair()?;
        let scope = CancelScope::new();
        let ended = scope.run(async |scope| {
            scope.cancel();
            let failed = other.recv_fds(vec![7]).await.expect_err("before");
            assert!(failed.error.is_cancelled());
            assert_eq!(failed.done, 0);
            let (watch, fd) = shield(watched()).await?;
            let failed = one.send_fds("x", [fd]).await.expect_err("before");
            assert!(failed.error.is_cancelled() && failed.done == 0);
            shield(closed(watch)).await
        });
        ended.await?;
        // During.
        let waited = move_on_after(MOMENT, async |_| Ok(other.recv_fds(room()).await?));
        assert!(waited.await?.is_none());
        assert_eq!(stats().in_kernel, 0);
        // After: it has happened, so that is the result.
        let (watch, fd) = watched().await?;
        let scope = CancelScope::new();
        let came = scope.run(async |scope| {
            let mut receive = Box::pin(other.recv_fds(room()));
            assert!(poll!(&mut receive).is_pending());
            in_kernel(1).await?;
            one.send_fds("x", [fd]).await?;
            turns(3).await;
            scope.cancel();
            Ok(receive.await?)
        });
        let (bytes, fds) = came.await?.expect("a body that has ended has ended (E5)");
        assert_eq!((&bytes[..], fds.len()), (&b"x"[..], 1));
        drop(fds);
        closed(watch).await
    });
}

// D7: bytes and descriptors of a dropped receive stay together, with the stream.
#[trine::test(kernel = "both")]
fn what_comes_for_a_dropped_receive_is_what_the_next_one_returns() {
    run(async || {
        let (one, other) = UnixStream::pair()?;
        for before_it_is_dropped in [true, false] {
            let (watch, fd) = watched().await?;
            let mut receive = Box::pin(other.recv_fds(room()));
            assert!(poll!(&mut receive).is_pending());
            in_kernel(1).await?;
            if before_it_is_dropped {
                one.send_fds("hello", [fd]).await?;
                turns(3).await;
                drop(receive);
            } else {
                drop(receive);
                one.send_fds("hello", [fd]).await?;
            }
            // Into less room than there was: the rest of the bytes waits.
            let (bytes, fds) = other.recv_fds(Vec::with_capacity(2)).await?;
            assert_eq!((&bytes[..], fds.len()), (&b"he"[..], 1));
            let (bytes, none) = other.recv_fds(room()).await?;
            assert_eq!((&bytes[..], none.len()), (&b"llo"[..], 0));
            drop(fds);
            closed(watch).await?;
        }
        Ok(())
    });
}

// D7: whatever is dropped, none is lost, none is before one that was sent before it, and none is behind its byte.
#[trine::test(kernel = "both", runs = 5)]
fn descriptors_come_in_order_and_not_behind_their_bytes() {
    const MANY: usize = fewer(300, 30);
    run(async || {
        let (one, other) = UnixStream::pair()?;
        let mut random =
            Random(World::try_current().map_or(7, |world| world.choose(1 << 20).into()));
        nursery(async |n| {
            n.spawn(async {
                for number in 0..MANY as u32 {
                    let (reader, writer) = pipe::pipe()?;
                    writer.write_all(number.to_le_bytes()).await?;
                    one.send_fds(number.to_le_bytes(), [reader.into_fd().await?]).await?;
                    if number % 7 == 3 {
                        turns(1).await;
                    }
                }
                one.shutdown(Shutdown::Write).await
            });
            let (mut bytes, mut came) = (Vec::new(), 0);
            loop {
                let mut receive = Box::pin(other.recv_fds(Vec::with_capacity(1 + random.below(9))));
                let received = match random.one_in(3) {
                    true => Poll::Ready(receive.as_mut().await),
                    false => poll!(receive.as_mut()),
                };
                let Poll::Ready(received) = received else {
                    turns(random.below(3)).await;
                    continue; // It is dropped.
                };
                let (more, fds) = received?;
                if more.is_empty() {
                    break;
                }
                for fd in fds {
                    let number = PipeReader::from_fd(fd)?.read_exact(Vec::with_capacity(4)).await?;
                    assert_eq!(number, (came as u32).to_le_bytes());
                    assert!(bytes.len() <= 4 * came, "its byte came before");
                    came += 1;
                }
                bytes.extend(more);
            }
            let sent = (0..MANY as u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>();
            assert!(bytes == sent && came == MANY);
            Ok(())
        })
        .await
    });
}

// D7: whoever does not want them has them closed, wherever they are.
#[trine::test(kernel = "both")]
fn descriptors_that_nobody_takes_are_closed() {
    run(async || {
        for how in 0..6 {
            let (one, other) = UnixStream::pair()?;
            let (watch, fd) = watched().await?;
            let mut receive = Box::pin(other.recv_fds(room()));
            let mut plain = Box::pin(other.recv());
            match how {
                // In the kernel's queue.
                0 => {}
                1 => assert!(poll!(&mut plain).is_pending()),
                _ => assert!(poll!(&mut receive).is_pending()),
            }
            one.send_fds("x", [fd]).await?;
            turns(3).await;
            match how {
                0 => assert_eq!(other.read(room()).await?, b"x"),
                1 => assert_eq!(plain.await?.expect("no end"), *b"x"),
                2 => {
                    drop(receive);
                    assert_eq!(plain.await?.expect("no end"), *b"x");
                }
                3 => {
                    drop(receive);
                    assert_eq!(other.read(room()).await?, b"x");
                }
                // With the object: closed, or dropped.
                4 => {
                    drop((receive, plain));
                    other.close().await?;
                    closed(watch).await?;
                    continue;
                }
                _ => {
                    drop((receive, plain));
                    drop(other);
                    closed(watch).await?;
                    continue;
                }
            }
            closed(watch).await?;
        }
        Ok(())
    });
}

// D5: the kernel looks a blocked send's descriptors up when it goes on. They are open until it lets go.
#[trine::test(kernel = "both")]
fn a_send_keeps_its_descriptors_until_the_kernel_has_let_go() {
    run(async || {
        let (one, other) = UnixStream::pair()?;
        let (filled, _) = one.write(vec![0; fewer(1 << 20, 8 << 10)]).await?;
        // Dropped: nothing was sent, and they are closed.
        let (watch, fd) = watched().await?;
        {
            let mut send = Box::pin(one.send_fds("x", [fd]));
            assert!(poll!(&mut send).is_pending());
            in_kernel(1).await?;
            assert!(poll!(&mut send).is_pending());
        }
        closed(watch).await?;
        // Not dropped: they arrive.
        let (watch, fd) = watched().await?;
        let mut send = Box::pin(one.send_fds("yes", [fd]));
        assert!(poll!(&mut send).is_pending());
        in_kernel(1).await?;
        other.read_exact(vec![0; filled]).await?;
        send.await?;
        let (bytes, fds) = other.recv_fds(room()).await?;
        assert_eq!((&bytes[..], fds.len()), (&b"yes"[..], 1));
        drop(fds);
        closed(watch).await
    });
}

// D4: a send that was interrupted although nobody asked any more is sent again, with the same descriptors: they
// were not closed meanwhile, nor is another file sent that has got the number of one.
#[trine::test(kernel = "both")]
fn an_interrupted_send_is_sent_again_with_its_own_descriptors() {
    run(async || {
        let (one, other) = UnixStream::pair()?;
        let (filled, _) = one.write(vec![0; fewer(1 << 20, 8 << 10)]).await?;
        let (watch, fd) = watched().await?;
        let mut send = Box::pin(one.send_fds("yes", [fd]));
        let scope = CancelScope::new();
        let ended = scope.run(async |scope| {
            assert!(poll!(&mut send).is_pending());
            in_kernel(1).await?;
            scope.cancel();
            Ok(())
        });
        ended.await?;
        turns(4).await;
        let strangers = [other.duplicate()?, other.duplicate()?];
        other.read_exact(vec![0; filled]).await?;
        send.await?;
        let (bytes, fds) = other.recv_fds(room()).await?;
        assert_eq!((&bytes[..], fds.len()), (&b"yes"[..], 1));
        drop(strangers);
        // The stream at whose other end we watch: what is written to it is seen there.
        let came = UnixStream::from_fd(fds.into_iter().next().expect("one"))?;
        came.write_all("it").await?;
        assert_eq!(watch.read(Vec::with_capacity(2)).await?, b"it");
        came.close().await?;
        closed(watch).await
    });
}

// More than goes at once: the descriptors go with the first part, once.
#[trine::test(kernel = "both")]
fn a_long_send_has_its_descriptors_with_its_first_byte() {
    run(async || {
        let (one, other) = UnixStream::pair()?;
        let len = fewer(1 << 20, 8 << 10);
        let (watch, fd) = watched().await?;
        trine::nursery(async |n| {
            let one = &one;
            n.spawn(async move {
                one.send_fds(vec![7; len], [fd]).await?;
                Ok(())
            });
            let (first, fds) = other.recv_fds(Vec::with_capacity(10)).await?;
            assert_eq!((first.len(), fds.len()), (10, 1));
            let mut received = first.len();
            while received < len {
                let (bytes, none) = other.recv_fds(Vec::with_capacity(32 << 10)).await?;
                assert!(none.is_empty() && !bytes.is_empty());
                received += bytes.len();
            }
            assert_eq!(received, len);
            Ok(())
        })
        .await?;
        closed(watch).await
    });
}

#[trine::test(kernel = "both")]
fn what_cannot_be_sent_is_refused_with_a_word() {
    run(async || {
        let (one, other) = UnixStream::pair()?;
        let many = |count| (0..count).map(|_| one.duplicate()).collect::<Result<Vec<_>, _>>();
        let failed = one.send_fds("", many(1)?).await.unwrap_err();
        assert!(failed.to_string().contains("send at least one"), "{failed}");
        let failed = one.send_fds("x", many(254)?).await.unwrap_err();
        assert!(failed.to_string().starts_with("254 descriptors"), "{failed}");
        let (left, _right) = UnixDatagram::pair()?;
        assert_kind(left.send_fds("x", many(254)?).await, ErrorKind::InvalidInput);
        // As many as there can be.
        one.send_fds("x", many(253)?).await?;
        assert_eq!(other.recv_fds(room()).await?.1.len(), 253);
        Ok(())
    });
}

// They cannot all be opened here: an error, and none of them stays.
#[trine::test]
fn descriptors_for_which_there_is_no_room_are_an_error() {
    run(async || {
        let (one, other) = UnixStream::pair()?;
        let (left, right) = UnixDatagram::pair()?;
        let (watch, fd) = watched().await?;
        let second = fd.duplicate()?;
        one.send_fds("some", [fd, second.duplicate()?]).await?;
        left.send_fds("some", [second]).await?;
        let world = World::current();
        world.limit_descriptors(world.census().descriptors + 1);
        let failed = other.recv_fds(room()).await.unwrap_err();
        assert!(failed.to_string().contains("could be opened"), "{failed}");
        assert_eq!(failed.buf, b"some");
        world.limit_descriptors(world.census().descriptors);
        let failed = right.recv_fds(room()).await.unwrap_err();
        assert!(failed.to_string().contains("could be opened"), "{failed}");
        world.limit_descriptors(1 << 20);
        closed(watch).await
    });
}

// Nor are they missed by whoever has not asked for any: what came for a dropped receive is a datagram like others.
#[trine::test]
fn descriptors_that_were_lost_are_no_error_for_whoever_wants_none() {
    run(async || {
        let (left, right) = UnixDatagram::pair()?;
        let world = World::current();
        let (watch, fd) = watched().await?;
        let mut receive = Box::pin(right.recv_fds(room()));
        assert!(poll!(&mut receive).is_pending());
        in_kernel(1).await?;
        let second = fd.duplicate()?;
        world.limit_descriptors(world.census().descriptors + 1);
        left.send_fds("some", [fd, second]).await?;
        turns(3).await;
        drop(receive);
        world.limit_descriptors(1 << 20);
        assert_eq!(right.recv_into(room()).await?.0, b"some");
        closed(watch).await
    });
}

#[trine::test(kernel = "both")]
fn datagrams_bring_descriptors_too() {
    run(async || {
        let name = format!("trine-test-fds-{}", std::process::id());
        let name = std_unix::SocketAddr::from_abstract_name(name)?;
        let server = UnixDatagram::bind_addr(&name).await?;
        let client = UnixDatagram::unbound()?;
        let (watch, fd) = watched().await?;
        client.send_fds_to("", [fd.duplicate()?, fd], &name).await?;
        client.send_to("none", &name).await?;
        let (empty, fds, from) = server.recv_fds(room()).await?;
        assert!(empty.is_empty() && from.is_unnamed());
        assert_eq!(fds.len(), 2);
        drop(fds);
        closed(watch).await?;
        let (bytes, none, _) = server.recv_fds(room()).await?;
        assert_eq!((&bytes[..], none.len()), (&b"none"[..], 0));
        client.connect_addr(&name).await?;
        // What came for a dropped one is what the next one returns.
        let watch = send_to_dropped(&client, &server).await?;
        let (bytes, fds, _) = server.recv_fds(room()).await?;
        assert_eq!((&bytes[..], fds.len()), (&b"late"[..], 1));
        drop(fds);
        closed(watch).await?;
        // Which may not have asked for them.
        let watch = send_to_dropped(&client, &server).await?;
        assert_eq!(server.recv_into(room()).await?.0, b"late");
        closed(watch).await?;
        // Nobody takes them: other receives, one for too few bytes, and the end of the socket.
        for how in 0..4 {
            let (watch, fd) = watched().await?;
            client.send_fds("three", [fd]).await?;
            match how {
                0 => assert_eq!(server.recv_into(room()).await?.0, b"three"),
                1 => assert_kind(
                    server.recv_fds(Vec::with_capacity(2)).await,
                    ErrorKind::InvalidData,
                ),
                2 => assert_eq!(server.recv().await?, *b"three"),
                _ => {
                    server.close().await?;
                    return closed(watch).await;
                }
            }
            closed(watch).await?;
        }
        unreachable!("the last one returns");
    });
}

// What the kernel did for a dropped receive is ended first, and nothing of it is lost.
#[trine::test(kernel = "both")]
fn a_stream_is_given_away_when_nothing_would_be_lost() {
    run(async || {
        let (one, other) = UnixStream::pair()?;
        {
            let mut receive = Box::pin(other.recv());
            assert!(poll!(&mut receive).is_pending());
            in_kernel(1).await?;
        }
        one.write_all("unread").await?;
        turns(3).await;
        let kept = other.into_fd().await.unwrap_err();
        assert!(kept.to_string().contains("bytes have come already"), "{kept}");
        let other = kept.object;
        assert_eq!(other.recv().await?.expect("no end"), *b"unread");
        let fd = other.into_fd().await?;
        assert_eq!(stats().in_kernel, 0);
        let other = UnixStream::from_fd(fd)?;
        one.write_all("again").await?;
        assert_eq!(other.recv().await?.expect("no end"), *b"again");
        // In a cancelled scope it stays what it was.
        let scope = CancelScope::new();
        let kept = scope.run(async |scope| {
            scope.cancel();
            let kept = other.into_fd().await.unwrap_err();
            assert!(kept.error.is_cancelled());
            Ok(kept.object)
        });
        let other = kept.await?.expect("the body has ended");
        one.write_all("more").await?;
        assert_eq!(other.recv().await?.expect("no end"), *b"more");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_broken_stream_is_not_given_away() {
    run(async || {
        let (one, _other) = UnixStream::pair()?;
        {
            let mut write = Box::pin(one.write_all(vec![0; fewer(4 << 20, 64 << 10)]));
            assert!(poll!(&mut write).is_pending());
            turns(3).await;
        }
        let kept = one.into_fd().await.unwrap_err();
        assert!(matches!(kept.error, Error::Broken(_)), "{kept}");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn listeners_and_datagram_sockets_are_given_away_when_nothing_would_be_lost() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        {
            let mut accept = Box::pin(listener.accept());
            assert!(poll!(&mut accept).is_pending());
            in_kernel(1).await?;
        }
        let client = TcpStream::connect_addr(address).await?;
        turns(3).await;
        let kept = listener.into_fd().await.unwrap_err();
        assert!(kept.to_string().contains("connections were accepted"), "{kept}");
        let (server, peer) = kept.object.accept().await?;
        assert_eq!(peer, client.local_addr()?);
        let listener = TcpListener::from_fd(kept.object.into_fd().await?)?;
        let second = TcpStream::connect_addr(address).await?;
        let (_, peer) = listener.accept().await?;
        assert_eq!(peer, second.local_addr()?);
        let server = TcpStream::from_fd(server.into_fd().await?)?;
        server.write_all("hello").await?;
        assert_eq!(client.recv().await?.expect("no end"), *b"hello");

        let one = UdpSocket::bind("127.0.0.1:0").await?;
        let address: SocketAddr = one.local_addr()?;
        {
            let mut receive = Box::pin(one.recv());
            assert!(poll!(&mut receive).is_pending());
            in_kernel(1).await?;
        }
        one.send_to("myself", address).await?;
        turns(3).await;
        let kept = one.into_fd().await.unwrap_err();
        assert!(kept.to_string().contains("datagrams have come"), "{kept}");
        assert_eq!(kept.object.recv().await?, *b"myself");
        let one = UdpSocket::from_fd(kept.object.into_fd().await?)?;
        assert_eq!(one.local_addr()?, address);
        one.send_to("again", address).await?;
        assert_eq!(one.recv().await?, *b"again");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_descriptor_becomes_nothing_but_what_it_is() {
    run(async || {
        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        let name = format!("trine-test-kinds-{}", std::process::id());
        let unix =
            UnixListener::bind_addr(&std_unix::SocketAddr::from_abstract_name(name)?).await?;
        let connection = TcpStream::connect_addr(tcp.local_addr()?).await?;
        let (stream, _peer) = UnixStream::pair()?;
        let datagrams = UnixDatagram::unbound()?;
        let udp = UdpSocket::bind("127.0.0.1:0").await?;
        let (reader, writer) = pipe::pipe()?;
        let all = [
            tcp.duplicate()?,
            connection.duplicate()?,
            udp.duplicate()?,
            unix.duplicate()?,
            stream.duplicate()?,
            datagrams.duplicate()?,
            reader.duplicate()?,
            writer.duplicate()?,
        ];
        for (at, fd) in all.iter().enumerate() {
            let refusals = [
                TcpListener::from_fd(fd.duplicate()?).err(),
                TcpStream::from_fd(fd.duplicate()?).err(),
                UdpSocket::from_fd(fd.duplicate()?).err(),
                UnixListener::from_fd(fd.duplicate()?).err(),
                UnixStream::from_fd(fd.duplicate()?).err(),
                UnixDatagram::from_fd(fd.duplicate()?).err(),
                PipeReader::from_fd(fd.duplicate()?).err(),
                PipeWriter::from_fd(fd.duplicate()?).err(),
            ];
            for (of, refusal) in refusals.into_iter().enumerate() {
                match refusal {
                    None => assert_eq!(at, of),
                    Some(error) if at != of => {
                        assert_eq!(error.io_kind(), Some(ErrorKind::InvalidInput), "{error}");
                        assert!(error.to_string().contains("is no "), "{error}");
                    }
                    Some(error) => panic!("{of}: {error}"),
                }
            }
        }
        assert_kind(File::from_fd(stream.duplicate()?), ErrorKind::InvalidInput);
        Ok(())
    });
}

#[test]
#[cfg_attr(miri, ignore = "the real kernel")]
fn what_does_not_block_is_refused_and_so_is_what_is_no_socket_at_all() {
    run(async || {
        let (one, _other) = std_unix::UnixStream::pair()?;
        one.set_nonblocking(true)?;
        let refused = UnixStream::from_fd(one).unwrap_err().to_string();
        assert!(refused.contains("clear O_NONBLOCK"), "{refused}");
        let null = fs::File::open("/dev/null")?;
        assert_kind(TcpStream::from_fd(null), ErrorKind::InvalidInput);
        let fresh = std::net::UdpSocket::bind("127.0.0.1:0")?;
        assert_kind(TcpStream::from_fd(OwnedFd::from(fresh)), ErrorKind::InvalidInput);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_file_goes_from_hand_to_hand() {
    let path = std::env::temp_dir().join(format!("trine-fds-{}", std::process::id()));
    run(async || {
        let (one, other) = UnixStream::pair()?;
        let file =
            trine::fs::OpenOptions::new().append(true).read(true).create(true).open(&path).await?;
        file.append("hello").await?;
        one.send_fds("file", [file.into_fd().await?]).await?;
        let (_, mut fds) = other.recv_fds(room()).await?;
        let file = File::from_fd(fds.remove(0))?;
        file.append(", world").await?;
        assert_eq!(file.read_exact_at(vec![0; 12], 0).await?, b"hello, world");
        trine::fs::remove_file(&path).await
    });
}

// P6: a socket of a simulated kernel is none of Linux's, and the other way round.
#[test]
#[cfg_attr(miri, ignore = "the real kernel")]
fn descriptors_of_two_kernels_are_not_mixed() {
    let mut simulated = None;
    World::tame()
        .run(async || {
            let (one, _other) = UnixStream::pair()?;
            let (linux, _) = std_unix::UnixStream::pair()?;
            let refused = one.send_fds("x", [linux]).await.unwrap_err().to_string();
            assert!(refused.contains("simulated kernel"), "{refused}");
            let fd = one.duplicate()?;
            assert!(fd.into_owned_fd().is_err());
            simulated = Some(one.duplicate()?);
            Ok(())
        })
        .unwrap();
    let simulated = simulated.expect("just made");
    run(async || {
        assert_kind(UnixStream::from_fd(simulated), ErrorKind::Unsupported);
        Ok(())
    });
}

#[test]
#[cfg_attr(miri, ignore = "the real kernel")]
fn a_python_process_takes_descriptors_and_sends_some() {
    let path = std::env::temp_dir().join(format!("trine-fds-{}.sock", std::process::id()));
    run(async || {
        let listener = UnixListener::builder().unlink_on_close(true).bind(&path).await?;
        let script = include_str!("clients/fds.py");
        let python = Command::new("python3").arg("-c").arg(script).arg(&path).spawn();
        let Ok(mut python) = python else {
            eprintln!("skipped: there is no python3");
            return Ok(());
        };
        let (stream, _) = listener.accept().await?;
        let (theirs, writer) = pipe::pipe()?;
        let (reader, its) = pipe::pipe()?;
        let ends = [theirs.into_fd().await?, its.into_fd().await?];
        stream.send_fds("two ends", ends).await?;
        writer.write_all("through ").await?;
        writer.write_all("python").await?;
        writer.close().await?;
        assert_eq!(reader.read_exact(vec![0; 14]).await?, b"THROUGH PYTHON");
        assert!(reader.recv().await?.is_none());
        let (text, mut fds) = stream.recv_fds(room()).await?;
        assert_eq!((&text[..], fds.len()), (&b"one end"[..], 1));
        let end = PipeReader::from_fd(fds.remove(0))?;
        assert_eq!(end.read_exact(vec![0; 11]).await?, b"from python");
        assert!(end.recv().await?.is_none());
        stream.close().await?;
        assert!(python.wait()?.success());
        listener.close().await
    });
}
