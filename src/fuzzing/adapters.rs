//! What stands between a program's futures and the crate, and tells the model.

use std::any::Any;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::error::Error;

use super::ends::{End, Leaf};
use super::model::{Id, Model};

pub(super) type Local<'s, T> = Pin<Box<dyn Future<Output = T> + 's>>;

/// What blocks end with.
pub(super) type Out = Result<u8, Error>;

/// Around the future of a scope or a nursery: its node is opened at the first poll, and goes where
/// it is polled.
pub(super) struct Follow<'s, T> {
    model: Rc<Model>,
    node: Option<Id>,
    open: Option<Box<dyn FnOnce() -> Id + 's>>,
    /// Called after each poll: whether everything inside has ended.
    polled: Box<dyn Fn() -> bool + 's>,
    future: Local<'s, T>,
    over: bool,
}

impl<'s, T> Follow<'s, T> {
    pub(super) fn new(
        model: &Rc<Model>,
        open: impl FnOnce() -> Id + 's,
        polled: impl Fn() -> bool + 's,
        future: impl Future<Output = T> + 's,
    ) -> Self {
        Follow {
            model: Rc::clone(model),
            node: None,
            open: Some(Box::new(open)),
            polled: Box::new(polled),
            future: Box::pin(future),
            over: false,
        }
    }
}

impl<T> Future for Follow<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        if let Some(open) = this.open.take() {
            this.node = Some(open());
        }
        let node = this.node.expect("just opened");
        this.model.follow(node);
        let polled = this.future.as_mut().poll(cx);
        let ended = (this.polled)();
        if polled.is_ready() {
            this.over = true;
            this.model.leave(node);
        } else if ended {
            this.model.stays(node);
        }
        polled
    }
}

impl<T> Drop for Follow<'_, T> {
    fn drop(&mut self) {
        if let (Some(node), false) = (self.node, self.over) {
            self.model.drop_node(node);
        }
    }
}

/// Around the body of a scope or a nursery, or a child: it is polled in its node, and its end
/// arrives there.
pub(super) struct Stand<'s> {
    model: Rc<Model>,
    node: Id,
    future: Local<'s, Out>,
    arrive: Option<Box<dyn FnOnce(End) + 's>>,
    is_polling: bool,
}

impl<'s> Stand<'s> {
    pub(super) fn new(
        model: &Rc<Model>,
        node: Id,
        future: Local<'s, Out>,
        arrive: impl FnOnce(End) + 's,
    ) -> Self {
        let arrive: Option<Box<dyn FnOnce(End) + 's>> = Some(Box::new(arrive));
        Stand { model: Rc::clone(model), node, future, arrive, is_polling: false }
    }
}

impl Future for Stand<'_> {
    type Output = Out;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Out> {
        let this = &mut *self;
        this.is_polling = true;
        let inside = Inside { model: &this.model, former: this.model.enter(this.node) };
        let polled = this.future.as_mut().poll(cx);
        drop(inside);
        this.is_polling = false;
        if let Poll::Ready(result) = &polled {
            let arrive = this.arrive.take().expect("it ends once");
            arrive(End::of(result));
        }
        polled
    }
}

struct Inside<'a> {
    model: &'a Model,
    former: Id,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.model.enter(self.former);
    }
}

impl Drop for Stand<'_> {
    fn drop(&mut self) {
        let Some(arrive) = self.arrive.take() else { return };
        if self.is_polling {
            return arrive(End::Panicked);
        }
        if self.model.is_dropped(self.node) {
            return;
        }
        // Nobody else drops it alone: it was taken for stuck (rules F13, F14).
        let model = &self.model;
        model.check(model.is_cancelled(self.node), || {
            "F13: something was dropped as stuck that is not cancelled".to_owned()
        });
        model.check(model.may_be_exhausted() || !model.waits_below(self.node), || {
            "F13: something was dropped as stuck that has a wait of its own".to_owned()
        });
        arrive(End::Failed(vec![Leaf::Cancelled]));
    }
}

/// The payload of a panic that the program asked for.
pub(super) struct Planned;

/// Catches planned panics.
pub(super) struct Catch<'s, T> {
    future: Local<'s, T>,
}

impl<'s, T> Catch<'s, T> {
    pub(super) fn new(future: impl Future<Output = T> + 's) -> Self {
        Catch { future: Box::pin(future) }
    }
}

impl<T> Future for Catch<'_, T> {
    type Output = Result<T, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match panic::catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) if payload.is::<Planned>() => Poll::Ready(Err(payload)),
            Err(payload) => panic::resume_unwind(payload),
        }
    }
}

/// Polls a future so often at most, once each turn; what comes out is either its value or the
/// future.
pub(super) async fn poll_times<F: Future + Unpin>(
    mut future: F,
    times: u8,
) -> Result<F::Output, F> {
    let mut left = times;
    let ready = std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match Pin::new(&mut future).poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    });
    ready.await.ok_or(future)
}

/// A waker of one of several futures: it remembers that it was fired.
pub(super) struct Flag {
    fired: AtomicBool,
    inner: Waker,
}

impl Flag {
    pub(super) fn new(inner: &Waker) -> Arc<Flag> {
        Arc::new(Flag { fired: AtomicBool::new(true), inner: inner.clone() })
    }

    pub(super) fn take(&self) -> bool {
        self.fired.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.fired.store(true, Ordering::Release);
        self.inner.wake_by_ref();
    }
}
