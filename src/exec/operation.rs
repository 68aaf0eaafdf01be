//! Waiting for the kernel.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::cancel::Wait;
use crate::error::{Cancelled, Error};
use crate::op::{
    CancelClass, Chunk, Fd, Finished, Kind, Message, Remains, Slot, Submission, Table, Taken,
};
use crate::ring::Descriptor;
use crate::slots::Key;

use super::{Run, check_running};

/// The owner's handle on an operation in flight. Dropping it leaves everything the kernel may touch
/// where it is, asks for a cancel, and leaves the waiting to the scope (rules E11, F12).
pub(crate) struct Operation {
    run: Rc<Run>,
    slot: Key<Slot>,
    wait: Key<Wait>,
    multishot: bool,
    /// The last result was taken, and the slot with it.
    over: bool,
}

impl Operation {
    /// Submits; it goes to the kernel with the next turn, and its first result wakes whoever is being
    /// polled with `cx`. The submission is made in its place, where nobody else's code may run.
    #[inline]
    pub(crate) fn start(
        run: &Rc<Run>,
        cx: &Context<'_>,
        submission: impl FnOnce() -> Submission,
    ) -> Operation {
        let (node, whom) = (run.context.node(), run.context.whom(cx));
        let (slot, wait) = run.act(|core| core.submit(node, submission, whom));
        Operation { run: Rc::clone(run), slot, wait, multishot: false, over: false }
    }

    /// The same for what may be a multishot.
    pub(crate) fn start_repeating(
        run: &Rc<Run>,
        cx: &Context<'_>,
        submission: Submission,
    ) -> Operation {
        let multishot = submission.is_multishot();
        let mut operation = Operation::start(run, cx, || submission);
        operation.multishot = multishot;
        operation
    }

    /// Whether it was refused for being a multishot, which the kernel does not know. A single one says
    /// what is really wrong, if that was not it.
    pub(crate) fn is_refusal(&self, result: i32) -> bool {
        self.multishot && result == -libc::EINVAL
    }

    /// Those that still use a descriptor which is to be closed. Their futures were dropped, or forgotten.
    pub(crate) fn left_in(run: &Rc<Run>, fd: &Fd) -> Vec<Operation> {
        let left = run.act(|core| core.table.take_over(fd));
        let handle = |(slot, waiter)| {
            let wait = Key::from_bits(waiter)?;
            Some(Operation { run: Rc::clone(run), slot, wait, multishot: false, over: false })
        };
        left.into_iter().filter_map(handle).collect()
    }

    /// Submits when it is first polled, and waits for the last result.
    pub(crate) fn finish(run: &Rc<Run>, submission: Submission) -> impl Future<Output = Finished> {
        let (mut operation, mut submission) = (None, Some(submission));
        poll_fn(move |cx| match (&mut operation, submission.take()) {
            (operation, Some(submission)) => {
                *operation = Some(Operation::start(run, cx, || submission));
                Poll::Pending
            }
            (Some(operation), None) => Operation::poll(operation, cx),
            (None, None) => unreachable!("submitted at the first poll"),
        })
    }

    /// The last result, of an operation that is not a multishot.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Finished> {
        self.poll_last(cx, Table::take)
    }

    /// The same where nobody wants the storage back.
    #[inline]
    pub(super) fn poll_number(&mut self, cx: &mut Context<'_>) -> Poll<(&'static Kind, i32)> {
        self.poll_last(cx, Table::take_number)
    }

    /// The next result of an accept, which is the last one unless it says otherwise.
    pub(crate) fn poll_descriptor(&mut self, cx: &mut Context<'_>) -> Poll<Taken<Descriptor>> {
        self.poll_taken(cx, Table::take_descriptor, |taken| taken.more)
    }

    /// The next result of a receive from the pool, which is the last one unless it says otherwise.
    #[inline]
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Taken<Chunk>> {
        self.poll_taken(cx, Table::take_chunk, |taken| taken.more)
    }

    /// The end of whatever operation; its results are disposed of, and its buffer is dropped here, where
    /// nothing is borrowed.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while ready!(self.poll_taken(cx, Table::take_nothing, |taken| taken.more)).more {}
        Poll::Ready(())
    }

    #[inline]
    fn poll_last<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Table, Key<Slot>) -> Option<T>,
    ) -> Poll<T> {
        self.poll_taken(cx, take, |_| false)
    }

    #[inline]
    fn poll_taken<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Table, Key<Slot>) -> Option<T>,
        more: impl FnOnce(&T) -> bool,
    ) -> Poll<T> {
        let taken = take(&mut self.run.core.borrow_mut().table, self.slot);
        let Some(taken) = taken else { return self.wait(cx) };
        if !more(&taken) {
            self.over = true;
            self.run.act(|core| core.tree.detach(self.wait, &mut core.sweep));
        }
        Poll::Ready(taken)
    }

    /// Notes who waits.
    #[cold]
    fn wait<T>(&self, cx: &Context<'_>) -> Poll<T> {
        let (node, whom) = (self.run.context.node(), self.run.context.whom(cx));
        self.run.act(|core| core.tree.polled(self.wait, node, whom, &mut core.sweep));
        Poll::Pending
    }

    /// The same for a receive of a message.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<(i32, Message, Remains)> {
        self.poll_last(cx, Table::take_message)
    }

    /// The last result of a receive whose buffer nobody wants back: its bytes, and what is to be dropped
    /// when they are safe.
    pub(crate) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<(i32, Vec<u8>, Remains)> {
        self.poll_last(cx, Table::take_bytes)
    }

    pub(super) fn run(&self) -> &Rc<Run> {
        &self.run
    }

    /// Nobody waits for it at the moment, but its owner keeps it going. The scope it is in ends it
    /// when it is left.
    pub(crate) fn rest(&self) {
        self.run.act(|core| core.tree.set_orphan(self.wait, true, &mut core.sweep));
    }

    /// Asks the kernel to end it. Its result still comes.
    pub(crate) fn cancel(&self) {
        self.run.act(|core| {
            let action = core.table.cancel(self.slot);
            core.follow(action);
        });
    }

    /// Asks for its end; it is not submitted again.
    pub(crate) fn give_up(&self) {
        self.run.act(|core| core.table.give_up(self.slot));
        self.cancel();
    }

    /// Results that nobody has taken yet.
    pub(crate) fn unread(&self) -> usize {
        self.run.look(|core| core.table.get(self.slot).map_or(0, Slot::unread))
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.run.act(|core| {
            core.tree.set_orphan(self.wait, true, &mut core.sweep);
            let action = core.table.orphan(self.slot);
            core.follow(action);
        });
    }
}

/// What a last result means to the one who waits for it.
pub(crate) enum Verdict {
    /// The operation's own result: a count, or an error.
    Result(Result<u32, Error>),
    /// It was interrupted, and nobody here is cancelled: again.
    Again,
    Cancelled(Cancelled),
}

/// Rule D4. `attempts` counts how often in a row this operation was submitted again.
#[inline]
pub(crate) fn judge(run: &Run, kind: &Kind, result: i32, attempts: &mut u8) -> Poll<Verdict> {
    if result >= 0 {
        *attempts = 0;
        run.progress();
        return Poll::Ready(Verdict::Result(Ok(result as u32)));
    }
    judge_failure(run, kind, result, attempts)
}

#[cold]
fn judge_failure(run: &Run, kind: &Kind, result: i32, attempts: &mut u8) -> Poll<Verdict> {
    if !is_interruption(-result) {
        run.progress();
        return Poll::Ready(Verdict::Result(Err(os_error(-result))));
    }
    if let Err(finished) = check_running(run) {
        return Poll::Ready(Verdict::Result(Err(finished)));
    }
    match run.wait_cancelled() {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Err(cancelled)) => Poll::Ready(Verdict::Cancelled(cancelled)),
        Poll::Ready(Ok(())) if kind.repeatable && *attempts < ATTEMPTS => {
            *attempts += 1;
            Poll::Ready(Verdict::Again)
        }
        Poll::Ready(Ok(())) if kind.class == CancelClass::Terminal => {
            Poll::Ready(Verdict::Result(Err(os_error(libc::ECONNABORTED))))
        }
        Poll::Ready(Ok(())) => Poll::Ready(Verdict::Result(Err(os_error(libc::EINTR)))),
    }
}

/// How often an operation is submitted again that was interrupted although nobody asked (rule D4).
const ATTEMPTS: u8 = 8;

/// `ECANCELED`, `EINTR`, and the kernel's own restart codes, which leak out of its workers.
pub(crate) fn is_interruption(errno: i32) -> bool {
    matches!(errno, libc::ECANCELED | libc::EINTR | 512..=516)
}

fn os_error(errno: i32) -> Error {
    Error::Io(std::io::Error::from_raw_os_error(errno))
}
