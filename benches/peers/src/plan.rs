//! What is measured: how many connections, which messages, which load.

use std::fmt;
use std::time::Duration;

/// One line of the table to come.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub name: &'static str,
    pub connections: usize,
    /// Bytes of a request, and of its answer.
    pub message: usize,
    pub pace: Pace,
    /// What trine should cost, as a multiple of the ring by hand and of tokio.
    pub aims: (Option<f64>, Option<f64>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Each connection sends its next request when the last one was answered.
    Closed,
    /// So many requests a second, all connections together, whatever is answered.
    Open(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Hand,
    Trine,
    Tokio,
}

use Pace::{Closed, Open};

pub const PLANS: &[Plan] = &[
    plan("64", 64, 64, Closed, (Some(1.05), None)),
    plan("1000", 1_000, 64, Closed, (Some(1.05), Some(0.85))),
    plan("8000", 8_000, 64, Closed, (Some(1.05), Some(0.85))),
    plan("big-64", 64, 16 * 1024, Closed, (None, Some(0.88))),
    plan("open-64", 64, 64, Open(40_000), (Some(1.05), None)),
    plan("open-1000", 1_000, 64, Open(40_000), (Some(1.05), None)),
    plan("open-8000", 8_000, 64, Open(40_000), (Some(1.05), None)),
];

pub const SMOKE: &[Plan] = &[
    plan("16", 16, 64, Closed, (None, None)),
    plan("big-16", 16, 16 * 1024, Closed, (None, None)),
    plan("open-16", 16, 64, Open(2_000), (None, None)),
];

const fn plan(
    name: &'static str,
    connections: usize,
    message: usize,
    pace: Pace,
    aims: (Option<f64>, Option<f64>),
) -> Plan {
    Plan { name, connections, message, pace, aims }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { name, connections, message, pace, .. } = self;
        write!(f, "{name}: {connections} connections, {message} B, ")?;
        match pace {
            Closed => write!(f, "closed loop"),
            Open(rate) => write!(f, "{rate} requests/s"),
        }
    }
}

impl Side {
    pub const ALL: [Side; 3] = [Side::Hand, Side::Trine, Side::Tokio];

    pub fn parse(name: &str) -> Side {
        let found = Side::ALL.into_iter().find(|side| side.to_string() == name);
        found.expect("hand, trine or tokio")
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Side::Hand => "hand",
            Side::Trine => "trine",
            Side::Tokio => "tokio",
        })
    }
}

/// What the command line says.
pub struct Options {
    pub rounds: usize,
    pub window: Duration,
    pub sides: Vec<Side>,
    pub smoke: bool,
    names: Vec<String>,
}

impl Options {
    pub fn parse(arguments: Vec<String>) -> Options {
        let mut options = Options {
            rounds: 5,
            window: Duration::from_secs(2),
            sides: Side::ALL.to_vec(),
            smoke: false,
            names: Vec::new(),
        };
        if cfg!(debug_assertions) {
            // `cargo test --all-targets`: without optimisation there is nothing to learn.
            options.only_smoke();
        }
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next()?.parse::<f64>().ok();
            match argument.as_str() {
                // Cargo says this to every benchmark.
                "--bench" => {}
                "--smoke" => options.only_smoke(),
                "--rounds" => options.rounds = number().expect("--rounds <number>") as usize,
                "--seconds" => {
                    options.window = Duration::from_secs_f64(number().expect("--seconds <number>"));
                }
                "--sides" => {
                    let list = arguments.next().expect("--sides hand,trine,tokio");
                    options.sides = list.split(',').map(Side::parse).collect();
                }
                name if PLANS.iter().any(|plan| plan.name == name) => options.names.push(argument),
                other => {
                    let names: Vec<_> = PLANS.iter().map(|plan| plan.name).collect();
                    panic!("what is `{other}`? The plans are {}", names.join(" "));
                }
            }
        }
        options
    }

    fn only_smoke(&mut self) {
        (self.smoke, self.rounds) = (true, 1);
        self.window = Duration::from_millis(200);
    }

    pub fn selects(&self, plan: &Plan) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name == plan.name)
    }
}
