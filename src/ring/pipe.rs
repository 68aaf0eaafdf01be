//! The system calls on pipes, and on the streams that a process is given.

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

    /// A duplicate of the standard input, output or error.
    pub(super) fn standard(self, number: RawFd) -> io::Result<RawFd> {
        if flags(number)? & libc::O_NONBLOCK != 0 {
            return Err(unusable(number, NON_BLOCKING));
        }
        // SAFETY: no memory is involved. The standard numbers are not given away again.
        checked(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1) })
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
    if about.st_mode & libc::S_IFMT != libc::S_IFIFO {
        return Err(unusable(fd.as_raw_fd(), "is no pipe"));
    }
    match flags(fd.as_raw_fd())? & libc::O_NONBLOCK {
        0 => Ok(()),
        _ => Err(unusable(fd.as_raw_fd(), NON_BLOCKING)),
    }
}

/// How it was opened.
fn flags(fd: RawFd) -> io::Result<i32> {
    // SAFETY: no memory is involved.
    checked(unsafe { libc::fcntl(fd, libc::F_GETFL) })
}

const NON_BLOCKING: &str = "is non-blocking: clear O_NONBLOCK, and the ring can wait with it";

fn unusable(fd: RawFd, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {fd} {why}"))
}
