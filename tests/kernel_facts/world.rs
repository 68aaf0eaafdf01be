//! Which kernel this is, how a row is printed, and processes for tests that must be alone.

use std::fmt;
use std::process::Command;
use std::sync::LazyLock;

/// Set in the process that [`alone`] starts.
const ALONE: &str = "KERNEL_FACTS_ALONE";

/// Cancelled, having had no effect.
pub const CANCELLED: i32 = -libc::ECANCELED;
/// A cancel's answer when it finds no such operation, or one that is past cancelling.
pub const NOT_FOUND: i32 = -libc::ENOENT;

/// A ring mode of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No setup flags: task work runs whenever the thread returns from the kernel.
    Default,
    /// `SINGLE_ISSUER | DEFER_TASKRUN`: task work runs only inside an enter with `GETEVENTS`.
    Defer,
}

pub const MODES: [Mode; 2] = [Mode::Default, Mode::Defer];

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Default => "default",
            Mode::Defer => "defer",
        })
    }
}

/// Prints a row about the cancels of a target.
pub fn row(what: &str, mode: Mode, cancels: &[i32], target: &[i32]) {
    println!("{what} | {mode} | cancel {} | target {}", names(cancels), names(target));
}

/// Prints any other row.
pub fn note(what: &str, mode: Mode, seen: impl fmt::Display) {
    println!("{what} | {mode} | {seen}");
}

/// The results of several CQEs.
pub fn names(results: &[i32]) -> String {
    results.iter().map(|&result| name(result)).collect::<Vec<_>>().join(", ")
}

/// A result as the table writes it: `5`, `-ENOENT`.
pub fn name(result: i32) -> String {
    let name = match -result {
        libc::EAGAIN => "-EAGAIN",
        libc::EALREADY => "-EALREADY",
        libc::ECANCELED => "-ECANCELED",
        libc::EINTR => "-EINTR",
        libc::EMFILE => "-EMFILE",
        libc::ENOBUFS => "-ENOBUFS",
        libc::ENOENT => "-ENOENT",
        _ => return result.to_string(),
    };
    name.to_owned()
}

/// Whether the running kernel is `major.minor` or newer.
pub fn since(major: u32, minor: u32) -> bool {
    *RELEASE >= (major, minor)
}

static RELEASE: LazyLock<(u32, u32)> = LazyLock::new(|| {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => panic!("a kernel release of the form major.minor, not {release:?}"),
    }
});

/// Runs `body` in a process of its own, where it is the only test: for what is shared by all
/// threads (limits), and for what a concurrent fork would disturb (the release of a file). `test`
/// is the full name of the calling test.
pub fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let output = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", test, "--quiet", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .expect("the test binary runs again");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    out.lines().filter(|line| line.contains(" | ")).for_each(|row| println!("{row}"));
    // A misspelt name would run no test at all, successfully.
    assert!(output.status.success() && out.contains("1 passed"), "{test} alone:\n{out}{err}");
}
