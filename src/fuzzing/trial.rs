//! Tries programs on the simulated kernel, and says all there is to say about one that fails.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::exec;
use crate::op::Bug;
use crate::ring::twin::{Lane, Tape, shrink};
use crate::runtime::Builder;
use crate::testing::World;

use crate::testing::text_of;

use super::machine;
use super::model::{Model, Pair};
use super::{canary, generate, losses, program::Program};

/// What a number of programs amounted to.
#[derive(Clone, Copy, Default, Debug)]
pub struct Figures {
    /// Programs that were run.
    pub programs: u64,
    /// Steps of theirs that were begun.
    pub steps: u64,
    /// Operations that went to the kernel.
    pub operations: u64,
    /// Cancel requests.
    pub cancels: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Tasks and bodies that were dropped as stuck (rules F13, F14).
    pub abandoned: u64,
}

impl Figures {
    pub(super) fn add(&mut self, other: Figures) {
        self.programs += other.programs;
        self.steps += other.steps;
        self.operations += other.operations;
        self.cancels += other.cancels;
        self.turns += other.turns;
        self.abandoned += other.abandoned;
    }
}

/// Runs the program that a fuzzer's bytes say, in the world that they say.
///
/// # Panics
/// If a rule is broken.
pub fn cancel_tree(data: &[u8]) {
    let tape = spread(data);
    if attempt(&tape).failed.is_some() {
        panic!("{}", report(&tape, None, "the fuzzer's bytes"));
    }
}

/// Runs the programs of these seeds, each twice: it has to do the same again.
///
/// # Panics
/// If a rule is broken, after having looked for the smallest program and tape that still break one.
pub fn check_seeds(seeds: Range<u64>) -> Figures {
    let mut figures = Figures::default();
    for seed in seeds {
        let first = attempt(&Tape::from_seed(seed));
        figures.add(first.figures);
        let failed = first.failed.or_else(|| {
            let again = attempt(&first.tape);
            let differs = again.trace != first.trace;
            again
                .failed
                .or_else(|| differs.then(|| "the same tape did not do the same twice".to_owned()))
        });
        if let Some(failed) = failed {
            let report = report(&smallest(&first.tape, None), None, &format!("seed {seed}"));
            panic!("{report}\nat first: {failed}");
        }
    }
    figures
}

/// Replays one tape.
///
/// # Panics
/// If a rule is broken, or the text is no tape.
pub fn check_tape(text: &str) -> Figures {
    let tape = Tape::parse(text).unwrap_or_else(|error| panic!("no tape: {error}"));
    let attempt = attempt(&tape);
    if attempt.failed.is_some() {
        panic!("{}", report(&tape, None, "this tape"));
    }
    attempt.figures
}

/// The program that a tape says, as text.
pub fn show(text: &str) -> String {
    let mut tape = Tape::parse(text).unwrap_or_else(|error| panic!("no tape: {error}"));
    format!("{:?}", generate::program(&mut tape))
}

/// The program of a seed, as text.
pub fn show_seed(seed: u64) -> String {
    format!("{:?}", generate::program(&mut Tape::from_seed(seed)))
}

/// Looks for the smallest tape that still breaks a rule; another rule that breaks is as good.
pub(super) fn smallest(tape: &Tape, bug: Option<Bug>) -> Tape {
    let until = Instant::now() + PATIENCE;
    let fails = |tape: &Tape| Instant::now() < until && attempt_with(tape, bug).failed.is_some();
    shrink(tape, fails, SHRINKS)
}

/// How often a failing program is run to find a smaller one.
const SHRINKS: usize = 3000;
/// How long that may take: from then on nothing is smaller.
const PATIENCE: Duration = Duration::from_secs(20);

/// All there is to say about a tape that breaks a rule.
pub(super) fn report(tape: &Tape, bug: Option<Bug>, from: &str) -> String {
    let Attempt { failed, timeline, .. } = attempt_with(tape, bug);
    let failed = failed.unwrap_or_else(|| "nothing, this time".to_owned());
    let program = generate::program(&mut tape.clone());
    let mut text = format!("\na program from {from} breaks a rule\n");
    let _ = writeln!(text, "  what    {failed}");
    let _ = writeln!(text, "  program\n{}", indented(&format!("{program:?}")));
    let plant = bug.map(canary::variable).unwrap_or_default();
    let _ = writeln!(text, "  replay  {plant}TRINE_TAPE='{tape}' {REPLAY}");
    let _ = writeln!(text, "  what happened\n{}", indented(&timeline));
    text
}

const REPLAY: &str = "cargo test --test programs replay -- --ignored --nocapture";

pub(super) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

pub(super) struct Attempt {
    pub(super) failed: Option<String>,
    /// All choices that were made.
    pub(super) tape: Tape,
    pub(super) trace: u64,
    pub(super) timeline: String,
    pub(super) figures: Figures,
}

/// Turns that a program may take.
const TURNS: u64 = 300_000;

/// Runs one program in one world.
pub(super) fn attempt(tape: &Tape) -> Attempt {
    attempt_with(tape, None)
}

/// The same, with a bug in the crate.
pub(super) fn attempt_with(tape: &Tape, bug: Option<Bug>) -> Attempt {
    let mut source = tape.clone();
    let program = generate::program(&mut source);
    let world = World::from_tape(tape.clone(), losses::faults(&program)).turns(TURNS).timeout(TIME);
    let Played { failed, figures, .. } = run(&program, &world, bug);
    let bytes = source.recorded().lane(Lane::Program).to_vec();
    let tape = world.tape().with(Lane::Program, bytes);
    Attempt { failed, tape, trace: world.trace(), timeline: world.timeline(), figures }
}

/// On the program's clock.
const TIME: Duration = Duration::from_secs(4000);

pub(super) fn run(program: &Program, world: &World, bug: Option<Bug>) -> Played {
    world.set_disk_latency(Duration::from_millis(program.disk.into()));
    let played = world.during(|| play(program, bug));
    let wrong = if program.forgets { world.violations() } else { world.finish() };
    let failed = played.failed.or_else(|| wrong.first().cloned());
    Played { failed, ..played }
}

/// What came of a program, on whichever kernel.
#[derive(Default)]
pub(super) struct Played {
    pub(super) failed: Option<String>,
    pub(super) figures: Figures,
    pub(super) pairs: BTreeSet<Pair>,
}

/// Runs a program on the kernel that the stage says.
pub(super) fn play(program: &Program, bug: Option<Bug>) -> Played {
    let silence = exec::silence_panics();
    let model = Rc::new(Model::new(program.loses, &program.pipes));
    let mut figures = Figures { programs: 1, ..Figures::default() };
    let builder = Builder::new().submissions(program.queue).pool_most(program.buffers);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        builder.pool_least(program.buffers.min(64)).run(async || {
            plant(bug)?;
            let ended = machine::main(program, &model).await;
            let stats = exec::stats();
            figures.steps = model.steps();
            figures.operations = stats.submitted;
            figures.cancels = stats.cancels_sent;
            figures.turns = stats.turns;
            figures.abandoned = stats.abandoned;
            ended
        })
    }));
    drop(silence);
    let failed = model.first_violation().or_else(|| match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("the run has ended with: {error}")),
        Err(payload) => Some(text_of(&*payload)),
    });
    Played { failed, figures, pairs: model.take_pairs() }
}

/// Makes the run that is under way wrong in this way.
fn plant(bug: Option<Bug>) -> Result {
    let run = exec::current()?;
    if let Some(bug) = bug {
        run.act(|core| core.table.plant(bug));
    }
    Ok(())
}

/// Spreads a fuzzer's bytes over the lanes: two bytes say how many the program gets, the others go
/// to the remaining lanes in turn.
pub(super) fn spread(data: &[u8]) -> Tape {
    let Some((&[low, high], rest)) = data.split_first_chunk() else { return Tape::tame() };
    let for_program = usize::from(u16::from_le_bytes([low, high])) % (rest.len() + 1);
    let (program, others) = rest.split_at(for_program);
    let lanes = Lane::ALL.into_iter().filter(|lane| *lane != Lane::Program);
    let count = lanes.clone().count();
    lanes.enumerate().fold(
        Tape::tame().with(Lane::Program, program.to_vec()),
        |tape, (at, lane)| {
            tape.with(lane, others.iter().skip(at).step_by(count).copied().collect())
        },
    )
}
