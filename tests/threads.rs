//! Blocking work in threads: its value, its limits, and what a cancellation means to it (section K).

mod common;
#[path = "threads/remote.rs"]
mod remote;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::AsyncFnOnce;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::poll;
use futures::stream::{FuturesUnordered, StreamExt};
use trine::local::RunLocal;
use trine::sync::CapacityLimiter;
use trine::thread::{self, Builder};
use trine::time::{Instant, sleep, sleep_forever};
use trine::{
    CancelScope, Error, Reason, Result, checkpoint, fail_after, is_cancelled, nursery, shield,
    stats,
};

use common::fewer;
use common::random::Random;

const LONG: Duration = Duration::from_secs(10);

#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    common::within(30, || trine::run(main)).unwrap_or_else(|error| panic!("{error}"))
}

/// A thread that says when it has begun, and is at work until it is told to end.
struct Gate {
    begun: Option<oneshot::Receiver<()>>,
    end: Option<mpsc::Sender<()>>,
}

impl Gate {
    /// The gate, and the work that stands at it.
    fn new() -> (Gate, impl FnOnce() -> &'static str + Send + 'static) {
        let (begin, begun) = oneshot::channel();
        let (end, ended) = mpsc::channel::<()>();
        let work = move || {
            let _ = begin.send(());
            let _ = ended.recv();
            "done"
        };
        (Gate { begun: Some(begun), end: Some(end) }, work)
    }

    /// Waits until the thread has begun.
    async fn begun(&mut self) {
        self.begun.take().expect("it begins once").await.expect("it begins");
    }

    /// Lets the thread end.
    fn open(&mut self) {
        drop(self.end.take());
    }
}

/// Does something in a thread that is none of trine's, and waits for what it comes to.
async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::Result<T> {
    let (tell, told) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let value = catch_unwind(AssertUnwindSafe(work));
        drop(tell.send(value));
    });
    let value = told.await.expect("it tells");
    thread.join().expect("its panic was caught");
    value
}

/// Waits until every token has come back.
async fn all_back(limiter: &CapacityLimiter) -> Result {
    let mut tokens = Vec::new();
    for _ in 0..limiter.total() {
        tokens.push(limiter.acquire().await?);
    }
    Ok(())
}

#[trine::test(kernel = "both")]
fn work_is_done_in_another_thread_and_its_value_comes_back() {
    run(async || {
        let here = std::thread::current().id();
        let owned = String::from("owned");
        let (there, name, length) = thread::run(move || {
            let thread = std::thread::current();
            (thread.id(), thread.name().map(str::to_owned), owned.len())
        })
        .await?;
        assert_ne!(here, there);
        assert_eq!((name.as_deref(), length), (Some("trine-thread"), 5));
        assert_eq!(stats().threads, 0);
        assert_eq!(thread::limiter()?.borrowed(), 0);
        Ok(())
    });
}

// What nobody else does meanwhile is done by the same thread again.
#[trine::test(kernel = "both")]
fn threads_are_kept_for_the_next_one() {
    run(async || {
        let mut threads = HashSet::new();
        for _ in 0..fewer(200, 20) {
            threads.insert(thread::run(|| std::thread::current().id()).await?);
        }
        // Other tests of this process may have taken one in between.
        assert!(threads.len() < fewer(100, 15), "{} threads", threads.len());
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_panic_goes_on_where_the_value_is_awaited() {
    run(async || {
        let waiting = AssertUnwindSafe(thread::run(|| -> u32 { panic!("at work") }));
        let ended = futures::FutureExt::catch_unwind(waiting).await;
        let payload = ended.expect_err("it has panicked");
        assert_eq!(*payload.downcast::<&str>().expect("text"), "at work");
        // The thread and the token are there again.
        assert_eq!(thread::run(|| 7).await?, 7);
        assert_eq!((stats().threads, thread::limiter()?.borrowed()), (0, 0));
        Ok(())
    });
}

// K1: what is cancelled before it has begun never begins.
#[trine::test(kernel = "both")]
fn in_a_cancelled_scope_nothing_begins() {
    run(async || {
        let begun = Arc::new(AtomicBool::new(false));
        let scope = CancelScope::new();
        scope.cancel();
        let noted = Arc::clone(&begun);
        let ended = scope.run(async |_| {
            let work = thread::run(move || noted.store(true, Ordering::SeqCst));
            let error = work.await.expect_err("it is cancelled");
            assert!(error.is_cancelled());
            Err::<(), _>(error)
        });
        assert!(ended.await?.is_none());
        assert!(!begun.load(Ordering::SeqCst));
        assert_eq!((stats().threads, thread::limiter()?.borrowed()), (0, 0));
        Ok(())
    });
}

// K1, E11: what a withdrawn call would have worked with is dropped where it is withdrawn. If that panics,
// nobody waits for a thread that will never come.
#[test]
fn a_withdrawn_call_whose_remains_panic_is_not_waited_for() {
    struct Noisy;
    impl Drop for Noisy {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("dropped");
            }
        }
    }
    run(async || {
        for cancelled in [true, false] {
            // Often enough that some are withdrawn before a thread has begun.
            for _ in 0..50 {
                let noisy = Noisy;
                let call = thread::run(move || std::mem::forget(noisy));
                let ended = AssertUnwindSafe(trine::move_on_after(Duration::ZERO, async |scope| {
                    let mut call = Box::pin(call);
                    let begun = futures::poll!(&mut call);
                    if cancelled && begun.is_pending() {
                        scope.cancel();
                        return call.await;
                    }
                    Ok(())
                }));
                let _either = ended.catch_unwind().await;
            }
        }
        assert_eq!((stats().threads, thread::limiter()?.borrowed()), (0, 0));
        Ok(())
    });
}

// K1: waiting for the limiter is cancelled like any wait, and leaves nothing.
#[trine::test(kernel = "both")]
fn whoever_waits_for_a_token_is_cancelled_and_the_next_one_gets_it() {
    run(async || {
        thread::limiter()?.set_total(1);
        let (mut gate, work) = Gate::new();
        let scope = CancelScope::new();
        nursery(async |n| {
            let first = n.fork(thread::run(work));
            gate.begun().await;
            let second = n.fork(scope.run(async |_| thread::run(|| panic!("it begins")).await));
            let third = n.fork(thread::run(|| 3));
            common::turns(3).await;
            assert_eq!(thread::limiter()?.statistics().waiting, 2);
            scope.cancel();
            assert_eq!(second.await?, None::<()>);
            gate.open();
            assert_eq!((first.await?, third.await?), ("done", 3));
            Ok(())
        })
        .await?;
        assert_eq!((stats().threads, thread::limiter()?.borrowed()), (0, 0));
        Ok(())
    });
}

// K2: what has begun is waited for and asked to end; its value comes back, and the next cancel point raises.
#[trine::test(kernel = "both")]
fn cancelled_at_work_it_is_waited_for_and_may_ask() {
    run(async || {
        let (begin, begun) = oneshot::channel();
        let scope = CancelScope::new();
        let ended = nursery(async |n| {
            let child = n.fork(scope.run(async |_| {
                let work = thread::run(move || {
                    thread::check_cancelled().expect("not yet");
                    begin.send(()).expect("the test waits");
                    while !thread::is_cancelled() {
                        std::thread::yield_now();
                    }
                    thread::check_cancelled().expect_err("it is cancelled")
                });
                let error = work.await.expect("its value comes back");
                assert!(is_cancelled());
                assert!(checkpoint().await.expect_err("the next cancel point").is_cancelled());
                Ok(error)
            }));
            begun.await.expect("it begins");
            scope.cancel_because("enough");
            child.await
        });
        let error = ended.await?.expect("it finished");
        let Error::Cancelled(cancelled) = error else { panic!("{error:?}") };
        let Reason::Explicit { because, .. } = cancelled.reason() else { panic!("{cancelled:?}") };
        assert_eq!(because.as_deref(), Some("enough"));
        Ok(())
    });
}

// K2, E11: a future that is dropped leaves the wait to the scope, and the thread is told.
#[trine::test(kernel = "both")]
fn a_scope_waits_for_the_thread_of_a_dropped_future() {
    run(async || {
        let ended = Arc::new(AtomicBool::new(false));
        let (begin, begun) = oneshot::channel();
        let noted = Arc::clone(&ended);
        let scope = CancelScope::new();
        scope
            .run(async |_| {
                let mut work = Box::pin(thread::run(move || {
                    begin.send(()).expect("the test waits");
                    while !thread::is_cancelled() {
                        std::thread::yield_now();
                    }
                    noted.store(true, Ordering::SeqCst);
                }));
                assert!(poll!(&mut work).is_pending());
                begun.await.expect("it begins");
                assert_eq!(stats().threads, 1);
                drop(work);
                Ok(())
            })
            .await?;
        assert!(ended.load(Ordering::SeqCst), "the scope did not wait");
        assert_eq!((stats().threads, thread::limiter()?.borrowed()), (0, 0));
        Ok(())
    });
}

/// A value whose end takes a while.
struct Slow(Arc<AtomicBool>);

impl Drop for Slow {
    fn drop(&mut self) {
        (0..1000).for_each(|_| std::thread::yield_now());
        self.0.store(true, Ordering::SeqCst);
    }
}

// E11: what it has made is gone too.
#[trine::test(kernel = "both")]
fn a_scope_waits_for_the_end_of_a_value_that_nobody_wants() {
    run(async || {
        let ended = Arc::new(AtomicBool::new(false));
        let (begin, begun) = oneshot::channel();
        let value = Slow(Arc::clone(&ended));
        let scope = CancelScope::new();
        scope
            .run(async |_| {
                let mut work = Box::pin(thread::run(move || {
                    begin.send(()).expect("the test waits");
                    while !thread::is_cancelled() {
                        std::thread::yield_now();
                    }
                    value
                }));
                assert!(poll!(&mut work).is_pending());
                begun.await.expect("it begins");
                drop(work);
                Ok(())
            })
            .await?;
        assert!(ended.load(Ordering::SeqCst), "the scope did not wait");
        Ok(())
    });
}

// The same for the run itself (rule P1): the future is dropped with a main that panics.
#[trine::test(kernel = "both")]
fn a_run_that_panics_waits_for_its_threads() {
    let ended = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&ended);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        run(async || {
            let (begin, begun) = oneshot::channel();
            let mut work = Box::pin(thread::run(move || {
                begin.send(()).expect("the test waits");
                while !thread::is_cancelled() {
                    std::thread::yield_now();
                }
                noted.store(true, Ordering::SeqCst);
            }));
            assert!(poll!(&mut work).is_pending());
            begun.await.expect("it begins");
            panic!("of the test");
            #[expect(unreachable_code, reason = "it says what main yields")]
            Ok(())
        })
    }));
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "of the test");
    assert!(ended.load(Ordering::SeqCst), "the run did not wait");
}

// K3: abandoned, it is not waited for; its token comes back when it really ends.
#[trine::test(kernel = "both")]
fn abandoned_work_goes_on_by_itself_and_keeps_its_token() {
    run(async || {
        let limiter = Rc::new(CapacityLimiter::new(2));
        let (mut gate, work) = Gate::new();
        let scope = CancelScope::new();
        nursery(async |n| {
            let options = Builder::new().limiter(&limiter).abandon_on_cancel(true);
            let child = n.fork(scope.run(async |_| options.run(work).await));
            gate.begun().await;
            assert_eq!((stats().threads, limiter.borrowed()), (1, 1));
            scope.cancel();
            assert_eq!(child.await?, None);
            assert_eq!((stats().threads, limiter.borrowed()), (0, 1));
            Ok(())
        })
        .await?;
        gate.open();
        all_back(&limiter).await?;
        assert_eq!(thread::limiter()?.borrowed(), 0, "the other limiter had nothing to do with it");
        Ok(())
    });
}

// C2: whoever polls it only when it was woken hears of the cancellation too.
#[trine::test(kernel = "both")]
fn in_a_crowd_of_futures_a_cancellation_wakes_whoever_waits_for_a_thread() {
    run(async || {
        let (mut gate, work) = Gate::new();
        let scope = CancelScope::new();
        nursery(async |n| {
            let child = n.fork(scope.run(async |_| {
                let mut crowd = FuturesUnordered::new();
                crowd.push(Builder::new().abandon_on_cancel(true).run(work));
                crowd.next().await.expect("there is one")
            }));
            gate.begun().await;
            scope.cancel();
            assert_eq!(child.await?, None);
            Ok(())
        })
        .await?;
        gate.open();
        all_back(&*thread::limiter()?).await
    });
}

// K3: a future that is dropped abandons too, and a run may end before its thread does.
#[trine::test(kernel = "both")]
fn a_run_ends_before_a_thread_that_it_has_abandoned() {
    let (mut gate, work) = Gate::new();
    let (told, ended) = mpsc::channel();
    run(async || {
        let mut waiting = Box::pin(Builder::new().abandon_on_cancel(true).run(move || {
            work();
            assert!(thread::is_cancelled(), "it was dropped");
            told.send(()).unwrap();
        }));
        assert!(poll!(&mut waiting).is_pending());
        gate.begun().await;
        drop(waiting);
        assert_eq!(stats().threads, 0);
        Ok(())
    });
    assert!(ended.try_recv().is_err());
    gate.open();
    ended.recv().expect("it goes on to its end");
}

#[trine::test(kernel = "both")]
fn no_more_are_at_work_than_the_limiter_says() {
    run(async || {
        thread::limiter()?.set_total(3);
        let (here, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        nursery(async |n| {
            for _ in 0..fewer(60, 12) {
                let (here, most) = (Arc::clone(&here), Arc::clone(&most));
                n.spawn(thread::run(move || {
                    let now = here.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    std::thread::yield_now();
                    here.fetch_sub(1, Ordering::SeqCst);
                }));
            }
            Ok(())
        })
        .await?;
        let most = most.load(Ordering::SeqCst);
        assert!((1..=3).contains(&most), "{most}");
        assert_eq!((stats().threads, thread::limiter()?.borrowed()), (0, 0));
        Ok(())
    });
    // Another run has a limiter of its own.
    run(async || {
        assert_eq!(thread::limiter()?.total(), 40);
        Ok(())
    });
}

// G1: behind a shield nobody is cancelled.
#[trine::test(kernel = "both")]
fn behind_a_shield_a_thread_is_not_told() {
    run(async || {
        let (mut gate, work) = Gate::new();
        let scope = CancelScope::new();
        nursery(async |n| {
            let child = n.fork(scope.run(async |_| {
                shield(thread::run(move || (work(), thread::is_cancelled()))).await
            }));
            gate.begun().await;
            scope.cancel();
            common::turns(3).await;
            gate.open();
            assert_eq!(child.await?, Some(("done", false)));
            Ok(())
        })
        .await
    });
}

// P4: a thread at work is no deadlock, and virtual time does not run away from it.
#[trine::test(kernel = "sim")]
async fn time_stands_still_while_a_thread_is_at_work() -> Result {
    let began = Instant::now();
    // Long enough for the run to be idle meanwhile, and not longer than it has patience.
    let work = || (0..20).for_each(|_| std::thread::yield_now());
    fail_after(LONG, async |_| thread::run(work).await).await?;
    assert_eq!(Instant::now(), began);
    // And goes on afterwards.
    sleep(LONG).await?;
    assert_eq!(Instant::now(), began + LONG);
    Ok(())
}

// Rule F13 does not hold for it: a thread is something of ours, and cancelled tasks that wait for one unwind.
#[trine::test(kernel = "both")]
fn a_cancelled_task_that_waits_for_a_thread_is_not_dropped() {
    run(async || {
        let (mut gate, work) = Gate::new();
        let unwound = Cell::new(false);
        nursery(async |n| {
            n.spawn(async {
                assert_eq!(thread::run(work).await?, "done");
                let error = sleep_forever().await;
                unwound.set(true);
                error
            });
            gate.begun().await;
            n.cancel();
            common::turns(5).await;
            assert!(trine::tree().contains("waits for a thread"), "{}", trine::tree());
            gate.open();
            Ok(())
        })
        .await?;
        assert!(unwound.get());
        assert_eq!(stats().abandoned, 0);
        Ok(())
    });
}

#[test]
fn outside_of_a_run_no_thread_begins() {
    let mut waiting = pin!(thread::run(|| panic!("it begins")));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let polled: std::task::Poll<Result> = waiting.as_mut().poll(&mut cx);
    assert!(matches!(polled, std::task::Poll::Ready(Err(Error::NoRun))), "{polled:?}");
    assert!(matches!(thread::limiter(), Err(Error::NoRun)));
    assert!(!thread::is_cancelled());
    assert!(matches!(thread::check_cancelled(), Err(Error::NoRun)));
}

// A thread at work may have a run of its own, which is nobody else's.
#[test]
fn a_thread_may_have_a_run_of_its_own() {
    run(async || {
        let inner = thread::run(|| {
            trine::run(async || {
                assert!(!is_cancelled());
                checkpoint().await?;
                thread::run(|| 5).await
            })
        });
        assert_eq!(inner.await??, 5);
        Ok(())
    });
}

// Threads, cancellations and drops at random times: nothing is lost, nobody is left.
#[test]
#[cfg_attr(miri, ignore = "hundreds of threads")]
fn in_a_storm_of_cancellations_every_token_comes_back() {
    let seen = Mutex::new(Vec::new());
    for seed in 0..20 {
        let mut random = Random(seed);
        run(async || {
            thread::limiter()?.set_total(4);
            let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            nursery(async |n| {
                for _ in 0..40 {
                    let (spins, abandon, wait) =
                        (random.below(2000), random.below(3) == 0, random.below(6));
                    let (begun, ended) = (Arc::clone(&begun), Arc::clone(&ended));
                    n.spawn(async move {
                        let scope =
                            CancelScope::new().timeout(Duration::from_micros(50) * wait as u32);
                        let work = Builder::new().abandon_on_cancel(abandon).run(move || {
                            begun.fetch_add(1, Ordering::SeqCst);
                            for _ in 0..spins {
                                std::hint::spin_loop();
                            }
                            ended.fetch_add(1, Ordering::SeqCst);
                        });
                        scope.run(async |_| work.await).await.map(drop)
                    });
                }
                Ok(())
            })
            .await?;
            assert_eq!(stats().threads, 0);
            let limiter = thread::limiter()?;
            all_back(&limiter).await?;
            let (begun, ended) = (begun.load(Ordering::SeqCst), ended.load(Ordering::SeqCst));
            assert_eq!(begun, ended, "whoever has begun has ended");
            seen.lock().unwrap().push(begun);
            Ok(())
        });
    }
    let seen = seen.into_inner().unwrap();
    assert!(
        seen.iter().any(|&begun| begun < 40) && seen.iter().any(|&begun| begun > 0),
        "{seen:?}"
    );
}

// K3: a thread that has told of its end is not let go of a second time, whoever looks first.
#[trine::test(kernel = "both")]
fn abandoned_work_that_has_just_ended_counts_once() {
    run(async || {
        let (mut gate, work) = Gate::new();
        {
            let mut one = pin!(Builder::new().abandon_on_cancel(true).run(work));
            assert!(poll!(one.as_mut()).is_pending());
            gate.begun().await;
            gate.open();
            // It tells, and nobody polls it.
            all_back(&*thread::limiter()?).await?;
        }
        assert_eq!(stats().threads, 0);
        assert_eq!(thread::run(|| 5).await?, 5);
        assert_eq!((stats().threads, thread::limiter()?.borrowed()), (0, 0));
        Ok(())
    });
}

// P6: a future that has outlived its run means nothing to another one.
#[trine::test(kernel = "both")]
fn a_future_of_a_former_run_is_dropped_in_another_without_a_trace() {
    let (mut gate, work) = Gate::new();
    let kept = run(async || {
        let mut kept = Box::pin(Builder::new().abandon_on_cancel(true).run(work));
        assert!(poll!(&mut kept).is_pending());
        gate.begun().await;
        Ok(kept)
    });
    let (mut other, work) = Gate::new();
    run(async || {
        let mut waiting = pin!(thread::run(work));
        assert!(poll!(waiting.as_mut()).is_pending());
        other.begun().await;
        let mut kept = kept;
        let polled = poll!(&mut kept);
        assert!(matches!(polled, Poll::Ready(Err(Error::RunFinished))), "{polled:?}");
        drop(kept);
        assert_eq!(stats().threads, 1);
        other.open();
        assert_eq!(waiting.await?, "done");
        Ok(())
    });
    gate.open();
}

// E11, F12, P1: nobody polls the future any more, and its thread hears all the same that it is to end.
#[trine::test(kernel = "both")]
fn a_thread_is_told_although_nobody_polls_its_future() {
    type Work = Pin<Box<dyn Future<Output = Result>>>;
    static KEPT: RunLocal<RefCell<Option<Work>>> = RunLocal::new(RefCell::default);
    for how in 0..4 {
        run(async || {
            let (begin, begun) = oneshot::channel();
            let until_cancelled = move || {
                begin.send(()).expect("the test waits");
                while !thread::is_cancelled() {
                    std::thread::yield_now();
                }
            };
            let options = Builder::new().abandon_on_cancel(how == 3);
            let mut work: Work = Box::pin(options.run(until_cancelled));
            let scope = CancelScope::new();
            scope
                .run(async |scope| {
                    assert!(poll!(&mut work).is_pending());
                    begun.await.expect("it begins");
                    match how {
                        // Forgotten, and cancelled by its scope or by the end of the run.
                        0 => {
                            std::mem::forget(work);
                            scope.cancel();
                        }
                        1 => std::mem::forget(work),
                        // Kept to the very end.
                        _ => *KEPT.get()?.borrow_mut() = Some(work),
                    }
                    Ok(())
                })
                .await
                .map(drop)
        });
    }
}

// P1, K5: a thread at work that waits for something of the run's does not keep an ending run from ending.
#[trine::test(kernel = "both")]
fn a_run_that_panics_answers_the_threads_that_call_it() {
    let (told, answer) = mpsc::channel();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        run(async || {
            let (begin, begun) = oneshot::channel();
            let remote = thread::Remote::current()?;
            let mut work = pin!(thread::run(move || {
                begin.send(()).expect("the test waits");
                told.send(remote.run(async || checkpoint().await)).unwrap();
            }));
            assert!(poll!(work.as_mut()).is_pending());
            begun.await.expect("it begins");
            panic!("of the test");
            #[expect(unreachable_code, reason = "it says what main yields")]
            Ok(())
        })
    }));
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "of the test");
    let answer = answer.recv().unwrap();
    assert!(matches!(answer, Err(Error::RunFinished)), "{answer:?}");
}

// Nothing is left of what was dropped when its thread had ended.
#[trine::test(kernel = "both")]
fn futures_that_are_dropped_after_their_threads_have_ended_leave_nothing() {
    run(async || {
        let before = trine::tree().lines().count();
        for _ in 0..10 {
            let mut work = Box::pin(thread::run(|| ()));
            let _ = poll!(&mut work);
            all_back(&*thread::limiter()?).await?;
            drop(work);
        }
        assert_eq!(trine::tree().lines().count(), before);
        assert_eq!((stats().threads, thread::limiter()?.borrowed()), (0, 0));
        Ok(())
    });
}
