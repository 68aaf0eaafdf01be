//! What is carried from one run into the next on the same thread (rule P6).

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use futures::{FutureExt, poll};
use trine::net::{TcpListener, TcpStream};
use trine::pipe::{PipeWriter, pipe};
use trine::time::{Instant, sleep, sleep_forever, sleep_until};
use trine::{
    Builder, CancelScope, Chunk, Error, Result, checkpoint, checkpoint_if_cancelled, fail_after,
    move_on_after, nop, nursery, shield, stats, tree, yield_shielded,
};

use super::{HERE, LONG, MOMENT, Peer, alone, common, descriptors, in_kernel, run, run_with};

type Boxed<T = ()> = Pin<Box<dyn Future<Output = Result<T>>>>;

/// Polls each once in a run of its own, and carries it out.
#[track_caller]
fn half_polled(
    futures: impl AsyncFnOnce() -> Result<Vec<(&'static str, Boxed)>>,
) -> Vec<(&'static str, Boxed)> {
    run(async || {
        let mut futures = futures().await?;
        for (name, future) in &mut futures {
            assert!(poll!(future.as_mut()).is_pending(), "{name}");
        }
        Ok(futures)
    })
}

fn boxed<T: Debug>(future: impl Future<Output = Result<T>> + 'static) -> Boxed {
    Box::pin(async move { future.await.map(drop) })
}

// P6: what was begun in a run that has ended says so; it neither hangs nor passes for a cancellation
// of the new run's.
#[trine::test(kernel = "both", leaks = true)]
fn whatever_was_half_polled_in_a_run_that_has_ended_answers_run_finished() {
    let all = || {
        half_polled(async || {
            let listener: &TcpListener = Box::leak(Box::new(TcpListener::bind(HERE).await?));
            let (stream, peer) = Peer::pair().await?;
            let stream: &TcpStream = Box::leak(Box::new(stream));
            let (other, other_peer) = Peer::pair().await?;
            let other: &TcpStream = Box::leak(Box::new(other));
            // Of one a close is under way, of the other one it waits for a receive.
            let (idle, idle_peer) = Peer::pair().await?;
            let (receiving, receiving_peer) = Peer::pair().await?;
            {
                let mut receive = pin!(receiving.recv());
                assert!(poll!(receive.as_mut()).is_pending());
                in_kernel(1).await?;
            }
            // These wait for what a dropped write has left.
            let [(finished_reader, finished), (given_reader, given)] = [pipe()?, pipe()?];
            let finished: &PipeWriter = Box::leak(Box::new(finished));
            for writer in [finished, &given] {
                // As much as it holds: on Linux 6.1 more than that would wait for somebody to read it.
                writer.write_all(vec![0; common::fewer(64 << 10, 4 << 10)]).await?;
            }
            {
                let mut writes = [finished, &given].map(|writer| Box::pin(writer.write_all("x")));
                for write in &mut writes {
                    assert!(poll!(write).is_pending());
                }
                in_kernel(3).await?;
            }
            let readers = (finished_reader, given_reader);
            std::mem::forget((peer, other_peer, idle_peer, receiving_peer, readers));
            let scope: &CancelScope = Box::leak(Box::new(CancelScope::new()));
            Ok(vec![
                ("nop", boxed(nop())),
                ("accept", boxed(listener.accept())),
                ("recv", boxed(stream.recv())),
                ("read", boxed(async { Ok(other.read(vec![0; 9]).await?) })),
                ("write_all", boxed(async { Ok(stream.write_all(vec![0; 64 << 20]).await?) })),
                ("close", boxed(idle.close())),
                ("a close that waits", boxed(receiving.close())),
                ("a finish that waits", boxed(finished.finish())),
                ("into_fd that waits", boxed(async { Ok(given.into_fd().await?) })),
                ("connect", boxed(async { TcpStream::connect_addr(listener.local_addr()?).await })),
                ("sleep", boxed(sleep(LONG))),
                ("sleep_until", boxed(sleep_until(Instant::now() + LONG))),
                ("sleep_forever", boxed(sleep_forever())),
                ("a sleep of nothing", boxed(sleep(Duration::ZERO))),
                ("checkpoint", boxed(checkpoint())),
                ("a scope", boxed(scope.run(async |_| sleep_forever().await))),
                ("move_on_after", boxed(move_on_after(LONG, async |_| sleep_forever().await))),
                ("fail_after", boxed(fail_after(LONG, async |_| pending().await))),
                (
                    "a nursery",
                    boxed(nursery(async |n| {
                        n.spawn(sleep_forever());
                        n.fork(sleep_forever()).await
                    })),
                ),
                (
                    "start",
                    boxed(nursery(async |n| {
                        n.start(async |_started: trine::Started<()>| sleep_forever().await).await
                    })),
                ),
            ])
        })
    };
    let carried = all();
    run(async || {
        for (name, mut future) in carried {
            let answered = move_on_after(LONG, async |_| Ok(future.as_mut().await)).await?;
            let answered = answered.unwrap_or_else(|| panic!("{name} is still pending"));
            assert!(matches!(answered, Err(Error::RunFinished)), "{name}: {answered:?}");
        }
        assert_eq!(
            (stats().scopes, stats().timers, stats().queued, stats().in_kernel),
            (1, 0, 0, 0)
        );
        Ok(())
    });
    // Outside of a run as well, where some only say that there is none.
    for (name, future) in all() {
        let answered = future.now_or_never().unwrap_or_else(|| panic!("{name} is pending"));
        assert!(matches!(answered, Err(Error::RunFinished | Error::NoRun)), "{name}: {answered:?}");
    }
    // Unpolled, they are dropped in the next run, and outside of any.
    drop(all());
    let carried = all();
    run(async || {
        drop(carried);
        checkpoint().await?;
        assert_eq!((stats().queued, stats().in_kernel), (0, 0));
        Ok(())
    });
}

async fn pending() -> Result {
    std::future::pending().await
}

// P6: what has no error to answer with must end all the same.
#[trine::test(kernel = "both")]
fn a_schedule_point_of_a_run_that_has_ended_does_not_hang_in_the_next() {
    let mut carried = run(async || {
        let mut pause = Box::pin(yield_shielded());
        assert!(poll!(pause.as_mut()).is_pending());
        Ok(pause)
    });
    run(async || {
        carried.as_mut().await;
        // It can be used again, as one of this run.
        let turn = stats().turns;
        carried.as_mut().await;
        assert_eq!(stats().turns, turn + 1);
        Ok(())
    });
}

// P6: a shield has no error to answer with, and says whose it is.
#[trine::test(kernel = "both")]
fn a_shield_of_a_run_that_has_ended_panics_and_says_why() {
    let mut carried = run(async || {
        let mut shielded = Box::pin(shield(sleep_forever()));
        assert!(poll!(shielded.as_mut()).is_pending());
        Ok(shielded)
    });
    run(async || {
        let thrown = std::panic::AssertUnwindSafe(carried.as_mut()).catch_unwind().await;
        let thrown = thrown.map(drop).unwrap_err();
        let text = thrown.downcast_ref::<String>().expect("a message");
        assert!(text.contains("shield: this belongs to a run that has ended"), "{text}");
        nop().await
    });
}

// P6: tokens carry the run's identity: what dies in the next run touches nothing of it.
#[trine::test(kernel = "both")]
fn dropping_what_was_left_over_wakes_nobody_in_the_next_run() {
    let leftovers = || {
        let mut all = Vec::new();
        // The first wait of each run gets the same place: one run for each.
        let mut carry = |name, future: Boxed| {
            all.extend(half_polled(async || Ok(vec![(name, future)])));
        };
        carry("a fork", boxed(nursery(async |n| n.fork(sleep_forever()).await)));
        carry(
            "a start",
            boxed(nursery(async |n| {
                n.start(async |_started: trine::Started<()>| sleep_forever().await).await
            })),
        );
        carry("a scope", boxed(move_on_after(LONG, async |_| sleep(LONG).await)));
        carry("a sleep", boxed(sleep(LONG)));
        carry("a checkpoint", boxed(checkpoint()));
        carry("a nop", boxed(nop()));
        all
    };
    let carried = leftovers();
    run(async || {
        let begun = Instant::now();
        let mut asleep: Vec<_> = (0..50).map(|_| Box::pin(sleep(10 * MOMENT))).collect();
        for sleep in &mut asleep {
            assert!(poll!(sleep.as_mut()).is_pending());
        }
        let before = (tree(), stats().timers);
        drop(carried);
        assert_eq!(tree().lines().count(), before.0.lines().count());
        assert_eq!(stats().timers, before.1);
        for mut sleep in asleep {
            // H3: a sleep never ends early.
            sleep.as_mut().await?;
            assert!(begun.elapsed() >= 10 * MOMENT);
        }
        Ok(())
    });
}

// P6: a scope's handle is harmless after its run.
#[trine::test(kernel = "both")]
fn a_scope_that_ended_with_its_run_can_be_asked_and_cancelled_in_the_next() {
    let entered = Rc::new(CancelScope::new());
    let scope = Rc::clone(&entered);
    run(async || {
        entered.run(async |_| nop().await).await?;
        let unused = CancelScope::new();
        unused.cancel_because("before");
        Ok(())
    });
    let fresh = CancelScope::new().timeout(LONG);
    run(async || {
        let before = tree();
        scope.cancel();
        scope.set_shield(true);
        scope.set_deadline(None);
        assert_eq!(tree(), before);
        checkpoint_if_cancelled().await?;
        // One that was made outside and not entered belongs to no run yet.
        assert_eq!(fresh.run(async |_| Ok(1)).await?, Some(1));
        Ok(())
    });
}

// P6: a scope that is still open when its run ends is the same.
#[trine::test(kernel = "both")]
fn a_scope_carried_half_way_is_dropped_without_touching_the_next_run() {
    let scope: &'static CancelScope = Box::leak(Box::new(CancelScope::new().timeout(LONG)));
    let mut carried = run(async || {
        let mut entered = Box::pin(scope.run(async |_| sleep_forever().await));
        assert!(poll!(entered.as_mut()).is_pending());
        Ok(entered)
    });
    run(async || {
        let left = move_on_after(LONG, async |own| {
            scope.cancel();
            scope.set_deadline(Some(Instant::now()));
            checkpoint().await?;
            assert!(own.cancel_called().is_none());
            assert!(matches!(carried.as_mut().await, Err(Error::RunFinished)));
            drop(carried);
            checkpoint().await
        });
        assert!(left.await?.is_some());
        Ok(())
    });
}

/// Receives one chunk, in a run that ends with it.
fn chunk(builder: Builder, content: &'static [u8]) -> Chunk {
    run_with(builder, async || {
        let (stream, peer) = Peer::pair().await?;
        peer.write_all(content).await?;
        Ok(stream.recv().await?.expect("bytes"))
    })
}

// P6: a chunk keeps the pool's memory alive.
#[trine::test(kernel = "both")]
fn a_chunk_stays_readable_after_its_run_and_in_the_next_one() {
    let small = || Builder::new().pool_least(1).pool_most(1).pool_buffer(4096);
    let mut chunks: Vec<_> = (0..3).map(|_| chunk(small(), b"kept")).collect();
    run_with(small(), async || {
        for chunk in &mut chunks {
            assert_eq!(chunk[..], *b"kept");
            chunk[0] = b'w';
        }
        assert_eq!(stats().pool_leased, 0, "they are of other pools");
        // It can be sent here as it is, and goes back to where it came from.
        let (stream, peer) = Peer::pair().await?;
        stream.write_all(chunks.pop().expect("one")).await?;
        assert_eq!(peer.read_exact().await?, *b"wept");
        let free = stats().pool_free;
        drop(chunks.pop());
        assert_eq!((stats().pool_free, stats().pool_leased), (free, 0));
        Ok(())
    });
    assert_eq!(chunks[0][..], *b"wept");
}

thread_local! {
    static KEPT: RefCell<Option<Chunk>> = const { RefCell::new(None) };
    static READ: Cell<bool> = const { Cell::new(false) };
}

// P6: and needs no thread-local to drop.
#[test]
fn a_chunk_is_dropped_with_its_thread() {
    std::thread::spawn(|| {
        // Touched before the run's own, so it is gone after that.
        KEPT.with(|_| ());
        KEPT.set(Some(chunk(Builder::new(), b"kept")));
    })
    .join()
    .expect("no panic");
}

// P6: dropping closes, in the next run, outside of any, and while the thread is torn down.
#[test]
fn what_is_left_of_a_run_is_closed_on_the_spot_wherever_it_is_dropped() {
    alone("leftovers::what_is_left_of_a_run_is_closed_on_the_spot_wherever_it_is_dropped", || {
        thread_local! {
            static LATE: RefCell<Option<(TcpListener, TcpStream)>> = const { RefCell::new(None) };
        }
        let before = descriptors();
        let make = || {
            let made: Result<_> = common::within(20, || {
                trine::run(async || {
                    let listener = TcpListener::bind(HERE).await?;
                    let (stream, _peer) = Peer::pair().await?;
                    {
                        let mut receive = pin!(stream.recv());
                        let mut accept = pin!(listener.accept());
                        assert!(poll!(accept.as_mut()).is_pending());
                        assert!(poll!(receive.as_mut()).is_pending());
                        in_kernel(2).await?;
                    }
                    Ok((listener, stream))
                })
            });
            made.unwrap()
        };
        drop(make());
        assert_eq!(descriptors(), before);
        let made = make();
        assert_eq!(descriptors(), before + 3, "two sockets, and the bell of their run");
        trine::run(async || {
            let inside = descriptors();
            drop(made);
            assert_eq!(descriptors(), inside - 3, "at once, for no ring is left to do it");
            Ok(())
        })
        .unwrap();
        std::thread::spawn(move || {
            LATE.with(|_| ());
            LATE.set(Some(make()));
        })
        .join()
        .expect("no panic");
        assert_eq!(descriptors(), before);
    });
}
