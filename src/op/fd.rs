//! Counted descriptors: closed when the last one that may use them has gone.

use std::cell::Cell;
use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::{Rc, Weak};

use crate::ring::{Descriptor, Host};

/// Closes descriptors through the ring; a run.
pub(crate) trait Home {
    /// Takes the descriptor and closes it, or gives it back because it cannot.
    fn close(&self, fd: Sole) -> Result<(), Sole>;
}

/// A share in a descriptor. Every operation in flight holds one, so that a number can never be
/// closed, and given to something else, while the kernel works on it.
#[derive(Clone)]
pub(crate) struct Fd {
    shared: Rc<Shared>,
}

/// A descriptor in which nobody has a share any more: it is to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sole {
    pub(crate) raw: RawFd,
    /// Closing it may wait for the peer (`SO_LINGER`).
    pub(crate) lingers: bool,
}

/// By which operations bytes go through a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Through {
    /// Receives and sends.
    Socket,
    /// Reads and writes.
    Pipe,
}

/// The two ends of a pipe through which the kernel moves bytes. Whoever has it move some keeps both: to close
/// one while a worker of the kernel moves bytes would wait for that, in the run's thread.
#[derive(Clone)]
pub(crate) struct Ends {
    pub(crate) reader: Fd,
    pub(crate) writer: Fd,
}

struct Shared {
    /// Negative: taken by [`Fd::into_sole`].
    raw: Cell<RawFd>,
    lingers: Cell<bool>,
    through: Cell<Through>,
    home: Weak<dyn Home>,
    /// Closes it when its home is gone.
    host: Host,
}

impl Fd {
    pub(crate) fn new(fd: Descriptor, home: Weak<dyn Home>) -> Fd {
        let (raw, host) = fd.into_parts();
        let (raw, lingers, through) =
            (Cell::new(raw), Cell::new(false), Cell::new(Through::Socket));
        Fd { shared: Rc::new(Shared { raw, lingers, through, home, host }) }
    }

    /// Says that it is of a pipe. Others are of sockets.
    pub(crate) fn through_pipe(self) -> Fd {
        self.shared.through.set(Through::Pipe);
        self
    }

    pub(crate) fn through(&self) -> Through {
        self.shared.through.get()
    }

    /// Whether nobody else has a share.
    pub(crate) fn is_sole(&self) -> bool {
        Rc::strong_count(&self.shared) == 1
    }

    /// The descriptor itself, if nobody else has a share; else the share back.
    pub(crate) fn into_sole(self) -> Result<Sole, Fd> {
        self.take_sole().ok_or(self)
    }

    /// The descriptor itself, if this is the only share, which is of no use from then on.
    pub(crate) fn take_sole(&self) -> Option<Sole> {
        if !self.is_sole() || self.is_taken() {
            return None;
        }
        Some(Sole { raw: self.shared.raw.replace(-1), lingers: self.shared.lingers.get() })
    }

    /// The descriptor as one that somebody owns, if nobody else has a share; else the share back.
    pub(crate) fn into_descriptor(self) -> Result<Descriptor, Fd> {
        let Some(sole) = self.take_sole() else { return Err(self) };
        // SAFETY: it was owned here, and is given up.
        Ok(unsafe { self.shared.host.own(sole.raw) })
    }

    /// Whether somebody has taken the descriptor itself.
    pub(crate) fn is_taken(&self) -> bool {
        self.shared.raw.get() < 0
    }

    /// Whether closing it, or what a listener accepts, may wait for the peer.
    pub(crate) fn lingers(&self) -> bool {
        self.shared.lingers.get()
    }

    /// Says whether closing it may wait for the peer.
    pub(crate) fn set_lingers(&self, lingers: bool) {
        self.shared.lingers.set(lingers);
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
        let (home, fd) = (self.home.upgrade(), Sole { raw, lingers: self.lingers.get() });
        if let Err(fd) = home.map_or(Err(fd), |home| home.close(fd)) {
            self.host.close(fd.raw);
        }
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fd {}", self.as_raw_fd())
    }
}
