//! Everything that is measured, and what is aimed at.

use std::fmt;
use std::time::Duration;

use crate::{
    cancels, copies, datagrams, files, operations, scopes, spawning, timers, tools, wakes,
};

/// One thing, done by several sides.
pub struct Thing {
    pub name: &'static str,
    pub about: &'static str,
    /// How many of it are done each time: one costs so much less.
    pub each: u64,
    /// How often, in one round.
    pub times: u64,
    pub sides: &'static [(Side, Measure)],
    pub aims: &'static [Aim],
}

/// Does the thing so many times, and says how long that took.
pub type Measure = fn(u64) -> Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Hand,
    /// The same, with files and buffers that the kernel knows beforehand.
    Registered,
    Trine,
    /// The same, where the kernel is asked to move nothing by itself.
    Plain,
    Tokio,
    Smol,
    /// Threads that block, with nothing around them.
    Threads,
    /// The program of that name, where it is installed: only if it is asked for.
    Fio,
}

/// What one side should cost, seen from another.
#[derive(Clone, Copy)]
pub enum Aim {
    /// At most this many times as much.
    Ratio(Side, Side, f64),
    /// At most this many nanoseconds more.
    Gap(Side, Side, f64),
    /// Whatever it is, it is worth knowing.
    Look(Side, Side),
}

use Aim::{Gap, Look, Ratio};
use Side::{Fio, Hand, Plain, Registered, Smol, Threads, Tokio, Trine};

const fn thing(
    name: &'static str,
    about: &'static str,
    each: u64,
    times: u64,
    sides: &'static [(Side, Measure)],
    aims: &'static [Aim],
) -> Thing {
    Thing { name, about, each, times, sides, aims }
}

pub const THINGS: &[Thing] = &[
    thing(
        "nop",
        "one awaited NOP after another, each through the kernel",
        1,
        200_000,
        &[(Hand, operations::nop_by_hand), (Trine, operations::nop_by_trine)],
        &[Gap(Trine, Hand, 60.0)],
    ),
    thing(
        "nop-1000",
        "NOPs of 1,000 tasks at a time",
        1000,
        300,
        &[(Hand, operations::nops_of_many_by_hand), (Trine, operations::nops_of_many_by_trine)],
        &[Look(Trine, Hand)],
    ),
    thing(
        "yield",
        "let others run, of which there are none",
        1,
        500_000,
        &[
            (Trine, operations::yield_by_trine),
            (Tokio, operations::yield_by_tokio),
            (Smol, operations::yield_by_smol),
        ],
        &[Look(Trine, Tokio), Look(Trine, Smol)],
    ),
    thing(
        "spawn-1",
        "spawn and join an empty child, a nursery (a JoinSet) for each",
        1,
        200_000,
        &[
            (Trine, spawning::by_trine::<1>),
            (Tokio, spawning::by_tokio::<1>),
            (Smol, spawning::by_smol::<1>),
        ],
        &[Ratio(Trine, Tokio, 0.4), Look(Trine, Smol)],
    ),
    thing(
        "spawn-1000",
        "spawn and join an empty child, 1,000 to a nursery",
        1000,
        300,
        &[
            (Trine, spawning::by_trine::<1000>),
            (Tokio, spawning::by_tokio::<1000>),
            (Smol, spawning::by_smol::<1000>),
        ],
        &[Ratio(Trine, Tokio, 0.4), Look(Trine, Smol)],
    ),
    thing(
        "spawn-30000",
        "the same, 30,000 to a nursery",
        30_000,
        10,
        &[
            (Trine, spawning::by_trine::<30_000>),
            (Tokio, spawning::by_tokio::<30_000>),
            (Smol, spawning::by_smol::<30_000>),
        ],
        &[Look(Trine, Tokio), Look(Trine, Smol)],
    ),
    thing(
        "spawn-1000000",
        "the same, 1,000,000 to a nursery",
        1_000_000,
        1,
        &[
            (Trine, spawning::by_trine::<1_000_000>),
            (Tokio, spawning::by_tokio::<1_000_000>),
            (Smol, spawning::by_smol::<1_000_000>),
        ],
        &[Look(Trine, Tokio), Look(Trine, Smol)],
    ),
    thing(
        "fork",
        "spawn a child and wait for its value",
        1,
        200_000,
        &[
            (Trine, spawning::fork_by_trine),
            (Tokio, spawning::fork_by_tokio),
            (Smol, spawning::fork_by_smol),
        ],
        &[Look(Trine, Tokio), Look(Trine, Smol)],
    ),
    thing(
        "nursery",
        "open a nursery and leave it",
        1,
        500_000,
        &[(Trine, scopes::nursery_without_children)],
        &[],
    ),
    thing("scope", "open a scope and leave it", 1, 1_000_000, &[(Trine, scopes::scope)], &[]),
    thing(
        "scope-10",
        "10 scopes within one another, each of them",
        10,
        100_000,
        &[(Trine, scopes::nested::<10>)],
        &[],
    ),
    thing(
        "scope-1000",
        "1,000 scopes within one another, each of them",
        1000,
        1000,
        &[(Trine, scopes::nested::<1000>)],
        &[],
    ),
    thing(
        "timeout-ready",
        "a timeout around what is ready at once",
        1,
        500_000,
        &[
            (Trine, scopes::ready_by_trine),
            (Tokio, scopes::ready_by_tokio),
            (Smol, scopes::ready_by_smol),
        ],
        &[Look(Trine, Tokio), Look(Trine, Smol)],
    ),
    thing(
        "timeout-pending",
        "a timeout around what waits for one turn, so that the deadline is set and unset",
        1,
        200_000,
        &[
            (Trine, scopes::pending_by_trine),
            (Tokio, scopes::pending_by_tokio),
            (Smol, scopes::pending_by_smol),
        ],
        &[Ratio(Trine, Tokio, 0.25), Look(Trine, Smol)],
    ),
    thing(
        "deadline",
        "move a deadline that is set",
        1,
        1_000_000,
        &[(Trine, scopes::moved_by_trine), (Tokio, scopes::moved_by_tokio)],
        &[Look(Trine, Tokio)],
    ),
    thing(
        "sleep-same",
        "100,000 asleep at once for the same 100 ms: time of the thread, each",
        100_000,
        1,
        &[
            (Trine, |times| timers::fired_by_trine::<100_000>(times, timers::same)),
            (Tokio, |times| timers::fired_by_tokio::<100_000>(times, timers::same)),
            (Smol, |times| timers::fired_by_smol::<100_000>(times, timers::same)),
        ],
        &[Ratio(Trine, Tokio, 0.5), Look(Trine, Smol)],
    ),
    thing(
        "sleep-1000",
        "1,000 asleep at once, each for a time of its own between 100 and 200 ms",
        1000,
        5,
        &[
            (Trine, |times| timers::fired_by_trine::<1000>(times, timers::mixed)),
            (Tokio, |times| timers::fired_by_tokio::<1000>(times, timers::mixed)),
        ],
        &[Look(Trine, Tokio)],
    ),
    thing(
        "sleep-100000",
        "the same, 100,000 of them",
        100_000,
        1,
        &[
            (Trine, |times| timers::fired_by_trine::<100_000>(times, timers::mixed)),
            (Tokio, |times| timers::fired_by_tokio::<100_000>(times, timers::mixed)),
        ],
        &[Ratio(Trine, Tokio, 0.5)],
    ),
    thing(
        "sleep-1000000",
        "the same, 1,000,000 of them",
        1_000_000,
        1,
        &[
            (Trine, |times| timers::fired_by_trine::<1_000_000>(times, timers::mixed)),
            (Tokio, |times| timers::fired_by_tokio::<1_000_000>(times, timers::mixed)),
        ],
        &[Look(Trine, Tokio)],
    ),
    thing(
        "sleep-cancelled-1000",
        "1,000 asleep for an hour, all cancelled",
        1000,
        50,
        &[(Trine, timers::cancelled_by_trine::<1000>), (Tokio, timers::cancelled_by_tokio::<1000>)],
        &[Look(Trine, Tokio)],
    ),
    thing(
        "sleep-cancelled-1000000",
        "1,000,000 asleep for an hour, all cancelled",
        1_000_000,
        1,
        &[
            (Trine, timers::cancelled_by_trine::<1_000_000>),
            (Tokio, timers::cancelled_by_tokio::<1_000_000>),
        ],
        &[Look(Trine, Tokio)],
    ),
    thing(
        "wake",
        "two tasks that wake one another: there and back",
        1,
        200_000,
        &[
            (Trine, wakes::here_by_trine),
            (Tokio, wakes::here_by_tokio),
            (Smol, wakes::here_by_smol),
        ],
        &[Look(Trine, Tokio), Look(Trine, Smol)],
    ),
    thing(
        "wake-thread",
        "a task asks another thread to wake it, and is woken",
        1,
        10_000,
        &[
            (Trine, wakes::elsewhere_by_trine),
            (Tokio, wakes::elsewhere_by_tokio),
            (Smol, wakes::elsewhere_by_smol),
        ],
        &[Look(Trine, Tokio), Look(Trine, Smol)],
    ),
    thing(
        "lock",
        "lock what nobody else has",
        1,
        1_000_000,
        &[(Trine, tools::lock_by_trine), (Tokio, tools::lock_by_tokio)],
        &[Ratio(Trine, Tokio, 0.5)],
    ),
    thing(
        "lock-contended",
        "lock what seven others want too, each for a turn",
        1,
        100_000,
        &[(Trine, tools::contended_by_trine), (Tokio, tools::contended_by_tokio)],
        &[Look(Trine, Tokio)],
    ),
    thing(
        "semaphore",
        "take a permit that is there",
        1,
        1_000_000,
        &[(Trine, tools::semaphore_by_trine), (Tokio, tools::semaphore_by_tokio)],
        &[Ratio(Trine, Tokio, 0.5)],
    ),
    thing(
        "thread",
        "call something in another thread and get its value",
        1,
        20_000,
        &[(Trine, tools::thread_by_trine), (Tokio, tools::thread_by_tokio)],
        &[Ratio(Trine, Tokio, 1.0)],
    ),
    thing(
        "oneshot",
        "make a oneshot and send through it",
        1,
        1_000_000,
        &[(Trine, tools::oneshot_by_trine), (Tokio, tools::oneshot_by_tokio)],
        &[Ratio(Trine, Tokio, 0.5)],
    ),
    thing(
        "channel-1",
        "a value through a channel from one task to another",
        1,
        500_000,
        &[(Trine, tools::channel_by_trine::<1>), (Tokio, tools::channel_by_tokio::<1>)],
        &[Ratio(Trine, Tokio, 0.5)],
    ),
    thing(
        "channel-8",
        "the same from eight",
        1,
        500_000,
        &[(Trine, tools::channel_by_trine::<8>), (Tokio, tools::channel_by_tokio::<8>)],
        &[Ratio(Trine, Tokio, 0.5)],
    ),
    thing(
        "cancel-1",
        "cancel one pending receive, until it has unwound",
        1,
        2000,
        &[
            (Hand, cancels::by_hand::<1>),
            (Trine, cancels::by_trine::<1, 1>),
            (Tokio, cancels::by_tokio::<1>),
        ],
        &[Look(Trine, Hand), Look(Trine, Tokio)],
    ),
    thing(
        "cancel-100",
        "cancel 100 pending receives, until all have unwound, each",
        100,
        100,
        &[
            (Hand, cancels::by_hand::<100>),
            (Trine, cancels::by_trine::<100, 1>),
            (Tokio, cancels::by_tokio::<100>),
        ],
        &[Look(Trine, Hand), Look(Trine, Tokio)],
    ),
    thing(
        "cancel-1000",
        "the same of 1,000",
        1000,
        30,
        &[(Hand, cancels::by_hand::<1000>), (Trine, cancels::by_trine::<1000, 1>)],
        &[Look(Trine, Hand)],
    ),
    thing(
        "cancel-10000",
        "the same of 10,000",
        10_000,
        3,
        &[
            (Hand, cancels::by_hand::<10_000>),
            (Trine, cancels::by_trine::<10_000, 1>),
            (Tokio, cancels::by_tokio::<10_000>),
        ],
        &[Ratio(Trine, Hand, 1.1), Look(Trine, Tokio), Look(Hand, Tokio)],
    ),
    thing(
        "cancel-18000",
        "the same of 18,000, about as many as a process has descriptors for",
        18_000,
        2,
        &[(Hand, cancels::by_hand::<18_000>), (Trine, cancels::by_trine::<18_000, 1>)],
        &[Look(Trine, Hand)],
    ),
    thing(
        "cancel-depth-10",
        "10,000, spread over 10 nurseries within one another",
        10_000,
        3,
        &[(Hand, cancels::by_hand::<10_000>), (Trine, cancels::by_trine::<10_000, 10>)],
        &[Look(Trine, Hand)],
    ),
    thing(
        "cancel-depth-100",
        "10,000, spread over 100 nurseries within one another",
        10_000,
        3,
        &[(Hand, cancels::by_hand::<10_000>), (Trine, cancels::by_trine::<10_000, 100>)],
        &[Look(Trine, Hand)],
    ),
    thing(
        "cancel-close",
        "cancel 10,000 receives whose children own their streams, which are closed as they unwind",
        10_000,
        1,
        &[
            (Hand, cancels::and_close_by_hand::<10_000>),
            (Trine, cancels::and_close_by_trine::<10_000>),
            (Tokio, cancels::and_close_by_tokio::<10_000>),
        ],
        &[Ratio(Trine, Hand, 1.1), Look(Trine, Tokio), Look(Hand, Tokio)],
    ),
    thing(
        "drop",
        "drop the futures of 10,000 receives, until the kernel has let go of all, each",
        10_000,
        3,
        &[(Hand, cancels::by_hand::<10_000>), (Trine, cancels::drop_by_trine::<10_000>)],
        &[Look(Trine, Hand)],
    ),
    thing(
        "shutdown",
        "a run with 8,000 connections that all receive ends, each",
        8000,
        1,
        &[
            (Hand, cancels::and_close_by_hand::<8000>),
            (Trine, cancels::shutdown_of_trine::<8000>),
            (Tokio, cancels::shutdown_of_tokio::<8000>),
        ],
        &[Look(Trine, Hand), Look(Trine, Tokio)],
    ),
    thing(
        "read-cached",
        "4 KiB here and there from the page cache, 64 reads at a time",
        64,
        2000,
        &[
            (Hand, files::reads_by_hand::<false>),
            (Registered, files::reads_registered::<false>),
            (Trine, files::reads_by_trine::<false>),
            (Tokio, files::reads_by_tokio::<false>),
            (Threads, files::reads_by_threads::<false>),
            (Fio, files::reads_by_fio::<false>),
        ],
        &[
            Ratio(Trine, Hand, 1.0 / 0.95),
            Ratio(Trine, Tokio, 1.0 / 12.0),
            Look(Trine, Threads),
            Look(Registered, Hand),
            Look(Trine, Registered),
            Look(Trine, Fio),
        ],
    ),
    thing(
        "read-direct",
        "4 KiB here and there from the disk (O_DIRECT), 64 reads at a time",
        64,
        200,
        &[
            (Hand, files::reads_by_hand::<true>),
            (Registered, files::reads_registered::<true>),
            (Trine, files::reads_by_trine::<true>),
            (Tokio, files::reads_by_tokio::<true>),
            (Threads, files::reads_by_threads::<true>),
            (Fio, files::reads_by_fio::<true>),
        ],
        &[
            Ratio(Trine, Hand, 1.0 / 0.95),
            Ratio(Trine, Tokio, 0.5),
            Look(Trine, Threads),
            Look(Registered, Hand),
            Look(Trine, Registered),
            Look(Trine, Fio),
        ],
    ),
    thing(
        "write-1m",
        "1 MiB after another, and an fsync after 32 of them",
        32,
        4,
        &[
            (Hand, files::writes_by_hand),
            (Trine, files::writes_by_trine),
            (Tokio, files::writes_by_tokio),
            (Threads, files::writes_by_threads),
        ],
        &[Look(Trine, Hand), Look(Trine, Tokio), Look(Trine, Threads)],
    ),
    thing(
        "small-files",
        "a file of one line made, looked at and removed, 64 at a time",
        1000,
        3,
        &[
            (Trine, files::small_files_by_trine),
            (Tokio, files::small_files_by_tokio),
            (Threads, files::small_files_by_threads),
        ],
        &[Look(Trine, Tokio), Look(Trine, Threads)],
    ),
    thing(
        "udp-echo-64",
        "a datagram of 64 bytes sent to a server and back, 64 clients at a time, both ends on one core",
        datagrams::MANY,
        2000,
        &[(Trine, datagrams::echo_by_trine::<64>), (Tokio, datagrams::echo_by_tokio::<64>)],
        &[Look(Trine, Tokio)],
    ),
    thing(
        "udp-echo-1400",
        "a datagram of 1,400 bytes sent to a server and back, 64 clients at a time, both ends on one core",
        datagrams::MANY,
        2000,
        &[(Trine, datagrams::echo_by_trine::<1400>), (Tokio, datagrams::echo_by_tokio::<1400>)],
        &[Look(Trine, Tokio)],
    ),
    thing(
        "udp-one-way-64",
        "a datagram of 64 bytes from one task to another, both ends on one core",
        datagrams::MANY,
        4000,
        &[(Trine, datagrams::one_way_by_trine::<64>), (Tokio, datagrams::one_way_by_tokio::<64>)],
        &[Look(Trine, Tokio)],
    ),
    thing(
        "udp-one-way-1400",
        "a datagram of 1,400 bytes from one task to another, both ends on one core",
        datagrams::MANY,
        4000,
        &[
            (Trine, datagrams::one_way_by_trine::<1400>),
            (Tokio, datagrams::one_way_by_tokio::<1400>),
        ],
        &[Look(Trine, Tokio)],
    ),
    thing(
        "udp-together-64",
        "the same of 64 bytes, where trine's sends of a round are begun together",
        datagrams::MANY,
        4000,
        &[(Trine, datagrams::together_by_trine::<64>), (Tokio, datagrams::one_way_by_tokio::<64>)],
        &[Look(Trine, Tokio)],
    ),
    thing(
        "udp-segments-64",
        "the same of 64 bytes, where trine's datagrams of a round are one send, and as few receives as may be",
        datagrams::MANY,
        4000,
        &[(Trine, datagrams::segments_by_trine::<64>), (Tokio, datagrams::one_way_by_tokio::<64>)],
        &[Look(Trine, Tokio)],
    ),
    thing(
        "copy",
        "from one TCP connection to another, with the other ends on another core: processor time of a MiB",
        copies::MANY,
        16,
        &[
            (Trine, copies::copy_by_trine),
            (Plain, copies::copy_plainly),
            (Tokio, copies::copy_by_tokio),
        ],
        &[Look(Trine, Plain), Look(Trine, Tokio), Look(Plain, Tokio)],
    ),
    thing(
        "copy-to-file",
        "from a TCP connection, with the other end on another core, into a file: processor time of a MiB",
        copies::MANY,
        8,
        &[(Trine, copies::receive_by_trine), (Plain, copies::receive_plainly)],
        &[Look(Trine, Plain)],
    ),
];

impl Side {
    pub const USUAL: &[Side] = &[Hand, Registered, Trine, Plain, Tokio, Smol, Threads];
    pub const ALL: &[Side] = &[Hand, Registered, Trine, Plain, Tokio, Smol, Threads, Fio];

    pub fn parse_list(list: &str) -> Vec<Side> {
        let parse = |name: &str| Side::ALL.iter().copied().find(|side| side.to_string() == name);
        list.split(',')
            .map(|name| parse(name).expect("hand, fixed, trine, plain, tokio, smol, std or fio"))
            .collect()
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Hand => "hand",
            Registered => "fixed",
            Trine => "trine",
            Plain => "plain",
            Tokio => "tokio",
            Smol => "smol",
            Threads => "std",
            Fio => "fio",
        })
    }
}
