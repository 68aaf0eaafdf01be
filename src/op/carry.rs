//! Futures together with what surrounds them: the pin projections of the crate, in one place.
//!
//! What opens a scope is a plain `fn` that returns a future storing the body's *future* only; as an
//! `async fn` it would store the body a second time, at every level of nesting.

use std::future::Future;
use std::ops::AsyncFnOnce;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A future and the state of whoever polls it. The future is dropped first.
pub(crate) struct Carry<S, F> {
    future: F,
    state: S,
}

impl<S, F> Carry<S, F> {
    pub(crate) fn new(state: S, future: F) -> Self {
        Carry { future, state }
    }

    /// Both parts; the future stays pinned, the state does not care.
    pub(crate) fn parts(self: Pin<&mut Self>) -> (&mut S, Pin<&mut F>) {
        // SAFETY: the future is structurally pinned: it is never moved out, `Carry` has no `Drop`,
        // is not packed, and is `Unpin` only if both parts are. The state is never pinned.
        unsafe {
            let this = self.get_unchecked_mut();
            (&mut this.state, Pin::new_unchecked(&mut this.future))
        }
    }
}

/// Calls `body` with a reference to `value` and keeps the value as long as the future that the body
/// returned.
pub(crate) fn lend<R: 'static, T, B>(value: Rc<R>, body: B) -> impl Future<Output = T>
where
    B: AsyncFnOnce(&R) -> T,
{
    let borrowed: *const R = &*value;
    // SAFETY: the value stays at its place while this share in it exists, which is dropped after the
    // future (`Carry` drops the future first). The reference cannot get out of the future: `body`
    // takes a reference of every lifetime, so neither `T` nor anything outside can name this one.
    let future = body(unsafe { &*borrowed });
    Carry::new(Share { _value: value }, future)
}

/// Keeps a lent value alive.
pub(crate) struct Share<R> {
    _value: Rc<R>,
}

impl<R, F: Future> Future for Carry<Share<R>, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.parts().1.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::Waker;

    #[test]
    fn a_body_may_hold_the_lent_value_across_polls_and_moves_of_the_future() {
        let future = lend(Rc::new(Cell::new(1)), async |cell: &Cell<u32>| {
            std::future::ready(()).await;
            cell.set(cell.get() + 1);
            cell.get()
        });
        let moved = Box::new(future);
        let mut pinned = pin!(*moved);
        let polled = pinned.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Ready(2));
    }
}
