//! Every value to everybody.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::result;

use crate::error::Result;

use super::lot::{ParkingLot, Resource, ask};

/// Every value that is sent goes to every receiver there is. The last `capacity` of them are kept (one at
/// least): sending never waits, and a receiver that lags behind by more is told how many it has missed.
///
/// ```
/// use trine::sync::{Heard, broadcast};
///
/// trine::run(async || {
///     let (radio, mut one) = broadcast(2);
///     let mut other = radio.subscribe();
///     radio.send("news");
///     assert_eq!(one.recv().await?, Heard::Value("news"));
///     assert_eq!(other.recv().await?, Heard::Value("news"));
///     for song in ["a", "b", "c"] {
///         radio.send(song);
///     }
///     assert_eq!(one.recv().await?, Heard::Missed(1));
///     assert_eq!(one.recv().await?, Heard::Value("b"));
///     drop(radio);
///     assert_eq!(one.recv().await?, Heard::Value("c"));
///     assert_eq!(one.recv().await?, Heard::End);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn broadcast<T: Clone>(capacity: usize) -> (BroadcastSender<T>, BroadcastReceiver<T>) {
    let shared = Rc::new(Shared {
        kept: RefCell::default(),
        capacity: capacity.max(1),
        sent: Cell::new(0),
        senders: Cell::new(1),
        receivers: Cell::new(0),
        lot: ParkingLot::new(),
    });
    let sender = BroadcastSender { shared: Rc::clone(&shared) };
    let receiver = sender.subscribe();
    (sender, receiver)
}

struct Shared<T> {
    /// The last ones that were sent. Shared, since to clone one is other people's code, and nothing may be
    /// borrowed then.
    kept: RefCell<VecDeque<Rc<T>>>,
    capacity: usize,
    /// How many were ever sent.
    sent: Cell<u64>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    /// Those who wait for the next one look again.
    lot: ParkingLot,
}

/// How a [`broadcast`](broadcast()) is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BroadcastStatistics {
    /// Values that were ever sent.
    pub sent: u64,
    /// Values that are kept.
    pub kept: usize,
    /// Values that are kept at most.
    pub capacity: usize,
    /// Senders there are.
    pub senders: usize,
    /// Receivers there are.
    pub receivers: usize,
    /// Tasks that wait for the next value.
    pub waiting: usize,
}

/// What a receiver of a [`broadcast`](broadcast()) hears next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard<T> {
    /// A value.
    Value(T),
    /// It lagged behind: so many were thrown away before it heard them. The next one is the oldest that
    /// is kept.
    Missed(u64),
    /// All senders are gone, and everything was heard.
    End,
}

/// So many values were thrown away before they were heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("lagged behind: {0} values were thrown away before they were heard")]
pub struct Missed(pub u64);

impl<T> Heard<T> {
    /// The value; `None` at the end.
    ///
    /// # Errors
    /// [`Missed`].
    pub fn value(self) -> result::Result<Option<T>, Missed> {
        match self {
            Heard::Value(value) => Ok(Some(value)),
            Heard::Missed(count) => Err(Missed(count)),
            Heard::End => Ok(None),
        }
    }
}

impl<T> Shared<T> {
    fn statistics(&self) -> BroadcastStatistics {
        BroadcastStatistics {
            sent: self.sent.get(),
            kept: self.kept.borrow().len(),
            capacity: self.capacity,
            senders: self.senders.get(),
            receivers: self.receivers.get(),
            waiting: self.lot.len(),
        }
    }
}

/// Who sends to all receivers of a [`broadcast`](broadcast()).
pub struct BroadcastSender<T> {
    shared: Rc<Shared<T>>,
}

impl<T: Clone> BroadcastSender<T> {
    /// Sends a value to all receivers there are, and says how many those are.
    pub fn send(&self, value: T) -> usize {
        let shared = &*self.shared;
        let receivers = shared.receivers.get();
        if receivers == 0 {
            return 0;
        }
        let dropped = {
            let kept = &mut *shared.kept.borrow_mut();
            kept.push_back(Rc::new(value));
            if kept.len() > shared.capacity { kept.pop_front() } else { None }
        };
        shared.sent.set(shared.sent.get() + 1);
        shared.lot.hand_all(|()| ());
        drop(dropped);
        receivers
    }

    /// One more receiver, which hears what is sent from now on.
    pub fn subscribe(&self) -> BroadcastReceiver<T> {
        BroadcastReceiver::of(&self.shared, self.shared.sent.get())
    }

    /// What is kept, and who there is.
    pub fn statistics(&self) -> BroadcastStatistics {
        self.shared.statistics()
    }
}

impl<T> Clone for BroadcastSender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.set(self.shared.senders.get() + 1);
        BroadcastSender { shared: Rc::clone(&self.shared) }
    }
}

impl<T> Drop for BroadcastSender<T> {
    fn drop(&mut self) {
        self.shared.senders.set(self.shared.senders.get() - 1);
        if self.shared.senders.get() == 0 {
            self.shared.lot.hand_all(|()| ());
        }
    }
}

impl<T> fmt::Debug for BroadcastSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BroadcastSender").field(&self.shared.statistics()).finish()
    }
}

/// Who hears everything that is sent to a [`broadcast`](broadcast()).
pub struct BroadcastReceiver<T> {
    listener: Listener<T>,
}

struct Listener<T> {
    shared: Rc<Shared<T>>,
    /// The number of the value that comes next.
    next: Cell<u64>,
}

impl<T: Clone> BroadcastReceiver<T> {
    fn of(shared: &Rc<Shared<T>>, next: u64) -> BroadcastReceiver<T> {
        shared.receivers.set(shared.receivers.get() + 1);
        BroadcastReceiver {
            listener: Listener { shared: Rc::clone(shared), next: Cell::new(next) },
        }
    }

    /// Waits for the next value.
    ///
    /// Cancel class: total. A cancelled or dropped wait loses nothing.
    ///
    /// # Errors
    /// `Cancelled`; [`Error::NoRun`](crate::Error::NoRun) outside of a run.
    pub async fn recv(&mut self) -> Result<Heard<T>> {
        loop {
            // Woken, it has to look: meanwhile there may be more than it can hear.
            ask(&self.listener, || (), Ok).await?;
            if let Some(heard) = self.try_recv() {
                return Ok(heard);
            }
        }
    }

    /// The next value, if there is one.
    pub fn try_recv(&mut self) -> Option<Heard<T>> {
        let Listener { shared, next } = &self.listener;
        let kept = shared.kept.borrow();
        let oldest = shared.sent.get() - kept.len() as u64;
        let Some(behind) = next.get().checked_sub(oldest) else {
            let missed = oldest - next.replace(oldest);
            return Some(Heard::Missed(missed));
        };
        match kept.get(behind as usize) {
            Some(value) => {
                let value = Rc::clone(value);
                drop(kept);
                next.set(next.get() + 1);
                Some(Heard::Value(Rc::unwrap_or_clone(value)))
            }
            None if shared.senders.get() == 0 => Some(Heard::End),
            None => None,
        }
    }

    /// What is kept, and who there is.
    pub fn statistics(&self) -> BroadcastStatistics {
        self.listener.shared.statistics()
    }
}

/// Something to be heard, be it the end.
impl<T> Resource for Listener<T> {
    type Request = ();
    type Grant = ();

    fn lot(&self) -> &ParkingLot {
        &self.shared.lot
    }

    fn try_grant(&self, (): ()) -> result::Result<(), ()> {
        let is_news = self.next.get() < self.shared.sent.get();
        if is_news || self.shared.senders.get() == 0 { Ok(()) } else { Err(()) }
    }

    fn reclaim(&self, (): ()) {}
}

/// One more, which hears what this one has not heard yet.
impl<T: Clone> Clone for BroadcastReceiver<T> {
    fn clone(&self) -> Self {
        BroadcastReceiver::of(&self.listener.shared, self.listener.next.get())
    }
}

impl<T> Drop for BroadcastReceiver<T> {
    fn drop(&mut self) {
        let shared = &self.listener.shared;
        shared.receivers.set(shared.receivers.get() - 1);
        if shared.receivers.get() == 0 {
            // Other people's values: dropped when nothing is borrowed.
            let unheard = shared.kept.take();
            drop(unheard);
        }
    }
}

impl<T> fmt::Debug for BroadcastReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BroadcastReceiver").field(&self.listener.shared.statistics()).finish()
    }
}
