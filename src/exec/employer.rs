//! What a thread at work knows of the run that it works for.

use std::sync::Arc;

use crate::error::Reason;
use crate::primitives::{AtomicBool, Mutex, Ordering, lock};

use super::Door;
use super::context::with_thread;

/// For whom a thread works.
pub(crate) struct Employer {
    pub(crate) door: Door,
    pub(crate) wish: Arc<Wish>,
}

/// That a thread come to an end, which it may ask for.
pub(crate) struct Wish {
    is_there: AtomicBool,
    reason: Mutex<Option<Reason>>,
}

impl Wish {
    pub(crate) fn new() -> Wish {
        Wish { is_there: AtomicBool::new(false), reason: Mutex::new(None) }
    }

    /// The first reason stays (rule L2).
    pub(crate) fn make(&self, reason: Reason) {
        if !self.is_there() {
            *lock(&self.reason) = Some(reason);
            self.is_there.store(true, Ordering::Release);
        }
    }

    /// Cheap enough to be asked in a loop.
    pub(crate) fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Acquire)
    }

    /// Why, if it is there.
    pub(crate) fn reason(&self) -> Option<Reason> {
        if self.is_there() { lock(&self.reason).clone() } else { None }
    }
}

/// Asks this thread's employer; `None` if it has none, or is being torn down.
pub(crate) fn with_employer<R>(ask: impl FnOnce(&Employer) -> R) -> Option<R> {
    with_thread(|thread| thread.employer.borrow().as_ref().map(ask)).flatten()
}

/// This thread works for `employer` until the guard goes.
pub(crate) fn enter_employer(employer: Employer) -> AtWork {
    with_thread(|thread| thread.employer.replace(Some(employer)));
    AtWork
}

pub(crate) struct AtWork;

impl Drop for AtWork {
    fn drop(&mut self) {
        with_thread(|thread| thread.employer.take());
    }
}

#[cfg(all(test, loom))]
#[path = "employer_loom.rs"]
mod loom_tests;
