//! Streams of bytes: what they have in common.

mod close;
mod half;
mod halves;
mod receive;
mod send;

pub(crate) use close::close;
pub(crate) use half::Half;
pub(crate) use halves::Halves;
pub use receive::Recv;
