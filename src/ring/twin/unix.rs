//! Unix sockets: names, connections that no network is between, and datagrams that are never lost.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::RawFd;

use crate::slots::Key;

use super::super::address::SockAddr;
use super::super::unix::{FileId, UnixKind};
use super::datagram::Received;
use super::files::File;
use super::machine::Machine;
use super::object::Object;
use super::operations::{Interest, those};
use super::options::Options;
use super::rights::Rights;
use super::stream::{Conn, Handshake};
use super::tcp::{Family, Listener};

/// A name as the kernel has it: a path with a zero at its end, or a zero and an abstract name, or nothing.
pub(super) type Name = Vec<u8>;

/// A socket for datagrams.
pub(super) struct UnixDatagrams {
    pub(super) name: Name,
    peer: Option<Key<File>>,
    queue: VecDeque<Received>,
    /// Sockets whose sends wait for room.
    blocked: BTreeSet<u64>,
}

/// Datagrams that may wait: Linux lets one more wait than `net.unix.max_dgram_qlen`.
const MOST: usize = 11;

/// What a datagram may have: the send buffer of Linux, mostly, without what it needs itself.
const LARGEST: usize = 212_992 - 32;

impl UnixDatagrams {
    fn new(name: Name) -> UnixDatagrams {
        UnixDatagrams { name, peer: None, queue: VecDeque::new(), blocked: BTreeSet::new() }
    }

    /// What poll(2) finds.
    pub(super) fn events(&self) -> i16 {
        libc::POLLOUT | those([(libc::POLLIN, !self.queue.is_empty())])
    }
}

fn is_path(name: &[u8]) -> bool {
    name.first().is_some_and(|&first| first != 0)
}

impl Machine {
    pub(super) fn unix_socket(&mut self, kind: UnixKind) -> Result<RawFd, i32> {
        let socket = match kind {
            UnixKind::Stream => Object::Fresh { family: Family::Unix, bound: None, failed: None },
            UnixKind::Datagram => Object::UnixDatagrams(Box::new(UnixDatagrams::new(Name::new()))),
        };
        self.open_file(socket, Options::of_datagrams(), "unix").map(|(fd, _)| fd)
    }

    pub(super) fn unix_pair(&mut self, kind: UnixKind) -> Result<(RawFd, RawFd), i32> {
        let one = self.unix_socket(kind)?;
        let other = self.unix_socket(kind).inspect_err(|_| {
            // The first one was just made.
            let _ = self.close_number(one);
        })?;
        let files = [one, other].map(|fd| self.files.find(fd));
        let [Some(first), Some(second)] = files else { return Err(libc::EBADF) };
        match kind {
            UnixKind::Stream => self.join(first, second),
            UnixKind::Datagram => {
                self.unix_of(first)?.peer = Some(second);
                self.unix_of(second)?.peer = Some(first);
            }
        }
        Ok((one, other))
    }

    /// Makes two fresh sockets the ends of a connection.
    fn join(&mut self, first: Key<File>, second: Key<File>) {
        let mut conn = Conn::local([Name::new(), Name::new()], self.capacities());
        conn.handshake = Handshake::Established;
        conn.ends[1].gone = false;
        for (end, file) in conn.ends.iter_mut().zip([first, second]) {
            end.file = Some(file);
        }
        let conn = self.conns.insert(conn);
        for (side, file) in [first, second].into_iter().enumerate() {
            if let Some(file) = self.files.table.get_mut(file) {
                file.object = Object::Stream { conn, side, unreported: false };
            }
        }
    }

    pub(super) fn unix_listen(&mut self, name: &SockAddr, backlog: u32) -> Result<RawFd, i32> {
        let name = name.unix_name().to_vec();
        let listener = Listener::local(name.clone(), backlog);
        self.open_named(name, Object::Listener(listener))
    }

    pub(super) fn unix_bound(&mut self, name: &SockAddr) -> Result<RawFd, i32> {
        let name = name.unix_name().to_vec();
        let socket = Object::UnixDatagrams(Box::new(UnixDatagrams::new(name.clone())));
        self.open_named(name, socket)
    }

    fn open_named(&mut self, name: Name, object: Object) -> Result<RawFd, i32> {
        self.check_descriptors()?;
        if name.is_empty() {
            return Err(libc::EINVAL);
        }
        if self.network.unix.contains_key(&name) {
            return Err(libc::EADDRINUSE);
        }
        let (fd, file) = self.open_file(object, Options::of_datagrams(), "unix")?;
        self.network.unix.insert(name, file);
        Ok(fd)
    }

    /// The socket of this name is gone. A path stays, and means nobody.
    pub(super) fn end_name(&mut self, file: Key<File>, name: &Name) {
        if !is_path(name) && self.network.unix.get(name) == Some(&file) {
            self.network.unix.remove(name);
        }
    }

    /// Who has this name.
    fn find_name(&self, name: &[u8]) -> Result<Key<File>, i32> {
        let nobody = if is_path(name) { libc::ENOENT } else { libc::ECONNREFUSED };
        let file = *self.network.unix.get(name).ok_or(nobody)?;
        self.files.table.get(file).map(|_| file).ok_or(libc::ECONNREFUSED)
    }

    fn file_named(&self, path: &[u8]) -> Option<Key<File>> {
        self.network.unix.get(&[path, &[0]].concat()).copied()
    }

    pub(super) fn unix_file_id(&self, path: &[u8]) -> Result<FileId, i32> {
        self.file_named(path).map(|file| FileId(0, file.to_bits())).ok_or(libc::ENOENT)
    }

    pub(super) fn unix_unlink(&mut self, path: &[u8]) -> Result<(), i32> {
        let name = [path, &[0]].concat();
        self.network.unix.remove(&name).map(drop).ok_or(libc::ENOENT)
    }

    /// Begins to connect a fresh socket.
    pub(super) fn begin_unix_connect(&mut self, file: Key<File>, to: &[u8]) -> Result<(), i32> {
        match self.files.table.get(file).map(|file| &file.object) {
            Some(Object::Fresh { family: Family::Unix, .. }) => {}
            _ => return Err(libc::EAFNOSUPPORT),
        }
        let listener = self.find_name(to)?;
        match self.files.table.get(listener).map(|file| &file.object) {
            Some(Object::Listener(_)) => {}
            Some(Object::UnixDatagrams(_)) => return Err(libc::EPROTOTYPE),
            _ => return Err(libc::ECONNREFUSED),
        }
        let mut conn = Conn::local([Name::new(), to.to_vec()], self.capacities());
        conn.ends[0].file = Some(file);
        let conn = self.conns.insert(conn);
        if let Some(file) = self.files.table.get_mut(file) {
            file.object = Object::Connecting(conn);
        }
        self.knock(listener, conn);
        Ok(())
    }

    pub(super) fn unix_of(&mut self, file: Key<File>) -> Result<&mut UnixDatagrams, i32> {
        match self.files.table.get_mut(file).map(|file| &mut file.object) {
            Some(Object::UnixDatagrams(socket)) => Ok(socket),
            _ => Err(libc::EPROTOTYPE),
        }
    }

    /// Makes another socket for datagrams the only peer.
    pub(super) fn unix_connect(&mut self, file: Key<File>, to: &[u8]) -> Result<(), i32> {
        let other = self.find_name(to)?;
        if self.unix_of(other)?.peer.is_some_and(|peer| peer != file) {
            return Err(libc::EPERM);
        }
        self.unix_of(file)?.peer = Some(other);
        Ok(())
    }

    pub(super) fn local_name(&mut self, file: Key<File>) -> SockAddr {
        let Some(File { object, .. }) = self.files.table.get(file) else { return SockAddr::NONE };
        match object {
            Object::UnixDatagrams(socket) => SockAddr::unix(&socket.name),
            Object::Listener(Listener { name: Some(name), .. }) => SockAddr::unix(name),
            Object::Stream { conn, side, .. } => self.end_name_of(*conn, *side),
            _ => SockAddr::unix(&[]),
        }
    }

    pub(super) fn peer_name(&mut self, file: Key<File>) -> Result<SockAddr, i32> {
        match self.files.table.get(file).map(|file| &file.object) {
            Some(Object::Stream { conn, side, .. }) => Ok(self.end_name_of(*conn, 1 - *side)),
            Some(Object::UnixDatagrams(socket)) => {
                let peer = socket.peer.ok_or(libc::ENOTCONN)?;
                Ok(self.unix_of(peer).map_or(SockAddr::unix(&[]), |p| SockAddr::unix(&p.name)))
            }
            _ => Err(libc::ENOTCONN),
        }
    }

    fn end_name_of(&self, conn: Key<Conn>, side: usize) -> SockAddr {
        match self.conns.get(conn).and_then(|conn| conn.names.as_ref()) {
            Some(names) => SockAddr::unix(&names[side]),
            None => SockAddr::NONE,
        }
    }

    /// Sends a datagram; `None`: the receiver has as many as it may have.
    pub(super) fn send_unix(
        &mut self,
        file: Key<File>,
        to: Option<&[u8]>,
        bytes: &[u8],
        rights: Rights,
    ) -> Option<Result<usize, i32>> {
        let other = self
            .unix_receiver(file, to)
            .and_then(|other| if bytes.len() > LARGEST { Err(libc::EMSGSIZE) } else { Ok(other) });
        let from = match self.unix_of(file) {
            Ok(socket) if !socket.name.is_empty() => SockAddr::unix(&socket.name),
            _ => SockAddr::NONE,
        };
        match other.and_then(|other| Ok((other, self.unix_of(other)?))) {
            Ok((other, receiver)) if receiver.queue.len() < MOST => {
                receiver.queue.push_back(Received {
                    from,
                    bytes: bytes.to_vec(),
                    segment: None,
                    rights,
                });
                self.wake(Some(other), Interest::Read);
                Some(Ok(bytes.len()))
            }
            Ok((_, receiver)) => {
                receiver.blocked.insert(file.to_bits());
                self.release_rights(rights);
                None
            }
            Err(errno) => {
                self.release_rights(rights);
                Some(Err(errno))
            }
        }
    }

    /// Who gets what is sent. A peer that has gone is one no more.
    fn unix_receiver(&mut self, file: Key<File>, to: Option<&[u8]>) -> Result<Key<File>, i32> {
        let socket = self.unix_of(file)?;
        let other = match (to, socket.peer) {
            (Some(name), _) => self.find_name(name)?,
            (None, None) => return Err(libc::ENOTCONN),
            (None, Some(peer)) if self.files.table.get(peer).is_some() => peer,
            (None, Some(_)) => {
                self.unix_of(file)?.peer = None;
                return Err(libc::ECONNREFUSED);
            }
        };
        match self.unix_of(other)?.peer {
            Some(peer) if peer != file => Err(libc::EPERM),
            _ => Ok(other),
        }
    }

    pub(super) fn receive_unix(&mut self, file: Key<File>) -> Option<Received> {
        let received = self.unix_of(file).ok()?.queue.pop_front()?;
        self.wake_blocked(file);
        Some(received)
    }

    /// Those whose sends wait for this socket try again.
    fn wake_blocked(&mut self, file: Key<File>) {
        let blocked = self.unix_of(file).map(|socket| std::mem::take(&mut socket.blocked));
        self.wake_all(blocked.unwrap_or_default());
    }

    fn wake_all(&mut self, senders: BTreeSet<u64>) {
        for sender in senders {
            self.wake(Key::from_bits(sender), Interest::Write);
        }
    }

    pub(super) fn end_unix(&mut self, file: Key<File>, socket: UnixDatagrams) {
        self.end_name(file, &socket.name);
        self.wake_all(socket.blocked);
        socket.queue.into_iter().for_each(|letter| self.release_rights(letter.rights));
    }
}
