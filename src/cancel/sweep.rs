//! What a change of the tree asks others to do.

use std::task::Waker;

use crate::slots::Key;

use super::tree::{Node, Whom};

/// Collected while the tree is being marked, carried out afterwards. It lives in the run and is
/// emptied as it is carried out, so a panic half-way loses nothing (rule P2).
#[derive(Default)]
pub(crate) struct Sweep {
    /// Operations to be asked to end.
    pub(crate) operations: Vec<u64>,
    /// Threads to be asked to end, and the nodes whose cancellation asks.
    pub(crate) workers: Vec<(u64, Key<Node>)>,
    /// Tasks to be polled again.
    pub(crate) tasks: Vec<u64>,
    /// Everybody else to be woken.
    pub(crate) wakers: Vec<Waker>,
    /// Wakers that nobody will fire; dropping them may run other people's code.
    pub(crate) dead: Vec<Waker>,
}

impl Sweep {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let Sweep { operations, workers, tasks, wakers, dead } = self;
        operations.len() | workers.len() | tasks.len() | wakers.len() | dead.len() == 0
    }

    #[inline]
    pub(crate) fn wake(&mut self, whom: Option<Whom>) {
        match whom {
            Some(Whom::Task(task)) => self.tasks.push(task),
            Some(Whom::Waker(waker)) => self.wakers.push(waker),
            None => {}
        }
    }

    /// Notes somebody who will not be woken.
    #[inline]
    pub(crate) fn bury(&mut self, whom: Option<Whom>) {
        if let Some(Whom::Waker(waker)) = whom {
            self.dead.push(waker);
        }
    }
}
