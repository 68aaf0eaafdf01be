//! What threads share things by: the standard library's, or those of the checker that tries every order in
//! which threads can run (`--cfg loom`).

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};

use std::sync::PoisonError;
#[cfg(feature = "testing")]
use std::time::Duration;

/// Nothing of ours panics while it holds a lock, so a poisoned one is as good as another.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits while `condition` holds, but not for longer than `timeout`.
#[cfg(all(feature = "testing", not(loom)))]
pub(crate) fn wait_while<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    timeout: Duration,
    condition: impl FnMut(&mut T) -> bool,
) -> MutexGuard<'a, T> {
    let waited = changed.wait_timeout_while(guard, timeout, condition);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

/// The checker knows no time: what is waited for at all is waited for until it comes.
#[cfg(all(feature = "testing", loom))]
pub(crate) fn wait_while<'a, T>(
    changed: &Condvar,
    mut guard: MutexGuard<'a, T>,
    timeout: Duration,
    mut condition: impl FnMut(&mut T) -> bool,
) -> MutexGuard<'a, T> {
    while !timeout.is_zero() && condition(&mut guard) {
        guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    guard
}

/// Runs a model once for each order of its threads' steps, and for each value that memory may show them, in
/// which the threads are interrupted so many times at most; `LOOM_MAX_PREEMPTIONS` sets another bound. A
/// thread that would wait for ever fails it.
#[cfg(all(test, loom))]
pub(crate) fn check_every_order(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    let mut checker = loom::model::Builder::new();
    checker.preemption_bound = checker.preemption_bound.or(Some(interruptions));
    checker.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let orders = orders.load(Ordering::Relaxed);
    println!("{orders} orders");
    assert!(orders > 1, "the threads of this model have nothing to do with each other");
}
