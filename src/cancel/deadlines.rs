//! The queue of deadlines: what is due next, with removal by handle.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use crate::clock::Instant;
use crate::slots::{Key, Slots};

use super::tree::{Node, Wait};

/// One deadline that has neither passed nor been taken back.
pub(crate) struct Timer {
    due: Due,
    /// Where its entry lies: in a line, or, if there is none of this number, in the heap.
    line: usize,
}

/// What becomes of a deadline that has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// The scope is cancelled.
    Scope(Key<Node>),
    /// The sleeper is woken.
    Sleep(Key<Wait>),
}

/// What programs set is mostly one of a few timeouts, again and again, and taken back long before it is
/// due. Deadlines of the same timeout come in order: they form a line, at whose back they are set and
/// at whose front they pass. What fits into no line goes into a heap.
///
/// To keep track of where each one lies would cost more than all else, so one that is taken back leaves
/// its entry behind, stale: but never at an end of a line nor at the top of the heap, and elsewhere
/// there are never more of them than of the others, but for a few.
///
/// Equal deadlines come in the order in which they were set.
pub(crate) struct Deadlines {
    lines: [VecDeque<Entry>; LINES],
    heap: BinaryHeap<Entry>,
    /// The first of all fronts and the top: it is asked for in every turn.
    first: Option<Entry>,
    timers: Slots<Timer>,
    sequence: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    at: Instant,
    sequence: u64,
    timer: Key<Timer>,
}

const LINES: usize = 4;

/// Stale entries up to this number are left lying in any case.
const FEW: usize = 32;

impl Deadlines {
    pub(crate) fn new() -> Deadlines {
        Deadlines {
            lines: Default::default(),
            heap: BinaryHeap::new(),
            first: None,
            timers: Slots::new(),
            sequence: 0,
        }
    }

    pub(crate) fn insert(&mut self, at: Instant, due: Due) -> Key<Timer> {
        let line = self.line_for(at);
        let timer = self.timers.insert(Timer { due, line });
        let entry = Entry { at, sequence: self.sequence, timer };
        self.sequence += 1;
        match self.lines.get_mut(line) {
            Some(line) => line.push_back(entry),
            None => self.heap.push(entry),
        }
        self.first = self.first.max(Some(entry));
        timer
    }

    /// The first line that does not end after `at`. Those of the longest timeout so find the first one, and
    /// each of the others soon has its own.
    fn line_for(&self, at: Instant) -> usize {
        let fits = |line: &VecDeque<Entry>| line.back().is_none_or(|last| last.at <= at);
        self.lines.iter().position(fits).unwrap_or(LINES)
    }

    /// Takes a deadline out; one that has passed or was taken back is not there any more.
    pub(crate) fn remove(&mut self, key: Key<Timer>) -> Option<Due> {
        let Timer { due, line } = self.timers.remove(key)?;
        self.clear(key, line);
        Some(due)
    }

    /// The earliest deadline.
    #[inline]
    pub(crate) fn next(&self) -> Option<Instant> {
        self.first.map(|first| first.at)
    }

    /// Takes the earliest one out if it is due: `now >= deadline` (rule H3).
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Due> {
        let first = self.first.filter(|first| first.at <= now)?;
        self.remove(first.timer)
    }

    pub(crate) fn len(&self) -> usize {
        self.timers.len()
    }

    /// Throws away the entry of a deadline that has just gone if it lies where none may be stale; and
    /// all stale ones when there are too many: as many as were taken back since the last time, so it
    /// costs each of them the same.
    fn clear(&mut self, gone: Key<Timer>, line: usize) {
        let Deadlines { lines, heap, first, timers, .. } = self;
        let is_gone = |entry: &Entry| entry.timer == gone;
        let is_stale = |entry: &Entry| timers.get(entry.timer).is_none();
        if let Some(line) = lines.get_mut(line) {
            if line.front().is_some_and(is_gone) {
                while line.front().is_some_and(is_stale) {
                    line.pop_front();
                }
            }
            if line.back().is_some_and(is_gone) {
                while line.back().is_some_and(is_stale) {
                    line.pop_back();
                }
            }
        } else if heap.peek().is_some_and(is_gone) {
            while heap.peek().is_some_and(is_stale) {
                heap.pop();
            }
        }
        if first.as_ref().is_some_and(is_gone) {
            *first = lines.iter().map(VecDeque::front).max().flatten().max(heap.peek()).copied();
        }
        let entries = heap.len() + lines.iter().map(VecDeque::len).sum::<usize>();
        if entries > 2 * timers.len() + FEW {
            lines.iter_mut().for_each(|line| line.retain(|entry| !is_stale(entry)));
            heap.retain(|entry| !is_stale(entry));
        }
    }
}

/// The earliest is the greatest, which is at the top of a heap.
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
#[path = "deadlines_tests.rs"]
mod tests;
