//! Each operation that the crate has, in every situation that a cancel or a drop may find it in.
//!
//! A table says of each operation what it is tried on, what makes it end and what is seen of its effect. A new
//! operation is one more row. What a row has not named itself is read from the crate: of which kind the
//! operation was, and what the kernel was asked; so the table knows whether something has no row.

mod datagrams;
mod files;
mod known;
mod machine;
mod play;
mod streams;
mod subject;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ring::twin::{Faults, Lane, Tape};
use crate::runtime::Builder;
use crate::testing::World;

use super::exhaustive::CANCELS;
use super::real;
pub use known::known;
use play::{Played, play};
use subject::{Place, Row};

/// What becomes of an operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fate {
    /// Nothing.
    Undisturbed,
    /// Its scope is cancelled before it begins.
    Before,
    /// Its scope is cancelled while it waits.
    During,
    /// Its scope is cancelled when it has ended, and nobody has looked.
    After,
    /// Its future is dropped while it waits.
    Dropped,
    /// Its future is dropped, and its result comes for nobody.
    Orphaned,
}

impl Fate {
    /// All of them.
    pub const ALL: [Fate; 6] =
        [Fate::Undisturbed, Fate::Before, Fate::During, Fate::After, Fate::Dropped, Fate::Orphaned];
}

/// An operation, its fate, and how it ended.
type Ending = (&'static str, Fate, &'static str);

/// What was seen of the operations of the table.
#[derive(Clone, Default, Debug)]
pub struct Fates {
    /// How many times one was tried.
    pub tried: u64,
    /// How they ended.
    pub endings: BTreeSet<Ending>,
    /// The kinds of operations that were submitted.
    pub kinds: BTreeSet<&'static str>,
    /// What the kernel was asked.
    pub requests: BTreeSet<String>,
}

impl Fates {
    /// Both accounts.
    #[must_use]
    pub fn and(mut self, other: Fates) -> Fates {
        self.tried += other.tried;
        self.endings.extend(other.endings);
        self.kinds.extend(other.kinds);
        self.requests.extend(other.requests);
        self
    }

    fn add(&mut self, row: &Row, fate: Fate, played: Played) {
        self.tried += 1;
        self.endings.insert((row.name, fate, played.ending));
        self.kinds.extend(played.kinds);
        self.requests.extend(played.requests);
    }
}

fn rows() -> impl Iterator<Item = Row> {
    let parts = [streams::rows(), datagrams::rows(), files::rows(), machine::rows()];
    parts.into_iter().flatten()
}

/// The names of the rows that only a real machine can try.
pub fn only_on_linux() -> Vec<&'static str> {
    rows().filter(|row| row.place == Place::Linux).map(|row| row.name).collect()
}

/// Tries every operation with these fates on the simulated kernel, up to `gaps` turns after it began: with the
/// obedient kernel on a slow disk or, if `odd`, with everything that a cancel may find, also on a fast one.
///
/// # Panics
/// If a rule is broken.
pub fn simulated_fates(which: &[Fate], gaps: usize, odd: bool) -> Fates {
    let mut fates = Fates::default();
    let (cancels, disks) =
        if odd { (&CANCELS[..], &DISKS[..]) } else { (&CANCELS[..1], &DISKS[1..]) };
    for row in rows().filter(|row| row.place != Place::Linux) {
        let disks = if row.place == Place::Disk { disks } else { &disks[..1] };
        for (fate, gap) in situations(which, gaps) {
            for (cancels, disk) in cancels.iter().flat_map(|c| disks.iter().map(move |d| (c, *d))) {
                let tape = Tape::tame().with(Lane::Cancel, cancels.to_vec());
                let faults = Faults { cancel_odd: u8::MAX, ..Faults::none() };
                let world = World::from_tape(tape, faults);
                world.set_disk_latency(disk);
                fates.add(&row, fate, on(&world, &row, fate, gap));
            }
        }
    }
    fates
}

/// How long the simulated disk takes.
const DISKS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(3)];

/// The same in worlds of these seeds, where the kernel is not obedient in any way.
///
/// # Panics
/// If a rule is broken.
pub fn wild_fates(seeds: std::ops::Range<u64>) -> Fates {
    let mut fates = Fates::default();
    for row in rows().filter(|row| row.place != Place::Linux) {
        for seed in seeds.clone() {
            for (fate, gap) in situations(&Fate::ALL, 1) {
                let world = World::from_seed(seed);
                world.set_disk_latency(DISKS[(seed % 2) as usize]);
                fates.add(&row, fate, on(&world, &row, fate, gap));
            }
        }
    }
    fates
}

fn on(world: &World, row: &Row, fate: Fate, gap: usize) -> Played {
    let limited = world.clone().turns(100_000).timeout(Duration::from_secs(1000));
    let played = limited.run(async || Ok(play(row, fate, gap).await));
    let wrong = world.finish().into_iter().next();
    checked(row, fate, gap, played, wrong, || {
        format!("{}\n{}", world.tape(), super::trial::indented(&world.timeline()))
    })
}

/// Tries every operation in every situation on Linux, up to `gaps` turns after it began.
///
/// # Panics
/// If a rule is broken.
pub fn real_fates(gaps: usize) -> Fates {
    let mut fates = Fates::default();
    for row in rows() {
        for (fate, gap) in situations(&Fate::ALL, gaps) {
            let _set = real::stage(&Tape::tame()).set();
            let played = Builder::new().run(async || Ok(play(&row, fate, gap).await));
            let played = checked(&row, fate, gap, played, None, String::new);
            fates.add(&row, fate, played);
        }
    }
    fates
}

/// The fates, and so many turns after the beginning where that makes a difference.
fn situations(fates: &[Fate], gaps: usize) -> impl Iterator<Item = (Fate, usize)> {
    let gaps = move |fate| if matches!(fate, Fate::Undisturbed | Fate::Before) { 1 } else { gaps };
    fates.iter().flat_map(move |fate| (0..gaps(*fate)).map(move |gap| (*fate, gap)))
}

fn checked(
    row: &Row,
    fate: Fate,
    gap: usize,
    played: crate::Result<Played>,
    wrong: Option<String>,
    more: impl FnOnce() -> String,
) -> Played {
    let failed = match &played {
        Err(error) => Some(error.to_string()),
        Ok(played) => played.wrong.first().cloned(),
    };
    match (failed.or(wrong), played) {
        (None, Ok(played)) => played,
        (failed, _) => {
            let failed = failed.unwrap_or_default();
            panic!("{}, {fate:?}, {gap} turns after it began\n{failed}\n{}", row.name, more())
        }
    }
}

/// What was seen on the real kernel and is not possible on the simulated one, of operations that both have.
pub fn impossible(real: &Fates, simulated: &Fates) -> Vec<Ending> {
    let others = only_on_linux();
    let both = real.endings.iter().filter(|(name, ..)| !others.contains(name));
    both.filter(|ending| !simulated.endings.contains(*ending)).copied().collect()
}
