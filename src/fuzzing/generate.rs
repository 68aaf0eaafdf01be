//! Makes programs up, from a source of choices of which zero is the simplest.

use crate::ring::twin::{Lane, Tape};

use super::program::{Action, BUFFERS, Block, Carrier, Head, Program, QUEUES, Step};

/// Where choices come from; past its end all are zero.
pub(super) struct Choices<'a> {
    tape: &'a mut Tape,
}

impl Choices<'_> {
    /// One of so many.
    fn choose(&mut self, options: u32) -> u32 {
        self.tape.choose(Lane::Program, options)
    }

    fn happens(&mut self, one_in: u32) -> bool {
        self.choose(one_in) == one_in - 1
    }

    fn byte(&mut self, below: u32) -> u8 {
        self.choose(below) as u8
    }
}

/// How large a program may become: beyond that it would not fit into a head, and would find no
/// more.
const STEPS: u32 = 80;
const DEPTH: u32 = 6;
/// Scopes with names.
const NAMES: usize = 12;
pub(super) const SLOTS: u8 = 3;
const PIPES: u8 = 3;

/// The program that the tape's bytes for programs say.
pub(super) fn program(tape: &mut Tape) -> Program {
    let mut maker = Maker { choices: Choices { tape }, left: STEPS, program: Program::default() };
    maker.program.queue = QUEUES[maker.choices.choose(4) as usize];
    maker.program.buffers = BUFFERS[maker.choices.choose(3) as usize];
    let body = maker.top();
    // Last, so that the bytes before it mean what they always did.
    let loses = maker.choices.happens(3);
    let pipes = (0..PIPES).map(|_| maker.carrier()).collect();
    let disk = [0, 0, 1, 5][maker.choices.choose(4) as usize];
    Program { body, loses, pipes, disk, ..maker.program }
}

struct Maker<'a> {
    choices: Choices<'a>,
    /// Steps that may still be made.
    left: u32,
    program: Program,
}

impl Maker<'_> {
    /// Mostly several children: one that waits for ever must not keep the others from happening.
    fn top(&mut self) -> Block {
        let mut body = Block::new();
        for _ in 0..self.choices.choose(8) {
            body.push(Step::Spawn { daemon: self.choices.happens(8), body: self.block(DEPTH - 1) });
        }
        body.extend(self.block(DEPTH));
        body
    }

    /// A block ends when zero is chosen, so a source that has run dry ends all of them.
    fn block(&mut self, depth: u32) -> Block {
        let mut block = Block::new();
        while self.left > 0 && block.len() < 10 && self.choices.choose(6) > 0 {
            self.left -= 1;
            let step = self.step(depth);
            let is_last = matches!(step, Step::Fail(_) | Step::Panic(_) | Step::Return(_));
            block.push(step);
            if is_last {
                break;
            }
        }
        block
    }

    fn step(&mut self, depth: u32) -> Step {
        let has_room = depth > 0;
        // Near the top it would be over too soon.
        let may_end = depth < DEPTH - 1;
        match self.choices.choose(64) {
            0..=17 => Step::Do { action: self.action(), swallows: self.choices.happens(5) },
            18 => Step::Insist(self.action()),
            19..=21 => Step::Drop { action: self.action(), polls: 1 + self.choices.byte(4) },
            22 if self.choices.happens(4) => {
                self.program.forgets = true;
                Step::Forget(self.action())
            }
            22..=24 => Step::Race {
                first: self.action(),
                second: self.action(),
                own_wakers: self.choices.happens(2),
            },
            25..=26 => Step::Keep { slot: self.choices.byte(SLOTS.into()), action: self.action() },
            27 => Step::AwaitKept(self.choices.byte(SLOTS.into())),
            28 => Step::DropKept(self.choices.byte(SLOTS.into())),
            29 if self.choices.happens(4) => Step::Foreign,
            30 => Step::Restless(1 + self.choices.byte(20)),
            31..=36 if has_room => match self.name() {
                Some(name) => {
                    Step::Scope { name, body: self.block(depth - 1), swallows: self.swallows() }
                }
                None => Step::Return(1),
            },
            37..=38 if has_room => Step::FailAfter {
                timeout: self.time(),
                cancels: self.choices.happens(4),
                body: self.block(depth - 1),
                swallows: self.swallows(),
            },
            39..=40 if has_room => Step::MoveOnAfter {
                timeout: self.time(),
                cancels: self.choices.happens(4),
                body: self.block(depth - 1),
                swallows: self.swallows(),
            },
            41..=44 if has_room => Step::Nursery {
                body: self.block(depth - 1),
                catches: !self.choices.happens(4),
                swallows: self.swallows(),
            },
            45..=49 if has_room => {
                Step::Spawn { daemon: self.choices.happens(4), body: self.block(depth - 1) }
            }
            50 if has_room => Step::Fork {
                body: self.block(depth - 1),
                meanwhile: self.block(depth - 1),
                awaits: !self.choices.happens(3),
            },
            51 if has_room => Step::Start {
                before: self.block(depth - 1),
                sets: !self.choices.happens(4),
                after: self.block(depth - 1),
                swallows: self.swallows(),
            },
            52 if has_room => {
                Step::DropBlock { polls: 1 + self.choices.byte(6), body: self.block(depth - 1) }
            }
            53 if has_room => match self.name() {
                Some(name) => Step::MoveBlock {
                    polls: 1 + self.choices.byte(4),
                    body: self.block(depth - 1),
                    name,
                    swallows: self.swallows(),
                },
                None => Step::Return(2),
            },
            54 if may_end => Step::Finish(self.choices.byte(10)),
            55..=57 => Step::Cancel(self.any_name()),
            58 => Step::Shield { name: self.any_name(), on: self.choices.happens(2) },
            59 => Step::Deadline {
                name: self.any_name(),
                to: if self.choices.happens(5) { None } else { Some(self.time()) },
            },
            60 if may_end => Step::Fail(self.choices.byte(10)),
            61 if may_end && self.choices.happens(2) => Step::Panic(self.choices.byte(10)),
            62 if self.choices.happens(2) => Step::Return(self.choices.byte(10)),
            _ => Step::Do { action: self.action(), swallows: false },
        }
    }

    fn swallows(&mut self) -> bool {
        self.choices.happens(2)
    }

    /// A new named scope, as long as there are names.
    fn name(&mut self) -> Option<u8> {
        let name = self.program.scopes.len();
        if name == NAMES {
            return None;
        }
        let timeout = self.choices.happens(2).then(|| self.time());
        let shield = self.choices.happens(5);
        let cancelled = self.choices.happens(8);
        self.program.scopes.push(Head { timeout, shield, cancelled });
        Some(name as u8)
    }

    /// The name of a scope, mostly of one of those around or before; it may be one to come.
    fn any_name(&mut self) -> u8 {
        let known = self.program.scopes.len() as u32;
        self.choices.byte(known + 1).min(NAMES as u8 - 1)
    }

    /// In milliseconds.
    fn time(&mut self) -> u8 {
        [0, 1, 2, 5, 10, 20, 40, 60][self.choices.choose(8) as usize]
    }

    fn action(&mut self) -> Action {
        match self.choices.choose(32) {
            0 | 1 => Action::Nop,
            2 | 3 => Action::Checkpoint,
            4 => Action::CheckpointIfCancelled,
            5 => Action::YieldShielded,
            6..=9 => Action::Sleep(self.time()),
            10..=12 => Action::Recv(self.pipe()),
            13 => Action::Read(self.pipe(), self.size()),
            14 | 15 => Action::ReadExact(self.pipe(), self.size()),
            16 => Action::Write(self.pipe(), self.size()),
            17..=23 => Action::WriteAll(self.pipe(), self.size()),
            24 if self.choices.happens(6) => Action::Shutdown(self.pipe()),
            24..=25 => Action::Accept,
            26..=29 => Action::Connect,
            _ => Action::Close,
        }
    }

    fn carrier(&mut self) -> Carrier {
        match self.choices.choose(8) {
            0..=2 => Carrier::Tcp,
            3 => Carrier::Unix,
            4 => Carrier::Pipe,
            5 => Carrier::Udp,
            6 => Carrier::UnixDatagrams,
            _ => Carrier::File,
        }
    }

    fn pipe(&mut self) -> u8 {
        self.choices.byte(PIPES.into())
    }

    /// Small, a few, more than one pool buffer, and rarely more than a socket buffer takes: where
    /// that is small, each byte may take a turn.
    fn size(&mut self) -> u32 {
        match self.choices.choose(16) {
            15 => 70_000,
            other => [1, 5, 40, 100, 700, 3000, 9000][other as usize % 7],
        }
    }
}
