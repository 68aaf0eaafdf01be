//! The tools on streams: over connections of both kernels, and in memory.

mod common;

#[path = "io/duplex.rs"]
mod duplex;
