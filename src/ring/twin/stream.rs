//! An established connection: two ends, and the bytes on the way to each.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::clock::Instant;
use crate::slots::Key;

use super::files::File;
use super::journal::Deed;
use super::machine::{Happening, Machine};
use super::operations::{Interest, those};
use super::rights::{Enclosed, Rights};
use super::tape::Lane;
use super::unix::Name;

/// Which end: 0 is the client, 1 the server.
pub(super) type Side = usize;
pub(super) const SIDES: [Side; 2] = [0, 1];

pub(super) struct Conn {
    pub(super) ends: [End; 2],
    pub(super) handshake: Handshake,
    /// Those of the ends, if it is one of Unix sockets: then no network is in between.
    pub(super) names: Option<[Name; 2]>,
    /// Who has or had it in its backlog.
    pub(super) listener: Option<Key<File>>,
}

/// How far it is established.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Handshake {
    Requested,
    /// The network is cut between the two.
    RequestHeld,
    /// The backlog is full.
    Queued,
    Acknowledged,
    AcknowledgementHeld,
    Established,
}

pub(super) struct End {
    pub(super) address: SocketAddr,
    /// `None` in a backlog, and once it is gone.
    pub(super) file: Option<Key<File>>,
    pub(super) inbound: Flow,
    /// It has said that it sends nothing more.
    finished: bool,
    read_shut: bool,
    /// An error that the next operation reports.
    error: Option<i32>,
    /// Reset, by either side.
    pub(super) dead: bool,
    /// Nobody has it any more, or not yet.
    pub(super) gone: bool,
}

/// What is on the way to one end.
pub(super) struct Flow {
    /// What has arrived, and behind it what is in flight.
    bytes: VecDeque<u8>,
    arrived: usize,
    /// What is in flight and when each arrives; [`Instant::MAX`]: when the network is whole again.
    pub(super) segments: VecDeque<(Instant, Segment)>,
    pub(super) last_arrival: Instant,
    capacity: usize,
    /// Receives since the capacity last grew.
    receives: u32,
    /// The end of the stream has arrived.
    ended: bool,
    /// What was sent with the bytes.
    enclosed: Enclosed,
    sent: u64,
    received: u64,
    discarded: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Segment {
    Data(usize),
    End,
    Reset,
}

/// What a receive finds.
pub(super) enum Readable {
    Bytes,
    End,
    Error(i32),
    Nothing,
}

/// How much fits into a receive buffer, unless the tape makes it small. Less under Miri, which takes its
/// time over every byte.
pub(super) const CAPACITY: usize = if cfg!(miri) { 4 << 10 } else { 64 << 10 };

/// Receives after which a narrow connection is twice as wide.
const WIDENED: u32 = 64;

impl Conn {
    pub(super) fn new(client: SocketAddr, server: SocketAddr, capacities: [usize; 2]) -> Conn {
        let [to_client, to_server] = capacities;
        let client = End::new(client, to_client, false);
        let server = End::new(server, to_server, true);
        let ends = [client, server];
        Conn { ends, handshake: Handshake::Requested, names: None, listener: None }
    }

    /// One between Unix sockets.
    pub(super) fn local(names: [Name; 2], capacities: [usize; 2]) -> Conn {
        let nowhere = (Ipv4Addr::UNSPECIFIED, 0).into();
        Conn { names: Some(names), ..Conn::new(nowhere, nowhere, capacities) }
    }

    pub(super) fn is_established(&self) -> bool {
        self.handshake == Handshake::Established
    }

    /// Whether something is to arrive by then.
    pub(super) fn expects(&self, side: Side, by: Instant) -> bool {
        self.ends[side].inbound.segments.front().is_some_and(|(at, _)| *at <= by)
    }

    /// Whether both directions have ended or broken: then it has no peer any more.
    pub(super) fn is_over(&self, side: Side) -> bool {
        let [mine, theirs] = [&self.ends[side], &self.ends[1 - side]];
        mine.dead || (mine.inbound.ended && theirs.inbound.ended)
    }

    /// The error that the next operation of this side would report.
    pub(super) fn take_error(&mut self, side: Side) -> Option<i32> {
        self.ends[side].error.take()
    }

    /// Bytes in it, arrived or in flight.
    pub(super) fn bytes(&self) -> usize {
        self.ends.iter().map(|end| end.inbound.bytes.len()).sum()
    }

    /// The stream oracle: nothing is lost and nothing is invented.
    pub(super) fn check(&self) -> Result<(), String> {
        self.ends.iter().try_for_each(|end| end.inbound.check(end.address))
    }
}

impl End {
    fn new(address: SocketAddr, capacity: usize, gone: bool) -> End {
        let inbound = Flow {
            bytes: VecDeque::new(),
            arrived: 0,
            segments: VecDeque::new(),
            last_arrival: Instant::MIN,
            capacity,
            receives: 0,
            ended: false,
            enclosed: Enclosed::default(),
            sent: 0,
            received: 0,
            discarded: 0,
        };
        End {
            address,
            file: None,
            inbound,
            finished: false,
            read_shut: false,
            error: None,
            dead: false,
            gone,
        }
    }
}

impl End {
    /// How much may be sent to it. One that is gone takes anything, to answer with a reset.
    fn room(&self) -> usize {
        let answers = self.gone && self.inbound.arrived == 0;
        if answers { usize::MAX } else { self.inbound.room() }
    }
}

impl Flow {
    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    /// A narrow connection becomes wider with use, as windows do: it shows what it has to show in its
    /// first bytes, and a long transfer need not take for ever.
    fn widen(&mut self) {
        self.receives = self.receives.saturating_add(1);
        if self.receives >= WIDENED && self.capacity < CAPACITY {
            self.capacity *= 2;
            self.receives = 0;
        }
    }

    /// How many bytes a receive may take: it ends behind those with which something was sent.
    fn reach(&self) -> usize {
        let taken = self.received + self.discarded;
        self.enclosed.end().map_or(usize::MAX, |end| end.saturating_sub(taken) as usize)
    }

    /// Throws `count` bytes away, from `at` on.
    fn discard(&mut self, at: usize, count: usize) {
        self.bytes.drain(at..at + count);
        self.discarded += count as u64;
    }

    fn check(&self, to: SocketAddr) -> Result<(), String> {
        let there = self.bytes.len() as u64;
        let whole = self.sent == self.received + self.discarded + there;
        if whole && self.arrived <= self.bytes.len() {
            return Ok(());
        }
        let Flow { sent, received, discarded, .. } = self;
        Err(format!(
            "to {to} went {sent} bytes: {received} received, {discarded} discarded, {there} there"
        ))
    }
}

impl Machine {
    /// How much each end of a new connection can hold.
    pub(super) fn capacities(&mut self) -> [usize; 2] {
        SIDES.map(|_| {
            if self.happens(Lane::Transfer, self.faults.short) {
                1 << self.tape.choose(Lane::Transfer, 13)
            } else {
                CAPACITY
            }
        })
    }

    /// Sends some of these bytes; `None`: there is no room.
    pub(super) fn send(
        &mut self,
        key: Key<Conn>,
        side: Side,
        bytes: &[u8],
    ) -> Option<Result<usize, i32>> {
        let conn = self.conns.get_mut(key)?;
        let local = conn.names.is_some();
        let [mine, theirs] = both(&mut conn.ends, side);
        // Over Unix sockets it is known at once whether anybody reads, and an error is for who reads.
        if local && (mine.finished || theirs.gone || theirs.read_shut) {
            return Some(Err(libc::EPIPE));
        }
        if mine.error.is_some() || mine.finished || mine.dead {
            return Some(Err(mine.error.take().unwrap_or(libc::EPIPE)));
        }
        let room = theirs.room();
        if room == 0 && !bytes.is_empty() {
            return None;
        }
        let count = self.cut(bytes.len().min(room));
        if !local && self.happens(Lane::Network, self.faults.reset) {
            self.break_connection(key);
            // This operation reports it.
            self.conns.get_mut(key)?.ends[side].error = None;
            return Some(Err(libc::ECONNRESET));
        }
        let flow = &mut self.conns.get_mut(key)?.ends[1 - side].inbound;
        flow.bytes.extend(&bytes[..count]);
        flow.sent += count as u64;
        self.record(Deed::Send, "", end_number(key, side), count as i64);
        if count > 0 {
            self.transmit(key, 1 - side, Segment::Data(count));
        }
        self.check_stream(key);
        Some(Ok(count))
    }

    /// A part of what could be transferred, if the tape says so.
    pub(super) fn cut(&mut self, count: usize) -> usize {
        if count > 1 && self.happens(Lane::Transfer, self.faults.short) {
            1 + self.tape.choose(Lane::Transfer, count as u32 - 1) as usize
        } else {
            count
        }
    }

    /// Whether no network is between its ends.
    pub(super) fn is_local(&self, key: Key<Conn>) -> bool {
        self.conns.get(key).is_some_and(|conn| conn.names.is_some())
    }

    /// What a receive would find now. An error is found once.
    pub(super) fn readable(&mut self, key: Key<Conn>, side: Side) -> Readable {
        let Some(conn) = self.conns.get_mut(key) else { return Readable::End };
        let local = conn.names.is_some();
        let end = &mut conn.ends[side];
        // In the order in which Linux looks: what is queued survives even a reset.
        if end.inbound.arrived > 0 {
            return Readable::Bytes;
        }
        if let Some(errno) = end.error.take_if(|_| local) {
            return Readable::Error(errno);
        }
        if end.inbound.ended {
            return Readable::End;
        }
        match end.error.take() {
            Some(errno) => Readable::Error(errno),
            None if end.read_shut || end.dead => Readable::End,
            None => Readable::Nothing,
        }
    }

    /// How many bytes a receive would find.
    pub(super) fn unread_of_stream(&self, key: Key<Conn>, side: Side) -> usize {
        self.conns.get(key).map_or(0, |conn| conn.ends[side].inbound.arrived)
    }

    /// What poll(2) finds at one end.
    pub(super) fn events_of_stream(&self, key: Key<Conn>, side: Side) -> i16 {
        let Some(conn) = self.conns.get(key) else { return libc::POLLHUP };
        let [mine, theirs] = [&conn.ends[side], &conn.ends[1 - side]];
        let ended = mine.dead || mine.inbound.ended || mine.read_shut;
        let finished = mine.dead || mine.finished;
        those([
            (libc::POLLIN, ended || mine.inbound.arrived > 0),
            (libc::POLLOUT, finished || theirs.room() > 0),
            (libc::POLLERR, mine.error.is_some()),
            (libc::POLLHUP, ended && finished),
        ])
    }

    /// Receives what is there, at most `room` bytes: `write` gets each part, and where it belongs. What was
    /// sent with the bytes comes too.
    pub(super) fn receive(
        &mut self,
        key: Key<Conn>,
        side: Side,
        room: usize,
        mut write: impl FnMut(usize, &[u8]),
    ) -> (usize, Rights) {
        let Some(conn) = self.conns.get(key) else { return (0, Rights::new()) };
        let flow = &conn.ends[side].inbound;
        let count = self.cut(flow.arrived.min(room).min(flow.reach()));
        let Some(conn) = self.conns.get_mut(key) else { return (0, Rights::new()) };
        let flow = &mut conn.ends[side].inbound;
        let (first, second) = flow.bytes.as_slices();
        let from_first = count.min(first.len());
        write(0, &first[..from_first]);
        write(from_first, &second[..count - from_first]);
        flow.bytes.drain(..count);
        flow.arrived -= count;
        flow.received += count as u64;
        let rights = flow.enclosed.take(flow.received + flow.discarded);
        flow.widen();
        let sender = conn.ends[1 - side].file;
        self.record(Deed::Receive, "", end_number(key, side), count as i64);
        self.wake(sender, Interest::Write);
        self.check_stream(key);
        (count, rights)
    }

    /// These were sent with the last `count` bytes to one side.
    pub(super) fn enclose(&mut self, key: Key<Conn>, to: Side, count: usize, rights: Rights) {
        match self.conns.get_mut(key) {
            Some(conn) => {
                let flow = &mut conn.ends[to].inbound;
                flow.enclosed.add(flow.sent - count as u64, flow.sent, rights);
            }
            None => self.release_rights(rights),
        }
    }

    fn check_stream(&mut self, key: Key<Conn>) {
        if let Some(Err(text)) = self.conns.get(key).map(Conn::check) {
            self.violation(text);
        }
    }

    /// shutdown(2) on a connection.
    pub(super) fn shut(&mut self, key: Key<Conn>, side: Side, how: i32) -> Result<(), i32> {
        let Some(conn) = self.conns.get_mut(key) else { return Err(libc::ENOTCONN) };
        let local = conn.names.is_some();
        if conn.is_over(side) {
            return if local { Ok(()) } else { Err(libc::ENOTCONN) };
        }
        // Who writes over Unix sockets is told that nobody reads any more.
        let peer = conn.ends[1 - side].file.filter(|_| local);
        let end = &mut conn.ends[side];
        let file = end.file;
        if how != libc::SHUT_WR {
            end.read_shut = true;
        }
        let finishes = how != libc::SHUT_RD && !end.finished;
        end.finished |= finishes;
        if finishes {
            self.transmit(key, 1 - side, Segment::End);
        }
        self.wake_both(file);
        self.wake(peer, Interest::Write);
        Ok(())
    }

    /// Nobody has this end any more. What it has not read makes the close a reset, and so does a
    /// linger of zero.
    pub(super) fn end_side(&mut self, key: Key<Conn>, side: Side, linger: Option<Duration>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let end = &mut conn.ends[side];
        let unread = std::mem::take(&mut end.inbound.arrived);
        end.inbound.discard(0, unread);
        let unreceived = end.inbound.enclosed.take_all();
        (end.file, end.gone) = (None, true);
        if !end.dead {
            if unread > 0 || linger == Some(Duration::ZERO) {
                end.dead = true;
                self.transmit(key, 1 - side, Segment::Reset);
            } else if !end.finished {
                end.finished = true;
                self.transmit(key, 1 - side, Segment::End);
            }
        }
        self.free_connection(key);
        self.release_rights(unreceived);
    }

    /// The connection is gone when both ends are.
    pub(super) fn free_connection(&mut self, key: Key<Conn>) {
        if self.conns.get(key).is_some_and(|conn| conn.ends.iter().all(|end| end.gone)) {
            self.check_stream(key);
            if let Some(mut conn) = self.conns.remove(key) {
                self.network.give_port_back(conn.ends[0].address);
                for end in &mut conn.ends {
                    let unreceived = end.inbound.enclosed.take_all();
                    self.release_rights(unreceived);
                }
            }
        }
    }

    /// Both ends find the connection reset, and nothing in flight arrives.
    pub(super) fn break_connection(&mut self, key: Key<Conn>) {
        for side in SIDES {
            let Some(conn) = self.conns.get_mut(key) else { return };
            let flow = &mut conn.ends[side].inbound;
            flow.segments.clear();
            let flying = flow.bytes.len() - flow.arrived;
            flow.discard(flow.arrived, flying);
        }
        for side in SIDES {
            self.arrive(key, side, Segment::Reset);
        }
    }

    /// Sends a segment to one side.
    pub(super) fn transmit(&mut self, key: Key<Conn>, to: Side, segment: Segment) {
        if self.is_local(key) {
            return self.arrive(key, to, segment);
        }
        let now = self.now();
        let mut on_its_way = self.latency(key);
        if self.happens(Lane::Network, self.faults.delay) {
            on_its_way += self.short_time(Lane::Network);
        }
        let Some(conn) = self.conns.get_mut(key) else { return };
        let cut = self.network.blocks(conn.ends[0].address, conn.ends[1].address);
        let flow = &mut conn.ends[to].inbound;
        // Nothing overtakes on the way.
        let arrives = if cut { Instant::MAX } else { (now + on_its_way).max(flow.last_arrival) };
        if arrives <= now && flow.segments.is_empty() {
            self.arrive(key, to, segment);
            return;
        }
        flow.segments.push_back((arrives, segment));
        if !cut {
            flow.last_arrival = arrives;
            self.schedule(arrives, Happening::Arrival(key, to));
        }
    }

    /// Everything arrives that is due on one side.
    pub(super) fn arrivals(&mut self, key: Key<Conn>, to: Side) {
        let now = self.now();
        loop {
            let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.expects(to, now)) else {
                return;
            };
            let Some((_, segment)) = conn.ends[to].inbound.segments.pop_front() else { return };
            self.arrive(key, to, segment);
        }
    }

    fn arrive(&mut self, key: Key<Conn>, to: Side, segment: Segment) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let local = conn.names.is_some();
        let end = &mut conn.ends[to];
        let file = end.file;
        let number = match segment {
            Segment::Data(count) => count as i64,
            Segment::End => -1,
            Segment::Reset => -2,
        };
        match segment {
            Segment::Data(count) if end.gone || end.dead => {
                end.inbound.discard(end.inbound.arrived, count);
                // It is answered with a reset, once.
                if !std::mem::replace(&mut end.dead, true) {
                    self.transmit(key, 1 - to, Segment::Reset);
                }
            }
            Segment::Data(count) => end.inbound.arrived += count,
            Segment::End => end.inbound.ended = true,
            Segment::Reset if end.dead => {}
            Segment::Reset => {
                let late = end.inbound.ended && !local;
                end.error = Some(if late { libc::EPIPE } else { libc::ECONNRESET });
                end.dead = true;
            }
        }
        self.record(Deed::Arrive, "", end_number(key, to), number);
        match segment {
            Segment::Reset => self.connection_broke(key, to),
            Segment::Data(_) | Segment::End => self.wake(file, Interest::Read),
        }
    }
}

/// The end of a side, and the other one.
fn both(ends: &mut [End; 2], side: Side) -> [&mut End; 2] {
    let [client, server] = ends;
    if side == 0 { [client, server] } else { [server, client] }
}

/// How the journal names one end of a connection.
pub(super) fn end_number(key: Key<Conn>, side: Side) -> u64 {
    u64::from(key.index()) << 1 | side as u64
}
