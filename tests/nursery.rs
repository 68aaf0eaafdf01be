//! Nurseries: children that are always awaited, and what comes out of them (section N).

mod common;

#[path = "nursery/borrowing.rs"]
mod borrowing;
#[path = "nursery/daemons.rs"]
mod daemons;
#[path = "nursery/dropping.rs"]
mod dropping;
#[path = "nursery/finishing.rs"]
mod finishing;
#[path = "nursery/forks.rs"]
mod forks;
#[path = "nursery/panics.rs"]
mod panics;
#[path = "nursery/services.rs"]
mod services;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::ops::AsyncFnOnce;
use std::time::Duration;

use trine::time::{sleep, sleep_forever};
use trine::{
    Builder, CancelScope, Error, Nursery, Reason, Result, checkpoint, current_effective_deadline,
    generic, is_cancelled, move_on_after, nop, nursery, shield_for, stats, yield_shielded,
};

use common::{BUDGET, fewer};

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(2);

/// Runs a test. What nothing can wake any more is an error here, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(10, || Builder::new().detect_deadlock_strictly(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// Sleeps until it is cancelled, and says why it was.
async fn why() -> Reason {
    reason_of(&sleep_forever().await.unwrap_err())
}

fn reason_of(error: &Error) -> Reason {
    error.cancelled().expect("a cancellation").reason().clone()
}

/// The line of the child that failed, according to its siblings.
fn line_of_failed(reason: &Reason) -> u32 {
    match reason {
        Reason::SiblingFailed { child } => child.line(),
        other => panic!("{other:?}"),
    }
}

/// A cancellation that nothing absorbs: its scope is gone.
async fn stray() -> Error {
    let scope = CancelScope::new();
    scope.cancel();
    let outcome = scope.run(async |_| Ok(checkpoint().await)).await;
    outcome.expect("a value").expect("it has finished").unwrap_err()
}

/// Clean-up that takes several turns and the kernel, behind a shield.
async fn clean_up() -> Result {
    let cleaned = shield_for(LONG, async |_| {
        checkpoint().await?;
        nop().await?;
        checkpoint().await
    });
    assert!(cleaned.await?.is_some());
    Ok(())
}

/// A nursery whose body is no async closure: part of it runs before the nursery is polled. (Alone such
/// a closure is not inferred to be one for every `'scope`.)
fn with_prelude<'env, T, F, B>(body: B) -> impl Future<Output = Result<T>>
where
    F: Future<Output = Result<T>>,
    B: for<'scope> FnOnce(Nursery<'scope, 'env, T>) -> F,
    B: for<'scope> AsyncFnOnce(Nursery<'scope, 'env, T>) -> Result<T>,
{
    nursery(body)
}

/// What happened, in order.
#[derive(Default)]
struct Story(RefCell<Vec<String>>);

impl Story {
    fn tell(&self, event: impl Into<String>) {
        self.0.borrow_mut().push(event.into());
    }

    fn told(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// There is no order between siblings (N14).
fn sorted(mut told: Vec<String>) -> Vec<String> {
    told.sort();
    told
}

// N1: the body's normal end does not cancel; the exit waits for the children.
#[trine::test(kernel = "both")]
fn a_nursery_waits_for_its_children_after_its_body_has_ended() {
    run(async || {
        let story = &Story::default();
        let value = nursery(async |n| {
            n.spawn(async {
                sleep(MOMENT).await?;
                story.tell("child");
                Ok(())
            });
            story.tell("body");
            Ok("value")
        });
        assert_eq!(value.await?, "value");
        assert_eq!(story.told(), ["body", "child"]);
        Ok(())
    });
}

// N1, N3: the body counts as a child: its error cancels the siblings, and is the outcome.
#[trine::test(kernel = "both")]
fn an_error_of_the_body_cancels_the_children_and_comes_out_after_they_have_ended() {
    run(async || {
        let ended = &Cell::new(false);
        let opened = line!() + 1;
        let outcome = nursery::<(), _>(async |n| {
            n.spawn(async move {
                assert_eq!(line_of_failed(&why().await), opened);
                clean_up().await?;
                ended.set(true);
                checkpoint().await
            });
            checkpoint().await?;
            Err(Error::other("body"))
        });
        assert_eq!(outcome.await.unwrap_err().to_string(), "body");
        assert!(ended.get());
        // The cancellation was the nursery's own.
        checkpoint().await
    });
}

// N2: children may spawn siblings, also after the body has ended, and all are awaited.
#[trine::test(kernel = "both")]
fn children_keep_the_nursery_open_for_children_of_their_own() {
    const CHILDREN: u32 = fewer(100, 10);
    run(async || {
        fn relay<'s>(n: Nursery<'s, '_>, left: u32, done: &'s Cell<u32>) {
            n.spawn(async move {
                checkpoint().await?;
                if left > 0 {
                    relay(n, left - 1, done);
                }
                done.set(done.get() + 1);
                Ok(())
            });
        }
        let done = Cell::new(0);
        nursery(async |n| {
            relay(n, CHILDREN - 1, &done);
            Ok(())
        })
        .await?;
        assert_eq!(done.get(), CHILDREN);
        Ok(())
    });
}

// N2, N10: also while the nursery is being cancelled.
#[trine::test(kernel = "both")]
fn a_child_spawned_while_the_nursery_unwinds_is_awaited() {
    run(async || {
        let story = &Story::default();
        nursery(async |n| {
            n.spawn(async move {
                let error = sleep_forever().await.unwrap_err();
                n.spawn(async {
                    story.tell("late");
                    let error = checkpoint().await.unwrap_err();
                    clean_up().await?;
                    story.tell("cleaned");
                    Err(error)
                });
                Err(error)
            });
            checkpoint().await?;
            n.cancel();
            Ok(())
        })
        .await?;
        assert_eq!(story.told(), ["late", "cleaned"]);
        Ok(())
    });
}

// N3: the first error cancels; L1: the siblings are told who failed.
#[trine::test(kernel = "both")]
fn an_error_of_a_child_cancels_its_siblings_and_the_body() {
    run(async || {
        let told = &RefCell::new(Vec::new());
        let failed = &Cell::new(0);
        let outcome = nursery(async |n| {
            n.spawn(async {
                let error = sleep_forever().await.unwrap_err();
                told.borrow_mut().push(line_of_failed(&reason_of(&error)));
                Err(error)
            });
            failed.set(line!() + 1);
            n.spawn(async { Err(Error::other("disk")) });
            let error = sleep_forever().await.unwrap_err();
            told.borrow_mut().push(line_of_failed(&reason_of(&error)));
            Err::<(), _>(error)
        });
        // N5: the cancellations of the others are dropped, and one survivor is itself, no group.
        let error = outcome.await.unwrap_err();
        assert!(matches!(&error, Error::Other(disk) if disk.to_string() == "disk"), "{error:?}");
        assert_eq!(*told.borrow(), [failed.get(); 2]);
        checkpoint().await
    });
}

// N3, N5: later errors are collected as they arrive; M4: the first one leads.
#[trine::test(kernel = "both")]
fn several_errors_come_as_a_group_in_order_of_arrival() {
    run(async || {
        let outcome = nursery(async |n| {
            n.spawn(async {
                sleep_forever().await.unwrap_err();
                yield_shielded().await;
                Err(Error::other("third"))
            });
            n.spawn(async {
                sleep_forever().await.unwrap_err();
                clean_up().await?;
                Err(Error::other("last"))
            });
            n.spawn(sleep_forever());
            n.spawn(async { Err(Error::other("first")) });
            sleep_forever().await.map_err(|_| Error::other("second"))
        });
        let Error::Group(group) = outcome.await.unwrap_err() else { panic!("a group") };
        let told: Vec<_> = group.errors().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["first", "second", "third", "last"]);
        assert_eq!(group.lead().to_string(), "first");
        Ok(())
    });
}

// N5: the leaves of an inner nursery's group take their place among the outer one's errors.
#[trine::test(kernel = "both")]
fn a_group_out_of_an_inner_nursery_is_flat_in_the_outer_one() {
    run(async || {
        let outcome = nursery(async |n| {
            n.spawn(async {
                nursery(async |inner| {
                    inner.spawn(async { Err(Error::other("a")) });
                    inner.spawn(async { sleep_forever().await.map_err(|_| Error::other("b")) });
                    sleep_forever().await
                })
                .await
            });
            sleep_forever().await.map_err(|_| Error::other("c"))
        });
        let Error::Group(group) = outcome.await.unwrap_err() else { panic!("a group") };
        let told: Vec<_> = group.into_errors().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["a", "b", "c"]);
        Ok(())
    });
}

// N3, N5, E3: a group that arrives when the nursery is cancelled already loses its cancellations, and
// what is left of it counts.
#[trine::test(kernel = "both")]
fn a_child_that_comes_back_with_a_group_of_errors_and_cancellations_counts_with_the_errors() {
    run(async || {
        let stray = &RefCell::new(Some(stray().await));
        let outcome = nursery(async |n| {
            n.spawn(async {
                sleep_forever().await.unwrap_err();
                // Both arrive at an inner nursery that nothing had cancelled, so both are real there.
                shield_for(LONG, async |_| {
                    nursery(async |inner| {
                        inner.spawn(async { Err(stray.take().expect("one")) });
                        inner.spawn(async {
                            why().await;
                            Err(Error::other("late"))
                        });
                        Ok(())
                    })
                    .await
                })
                .await
                .map(drop)
            });
            n.spawn(async {
                checkpoint().await?;
                Err(Error::other("first"))
            });
            Ok(())
        });
        let Error::Group(group) = outcome.await.unwrap_err() else { panic!("a group") };
        let told: Vec<_> = group.into_errors().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["first", "late"]);
        Ok(())
    });
}

// N5: the same for other error types.
#[trine::test(kernel = "both")]
fn nurseries_of_io_errors_keep_a_single_error_as_it_is_and_gather_several() {
    run(async || {
        let fail = async |again: bool| {
            let outcome = generic::nursery(async |n| -> io::Result<()> {
                n.spawn(async move {
                    let cancelled = sleep_forever().await.map_err(io::Error::from);
                    if again { Err(io::ErrorKind::BrokenPipe.into()) } else { cancelled }
                });
                checkpoint().await?;
                Err(io::Error::from_raw_os_error(28))
            });
            outcome.await.unwrap_err()
        };
        assert_eq!(fail(false).await.raw_os_error(), Some(28));
        let Error::Group(group) = Error::from(fail(true).await) else { panic!("a group") };
        let kinds: Vec<_> = group.errors().iter().map(Error::io_kind).collect();
        let expected = [io::ErrorKind::StorageFull, io::ErrorKind::BrokenPipe];
        assert_eq!(kinds, expected.map(Some));
        Ok(())
    });
}

// N4: the parent waits in the exit; cancellation just goes down the tree, and everybody is awaited.
#[trine::test(kernel = "both")]
fn a_cancellation_that_finds_the_nursery_in_its_exit_goes_down_to_the_children() {
    run(async || {
        let (cleaned, returned) = (&Cell::new(0), &Cell::new(false));
        let scope = &CancelScope::new();
        let outcome = nursery(async |outside| {
            outside.spawn(async {
                sleep(MOMENT).await?;
                scope.cancel_because("enough");
                Ok(())
            });
            let outcome = scope.run(async |_| {
                let outcome = nursery(async |n| {
                    for _ in 0..3 {
                        n.spawn(async {
                            let error = sleep_forever().await.unwrap_err();
                            assert!(reason_of(&error).to_string().ends_with("enough"));
                            clean_up().await?;
                            cleaned.set(cleaned.get() + 1);
                            Err(error)
                        });
                    }
                    Ok(())
                });
                let outcome = outcome.await;
                assert_eq!(cleaned.get(), 3);
                returned.set(true);
                // N7: a plain value is not final, if the children were cut short.
                assert!(reason_of(outcome.as_ref().unwrap_err()).to_string().ends_with("enough"));
                outcome
            });
            outcome.await
        });
        assert!(outcome.await?.is_none());
        assert!(returned.get());
        Ok(())
    });
}

// N5, E5: nothing was cut short, so the value comes out although the scope around is cancelled.
#[trine::test(kernel = "both")]
fn a_nursery_whose_children_ended_well_in_a_cancelled_scope_has_its_value() {
    run(async || {
        let outcome = move_on_after(LONG, async |scope| {
            let value = nursery(async |n| {
                n.spawn(async {
                    why().await;
                    clean_up().await
                });
                checkpoint().await?;
                scope.cancel();
                Ok(5)
            });
            let value = value.await;
            assert!(is_cancelled());
            value
        });
        assert_eq!(outcome.await?, Some(5));
        Ok(())
    });
}

// N8: leaving with nothing to wait for is a schedule point.
#[trine::test(kernel = "both")]
fn leaving_an_empty_nursery_again_and_again_lets_others_run() {
    const EXITS: u64 = fewer(1_000, 50);
    run(async || {
        let turns = stats().turns;
        for number in 0..EXITS {
            assert_eq!(nursery(async |_| Ok(number)).await?, number);
        }
        // A2: when it has spent its budget, at the latest.
        assert!(stats().turns - turns >= EXITS / u64::from(BUDGET + 1));
        Ok(())
    });
}

// N8: and never a cancel point, also when the cancellation comes while it lets others run.
#[trine::test(kernel = "both")]
fn leaving_an_empty_nursery_never_raises() {
    run(async || {
        let cancelled_at = &RefCell::new(Vec::new());
        let outcome = move_on_after(LONG, async |scope| {
            nursery(async |n| {
                n.spawn(async {
                    scope.cancel();
                    Ok(())
                });
                for number in 0..fewer(1_000, 50) {
                    let before = is_cancelled();
                    assert_eq!(nursery(async |_| Ok(number)).await?, number);
                    if is_cancelled() != before {
                        cancelled_at.borrow_mut().push(number);
                    }
                }
                checkpoint().await
            })
            .await
        });
        assert!(outcome.await?.is_none());
        // Exactly one exit had to let the sibling run, and it returned its value all the same.
        assert_eq!(cancelled_at.borrow().len(), 1);
        Ok(())
    });
}

// N10: a child spawned into a cancelled nursery starts and runs to its first cancel point.
#[trine::test(kernel = "both")]
fn a_child_of_a_cancelled_nursery_runs_to_its_first_cancel_point() {
    run(async || {
        let story = &Story::default();
        let child = async |name: &str| {
            story.tell(name);
            yield_shielded().await;
            story.tell(format!("still {name}"));
            checkpoint().await?;
            unreachable!("a cancelled child passes a cancel point")
        };
        let child = &child;
        nursery(async |n| {
            n.cancel();
            n.spawn(child("spawned"));
            drop(n.fork(child("forked")));
            Ok(())
        })
        .await?;
        assert_eq!(sorted(story.told()), ["forked", "spawned", "still forked", "still spawned"]);
        // The same if the cancellation comes from outside, and for a daemon.
        let scope = CancelScope::new();
        scope.cancel();
        let outcome = scope.run(async |_| {
            nursery(async |n| {
                n.spawn(child("outside"));
                n.spawn_daemon(child("daemon"));
                Ok(())
            })
            .await
        });
        assert!(outcome.await?.is_none());
        let told = sorted(story.told().split_off(4));
        assert_eq!(told, ["daemon", "outside", "still daemon", "still outside"]);
        Ok(())
    });
}

// N11: a child runs under the scopes of the nursery, not of the spawner.
#[trine::test(kernel = "both")]
fn children_run_under_the_scopes_of_their_nursery() {
    run(async || {
        let alive = &Cell::new(0);
        let child = async || {
            assert_eq!(current_effective_deadline(), None);
            sleep(MOMENT * 2).await?;
            alive.set(alive.get() + 1);
            Ok(())
        };
        let child = &child;
        nursery(async |n| {
            let outcome = move_on_after(MOMENT, async |scope| {
                n.spawn(child());
                n.spawn_daemon(child());
                drop(n.fork(child()));
                n.start(async |started: trine::Started<()>| {
                    started.set(());
                    child().await
                })
                .await?;
                scope.cancel();
                checkpoint().await
            });
            assert!(outcome.await?.is_none());
            sleep(MOMENT * 4).await
        })
        .await?;
        assert_eq!(alive.get(), 4);
        Ok(())
    });
}

// N11: also those that a child of an inner nursery spawns into the outer one.
#[trine::test(kernel = "both")]
fn a_child_spawned_from_an_inner_nursery_runs_under_the_scopes_of_the_outer_one() {
    run(async || {
        let story = &Story::default();
        nursery(async |outer| {
            let inner = move_on_after(LONG, async |scope| {
                nursery(async |inner| {
                    inner.spawn(async move {
                        outer.spawn(async {
                            sleep(MOMENT).await?;
                            story.tell("the outer one's child");
                            Ok(())
                        });
                        sleep_forever().await
                    });
                    checkpoint().await?;
                    scope.cancel();
                    Ok(())
                })
                .await
            });
            assert!(inner.await?.is_none());
            story.tell("inner nursery");
            Ok(())
        })
        .await?;
        assert_eq!(story.told(), ["inner nursery", "the outer one's child"]);
        Ok(())
    });
}

// E12: a stray makes the nursery fail; it is not absorbed by the cancellation that it causes. With a
// value type other than `()` nothing else could come out (N7: no third outcome).
#[trine::test(kernel = "both")]
fn a_stray_cancellation_of_a_child_is_the_nurserys_error() {
    run(async || {
        let before = stray().await;
        let reason = reason_of(&before);
        let sibling = &RefCell::new(None);
        let spawned = &Cell::new(0);
        let outcome = nursery::<u32, _>(async |n| {
            n.spawn(async {
                *sibling.borrow_mut() = Some(why().await);
                checkpoint().await
            });
            spawned.set(line!() + 1);
            n.spawn(async { Err(before) });
            sleep_forever().await?;
            Ok(1)
        });
        let error = outcome.await.unwrap_err();
        assert_eq!(reason_of(&error), reason, "the stray itself, not the body's cancellation");
        assert_eq!(line_of_failed(&sibling.take().expect("cancelled")), spawned.get());
        // It is still a cancellation, and a scope around that is not cancelled does not absorb it.
        let scope = CancelScope::new();
        let passed = scope.run(async |_| Err::<(), _>(error)).await;
        assert!(passed.unwrap_err().is_cancelled());
        assert!(!scope.caught());
        Ok(())
    });
}

// E12: of the body as well, and of a daemon.
#[trine::test(kernel = "both")]
fn a_stray_cancellation_of_the_body_or_of_a_daemon_is_the_nurserys_error() {
    run(async || {
        let before = stray().await;
        let reason = reason_of(&before);
        let outcome = nursery::<u32, _>(async |_| Err(before)).await;
        assert_eq!(reason_of(&outcome.unwrap_err()), reason);

        let before = stray().await;
        let reason = reason_of(&before);
        let outcome = nursery(async |n| {
            n.spawn_daemon(async { Err(before) });
            sleep_forever().await?;
            Ok(1)
        });
        assert_eq!(reason_of(&outcome.await.unwrap_err()), reason);
        Ok(())
    });
}

// N5, E2: a cancelled nursery absorbs its own cancellation; nobody outside is cancelled by it.
#[trine::test(kernel = "both")]
fn a_nursery_that_cancels_itself_ends_well_and_leaves_the_rest_alone() {
    run(async || {
        let story = &Story::default();
        nursery(async |n| {
            n.spawn(sleep_forever());
            n.spawn(async {
                sleep_forever().await.unwrap_err();
                clean_up().await?;
                story.tell("cleaned");
                checkpoint().await
            });
            checkpoint().await?;
            n.cancel();
            assert!(is_cancelled());
            sleep_forever().await
        })
        .await?;
        assert!(!is_cancelled());
        assert_eq!(story.told(), ["cleaned"]);
        checkpoint().await
    });
}

// N2: `spawn` before the first poll, by a body that is no async closure. The children wait for it.
#[trine::test(kernel = "both")]
fn children_spawned_before_the_nursery_is_polled_run_when_it_is() {
    run(async || {
        let story = &Story::default();
        let early = with_prelude(|n| {
            n.spawn(async {
                story.tell("child");
                checkpoint().await?;
                story.tell("end");
                Ok(())
            });
            std::future::ready(Ok(3))
        });
        checkpoint().await?;
        assert!(story.told().is_empty());
        assert_eq!(early.await?, 3);
        assert_eq!(story.told(), ["child", "end"]);
        // Finished before it began: N7.
        let early = with_prelude(|n| {
            n.spawn(async {
                let error = checkpoint().await.unwrap_err();
                assert_eq!(reason_of(&error), Reason::Finished);
                story.tell("cancelled");
                Err(error)
            });
            n.finish(4);
            std::future::pending()
        });
        assert_eq!(early.await?, 4);
        assert_eq!(story.told()[2..], ["cancelled"]);
        Ok(())
    });
}

// The nursery of one's own can be told from its handle.
#[trine::test(kernel = "both")]
fn a_handle_says_where_its_nursery_was_opened() {
    run(async || {
        let line = line!() + 1;
        let told = nursery(async |n| Ok(format!("{n:?}"))).await?;
        assert_eq!(told, format!("Nursery(opened at {}:{line}:20)", file!()));
        Ok(())
    });
}
