//! The wait for a thread.

use std::future::Future;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::{Error, Reason, Result};
use crate::exec::{self, Caller, Door, Employer, Run, Worker};
use crate::slots::Key;
use crate::sync::OwnedToken;

use super::cache;
use super::ticket::Ticket;

/// One thread at work, and the future of its value.
pub(super) struct Working<T> {
    run: Rc<Run>,
    ticket: Arc<Ticket<T>>,
    worker: Key<Worker>,
    abandon: bool,
    /// The value is taken, or given up.
    over: bool,
}

impl<T: Send + 'static> Working<T> {
    /// Gives it to a thread.
    pub(super) fn start(
        work: impl FnOnce() -> T + Send + 'static,
        token: OwnedToken,
        abandon: bool,
    ) -> Result<Working<T>> {
        let run = exec::current()?;
        let ticket = Arc::new(Ticket::new());
        // The token comes back when the thread really ends (rule K3).
        let worker = run.add_worker(ticket.wish(), abandon, Box::new(token));
        let job = job(Arc::clone(&ticket), run.door().clone(), work, move || has_ended(worker));
        let working = Working { run, ticket, worker, abandon, over: false };
        cache::start(Box::new(job)).map_err(no_thread)?;
        Ok(working)
    }
}

/// What a thread does for a run, unless it is withdrawn.
fn job<T: Send + 'static>(
    ticket: Arc<Ticket<T>>,
    door: Door,
    work: impl FnOnce() -> T + Send + 'static,
    tell: impl FnOnce() + Send + 'static,
) -> impl FnOnce() + Send {
    ticket.give(Box::new(errand(Arc::clone(&ticket), door, work, tell)));
    move || {
        let errand = ticket.begin();
        drop(ticket);
        if let Some(errand) = errand {
            errand();
        }
    }
}

/// The work, and then it tells of its end.
fn errand<T: Send>(
    ticket: Arc<Ticket<T>>,
    door: Door,
    work: impl FnOnce() -> T + Send,
    tell: impl FnOnce() + Send + 'static,
) -> impl FnOnce() + Send {
    move || {
        let employer = Employer { door: door.clone(), wish: Arc::clone(ticket.wish()) };
        let entered = exec::enter_employer(employer);
        let end = panic::catch_unwind(AssertUnwindSafe(work));
        drop(entered);
        ticket.finish(end);
        // If nobody wants the value, it is gone before the scope that waits for this thread is left.
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| drop(ticket)));
        // Refused when the run has ended without it: then nobody is left to be told.
        drop(door.call(Caller::Worker, Box::new(tell)));
        if let Err(payload) = dropped {
            panic::resume_unwind(payload);
        }
    }
}

impl<T> Working<T> {
    /// Takes it back from the thread that has not begun; `false`: it has.
    fn withdraw(&mut self) -> bool {
        let Some(errand) = self.ticket.withdraw() else { return false };
        self.over = true;
        self.run.forget_worker(self.worker);
        drop(errand);
        true
    }
}

impl<T> Future for Working<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = &mut *self;
        assert!(!this.over, "a wait for a thread is not polled after its end");
        exec::check_running(&this.run)?;
        // What it has come to counts, whatever was cancelled meanwhile (rule K2).
        if let Some(end) = this.ticket.take() {
            this.over = true;
            this.run.progress();
            this.run.forget_worker(this.worker);
            return Poll::Ready(Ok(end.unwrap_or_else(|payload| panic::resume_unwind(payload))));
        }
        // One that has swallowed too many cancellations waits on: that is a wait, and not for ever (rule F14).
        let raises = this.run.is_cancelled() && !this.run.is_exhausted();
        if raises && (this.withdraw() || this.abandon) {
            if !this.over {
                this.over = true;
                this.run.abandon_worker(this.worker);
            }
            return Poll::Ready(Err(this.run.strike(this.run.node()).into()));
        }
        this.run.await_worker(this.worker, cx);
        Poll::Pending
    }
}

impl<T> Drop for Working<T> {
    fn drop(&mut self) {
        // The run that has ended waits for nobody, and knows nobody any more.
        if self.over || self.run.is_finished() || self.withdraw() {
            return;
        }
        self.ticket.wish().make(Reason::Finished);
        match self.abandon {
            true => self.run.abandon_worker(self.worker),
            false => self.run.orphan_worker(self.worker),
        }
    }
}

/// Called on the run's thread when a thread has ended.
fn has_ended(worker: Key<Worker>) {
    if let Ok(run) = exec::current() {
        run.worker_ended(worker);
    }
}

fn no_thread(error: io::Error) -> Error {
    let text = format!(
        "no thread could be started ({error}); let fewer be at work at a time: thread::limiter"
    );
    io::Error::new(error.kind(), text).into()
}

#[cfg(all(test, loom))]
#[path = "work_loom.rs"]
mod loom_tests;
