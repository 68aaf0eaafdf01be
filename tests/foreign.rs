//! What belongs to other crates: their futures, awaited as operations of ours (`cancellable`), and what we
//! wait for as their streams (`stream`).

mod common;
#[path = "foreign/streams.rs"]
mod streams;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;
use futures::{FutureExt, poll, select};
use trine::testing::{assert_checkpoints, wait_all_tasks_blocked};
use trine::time::{Instant, sleep};
use trine::{
    Builder, CancelScope, Error, Reason, Result, cancellable, checkpoint, checkpoint_if_cancelled,
    is_cancelled, move_on_after, move_on_at, nursery, race, shield, shield_for, stats, tree,
    yield_shielded,
};

use common::wakers::{Bell, poll_with, text};
use common::{BUDGET, PATIENCE, fewer, pair, spin_until, turns};

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(2);

/// Runs a test. What nothing can wake any more is an error here, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(20, || Builder::new().detect_deadlock(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// A future that trine knows nothing of: it says how often it was polled, and that it was dropped.
struct Foreign<'a, F> {
    inner: F,
    log: &'a Log,
}

#[derive(Default)]
struct Log {
    polls: Cell<u32>,
    dropped: Cell<bool>,
}

impl Log {
    fn of<F: Future + Unpin>(&self, inner: F) -> Foreign<'_, F> {
        Foreign { inner, log: self }
    }

    fn seen(&self) -> (u32, bool) {
        (self.polls.get(), self.dropped.get())
    }
}

impl<F: Future + Unpin> Future for Foreign<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.log.polls.set(self.log.polls.get() + 1);
        self.inner.poll_unpin(cx)
    }
}

impl<F> Drop for Foreign<'_, F> {
    fn drop(&mut self) {
        self.log.dropped.set(true);
    }
}

/// Sends what somebody waits for.
fn bring<T>(sender: oneshot::Sender<T>, value: T) -> Result {
    sender.send(value).map_err(|_| Error::other("nobody waits"))
}

/// Nothing waits, and nobody had to be dropped.
#[track_caller]
fn assert_nothing_left() {
    let stats = stats();
    assert_eq!((stats.abandoned, stats.scopes), (0, 1));
    assert!(!tree().contains("waits to be woken"), "{}", tree());
}

// A2, A8: ready at once, it returns at once, as often as the budget allows.
#[trine::test(kernel = "both")]
fn what_is_ready_at_once_returns_at_once_and_is_budgeted() {
    run(async || {
        assert_eq!(assert_checkpoints(cancellable(ready(7))).await?, 7);
        checkpoint().await?;
        let turn = stats().turns;
        for number in 0..BUDGET {
            assert_eq!(cancellable(ready(number)).await?, number);
        }
        assert_eq!(stats().turns, turn, "ready ones do not yield");
        cancellable(ready(())).await?;
        assert_eq!(stats().turns, turn + 1, "until the budget is spent");
        assert_nothing_left();
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn what_a_sibling_brings_comes_out() {
    run(async || {
        nursery(async |n| {
            let (sender, receiver) = oneshot::channel();
            let (tokio_sender, tokio_receiver) = tokio::sync::oneshot::channel();
            n.spawn(async move {
                turns(2).await;
                bring(sender, 7)?;
                checkpoint().await?;
                tokio_sender.send(8).map_err(|_| Error::other("nobody waits"))
            });
            let log = Log::default();
            assert_eq!(assert_checkpoints(cancellable(log.of(receiver))).await?, Ok(7));
            assert_eq!(log.seen(), (2, true), "it is polled when it is woken, and only then");
            assert_eq!(cancellable(tokio_receiver).await?, Ok(8));
            Ok(())
        })
        .await?;
        assert_nothing_left();
        Ok(())
    });
}

// P2, P4: a waker from another thread wakes it as it does every task.
#[trine::test(kernel = "both", deterministic = false)]
fn what_another_thread_brings_comes_out() {
    run(async || {
        for number in 0..fewer(20, 3) {
            let (sender, receiver) = oneshot::channel();
            let thread = thread::spawn(move || {
                thread::sleep(MOMENT / 4);
                bring(sender, number).expect("somebody waits");
            });
            assert_eq!(cancellable(receiver).await?, Ok(number));
            thread.join().expect("no panic");
        }
        assert_nothing_left();
        Ok(())
    });
}

// C3, M1: the task unwinds with `Cancelled` and cleans up. What it waited for was dropped before.
#[trine::test(kernel = "both")]
fn a_cancelled_one_drops_the_future_and_the_task_unwinds() {
    run(async || {
        let log = Log::default();
        let cleaned_up = Cell::new(false);
        let scope = CancelScope::new();
        let outcome = scope.run(async |scope| {
            nursery(async |n| {
                n.spawn(async {
                    let error = cancellable(log.of(pending::<()>())).await.unwrap_err();
                    assert!(matches!(error, Error::Cancelled(_)), "{error:?}");
                    assert!(log.dropped.get(), "before `Cancelled` comes out");
                    shield_for(LONG, async |_| checkpoint().await).await?;
                    cleaned_up.set(true);
                    Err(error)
                });
                while log.seen().0 == 0 {
                    checkpoint().await?;
                }
                scope.cancel();
                Ok(())
            })
            .await
        });
        assert!(outcome.await?.is_none());
        assert!(cleaned_up.get());
        assert_eq!(log.seen().0, 2, "once to begin with, once because of the cancellation");
        assert_nothing_left();
        Ok(())
    });
}

// F13, F15: what it is good for. Without it the task is dropped where it stands.
#[trine::test(kernel = "both")]
fn without_it_a_task_that_waits_for_something_foreign_is_dropped() {
    run(async || {
        let cleaned_up = Cell::new(false);
        let outcome = move_on_after(MOMENT, async |_| {
            nursery(async |n| {
                n.spawn(async {
                    pending::<()>().await;
                    cleaned_up.set(true);
                    Ok(())
                });
                Ok(())
            })
            .await
        });
        assert!(outcome.await?.is_none());
        assert_eq!((cleaned_up.get(), stats().abandoned), (false, 1));
        Ok(())
    });
}

// L1: the reason is the scope's.
#[trine::test(kernel = "both")]
fn the_cancellation_has_its_reason() {
    run(async || {
        let scope = CancelScope::new();
        let outcome = scope.run(async |scope| {
            nursery(async |n| {
                n.spawn(async {
                    wait_all_tasks_blocked().await?;
                    scope.cancel_because("enough");
                    Ok(())
                });
                let error = cancellable(pending::<()>()).await.unwrap_err();
                let reason = error.cancelled().map(|cancelled| cancelled.reason());
                let Some(Reason::Explicit { because, .. }) = reason else { panic!("{error:?}") };
                assert_eq!(because.as_deref(), Some("enough"));
                Err::<(), _>(error)
            })
            .await
        });
        assert!(outcome.await?.is_none());
        Ok(())
    });
}

// A8: what is cancelled already is not even begun, be it ready; nor what is cancelled before its turn.
#[trine::test(kernel = "both")]
fn cancelled_before_the_first_poll_it_is_not_begun() {
    run(async || {
        let log = Log::default();
        let scope = CancelScope::new();
        scope.cancel();
        let outcome = scope.run(async |_| {
            let error = cancellable(log.of(ready(7))).await.unwrap_err();
            assert_eq!(log.seen(), (0, true));
            Err::<(), _>(error)
        });
        assert!(outcome.await?.is_none());
        let log = Log::default();
        let outcome = move_on_after(LONG, async |scope| {
            checkpoint().await?;
            for _ in 0..BUDGET {
                cancellable(ready(())).await?;
            }
            let mut late = pin!(cancellable(log.of(ready(7))));
            assert!(poll!(&mut late).is_pending(), "the budget is spent");
            scope.cancel();
            // One that is cancelled before it asks for its turn does not wait for that.
            assert!(matches!(poll!(pin!(cancellable(ready(7)))), Poll::Ready(Err(_))));
            let error = late.await.unwrap_err();
            assert_eq!(log.seen(), (0, true));
            Err::<(), _>(error)
        });
        assert!(outcome.await?.is_none());
        assert_nothing_left();
        Ok(())
    });
}

// D1, C4: what has come has happened, in whatever order; the cancellation waits for the next cancel point.
#[trine::test(kernel = "both", runs = 10)]
fn cancelled_and_ready_in_the_same_turn_the_value_wins() {
    run(async || {
        for cancel_first in [false, true] {
            let (sender, receiver) = oneshot::channel();
            let scope = CancelScope::new();
            let outcome = scope.run(async |scope| {
                nursery(async |n| {
                    n.spawn(async move {
                        wait_all_tasks_blocked().await?;
                        if cancel_first {
                            scope.cancel();
                        }
                        bring(sender, 7)?;
                        scope.cancel();
                        Ok(())
                    });
                    assert_eq!(cancellable(receiver).await?, Ok(7));
                    assert!(is_cancelled());
                    checkpoint_if_cancelled().await
                })
                .await
            });
            assert!(outcome.await?.is_none());
        }
        assert_nothing_left();
        Ok(())
    });
}

// C8: in one turn what has come beats a deadline.
#[trine::test(kernel = "both")]
fn a_value_beats_a_deadline_that_has_passed() {
    run(async || {
        let (sender, receiver) = oneshot::channel();
        let deadline = Instant::now() + MOMENT;
        let outcome = move_on_at(deadline, async |_| {
            let mut wait = pin!(cancellable(receiver));
            assert!(poll!(&mut wait).is_pending());
            spin_until(deadline);
            bring(sender, 7)?;
            wait.await
        });
        assert_eq!(outcome.await?, Some(Ok(7)));
        Ok(())
    });
}

// C2: a cancellation that the polled future itself brings about is not missed.
#[trine::test(kernel = "both")]
fn a_future_that_cancels_its_own_scope_is_dropped() {
    run(async || {
        for poll_that_cancels in [1, 2] {
            let log = Log::default();
            let scope = CancelScope::new();
            let outcome = scope.run(async |scope| {
                let inner = poll_fn(|cx| {
                    if log.polls.get() == poll_that_cancels {
                        scope.cancel();
                    } else {
                        cx.waker().wake_by_ref();
                    }
                    Poll::<()>::Pending
                });
                let error = cancellable(log.of(inner)).await.unwrap_err();
                assert_eq!(log.seen(), (poll_that_cancels, true));
                Err::<(), _>(error)
            });
            assert!(outcome.await?.is_none());
        }
        assert_nothing_left();
        Ok(())
    });
}

// G1, G2: behind a shield it is not cancelled, until that is taken away.
#[trine::test(kernel = "both")]
fn a_shielded_one_goes_on() {
    run(async || {
        let (outer, inner) = (CancelScope::new(), CancelScope::new().shield(true));
        let outcome = outer.run(async |outer| {
            nursery(async |n| {
                let (sender, receiver) = oneshot::channel();
                n.spawn(async move {
                    wait_all_tasks_blocked().await?;
                    outer.cancel();
                    yield_shielded().await;
                    bring(sender, 7)
                });
                assert_eq!(shield(cancellable(receiver)).await?, Ok(7));
                assert!(is_cancelled());
                n.spawn(async {
                    shield(checkpoint()).await?;
                    inner.set_shield(false);
                    Ok(())
                });
                inner.run(async |_| cancellable(pending::<()>()).await).await
            })
            .await
        });
        assert!(outcome.await?.is_none());
        assert_nothing_left();
        Ok(())
    });
}

// B2: whoever polls it says which scope it is in.
#[trine::test(kernel = "both")]
fn it_is_in_the_scope_where_it_is_polled() {
    run(async || {
        // It has begun outside, and goes into a scope that is cancelled later, or is already.
        for cancelled_before in [false, true] {
            let log = Log::default();
            let mut wait = pin!(cancellable(log.of(pending::<()>())));
            assert!(poll!(&mut wait).is_pending());
            let scope = CancelScope::new();
            let outcome = scope.run(async |scope| {
                if cancelled_before {
                    scope.cancel();
                } else {
                    assert!(poll!(&mut wait).is_pending());
                    scope.cancel();
                }
                wait.as_mut().await
            });
            assert!(outcome.await?.is_none());
            assert!(log.dropped.get());
        }
        assert_nothing_left();
        Ok(())
    });
}

// D4: a cancellation of a scope that it has left in time does not concern it.
#[trine::test(kernel = "both")]
fn a_stray_cancellation_does_not_end_it() {
    run(async || {
        let (sender, receiver) = oneshot::channel();
        let log = Log::default();
        let mut wait = pin!(cancellable(log.of(receiver)));
        move_on_after(LONG, async |scope| {
            assert!(poll!(&mut wait).is_pending());
            scope.cancel();
            Ok(())
        })
        .await?;
        assert!(poll!(&mut wait).is_pending());
        assert!(!log.dropped.get());
        nursery(async |n| {
            n.spawn(async move {
                wait_all_tasks_blocked().await?;
                bring(sender, 7)
            });
            assert_eq!(wait.as_mut().await?, Ok(7));
            Ok(())
        })
        .await?;
        // And a cancellation that does wakes it.
        let mut wait = pin!(cancellable(pending::<()>()));
        let outcome = move_on_after(LONG, async |outer| {
            move_on_after(LONG, async |scope| {
                assert!(poll!(&mut wait).is_pending());
                scope.cancel();
                Ok(())
            })
            .await?;
            let (bell, waker) = Bell::new(false);
            assert!(poll_with(wait.as_mut(), &waker).is_pending());
            outer.cancel();
            assert_eq!(bell.rung(), 1);
            wait.await
        });
        assert!(outcome.await?.is_none());
        assert_nothing_left();
        Ok(())
    });
}

// F12: dropped or forgotten, it holds nobody up.
#[trine::test(kernel = "both")]
fn dropped_or_forgotten_it_holds_nothing_up() {
    run(async || {
        let (log, forgotten) = (Log::default(), Rc::new(()));
        let outcome = move_on_after(LONG, async |scope| {
            {
                let mut dropped = pin!(cancellable(log.of(pending::<()>())));
                assert!(poll!(&mut dropped).is_pending());
            }
            assert_eq!(log.seen(), (1, true));
            assert!(!tree().contains("waits to be woken"), "{}", tree());
            let held = Rc::clone(&forgotten);
            let mut leaked = Box::pin(cancellable(async move {
                let _held = held;
                pending::<()>().await;
            }));
            assert!(poll!(&mut leaked).is_pending());
            mem::forget(leaked);
            scope.cancel();
            checkpoint().await
        });
        assert!(outcome.await?.is_none());
        assert_eq!(Rc::strong_count(&forgotten), 2);
        checkpoint().await
    });
}

// P2: nothing is borrowed while the future is polled or dropped: it may do with the run what it likes.
#[trine::test(kernel = "both")]
fn the_future_may_use_the_run_while_it_is_polled_and_dropped() {
    struct Busybody<'a> {
        scope: &'a CancelScope,
        done: &'a Cell<u32>,
    }

    impl Busybody<'_> {
        fn be_busy(&self) {
            assert!(tree().contains("scope"));
            let mut other = pin!(cancellable(pending::<()>()));
            let _ = poll_with(other.as_mut(), Waker::noop());
            let _ = poll_with(pin!(sleep(LONG)), Waker::noop());
            self.scope.cancel();
            self.done.set(self.done.get() + 1);
        }
    }

    impl Future for Busybody<'_> {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            self.be_busy();
            Poll::Pending
        }
    }

    impl Drop for Busybody<'_> {
        fn drop(&mut self) {
            self.be_busy();
        }
    }

    run(async || {
        let done = Cell::new(0);
        let outcome =
            move_on_after(LONG, async |scope| cancellable(Busybody { scope, done: &done }).await);
        assert!(outcome.await?.is_none());
        assert_eq!(done.get(), 2);
        assert_nothing_left();
        Ok(())
    });
}

// N20: a panic of the future is the task's.
#[trine::test(kernel = "both")]
fn panics_of_the_future_go_through() {
    struct Panicking;

    impl Future for Panicking {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    impl Drop for Panicking {
        fn drop(&mut self) {
            panic!("while it is dropped");
        }
    }

    run(async || {
        for polls in [1, 2] {
            let log = Log::default();
            let inner = poll_fn(|cx| {
                assert!(log.polls.get() < polls, "while it is polled");
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            });
            let failing = nursery(async |n| {
                n.spawn(async { cancellable(log.of(inner)).await });
                Ok(())
            });
            let thrown = AssertUnwindSafe(failing).catch_unwind().await.unwrap_err();
            assert_eq!((text(&*thrown), log.seen()), ("while it is polled".into(), (polls, true)));
        }
        let failing = nursery(async |n| {
            n.spawn(async { cancellable(Panicking).await });
            wait_all_tasks_blocked().await?;
            n.cancel();
            Ok(())
        });
        let thrown = AssertUnwindSafe(failing).catch_unwind().await.unwrap_err();
        assert_eq!(text(&*thrown), "while it is dropped");
        assert_nothing_left();
        Ok(())
    });
}

// D7: as an arm of a `select!` it may be dropped in any poll; lent, the foreign future is not.
#[trine::test(kernel = "both")]
fn in_a_select_it_is_lent_and_gone_on_with() {
    run(async || {
        let ticks = Cell::new(0);
        nursery(async |n| {
            let (sender, mut receiver) = oneshot::channel();
            n.spawn(async {
                while ticks.get() < 3 {
                    sleep(MOMENT).await?;
                }
                bring(sender, 7)
            });
            let value = loop {
                select! {
                    value = cancellable(&mut receiver).fuse() => break value?,
                    slept = sleep(MOMENT).fuse() => slept.map(|()| ticks.set(ticks.get() + 1))?,
                }
            };
            assert_eq!(value, Ok(7));
            Ok(())
        })
        .await?;
        assert_nothing_left();
        Ok(())
    });
}

// The same for one that is cancelled.
#[trine::test(kernel = "both")]
fn lent_it_is_gone_on_with_after_a_cancellation() {
    run(async || {
        let (sender, mut receiver) = oneshot::channel();
        let outcome = move_on_after(MOMENT, async |_| cancellable(&mut receiver).await);
        assert!(outcome.await?.is_none());
        bring(sender, 7)?;
        assert_eq!(cancellable(&mut receiver).await?, Ok(7));
        Ok(())
    });
}

// A loser of a race is cancelled and unwinds.
#[trine::test(kernel = "both")]
fn in_a_race_it_can_win_and_lose() {
    run(async || {
        let unwound = RefCell::new(Vec::new());
        let entrant = async |name, receiver: oneshot::Receiver<u32>| {
            let end = cancellable(receiver).await;
            unwound.borrow_mut().push(name);
            end?.map_err(Error::other)
        };
        let (first, first_end) = oneshot::channel();
        let (_second, second_end) = oneshot::channel();
        nursery(async |n| {
            n.spawn(async move {
                wait_all_tasks_blocked().await?;
                bring(first, 7)
            });
            let race = race([entrant("second", second_end), entrant("first", first_end)]).await?;
            assert_eq!((race.winner, race.index), (7, 1));
            Ok(())
        })
        .await?;
        assert_eq!(*unwound.borrow(), ["first", "second"]);
        assert_nothing_left();
        Ok(())
    });
}

// E11, D7: around something of ours it drops that; what it waited for in the kernel is let go of before the
// scope is left, and what comes later is not lost.
#[trine::test(kernel = "both")]
fn around_an_operation_of_ours_it_loses_nothing() {
    run(async || {
        let (client, server) = pair().await?;
        let before = stats().in_kernel;
        let outcome = move_on_after(MOMENT, async |_| cancellable(server.recv()).await);
        assert!(outcome.await?.is_none());
        assert_eq!(stats().in_kernel, before);
        client.write_all("late").await?;
        let chunk = cancellable(server.recv()).await??.expect("bytes");
        assert_eq!(&b"late"[..chunk.len()], &*chunk);
        Ok(())
    });
}

// F14: swallowing its cancellation is counted like any, and a value is progress.
#[trine::test(kernel = "both")]
fn who_swallows_its_cancellation_for_ever_is_dropped() {
    run(async || {
        let rounds = Cell::new(0);
        let outcome = move_on_after(MOMENT, async |_| {
            loop {
                let _ = cancellable(pending::<()>()).await;
                rounds.set(rounds.get() + 1);
                if rounds.get() == PATIENCE / 2 {
                    shield(cancellable(ready(()))).await?;
                }
            }
            #[expect(unreachable_code, reason = "says what the body would return")]
            Ok(())
        });
        assert!(outcome.await?.is_none());
        let expected = PATIENCE + PATIENCE / 2;
        assert!((expected - 3..=expected).contains(&rounds.get()), "{}", rounds.get());
        assert_eq!(stats().abandoned, 1);
        Ok(())
    });
}

// P6: it belongs to a run.
#[trine::test(kernel = "both")]
fn it_works_in_the_run_where_it_began_and_nowhere_else() {
    let log = Log::default();
    let ended = cancellable(log.of(ready(7))).now_or_never().expect("it does not wait");
    assert!(matches!(ended, Err(Error::NoRun)), "{ended:?}");
    assert_eq!(log.seen(), (0, true));
    let (parked, paused) = (Log::default(), Log::default());
    let mut waits = [&parked, &paused].map(|log| Box::pin(cancellable(log.of(pending::<()>()))));
    let (bell, waker) = Bell::new(false);
    run(async || {
        let [parked, paused] = &mut waits;
        assert!(poll_with(parked.as_mut(), &waker).is_pending());
        checkpoint().await?;
        for _ in 0..BUDGET {
            cancellable(ready(())).await?;
        }
        assert!(poll!(paused).is_pending());
        Ok(())
    });
    assert_eq!(bell.rung(), 1, "the end of its run");
    assert_eq!((parked.seen(), paused.seen()), ((1, false), (0, false)));
    let [mut in_no_run, mut in_another] = waits;
    let ended = poll_with(in_no_run.as_mut(), Waker::noop());
    assert!(matches!(ended, Poll::Ready(Err(Error::RunFinished))), "{ended:?}");
    run(async || {
        let ended = in_another.as_mut().await;
        assert!(matches!(ended, Err(Error::RunFinished)), "{ended:?}");
        Ok(())
    });
    assert_eq!((parked.seen(), paused.seen()), ((1, true), (0, true)));
}

#[trine::test(kernel = "both")]
fn polled_after_its_end_it_panics() {
    run(async || {
        let cancelled = CancelScope::new();
        cancelled.cancel();
        let mut waits = [Box::pin(cancellable(ready(7))), Box::pin(cancellable(ready(8)))];
        assert_eq!(waits[0].as_mut().await?, 7);
        assert!(cancelled.run(async |_| waits[1].as_mut().await).await?.is_none());
        assert_nothing_left();
        for mut wait in waits {
            let polled = AssertUnwindSafe(|| poll_with(wait.as_mut(), Waker::noop()).is_ready());
            let thrown = text(&*catch_unwind(polled).unwrap_err());
            assert_eq!(thrown, "a future made cancellable is not polled after its end");
        }
        Ok(())
    });
}

// P4: what nothing can wake is found.
#[trine::test(kernel = "both")]
fn one_that_nothing_can_wake_is_a_deadlock() {
    let ended = common::within(20, || {
        Builder::new().detect_deadlock(true).run(async || cancellable(pending::<()>()).await)
    });
    assert!(matches!(ended, Err(Error::Deadlock(_))), "{ended:?}");
}
