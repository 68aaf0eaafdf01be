//! Messages in a stream: with their length before them, or with something behind them.

use std::io;

use crate::error::Result;
use crate::op::Chunk;

use super::buf_reader::{ended_within, find, invalid};
use super::{BufReader, BufWriter, Read, Write};

/// How the length of a frame is written before it: in so many bits, the most significant byte first. The
/// prefix itself does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prefix {
    /// One byte: frames of at most 255 bytes.
    U8,
    /// Two bytes: at most 65,535.
    U16,
    /// Four bytes: at most 4,294,967,295.
    U32,
}

impl Prefix {
    fn width(self) -> usize {
        match self {
            Prefix::U8 => 1,
            Prefix::U16 => 2,
            Prefix::U32 => 4,
        }
    }

    /// The prefix of a frame of this length, if it can be said.
    fn write(self, len: usize) -> Option<Vec<u8>> {
        let len = u32::try_from(len).ok()?.to_be_bytes();
        let (zeros, prefix) = len.split_at(len.len() - self.width());
        zeros.iter().all(|&byte| byte == 0).then(|| prefix.to_vec())
    }
}

fn length(prefix: &[u8]) -> usize {
    prefix.iter().fold(0, |length, &byte| length << 8 | usize::from(byte))
}

impl<R: Read> BufReader<R> {
    /// Takes a frame that has its length before it, and returns it without that. `None`: the stream has
    /// ended behind a frame, as it should.
    ///
    /// `limit` is the most bytes that it may have, without the prefix.
    ///
    /// Cancel class: total; what has come is not lost.
    ///
    /// # Errors
    /// `InvalidData` if the frame is longer than `limit`; this is said before it has come, and nothing is
    /// taken. `UnexpectedEof` if the stream ends within a frame. Those of the stream;
    /// [`Error::Busy`](crate::Error::Busy) if another task reads; `Cancelled`.
    ///
    /// ```
    /// use trine::io::{self, BufReader, BufWriter, Prefix};
    ///
    /// trine::run(async || {
    ///     let (here, there) = io::duplex(1024);
    ///     let (reader, writer) = (BufReader::new(here), BufWriter::new(there));
    ///     writer.write_frame(Prefix::U16, "hello").await?;
    ///     writer.flush().await?;
    ///     let frame = reader.read_frame(Prefix::U16, 100).await?.expect("not the end");
    ///     assert_eq!(frame, *b"hello");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn read_frame(&self, prefix: Prefix, limit: usize) -> Result<Option<Chunk>> {
        let width = prefix.width();
        self.until(|pieces, ended| {
            let there = pieces.len();
            if there < width {
                let error = || Err(ended_within("the length of a frame", there, width));
                return ended.then(|| if there == 0 { Ok(None) } else { error() });
            }
            let len = length(&pieces.copy(width));
            if len > limit {
                let text = format!("a frame of {len} bytes, where the limit is {limit}");
                return Some(Err(invalid(text)));
            }
            if there - width < len {
                return ended.then(|| Err(ended_within("a frame", there - width, len)));
            }
            pieces.skip(width);
            Some(Ok(Some(pieces.take(len))))
        })
        .await
    }

    /// Takes everything up to `delimiter`, and returns it without that. `None`: the stream has ended
    /// behind a delimiter, as it should.
    ///
    /// `limit` is the most bytes that it may be, with the delimiter.
    ///
    /// Cancel class: total; what has come is not lost.
    ///
    /// # Errors
    /// `InvalidData` if there is none among the first `limit` bytes; nothing was taken then.
    /// `UnexpectedEof` if the stream ends before one; `InvalidInput` for one of no bytes. Those of the
    /// stream; [`Error::Busy`](crate::Error::Busy) if another task reads; `Cancelled`.
    ///
    /// ```
    /// use trine::io::{self, BufReader, Write};
    ///
    /// trine::run(async || {
    ///     let (here, there) = io::duplex(1024);
    ///     there.write_all("GET / HTTP/1.1\r\nHost: a\r\n\r\nbody").await?;
    ///     let head = BufReader::new(here).read_delimited(b"\r\n\r\n", 8192).await?;
    ///     assert_eq!(head.expect("not the end"), *b"GET / HTTP/1.1\r\nHost: a");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn read_delimited(&self, delimiter: &[u8], limit: usize) -> Result<Option<Chunk>> {
        if delimiter.is_empty() {
            let text = "a delimiter of no bytes is found everywhere; it needs one at least";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
        }
        let mut seen = 0;
        self.until(|pieces, ended| match find(pieces, delimiter, &mut seen, limit) {
            Err(error) => Some(Err(error)),
            Ok(Some(end)) => {
                let mut frame = pieces.take(end);
                frame.truncate(end - delimiter.len());
                Some(Ok(Some(frame)))
            }
            Ok(None) if !ended => None,
            Ok(None) if pieces.len() == 0 => Some(Ok(None)),
            Ok(None) => {
                let (there, shown) = (pieces.len(), delimiter.escape_ascii());
                let text = format!("the stream has ended after {there} bytes without \"{shown}\"");
                Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text).into()))
            }
        })
        .await
    }
}

impl<W: Write> BufWriter<W> {
    /// Writes a frame with its length before it: all of it or, if it is cancelled, nothing.
    ///
    /// Cancel class: total, as that of [`write`](BufWriter::write).
    ///
    /// # Errors
    /// `InvalidInput` if the prefix cannot say the length. As [`write`](BufWriter::write).
    pub async fn write_frame(&self, prefix: Prefix, frame: impl AsRef<[u8]>) -> Result {
        let frame = frame.as_ref();
        let Some(before) = prefix.write(frame.len()) else {
            let text = format!("a frame of {} bytes is too long for {prefix:?}", frame.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
        };
        self.put(|unsent| {
            unsent.extend_from_slice(&before);
            unsent.extend_from_slice(frame);
        })
        .await
    }
}
