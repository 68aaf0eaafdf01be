//! A ring of provided buffers, used by hand: the kernel takes one when data has come.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::hand::Ring;

/// Buffers of one length, and the ring through which the kernel gets them. Never freed: it lives as
/// long as the process.
pub struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    length: usize,
    tail: u16,
}

/// The only group there is.
pub const GROUP: u16 = 0;

impl Buffers {
    /// `count`: a power of two. All buffers are given to the kernel.
    pub fn register(ring: &Ring, count: u16, length: usize) -> io::Result<Buffers> {
        assert!(count.is_power_of_two());
        let entries = map(usize::from(count) * size_of::<BufRingEntry>())?.cast();
        let memory = map(usize::from(count) * length)?;
        let mut buffers = Buffers { entries, memory, count, length, tail: 0 };
        let address = entries.as_ptr() as u64;
        // SAFETY: the mapping is page-aligned, has room for `count` entries, and is never unmapped.
        unsafe { ring.io.submitter().register_buf_ring_with_flags(address, count, GROUP, 0)? };
        (0..count).for_each(|id| buffers.give(id));
        buffers.publish();
        Ok(buffers)
    }

    /// Gives a buffer back; the kernel sees it after `publish`.
    pub fn give(&mut self, id: u16) {
        let at = usize::from(self.tail & (self.count - 1));
        // SAFETY: `at` is below the number of entries, and the kernel does not look at an entry
        // beyond the published tail.
        let entry = unsafe { &mut *self.entries.as_ptr().add(at) };
        entry.set_addr(self.address(id) as u64);
        entry.set_len(self.length as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    pub fn publish(&mut self) {
        // SAFETY: `entries` is the start of the ring, which is where `tail` counts from.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is aligned, lives as long as the process, and only we write it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the kernel must see the entries before it sees the tail.
        tail.store(self.tail, Ordering::Release);
    }

    /// Where buffer `id` begins.
    pub fn address(&self, id: u16) -> *mut u8 {
        assert!(id < self.count);
        // SAFETY: the memory holds `count` buffers of this length.
        unsafe { self.memory.as_ptr().add(usize::from(id) * self.length) }
    }
}

/// Zeroed pages.
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, wherever the kernel likes.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("a mapping at zero"))
}
