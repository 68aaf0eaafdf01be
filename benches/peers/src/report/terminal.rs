//! One plan's table, as soon as there is one.

use super::{Cell, Outcome};
use crate::plan::Work;
use crate::sides::Side;

/// `smoke`: of so little, ratios say nothing.
pub fn print(outcome: &Outcome, smoke: bool) {
    println!("\n{}: {}", outcome.plan.name, outcome.description);
    if outcome.plan.work == Work::Idle {
        println!("           B per connection  peak MB");
    } else {
        println!(
            "           core us/req (least)  process us/req    req/s    p50 us    p99 us  \
             p99.9 us  peak MB"
        );
    }
    for cell in &outcome.cells {
        match &cell.failure {
            Some(failure) => println!("  {:<8} failed: {}", cell.side, failure.why),
            None if outcome.plan.work == Work::Idle => print_idle(cell),
            None => print_cell(cell),
        }
    }
    let rounds = || outcome.cells.iter().flat_map(|cell| &cell.rounds);
    let disturbed = rounds().filter(|round| round.disturbed).count();
    if disturbed > 0 {
        println!("  {disturbed} of {} windows were disturbed by other programs", rounds().count());
    }
    if smoke {
        return;
    }
    for side in [Side::Hand, Side::Tokio] {
        if let Some(ratio) = outcome.ratio(Side::Trine, side, |m| m.core_micros) {
            println!("  trine/{side} {ratio:.3}");
        }
    }
    for verdict in &outcome.verdicts {
        println!("  {}", verdict.words());
    }
}

fn print_cell(cell: &Cell) {
    println!(
        "  {:<8} {:>10.3} ({:>6.3}) {:>15.3} {:>8.0} {:>9.0} {:>9.0} {:>9.0} {:>8.1}",
        cell.side,
        cell.median(|m| m.core_micros),
        cell.samples(|m| m.core_micros).least(),
        cell.median(|m| m.process_micros),
        cell.median(|m| m.requests_per_second),
        cell.median(|m| m.p50_micros),
        cell.median(|m| m.p99_micros),
        cell.median(|m| m.p999_micros),
        cell.median(|m| m.peak_megabytes),
    );
    let stolen = cell.median(|m| m.stolen);
    if stolen > 0.01 {
        println!("           the hypervisor took {:.0} % of the core", stolen * 100.0);
    }
}

fn print_idle(cell: &Cell) {
    println!(
        "  {:<8} {:>17.0} {:>8.1}",
        cell.side,
        cell.median(|m| m.bytes_per_connection),
        cell.median(|m| m.peak_megabytes),
    );
}
