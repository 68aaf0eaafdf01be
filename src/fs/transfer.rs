//! Reading from a place in a file, and writing to one.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::error::Result;
use crate::exec::{self, OneShot, Pause, Run};
use crate::op::{BufError, Fd, IoBuf, IoBufMut, IoBufs, IoBufsMut, Storage, Submission};

use super::file::File;

/// What is done, and where in the file it begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    Read {
        at: u64,
    },
    Write {
        at: u64,
    },
    /// Writes to the end, wherever that is by then.
    Append,
}

impl Transfer {
    /// One operation of it, when `done` bytes were transferred.
    fn submission(self, fd: &Fd, storage: Storage, done: usize, memory: Memory) -> Submission {
        let submission = match self {
            Transfer::Read { at } if memory == Memory::Several => {
                Submission::read_several_at(fd, storage, at + done as u64)
            }
            Transfer::Write { at } if memory == Memory::Several => {
                Submission::write_several_at(fd, storage, done, at + done as u64)
            }
            Transfer::Read { at } => Submission::read_at(fd, storage, at + done as u64),
            Transfer::Write { at } => Submission::write_at(fd, storage, done, at + done as u64),
            // A descriptor that appends minds no offset.
            Transfer::Append => Submission::write_at(fd, storage, done, 0),
        };
        match memory {
            Memory::Registered(place) => submission.in_place(place),
            Memory::Plain | Memory::Several => submission,
        }
    }
}

/// What the kernel is told of the memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// Where it lies.
    Plain,
    /// And in which place it knows it already.
    Registered(u16),
    /// In which places it lies.
    Several,
}

impl Memory {
    fn of(buf: &impl IoBuf, run: &Run) -> Memory {
        run.registry().number(buf.place()).map_or(Memory::Plain, Memory::Registered)
    }
}

/// A transfer under way. Dropping it leaves the operation to the scope, and with it the buffer.
struct Underway<'a> {
    file: &'a File,
    transfer: Transfer,
    /// The whole buffer, or what goes in one operation.
    all: bool,
    memory: Memory,
    once: OneShot,
    done: usize,
    pause: Option<Pause>,
}

impl<'a> Underway<'a> {
    fn new(
        file: &'a File,
        transfer: Transfer,
        storage: Storage,
        memory: Memory,
        all: bool,
    ) -> Underway<'a> {
        let once = OneShot::new(Some(storage));
        Underway { file, transfer, all, memory, once, done: 0, pause: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        let run = &self.file.run;
        if self.once.is_in_flight() && ready!(self.poll_operation(cx))? {
            return Poll::Ready(Ok(()));
        }
        let len = self.once.storage().len();
        if self.pause.is_none() {
            exec::check_run(run)?;
            ready!(run.cancel_point())?;
            self.once.storage().check_whole()?;
            self.check(len)?;
        }
        if len == 0 {
            ready!(run.poll_budget(&mut self.pause, cx));
            return Poll::Ready(Ok(()));
        }
        let Underway { file: File { fd, .. }, transfer, done, memory, .. } = *self;
        self.once.start(run, cx, |storage| {
            transfer.submission(fd, storage.expect("looked at above"), done, memory)
        });
        Poll::Pending
    }

    /// The end of one operation: whether it was the last one.
    fn poll_operation(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        Poll::Ready(match (ready!(self.once.poll_end(&self.file.run, cx))?, self.transfer) {
            (None, _) => Ok(false),
            (Some(0), Transfer::Read { .. }) if self.all => {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
            }
            (Some(0), Transfer::Read { .. }) => Ok(true),
            (Some(0), _) => Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            (Some(count), _) => {
                self.done += count as usize;
                Ok(!self.all || self.done == self.once.storage().len())
            }
        })
    }

    /// What cannot be meant is refused.
    fn check(&self, len: usize) -> io::Result<()> {
        let wrong = |text| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let at = match (self.transfer, self.file.appends) {
            (Transfer::Read { .. }, _) if len == 0 => {
                return wrong("the buffer has no room to be read into: give it a capacity");
            }
            (Transfer::Write { .. }, true) => {
                return wrong("a file that was opened to append is written with `append`");
            }
            (Transfer::Append, false) => {
                return wrong("`append` needs a file that was opened with `OpenOptions::append`");
            }
            (Transfer::Append, true) => 0,
            (Transfer::Read { at } | Transfer::Write { at }, _) => at,
        };
        if at.checked_add(len as u64).is_none_or(|end| end > i64::MAX as u64) {
            return wrong("no file reaches that far: offsets end at i64::MAX");
        }
        Ok(())
    }

    /// After its end: the buffer, which nobody else has any more.
    fn take_storage(&mut self) -> Storage {
        self.once.take_storage().expect("nothing is in flight")
    }
}

/// Reads into a caller's buffer: [`File::read_at`], [`File::read_exact_at`].
pub(super) struct Reading<'a, B> {
    underway: Underway<'a>,
    buffer: PhantomData<fn() -> B>,
}

impl<'a, B: IoBufMut> Reading<'a, B> {
    #[inline(always)] // 50 instructions of a read's 1,600.
    pub(super) fn new(file: &'a File, buf: B, at: u64, all: bool) -> Reading<'a, B> {
        let memory = Memory::of(&buf, &file.run);
        let storage = Storage::to_fill(buf, file.run.shelf());
        let underway = Underway::new(file, Transfer::Read { at }, storage, memory, all);
        Reading { underway, buffer: PhantomData }
    }
}

impl<B: IoBufMut> Future for Reading<'_, B> {
    type Output = Result<B, BufError<B>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let underway = &mut self.underway;
        let outcome = ready!(underway.poll(cx));
        let (storage, shelf) = (underway.take_storage(), underway.file.run.shelf());
        // What could not be tried leaves the content as it was.
        let untouched = underway.done == 0 && outcome.is_err();
        let buf = if untouched { storage.into_inner(shelf) } else { storage.into_filled(shelf) };
        Poll::Ready(match outcome {
            Ok(()) => Ok(buf),
            Err(error) => Err(BufError::new(error, underway.done, buf)),
        })
    }
}

/// Writes from a caller's buffer: [`File::write_at`], [`File::write_all_at`], [`File::append`].
pub(super) struct Writing<'a, B> {
    underway: Underway<'a>,
    buffer: PhantomData<fn() -> B>,
}

impl<'a, B: IoBuf> Writing<'a, B> {
    pub(super) fn new(file: &'a File, transfer: Transfer, buf: B, all: bool) -> Writing<'a, B> {
        let memory = Memory::of(&buf, &file.run);
        let storage = Storage::to_send(buf, file.run.shelf());
        let underway = Underway::new(file, transfer, storage, memory, all);
        Writing { underway, buffer: PhantomData }
    }
}

impl<B: IoBuf> Future for Writing<'_, B> {
    /// How much was written, and the buffer.
    type Output = Result<(usize, B), BufError<B>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let underway = &mut self.underway;
        let outcome = ready!(underway.poll(cx));
        let buf = underway.take_storage().into_inner(underway.file.run.shelf());
        Poll::Ready(match outcome {
            Ok(()) => Ok((underway.done, buf)),
            Err(error) => Err(BufError::new(error, underway.done, buf)),
        })
    }
}

/// Reads into several buffers: [`File::read_vectored_at`], [`File::read_exact_vectored_at`].
pub(super) struct ReadingSeveral<'a, L> {
    underway: Underway<'a>,
    buffers: PhantomData<fn() -> L>,
}

impl<'a, L: IoBufsMut> ReadingSeveral<'a, L> {
    pub(super) fn new(file: &'a File, bufs: L, at: u64, all: bool) -> ReadingSeveral<'a, L> {
        let storage = Storage::several_to_fill(bufs, file.run.shelf());
        let underway = Underway::new(file, Transfer::Read { at }, storage, Memory::Several, all);
        ReadingSeveral { underway, buffers: PhantomData }
    }
}

impl<L: IoBufsMut> Future for ReadingSeveral<'_, L> {
    /// How much was read, and the buffers.
    type Output = Result<(usize, L), BufError<L>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let underway = &mut self.underway;
        let outcome = ready!(underway.poll(cx));
        let (storage, shelf) = (underway.take_storage(), underway.file.run.shelf());
        let untouched = underway.done == 0 && outcome.is_err();
        let bufs = match untouched {
            true => storage.into_several(shelf),
            false => storage.into_several_filled(shelf),
        };
        Poll::Ready(match outcome {
            Ok(()) => Ok((underway.done, bufs)),
            Err(error) => Err(BufError::new(error, underway.done, bufs)),
        })
    }
}

/// Writes from several buffers: [`File::write_vectored_at`], [`File::write_all_vectored_at`].
pub(super) struct WritingSeveral<'a, L> {
    underway: Underway<'a>,
    buffers: PhantomData<fn() -> L>,
}

impl<'a, L: IoBufs> WritingSeveral<'a, L> {
    pub(super) fn new(file: &'a File, bufs: L, at: u64, all: bool) -> WritingSeveral<'a, L> {
        let storage = Storage::several_to_send(bufs, file.run.shelf());
        let underway = Underway::new(file, Transfer::Write { at }, storage, Memory::Several, all);
        WritingSeveral { underway, buffers: PhantomData }
    }
}

impl<L: IoBufs> Future for WritingSeveral<'_, L> {
    /// How much was written, and the buffers.
    type Output = Result<(usize, L), BufError<L>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let underway = &mut self.underway;
        let outcome = ready!(underway.poll(cx));
        let bufs = underway.take_storage().into_several(underway.file.run.shelf());
        Poll::Ready(match outcome {
            Ok(()) => Ok((underway.done, bufs)),
            Err(error) => Err(BufError::new(error, underway.done, bufs)),
        })
    }
}
