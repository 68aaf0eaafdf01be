//! The pool of receive buffers, and the leases on them.
//!
//! A receive from the pool costs no buffer until data has come: the kernel takes one then, or, where it
//! can, the next part of one, so that little messages lie close together and large ones come in large
//! pieces. It takes the buffers in turn, so the whole pool goes through the cache; a small pool is a fast
//! pool. It starts small, grows when a receive found it empty, and shrinks when most of it is not used.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::ring::{Picked, Provided, Region};

/// The sizes of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Bytes of one buffer: a multiple of a page.
    pub(crate) buffer: u32,
    /// Buffers at the start, and what the pool never shrinks below. A power of two.
    pub(crate) least: u16,
    /// Buffers at most. A power of two, at most 32,768.
    pub(crate) most: u16,
}

// Measured with 64 B to 256 KiB on 64 to 8,000 connections (benches/peers, `--pools`).
impl PoolLimits {
    /// Where each buffer is for one receive: smaller ones cut messages, larger ones gain nothing but
    /// for the largest messages.
    pub(crate) const PLAIN: PoolLimits =
        PoolLimits { buffer: 16 << 10, least: if cfg!(miri) { 8 } else { 64 }, most: 4096 };
    /// Where they are filled piece by piece: as large as what one receive brings at most, mostly.
    pub(crate) const INCREMENTAL: PoolLimits =
        PoolLimits { buffer: if cfg!(miri) { 16 << 10 } else { 256 << 10 }, least: 4, most: 256 };
    /// Where each buffer is for one message: the largest that UDP can carry fits into one, with what the
    /// kernel puts before it. Of a small message only the first page is touched.
    pub(crate) const MESSAGES: PoolLimits =
        PoolLimits { buffer: 68 << 10, least: if cfg!(miri) { 2 } else { 16 }, most: 1024 };
}

/// The buffers of one run.
pub(crate) struct Pool {
    buffer: u32,
    inner: RefCell<Inner>,
}

struct Inner {
    /// `None` once the ring is closed.
    ring: Option<Provided>,
    limits: PoolLimits,
    /// By id.
    buffers: Vec<Buffer>,
    segments: Vec<(NonNull<u8>, Layout)>,
    /// Buffers that neither the kernel nor a lease has; their pages are given back to the system.
    spare: Vec<u16>,
    /// Buffers the kernel may take, or goes on filling.
    provided: u16,
    /// Buffers that it has let go of and that are out on leases.
    away: u16,
    /// Buffers of which at least a part is out on a lease.
    leased: u16,
    /// How many the kernel should have, by what was used of late.
    target: u16,
    /// The most that were away at once since the window began.
    peak: u16,
    /// Leases that ended since the window began.
    returned: u32,
}

struct Buffer {
    memory: NonNull<u8>,
    /// Bytes the kernel has written since it was provided.
    filled: u32,
    /// Leases on parts of it.
    leases: u32,
    /// The kernel has let go of it.
    finished: bool,
}

impl Pool {
    /// `ring`: `None` makes a pool that is always empty, for a kernel without buffer rings.
    pub(crate) fn new(ring: Option<Provided>, limits: PoolLimits) -> Rc<Pool> {
        let inner = Inner {
            ring,
            limits,
            buffers: Vec::new(),
            segments: Vec::new(),
            spare: Vec::new(),
            provided: 0,
            away: 0,
            leased: 0,
            target: limits.least,
            peak: 0,
            returned: 0,
        };
        let pool = Pool { buffer: limits.buffer, inner: RefCell::new(inner) };
        pool.grow();
        Rc::new(pool)
    }

    /// Whether the kernel has a buffer to take.
    pub(crate) fn has_buffers(&self) -> bool {
        self.inner.borrow().provided > 0
    }

    /// Doubles the buffers in use; `false` at the limit, or where there is no memory for more.
    pub(crate) fn grow(&self) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let now = inner.provided + inner.away;
        let wanted = (now.saturating_mul(2)).clamp(inner.limits.least, inner.limits.most);
        if inner.ring.is_none() || wanted <= now {
            return false;
        }
        inner.target = inner.target.max(wanted);
        let provided = inner.provided;
        for _ in now..wanted {
            if inner.spare.is_empty() {
                inner.allocate();
            }
            let Some(id) = inner.spare.pop() else { break };
            inner.provide(id);
        }
        inner.publish();
        inner.provided > provided
    }

    /// The kernel has picked a buffer, or a part of one, which is on a lease from now on: somebody has
    /// to make a [`chunk`](Pool::chunk) of it. Where it begins comes back.
    #[inline]
    pub(super) fn was_picked(&self, Picked { id, unfinished }: Picked, result: i32) -> u32 {
        let inner = &mut *self.inner.borrow_mut();
        let buffer = &mut inner.buffers[usize::from(id)];
        let begin = buffer.filled;
        buffer.filled += u32::try_from(result).unwrap_or(0);
        buffer.leases += 1;
        inner.leased += u16::from(buffer.leases == 1);
        if !unfinished {
            buffer.finished = true;
            inner.provided -= 1;
            inner.away += 1;
            inner.peak = inner.peak.max(inner.away);
        }
        begin
    }

    /// A receive has ended because there was no buffer. It is asked for now, because by the time that
    /// the receive is made anew buffers may have come back, and the next burst would find too few again.
    /// The first one of a burst makes the pool grow; the others find that there are buffers.
    #[cold]
    pub(super) fn was_empty(&self) {
        if !self.has_buffers() {
            self.grow();
        }
    }

    /// The lease on a part of buffer `id`, which the kernel has picked; `result` says how much it put
    /// there.
    #[inline]
    pub(super) fn chunk(self: &Rc<Pool>, id: u16, begin: u32, result: i32) -> Chunk {
        let memory = self.inner.borrow().buffers[usize::from(id)].memory;
        let end = begin + u32::try_from(result).unwrap_or(0);
        assert!(end <= self.buffer, "the kernel put {end} bytes into {}", self.buffer);
        let source = Source::Pool { pool: Rc::clone(self), id, memory };
        Chunk { source, begin: begin as usize, end: end as usize }
    }

    /// One more lease on a part of buffer `id`, of which there is one already.
    fn lease_again(&self, id: u16) {
        let inner = &mut *self.inner.borrow_mut();
        let buffer = &mut inner.buffers[usize::from(id)];
        // Chunks can be forgotten: a count that has come round would free what is still on lease.
        assert!(buffer.leases < u32::MAX / 2, "too many chunks of one buffer");
        buffer.leases += 1;
    }

    fn give_back(&self, id: u16) {
        let inner = &mut *self.inner.borrow_mut();
        let buffer = &mut inner.buffers[usize::from(id)];
        buffer.leases -= 1;
        inner.returned += 1;
        if buffer.leases > 0 {
            return;
        }
        inner.leased -= 1;
        if !buffer.finished || inner.ring.is_none() {
            return;
        }
        (buffer.filled, buffer.finished) = (0, false);
        inner.away -= 1;
        if inner.returned >= WINDOW {
            let need = inner.peak.saturating_mul(2).checked_next_power_of_two();
            let most = inner.limits.most;
            inner.target = need.unwrap_or(most).clamp(inner.limits.least, most);
            inner.peak = inner.away;
            inner.returned = 0;
        }
        if inner.provided >= inner.target {
            inner.retire(id);
        } else {
            inner.provide(id);
            inner.publish();
        }
    }

    /// The ring is closed: what comes back now only waits for the pool's end.
    pub(crate) fn close(&self) {
        self.inner.borrow_mut().ring = None;
    }

    /// Buffers with the kernel, on lease at least in part, and laid aside. One that the kernel goes on
    /// filling may be both with it and on lease.
    pub(crate) fn census(&self) -> (usize, usize, usize) {
        let inner = self.inner.borrow();
        (inner.provided.into(), inner.leased.into(), inner.spare.len())
    }
}

/// How many leases end before the pool asks itself whether it is too large: enough to see
/// several bursts, few enough to follow the hour of the day.
const WINDOW: u32 = 8192;

impl Inner {
    /// Adds as many buffers as there are in use, at least the smallest number, to the spare ones; none
    /// if there is no memory.
    fn allocate(&mut self) {
        let have = self.buffers.len();
        let count = have.max(self.limits.least.into()).min(usize::from(self.limits.most) - have);
        let size = self.limits.buffer as usize;
        let layout = Layout::from_size_align(count * size, PAGE).expect("a pool fits into memory");
        if count == 0 {
            return;
        }
        // SAFETY: the size is not zero. Not zeroed: only what the kernel has written is ever read,
        // and untouched pages cost no memory.
        let Some(base) = NonNull::new(unsafe { alloc(layout) }) else { return };
        self.segments.push((base, layout));
        for n in 0..count {
            self.spare.push((have + count - 1 - n) as u16);
            // SAFETY: within the segment.
            let memory = unsafe { base.add(n * size) };
            self.buffers.push(Buffer { memory, filled: 0, leases: 0, finished: false });
        }
    }

    fn provide(&mut self, id: u16) {
        let memory = self.buffers[usize::from(id)].memory;
        // SAFETY: the buffer has no lease and is not with the kernel, so nobody has it; its segment
        // lives as long as the pool, which outlives the ring.
        let region = unsafe { Region::new(memory.as_ptr(), self.limits.buffer as usize) };
        if let Some(ring) = &mut self.ring {
            ring.provide(id, region);
            self.provided += 1;
        }
    }

    fn publish(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.publish();
        }
    }

    /// Lays a buffer aside and gives its pages back to the system.
    fn retire(&mut self, id: u16) {
        let memory = self.buffers[usize::from(id)].memory;
        // SAFETY: as in `provide`; nobody reads the buffer before the kernel has filled it again.
        let region = unsafe { Region::new(memory.as_ptr(), self.limits.buffer as usize) };
        if let Some(ring) = &self.ring {
            ring.discard(region);
        }
        self.spare.push(id);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for (base, layout) in self.segments.drain(..) {
            // SAFETY: allocated with this layout in `allocate`. Every lease holds the pool, so none
            // is left; nothing is in flight any more when the run lets go of its pool.
            unsafe { dealloc(base.as_ptr(), layout) };
        }
    }
}

const PAGE: usize = 4096;

/// Received bytes: a lease on a buffer of the pool.
///
/// It derefs to `[u8]`, can be sent as it is, and goes back to the pool when it is dropped. It keeps
/// the pool's memory alive, so it may outlive the run (rule P6).
pub struct Chunk {
    source: Source,
    begin: usize,
    end: usize,
}

enum Source {
    Pool {
        pool: Rc<Pool>,
        id: u16,
        memory: NonNull<u8>,
    },
    /// A buffer of its own: the pool was empty, or the bytes were received into a caller's buffer
    /// whose future was dropped.
    Heap(Vec<u8>),
}

impl Chunk {
    pub(crate) fn from_vec(bytes: Vec<u8>) -> Chunk {
        let end = bytes.len();
        Chunk { source: Source::Heap(bytes), begin: 0, end }
    }

    /// Forgets the first `count` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "cannot advance by {count}: {} bytes are left", self.len());
        self.begin += count;
    }

    /// Splits the first `count` bytes off, as a chunk of their own. Bytes in a buffer of the pool are
    /// not copied: both chunks are leases on it.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn split_to(&mut self, count: usize) -> Chunk {
        assert!(count <= self.len(), "cannot split off {count}: {} bytes are left", self.len());
        let (begin, middle) = (self.begin, self.begin + count);
        self.begin = middle;
        match &self.source {
            Source::Pool { pool, id, memory } => {
                pool.lease_again(*id);
                let source = Source::Pool { pool: Rc::clone(pool), id: *id, memory: *memory };
                Chunk { source, begin, end: middle }
            }
            Source::Heap(bytes) => Chunk::from_vec(bytes[begin..middle].to_vec()),
        }
    }

    /// Forgets all but the first `len` bytes; does nothing if there are not more.
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.begin.saturating_add(len));
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (begin, end) = (self.begin, self.end);
        match &self.source {
            // SAFETY: the kernel has filled the buffer up to `end` and given that part away, to
            // nobody else; it is ours until the lease ends. A chunk only ever gets shorter, and one
            // that was split off has what this one has lost.
            Source::Pool { memory, .. } => unsafe {
                std::slice::from_raw_parts(memory.add(begin).as_ptr(), end - begin)
            },
            Source::Heap(bytes) => &bytes[begin..end],
        }
    }
}

impl DerefMut for Chunk {
    fn deref_mut(&mut self) -> &mut [u8] {
        let (begin, end) = (self.begin, self.end);
        match &mut self.source {
            // SAFETY: as above, and the lease is borrowed mutably.
            Source::Pool { memory, .. } => unsafe {
                std::slice::from_raw_parts_mut(memory.add(begin).as_ptr(), end - begin)
            },
            Source::Heap(bytes) => &mut bytes[begin..end],
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Source::Pool { pool, id, .. } = &self.source {
            pool.give_back(*id);
        }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

impl PartialEq<[u8]> for Chunk {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Chunk {
    fn eq(&self, other: &[u8; N]) -> bool {
        **self == *other
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
