//! Models of a task's waker in other threads.

use std::sync::Arc;

use loom::thread;

use crate::exec::loom_run::LoomRun;
use crate::primitives::{AtomicU8, Ordering, check_every_order};

/// A task that was woken sees what the waking thread did before, also if that found the letter of a former
/// wake posted, and so posted none. What it did may be of the weakest order: the wake is what counts.
#[test]
fn what_came_before_a_wake_is_seen() {
    check_every_order(4, || {
        let run = LoomRun::new();
        let (news, waker) = (Arc::new(AtomicU8::new(0)), run.waker(1));
        let told = Arc::clone(&news);
        let thread = thread::spawn(move || {
            for number in 1..=2 {
                told.store(number, Ordering::Relaxed);
                waker.wake_by_ref();
            }
        });
        // Looks when it is woken, and not before.
        while run.turn().is_empty() || news.load(Ordering::Relaxed) < 2 {}
        thread.join().unwrap();
    });
}

/// The same of two threads that wake the same task, each with news of its own.
#[test]
fn what_came_before_two_wakes_is_seen() {
    check_every_order(4, || {
        let run = LoomRun::new();
        let waker = run.waker(1);
        let news = [(); 2].map(|()| Arc::new(AtomicU8::new(0)));
        let threads = [0, 1].map(|number: usize| {
            let (told, waker) = (Arc::clone(&news[number]), waker.clone());
            thread::spawn(move || {
                told.store(1, Ordering::Relaxed);
                waker.wake();
            })
        });
        let is_there = |news: &Arc<AtomicU8>| news.load(Ordering::Relaxed) == 1;
        while run.turn().is_empty() || !news.iter().all(is_there) {}
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
