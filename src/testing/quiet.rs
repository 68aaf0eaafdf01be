//! Waiting until everything else waits.

use std::future::{Future, poll_fn};
use std::task::{Poll, ready};
use std::time::Duration;

use crate::cancel::Subject;
use crate::error::Result;
use crate::exec::{self, Park};

/// Waits until every other task of the run is blocked: so a test knows that what it has set going has
/// come as far as it can.
///
/// On a simulated kernel that is known exactly. On the real one it means that nothing has happened for
/// ten milliseconds; [`wait_all_tasks_blocked_for`] says how long. It comes before virtual time jumps.
///
/// Cancel class: total.
///
/// # Errors
/// `Cancelled`; [`Error::NoRun`](crate::Error::NoRun) outside of a run.
///
/// ```
/// use trine::testing::{World, wait_all_tasks_blocked};
///
/// World::tame().run(async || {
///     trine::nursery(async |n| {
///         n.spawn(async { trine::time::sleep_forever().await });
///         wait_all_tasks_blocked().await?;
///         assert_eq!(trine::stats().timers, 0);
///         n.cancel();
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn wait_all_tasks_blocked() -> impl Future<Output = Result> {
    wait_all_tasks_blocked_for(CUSHION)
}

/// Long enough for the kernel to finish what it has begun between two sockets of one machine.
pub(super) const CUSHION: Duration = Duration::from_millis(10);

/// As [`wait_all_tasks_blocked`], until that has lasted for `cushion` of real time. Of several who
/// wait so, those with the smallest cushion are woken first, and together. On a simulated kernel nobody
/// waits: the cushion only says who comes first.
///
/// Cancel class: total.
///
/// # Errors
/// As [`wait_all_tasks_blocked`].
pub fn wait_all_tasks_blocked_for(cushion: Duration) -> impl Future<Output = Result> {
    let mut park = None;
    poll_fn(move |cx| {
        loop {
            let waiting = match &park {
                Some(waiting) => waiting,
                None => {
                    let run = exec::current()?;
                    ready!(run.cancel_point())?;
                    let waiting = Park::new(&run, Subject::Park);
                    run.unpark_when_quiet(waiting.key(), cushion);
                    park.insert(waiting)
                }
            };
            let ended = ready!(waiting.poll_cancellable(cx));
            park = None;
            if let Some(ended) = ended {
                return Poll::Ready(Ok(ended?));
            }
        }
    })
}
