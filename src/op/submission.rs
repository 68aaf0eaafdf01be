//! An operation before it starts: its request, and everything the request needs to stay alive.

use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};

use crate::ring::{Course, HERE, Process, Request, SockAddr, Spot};

use super::block::Storage;
use super::fd::{Ends, Fd, Sole};
use super::kind::Kind;

/// What [`Table::submit`](super::Table::submit) takes. The memory that the request names lies in the
/// storage, which goes with it.
pub(crate) struct Submission {
    pub(super) kind: &'static Kind,
    pub(super) request: Request,
    pub(super) fd: Option<Fd>,
    pub(super) storage: Option<Storage>,
}

impl Submission {
    /// Whether it completes again and again.
    pub(crate) fn is_multishot(&self) -> bool {
        self.request.is_multishot()
    }

    #[inline]
    pub(crate) fn nop() -> Submission {
        Submission { kind: &Kind::NOP, request: Request::Nop, fd: None, storage: None }
    }

    pub(crate) fn accept(fd: &Fd, multishot: bool) -> Submission {
        let request = Request::Accept { fd: fd.as_raw_fd(), multishot };
        Submission::without_memory(&Kind::ACCEPT, request, fd)
    }

    /// Receives into whatever buffer the kernel picks from the pool.
    pub(crate) fn recv_pool(fd: &Fd, group: u16, multishot: bool) -> Submission {
        let request = Request::RecvPool { fd: fd.as_raw_fd(), group, multishot };
        Submission::without_memory(&Kind::RECV, request, fd)
    }

    /// Waits for events of a descriptor that somebody else owns.
    pub(crate) fn poll(fd: RawFd, events: u32) -> Submission {
        let request = Request::Poll { fd, events };
        Submission { kind: &Kind::POLL, request, fd: None, storage: None }
    }

    /// Waits for the end of a process, and drops it then, which reaps it or has it reaped.
    pub(crate) fn reap(process: Process) -> Submission {
        let request = Request::Poll { fd: process.as_raw_fd(), events: libc::POLLIN as u32 };
        let storage = Some(Storage::keep(process));
        Submission { kind: &Kind::REAP, request, fd: None, storage }
    }

    pub(crate) fn shutdown(fd: &Fd, how: Shutdown) -> Submission {
        let how = match how {
            Shutdown::Read => libc::SHUT_RD,
            Shutdown::Write => libc::SHUT_WR,
            Shutdown::Both => libc::SHUT_RDWR,
        };
        let request = Request::Shutdown { fd: fd.as_raw_fd(), how };
        Submission::without_memory(&Kind::SHUTDOWN, request, fd)
    }

    /// Closes a descriptor that nobody has a share in any more.
    pub(crate) fn close(fd: Sole) -> Submission {
        let request = Request::Close { fd: fd.raw, may_block: fd.lingers };
        Submission { kind: &Kind::CLOSE, request, fd: None, storage: None }
    }

    /// Connects to an address.
    pub(crate) fn connect(fd: &Fd, address: SockAddr) -> Submission {
        let mut storage = Storage::address(address);
        let request = Request::Connect { fd: fd.as_raw_fd(), to: storage.region(0) };
        Submission::with_memory(&Kind::CONNECT, request, fd, storage)
    }

    /// Receives into the storage, behind what is filled already.
    #[inline]
    pub(crate) fn recv(fd: &Fd, mut storage: Storage) -> Submission {
        let into = storage.region(storage.filled());
        let request = Request::Recv { fd: fd.as_raw_fd(), into };
        Submission::with_memory(&Kind::READ, request, fd, storage)
    }

    /// Reads into whatever buffer the kernel picks from the pool.
    pub(crate) fn read_pool(fd: &Fd, group: u16, multishot: bool) -> Submission {
        let request = Request::ReadPool { fd: fd.as_raw_fd(), group, multishot };
        Submission::without_memory(&Kind::RECV, request, fd)
    }

    /// Reads into the storage, behind what is filled already.
    pub(crate) fn read(fd: &Fd, mut storage: Storage, at: u64) -> Submission {
        let into = storage.region(storage.filled());
        let request = Request::Read { fd: fd.as_raw_fd(), into, at };
        Submission::with_memory(&Kind::READ, request, fd, storage)
    }

    /// Reads from byte `at` of a file on into the storage, behind what is filled already.
    pub(crate) fn read_at(fd: &Fd, storage: Storage, at: u64) -> Submission {
        Submission { kind: &Kind::READ_AT, ..Submission::read(fd, storage, at) }
    }

    /// Writes what is in the storage from byte `done` on to byte `at` of a file on.
    pub(crate) fn write_at(fd: &Fd, storage: Storage, done: usize, at: u64) -> Submission {
        Submission { kind: &Kind::WRITE_AT, ..Submission::write(fd, storage, done, at) }
    }

    /// The same read or write, of memory that is registered in this place.
    pub(crate) fn in_place(mut self, place: u16) -> Submission {
        self.request = match self.request {
            Request::Read { fd, into, at } => {
                Request::ReadRegistered { fd, into, spot: Spot { at, place } }
            }
            Request::Write { fd, from, at } => {
                Request::WriteRegistered { fd, from, spot: Spot { at, place } }
            }
            other => {
                debug_assert!(false, "only reads and writes name a place, {other:?} does not");
                other
            }
        };
        self
    }

    /// Writes what is in the storage from byte `done` on.
    pub(crate) fn write(fd: &Fd, mut storage: Storage, done: usize, at: u64) -> Submission {
        let from = storage.region(done);
        let request = Request::Write { fd: fd.as_raw_fd(), from, at };
        Submission::with_memory(&Kind::WRITE, request, fd, storage)
    }

    /// Sends what lies in several places of the storage from byte `done` on, not less than the rest.
    pub(crate) fn send_several(fd: &Fd, mut storage: Storage, done: usize) -> Submission {
        let header = storage.header_region(done);
        let request = Request::SendPieces { fd: fd.as_raw_fd(), header };
        Submission::with_memory(&Kind::SEND, request, fd, storage)
    }

    /// Writes what lies in several places of the storage from byte `done` on.
    pub(crate) fn write_several(fd: &Fd, mut storage: Storage, done: usize, at: u64) -> Submission {
        let list = storage.list_region(done);
        let request = Request::WritePieces { fd: fd.as_raw_fd(), list, at };
        Submission::with_memory(&Kind::WRITE, request, fd, storage)
    }

    /// Writes to byte `at` of a file on what lies in several places of the storage from byte `done` on.
    pub(crate) fn write_several_at(fd: &Fd, storage: Storage, done: usize, at: u64) -> Submission {
        Submission { kind: &Kind::WRITE_AT, ..Submission::write_several(fd, storage, done, at) }
    }

    /// Reads from byte `at` of a file on into several places of the storage, behind what is filled already.
    pub(crate) fn read_several_at(fd: &Fd, mut storage: Storage, at: u64) -> Submission {
        let list = storage.list_region(storage.filled());
        let request = Request::ReadPieces { fd: fd.as_raw_fd(), list, at };
        Submission::with_memory(&Kind::READ_AT, request, fd, storage)
    }

    /// Sends what is in the storage from byte `done` on; with `all` not less than the rest.
    #[inline]
    pub(crate) fn send(fd: &Fd, mut storage: Storage, done: usize, all: bool) -> Submission {
        let from = storage.region(done);
        let request = Request::Send { fd: fd.as_raw_fd(), from, all };
        Submission::with_memory(&Kind::SEND, request, fd, storage)
    }

    /// Sends what is in the storage from byte `done` on, all of it, and without copying it first. The
    /// storage comes back when the peer has it.
    pub(crate) fn send_zero_copy(fd: &Fd, mut storage: Storage, done: usize) -> Submission {
        let request = Request::SendZeroCopy { fd: fd.as_raw_fd(), from: storage.region(done) };
        Submission::with_memory(&Kind::SEND, request, fd, storage)
    }

    /// Moves at most so many bytes from byte `at` of a file on into a pipe.
    pub(crate) fn splice_in(fd: &Fd, at: u64, pipe: &Ends, len: u32) -> Submission {
        let (from, to) = (fd.as_raw_fd(), pipe.writer.as_raw_fd());
        let request = Request::Splice { from, to, at, len, course: Course::In };
        Submission::with_memory(&Kind::SPLICE, request, fd, Storage::keep(pipe.clone()))
    }

    /// Moves at most so many bytes of what waits in a stream into a pipe.
    pub(crate) fn divert(fd: &Fd, pipe: &Ends, len: u32) -> Submission {
        let (from, to) = (fd.as_raw_fd(), pipe.writer.as_raw_fd());
        let request = Request::Splice { from, to, at: HERE, len, course: Course::InAtOnce };
        Submission::with_memory(&Kind::SPLICE, request, fd, Storage::keep(pipe.clone()))
    }

    /// Moves what is left behind the first `done` bytes out of a pipe, which is kept in the storage.
    pub(crate) fn splice_out(pipe: RawFd, storage: Storage, done: usize, to: &Fd) -> Submission {
        let len = (storage.len() - done) as u32;
        let request =
            Request::Splice { from: pipe, to: to.as_raw_fd(), at: HERE, len, course: Course::Out };
        Submission::with_memory(&Kind::SPLICE, request, to, storage)
    }

    /// Moves at most so many bytes out of a pipe to byte `at` of a file on.
    pub(crate) fn splice_at(pipe: &Ends, len: u32, to: &Fd, at: u64) -> Submission {
        let (from, to_raw) = (pipe.reader.as_raw_fd(), to.as_raw_fd());
        let request = Request::Splice { from, to: to_raw, at, len, course: Course::Out };
        Submission::with_memory(&Kind::SPLICE_AT, request, to, Storage::keep(pipe.clone()))
    }

    /// Sends the message in the storage, or what is there as one.
    pub(crate) fn send_message(fd: &Fd, mut storage: Storage) -> Submission {
        if !storage.is_message() {
            let send = Submission::send(fd, storage, 0, false);
            return Submission { kind: &Kind::SEND_MESSAGE, ..send };
        }
        let message = storage.envelope_region();
        let request = Request::SendMsg { fd: fd.as_raw_fd(), message };
        Submission::with_memory(&Kind::SEND_MESSAGE, request, fd, storage)
    }

    /// Receives a message into the storage.
    pub(crate) fn recv_message(fd: &Fd, mut storage: Storage) -> Submission {
        let message = storage.envelope_region();
        let request = Request::RecvMsg { fd: fd.as_raw_fd(), message };
        Submission::with_memory(&Kind::RECV_MESSAGE, request, fd, storage)
    }

    /// Receives messages again and again, each into a buffer that the kernel picks; with `segments` of the
    /// internet, and perhaps put together.
    pub(crate) fn recv_messages(fd: &Fd, group: u16, segments: bool) -> Submission {
        let mut storage = Storage::empty_message(segments);
        let message = storage.envelope_region();
        let request = Request::RecvMsgPool { fd: fd.as_raw_fd(), group, message };
        Submission::with_memory(&Kind::RECV_MESSAGES, request, fd, storage)
    }

    #[inline]
    pub(super) fn without_memory(kind: &'static Kind, request: Request, fd: &Fd) -> Submission {
        Submission { kind, request, fd: Some(fd.clone()), storage: None }
    }

    #[inline]
    fn with_memory(kind: &'static Kind, request: Request, fd: &Fd, storage: Storage) -> Submission {
        Submission { kind, request, fd: Some(fd.clone()), storage: Some(storage) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::rc::{Rc, Weak};

    use crate::op::fd::Home;

    use super::*;

    /// Forgets what it is to close.
    struct Closed;

    impl Home for Closed {
        fn close(&self, _: Sole) -> Result<(), Sole> {
            Ok(())
        }
    }

    /// To close one of them meanwhile would wait for the move.
    #[test]
    fn a_move_keeps_both_ends_of_its_pipe_open() {
        let moves: [fn(&Fd, &Ends) -> Submission; 4] = [
            |other, pipe| Submission::splice_in(other, 0, pipe, 1),
            |other, pipe| Submission::divert(other, pipe, 1),
            |other, pipe| Submission::splice_at(pipe, 1, other, 0),
            |other, pipe| {
                let storage = Storage::piped(pipe.clone(), 1);
                Submission::splice_out(pipe.reader.as_raw_fd(), storage, 0, other)
            },
        ];
        let closed = Rc::new(Closed);
        let fd = |number| {
            let home = Rc::downgrade(&closed) as Weak<dyn Home>;
            // SAFETY: the number is only stored, and given back to `Closed`, which forgets it.
            Fd::new(unsafe { OwnedFd::from_raw_fd(number) }.into(), home)
        };
        for moves in moves {
            let (other, ends) = (fd(1000), Ends { reader: fd(1001), writer: fd(1002) });
            let Ends { reader, writer } = ends.clone();
            let submission = moves(&other, &ends);
            drop(ends);
            assert!(reader.take_sole().is_none() && writer.take_sole().is_none());
            drop(submission);
            assert!(reader.take_sole().is_some() && writer.take_sole().is_some());
        }
    }
}
