//! `finish`: a value that is there ends the nursery (N7).

use std::cell::{Cell, RefCell};

use trine::time::{Instant, sleep, sleep_forever};
use trine::{
    CancelScope, Error, Reason, checkpoint, is_cancelled, move_on_after, move_on_at, nursery,
};

use crate::common::{fewer, spin_until};
use crate::{LONG, MOMENT, Story, clean_up, reason_of, run, sorted, why};

// N7: the value is the outcome; the rest, the body included, is cancelled and joined.
#[trine::test(kernel = "both")]
fn finishing_cancels_and_joins_the_rest_and_returns_the_value() {
    run(async || {
        let story = &Story::default();
        let value = nursery(async |n| {
            for name in ["one", "two"] {
                n.spawn(async move {
                    assert_eq!(why().await, Reason::Finished);
                    clean_up().await?;
                    story.tell(name);
                    checkpoint().await
                });
            }
            n.spawn(async move {
                n.finish(1);
                // Whoever finishes is cancelled as well.
                assert_eq!(reason_of(&checkpoint().await.unwrap_err()), Reason::Finished);
                Ok(())
            });
            assert_eq!(why().await, Reason::Finished);
            story.tell("body");
            checkpoint().await?;
            Ok(2)
        });
        assert_eq!(value.await?, 1);
        assert_eq!(sorted(story.told()), ["body", "one", "two"]);
        checkpoint().await
    });
}

// N7: the first value wins, over later ones and over the body's own.
#[trine::test(kernel = "both")]
fn the_first_value_wins() {
    run(async || {
        let value = nursery(async |n| {
            n.spawn(async move {
                n.finish("first");
                n.finish("second");
                Ok(())
            });
            n.spawn(async move {
                why().await;
                n.finish("third");
                Ok(())
            });
            why().await;
            Ok("the body's")
        });
        assert_eq!(value.await?, "first");
        let value = nursery(async |n| {
            n.finish("before the end");
            Ok("the body's")
        });
        assert_eq!(value.await?, "before the end");
        // The body's value is there already when the child comes with another one.
        let value = nursery(async |n| {
            n.spawn(async move {
                checkpoint().await?;
                n.finish("the child's");
                Ok(())
            });
            Ok("the body's")
        });
        assert_eq!(value.await?, "the child's");
        Ok(())
    });
}

/// A value that says when it is dropped.
struct Dropped<'a>(&'a Story, &'static str);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.tell(self.1);
    }
}

// N7: values that did not win are dropped, each once, and may do what they like then.
#[trine::test(kernel = "both")]
fn values_that_did_not_win_are_dropped() {
    run(async || {
        let story = &Story::default();
        let won = nursery(async |n| {
            n.spawn(async move {
                checkpoint().await?;
                n.finish(Dropped(story, "won"));
                n.finish(Dropped(story, "late"));
                Ok(())
            });
            Ok(Dropped(story, "the body's"))
        });
        let won = won.await?;
        assert_eq!(story.told(), ["the body's", "late"]);
        drop(won);
        assert_eq!(story.told().len(), 3);
        Ok(())
    });
}

// N7: whatever is cancelled later; the outer cancellation is raised at the next cancel point.
#[trine::test(kernel = "both")]
fn an_outer_cancellation_after_finish_does_not_replace_the_value() {
    run(async || {
        let value = &Cell::new(0);
        let outcome = move_on_after(LONG, async |scope| {
            let found = nursery(async |n| {
                n.spawn(async {
                    assert_eq!(why().await, Reason::Finished);
                    scope.cancel_because("too late");
                    clean_up().await?;
                    checkpoint().await
                });
                checkpoint().await?;
                n.finish(7);
                sleep_forever().await?;
                Ok(0)
            });
            value.set(found.await?);
            assert!(is_cancelled());
            checkpoint().await
        });
        assert!(outcome.await?.is_none());
        assert_eq!(value.get(), 7);
        Ok(())
    });
}

// N7: `finish` and the deadline around fall into one turn.
#[trine::test(kernel = "both")]
fn a_deadline_that_passes_in_the_very_turn_of_finish_does_not_replace_the_value() {
    run(async || {
        let value = &Cell::new(0);
        let deadline = Instant::now() + MOMENT;
        let outcome = move_on_at(deadline, async |_| {
            let found = nursery(async |n| {
                n.spawn(async move {
                    spin_until(deadline);
                    n.finish(7);
                    Ok(())
                });
                n.spawn(sleep_forever());
                sleep_forever().await?;
                Ok(0)
            });
            value.set(found.await?);
            checkpoint().await
        });
        assert!(outcome.await?.is_none());
        assert_eq!(value.get(), 7);
        Ok(())
    });
}

// N7, C8: the child that finishes was woken in the turn in which the deadline passed.
#[trine::test(kernel = "both")]
fn finishing_at_the_moment_of_the_deadline_leaves_a_value_or_a_cancellation_and_nothing_else() {
    run(async || {
        for _ in 0..fewer(20, 3) {
            let finished = &Cell::new(false);
            let deadline = Instant::now() + MOMENT / 10;
            let outcome = move_on_at(deadline, async |_| {
                nursery(async |n| {
                    n.spawn(async move {
                        trine::time::sleep_until(deadline).await?;
                        finished.set(true);
                        n.finish(7);
                        Ok(())
                    });
                    sleep_forever().await?;
                    Ok(0)
                })
                .await
            });
            assert_eq!(outcome.await?, finished.get().then_some(7));
        }
        Ok(())
    });
}

// N7: only a real error replaces it …
#[trine::test(kernel = "both")]
fn a_real_error_after_finish_replaces_the_value() {
    run(async || {
        let by_child = nursery(async |n| {
            n.spawn(async {
                why().await;
                Err(Error::other("a child's"))
            });
            checkpoint().await?;
            n.finish(1);
            Ok(2)
        });
        assert_eq!(by_child.await.unwrap_err().to_string(), "a child's");
        let by_body = nursery(async |n| {
            n.finish(1);
            Err::<u32, _>(Error::other("the body's"))
        });
        assert_eq!(by_body.await.unwrap_err().to_string(), "the body's");
        Ok(())
    });
}

// N7: … and a cancellation does not, whether it is the body's or a child's.
#[trine::test(kernel = "both")]
fn cancellations_after_finish_do_not_replace_the_value() {
    run(async || {
        let value = nursery(async |n| {
            n.spawn(async {
                let error = sleep_forever().await.unwrap_err();
                clean_up().await?;
                Err(error)
            });
            n.finish(1);
            sleep_forever().await?;
            Ok(2)
        });
        assert_eq!(value.await?, 1);
        Ok(())
    });
}

// N7: a plain value is not final; N4: the children are awaited all the same.
#[trine::test(kernel = "both")]
fn an_outer_cancellation_that_cuts_a_child_short_replaces_the_bodys_value() {
    run(async || {
        let seen = &RefCell::new(None);
        let outcome = move_on_after(MOMENT, async |_| {
            let outcome = nursery(async |n| {
                n.spawn(sleep_forever());
                Ok(5)
            });
            let outcome = outcome.await;
            *seen.borrow_mut() = Some(outcome.as_ref().map_err(reason_of).copied());
            outcome
        });
        assert_eq!(outcome.await?, None);
        assert!(matches!(seen.take(), Some(Err(Reason::Deadline { .. }))));
        Ok(())
    });
}

// N7: for `T = ()`, `cancel` is `finish(())`: not undone by an outer cancellation either.
#[trine::test(kernel = "both")]
fn cancelling_a_nursery_is_finishing_it() {
    run(async || {
        let scope = CancelScope::new();
        let ended = &Cell::new(false);
        let outcome = scope.run(async |scope| {
            nursery(async |n| {
                n.spawn(async {
                    assert_eq!(why().await, Reason::Finished);
                    scope.cancel();
                    checkpoint().await
                });
                checkpoint().await?;
                n.cancel();
                sleep_forever().await
            })
            .await?;
            ended.set(true);
            checkpoint().await
        });
        assert!(outcome.await?.is_none());
        assert!(ended.get());
        Ok(())
    });
}

// N7, N10: the nursery is finished before the body has got anywhere; children still start.
#[trine::test(kernel = "both")]
fn a_nursery_finished_at_once_still_joins_what_is_spawned_into_it() {
    run(async || {
        let story = &Story::default();
        let value = nursery(async |n| {
            n.finish(1);
            n.spawn(async {
                story.tell("started");
                let error = sleep(MOMENT).await.unwrap_err();
                clean_up().await?;
                story.tell("cleaned");
                Err(error)
            });
            Ok(2)
        });
        assert_eq!(value.await?, 1);
        assert_eq!(story.told(), ["started", "cleaned"]);
        Ok(())
    });
}
