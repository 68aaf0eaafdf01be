//! The system calls on pipes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::socket::{Linux, check as checked};

impl Linux {
    /// The two ends of a pipe: what is read, and what is written to.
    pub(super) fn pipe(self) -> io::Result<(RawFd, RawFd)> {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        checked(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
        let [reader, writer] = ends;
        Ok((reader, writer))
    }
}

/// Checks that a descriptor is an end of a pipe, and a blocking one: of others the kernel fails an
/// operation instead of having it wait.
pub(super) fn check(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut about = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a valid place; all zeros is a valid `stat` already.
    let about = unsafe {
        checked(libc::fstat(fd.as_raw_fd(), about.as_mut_ptr()))?;
        about.assume_init()
    };
    // SAFETY: no memory is involved.
    let flags = checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let wrong = if about.st_mode & libc::S_IFMT != libc::S_IFIFO {
        "is no pipe"
    } else if flags & libc::O_NONBLOCK != 0 {
        "is non-blocking: clear O_NONBLOCK, and the ring can wait with it"
    } else {
        return Ok(());
    };
    let text = format!("descriptor {} {wrong}", fd.as_raw_fd());
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}
