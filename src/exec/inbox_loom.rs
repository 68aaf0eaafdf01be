//! Models of the inbox: threads that wake, call and come too late, and a run that looks and sleeps.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::{Call, Caller};
use crate::exec::loom_run::LoomRun;
use crate::primitives::{AtomicBool, Mutex, Ordering, check_every_order, lock};
use crate::ring::Bell;

/// Nobody but the run's thread writes into it, or looks before all others have ended.
type Log = std::sync::Mutex<Vec<u32>>;

fn noting(log: &Arc<Log>, number: u32) -> Call {
    let log = Arc::clone(log);
    Box::new(move || log.lock().unwrap().push(number))
}

/// A run does not sleep while a wake lies in the box (rule P4), and each is collected once.
#[test]
fn no_wake_is_missed() {
    check_every_order(4, || {
        let run = LoomRun::new();
        let threads = [1, 2].map(|task| {
            let waker = run.waker(task);
            thread::spawn(move || waker.wake())
        });
        let mut woken = Vec::new();
        while woken.len() < threads.len() {
            woken.extend(run.turn());
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(!run.collect(&mut woken));
        woken.sort_unstable();
        assert_eq!(woken, [1, 2]);
    });
}

/// What is accepted is called once, in the order in which it was accepted (rule K5), also while tasks are
/// woken.
#[test]
fn calls_are_made_once_and_in_order() {
    check_every_order(3, || {
        let run = LoomRun::new();
        let log = Arc::default();
        let (first, second, other) = (noting(&log, 1), noting(&log, 2), noting(&log, 10));
        let (door, waker) = (run.door(), run.waker(1));
        let one = thread::spawn(move || {
            assert!(door.call(Caller::Anyone, first).is_ok());
            assert!(door.call(Caller::Anyone, second).is_ok());
        });
        let door = run.door();
        let another = thread::spawn(move || {
            waker.wake();
            assert!(door.call(Caller::Worker, other).is_ok());
        });
        let mut woken = Vec::new();
        while log.lock().unwrap().len() < 3 || woken.is_empty() {
            woken.extend(run.turn());
        }
        one.join().unwrap();
        another.join().unwrap();
        assert!(!run.collect(&mut woken));
        let (ones, others): (Vec<_>, Vec<_>) =
            mem::take(&mut *log.lock().unwrap()).into_iter().partition(|&call| call < 10);
        assert_eq!((ones, others, woken), (vec![1, 2], vec![10], vec![1]));
    });
}

/// A call that comes as the main future ends is refused, or was accepted before and is made in the look
/// that follows. A thread that the run waits for is heard until the end (rule K5).
#[test]
fn a_call_at_the_end_is_made_or_refused() {
    check_every_order(4, || {
        let run = LoomRun::new();
        let (made, told) = (Arc::default(), Arc::default());
        let (door, call) = (run.door(), noting(&made, 1));
        let stranger = thread::spawn(move || door.call(Caller::Anyone, call).is_ok());
        let (door, call) = (run.door(), noting(&told, 1));
        let worker = thread::spawn(move || door.call(Caller::Worker, call).is_ok());
        run.refuse_calls();
        let made_in_time = made.lock().unwrap().len();
        while told.lock().unwrap().is_empty() {
            run.turn();
        }
        run.close();
        assert_eq!(stranger.join().unwrap(), made_in_time == 1);
        assert_eq!(made.lock().unwrap().len(), made_in_time);
        assert!(worker.join().unwrap());
    });
}

/// Who leaves a call, and nothing else that could wake the run, is not overlooked by a run that asks whether
/// anything still can (rule P4).
#[test]
fn a_last_call_is_not_overlooked() {
    check_every_order(4, || {
        let run = LoomRun::new();
        let log = Arc::default();
        let (door, call) = (run.door(), noting(&log, 1));
        let thread = thread::spawn(move || {
            assert!(door.call(Caller::Anyone, call).is_ok());
            drop(door);
        });
        run.collect(&mut Vec::new());
        // Shares are counted by the standard library, where the checker does not interrupt by itself.
        thread::yield_now();
        let may_sleep = run.door.is_used_elsewhere();
        if may_sleep {
            while log.lock().unwrap().is_empty() {
                run.turn();
            }
        }
        assert_eq!(log.lock().unwrap().len(), 1);
        thread.join().unwrap();
    });
}

/// What comes as the box is closed is not kept: wakers have shares in the box, and would keep it, and so
/// themselves, for ever.
#[test]
fn a_closed_box_keeps_nothing() {
    check_every_order(4, || {
        let run = LoomRun::new();
        let held = Arc::new(());
        let (door, waker, hold) = (run.door(), run.waker(1), Arc::clone(&held));
        let waking = thread::spawn(move || waker.wake());
        let calling = thread::spawn(move || {
            drop(door.call(Caller::Worker, Box::new(move || panic!("called with {hold:?}"))));
        });
        run.close();
        waking.join().unwrap();
        calling.join().unwrap();
        assert!(!run.collect(&mut Vec::new()));
        assert_eq!(Arc::strong_count(&held), 1);
        let inbox = Arc::downgrade(&run.inbox);
        drop(run);
        assert!(inbox.upgrade().is_none());
    });
}

/// An inbox with the error that the order in [`take`](super::Inbox::take) prevents.
struct Careless {
    letters: Mutex<u32>,
    rung: AtomicBool,
    bell: Bell,
}

impl Careless {
    fn put(&self) {
        *lock(&self.letters) += 1;
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// What comes between the two lines does not ring, and is not seen.
    fn take(&self) -> u32 {
        let letters = mem::take(&mut *lock(&self.letters));
        self.rung.swap(false, Ordering::AcqRel);
        letters
    }
}

/// That the models above pass would mean nothing if the checker saw nothing.
#[test]
#[should_panic(expected = "deadlock")]
fn the_checker_notices_a_missed_wake() {
    check_every_order(4, || {
        let inbox = Arc::new(Careless {
            letters: Mutex::new(0),
            rung: AtomicBool::new(false),
            bell: Bell::twin(),
        });
        let threads = [(); 2].map(|()| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.put())
        });
        let mut taken = 0;
        while taken < threads.len() as u32 {
            if inbox.bell.wait(Duration::MAX) {
                taken += inbox.take();
            }
        }
    });
}
