//! Waiting for a change of what a mutex guards.

use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::result;

use crate::scope::shield;

use super::lot::{ParkingLot, Refused, Resource, wait_for};
use super::mutex::MutexGuard;

/// Waits for a change of what a [`Mutex`](super::Mutex) guards.
///
/// ```
/// use trine::sync::{Condition, Mutex};
///
/// trine::run(async || {
///     let (jobs, added) = (Mutex::new(Vec::new()), Condition::new());
///     trine::nursery(async |n| {
///         n.spawn(async {
///             let jobs = jobs.lock().await?;
///             let mut jobs = added.wait_while(jobs, |jobs| jobs.is_empty()).await?;
///             assert_eq!(jobs.pop(), Some("job"));
///             Ok(())
///         });
///         trine::checkpoint().await?;
///         jobs.lock().await?.push("job");
///         added.notify_one();
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Default)]
pub struct Condition {
    lot: ParkingLot,
}

/// The lock; an error comes with it too, unless it could not be had any more.
pub type Locked<'a, T> = result::Result<MutexGuard<'a, T>, Refused<Option<MutexGuard<'a, T>>>>;

/// How a [`Condition`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConditionStatistics {
    /// Tasks that wait to be notified.
    pub waiting: usize,
}

impl Condition {
    /// One that nobody waits for.
    pub fn new() -> Condition {
        Condition::default()
    }

    /// Unlocks, waits to be notified, and locks again; in between others may have changed the value
    /// again, so look whether it is as it should be, or let [`wait_while`](Condition::wait_while).
    ///
    /// Cancel class: total. A cancelled wait locks again before it returns, whatever is cancelled
    /// around it, and the lock comes with the error (rule J9). One that is dropped holds no lock.
    ///
    /// # Errors
    /// [`Refused`], with `Cancelled` and the guard; with [`Error::Poisoned`](crate::Error::Poisoned) without one.
    pub async fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> Locked<'a, T> {
        let mutex = MutexGuard::mutex(&guard);
        let (mut guard, mut notified) = (Some(guard), wait_for(self, ()));
        let waits = poll_fn(move |cx| {
            let polled = Pin::new(&mut notified).poll(cx);
            // Not before it is in the lot: a notification must not come in between.
            if notified.is_parked() {
                guard = None;
            }
            polled.map(|ended| (ended, guard.take()))
        });
        let (ended, guard) = waits.await;
        let heard = ended.is_ok().then(|| Heard(self));
        let relocked = match guard {
            Some(guard) => Ok(guard),
            None => shield(mutex.lock()).await,
        };
        if relocked.is_ok() {
            mem::forget(heard);
        }
        match (ended, relocked) {
            (Ok(()), Ok(guard)) => Ok(guard),
            (Err(Refused { error, .. }), relocked) => {
                Err(Refused { error, request: relocked.ok() })
            }
            (Ok(()), Err(error)) => Err(Refused { error, request: None }),
        }
    }

    /// Waits as long as `is_wrong` says so of the value.
    ///
    /// Cancel class and errors: as [`wait`](Condition::wait).
    pub async fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut is_wrong: impl FnMut(&mut T) -> bool,
    ) -> Locked<'a, T> {
        while is_wrong(&mut guard) {
            guard = self.wait(guard).await?;
        }
        Ok(guard)
    }

    /// Wakes the one that has waited longest.
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Wakes as many.
    pub fn notify(&self, mut count: usize) {
        self.lot.hand_while(|()| {
            count = count.checked_sub(1)?;
            Some(())
        });
    }

    /// Wakes all that wait now.
    pub fn notify_all(&self) {
        self.lot.hand_all(|()| ());
    }

    /// Tasks that wait to be notified.
    pub fn statistics(&self) -> ConditionStatistics {
        ConditionStatistics { waiting: self.lot.len() }
    }
}

impl Resource for Condition {
    type Request = ();
    type Grant = ();

    fn lot(&self) -> &ParkingLot {
        &self.lot
    }

    /// One always waits.
    fn try_grant(&self, (): ()) -> result::Result<(), ()> {
        Err(())
    }

    /// Somebody else is to hear of it.
    fn reclaim(&self, (): ()) {
        self.notify_one();
    }
}

/// A notification of which nobody has been told yet: if the wait is dropped while it locks again, or cannot
/// lock any more, somebody else is to hear of it (rule J2).
struct Heard<'a>(&'a Condition);

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("waiting", &self.lot.len()).finish()
    }
}
