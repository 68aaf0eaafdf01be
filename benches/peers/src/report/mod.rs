//! What came out, as data; how it is shown is next door.

mod markdown;
mod plot;
pub mod terminal;

use std::error::Error;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::facts::Facts;
use crate::measure::{Samples, ratio};
use crate::plan::{Aim, Plan};
use crate::sides::Side;
use crate::window::Measured;

#[derive(Serialize)]
pub struct Report {
    pub facts: Facts,
    /// So short that the numbers mean nothing.
    pub smoke: bool,
    pub rounds: usize,
    pub window_seconds: f64,
    pub plans: Vec<Outcome>,
}

/// Of one plan.
#[derive(Serialize)]
pub struct Outcome {
    pub plan: Plan,
    pub description: String,
    pub cells: Vec<Cell>,
    pub verdicts: Vec<Verdict>,
}

/// Of one side.
#[derive(Serialize)]
pub struct Cell {
    pub side: Side,
    pub rounds: Vec<Measured>,
    /// Of the rounds, number by number; for those who read the file.
    pub median: Option<Measured>,
    pub failure: Option<Failure>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// It never listened: the cause may be this machine.
    pub at_start: bool,
    pub why: String,
}

/// Whether trine reached an aim.
#[derive(Serialize)]
pub struct Verdict {
    pub aim: Aim,
    pub reached: f64,
    pub met: bool,
}

impl Report {
    pub fn write(&self, folder: &Path) -> Result<(), Box<dyn Error>> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("peers.json"), serde_json::to_string_pretty(self)? + "\n")?;
        fs::write(folder.join("peers.md"), markdown::write(self))?;
        plot::draw(self, &folder.join("peers.svg"))
    }

    /// The sides that took part, in their order.
    pub fn sides(&self) -> Vec<Side> {
        let cells = self.plans.first().map(|outcome| &outcome.cells[..]).unwrap_or_default();
        cells.iter().map(|cell| cell.side).collect()
    }

    /// Every failure once, with the plans that it happened to.
    pub fn failures(&self) -> Vec<(Side, &Failure, Vec<&'static str>)> {
        let mut failures: Vec<(Side, &Failure, Vec<&'static str>)> = Vec::new();
        for outcome in &self.plans {
            for cell in &outcome.cells {
                let Some(failure) = &cell.failure else { continue };
                let same = failures
                    .iter_mut()
                    .find(|(side, other, _)| (*side, &other.why) == (cell.side, &failure.why));
                match same {
                    Some((_, _, plans)) => plans.push(outcome.plan.name),
                    None => failures.push((cell.side, failure, vec![outcome.plan.name])),
                }
            }
        }
        failures
    }

    /// Why the numbers are not to be trusted, if so.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.smoke {
            warnings.push("Only a smoke run: the numbers mean nothing.".to_owned());
        }
        let cells = self.plans.iter().flat_map(|outcome| &outcome.cells);
        let rounds: Vec<_> = cells.flat_map(|cell| &cell.rounds).collect();
        let disturbed = rounds.iter().filter(|round| round.disturbed).count();
        if disturbed > 0 {
            let all = rounds.len();
            warnings.push(format!("Other programs disturbed {disturbed} of {all} windows."));
        }
        warnings
    }
}

impl Outcome {
    pub fn new(plan: Plan, mut cells: Vec<Cell>) -> Outcome {
        cells.iter_mut().for_each(Cell::close);
        let description = plan.to_string();
        let mut outcome = Outcome { plan, description, cells, verdicts: Vec::new() };
        outcome.verdicts = plan.aims.iter().filter_map(|&aim| outcome.judge(aim)).collect();
        outcome
    }

    pub fn cell(&self, side: Side) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.side == side && !cell.rounds.is_empty())
    }

    pub fn failed(&self, side: Side) -> bool {
        self.cells.iter().any(|cell| cell.side == side && cell.failure.is_some())
    }

    /// What a request to one side costs, as a multiple of another's, round by round.
    pub fn ratio(&self, one: Side, other: Side, of: fn(&Measured) -> f64) -> Option<f64> {
        let ratio = ratio(&self.cell(one)?.samples(of), &self.cell(other)?.samples(of));
        ratio.is_finite().then_some(ratio)
    }

    fn judge(&self, aim: Aim) -> Option<Verdict> {
        let (reached, most) = match aim {
            Aim::Processor { of, most } => (self.ratio(Side::Trine, of, |m| m.core_micros)?, most),
            Aim::Memory { most } => {
                (self.cell(Side::Trine)?.median(|m| m.bytes_per_connection), most)
            }
        };
        Some(Verdict { aim, reached, met: reached <= most })
    }
}

impl Cell {
    pub fn new(side: Side) -> Cell {
        Cell { side, rounds: Vec::new(), median: None, failure: None }
    }

    /// No more rounds will come.
    fn close(&mut self) {
        let of = |of: fn(&Measured) -> f64| self.median(of);
        self.median = (!self.rounds.is_empty()).then(|| Measured {
            core_micros: of(|m| m.core_micros),
            process_micros: of(|m| m.process_micros),
            requests_per_second: of(|m| m.requests_per_second),
            p50_micros: of(|m| m.p50_micros),
            p99_micros: of(|m| m.p99_micros),
            p999_micros: of(|m| m.p999_micros),
            peak_megabytes: of(|m| m.peak_megabytes),
            bytes_per_connection: of(|m| m.bytes_per_connection),
            stolen: of(|m| m.stolen),
            disturbed: self.rounds.iter().any(|round| round.disturbed),
        });
    }

    pub fn samples(&self, of: fn(&Measured) -> f64) -> Samples {
        let mut samples = Samples::default();
        self.rounds.iter().for_each(|round| samples.push(of(round)));
        samples
    }

    pub fn median(&self, of: fn(&Measured) -> f64) -> f64 {
        self.samples(of).median()
    }
}

impl Verdict {
    pub fn words(&self) -> String {
        let met = if self.met { "met" } else { "MISSED" };
        match self.aim {
            Aim::Processor { of, most } => {
                format!("trine/{of} {:.3}, aim <= {most:.2}: {met}", self.reached)
            }
            Aim::Memory { most } => {
                format!("trine {:.0} B per connection, aim <= {most:.0}: {met}", self.reached)
            }
        }
    }
}
