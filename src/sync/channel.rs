//! Values from any number of tasks to any number of tasks.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::result;
use std::task::{Poll, ready};

use crate::error::{Error, Result};
use crate::exec::Panics;

use super::lot::{ParkingLot, Refused, Resource, ask, wait_for};

/// A channel that holds at most `capacity` values; with 0 each is handed over from task to task.
///
/// Both ends can be cloned. Values come in the order in which they were sent, and whoever waits has a value
/// the moment it is sent (rule J1). When all senders are gone the receivers get what is left, and then
/// `None`, for good (J3); when all receivers are gone senders get their values back, for good (J4).
///
/// ```
/// use trine::sync::channel;
///
/// trine::run(async || {
///     let (jobs, queue) = channel(16);
///     trine::nursery(async |n| {
///         for _ in 0..4 {
///             let queue = queue.clone();
///             n.spawn(async move {
///                 while let Some(job) = queue.recv().await? {
///                     println!("job {job}");
///                 }
///                 Ok(())
///             });
///         }
///         drop(queue);
///         for job in 0..100 {
///             jobs.send(job).await?;
///         }
///         drop(jobs); // The workers come to their end.
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        queue: RefCell::default(),
        sent: Cell::new(0),
        capacity,
        peak: Cell::new(0),
        senders: Cell::new(1),
        receivers: Cell::new(1),
        sending: ParkingLot::new(),
        receiving: ParkingLot::new(),
    });
    (Sender { end: Sending(Rc::clone(&shared)) }, Receiver { end: Receiving(shared) })
}

/// A channel that holds as many values as there is memory for: sending never waits. Think twice: nothing
/// slows those down who send.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(usize::MAX)
}

struct Shared<T> {
    /// Values, with their numbers.
    queue: RefCell<VecDeque<Numbered<T>>>,
    /// How many were ever sent.
    sent: Cell<u64>,
    capacity: usize,
    /// The most there ever were in the queue.
    peak: Cell<usize>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    /// Senders wait with their values, which come back if there is no receiver any more.
    sending: ParkingLot<T, result::Result<(), T>>,
    /// `None`: there will be no more.
    receiving: ParkingLot<(), Option<Numbered<T>>>,
}

/// A value and the how-manieth it is: one that comes back has its place in the order.
type Numbered<T> = (u64, T);

impl<T> Shared<T> {
    fn number(&self, value: T) -> Numbered<T> {
        self.sent.set(self.sent.get() + 1);
        (self.sent.get(), value)
    }

    fn push(&self, value: T) {
        let queue = &mut *self.queue.borrow_mut();
        queue.push_back(self.number(value));
        self.peak.set(self.peak.get().max(queue.len()));
    }

    fn put_back(&self, value: Numbered<T>) {
        let queue = &mut *self.queue.borrow_mut();
        let place = queue.partition_point(|(number, _)| *number < value.0);
        queue.insert(place, value);
    }

    fn take(&self) -> Option<Numbered<T>> {
        let (mut taken, has_room) = {
            let queue = &mut *self.queue.borrow_mut();
            let first = queue.pop_front();
            let has_room = first.is_some() && queue.len() < self.capacity;
            (first, has_room)
        };
        if self.sending.is_empty() {
            return taken;
        }
        let mut panics = Panics::default();
        // The sender that has waited longest has sent from here on, whatever its waker does.
        if has_room {
            let sent = |value| {
                self.push(value);
                Ok(())
            };
            panics.catch(|| self.sending.hand(sent));
        } else if taken.is_none() {
            let sent = |value| {
                taken = Some(self.number(value));
                Ok(())
            };
            panics.catch(|| self.sending.hand(sent));
        }
        if let Some(payload) = panics.into_first() {
            taken.into_iter().for_each(|value| self.put_back(value));
            resume_unwind(payload);
        }
        taken
    }

    /// Sends if somebody waits for it, or there is room.
    fn give(&self, value: T) -> result::Result<(), T> {
        let mut value = Some(value);
        if self.receiving.hand(|()| value.take().map(|value| self.number(value))) {
            return Ok(());
        }
        let value = value.expect("nobody has taken it");
        if self.queue.borrow().len() >= self.capacity || !self.sending.is_empty() {
            return Err(value);
        }
        self.push(value);
        Ok(())
    }

    fn statistics(&self) -> ChannelStatistics {
        ChannelStatistics {
            len: self.queue.borrow().len(),
            capacity: self.capacity,
            peak: self.peak.get(),
            senders: self.senders.get(),
            receivers: self.receivers.get(),
            waiting_to_send: self.sending.len(),
            waiting_to_receive: self.receiving.len(),
        }
    }
}

/// How a [`channel`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ChannelStatistics {
    /// Values in it.
    pub len: usize,
    /// Values it may hold.
    pub capacity: usize,
    /// The most that it ever held.
    pub peak: usize,
    /// Senders there are.
    pub senders: usize,
    /// Receivers there are.
    pub receivers: usize,
    /// Tasks that wait until there is room.
    pub waiting_to_send: usize,
    /// Tasks that wait for a value.
    pub waiting_to_receive: usize,
}

/// The end of a [`channel`] that values go in.
pub struct Sender<T> {
    end: Sending<T>,
}

struct Sending<T>(Rc<Shared<T>>);

/// A value was not sent at once; it comes back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// There is no room.
    #[error("the channel is full")]
    Full(T),
    /// Nobody will receive it.
    #[error("the channel is closed: all receivers are gone")]
    Closed(T),
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "Full(..)",
            TrySendError::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> TrySendError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        let (TrySendError::Full(value) | TrySendError::Closed(value)) = self;
        value
    }
}

/// So that `?` works; the value is dropped.
impl<T> From<TrySendError<T>> for Error {
    fn from(error: TrySendError<T>) -> Error {
        match error {
            TrySendError::Full(_) => Error::WouldBlock,
            TrySendError::Closed(_) => Error::Closed(CHANNEL),
        }
    }
}

const CHANNEL: &str = "the channel";

impl<T> Sender<T> {
    /// Sends a value, waiting until there is room for it or somebody to take it.
    ///
    /// Cancel class: total. A value that was not sent comes back with the error (rule J2); if the future is
    /// dropped before it was sent it is dropped too.
    ///
    /// # Errors
    /// [`Refused`], with [`Error::Closed`] if all receivers are gone, `Cancelled`, or [`Error::NoRun`].
    pub fn send(
        &self,
        value: T,
    ) -> impl Future<Output = result::Result<(), Refused<T>>> + use<'_, T> {
        let mut wait = wait_for(&self.end, value);
        poll_fn(move |cx| {
            Poll::Ready(match ready!(Pin::new(&mut wait).poll(cx)) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(request)) => Err(Refused { error: Error::Closed(CHANNEL), request }),
                Err(refused) => Err(refused),
            })
        })
    }

    /// Sends a value if that needs no waiting.
    ///
    /// # Errors
    /// [`TrySendError`], with the value.
    pub fn try_send(&self, value: T) -> result::Result<(), TrySendError<T>> {
        match self.end.try_grant(value) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(value)) => Err(TrySendError::Closed(value)),
            Err(value) => Err(TrySendError::Full(value)),
        }
    }

    /// Whether all receivers are gone.
    pub fn is_closed(&self) -> bool {
        self.end.0.receivers.get() == 0
    }

    /// What is in it, and who waits.
    pub fn statistics(&self) -> ChannelStatistics {
        self.end.0.statistics()
    }
}

impl<T> Resource for Sending<T> {
    type Request = T;
    type Grant = result::Result<(), T>;

    fn lot(&self) -> &ParkingLot<T, result::Result<(), T>> {
        &self.0.sending
    }

    fn try_grant(&self, value: T) -> result::Result<result::Result<(), T>, T> {
        if self.0.receivers.get() == 0 {
            return Ok(Err(value));
        }
        self.0.give(value).map(Ok)
    }

    /// It was sent, or its owner has gone with it.
    fn reclaim(&self, _sent: result::Result<(), T>) {}
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        let shared = Rc::clone(&self.end.0);
        shared.senders.set(shared.senders.get() + 1);
        Sender { end: Sending(shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let shared = &self.end.0;
        shared.senders.set(shared.senders.get() - 1);
        if shared.senders.get() == 0 {
            // Whoever waits has found it empty.
            shared.receiving.hand_all(|()| None);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.statistics()).finish()
    }
}

/// The end of a [`channel`] that values come out of.
pub struct Receiver<T> {
    end: Receiving<T>,
}

struct Receiving<T>(Rc<Shared<T>>);

/// There was no value at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TryRecvError {
    /// There is none now.
    #[error("the channel is empty")]
    Empty,
    /// There will be none.
    #[error("the channel is closed: all senders are gone")]
    Closed,
}

/// So that `?` works.
impl From<TryRecvError> for Error {
    fn from(error: TryRecvError) -> Error {
        match error {
            TryRecvError::Empty => Error::WouldBlock,
            TryRecvError::Closed => Error::Closed(CHANNEL),
        }
    }
}

impl<T> Receiver<T> {
    /// Receives the next value, waiting for it; `None`: all senders are gone, and so are their values.
    ///
    /// Cancel class: total. A cancelled receive loses nothing; a value that was handed to one that is
    /// dropped goes to the next one who waits, else back to the front (rule J2).
    ///
    /// # Errors
    /// `Cancelled`; [`Error::NoRun`] outside of a run.
    pub fn recv(&self) -> impl Future<Output = Result<Option<T>>> + use<'_, T> {
        ask(&self.end, || (), |value| Ok(value.map(|(_, value)| value)))
    }

    /// Receives the next value if there is one.
    ///
    /// # Errors
    /// [`TryRecvError`].
    pub fn try_recv(&self) -> result::Result<T, TryRecvError> {
        match self.end.try_grant(()) {
            Ok(Some((_, value))) => Ok(value),
            Ok(None) => Err(TryRecvError::Closed),
            Err(()) => Err(TryRecvError::Empty),
        }
    }

    /// What is in it, and who waits.
    pub fn statistics(&self) -> ChannelStatistics {
        self.end.0.statistics()
    }
}

impl<T> Resource for Receiving<T> {
    type Request = ();
    type Grant = Option<Numbered<T>>;

    fn lot(&self) -> &ParkingLot<(), Option<Numbered<T>>> {
        &self.0.receiving
    }

    fn try_grant(&self, (): ()) -> result::Result<Option<Numbered<T>>, ()> {
        match self.0.take() {
            Some(value) => Ok(Some(value)),
            None if self.0.senders.get() == 0 => Ok(None),
            None => Err(()),
        }
    }

    fn reclaim(&self, value: Option<Numbered<T>>) {
        let mut value = value;
        if value.is_none() || self.0.receiving.hand(|()| value.take()) {
            return;
        }
        if let Some(value) = value {
            self.0.put_back(value);
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let shared = Rc::clone(&self.end.0);
        shared.receivers.set(shared.receivers.get() + 1);
        Receiver { end: Receiving(shared) }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let shared = &self.end.0;
        shared.receivers.set(shared.receivers.get() - 1);
        if shared.receivers.get() == 0 {
            // Other people's values: dropped when nothing is borrowed.
            let left = shared.queue.take();
            shared.sending.hand_all(Err);
            drop(left);
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.statistics()).finish()
    }
}
