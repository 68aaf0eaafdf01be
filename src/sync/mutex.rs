//! What one task at a time may change.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};

use crate::error::Result;

use super::rwlock::{RwLock, RwLockStatistics, WriteGuard};

/// A value that one task at a time may use, also across an `await`. First come first served: it is handed on,
/// and nobody who comes later can get in between (rule J7).
///
/// Between two awaits a task is alone anyway; then a `RefCell` will do.
///
/// If its holder panics the value may be half-changed: from then on [`lock`](Mutex::lock) fails, until
/// somebody [says](Mutex::clear_poison) that it is in order.
///
/// ```
/// use trine::sync::Mutex;
///
/// trine::run(async || {
///     let total = Mutex::new(0);
///     trine::nursery(async |n| {
///         for _ in 0..10 {
///             n.spawn(async {
///                 let mut total = total.lock().await?;
///                 let before = *total;
///                 trine::checkpoint().await?;
///                 *total = before + 1;
///                 Ok(())
///             });
///         }
///         Ok(())
///     })
///     .await?;
///     assert_eq!(*total.lock().await?, 10);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Default)]
pub struct Mutex<T> {
    /// One that is only ever written.
    lock: RwLock<T>,
}

/// How a [`Mutex`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MutexStatistics {
    /// Whether somebody has it.
    pub held: bool,
    /// Tasks that wait for it.
    pub waiting: usize,
}

impl<T> Mutex<T> {
    /// One that nobody holds.
    pub fn new(value: T) -> Mutex<T> {
        Mutex { lock: RwLock::new(value) }
    }

    /// Locks it, waiting if need be.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// `Cancelled`; [`Error::Poisoned`](crate::Error::Poisoned) if a holder has panicked;
    /// [`Error::NoRun`](crate::Error::NoRun) outside of a run.
    pub fn lock(&self) -> impl Future<Output = Result<MutexGuard<'_, T>>> + use<'_, T> {
        self.lock.write_as(|value| MutexGuard { value, mutex: self })
    }

    /// Locks it if nobody holds it.
    ///
    /// # Errors
    /// [`Error::WouldBlock`](crate::Error::WouldBlock), [`Error::Poisoned`](crate::Error::Poisoned).
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>> {
        Ok(MutexGuard { value: self.lock.try_write()?, mutex: self })
    }

    /// Whether a holder has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.lock.is_poisoned()
    }

    /// The value is in order again.
    pub fn clear_poison(&self) {
        self.lock.clear_poison();
    }

    /// The value, whatever has become of it.
    pub fn into_inner(self) -> T {
        self.lock.into_inner()
    }

    /// The value, which nobody else can have at the moment.
    pub fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }

    /// Holder and waiters.
    pub fn statistics(&self) -> MutexStatistics {
        let RwLockStatistics { writer, waiting, .. } = self.lock.statistics();
        MutexStatistics { held: writer, waiting }
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.show("Mutex", f)
    }
}

/// The locked value of a [`Mutex`], which is unlocked when this is dropped.
#[must_use = "a guard that is dropped unlocks at once"]
pub struct MutexGuard<'a, T> {
    value: WriteGuard<'a, T>,
    mutex: &'a Mutex<T>,
}

impl<'a, T> MutexGuard<'a, T> {
    /// Whose it is.
    pub(super) fn mutex(guard: &Self) -> &'a Mutex<T> {
        guard.mutex
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
