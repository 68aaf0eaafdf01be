//! Streams of bytes: what they have in common, and what is made of them.
//!
//! | to … | |
//! |---|---|
//! | take whatever stream there is | the traits [`Read`], [`Write`], [`Close`] |
//! | read lines, frames, counted bytes | [`BufReader`] |
//! | write little by little | [`BufWriter`] |
//! | read and write what the process was given | [`stdin`], [`stdout`], [`stderr`] |
//! | pass on what comes | [`copy()`], [`copy_bidirectional`] |
//! | make one stream of two | [`join()`] |
//! | wait for a descriptor of somebody else's | [`Readiness`] |
//! | hand descriptors over, or take them over | [`Descriptor`] |
//! | have the kernel do what trine has no function for | [`submit`] |
//! | have a stream without a kernel | [`duplex()`] |

mod buf_reader;
mod buf_writer;
mod close;
mod copy;
mod descriptors;
mod direct;
mod duplex;
mod frames;
mod half;
mod halves;
mod join;
mod methods;
mod passage;
mod pieces;
mod raw;
mod readiness;
mod receive;
mod send;
mod standard;
mod traits;

use crate::error::Result;

pub use crate::op::RawOperation;
pub use crate::ring::{Descriptor, Entry};
pub use buf_reader::BufReader;
pub use buf_writer::BufWriter;
pub(crate) use close::close;
pub use copy::{copy, copy_bidirectional};
pub use descriptors::IntoFdError;
pub(crate) use descriptors::{fds_of_a_part, give, take, unread};
pub use direct::{Direct, Source};
pub use duplex::{Duplex, duplex};
pub use frames::Prefix;
pub(crate) use half::Half;
pub(crate) use halves::Halves;
pub use join::{Joined, join};
pub(crate) use methods::{owns_descriptor, reads, reads_into, writes};
pub(crate) use passage::{Passage, is_refusal};
pub use raw::submit;
pub use readiness::{Readiness, Ready};
pub(crate) use receive::Came;
pub use receive::Recv;
pub use standard::{Stderr, Stdin, Stdout, stderr, stdin, stdout};
pub use traits::{Close, Read, Write};

/// Of two results that one: an error, and rather a real one than `Cancelled` (rule M4).
fn worse(first: Result, second: Result) -> Result {
    match (first, second) {
        (Err(first), Err(second)) if first.is_cancelled() => Err(second),
        (first, second) => first.and(second),
    }
}
