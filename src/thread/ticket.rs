//! What a thread and whoever waits for it know of each other.

use std::sync::Arc;
use std::thread;

use crate::exec::Wish;
use crate::primitives::{AtomicU8, Mutex, Ordering, lock};

/// Work on its way to a thread, in it, and back.
pub(super) struct Ticket<T> {
    stage: AtomicU8,
    /// What it has come to: a value, or a panic.
    end: Mutex<Option<thread::Result<T>>>,
    wish: Arc<Wish>,
}

/// No thread has begun. Whoever comes first decides between the other two.
const WAITING: u8 = 0;
const BEGUN: u8 = 1;
/// It is not wanted any more, and will not begin (rule K1).
const WITHDRAWN: u8 = 2;

impl<T> Ticket<T> {
    pub(super) fn new() -> Ticket<T> {
        Ticket { stage: AtomicU8::new(WAITING), end: Mutex::new(None), wish: Arc::new(Wish::new()) }
    }

    /// The thread begins; `false`: it was withdrawn.
    pub(super) fn begin(&self) -> bool {
        self.leave_waiting(BEGUN)
    }

    /// It is not wanted any more; `false`: it has begun.
    pub(super) fn withdraw(&self) -> bool {
        self.leave_waiting(WITHDRAWN)
    }

    fn leave_waiting(&self, stage: u8) -> bool {
        self.stage.compare_exchange(WAITING, stage, Ordering::AcqRel, Ordering::Acquire).is_ok()
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
