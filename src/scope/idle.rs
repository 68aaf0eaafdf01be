//! What a drain ends at once.

use std::future::Future;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::exec;
use crate::op::Carry;

use super::CancelScope;
use super::entered::{Entered, MoveOn};

/// Says that nothing is in hand while `future` is waited for: when a scope around is
/// [drained](CancelScope::drain) the wait ends, with `None`. One that would begin later ends at once, with
/// its future unpolled: what is there already is left where it is.
///
/// An accept loop is idle, and a connection between two requests. Cancel class: that of the future; what it
/// is ended in does not happen.
///
/// # Errors
/// Those of the future.
///
/// ```
/// # use std::time::Duration;
/// use trine::{CancelScope, idle, nursery};
///
/// trine::run(async || {
///     let scope = CancelScope::new();
///     scope.run(async |scope| {
///         nursery(async |n| {
///             n.spawn(async {
///                 assert!(idle(trine::time::sleep_forever()).await?.is_none());
///                 Ok(())
///             });
///             trine::checkpoint().await?;
///             scope.drain(Duration::from_secs(1));
///             Ok(())
///         })
///         .await
///     })
///     .await?
///     .expect("not cancelled");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[track_caller]
pub fn idle<T, F>(future: F) -> impl Future<Output = Result<Option<T>>>
where
    F: Future<Output = Result<T>>,
{
    let scope = Rc::new(CancelScope::new());
    scope.idle.set(true);
    Carry::new(Entered::<_, MoveOn, T, Error>::new(scope), Some(future))
}

/// Whether a scope around is [drained](CancelScope::drain): what is in hand should come to its end, and what
/// is [`idle`](idle()) ends. `false` outside of a run.
///
/// To wait for that: `idle(sleep_forever())`.
///
/// ```
/// use std::time::Duration;
/// use trine::{CancelScope, is_draining};
///
/// trine::run(async || {
///     let scope = CancelScope::new();
///     let body = scope.run(async |scope| {
///         assert!(!is_draining());
///         scope.drain(Duration::from_secs(1));
///         Ok(is_draining())
///     });
///     assert_eq!(body.await?, Some(true));
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn is_draining() -> bool {
    exec::current_or_none()
        .is_some_and(|run| run.look(|core| core.tree.drained(run.node()).is_some()))
}
