//! The races that broke other runtimes, each by its name. On the twin every one is run with many
//! seeds: whatever a kernel may answer to a cancel, and in whatever order, it answers in one of them.

mod common;
#[path = "races/review.rs"]
mod review;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, poll};
use trine::net::{TcpListener, TcpStream};
use trine::pipe::pipe;
use trine::testing::{Faults, Tape, World};
use trine::time::{Instant, sleep_forever};
use trine::{Builder, CancelScope, Result, checkpoint, move_on_after, nop, nursery, run, stats};

use common::{fewer, in_kernel, pair, turns};

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(1);

// D7: accept, open, socket, pipe that complete after their cancel: five peers leaked the descriptor.
#[trine::test(kernel = "both", runs = 200)]
async fn an_accept_that_completes_after_its_cancel_leaks_no_connection() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    for round in (0..8_u8).step_by(fewer(1, 3)) {
        let scope = CancelScope::new();
        let accepted = RefCell::new(None);
        let client = nursery(async |n| {
            n.spawn(async {
                let connection = scope.run(async |_| listener.accept().await).await?;
                *accepted.borrow_mut() = connection;
                Ok(())
            });
            turns(usize::from(round % 4)).await;
            let client = TcpStream::connect_addr(address).await?;
            turns(usize::from(round / 4)).await;
            scope.cancel();
            Ok(client)
        })
        .await?;
        // Taken, or still there for the next one: never lost in between.
        let (server, peer) = match accepted.take() {
            Some(connection) => connection,
            None => listener.accept().await?,
        };
        assert_eq!(peer, client.local_addr()?);
        client.write_all(vec![round]).await?;
        assert_eq!(server.recv().await?.expect("a byte"), [round]);
    }
    Ok(())
}

// D7: a pool receive that completes after its cancel gives its buffer back: more often than there are
// buffers.
#[trine::test(kernel = "both", runs = 20)]
fn a_pool_receive_that_completes_after_its_cancel_gives_its_buffer_back() {
    let builder = Builder::new().pool_least(4).pool_most(4);
    let outcome = builder.run(async || {
        let (client, server) = pair().await?;
        for round in 0..fewer(12_u8, 5) {
            let scope = CancelScope::new();
            let got = RefCell::new(None);
            nursery(async |n| {
                n.spawn(async {
                    let chunk = scope.run(async |_| server.recv().await).await?;
                    *got.borrow_mut() = chunk.flatten();
                    Ok(())
                });
                turns(1).await;
                client.write_all(vec![round]).await?;
                scope.cancel();
                Ok(())
            })
            .await?;
            let chunk = match got.take() {
                Some(chunk) => chunk,
                None => server.recv().await?.expect("the byte that was sent"),
            };
            assert_eq!(chunk, [round]);
        }
        let pool = stats();
        assert_eq!((pool.pool_leased, pool.pool_free + pool.pool_spare), (0, 4));
        Ok(())
    });
    outcome.unwrap();
}

// D1, D7: a receive that is cancelled when data has come already: the bytes come with the result or
// stay in the socket; what was received and what is left is what was sent.
#[trine::test(kernel = "both", runs = 200)]
async fn a_receive_cancelled_with_data_queued_loses_no_byte() -> Result {
    let (client, server) = pair().await?;
    let received = RefCell::new(Vec::new());
    let sent: Vec<u8> = (0..fewer(30, 9)).collect();
    let mut unsent = sent.clone();
    for round in 0..fewer(10_u8, 3) {
        let scope = CancelScope::new();
        nursery(async |n| {
            n.spawn(async {
                let read = async |_: &CancelScope| {
                    let came = match round % 3 {
                        0 => server.recv().await?.expect("not the end").to_vec(),
                        1 => server.read(vec![0; 2]).await?,
                        _ => match server.read_exact(vec![0; 5]).await {
                            Ok(bytes) => bytes,
                            Err(failed) => {
                                received.borrow_mut().extend(&failed.buf[..failed.done]);
                                return Err(failed.error);
                            }
                        },
                    };
                    received.borrow_mut().extend(came);
                    Ok(())
                };
                scope.run(read).await.map(drop)
            });
            turns(usize::from(round % 2)).await;
            // What goes at once: a small window takes less than is offered.
            let offered: Vec<u8> = unsent.iter().take(3).copied().collect();
            if let Some((sent, _)) =
                move_on_after(MOMENT, async |_| Ok(client.write(offered).await?)).await?
            {
                unsent.drain(..sent);
            }
            scope.cancel();
            Ok(())
        })
        .await?;
    }
    nursery(async |n| {
        n.spawn(async {
            client.write_all(unsent).await?;
            client.shutdown(Shutdown::Write).await
        });
        while let Some(chunk) = server.recv().await? {
            received.borrow_mut().extend_from_slice(&chunk);
        }
        Ok(())
    })
    .await?;
    assert_eq!(received.take(), sent);
    Ok(())
}

// B5: more operations are cancelled at once than the submission queue has entries: every cancel
// arrives. A peer hung on 3,000 timeouts.
#[trine::test(kernel = "both", runs = 5)]
fn every_cancel_arrives_when_the_submission_queue_is_full() {
    let (count, room) = fewer((200, 4), (3, 2));
    let outcome = Builder::new().submissions(room).run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut streams = Vec::new();
        for _ in 0..count {
            let client = TcpStream::connect_addr(listener.local_addr()?).await?;
            streams.push((client, listener.accept().await?.0));
        }
        listener.close().await?;
        let unwound = Cell::new(0);
        nursery(async |n| {
            for (_, server) in &streams {
                n.spawn(async {
                    let received = server.recv().await;
                    unwound.set(unwound.get() + 1);
                    received.map(drop)
                });
            }
            in_kernel(count).await?;
            n.cancel();
            Ok(())
        })
        .await?;
        assert_eq!((unwound.get(), stats().in_kernel), (count, 0));
        Ok(())
    });
    outcome.unwrap();
}

// D1, D4: an operation whose completion is in the queue, but was not polled yet, is cancelled: the
// result wins.
#[trine::test(kernel = "both", runs = 100)]
async fn a_result_that_is_there_wins_over_a_cancel() -> Result {
    let (client, server) = pair().await?;
    let scope = CancelScope::new();
    nursery(async |n| {
        n.spawn(async {
            let received = scope.run(async |_| server.recv().await).await?;
            match received {
                Some(chunk) => assert_eq!(chunk.expect("a byte"), *b"x"),
                None => assert_eq!(server.recv().await?.expect("a byte"), *b"x"),
            }
            Ok(())
        });
        in_kernel(1).await?;
        client.write_all("x").await?;
        // The receive has completed in the same turn as the send, or will soon.
        scope.cancel();
        Ok(())
    })
    .await
}

// D6: an operation that was never submitted is withdrawn: no system call, no trace in the kernel.
#[trine::test(kernel = "both", runs = 50)]
async fn an_operation_that_was_never_submitted_is_withdrawn() -> Result {
    let (_client, server) = pair().await?;
    nop().await?;
    let before = stats();
    let scope = CancelScope::new();
    let outcome = scope
        .run(async |scope| {
            let mut receive = pin!(server.recv());
            assert!(poll!(receive.as_mut()).is_pending());
            scope.cancel();
            receive.await.map(drop)
        })
        .await?;
    assert!(outcome.is_none());
    let after = stats();
    assert_eq!(after.submitted, before.submitted);
    assert_eq!((after.withdrawn, after.cancels_sent), (before.withdrawn + 1, before.cancels_sent));
    Ok(())
}

// A slot is used again while the answer to a cancel of its former life is still to come: the
// generation tells them apart.
#[trine::test(kernel = "both", runs = 200)]
async fn a_late_answer_to_a_cancel_does_not_touch_the_slots_next_life() -> Result {
    let (client, server) = pair().await?;
    for round in 0..fewer(20_u8, 3) {
        let scope = CancelScope::new();
        let early = scope
            .run(async |scope| {
                let mut receive = pin!(server.read(vec![0; 1]));
                assert!(poll!(receive.as_mut()).is_pending());
                client.write_all(vec![round]).await?;
                scope.cancel();
                Ok(receive.await?)
            })
            .await?;
        // Whatever slot this one gets, the former cancel is none of its business.
        let byte = match early {
            Some(byte) => byte,
            None => server.read(vec![0; 1]).await?,
        };
        assert_eq!(byte, [round]);
        nop().await?;
    }
    Ok(())
}

// D7: a multishot with results that nobody has read is cancelled: nothing is lost.
#[trine::test(kernel = "both", runs = 200)]
async fn a_multishot_with_unread_results_loses_nothing_when_it_is_cancelled() -> Result {
    let (client, server) = pair().await?;
    let sent: Vec<u8> = (0..fewer(40, 12)).collect();
    nursery(async |n| {
        n.spawn(async {
            for piece in sent.chunks(4) {
                client.write_all(piece.to_vec()).await?;
                turns(1).await;
            }
            client.shutdown(Shutdown::Write).await
        });
        let scope = CancelScope::new();
        scope
            .run(async |scope| {
                {
                    let mut receive = pin!(server.recv());
                    assert!(poll!(receive.as_mut()).is_pending());
                    turns(fewer(12, 5)).await;
                }
                scope.cancel();
                checkpoint().await
            })
            .await?;
        let mut received = Vec::new();
        while let Some(chunk) = server.recv().await? {
            received.extend_from_slice(&chunk);
        }
        assert_eq!(received, sent);
        Ok(())
    })
    .await
}

// P1: the run ends with operations in flight that nobody waits for: no hang, nothing freed early.
#[trine::test(kernel = "both", runs = 100)]
fn a_run_ends_with_operations_in_flight() {
    let left: Vec<Pin<Box<dyn Future<Output = Result>>>> = run(async || {
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").await?);
        let (client, server) = pair().await?;
        let (client, server) = (Rc::new(client), Rc::new(server));
        let write = Rc::clone(&client);
        let mut left: Vec<Pin<Box<dyn Future<Output = Result>>>> = vec![
            Box::pin(async move { listener.accept().await.map(drop) }),
            Box::pin(async move { client.recv().await.map(drop) }),
            Box::pin(async move {
                server.read_exact(vec![0; fewer(9 << 20, 9 << 10)]).await?;
                Ok(())
            }),
            Box::pin(async move {
                write.write_all(vec![7; fewer(8 << 20, 8 << 10)]).await?;
                Ok(())
            }),
            Box::pin(async move { nop().await }),
        ];
        for future in &mut left {
            assert!(poll!(future.as_mut()).is_pending());
        }
        Ok(left)
    })
    .unwrap();
    drop(left);
}

/// Panics when it is woken.
struct Alarm(AtomicU32);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a waker panics");
    }
}

// P2: a waker that panics in the middle of a sweep: all the others are woken, every cancel is sent, and
// the panic goes on afterwards.
#[trine::test(kernel = "both", runs = 50)]
fn a_waker_that_panics_in_a_sweep_costs_nobody_his_cancel() {
    let ended = Rc::new(Cell::new(0));
    let alarm = Arc::new(Alarm(AtomicU32::new(0)));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        run(async || {
            let (_client, server) = pair().await?;
            let scope = CancelScope::new();
            scope
                .run(async |scope| {
                    nursery(async |n| {
                        n.spawn(async {
                            let received = server.recv().await;
                            ended.set(ended.get() + 1);
                            received.map(drop)
                        });
                        n.spawn(async {
                            let slept = sleep_forever().await;
                            ended.set(ended.get() + 1);
                            slept
                        });
                        n.spawn(async {
                            let waker = Waker::from(Arc::clone(&alarm));
                            let mut asleep = pin!(sleep_forever());
                            assert!(
                                asleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
                            );
                            turns(2).await;
                            scope.cancel();
                            checkpoint().await
                        });
                        Ok(())
                    })
                    .await
                })
                .await
                .map(drop)
        })
    }));
    assert!(outcome.is_err(), "the panic was lost");
    assert_eq!((ended.get(), alarm.0.load(Ordering::Relaxed)), (2, 1));
}

/// Runs a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

// N20, P2: a panic in a Drop during a sweep of cancelled children: all is joined, then it goes on.
#[trine::test(kernel = "both", runs = 50)]
fn a_panic_in_a_drop_during_a_sweep_leaves_nothing_behind() {
    let joined = Rc::new(Cell::new(false));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        run(async || {
            let (_client, server) = pair().await?;
            nursery(async |n| {
                n.spawn(async {
                    let _panics = OnDrop(|| panic!("a drop panics"));
                    std::future::pending::<Result>().await
                });
                n.spawn(async {
                    let received = server.recv().await;
                    joined.set(true);
                    received.map(drop)
                });
                in_kernel(1).await?;
                n.cancel();
                Ok(())
            })
            .await
        })
    }));
    assert!(outcome.is_err());
    assert!(joined.get());
}

// N10: spawning from a Drop during a sweep: the child runs to its first cancel point.
#[trine::test(kernel = "both", runs = 50)]
async fn a_child_spawned_from_a_drop_during_a_sweep_is_joined() -> Result {
    let ran = &Cell::new(0);
    nursery(async |n| {
        n.spawn(async move {
            let _spawns = OnDrop(move || {
                n.spawn(async move {
                    ran.set(ran.get() + 1);
                    checkpoint().await?;
                    ran.set(ran.get() + 100);
                    Ok(())
                });
            });
            std::future::pending::<Result>().await
        });
        checkpoint().await?;
        n.cancel();
        Ok(())
    })
    .await?;
    assert_eq!(ran.get(), 1);
    Ok(())
}

// More completions than the completion queue has entries, in the middle of a mass cancel.
#[trine::test(kernel = "both", runs = 10)]
fn a_full_completion_queue_during_a_mass_cancel_loses_nothing() {
    let (count, room) = fewer((100, 8), (3, 2));
    let builder = Builder::new().submissions(room).completions(room);
    let outcome = builder.run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut streams = Vec::new();
        for _ in 0..count {
            let client = TcpStream::connect_addr(listener.local_addr()?).await?;
            streams.push((client, listener.accept().await?.0));
        }
        let received = &Cell::new(0);
        nursery(async |n| {
            for (_, server) in &streams {
                n.spawn(async {
                    received
                        .set(received.get() + server.recv().await?.map_or(0, |chunk| chunk.len()));
                    Ok(())
                });
            }
            in_kernel(count).await?;
            for (client, _) in &streams {
                n.spawn(async {
                    client.write_all("x").await?;
                    Ok(())
                });
            }
            turns(1).await;
            n.cancel();
            Ok(())
        })
        .await?;
        // What was sent is received, or still there.
        for (client, server) in &streams {
            client.shutdown(Shutdown::Write).await?;
            while let Some(chunk) = server.recv().await? {
                received.set(received.get() + chunk.len());
            }
        }
        assert!(received.get() <= count);
        Ok(())
    });
    outcome.unwrap();
}

// A descriptor's number is used again right after it was closed, while an operation of its former
// owner is still in flight: that one keeps the file, and the number is not free before it has ended.
#[trine::test(kernel = "both", runs = 200)]
async fn a_descriptor_number_is_not_used_again_while_an_operation_is_in_flight() -> Result {
    // In some worlds each byte takes a receive.
    const SENT: &str = fewer("for the new one", "new");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    for round in 0..fewer(6_u8, 2) {
        let first = TcpStream::connect_addr(address).await?;
        let (old, _) = listener.accept().await?;
        {
            let mut receive = Box::pin(old.recv());
            assert!(poll!(receive.as_mut()).is_pending());
            turns(usize::from(round % 3)).await;
        }
        drop(old);
        let second = TcpStream::connect_addr(address).await?;
        let (new, _) = listener.accept().await?;
        nursery(async |n| {
            n.spawn(async {
                second.write_all(SENT).await?;
                second.shutdown(Shutdown::Write).await
            });
            let mut got = Vec::new();
            while let Some(chunk) = new.recv().await? {
                got.extend_from_slice(&chunk);
            }
            assert_eq!(got, SENT.as_bytes());
            Ok(())
        })
        .await?;
        first.close().await?;
    }
    Ok(())
}

// B2, F13: `select!` and `FuturesUnordered` of another crate around our operations, in nested scopes:
// cancellation reaches every one.
#[trine::test(kernel = "both", runs = 100)]
async fn cancellation_reaches_operations_behind_other_crates_combinators() -> Result {
    let (client, server) = pair().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let outer = CancelScope::new();
    let reached = Cell::new(0);
    nursery(async |n| {
        n.spawn(async {
            outer
                .run(async |_| {
                    let inner = async |_: &CancelScope| {
                        let mut many: FuturesUnordered<Pin<Box<dyn Future<Output = Result>>>> =
                            FuturesUnordered::new();
                        many.push(Box::pin(async { server.recv().await.map(drop) }));
                        many.push(Box::pin(async { listener.accept().await.map(drop) }));
                        many.push(Box::pin(async {
                            futures::select! {
                                received = client.recv().fuse() => received.map(drop),
                                slept = sleep_forever().boxed_local().fuse() => slept,
                            }
                        }));
                        while let Some(ended) = many.next().await {
                            assert!(ended.is_err_and(|error| error.is_cancelled()));
                            reached.set(reached.get() + 1);
                        }
                        checkpoint().await
                    };
                    move_on_after(LONG, inner).await.map(drop)
                })
                .await
                .map(drop)
        });
        in_kernel(3).await?;
        outer.cancel();
        Ok(())
    })
    .await?;
    assert_eq!((reached.get(), stats().in_kernel), (3, 0));
    Ok(())
}

/// Its first three cancels are not heard.
fn deaf_world() -> World {
    let mut faults = Faults::none();
    faults.cancel_odd = 255;
    World::from_tape(Tape::parse("cancel:010601060106").expect("a tape"), faults)
}

// D5: a kernel worker that was told to stop may go on waiting as if nothing had been said (Linux 6.1 does,
// with a FIFO that is being opened). It is told again, and the scope waits no longer than that takes.
#[test]
fn a_worker_that_does_not_hear_is_told_again() {
    deaf_world()
        .run(async || {
            let (reader, _writer) = pipe()?;
            let began = Instant::now();
            let before = stats();
            let came = move_on_after(MOMENT, async |_| reader.recv().await).await?;
            assert!(came.is_none());
            assert_eq!(stats().cancels_running - before.cancels_running, 3);
            assert_eq!(began.elapsed(), MOMENT + 3 * Duration::from_millis(10));
            Ok(())
        })
        .expect("nothing hangs");
}

#[test]
fn a_worker_that_does_not_hear_is_told_again_also_at_the_end_of_the_run() {
    deaf_world()
        .run(async || {
            let (reader, _writer) = pipe()?;
            let mut recv = Box::pin(reader.recv());
            assert!(poll!(&mut recv).is_pending());
            turns(2).await;
            drop(recv);
            Ok(())
        })
        .expect("nothing hangs");
}
