//! Sending without a copy: the buffer is the kernel's until the bytes have arrived.

use std::cell::Cell;
use std::io;
use std::pin::pin;

use futures::poll;
use trine::net::TcpStream;
use trine::testing::World;
use trine::time::Instant;
use trine::{CancelScope, Result, nursery, stats};

use crate::common::fewer;
use crate::{MOMENT, Peer, assert_pattern, pair, pattern, run, too_much, turns};

const PIECE: usize = fewer(20_000, 2_000);

// The doc of `set_zero_copy`: large pieces go without a copy, small ones as ever, in order.
#[trine::test(kernel = "both", runs = 5)]
fn large_and_small_pieces_arrive_in_order_and_come_back() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        one.set_zero_copy(Some(PIECE))?;
        let (mut at, pieces) = (0, [PIECE, 10, PIECE - 1, PIECE + 1, 1]);
        let received = nursery(async |n| {
            let reader = n.fork(peer.read_to_end());
            for piece in pieces {
                assert_eq!(one.write_all(pattern(at, piece)).await?, pattern(at, piece));
                at += piece;
            }
            let (part, _) = one.write(pattern(at, 5)).await?;
            at += part;
            one.set_zero_copy(None)?;
            one.write_all(pattern(at, PIECE)).await?;
            at += PIECE;
            one.close().await?;
            reader.await
        })
        .await?;
        assert_eq!(received.len(), at);
        assert_pattern(0, &received);
        Ok(())
    });
}

/// What the peer hears up to the end, which may be a reset.
async fn hear(peer: &Peer) -> usize {
    let (mut buf, mut at) = (vec![0; PIECE], 0);
    while let Ok(count @ 1..) = peer.read(&mut buf).await {
        assert_pattern(at, &buf[..count]);
        at += count;
    }
    at
}

// D2, D5: terminal: the peer takes nothing, and all the same the kernel lets go of the buffer.
#[trine::test(kernel = "both", runs = 5)]
fn a_cancelled_one_ends_the_connection_and_gives_the_buffer_back() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        one.set_zero_copy(Some(1))?;
        let before = stats().in_kernel;
        let scope = CancelScope::new().timeout(MOMENT);
        let write = async |_: &_| Ok(one.write_all(pattern(0, too_much())).await.unwrap_err());
        let failed = scope.run(write).await?.expect("a body that finished is finished");
        assert!(failed.error.is_cancelled(), "{}", failed.error);
        assert_eq!(stats().in_kernel, before);
        assert_eq!(failed.buf.len(), too_much(), "the buffer comes back");
        assert!(failed.done < too_much());
        let next = one.write_all("next").await.unwrap_err();
        assert!(!next.error.is_cancelled(), "{}", next.error);
        one.close().await?;
        assert!(hear(&peer).await <= failed.done);
        Ok(())
    });
}

// The same when everything went out and the peer has not taken it yet.
#[trine::test(kernel = "both", runs = 5)]
fn one_that_waits_for_the_peer_alone_is_cancelled_too() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        one.set_zero_copy(Some(1))?;
        let before = stats().in_kernel;
        let mut written = 0;
        // Until the peer's side is full; then the last one waits for it.
        let scope = CancelScope::new().timeout(MOMENT);
        let failed = scope
            .run(async |_| {
                loop {
                    match one.write_all(pattern(written, PIECE)).await {
                        Ok(buf) => written += buf.len(),
                        Err(failed) => return Ok(failed),
                    }
                }
            })
            .await?
            .expect("a body that finished is finished");
        assert!(failed.error.is_cancelled(), "{}", failed.error);
        assert_eq!((stats().in_kernel, failed.buf.len()), (before, PIECE));
        // If nothing was under way at that moment, this is what ends it.
        one.close().await?;
        assert!(hear(&peer).await <= written + failed.done);
        Ok(())
    });
}

// D7, F12: a dropped one too; the scope waits until the kernel has let go, and not for the peer.
#[trine::test(kernel = "both", runs = 5)]
fn a_dropped_one_ends_the_connection() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        one.set_zero_copy(Some(1))?;
        let before = stats().in_kernel;
        nursery(async |_| {
            let mut write = pin!(one.write_all(pattern(0, too_much())));
            assert!(poll!(write.as_mut()).is_pending());
            turns(3).await;
            assert!(poll!(write.as_mut()).is_pending());
            Ok(())
        })
        .await?;
        assert_eq!(stats().in_kernel, before);
        match one.write_all("next").await {
            Err(next) => {
                assert!(!next.error.is_cancelled(), "{}", next.error);
                one.close().await?;
                assert!(hear(&peer).await < too_much());
                Ok(())
            }
            // The kernel had been interrupted before anything went out.
            Ok(_) => {
                one.close().await?;
                assert_eq!(peer.read_to_end().await?, b"next");
                Ok(())
            }
        }
    });
}

/// A connection whose send buffer is full, its peer, and how much was written.
async fn full() -> Result<(TcpStream, Peer, usize)> {
    let (one, peer) = Peer::pair().await?;
    let mut written = 0;
    loop {
        let write = async |_: &_| {
            let written = one.write_all(pattern(written, too_much())).await;
            Ok(written.map_or_else(|failed| failed.done, |buf| buf.len()))
        };
        match CancelScope::new().timeout(MOMENT).run(write).await?.expect("it has a value") {
            0 => return Ok((one, peer, written)),
            count => written += count,
        }
    }
}

/// What was written before is still on its way, and the connection goes on.
async fn assert_whole(one: TcpStream, peer: Peer, written: usize) -> Result {
    one.set_zero_copy(None)?;
    nursery(async |n| {
        n.spawn(async {
            one.write_all(pattern(written, 10)).await?;
            one.close().await
        });
        let heard = peer.read_to_end().await?;
        assert_eq!(heard.len(), written + 10);
        assert_pattern(0, &heard);
        Ok(())
    })
    .await
}

// D1, the doc of `set_zero_copy`: the connection is reset as soon as anything went out, and not before.
#[trine::test(kernel = "both", runs = 5)]
fn a_cancelled_one_of_which_nothing_went_out_resets_nothing() {
    run(async || {
        loop {
            let (one, peer, written) = full().await?;
            one.set_zero_copy(Some(1))?;
            let write = async |_: &_| Ok(one.write_all(pattern(written, PIECE)).await.unwrap_err());
            let failed = CancelScope::new().timeout(MOMENT).run(write).await?.expect("an error");
            assert!(failed.error.is_cancelled(), "{}", failed.error);
            assert_eq!(failed.buf.len(), PIECE, "the buffer comes back");
            // The kernel may have found room for some of it after all.
            if failed.done == 0 {
                return assert_whole(one, peer, written).await;
            }
        }
    });
}

// The same when it is dropped: D7.
#[trine::test(kernel = "both", runs = 5)]
fn a_dropped_one_of_which_nothing_went_out_resets_nothing() {
    run(async || {
        // The kernel may have found room for some of it after all; but not always.
        for _attempt in 0..10 {
            let (one, peer, written) = full().await?;
            one.set_zero_copy(Some(1))?;
            let before = stats().in_kernel;
            let ended = nursery(async |_| {
                let mut write = pin!(one.write_all(pattern(written, PIECE)));
                assert!(poll!(write.as_mut()).is_pending());
                turns(3).await;
                Ok(poll!(write.as_mut()).is_ready())
            })
            .await?;
            assert_eq!(stats().in_kernel, before);
            if !ended && one.peer_addr().is_ok() {
                return assert_whole(one, peer, written).await;
            }
        }
        panic!("it was reset each time");
    });
}

// Cancelled before the kernel saw it: D6.
#[trine::test(kernel = "both")]
fn one_that_the_kernel_has_not_seen_is_withdrawn() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        one.set_zero_copy(Some(1))?;
        let scope = CancelScope::new();
        let failed = scope
            .run(async |scope| {
                let mut write = pin!(one.write_all(pattern(0, PIECE)));
                assert!(poll!(write.as_mut()).is_pending());
                scope.cancel();
                Ok(write.await.unwrap_err())
            })
            .await?
            .expect("a body that finished is finished");
        assert!(failed.error.is_cancelled() && failed.done == 0);
        one.close().await?;
        assert_eq!(peer.read_to_end().await?, b"");
        Ok(())
    });
}

// D4: what had arrived when the cancellation came is no cancelled write.
#[trine::test(kernel = "both", runs = 20)]
fn one_that_the_peer_has_is_not_cancelled() {
    run(async || {
        let (one, two) = pair().await?;
        one.set_zero_copy(Some(1))?;
        let ended = Cell::new(None);
        nursery(async |n| {
            n.spawn(async {
                ended.set(Some(
                    one.write_all(pattern(0, PIECE)).await.map_err(|failed| failed.done),
                ));
                Ok(())
            });
            let mut came = 0;
            while came < PIECE {
                came += two.recv().await?.expect("no end").len();
            }
            n.cancel();
            Ok(())
        })
        .await?;
        if ended.take() == Some(Err(PIECE)) {
            // It came before the kernel had said that it was done: then the connection was ended.
            assert!(one.write_all("more").await.is_err());
        }
        Ok(())
    });
}

// The doc of `set_zero_copy`: where it cannot be done the bytes are copied.
#[test]
fn where_it_is_refused_the_bytes_are_copied() {
    let sent: Result = World::tame().run(async || {
        World::current().refuse_zero_copy(true);
        let (one, peer) = Peer::pair().await?;
        one.set_zero_copy(Some(1))?;
        let submitted = stats().submitted;
        one.write_all(pattern(0, PIECE)).await?;
        assert_eq!(stats().submitted - submitted, 2, "refused, and sent");
        one.write_all(pattern(PIECE, PIECE)).await?;
        assert_eq!(stats().submitted - submitted, 3, "it is not tried again");
        one.close().await?;
        let received = peer.read_to_end().await?;
        assert_eq!(received.len(), 2 * PIECE);
        assert_pattern(0, &received);
        Ok(())
    });
    sent.expect("main succeeds");
}

#[trine::test(kernel = "both")]
fn nothing_is_no_size_to_begin_from() {
    run(async || {
        let (one, _peer) = Peer::pair().await?;
        let refused = one.set_zero_copy(Some(0)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        Ok(())
    });
}

/// What sends without a copy take, by size, over loopback, where the kernel copies all the same when the
/// bytes arrive.
#[test]
#[ignore = "a measurement"]
fn where_it_pays() {
    const ALL: usize = 64 << 20;
    // How long that takes.
    async fn send(one: &TcpStream, two: &TcpStream, size: usize) -> Result<f64> {
        let began = Instant::now();
        nursery(async |n| {
            n.spawn(async {
                let mut left = ALL;
                while left > 0 {
                    left -= two.recv().await?.expect("no end").len();
                }
                Ok(())
            });
            let mut buf = vec![1; size];
            for _ in 0..ALL / size {
                buf = one.write_all(buf).await?;
            }
            Ok(())
        })
        .await?;
        Ok(began.elapsed().as_secs_f64())
    }
    run(async || {
        let (one, two) = pair().await?;
        for size in [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20] {
            let mut ratios = Vec::new();
            for _round in 0..9 {
                one.set_zero_copy(None)?;
                let copied = send(&one, &two, size).await?;
                one.set_zero_copy(Some(1))?;
                ratios.push(send(&one, &two, size).await? / copied);
            }
            ratios.sort_by(f64::total_cmp);
            println!("{size:>8} bytes: {:.2} times as long as with a copy", ratios[4]);
        }
        Ok(())
    });
}
