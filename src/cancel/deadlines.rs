//! The deadline heap: what is due next, with removal and moving by handle.

use crate::clock::Instant;
use crate::slots::{Key, Slots};

use super::tree::{Node, Wait};

/// One deadline in the heap.
pub(crate) struct Timer {
    position: usize,
    due: Due,
}

/// What becomes of a deadline that has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// The scope is cancelled.
    Scope(Key<Node>),
    /// The sleeper is woken.
    Sleep(Key<Wait>),
}

/// A heap with four children to a parent, which is flatter than a binary one and kinder to caches.
/// Equal deadlines come in the order in which they were set.
pub(crate) struct Deadlines {
    heap: Vec<Entry>,
    timers: Slots<Timer>,
    sequence: u64,
}

struct Entry {
    at: Instant,
    sequence: u64,
    timer: Key<Timer>,
}

impl Deadlines {
    pub(crate) fn new() -> Deadlines {
        Deadlines { heap: Vec::new(), timers: Slots::new(), sequence: 0 }
    }

    pub(crate) fn insert(&mut self, at: Instant, due: Due) -> Key<Timer> {
        let position = self.heap.len();
        let timer = self.timers.insert(Timer { position, due });
        self.heap.push(Entry { at, sequence: self.sequence, timer });
        self.sequence += 1;
        self.rise(position);
        timer
    }

    /// Takes a deadline out; one that has passed or was taken out is not there any more.
    pub(crate) fn remove(&mut self, key: Key<Timer>) -> Option<Due> {
        let Timer { position, due } = self.timers.remove(key)?;
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            let position = self.rise(position);
            self.sink(position);
        }
        Some(due)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.at)
    }

    /// Takes the earliest one out if it is due: `now >= deadline` (rule H3).
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Due> {
        let first = self.heap.first().filter(|first| first.at <= now)?;
        self.remove(first.timer)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    fn rise(&mut self, mut position: usize) -> usize {
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if self.heap[parent].before(&self.heap[position]) {
                break;
            }
            self.swap(parent, position);
            position = parent;
        }
        self.note(position);
        position
    }

    fn sink(&mut self, mut position: usize) {
        loop {
            let children =
                position * ARITY + 1..(position * ARITY + 1 + ARITY).min(self.heap.len());
            let earliest =
                children.reduce(|a, b| if self.heap[b].before(&self.heap[a]) { b } else { a });
            match earliest {
                Some(child) if self.heap[child].before(&self.heap[position]) => {
                    self.swap(child, position);
                    position = child;
                }
                _ => break,
            }
        }
        self.note(position);
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note(a);
        self.note(b);
    }

    fn note(&mut self, position: usize) {
        let timer = self.heap[position].timer;
        self.timers.get_mut(timer).expect("every entry has a timer").position = position;
    }
}

const ARITY: usize = 4;

impl Entry {
    fn before(&self, other: &Entry) -> bool {
        (self.at, self.sequence) < (other.at, other.sequence)
    }
}

#[cfg(test)]
#[path = "deadlines_tests.rs"]
mod tests;
