//! A future of another crate as an operation of ours.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::cancel::Subject;
use crate::error::Result;
use crate::exec::{Park, Pause, check_running, current};
use crate::op::Carry;

/// Awaits a future of another crate as an operation of ours: a cancellation ends the wait.
///
/// A cancelled task that waits for something foreign without this is dropped where it stands (rule F13),
/// for nothing is known of what it waits for. With it the task gets `Cancelled`, as from all that is ours,
/// unwinds, and can clean up. Like all that is ours it is a checkpoint, and shields hold.
///
/// If `future` is ready when the cancellation arrives, its value is what comes out. Whatever comes out,
/// `future` has been dropped before. Futures of ours need no wrapper: with it they are dropped where by
/// themselves they unwind.
///
/// Cancel class: total, as far as dropping `future` is: `Cancelled` means that it was pending still. To keep
/// it and to go on with it, lend it: `cancellable(&mut future)`.
///
/// # Errors
/// `Cancelled`; [`Error::NoRun`](crate::Error::NoRun) outside of a run, and
/// [`Error::RunFinished`](crate::Error::RunFinished) after the run in which it has begun.
///
/// # Panics
/// If it is polled after its end.
///
/// ```
/// use std::time::Duration;
/// use futures::channel::oneshot;
/// use trine::{cancellable, move_on_after};
///
/// trine::run(async || {
///     let (_sender, mut answer) = oneshot::channel::<u32>();
///     let timely = move_on_after(Duration::from_millis(1), async |_| {
///         let answer = cancellable(&mut answer).await;
///         // … here one can clean up …
///         answer
///     });
///     assert!(timely.await?.is_none());
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn cancellable<F: Future>(future: F) -> impl Future<Output = Result<F::Output>> {
    Carry::new(Foreign { pause: None, park: None }, Some(future))
}

/// The wait for a foreign future.
struct Foreign {
    /// While the budget is spent, before the future is polled for the first time.
    pause: Option<Pause>,
    /// From then on. Nobody hands anything to it: only a cancellation ends it.
    park: Option<Park>,
}

impl<F: Future> Future for Carry<Foreign, Option<F>> {
    type Output = Result<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (state, mut future) = self.parts();
        let pending = future.as_mut().as_pin_mut();
        let pending = pending.expect("a future made cancellable is not polled after its end");
        let ended = ready!(state.poll_around(pending, cx));
        state.park = None;
        future.set(None);
        Poll::Ready(ended)
    }
}

impl Foreign {
    fn poll_around<F: Future>(
        &mut self,
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output>> {
        ready!(self.poll_begun(cx))?;
        // First, for what has come has happened (rule D1).
        if let Poll::Ready(output) = future.poll(cx) {
            if let Some(park) = &self.park {
                park.run().progress();
            }
            return Poll::Ready(Ok(output));
        }
        while let Some(park) = &self.park {
            if let Some(Err(error)) = ready!(park.poll_cancellable(cx)) {
                return Poll::Ready(Err(error));
            }
            // A stray cancellation (rule D4).
            self.park = Some(Park::new(park.run(), Subject::Park));
        }
        Poll::Pending
    }

    /// Checks the run, and at first whether to begin at all. It parks before the future is polled, so that
    /// a cancellation that comes out of that poll is not missed.
    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        if let Some(park) = &self.park {
            return Poll::Ready(check_running(park.run()));
        }
        if let Some(pause) = &self.pause {
            pause.check_running()?;
        }
        let run = current()?;
        ready!(run.cancel_point())?;
        ready!(run.poll_budget(&mut self.pause, cx));
        self.park = Some(Park::new(&run, Subject::Park));
        Poll::Ready(Ok(()))
    }
}
