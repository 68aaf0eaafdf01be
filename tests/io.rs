//! The tools on streams: over connections of both kernels, and in memory.

mod common;

#[path = "io/buf_reader.rs"]
mod buf_reader;
#[path = "io/duplex.rs"]
mod duplex;
