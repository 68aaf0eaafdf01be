//! Streams between two tasks, without any kernel.

use std::cell::Cell;
use std::fmt;
use std::io::ErrorKind;

use crate::error::{Error, Result};
use crate::io::{Close, Duplex, Half, Read, Write, duplex};
use crate::op::IoBuf;

/// Two ends of a stream in memory, of unlimited size: sending never waits.
///
/// ```
/// use trine::testing::{World, memory_stream_pair};
///
/// World::tame().run(async || {
///     let (left, right) = memory_stream_pair();
///     left.send_all(b"hello").await?;
///     assert_eq!(right.receive_some(3).await?, b"hel");
///     drop(left);
///     assert_eq!(right.receive_some(9).await?, b"lo");
///     assert_eq!(right.receive_some(9).await?, b"", "the end of the stream");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn memory_stream_pair() -> (MemoryStream, MemoryStream) {
    pair(Kind::Unlimited)
}

/// Two ends of a stream where every send waits until the other end has received all of it: which is
/// the least that a stream may promise.
pub fn lockstep_stream_pair() -> (MemoryStream, MemoryStream) {
    pair(Kind::Lockstep)
}

fn pair(kind: Kind) -> (MemoryStream, MemoryStream) {
    let (left, right) = duplex(usize::MAX);
    let stream =
        |duplex| MemoryStream { kind, duplex, sending: Half::default(), broken: Cell::new(false) };
    (stream(left), stream(right))
}

/// One end of a stream in memory. Dropping it closes it.
pub struct MemoryStream {
    kind: Kind,
    duplex: Duplex,
    /// Who sends, until it has heard that all was received.
    sending: Half<()>,
    /// A send was given up whose bytes may arrive or not.
    broken: Cell<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Unlimited,
    Lockstep,
}

impl MemoryStream {
    /// Sends all of it.
    ///
    /// Cancel class: partial: what was sent before may be received, nobody knows how much, and the half
    /// is [`Broken`](Error::Broken) afterwards. A send that need not wait is not cut off.
    ///
    /// # Errors
    /// [`Error::Broken`] if the other end is closed, [`Error::Closed`] after
    /// [`send_eof`](MemoryStream::send_eof), [`Error::Busy`] while another task sends; `Cancelled`.
    pub async fn send_all(&self, bytes: &[u8]) -> Result {
        let _sending = self.sending.turn(SEND_HALF)?;
        if self.broken.get() {
            crate::checkpoint_if_cancelled().await?;
            return Err(Error::Broken(SEND_HALF));
        }
        self.duplex.write_all(bytes.to_vec()).await.map_err(|failed| {
            match failed.error.io_kind() {
                Some(ErrorKind::BrokenPipe) => Error::Broken(SEND_HALF),
                _ => failed.error,
            }
        })?;
        if self.kind == Kind::Unlimited {
            return Ok(());
        }
        let doubt = Doubt { stream: self };
        if !self.duplex.delivered().await? {
            return Err(Error::Broken(SEND_HALF));
        }
        std::mem::forget(doubt);
        Ok(())
    }

    /// Receives at least one byte and at most `most`; none are the end of the stream.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// [`Error::Busy`] while another task receives, `InvalidInput` for a `most` of 0; `Cancelled`.
    pub async fn receive_some(&self, most: usize) -> Result<Vec<u8>> {
        let most = most.min(MOST);
        Ok(self.duplex.read(Vec::with_capacity(most).slice(..most)).await?.into_inner())
    }

    /// The other end sees the end of the stream; this one can still receive. Twice is once.
    ///
    /// # Errors
    /// [`Error::Busy`] while another task sends; `Cancelled`.
    pub async fn send_eof(&self) -> Result {
        let _sending = self.sending.turn(SEND_HALF)?;
        self.duplex.finish().await
    }

    /// Closes this end, also in a cancelled scope (rule M2).
    ///
    /// # Errors
    /// `Cancelled`; it is closed all the same.
    pub async fn close(self) -> Result {
        self.duplex.close().await
    }
}

const SEND_HALF: &str = "the send half of the stream";

/// Bytes that are received at a time at most.
const MOST: usize = 64 << 10;

/// A send that waits. Whoever gives it up does not know what has arrived.
struct Doubt<'a> {
    stream: &'a MemoryStream,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.stream.broken.set(true);
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.duplex.waiting();
        write!(f, "MemoryStream({:?}, {waiting} bytes to receive)", self.kind)
    }
}
