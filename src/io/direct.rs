//! Streams between which the kernel can move bytes by itself.

use std::fmt;
use std::future::Future;
use std::os::fd::AsRawFd;

use crate::error::Result;
use crate::op::{BufError, Ends};

use super::halves::Halves;
use super::passage::{self, Passage};
use super::receive::{Came, Divert};
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
        pipe: &Ends,
        len: usize,
    ) -> impl Future<Output = Result<(), BufError<()>>> {
        Splice::new(self.halves, pipe, len)
    }
}

/// Where what is read from a stream comes from, as it is: [`Read::source`](super::Read::source).
pub struct Source<'a> {
    halves: &'a Halves,
}

impl<'a> Source<'a> {
    pub(crate) fn new(halves: &'a Halves) -> Source<'a> {
        Source { halves }
    }

    /// After how many bytes to ask again for a passage.
    pub(crate) fn stride(&self) -> usize {
        passage::stride(&self.halves.run) as usize
    }

    /// A passage for what waits there, of which at most so many bytes are wanted, if that is so much that
    /// moving it pays.
    pub(crate) fn passage(&self, most: u64) -> Option<Passage> {
        let run = &self.halves.run;
        let waiting = run.host().unread(self.halves.as_raw_fd());
        Passage::open_for(run, most.min(waiting.into()) as u32)
    }

    /// Has the kernel move what waits into a passage, at most so many bytes.
    pub(crate) fn divert(
        &self,
        into: &'a Passage,
        most: u64,
    ) -> impl Future<Output = Result<Came>> {
        Divert::new(self.halves, into, most)
    }
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(self.halves).finish()
    }
}

impl fmt::Debug for Direct<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Direct").field(self.halves).finish()
    }
}
