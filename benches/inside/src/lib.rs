//! What happens inside of a process: operations, children, scopes, timers, wakes and cancels, done by
//! trine, by a ring used by hand, by tokio and by smol.
//!
//! Each thing is one function a side. Two programs measure them: `cargo bench` with criterion, which
//! looks closely at one at a time; `cargo run --release` in turns, round by round, which gives the ratios.

#[path = "../../hand/mod.rs"]
mod hand;
#[path = "../../measure/mod.rs"]
pub mod measure;

mod cancels;
mod clock;
mod copies;
pub mod crowd;
mod datagrams;
mod files;
mod operations;
mod runs;
mod scopes;
mod spawning;
mod things;
mod timers;
mod tools;
mod wakes;

pub use things::{Aim, Measure, Side, THINGS, Thing};
