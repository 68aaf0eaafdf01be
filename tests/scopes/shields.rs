//! Shields, and clean-up behind them (section G).

use std::cell::Cell;
use std::time::Duration;

use trine::net::TcpListener;
use trine::time::{sleep, sleep_forever};
use trine::{
    CancelScope, Error, checkpoint, move_on_after, nop, nursery, shield, shield_for, stats, tree,
};

use crate::{LONG, MOMENT, pair, run};

// G1: outside is hidden; its own cancel and deadline, and scopes inside, work.
#[trine::test(kernel = "both")]
fn a_shield_hides_what_is_outside_and_nothing_else() {
    run(async || {
        let outer = CancelScope::new();
        outer.cancel();
        let left = outer.run(async |_| {
            let timed = shield_for(MOMENT, async |_| sleep_forever().await).await?;
            assert!(timed.is_none(), "its own deadline");
            let inside = shield(async {
                let inner = move_on_after(MOMENT, async |_| sleep_forever().await).await?;
                assert!(inner.is_none(), "a scope inside");
                sleep(MOMENT).await?;
                nop().await
            });
            inside.await?;
            checkpoint().await
        });
        assert!(left.await?.is_none(), "and after it the cancellation is there again");
        Ok(())
    });
}

// G2: taking it away delivers at once, to parks and to operations.
#[trine::test(kernel = "both")]
fn switching_a_shield_off_delivers_at_once() {
    run(async || {
        let listener = &TcpListener::bind("127.0.0.1:0").await?;
        let shielded = &CancelScope::new().shield(true);
        let outer = CancelScope::new();
        let left = outer.run(async |outer| {
            nursery(async |n| {
                n.spawn(async move {
                    shielded
                        .run(async |_| {
                            nursery(async |inner| {
                                inner.spawn(async { listener.accept().await.map(drop) });
                                sleep_forever().await
                            })
                            .await
                        })
                        .await?;
                    Ok(())
                });
                while stats().in_kernel == 0 {
                    checkpoint().await?;
                }
                outer.cancel();
                shield(async {
                    checkpoint().await?;
                    assert!(!tree().contains("asked to cancel"), "the shield holds");
                    shielded.set_shield(false);
                    assert!(!shielded.is_shielded());
                    assert!(tree().contains("asked to cancel"), "at once");
                    Ok::<_, Error>(())
                })
                .await
            })
            .await
        });
        assert!(left.await?.is_none());
        assert!(!shielded.caught(), "the outer one absorbs what comes from outside");
        Ok(())
    });
}

// G2, D4: a shield that goes on before the wait has been polled again: it waits on.
#[trine::test(kernel = "both")]
fn switching_a_shield_on_hides_a_cancellation_that_nobody_has_seen_yet() {
    run(async || {
        let (client, server) = &pair().await?;
        let scope = &CancelScope::new();
        let done = &Cell::new(false);
        let outer = CancelScope::new();
        let left = outer.run(async |outer| {
            nursery(async |n| {
                n.spawn(async move {
                    let inside = scope.run(async |_| {
                        nursery(async |inner| {
                            inner.spawn(async { sleep(MOMENT).await });
                            let chunk = server.recv().await?.expect("bytes");
                            assert_eq!(chunk, *b"on time");
                            Ok(())
                        })
                        .await
                    });
                    assert!(inside.await?.is_some());
                    done.set(true);
                    Ok(())
                });
                while stats().in_kernel == 0 {
                    checkpoint().await?;
                }
                outer.cancel();
                scope.set_shield(true);
                shield(client.write_all("on time")).await?;
                Ok(())
            })
            .await
        });
        left.await?;
        assert!(done.get());
        Ok(())
    });
}

// G3: clean-up is bounded by its own deadline.
#[trine::test(kernel = "both")]
fn clean_up_in_a_shield_with_a_deadline_runs_and_is_bounded() {
    run(async || {
        let cleaned = Cell::new(0);
        let left = move_on_after(Duration::ZERO, async |_| {
            let cancelled = sleep_forever().await;
            let quick = shield_for(LONG, async |_| nop().await).await?;
            cleaned.set(cleaned.get() + u32::from(quick.is_some()));
            let slow = shield_for(MOMENT, async |_| sleep_forever().await).await?;
            cleaned.set(cleaned.get() + u32::from(slow.is_none()));
            cancelled
        });
        assert!(left.await?.is_none());
        assert_eq!(cleaned.get(), 2);
        Ok(())
    });
}

// G4: a shield covers the children of nurseries inside it.
#[trine::test(kernel = "both")]
fn children_of_a_nursery_inside_a_shield_are_covered() {
    run(async || {
        let covered = &Cell::new(0);
        let left = move_on_after(LONG, async |outer| {
            shield(nursery(async |n| {
                for _ in 0..3 {
                    n.spawn(async move {
                        sleep(MOMENT).await?;
                        covered.set(covered.get() + 1);
                        Ok(())
                    });
                }
                checkpoint().await?;
                outer.cancel();
                checkpoint().await
            }))
            .await?;
            checkpoint().await
        });
        assert!(left.await?.is_none());
        assert_eq!(covered.get(), 3);
        Ok(())
    });
}
