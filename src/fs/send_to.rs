//! From a file to a stream, without going through our memory where the kernel can.

use std::ops::Range;

use crate::error::Result;
use crate::exec;
use crate::io::{Direct, Passage, Write, is_refusal};
use crate::op::{BufError, IoBuf, Submission};

use super::file::File;

impl File {
    /// Writes a range of the file to a stream, as sendfile(2) does, and says how many bytes that were: fewer than
    /// were asked for if the file ends before.
    ///
    /// To a socket or a pipe the kernel moves long ranges by itself, through a pipe (splice(2)): they are not
    /// copied to our memory and back. A part that somebody changes meanwhile may go out changed. To any other
    /// stream, and where the file system or the descriptor cannot do it, the range is read and written.
    ///
    /// Cancel class: partial: [`done`](BufError::done) says how many bytes of the range were written; what was
    /// taken from the file beyond them is still in the file, so whoever goes on from there loses nothing. To drop
    /// it is to drop the write of one piece of several: after that the write half of the stream is
    /// [`Broken`](crate::Error::Broken) if a part of the piece went out. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says of either; those of [`Write::write_all`]; `Cancelled`.
    ///
    /// ```
    /// use trine::fs::File;
    /// use trine::net::UnixStream;
    ///
    /// # let path = std::env::temp_dir().join(format!("trine-doc-send-{}", std::process::id()));
    /// # std::fs::write(&path, "hello, world")?;
    /// trine::run(async || {
    ///     let (client, server) = UnixStream::pair()?;
    ///     let file = File::open(&path).await?;
    ///     assert_eq!(file.send_to(&server, 7..100).await?, 5);
    ///     assert_eq!(client.recv().await?.expect("not the end"), *b"world");
    ///     file.close().await
    /// })?;
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn send_to(&self, to: &impl Write, range: Range<u64>) -> Result<u64, BufError<()>> {
        let mut rest = range.clone();
        let outcome = async {
            exec::check_run(&self.run)?;
            self.run.answer_at_once().await?;
            let is_long = range.end.saturating_sub(range.start) >= LEAST;
            if let Some(to) = to.direct().filter(|_| is_long) {
                match self.splice_to(to, &mut rest).await {
                    Err(refusal) if is_refusal(&refusal) => {}
                    outcome => return outcome,
                }
            }
            self.copy_to(to, &mut rest).await
        };
        let outcome = outcome.await;
        let done = rest.start - range.start;
        outcome.map(|()| done).map_err(|error| BufError::new(error, done as usize, ()))
    }

    /// Has the kernel move it, and takes off the range what has arrived.
    async fn splice_to(&self, to: Direct<'_>, rest: &mut Range<u64>) -> Result {
        let passage = Passage::open(&self.run)?;
        while rest.start < rest.end {
            let most = (rest.end - rest.start).min(passage.room().into()) as u32;
            if self.splice_into(&passage, rest.start, most).await? == 0 {
                break;
            }
            let written = to.splice(&passage).await;
            rest.start += written.as_ref().map_or_else(|failed| failed.done, |&len| len) as u64;
            written?;
        }
        Ok(())
    }

    /// Has the kernel put bytes into a passage, and says how many.
    async fn splice_into(&self, passage: &Passage, at: u64, most: u32) -> Result<u32> {
        let splice = || Submission::splice_in(&self.fd, at, passage.ends(), most);
        let (count, _) = exec::submit(splice).await?;
        passage.fill(count as usize);
        Ok(count)
    }

    /// Reads and writes it, and takes off the range what was written.
    async fn copy_to(&self, to: &impl Write, rest: &mut Range<u64>) -> Result {
        let left = rest.end.saturating_sub(rest.start);
        let mut piece = Vec::with_capacity(left.min(PIECE as u64) as usize);
        while rest.start < rest.end {
            let most = (rest.end - rest.start).min(PIECE as u64) as usize;
            let read = self.read_at(piece.slice(..most), rest.start).await?;
            if read.is_empty() {
                break;
            }
            match to.write_all(read).await {
                Ok(written) => {
                    rest.start += written.len() as u64;
                    piece = written.into_inner();
                }
                Err(failed) => {
                    rest.start += failed.done as u64;
                    return Err(failed.error);
                }
            }
        }
        to.flush().await
    }
}

/// From so many bytes on a pipe is worth its making.
const LEAST: u64 = 256 << 10;

/// What is read at a time where the kernel cannot move it.
const PIECE: usize = 64 << 10;
