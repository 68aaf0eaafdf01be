//! A panic cancels the siblings, everything is joined, and then it goes on in the parent (N20).

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{FutureExt, poll};
use trine::time::sleep_forever;
use trine::{
    Error, Nursery, Result, checkpoint, is_cancelled, move_on_after, nop, nursery, stats,
    yield_shielded,
};

use crate::common::wakers::{text, thrown};
use crate::{LONG, Story, clean_up, line_of_failed, reason_of, run, sorted, why, with_prelude};

/// A nursery in which somebody panics in the middle of things: with a sibling that cleans up, a
/// sibling in the kernel, and a body that waits. Says what it panicked with.
async fn nursery_with<B>(panics: B) -> String
where
    B: for<'s> AsyncFnOnce(Nursery<'s, '_>, &'s Story) -> Result,
{
    let story = &Story::default();
    let listener = &trine::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let text = thrown(nursery(async |n| {
        n.spawn(async {
            let error = sleep_forever().await.unwrap_err();
            line_of_failed(&reason_of(&error));
            clean_up().await?;
            story.tell("cleaned");
            Err(error)
        });
        n.spawn(async {
            let error = listener.accept().await.unwrap_err();
            story.tell("accept");
            Err(error)
        });
        while stats().in_kernel == 0 {
            checkpoint().await?;
        }
        panics(n, story).await
    }))
    .await;
    // Everything has been joined, and the cancellation was the nursery's own.
    assert_eq!(sorted(story.told())[..2], ["accept", "cleaned"]);
    assert_eq!(stats().in_kernel, 0);
    assert!(!is_cancelled());
    text
}

// N20: of a child. L1: the siblings are told which one.
#[trine::test(kernel = "both")]
fn a_panic_of_a_child_goes_on_in_the_parent_after_all_have_been_joined() {
    run(async || {
        let told = nursery_with(async |n, _| {
            let line = line!() + 1;
            n.spawn(async { panic!("a child") });
            let error = sleep_forever().await.unwrap_err();
            assert_eq!(line_of_failed(&reason_of(&error)), line);
            Err(error)
        });
        assert_eq!(told.await, "a child");
        nop().await
    });
}

// N20: of the body.
#[trine::test(kernel = "both")]
fn a_panic_of_the_body_goes_on_after_the_children_have_been_joined() {
    run(async || {
        assert_eq!(nursery_with(async |_, _| panic!("the body")).await, "the body");
        // In its very first poll, too: children that were spawned already run and are joined.
        let ran = &Cell::new(false);
        let told = thrown(nursery::<(), _>(async |n| {
            n.spawn(async {
                line_of_failed(&reason_of(&checkpoint().await.unwrap_err()));
                clean_up().await?;
                ran.set(true);
                Ok(())
            });
            panic!("at once")
        }));
        assert_eq!(told.await, "at once");
        assert!(ran.get());
        checkpoint().await
    });
}

// N20: of a daemon, and of a forked child, whose handle yields `Cancelled`.
#[trine::test(kernel = "both")]
fn panics_of_daemons_and_forked_children_are_panics_of_children() {
    run(async || {
        let told = nursery_with(async |n, _| {
            n.spawn_daemon(async {
                checkpoint().await?;
                panic!("a daemon")
            });
            sleep_forever().await
        });
        assert_eq!(told.await, "a daemon");
        let told = nursery_with(async |n, _| {
            n.spawn_daemon(async {
                why().await;
                panic!("a dismissed daemon")
            });
            n.cancel();
            Ok(())
        });
        // Here the siblings were cancelled by `cancel`, which is no failure: see below.
        let told = AssertUnwindSafe(told).catch_unwind().await;
        assert!(told.is_err());
        let told = nursery_with(async |n, story| {
            let handle = n.fork(async {
                checkpoint().await?;
                panic!("a forked child")
            });
            let error = handle.await.map(|(): ()| ()).unwrap_err();
            assert!(error.is_cancelled());
            story.tell("the handle has ended");
            Err(error)
        });
        assert_eq!(told.await, "a forked child");
        checkpoint().await
    });
}

/// A future that ends at once, and panics when it is dropped.
struct PanicsInDrop(&'static str);

impl Future for PanicsInDrop {
    type Output = Result;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "{}", self.0);
    }
}

// N20: in a Drop, of a child that has ended well, and of the body.
#[trine::test(kernel = "both")]
fn a_panic_in_the_drop_of_a_child_is_a_panic_of_that_child() {
    run(async || {
        let told = nursery_with(async |n, _| {
            n.spawn(PanicsInDrop("dropping a child"));
            sleep_forever().await
        });
        assert_eq!(told.await, "dropping a child");
        let told = nursery_with(async |n, _| {
            n.spawn_daemon(PanicsInDrop("dropping a daemon"));
            sleep_forever().await
        });
        assert_eq!(told.await, "dropping a daemon");
        let ran = &Cell::new(false);
        let told = thrown(with_prelude(|n| {
            n.spawn(async {
                line_of_failed(&why().await);
                clean_up().await?;
                ran.set(true);
                Ok(())
            });
            PanicsInDrop("dropping the body")
        }));
        assert_eq!(told.await, "dropping the body");
        assert!(ran.get());
        checkpoint().await
    });
}

// N20, M4: the first panic goes on; a later one, an error and a value do not matter beside it.
#[trine::test(kernel = "both")]
fn the_first_panic_wins_over_errors_values_and_later_panics() {
    run(async || {
        let told = thrown(nursery(async |n| {
            n.spawn(async {
                why().await;
                panic!("second")
            });
            n.spawn(async {
                why().await;
                Err(Error::other("disk"))
            });
            n.finish(1);
            n.spawn(async {
                yield_shielded().await;
                Ok(())
            });
            panic!("first")
        }));
        assert_eq!(told.await, "first");
        // The error came first and is lost: a panic cannot carry it.
        let told = thrown(nursery::<u32, _>(async |n| {
            n.spawn(async { Err(Error::other("disk")) });
            why().await;
            panic!("after an error")
        }));
        assert_eq!(told.await, "after an error");
        checkpoint().await
    });
}

// N20: level by level: the outer nursery's children are joined as well, before it goes on.
#[trine::test(kernel = "both")]
fn a_panic_in_an_inner_nursery_passes_through_the_outer_one() {
    run(async || {
        let story = &Story::default();
        let told = thrown(nursery(async |outer| {
            outer.spawn(async {
                why().await;
                clean_up().await?;
                story.tell("outer sibling");
                Ok(())
            });
            outer.spawn(async {
                move_on_after(LONG, async |_| {
                    nursery(async |inner| {
                        inner.spawn(async {
                            why().await;
                            clean_up().await?;
                            story.tell("inner sibling");
                            Ok(())
                        });
                        inner.spawn(async { panic!("deep inside") });
                        sleep_forever().await
                    })
                    .await
                })
                .await?;
                Ok(())
            });
            sleep_forever().await
        }));
        assert_eq!(told.await, "deep inside");
        assert_eq!(story.told(), ["inner sibling", "outer sibling"]);
        checkpoint().await
    });
}

// N20, P1: a panic that nobody catches comes out of the run, after everything was joined, and the
// thread can run again.
#[trine::test(kernel = "both")]
fn a_panic_comes_out_of_the_run() {
    let story = Story::default();
    let thrown = catch_unwind(AssertUnwindSafe(|| {
        run(async || {
            nursery(async |n| {
                n.spawn(async {
                    why().await;
                    clean_up().await?;
                    story.tell("cleaned");
                    Ok(())
                });
                n.spawn(async { panic!("out") });
                sleep_forever().await
            })
            .await
        });
    }));
    assert_eq!(text(&*thrown.unwrap_err()), "out");
    assert_eq!(story.told(), ["cleaned"]);
    assert_eq!(trine::tree(), "no trine run on this thread\n");
    run(async || nop().await);
}

/// Never ends; panics in its Drop, or not, after it has told the story.
struct Tells<'a>(&'a Story, &'static str, bool);

impl Future for Tells<'_> {
    type Output = Result;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Pending
    }
}

impl Drop for Tells<'_> {
    fn drop(&mut self) {
        self.0.tell(self.1);
        assert!(!self.2 || std::thread::panicking(), "{}", self.1);
    }
}

// N16, N20: a nursery that is dropped half-way drops everything, and then goes on with the first
// panic of a Drop.
#[trine::test(kernel = "both")]
fn panics_while_a_nursery_is_dropped_stop_nothing() {
    run(async || {
        let story = &Story::default();
        let base = stats();
        let mut half_way = Box::pin(nursery(async |n| {
            for name in ["one", "two", "three", "four"] {
                n.spawn(Tells(story, name, name.starts_with('t')));
            }
            Tells(story, "body", false).await
        }));
        for _ in 0..2 {
            assert!(poll!(half_way.as_mut()).is_pending());
            checkpoint().await?;
        }
        let thrown = catch_unwind(AssertUnwindSafe(|| drop(half_way))).unwrap_err();
        assert_eq!(story.told()[0], "body");
        assert_eq!(sorted(story.told()), ["body", "four", "one", "three", "two"]);
        assert!(["two", "three"].contains(&text(&*thrown).as_str()));
        let now = stats();
        assert_eq!((now.tasks, now.scopes), (base.tasks, base.scopes));
        // The same while the thread is panicking already: nothing aborts, and the first one goes on.
        let mut half_way = Box::pin(nursery(async |n| {
            n.spawn(Tells(story, "two", true));
            n.spawn(Tells(story, "five", false));
            Tells(story, "three", true).await
        }));
        assert!(poll!(half_way.as_mut()).is_pending());
        let thrown = catch_unwind(AssertUnwindSafe(|| drop(half_way))).unwrap_err();
        assert_eq!(text(&*thrown), "three");
        assert_eq!(story.told().len(), 8);
        checkpoint().await
    });
}
