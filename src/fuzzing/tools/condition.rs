//! Conditions, with the mutex that goes with one.

use std::cell::RefCell;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::sync::{Condition, Locked, Mutex, MutexGuard};

use super::counted::{Counts, Grant};
use super::judge::Judge;
use super::line::{Ended, Line, Look, Outcome, Ticket, Twin, check_scopes, spend};
use super::stocks::{Access, Holders};
use super::task::{Family, Order, Place};

pub(super) struct Changes {
    judge: Rc<Judge>,
    condition: Condition,
    line: RefCell<Notified>,
    mutex: Mutex<()>,
    lock: RefCell<Counts<Access, Holders>>,
}

/// Who waits to be notified.
struct Notified(Line<(), ()>);

impl Notified {
    fn notify(&mut self, count: usize) {
        self.0.refresh();
        self.0.waiting().take(count).for_each(|waiter| waiter.hand(()));
    }
}

impl Twin for Notified {
    type Ask = ();
    type Got = ();

    fn line(&mut self) -> &mut Line<(), ()> {
        &mut self.0
    }

    /// One always waits.
    fn grant(&mut self, (): &()) -> Option<()> {
        None
    }

    /// Somebody else is to hear of it.
    fn reclaim(&mut self, (): ()) {
        self.notify(1);
    }
}

impl Changes {
    fn compare(&self) {
        let waiting = self.condition.statistics().waiting;
        let expected = self.line.borrow().0.count(|()| true);
        self.judge.check(expected.contains(&waiting), || {
            format!("J8: {waiting} wait to be notified, not {expected:?}")
        });
        let statistics = self.mutex.statistics();
        let (held, waiting) = ((0, usize::from(statistics.held)), statistics.waiting);
        let (inside, expected) = self.lock.borrow().summary();
        self.judge.check(held == inside, || format!("J9: it is locked: {held:?}, not {inside:?}"));
        self.judge.check(expected.contains(&waiting), || {
            format!("J8: {waiting} wait for the lock, not {expected:?}")
        });
    }

    fn unlock(&self, guard: MutexGuard<'_, ()>) {
        drop(guard);
        self.lock.borrow_mut().give_back(Access::Write);
    }
}

/// The lock, if the task has it, which it gives back at its end.
pub(super) struct Hand<'a> {
    changes: &'a Changes,
    guard: Option<MutexGuard<'a, ()>>,
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        self.guard.take().into_iter().for_each(|guard| self.changes.unlock(guard));
    }
}

impl Family for Changes {
    type Hand<'a> = Hand<'a>;

    /// A shielded wait for a lock whose holder waits likewise for another would not end.
    const TOOLS: usize = 1;

    fn new(judge: &Rc<Judge>, _: u8) -> Self {
        Changes {
            judge: Rc::clone(judge),
            condition: Condition::new(),
            line: RefCell::new(Notified(Line::new())),
            mutex: Mutex::default(),
            lock: RefCell::new(Counts::new(Holders::default())),
        }
    }

    fn hand(&self) -> Hand<'_> {
        Hand { changes: self, guard: None }
    }

    async fn act<'a>(&'a self, hand: &mut Hand<'a>, order: &Order<'a>) -> Result {
        match order.act % 10 {
            0..=4 => {
                if hand.guard.is_none() {
                    let lock =
                        async { Outcome::of(self.mutex.lock().await, |_| Grant(Access::Write)) };
                    let compare = || self.compare();
                    hand.guard = order.wait(&self.lock, Access::Write, lock, compare).await?;
                }
                let Some(guard) = hand.guard.take() else { return Ok(()) };
                let relocked = &mut hand.guard;
                order.wait_with(|place| WaitBeside::new(self, guard, relocked, place)).await?;
            }
            5 if hand.guard.is_some() => {
                hand.guard.take().into_iter().for_each(|guard| self.unlock(guard));
            }
            6 | 7 => {
                self.condition.notify_one();
                self.line.borrow_mut().notify(1);
            }
            8 => {
                let count = order.choose(4);
                self.condition.notify(count);
                self.line.borrow_mut().notify(count);
            }
            9 => {
                self.condition.notify_all();
                self.line.borrow_mut().notify(usize::MAX);
            }
            _ => {}
        }
        self.compare();
        Ok(())
    }

    fn refresh(&self) {
        self.line.borrow_mut().0.refresh();
        self.lock.borrow_mut().line().refresh();
    }

    fn end(&self) {
        self.compare();
        let is_empty =
            self.line.borrow().0.is_empty() && self.lock.borrow().summary() == ((0, 0), 0..=0);
        self.judge.check(is_empty, || "J8: somebody waits, or has the lock".to_owned());
    }
}

/// [`Condition::wait`] beside its twin: two waits one behind the other, the second of which cannot be
/// cancelled.
struct WaitBeside<'a, 'h> {
    changes: &'a Changes,
    /// Where the lock goes: rule J9, also who is cancelled has it.
    relocked: &'h mut Option<MutexGuard<'a, ()>>,
    future: Option<Pin<Box<dyn Future<Output = Locked<'a, ()>> + 'a>>>,
    place: Place,
    notified: Ticket<()>,
    /// Wants the lock back, after having been notified or not.
    relocking: Option<(Ticket<Access>, bool)>,
    has_lock: bool,
}

impl<'a, 'h> WaitBeside<'a, 'h> {
    fn new(
        changes: &'a Changes,
        guard: MutexGuard<'a, ()>,
        relocked: &'h mut Option<MutexGuard<'a, ()>>,
        place: Place,
    ) -> Self {
        changes.judge.mark("waits");
        let notified = Ticket::new(&changes.judge, (), place.scopes.clone());
        let future: Pin<Box<dyn Future<Output = _>>> = Box::pin(changes.condition.wait(guard));
        let (future, has_lock) = (Some(future), true);
        WaitBeside { changes, relocked, future, place, notified, relocking: None, has_lock }
    }

    /// What a poll has to come to: whether it is over, and if so whether it was notified.
    fn expect(&mut self) -> Option<bool> {
        if self.relocking.is_none() {
            let look = self.notified.look(&mut *self.changes.line.borrow_mut());
            if self.has_lock && self.notified.is_in(&self.changes.line.borrow().0) {
                self.has_lock = false;
                self.changes.lock.borrow_mut().give_back(Access::Write);
            }
            let was_notified = match look {
                Look::Waits => return None,
                Look::Got(()) => true,
                Look::Cancelled if self.has_lock => return Some(false),
                Look::Cancelled => false,
            };
            let ticket = Ticket::new(&self.changes.judge, Access::Write, [].into());
            self.relocking = Some((ticket, was_notified));
        }
        let (ticket, was_notified) = self.relocking.as_ref()?;
        match ticket.look(&mut *self.changes.lock.borrow_mut()) {
            Look::Got(_) => Some(*was_notified),
            Look::Waits | Look::Cancelled => None,
        }
    }
}

impl Future for WaitBeside<'_, '_> {
    type Output = Ended<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let judge = &*this.changes.judge;
        this.changes.refresh();
        let cancelled = check_scopes(judge, &this.place.scopes);
        let pauses = this.place.spends && !cancelled;
        if mem::take(&mut this.place.spends) {
            spend();
        }
        let polled = this.future.as_mut().expect("not polled after its end").as_mut().poll(cx);
        if pauses {
            judge.check(polled.is_pending(), || "A2: it does not pause".to_owned());
            this.notified.pause(&mut *this.changes.line.borrow_mut());
            return Poll::Pending;
        }
        let expected = this.expect();
        judge.tell(|| format!("  task {} waits for a change: {expected:?}", this.place.task));
        let ended = match polled {
            Poll::Pending => {
                judge.check(expected.is_none(), || "J9: it still waits".to_owned());
                None
            }
            Poll::Ready(Ok(guard)) => {
                judge.check(expected == Some(true), || {
                    format!("J1: it was notified; it has to be {expected:?}")
                });
                judge.mark("got");
                *this.relocked = Some(guard);
                Some(Ended::Got(()))
            }
            Poll::Ready(Err(refused)) => {
                let holds = refused.error.is_cancelled() && expected == Some(false);
                judge.check(holds, || format!("J9: {refused:?}; it has to be {expected:?}"));
                judge.check(refused.request.is_some(), || "J9: the lock does not come back".into());
                judge.mark("cancelled");
                *this.relocked = refused.request;
                Some(Ended::Cancelled(refused.error))
            }
        };
        if ended.is_some() {
            this.future = None;
        }
        this.changes.compare();
        ended.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for WaitBeside<'_, '_> {
    fn drop(&mut self) {
        if self.future.is_none() || std::thread::panicking() {
            return;
        }
        let changes = self.changes;
        changes.refresh();
        self.future = None;
        let was_handed = match &self.relocking {
            Some((ticket, was_notified)) => {
                let was_handed = ticket.leave(&mut *changes.lock.borrow_mut());
                if *was_notified {
                    changes.line.borrow_mut().notify(1);
                }
                was_handed
            }
            None => self.notified.leave(&mut *changes.line.borrow_mut()),
        };
        if self.has_lock {
            changes.lock.borrow_mut().give_back(Access::Write);
        }
        changes.judge.mark(if was_handed { "dropped when handed something" } else { "dropped" });
        changes.judge.tell(|| format!("  task {} drops its wait for a change", self.place.task));
        changes.compare();
    }
}
