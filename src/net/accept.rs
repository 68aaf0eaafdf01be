//! Taking connections, of whatever family.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::error::Result;
use crate::exec::{self, Operation, Pause, Run, Verdict, judge};
use crate::io::{self, Half, IntoFdError};
use crate::op::{Fd, Kind, Submission, Taken};
use crate::ring::Descriptor;

/// A socket that listens.
pub(super) struct Acceptor {
    run: Rc<Run>,
    fd: Fd,
    accepting: Half<Accepting>,
}

#[derive(Default)]
struct Accepting {
    /// The accept that the kernel has.
    active: Option<Operation>,
    /// A multishot was refused: for being one, if a single one is not.
    refused: bool,
    /// Connections that came when the listener was to be given away. They may linger: whom nobody takes the
    /// run closes.
    stash: VecDeque<Fd>,
}

impl Acceptor {
    pub(super) fn new(run: Rc<Run>, socket: Descriptor) -> Acceptor {
        let fd = run.adopt(socket);
        Acceptor { run, fd, accepting: Half::default() }
    }

    pub(super) fn run(&self) -> &Rc<Run> {
        &self.run
    }

    /// Says whether closing what it accepts may wait for the peer.
    pub(super) fn set_lingers(&self, lingers: bool) {
        self.fd.set_lingers(lingers);
    }

    pub(super) fn accept(&self) -> AcceptSocket<'_> {
        AcceptSocket { acceptor: self, waiting: false, attempts: 0, pause: None }
    }

    /// Gives the descriptor away, if there is no connection that would be lost.
    pub(super) async fn into_fd(self) -> Result<Descriptor, IntoFdError<Acceptor>> {
        match self.settle().await {
            Ok(()) => {}
            Err(error) => return Err(IntoFdError::new(error, self)),
        }
        let Acceptor { run, fd, accepting } = self;
        io::give(fd).map_err(|kept| kept.of(|fd| Acceptor { run, fd, accepting }))
    }

    async fn settle(&self) -> Result {
        exec::check_run(&self.run)?;
        self.run.answer_at_once().await?;
        poll_fn(|cx| self.accepting.with(|half| half.poll_nothing(self, cx))).await
    }

    fn adopt(&self, socket: Descriptor) -> Fd {
        let fd = self.run.adopt(socket);
        fd.set_lingers(self.fd.lingers());
        fd
    }

    pub(super) async fn close(self) -> Result {
        let operation = self.accepting.into_inner().active;
        io::close(&self.run, self.fd, operation.into_iter().collect()).await
    }
}

impl Accepting {
    /// Ends what the kernel does; an error if there are connections that nobody has taken.
    fn poll_nothing(&mut self, of: &Acceptor, cx: &mut Context<'_>) -> Poll<Result> {
        while let Some(operation) = &mut self.active {
            operation.cancel();
            let Taken { value, more, .. } = ready!(operation.poll_descriptor(cx));
            self.stash.extend(value.map(|socket| of.adopt(socket)));
            if !more {
                self.active = None;
            }
        }
        Poll::Ready(match self.stash.is_empty() {
            true => Ok(()),
            false => Err(io::unread("connections were accepted")),
        })
    }
}

impl AsRawFd for Acceptor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fd.fmt(f)
    }
}

/// How many connections may wait unless it is said: more than that the kernel allows nobody
/// (`net.core.somaxconn`).
pub(super) const BACKLOG: u32 = 0xffff;

/// The wait for the socket of a connection. Awaited again it waits for the next one.
pub(super) struct AcceptSocket<'a> {
    acceptor: &'a Acceptor,
    waiting: bool,
    attempts: u8,
    pause: Option<Pause>,
}

impl AcceptSocket<'_> {
    /// Whether closing what it accepts may wait for the peer.
    #[inline]
    pub(super) fn lingers(&self) -> bool {
        self.acceptor.fd.lingers()
    }

    /// `make` makes of a socket what is wanted; where it fails the connection has died in the queue, and
    /// the next one is waited for.
    #[inline]
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        make: impl FnMut(&Rc<Run>, Descriptor) -> std::io::Result<T>,
    ) -> Poll<Result<T>> {
        let Acceptor { run, accepting, .. } = self.acceptor;
        ready!(accepting.poll_wait(run, &mut self.waiting, "the listener"))?;
        let accepted = ready!(accepting.with(|half| self.poll_accept(half, cx, make)));
        accepting.leave();
        (self.waiting, self.attempts) = (false, 0);
        Poll::Ready(accepted)
    }

    fn poll_accept<T>(
        &mut self,
        half: &mut Accepting,
        cx: &mut Context<'_>,
        mut make: impl FnMut(&Rc<Run>, Descriptor) -> std::io::Result<T>,
    ) -> Poll<Result<T>> {
        let Acceptor { run, fd, .. } = self.acceptor;
        let Accepting { active, refused, stash } = half;
        while let Some(socket) = stash.pop_front() {
            // Nobody else has a share in it.
            let Ok(socket) = socket.into_descriptor() else { continue };
            if let Ok(accepted) = make(run, socket) {
                return Poll::Ready(Ok(accepted));
            }
        }
        loop {
            let Some(operation) = active else {
                ready!(run.cancel_point())?;
                let multishot = run.capabilities().multishot_accept && !*refused;
                let accept = Submission::accept(fd, multishot);
                *active = Some(Operation::start_repeating(run, cx, accept));
                return Poll::Pending;
            };
            if operation.unread() > 0 {
                ready!(run.poll_budget(&mut self.pause, cx));
            }
            let Taken { result, value, more } = ready!(operation.poll_descriptor(cx));
            let was_refused = mem::replace(refused, operation.is_refusal(result));
            if !more {
                *active = None;
            }
            if let Some(socket) = value {
                if was_refused {
                    run.lacks(|capabilities| capabilities.multishot_accept = false);
                }
                run.progress();
                match make(run, socket) {
                    Ok(accepted) => return Poll::Ready(Ok(accepted)),
                    Err(_) => continue,
                }
            }
            if *refused {
                continue;
            }
            match ready!(judge(run, &Kind::ACCEPT, result, &mut self.attempts)) {
                Verdict::Again | Verdict::Result(Ok(_)) => {}
                Verdict::Cancelled(cancelled) => return Poll::Ready(Err(cancelled.into())),
                Verdict::Result(Err(error)) if is_passing(-result) => drop(error),
                Verdict::Result(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Drop for AcceptSocket<'_> {
    /// The kernel goes on accepting, for the next one who waits, until the scope ends.
    fn drop(&mut self) {
        if self.waiting {
            self.acceptor.accepting.with(|half| half.active.iter().for_each(Operation::rest));
            self.acceptor.accepting.leave();
        }
    }
}

impl fmt::Debug for AcceptSocket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.acceptor.fmt(f)
    }
}

/// Errors that concern one connection or the moment, not the listener: what Trio's listener ignores.
fn is_passing(errno: i32) -> bool {
    matches!(
        errno,
        libc::EPERM
            | libc::ECONNABORTED
            | libc::EPROTO
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
            | libc::ENOSR
            | libc::ESOCKTNOSUPPORT
            | libc::EPROTONOSUPPORT
            | libc::ETIMEDOUT
            | libc::ECONNRESET
    )
}
