//! Waiting for threads that work for the run.

use std::task::Context;

use crate::cancel::{Subject, Wait};
use crate::slots::Key;

use super::Run;

impl Run {
    /// A thread begins to work for what is being polled; the scope does not end before it.
    pub(crate) fn thread_began(&self) -> Key<Wait> {
        let node = self.context.node();
        self.act(|core| {
            core.threads += 1;
            core.tree.attach(node, Subject::Thread, None)
        })
    }

    /// Notes who waits for it.
    pub(crate) fn await_thread(&self, wait: Key<Wait>, cx: &Context<'_>) {
        let (node, whom) = (self.context.node(), self.context.whom(cx));
        self.act(|core| core.tree.polled(wait, node, whom, &mut core.sweep));
    }

    /// Nobody wants its result any more, but it has begun, and so it is waited for (rule K2).
    pub(crate) fn orphan_thread(&self, wait: Key<Wait>) {
        self.act(|core| core.tree.set_orphan(wait, true, &mut core.sweep));
    }

    /// It has ended. An orphan has nobody who would look.
    pub(crate) fn thread_ended(&self, wait: Key<Wait>, is_orphan: bool) {
        self.act(|core| {
            core.threads -= 1;
            match is_orphan {
                true => core.tree.detach(wait, &mut core.sweep),
                false => core.tree.fire(wait, true, &mut core.sweep),
            }
        });
    }

    /// Whoever waited for it has seen its end.
    pub(crate) fn forget_thread(&self, wait: Key<Wait>) {
        self.act(|core| core.tree.detach(wait, &mut core.sweep));
    }
}
