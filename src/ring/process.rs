//! The system calls on child processes.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::ptr;

use super::socket::check;

/// A child process that is never left alone: dropped before it was waited for, it is killed, and waited for.
///
/// Until then its number is not given to another one, unless somebody else waits for it. So it is asked for
/// by its descriptor, which nobody else gets.
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

    /// What it has ended with, if it has ended. Then its number is free.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let ended = wait(&self.pidfd, libc::WNOHANG);
        self.reaped = !matches!(ended, Ok(None));
        ended
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
        let to_group = self.leads_group.then(|| self.send_to_group(signal));
        // SAFETY: no memory is involved.
        let is_in_group = || unsafe { libc::getpgid(id) } == id;
        let sent = match to_group {
            // One that is to be waited for must have got it itself: it may have left its group, or it
            // must not be signalled while others of its group may be.
            Some(sent) if signal != libc::SIGKILL && is_in_group() => sent,
            _ => self.send_by_descriptor(signal, 0),
        };
        match sent {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }

    fn send_to_group(&self, signal: i32) -> io::Result<()> {
        let sent = self.send_by_descriptor(signal, libc::PIDFD_SIGNAL_PROCESS_GROUP);
        match sent {
            // Before Linux 6.9 a group has but its number. It keeps that while its leader is there.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let is_there = self.send_by_descriptor(0, 0);
                if is_there.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH)) {
                    return is_there;
                }
                // SAFETY: no memory is involved.
                check(unsafe { libc::kill(-(self.id() as libc::pid_t), signal) }).map(drop)
            }
            sent => sent,
        }
    }

    fn send_by_descriptor(&self, signal: i32, flags: libc::c_uint) -> io::Result<()> {
        let (pidfd, nothing) = (self.pidfd.as_raw_fd(), ptr::null::<libc::siginfo_t>());
        // SAFETY: without a `siginfo_t` the kernel makes one.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, nothing, flags) };
        check(sent as libc::c_int).map(drop)
    }
}

/// What a process has ended with. It fails if nobody can wait for it any more.
fn wait(pidfd: &OwnedFd, options: libc::c_int) -> io::Result<Option<ExitStatus>> {
    // SAFETY: it consists of numbers and of pointers that may be null.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let (id, options) = (pidfd.as_raw_fd() as libc::id_t, libc::WEXITED | options);
    // SAFETY: `info` is there to be written to until this returns.
    check(unsafe { libc::waitid(libc::P_PIDFD, id, &mut info, options) }).map_err(|error| {
        let text = "somebody else has waited for this child, or this process ignores SIGCHLD";
        io::Error::new(error.kind(), text)
    })?;
    // SAFETY: these are filled in for a child, and zero if there is nothing to tell.
    let (id, told) = unsafe { (info.si_pid(), info.si_status()) };
    let status = match info.si_code {
        libc::CLD_EXITED => (told & 0xff) << 8,
        libc::CLD_DUMPED => told | 0x80,
        _killed => told,
    };
    Ok((id != 0).then(|| ExitStatus::from_raw(status)))
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.try_wait(), Ok(None)) && self.send(libc::SIGKILL).is_ok() {
            // It is dying: this takes no time worth mentioning. A failure leaves nothing to be done.
            let _ = wait(&self.pidfd, 0);
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
