//! Memory that the kernel knows beforehand, for direct reads and writes.
//!
//! A device puts what is read directly into the very pages of the buffer, so the kernel looks these up and
//! holds them, for each operation anew: an eighth of what reading 4 KiB costs, and half of what 1 MiB does
//! (benches/NUMBERS.md). Of what is registered with the ring it holds them once and for all.
//!
//! Each buffer is registered by itself, in a place of its own in the kernel's table: that is one system call,
//! and there is no memory to be shared out. What a buffer leaves behind stays registered for the next
//! one of its size, until the room is needed for others.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::primitives::{Mutex, lock};
use crate::ring::{Region, Ring};

use super::aligned::AlignedBuf;
use super::buf::IoBufMut;

/// The registered memory of one run.
pub(crate) struct Registry {
    returned: Arc<Returned>,
    inner: RefCell<Inner>,
}

struct Inner {
    /// Bytes that may be registered at a time.
    most: usize,
    /// What the kernel gives of them: after a refusal, for a while, no more than it had given by then.
    given: usize,
    /// Buffers that are to be made before it is asked for more again.
    patience: u32,
    /// Those that are, in whole pages: also what has come back.
    bytes: usize,
    has_table: bool,
    /// Places of the table that were used before.
    vacant: Vec<u16>,
    /// Places from here on were never used.
    fresh: u16,
}

/// What buffers leave behind when they go, on whatever thread, the oldest first; `None` once the run has ended.
#[derive(Debug)]
pub(super) struct Returned(Mutex<Option<VecDeque<AlignedBuf>>>);

/// Where memory is registered.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    returned: &'a Arc<Returned>,
    number: u16,
}

impl Registry {
    /// `most`: bytes that may be registered at a time.
    pub(crate) fn new(most: usize) -> Registry {
        let inner = Inner {
            most,
            given: most,
            patience: 0,
            bytes: 0,
            has_table: false,
            vacant: Vec::new(),
            fresh: 0,
        };
        let returned = Arc::new(Returned(Mutex::new(Some(VecDeque::new()))));
        Registry { returned, inner: RefCell::new(inner) }
    }

    /// So many zeros, registered with the ring if there is room for that, and the kernel gives it.
    pub(crate) fn buffer(&self, len: usize, alignment: usize, ring: &mut Ring) -> AlignedBuf {
        if let Some(mut buf) = self.returned.take_like(len, alignment) {
            buf.resize(0);
            buf.resize(len);
            return buf.registered_in(&self.returned);
        }
        let mut buf = AlignedBuf::new(len, alignment);
        let inner = &mut *self.inner.borrow_mut();
        if inner.make_room(len, &self.returned, ring) && inner.register(&mut buf, ring) {
            return buf.registered_in(&self.returned);
        }
        buf
    }

    /// The number of a place, if it is one of this run.
    #[inline]
    pub(crate) fn number(&self, place: Option<Place<'_>>) -> Option<u16> {
        place.filter(|place| Arc::ptr_eq(place.returned, &self.returned)).map(|place| place.number)
    }

    /// Bytes that are registered.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.borrow().bytes
    }

    /// The ring is about to be closed, which lets go of the pages only later. What comes back from now on is
    /// freed.
    #[cold]
    pub(crate) fn close(&self, ring: &mut Ring) {
        let inner = &mut *self.inner.borrow_mut();
        if inner.has_table {
            // Should that fail, closing does it.
            let _ = ring.remove_places();
        }
        (inner.most, inner.given, inner.bytes) = (0, 0, 0);
        *lock(&self.returned.0) = None;
    }
}

impl Inner {
    /// Makes room for one more buffer: as far as it takes, what has come back is not kept for others.
    fn make_room(&mut self, len: usize, returned: &Returned, ring: &mut Ring) -> bool {
        match self.patience.checked_sub(1) {
            Some(less) => self.patience = less,
            None => self.given = self.most,
        }
        let len = in_pages(len);
        // What is lent stays. If that is too much, what has come back is not given up for nothing.
        let lent = self.bytes - returned.bytes();
        if lent + len > self.given {
            return false;
        }
        while self.bytes + len > self.given || !self.has_place() {
            let Some(old) = returned.take_oldest() else { return false };
            self.bytes -= in_pages(old.capacity());
            self.vacant.push(old.place);
            // Should that fail, the next one to get the place takes it over.
            let _ = ring.register(old.place, None);
        }
        true
    }

    /// There is room. The kernel may refuse, for there is a limit on locked memory, which other rings take
    /// from too, and older kernels (Linux 6.1) let go of pages only a moment later. So a refusal may pass.
    fn register(&mut self, buf: &mut AlignedBuf, ring: &mut Ring) -> bool {
        let capacity = buf.capacity();
        // SAFETY: the memory belongs to the buffer; requests bring regions of their own.
        let region = unsafe { Region::new(buf.as_mut_ptr(), capacity) };
        let place = self.vacant.last().copied().unwrap_or(self.fresh);
        let table = if self.has_table { Ok(()) } else { ring.make_places(self.places()) };
        self.has_table = table.is_ok();
        if table.and_then(|()| ring.register(place, Some(region))).is_err() {
            (self.given, self.patience) = (self.bytes, PATIENCE);
            return false;
        }
        if self.vacant.pop().is_none() {
            self.fresh += 1;
        }
        buf.place = place;
        self.bytes += in_pages(capacity);
        true
    }

    fn has_place(&self) -> bool {
        !self.vacant.is_empty() || self.fresh < self.places()
    }

    /// As many as there can be buffers, each of which takes a page at least.
    fn places(&self) -> u16 {
        (self.most / PAGE).clamp(1, MOST_PLACES) as u16
    }
}

impl Returned {
    pub(super) fn put(&self, buf: AlignedBuf) {
        let mut returned = lock(&self.0);
        if let Some(returned) = &mut *returned {
            returned.push_back(buf);
        }
    }

    /// Takes out the last one that is as good as a new one.
    fn take_like(&self, len: usize, alignment: usize) -> Option<AlignedBuf> {
        let mut returned = lock(&self.0);
        let returned = returned.as_mut()?;
        let at = returned.iter().rposition(|buf| buf.is_like(len, alignment))?;
        returned.remove(at)
    }

    fn take_oldest(&self) -> Option<AlignedBuf> {
        lock(&self.0).as_mut()?.pop_front()
    }

    /// Bytes of all that is here, in whole pages.
    fn bytes(&self) -> usize {
        lock(&self.0).iter().flatten().map(|buf| in_pages(buf.capacity())).sum()
    }
}

impl<'a> Place<'a> {
    pub(super) fn new(returned: &'a Arc<Returned>, number: u16) -> Place<'a> {
        Place { returned, number }
    }
}

/// What the kernel locks are pages.
fn in_pages(len: usize) -> usize {
    len.next_multiple_of(PAGE)
}

/// The smallest there is. Where pages are larger the kernel counts more than this, and refuses earlier; to ask
/// for their size would make what is registered depend on the machine, also in a simulation.
const PAGE: usize = 4096;

/// So rarely is the kernel asked in vain, if the refusal lasts: it looks up all pages before it refuses.
const PATIENCE: u32 = 64;

/// The largest table that the kernel makes.
const MOST_PLACES: usize = 1 << 14;
