//! One ring: what was pushed, what is to be done, and what has become visible.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::clock::Instant;
use crate::slots::Key;

use super::super::request::{Region, Request};
use super::super::{Completion, RingSize, Token};
use super::buffers::Group;
use super::cancel::RESTART;
use super::journal::Deed;
use super::machine::{Happening, Machine};
use super::memory;
use super::operations::{Attempt, Op, Stage, describe, descriptor, goes_on, read_from, written};
use super::tape::Lane;

pub(super) struct RingState {
    pub(super) queue: VecDeque<Entry>,
    submissions: usize,
    completions: usize,
    pub(super) visible: VecDeque<Completion>,
    pub(super) work: VecDeque<Work>,
    /// The operations in flight.
    tokens: HashMap<u64, Key<Op>, BuildHasherDefault<TokenHasher>>,
    pub(super) groups: Vec<Group>,
    /// The memory that is known beforehand, by its places.
    pub(super) registered: Vec<Option<Region>>,
    /// The last enter was interrupted; the next one is not.
    was_interrupted: bool,
}

/// An entry of the submission queue.
#[derive(Clone, Copy)]
pub(super) enum Entry {
    Operation(Token, Request),
    Cancel(Token),
}

/// What runs when the ring is entered: Linux calls it task work.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// An operation whose file has changed tries again.
    Retry(Key<Op>),
    /// A completion becomes visible.
    Post(Completion),
}

/// What Linux runs in one pass, unless more completions are waited for.
const PASS: usize = 20;

/// Results of a multishot in one go; then the others have their turn.
const IN_A_ROW: usize = 16;

/// Interruptions in a row that nobody asked for: the runtime repeats eight times.
const INTERRUPTIONS: u8 = 3;

/// How far down the queue a pass may reach for the next work.
const SHUFFLED: usize = 8;

impl RingState {
    /// Sizes are powers of two, and clamped.
    pub(super) fn new(size: RingSize) -> Result<RingState, i32> {
        let RingSize { submissions, completions, .. } = size;
        if submissions == 0 {
            return Err(libc::EINVAL);
        }
        // As the real door does, for the kernel refuses a completion queue that is the smaller one.
        let completions = completions.max(submissions);
        Ok(RingState {
            queue: VecDeque::new(),
            submissions: submissions.min(32_768).next_power_of_two() as usize,
            completions: completions.min(65_536).next_power_of_two() as usize,
            visible: VecDeque::new(),
            work: VecDeque::new(),
            tokens: HashMap::default(),
            groups: Vec::new(),
            registered: Vec::new(),
            was_interrupted: false,
        })
    }

    pub(super) fn push(&mut self, entry: Entry) -> bool {
        let fits = self.queue.len() < self.submissions;
        if fits {
            self.queue.push_back(entry);
        }
        fits
    }

    /// Whether entering it would bring something now.
    pub(super) fn is_ready(&self) -> bool {
        !(self.queue.is_empty() && self.work.is_empty() && self.visible.is_empty())
    }

    /// Operations that were pushed and whose terminal completion has not become visible.
    pub(super) fn in_flight(&self) -> usize {
        let queued = |entry: &&Entry| matches!(entry, Entry::Operation(..));
        self.tokens.len() + self.queue.iter().filter(queued).count()
    }

    pub(super) fn find(&self, token: Token) -> Option<Key<Op>> {
        self.tokens.get(&token.bits()).copied()
    }

    /// Bytes whose pages are held.
    pub(super) fn locked_memory(&self) -> usize {
        self.registered.iter().flatten().map(|memory| memory.len() as usize).sum()
    }

    /// Takes out the next work, or one behind it. The completions of one token keep their order.
    fn take_work(&mut self, at: usize) -> Option<Work> {
        let at = match self.work.get(at)? {
            Work::Retry(_) => at,
            Work::Post(later) => {
                let same = |work: &Work| matches!(work, Work::Post(c) if c.token == later.token);
                self.work.iter().position(same)?
            }
        };
        self.work.remove(at)
    }
}

impl Machine {
    /// io_uring_enter(2) that does not wait.
    pub(super) fn enter(&mut self, key: Key<RingState>, want: u32) {
        self.run_due();
        let Some(ring) = self.rings.get_mut(key) else { return };
        let queued = ring.queue.len();
        // Twice in a row would be allowed, but could go on for ever.
        let again = std::mem::take(&mut ring.was_interrupted);
        let interrupted = !again && self.happens(Lane::Fault, self.faults.interrupt);
        if let Some(ring) = self.rings.get_mut(key) {
            ring.was_interrupted = interrupted;
        }
        // EBUSY takes nothing; EINTR comes after the queue was taken.
        if interrupted && self.tape.choose(Lane::Fault, 2) == 0 {
            return;
        }
        self.scribble(key);
        let mut taken = queued;
        if queued > 1 && self.happens(Lane::Fault, self.faults.submit_less) {
            taken = 1 + self.tape.choose(Lane::Fault, queued as u32 - 1) as usize;
        }
        for _ in 0..taken {
            match self.rings.get_mut(key).and_then(|ring| ring.queue.pop_front()) {
                Some(Entry::Operation(token, request)) => self.start(key, token, request),
                Some(Entry::Cancel(token)) => self.cancel(key, token),
                None => break,
            }
        }
        if !interrupted {
            self.run_pass(key, PASS.max(want as usize));
        }
    }

    fn run_pass(&mut self, key: Key<RingState>, most: usize) {
        for _ in 0..most {
            let Some(ring) = self.rings.get(key).filter(|ring| !ring.work.is_empty()) else {
                return;
            };
            let reach = ring.work.len().min(SHUFFLED) as u32;
            let mut at = 0;
            if reach > 1 && self.happens(Lane::Order, self.faults.reorder) {
                at = self.tape.choose(Lane::Order, reach) as usize;
            }
            let Some(ring) = self.rings.get_mut(key) else { return };
            match ring.take_work(at) {
                Some(Work::Retry(op)) => self.retry(op),
                Some(Work::Post(completion)) => self.post_due(key, completion),
                None => return,
            }
        }
    }

    /// Begins an operation.
    fn start(&mut self, ring: Key<RingState>, token: Token, request: Request) {
        let description = describe(&request);
        let fd = descriptor(&request);
        self.submitted += 1;
        let shown = fd.map_or(-1, i64::from);
        self.record(Deed::Submit, description.name, token.bits(), shown);
        if self.rings.get(ring).is_some_and(|ring| ring.find(token).is_some()) {
            self.violation(format!("{} {token:?} is pushed while in flight", description.name));
            return;
        }
        let mut op = Op {
            ring,
            token,
            request,
            description,
            file: None,
            stage: Stage::Woken,
            done: 0,
            fingerprint: read_from(&request).map_or(0, memory::fingerprint),
            posts: 0,
            due: Instant::MIN,
            missed: 0,
        };
        match fd.map(|fd| self.file_of(fd, description.name)) {
            Some(Err(errno)) => {
                self.end(&mut op, -errno);
                return self.settle(op, None);
            }
            Some(Ok(file)) => {
                self.hold_file(file);
                op.file = Some(file);
            }
            None => {}
        }
        match self.queued_for(&op) {
            Some(time) => op.stage = Stage::Queued(time),
            None => self.drive(&mut op),
        }
        self.settle(op, None);
    }

    fn retry(&mut self, key: Key<Op>) {
        let Some(&op) = self.ops.get(key) else { return };
        // A cancel may have ended it meanwhile.
        if op.stage == Stage::Woken {
            let mut op = op;
            self.drive(&mut op);
            self.settle(op, Some(key));
        }
    }

    /// Attempts an operation until it has ended or can do no more now.
    pub(super) fn drive(&mut self, op: &mut Op) {
        for _ in 0..IN_A_ROW {
            if let Some(errno) = self.interruption(op) {
                return self.end(op, op.stopped(errno));
            }
            match op.attempt(self) {
                Attempt::Blocked(interest) => {
                    op.stage = Stage::Armed(interest);
                    return;
                }
                Attempt::Again => {
                    op.stage = Stage::Woken;
                    return;
                }
                Attempt::Done(result, buffer) => {
                    if result >= 0 {
                        self.forget_interruptions(op);
                    }
                    let more = goes_on(&op.request, result)
                        && self.has_room_for_completions(op.ring)
                        && !self.happens(Lane::Transfer, self.faults.multishot_ends);
                    let token = op.token;
                    if !more {
                        op.stage = Stage::Ended;
                    }
                    self.post(op, Completion { token, result, more, buffer }, false);
                    if !more {
                        return;
                    }
                }
            }
        }
        op.stage = Stage::Woken;
    }

    /// A multishot ends when the completion queue is full; nothing is lost by that.
    fn has_room_for_completions(&self, ring: Key<RingState>) -> bool {
        self.rings.get(ring).is_some_and(|ring| ring.visible.len() < ring.completions)
    }

    /// An interruption that nobody asked for: a few in a row at most.
    fn interruption(&mut self, op: &Op) -> Option<i32> {
        let interest = op.description.interrupted?;
        if op.done > 0 || !self.happens(Lane::Fault, self.faults.spurious) {
            return None;
        }
        let file = self.files.table.get_mut(op.file?)?;
        let in_a_row = &mut file.interrupted[interest as usize];
        if *in_a_row >= INTERRUPTIONS {
            return None;
        }
        *in_a_row += 1;
        // What the kernel means for itself, and lets slip at times.
        Some([libc::EINTR, libc::ECANCELED, RESTART][self.tape.choose(Lane::Fault, 3) as usize])
    }

    fn forget_interruptions(&mut self, op: &Op) {
        let file = op.file.and_then(|file| self.files.table.get_mut(file));
        if let (Some(interest), Some(file)) = (op.description.interrupted, file) {
            file.interrupted[interest as usize] = 0;
        }
    }

    /// Its last result is known.
    pub(super) fn end(&mut self, op: &mut Op, result: i32) {
        op.stage = Stage::Ended;
        let completion = Completion { token: op.token, result, more: false, buffer: None };
        self.post(op, completion, false);
    }

    /// A completion is made. It becomes visible at once, or later: that is up to the tape, unless it
    /// must be late. Those of one operation keep their order.
    pub(super) fn post(&mut self, op: &mut Op, completion: Completion, late: bool) {
        // What was refused has not used the memory, and comes without a second word.
        let used = completion.result >= 0 || completion.result == -libc::ECANCELED;
        if op.request.answers_early() && used {
            self.post_one(op, Completion { more: true, ..completion }, late);
            return self.post_one(op, Completion { result: 0, ..completion }, false);
        }
        self.post_one(op, completion, late);
    }

    fn post_one(&mut self, op: &mut Op, completion: Completion, late: bool) {
        if completion.buffer.is_some() && self.fills_incrementally(op) {
            return self.show(op.ring, completion);
        }
        let delayed = late || self.happens(Lane::Delay, self.faults.delay);
        if delayed || op.posts > 0 {
            let mut due = self.now();
            if delayed {
                due += self.short_time(Lane::Delay);
            }
            op.due = op.due.max(due);
            op.posts += 1;
            self.schedule(op.due, Happening::Post(op.ring, completion));
        } else if self.happens(Lane::Order, self.faults.reorder) {
            op.posts += 1;
            if let Some(ring) = self.rings.get_mut(op.ring) {
                ring.work.push_back(Work::Post(completion));
            }
        } else {
            self.show(op.ring, completion);
        }
    }

    pub(super) fn show(&mut self, ring: Key<RingState>, completion: Completion) {
        let Completion { token, result, more, .. } = completion;
        let deed = if more { Deed::Result } else { Deed::Complete };
        self.record(deed, "", token.bits(), result.into());
        if let Some(ring) = self.rings.get_mut(ring) {
            ring.visible.push_back(completion);
        }
    }

    fn post_due(&mut self, ring: Key<RingState>, completion: Completion) {
        let found = self.rings.get(ring).and_then(|ring| ring.find(completion.token));
        self.show(ring, completion);
        // The answer to a cancel has no operation of its own.
        let Some(key) = found else { return };
        let Some(op) = self.ops.get_mut(key) else { return };
        op.posts -= 1;
        if op.stage == Stage::Ended {
            let op = *op;
            self.settle(op, Some(key));
        }
    }

    /// Puts an operation where it belongs after something was done about it. `key`: where it is, if
    /// it had to wait before.
    pub(super) fn settle(&mut self, op: Op, key: Option<Key<Op>>) {
        if op.stage == Stage::Ended && op.posts == 0 {
            if let Some(key) = key {
                self.ops.remove(key);
                if let Some(ring) = self.rings.get_mut(op.ring) {
                    ring.tokens.remove(&op.token.bits());
                }
            }
            return self.let_go(&op);
        }
        let key = match key {
            Some(key) => {
                if let Some(place) = self.ops.get_mut(key) {
                    *place = op;
                }
                key
            }
            None => {
                let key = self.ops.insert(op);
                if let Some(ring) = self.rings.get_mut(op.ring) {
                    ring.tokens.insert(op.token.bits(), key);
                }
                key
            }
        };
        let Some(ring) = self.rings.get_mut(op.ring) else { return };
        match (op.stage, op.file) {
            (Stage::Armed(interest), Some(file)) => self.wait_for(file, interest, key),
            (Stage::Queued(time), _) => self.schedule(self.now() + time, Happening::Work(key)),
            (Stage::Woken, _) => ring.work.push_back(Work::Retry(key)),
            (Stage::Armed(_) | Stage::Ended, _) => {}
        }
    }

    /// The terminal completion is visible: the last moment at which the memory is the kernel's.
    fn let_go(&mut self, op: &Op) {
        self.completed += 1;
        if let Some(region) = written(&op.request) {
            memory::rewrite(region);
        }
        if let Some(region) = read_from(&op.request) {
            if memory::fingerprint(region) != op.fingerprint {
                let name = op.description.name;
                self.violation(format!("the buffer of a {name} changed while the kernel had it"));
            }
        }
        if let Some(file) = op.file {
            self.release_file(file);
        }
    }

    /// Writes nonsense into something that the kernel may write.
    fn scribble(&mut self, key: Key<RingState>) {
        if !self.happens(Lane::Fault, self.faults.scribble) {
            return;
        }
        let byte = self.tape.choose(Lane::Fault, 256);
        let Some(ring) = self.rings.get(key) else { return };
        let waiting = |op: &Op| op.ring == key && op.stage != Stage::Ended;
        let operations = self.ops.iter().filter(|(_, op)| waiting(op));
        let which = byte as usize % SHUFFLED;
        let found =
            operations.filter_map(|(_, op)| Some((op.token, written(&op.request)?))).nth(which);
        if let Some(region) = ring.groups.iter().find_map(|group| group.published_at(which)) {
            memory::scribble(region, byte as u8);
        }
        if let Some((token, region)) = found {
            memory::scribble(region, byte as u8);
            self.record(Deed::Scribble, "", token.bits(), byte.into());
        }
    }

    /// The ring is closed. Linux would go on with what is in flight for a while; nothing of that may be
    /// relied on, and nothing may be in flight.
    pub(super) fn close_ring(&mut self, key: Key<RingState>) {
        let Some(ring) = self.rings.remove(key) else { return };
        let left = ring.in_flight();
        if left > 0 {
            self.violation(format!("a ring was closed with {left} operations in flight"));
        }
        self.locked_memory -= ring.locked_memory();
        let mut ops: Vec<Key<Op>> = ring.tokens.into_values().collect();
        ops.sort_by_key(|key| key.to_bits());
        for key in ops {
            let Some(op) = self.ops.remove(key) else { continue };
            let Some(file) = op.file else { continue };
            if let Stage::Armed(interest) = op.stage {
                self.stop_waiting(file, interest, key);
            }
            self.release_file(file);
        }
    }
}

/// Tokens are made by counting, so that one multiplication spreads them well enough.
#[derive(Default)]
struct TokenHasher(u64);

impl Hasher for TokenHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0 ^ word ^ word >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}
