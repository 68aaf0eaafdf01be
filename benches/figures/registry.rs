//! Everything that is measured, and what is aimed at.

use std::fmt;

use super::scale::Scale;
use super::{by_hand, by_tokio, by_trine};

/// One thing, done by several sides.
pub struct Figure {
    pub name: &'static str,
    pub about: &'static str,
    pub sides: &'static [(Side, Run)],
    pub aims: &'static [Aim],
}

/// Does the thing, and says how many nanoseconds one took.
pub type Run = fn(Scale) -> f64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Hand,
    Trine,
    Tokio,
}

/// What one side should cost, seen from another.
#[derive(Clone, Copy)]
pub enum Aim {
    /// At most this many times as much.
    Ratio(Side, Side, f64),
    /// At most this many nanoseconds more.
    Gap(Side, Side, f64),
    /// Whatever it is, it is worth knowing.
    Look(Side, Side),
}

use Side::{Hand, Tokio, Trine};

pub const FIGURES: &[Figure] = &[
    Figure {
        name: "nop",
        about: "one awaited NOP after another, each through the kernel",
        sides: &[(Hand, by_hand::nop), (Trine, by_trine::nop)],
        aims: &[Aim::Gap(Trine, Hand, 60.0)],
    },
    Figure {
        name: "spawn-1000",
        about: "spawn and join an empty child, 1,000 per nursery",
        sides: &[(Trine, by_trine::spawn_many), (Tokio, by_tokio::spawn_many)],
        aims: &[Aim::Ratio(Trine, Tokio, 0.4)],
    },
    Figure {
        name: "spawn-1",
        about: "spawn and join an empty child, a nursery (a JoinSet) for each",
        sides: &[(Trine, by_trine::spawn_one), (Tokio, by_tokio::spawn_one)],
        aims: &[Aim::Ratio(Trine, Tokio, 0.4)],
    },
    Figure {
        name: "cancel",
        about: "cancel 10,000 receives pending on TCP streams, until all have unwound, each",
        sides: &[(Hand, by_hand::cancel), (Trine, by_trine::cancel), (Tokio, by_tokio::cancel)],
        aims: &[Aim::Ratio(Trine, Hand, 1.1), Aim::Look(Trine, Tokio), Aim::Look(Hand, Tokio)],
    },
    Figure {
        name: "cancel-close",
        about: "the same, each child owning its stream, which is closed as it unwinds",
        sides: &[
            (Hand, by_hand::cancel_close),
            (Trine, by_trine::cancel_close),
            (Tokio, by_tokio::cancel_close),
        ],
        aims: &[Aim::Ratio(Trine, Hand, 1.1), Aim::Look(Trine, Tokio), Aim::Look(Hand, Tokio)],
    },
    Figure {
        name: "timeout-ready",
        about: "a timeout around what is ready at once",
        sides: &[(Trine, by_trine::timeout_ready), (Tokio, by_tokio::timeout_ready)],
        aims: &[Aim::Look(Trine, Tokio)],
    },
    Figure {
        name: "timeout-yield",
        about: "a timeout around what waits for one turn, so that the deadline is set and unset",
        sides: &[(Trine, by_trine::timeout_yield), (Tokio, by_tokio::timeout_yield)],
        aims: &[Aim::Ratio(Trine, Tokio, 0.25)],
    },
    Figure {
        name: "sleep-same",
        about: "100,000 children asleep at once for the same 100 ms: CPU time of the thread, each",
        sides: &[(Trine, by_trine::sleep_same), (Tokio, by_tokio::sleep_same)],
        aims: &[Aim::Ratio(Trine, Tokio, 0.5)],
    },
    Figure {
        name: "sleep-mixed",
        about: "the same, each for a time of its own between 100 and 200 ms",
        sides: &[(Trine, by_trine::sleep_mixed), (Tokio, by_tokio::sleep_mixed)],
        aims: &[Aim::Ratio(Trine, Tokio, 0.5)],
    },
];

impl Side {
    pub const ALL: [Side; 3] = [Hand, Trine, Tokio];

    pub fn parse_list(list: &str) -> Vec<Side> {
        let parse = |name: &str| Side::ALL.into_iter().find(|side| side.to_string() == name);
        list.split(',').map(|name| parse(name).expect("hand, trine or tokio")).collect()
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Hand => "hand",
            Trine => "trine",
            Tokio => "tokio",
        })
    }
}
