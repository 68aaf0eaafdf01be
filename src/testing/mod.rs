//! What one tests programs with: a simulated kernel and network, virtual time, and what makes a race
//! come again. Feature `testing`.
//!
//! A test is an ordinary program with [`#[trine::test]`](macro@crate::test) above it. It runs on a
//! simulated kernel unless it asks for the real one, or for both: `#[trine::test(kernel = "both")]`. A
//! server with a time limit, a client that is too slow for it, and a cable that is pulled:
//!
//! ```
//! use trine::prelude::*;
//! use trine::testing::World;
//!
//! async fn line(stream: &TcpStream) -> Result<Option<Vec<u8>>> {
//!     let mut line = Vec::new();
//!     while !line.ends_with(b"\n") {
//!         let Some(more) = stream.recv().await? else { return Ok(None) };
//!         line.extend_from_slice(&more);
//!     }
//!     Ok(Some(line))
//! }
//!
//! /// Echoes lines; hangs up on whoever takes ten seconds for one.
//! async fn serve(stream: TcpStream) -> Result {
//!     let limit = Duration::from_secs(10);
//!     while let Some(Some(line)) = move_on_after(limit, async |_| line(&stream).await).await? {
//!         stream.write_all(line).await?;
//!     }
//!     stream.close().await
//! }
//!
//! # let test =
//! // #[trine::test]
//! async || -> Result {
//!     let listener = &TcpListener::bind("10.0.0.1:7000").await?;
//!     let connect = async || TcpStream::connect_addr(listener.local_addr()?).await;
//!     nursery(async |n| {
//!         n.spawn_daemon(async move { loop { n.spawn(serve(listener.accept().await?.0)) } });
//!         let slow = connect().await?;
//!         for byte in *b"too slow" {
//!             slow.write_all(vec![byte]).await?;
//!             sleep(Duration::from_secs(1)).await?; // takes no time
//!         }
//!         assert!(slow.recv().await?.is_none(), "it hangs up");
//!         let client = connect().await?;
//!         World::current().isolate(client.local_addr()?); // pulls the cable
//!         client.write_all("anybody there?\n").await?;
//!         sleep(Duration::from_secs(9)).await?;
//!         World::current().rejoin(client.local_addr()?);
//!         assert_eq!(line(&client).await?.unwrap(), *b"anybody there?\n");
//!         Ok(())
//!     })
//!     .await
//! }
//! # ;
//! # World::tame().run(test)?;
//! # Ok::<(), trine::Error>(())
//! ```
//!
//! # When a test fails
//! Everything that may happen in this order or that on the simulated kernel is drawn from a *tape* of
//! bytes: which task runs first, which operation completes first, how much a transfer moves, what a
//! cancel finds. `#[trine::test(runs = 100)]` tries a hundred of them. One that fails is made as small as
//! it will go, and printed with the command that replays it:
//!
//! ```text
//! server::a_receive_loses_no_byte::sim failed on TRINE_SEED=15, in a simulated world
//!   what   panicked: assertion `left == right` failed
//!   tape   2 bytes, were 47 before 28 tries
//!   replay TRINE_TAPE='transfer:0001' cargo test -- --exact a_receive_loses_no_byte::sim
//! ```
//!
//! `TRINE_SEED` tries one seed, and `TRINE_RUNS` so many from there on. Every simulated run is made twice
//! and must do the same: a test whose outcome something else has a hand in says `deterministic = false`.
//! A simulated run may make ten million turns, and a test that stands still for five minutes of real time
//! ends the process.
//!
//! # How it differs from Linux
//! - An operation that can be done is done when it is submitted, also a multishot and a connect.
//! - Nothing is retransmitted: what a cut network holds arrives when it is whole again, however long that
//!   takes, and an established connection never times out.
//! - A connection has no send buffer: what is sent waits in the receiver's, which is smaller than Linux's.
//! - Keep-alive and `TCP_NODELAY` are remembered and do nothing.
//! - Every address belongs to the one machine; a client that is not bound comes from `10.0.0.254` or
//!   `fd00::fe`, or from the loopback address.
//! - Time passes only when nothing can run; for a program that never stops running, a little with each
//!   turn after some hundreds.
//! - There is no `TIME_WAIT`; `close` never waits, whatever the linger time.
//! - There is one file system, in memory, with `/tmp` in it. Permissions are remembered and not obeyed;
//!   files have no holes and no more than 1 GiB. There are no devices, FIFOs nor direct I/O,
//!   and what was not synced is not lost.
//! - There are no signals, so nothing catches Ctrl-C.
//! - A descriptor is a number of the world's own, and means nothing to the system calls of others.

mod checkpoints;
mod conformance;
mod lot;
mod memory;
mod plan;
mod quiet;
mod sequencer;
mod world;

use std::time::Duration;

pub use crate::ring::twin::{Census, Faults, Outside, Tape};
pub use checkpoints::{assert_checkpoints, assert_no_checkpoints};
pub use conformance::{
    ByteStream, check_half_closeable_stream, check_one_way_stream, check_two_way_stream,
};
pub use memory::{MemoryStream, lockstep_stream_pair, memory_stream_pair};
pub(crate) use plan::text_of;
pub use plan::{Clock, Kernel, Outcome, Plan};
pub use quiet::{wait_all_tasks_blocked, wait_all_tasks_blocked_for};
pub use sequencer::Sequencer;
pub use world::World;

use crate::clock;
use crate::exec;

/// Moves the virtual time of this thread's run on.
///
/// # Panics
/// Outside of a run, and in one whose time passes by itself.
///
/// ```
/// use std::time::Duration;
/// use trine::testing::{World, advance, wait_all_tasks_blocked};
///
/// World::tame().by_hand().run(async || {
///     trine::nursery(async |n| {
///         n.spawn(trine::time::sleep(Duration::from_secs(60)));
///         wait_all_tasks_blocked().await?;
///         advance(Duration::from_secs(60)); // without this nothing could ever happen
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn advance(by: Duration) {
    let run = exec::current_or_none().expect("testing::advance: no trine run on this thread");
    let clock::Clock::Virtual(clock) = run.clock() else {
        panic!("testing::advance: the time of this run passes by itself")
    };
    clock.advance_to(clock.now() + by);
}
