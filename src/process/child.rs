//! A child process that runs.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use crate::error::Result;
use crate::exec::{self, Run};
use crate::op::Submission;
use crate::pipe::{PipeReader, PipeWriter};
use crate::scope::{move_on_after, shield};
use crate::signal::Signal;
use crate::time::sleep;

use super::ward::Ward;

/// How long it takes to ask again for a status that nobody tells of.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A child process that was started by [`Command::spawn`](super::Command::spawn).
///
/// It is never left alone, and never a zombie: dropped before it was waited for, it is killed (`SIGKILL`),
/// and the enclosing scope waits until it is dead. To have it end by itself first, call
/// [`stop`](Child::stop); [`Command::spawn_with`](super::Command::spawn_with) does so by itself. If this very
/// process is killed, its children live on. One that is traced when it dies is a zombie until its tracer has
/// looked, and nothing here waits for that.
///
/// A child that leads a process group of its own
/// ([`process_group(0)`](super::Command::process_group)) gets signals together with its group.
pub struct Child {
    /// Dropped first: it is killed before it could see its pipes closed.
    process: RefCell<Ward>,
    /// What it reads as its standard input, if that was to be a pipe. Close it, or drop it, to have it see
    /// the end.
    pub stdin: Option<PipeWriter>,
    /// What it writes to its standard output, if that was to be a pipe.
    pub stdout: Option<PipeReader>,
    /// What it writes to its standard error, if that was to be a pipe.
    pub stderr: Option<PipeReader>,
    run: Rc<Run>,
    /// Whoever stops it has a share: meanwhile it is not reaped.
    stops: Rc<()>,
    status: Cell<Option<ExitStatus>>,
    grace: Duration,
    id: u32,
}

impl Child {
    pub(super) fn new(run: Rc<Run>, mut process: Ward, grace: Duration) -> Result<Child> {
        let [stdin, stdout, stderr] = process.take_pipes();
        Ok(Child {
            stdin: stdin.map(PipeWriter::from_fd).transpose()?,
            stdout: stdout.map(PipeReader::from_fd).transpose()?,
            stderr: stderr.map(PipeReader::from_fd).transpose()?,
            run,
            stops: Rc::default(),
            id: process.id(),
            process: RefCell::new(process),
            status: Cell::new(None),
            grace,
        })
    }

    /// The number of the process. When it was waited for, another one may get it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits until it has ended, and says how. It may be called again, and by several tasks at a time.
    ///
    /// The child is not told: one that is cancelled or dropped here lives on for as long as this handle does,
    /// so that `move_on_after(time, async |_| child.wait().await)` is a wait with a limit. A child that fills
    /// a pipe that nobody reads does not end. Whoever traces it (`gdb`, `strace`) is told first how it has
    /// ended.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// `ECHILD` if somebody else has waited for it, or the process ignores SIGCHLD; `Cancelled`.
    ///
    /// ```
    /// use trine::process::Command;
    ///
    /// trine::run(async || {
    ///     let child = Command::new("sh").args(["-c", "exit 3"]).spawn().await?;
    ///     assert_eq!(child.wait().await?.code(), Some(3));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn wait(&self) -> Result<ExitStatus> {
        exec::check_run(&self.run)?;
        self.run.answer_at_once().await?;
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(status) = self.try_wait()? {
                self.run.progress();
                return Ok(status);
            }
            self.ended().await?;
            // Whoever traces it is told first, and nobody tells when that was.
            if self.try_wait()?.is_none() {
                sleep(pause).await?;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
    }

    /// How it has ended, if it has. Not a checkpoint.
    ///
    /// # Errors
    /// As [`wait`](Child::wait).
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        if self.status.get().is_none() {
            // Its number is its group's, and there may be something to be sent to that.
            if Rc::strong_count(&self.stops) > 1 {
                return self.process.borrow().peek();
            }
            self.status.set(self.process.borrow_mut().try_wait()?);
        }
        Ok(self.status.get())
    }

    /// Waits until it has ended; its status and its number stay.
    async fn ended(&self) -> Result {
        let fd = self.process.borrow().as_raw_fd();
        exec::submit_plain(|| Submission::poll(fd, libc::POLLIN as u32)).await
    }

    /// Sends it a signal. One that has ended gets none, and that is no error.
    ///
    /// # Errors
    /// `EPERM` if it has become another user; `EINVAL` for what is no signal.
    pub fn send_signal(&self, signal: Signal) -> io::Result<()> {
        self.process.borrow().send(signal.as_raw())
    }

    /// Asks it to end (`SIGTERM`), which it may take its time for, or ignore.
    ///
    /// # Errors
    /// As [`send_signal`](Child::send_signal).
    pub fn terminate(&self) -> io::Result<()> {
        self.send_signal(Signal::TERMINATE)
    }

    /// Ends it (`SIGKILL`). It is still to be waited for, or to be dropped.
    ///
    /// # Errors
    /// As [`send_signal`](Child::send_signal).
    pub fn kill(&self) -> io::Result<()> {
        self.send_signal(Signal::KILL)
    }

    /// Ends it, and waits until it has ended: it is asked to (`SIGTERM`), and when its
    /// [grace](super::Command::grace) is over, it and what is left of its group is killed.
    ///
    /// In a cancelled scope it is ended all the same, with all its grace, and `Cancelled` is reported
    /// (rule M2).
    ///
    /// # Errors
    /// `Cancelled`; those of [`send_signal`](Child::send_signal) and [`wait`](Child::wait).
    ///
    /// ```
    /// use std::os::unix::process::ExitStatusExt;
    /// use trine::process::Command;
    ///
    /// trine::run(async || {
    ///     let child = Command::new("sleep").arg("1000").spawn().await?;
    ///     assert_eq!(child.stop().await?.signal(), Some(15));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn stop(&self) -> Result<ExitStatus> {
        exec::check_run(&self.run)?;
        let stopped = shield(async {
            if !self.process.borrow().is_reaped() {
                let _stop = Rc::clone(&self.stops);
                self.terminate()?;
                move_on_after(self.grace, async |_| self.ended().await).await?;
                self.kill()?;
            }
            self.wait().await
        });
        let status = stopped.await?;
        self.run.closing_point()?;
        Ok(status)
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id)
            .field("status", &self.status.get())
            .finish_non_exhaustive()
    }
}
