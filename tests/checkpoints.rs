//! Checkpoints, how a cancellation is delivered, and what it leaves of an operation (sections A, C
//! and D).

mod common;
#[path = "checkpoints/results.rs"]
mod results;

use std::cell::Cell;
use std::future::Future;
use std::net::Shutdown;
use std::ops::AsyncFnOnce;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures::poll;
use trine::io::Write;
use trine::net::{Address, TcpListener, TcpStream};
use trine::time::{Instant, sleep, sleep_forever, sleep_until};
use trine::{
    Builder, CancelScope, Error, Nursery, Result, checkpoint, checkpoint_if_cancelled,
    is_cancelled, move_on_after, move_on_at, nop, nursery, stats, tree, yield_shielded,
};

use common::{BUDGET, fewer, in_kernel, pair, spin_until};

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(2);

/// Runs a test. What nothing can wake any more is an error here, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(10, || Builder::new().detect_deadlock_strictly(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// Runs `busy` beside a child that counts its own polls, and says how many there were.
async fn polls_of_a_neighbour(busy: impl Future<Output = Result>) -> Result<u32> {
    let polls = &Cell::new(0);
    nursery(async |n| {
        n.spawn_daemon(async move {
            loop {
                polls.set(polls.get() + 1);
                checkpoint().await?;
            }
        });
        busy.await
    })
    .await?;
    Ok(polls.get())
}

// A1: a cancel point and a schedule point.
#[trine::test(kernel = "both")]
fn a_checkpoint_lets_others_run_and_raises() {
    const CHECKPOINTS: u32 = fewer(100, 10);
    run(async || {
        let turn = stats().turns;
        checkpoint().await?;
        assert_eq!(stats().turns, turn + 1);
        let polls = polls_of_a_neighbour(async {
            for _ in 0..CHECKPOINTS {
                checkpoint().await?;
            }
            Ok(())
        });
        assert!(polls.await? >= CHECKPOINTS - 1);
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.run(async |_| checkpoint().await).await?.is_none());
        Ok(())
    });
}

// A1: the halves exist separately. P2: a schedule point ends in a later turn.
#[trine::test(kernel = "both")]
fn yielding_behind_a_shield_lets_others_run_and_raises_nothing() {
    run(async || {
        let scope = CancelScope::new();
        scope.cancel();
        let left = scope.run(async |_| {
            let turn = stats().turns;
            yield_shielded().await;
            assert_eq!(stats().turns, turn + 1);
            Ok(())
        });
        assert!(left.await?.is_some());
        Ok(())
    });
}

// A2: what finds its result ready returns at once, 128 times in one turn, and then yields.
#[trine::test(kernel = "both")]
fn operations_that_need_not_wait_are_budgeted() {
    const ROUNDS: u32 = fewer(10, 3);
    run(async || {
        let (client, _server) = pair().await?;
        checkpoint().await?;
        let turn = stats().turns;
        for _ in 0..BUDGET {
            client.write_all("").await?;
        }
        assert_eq!(stats().turns, turn, "ready ones do not yield");
        client.write_all("").await?;
        assert_eq!(stats().turns, turn + 1, "until the budget is spent");
        for _ in 0..ROUNDS * BUDGET {
            client.write_all("").await?;
        }
        assert!(stats().turns >= turn + u64::from(ROUNDS), "which begins anew with every turn");
        Ok(())
    });
}

// A2: also where there is nothing to be done.
#[trine::test(kernel = "both")]
fn resolving_what_is_known_and_flushing_what_is_not_kept_lets_others_run() {
    run(async || {
        let (client, _server) = pair().await?;
        let turn = stats().turns;
        for _ in 0..=BUDGET {
            Address::from("127.0.0.1:80").resolve().await?;
        }
        assert!(stats().turns > turn);
        let turn = stats().turns;
        for _ in 0..=BUDGET {
            client.flush().await?;
        }
        assert!(stats().turns > turn);
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.run(async |_| client.flush().await).await?.is_none());
        Ok(())
    });
}

// A2: also when every single one is a nursery without children, whose exit is a schedule point (N8).
#[trine::test(kernel = "both")]
fn nurseries_that_need_not_wait_cannot_starve_a_neighbour() {
    const TURNS: u32 = fewer(100, 5);
    run(async || {
        let polls = polls_of_a_neighbour(async {
            for _ in 0..TURNS * BUDGET {
                nursery(async |_| Ok(())).await?;
            }
            Ok(())
        });
        assert!(polls.await? >= TURNS - 1);
        Ok(())
    });
}

// A2: no task can starve the ring, not even one that lives on timeouts of zero.
#[trine::test(kernel = "both")]
fn timeouts_that_have_passed_already_cannot_starve_a_neighbour() {
    const TURNS: u32 = fewer(100, 3);
    run(async || {
        let absorbed = polls_of_a_neighbour(async {
            for _ in 0..TURNS * BUDGET {
                move_on_after(Duration::ZERO, async |_| sleep_forever().await).await?;
            }
            Ok(())
        });
        assert!(absorbed.await? >= TURNS - 1, "all operations of one task within a few turns");
        let handled = polls_of_a_neighbour(async {
            for _ in 0..TURNS * BUDGET {
                let handled = async |_: &CancelScope| Ok(sleep_forever().await.is_err());
                move_on_after(Duration::ZERO, handled).await?;
            }
            Ok(())
        });
        assert!(handled.await? >= TURNS - 1, "all operations of one task within a few turns");
        Ok(())
    });
}

// A2, N8: a sleep that is over before it began, an operation, a nursery: all let others run.
#[trine::test(kernel = "both")]
fn everything_that_waits_lets_others_run() {
    run(async || {
        let turn = || stats().turns;
        let before = turn();
        sleep(Duration::ZERO).await?;
        assert!(turn() > before, "a sleep of zero");
        let before = turn();
        sleep_until(Instant::now()).await?;
        assert!(turn() > before, "a sleep until now");
        let before = turn();
        nop().await?;
        assert!(turn() > before, "an operation");
        Ok(())
    });
}

// A2: however an operation comes by its result, a task cannot live on it without ever yielding.
#[trine::test(kernel = "both")]
fn whatever_is_ready_at_once_is_budgeted() {
    const MORE: u32 = fewer(300, 36);
    run(async || {
        let (client, _server) = &pair().await?;
        client.shutdown(Shutdown::Write).await?;
        let turns_of_more = async |operation: &dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>| {
            let turn = stats().turns;
            for _ in 0..MORE {
                operation().await;
            }
            stats().turns - turn
        };
        let binding =
            turns_of_more(&|| Box::pin(async { drop(TcpListener::bind("127.0.0.1:0").await) }));
        assert!(binding.await >= 2, "binding to a number");
        let turn = stats().turns;
        for _ in 0..MORE {
            client.shutdown(Shutdown::Write).await?;
        }
        assert!(stats().turns >= turn + 2, "a second shutdown");
        Ok(())
    });
}

// A3: synchronous functions are never checkpoints: the code goes on in the same turn, and what they
// did to others has not run.
#[trine::test(kernel = "both")]
fn synchronous_functions_neither_raise_nor_let_others_run() {
    run(async || {
        let polled = &Cell::new(false);
        let scope = CancelScope::new();
        let left = scope.run(async |scope| {
            nursery(async |n: Nursery<'_, '_>| {
                let turn = stats().turns;
                n.spawn(async move {
                    polled.set(true);
                    Ok(())
                });
                scope.set_deadline(Some(Instant::now()));
                scope.set_shield(true);
                drop(sleep_forever());
                scope.cancel();
                n.cancel();
                assert!(!polled.get());
                assert_eq!(stats().turns, turn);
                Ok(())
            })
            .await
        });
        assert!(left.await?.is_some());
        assert!(polled.get(), "N10: it starts all the same");
        Ok(())
    });
}

// A5: the schedule comes first, so this very checkpoint sees a deadline that has passed meanwhile.
#[trine::test(kernel = "both")]
fn a_checkpoint_sees_a_deadline_that_passed_just_before_it() {
    run(async || {
        for round in ["checkpoint", "sleep of zero"] {
            let deadline = Instant::now() + MOMENT / 2;
            let left = move_on_at(deadline, async |_| {
                checkpoint().await?;
                spin_until(deadline);
                assert!(!is_cancelled(), "no turn has passed");
                match round {
                    "checkpoint" => checkpoint().await,
                    _ => sleep(Duration::ZERO).await,
                }
            });
            assert!(left.await?.is_none(), "{round}");
        }
        Ok(())
    });
}

// A5: and what a sibling does meanwhile.
#[trine::test(kernel = "both")]
fn a_checkpoint_sees_a_cancellation_that_comes_while_others_run() {
    run(async || {
        let scope = &CancelScope::new();
        let seen = &Cell::new(false);
        nursery(async |n| {
            n.spawn(async move {
                let left = scope.run(async |_| {
                    seen.set(checkpoint().await.is_err());
                    Ok(())
                });
                left.await?;
                Ok(())
            });
            n.spawn(async move {
                scope.cancel();
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert!(seen.get());
        Ok(())
    });
}

// A6: nothing at all, unless cancelled.
#[trine::test(kernel = "both")]
fn checkpoint_if_cancelled_does_nothing_unless_cancelled() {
    run(async || {
        let turn = stats().turns;
        for _ in 0..fewer(10_000, 100) {
            checkpoint_if_cancelled().await?;
        }
        assert_eq!(stats().turns, turn);
        let scope = CancelScope::new();
        let left = scope.run(async |scope| {
            scope.cancel();
            checkpoint_if_cancelled().await
        });
        assert!(left.await?.is_none());
        Ok(())
    });
}

// A8: the cancel check comes before the attempt: nothing is submitted, nothing is sent or taken.
#[trine::test(kernel = "both")]
fn an_operation_begun_in_a_cancelled_scope_has_no_effect() {
    run(async || {
        let (client, server) = pair().await?;
        client.write_all("kept").await?;
        let submitted = stats().submitted;
        let scope = CancelScope::new();
        let left = scope.run(async |scope| {
            scope.cancel();
            assert!(nop().await.unwrap_err().is_cancelled());
            assert!(server.recv().await.unwrap_err().is_cancelled());
            let refused = server.read(Vec::with_capacity(8)).await.unwrap_err();
            assert_eq!((refused.done, Error::from(refused).is_cancelled()), (0, true));
            let refused = client.write_all("never sent").await.unwrap_err();
            assert_eq!((refused.done, refused.buf), (0, "never sent"));
            Ok(())
        });
        assert!(left.await?.is_some());
        assert_eq!(stats().submitted, submitted);
        client.write_all(" and sent").await?;
        client.close().await?;
        let mut received = Vec::new();
        while let Some(chunk) = server.recv().await? {
            received.extend_from_slice(&chunk);
        }
        assert_eq!(received, b"kept and sent");
        Ok(())
    });
}

// A8, A2: every one of them is a cancel point, also when its result is there already.
#[trine::test(kernel = "both")]
fn every_async_function_raises_in_a_cancelled_scope_though_it_need_not_wait() {
    run(async || {
        let (client, server) = &pair().await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        client.write_all("abc").await?;
        // A receive and an accept that are dropped leave what comes with their objects.
        assert!(poll!(pin!(server.recv())).is_pending());
        assert!(poll!(pin!(listener.accept())).is_pending());
        in_kernel(2).await?;
        let waiting = TcpStream::connect_addr(listener.local_addr()?).await?;
        waiting.shutdown(Shutdown::Write).await?;
        nursery(async |n| {
            let mut finished = n.fork(async { Ok(7) });
            checkpoint().await?;
            checkpoint().await?;
            let left = move_on_after(LONG, async |scope| {
                scope.cancel();
                let raised = [
                    ("recv", server.recv().await.err()),
                    ("read", server.read(vec![0; 8]).await.err().map(Error::from)),
                    ("write_all", client.write_all("").await.err().map(Error::from)),
                    ("shutdown", waiting.shutdown(Shutdown::Write).await.err()),
                    ("accept", listener.accept().await.err()),
                    ("bind", TcpListener::bind("127.0.0.1:0").await.err()),
                    ("sleep", sleep(Duration::ZERO).await.err()),
                    ("fork", (&mut finished).await.err()),
                ];
                for (operation, raised) in raised {
                    let raised = raised.unwrap_or_else(|| panic!("{operation} did not raise"));
                    assert!(raised.is_cancelled(), "{operation}: {raised}");
                }
                Ok(())
            });
            left.await?;
            assert_eq!(finished.await?, 7, "a cancelled wait loses nothing");
            Ok(())
        })
        .await?;
        assert_eq!(server.recv().await?.expect("kept"), *b"abc");
        listener.accept().await?;
        Ok(())
    });
}

// A8: no look-up is begun, and so none can win.
#[trine::test(kernel = "both")]
fn a_name_is_not_looked_up_in_a_cancelled_scope() {
    run(async || {
        let left = move_on_after(LONG, async |scope| {
            scope.cancel();
            for attempt in 0..fewer(300, 10) {
                let bound = TcpListener::bind("localhost:0").await;
                assert!(bound.is_err(), "attempt {attempt}");
            }
            Ok(())
        });
        left.await?;
        Ok(())
    });
}

// C1: delivered when a wait begins, and to a wait that has begun.
#[trine::test(kernel = "both")]
fn a_cancellation_reaches_waits_that_begin_later_and_waits_that_have_begun() {
    run(async || {
        let listener = &TcpListener::bind("127.0.0.1:0").await?;
        let before = async || sleep_forever().await;
        let scope = CancelScope::new();
        let left = scope.run(async |scope| {
            nursery(async |n| {
                n.spawn(before());
                n.spawn(async move { listener.accept().await.map(drop) });
                in_kernel(1).await?;
                scope.cancel();
                n.spawn(before());
                n.spawn(async move { listener.accept().await.map(drop) });
                Ok(())
            })
            .await
        });
        assert!(left.await?.is_none());
        Ok(())
    });
}

// C3: an operation in the kernel wakes its task when it has ended, and not when it is asked to end.
#[trine::test(kernel = "both")]
fn a_cancelled_operation_is_awaited_until_the_kernel_has_let_go() {
    run(async || {
        let (_client, server) = &pair().await?;
        let scope = &CancelScope::new();
        let held = &Cell::new(None);
        nursery(async |n| {
            n.spawn(async move {
                let left = scope.run(async |_| {
                    let cancelled = server.recv().await;
                    held.set(Some(stats().in_kernel));
                    cancelled
                });
                assert!(left.await?.is_none());
                Ok(())
            });
            in_kernel(1).await?;
            scope.cancel();
            assert!(tree().contains("asked to cancel"));
            assert_eq!((stats().in_kernel, held.get()), (1, None));
            Ok(())
        })
        .await?;
        assert_eq!(held.get(), Some(0));
        Ok(())
    });
}

/// A waker that counts.
#[derive(Default)]
struct Bell(AtomicU32);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

// C3: a park is woken by the cancellation, an operation only by its own end.
#[trine::test(kernel = "both")]
fn a_cancellation_wakes_what_is_parked_and_not_what_the_kernel_has() {
    run(async || {
        let (_client, server) = pair().await?;
        let left = move_on_after(LONG, async |scope| {
            let (parked, asked) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
            let rung = || (parked.0.load(Ordering::Relaxed), asked.0.load(Ordering::Relaxed));
            let mut asleep = pin!(sleep(LONG));
            let mut receive = pin!(server.recv());
            let waker = Waker::from(Arc::clone(&parked));
            assert!(asleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let waker = Waker::from(Arc::clone(&asked));
            assert!(receive.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            in_kernel(1).await?;
            assert_eq!(rung(), (0, 0));
            scope.cancel();
            assert_eq!(rung(), (1, 0));
            while stats().in_kernel > 0 {
                assert_eq!(rung(), (1, 0));
                yield_shielded().await;
            }
            assert_eq!(rung(), (1, 1));
            assert!(asleep.await.unwrap_err().is_cancelled());
            receive.await
        });
        assert!(left.await?.is_none());
        Ok(())
    });
}

/// Two children wait for the same turn; the one that runs first cancels both.
async fn first_one_cancels_both(wait: impl AsyncFn() -> Result) -> Result {
    let both = &CancelScope::new();
    let (kept, raised) = (&Cell::new(0), &Cell::new(0));
    let wait = &wait;
    let left = both.run(async |_| {
        nursery(async |n| {
            for _ in 0..2 {
                n.spawn(async move {
                    wait().await?;
                    kept.set(kept.get() + 1);
                    both.cancel();
                    let next = checkpoint_if_cancelled().await;
                    raised.set(raised.get() + u32::from(next.is_err()));
                    next
                });
            }
            Ok(())
        })
        .await
    });
    assert!(left.await?.is_none());
    assert_eq!((kept.get(), raised.get()), (2, 2));
    Ok(())
}

// C4: a task already woken keeps what it was woken with.
#[trine::test(kernel = "both")]
fn a_sleep_that_has_ended_is_not_cancelled_any_more() {
    run(async || {
        // Far enough off for both children to fall asleep first, on a slow machine too.
        let until = Instant::now() + MOMENT * 10;
        first_one_cancels_both(async || sleep_until(until).await).await
    });
}

// D1, C4: the completion is in the queue already, and the task has not been polled: the result wins.
#[trine::test(kernel = "both")]
fn an_operation_that_has_completed_is_not_cancelled_any_more() {
    run(async || first_one_cancels_both(async || nop().await).await);
}
