//! The system calls on child processes.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::ptr;
use std::thread;

use super::socket::check;

/// A child process that is never left alone: dropped before it was waited for, it is killed, and waited for.
///
/// Until then its number is not given to another one, unless somebody else waits for it. So it is asked for
/// by its descriptor, which nobody else gets.
pub(crate) struct Process {
    child: Child,
    /// Can be read when the process has ended (`pidfd_open(2)`). There is none if the kernel has waited for
    /// it before we could ask.
    pidfd: Option<OwnedFd>,
    /// Signals go to its whole group.
    leads_group: bool,
    /// Nobody has to wait for it any more.
    reaped: bool,
}

impl Process {
    /// Starts one, and returns when it runs its program, which may take a moment.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Process> {
        let child = command.spawn()?;
        let id = child.id() as libc::pid_t;
        // SAFETY: no memory is involved.
        let pidfd = match check(unsafe { libc::syscall(libc::SYS_pidfd_open, id, 0) } as RawFd) {
            // SAFETY: just made, and nobody else has it.
            Ok(pidfd) => Some(unsafe { OwnedFd::from_raw_fd(pidfd) }),
            Err(error) if is_gone(&error) => None,
            Err(error) => {
                give_up(child);
                return Err(error);
            }
        };
        // SAFETY: no memory is involved.
        let leads_group = unsafe { libc::getpgid(id) } == id;
        let mut process = Process { child, pidfd, leads_group, reaped: false };
        // Of what the kernel has waited for at once the number may be somebody else's already.
        process.reaped = process.peek().is_err();
        Ok(process)
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
        let ended = ask(self.pidfd.as_ref(), libc::WNOHANG);
        self.reaped = !matches!(ended, Ok(None));
        ended
    }

    /// What it has ended with, if it has ended. Its number stays.
    pub(crate) fn peek(&self) -> io::Result<Option<ExitStatus>> {
        ask(self.pidfd.as_ref(), libc::WNOHANG | libc::WNOWAIT)
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
            Err(error) if is_gone(&error) => Ok(()),
            sent => sent,
        }
    }

    fn send_to_group(&self, signal: i32) -> io::Result<()> {
        let sent = self.send_by_descriptor(signal, libc::PIDFD_SIGNAL_PROCESS_GROUP);
        match sent {
            // Before Linux 6.9 a group has but its number. It keeps that while its leader is there.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let is_there = self.send_by_descriptor(0, 0);
                if is_there.as_ref().is_err_and(is_gone) {
                    return is_there;
                }
                // SAFETY: no memory is involved.
                check(unsafe { libc::kill(-(self.id() as libc::pid_t), signal) }).map(drop)
            }
            sent => sent,
        }
    }

    fn send_by_descriptor(&self, signal: i32, flags: libc::c_uint) -> io::Result<()> {
        let (pidfd, nothing) = (self.as_raw_fd(), ptr::null::<libc::siginfo_t>());
        // SAFETY: without a `siginfo_t` the kernel makes one.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, nothing, flags) };
        check(sent as libc::c_int).map(drop)
    }

    /// Whether somebody has to wait for it.
    fn is_left(&mut self) -> bool {
        !self.reaped && matches!(self.try_wait(), Ok(None))
    }

    /// Waits until it has ended, which is before whoever traces it has looked.
    fn await_end(&self) {
        let mut end = libc::pollfd { fd: self.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let is_interrupted = || io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        // SAFETY: `end` is one entry, and outlives the call.
        while unsafe { libc::poll(&mut end, 1, -1) } < 0 && is_interrupted() {}
    }
}

/// What a process has ended with, if it has ended. It fails if nobody can wait for it any more.
fn ask(pidfd: Option<&OwnedFd>, options: libc::c_int) -> io::Result<Option<ExitStatus>> {
    // SAFETY: it consists of numbers and of pointers that may be null.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let id = pidfd.map_or(-1, AsRawFd::as_raw_fd) as libc::id_t;
    // SAFETY: `info` is there to be written to until this returns.
    let asked = unsafe { libc::waitid(libc::P_PIDFD, id, &mut info, libc::WEXITED | options) };
    check(asked).map_err(|_gone| {
        let text = "somebody else has waited for this child, or the process ignores SIGCHLD";
        io::Error::new(io::Error::from_raw_os_error(libc::ECHILD).kind(), text)
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

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

/// Ends one that has no descriptor. Whoever must not kill it waits for it elsewhere.
fn give_up(mut child: Child) {
    if child.kill().is_ok() {
        let _ = child.wait();
    } else {
        wait_elsewhere(move || child.wait());
    }
}

/// Waits in a thread of its own, which nobody waits for. If there is none to be had, nothing is left to be
/// done.
fn wait_elsewhere<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) {
    let thread = thread::Builder::new().name("trine-reaper".to_owned());
    drop(thread.spawn(wait));
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_left() && self.send(libc::SIGKILL).is_ok() {
            // It is dying: this takes no time worth mentioning.
            self.await_end();
        }
        if self.is_left() {
            // It must not be killed, or whoever traces it has not looked yet: that takes as long as they like.
            let pidfd = self.pidfd.take();
            wait_elsewhere(move || ask(pidfd.as_ref(), 0));
        }
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.id())
    }
}
