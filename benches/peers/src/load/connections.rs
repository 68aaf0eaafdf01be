//! Connections that come and go: connect, one message there and back, close, and the next.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Instant;

use io_uring::squeue::Flags;
use io_uring::{opcode, types};

use super::{Latency, Load, failed, message};
use crate::hand::Ring;
use crate::plan::Plan;

pub struct Connections {
    ring: Ring,
    slots: Vec<Slot>,
    server: &'static libc::sockaddr_in,
    message: &'static [u8],
    /// How many connections there have been.
    begun: u32,
    /// Who is to connect next.
    ready: Vec<usize>,
    started: Instant,
    answers: Latency,
}

/// One connection after another.
struct Slot {
    /// When the present one began, in nanoseconds since the start.
    began: u64,
    /// Where its answer goes. Leaked: the kernel may write to it as long as the ring lives.
    answer: *mut u8,
}

impl Connections {
    pub fn new(to: SocketAddr, plan: &Plan) -> io::Result<Connections> {
        let SocketAddr::V4(to) = to else {
            return Err(io::Error::other("the server has to listen on IPv4"));
        };
        let slot = |_| Slot { began: 0, answer: vec![0_u8; plan.message].leak().as_mut_ptr() };
        Ok(Connections {
            ring: Ring::open(1024, 4096)?,
            slots: (0..plan.connections).map(slot).collect(),
            server: Box::leak(Box::new(address(*to.ip(), to.port()))),
            message: message(plan.message),
            begun: 0,
            ready: (0..plan.connections).collect(),
            started: Instant::now(),
            answers: Latency::new(),
        })
    }

    /// All steps at once, linked: the kernel goes on to the next when one has succeeded.
    fn begin(&mut self, at: usize) -> io::Result<()> {
        self.slots[at].began = self.now();
        let socket = socket(source(self.begun))?;
        self.begun = self.begun.wrapping_add(1);
        let fd = types::Fd(socket.as_raw_fd());
        let (server, length) = (&raw const *self.server, size_of_val(self.server) as u32);
        let (message, bytes) = (self.message.as_ptr(), self.message.len() as u32);
        let all = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let steps = [
            opcode::Connect::new(fd, server.cast(), length).build(),
            opcode::Send::new(fd, message, bytes).flags(all).build(),
            opcode::Recv::new(fd, self.slots[at].answer, bytes).flags(libc::MSG_WAITALL).build(),
            opcode::Close::new(fd).build(),
        ];
        for (step, entry) in steps.into_iter().enumerate() {
            let last = step + 1 == STEPS.len();
            let flags = if last { Flags::empty() } else { Flags::IO_LINK | Flags::SKIP_SUCCESS };
            let entry = entry.flags(flags).user_data((at * STEPS.len() + step) as u64);
            // SAFETY: the address, the message and the answer are never freed.
            unsafe { self.ring.push(&entry) };
        }
        // The last step closes it.
        let _ = socket.into_raw_fd();
        Ok(())
    }

    /// Takes what has ended.
    fn listen(&mut self) -> io::Result<()> {
        let now = self.now();
        for done in self.ring.io.completion() {
            let (at, step) =
                (done.user_data() as usize / STEPS.len(), done.user_data() as usize % STEPS.len());
            if done.result() < 0 {
                return Err(failed(STEPS[step], done.result()));
            }
            if step + 1 < STEPS.len() {
                return Err(io::Error::other(format!("{}: cut short", STEPS[step])));
            }
            self.answers.record(now.saturating_sub(self.slots[at].began));
            self.ready.push(at);
        }
        Ok(())
    }
}

impl Load for Connections {
    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn turn(&mut self, _now: u64) -> io::Result<()> {
        while let Some(at) = self.ready.pop() {
            self.begin(at)?;
        }
        self.ring.enter(0);
        self.listen()
    }

    fn answers(&mut self) -> &mut Latency {
        &mut self.answers
    }
}

/// A closed connection keeps its port for a minute, and an address has only some 28,000 of them: so
/// the connections come from many addresses in turn, all of which are this machine.
fn source(number: u32) -> Ipv4Addr {
    const ADDRESSES: u32 = 200;
    Ipv4Addr::new(127, 0, 0, 2 + (number % ADDRESSES) as u8)
}

fn socket(source: Ipv4Addr) -> io::Result<OwnedFd> {
    // SAFETY: the call takes plain numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    turn_on(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    // Else the address would have one port for all whom it connects to.
    turn_on(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)?;
    let source = address(source, 0);
    let length = size_of_val(&source) as libc::socklen_t;
    // SAFETY: the address is valid across the call, and its size is given.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const source).cast(), length) };
    if bound == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

fn turn_on(socket: &OwnedFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    let (fd, on) = (socket.as_raw_fd(), &raw const on);
    // SAFETY: the option's value is an int, alive across the call, and its size is given.
    let set = unsafe { libc::setsockopt(fd, level, option, on.cast(), length) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn address(ip: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(ip).to_be() },
        sin_zero: [0; 8],
    }
}

/// What each connection does, in words for errors.
const STEPS: [&str; 4] = [
    "a connection could not be made",
    "a message could not be sent",
    "an answer could not be received",
    "a connection could not be closed",
];
