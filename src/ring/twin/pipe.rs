//! Pipes: bytes from one end to the other, inside the machine.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use crate::slots::Key;

use super::files::File;
use super::journal::Deed;
use super::machine::Machine;
use super::object::Object;
use super::operations::{Interest, those};
use super::options::Options;
use super::stream::{CAPACITY, Conn, Readable, Side};

/// A pipe, for as long as it has an end.
pub(super) struct Pipe {
    bytes: VecDeque<u8>,
    /// The ends that are still there.
    ends: [Option<Key<File>>; 2],
    /// The other end is outside, where everything is taken and from where nothing comes.
    outside: bool,
}

/// The end that is read, and the one that is written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PipeEnd {
    Reader = 0,
    Writer = 1,
}

/// Linux writes so many bytes all at once or not yet.
const ATOMIC: usize = 4096;

impl Pipe {
    fn end(&self, end: PipeEnd) -> Option<Key<File>> {
        self.ends[end as usize]
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Machine {
    /// pipe(2): the end that is read, and the one that is written to.
    pub(super) fn pipe(&mut self) -> Result<(RawFd, RawFd), i32> {
        let (pipe, reader) = self.open_first(PipeEnd::Reader, false)?;
        let writer = self.open_end(pipe, PipeEnd::Writer);
        if writer.is_err() {
            // With its only end the pipe goes too.
            self.close_number(reader)?;
        }
        Ok((reader, writer?))
    }

    /// The one end of a pipe of which the other is outside.
    pub(super) fn pipe_outside(&mut self, end: PipeEnd) -> Result<RawFd, i32> {
        Ok(self.open_first(end, true)?.1)
    }

    fn open_first(&mut self, end: PipeEnd, outside: bool) -> Result<(Key<Pipe>, RawFd), i32> {
        let pipe = self.pipes.insert(Pipe { bytes: VecDeque::new(), ends: [None; 2], outside });
        let fd = self.open_end(pipe, end).inspect_err(|_| {
            self.pipes.remove(pipe);
        })?;
        Ok((pipe, fd))
    }

    fn open_end(&mut self, pipe: Key<Pipe>, end: PipeEnd) -> Result<RawFd, i32> {
        let (fd, file) = self.open_file(Object::Pipe { pipe, end }, Options::default(), "pipe")?;
        if let Some(pipe) = self.pipes.get_mut(pipe) {
            pipe.ends[end as usize] = Some(file);
        }
        Ok(fd)
    }

    /// What a read of the pipe would find now.
    pub(super) fn pipe_readable(&self, pipe: Key<Pipe>) -> Readable {
        match self.pipes.get(pipe) {
            Some(pipe) if !pipe.bytes.is_empty() => Readable::Bytes,
            Some(pipe) if pipe.end(PipeEnd::Writer).is_some() => Readable::Nothing,
            _ => Readable::End,
        }
    }

    /// Reads what is there, at most `room` bytes: `write` gets each part, and where it belongs.
    pub(super) fn read_pipe(
        &mut self,
        key: Key<Pipe>,
        room: usize,
        mut write: impl FnMut(usize, &[u8]),
    ) -> usize {
        let there = self.pipes.get(key).map_or(0, Pipe::bytes);
        let count = self.cut(there.min(room));
        let Some(pipe) = self.pipes.get_mut(key) else { return 0 };
        let (first, second) = pipe.bytes.as_slices();
        let from_first = count.min(first.len());
        write(0, &first[..from_first]);
        write(from_first, &second[..count - from_first]);
        self.drain_pipe(key, count);
        count
    }

    /// A copy of what is there, at most so many bytes.
    pub(super) fn peek_pipe(&self, key: Key<Pipe>, most: usize) -> Vec<u8> {
        self.pipes
            .get(key)
            .map_or_else(Vec::new, |pipe| pipe.bytes.iter().take(most).copied().collect())
    }

    /// Takes out bytes that were seen there.
    pub(super) fn drain_pipe(&mut self, key: Key<Pipe>, count: usize) {
        let Some(pipe) = self.pipes.get_mut(key) else { return };
        pipe.bytes.drain(..count);
        let writer = pipe.end(PipeEnd::Writer);
        self.record(Deed::Drain, "", key.index().into(), count as i64);
        self.wake(writer, Interest::Write);
    }

    /// How many bytes a read would find.
    pub(super) fn unread_of_pipe(&self, key: Key<Pipe>) -> usize {
        self.pipes.get(key).map_or(0, Pipe::bytes)
    }

    pub(super) fn room_of_pipe(&self, key: Key<Pipe>) -> usize {
        self.pipes.get(key).map_or(0, |pipe| CAPACITY.saturating_sub(pipe.bytes()))
    }

    /// Writes some of these bytes, few of them all at once; `None`: there is no room.
    pub(super) fn write_pipe(
        &mut self,
        key: Key<Pipe>,
        bytes: &[u8],
    ) -> Option<Result<usize, i32>> {
        let Some(pipe) = self.pipes.get(key) else { return Some(Err(libc::EPIPE)) };
        if pipe.outside {
            let count = self.cut(bytes.len());
            self.record(Deed::Fill, "", key.index().into(), count as i64);
            return Some(Ok(count));
        }
        let Some(reader) = pipe.end(PipeEnd::Reader) else { return Some(Err(libc::EPIPE)) };
        let room = CAPACITY.saturating_sub(pipe.bytes());
        let is_atomic = bytes.len() <= ATOMIC.min(CAPACITY);
        if room < if is_atomic { bytes.len() } else { 1 } {
            return None;
        }
        let count = if is_atomic { bytes.len() } else { self.cut(bytes.len().min(room)) };
        self.fill_pipe(key, reader, &bytes[..count]);
        Some(Ok(count))
    }

    /// Puts bytes in for which there is room.
    fn fill_pipe(&mut self, key: Key<Pipe>, reader: Key<File>, bytes: &[u8]) {
        let Some(pipe) = self.pipes.get_mut(key) else { return };
        pipe.bytes.extend(bytes);
        self.record(Deed::Fill, "", key.index().into(), bytes.len() as i64);
        self.wake(Some(reader), Interest::Read);
    }

    /// Has a connection's bytes go into a pipe, as many as are there and as it has room for, and says how many.
    pub(super) fn divert(
        &mut self,
        (conn, side): (Key<Conn>, Side),
        key: Key<Pipe>,
        most: usize,
    ) -> Result<usize, i32> {
        let reader = self.pipes.get(key).and_then(|pipe| pipe.end(PipeEnd::Reader));
        let Some(reader) = reader else { return Err(libc::EPIPE) };
        let (mut bytes, room) = (Vec::new(), self.room_of_pipe(key).min(most));
        if room == 0 {
            return Err(libc::EAGAIN);
        }
        let (count, rights) =
            self.receive(conn, side, room, |_, part| bytes.extend_from_slice(part));
        // There is no room for them.
        self.release_rights(rights);
        self.fill_pipe(key, reader, &bytes);
        Ok(count)
    }

    /// What poll(2) finds at an end.
    pub(super) fn events_of_pipe(&self, key: Key<Pipe>, end: PipeEnd) -> i16 {
        let Some(pipe) = self.pipes.get(key) else { return libc::POLLHUP };
        let alone = pipe.ends.iter().any(Option::is_none);
        match end {
            PipeEnd::Reader => those([(libc::POLLIN, pipe.bytes() > 0), (libc::POLLHUP, alone)]),
            PipeEnd::Writer => {
                let room = CAPACITY.saturating_sub(pipe.bytes()) >= ATOMIC.min(CAPACITY);
                those([(libc::POLLOUT, room), (libc::POLLERR, alone)])
            }
        }
    }

    /// Nobody has this end any more. What nobody can read is gone with the reader.
    pub(super) fn end_pipe(&mut self, key: Key<Pipe>, end: PipeEnd) {
        let Some(pipe) = self.pipes.get_mut(key) else { return };
        pipe.ends[end as usize] = None;
        let other = pipe.ends.iter().copied().find_map(|end| end);
        match other {
            Some(other) => self.wake_both(Some(other)),
            None => drop(self.pipes.remove(key)),
        }
    }
}
