//! From one stream into another.

use std::cell::Cell;

use crate::error::Result;
use crate::nursery::nursery;
use crate::op::{BufError, Chunk};

use super::{Read, Write};

/// Writes to `to` what comes from `from`, until its end, and says how many bytes that were. What `to` keeps in
/// a buffer is flushed at the end, but `to` is not finished.
///
/// Nothing is copied in memory: what is written is the buffer into which the kernel has put it.
///
/// Cancel class: partial: [`done`](BufError::done) says how many bytes were written, and
/// [`buf`](BufError::buf) has those that were read and not written, so that no byte is lost. Dropping it is
/// dropping a read or a write: after the latter `to` is [`Broken`](crate::Error::Broken) if something went out.
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
    let mut done = 0;
    let failed = loop {
        let chunk = match from.recv().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break to.flush().await.err(),
            Err(error) => break Some(error),
        };
        let len = chunk.len();
        if let Err(BufError { error, done: sent, buf: mut rest }) = to.write_all(chunk).await {
            rest.advance(sent);
            return Err(BufError::new(error, done + sent, Some(rest)));
        }
        done += len;
    };
    match failed {
        None => Ok(done as u64),
        Some(error) => Err(BufError::new(error, done, None)),
    }
}

/// Passes on between two streams what comes from either, and says how many bytes that were: from `a` to
/// `b`, and back. Where one stream ends, the other one is [finished](Write::finish), and the other direction goes
/// on; when both have ended this returns.
///
/// Cancel class: partial: [`buf`](BufError::buf) has the two numbers. What was read and not written is lost:
/// afterwards the streams are good for closing.
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
    copied?;
    to.finish().await
}
