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
use trine::Result;

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
