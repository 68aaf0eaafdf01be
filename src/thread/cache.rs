//! Threads that are kept for the next one who wants one.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, LazyLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::primitives::{Condvar, Mutex, lock};

/// What a thread is given to do.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The threads of this process that have nothing to do. There may be any number of threads: limits are
/// the business of those who ask for them.
#[derive(Default)]
pub(super) struct Cache {
    /// The last one that came is the first to go: its stack is warm, and the others grow old.
    idle: Mutex<Vec<Arc<Seat>>>,
}

/// Where a thread waits for a job.
#[derive(Default)]
struct Seat {
    job: Mutex<Option<Job>>,
    came: Condvar,
}

/// How long a thread waits for the next job.
const IDLE: Duration = Duration::from_secs(10);

static CACHE: LazyLock<Arc<Cache>> = LazyLock::new(Arc::default);

/// Has a thread do a job, at once.
pub(super) fn start(job: Job) -> io::Result<()> {
    let Some(job) = CACHE.hand_over(job) else { return Ok(()) };
    let cache = Arc::clone(&CACHE);
    let thread = thread::Builder::new().name("trine-thread".to_owned());
    thread.spawn(move || cache.work(job, Seat::wait_a_while)).map(drop)
}

impl Cache {
    /// Gives a job to a thread that has nothing to do; it comes back if there is none.
    fn hand_over(&self, job: Job) -> Option<Job> {
        let seat = lock(&self.idle).pop();
        match seat {
            Some(seat) => {
                seat.put(job);
                None
            }
            None => Some(job),
        }
    }

    /// The life of a thread. `wait` gives up after a while.
    fn work(&self, first: Job, wait: impl Fn(&Seat) -> Option<Job>) {
        let seat = Arc::new(Seat::default());
        let mut next = Some(first);
        while let Some(job) = next {
            // Whatever a job may panic with has been taken care of, but for what its remains do.
            let _ = panic::catch_unwind(AssertUnwindSafe(job));
            lock(&self.idle).push(Arc::clone(&seat));
            next = wait(&seat).or_else(|| self.leave(&seat));
        }
    }

    /// A thread has waited for long enough. If somebody has picked it meanwhile, a job is on its way.
    fn leave(&self, seat: &Arc<Seat>) -> Option<Job> {
        let was_idle = {
            let mut idle = lock(&self.idle);
            let place = idle.iter().position(|other| Arc::ptr_eq(other, seat));
            place.map(|place| idle.remove(place)).is_some()
        };
        if was_idle { None } else { Some(seat.wait()) }
    }
}

impl Seat {
    fn put(&self, job: Job) {
        *lock(&self.job) = Some(job);
        self.came.notify_one();
    }

    fn wait(&self) -> Job {
        let mut job = lock(&self.job);
        loop {
            match job.take() {
                Some(job) => return job,
                None => job = self.came.wait(job).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Waits for a job, but not for ever.
    fn wait_a_while(&self) -> Option<Job> {
        let mut job = lock(&self.job);
        loop {
            if job.is_some() {
                return job.take();
            }
            let (woken, timeout) =
                self.came.wait_timeout(job, IDLE).unwrap_or_else(PoisonError::into_inner);
            job = woken;
            if timeout.timed_out() {
                return job.take();
            }
        }
    }
}

#[cfg(all(test, loom))]
#[path = "cache_loom.rs"]
mod loom_tests;
