//! Canaries: bugs planted on purpose, which programs from seeds have to find.
//!
//! They prove that the whole way works: that programs reach such states, that the kernel's twin
//! does what brings the bug out, that a rule is checked which it breaks, and that the tape
//! shrinks.

use std::fmt::Write;

use crate::op::Bug;
use crate::ring::twin::Tape;

use super::trial;

/// The planted bugs, and the names for them.
const BUGS: [(&str, Bug); 3] = [
    ("an operation is freed on the answer to its cancel", Bug::FreeOnCancelCompletion),
    ("a cancel is lost when the queue is full", Bug::LoseCancelWhenFull),
    ("a descriptor accepted after the cancel is forgotten", Bug::LeakAcceptedDescriptor),
];

/// A planted bug that was found.
#[derive(Debug)]
pub struct Found {
    /// What was planted.
    pub bug: &'static str,
    /// Programs that it took.
    pub programs: u64,
    /// Bytes of the smallest tape.
    pub bytes: usize,
    /// The story, as it would be reported.
    pub transcript: String,
}

/// Looks for each planted bug with at most so many programs.
///
/// # Panics
/// If one is not found.
pub fn canaries(most: u64) -> Vec<Found> {
    let find = |(name, bug)| {
        let seeds = (0..most).find_map(|seed| {
            let attempt = trial::attempt_with(&Tape::from_seed(seed), Some(bug));
            attempt.failed.map(|_| (seed, attempt.tape))
        });
        let Some((seed, tape)) = seeds else { panic!("not found in {most} programs: {name}") };
        let smallest = trial::smallest(&tape, Some(bug));
        let mut transcript = format!("planted: {name}\nfound by program {seed}\n");
        transcript.push_str(&trial::report(&smallest, Some(bug), &format!("seed {seed}")));
        let _ = writeln!(transcript, "the tape has {} bytes, had {}", smallest.len(), tape.len());
        Found { bug: name, programs: seed + 1, bytes: smallest.len(), transcript }
    };
    BUGS.map(find).into()
}

/// Replays a tape with the planted bug of this number, which a report says as `TRINE_PLANT`.
///
/// # Panics
/// When it has found the bug; on a text that is no tape; if there is no such bug.
pub fn check_planted(number: u64, text: &str) {
    let tape = Tape::parse(text).unwrap_or_else(|error| panic!("no tape: {error}"));
    let bug = usize::try_from(number).ok().and_then(|number| BUGS.get(number));
    let Some(&(name, bug)) = bug else { panic!("TRINE_PLANT={number}: there is no such bug") };
    if trial::attempt_with(&tape, Some(bug)).failed.is_some() {
        panic!("found as planted: {name}{}", trial::report(&tape, Some(bug), "this tape"));
    }
}

/// What the environment has to say to plant it in a replay.
pub(super) fn variable(bug: Bug) -> String {
    let number = BUGS.iter().position(|&(_, planted)| planted == bug).unwrap_or_default();
    format!("TRINE_PLANT={number} ")
}

/// As [`cancel_tree`](super::cancel_tree) with the planted bug that the first byte says: a fuzzer
/// has to fail here.
///
/// # Panics
/// When it has found the bug.
pub fn canary(data: &[u8]) {
    let Some((&which, data)) = data.split_first() else { return };
    let (name, bug) = BUGS[usize::from(which) % BUGS.len()];
    let tape = trial::spread(data);
    if trial::attempt_with(&tape, Some(bug)).failed.is_some() {
        panic!("found as planted: {name}{}", trial::report(&tape, Some(bug), "the fuzzer's bytes"));
    }
}
