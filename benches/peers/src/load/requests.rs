//! Requests over connections that stay.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{cqueue, opcode, squeue, types};

use super::{Latency, Load, failed, message};
use crate::buffers::{Buffers, GROUP};
use crate::hand::Ring;
use crate::measure::reset_on_close;
use crate::plan::{Plan, Work};

/// Everybody who asks, and what came of it.
pub struct Requests {
    ring: Ring,
    buffers: Buffers,
    peers: Vec<Peer>,
    pace: Pace,
    /// Bytes of a request.
    length: usize,
    /// As many requests as one connection may have under way, one behind the other.
    messages: &'static [u8],
    started: Instant,
    answers: Latency,
}

enum Pace {
    /// Who is to send next.
    Closed { ready: Vec<u32> },
    /// How many requests were sent, of so many a second.
    Open { sent: u64, rate: u32 },
}

struct Peer {
    stream: TcpStream,
    /// Bytes of an answer that is not complete yet.
    received: usize,
    /// Closed loop: requests to send at the next opportunity.
    due: usize,
    /// Closed loop: when the requests under way left, in nanoseconds since the start.
    asked: VecDeque<u64>,
    /// Open loop: how many were answered, which tells when the next one was due.
    answered: u64,
}

impl Requests {
    /// Opens all connections, and sends one message through each to see that it comes back.
    pub fn connect(to: SocketAddr, plan: &Plan) -> io::Result<Requests> {
        let (outstanding, pace) = match plan.work {
            Work::Open(rate) => (1, Pace::Open { sent: 0, rate }),
            Work::Closed(outstanding) => {
                (outstanding, Pace::Closed { ready: (0..plan.connections as u32).collect() })
            }
            Work::Idle | Work::Connect => (0, Pace::Closed { ready: Vec::new() }),
        };
        let ring = Ring::open(1024, 32_768)?;
        // More than the kernel can fill in the one pass after which they are given back.
        let buffers = Buffers::register(&ring, 512, plan.message * outstanding.max(1))?;
        let mut requests = Requests {
            ring,
            buffers,
            peers: connect_all(to, plan, outstanding)?,
            pace,
            length: plan.message,
            messages: message(plan.message).repeat(outstanding).leak(),
            started: Instant::now(),
            answers: Latency::new(),
        };
        (0..requests.peers.len()).for_each(|at| requests.receive(at));
        requests.started = Instant::now();
        Ok(requests)
    }

    fn send_ready(&mut self, now: u64) {
        let Pace::Closed { ready } = &mut self.pace else { return };
        let mut ready = std::mem::take(ready);
        for at in ready.drain(..) {
            let peer = &mut self.peers[at as usize];
            let count = std::mem::take(&mut peer.due);
            peer.asked.extend(std::iter::repeat_n(now, count));
            self.send(at as usize, count);
        }
        // Back where it was, for its memory.
        self.pace = Pace::Closed { ready };
    }

    fn send_due(&mut self, now: u64) {
        let Pace::Open { sent: mut next, rate } = self.pace else { return };
        while due(next, rate) <= now {
            self.send((next % self.peers.len() as u64) as usize, 1);
            next += 1;
        }
        self.pace = Pace::Open { sent: next, rate };
    }

    fn send(&mut self, at: usize, count: usize) {
        let fd = types::Fd(self.peers[at].stream.as_raw_fd());
        let bytes = &self.messages[..count * self.length];
        let entry = opcode::Send::new(fd, bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SEND);
        // SAFETY: the messages are never freed.
        unsafe { self.ring.push(&entry) };
    }

    fn receive(&mut self, at: usize) {
        let fd = types::Fd(self.peers[at].stream.as_raw_fd());
        let entry = opcode::RecvMulti::new(fd, GROUP).build().user_data(at as u64);
        // SAFETY: the memory it writes to is that of the buffers, which are never freed.
        unsafe { self.ring.push(&entry) };
    }

    /// Takes what has come.
    fn listen(&mut self) -> io::Result<()> {
        let now = self.now();
        let everybody = self.peers.len() as u64;
        let mut again = Vec::new();
        for done in self.ring.io.completion() {
            let (at, result) = (done.user_data(), done.result());
            if at == SEND {
                return Err(failed("a request could not be sent", result));
            }
            if let Some(id) = cqueue::buffer_select(done.flags()) {
                self.buffers.give(id);
            }
            if !cqueue::more(done.flags()) {
                again.push(at as usize);
            }
            match result {
                1.. => {}
                0 => return Err(io::Error::other("the server closed a connection")),
                result if result == -libc::ENOBUFS => continue,
                result => return Err(failed("an answer could not be received", result)),
            }
            let peer = &mut self.peers[at as usize];
            peer.received += result as usize;
            while peer.received >= self.length {
                peer.received -= self.length;
                let asked = match &mut self.pace {
                    Pace::Closed { ready } => {
                        if peer.due == 0 {
                            ready.push(at as u32);
                        }
                        peer.due += 1;
                        peer.asked.pop_front().unwrap_or(now)
                    }
                    Pace::Open { rate, .. } => due(at + peer.answered * everybody, *rate),
                };
                peer.answered += 1;
                self.answers.record(now.saturating_sub(asked));
            }
        }
        self.buffers.publish();
        again.into_iter().for_each(|at| self.receive(at));
        Ok(())
    }
}

impl Load for Requests {
    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn turn(&mut self, now: u64) -> io::Result<()> {
        match self.pace {
            Pace::Closed { .. } => self.send_ready(now),
            Pace::Open { .. } => self.send_due(now),
        }
        self.ring.enter(0);
        self.listen()
    }

    fn answers(&mut self) -> &mut Latency {
        &mut self.answers
    }
}

/// Some at a time: one by one each would wait for the server to be woken, and more than a server's
/// backlog would be refused.
fn connect_all(to: SocketAddr, plan: &Plan, outstanding: usize) -> io::Result<Vec<Peer>> {
    const AT_A_TIME: usize = 64;
    let message = message(plan.message);
    let mut answer = vec![0; message.len()];
    let mut peers: Vec<Peer> = Vec::with_capacity(plan.connections);
    while peers.len() < plan.connections {
        let first = peers.len();
        for _ in first..plan.connections.min(first + AT_A_TIME) {
            let mut stream = TcpStream::connect(to)?;
            reset_on_close(&stream);
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(message)?;
            let (received, asked, answered) = (0, VecDeque::new(), 0);
            peers.push(Peer { stream, received, due: outstanding, asked, answered });
        }
        for peer in &mut peers[first..] {
            peer.stream.read_exact(&mut answer).map_err(|error| {
                io::Error::new(error.kind(), format!("connection {first}: no answer: {error}"))
            })?;
            if answer != message {
                return Err(io::Error::other("the answer is not what was sent"));
            }
        }
    }
    Ok(peers)
}

/// When request `number` is to be sent, in nanoseconds since the start.
fn due(number: u64, rate: u32) -> u64 {
    number * 1_000_000_000 / u64::from(rate)
}

const SEND: u64 = u64::MAX;
/// A server that has not answered the first message after this long does not work.
const PATIENCE: Duration = Duration::from_secs(10);
