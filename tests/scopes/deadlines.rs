//! Deadlines (section H).

use std::time::Duration;

use trine::time::{Instant, sleep, sleep_forever};
use trine::{
    CancelScope, checkpoint, current_effective_deadline, move_on_after, move_on_at, nursery, shield,
};

use crate::{LONG, MOMENT, run};

// H1: −∞ if cancelled; own if shielded; else the minimum of own and the parent's.
#[trine::test(kernel = "both")]
fn the_effective_deadline_is_the_earliest_visible_one() {
    run(async || {
        let now = Instant::now();
        let (near, far) = (now + LONG, now + 2 * LONG);
        assert_eq!(current_effective_deadline(), None);
        let left = move_on_at(near, async |outer| {
            assert_eq!(current_effective_deadline(), Some(near));
            move_on_at(far, async |inner| {
                assert_eq!(current_effective_deadline(), Some(near), "H2");
                inner.set_shield(true);
                assert_eq!(current_effective_deadline(), Some(far));
                shield(async { assert_eq!(current_effective_deadline(), None) }).await;
                inner.set_shield(false);
                outer.set_deadline(None);
                assert_eq!(current_effective_deadline(), Some(far));
                inner.set_shield(true);
                outer.cancel();
                assert_eq!(current_effective_deadline(), Some(far), "behind the shield");
                inner.set_shield(false);
                assert_eq!(current_effective_deadline(), Some(Instant::MIN));
                Ok(())
            })
            .await
        });
        left.await?;
        assert_eq!(current_effective_deadline(), None);
        Ok(())
    });
}

// H2: an inner later deadline never extends an outer one.
#[trine::test(kernel = "both")]
fn a_later_deadline_inside_does_not_extend_an_earlier_one_outside() {
    run(async || {
        let outer = CancelScope::new().timeout(MOMENT);
        let left = outer.run(async |_| {
            move_on_after(LONG, async |_| sleep_forever().await).await?;
            panic!("the inner scope has absorbed the outer one's deadline");
            #[expect(unreachable_code, reason = "says what the body would return")]
            Ok(())
        });
        assert!(left.await?.is_none());
        assert!(outer.caught());
        Ok(())
    });
}

// H3: a sleep never ends early, and no deadline passes early.
#[trine::test(kernel = "both")]
#[cfg_attr(miri, ignore = "turns by the thousand")]
fn neither_sleeps_nor_deadlines_are_early() {
    run(async || {
        nursery(async |n| {
            // Somebody keeps the turns coming, so the deadlines are looked at all the time.
            n.spawn_daemon(async {
                loop {
                    checkpoint().await?;
                }
            });
            for micros in [0, 1, 50, 300, 999, 1_001, 2_300] {
                let duration = Duration::from_micros(micros);
                let began = Instant::now();
                sleep(duration).await?;
                assert!(began.elapsed() >= duration, "a sleep of {duration:?}");
                let began = Instant::now();
                move_on_after(duration, async |_| sleep_forever().await).await?;
                assert!(began.elapsed() >= duration, "a scope of {duration:?}");
            }
            Ok(())
        })
        .await
    });
}

// H3: the sum saturates, and a deadline that never comes needs no timer.
#[trine::test(kernel = "both")]
fn durations_beyond_all_measure_never_end() {
    run(async || {
        let left = move_on_after(MOMENT, async |_| {
            let inside = move_on_after(Duration::MAX, async |_| sleep(Duration::MAX).await);
            inside.await?;
            Ok(())
        });
        assert!(left.await?.is_none());
        Ok(())
    });
}

// A moved deadline counts from then on, in both directions.
#[trine::test(kernel = "both")]
fn a_deadline_can_be_moved_while_the_body_waits() {
    run(async || {
        let scope = &CancelScope::new().timeout(MOMENT);
        let sooner = &CancelScope::new().timeout(LONG);
        nursery(async |n| {
            n.spawn(async move {
                let later = scope.run(async |_| sleep(4 * MOMENT).await).await?;
                assert!(later.is_some(), "it was put off");
                n.spawn(async move {
                    sooner.set_deadline(Some(Instant::now() + MOMENT));
                    Ok(())
                });
                assert!(sooner.run(async |_| sleep_forever().await).await?.is_none());
                Ok(())
            });
            checkpoint().await?;
            scope.set_deadline(Some(Instant::now() + LONG));
            assert!(scope.current_deadline() > Some(Instant::now() + LONG / 2));
            Ok(())
        })
        .await
    });
}
