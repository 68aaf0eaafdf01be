//! Wakers of a test's own, and what futures panic with.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::FutureExt;

/// Polls a future under a waker of the test's own.
pub fn poll_with<F: Future + ?Sized>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// A waker that counts, and panics if told to.
pub struct Bell {
    rung: AtomicU32,
    panics: bool,
}

impl Bell {
    pub fn new(panics: bool) -> (Arc<Bell>, Waker) {
        let bell = Arc::new(Bell { rung: AtomicU32::new(0), panics });
        (Arc::clone(&bell), Waker::from(bell))
    }

    pub fn rung(&self) -> u32 {
        self.rung.load(Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics, "a waker panics");
    }
}

/// What a future panics with.
pub async fn thrown<T>(future: impl Future<Output = T>) -> String {
    let thrown = AssertUnwindSafe(future).catch_unwind().await.map(drop).unwrap_err();
    text(&*thrown)
}

pub fn text(thrown: &(dyn Any + Send)) -> String {
    let text = thrown.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| thrown.downcast_ref::<String>().cloned()).expect("a text")
}
