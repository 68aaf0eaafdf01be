//! What passes values between tasks (section J): channels, bounded, rendezvous and unbounded, a oneshot, a
//! watch, a broadcast. Waits are polled by hand wherever it matters who comes first.

#[path = "channels/broadcast.rs"]
mod broadcast;
mod common;
#[path = "channels/crowd.rs"]
mod crowd;
#[path = "channels/ends.rs"]
mod ends;
#[path = "channels/model.rs"]
mod model;
#[path = "channels/oneshot.rs"]
mod oneshot;
#[path = "channels/places.rs"]
mod places;
#[path = "channels/waiting.rs"]
mod waiting;
#[path = "channels/watch.rs"]
mod watch;

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::ops::AsyncFnOnce;
use std::pin::Pin;
use std::rc::Rc;

use trine::{Builder, CancelScope, Error, Result};

/// Runs a test. What nothing can wake any more is an error here, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(20, || Builder::new().detect_deadlock(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// How far a waiter has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    NotPolled,
    Parked,
    /// It was handed something, and does not know yet.
    Handed,
}

/// What becomes of it then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Cancelled,
    Dropped,
    Finished,
}

/// Each state with each ending.
fn cases() -> impl Iterator<Item = (State, Ending)> {
    [State::NotPolled, State::Parked, State::Handed].into_iter().flat_map(|state| {
        [Ending::Cancelled, Ending::Dropped, Ending::Finished].map(|ending| (state, ending))
    })
}

type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// The wait in a scope of its own, which can be cancelled; how it ended is told as it is.
fn inside<'a, T: 'a>(scope: &'a CancelScope, wait: impl Future<Output = T> + 'a) -> Pending<'a, T> {
    Box::pin(async move {
        let left = scope.run(async |_| Ok(wait.await)).await;
        left.expect("nothing else ends it").expect("a body that has finished is finished")
    })
}

/// Whether a wait was refused because of a cancellation.
fn is_cancelled<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Cancelled(_)))
}

/// Makes items, and knows how many of them there still are.
#[derive(Clone, Default)]
struct Store {
    alive: Rc<Cell<usize>>,
}

impl Store {
    fn item(&self, number: u32) -> Item {
        self.alive.set(self.alive.get() + 1);
        Item { number, store: self.clone() }
    }

    fn alive(&self) -> usize {
        self.alive.get()
    }
}

/// A value that cannot be doubled, and whose end is noticed.
struct Item {
    number: u32,
    store: Store,
}

impl Drop for Item {
    fn drop(&mut self) {
        self.store.alive.set(self.store.alive.get() - 1);
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item {}", self.number)
    }
}

/// Calls a function when it is dropped: a value with something to say about where that happens.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
