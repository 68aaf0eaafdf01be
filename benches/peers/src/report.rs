//! The table.

use super::plan::{Plan, Side};
use super::window::Measured;
use crate::measure::{Samples, ratio};

/// All rounds of one side.
pub struct Row {
    pub side: Side,
    core: Samples,
    process: Samples,
    rate: Samples,
    p50: Samples,
    p99: Samples,
    peak: Samples,
    stolen: Samples,
    disturbed: usize,
}

impl Row {
    pub fn new(side: Side) -> Row {
        let none = Samples::default;
        Row {
            side,
            core: none(),
            process: none(),
            rate: none(),
            p50: none(),
            p99: none(),
            peak: none(),
            stolen: none(),
            disturbed: 0,
        }
    }

    pub fn push(&mut self, measured: Measured) {
        self.core.push(measured.core_micros);
        self.process.push(measured.process_micros);
        self.rate.push(measured.requests_per_second);
        self.p50.push(measured.p50_micros);
        self.p99.push(measured.p99_micros);
        self.peak.push(measured.peak_megabytes);
        self.stolen.push(measured.stolen);
        self.disturbed += usize::from(measured.disturbed);
    }
}

/// `smoke`: of so little, ratios say nothing.
pub fn print(plan: &Plan, rows: &[Row], smoke: bool) {
    println!("\n{plan}");
    println!("          core us/req (least)  process us/req    req/s    p50 us    p99 us  peak MB");
    for row in rows {
        println!(
            "  {:<6} {:>12.3} ({:>5.3}) {:>15.3} {:>8.0} {:>9.0} {:>9.0} {:>8.1}",
            row.side,
            row.core.median(),
            row.core.least(),
            row.process.median(),
            row.rate.median(),
            row.p50.median(),
            row.p99.median(),
            row.peak.median()
        );
        let stolen = row.stolen.median();
        if stolen > 0.01 {
            println!("         the hypervisor took {:.0} % of the core", stolen * 100.0);
        }
    }
    let disturbed: usize = rows.iter().map(|row| row.disturbed).sum();
    if disturbed > 0 {
        println!("  {disturbed} windows were disturbed by other programs");
    }
    if smoke {
        return;
    }
    compare(rows, Side::Trine, Side::Hand, plan.aims.0);
    compare(rows, Side::Trine, Side::Tokio, plan.aims.1);
    compare(rows, Side::Hand, Side::Tokio, None);
}

fn compare(rows: &[Row], one: Side, other: Side, aim: Option<f64>) {
    let of = |side| rows.iter().find(|row| row.side == side);
    let (Some(this), Some(that)) = (of(one), of(other)) else { return };
    let core = ratio(&this.core, &that.core);
    let process = ratio(&this.process, &that.process);
    print!("  {one}/{other} {core:.3} (process {process:.3})");
    match aim {
        Some(most) if core > most => println!(", aim <= {most:.2}  MISSED"),
        Some(most) => println!(", aim <= {most:.2}"),
        None => println!(),
    }
}
