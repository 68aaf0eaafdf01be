//! A limit that can be moved.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::result;

use crate::error::{Error, Result};

use super::lot::{ParkingLot, Resource, ask};

/// A limit to how many do something at a time, which can be moved while they do.
///
/// Unlike a [`Semaphore`](super::Semaphore) it lends tokens: there are as many as it says, and a smaller
/// total holds for whoever comes next; nobody who has one loses it.
///
/// ```
/// use trine::sync::CapacityLimiter;
///
/// trine::run(async || {
///     let limiter = CapacityLimiter::new(1);
///     let token = limiter.acquire().await?;
///     assert!(limiter.try_acquire().is_err());
///     limiter.set_total(2);
///     assert!(limiter.try_acquire().is_ok());
///     drop(token);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Debug)]
pub struct CapacityLimiter {
    total: Cell<usize>,
    borrowed: Cell<usize>,
    lot: ParkingLot,
}

/// How a [`CapacityLimiter`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CapacityLimiterStatistics {
    /// Tokens there are.
    pub total: usize,
    /// Tokens that are lent; more than there are after the total was lowered.
    pub borrowed: usize,
    /// Tasks that wait for one.
    pub waiting: usize,
}

impl CapacityLimiter {
    /// One of so many tokens; with `0` everybody waits until there are more.
    pub fn new(total: usize) -> CapacityLimiter {
        CapacityLimiter { total: Cell::new(total), borrowed: Cell::new(0), lot: ParkingLot::new() }
    }

    /// Borrows a token, waiting for it if need be; first come first served (rule J7). It comes back when
    /// it is dropped.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// `Cancelled`; [`Error::NoRun`] outside of a run.
    pub fn acquire(&self) -> impl Future<Output = Result<Token<'_>>> + use<'_> {
        ask(self, || (), |()| Ok(Token { limiter: self }))
    }

    /// As [`acquire`](CapacityLimiter::acquire), with a token that keeps the limiter alive.
    ///
    /// # Errors
    /// As [`acquire`](CapacityLimiter::acquire).
    pub fn acquire_owned(self: &Rc<Self>) -> impl Future<Output = Result<OwnedToken>> + use<> {
        let limiter = Rc::clone(self);
        async move {
            let token = limiter.acquire().await?;
            std::mem::forget(token);
            Ok(OwnedToken { limiter })
        }
    }

    /// Borrows a token if one is free and nobody waits.
    ///
    /// # Errors
    /// [`Error::WouldBlock`].
    pub fn try_acquire(&self) -> Result<Token<'_>> {
        self.try_grant(()).map_err(|()| Error::WouldBlock)?;
        Ok(Token { limiter: self })
    }

    /// Tokens there are.
    pub fn total(&self) -> usize {
        self.total.get()
    }

    /// Sets how many tokens there are. More are lent at once to those who wait.
    pub fn set_total(&self, total: usize) {
        self.total.set(total);
        self.serve();
    }

    /// Tokens that are lent.
    pub fn borrowed(&self) -> usize {
        self.borrowed.get()
    }

    /// Tokens and waiters.
    pub fn statistics(&self) -> CapacityLimiterStatistics {
        let (total, borrowed) = (self.total.get(), self.borrowed.get());
        CapacityLimiterStatistics { total, borrowed, waiting: self.lot.len() }
    }

    fn give_back(&self) {
        self.borrowed.set(self.borrowed.get() - 1);
        self.serve();
    }

    fn serve(&self) {
        self.lot.hand_while(|()| self.lend());
    }

    fn lend(&self) -> Option<()> {
        let borrowed = self.borrowed.get();
        (borrowed < self.total.get()).then(|| self.borrowed.set(borrowed + 1))
    }
}

impl Resource for CapacityLimiter {
    type Request = ();
    type Grant = ();

    fn lot(&self) -> &ParkingLot {
        &self.lot
    }

    fn try_grant(&self, (): ()) -> result::Result<(), ()> {
        if !self.lot.is_empty() {
            return Err(());
        }
        self.lend().ok_or(())
    }

    fn reclaim(&self, (): ()) {
        self.give_back();
    }
}

/// A token of a [`CapacityLimiter`], given back when it is dropped.
#[derive(Debug)]
#[must_use = "a token that is dropped is given back at once"]
pub struct Token<'a> {
    limiter: &'a CapacityLimiter,
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        self.limiter.give_back();
    }
}

/// A [`Token`] that keeps its limiter alive.
#[derive(Debug)]
#[must_use = "a token that is dropped is given back at once"]
pub struct OwnedToken {
    limiter: Rc<CapacityLimiter>,
}

impl Drop for OwnedToken {
    fn drop(&mut self) {
        self.limiter.give_back();
    }
}
