//! Streams of bytes: what they have in common.

mod buf_reader;
mod close;
mod duplex;
mod half;
mod halves;
mod pieces;
mod receive;
mod send;
mod traits;

pub use buf_reader::BufReader;
pub(crate) use close::close;
pub use duplex::{Duplex, duplex};
pub(crate) use half::Half;
pub(crate) use halves::Halves;
pub use receive::Recv;
pub use traits::{Close, Read, Write};
pub(crate) use traits::{close_by_its_method, read_by_its_methods, write_by_its_methods};
