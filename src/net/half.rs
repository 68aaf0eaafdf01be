//! One half of an object: what only one task at a time may use.

use std::cell::Cell;

use crate::error::{Error, Result};

/// The state of a half. The operations in it belong to the object and not to the future that waits for
/// them, so what arrives for a dropped future is still there (rule D7).
#[derive(Default)]
pub(super) struct Half<T> {
    /// Boxed, so that taking it out is cheap; `None` is the default.
    state: Cell<Option<Box<T>>>,
    busy: Cell<bool>,
}

impl<T: Default> Half<T> {
    /// Makes the caller its user, until [`leave`](Half::leave).
    pub(super) fn enter(&self, what: &'static str) -> Result {
        if self.busy.replace(true) {
            return Err(Error::Busy(what));
        }
        Ok(())
    }

    pub(super) fn leave(&self) {
        self.busy.set(false);
    }

    /// Works on the state. It is taken out meanwhile, not borrowed: waiting may wake and drop, which
    /// is other people's code, and that may come here again.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let mut state = self.state.take().unwrap_or_default();
        let result = work(&mut state);
        self.state.set(Some(state));
        result
    }

    pub(super) fn into_inner(self) -> T {
        self.state.into_inner().map_or_else(T::default, |state| *state)
    }
}
