//! Reading by lines, by frames, by counted bytes.

use std::fmt;
use std::future::Future;
use std::io;

use crate::error::{Error, Result};
use crate::exec;
use crate::op::{BufError, Chunk, IoBuf, IoBufMut, Storage};

use super::half::Half;
use super::pieces::Pieces;
use super::{Close, Read, Write};

/// Keeps what has come of a stream until somebody takes it: in lines, in frames, or by the byte.
///
/// Nothing is copied where that can be helped: what it returns is a part of the buffer in which the kernel
/// has put it. And nothing is lost: what came for a read that was cancelled, dropped, or refused for its
/// length stays here, so any of its methods may stand in a `select!` or under a time limit.
///
/// Every method that looks for something takes a limit, which is also about how much it keeps in memory.
/// All of them take `&self`; two tasks that read at a time get [`Error::Busy`].
///
/// It reads and closes like the stream itself, and forwards what is written. It may also be made of a
/// reference to a stream: `BufReader::new(&stream)`.
///
/// ```
/// use trine::io::{self, BufReader, Write};
///
/// trine::run(async || {
///     let (here, there) = io::duplex(1024);
///     there.write_all("GET /\r\nHost: a\r\n\r\nbody").await?;
///     let reader = BufReader::new(here);
///     assert_eq!(reader.read_line(1024).await?.as_deref(), Some("GET /"));
///     while let Some(line) = reader.read_line(1024).await?.filter(|line| !line.is_empty()) {
///         assert_eq!(line, "Host: a");
///     }
///     assert_eq!(reader.take_exact(4).await?, *b"body");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct BufReader<R> {
    inner: R,
    pieces: Half<Pieces>,
}

impl<R> BufReader<R> {
    /// One that has read nothing yet.
    pub fn new(inner: R) -> BufReader<R> {
        BufReader { inner, pieces: Half::default() }
    }

    /// The stream. What is read from it directly is missing here.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// The stream, and what has been read of it and not taken, in order.
    pub fn into_parts(self) -> (R, Vec<Chunk>) {
        let mut pieces = self.pieces.into_inner();
        let mut left = Vec::new();
        left.extend(std::iter::from_fn(|| pieces.take_first()));
        (self.inner, left)
    }

    /// How many bytes have been read and not taken.
    pub fn buffered(&self) -> usize {
        self.pieces.with(|pieces| pieces.len())
    }
}

impl<R: Read> BufReader<R> {
    /// Receives once, whatever is there already, and says whether something came: `false` is the end of
    /// the stream.
    ///
    /// Cancel class: total; nothing is lost.
    ///
    /// # Errors
    /// Those of the stream; [`Error::Busy`] if another task reads; `Cancelled`.
    pub async fn fill(&self) -> Result<bool> {
        let _turn = self.pieces.turn(READER)?;
        self.receive().await
    }

    /// Waits until `count` bytes are there and shows a copy of them; fewer are the end of the stream.
    /// They are not taken.
    ///
    /// Cancel class: total; nothing is lost.
    ///
    /// # Errors
    /// Those of the stream; [`Error::Busy`] if another task reads; `Cancelled`.
    pub async fn peek(&self, count: usize) -> Result<Vec<u8>> {
        self.until(|pieces, ended| {
            let count = if ended { count.min(pieces.len()) } else { count };
            (pieces.len() >= count).then(|| Ok(pieces.copy(count)))
        })
        .await
    }

    /// Takes exactly `count` bytes.
    ///
    /// Cancel class: total; what has come of them is not lost.
    ///
    /// # Errors
    /// `UnexpectedEof` if the stream ends before; what came is still there. Those of the stream;
    /// [`Error::Busy`] if another task reads; `Cancelled`.
    pub async fn take_exact(&self, count: usize) -> Result<Chunk> {
        self.until(|pieces, ended| match pieces.len() {
            there if there >= count => Some(Ok(pieces.take(count))),
            there if ended => Some(Err(ended_within("what was to be read", there, count))),
            _ => None,
        })
        .await
    }

    /// Skips `count` bytes, without keeping them meanwhile, and says how many there were: fewer than
    /// `count` only if the stream has ended.
    ///
    /// Cancel class: partial: what was skipped before `Cancelled` is skipped, and
    /// [`done`](BufError::done) says how much that is. A dropped one does not say it.
    ///
    /// # Errors
    /// Those of the stream; [`Error::Busy`] if another task reads; `Cancelled`.
    pub async fn skip(&self, count: u64) -> Result<u64, BufError<()>> {
        let mut left = count;
        let skipped = |left: u64| (count - left) as usize;
        while left > 0 {
            let some = self.until(|pieces, ended| {
                let here = pieces.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                (here > 0 || ended).then(|| {
                    pieces.skip(here);
                    Ok(here as u64)
                })
            });
            match some.await {
                Ok(0) => break,
                Ok(some) => left -= some,
                Err(error) => return Err(BufError::new(error, skipped(left), ())),
            }
        }
        Ok(count - left)
    }

    /// Takes everything up to a `byte` and including it. At the end of the stream it is what is left,
    /// without that byte; `None`: nothing is left.
    ///
    /// `limit` is the most bytes that it may be, with the byte that is looked for.
    ///
    /// Cancel class: total; what has come is not lost.
    ///
    /// # Errors
    /// `InvalidData` if that byte is not among the first `limit`. Then nothing was taken: a larger
    /// limit, or [`skip`](BufReader::skip), goes on. Those of the stream; [`Error::Busy`] if another task
    /// reads; `Cancelled`.
    pub async fn read_until(&self, byte: u8, limit: usize) -> Result<Option<Chunk>> {
        let mut seen = 0;
        self.until(|pieces, ended| match find(pieces, &[byte], &mut seen, limit) {
            Err(error) => Some(Err(error)),
            Ok(Some(end)) => Some(Ok(Some(pieces.take(end)))),
            Ok(None) => ended.then(|| Ok(rest(pieces))),
        })
        .await
    }

    /// Takes a line, and returns it without its end, which is `\n` or `\r\n`. The last line may have no
    /// end; `None`: there are no more.
    ///
    /// `limit` is the most bytes that it may have, with its end.
    ///
    /// Cancel class: total; what has come is not lost.
    ///
    /// # Errors
    /// `InvalidData` if there is no end among the first `limit` bytes, or if it is not UTF-8. Then nothing
    /// was taken: [`read_until`](BufReader::read_until) returns any bytes. Those of the stream;
    /// [`Error::Busy`] if another task reads; `Cancelled`.
    ///
    /// ```
    /// use futures::TryStreamExt;
    /// use trine::io::{self, BufReader, Close, Write};
    ///
    /// trine::run(async || {
    ///     let (here, there) = io::duplex(1024);
    ///     there.write_all("one\r\ntwo\nthree").await?;
    ///     there.close().await?;
    ///     let reader = BufReader::new(here);
    ///     let lines = trine::stream(|| reader.read_line(100)); // as a `Stream`
    ///     assert_eq!(lines.try_collect::<Vec<_>>().await?, ["one", "two", "three"]);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn read_line(&self, limit: usize) -> Result<Option<String>> {
        let mut seen = 0;
        self.until(|pieces, ended| match find(pieces, b"\n", &mut seen, limit) {
            Err(error) => Some(Err(error)),
            Ok(None) if !ended => None,
            Ok(None) if pieces.len() == 0 => Some(Ok(None)),
            Ok(end) => Some(take_line(pieces, end.unwrap_or(pieces.len())).map(Some)),
        })
        .await
    }

    /// Waits until `look`, shown what is there, and whether the stream has ended behind it, takes
    /// something or fails; at the end it has to.
    ///
    /// Between what comes and its being kept nothing is awaited, so this may be dropped anywhere.
    pub(super) async fn until<T>(
        &self,
        mut look: impl FnMut(&mut Pieces, bool) -> Option<Result<T>>,
    ) -> Result<T> {
        let _turn = self.pieces.begin(READER).await?;
        let mut ended = false;
        loop {
            if let Some(found) = self.pieces.with(|pieces| look(pieces, ended)) {
                exec::with_current(|run| run.progress());
                return found;
            }
            assert!(!ended, "whoever looks takes what is left");
            ended = !self.receive().await?;
        }
    }

    /// Keeps what comes next; `false`: the stream has ended.
    async fn receive(&self) -> Result<bool> {
        self.pieces.with(Pieces::settle);
        let Some(chunk) = self.inner.recv().await? else { return Ok(false) };
        self.pieces.with(|pieces| pieces.push(chunk));
        Ok(true)
    }
}

/// Where the delimiter ends; `seen` bytes have been looked at, and are not again.
pub(super) fn find(
    pieces: &Pieces,
    delimiter: &[u8],
    seen: &mut usize,
    limit: usize,
) -> Result<Option<usize>> {
    let found = pieces.find(delimiter, *seen, limit);
    *seen = pieces.len();
    if found.is_none() && pieces.len() >= limit {
        let shown = delimiter.escape_ascii();
        return Err(invalid(format!("no \"{shown}\" within {limit} bytes, which is the limit")));
    }
    Ok(found)
}

fn rest(pieces: &mut Pieces) -> Option<Chunk> {
    (pieces.len() > 0).then(|| pieces.take(pieces.len()))
}

fn take_line(pieces: &mut Pieces, end: usize) -> Result<String> {
    let mut line = pieces.copy(end);
    let ending = match &line[..] {
        [.., b'\r', b'\n'] => 2,
        [.., b'\n'] => 1,
        _ => 0,
    };
    line.truncate(end - ending);
    let line = String::from_utf8(line).map_err(|error| invalid(format!("a line: {error}")))?;
    pieces.skip(end);
    Ok(line)
}

pub(super) fn invalid(text: String) -> Error {
    io::Error::new(io::ErrorKind::InvalidData, text).into()
}

pub(super) fn ended_within(what: &str, there: usize, wanted: usize) -> Error {
    let text = format!("the stream has ended within {what}, after {there} of {wanted} bytes");
    io::Error::new(io::ErrorKind::UnexpectedEof, text).into()
}

const READER: &str = "the buffered reader";

impl<R: Read> Read for BufReader<R> {
    async fn recv(&self) -> Result<Option<Chunk>> {
        self.until(|pieces, ended| match pieces.take_first() {
            None if !ended => None,
            first => Some(Ok(first)),
        })
        .await
    }

    async fn read<B: IoBufMut>(&self, buf: B) -> Result<B, BufError<B>> {
        let _turn = match self.pieces.begin(READER).await {
            Ok(turn) => turn,
            Err(error) => return Err(BufError::new(error, 0, buf)),
        };
        if self.buffered() == 0 || IoBufMut::capacity(&buf) == 0 {
            return self.inner.read(buf).await;
        }
        let (buf, there) = self.show(buf);
        self.pieces.with(|pieces| pieces.skip(there));
        Ok(buf)
    }

    /// What is here already is taken only when the stream has given the rest.
    async fn read_exact<B: IoBufMut>(&self, buf: B) -> Result<B, BufError<B>> {
        let _turn = match self.pieces.begin(READER).await {
            Ok(turn) => turn,
            Err(error) => return Err(BufError::new(error, 0, buf)),
        };
        if self.buffered() == 0 || IoBufMut::capacity(&buf) == 0 {
            return self.inner.read_exact(buf).await;
        }
        let (buf, there) = self.show(buf);
        let capacity = IoBufMut::capacity(&buf);
        let rest = match there == capacity {
            true => Ok(buf),
            false => match self.inner.read_exact(buf.slice(there..capacity)).await {
                Ok(rest) => Ok(rest.into_inner()),
                Err(BufError { error, done, buf }) => {
                    Err(BufError::new(error, there + done, buf.into_inner()))
                }
            },
        };
        self.pieces.with(|pieces| pieces.skip(there));
        rest
    }
}

impl<R> BufReader<R> {
    /// Copies what is here into a buffer, as much as fits, and says how much that was.
    fn show<B: IoBufMut>(&self, buf: B) -> (B, usize) {
        let shelf = Default::default();
        let mut storage = Storage::to_fill(buf, &shelf);
        self.pieces.with(|pieces| {
            for piece in pieces.slices() {
                storage.append(piece);
            }
        });
        let filled = storage.filled();
        (storage.into_filled(&shelf), filled)
    }
}

impl<R: Write> Write for BufReader<R> {
    fn write<B: IoBuf>(&self, buf: B) -> impl Future<Output = Result<(usize, B), BufError<B>>> {
        self.inner.write(buf)
    }

    fn write_all<B: IoBuf>(&self, buf: B) -> impl Future<Output = Result<B, BufError<B>>> {
        self.inner.write_all(buf)
    }

    fn flush(&self) -> impl Future<Output = Result> {
        self.inner.flush()
    }

    fn finish(&self) -> impl Future<Output = Result> {
        self.inner.finish()
    }

    fn lose(&self) {
        self.inner.lose();
    }
}

impl<R: Close> Close for BufReader<R> {
    /// What has been read and not taken is lost.
    fn close(self) -> impl Future<Output = Result> {
        self.inner.close()
    }
}

impl<R> fmt::Debug for BufReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufReader({} bytes)", self.buffered())
    }
}
