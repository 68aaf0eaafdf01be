//! What the tasks of a program do, as data.

use std::iter::Peekable;
use std::time::Duration;
use std::vec;

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) family: u8,
    /// How large the tools are.
    pub(super) shape: u8,
    /// Decides in which order tasks are polled.
    pub(super) schedule: Vec<u8>,
    pub(super) tasks: Vec<Vec<Step>>,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Something is done with one of the two tools.
    Act {
        tool: usize,
        act: u8,
        argument: u8,
        how: How,
    },
    /// Steps in a scope of their own.
    Scope {
        patience: Duration,
        shield: bool,
        steps: Vec<Step>,
    },
    /// Others run.
    Turns(u8),
    Sleep(Duration),
    /// Somebody's scope, which may be one's own, is cancelled …
    Cancel(Whose),
    /// … or has its shield switched …
    Shield {
        whose: Whose,
        on: bool,
    },
    /// … or has it put on when everything around was cancelled (rule D4) …
    Hide {
        task: u8,
    },
    /// … or its deadline moved.
    Deadline {
        whose: Whose,
        patience: Duration,
    },
}

/// The innermost scope of a task, or the one around all that it does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose {
    pub(super) task: u8,
    pub(super) whole: bool,
}

/// How something is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// In a scope of its own.
    pub(super) patience: Option<Duration>,
    pub(super) shield: bool,
    /// And dropped, as by `select!`.
    pub(super) cut: Option<Cut>,
    /// With nothing left of the operations that may return at once (rule A2).
    pub(super) spends: bool,
    /// Goes on after having been cancelled.
    pub(super) swallows: bool,
}

/// When a wait is dropped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// Instead of being polled once more, after so many polls.
    Woken(u8),
    /// After so many turns.
    Turns(u8),
    After(Duration),
}

/// Steps of a program at most: no task uses up what it may do in one turn (rule A2).
const MOST_STEPS: usize = 96;
const MOST_OF_A_TASK: usize = 28;

impl Plan {
    /// What lies beyond is not read.
    pub(super) const MOST_BYTES: usize = 4 + 64 + 4 * MOST_STEPS;

    pub(super) fn read(data: &[u8]) -> Plan {
        let at = |place: usize| data.get(place).copied().unwrap_or(0);
        let count = 2 + usize::from(at(2) % 4);
        let rest = data.get(4..).unwrap_or(&[]);
        let (schedule, rest) = rest.split_at(rest.len().min(usize::from(at(3) % 64)));
        let mut flat: Vec<Vec<[u8; 4]>> = vec![Vec::new(); count];
        for step in rest.chunks(4).take(MOST_STEPS) {
            let mut bytes = [0; 4];
            bytes[..step.len()].copy_from_slice(step);
            let steps = &mut flat[usize::from(bytes[0] & 7) % count];
            if steps.len() < MOST_OF_A_TASK {
                steps.push(bytes);
            }
        }
        let tasks = flat.into_iter().map(|steps| nest(&mut steps.into_iter().peekable(), 99));
        Plan { family: at(0), shape: at(1), schedule: schedule.to_vec(), tasks: tasks.collect() }
    }
}

/// So many steps, of which some take those that follow them inside.
fn nest(flat: &mut Peekable<vec::IntoIter<[u8; 4]>>, most: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while steps.len() < most {
        let Some(bytes) = flat.next() else { break };
        steps.push(match step(bytes) {
            Step::Scope { patience, shield, .. } => {
                let inside = nest(flat, usize::from(bytes[2] % 6) + 1);
                Step::Scope { patience, shield, steps: inside }
            }
            simple => simple,
        });
    }
    steps
}

fn step([first, argument, second, how]: [u8; 4]) -> Step {
    let whose = Whose { task: argument % 8, whole: argument >= 224 };
    match first >> 3 {
        0..=19 => Step::Act {
            tool: usize::from(second >> 7),
            act: second & 0x7f,
            argument,
            how: How::read(how, argument),
        },
        20..=21 => {
            let patience = milliseconds(argument % 24);
            Step::Scope { patience, shield: how % 8 == 7, steps: Vec::new() }
        }
        22..=23 => Step::Turns(argument % 4 + 1),
        24..=25 => Step::Sleep(milliseconds(argument % 8)),
        26..=28 => Step::Cancel(whose),
        29 if how % 4 == 0 => Step::Hide { task: whose.task },
        29..=30 => Step::Shield { whose, on: how % 2 == 0 },
        _ => Step::Deadline { whose, patience: milliseconds(how % 8) },
    }
}

impl How {
    fn read(byte: u8, other: u8) -> How {
        let few = other % 3;
        let cut = match byte & 7 {
            1 | 2 => Some(Cut::Woken(few + 1)),
            3 => Some(Cut::Turns(few + 1)),
            6 => Some(Cut::After(milliseconds(few))),
            _ => None,
        };
        let patience = match byte >> 3 & 7 {
            0..=2 => None,
            more => Some(milliseconds(more * 2 - 5)),
        };
        let shield = patience.is_some() && byte & 7 == 4;
        How { patience, shield, cut, spends: byte & 7 == 5, swallows: byte & 0x80 == 0 }
    }
}

fn milliseconds(count: u8) -> Duration {
    Duration::from_millis(count.into())
}
