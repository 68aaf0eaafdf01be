//! When nothing can run: virtual time passes, and whoever waits for that is woken.
//!
//! A simulated kernel never waits. It knows when it will next do something by itself, so quiet is
//! known exactly. The real one does not, so there quiet is what has lasted for a while.

use std::io;
use std::time::{Duration, Instant as Real};

use crate::cancel::{Outcome, Wait};
use crate::clock::{Clock, Instant};
use crate::error::Error;
use crate::ring::Host;
use crate::slots::Key;

use super::tasks::Nest;
use super::turn::{Drive, Limits};
use super::{Core, Run};

#[derive(Default)]
pub(super) struct Idle {
    /// Those who wait until all others are blocked, each for how long that must last.
    waiting: Vec<(Duration, Key<Wait>)>,
    /// After how much quiet virtual time jumps; `None`: it is moved by hand.
    jump_after: Option<Duration>,
    /// Turns since nothing could run.
    busy: u32,
}

/// Turns after which virtual time passes although something can always run, with each further one, and
/// the more the longer that goes on. Else a task that goes round and round until a deadline would never
/// see it.
const BUSY: u32 = if cfg!(miri) { 20 } else { 1000 };
/// What the first of those turns takes; it doubles with so many, up to a thousand times as much.
const STEP: Duration = Duration::from_micros(1);
const DOUBLED_BY: u32 = if cfg!(miri) { 5 } else { 100 };

/// What came of one exchange with the kernel.
struct Exchanged {
    rung: bool,
    /// Whether something completed.
    came: bool,
}

/// How long a run whose kernel is simulated waits, in real time, for a thread that could wake it.
const FOREIGN: Duration = Duration::from_secs(10);

/// How long virtual time waits in real time for a thread that is at work. Longer under Miri, where
/// everything is slow.
const AT_WORK: Duration = Duration::from_secs(if cfg!(miri) { 30 } else { 1 });

impl Run {
    /// Has virtual time jump to the next deadline after this much quiet. On a simulated kernel there
    /// is no need to wait for quiet.
    pub(crate) fn jump_after(&self, quiet: Option<Duration>) {
        self.act(|core| core.idle.jump_after = quiet);
    }

    /// Ends `wait` when all others have been blocked for `cushion`.
    pub(crate) fn unpark_when_quiet(&self, wait: Key<Wait>, cushion: Duration) {
        self.act(|core| {
            core.forget_what_has_ended();
            core.idle.waiting.push((cushion, wait));
        });
    }

    /// Whether this run does anything else than others when nothing can run.
    pub(super) fn may_be_idle(&self, drive: &Drive) -> bool {
        !matches!(self.clock, Clock::Monotonic)
            || self.is_simulated()
            || drive.limits.time.is_some()
            || self.look(|core| !core.idle.waiting.is_empty())
    }

    /// Whether its kernel is a simulated one.
    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self.host, Host::Twin(_))
    }

    /// As an ordinary pass, and something happens when there is nothing else.
    pub(super) fn pass_or_idle(&self, drive: &Drive, root: Key<Nest>) -> Result<bool, Error> {
        self.act(Core::forget_what_has_ended);
        let is_awake = self.look(|core| core.is_awake(root)) || self.is_due(drive.limits);
        let patience = match is_awake || self.is_simulated() {
            true => Some(Duration::ZERO),
            false => self.look(|core| core.patience(&self.clock, drive.limits)),
        };
        if !is_awake && !self.is_simulated() && self.look(Core::waits_for_no_time) {
            self.check_deadlock(drive)?;
        }
        let began = Real::now();
        let Exchanged { rung, came } = self.exchange(patience)?;
        if is_awake || rung || came || self.is_due(drive.limits) || self.is_about_to_complete() {
            self.keep_busy();
            return Ok(rung);
        }
        self.act(|core| core.idle.busy = 0);
        if self.is_simulated() && self.await_threads() {
            return Ok(true);
        }
        let quiet = if self.is_simulated() { Duration::MAX } else { began.elapsed() };
        if self.wake_those_who_wait_for_quiet(quiet) || self.jump(quiet, drive.limits) {
            return Ok(false);
        }
        if self.is_simulated() {
            return self.wait_for_others(drive);
        }
        Ok(false)
    }

    fn exchange(&self, wait: Option<Duration>) -> io::Result<Exchanged> {
        self.act(|core| {
            let before = core.completions();
            let rung = core.exchange(wait)?;
            Ok(Exchanged { rung, came: core.completions() > before })
        })
    }

    fn keep_busy(&self) {
        let Clock::Virtual(clock) = &self.clock else { return };
        let beyond = self.act(|core| {
            core.idle.busy = core.idle.busy.saturating_add(1);
            core.idle.jump_after.and(core.idle.busy.checked_sub(BUSY))
        });
        if let Some(beyond) = beyond {
            clock.advance_to(clock.now() + STEP * (1 << (beyond / DOUBLED_BY).min(10)));
        }
    }

    /// Whether a simulated kernel has something left to do at this very instant.
    fn is_about_to_complete(&self) -> bool {
        self.look(Core::next_event).is_some_and(|at| at <= self.now())
    }

    /// Whether a deadline has passed that is still to expire: the clock was moved by hand, or the
    /// machine has kept us waiting for longer than we asked. That is not quiet.
    fn is_due(&self, limits: Limits) -> bool {
        let next = self.look(|core| core.deadlines.next());
        let next = [next, limits.time].into_iter().flatten().min();
        next.is_some_and(|at| at <= self.now())
    }

    /// Those with the smallest cushion, if the quiet has lasted as long as that.
    fn wake_those_who_wait_for_quiet(&self, quiet: Duration) -> bool {
        self.act(|core| {
            let Some(least) = core.idle.waiting.iter().map(|(cushion, _)| *cushion).min() else {
                return false;
            };
            if least > quiet {
                return false;
            }
            let (woken, left): (Vec<_>, Vec<_>) =
                core.idle.waiting.drain(..).partition(|(cushion, _)| *cushion == least);
            core.idle.waiting = left;
            for (_, wait) in woken {
                core.tree.fire(wait, true, &mut core.sweep);
            }
            true
        })
    }

    /// Virtual time jumps to whatever comes next, but not beyond what the run is given. Those who wait
    /// for quiet come first, however long it takes.
    fn jump(&self, quiet: Duration, limits: Limits) -> bool {
        let Clock::Virtual(clock) = &self.clock else { return false };
        let next = self.look(|core| {
            core.idle.waiting.is_empty().then_some(())?;
            core.jump_after().filter(|&after| after <= quiet)?;
            [core.deadlines.next(), core.next_event()].into_iter().flatten().min()
        });
        let until = limits.time.unwrap_or(Instant::MAX);
        next.inspect(|&at| clock.advance_to(at.min(until))).is_some()
    }

    /// Virtual time stands still while threads are at work, but not for ever: they may wait for it.
    fn await_threads(&self) -> bool {
        self.look(|core| core.workers.awaited() > 0) && self.wait_for_bell(AT_WORK)
    }

    /// Waits in real time until another thread rings; `false`: none has.
    fn wait_for_bell(&self, patience: Duration) -> bool {
        let bell = self.look(|core| core.ring.as_ref().map(|ring| ring.bell()));
        bell.is_some_and(|bell| bell.wait(patience))
    }

    /// Nothing in the simulated world will happen by itself any more: only another thread can help.
    fn wait_for_others(&self, drive: &Drive) -> Result<bool, Error> {
        self.check_deadlock(drive)?;
        match self.wait_for_bell(FOREIGN) || drive.deadlock.is_none() {
            true => Ok(true),
            false => Err(Error::Deadlock(super::dump::dump(self))),
        }
    }

    /// While a run ends, time passes until the simulated kernel has let go of everything.
    pub(super) fn let_time_pass(&self) -> io::Result<()> {
        let (Clock::Virtual(clock), true) = (&self.clock, self.is_simulated()) else {
            return Ok(());
        };
        match self.look(Core::next_event) {
            Some(at) => {
                clock.advance_to(at);
                Ok(())
            }
            None if self.look(|core| core.table.in_kernel() > 0 && !core.table.has_queued()) => {
                Err(io::Error::other("the simulated kernel holds an operation that never ends"))
            }
            None => {
                if self.look(|core| core.workers.awaited() > 0) {
                    self.wait_for_bell(FOREIGN);
                }
                Ok(())
            }
        }
    }
}

impl Core {
    /// How long the real kernel is waited for: until something is due, or quiet has lasted as long as
    /// somebody asks.
    fn patience(&self, clock: &Clock, limits: Limits) -> Option<Duration> {
        let cushion = self.idle.waiting.iter().map(|(cushion, _)| *cushion).min();
        let due = [self.deadlines.next(), limits.time].into_iter().flatten().min();
        let deadline = match clock {
            Clock::Monotonic => due.map(|at| at.saturating_duration_since(clock.now())),
            Clock::Virtual(_) => self.jump_after().filter(|_| due.is_some() && cushion.is_none()),
        };
        [cushion, deadline].into_iter().flatten().min()
    }

    /// Waits for quiet that were cancelled or dropped.
    fn forget_what_has_ended(&mut self) {
        let Core { idle, tree, .. } = self;
        idle.waiting.retain(|(_, wait)| tree.outcome(*wait) == Some(Outcome::Waiting));
    }

    /// How long it must be quiet before time jumps: longer while threads are at work.
    fn jump_after(&self) -> Option<Duration> {
        let least = if self.workers.awaited() > 0 { AT_WORK } else { Duration::ZERO };
        self.idle.jump_after.map(|after| after.max(least))
    }

    fn waits_for_no_time(&self) -> bool {
        self.deadlines.next().is_none() && self.idle.waiting.is_empty()
    }

    fn completions(&self) -> u64 {
        self.ring.as_ref().map_or(0, |ring| ring.traffic().completions)
    }

    fn next_event(&self) -> Option<Instant> {
        let ring = self.ring.as_ref()?;
        // The coarse clock is ours only where the kernel is simulated.
        let reminder = self.table.next_reminder().filter(|_| ring.is_simulated());
        let reminder = reminder.map(|at| Instant::MIN + at);
        [ring.next_event(), reminder].into_iter().flatten().min()
    }
}
