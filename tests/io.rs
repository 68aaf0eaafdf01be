//! The tools on streams: over connections of both kernels, and in memory.

#[path = "io/buf_reader.rs"]
mod buf_reader;
#[path = "io/buf_writer.rs"]
mod buf_writer;
mod common;
#[path = "io/copy.rs"]
mod copy;
#[path = "io/duplex.rs"]
mod duplex;
#[path = "io/frames.rs"]
mod frames;
#[path = "io/standard.rs"]
mod standard;

use std::fmt::Debug;
use std::future::Future;
use std::io::ErrorKind;
use std::pin::pin;
use std::task::Poll;

use futures::poll;
use trine::io::{BufReader, BufWriter, Read, Write, duplex};
use trine::net::UnixDatagram;
use trine::{Error, IoBuf, Result};

#[track_caller]
fn assert_kind<T: Debug>(result: Result<T>, kind: ErrorKind, says: &str) {
    let error = result.expect_err("it is refused");
    assert_eq!(error.io_kind(), Some(kind), "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

/// Polls a future once and drops it, or gives its value.
async fn once<T>(future: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    match poll!(pin!(future)) {
        Poll::Ready(value) => value.map(Some),
        Poll::Pending => Ok(None),
    }
}

// Less than was asked for would look like all of it.
async fn check_parts(here: &(impl Read + Write), there: &impl Write) -> Result {
    const REFUSED: ErrorKind = ErrorKind::InvalidInput;
    let part = || b"abcdef".to_vec().slice(2..1000);
    there.write_all("0123456789").await?;
    let failed = here.read_exact(part()).await.unwrap_err();
    assert_eq!((failed.done, &failed.buf.into_inner()[..]), (0, &b"abcdef"[..]));
    assert_kind(here.read(part()).await.map_err(Error::from), REFUSED, "no room");
    assert_kind(here.write(part()).await.map_err(Error::from), REFUSED, "beyond");
    let part = "abc".slice(..=usize::MAX).slice(..);
    assert_kind(here.write_all(part).await.map_err(Error::from), REFUSED, "beyond");
    assert_eq!(here.read_exact(Vec::with_capacity(10).slice(..10)).await?[..], *b"0123456789");
    Ok(())
}

#[trine::test(kernel = "both")]
async fn a_part_that_a_buffer_does_not_have_is_refused() -> Result {
    let (here, there) = common::pair().await?;
    check_parts(&here, &there).await?;
    let refused = here.write_all_vectored(("x", "abc".slice(2..4))).await.map_err(Error::from);
    assert_kind(refused, ErrorKind::InvalidInput, "beyond");
    check_parts(&BufReader::new(&here), &there).await?;
    check_parts(&BufWriter::new(&here), &there).await?;
    let (here, there) = duplex(99);
    check_parts(&here, &there).await?;
    let (here, there) = UnixDatagram::pair()?;
    let refused = here.send("abc".slice(2..4)).await.map_err(Error::from);
    assert_kind(refused, ErrorKind::InvalidInput, "beyond");
    there.send("datagram").await?;
    let refused = here.recv_into(vec![0; 6].slice(..1000)).await.map_err(Error::from);
    assert_kind(refused, ErrorKind::InvalidInput, "no room");
    assert_eq!(here.recv().await?, *b"datagram");
    Ok(())
}
