//! What a thread and whoever waits for it know of each other.

use std::sync::Arc;
use std::thread;

use crate::exec::Wish;
use crate::primitives::{Mutex, lock};

use super::cache::Job;

/// Work on its way to a thread, in it, and back.
pub(super) struct Ticket<T> {
    /// What is to be done, until a thread begins with it or it is withdrawn: whoever takes it decides.
    errand: Mutex<Option<Job>>,
    /// What it has come to: a value, or a panic.
    end: Mutex<Option<thread::Result<T>>>,
    wish: Arc<Wish>,
}

impl<T> Ticket<T> {
    pub(super) fn new() -> Ticket<T> {
        Ticket { errand: Mutex::new(None), end: Mutex::new(None), wish: Arc::new(Wish::new()) }
    }

    /// This is to be done.
    pub(super) fn give(&self, errand: Job) {
        *lock(&self.errand) = Some(errand);
    }

    /// The thread begins; `None`: it was withdrawn.
    pub(super) fn begin(&self) -> Option<Job> {
        lock(&self.errand).take()
    }

    /// It is not wanted any more, and will not begin (rule K1). What it would have worked with goes with what
    /// comes back, which is other people's; `None`: it has begun.
    pub(super) fn withdraw(&self) -> Option<Job> {
        lock(&self.errand).take()
    }

    /// The thread has ended like this.
    pub(super) fn finish(&self, end: thread::Result<T>) {
        *lock(&self.end) = Some(end);
    }

    /// How it has ended, if it has.
    pub(super) fn take(&self) -> Option<thread::Result<T>> {
        lock(&self.end).take()
    }

    pub(super) fn wish(&self) -> &Arc<Wish> {
        &self.wish
    }
}

#[cfg(all(test, loom))]
#[path = "ticket_loom.rs"]
mod loom_tests;
