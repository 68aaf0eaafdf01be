//! Whether code is a checkpoint, and whether it is none (section A).

use std::future::{Future, poll_fn};
use std::pin::pin;

use crate::exec;

/// Awaits `body` and checks that it was a checkpoint: a cancel point and a schedule point (rule A2).
///
/// # Panics
/// If it was not; only if it ends with `Ok`. Outside of a run.
///
/// ```
/// use trine::testing::{World, assert_checkpoints};
///
/// World::tame().run(async || assert_checkpoints(trine::checkpoint()).await)?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn assert_checkpoints<T, E>(body: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let (result, points) = count(body).await;
    if result.is_ok() {
        assert!(points.cancel > 0, "the body was no cancel point, and so no checkpoint");
        assert!(points.schedule > 0, "the body was no schedule point, and so no checkpoint");
    }
    result
}

/// Awaits `body` and checks that it was neither a cancel point nor a schedule point.
///
/// # Panics
/// If it was one. Outside of a run.
///
/// ```
/// use trine::testing::{World, assert_no_checkpoints};
///
/// World::tame().run(async || assert_no_checkpoints(async { Ok(1 + 1) }).await.map(drop))?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn assert_no_checkpoints<T, E>(body: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let (result, points) = count(body).await;
    assert_eq!(points.cancel, 0, "the body was a cancel point");
    assert_eq!(points.schedule, 0, "the body was a schedule point");
    result
}

struct Points {
    cancel: u64,
    schedule: u64,
}

/// Counts only what happens while the body itself is polled.
async fn count<T>(body: impl Future<Output = T>) -> (T, Points) {
    let mut body = pin!(body);
    let mut points = Points { cancel: 0, schedule: 0 };
    let result = poll_fn(|cx| {
        let run = exec::current_or_none().expect("checkpoints are of a run, and there is none");
        let before = run.points();
        let polled = body.as_mut().poll(cx);
        let after = run.points();
        points.cancel += after.0 - before.0;
        // Whoever is polled again later has let others run.
        points.schedule += after.1 - before.1 + u64::from(polled.is_pending());
        polled
    })
    .await;
    (result, points)
}
