//! What can go wrong, and the one thing that is not an error: being cancelled.

mod cancelled;
mod group;
mod unavailable;
mod unwind;

use std::error::Error as StdError;
use std::io;

pub use cancelled::{Cancelled, Reason};
pub use group::Group;
pub use unavailable::Unavailable;
pub use unwind::Unwind;

/// What most of trine's functions return; `T` is `()` unless said otherwise.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Everything a task of trine can end with instead of a value.
///
/// It converts from and into [`io::Error`] without losing anything: a cancellation stays a
/// cancellation on both ways. As an `io::Error` its kind is never `Interrupted`, because loops in
/// the standard library and elsewhere retry on that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A surrounding scope was cancelled. Only that scope may absorb it (rules E1 to E8).
    #[error(transparent)]
    Cancelled(Cancelled),
    /// A [`fail_after`](crate::fail_after) ended its body; the reason says whether by its
    /// deadline or by an explicit cancel (rule E9).
    #[error("took too long: {0}")]
    TooSlow(Reason),
    /// The operating system refused.
    #[error(transparent)]
    Io(io::Error),
    /// Several children failed; the first leads (rule M4).
    #[error(transparent)]
    Group(Group),
    /// The object is in use: two tasks want the same half of a stream, say.
    #[error("{0} is in use by another task; one task at a time may use it")]
    Busy(&'static str),
    /// It cannot be had at once; a method with `try_` in its name does not wait.
    #[error("it cannot be had without waiting")]
    WouldBlock,
    /// The object was closed before.
    #[error("{0} is closed")]
    Closed(&'static str),
    /// The object can no longer keep its promise: part of a write whose future was dropped has
    /// gone out, and nobody knows how much. Close it.
    #[error("{0} is broken: a write was dropped half-way, and its progress is unknown; close it")]
    Broken(&'static str),
    /// A holder of the lock has panicked, and may have left what it guards half-changed.
    #[error("{0} is poisoned: a holder has panicked; mend the value and clear the poison")]
    Poisoned(&'static str),
    /// A child passed to [`Nursery::start`](crate::Nursery::start) ended without having called
    /// `Started::set` (rule N44).
    #[error("the child spawned at {0} ended without saying that it is ready")]
    NeverReady(&'static std::panic::Location<'static>),
    /// There is no run on this thread: call [`run`](crate::run) first.
    #[error("no trine run on this thread: use trine::run(async || …)")]
    NoRun,
    /// The object belongs to a run that has ended, or to another one (rule P6).
    #[error("this belongs to a run that has ended or to another run")]
    RunFinished,
    /// This machine gives no io_uring that trine can use; says why and what to do.
    #[error(transparent)]
    Unavailable(Unavailable),
    /// Nothing can ever wake this run again (rule P4); carries the task tree.
    #[error("deadlock: nothing is runnable, and nothing could wake it\n{0}")]
    Deadlock(String),
    /// The run has used up the turns or the time that it was given under test; carries the task tree.
    #[error("still running after all the turns or the time that it was given\n{0}")]
    Overrun(String),
    /// An error of the program.
    #[error(transparent)]
    Other(Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// The cancellation, if this error is one and nothing else.
    pub fn cancelled(&self) -> Option<&Cancelled> {
        match self {
            Error::Cancelled(cancelled) => Some(cancelled),
            _ => None,
        }
    }

    /// Whether this is a cancellation and nothing else.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled().is_some()
    }

    /// Whether a [`fail_after`](crate::fail_after) ended its body.
    pub fn is_too_slow(&self) -> bool {
        matches!(self, Error::TooSlow(_))
    }

    /// The [`io::ErrorKind`] of the operating system's error, if it is one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Error::Io(error) => Some(error.kind()),
            Error::Group(group) => group.lead().io_kind(),
            _ => None,
        }
    }

    /// An error of the program's own, from anything that describes itself.
    pub fn other(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::from(error.into())
    }
}

impl From<Cancelled> for Error {
    fn from(cancelled: Cancelled) -> Self {
        Error::Cancelled(cancelled)
    }
}

impl From<Unavailable> for Error {
    fn from(unavailable: Unavailable) -> Self {
        Error::Unavailable(unavailable)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        // It may lie deeper than one layer.
        if let Some(cancelled) = Unwind::cancelled(&error) {
            return Error::Cancelled(cancelled.clone());
        }
        match error.downcast::<Error>() {
            Ok(ours) => ours,
            Err(error) => Error::Io(error),
        }
    }
}

impl From<Box<dyn StdError + Send + Sync>> for Error {
    fn from(error: Box<dyn StdError + Send + Sync>) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => match error.downcast::<io::Error>() {
                Ok(error) => Error::from(*error),
                Err(error) => Error::Other(error),
            },
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let error = match error {
            Error::Io(error) => return error,
            error => error,
        };
        let kind = match &error {
            Error::TooSlow(_) => io::ErrorKind::TimedOut,
            Error::Unavailable(_) => io::ErrorKind::Unsupported,
            Error::Broken(_) => io::ErrorKind::BrokenPipe,
            Error::WouldBlock => io::ErrorKind::WouldBlock,
            Error::Group(group) => group.lead().io_kind().unwrap_or(io::ErrorKind::Other),
            // Not `Interrupted`, on which loops in std and futures retry.
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests;
