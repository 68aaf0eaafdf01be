//! What streams have in common: buffers are handed over, and handed back with the result.

use std::future::Future;
use std::rc::Rc;

use crate::error::Result;
use crate::exec;
use crate::op::{BufError, Chunk, IoBuf, IoBufMut};

use super::direct::{Direct, Source};

/// What bytes can be read from.
///
/// One task reads at a time; another one gets [`Error::Busy`](crate::Error::Busy). What has come for a
/// read that was dropped or cancelled belongs to the stream, and the next one returns it (rule D7).
///
/// Programs that take whatever stream they are given take one of these:
///
/// ```
/// use trine::io::{Read, Write};
/// use trine::pipe;
///
/// async fn answer(from: &impl Read, to: &impl Write) -> trine::Result {
///     while let Some(chunk) = from.recv().await? {
///         to.write_all(chunk).await?;
///     }
///     to.finish().await
/// }
///
/// trine::run(async || {
///     let ((question, asker), (heard, answerer)) = (pipe::pipe()?, pipe::pipe()?);
///     asker.write_all("who?").await?;
///     asker.finish().await?;
///     answer(&question, &answerer).await?;
///     assert_eq!(heard.recv().await?.expect("not the end"), *b"who?");
///     assert!(heard.recv().await?.is_none());
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub trait Read {
    /// Takes what has come, in a buffer of the pool or one that the stream has already. `None` is the
    /// end of the stream.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// What the stream fails with; [`Error::Busy`](crate::Error::Busy); `Cancelled`.
    fn recv(&self) -> impl Future<Output = Result<Option<Chunk>>>;

    /// Reads into `buf`: replaces its content with what has come, at most its capacity. No bytes are
    /// the end of the stream.
    ///
    /// Cancel class: total; the buffer comes back with the error.
    ///
    /// # Errors
    /// As [`recv`](Read::recv), and `InvalidInput` for a buffer without room, or a part that it does
    /// not have.
    fn read<B: IoBufMut>(&self, buf: B) -> impl Future<Output = Result<B, BufError<B>>>;

    /// Reads until `buf` is filled to its capacity; to read exactly `n` bytes pass `buf.slice(..n)`.
    ///
    /// Cancel class: partial: the error has the buffer with what came, and [`done`](BufError::done)
    /// says how much. A dropped one leaves all of that with the stream.
    ///
    /// # Errors
    /// As [`read`](Read::read), and `UnexpectedEof` if the stream ends before.
    fn read_exact<B: IoBufMut>(&self, buf: B) -> impl Future<Output = Result<B, BufError<B>>>;

    /// Where the kernel can take bytes by itself, if what is read here comes from there as it is. A stream that keeps
    /// bytes or changes them has no such place.
    fn source(&self) -> Option<Source<'_>> {
        None
    }
}

/// What bytes can be written to.
///
/// One task writes at a time; another one gets [`Error::Busy`](crate::Error::Busy).
pub trait Write {
    /// Writes from `buf` what is taken at once, waiting until something is, and says how much that was.
    ///
    /// Cancel class: total. The buffer comes back, also with the error. After a dropped write of which
    /// something went out the stream is [`Broken`](crate::Error::Broken).
    ///
    /// # Errors
    /// What the stream fails with, `BrokenPipe` for one; `InvalidInput` for a part that a buffer does not have;
    /// [`Error::Busy`](crate::Error::Busy); [`Error::Closed`](crate::Error::Closed) after
    /// [`finish`](Write::finish); `Cancelled`.
    fn write<B: IoBuf>(&self, buf: B) -> impl Future<Output = Result<(usize, B), BufError<B>>>;

    /// Writes all of `buf`.
    ///
    /// Cancel class: partial: [`done`](BufError::done) says how much went out. The buffer comes back,
    /// also with the error. After a dropped `write_all` of which something went out nobody knows how
    /// much, so the stream is [`Broken`](crate::Error::Broken) (rule D7).
    ///
    /// # Errors
    /// As [`write`](Write::write).
    fn write_all<B: IoBuf>(&self, buf: B) -> impl Future<Output = Result<B, BufError<B>>>;

    /// Sends what was written and is kept in a buffer. Most streams keep nothing, and have nothing to do
    /// here.
    ///
    /// # Errors
    /// As [`write`](Write::write).
    fn flush(&self) -> impl Future<Output = Result> {
        async { Ok(exec::current()?.answer_at_once().await?) }
    }

    /// Ends what is written: the other end sees the end of the stream, and what comes from there can
    /// still be read. Twice is once.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// What the stream fails with; [`Error::Busy`](crate::Error::Busy); `Cancelled`.
    fn finish(&self) -> impl Future<Output = Result>;

    /// Bytes that were to be written here are lost: somebody had read them, and was dropped. Streams of trine are
    /// [`Broken`](crate::Error::Broken) from then on, so that nobody takes what comes behind a gap for all of it; but
    /// [`stdout`](super::stdout) and [`stderr`](super::stderr) have other writers, and go on. One that writes to
    /// another stream tells that one. Unless it is written, nothing is done.
    fn lose(&self) {}

    /// Where the kernel can write by itself, if what is written here goes out as it is and at once. A stream that
    /// keeps bytes or changes them has no such place.
    fn direct(&self) -> Option<Direct<'_>> {
        None
    }
}

/// What is to be closed.
pub trait Close {
    /// Closes it and waits until that is done.
    ///
    /// Cancel class: terminal. In a cancelled scope it is closed all the same, and `Cancelled` is reported
    /// (rule M2).
    ///
    /// # Errors
    /// `Cancelled`, or what closing fails with; it is closed in any case.
    fn close(self) -> impl Future<Output = Result>;
}

/// Whoever holds a stream in another way can use it like the stream itself.
macro_rules! forward {
    ($($holder:ty),*) => {$(
        impl<S: Read> Read for $holder {
            fn recv(&self) -> impl Future<Output = Result<Option<Chunk>>> {
                S::recv(self)
            }

            fn read<B: IoBufMut>(&self, buf: B) -> impl Future<Output = Result<B, BufError<B>>> {
                S::read(self, buf)
            }

            fn read_exact<B: IoBufMut>(
                &self,
                buf: B,
            ) -> impl Future<Output = Result<B, BufError<B>>> {
                S::read_exact(self, buf)
            }

            fn source(&self) -> Option<Source<'_>> {
                S::source(self)
            }
        }

        impl<S: Write> Write for $holder {
            fn write<B: IoBuf>(
                &self,
                buf: B,
            ) -> impl Future<Output = Result<(usize, B), BufError<B>>> {
                S::write(self, buf)
            }

            fn write_all<B: IoBuf>(&self, buf: B) -> impl Future<Output = Result<B, BufError<B>>> {
                S::write_all(self, buf)
            }

            fn flush(&self) -> impl Future<Output = Result> {
                S::flush(self)
            }

            fn finish(&self) -> impl Future<Output = Result> {
                S::finish(self)
            }

            fn lose(&self) {
                S::lose(self);
            }

            fn direct(&self) -> Option<Direct<'_>> {
                S::direct(self)
            }
        }
    )*};
}

forward!(&S, Rc<S>);
