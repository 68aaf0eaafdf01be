//! Writing little by little, and sending much at a time.

use std::fmt;
use std::mem;

use crate::error::{Error, Result};
use crate::op::{BufError, Chunk, IoBuf, IoBufMut, check_whole};

use super::half::Half;
use super::{Close, Read, Write, worse};

/// Keeps what is written until there is enough of it to be sent, or until [`flush`](BufWriter::flush).
///
/// A write is all or nothing. It first sends what is there, if that is as much as the capacity; then it
/// takes all of the new bytes, without waiting. So there are never more bytes here than the capacity
/// and those of one write, and a write that reports `Cancelled` has written nothing.
///
/// A send that is cancelled, or fails, knows how much went out, and keeps the rest: the next one goes on
/// there, and no byte is lost or sent twice. One that is *dropped* knows nothing; then the writer is
/// [`Broken`](Error::Broken).
///
/// **Dropping it loses what was not sent**, for a drop cannot wait: [`close`](Close::close) it, or flush.
///
/// All methods take `&self`; two tasks that write at a time get [`Error::Busy`]. What is read comes from
/// the stream. It may also be made of a reference to a stream: `BufWriter::new(&stream)`.
///
/// ```
/// use trine::io::{self, BufWriter, Close, Read};
///
/// trine::run(async || {
///     let (here, there) = io::duplex(1024);
///     let writer = BufWriter::new(here);
///     writeln!(writer, "{} bottles", 99).await?;
///     writer.write("of beer\n").await?;
///     assert_eq!(writer.buffered(), 19, "nothing was sent");
///     writer.close().await?;
///     assert_eq!(there.recv().await?.expect("all at once"), *b"99 bottles\nof beer\n");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct BufWriter<W> {
    inner: W,
    capacity: usize,
    unsent: Half<Unsent>,
}

#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    /// A send was dropped with the bytes, or whoever had some that were to be written.
    broken: bool,
}

/// As much as a pipe takes in few turns, and a socket at once.
const CAPACITY: usize = 16 << 10;

impl<W> BufWriter<W> {
    /// One that keeps up to 16 KiB.
    pub fn new(inner: W) -> BufWriter<W> {
        BufWriter::with_capacity(CAPACITY, inner)
    }

    /// One that sends when `capacity` bytes are there.
    pub fn with_capacity(capacity: usize, inner: W) -> BufWriter<W> {
        BufWriter { inner, capacity, unsent: Half::default() }
    }

    /// The stream. What is written to it directly overtakes what is here.
    pub fn get_ref(&self) -> &W {
        &self.inner
    }

    /// The stream, and what was not sent.
    pub fn into_parts(self) -> (W, Vec<u8>) {
        (self.inner, self.unsent.into_inner().bytes)
    }

    /// How many bytes were written and not sent.
    pub fn buffered(&self) -> usize {
        self.unsent.with(|unsent| unsent.bytes.len())
    }

    /// How many bytes it keeps before a write sends them.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

impl<W: Write> BufWriter<W> {
    /// Writes all of `bytes`. If as much as the capacity is there already, that is sent before.
    ///
    /// Cancel class: total: nothing was written then, nor if it is dropped. But if it is dropped while it
    /// sends, the writer is [`Broken`](Error::Broken).
    ///
    /// # Errors
    /// Those of the stream, of which nothing of `bytes` has become part; [`Error::Busy`] if another task
    /// writes; `Cancelled`.
    pub async fn write(&self, bytes: impl AsRef<[u8]>) -> Result {
        self.put(|unsent| unsent.extend_from_slice(bytes.as_ref())).await
    }

    /// Writes what `write!` formats: `write!(writer, "{n}\n").await?`.
    ///
    /// Cancel class and errors: as [`write`](BufWriter::write).
    pub async fn write_fmt(&self, text: fmt::Arguments<'_>) -> Result {
        self.write(text.to_string()).await
    }

    /// Sends everything that was written.
    ///
    /// Cancel class: partial: what was not sent is kept, and the next flush goes on there. After a dropped
    /// flush the writer is [`Broken`](Error::Broken).
    ///
    /// # Errors
    /// Those of the stream; [`Error::Busy`] if another task writes; `Cancelled`.
    pub async fn flush(&self) -> Result {
        let _turn = self.unsent.begin(WRITER).await?;
        self.send().await?;
        self.inner.flush().await
    }

    /// Has `put` add bytes when there is room for them.
    pub(super) async fn put(&self, put: impl FnOnce(&mut Vec<u8>)) -> Result {
        let _turn = self.unsent.begin(WRITER).await?;
        if self.buffered() >= self.capacity.max(1) {
            self.send().await?;
        }
        self.unsent.with(|unsent| match unsent.broken {
            true => Err(Error::Broken(WRITER)),
            false => {
                put(&mut unsent.bytes);
                Ok(())
            }
        })
    }

    /// Sends what is there, and keeps what could not be sent.
    async fn send(&self) -> Result {
        let bytes = self.unsent.with(|unsent| match unsent.broken {
            true => Err(Error::Broken(WRITER)),
            false => Ok(mem::take(&mut unsent.bytes)),
        })?;
        let away = Away { unsent: &self.unsent };
        let sent = match bytes.is_empty() {
            true => Ok(bytes),
            false => self.inner.write_all(bytes).await,
        };
        mem::forget(away);
        let (mut bytes, done, result) = match sent {
            Ok(bytes) => (bytes, None, Ok(())),
            Err(BufError { error, done, buf }) => (buf, Some(done), Err(error)),
        };
        bytes.drain(..done.unwrap_or(bytes.len()));
        bytes.shrink_to(self.capacity.saturating_mul(2));
        self.unsent.with(|unsent| unsent.bytes = bytes);
        result
    }
}

/// The bytes are with the stream. If a send is dropped they are lost, and nobody knows how many of them
/// went out.
struct Away<'a> {
    unsent: &'a Half<Unsent>,
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.unsent.with(|unsent| unsent.broken = true);
    }
}

const WRITER: &str = "the buffered writer";

/// As [`BufWriter::write`]: all of a buffer, or nothing of it.
impl<W: Write> Write for BufWriter<W> {
    async fn write<B: IoBuf>(&self, buf: B) -> Result<(usize, B), BufError<B>> {
        let buf = self.write_all(buf).await?;
        Ok((buf.len(), buf))
    }

    async fn write_all<B: IoBuf>(&self, buf: B) -> Result<B, BufError<B>> {
        let bytes = buf.slice(..);
        if let Err(error) = check_whole(bytes.is_whole()) {
            return Err(BufError::new(error, 0, bytes.into_inner()));
        }
        match self.put(|unsent| unsent.extend_from_slice(&bytes)).await {
            Ok(()) => Ok(bytes.into_inner()),
            Err(error) => Err(BufError::new(error, 0, bytes.into_inner())),
        }
    }

    async fn flush(&self) -> Result {
        BufWriter::flush(self).await
    }

    /// Flushes before.
    async fn finish(&self) -> Result {
        let _turn = self.unsent.begin(WRITER).await?;
        self.send().await?;
        self.inner.finish().await
    }

    fn lose(&self) {
        self.unsent.with(|unsent| unsent.broken = true);
    }
}

impl<W: Write + Close> Close for BufWriter<W> {
    /// Flushes before, as long as the scope is not cancelled; what cannot be sent is lost.
    async fn close(self) -> Result {
        let flushed = self.flush().await;
        worse(flushed, self.inner.close().await)
    }
}

impl<W: Read> Read for BufWriter<W> {
    fn recv(&self) -> impl Future<Output = Result<Option<Chunk>>> {
        self.inner.recv()
    }

    fn read<B: IoBufMut>(&self, buf: B) -> impl Future<Output = Result<B, BufError<B>>> {
        self.inner.read(buf)
    }

    fn read_exact<B: IoBufMut>(&self, buf: B) -> impl Future<Output = Result<B, BufError<B>>> {
        self.inner.read_exact(buf)
    }
}

impl<W> fmt::Debug for BufWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufWriter({} bytes of {})", self.buffered(), self.capacity)
    }
}
