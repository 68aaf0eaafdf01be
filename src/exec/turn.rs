//! The loop, on one page.

use std::future::Future;
use std::io;
use std::panic::{self, AssertUnwindSafe, Location};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::cancel::Due;
use crate::clock::{Clock, Instant};
use crate::error::{Error, Reason};
use crate::op::{Pushed, Table};
use crate::ring::{Ring, StopSignals, TokenKind};
use crate::slots::Key;

use super::attendant::{ATTENDANT, MAIN};
use super::inbox::Mail;
use super::tasks::{Nest, Ready, Task};
use super::{Core, Hands, Panics, Run, context};

/// How a run is driven.
#[derive(Default)]
pub(crate) struct Drive {
    /// Catches the first signals (rule P5).
    pub(crate) signals: Option<StopSignals>,
    /// What the first one does, instead of cancelling.
    pub(crate) drain: Option<Draining>,
    /// Reports a deadlock instead of sleeping for ever (rule P4).
    pub(crate) deadlock: Option<Strictness>,
    /// How long it may go on.
    pub(crate) limits: Limits,
}

/// Ending what is idle first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draining {
    /// How long what is in hand may take.
    pub(crate) grace: Duration,
    /// Where that was asked for.
    pub(crate) at: &'static Location<'static>,
}

/// What a run under test must not go beyond.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Limits {
    pub(crate) turns: Option<u64>,
    /// On the run's clock.
    pub(crate) time: Option<Instant>,
}

/// What counts as something that could still wake the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Strictness {
    /// A waker of ours, or a door, that somebody outside holds.
    Lenient,
    /// Nothing outside.
    Strict,
}

impl Run {
    /// Polls `main` to its end, and then goes on until the kernel has let go of everything. A panic
    /// goes on after that.
    pub(crate) fn drive<T>(
        self: &Rc<Self>,
        drive: &Drive,
        main: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let _installed = context::install(self);
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| self.poll_to_end(drive, main)));
        let panicked = self.end();
        match (outcome, panicked) {
            (Err(payload), _) | (Ok(_), Some(payload)) => panic::resume_unwind(payload),
            (Ok(outcome), None) => outcome,
        }
    }

    fn poll_to_end<T>(&self, drive: &Drive, main: impl Future<Output = T>) -> Result<T, Error> {
        let (task, waker) = self.add_body(self.root, self.nest, MAIN);
        self.wake_task(task);
        let mut main = pin!(Some(main));
        let mut outcome = None;
        loop {
            self.turn(drive)?;
            let Some(ready) = self.next_task(self.nest, self.turn_number()) else { continue };
            if ready.place == ATTENDANT {
                self.poll_attendant(ready);
            } else if let Poll::Ready(ended) = self.poll_main(main.as_mut(), task, &waker, ready) {
                outcome = Some(ended);
                self.inbox.refuse_calls();
                self.collect_mail();
                self.dismiss_attendant();
            } else {
                continue;
            }
            match outcome {
                Some(ended) if !self.has_attendant() => return ended,
                unfinished => outcome = unfinished,
            }
        }
    }

    #[inline(always)]
    fn poll_main<T>(
        &self,
        mut main: Pin<&mut Option<impl Future<Output = T>>>,
        task: Key<Task>,
        waker: &Waker,
        Ready { strikes, cancelled, .. }: Ready,
    ) -> Poll<Result<T, Error>> {
        let Some(future) = main.as_mut().as_pin_mut() else { return Poll::Pending };
        let mut cx = Context::from_waker(waker);
        let entered = self.context.enter_task(self.root, task, strikes, &cx);
        let polled = future.poll(&mut cx);
        self.keep_strikes(task, strikes);
        drop(entered);
        let ended = match polled {
            Poll::Ready(value) => Ok(value),
            // The attendant is no wait of the main future's.
            Poll::Pending if cancelled && self.is_stuck(self.root, task, true) => {
                self.report_stuck(self.root);
                Err(self.cancelled(self.root).into())
            }
            Poll::Pending => return Poll::Pending,
        };
        main.set(None);
        Poll::Ready(ended)
    }

    /// One turn (rule P2): hand everything over and wait, in one system call; drain the completions
    /// into the table; expire deadlines. Tasks run after it, and whatever wakes them from now on
    /// wakes them in the turn after.
    fn turn(&self, drive: &Drive) -> Result<(), Error> {
        if self.inbox.is_rung() {
            self.collect_mail();
        }
        let rung = self.pass(drive, self.nest)?;
        self.act(|core| {
            core.began = core.coarse_now();
            core.expire(&self.clock);
            core.end_pauses();
        });
        if rung {
            self.collect_mail();
        }
        // Asked in every turn: a program that never waits does not drain the bell.
        let signals = drive.signals.as_ref().map_or(0, StopSignals::take);
        for _ in 0..signals {
            self.heed_signal(drive);
        }
        // What is woken from now on is woken in this turn, and runs in the next.
        self.core.borrow_mut().turn += 1;
        self.check_limits(drive.limits)
    }

    /// Rule P5: the first one drains the main scope if that was asked for, the next one cancels it.
    fn heed_signal(&self, drive: &Drive) {
        let is_drained = self.look(|core| core.tree.drained(self.root)).is_some();
        match drive.drain.filter(|_| !is_drained) {
            Some(Draining { grace, at }) => {
                let end = self.now() + grace;
                self.act(|core| core.set_deadline(self.root, Some(end)));
                self.drain(self.root, at);
            }
            None => self.cancel(self.root, Reason::Interrupt),
        }
    }

    /// Hands over, waits, and drains. Says whether the bell was rung.
    fn pass(&self, drive: &Drive, root: Key<Nest>) -> Result<bool, Error> {
        #[cfg(feature = "testing")]
        if self.may_be_idle(drive) {
            return self.pass_or_idle(drive, root);
        }
        let wait = self.look(|core| core.wait(root, &self.clock));
        if wait.is_none() {
            self.check_deadlock(drive)?;
        }
        Ok(self.act(|core| core.exchange(wait))?)
    }

    /// Nothing is to be run and no deadline is set: can anything still wake this run (rule P4)?
    pub(super) fn check_deadlock(&self, drive: &Drive) -> Result<(), Error> {
        if drive.deadlock.is_some_and(|how| self.is_deadlocked(drive, how)) {
            return Err(Error::Deadlock(super::dump::dump(self)));
        }
        Ok(())
    }

    fn check_limits(&self, Limits { turns, time }: Limits) -> Result<(), Error> {
        let too_many = turns.is_some_and(|most| self.turn_number() > most);
        if too_many || time.is_some_and(|until| self.now() >= until) {
            return Err(Error::Overrun(super::dump::dump(self)));
        }
        Ok(())
    }

    /// Wakes what other threads have woken, and makes the calls that they want made. A panic in one of
    /// them is kept until all have been made (rule K5).
    pub(super) fn collect_mail(&self) {
        let Mail { tasks, calls } = self.inbox.take();
        let mut panics = Panics::default();
        for waker in tasks {
            waker.collected();
            if let Some(task) = waker.task() {
                panics.catch(|| self.wake_task(task));
            }
        }
        for call in calls {
            panics.catch(call);
        }
        panics.resume();
    }

    /// Notes how many cancellations the task has swallowed so far; it came with `former`.
    pub(crate) fn keep_strikes(&self, task: Key<Task>, former: u16) {
        let strikes = self.context.strikes();
        if strikes == former {
            return;
        }
        if let Some(task) = self.core.borrow_mut().tasks.get_mut(task) {
            task.strikes = strikes;
        }
    }

    fn is_deadlocked(&self, drive: &Drive, how: Strictness) -> bool {
        let idle = self.look(|core| {
            !core.may_complete() && !core.table.has_queued() && core.workers.awaited() == 0
        });
        let hope = how == Strictness::Lenient
            && (self.door.is_used_elsewhere() || self.look(|core| core.tasks.has_foreign_wakers()));
        // Last: whoever gave up a waker in between has left a wake before.
        idle && !hope && drive.signals.is_none() && self.inbox.is_empty()
    }
}

impl Core {
    /// How long to wait: not at all if something is to be run, else until the next deadline.
    fn wait(&self, root: Key<Nest>, clock: &Clock) -> Option<Duration> {
        if self.is_awake(root) {
            return Some(Duration::ZERO);
        }
        // Read the clock only if there is something to compare it with.
        self.deadlines.next().map(|at| at.saturating_duration_since(clock.now()))
    }

    /// Whether something is to be run.
    pub(super) fn is_awake(&self, root: Key<Nest>) -> bool {
        !self.paused.is_empty() || !self.wake_later.is_empty() || self.tasks.has_ready(root)
    }

    /// Whether the kernel may complete something by itself.
    fn may_complete(&self) -> bool {
        let in_kernel = self.table.in_kernel();
        self.table.is_to_remind()
            || self.ring.as_ref().is_some_and(|ring| ring.may_complete(in_kernel))
    }

    /// Hands the queue over, waits, and drains what came. Says whether the bell was rung.
    pub(super) fn exchange(&mut self, mut wait: Option<Duration>) -> io::Result<bool> {
        let Core { ring, table, tree, sweep, chores, began, .. } = self;
        let Some(ring) = ring else { return Ok(false) };
        if table.next_reminder().is_some() {
            wait = remind(table, ring, wait);
        }
        if !hand_over(table, ring) {
            ring.flush()?;
            if !hand_over(table, ring) {
                // Still no room for all: the rest goes with the next turn, which must come soon.
                wait = Some(Duration::ZERO);
            }
        }
        let nothing_comes = !ring.may_complete(table.in_kernel());
        if wait == Some(Duration::ZERO) && nothing_comes && !ring.has_unsubmitted() {
            return Ok(false);
        }
        ring.turn(wait)?;
        let mut hands = Hands { is_open: true, table, tree, sweep, chores, began: *began };
        let rung = ring.drain(|completion| {
            if completion.token.kind() == TokenKind::Cancel {
                return hands.missed(completion.token, completion.result);
            }
            let action = hands.table.complete(completion);
            hands.follow(action);
        });
        Ok(rung)
    }

    /// Deadlines expire after completions were processed: in one turn a completion wins (rule C8).
    fn expire(&mut self, clock: &Clock) {
        if self.deadlines.next().is_none() {
            return;
        }
        let now = clock.now();
        while let Some(due) = self.deadlines.pop(now) {
            match due {
                Due::Sleep(wait) => self.tree.fire(wait, true, &mut self.sweep),
                Due::Scope(node) => {
                    let Some(scope) = self.tree.get_mut(node) else { continue };
                    scope.timer = None;
                    let reason = Reason::Deadline { scope: scope.label().at };
                    self.cancel(node, reason, now);
                }
            }
        }
    }

    /// Ends the schedule points of the last turn.
    fn end_pauses(&mut self) {
        while let Some((mut node, whom)) = self.paused.pop_front() {
            while let Some(&parent) = self.moved.get(&node.to_bits()) {
                node = parent;
            }
            self.tree.end_pause(node, whom, &mut self.sweep);
        }
        self.moved.clear();
        while let Some(whom) = self.wake_later.pop_front() {
            self.sweep.wake(Some(whom));
        }
    }
}

/// Asks again for the end of what does not end, and says how long may be waited then.
#[cold]
fn remind(table: &mut Table, ring: &Ring, wait: Option<Duration>) -> Option<Duration> {
    let now = ring.coarse_now();
    table.remind(now);
    let until = table.next_reminder().map(|at| at.saturating_sub(now));
    [wait, until].into_iter().flatten().min()
}

/// Pushes what waits on our side; `false` if there was no room for all.
fn hand_over(table: &mut Table, ring: &mut Ring) -> bool {
    table.pump(|pushed| match pushed {
        Pushed::Request(token, request) => ring.push(token, request),
        Pushed::Cancel(token) => ring.push_cancel(token),
    })
}
