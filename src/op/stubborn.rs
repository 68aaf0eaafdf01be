//! Operations that a thread of the kernel goes on with although it was told to stop.

use std::collections::VecDeque;
use std::time::Duration;

use crate::slots::Key;

use super::table::Slot;

/// A cancel that finds an operation at work in a thread of the kernel interrupts that thread, and says so.
/// Mostly this ends the operation soon, or it is one that cannot be stopped and ends by itself. But where
/// the thread was only about to wait the interruption can be lost, and the wait lasts for ever (seen on Linux 6.1,
/// with the opening of a FIFO). So after a while it is asked for again, and so is one that was found nowhere
/// twice: a thread may just have been taking it up, or a device has it.
pub(super) struct Stubborn {
    /// When each is to be asked again, on the coarse clock; in order, since the patience is always the same.
    queue: VecDeque<(Duration, Key<Slot>)>,
}

/// Long for what ends soon, short for whoever waits for it.
const PATIENCE: Duration = Duration::from_millis(10);

impl Stubborn {
    pub(super) fn new() -> Stubborn {
        Stubborn { queue: VecDeque::new() }
    }

    pub(super) fn push(&mut self, key: Key<Slot>, now: Duration) {
        self.queue.push_back((now + PATIENCE, key));
    }

    /// When the first of them is to be asked.
    #[inline]
    pub(super) fn next(&self) -> Option<Duration> {
        self.queue.front().map(|&(at, _)| at)
    }

    pub(super) fn any(&self, is_it: impl Fn(Key<Slot>) -> bool) -> bool {
        self.queue.iter().any(|&(_, key)| is_it(key))
    }

    /// Takes the first of them if its time has come, or if it is of no concern any more.
    pub(super) fn pop(
        &mut self,
        now: Duration,
        is_gone: impl Fn(Key<Slot>) -> bool,
    ) -> Option<Key<Slot>> {
        let &(at, key) = self.queue.front()?;
        if at > now && !is_gone(key) {
            return None;
        }
        self.queue.pop_front();
        Some(key)
    }
}
