//! What many may look at, or one may change.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::result;

use crate::error::{Error, Result};

use super::lot::{ParkingLot, Resource, ask};

/// A value that many tasks may look at, or one may change, also across an `await`.
///
/// First come first served (rule J7): a writer that waits lets no later reader past, so it does not starve,
/// and readers that waited one behind another go in together. If a writer panics it is poisoned, as
/// a [`Mutex`](super::Mutex) is.
///
/// ```
/// use trine::sync::RwLock;
///
/// trine::run(async || {
///     let routes = RwLock::new(vec!["/"]);
///     {
///         let (one, other) = (routes.read().await?, routes.read().await?);
///         assert_eq!(*one, *other);
///     }
///     routes.write().await?.push("/about");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Default)]
pub struct RwLock<T> {
    lock: Lock,
    value: RefCell<T>,
}

#[derive(Default)]
struct Lock {
    readers: Cell<usize>,
    writer: Cell<bool>,
    poisoned: Cell<bool>,
    lot: ParkingLot<Access, Access>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Read,
    Write,
}

/// How a [`RwLock`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RwLockStatistics {
    /// Tasks that look at it.
    pub readers: usize,
    /// Whether somebody may change it.
    pub writer: bool,
    /// Tasks that wait for either.
    pub waiting: usize,
}

impl<T> RwLock<T> {
    /// One that nobody holds.
    pub fn new(value: T) -> RwLock<T> {
        RwLock { lock: Lock::default(), value: RefCell::new(value) }
    }

    /// Waits until it may be looked at.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// `Cancelled`; [`Error::Poisoned`] if a writer has panicked; [`Error::NoRun`] outside of a run.
    pub fn read(&self) -> impl Future<Output = Result<ReadGuard<'_, T>>> + use<'_, T> {
        ask(&self.lock, || Access::Read, |_| self.read_guard())
    }

    /// Waits until it may be changed.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// As [`read`](RwLock::read).
    pub fn write(&self) -> impl Future<Output = Result<WriteGuard<'_, T>>> + use<'_, T> {
        self.write_as(|guard| guard)
    }

    /// The same, for a guard of another type.
    pub(super) fn write_as<'a, G, M>(
        &'a self,
        make: M,
    ) -> impl Future<Output = Result<G>> + use<'a, T, G, M>
    where
        M: Fn(WriteGuard<'a, T>) -> G,
    {
        ask(&self.lock, || Access::Write, move |_| self.write_guard().map(&make))
    }

    /// Looks at it if that needs no waiting.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::Poisoned`].
    pub fn try_read(&self) -> Result<ReadGuard<'_, T>> {
        self.lock.try_grant(Access::Read).map_err(|_| Error::WouldBlock)?;
        self.read_guard()
    }

    /// Changes it if that needs no waiting.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::Poisoned`].
    pub fn try_write(&self) -> Result<WriteGuard<'_, T>> {
        self.lock.try_grant(Access::Write).map_err(|_| Error::WouldBlock)?;
        self.write_guard()
    }

    fn read_guard(&self) -> Result<ReadGuard<'_, T>> {
        let held = self.lock.held(Access::Read)?;
        Ok(ReadGuard { value: self.value.borrow(), _held: held })
    }

    fn write_guard(&self) -> Result<WriteGuard<'_, T>> {
        let held = self.lock.held(Access::Write)?;
        Ok(WriteGuard { value: self.value.borrow_mut(), _held: held })
    }

    /// Whether a writer has panicked.
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

    /// Holders and waiters.
    pub fn statistics(&self) -> RwLockStatistics {
        let Lock { readers, writer, lot, .. } = &self.lock;
        RwLockStatistics { readers: readers.get(), writer: writer.get(), waiting: lot.len() }
    }
}

impl Lock {
    /// It was granted.
    fn held(&self, access: Access) -> Result<Held<'_>> {
        let held = Held { lock: self, access };
        if self.poisoned.get() { Err(Error::Poisoned("the lock")) } else { Ok(held) }
    }

    /// Lets one more in if there is room beside those who are.
    fn admit(&self, access: Access) -> Option<Access> {
        match access {
            _ if self.writer.get() => return None,
            Access::Read => self.readers.set(self.readers.get() + 1),
            Access::Write if self.readers.get() > 0 => return None,
            Access::Write => self.writer.set(true),
        }
        Some(access)
    }

    fn release(&self, access: Access) {
        match access {
            Access::Read => self.readers.set(self.readers.get() - 1),
            Access::Write => self.writer.set(false),
        }
        self.serve();
    }

    fn serve(&self) {
        self.lot.hand_while(|&access| self.admit(access));
    }
}

impl Resource for Lock {
    type Request = Access;
    type Grant = Access;

    fn lot(&self) -> &ParkingLot<Access, Access> {
        &self.lot
    }

    fn try_grant(&self, access: Access) -> result::Result<Access, Access> {
        if !self.lot.is_empty() {
            return Err(access);
        }
        self.admit(access).ok_or(access)
    }

    fn reclaim(&self, access: Access) {
        self.release(access);
    }

    fn left(&self) {
        self.serve();
    }
}

impl<T: fmt::Debug> RwLock<T> {
    pub(super) fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct(name);
        match self.value.try_borrow() {
            Ok(value) => shown.field("value", &value),
            Err(_) => shown.field("value", &format_args!("<locked>")),
        };
        shown.field("waiting", &self.lock.lot.len()).field("poisoned", &self.is_poisoned()).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show("RwLock", f)
    }
}

struct Held<'a> {
    lock: &'a Lock,
    access: Access,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.access == Access::Write && std::thread::panicking() {
            self.lock.poisoned.set(true);
        }
        self.lock.release(self.access);
    }
}

/// A look at what a [`RwLock`] guards.
#[must_use = "a guard that is dropped unlocks at once"]
pub struct ReadGuard<'a, T> {
    // Dropped in this order: the value is free before somebody else gets it.
    value: Ref<'a, T>,
    _held: Held<'a>,
}

/// What a [`RwLock`] guards, to be changed.
#[must_use = "a guard that is dropped unlocks at once"]
pub struct WriteGuard<'a, T> {
    value: RefMut<'a, T>,
    _held: Held<'a>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
