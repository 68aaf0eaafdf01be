//! Figures of one process: what an operation, a child, a cancellation, a timeout and a sleep cost,
//! next to a ring used by hand and to tokio.
//!
//! The sides take turns, round by round, on one core, and what counts are the ratios: a machine
//! that is slow for a while is slow for all.
//!
//! `cargo bench --bench figures` measures everything; with `-- nop spawn` some of it. `--rounds 3`,
//! `--sides trine,tokio` and `--smoke` (each thing once and small, to see that it runs) do what
//! they say.

mod hand;
mod measure;

mod figures {
    pub mod by_hand;
    pub mod by_tokio;
    pub mod by_trine;
    pub mod clock;
    pub mod crowd;
    pub mod registry;
    pub mod scale;
}

use figures::crowd;
use figures::registry::{Aim, FIGURES, Figure, Side};
use figures::scale::Scale;
use measure::{Cores, Samples, pin, ratio};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == crowd::ROLE) {
        return crowd::hold(&arguments[1..]);
    }
    let options = Options::parse(arguments);
    let cores = Cores::ours();
    pin(cores.measured);
    println!(
        "{} rounds in turn on core {}; ratios are medians over the rounds",
        options.rounds, cores.measured
    );
    for figure in FIGURES {
        if options.selects(figure) {
            measure(figure, &options);
        }
    }
}

fn measure(figure: &Figure, options: &Options) {
    let sides: Vec<_> =
        figure.sides.iter().filter(|(side, _)| options.sides.contains(side)).collect();
    let mut samples = vec![Samples::default(); sides.len()];
    for _ in 0..options.rounds {
        for ((_, run), samples) in sides.iter().zip(&mut samples) {
            samples.push(run(options.scale));
        }
    }
    println!("\n{}: {}", figure.name, figure.about);
    for ((side, _), samples) in sides.iter().zip(&samples) {
        let (median, least) = (samples.median(), samples.least());
        println!("  {side:<6} {median:>9.1} ns  (least {least:.1})");
    }
    if options.scale == Scale::Smoke {
        return; // Of so little, ratios say nothing.
    }
    let of = |wanted| sides.iter().position(|(side, _)| *side == wanted).map(|at| &samples[at]);
    for aim in figure.aims {
        let (Aim::Ratio(one, other, _) | Aim::Gap(one, other, _) | Aim::Look(one, other)) = *aim;
        let (Some(this), Some(that)) = (of(one), of(other)) else { continue };
        let (times, more) = (ratio(this, that), this.median() - that.median());
        match *aim {
            Aim::Ratio(_, _, most) => {
                println!("  {one}/{other} {times:.2}, aim <= {most:.2}{}", verdict(times <= most));
            }
            Aim::Gap(_, _, most) => {
                println!(
                    "  {one}-{other} {more:+.1} ns, aim <= +{most:.0}{}",
                    verdict(more <= most)
                );
            }
            Aim::Look(..) => println!("  {one}/{other} {times:.2}"),
        }
    }
}

fn verdict(reached: bool) -> &'static str {
    if reached { "" } else { "  MISSED" }
}

struct Options {
    rounds: usize,
    scale: Scale,
    sides: Vec<Side>,
    names: Vec<String>,
}

impl Options {
    fn parse(arguments: Vec<String>) -> Options {
        let mut options =
            Options { rounds: 9, scale: Scale::Full, sides: Side::ALL.to_vec(), names: Vec::new() };
        if cfg!(debug_assertions) {
            // `cargo test --all-targets`: without optimisation there is nothing to learn.
            (options.scale, options.rounds) = (Scale::Smoke, 1);
        }
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // Cargo says this to every benchmark.
                "--bench" => {}
                "--smoke" => (options.scale, options.rounds) = (Scale::Smoke, 1),
                "--rounds" => {
                    let number = arguments.next().and_then(|number| number.parse().ok());
                    options.rounds = number.expect("--rounds <number>");
                }
                "--sides" => {
                    let list = arguments.next().expect("--sides hand,trine,tokio");
                    options.sides = Side::parse_list(&list);
                }
                name if FIGURES.iter().any(|figure| figure.name.starts_with(name)) => {
                    options.names.push(argument);
                }
                other => {
                    let names: Vec<_> = FIGURES.iter().map(|figure| figure.name).collect();
                    panic!("what is `{other}`? The figures are {}", names.join(" "));
                }
            }
        }
        options
    }

    fn selects(&self, figure: &Figure) -> bool {
        self.names.is_empty()
            || self.names.iter().any(|name| figure.name.starts_with(name.as_str()))
    }
}
