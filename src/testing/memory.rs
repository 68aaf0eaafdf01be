//! Streams between two tasks, without any kernel.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use crate::error::{Error, Result};

use super::lot::Lot;

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
    let (there, back) = (Rc::new(Pipe::new(kind)), Rc::new(Pipe::new(kind)));
    let left = MemoryStream { incoming: Rc::clone(&back), outgoing: Rc::clone(&there) };
    (left, MemoryStream { incoming: there, outgoing: back })
}

/// One end of a stream in memory. Dropping it closes it.
pub struct MemoryStream {
    incoming: Rc<Pipe>,
    outgoing: Rc<Pipe>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Unlimited,
    Lockstep,
}

/// One direction.
struct Pipe {
    kind: Kind,
    bytes: RefCell<VecDeque<u8>>,
    /// Bytes that were received so far, and that were sent.
    received: Cell<u64>,
    sent: Cell<u64>,
    /// No more will be sent.
    ended: Cell<bool>,
    /// Nobody will receive.
    deaf: Cell<bool>,
    /// A send was given up whose bytes may arrive or not.
    broken: Cell<bool>,
    sending: Cell<bool>,
    receiving: Cell<bool>,
    lot: Lot,
}

impl Pipe {
    fn new(kind: Kind) -> Pipe {
        Pipe {
            kind,
            bytes: RefCell::default(),
            received: Cell::new(0),
            sent: Cell::new(0),
            ended: Cell::new(false),
            deaf: Cell::new(false),
            broken: Cell::new(false),
            sending: Cell::new(false),
            receiving: Cell::new(false),
            lot: Lot::default(),
        }
    }
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
        let pipe = &*self.outgoing;
        let _sending = Use::of(&pipe.sending, SEND_HALF)?;
        // A cancel point before anything has happened (rule A8).
        pipe.lot.until(|| Some(())).await?;
        if pipe.ended.get() {
            return Err(Error::Closed(SEND_HALF));
        }
        if pipe.deaf.get() || pipe.broken.get() {
            return Err(Error::Broken(SEND_HALF));
        }
        pipe.bytes.borrow_mut().extend(bytes);
        let until = pipe.sent.get() + bytes.len() as u64;
        pipe.sent.set(until);
        pipe.lot.wake_all();
        if pipe.kind == Kind::Unlimited {
            return Ok(());
        }
        let doubt = Doubt { pipe };
        let heard = || (pipe.received.get() >= until).then_some(true);
        let delivered = pipe.lot.until(|| heard().or(pipe.deaf.get().then_some(false))).await?;
        if !delivered {
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
        if most == 0 {
            let text = "at most 0 bytes are no bytes; ask for one at least";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text).into());
        }
        let pipe = &*self.incoming;
        let _receiving = Use::of(&pipe.receiving, RECEIVE_HALF)?;
        let is_there = || !pipe.bytes.borrow().is_empty() || pipe.ended.get();
        pipe.lot.until(|| is_there().then_some(())).await?;
        // Taken only now, when the wait cannot be cancelled any more.
        let mut bytes = pipe.bytes.borrow_mut();
        let count = bytes.len().min(most);
        let taken = bytes.drain(..count).collect();
        drop(bytes);
        pipe.received.set(pipe.received.get() + count as u64);
        pipe.lot.wake_all();
        Ok(taken)
    }

    /// The other end sees the end of the stream; this one can still receive. Twice is once.
    ///
    /// # Errors
    /// [`Error::Busy`] while another task sends; `Cancelled`.
    pub async fn send_eof(&self) -> Result {
        let pipe = &*self.outgoing;
        let _sending = Use::of(&pipe.sending, SEND_HALF)?;
        pipe.lot.until(|| Some(())).await?;
        pipe.ended.set(true);
        pipe.lot.wake_all();
        Ok(())
    }

    /// Closes this end, also in a cancelled scope (rule M2).
    ///
    /// # Errors
    /// `Cancelled`; it is closed all the same.
    pub async fn close(self) -> Result {
        drop(self);
        crate::checkpoint().await
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.outgoing.ended.set(true);
        self.incoming.deaf.set(true);
        self.outgoing.lot.wake_all();
        self.incoming.lot.wake_all();
    }
}

const SEND_HALF: &str = "the send half of the stream";
const RECEIVE_HALF: &str = "the receive half of the stream";

/// A send that waits. Whoever gives it up does not know what has arrived.
struct Doubt<'a> {
    pipe: &'a Pipe,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.pipe.broken.set(true);
    }
}

/// One task at a time.
struct Use<'a> {
    taken: &'a Cell<bool>,
}

impl<'a> Use<'a> {
    fn of(taken: &'a Cell<bool>, what: &'static str) -> Result<Use<'a>> {
        if taken.replace(true) {
            return Err(Error::Busy(what));
        }
        Ok(Use { taken })
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.taken.set(false);
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.incoming.bytes.borrow().len();
        write!(f, "MemoryStream({:?}, {waiting} bytes to receive)", self.incoming.kind)
    }
}
