//! Semaphores: what concerns more than one permit.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use trine::sync::{Permit, Semaphore};
use trine::{CancelScope, Error, Result, checkpoint, nursery};

use crate::common::fewer;
use crate::common::wakers::text;
use crate::{Waiter, shown, would_block};

fn counts(semaphore: &Semaphore) -> (usize, usize) {
    let statistics = semaphore.statistics();
    assert_eq!(statistics.available, semaphore.available());
    (statistics.available, statistics.waiting)
}

/// The permits of those that have some, in the order of `waiters`; `None`: it waits.
async fn look_at<'a>(waiters: &mut [Waiter<'a, Permit<'a>>]) -> Vec<Option<Permit<'a>>> {
    let mut seen = Vec::new();
    for waiter in waiters {
        let look = waiter.look().await;
        seen.push(if look.waits() { None } else { Some(look.has()) });
    }
    seen
}

async fn waiting<'a>(semaphore: &'a Semaphore, needs: &[usize]) -> Vec<Waiter<'a, Permit<'a>>> {
    let mut waiters = Vec::new();
    for &needed in needs {
        waiters.push(Waiter::waiting(semaphore.acquire_many(needed)).await);
    }
    waiters
}

// J7: as many as there are permits, and in the order in which they asked.
#[trine::test(kernel = "both")]
async fn ten_thousand_waiters_are_served_in_order() -> Result {
    const CROWD: usize = fewer(10_000, 20);
    const PERMITS: usize = 3;
    let semaphore = &Semaphore::new(0);
    let (asked, served) = (&RefCell::new(Vec::new()), &RefCell::new(Vec::new()));
    let (inside, most) = (&Cell::new(0), &Cell::new(0));
    nursery(async |n| {
        for name in 0..CROWD {
            n.spawn(async move {
                asked.borrow_mut().push(name);
                let _permit = semaphore.acquire().await?;
                served.borrow_mut().push(name);
                inside.set(inside.get() + 1);
                most.set(most.get().max(inside.get()));
                checkpoint().await?;
                inside.set(inside.get() - 1);
                Ok(())
            });
        }
        while semaphore.statistics().waiting < CROWD {
            checkpoint().await?;
        }
        semaphore.release(PERMITS);
        Ok(())
    })
    .await?;
    let (asked, served) = (asked.borrow(), served.borrow());
    assert_eq!(served.len(), CROWD);
    // Those who are handed a permit in one turn may run in any order (rule N14).
    let mut place = vec![0; CROWD];
    asked.iter().enumerate().for_each(|(at, &name)| place[name] = at);
    for (at, &name) in served.iter().enumerate() {
        assert!(place[name].abs_diff(at) < PERMITS, "{at}: {name} asked at {}", place[name]);
    }
    assert_eq!(most.get(), PERMITS);
    assert_eq!(counts(semaphore), (PERMITS, 0));
    Ok(())
}

// J8: a crowd of which every second one is cancelled, and a third dropped: each of the others is served.
#[trine::test(kernel = "both")]
async fn among_ten_thousand_cancelled_and_dropped_waiters_the_others_are_served() -> Result {
    const CROWD: usize = fewer(10_000, 20);
    let semaphore = Semaphore::new(0);
    let mut waiters = Vec::new();
    for _ in 0..CROWD {
        waiters.push(Waiter::waiting(semaphore.acquire()).await);
    }
    let (mut stay, mut cancelled) = (Vec::new(), Vec::new());
    for (place, waiter) in waiters.into_iter().enumerate() {
        match place % 4 {
            0 | 2 => {
                waiter.cancel();
                cancelled.push(waiter);
            }
            1 => drop(waiter),
            _ => stay.push(waiter),
        }
    }
    for mut waiter in stay {
        semaphore.release(1);
        waiter.look().await.has().forget();
        assert_eq!(semaphore.available(), 0);
    }
    for mut waiter in cancelled {
        assert!(waiter.look().await.is_cancelled());
    }
    semaphore.release(1);
    assert_eq!(counts(&semaphore), (1, 0));
    Ok(())
}

// J7: whoever needs many waits in front of those who need few, though there were enough for them.
#[trine::test(kernel = "both")]
async fn a_large_request_at_the_front_holds_the_smaller_ones_behind_it() -> Result {
    let semaphore = Semaphore::new(2);
    let mut waiters = waiting(&semaphore, &[3, 1, 1]).await;
    assert!(would_block(&semaphore.try_acquire()));
    assert!(would_block(&semaphore.try_acquire_many(0)), "not even none (rule J7)");
    assert_eq!(counts(&semaphore), (2, 3));
    semaphore.release(1);
    assert_eq!(counts(&semaphore), (0, 2));
    let seen = look_at(&mut waiters).await;
    assert!(seen[0].is_some() && seen[1].is_none() && seen[2].is_none());
    // What comes back at once goes to as many as it reaches.
    drop(seen);
    assert_eq!(counts(&semaphore), (1, 0));
    let seen = look_at(&mut waiters[1..]).await;
    assert!(seen.iter().all(Option::is_some));
    drop(seen);
    assert_eq!(counts(&semaphore), (3, 0));
    Ok(())
}

// J8: when the large one has gone nobody has to give anything back for the smaller ones to go on.
#[trine::test(kernel = "both")]
async fn a_large_request_that_is_cancelled_or_dropped_lets_the_smaller_ones_through() -> Result {
    for drops in [false, true] {
        let semaphore = Semaphore::new(2);
        let mut waiters = waiting(&semaphore, &[3, 1, 1, 1]).await;
        let mut large = waiters.remove(0);
        if drops {
            drop(large);
        } else {
            large.cancel();
            assert!(large.look().await.is_cancelled());
        }
        assert_eq!(counts(&semaphore), (0, 1));
        let seen = look_at(&mut waiters).await;
        assert!(seen[0].is_some() && seen[1].is_some() && seen[2].is_none());
    }
    Ok(())
}

// J8: the same with tasks: the cancelled one goes, and that alone sets the others going.
#[trine::test(kernel = "both")]
async fn tasks_behind_a_large_request_go_on_when_its_scope_is_cancelled() -> Result {
    let (semaphore, scope) = (&Semaphore::new(1), &CancelScope::new());
    let served = &Cell::new(0);
    nursery(async |n| {
        n.spawn(async {
            let left = scope.run(async |_| semaphore.acquire_many(2).await.map(drop));
            assert!(left.await?.is_none());
            Ok(())
        });
        while semaphore.statistics().waiting == 0 {
            checkpoint().await?;
        }
        for _ in 0..3 {
            n.spawn(async {
                let _permit = semaphore.acquire().await?;
                served.set(served.get() + 1);
                Ok(())
            });
        }
        while semaphore.statistics().waiting < 4 {
            checkpoint().await?;
        }
        scope.cancel();
        Ok(())
    })
    .await?;
    assert_eq!((served.get(), counts(semaphore)), (3, (1, 0)));
    Ok(())
}

// J2: all the permits of one that is dropped after the hand-over go on, to as many as they reach.
#[trine::test(kernel = "both")]
async fn the_permits_of_a_dropped_waiter_go_to_as_many_as_they_reach() -> Result {
    let semaphore = Semaphore::new(0);
    let mut waiters = waiting(&semaphore, &[3, 2, 1, 1]).await;
    semaphore.release(3);
    assert_eq!(counts(&semaphore), (0, 3));
    drop(waiters.remove(0));
    assert_eq!(counts(&semaphore), (0, 1));
    let seen = look_at(&mut waiters).await;
    assert!(seen[0].is_some() && seen[1].is_some() && seen[2].is_none());
    Ok(())
}

// C4: and those of one that is cancelled after it are its own.
#[trine::test(kernel = "both")]
async fn a_waiter_for_many_that_is_cancelled_after_the_hand_over_has_them_all() -> Result {
    let semaphore = Semaphore::new(0);
    let mut waiters = waiting(&semaphore, &[3, 1]).await;
    semaphore.release(3);
    waiters[0].cancel();
    let permit = waiters[0].look().await.has();
    assert!(waiters[1].look().await.waits());
    drop(permit);
    let one = waiters[1].look().await.has();
    assert_eq!(counts(&semaphore), (2, 0));
    drop(one);
    assert_eq!(counts(&semaphore), (3, 0));
    Ok(())
}

// None is a request like others: it waits where others wait, and gives nothing back.
#[trine::test(kernel = "both")]
async fn no_permits_at_all_can_be_acquired() -> Result {
    let semaphore = Semaphore::new(0);
    let none = semaphore.acquire_many(0).await?;
    drop(none);
    drop(semaphore.try_acquire_many(0)?);
    let mut waiters = waiting(&semaphore, &[1, 0]).await;
    semaphore.release(1);
    let seen = look_at(&mut waiters).await;
    assert!(seen.iter().all(Option::is_some));
    drop(seen);
    assert_eq!(counts(&semaphore), (1, 0));
    Ok(())
}

// What is forgotten is gone, what is released is there, and not more than can be counted.
#[trine::test(kernel = "both")]
async fn permits_are_forgotten_and_added() -> Result {
    let semaphore = Semaphore::new(2);
    semaphore.acquire_many(2).await?.forget();
    assert_eq!(semaphore.available(), 0);
    assert!(matches!(semaphore.try_acquire(), Err(Error::WouldBlock)));
    semaphore.release(5);
    assert_eq!(semaphore.available(), 5);
    let most = Semaphore::new(usize::MAX);
    let thrown = catch_unwind(AssertUnwindSafe(|| most.release(1))).unwrap_err();
    assert!(text(&*thrown).contains("usize::MAX"));
    assert_eq!(most.available(), usize::MAX, "and nothing has changed");
    drop(most.try_acquire_many(usize::MAX)?);
    Ok(())
}

#[trine::test(kernel = "both")]
async fn a_semaphore_shows_itself() -> Result {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.acquire().await?;
    let _waiter = Waiter::waiting(semaphore.acquire()).await;
    let semaphore_shown = shown(&semaphore);
    assert!(semaphore_shown.starts_with("Semaphore {"), "{semaphore_shown}");
    assert!(semaphore_shown.contains("1 waiting"), "{semaphore_shown}");
    assert!(shown(&permit).starts_with("Permit {"));
    let statistics = shown(&semaphore.statistics());
    assert_eq!(statistics, "SemaphoreStatistics { available: 0, waiting: 1 }");
    Ok(())
}
