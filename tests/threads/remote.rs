//! Calls into a run from other threads (rule K5).

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use futures::channel::oneshot;
use trine::sync::Event;
use trine::thread::{self, Remote};
use trine::time::sleep_forever;
use trine::{Error, Result, checkpoint, nop, nursery, stats};

use crate::common::fewer;
use crate::common::wakers::{Bell, poll_with};
use crate::{elsewhere, run};

thread_local! {
    /// What was called on this thread.
    static CALLED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

fn called() -> Vec<usize> {
    CALLED.take()
}

#[trine::test(kernel = "both")]
fn calls_are_made_on_the_runs_thread_in_the_order_in_which_they_were_accepted() {
    const CALLS: usize = fewer(1000, 50);
    run(async || {
        let remote = Remote::current()?;
        let here = std::thread::current().id();
        let outside = elsewhere(move || {
            for n in 0..CALLS {
                remote.post(move || CALLED.with_borrow_mut(|called| called.push(n))).unwrap();
            }
            remote.call(|| std::thread::current().id()).unwrap()
        });
        assert_eq!(outside.await.unwrap(), here);
        assert_eq!(called(), (0..CALLS).collect::<Vec<_>>());
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_thread_has_a_future_run_and_gets_what_it_ends_with() {
    run(async || {
        let remote = Remote::current()?;
        let here = std::thread::current().id();
        let outside = elsewhere(move || {
            let value = remote.run(async move || {
                nop().await?;
                // What stays on the run's thread need not be fit to be sent.
                let local = Rc::new(std::thread::current().id());
                checkpoint().await?;
                Ok(*local)
            });
            let error = remote.run(async || Err::<(), _>(Error::other("of the future")));
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                remote.run(async || -> Result { panic!("in the future") })
            }));
            let early = catch_unwind(AssertUnwindSafe(|| {
                let make = || -> std::future::Ready<Result> { panic!("before the future") };
                remote.run(make)
            }));
            (value, error, panicked.unwrap_err(), early.unwrap_err())
        });
        let (value, error, panicked, early) = outside.await.unwrap();
        assert_eq!(value?, here);
        assert_eq!(error.unwrap_err().to_string(), "of the future");
        assert_eq!(*panicked.downcast::<&str>().unwrap(), "in the future");
        assert_eq!(*early.downcast::<&str>().unwrap(), "before the future");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_thread_at_work_calls_back_into_its_run() {
    run(async || {
        let happened = Rc::new(Event::new());
        CALLED.set(vec![1]);
        let work = thread::run(|| {
            let remote = Remote::current().expect("a thread at work has a run");
            let called = remote.call(called).unwrap();
            let turns = remote.run(async || {
                checkpoint().await?;
                Ok(stats().turns)
            });
            (called, turns.unwrap())
        });
        let (called, turns) = work.await?;
        assert_eq!(called, [1]);
        assert!(turns > 0 && turns <= stats().turns);
        happened.set();
        happened.wait().await
    });
    assert!(matches!(Remote::current(), Err(Error::NoRun)));
}

// When the main future has ended, futures of others are cancelled and awaited, and nothing more is accepted.
#[trine::test(kernel = "both")]
fn what_still_runs_when_main_ends_is_cancelled_and_awaited() {
    let (begin, begun) = oneshot::channel();
    let (outside, remote) = run(async || {
        let remote = Remote::current()?;
        let shared = remote.clone();
        let outside = std::thread::spawn(move || {
            shared.run(async move || {
                begin.send(()).unwrap();
                let error = sleep_forever().await;
                CALLED.with_borrow_mut(|called| called.push(1));
                error
            })
        });
        begun.await.expect("it begins");
        Ok((outside, remote))
    });
    assert_eq!(called(), [1], "the run did not wait for it");
    let error = outside.join().unwrap().expect_err("it was cancelled");
    assert!(error.is_cancelled(), "{error}");
    for refused in [
        remote.post(|| panic!("it is called")),
        remote.call(|| panic!("it is called")),
        remote.run(async || panic!("it is run")),
    ] {
        assert!(matches!(refused, Err(Error::RunFinished)), "{refused:?}");
    }
}

// K5: whatever was accepted is called, also what comes while the run ends.
#[test]
fn every_call_that_was_accepted_is_made() {
    for round in 0..fewer(200, 3) {
        let made = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = run(async || {
            let remote = Remote::current()?;
            let post = || {
                let (remote, made) = (remote.clone(), Arc::clone(&made));
                std::thread::spawn(move || {
                    let mut accepted = 0;
                    loop {
                        let made = Arc::clone(&made);
                        let call = move || {
                            made.fetch_add(1, Ordering::SeqCst);
                        };
                        match remote.post(call) {
                            Ok(()) => accepted += 1,
                            Err(refused) => {
                                assert!(matches!(refused, Error::RunFinished), "{refused}");
                                return accepted;
                            }
                        }
                        std::thread::yield_now();
                    }
                })
            };
            let threads = vec![post(), post()];
            for _ in 0..round % 7 {
                nop().await?;
            }
            Ok(threads)
        });
        let accepted: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(made.load(Ordering::SeqCst), accepted);
    }
}

// A call that panics ends the run with its panic, after the calls behind it were made.
#[trine::test(kernel = "both")]
fn a_call_that_panics_is_a_panic_of_the_run() {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        run(async || {
            let remote = Remote::current()?;
            let outside = std::thread::spawn(move || {
                let (at_once, go_on) = mpsc::channel::<()>();
                // So that the others are in the same batch.
                remote.post(move || assert!(go_on.recv().is_err())).unwrap();
                remote.post(|| panic!("of a call")).unwrap();
                remote.post(|| CALLED.with_borrow_mut(|called| called.push(2))).unwrap();
                drop(at_once);
            });
            sleep_forever().await?;
            outside.join().map_err(|_| Error::other("it panicked"))
        })
    }));
    assert_eq!(*ended.unwrap_err().downcast::<&str>().unwrap(), "of a call");
    assert_eq!(called(), [2]);
}

// A panic of a call that somebody waits for is that one's.
#[trine::test(kernel = "both")]
fn a_call_that_panics_for_a_thread_that_waits_is_a_panic_of_that_thread() {
    run(async || {
        let remote = Remote::current()?;
        let outside = elsewhere(move || remote.call(|| panic!("of a call")));
        let payload = outside.await.expect_err("it has panicked");
        assert_eq!(*payload.downcast::<&str>().unwrap(), "of a call");
        checkpoint().await
    });
}

// On the run's own thread nobody waits for itself.
#[trine::test(kernel = "both")]
fn on_its_own_thread_a_call_is_made_at_once() {
    run(async || {
        let remote = Remote::current()?;
        assert_eq!(remote.call(|| 3)?, 3);
        assert!(matches!(remote.run(async || checkpoint().await), Err(Error::WouldBlock)));
        remote.post(|| CALLED.with_borrow_mut(|called| called.push(4)))?;
        assert!(called().is_empty());
        while CALLED.with_borrow(|called| called.is_empty()) {
            checkpoint().await?;
        }
        assert_eq!(called(), [4]);
        Ok(())
    });
    assert!(called().is_empty());
}

// P2, K5: a foreign waker that panics while the mail is read keeps no call from being made.
#[trine::test(kernel = "both")]
fn a_waker_that_panics_keeps_no_call_from_being_made() {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        run(async || {
            let remote = Remote::current()?;
            let (bell, waker) = Bell::new(true);
            let (tell, told) = oneshot::channel();
            let mut waiting = Box::pin(nursery(async |n| {
                n.spawn(async { told.await.map_err(Error::other) });
                sleep_forever().await
            }));
            // Until the child waits, it is polled with one that does not.
            assert!(poll_with(waiting.as_mut(), &Bell::new(false).1).is_pending());
            checkpoint().await?;
            assert!(poll_with(waiting.as_mut(), &waker).is_pending());
            // The nursery is polled with a waker that panics, and its child is woken by a thread.
            let outside = std::thread::spawn(move || {
                let (at_once, go_on) = mpsc::channel::<()>();
                remote.post(move || assert!(go_on.recv().is_err())).unwrap();
                tell.send(()).unwrap();
                remote.post(|| CALLED.with_borrow_mut(|called| called.push(7))).unwrap();
                drop(at_once);
            });
            while bell.rung() == 0 {
                std::thread::yield_now();
                checkpoint().await?;
            }
            outside.join().map_err(|_| Error::other("it panicked"))
        })
    }));
    assert!(ended.is_err(), "the waker's panic goes on");
    assert_eq!(called(), [7]);
}
