//! An operation that ends with one result, submitted as often as it takes.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::error::Error;
use crate::op::{Finished, Kind, Storage, Submission};

use super::operation::{Operation, Verdict, judge};
use super::{Run, current};

/// An operation, the memory that is lent to it, and how often in a row it was submitted again because it was
/// interrupted although nobody had asked (rule D4).
pub(crate) struct OneShot {
    operation: Option<Operation>,
    /// The operation has it while one is in flight.
    storage: Option<Storage>,
    attempts: u8,
}

impl OneShot {
    #[inline]
    pub(crate) fn new(storage: Option<Storage>) -> OneShot {
        OneShot { operation: None, storage, attempts: 0 }
    }

    /// Carries it out in the run that is current, as often as it takes. The memory is here again when this
    /// has ended.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut make: impl FnMut(Option<Storage>) -> Submission,
    ) -> Poll<Result<u32, Error>> {
        let OneShot { operation, storage, attempts } = self;
        let room = Cell::new(storage.take());
        let ended = poll_often(
            operation,
            attempts,
            cx,
            || make(room.take()),
            |operation, cx| {
                let Finished { kind, result, storage } = ready!(operation.poll(cx));
                room.set(storage);
                Poll::Ready((kind, result))
            },
        );
        *storage = room.into_inner();
        ended
    }

    /// Submits it; [`poll_end`](OneShot::poll_end) has the outcome.
    #[inline]
    pub(crate) fn start(
        &mut self,
        run: &Rc<Run>,
        cx: &mut Context<'_>,
        make: impl FnOnce(Option<Storage>) -> Submission,
    ) {
        let storage = self.storage.take();
        self.operation = Some(Operation::start(run, cx, || make(storage)));
    }

    /// Waits for its end. `None`: it was interrupted, and is to be submitted again.
    #[inline]
    pub(crate) fn poll_end(
        &mut self,
        run: &Run,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<u32>, Error>> {
        let (kind, result) = ready!(self.poll_result(cx));
        self.judge(run, kind, result)
    }

    /// Waits for what the kernel says at its end.
    #[inline]
    pub(crate) fn poll_result(&mut self, cx: &mut Context<'_>) -> Poll<(&'static Kind, i32)> {
        let operation = self.operation.as_mut().expect("it was started");
        let Finished { kind, result, storage } = ready!(operation.poll(cx));
        self.operation = None;
        self.storage = storage;
        Poll::Ready((kind, result))
    }

    /// What that means to the one who waits.
    #[inline]
    pub(crate) fn judge(
        &mut self,
        run: &Run,
        kind: &Kind,
        result: i32,
    ) -> Poll<Result<Option<u32>, Error>> {
        Poll::Ready(match ready!(judge(run, kind, result, &mut self.attempts)) {
            Verdict::Result(result) => result.map(Some),
            Verdict::Cancelled(cancelled) => Err(cancelled.into()),
            Verdict::Again => Ok(None),
        })
    }

    #[inline]
    pub(crate) fn is_in_flight(&self) -> bool {
        self.operation.is_some()
    }

    #[inline]
    pub(crate) fn has_storage(&self) -> bool {
        self.storage.is_some()
    }

    /// The memory, while nothing is in flight.
    #[inline]
    pub(crate) fn storage(&mut self) -> &mut Storage {
        self.storage.as_mut().expect("nothing is in flight, and the end was not taken")
    }

    #[inline]
    pub(crate) fn take_storage(&mut self) -> Option<Storage> {
        self.storage.take()
    }

    /// What is in flight, for somebody else to wait for.
    pub(crate) fn take_operation(&mut self) -> Option<Operation> {
        self.operation.take()
    }

    /// For what else is judged in the same wait.
    pub(crate) fn attempts(&mut self) -> &mut u8 {
        &mut self.attempts
    }
}

/// Carries an operation out, as often as it takes, and gives back what was lent to it.
pub(crate) fn submit(
    make: impl Fn() -> Submission,
) -> impl Future<Output = Result<(u32, Option<Storage>), Error>> {
    let mut once = OneShot::new(None);
    poll_fn(move |cx| {
        let result = ready!(once.poll(cx, |_| make()))?;
        Poll::Ready(Ok((result, once.take_storage())))
    })
}

/// The same where nothing but the outcome matters.
pub(crate) fn submit_plain(
    make: impl Fn() -> Submission,
) -> impl Future<Output = Result<(), Error>> {
    let (mut operation, mut attempts) = (None, 0);
    poll_fn(move |cx| {
        poll_often(&mut operation, &mut attempts, cx, &make, Operation::poll_number).map_ok(drop)
    })
}

/// Carries an operation out in the run that is current, as often as it takes (rule D4).
#[inline]
fn poll_often(
    place: &mut Option<Operation>,
    attempts: &mut u8,
    cx: &mut Context<'_>,
    mut make: impl FnMut() -> Submission,
    mut end: impl FnMut(&mut Operation, &mut Context<'_>) -> Poll<(&'static Kind, i32)>,
) -> Poll<Result<u32, Error>> {
    loop {
        let Some(operation) = place else {
            let run = current()?;
            ready!(run.cancel_point())?;
            *place = Some(Operation::start(&run, cx, &mut make));
            return Poll::Pending;
        };
        let (kind, result) = ready!(end(operation, cx));
        let verdict = judge(operation.run(), kind, result, attempts);
        *place = None;
        match ready!(verdict) {
            Verdict::Result(result) => return Poll::Ready(result),
            Verdict::Cancelled(cancelled) => return Poll::Ready(Err(cancelled.into())),
            Verdict::Again => {}
        }
    }
}
