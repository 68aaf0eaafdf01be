//! A pipe inside of the kernel, through which it moves bytes from one descriptor to another.

use std::cell::Cell;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::exec::Run;
use crate::local::RunLocal;
use crate::op::Ends;

/// Bytes that go through it are not copied to our memory and back (splice(2)). But each move takes a worker of
/// the kernel, and whoever wakes that: it pays only for much at once.
pub(crate) struct Passage {
    run: Rc<Run>,
    ends: Ends,
    room: u32,
    /// Bytes that lie in it.
    filled: Cell<usize>,
    _turn: Option<Turn>,
}

impl Passage {
    /// Makes one, as wide as everybody may have it, or else narrower.
    pub(crate) fn open(run: &Rc<Run>) -> Result<Passage> {
        let host = run.host();
        let (reader, writer) = host.pipe()?;
        let room = host.widen_pipe(writer.as_raw_fd(), host.widest_pipe()).max(1);
        let ends = Ends { reader: run.adopt(reader), writer: run.adopt(writer) };
        let (run, filled) = (Rc::clone(run), Cell::new(0));
        Ok(Passage { run, ends, room, filled, _turn: None })
    }

    /// Makes one for what comes from a stream, if so many bytes wait there that it pays, there is room for
    /// it, and not too many have one already.
    pub(crate) fn open_for(run: &Rc<Run>, waiting: u32) -> Option<Passage> {
        if waiting < least(run) {
            return None;
        }
        let turn = Turn::take()?;
        let passage = Passage::open(run).ok()?;
        (passage.room >= stride(run)).then(|| Passage { _turn: Some(turn), ..passage })
    }

    pub(crate) fn ends(&self) -> &Ends {
        &self.ends
    }

    /// What it holds.
    pub(crate) fn room(&self) -> u32 {
        self.room
    }

    /// From how many bytes on it pays to move them.
    pub(super) fn least(&self) -> u32 {
        least(&self.run)
    }

    /// Bytes that lie in it.
    pub(crate) fn filled(&self) -> usize {
        self.filled.get()
    }

    /// So many have come.
    pub(crate) fn fill(&self, count: usize) {
        self.filled.set(self.filled.get() + count);
    }

    /// So many have gone out.
    pub(crate) fn empty(&self, count: usize) {
        self.filled.set(self.filled.get() - count);
    }

    /// Takes out what lies in it.
    pub(crate) fn drain(&self) -> Result<Vec<u8>> {
        Ok(self.run.host().drain(self.ends.reader.as_raw_fd(), self.filled.take())?)
    }
}

/// After how many bytes it is asked again whether moving pays.
pub(super) fn stride(run: &Run) -> u32 {
    run.host().widest_pipe()
}

/// Measured with TCP on one machine: at 64 KiB a move takes twice the processor time of a receive and a send, at
/// 256 KiB as much, at 1 MiB half of it (`benches/NUMBERS.md`).
fn least(run: &Run) -> u32 {
    stride(run) / 4
}

/// Whether the bytes can still be read and written: one of the two cannot do it, or there is no room for a pipe.
pub(crate) fn is_refusal(error: &Error) -> bool {
    let Error::Io(error) = error else { return false };
    let errno = error.raw_os_error();
    error.kind() == ErrorKind::Unsupported
        || matches!(errno, Some(libc::EINVAL | libc::ESPIPE | libc::EMFILE | libc::ENFILE))
}

/// One of a few who may move what comes from streams. Where the other end does not take it a worker of the
/// kernel waits, and that must not be as many as there are connections.
struct Turn {
    taken: Rc<Cell<u32>>,
}

static TAKEN: RunLocal<Cell<u32>> = RunLocal::new(|| Cell::new(0));

/// With a pipe of 1 MiB each they stay well below what the kernel grants a user for all pipes (64 MiB).
const MOST: u32 = 16;

impl Turn {
    fn take() -> Option<Turn> {
        let taken = TAKEN.get().ok()?;
        if taken.get() >= MOST {
            return None;
        }
        taken.set(taken.get() + 1);
        Some(Turn { taken })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.taken.set(self.taken.get() - 1);
    }
}
