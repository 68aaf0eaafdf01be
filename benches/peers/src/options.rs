//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::plan::{PLANS, POOLS, Plan, SMOKE};
use crate::sides::Side;

pub struct Options {
    pub rounds: usize,
    pub window: Duration,
    pub sides: Vec<Side>,
    pub plans: Vec<Plan>,
    /// Where the results go.
    pub out: PathBuf,
    pub smoke: bool,
    /// Which pool of receive buffers is best, instead of all else.
    pub pools: bool,
}

const USAGE: &str = "\
[PLAN ...] [--sides hand,trine,...] [--rounds N] [--seconds N] [--out DIRECTORY] [--smoke]
--pools [PLAN ...] [--rounds N] [--seconds N] [--smoke]";

impl Options {
    /// What is wrong, and what would be right, where it cannot be understood.
    pub fn parse(arguments: Vec<String>) -> Result<Options, String> {
        let mut options = Options {
            rounds: 3,
            window: Duration::from_millis(700),
            sides: Side::ALL.to_vec(),
            plans: Vec::new(),
            out: PathBuf::from("target/peers"),
            smoke: false,
            pools: false,
        };
        let mut names = Vec::new();
        let mut arguments = arguments.into_iter();
        if cfg!(debug_assertions) {
            // Without optimisation there is nothing to learn.
            options.only_smoke();
        }
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--smoke" => options.only_smoke(),
                "--pools" => options.pools = true,
                "--rounds" => options.rounds = number(&value()?)? as usize,
                "--seconds" => options.window = Duration::from_secs_f64(number(&value()?)?),
                "--sides" => options.sides = sides(&value()?)?,
                "--out" => options.out = PathBuf::from(value()?),
                option if option.starts_with('-') => {
                    return Err(format!("what is `{option}`? Say {USAGE}"));
                }
                _ => names.push(argument),
            }
        }
        let all = match (options.pools, options.smoke) {
            (false, false) => PLANS,
            (false, true) => SMOKE,
            (true, false) => POOLS,
            (true, true) => &SMOKE[..2],
        };
        options.plans = plans(all, &names)?;
        Ok(options)
    }

    fn only_smoke(&mut self) {
        (self.smoke, self.rounds) = (true, 1);
        self.window = Duration::from_millis(100);
    }
}

fn number(text: &str) -> Result<f64, String> {
    let positive = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    positive.ok_or(format!("`{text}` is no positive number"))
}

fn sides(list: &str) -> Result<Vec<Side>, String> {
    let known = || Side::ALL.map(Side::name).join(",");
    let parse = |name| Side::parse(name).ok_or(format!("`{name}` is none of {}", known()));
    list.split(',').map(parse).collect()
}

/// Those that are named, or all.
fn plans(all: &[Plan], names: &[String]) -> Result<Vec<Plan>, String> {
    if let Some(name) = names.iter().find(|name| !all.iter().any(|plan| plan.is(name))) {
        let known: Vec<_> = all.iter().map(|plan| plan.name).collect();
        return Err(format!("what is `{name}`? The plans are {}", known.join(" ")));
    }
    let named = |plan: &&Plan| names.is_empty() || names.iter().any(|name| plan.is(name));
    Ok(all.iter().filter(named).copied().collect())
}
