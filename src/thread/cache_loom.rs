//! Models of threads that leave while somebody has a job for them.

use std::sync::Arc;

use loom::thread;

use super::{Cache, Job, Seat};
use crate::primitives::{AtomicU8, Ordering, check_every_order, lock};

/// A thread of the cache that has done a first job, and then waits for no time at all.
fn impatient(cache: &Arc<Cache>, first: Job) -> thread::JoinHandle<()> {
    let cache = Arc::clone(cache);
    thread::spawn(move || cache.work(first, |seat| lock(&seat.job).take()))
}

fn counting(done: &Arc<AtomicU8>) -> Job {
    let done = Arc::clone(done);
    Box::new(move || {
        done.fetch_add(1, Ordering::Relaxed);
    })
}

/// A job that somebody gives to a thread as it leaves is done, once; or it comes back.
#[test]
fn a_thread_that_leaves_does_what_it_was_picked_for() {
    check_every_order(4, || {
        let (cache, done) = (Arc::new(Cache::default()), Arc::new(AtomicU8::new(0)));
        let thread = impatient(&cache, counting(&done));
        let given_back = cache.hand_over(counting(&done)).is_some();
        thread.join().unwrap();
        assert_eq!(done.load(Ordering::Relaxed), if given_back { 1 } else { 2 });
        assert!(lock(&cache.idle).is_empty(), "who has gone is not picked");
    });
}

/// Of two jobs for one thread, each is done once or comes back: neither overwrites the other.
#[test]
fn two_jobs_for_one_thread() {
    check_every_order(4, || {
        let (cache, done) = (Arc::new(Cache::default()), Arc::new(AtomicU8::new(0)));
        let thread = impatient(&cache, Box::new(|| ()));
        let (other, job) = (Arc::clone(&cache), counting(&done));
        let giver = thread::spawn(move || other.hand_over(job).is_some());
        let given_back = cache.hand_over(counting(&done)).is_some();
        let given_back = u8::from(given_back) + u8::from(giver.join().unwrap());
        thread.join().unwrap();
        assert_eq!(done.load(Ordering::Relaxed) + given_back, 2);
    });
}

/// A thread that waits is woken by its job.
#[test]
fn a_thread_that_waits_gets_its_job() {
    check_every_order(4, || {
        let (cache, done) = (Arc::new(Cache::default()), Arc::new(AtomicU8::new(0)));
        let (shared, first) = (Arc::clone(&cache), counting(&done));
        let is_last = Arc::clone(&done);
        let thread = thread::spawn(move || {
            let wait = |seat: &Seat| (is_last.load(Ordering::Relaxed) < 2).then(|| seat.wait());
            shared.work(first, wait);
        });
        let mut job = Some(counting(&done));
        while let Some(given_back) = job {
            thread::yield_now();
            job = cache.hand_over(given_back);
        }
        thread.join().unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 2);
    });
}
