//! One window of time: what the server and its core did in it.

use std::fs;
use std::time::{Duration, Instant};

use super::load::Load;
use super::server::Server;
use crate::measure::Cores;

/// What came out, per request where it says so.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Microseconds per request in which the server's core was not idle.
    pub core_micros: f64,
    /// Microseconds per request that the server's process was charged for.
    pub process_micros: f64,
    pub requests_per_second: f64,
    pub p50_micros: f64,
    pub p99_micros: f64,
    /// The most memory the server ever had, in megabytes.
    pub peak_megabytes: f64,
    /// The share of the core that the hypervisor gave to somebody else.
    pub stolen: f64,
    /// Whether programs that have nothing to do with this ran on our cores. An eighth of a core is
    /// let pass: interrupts that find a core idle are charged to nobody.
    pub disturbed: bool,
}

/// Measures again, a few times, if others got in the way: on a shared machine they do.
pub fn measure_undisturbed(
    server: &Server,
    load: &mut Load,
    cores: Cores,
    window: Duration,
) -> Measured {
    let mut measured = measure(server, load, cores, window);
    for _ in 0..4 {
        if !measured.disturbed {
            break;
        }
        measured = measure(server, load, cores, window);
    }
    measured
}

fn measure(server: &Server, load: &mut Load, cores: Cores, window: Duration) -> Measured {
    load.answers.clear();
    let (began, before) = (Instant::now(), Usage::read(server.id(), cores));
    load.run(window);
    let (elapsed, after) = (began.elapsed(), Usage::read(server.id(), cores));
    let requests = load.answers.total() as f64;
    let idle = after.idle - before.idle;
    let stolen = after.stolen - before.stolen;
    let busy = elapsed.saturating_sub(idle).saturating_sub(stolen);
    let process = after.process - before.process;
    // The server's core has the server and its softirqs, the other one the load and its own.
    let strangers = busy
        .saturating_sub(process)
        .saturating_sub(after.softirqs.measured - before.softirqs.measured);
    let absent = elapsed
        .saturating_sub(after.load - before.load)
        .saturating_sub(after.softirqs.helper - before.softirqs.helper);
    Measured {
        core_micros: busy.as_secs_f64() * 1e6 / requests,
        process_micros: process.as_secs_f64() * 1e6 / requests,
        requests_per_second: requests / elapsed.as_secs_f64(),
        p50_micros: load.answers.quantile(0.50) / 1e3,
        p99_micros: load.answers.quantile(0.99) / 1e3,
        peak_megabytes: peak_kibibytes(server.id()) * 1024.0 / 1e6,
        stolen: stolen.as_secs_f64() / elapsed.as_secs_f64(),
        disturbed: strangers.max(absent) > elapsed.mul_f64(0.12),
    }
}

/// What has been used up since the machine and the two processes started.
struct Usage {
    /// Of the server's core.
    idle: Duration,
    stolen: Duration,
    process: Duration,
    load: Duration,
    softirqs: Softirqs,
}

/// What the kernel's softirq threads of the two cores have used.
struct Softirqs {
    measured: Duration,
    helper: Duration,
}

impl Usage {
    fn read(server: u32, cores: Cores) -> Usage {
        let (idle, stolen) = core_times(cores.measured);
        Usage {
            idle,
            stolen,
            process: process_time(server),
            load: process_time(std::process::id()),
            softirqs: Softirqs {
                measured: softirq_time(cores.measured),
                helper: softirq_time(cores.helper),
            },
        }
    }
}

/// How long a core was idle, and how long it was taken from us. Idle time is measured by the clock
/// (and told in steps of 10 ms), whereas the busy kinds only count ticks: so what was busy is what
/// was not idle.
fn core_times(core: usize) -> (Duration, Duration) {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let name = format!("cpu{core} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name)).expect("the core's line");
    let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let [_user, _nice, _system, idle, iowait, _irq, _softirq, stolen, ..] = fields[..] else {
        panic!("/proc/stat looks different: {line}");
    };
    (ticks(idle + iowait), ticks(stolen))
}

fn ticks(ticks: u64) -> Duration {
    // SAFETY: the call takes a plain number.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

/// Nothing where the thread cannot be seen, as in a container.
fn softirq_time(core: usize) -> Duration {
    let name = format!("ksoftirqd/{core}\n");
    let is_it = |process: &u32| {
        fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|comm| comm == name)
    };
    // Kernel threads of the first cores are among the first processes.
    (2..200).find(is_it).map(process_time).unwrap_or_default()
}

/// User and system time of all threads of a process, to the nanosecond.
fn process_time(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the threads of the server");
    let nanos = threads.flatten().map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanos.sum())
}

fn peak_kibibytes(process: u32) -> f64 {
    let status =
        fs::read_to_string(format!("/proc/{process}/status")).expect("the server's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("the peak of its memory")
}
