//! Programs of tasks that use the tools of `sync`, beside naive twins of those.
//!
//! Some tasks wait, take, send, give back and go, in scopes that are cancelled, and drop what they wait
//! for. Whatever one of them does to a tool is done to its twin too, and what comes of it has to be the
//! same.

mod broadcast;
mod channel;
mod condition;
mod counted;
mod ends;
mod judge;
mod line;
mod meeting;
mod oneshot;
mod plan;
mod stocks;
mod task;
mod watch;

use std::fmt::Write;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use crate::error::Result;
use crate::exec;
use crate::nursery::nursery;
use crate::ring::twin::{Faults, Lane, Tape};
use crate::sync::{CapacityLimiter, Mutex, RwLock, Semaphore};
use crate::testing::{World, text_of};

use super::trial::indented;

use counted::Counted;
use judge::Judge;
pub use judge::Marks;
use plan::Plan;
use task::{Family, Stage, Task};

/// Runs the program that a fuzzer's bytes say, on the simulated kernel.
///
/// # Panics
/// If a tool and its twin disagree, or somebody waits at the end.
pub fn tools(data: &[u8]) {
    check(data, "the fuzzer's bytes");
}

/// Runs programs of bytes from these seeds, and says what has happened in them.
///
/// # Panics
/// As [`tools`].
pub fn tools_from_seeds(seeds: Range<u64>) -> Marks {
    let mut marks = Marks::default();
    for seed in seeds {
        marks.add(check(&bytes(seed), &format!("seed {seed}")));
    }
    marks
}

/// As a fuzzer would give them: for each family as often.
fn bytes(seed: u64) -> Vec<u8> {
    let mut tape = Tape::from_seed(seed);
    let mut byte = || tape.choose(Lane::Program, 256) as u8;
    let length = usize::from(byte()) + 64;
    let mut bytes: Vec<u8> = (0..length).map(|_| byte()).collect();
    bytes[0] = (seed % 256) as u8;
    bytes
}

fn check(data: &[u8], from: &str) -> Marks {
    let judge = run(data, Judge::silent());
    if judge.failed().is_some() {
        let data = smallest(data);
        // Once more, with somebody who writes it down.
        let judge = run(&data, Judge::telling());
        let failed = judge.failed().unwrap_or_else(|| "nothing, this time".to_owned());
        let mut text = format!("\na program from {from} breaks a rule\n  what    {failed}\n");
        let _ = writeln!(text, "  program\n{}", indented(&format!("{:#?}", Plan::read(&data))));
        let _ = writeln!(text, "  bytes   {data:?}");
        let _ = writeln!(text, "  what happened\n{}", indented(&judge.story()));
        panic!("{text}");
    }
    judge.marks()
}

/// Without the steps that are not needed to break a rule; another rule that breaks is as good.
fn smallest(data: &[u8]) -> Vec<u8> {
    let mut data = data[..data.len().min(Plan::MOST_BYTES)].to_vec();
    let mut end = data.len();
    while let Some(start) = end.checked_sub(4).filter(|start| *start >= 4) {
        let shorter = [&data[..start], &data[end..]].concat();
        if run(&shorter, Judge::silent()).failed().is_some() {
            data = shorter;
        }
        end = start;
    }
    data
}

fn run(data: &[u8], judge: Judge) -> Rc<Judge> {
    let (plan, judge) = (&Plan::read(data), Rc::new(judge));
    match plan.family % 10 {
        0 => run_family::<Counted<Semaphore>>(plan, &judge),
        1 => run_family::<Counted<CapacityLimiter>>(plan, &judge),
        2 => run_family::<Counted<RwLock<()>>>(plan, &judge),
        3 => run_family::<Counted<Mutex<()>>>(plan, &judge),
        4 => run_family::<meeting::Meeting>(plan, &judge),
        5 => run_family::<condition::Changes>(plan, &judge),
        6 => run_family::<channel::Pipe>(plan, &judge),
        7 => run_family::<oneshot::Shot>(plan, &judge),
        8 => run_family::<watch::Watch>(plan, &judge),
        _ => run_family::<broadcast::Radio>(plan, &judge),
    }
    judge
}

/// Turns that a program may take, and how long, on its own clock.
const TURNS: u64 = 20_000;
const TIME: Duration = Duration::from_secs(10);

fn run_family<F: Family>(plan: &Plan, judge: &Rc<Judge>) {
    let tape = Tape::tame().with(Lane::Schedule, plan.schedule.clone());
    let world = World::from_tape(tape, Faults::none()).turns(TURNS).timeout(TIME);
    let silence = exec::silence_panics();
    let ended = panic::catch_unwind(AssertUnwindSafe(|| {
        let ended = world.run(async || whole::<F>(plan, judge).await);
        ended.map_err(|error| format!("the run has ended with: {error}"))
    }));
    drop(silence);
    let ended = ended.unwrap_or_else(|payload| Err(text_of(&*payload)));
    if let Err(error) = ended {
        judge.breaks_off(error);
    }
    let wrong = world.finish();
    judge.check(wrong.is_empty(), || wrong.join("\n"));
}

/// All tasks, until each has ended.
async fn whole<F: Family>(plan: &Plan, judge: &Rc<Judge>) -> Result {
    let tools = [F::new(judge, plan.shape), F::new(judge, plan.shape / 2)];
    let tasks: Vec<Task> = (0..plan.tasks.len()).map(|number| Task::new(number, judge)).collect();
    let stage = &Stage { tools: &tools, tasks: &tasks };
    let mut hands: Vec<_> = tasks.iter().map(|_| tools.each_ref().map(F::hand)).collect();
    tools.iter().for_each(F::begin);
    nursery(async |n| {
        for (task, steps) in tasks.iter().zip(&plan.tasks) {
            let hand = hands.pop().expect("one for each");
            n.spawn(async move { task.run(stage, hand, steps).await });
        }
        Ok(())
    })
    .await?;
    tools.iter().for_each(F::end);
    Ok(())
}
