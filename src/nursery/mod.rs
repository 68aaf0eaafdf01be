//! Nurseries: children that are always awaited (section N).

mod child;
mod core;
mod opened;
mod shared;
mod start;

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::AsyncFnOnce;
use std::panic::Location;

use crate::error::{Error, Result, Unwind};
use crate::op::Carry;

pub use child::Child;
pub use start::Started;

use self::core::{Core, Role};
use opened::Opened;
use shared::{Handle, Owner};

/// Where children are spawned. A `Copy` handle: pass it on, keep it in structs, use it in children.
///
/// `'scope` is the life of the children, who may borrow everything that lives longer than the call of
/// [`nursery`] (rule N15); `'env` is that outside.
pub struct Nursery<'scope, 'env: 'scope, T = (), E: 'static = Error> {
    handle: Handle<T, E>,
    /// Invariant in all four; no reference to anything that mentions `T`, which would imply
    /// `T: 'scope` and make "the value borrows" and "a child borrows a local" exclude each other.
    #[expect(clippy::type_complexity, reason = "a marker: four invariances")]
    marker: PhantomData<(Cell<&'scope ()>, Cell<&'env ()>, fn(T) -> T, fn(E) -> E)>,
}

impl<T, E> Clone for Nursery<'_, '_, T, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, E> Copy for Nursery<'_, '_, T, E> {}

impl<T, E> fmt::Debug for Nursery<'_, '_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nursery(opened at {})", self.handle.core().label().at)
    }
}

/// Runs `body` with a nursery for children, and returns when all of them have ended.
///
/// The outcome is, in this order: a panic of a child or of the body, which goes on; the errors of
/// children and body, gathered, without mere cancellations (rules N3, N5); the value passed to
/// [`finish`](Nursery::finish); the value of the body. Opening is not a checkpoint; leaving is a
/// schedule point and never a cancel point (rule N8).
///
/// A boxed closure is no async closure; write `nursery(async |n| boxed(n).await)`.
///
/// # Errors
/// See above; also a cancellation from outside, if it cut the body or a child short;
/// [`Error::NoRun`] outside of a run.
///
/// ```
/// trine::run(async || {
///     let numbers = [1, 2, 3];
///     let sum = std::cell::Cell::new(0);
///     trine::nursery(async |n| {
///         for number in &numbers {
///             let sum = &sum;
///             n.spawn(async move {
///                 trine::checkpoint().await?;
///                 sum.set(sum.get() + number);
///                 Ok(())
///             });
///         }
///         Ok(())
///     })
///     .await?;
///     assert_eq!(sum.get(), 6);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[track_caller]
pub fn nursery<'env, T, B>(body: B) -> impl Future<Output = Result<T>>
where
    B: for<'scope> AsyncFnOnce(Nursery<'scope, 'env, T>) -> Result<T>,
{
    generic::nursery(body)
}

/// [`nursery`](fn@nursery) for other error types.
pub(crate) mod generic {
    use super::*;

    /// [`nursery`](fn@crate::nursery) for any error type.
    ///
    /// # Errors
    /// As [`nursery`](fn@crate::nursery).
    #[track_caller]
    pub fn nursery<'env, T, E: Unwind, B>(body: B) -> impl Future<Output = Result<T, E>>
    where
        B: for<'scope> AsyncFnOnce(Nursery<'scope, 'env, T, E>) -> Result<T, E>,
    {
        // Before the body is called: it may spawn, and then panic.
        let opened = Opened::new(Owner::new(Core::new(Location::caller())));
        // `'scope` is chosen here, as long as it may be; the body has to work for every one.
        let future = body(Nursery { handle: opened.handle(), marker: PhantomData });
        Carry::new(opened, Some(future))
    }
}

impl<'scope, 'env, T, E: Unwind> Nursery<'scope, 'env, T, E> {
    /// Starts a child. It runs from the next turn on, under the scopes of the nursery and not of the
    /// spawner (rule N11), at the latest until the nursery ends.
    ///
    /// Its error cancels the siblings and comes out of the nursery (rule N3). Not a checkpoint. In a
    /// nursery that is cancelled it starts and runs to its first cancel point (rule N10); in one that
    /// is being dropped it is dropped unpolled.
    #[track_caller]
    pub fn spawn(self, child: impl Future<Output = Result<(), E>> + 'scope) {
        self.handle.core().spawn(child, Role::Ordinary, Location::caller());
    }

    /// As [`spawn`](Nursery::spawn), for somebody whose caller spawns.
    pub(crate) fn spawn_at(
        self,
        child: impl Future<Output = Result<(), E>> + 'scope,
        at: &'static Location<'static>,
    ) {
        self.handle.core().spawn(child, Role::Ordinary, at);
    }

    /// Starts a child that does not keep the nursery open: when only daemons are left they are
    /// cancelled, and awaited (rule N18).
    ///
    /// ```
    /// trine::run(async || {
    ///     trine::nursery(async |n| {
    ///         n.spawn_daemon(async { trine::time::sleep_forever().await });
    ///         trine::checkpoint().await
    ///     })
    ///     .await
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_daemon(self, child: impl Future<Output = Result<(), E>> + 'scope) {
        self.handle.core().spawn(child, Role::Daemon, Location::caller());
    }

    /// Starts a child that outlives the others: it is cancelled when they all, daemons too, have ended,
    /// and not before, also where the nursery is cancelled. For what others need to the last: a logger, a
    /// pool of connections, a counter.
    ///
    /// It does not keep the nursery open. Its error cancels the siblings like any child's; its own
    /// cancellation is no error. It is behind a shield until then, so what is cancelled or
    /// [drained](crate::CancelScope::drain) around it does not concern it; and an end of its own takes as
    /// long as it takes, so give what may hang a deadline.
    ///
    /// ```
    /// use trine::sync::unbounded;
    ///
    /// trine::run(async || {
    ///     let (log, lines) = unbounded();
    ///     let written = std::cell::RefCell::new(Vec::new());
    ///     trine::nursery(async |n| {
    ///         n.spawn_service(async {
    ///             let ended = loop {
    ///                 match lines.recv().await {
    ///                     Ok(line) => written.borrow_mut().extend(line),
    ///                     Err(error) => break Err(error),
    ///                 }
    ///             };
    ///             // All others have ended; what they said last is still to be taken.
    ///             while let Ok(line) = lines.try_recv() {
    ///                 written.borrow_mut().push(line);
    ///             }
    ///             ended
    ///         });
    ///         n.spawn(async {
    ///             let ended = trine::time::sleep_forever().await;
    ///             log.try_send("cancelled, and still heard")?;
    ///             ended
    ///         });
    ///         trine::checkpoint().await?;
    ///         n.cancel();
    ///         Ok(())
    ///     })
    ///     .await?;
    ///     assert_eq!(written.into_inner(), ["cancelled, and still heard"]);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_service(self, child: impl Future<Output = Result<(), E>> + 'scope) {
        self.handle.core().spawn(child, Role::Service, Location::caller());
    }

    /// Starts a child that yields a value: awaiting the handle gives it (rule N19). The child's error
    /// goes to the nursery, as any child's.
    ///
    /// ```
    /// let answer = trine::run(async || {
    ///     trine::nursery(async |n| {
    ///         let six = n.fork(async { Ok(6) });
    ///         let seven = n.fork(async { Ok(7) });
    ///         Ok(six.await? * seven.await?)
    ///     })
    ///     .await
    /// })?;
    /// assert_eq!(answer, 42);
    /// # Ok::<(), trine::Error>(())
    /// ```
    #[track_caller]
    pub fn fork<V: 'scope>(
        self,
        child: impl Future<Output = Result<V, E>> + 'scope,
    ) -> Child<'scope, V> {
        let at = Location::caller();
        let (child, handle) = child::fork(child, at);
        self.handle.core().spawn(child, Role::Ordinary, at);
        handle
    }

    /// Starts a child and waits until it says that it is ready, with a value (rules N40 to N56).
    ///
    /// Until then the child answers to the caller's scopes too, and its error comes out here, bare,
    /// without cancelling the nursery. From then on it belongs to the nursery alone.
    ///
    /// Cancel class: total. A cancelled `start` has joined the child before it returns.
    ///
    /// # Errors
    /// What the child ended with before it was ready; [`Error::NeverReady`] if that was `Ok`.
    ///
    /// ```
    /// trine::run(async || {
    ///     trine::nursery(async |n| {
    ///         let port = n
    ///             .start(async |started: trine::Started<u16>| {
    ///                 let listener = trine::net::TcpListener::bind("127.0.0.1:0").await?;
    ///                 started.set(listener.local_addr()?.port());
    ///                 listener.accept().await?;
    ///                 Ok(())
    ///             })
    ///             .await?;
    ///         trine::net::TcpStream::connect_addr(([127, 0, 0, 1], port).into()).await?;
    ///         Ok(())
    ///     })
    ///     .await
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    #[track_caller]
    pub fn start<V, F>(
        self,
        child: impl FnOnce(Started<V>) -> F,
    ) -> impl Future<Output = Result<V, E>>
    where
        F: Future<Output = Result<(), E>> + 'scope,
    {
        start::start(self.handle, child, Location::caller())
    }

    /// Ends the nursery early with `value`: everything else in it is cancelled and joined, and the
    /// outcome is `Ok(value)`, whatever is cancelled later; only a real error or a panic replaces it
    /// (rule N7). The first value wins. Not a checkpoint.
    pub fn finish(self, value: T) {
        self.handle.core().finish(value);
    }
}

impl<E: Unwind> Nursery<'_, '_, (), E> {
    /// Ends the nursery early: `finish(())`.
    pub fn cancel(self) {
        self.finish(());
    }
}
