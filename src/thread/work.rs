//! The wait for a thread.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::cancel::Wait;
use crate::error::{Error, Reason, Result};
use crate::exec::{self, Caller, Door, Employer, Run};
use crate::local::RunLocal;
use crate::slots::{Key, Slots};
use crate::sync::OwnedToken;

use super::cache;
use super::ticket::Ticket;

/// The threads of a run that have not told of their end, whether somebody waits for them or not.
static AT_WORK: RunLocal<RefCell<Slots<AtWork>>> = RunLocal::new(|| RefCell::new(Slots::new()));

struct AtWork {
    /// `None`: it is abandoned.
    wait: Option<Key<Wait>>,
    /// Nobody wants its value.
    is_orphan: bool,
    /// Comes back when the thread really ends (rule K3).
    token: OwnedToken,
}

/// One thread at work, and the future of its value.
pub(super) struct Working<T> {
    run: Rc<Run>,
    ticket: Arc<Ticket<T>>,
    key: Key<AtWork>,
    wait: Key<Wait>,
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
        let (run, at_work) = (exec::current()?, AT_WORK.get()?);
        let wait = run.thread_began();
        let key = at_work.borrow_mut().insert(AtWork { wait: Some(wait), is_orphan: false, token });
        let ticket = Arc::new(Ticket::new());
        let job = job(Arc::clone(&ticket), run.door().clone(), work, move || has_ended(key));
        let working = Working { run, ticket, key, wait, abandon, over: false };
        cache::start(Box::new(job)).map_err(no_thread)?;
        Ok(working)
    }
}

/// What a thread does for a run: the work, unless that was withdrawn, and then it tells of its end.
fn job<T: Send>(
    ticket: Arc<Ticket<T>>,
    door: Door,
    work: impl FnOnce() -> T + Send,
    tell: impl FnOnce() + Send + 'static,
) -> impl FnOnce() + Send {
    move || {
        if !ticket.begin() {
            return;
        }
        let employer = Employer { door: door.clone(), wish: Arc::clone(ticket.wish()) };
        let entered = exec::enter_employer(employer);
        let end = panic::catch_unwind(AssertUnwindSafe(work));
        drop(entered);
        ticket.finish(end);
        // Refused when the run has ended without it: then nobody is left to be told.
        drop(door.call(Caller::Worker, Box::new(tell)));
    }
}

impl<T> Working<T> {
    /// Nobody waits for it any more, and no scope either.
    fn leave(&mut self) {
        self.over = true;
        self.run.thread_ended(self.wait, true);
    }

    /// Takes it back from the thread that has not begun; `false`: it has.
    fn withdraw(&mut self) -> bool {
        let withdrawn = self.ticket.withdraw();
        if withdrawn {
            self.leave();
            forget(self.key);
        }
        withdrawn
    }

    /// Leaves the thread to itself.
    fn let_go(&mut self) {
        self.leave();
        change(self.key, |at_work| at_work.wait = None);
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
            match forget(this.key) {
                // It has not told yet; what it will tell is known.
                Some(at_work) => {
                    this.run.thread_ended(this.wait, true);
                    drop(at_work);
                }
                None => this.run.forget_thread(this.wait),
            }
            return Poll::Ready(Ok(end.unwrap_or_else(|payload| panic::resume_unwind(payload))));
        }
        if this.run.is_cancelled() {
            if this.abandon {
                let cancelled = ready!(this.run.cancel_point());
                if !this.withdraw() {
                    this.let_go();
                }
                return Poll::Ready(
                    cancelled.map(|()| unreachable!("it is cancelled")).map_err(Error::from),
                );
            }
            this.ticket.wish().make(this.run.cancelled(this.run.node()).reason().clone());
        }
        this.run.await_thread(this.wait, cx);
        Poll::Pending
    }
}

impl<T> Drop for Working<T> {
    fn drop(&mut self) {
        if self.over || self.withdraw() {
            return;
        }
        self.ticket.wish().make(Reason::Finished);
        if self.abandon {
            return self.let_go();
        }
        change(self.key, |at_work| at_work.is_orphan = true);
        self.run.orphan_thread(self.wait);
    }
}

/// Called on the run's thread when a thread has ended.
fn has_ended(key: Key<AtWork>) {
    let Some(AtWork { wait, is_orphan, token }) = forget(key) else { return };
    if let (Some(wait), Ok(run)) = (wait, exec::current()) {
        run.thread_ended(wait, is_orphan);
    }
    drop(token);
}

fn forget(key: Key<AtWork>) -> Option<AtWork> {
    AT_WORK.get().ok()?.borrow_mut().remove(key)
}

fn change(key: Key<AtWork>, change: impl FnOnce(&mut AtWork)) {
    if let Ok(at_work) = AT_WORK.get() {
        at_work.borrow_mut().get_mut(key).map(change);
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
