//! What a descriptor is of, and what is asked of whatever it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;

use crate::slots::Key;

use super::datagram::UdpSocket;
use super::disk::OpenNode;
use super::files::File;
use super::machine::Machine;
use super::network::unspecified;
use super::options::Options;
use super::pipe::{Pipe, PipeEnd};
use super::stream::{Conn, Side};
use super::tcp::{Family, Listener};
use super::unix::UnixDatagrams;

/// A socket in one of its states, an end of a pipe, or a file.
pub(super) enum Object {
    /// A socket that is neither listening nor connected.
    Fresh {
        family: Family,
        bound: Option<SocketAddr>,
        /// Why a connect failed, if nobody has heard of it.
        failed: Option<i32>,
    },
    Listener(Listener),
    Connecting(Key<Conn>),
    Stream {
        conn: Key<Conn>,
        side: Side,
        /// It was connected, and no connect has said so.
        unreported: bool,
    },
    Udp(Box<UdpSocket>),
    UnixDatagrams(Box<UnixDatagrams>),
    Pipe {
        pipe: Key<Pipe>,
        end: PipeEnd,
    },
    /// A file or a directory: an inode.
    Node(OpenNode),
}

impl Object {
    /// One for addresses of this family.
    pub(super) fn fresh(family: SocketAddr) -> Object {
        Object::Fresh { family: Family::of(family), bound: None, failed: None }
    }

    pub(super) fn local_addr(&self, conns: impl Fn(Key<Conn>, Side) -> SocketAddr) -> SocketAddr {
        match self {
            Object::Fresh { bound: Some(address), .. } => *address,
            Object::Fresh { family, .. } => (unspecified(*family != Family::Ipv6), 0).into(),
            Object::UnixDatagrams(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            Object::Udp(socket) => socket.local,
            Object::Listener(listener) => listener.address,
            Object::Connecting(conn) => conns(*conn, 0),
            Object::Stream { conn, side, .. } => conns(*conn, *side),
            Object::Pipe { .. } | Object::Node(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        }
    }
}

impl Machine {
    pub(super) fn object(&mut self, file: Key<File>) -> Option<&mut Object> {
        self.files.table.get_mut(file).map(|file| &mut file.object)
    }

    /// How many bytes a read of a stream would find.
    pub(super) fn unread(&mut self, fd: RawFd) -> usize {
        match self.files.find(fd).and_then(|file| self.object(file)) {
            Some(&mut Object::Stream { conn, side, .. }) => self.unread_of_stream(conn, side),
            Some(&mut Object::Pipe { pipe, end: PipeEnd::Reader }) => self.unread_of_pipe(pipe),
            _ => 0,
        }
    }

    /// What poll(2) finds: `POLLIN` and the like.
    pub(super) fn events_of(&mut self, file: Key<File>) -> u32 {
        let events = match self.object(file) {
            Some(Object::Fresh { .. }) => libc::POLLOUT | libc::POLLHUP,
            Some(Object::Listener(listener)) if listener.has_backlog() => libc::POLLIN,
            Some(&mut Object::Stream { conn, side, .. }) => self.events_of_stream(conn, side),
            Some(&mut Object::Pipe { pipe, end }) => self.events_of_pipe(pipe, end),
            Some(Object::Node(_)) => libc::POLLIN | libc::POLLOUT,
            Some(Object::Udp(socket)) => socket.events(),
            Some(Object::UnixDatagrams(socket)) => socket.events(),
            Some(Object::Listener(_) | Object::Connecting(_)) | None => 0,
        };
        events as u32
    }

    /// Nobody has it any more.
    pub(super) fn end_object(&mut self, file: Key<File>, object: Object, options: Options) {
        match object {
            Object::Fresh { .. } => {}
            Object::Pipe { pipe, end } => self.end_pipe(pipe, end),
            Object::Udp(socket) => self.end_udp(file, &socket),
            Object::UnixDatagrams(socket) => self.end_unix(file, *socket),
            Object::Stream { conn, side, .. } => self.end_side(conn, side, options.linger()),
            Object::Node(open) => self.end_node(open),
            Object::Connecting(conn) => self.end_connecting(conn),
            Object::Listener(listener) => self.end_listener(file, listener),
        }
    }
}
