//! Time: instants, sleeps and the deadlines that are set with them (section H). What scopes do with a
//! deadline is in `tests/scopes/deadlines.rs`.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::Future;
use std::ops::AsyncFnOnce;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant as Outside};

use futures::channel::oneshot;
use futures::poll;
use trine::time::{Instant, Sleep, sleep, sleep_forever, sleep_until};
use trine::{
    Builder, CancelScope, Error, Result, checkpoint, current_effective_deadline, fail_after,
    fail_at, is_cancelled, move_on_after, move_on_at, nursery, shield, shield_for, stats,
    yield_shielded,
};

use common::{fewer, spin_until};

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(2);
const TICK: Duration = Duration::from_nanos(1);

/// Runs a test. What nothing can wake any more is an error here, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(10, || Builder::new().detect_deadlock(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

fn timers() -> usize {
    stats().timers
}

// Instants.

// The docs of `MIN` and `MAX`.
#[trine::test(kernel = "both")]
fn instants_are_ordered_from_min_to_max() {
    let now = Instant::now();
    let mut mixed = [Instant::MAX, now + TICK, Instant::MIN, now, now - TICK];
    mixed.sort();
    assert_eq!(mixed, [Instant::MIN, now - TICK, now, now + TICK, Instant::MAX]);
    assert!(mixed.windows(2).all(|pair| pair[0] < pair[1]));
    let again = [now + TICK, now].map(|instant| instant - TICK + TICK);
    assert_eq!(mixed.into_iter().chain(again).collect::<HashSet<_>>().len(), 5);
}

// H4: a duration becomes an instant once, and nothing of it is lost.
#[trine::test(kernel = "both")]
fn adding_a_duration_and_taking_it_away_cancel_out() {
    let now = Instant::now();
    for nanos in [0, 1, 999_999_999, 1_000_000_000, 123_456_789_123_456_789] {
        let duration = Duration::from_nanos(nanos);
        assert_eq!((now + duration) - now, duration);
        assert_eq!((now + duration) - duration, now);
        assert_eq!((now + duration).saturating_duration_since(now), duration);
        let mut later = now;
        later += duration;
        assert_eq!(later, now + duration);
    }
}

// H3: no overflow, in either direction, ends anything early or panics.
#[trine::test(kernel = "both")]
fn sums_and_differences_stop_at_the_ends_of_time() {
    let now = Instant::now();
    for huge in [Duration::MAX, Duration::from_nanos(u64::MAX), LONG * 1_000_000_000] {
        assert_eq!(now + huge, Instant::MAX, "{huge:?}");
        assert_eq!(now - huge, Instant::MIN, "{huge:?}");
    }
    let mut later = Instant::MAX - TICK;
    assert!(later < Instant::MAX);
    later += 2 * TICK;
    assert_eq!(later, Instant::MAX);
    assert_eq!(Instant::MIN + TICK - 2 * TICK, Instant::MIN);
    // A difference is never negative.
    assert_eq!(now - (now + TICK), Duration::ZERO);
    assert_eq!(now.saturating_duration_since(Instant::MAX), Duration::ZERO);
    assert_eq!(Instant::MAX - Instant::MIN, Duration::from_nanos(u64::MAX));
}

// The doc of `Instant`: in nanoseconds.
#[trine::test(kernel = "both")]
fn an_instant_shows_its_seconds_to_the_nanosecond() {
    assert_eq!(format!("{:?}", Instant::MIN), "0.000000000 s");
    let instant = Instant::MIN + Duration::new(3, 7);
    assert_eq!(format!("{instant:?}"), "3.000000007 s");
}

// One clock for all: of the run, outside of it, of other threads and of later runs.
#[test]
fn the_clock_goes_on_across_runs_and_threads_and_never_back() {
    let before = Instant::now();
    let inside = run(async || {
        let first = Instant::now();
        assert!(first >= before);
        let elsewhere = thread::spawn(Instant::now).join().unwrap();
        assert!(elsewhere >= first);
        let mut latest = elsewhere;
        for _ in 0..10_000 {
            let now = Instant::now();
            assert!(now >= latest);
            latest = now;
        }
        Ok(latest)
    });
    assert!(run(async || Ok(Instant::now())) >= inside);
    assert!(Instant::now() >= inside);
}

// The doc of `elapsed`.
#[trine::test(kernel = "both")]
fn elapsed_says_how_long_ago_and_zero_of_what_is_to_come() {
    let (begun, outside) = (Instant::now(), Outside::now());
    spin_until(begun + MOMENT);
    let (elapsed, most) = (begun.elapsed(), outside.elapsed());
    // The second clock was started after the first one, and read after it.
    assert!(MOMENT <= elapsed && elapsed <= most + MOMENT, "{elapsed:?}, {most:?}");
    assert_eq!((Instant::now() + LONG).elapsed(), Duration::ZERO);
    assert_eq!(Instant::MAX.elapsed(), Duration::ZERO);
    assert!(Instant::MIN.elapsed() > LONG, "nothing that is past is as early as `MIN`");
}

// Sleeps.

// H3, by another clock, with nobody else who would keep the turns coming.
#[test]
fn nothing_ends_before_its_time_in_a_run_that_is_otherwise_idle() {
    run(async || {
        for micros in [1, 20, 300, 999, 1_001, 1_500, 2_300] {
            let duration = Duration::from_micros(micros);
            let begun = Outside::now();
            sleep(duration).await?;
            assert!(begun.elapsed() >= duration, "a sleep of {duration:?}");
            let begun = Outside::now();
            let until = Instant::now() + duration;
            sleep_until(until).await?;
            assert!(begun.elapsed() >= duration, "a sleep until {duration:?} from now");
            assert!(Instant::now() >= until);
            let begun = Outside::now();
            let until = Instant::now() + duration;
            assert!(move_on_at(until, async |_| sleep_forever().await).await?.is_none());
            assert!(begun.elapsed() >= duration, "a scope of {duration:?}");
        }
        Ok(())
    });
}

// The doc of `sleep`: it is the wait that takes so long, whenever the future was made.
#[trine::test(kernel = "both")]
fn a_sleep_counts_from_its_first_poll_and_a_sleep_until_does_not() {
    run(async || {
        let (mut relative, mut absolute) = (pin!(sleep(LONG)), pin!(sleep_until(Instant::now())));
        let made = Instant::now();
        spin_until(made + MOMENT);
        assert_eq!(timers(), 0, "an unpolled sleep has no timer");
        assert!(poll!(relative.as_mut()).is_pending());
        // The clock is read a little later than here.
        assert!(stats().next_deadline.unwrap() > LONG - made.elapsed());
        assert!(poll!(absolute.as_mut()).is_pending(), "a schedule point");
        assert_eq!(timers(), 1, "what is over needs no timer");
        absolute.await
    });
}

// A1, A2: what is over before it began is a checkpoint nonetheless: it lets others run …
#[trine::test(kernel = "both")]
fn a_sleep_until_a_time_that_has_passed_lets_others_run() {
    run(async || {
        let ran = &Cell::new(Instant::MAX);
        nursery(async |n| {
            for past in [Instant::MIN, Instant::now() - LONG, Instant::now()] {
                n.spawn(async move {
                    ran.set(past);
                    Ok(())
                });
                let turn = stats().turns;
                sleep_until(past).await?;
                assert!(ran.get() == past && stats().turns > turn, "{past:?}");
            }
            Ok(())
        })
        .await
    });
}

// … and raises if a scope around is cancelled, every time (B7).
#[trine::test(kernel = "both")]
fn every_sleep_in_a_cancelled_scope_raises() {
    run(async || {
        let scope = CancelScope::new();
        let caught = scope.run(async |scope| {
            scope.cancel();
            for _ in 0..fewer(3, 2) {
                for until in [Instant::MIN, Instant::now(), Instant::now() + LONG, Instant::MAX] {
                    assert!(sleep_until(until).await.unwrap_err().is_cancelled(), "{until:?}");
                }
                for duration in [Duration::ZERO, LONG, Duration::MAX] {
                    assert!(sleep(duration).await.unwrap_err().is_cancelled(), "{duration:?}");
                }
                assert!(sleep_forever().await.unwrap_err().is_cancelled());
            }
            assert_eq!(timers(), 0);
            checkpoint().await
        });
        assert!(caught.await?.is_none());
        Ok(())
    });
}

// The doc of `sleep`: `NoRun`.
#[trine::test(kernel = "both")]
fn outside_of_a_run_nobody_sleeps() {
    let mut cx = Context::from_waker(Waker::noop());
    let mut refuses = |sleep: Pin<&mut dyn Future<Output = Result>>| {
        assert!(matches!(sleep.poll(&mut cx), Poll::Ready(Err(Error::NoRun))));
    };
    refuses(pin!(sleep(Duration::ZERO)));
    refuses(pin!(sleep(LONG)));
    refuses(pin!(sleep_until(Instant::now())));
    refuses(pin!(sleep_forever()));
    assert_eq!(current_effective_deadline(), None);
}

// The doc of `Sleep`.
#[trine::test(kernel = "both")]
fn a_sleep_that_is_polled_again_after_its_end_sleeps_anew() {
    run(async || {
        let mut relative = pin!(sleep(MOMENT));
        for _ in 0..3 {
            let begun = Instant::now();
            relative.as_mut().await?;
            assert!(begun.elapsed() >= MOMENT);
        }
        let mut absolute = pin!(sleep_until(Instant::now() + MOMENT));
        absolute.as_mut().await?;
        let turn = stats().turns;
        absolute.as_mut().await?;
        assert!(stats().turns > turn);
        // Also after it was cancelled.
        let mut cancelled = pin!(sleep(3 * MOMENT));
        let caught = move_on_after(MOMENT / 2, async |_| cancelled.as_mut().await);
        assert!(caught.await?.is_none());
        let begun = Instant::now();
        cancelled.await?;
        assert!(begun.elapsed() >= 3 * MOMENT);
        Ok(())
    });
}

// C3, F7: a sleeper that is cancelled wakes at once, and its timer is gone.
#[trine::test(kernel = "both")]
fn a_thousand_sleepers_that_are_cancelled_wake_at_once_and_leave_no_timer() {
    const SLEEPERS: u32 = fewer(1000, 30);
    run(async || {
        let woken = &Cell::new(0);
        nursery(async |n| {
            for n_th in 0..SLEEPERS {
                n.spawn(async move {
                    let slept = sleep(LONG + n_th * TICK).await;
                    assert!(slept.as_ref().unwrap_err().is_cancelled());
                    woken.set(woken.get() + 1);
                    slept
                });
            }
            yield_shielded().await;
            assert_eq!(timers(), SLEEPERS as usize);
            n.cancel();
            Ok(())
        })
        .await?;
        assert_eq!((woken.get(), timers()), (SLEEPERS, 0));
        Ok(())
    });
}

// A dropped sleep leaves no timer, however far it had got.
#[trine::test(kernel = "both")]
fn a_dropped_sleep_leaves_no_timer() {
    const SLEEPS: u32 = fewer(100, 20);
    run(async || {
        drop((sleep(LONG), sleep_until(Instant::now() + LONG), sleep_forever()));
        assert_eq!(timers(), 0);
        let mut sleeps: Vec<Pin<Box<Sleep>>> = Vec::new();
        for n in 0..SLEEPS {
            sleeps.push(Box::pin(sleep(LONG + n * 37 % SLEEPS * TICK)));
        }
        for sleep in &mut sleeps {
            assert!(poll!(sleep).is_pending());
        }
        // Polling again sets no second one.
        for sleep in &mut sleeps {
            assert!(poll!(sleep).is_pending());
        }
        for left in (0..SLEEPS as usize).rev() {
            drop(sleeps.swap_remove(left * 61 % (left + 1)));
            assert_eq!(timers(), left);
        }
        assert_eq!(stats().next_deadline, None);
        // One that is over has none either, woken or not.
        let mut short = Box::pin(sleep(MOMENT / 4));
        assert!(poll!(&mut short).is_pending());
        sleep(MOMENT).await?;
        assert_eq!(timers(), 0);
        assert!(poll!(&mut short).is_ready());
        Ok(())
    });
}

// F12: a sleep that was forgotten keeps its timer, which wakes nobody when it is due.
#[trine::test(kernel = "both")]
fn a_forgotten_sleep_is_harmless() {
    run(async || {
        move_on_after(LONG, async |_| {
            let mut forgotten = Box::pin(sleep(20 * MOMENT));
            assert!(poll!(&mut forgotten).is_pending());
            std::mem::forget(forgotten);
            checkpoint().await
        })
        .await?;
        assert_eq!(timers(), 1);
        sleep(21 * MOMENT).await?;
        assert_eq!(timers(), 0);
        Ok(())
    });
}

// H3: many sleepers, whatever the order in which they lie down, wake in that of their deadlines, also
// when several are due in one turn and when others in between were taken out.
#[trine::test(kernel = "both")]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    run(async || {
        let mut patience = 2 * MOMENT;
        // Unless all lie down before the first is to wake, nothing is said about their order.
        while !wakes_in_order(patience).await? {
            patience *= 2;
        }
        Ok(())
    });
}

/// Whether they lay down in time; then they wake in order.
async fn wakes_in_order(patience: Duration) -> Result<bool> {
    const SLEEPERS: u64 = fewer(199, 23);
    let first = Instant::now() + patience;
    let (woken, lay_down) = (&RefCell::new(Vec::new()), &Cell::new(first));
    nursery(async |n| {
        for place in (0..SLEEPERS).map(|n| n * 83 % SLEEPERS) {
            n.spawn(async move {
                let until = first + Duration::from_micros(7 * place);
                let mut asleep = pin!(sleep_until(until));
                assert!(poll!(asleep.as_mut()).is_pending());
                lay_down.set(Instant::now());
                if place % 3 == 0 {
                    // Taken out of the middle.
                    return Ok(());
                }
                asleep.await?;
                assert!(Instant::now() >= until);
                woken.borrow_mut().push(place);
                Ok(())
            });
        }
        Ok(())
    })
    .await?;
    let undisturbed = (0..SLEEPERS).filter(|place| place % 3 > 0);
    assert!(lay_down.get() >= first || undisturbed.eq(woken.borrow().iter().copied()));
    Ok(lay_down.get() < first)
}

// Equal deadlines come in the order in which they were set.
#[trine::test(kernel = "both")]
fn sleepers_with_one_deadline_wake_in_the_order_in_which_they_lay_down() {
    const SLEEPERS: u32 = fewer(100, 20);
    run(async || {
        let until = Instant::now() + MOMENT;
        let woken = &RefCell::new(Vec::new());
        nursery(async |n| {
            for n_th in 0..SLEEPERS {
                n.spawn(async move {
                    sleep_until(until).await?;
                    woken.borrow_mut().push(n_th);
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        assert!(woken.borrow().iter().copied().eq(0..SLEEPERS), "{:?}", woken.borrow());
        Ok(())
    });
}

// The same for scopes; one whose deadline was set again, to what it was, goes to the end.
#[trine::test(kernel = "both")]
fn scopes_with_one_deadline_are_cancelled_in_the_order_in_which_it_was_set() {
    run(async || {
        let scopes: Vec<_> = (0..5).map(|_| CancelScope::new()).collect();
        let (scopes, ended) = (&scopes, &RefCell::new(Vec::new()));
        nursery(async |n| {
            for (n_th, scope) in scopes.iter().enumerate() {
                n.spawn(async move {
                    scope.run(async |_| sleep_forever().await).await?;
                    ended.borrow_mut().push(n_th);
                    Ok(())
                });
            }
            yield_shielded().await;
            let at = Instant::now() + MOMENT;
            for n_th in [0, 1, 2, 3, 4, 1, 0] {
                scopes[n_th].set_deadline(Some(at));
            }
            Ok(())
        })
        .await?;
        assert_eq!(*ended.borrow(), [2, 3, 4, 1, 0]);
        Ok(())
    });
}

// H3: a deadline at `MAX` never comes and needs no timer, however it was arrived at.
#[trine::test(kernel = "both")]
fn what_never_ends_needs_no_timer_and_nothing_can_wake_it() {
    type Sleeping = Pin<Box<dyn Future<Output = Result>>>;
    let forever: [fn() -> Sleeping; 5] = [
        || Box::pin(sleep_forever()),
        || Box::pin(sleep_until(Instant::MAX)),
        || Box::pin(sleep(Duration::MAX)),
        || Box::pin(fail_at(Instant::MAX, async |_| sleep_forever().await)),
        || Box::pin(fail_after(Duration::MAX, async |_| sleep_forever().await)),
    ];
    for (n, forever) in forever.into_iter().enumerate() {
        let ended = common::within(10, || {
            Builder::new().detect_deadlock(true).run(async || {
                let mut sleeping = forever();
                assert!(poll!(&mut sleeping).is_pending());
                assert_eq!(timers(), 0, "{n}");
                sleeping.await
            })
        });
        assert!(matches!(ended, Err(Error::Deadlock(_))), "{n}: {ended:?}");
    }
}

// H3: one that lies centuries ahead is not mistaken for one that has passed; the thread sleeps.
#[test]
fn a_deadline_at_the_end_of_time_is_slept_for_and_not_spun_for() {
    for until in [Instant::MAX - TICK, Instant::now() + Duration::from_secs(1 << 33)] {
        run(async || {
            let (ring, rung) = oneshot::channel();
            let ringer = thread::spawn(move || {
                thread::sleep(MOMENT);
                ring.send("rung").unwrap();
            });
            let mut sleeping = pin!(sleep_until(until));
            assert!(poll!(sleeping.as_mut()).is_pending());
            assert_eq!(timers(), 1);
            let turns = stats().turns;
            assert_eq!(rung.await, Ok("rung"));
            assert!(stats().turns - turns < 10, "{} turns", stats().turns - turns);
            assert!(poll!(sleeping.as_mut()).is_pending());
            // Nor does it keep others from waking in time.
            sleep(MOMENT).await?;
            ringer.join().unwrap();
            Ok(())
        });
    }
}

// B2, D4: a sleep that has left the scope that was cancelled sleeps on, to the same deadline.
#[trine::test(kernel = "both")]
fn a_sleep_that_has_left_a_cancelled_scope_neither_ends_nor_begins_anew() {
    run(async || {
        let mut sleeping = pin!(sleep(LONG));
        assert!(poll!(sleeping.as_mut()).is_pending());
        let begun = Instant::now();
        for round in 1..4 {
            let scope = CancelScope::new();
            let left = scope.run(async |scope| {
                assert!(poll!(sleeping.as_mut()).is_pending());
                scope.cancel();
                Ok(())
            });
            assert_eq!(left.await?, Some(()));
            spin_until(begun + round * MOMENT / 4);
            assert!(poll!(sleeping.as_mut()).is_pending());
            assert_eq!(timers(), 1);
            assert!(stats().next_deadline.unwrap() <= LONG - round * MOMENT / 4, "{round}");
        }
        Ok(())
    });
}

// B2: whatever is polled inside a scope is cancelled by it, wherever it was begun.
#[trine::test(kernel = "both")]
fn a_sleep_that_was_begun_outside_is_cancelled_by_the_scope_that_it_is_polled_in() {
    run(async || {
        let mut sleeping = pin!(sleep(LONG));
        assert!(poll!(sleeping.as_mut()).is_pending());
        let moved_on = move_on_after(MOMENT, async |_| sleeping.as_mut().await);
        assert!(moved_on.await?.is_none());
        assert_eq!(timers(), 0);
        Ok(())
    });
}

// G1, G3: clean-up sleeps its full time behind a shield, and no longer than the shield lets it.
#[trine::test(kernel = "both")]
fn a_sleep_behind_a_shield_takes_its_full_time_in_a_cancelled_scope() {
    run(async || {
        let scope = CancelScope::new();
        scope.cancel();
        let slept = scope.run(async |_| {
            let begun = Instant::now();
            shield(sleep(MOMENT)).await?;
            assert!(begun.elapsed() >= MOMENT);
            assert!(shield_for(LONG, async |_| sleep(MOMENT).await).await?.is_some());
            assert!(begun.elapsed() >= 2 * MOMENT);
            assert!(shield_for(MOMENT, async |_| sleep(LONG).await).await?.is_none());
            assert!(begun.elapsed() >= 3 * MOMENT);
            Ok(())
        });
        assert_eq!(slept.await?, Some(()));
        Ok(())
    });
}

// Deadlines.

// The doc of `set_deadline`: a scope has one timer at most, however often its deadline is moved.
#[trine::test(kernel = "both")]
fn a_deadline_that_is_moved_again_and_again_has_one_timer() {
    run(async || {
        let scope = &CancelScope::new();
        let ended = scope.run(async |scope| {
            let mut asleep = pin!(sleep_forever());
            assert!(poll!(asleep.as_mut()).is_pending());
            yield_shielded().await;
            assert_eq!(timers(), 0);
            for n in 0..50 {
                scope.set_deadline(Some(Instant::now() + LONG + n * 7 % 50 * MOMENT));
                assert_eq!(timers(), 1);
            }
            for never in [None, Some(Instant::MAX)] {
                scope.set_deadline(never);
                assert_eq!((timers(), scope.current_deadline()), (0, never));
            }
            // It counts from then on, even if it has passed.
            scope.set_deadline(Some(Instant::now() - LONG));
            assert!(!is_cancelled(), "setting it is no checkpoint (A3)");
            assert!(asleep.await.unwrap_err().is_cancelled());
            assert_eq!(timers(), 0);
            // B6: nothing un-cancels it.
            scope.set_deadline(Some(Instant::now() + LONG));
            assert_eq!((timers(), is_cancelled()), (0, true));
            checkpoint().await
        });
        assert!(ended.await?.is_none());
        // F1: of what has been left it is a mere note.
        scope.set_deadline(Some(Instant::now() + LONG));
        assert_eq!(timers(), 0);
        Ok(())
    });
}

// F4, and the doc of `set_deadline`: the last word before the entry counts.
#[trine::test(kernel = "both")]
fn a_deadline_that_is_set_before_the_entry_replaces_the_timeout() {
    run(async || {
        let scope = CancelScope::new().timeout(Duration::ZERO);
        scope.set_deadline(None);
        assert!(scope.run(async |_| sleep(MOMENT).await).await?.is_some());
        let at = Instant::now() + LONG;
        let scope = CancelScope::new().timeout(Duration::ZERO);
        scope.set_deadline(Some(at));
        let inside = scope.run(async |_| Ok(current_effective_deadline())).await?;
        assert_eq!(inside, Some(Some(at)));
        Ok(())
    });
}

// H3: several scopes, moved by others while they wait, end when their last deadlines say.
#[trine::test(kernel = "both")]
fn deadlines_that_others_move_end_their_scopes_in_the_new_order() {
    run(async || {
        let base = Instant::now();
        let scopes: Vec<_> = (0..9).map(|_| CancelScope::new().deadline(base + LONG)).collect();
        let (scopes, ended) = (&scopes, &RefCell::new(Vec::new()));
        let due = |place: usize| base + MOMENT + place as u32 * MOMENT / 10;
        nursery(async |n| {
            for (n_th, scope) in scopes.iter().enumerate() {
                n.spawn(async move {
                    scope.run(async |_| sleep_forever().await).await?;
                    assert!(Instant::now() >= scope.current_deadline().unwrap());
                    ended.borrow_mut().push(n_th);
                    Ok(())
                });
            }
            yield_shielded().await;
            for (n_th, scope) in scopes.iter().enumerate() {
                scope.set_deadline(Some(due(n_th)));
            }
            for (n_th, scope) in scopes.iter().enumerate() {
                scope.set_deadline(Some(due(n_th * 4 % 9)));
            }
            Ok(())
        })
        .await?;
        assert_eq!(*ended.borrow(), [0, 7, 5, 3, 1, 8, 6, 4, 2]);
        Ok(())
    });
}

/// What a level of a tower of scopes is like.
#[derive(Clone, Copy, Debug)]
struct Level {
    deadline: Option<Instant>,
    shield: bool,
    cancelled: bool,
}

/// Rule H1, from the innermost level outwards, word for word.
fn by_the_rule(levels: &[Level]) -> Option<Instant> {
    let (own, outer) = levels.split_last()?;
    if by_the_rule_cancelled(levels) {
        return Some(Instant::MIN);
    }
    let inherited = if own.shield { None } else { by_the_rule(outer) };
    own.deadline.into_iter().chain(inherited).min()
}

/// Rule B3.
fn by_the_rule_cancelled(levels: &[Level]) -> bool {
    let Some((own, outer)) = levels.split_last() else { return false };
    own.cancelled || (!own.shield && by_the_rule_cancelled(outer))
}

/// Enters the levels one inside the other, and compares in each of them, and in a child of it.
fn climb<'a>(levels: &'a [Level], at: usize) -> Pin<Box<dyn Future<Output = Result> + 'a>> {
    Box::pin(async move {
        let expected = by_the_rule(&levels[..at]);
        assert_eq!(current_effective_deadline(), expected, "{:?}", &levels[..at]);
        let Some(level) = levels.get(at) else {
            return nursery(async |n| {
                // N11: a child is under the scopes of its nursery.
                move_on_after(Duration::ZERO, async |_| {
                    n.spawn(async move {
                        assert_eq!(current_effective_deadline(), expected, "{levels:?}");
                        Ok(())
                    });
                    Ok(())
                })
                .await?;
                Ok(())
            })
            .await;
        };
        let scope = CancelScope::new().shield(level.shield);
        scope.set_deadline(level.deadline);
        let inside = scope.run(async |scope| {
            if level.cancelled {
                scope.cancel();
            }
            climb(levels, at + 1).await
        });
        assert_eq!(inside.await?, Some(()), "E5");
        assert_eq!(current_effective_deadline(), expected);
        Ok(())
    })
}

// H1, H2: in 300 towers of scopes, drawn at random.
#[trine::test(kernel = "both")]
fn the_effective_deadline_is_what_the_rule_says_in_every_tower_of_scopes() {
    run(async || {
        let (now, mut random) = (Instant::now(), 7_u32);
        let mut below = |limit: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) % limit
        };
        for _ in 0..fewer(300, 6) {
            let levels: Vec<_> = (0..below(7))
                .map(|_| Level {
                    deadline: (below(3) > 0).then(|| now + LONG * (1 + below(9))),
                    shield: below(4) == 0,
                    cancelled: below(8) == 0,
                })
                .collect();
            climb(&levels, 0).await?;
        }
        assert_eq!((timers(), current_effective_deadline()), (0, None));
        Ok(())
    });
}

// H1: also where a deadline was set by `fail_after`, moved from outside, or has passed.
#[trine::test(kernel = "both")]
fn the_effective_deadline_follows_what_becomes_of_the_scope() {
    run(async || {
        let begun = Instant::now();
        let failed = fail_after(MOMENT, async |scope| {
            let own = current_effective_deadline().unwrap();
            assert!(own >= begun + MOMENT && own <= Instant::now() + MOMENT);
            scope.set_deadline(Some(own + LONG));
            assert_eq!(current_effective_deadline(), Some(own + LONG));
            scope.set_deadline(Some(own));
            sleep_forever().await.unwrap_err();
            assert_eq!(current_effective_deadline(), Some(Instant::MIN), "it has passed");
            shield_for(LONG, async |scope| {
                assert_eq!(current_effective_deadline(), scope.current_deadline());
                Ok(())
            })
            .await?;
            checkpoint().await
        });
        assert!(failed.await.unwrap_err().is_too_slow());
        assert_eq!(current_effective_deadline(), None);
        Ok(())
    });
}
