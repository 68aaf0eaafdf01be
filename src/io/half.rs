//! One half of an object: what only one task at a time may use.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Poll, ready};

use crate::error::{Error, Result};
use crate::exec::{self, Run};

/// The state of a half. The operations in it belong to the object and not to the future that waits for
/// them, so what arrives for a dropped future is still there (rule D7).
#[derive(Default)]
pub(crate) struct Half<T> {
    /// Boxed, so that taking it out is cheap; `None` is the default.
    state: Cell<Option<Box<T>>>,
    busy: Cell<bool>,
}

/// The state while it is out; it goes back also when the work panics.
struct Out<'a, T> {
    half: &'a Half<T>,
    state: Option<Box<T>>,
}

impl<T> Drop for Out<'_, T> {
    fn drop(&mut self) {
        self.half.state.set(self.state.take());
    }
}

impl<T: Default> Half<T> {
    /// Makes the caller its user, until [`leave`](Half::leave).
    pub(crate) fn enter(&self, what: &'static str) -> Result {
        if self.busy.replace(true) {
            return Err(Error::Busy(what));
        }
        Ok(())
    }

    /// Goes on with a wait, or begins one and makes the caller its user: `waiting` says which.
    #[inline]
    pub(crate) fn poll_wait(
        &self,
        run: &Rc<Run>,
        waiting: &mut bool,
        what: &'static str,
    ) -> Poll<Result> {
        if *waiting {
            return Poll::Ready(exec::check_running(run));
        }
        exec::check_run(run)?;
        ready!(run.cancel_point())?;
        self.enter(what)?;
        *waiting = true;
        Poll::Ready(Ok(()))
    }

    /// Makes the caller its user as long as it keeps what this returns.
    pub(crate) fn turn(&self, what: &'static str) -> Result<Turn<'_, T>> {
        self.enter(what)?;
        Ok(Turn { half: self })
    }

    /// Makes the caller its user, and does what an operation does before it takes what it need not wait
    /// for (rules A2, A8).
    pub(crate) async fn begin(&self, what: &'static str) -> Result<Turn<'_, T>> {
        let turn = self.turn(what)?;
        exec::current()?.answer_at_once().await?;
        Ok(turn)
    }

    pub(crate) fn leave(&self) {
        self.busy.set(false);
    }

    /// Whether the state was never worked on: it is the default.
    pub(crate) fn is_unused(&self) -> bool {
        let state = self.state.take();
        let unused = state.is_none();
        self.state.set(state);
        unused
    }

    /// Works on the state. It is taken out meanwhile, not borrowed: waiting may wake and drop, which
    /// is other people's code, and that may come here again.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let mut out = Out { half: self, state: self.state.take() };
        work(out.state.get_or_insert_default())
    }

    pub(crate) fn into_inner(self) -> T {
        self.state.into_inner().map_or_else(T::default, |state| *state)
    }
}

/// Somebody uses the half.
pub(crate) struct Turn<'a, T: Default> {
    half: &'a Half<T>,
}

impl<T: Default> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.half.leave();
    }
}
