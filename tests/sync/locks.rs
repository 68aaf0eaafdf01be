//! What all have in common that one task at a time can have: each state of a waiter, cancelled and
//! dropped, with each of the tools.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;

use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, join, poll, select_biased};
use trine::sync::{
    CapacityLimiter, Mutex, MutexGuard, Permit, RwLock, Semaphore, Token, WriteGuard,
};
use trine::{CancelScope, Result, checkpoint, checkpoint_if_cancelled, nursery, shield};

use crate::common::{BUDGET, PATIENCE, fewer, turns};
use crate::{Look, Waiter, would_block};

/// Something that one task at a time can have.
trait Lock {
    type Held<'a>
    where
        Self: 'a;

    fn free() -> Self;
    fn take(&self) -> impl Future<Output = Result<Self::Held<'_>>>;
    fn try_take(&self) -> Result<Self::Held<'_>>;
    fn is_free(&self) -> bool;
    fn waiting(&self) -> usize;

    /// J8: afterwards nobody has it, nobody waits for it, and the next one gets it.
    fn assert_untouched(&self) {
        assert!(self.is_free());
        assert_eq!(self.waiting(), 0);
        assert!(self.try_take().is_ok());
    }
}

impl Lock for Semaphore {
    type Held<'a> = Permit<'a>;

    fn free() -> Self {
        Semaphore::new(1)
    }
    fn take(&self) -> impl Future<Output = Result<Permit<'_>>> {
        self.acquire()
    }
    fn try_take(&self) -> Result<Permit<'_>> {
        self.try_acquire()
    }
    fn is_free(&self) -> bool {
        self.statistics().available == 1
    }
    fn waiting(&self) -> usize {
        self.statistics().waiting
    }
}

impl Lock for CapacityLimiter {
    type Held<'a> = Token<'a>;

    fn free() -> Self {
        CapacityLimiter::new(1)
    }
    fn take(&self) -> impl Future<Output = Result<Token<'_>>> {
        self.acquire()
    }
    fn try_take(&self) -> Result<Token<'_>> {
        self.try_acquire()
    }
    fn is_free(&self) -> bool {
        self.statistics().borrowed == 0
    }
    fn waiting(&self) -> usize {
        self.statistics().waiting
    }
}

impl Lock for Mutex<()> {
    type Held<'a> = MutexGuard<'a, ()>;

    fn free() -> Self {
        Mutex::default()
    }
    fn take(&self) -> impl Future<Output = Result<MutexGuard<'_, ()>>> {
        self.lock()
    }
    fn try_take(&self) -> Result<MutexGuard<'_, ()>> {
        self.try_lock()
    }
    fn is_free(&self) -> bool {
        !self.statistics().held
    }
    fn waiting(&self) -> usize {
        self.statistics().waiting
    }
}

impl Lock for RwLock<()> {
    type Held<'a> = WriteGuard<'a, ()>;

    fn free() -> Self {
        RwLock::default()
    }
    fn take(&self) -> impl Future<Output = Result<WriteGuard<'_, ()>>> {
        self.write()
    }
    fn try_take(&self) -> Result<WriteGuard<'_, ()>> {
        self.try_write()
    }
    fn is_free(&self) -> bool {
        !self.statistics().writer && self.statistics().readers == 0
    }
    fn waiting(&self) -> usize {
        self.statistics().waiting
    }
}

/// One test of a body for each tool.
macro_rules! with_each_lock {
    ($($(#[$rule:meta])* async fn $name:ident<L: Lock>($lock:ident: &L) -> Result $body:block)*) => {$(
        $(#[$rule])*
        mod $name {
            use super::*;

            async fn body<L: Lock>($lock: &L) -> Result $body

            #[trine::test(kernel = "both")]
            async fn semaphore() -> Result {
                body(&Semaphore::free()).await
            }

            #[trine::test(kernel = "both")]
            async fn limiter() -> Result {
                body(&CapacityLimiter::free()).await
            }

            #[trine::test(kernel = "both")]
            async fn mutex() -> Result {
                body(&Mutex::free()).await
            }

            #[trine::test(kernel = "both")]
            async fn rwlock() -> Result {
                body(&RwLock::free()).await
            }
        }
    )*};
}

/// So many that wait, in this order.
async fn three<L: Lock>(lock: &L) -> Vec<Waiter<'_, L::Held<'_>>> {
    let mut waiters = Vec::new();
    for _ in 0..3 {
        waiters.push(Waiter::waiting(lock.take()).await);
    }
    assert_eq!(lock.waiting(), 3);
    waiters
}

/// J7: those who wait get it one after the other, and nobody before it is given back.
async fn served_in_order<L: Lock>(lock: &L, mut waiters: Vec<Waiter<'_, L::Held<'_>>>) {
    while !waiters.is_empty() {
        let held = waiters.remove(0).look().await.has();
        for later in &mut waiters {
            assert!(later.look().await.waits());
        }
        assert_eq!(lock.waiting(), waiters.len());
        assert!(would_block(&lock.try_take()));
        drop(held);
    }
    lock.assert_untouched();
}

with_each_lock! {
    // A6, A8: in a cancelled scope asking raises, and takes nothing, though it could be had at once.
    async fn asking_in_a_cancelled_scope_takes_nothing<L: Lock>(lock: &L) -> Result {
        let mut waiter = Waiter::new(lock.take());
        waiter.cancel();
        assert!(waiter.look().await.is_cancelled());
        lock.assert_untouched();
        // When it could not be had, it does not even wait.
        let held = lock.take().await?;
        let mut waiter = Waiter::new(lock.take());
        waiter.cancel();
        assert!(waiter.look().await.is_cancelled());
        assert_eq!(lock.waiting(), 0);
        drop(held);
        lock.assert_untouched();
        Ok(())
    }

    // Nothing is asked for by a future that nobody polls.
    async fn a_wait_that_is_dropped_before_it_was_polled_asks_for_nothing<L: Lock>(lock: &L) -> Result {
        drop(lock.take());
        lock.assert_untouched();
        let held = lock.take().await?;
        drop(lock.take());
        assert_eq!(lock.waiting(), 0);
        drop(held);
        lock.assert_untouched();
        Ok(())
    }

    // J8: it is passed over, whether it is the first, in the middle or the last.
    async fn a_cancelled_waiter_is_passed_over<L: Lock>(lock: &L) -> Result {
        for place in 0..3 {
            let held = lock.take().await?;
            let mut waiters = three(lock).await;
            let mut cancelled = waiters.remove(place);
            cancelled.cancel();
            // Its own poll takes it out.
            assert!(cancelled.look().await.is_cancelled());
            assert_eq!(lock.waiting(), 2);
            drop(held);
            served_in_order(lock, waiters).await;
        }
        Ok(())
    }

    // C2, J8: the same when it has not been polled since: whoever hands over looks whether it was cancelled.
    async fn a_cancelled_waiter_is_passed_over_before_it_has_noticed<L: Lock>(lock: &L) -> Result {
        for place in 0..3 {
            let held = lock.take().await?;
            let mut waiters = three(lock).await;
            let mut cancelled = waiters.remove(place);
            cancelled.cancel();
            drop(held);
            if place == 0 {
                // Nobody polls it, and it holds nobody up.
                served_in_order(lock, waiters).await;
                assert!(cancelled.look().await.is_cancelled());
            } else {
                drop(waiters.remove(0).look().await.has());
                assert!(cancelled.look().await.is_cancelled());
                served_in_order(lock, waiters).await;
            }
        }
        Ok(())
    }

    // J8: where nobody else waits, what was given back is free, though a cancelled waiter still lies there.
    async fn what_only_cancelled_waiters_wait_for_is_free<L: Lock>(lock: &L) -> Result {
        let held = lock.take().await?;
        let mut waiters = three(lock).await;
        waiters.iter().for_each(Waiter::cancel);
        drop(held);
        assert!(lock.is_free());
        drop(lock.try_take()?);
        drop(Waiter::new(lock.take()).look().await.has());
        for waiter in &mut waiters {
            assert!(waiter.look().await.is_cancelled());
        }
        lock.assert_untouched();
        Ok(())
    }

    // J8: as one that is cancelled.
    async fn a_waiter_that_is_dropped_is_passed_over<L: Lock>(lock: &L) -> Result {
        for place in 0..3 {
            let held = lock.take().await?;
            let mut waiters = three(lock).await;
            drop(waiters.remove(place));
            assert_eq!(lock.waiting(), 2);
            drop(held);
            served_in_order(lock, waiters).await;
        }
        Ok(())
    }

    // J8: cancelled, and dropped before it could notice.
    async fn a_waiter_that_is_cancelled_and_dropped_leaves_nothing<L: Lock>(lock: &L) -> Result {
        for place in 0..3 {
            let held = lock.take().await?;
            let mut waiters = three(lock).await;
            waiters[place].cancel();
            drop(waiters.remove(place));
            assert_eq!(lock.waiting(), 2);
            drop(held);
            served_in_order(lock, waiters).await;
        }
        Ok(())
    }

    // C4: what it was handed before it was cancelled it has.
    async fn a_waiter_that_is_cancelled_after_the_hand_over_keeps_it<L: Lock>(lock: &L) -> Result {
        let held = lock.take().await?;
        let waiters = three(lock).await;
        drop(held);
        assert_eq!(lock.waiting(), 2, "the first one has it, and waits no more");
        waiters[0].cancel();
        assert!(would_block(&lock.try_take()));
        served_in_order(lock, waiters).await;
        Ok(())
    }

    // C4: a task too, and the cancellation is raised at its next cancel point.
    async fn a_task_that_is_cancelled_after_the_hand_over_raises_at_its_next_cancel_point<L: Lock>(lock: &L) -> Result {
        let story = &RefCell::new(Vec::new());
        let scope = &CancelScope::new();
        let held = lock.take().await?;
        nursery(async |n| {
            n.spawn(async {
                let outcome = scope.run(async |_| {
                    let _held = lock.take().await?;
                    story.borrow_mut().push("has it");
                    assert!(checkpoint_if_cancelled().await.unwrap_err().is_cancelled());
                    checkpoint().await
                });
                assert!(outcome.await?.is_none());
                story.borrow_mut().push("moved on");
                Ok(())
            });
            while lock.waiting() == 0 {
                checkpoint().await?;
            }
            drop(held);
            scope.cancel();
            Ok(())
        })
        .await?;
        assert_eq!(*story.borrow(), ["has it", "moved on"]);
        lock.assert_untouched();
        Ok(())
    }

    // J2: what was handed to somebody who is dropped before it was polled goes to the next one.
    async fn what_was_handed_to_a_waiter_that_is_dropped_goes_to_the_next<L: Lock>(lock: &L) -> Result {
        let held = lock.take().await?;
        let mut waiters = three(lock).await;
        drop(held);
        drop(waiters.remove(0));
        served_in_order(lock, waiters).await;
        // And past those who were cancelled.
        let held = lock.take().await?;
        let mut waiters = three(lock).await;
        drop(held);
        waiters[1].cancel();
        drop(waiters.remove(0));
        assert!(waiters[0].look().await.is_cancelled());
        served_in_order(lock, waiters.split_off(1)).await;
        // If all are dropped it is free.
        let held = lock.take().await?;
        let waiters = three(lock).await;
        drop(held);
        drop(waiters);
        lock.assert_untouched();
        Ok(())
    }

    // J2: also if it had been cancelled in between.
    async fn what_was_handed_to_a_waiter_that_is_cancelled_and_dropped_goes_to_the_next<L: Lock>(lock: &L) -> Result {
        let held = lock.take().await?;
        let mut waiters = three(lock).await;
        drop(held);
        waiters[0].cancel();
        drop(waiters.remove(0));
        served_in_order(lock, waiters).await;
        Ok(())
    }

    // J7: between the hand-over and the poll of its new holder nobody gets in.
    async fn nobody_barges_in_between_the_hand_over_and_the_poll<L: Lock>(lock: &L) -> Result {
        let held = lock.take().await?;
        let mut first = Waiter::waiting(lock.take()).await;
        assert!(would_block(&lock.try_take()));
        drop(held);
        assert!(!lock.is_free());
        assert!(would_block(&lock.try_take()));
        let mut late = Waiter::waiting(lock.take()).await;
        let held = first.look().await.has();
        assert!(late.look().await.waits());
        drop(held);
        drop(late.look().await.has());
        lock.assert_untouched();
        Ok(())
    }

    // J7: a task that takes it again at once waits behind the others.
    async fn three_tasks_take_turns<L: Lock>(lock: &L) -> Result {
        const TURNS: usize = fewer(50, 4);
        let order = &RefCell::new(Vec::new());
        nursery(async |n| {
            for task in 0..3 {
                n.spawn(async move {
                    for _ in 0..TURNS {
                        let _held = lock.take().await?;
                        order.borrow_mut().push(task);
                        checkpoint().await?;
                    }
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        let order = order.borrow();
        assert_eq!(order.len(), 3 * TURNS);
        // Who is the first of three is a matter of chance; from then on they go round.
        for (place, task) in order.iter().enumerate() {
            assert_eq!(*task, order[place % 3], "{order:?}");
        }
        lock.assert_untouched();
        Ok(())
    }

    // J8, B5: many that are cancelled at one stroke, with one of them in possession.
    async fn a_crowd_that_is_cancelled_leaves_nothing<L: Lock>(lock: &L) -> Result {
        const CROWD: usize = fewer(300, 10);
        let scope = &CancelScope::new();
        let inside = &Cell::new(0);
        let left = scope.run(async |scope| {
            nursery(async |n| {
                for _ in 0..CROWD {
                    n.spawn(async move {
                        let _held = lock.take().await?;
                        inside.set(inside.get() + 1);
                        std::future::pending::<()>().await;
                        Ok(())
                    });
                }
                while lock.waiting() < CROWD - 1 {
                    checkpoint().await?;
                }
                scope.cancel();
                checkpoint().await
            })
            .await
        });
        assert!(left.await?.is_none());
        assert_eq!(inside.get(), 1);
        lock.assert_untouched();
        Ok(())
    }

    // A2: whoever gets it without waiting still lets others run every now and then.
    async fn taking_it_again_and_again_lets_other_tasks_run<L: Lock>(lock: &L) -> Result {
        let others = &Cell::new(0);
        nursery(async |n| {
            n.spawn_daemon(async {
                loop {
                    checkpoint().await?;
                    others.set(others.get() + 1);
                }
            });
            for _ in 0..4 * BUDGET {
                drop(lock.take().await?);
            }
            assert!(others.get() >= 2, "{} turns of others", others.get());
            Ok(())
        })
        .await?;
        lock.assert_untouched();
        Ok(())
    }

    // A2, J8: a wait that stands at such a schedule point has taken nothing yet.
    async fn a_wait_that_is_dropped_or_cancelled_at_a_schedule_point_has_taken_nothing<L: Lock>(lock: &L) -> Result {
        for drops in [true, false] {
            let mut at_schedule_point = Waiter::new(lock.take());
            for _ in 0..=BUDGET {
                if at_schedule_point.look().await.waits() {
                    break;
                }
                at_schedule_point = Waiter::new(lock.take());
            }
            assert!(at_schedule_point.look().await.waits(), "others never have a turn");
            assert_eq!(lock.waiting(), 0);
            assert!(lock.is_free());
            if drops {
                drop(at_schedule_point);
            } else {
                at_schedule_point.cancel();
                turns(1).await;
                assert!(matches!(at_schedule_point.look().await, Look::Cancelled));
            }
            lock.assert_untouched();
            turns(1).await;
        }
        Ok(())
    }

    // J2: the branch of a `select!` that loses is dropped, be it with or without what it waited for.
    async fn select_loses_nothing<L: Lock>(lock: &L) -> Result {
        let other = L::free();
        for round in 0..fewer(30, 6) {
            let (held, other_held) = (lock.take().await?, other.take().await?);
            nursery(async |n| {
                n.spawn(async move {
                    turns(round % 3).await;
                    // Both in the same turn, or one after the other.
                    drop(other_held);
                    turns(round % 2).await;
                    drop(held);
                    Ok(())
                });
                let (mut one, mut two) = (pin!(lock.take().fuse()), pin!(other.take().fuse()));
                select_biased! {
                    taken = one => drop(taken?),
                    taken = two => drop(taken?),
                }
                Ok(())
            })
            .await?;
            lock.assert_untouched();
            other.assert_untouched();
        }
        Ok(())
    }

    // Two waits of one task: each is woken for its own sake, and they do not overtake each other.
    async fn waits_that_are_joined_in_one_task_are_all_served<L: Lock>(lock: &L) -> Result {
        let order = RefCell::new(Vec::new());
        let take = async |name| {
            let _held = lock.take().await?;
            order.borrow_mut().push(name);
            checkpoint().await
        };
        let (one, two, three) = join!(take(1), take(2), take(3));
        one.and(two).and(three)?;
        assert_eq!(*order.borrow(), [1, 2, 3]);
        lock.assert_untouched();
        Ok(())
    }

    // Under wakers of others too, of which each wait has its own.
    async fn waits_in_a_futures_unordered_are_served_in_order<L: Lock>(lock: &L) -> Result {
        let held = lock.take().await?;
        let mut waits: FuturesUnordered<_> =
            (0..fewer(40, 5)).map(|name| lock.take().map(move |held| (name, held))).collect();
        // All ask, in the order in which they were put in.
        assert!(poll!(waits.next()).is_pending());
        assert_eq!(lock.waiting(), waits.len());
        drop(held);
        let mut order = Vec::new();
        while let Some((name, held)) = waits.next().await {
            drop(held?);
            order.push(name);
        }
        assert_eq!(order.len(), fewer(40, 5));
        assert!(order.is_sorted() || order.is_sorted_by(|one, next| one > next), "{order:?}");
        lock.assert_untouched();
        Ok(())
    }

    // D4: a wait that was cancelled in a scope, and goes on outside of it, asks anew, as the last one.
    async fn a_wait_that_has_left_the_cancelled_scope_asks_anew<L: Lock>(lock: &L) -> Result {
        let held = lock.take().await?;
        let mut moves = pin!(lock.take());
        let scope = CancelScope::new();
        scope.run(async |_| {
            assert!(poll!(&mut moves).is_pending());
            Ok(())
        }).await?;
        let scope = CancelScope::new();
        scope.run(async |scope| {
            assert!(poll!(&mut moves).is_pending());
            scope.cancel();
            // Nobody is to be handed anything here.
            let mut later = Waiter::new(shield(lock.take()));
            assert!(later.look().await.waits());
            drop(held);
            drop(later.look().await.has());
            Ok(())
        }).await?;
        drop(moves.await?);
        lock.assert_untouched();
        Ok(())
    }

    // F14: whoever gets something in a shield has not swallowed its cancellation for nothing, and goes on.
    async fn what_is_had_in_a_shield_counts_as_progress_of_a_cancelled_task<L: Lock>(lock: &L) -> Result {
        for waits in [false, true] {
            let rounds = &Cell::new(0);
            let scope = CancelScope::new();
            let left = scope.run(async |scope| {
                scope.cancel();
                for _ in 0..PATIENCE + 1 {
                    assert!(checkpoint_if_cancelled().await.is_err());
                    // So that it never stands at a schedule point in the shield.
                    turns(1).await;
                    let held = if waits { Some(lock.try_take()?) } else { None };
                    let mut next = pin!(shield(lock.take()));
                    if waits {
                        assert!(poll!(&mut next).is_pending());
                    }
                    drop(held);
                    drop(next.await?);
                    rounds.set(rounds.get() + 1);
                }
                checkpoint().await
            });
            assert!(left.await?.is_none());
            assert_eq!(rounds.get(), PATIENCE + 1);
            lock.assert_untouched();
        }
        Ok(())
    }

    // C2: a shield around a wait keeps the cancellation from it.
    async fn a_shielded_wait_is_served_in_a_cancelled_scope<L: Lock>(lock: &L) -> Result {
        let held = lock.take().await?;
        let mut shielded = Waiter::waiting(shield(lock.take())).await;
        shielded.cancel();
        assert!(shielded.look().await.waits());
        drop(held);
        drop(shielded.look().await.has());
        lock.assert_untouched();
        Ok(())
    }
}
