//! The load: it runs on a ring that is never left to sleep.

mod connections;
mod latency;
mod requests;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::plan::{Plan, Work};

pub use latency::Latency;

pub trait Load {
    /// Asks and listens for so long.
    fn run(&mut self, duration: Duration) -> io::Result<()> {
        let end = self.now() + duration.as_nanos() as u64;
        loop {
            let now = self.now();
            if now >= end {
                return Ok(());
            }
            self.turn(now)?;
        }
    }

    /// Nanoseconds since it began.
    fn now(&self) -> u64;

    /// Asks what is to be asked by now, and hears what has come.
    fn turn(&mut self, now: u64) -> io::Result<()>;

    /// How long what was asked for took.
    fn answers(&mut self) -> &mut Latency;
}

/// Fails if the server cannot be reached, or is no echo.
pub fn start(server: SocketAddr, plan: &Plan) -> io::Result<Box<dyn Load>> {
    Ok(match plan.work {
        Work::Connect => Box::new(connections::Connections::new(server, plan)?),
        Work::Open(_) | Work::Closed(_) | Work::Idle => {
            Box::new(requests::Requests::connect(server, plan)?)
        }
    })
}

/// What is sent; the answer has to be the same. Leaked: the kernel may read it as long as a ring
/// lives.
fn message(bytes: usize) -> &'static [u8] {
    let message: Vec<u8> = (0..bytes).map(|at| (at * 31 + at / 256) as u8).collect();
    message.leak()
}

fn failed(what: &str, result: i32) -> io::Error {
    io::Error::other(format!("{what}: {}", io::Error::from_raw_os_error(-result)))
}
