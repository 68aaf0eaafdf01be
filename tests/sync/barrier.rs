//! Barriers: as many as it takes, and one that was the last.

use std::cell::{Cell, RefCell};

use futures::join;
use trine::sync::Barrier;
use trine::{Result, checkpoint, nursery};

use crate::common::wakers::{Bell, poll_with, thrown};
use crate::common::{BUDGET, fewer, turns};
use crate::{Waiter, shown};

// Nobody goes on before all have come, round after round, and one of each round was the last.
#[trine::test(kernel = "both", runs = 5)]
async fn tasks_go_round_by_round_and_each_round_has_one_leader() -> Result {
    const TASKS: usize = 5;
    const ROUNDS: usize = fewer(40, 3);
    let (barrier, arrived) = (&Barrier::new(TASKS), &RefCell::new(vec![0; ROUNDS]));
    let leaders = &RefCell::new(vec![0; ROUNDS]);
    nursery(async |n| {
        for task in 0..TASKS {
            n.spawn(async move {
                for round in 0..ROUNDS {
                    turns((task + round) % 3).await;
                    arrived.borrow_mut()[round] += 1;
                    let leads = barrier.wait().await?;
                    assert_eq!(arrived.borrow()[round], TASKS);
                    leaders.borrow_mut()[round] += usize::from(leads);
                }
                Ok(())
            });
        }
        Ok(())
    })
    .await?;
    assert_eq!(*leaders.borrow(), [1].repeat(ROUNDS));
    assert_eq!(barrier.statistics().waiting, 0);
    Ok(())
}

// The leader is the last one that came, and does not wait.
#[trine::test(kernel = "both")]
async fn the_last_one_leads() -> Result {
    let barrier = Barrier::new(3);
    for _ in 0..2 {
        let mut one = Waiter::waiting(barrier.wait()).await;
        let mut two = Waiter::waiting(barrier.wait()).await;
        assert!(Waiter::new(barrier.wait()).look().await.has());
        assert!(!one.look().await.has());
        assert!(!two.look().await.has());
        assert_eq!(barrier.statistics().waiting, 0);
    }
    Ok(())
}

// A2: with one for none or one for one nobody waits, but for a schedule point now and then.
#[trine::test(kernel = "both")]
async fn a_barrier_for_none_or_one_lets_everybody_through() -> Result {
    for size in [0, 1] {
        let (barrier, others) = (Barrier::new(size), &Cell::new(0));
        nursery(async |n| {
            n.spawn_daemon(async {
                loop {
                    checkpoint().await?;
                    others.set(others.get() + 1);
                }
            });
            for _ in 0..4 * BUDGET {
                assert!(barrier.wait().await?);
            }
            assert!(others.get() >= 2, "{} turns of others", others.get());
            Ok(())
        })
        .await?;
    }
    Ok(())
}

// A6: in a cancelled scope nobody arrives, not even the last one.
#[trine::test(kernel = "both")]
async fn in_a_cancelled_scope_nobody_arrives() -> Result {
    let barrier = Barrier::new(2);
    let mut waits = Waiter::waiting(barrier.wait()).await;
    let mut cancelled = Waiter::new(barrier.wait());
    cancelled.cancel();
    assert!(cancelled.look().await.is_cancelled());
    assert!(waits.look().await.waits());
    assert_eq!(barrier.statistics().waiting, 1);
    assert!(barrier.wait().await?);
    assert!(!waits.look().await.has());
    Ok(())
}

// J8: another has to come for one that was cancelled, whether it has noticed that or not, or dropped.
#[trine::test(kernel = "both")]
async fn waiters_that_are_cancelled_or_dropped_do_not_count() -> Result {
    let barrier = Barrier::new(2);
    for end in ["cancelled", "cancelled and unaware", "dropped", "cancelled and dropped"] {
        let mut leaves = Waiter::waiting(barrier.wait()).await;
        if end.contains("cancelled") {
            leaves.cancel();
        }
        match end {
            "cancelled" => assert!(leaves.look().await.is_cancelled()),
            "cancelled and unaware" => {}
            _ => drop(std::mem::replace(&mut leaves, Waiter::new(async { Ok(false) }))),
        }
        let mut stays = Waiter::waiting(barrier.wait()).await;
        assert!(barrier.wait().await?, "{end}: the second one that stays is the last");
        assert!(!stays.look().await.has(), "{end}");
        if end == "cancelled and unaware" {
            assert!(leaves.look().await.is_cancelled());
        }
        assert_eq!(barrier.statistics().waiting, 0, "{end}");
    }
    Ok(())
}

// C4: when all have come nobody's cancellation or drop keeps the others.
#[trine::test(kernel = "both")]
async fn waiters_that_are_through_are_through() -> Result {
    let barrier = Barrier::new(4);
    let mut cancelled = Waiter::waiting(barrier.wait()).await;
    let dropped = Waiter::waiting(barrier.wait()).await;
    let mut stays = Waiter::waiting(barrier.wait()).await;
    assert!(barrier.wait().await?);
    cancelled.cancel();
    drop(dropped);
    assert!(!cancelled.look().await.has());
    assert!(!stays.look().await.has());
    assert_eq!(barrier.statistics().waiting, 0);
    // The next round begins with nobody.
    assert!(Waiter::new(barrier.wait()).look().await.waits());
    Ok(())
}

// Branches of one task count one by one.
#[trine::test(kernel = "both")]
async fn waits_that_are_joined_in_one_task_meet() -> Result {
    let barrier = Barrier::new(3);
    let (one, two, three) = join!(barrier.wait(), barrier.wait(), barrier.wait());
    assert_eq!((one?, two?, three?), (false, false, true));
    Ok(())
}

// P2: a waker that panics does not keep the others from being woken.
#[trine::test(kernel = "both")]
async fn a_waker_that_panics_keeps_nobody_back() -> Result {
    let barrier = Barrier::new(4);
    let mut waits: Vec<_> = (0..3).map(|_| Box::pin(barrier.wait())).collect();
    let bells: Vec<_> = (0..3).map(|place| Bell::new(place == 0)).collect();
    for (wait, (_, waker)) in waits.iter_mut().zip(&bells) {
        assert!(poll_with(wait.as_mut(), waker).is_pending());
    }
    assert_eq!(thrown(barrier.wait()).await, "a waker panics");
    for ((bell, _), wait) in bells.iter().zip(waits) {
        assert_eq!(bell.rung(), 1);
        assert!(!wait.await?);
    }
    Ok(())
}

#[trine::test(kernel = "both")]
async fn a_barrier_shows_itself() -> Result {
    let barrier = Barrier::new(2);
    let _waiter = Waiter::waiting(barrier.wait()).await;
    assert_eq!(shown(&barrier), "Barrier { size: 2, waiting: 1 }");
    assert_eq!(shown(&barrier.statistics()), "BarrierStatistics { waiting: 1 }");
    Ok(())
}
