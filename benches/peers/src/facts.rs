//! Where and when this was measured, and what.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use serde::Serialize;

use crate::sides::Side;

#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    pub date: String,
    pub processor: String,
    pub cores: usize,
    pub kernel: String,
    pub versions: Vec<Version>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Version {
    pub side: Side,
    /// The name of its crate, and which one.
    pub package: String,
}

impl Facts {
    /// To be asked before this thread is pinned: afterwards it sees one core only.
    pub fn gather() -> Facts {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Facts {
            date: today(),
            processor: processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: available_parallelism().map_or(1, usize::from),
            kernel: format!("Linux {}", kernel.trim()),
            versions: Side::ALL.map(version).into(),
        }
    }
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn today() -> String {
    // SAFETY: the call takes no memory.
    let now = unsafe { libc::time(std::ptr::null_mut()) };
    // SAFETY: an all-zero `tm` is a valid one.
    let mut date: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both are valid across the call.
    unsafe { libc::gmtime_r(&now, &mut date) };
    format!("{}-{:02}-{:02}", 1900 + date.tm_year, date.tm_mon + 1, date.tm_mday)
}

fn version(side: Side) -> Version {
    let mut package = format!("{} {}", side.package(), locked(side.package()));
    if let (Side::Trine, Some(commit)) = (side, commit()) {
        package.push_str(&format!(" ({commit})"));
    }
    Version { side, package }
}

/// The version that this program was built with.
fn locked(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let after = |text: &'static str, start: String| Some(text.split_once(&start)?.1);
    // Where there are several, the entry of this crate says which one is its own.
    let own = after(lock, format!("name = \"{}\"\n", env!("CARGO_PKG_NAME")))
        .and_then(|own| own.split("\n\n").next())
        .and_then(|own| after(own, format!("\"{package} ")));
    let only = || after(lock, format!("name = \"{package}\"\nversion = \""));
    own.or_else(only).and_then(|text| text.split('"').next()).unwrap_or("of unknown version")
}

/// Trine changes between versions too.
fn commit() -> Option<String> {
    let arguments = ["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"];
    let output = Command::new("git").args(arguments).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !commit.trim().is_empty()).then(|| commit.trim().to_owned())
}
