//! Wakes from other threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ring::Bell;

use super::tasks::TaskWaker;

/// Where other threads leave the tasks they wake. Every waker owns a share of it, and with it of the
/// bell (rule P6).
#[derive(Debug)]
pub(super) struct Inbox {
    letters: Mutex<Letters>,
    /// The bell was rung for what is in the box. The run takes this back *before* it empties the
    /// box, so whatever is put in later rings again: a wake cannot be missed.
    rung: AtomicBool,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Letters {
    tasks: Vec<Arc<TaskWaker>>,
    /// The run has ended and will not look again.
    closed: bool,
}

impl Inbox {
    pub(super) fn new(bell: Arc<Bell>) -> Inbox {
        Inbox { letters: Mutex::default(), rung: AtomicBool::new(false), bell }
    }

    /// Leaves a task, from any thread.
    pub(super) fn put(&self, task: Arc<TaskWaker>) {
        let mut letters = self.letters();
        if letters.closed {
            return;
        }
        letters.tasks.push(task);
        drop(letters);
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// Empties the box.
    pub(super) fn take(&self) -> Vec<Arc<TaskWaker>> {
        self.rung.store(false, Ordering::SeqCst);
        std::mem::take(&mut self.letters().tasks)
    }

    /// Whether a wake is under way.
    pub(super) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        let mut letters = self.letters();
        letters.closed = true;
        let late = std::mem::take(&mut letters.tasks);
        drop(letters);
        drop(late);
    }

    /// Nothing panics while it holds the lock, so a poisoned one is as good as another.
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
