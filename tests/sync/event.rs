//! Events: what has happened stays so.

use std::cell::Cell;
use std::pin::pin;

use futures::{FutureExt, select_biased};
use trine::sync::Event;
use trine::time::sleep_forever;
use trine::{CancelScope, Result, checkpoint, nursery};

use crate::common::wakers::{Bell, poll_with, thrown};
use crate::common::{BUDGET, fewer, turns};
use crate::{Waiter, shown};

// J10: set wakes all who wait.
#[trine::test(kernel = "both")]
async fn all_who_wait_are_woken() -> Result {
    const CROWD: usize = fewer(1_000, 10);
    let (event, woken) = (&Event::new(), &Cell::new(0));
    nursery(async |n| {
        for _ in 0..CROWD {
            n.spawn(async {
                event.wait().await?;
                assert!(event.is_set());
                woken.set(woken.get() + 1);
                Ok(())
            });
        }
        while event.statistics().waiting < CROWD {
            checkpoint().await?;
        }
        assert!(!event.is_set());
        assert_eq!(woken.get(), 0);
        event.set();
        assert_eq!(event.statistics().waiting, 0);
        Ok(())
    })
    .await?;
    assert_eq!(woken.get(), CROWD);
    Ok(())
}

// J10: who comes later does not wait. A3: setting it a second time changes nothing.
#[trine::test(kernel = "both")]
async fn whoever_comes_later_does_not_wait() -> Result {
    let event = Event::new();
    event.set();
    event.set();
    Waiter::new(event.wait()).look().await.has();
    event.wait().await?;
    assert!(event.is_set());
    assert_eq!(event.statistics().waiting, 0);
    Ok(())
}

// A2, J10: a loop over an event that is set lets others run.
#[trine::test(kernel = "both")]
async fn waiting_again_and_again_for_what_has_happened_lets_other_tasks_run() -> Result {
    let (event, others) = (Event::new(), &Cell::new(0));
    event.set();
    nursery(async |n| {
        n.spawn_daemon(async {
            loop {
                checkpoint().await?;
                others.set(others.get() + 1);
            }
        });
        for _ in 0..4 * BUDGET {
            event.wait().await?;
        }
        assert!(others.get() >= 2, "{} turns of others", others.get());
        Ok(())
    })
    .await
}

// A6, J10: also an event that is set is a cancel point.
#[trine::test(kernel = "both")]
async fn waiting_in_a_cancelled_scope_raises_whether_it_is_set_or_not() -> Result {
    let event = Event::new();
    for set in [false, true] {
        if set {
            event.set();
        }
        let mut waiter = Waiter::new(event.wait());
        waiter.cancel();
        assert!(waiter.look().await.is_cancelled());
        assert_eq!(event.statistics().waiting, 0);
    }
    Ok(())
}

// J8: those who are cancelled or dropped while they wait leave nothing, and keep nobody from being woken.
#[trine::test(kernel = "both")]
async fn waiters_that_are_cancelled_or_dropped_leave_nothing() -> Result {
    let event = Event::new();
    let mut cancelled = Waiter::waiting(event.wait()).await;
    let mut unaware = Waiter::waiting(event.wait()).await;
    let dropped = Waiter::waiting(event.wait()).await;
    let mut stays = Waiter::waiting(event.wait()).await;
    assert_eq!(event.statistics().waiting, 4);
    cancelled.cancel();
    assert!(cancelled.look().await.is_cancelled());
    drop(dropped);
    assert_eq!(event.statistics().waiting, 2);
    unaware.cancel();
    event.set();
    assert_eq!(event.statistics().waiting, 0);
    // It was cancelled before the event happened, and has not waited for it to the end.
    assert!(unaware.look().await.is_cancelled());
    stays.look().await.has();
    Ok(())
}

// C4: who was woken and is cancelled then has seen it happen; dropped, it keeps nothing from the others.
#[trine::test(kernel = "both")]
async fn waiters_that_were_woken_keep_that() -> Result {
    let event = Event::new();
    let mut cancelled = Waiter::waiting(event.wait()).await;
    let dropped = Waiter::waiting(event.wait()).await;
    let mut stays = Waiter::waiting(event.wait()).await;
    event.set();
    cancelled.cancel();
    drop(dropped);
    cancelled.look().await.has();
    stays.look().await.has();
    assert_eq!(event.statistics().waiting, 0);
    Ok(())
}

// B7: a task that waits for what never happens is cancelled.
#[trine::test(kernel = "both")]
async fn a_task_that_waits_is_cancelled() -> Result {
    let (event, scope) = (&Event::new(), &CancelScope::new());
    let raised = &Cell::new(false);
    nursery(async |n| {
        n.spawn(async {
            let left = scope.run(async |_| {
                let error = event.wait().await.unwrap_err();
                raised.set(error.is_cancelled());
                Err::<(), _>(error)
            });
            assert!(left.await?.is_none());
            Ok(())
        });
        turns(2).await;
        scope.cancel();
        Ok(())
    })
    .await?;
    assert!(raised.get());
    assert_eq!(event.statistics().waiting, 0);
    Ok(())
}

// P2: a waker that panics does not keep the others from being woken, and the panic comes out of `set`.
#[trine::test(kernel = "both")]
async fn a_waker_that_panics_keeps_nobody_from_being_woken() -> Result {
    let event = Event::new();
    let mut waits: Vec<_> = (0..3).map(|_| Box::pin(event.wait())).collect();
    let bells: Vec<_> = (0..3).map(|place| Bell::new(place == 1)).collect();
    for (wait, (_, waker)) in waits.iter_mut().zip(&bells) {
        assert!(poll_with(wait.as_mut(), waker).is_pending());
    }
    assert_eq!(thrown(async { event.set() }).await, "a waker panics");
    for (bell, _) in &bells {
        assert_eq!(bell.rung(), 1);
    }
    for wait in waits {
        wait.await?;
    }
    Ok(())
}

// J8: the branch of a `select!` that loses waits no more.
#[trine::test(kernel = "both")]
async fn the_branch_of_a_select_that_loses_leaves_nothing() -> Result {
    let (one, two) = (&Event::new(), &Event::new());
    nursery(async |n| {
        n.spawn(async {
            turns(2).await;
            two.set();
            Ok(())
        });
        let (mut first, mut second) = (pin!(one.wait().fuse()), pin!(two.wait().fuse()));
        select_biased! {
            ended = first => panic!("it was not set: {ended:?}"),
            ended = second => ended?,
        }
        Ok(())
    })
    .await?;
    assert!(!one.is_set());
    assert_eq!(one.statistics().waiting, 0);
    Ok(())
}

// An event may be dropped while nobody waits, and in a nursery it outlives whoever waits for it.
#[trine::test(kernel = "both")]
async fn children_wait_for_an_event_of_their_parent() -> Result {
    let event = &Event::new();
    let first = nursery(async |n| {
        for name in [1, 2] {
            n.spawn(async move {
                event.wait().await?;
                n.finish(name);
                sleep_forever().await
            });
        }
        event.set();
        sleep_forever().await?;
        Ok(0)
    });
    assert!([1, 2].contains(&first.await?));
    Ok(())
}

#[trine::test(kernel = "both")]
async fn an_event_shows_itself() -> Result {
    let event = Event::default();
    let waiter = Waiter::waiting(event.wait()).await;
    assert_eq!(shown(&event.statistics()), "EventStatistics { waiting: 1 }");
    let waiting = shown(&event);
    assert!(waiting.contains("false") && waiting.contains("1 waiting"), "{waiting}");
    event.set();
    drop(waiter);
    assert!(shown(&event).contains("true"));
    Ok(())
}
