//! From a stream into a file, without going through our memory where the kernel can.

use std::ops::{Deref, Range};

use crate::error::{Error, Result};
use crate::exec;
use crate::io::{Came, Passage, Read, is_refusal};
use crate::op::{BufError, IoBuf, Submission};

use super::file::File;

impl File {
    /// Writes what comes from a stream to a range of the file, until the stream ends or the range is full, and says
    /// how many bytes that were. What comes behind them stays with the stream.
    ///
    /// Of a socket or a pipe the kernel moves by itself what it has received already, if that is much: 256 KiB,
    /// through a pipe (splice(2)), so that it is not copied to our memory and back. All else is read and written,
    /// and so it is where the file system or the descriptor cannot do it.
    ///
    /// Cancel class: partial: [`done`](BufError::done) says how many bytes were written, and
    /// [`buf`](BufError::buf) has those that were read and not written, so that no byte is lost. Dropped while it
    /// waits for the stream, it loses nothing; dropped while it writes, it loses what it has read: that is gone from
    /// the stream, and may be in the file or not. So under a time limit cancel it, and do not drop it. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says of either; those of [`Read::read`]; `Cancelled`.
    ///
    /// ```
    /// use trine::fs::File;
    /// use trine::net::UnixStream;
    ///
    /// # let path = std::env::temp_dir().join(format!("trine-doc-receive-{}", std::process::id()));
    /// trine::run(async || {
    ///     let (client, server) = UnixStream::pair()?;
    ///     client.write_all("hello, world").await?;
    ///     let file = File::create(&path).await?;
    ///     assert_eq!(file.receive_from(&server, 0..5).await?, 5);
    ///     assert_eq!(server.recv().await?.expect("not the end"), *b", world");
    ///     file.close().await
    /// })?;
    /// # assert_eq!(std::fs::read(&path)?, b"hello");
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn receive_from(
        &self,
        from: &impl Read,
        range: Range<u64>,
    ) -> Result<u64, BufError<Vec<u8>>> {
        let mut rest = range.clone();
        let outcome = self.receive(from, &mut rest).await;
        let done = rest.start - range.start;
        outcome
            .map(|()| done)
            .map_err(|failed| BufError::new(failed.error, done as usize, failed.left))
    }

    /// Takes off the range what was written.
    async fn receive(&self, from: &impl Read, rest: &mut Range<u64>) -> Result<(), Failed> {
        exec::check_run(&self.run)?;
        self.run.answer_at_once().await.map_err(Error::from)?;
        let mut piece = Vec::with_capacity(PIECE.min(left(rest)) as usize);
        // From where on it is looked again whether moving pays, while the file takes it.
        let (mut look, mut moves) = (rest.start, true);
        let mut passage = None::<Passage>;
        while rest.start < rest.end {
            let source = from.source().filter(|_| moves);
            if let Some(source) = source.as_ref().filter(|_| passage.is_none()) {
                if rest.start >= look {
                    look = rest.start.saturating_add(source.stride() as u64);
                    passage = source.passage(left(rest));
                }
            }
            if let (Some(source), Some(open)) = (source, &passage) {
                match source.divert(open, left(rest)).await? {
                    Came::Moved => {
                        moves = self.splice_from(open, rest).await?;
                        continue;
                    }
                    Came::Before => {}
                    Came::TooLittle => passage = None,
                    Came::Refused => (passage, moves) = (None, false),
                }
            }
            let most = PIECE.min(left(rest)) as usize;
            let read = from.read(piece.slice(..most)).await.map_err(|failed| failed.error)?;
            if read.is_empty() {
                break;
            }
            piece = self.put(read, rest).await?.into_inner();
        }
        Ok(())
    }

    /// Has the kernel write what lies in a passage. `false`: it cannot, and it was written in another way.
    async fn splice_from(&self, passage: &Passage, rest: &mut Range<u64>) -> Result<bool, Failed> {
        while passage.filled() > 0 {
            let (len, at) = (passage.filled() as u32, rest.start);
            let splice = || Submission::splice_at(passage.ends(), len, &self.fd, at);
            match exec::submit(splice).await {
                Ok((count @ 1.., _)) => {
                    passage.empty(count as usize);
                    rest.start += u64::from(count);
                }
                Err(error) if !is_refusal(&error) => {
                    return Err(Failed { error, left: passage.drain()? });
                }
                Ok(_) | Err(_) => {
                    self.put(passage.drain()?, rest).await?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Writes what was read.
    async fn put<B>(&self, bytes: B, rest: &mut Range<u64>) -> Result<B, Failed>
    where
        B: IoBuf + Deref<Target = [u8]>,
    {
        match self.write_all_at(bytes, rest.start).await {
            Ok(written) => {
                rest.start += IoBuf::len(&written) as u64;
                Ok(written)
            }
            Err(BufError { error, done, buf }) => {
                rest.start += done as u64;
                Err(Failed { error, left: buf[done..].to_vec() })
            }
        }
    }
}

/// What went wrong, and what was read by then and not written.
struct Failed {
    error: Error,
    left: Vec<u8>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed { error, left: Vec::new() }
    }
}

fn left(rest: &Range<u64>) -> u64 {
    rest.end.saturating_sub(rest.start)
}

/// What is read at a time where the kernel does not move it.
const PIECE: u64 = 64 << 10;
