//! The pool of receive buffers, as whoever receives sees it.

use std::time::Duration;

use futures::poll;
use trine::time::sleep;
use trine::{Builder, nursery, stats};

use crate::common::fewer;
use crate::{Peer, assert_pattern, pair, pattern, run, run_with, turns};

// Design, "Buffers": a chunk is the reader's until it is dropped, whatever becomes of the rest.
#[trine::test(kernel = "both")]
fn chunks_outlive_their_stream_and_their_run() {
    let mut chunk = run(async || {
        let (stream, peer) = Peer::pair().await?;
        peer.write_all(b"abcdef").await?;
        let chunk = stream.recv().await?.unwrap();
        assert_eq!(stats().pool_leased, 1);
        stream.close().await?;
        Ok(chunk)
    });
    chunk.make_ascii_uppercase();
    chunk.advance(1);
    chunk.truncate(4);
    assert_eq!(chunk, *b"BCDE");
    assert_eq!(format!("{chunk:?}"), "Chunk(4 bytes)");
    let last = run(async || {
        let (stream, peer) = Peer::pair().await?;
        let chunk = stream.write_all(chunk).await?;
        assert_eq!(peer.read_exact().await?, *b"BCDE");
        Ok(chunk)
    });
    assert_eq!(last, *b"BCDE");
}

// The doc of `pool_most`: when all buffers are in use, a receive gets memory of its own.
#[trine::test(kernel = "both")]
fn a_receive_succeeds_however_many_chunks_are_held() {
    let small = Builder::new().pool_incremental(false).pool_buffer(4096).pool_least(1).pool_most(4);
    run_with(small, async || {
        let (stream, peer) = Peer::pair().await?;
        let mut held = Vec::new();
        for n in 0..20 {
            peer.write_all(&pattern(n * 100, 100)).await?;
            held.push(stream.recv().await?.unwrap());
            assert!(stats().pool_leased <= 4);
        }
        for (n, chunk) in held.iter().enumerate() {
            assert_eq!(chunk.len(), 100);
            assert_pattern(n * 100, chunk);
        }
        drop(held);
        assert_eq!(stats().pool_leased, 0);
        // The pool is used again.
        peer.write_all(b"pool").await?;
        let chunk = stream.recv().await?.unwrap();
        assert_eq!(stats().pool_leased, 1);
        assert_eq!(chunk, *b"pool");
        Ok(())
    });
}

// The doc of `pool_least`: a receive that found no buffer makes the pool grow, though buffers have come back
// before anybody looks. Else a load that needs a few more than there are would end its receives for ever.
#[trine::test(kernel = "both")]
fn a_pool_that_was_empty_grows_and_the_next_receives_go_on() {
    let small = Builder::new().pool_incremental(false).pool_buffer(4096).pool_least(1);
    run_with(small, async || {
        let (one, peer) = Peer::pair().await?;
        let (two, other) = Peer::pair().await?;
        let mut submitted = 0;
        for round in 0..10 {
            let mut second = Box::pin(two.recv());
            assert!(poll!(&mut second).is_pending());
            peer.write_all(b"one").await?;
            let first = one.recv().await?.unwrap();
            other.write_all(b"two").await?;
            turns(2).await;
            drop(first);
            assert_eq!(second.await?.unwrap(), *b"two");
            // Until it has grown they are made anew. Some kernels look for one buffer more.
            assert!(round < 4 || stats().submitted == submitted, "{:?}", stats());
            submitted = stats().submitted;
        }
        assert!((2..=4).contains(&(stats().pool_free + stats().pool_leased)), "{:?}", stats());
        Ok(())
    });
}

// Design, "Buffers": one slow reader cannot take the whole pool; it is paused, and loses nothing.
#[trine::test(kernel = "both")]
fn a_stream_that_nobody_reads_takes_a_few_buffers_only() {
    const PIECE: usize = fewer(64 << 10, 256);
    const LEN: usize = PIECE * fewer(64, 40);
    const FEW: usize = fewer(200, 32);
    let large = Builder::new().pool_incremental(false).pool_buffer(4096);
    run_with(large.pool_least(fewer(2048, 64)), async || {
        let (slow, peer) = Peer::pair().await?;
        nursery(async |n| {
            n.spawn(async {
                // A little at a time: an old kernel brings all that is there in one pass.
                for piece in pattern(0, LEN).chunks(PIECE) {
                    peer.write_all(piece).await?;
                    turns(1).await;
                }
                Ok(())
            });
            // Armed, and read no further.
            let mut receive = Box::pin(slow.recv());
            assert!(poll!(&mut receive).is_pending());
            let (quick, other) = Peer::pair().await?;
            for n in 0..fewer(200_u8, 10) {
                other.write_all(&[n]).await?;
                assert_eq!(quick.recv().await?.unwrap(), [n]);
                // The kernel fills some dozens before it hears of the pause; there would be a thousand.
                assert!(stats().pool_leased < FEW, "{:?}", stats());
            }
            let mut at = receive.as_mut().await?.unwrap().len();
            drop(receive);
            while at < LEN {
                let chunk = slow.recv().await?.unwrap();
                assert_pattern(at, &chunk);
                at += chunk.len();
            }
            Ok(())
        })
        .await
    });
}

// The same by bytes, for a few large buffers are as much as many small ones.
#[trine::test(kernel = "both")]
#[cfg_attr(miri, ignore = "the kernel's buffers are smaller there")]
fn a_stream_that_nobody_reads_takes_little_of_large_buffers() {
    const PIECE: usize = 256 << 10;
    const LEN: usize = 16 * PIECE;
    run_with(Builder::new().pool_least(64), async || {
        let (slow, peer) = Peer::pair().await?;
        nursery(async |n| {
            n.spawn(async {
                for piece in pattern(0, LEN).chunks(PIECE) {
                    peer.write_all(piece).await?;
                    turns(3).await;
                }
                Ok(())
            });
            let mut receive = Box::pin(slow.recv());
            assert!(poll!(&mut receive).is_pending());
            let mut leased = 0;
            for _ in 0..100 {
                turns(1).await;
                leased = leased.max(stats().pool_leased);
            }
            let first = receive.as_mut().await?.unwrap();
            drop(receive);
            // A kernel that does not fill buffers in pieces has smaller ones, and more of them. What is on
            // its way when the pause is asked for comes on top.
            let most = if first.len() > 16 << 10 { 5 } else { 80 };
            assert!((1..=most).contains(&leased), "{leased} of {most}");
            let mut at = first.len();
            while at < LEN {
                let chunk = slow.recv().await?.unwrap();
                assert_pattern(at, &chunk);
                at += chunk.len();
            }
            Ok(())
        })
        .await
    });
}

/// A page to a buffer, which is filled piece by piece where the kernel can.
fn in_pieces() -> Builder {
    Builder::new().pool_incremental(true).pool_buffer(4096).pool_least(2).pool_most(8)
}

// The doc of `pool_incremental`: chunks that share a buffer are each its reader's own, whichever goes first,
// and a message that does not fit into the rest of a buffer goes on in the next one.
#[trine::test(kernel = "both")]
fn chunks_of_one_buffer_do_not_disturb_one_another() {
    run_with(in_pieces(), async || {
        let (stream, peer) = Peer::pair().await?;
        let (mut held, mut at, mut sent) = (Vec::new(), 0, 0);
        for n in 0..fewer(200_usize, 40) {
            let len = 1 + n * 37 % 700;
            peer.write_all(&pattern(sent, len)).await?;
            sent += len;
            while at < sent {
                let mut chunk = stream.recv().await?.unwrap();
                assert_pattern(at, &chunk);
                at += chunk.len();
                if n % 3 == 0 {
                    chunk.fill(0);
                } else {
                    held.push((at - chunk.len(), chunk));
                }
            }
            // From the middle, so that buffers come back out of order.
            if held.len() > 5 {
                held.remove(n % 5);
            }
            for (at, chunk) in &held {
                assert_pattern(*at, chunk);
            }
        }
        drop(held);
        assert_eq!(stats().pool_leased, 0);
        Ok(())
    });
}

// Many streams share the buffers: what came for one is not another's.
#[trine::test(kernel = "both", runs = 5)]
fn pieces_of_many_streams_do_not_get_mixed_up() {
    const STREAMS: usize = fewer(8, 4);
    const LEN: usize = fewer(12_000, 2_000);
    run_with(in_pieces(), async || {
        nursery(async |n| {
            for stream in 0..STREAMS {
                let (one, other) = pair().await?;
                n.spawn(async move {
                    let bytes = pattern(stream * 31, LEN);
                    for (n, piece) in bytes.chunks(1 + stream * 97 % 1_500).enumerate() {
                        one.write_all(piece.to_vec()).await?;
                        if n % 7 == stream % 7 {
                            sleep(Duration::from_micros(50)).await?;
                        }
                    }
                    one.close().await
                });
                n.spawn(async move {
                    let mut at = 0;
                    let mut kept = None;
                    while let Some(chunk) = other.recv().await? {
                        assert_pattern(stream * 31 + at, &chunk);
                        at += chunk.len();
                        // The one before is looked at again after the next has come.
                        if let Some((at, chunk)) = kept.replace((at - chunk.len(), chunk)) {
                            assert_pattern(stream * 31 + at, &chunk);
                        }
                    }
                    assert_eq!(at, LEN);
                    other.close().await
                });
            }
            Ok(())
        })
        .await?;
        assert_eq!(stats().pool_leased, 0);
        Ok(())
    });
}

// A large message comes in pieces that are larger than buffers without sharing are by default.
#[trine::test(kernel = "both")]
#[cfg_attr(miri, ignore = "the kernel's buffers are smaller there")]
fn what_comes_of_a_large_message_is_as_large_as_a_buffer() {
    run(async || {
        let (one, other) = pair().await?;
        nursery(async |n| {
            n.spawn(async move {
                one.write_all(pattern(0, 4 << 20)).await.map(drop).map_err(Into::into)
            });
            let (mut at, mut largest) = (0, 0);
            while at < 4 << 20 {
                let chunk = other.recv().await?.unwrap();
                assert_pattern(at, &chunk);
                at += chunk.len();
                largest = largest.max(chunk.len());
            }
            // A kernel that cannot fill a buffer in pieces has smaller ones.
            assert!((16 << 10..=256 << 10).contains(&largest), "{largest}");
            Ok(())
        })
        .await
    });
}
