//! An io_uring completion runtime with structured concurrency, for Linux servers.
//!
//! Tasks live in [nurseries](nursery()), timeouts are [cancel scopes](CancelScope), and cancelling a
//! scope asks the kernel to cancel every operation pending in its subtree, waits until the kernel has
//! let go of each one, and only then unwinds with [`Cancelled`]. Nothing is left running, and no
//! byte, descriptor or buffer is lost.
//!
//! ```no_run
//! use trine::prelude::*;
//!
//! #[trine::main]
//! async fn main() -> Result {
//!     let listener = TcpListener::bind("127.0.0.1:7000").await?;
//!     nursery(async |n| {
//!         loop {
//!             let (stream, _peer) = listener.accept().await?;
//!             n.spawn(async move {
//!                 while let Some(chunk) = stream.recv().await? {
//!                     stream.write_all(chunk).await?;
//!                 }
//!                 Ok(())
//!             });
//!         }
//!     })
//!     .await
//! }
//! ```
//!
//! # Cancellation
//! It is level-triggered: while a scope around is cancelled, every cancel point raises, also in
//! clean-up code, until the scope is left or a [shield] is entered. What has happened has happened:
//! an operation whose effect took place returns its result, and the cancellation waits for the next
//! cancel point. After `Cancelled`, pass it on with `?`; only the scope that was cancelled absorbs it.
//! A cancelled task that waits for a future of another crate is dropped where it stands, unless that is
//! wrapped in [`cancellable`], which makes it an operation like ours.
//!
//! # Dropping a future
//! Rust lets anyone drop a future at any time, and `select!` does. Here that is always sound and loses
//! nothing: an operation in the kernel is asked to cancel and keeps its memory and its descriptor
//! until the kernel lets go; the enclosing scope waits for that; what arrived too late belongs to the
//! object (a stream, a listener), whose next operation returns it.
//!
//! # Features
//! - `macros`, on unless said otherwise: [`#[trine::main]`](macro@main).
//! - `stream`: the function of that name, which makes a `futures_core::Stream` of what comes one after another.
//! - `testing`: a simulated kernel, virtual time, and [`#[trine::test]`](macro@test); see [`testing`].
//!
//! # The floors of the source tree
//! A file uses its own folder, lower floors, and on its own floor only what stands left of a `<`;
//! `|` means strangers. A test reads this table and the `use crate::` lines.
//!
//! ```text
//!  8  testing < fuzzing < prelude           what you test with, what you import
//!  7  compat                                other ecosystems
//!  6  io < pipe < net | fs | signal < process   devices
//!  5  local | sync < combine | thread | time   tools built on waiting
//!  4  scope < nursery < runtime             structured concurrency: the public promise
//!  3  exec                                  the one loop, the one way to wait
//!  2  op | cancel                           what the kernel holds | who may stop whom
//!  1  clock < ring                          the two doors: time, kernel; each with a twin
//!  0  error | slots | primitives            what goes wrong | keyed places | what threads share
//! ```
//!
//! Unsafe code lives on three islands: `ring`, `op`, and `nursery/shared.rs`.

#![cfg(target_os = "linux")]
#![deny(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks)]
#![warn(missing_docs, unreachable_pub, missing_debug_implementations)]

mod error;
mod primitives;
mod slots;

mod clock;
mod ring;

mod cancel;
mod op;

mod exec;

mod nursery;
mod runtime;
mod scope;

mod combine;
pub mod local;
pub mod sync;
pub mod thread;
pub mod time;

pub mod fs;
pub mod io;
pub mod net;
pub mod pipe;
pub mod process;
pub mod signal;

mod compat;

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzzing;

pub mod prelude;

/// The behaviour tests' random numbers, for the unit tests.
#[cfg(test)]
#[expect(unreachable_pub, reason = "the behaviour tests have it public")]
#[path = "../tests/common/random.rs"]
mod random;

pub use combine::{Limit, Race, join_all, map_concurrent, race, race_ok, try_join_all};
pub use compat::cancellable;
#[cfg(feature = "stream")]
pub use compat::stream;
pub use error::{Cancelled, Error, Group, Reason, Result, Unavailable, Unwind};
pub use exec::{Stats, checkpoint, checkpoint_if_cancelled, stats, tree, yield_shielded};
pub use nursery::{Child, Nursery, Started, nursery};
pub use op::{BufError, Chunk, IoBuf, IoBufMut, IoBufs, IoBufsMut, Slice};
pub use runtime::{Builder, nop, raise_descriptor_limit, run};
pub use scope::{
    CancelScope, current_effective_deadline, fail_after, fail_at, idle, is_cancelled, is_draining,
    move_on_after, move_on_at, shield, shield_for,
};

#[cfg(feature = "macros")]
pub use trine_macros::main;
#[cfg(feature = "testing")]
pub use trine_macros::test;

/// What the attribute macros write into programs. Nothing here is stable.
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod __private {
    pub use crate::runtime::entry::{MainOutcome, main};
}

/// The functions of the crate's root for other error types: `io::Error`, or your own [`Unwind`].
///
/// Rust cannot infer the error type of a body that ends with `Ok(())`, so say it:
///
/// ```
/// use std::io;
/// use trine::generic;
///
/// generic::run(async || -> io::Result<()> {
///     generic::nursery(async |n| -> io::Result<()> {
///         n.spawn(async { Ok(trine::nop().await?) });
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), io::Error>(())
/// ```
pub mod generic {
    pub use crate::nursery::generic::nursery;
    pub use crate::runtime::generic::run;
    pub use crate::scope::generic::{
        fail_after, fail_at, move_on_after, move_on_at, run_scope, shield_for,
    };
}

/// Compiles the examples of the readme.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
