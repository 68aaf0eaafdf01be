//! One stream of two.

use std::future::Future;

use crate::error::Result;
use crate::op::{BufError, Chunk, IoBuf, IoBufMut};

use super::{Close, Direct, Read, Source, Write, worse};

/// Makes one stream of something to read and something to write: of the two pipes of a child process, say.
///
/// ```
/// use trine::io::{self, Close, Read, Write};
/// use trine::pipe;
///
/// trine::run(async || {
///     let ((receiver, feeder), (taker, sender)) = (pipe::pipe()?, pipe::pipe()?);
///     let (here, there) = (io::join(receiver, sender), io::join(taker, feeder));
///     here.write_all("hello").await?;
///     assert_eq!(there.recv().await?.expect("not the end"), *b"hello");
///     here.close().await?;
///     assert!(there.recv().await?.is_none());
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn join<R, W>(read: R, write: W) -> Joined<R, W> {
    Joined { read, write }
}

/// Two ways as one stream, made by [`join`]. Finishing it finishes what it writes to; closing it closes both.
#[derive(Debug)]
pub struct Joined<R, W> {
    read: R,
    write: W,
}

impl<R, W> Joined<R, W> {
    /// What is read, and what is written.
    pub fn get_ref(&self) -> (&R, &W) {
        (&self.read, &self.write)
    }

    /// What is read, and what is written.
    pub fn into_parts(self) -> (R, W) {
        (self.read, self.write)
    }
}

impl<R: Read, W> Read for Joined<R, W> {
    fn recv(&self) -> impl Future<Output = Result<Option<Chunk>>> {
        self.read.recv()
    }

    fn read<B: IoBufMut>(&self, buf: B) -> impl Future<Output = Result<B, BufError<B>>> {
        self.read.read(buf)
    }

    fn read_exact<B: IoBufMut>(&self, buf: B) -> impl Future<Output = Result<B, BufError<B>>> {
        self.read.read_exact(buf)
    }

    fn source(&self) -> Option<Source<'_>> {
        self.read.source()
    }
}

impl<R, W: Write> Write for Joined<R, W> {
    fn write<B: IoBuf>(&self, buf: B) -> impl Future<Output = Result<(usize, B), BufError<B>>> {
        self.write.write(buf)
    }

    fn write_all<B: IoBuf>(&self, buf: B) -> impl Future<Output = Result<B, BufError<B>>> {
        self.write.write_all(buf)
    }

    fn flush(&self) -> impl Future<Output = Result> {
        self.write.flush()
    }

    fn finish(&self) -> impl Future<Output = Result> {
        self.write.finish()
    }

    fn lose(&self) {
        self.write.lose();
    }

    fn direct(&self) -> Option<Direct<'_>> {
        self.write.direct()
    }
}

impl<R: Close, W: Close> Close for Joined<R, W> {
    /// First what is written, then what is read; the second one whatever became of the first.
    async fn close(self) -> Result {
        let written = self.write.close().await;
        worse(written, self.read.close().await)
    }
}
