//! Receiving: `recv`, `read`, `read_exact`, and how a stream ends.

use std::io;
use std::net::Shutdown;
use std::pin::pin;

use futures::poll;
use trine::net::TcpStream;
use trine::time::sleep;
use trine::{
    BufError, CancelScope, Error, IoBuf, IoBufMut, Result, move_on_after, nursery, shield, stats,
};

use crate::common::{BUDGET, fewer};
use crate::{
    LONG, MOMENT, Peer, assert_pattern, pair, pattern, read_pattern, run, too_much, turns,
};

// `recv` and `read` share one read half, whose bytes come in order whoever asks for them.
#[trine::test(kernel = "both", runs = 5)]
fn every_mixture_of_recv_read_and_read_exact_keeps_the_order_of_bytes() {
    const LEN: usize = fewer(3_000_000, 6_000);
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        nursery(async |n| {
            n.spawn(async move {
                let bytes = pattern(0, LEN);
                let (mut from, mut piece) = (0, 1);
                while from < LEN {
                    let to = (from + piece).min(LEN);
                    peer.write_all(&bytes[from..to]).await?;
                    (from, piece) = (to, piece * 7 % fewer(60_013, 1_013) + 1);
                }
                Ok(())
            });
            let (mut at, mut random) = (0, 1_u32);
            loop {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let room = (random >> 8) as usize % fewer(20_000, 2_000) + 1;
                let bytes = match random >> 30 {
                    0 => stream.recv().await?.map_or(Vec::new(), |chunk| chunk.to_vec()),
                    1 => stream.read(Vec::with_capacity(room)).await?,
                    2 => stream.read(vec![0; 10 + room].slice(10..)).await?.to_vec(),
                    _ => match stream.read_exact(vec![0; room]).await {
                        Ok(bytes) => bytes,
                        Err(short) => short.buf,
                    },
                };
                if bytes.is_empty() {
                    break;
                }
                assert_pattern(at, &bytes);
                at += bytes.len();
            }
            assert_eq!(at, LEN);
            Ok(())
        })
        .await
    });
}

// The doc of `read`: replaces the content, at most the capacity.
#[trine::test(kernel = "both")]
fn a_read_replaces_the_content_and_does_not_grow_the_buffer() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        peer.write_all(b"abcdefghij").await?;
        let mut buf = Vec::with_capacity(4);
        buf.extend_from_slice(b"old");
        let (room, place) = (buf.capacity(), buf.as_ptr());
        let buf = stream.read(buf).await?;
        assert_eq!(buf, b"abcdefghij"[..room.min(10)]);
        assert_eq!((buf.capacity(), buf.as_ptr()), (room, place));
        // Fewer bytes than the content had: the rest of the content is gone.
        let mut rest = vec![b'x'; 64];
        rest = stream.read(rest).await?;
        assert_eq!(rest, b"abcdefghij"[room.min(10)..]);
        Ok(())
    });
}

// The doc of `read`: to add to a buffer, pass a slice of it.
#[trine::test(kernel = "both")]
fn slices_fill_a_part_of_a_buffer_and_leave_the_rest_alone() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        peer.write_all(b"abcdefgh").await?;
        let mut buf = Vec::with_capacity(16);
        buf.extend_from_slice(b"head");
        // Behind the content.
        let buf = stream.read_exact(buf.slice(4..7)).await?.into_inner();
        assert_eq!(buf, b"headabc");
        // In the middle of it.
        let slice = stream.read_exact(buf.slice(1..3)).await?;
        assert_eq!((&slice[..], slice.begin(), slice.end()), (&b"de"[..], 1, 3));
        let buf = slice.into_inner();
        assert_eq!(buf, b"hdedabc");
        // A slice of a slice, and shorter than its room.
        let slice = stream.read(buf.slice(3..16).slice(1..10)).await?;
        assert_eq!(&slice[..], b"fgh");
        let buf = slice.into_inner().into_inner();
        assert_eq!(buf, b"hdedfgh");
        // The whole buffer as one that begins with its content.
        peer.write_all(b"1234").await?;
        assert_eq!(stream.read_exact(buf.slice(..4)).await?.into_inner(), b"1234fgh");
        Ok(())
    });
}

// The doc of `read`: `InvalidInput` for a buffer without room; the buffer comes back.
#[trine::test(kernel = "both")]
fn a_buffer_without_room_is_refused_and_takes_no_byte() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        peer.write_all(b"abc").await?;
        let refused = |failed: &BufError<Vec<u8>>| {
            assert_eq!(
                (failed.error.io_kind(), failed.done),
                (Some(io::ErrorKind::InvalidInput), 0)
            );
        };
        refused(&stream.read(Vec::new()).await.unwrap_err());
        refused(&stream.read_exact(Vec::new()).await.unwrap_err());
        let full = stream.read(vec![1, 2, 3].slice(3..)).await.unwrap_err();
        assert_eq!(full.error.io_kind(), Some(io::ErrorKind::InvalidInput));
        assert_eq!(full.buf.into_inner(), [1, 2, 3]);
        // A gap between content and slice would be uninitialised bytes: no room either.
        let gap = stream.read(Vec::with_capacity(10).slice(5..8)).await.unwrap_err();
        assert_eq!(IoBufMut::capacity(&gap.buf), 0);
        assert_eq!(stream.recv().await?.unwrap(), *b"abc");
        Ok(())
    });
}

// The end of a stream is no error, comes after all bytes, and stays.
#[trine::test(kernel = "both")]
fn the_end_of_a_stream_comes_after_its_bytes_and_stays() {
    for first in 0..3 {
        run(async || {
            let (stream, peer) = Peer::pair().await?;
            peer.write_all(b"last words").await?;
            peer.shutdown(Shutdown::Write)?;
            match first {
                0 => assert_eq!(stream.recv().await?.unwrap(), *b"last words"),
                1 => assert_eq!(stream.read(Vec::with_capacity(50)).await?, b"last words"),
                _ => {
                    let short = stream.read_exact(Vec::with_capacity(50)).await.unwrap_err();
                    assert_eq!(short.error.io_kind(), Some(io::ErrorKind::UnexpectedEof));
                    assert_eq!((short.done, &short.buf[..]), (10, &b"last words"[..]));
                }
            }
            for _ in 0..3 {
                assert!(stream.recv().await?.is_none());
                assert!(stream.read(vec![1; 9]).await?.is_empty());
                let none = stream.read_exact(vec![1; 9]).await.unwrap_err();
                assert_eq!((none.done, none.buf.len()), (0, 0));
                assert_eq!(none.error.io_kind(), Some(io::ErrorKind::UnexpectedEof));
            }
            // The other direction is not concerned.
            stream.write_all("heard").await?;
            assert_eq!(peer.read_exact().await?, *b"heard");
            Ok(())
        });
    }
}

// What came before a reset is delivered; then the reset is an error and not the end of the stream.
#[trine::test(kernel = "both")]
fn a_reset_is_an_error_after_the_bytes_before_it() {
    for first in 0..3 {
        run(async || {
            let (stream, peer) = Peer::pair().await?;
            peer.write_all(b"abc").await?;
            assert_eq!(stream.read_exact(Vec::with_capacity(3)).await?, b"abc");
            // Meanwhile the kernel waits for more, or it does not.
            if first == 0 {
                assert!(poll!(pin!(stream.recv())).is_pending());
                turns(2).await;
            }
            peer.write_all(b"def").await?;
            peer.reset();
            let mut came = Vec::new();
            let error = loop {
                let part = match first {
                    0 => stream.recv().await.map(|chunk| chunk.map_or(vec![], |c| c.to_vec())),
                    1 => stream.read(Vec::with_capacity(2)).await.map_err(Into::into),
                    _ => match stream.read_exact(Vec::with_capacity(5)).await {
                        Ok(_) => panic!("only three bytes came"),
                        Err(failed) => {
                            assert_eq!(failed.done, failed.buf.len());
                            came.extend(failed.buf);
                            Err(failed.error)
                        }
                    },
                };
                match part {
                    Ok(bytes) => {
                        assert!(!bytes.is_empty(), "a reset is no end of the stream");
                        came.extend(bytes);
                    }
                    Err(error) => break error,
                }
            };
            assert_eq!(
                (&came[..], error.io_kind()),
                (&b"def"[..], Some(io::ErrorKind::ConnectionReset))
            );
            Ok(())
        });
    }
}

// The doc of `TcpStream`: two readers at a time get `Busy`; a dropped one is none.
#[trine::test(kernel = "both")]
fn one_task_at_a_time_reads() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        let busy = async || {
            assert!(matches!(stream.recv().await, Err(Error::Busy(_))));
            let read = stream.read(vec![7; 3]).await.unwrap_err();
            assert!(matches!(read.error, Error::Busy(_)));
            assert_eq!((read.done, read.buf), (0, vec![7; 3]));
            assert!(matches!(
                stream.read_exact(vec![0; 3]).await.unwrap_err().error,
                Error::Busy(_)
            ));
        };
        {
            let mut first = pin!(stream.recv());
            assert!(poll!(first.as_mut()).is_pending());
            busy().await;
            turns(1).await;
            busy().await;
        }
        {
            let mut second = pin!(stream.read(Vec::with_capacity(3)));
            assert!(poll!(second.as_mut()).is_pending());
            busy().await;
            turns(1).await;
            busy().await;
            // A reader does not keep a writer out.
            stream.write_all("x").await?;
        }
        let mut third = pin!(stream.read_exact(Vec::with_capacity(3)));
        assert!(poll!(third.as_mut()).is_pending());
        busy().await;
        peer.write_all(b"abcdef").await?;
        assert_eq!(third.await?, b"abc");
        assert_eq!(stream.recv().await?.unwrap(), *b"def");
        Ok(())
    });
}

// An unpolled future is no reader yet.
#[trine::test(kernel = "both")]
fn who_has_not_begun_to_read_keeps_nobody_out() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        let idle = (stream.recv(), stream.read(vec![0; 3]), stream.write_all("never"));
        peer.write_all(b"abc").await?;
        assert_eq!(stream.recv().await?.unwrap(), *b"abc");
        stream.write_all("said").await?;
        drop(idle);
        assert_eq!(peer.read_exact().await?, *b"said");
        Ok(())
    });
}

// D2: `read_exact` is partial: the error says how much came, and has it.
#[trine::test(kernel = "both")]
fn a_cancelled_read_exact_gives_what_came_and_takes_no_more() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        peer.write_all(b"abcd").await?;
        let read = async |scope: &CancelScope| {
            scope.set_deadline(Some(trine::time::Instant::now() + MOMENT));
            let failed = stream.read_exact(Vec::with_capacity(10)).await.unwrap_err();
            assert!(failed.error.is_cancelled());
            assert_eq!((failed.done, &failed.buf[..]), (4, &b"abcd"[..]));
            // B7: and so does every one after it, which takes nothing.
            peer.write_all(b"ef").await?;
            let again = stream.read_exact(vec![9; 2]).await.unwrap_err();
            assert!(again.error.is_cancelled());
            assert_eq!(again.done, 0);
            Err::<(), _>(failed.error)
        };
        assert!(CancelScope::new().run(read).await?.is_none());
        assert_eq!(stream.read_exact(Vec::with_capacity(2)).await?, b"ef");
        Ok(())
    });
}

// D4: a result wins over the cancellation, which waits for the next cancel point.
#[trine::test(kernel = "both")]
fn a_receive_that_finished_in_time_is_not_cancelled_after_all() {
    run(async || {
        for way in 0..3 {
            let (stream, peer) = Peer::pair().await?;
            let scope = CancelScope::new();
            let came = scope.run(async |scope| {
                let mut receive = pin!(take(&stream, way, 3));
                assert!(poll!(receive.as_mut()).is_pending());
                // To the kernel.
                turns(1).await;
                peer.write_all(b"abc").await?;
                // The kernel has finished it by then, and nobody has looked.
                turns(3).await;
                scope.cancel();
                let came = receive.await?;
                // B7: the cancellation was not forgotten.
                assert!(stream.recv().await.unwrap_err().is_cancelled());
                Ok(came)
            });
            // E5: and so the value of the scope is there.
            assert_eq!(came.await?.as_deref(), Some(&b"abc"[..]), "{way}");
        }
        Ok(())
    });
}

async fn take(stream: &TcpStream, way: u32, room: usize) -> Result<Vec<u8>> {
    Ok(match way {
        0 => stream.recv().await?.map_or(Vec::new(), |chunk| chunk.to_vec()),
        1 => stream.read(Vec::with_capacity(room)).await?,
        _ => stream.read_exact(Vec::with_capacity(room)).await?,
    })
}

// "A receive polled again after `Cancelled` starts anew instead of panicking."
#[trine::test(kernel = "both")]
fn a_recv_that_was_cancelled_can_be_awaited_again() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        let mut receive = pin!(stream.recv());
        for _ in 0..3 {
            assert!(move_on_after(MOMENT, async |_| receive.as_mut().await).await?.is_none());
        }
        peer.write_all(b"abc").await?;
        assert_eq!(receive.as_mut().await?.unwrap(), *b"abc");
        peer.write_all(b"def").await?;
        assert_eq!(receive.await?.unwrap(), *b"def");
        Ok(())
    });
}

// D4: stray interruptions. The receive was asked to end by a scope that it has left meanwhile; it is
// submitted again, eight times at least.
#[trine::test(kernel = "both")]
fn a_receive_that_has_left_the_cancelled_scope_goes_on() {
    for way in 0..3 {
        run(async || {
            let (stream, peer) = Peer::pair().await?;
            let mut receive = pin!(take(&stream, way, 3));
            for _ in 0..8 {
                let scope = CancelScope::new();
                let left = scope.run(async |scope| {
                    assert!(poll!(receive.as_mut()).is_pending());
                    turns(1).await;
                    scope.cancel();
                    // E5: a body that finished is finished.
                    Ok("left")
                });
                assert_eq!(left.await?, Some("left"));
                assert!(poll!(receive.as_mut()).is_pending());
                turns(1).await;
            }
            peer.write_all(b"abc").await?;
            assert_eq!(receive.await?, b"abc", "{way}");
            Ok(())
        });
    }
}

// G1: behind a shield a receive goes on in a cancelled scope.
#[trine::test(kernel = "both")]
fn a_shielded_receive_is_not_cancelled() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        for way in 0..3 {
            let scope = CancelScope::new();
            let came = scope.run(async |scope| {
                let mut receive = pin!(shield(take(&stream, way, 3)));
                assert!(poll!(receive.as_mut()).is_pending());
                turns(1).await;
                scope.cancel();
                turns(1).await;
                assert!(poll!(receive.as_mut()).is_pending());
                peer.write_all(b"abc").await?;
                receive.await
            });
            assert_eq!(came.await?.as_deref(), Some(&b"abc"[..]), "{way}");
        }
        Ok(())
    });
}

// One child reads while another writes: the halves are independent.
#[trine::test(kernel = "both")]
fn dozens_of_mebibytes_go_both_ways_at_once() {
    run(async || {
        let total = fewer(3, 1) * too_much();
        let (stream, peer) = Peer::pair().await?;
        let (stream, peer) = (&stream, &peer);
        let received = nursery(async |n| {
            n.spawn(async move {
                let (bytes, mut from) = (pattern(0, fewer(1_000_003, 10_003)), 0);
                while from < total {
                    let start = from % crate::PERIOD;
                    let len = (total - from).min(fewer(900_001, 8_001));
                    peer.write_all(&bytes[start..start + len]).await?;
                    from += len;
                }
                Ok(peer.shutdown(Shutdown::Write)?)
            });
            let receiving = n.fork(read_pattern(peer, 500_000, async || Ok(())));
            n.spawn(async move {
                let mut from = 0;
                while from < total {
                    let len = (total - from).min(3_000_001);
                    stream.write_all(pattern(from, len)).await?;
                    from += len;
                }
                stream.shutdown(Shutdown::Write).await
            });
            let mut at = 0;
            while let Some(chunk) = stream.recv().await? {
                assert_pattern(at, &chunk);
                at += chunk.len();
            }
            Ok((at, receiving.await?))
        });
        assert_eq!(received.await?, (total, total));
        Ok(())
    });
}

// A read of much at once, which needs many receives.
#[trine::test(kernel = "both", runs = 5)]
fn a_read_exact_collects_what_comes_in_pieces() {
    const LEN: usize = fewer(8 << 20, 8 << 10);
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        nursery(async |n| {
            n.spawn(async {
                for (n, piece) in pattern(0, LEN).chunks(fewer(70_001, 701)).enumerate() {
                    peer.write_all(piece).await?;
                    if n % 30 == 0 {
                        sleep(MOMENT / 10).await?;
                    }
                }
                Ok(())
            });
            let bytes = stream.read_exact(Vec::with_capacity(LEN)).await?;
            assert_eq!(bytes.len(), LEN);
            assert_pattern(0, &bytes);
            Ok(())
        })
        .await
    });
}

// An idle stream costs no buffer, and asking again does not cost another operation.
#[trine::test(kernel = "both")]
fn a_stream_that_waits_has_one_operation_and_no_buffer() {
    run(async || {
        let (one, other) = pair().await?;
        let before = stats();
        for _ in 0..3 {
            assert!(poll!(pin!(one.recv())).is_pending());
            turns(1).await;
        }
        let after = stats();
        assert_eq!(
            (after.in_kernel, after.submitted),
            (before.in_kernel + 1, before.submitted + 1)
        );
        assert_eq!(after.pool_leased, 0);
        for n in 0..fewer(20_u8, 5) {
            other.write_all([n]).await?;
            let received = move_on_after(LONG, async |_| one.recv().await).await?;
            assert_eq!(received.flatten().unwrap(), [n]);
        }
        Ok(())
    });
}

/// Polls a receive of each kind once, lets `meanwhile` turns go by, and drops it.
async fn abandon(stream: &TcpStream, way: u32, room: usize, meanwhile: usize) {
    let mut receive = Box::pin(take(stream, way, room));
    assert!(poll!(&mut receive).is_pending());
    turns(meanwhile).await;
}

// D7: what comes for a dropped receive stays with the stream, whichever it was, however far it had
// got, and whichever comes next; and it makes nobody `Busy`.
#[trine::test(kernel = "both")]
fn the_bytes_of_a_dropped_receive_are_what_the_next_one_returns() {
    run(async || {
        for (way, next) in (0..9).step_by(fewer(1, 4)).map(|both| (both / 3, both % 3)) {
            for meanwhile in (0..3).step_by(fewer(1, 2)) {
                let (stream, peer) = Peer::pair().await?;
                // Before they come.
                abandon(&stream, way, 3, meanwhile).await;
                peer.write_all(b"abc").await?;
                turns(meanwhile).await;
                assert_eq!(take(&stream, next, 3).await?, b"abc", "{way} {next} {meanwhile}");
                // When they have come.
                let mut receive = Box::pin(take(&stream, way, 3));
                assert!(poll!(&mut receive).is_pending());
                peer.write_all(b"def").await?;
                turns(meanwhile).await;
                drop(receive);
                assert_eq!(take(&stream, next, 3).await?, b"def", "{way} {next} {meanwhile}");
            }
        }
        Ok(())
    });
}

// D7: the part that a dropped `read_exact` has got comes before what came after it.
#[trine::test(kernel = "both")]
fn what_a_dropped_read_exact_has_collected_comes_first() {
    run(async || {
        for next in 0..3 {
            let (stream, peer) = Peer::pair().await?;
            {
                let mut exact = pin!(stream.read_exact(Vec::with_capacity(100)));
                for piece in [b"ab", b"cd"] {
                    assert!(poll!(exact.as_mut()).is_pending());
                    peer.write_all(piece).await?;
                    turns(2).await;
                }
                assert!(poll!(exact.as_mut()).is_pending());
            }
            peer.write_all(b"ef").await?;
            peer.shutdown(Shutdown::Write)?;
            let mut came = Vec::new();
            while came.len() < 6 {
                came.extend(take(&stream, next, 2).await?);
            }
            assert_eq!(came, b"abcdef", "{next}");
            assert!(stream.recv().await?.is_none());
        }
        Ok(())
    });
}

// D7: the same where it took from what the stream had kept, and had to wait before it could go on: for
// the end of a former receive, or for its turn (A2).
#[trine::test(kernel = "both")]
fn what_a_dropped_read_exact_took_from_the_stream_is_given_back() {
    run(async || {
        for spent in [0].into_iter().chain(BUDGET - 3..=BUDGET + 1) {
            let (stream, peer) = Peer::pair().await?;
            abandon(&stream, 0, 3, 1).await;
            for piece in [b"ab", b"cd"] {
                peer.write_all(piece).await?;
                turns(2).await;
            }
            for _ in 0..spent {
                stream.write_all("").await?;
            }
            abandon(&stream, 2, 100, 0).await;
            peer.write_all(b"ef").await?;
            let mut came = Vec::new();
            while came.len() < 6 {
                came.extend_from_slice(&stream.recv().await?.unwrap());
            }
            assert_eq!(came, b"abcdef", "{spent}");
        }
        Ok(())
    });
}

// D7: bytes that were kept are given away in parts if the next reader has less room.
#[trine::test(kernel = "both")]
fn kept_bytes_are_handed_out_in_parts_of_any_size() {
    const LEN: usize = fewer(100_000, 6_000);
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        let mut dropped = Box::pin(stream.read_exact(Vec::with_capacity(2 * LEN)));
        assert!(poll!(&mut dropped).is_pending());
        let sent = pattern(0, LEN);
        for half in sent.chunks(LEN / 2) {
            peer.write_all(half).await?;
            turns(2).await;
            assert!(poll!(&mut dropped).is_pending());
        }
        drop(dropped);
        let mut at = 0;
        for room in [1, 2, 1000, fewer(30_000, 2_000)] {
            let bytes = stream.read_exact(Vec::with_capacity(room)).await?;
            assert_pattern(at, &bytes);
            at += bytes.len();
        }
        while at < LEN {
            let chunk = stream.recv().await?.unwrap();
            assert_pattern(at, &chunk);
            at += chunk.len();
        }
        Ok(())
    });
}

// E11: the scope in which a receive was dropped waits until the kernel has let go of it.
#[trine::test(kernel = "both")]
fn a_scope_is_left_only_when_the_kernel_has_let_go_of_dropped_receives() {
    run(async || {
        for way in 0..3 {
            let (stream, peer) = Peer::pair().await?;
            let before = stats().in_kernel;
            let scope = CancelScope::new();
            let left = scope.run(async |_| {
                abandon(&stream, way, 3, 1).await;
                assert_eq!(stats().in_kernel, before + 1, "{way}");
                peer.write_all(b"abc").await?;
                Ok(())
            });
            assert_eq!(left.await?, Some(()));
            assert_eq!(stats().in_kernel, before, "{way}");
            assert_eq!(take(&stream, 0, 3).await?, b"abc", "{way}");
        }
        Ok(())
    });
}

// A8: a receive in a cancelled scope takes nothing, also of what has come already.
#[trine::test(kernel = "both")]
fn a_receive_in_a_cancelled_scope_takes_nothing() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        peer.write_all(b"abc").await?;
        abandon(&stream, 0, 3, 2).await;
        for way in 0..3 {
            let scope = CancelScope::new();
            scope.cancel();
            assert!(scope.run(async |_| take(&stream, way, 3).await).await?.is_none());
        }
        assert_eq!(stream.recv().await?.unwrap(), *b"abc");
        Ok(())
    });
}

// A2: results that are ready do not keep the task from letting others run.
#[trine::test(kernel = "both")]
fn a_task_that_always_finds_bytes_lets_others_run() {
    const LEN: usize = fewer(10_000, 200);
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        peer.write_all(&pattern(0, LEN)).await?;
        let mut ready = Box::pin(stream.read_exact(Vec::with_capacity(LEN + 1)));
        assert!(poll!(&mut ready).is_pending());
        turns(2).await;
        // All of it is kept by the stream from now on.
        assert!(poll!(&mut ready).is_pending());
        drop(ready);
        let before = stats().turns;
        for at in 0..LEN {
            assert_pattern(at, &stream.read(Vec::with_capacity(1)).await?);
        }
        assert!(stats().turns - before > LEN as u64 / 200, "{}", stats().turns - before);
        Ok(())
    });
}

// The doc of `shutdown`, with a reader that waits: it is the end of the stream to that one.
#[trine::test(kernel = "both")]
fn a_shutdown_of_both_halves_ends_a_receive_that_waits() {
    run(async || {
        for way in 0..2 {
            let (stream, _peer) = Peer::pair().await?;
            let mut receive = pin!(take(&stream, way, 3));
            assert!(poll!(receive.as_mut()).is_pending());
            turns(1).await;
            stream.shutdown(Shutdown::Both).await?;
            assert!(receive.await?.is_empty());
        }
        Ok(())
    });
}
