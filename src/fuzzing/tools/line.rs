//! Who waits for what, in the order in which they came, and waits that are watched at each poll.

use std::cell::RefCell;
use std::fmt::Debug;
use std::future::Future;
use std::mem;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{Error, Result};
use crate::exec;
use crate::scope::is_cancelled;

use super::judge::Judge;
use super::task::{Place, Scopes, are_cancelled};

/// What a tool is by the rules, done the simplest way.
pub(super) trait Twin {
    /// What somebody waits for.
    type Ask: Clone + Debug;
    /// What comes of it.
    type Got: Clone + PartialEq + Debug;

    fn line(&mut self) -> &mut Line<Self::Ask, Self::Got>;

    /// What can be had at once.
    fn grant(&mut self, ask: &Self::Ask) -> Option<Self::Got>;

    /// It was handed to somebody who has gone without it (rule J2).
    fn reclaim(&mut self, _got: Self::Got) {}

    /// Somebody has gone who was handed nothing (rule J8).
    fn left(&mut self) {}

    /// Somebody was told.
    fn told(&mut self, _got: &Self::Got) {}
}

/// All who wait for a tool.
pub(super) struct Line<A, G>(Vec<Waiter<A, G>>);

pub(super) struct Waiter<A, G> {
    number: u32,
    pub(super) ask: A,
    scopes: Scopes,
    stage: Stage<G>,
}

#[derive(Debug)]
enum Stage<G> {
    /// Until the next turn, before it asks (rule A2).
    Pauses,
    Waits,
    /// It is passed over from now on, and was not polled since (rule C2).
    Cancelled,
    /// And keeps it, whatever is cancelled afterwards (rule C4).
    Handed(G),
}

impl<A, G> Line<A, G> {
    pub(super) fn new() -> Line<A, G> {
        Line(Vec::new())
    }

    /// Learns who was cancelled since the last time.
    pub(super) fn refresh(&mut self) {
        for waiter in &mut self.0 {
            if matches!(waiter.stage, Stage::Waits) && are_cancelled(&waiter.scopes) {
                waiter.stage = Stage::Cancelled;
            }
        }
    }

    /// Those who wait, from the first on.
    pub(super) fn waiting(&mut self) -> impl Iterator<Item = &mut Waiter<A, G>> {
        self.0.iter_mut().filter(|waiter| matches!(waiter.stage, Stage::Waits))
    }

    /// What the tool may say of how many wait: those who are cancelled are taken out by their own next
    /// poll, or by whoever comes upon them before.
    pub(super) fn count(&self, counts: impl Fn(&A) -> bool) -> RangeInclusive<usize> {
        let count = |of: fn(&Stage<G>) -> bool| {
            self.0.iter().filter(|waiter| counts(&waiter.ask) && of(&waiter.stage)).count()
        };
        let least = count(|stage| matches!(stage, Stage::Waits));
        let cancelled = count(|stage| matches!(stage, Stage::Cancelled));
        least..=least + cancelled
    }

    /// What was handed to somebody and not taken yet.
    pub(super) fn handed(&self) -> impl Iterator<Item = &G> {
        self.0.iter().filter_map(|waiter| match &waiter.stage {
            Stage::Handed(got) => Some(got),
            _ => None,
        })
    }

    /// What those ask for who were handed nothing.
    pub(super) fn unserved(&self) -> impl Iterator<Item = &A> {
        let is_unserved = |waiter: &&Waiter<A, G>| !matches!(waiter.stage, Stage::Handed(_));
        self.0.iter().filter(is_unserved).map(|waiter| &waiter.ask)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<A, G> Waiter<A, G> {
    pub(super) fn hand(&mut self, got: G) {
        self.stage = Stage::Handed(got);
    }
}

/// A place in a line, which one gets when one has to wait.
pub(super) struct Ticket<A> {
    number: u32,
    ask: A,
    scopes: Scopes,
}

/// How a wait is by the rules.
#[derive(Debug)]
pub(super) enum Look<G> {
    Waits,
    Got(G),
    Cancelled,
}

impl<A: Clone> Ticket<A> {
    pub(super) fn new(judge: &Judge, ask: A, scopes: Scopes) -> Ticket<A> {
        Ticket { number: judge.number(), ask, scopes }
    }

    pub(super) fn is_in<G>(&self, line: &Line<A, G>) -> bool {
        self.place(line).is_some()
    }

    fn place<G>(&self, line: &Line<A, G>) -> Option<usize> {
        line.0.iter().position(|waiter| waiter.number == self.number)
    }

    /// Whether it was cancelled when it waited, and was not polled since.
    fn is_passed_over<G>(&self, line: &Line<A, G>) -> bool {
        self.place(line).is_some_and(|place| matches!(line.0[place].stage, Stage::Cancelled))
    }

    /// What a poll has to come to.
    pub(super) fn look<T: Twin<Ask = A>>(&self, twin: &mut T) -> Look<T::Got> {
        let is_cancelled = are_cancelled(&self.scopes);
        if let Some(place) = self.place(twin.line()) {
            match &twin.line().0[place].stage {
                Stage::Pauses => drop(twin.line().0.remove(place)),
                Stage::Waits => return Look::Waits,
                Stage::Handed(_) => {
                    if let Stage::Handed(got) = twin.line().0.remove(place).stage {
                        twin.told(&got);
                        return Look::Got(got);
                    }
                }
                Stage::Cancelled => {
                    twin.line().0.remove(place);
                    twin.left();
                }
            }
        }
        // Rule D4: one that was cancelled and has a shield now asks anew.
        if is_cancelled {
            return Look::Cancelled;
        }
        if let Some(got) = twin.grant(&self.ask) {
            twin.told(&got);
            return Look::Got(got);
        }
        self.stand(twin, Stage::Waits);
        Look::Waits
    }

    /// It asks in the next turn.
    pub(super) fn pause<T: Twin<Ask = A>>(&self, twin: &mut T) {
        self.stand(twin, Stage::Pauses);
    }

    fn stand<T: Twin<Ask = A>>(&self, twin: &mut T, stage: Stage<T::Got>) {
        let (number, ask, scopes) = (self.number, self.ask.clone(), self.scopes.clone());
        twin.line().0.push(Waiter { number, ask, scopes, stage });
    }

    /// The wait was dropped before its end; says whether it was handed something.
    pub(super) fn leave<T: Twin<Ask = A>>(&self, twin: &mut T) -> bool {
        let Some(place) = self.place(twin.line()) else { return false };
        match twin.line().0.remove(place).stage {
            Stage::Handed(got) => {
                twin.reclaim(got);
                true
            }
            Stage::Waits | Stage::Cancelled => {
                twin.left();
                false
            }
            Stage::Pauses => false,
        }
    }
}

/// How a wait has ended for its task.
pub(super) enum Ended<V> {
    Got(V),
    Cancelled(Error),
    Dropped,
}

/// What the tool said, and what came with it.
pub(super) enum Outcome<G, V> {
    Got(G, V),
    Failed(Error),
}

impl<G, V> Outcome<G, V> {
    /// What comes of it says what it is.
    pub(super) fn of(ended: Result<V>, name: impl FnOnce(&V) -> G) -> Outcome<G, V> {
        match ended {
            Ok(value) => Outcome::Got(name(&value), value),
            Err(error) => Outcome::Failed(error),
        }
    }
}

type Waiting<'a, G, V> = Pin<Box<dyn Future<Output = Outcome<G, V>> + 'a>>;

/// A wait beside its twin.
pub(super) struct Wait<'a, T: Twin, V> {
    judge: &'a Judge,
    twin: &'a RefCell<T>,
    ticket: Ticket<T::Ask>,
    place: Place,
    future: Option<Waiting<'a, T::Got, V>>,
    compare: Box<dyn Fn() + 'a>,
}

impl<'a, T: Twin, V> Wait<'a, T, V> {
    pub(super) fn new(
        judge: &'a Judge,
        twin: &'a RefCell<T>,
        (ask, place): (T::Ask, Place),
        future: Waiting<'a, T::Got, V>,
        compare: Box<dyn Fn() + 'a>,
    ) -> Self {
        let ticket = Ticket::new(judge, ask, place.scopes.clone());
        judge.mark("waits");
        Wait { judge, twin, ticket, place, future: Some(future), compare }
    }

    fn tell(&self, what: &dyn Debug) {
        let Wait { ticket, place, .. } = self;
        let told =
            || format!("  task {}, {}: {:?}: {what:?}", place.task, ticket.number, ticket.ask);
        self.judge.tell(told);
    }

    fn check(&self, expected: &Look<T::Got>, is: &dyn Debug, holds: bool) {
        let Wait { ticket, place, .. } = self;
        self.judge.check(holds, || {
            let who = format!("task {}, wait {}, {:?}", place.task, ticket.number, ticket.ask);
            format!("{who}: it is {is:?} and has to be {expected:?}")
        });
    }
}

/// Rule A2: what may return at once in this turn is used up.
pub(super) fn spend() {
    let Ok(run) = exec::current() else { return };
    while run.spend_budget() {}
}

/// Whether what is here is cancelled, by the scopes around.
pub(super) fn check_scopes(judge: &Judge, scopes: &Scopes) -> bool {
    let expected = are_cancelled(scopes);
    judge.check(is_cancelled() == expected, || format!("B5: cancelled has to be {expected}"));
    expected
}

impl<T: Twin, V> Unpin for Wait<'_, T, V> {}

impl<T: Twin, V> Future for Wait<'_, T, V> {
    type Output = Ended<V>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<V>> {
        let this = &mut *self;
        this.twin.borrow_mut().line().refresh();
        let cancelled = check_scopes(this.judge, &this.ticket.scopes);
        let pauses = this.place.spends && !cancelled;
        if mem::take(&mut this.place.spends) {
            spend();
        }
        let polled = this.future.as_mut().expect("not polled after its end").as_mut().poll(cx);
        if pauses {
            // Nothing is asked for before the next turn.
            this.check(&Look::Waits, &"not waiting", polled.is_pending());
            this.ticket.pause(&mut *this.twin.borrow_mut());
            this.tell(&"pauses");
            this.judge.mark("pauses");
            return Poll::Pending;
        }
        if !cancelled && this.ticket.is_passed_over(this.twin.borrow_mut().line()) {
            this.judge.mark("asks anew");
        }
        let expected = this.ticket.look(&mut *this.twin.borrow_mut());
        this.tell(&expected);
        if cancelled && matches!(expected, Look::Got(_)) {
            this.judge.mark("got although cancelled");
        }
        let ended = match polled {
            Poll::Pending => {
                this.check(&expected, &"waiting", matches!(expected, Look::Waits));
                None
            }
            Poll::Ready(Outcome::Got(got, value)) => {
                let holds = matches!(&expected, Look::Got(expected) if *expected == got);
                this.check(&expected, &got, holds);
                this.judge.mark("got");
                Some(Ended::Got(value))
            }
            Poll::Ready(Outcome::Failed(error)) => {
                let holds = error.is_cancelled() && matches!(expected, Look::Cancelled);
                this.check(&expected, &error, holds);
                this.judge.mark("cancelled");
                Some(Ended::Cancelled(error))
            }
        };
        if ended.is_some() {
            this.future = None;
        }
        (this.compare)();
        ended.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T: Twin, V> Drop for Wait<'_, T, V> {
    fn drop(&mut self) {
        if self.future.is_none() || std::thread::panicking() {
            return;
        }
        self.twin.borrow_mut().line().refresh();
        self.future = None;
        let was_handed = self.ticket.leave(&mut *self.twin.borrow_mut());
        self.tell(&if was_handed { "dropped when it was handed something" } else { "dropped" });
        self.judge.mark(if was_handed { "dropped when handed something" } else { "dropped" });
        (self.compare)();
    }
}
