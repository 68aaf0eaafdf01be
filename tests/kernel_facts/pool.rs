//! A provided buffer ring.

use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Buffers are owned by the kernel from `provide` until a CQE names them.
pub struct Pool {
    /// Page aligned, zeroed, `slots` long; written here, read by the kernel up to the tail.
    entries: *mut BufRingEntry,
    /// A power of two.
    slots: u16,
    /// `slots` buffers of `size` bytes.
    memory: *mut [u8],
    size: usize,
    tail: u16,
}

impl Pool {
    pub fn new(count: u16, size: usize) -> Pool {
        let slots = count.next_power_of_two();
        let len = usize::from(slots) * size_of::<BufRingEntry>();
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
        // SAFETY: a new anonymous mapping, which disturbs no other.
        let entries =
            unsafe { libc::mmap(ptr::null_mut(), len, access, kind | libc::MAP_ANONYMOUS, -1, 0) };
        assert_ne!(entries, libc::MAP_FAILED);
        let memory = Box::into_raw(vec![0; usize::from(slots) * size].into_boxed_slice());
        Pool { entries: entries.cast(), slots, memory, size, tail: 0 }
    }

    /// The address of the ring's entries.
    pub fn entries(&self) -> u64 {
        self.entries as u64
    }

    pub fn slots(&self) -> u16 {
        self.slots
    }

    /// The bytes in one buffer.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Hands buffer `id` to the kernel.
    pub fn provide(&mut self, id: u16) {
        let at = usize::from(self.tail & (self.slots - 1));
        // SAFETY: `at` is masked into the mapping. The kernel does not read the slot before the
        // tail passes it, and never more than `slots` buffers are provided.
        let entry = unsafe { &mut *self.entries.add(at) };
        entry.set_addr(self.buffer(id) as u64);
        entry.set_len(self.size as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry, aligned, and is shared with the kernel, hence
        // atomic; `entry` is not used any more.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// What the kernel wrote into buffer `id`, which a CQE gave back.
    pub fn read(&self, id: u16, len: usize) -> Vec<u8> {
        assert!(len <= self.size);
        // SAFETY: inside the buffer; a CQE gave it to us, so the kernel does not write to it.
        unsafe { std::slice::from_raw_parts(self.buffer(id), len) }.to_vec()
    }

    fn buffer(&self, id: u16) -> *mut u8 {
        assert!(id < self.slots);
        self.memory.cast::<u8>().wrapping_add(usize::from(id) * self.size)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let len = usize::from(self.slots) * size_of::<BufRingEntry>();
        // SAFETY: the mapping made by `new`, unmapped once. The kernel has pinned its pages, and
        // may look at them until the ring is closed.
        unsafe { libc::munmap(self.entries.cast(), len) };
        // SAFETY: made by `Box::into_raw`, freed once. No operation is in the kernel when a pool
        // is dropped (`Ring::drop`), so nothing writes to the buffers.
        drop(unsafe { Box::from_raw(self.memory) });
    }
}
