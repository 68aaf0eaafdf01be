//! Ticks, to the millisecond in virtual time.

mod common;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::poll;
use trine::testing::World;
use trine::time::{Instant, Interval, MissedTicks, interval, interval_at, sleep};
use trine::{Error, Result, move_on_after, stats};

const MS: Duration = Duration::from_millis(1);

/// When the next `count` ticks come and when they were due, in milliseconds after `began`.
async fn ticks(interval: &mut Interval, count: usize, began: Instant) -> Result<Vec<(u128, u128)>> {
    let mut came = Vec::new();
    for _ in 0..count {
        let due = interval.tick().await?;
        came.push((began.elapsed().as_millis(), (due - began).as_millis()));
    }
    Ok(came)
}

#[trine::test(kernel = "sim")]
async fn the_first_tick_comes_at_once_and_then_one_in_each_period() -> Result {
    let began = Instant::now();
    let mut ten = interval(10 * MS);
    assert_eq!(ticks(&mut ten, 4, began).await?, [(0, 0), (10, 10), (20, 20), (30, 30)]);
    // Work in between makes none late that is shorter than a period.
    sleep(7 * MS).await?;
    assert_eq!(ticks(&mut ten, 2, began).await?, [(40, 40), (50, 50)]);
    assert_eq!(ten.next(), began + 60 * MS);
    sleep(3 * MS).await?;
    ten.reset();
    assert_eq!(ticks(&mut ten, 2, began).await?, [(63, 63), (73, 73)]);
    let mut later = interval_at(began + 100 * MS, 5 * MS);
    assert_eq!(ticks(&mut later, 2, began).await?, [(100, 100), (105, 105)]);
    Ok(())
}

// What happens when somebody is 35 ms late for a tick of 10 ms.
#[trine::test(kernel = "sim")]
async fn missed_ticks_come_in_a_burst_or_are_put_off_or_left_out() -> Result {
    for (missed, expected) in [
        (MissedTicks::Burst, [(45, 10), (45, 20), (45, 30), (45, 40), (50, 50)]),
        (MissedTicks::Delay, [(45, 10), (55, 55), (65, 65), (75, 75), (85, 85)]),
        (MissedTicks::Skip, [(45, 10), (50, 50), (60, 60), (70, 70), (80, 80)]),
    ] {
        let began = Instant::now();
        let mut late = interval(10 * MS).missed_ticks(missed);
        late.tick().await?;
        sleep(45 * MS).await?;
        assert_eq!(ticks(&mut late, 5, began).await?, expected, "{missed:?}");
    }
    // Late by whole periods: the one that is due now is not left out.
    let began = Instant::now();
    let mut late = interval(10 * MS).missed_ticks(MissedTicks::Skip);
    sleep(30 * MS).await?;
    assert_eq!(ticks(&mut late, 3, began).await?, [(30, 0), (30, 30), (40, 40)]);
    Ok(())
}

// D4: what was cancelled or dropped was no tick.
#[trine::test(kernel = "sim")]
async fn a_tick_that_is_cancelled_or_dropped_is_still_to_come() -> Result {
    let began = Instant::now();
    let mut ten = interval_at(began + 10 * MS, 10 * MS);
    assert!(move_on_after(4 * MS, async |_| ten.tick().await).await?.is_none());
    {
        let mut dropped = pin!(ten.tick());
        assert!(poll!(dropped.as_mut()).is_pending());
    }
    assert_eq!(stats().timers, 0);
    assert_eq!(ticks(&mut ten, 2, began).await?, [(10, 10), (20, 20)]);
    Ok(())
}

// A2: however often it is due, others run.
#[trine::test(kernel = "both")]
async fn an_interval_of_zero_is_always_due_and_lets_others_run() -> Result {
    for missed in [MissedTicks::Burst, MissedTicks::Delay, MissedTicks::Skip] {
        let mut always = interval(Duration::ZERO).missed_ticks(missed);
        let turns = stats().turns;
        for _ in 0..10 {
            always.tick().await?;
        }
        assert!(stats().turns >= turns + 10);
    }
    if let Some(_world) = World::try_current() {
        let mut never = interval_at(Instant::MAX, Duration::MAX);
        assert!(
            move_on_after(Duration::from_secs(10), async |_| never.tick().await).await?.is_none()
        );
    }
    assert_eq!(
        format!("{:?}", interval(MS).missed_ticks(MissedTicks::Skip)),
        "Interval { period: 1ms, missed: Skip }"
    );
    Ok(())
}

#[test]
fn outside_of_a_run_there_are_no_ticks() {
    let mut never = interval_at(Instant::MAX, MS);
    let polled = pin!(never.tick()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(Error::NoRun))), "{polled:?}");
}
