//! What comes one after another, as a stream that other crates' combinators understand.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::mem;
use std::ops::AsyncFnMut;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_core::stream::{FusedStream, Stream};

use crate::error::Result;

/// Makes a [`Stream`] of what `next` yields time after time, until that is `None`.
///
/// | of what | |
/// |---|---|
/// | a [`TcpStream`](crate::net::TcpStream), a [channel](crate::sync::channel()) | `stream(\|\| receiver.recv())` |
/// | a [`TcpListener`](crate::net::TcpListener) | `stream(async \|\| listener.accept().await.map(Some))` |
/// | an [`Interval`](crate::time::Interval) | `stream(async \|\| ticks.tick().await.map(Some))` |
/// | a [broadcast](crate::sync::broadcast()) | `stream(async \|\| receiver.recv().await?.value().map_err(Error::other))` |
/// | a [watch](crate::sync::watch()) | as below, for its end is an error |
///
/// It ends after `None`, and after an error; `next` is dropped then. Only `Cancelled` does not end it: who polls
/// it again asks `next` again, as with a receive. No item is kept here, so a stream that is dropped while an item
/// is awaited loses what `next` loses: nothing, if that is one of ours (rule D7).
///
/// Cancel class: that of `next`, as is whether it is a checkpoint.
///
/// # Errors
/// Those of `next`, as items.
///
/// ```
/// use futures::TryStreamExt;
/// use trine::sync::watch;
/// use trine::{Error, stream};
///
/// trine::run(async || {
///     let (sender, mut receiver) = watch(0);
///     let changes = stream(async || match receiver.changed().await {
///         Ok(()) => Ok(Some(*receiver.borrow_and_update())),
///         Err(Error::Closed(_)) => Ok(None),
///         Err(error) => Err(error),
///     });
///     sender.send(42);
///     drop(sender);
///     assert_eq!(changes.try_collect::<Vec<_>>().await?, [42]);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn stream<T>(
    mut next: impl AsyncFnMut() -> Result<Option<T>>,
) -> impl FusedStream<Item = Result<T>> + Unpin {
    let item = Rc::new(Cell::new(None));
    let place = Rc::clone(&item);
    // One future for all items: what `next` returns may borrow from it, and nothing is allocated for each.
    let source = async move {
        while let Some(item) = next().await.transpose() {
            let goes_on = item.as_ref().err().is_none_or(|error| error.is_cancelled());
            place.set(Some(item));
            if !goes_on {
                break;
            }
            until_polled_again().await;
        }
    };
    Items { source: Some(Box::pin(source)), item }
}

fn until_polled_again() -> impl Future<Output = ()> {
    let mut polled = false;
    poll_fn(move |_| if mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending })
}

struct Items<T, S> {
    /// `None` after its end.
    source: Option<Pin<Box<S>>>,
    /// Where the source puts an item, which is taken in the same poll.
    item: Rc<Cell<Option<Result<T>>>>,
}

impl<T, S: Future<Output = ()>> Stream for Items<T, S> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        // One that panics is not put back.
        let Some(mut source) = self.source.take() else { return Poll::Ready(None) };
        if source.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.item.take());
        }
        self.source = Some(source);
        match self.item.take() {
            Some(item) => Poll::Ready(Some(item)),
            None => Poll::Pending,
        }
    }
}

impl<T, S: Future<Output = ()>> FusedStream for Items<T, S> {
    fn is_terminated(&self) -> bool {
        self.source.is_none()
    }
}
