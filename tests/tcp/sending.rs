//! Sending: `write`, `write_all`, `shutdown`, and the options of a connection.

use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::ops::AsyncFnOnce;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::poll;
use trine::net::TcpStream;
use trine::time::{Instant, sleep};
use trine::{BufError, CancelScope, Error, IoBuf, Result, move_on_after, nursery};

use crate::common::fewer;
use crate::{MOMENT, Peer, assert_pattern, pair, pattern, read_pattern, run, too_much, turns};

/// What the peer gets, up to the end of the stream, if it reads all the while that `body` takes.
async fn drained(peer: &Peer, body: impl AsyncFnOnce() -> Result) -> Result<Vec<u8>> {
    nursery(async |n| {
        let reader = n.fork(peer.read_to_end());
        body().await?;
        reader.await
    })
    .await
}

/// Writes the pattern until the kernel takes no more for the moment, and says where it stopped.
async fn fill(stream: &TcpStream) -> Result<usize> {
    let mut at = 0;
    loop {
        let scope = CancelScope::new().timeout(MOMENT);
        let failed = async |_: &_| Ok(stream.write_all(pattern(at, too_much())).await.unwrap_err());
        let failed = scope.run(failed).await?.expect("a body that finished is finished");
        assert!(failed.error.is_cancelled(), "{}", failed.error);
        at += failed.done;
        if failed.done == 0 {
            return Ok(at);
        }
    }
}

// `IoBuf`: whatever owns its bytes can be sent, and comes back.
#[trine::test(kernel = "both")]
fn buffers_of_every_kind_are_sent_and_come_back() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        assert_eq!(one.write_all(b"vec,".to_vec()).await?, b"vec,");
        assert_eq!(*one.write_all(Box::<[u8]>::from(&b"box,"[..])).await?, *b"box,");
        assert_eq!(one.write_all(&b"static,"[..]).await?, b"static,");
        assert_eq!(one.write_all(b"array ref,").await?, b"array ref,");
        assert_eq!(one.write_all(*b"array,").await?, *b"array,");
        assert_eq!(one.write_all(String::from("string,")).await?, "string,");
        assert_eq!(one.write_all("str,").await?, "str,");
        assert_eq!(*one.write_all(Rc::<[u8]>::from(&b"rc,"[..])).await?, *b"rc,");
        assert_eq!(*one.write_all(Arc::<[u8]>::from(&b"arc,"[..])).await?, *b"arc,");
        let whole = one.write_all(b"(slice,)".to_vec().slice(1..7)).await?;
        assert_eq!(&whole[..], b"slice,");
        assert_eq!(whole.into_inner(), b"(slice,)");
        peer.write_all(b"chunk.").await?;
        let chunk = one.recv().await?.unwrap();
        assert_eq!(one.write_all(chunk).await?, *b"chunk.");
        one.close().await?;
        let said = "vec,box,static,array ref,array,string,str,rc,arc,slice,chunk.";
        assert_eq!(String::from_utf8(peer.read_to_end().await?).unwrap(), said);
        Ok(())
    });
}

// The docs of `write` and `write_all`: nothing is all of nothing.
#[trine::test(kernel = "both")]
fn an_empty_buffer_is_written_without_writing() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        let submitted = trine::stats().submitted;
        assert_eq!(one.write(Vec::new()).await?, (0, Vec::new()));
        assert_eq!(one.write_all("").await?, "");
        assert_eq!(one.write_all(b"abc".to_vec().slice(1..1)).await?.into_inner(), b"abc");
        assert_eq!(trine::stats().submitted, submitted);
        // It is a checkpoint all the same (A2).
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.run(async |_| Ok(one.write_all("").await?)).await?.is_none());
        one.close().await?;
        assert!(peer.read_to_end().await?.is_empty());
        Ok(())
    });
}

// The doc of `write`: what the kernel takes at once, and says how much that was.
#[trine::test(kernel = "both")]
fn a_write_says_how_much_the_kernel_took() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        let (first, buf) = one.write(pattern(0, too_much())).await?;
        assert!(0 < first && first < too_much(), "{first}");
        assert_eq!(buf.len(), too_much());
        let the_rest = async || {
            let (mut done, mut buf) = (first, buf);
            while done < too_much() {
                let (count, rest) = one.write(buf.slice(done..)).await?;
                assert!(count > 0);
                (done, buf) = (done + count, rest.into_inner());
            }
            one.close().await
        };
        let bytes = drained(&peer, the_rest).await?;
        assert_eq!(bytes.len(), too_much());
        assert_pattern(0, &bytes);
        Ok(())
    });
}

// D2: `write_all` is partial. What the error says is exactly what the peer gets.
#[trine::test(kernel = "both", runs = 5)]
fn a_cancelled_write_all_says_exactly_how_much_the_peer_gets() {
    const REST: usize = fewer(1_000_000, 1_000);
    run(async || {
        let (one, peer) = Peer::pair().await?;
        let full = fill(&one).await?;
        assert!(0 < full && full < too_much(), "{full}");
        // A cancelled write breaks nothing, also one that wrote nothing (`fill` ended with one).
        let the_rest = async || {
            one.write_all(pattern(full, REST)).await?;
            one.close().await
        };
        let bytes = drained(&peer, the_rest).await?;
        assert_eq!(bytes.len(), full + REST);
        assert_pattern(0, &bytes);
        Ok(())
    });
}

// The same with a peer that reads all the time, so that the cancellation comes at any moment.
#[trine::test(kernel = "both")]
fn writes_that_are_cancelled_at_any_moment_add_up_to_what_the_peer_gets() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        nursery(async |n| {
            let pause = async || sleep(Duration::from_micros(20)).await;
            let reader = n.fork(async move { read_pattern(&peer, 100_000, pause).await });
            let (mut at, mut cancelled, piece) = (0, 0, 2_000_000.min(too_much() / 2));
            for round in 0..fewer(150_u64, 6) {
                let patience = Duration::from_micros(round * 37 % 400);
                let scope = CancelScope::new().timeout(patience);
                let wrote = scope.run(async |_| match one.write_all(pattern(at, piece)).await {
                    Ok(bytes) => Ok(bytes.len()),
                    Err(failed) => {
                        assert!(failed.error.is_cancelled(), "{}", failed.error);
                        assert_eq!(failed.buf.len(), piece);
                        cancelled += 1;
                        Ok(failed.done)
                    }
                });
                at += wrote.await?.expect("a body that finished is finished");
            }
            // How many depends on the machine; that some are is the point.
            assert!(cancelled > 0, "none was cancelled");
            one.close().await?;
            assert_eq!(reader.await?, at);
            Ok(())
        })
        .await
    });
}

// D1, D4: it has happened, so it is not cancelled after all.
#[trine::test(kernel = "both")]
fn a_write_that_went_through_is_no_cancelled_one() {
    run(async || {
        let (one, other) = pair().await?;
        let scope = CancelScope::new();
        let written = scope.run(async |scope| {
            let mut write = pin!(one.write_all("through"));
            assert!(poll!(write.as_mut()).is_pending());
            turns(2).await;
            scope.cancel();
            write.as_mut().await?;
            // B7: the next cancel point raises.
            assert!(one.write_all("not").await.unwrap_err().error.is_cancelled());
            Ok(())
        });
        assert_eq!(written.await?, Some(()));
        one.close().await?;
        assert_eq!(other.recv().await?.unwrap(), *b"through");
        assert!(other.recv().await?.is_none());
        Ok(())
    });
}

// D6: what the kernel has not seen is withdrawn.
#[trine::test(kernel = "both", runs = 5)]
fn a_write_cancelled_before_the_kernel_saw_it_writes_nothing() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        let scope = CancelScope::new();
        let outcome = scope.run(async |scope| {
            let mut write = pin!(one.write_all("never"));
            assert!(poll!(write.as_mut()).is_pending());
            scope.cancel();
            let failed = write.await.unwrap_err();
            assert!(failed.error.is_cancelled());
            assert_eq!((failed.done, failed.buf), (0, "never"));
            Err::<(), _>(failed.error)
        });
        assert!(outcome.await?.is_none());
        one.write_all("once").await?;
        one.close().await?;
        assert_eq!(peer.read_to_end().await?, b"once");
        Ok(())
    });
}

// The doc of `TcpStream`: two writers at a time get `Busy`; a dropped one is none.
#[trine::test(kernel = "both")]
fn one_task_at_a_time_writes() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        let busy = async || {
            let failed = one.write_all(vec![1, 2]).await.unwrap_err();
            assert!(matches!(failed.error, Error::Busy(_)));
            assert_eq!((failed.done, failed.buf), (0, vec![1, 2]));
            assert!(matches!(one.write("x").await.unwrap_err().error, Error::Busy(_)));
            assert!(matches!(one.shutdown(Shutdown::Write).await, Err(Error::Busy(_))));
        };
        {
            let mut first = pin!(one.write_all("dropped"));
            assert!(poll!(first.as_mut()).is_pending());
            busy().await;
        }
        let mut second = Box::pin(one.write_all(pattern(0, too_much())));
        assert!(poll!(&mut second).is_pending());
        busy().await;
        turns(2).await;
        busy().await;
        let goes_on = async || {
            second.await?;
            // Dropped when something had gone out, it is none either.
            let mut third = Box::pin(one.write_all(pattern(too_much(), too_much())));
            assert!(poll!(&mut third).is_pending());
            turns(1).await;
            drop(third);
            assert!(matches!(one.write("x").await.unwrap_err().error, Error::Broken(_)));
            one.shutdown(Shutdown::Write).await
        };
        let bytes = drained(&peer, goes_on).await?;
        assert!(bytes.len() > too_much(), "{}", bytes.len());
        assert_pattern(0, &bytes);
        Ok(())
    });
}

// The doc of `shutdown` and of `write`: the peer sees the end, writing is `Closed`, reading goes on.
#[trine::test(kernel = "both")]
fn after_a_shutdown_of_the_write_half_only_reading_goes_on() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        one.write_all("bye").await?;
        one.shutdown(Shutdown::Write).await?;
        for _ in 0..2 {
            let failed = one.write_all(b"more".to_vec()).await.unwrap_err();
            assert!(matches!(failed.error, Error::Closed(_)), "{}", failed.error);
            assert_eq!((failed.done, failed.buf), (0, b"more".to_vec()));
            assert!(matches!(one.write("more").await.unwrap_err().error, Error::Closed(_)));
            // Shutting a half twice is shutting it once.
            one.shutdown(Shutdown::Write).await?;
        }
        let said = peer.read_to_end().await?;
        assert_eq!(said, b"bye");
        peer.write_all(b"still here").await?;
        assert_eq!(one.recv().await?.unwrap(), *b"still here");
        Ok(())
    });
}

// The doc of `shutdown`: a half is shut, the other one is not.
#[trine::test(kernel = "both")]
fn after_a_shutdown_of_the_read_half_the_stream_ends_and_writing_goes_on() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        // Also for one that waits already.
        let mut receive = pin!(one.recv());
        assert!(poll!(receive.as_mut()).is_pending());
        one.shutdown(Shutdown::Read).await?;
        assert!(receive.await?.is_none());
        assert!(one.read(Vec::with_capacity(5)).await?.is_empty());
        one.write_all("still here").await?;
        assert_eq!(peer.read_exact().await?, *b"still here");
        Ok(())
    });
}

// The doc of `shutdown`: `Both` shuts both halves, whatever was shut before.
#[trine::test(kernel = "both")]
fn a_shutdown_of_both_halves_after_one_of_the_write_half_shuts_the_other_too() {
    run(async || {
        let (one, _peer) = Peer::pair().await?;
        one.shutdown(Shutdown::Write).await?;
        one.shutdown(Shutdown::Both).await?;
        let received = move_on_after(5 * MOMENT, async |_| one.recv().await).await?;
        assert!(matches!(received, Some(None)), "the read half is still open");
        let (one, _peer) = Peer::pair().await?;
        one.shutdown(Shutdown::Both).await?;
        assert!(matches!(one.write_all("x").await.unwrap_err().error, Error::Closed(_)));
        assert!(one.recv().await?.is_none());
        Ok(())
    });
}

// D2: total: a shutdown that was cancelled has not happened.
#[trine::test(kernel = "both")]
fn a_shutdown_in_a_cancelled_scope_does_not_happen() {
    run(async || {
        let (one, other) = pair().await?;
        for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
            let scope = CancelScope::new();
            scope.cancel();
            assert!(scope.run(async |_| one.shutdown(how).await).await?.is_none());
        }
        one.write_all("open").await?;
        assert_eq!(other.recv().await?.unwrap(), *b"open");
        other.write_all("open").await?;
        assert_eq!(one.recv().await?.unwrap(), *b"open");
        Ok(())
    });
}

// D4, and the docs of `write`, `shutdown` and `peer_addr`: what the operating system says.
#[trine::test(kernel = "both")]
fn a_write_to_a_connection_that_was_reset_is_an_error_with_the_buffer() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        // A write that waits hears of it.
        let mut write = Box::pin(one.write_all(pattern(0, too_much())));
        assert!(poll!(&mut write).is_pending());
        turns(2).await;
        peer.reset();
        let BufError { error, done, buf } = write.as_mut().await.map(|_| ()).unwrap_err();
        drop(write);
        // The kernel tells it once, and what was cut short by it was told how much had gone out.
        let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe].map(Some);
        assert!(kinds.contains(&error.io_kind()), "{error}");
        assert!(0 < done && done < too_much(), "{done}");
        assert_eq!(buf.len(), too_much());
        // Every later one too; no signal ends the process.
        for _ in 0..2 {
            let failed = one.write_all(vec![5; 10]).await.unwrap_err();
            assert_eq!(failed.error.io_kind(), Some(io::ErrorKind::BrokenPipe));
            assert_eq!((failed.done, failed.buf), (0, vec![5; 10]));
        }
        let shut = one.shutdown(Shutdown::Write).await.unwrap_err();
        assert_eq!(shut.io_kind(), Some(io::ErrorKind::NotConnected));
        assert_eq!(one.peer_addr().unwrap_err().kind(), io::ErrorKind::NotConnected);
        one.close().await
    });
}

// The docs of `set_nodelay`, `set_keepalive` and `set_linger`.
#[trine::test(kernel = "both")]
fn the_options_of_a_connection_are_as_they_were_set() {
    run(async || {
        let (client, server) = pair().await?;
        for stream in [client, server] {
            assert!(stream.nodelay()?, "on unless said otherwise");
            stream.set_nodelay(false)?;
            assert!(!stream.nodelay()?);
            stream.set_nodelay(true)?;
            assert!(stream.nodelay()?);
            let seconds = |n| Some(Duration::from_secs(n));
            assert_eq!(stream.keepalive()?, None);
            // In whole seconds, rounded up, never down to nothing.
            for (set, got) in [(7_000, 7), (1_001, 2), (1, 1), (0, 1)] {
                stream.set_keepalive(Some(Duration::from_millis(set)))?;
                assert_eq!(stream.keepalive()?, seconds(got), "{set} ms");
            }
            stream.set_keepalive(None)?;
            assert_eq!(stream.keepalive()?, None);
            assert_eq!(stream.linger()?, None);
            // Zero has a meaning of its own here.
            for (set, got) in [(3_000, 3), (2_001, 3), (1, 1), (0, 0)] {
                stream.set_linger(Some(Duration::from_millis(set)))?;
                assert_eq!(stream.linger()?, seconds(got), "{set} ms");
            }
            stream.set_linger(None)?;
            assert_eq!(stream.linger()?, None);
        }
        Ok(())
    });
}

// The doc of `set_linger`: zero makes closing reset the connection, also closing by dropping.
#[trine::test(kernel = "both")]
fn a_stream_that_does_not_linger_resets_its_connection() {
    run(async || {
        for drop_it in [false, true] {
            let (one, peer) = Peer::pair().await?;
            one.set_linger(Some(Duration::ZERO))?;
            if drop_it {
                nursery(async |_| {
                    drop(one);
                    Ok(())
                })
                .await?;
            } else {
                one.close().await?;
            }
            let error = peer.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionReset));
        }
        Ok(())
    });
}

// A2: a writer whose peer reads as fast does not keep its neighbours from running.
#[trine::test(kernel = "both")]
fn a_task_that_writes_without_waiting_lets_others_run() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        let one = &one;
        let ticks = async || {
            let ticks = nursery(async |n| {
                n.spawn_daemon(async move {
                    loop {
                        one.write_all(vec![1; 100]).await?;
                    }
                });
                let begun = Instant::now();
                for _ in 0..3 {
                    sleep(Duration::from_micros(fewer(200, 5))).await?;
                }
                Ok(begun.elapsed())
            });
            assert!(ticks.await? < Duration::from_secs(5));
            one.shutdown(Shutdown::Write).await
        };
        assert!(drained(&peer, ticks).await?.len() >= 100);
        Ok(())
    });
}

/// Begins to write more than the kernel takes, and drops the write when a part has gone out.
async fn break_off(stream: &TcpStream, all: bool) {
    let mut write: Pin<Box<dyn Future<Output = ()>>> = if all {
        Box::pin(async { assert!(stream.write_all(pattern(0, too_much())).await.is_err()) })
    } else {
        // Complete, but its end was never heard of.
        Box::pin(async { assert!(stream.write(pattern(0, 1000)).await.is_err()) })
    };
    assert!(poll!(&mut write).is_pending());
    turns(3).await;
}

// D7: nobody knows how much of a dropped write has gone out, so the write half is broken.
#[trine::test(kernel = "both")]
fn a_write_that_was_dropped_half_way_breaks_the_write_half_only() {
    run(async || {
        for all in [true, false] {
            let (one, peer) = Peer::pair().await?;
            break_off(&one, all).await;
            for _ in 0..2 {
                let failed = one.write_all(vec![1, 2, 3]).await.unwrap_err();
                assert!(matches!(failed.error, Error::Broken(_)), "{}", failed.error);
                assert_eq!((failed.done, failed.buf), (0, vec![1, 2, 3]));
                let failed = one.write("x").await.unwrap_err();
                assert_eq!(io::Error::from(failed.error).kind(), io::ErrorKind::BrokenPipe);
                // Not even nothing: the caller is to hear of it.
                let failed = one.write_all("").await.unwrap_err();
                assert!(failed.error.to_string().contains("close it"), "{}", failed.error);
            }
            peer.write_all(b"still here").await?;
            assert_eq!(one.recv().await?.unwrap(), *b"still here");
            // What has gone out is the beginning of what was to be written.
            one.shutdown(Shutdown::Write).await?;
            let bytes = peer.read_to_end().await?;
            assert!((1..too_much()).contains(&bytes.len()), "{}", bytes.len());
            assert_pattern(0, &bytes);
            // Shut is shut, but broken came first.
            let failed = one.write("x").await.unwrap_err();
            assert!(matches!(failed.error, Error::Broken(_)), "{}", failed.error);
        }
        Ok(())
    });
}

// D7: the write in the kernel is gone, but a former round of it has sent something.
#[trine::test(kernel = "both")]
fn a_write_all_that_was_dropped_between_two_sends_breaks_the_write_half() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        let scope = CancelScope::new();
        let mut write = Box::pin(one.write_all(pattern(0, too_much())));
        let left = scope.run(async |scope| {
            assert!(poll!(&mut write).is_pending());
            turns(2).await;
            scope.cancel();
            Ok(())
        });
        left.await?;
        turns(2).await;
        // D4: it has left the scope whose cancellation has cut it short, so it goes on, and is dropped
        // before the kernel has seen any of the second send.
        assert!(poll!(&mut write).is_pending());
        drop(write);
        let failed = one.write_all("x").await.unwrap_err();
        assert!(matches!(failed.error, Error::Broken(_)), "{}", failed.error);
        peer.read_exact::<100>().await?;
        Ok(())
    });
}

// D6, D7: of what the kernel has not seen nothing has gone out, so nothing is broken.
#[trine::test(kernel = "both", runs = 5)]
fn a_write_that_was_dropped_before_it_began_breaks_nothing() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        drop(one.write_all("never"));
        for write in 0..2 {
            let withdrawn = trine::stats().withdrawn;
            let mut dropped: Pin<Box<dyn Future<Output = bool>>> = match write {
                0 => Box::pin(async { one.write_all("never").await.is_ok() }),
                _ => Box::pin(async { one.write("never").await.is_ok() }),
            };
            assert!(poll!(&mut dropped).is_pending());
            drop(dropped);
            assert_eq!(trine::stats().withdrawn, withdrawn + 1);
        }
        one.write_all("once").await?;
        one.close().await?;
        assert_eq!(peer.read_to_end().await?, b"once");
        Ok(())
    });
}

// D7: the next write waits for the end of the dropped one, and a shutdown does too.
#[trine::test(kernel = "both", runs = 5)]
fn nothing_overtakes_a_dropped_write() {
    run(async || {
        for shut in [false, true] {
            let (one, peer) = Peer::pair().await?;
            let mut dropped = Box::pin(one.write_all(pattern(0, too_much())));
            assert!(poll!(&mut dropped).is_pending());
            turns(1).await;
            drop(dropped);
            let before = trine::stats();
            let mut next: Pin<Box<dyn Future<Output = Result>>> = if shut {
                Box::pin(one.shutdown(Shutdown::Write))
            } else {
                Box::pin(async {
                    let broken = one.write_all("overtaken").await.unwrap_err();
                    assert!(matches!(broken.error, Error::Broken(_)), "{}", broken.error);
                    Ok(())
                })
            };
            assert!(poll!(&mut next).is_pending(), "it did not wait");
            let now = trine::stats();
            assert_eq!((now.in_kernel, now.queued), (before.in_kernel, before.queued));
            let goes_on = async || {
                next.await?;
                one.shutdown(Shutdown::Write).await
            };
            let bytes = drained(&peer, goes_on).await?;
            assert!(!bytes.is_empty() && bytes.len() < too_much(), "{}", bytes.len());
            assert_pattern(0, &bytes);
        }
        Ok(())
    });
}

// E11, D5: the scope waits for the kernel, which has the buffer until then.
#[trine::test(kernel = "both")]
fn a_scope_is_left_only_when_the_kernel_has_let_go_of_a_dropped_write() {
    run(async || {
        let (one, _peer) = Peer::pair().await?;
        let buffer: Rc<[u8]> = vec![7; too_much()].into();
        let before = trine::stats().in_kernel;
        nursery(async |_| {
            let mut dropped = Box::pin(one.write_all(Rc::clone(&buffer)));
            assert!(poll!(&mut dropped).is_pending());
            turns(1).await;
            drop(dropped);
            assert_eq!(Rc::strong_count(&buffer), 2, "the kernel reads from it");
            Ok(())
        })
        .await?;
        assert_eq!(trine::stats().in_kernel, before);
        // The stream keeps the result, and with it the buffer, until somebody wants to write.
        assert!(one.write("x").await.is_err());
        assert_eq!(Rc::strong_count(&buffer), 1);
        Ok(())
    });
}

// "Shutting a half twice is shutting it once", also when the connection has ended meanwhile.
#[trine::test(kernel = "both")]
fn halves_can_be_shut_in_any_order_and_again_and_again() {
    use Shutdown::{Both, Read, Write};
    run(async || {
        for order in [[Read, Write, Both], [Both, Read, Write], [Write, Both, Read]] {
            let (one, peer) = Peer::pair().await?;
            for how in order {
                one.shutdown(how).await?;
                one.shutdown(how).await?;
            }
            // Nobody has received, so that it is not the end of the stream which is remembered.
            assert_eq!(peer.read(&mut [0]).await?, 0);
            drop(peer);
            turns(2).await;
            for how in order {
                let before = trine::stats().submitted;
                one.shutdown(how).await?;
                assert_eq!(trine::stats().submitted, before);
                // It is a checkpoint all the same (A2).
                let scope = CancelScope::new();
                scope.cancel();
                assert!(scope.run(async |_| one.shutdown(how).await).await?.is_none());
            }
        }
        Ok(())
    });
}

// What the peer has ended needs no shutting any more.
#[trine::test(kernel = "both")]
fn a_stream_that_has_ended_both_ways_can_still_be_shut() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        one.shutdown(Shutdown::Write).await?;
        drop(peer);
        assert!(one.recv().await?.is_none());
        for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
            one.shutdown(how).await?;
        }
        Ok(())
    });
}

// D4: a partial one goes on where it was cut short, if the scope that did that has been left.
#[trine::test(kernel = "both", runs = 5)]
fn a_write_all_that_has_left_the_cancelled_scope_goes_on_where_it_stopped() {
    run(async || {
        let (one, peer) = Peer::pair().await?;
        let mut write = Box::pin(one.write_all(pattern(0, too_much())));
        for _ in 0..3 {
            let scope = CancelScope::new();
            let left = scope.run(async |scope| {
                assert!(poll!(&mut write).is_pending());
                turns(2).await;
                scope.cancel();
                Ok(())
            });
            left.await?;
        }
        let goes_on = async || {
            assert_eq!(write.await?.len(), too_much());
            one.shutdown(Shutdown::Write).await
        };
        let bytes = drained(&peer, goes_on).await?;
        assert_eq!(bytes.len(), too_much());
        assert_pattern(0, &bytes);
        Ok(())
    });
}
