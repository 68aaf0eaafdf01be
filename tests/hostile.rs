//! What a hostile review found: safe programs that broke the runtime, each kept from coming back.

#[path = "hostile/buffers.rs"]
mod buffers;
mod common;
#[path = "hostile/forgotten.rs"]
mod forgotten;

use std::cell::Cell;
use std::future::{Future, Ready, ready};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::poll;
use trine::testing::{
    Faults, Sequencer, Tape, World, lockstep_stream_pair, wait_all_tasks_blocked,
};
use trine::time::{sleep, sleep_forever};
use trine::{Error, IoBuf, Nursery, Result, checkpoint, move_on_after, nursery, shield_for, stats};

use common::{fewer, pair};

/// Spawns when it is dropped.
struct Spawner<'s, 'e>(Nursery<'s, 'e>);

impl Drop for Spawner<'_, '_> {
    fn drop(&mut self) {
        for _ in 0..8 {
            self.0.spawn(async { Ok(()) });
        }
    }
}

/// A body that panics while it is being called, and not when its future is polled.
fn panics_in_the_call(n: Nursery<'_, '_>) -> Ready<Result> {
    for _ in 0..2 {
        let guard = Spawner(n);
        n.spawn(async move {
            drop(guard);
            Ok(())
        });
    }
    if std::hint::black_box(true) {
        panic!("in the body's call");
    }
    ready(Ok(()))
}

// F12: the children's drops reach the core, which is still there, and spawn nothing.
#[trine::test(kernel = "both")]
fn children_of_a_body_that_panics_in_its_call_are_dropped_before_the_nursery() {
    let outside = catch_unwind(|| drop(trine::nursery(panics_in_the_call)));
    assert!(outside.is_err());
    let inside = catch_unwind(|| trine::run(async || trine::nursery(panics_in_the_call).await));
    assert!(inside.is_err());
}

/// Panics when it is dropped.
struct Evil;

impl Drop for Evil {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the payload's drop");
        }
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

// F12, P2: a panic's payload whose own drop panics does not stop the others from being dropped.
#[trine::test(kernel = "both")]
fn a_payload_that_panics_leaves_no_child_to_the_core() {
    let reached = Cell::new(0);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        trine::run(async || {
            let reached = &reached;
            let mut half_way = Box::pin(nursery(async |n: Nursery<'_, '_>| {
                let drops: [Box<dyn Fn()>; 3] = [
                    Box::new(|| panic_any("a")),
                    Box::new(|| panic_any(Evil)),
                    Box::new(|| reached.set(reached.get() + 1)),
                ];
                for on_drop in drops {
                    n.spawn(async move {
                        let _held = OnDrop(on_drop);
                        sleep_forever().await
                    });
                }
                n.spawn(async move {
                    let _finishes = OnDrop(move || n.finish(()));
                    sleep_forever().await
                });
                sleep_forever().await
            }));
            assert!(poll!(half_way.as_mut()).is_pending());
            checkpoint().await?;
            assert!(poll!(half_way.as_mut()).is_pending());
            drop(half_way);
            Ok(())
        })
    }));
    assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"a"));
    assert_eq!(reached.get(), 1);
}

// N20: the same when children panic in one turn: the siblings are joined, and the first panic goes on.
#[trine::test(kernel = "both")]
fn siblings_are_joined_although_a_second_payload_panics() {
    let cleaned = Cell::new(false);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        trine::run(async || {
            let cleaned = &cleaned;
            nursery(async |n| {
                n.spawn(async move {
                    let slept = sleep_forever().await;
                    shield_for(Duration::from_secs(9), async |_| {
                        sleep(Duration::from_millis(1)).await
                    })
                    .await?;
                    cleaned.set(true);
                    slept
                });
                n.spawn(async { panic_any("a") });
                n.spawn(async { panic_any(Evil) });
                checkpoint().await
            })
            .await
        })
    }));
    let payload = outcome.unwrap_err();
    // Whichever came first: the order of siblings is shuffled (N14).
    assert!(payload.is::<&str>() || payload.is::<Evil>());
    std::mem::forget(payload);
    assert!(cleaned.get());
}

// The docs of `slice`: a part behind the content is empty, wherever it would point.
#[test]
fn a_slice_behind_its_buffer_is_empty() {
    let bytes = vec![1_u8, 2, 3];
    let begin = (bytes.as_ptr() as usize).wrapping_neg();
    let slice = bytes.slice(begin..);
    assert_eq!(*slice, []);
}

// E11: a write that waited for a dropped one, and was dropped too, leaves nothing behind its scope.
#[trine::test(kernel = "both", runs = 20)]
async fn a_scope_waits_for_an_orphan_that_a_later_write_waited_for() -> Result {
    let (client, _server) = pair().await?;
    // More than the buffers of the connection hold.
    let much = match World::try_current() {
        Some(_) => fewer(1 << 18, 1 << 13),
        None => 1 << 25,
    };
    move_on_after(Duration::from_secs(60), async |_| {
        {
            let mut write = pin!(client.write_all(vec![0; much]));
            assert!(poll!(write.as_mut()).is_pending());
            checkpoint().await?;
            checkpoint().await?;
        }
        let mut again = pin!(client.write_all("x"));
        assert!(poll!(again.as_mut()).is_pending());
        Ok(())
    })
    .await?;
    assert_eq!(stats().in_kernel, 0);
    Ok(())
}

// D7: a shutdown that took effect although its future was dropped has shut what it was to shut.
#[trine::test(kernel = "both")]
async fn a_dropped_shutdown_of_both_halves_shuts_both() -> Result {
    let (client, server) = pair().await?;
    server.close().await?;
    {
        let mut shutdown = pin!(client.shutdown(Shutdown::Both));
        assert!(poll!(shutdown.as_mut()).is_pending());
        for _ in 0..4 {
            checkpoint().await?;
        }
    }
    client.shutdown(Shutdown::Both).await
}

struct PanicsOnDrop(Waker);

impl Wake for PanicsOnDrop {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
    }
}

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a waker's drop");
        }
    }
}

// D7: bytes stay with the stream although somebody's waker panics while they are under way.
#[test]
fn a_waker_that_panics_when_it_is_dropped_costs_no_byte() {
    for seed in 0..200 {
        // Nothing but the byte may end the receive, and so fire the waker.
        let mut faults = Faults::lossless();
        (faults.spurious, faults.empty_pool, faults.no_multishots) = (0, 0, 0);
        let world = World::from_tape(Tape::from_seed(seed), faults);
        let outcome = world.run(async || one_byte_and_a_waker_that_panics().await);
        outcome.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(world.finish(), [] as [String; 0], "seed {seed}");
    }
}

async fn one_byte_and_a_waker_that_panics() -> Result {
    let (client, server) = pair().await?;
    {
        let mut receive = pin!(server.recv());
        std::future::poll_fn(|cx| {
            let waker = Waker::from(Arc::new(PanicsOnDrop(cx.waker().clone())));
            assert!(receive.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            Poll::Ready(())
        })
        .await;
        checkpoint().await?;
        // It is on its way when the former waker is replaced, and panics.
        let mut write = pin!(client.write_all("h"));
        let written = poll!(write.as_mut()).is_ready();
        let polled = std::future::poll_fn(|cx| {
            Poll::Ready(catch_unwind(AssertUnwindSafe(|| receive.as_mut().poll(cx))))
        })
        .await;
        assert!(polled.is_err(), "the former waker was not replaced");
        if !written {
            write.await?;
        }
    }
    client.shutdown(Shutdown::Write).await?;
    let mut got = Vec::new();
    while let Some(chunk) = server.recv().await? {
        got.extend_from_slice(&chunk);
    }
    assert_eq!(got, b"h");
    Ok(())
}

struct PanicsOnWake(Waker);

impl Wake for PanicsOnWake {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
        panic!("a waker");
    }
}

// P2: one waker that panics does not cost the others their wake; the panic goes on in whoever woke.
#[test]
fn a_waker_that_panics_does_not_stop_a_sequence() {
    let done = Cell::new(0);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        World::tame().run(async || {
            let (steps, done) = (&Sequencer::new(), &done);
            let step = async move |number| {
                let count = async || {
                    done.set(done.get() + 1);
                    Ok(())
                };
                steps.at(number, count).await
            };
            nursery(async |n| {
                n.spawn(async move {
                    let mut second = pin!(step(2));
                    std::future::poll_fn(|cx| {
                        let waker = Waker::from(Arc::new(PanicsOnWake(cx.waker().clone())));
                        second.as_mut().poll(&mut Context::from_waker(&waker))
                    })
                    .await
                });
                wait_all_tasks_blocked().await?;
                n.spawn(step(1));
                wait_all_tasks_blocked().await?;
                let mut first = Box::pin(step(0));
                std::future::poll_fn(|cx| {
                    let polled = catch_unwind(AssertUnwindSafe(|| first.as_mut().poll(cx)));
                    polled.unwrap_or(Poll::Ready(Ok(())))
                })
                .await
            })
            .await
        })
    }));
    assert!(outcome.is_err(), "the panic was lost");
    assert!(done.get() >= 2, "step 1 was never woken");
}

// D2: a lockstep send that is given up may have been heard; the half says so.
#[trine::test]
async fn a_lockstep_send_that_is_given_up_breaks_its_half() -> Result {
    let (left, right) = lockstep_stream_pair();
    let sent = move_on_after(Duration::from_secs(1), async |_| left.send_all(b"once").await);
    assert!(sent.await?.is_none());
    assert_eq!(right.receive_some(9).await?, b"once");
    assert!(matches!(left.send_all(b"once").await, Err(Error::Broken(_))));
    Ok(())
}
