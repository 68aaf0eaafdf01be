//! Capacity limiters: a total that is moved.

use std::cell::Cell;

use trine::sync::{CapacityLimiter, Token};
use trine::{Result, checkpoint, nursery};

use crate::common::random::Random;
use crate::common::{fewer, turns};
use crate::{Waiter, shown, would_block};

/// Total, borrowed, waiting.
fn counts(limiter: &CapacityLimiter) -> (usize, usize, usize) {
    let statistics = limiter.statistics();
    assert_eq!(statistics.total, limiter.total());
    assert_eq!(statistics.borrowed, limiter.borrowed());
    (statistics.total, statistics.borrowed, statistics.waiting)
}

async fn waiting(limiter: &CapacityLimiter, count: usize) -> Vec<Waiter<'_, Token<'_>>> {
    let mut waiters = Vec::new();
    for _ in 0..count {
        waiters.push(Waiter::waiting(limiter.acquire()).await);
    }
    waiters
}

// J7: a larger total serves those who wait, the first ones first.
#[trine::test(kernel = "both")]
async fn a_raised_total_serves_waiters_in_order() -> Result {
    let limiter = CapacityLimiter::new(1);
    let token = limiter.acquire().await?;
    let mut waiters = waiting(&limiter, 4).await;
    limiter.set_total(3);
    assert_eq!(counts(&limiter), (3, 3, 2));
    let one = waiters[0].look().await.has();
    let two = waiters[1].look().await.has();
    assert!(waiters[2].look().await.waits());
    assert!(waiters[3].look().await.waits());
    drop((token, one, two));
    let three = waiters[2].look().await.has();
    let four = waiters[3].look().await.has();
    assert_eq!(counts(&limiter), (3, 2, 0));
    drop((three, four));
    assert_eq!(counts(&limiter), (3, 0, 0));
    Ok(())
}

// A smaller total takes nothing from anybody: so many have to come back before the next one is lent.
#[trine::test(kernel = "both")]
async fn a_lowered_total_waits_until_enough_have_come_back() -> Result {
    let limiter = CapacityLimiter::new(3);
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(limiter.acquire().await?);
    }
    limiter.set_total(1);
    assert_eq!(counts(&limiter), (1, 3, 0));
    let mut waiters = waiting(&limiter, 2).await;
    for borrowed in [2, 1] {
        drop(tokens.pop());
        assert_eq!(counts(&limiter), (1, borrowed, 2));
        assert!(waiters[0].look().await.waits());
        assert!(would_block(&limiter.try_acquire()));
    }
    drop(tokens.pop());
    assert_eq!(counts(&limiter), (1, 1, 1));
    drop(waiters[0].look().await.has());
    drop(waiters[1].look().await.has());
    assert_eq!(counts(&limiter), (1, 0, 0));
    Ok(())
}

// With none everybody waits; J2: and when it is none again, what a dropped waiter had goes to nobody.
#[trine::test(kernel = "both")]
async fn with_a_total_of_zero_everybody_waits() -> Result {
    let limiter = CapacityLimiter::new(0);
    assert!(would_block(&limiter.try_acquire()));
    let mut waiters = waiting(&limiter, 3).await;
    limiter.set_total(1);
    assert_eq!(counts(&limiter), (1, 1, 2));
    limiter.set_total(0);
    drop(waiters.remove(0));
    assert_eq!(counts(&limiter), (0, 0, 2));
    assert!(waiters[0].look().await.waits());
    waiters[0].cancel();
    limiter.set_total(1);
    assert!(waiters[0].look().await.is_cancelled());
    drop(waiters[1].look().await.has());
    assert_eq!(counts(&limiter), (1, 0, 0));
    Ok(())
}

// J2: tokens that were handed over by a raised total, and whose waiters are dropped, go on.
#[trine::test(kernel = "both")]
async fn tokens_of_dropped_waiters_go_to_those_behind_them() -> Result {
    let limiter = CapacityLimiter::new(0);
    let mut waiters = waiting(&limiter, 4).await;
    limiter.set_total(2);
    drop(waiters.drain(..2));
    assert_eq!(counts(&limiter), (2, 2, 0));
    for waiter in &mut waiters {
        // C4: theirs is it, whatever is cancelled now.
        waiter.cancel();
        drop(waiter.look().await.has());
    }
    assert_eq!(counts(&limiter), (2, 0, 0));
    Ok(())
}

// J7, J8: as many as the total says work at a time, and all are served, while it is moved about.
#[trine::test(kernel = "both", runs = 5)]
async fn all_are_served_while_the_total_moves() -> Result {
    const TASKS: usize = fewer(200, 12);
    let limiter = &CapacityLimiter::new(1);
    let served = &Cell::new(0);
    nursery(async |n| {
        for task in 0..TASKS {
            n.spawn(async move {
                let _token = limiter.acquire().await?;
                turns(task % 3).await;
                served.set(served.get() + 1);
                Ok(())
            });
        }
        let mut random = Random(1);
        while served.get() < TASKS {
            let (total, before) = (random.below(6), limiter.borrowed());
            limiter.set_total(total);
            let (_, borrowed, waiting) = counts(limiter);
            assert!(borrowed <= total.max(before), "{borrowed} of {total}, {before} before");
            assert!(waiting == 0 || borrowed >= total, "{waiting} wait: {borrowed} of {total}");
            checkpoint().await?;
        }
        Ok(())
    })
    .await?;
    assert_eq!(counts(limiter).1, 0);
    Ok(())
}

#[trine::test(kernel = "both")]
async fn a_limiter_shows_itself() -> Result {
    let limiter = CapacityLimiter::new(1);
    let token = limiter.acquire().await?;
    let _waiter = Waiter::waiting(limiter.acquire()).await;
    let limiter_shown = shown(&limiter);
    assert!(limiter_shown.starts_with("CapacityLimiter {"), "{limiter_shown}");
    assert!(limiter_shown.contains("1 waiting"), "{limiter_shown}");
    assert!(shown(&token).starts_with("Token {"));
    let statistics = shown(&limiter.statistics());
    assert_eq!(statistics, "CapacityLimiterStatistics { total: 1, borrowed: 1, waiting: 1 }");
    Ok(())
}
