//! A place where so many meet.

use std::fmt;
use std::future::Future;
use std::result;

use crate::error::Result;

use super::lot::{ParkingLot, Resource, ask};

/// A place where so many tasks wait for each other, again and again.
///
/// ```
/// use trine::sync::Barrier;
///
/// trine::run(async || {
///     let all_ready = Barrier::new(3);
///     trine::nursery(async |n| {
///         for _ in 0..3 {
///             n.spawn(async { all_ready.wait().await.map(drop) });
///         }
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct Barrier {
    size: usize,
    lot: ParkingLot<(), bool>,
}

/// How a [`Barrier`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BarrierStatistics {
    /// Tasks that wait for the others.
    pub waiting: usize,
}

impl Barrier {
    /// One for so many. One for none or for one lets everybody through.
    pub fn new(size: usize) -> Barrier {
        Barrier { size, lot: ParkingLot::new() }
    }

    /// Waits until so many wait. Exactly one of them, the last, gets `true`.
    ///
    /// Cancel class: total. A cancelled or dropped wait does not count: another has to come for it.
    ///
    /// # Errors
    /// `Cancelled`; [`Error::NoRun`](crate::Error::NoRun) outside of a run.
    pub fn wait(&self) -> impl Future<Output = Result<bool>> + use<'_> {
        ask(self, || (), Ok)
    }

    /// Tasks that wait for the others.
    pub fn statistics(&self) -> BarrierStatistics {
        BarrierStatistics { waiting: self.lot.len() }
    }
}

impl Resource for Barrier {
    type Request = ();
    type Grant = bool;

    fn lot(&self) -> &ParkingLot<(), bool> {
        &self.lot
    }

    fn try_grant(&self, (): ()) -> result::Result<bool, ()> {
        // Those count that were not cancelled meanwhile, which takes time to find out.
        let missing = |others: usize| others.saturating_add(1) < self.size;
        if missing(self.lot.len()) || missing(self.lot.waiting()) {
            return Err(());
        }
        self.lot.hand_all(|()| false);
        Ok(true)
    }

    fn reclaim(&self, _is_last: bool) {}
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.lot.len();
        f.debug_struct("Barrier").field("size", &self.size).field("waiting", &waiting).finish()
    }
}
