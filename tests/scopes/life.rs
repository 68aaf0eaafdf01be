//! How a scope is entered, what it leaves behind, and what becomes of one that is dropped (sections
//! E11 and F).

use std::cell::Cell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures::{FutureExt, poll};
use trine::net::{TcpListener, TcpStream};
use trine::time::{Instant, sleep, sleep_forever};
use trine::{
    CancelScope, Error, Result, checkpoint, checkpoint_if_cancelled, current_effective_deadline,
    is_cancelled, move_on_after, nursery, stats,
};

use crate::common::spin_until;
use crate::{LONG, MOMENT, in_kernel, pair, run};

// F1: a second run is misuse, and says so.
#[trine::test(kernel = "both")]
#[should_panic(expected = "is entered a second time; make a new one")]
fn a_scope_cannot_be_entered_twice() {
    run(async || {
        let scope = CancelScope::new();
        scope.run(async |_| Ok(())).await?;
        scope.run(async |_| Ok(())).await?;
        Ok(())
    });
}

// F1: not even while it runs.
#[trine::test(kernel = "both")]
#[should_panic(expected = "is entered a second time; make a new one")]
fn a_scope_cannot_be_entered_inside_itself() {
    run(async || {
        let scope = CancelScope::new();
        scope.run(async |scope| scope.run(async |_| Ok(())).await).await?;
        Ok(())
    });
}

// F2: a scope cancelled before entry: the first cancel point inside raises.
#[trine::test(kernel = "both")]
fn a_scope_can_be_cancelled_before_it_is_entered() {
    run(async || {
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.cancel_called().is_some());
        let began = Cell::new(false);
        let left = scope.run(async |_| {
            began.set(true);
            checkpoint_if_cancelled().await
        });
        assert!(left.await?.is_none());
        assert!(began.get());
        Ok(())
    });
}

// F3: the body of a scope whose deadline has passed runs to its first cancel point.
#[trine::test(kernel = "both")]
fn a_scope_entered_after_its_deadline_is_cancelled_at_once() {
    run(async || {
        let scope = CancelScope::new().deadline(Instant::now());
        let left = scope.run(async |scope| {
            assert!(is_cancelled());
            assert!(scope.cancel_called().is_some());
            checkpoint_if_cancelled().await?;
            panic!("a cancel point inside did not raise");
            #[expect(unreachable_code, reason = "says what the body would return")]
            Ok(())
        });
        assert!(left.await?.is_none());
        Ok(())
    });
}

// F3: neither entering nor leaving is a checkpoint.
#[trine::test(kernel = "both")]
fn a_scope_without_a_wait_passes_no_turn_and_raises_nothing() {
    run(async || {
        let outer = CancelScope::new();
        outer.cancel();
        let left = outer.run(async |_| {
            let turn = stats().turns;
            let inner = move_on_after(LONG, async |_| Ok(1)).await?;
            assert_eq!((inner, stats().turns), (Some(1), turn));
            Ok(())
        });
        assert!(left.await?.is_some());
        Ok(())
    });
}

// F4: a relative deadline counts from entry, not from when the scope or its future was made.
#[trine::test(kernel = "both")]
fn a_timeout_counts_from_the_entry() {
    run(async || {
        let scope = CancelScope::new().timeout(MOMENT);
        let future = scope.run(async |_| {
            let entered = Instant::now();
            assert!(!is_cancelled());
            let deadline = current_effective_deadline().expect("one");
            assert!(deadline <= entered + MOMENT && deadline + MOMENT / 2 > entered + MOMENT / 2);
            sleep_forever().await
        });
        spin_until(Instant::now() + 2 * MOMENT);
        let began = Instant::now();
        assert!(future.await?.is_none());
        assert!(began.elapsed() >= MOMENT);
        Ok(())
    });
}

// F7: leaving, cancelling and dropping a scope remove its timer; a scope that need not wait has none.
#[trine::test(kernel = "both")]
fn a_scope_leaves_no_timer_behind() {
    run(async || {
        move_on_after(LONG, async |_| {
            assert_eq!(stats().timers, 0, "not before it has to wait");
            checkpoint().await?;
            assert_eq!(stats().timers, 1);
            Ok(())
        })
        .await?;
        assert_eq!(stats().timers, 0, "left");
        move_on_after(LONG, async |scope| {
            checkpoint().await?;
            scope.cancel();
            assert_eq!(stats().timers, 0, "cancelled");
            scope.set_deadline(Some(Instant::now() + LONG));
            assert_eq!(stats().timers, 0, "a cancelled one needs none");
            Ok(())
        })
        .await?;
        let mut dropped = Box::pin(move_on_after(LONG, async |_| sleep(LONG).await));
        assert!(poll!(dropped.as_mut()).is_pending());
        assert_eq!(stats().timers, 2);
        drop(dropped);
        assert_eq!((stats().timers, stats().scopes), (0, 1));
        Ok(())
    });
}

// F12, E11: whatever is dropped half-way, the enclosing scope waits for its operations.
#[trine::test(kernel = "both")]
fn what_a_dropped_future_leaves_in_the_kernel_is_awaited_by_the_enclosing_scope() {
    run(async || {
        let (_client, server) = &pair().await?;
        let listener = &TcpListener::bind("127.0.0.1:0").await?;
        type Dropped<'a> = Pin<Box<dyn Future<Output = Result> + 'a>>;
        let dropped: [Dropped<'_>; 4] = [
            Box::pin(async { server.recv().await.map(drop) }),
            Box::pin(async { server.read(vec![0; 64]).await.map(drop).map_err(Error::from) }),
            Box::pin(async {
                move_on_after(LONG, async |_| listener.accept().await).await.map(drop)
            }),
            Box::pin(async {
                nursery(async |n| {
                    n.spawn(async { listener.accept().await.map(drop) });
                    sleep_forever().await
                })
                .await
            }),
        ];
        for (number, mut future) in dropped.into_iter().enumerate() {
            let left = move_on_after(LONG, async |_| {
                while stats().in_kernel == 0 {
                    assert!(poll!(future.as_mut()).is_pending());
                    checkpoint().await?;
                }
                drop(future);
                assert_eq!(stats().in_kernel, 1, "future {number}: the kernel still has it");
                Ok(())
            });
            assert!(left.await?.is_some());
            assert_eq!((stats().in_kernel, stats().scopes), (0, 1), "future {number}");
        }
        Ok(())
    });
}

// E11: a nursery waits for orphans as a scope does; also for those of its children.
#[trine::test(kernel = "both")]
fn a_nursery_returns_when_no_orphan_is_left_in_it() {
    run(async || {
        let (_client, server) = &pair().await?;
        nursery(async |n| {
            n.spawn(async move {
                let mut receive = Box::pin(server.recv());
                assert!(poll!(receive.as_mut()).is_pending());
                in_kernel(1).await
            });
            Ok(())
        })
        .await?;
        assert_eq!(stats().in_kernel, 0);
        Ok(())
    });
}

// E11: what a living future owns moves up to the parent, and goes on there.
#[trine::test(kernel = "both")]
fn a_pending_operation_returned_as_the_value_of_a_scope_goes_on_outside() {
    run(async || {
        let (client, server) = &pair().await?;
        for cancelled in [false, true] {
            let receive = move_on_after(LONG, async |scope| {
                let mut receive = Box::pin(server.recv());
                assert!(poll!(receive.as_mut()).is_pending());
                in_kernel(1).await?;
                if cancelled {
                    scope.cancel();
                }
                Ok(receive)
            });
            let receive = receive.await?.expect("the body has finished");
            client.write_all("late").await?;
            let chunk = receive.await?.expect("bytes");
            assert_eq!(chunk, *b"late", "cancelled: {cancelled}");
        }
        Ok(())
    });
}

// E11: it hangs under the parent from then on, and is cancelled with it.
#[trine::test(kernel = "both")]
fn a_pending_operation_that_moved_up_is_cancelled_with_the_parent() {
    run(async || {
        let (_client, server) = &pair().await?;
        let left = move_on_after(MOMENT, async |_| {
            let receive = move_on_after(LONG, async |_| {
                let mut receive = Box::pin(server.recv());
                assert!(poll!(receive.as_mut()).is_pending());
                Ok(receive)
            });
            receive.await?.expect("the body has finished").await
        });
        assert!(left.await?.is_none());
        assert_eq!(stats().in_kernel, 0);
        Ok(())
    });
}

// E11, P1: at the root it is cancelled and awaited; afterwards it is good for nothing but dropping.
#[trine::test(kernel = "both")]
fn a_pending_operation_returned_by_main_is_awaited_and_may_be_dropped_later() {
    let mut left_over: Pin<Box<dyn Future<Output = Result>>> = run(async move || {
        let (stream, _other) = pair().await?;
        let mut receive: Pin<Box<dyn Future<Output = Result>>> =
            Box::pin(async move { stream.recv().await.map(drop) });
        assert!(poll!(receive.as_mut()).is_pending());
        in_kernel(1).await?;
        Ok(receive)
    });
    let error = run(async || Ok(left_over.as_mut().await.unwrap_err()));
    assert!(matches!(error, Error::RunFinished | Error::Cancelled(_)), "{error:?}");
    drop(left_over);
}

// F12: forgetting leaks, holds nobody up, and frees nothing early.
#[trine::test(kernel = "both", leaks = true)]
fn a_forgotten_operation_holds_no_scope_open() {
    run(async || {
        let (_client, server) = pair().await?;
        let server: &'static TcpStream = Box::leak(Box::new(server));
        let left = move_on_after(LONG, async |_| {
            let mut receive = Box::pin(server.recv());
            assert!(poll!(receive.as_mut()).is_pending());
            in_kernel(1).await?;
            std::mem::forget(receive);
            Ok(())
        });
        assert!(left.await?.is_some());
        assert_eq!(stats().in_kernel, 1, "it is the root's now");
        Ok(())
    });
}

// F12: a panic is one more way to be dropped half-way.
#[trine::test(kernel = "both")]
fn a_panic_through_a_scope_leaves_it() {
    run(async || {
        let (_client, server) = &pair().await?;
        let thrown = nursery(async |n| {
            n.spawn(async move {
                move_on_after(LONG, async |_| {
                    let mut receive = Box::pin(server.recv());
                    assert!(poll!(receive.as_mut()).is_pending());
                    in_kernel(1).await?;
                    panic!("half-way")
                })
                .await
                .map(|_: Option<()>| ())
            });
            sleep_forever().await
        });
        let thrown = AssertUnwindSafe(thrown).catch_unwind().await.unwrap_err();
        assert_eq!(thrown.downcast_ref(), Some(&"half-way"));
        assert_eq!((stats().in_kernel, stats().scopes, stats().timers), (0, 1, 0));
        checkpoint().await
    });
}

// F12, P6: a forgotten scope outlives its run; its handle is good for nothing, and harmless.
#[trine::test(kernel = "both")]
fn a_scope_forgotten_half_way_can_be_cancelled_after_the_run() {
    let scope: &'static CancelScope = Box::leak(Box::new(CancelScope::new().timeout(LONG)));
    run(async || {
        let mut entered = Box::pin(scope.run(async |_| sleep_forever().await));
        assert!(poll!(entered.as_mut()).is_pending());
        std::mem::forget(entered);
        Ok(())
    });
    scope.set_deadline(Some(Instant::now()));
    scope.set_shield(true);
    scope.cancel();
    assert!(scope.cancel_called().is_some());
    assert!(!scope.caught());
}

// Entering needs a run; a refusal is no entry.
#[trine::test(kernel = "both")]
fn a_scope_cannot_be_entered_outside_of_a_run_and_is_still_new_afterwards() {
    let scope = CancelScope::new();
    let refused = scope.run(async |_| Ok(())).now_or_never().expect("at once");
    assert!(matches!(refused, Err(Error::NoRun)));
    run(async || {
        assert_eq!(scope.run(async |_| Ok(1)).await?, Some(1));
        Ok(())
    });
}
