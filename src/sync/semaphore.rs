//! So many permits.

use std::cell::Cell;
use std::future::Future;
use std::result;

use crate::error::{Error, Result};

use super::lot::{ParkingLot, Resource, ask};

/// So many permits, given out first come first served (rule J7).
///
/// ```
/// use trine::sync::Semaphore;
///
/// trine::run(async || {
///     let two = Semaphore::new(2);
///     trine::nursery(async |n| {
///         for _ in 0..10 {
///             n.spawn(async {
///                 let _permit = two.acquire().await?;
///                 trine::checkpoint().await // At most two are here at a time.
///             });
///         }
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Debug)]
pub struct Semaphore {
    available: Cell<usize>,
    /// How many each waiter needs.
    lot: ParkingLot<usize, usize>,
}

/// How a [`Semaphore`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SemaphoreStatistics {
    /// Permits that nobody has.
    pub available: usize,
    /// Tasks that wait for permits.
    pub waiting: usize,
}

impl Semaphore {
    /// One with so many permits.
    pub fn new(permits: usize) -> Semaphore {
        Semaphore { available: Cell::new(permits), lot: ParkingLot::new() }
    }

    /// Takes a permit, waiting for it if need be. It comes back when it is dropped.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// `Cancelled`; [`Error::NoRun`] outside of a run.
    pub fn acquire(&self) -> impl Future<Output = Result<Permit<'_>>> + use<'_> {
        self.acquire_many(1)
    }

    /// Takes so many permits at once. While it waits nobody who comes later gets one.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    pub fn acquire_many(
        &self,
        permits: usize,
    ) -> impl Future<Output = Result<Permit<'_>>> + use<'_> {
        ask(self, move || permits, |permits| Ok(Permit { semaphore: self, permits }))
    }

    /// Takes a permit if there is one and nobody waits.
    ///
    /// # Errors
    /// [`Error::WouldBlock`].
    pub fn try_acquire(&self) -> Result<Permit<'_>> {
        self.try_acquire_many(1)
    }

    /// Takes so many permits if there are as many and nobody waits.
    ///
    /// # Errors
    /// [`Error::WouldBlock`].
    pub fn try_acquire_many(&self, permits: usize) -> Result<Permit<'_>> {
        match self.try_grant(permits) {
            Ok(permits) => Ok(Permit { semaphore: self, permits }),
            Err(_) => Err(Error::WouldBlock),
        }
    }

    /// Adds permits: those of a [forgotten](Permit::forget) one, or new ones.
    ///
    /// # Panics
    /// If there were more than `usize::MAX`.
    pub fn release(&self, permits: usize) {
        let sum = self.available.get().checked_add(permits);
        self.available.set(sum.expect("a semaphore has at most usize::MAX permits"));
        self.serve();
    }

    /// Permits that nobody has.
    pub fn available(&self) -> usize {
        self.available.get()
    }

    /// Permits and waiters.
    pub fn statistics(&self) -> SemaphoreStatistics {
        SemaphoreStatistics { available: self.available.get(), waiting: self.lot.len() }
    }

    /// Hands permits to those who wait, as far as they reach.
    fn serve(&self) {
        self.lot.hand_while(|&needed| {
            self.available.set(self.available.get().checked_sub(needed)?);
            Some(needed)
        });
    }
}

impl Resource for Semaphore {
    type Request = usize;
    type Grant = usize;

    fn lot(&self) -> &ParkingLot<usize, usize> {
        &self.lot
    }

    fn try_grant(&self, needed: usize) -> result::Result<usize, usize> {
        match self.available.get().checked_sub(needed) {
            Some(rest) if self.lot.is_empty() => {
                self.available.set(rest);
                Ok(needed)
            }
            _ => Err(needed),
        }
    }

    fn reclaim(&self, permits: usize) {
        self.release(permits);
    }

    fn left(&self) {
        self.serve();
    }
}

/// Permits of a [`Semaphore`], given back when they are dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back at once"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

impl Permit<'_> {
    /// Does not give them back: the semaphore has fewer from now on.
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.permits > 0 {
            self.semaphore.release(self.permits);
        }
    }
}
