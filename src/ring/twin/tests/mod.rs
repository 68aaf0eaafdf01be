//! Raw requests to the twin, as the table would make them.

mod cancels;
mod faults;
mod network;
mod operations;
mod pool;
mod registered;
mod speed;
mod stress;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::super::Picked;
use super::super::address::SockAddr;
use super::super::request::Region;
use super::super::socket::{OptionName, OptionValue};
use super::stream::CAPACITY;
use super::*;
use crate::clock::VirtualClock;

/// One ring in a world, and the completions that came out of it.
struct Rig {
    clock: Rc<VirtualClock>,
    world: Rc<World>,
    twin: Twin,
    tokens: u32,
    /// Completions that nobody has asked for yet, oldest first.
    came: Vec<Completion>,
    /// Terminal completions by token: an operation has exactly one.
    ended: HashMap<u64, i32>,
}

/// More than a connection holds, and less than twice as much.
const LARGE: usize = CAPACITY + CAPACITY / 2;

const SIZE: RingSize = RingSize { submissions: 64, completions: 1024, workers: 1 };

impl Rig {
    fn new(tape: Tape, faults: Faults) -> Rig {
        let clock = Rc::new(VirtualClock::new());
        let world = World::new(Rc::clone(&clock), tape, faults);
        let twin = Twin::open(&world, SIZE).unwrap();
        Rig { clock, world, twin, tokens: 0, came: Vec::new(), ended: HashMap::new() }
    }

    fn tame() -> Rig {
        Rig::new(Tape::tame(), Faults::none())
    }

    /// One whose choices are written out.
    fn scripted(tape: &str, faults: Faults) -> Rig {
        Rig::new(Tape::parse(tape).unwrap(), faults)
    }

    fn push(&mut self, request: Request) -> Token {
        self.tokens += 1;
        let token = Token::new(super::super::TokenKind::Operation, self.tokens % 1000, self.tokens);
        if !self.twin.push(token, &request) {
            self.enter();
            assert!(self.twin.push(token, &request), "an entered queue has room");
        }
        token
    }

    fn push_cancel(&mut self, token: Token) {
        if !self.twin.push_cancel(token) {
            self.enter();
            assert!(self.twin.push_cancel(token));
        }
    }

    fn enter(&mut self) {
        self.twin.enter(0).unwrap();
        let (came, ended) = (&mut self.came, &mut self.ended);
        self.twin.drain(|completion| {
            came.push(completion);
            if completion.token.kind() == super::super::TokenKind::Operation {
                let again = ended.contains_key(&completion.token.bits());
                assert!(!again, "{completion:?} after the terminal completion");
                if !completion.more {
                    ended.insert(completion.token.bits(), completion.result);
                }
            }
        });
    }

    /// The next completion of a token, if it came.
    fn poll(&mut self, token: Token) -> Option<Completion> {
        let at = self.came.iter().position(|completion| completion.token == token)?;
        Some(self.came.remove(at))
    }

    /// Enters and lets time pass until a completion of the token has come.
    fn wait(&mut self, token: Token) -> Completion {
        loop {
            if let Some(completion) = self.poll(token) {
                return completion;
            }
            let next = self.twin.next_event();
            let next = next.unwrap_or_else(|| panic!("nothing comes:\n{}", self.world.timeline()));
            self.clock.advance_to(next);
            self.enter();
        }
    }

    fn result(&mut self, request: Request) -> i32 {
        let token = self.push(request);
        self.wait(token).result
    }

    /// Pushes, enters, and finds that nothing has come.
    fn pending(&mut self, request: Request) -> Token {
        let token = self.push(request);
        self.enter();
        assert!(self.poll(token).is_none(), "{}", self.world.timeline());
        token
    }

    /// Cancels and says what came: the answers to the cancel, then those of the operation, each in
    /// order.
    fn cancel(&mut self, token: Token) -> Cancelled {
        self.push_cancel(token);
        while !self.ended.contains_key(&token.bits()) {
            self.clock.advance_to(self.twin.next_event().expect("the target ends"));
            self.enter();
        }
        // An answer may come after it.
        self.enter();
        let came = std::mem::take(&mut self.came);
        let results = |of: Token| -> Vec<i32> {
            came.iter().filter(|c| c.token == of).map(|c| c.result).collect()
        };
        Cancelled { answers: results(token.for_cancel()), results: results(token) }
    }

    fn listen(&mut self, address: &str, backlog: u32) -> RawFd {
        self.listen_sharing(address, backlog, false).unwrap()
    }

    /// A listener, which may share its address, with `TCP_NODELAY` for what is accepted.
    fn listen_sharing(&self, at: &str, backlog: u32, shared: bool) -> Result<RawFd, i32> {
        let (world, at) = (&self.world, at.parse().unwrap());
        let fd = world.tcp_socket(at).unwrap();
        let set = |level, name, on: bool| {
            let on = OptionValue::number(on.into());
            world.set_option(fd, OptionName { level, name }, on).unwrap();
        };
        set(libc::SOL_SOCKET, libc::SO_REUSEPORT, shared);
        set(libc::IPPROTO_TCP, libc::TCP_NODELAY, true);
        let listens = world.bind(fd, at).and_then(|()| world.listen(fd, backlog));
        if listens.is_err() {
            world.close(fd);
        }
        listens.map(|()| fd).map_err(|error| error.raw_os_error().unwrap())
    }

    fn connect(&mut self, to: &str) -> (RawFd, i32) {
        let to: SocketAddr = to.parse().unwrap();
        let fd = self.world.tcp_socket(to).unwrap();
        (fd, self.connect_on(fd, to))
    }

    fn connect_on(&mut self, fd: RawFd, to: SocketAddr) -> i32 {
        let address = Address::new(to);
        self.result(Request::Connect { fd, to: address.region() })
    }

    /// Two ends of a connection: client and server.
    fn pair(&mut self) -> [RawFd; 2] {
        let listener = self.listen("127.0.0.1:80", 8);
        let (client, result) = self.connect("127.0.0.1:80");
        assert_eq!(result, 0);
        let server = self.result(Request::Accept { fd: listener, multishot: false });
        self.world.close(listener);
        [client, server]
    }

    fn send(&mut self, fd: RawFd, bytes: &[u8]) -> i32 {
        let memory = Memory::of(bytes);
        self.result(Request::Send { fd, from: memory.region(), all: false })
    }

    /// What a receive brings, at most so much.
    fn receive(&mut self, fd: RawFd, most: usize) -> Result<Vec<u8>, i32> {
        let memory = Memory::of(&vec![0xee; most]);
        match self.result(Request::Recv { fd, into: memory.region() }) {
            count @ 0.. => Ok(memory.bytes()[..count as usize].to_vec()),
            error => Err(-error),
        }
    }

    /// Closes what it is told to, and finds nothing left.
    fn finish(self, fds: &[RawFd]) {
        fds.iter().for_each(|fd| self.world.close(*fd));
        let Rig { world, twin, .. } = self;
        twin.close();
        assert_eq!(world.finish(), Vec::<String>::new(), "{}", world.timeline());
        let census = world.census();
        assert_eq!((census.descriptors, census.connections, census.in_flight), (0, 0, 0));
    }
}

#[derive(PartialEq, Eq, Debug)]
struct Cancelled {
    answers: Vec<i32>,
    results: Vec<i32>,
}

fn cancelled(answers: &[i32], results: &[i32]) -> Cancelled {
    Cancelled { answers: answers.to_vec(), results: results.to_vec() }
}

/// Memory that is only ever touched through its pointer, as memory lent to a kernel must be.
struct Memory {
    address: *mut [u8],
}

impl Memory {
    fn of(bytes: &[u8]) -> Memory {
        Memory { address: Box::into_raw(bytes.to_vec().into_boxed_slice()) }
    }

    fn region(&self) -> Region {
        // SAFETY: callers keep it until the terminal completion, and do not touch it before.
        unsafe { Region::new(self.address.cast(), self.address.len()) }
    }

    fn bytes(&self) -> Vec<u8> {
        // SAFETY: the box is alive, and the kernel does not have it.
        unsafe { (*self.address).to_vec() }
    }

    fn set(&self, at: usize, byte: u8) {
        // SAFETY: within the box; whether the kernel has it is what the callers test.
        unsafe { self.address.cast::<u8>().add(at).write(byte) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw`, and dropped once.
        drop(unsafe { Box::from_raw(self.address) });
    }
}

/// An address where the kernel can read it.
struct Address(*mut SockAddr);

impl Address {
    fn new(address: SocketAddr) -> Address {
        Address(Box::into_raw(Box::new(SockAddr::from(address))))
    }

    fn region(&self) -> Region {
        // SAFETY: the box is alive; its user keeps it until the terminal completion.
        unsafe { Region::new((*self.0).as_mut_ptr(), (*self.0).len()) }
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw`, and dropped once.
        drop(unsafe { Box::from_raw(self.0) });
    }
}
