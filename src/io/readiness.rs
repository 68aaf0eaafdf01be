//! Waiting until a descriptor that is somebody else's can be read or written.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::error::{Error, Result};
use crate::exec::{self, Operation, Run, Verdict, judge};
use crate::op::{Finished, Kind, Submission};
use crate::ring::epoll;

use super::half::Half;

/// A descriptor of another library, or one whose operations trine does not have, and the wait until it
/// is ready.
///
/// The ring says when, and whoever has the value does the rest, on a descriptor that does not block. A wait
/// is one poll of the kernel (`IORING_OP_POLL_ADD`): it ends at once if the descriptor is ready already,
/// however often it is asked (level-triggered), and also when there is an error or the other end has hung
/// up, which the next read or write then tells.
///
/// One task at a time may wait to read, and one to write. The value is kept until this is dropped, and the
/// descriptor must stay the one that it was when this was made; if something else closes it, say so before
/// with [`notify_closing`](Readiness::notify_closing). The kernel holds on to what it polls: dropped with a
/// wait under way, the descriptor is closed, but the other end hears of it only when the kernel has let go,
/// a turn later.
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use trine::io::Readiness;
///
/// trine::run(async || {
///     let (foreign, mut peer) = UnixStream::pair()?;
///     foreign.set_nonblocking(true)?;
///     let foreign = Readiness::new(foreign)?;
///     peer.write_all(b"hello")?;
///     let mut bytes = [0; 16];
///     let count = foreign.read_with(|mut foreign| foreign.read(&mut bytes)).await?;
///     assert_eq!(&bytes[..count], b"hello");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct Readiness<T> {
    /// Dropped before the value: what has not gone to the kernel is withdrawn before the number is free.
    polled: Polled,
    value: T,
}

impl<T: AsRawFd> Readiness<T> {
    /// Watches the descriptor of `value`, which is asked for once.
    ///
    /// # Errors
    /// [`Error::NoRun`] outside of a run.
    pub fn new(value: T) -> Result<Readiness<T>> {
        let (run, fd) = (exec::current()?, value.as_raw_fd());
        let polled = Polled {
            run,
            fd,
            closing: Cell::new(false),
            reading: Half::default(),
            writing: Half::default(),
        };
        Ok(Readiness { polled, value })
    }

    /// Tries `operation` until it does not say `WouldBlock` any more, and waits in between until the
    /// descriptor can be read. It may be called in vain.
    ///
    /// Cancel class: total, if `operation` does nothing where it fails: it is not called any more once
    /// `Cancelled` is raised, and what it returns is never lost.
    ///
    /// # Errors
    /// Those of `operation`, and of [`readable`](Readiness::readable).
    pub async fn read_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> Result<R> {
        self.with(libc::POLLIN, operation).await
    }

    /// As [`read_with`](Readiness::read_with), for what waits until the descriptor can be written.
    ///
    /// Cancel class: as for [`read_with`](Readiness::read_with).
    ///
    /// # Errors
    /// Those of `operation`, and of [`writable`](Readiness::writable).
    pub async fn write_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> Result<R> {
        self.with(libc::POLLOUT, operation).await
    }

    async fn with<R>(
        &self,
        event: i16,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Result<R> {
        let run = &self.polled.run;
        exec::check_run(run)?;
        // Before, not after: what it returns must not be lost to one who is dropped while waiting.
        run.answer_at_once().await?;
        loop {
            match operation(&self.value) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.polled.ready(event).await?;
                }
                done => {
                    run.progress();
                    return Ok(done?);
                }
            }
        }
    }
}

impl<T> Readiness<T> {
    /// Waits until the descriptor can be read: there is something, or its end, or an error, or the other
    /// end has hung up.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// [`Error::Busy`] if another task waits for the same; [`Error::Closed`] after
    /// [`notify_closing`](Readiness::notify_closing); `EBADF` if the descriptor is not open; `Cancelled`.
    pub fn readable(&self) -> Ready<'_> {
        self.polled.ready(libc::POLLIN)
    }

    /// Waits until the descriptor can be written: there is room, or an error, or the other end has hung up.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// As [`readable`](Readiness::readable).
    pub fn writable(&self) -> Ready<'_> {
        self.polled.ready(libc::POLLOUT)
    }

    /// Says that the descriptor is about to be closed, by whoever it belongs to: those who wait get
    /// [`Error::Closed`], and so does everybody who asks from now on. Not a checkpoint.
    ///
    /// Only needed where the value does not own the descriptor: the kernel does not tell those who poll of a
    /// close, and the number may be given to something else.
    ///
    /// ```
    /// use std::os::fd::AsRawFd;
    /// use std::os::unix::net::UnixStream;
    /// use trine::io::Readiness;
    /// use trine::{Error, nursery};
    ///
    /// trine::run(async || {
    ///     let (owner, _peer) = UnixStream::pair()?;
    ///     let borrowed = Readiness::new(owner.as_raw_fd())?;
    ///     nursery(async |n| {
    ///         n.spawn(async {
    ///             let closed = borrowed.readable().await;
    ///             assert!(matches!(closed, Err(Error::Closed(_))));
    ///             Ok(())
    ///         });
    ///         trine::checkpoint().await?;
    ///         borrowed.notify_closing();
    ///         drop(owner);
    ///         Ok(())
    ///     })
    ///     .await
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn notify_closing(&self) {
        self.polled.closing.set(true);
        for half in [&self.polled.reading, &self.polled.writing] {
            half.with(|active| active.iter().for_each(Operation::cancel));
        }
    }

    /// The value.
    pub fn get_ref(&self) -> &T {
        &self.value
    }

    /// The value. Its descriptor must stay the same.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.value
    }

    /// Gives the value back.
    pub fn into_inner(self) -> T {
        let Readiness { polled, value } = self;
        drop(polled);
        value
    }
}

/// A descriptor, and the polls of it.
struct Polled {
    run: Rc<Run>,
    fd: RawFd,
    /// Its owner is about to close it.
    closing: Cell<bool>,
    reading: Half<Option<Operation>>,
    writing: Half<Option<Operation>>,
}

impl Polled {
    fn ready(&self, event: i16) -> Ready<'_> {
        Ready { polled: self, event, waiting: false, attempts: 0, detour: None }
    }
}

/// The wait until a descriptor is ready: [`Readiness::readable`], [`Readiness::writable`].
#[must_use = "nothing is waited for unless it is awaited"]
pub struct Ready<'a> {
    polled: &'a Polled,
    event: i16,
    waiting: bool,
    attempts: u8,
    /// Polled instead, once the descriptor itself was found to end polls by what nobody waits for.
    detour: Option<OwnedFd>,
}

impl<'a> Ready<'a> {
    fn half(&self) -> &'a Half<Option<Operation>> {
        if self.event == libc::POLLIN { &self.polled.reading } else { &self.polled.writing }
    }

    fn poll_ready(&mut self, active: &mut Option<Operation>, cx: &mut Context<'_>) -> Poll<Result> {
        let Polled { run, fd, closing, .. } = self.polled;
        loop {
            if closing.get() {
                *active = None;
                return Poll::Ready(Err(Error::Closed(WHAT)));
            }
            let Some(operation) = active else {
                ready!(run.cancel_point())?;
                let (fd, event) = match &self.detour {
                    None => (*fd, self.event),
                    Some(detour) => (detour.as_raw_fd(), libc::POLLIN),
                };
                let poll = || Submission::poll(fd, event as u32);
                *active = Some(Operation::start(run, cx, poll));
                return Poll::Pending;
            };
            let Finished { result, .. } = ready!(operation.poll(cx));
            *active = None;
            if closing.get() {
                continue;
            }
            match ready!(judge(run, &Kind::POLL, result, &mut self.attempts)) {
                Verdict::Again => {}
                Verdict::Result(Ok(events)) if events == libc::POLLRDHUP as u32 => {
                    self.detour = Some(epoll::only(self.event as u32, *fd)?);
                }
                Verdict::Result(result) => return Poll::Ready(result.map(drop)),
                Verdict::Cancelled(cancelled) => return Poll::Ready(Err(cancelled.into())),
            }
        }
    }
}

const WHAT: &str = "the descriptor";

impl Future for Ready<'_> {
    type Output = Result;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result> {
        let half = self.half();
        ready!(half.poll_wait(&self.polled.run, &mut self.waiting, WHAT))?;
        let ready = ready!(half.with(|active| self.poll_ready(active, cx)));
        half.leave();
        (self.waiting, self.attempts) = (false, 0);
        Poll::Ready(ready)
    }
}

impl Drop for Ready<'_> {
    /// What the kernel knows of the descriptor it will know the next time, too.
    fn drop(&mut self) {
        if self.waiting {
            let half = self.half();
            drop(half.with(Option::take));
            half.leave();
        }
    }
}

impl<T: AsRawFd> AsRawFd for Readiness<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.polled.fd
    }
}

impl<T: fmt::Debug> fmt::Debug for Readiness<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.value).finish()
    }
}

impl fmt::Debug for Ready<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.event == libc::POLLIN { "Readable" } else { "Writable" };
        f.debug_tuple(what).field(&self.polled.fd).finish()
    }
}
