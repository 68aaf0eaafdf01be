//! Virtual time: Trio's `MockClock`, with and without autojump.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant as Outside};

use trine::net::TcpStream;
use trine::testing::{World, advance, wait_all_tasks_blocked};
use trine::time::{Instant, sleep, sleep_forever, sleep_until};
use trine::{
    CancelScope, Error, Result, checkpoint, fail_after, move_on_after, nursery, shield_for, stats,
    yield_shielded,
};

use super::common::pair;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const NANO: Duration = Duration::from_nanos(1);

// Trio: test_mock_clock_autojump. The machine's clock hardly moves.
#[trine::test(kernel = "both", clock = "autojump", timeout = "100h")]
async fn sleeping_for_an_hour_takes_no_time() -> Result {
    let outside = Outside::now();
    let began = Instant::now();
    for hours in 1..=5 {
        sleep(HOUR).await?;
        assert_eq!(began.elapsed(), HOUR * hours);
    }
    assert!(outside.elapsed() < SECOND * 60);
    Ok(())
}

// On the real kernel time jumps, and the kernel does what it does: between jumps, during none.
#[trine::test(kernel = "both", clock = "autojump", timeout = "100h", runs = 20)]
async fn bytes_come_through_between_the_jumps() -> Result {
    let (client, server) = &pair().await?;
    let began = Instant::now();
    nursery(async |n| {
        n.spawn(async move {
            for round in 0..3 {
                sleep(HOUR).await?;
                client.write_all(vec![round; 1000]).await?;
            }
            Ok(())
        });
        for round in 0..3 {
            let bytes = server.read_exact(vec![9; 1000]).await?;
            assert_eq!(bytes, vec![round; 1000]);
            let took = began.elapsed();
            assert!(took >= HOUR * (u32::from(round) + 1), "nothing comes before it is sent");
            assert!(took < HOUR * (u32::from(round) + 2), "and nothing an hour late: {took:?}");
        }
        Ok(())
    })
    .await
}

// H1, H3: everyone is woken at exactly the time asked for, in the order of the times.
#[trine::test(kernel = "both", clock = "autojump", runs = 20)]
async fn time_jumps_from_one_deadline_to_the_next_and_to_none_between() -> Result {
    let (began, woken) = (Instant::now(), &RefCell::new(Vec::new()));
    nursery(async |n| {
        for nanos in [5_000_000_007, 1, 30, 5_000_000_006, 29, 30, 1_000_000] {
            let after = Duration::from_nanos(nanos);
            n.spawn(async move {
                sleep(after).await?;
                assert_eq!(began.elapsed(), after);
                woken.borrow_mut().push(nanos);
                Ok(())
            });
        }
        Ok(())
    })
    .await?;
    assert_eq!(*woken.borrow(), [1, 29, 30, 30, 1_000_000, 5_000_000_006, 5_000_000_007]);
    Ok(())
}

// H3: nothing is early, not by a nanosecond, and what is cancelled at its deadline says so then.
#[trine::test(kernel = "both", clock = "autojump", runs = 20)]
async fn timeouts_expire_when_they_should() -> Result {
    let began = Instant::now();
    assert!(move_on_after(SECOND, async |_| sleep(SECOND - NANO).await).await?.is_some());
    assert_eq!(began.elapsed(), SECOND - NANO);
    let again = Instant::now();
    assert!(move_on_after(SECOND, async |_| sleep(SECOND + NANO).await).await?.is_none());
    assert_eq!(again.elapsed(), SECOND);
    let again = Instant::now();
    let failed = fail_after(SECOND, async |_| sleep_forever().await).await;
    assert!(matches!(failed, Err(Error::TooSlow(_))));
    assert_eq!(again.elapsed(), SECOND);
    let again = Instant::now();
    let shielded = shield_for(SECOND * 2, async |_| sleep_forever().await).await?;
    assert_eq!((shielded, again.elapsed()), (None, SECOND * 2));
    Ok(())
}

#[trine::test(kernel = "both", clock = "autojump", runs = 20)]
async fn sleeping_until_what_has_passed_does_not_move_the_clock() -> Result {
    let began = Instant::now();
    sleep(Duration::ZERO).await?;
    sleep_until(began - HOUR).await?;
    checkpoint().await?;
    yield_shielded().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    Ok(())
}

// A task that never waits would stop time: it passes, slowly, after a while.
#[trine::test(kernel = "both", clock = "autojump")]
async fn a_busy_run_lets_time_pass() -> Result {
    let began = Instant::now();
    let outcome = move_on_after(SECOND / 1000, async |_| {
        loop {
            checkpoint().await?;
        }
        #[expect(unreachable_code, reason = "it says what type the body has")]
        Ok(())
    })
    .await?;
    assert!(outcome.is_none());
    assert!(began.elapsed() < SECOND, "it passes slowly");
    Ok(())
}

#[trine::test(kernel = "both", clock = "autojump")]
async fn a_run_that_is_busy_for_a_moment_does_not_move_the_clock() -> Result {
    let began = Instant::now();
    for _ in 0..500 {
        checkpoint().await?;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    Ok(())
}

// Trio: test_mock_clock. Time stands still until it is moved, and all that is due by then happens.
#[trine::test(kernel = "both", clock = "manual", timeout = "100h", runs = 20)]
async fn time_that_is_moved_by_hand_stands_still_otherwise() -> Result {
    let (began, woken) = (Instant::now(), &Cell::new(0));
    nursery(async |n| {
        for seconds in 1..=5 {
            n.spawn(async move {
                sleep(SECOND * seconds).await?;
                woken.set(woken.get() + 1);
                Ok(())
            });
        }
        wait_all_tasks_blocked().await?;
        assert_eq!((woken.get(), began.elapsed()), (0, Duration::ZERO));
        advance(SECOND * 2 - NANO);
        wait_all_tasks_blocked().await?;
        assert_eq!((woken.get(), began.elapsed()), (1, SECOND * 2 - NANO));
        advance(NANO);
        wait_all_tasks_blocked().await?;
        assert_eq!(woken.get(), 2);
        advance(HOUR);
        wait_all_tasks_blocked().await?;
        assert_eq!((woken.get(), stats().timers), (5, 0));
        Ok(())
    })
    .await
}

// H3: whoever moves the clock and then waits for a sleeper sees it woken, on the real kernel too.
#[trine::test(kernel = "both", clock = "manual", timeout = "100h", runs = 20)]
async fn moving_the_clock_is_enough_to_wake_a_sleeper() -> Result {
    nursery(async |n| {
        n.spawn(async {
            checkpoint().await?;
            advance(HOUR);
            Ok(())
        });
        sleep(HOUR).await
    })
    .await?;
    let began = Instant::now();
    let mut slept = std::pin::pin!(sleep(HOUR));
    assert!(futures::poll!(slept.as_mut()).is_pending());
    advance(HOUR + NANO);
    slept.await?;
    assert_eq!(began.elapsed(), HOUR + NANO);
    Ok(())
}

// A deadline set by hand expires by hand as well.
#[trine::test(kernel = "both", clock = "manual", timeout = "100h", runs = 20)]
async fn a_deadline_expires_when_the_clock_is_moved_beyond_it() -> Result {
    let (scope, began) = (CancelScope::new().timeout(SECOND), Instant::now());
    nursery(async |n| {
        n.spawn(async {
            assert!(scope.run(async |_| sleep_forever().await).await?.is_none());
            assert_eq!(began.elapsed(), SECOND);
            Ok(())
        });
        wait_all_tasks_blocked().await?;
        assert!(scope.cancel_called().is_none());
        advance(SECOND);
        Ok(())
    })
    .await
}

// Nobody can move the clock any more: the tree says who waits for it.
#[trine::test]
fn a_clock_that_nobody_will_move_is_a_deadlock() {
    let ended = World::tame().by_hand().run(async || sleep(SECOND).await);
    let Err(Error::Deadlock(tree)) = ended else { panic!("{ended:?}") };
    assert!(tree.contains("waits"), "{tree}");
}

// Trio: test_mock_clock_autojump_interference: two runs in one world share its time.
#[trine::test]
fn time_goes_on_from_one_run_of_a_world_to_the_next() -> Result {
    let world = World::tame();
    world.run(async || sleep(HOUR).await)?;
    assert_eq!(world.elapsed(), HOUR);
    let began = world.run(async || Ok(Instant::now()))?;
    world.advance(SECOND);
    world.run(async || {
        assert_eq!(began.elapsed(), SECOND);
        sleep(HOUR).await
    })?;
    assert_eq!(world.elapsed(), HOUR * 2 + SECOND);
    Ok(())
}

#[test]
#[should_panic(expected = "no trine run on this thread")]
fn time_cannot_be_moved_outside_of_a_run() {
    advance(SECOND);
}

#[trine::test(kernel = "real")]
#[should_panic(expected = "passes by itself")]
async fn time_that_passes_by_itself_cannot_be_moved() {
    advance(SECOND);
}

// The network of a world has a clock too: what is under way arrives to the nanosecond.
#[trine::test]
async fn what_is_under_way_arrives_exactly_then() -> Result {
    let (client, server) = pair().await?;
    World::current().set_latency(SECOND + NANO);
    let began = Instant::now();
    client.write_all("x").await?;
    assert_eq!(began.elapsed(), Duration::ZERO, "sending is putting into a buffer");
    assert!(server.recv().await?.is_some());
    assert_eq!(began.elapsed(), SECOND + NANO);
    World::current().set_latency(Duration::ZERO);
    TcpStream::connect_addr(client.local_addr()?).await.expect_err("nobody listens there");
    Ok(())
}
