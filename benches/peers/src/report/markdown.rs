//! The tables: one for each kind of number, a line for each plan, a column for each side.

use std::fmt::Write;

use super::{Outcome, Report};
use crate::sides::Side;
use crate::window::Measured;

pub fn write(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_all(report, &mut text);
    text
}

fn write_all(report: &Report, text: &mut String) -> std::fmt::Result {
    let facts = &report.facts;
    writeln!(text, "# Echo servers beside each other\n")?;
    writeln!(
        text,
        "{}; {}, {} cores; {}.",
        facts.date, facts.processor, facts.cores, facts.kernel
    )?;
    let versions: Vec<_> = facts
        .versions
        .iter()
        .filter(|version| report.sides().contains(&version.side))
        .map(|version| match version.side {
            Side::Hand => format!("hand: a ring used by hand ({})", version.package),
            _ => version.package.clone(),
        })
        .collect();
    writeln!(text, "Sides: {}.", versions.join(", "))?;
    writeln!(
        text,
        "Medians of {} rounds in turn, {} s each; one server thread on a core of its own, 16 KiB per \
         read.\n",
        report.rounds, report.window_seconds
    )?;
    for warning in report.warnings() {
        writeln!(text, "**{warning}**\n")?;
    }
    writeln!(text, "![Processor time beside the ring used by hand](peers.svg)")?;
    write_failures(report, text)?;
    write_verdicts(report, text)?;

    let core = "Processor time per request, µs (in brackets: times that of the ring used by hand)";
    write_table(report, text, core, |outcome, side| {
        let micros = number(outcome.cell(side)?.median(|m| m.core_micros))?;
        Some(match outcome.ratio(side, Side::Hand, |m| m.core_micros) {
            Some(ratio) if side != Side::Hand => format!("{micros} ({ratio:.2})"),
            _ => micros,
        })
    })?;
    type Number = fn(&Measured) -> f64;
    let others: [(&str, Number); 6] = [
        ("Requests per second", |m| m.requests_per_second),
        ("Half of the answers took at most, µs (p50)", |m| m.p50_micros),
        ("99 of 100 took at most, µs (p99)", |m| m.p99_micros),
        ("999 of 1000 took at most, µs (p99.9)", |m| m.p999_micros),
        ("Memory of the server at its peak, MB", |m| m.peak_megabytes),
        ("Memory for each silent connection, bytes", |m| m.bytes_per_connection),
    ];
    for (title, of) in others {
        write_table(report, text, title, |outcome, side| number(outcome.cell(side)?.median(of)))?;
    }
    Ok(())
}

fn write_failures(report: &Report, text: &mut String) -> std::fmt::Result {
    let failures = report.failures();
    if failures.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n## What failed\n")?;
    for (side, failure, plans) in failures {
        let when = if failure.at_start { "could not start" } else { "failed under load" };
        writeln!(text, "- {side} {when}: {} (in {})", failure.why, plans.join(", "))?;
    }
    Ok(())
}

fn write_verdicts(report: &Report, text: &mut String) -> std::fmt::Result {
    let judged: Vec<_> = report.plans.iter().filter(|plan| !plan.verdicts.is_empty()).collect();
    if judged.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n## Aims\n")?;
    for outcome in judged {
        for verdict in &outcome.verdicts {
            writeln!(text, "- {}: {}", outcome.plan.name, verdict.words())?;
        }
    }
    Ok(())
}

/// Leaves out plans to which the number does not apply.
fn write_table(
    report: &Report,
    text: &mut String,
    title: &str,
    entry: impl Fn(&Outcome, Side) -> Option<String>,
) -> std::fmt::Result {
    let sides = report.sides();
    let mut lines = String::new();
    for outcome in &report.plans {
        let entries: Vec<_> = sides.iter().map(|&side| entry(outcome, side)).collect();
        if entries.iter().any(Option::is_some) {
            write!(lines, "| {}: {} |", outcome.plan.name, outcome.description)?;
            for (&side, entry) in sides.iter().zip(entries) {
                let failed = || if outcome.failed(side) { "failed" } else { "" }.to_owned();
                write!(lines, " {} |", entry.unwrap_or_else(failed))?;
            }
            writeln!(lines)?;
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n## {title}\n")?;
    let names: Vec<_> = sides.iter().map(|side| side.name()).collect();
    writeln!(text, "| | {} |", names.join(" | "))?;
    writeln!(text, "|---|{}", "---:|".repeat(sides.len()))?;
    text.push_str(&lines);
    Ok(())
}

/// Three digits or a little more.
fn number(value: f64) -> Option<String> {
    value.is_finite().then(|| match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    })
}
