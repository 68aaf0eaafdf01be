//! The races that a review of the rules found before there was any code.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures::poll;
use trine::net::{TcpListener, TcpStream};
use trine::time::{Instant, sleep, sleep_forever};
use trine::{
    CancelScope, Error, Nursery, Reason, Result, checkpoint, is_cancelled, move_on_after,
    move_on_at, nursery, run, shield, stats,
};

use crate::common::{PATIENCE, fewer, in_kernel, pair, spin_until};
use crate::{LONG, MOMENT, turns};

// D7: a receive that has completed is dropped by `select!`: its bytes come with the next one.
#[trine::test(kernel = "both", runs = 200)]
async fn a_completed_receive_dropped_by_select_gives_its_bytes_to_the_next() -> Result {
    let (client, server) = pair().await?;
    for round in 0..fewer(10_u8, 3) {
        {
            let mut receive = pin!(server.recv());
            assert!(poll!(receive.as_mut()).is_pending());
            client.write_all(vec![round]).await?;
            turns(usize::from(round % 3)).await;
        }
        assert_eq!(server.recv().await?.expect("a byte"), [round]);
    }
    Ok(())
}

// E5, E11: a scope's value is an operation that still waits: it is returned, and goes on outside.
#[trine::test(kernel = "both", runs = 100)]
async fn a_pending_operation_is_a_scopes_value() -> Result {
    let (client, server) = pair().await?;
    let server = &server;
    let receive = move_on_after(LONG, async |_| {
        let mut receive = Box::pin(async move { server.recv().await });
        assert!(poll!(receive.as_mut()).is_pending());
        turns(1).await;
        Ok(receive)
    })
    .await?
    .expect("not cancelled");
    client.write_all("x").await?;
    assert_eq!(receive.await?.expect("a byte"), *b"x");
    Ok(())
}

// E12: a stray `Cancelled` that a child returns into a nursery of `u32` is a real error there.
#[trine::test(kernel = "both", runs = 20)]
async fn a_stray_cancelled_is_not_absorbed_by_what_it_causes() -> Result {
    let stray = RefCell::new(None);
    let scope = CancelScope::new();
    scope.cancel();
    scope
        .run(async |_| {
            *stray.borrow_mut() = checkpoint().await.err();
            Ok(())
        })
        .await?;
    let outcome: Result<u32> = nursery(async |n| {
        n.spawn(async { Err(stray.take().expect("kept")) });
        sleep_forever().await?;
        Ok(7)
    })
    .await;
    assert!(outcome.is_err_and(|error| error.is_cancelled()));
    Ok(())
}

// N8, E5: a cancellation during a nursery's exit: its value is final.
#[trine::test(kernel = "both", runs = 50)]
async fn a_cancellation_during_a_nurserys_exit_does_not_take_its_value() -> Result {
    let scope = CancelScope::new();
    let value = nursery(async |n| {
        n.spawn(async {
            checkpoint().await?;
            scope.cancel();
            Ok(())
        });
        scope
            .run(async |_| {
                let mut value = 0;
                // Long enough for the schedule points of the exits to be there when it comes.
                for _ in 0..fewer(200, 25) {
                    value = nursery(async |_| Ok(5)).await?;
                }
                Ok(value)
            })
            .await
    })
    .await?;
    assert_eq!(value, Some(5));
    Ok(())
}

// F14: 1,001 closes in one cancelled clean-up: none is cut off.
#[trine::test(kernel = "both", runs = 2)]
async fn a_thousand_cancelled_closes_are_all_made() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let count = fewer(PATIENCE, PATIENCE / 2) + 1;
    if !cfg!(miri) {
        trine::raise_descriptor_limit(5000)?;
    }
    let mut streams = Vec::new();
    for _ in 0..count {
        let client = TcpStream::connect_addr(listener.local_addr()?).await?;
        streams.push(client);
        streams.push(listener.accept().await?.0);
    }
    let scope = CancelScope::new();
    scope.cancel();
    let closed = Cell::new(0);
    scope
        .run(async |_| {
            let mut last = Ok(());
            for stream in streams {
                last = stream.close().await;
                closed.set(closed.get() + 1);
            }
            last
        })
        .await?;
    assert_eq!(closed.get(), 2 * count);
    Ok(())
}

// N7, C8: `finish` and an outer deadline in the same turn: the value wins.
#[trine::test(kernel = "both", runs = 50)]
async fn finish_wins_over_an_outer_deadline_in_the_same_turn() -> Result {
    let deadline = Instant::now() + MOMENT;
    let outcome = move_on_at(deadline, async |_| {
        nursery(async |n| {
            n.spawn(sleep_forever());
            n.spawn(async move {
                spin_until(deadline);
                n.finish(3);
                Ok(())
            });
            sleep_forever().await?;
            Ok(0)
        })
        .await
    })
    .await?;
    assert_eq!(outcome, Some(3));
    Ok(())
}

// N18: a cancelled daemon in a nursery that succeeds.
#[trine::test(kernel = "both", runs = 50)]
async fn a_cancelled_daemon_does_not_fail_a_nursery() -> Result {
    let (_client, server) = pair().await?;
    let value = nursery(async |n| {
        n.spawn_daemon(async { server.recv().await.map(drop) });
        in_kernel(1).await?;
        Ok("value")
    })
    .await?;
    assert_eq!((value, stats().in_kernel), ("value", 0));
    Ok(())
}

// C2: a wait is polled and forgotten, what it waited for is gone, and then the scope is cancelled.
#[trine::test(kernel = "both", leaks = true)]
async fn a_forgotten_wait_outlives_what_it_waited_for() -> Result {
    let scope = CancelScope::new();
    scope
        .run(async |scope| {
            nursery(async |n| {
                let child = n.fork(async { sleep(MOMENT).await });
                let mut forgotten = Box::pin(child);
                assert!(poll!(forgotten.as_mut()).is_pending());
                mem::forget(forgotten);
                Ok(())
            })
            .await?;
            scope.cancel();
            checkpoint().await
        })
        .await?;
    assert!(scope.caught());
    Ok(())
}

// P6: a chunk and a half-polled operation are carried from one run into the next.
#[trine::test(kernel = "both", runs = 20)]
fn a_chunk_and_an_operation_are_carried_into_another_run() {
    let (chunk, mut receive) = run(async || {
        let (client, server) = pair().await?;
        client.write_all("k").await?;
        let mut receive: Pin<Box<dyn Future<Output = Result>>> = {
            let chunk = server.recv().await?.expect("bytes");
            assert_eq!(chunk, *b"k");
            drop(chunk);
            client.write_all("k").await?;
            Box::pin(async move {
                server.recv().await?;
                let _open = &client;
                server.recv().await.map(drop)
            })
        };
        let chunk = {
            let (client, server) = pair().await?;
            client.write_all("l").await?;
            server.recv().await?.expect("bytes")
        };
        assert!(poll!(receive.as_mut()).is_pending());
        Ok((chunk, receive))
    })
    .unwrap();
    let outcome = run(async || {
        assert_eq!(chunk, *b"l");
        drop(chunk);
        receive.as_mut().await
    });
    assert!(matches!(outcome, Err(Error::RunFinished | Error::Cancelled(_))), "{outcome:?}");
    drop(receive);
}

/// A child whose Drop spawns the next one, so many deep.
struct Chain<'s, 'e> {
    n: Nursery<'s, 'e>,
    left: u32,
    dropped: &'s Cell<u32>,
}

impl Future for Chain<'_, '_> {
    type Output = Result;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Pending
    }
}

impl Drop for Chain<'_, '_> {
    fn drop(&mut self) {
        self.dropped.set(self.dropped.get() + 1);
        if self.left > 0 {
            self.n.spawn(Chain { n: self.n, left: self.left - 1, dropped: self.dropped });
        }
    }
}

// REVIEW 18: a child whose Drop spawns, four deep, while the nursery itself is being dropped.
#[trine::test(kernel = "both")]
async fn a_child_whose_drop_spawns_four_deep_while_the_nursery_is_dropped() -> Result {
    let dropped = Cell::new(0);
    {
        let mut half_way = pin!(nursery(async |n| {
            n.spawn(Chain { n, left: 4, dropped: &dropped });
            sleep_forever().await
        }));
        assert!(poll!(half_way.as_mut()).is_pending());
        turns(1).await;
    }
    // What is spawned into a nursery that is being dropped is dropped unpolled, and spawns again.
    assert_eq!(dropped.get(), 5);
    Ok(())
}

// G1, D4: a shield that goes on while a cancel is under way: the wait goes on inside of it.
#[trine::test(kernel = "both", runs = 200)]
async fn a_shield_that_comes_while_the_cancel_is_under_way_lets_the_receive_go_on() -> Result {
    let (client, server) = pair().await?;
    let scope = CancelScope::new();
    let outcome = scope
        .run(async |scope| {
            let mut receive = pin!(server.recv());
            assert!(poll!(receive.as_mut()).is_pending());
            turns(1).await;
            scope.cancel();
            client_writes(&client).await;
            shield(receive).await
        })
        .await?;
    assert_eq!(outcome.flatten().expect("it went on"), *b"t");
    assert!(matches!(scope.cancel_called(), Some(Reason::Explicit { .. })) && !is_cancelled());
    Ok(())
}

async fn client_writes(client: &TcpStream) {
    shield(async { client.write_all("t").await.unwrap() }).await;
}

// P1: the main future ends while somebody waits for the next turn, and wakes come too late.
#[trine::test(kernel = "both", runs = 20)]
fn wakes_that_come_after_the_main_future_has_ended_do_nothing() {
    let kept = RefCell::new(None);
    run(async || {
        nursery(async |n| {
            n.spawn(async {
                poll_fn(|cx| {
                    *kept.borrow_mut() = Some(cx.waker().clone());
                    Poll::Ready(Ok(()))
                })
                .await
            });
            Ok(())
        })
        .await
    })
    .unwrap();
    let waker = kept.take().expect("kept");
    waker.wake_by_ref();
    waker.wake();
}
