//! The same programs on the real kernel: what is true there has to be possible in the simulated
//! one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::{Clock, VirtualClock};
use crate::exec::{Limits, Setting, Stage};
use crate::ring::twin::{Lane, Tape};
use crate::testing::World;

use super::model::Pair;
use super::trial::{self, Figures, Played};
use super::{exhaustive, generate, losses, program::Program};

/// Runs the program that a fuzzer's bytes say on the real kernel.
///
/// # Panics
/// If a rule is broken, or a socket or a pipe stays open.
pub fn cancel_real(data: &[u8]) {
    check(&trial::spread(data));
}

fn check(tape: &Tape) -> Played {
    let mut source = tape.clone();
    let program = faithful(&mut source);
    let before = connections();
    let played = {
        let _set = stage(&source).set();
        trial::play(&program, None)
    };
    let after = connections();
    let left = (!program.forgets && before != after)
        .then(|| format!("P1: {before} sockets and pipes were open before, {after} are"));
    if let Some(failed) = played.failed.as_ref().or(left.as_ref()) {
        let tape = source.recorded();
        panic!("\non the real kernel\n  what    {failed}\n  tape    {tape}\n{program:?}");
    }
    played
}

/// The program of a tape, for a kernel that loses nothing: as the real one is between two sockets of
/// the same machine.
fn faithful(tape: &mut Tape) -> Program {
    Program { loses: false, ..generate::program(tape) }
}

/// The real kernel, in virtual time that jumps when nothing has happened for a while. The order of
/// the woken is still drawn.
pub(super) fn stage(tape: &Tape) -> Stage {
    let tape = RefCell::new(tape.clone());
    let shuffle = move |options| tape.borrow_mut().choose(Lane::Schedule, options as u32) as usize;
    Stage {
        world: None,
        setting: Setting {
            clock: Clock::Virtual(Rc::new(VirtualClock::new())),
            shuffle: Some(Rc::new(shuffle)),
        },
        jump_after: Some(QUIET),
        deadlock: None,
        limits: Limits { turns: Some(TURNS), time: None },
    }
}

const QUIET: Duration = Duration::from_millis(2);
const TURNS: u64 = 300_000;

/// Sockets and pipes of this process. Other descriptors may be other tests'.
fn connections() -> usize {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return 0 };
    let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter(|link| ["socket:", "pipe:"].iter().any(|is| link.to_string_lossy().starts_with(is)))
        .count()
}

/// What both kernels did with operations that waited when their scope was cancelled.
#[derive(Debug)]
pub struct Differential {
    /// What was run on the real kernel.
    pub real: Figures,
    /// Pairs of an operation and how it ended that were seen on the real kernel.
    pub seen: BTreeSet<Pair>,
    /// Those of them that the simulated kernel has not shown.
    pub impossible: BTreeSet<Pair>,
}

/// Runs programs of these seeds on the real kernel, and of those on the simulated one.
///
/// # Panics
/// If a rule is broken on either.
pub fn differential(real: Range<u64>, simulated: Range<u64>) -> Differential {
    let (mut figures, mut seen) = (Figures::default(), BTreeSet::new());
    for seed in real {
        let played = check(&Tape::from_seed(seed));
        figures.add(played.figures);
        seen.extend(played.pairs);
    }
    let mut possible = exhaustive::pairs();
    for seed in simulated {
        let mut tape = Tape::from_seed(seed);
        let program = faithful(&mut tape);
        let world = World::from_tape(Tape::from_seed(seed), losses::faults(&program));
        let played = trial::run(&program, &world, None);
        assert_eq!(played.failed, None, "seed {seed}");
        possible.extend(played.pairs);
    }
    let impossible = seen.difference(&possible).copied().collect();
    Differential { real: figures, seen, impossible }
}
