//! What a cancel finds, and what becomes of its target.
//!
//! The target is found by its token. One that waits for its file is stopped: the cancel says nothing
//! and the target ends with `-ECANCELED`, or with what was transferred. One that has ended is missed.
//! With faults everything else happens that Linux was seen to do; but no byte is lost by it, and no
//! connection, and nothing waits for ever.

use crate::slots::Key;

use super::super::{Completion, Token};
use super::journal::Deed;
use super::machine::Machine;
use super::operations::{Class, Op, Stage};
use super::queue::{RingState, Work};
use super::tape::Lane;

/// What may happen besides a plain hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// It completes a moment before, if it can: the cancel answers "no such operation".
    JustCompleted,
    /// The kernel is between two attempts: the cancel does not find it, and it goes on waiting.
    NotFound,
    /// It is interrupted.
    Interrupted,
    /// It runs in a worker, which is interrupted: the kernel's own error slips out.
    WorkerInterrupted,
    /// It runs in a worker, and succeeds a little later if it can.
    WorkerSucceeds,
    /// A hit, but the target's completion comes later.
    Late,
    /// It runs in a worker, which does not notice that it was interrupted, and goes on waiting.
    WorkerUnmoved,
}

const ODD: [Outcome; 7] = [
    Outcome::JustCompleted,
    Outcome::NotFound,
    Outcome::Interrupted,
    Outcome::WorkerInterrupted,
    Outcome::WorkerSucceeds,
    Outcome::Late,
    Outcome::WorkerUnmoved,
];

/// Cancels in a row that may miss an operation which goes on waiting.
const MISSES: u8 = 3;

/// `ERESTARTSYS`, which is no error number for programs, but was seen.
pub(super) const RESTART: i32 = 512;

impl Machine {
    /// Carries a cancel request out.
    pub(super) fn cancel(&mut self, ring: Key<RingState>, token: Token) {
        let found = self.rings.get(ring).and_then(|ring| ring.find(token));
        let Some(key) = found else { return self.miss(ring, token, libc::ENOENT) };
        let Some(&op) = self.ops.get(key) else { return };
        let odd = self.happens(Lane::Cancel, self.faults.cancel_odd);
        if op.stage == Stage::Ended {
            return self.miss_ended(&op, odd);
        }
        debug_assert_ne!(op.description.class, Class::Immediate, "nothing else waits");
        if odd {
            let which = self.tape.choose(Lane::Cancel, ODD.len() as u32) as usize;
            self.cancel_oddly(key, op, ODD[which]);
        } else {
            self.hit(key, op, libc::ECANCELED, false);
        }
    }

    /// The target has completed, but nobody knows yet. Its completion does not wait any longer: the
    /// runtime asks again until it is there.
    fn miss_ended(&mut self, op: &Op, odd: bool) {
        let first = odd && self.tape.choose(Lane::Cancel, 2) == 1;
        if first {
            self.miss(op.ring, op.token, libc::ENOENT);
        }
        self.hurry(op.ring, op.token);
        if !first {
            self.miss_later(op.ring, op.token, libc::ENOENT);
        }
    }

    fn cancel_oddly(&mut self, key: Key<Op>, op: Op, outcome: Outcome) {
        let (ring, token) = (op.ring, op.token);
        match outcome {
            Outcome::NotFound | Outcome::WorkerUnmoved if op.missed < MISSES => {
                if let Some(op) = self.ops.get_mut(key) {
                    op.missed += 1;
                }
                let errno = match outcome {
                    Outcome::NotFound => libc::ENOENT,
                    _ => libc::EALREADY,
                };
                self.miss(ring, token, errno);
            }
            Outcome::JustCompleted | Outcome::WorkerSucceeds => {
                let errno = match outcome {
                    Outcome::JustCompleted => libc::ENOENT,
                    _ => libc::EALREADY,
                };
                let first = self.tape.choose(Lane::Cancel, 2) == 1;
                self.complete_first(key, op, errno, first);
            }
            Outcome::Interrupted => self.hit(key, op, libc::EINTR, false),
            Outcome::WorkerInterrupted => {
                self.miss(ring, token, libc::EALREADY);
                self.hit(key, op, RESTART, true);
            }
            Outcome::Late => self.hit(key, op, libc::ECANCELED, true),
            Outcome::NotFound | Outcome::WorkerUnmoved => {
                self.hit(key, op, libc::ECANCELED, false);
            }
        }
    }

    /// Lets the target do what it can. If that ends it the cancel misses, and says so before it or after
    /// it.
    fn complete_first(&mut self, key: Key<Op>, op: Op, errno: i32, first: bool) {
        let (ring, token) = (op.ring, op.token);
        let mut op = op;
        self.disarm(key, &op);
        let before = self.rings.get(ring).map_or(0, |ring| ring.visible.len());
        self.drive(&mut op);
        if op.stage != Stage::Ended {
            // A multishot may have brought results; a send may have sent a part. Then it is hit.
            let result = op.stopped(libc::ECANCELED);
            self.end(&mut op, result);
            return self.settle(op, Some(key));
        }
        match self.rings.get_mut(ring) {
            Some(ring) if first => {
                ring.visible.insert(before, answer(token, errno));
                self.record(Deed::Cancel, "", token.bits(), -i64::from(errno));
            }
            _ => self.miss_later(ring, token, errno),
        }
        self.settle(op, Some(key));
    }

    /// The target ends; the cancel says nothing, since it was asked to be silent when it hits.
    fn hit(&mut self, key: Key<Op>, op: Op, errno: i32, late: bool) {
        let mut op = op;
        self.record(Deed::Cancel, "", op.token.bits(), 0);
        self.disarm(key, &op);
        op.stage = Stage::Ended;
        let result = op.stopped(errno);
        let completion = Completion { token: op.token, result, more: false, buffer: None };
        self.post(&mut op, completion, late);
        self.settle(op, Some(key));
    }

    fn disarm(&mut self, key: Key<Op>, op: &Op) {
        if let (Stage::Armed(interest), Some(file)) = (op.stage, op.file) {
            self.stop_waiting(file, interest, key);
        }
    }

    /// The cancel has found nothing that it could stop.
    fn miss(&mut self, ring: Key<RingState>, token: Token, errno: i32) {
        self.record(Deed::Cancel, "", token.bits(), -i64::from(errno));
        self.show(ring, answer(token, errno));
    }

    /// The same, told after what is about to be told.
    fn miss_later(&mut self, ring: Key<RingState>, token: Token, errno: i32) {
        self.record(Deed::Cancel, "", token.bits(), -i64::from(errno));
        if let Some(ring) = self.rings.get_mut(ring) {
            ring.work.push_back(Work::Post(answer(token, errno)));
        }
    }
}

fn answer(token: Token, errno: i32) -> Completion {
    Completion { token: token.for_cancel(), result: -errno, more: false, buffer: None }
}
