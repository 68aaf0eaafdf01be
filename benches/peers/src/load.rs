//! The load: many connections on one ring that is never left to sleep.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{cqueue, opcode, squeue, types};

use super::buffers::{Buffers, GROUP};
use super::latency::Latency;
use super::plan::{Pace, Plan};
use crate::hand::Ring;
use crate::measure::reset_on_close;

/// Everybody who asks, and what came of it.
pub struct Load {
    ring: Ring,
    buffers: Buffers,
    peers: Vec<Peer>,
    /// What every request consists of. Leaked: the kernel may read it as long as the ring lives.
    message: &'static [u8],
    pace: Pace,
    /// Closed loop: who is to send next.
    ready: Vec<u32>,
    /// Open loop: how many requests were sent.
    sent: u64,
    started: Instant,
    pub answers: Latency,
}

struct Peer {
    stream: TcpStream,
    /// Bytes of an answer that is not complete yet.
    received: usize,
    /// Closed loop: when the request left, in nanoseconds since the start.
    asked: u64,
    /// Open loop: how many were answered, which tells when the next one was due.
    answered: u64,
}

impl Load {
    /// Opens all connections, and sends one message through each to see that it comes back.
    pub fn connect(to: SocketAddr, plan: &Plan) -> Load {
        let message: Vec<u8> = (0..plan.message).map(|at| (at * 31 + at / 256) as u8).collect();
        let ring = Ring::open(1024, 32_768).expect("a ring");
        // More than the kernel can fill in the one pass after which they are given back.
        let buffers = Buffers::register(&ring, 512, plan.message).expect("buffers");
        let peers = (0..plan.connections).map(|_| Peer::connect(to, &message)).collect();
        let mut load = Load {
            ring,
            buffers,
            peers,
            message: message.leak(),
            pace: plan.pace,
            ready: (0..plan.connections as u32).collect(),
            sent: 0,
            started: Instant::now(),
            answers: Latency::new(),
        };
        (0..load.peers.len()).for_each(|at| load.receive(at));
        load.started = Instant::now();
        load
    }

    /// Asks and listens for so long.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now() + duration.as_nanos() as u64;
        loop {
            let now = self.now();
            if now >= end {
                return;
            }
            match self.pace {
                Pace::Closed => self.send_ready(now),
                Pace::Open(rate) => self.send_due(now, rate),
            }
            self.ring.enter(0);
            self.listen();
        }
    }

    fn send_ready(&mut self, now: u64) {
        while let Some(at) = self.ready.pop() {
            self.peers[at as usize].asked = now;
            self.send(at as usize);
        }
    }

    fn send_due(&mut self, now: u64, rate: u32) {
        while due(self.sent, rate) <= now {
            self.send((self.sent % self.peers.len() as u64) as usize);
            self.sent += 1;
        }
    }

    fn send(&mut self, at: usize) {
        let fd = types::Fd(self.peers[at].stream.as_raw_fd());
        let entry = opcode::Send::new(fd, self.message.as_ptr(), self.message.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SEND);
        // SAFETY: the message is never freed.
        unsafe { self.ring.push(&entry) };
    }

    fn receive(&mut self, at: usize) {
        let fd = types::Fd(self.peers[at].stream.as_raw_fd());
        let entry = opcode::RecvMulti::new(fd, GROUP).build().user_data(at as u64);
        // SAFETY: the memory it writes to is that of the buffers, which are never freed.
        unsafe { self.ring.push(&entry) };
    }

    /// Takes what has come.
    fn listen(&mut self) {
        let now = self.now();
        let everybody = self.peers.len() as u64;
        let mut again = Vec::new();
        for done in self.ring.io.completion() {
            let (at, result) = (done.user_data(), done.result());
            assert_ne!(at, SEND, "a send failed: {result}");
            if let Some(id) = cqueue::buffer_select(done.flags()) {
                self.buffers.give(id);
            }
            if !cqueue::more(done.flags()) {
                again.push(at as usize);
            }
            if result == -libc::ENOBUFS {
                continue;
            }
            assert!(result > 0, "the server has gone: {result}");
            let peer = &mut self.peers[at as usize];
            peer.received += result as usize;
            while peer.received >= self.message.len() {
                peer.received -= self.message.len();
                let asked = match self.pace {
                    Pace::Closed => {
                        self.ready.push(at as u32);
                        peer.asked
                    }
                    Pace::Open(rate) => due(at + peer.answered * everybody, rate),
                };
                peer.answered += 1;
                self.answers.record(now.saturating_sub(asked));
            }
        }
        self.buffers.publish();
        again.into_iter().for_each(|at| self.receive(at));
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }
}

impl Peer {
    fn connect(to: SocketAddr, message: &[u8]) -> Peer {
        let mut stream = TcpStream::connect(to).expect("a connection");
        reset_on_close(&stream);
        stream.set_nodelay(true).expect("no delay");
        stream.write_all(message).expect("a request");
        let mut answer = vec![0; message.len()];
        stream.read_exact(&mut answer).expect("an answer");
        assert!(answer == message, "that was no echo");
        Peer { stream, received: 0, asked: 0, answered: 0 }
    }
}

/// When request `number` is to be sent, in nanoseconds since the start.
fn due(number: u64, rate: u32) -> u64 {
    number * 1_000_000_000 / u64::from(rate)
}

const SEND: u64 = u64::MAX;
