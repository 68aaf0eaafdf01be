//! Whether a waker was fired during one poll, as rule F13 asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use super::Run;

/// Watches one poll of a cancelled body.
pub(crate) enum Watch {
    /// The body is polled with its task's own waker, and the run knows when that is fired.
    Task,
    /// It is polled with another one, which is wrapped to see it fired.
    Foreign(Arc<Alarm>, Waker),
}

pub(crate) struct Alarm {
    fired: AtomicBool,
    inner: Waker,
}

impl Watch {
    pub(crate) fn new(run: &Run, cx: &Context<'_>) -> Watch {
        if run.context.is_own(cx) {
            return Watch::Task;
        }
        let alarm = Arc::new(Alarm { fired: AtomicBool::new(false), inner: cx.waker().clone() });
        Watch::Foreign(Arc::clone(&alarm), Waker::from(alarm))
    }

    /// What to poll the body with, given what it would be polled with otherwise.
    pub(crate) fn waker<'a>(&'a self, waker: &'a Waker) -> &'a Waker {
        match self {
            Watch::Task => waker,
            Watch::Foreign(_, wrapped) => wrapped,
        }
    }

    pub(crate) fn was_fired(&self, run: &Run) -> bool {
        match self {
            Watch::Task => run.is_task_queued(),
            Watch::Foreign(alarm, _) => alarm.fired.load(Ordering::Acquire),
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.fired.store(true, Ordering::Release);
        self.inner.wake_by_ref();
    }
}
