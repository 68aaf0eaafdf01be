//! The nursery's future: polls the body and the children that were woken.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use crate::cancel::Whom;
use crate::error::{Error, Result, Unwind};
use crate::exec::{Panics, Pause, Task};
use crate::op::Carry;
use crate::scope::Keeper;
use crate::slots::Key;

use super::core::{BODY, Home};
use super::shared::{Handle, Owner};

/// The state around a nursery's body. Dropping it drops the children (rule N16), then leaves the
/// node, then frees the core.
pub(super) struct Opened<T, E: 'static> {
    keeper: Keeper,
    body: Option<(Key<Task>, Waker)>,
    /// The body has. Noted here, because a look at its place would be a shared reference to a future
    /// that may point into itself.
    ended: bool,
    /// It has had to wait, so leaving it is a schedule point already (rule N8).
    waited: bool,
    /// Everything has been joined and the node is left.
    left: Option<Rc<crate::exec::Run>>,
    pause: Option<Pause>,
    core: Owner<T, E>,
}

impl<T, E> Opened<T, E> {
    pub(super) fn new(core: Owner<T, E>) -> Self {
        Opened {
            keeper: Keeper::new(),
            body: None,
            ended: false,
            waited: false,
            left: None,
            pause: None,
            core,
        }
    }
}

impl<T, E: Unwind> Opened<T, E> {
    pub(super) fn handle(&self) -> Handle<T, E> {
        self.core.handle()
    }

    fn enter(&mut self) -> Result<Home> {
        let place = self.keeper.open(self.core.label(), false)?;
        let nest = place.run.act(|core| core.tasks.open_nest());
        let (task, waker) = place.run.add_body(place.node, nest, BODY);
        self.body = Some((task, waker));
        let home = Home { run: place.run, node: place.node, nest };
        self.core.move_in(home.clone());
        Ok(home)
    }

    /// Polls the body. It counts as a child (rule N1), but its deliveries of `Cancelled` are its
    /// parent's (rule F14).
    fn poll_body<F>(&mut self, home: &Home, mut body: Pin<&mut Option<F>>, cancelled: bool)
    where
        F: Future<Output = Result<T, E>>,
    {
        let Some((task, waker)) = &self.body else { return };
        let Some(future) = body.as_mut().as_pin_mut() else { return };
        let Home { run, node, .. } = home;
        let mut cx = Context::from_waker(waker);
        let entered = run.enter_task(*node, *task, run.strikes(), &cx);
        let polled = panic::catch_unwind(AssertUnwindSafe(|| future.poll(&mut cx)));
        let end = match polled {
            Ok(Poll::Ready(result)) => Some(Ok(result)),
            Ok(Poll::Pending) if cancelled && self.is_stuck(home, *task) => {
                run.report_stuck(*node);
                Some(Ok(Err(E::from(run.strike(*node)))))
            }
            Ok(Poll::Pending) => None,
            Err(payload) => Some(Err(payload)),
        };
        if let Some(mut end) = end {
            let dropped = panic::catch_unwind(AssertUnwindSafe(|| body.set(None)));
            if let Err(payload) = dropped {
                end = Err(payload);
            }
            self.ended = true;
            self.core.body_ended(end);
        }
        let strikes = run.strikes();
        drop(entered);
        run.set_strikes(strikes);
    }

    /// One that is exhausted is left to whoever absorbs its cancellation (rule F14), except while it
    /// goes on waking itself: to everybody outside that is a body that is about to run.
    fn is_stuck(&self, Home { run, node, .. }: &Home, task: Key<Task>) -> bool {
        let (outer, awake) =
            run.look(|core| (core.tree.is_outer(*node), core.tasks.is_queued(task)));
        run.is_stuck(*node, task, true) && (awake || !(run.is_exhausted() && outer))
    }

    /// Nothing to do before one of the tasks is woken.
    fn sleep(&mut self, Home { run, nest, .. }: &Home, whom: Whom) {
        self.waited = true;
        run.act(|core| {
            if let Some(whom) = core.tasks.sleep(*nest, whom, &mut core.sweep) {
                core.wake_later.push_back(whom);
            }
        });
    }
}

impl<T, E, F> Future for Carry<Opened<T, E>, Option<F>>
where
    E: Unwind,
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (state, mut body) = self.parts();
        if state.left.is_none() {
            let home = match state.keeper.follow()? {
                Some(_) => state.core.home().ok_or(Error::RunFinished)?,
                None => {
                    let home = state.enter()?;
                    state.poll_body(&home, body.as_mut(), home.run.is_cancelled());
                    home
                }
            };
            let run = &home.run;
            let turn = run.turn_number();
            while let Some(ready) = run.next_task(home.nest, turn) {
                match ready.place {
                    BODY => state.poll_body(&home, body.as_mut(), ready.cancelled),
                    _ => state.core.poll_child(run, ready),
                }
            }
            let ended = state.ended && !state.core.has_living();
            let ended = ended && !state.core.dismisses_somebody();
            if !ended || state.keeper.poll_leave(cx).is_pending() {
                state.sleep(&home, run.whom(cx));
                return Poll::Pending;
            }
            state.left = Some(Rc::clone(run));
        }
        if let Some(run) = &state.left {
            if !state.waited {
                ready!(run.poll_budget(&mut state.pause, cx));
            }
            if !run.is_cancelled() {
                run.progress();
            } else if state.core.is_cut_short() {
                ready!(run.count_strike());
            }
        }
        Poll::Ready(state.core.conclude())
    }
}

impl<T, E> Drop for Opened<T, E> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        if let Some(payload) = self.core.drop_children() {
            panics.keep(payload);
        }
        if let (Some((task, waker)), Some(Home { run, nest, .. })) =
            (self.body.take(), self.core.home())
        {
            run.remove_body(task, waker);
            run.act(|core| core.tasks.close_nest(nest, &mut core.sweep));
        }
        panics.resume();
    }
}
