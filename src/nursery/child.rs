//! Forked children: a handle that yields the child's value.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::cancel::{Subject, Wait};
use crate::error::{Cancelled, Reason, Result, Unwind};
use crate::exec::{self, Park, Pause, Run};
use crate::op::Carry;
use crate::slots::Key;

/// The handle of a forked child; awaiting it yields the child's value (rule N19).
///
/// Cancel class: total. A cancelled or dropped wait loses nothing: the value stays in the handle. It
/// can be awaited by reference. Dropping the handle does not stop the child.
///
/// # Errors
/// `Cancelled` if a scope around the one who waits is cancelled, or if the child ended without a
/// value; its error goes to the nursery.
pub struct Child<'scope, V> {
    result: Rc<Outcome<V>>,
    park: Option<Park>,
    pause: Option<Pause>,
    marker: PhantomData<Cell<&'scope ()>>,
}

/// Where the child leaves its value.
struct Outcome<V> {
    at: &'static Location<'static>,
    value: RefCell<Option<V>>,
    /// Why the child was cancelled, if it was.
    reason: RefCell<Option<Reason>>,
    /// The child is gone, with or without having left a value.
    over: Cell<bool>,
    waiting: RefCell<Option<(Rc<Run>, Key<Wait>)>>,
}

/// The child's side.
pub(super) struct Forked<V> {
    result: Rc<Outcome<V>>,
}

/// Makes a child that leaves its value for the handle.
pub(super) fn fork<'scope, V, E: Unwind>(
    child: impl Future<Output = Result<V, E>>,
    at: &'static Location<'static>,
) -> (impl Future<Output = Result<(), E>>, Child<'scope, V>) {
    let result = Rc::new(Outcome {
        at,
        value: RefCell::new(None),
        reason: RefCell::new(None),
        over: Cell::new(false),
        waiting: RefCell::new(None),
    });
    let handle = Child { result: Rc::clone(&result), park: None, pause: None, marker: PhantomData };
    (Carry::new(Forked { result }, child), handle)
}

impl<V, E: Unwind, F: Future<Output = Result<V, E>>> Future for Carry<Forked<V>, F> {
    type Output = Result<(), E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let (state, future) = self.parts();
        let value = ready!(future.poll(cx)).inspect_err(|error| {
            let reason = error.cancelled().map(|cancelled| cancelled.reason().clone());
            *state.result.reason.borrow_mut() = reason;
        })?;
        *state.result.value.borrow_mut() = Some(value);
        Poll::Ready(Ok(()))
    }
}

impl<V> Drop for Forked<V> {
    fn drop(&mut self) {
        self.result.over.set(true);
        if let Some((run, wait)) = self.result.waiting.take() {
            run.unpark(wait);
        }
    }
}

impl<V> fmt::Debug for Child<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.result.over.get() { "ended" } else { "running" };
        write!(f, "Child(forked at {}, {end})", self.result.at)
    }
}

impl<V> Future for Child<'_, V> {
    type Output = Result<V>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<V>> {
        let this = &mut *self;
        let run = exec::current()?;
        if this.park.is_none() && this.pause.is_none() {
            ready!(run.cancel_point())?;
        }
        loop {
            if this.result.over.get() {
                ready!(run.poll_budget(&mut this.pause, cx));
                this.park = None;
                if let Some(value) = this.result.value.take() {
                    return Poll::Ready(Ok(value));
                }
                // The own scope's cancellation, else the child's, else that it failed (rule L1).
                ready!(run.cancel_point())?;
                let failed = || Reason::SiblingFailed { child: this.result.at };
                let reason = this.result.reason.borrow().clone().unwrap_or_else(failed);
                return Poll::Ready(Err(Cancelled::new(reason).into()));
            }
            let park = match &this.park {
                Some(park) => park,
                None => {
                    let park = this.park.insert(Park::new(&run, Subject::Park));
                    this.result.waiting.replace(Some((Rc::clone(&run), park.key())));
                    park
                }
            };
            let woken = ready!(park.poll_cancellable(cx));
            this.park = None;
            woken.transpose()?;
        }
    }
}
