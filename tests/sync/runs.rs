//! Objects that are used outside of a run, and carried from one into another.

use std::pin::Pin;
use std::task::{Poll, Waker};

use futures::{FutureExt, poll};
use trine::sync::{
    Barrier, CapacityLimiter, Condition, Event, Mutex, ParkingLot, RwLock, Semaphore, wait_for,
};
use trine::{Builder, Error, Result};

use crate::common::wakers::{Bell, poll_with};
use crate::common::within;
use crate::lot::Turnstile;

/// A run of its own. What nothing can wake any more is an error here, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = within(20, || Builder::new().detect_deadlock(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// What a wait comes to that is polled where there is no run.
#[track_caller]
fn assert_no_run<T>(wait: impl Future<Output = Result<T>>) {
    let ended = wait.now_or_never().expect("nothing can be waited for");
    assert!(matches!(ended, Err(Error::NoRun)));
}

fn poll_alone<F: Future + ?Sized>(wait: Pin<&mut F>) -> Poll<F::Output> {
    poll_with(wait, Waker::noop())
}

// Without a run nothing can be waited for, though it could be had; what does not wait works.
#[test]
fn outside_of_a_run_nothing_can_be_waited_for() {
    let event = Event::new();
    event.set();
    assert_no_run(event.wait());
    let semaphore = Semaphore::new(1);
    assert_no_run(semaphore.acquire());
    assert_eq!(semaphore.available(), 1);
    let limiter = CapacityLimiter::new(1);
    assert_no_run(limiter.acquire());
    assert_eq!(limiter.borrowed(), 0);
    let barrier = Barrier::new(1);
    assert_no_run(barrier.wait());
    let lock = RwLock::new(());
    assert_no_run(lock.read());
    assert_no_run(lock.write());
    let mutex = Mutex::new(());
    assert_no_run(mutex.lock());
    let guard = mutex.try_lock().expect("nobody has it");
    let refused = Condition::new().wait(guard).now_or_never().expect("it does not wait");
    let refused = refused.unwrap_err();
    assert!(matches!(refused.error, Error::NoRun));
    assert!(refused.request.is_some() && mutex.statistics().held, "the lock comes back");
    drop(refused);
    let door = Turnstile::default();
    door.let_one_through();
    let refused = wait_for(&door, "me").now_or_never().expect("it does not wait").unwrap_err();
    assert!(matches!(refused.error, Error::NoRun));
    assert_eq!(refused.request, "me");
    // Nothing of all that is left, and nothing was taken.
    assert!(!mutex.statistics().held);
    let permit = semaphore.try_acquire().expect("it is still there");
    let token = limiter.try_acquire().expect("it is still there");
    let writes = lock.try_write().expect("nobody is in");
    drop((permit, token, writes));
    assert!(ParkingLot::<(), ()>::new().is_empty());
}

// Nothing here is bound to a run.
#[trine::test(kernel = "both")]
fn an_object_is_used_in_one_run_after_another() {
    let (semaphore, mutex, event) = (Semaphore::new(2), Mutex::new(0), Event::new());
    // What is held may be carried over too.
    let permit = run(async || semaphore.acquire().await);
    for round in 1..4 {
        run(async || {
            assert_eq!(semaphore.available(), 1);
            *mutex.lock().await? += 1;
            let _other = semaphore.acquire().await?;
            assert_eq!(event.is_set(), round > 1);
            event.set();
            event.wait().await
        });
    }
    drop(permit);
    assert_eq!(semaphore.available(), 2);
    assert_eq!(mutex.into_inner(), 3);
}

// P6: a wait belongs to its run. J8: when that has ended it is passed over, and held up nobody.
#[trine::test(kernel = "both")]
fn a_wait_whose_run_has_ended_is_passed_over() {
    let semaphore = Semaphore::new(0);
    let mut old = Box::pin(semaphore.acquire());
    run(async || {
        assert!(poll!(&mut old).is_pending());
        Ok(())
    });
    assert_eq!(semaphore.statistics().waiting, 1);
    run(async || {
        let mut new = Box::pin(semaphore.acquire());
        assert!(poll!(&mut new).is_pending());
        semaphore.release(1);
        let permit = new.await?;
        assert!(matches!(old.as_mut().await, Err(Error::RunFinished)));
        drop(permit);
        Ok(())
    });
    assert_eq!((semaphore.available(), semaphore.statistics().waiting), (1, 0));
}

// J8: dropped after its run, in another run or in none, it leaves nothing.
#[trine::test(kernel = "both")]
fn a_wait_that_is_dropped_after_its_run_leaves_nothing() {
    let mutex = Mutex::new(());
    for in_a_run in [true, false] {
        let guard = mutex.try_lock().expect("nobody has it");
        let mut wait = Box::pin(mutex.lock());
        run(async || {
            assert!(poll!(&mut wait).is_pending());
            Ok(())
        });
        if in_a_run {
            run(async || {
                drop(wait);
                Ok(())
            });
        } else {
            drop(wait);
        }
        assert_eq!(mutex.statistics().waiting, 0);
        drop(guard);
        assert!(!mutex.statistics().held);
    }
}

// C4, J2: what was handed over before the run ended is the waiter's, and goes back if that is dropped.
#[trine::test(kernel = "both")]
fn what_was_handed_over_in_a_run_that_has_ended_is_not_lost() {
    let mutex = Mutex::new(());
    for drops in [false, true] {
        let mut wait = Box::pin(mutex.lock());
        run(async || {
            let guard = mutex.lock().await?;
            assert!(poll!(&mut wait).is_pending());
            drop(guard);
            Ok(())
        });
        assert!(mutex.statistics().held);
        if drops {
            drop(wait);
        } else {
            match poll_alone(wait.as_mut()) {
                Poll::Ready(Ok(guard)) => drop(guard),
                other => panic!("{other:?}"),
            }
        }
        let statistics = mutex.statistics();
        assert_eq!((statistics.held, statistics.waiting), (false, 0));
    }
}

// P6: nobody is woken for a run that has ended.
#[trine::test(kernel = "both")]
fn handing_over_to_waits_of_an_ended_run_wakes_nobody() {
    let event = Event::new();
    let (bell, waker) = Bell::new(false);
    let mut wait = Box::pin(event.wait());
    run(async || {
        assert!(poll_with(wait.as_mut(), &waker).is_pending());
        Ok(())
    });
    let rung = bell.rung();
    assert_eq!(rung, 1, "the end of its run");
    event.set();
    assert_eq!(bell.rung(), rung);
    assert!(matches!(poll_alone(wait.as_mut()), Poll::Ready(Err(Error::RunFinished))));
    assert_eq!(event.statistics().waiting, 0);
}

// P4: what nothing can wake is found, in the words of the run.
#[trine::test(kernel = "both")]
fn a_wait_that_nothing_can_end_is_a_deadlock() {
    let (event, mutex) = (Event::new(), Mutex::new(()));
    let ended = within(20, || {
        Builder::new().detect_deadlock(true).run(async || {
            let _guard = mutex.lock().await?;
            event.wait().await
        })
    });
    assert!(matches!(ended, Err(Error::Deadlock(_))), "{ended:?}");
    assert_eq!(event.statistics().waiting, 0);
    assert!(!mutex.statistics().held);
}
