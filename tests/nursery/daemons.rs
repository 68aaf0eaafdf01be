//! Daemons: children that do not keep their nursery open (N18).

use std::cell::{Cell, RefCell};

use trine::time::{sleep, sleep_forever};
use trine::{Error, Reason, checkpoint, is_cancelled, move_on_after, nursery, yield_shielded};

use crate::common::fewer;
use crate::{LONG, MOMENT, Story, clean_up, line_of_failed, reason_of, run, why};

// N18: when only daemons remain they are cancelled (reason `Finished`), absorb, and are joined. The
// nursery succeeds.
#[trine::test(kernel = "both")]
fn daemons_are_cancelled_and_joined_when_only_they_are_left() {
    run(async || {
        let story = &Story::default();
        let value = nursery(async |n| {
            n.spawn_daemon(async {
                let error = sleep_forever().await.unwrap_err();
                assert_eq!(reason_of(&error), Reason::Finished);
                story.tell("dismissed");
                clean_up().await?;
                story.tell("cleaned");
                Err(error)
            });
            n.spawn_daemon(sleep_forever());
            n.spawn(async {
                sleep(MOMENT).await?;
                story.tell("child");
                Ok(())
            });
            story.tell("body");
            Ok(7)
        });
        assert_eq!(value.await?, 7);
        assert_eq!(story.told(), ["body", "child", "dismissed", "cleaned"]);
        checkpoint().await
    });
}

// N18: the body keeps the nursery open as well.
#[trine::test(kernel = "both")]
fn a_daemon_goes_on_as_long_as_the_body_does() {
    run(async || {
        let beats = &Cell::new(0);
        nursery(async |n| {
            n.spawn_daemon(async {
                loop {
                    checkpoint().await?;
                    beats.set(beats.get() + 1);
                }
            });
            while beats.get() < fewer(100, 10) {
                checkpoint().await?;
            }
            Ok(())
        })
        .await?;
        let then = beats.get();
        checkpoint().await?;
        assert_eq!(beats.get(), then);
        Ok(())
    });
}

// N18: a nursery of nothing but daemons ends at once.
#[trine::test(kernel = "both")]
fn a_nursery_of_daemons_ends_when_its_body_does() {
    run(async || {
        let reasons = &RefCell::new(Vec::new());
        nursery(async |n| {
            for _ in 0..3 {
                n.spawn_daemon(async {
                    let why = why().await;
                    reasons.borrow_mut().push(why);
                    checkpoint().await
                });
            }
            Ok(())
        })
        .await?;
        assert_eq!(*reasons.borrow(), [Reason::Finished, Reason::Finished, Reason::Finished]);
        Ok(())
    });
}

// N18: an ordinary child spawned meanwhile re-opens the nursery, but not its daemons. It is not
// cancelled, nor is a daemon that begins in the re-opened nursery.
#[trine::test(kernel = "both")]
fn a_child_spawned_by_a_dismissed_daemon_reopens_the_nursery_but_not_the_daemons() {
    run(async || {
        let story = &Story::default();
        let beats = &Cell::new(0);
        nursery(async |n| {
            n.spawn_daemon(async move {
                let error = sleep_forever().await.unwrap_err();
                n.spawn(async move {
                    assert!(!is_cancelled());
                    n.spawn_daemon(async {
                        loop {
                            checkpoint().await.inspect_err(|error| {
                                assert_eq!(reason_of(error), Reason::Finished);
                                story.tell("new daemon dismissed");
                            })?;
                            beats.set(beats.get() + 1);
                        }
                    });
                    sleep(MOMENT).await?;
                    assert!(beats.get() > 0);
                    story.tell("child");
                    Ok(())
                });
                for _ in 0..3 {
                    checkpoint().await.unwrap_err();
                }
                story.tell("old daemon");
                Err(error)
            });
            Ok(())
        })
        .await?;
        assert_eq!(story.told(), ["old daemon", "child", "new daemon dismissed"]);
        Ok(())
    });
}

// N18, N3: a real error of a daemon is an error as any child's.
#[trine::test(kernel = "both")]
fn an_error_of_a_daemon_cancels_the_nursery() {
    run(async || {
        let spawned = &Cell::new(0);
        let outcome = nursery(async |n| {
            spawned.set(line!() + 1);
            n.spawn_daemon(async { Err(Error::other("the daemon's")) });
            let error = sleep_forever().await.unwrap_err();
            assert_eq!(line_of_failed(&reason_of(&error)), spawned.get());
            Err::<(), _>(error)
        });
        assert_eq!(outcome.await.unwrap_err().to_string(), "the daemon's");
        // Also one that comes while it is being dismissed.
        let outcome = nursery(async |n| {
            n.spawn_daemon(async {
                why().await;
                Err(Error::other("a last word"))
            });
            Ok(())
        });
        assert_eq!(outcome.await.unwrap_err().to_string(), "a last word");
        Ok(())
    });
}

// N18: a daemon that ends early or swallows its dismissal is no trouble.
#[trine::test(kernel = "both")]
fn a_daemon_may_end_as_it_likes() {
    run(async || {
        let value = nursery(async |n| {
            n.spawn_daemon(async { Ok(()) });
            n.spawn_daemon(async {
                why().await;
                clean_up().await
            });
            sleep(MOMENT).await?;
            Ok(1)
        });
        assert_eq!(value.await?, 1);
        Ok(())
    });
}

// N18, N3: daemons are cancelled with the nursery too, and told the nursery's reason.
#[trine::test(kernel = "both")]
fn daemons_are_cancelled_with_their_nursery() {
    run(async || {
        let reason = &RefCell::new(None);
        let failed = &Cell::new(0);
        let outcome = nursery(async |n| {
            n.spawn_daemon(async {
                *reason.borrow_mut() = Some(why().await);
                clean_up().await?;
                checkpoint().await
            });
            failed.set(line!() + 1);
            n.spawn(async { Err(Error::other("disk")) });
            sleep_forever().await
        });
        assert_eq!(outcome.await.unwrap_err().to_string(), "disk");
        assert_eq!(line_of_failed(&reason.take().expect("told")), failed.get());
        Ok(())
    });
}

// N18, E6: a cancellation from outside passes through a daemon's own scope.
#[trine::test(kernel = "both")]
fn a_cancellation_from_outside_goes_through_daemons() {
    run(async || {
        let reason = &RefCell::new(None);
        let outcome = move_on_after(LONG, async |scope| {
            nursery(async |n| {
                n.spawn_daemon(async {
                    *reason.borrow_mut() = Some(why().await);
                    checkpoint().await
                });
                checkpoint().await?;
                scope.cancel_because("outside");
                // The body's end would dismiss it.
                while reason.borrow().is_none() {
                    yield_shielded().await;
                }
                sleep_forever().await
            })
            .await
        });
        assert!(outcome.await?.is_none());
        assert!(reason.take().expect("told").to_string().ends_with("outside"));
        Ok(())
    });
}

// N18, N7: a daemon may be the one that finds the value.
#[trine::test(kernel = "both")]
fn a_daemon_may_finish_the_nursery() {
    run(async || {
        let value = nursery(async |n| {
            n.spawn_daemon(async move {
                checkpoint().await?;
                n.finish(3);
                Ok(())
            });
            sleep_forever().await?;
            Ok(0)
        });
        assert_eq!(value.await?, 3);
        Ok(())
    });
}

// N18, F13: a dismissed daemon that waits for something foreign is dropped there.
#[trine::test(kernel = "both")]
fn a_daemon_that_waits_for_something_foreign_holds_nothing_up() {
    run(async || {
        let dropped = &Cell::new(false);
        struct Guard<'a>(&'a Cell<bool>);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        nursery(async |n| {
            n.spawn_daemon(async {
                let _guard = Guard(dropped);
                std::future::pending().await
            });
            sleep(MOMENT).await
        })
        .await?;
        assert!(dropped.get());
        Ok(())
    });
}
