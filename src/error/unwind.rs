//! What an error type must be able to do for tasks to unwind with it.

use std::error::Error as StdError;
use std::io;

use super::{Cancelled, Error, Group};

/// An error type a task may unwind with.
///
/// Law: `scatter(gather(v))` gives the leaves of `v` in their order.
pub trait Unwind: From<Error> + From<Cancelled> + 'static {
    /// The cancellation, if the **whole** error is one: itself, inside an `io::Error`, or under
    /// layers of context. An error that merely has a cancellation among its causes is not one:
    /// a scope would swallow it.
    fn cancelled(&self) -> Option<&Cancelled>;

    /// Several errors as one; a single error stays itself. Never called with none.
    fn gather(errors: Vec<Self>) -> Self;

    /// The leaves of an error made by [`gather`](Unwind::gather); any other error is its only leaf.
    fn scatter(self) -> Vec<Self>;
}

impl Unwind for Error {
    fn cancelled(&self) -> Option<&Cancelled> {
        Error::cancelled(self)
    }

    fn gather(errors: Vec<Self>) -> Self {
        Group::gather(errors)
    }

    fn scatter(self) -> Vec<Self> {
        match self {
            Error::Group(group) => group.into_errors(),
            error => vec![error],
        }
    }
}

impl Unwind for io::Error {
    fn cancelled(&self) -> Option<&Cancelled> {
        let mut inner: &(dyn StdError + 'static) = self.get_ref()?;
        loop {
            if let Some(error) = inner.downcast_ref::<Error>() {
                return error.cancelled();
            }
            // `source()` of an `io::Error` skips what it wraps, so ask it directly.
            inner = inner.downcast_ref::<io::Error>()?.get_ref()?;
        }
    }

    fn gather(errors: Vec<Self>) -> Self {
        Group::gather(errors.into_iter().map(Error::from).collect()).into()
    }

    fn scatter(self) -> Vec<Self> {
        Error::from(self).scatter().into_iter().map(io::Error::from).collect()
    }
}

impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> Self {
        Error::Cancelled(cancelled).into()
    }
}
