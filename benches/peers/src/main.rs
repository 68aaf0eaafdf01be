//! What a request costs an echo server: processor time per request, by the ring used by hand, by
//! trine and by its peers, in turn.
//!
//! The server is this program once more, alone on one core; the load comes from another core, over
//! loopback, and never sleeps, so that no server pays for waking it. The price of a request is the
//! share of the window in which the server's core was not idle, divided by the requests answered:
//! the kernel does part of a server's work in softirqs that are charged to no process.
//!
//! `cargo run --release` measures everything; the readme says what else there is.

mod buffers;
mod facts;
mod load;
mod options;
mod plan;
mod pools;
mod report;
mod server;
mod sides;
mod window;

#[path = "../../hand/mod.rs"]
mod hand;
#[path = "../../measure/mod.rs"]
mod measure;

use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::facts::Facts;
use crate::measure::{Cores, pin, raise_descriptors};
use crate::options::Options;
use crate::plan::{Plan, Work};
use crate::pools::Shape;
use crate::report::{Cell, Failure, Outcome, Report};
use crate::server::Server;
use crate::sides::Side;
use crate::window::{Measured, Retries};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == server::ROLE) {
        server::serve(&arguments[1..]);
        return ExitCode::FAILURE;
    }
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::FAILURE;
        }
    };
    if options.pools {
        return if pools::measure(&options) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let report = measure_all(&options);
    if let Err(error) = report.write(&options.out) {
        eprintln!("nothing could be written to {}: {error}", options.out.display());
        return ExitCode::FAILURE;
    }
    println!("\nwritten to {}: peers.md, peers.json, peers.svg", options.out.display());
    if all_is_well(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure_all(options: &Options) -> Report {
    let began = Instant::now();
    let facts = Facts::gather();
    let cores = Cores::ours();
    check_descriptors(&options.plans);
    pin(cores.helper);
    let cells = options.plans.len() * options.sides.len();
    println!(
        "{cells} cells, {} rounds of {:?} in turn: some {:.0} minutes; server on core {}, load on \
         core {}",
        options.rounds,
        options.window,
        minutes(cells, options),
        cores.measured,
        cores.helper
    );
    let mut report = Report {
        facts,
        smoke: options.smoke,
        rounds: options.rounds,
        window_seconds: options.window.as_secs_f64(),
        plans: Vec::new(),
    };
    let mut retries = Retries::default();
    for &plan in &options.plans {
        let outcome = Outcome::new(plan, measure_plan(&plan, options, cores, &mut retries));
        report::terminal::print(&outcome, options.smoke);
        report.plans.push(outcome);
    }
    println!("\nthat took {:.0} s", began.elapsed().as_secs_f64());
    report
}

/// Raises the limit as far as may be, and says what that is not enough for.
fn check_descriptors(plans: &[Plan]) {
    let limit = raise_descriptors();
    // Some are for other things.
    for plan in plans.iter().filter(|plan| plan.connections + 64 > limit) {
        eprintln!("warning: {} will fail with {limit} descriptors; raise `ulimit -n`", plan.name);
    }
}

/// A window with its warm-up, a quarter of a second for all the rest, and rather more than less.
fn minutes(cells: usize, options: &Options) -> f64 {
    let each = options.window.as_secs_f64() * 1.2 + 0.25;
    ((cells * options.rounds) as f64 * each / 60.0).ceil()
}

/// The sides take turns, so that what slows the machine down for a while slows all of them.
fn measure_plan(plan: &Plan, options: &Options, cores: Cores, retries: &mut Retries) -> Vec<Cell> {
    let mut cells: Vec<Cell> = options.sides.iter().map(|&side| Cell::new(side)).collect();
    for _ in 0..options.rounds {
        for cell in cells.iter_mut().filter(|cell| cell.failure.is_none()) {
            retries.earn();
            match measure_once(plan, cell.side, None, options, cores, retries) {
                Ok(measured) => cell.rounds.push(measured),
                Err(failure) => cell.failure = Some(failure),
            }
        }
    }
    cells
}

fn measure_once(
    plan: &Plan,
    side: Side,
    pool: Option<Shape>,
    options: &Options,
    cores: Cores,
    retries: &mut Retries,
) -> Result<Measured, Failure> {
    let failure = |at_start| move |error: io::Error| Failure { at_start, why: error.to_string() };
    let server = Server::start(side, cores.measured, pool).map_err(failure(true))?;
    if plan.work == Work::Idle {
        return measure_idle(&server, plan).map_err(failure(false));
    }
    let measured = load::start(server.address, plan).and_then(|mut load| {
        load.run(options.window / 5)?;
        let window = options.window;
        let measured = window::measure_undisturbed(&server, &mut *load, cores, window, retries);
        // First the server: the load leaves without saying goodbye, which a server may take ill.
        drop(server);
        measured
    });
    measured.map_err(failure(false))
}

fn measure_idle(server: &Server, plan: &Plan) -> io::Result<Measured> {
    let before = window::resident_bytes(server.id())?;
    let _load = load::start(server.address, plan)?;
    // Time to give back what only the messages needed.
    thread::sleep(Duration::from_millis(500));
    window::measure_idle(server, before, plan.connections)
}

/// Whether everything worked. That a peer cannot even start is not our failure: it may want what
/// this machine does not give.
fn all_is_well(report: &Report) -> bool {
    let ours = [Side::Hand, Side::Trine];
    let mut well = true;
    for (side, failure, plans) in report.failures() {
        let when = if failure.at_start { "could not start" } else { "failed under load" };
        println!("{side} {when} in {}: {}", plans.join(", "), failure.why);
        well &= failure.at_start && !ours.contains(&side);
    }
    well
}
