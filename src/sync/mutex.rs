//! What one task at a time may change.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::result;

use crate::error::{Error, Result};

use super::lot::{ParkingLot, Resource, ask};

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
    lock: Lock,
    value: RefCell<T>,
}

/// The lock alone.
#[derive(Default)]
struct Lock {
    held: Cell<bool>,
    poisoned: Cell<bool>,
    lot: ParkingLot,
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
        Mutex { lock: Lock::default(), value: RefCell::new(value) }
    }

    /// Locks it, waiting if need be.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// `Cancelled`; [`Error::Poisoned`] if a holder has panicked; [`Error::NoRun`] outside of a run.
    pub fn lock(&self) -> impl Future<Output = Result<MutexGuard<'_, T>>> + use<'_, T> {
        ask(&self.lock, || (), |()| self.guard())
    }

    /// Locks it if nobody holds it.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::Poisoned`].
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>> {
        self.lock.try_grant(()).map_err(|()| Error::WouldBlock)?;
        self.guard()
    }

    /// The lock was granted.
    fn guard(&self) -> Result<MutexGuard<'_, T>> {
        let held = Held { lock: &self.lock };
        if self.is_poisoned() {
            return Err(Error::Poisoned("the mutex"));
        }
        Ok(MutexGuard { value: self.value.borrow_mut(), mutex: self, _held: held })
    }

    /// Whether a holder has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.lock.poisoned.get()
    }

    /// The value is in order again.
    pub fn clear_poison(&self) {
        self.lock.poisoned.set(false);
    }

    /// The value, whatever has become of it.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// The value, which nobody else can have at the moment.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Holder and waiters.
    pub fn statistics(&self) -> MutexStatistics {
        MutexStatistics { held: self.lock.held.get(), waiting: self.lock.lot.len() }
    }
}

impl Lock {
    /// Hands it on.
    fn release(&self) {
        if !self.lot.hand(|()| ()) {
            self.held.set(false);
        }
    }
}

impl Resource for Lock {
    type Request = ();
    type Grant = ();

    fn lot(&self) -> &ParkingLot {
        &self.lot
    }

    fn try_grant(&self, (): ()) -> result::Result<(), ()> {
        if self.held.replace(true) { Err(()) } else { Ok(()) }
    }

    fn reclaim(&self, (): ()) {
        self.release();
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Mutex");
        match self.value.try_borrow() {
            Ok(value) => shown.field("value", &value),
            Err(_) => shown.field("value", &format_args!("<locked>")),
        };
        shown.field("waiting", &self.lock.lot.len()).field("poisoned", &self.is_poisoned()).finish()
    }
}

/// The locked value of a [`Mutex`], which is unlocked when this is dropped.
#[must_use = "a guard that is dropped unlocks at once"]
pub struct MutexGuard<'a, T> {
    // Dropped in this order: the value is free before somebody else gets it.
    value: RefMut<'a, T>,
    mutex: &'a Mutex<T>,
    _held: Held<'a>,
}

struct Held<'a> {
    lock: &'a Lock,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lock.poisoned.set(true);
        }
        self.lock.release();
    }
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
