//! Transfers of several pieces of memory, and of none.

use super::super::request::Request;
use super::memory;
use super::object::Object;
use super::operations::{Attempt, Class, Description, Interest, counted, failed, send, write};
use super::pipe::PipeEnd;

pub(super) static WRITE_PIECES: Description = Description {
    name: "writev",
    class: Class::Polled,
    interrupted: Some(Interest::Write),
    attempt: |machine, op| {
        let Request::WritePieces { list, at, .. } = op.request else { return failed(libc::EINVAL) };
        let bytes = memory::gather(list, 0);
        match machine.node_of(op.file) {
            Some(open) => counted(machine.write_node(open, &bytes, at)),
            None => write(machine, op, &bytes),
        }
    },
};

/// Only files are read so.
pub(super) static READ_PIECES: Description = Description {
    name: "readv",
    class: Class::Polled,
    interrupted: Some(Interest::Read),
    attempt: |machine, op| {
        let Request::ReadPieces { list, at, .. } = op.request else { return failed(libc::EINVAL) };
        let Some(open) = machine.node_of(op.file) else { return failed(libc::EBADF) };
        let room = memory::room(list);
        counted(machine.read_node(open, room, at, |bytes| memory::scatter(list, bytes)))
    },
};

pub(super) static SEND_PIECES: Description = Description {
    name: "send of several",
    class: Class::Polled,
    interrupted: Some(Interest::Write),
    attempt: |machine, op| {
        let Request::SendPieces { header, .. } = op.request else { return failed(libc::EINVAL) };
        let rest = memory::gather(memory::list_of(header), op.done as usize);
        send(machine, op, &rest, true)
    },
};

/// Only files go into pipes so. On Linux a worker does it; here it waits by polling, which a cancel ends as well.
pub(super) static SPLICE: Description = Description {
    name: "splice",
    class: Class::Polled,
    interrupted: Some(Interest::Write),
    attempt: |machine, op| {
        let Request::Splice { from, at, len, .. } = op.request else { return failed(libc::EINVAL) };
        let from = machine.files.find(from);
        if machine.no_splice {
            return failed(libc::EINVAL);
        }
        if let Some(open) = machine.node_of(from) {
            let Some(pipe) = op.pipe(machine, PipeEnd::Writer) else { return failed(libc::EINVAL) };
            let most = machine.room_of_pipe(pipe).min(len as usize);
            let mut bytes = Vec::new();
            return match machine.read_node(open, most, at, |read| bytes.extend_from_slice(read)) {
                Ok(0) if most > 0 => Attempt::Done(0, None),
                Ok(_) => write(machine, op, &bytes),
                Err(errno) => failed(errno),
            };
        }
        let from = from.and_then(|from| machine.object(from));
        let Some(&mut Object::Pipe { pipe, end: PipeEnd::Reader }) = from else {
            return failed(libc::EINVAL);
        };
        let bytes = machine.peek_pipe(pipe, len as usize);
        let moved = match op.conn(machine) {
            Ok((conn, side)) => match machine.send(conn, side, &bytes) {
                None => Attempt::Blocked(Interest::Write),
                Some(Ok(count)) => Attempt::Done(count as i32, None),
                Some(Err(errno)) => failed(errno),
            },
            Err(_) => write(machine, op, &bytes),
        };
        if let Attempt::Done(count @ 1.., _) = moved {
            machine.drain_pipe(pipe, count as usize);
        }
        moved
    },
};
