//! Cancel points and schedule points (section A).

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::cancel::Node;
use crate::error::{Cancelled, Result};
use crate::slots::Key;

use super::park::Pause;
use super::{Run, current};

/// From this many deliveries of `Cancelled` without anything in between on, a task is treated as one
/// that waits for something foreign (rule F14).
///
/// Under Miri a thousand rounds take minutes, and the tests of that rule have many.
pub(crate) const PATIENCE: u16 = if cfg!(miri) { 20 } else { 1000 };

impl Run {
    /// The cancel point. Every delivery of `Cancelled` goes through here and is counted.
    ///
    /// A task that has swallowed too many stays pending here without a wait of its own, which is
    /// what whoever polls it drops (rules F13, F14).
    #[inline]
    pub(crate) fn cancel_point(&self) -> Poll<Result<(), Cancelled>> {
        #[cfg(feature = "testing")]
        self.context.count_points(1, 0);
        let node = self.context.node();
        let Some(reason) =
            self.look(|core| core.tree.is_effective(node).then(|| core.tree.reason(node)))
        else {
            return Poll::Ready(Ok(()));
        };
        let strikes = self.context.strikes().saturating_add(1);
        if strikes >= PATIENCE {
            return Poll::Pending;
        }
        self.context.set_strikes(strikes);
        Poll::Ready(Err(Cancelled::new(reason)))
    }

    /// The cancel point of a wait that a cancellation has ended. It began before that, so it is not the
    /// doing of a task that swallows one `Cancelled` after another, and sets the count back: a task may
    /// have any number of waits at a time (rule F14). But one that makes and ends them all in one turn, by
    /// switching a shield, say, is to end, too.
    #[inline]
    pub(crate) fn wait_cancelled(&self) -> Poll<Result<(), Cancelled>> {
        if self.context.pardon(self.turn_number()) {
            self.progress();
        }
        self.cancel_point()
    }

    /// The cancel point after a close, whose delivery does not count (rule F14).
    pub(crate) fn closing_point(&self) -> Result<(), Cancelled> {
        #[cfg(feature = "testing")]
        self.context.count_points(1, 0);
        if self.is_cancelled() { Err(self.cancelled(self.node())) } else { Ok(()) }
    }

    /// A cancellation that reaches a task in another way than by a cancel point: it counts too.
    pub(crate) fn strike(&self, node: Key<Node>) -> Cancelled {
        self.context.set_strikes(self.context.strikes().saturating_add(1));
        self.cancelled(node)
    }

    /// Counts a cancellation that reaches the task with the outcome of a nursery.
    pub(crate) fn count_strike(&self) -> Poll<()> {
        if self.is_exhausted() && self.is_cancelled() {
            return Poll::Pending;
        }
        self.context.set_strikes(self.context.strikes().saturating_add(1));
        Poll::Ready(())
    }

    /// Cancel points and schedule points that were passed without waiting, so far.
    #[cfg(feature = "testing")]
    pub(crate) fn points(&self) -> (u64, u64) {
        self.context.points()
    }

    pub(crate) fn strikes(&self) -> u16 {
        self.context.strikes()
    }

    pub(crate) fn set_strikes(&self, strikes: u16) {
        self.context.set_strikes(strikes);
    }

    /// Something succeeded: the task is not merely swallowing cancellations (rule F14).
    pub(crate) fn progress(&self) {
        self.context.set_strikes(0);
    }

    /// Whether the task has swallowed more than it may.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.context.strikes().saturating_add(1) >= PATIENCE
    }

    /// The schedule half of an operation that did not need to wait: now and then it does (rule A2).
    #[inline]
    pub(crate) fn poll_budget(
        self: &Rc<Self>,
        pause: &mut Option<Pause>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if pause.is_none() && self.spend_budget() {
            return Poll::Ready(());
        }
        self.poll_pause(pause, cx)
    }

    /// The same as a future.
    pub(crate) fn schedule_point(self: &Rc<Self>) -> impl Future<Output = ()> {
        let mut pause = None;
        poll_fn(move |cx| self.poll_budget(&mut pause, cx))
    }

    /// What an operation begins with that the kernel, or nobody, answers at once: it raises if a scope
    /// around is cancelled, and now and then lets others run. What it takes afterwards cannot be lost to a
    /// wait (rules A2, A8).
    pub(crate) fn answer_at_once(self: &Rc<Self>) -> impl Future<Output = Result<(), Cancelled>> {
        let mut pause = None;
        poll_fn(move |cx| {
            if pause.is_none() {
                ready!(self.cancel_point())?;
            }
            self.poll_budget(&mut pause, cx).map(Ok)
        })
    }

    /// Whether an operation may return at once; the next one perhaps not.
    #[inline]
    pub(crate) fn spend_budget(&self) -> bool {
        self.context.spend()
    }

    /// Waits for the next turn, because the budget is spent.
    pub(crate) fn poll_pause(
        self: &Rc<Self>,
        pause: &mut Option<Pause>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        ready!(pause.get_or_insert_with(|| Pause::new(self)).poll(cx));
        *pause = None;
        Poll::Ready(())
    }
}

/// Lets other tasks run, then raises if a scope around is cancelled (rule A5): the schedule comes
/// first, so a deadline that expired meanwhile is seen by this very checkpoint.
///
/// # Errors
/// [`Cancelled`], or [`Error::NoRun`](crate::Error::NoRun) outside of a run.
///
/// ```
/// trine::run(async || {
///     for _ in 0..10_000 {
///         // … a little work …
///         trine::checkpoint().await?;
///     }
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn checkpoint() -> impl Future<Output = Result> {
    let mut pause = None;
    let mut paused = false;
    poll_fn(move |cx| {
        let run = current()?;
        if !paused {
            let waiting = pause.get_or_insert_with(|| Pause::new(&run));
            waiting.check_running()?;
            ready!(waiting.poll(cx));
            (pause, paused) = (None, true);
        }
        let delivered = ready!(run.cancel_point());
        paused = false;
        Poll::Ready(delivered.map_err(Into::into))
    })
}

/// Raises if a scope around is cancelled; otherwise does nothing, at once (rule A6).
///
/// # Errors
/// As [`checkpoint`].
///
/// ```
/// # trine::run(async || {
/// trine::checkpoint_if_cancelled().await?;
/// # Ok(()) })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn checkpoint_if_cancelled() -> impl Future<Output = Result> {
    // Like every future of ours it stays on its thread (rule P6), though it holds nothing.
    let here = PhantomData::<Rc<()>>;
    poll_fn(move |_| {
        let _stays: &PhantomData<Rc<()>> = &here;
        Poll::Ready(Ok(ready!(current()?.cancel_point())?))
    })
}

/// Lets other tasks run, and raises nothing (rule A1). Outside of a run it does nothing.
///
/// ```
/// # trine::run(async || {
/// trine::yield_shielded().await;
/// # Ok(()) })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn yield_shielded() -> impl Future<Output = ()> {
    let mut pause = None;
    poll_fn(move |cx| {
        let Ok(run) = current() else { return Poll::Ready(()) };
        ready!(pause.get_or_insert_with(|| Pause::new(&run)).poll(cx));
        pause = None;
        Poll::Ready(())
    })
}
