//! Which pool of receive buffers serves trine best: the one that adapts itself, beside fixed ones.

use std::fmt;

use crate::measure::{Cores, Samples, pin, raise_descriptors, ratio};
use crate::options::Options;
use crate::plan::Plan;
use crate::sides::Side;
use crate::window::Retries;

/// A pool that neither grows nor shrinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Bytes of a buffer.
    pub buffer: u32,
    pub count: u16,
    /// Each is filled piece by piece.
    pub incremental: bool,
}

const fn plain(kib: u32, count: u16) -> Option<Shape> {
    Some(Shape { buffer: kib * 1024, count, incremental: false })
}

const fn incremental(kib: u32, count: u16) -> Option<Shape> {
    Some(Shape { buffer: kib * 1024, count, incremental: true })
}

/// `None`: the one that adapts itself, as users get it.
const SHAPES: [Option<Shape>; 11] = [
    None,
    plain(4, 256),
    plain(4, 1024),
    plain(16, 64),
    plain(16, 256),
    plain(16, 1024),
    plain(64, 256),
    incremental(16, 256),
    incremental(64, 64),
    incremental(64, 256),
    incremental(256, 64),
];

/// How much worse than the best fixed one the adaptive one may be.
const AIM: f64 = 1.05;

impl Shape {
    pub fn parse(text: &str) -> Option<Shape> {
        let (size, incremental) = match text.strip_suffix('+') {
            Some(size) => (size, true),
            None => (text, false),
        };
        let (buffer, count) = size.split_once('x')?;
        Some(Shape { buffer: buffer.parse().ok()?, count: count.parse().ok()?, incremental })
    }

    /// What [`parse`](Shape::parse) reads.
    fn sign(self) -> &'static str {
        if self.incremental { "+" } else { "" }
    }

    pub fn name(self) -> String {
        format!("{}x{}{}", self.buffer, self.count, self.sign())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}Kx{}{}", self.buffer / 1024, self.count, self.sign()))
    }
}

/// Prints a row for each plan: processor time per request with each pool. `false`: something failed.
pub fn measure(options: &Options) -> bool {
    let (cores, _) = (Cores::ours(), raise_descriptors());
    pin(cores.helper);
    print!("{:<13}", "core us/req");
    for shape in SHAPES {
        print!("{:>9}", shape.map_or("adaptive".to_owned(), |shape| shape.to_string()));
    }
    println!("   adaptive/best fixed");
    let mut well = true;
    for plan in &options.plans {
        well &= measure_plan(plan, options, cores);
    }
    well
}

fn measure_plan(plan: &Plan, options: &Options, cores: Cores) -> bool {
    let mut samples = vec![Samples::default(); SHAPES.len()];
    let mut retries = Retries::default();
    for _ in 0..options.rounds {
        for (shape, samples) in SHAPES.iter().zip(&mut samples) {
            retries.earn();
            match crate::measure_once(plan, Side::Trine, *shape, options, cores, &mut retries) {
                Ok(measured) => samples.push(measured.core_micros),
                Err(failure) => {
                    println!("{:<13} failed: {}", plan.name, failure.why);
                    return false;
                }
            }
        }
    }
    print!("{:<13}", plan.name);
    samples.iter().for_each(|samples| print!("{:>9.3}", samples.median()));
    let (adaptive, fixed) = samples.split_first().expect("there is one");
    let best = fixed.iter().min_by(|a, b| a.median().total_cmp(&b.median())).expect("and more");
    let times = ratio(adaptive, best);
    let reached = options.smoke || times <= AIM;
    println!("   {times:.3}{}", if reached { "" } else { "  MISSED" });
    true
}
