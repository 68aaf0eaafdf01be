//! Everything that a world consists of, and the events that are still to come.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::{Instant, VirtualClock};
use crate::slots::{Key, Slots};

use super::super::Completion;
use super::datagram::Flight;
use super::disk::Disk;
use super::faults::Faults;
use super::files::Files;
use super::journal::{Deed, Journal};
use super::network::Network;
use super::operations::{Op, Stage};
use super::pipe::Pipe;
use super::queue::{RingState, Work};
use super::stream::{Conn, Side};
use super::tape::{Lane, Tape};

pub(super) struct Machine {
    clock: Rc<VirtualClock>,
    pub(super) tape: Tape,
    pub(super) faults: Faults,
    pub(super) journal: Journal,
    pub(super) files: Files,
    pub(super) conns: Slots<Conn>,
    pub(super) pipes: Slots<Pipe>,
    pub(super) network: Network,
    pub(super) disk: Disk,
    pub(super) ops: Slots<Op>,
    pub(super) rings: Slots<RingState>,
    events: BinaryHeap<Event>,
    scheduled: u64,
    pub(super) submitted: u64,
    pub(super) completed: u64,
    pub(super) violations: Vec<String>,
    /// What the next rings are refused with.
    pub(super) setup_refusal: Option<i32>,
    /// The kernel is one that knows no multishots.
    pub(super) no_multishots: bool,
    /// It sends nothing without a copy.
    pub(super) no_zero_copy: bool,
    /// It cannot move bytes by itself.
    pub(super) no_splice: bool,
    /// Bytes whose pages are held for rings, and how many may be.
    pub(super) locked_memory: usize,
    pub(super) most_locked_memory: usize,
}

/// Something that will happen by itself.
struct Event {
    at: Instant,
    /// Which came first, of two at the same instant.
    number: u64,
    what: Happening,
}

#[derive(Clone, Copy)]
pub(super) enum Happening {
    /// What was sent to this side of a connection arrives, as far as it is due.
    Arrival(Key<Conn>, Side),
    /// The first segment of a handshake arrives at the listener.
    Request(Key<Conn>),
    /// The second one arrives at the client.
    Acknowledgement(Key<Conn>),
    /// The news that a connection failed arrives at the client.
    Refusal(Key<Conn>, i32),
    /// The client has waited long enough.
    Timeout(Key<Conn>),
    /// What was queued in a worker begins.
    Work(Key<Op>),
    /// A datagram arrives.
    Datagram(Key<Flight>),
    /// A completion is due.
    Post(Key<RingState>, Completion),
}

impl Machine {
    pub(super) fn new(clock: Rc<VirtualClock>, mut tape: Tape, faults: Faults) -> Machine {
        let faults = faults.swarm(&mut tape);
        let no_multishots = tape.happens(Lane::Network, faults.no_multishots);
        let journal = Journal::new(clock.now());
        Machine {
            clock,
            tape,
            faults,
            journal,
            files: Files::new(),
            conns: Slots::new(),
            pipes: Slots::new(),
            network: Network::new(),
            disk: Disk::new(),
            ops: Slots::new(),
            rings: Slots::new(),
            events: BinaryHeap::new(),
            scheduled: 0,
            submitted: 0,
            completed: 0,
            violations: Vec::new(),
            setup_refusal: None,
            no_multishots,
            no_zero_copy: false,
            no_splice: false,
            locked_memory: 0,
            most_locked_memory: usize::MAX,
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn record(&mut self, deed: Deed, what: &'static str, subject: u64, number: i64) {
        self.journal.record(self.clock.now(), deed, what, subject, number);
    }

    /// An oracle has something to complain about.
    pub(super) fn violation(&mut self, text: String) {
        self.journal.note(self.clock.now(), format!("VIOLATION: {text}"));
        self.violations.push(text);
    }

    pub(super) fn happens(&mut self, lane: Lane, chance: u8) -> bool {
        chance > 0 && self.tape.happens(lane, chance)
    }

    /// A short time: from a microsecond to eight milliseconds.
    pub(super) fn short_time(&mut self, lane: Lane) -> Duration {
        Duration::from_micros(1 << self.tape.choose(lane, 14))
    }

    pub(super) fn schedule(&mut self, at: Instant, what: Happening) {
        self.scheduled += 1;
        self.events.push(Event { at, number: self.scheduled, what });
    }

    /// Has everything happen that is due.
    pub(super) fn run_due(&mut self) {
        let now = self.now();
        while self.events.peek().is_some_and(|event| event.at <= now) {
            let Some(event) = self.events.pop() else { return };
            self.happen(event.what);
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrival(conn, side) => self.arrivals(conn, side),
            Happening::Request(conn) => self.request_arrives(conn),
            Happening::Acknowledgement(conn) => self.acknowledgement_arrives(conn),
            Happening::Refusal(conn, errno) => self.fail_connect(conn, errno),
            Happening::Timeout(conn) => self.give_up_connect(conn),
            Happening::Work(op) => self.work_begins(op),
            Happening::Datagram(flight) => self.datagram_arrives(flight),
            Happening::Post(ring, completion) => {
                if let Some(ring) = self.rings.get_mut(ring) {
                    ring.work.push_back(Work::Post(completion));
                }
            }
        }
    }

    /// When the next thing happens that still matters.
    pub(super) fn next_event(&mut self) -> Option<Instant> {
        while let Some(event) = self.events.peek() {
            if self.matters(event) {
                return Some(event.at.max(self.now()));
            }
            self.events.pop();
        }
        None
    }

    /// An event may have been overtaken; it must not keep a world awake.
    fn matters(&self, event: &Event) -> bool {
        match event.what {
            Happening::Arrival(conn, side) => {
                self.conns.get(conn).is_some_and(|conn| conn.expects(side, event.at))
            }
            Happening::Request(conn)
            | Happening::Acknowledgement(conn)
            | Happening::Refusal(conn, _)
            | Happening::Timeout(conn) => {
                self.conns.get(conn).is_some_and(|conn| !conn.is_established())
            }
            Happening::Work(op) => {
                self.ops.get(op).is_some_and(|op| matches!(op.stage, Stage::Queued(_)))
            }
            Happening::Datagram(flight) => self.network.flights.get(flight).is_some(),
            Happening::Post(ring, _) => self.rings.get(ring).is_some(),
        }
    }

    /// Completions that were to come later come now, in the same order.
    pub(super) fn hurry(&mut self, ring: Key<RingState>, token: super::super::Token) {
        let mine = |event: &Event| match event.what {
            Happening::Post(of, completion) => of == ring && completion.token == token,
            _ => false,
        };
        if !self.events.iter().any(mine) {
            return;
        }
        let events = std::mem::take(&mut self.events).into_vec();
        let (mut early, others): (Vec<_>, Vec<_>) = events.into_iter().partition(mine);
        self.events = others.into();
        early.sort_by_key(|event| (event.at, event.number));
        early.into_iter().for_each(|event| self.happen(event.what));
    }
}

impl Ord for Event {
    /// The earliest is the greatest, so that it is on top of the heap.
    fn cmp(&self, other: &Event) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}
