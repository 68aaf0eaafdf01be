//! The table beside a naive twin, with a fake kernel between the two, in random programs.
//!
//! The fake kernel really reads and writes the memory that it is lent, up to the terminal completion
//! and not after it, so that Miri sees what a kernel would do.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::mem;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::{Rc, Weak};

use super::*;
use crate::op::{Home, IoBuf, IoBufMut, Pool, PoolLimits, Shelf};
use crate::random::Random;
use crate::ring::{Host, Region};

const PROGRAMS: u64 = if cfg!(miri) { 3 } else { 300 };
const STEPS: usize = if cfg!(miri) { 100 } else { 500 };
/// Operations at a time: enough for long queues.
const MOST: usize = 20;

#[test]
fn the_table_agrees_with_its_twin_after_every_step_of_random_programs() {
    for seed in 0..PROGRAMS {
        let mut pair = Pair::new(seed);
        for step in 0..STEPS {
            pair.story = format!("seed {seed}, step {step}");
            pair.act();
            pair.compare();
        }
        pair.story = format!("seed {seed}, at the end");
        pair.finish();
    }
}

// The twin: what happened to each operation, in the words of module `op`'s table.

struct Twin {
    key: Key<Slot>,
    kind: &'static Kind,
    waiter: u64,
    is_orphan: bool,
    place: Place,
    /// Results that nobody has taken, oldest first.
    unread: VecDeque<Expected>,
    /// Whether it answers early, and whether it has.
    early: Option<bool>,
    /// Whether a request to cancel it has not found it.
    is_missed: bool,
    /// Its number in [`Closed`].
    fd: Option<RawFd>,
    /// One share is the twin's, the other is in the storage.
    share: Option<Rc<()>>,
    /// What the storage holds, and will give back.
    content: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Queued,
    Kernel(Asked),
    Ended,
    /// The slot is free.
    Gone,
}

/// How far a request to cancel is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    No,
    Queued,
    Sent,
}

struct Expected {
    result: i32,
    more: bool,
    /// The other end of the descriptor that came.
    peer: Option<File>,
}

/// A multishot that is paused early.
static EAGER: Kind = Kind { unread: 3, ..Kind::ACCEPT };

// What the slots hold.

/// A buffer of which it is known whether it lives.
struct Counted {
    bytes: Vec<u8>,
    _share: Rc<()>,
}

// SAFETY: the bytes are on the heap and owned by the vector alone.
unsafe impl IoBuf for Counted {
    fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: as above; `set_len` is the vector's own.
unsafe impl IoBufMut for Counted {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    unsafe fn set_len(&mut self, len: usize) {
        // SAFETY: the caller promises the same.
        unsafe { self.bytes.set_len(len) };
    }
}

/// Descriptors that nobody has a share in any more. Their numbers are made up; none is the system's.
#[derive(Default)]
struct Closed(RefCell<BTreeSet<RawFd>>);

impl Home for Closed {
    fn close(&self, fd: Sole) -> Result<(), Sole> {
        assert!(self.0.borrow_mut().insert(fd.raw), "{fd:?} is closed a second time");
        Ok(())
    }
}

// The fake kernel.

#[derive(Default)]
struct Kernel {
    /// What it has, by token, as a real one would know it.
    requests: BTreeMap<(u32, u32), Request>,
    /// In the order in which they came.
    pushed: Vec<Token>,
    cancels: Vec<Token>,
}

fn name(token: Token) -> (u32, u32) {
    (token.index(), token.generation())
}

// The table, the twin and the kernel together.

struct Pair {
    random: Random,
    story: String,
    table: Table,
    /// All that ever were.
    twins: Vec<Twin>,
    /// Places in `twins`, in order.
    queue: Vec<usize>,
    cancels: Vec<usize>,
    now: Duration,
    /// Whom to ask again, and when.
    reminders: Vec<(Duration, usize)>,
    kernel: Kernel,
    closed: Rc<Closed>,
    counts: (u64, u64),
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let limits = PoolLimits { buffer: 4096, least: 1, most: 1 };
        Pair {
            random: Random(seed),
            story: String::new(),
            table: Table::new(Pools::new(Pool::new(None, limits)), Host::LINUX),
            twins: Vec::new(),
            queue: Vec::new(),
            cancels: Vec::new(),
            now: Duration::ZERO,
            reminders: Vec::new(),
            kernel: Kernel::default(),
            closed: Rc::default(),
            counts: (0, 0),
        }
    }

    fn act(&mut self) {
        let living = self.twins.iter().filter(|twin| twin.place != Place::Gone).count();
        self.now += Duration::from_millis(self.random.below(4) as u64);
        match self.random.below(17) {
            0..=2 if living < MOST => self.submit(),
            0..=4 => {
                let room = self.random.below(5);
                self.pump(room);
            }
            5..=7 => self.complete_one(),
            8 => self.miss_one(),
            9 => self.complete_a_stranger(),
            16 => self.remind(),
            10 | 11 => {
                let op = self.any();
                self.cancel(op);
            }
            12 => {
                let op = self.any();
                self.orphan(op);
            }
            _ => {
                let op = self.any();
                // Only a single receive is taken for its bytes.
                if self.twins.get(op).is_some_and(|twin| twin.kind == &Kind::READ)
                    && self.random.one_in(2)
                {
                    self.take_bytes(op);
                } else {
                    self.take(op);
                }
            }
        }
    }

    /// Mostly an operation that lives.
    fn any(&mut self) -> usize {
        let twins = self.twins.iter().enumerate();
        let living: Vec<_> =
            twins.filter(|(_, twin)| twin.place != Place::Gone).map(|(op, _)| op).collect();
        if living.is_empty() || self.random.one_in(12) {
            return self.random.below(self.twins.len() + 1);
        }
        living[self.random.below(living.len())]
    }

    fn submit(&mut self) {
        let op = self.twins.len();
        let number = 1000 + op as RawFd;
        let home = Rc::downgrade(&self.closed);
        // SAFETY: the number is only stored, and given back to `Closed`, which forgets it.
        let fd = Fd::new(unsafe { OwnedFd::from_raw_fd(number) }.into(), home as Weak<dyn Home>);
        let share = Rc::new(());
        let mut content = self.bytes();
        let mut bytes = Vec::with_capacity(content.len() + 1 + self.random.below(8));
        let kind = match self.random.below(7) {
            // It may have to end its connection, which Miri cannot.
            5 if cfg!(miri) => 6,
            kind => kind,
        };
        let submission = match kind {
            0 => Submission::nop(),
            1 => Submission { kind: &EAGER, ..Submission::accept(&fd, true) },
            2 => Submission::shutdown(&fd, std::net::Shutdown::Write),
            3 => Submission::close(Sole { raw: number, lingers: false }),
            4 => {
                let mut storage = Storage::to_fill(
                    Counted { bytes, _share: Rc::clone(&share) },
                    &Shelf::default(),
                );
                assert_eq!(storage.append(&content), content.len());
                Submission::recv(&fd, storage)
            }
            _ => {
                bytes.extend_from_slice(&content);
                let done = self.random.below(content.len() + 1);
                let storage = Storage::to_send(
                    Counted { bytes, _share: Rc::clone(&share) },
                    &Shelf::default(),
                );
                // What comes back is asked for as a whole.
                content = content.split_off(done);
                match kind {
                    5 => Submission::send_zero_copy(&fd, storage, done),
                    _ => Submission::send(&fd, storage, done, true),
                }
            }
        };
        let (has_fd, has_share) = (submission.fd.is_some(), submission.storage.is_some());
        let twin = Twin {
            key: Key::new(0, std::num::NonZeroU32::MIN),
            kind: submission.kind,
            waiter: 1 + op as u64,
            is_orphan: kind == 3,
            place: Place::Queued,
            unread: VecDeque::new(),
            early: (kind == 5).then_some(false),
            is_missed: false,
            fd: has_fd.then_some(number),
            share: has_share.then_some(share),
            content,
        };
        // A scope's own close is nobody's from the start.
        let key = if twin.is_orphan {
            self.table.submit_orphan(submission, Duration::ZERO, |_| twin.waiter)
        } else {
            self.table.submit(|| submission, Duration::ZERO, |_| twin.waiter)
        };
        let is_new = self.twins.iter().all(|other| other.key != key);
        assert!(is_new, "{}: {key:?} was the name of another operation", self.story);
        self.twins.push(Twin { key, ..twin });
        self.queue.push(op);
        // The slot has the only share from now on.
        drop(fd);
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.random.below(8)).map(|_| self.random.below(256) as u8).collect()
    }

    /// Whatever there is room for goes to the kernel: requests in their order, then cancels in
    /// theirs, and none of them is lost when the queue is full.
    fn pump(&mut self, room: usize) {
        let Pair { table, kernel, .. } = self;
        let before = kernel.pushed.len();
        let mut left = room;
        let all = table.pump(|pushed| {
            if left == 0 {
                return false;
            }
            left -= 1;
            match pushed {
                Pushed::Request(token, request) => {
                    assert!(kernel.cancels.is_empty(), "a cancel overtook a request");
                    let former = kernel.requests.insert(name(token), *request);
                    assert!(former.is_none(), "{token:?} is pushed while it is in the kernel");
                    kernel.pushed.push(token);
                }
                Pushed::Cancel(token) => {
                    assert!(kernel.requests.contains_key(&name(token)), "{token:?} is a stranger");
                    kernel.cancels.push(token);
                }
            }
            true
        });
        let requests = room.min(self.queue.len());
        let cancels = (room - requests).min(self.cancels.len());
        assert_eq!(all, requests == self.queue.len() && cancels == self.cancels.len());
        let expected: Vec<_> = self.queue.drain(..requests).collect();
        let pushed: Vec<_> = kernel.pushed.drain(before..).map(name).collect();
        assert_eq!(pushed, names(&self.twins, &expected), "{}: requests pushed", self.story);
        expected.iter().for_each(|&op| self.twins[op].place = Place::Kernel(Asked::No));
        self.counts.0 += requests as u64;
        let expected: Vec<_> = self.cancels.drain(..cancels).collect();
        let pushed: Vec<_> = kernel.cancels.drain(..).map(name).collect();
        assert_eq!(pushed, names(&self.twins, &expected), "{}: cancels pushed", self.story);
        expected.iter().for_each(|&op| self.twins[op].place = Place::Kernel(Asked::Sent));
    }

    fn in_kernel(&self) -> Vec<usize> {
        let in_kernel = |&op: &usize| matches!(self.twins[op].place, Place::Kernel(_));
        (0..self.twins.len()).filter(in_kernel).collect()
    }

    fn complete_one(&mut self) {
        let candidates = self.in_kernel();
        if candidates.is_empty() {
            return;
        }
        let op = candidates[self.random.below(candidates.len())];
        let more = match self.twins[op].early {
            Some(answered) => !answered && self.random.below(3) > 0,
            None => self.twins[op].kind == &EAGER && self.random.below(3) > 0,
        };
        self.complete(op, more);
    }

    fn complete(&mut self, op: usize, more: bool) {
        let token = token(self.twins[op].key);
        let request = self.kernel.requests[&name(token)];
        let (result, peer) = self.work(op, request);
        if !more {
            self.kernel.requests.remove(&name(token));
        }
        let expected = Expected { result, more, peer };
        let action = self.table.complete(Completion { token, result, more, buffer: None });
        let twin = &mut self.twins[op];
        twin.early = twin.early.map(|answered| answered || more);
        if !more {
            if twin.place == Place::Kernel(Asked::Queued) {
                self.cancels.retain(|&other| other != op);
            }
            twin.place = Place::Ended;
        }
        match (twin.is_orphan, more) {
            // D7: what came for nobody is disposed of at once.
            (true, true) => assert!(self.is_nothing(action) && expected.is_disposed()),
            (true, false) => {
                self.freed(op, action);
                assert!(expected.is_disposed(), "{}: a leaked descriptor", self.story);
            }
            // It has answered, and keeps its memory.
            (false, true) if twin.early.is_some() => {
                twin.unread.push_back(expected);
                assert!(self.is_nothing(action));
            }
            (false, _) => {
                match twin.unread.back_mut() {
                    // The last word is not the result.
                    Some(told) if twin.early == Some(true) => told.more = false,
                    _ => twin.unread.push_back(expected),
                }
                let pauses = twin.unread.len() >= twin.kind.unread;
                if pauses && twin.place == Place::Kernel(Asked::No) {
                    twin.place = Place::Kernel(Asked::Queued);
                    self.cancels.push(op);
                }
                self.woken(op, action, !more);
            }
        }
    }

    /// What the kernel does with the memory that it has; the result, and the other end of a
    /// descriptor in it.
    fn work(&mut self, op: usize, request: Request) -> (i32, Option<File>) {
        let fails = self.random.one_in(4);
        let twin = &mut self.twins[op];
        match request {
            _ if fails => (-libc::ECANCELED, None),
            Request::Accept { .. } => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                // A file, because Miri knows no `send`.
                (theirs.into_raw_fd(), Some(OwnedFd::from(ours).into()))
            }
            Request::Recv { into, .. } => {
                let count = self.random.below(into.len() as usize + 1);
                let fresh: Vec<u8> = (0..count).map(|n| (op + n) as u8).collect();
                // SAFETY: within the region, which is lent until the terminal completion.
                unsafe { into.address().copy_from_nonoverlapping(fresh.as_ptr(), count) };
                twin.content.extend(fresh);
                (count as i32, None)
            }
            Request::Send { from, .. } | Request::SendZeroCopy { from, .. } => {
                assert_eq!(read(from), twin.content, "{}: what is sent", self.story);
                (from.len() as i32, None)
            }
            _ => (0, None),
        }
    }

    /// The kernel says that it has not found what it was to cancel, or that it is at work, also long after
    /// that has ended.
    fn miss_one(&mut self) {
        let op = self.any();
        let Some(twin) = self.twins.get_mut(op) else { return };
        let token = token(twin.key);
        let token = Token::new(TokenKind::Cancel, token.index(), token.generation());
        if twin.place == Place::Queued {
            return; // The kernel was not asked.
        }
        let is_at_work = self.random.one_in(2);
        let result = -if is_at_work { libc::EALREADY } else { libc::ENOENT };
        // What has answered only keeps its memory: there is nothing to cancel.
        if twin.place != Place::Gone && twin.early != Some(true) {
            if is_at_work || mem::replace(&mut twin.is_missed, true) {
                self.reminders.push((self.now + Duration::from_millis(10), op));
            } else if twin.place == Place::Kernel(Asked::Sent) {
                twin.place = Place::Kernel(Asked::Queued);
                self.cancels.push(op);
            }
        }
        let action = self.table.missed(token, result, self.now);
        assert!(self.is_nothing(action));
    }

    /// The time of some has come.
    fn remind(&mut self) {
        self.table.remind(self.now);
        for (at, op) in mem::take(&mut self.reminders) {
            let twin = &mut self.twins[op];
            if at > self.now {
                self.reminders.push((at, op));
            } else if twin.place == Place::Kernel(Asked::Sent) {
                twin.place = Place::Kernel(Asked::Queued);
                self.cancels.push(op);
            }
        }
        let waits = |&&(_, op): &&(_, usize)| matches!(self.twins[op].place, Place::Kernel(_));
        let next = self.reminders.iter().find(waits).map(|&(at, _)| at);
        assert_eq!(self.table.next_reminder(), next, "{}: reminders", self.story);
    }

    /// A token of a former life, or of none, changes nothing.
    fn complete_a_stranger(&mut self) {
        let gone = |twin: &&Twin| twin.place == Place::Gone;
        let last = self.twins.iter().rev().find(gone).map(|twin| token(twin.key));
        let never = Token::new(TokenKind::Operation, 1 << 20, 1);
        let token = last.filter(|_| self.random.below(4) > 0).unwrap_or(never);
        for more in [true, false] {
            let action = self.table.complete(Completion { token, result: 3, more, buffer: None });
            assert!(self.is_nothing(action));
        }
    }

    fn cancel(&mut self, op: usize) {
        let Some(key) = self.key(op) else { return };
        let action = self.table.cancel(key);
        self.end(op, action, false);
    }

    fn orphan(&mut self, op: usize) {
        let Some(key) = self.key(op) else { return };
        let action = self.table.orphan(key);
        let twin = &mut self.twins[op];
        if twin.place == Place::Gone || twin.is_orphan {
            assert!(self.is_nothing(action));
            return;
        }
        twin.is_orphan = true;
        let disposed = twin.unread.drain(..).all(|expected| expected.is_disposed());
        assert!(disposed, "{}: a leaked descriptor", self.story);
        if twin.place == Place::Ended {
            self.freed(op, action);
        } else {
            self.end(op, action, true);
        }
    }

    /// D5, D6: withdrawn where the kernel has not seen it, else asked once; and only what may be.
    fn end(&mut self, op: usize, action: Action, dropped: bool) {
        let twin = &mut self.twins[op];
        match twin.place {
            Place::Queued if twin.kind.cancellable => {
                self.queue.retain(|&other| other != op);
                self.counts.1 += 1;
                twin.place = Place::Ended;
                if dropped {
                    return self.freed(op, action);
                }
                let result = -libc::ECANCELED;
                twin.unread.push_back(Expected { result, more: false, peer: None });
                self.woken(op, action, true);
            }
            Place::Kernel(Asked::No) if twin.kind.cancellable => {
                twin.place = Place::Kernel(Asked::Queued);
                self.cancels.push(op);
                assert!(self.is_nothing(action));
            }
            _ => assert!(self.is_nothing(action)),
        }
    }

    fn take(&mut self, op: usize) {
        let Some(key) = self.key(op) else { return };
        if self.twins[op].kind.disposer == Disposer::CloseDescriptor {
            return self.take_descriptor(op, key);
        }
        if self.twins[op].early.is_some() && self.random.one_in(3) {
            return self.take_nothing(op, key);
        }
        let taken = self.table.take(key);
        let twin = &mut self.twins[op];
        let Some(expected) = twin.take_last() else {
            return assert!(taken.is_none(), "{}: a result from nowhere", self.story);
        };
        let Finished { result, storage, .. } =
            taken.unwrap_or_else(|| panic!("{}: a lost result", self.story));
        assert_eq!((result, false), (expected.result, expected.more), "{}: the result", self.story);
        assert_eq!(storage.is_some(), twin.share.is_some(), "{}: storage", self.story);
        if let Some(storage) = storage {
            // A receive has filled it, a send has left it as it was.
            let bytes = match twin.kind == &Kind::READ {
                true => storage.into_filled::<Counted>(&Shelf::default()).bytes,
                false => storage.into_inner::<Counted>(&Shelf::default()).bytes,
            };
            assert!(bytes.ends_with(&twin.content), "{}: the content", self.story);
        }
        self.gone(op);
    }

    /// Takes what it has answered early as well, and drops the memory with the last word.
    fn take_nothing(&mut self, op: usize, key: Key<Slot>) {
        let taken = self.table.take_nothing(key);
        let Some(expected) = self.twins[op].unread.pop_front() else {
            return assert!(taken.is_none(), "{}: a result from nowhere", self.story);
        };
        let Taken { result, value, more } = taken.expect("there is one");
        assert_eq!((result, more), (expected.result, expected.more), "{}", self.story);
        assert_eq!(value.is_some(), !more, "{}: storage", self.story);
        drop(value);
        if !more {
            self.gone(op);
        }
    }

    /// Takes a descriptor, or takes it in order to dispose of it: it is closed either way.
    fn take_descriptor(&mut self, op: usize, key: Key<Slot>) {
        let for_nobody = self.random.one_in(3);
        let twin = &mut self.twins[op];
        let Some(Expected { result, more, peer }) = twin.unread.pop_front() else {
            let nothing = self.table.take_nothing(key).is_none();
            return assert!(nothing, "{}: a result from nowhere", self.story);
        };
        assert!(peer.as_ref().is_none_or(is_open), "{}: it was closed", self.story);
        if for_nobody {
            let taken = self.table.take_nothing(key).expect("there is one");
            assert_eq!((taken.result, taken.more), (result, more), "{}: the result", self.story);
        } else {
            let taken = self.table.take_descriptor(key);
            let taken = taken.unwrap_or_else(|| panic!("{}: a lost result", self.story));
            assert_eq!((taken.result, taken.more), (result, more), "{}: the result", self.story);
            assert_eq!(taken.value.is_some(), peer.is_some(), "{}: descriptor", self.story);
            assert!(peer.as_ref().is_none_or(is_open), "{}: it was closed", self.story);
        }
        assert!(peer.as_ref().is_none_or(|peer| !is_open(peer)), "{}: it leaks", self.story);
        if !more {
            self.gone(op);
        }
    }

    fn take_bytes(&mut self, op: usize) {
        let Some(key) = self.key(op) else { return };
        let taken = self.table.take_bytes(key);
        let twin = &mut self.twins[op];
        let Some(expected) = twin.unread.pop_front() else {
            return assert!(taken.is_none(), "{}: a result from nowhere", self.story);
        };
        let (result, bytes, remains) = taken.unwrap();
        assert_eq!((result, &bytes), (expected.result, &twin.content), "{}: bytes", self.story);
        drop(remains);
        self.gone(op);
    }

    fn key(&self, op: usize) -> Option<Key<Slot>> {
        self.twins.get(op).map(|twin| twin.key)
    }

    fn is_nothing(&self, action: Action) -> bool {
        matches!(action, Action::Nothing)
    }

    fn woken(&self, op: usize, action: Action, expected_last: bool) {
        let Action::Wake { waiter, last } = action else {
            panic!("{}: nobody is woken", self.story);
        };
        assert_eq!((waiter, last), (self.twins[op].waiter, expected_last), "{}", self.story);
    }

    /// What the slot had comes out with the action, and lives until that is dropped.
    fn freed(&mut self, op: usize, action: Action) {
        let Action::Freed { waiter, remains } = action else {
            panic!("{}: the slot leaks", self.story);
        };
        let twin = &self.twins[op];
        assert_eq!(waiter, twin.waiter, "{}: whose it was", self.story);
        let (fd, share) = (twin.fd, twin.share.as_ref());
        assert_eq!(remains.is_empty(), fd.is_none() && share.is_none(), "{}", self.story);
        assert!(share.is_none_or(|share| Rc::strong_count(share) == 2), "{}", self.story);
        assert!(fd.is_none_or(|fd| !self.closed.0.borrow().contains(&fd)), "{}", self.story);
        drop(remains);
        self.gone(op);
    }

    fn gone(&mut self, op: usize) {
        let twin = &mut self.twins[op];
        assert_ne!(twin.place, Place::Gone, "{}: freed a second time", self.story);
        twin.place = Place::Gone;
    }

    fn compare(&self) {
        let Pair { table, twins, story, .. } = self;
        for twin in twins {
            let Twin { key, place, .. } = *twin;
            let is_gone = place == Place::Gone;
            let slot = table.get(key);
            assert_eq!(slot.is_none(), is_gone, "{story}: {key:?} is {place:?}");
            // D5: memory and descriptor live exactly as long as the slot.
            let alive = twin.share.as_ref().map(|share| Rc::strong_count(share) == 2);
            assert!(alive.is_none_or(|alive| alive != is_gone), "{story}: memory of {key:?}");
            let closed = twin.fd.map(|fd| self.closed.0.borrow().contains(&fd));
            assert!(closed.is_none_or(|closed| closed == is_gone), "{story}: fd of {key:?}");
            let Some(slot) = slot else { continue };
            assert_eq!(slot.unread(), twin.unread.len(), "{story}: unread of {key:?}");
            let asked = matches!(place, Place::Kernel(Asked::Queued | Asked::Sent));
            assert_eq!(slot.is_asked_to_cancel(), asked, "{story}: {key:?}");
            assert_eq!(slot.fd(), twin.shown_fd(), "{story}: {key:?}");
        }
        assert_eq!(table.in_kernel(), self.in_kernel().len(), "{story}: in the kernel");
        assert_eq!(table.queued(), self.queue.len(), "{story}: queued");
        assert_eq!(table.counts(), self.counts, "{story}: submitted and withdrawn");
        let has_queued = !self.queue.is_empty() || !self.cancels.is_empty();
        assert_eq!(table.has_queued(), has_queued, "{story}: something to push");
        let queues = [
            (&table.queue, Phase::Queued, &self.queue),
            (&table.cancels, Phase::CancelQueued, &self.cancels),
        ];
        for (queue, phase, twin) in queues {
            assert_eq!(meant(table, queue, phase), names(twins, twin), "{story}: {phase:?}");
            assert_eq!(queue.len, twin.len(), "{story}: the length of a queue");
        }
    }

    /// Everything is pushed, completed and taken or dropped; nothing is left.
    fn finish(&mut self) {
        self.pump(2 * MOST);
        for op in self.in_kernel() {
            self.complete(op, false);
            self.compare();
        }
        for op in 0..self.twins.len() {
            if self.random.one_in(2) {
                self.orphan(op);
            }
            while !self.twins[op].unread.is_empty() {
                self.take(op);
            }
            self.compare();
        }
        assert_eq!(self.table.iter().count(), 0, "{}: slots leak", self.story);
    }
}

impl Twin {
    /// The oldest result, unless it was answered early.
    fn take_last(&mut self) -> Option<Expected> {
        self.unread
            .front()
            .is_some_and(|expected| !expected.more)
            .then(|| self.unread.pop_front())?
    }

    fn shown_fd(&self) -> Option<RawFd> {
        // A close has no share in its descriptor, which is the last one's.
        let closes = (self.kind == &Kind::CLOSE).then_some(999 + self.waiter as RawFd);
        self.fd.or(closes)
    }
}

impl Expected {
    fn is_disposed(&self) -> bool {
        self.peer.as_ref().is_none_or(|peer| !is_open(peer))
    }
}

/// Whether somebody has the other end.
fn is_open(mut stream: &File) -> bool {
    stream.write(&[0]).is_ok()
}

fn read(region: Region) -> Vec<u8> {
    // SAFETY: lent to the kernel, which reads it before the terminal completion.
    unsafe { std::slice::from_raw_parts(region.address(), region.len() as usize) }.to_vec()
}

fn names(twins: &[Twin], ops: &[usize]) -> Vec<(u32, u32)> {
    ops.iter().map(|&op| name(token(twins[op].key))).collect()
}

/// What a queue holds that is not to be passed over.
fn meant(table: &Table, queue: &Queue, phase: Phase) -> Vec<(u32, u32)> {
    let is_meant = |key: &Key<Slot>| table.get(*key).is_some_and(|slot| slot.state.phase == phase);
    queue.keys.iter().copied().filter(is_meant).map(|key| name(token(key))).collect()
}

/// Every operation in flight has a slot, also the receive of each idle connection.
#[test]
fn a_slot_is_small() {
    assert!(size_of::<Slot>() <= 96, "{} bytes", size_of::<Slot>());
}

#[test]
fn an_operation_ages_also_where_the_clock_comes_round() {
    const ROUND: u64 = (1 << (32 + TICK)) / 1_000_000;
    let limits = PoolLimits { buffer: 4096, least: 1, most: 1 };
    let pools = Pools::new(Pool::new(None, limits));
    for begin in [0, 17, ROUND - 5, 3 * ROUND - 1] {
        let mut table = Table::new(pools.clone(), Host::LINUX);
        let key = table.submit(Submission::nop, Duration::from_millis(begin), |_| 1);
        let age = table.get(key).expect("submitted").age(Duration::from_millis(begin + 1234));
        assert!(age.abs_diff(Duration::from_millis(1234)) < Duration::from_millis(3), "{age:?}");
    }
}
