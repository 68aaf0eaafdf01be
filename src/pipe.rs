//! Pipes: one direction, within the machine.

use std::fmt;
use std::future::Future;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::error::Result;
use crate::exec;
use crate::io::{Halves, Recv, close_by_its_method, read_by_its_methods, write_by_its_methods};
use crate::op::{BufError, IoBuf, IoBufMut};
use crate::ring::Descriptor;

/// Makes a pipe: what is written to the second comes out of the first.
///
/// It holds 64 KiB unless the machine was told otherwise; then writing waits.
///
/// # Errors
/// `EMFILE` where there are too many descriptors; [`Error::NoRun`](crate::Error::NoRun).
///
/// ```
/// use trine::pipe;
///
/// trine::run(async || {
///     let (reader, writer) = pipe::pipe()?;
///     writer.write_all("through").await?;
///     writer.close().await?;
///     assert_eq!(reader.recv().await?.expect("not the end"), *b"through");
///     assert!(reader.recv().await?.is_none(), "the writer has gone");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn pipe() -> Result<(PipeReader, PipeWriter)> {
    let run = exec::current()?;
    let (reader, writer) = run.host().pipe()?;
    let halves = |end| Halves::new(run.clone(), run.adopt(end).through_pipe());
    Ok((PipeReader { halves: halves(reader) }, PipeWriter { halves: halves(writer) }))
}

/// The end of a pipe that is read.
///
/// Dropping it closes it through the ring once the kernel has let go of its operations; the enclosing
/// scope waits for that. Who writes to a pipe that nobody can read gets `BrokenPipe`.
pub struct PipeReader {
    halves: Halves,
}

/// The end of a pipe that is written to.
///
/// Dropping it closes it, and the reader sees the end of the stream.
pub struct PipeWriter {
    halves: Halves,
}

impl PipeReader {
    /// Takes an end of a pipe from elsewhere: a child's output, a FIFO that was opened.
    ///
    /// # Errors
    /// `InvalidInput` for what is no pipe, and for a non-blocking one, with which the ring cannot wait;
    /// [`Error::NoRun`](crate::Error::NoRun).
    ///
    /// ```
    /// use std::process::{Command, Stdio};
    /// use trine::pipe::PipeReader;
    ///
    /// trine::run(async || {
    ///     let mut child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
    ///     let output = child.stdout.take().expect("it is piped");
    ///     let output = PipeReader::from_fd(output.into())?;
    ///     assert_eq!(output.recv().await?.expect("not the end"), *b"hello\n");
    ///     child.wait()?;
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn from_fd(fd: OwnedFd) -> Result<PipeReader> {
        Ok(PipeReader { halves: adopt(fd)? })
    }

    /// Reads what has come, in a buffer of the pool that the kernel took when it came. `None` is the end
    /// of the stream.
    ///
    /// Awaited again after `Cancelled`, it starts anew. What arrives for a dropped or cancelled one
    /// stays with the reader and is what the next one returns (rule D7).
    ///
    /// Cancel class: total. Linux 6.1; from 6.7 on one operation reads again and again.
    ///
    /// # Errors
    /// What the operating system says; [`Error::Busy`](crate::Error::Busy) if another task reads;
    /// `Cancelled`.
    pub fn recv(&self) -> Recv<'_> {
        self.halves.recv()
    }

    /// Reads into `buf`: replaces its content with what has come, at most its capacity. No bytes are the
    /// end of the stream.
    ///
    /// Cancel class: total; the buffer comes back with the error. Linux 6.1.
    ///
    /// # Errors
    /// As [`recv`](PipeReader::recv), and `InvalidInput` for a buffer without room.
    pub fn read<B: IoBufMut>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        self.halves.read(buf)
    }

    /// Reads until `buf` is filled to its capacity.
    ///
    /// Cancel class: partial: the error has the buffer with what came, and [`done`](BufError::done)
    /// says how much. A dropped one leaves all of that with the reader. Linux 6.1.
    ///
    /// # Errors
    /// As [`read`](PipeReader::read), and `UnexpectedEof` if the stream ends before.
    pub fn read_exact<B: IoBufMut>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        self.halves.read_exact(buf)
    }

    /// Closes it and waits until that is done, also in a cancelled scope (rule M2).
    ///
    /// # Errors
    /// `Cancelled`, or what the operating system says; it is closed in any case.
    pub async fn close(self) -> Result {
        self.halves.close().await
    }
}

impl PipeWriter {
    /// Takes an end of a pipe from elsewhere: a child's input, a FIFO that was opened.
    ///
    /// # Errors
    /// As [`PipeReader::from_fd`].
    pub fn from_fd(fd: OwnedFd) -> Result<PipeWriter> {
        Ok(PipeWriter { halves: adopt(fd)? })
    }

    /// Writes from `buf` what the pipe takes at once, waiting until it takes something, and says how much
    /// that was. Up to 4096 bytes (`PIPE_BUF`) go at once or not yet.
    ///
    /// Cancel class: total. The buffer comes back, also with the error. After a dropped write of which
    /// something went out the writer is [`Broken`](crate::Error::Broken). Linux 6.1.
    ///
    /// # Errors
    /// `BrokenPipe` when nobody can read it; [`Error::Busy`](crate::Error::Busy) if another task writes;
    /// [`Error::Closed`](crate::Error::Closed) after [`finish`](PipeWriter::finish); `Cancelled`.
    pub fn write<B: IoBuf>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<(usize, B), BufError<B>>> + use<'_, B> {
        self.halves.write(buf)
    }

    /// Writes all of `buf`.
    ///
    /// Cancel class: partial: [`done`](BufError::done) says how much was written. The buffer comes
    /// back, also with the error. After a dropped `write_all` of which something went out nobody knows
    /// how much, so the writer is [`Broken`](crate::Error::Broken) (rule D7). Linux 6.1.
    ///
    /// # Errors
    /// As [`write`](PipeWriter::write).
    pub fn write_all<B: IoBuf>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        self.halves.write_all(buf)
    }

    /// Closes the descriptor, so that the reader sees the end of the stream; the object is of no other
    /// use from then on. Twice is once.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// [`Error::Busy`](crate::Error::Busy) if a task is writing; `Cancelled`.
    pub async fn finish(&self) -> Result {
        self.halves.finish().await
    }

    /// Closes it and waits until that is done, also in a cancelled scope (rule M2).
    ///
    /// # Errors
    /// `Cancelled`, or what the operating system says; it is closed in any case.
    pub async fn close(self) -> Result {
        self.halves.close().await
    }
}

read_by_its_methods!(PipeReader);
write_by_its_methods!(PipeWriter, |writer| writer.finish());
close_by_its_method!(PipeReader);
close_by_its_method!(PipeWriter);

fn adopt(fd: OwnedFd) -> Result<Halves> {
    let run = exec::current()?;
    run.host().check_pipe(fd.as_fd())?;
    let fd = run.adopt(Descriptor::from(fd)).through_pipe();
    Ok(Halves::new(run, fd))
}

impl AsRawFd for PipeReader {
    fn as_raw_fd(&self) -> RawFd {
        self.halves.fd().as_raw_fd()
    }
}

impl AsRawFd for PipeWriter {
    fn as_raw_fd(&self) -> RawFd {
        self.halves.fd().as_raw_fd()
    }
}

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeReader").field("fd", &self.halves).finish_non_exhaustive()
    }
}

impl fmt::Debug for PipeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeWriter").field("fd", &self.halves).finish_non_exhaustive()
    }
}
