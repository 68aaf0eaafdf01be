//! Time that a thread used, and times to sleep.

use std::time::Duration;

/// The processor time of this thread: of something that mostly sleeps, what it costs.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// 100 to 200 ms, as good as random, the same for all sides and rounds.
pub fn mixed(at: usize) -> Duration {
    let scattered = (at as u32).wrapping_mul(0x9E37_79B1) >> 12;
    Duration::from_nanos(100_000_000 + u64::from(scattered) * 95)
}
