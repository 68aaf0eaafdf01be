//! The read half of a stream.
//!
//! A multishot goes on between two receives: what arrives meanwhile waits for the next one.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::error::Result;
use crate::exec::{self, OneShot, Operation, Pause, Run, Verdict, judge};
use crate::op::{
    BufError, Chunk, Ends, Finished, IoBufMut, Kind, Remains, Storage, Submission, Taken, Through,
};
use crate::ring::{Descriptor, Descriptors, HERE};
use crate::runtime::POOL_GROUP;

use super::descriptors::unread;
use super::halves::Halves;
use super::passage::Passage;

#[derive(Default)]
pub(super) struct Receiving {
    /// Bytes that arrived for futures that were dropped, oldest first.
    stash: VecDeque<Chunk>,
    active: Active,
    /// The peer has ended the stream.
    ended: bool,
    /// The pool was empty and may not grow: the next receive brings its own memory.
    short: bool,
    /// It was shut down.
    shut: bool,
}

/// What the kernel is doing for the half.
#[derive(Default)]
enum Active {
    #[default]
    Nothing,
    /// It receives into the pool, again and again where it can.
    Pool(Operation),
    /// It receives into memory of its own; the bytes are wanted, the buffer is not.
    Owned(Operation),
    /// It moves bytes into a pipe, from where they are wanted back.
    Diverted(Box<Diverted>),
    /// It has failed with this behind the bytes in the stash, which come first.
    Failed(i32),
}

/// A move into a pipe whose future was dropped.
struct Diverted {
    operation: Operation,
    pipe: Ends,
}

impl Active {
    fn operation(&self) -> Option<&Operation> {
        match self {
            Active::Nothing | Active::Failed(_) => None,
            Active::Pool(operation) | Active::Owned(operation) => Some(operation),
            Active::Diverted(diverted) => Some(&diverted.operation),
        }
    }
}

impl Receiving {
    pub(super) fn into_operation(self) -> Option<Operation> {
        match self.active {
            Active::Nothing | Active::Failed(_) => None,
            Active::Pool(operation) | Active::Owned(operation) => Some(operation),
            Active::Diverted(diverted) => Some(diverted.operation),
        }
    }

    /// Whether there is nothing left to shut.
    pub(super) fn is_shut(&self) -> bool {
        self.shut || self.ended
    }

    pub(super) fn shut(&mut self) {
        self.shut = true;
    }

    /// Takes what has arrived; an error is returned once. Pending while the kernel still works and
    /// nothing has come.
    #[inline]
    fn poll_arrival(
        &mut self,
        stream: &Halves,
        attempts: &mut u8,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>>> {
        let run = &stream.run;
        match &mut self.active {
            Active::Nothing => Poll::Ready(Ok(None)),
            Active::Failed(error) => {
                let error = io::Error::from_raw_os_error(*error);
                self.active = Active::Nothing;
                Poll::Ready(Err(error.into()))
            }
            Active::Pool(operation) => {
                let Taken { result, value, more } = ready!(operation.poll_chunk(cx));
                let is_refusal = operation.is_refusal(result);
                if !more {
                    self.active = Active::Nothing;
                }
                if is_refusal {
                    run.lacks(|capabilities| match stream.fd.through() {
                        Through::Socket => capabilities.multishot_recv = false,
                        Through::Pipe => capabilities.multishot_read = false,
                    });
                    return Poll::Ready(Ok(None));
                }
                self.take_in(run, result, value, attempts)
            }
            Active::Owned(operation) => {
                let (came, remains) = ready!(operation.poll_bytes(cx).map(|end| self.keep(end)));
                // To drop the buffer is other people's code, which may panic: until then the bytes lie
                // in the stash.
                drop(remains);
                Poll::Ready(Ok(if came { self.stash.pop_back() } else { None }))
            }
            Active::Diverted(_) => self.poll_diverted(run, attempts, cx),
        }
    }

    /// Takes back what a move has put into a pipe.
    #[cold]
    fn poll_diverted(
        &mut self,
        run: &Rc<Run>,
        attempts: &mut u8,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>>> {
        let Active::Diverted(diverted) = &mut self.active else { return Poll::Ready(Ok(None)) };
        let Finished { result, .. } = ready!(diverted.operation.poll(cx));
        let moved = usize::try_from(result).unwrap_or(0);
        let bytes = run.host().drain(diverted.pipe.reader.as_raw_fd(), moved);
        self.active = Active::Nothing;
        match is_left(result) {
            true => Poll::Ready(Ok(None)),
            false => self.take_in(run, result, Some(Chunk::from_vec(bytes?)), attempts),
        }
    }

    /// A receive into memory of its own has ended: puts what came on the stash, and says whether anything
    /// did.
    fn keep(&mut self, end: (i32, Vec<u8>, Remains)) -> (bool, Remains) {
        let (result, bytes, remains) = end;
        self.ended |= result == 0;
        let failed = result < 0 && !exec::is_interruption(-result);
        self.active = if failed { Active::Failed(-result) } else { Active::Nothing };
        let came = !bytes.is_empty();
        self.stash.extend(came.then(|| Chunk::from_vec(bytes)));
        (came, remains)
    }

    /// Whether the next thing to come is of a receive into memory of its own, which was dropped.
    fn has_left(&self) -> bool {
        self.stash.is_empty() && matches!(self.active, Active::Owned(_))
    }

    /// The end of such a receive: what came beside the bytes, which are on the stash now.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Option<Remains>> {
        let Active::Owned(operation) = &mut self.active else { return Poll::Ready(None) };
        operation.cancel();
        operation.poll_bytes(cx).map(|end| Some(self.keep(end).1))
    }

    #[inline]
    fn take_in(
        &mut self,
        run: &Rc<Run>,
        result: i32,
        chunk: Option<Chunk>,
        attempts: &mut u8,
    ) -> Poll<Result<Option<Chunk>>> {
        match result {
            0 => self.ended = true,
            1.. => {
                run.progress();
                *attempts = 0;
                return Poll::Ready(Ok(chunk));
            }
            EMPTY_POOL => self.short = !run.pool().has_buffers() && !run.pool().grow(),
            _ => match ready!(judge(run, &Kind::RECV, result, attempts)) {
                Verdict::Again | Verdict::Result(Ok(_)) => {}
                Verdict::Cancelled(cancelled) => return Poll::Ready(Err(cancelled.into())),
                Verdict::Result(Err(error)) => return Poll::Ready(Err(error)),
            },
        }
        Poll::Ready(Ok(None))
    }

    /// Ends what the kernel does, and keeps what has come. `false`: it does nothing.
    fn poll_former(
        &mut self,
        stream: &Halves,
        attempts: &mut u8,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool>> {
        match &self.active {
            Active::Nothing => return Poll::Ready(Ok(false)),
            active => active.operation().into_iter().for_each(Operation::cancel),
        }
        let chunk = ready!(self.poll_arrival(stream, attempts, cx))?;
        self.stash.extend(chunk);
        Poll::Ready(Ok(true))
    }

    /// The same until it does nothing; an error if something has come that nobody has taken.
    pub(super) fn poll_nothing(&mut self, stream: &Halves, cx: &mut Context<'_>) -> Poll<Result> {
        while ready!(self.poll_former(stream, &mut 0, cx))? {}
        Poll::Ready(if self.stash.is_empty() { Ok(()) } else { Err(unread("bytes have come")) })
    }

    /// Has the kernel receive.
    fn arm(&mut self, stream: &Halves, cx: &Context<'_>) {
        let run = &stream.run;
        self.active = if std::mem::take(&mut self.short) {
            let own = Storage::to_fill(Vec::with_capacity(OWN), run.shelf());
            let receive = receive_into(stream, own);
            Active::Owned(Operation::start(run, cx, || receive))
        } else {
            let capabilities = run.capabilities();
            let receive = match stream.fd.through() {
                Through::Socket => {
                    Submission::recv_pool(&stream.fd, POOL_GROUP, capabilities.multishot_recv)
                }
                Through::Pipe => {
                    Submission::read_pool(&stream.fd, POOL_GROUP, capabilities.multishot_read)
                }
            };
            Active::Pool(Operation::start_repeating(run, cx, receive))
        };
    }

    /// Nobody waits any more; what the kernel does goes on.
    fn rest(&self) {
        self.active.operation().into_iter().for_each(Operation::rest);
    }
}

/// A receive behind what is in the storage.
#[inline]
fn receive_into(stream: &Halves, storage: Storage) -> Submission {
    match stream.fd.through() {
        Through::Socket if storage.is_message() => Submission::recv_message(&stream.fd, storage),
        Through::Socket => Submission::recv(&stream.fd, storage),
        Through::Pipe => Submission::read(&stream.fd, storage, HERE),
    }
}

const EMPTY_POOL: i32 = -libc::ENOBUFS;

/// Bytes that a receive has room for when the pool has none.
const OWN: usize = 16 << 10;

/// The wait for bytes: [`Read::recv`](super::Read::recv).
#[must_use = "nothing is received unless it is awaited"]
pub struct Recv<'a> {
    stream: &'a Halves,
    waiting: bool,
    attempts: u8,
    pause: Option<Pause>,
}

impl<'a> Recv<'a> {
    pub(super) fn new(stream: &'a Halves) -> Recv<'a> {
        Recv { stream, waiting: false, attempts: 0, pause: None }
    }

    #[inline]
    fn poll_recv(
        &mut self,
        half: &mut Receiving,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>>> {
        let run = &self.stream.run;
        let mut chunk = half.stash.pop_front();
        while chunk.is_none() && !half.ended {
            if let Active::Nothing = half.active {
                ready!(run.cancel_point())?;
                half.arm(self.stream, cx);
                return Poll::Pending;
            }
            chunk = ready!(half.poll_arrival(self.stream, &mut self.attempts, cx))?;
        }
        if self.pause.is_some() || !run.spend_budget() {
            // Waiting is other people's code, which may panic: meanwhile it lies in the stash.
            chunk.into_iter().for_each(|chunk| half.stash.push_front(chunk));
            ready!(run.poll_pause(&mut self.pause, cx));
            chunk = half.stash.pop_front();
        }
        run.progress();
        Poll::Ready(Ok(chunk))
    }
}

impl Future for Recv<'_> {
    type Output = Result<Option<Chunk>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let stream = self.stream;
        ready!(stream.receiving.poll_wait(&stream.run, &mut self.waiting, READ_HALF))?;
        let received = ready!(stream.receiving.with(|half| self.poll_recv(half, cx)));
        stream.receiving.leave();
        (self.waiting, self.attempts) = (false, 0);
        Poll::Ready(received)
    }
}

impl Drop for Recv<'_> {
    /// The kernel goes on receiving, for the next one who waits, until the scope ends.
    fn drop(&mut self) {
        if self.waiting {
            self.stream.receiving.with(|half| half.rest());
            self.stream.receiving.leave();
        }
    }
}

impl fmt::Debug for Recv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recv").field("fd", &self.stream.fd).finish_non_exhaustive()
    }
}

const READ_HALF: &str = "the read half of the stream";

/// Receives into a caller's buffer: once, or until it is full.
///
/// Written by hand: an `async fn` would point into itself, and whoever only looks at it, as the
/// `select!` of `futures` does, would break the rules of references.
pub(super) struct Read<'a, B> {
    reader: Reader<'a>,
    exact: bool,
    buffer: PhantomData<fn() -> B>,
}

impl<'a, B: IoBufMut> Read<'a, B> {
    pub(super) fn new(stream: &'a Halves, buf: B, exact: bool) -> Self {
        let reader = Reader::new(stream, Storage::to_fill(buf, stream.run.shelf()));
        Read { reader, exact, buffer: PhantomData }
    }
}

impl<B: IoBufMut> Future for Read<'_, B> {
    type Output = Result<B, BufError<B>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Read { reader, exact, .. } = &mut *self;
        let outcome = ready!(reader.poll(*exact, cx));
        let (begun, storage) = (reader.entered, reader.finish());
        let (storage, shelf) = (storage.expect("nothing is in flight"), reader.stream.run.shelf());
        let done = storage.filled();
        // One that did not begin leaves the content as it was.
        let buf = if begun { storage.into_filled(shelf) } else { storage.into_inner(shelf) };
        Poll::Ready(match outcome {
            Ok(()) => Ok(buf),
            Err(error) => Err(BufError::new(error, done, buf)),
        })
    }
}

/// Receives into a caller's buffer once, and the descriptors that come with the bytes.
pub(super) struct ReadFds<'a, B> {
    reader: Reader<'a>,
    buffer: PhantomData<fn() -> B>,
}

impl<'a, B: IoBufMut> ReadFds<'a, B> {
    pub(super) fn new(stream: &'a Halves, buf: B) -> Self {
        let storage = Storage::message_and_control_to_fill(buf, stream.run.shelf());
        ReadFds { reader: Reader::new(stream, storage), buffer: PhantomData }
    }
}

impl<B: IoBufMut> Future for ReadFds<'_, B> {
    type Output = Result<(B, Vec<Descriptor>), BufError<B>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reader = &mut self.reader;
        let outcome = ready!(reader.poll_descriptors(cx));
        let (begun, storage) = (reader.entered, reader.finish());
        let (storage, shelf) = (storage.expect("nothing is in flight"), reader.stream.run.shelf());
        let done = storage.filled();
        let buf = if begun { storage.into_message(shelf) } else { storage.into_message_buf(shelf) };
        Poll::Ready(match outcome.and_then(|descriptors| Ok(descriptors.all()?)) {
            Ok(descriptors) => Ok((buf, descriptors)),
            Err(error) => Err(BufError::new(error, done, buf)),
        })
    }
}

/// Whoever reads into a buffer. Dropping it leaves what has come, and what comes, with the stream.
struct Reader<'a> {
    stream: &'a Halves,
    /// It has the read half.
    entered: bool,
    once: OneShot,
    pause: Option<Pause>,
}

impl<'a> Reader<'a> {
    fn new(stream: &'a Halves, storage: Storage) -> Reader<'a> {
        Reader { stream, entered: false, once: OneShot::new(Some(storage)), pause: None }
    }

    fn enter(&mut self) -> Result {
        if self.once.storage().len() == 0 {
            let text = "the buffer has no room to read into";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
        }
        exec::check_run(&self.stream.run)?;
        self.stream.receiving.enter(READ_HALF)?;
        self.entered = true;
        Ok(())
    }

    fn poll(&mut self, exact: bool, cx: &mut Context<'_>) -> Poll<Result> {
        let run = &self.stream.run;
        if !self.entered {
            self.enter()?;
            ready!(run.cancel_point())?;
        }
        loop {
            if self.once.is_in_flight() {
                let count = ready!(self.once.poll_end(run, cx))?;
                self.stream.receiving.with(|half| half.ended |= count == Some(0));
            }
            // What has come is returned, whatever was cancelled meanwhile (rule D4).
            if self.is_enough(exact) {
                return Poll::Ready(Ok(()));
            }
            if self.stream.receiving.with(|half| !half.stash.is_empty()) {
                ready!(run.poll_budget(&mut self.pause, cx));
                run.progress();
                self.take_stash();
                continue;
            }
            if self.stream.receiving.with(|half| half.ended) {
                ready!(run.poll_budget(&mut self.pause, cx));
                let short = exact.then(|| io::Error::from(io::ErrorKind::UnexpectedEof));
                return Poll::Ready(short.map_or(Ok(()), |short| Err(short.into())));
            }
            ready!(run.cancel_point())?;
            if !ready!(self.poll_former(cx))? {
                self.once.start(run, cx, |storage| {
                    receive_into(self.stream, storage.expect("looked at above"))
                });
                return Poll::Pending;
            }
        }
    }

    /// Receives once, into storage that has room for descriptors. Bytes that have come to the stream without
    /// them are first.
    fn poll_descriptors(&mut self, cx: &mut Context<'_>) -> Poll<Result<Descriptors>> {
        let stream = self.stream;
        if !self.entered {
            self.enter()?;
            ready!(stream.run.cancel_point())?;
        }
        // What one that was dropped has left is taken at once, so that bytes and descriptors stay together.
        if !self.once.is_in_flight() && stream.receiving.with(|half| half.has_left()) {
            ready!(stream.run.poll_budget(&mut self.pause, cx));
            if let Some(mut left) = ready!(stream.receiving.with(|half| half.poll_left(cx))) {
                self.take_stash();
                if self.is_enough(false) {
                    stream.run.progress();
                    return Poll::Ready(Ok(left.take_descriptors()));
                }
            }
        }
        ready!(self.poll(false, cx))?;
        Poll::Ready(Ok(self.once.storage().take_descriptors()))
    }

    fn is_enough(&mut self, exact: bool) -> bool {
        let storage = self.once.storage();
        storage.room() == 0 || (!exact && storage.filled() > 0)
    }

    /// Ends what the kernel still does for former receives: it would take the bytes that this one is
    /// to have. `false`: there is nothing.
    fn poll_former(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        let (stream, attempts) = (self.stream, self.once.attempts());
        stream.receiving.with(|half| half.poll_former(stream, attempts, cx))
    }

    /// Fills the buffer from what is there.
    fn take_stash(&mut self) {
        let storage = self.once.storage();
        self.stream.receiving.with(|half| {
            while let Some(chunk) = half.stash.front_mut() {
                let taken = storage.append(chunk);
                chunk.advance(taken);
                if !chunk.is_empty() {
                    break;
                }
                half.stash.pop_front();
            }
        });
    }

    /// Gives the half back, and the buffer.
    fn finish(&mut self) -> Option<Storage> {
        let storage = self.once.take_storage();
        self.leave();
        storage
    }

    /// Leaves what it does and what it has to the half.
    fn leave(&mut self) {
        if !mem::replace(&mut self.entered, false) {
            return;
        }
        let (operation, storage) = (self.once.take_operation(), self.once.take_storage());
        self.stream.receiving.with(|half| {
            if let Some(operation) = operation {
                operation.cancel();
                half.active = Active::Owned(operation);
            }
            if let Some(storage) = storage.as_ref().filter(|storage| storage.filled() > 0) {
                half.stash.push_front(Chunk::from_vec(storage.copy_filled()));
            }
            half.rest();
        });
        self.stream.receiving.leave();
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Has the kernel move what waits into a pipe, if it is enough.
pub(super) struct Divert<'a> {
    stream: &'a Halves,
    pipe: &'a Passage,
    most: u32,
    /// It has the read half.
    entered: bool,
    once: OneShot,
}

/// What came of it.
pub(crate) enum Came {
    /// There are bytes in the passage.
    Moved,
    /// The stream itself has bytes, which are to be received before.
    Before,
    /// It is not enough, and left to be received.
    TooLittle,
    /// These cannot be moved.
    Refused,
}

impl<'a> Divert<'a> {
    /// At most so many bytes, or what the pipe holds.
    pub(super) fn new(stream: &'a Halves, pipe: &'a Passage, most: u64) -> Divert<'a> {
        let most = most.min(pipe.room().into()) as u32;
        Divert { stream, pipe, most, entered: false, once: OneShot::new(None) }
    }

    fn poll_divert(&mut self, cx: &mut Context<'_>) -> Poll<Result<Came>> {
        let Divert { stream, pipe, most, entered, once } = self;
        let run = &stream.run;
        if !*entered {
            exec::check_run(run)?;
            stream.receiving.enter(READ_HALF)?;
            *entered = true;
        }
        loop {
            if once.is_in_flight() {
                let (kind, result) = ready!(once.poll_result(cx));
                if is_left(result) {
                    let none = matches!(-result, 0 | libc::EAGAIN);
                    return Poll::Ready(Ok(if none { Came::TooLittle } else { Came::Refused }));
                }
                if let Some(count) = ready!(once.judge(run, kind, result))? {
                    pipe.fill(count as usize);
                    return Poll::Ready(Ok(Came::Moved));
                }
            }
            ready!(run.cancel_point())?;
            if stream.receiving.with(|half| !half.stash.is_empty()) {
                return Poll::Ready(Ok(Came::Before));
            }
            let attempts = once.attempts();
            if ready!(stream.receiving.with(|half| half.poll_former(stream, attempts, cx)))? {
                continue;
            }
            // More than nothing also because a move would wait for it in a worker.
            if run.host().unread(stream.fd.as_raw_fd()).min(*most) < pipe.least() {
                return Poll::Ready(Ok(Came::TooLittle));
            }
            once.start(run, cx, |_| Submission::divert(&stream.fd, pipe.ends(), *most));
            return Poll::Pending;
        }
    }

    fn leave(&mut self) {
        if !mem::replace(&mut self.entered, false) {
            return;
        }
        self.stream.receiving.with(|half| {
            if let Some(operation) = self.once.take_operation() {
                operation.cancel();
                let pipe = self.pipe.ends().clone();
                half.active = Active::Diverted(Box::new(Diverted { operation, pipe }));
            }
            half.rest();
        });
        self.stream.receiving.leave();
    }
}

impl Future for Divert<'_> {
    type Output = Result<Came>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let came = ready!(self.poll_divert(cx));
        self.leave();
        Poll::Ready(came)
    }
}

impl Drop for Divert<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Whether everything is where it was, and can be received. That nothing was moved does not mean that the stream
/// has ended: Linux stops before urgent data, which a receive passes over.
fn is_left(result: i32) -> bool {
    matches!(-result, 0 | libc::EAGAIN | libc::EINVAL | libc::EOPNOTSUPP)
}
