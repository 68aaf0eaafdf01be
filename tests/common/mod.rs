//! What the behaviour tests share.

use std::process;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Runs a test that could hang: if it takes too long, the process ends and says so, instead of the
/// whole suite standing still.
#[allow(dead_code, reason = "not every test file could hang")]
pub fn within<T>(seconds: u64, test: impl FnOnce() -> T) -> T {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let (done, watched) = mpsc::channel::<()>();
    thread::spawn(move || {
        let timeout = Duration::from_secs(seconds);
        if watched.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name} did not end within {seconds} s");
            process::abort();
        }
    });
    let result = test();
    drop(done);
    result
}
