//! What the behaviour tests share.

#[allow(dead_code, reason = "not every test file needs it")]
mod peer;
#[allow(dead_code, reason = "not every test file needs it")]
pub mod random;
#[allow(dead_code, reason = "not every test file needs it")]
pub mod wakers;

use std::process;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use trine::net::{TcpListener, TcpStream};
use trine::time::Instant;
use trine::{Result, checkpoint, stats, testing, yield_shielded};

#[allow(unused_imports, reason = "not every test file needs it")]
pub use peer::Peer;

/// So many, and under Miri, where everything takes a thousand times as long, only so few.
///
/// Not for the length of an array in a function with closures: an optimising compiler looks at those to call
/// this, and says that it goes round in a circle.
#[allow(dead_code, reason = "not every test file has many of something")]
pub const fn fewer<T: Copy>(many: T, few: T) -> T {
    if cfg!(miri) { few } else { many }
}

/// So many operations may return at once in one poll (rule A2).
#[allow(dead_code, reason = "not every test file needs it")]
pub const BUDGET: u32 = fewer(128, 16);

/// From this many deliveries of `Cancelled` in a row on, a task is dropped (rule F14).
#[allow(dead_code, reason = "not every test file needs it")]
pub const PATIENCE: u32 = fewer(1000, 20);

/// Runs a test that could hang: if it takes too long, the process ends and says so, instead of the
/// whole suite standing still.
#[allow(dead_code, reason = "not every test file could hang")]
pub fn within<T>(seconds: u64, test: impl FnOnce() -> T) -> T {
    if cfg!(miri) {
        return test(); // There everything is slow.
    }
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let (done, watched) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let timeout = Duration::from_secs(seconds);
        if watched.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name} did not end within {seconds} s");
            process::abort();
        }
    });
    let result = test();
    drop(done);
    watchdog.join().expect("it does not panic");
    result
}

/// So many bytes, each of which differs from the next.
#[allow(dead_code, reason = "not every test file moves bytes")]
pub fn bytes(count: usize) -> Vec<u8> {
    let mut bytes = (0..251).collect::<Vec<u8>>().repeat(count.div_ceil(251));
    bytes.truncate(count);
    bytes
}

/// The descriptors of the process; in a simulated world those of the program, and what a peer has does not
/// count.
#[allow(dead_code, reason = "not every test file counts them")]
pub fn descriptors() -> usize {
    match testing::World::try_current() {
        Some(world) => world.census().descriptors,
        None if cfg!(miri) => 0, // There is no kernel to have any from.
        None => std::fs::read_dir("/proc/self/fd").unwrap().count(),
    }
}

/// After a run there are no more descriptors than before it. A thread that it has left alone, or that has
/// just told of its end, may have some for a moment longer, and there may be fewer by what such a thread of
/// another run had before.
#[track_caller]
#[allow(dead_code, reason = "not every test file counts them")]
pub fn assert_no_more(before: usize) {
    let patience = Instant::now() + Duration::from_secs(2);
    while descriptors() > before && Instant::now() < patience {
        thread::yield_now();
    }
    let after = descriptors();
    assert!(after <= before, "{after} descriptors after the run, and {before} before");
}

/// Two ends of a connection.
#[allow(dead_code, reason = "not every test file needs it")]
pub async fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect_addr(listener.local_addr()?).await?;
    let (server, _) = listener.accept().await?;
    listener.close().await?;
    Ok((client, server))
}

/// Waits until the kernel has this many operations.
#[allow(dead_code, reason = "not every test file needs it")]
pub async fn in_kernel(operations: usize) -> Result {
    while stats().in_kernel < operations {
        checkpoint().await?;
    }
    Ok(())
}

/// Lets this many turns go by.
#[allow(dead_code, reason = "not every test file needs it")]
pub async fn turns(count: usize) {
    for _ in 0..count {
        yield_shielded().await;
    }
}

/// Lets the clock of the run go beyond `deadline`, without a turn of its loop.
#[allow(dead_code, reason = "not every test file needs it")]
pub fn spin_until(deadline: Instant) {
    if testing::World::try_current().is_some() {
        testing::advance(deadline - Instant::now() + Duration::from_nanos(1));
    }
    while Instant::now() <= deadline {
        std::hint::spin_loop();
    }
}
