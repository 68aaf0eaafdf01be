//! Waiting for something other than the kernel.

use std::rc::Rc;
use std::task::{Context, Poll};

use crate::cancel::{Outcome, Subject, Wait};
use crate::error::Result;
use crate::slots::Key;

use super::{Run, check_running};

/// One wait that [`Run::unpark`] or a cancellation ends (rules C2, C3). Whoever is to end it keeps
/// the key; a key of a wait that has gone wakes nobody.
pub(crate) struct Park {
    run: Rc<Run>,
    wait: Key<Wait>,
}

impl Park {
    pub(crate) fn new(run: &Rc<Run>, subject: Subject) -> Park {
        let node = run.context.node();
        let wait = run.act(|core| core.tree.attach(node, subject, None));
        Park { run: Rc::clone(run), wait }
    }

    pub(crate) fn key(&self) -> Key<Wait> {
        self.wait
    }

    pub(crate) fn run(&self) -> &Rc<Run> {
        &self.run
    }

    /// Whether it has ended, and how. It does not end by being polled.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let before = self.run.look(|core| core.tree.outcome(self.wait)).unwrap_or(Outcome::Fired);
        if before != Outcome::Waiting {
            return Poll::Ready(before);
        }
        let (node, whom) = (self.run.context.node(), self.run.context.whom(cx));
        self.run.act(|core| {
            core.tree.polled(self.wait, node, whom, &mut core.sweep);
            match core.tree.outcome(self.wait) {
                Some(Outcome::Waiting) => Poll::Pending,
                moved => Poll::Ready(moved.unwrap_or(Outcome::Fired)),
            }
        })
    }

    /// As [`poll`](Park::poll) for a park that a cancellation ends: `None` is a stray one, because
    /// the park has moved or a shield went on, and the caller waits anew (rule D4). Nothing ends one
    /// whose run has ended (rule P6).
    pub(crate) fn poll_cancellable(&self, cx: &mut Context<'_>) -> Poll<Option<Result>> {
        check_running(&self.run)?;
        match std::task::ready!(self.poll(cx)) {
            Outcome::Cancelled => match std::task::ready!(self.run.wait_cancelled()) {
                Ok(()) => Poll::Ready(None),
                Err(cancelled) => Poll::Ready(Some(Err(cancelled.into()))),
            },
            _ => {
                self.run.progress();
                Poll::Ready(Some(Ok(())))
            }
        }
    }
}

impl Drop for Park {
    fn drop(&mut self) {
        self.run.act(|core| core.tree.detach(self.wait, &mut core.sweep));
    }
}

/// A schedule point: it ends in a later turn, not merely in a later poll (rule P2). A cancellation
/// does not end it, but the end of its run does.
pub(crate) struct Pause {
    run: Rc<Run>,
    turn: u64,
}

impl Pause {
    pub(crate) fn new(run: &Rc<Run>) -> Pause {
        Pause { run: Rc::clone(run), turn: run.turn_number() }
    }

    /// Whether its run has not ended meanwhile (rule P6).
    pub(crate) fn check_running(&self) -> Result {
        check_running(&self.run)
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let run = &*self.run;
        if run.is_finished() || run.turn_number() > self.turn {
            return Poll::Ready(());
        }
        let (node, whom) = (run.context.node(), run.context.whom(cx));
        run.act(|core| core.pause(node, whom));
        Poll::Pending
    }
}
