//! Descriptors from elsewhere, and for elsewhere.

use std::fmt;
use std::io;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::exec::{self, Run};
use crate::op::Fd;
use crate::ring::{Descriptor, FdKind};

/// What could not be made a [`Descriptor`] comes back with the error.
///
/// `?` turns it into an [`Error`] and drops the object.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct IntoFdError<T> {
    /// Why.
    #[source]
    pub error: Error,
    /// It can be used as before.
    pub object: T,
}

impl<T> IntoFdError<T> {
    pub(crate) fn new(error: impl Into<Error>, object: T) -> IntoFdError<T> {
        IntoFdError { error: error.into(), object }
    }

    /// The same of what the object is a part of.
    pub(crate) fn of<U>(self, whole: impl FnOnce(T) -> U) -> IntoFdError<U> {
        IntoFdError { error: self.error, object: whole(self.object) }
    }
}

impl<T> fmt::Debug for IntoFdError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoFdError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> From<IntoFdError<T>> for Error {
    fn from(failed: IntoFdError<T>) -> Error {
        failed.error
    }
}

impl<T> From<IntoFdError<T>> for io::Error {
    fn from(failed: IntoFdError<T>) -> io::Error {
        failed.error.into()
    }
}

/// Takes a descriptor from elsewhere, if it is what it is to be.
pub(crate) fn take(fd: impl Into<Descriptor>, kind: FdKind) -> Result<(Rc<Run>, Descriptor)> {
    let (run, fd) = (exec::current()?, fd.into());
    run.host().check_kind(&fd, kind)?;
    Ok((run, fd))
}

/// Gives one away that nothing is in flight on.
pub(crate) fn give(fd: Fd) -> Result<Descriptor, IntoFdError<Fd>> {
    const WHAT: &str = "the descriptor";
    fd.into_descriptor().map_err(|fd| {
        let error = if fd.is_taken() { Error::Closed(WHAT) } else { Error::Busy(WHAT) };
        IntoFdError::new(error, fd)
    })
}

/// Something has arrived that nobody has taken: whoever gets the descriptor would never see it.
pub(crate) fn unread(what: &str) -> Error {
    let text =
        format!("{what} already, and would be lost: take what is there first, and try again");
    Error::Io(io::Error::new(io::ErrorKind::ResourceBusy, text))
}

/// Implements `duplicate` and `into_fd` for an object by those of a part of it. The rest of it is kept.
macro_rules! fds_of_a_part {
    ($object:ident, $part:ident $(, $rest:ident)*) => {
        impl $object {
            /// Makes a second descriptor of the same, to be sent or handed to somebody.
            ///
            /// # Errors
            /// `EMFILE` where there are too many descriptors.
            pub fn duplicate(&self) -> std::io::Result<crate::io::Descriptor> {
                let number = std::os::fd::AsRawFd::as_raw_fd(self);
                self.$part.run().host().duplicate(number)
            }

            /// Gives the descriptor away. What the kernel still does for former receives is cancelled and
            /// waited for, so nothing uses it any more.
            ///
            /// Cancel class: total; but a dropped one closes it. Linux 6.1.
            ///
            /// # Errors
            /// With each of them the object comes back as it was. `ResourceBusy` if something has arrived that
            /// nobody has taken, since it would be lost: take that and try again.
            /// [`Error::Busy`](crate::Error::Busy) if an operation of a dropped future has not ended,
            /// [`Error::Broken`](crate::Error::Broken) after a dropped write of which something went out; what
            /// a receive would have reported; `Cancelled`.
            pub async fn into_fd(
                self,
            ) -> Result<crate::io::Descriptor, crate::io::IntoFdError<$object>> {
                let $object { $part $(, $rest)* } = self;
                let given = $part.into_fd().await;
                given.map_err(|kept| kept.of(|$part| $object { $part $(, $rest)* }))
            }
        }
    };
}

pub(crate) use fds_of_a_part;
