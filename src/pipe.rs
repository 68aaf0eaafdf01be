//! Pipes: one direction, within the machine.

use crate::error::Result;
use crate::exec;
use crate::io::{Halves, fds_of_a_part, owns_descriptor, reads, take, writes};
use crate::ring::{Descriptor, FdKind};

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
    /// Takes an end of a pipe from elsewhere: a child's output, a FIFO that a
    /// [`File`](crate::fs::File::into_fd) has opened.
    ///
    /// # Errors
    /// `InvalidInput` for what is no pipe or its other end, and for a non-blocking one, with which the ring
    /// cannot wait; [`Error::NoRun`](crate::Error::NoRun).
    ///
    /// ```
    /// use std::process::{Command, Stdio};
    /// use trine::pipe::PipeReader;
    ///
    /// trine::run(async || {
    ///     let mut child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
    ///     let output = child.stdout.take().expect("it is piped");
    ///     let output = PipeReader::from_fd(output)?;
    ///     assert_eq!(output.recv().await?.expect("not the end"), *b"hello\n");
    ///     child.wait()?;
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn from_fd(fd: impl Into<Descriptor>) -> Result<PipeReader> {
        Ok(PipeReader { halves: adopt(fd, FdKind::PipeReader)? })
    }

    /// Closes it and waits until that is done.
    ///
    /// Cancel class: terminal. In a cancelled scope it is closed all the same, and `Cancelled` is reported
    /// (rule M2).
    ///
    /// # Errors
    /// `Cancelled`, or what the operating system says; it is closed in any case.
    pub async fn close(self) -> Result {
        self.halves.close().await
    }
}

impl PipeWriter {
    /// Takes an end of a pipe from elsewhere: a child's input, a FIFO that a
    /// [`File`](crate::fs::File::into_fd) has opened.
    ///
    /// # Errors
    /// As [`PipeReader::from_fd`].
    pub fn from_fd(fd: impl Into<Descriptor>) -> Result<PipeWriter> {
        Ok(PipeWriter { halves: adopt(fd, FdKind::PipeWriter)? })
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

    /// Closes it and waits until that is done.
    ///
    /// Cancel class: terminal. In a cancelled scope it is closed all the same, and `Cancelled` is reported
    /// (rule M2).
    ///
    /// # Errors
    /// `Cancelled`, or what the operating system says; it is closed in any case.
    pub async fn close(self) -> Result {
        self.halves.close().await
    }
}

reads! {
    /// From Linux 6.7 on one operation reads again and again.
    PipeReader, "What the operating system says"
}
writes! {
    /// Up to 4096 bytes (`PIPE_BUF`) go at once or not yet.
    PipeWriter, "`BrokenPipe` when nobody can read it", |writer| writer.finish()
}
owns_descriptor!(PipeReader, halves);
owns_descriptor!(PipeWriter, halves);
fds_of_a_part!(PipeReader, halves);
fds_of_a_part!(PipeWriter, halves);

fn adopt(fd: impl Into<Descriptor>, end: FdKind) -> Result<Halves> {
    let (run, fd) = take(fd, end)?;
    let fd = run.adopt(fd).through_pipe();
    Ok(Halves::new(run, fd))
}
