//! Streams to which the kernel can write by itself.

use std::fmt;
use std::future::Future;

use crate::error::Result;
use crate::op::{BufError, Fd};

use super::halves::Halves;
use super::send::Splice;

/// Where what is written to a stream goes, as it is and at once: [`Write::direct`](super::Write::direct).
pub struct Direct<'a> {
    halves: &'a Halves,
}

impl<'a> Direct<'a> {
    pub(crate) fn new(halves: &'a Halves) -> Direct<'a> {
        Direct { halves }
    }

    /// Has the kernel move so many bytes there, which are in a pipe.
    pub(crate) fn splice(
        &self,
        pipe: &Fd,
        len: usize,
    ) -> impl Future<Output = Result<(), BufError<()>>> {
        Splice::new(self.halves, pipe, len)
    }
}

impl fmt::Debug for Direct<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Direct").field(self.halves).finish()
    }
}
