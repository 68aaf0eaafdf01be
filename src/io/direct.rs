//! Streams between which the kernel can move bytes by itself.

use std::fmt;
use std::future::Future;
use std::os::fd::AsRawFd;

use crate::error::Result;
use crate::op::BufError;

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

    /// Has the kernel move all that lies in a passage there, and says how many bytes that were.
    pub(crate) async fn splice(&self, passage: &Passage) -> Result<usize, BufError<()>> {
        let len = passage.filled();
        let moved = Splice::new(self.halves, passage.ends(), len).await.map(|()| len);
        passage.empty(moved.as_ref().map_or_else(|failed| failed.done, |&len| len));
        moved
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
