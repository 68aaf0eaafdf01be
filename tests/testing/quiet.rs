//! Waiting until everything else waits: Trio's `wait_all_tasks_blocked`.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use trine::testing::{World, wait_all_tasks_blocked, wait_all_tasks_blocked_for};
use trine::time::{Instant, sleep, sleep_forever};
use trine::{CancelScope, Error, Result, checkpoint, move_on_after, nursery, stats};

use super::common::pair;

const MOMENT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

// Trio: test_wait_all_tasks_blocked.
#[trine::test(kernel = "both", runs = 20)]
async fn it_returns_when_all_others_have_come_as_far_as_they_can() -> Result {
    let steps = &Cell::new(0);
    nursery(async |n| {
        for _ in 0..3 {
            n.spawn(async {
                for _ in 0..50 {
                    checkpoint().await?;
                    steps.set(steps.get() + 1);
                }
                sleep_forever().await
            });
        }
        wait_all_tasks_blocked().await?;
        assert_eq!(steps.get(), 150);
        n.cancel();
        Ok(())
    })
    .await
}

#[trine::test(kernel = "both", runs = 20)]
async fn it_returns_at_once_when_there_is_nobody_else() -> Result {
    for _ in 0..3 {
        wait_all_tasks_blocked().await?;
        wait_all_tasks_blocked_for(Duration::ZERO).await?;
    }
    Ok(())
}

// Work that the kernel has begun is not quiet: what was sent arrives first. (With a network that takes
// its time it is quiet meanwhile.)
#[trine::test(kernel = "both")]
async fn it_waits_for_what_the_kernel_is_doing() -> Result {
    let (client, server) = pair().await?;
    let received = &Cell::new(0);
    nursery(async |n| {
        n.spawn(async {
            while let Some(chunk) = server.recv().await? {
                received.set(received.get() + chunk.len());
            }
            Ok(())
        });
        n.spawn(async {
            for piece in [1, 1000, 30_000] {
                client.write_all(vec![7; piece]).await?;
            }
            sleep_forever().await
        });
        wait_all_tasks_blocked().await?;
        assert_eq!(received.get(), 31_001);
        n.cancel();
        Ok(())
    })
    .await
}

// Trio: test_wait_all_tasks_blocked_with_timeouts. A sleep counts as blocked, and no time passes.
#[trine::test(kernel = "both", clock = "autojump", timeout = "2h")]
async fn it_wins_over_the_jump_of_the_clock() -> Result {
    let slept = &Cell::new(false);
    nursery(async |n| {
        n.spawn(async {
            sleep(LONG).await?;
            slept.set(true);
            Ok(())
        });
        let began = Instant::now();
        for _ in 0..3 {
            wait_all_tasks_blocked().await?;
            assert_eq!((slept.get(), began.elapsed()), (false, Duration::ZERO));
        }
        Ok(())
    })
    .await?;
    assert!(slept.get());
    Ok(())
}

// Trio: those who wait for quiet win, also with a cushion that is longer than the threshold.
#[trine::test(kernel = "both", clock = "autojump")]
async fn it_wins_over_the_jump_of_the_clock_with_a_large_cushion_too() -> Result {
    nursery(async |n| {
        n.spawn_daemon(async { sleep(LONG).await });
        let began = Instant::now();
        wait_all_tasks_blocked_for(MOMENT * 25).await?;
        assert_eq!(began.elapsed(), Duration::ZERO);
        Ok(())
    })
    .await
}

// Trio: test_wait_all_tasks_blocked_with_cushion.
#[trine::test(kernel = "both", runs = 20)]
async fn the_smallest_cushion_is_first_and_equal_ones_end_together() -> Result {
    let record = &RefCell::new(Vec::new());
    let wait = async |cushion: u32| {
        wait_all_tasks_blocked_for(MOMENT * cushion).await?;
        record.borrow_mut().push((cushion, stats().turns));
        Ok(())
    };
    let wait = &wait;
    nursery(async |n| {
        for cushion in [9, 3, 0, 3, 3] {
            n.spawn(wait(cushion));
        }
        Ok(())
    })
    .await?;
    let record = record.borrow();
    let order: Vec<u32> = record.iter().map(|(cushion, _)| *cushion).collect();
    assert_eq!(order, [0, 3, 3, 3, 9]);
    let turns: Vec<u64> = record.iter().map(|(_, turn)| *turn).collect();
    assert!(turns[1] == turns[2] && turns[2] == turns[3], "equal ones in one turn: {turns:?}");
    assert!(turns[0] < turns[1] && turns[3] < turns[4], "and the others in others: {turns:?}");
    Ok(())
}

// Trio: waking one resets the others. The one who is woken makes noise, and the next must wait for it.
#[trine::test(kernel = "both", runs = 20)]
async fn whoever_is_woken_has_its_say_before_the_next_is() -> Result {
    let steps = &Cell::new(0);
    nursery(async |n| {
        n.spawn(async {
            wait_all_tasks_blocked_for(MOMENT).await?;
            for _ in 0..100 {
                checkpoint().await?;
                steps.set(steps.get() + 1);
            }
            Ok(())
        });
        wait_all_tasks_blocked_for(MOMENT * 3).await?;
        assert_eq!(steps.get(), 100);
        Ok(())
    })
    .await
}

// What is due is not blocked: the clock was moved, and the sleepers run first.
#[trine::test(kernel = "both", clock = "manual", timeout = "100h", runs = 20)]
async fn a_sleeper_whose_time_has_come_is_not_blocked() -> Result {
    let ticks = &Cell::new(0);
    nursery(async |n| {
        n.spawn_daemon(async {
            loop {
                sleep(LONG).await?;
                checkpoint().await?;
                ticks.set(ticks.get() + 1);
            }
        });
        wait_all_tasks_blocked().await?;
        for hour in 1..5 {
            trine::testing::advance(LONG);
            wait_all_tasks_blocked().await?;
            assert_eq!(ticks.get(), hour);
        }
        Ok(())
    })
    .await
}

// A2, A8: it is a cancel point before anything else, and its cancellation takes it off the list.
#[trine::test(kernel = "both", runs = 20)]
async fn a_cancelled_wait_ends_at_once_and_wakes_nobody() -> Result {
    let scope = CancelScope::new();
    scope.cancel();
    assert!(scope.run(async |_| wait_all_tasks_blocked().await).await?.is_none());
    let scope = CancelScope::new();
    nursery(async |n| {
        n.spawn(async {
            let waited = scope.run(async |_| wait_all_tasks_blocked_for(LONG).await).await?;
            assert!(waited.is_none());
            Ok(())
        });
        checkpoint().await?;
        scope.cancel();
        Ok(())
    })
    .await?;
    wait_all_tasks_blocked().await
}

#[trine::test(kernel = "both", runs = 20)]
async fn a_dropped_wait_wakes_nobody() -> Result {
    for _ in 0..10 {
        let mut dropped = pin!(wait_all_tasks_blocked_for(MOMENT / 10));
        assert!(poll!(dropped.as_mut()).is_pending());
    }
    {
        let mut dropped = Box::pin(wait_all_tasks_blocked_for(MOMENT / 10));
        assert!(poll!(dropped.as_mut()).is_pending());
    }
    wait_all_tasks_blocked_for(MOMENT).await
}

// P4: a wait that was dropped does not hide that nothing can wake the run any more.
#[trine::test]
fn a_wait_that_was_dropped_does_not_hide_a_deadlock() {
    let main = async || {
        {
            let mut dropped = pin!(wait_all_tasks_blocked_for(Duration::from_secs(400)));
            assert!(poll!(dropped.as_mut()).is_pending());
        }
        sleep_forever().await
    };
    assert!(matches!(World::tame().run(main), Err(Error::Deadlock(_))));
}

#[test]
fn on_the_real_kernel_a_wait_that_was_dropped_does_not_hide_a_deadlock() {
    let ended = super::common::within(20, || {
        trine::Builder::new().detect_deadlock(true).run(async || {
            {
                let mut dropped = pin!(wait_all_tasks_blocked_for(Duration::from_secs(400)));
                assert!(poll!(dropped.as_mut()).is_pending());
            }
            sleep_forever().await
        })
    });
    assert!(matches!(ended, Err(Error::Deadlock(_))));
}

// A wait inside a timeout: the clock jumps only when the wait is over, so the timeout never comes.
#[trine::test(kernel = "both", clock = "autojump")]
async fn a_timeout_around_it_does_not_expire() -> Result {
    let waited = move_on_after(MOMENT, async |_| wait_all_tasks_blocked().await).await?;
    assert!(waited.is_some());
    Ok(())
}

#[test]
fn outside_of_a_run_it_says_so() {
    let mut wait = pin!(wait_all_tasks_blocked());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(Error::NoRun)) = wait.as_mut().poll(&mut cx) else {
        panic!("it waits for a run that there is not");
    };
}
