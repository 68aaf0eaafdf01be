//! The bell: how another thread ends the run's wait.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
#[cfg(feature = "testing")]
use std::time::Duration;

#[cfg(feature = "testing")]
use crate::primitives::{Condvar, Mutex, lock, wait_while};

/// Whoever may ring it owns a share, so that a late ring never writes into a descriptor number that
/// has been given to something else.
#[derive(Debug)]
pub(crate) enum Bell {
    /// An eventfd that the ring reads.
    Event(OwnedFd),
    /// A flag: a run on a simulated kernel takes it, and waits for it when only another thread can help.
    #[cfg(feature = "testing")]
    Twin(Struck),
}

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        // Not non-blocking: the kernel would fail the ring's read instead of letting it wait.
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else has it.
        Ok(Bell::Event(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Without a kernel.
    #[cfg(feature = "testing")]
    pub(crate) fn twin() -> Bell {
        Bell::Twin(Struck::default())
    }

    /// Ends the current or the next wait. Allowed on any thread.
    pub(crate) fn ring(&self) {
        match self {
            Bell::Event(fd) => ring(fd.as_raw_fd()),
            #[cfg(feature = "testing")]
            Bell::Twin(struck) => struck.strike(),
        }
    }

    /// Waits, in real time, for a stroke, where no kernel does that; `false`: there was none.
    #[cfg(feature = "testing")]
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        match self {
            Bell::Event(_) => false,
            Bell::Twin(struck) => struck.wait(timeout),
        }
    }

    /// The eventfd, for those who may do no more than write to it: signal handlers.
    pub(super) fn event(&self) -> Option<RawFd> {
        match self {
            Bell::Event(fd) => Some(fd.as_raw_fd()),
            #[cfg(feature = "testing")]
            Bell::Twin(_) => None,
        }
    }
}

/// Adds one stroke. It can only fail when the counter is full, and then the bell rings already.
/// Allowed in signal handlers.
pub(super) fn ring(fd: RawFd) {
    let stroke = 1_u64.to_ne_bytes();
    // SAFETY: eight readable bytes, as an eventfd wants them.
    unsafe { libc::write(fd, stroke.as_ptr().cast(), stroke.len()) };
}

/// A bell without a kernel.
#[cfg(feature = "testing")]
#[derive(Debug, Default)]
pub(crate) struct Struck {
    struck: Mutex<bool>,
    changed: Condvar,
}

#[cfg(feature = "testing")]
impl Struck {
    fn strike(&self) {
        *lock(&self.struck) = true;
        self.changed.notify_all();
    }

    /// Takes the stroke if there is one.
    pub(super) fn take(&self) -> bool {
        std::mem::take(&mut *lock(&self.struck))
    }

    /// Waits, in real time, until it is struck, and takes the stroke; `false`: it was not.
    fn wait(&self, timeout: Duration) -> bool {
        let struck = lock(&self.struck);
        std::mem::take(&mut *wait_while(&self.changed, struck, timeout, |struck| !*struck))
    }
}
