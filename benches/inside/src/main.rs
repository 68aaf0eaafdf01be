//! Every thing, round by round: the sides take turns on one core, and what counts are the ratios, because
//! a machine that is slow for a while is slow for all.
//!
//! `cargo run --release` measures everything; with `-- nop spawn` some of it. `--rounds 3`, `--sides trine,tokio`
//! and `--smoke` (each thing once, to see that it runs) do what they say. With `--fio` that program reads files
//! beside the others.

use trine_inside::measure::{Cores, Samples, pin, ratio};
use trine_inside::{Aim, Side, THINGS, Thing, crowd};

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
    for thing in THINGS.iter().filter(|thing| options.selects(thing)) {
        measure(thing, &options);
    }
}

fn measure(thing: &Thing, options: &Options) {
    let sides: Vec<_> =
        thing.sides.iter().filter(|(side, _)| options.sides.contains(side)).collect();
    let mut samples = vec![Samples::default(); sides.len()];
    let times = if options.smoke { 1 } else { thing.times };
    for _ in 0..options.rounds {
        for ((_, run), samples) in sides.iter().zip(&mut samples) {
            samples.push(run(times).as_nanos() as f64 / (times * thing.each) as f64);
        }
    }
    println!("\n{}: {}", thing.name, thing.about);
    for ((side, _), samples) in sides.iter().zip(&samples) {
        let (median, least) = (samples.median(), samples.least());
        println!("  {side:<6} {median:>9.1} ns  (least {least:.1})");
    }
    if options.smoke {
        return; // Of so little, ratios say nothing.
    }
    let of = |wanted| sides.iter().position(|(side, _)| *side == wanted).map(|at| &samples[at]);
    for aim in thing.aims {
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
    smoke: bool,
    sides: Vec<Side>,
    names: Vec<String>,
}

impl Options {
    fn parse(arguments: Vec<String>) -> Options {
        let mut options =
            Options { rounds: 9, smoke: false, sides: Side::USUAL.to_vec(), names: Vec::new() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--smoke" => (options.smoke, options.rounds) = (true, 1),
                "--fio" => options.sides.push(Side::Fio),
                "--rounds" => {
                    let number = arguments.next().and_then(|number| number.parse().ok());
                    options.rounds = number.expect("--rounds <number>");
                }
                "--sides" => {
                    let list = arguments.next().expect("--sides hand,trine,tokio,smol");
                    options.sides = Side::parse_list(&list);
                }
                name if THINGS.iter().any(|thing| thing.name.starts_with(name)) => {
                    options.names.push(argument);
                }
                other => {
                    let names: Vec<_> = THINGS.iter().map(|thing| thing.name).collect();
                    panic!("what is `{other}`? The things are {}", names.join(" "));
                }
            }
        }
        options
    }

    fn selects(&self, thing: &Thing) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| thing.name.starts_with(name.as_str()))
    }
}
