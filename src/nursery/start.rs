//! `start`: a child that says when it is ready (rules N40 to N56).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::cancel::{Node, Outcome, Subject, Wait};
use crate::error::{Cancelled, Error, Reason, Result, Unwind};
use crate::exec::{self, Park, Run};
use crate::slots::Key;

use super::core::Role;
use super::shared::Handle;

/// With this a child says that it is ready.
pub struct Started<V> {
    value: Rc<RefCell<Option<V>>>,
    gate: Rc<Gate>,
}

impl<V> Started<V> {
    /// The child is ready; `start` returns `value`, and from now on the child belongs to the nursery
    /// alone (rule N45).
    ///
    /// A child that is cancelled already is not released by this: it unwinds, and `start` reports
    /// that (rule N42).
    pub fn set(self, value: V) {
        if self.gate.is_cancelled() {
            return;
        }
        *self.value.borrow_mut() = Some(value);
        self.gate.ready.set(true);
        self.gate.knock();
    }
}

impl<V> fmt::Debug for Started<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Started(not yet set)")
    }
}

/// What the caller of `start` and the child share.
struct Gate {
    ready: Cell<bool>,
    /// The child's place, once it has one.
    child: RefCell<Option<(Rc<Run>, Key<Node>)>>,
    waiting: Cell<Option<Key<Wait>>>,
}

impl Gate {
    fn is_cancelled(&self) -> bool {
        let child = self.child.borrow();
        child.as_ref().is_some_and(|(run, node)| run.look(|core| core.tree.is_effective(*node)))
    }

    /// Lets the caller look again.
    fn knock(&self) {
        if let (Some(wait), Some((run, _))) = (self.waiting.take(), &*self.child.borrow()) {
            run.unpark(wait);
        }
    }

    /// Cancels the child's own node.
    fn cancel(&self, reason: Reason) {
        let child = self.child.borrow().clone();
        if let Some((run, node)) = child {
            run.cancel(node, reason);
        }
    }
}

/// The nursery's side: how the child ended before it was ready.
pub(super) struct Starting<E> {
    gate: Rc<Gate>,
    end: RefCell<Option<Result<(), E>>>,
}

impl<E> Starting<E> {
    pub(super) fn seated(&self, run: &Rc<Run>, node: Key<Node>) {
        *self.gate.child.borrow_mut() = Some((Rc::clone(run), node));
    }

    pub(super) fn is_ready(&self) -> bool {
        self.gate.ready.get()
    }

    /// It has ended, and concerns nobody but the caller of `start` (rule N43).
    pub(super) fn ended(&self, result: Result<(), E>) {
        *self.end.borrow_mut() = Some(result);
        self.gate.knock();
    }
}

pub(super) async fn start<T, E: Unwind, V, F>(
    nursery: Handle<T, E>,
    child: impl FnOnce(Started<V>) -> F,
    at: &'static Location<'static>,
) -> Result<V, E>
where
    F: Future<Output = Result<(), E>>,
{
    let run = exec::current()?;
    poll_fn(|_| run.cancel_point()).await?;
    let gate = Rc::new(Gate {
        ready: Cell::new(false),
        child: RefCell::new(None),
        waiting: Cell::new(None),
    });
    let value = Rc::new(RefCell::new(None));
    let starting = Rc::new(Starting { gate: Rc::clone(&gate), end: RefCell::new(None) });
    let started = Started { value: Rc::clone(&value), gate: Rc::clone(&gate) };
    let future = child(started);
    nursery.core().spawn(future, Role::Starting(Rc::clone(&starting)), at);
    let mut waiting = Waiting { run, starting, cancelled: None, park: None };
    poll_fn(|cx| waiting.poll(cx)).await;
    match value.take() {
        Some(value) => {
            // A child that is ready at once must not let its spawner starve the ring (rule A2).
            waiting.run.schedule_point().await;
            Ok(value)
        }
        None => Err(waiting.failure(at)),
    }
}

/// The caller's wait. Dropping it cancels a child that is not ready.
struct Waiting<E> {
    run: Rc<Run>,
    starting: Rc<Starting<E>>,
    /// The caller was cancelled, and the child with it; its end is still awaited (rule N56).
    cancelled: Option<Cancelled>,
    park: Option<Park>,
}

impl<E> Waiting<E> {
    fn is_over(&self) -> bool {
        self.starting.is_ready() || self.starting.end.borrow().is_some()
    }

    /// Until the child is ready or has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.is_over() {
            let subject = if self.cancelled.is_some() { Subject::Shielded } else { Subject::Park };
            let park = self.park.get_or_insert_with(|| Park::new(&self.run, subject));
            self.starting.gate.waiting.set(Some(park.key()));
            let outcome = ready!(park.poll(cx));
            self.park = None;
            if outcome == Outcome::Cancelled && self.run.is_cancelled() {
                let cancelled = self.run.cancelled(self.run.node());
                self.starting.gate.cancel(cancelled.reason().clone());
                self.cancelled = Some(cancelled);
            }
        }
        self.park = None;
        Poll::Ready(())
    }
}

impl<E: Unwind> Waiting<E> {
    /// What `start` reports of a child that ended before it was ready (rules N43, N44).
    fn failure(&self, at: &'static Location<'static>) -> E {
        match (self.starting.end.take(), &self.cancelled) {
            (Some(Err(error)), _) => error,
            (_, Some(cancelled)) => cancelled.clone().into(),
            _ => Error::NeverReady(at).into(),
        }
    }
}

impl<E> Drop for Waiting<E> {
    fn drop(&mut self) {
        if !self.is_over() {
            self.starting.gate.cancel(Reason::Finished);
        }
    }
}
