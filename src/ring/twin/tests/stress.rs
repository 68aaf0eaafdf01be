//! Random programs of raw requests, in wild worlds.
//!
//! Links are made, and on each end sends and receives of every kind are begun, cancelled and repeated at
//! random. Then everything ends in order: both sides finish, and everything that was sent must arrive,
//! unless the world may break connections; then at least what arrives is what was sent.

use super::super::super::TokenKind;
use super::*;

const SEEDS: u64 = if cfg!(miri) { 1 } else { 200 };
const STEPS: u32 = if cfg!(miri) { 12 } else { 200 };
const LINKS: usize = 4;
const GROUP: u16 = 1;
const BUFFERS: u16 = 4;
const LEN: usize = 64;

#[test]
fn nothing_is_lost_in_random_programs_on_a_kernel_that_breaks_nothing() {
    for seed in 0..SEEDS {
        let mut program = Program::new(Tape::from_seed(seed), known(Faults::lossless()));
        program.run();
        program.check(seed);
        assert!(program.links.iter().all(|link| link.broken), "seed {seed}: all have ended");
    }
}

#[test]
fn nothing_is_invented_in_random_programs_on_a_kernel_that_may_break_everything() {
    for seed in 0..SEEDS {
        let mut program = Program::new(Tape::from_seed(seed), known(Faults::wild()));
        program.lossy = true;
        program.run();
        program.check(seed);
    }
}

#[test]
fn the_same_tape_does_the_same_twice_and_another_one_does_not() {
    let trace = |tape: Tape| {
        let mut program = Program::new(tape, known(Faults::wild()));
        program.lossy = true;
        program.run();
        (program.rig.world.trace_hash(), program.rig.world.tape(), program.rig.world.timeline())
    };
    let mut hashes = Vec::new();
    for seed in 0..SEEDS / 4 {
        let (hash, tape, timeline) = trace(Tape::from_seed(seed));
        assert_eq!(trace(Tape::from_seed(seed)).2, timeline, "seed {seed}");
        let again = trace(Tape::parse(&tape.to_string()).unwrap());
        assert_eq!((again.0, again.2), (hash, timeline), "seed {seed}, replayed");
        hashes.push(hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len() as u64, SEEDS / 4);
}

#[test]
fn a_tame_program_has_no_faults() {
    let mut program = Program::new(Tape::tame(), Faults::wild());
    program.run();
    program.check(0);
    assert_eq!(program.rig.world.tape(), Tape::tame());
}

/// On a kernel that knows multishots: these programs have nothing to fall back to.
fn known(faults: Faults) -> Faults {
    Faults { no_multishots: 0, ..faults }
}

struct Program {
    rig: Rig,
    pool: Option<PoolQueue>,
    buffers: Vec<Memory>,
    /// Bytes in each that were taken.
    filled: [usize; BUFFERS as usize],
    links: Vec<Link>,
    flying: HashMap<u64, Flying>,
    /// In the order of submission, for choices that are the same each time.
    order: Vec<Token>,
    lossy: bool,
}

/// A connection. Each direction carries the numbers from 0 on, modulo 251.
struct Link {
    fds: [RawFd; 2],
    sent: [usize; 2],
    received: [usize; 2],
    finished: [bool; 2],
    /// What it sent was received to the end, or it broke.
    ended: [bool; 2],
    /// It is over.
    broken: bool,
}

/// An operation in flight.
struct Flying {
    link: usize,
    side: usize,
    what: What,
    cancelled: bool,
}

enum What {
    Send(Memory),
    Receive(Memory),
    Pool,
}

impl Program {
    fn new(tape: Tape, faults: Faults) -> Program {
        let mut rig = Rig::new(tape, faults);
        let incremental = rig.world.choose(Lane::Program, 2) == 1;
        let mut pool = rig.twin.register_buffers(BUFFERS, GROUP, incremental).unwrap();
        let buffers: Vec<_> = (0..BUFFERS).map(|_| Memory::of(&[0; LEN])).collect();
        buffers.iter().enumerate().for_each(|(id, m)| pool.provide(id as u16, m.region()));
        pool.publish();
        Program {
            rig,
            pool: Some(pool),
            buffers,
            filled: [0; BUFFERS as usize],
            links: Vec::new(),
            flying: HashMap::new(),
            order: Vec::new(),
            lossy: false,
        }
    }

    fn choose(&self, options: usize) -> usize {
        self.rig.world.choose(Lane::Program, options as u32) as usize
    }

    fn run(&mut self) {
        if self.choose(4) == 1 {
            self.rig.world.set_latency(std::time::Duration::from_micros(300));
        }
        let listener = self.rig.listen("127.0.0.1:80", 8);
        for _ in 0..LINKS {
            self.make_link(listener);
        }
        self.rig.world.close(listener);
        for _ in 0..STEPS {
            self.step();
        }
        self.wind_up();
    }

    /// Repeats what fails until it works; every fault is passing.
    fn make_link(&mut self, listener: RawFd) {
        let client = loop {
            let (fd, result) = self.rig.connect("127.0.0.1:80");
            if result == 0 {
                break fd;
            }
            assert!(self.lossy, "{result}");
            self.rig.world.close(fd);
        };
        let server = loop {
            let accept = Request::Accept { fd: listener, multishot: false };
            match self.rig.result(accept) {
                fd @ 0.. => break fd,
                error => assert!(self.lossy || is_interruption(error), "{error}"),
            }
        };
        self.links.push(Link {
            fds: [client, server],
            sent: [0; 2],
            received: [0; 2],
            finished: [false; 2],
            ended: [false; 2],
            broken: false,
        });
    }

    fn step(&mut self) {
        let (link, side) = (self.choose(LINKS), self.choose(2));
        match self.choose(10) {
            0..=2 => self.send(link, side),
            3..=5 => self.receive(link, side),
            6 => self.cancel(),
            7 => self.rig.clock.advance_to(
                self.rig.clock.now() + std::time::Duration::from_micros(self.choose(500) as u64),
            ),
            _ => self.turn(),
        }
    }

    fn has(&self, link: usize, side: usize, sends: bool) -> bool {
        self.flying.values().any(|flying| {
            let same = matches!(flying.what, What::Send(_)) == sends;
            same && (flying.link, flying.side) == (link, side)
        })
    }

    fn fly(&mut self, request: Request, link: usize, side: usize, what: What) {
        let token = self.rig.push(request);
        self.flying.insert(token.bits(), Flying { link, side, what, cancelled: false });
        self.order.push(token);
    }

    fn send(&mut self, link: usize, side: usize) {
        if self.links[link].finished[side] || self.has(link, side, true) {
            return;
        }
        let from = self.links[link].sent[side];
        let count = [1, 10, 200, 1000][self.choose(if cfg!(miri) { 3 } else { 4 })];
        let memory = Memory::of(&(from..from + count).map(|n| (n % 251) as u8).collect::<Vec<_>>());
        let all = self.choose(2) == 1;
        let request = Request::Send { fd: self.links[link].fds[side], from: memory.region(), all };
        self.fly(request, link, side, What::Send(memory));
    }

    fn receive(&mut self, link: usize, side: usize) {
        if self.links[link].ended[side] || self.has(link, side, false) {
            return;
        }
        let fd = self.links[link].fds[side];
        match self.choose(3) {
            0 => {
                let memory = Memory::of(&[0; 300]);
                let into = memory.region();
                self.fly(Request::Recv { fd, into }, link, side, What::Receive(memory));
            }
            n => {
                let multishot = n == 1;
                let request = Request::RecvPool { fd, group: GROUP, multishot };
                self.fly(request, link, side, What::Pool);
            }
        }
    }

    fn cancel(&mut self) {
        if self.order.is_empty() {
            return;
        }
        let token = self.order[self.choose(self.order.len())];
        let flying = self.flying.get_mut(&token.bits()).unwrap();
        if !std::mem::replace(&mut flying.cancelled, true) {
            self.rig.push_cancel(token);
        }
    }

    fn turn(&mut self) {
        self.rig.enter();
        for completion in std::mem::take(&mut self.rig.came) {
            self.complete(completion);
        }
    }

    fn complete(&mut self, completion: Completion) {
        let Completion { token, result, more, buffer } = completion;
        let bits = Token::new(TokenKind::Operation, token.index(), token.generation()).bits();
        if token.kind() == TokenKind::Cancel {
            assert!([-libc::ENOENT, -libc::EALREADY].contains(&result), "a hit is silent");
            // As the table does: what was not found and has not ended is asked again.
            if result == -libc::ENOENT && self.flying.contains_key(&bits) {
                self.rig.push_cancel(Token::from_bits(bits));
            }
            return;
        }
        let flying =
            self.flying.remove(&bits).expect("nothing comes after the terminal completion");
        let (link, side) = (flying.link, flying.side);
        match &flying.what {
            What::Send(memory) if result >= 0 => {
                assert!(result as usize <= memory.bytes().len());
                self.links[link].sent[side] += result as usize;
            }
            What::Receive(memory) if result > 0 => {
                self.take(link, side, &memory.bytes()[..result as usize]);
            }
            What::Pool if buffer.is_some() => {
                let Picked { id, unfinished } = buffer.unwrap();
                let memory = &self.buffers[usize::from(id)];
                let begin = self.filled[usize::from(id)];
                let end = begin + result as usize;
                let bytes = memory.bytes()[begin..end].to_vec();
                self.filled[usize::from(id)] = if unfinished { end } else { 0 };
                if !unfinished {
                    let region = memory.region();
                    let pool = self.pool.as_mut().unwrap();
                    pool.provide(id, region);
                    pool.publish();
                }
                self.take(link, side, &bytes);
            }
            _ => {}
        }
        self.judge(link, side, &flying, result);
        if more {
            self.flying.insert(bits, flying);
        } else {
            self.order.retain(|other| *other != token);
        }
    }

    fn judge(&mut self, link: usize, side: usize, flying: &Flying, result: i32) {
        let receives = !matches!(flying.what, What::Send(_));
        match result {
            0 if receives => self.links[link].ended[side] = true,
            0.. => {}
            error if is_interruption(error) => {}
            error if error == -libc::ENOBUFS && matches!(flying.what, What::Pool) => {}
            error => {
                assert!(self.lossy, "{error}: {}", self.rig.world.timeline());
                assert!([-libc::EPIPE, -libc::ECONNRESET].contains(&error), "{error}");
                let link = &mut self.links[link];
                link.finished = [true; 2];
                link.broken = true;
                // A reset is told once; afterwards a receive finds the end.
                link.ended[side] |= receives;
            }
        }
    }

    fn take(&mut self, link: usize, side: usize, bytes: &[u8]) {
        let link = &mut self.links[link];
        for byte in bytes {
            let at = link.received[side];
            assert_eq!(usize::from(*byte), at % 251, "byte {at}:\n{}", self.rig.world.timeline());
            link.received[side] += 1;
        }
    }

    /// Everything ends: sends are finished, both sides say so, and receive to the end.
    fn wind_up(&mut self) {
        for n in 0.. {
            assert!(n < 100_000, "it does not end:\n{}", self.rig.world.timeline());
            for link in 0..LINKS {
                for side in 0..2 {
                    if !self.links[link].finished[side] && !self.has(link, side, true) {
                        let fd = self.links[link].fds[side];
                        let shut = self.rig.push(Request::Shutdown { fd, how: libc::SHUT_WR });
                        self.shut(shut, link, side);
                    }
                    self.receive(link, side);
                }
            }
            self.turn();
            if self.flying.is_empty() && self.links.iter().all(|link| link.ended == [true; 2]) {
                break;
            }
            if let Some(next) = self.rig.twin.next_event() {
                self.rig.clock.advance_to(next);
            }
        }
        self.close();
    }

    fn shut(&mut self, token: Token, link: usize, side: usize) {
        while !self.rig.ended.contains_key(&token.bits()) {
            self.rig.clock.advance_to(self.rig.twin.next_event().unwrap());
            self.turn_past(token);
        }
        let result = self.rig.ended[&token.bits()];
        assert!(result == 0 || self.lossy, "{result}");
        self.links[link].finished[side] = true;
    }

    /// A turn that keeps the completion of this token out of the account.
    fn turn_past(&mut self, token: Token) {
        self.rig.enter();
        self.rig.came.retain(|completion| completion.token != token);
        for completion in std::mem::take(&mut self.rig.came) {
            self.complete(completion);
        }
    }

    fn close(&mut self) {
        for link in 0..LINKS {
            for side in 0..2 {
                let fd = self.links[link].fds[side];
                let result = self.rig.result(Request::Close { fd, may_block: false });
                assert!(result == 0 || result == -libc::EINTR, "{result}");
            }
            self.links[link].broken = true;
        }
    }

    fn check(&mut self, seed: u64) {
        for link in &self.links {
            for side in 0..2 {
                let (sent, received) = (link.sent[1 - side], link.received[side]);
                let fits = if self.lossy { received <= sent } else { received == sent };
                assert!(fits, "seed {seed}: {received} of {sent}");
            }
        }
        self.pool = None;
        assert_eq!(self.rig.world.violations(), Vec::<String>::new(), "seed {seed}");
        let census = self.rig.world.census();
        assert_eq!((census.descriptors, census.connections, census.bytes), (0, 0, 0));
        assert_eq!((census.in_flight, census.submitted), (0, census.completed), "seed {seed}");
    }
}

fn is_interruption(result: i32) -> bool {
    [-libc::EINTR, -libc::ECANCELED, -512].contains(&result)
}
