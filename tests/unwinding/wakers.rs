//! Wakers are other people's code: they panic, cancel and spawn in the middle of a sweep (P2, B5).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures::poll;
use trine::net::TcpListener;
use trine::time::sleep_forever;
use trine::{
    CancelScope, Error, Result, checkpoint, checkpoint_if_cancelled, is_cancelled, move_on_after,
    nop, nursery, stats, tree, yield_shielded,
};

use crate::common::wakers::{Bell, poll_with};
use crate::{LONG, MOMENT, in_kernel, pair, run};

// P2, B5: a panic is kept until everybody has been woken and asked, and comes out of `cancel` then.
#[trine::test(kernel = "both")]
fn a_waker_that_panics_in_the_middle_of_a_sweep_keeps_no_cancellation_from_arriving() {
    run(async || {
        let listener = &TcpListener::bind("127.0.0.1:0").await?;
        let cancelled = &Cell::new(0);
        let left = move_on_after(LONG, async |scope| {
            nursery(async |n| {
                for _ in 0..3 {
                    n.spawn(async move {
                        let error = sleep_forever().await.unwrap_err();
                        cancelled.set(cancelled.get() + 1);
                        Err(error)
                    });
                }
                let bells: Vec<_> = (0..5).map(|number| Bell::new(number % 2 == 1)).collect();
                let mut sleeps: Vec<_> = bells.iter().map(|_| Box::pin(sleep_forever())).collect();
                for (sleep, (_, waker)) in sleeps.iter_mut().zip(&bells) {
                    assert!(poll_with(sleep.as_mut(), waker).is_pending());
                }
                let mut accept = pin!(listener.accept());
                assert!(poll!(accept.as_mut()).is_pending());
                in_kernel(1).await?;
                let thrown = catch_unwind(AssertUnwindSafe(|| scope.cancel())).unwrap_err();
                assert_eq!(thrown.downcast_ref(), Some(&"a waker panics"));
                let rung: Vec<_> = bells.iter().map(|(bell, _)| bell.rung()).collect();
                assert_eq!(rung, [1; 5]);
                assert!(tree().contains("asked to cancel"));
                assert!(accept.await.unwrap_err().is_cancelled());
                for sleep in sleeps {
                    assert!(sleep.await.unwrap_err().is_cancelled());
                }
                checkpoint().await
            })
            .await
        });
        assert!(left.await?.is_none());
        assert_eq!(cancelled.get(), 3);
        Ok(())
    });
}

// P2: if a deadline was what cancelled, the panic comes out of the run; P1: after it has let go.
#[trine::test(kernel = "both")]
fn a_waker_that_panics_when_a_deadline_passes_ends_the_run_with_its_panic() {
    let (bell, waker) = Bell::new(true);
    let thrown = catch_unwind(|| {
        run(async || {
            let (_client, server) = pair().await?;
            move_on_after(MOMENT, async |_| {
                let mut asleep = pin!(sleep_forever());
                assert!(poll_with(asleep.as_mut(), &waker).is_pending());
                server.recv().await
            })
            .await
        })
    });
    let thrown = thrown.map(drop).unwrap_err();
    assert_eq!(thrown.downcast_ref(), Some(&"a waker panics"));
    assert_eq!(bell.rung(), 1);
    run(async || nop().await);
}

// P1, P2: a waker that panics while the run shuts down does not keep it from reaping.
#[trine::test(kernel = "both")]
fn a_waker_that_panics_at_the_end_of_the_run_comes_out_after_the_kernel_has_let_go() {
    let (bell, waker) = Bell::new(true);
    let left_over: RefCell<Vec<Pin<Box<dyn Future<Output = Result>>>>> = RefCell::default();
    let thrown = catch_unwind(AssertUnwindSafe(|| {
        run(async || {
            let (_client, server) = pair().await?;
            let mut asleep: Pin<Box<dyn Future<Output = Result>>> = Box::pin(sleep_forever());
            assert!(poll_with(asleep.as_mut(), &waker).is_pending());
            left_over.borrow_mut().push(asleep);
            let mut receive: Pin<Box<dyn Future<Output = Result>>> =
                Box::pin(async move { server.recv().await.map(drop) });
            assert!(poll!(receive.as_mut()).is_pending());
            in_kernel(1).await?;
            left_over.borrow_mut().push(receive);
            Ok(())
        });
    }));
    assert_eq!(thrown.unwrap_err().downcast_ref(), Some(&"a waker panics"));
    assert_eq!(bell.rung(), 1);
    // Only a run that has come to its end says so; one that was torn off in the middle does not.
    let leftovers = left_over.into_inner();
    run(async || {
        for leftover in leftovers {
            assert!(matches!(leftover.await, Err(Error::RunFinished | Error::Cancelled(_))));
        }
        Ok(())
    });
}

thread_local! {
    /// What the next [`Errand`] does when it is woken. A waker must be `Send`, and a scope is not.
    static ERRAND: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// A waker that runs an errand.
struct Errand;

impl Wake for Errand {
    fn wake(self: Arc<Self>) {
        if let Some(errand) = ERRAND.take() {
            errand();
        }
    }
}

// P2: wakers are other people's code, and may do to the tree what anybody may.
#[trine::test(kernel = "both")]
fn a_waker_may_cancel_another_scope_in_the_middle_of_a_sweep() {
    run(async || {
        let (first, second) = (Rc::new(CancelScope::new()), Rc::new(CancelScope::new()));
        let other = Rc::clone(&second);
        ERRAND.set(Some(Box::new(move || {
            assert!(!is_cancelled(), "no scope is the current one");
            other.cancel_because("from a waker");
            assert!(other.cancel_called().is_some());
        })));
        let waiting = &Cell::new(0);
        nursery(async |n| {
            for scope in [&first, &second] {
                n.spawn(async move {
                    waiting.set(waiting.get() + 1);
                    let left = scope.run(async |_| {
                        nursery(async |inner| {
                            inner.spawn(async { sleep_forever().await });
                            sleep_forever().await
                        })
                        .await
                    });
                    assert!(left.await?.is_none());
                    waiting.set(waiting.get() - 1);
                    Ok(())
                });
            }
            while waiting.get() < 2 {
                checkpoint().await?;
            }
            checkpoint().await?;
            let woken = CancelScope::new();
            let left = woken.run(async |_| {
                let mut asleep = pin!(sleep_forever());
                assert!(poll_with(asleep.as_mut(), &Waker::from(Arc::new(Errand))).is_pending());
                woken.cancel();
                assert!(second.cancel_called().is_some(), "the waker has run");
                assert!(first.cancel_called().is_none());
                first.cancel();
                checkpoint().await
            });
            assert!(left.await?.is_none());
            Ok(())
        })
        .await?;
        assert_eq!(waiting.get(), 0);
        Ok(())
    });
}

/// Lends an errand that borrows, for as long as `during` runs.
fn with_errand<T>(errand: Box<dyn FnOnce() + '_>, during: impl FnOnce() -> T) -> T {
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            ERRAND.set(None);
        }
    }
    let _clear = Clear;
    // SAFETY: only the lifetime changes, and `Clear` drops the errand before what it borrows ends.
    let errand =
        unsafe { std::mem::transmute::<Box<dyn FnOnce() + '_>, Box<dyn FnOnce()>>(errand) };
    ERRAND.set(Some(errand));
    during()
}

// P2: also spawn into the very nursery that is being swept.
#[trine::test(kernel = "both")]
fn a_waker_may_spawn_in_the_middle_of_a_sweep() {
    run(async || {
        let spawned = &Cell::new(false);
        let left = move_on_after(LONG, async |scope| {
            nursery(async |n| {
                for _ in 0..3 {
                    n.spawn(async { sleep_forever().await });
                }
                let mut asleep = pin!(sleep_forever());
                assert!(poll_with(asleep.as_mut(), &Waker::from(Arc::new(Errand))).is_pending());
                checkpoint().await?;
                let errand = move || {
                    n.spawn(async move {
                        spawned.set(true);
                        checkpoint_if_cancelled().await
                    });
                };
                with_errand(Box::new(errand), || scope.cancel());
                assert!(!spawned.get());
                Ok(())
            })
            .await
        });
        assert!(left.await?.is_none());
        assert!(spawned.get(), "N10: it starts, and runs to its first cancel point");
        Ok(())
    });
}

// F13: a schedule point counts as a wait until its turn is over, also if it was dropped. Then the body that
// has nothing else to wait for has to be looked at again, though nobody wakes it.
#[trine::test(kernel = "both")]
fn a_cancelled_body_whose_schedule_point_was_dropped_does_not_wait_for_ever() {
    run(async || {
        for in_child in [false, true] {
            let abandoned = trine::stats().abandoned;
            let body = async {
                let polled = poll_with(pin!(trine::yield_shielded()), Waker::noop());
                assert!(polled.is_pending());
                std::future::pending::<Result>().await
            };
            let scope = CancelScope::new();
            scope.cancel();
            let outcome = scope.run(async |_| match in_child {
                false => body.await,
                true => {
                    nursery(async |n| {
                        n.spawn(body);
                        Ok(())
                    })
                    .await
                }
            });
            assert!(outcome.await?.is_none());
            assert_eq!(trine::stats().abandoned, abandoned + 1, "{in_child}");
        }
        Ok(())
    });
}

/// Polls a future the first time, and then only when that one has been woken.
struct WhenWoken<F> {
    inner: Pin<Box<F>>,
    woken: Arc<Doorbell>,
}

struct Doorbell {
    rung: AtomicBool,
    outer: Mutex<Option<Waker>>,
}

impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        let outer = self.outer.lock().unwrap().take();
        outer.into_iter().for_each(Waker::wake);
    }
}

impl<F: Future> WhenWoken<F> {
    fn new(inner: F) -> Self {
        let woken = Doorbell { rung: AtomicBool::new(true), outer: Mutex::new(None) };
        WhenWoken { inner: Box::pin(inner), woken: Arc::new(woken) }
    }
}

impl<F: Future> Future for WhenWoken<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        *self.woken.outer.lock().unwrap() = Some(cx.waker().clone());
        if !self.woken.rung.swap(false, Ordering::SeqCst) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        self.inner.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

// B2, F13: a schedule point that was polled in a scope goes on when that is left, and whoever waits for it is
// not stuck.
#[trine::test(kernel = "both")]
fn a_schedule_point_outlives_the_scope_that_it_was_polled_in() {
    run(async || {
        let went_on = Cell::new(false);
        let scope = CancelScope::new();
        scope.cancel();
        let body = scope.run(async |_| {
            let mut turn = pin!(WhenWoken::new(yield_shielded()));
            let inner = CancelScope::new();
            let polled = inner.run(async |_| {
                assert!(poll!(turn.as_mut()).is_pending());
                Ok(())
            });
            polled.await?;
            turn.await;
            went_on.set(true);
            Ok(())
        });
        assert!(body.await?.is_some());
        assert!(went_on.get());
        assert_eq!(stats().abandoned, 0);
        Ok(())
    });
}
