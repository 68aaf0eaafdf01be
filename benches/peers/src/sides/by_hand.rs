//! The server on a ring used by hand: the limit.
//!
//! Multishot accept, multishot receive into a small pool of buffers that stays in the cache, the
//! answer sent from the buffer it came in, one system call per turn.
//!
//! Each turn waits for one completion, and the kernel then runs up to twenty of what is ready.
//! Waiting for more (for as many as there are sends, whose completions come at once) was no faster
//! at 64, 1,000 and 8,000 connections, nor were registered descriptors, a smaller completion queue,
//! buffers that start on different cache lines of their pages, receives in bundles, and larger buffers
//! that are filled piece by piece (with messages of 256 KiB those are: by 0.6). Receives are then at most forty
//! to a turn, so that the buffers never run out.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{cqueue, opcode, types};

use super::{BUFFER, Served};
use crate::buffers::{Buffers, GROUP};
use crate::hand::Ring;
use crate::server::listens;

/// 256 x 16 KiB. With 64 of them receives find none and have to be armed again, which costs more
/// than the cache gains; 128 do as well.
const BUFFERS: u16 = 256;

struct Server {
    ring: Ring,
    buffers: Buffers,
    listener: TcpListener,
    /// By descriptor.
    peers: Vec<Peer>,
    /// Whose receive ended because there was no buffer.
    starved: Vec<RawFd>,
}

#[derive(Default)]
struct Peer {
    /// What the kernel is sending. The next piece has to wait, or it might overtake.
    sending: Option<Piece>,
    waiting: VecDeque<Piece>,
    /// No more will come; closed once nothing is left to send.
    ended: bool,
}

/// A part of a buffer that is to be sent.
#[derive(Clone, Copy)]
struct Piece {
    buffer: u16,
    begin: u32,
    end: u32,
}

pub fn serve() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    no_delay(&listener)?;
    let ring = Ring::open(256, 8192)?;
    let buffers = Buffers::register(&ring, BUFFERS, BUFFER)?;
    listens(listener.local_addr()?);
    let (peers, starved) = (Vec::new(), Vec::new());
    Server { ring, buffers, listener, peers, starved }.run()
}

/// Sets `TCP_NODELAY` for all connections that are accepted: they inherit it.
fn no_delay(listener: &TcpListener) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, alive across the call, and its size is given.
    let set = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Server {
    fn run(mut self) -> ! {
        self.accept();
        let mut batch = Vec::new();
        loop {
            self.ring.enter(1);
            batch.extend(self.ring.io.completion());
            for done in batch.drain(..) {
                let (kind, fd) = (done.user_data() & !FD, (done.user_data() & FD) as RawFd);
                match kind {
                    ACCEPT => self.accepted(&done),
                    RECEIVE => self.received(fd, &done),
                    _ => self.sent(fd, done.result()),
                }
            }
            self.buffers.publish();
            for fd in std::mem::take(&mut self.starved) {
                self.receive(fd);
            }
        }
    }

    fn accepted(&mut self, done: &cqueue::Entry) {
        if done.result() >= 0 {
            let fd = done.result();
            if self.peers.len() <= fd as usize {
                self.peers.resize_with(fd as usize + 1, Peer::default);
            }
            self.peers[fd as usize] = Peer::default();
            self.receive(fd);
        }
        if !cqueue::more(done.flags()) {
            self.accept();
        }
    }

    fn received(&mut self, fd: RawFd, done: &cqueue::Entry) {
        let peer = &mut self.peers[fd as usize];
        let again = !cqueue::more(done.flags());
        match (done.result(), cqueue::buffer_select(done.flags())) {
            (length @ 1.., Some(buffer)) => {
                let piece = Piece { buffer, begin: 0, end: length as u32 };
                if peer.sending.is_some() {
                    peer.waiting.push_back(piece);
                } else {
                    self.send(fd, piece);
                }
                if again {
                    self.receive(fd);
                }
            }
            (result, buffer) => {
                if let Some(id) = buffer {
                    self.buffers.give(id);
                }
                if result == -libc::ENOBUFS {
                    self.starved.push(fd);
                } else if again {
                    peer.ended = true;
                    self.close_if_done(fd);
                }
            }
        }
    }

    fn sent(&mut self, fd: RawFd, result: i32) {
        let peer = &mut self.peers[fd as usize];
        let Some(mut piece) = peer.sending.take() else { return };
        if result > 0 && piece.begin + (result as u32) < piece.end {
            piece.begin += result as u32;
            return self.send(fd, piece);
        }
        self.buffers.give(piece.buffer);
        if result < 0 {
            for piece in peer.waiting.drain(..) {
                self.buffers.give(piece.buffer);
            }
            // SAFETY: the descriptor is open. It makes the receive end, and so the connection.
            unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
        }
        match peer.waiting.pop_front() {
            Some(piece) => self.send(fd, piece),
            None => self.close_if_done(fd),
        }
    }

    fn close_if_done(&mut self, fd: RawFd) {
        let peer = &self.peers[fd as usize];
        if peer.ended && peer.sending.is_none() {
            // SAFETY: nothing is in flight on the descriptor, which is ours.
            unsafe { libc::close(fd) };
        }
    }

    fn accept(&mut self) {
        let entry = opcode::AcceptMulti::new(types::Fd(self.listener.as_raw_fd())).build();
        // SAFETY: it points to nothing.
        unsafe { self.ring.push(&entry.user_data(ACCEPT)) };
    }

    fn receive(&mut self, fd: RawFd) {
        let entry = opcode::RecvMulti::new(types::Fd(fd), GROUP).build();
        // SAFETY: the memory it writes to is that of the buffers, which are never freed.
        unsafe { self.ring.push(&entry.user_data(RECEIVE | fd as u64)) };
    }

    fn send(&mut self, fd: RawFd, piece: Piece) {
        self.peers[fd as usize].sending = Some(piece);
        let data = self.buffers.address(piece.buffer).wrapping_add(piece.begin as usize);
        let entry = opcode::Send::new(types::Fd(fd), data, piece.end - piece.begin)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        // SAFETY: the buffer is never freed, and given to the kernel again only after the send.
        unsafe { self.ring.push(&entry.user_data(SEND | fd as u64)) };
    }
}

// What a completion is of; the descriptor fills the lower half.
const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const FD: u64 = (1 << 32) - 1;
