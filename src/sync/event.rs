//! Something that happens once.

use std::cell::Cell;
use std::future::Future;
use std::result;

use crate::error::Result;

use super::lot::{ParkingLot, Resource, ask};

/// Something that happens once, and that any number of tasks may wait for (rule J10). There is no way to
/// take it back: make a new one.
///
/// ```
/// use trine::sync::Event;
///
/// trine::run(async || {
///     let ready = Event::new();
///     trine::nursery(async |n| {
///         n.spawn(async { ready.wait().await });
///         ready.set();
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Event {
    set: Cell<bool>,
    lot: ParkingLot,
}

/// How an [`Event`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EventStatistics {
    /// Tasks that wait for it.
    pub waiting: usize,
}

impl Event {
    /// One that has not happened.
    pub fn new() -> Event {
        Event::default()
    }

    /// It happens: whoever waits is woken. A second time changes nothing.
    pub fn set(&self) {
        if !self.set.replace(true) {
            self.lot.hand_all(|()| ());
        }
    }

    /// Whether it has happened.
    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Waits until it happens; returns at once if it has.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// `Cancelled`; [`Error::NoRun`](crate::Error::NoRun) outside of a run.
    pub fn wait(&self) -> impl Future<Output = Result> + use<'_> {
        ask(self, || (), Ok)
    }

    /// Tasks that wait for it.
    pub fn statistics(&self) -> EventStatistics {
        EventStatistics { waiting: self.lot.len() }
    }
}

impl Resource for Event {
    type Request = ();
    type Grant = ();

    fn lot(&self) -> &ParkingLot {
        &self.lot
    }

    fn try_grant(&self, (): ()) -> result::Result<(), ()> {
        if self.is_set() { Ok(()) } else { Err(()) }
    }

    fn reclaim(&self, (): ()) {}
}
