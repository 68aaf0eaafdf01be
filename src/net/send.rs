//! The write half of a stream.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use crate::error::{Error, Result};
use crate::exec::{self, Finished, Operation, Pause, Verdict, judge};
use crate::op::{BufError, IoBuf, Kind, Storage, Submission};

use super::receive::Receiving;
use super::stream::TcpStream;

#[derive(Default)]
pub(super) struct Sending {
    /// A write or a shutdown whose future was dropped. The next one waits for its end, which keeps the
    /// order.
    orphan: Option<Orphan>,
    /// Something of a dropped write went out, and its writer never heard how much (rule D7).
    broken: bool,
    /// It was shut down.
    shut: bool,
}

struct Orphan {
    operation: Operation,
    shuts: Option<i32>,
}

impl Sending {
    pub(super) fn into_operation(self) -> Option<Operation> {
        self.orphan.map(|orphan| orphan.operation)
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut
    }
}

/// Sends from a caller's buffer: what goes at once, or all of it.
pub(super) async fn write<B: IoBuf>(
    stream: &TcpStream,
    buf: B,
    all: bool,
) -> Result<(usize, B), BufError<B>> {
    let mut writer = match Writer::enter(stream) {
        Ok(writer) => writer,
        Err(error) => return Err(BufError::new(error, 0, buf)),
    };
    writer.len = buf.len();
    writer.storage = Some(Storage::new(buf));
    let outcome = poll_fn(|cx| writer.poll::<B>(all, cx)).await;
    let storage = writer.storage.take().expect("the writer has it when nothing is in flight");
    // The caller hears how much went out, so nothing is broken.
    let (done, buf) = (std::mem::take(&mut writer.done), storage.into_inner());
    match outcome {
        Ok(()) => Ok((done, buf)),
        Err(error) => Err(BufError::new(error, done, buf)),
    }
}

/// Whoever writes. Dropping it half-way leaves the operation with the stream.
pub(super) struct Writer<'a> {
    stream: &'a TcpStream,
    /// The buffer; the operation has it while one is in flight.
    storage: Option<Storage>,
    operation: Option<Operation>,
    /// The operation is a shutdown, of this.
    shuts: Option<i32>,
    len: usize,
    done: usize,
    attempts: u8,
    pause: Option<Pause>,
}

impl<'a> Writer<'a> {
    pub(super) fn enter(stream: &'a TcpStream) -> Result<Writer<'a>> {
        exec::check_run(&stream.run)?;
        stream.sending.enter(WRITE_HALF)?;
        Ok(Writer {
            stream,
            storage: None,
            operation: None,
            shuts: None,
            len: 0,
            done: 0,
            attempts: 0,
            pause: None,
        })
    }

    /// Waits for the end of a write that was dropped.
    pub(super) fn poll_former(&self, cx: &mut Context<'_>) -> Poll<Result> {
        ready!(self.stream.run.cancel_point())?;
        self.stream.sending.with(|half| {
            if let Some(Orphan { operation, shuts }) = &mut half.orphan {
                let Finished { result, .. } = ready!(operation.poll(cx));
                if let Some(how) = shuts.filter(|_| result == 0) {
                    half.shut = true;
                    if how == libc::SHUT_RDWR {
                        self.stream.receiving.with(Receiving::shut);
                    }
                }
                half.broken |= result > 0;
                half.orphan = None;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Shuts the half down, as often as it takes (rule D4).
    pub(super) fn poll_shut(&mut self, how: i32, cx: &mut Context<'_>) -> Poll<Result> {
        let run = &self.stream.run;
        loop {
            let Some(operation) = &mut self.operation else {
                ready!(run.cancel_point())?;
                let shutdown = Submission::shutdown(&self.stream.fd, how);
                self.operation = Some(Operation::start(run, cx, || shutdown));
                self.shuts = Some(how);
                return Poll::Pending;
            };
            let Finished { result, .. } = ready!(operation.poll(cx));
            self.operation = None;
            match ready!(judge(run, &Kind::SHUTDOWN, result, &mut self.attempts)) {
                Verdict::Result(result) => {
                    self.stream.sending.with(|half| half.shut |= result.is_ok());
                    return Poll::Ready(result.map(drop));
                }
                Verdict::Cancelled(cancelled) => return Poll::Ready(Err(cancelled.into())),
                Verdict::Again => {}
            }
        }
    }

    fn poll<B: IoBuf>(&mut self, all: bool, cx: &mut Context<'_>) -> Poll<Result> {
        let run = &self.stream.run;
        if self.operation.is_some() {
            ready!(self.poll_operation(cx))?;
            // What went out is reported, whatever was cancelled meanwhile (rule D4).
            if self.done == self.len || (!all && self.done > 0) {
                return Poll::Ready(Ok(()));
            }
        }
        if self.pause.is_none() {
            ready!(self.poll_former(cx))?;
            let (broken, shut) = self.stream.sending.with(|half| (half.broken, half.shut));
            if broken {
                return Poll::Ready(Err(Error::Broken(WRITE_HALF)));
            }
            if shut {
                return Poll::Ready(Err(Error::Closed(WRITE_HALF)));
            }
        }
        if self.len == 0 {
            ready!(run.poll_budget(&mut self.pause, cx));
            return Poll::Ready(Ok(()));
        }
        let storage = self.storage.take().expect("nothing is in flight");
        let send = Submission::send::<B>(&self.stream.fd, storage, self.done, all);
        self.operation = Some(Operation::start(run, cx, || send));
        Poll::Pending
    }

    /// The end of a send.
    fn poll_operation(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        let Some(operation) = &mut self.operation else { return Poll::Ready(Ok(())) };
        let Finished { result, storage } = ready!(operation.poll(cx));
        self.operation = None;
        self.storage = storage;
        match ready!(judge(&self.stream.run, &Kind::SEND, result, &mut self.attempts)) {
            Verdict::Result(Ok(0)) => {
                Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()))
            }
            Verdict::Result(Ok(count)) => {
                self.done += count as usize;
                Poll::Ready(Ok(()))
            }
            Verdict::Again => Poll::Ready(Ok(())),
            Verdict::Cancelled(cancelled) => Poll::Ready(Err(cancelled.into())),
            Verdict::Result(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        let operation = self.operation.take();
        self.stream.sending.with(|half| {
            half.broken |= self.done > 0;
            if let Some(operation) = operation {
                operation.cancel();
                half.orphan = Some(Orphan { operation, shuts: self.shuts });
            }
            // Also one that was waited for here: nobody does any more.
            if let Some(orphan) = &half.orphan {
                orphan.operation.rest();
            }
        });
        self.stream.sending.leave();
    }
}

const WRITE_HALF: &str = "the write half of the stream";
