//! Conditions: waiting for a change of what a mutex guards.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::task::Poll;

use futures::{FutureExt, join, pin_mut, poll, select_biased};
use trine::sync::{Condition, Locked, Mutex, MutexGuard, Refused};
use trine::time::sleep_forever;
use trine::{CancelScope, Error, Result, checkpoint, nursery, shield};

use crate::common::wakers::{Bell, poll_with, thrown};
use crate::common::{fewer, turns};
use crate::{Waiter, is_poisoned, shown, would_block};

type Waits<'a> = Waiter<'a, MutexGuard<'a, u32>>;

/// A wait whose error has lost its guard.
async fn bare<'a>(wait: impl Future<Output = Locked<'a, u32>>) -> Result<MutexGuard<'a, u32>> {
    Ok(wait.await?)
}

/// One that waits to be notified.
async fn waiting<'a>(condition: &'a Condition, mutex: &'a Mutex<u32>) -> Waits<'a> {
    let guard = mutex.lock().await.expect("nobody has it");
    Waiter::waiting(bare(condition.wait(guard))).await
}

fn assert_untouched(condition: &Condition, mutex: &Mutex<u32>) {
    assert_eq!(condition.statistics().waiting, 0);
    assert_eq!((mutex.statistics().held, mutex.statistics().waiting), (false, 0));
}

// While it waits the lock is free; notified, it has it again.
#[trine::test(kernel = "both")]
async fn a_wait_gives_the_lock_away_and_comes_back_with_it() -> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    let mut waiter = waiting(&condition, &mutex).await;
    assert_eq!(condition.statistics().waiting, 1);
    *mutex.try_lock()? = 5;
    condition.notify_one();
    let guard = waiter.look().await.has();
    assert_eq!(*guard, 5);
    assert!(would_block(&mutex.try_lock()));
    drop(guard);
    assert_untouched(&condition, &mutex);
    Ok(())
}

// Nobody who waits later hears of it: a condition has no memory.
#[trine::test(kernel = "both")]
async fn a_notification_before_the_wait_is_lost() -> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    condition.notify_one();
    condition.notify_all();
    condition.notify(7);
    let mut waiter = waiting(&condition, &mutex).await;
    assert!(waiter.look().await.waits());
    condition.notify_one();
    drop(waiter.look().await.has());
    assert_untouched(&condition, &mutex);
    Ok(())
}

// J7: the one that has waited longest, then so many, then all.
#[trine::test(kernel = "both")]
async fn waiters_are_notified_in_order() -> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    let mut waiters = Vec::new();
    for _ in 0..6 {
        waiters.push(waiting(&condition, &mutex).await);
    }
    condition.notify(0);
    assert_eq!(condition.statistics().waiting, 6);
    for (notifies, left) in [(1, 5), (2, 3), (usize::MAX, 0)] {
        match notifies {
            1 => condition.notify_one(),
            2 => condition.notify(2),
            _ => condition.notify_all(),
        }
        assert_eq!(condition.statistics().waiting, left);
        while waiters.len() > left {
            drop(waiters.remove(0).look().await.has());
        }
        for waiter in &mut waiters {
            assert!(waiter.look().await.waits());
        }
    }
    condition.notify(3);
    assert_untouched(&condition, &mutex);
    Ok(())
}

// J9: a cancelled wait takes the lock again, in a shield, before it says so, and brings it along.
#[trine::test(kernel = "both")]
async fn a_cancelled_wait_has_the_lock_again_before_it_says_so() -> Result {
    let (mutex, condition, scope) = (&Mutex::new(0), &Condition::new(), &CancelScope::new());
    let story = &RefCell::new(Vec::new());
    nursery(async |n| {
        n.spawn(async {
            let left = scope.run(async |_| {
                let guard = mutex.lock().await?;
                let Refused { error, request } = condition.wait(guard).await.unwrap_err();
                story.borrow_mut().push("refused");
                assert!(error.is_cancelled());
                let mut guard = request.expect("it comes with the lock");
                *guard += 1;
                assert!(would_block(&mutex.try_lock()));
                drop(guard);
                Err::<(), _>(error)
            });
            assert!(left.await?.is_none());
            Ok(())
        });
        while condition.statistics().waiting == 0 {
            checkpoint().await?;
        }
        let mut guard = mutex.lock().await?;
        scope.cancel();
        turns(3).await;
        // It waits for the lock, though its scope is cancelled.
        assert_eq!((condition.statistics().waiting, mutex.statistics().waiting), (0, 1));
        story.borrow_mut().push("unlocks");
        *guard = 10;
        drop(guard);
        Ok(())
    })
    .await?;
    assert_eq!(*story.borrow(), ["unlocks", "refused"]);
    assert_eq!(*mutex.lock().await?, 11);
    assert_untouched(condition, mutex);
    Ok(())
}

// A6, J9: in a cancelled scope it raises at once, and has never given the lock away.
#[trine::test(kernel = "both")]
async fn a_wait_in_a_cancelled_scope_keeps_the_lock() -> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    let scope = CancelScope::new();
    let left = scope.run(async |scope| {
        let guard = mutex.lock().await?;
        let mut later = Waiter::waiting(shield(mutex.lock())).await;
        scope.cancel();
        let refused = condition.wait(guard).now_or_never().expect("it does not wait");
        let refused = refused.unwrap_err();
        assert!(refused.request.is_some() && mutex.statistics().held);
        assert_eq!(condition.statistics().waiting, 0);
        assert!(later.look().await.waits());
        drop(later);
        // `?` turns it into an error, and unlocks.
        Err::<(), _>(refused.into())
    });
    assert!(left.await?.is_none());
    assert_untouched(&condition, &mutex);
    Ok(())
}

// J8: those who are cancelled or dropped while they wait are passed over.
#[trine::test(kernel = "both")]
async fn waiters_that_are_cancelled_or_dropped_are_passed_over() -> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    let mut cancelled = waiting(&condition, &mutex).await;
    let mut unaware = waiting(&condition, &mutex).await;
    let dropped = waiting(&condition, &mutex).await;
    let mut stays = waiting(&condition, &mutex).await;
    cancelled.cancel();
    assert!(cancelled.look().await.is_cancelled());
    unaware.cancel();
    drop(dropped);
    condition.notify_one();
    drop(stays.look().await.has());
    assert!(unaware.look().await.is_cancelled());
    assert_untouched(&condition, &mutex);
    Ok(())
}

// J2: a notification that nobody took goes to the next one; if there is none it is lost.
#[trine::test(kernel = "both")]
async fn the_notification_of_a_dropped_waiter_goes_to_the_next() -> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    let dropped = waiting(&condition, &mutex).await;
    let cancelled_and_dropped = waiting(&condition, &mutex).await;
    let mut stays = waiting(&condition, &mutex).await;
    let mut last = waiting(&condition, &mutex).await;
    condition.notify_one();
    drop(dropped);
    cancelled_and_dropped.cancel();
    drop(cancelled_and_dropped);
    drop(stays.look().await.has());
    assert!(last.look().await.waits());
    condition.notify_one();
    drop(last);
    assert_untouched(&condition, &mutex);
    Ok(())
}

// J2: also if it was polled in between, and waits for the lock: it has told nobody of it yet.
#[trine::test(kernel = "both")]
async fn the_notification_of_a_waiter_that_is_dropped_while_it_locks_again_goes_to_the_next()
-> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    let mut dropped = waiting(&condition, &mutex).await;
    let mut stays = waiting(&condition, &mutex).await;
    let guard = mutex.lock().await?;
    condition.notify_one();
    assert!(dropped.look().await.waits());
    assert_eq!((condition.statistics().waiting, mutex.statistics().waiting), (1, 1));
    drop(dropped);
    assert_eq!((condition.statistics().waiting, mutex.statistics().waiting), (0, 0));
    drop(guard);
    drop(stays.look().await.has());
    assert_untouched(&condition, &mutex);
    Ok(())
}

// J2: dropped when it was handed the lock too, it hands both on.
#[trine::test(kernel = "both")]
async fn a_waiter_that_is_dropped_with_the_notification_and_the_lock_hands_both_on() -> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    let mut dropped = waiting(&condition, &mutex).await;
    let mut stays = waiting(&condition, &mutex).await;
    let guard = mutex.lock().await?;
    condition.notify_one();
    assert!(dropped.look().await.waits());
    drop(guard);
    assert!(mutex.statistics().held);
    drop(dropped);
    drop(stays.look().await.has());
    assert_untouched(&condition, &mutex);
    Ok(())
}

// C4: who was notified and is cancelled then has been notified, before and while it locks again.
#[trine::test(kernel = "both")]
async fn a_waiter_that_is_cancelled_after_the_notification_has_it() -> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    let mut at_once = waiting(&condition, &mutex).await;
    condition.notify_one();
    at_once.cancel();
    drop(at_once.look().await.has());
    let mut later = waiting(&condition, &mutex).await;
    let mut other = waiting(&condition, &mutex).await;
    let guard = mutex.lock().await?;
    condition.notify_one();
    assert!(later.look().await.waits());
    later.cancel();
    assert!(later.look().await.waits(), "J9: it locks in a shield");
    drop(guard);
    drop(later.look().await.has());
    assert!(other.look().await.waits(), "the one notification was not spent twice");
    drop(other);
    assert_untouched(&condition, &mutex);
    Ok(())
}

// J9: one that was dropped has no lock and takes none.
#[trine::test(kernel = "both")]
async fn a_dropped_wait_holds_no_lock() -> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    drop(waiting(&condition, &mutex).await);
    assert_untouched(&condition, &mutex);
    // One that was never polled has the lock until it is dropped.
    let wait = condition.wait(mutex.lock().await?);
    assert!(mutex.statistics().held);
    drop(wait);
    assert_untouched(&condition, &mutex);
    Ok(())
}

// A queue with two conditions: all that is put in comes out, once, in order.
#[trine::test(kernel = "both", runs = 5)]
async fn a_bounded_queue_of_two_conditions_loses_nothing() -> Result {
    const ITEMS: usize = fewer(200, 12);
    let queue = &Mutex::new(Vec::new());
    let (filled, emptied) = (&Condition::new(), &Condition::new());
    let got = nursery(async |n| {
        n.spawn(async {
            for item in 0..ITEMS {
                let guard = queue.lock().await?;
                let mut guard = emptied.wait_while(guard, |queue| queue.len() == 3).await?;
                guard.push(item);
                filled.notify_one();
            }
            Ok(())
        });
        let mut got = Vec::new();
        while got.len() < ITEMS {
            let guard = queue.lock().await?;
            let mut guard = filled.wait_while(guard, |queue| queue.is_empty()).await?;
            got.push(guard.remove(0));
            emptied.notify_one();
        }
        Ok(got)
    });
    assert_eq!(got.await?, (0..ITEMS).collect::<Vec<_>>());
    Ok(())
}

// It looks before it waits, and after each notification, and says of a cancellation.
#[trine::test(kernel = "both")]
async fn wait_while_waits_as_long_as_it_has_to() -> Result {
    let (mutex, condition, looks) = (Mutex::new(0), Condition::new(), Cell::new(0));
    let is_wrong = |value: &mut u32| {
        looks.set(looks.get() + 1);
        *value < 2
    };
    let guard = mutex.lock().await?;
    let mut waiter = Waiter::waiting(bare(condition.wait_while(guard, is_wrong))).await;
    for _ in 0..2 {
        condition.notify_all();
        assert!(waiter.look().await.waits());
    }
    assert_eq!(looks.get(), 3);
    *mutex.lock().await? = 2;
    assert!(waiter.look().await.waits(), "nobody has notified it");
    condition.notify_one();
    let guard = waiter.look().await.has();
    // What is right needs no notification.
    let guard = condition.wait_while(guard, is_wrong).await?;
    assert_eq!((*guard, looks.get()), (2, 5));
    let mut waiter = Waiter::waiting(bare(condition.wait_while(guard, |_| true))).await;
    waiter.cancel();
    assert!(waiter.look().await.is_cancelled());
    assert_untouched(&condition, &mutex);
    Ok(())
}

// N20: if the lock was poisoned meanwhile there is no guard to come back with.
#[trine::test(kernel = "both")]
async fn a_wait_for_a_poisoned_mutex_comes_back_without_the_lock() -> Result {
    let (mutex, condition) = (&Mutex::new(0), &Condition::new());
    let mut notified = [waiting(condition, mutex).await, waiting(condition, mutex).await];
    let scope = CancelScope::new();
    let left = scope.run(async |scope| {
        let guard = mutex.lock().await?;
        let cancelled = condition.wait(guard).fuse();
        pin_mut!(cancelled);
        select_biased! {
            ended = cancelled => panic!("nobody has notified it: {ended:?}"),
            () = turns(1).fuse() => {}
        }
        let told = thrown(nursery::<(), _>(async |n| {
            n.spawn(async {
                let _guard = mutex.lock().await?;
                panic!("half-way")
            });
            sleep_forever().await
        }));
        assert_eq!(told.await, "half-way");
        scope.cancel();
        let Refused { error, request } = cancelled.await.unwrap_err();
        assert!(error.is_cancelled() && request.is_none());
        Err::<(), _>(error)
    });
    assert!(left.await?.is_none());
    // J2: who fails has not taken the notification, and it goes to the next one, who fails too.
    condition.notify_one();
    for waiter in &mut notified {
        assert!(matches!(poll!(&mut waiter.wait), Poll::Ready(Err(Error::Poisoned(_)))));
    }
    assert!(is_poisoned(&mutex.lock().await));
    assert_untouched(condition, mutex);
    Ok(())
}

// Branches of one task: one waits, the other notifies it.
#[trine::test(kernel = "both")]
async fn a_task_notifies_itself_in_another_branch() -> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    let waits = async {
        let guard = mutex.lock().await?;
        Ok::<_, Error>(*condition.wait_while(guard, |value| *value == 0).await?)
    };
    let changes = async {
        *mutex.lock().await? = 3;
        condition.notify_one();
        Ok::<_, Error>(())
    };
    let (waited, changed) = join!(waits, changes);
    changed?;
    assert_eq!(waited?, 3);
    assert_untouched(&condition, &mutex);
    Ok(())
}

// P2: a waker that panics does not keep the others from being notified.
#[trine::test(kernel = "both")]
async fn a_waker_that_panics_keeps_nobody_from_being_notified() -> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    for notifies_all in [true, false] {
        // With as many operations ahead as a task has in a turn (rule A2).
        turns(1).await;
        let mut waits = Vec::new();
        for place in 0..3 {
            let (bell, waker) = Bell::new(place == 0);
            let mut wait = Box::pin(condition.wait(mutex.lock().await?));
            assert!(poll_with(wait.as_mut(), &waker).is_pending());
            waits.push((bell, wait));
        }
        let notify = || if notifies_all { condition.notify_all() } else { condition.notify(3) };
        assert_eq!(thrown(async { notify() }).await, "a waker panics");
        for (bell, wait) in waits {
            assert_eq!(bell.rung(), 1);
            drop(wait.await?);
        }
    }
    assert_untouched(&condition, &mutex);
    Ok(())
}

#[trine::test(kernel = "both")]
async fn a_condition_shows_itself() -> Result {
    let (mutex, condition) = (Mutex::new(0), Condition::default());
    let _waiter = waiting(&condition, &mutex).await;
    assert_eq!(shown(&condition), "Condition { waiting: 1 }");
    assert_eq!(shown(&condition.statistics()), "ConditionStatistics { waiting: 1 }");
    Ok(())
}
