//! A shield around one future.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::cancel::{Label, What};
use crate::op::Carry;

use super::keeper::Keeper;

/// Hides cancellation from outside while `future` runs (rule G1), however long that takes; better is
/// [`shield_for`](crate::shield_for), which is bounded (rule G3).
///
/// ```
/// trine::run(async || {
///     let scope = trine::CancelScope::new();
///     scope.cancel();
///     scope.run(async |_| trine::shield(trine::nop()).await).await?.expect("not cancelled");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
///
/// # Panics
/// If it is polled outside of a run.
#[track_caller]
pub fn shield<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let label = Label { what: What::Scope, at: Location::caller() };
    Carry::new(Shielded { label, keeper: Keeper::new(), output: None }, Some(future))
}

struct Shielded<T> {
    label: Label,
    keeper: Keeper,
    output: Option<T>,
}

impl<F: Future> Future for Carry<Shielded<F::Output>, Option<F>> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (state, mut body) = self.parts();
        let place = match state.keeper.follow() {
            Ok(Some(place)) => Ok(place),
            Ok(None) => state.keeper.open(state.label, true),
            Err(error) => Err(error),
        };
        let place = place.unwrap_or_else(|error| panic!("shield: {error}"));
        if let Some(future) = body.as_mut().as_pin_mut() {
            let inside = place.run.enter(place.node);
            state.output = Some(ready!(future.poll(cx)));
            body.set(None);
            drop(inside);
        }
        ready!(state.keeper.poll_leave(cx));
        Poll::Ready(state.output.take().expect("a finished future is not polled again"))
    }
}
