//! The bell: how another thread ends the run's wait.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An eventfd that the ring reads. Whoever may ring it owns a share, so that a late ring never
/// writes into a descriptor number that has been given to something else.
#[derive(Debug)]
pub(crate) struct Bell {
    fd: OwnedFd,
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
        Ok(Bell { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Ends the current or the next wait. Allowed on any thread and in signal handlers.
    pub(crate) fn ring(&self) {
        ring(self.fd.as_raw_fd());
    }
}

/// Adds one stroke. It can only fail when the counter is full, and then the bell rings already.
pub(super) fn ring(fd: RawFd) {
    let stroke = 1_u64.to_ne_bytes();
    // SAFETY: eight readable bytes, as an eventfd wants them.
    unsafe { libc::write(fd, stroke.as_ptr().cast(), stroke.len()) };
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
