//! What the kernel holds: operations in flight, and the memory lent to it.
//!
//! # Who owns what, when
//!
//! | state of the operation | its memory and descriptor belong to | dropping its handle |
//! |---|---|---|
//! | queued on our side | the slot; the kernel has not seen it | withdraws it: no system call |
//! | in the kernel | the kernel, for writing if it receives | asks for a cancel, leaves all to the slot |
//! | asked to cancel | the kernel, as before: the answer to the request means nothing (D5) | leaves all to the slot |
//! | terminal | whoever holds the handle takes them out | frees them |
//!
//! Storage lives in a [`Storage`]: one piece of heap held by raw pointer, because whatever a
//! `Box`, a future or a slab slot holds must not be moved while somebody else has a pointer to it.
//! Only a terminal completion ends the kernel's possession, and only [`Table::complete`] sees one.
//!
//! This is one of the crate's three islands of unsafe code. `op` never sees a task; [`state`] is a
//! pure machine, and [`Table`] is plain data with named actions for `exec` to carry out.

#![allow(unsafe_code)]

mod aligned;
mod block;
mod buf;
mod carry;
mod fd;
mod kind;
mod message;
mod names;
mod pool;
mod pools;
mod queue;
mod raw;
mod registry;
mod several;
mod shelf;
mod state;
mod stubborn;
mod submission;
mod table;

pub use aligned::AlignedBuf;
pub(crate) use block::Storage;
pub(crate) use buf::check_whole;
pub use buf::{BufError, IoBuf, IoBufMut, Slice};
pub(crate) use carry::{Carry, lend};
pub(crate) use fd::{Ends, Fd, Home, Sole, Through};
pub(crate) use kind::{CancelClass, Kind};
pub(crate) use message::Message;
pub use pool::Chunk;
pub(crate) use pool::{Pool, PoolLimits};
pub(crate) use pools::{MESSAGE_GROUP, Pools};
pub use raw::RawOperation;
pub(crate) use registry::Registry;
pub use several::{IoBufs, IoBufsMut};
pub(crate) use shelf::Shelf;
#[cfg(feature = "testing")]
pub(crate) use state::{Event, Phase, State, Step};
pub(crate) use submission::Submission;
#[cfg(feature = "testing")]
pub(crate) use table::Bug;
pub(crate) use table::{Action, Finished, Pushed, Remains, Slot, Table, Taken};
