//! Nothing can wake the run any more (rule P4).

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io::Write;
use std::ops::AsyncFnOnce;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::thread;

use futures::channel::oneshot;
use trine::time::{sleep, sleep_forever};
use trine::{Builder, Error, Result, checkpoint, move_on_after, nop, nursery, shield, tree};

use super::{MOMENT, Peer, outcome};

fn lenient() -> Builder {
    Builder::new().detect_deadlock(true)
}

fn strict() -> Builder {
    Builder::new().detect_deadlock_strictly(true)
}

/// The picture that the deadlock of a run comes with.
#[track_caller]
fn deadlock(builder: Builder, main: impl AsyncFnOnce() -> Result) -> String {
    match outcome(builder, main) {
        Err(Error::Deadlock(tree)) => tree,
        other => panic!("no deadlock: {other:?}"),
    }
}

// P4: it is reported with the task tree, and failed.
#[trine::test(kernel = "both")]
fn a_deadlock_ends_the_run_with_a_picture_of_it() {
    let line = line!();
    let picture = deadlock(lenient(), async || {
        nursery(async |n| {
            n.spawn(sleep_forever());
            shield(pending::<Result>()).await
        })
        .await
    });
    let file = file!();
    let lines: Vec<_> = picture.lines().collect();
    assert!(lines[0].starts_with("run at "), "{picture}");
    assert!(lines[1].starts_with(&format!("  nursery at {file}:{}", line + 2)), "{picture}");
    assert!(picture.contains(&format!("child spawned at {file}:{}", line + 3)), "{picture}");
    assert!(picture.contains("\n      waits to be woken\n"), "{picture}");
    assert!(picture.contains(", shielded\n"), "{picture}");
}

// P4: whatever it is that waits.
#[trine::test(kernel = "both")]
fn whatever_nobody_can_wake_is_a_deadlock() {
    for builder in [lenient, strict] {
        deadlock(builder(), async || pending().await);
        deadlock(builder(), async || sleep_forever().await);
        deadlock(builder(), async || {
            nop().await?;
            sleep(MOMENT).await?;
            // A deadline that is over and done with is no way out.
            move_on_after(MOMENT, async |_| sleep_forever().await).await?;
            shield(sleep_forever()).await
        });
    }
}

// P4: who holds the other end of a channel of others, only the strict can do without knowing.
#[trine::test(kernel = "both")]
fn a_channel_whose_other_end_only_tasks_hold_is_a_deadlock_to_the_strict() {
    deadlock(strict(), async || {
        let (_sender, receiver) = oneshot::channel::<()>();
        nursery(async |n| {
            let never = n.fork(async {
                receiver.await.map_err(Error::other)?;
                Ok(1)
            });
            never.await.map(drop)
        })
        .await
    });
}

// P4: the words say what it is.
#[trine::test(kernel = "both")]
fn a_deadlock_says_so() {
    let error = outcome(strict(), async || sleep_forever().await).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("deadlock: nothing is runnable, and nothing could wake it\nrun at "));
}

// P4: failing it drops the tasks, and leaves nothing behind.
#[trine::test(kernel = "both")]
fn a_deadlock_drops_all_tasks_and_the_next_run_begins_anew() {
    struct Gone<'a>(&'a Cell<u32>);
    impl Drop for Gone<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let gone = Cell::new(0);
    deadlock(strict(), async || {
        let _main = Gone(&gone);
        nursery(async |n| {
            for _ in 0..3 {
                n.spawn(async {
                    let _child = Gone(&gone);
                    sleep_forever().await
                });
            }
            sleep_forever().await
        })
        .await
    });
    assert_eq!(gone.get(), 4);
    assert_eq!(tree(), "no trine run on this thread\n");
    outcome(strict(), async || nop().await).unwrap();
}

// P4: a timer, a deadline, an operation in the kernel are ways out, also for the strict.
#[test]
fn a_timer_or_an_operation_is_a_way_out_of_every_wait() {
    for builder in [lenient, strict] {
        outcome(builder(), async || sleep(MOMENT).await).unwrap();
        let left = outcome(builder(), async || {
            move_on_after(MOMENT, async |_| {
                nursery(async |n| {
                    n.spawn(sleep_forever());
                    pending::<Result>().await
                })
                .await
            })
            .await
        });
        assert!(left.unwrap().is_none());
        // A timer of anybody is one: what it does to whom, nobody can say beforehand.
        outcome(builder(), async || {
            let (sender, receiver) = oneshot::channel();
            nursery(async |n| {
                n.spawn(async {
                    sleep(MOMENT).await?;
                    sender.send(()).map_err(|()| Error::other("gone"))
                });
                receiver.await.map_err(Error::other)
            })
            .await
        })
        .unwrap();
        outcome(builder(), async || {
            let (stream, peer) = Peer::pair().await?;
            let Peer::Linux(mut peer) = peer else { unreachable!("a world has no other threads") };
            let thread = thread::spawn(move || {
                thread::sleep(MOMENT);
                peer.write_all(b"x")
            });
            assert_eq!(stream.recv().await?.expect("a byte")[..], *b"x");
            thread.join().expect("no panic")?;
            Ok(())
        })
        .unwrap();
    }
}

// P4: a waker of ours that someone outside holds is a way out, unless one is strict.
#[trine::test(kernel = "both")]
fn a_waker_that_a_thread_holds_is_a_way_out_unless_one_is_strict() {
    let main = async |in_child: bool| {
        let (sender, receiver) = oneshot::channel();
        let thread = thread::spawn(move || {
            // Longer than a run needs to see that nothing else is left, which under Miri is long.
            thread::sleep(if cfg!(miri) { 250 * MOMENT } else { MOMENT });
            sender.send(7)
        });
        let received = match in_child {
            false => receiver.await.map_err(Error::other)?,
            true => {
                nursery(async |n| n.fork(async { receiver.await.map_err(Error::other) }).await)
                    .await?
            }
        };
        thread.join().expect("no panic").expect("received");
        Ok(received)
    };
    for in_child in [false, true] {
        let received = outcome(lenient(), async || main(in_child).await);
        assert_eq!(received.unwrap(), 7);
        let received = outcome(strict(), async || main(in_child).await);
        assert!(matches!(received, Err(Error::Deadlock(_))), "{received:?}");
        // Asking for it and taking it back is not asking for it.
        for builder in [
            Builder::new(),
            strict().detect_deadlock(false),
            lenient().detect_deadlock_strictly(false),
        ] {
            let received = outcome(builder, async || main(in_child).await);
            assert_eq!(received.unwrap(), 7);
        }
    }
}

// P4: a waker that the dead have left with others keeps nothing alive.
#[trine::test(kernel = "both")]
fn the_waker_of_a_task_that_has_ended_is_no_way_out() {
    let kept = Cell::new(None::<Waker>);
    deadlock(lenient(), async || {
        nursery(async |n| {
            n.spawn(poll_fn(|cx| {
                kept.set(Some(cx.waker().clone()));
                Poll::Ready(Ok(()))
            }));
            Ok(())
        })
        .await?;
        pending().await
    });
    kept.take().expect("a waker").wake();
}

// P4: a wake that has come but has not been heard is one.
#[trine::test(kernel = "both")]
fn a_wake_that_is_on_its_way_is_a_way_out() {
    outcome(strict(), async || {
        let woken = Arc::new(AtomicBool::new(false));
        poll_fn(|cx| {
            if woken.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            let (waker, woken) = (cx.waker().clone(), Arc::clone(&woken));
            let wake = move || {
                woken.store(true, Ordering::Relaxed);
                waker.wake();
            };
            thread::spawn(wake).join().expect("no panic");
            Poll::Pending
        })
        .await;
        checkpoint().await
    })
    .unwrap();
}
