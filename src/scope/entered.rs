//! The future of an entered scope.

use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::cancel::Node;
use crate::error::{Error, Reason, Result, Unwind};
use crate::exec::{Pause, Run, Watch, current};
use crate::op::Carry;
use crate::slots::Key;

use super::CancelScope;
use super::keeper::{Keeper, Place};

/// What being absorbed by its own scope means to a body.
pub(super) trait Ending {
    type Output<T>;
    fn finished<T>(value: T) -> Self::Output<T>;
    fn moved_on<T, E: Unwind>(reason: Reason) -> Result<Self::Output<T>, E>;
}

/// It is an outcome.
pub(super) struct MoveOn;

impl Ending for MoveOn {
    type Output<T> = Option<T>;

    fn finished<T>(value: T) -> Option<T> {
        Some(value)
    }

    fn moved_on<T, E: Unwind>(_: Reason) -> Result<Option<T>, E> {
        Ok(None)
    }
}

/// It is an error (rule E9).
pub(super) struct Fail;

impl Ending for Fail {
    type Output<T> = T;

    fn finished<T>(value: T) -> T {
        value
    }

    fn moved_on<T, E: Unwind>(reason: Reason) -> Result<T, E> {
        Err(Error::TooSlow(reason).into())
    }
}

/// The state around a scope's body. `S`: a reference to the scope, or a share in it.
pub(super) struct Entered<S: Deref<Target = CancelScope>, X, T, E> {
    scope: S,
    keeper: Keeper,
    /// The timer is set when the body first has to wait, and not for one that need not.
    has_timer: bool,
    /// How the body ended; the scope is being left.
    outcome: Option<Result<Option<T>, E>>,
    restless: u16,
    /// The body has had to wait, so going on is a schedule point already.
    waited: bool,
    pause: Option<Pause>,
    ending: PhantomData<fn() -> X>,
}

impl<S: Deref<Target = CancelScope>, X, T, E> Entered<S, X, T, E> {
    pub(super) fn new(scope: S) -> Self {
        Entered {
            scope,
            keeper: Keeper::new(),
            has_timer: false,
            outcome: None,
            restless: 0,
            waited: false,
            pause: None,
            ending: PhantomData,
        }
    }

    /// Rules F1 to F4.
    fn enter(&mut self) -> Result<Place> {
        let scope = &*self.scope;
        let is_new = !scope.entered.get();
        assert!(is_new, "the scope made at {} is entered a second time; make a new one", scope.at);
        let run = current()?;
        scope.entered.set(true);
        let timeout = scope.timeout.take();
        let now = (timeout.is_some() || scope.deadline.get().is_some()).then(|| run.now());
        if let (Some(timeout), Some(now)) = (timeout, now) {
            scope.deadline.set(Some(now + timeout));
        }
        let deadline = scope.deadline.get();
        let place = self.keeper.open_in(run, scope.label(), scope.shield.get(), deadline);
        let Place { run, node } = &place;
        *scope.place.borrow_mut() = Some((Rc::clone(run), *node));
        if let Some(reason) = scope.reason.borrow_mut().take() {
            run.cancel(*node, reason);
        }
        if let Some(at) = scope.drained.get() {
            run.drain(*node, at);
        }
        if now.zip(deadline).is_some_and(|(now, deadline)| now >= deadline) {
            run.cancel(*node, Reason::Deadline { scope: scope.at });
        }
        Ok(place)
    }

    /// An idle one may have been moved to where everything idle is ended.
    fn end_if_drained(&self, Place { run, node }: &Place) {
        if !self.scope.idle.get() {
            return;
        }
        if let Some(at) = run.look(|core| core.tree.drained(*node)) {
            run.cancel(*node, Reason::Drained { at });
        }
    }

    /// What is idle does not even begin where everything idle is ended: it might be ready at once, again and
    /// again. A cancellation from outside is the body's to raise.
    fn is_over_already(&self, Place { run, node }: &Place) -> bool {
        self.scope.idle.get() && run.look(|core| !core.tree.is_outer(*node))
    }

    /// The body has to wait: now the deadline matters, and a sweep must know whom to wake.
    /// One that was cancelled while it was being polled looks once more (rule F13).
    fn park(&mut self, Place { run, node }: &Place, was_cancelled: bool, cx: &mut Context<'_>) {
        self.waited = true;
        let whom = run.whom(cx);
        let deadline = if self.has_timer { None } else { self.scope.deadline.get() };
        self.has_timer = true;
        run.act(|core| {
            if deadline.is_some() {
                core.set_deadline(*node, deadline);
            }
            core.tree.set_body(*node, whom, &mut core.sweep);
            if !was_cancelled && core.tree.is_effective(*node) {
                core.tree.wake_body(*node, &mut core.sweep);
            }
        });
    }

    fn leave(&self) {
        if let Some(Place { run, node }) = self.keeper.place() {
            let reason = run.look(|core| Some(core.tree.get(*node)?.cause()?.0.clone()));
            if reason.is_some() {
                *self.scope.reason.borrow_mut() = reason;
            }
        }
        *self.scope.place.borrow_mut() = None;
    }
}

impl<S: Deref<Target = CancelScope>, X, T, E: Unwind> Entered<S, X, T, E> {
    /// The body has ended with this: decides now, at its arrival, what becomes of an error (E12).
    fn arrive(&self, Place { run, node }: &Place, result: Result<T, E>) -> Result<Option<T>, E> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => match absorb(run, *node, error) {
                Some(error) => Err(error),
                None => Ok(None),
            },
        }
    }

    /// Leaves the scope, and then: a task that is out of everything cancelled has got on; one that has
    /// only absorbed a cancellation inside another one (behind a shield) has not, and is kept here
    /// for whoever polls it to drop if it goes round and round (rule F14). A body that never waited
    /// must not starve the ring by moving on again and again.
    fn poll_left(&mut self, moved_on: bool, cx: &mut Context<'_>) -> Poll<Result> {
        ready!(self.keeper.poll_leave(cx));
        let run = current()?;
        if !run.is_cancelled() {
            run.progress();
        } else if moved_on && run.is_exhausted() {
            return Poll::Pending;
        }
        if !self.waited && self.scope.reason.borrow().is_some() {
            ready!(run.poll_budget(&mut self.pause, cx));
        }
        Poll::Ready(Ok(()))
    }

    /// A cancelled body that waits for nothing of ours is dropped (rules F13, F14). An exhausted
    /// task is left to whoever absorbs its cancellation, else it would only go round once more.
    fn is_stuck(&mut self, Place { run, node }: &Place, watch: &Watch) -> bool {
        if run.look(|core| core.has_wait(*node, false)) {
            self.restless = 0;
            return false;
        }
        if watch.was_fired(run) {
            self.restless += 1;
            if self.restless < crate::exec::PATIENCE {
                return false;
            }
        }
        !(run.is_exhausted() && run.look(|core| core.tree.is_outer(*node)))
    }
}

impl<S, X, T, E, F> Future for Carry<Entered<S, X, T, E>, Option<F>>
where
    S: Deref<Target = CancelScope>,
    X: Ending,
    E: Unwind,
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<X::Output<T>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (state, mut body) = self.parts();
        let place = state.keeper.follow()?;
        let mut outcome = state.outcome.take();
        if let Some(future) = body.as_mut().as_pin_mut() {
            let (place, is_first) = match place {
                Some(place) => (place, false),
                None => (state.enter()?, true),
            };
            state.end_if_drained(&place);
            let inside = place.run.enter(place.node);
            let cancelled = place.run.is_cancelled();
            let watch = cancelled.then(|| Watch::new(&place.run, cx));
            let polled = match &watch {
                Some(_) if is_first && state.is_over_already(&place) => {
                    Poll::Ready(Err(place.run.cancelled(place.node).into()))
                }
                Some(watch) => future.poll(&mut Context::from_waker(watch.waker(cx.waker()))),
                None => future.poll(cx),
            };
            let result = match (polled, watch) {
                (Poll::Ready(result), _) => result,
                (Poll::Pending, Some(watch)) if state.is_stuck(&place, &watch) => {
                    place.run.report_stuck(place.node);
                    Err(E::from(place.run.strike(place.node)))
                }
                (Poll::Pending, _) => {
                    state.park(&place, cancelled, cx);
                    return Poll::Pending;
                }
            };
            outcome = Some(state.arrive(&place, result));
            body.set(None);
            drop(inside);
            state.leave();
        }
        let Poll::Ready(left) = state.poll_left(matches!(outcome, Some(Ok(None))), cx) else {
            state.outcome = outcome;
            return Poll::Pending;
        };
        left?;
        Poll::Ready(match outcome {
            Some(Ok(Some(value))) => Ok(X::finished(value)),
            Some(Ok(None)) => {
                state.scope.caught.set(true);
                let reason = state.scope.reason.borrow().clone();
                X::moved_on(reason.unwrap_or(Reason::Shutdown))
            }
            Some(Err(error)) => Err(error),
            None => panic!("the scope made at {} was polled after it had ended", state.scope.at),
        })
    }
}

impl<S: Deref<Target = CancelScope>, X, T, E> Drop for Entered<S, X, T, E> {
    fn drop(&mut self) {
        if self.keeper.place().is_some() {
            self.leave();
        }
    }
}

/// What is left of an error that reaches the exit of `node` (rules E1 to E4); `None`: nothing, it was
/// all this scope's own cancellation.
pub(crate) fn absorb<E: Unwind>(run: &Run, node: Key<Node>, error: E) -> Option<E> {
    let absorbs = run.look(|core| core.tree.is_effective(node) && !core.tree.is_outer(node));
    if !absorbs {
        return Some(error);
    }
    if error.cancelled().is_some() {
        return None;
    }
    let mut leaves = error.scatter();
    leaves.retain(|leaf| leaf.cancelled().is_none());
    (!leaves.is_empty()).then(|| E::gather(leaves))
}
