//! Counted descriptors: closed when the last one that may use them has gone.

use std::cell::Cell;
use std::fmt;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::{Rc, Weak};

use crate::ring;

/// Closes descriptors through the ring; a run.
pub(crate) trait Home {
    /// Takes the descriptor and closes it, or gives it back because it cannot.
    fn close(&self, fd: RawFd) -> Result<(), RawFd>;
}

/// A share in a descriptor. Every operation in flight holds one, so that a number can never be
/// closed, and given to something else, while the kernel works on it.
#[derive(Clone)]
pub(crate) struct Fd {
    shared: Rc<Shared>,
}

struct Shared {
    /// Negative: taken by [`Fd::into_sole`].
    raw: Cell<RawFd>,
    home: Weak<dyn Home>,
}

impl Fd {
    pub(crate) fn new(fd: OwnedFd, home: Weak<dyn Home>) -> Fd {
        Fd { shared: Rc::new(Shared { raw: Cell::new(fd.into_raw_fd()), home }) }
    }

    /// The descriptor itself, if nobody else has a share; else the share back.
    pub(crate) fn into_sole(self) -> Result<RawFd, Fd> {
        if Rc::strong_count(&self.shared) > 1 {
            return Err(self);
        }
        Ok(self.shared.raw.replace(-1))
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.shared.raw.get()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let raw = self.raw.get();
        if raw < 0 {
            return;
        }
        let home = self.home.upgrade();
        if let Err(fd) = home.map_or(Err(raw), |home| home.close(raw)) {
            ring::close_now(fd);
        }
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fd {}", self.as_raw_fd())
    }
}
