//! An operation of a program, watched at each poll.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::error::{Error, Result};
use crate::exec::stats;

use super::adapters::Local;
use super::losses;
use super::model::{Id, Model};
use super::program::Action;

pub(super) struct Watched {
    model: Rc<Model>,
    action: Action,
    future: Local<'static, Result>,
    begun: bool,
    /// It waits under this number, polled last in that node.
    waiting: Option<(u64, Id)>,
}

impl Watched {
    pub(super) fn new(
        model: &Rc<Model>,
        action: Action,
        future: Local<'static, Result>,
    ) -> Watched {
        Watched { model: Rc::clone(model), action, future, begun: false, waiting: None }
    }

    /// It is kept without being polled.
    pub(super) fn lay_aside(&self) {
        if let Some((number, _)) = self.waiting {
            self.model.lay_aside(number);
        }
    }

    /// Looks at one poll that happened in a cancelled node or not.
    fn check(&self, is_first: bool, was_cancelled: bool, asked: u64, polled: &Poll<Result>) {
        let Watched { model, action, .. } = self;
        if let Poll::Ready(Err(error)) = polled {
            model.check(losses::may_come(*action, error, model.loses), || {
                format!("D4: {action:?} has failed: {error}")
            });
        }
        let delivered = match polled {
            Poll::Ready(Err(Error::Cancelled(cancelled))) => Some(cancelled.reason()),
            _ => None,
        };
        if let Some(reason) = delivered {
            model.delivered();
            model.check(was_cancelled, || {
                format!("D4: {action:?} was cancelled, but nothing around it is")
            });
            let why = model.reason_here();
            model.check(!was_cancelled || why.is_some_and(|why| why.is(reason)), || {
                format!("L1: {action:?} was cancelled because {reason:?}, not {why:?}")
            });
        }
        if !was_cancelled || model.may_be_exhausted() {
            return;
        }
        let refused = matches!(polled, Poll::Ready(Err(_)));
        let raises = match action {
            Action::YieldShielded | Action::Close => false,
            // Scheduling comes first (rule A5).
            Action::Checkpoint | Action::Sleep(0) => polled.is_ready(),
            _ => is_first,
        };
        model.check(!raises || refused, || {
            format!("B7: {action:?} in a cancelled scope did not raise: {polled:?}")
        });
        if is_first && delivered.is_some() && *action != Action::Close {
            let stats = stats();
            model.check(stats.submitted + stats.queued as u64 == asked, || {
                format!("A8: {action:?} was cancelled before it began, and submitted something")
            });
        }
    }
}

/// How an operation ended.
fn how(polled: &Poll<Result>) -> &'static str {
    match polled {
        Poll::Pending => "waits",
        Poll::Ready(Ok(())) => "done",
        Poll::Ready(Err(error)) if error.is_cancelled() => "cancelled",
        Poll::Ready(Err(Error::Io(_))) => "failed",
        Poll::Ready(Err(_)) => "refused",
    }
}

impl Future for Watched {
    type Output = Result;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result> {
        let this = &mut *self;
        let is_first = !std::mem::replace(&mut this.begun, true);
        let was_cancelled = this.model.is_cancelled_here();
        let before = stats();
        let polled = this.future.as_mut().poll(cx);
        this.check(is_first, was_cancelled, before.submitted + before.queued as u64, &polled);
        if polled.is_ready() {
            // It ends what the kernel received for others, and need not wait for that.
            if let Action::Read(pipe, _) | Action::ReadExact(pipe, _) = this.action {
                this.model.stops_receiving(pipe);
            }
            if let Some((number, _)) = this.waiting.take() {
                this.model.end(number);
                if matches!(polled, Poll::Ready(Err(_))) {
                    this.model.orphan(this.model.current());
                }
                if was_cancelled {
                    this.model.pair(this.action, how(&polled));
                }
            }
            return polled;
        }
        let number = this
            .waiting
            .map_or_else(|| this.model.begin(this.action.is_for_kernel()), |(number, _)| number);
        this.model.polled(number);
        if let Action::Recv(pipe) | Action::Read(pipe, _) | Action::ReadExact(pipe, _) = this.action
        {
            this.model.receives(pipe);
        }
        this.waiting = Some((number, this.model.current()));
        polled
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some((number, node)) = self.waiting {
            self.model.end(number);
            self.model.orphan(node);
            // A socket is closed where the last of it is dropped.
            if matches!(self.action, Action::Connect | Action::Close) {
                self.model.orphan(self.model.current());
            }
        }
    }
}
