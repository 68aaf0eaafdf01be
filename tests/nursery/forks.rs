//! Forked children: a typed handle that yields their value (N19).

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;

use futures::poll;
use trine::time::{sleep, sleep_forever};
use trine::{Error, Reason, checkpoint, move_on_after, nursery, shield_for};

use crate::{LONG, MOMENT, Story, reason_of, run};

// N19: awaiting the handle yields the value, whether or not the child has ended before.
#[trine::test(kernel = "both")]
fn a_handle_yields_the_childs_value() {
    run(async || {
        let words = ["one".to_owned(), "two".to_owned()];
        let told = nursery(async |n| {
            let quick = n.fork(async { Ok(&words[0]) });
            let slow = n.fork(async {
                sleep(MOMENT).await?;
                Ok(&words[1])
            });
            for _ in 0..3 {
                checkpoint().await?;
            }
            Ok(format!("{} {}", quick.await?, slow.await?))
        });
        assert_eq!(told.await?, "one two");
        Ok(())
    });
}

// N19: also for a sibling, and for values that borrow.
#[trine::test(kernel = "both")]
fn a_sibling_may_wait_for_the_value() {
    run(async || {
        let text = "a b c".to_owned();
        let count = &Cell::new(0);
        nursery(async |n| {
            let words = n.fork(async {
                sleep(MOMENT).await?;
                Ok(text.split(' ').collect::<Vec<&str>>())
            });
            n.spawn(async {
                count.set(words.await?.len());
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert_eq!(count.get(), 3);
        Ok(())
    });
}

// N19: `Cancelled` if the child did not produce one; its error goes to the nursery.
#[trine::test(kernel = "both")]
fn the_handle_of_a_failed_child_yields_cancelled_and_its_error_goes_to_the_nursery() {
    run(async || {
        let outcome = nursery(async |n| {
            let line = line!() + 1;
            let handle = n.fork(async { Err::<u32, _>(Error::other("disk")) });
            let error = handle.await.unwrap_err();
            assert_eq!(crate::line_of_failed(&reason_of(&error)), line);
            Err::<(), _>(error)
        });
        assert_eq!(outcome.await.unwrap_err().to_string(), "disk");
        Ok(())
    });
}

// N19: where the one who waits is not cancelled itself, it still hears `Cancelled`.
#[trine::test(kernel = "both")]
fn a_shielded_waiter_hears_that_the_child_was_cancelled() {
    run(async || {
        nursery(async |n| {
            let handle = n.fork(async {
                sleep_forever().await?;
                Ok(1)
            });
            n.spawn(async {
                let waited = shield_for(LONG, async |_| Ok(handle.await)).await?;
                let error = waited.expect("in time").unwrap_err();
                assert!(error.is_cancelled());
                Err(error)
            });
            checkpoint().await?;
            n.cancel();
            Ok(())
        })
        .await
    });
}

// N19: a cancelled wait loses nothing, nor does a dropped one.
#[trine::test(kernel = "both")]
fn a_wait_for_a_handle_can_be_given_up_and_taken_up_again() {
    run(async || {
        let gate = &Cell::new(false);
        let value = nursery(async |n| {
            let mut handle = n.fork(async move {
                while !gate.get() {
                    checkpoint().await?;
                }
                Ok(6)
            });
            let given_up = move_on_after(MOMENT, async |_| (&mut handle).await).await?;
            assert_eq!(given_up, None);
            assert!(poll!(&mut handle).is_pending());
            // Ends while nobody waits.
            gate.set(true);
            checkpoint().await?;
            checkpoint().await?;
            handle.await
        });
        assert_eq!(value.await?, 6);
        Ok(())
    });
}

// N19, B2: the one who polled last is woken.
#[trine::test(kernel = "both")]
fn a_handle_that_changes_hands_wakes_its_new_holder() {
    run(async || {
        let value = nursery(async |n| {
            let mut handle = n.fork(async {
                sleep(MOMENT).await?;
                Ok(6)
            });
            assert!(poll!(&mut handle).is_pending());
            let other = n.fork(handle);
            other.await
        });
        assert_eq!(value.await?, 6);
        Ok(())
    });
}

// N19: dropping the handle does not stop the child.
#[trine::test(kernel = "both")]
fn a_child_whose_handle_is_dropped_goes_on() {
    run(async || {
        let story = &Story::default();
        nursery(async |n| {
            let mut handle = n.fork(async {
                sleep(MOMENT).await?;
                story.tell("done");
                Ok(())
            });
            assert!(poll!(&mut handle).is_pending());
            drop(handle);
            Ok(())
        })
        .await?;
        assert_eq!(story.told(), ["done"]);
        Ok(())
    });
}

/// A value that says when it is dropped.
struct Dropped<'a>(&'a Cell<u32>);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

// N19: values that nobody fetches are dropped once, also if the nursery is dropped half-way.
#[trine::test(kernel = "both")]
fn unread_values_are_dropped_once() {
    run(async || {
        let dropped = &Cell::new(0);
        nursery(async |n| {
            drop(n.fork(async { Ok(Dropped(dropped)) }));
            let unread = n.fork(async { Ok(Dropped(dropped)) });
            checkpoint().await?;
            checkpoint().await?;
            assert_eq!(dropped.get(), 1);
            drop(unread);
            Ok(())
        })
        .await?;
        assert_eq!(dropped.get(), 2);
        {
            let mut half_way = pin!(nursery(async |n| {
                let _unread = n.fork(async { Ok(Dropped(dropped)) });
                sleep_forever().await
            }));
            for _ in 0..3 {
                assert!(poll!(half_way.as_mut()).is_pending());
                checkpoint().await?;
            }
            assert_eq!(dropped.get(), 2);
        }
        assert_eq!(dropped.get(), 3);
        Ok(())
    });
}

/// A tree of sums, to see that `fork` may recurse.
fn sum<'s>(
    n: trine::Nursery<'s, '_, u64>,
    from: u64,
    to: u64,
) -> impl Future<Output = trine::Result<u64>> + 's {
    let n = Scope(n.fork(async move {
        if to - from == 1 {
            return Ok(from);
        }
        Ok(0)
    }));
    n.0
}

struct Scope<'s>(trine::Child<'s, u64>);

// N19: handles live in structs.
#[trine::test(kernel = "both")]
fn a_handle_may_be_kept_in_a_struct() {
    run(async || {
        let value = nursery(async |n| sum(n, 3, 4).await).await?;
        assert_eq!(value, 3);
        Ok(())
    });
}

// N19, N7: a handle may be all that is awaited, while a sibling finishes the nursery.
#[trine::test(kernel = "both")]
fn whoever_waits_for_a_handle_is_cancelled_with_the_nursery() {
    run(async || {
        let value = nursery(async |n| {
            let never = n.fork(async {
                sleep_forever().await?;
                Ok(0)
            });
            n.spawn(async move {
                checkpoint().await?;
                n.finish(1);
                Ok(())
            });
            let error = never.await.unwrap_err();
            assert_eq!(reason_of(&error), Reason::Finished);
            Err(error)
        });
        assert_eq!(value.await?, 1);
        Ok(())
    });
}
