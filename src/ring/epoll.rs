//! Waiting for one thing only, where the ring's poll also ends by another.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::socket::check;

/// A descriptor that can be read whenever one of `events` is there of `fd`, or an error or a hang-up.
///
/// A poll of the ring ends by `POLLRDHUP` too, asked for or not: to wait for room to write to a peer that
/// has finished sending would be to ask over and over.
pub(crate) fn only(events: u32, fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: just made, and nobody else has it.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    let mut event = libc::epoll_event { events, u64: 0 };
    // SAFETY: one valid event, which the kernel copies.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })?;
    Ok(epoll)
}
