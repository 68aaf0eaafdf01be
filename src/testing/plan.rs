//! How a test is run: on which kernel, in which time, from which seeds; and what a failure says.
//!
//! [`#[trine::test]`](macro@crate::test) makes one of these for each test.

use std::any::Any;
use std::fmt::{Debug, Write};
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::{self, VirtualClock};
use crate::exec::{self, Limits, Setting, Stage, StageSet};
use crate::ring::twin::{Faults, Tape, shrink};

use super::quiet;
use super::world::World;

/// Which kernel a test is run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// Linux.
    Real,
    /// A simulated [`World`].
    Sim,
}

/// How time passes in a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// By itself; only on the real kernel.
    Real,
    /// It jumps to the next deadline when nothing can run. On the real kernel it does so after
    /// ten milliseconds without anything happening.
    Autojump,
    /// It is moved by hand, with [`advance`](super::advance).
    Manual,
}

/// One test.
///
/// ```
/// use trine::testing::Plan;
///
/// Plan::new("mine::a_checkpoint_succeeds").runs(3).check(async || trine::checkpoint().await);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a plan does nothing until `check` is called"]
pub struct Plan {
    name: &'static str,
    kernel: Kernel,
    clock: Option<Clock>,
    seed: Option<u64>,
    runs: u32,
    timeout: Duration,
    faults: Faults,
    deterministic: bool,
    leaks: bool,
    tapes: &'static [&'static str],
}

impl Plan {
    /// A test on the simulated kernel, once, on the tame tape, with what `cargo test` calls it.
    pub fn new(name: &'static str) -> Plan {
        Plan {
            name,
            kernel: Kernel::Sim,
            clock: None,
            seed: None,
            runs: 0,
            timeout: Duration::from_secs(60),
            faults: Faults::lossless(),
            deterministic: true,
            leaks: false,
            tapes: &[],
        }
    }

    /// On this kernel.
    pub fn kernel(mut self, kernel: Kernel) -> Plan {
        self.kernel = kernel;
        self
    }

    /// In this time: [`Clock::Autojump`] on the simulated kernel and [`Clock::Real`] on the real one
    /// unless said otherwise.
    pub fn clock(mut self, clock: Clock) -> Plan {
        self.clock = Some(clock);
        self
    }

    /// From this seed instead of the tame tape; with [`runs`](Plan::runs), from this one on.
    pub fn seed(mut self, seed: u64) -> Plan {
        self.seed = Some(seed);
        self.runs = self.runs.max(1);
        self
    }

    /// On the tame tape, and then with so many seeds.
    pub fn runs(mut self, runs: u32) -> Plan {
        self.runs = runs;
        self
    }

    /// How long a run may take, on its own clock; a minute unless said otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Plan {
        self.timeout = timeout;
        self
    }

    /// What may go wrong with seeds; [`Faults::lossless`] unless said otherwise.
    pub fn faults(mut self, faults: Faults) -> Plan {
        self.faults = faults;
        self
    }

    /// Whether every simulated run is made twice, and must do the same. On unless said otherwise;
    /// switch it off for a program that other threads have a hand in.
    pub fn deterministic(mut self, deterministic: bool) -> Plan {
        self.deterministic = deterministic;
        self
    }

    /// Whether a program may leave descriptors open and buffers out: with `mem::forget`, say.
    pub fn leaks(mut self, leaks: bool) -> Plan {
        self.leaks = leaks;
        self
    }

    /// Tapes that once showed a fault: they are replayed first.
    pub fn tapes(mut self, tapes: &'static [&'static str]) -> Plan {
        self.tapes = tapes;
        self
    }

    /// Runs the test.
    ///
    /// # Panics
    /// If it fails, after having said how to replay that.
    #[track_caller]
    pub fn check<F: Future<Output = R>, R: Outcome>(self, body: impl Fn() -> F) {
        self.check_plain(|| match crate::run(async || Ok(body().await)) {
            Ok(outcome) => outcome.failure(),
            Err(error) => Some(error.to_string()),
        });
    }

    /// Runs a test that is not asynchronous itself: the runs that it starts are on this kernel.
    ///
    /// # Panics
    /// As [`check`](Plan::check).
    #[track_caller]
    pub fn check_plain<R: Outcome>(self, body: impl Fn() -> R) {
        let watchdog = Watchdog::new(self.name);
        let body = || {
            watchdog.pat();
            body().failure()
        };
        match self.kernel {
            Kernel::Real => self.check_real(&body),
            Kernel::Sim => self.check_simulated(&body),
        }
    }

    #[track_caller]
    fn check_real(&self, body: &dyn Fn() -> Option<String>) {
        let _set = self.enter_real();
        if let Some(failure) = body() {
            panic!("{}: {failure}", self.name);
        }
    }

    fn enter_real(&self) -> StageSet {
        let virtual_time = || clock::Clock::Virtual(Rc::new(VirtualClock::new()));
        let (clock, jump_after) = match self.clock.unwrap_or(Clock::Real) {
            Clock::Real => (clock::Clock::Monotonic, None),
            Clock::Autojump => (virtual_time(), Some(quiet::CUSHION)),
            Clock::Manual => (virtual_time(), None),
        };
        let limits = Limits { turns: None, time: Some(clock.now() + self.timeout) };
        let setting = Setting { clock, shuffle: None };
        Stage { world: None, setting, jump_after, deadlock: None, limits }.set()
    }

    #[track_caller]
    fn check_simulated(&self, body: &dyn Fn() -> Option<String>) {
        assert!(
            self.clock != Some(Clock::Real),
            "{}: time in a simulated world does not pass by itself; use Clock::Autojump",
            self.name
        );
        for (tape, from) in self.tapes_to_try() {
            if let Some(failed) = self.attempt(tape, body).failed {
                self.report(failed, &from, body);
            }
        }
    }

    /// What the environment says, else what was found before, the tame tape, and the seeds.
    fn tapes_to_try(&self) -> Vec<(Tape, String)> {
        let parse = |text: &str| match Tape::parse(text) {
            Ok(tape) => tape,
            Err(error) => panic!("{}: no tape: {error}", self.name),
        };
        if let Some(text) = variable("TRINE_TAPE") {
            return vec![(parse(&text), "TRINE_TAPE".to_owned())];
        }
        let number = |name: &str| {
            let text = variable(name)?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
        };
        let runs = if SLOW { self.runs.min(FEW) } else { self.runs };
        let runs = number("TRINE_RUNS").unwrap_or(u64::from(runs));
        let drawn = |from: u64, runs: u64| {
            let seeds = (0..runs).map(move |run| from.wrapping_add(run));
            seeds.map(|seed| (Tape::from_seed(seed), format!("TRINE_SEED={seed}")))
        };
        if let Some(seed) = number("TRINE_SEED") {
            return drawn(seed, runs.max(1)).collect();
        }
        let found = self.tapes.iter().map(|text| (parse(text), format!("the tape {text}")));
        let tame = (self.seed.is_none()).then(|| (Tape::tame(), "the tame tape".to_owned()));
        found.chain(tame).chain(drawn(self.seed.unwrap_or(0), runs)).collect()
    }

    fn attempt(&self, tape: Tape, body: &dyn Fn() -> Option<String>) -> Attempt {
        let mut attempt = self.attempt_once(tape, body);
        if attempt.failed.is_none() && self.deterministic && !SLOW {
            let again = self.attempt_once(attempt.tape.clone(), body);
            if again.failed.is_some() || again.course() != attempt.course() {
                let what = again.failed.map(|failed| format!("\n  then   {}", failed.what));
                attempt.failed = Some(Failed {
                    what: format!(
                        "the same tape did not do the same twice: {OUTSIDE}{}",
                        what.unwrap_or_default()
                    ),
                    payload: None,
                    tape: attempt.tape.clone(),
                    timeline: again.world.timeline(),
                });
            }
        }
        attempt
    }

    fn attempt_once(&self, tape: Tape, body: &dyn Fn() -> Option<String>) -> Attempt {
        let mut world = World::from_tape(tape, self.faults).timeout(self.timeout).turns(TURNS);
        if self.clock == Some(Clock::Manual) {
            world = world.by_hand();
        }
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| world.during(body)));
        let (mut what, payload) = match outcome {
            Ok(failure) => (failure, None),
            Err(payload) => (Some(text_of(&*payload)), Some(payload)),
        };
        let wrong = if self.leaks { world.violations() } else { world.finish() };
        if what.is_none() && !wrong.is_empty() {
            what = Some(wrong.join("\n"));
        }
        let tape = world.tape();
        let failed = what.map(|what| Failed {
            what,
            payload,
            tape: tape.clone(),
            timeline: world.timeline(),
        });
        Attempt { failed, tape, world }
    }

    /// Looks for the smallest tape that still fails, says all there is to say, and fails.
    #[track_caller]
    fn report(&self, first: Failed, from: &str, body: &dyn Fn() -> Option<String>) -> ! {
        let (mut smallest, mut attempts) = (first, 0);
        let longest = smallest.tape.clone();
        let before = longest.len();
        let silence = exec::silence_panics();
        let fails_again = self.attempt(longest.clone(), body).failed.is_some();
        let began = Instant::now();
        let fails = |tape: &Tape| {
            if !fails_again || began.elapsed() > SEARCH {
                return false;
            }
            attempts += 1;
            match self.attempt(tape.clone(), body).failed {
                Some(failed) => {
                    smallest = failed;
                    true
                }
                None => false,
            }
        };
        shrink(&longest, fails, SHRINKS);
        drop(silence);
        let Failed { what, payload, tape, timeline } = smallest;
        let mut text = String::new();
        let _ = writeln!(text, "\n{} failed on {from}, in a simulated world", self.name);
        let _ = writeln!(text, "  what   {what}");
        let _ =
            writeln!(text, "  tape   {} bytes, were {before} before {attempts} tries", tape.len());
        let _ =
            writeln!(text, "  replay TRINE_TAPE='{tape}' cargo test -- --exact {}", self.name());
        if !fails_again {
            let _ = writeln!(text, "  note   it did not fail again on this tape: {OUTSIDE}");
        }
        let _ = writeln!(text, "  what happened last:\n{}", last_lines(&timeline, SHOWN));
        eprintln!("{text}");
        match payload {
            Some(payload) => panic::resume_unwind(payload),
            None => panic!("{}: {what}", self.name),
        }
    }

    /// The name that `cargo test` knows: without the crate's.
    fn name(&self) -> &str {
        self.name.split_once("::").map_or(self.name, |(_, name)| name)
    }
}

/// Under Miri everything takes a thousand times as long: it looks at few runs, and at each of them
/// once.
const SLOW: bool = cfg!(miri);
const FEW: u32 = 1;
/// Turns that a simulated run may make: some seconds of work.
const TURNS: u64 = 10_000_000;
/// How often a failing program is run to find a smaller tape.
const SHRINKS: usize = 2000;
/// How long it may search for one, in real time.
const SEARCH: Duration = Duration::from_secs(60);
/// Why a tape does not determine a program.
const OUTSIDE: &str = "something from outside has a hand in it (another thread, the clock of the \
                       machine, the order of a hash map)";
/// Lines of the timeline that a report shows: what fits on a screen with the rest.
const SHOWN: usize = 30;
/// How long one run of a test may stand still, in real time.
const STANDSTILL: Duration = Duration::from_secs(300);

struct Attempt {
    failed: Option<Failed>,
    tape: Tape,
    /// Where it was made. Its timeline is long, and seldom asked for.
    world: World,
}

impl Attempt {
    /// What must be the same whenever the tape is.
    fn course(&self) -> (u64, Duration, &Tape) {
        (self.world.trace(), self.world.elapsed(), &self.tape)
    }
}

struct Failed {
    what: String,
    payload: Option<Box<dyn Any + Send>>,
    tape: Tape,
    timeline: String,
}

/// What a test may return.
pub trait Outcome {
    /// What went wrong, if something did.
    fn failure(self) -> Option<String>;
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: Debug> Outcome for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| format!("{error:?}"))
    }
}

/// `Some` is a failure.
impl Outcome for Option<String> {
    fn failure(self) -> Option<String> {
        self
    }
}

/// What a panic says.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("with something that is no text"))
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(count)..];
    shown.iter().map(|line| format!("    {line}\n")).collect()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Ends the process, and says which test it was, if one stands still: a task that never waits stops
/// every clock of the run.
struct Watchdog {
    done: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watchdog {
    fn new(name: &'static str) -> Watchdog {
        let (done, watched) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let timeout = || watched.recv_timeout(STANDSTILL);
            let last = std::iter::repeat_with(timeout).find(Result::is_err);
            if last == Some(Err(mpsc::RecvTimeoutError::Timeout)) {
                eprintln!("{name} has stood still for {} s", STANDSTILL.as_secs());
                std::process::abort();
            }
        });
        Watchdog { done: Some(done), thread: Some(thread) }
    }

    /// It goes on: one more run begins.
    fn pat(&self) {
        if let Some(done) = &self.done {
            let _ = done.send(());
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
