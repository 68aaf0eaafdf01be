//! What a row of the table is made of: something of one's own, and what is done with it.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::op::BufError;
use crate::scope::move_on_after;

use super::super::adapters::Local;

/// One operation, and what is known of it on whatever kernel.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) law: Law,
    /// How much its effect is, if all of it takes place: bytes, or things.
    pub(super) whole: Whole,
    pub(super) place: Place,
    /// Makes all that it needs, in a directory of its own.
    pub(super) open: fn(PathBuf) -> Opening,
}

/// Makes a subject.
pub(super) type Opening = Local<'static, Result<Box<dyn Subject>>>;

/// It may depend on the kernel.
pub(super) type Whole = fn() -> u64;

/// What has to hold of an operation's effect, whatever becomes of the operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Law {
    /// It takes what has come: what one did not get the next one does (rules D1, D7).
    Takes,
    /// It does what it says it has done, and no more (rules D2, D4).
    Does,
    /// The same; but if it is cancelled, what was on the way may be lost.
    Lends,
    /// The same, in several operations, the last of which does it.
    DoesLast,
    /// It is done in any case (rules D7, M2).
    Always,
    /// Its effect cannot be seen.
    Asks,
}

/// Where it can be tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// On both kernels.
    Anywhere,
    /// The same; what it takes depends on the disk.
    Disk,
    /// There is nothing like it on the simulated kernel.
    Linux,
}

/// How an operation ended: what it did or took, and before what error.
pub(super) type Done = Result<u64, Stopped>;

/// One that did not end well.
pub(super) struct Stopped {
    pub(super) done: u64,
    pub(super) error: Error,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped { done: 0, error }
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Stopped {
        Error::from(error).into()
    }
}

impl<B> From<BufError<B>> for Stopped {
    fn from(failed: BufError<B>) -> Stopped {
        Stopped { done: failed.done as u64, error: failed.error }
    }
}

/// What an operation is tried on.
pub(super) trait Subject {
    /// The operation.
    fn start(&self) -> Local<'_, Done>;
    /// Has what it waits for happen, and does not wait for it.
    fn complete(&self) -> Local<'_, Result>;
    /// Afterwards: what there is to be seen of its effect, or what it has left.
    fn rest(&self) -> Local<'_, Result<u64>>;
}

struct With<T, S, C, R> {
    object: T,
    start: S,
    complete: C,
    rest: R,
}

impl<T, S, C, R> Subject for With<T, S, C, R>
where
    S: AsyncFn(&T) -> Done,
    C: AsyncFn(&T) -> Result,
    R: AsyncFn(&T) -> Result<u64>,
{
    fn start(&self) -> Local<'_, Done> {
        Box::pin(async { (self.start)(&self.object).await })
    }

    fn complete(&self) -> Local<'_, Result> {
        Box::pin(async { (self.complete)(&self.object).await })
    }

    fn rest(&self) -> Local<'_, Result<u64>> {
        Box::pin(async { (self.rest)(&self.object).await })
    }
}

/// Something to try an operation on: the operation, what it waits for, and what is seen of it.
pub(super) fn subject<T: 'static>(
    object: T,
    start: impl AsyncFn(&T) -> Done + 'static,
    complete: impl AsyncFn(&T) -> Result + 'static,
    rest: impl AsyncFn(&T) -> Result<u64> + 'static,
) -> Result<Box<dyn Subject>> {
    Ok(Box::new(With { object, start, complete, rest }))
}

/// Where nothing has to come.
pub(super) async fn nothing<T>(_: &T) -> Result {
    Ok(())
}

/// Where nothing is to be seen.
pub(super) async fn unseen<T>(_: &T) -> Result<u64> {
    Ok(0)
}

/// Does something again and again until it waits for longer than anything takes; the sum.
pub(super) async fn until_quiet(mut again: impl AsyncFnMut() -> Result<u64>) -> Result<u64> {
    let mut sum = 0;
    loop {
        match move_on_after(QUIET, async |_| again().await).await? {
            Some(0) | None => return Ok(sum),
            Some(more) => sum += more,
        }
    }
}

/// As long as nothing takes, on an emulated machine either.
const QUIET: Duration = Duration::from_millis(100);
