//! Unwinding always ends, whatever the cancelled do (section F+).

mod common;
#[path = "unwinding/wakers.rs"]
mod wakers;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::ops::{AsyncFnOnce, RangeInclusive};
use std::panic::Location;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, poll, select};
use trine::net::TcpListener;
use trine::sync::Event;
use trine::time::{sleep, sleep_forever};
use trine::{
    Builder, CancelScope, Result, checkpoint, checkpoint_if_cancelled, is_cancelled, move_on_after,
    nop, nursery, shield, shield_for, stats, yield_shielded,
};

use common::{PATIENCE, fewer, in_kernel, pair};

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(2);

/// How many cancellations a task swallows before it is dropped: some come to it in other ways than by
/// what it counts.
const SWALLOWED: RangeInclusive<u32> = PATIENCE - PATIENCE / 10..=PATIENCE + 1;
/// The same for one that waits in between.
const SWALLOWED_WAITING: RangeInclusive<u32> = *SWALLOWED.start()..=PATIENCE + 10;

/// Runs a test. What nothing can wake any more is an error here, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(10, || Builder::new().detect_deadlock_strictly(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// Waits for something that trine knows nothing of, and that never comes.
async fn foreign() -> Result {
    pending().await
}

/// Runs `clean_up` in a child, cancels it, and says what it counted until it ended and whether it was
/// dropped.
fn cancelled_child(clean_up: impl AsyncFn(&Cell<u32>)) -> (u32, bool) {
    run(async || {
        let count = &Cell::new(0);
        let clean_up = &clean_up;
        let left = move_on_after(LONG, async |scope| {
            nursery(async |n| {
                n.spawn(async move {
                    clean_up(count).await;
                    Ok(())
                });
                // By now it has come to where it waits.
                for _ in 0..fewer(8, 5) {
                    checkpoint().await?;
                }
                scope.cancel();
                Ok(())
            })
            .await
        });
        left.await?;
        let dropped = stats().abandoned > 0;
        assert_eq!((stats().in_kernel, stats().scopes, stats().timers), (0, 1, 0));
        Ok((count.get(), dropped))
    })
}

/// As above, for one that is to be dropped.
#[track_caller]
fn rounds_until_dropped(swallow: impl AsyncFn(&Cell<u32>)) -> u32 {
    let (rounds, dropped) = cancelled_child(swallow);
    assert!(dropped, "it ended by itself after {rounds} rounds");
    rounds
}

/// As above, for one that is to come to its end.
#[track_caller]
fn steps_to_the_end(clean_up: impl AsyncFn(&Cell<u32>)) -> u32 {
    let (steps, dropped) = cancelled_child(clean_up);
    assert!(!dropped, "it was dropped after {steps} steps");
    steps
}

// F14: from the 1,000th `Cancelled` in a row on.
#[trine::test(kernel = "both")]
fn a_child_that_swallows_its_cancellation_holds_no_scope_open() {
    let accepting = rounds_until_dropped(async |rounds| {
        let listener = shield(TcpListener::bind("127.0.0.1:0")).await.unwrap();
        loop {
            let _ = listener.accept().await;
            rounds.set(rounds.get() + 1);
        }
    });
    assert!(SWALLOWED.contains(&accepting), "accept: {accepting}");
    let nursing = rounds_until_dropped(async |rounds| {
        loop {
            let _ = nursery(async |n| {
                n.spawn(async { sleep_forever().await });
                Ok(())
            })
            .await;
            rounds.set(rounds.get() + 1);
        }
    });
    assert!(SWALLOWED.contains(&nursing), "a nursery's child: {nursing}");
    let nursing = rounds_until_dropped(async |rounds| {
        loop {
            let _ = nursery(async |_| sleep_forever().await).await;
            rounds.set(rounds.get() + 1);
        }
    });
    assert!(SWALLOWED.contains(&nursing), "a nursery's body: {nursing}");
    let timing = rounds_until_dropped(async |rounds| {
        loop {
            let _ = move_on_after(LONG, async |_| sleep_forever().await).await;
            rounds.set(rounds.get() + 1);
        }
    });
    assert!(SWALLOWED.contains(&timing), "move_on_after: {timing}");
}

// F14: across polls, and schedule points neither count nor set back.
#[trine::test(kernel = "both")]
fn a_child_that_swallows_its_cancellation_and_yields_holds_no_scope_open() {
    let pausing = rounds_until_dropped(async |rounds| {
        loop {
            let _ = checkpoint().await;
            rounds.set(rounds.get() + 1);
        }
    });
    assert!(SWALLOWED_WAITING.contains(&pausing), "checkpoint: {pausing}");
    let yielding = rounds_until_dropped(async |rounds| {
        loop {
            let _ = checkpoint_if_cancelled().await;
            yield_shielded().await;
            rounds.set(rounds.get() + 1);
        }
    });
    assert!(SWALLOWED_WAITING.contains(&yielding), "yield_shielded: {yielding}");
}

// F14: also where nothing of it is a child: a scope's body, and a scope in a scope.
#[trine::test(kernel = "both")]
fn a_body_that_swallows_its_cancellation_holds_its_scope_no_longer() {
    run(async || {
        let rounds = Cell::new(0);
        let outer = CancelScope::new();
        let left = outer.run(async |outer| {
            outer.cancel();
            loop {
                let _ = move_on_after(LONG, async |_| {
                    loop {
                        let _ = checkpoint().await;
                        rounds.set(rounds.get() + 1);
                    }
                    #[expect(unreachable_code, reason = "says what the body would return")]
                    Ok(())
                })
                .await;
            }
            #[expect(unreachable_code, reason = "says what the body would return")]
            Ok(())
        });
        assert!(left.await?.is_none());
        assert!(SWALLOWED_WAITING.contains(&rounds.get()), "{}", rounds.get());
        sleep(Duration::ZERO).await?;
        nop().await
    });
}

// F14: the handle of a child that has failed says so for ever; that is no way out either.
#[trine::test(kernel = "both")]
fn a_child_that_asks_a_dead_sibling_over_and_over_holds_no_scope_open() {
    let asked = rounds_until_dropped(async |asked| {
        let ended = nursery(async |n| {
            let mut handle = n.fork(async { Ok(7) });
            assert_eq!((&mut handle).await?, 7);
            while asked.get() < 10 * PATIENCE {
                let _ = (&mut handle).await;
                asked.set(asked.get() + u32::from(is_cancelled()));
            }
            Ok(())
        });
        let _ = ended.await;
    });
    assert!(asked < 10 * PATIENCE);
}

// F14: whoever handles a cancellation and leaves the cancelled scope swallows nothing.
#[trine::test(kernel = "both")]
fn a_task_that_handles_a_thousand_timeouts_inside_their_scopes_is_left_alone() {
    run(async || {
        for round in 0..PATIENCE + PATIENCE / 2 {
            let handled = async |_: &CancelScope| Ok(sleep_forever().await.is_err());
            let left = move_on_after(Duration::ZERO, handled).await?;
            assert_eq!(left, Some(true), "round {round}");
        }
        assert_eq!(stats().abandoned, 0);
        Ok(())
    });
}

// F14: an operation that succeeds sets the count back, so long clean-up is no offence.
#[trine::test(kernel = "both")]
fn a_child_that_gets_something_done_between_cancellations_is_left_alone() {
    const ROUNDS: u32 = fewer(3, 2) * PATIENCE;
    let rounds = steps_to_the_end(async |rounds| {
        for _ in 0..ROUNDS {
            let _ = checkpoint_if_cancelled().await;
            let _ = checkpoint_if_cancelled().await;
            if rounds.get() % fewer(100, 5) == 0 {
                shield(nop()).await.unwrap();
            }
            rounds.set(rounds.get() + 1);
        }
        let _ = sleep_forever().await;
    });
    assert_eq!(rounds, ROUNDS);
}

// F14: many waits of one task are not one that is swallowed again and again, even if each goes on a little.
#[trine::test(kernel = "both")]
fn a_task_with_many_waits_unwinds_all_of_them() {
    const MANY: u32 = PATIENCE + PATIENCE / 2;
    let unwound = steps_to_the_end(async |unwound| {
        let event = Event::new();
        let one = async |number: u32| {
            for _ in 0..2 {
                let wait = async {
                    if number % 2 == 0 { event.wait().await } else { sleep_forever().await }
                };
                assert!(wait.await.unwrap_err().is_cancelled());
            }
            unwound.set(unwound.get() + 1);
        };
        join_all((0..MANY).map(one)).await;
    });
    assert_eq!(unwound, MANY);
}

// F14, M2: `close` does not count.
#[trine::test(kernel = "both")]
fn a_clean_up_with_1_001_cancelled_closes_is_not_cut_off() {
    const AT_ONCE: u32 = PATIENCE / 7 + 1;
    let closed = steps_to_the_end(async |closed| {
        let mut sockets = Vec::new();
        for _ in 0..AT_ONCE {
            sockets.push(shield(TcpListener::bind("127.0.0.1:0")).await.unwrap());
        }
        let _ = sleep_forever().await;
        for _ in 0..7 {
            for socket in std::mem::take(&mut sockets) {
                assert!(socket.close().await.unwrap_err().is_cancelled());
                closed.set(closed.get() + 1);
            }
            for _ in 0..AT_ONCE {
                // In a shield nothing is delivered, and binding is no operation that succeeds.
                sockets.push(shield(TcpListener::bind("127.0.0.1:0")).await.unwrap());
            }
        }
    });
    assert_eq!(closed, 7 * AT_ONCE);
}

// F14: and does not set back.
#[trine::test(kernel = "both")]
fn closing_something_now_and_then_is_no_excuse_for_swallowing() {
    let rounds = rounds_until_dropped(async |rounds| {
        while rounds.get() < 10 * PATIENCE {
            // In a shield nothing is delivered, and binding is no operation that succeeds.
            let socket = shield(TcpListener::bind("127.0.0.1:0")).await.unwrap();
            let _ = checkpoint_if_cancelled().await;
            let _ = socket.close().await;
            rounds.set(rounds.get() + u32::from(is_cancelled()));
        }
    });
    assert!(SWALLOWED.contains(&rounds), "{rounds}");
}

// F14, A2: a swallowed shield with a deadline that has passed is no way to live for ever.
#[trine::test(kernel = "both")]
fn a_child_that_hides_in_expired_shields_does_not_stop_the_run() {
    let rounds = rounds_until_dropped(async |rounds| {
        while rounds.get() < 200 * PATIENCE {
            let _ = checkpoint_if_cancelled().await;
            let _ = shield_for(Duration::ZERO, async |_| sleep_forever().await).await;
            rounds.set(rounds.get() + 1);
        }
    });
    assert!(rounds < 200 * PATIENCE, "it swallowed as many");
}

// F13: waiting for something foreign only, however it is wrapped.
#[trine::test(kernel = "both")]
fn a_cancelled_child_that_waits_for_something_foreign_is_dropped() {
    let dropped_while = |wait: &dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>| {
        assert_eq!(rounds_until_dropped(async |_| wait().await), 0);
    };
    dropped_while(&|| Box::pin(pending()));
    dropped_while(&|| Box::pin(async { futures::join!(pending::<()>(), pending::<()>()).0 }));
    dropped_while(&|| {
        Box::pin(async {
            let mut foreign = pin!(pending::<()>().fuse());
            select! { () = foreign => (), _ = pin!(pending::<()>().fuse()) => () }
        })
    });
    dropped_while(&|| {
        Box::pin(async {
            let mut all: FuturesUnordered<_> = (0..3).map(|_| pending::<()>()).collect();
            all.next().await;
        })
    });
    dropped_while(&|| {
        Box::pin(async { drop(move_on_after(LONG, async |_| foreign().await).await) })
    });
    dropped_while(&|| Box::pin(async { drop(nursery(async |_| foreign().await).await) }));
    dropped_while(&|| {
        Box::pin(async {
            let ended = nursery(async |n| {
                n.spawn(foreign());
                Ok(())
            });
            drop(ended.await);
        })
    });
}

// F13: an operation of ours ends first, and its end is what makes the rest be looked at.
#[trine::test(kernel = "both")]
fn a_child_that_waits_for_an_operation_and_for_something_foreign_is_dropped_after_the_operation() {
    for unordered in [false, true] {
        let ended = rounds_until_dropped(async |ended| {
            let (_client, server) = shield(pair()).await.unwrap();
            let receive = async {
                assert!(server.recv().await.unwrap_err().is_cancelled());
                ended.set(ended.get() + 1);
            };
            if unordered {
                let both: FuturesUnordered<Pin<Box<dyn Future<Output = ()>>>> =
                    FuturesUnordered::new();
                both.push(Box::pin(pending()));
                let mut both = both;
                let mut receive = pin!(receive.fuse());
                loop {
                    select! { () = receive => (), _ = both.next() => () }
                }
            }
            futures::join!(receive, pending::<()>());
        });
        assert_eq!(ended, 1);
    }
}

// F13: when the last operation of a cancelled body ends, the body is looked at, whoever was woken.
#[test]
fn a_body_whose_operation_wakes_nobody_is_dropped_when_it_has_ended() {
    let wakes_nobody = async |scoped: bool| {
        let (_client, server) = shield(pair()).await.unwrap();
        let wait = async || {
            let mut receive = pin!(server.recv());
            let mut cx = Context::from_waker(Waker::noop());
            assert!(receive.as_mut().poll(&mut cx).is_pending());
            foreign().await
        };
        let _ended = match scoped {
            true => move_on_after(LONG, async |_| wait().await).await.map(drop),
            false => wait().await,
        };
    };
    rounds_until_dropped(async |_| wakes_nobody(false).await);
    rounds_until_dropped(async |_| wakes_nobody(true).await);
}

// F13: cancellation reaches every operation behind other people's combinators.
#[trine::test(kernel = "both")]
fn operations_behind_select_and_futures_unordered_are_all_cancelled() {
    let cancelled = steps_to_the_end(async |cancelled| {
        let listeners: Vec<_> =
            futures::future::join_all((0..5).map(|_| TcpListener::bind("127.0.0.1:0")))
                .await
                .into_iter()
                .map(Result::unwrap)
                .collect();
        let mut all: FuturesUnordered<_> =
            listeners.iter().map(|l| move_on_after(LONG, async |_| l.accept().await)).collect();
        let mut asleep = pin!(sleep_forever().fuse());
        loop {
            select! {
                ended = all.next() => match ended {
                    Some(ended) => assert!(ended.unwrap_err().is_cancelled()),
                    None => break,
                },
                ended = asleep => assert!(ended.unwrap_err().is_cancelled()),
            }
            cancelled.set(cancelled.get() + 1);
        }
    });
    assert!((5..=6).contains(&cancelled), "{cancelled}");
}

// F13: children count as a wait where somebody polls them. Nobody polls these any more.
#[trine::test(kernel = "both")]
fn a_nursery_that_is_kept_and_not_polled_holds_no_cancelled_task_open() {
    rounds_until_dropped(async |_| {
        let mut kept = pin!(nursery(async |n| {
            n.spawn(async { sleep_forever().await });
            sleep_forever().await
        }));
        assert!(poll!(kept.as_mut()).is_pending());
        yield_shielded().await;
        assert!(poll!(kept.as_mut()).is_pending());
        let _ = foreign().await;
    });
}

// F13: the same, where the kernel lets go of the last of them long after everybody was woken.
#[trine::test(kernel = "both")]
fn a_kept_nursery_with_operations_in_the_kernel_holds_no_cancelled_task_open() {
    rounds_until_dropped(async |_| {
        let (listener, other) = &shield(async {
            let listeners = [TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0")];
            let [one, other] = listeners;
            (one.await.unwrap(), other.await.unwrap())
        })
        .await;
        let mut kept = pin!(nursery(async |n| {
            n.spawn(async { listener.accept().await.map(drop) });
            n.spawn(async {
                nursery(async |inner| {
                    inner.spawn(async { other.accept().await.map(drop) });
                    sleep_forever().await
                })
                .await
            });
            sleep_forever().await
        }));
        while stats().in_kernel < 2 {
            assert!(poll!(kept.as_mut()).is_pending());
            yield_shielded().await;
        }
        assert!(poll!(kept.as_mut()).is_pending());
        let _ = foreign().await;
    });
}

// F14: a foreign future that wakes itself for ever while it is cancelled.
#[trine::test(kernel = "both")]
fn a_cancelled_child_that_keeps_waking_itself_is_dropped() {
    let polls = rounds_until_dropped(async |polls| {
        poll_fn(|cx| {
            if is_cancelled() {
                polls.set(polls.get() + 1);
            }
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })
        .await;
    });
    assert!(SWALLOWED_WAITING.contains(&polls), "{polls}");
}

// F14: the same in a scope's body of its own, behind another waker.
#[trine::test(kernel = "both")]
fn a_cancelled_body_that_keeps_waking_itself_is_dropped() {
    run(async || {
        let polls = &Cell::new(0);
        let mut all = FuturesUnordered::new();
        all.push(move_on_after(MOMENT, async |_| {
            poll_fn(|cx| {
                polls.set(polls.get() + u32::from(is_cancelled()));
                cx.waker().wake_by_ref();
                Poll::<Result>::Pending
            })
            .await
        }));
        assert!(all.next().await.expect("one")?.is_none());
        assert!(SWALLOWED_WAITING.contains(&polls.get()), "{}", polls.get());
        Ok(())
    });
}

// F14: a foreign future that wakes itself and gets somewhere is left alone.
#[trine::test(kernel = "both")]
fn a_cancelled_child_that_wakes_itself_a_few_times_and_ends_is_not_dropped() {
    let polls = steps_to_the_end(async |polls| {
        poll_fn(|cx| {
            polls.set(polls.get() + u32::from(is_cancelled()));
            cx.waker().wake_by_ref();
            if polls.get() < PATIENCE / 2 { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        polls.set(polls.get() + 1);
        let _ = sleep_forever().await;
    });
    assert_eq!(polls, PATIENCE / 2 + 1);
}

// F13: a poll that began before the sweep proves nothing, and the one running is woken as well.
#[trine::test(kernel = "both")]
fn a_body_that_cancels_itself_in_its_first_poll_and_then_waits_for_something_foreign_is_dropped() {
    run(async || {
        let left = move_on_after(LONG, async |scope| {
            scope.cancel();
            foreign().await
        });
        assert!(left.await?.is_none());
        Ok(())
    });
}

// F13: the same in a later poll.
#[trine::test(kernel = "both")]
fn a_body_that_cancels_itself_and_then_waits_for_something_foreign_is_dropped() {
    run(async || {
        let left = move_on_after(LONG, async |scope| {
            checkpoint().await?;
            scope.cancel();
            foreign().await
        });
        assert!(left.await?.is_none());
        Ok(())
    });
}

// F13: the same where a nursery or a combinator polls.
#[trine::test(kernel = "both")]
fn whoever_cancels_the_scope_it_runs_in_and_then_waits_for_something_foreign_is_dropped() {
    run(async || {
        let scope = &CancelScope::new();
        let body = scope.run(async |_| {
            nursery(async |_| {
                scope.cancel();
                foreign().await
            })
            .await
        });
        assert!(body.await?.is_none(), "a nursery's body");
        let scope = &CancelScope::new();
        let child = scope.run(async |_| {
            nursery(async |n| {
                n.spawn(async move {
                    scope.cancel();
                    foreign().await
                });
                Ok(())
            })
            .await
        });
        assert!(child.await?.is_none(), "a child");
        for first_waits in [true, false] {
            let scope = &CancelScope::new();
            let unordered = scope.run(async |_| {
                let mut all = FuturesUnordered::new();
                all.push(async {
                    if first_waits {
                        checkpoint().await?;
                    }
                    scope.cancel();
                    foreign().await
                });
                all.next().await.expect("one")
            });
            assert!(unordered.await?.is_none(), "a combinator that waits first: {first_waits}");
        }
        Ok(())
    });
}

// F13: a task that a sibling has woken meanwhile is not stuck.
#[trine::test(kernel = "both")]
fn a_cancelled_child_that_a_sibling_has_just_woken_gets_what_was_sent() {
    run(async || {
        let got = &Cell::new(None);
        let (sender, receiver) = futures::channel::oneshot::channel();
        let left = move_on_after(LONG, async |scope| {
            nursery(async |n| {
                n.spawn(async move {
                    got.set(receiver.await.ok());
                    Ok(())
                });
                checkpoint().await?;
                checkpoint().await?;
                scope.cancel();
                sender.send(7).expect("it waits");
                Ok(())
            })
            .await
        });
        left.await?;
        assert_eq!(got.get(), Some(7));
        Ok(())
    });
}

// F13: clean-up that waits for a foreign channel goes into `shield_for`, and is not dropped there.
#[trine::test(kernel = "both")]
fn a_shielded_task_that_waits_for_a_sibling_over_a_foreign_channel_is_not_dropped() {
    run(async || {
        let got = &Cell::new(None);
        let (sender, receiver) = futures::channel::oneshot::channel();
        let left = move_on_after(LONG, async |scope| {
            nursery(async |n| {
                n.spawn(async move {
                    let cancelled = sleep_forever().await;
                    let received = shield_for(LONG, async |_| Ok(receiver.await.ok())).await?;
                    got.set(received.flatten());
                    cancelled
                });
                n.spawn(async move {
                    let cancelled = sleep_forever().await;
                    shield(sleep(MOMENT)).await?;
                    sender.send(7).expect("it waits");
                    cancelled
                });
                checkpoint().await?;
                checkpoint().await?;
                scope.cancel();
                Ok(())
            })
            .await
        });
        assert!(left.await?.is_none());
        assert_eq!((got.get(), stats().abandoned), (Some(7), 0));
        Ok(())
    });
}

// F13, G3: and when the shield's own time is over, it is dropped after all.
#[trine::test(kernel = "both")]
fn a_shielded_task_that_waits_for_something_foreign_is_dropped_at_the_shields_deadline() {
    let (cleaned, dropped) = cancelled_child(async |cleaned| {
        let _ = sleep_forever().await;
        let waited = shield_for(MOMENT, async |_| foreign().await).await;
        assert!(waited.unwrap().is_none());
        cleaned.set(cleaned.get() + 1);
    });
    assert_eq!((cleaned, dropped), (1, true));
}

// F13: schedule points, children and orphans are waits of its own: nothing of value is dropped.
#[trine::test(kernel = "both")]
fn a_cancelled_task_that_yields_or_joins_is_not_taken_for_stuck() {
    let steps = steps_to_the_end(async |steps| {
        let (_client, server) = shield(pair()).await.unwrap();
        let _ = sleep_forever().await;
        for _ in 0..fewer(2 * PATIENCE, PATIENCE + 2) {
            yield_shielded().await;
        }
        steps.set(1);
        let joined = nursery(async |n| {
            n.spawn(shield(sleep(MOMENT)));
            Ok(7)
        });
        assert_eq!(joined.await.unwrap(), 7);
        steps.set(2);
        let left = shield_for(LONG, async |_| {
            let mut receive = Box::pin(server.recv());
            assert!(poll!(receive.as_mut()).is_pending());
            in_kernel(1).await
        });
        assert!(left.await.unwrap().is_some());
        steps.set(3);
    });
    assert_eq!(steps, 3);
}

// F15: what was dropped is reported, with the place where it was spawned.
#[trine::test(kernel = "both")]
fn tasks_that_had_to_be_dropped_are_reported() {
    let reported: Rc<RefCell<Vec<&'static Location<'static>>>> = Rc::default();
    let report = Rc::clone(&reported);
    let builder = Builder::new().on_abandoned(move |at| report.borrow_mut().push(at));
    let spawned = Cell::new(0);
    let scoped = common::within(10, || {
        builder.run(async || {
            let left = move_on_after(LONG, async |scope| {
                nursery(async |n| {
                    spawned.set(line!() + 1);
                    n.spawn(pending());
                    n.spawn(async { sleep_forever().await });
                    checkpoint().await?;
                    scope.cancel();
                    Ok(())
                })
                .await
            });
            assert!(left.await?.is_none());
            assert_eq!(stats().abandoned, 1);
            let scoped = line!() + 1;
            let left = move_on_after(MOMENT, async |_| foreign().await);
            assert!(left.await?.is_none());
            assert_eq!(stats().abandoned, 2);
            Ok(scoped)
        })
    });
    let places: Vec<_> = reported.borrow().iter().map(|at| (at.file(), at.line())).collect();
    assert_eq!(places, [(file!(), spawned.get()), (file!(), scoped.unwrap())]);
}
