//! Buffers that begin at a multiple of what a device wants.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::buf::{IoBuf, IoBufMut};
use super::registry::{Place, Returned};

/// A buffer whose memory begins at a multiple of its alignment, as files that are opened with
/// [`direct`](crate::fs::OpenOptions::direct) want it.
///
/// It is as long as it was made until something shorter is read into it.
///
/// Those that [`File::direct_buf`](crate::fs::File::direct_buf) makes are known to the kernel beforehand, which
/// makes it cheaper to read into them and to write from them in their run. Elsewhere they are as good as others.
///
/// ```
/// use trine::fs::AlignedBuf;
///
/// let mut buf = AlignedBuf::new(8192, 4096);
/// assert_eq!(buf.as_ptr() as usize % 4096, 0);
/// buf[..5].copy_from_slice(b"hello");
/// assert!(buf.starts_with(b"hello\0") && buf.len() == 8192);
/// ```
pub struct AlignedBuf {
    /// More than is used by one alignment, so that an aligned part lies in it.
    memory: Box<[u8]>,
    len: usize,
    /// Of two: the alignment.
    power: u8,
    /// Where the memory is registered, while there is somebody to whom it returns.
    pub(super) place: u16,
    returned: Option<Arc<Returned>>,
}

impl AlignedBuf {
    /// So many zeros.
    ///
    /// # Panics
    /// If the alignment is no power of two, or the memory is more than there can be.
    pub fn new(len: usize, alignment: usize) -> AlignedBuf {
        assert!(alignment.is_power_of_two(), "an alignment of {alignment} is no power of two");
        let size = len.checked_add(alignment).expect("more memory than there can be");
        let memory = vec![0; size].into_boxed_slice();
        let power = alignment.trailing_zeros() as u8;
        AlignedBuf { memory, len, power, place: 0, returned: None }
    }

    /// It is registered, in its place, with the ring to whose memory it is to return.
    pub(super) fn registered_in(mut self, returned: &Arc<Returned>) -> AlignedBuf {
        self.returned = Some(Arc::clone(returned));
        self
    }

    /// Whether it would be as good as a new one.
    pub(super) fn is_like(&self, len: usize, alignment: usize) -> bool {
        self.capacity() == len && self.alignment() == alignment
    }

    fn alignment(&self) -> usize {
        1 << self.power
    }

    /// Where the aligned part begins.
    fn begin(&self) -> usize {
        self.memory.as_ptr().addr().wrapping_neg() & (self.alignment() - 1)
    }

    /// Makes it this long; what is new are zeros.
    ///
    /// # Panics
    /// If it is more than it was made for.
    pub fn resize(&mut self, len: usize) {
        let capacity = self.capacity();
        assert!(len <= capacity, "{len} bytes do not fit into {capacity}");
        let old = self.len.min(len);
        self.len = len;
        self[old..].fill(0);
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        let AlignedBuf { len, power, place, .. } = *self;
        if let Some(returned) = self.returned.take() {
            let memory = std::mem::take(&mut self.memory);
            returned.put(AlignedBuf { memory, len, power, place, returned: None });
        }
    }
}

// SAFETY: the bytes are on the heap, owned by this box alone, and `begin + capacity` is within it.
unsafe impl IoBuf for AlignedBuf {
    fn as_ptr(&self) -> *const u8 {
        self.memory[self.begin()..].as_ptr()
    }

    fn len(&self) -> usize {
        self.len
    }

    fn place(&self) -> Option<Place<'_>> {
        self.returned.as_ref().map(|returned| Place::new(returned, self.place))
    }
}

// SAFETY: as above; all of it is initialised.
unsafe impl IoBufMut for AlignedBuf {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        let begin = self.begin();
        self.memory[begin..].as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.memory.len() - self.alignment()
    }

    unsafe fn set_len(&mut self, len: usize) {
        self.len = len;
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.begin()..][..self.len]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let begin = self.begin();
        &mut self.memory[begin..][..self.len]
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf")
            .field("len", &self.len)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_multiple_and_stays_there_while_it_moves() {
        for alignment in [1, 512, 4096] {
            let mut buf = AlignedBuf::new(1000, alignment);
            let begin = IoBufMut::as_mut_ptr(&mut buf);
            assert_eq!(begin.addr() % alignment, 0);
            buf[999] = 7;
            let mut moved = Box::new(buf);
            assert_eq!(IoBufMut::as_mut_ptr(&mut *moved), begin);
            moved.resize(10);
            moved.resize(1000);
            assert_eq!((moved.len(), moved[999]), (1000, 0));
        }
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn it_does_not_grow() {
        AlignedBuf::new(10, 8).resize(11);
    }
}
