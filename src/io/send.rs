//! The write half of a stream.

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::error::{Error, Result};
use crate::exec::{self, OneShot, Operation, Pause, Run};
use crate::op::{BufError, Ends, Finished, IoBuf, IoBufs, Storage, Submission, Through};
use crate::ring::{Descriptor, HERE};

use super::halves::Halves;
use super::receive::Receiving;

#[derive(Default)]
pub(super) struct Sending {
    /// A write or a shutdown whose future was dropped. The next one waits for its end, which keeps the
    /// order.
    orphan: Option<Orphan>,
    /// Something of a dropped write went out, and its writer never heard how much (rule D7); or nothing, and nobody
    /// has the bytes any more.
    broken: bool,
    /// It was shut down.
    shut: bool,
    /// From how many bytes on it sends without a copy.
    zero_copy: Option<usize>,
}

struct Orphan {
    operation: Operation,
    shuts: Option<Shutdown>,
}

impl Sending {
    pub(super) fn into_operation(self) -> Option<Operation> {
        self.orphan.map(|orphan| orphan.operation)
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut
    }

    pub(super) fn shut(&mut self) {
        self.shut = true;
    }

    /// Whether it is known how much went out.
    pub(super) fn check_whole(&self) -> Result {
        if self.broken { Err(Error::Broken(WRITE_HALF)) } else { Ok(()) }
    }

    /// There is a gap in what is written.
    pub(super) fn lose(&mut self) {
        self.broken = true;
    }

    pub(super) fn set_zero_copy(&mut self, least: Option<usize>) {
        self.zero_copy = least;
    }

    /// Waits for the end of a write or a shutdown that was dropped.
    fn poll_former(&mut self, stream: &Halves, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(Orphan { operation, shuts }) = &mut self.orphan {
            // Its buffer is dropped last: that is other people's code, which may panic.
            let Finished { result, storage: _storage, .. } = ready!(operation.poll(cx));
            if let Some(how) = shuts.filter(|_| result == 0) {
                self.shut = true;
                if how == Shutdown::Both {
                    stream.receiving.with(Receiving::shut);
                }
            }
            self.broken |= result > 0;
            self.orphan = None;
        }
        Poll::Ready(())
    }
}

/// Sends from a caller's buffer: what goes at once, or all of it.
///
/// Written by hand, because as `async fn`s inside of one another the buffer and what comes of it
/// would be moved at every level.
pub(super) struct Write<'a, B> {
    writer: Writer<'a>,
    how: How,
    buffer: PhantomData<fn() -> B>,
}

impl<'a, B: IoBuf> Write<'a, B> {
    #[inline]
    pub(super) fn new(stream: &'a Halves, buf: B, all: bool) -> Self {
        let writer = Writer::new(stream, Some(Storage::to_send(buf, stream.run.shelf())));
        let how = if all { How::All } else { How::Once };
        Write { writer, how, buffer: PhantomData }
    }
}

impl<B: IoBuf> Future for Write<'_, B> {
    /// How many bytes went out, and the buffer.
    type Output = Result<(usize, B), BufError<B>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Write { writer, how, .. } = &mut *self;
        let outcome = ready!(writer.poll(*how, cx));
        let done = writer.finish();
        let storage = writer.once.take_storage().expect("nothing is in flight");
        let buf = storage.into_inner(writer.stream.run.shelf());
        Poll::Ready(match outcome {
            Ok(()) => Ok((done, buf)),
            Err(error) => Err(BufError::new(error, done, buf)),
        })
    }
}

/// Sends all of a caller's buffer, and descriptors with its first byte.
pub(super) struct WriteFds<'a, B> {
    writer: Writer<'a>,
    /// Why nothing is sent at all.
    refused: Option<io::Error>,
    buffer: PhantomData<fn() -> B>,
}

impl<'a, B: IoBuf> WriteFds<'a, B> {
    pub(super) fn new(stream: &'a Halves, buf: B, fds: Vec<Descriptor>) -> Self {
        let refused = check_fds(&stream.run, buf.len(), &fds).err();
        let storage = Storage::message_with_descriptors(buf, None, fds, stream.run.shelf());
        let writer = Writer::new(stream, Some(storage));
        WriteFds { writer, refused, buffer: PhantomData }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        if let Some(refused) = self.refused.take() {
            return Poll::Ready(Err(refused.into()));
        }
        let writer = &mut self.writer;
        if !writer.entered {
            writer.enter_to_write()?;
        }
        while writer.done == 0 {
            if !writer.once.is_in_flight() {
                ready!(writer.poll_ready(cx))?;
                let (run, fd) = (&writer.stream.run, &writer.stream.fd);
                writer.once.start(run, cx, |storage| {
                    Submission::send_message(fd, storage.expect("it is not polled after its end"))
                });
                return Poll::Pending;
            }
            ready!(writer.poll_operation(cx))?;
            if writer.done == writer.len() {
                return Poll::Ready(Ok(()));
            }
        }
        // The descriptors went with what went first: the rest is bytes.
        writer.poll(How::All, cx)
    }
}

impl<B: IoBuf> Future for WriteFds<'_, B> {
    type Output = Result<B, BufError<B>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(self.poll_send(cx));
        let writer = &mut self.writer;
        let done = writer.finish();
        let storage = writer.once.take_storage().expect("nothing is in flight");
        let buf = storage.into_message_buf(writer.stream.run.shelf());
        Poll::Ready(match outcome {
            Ok(()) => Ok(buf),
            Err(error) => Err(BufError::new(error, done, buf)),
        })
    }
}

/// Sends all of several buffers.
pub(super) struct WriteSeveral<'a, L> {
    writer: Writer<'a>,
    buffers: PhantomData<fn() -> L>,
}

impl<'a, L: IoBufs> WriteSeveral<'a, L> {
    pub(super) fn new(stream: &'a Halves, bufs: L) -> Self {
        let storage = Storage::several_to_send(bufs, stream.run.shelf());
        WriteSeveral { writer: Writer::new(stream, Some(storage)), buffers: PhantomData }
    }
}

impl<L: IoBufs> Future for WriteSeveral<'_, L> {
    type Output = Result<L, BufError<L>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let writer = &mut self.writer;
        let outcome = ready!(writer.poll(How::Several, cx));
        let done = writer.finish();
        let storage = writer.once.take_storage().expect("nothing is in flight");
        let bufs = storage.into_several(writer.stream.run.shelf());
        Poll::Ready(match outcome {
            Ok(()) => Ok(bufs),
            Err(error) => Err(BufError::new(error, done, bufs)),
        })
    }
}

/// Checks what the kernel would refuse without a word, or with one that says little.
fn check_fds(run: &Run, len: usize, fds: &[Descriptor]) -> io::Result<()> {
    if len == 0 {
        let text = "descriptors go with bytes, and there is none: send at least one";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    run.host().check_to_send(fds)
}

/// Moves all of so many bytes out of a pipe.
pub(super) struct Splice<'a> {
    writer: Writer<'a>,
    pipe: RawFd,
}

impl<'a> Splice<'a> {
    pub(super) fn new(stream: &'a Halves, pipe: &Ends, len: usize) -> Self {
        let writer = Writer::new(stream, Some(Storage::piped(pipe.clone(), len)));
        Splice { writer, pipe: pipe.reader.as_raw_fd() }
    }
}

impl Future for Splice<'_> {
    type Output = Result<(), BufError<()>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let how = How::Splice(self.pipe);
        let outcome = ready!(self.writer.poll(how, cx));
        let done = self.writer.finish();
        Poll::Ready(outcome.map_err(|error| BufError::new(error, done, ())))
    }
}

/// How much is written, and from where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// What goes at once.
    Once,
    All,
    /// All of what lies in several places.
    Several,
    /// All that is to be moved out of a pipe.
    Splice(RawFd),
}

/// Whether the memory is sent from where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ZeroCopy {
    No,
    Yes,
    /// The kernel did not want to.
    Refused,
}

/// Whoever writes. Dropping it half-way leaves the operation with the stream.
pub(super) struct Writer<'a> {
    stream: &'a Halves,
    /// It has the write half.
    entered: bool,
    /// A send, or a shutdown.
    once: OneShot,
    /// It is a shutdown, of this.
    shuts: Option<Shutdown>,
    zero_copy: ZeroCopy,
    done: usize,
    pause: Option<Pause>,
}

impl<'a> Writer<'a> {
    /// Writes the storage, or shuts the half if there is none.
    pub(super) fn new(stream: &'a Halves, storage: Option<Storage>) -> Writer<'a> {
        Writer {
            stream,
            entered: false,
            once: OneShot::new(storage),
            shuts: None,
            zero_copy: ZeroCopy::No,
            done: 0,
            pause: None,
        }
    }

    /// Takes the write half.
    pub(super) fn enter(&mut self) -> Result {
        exec::check_run(&self.stream.run)?;
        self.stream.sending.enter(WRITE_HALF)?;
        self.entered = true;
        Ok(())
    }

    /// The same for a write, which must not hold the half after its end.
    #[inline]
    fn enter_to_write(&mut self) -> Result {
        assert!(self.once.has_storage(), "a write is not polled after its end");
        self.once.storage().check_whole()?;
        self.enter()
    }

    /// Waits for the end of a write that was dropped.
    pub(super) fn poll_former(&self, cx: &mut Context<'_>) -> Poll<Result> {
        exec::check_running(&self.stream.run)?;
        ready!(self.stream.run.cancel_point())?;
        if self.stream.sending.is_unused() {
            return Poll::Ready(Ok(()));
        }
        self.stream.sending.with(|half| half.poll_former(self.stream, cx)).map(Ok)
    }

    /// Waits until a write may begin, and says from how many bytes on it is sent without a copy.
    #[inline]
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>>> {
        ready!(self.stream.run.cancel_point())?;
        if self.stream.sending.is_unused() {
            return Poll::Ready(Ok(None));
        }
        self.poll_used(cx)
    }

    /// The same where something was done with the half already that is of account.
    #[cold]
    fn poll_used(&self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>>> {
        ready!(self.stream.sending.with(|half| half.poll_former(self.stream, cx)));
        Poll::Ready(self.stream.sending.with(|half| match half {
            Sending { broken: true, .. } => Err(Error::Broken(WRITE_HALF)),
            Sending { shut: true, .. } => Err(Error::Closed(WRITE_HALF)),
            Sending { zero_copy, .. } => Ok(*zero_copy),
        }))
    }

    /// Shuts the half down, as often as it takes (rule D4).
    pub(super) fn poll_shut(&mut self, how: Shutdown, cx: &mut Context<'_>) -> Poll<Result> {
        let Writer { stream, once, shuts, .. } = self;
        let shut = ready!(once.poll(cx, |_| {
            *shuts = Some(how);
            Submission::shutdown(&stream.fd, how)
        }));
        stream.sending.with(|half| half.shut |= shut.is_ok());
        Poll::Ready(shut.map(drop))
    }

    /// Sends what is in the storage. After the end, [`finish`](Writer::finish) has the outcome.
    fn poll(&mut self, how: How, cx: &mut Context<'_>) -> Poll<Result> {
        if !self.entered {
            self.enter_to_write()?;
        }
        if self.once.is_in_flight() {
            ready!(self.poll_operation(cx))?;
            // What went out is reported, whatever was cancelled meanwhile (rule D4).
            if self.done > 0 && (how == How::Once || self.done == self.len()) {
                return Poll::Ready(Ok(()));
            }
        }
        let zero_copy = if self.pause.is_none() { ready!(self.poll_ready(cx))? } else { None };
        let run = &self.stream.run;
        if self.len() == 0 {
            ready!(run.poll_budget(&mut self.pause, cx));
            return Poll::Ready(Ok(()));
        }
        let zero_copy =
            how == How::All && zero_copy.is_some_and(|least| self.wants_zero_copy(least));
        let (fd, done) = (&self.stream.fd, self.done);
        let through = fd.through();
        self.once.start(run, cx, |storage| {
            let storage = storage.expect("looked at above");
            match (how, through) {
                (How::Splice(pipe), _) => Submission::splice_out(pipe, storage, done, fd),
                (How::Several, Through::Socket) => Submission::send_several(fd, storage, done),
                (How::Several, Through::Pipe) => Submission::write_several(fd, storage, done, HERE),
                (_, Through::Socket) if zero_copy => Submission::send_zero_copy(fd, storage, done),
                (_, Through::Socket) => Submission::send(fd, storage, done, how == How::All),
                (_, Through::Pipe) => Submission::write(fd, storage, done, HERE),
            }
        });
        Poll::Pending
    }

    /// Whether what is left, if it is at least so much, is to be sent without a copy.
    #[cold]
    fn wants_zero_copy(&mut self, least: usize) -> bool {
        if self.zero_copy == ZeroCopy::Refused {
            return false;
        }
        if self.len() - self.done >= least {
            self.zero_copy = ZeroCopy::Yes;
        }
        self.zero_copy == ZeroCopy::Yes
    }

    /// What a send without a copy has come to, where it is not what any other would have.
    #[cold]
    fn end_zero_copy(&mut self, result: i32) -> Option<Poll<Result>> {
        self.zero_copy = ZeroCopy::No;
        match -result {
            // It cannot be done, or not now: the bytes are copied then.
            refusal @ (libc::EOPNOTSUPP | libc::ENOMEM | libc::ENOBUFS) => {
                self.zero_copy = ZeroCopy::Refused;
                if refusal == libc::EOPNOTSUPP {
                    self.stream.sending.with(|half| half.set_zero_copy(None));
                }
                Some(Poll::Ready(Ok(())))
            }
            // The connection was ended, for the sake of the memory: what is on the way is lost.
            ..0 if self.was_broken_off() => {
                self.done += result as usize;
                Some(self.stream.run.cancel_point().map_err(Into::into))
            }
            _ => None,
        }
    }

    /// How much there is to be sent.
    fn len(&mut self) -> usize {
        self.once.storage().len()
    }

    /// The end of a send.
    #[inline(always)]
    fn poll_operation(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        let (kind, result) = ready!(self.once.poll_result(cx));
        if self.zero_copy == ZeroCopy::Yes {
            if let Some(ended) = self.end_zero_copy(result) {
                return ended;
            }
        }
        Poll::Ready(match ready!(self.once.judge(&self.stream.run, kind, result))? {
            Some(0) => Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            count => {
                self.done += count.unwrap_or(0) as usize;
                Ok(())
            }
        })
    }

    /// Whether a cancellation has ended the connection. One that came when the peer had everything
    /// already has not.
    fn was_broken_off(&self) -> bool {
        let run = &self.stream.run;
        run.is_cancelled() && run.host().peer_addr(self.stream.fd.as_raw_fd()).is_err()
    }

    /// Gives the half back, and says how much went out: whoever writes hears of it, so nothing is
    /// broken.
    fn finish(&mut self) -> usize {
        let done = mem::take(&mut self.done);
        self.leave();
        done
    }

    fn leave(&mut self) {
        if !mem::replace(&mut self.entered, false) {
            return;
        }
        if self.done > 0 || self.once.is_in_flight() || !self.stream.sending.is_unused() {
            self.abandon();
        }
        self.stream.sending.leave();
    }

    /// Leaves what it does and what it waited for to the half.
    #[cold]
    fn abandon(&mut self) {
        let operation = self.once.take_operation();
        self.stream.sending.with(|half| {
            half.broken |= self.done > 0;
            if let Some(operation) = operation {
                operation.give_up();
                half.orphan = Some(Orphan { operation, shuts: self.shuts });
            }
            // Also one that was waited for here: nobody does any more.
            if let Some(orphan) = &half.orphan {
                orphan.operation.rest();
            }
        });
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

const WRITE_HALF: &str = "the write half of the stream";
