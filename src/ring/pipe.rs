//! The system calls on pipes, and on the streams that a process is given.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use super::socket::{Linux, check};

impl Linux {
    /// The two ends of a pipe: what is read, and what is written to.
    pub(super) fn pipe(self) -> io::Result<(RawFd, RawFd)> {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
        let [reader, writer] = ends;
        Ok((reader, writer))
    }

    /// Has a pipe hold so many bytes, and says how many it does.
    pub(super) fn widen_pipe(self, fd: RawFd, bytes: u32) -> u32 {
        // SAFETY: no memory is involved. Where it may not be wider it stays as it is.
        let held = unsafe {
            libc::fcntl(fd, libc::F_SETPIPE_SZ, bytes as libc::c_int);
            libc::fcntl(fd, libc::F_GETPIPE_SZ)
        };
        u32::try_from(held).unwrap_or(0)
    }

    /// How many bytes wait in a stream to be read. What cannot tell has none.
    pub(super) fn unread(self, fd: RawFd) -> u32 {
        let mut bytes: libc::c_int = 0;
        // SAFETY: room for a number.
        let told = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut bytes) };
        if told < 0 { 0 } else { u32::try_from(bytes).unwrap_or(0) }
    }

    /// Takes so many bytes out of a pipe in which they lie. Should there be fewer it does not wait for more.
    pub(super) fn drain(self, fd: RawFd, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            if self.unread(fd) == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let room = bytes.spare_capacity_mut();
            // SAFETY: it writes at most as much as there is room for.
            let count = unsafe { libc::read(fd, room.as_mut_ptr().cast(), len - bytes.len()) };
            match usize::try_from(count) {
                // SAFETY: so many were written.
                Ok(count) => unsafe { bytes.set_len(bytes.len() + count) },
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        Ok(bytes)
    }

    /// A descriptor for the standard input, output or error: a duplicate. But with a non-blocking one the
    /// ring could not wait, and to change that would change it for all processes that share it. A pipe
    /// or a terminal can be opened once more instead.
    pub(super) fn standard(self, number: RawFd) -> io::Result<RawFd> {
        let flags = flags(number)?;
        if flags & libc::O_NONBLOCK == 0 {
            return self.duplicate(number);
        }
        if !matches!(mode(number)?, libc::S_IFIFO | libc::S_IFCHR) {
            return Err(unusable(number, NON_BLOCKING));
        }
        let access = flags & libc::O_ACCMODE;
        let opened = File::options()
            .read(access != libc::O_WRONLY)
            .write(access != libc::O_RDONLY)
            .custom_flags(libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{number}"));
        let opened = opened.map_err(|error| unusable(number, &format!("{NON_BLOCKING} ({error})")));
        Ok(opened?.into_raw_fd())
    }
}

/// What it is of: one of `S_IFMT`.
pub(super) fn mode(fd: RawFd) -> io::Result<libc::mode_t> {
    let mut about = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a valid place; all zeros is a valid `stat` already.
    let about = unsafe {
        check(libc::fstat(fd, about.as_mut_ptr()))?;
        about.assume_init()
    };
    Ok(about.st_mode & libc::S_IFMT)
}

/// How it was opened.
pub(super) fn flags(fd: RawFd) -> io::Result<i32> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fcntl(fd, libc::F_GETFL) })
}

pub(super) const NON_BLOCKING: &str =
    "is non-blocking: clear O_NONBLOCK, and the ring can wait with it";

pub(super) fn unusable(fd: RawFd, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {fd} {why}"))
}
