//! The picture: what a request costs beside the ring used by hand, a line for each plan and a dot
//! for each side; below it the memory of a silent connection.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Report;
use crate::plan::Work;
use crate::sides::Side;

type Drawn = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: i32 = 1000;
/// Where the dots may be; left of it the plans have their names, right of it trine its number.
const LEFT: i32 = 290;
const RIGHT: i32 = 900;
const LINE: i32 = 24;
const HEAD: i32 = 100;
const GREY: RGBColor = RGBColor(110, 110, 110);

/// A line of dots: sides with how many times the ring's processor time they need.
struct Line {
    name: String,
    dots: Vec<(Side, f64)>,
}

/// Bytes of a silent connection.
struct Bar {
    side: Side,
    bytes: f64,
}

pub fn draw(report: &Report, file: &Path) -> Drawn {
    let (lines, bars) = (lines(report), bars(report));
    let dots_end = HEAD + lines.len() as i32 * LINE;
    let bars_begin = dots_end + 90;
    let bars_end = bars_begin + bars.len() as i32 * LINE;
    let notes = notes(report);
    let height = bars_end + 30 + notes.len() as i32 * 18;
    let root = SVGBackend::new(file, (WIDTH as u32, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    draw_head(&root, report)?;
    draw_dots(&root, &lines, dots_end)?;
    if !bars.is_empty() {
        write(&root, "Memory for each silent connection", (20, bars_begin - 20), 16, BLACK)?;
        draw_bars(&root, &bars, bars_begin)?;
    }
    for (at, note) in notes.iter().enumerate() {
        write(&root, note, (20, bars_end + 20 + at as i32 * 18), 12, GREY)?;
    }
    root.present()?;
    Ok(())
}

fn lines(report: &Report) -> Vec<Line> {
    let dots = |outcome: &super::Outcome| -> Vec<(Side, f64)> {
        let ratio = |side| outcome.ratio(side, Side::Hand, |m| m.core_micros);
        // Trine last, so that no other dot hides it.
        let mut sides = report.sides();
        sides.sort_by_key(|&side| side == Side::Trine);
        sides.into_iter().filter_map(|side| Some((side, ratio(side)?))).collect()
    };
    let lines = report.plans.iter().filter(|outcome| outcome.plan.work != Work::Idle);
    lines.map(|outcome| Line { name: outcome.description.clone(), dots: dots(outcome) }).collect()
}

fn bars(report: &Report) -> Vec<Bar> {
    let idle = report.plans.iter().filter(|outcome| outcome.plan.work == Work::Idle);
    let cells = idle.flat_map(|outcome| &outcome.cells);
    let bar = |cell: &super::Cell| Bar {
        side: cell.side,
        bytes: cell.median(|measured| measured.bytes_per_connection),
    };
    cells.map(bar).filter(|bar| bar.bytes.is_finite()).collect()
}

/// What a reader must not miss.
fn notes(report: &Report) -> Vec<String> {
    let failures = report.failures().into_iter().map(|(side, failure, plans)| {
        let when = if failure.at_start { "could not start" } else { "failed" };
        format!("{side} {when} in {} of {} plans: {}", plans.len(), report.plans.len(), failure.why)
    });
    failures.chain(report.warnings()).collect()
}

fn draw_head(root: &Area, report: &Report) -> Drawn {
    let facts = &report.facts;
    let title = "Echo servers: processor time per request, as a multiple of a ring used by hand";
    write(root, title, (20, 22), 18, BLACK)?;
    let machine =
        format!("{}, {} cores, {}, {}", facts.processor, facts.cores, facts.kernel, facts.date);
    write(root, &machine, (20, 44), 12, GREY)?;
    let mut x = 20;
    for version in facts.versions.iter().filter(|version| report.sides().contains(&version.side)) {
        dot(root, version.side, (x + 6, 68))?;
        let name = match version.side {
            Side::Hand => "ring by hand",
            _ => &version.package,
        };
        write(root, name, (x + 18, 68), 12, BLACK)?;
        x += 38 + name.len() as i32 * 7;
    }
    Ok(())
}

fn draw_dots(root: &Area, lines: &[Line], bottom: i32) -> Drawn {
    let all = || lines.iter().flat_map(|line| &line.dots).map(|&(_, ratio)| ratio);
    // A ratio and its inverse are as far from one, so the scale is logarithmic.
    let low = all().fold(0.85, f64::min) / 1.05;
    let high = all().fold(1.5, f64::max) * 1.05;
    let x = |ratio: f64| {
        let share = (ratio / low).ln() / (high / low).ln();
        LEFT + (share * f64::from(RIGHT - LEFT)) as i32
    };
    for at in (0..lines.len() as i32).step_by(2) {
        let top = HEAD + at * LINE;
        let stripe = [(20, top), (WIDTH - 20, top + LINE)];
        root.draw(&Rectangle::new(stripe, RGBColor(245, 245, 245).filled()))?;
    }
    let label =
        |text: &str, at, pos| write_at(root, text, at, 12, GREY, Pos::new(pos, VPos::Center));
    const TICKS: [f64; 14] =
        [0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0];
    for tick in TICKS.into_iter().filter(|tick| (low..=high).contains(tick)) {
        let (color, width) = if tick == 1.0 { (BLACK, 2) } else { (RGBColor(200, 200, 200), 1) };
        let line = vec![(x(tick), HEAD), (x(tick), bottom)];
        root.draw(&PathElement::new(line, color.stroke_width(width)))?;
        label(&format!("{tick}"), (x(tick), bottom + 12), HPos::Center)?;
    }
    label("cheaper than", (x(1.0) - 8, bottom + 32), HPos::Right)?;
    label("dearer than the ring used by hand", (x(1.0) + 8, bottom + 32), HPos::Left)?;
    for (at, line) in lines.iter().enumerate() {
        let y = HEAD + at as i32 * LINE + LINE / 2;
        write(root, &line.name, (28, y), 13, BLACK)?;
        for &(side, ratio) in &line.dots {
            dot(root, side, (x(ratio), y))?;
            if side == Side::Trine {
                write(root, &format!("trine {ratio:.2}"), (RIGHT + 12, y), 12, color(side))?;
            }
        }
    }
    Ok(())
}

fn draw_bars(root: &Area, bars: &[Bar], top: i32) -> Drawn {
    let most = bars.iter().map(|bar| bar.bytes).fold(1.0, f64::max);
    for (at, bar) in bars.iter().enumerate() {
        let y = top + at as i32 * LINE;
        write(root, bar.side.name(), (28, y + LINE / 2), 13, BLACK)?;
        let length = (bar.bytes.max(0.0) / most * f64::from(RIGHT - LEFT - 60)) as i32;
        let corners = [(LEFT, y + 5), (LEFT + length.max(1), y + LINE - 5)];
        root.draw(&Rectangle::new(corners, color(bar.side).filled()))?;
        let number = format!("{:.0} B", bar.bytes);
        write(root, &number, (LEFT + length + 10, y + LINE / 2), 12, BLACK)?;
    }
    Ok(())
}

fn dot(root: &Area, side: Side, at: (i32, i32)) -> Drawn {
    let radius = if side == Side::Trine { 7 } else { 5 };
    root.draw(&Circle::new(at, radius, color(side).filled()))?;
    root.draw(&Circle::new(at, radius, WHITE.stroke_width(1)))?;
    Ok(())
}

/// `at` is the left end of it, at half its height.
fn write(root: &Area, text: &str, at: (i32, i32), size: i32, color: RGBColor) -> Drawn {
    write_at(root, text, at, size, color, Pos::new(HPos::Left, VPos::Center))
}

fn write_at(
    root: &Area,
    text: &str,
    at: (i32, i32),
    size: i32,
    color: RGBColor,
    pos: Pos,
) -> Drawn {
    let style = ("sans-serif", size).into_font().color(&color).pos(pos);
    root.draw(&Text::new(text, at, style))?;
    Ok(())
}

/// Okabe and Ito's colours, which the colour-blind can tell apart.
fn color(side: Side) -> RGBColor {
    match side {
        Side::Hand => RGBColor(0, 0, 0),
        Side::Trine => RGBColor(213, 94, 0),
        Side::Tokio => RGBColor(0, 114, 178),
        Side::Smol => RGBColor(86, 180, 233),
        Side::Monoio => RGBColor(230, 159, 0),
        Side::Compio => RGBColor(0, 158, 115),
        Side::Glommio => RGBColor(204, 121, 167),
    }
}
