//! The system calls on child processes.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Child, Command, ExitStatus};

use super::socket::check;

/// A child process that is never left alone: dropped before it was waited for, it is killed, and waited for.
///
/// Until then its number is not given to another one, so that signals reach it and nobody else.
pub(crate) struct Process {
    child: Child,
    /// Can be read when the process has ended (`pidfd_open(2)`).
    pidfd: OwnedFd,
    /// Signals go to its whole group.
    leads_group: bool,
    /// Nobody has to wait for it any more.
    reaped: bool,
}

impl Process {
    /// Starts one, and returns when it runs its program, which may take a moment.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Process> {
        let mut child = command.spawn()?;
        let id = child.id() as libc::pid_t;
        // SAFETY: no memory is involved.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, id, 0) };
        if pidfd < 0 {
            let error = io::Error::last_os_error();
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
        // SAFETY: just made, and nobody else has it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as RawFd) };
        // SAFETY: no memory is involved.
        let leads_group = unsafe { libc::getpgid(id) } == id;
        Ok(Process { child, pidfd, leads_group, reaped: false })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Our ends of its standard input, output and error, where they are pipes.
    pub(crate) fn take_pipes(&mut self) -> [Option<OwnedFd>; 3] {
        let Child { stdin, stdout, stderr, .. } = &mut self.child;
        [stdin.take().map(Into::into), stdout.take().map(Into::into), stderr.take().map(Into::into)]
    }

    /// What it has ended with, if it has ended.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let ended = self.child.try_wait();
        let gone = |error: &io::Error| error.raw_os_error() == Some(libc::ECHILD);
        self.reaped |= matches!(ended, Ok(Some(_))) || ended.as_ref().is_err_and(gone);
        ended.map_err(|error| match gone(&error) {
            true => io::Error::new(error.kind(), "somebody else has waited for this child"),
            false => error,
        })
    }

    pub(crate) fn is_reaped(&self) -> bool {
        self.reaped
    }

    /// Sends it a signal, and to the others of its group if it leads one. Where nobody is left, nothing
    /// happens.
    pub(crate) fn send(&self, signal: i32) -> io::Result<()> {
        if self.reaped {
            return Ok(());
        }
        let id = self.id() as libc::pid_t;
        // SAFETY: no memory is involved. The number is still the group's.
        let to_group = self.leads_group.then(|| unsafe { libc::kill(-id, signal) });
        // SAFETY: no memory is involved.
        let is_in_group = || unsafe { libc::getpgid(id) } == id;
        let sent = match to_group {
            // One that is to be waited for must have got it itself: it may have left its group, or it
            // must not be signalled while others of its group may be.
            Some(sent) if signal != libc::SIGKILL && is_in_group() => sent,
            _ => {
                let (pidfd, nothing) =
                    (self.pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
                // SAFETY: without a `siginfo_t` the kernel makes one.
                let sent = unsafe {
                    libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, nothing, 0)
                };
                sent as libc::c_int
            }
        };
        match check(sent) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.try_wait(), Ok(None)) && self.send(libc::SIGKILL).is_ok() {
            // It is dying: this takes no time worth mentioning. A failure leaves nothing to be done.
            let _ = self.child.wait();
        }
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.id())
    }
}
