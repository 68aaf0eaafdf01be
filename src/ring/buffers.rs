//! The ring of provided buffers: where the kernel takes a buffer from when data has come.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::request::Region;
#[cfg(feature = "testing")]
use super::twin::PoolQueue;

/// Buffers provided to whichever kernel it is.
pub(crate) enum Provided {
    Kernel(BufferRing),
    #[cfg(feature = "testing")]
    Twin(PoolQueue),
}

impl Provided {
    /// Gives the kernel a buffer under the name `id`; it sees it after [`publish`](Self::publish).
    ///
    /// The buffer belongs to the kernel until a completion names `id`. At most as many buffers as
    /// there are entries may be given at a time.
    pub(crate) fn provide(&mut self, id: u16, buffer: Region) {
        match self {
            Provided::Kernel(ring) => ring.provide(id, buffer),
            #[cfg(feature = "testing")]
            Provided::Twin(queue) => queue.provide(id, buffer),
        }
    }

    pub(crate) fn publish(&mut self) {
        match self {
            Provided::Kernel(ring) => ring.publish(),
            #[cfg(feature = "testing")]
            Provided::Twin(queue) => queue.publish(),
        }
    }

    /// Gives the pages of a buffer that is not provided back to the system; their content is lost.
    pub(crate) fn discard(&self, buffer: Region) {
        match self {
            Provided::Kernel(_) => discard(buffer),
            #[cfg(feature = "testing")]
            Provided::Twin(_) => {}
        }
    }
}

/// Memory shared with the kernel: we add buffers at the tail, it takes them from the head.
#[derive(Debug)]
pub(crate) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    mask: u16,
    /// Our copy of the tail; the kernel sees it when it is published.
    tail: u16,
}

impl BufferRing {
    /// `entries`: a power of two, at most 32,768.
    pub(super) fn new(entries: u16) -> io::Result<BufferRing> {
        debug_assert!(entries.is_power_of_two());
        let size = usize::from(entries) * size_of::<BufRingEntry>();
        let layout = Layout::from_size_align(size, PAGE).map_err(io::Error::other)?;
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Ok(BufferRing { entries: memory.cast(), layout, mask: entries - 1, tail: 0 })
    }

    pub(super) fn address(&self) -> u64 {
        self.entries.as_ptr() as u64
    }

    fn provide(&mut self, id: u16, buffer: Region) {
        // SAFETY: the index is below the number of entries; the kernel reads only entries between
        // its head and the published tail, and this one is not yet published.
        let entry = unsafe { &mut *self.entries.as_ptr().add(usize::from(self.tail & self.mask)) };
        entry.set_addr(buffer.address() as u64);
        entry.set_len(buffer.len());
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: `entries` is the page-aligned start of the ring, as `tail` asks; the tail lies in
        // the first entry, is aligned for u16, and is only written here.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        // Release: the kernel must see the entries before it sees the tail.
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout. The pool drops it when the ring is closed or
        // nothing that could pick a buffer is in flight.
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}

const PAGE: usize = 4096;

fn discard(buffer: Region) {
    // SAFETY: whoever made the region owns the memory, and nobody reads it before it is written
    // again. A refusal only costs memory.
    unsafe { libc::madvise(buffer.address().cast(), buffer.len() as usize, libc::MADV_DONTNEED) };
}
