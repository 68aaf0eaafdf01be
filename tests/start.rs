//! `start`: spawn a child, and wait until it says that it is ready (rules N40 to N56).

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::mem;
use std::ops::AsyncFnOnce;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures::{FutureExt, poll};
use trine::net::{TcpListener, TcpStream};
use trine::time::{sleep, sleep_forever};
use trine::{
    Builder, CancelScope, Error, Reason, Result, Started, checkpoint, is_cancelled, move_on_after,
    nursery, shield, shield_for, stats, yield_shielded,
};

use common::fewer;

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(2);

/// Runs a test. What nothing can wake any more is an error here, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(10, || Builder::new().detect_deadlock_strictly(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

fn reason_of(error: &Error) -> Reason {
    error.cancelled().expect("a cancellation").reason().clone()
}

/// What was said when it was cancelled.
fn said(error: &Error) -> String {
    match reason_of(error) {
        Reason::Explicit { because: Some(text), .. } => text.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Clean-up that takes several turns, behind a shield.
async fn clean_up() -> Result {
    let cleaned = shield_for(LONG, async |_| {
        checkpoint().await?;
        sleep(MOMENT / 4).await
    });
    assert!(cleaned.await?.is_some());
    Ok(())
}

/// What happened, in order.
#[derive(Default)]
struct Story(RefCell<Vec<&'static str>>);

impl Story {
    fn tell(&self, event: &'static str) {
        self.0.borrow_mut().push(event);
    }

    fn told(&self) -> Vec<&'static str> {
        self.0.borrow().clone()
    }
}

/// A child that is never ready: cleans up when it is cancelled.
async fn never_ready<V>(_started: Started<V>, story: &Story) -> Result {
    let error = sleep_forever().await.unwrap_err();
    story.tell("cancelled");
    clean_up().await?;
    story.tell("cleaned");
    Err(error)
}

// The use it is made for: a server that says at which port it listens.
#[trine::test(kernel = "both")]
fn start_returns_what_the_child_says_when_it_is_ready() {
    run(async || {
        nursery(async |n| {
            let address = n
                .start(async |started| {
                    let listener = TcpListener::bind("127.0.0.1:0").await?;
                    started.set(listener.local_addr()?);
                    let (stream, _) = listener.accept().await?;
                    stream.write_all("hello").await?;
                    stream.close().await
                })
                .await?;
            let client = TcpStream::connect_addr(address).await?;
            assert_eq!(client.recv().await?.expect("bytes"), *b"hello");
            Ok(())
        })
        .await
    });
}

// N40: only daemons and a pending start are left: the nursery stays open.
#[trine::test(kernel = "both")]
fn a_nursery_stays_open_while_a_start_is_pending() {
    run(async || {
        let story = &Story::default();
        nursery(async |n| {
            n.spawn_daemon(async move {
                let value = n
                    .start(async |started| {
                        story.tell("begun");
                        sleep(MOMENT).await?;
                        started.set(3);
                        sleep(MOMENT).await?;
                        story.tell("child");
                        Ok(())
                    })
                    .await?;
                assert_eq!(value, 3);
                story.tell("started");
                assert_eq!(reason_of(&sleep_forever().await.unwrap_err()), Reason::Finished);
                story.tell("daemon");
                Ok(())
            });
            while story.told().is_empty() {
                checkpoint().await?;
            }
            story.tell("body");
            Ok(())
        })
        .await?;
        // N45: and then it belongs to the nursery, as an ordinary child.
        assert_eq!(story.told(), ["begun", "body", "started", "child", "daemon"]);
        Ok(())
    });
}

// N42, N56: a cancelled `start` cancels the child with the caller's reason, joins it, and reports.
#[trine::test(kernel = "both")]
fn a_cancelled_start_cancels_its_child_and_joins_it() {
    run(async || {
        let (story, seen) = (&Story::default(), &RefCell::new(String::new()));
        let scope = &CancelScope::new();
        nursery(async |n| {
            let left = scope.run(async |_| {
                n.spawn(async {
                    sleep(MOMENT).await?;
                    scope.cancel_because("no longer needed");
                    Ok(())
                });
                let started = n.start(async |_started: Started<()>| {
                    let error = sleep_forever().await.unwrap_err();
                    seen.replace(said(&error));
                    clean_up().await?;
                    story.tell("child");
                    Err(error)
                });
                let error = started.await.unwrap_err();
                story.tell("start");
                assert_eq!(said(&error), "no longer needed");
                Err::<(), _>(error)
            });
            assert!(left.await?.is_none());
            assert_eq!(story.told(), ["child", "start"]);
            // N43: the nursery is not cancelled.
            checkpoint().await
        })
        .await?;
        assert_eq!(*seen.borrow(), "no longer needed");
        Ok(())
    });
}

// N42: the same by the caller's deadline, while the child is shielded: `start` waits for it.
#[trine::test(kernel = "both")]
fn a_cancelled_start_waits_for_what_its_child_does_behind_a_shield() {
    run(async || {
        let story = &Story::default();
        nursery(async |n| {
            let left = move_on_after(MOMENT, async |_| {
                n.start(async |_started: Started<()>| {
                    shield(sleep(MOMENT * 2)).await?;
                    story.tell("shielded");
                    assert!(is_cancelled());
                    checkpoint().await
                })
                .await
            });
            assert!(left.await?.is_none());
            assert_eq!(story.told(), ["shielded"]);
            checkpoint().await
        })
        .await
    });
}

// N42: a child that is cancelled already is not released by `set`: it unwinds, and `start` reports.
#[trine::test(kernel = "both")]
fn saying_ready_when_it_is_too_late_does_not_release_the_child() {
    run(async || {
        let story = &Story::default();
        for ends_well in [true, false] {
            let scope = &CancelScope::new();
            nursery(async |n| {
                let left = scope.run(async |_| {
                    let started = n.start(async |started| {
                        scope.cancel_because("too late");
                        while !is_cancelled() {
                            yield_shielded().await;
                        }
                        started.set(1);
                        clean_up().await?;
                        story.tell("child");
                        if ends_well { Ok(()) } else { Err(Error::other("on the way out")) }
                    });
                    let error = started.await.unwrap_err();
                    story.tell("start");
                    if ends_well {
                        assert_eq!(said(&error), "too late");
                    } else {
                        assert_eq!(error.to_string(), "on the way out");
                    }
                    checkpoint().await
                });
                assert!(left.await?.is_none());
                checkpoint().await
            })
            .await?;
        }
        assert_eq!(story.told(), ["child", "start", "child", "start"]);
        Ok(())
    });
}

// N42: until it is ready the child hangs under the nursery: it is cancelled with it, although the
// caller is shielded, who hears of it (Trio's deadlock #1431).
#[trine::test(kernel = "both")]
fn a_child_that_is_not_ready_is_cancelled_with_its_nursery() {
    run(async || {
        let story = &Story::default();
        nursery(async |n| {
            n.spawn(async move {
                let started =
                    n.start(async |started: Started<()>| never_ready(started, story).await);
                let outcome = shield_for(LONG, async |_| Ok(started.await)).await?;
                let error = outcome.expect("in time").unwrap_err();
                assert_eq!(reason_of(&error), Reason::Finished);
                story.tell("start");
                Err(error)
            });
            sleep(MOMENT).await?;
            n.cancel();
            Ok(())
        })
        .await?;
        assert_eq!(story.told(), ["cancelled", "cleaned", "start"]);
        Ok(())
    });
}

// N42: the same with a `set` in a nursery that is cancelled: not released.
#[trine::test(kernel = "both")]
fn saying_ready_in_a_cancelled_nursery_does_not_release_the_child() {
    run(async || {
        let story = &Story::default();
        nursery(async |n| {
            n.spawn(async move {
                let started = n.start(async move |started| {
                    n.cancel();
                    started.set(1);
                    clean_up().await?;
                    story.tell("child");
                    checkpoint().await
                });
                let outcome = shield_for(LONG, async |_| Ok(started.await)).await?;
                assert!(outcome.expect("in time").unwrap_err().is_cancelled());
                story.tell("start");
                Ok(())
            });
            sleep_forever().await
        })
        .await?;
        assert_eq!(story.told(), ["child", "start"]);
        Ok(())
    });
}

// N42: dropping `start` cancels the child; its end then concerns nobody, but it is awaited (N4).
#[trine::test(kernel = "both")]
fn dropping_a_start_cancels_the_child_whose_end_concerns_nobody() {
    run(async || {
        let story = &Story::default();
        nursery(async |n| {
            {
                let mut starting = pin!(n.start(async |started| {
                    let error = sleep_forever().await.unwrap_err();
                    assert_eq!(reason_of(&error), Reason::Finished);
                    // N42: this releases nobody.
                    started.set(());
                    clean_up().await?;
                    story.tell("child");
                    Err(Error::other("who cares"))
                }));
                assert!(poll!(starting.as_mut()).is_pending());
                checkpoint().await?;
            }
            checkpoint().await?;
            story.tell("body");
            Ok(())
        })
        .await?;
        assert_eq!(story.told(), ["body", "child"]);
        Ok(())
    });
}

// N42, N10: dropped before the child has run: it still begins, and is cancelled.
#[trine::test(kernel = "both")]
fn dropping_a_start_at_once_cancels_a_child_that_has_not_begun() {
    run(async || {
        let story = &Story::default();
        nursery(async |n| {
            {
                let mut starting = pin!(n.start(async |started: Started<()>| {
                    story.tell("begun");
                    never_ready(started, story).await
                }));
                assert!(poll!(starting.as_mut()).is_pending());
            }
            checkpoint().await
        })
        .await?;
        assert_eq!(story.told(), ["begun", "cancelled", "cleaned"]);
        Ok(())
    });
}

// N45: dropped when the child had said ready already: it goes on, and its errors are the nursery's.
#[trine::test(kernel = "both")]
fn dropping_a_start_of_a_child_that_is_ready_does_not_concern_the_child() {
    run(async || {
        struct Value<'a>(&'a Story);
        impl Drop for Value<'_> {
            fn drop(&mut self) {
                self.0.tell("value dropped");
            }
        }
        let story = &Story::default();
        let outcome = nursery(async |n| {
            {
                let mut starting = pin!(n.start(async |started| {
                    started.set(Value(story));
                    sleep(MOMENT).await?;
                    story.tell("child");
                    Err(Error::other("the nursery's"))
                }));
                assert!(poll!(starting.as_mut()).is_pending());
                // The child has run now, and `start` has not looked again.
                checkpoint().await?;
            }
            sleep_forever().await
        });
        assert_eq!(outcome.await.unwrap_err().to_string(), "the nursery's");
        let told = story.told();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.contains(&"child"));
        Ok(())
    });
}

// N42: a forgotten `start` leaves a child that is the nursery's when it is ready.
#[trine::test(kernel = "both")]
fn forgetting_a_start_leaves_the_child_to_the_nursery() {
    run(async || {
        let story = &Story::default();
        let outcome = nursery(async |n| {
            let mut starting = Box::pin(n.start(async |started| {
                sleep(MOMENT).await?;
                started.set(());
                story.tell("child");
                Err(Error::other("the nursery's"))
            }));
            assert!(poll!(starting.as_mut()).is_pending());
            mem::forget(starting);
            Ok(())
        });
        assert_eq!(outcome.await.unwrap_err().to_string(), "the nursery's");
        assert_eq!(story.told(), ["child"]);
        Ok(())
    });
}

// N43: an error before ready comes out bare, and does not cancel the nursery.
#[trine::test(kernel = "both")]
fn an_error_before_ready_comes_out_of_start_and_leaves_the_nursery_alone() {
    run(async || {
        let done = &Cell::new(false);
        nursery(async |n| {
            n.spawn(async {
                sleep(MOMENT).await?;
                done.set(true);
                Ok(())
            });
            let refused = n.start(async |_started: Started<u16>| {
                let taken = TcpListener::bind("127.0.0.1:0").await?;
                TcpListener::bind(taken.local_addr()?).await?;
                Ok(())
            });
            let error = refused.await.unwrap_err();
            assert_eq!(error.io_kind(), Some(std::io::ErrorKind::AddrInUse), "{error:?}");
            let failed = n.start(async |_started: Started<()>| Err(Error::other("not today")));
            assert_eq!(failed.await.unwrap_err().to_string(), "not today");
            assert!(!is_cancelled());
            checkpoint().await
        })
        .await?;
        assert!(done.get());
        Ok(())
    });
}

// N43, N5: also a group, as it is.
#[trine::test(kernel = "both")]
fn a_group_of_errors_before_ready_comes_out_of_start_as_it_is() {
    run(async || {
        nursery(async |n| {
            let failed = n.start(async |_started: Started<()>| {
                nursery(async |inner| {
                    inner.spawn(async { sleep_forever().await.map_err(|_| Error::other("b")) });
                    inner.spawn(async { Err(Error::other("a")) });
                    Ok(())
                })
                .await
            });
            let Error::Group(group) = failed.await.unwrap_err() else { panic!("a group") };
            assert_eq!(group.errors().len(), 2);
            Ok(())
        })
        .await
    });
}

// N44: ending without having said ready is an error, which names the place.
#[trine::test(kernel = "both")]
fn a_child_that_ends_without_saying_ready_is_an_error_of_start() {
    run(async || {
        nursery(async |n| {
            let line = line!() + 1;
            let error = n.start(async |_started: Started<()>| Ok(())).await.unwrap_err();
            assert!(matches!(error, Error::NeverReady(at) if at.line() == line), "{error:?}");
            assert!(error.to_string().contains("without saying that it is ready"), "{error}");
            // It makes no difference whether it ends well by itself, or dropped the means before.
            let error = n
                .start(async |started: Started<()>| {
                    drop(started);
                    sleep(MOMENT).await
                })
                .await
                .unwrap_err();
            assert!(matches!(error, Error::NeverReady(_)), "{error:?}");
            checkpoint().await
        })
        .await
    });
}

// N45: from then on the caller's scopes do not matter.
#[trine::test(kernel = "both")]
fn a_child_that_is_ready_outlives_the_scope_of_start() {
    run(async || {
        let story = &Story::default();
        nursery(async |n| {
            let left = move_on_after(LONG, async |scope| {
                n.start(async |started| {
                    started.set(());
                    sleep(MOMENT).await?;
                    story.tell("child");
                    Ok(())
                })
                .await?;
                scope.cancel();
                story.tell("cancelled");
                checkpoint().await
            });
            assert!(left.await?.is_none());
            Ok(())
        })
        .await?;
        assert_eq!(story.told(), ["cancelled", "child"]);
        Ok(())
    });
}

// N45, N3: and its error is the nursery's; the value has been handed over all the same (D1).
#[trine::test(kernel = "both")]
fn an_error_after_ready_cancels_the_nursery() {
    run(async || {
        let outcome = nursery(async |n| {
            let line = line!() + 2;
            let value = n
                .start(async |started| {
                    started.set(1);
                    Err(Error::other("right after"))
                })
                .await?;
            assert_eq!(value, 1);
            let reason = reason_of(&checkpoint().await.unwrap_err());
            assert!(matches!(reason, Reason::SiblingFailed { child } if child.line() == line));
            Ok(())
        });
        assert_eq!(outcome.await.unwrap_err().to_string(), "right after");
        Ok(())
    });
}

// N20: a panic before ready is a panic of a child all the same.
#[trine::test(kernel = "both")]
fn a_panic_before_ready_goes_on_in_the_nursery() {
    run(async || {
        let story = &Story::default();
        let outcome = AssertUnwindSafe(nursery(async |n| {
            n.spawn(async {
                let error = sleep_forever().await.unwrap_err();
                clean_up().await?;
                story.tell("sibling");
                Err(error)
            });
            let outcome = n.start(async |_started: Started<()>| panic!("starting")).await;
            assert!(outcome.is_err());
            assert!(is_cancelled());
            checkpoint().await
        }));
        let thrown = outcome.catch_unwind().await.map(drop).unwrap_err();
        assert_eq!(thrown.downcast_ref(), Some(&"starting"));
        assert_eq!(story.told(), ["sibling"]);
        checkpoint().await
    });
}

// A8: the cancel check comes first: nothing is spawned in a cancelled scope.
#[trine::test(kernel = "both")]
fn start_in_a_cancelled_scope_spawns_nothing() {
    run(async || {
        nursery(async |n| {
            let left = move_on_after(LONG, async |scope| {
                scope.cancel();
                let begin =
                    |_: Started<()>| -> std::future::Ready<Result> { unreachable!("called") };
                n.start(begin).await
            });
            assert!(left.await?.is_none());
            checkpoint().await
        })
        .await
    });
}

// A2: an `Ok` is a schedule point, also if the child said ready before it began.
#[trine::test(kernel = "both")]
fn starting_children_that_are_ready_at_once_cannot_starve_a_neighbour() {
    const CHILDREN: u32 = fewer(300, 40);
    run(async || {
        nursery(async |n| {
            let turns = stats().turns;
            for number in 0..CHILDREN {
                let ready = n.start(|started| {
                    started.set(number);
                    async { Ok(()) }
                });
                assert_eq!(ready.await?, number);
            }
            let turns = stats().turns - turns;
            assert!(turns >= 2, "{CHILDREN} operations in {turns} turns");
            Ok(())
        })
        .await
    });
}

// N42, C4: the child says ready, and the caller is cancelled before it has noticed: the value wins,
// and the child belongs to the nursery.
#[trine::test(kernel = "both")]
fn a_start_that_is_over_is_not_cancelled_any_more() {
    run(async || {
        let (story, value) = (&Story::default(), &Cell::new(0));
        let scope = &CancelScope::new();
        nursery(async |n| {
            let left = scope.run(async |_| {
                let starting = n.start(async |started| {
                    started.set(4);
                    scope.cancel();
                    sleep(MOMENT).await?;
                    story.tell("child");
                    Ok(())
                });
                value.set(starting.await?);
                checkpoint().await
            });
            assert!(left.await?.is_none());
            Ok(())
        })
        .await?;
        assert_eq!(value.get(), 4);
        assert_eq!(story.told(), ["child"]);
        Ok(())
    });
}

// D4, B2: the scope that was cancelled is left before `start` has noticed; it goes on where it is.
#[trine::test(kernel = "both")]
fn a_start_that_has_left_a_cancelled_scope_goes_on() {
    run(async || {
        nursery(async |n| {
            let mut starting = pin!(n.start(async |started| {
                sleep(MOMENT).await?;
                started.set(4);
                Ok(())
            }));
            move_on_after(LONG, async |scope| {
                assert!(poll!(starting.as_mut()).is_pending());
                scope.cancel();
                Ok(())
            })
            .await?
            .expect("it has finished");
            assert_eq!(starting.await?, 4);
            Ok(())
        })
        .await
    });
}

// N42, F13: the child waits for something foreign; the caller is not held up by that.
#[trine::test(kernel = "both")]
fn a_cancelled_start_of_a_child_that_waits_for_something_foreign_ends() {
    run(async || {
        nursery(async |n| {
            let left = move_on_after(MOMENT, async |_| {
                n.start(async |_started: Started<()>| pending().await).await
            });
            assert!(left.await?.is_none());
            assert_eq!(stats().abandoned, 1);
            checkpoint().await
        })
        .await
    });
}

// The means to say ready may be given to another task.
#[trine::test(kernel = "both")]
fn somebody_else_may_say_that_the_child_is_ready() {
    run(async || {
        let handed_over = &RefCell::new(None);
        nursery(async |n| {
            n.spawn(async {
                sleep(MOMENT).await?;
                let started: Started<&str> = handed_over.take().expect("handed over");
                assert_eq!(format!("{started:?}"), "Started(not yet set)");
                started.set("by a sibling");
                Ok(())
            });
            let value = n.start(async |started| {
                handed_over.replace(Some(started));
                sleep(MOMENT * 2).await
            });
            assert_eq!(value.await?, "by a sibling");
            Ok(())
        })
        .await
    });
}

// P6: also when there is nobody to hear it any more.
#[trine::test(kernel = "both")]
fn saying_ready_after_everything_has_ended_says_nothing() {
    let mut late = None;
    let late = &mut late;
    run(async || {
        nursery(async |n| {
            let error = n
                .start(async |started: Started<String>| {
                    *late = Some(started);
                    Ok(())
                })
                .await
                .unwrap_err();
            assert!(matches!(error, Error::NeverReady(_)));
            Ok(())
        })
        .await
    });
    late.take().expect("kept").set("nobody".to_owned());
    run(async || checkpoint().await);
}

// N40: starts nest, and run side by side.
#[trine::test(kernel = "both")]
fn children_that_start_others_are_ready_when_those_are() {
    run(async || {
        fn chain<'s>(
            n: trine::Nursery<'s, '_>,
            left: u32,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<u32>> + 's>> {
            Box::pin(n.start(async move |started| {
                let below = if left > 0 { chain(n, left - 1).await? } else { 0 };
                started.set(below + 1);
                sleep_forever().await
            }))
        }
        nursery(async |n| {
            let (one, two) = futures::join!(chain(n, 9), chain(n, 4));
            assert_eq!((one?, two?), (10, 5));
            assert!(stats().tasks >= 15);
            n.cancel();
            Ok(())
        })
        .await
    });
}

// N42, N56: a chain of starts is cancelled from the outermost caller, innermost joined first.
#[trine::test(kernel = "both")]
fn a_chain_of_starts_unwinds_from_the_inside() {
    run(async || {
        let story = &Story::default();
        nursery(async |n| {
            let left = move_on_after(MOMENT, async |_| {
                n.start(async move |_outer: Started<()>| {
                    let inner =
                        n.start(async |started: Started<()>| never_ready(started, story).await);
                    let error = inner.await.unwrap_err();
                    assert!(matches!(reason_of(&error), Reason::Deadline { .. }));
                    story.tell("outer");
                    Err(error)
                })
                .await
            });
            assert!(left.await?.is_none());
            story.tell("caller");
            checkpoint().await
        })
        .await?;
        assert_eq!(story.told(), ["cancelled", "cleaned", "outer", "caller"]);
        Ok(())
    });
}

// N7, N42: the nursery has its value before the child is ready.
#[trine::test(kernel = "both")]
fn a_nursery_that_finishes_while_a_start_is_pending_joins_the_child() {
    run(async || {
        let story = &Story::default();
        let value = nursery(async |n| {
            n.spawn(async move {
                checkpoint().await?;
                n.finish(1);
                Ok(())
            });
            n.start(async |started: Started<()>| never_ready(started, story).await).await?;
            Ok(2)
        });
        assert_eq!(value.await?, 1);
        assert_eq!(story.told(), ["cancelled", "cleaned"]);
        Ok(())
    });
}

// C2: only ever once: who called is told once, whatever happens in between.
#[trine::test(kernel = "both")]
fn a_start_may_be_cancelled_by_several_scopes_at_once() {
    run(async || {
        let cancelled = &Cell::new(0);
        let (outer, inner) = (&CancelScope::new(), &CancelScope::new());
        nursery(async |n| {
            let left = outer.run(async |_| {
                let left = inner.run(async |_| {
                    let failed = n.start(async |_started: Started<()>| {
                        inner.cancel_because("inner");
                        outer.cancel_because("outer");
                        let error = sleep_forever().await.unwrap_err();
                        cancelled.set(cancelled.get() + 1);
                        clean_up().await?;
                        Err(error)
                    });
                    let error = failed.await.unwrap_err();
                    assert_eq!(said(&error), "inner");
                    Err::<(), _>(error)
                });
                left.await
            });
            // E6: the outermost visible one absorbs.
            assert!(left.await?.is_none());
            assert!(outer.caught());
            checkpoint().await
        })
        .await?;
        assert_eq!(cancelled.get(), 1);
        Ok(())
    });
}
