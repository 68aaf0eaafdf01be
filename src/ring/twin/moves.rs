//! Transfers of several pieces of memory, and of none.

use crate::slots::Key;

use super::super::request::Request;
use super::disk::OpenNode;
use super::machine::Machine;
use super::memory;
use super::object::Object;
use super::operations::{Attempt, Class, Description, Interest, Op, counted, failed, send, write};
use super::pipe::{Pipe, PipeEnd};

use super::stream::{Conn, Readable, Side};

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

/// Files and streams go into pipes so, and pipes into files and streams. On Linux a worker does it; here it waits
/// by polling, which a cancel ends as well.
///
/// Divergence: a connection without bytes is refused as all else is that must not wait; TCP waits on Linux.
pub(super) static SPLICE: Description = Description {
    name: "splice",
    class: Class::Polled,
    interrupted: Some(Interest::Write),
    attempt: |machine, op| {
        let Request::Splice { from, at, len, .. } = op.request else {
            return failed(libc::EINVAL);
        };
        if machine.no_splice {
            return failed(libc::EINVAL);
        }
        let from = machine.files.find(from);
        if let Some(open) = machine.node_of(from) {
            return splice_file(machine, op, open, at, len as usize);
        }
        match from.and_then(|from| machine.object(from)) {
            Some(&mut Object::Stream { conn, side, .. }) => {
                splice_stream(machine, op, (conn, side), len as usize)
            }
            Some(&mut Object::Pipe { pipe, end: PipeEnd::Reader }) => {
                splice_pipe(machine, op, pipe, at, len as usize)
            }
            _ => failed(libc::EINVAL),
        }
    },
};

/// Out of a file.
fn splice_file(machine: &mut Machine, op: &Op, from: OpenNode, at: u64, len: usize) -> Attempt {
    let Some(pipe) = op.pipe(machine, PipeEnd::Writer) else { return failed(libc::EINVAL) };
    let most = machine.room_of_pipe(pipe).min(len);
    let mut bytes = Vec::new();
    match machine.read_node(from, most, at, |read| bytes.extend_from_slice(read)) {
        Ok(0) if most > 0 => Attempt::Done(0, None),
        Ok(_) => write(machine, op, &bytes),
        Err(errno) => failed(errno),
    }
}

/// Out of a connection, which does not wait.
fn splice_stream(
    machine: &mut Machine,
    op: &Op,
    (conn, side): (Key<Conn>, Side),
    len: usize,
) -> Attempt {
    let Some(pipe) = op.pipe(machine, PipeEnd::Writer) else { return failed(libc::EINVAL) };
    match machine.readable(conn, side) {
        Readable::Bytes => match machine.divert((conn, side), pipe, len) {
            Ok(count) => Attempt::Done(count as i32, None),
            Err(errno) => failed(errno),
        },
        Readable::End => Attempt::Done(0, None),
        Readable::Error(errno) => failed(errno),
        Readable::Nothing => failed(libc::EAGAIN),
    }
}

/// Out of a pipe.
fn splice_pipe(
    machine: &mut Machine,
    op: &mut Op,
    pipe: Key<Pipe>,
    at: u64,
    len: usize,
) -> Attempt {
    let bytes = machine.peek_pipe(pipe, len);
    if bytes.is_empty() {
        return match machine.pipe_readable(pipe) {
            Readable::End => Attempt::Done(0, None),
            _ => failed(libc::EAGAIN),
        };
    }
    let moved = if let Some(to) = machine.node_of(op.file) {
        if to.appends { failed(libc::EINVAL) } else { counted(machine.write_node(to, &bytes, at)) }
    } else if let Ok((conn, side)) = op.conn(machine) {
        match machine.send(conn, side, &bytes) {
            None => Attempt::Blocked(Interest::Write),
            Some(Ok(count)) => Attempt::Done(count as i32, None),
            Some(Err(errno)) => failed(errno),
        }
    } else {
        write(machine, op, &bytes)
    };
    if let Attempt::Done(count @ 1.., _) = moved {
        machine.drain_pipe(pipe, count as usize);
    }
    moved
}
