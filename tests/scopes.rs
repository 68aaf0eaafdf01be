//! Cancel scopes: the tree they make and how they are left (sections B and E), with the rest of their
//! rules below (sections F, G, H).

mod common;
#[path = "scopes/deadlines.rs"]
mod deadlines;
#[path = "scopes/depth.rs"]
mod depth;
#[path = "scopes/life.rs"]
mod life;
#[path = "scopes/shields.rs"]
mod shields;

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::AsyncFnOnce;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures::poll;
use trine::net::TcpListener;
use trine::time::{Instant, sleep, sleep_forever};
use trine::{
    Builder, CancelScope, Error, Reason, Result, Unwind, checkpoint, checkpoint_if_cancelled,
    current_effective_deadline, fail_after, is_cancelled, move_on_after, nop, nursery, shield,
    stats, tree, yield_shielded,
};

use common::{fewer, in_kernel, pair};

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(2);

/// Runs a test. What nothing can wake any more is an error here, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(10, || Builder::new().detect_deadlock_strictly(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// A real cancellation, as a value. It comes from a scope that has been left by then.
async fn stray() -> Result<Error> {
    let scope = CancelScope::new();
    scope.cancel_because("a stray");
    let stray = scope.run(async |_| Ok(sleep_forever().await.unwrap_err())).await?;
    Ok(stray.expect("the body has caught it"))
}

// B1: children hang under the nursery's node, not under the spawner's current one.
#[trine::test(kernel = "both")]
fn a_child_is_not_cancelled_by_the_scope_around_its_spawn() {
    run(async || {
        let done = &Cell::new(false);
        nursery(async |n| {
            let inner = CancelScope::new();
            let left = inner.run(async |inner| {
                n.spawn(async move {
                    checkpoint().await?;
                    assert!(!is_cancelled());
                    checkpoint().await?;
                    done.set(true);
                    Ok(())
                });
                inner.cancel();
                while !done.get() {
                    yield_shielded().await;
                }
                sleep_forever().await
            });
            assert!(left.await?.is_none());
            Ok(())
        })
        .await?;
        assert!(done.get());
        Ok(())
    });
}

// B2: what is polled under another node moves there, with its whole subtree, out of a cancellation
// that it has not seen yet: a park waits anew, an operation is submitted again (D4).
#[trine::test(kernel = "both")]
fn a_nursery_that_leaves_a_cancelled_scope_before_it_has_noticed_goes_on() {
    run(async || {
        let (client, server) = &pair().await?;
        let mut moved = Box::pin(nursery(async |n| {
            let received = n.fork(async { server.recv().await });
            n.spawn(async { sleep(MOMENT).await });
            sleep(MOMENT).await?;
            Ok(received.await?.expect("bytes").to_vec())
        }));
        let scope = CancelScope::new();
        let left = scope.run(async |scope| {
            assert!(poll!(moved.as_mut()).is_pending());
            checkpoint().await?;
            assert!(poll!(moved.as_mut()).is_pending(), "now its children wait");
            scope.cancel();
            Ok(())
        });
        assert!(left.await?.is_some());
        assert!(scope.cancel_called().is_some());
        client.write_all("for the child").await?;
        assert_eq!(moved.await?, b"for the child");
        Ok(())
    });
}

// B2: the other direction.
#[trine::test(kernel = "both")]
fn a_nursery_entered_outside_is_cancelled_by_the_scope_it_is_polled_in() {
    run(async || {
        let mut moved = Box::pin(nursery(async |n| {
            n.spawn(async { sleep_forever().await });
            nursery(async |deeper| {
                deeper.spawn(async { sleep_forever().await });
                Ok(())
            })
            .await
        }));
        assert!(poll!(moved.as_mut()).is_pending());
        checkpoint().await?;
        let outcome = move_on_after(MOMENT, async |_| moved.as_mut().await).await?;
        assert!(outcome.is_none());
        Ok(())
    });
}

// B2: no matter how long that one has been cancelled, and what it is that moves.
#[trine::test(kernel = "both")]
fn what_is_pending_and_then_polled_in_a_cancelled_scope_is_cancelled() {
    run(async || {
        let (_client, server) = &pair().await?;
        let listener = &TcpListener::bind("127.0.0.1:0").await?;
        type Pending<'a> = Pin<Box<dyn Future<Output = Result> + 'a>>;
        let pending: [(&str, Pending<'_>); 6] = [
            ("a park", Box::pin(sleep(LONG))),
            ("a receive", Box::pin(async { server.recv().await.map(drop) })),
            ("a read", Box::pin(async { Ok(server.read(vec![0; 8]).await.map(drop)?) })),
            ("an accept", Box::pin(async { listener.accept().await.map(drop) })),
            ("a scope", Box::pin(async { move_on_after(LONG, sleeping).await.map(drop) })),
            ("a nursery", Box::pin(nursery(async |n| n.fork(sleep_forever()).await))),
        ];
        for (what, mut pending) in pending {
            for _ in 0..3 {
                assert!(poll!(pending.as_mut()).is_pending());
                checkpoint().await?;
            }
            let scope = CancelScope::new();
            let left = scope.run(async |scope| {
                scope.cancel();
                yield_shielded().await;
                pending.await
            });
            assert!(left.await?.is_none(), "{what}");
        }
        Ok(())
    });
}

async fn sleeping(_: &CancelScope) -> Result {
    sleep_forever().await
}

// B2, F12: the node of `inner` outlives its parent's.
#[trine::test(kernel = "both")]
fn a_nursery_whose_surrounding_scope_is_dropped_half_way_goes_on_outside() {
    run(async || {
        let mut inner = Box::pin(nursery(async |n| {
            n.spawn(async { sleep(MOMENT).await });
            sleep(MOMENT).await?;
            Ok(7)
        }));
        let mut around = Box::pin(move_on_after(LONG, async |_| inner.as_mut().await));
        assert!(poll!(around.as_mut()).is_pending());
        checkpoint().await?;
        assert!(poll!(around.as_mut()).is_pending());
        drop(around);
        assert_eq!(inner.await?, 7);
        Ok(())
    });
}

// B2: the wait belongs to who polls it now, and that one is woken.
#[trine::test(kernel = "both")]
fn a_scope_that_is_handed_from_one_task_to_another_wakes_the_new_one() {
    run(async || {
        type Handed<'a> = Pin<Box<dyn Future<Output = Result<Option<u32>>> + 'a>>;
        let handed: &RefCell<Option<Handed>> = &RefCell::new(None);
        let outcome = &Cell::new(None);
        nursery(async |n| {
            n.spawn(async move {
                let mut scope: Handed = Box::pin(move_on_after(LONG, async |_| {
                    sleep(MOMENT).await?;
                    nop().await?;
                    Ok(7)
                }));
                assert!(poll!(scope.as_mut()).is_pending());
                *handed.borrow_mut() = Some(scope);
                Ok(())
            });
            checkpoint().await?;
            checkpoint().await?;
            n.spawn(async move {
                let scope = handed.take().expect("the first child has left it");
                outcome.set(scope.await?);
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert_eq!(outcome.get(), Some(7));
        Ok(())
    });
}

// B2, D4: the canonical loop of a receive with a heartbeat.
#[trine::test(kernel = "both")]
fn a_receive_kept_across_timeouts_starts_anew_and_loses_nothing() {
    run(async || {
        let (client, server) = pair().await?;
        let mut receive = pin!(server.recv());
        let mut timeouts = 0;
        let chunk = loop {
            match move_on_after(MOMENT / 2, async |_| receive.as_mut().await).await? {
                Some(chunk) => break chunk.expect("bytes"),
                None => timeouts += 1,
            }
            if timeouts == 3 {
                client.write_all("late").await?;
            }
            assert!(timeouts < 100);
        };
        assert!(timeouts >= 3);
        assert_eq!(chunk, *b"late");
        Ok(())
    });
}

// B5: the sweep reaches everything before any task is polled. C3: operations end by themselves.
#[trine::test(kernel = "both")]
fn every_operation_has_been_asked_to_cancel_when_cancel_returns() {
    run(async || {
        let mut listeners = Vec::new();
        for _ in 0..fewer(20, 4) {
            listeners.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        let cancelled = &Cell::new(0);
        let scope = CancelScope::new();
        let left = scope.run(async |scope| {
            nursery(async |n| {
                for listener in &listeners {
                    n.spawn(async move {
                        let error = listener.accept().await.unwrap_err();
                        cancelled.set(cancelled.get() + 1);
                        Err(error)
                    });
                }
                in_kernel(listeners.len()).await?;
                scope.cancel();
                assert_eq!(tree().matches("asked to cancel").count(), listeners.len());
                assert_eq!(cancelled.get(), 0, "nobody has been polled");
                Ok(())
            })
            .await
        });
        assert!(left.await?.is_none());
        assert_eq!(cancelled.get(), listeners.len());
        Ok(())
    });
}

// B5: a full submission queue delays cancels and loses none.
#[trine::test(kernel = "both")]
fn more_cancels_than_the_submission_queue_has_entries_all_arrive() {
    let builder = Builder::new().submissions(1);
    let ended = common::within(10, || {
        builder.run(async || {
            let mut listeners = Vec::new();
            for _ in 0..fewer(100, 5) {
                listeners.push(TcpListener::bind("127.0.0.1:0").await?);
            }
            let outcome = move_on_after(MOMENT, async |_| {
                nursery(async |n| {
                    for listener in &listeners {
                        n.spawn(async move { listener.accept().await.map(drop) });
                    }
                    Ok(())
                })
                .await
            });
            assert!(outcome.await?.is_none());
            assert_eq!(stats().in_kernel, 0);
            Ok(())
        })
    });
    ended.unwrap();
}

// B6: nothing un-cancels a scope; B7: every cancel point raises; only a shield hides it.
#[trine::test(kernel = "both")]
fn a_cancelled_scope_raises_at_every_cancel_point_whatever_becomes_of_its_deadline() {
    run(async || {
        let scope = CancelScope::new().timeout(Duration::ZERO);
        let left = scope.run(async |scope| {
            for _ in 0..3 {
                assert!(checkpoint().await.unwrap_err().is_cancelled());
                assert!(checkpoint_if_cancelled().await.unwrap_err().is_cancelled());
                assert!(sleep(LONG).await.unwrap_err().is_cancelled());
                assert!(nop().await.unwrap_err().is_cancelled());
                scope.set_deadline(Some(Instant::now() + LONG));
                assert!(is_cancelled());
                scope.set_deadline(None);
                shield(async {
                    assert!(!is_cancelled());
                    checkpoint().await
                })
                .await?;
            }
            checkpoint().await
        });
        assert!(left.await?.is_none());
        assert!(scope.caught());
        Ok(())
    });
}

// B8, E1: who absorbs is decided by the tree, not by where the error was made.
#[trine::test(kernel = "both")]
fn a_cancelled_scope_absorbs_a_cancellation_that_was_raised_elsewhere() {
    run(async || {
        let stray = stray().await?;
        let scope = CancelScope::new();
        let left = scope.run(async |scope| {
            scope.cancel();
            Err::<(), _>(stray)
        });
        assert!(left.await?.is_none());
        Ok(())
    });
}

// E1, E2: an absorbed cancellation is the outcome "moved on". L2: the scope knows why.
#[trine::test(kernel = "both")]
fn a_scope_absorbs_its_own_cancellation() {
    run(async || {
        let scope = CancelScope::new();
        let left = scope.run(async |scope| {
            scope.cancel_because("enough");
            sleep_forever().await
        });
        assert!(left.await?.is_none());
        assert!(scope.caught());
        let Some(Reason::Explicit { because: Some(why), .. }) = scope.cancel_called() else {
            panic!("{:?}", scope.cancel_called());
        };
        assert_eq!(&*why, "enough");
        Ok(())
    });
}

// E1, E6: the outermost visible one absorbs, whether or not the inner one is cancelled as well.
#[trine::test(kernel = "both")]
fn a_cancellation_from_outside_passes_through_inner_scopes() {
    run(async || {
        for inner_too in [false, true] {
            let passed = Cell::new(true);
            let (outer, inner) = (CancelScope::new(), CancelScope::new());
            let left = outer.run(async |outer| {
                let left = inner.run(async |inner| {
                    outer.cancel();
                    if inner_too {
                        inner.cancel();
                    }
                    sleep_forever().await
                });
                left.await?;
                passed.set(false);
                Ok(())
            });
            assert!(left.await?.is_none());
            assert!(passed.get(), "inner cancelled too: {inner_too}");
            assert!(outer.caught() && !inner.caught());
        }
        Ok(())
    });
}

// E3: a group loses its cancellations; one survivor is no group any more; none is "moved on".
#[trine::test(kernel = "both")]
fn a_scope_takes_the_cancellations_out_of_a_group() {
    run(async || {
        let scope_with = async |reals: &[&'static str]| {
            let mut errors = vec![stray().await?];
            for &real in reals {
                errors.extend([Error::other(real), stray().await?]);
            }
            let scope = CancelScope::new();
            scope.cancel();
            scope.run(async |_| Err::<(), _>(Error::gather(errors))).await
        };
        assert!(scope_with(&[]).await?.is_none());
        let one = scope_with(&["disk"]).await.unwrap_err();
        assert!(matches!(&one, Error::Other(error) if error.to_string() == "disk"), "{one:?}");
        let Err(Error::Group(two)) = scope_with(&["disk", "net"]).await else { panic!("a group") };
        let names: Vec<_> = two.errors().iter().map(Error::to_string).collect();
        assert_eq!(names, ["disk", "net"]);
        Ok(())
    });
}

// E1, E4: a scope that does not absorb alters nothing.
#[trine::test(kernel = "both")]
fn a_scope_that_is_not_cancelled_lets_a_group_with_cancellations_pass_as_it_is() {
    run(async || {
        let group = Error::gather(vec![stray().await?, Error::other("disk")]);
        let passed = move_on_after(LONG, async |_| Err::<(), _>(group)).await;
        let Err(Error::Group(group)) = passed else { panic!("a group") };
        assert!(group.lead().is_cancelled());
        assert_eq!(group.errors().len(), 2);
        Ok(())
    });
}

// E4: other errors are never absorbed.
#[trine::test(kernel = "both")]
fn a_cancelled_scope_passes_a_real_error_on() {
    run(async || {
        let scope = CancelScope::new();
        let left = scope.run(async |scope| {
            scope.cancel();
            let _cancelled = sleep_forever().await;
            Err::<(), _>(Error::from(io::Error::from_raw_os_error(libc::EIO)))
        });
        let Err(Error::Io(error)) = left.await else { panic!("the real error") };
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert!(!scope.caught());
        Ok(())
    });
}

// E5: no timeout ever discards a finished result.
#[trine::test(kernel = "both")]
fn a_body_that_has_finished_keeps_its_value_although_its_scope_is_cancelled() {
    run(async || {
        let own = move_on_after(LONG, async |scope| {
            scope.cancel();
            Ok(1)
        });
        assert_eq!(own.await?, Some(1));
        let late = move_on_after(MOMENT, async |scope| {
            let cancelled = sleep_forever().await;
            assert!(cancelled.is_err() && scope.cancel_called().is_some());
            Ok(2)
        });
        assert_eq!(late.await?, Some(2));
        let failing = fail_after(Duration::ZERO, async |_| Ok(3));
        assert_eq!(failing.await?, 3);
        let outer = move_on_after(LONG, async |outer| {
            outer.cancel();
            let inner = move_on_after(LONG, async |_| Ok(4)).await?;
            Ok(inner)
        });
        assert_eq!(outer.await?, Some(Some(4)), "leaving a scope is no cancel point");
        Ok(())
    });
}

// E8: a shield makes the scope the outermost visible one.
#[trine::test(kernel = "both")]
fn a_shielded_scope_absorbs_its_own_cancellation_inside_a_cancelled_one() {
    run(async || {
        let outer = move_on_after(LONG, async |outer| {
            outer.cancel();
            let inner = CancelScope::new().shield(true);
            let left = inner.run(async |inner| {
                checkpoint().await?;
                inner.cancel();
                checkpoint().await
            });
            assert!(left.await?.is_none());
            assert!(inner.caught());
            Ok("went on")
        });
        assert_eq!(outer.await?, Some("went on"));
        Ok(())
    });
}

// E9: every absorption by its own scope becomes `TooSlow`, with the reason.
#[trine::test(kernel = "both")]
fn fail_after_says_too_slow_and_whether_by_its_deadline_or_by_a_call() {
    run(async || {
        let timed = fail_after(MOMENT, async |_| sleep_forever().await).await;
        assert!(matches!(timed, Err(Error::TooSlow(Reason::Deadline { .. }))), "{timed:?}");
        let called = fail_after(LONG, async |scope| {
            scope.cancel();
            sleep_forever().await
        });
        let called = called.await;
        assert!(matches!(called, Err(Error::TooSlow(Reason::Explicit { .. }))), "{called:?}");
        let nested = fail_after(LONG, async |_| {
            fail_after(Duration::ZERO, async |_| sleep_forever().await).await
        });
        assert!(nested.await.unwrap_err().is_too_slow());
        Ok(())
    });
}

// E9, E1, E4: what is not its own absorption is none of its business.
#[trine::test(kernel = "both")]
fn fail_after_leaves_outer_cancellations_and_real_errors_alone() {
    run(async || {
        let outer = move_on_after(LONG, async |outer| {
            outer.cancel();
            let failed = fail_after(Duration::ZERO, async |_| sleep_forever().await).await;
            assert!(failed.as_ref().unwrap_err().is_cancelled());
            failed
        });
        assert!(outer.await?.is_none());
        let cancelled = stray().await?;
        let mixed = fail_after(LONG, async |scope| {
            scope.cancel();
            Err::<(), _>(Error::gather(vec![cancelled, Error::other("disk")]))
        });
        let mixed = mixed.await.unwrap_err();
        assert_eq!(mixed.to_string(), "disk");
        Ok(())
    });
}

// E12: decided at its arrival. The cancellation comes while the scope waits for an orphan.
#[trine::test(kernel = "both")]
fn a_stray_that_arrived_before_the_cancellation_is_not_absorbed_by_it() {
    run(async || {
        let (_client, server) = &pair().await?;
        let arriving = stray().await?;
        let scope = CancelScope::new();
        let passed = scope.run(async |_| {
            let mut orphan = Box::pin(server.recv());
            assert!(poll!(orphan.as_mut()).is_pending());
            // In the kernel, so that leaving takes a turn at least.
            in_kernel(1).await?;
            Err::<(), _>(arriving)
        });
        let mut passed = pin!(passed);
        let error = loop {
            match poll!(passed.as_mut()) {
                std::task::Poll::Ready(result) => break result.unwrap_err(),
                // While the body runs it has to be left alone.
                std::task::Poll::Pending if tree().contains("asked to cancel") => scope.cancel(),
                std::task::Poll::Pending => {}
            }
            checkpoint().await?;
        };
        assert!(scope.cancel_called().is_some(), "it was cancelled while it was being left");
        assert!(error.is_cancelled() && !scope.caught());
        Ok(())
    });
}

// E12, E6: what was absorbed stays absorbed, also if the outer scope is cancelled a moment later.
#[trine::test(kernel = "both")]
fn what_a_scope_has_absorbed_is_not_raised_again_by_a_later_cancellation_outside() {
    run(async || {
        let (_client, server) = &pair().await?;
        let (outer, inner) = (&CancelScope::new(), &CancelScope::new());
        let left = outer.run(async |_| {
            let left = inner.run(async |_| {
                let mut orphan = Box::pin(server.recv());
                assert!(poll!(orphan.as_mut()).is_pending());
                in_kernel(1).await?;
                inner.cancel();
                let ended = checkpoint_if_cancelled().await;
                assert!(poll!(orphan.as_mut()).is_pending(), "the kernel still has it");
                ended
            });
            let mut left = pin!(left);
            assert!(poll!(left.as_mut()).is_pending());
            while !tree().contains("asked to cancel") {
                checkpoint().await?;
                assert!(poll!(left.as_mut()).is_pending());
            }
            outer.cancel();
            left.await
        });
        let left = left.await?;
        assert_eq!(left, Some(None), "the inner scope moved on, and that is what the body returns");
        Ok(())
    });
}

// The functions that look at the current scope do so outside of a run, too.
#[trine::test(kernel = "both")]
fn outside_of_a_run_nothing_is_cancelled_and_there_is_no_deadline() {
    assert!(!is_cancelled());
    assert_eq!(current_effective_deadline(), None);
    assert_eq!(stats(), trine::Stats::default());
    assert_eq!(tree(), "no trine run on this thread\n");
}
