//! The write half of a stream.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use crate::error::{Error, Result};
use crate::exec::{self, Finished, Operation, Verdict, judge};
use crate::op::{BufError, IoBuf, Kind, Storage, Submission};

use super::stream::TcpStream;

#[derive(Default)]
pub(super) struct Sending {
    /// A write whose future was dropped. The next one waits for its end, which keeps the order.
    orphan: Option<Operation>,
    /// Something of a dropped write went out, and its writer never heard how much (rule D7).
    broken: bool,
    /// It was shut down.
    shut: bool,
}

impl Sending {
    pub(super) fn into_operation(self) -> Option<Operation> {
        self.orphan
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut
    }

    pub(super) fn shut(&mut self) {
        self.shut = true;
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
    if let Err(error) = poll_fn(|cx| writer.poll_ready(cx)).await {
        return Err(BufError::new(error, 0, buf));
    }
    let len = buf.len();
    if len == 0 {
        let mut pause = None;
        poll_fn(|cx| stream.run.poll_budget(&mut pause, cx)).await;
        return Ok((0, buf));
    }
    let mut storage = Storage::new(buf);
    loop {
        let (sent, back) = writer.send::<B>(storage, all).await;
        storage = back;
        let outcome = match sent {
            Ok(()) if writer.done == len || (!all && writer.done > 0) => Ok(()),
            // The rest: after looking whether it is still wanted.
            Ok(()) => match poll_fn(|_| stream.run.cancel_point()).await {
                Ok(()) => continue,
                Err(cancelled) => Err(cancelled.into()),
            },
            Err(error) => Err(error),
        };
        let done = writer.finish();
        let buf = storage.into_inner();
        return match outcome {
            Ok(()) => Ok((done, buf)),
            Err(error) => Err(BufError::new(error, done, buf)),
        };
    }
}

/// Whoever writes. Dropping it half-way leaves the operation with the stream.
pub(super) struct Writer<'a> {
    stream: &'a TcpStream,
    operation: Option<Operation>,
    done: usize,
    attempts: u8,
}

impl<'a> Writer<'a> {
    pub(super) fn enter(stream: &'a TcpStream) -> Result<Writer<'a>> {
        exec::check_run(&stream.run)?;
        stream.sending.enter(WRITE_HALF)?;
        Ok(Writer { stream, operation: None, done: 0, attempts: 0 })
    }

    /// Waits for the end of a write that was dropped.
    pub(super) fn poll_former(&self, cx: &mut Context<'_>) -> Poll<Result> {
        ready!(self.stream.run.cancel_point())?;
        self.stream.sending.with(|half| {
            if let Some(orphan) = &mut half.orphan {
                let Finished { answer, .. } = ready!(orphan.poll(cx));
                half.broken |= answer.result > 0;
                half.orphan = None;
            }
            Poll::Ready(Ok(()))
        })
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result> {
        ready!(self.poll_former(cx))?;
        Poll::Ready(match self.stream.sending.with(|half| (half.broken, half.shut)) {
            (true, _) => Err(Error::Broken(WRITE_HALF)),
            (_, true) => Err(Error::Closed(WRITE_HALF)),
            _ => Ok(()),
        })
    }

    /// One send; what it sent is added to `done`.
    async fn send<B: IoBuf>(&mut self, storage: Storage, all: bool) -> (Result, Storage) {
        let run = &self.stream.run;
        let send = Submission::send::<B>(&self.stream.fd, storage, self.done, all);
        let finished = Operation::finish_in(&mut self.operation, run, send);
        let Finished { answer, storage } = finished.await;
        self.operation = None;
        let storage = storage.expect("a send has storage");
        let verdict = poll_fn(|_| judge(run, &Kind::SEND, answer.result, &mut self.attempts));
        let sent = match verdict.await {
            Verdict::Result(Ok(0)) => Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Verdict::Result(Ok(count)) => {
                self.done += count as usize;
                Ok(())
            }
            Verdict::Again => Ok(()),
            Verdict::Cancelled(cancelled) => Err(cancelled.into()),
            Verdict::Result(Err(error)) => Err(error),
        };
        (sent, storage)
    }

    /// The writer hears how much went out, so nothing is broken.
    fn finish(&mut self) -> usize {
        std::mem::take(&mut self.done)
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        let operation = self.operation.take();
        self.stream.sending.with(|half| {
            half.broken |= self.done > 0;
            if let Some(operation) = operation {
                operation.cancel();
                operation.rest();
                half.orphan = Some(operation);
            }
        });
        self.stream.sending.leave();
    }
}

const WRITE_HALF: &str = "the write half of the stream";
