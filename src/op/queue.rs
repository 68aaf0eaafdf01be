//! What waits to be pushed, in order.

use std::collections::VecDeque;

use crate::slots::Key;

use super::table::Slot;

/// Operations in the order in which they came. One that is not meant any more stays, and is passed
/// over when its turn comes: its slot has gone, or is in another phase.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) keys: VecDeque<Key<Slot>>,
    /// How many are still meant.
    pub(super) len: usize,
}

/// What became of the first one of a queue.
pub(super) enum Drained {
    Pushed,
    NoRoom,
    Stale,
}

impl Queue {
    #[inline]
    pub(super) fn push(&mut self, key: Key<Slot>) {
        self.keys.push_back(key);
        self.len += 1;
    }

    /// `false`: there was no room for all.
    #[inline]
    pub(super) fn drain(&mut self, mut each: impl FnMut(Key<Slot>) -> Drained) -> bool {
        while let Some(&key) = self.keys.front() {
            match each(key) {
                Drained::Pushed => self.len -= 1,
                Drained::NoRoom => return false,
                Drained::Stale => {}
            }
            self.keys.pop_front();
        }
        true
    }
}
