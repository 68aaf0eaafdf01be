//! What the running kernel does with the operations trine submits: KERNEL.md 4.1 as tests.
//!
//! No line of trine is used here. Each test asserts what trine relies on (one terminal CQE per
//! activation; no byte, connection or buffer lost) and prints what it saw as a row of the table:
//!
//! ```text
//! cargo test --test kernel_facts -- --nocapture
//! recv idle | defer | cancel 0 | target -ECANCELED
//! ```
//!
//! `default` is a ring without flags, `defer` one with `SINGLE_ISSUER | DEFER_TASKRUN`, which is
//! what trine runs on. Where kernels differ the assertion names the set that is allowed.
//!
//! In one thread the order of events is fixed. Bytes and connections over `AF_UNIX` have arrived,
//! wake-ups included, when the sender's system call returns, so those rows are exact in both
//! modes. TCP delivers from a softirq, possibly later: there a default ring may answer either way.

#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod accept;
mod cancel;
mod close;
mod completion;
mod connect;
mod control;
mod files;
mod messages;
mod pieces;
mod poll;
mod pool;
mod read;
mod recv;
mod recv_pool;
mod registered;
mod ring;
mod send;
mod setup;
mod sockets;
mod splice;
mod world;
