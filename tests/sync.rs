//! What tasks wait for each other with (section J): whatever becomes of a waiter, nothing is lost,
//! nobody starves, and nobody gets past those who came earlier.

mod common;

#[path = "sync/barrier.rs"]
mod barrier;
#[path = "sync/condition.rs"]
mod condition;
#[path = "sync/event.rs"]
mod event;
#[path = "sync/limiter.rs"]
mod limiter;
#[path = "sync/locks.rs"]
mod locks;
#[path = "sync/lot.rs"]
mod lot;
#[path = "sync/models.rs"]
mod models;
#[path = "sync/mutex.rs"]
mod mutex;
#[path = "sync/offers.rs"]
mod offers;
#[path = "sync/runs.rs"]
mod runs;
#[path = "sync/rwlock.rs"]
mod rwlock;
#[path = "sync/semaphore.rs"]
mod semaphore;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use futures::poll;
use trine::{CancelScope, Error, Result};

use common::turns;

/// A wait that the test polls by hand, in a scope of its own.
struct Waiter<'a, T> {
    scope: Rc<CancelScope>,
    wait: Pin<Box<dyn Future<Output = Result<Option<T>>> + 'a>>,
}

/// How a wait is.
enum Look<T> {
    Waits,
    Has(T),
    Cancelled,
}

impl<'a, T: 'a> Waiter<'a, T> {
    /// One that has not been polled.
    fn new(wait: impl Future<Output = Result<T>> + 'a) -> Waiter<'a, T> {
        let scope = Rc::new(CancelScope::new());
        let entered = Rc::clone(&scope);
        let wait = Box::pin(async move { entered.run(async |_| wait.await).await });
        Waiter { scope, wait }
    }

    /// One that waits.
    async fn waiting(wait: impl Future<Output = Result<T>> + 'a) -> Waiter<'a, T> {
        // With as many operations ahead as a task has in a turn (rule A2).
        turns(1).await;
        let mut waiter = Waiter::new(wait);
        assert!(waiter.look().await.waits(), "it need not wait");
        waiter
    }

    fn cancel(&self) {
        self.scope.cancel();
    }

    async fn look(&mut self) -> Look<T> {
        match poll!(&mut self.wait) {
            Poll::Pending => Look::Waits,
            Poll::Ready(Ok(Some(value))) => Look::Has(value),
            Poll::Ready(Ok(None)) => Look::Cancelled,
            Poll::Ready(Err(error)) => panic!("the wait failed: {error}"),
        }
    }
}

impl<T> Look<T> {
    fn waits(&self) -> bool {
        matches!(self, Look::Waits)
    }

    fn is_cancelled(&self) -> bool {
        matches!(self, Look::Cancelled)
    }

    #[track_caller]
    fn has(self) -> T {
        match self {
            Look::Has(value) => value,
            Look::Waits => panic!("it still waits"),
            Look::Cancelled => panic!("it was cancelled"),
        }
    }
}

/// Whether something cannot be had without waiting.
fn would_block<T>(tried: &Result<T>) -> bool {
    matches!(tried, Err(Error::WouldBlock))
}

fn is_poisoned<T>(tried: &Result<T>) -> bool {
    matches!(tried, Err(Error::Poisoned(_)))
}

fn shown(value: &impl fmt::Debug) -> String {
    format!("{value:?}")
}
