//! What other threads see of a run, for the models: its inbox and its bell, and a loop that does nothing
//! else than to look into the one and to sleep on the other.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::ring::Bell;
use crate::slots::Key;

use super::inbox::{Inbox, Mail};
use super::tasks::TaskWaker;
use super::{Door, RunId};

pub(crate) struct LoomRun {
    pub(super) inbox: Arc<Inbox>,
    pub(super) door: Door,
    bell: Arc<Bell>,
}

impl LoomRun {
    pub(crate) fn new() -> LoomRun {
        let bell = Arc::new(Bell::twin());
        let inbox = Arc::new(Inbox::new(Arc::clone(&bell)));
        LoomRun { door: Door::new(&inbox), inbox, bell }
    }

    pub(crate) fn door(&self) -> Door {
        self.door.clone()
    }

    /// The waker of a task with this key.
    pub(crate) fn waker(&self, task: u64) -> Waker {
        let waker = TaskWaker::new(RunId(0), &self.inbox);
        waker.belong_to(Key::from_bits(task).expect("keys are not zero"));
        Waker::from(Arc::new(waker))
    }

    /// Looks into the box as a turn of a run does: before it waits, which it does only if it has found
    /// nothing, and after the bell was rung. Says which tasks were woken; calls are made.
    pub(crate) fn turn(&self) -> Vec<u64> {
        let mut woken = Vec::new();
        let is_awake = self.inbox.is_rung() && self.collect(&mut woken);
        let patience = if is_awake { Duration::ZERO } else { Duration::MAX };
        if self.bell.wait(patience) {
            self.collect(&mut woken);
        }
        woken
    }

    /// Says whether there was anything.
    pub(crate) fn collect(&self, woken: &mut Vec<u64>) -> bool {
        let Mail { tasks, calls } = self.inbox.take();
        let came = !tasks.is_empty() || !calls.is_empty();
        for waker in tasks {
            waker.collected();
            woken.extend(waker.task().map(Key::to_bits));
        }
        calls.into_iter().for_each(|call| call());
        came
    }

    /// The main future has ended.
    pub(crate) fn refuse_calls(&self) {
        self.inbox.refuse_calls();
        self.collect(&mut Vec::new());
    }

    pub(crate) fn close(&self) {
        self.inbox.close();
    }
}
