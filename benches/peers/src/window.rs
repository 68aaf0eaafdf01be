//! One window of time: what the server and its core did in it.

use std::time::{Duration, Instant};
use std::{fs, io};

use serde::Serialize;

use crate::load::Load;
use crate::measure::Cores;
use crate::server::Server;

/// What came out, per request where it says so. NaN, in JSON null: it does not apply.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Microseconds per request in which the server's core was not idle.
    pub core_micros: f64,
    /// Microseconds per request that the server's process was charged for.
    pub process_micros: f64,
    pub requests_per_second: f64,
    pub p50_micros: f64,
    pub p99_micros: f64,
    pub p999_micros: f64,
    /// The most memory the server ever had, in megabytes.
    pub peak_megabytes: f64,
    /// What each silent connection added to the server's memory.
    pub bytes_per_connection: f64,
    /// The share of the core that the hypervisor gave to somebody else.
    pub stolen: f64,
    /// Whether programs that have nothing to do with this ran on our cores. An eighth of a core is
    /// let pass: interrupts that find a core idle are charged to nobody.
    pub disturbed: bool,
}

/// Windows that may be measured again because others got in the way. There is one for every four
/// cells, so that the time that everything takes has a limit.
#[derive(Default)]
pub struct Retries(f64);

impl Retries {
    pub fn earn(&mut self) {
        self.0 += 0.25;
    }

    fn spend(&mut self) -> bool {
        let one_left = self.0 >= 1.0;
        if one_left {
            self.0 -= 1.0;
        }
        one_left
    }
}

/// Measures again if others got in the way: on a shared machine they do.
pub fn measure_undisturbed(
    server: &Server,
    load: &mut dyn Load,
    cores: Cores,
    window: Duration,
    retries: &mut Retries,
) -> io::Result<Measured> {
    loop {
        let measured = measure(server, load, cores, window)?;
        if !measured.disturbed || !retries.spend() {
            return Ok(measured);
        }
    }
}

fn measure(
    server: &Server,
    load: &mut dyn Load,
    cores: Cores,
    window: Duration,
) -> io::Result<Measured> {
    load.answers().clear();
    let (began, before) = (Instant::now(), Usage::read(server.id(), cores));
    load.run(window)?;
    let (elapsed, after) = (began.elapsed(), Usage::read(server.id(), cores));
    let answers = load.answers();
    let requests = answers.total() as f64;
    if requests == 0.0 {
        return Err(io::Error::other(format!("not one answer in {window:?}")));
    }
    let elsewhere = after.elsewhere.saturating_sub(before.elsewhere);
    if elsewhere > elapsed.mul_f64(0.01) {
        return Err(io::Error::other("threads of the server left the core that is measured"));
    }
    let idle = after.idle - before.idle;
    let stolen = after.stolen - before.stolen;
    let busy = elapsed.saturating_sub(idle).saturating_sub(stolen);
    let process = after.process.saturating_sub(before.process);
    // The server's core has the server and its softirqs, the other one the load and its own.
    let strangers = busy
        .saturating_sub(process)
        .saturating_sub(after.softirqs.measured - before.softirqs.measured);
    let absent = elapsed
        .saturating_sub(after.load - before.load)
        .saturating_sub(after.softirqs.helper - before.softirqs.helper);
    Ok(Measured {
        core_micros: busy.as_secs_f64() * 1e6 / requests,
        process_micros: process.as_secs_f64() * 1e6 / requests,
        requests_per_second: requests / elapsed.as_secs_f64(),
        p50_micros: answers.quantile(0.50) / 1e3,
        p99_micros: answers.quantile(0.99) / 1e3,
        p999_micros: answers.quantile(0.999) / 1e3,
        peak_megabytes: peak_megabytes(server.id())?,
        bytes_per_connection: f64::NAN,
        stolen: stolen.as_secs_f64() / elapsed.as_secs_f64(),
        disturbed: strangers.max(absent) > elapsed.mul_f64(0.12),
    })
}

/// What so many silent connections cost; `before` is the server's memory without them.
pub fn measure_idle(server: &Server, before: f64, connections: usize) -> io::Result<Measured> {
    let now = resident_bytes(server.id())?;
    Ok(Measured {
        core_micros: f64::NAN,
        process_micros: f64::NAN,
        requests_per_second: f64::NAN,
        p50_micros: f64::NAN,
        p99_micros: f64::NAN,
        p999_micros: f64::NAN,
        peak_megabytes: peak_megabytes(server.id())?,
        bytes_per_connection: (now - before) / connections as f64,
        stolen: f64::NAN,
        disturbed: false,
    })
}

/// The memory that a process has now. Of this file the numbers are exact; those of `status` leave
/// out what a core has not yet added up.
pub fn resident_bytes(process: u32) -> io::Result<f64> {
    Ok(kibibytes(&format!("/proc/{process}/smaps_rollup"), "Rss:")? * 1024.0)
}

fn peak_megabytes(process: u32) -> io::Result<f64> {
    Ok(kibibytes(&format!("/proc/{process}/status"), "VmHWM:")? * 1024.0 / 1e6)
}

fn kibibytes(file: &str, name: &str) -> io::Result<f64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("{file} has no {name}")))
}

/// What has been used up since the machine and the two processes started.
struct Usage {
    /// Of the server's core.
    idle: Duration,
    stolen: Duration,
    process: Duration,
    /// Of the server's threads that are not bound to its core.
    elsewhere: Duration,
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
        let bound = format!("Cpus_allowed_list:\t{}\n", cores.measured);
        Usage {
            idle,
            stolen,
            process: process_time(server, |_| true),
            elsewhere: process_time(server, |status| !status.contains(&bound)),
            load: process_time(std::process::id(), |_| true),
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
    (2..200).find(is_it).map(|process| process_time(process, |_| true)).unwrap_or_default()
}

/// User and system time, to the nanosecond, of those threads of a process whose `status` is to be
/// counted. Nothing of a process that has gone.
fn process_time(process: u32, counts: impl Fn(&str) -> bool) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return Duration::ZERO };
    let read = |thread: &fs::DirEntry, file| {
        fs::read_to_string(thread.path().join(file)).unwrap_or_default()
    };
    let counted = threads.flatten().filter(|thread| counts(&read(thread, "status")));
    let nanos = counted.filter_map(|thread| {
        read(&thread, "schedstat").split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
