//! Programs as data: trees of scopes, nurseries and operations.
//!
//! Printing one shows short pseudo-Rust, so that a small one that fails fits on a screen.

use std::fmt::{self, Write};

/// What the fuzzer makes up.
#[derive(Clone, Default)]
pub(super) struct Program {
    pub(super) body: Block,
    /// The scopes that can be named from anywhere, by number.
    pub(super) scopes: Vec<Head>,
    /// Entries of the submission queue, and receive buffers at most.
    pub(super) queue: u32,
    pub(super) buffers: u16,
    /// What carries bytes.
    pub(super) pipes: Vec<Carrier>,
    /// How long the simulated disk takes, in milliseconds.
    pub(super) disk: u8,
    /// It forgets futures, and with them what they hold.
    pub(super) forgets: bool,
    /// Its kernel breaks connections, and refuses connects and accepts: such errors go up in it as
    /// its own do.
    pub(super) loses: bool,
}

/// How large they may be.
pub(super) const QUEUES: [u32; 4] = [256, 8, 2, 1];
pub(super) const BUFFERS: [u16; 3] = [4096, 4, 1];

/// What a pipe is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum Carrier {
    #[default]
    Tcp,
    Unix,
    Pipe,
    /// What is received is a datagram, and what is written is one, whatever its size.
    Udp,
    UnixDatagrams,
    /// Read and written in several places.
    File,
}

impl Carrier {
    pub(super) fn name(self) -> &'static str {
        match self {
            Carrier::Tcp => "tcp",
            Carrier::Unix => "unix",
            Carrier::Pipe => "pipe",
            Carrier::Udp => "udp",
            Carrier::UnixDatagrams => "unix datagrams",
            Carrier::File => "file",
        }
    }
}

pub(super) type Block = Vec<Step>;

/// How a named scope is made.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// From its entry on, in milliseconds.
    pub(super) timeout: Option<u8>,
    pub(super) shield: bool,
    /// It is cancelled before it is entered (rule F2).
    pub(super) cancelled: bool,
}

#[derive(Clone)]
pub(super) enum Step {
    /// Awaits an operation; with `swallows`, its cancellation is swallowed.
    Do {
        action: Action,
        swallows: bool,
    },
    /// Awaits it again and again, until it ends otherwise than with `Cancelled`.
    Insist(Action),
    /// Polls it so often, then drops it.
    Drop {
        action: Action,
        polls: u8,
    },
    /// Polls it once, then forgets it.
    Forget(Action),
    /// Polls both until one has ended, and drops the other. With `own_wakers` each is polled only
    /// when its own waker was fired, as other crates' combinators do.
    Race {
        first: Action,
        second: Action,
        own_wakers: bool,
    },
    /// Polls it once, and keeps it for whoever comes.
    Keep {
        slot: u8,
        action: Action,
    },
    /// Awaits what is kept, wherever that is (rule B2).
    AwaitKept(u8),
    DropKept(u8),
    /// Keeps it and awaits it at the same time: it ends when somebody drops it.
    Lend {
        slot: u8,
        action: Action,
    },
    /// A future of nobody's that never ends.
    Foreign,
    /// One that wakes itself so often; for ever if it is cancelled.
    Restless(u8),
    /// Runs a named scope.
    Scope {
        name: u8,
        body: Block,
        swallows: bool,
    },
    /// A scope without a name that fails when it is too slow.
    FailAfter {
        timeout: u8,
        cancels: bool,
        body: Block,
        swallows: bool,
    },
    MoveOnAfter {
        timeout: u8,
        cancels: bool,
        body: Block,
        swallows: bool,
    },
    Nursery {
        body: Block,
        catches: bool,
        swallows: bool,
    },
    /// Polls a whole block so often, then drops it (rule F12).
    DropBlock {
        polls: u8,
        body: Block,
    },
    /// Polls a whole block so often, then goes on with it in a named scope (rule B2).
    MoveBlock {
        polls: u8,
        body: Block,
        name: u8,
        swallows: bool,
    },
    Spawn {
        daemon: bool,
        body: Block,
    },
    Fork {
        body: Block,
        meanwhile: Block,
        awaits: bool,
    },
    Start {
        before: Block,
        sets: bool,
        after: Block,
        swallows: bool,
    },
    Finish(u8),
    Cancel(u8),
    Shield {
        name: u8,
        on: bool,
    },
    /// In so many milliseconds from now; `None` takes it away.
    Deadline {
        name: u8,
        to: Option<u8>,
    },
    Fail(u8),
    Panic(u8),
    Return(u8),
}

/// An operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Action {
    Nop,
    Checkpoint,
    CheckpointIfCancelled,
    YieldShielded,
    /// In milliseconds.
    Sleep(u8),
    Recv(u8),
    Read(u8, u32),
    ReadExact(u8, u32),
    Write(u8, u32),
    WriteAll(u8, u32),
    /// Of the write half.
    Shutdown(u8),
    Accept,
    Connect,
    /// Closes a connection that was made before, if there is one.
    Close,
}

impl Action {
    /// Whether the kernel has to do with it.
    pub(super) fn is_for_kernel(self) -> bool {
        !matches!(
            self,
            Action::Checkpoint
                | Action::CheckpointIfCancelled
                | Action::YieldShielded
                | Action::Sleep(_)
        )
    }

    /// The number of the pipe that it is about.
    pub(super) fn pipe(self) -> Option<u8> {
        match self {
            Action::Recv(pipe)
            | Action::Read(pipe, _)
            | Action::ReadExact(pipe, _)
            | Action::Write(pipe, _)
            | Action::WriteAll(pipe, _)
            | Action::Shutdown(pipe) => Some(pipe),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Action::Nop => "nop",
            Action::Checkpoint => "checkpoint",
            Action::CheckpointIfCancelled => "checkpoint_if_cancelled",
            Action::YieldShielded => "yield_shielded",
            Action::Sleep(_) => "sleep",
            Action::Recv(_) => "recv",
            Action::Read(..) => "read",
            Action::ReadExact(..) => "read_exact",
            Action::Write(..) => "write",
            Action::WriteAll(..) => "write_all",
            Action::Shutdown(_) => "shutdown",
            Action::Accept => "accept",
            Action::Connect => "connect",
            Action::Close => "close",
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Action::Sleep(time) => write!(f, "{name}({time} ms)"),
            Action::Recv(pipe) | Action::Shutdown(pipe) => write!(f, "pipe{pipe}.{name}()"),
            Action::Read(pipe, size)
            | Action::ReadExact(pipe, size)
            | Action::Write(pipe, size)
            | Action::WriteAll(pipe, size) => write!(f, "pipe{pipe}.{name}({size})"),
            _ => write!(f, "{name}()"),
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        if (self.queue, self.buffers) != (QUEUES[0], BUFFERS[0]) {
            let Program { queue, buffers, .. } = self;
            let _ = writeln!(text, "Builder::new().submissions({queue}).pool_most({buffers})");
        }
        let others = self.pipes.iter().enumerate().filter(|(_, is)| **is != Carrier::Tcp);
        for (number, carrier) in others {
            let _ = writeln!(text, "let pipe{number} = {};", carrier.name());
        }
        if self.disk > 0 {
            let _ = writeln!(text, "// The disk takes {} ms.", self.disk);
        }
        if self.loses {
            text.push_str("// The kernel loses connections.\n");
        }
        for (name, head) in
            self.scopes.iter().enumerate().filter(|(_, head)| **head != Head::default())
        {
            let _ = write!(text, "let s{name} = CancelScope::new()");
            if let Some(timeout) = head.timeout {
                let _ = write!(text, ".timeout({timeout} ms)");
            }
            if head.shield {
                text.push_str(".shield(true)");
            }
            text.push_str(";\n");
            if head.cancelled {
                let _ = writeln!(text, "s{name}.cancel();");
            }
        }
        Printer { text: &mut text, depth: 0 }.block(&self.body);
        f.write_str(&text)
    }
}

struct Printer<'a> {
    text: &'a mut String,
    depth: usize,
}

impl Printer<'_> {
    fn line(&mut self, line: impl fmt::Display) {
        let _ = writeln!(self.text, "{:1$}{line}", "", self.depth * 2);
    }

    fn block(&mut self, block: &Block) {
        block.iter().for_each(|step| self.step(step));
    }

    /// A block between two lines, on one line if it is empty.
    fn around(&mut self, before: impl fmt::Display, block: &Block, after: impl fmt::Display) {
        if block.is_empty() {
            return self.line(format_args!("{before} {{}}{after}"));
        }
        self.line(format_args!("{before} {{"));
        self.depth += 1;
        self.block(block);
        self.depth -= 1;
        self.line(format_args!("}}{after}"));
    }

    fn step(&mut self, step: &Step) {
        let ends = |swallows: &bool| if *swallows { ".await; // swallowed" } else { ".await?;" };
        match step {
            Step::Do { action, swallows } => {
                self.line(format_args!("{action:?}{}", ends(swallows)))
            }
            Step::Insist(action) => {
                self.line(format_args!("while let Err(Cancelled) = {action:?}.await {{}}"))
            }
            Step::Drop { action, polls } => {
                self.line(format_args!("drop({action:?} polled {polls} times);"));
            }
            Step::Forget(action) => self.line(format_args!("forget({action:?} polled once);")),
            Step::Race { first, second, own_wakers } => {
                let which = if *own_wakers { "race with own wakers" } else { "race" };
                self.line(format_args!("{which}({first:?}, {second:?}).await?;"));
            }
            Step::Keep { slot, action } => {
                self.line(format_args!("kept{slot} = {action:?} polled once;"));
            }
            Step::AwaitKept(slot) => self.line(format_args!("kept{slot}.await?;")),
            Step::Lend { slot, action } => {
                self.line(format_args!("kept{slot} = {action:?}; kept{slot}.await?;"));
            }
            Step::DropKept(slot) => self.line(format_args!("drop(kept{slot});")),
            Step::Foreign => self.line("pending().await;"),
            Step::Restless(times) => self.line(format_args!("wakes_itself({times} times).await;")),
            Step::Scope { name, body, swallows } => {
                self.around(
                    format_args!("s{name}.run(async |_|"),
                    body,
                    format_args!("){}", ends(swallows)),
                );
            }
            Step::FailAfter { timeout, cancels, body, swallows } => {
                self.timed("fail_after", *timeout, *cancels, body, ends(swallows));
            }
            Step::MoveOnAfter { timeout, cancels, body, swallows } => {
                self.timed("move_on_after", *timeout, *cancels, body, ends(swallows));
            }
            Step::Nursery { body, catches, swallows } => {
                let caught = if *catches { ".catch_unwind()" } else { "" };
                self.around("nursery(async |n|", body, format_args!("){caught}{}", ends(swallows)));
            }
            Step::DropBlock { polls, body } => {
                self.around("drop(async", body, format_args!(" polled {polls} times);"));
            }
            Step::MoveBlock { polls, body, name, swallows } => {
                self.around("let part = async", body, ";");
                self.line(format_args!(
                    "s{name}.run(async |_| part polled {polls} times before){}",
                    ends(swallows)
                ));
            }
            Step::Spawn { daemon, body } => {
                let how = if *daemon { "spawn_daemon" } else { "spawn" };
                self.around(format_args!("n.{how}(async"), body, ");");
            }
            Step::Fork { body, meanwhile, awaits } => {
                self.around("let child = n.fork(async", body, ");");
                self.block(meanwhile);
                if *awaits {
                    self.line("child.await?;");
                }
            }
            Step::Start { before, sets, after, swallows } => {
                self.line("n.start(async |started| {");
                self.depth += 1;
                self.block(before);
                if *sets {
                    self.line("started.set(7);");
                }
                self.block(after);
                self.depth -= 1;
                self.line(format_args!("}}){}", ends(swallows)));
            }
            Step::Finish(value) => self.line(format_args!("n.finish({value});")),
            Step::Cancel(name) => self.line(format_args!("s{name}.cancel();")),
            Step::Shield { name, on } => self.line(format_args!("s{name}.set_shield({on});")),
            Step::Deadline { name, to: Some(to) } => {
                self.line(format_args!("s{name}.set_deadline(in {to} ms);"));
            }
            Step::Deadline { name, to: None } => {
                self.line(format_args!("s{name}.set_deadline(None);"))
            }
            Step::Fail(number) => self.line(format_args!("return Err({number});")),
            Step::Panic(number) => self.line(format_args!("panic!({number});")),
            Step::Return(value) => self.line(format_args!("return Ok({value});")),
        }
    }

    fn timed(&mut self, which: &str, timeout: u8, cancels: bool, body: &Block, end: &str) {
        let open = format!("{which}({timeout} ms, async |scope|");
        if !cancels {
            return self.around(open, body, format_args!("){end}"));
        }
        self.line(format_args!("{open} {{"));
        self.depth += 1;
        self.line("scope.cancel();");
        self.block(body);
        self.depth -= 1;
        self.line(format_args!("}}){end}"));
    }
}
