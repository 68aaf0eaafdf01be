//! One value, once.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::result;

use crate::error::{Error, Result};

use super::lot::{ParkingLot, Resource, ask};

/// A pair through which one value goes, once.
///
/// ```
/// use trine::sync::oneshot;
///
/// trine::run(async || {
///     let (answer, question) = oneshot();
///     trine::nursery(async |n| {
///         n.spawn(async move { Ok(answer.send(42).expect("somebody waits")) });
///         assert_eq!(question.recv().await?, 42);
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn oneshot<T>() -> (OneshotSender<T>, OneshotReceiver<T>) {
    let shared = Rc::new(Shared {
        value: RefCell::new(None),
        unsent: Cell::new(true),
        wanted: Cell::new(true),
        receiving: ParkingLot::new(),
        closing: ParkingLot::new(),
    });
    (OneshotSender { shared: Rc::clone(&shared) }, OneshotReceiver { end: Receiving(shared) })
}

struct Shared<T> {
    value: RefCell<Option<T>>,
    /// The sender is there, and has not sent.
    unsent: Cell<bool>,
    /// The receiver is there.
    wanted: Cell<bool>,
    receiving: ParkingLot<(), Option<T>>,
    /// Where the sender waits for the receiver to go.
    closing: ParkingLot,
}

/// Who sends the value of a [`oneshot`](oneshot()).
pub struct OneshotSender<T> {
    shared: Rc<Shared<T>>,
}

impl<T> OneshotSender<T> {
    /// Sends the value.
    ///
    /// # Errors
    /// The value, if the receiver is gone.
    pub fn send(self, value: T) -> result::Result<(), T> {
        let shared = &self.shared;
        if !shared.wanted.get() {
            return Err(value);
        }
        shared.unsent.set(false);
        let mut value = Some(value);
        if !shared.receiving.hand(|()| value.take()) {
            *shared.value.borrow_mut() = value;
        }
        Ok(())
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        !self.shared.wanted.get()
    }

    /// Waits until the receiver is gone: what is being worked on is not wanted any more.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// `Cancelled`; [`Error::NoRun`] outside of a run.
    pub fn closed(&self) -> impl Future<Output = Result> + use<'_, T> {
        ask(&*self.shared, || (), Ok)
    }
}

impl<T> Resource for Shared<T> {
    type Request = ();
    type Grant = ();

    fn lot(&self) -> &ParkingLot {
        &self.closing
    }

    fn try_grant(&self, (): ()) -> result::Result<(), ()> {
        if self.wanted.get() { Err(()) } else { Ok(()) }
    }

    fn reclaim(&self, (): ()) {}
}

impl<T> Drop for OneshotSender<T> {
    fn drop(&mut self) {
        if self.shared.unsent.replace(false) {
            self.shared.receiving.hand_all(|()| None);
        }
    }
}

impl<T> fmt::Debug for OneshotSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneshotSender").field("closed", &self.is_closed()).finish()
    }
}

/// Who gets the value of a [`oneshot`](oneshot()).
pub struct OneshotReceiver<T> {
    end: Receiving<T>,
}

struct Receiving<T>(Rc<Shared<T>>);

impl<T> OneshotReceiver<T> {
    /// Waits for the value.
    ///
    /// Cancel class: total. A cancelled or dropped wait leaves the value here, to be asked for again.
    ///
    /// # Errors
    /// [`Error::Closed`] if the sender is gone and has sent nothing, or the value was taken before;
    /// `Cancelled`; [`Error::NoRun`] outside of a run.
    pub fn recv(&self) -> impl Future<Output = Result<T>> + use<'_, T> {
        let make = |value: Option<T>| {
            // Nothing is left for others who wait here.
            self.end.0.receiving.hand_all(|()| None);
            found(value)
        };
        ask(&self.end, || (), make)
    }

    /// The value, if it is there.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if it may still come, [`Error::Closed`] if not.
    pub fn try_recv(&self) -> Result<T> {
        match self.end.try_grant(()) {
            Ok(value) => found(value),
            Err(()) => Err(Error::WouldBlock),
        }
    }
}

const ONESHOT: &str = "the oneshot";

/// The value that was sent.
fn found<T>(value: Option<T>) -> Result<T> {
    match value {
        Some(value) => Ok(value),
        None => Err(Error::Closed(ONESHOT)),
    }
}

impl<T> Resource for Receiving<T> {
    type Request = ();
    type Grant = Option<T>;

    fn lot(&self) -> &ParkingLot<(), Option<T>> {
        &self.0.receiving
    }

    fn try_grant(&self, (): ()) -> result::Result<Option<T>, ()> {
        let value = self.0.value.take();
        if value.is_none() && self.0.unsent.get() { Err(()) } else { Ok(value) }
    }

    fn reclaim(&self, value: Option<T>) {
        let mut value = value;
        if value.is_some() && !self.0.receiving.hand(|()| value.take()) {
            *self.0.value.borrow_mut() = value;
        }
    }
}

impl<T> Drop for OneshotReceiver<T> {
    fn drop(&mut self) {
        self.end.0.wanted.set(false);
        let unwanted = self.end.0.value.take();
        self.end.0.closing.hand_all(|()| ());
        drop(unwanted);
    }
}

impl<T> fmt::Debug for OneshotReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.end.0.value.borrow().is_some(), self.end.0.unsent.get()) {
            (true, _) => "sent",
            (false, true) => "waiting",
            (false, false) => "closed",
        };
        write!(f, "OneshotReceiver({state})")
    }
}
