//! Two connected streams in memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::exec;
use crate::op::{BufError, Chunk, IoBuf, IoBufMut, Storage, check_whole};
use crate::sync::{ParkingLot, Resource, wait_for};

use super::half::Half;
use super::{Close, Read, Write};

/// Makes two streams in memory, each the other end of the other. A direction holds `capacity` bytes; who
/// writes more waits until the other end has read something. (A capacity of 0 is one of 1.)
///
/// They do what a connection does, without a kernel: for tests, and between tasks of one run.
///
/// ```
/// use trine::io::{self, Read, Write};
///
/// trine::run(async || {
///     let (here, there) = io::duplex(16);
///     trine::nursery(async |n| {
///         n.spawn(async {
///             here.write_all("more than fits into sixteen bytes").await?;
///             here.finish().await
///         });
///         let mut received = Vec::new();
///         while let Some(chunk) = there.recv().await? {
///             received.extend_from_slice(&chunk);
///         }
///         assert_eq!(received, b"more than fits into sixteen bytes");
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn duplex(capacity: usize) -> (Duplex, Duplex) {
    let way = || Rc::new(Way { capacity: capacity.max(1), ..Way::default() });
    let (there, back) = (way(), way());
    let left = Duplex { incoming: Rc::clone(&back), outgoing: Rc::clone(&there) };
    (left, Duplex { incoming: there, outgoing: back })
}

/// One of two connected streams in memory, made by [`duplex`]. Dropping it closes it.
///
/// Two readers at a time, or two writers, get [`Error::Busy`]. What was written before the end can still
/// be read behind it; when one end is closed, the other's writes fail with `BrokenPipe`.
pub struct Duplex {
    incoming: Rc<Way>,
    outgoing: Rc<Way>,
}

/// One direction.
#[derive(Default)]
struct Way {
    capacity: usize,
    bytes: RefCell<VecDeque<u8>>,
    /// No more will be written.
    ended: Cell<bool>,
    /// Nobody will read.
    deaf: Cell<bool>,
    /// Something of a dropped write is here, and its writer never heard how much (rule D7); or bytes are missing.
    broken: Cell<bool>,
    read_half: Half<()>,
    write_half: Half<()>,
    /// The one who waits for bytes, and the one who waits for room.
    reader: ParkingLot,
    writer: ParkingLot,
}

impl Way {
    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.borrow().len())
    }

    /// Waits for bytes, or for the end of them.
    async fn readable(&self) -> Result {
        until(&self.reader, || self.ended.get() || !self.bytes.borrow().is_empty()).await
    }

    /// Waits for room, if there is something to write, or for the news that it will never be needed.
    async fn writable(&self, something: bool) -> Result {
        let is_over = || self.ended.get() || self.broken.get() || self.deaf.get();
        until(&self.writer, || !something || is_over() || self.room() > 0).await?;
        match self {
            _ if self.broken.get() => Err(Error::Broken(WRITE_HALF)),
            _ if self.ended.get() => Err(Error::Closed(WRITE_HALF)),
            _ if self.deaf.get() => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
            _ => Ok(()),
        }
    }

    /// Takes bytes in, as many as there is room for, and says how many.
    fn put(&self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.bytes.borrow_mut().extend(&bytes[..count]);
        self.reader.hand_all(drop);
        count
    }

    fn take_all(&self) -> Option<Chunk> {
        let bytes = self.bytes.take();
        self.writer.hand_all(drop);
        (!bytes.is_empty()).then(|| Chunk::from_vec(bytes.into()))
    }

    /// Moves bytes into a buffer, as many as fit.
    fn take_into(&self, storage: &mut Storage) {
        let mut bytes = self.bytes.borrow_mut();
        let (front, back) = bytes.as_slices();
        let count = storage.append(front) + storage.append(back);
        bytes.drain(..count);
        drop(bytes);
        self.writer.hand_all(drop);
    }

    fn end(&self) {
        self.ended.set(true);
        self.reader.hand_all(drop);
    }
}

impl Duplex {
    /// Waits until the other end has read everything, or is closed: `false`.
    #[cfg(feature = "testing")]
    pub(crate) async fn delivered(&self) -> Result<bool> {
        let way = &self.outgoing;
        let is_empty = || way.bytes.borrow().is_empty();
        until(&way.writer, || is_empty() || way.deaf.get()).await?;
        Ok(is_empty())
    }

    /// Bytes that can be read.
    #[cfg(feature = "testing")]
    pub(crate) fn waiting(&self) -> usize {
        self.incoming.bytes.borrow().len()
    }

    /// Writes once or until all is written.
    async fn send<B: IoBuf>(&self, buf: B, all: bool) -> Result<(usize, B), BufError<B>> {
        let way = &*self.outgoing;
        let bytes = buf.slice(..);
        let mut unsaid = Unsaid { way, done: 0 };
        let writing = async {
            check_whole(bytes.is_whole())?;
            let _turn = way.write_half.turn(WRITE_HALF)?;
            loop {
                way.writable(!bytes.is_empty()).await?;
                unsaid.done += way.put(&bytes[unsaid.done..]);
                if !all || unsaid.done == bytes.len() {
                    return Ok(());
                }
            }
        };
        let outcome: Result = writing.await;
        let done = std::mem::take(&mut unsaid.done);
        match outcome {
            Ok(()) => Ok((done, bytes.into_inner())),
            Err(error) => Err(BufError::new(error, done, bytes.into_inner())),
        }
    }

    /// Reads once or until the buffer is full. What has come for a dropped one goes back.
    async fn receive<B: IoBufMut>(&self, buf: B, exact: bool) -> Result<B, BufError<B>> {
        let way = &*self.incoming;
        let shelf = Default::default();
        let wanted = IoBufMut::capacity(&buf);
        let begin = async {
            if wanted == 0 {
                let text = "the buffer has no room to read into";
                return Err(Error::from(io::Error::new(io::ErrorKind::InvalidInput, text)));
            }
            let turn = way.read_half.turn(READ_HALF)?;
            way.readable().await?;
            Ok(turn)
        };
        let _turn = match begin.await {
            Ok(turn) => turn,
            Err(error) => return Err(BufError::new(error, 0, buf)),
        };
        let mut taken = Taken { way, storage: Some(Storage::to_fill(buf, &shelf)) };
        let storage = taken.storage.as_mut().expect("it was just put there");
        way.take_into(storage);
        let mut outcome = Ok(());
        while exact && storage.room() > 0 && outcome.is_ok() {
            outcome = way.readable().await;
            if outcome.is_ok() && way.bytes.borrow().is_empty() {
                outcome = Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            way.take_into(storage);
        }
        let done = storage.filled();
        let buf = taken.storage.take().expect("it is there until now").into_filled(&shelf);
        match outcome {
            Ok(()) => Ok(buf),
            Err(error) => Err(BufError::new(error, done, buf)),
        }
    }
}

/// Waits until `look` finds something.
async fn until(lot: &ParkingLot, look: impl Fn() -> bool) -> Result {
    exec::checkpoint_if_cancelled().await?;
    let what = Until { lot, look };
    loop {
        wait_for(&what, ()).await?;
        // Whoever wakes it says that something has changed, not what.
        if (what.look)() {
            return Ok(());
        }
    }
}

struct Until<'a, F> {
    lot: &'a ParkingLot,
    look: F,
}

impl<F: Fn() -> bool> Resource for Until<'_, F> {
    type Request = ();
    type Grant = ();

    fn lot(&self) -> &ParkingLot {
        self.lot
    }

    fn try_grant(&self, (): ()) -> std::result::Result<(), ()> {
        (self.look)().then_some(()).ok_or(())
    }

    /// Being woken is nothing that another one could have instead: the half has one user.
    fn reclaim(&self, (): ()) {}
}

/// A write. If it is dropped, nobody knows how much went out.
struct Unsaid<'a> {
    way: &'a Way,
    done: usize,
}

impl Drop for Unsaid<'_> {
    fn drop(&mut self) {
        if self.done > 0 {
            self.way.broken.set(true);
        }
    }
}

/// What a read has taken. If it is dropped, that belongs to the stream (rule D7).
struct Taken<'a> {
    way: &'a Way,
    storage: Option<Storage>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(storage) = &self.storage else { return };
        let mut bytes = self.way.bytes.borrow_mut();
        for byte in storage.copy_filled().into_iter().rev() {
            bytes.push_front(byte);
        }
    }
}

impl Read for Duplex {
    async fn recv(&self) -> Result<Option<Chunk>> {
        let way = &*self.incoming;
        let _turn = way.read_half.turn(READ_HALF)?;
        way.readable().await?;
        Ok(way.take_all())
    }

    async fn read<B: IoBufMut>(&self, buf: B) -> Result<B, BufError<B>> {
        self.receive(buf, false).await
    }

    async fn read_exact<B: IoBufMut>(&self, buf: B) -> Result<B, BufError<B>> {
        self.receive(buf, true).await
    }
}

impl Write for Duplex {
    async fn write<B: IoBuf>(&self, buf: B) -> Result<(usize, B), BufError<B>> {
        self.send(buf, false).await
    }

    async fn write_all<B: IoBuf>(&self, buf: B) -> Result<B, BufError<B>> {
        Ok(self.send(buf, true).await?.1)
    }

    async fn finish(&self) -> Result {
        let way = &*self.outgoing;
        let _turn = way.write_half.turn(WRITE_HALF)?;
        until(&way.writer, || true).await?;
        way.end();
        Ok(())
    }

    fn lose(&self) {
        self.outgoing.broken.set(true);
    }
}

impl Close for Duplex {
    async fn close(self) -> Result {
        drop(self);
        let run = exec::current()?;
        run.schedule_point().await;
        Ok(run.closing_point()?)
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        self.outgoing.end();
        self.incoming.deaf.set(true);
        self.incoming.writer.hand_all(drop);
    }
}

const READ_HALF: &str = "the read half of the stream";
const WRITE_HALF: &str = "the write half of the stream";

impl fmt::Debug for Duplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Duplex({} bytes to read)", self.incoming.bytes.borrow().len())
    }
}
