//! From one stream into another.

use std::cell::Cell;
use std::mem;

use crate::error::{Error, Result};
use crate::nursery::nursery;
use crate::op::{BufError, Chunk};

use super::{Came, Passage, Read, Write, is_refusal};

/// Writes to `to` what comes from `from`, until its end, and says how many bytes that were. What `to` keeps in
/// a buffer is flushed at the end, but `to` is not finished.
///
/// Nothing is copied in memory: what is written is the buffer into which the kernel has put it. Between sockets
/// and pipes of trine the kernel moves the bytes by itself (splice(2)) while so many wait in `from` that it
/// pays: 256 KiB, after the first MiB. What is idle costs neither the pipe that this takes nor one of the
/// kernel's threads. Where `to` is slow one of them waits with the bytes, and in a run at most 16 copies do this
/// at a time. (Of a file as standard input a part that somebody changes meanwhile may go out changed.)
///
/// Cancel class: partial: [`done`](BufError::done) says how many bytes were written, and
/// [`buf`](BufError::buf) has those that were read and not written, so that no byte is lost. Dropped while it has
/// such bytes, it loses them, and `to` is [`Broken`](crate::Error::Broken) ([`Write::lose`]); dropped while it waits
/// for `from`, it loses nothing. So under a time limit cancel it, and do not drop it. Linux 6.1.
///
/// # Errors
/// Those of either stream; `Cancelled`.
///
/// ```
/// use trine::io::{self, Write};
/// use trine::pipe;
///
/// trine::run(async || {
///     let ((from, feeder), (taker, to)) = (pipe::pipe()?, pipe::pipe()?);
///     feeder.write_all("through two pipes").await?;
///     feeder.finish().await?;
///     assert_eq!(io::copy(&from, &to).await?, 17);
///     assert_eq!(taker.recv().await?.expect("not the end"), *b"through two pipes");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn copy(from: &impl Read, to: &impl Write) -> Result<u64, BufError<Option<Chunk>>> {
    let (mut done, mut look) = (0, Some(0));
    loop {
        match from.recv().await {
            Ok(Some(chunk)) => write(to, chunk, &mut done).await?,
            Ok(None) => {
                let flushed = to.flush().await;
                return flushed.map(|()| done as u64).map_err(|error| nothing_left(error, done));
            }
            Err(error) => return Err(nothing_left(error, done)),
        }
        let (Some(at), Some(source)) = (look, from.source()) else { continue };
        if done >= at + source.stride() {
            look = Some(done);
            if let Some(passage) = source.passage(u64::MAX).filter(|_| to.direct().is_some()) {
                // Boxed, because most copies never come here, and those that are idle are to be small.
                let moved = Box::pin(move_on(from, &passage, to, &mut done)).await?;
                look = moved.then_some(done);
            }
        }
    }
}

/// Has the kernel move the bytes, as long as that pays. `false`: it cannot.
async fn move_on(
    from: &impl Read,
    passage: &Passage,
    to: &impl Write,
    done: &mut usize,
) -> Result<bool, BufError<Option<Chunk>>> {
    let (Some(source), Some(direct)) = (from.source(), to.direct()) else { return Ok(false) };
    loop {
        let came = source.divert(passage, u64::MAX).await;
        match came.map_err(|error| nothing_left(error, *done))? {
            Came::Before => match from.recv().await {
                Ok(Some(chunk)) => write(to, chunk, done).await?,
                Ok(None) => {}
                Err(error) => return Err(nothing_left(error, *done)),
            },
            Came::Moved => {
                let in_hand = InHand { to };
                let moved = direct.splice(passage).await;
                *done += moved.as_ref().map_or_else(|failed| failed.done, |&len| len);
                let Err(failed) = moved else {
                    in_hand.settle();
                    continue;
                };
                let rest = passage.drain().map_err(|error| nothing_left(error, *done))?;
                in_hand.settle();
                let rest = Chunk::from_vec(rest);
                if !is_refusal(&failed.error) {
                    return Err(BufError::new(failed.error, *done, Some(rest)));
                }
                write(to, rest, done).await?;
                return Ok(false);
            }
            Came::TooLittle => return Ok(true),
            Came::Refused => return Ok(false),
        }
    }
}

async fn write(
    to: &impl Write,
    chunk: Chunk,
    done: &mut usize,
) -> Result<(), BufError<Option<Chunk>>> {
    let (len, in_hand) = (chunk.len(), InHand { to });
    let written = to.write_all(chunk).await;
    in_hand.settle();
    match written {
        Ok(_) => {
            *done += len;
            Ok(())
        }
        Err(BufError { error, done: sent, buf: mut rest }) => {
            *done += sent;
            rest.advance(sent);
            Err(BufError::new(error, *done, Some(rest)))
        }
    }
}

/// Bytes were read, and it is not known yet whether they are written. Whoever is dropped with them loses them.
struct InHand<'a, W: Write> {
    to: &'a W,
}

impl<W: Write> InHand<'_, W> {
    /// They are written, or given back.
    fn settle(self) {
        mem::forget(self);
    }
}

impl<W: Write> Drop for InHand<'_, W> {
    fn drop(&mut self) {
        self.to.lose();
    }
}

fn nothing_left(error: Error, done: usize) -> BufError<Option<Chunk>> {
    BufError::new(error, done, None)
}

/// Passes on between two streams what comes from either, and says how many bytes that were: from `a` to
/// `b`, and back. Where one stream ends, the other one is [finished](Write::finish), and the other direction goes
/// on; when both have ended this returns.
///
/// Cancel class: partial: [`buf`](BufError::buf) has the two numbers. What was read and not written is lost, also
/// when it is dropped: where that was something the stream is [`Broken`](crate::Error::Broken) then
/// ([`Write::lose`]), and good for closing.
///
/// # Errors
/// The first one that either direction meets, which ends the other one; `Cancelled`.
///
/// ```
/// use trine::io::{self, Read, Write};
///
/// trine::run(async || {
///     let ((client, front), (back, server)) = (io::duplex(99), io::duplex(99));
///     trine::nursery(async |n| {
///         let proxy = n.fork(async { Ok(io::copy_bidirectional(&front, &back).await?) });
///         client.write_all("ping").await?;
///         client.finish().await?;
///         assert_eq!(server.recv().await?.expect("not the end"), *b"ping");
///         server.write_all("pong!").await?;
///         server.finish().await?;
///         assert_eq!(client.recv().await?.expect("not the end"), *b"pong!");
///         assert_eq!(proxy.await?, (4, 5));
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn copy_bidirectional(
    a: &(impl Read + Write),
    b: &(impl Read + Write),
) -> Result<(u64, u64), BufError<(u64, u64)>> {
    let (there, back) = (Cell::new(0), Cell::new(0));
    let outcome = nursery(async |n| {
        n.spawn(pass_on(a, b, &there));
        n.spawn(pass_on(b, a, &back));
        Ok(())
    })
    .await;
    let (there, back) = (there.get(), back.get());
    match outcome {
        Ok(()) => Ok((there, back)),
        Err(error) => Err(BufError::new(error, (there + back) as usize, (there, back))),
    }
}

async fn pass_on(from: &impl Read, to: &impl Write, count: &Cell<u64>) -> Result {
    let copied = copy(from, to).await;
    count.set(copied.as_ref().map_or_else(|failed| failed.done as u64, |&count| count));
    if let Err(BufError { buf: Some(_), .. }) = &copied {
        to.lose();
    }
    copied?;
    to.finish().await
}
