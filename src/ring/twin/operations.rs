//! What each operation does: one small description for each.

use std::os::fd::RawFd;
use std::time::Duration;

use crate::clock::Instant;
use crate::slots::Key;

use super::super::address::SockAddr;
use super::super::message::PAYLOAD;
use super::super::request::{Region, Request};
use super::super::{Picked, Token};
use super::datagram::Received;
use super::disk;
use super::files::File;
use super::machine::Machine;
use super::memory;
use super::moves::{READ_PIECES, SEND_PIECES, SPLICE, WRITE_PIECES};
use super::object::Object;
use super::pipe::{Pipe, PipeEnd};
use super::queue::RingState;
use super::rights::Rights;
use super::stream::{Conn, Readable, Side};
use super::tape::Lane;

/// An operation from its submission to its terminal completion.
#[derive(Clone, Copy)]
pub(super) struct Op {
    pub(super) ring: Key<RingState>,
    pub(super) token: Token,
    pub(super) request: Request,
    pub(super) description: &'static Description,
    /// Held until the terminal completion.
    pub(super) file: Option<Key<File>>,
    pub(super) stage: Stage,
    /// Bytes transferred so far; for a connect, whether it has begun.
    pub(super) done: u32,
    /// Of the memory that is sent from, at submission.
    pub(super) fingerprint: u64,
    /// Completions that are made and not yet visible.
    pub(super) posts: u32,
    /// When the last of them becomes visible.
    pub(super) due: Instant,
    /// Cancels that did not find it although it waits.
    pub(super) missed: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// A worker begins with it after this time.
    Queued(Duration),
    /// It waits for its file to change.
    Armed(Interest),
    /// Its file has changed, or it has more to do; it tries again when the ring is entered.
    Woken,
    /// Its result is known.
    Ended,
}

/// What an operation waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Interest {
    Read = 0,
    Write = 1,
}

/// What became of an attempt.
pub(super) enum Attempt {
    /// A result, and the buffer that was picked for it.
    Done(i32, Option<Picked>),
    /// Nothing can be done until the file changes.
    Blocked(Interest),
    /// A part is done; the rest can be tried at once.
    Again,
}

/// How the kernel carries an operation out, which is what a cancel of it depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// Done in the first attempt: a cancel comes too late.
    Immediate,
    /// Waits by polling its file: a cancel finds it there.
    Polled,
    /// A worker does it: a cancel finds it before it has begun.
    Worker,
}

/// One kind of operation.
pub(super) struct Description {
    pub(super) name: &'static str,
    pub(super) class: Class,
    /// Whether, and in whose turn, an interruption that nobody asked for may end it: only where the
    /// runtime repeats (rule D4).
    pub(super) interrupted: Option<Interest>,
    pub(super) attempt: fn(&mut Machine, &mut Op) -> Attempt,
}

pub(super) fn describe(request: &Request) -> &'static Description {
    match request {
        Request::Nop => &NOP,
        Request::Accept { .. } => &ACCEPT,
        Request::Connect { .. } => &CONNECT,
        Request::Recv { .. } => &RECV,
        Request::RecvPool { .. } => &RECV_POOL,
        Request::Send { .. } => &SEND,
        Request::SendZeroCopy { .. } => &SEND_ZERO_COPY,
        Request::Read { .. } => &READ,
        Request::ReadRegistered { .. } => &READ_REGISTERED,
        Request::ReadPool { .. } => &READ_POOL,
        Request::Write { .. } => &WRITE,
        Request::WriteRegistered { .. } => &WRITE_REGISTERED,
        Request::SendPieces { .. } => &SEND_PIECES,
        Request::Splice { .. } => &SPLICE,
        Request::ReadPieces { .. } => &READ_PIECES,
        Request::WritePieces { .. } => &WRITE_PIECES,
        Request::File(request) => disk::describe(request),
        Request::Poll { events, .. } if waits_to_write(*events) => &POLL_OUT,
        Request::Poll { .. } => &POLL_IN,
        Request::Raw { .. } => &RAW,
        Request::SendMsg { .. } => &SEND_MSG,
        Request::RecvMsg { .. } => &RECV_MSG,
        Request::RecvMsgPool { .. } => &RECV_MSG_POOL,
        Request::Shutdown { .. } => &SHUTDOWN,
        Request::Close { .. } => &CLOSE,
    }
}

/// The descriptor whose file the operation holds. A close takes a number, not a file.
pub(super) fn descriptor(request: &Request) -> Option<RawFd> {
    match *request {
        Request::Nop | Request::Raw { .. } | Request::Close { .. } => None,
        Request::File(ref request) => disk::descriptor(request),
        Request::Accept { fd, .. }
        | Request::Connect { fd, .. }
        | Request::Recv { fd, .. }
        | Request::RecvPool { fd, .. }
        | Request::Read { fd, .. }
        | Request::ReadRegistered { fd, .. }
        | Request::ReadPool { fd, .. }
        | Request::Write { fd, .. }
        | Request::WriteRegistered { fd, .. }
        | Request::ReadPieces { fd, .. }
        | Request::WritePieces { fd, .. }
        | Request::SendPieces { fd, .. }
        | Request::Splice { to: fd, .. }
        | Request::Send { fd, .. }
        | Request::SendZeroCopy { fd, .. }
        | Request::Poll { fd, .. }
        | Request::SendMsg { fd, .. }
        | Request::RecvMsg { fd, .. }
        | Request::RecvMsgPool { fd, .. }
        | Request::Shutdown { fd, .. } => Some(fd),
    }
}

/// The memory that the kernel writes, if the request names it.
pub(super) fn written(request: &Request) -> Option<Region> {
    match *request {
        Request::Recv { into, .. }
        | Request::Read { into, .. }
        | Request::ReadRegistered { into, .. } => Some(into),
        Request::File(ref request) => disk::written(request),
        Request::RecvMsg { message, .. } => Some(memory::message_bytes(message)),
        Request::ReadPieces { list, .. } => memory::first_of(list),
        _ => None,
    }
}

/// The memory that the kernel reads.
pub(super) fn read_from(request: &Request) -> Option<Region> {
    match *request {
        Request::Send { from, .. }
        | Request::SendZeroCopy { from, .. }
        | Request::Write { from, .. }
        | Request::WriteRegistered { from, .. } => Some(from),
        Request::SendMsg { message, .. } => Some(memory::message_bytes(message)),
        Request::WritePieces { list, .. } => memory::first_of(list),
        Request::SendPieces { header, .. } => memory::first_of(memory::list_of(header)),
        Request::Connect { to, .. } => Some(to),
        Request::File(ref request) => disk::read_from(request),
        _ => None,
    }
}

/// Whether the request goes on after this result.
pub(super) fn goes_on(request: &Request, result: i32) -> bool {
    match *request {
        Request::Accept { multishot, .. } => multishot && result >= 0,
        // 0 is the end of the stream.
        Request::RecvPool { multishot, .. } | Request::ReadPool { multishot, .. } => {
            multishot && result > 0
        }
        // An empty datagram looks like an end.
        Request::RecvMsgPool { .. } => result > PAYLOAD as i32,
        _ => false,
    }
}

impl Op {
    pub(super) fn attempt(&mut self, machine: &mut Machine) -> Attempt {
        (self.description.attempt)(machine, self)
    }

    /// What it ends with when it is stopped: what was transferred is reported.
    pub(super) fn stopped(&self, error: i32) -> i32 {
        match self.request {
            Request::Send { .. } | Request::SendZeroCopy { .. } | Request::SendPieces { .. }
                if self.done > 0 =>
            {
                self.done as i32
            }
            _ => -error,
        }
    }

    pub(super) fn conn(&self, machine: &Machine) -> Result<(Key<Conn>, Side), NoStream> {
        let file = self.file.and_then(|file| machine.files.table.get(file));
        match file.map(|file| &file.object) {
            Some(Object::Stream { conn, side, .. }) => Ok((*conn, *side)),
            Some(Object::Connecting(_)) => Err(NoStream::NotYet),
            _ => Err(NoStream::Never),
        }
    }

    /// The pipe, if the descriptor is this end of one.
    pub(super) fn pipe(&self, machine: &Machine, end: PipeEnd) -> Option<Key<Pipe>> {
        match machine.files.table.get(self.file?)?.object {
            Object::Pipe { pipe, end: which } if which == end => Some(pipe),
            _ => None,
        }
    }
}

pub(super) enum NoStream {
    NotYet,
    Never,
}

static NOP: Description = Description {
    name: "nop",
    class: Class::Immediate,
    interrupted: None,
    attempt: |_, _| Attempt::Done(0, None),
};

static ACCEPT: Description = Description {
    name: "accept",
    class: Class::Polled,
    interrupted: Some(Interest::Read),
    attempt: |machine, op| {
        let Some(file) = op.file else { return failed(libc::EBADF) };
        if machine.no_multishots && op.request.is_multishot() {
            return failed(libc::EINVAL);
        }
        if machine.happens(Lane::Fault, machine.faults.accept_errors) {
            const ERRORS: [i32; 4] =
                [libc::ECONNABORTED, libc::EMFILE, libc::EPROTO, libc::ENOBUFS];
            return failed(ERRORS[machine.tape.choose(Lane::Fault, 4) as usize]);
        }
        match machine.accept(file) {
            None => Attempt::Blocked(Interest::Read),
            Some(Ok(fd)) => Attempt::Done(fd, None),
            Some(Err(errno)) => failed(errno),
        }
    },
};

static CONNECT: Description = Description {
    name: "connect",
    class: Class::Polled,
    interrupted: None,
    attempt: |machine, op| {
        let Some(file) = op.file else { return failed(libc::EBADF) };
        let begun = op.done > 0;
        match machine.files.table.get_mut(file).map(|file| &mut file.object) {
            Some(Object::Fresh { failed: reason @ Some(_), .. }) => {
                failed(reason.take().unwrap_or(libc::ECONNABORTED))
            }
            Some(Object::Fresh { .. }) if !begun => {
                op.done = 1;
                begin_connect(machine, op, file)
            }
            Some(Object::UnixDatagrams(_)) => match op.request {
                Request::Connect { to, .. } => {
                    answer(machine.unix_connect(file, memory::read_name(to).unix_name()))
                }
                _ => failed(libc::EINVAL),
            },
            Some(Object::Udp(_)) => match op.request {
                Request::Connect { to, .. } => match memory::read_address(to) {
                    Ok(to) => answer(machine.udp_connect(file, to)),
                    Err(_) => failed(libc::EAFNOSUPPORT),
                },
                _ => failed(libc::EINVAL),
            },
            Some(Object::Connecting(_)) if begun => Attempt::Blocked(Interest::Write),
            Some(Object::Connecting(_)) => failed(libc::EALREADY),
            // Whoever asks first hears that it is connected.
            Some(Object::Stream { unreported: unreported @ true, .. }) => {
                *unreported = false;
                Attempt::Done(0, None)
            }
            Some(Object::Stream { .. } | Object::Listener(_)) => failed(libc::EISCONN),
            Some(Object::Pipe { .. } | Object::Node(_)) => failed(libc::ENOTSOCK),
            Some(Object::Fresh { .. }) | None => failed(libc::ECONNABORTED),
        }
    },
};

fn begin_connect(machine: &mut Machine, op: &mut Op, file: Key<File>) -> Attempt {
    let Request::Connect { to, .. } = op.request else { return failed(libc::EINVAL) };
    let name = memory::read_name(to);
    if name.is_unix() {
        return match machine.begin_unix_connect(file, name.unix_name()) {
            Ok(()) => op.attempt(machine),
            Err(errno) => failed(errno),
        };
    }
    if machine.happens(Lane::Network, machine.faults.connect_fails) {
        const ERRORS: [i32; 4] =
            [libc::ECONNREFUSED, libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ECONNRESET];
        return failed(ERRORS[machine.tape.choose(Lane::Network, 4) as usize]);
    }
    let Ok(to) = memory::read_address(to) else { return failed(libc::EAFNOSUPPORT) };
    match machine.begin_connect(file, to) {
        // Where the network takes no time it is connected or refused now.
        Ok(_) => op.attempt(machine),
        Err(errno) => failed(errno),
    }
}

static RECV: Description = Description {
    name: "recv",
    class: Class::Polled,
    interrupted: Some(Interest::Read),
    attempt: |machine, op| {
        let Request::Recv { into, .. } = op.request else { return failed(libc::EINVAL) };
        receive(machine, op, |machine, conn, side| {
            Attempt::Done(receive_into(machine, conn, side, into), None)
        })
    },
};

static RECV_POOL: Description = Description {
    name: "recv into the pool",
    class: Class::Polled,
    interrupted: Some(Interest::Read),
    attempt: |machine, op| {
        let Request::RecvPool { group, .. } = op.request else { return failed(libc::EINVAL) };
        if machine.no_multishots && op.request.is_multishot() {
            return failed(libc::EINVAL);
        }
        // Linux looks for a buffer first, and only then for bytes.
        let hidden = machine.happens(Lane::Transfer, machine.faults.empty_pool);
        let Some(room) = machine.next_buffer(op.ring, group).filter(|_| !hidden) else {
            return failed(libc::ENOBUFS);
        };
        receive(machine, op, |machine, conn, side| {
            let result = receive_into(machine, conn, side, room);
            Attempt::Done(result, machine.pick(op.ring, group, result))
        })
    },
};

fn receive(
    machine: &mut Machine,
    op: &Op,
    bytes: impl FnOnce(&mut Machine, Key<Conn>, Side) -> Attempt,
) -> Attempt {
    let (conn, side) = match op.conn(machine) {
        Ok(found) => found,
        Err(NoStream::NotYet) => return Attempt::Blocked(Interest::Read),
        Err(NoStream::Never) => return failed(libc::ENOTCONN),
    };
    match machine.readable(conn, side) {
        Readable::Bytes => bytes(machine, conn, side),
        Readable::End => Attempt::Done(0, None),
        Readable::Error(errno) => failed(errno),
        Readable::Nothing => Attempt::Blocked(Interest::Read),
    }
}

fn receive_into(machine: &mut Machine, conn: Key<Conn>, side: Side, into: Region) -> i32 {
    let write = |at, bytes: &[u8]| memory::write(into, at, bytes);
    let (count, rights) = machine.receive(conn, side, into.len() as usize, write);
    // There is no room for them.
    machine.release_rights(rights);
    count as i32
}

static READ: Description = Description {
    name: "read",
    class: Class::Polled,
    interrupted: Some(Interest::Read),
    attempt: |machine, op| {
        let (into, at) = match op.request {
            Request::Read { into, at, .. } => (into, at),
            Request::ReadRegistered { into, spot, .. } => (into, spot.at),
            _ => return failed(libc::EINVAL),
        };
        if let Some(open) = machine.node_of(op.file) {
            let room = into.len() as usize;
            return counted(
                machine.read_node(open, room, at, |bytes| memory::write(into, 0, bytes)),
            );
        }
        read(machine, op, |machine, pipe| Attempt::Done(read_into(machine, pipe, into), None))
    },
};

static READ_REGISTERED: Description = Description {
    name: "read into registered memory",
    class: Class::Polled,
    interrupted: Some(Interest::Read),
    attempt: |machine, op| match machine.check_registered(op) {
        Ok(()) => (READ.attempt)(machine, op),
        Err(errno) => failed(errno),
    },
};

static READ_POOL: Description = Description {
    name: "read into the pool",
    class: Class::Polled,
    interrupted: Some(Interest::Read),
    attempt: |machine, op| {
        let Request::ReadPool { group, .. } = op.request else { return failed(libc::EINVAL) };
        if machine.no_multishots && op.request.is_multishot() {
            return failed(libc::EINVAL);
        }
        let hidden = machine.happens(Lane::Transfer, machine.faults.empty_pool);
        let Some(room) = machine.next_buffer(op.ring, group).filter(|_| !hidden) else {
            return failed(libc::ENOBUFS);
        };
        read(machine, op, |machine, pipe| {
            let result = read_into(machine, pipe, room);
            Attempt::Done(result, machine.pick(op.ring, group, result))
        })
    },
};

fn read(
    machine: &mut Machine,
    op: &Op,
    bytes: impl FnOnce(&mut Machine, Key<Pipe>) -> Attempt,
) -> Attempt {
    let Some(pipe) = op.pipe(machine, PipeEnd::Reader) else { return failed(libc::EBADF) };
    match machine.pipe_readable(pipe) {
        Readable::Bytes => bytes(machine, pipe),
        Readable::End => Attempt::Done(0, None),
        Readable::Error(errno) => failed(errno),
        Readable::Nothing => Attempt::Blocked(Interest::Read),
    }
}

fn read_into(machine: &mut Machine, pipe: Key<Pipe>, into: Region) -> i32 {
    let write = |at, bytes: &[u8]| memory::write(into, at, bytes);
    machine.read_pipe(pipe, into.len() as usize, write) as i32
}

static WRITE: Description = Description {
    name: "write",
    class: Class::Polled,
    interrupted: Some(Interest::Write),
    attempt: |machine, op| {
        let (from, at) = match op.request {
            Request::Write { from, at, .. } => (from, at),
            Request::WriteRegistered { from, spot, .. } => (from, spot.at),
            _ => return failed(libc::EINVAL),
        };
        if let Some(open) = machine.node_of(op.file) {
            return counted(machine.write_node(open, memory::read(from, 0, usize::MAX), at));
        }
        write(machine, op, memory::read(from, 0, usize::MAX))
    },
};

static WRITE_REGISTERED: Description = Description {
    name: "write from registered memory",
    class: Class::Polled,
    interrupted: Some(Interest::Write),
    attempt: |machine, op| match machine.check_registered(op) {
        Ok(()) => (WRITE.attempt)(machine, op),
        Err(errno) => failed(errno),
    },
};

/// Writes some of it to a pipe.
pub(super) fn write(machine: &mut Machine, op: &Op, bytes: &[u8]) -> Attempt {
    let Some(pipe) = op.pipe(machine, PipeEnd::Writer) else { return failed(libc::EBADF) };
    match machine.write_pipe(pipe, bytes) {
        None => Attempt::Blocked(Interest::Write),
        Some(Ok(count)) => Attempt::Done(count as i32, None),
        Some(Err(errno)) => failed(errno),
    }
}

static SEND: Description = Description {
    name: "send",
    class: Class::Polled,
    interrupted: Some(Interest::Write),
    attempt: |machine, op| {
        let Request::Send { from, all, .. } = op.request else { return failed(libc::EINVAL) };
        let rest = memory::read(from, op.done as usize, usize::MAX);
        match op.file.filter(|&file| machine.is_for_datagrams(file)) {
            Some(file) => send_whole(machine, file, None, rest, Rights::new()),
            None => send(machine, op, rest, all),
        }
    },
};

static SEND_ZERO_COPY: Description = Description {
    name: "send without a copy",
    class: Class::Polled,
    interrupted: Some(Interest::Write),
    attempt: |machine, op| {
        let Request::SendZeroCopy { from, .. } = op.request else { return failed(libc::EINVAL) };
        if machine.no_zero_copy {
            return failed(libc::EOPNOTSUPP);
        }
        let rest = memory::read(from, op.done as usize, usize::MAX);
        send(machine, op, rest, true)
    },
};

/// Sends some of what is left.
pub(super) fn send(machine: &mut Machine, op: &mut Op, rest: &[u8], all: bool) -> Attempt {
    let (conn, side) = match op.conn(machine) {
        Ok(found) => found,
        Err(NoStream::NotYet) => return Attempt::Blocked(Interest::Write),
        Err(NoStream::Never) => return failed(libc::EPIPE),
    };
    match machine.send(conn, side, rest) {
        None => Attempt::Blocked(Interest::Write),
        // What was sent before is reported; the error comes with the next operation.
        Some(Err(errno)) => Attempt::Done(op.stopped(errno), None),
        Some(Ok(count)) => {
            op.done += count as u32;
            if all && count < rest.len() {
                Attempt::Again
            } else {
                Attempt::Done(op.done as i32, None)
            }
        }
    }
}

static SEND_MSG: Description = Description {
    name: "sendmsg",
    class: Class::Polled,
    interrupted: Some(Interest::Write),
    attempt: |machine, op| {
        let Request::SendMsg { message, .. } = op.request else { return failed(libc::EINVAL) };
        let Some(file) = op.file else { return failed(libc::EBADF) };
        let to = memory::message_address(message);
        let bytes = memory::read(memory::message_bytes(message), 0, usize::MAX);
        let rights = match machine.hold_rights(&memory::message_descriptors(message)) {
            Ok(rights) => rights,
            Err(errno) => return failed(errno),
        };
        send_whole(machine, file, to, bytes, rights)
    },
};

fn send_whole(
    machine: &mut Machine,
    file: Key<File>,
    to: Option<SockAddr>,
    bytes: &[u8],
    rights: Rights,
) -> Attempt {
    match machine.send_message(file, to, bytes, rights) {
        None => Attempt::Blocked(Interest::Write),
        Some(Ok(count)) => Attempt::Done(count as i32, None),
        Some(Err(errno)) => failed(errno),
    }
}

static RECV_MSG: Description = Description {
    name: "recvmsg",
    class: Class::Polled,
    interrupted: Some(Interest::Read),
    attempt: |machine, op| {
        let Request::RecvMsg { message, .. } = op.request else { return failed(libc::EINVAL) };
        let Some(file) = op.file else { return failed(libc::EBADF) };
        let into = memory::message_bytes(message);
        if !matches!(op.conn(machine), Err(NoStream::Never)) {
            return receive(machine, op, |machine, conn, side| {
                let write = |at, bytes: &[u8]| memory::write(into, at, bytes);
                let (count, rights) = machine.receive(conn, side, into.len() as usize, write);
                memory::write_sender(message, &SockAddr::NONE);
                machine.deliver_rights(message, rights, None);
                Attempt::Done(count as i32, None)
            });
        }
        match machine.receive_message(file) {
            None => Attempt::Blocked(Interest::Read),
            Some(Err(errno)) => failed(errno),
            Some(Ok(Received { from, bytes, segment, rights })) => {
                memory::write(into, 0, &bytes[..bytes.len().min(into.len() as usize)]);
                memory::write_sender(message, &from);
                machine.deliver_rights(message, rights, segment);
                // The whole length was asked for.
                Attempt::Done(bytes.len() as i32, None)
            }
        }
    },
};

static RECV_MSG_POOL: Description = Description {
    name: "recvmsg into the pool",
    class: Class::Polled,
    interrupted: Some(Interest::Read),
    attempt: |machine, op| {
        let Request::RecvMsgPool { group, message, .. } = op.request else {
            return failed(libc::EINVAL);
        };
        let Some(file) = op.file else { return failed(libc::EBADF) };
        if machine.no_multishots {
            return failed(libc::EINVAL);
        }
        let hidden = machine.happens(Lane::Transfer, machine.faults.empty_pool);
        let Some(room) = machine.next_buffer(op.ring, group).filter(|_| !hidden) else {
            return failed(libc::ENOBUFS);
        };
        match machine.receive_message(file) {
            None => Attempt::Blocked(Interest::Read),
            Some(Err(errno)) => failed(errno),
            Some(Ok(Received { from, bytes, segment, rights })) => {
                machine.release_rights(rights);
                let segment = segment.filter(|_| memory::has_room_for_control(message));
                let result = memory::write_message(room, &from, segment, &bytes) as i32;
                Attempt::Done(result, machine.pick(op.ring, group, result))
            }
        }
    },
};

/// It cannot be known here.
static RAW: Description = Description {
    name: "raw operation",
    class: Class::Immediate,
    interrupted: None,
    attempt: |_, _| failed(libc::EOPNOTSUPP),
};

static POLL_IN: Description = poll_for(Interest::Read);
static POLL_OUT: Description = poll_for(Interest::Write);

/// An operation that waits for one thing has one description for each.
const fn poll_for(interest: Interest) -> Description {
    Description { name: "poll", class: Class::Polled, interrupted: Some(interest), attempt: poll }
}

fn poll(machine: &mut Machine, op: &mut Op) -> Attempt {
    let Request::Poll { events, .. } = op.request else { return failed(libc::EINVAL) };
    let Some(file) = op.file else { return failed(libc::EBADF) };
    let always = (libc::POLLERR | libc::POLLHUP) as u32;
    match machine.events_of(file) & (events | always) {
        0 if waits_to_write(events) => Attempt::Blocked(Interest::Write),
        0 => Attempt::Blocked(Interest::Read),
        there => Attempt::Done(there as i32, None),
    }
}

/// Those of these events that are there.
pub(super) fn those<const N: usize>(events: [(i16, bool); N]) -> i16 {
    events.iter().filter(|(_, there)| *there).fold(0, |all, (event, _)| all | event)
}

fn waits_to_write(events: u32) -> bool {
    events & libc::POLLOUT as u32 != 0
}

static SHUTDOWN: Description = Description {
    name: "shutdown",
    class: Class::Immediate,
    interrupted: None,
    attempt: |machine, op| {
        let Request::Shutdown { how, .. } = op.request else { return failed(libc::EINVAL) };
        let Some(file) = op.file else { return failed(libc::EBADF) };
        answer(machine.shutdown(file, how))
    },
};

static CLOSE: Description = Description {
    name: "close",
    class: Class::Immediate,
    interrupted: None,
    attempt: |machine, op| {
        let Request::Close { fd, .. } = op.request else { return failed(libc::EINVAL) };
        let closed = machine.close_number(fd);
        // An interrupted close has closed.
        if closed.is_ok() && machine.happens(Lane::Fault, machine.faults.spurious) {
            return failed(libc::EINTR);
        }
        answer(closed)
    },
};

fn answer(result: Result<(), i32>) -> Attempt {
    match result {
        Ok(()) => Attempt::Done(0, None),
        Err(errno) => failed(errno),
    }
}

/// A count, or an error.
pub(super) fn counted(result: Result<i32, i32>) -> Attempt {
    result.map_or_else(failed, |count| Attempt::Done(count, None))
}

pub(super) fn failed(errno: i32) -> Attempt {
    Attempt::Done(-errno, None)
}
