//! Panics of other people's code: the first one is kept while the rest goes on, and resumes afterwards.

use std::any::Any;
use std::mem;
use std::panic::{self, AssertUnwindSafe};

pub(crate) type Payload = Box<dyn Any + Send>;

/// The first of several panics.
#[derive(Default)]
pub(crate) struct Panics {
    first: Option<Payload>,
}

impl Panics {
    /// Calls `f`, and keeps its panic if there is none yet.
    pub(crate) fn catch<R>(&mut self, f: impl FnOnce() -> R) -> Option<R> {
        match panic::catch_unwind(AssertUnwindSafe(f)) {
            Ok(result) => Some(result),
            Err(payload) => {
                self.keep(payload);
                None
            }
        }
    }

    pub(crate) fn keep(&mut self, payload: Payload) {
        match self.first {
            None => self.first = Some(payload),
            Some(_) => discard(payload),
        }
    }

    pub(crate) fn into_first(self) -> Option<Payload> {
        self.first
    }

    /// The first one goes on, unless another is under way already: a second would end the process.
    pub(crate) fn resume(self) {
        match self.first {
            Some(payload) if !std::thread::panicking() => panic::resume_unwind(payload),
            Some(payload) => discard(payload),
            None => {}
        }
    }
}

/// Drops a payload that nobody will see. Even that is other people's code, and may panic; what it
/// panics with is left lying.
fn discard(payload: Payload) {
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(again);
    }
}
