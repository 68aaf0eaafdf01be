//! Closing a descriptor that operations may still be using.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};

use crate::error::{Error, Result};
use crate::exec::{self, Operation, Run};
use crate::op::{Fd, Finished, Sole, Submission};

/// Ends the operations that are left, then closes. It does all this also in a cancelled scope, and
/// says `Cancelled` afterwards (rule M2), which is not counted (rule F14).
pub(crate) async fn close(run: &Rc<Run>, fd: Fd, left: Vec<Operation>) -> Result {
    if exec::check_run(run).is_err() {
        // No run to wait in: dropping closes.
        return Err(Error::RunFinished);
    }
    end(run, left).await?;
    if !fd.is_sole() {
        // Of those whose futures were dropped the object does not know.
        end(run, Operation::left_in(run, &fd)).await?;
    }
    let closed = match fd.into_sole() {
        Ok(sole) => close_sole(run, sole).await,
        // A forgotten future has a share, and keeps it.
        Err(_shared) => Ok(()),
    };
    exec::check_running(run)?;
    run.closing_point()?;
    closed
}

/// Asks operations to end, and waits until they have; not longer than the run goes on (rule P6).
async fn end(run: &Run, mut left: Vec<Operation>) -> Result {
    left.iter().for_each(Operation::cancel);
    poll_fn(|cx| {
        exec::check_running(run)?;
        while let Some(operation) = left.last_mut() {
            ready!(operation.poll_end(cx));
            left.pop();
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// Closes a descriptor in which nobody else has a share. That has happened then, whatever was cancelled
/// meanwhile (rule D4).
pub(super) async fn close_sole(run: &Rc<Run>, sole: Sole) -> Result {
    let Finished { result, .. } = Operation::finish(run, Submission::close(sole)).await;
    match result {
        // The number is free even if closing was interrupted.
        0.. | MINUS_EINTR => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(-error).into()),
    }
}

const MINUS_EINTR: i32 = -libc::EINTR;
