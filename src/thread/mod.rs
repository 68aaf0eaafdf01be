//! Blocking work in threads, and calls from other threads into a run (section K).
//!
//! [`run`](run()) is for what cannot be asked of the ring: a computation, a library that blocks.
//! [`Remote`] is for the other direction: any thread may have a closure called, or a future run, on the
//! thread of a run.
//!
//! The threads are those of the process, and any of its runs gets any of them. What a thread inherits (the cores
//! that it may run on, its nice value, its signal mask), it has from the run that it was made for, and not from
//! the one that it works for. Where runs are pinned to cores of their own, set the mask at the start of `work`:
//! it stays with the thread, for the next one who gets it.

mod cache;
mod remote;
mod ticket;
mod work;

use std::fmt;
use std::future::Future;
use std::rc::Rc;

use crate::error::{Cancelled, Error, Result};
use crate::exec;
use crate::local::RunLocal;
use crate::sync::CapacityLimiter;

pub use remote::Remote;
use work::Working;

/// Calls `work` in another thread, and waits for its value.
///
/// Threads are kept for ten seconds for whoever comes next. At most 40 of a run are at work at a time,
/// unless its [`limiter`](limiter()) is moved; whoever is one too many waits.
///
/// Cancel class: total until a thread has begun (rule K1). From then on it is waited for, its value is
/// returned, and the next cancel point raises (rule K2); `work` may ask meanwhile whether it
/// [is cancelled](is_cancelled). A future that is dropped loses the value, but not the wait: the scope
/// around waits for the thread. With [`abandon_on_cancel`](Builder::abandon_on_cancel) nobody waits.
///
/// # Errors
/// `Cancelled`; [`Error::NoRun`] outside of a run; what the system says when it gives no thread.
///
/// # Panics
/// With the panic of `work`.
///
/// ```
/// use trine::thread;
///
/// trine::run(async || {
///     let sum: u64 = thread::run(|| (1..=1_000_000).sum()).await?;
///     assert_eq!(sum, 500_000_500_000);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn run<T, W>(work: W) -> impl Future<Output = Result<T>> + use<T, W>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    Builder::new().run(work)
}

/// How [`run`](run()) goes about it.
#[must_use = "a builder does nothing until `run` is called"]
pub struct Builder {
    limiter: Option<Rc<CapacityLimiter>>,
    abandon: bool,
}

impl Builder {
    /// With the [limiter of the run](limiter()), and waiting for what has begun.
    pub fn new() -> Builder {
        Builder { limiter: None, abandon: false }
    }

    /// Takes a token of this one, for as long as the thread is at work.
    pub fn limiter(mut self, limiter: &Rc<CapacityLimiter>) -> Builder {
        self.limiter = Some(Rc::clone(limiter));
        self
    }

    /// Whether a cancelled or dropped one leaves its thread to itself: `Cancelled` comes at once, the
    /// thread goes on to its end, and its token comes back then (rule K3). The run may end before; then the
    /// token comes back with it.
    pub fn abandon_on_cancel(mut self, abandon: bool) -> Builder {
        self.abandon = abandon;
        self
    }

    /// Does it.
    ///
    /// # Errors
    /// As [`run`](run()).
    ///
    /// # Panics
    /// As [`run`](run()).
    ///
    /// ```
    /// use std::time::Duration;
    /// use trine::{move_on_after, thread};
    ///
    /// trine::run(async || {
    ///     let blocked = move_on_after(Duration::from_millis(1), async |_| {
    ///         let endless = thread::Builder::new().abandon_on_cancel(true);
    ///         endless.run(|| std::thread::sleep(Duration::from_secs(1))).await
    ///     });
    ///     assert!(blocked.await?.is_none(), "nobody waits for it");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn run<T, W>(self, work: W) -> impl Future<Output = Result<T>> + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let Builder { limiter, abandon } = self;
        async move {
            let limiter = limiter.map_or_else(self::limiter, Ok)?;
            let token = limiter.acquire_owned().await?;
            Working::start(work, token, abandon)?.await
        }
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("limiter", &self.limiter)
            .field("abandon_on_cancel", &self.abandon)
            .finish()
    }
}

/// Says how many threads of this run may be at work at a time: 40, unless somebody moves it.
///
/// # Errors
/// [`Error::NoRun`] outside of a run.
///
/// ```
/// trine::run(async || {
///     trine::thread::limiter()?.set_total(4);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn limiter() -> Result<Rc<CapacityLimiter>> {
    static LIMITER: RunLocal<CapacityLimiter> = RunLocal::new(|| CapacityLimiter::new(THREADS));
    LIMITER.get()
}

/// Blocking work waits more than it computes, so there may be more threads than processors.
pub(crate) const THREADS: usize = 40;

/// Whether whoever waits for this thread, in [`run`](run()), is cancelled or has gone. Cheap enough for a
/// loop. In other threads nobody waits for, `false`.
///
/// ```
/// use trine::{CancelScope, nursery, thread};
///
/// trine::run(async || {
///     let scope = CancelScope::new();
///     let counted = scope.run(async |scope| {
///         nursery(async |n| {
///             let counting = n.fork(thread::run(|| {
///                 let mut count = 0_u64;
///                 while !thread::is_cancelled() {
///                     count += 1;
///                 }
///                 count
///             }));
///             trine::checkpoint().await?;
///             scope.cancel();
///             counting.await
///         })
///         .await
///     });
///     counted.await?;
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn is_cancelled() -> bool {
    exec::with_employer(|employer| employer.wish.is_there()).unwrap_or(false)
}

/// Raises in this thread what whoever waits for it, in [`run`](run()), is cancelled with.
///
/// # Errors
/// `Cancelled`; [`Error::NoRun`] in a thread that [`run`](run()) has not made.
pub fn check_cancelled() -> Result {
    match exec::with_employer(|employer| employer.wish.reason()) {
        Some(None) => Ok(()),
        Some(Some(reason)) => Err(Cancelled::new(reason).into()),
        None => Err(Error::NoRun),
    }
}
