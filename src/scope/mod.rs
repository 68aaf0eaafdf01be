//! Cancel scopes: what is polled inside one is cancelled by it (sections B to H).

mod entered;
mod idle;
mod keeper;
mod shield;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::ops::AsyncFnOnce;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::cancel::{Label, Node, What};
use crate::clock::Instant;
use crate::error::{Reason, Result, Unwind};
use crate::exec::{self, Run};
use crate::op::{Carry, lend};
use crate::slots::Key;

pub(crate) use entered::absorb;
use entered::{Entered, Fail, MoveOn};
pub use idle::{idle, is_draining};
pub(crate) use keeper::Keeper;
pub use shield::shield;

/// A part of a program that can be cancelled as a whole.
///
/// It is made first and entered once, by [`run`](CancelScope::run); in between and while it runs,
/// others may hold a reference to it and cancel it, move its deadline or switch its shield.
///
/// ```
/// use std::time::Duration;
/// use trine::CancelScope;
///
/// trine::run(async || {
///     let scope = CancelScope::new().timeout(Duration::from_secs(5));
///     let outcome = scope
///         .run(async |scope| {
///             scope.cancel_because("no longer needed");
///             trine::time::sleep_forever().await
///         })
///         .await?;
///     assert!(outcome.is_none(), "moved on");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct CancelScope {
    at: &'static Location<'static>,
    deadline: Cell<Option<Instant>>,
    /// Becomes a deadline at entry (rule F4).
    timeout: Cell<Option<Duration>>,
    shield: Cell<bool>,
    /// Nothing is in hand in it.
    idle: Cell<bool>,
    drained: Cell<Option<&'static Location<'static>>>,
    entered: Cell<bool>,
    /// Where it is while it is inside.
    place: RefCell<Option<(Rc<Run>, Key<Node>)>>,
    /// Its own cancellation, as far as the tree does not keep it: before entry and after exit.
    reason: RefCell<Option<Reason>>,
    caught: Cell<bool>,
}

impl CancelScope {
    /// A scope without a deadline and without a shield.
    #[track_caller]
    pub fn new() -> CancelScope {
        CancelScope::opened_at(Location::caller())
    }

    fn opened_at(at: &'static Location<'static>) -> CancelScope {
        CancelScope {
            at,
            deadline: Cell::new(None),
            timeout: Cell::new(None),
            shield: Cell::new(false),
            idle: Cell::new(false),
            drained: Cell::new(None),
            entered: Cell::new(false),
            place: RefCell::new(None),
            reason: RefCell::new(None),
            caught: Cell::new(false),
        }
    }

    /// With this deadline.
    #[must_use]
    pub fn deadline(self, at: Instant) -> CancelScope {
        self.set_deadline(Some(at));
        self
    }

    /// With a deadline that lies this far after the entry (rule F4).
    #[must_use]
    pub fn timeout(self, duration: Duration) -> CancelScope {
        self.timeout.set(Some(duration));
        self
    }

    /// With or without a shield: it hides cancellation from outside (rule G1).
    #[must_use]
    pub fn shield(self, shield: bool) -> CancelScope {
        self.shield.set(shield);
        self
    }

    /// Enters the scope with `body`, and leaves it when the body has ended and every orphan in it
    /// has been let go by the kernel (rule E11). `None`: the body was cancelled by this very scope.
    ///
    /// A body that finished is finished: its value is returned although the scope was cancelled
    /// (rule E5). Entering is not a checkpoint.
    ///
    /// # Errors
    /// What the body returns; a cancellation from outside the scope (rules E1 to E4);
    /// [`Error::NoRun`](crate::Error::NoRun) outside of a run.
    ///
    /// # Panics
    /// When it is entered a second time (rule F1).
    pub fn run<T, B>(&self, body: B) -> impl Future<Output = Result<Option<T>>>
    where
        B: AsyncFnOnce(&CancelScope) -> Result<T>,
    {
        self.run_generic(body)
    }

    /// [`run`](CancelScope::run) for any error type.
    pub(crate) fn run_generic<T, E: Unwind, B>(
        &self,
        body: B,
    ) -> impl Future<Output = Result<Option<T>, E>>
    where
        B: AsyncFnOnce(&CancelScope) -> Result<T, E>,
    {
        let future = body(self);
        Carry::new(Entered::<_, MoveOn, T, E>::new(self), Some(future))
    }

    /// Cancels everything that is polled inside, now and from now on (rules B5 to B7). Allowed before
    /// entry (rule F2). Not a checkpoint; cancelling twice is cancelling once.
    #[track_caller]
    pub fn cancel(&self) {
        self.cancel_with(Reason::Explicit { at: Location::caller(), because: None });
    }

    /// As [`cancel`](CancelScope::cancel), and says why.
    #[track_caller]
    pub fn cancel_because(&self, why: &str) {
        let because = Some(Arc::from(why));
        self.cancel_with(Reason::Explicit { at: Location::caller(), because });
    }

    /// Lets what is in hand come to its end, for `grace` at most: what is [`idle`](crate::idle()) inside is ended now and
    /// from now on; when the grace is over the scope is cancelled, by its deadline.
    ///
    /// Of several drains of scopes within one another the earliest end holds. Allowed before entry; not a
    /// checkpoint. What is behind a shield is not ended before its time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use trine::net::{TcpListener, TcpStream};
    /// use trine::{CancelScope, idle, nursery};
    ///
    /// trine::run(async || {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let client = TcpStream::connect_addr(listener.local_addr()?).await?;
    ///     let service = CancelScope::new();
    ///     let serving = service.run(async |service| {
    ///         nursery(async |n| {
    ///             while let Some((stream, _peer)) = idle(listener.accept()).await? {
    ///                 n.spawn(async move {
    ///                     while let Some(Some(request)) = idle(stream.recv()).await? {
    ///                         stream.write_all(request).await?; // In hand: this is finished.
    ///                     }
    ///                     stream.close().await
    ///                 });
    ///                 service.drain(Duration::from_secs(10)); // On a signal, say.
    ///             }
    ///             Ok(())
    ///         })
    ///         .await
    ///     });
    ///     assert!(serving.await?.is_some(), "it came to its end by itself");
    ///     assert!(client.recv().await?.is_none());
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    #[track_caller]
    pub fn drain(&self, grace: Duration) {
        let at = Location::caller();
        let end = exec::now() + grace;
        let earlier = self.deadline.get().is_none_or(|deadline| end < deadline);
        if let Some(timeout) = self.timeout.get() {
            // It begins to count at the entry.
            self.timeout.set(Some(timeout.min(grace)));
        } else if earlier {
            self.set_deadline(Some(end));
        }
        self.drained.set(Some(self.drained.get().unwrap_or(at)));
        if let Some((run, node)) = self.inside() {
            run.drain(node, at);
        }
    }

    /// Whether [`drain`](CancelScope::drain) was called.
    pub fn drain_called(&self) -> bool {
        self.drained.get().is_some()
    }

    fn cancel_with(&self, reason: Reason) {
        match self.inside() {
            Some((run, node)) => run.cancel(node, reason),
            None => {
                self.reason.borrow_mut().get_or_insert(reason);
            }
        }
    }

    /// Moves, sets or (`None`) takes away the deadline. Has no effect on a scope that is cancelled
    /// already (rule B6).
    pub fn set_deadline(&self, at: Option<Instant>) {
        self.deadline.set(at);
        self.timeout.set(None);
        if let Some((run, node)) = self.inside() {
            run.act(|core| core.set_deadline(node, at));
        }
    }

    /// Switches the shield. Taking it away delivers a cancellation from outside at once (rule G2).
    pub fn set_shield(&self, shield: bool) {
        self.shield.set(shield);
        if let Some((run, node)) = self.inside() {
            run.act(|core| core.tree.set_shield(node, shield, &mut core.sweep));
            if let Some(at) = run.look(|core| core.tree.drained(node)).filter(|_| !shield) {
                run.drain(node, at);
            }
        }
    }

    /// The scope's own deadline; a timeout is one from the entry on.
    pub fn current_deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    /// Whether the scope shields.
    pub fn is_shielded(&self) -> bool {
        self.shield.get()
    }

    /// Why the scope itself was cancelled, if it was: by a call or by its deadline. Whether that had
    /// any effect is another question: [`caught`](CancelScope::caught).
    pub fn cancel_called(&self) -> Option<Reason> {
        match self.inside() {
            Some((run, node)) => {
                run.look(|core| core.tree.get(node)?.cause().map(|(reason, _)| reason.clone()))
            }
            None => self.reason.borrow().clone(),
        }
    }

    /// Whether the scope was left because it absorbed its own cancellation.
    pub fn caught(&self) -> bool {
        self.caught.get()
    }

    fn inside(&self) -> Option<(Rc<Run>, Key<Node>)> {
        self.place.borrow().clone()
    }

    fn label(&self) -> Label {
        let what = if self.idle.get() { What::Idle } else { What::Scope };
        Label { what, at: self.at }
    }
}

impl fmt::Debug for CancelScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match (self.entered.get(), self.inside()) {
            (false, _) => "new",
            (true, Some(_)) => "inside",
            (true, None) => "left",
        };
        f.debug_struct("CancelScope")
            .field("at", &self.at)
            .field("deadline", &self.deadline.get())
            .field("timeout", &self.timeout.get())
            .field("shield", &self.shield.get())
            .field("stage", &stage)
            .field("reason", &self.cancel_called())
            .field("caught", &self.caught.get())
            .finish()
    }
}

impl Default for CancelScope {
    #[track_caller]
    fn default() -> Self {
        CancelScope::new()
    }
}

/// A scope that is made where it stays.
#[track_caller]
fn within(duration: Duration) -> Rc<CancelScope> {
    let scope = Rc::new(CancelScope::new());
    scope.timeout.set(Some(duration));
    scope
}

#[track_caller]
fn until(deadline: Instant) -> Rc<CancelScope> {
    let scope = Rc::new(CancelScope::new());
    scope.deadline.set(Some(deadline));
    scope
}

#[track_caller]
fn shielded_within(duration: Duration) -> Rc<CancelScope> {
    let scope = within(duration);
    scope.shield.set(true);
    scope
}

/// Runs `body` in a scope that is made here.
fn scoped<T, E: Unwind, B>(
    scope: Rc<CancelScope>,
    body: B,
) -> impl Future<Output = Result<Option<T>, E>>
where
    B: AsyncFnOnce(&CancelScope) -> Result<T, E>,
{
    let state = Entered::<_, MoveOn, T, E>::new(Rc::clone(&scope));
    Carry::new(state, Some(lend(scope, body)))
}

/// The same, where being cancelled by the scope is an error.
fn scoped_or_fail<T, E: Unwind, B>(
    scope: Rc<CancelScope>,
    body: B,
) -> impl Future<Output = Result<T, E>>
where
    B: AsyncFnOnce(&CancelScope) -> Result<T, E>,
{
    let state = Entered::<_, Fail, T, E>::new(Rc::clone(&scope));
    Carry::new(state, Some(lend(scope, body)))
}

/// Runs `body` for at most `duration`; `None` if that was not enough.
///
/// What finished in time is returned, however close it was (rule E5).
///
/// # Errors
/// What the body returns, or a cancellation from outside.
///
/// ```
/// use std::time::Duration;
/// use trine::move_on_after;
///
/// trine::run(async || {
///     let moment = Duration::from_millis(1);
///     let waited = move_on_after(moment, async |_| trine::time::sleep_forever().await).await?;
///     assert!(waited.is_none());
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[track_caller]
pub fn move_on_after<T, B>(duration: Duration, body: B) -> impl Future<Output = Result<Option<T>>>
where
    B: AsyncFnOnce(&CancelScope) -> Result<T>,
{
    scoped(within(duration), body)
}

/// As [`move_on_after`], with a point in time.
///
/// # Errors
/// As [`move_on_after`].
#[track_caller]
pub fn move_on_at<T, B>(deadline: Instant, body: B) -> impl Future<Output = Result<Option<T>>>
where
    B: AsyncFnOnce(&CancelScope) -> Result<T>,
{
    scoped(until(deadline), body)
}

/// Runs `body` for at most `duration`; not enough is an error.
///
/// # Errors
/// [`Error::TooSlow`](crate::Error::TooSlow) if the scope ended the body, by its deadline or by `cancel` (rule E9; the reason
/// tells which); what the body returns; a cancellation from outside.
///
/// ```
/// use std::time::Duration;
/// use trine::fail_after;
///
/// let outcome = trine::run(async || {
///     fail_after(Duration::from_millis(1), async |_| trine::time::sleep_forever().await).await
/// });
/// assert!(outcome.unwrap_err().is_too_slow());
/// ```
#[track_caller]
pub fn fail_after<T, B>(duration: Duration, body: B) -> impl Future<Output = Result<T>>
where
    B: AsyncFnOnce(&CancelScope) -> Result<T>,
{
    scoped_or_fail(within(duration), body)
}

/// As [`fail_after`], with a point in time.
///
/// # Errors
/// As [`fail_after`].
#[track_caller]
pub fn fail_at<T, B>(deadline: Instant, body: B) -> impl Future<Output = Result<T>>
where
    B: AsyncFnOnce(&CancelScope) -> Result<T>,
{
    scoped_or_fail(until(deadline), body)
}

/// Runs `body` behind a shield, for at most `duration`: the way to clean up (rule G3). `None` if that
/// was not enough.
///
/// # Errors
/// What the body returns. A cancellation from outside does not get in.
///
/// ```
/// use std::time::Duration;
/// use trine::{move_on_after, shield_for, time};
///
/// trine::run(async || {
///     let cleaned = move_on_after(Duration::ZERO, async |_| {
///         let cancelled = time::sleep_forever().await;
///         shield_for(Duration::from_secs(1), async |_| trine::nop().await).await?;
///         cancelled
///     });
///     assert!(cleaned.await?.is_none());
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[track_caller]
pub fn shield_for<T, B>(duration: Duration, body: B) -> impl Future<Output = Result<Option<T>>>
where
    B: AsyncFnOnce(&CancelScope) -> Result<T>,
{
    scoped(shielded_within(duration), body)
}

/// When the work done here will be cancelled at the latest, if nobody moves a deadline (rule H1):
/// [`Instant::MIN`] inside a cancelled scope, `None` without any deadline or outside of a run.
///
/// ```
/// use std::time::Duration;
/// use trine::{current_effective_deadline, move_on_after, time::Instant};
///
/// trine::run(async || {
///     assert_eq!(current_effective_deadline(), None);
///     move_on_after(Duration::from_secs(9), async |scope| {
///         assert_eq!(current_effective_deadline(), scope.current_deadline());
///         scope.cancel();
///         assert_eq!(current_effective_deadline(), Some(Instant::MIN));
///         Ok(())
///     })
///     .await?;
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn current_effective_deadline() -> Option<Instant> {
    let run = exec::current_or_none()?;
    let node = run.node();
    run.look(|core| core.tree.effective_deadline(node))
}

/// Whether the next cancel point here would raise. `false` outside of a run.
///
/// ```
/// trine::run(async || {
///     let scope = trine::CancelScope::new();
///     scope.cancel();
///     assert!(!trine::is_cancelled());
///     scope.run(async |_| Ok(assert!(trine::is_cancelled()))).await?;
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn is_cancelled() -> bool {
    exec::current_or_none().is_some_and(|run| run.is_cancelled())
}

/// The functions of this module for other error types: `io::Error`, or your own [`Unwind`].
///
/// Rust cannot infer the error type from a body whose last expression is `Ok(())`, so say it:
/// `async |_| -> Result<_, MyError> { … }`.
pub(crate) mod generic {
    use super::*;

    /// [`CancelScope::run`] for any error type.
    ///
    /// # Errors
    /// As [`CancelScope::run`].
    pub fn run_scope<T, E: Unwind, B>(
        scope: &CancelScope,
        body: B,
    ) -> impl Future<Output = Result<Option<T>, E>>
    where
        B: AsyncFnOnce(&CancelScope) -> Result<T, E>,
    {
        scope.run_generic(body)
    }

    /// [`move_on_after`](crate::move_on_after) for any error type.
    ///
    /// # Errors
    /// As [`move_on_after`](crate::move_on_after).
    #[track_caller]
    pub fn move_on_after<T, E: Unwind, B>(
        duration: Duration,
        body: B,
    ) -> impl Future<Output = Result<Option<T>, E>>
    where
        B: AsyncFnOnce(&CancelScope) -> Result<T, E>,
    {
        scoped(within(duration), body)
    }

    /// [`move_on_at`](crate::move_on_at) for any error type.
    ///
    /// # Errors
    /// As [`move_on_at`](crate::move_on_at).
    #[track_caller]
    pub fn move_on_at<T, E: Unwind, B>(
        deadline: Instant,
        body: B,
    ) -> impl Future<Output = Result<Option<T>, E>>
    where
        B: AsyncFnOnce(&CancelScope) -> Result<T, E>,
    {
        scoped(until(deadline), body)
    }

    /// [`fail_after`](crate::fail_after) for any error type.
    ///
    /// # Errors
    /// As [`fail_after`](crate::fail_after).
    #[track_caller]
    pub fn fail_after<T, E: Unwind, B>(
        duration: Duration,
        body: B,
    ) -> impl Future<Output = Result<T, E>>
    where
        B: AsyncFnOnce(&CancelScope) -> Result<T, E>,
    {
        scoped_or_fail(within(duration), body)
    }

    /// [`fail_at`](crate::fail_at) for any error type.
    ///
    /// # Errors
    /// As [`fail_at`](crate::fail_at).
    #[track_caller]
    pub fn fail_at<T, E: Unwind, B>(
        deadline: Instant,
        body: B,
    ) -> impl Future<Output = Result<T, E>>
    where
        B: AsyncFnOnce(&CancelScope) -> Result<T, E>,
    {
        scoped_or_fail(until(deadline), body)
    }

    /// [`shield_for`](crate::shield_for) for any error type.
    ///
    /// # Errors
    /// As [`shield_for`](crate::shield_for).
    #[track_caller]
    pub fn shield_for<T, E: Unwind, B>(
        duration: Duration,
        body: B,
    ) -> impl Future<Output = Result<Option<T>, E>>
    where
        B: AsyncFnOnce(&CancelScope) -> Result<T, E>,
    {
        scoped(shielded_within(duration), body)
    }
}
