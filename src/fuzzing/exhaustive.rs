//! Small worlds, all of them: one operation, every order of what may happen to it, and everything
//! that a cancel may find.

use std::collections::BTreeSet;

use crate::ring::twin::{Faults, Lane, Tape};
use crate::testing::World;

use super::model::Pair;
use super::program::{Action, Block, Carrier, Head, Program, Step};
use super::trial::{self, Played};

/// What may happen to an operation that waits in `s1` in `s0`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    /// What it waits for comes.
    Arrival,
    Cancel,
    Drop,
    Timeout,
    ShieldOn,
    ShieldOff,
}

const EVENTS: [Event; 6] =
    [Event::Arrival, Event::Cancel, Event::Drop, Event::Timeout, Event::ShieldOn, Event::ShieldOff];

const ACTIONS: [(Carrier, Action); 20] = [
    (Carrier::Tcp, Action::Recv(0)),
    (Carrier::Tcp, Action::Read(0, 5)),
    (Carrier::Tcp, Action::ReadExact(0, 5)),
    (Carrier::Tcp, Action::ReadExact(0, 8)),
    (Carrier::Tcp, Action::WriteAll(0, 70_000)),
    (Carrier::Tcp, Action::Accept),
    (Carrier::Tcp, Action::Connect),
    (Carrier::Tcp, Action::Nop),
    (Carrier::Tcp, Action::Close),
    (Carrier::Tcp, Action::Sleep(3)),
    (Carrier::Unix, Action::Recv(0)),
    (Carrier::Unix, Action::WriteAll(0, 70_000)),
    (Carrier::Pipe, Action::Recv(0)),
    (Carrier::Pipe, Action::ReadExact(0, 8)),
    (Carrier::Pipe, Action::WriteAll(0, 70_000)),
    (Carrier::Udp, Action::Recv(0)),
    (Carrier::UnixDatagrams, Action::Read(0, 5)),
    (Carrier::UnixDatagrams, Action::Write(0, 5)),
    (Carrier::File, Action::Read(0, 5)),
    (Carrier::File, Action::WriteAll(0, 5)),
];

/// The bytes that decide what cancels find: the obedient kernel, each of the six odd outcomes, and
/// the two that may be told before or after with the other order.
pub(super) const CANCELS: [&[u8]; 9] = [
    &[],
    &[1, 0, 0, 1, 0, 0, 1, 0, 0],
    &[1, 1, 1, 1, 1, 1, 1, 1],
    &[1, 2, 1, 2, 1, 2],
    &[1, 3, 1, 3, 1, 3],
    &[1, 4, 0, 1, 4, 0, 1, 4, 0],
    &[1, 5, 1, 5, 1, 5],
    &[1, 0, 1, 1, 0, 1, 1, 0, 1],
    &[1, 4, 1, 1, 4, 1, 1, 4, 1],
];

/// Runs the small worlds in which at most so many things happen with the obedient kernel, and at
/// most two with every other one. What is no connection has fewer: the same code waits for it. Says how
/// many worlds there were.
///
/// # Panics
/// If a rule is broken in one.
pub fn small_worlds(most: usize) -> u64 {
    let mut count = 0;
    for (carrier, action) in ACTIONS {
        let mut check = |order: &[Event], gap, cancels| {
            check((carrier, action), order, gap, cancels, &[]);
            count += 1;
        };
        let is_other = carrier != Carrier::Tcp;
        // Whatever cancels find, at every distance of the events.
        for order in orders(2) {
            for gap in if is_other { 1..2 } else { 0..3 } {
                CANCELS.into_iter().for_each(|cancels| check(&order, gap, cancels));
            }
        }
        let orders = if is_other { Vec::new() } else { orders(most.min(EVENTS.len())) };
        orders.iter().for_each(|order| check(order, 1, &[]));
    }
    count
}

/// All orders of at most so many of the events.
fn orders(most: usize) -> Vec<Vec<Event>> {
    let mut orders = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..most {
        let to = orders.len();
        for at in from..to {
            let shorter = orders[at].clone();
            for event in EVENTS.into_iter().filter(|event| !shorter.contains(event)) {
                orders.push(shorter.iter().copied().chain([event]).collect());
            }
        }
        from = to;
    }
    orders
}

/// What the simulated kernel does to operations that are cancelled, whatever else happens.
pub(super) fn pairs() -> BTreeSet<Pair> {
    let mut pairs = BTreeSet::new();
    for action in ACTIONS {
        for order in orders(2) {
            for cancels in CANCELS {
                pairs.extend(check(action, &order, 2, cancels, &[]));
            }
            // Also when it has not begun yet, and when others run before whoever waits.
            pairs.extend(check(action, &order, 0, &[], &[]));
            pairs.extend(check(action, &order, 2, &[], &[1; 64]));
        }
    }
    pairs
}

fn check(
    action: (Carrier, Action),
    order: &[Event],
    gap: usize,
    cancels: &[u8],
    schedule: &[u8],
) -> BTreeSet<Pair> {
    let program = program(action, order, gap);
    let faults = Faults { cancel_odd: u8::MAX, ..Faults::none() };
    let tape = Tape::tame().with(Lane::Cancel, cancels.to_vec());
    let tape = tape.with(Lane::Schedule, schedule.to_vec());
    let world = World::from_tape(tape, faults).turns(10_000);
    let Played { failed, pairs, .. } = trial::run(&program, &world, None);
    if let Some(failed) = failed {
        let timeline = world.timeline();
        panic!("{action:?}, {order:?}, cancel:{cancels:?}\n{failed}\n{program:?}\n{timeline}");
    }
    pairs
}

fn program((carrier, action): (Carrier, Action), order: &[Event], gap: usize) -> Program {
    let lent = vec![Step::Lend { slot: 0, action }];
    let inner = vec![Step::Scope { name: 1, body: lent, swallows: false }];
    let outer = vec![Step::Scope { name: 0, body: inner, swallows: false }];
    let mut body = Block::new();
    if action == Action::Close {
        body.extend([act(Action::Connect), act(Action::Accept)]);
    }
    body.push(Step::Spawn { daemon: false, body: outer });
    for event in order {
        body.extend((0..gap).map(|_| act(Action::YieldShielded)));
        body.push(match event {
            Event::Arrival => act(arrival(action)),
            Event::Cancel => Step::Cancel(0),
            Event::Drop => Step::DropKept(0),
            Event::Timeout => Step::Deadline { name: 0, to: Some(0) },
            Event::ShieldOn => Step::Shield { name: 1, on: true },
            Event::ShieldOff => Step::Shield { name: 1, on: false },
        });
    }
    body.extend([Step::Shield { name: 1, on: false }, Step::Cancel(0)]);
    Program {
        body,
        scopes: vec![Head::default(); 2],
        queue: 8,
        buffers: 4,
        pipes: vec![carrier],
        disk: 2,
        forgets: false,
        loses: false,
    }
}

fn act(action: Action) -> Step {
    Step::Do { action, swallows: true }
}

/// What the operation waits for; time, if nothing else.
fn arrival(action: Action) -> Action {
    match action {
        Action::Recv(_) | Action::Read(..) | Action::ReadExact(..) => Action::WriteAll(0, 5),
        Action::WriteAll(..) => Action::Recv(0),
        Action::Accept => Action::Connect,
        _ => Action::Sleep(5),
    }
}
