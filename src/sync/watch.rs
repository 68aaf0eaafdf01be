//! A value that changes, and those who look at it.

use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::result;
use std::task::{Poll, ready};

use crate::error::{Error, Result};
use crate::exec::Panics;

use super::lot::{ParkingLot, Resource, ask, wait_for};

/// A value that one side changes and any number of others look at, or wait for a change of.
///
/// ```
/// use trine::sync::watch;
///
/// #[derive(Clone, PartialEq, Debug)]
/// enum State { Starting, Running, Stopping }
///
/// trine::run(async || {
///     let (state, mut watcher) = watch(State::Starting);
///     trine::nursery(async |n| {
///         n.spawn(async move {
///             // However short it lasts, it is not missed.
///             watcher.wait_for(|state| *state == State::Running).await?;
///             watcher.wait_for(|state| *state == State::Stopping).await.map(drop)
///         });
///         trine::checkpoint().await?;
///         state.send(State::Running);
///         trine::checkpoint().await?;
///         state.send(State::Stopping);
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn watch<T>(value: T) -> (WatchSender<T>, WatchReceiver<T>) {
    let shared = Rc::new(Shared {
        value: RefCell::new(value),
        version: Cell::new(0),
        senders: Cell::new(1),
        receivers: Cell::new(1),
        changed: ParkingLot::new(),
        fitting: ParkingLot::new(),
    });
    let sender = WatchSender { shared: Rc::clone(&shared) };
    (sender, WatchReceiver { watcher: Watcher { shared, seen: Cell::new(0) } })
}

/// What a value has to be; asked at each change.
type Predicate<T> = Box<dyn FnMut(&T) -> bool>;

struct Shared<T> {
    value: RefCell<T>,
    version: Cell<u64>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    /// Those who wait for any change get its version; `None`: there will be none.
    changed: ParkingLot<(), Option<u64>>,
    /// Those who wait for a certain value get it.
    fitting: ParkingLot<Fit<T>, Option<(u64, T)>>,
}

struct Fit<T> {
    predicate: Predicate<T>,
    clone: fn(&T) -> T,
}

/// How a [`watch`](watch()) is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WatchStatistics {
    /// How often it was changed.
    pub changes: u64,
    /// Senders there are.
    pub senders: usize,
    /// Receivers there are.
    pub receivers: usize,
    /// Tasks that wait for a change or a value.
    pub waiting: usize,
}

impl<T> Shared<T> {
    fn statistics(&self) -> WatchStatistics {
        WatchStatistics {
            changes: self.version.get(),
            senders: self.senders.get(),
            receivers: self.receivers.get(),
            waiting: self.changed.len() + self.fitting.len(),
        }
    }

    fn has_changed(&self) {
        let version = self.version.get() + 1;
        self.version.set(version);
        // Every transition is shown to those who wait for one, here and now.
        let offer = |fit: &mut Fit<T>| {
            let value = self.value.borrow();
            (fit.predicate)(&value).then(|| Some((version, (fit.clone)(&value))))
        };
        // A predicate that panics does not keep the others from being told.
        let mut panics = Panics::default();
        panics.catch(|| self.fitting.offer(offer));
        panics.catch(|| self.changed.hand_all(|()| Some(version)));
        panics.resume();
    }
}

/// Who changes the value of a [`watch`](watch()).
pub struct WatchSender<T> {
    shared: Rc<Shared<T>>,
}

impl<T> WatchSender<T> {
    /// Puts a new value in the place of the old one, and says so to all who wait.
    pub fn send(&self, value: T) {
        let former = self.shared.value.replace(value);
        self.shared.has_changed();
        drop(former);
    }

    /// Changes the value, and says so to all who wait.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.shared.value.borrow_mut());
        self.shared.has_changed();
    }

    /// Looks at the value. While one looks it cannot be changed.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.value.borrow()
    }

    /// One more who looks at it, and has seen what there is.
    pub fn subscribe(&self) -> WatchReceiver<T> {
        WatchReceiver::of(&self.shared, self.shared.version.get())
    }

    /// Changes, and who there is.
    pub fn statistics(&self) -> WatchStatistics {
        self.shared.statistics()
    }
}

impl<T> Clone for WatchSender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.set(self.shared.senders.get() + 1);
        WatchSender { shared: Rc::clone(&self.shared) }
    }
}

impl<T> Drop for WatchSender<T> {
    fn drop(&mut self) {
        self.shared.senders.set(self.shared.senders.get() - 1);
        if self.shared.senders.get() == 0 {
            // Other people's predicates: dropped when nothing is borrowed.
            let mut unfit = Vec::new();
            let refuse = |fit| {
                unfit.push(fit);
                None
            };
            let mut panics = Panics::default();
            panics.catch(|| self.shared.fitting.hand_all(refuse));
            panics.catch(|| self.shared.changed.hand_all(|()| None));
            panics.catch(|| drop(unfit));
            panics.resume();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for WatchSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("WatchSender", &self.shared, f)
    }
}

fn show<T: fmt::Debug>(name: &str, shared: &Shared<T>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut shown = f.debug_struct(name);
    match shared.value.try_borrow() {
        Ok(value) => shown.field("value", &value),
        Err(_) => shown.field("value", &format_args!("<being changed>")),
    };
    shown.field("statistics", &shared.statistics()).finish()
}

/// Who looks at the value of a [`watch`](watch()).
pub struct WatchReceiver<T> {
    watcher: Watcher<T>,
}

struct Watcher<T> {
    shared: Rc<Shared<T>>,
    /// The version that was looked at last.
    seen: Cell<u64>,
}

impl<T> WatchReceiver<T> {
    fn of(shared: &Rc<Shared<T>>, seen: u64) -> WatchReceiver<T> {
        shared.receivers.set(shared.receivers.get() + 1);
        WatchReceiver { watcher: Watcher { shared: Rc::clone(shared), seen: Cell::new(seen) } }
    }

    /// Looks at the value, and counts it as not seen. While one looks it cannot be changed: let go before
    /// the next `await`.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.watcher.shared.value.borrow()
    }

    /// Looks at the value, and counts it as seen.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.watcher.seen.set(self.watcher.shared.version.get());
        self.borrow()
    }

    /// Whether it was changed since it was seen last.
    pub fn has_changed(&self) -> bool {
        self.watcher.seen.get() != self.watcher.shared.version.get()
    }

    /// Waits until it is changed, unless it was since it was seen last; then it counts as seen.
    ///
    /// Cancel class: total. Several changes in a row may be seen as one; to miss none that matters,
    /// [`wait_for`](WatchReceiver::wait_for) it.
    ///
    /// # Errors
    /// [`Error::Closed`] if all senders are gone; `Cancelled`; [`Error::NoRun`] outside of a run.
    pub fn changed(&mut self) -> impl Future<Output = Result> + use<'_, T> {
        let watcher = &self.watcher;
        ask(
            watcher,
            || (),
            |version| {
                watcher.seen.set(version.ok_or(Error::Closed(WATCH))?);
                Ok(())
            },
        )
    }

    /// Waits until the value is as `predicate` says, which is asked now and at every change, by whoever
    /// makes it: a value that is changed again at once is not missed. Returns what it was then.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// As [`changed`](WatchReceiver::changed).
    pub fn wait_for<P>(&mut self, predicate: P) -> impl Future<Output = Result<T>> + use<'_, T, P>
    where
        T: Clone,
        P: FnMut(&T) -> bool + 'static,
    {
        let fit = Fit { predicate: Box::new(predicate), clone: T::clone };
        let mut wait = wait_for(&*self.watcher.shared, fit);
        let seen = &self.watcher.seen;
        poll_fn(move |cx| {
            Poll::Ready(match ready!(Pin::new(&mut wait).poll(cx)) {
                Ok(Some((version, value))) => {
                    seen.set(version);
                    Ok(value)
                }
                Ok(None) => Err(Error::Closed(WATCH)),
                Err(refused) => Err(refused.error),
            })
        })
    }

    /// Changes, and who there is.
    pub fn statistics(&self) -> WatchStatistics {
        self.watcher.shared.statistics()
    }
}

const WATCH: &str = "the watch";

/// Any change since the last one that was seen.
impl<T> Resource for Watcher<T> {
    type Request = ();
    type Grant = Option<u64>;

    fn lot(&self) -> &ParkingLot<(), Option<u64>> {
        &self.shared.changed
    }

    fn try_grant(&self, (): ()) -> result::Result<Option<u64>, ()> {
        let version = self.shared.version.get();
        match version != self.seen.get() {
            true => Ok(Some(version)),
            false if self.shared.senders.get() == 0 => Ok(None),
            false => Err(()),
        }
    }

    fn reclaim(&self, _version: Option<u64>) {}
}

/// A value that fits.
impl<T> Resource for Shared<T> {
    type Request = Fit<T>;
    type Grant = Option<(u64, T)>;

    fn lot(&self) -> &ParkingLot<Fit<T>, Option<(u64, T)>> {
        &self.fitting
    }

    fn try_grant(&self, mut fit: Fit<T>) -> result::Result<Option<(u64, T)>, Fit<T>> {
        let value = self.value.borrow();
        if (fit.predicate)(&value) {
            return Ok(Some((self.version.get(), (fit.clone)(&value))));
        }
        if self.senders.get() == 0 { Ok(None) } else { Err(fit) }
    }

    fn reclaim(&self, _value: Option<(u64, T)>) {}
}

/// One more, which has seen as much.
impl<T> Clone for WatchReceiver<T> {
    fn clone(&self) -> Self {
        WatchReceiver::of(&self.watcher.shared, self.watcher.seen.get())
    }
}

impl<T> Drop for WatchReceiver<T> {
    fn drop(&mut self) {
        self.watcher.shared.receivers.set(self.watcher.shared.receivers.get() - 1);
    }
}

impl<T: fmt::Debug> fmt::Debug for WatchReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("WatchReceiver", &self.watcher.shared, f)
    }
}
