//! Owned buffers: handed to an operation, and handed back with its result.

use std::io;
use std::ops::{Bound, Deref, RangeBounds};
use std::rc::Rc;
use std::sync::Arc;

use crate::error::Error;

use super::pool::Chunk;
use super::registry::Place;

/// Bytes that can be lent to the kernel for reading.
///
/// # Safety
/// An implementer promises, for as long as the value is neither moved, nor accessed, nor dropped:
/// - `as_ptr` points to `len` initialised bytes that stay allocated and unchanged;
/// - `as_ptr` and `len` give the same answers every time.
///
/// A type with bytes inside itself (an array) may implement it: trine keeps the value at one
/// address while the kernel has it. A type whose bytes another owner can change or free may not.
pub unsafe trait IoBuf: 'static {
    /// Where the bytes are.
    fn as_ptr(&self) -> *const u8;
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the kernel knows the memory beforehand, if it does.
    #[doc(hidden)]
    fn place(&self) -> Option<Place<'_>> {
        None
    }

    /// Whether it has all the bytes that it is to have: a part of a buffer may reach beyond the content.
    #[doc(hidden)]
    fn is_whole(&self) -> bool {
        true
    }

    /// A part of it, as a buffer of its own; [`Slice::into_inner`] gives the whole back.
    ///
    /// What is written lies within the content, `0..len`. What is read into begins there, or just behind, and lies
    /// within `0..capacity`. Whoever gets another part for it fails with `InvalidInput`, and nothing is transferred:
    /// `read_exact(buf.slice(..n))` returns `n` bytes, or an error.
    ///
    /// # Panics
    /// If the range ends before it begins.
    fn slice(self, range: impl RangeBounds<usize>) -> Slice<Self>
    where
        Self: Sized,
    {
        Slice::new(self, range)
    }
}

/// A buffer that the kernel may write to and that can say how much of it is filled.
///
/// A boxed slice cannot say that, so it is none; use a `Vec`, or a [`Slice`] of one to fill a part.
///
/// # Safety
/// As for [`IoBuf`], and: `as_mut_ptr` points to `capacity` bytes, initialised or not, that nobody
/// else has; the first `len` are those of [`IoBuf::as_ptr`].
pub unsafe trait IoBufMut: IoBuf {
    /// Where to write.
    fn as_mut_ptr(&mut self) -> *mut u8;
    /// How much there is room for.
    fn capacity(&self) -> usize;
    /// Makes the first `len` bytes the content.
    ///
    /// # Safety
    /// `len` is at most `capacity`, and the first `len` bytes are initialised.
    unsafe fn set_len(&mut self, len: usize);

    /// Whether it has all the room that it is to have: a part of a buffer may reach beyond the capacity.
    #[doc(hidden)]
    fn has_room(&self) -> bool {
        true
    }
}

// SAFETY: the bytes are on the heap and owned by the vector alone.
unsafe impl IoBuf for Vec<u8> {
    fn as_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; `set_len` is the vector's own.
unsafe impl IoBufMut for Vec<u8> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }

    unsafe fn set_len(&mut self, len: usize) {
        // SAFETY: the caller promises the same.
        unsafe { self.set_len(len) };
    }
}

/// Types that deref to bytes which they own or share unchangeably.
macro_rules! readable {
    ($($type:ty),*) => {$(
        // SAFETY: the bytes are reached through a shared reference, and this type gives no way to
        // change them through one; they live as long as the value.
        unsafe impl IoBuf for $type {
            fn as_ptr(&self) -> *const u8 {
                AsRef::<[u8]>::as_ref(self).as_ptr()
            }

            fn len(&self) -> usize {
                AsRef::<[u8]>::as_ref(self).len()
            }
        }
    )*};
}

readable!(Box<[u8]>, &'static [u8], String, &'static str, Rc<[u8]>, Arc<[u8]>, Chunk);

// SAFETY: the bytes are the value itself, which stays where it is while nobody moves it.
unsafe impl<const N: usize> IoBuf for [u8; N] {
    fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn len(&self) -> usize {
        N
    }
}

// SAFETY: the bytes live as long as the program.
unsafe impl<const N: usize> IoBuf for &'static [u8; N] {
    fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn len(&self) -> usize {
        N
    }
}

/// A part of a buffer, made by [`IoBuf::slice`].
///
/// As a target of a read it is filled from its start, and its end moves to what was read.
#[derive(Debug)]
pub struct Slice<B> {
    buf: B,
    begin: usize,
    end: usize,
    /// Where the room ends: `end` before anything was read.
    limit: usize,
}

impl<B: IoBuf> Slice<B> {
    fn new(buf: B, range: impl RangeBounds<usize>) -> Slice<B> {
        let begin = match range.start_bound() {
            Bound::Included(&begin) => begin,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            // No buffer reaches as far as this saturates.
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => buf.len().max(begin),
        };
        assert!(begin <= end, "a slice from {begin} to {end} ends before it begins");
        Slice { buf, begin, end, limit: end }
    }

    /// The whole buffer.
    pub fn into_inner(self) -> B {
        self.buf
    }

    /// Where the part begins in the whole.
    pub fn begin(&self) -> usize {
        self.begin
    }

    /// Where it ends.
    pub fn end(&self) -> usize {
        self.end
    }
}

// SAFETY: within the whole, as far as that is initialised; the whole keeps the promises.
unsafe impl<B: IoBuf> IoBuf for Slice<B> {
    fn as_ptr(&self) -> *const u8 {
        // A part that begins behind the content is empty, wherever it points.
        self.buf.as_ptr().wrapping_add(self.begin.min(self.buf.len()))
    }

    fn len(&self) -> usize {
        self.end.min(self.buf.len()).saturating_sub(self.begin)
    }

    fn place(&self) -> Option<Place<'_>> {
        self.buf.place()
    }

    fn is_whole(&self) -> bool {
        self.end <= self.buf.len() && self.buf.is_whole()
    }
}

// SAFETY: within the capacity of the whole. `set_len` makes the bytes before the part count as
// content too only if they do already.
unsafe impl<B: IoBufMut> IoBufMut for Slice<B> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        let begin = self.begin.min(self.buf.len());
        self.buf.as_mut_ptr().wrapping_add(begin)
    }

    /// None if it reaches beyond the whole: less than was asked for would look like all of it. Nor if there is a gap
    /// between the content and the part, which would be uninitialised bytes inside of the content.
    fn capacity(&self) -> usize {
        if self.has_room() { self.limit - self.begin } else { 0 }
    }

    fn has_room(&self) -> bool {
        self.begin <= self.buf.len() && self.limit <= self.buf.capacity() && self.buf.has_room()
    }

    unsafe fn set_len(&mut self, len: usize) {
        self.end = self.begin + len;
        if self.end > self.buf.len() {
            // SAFETY: the whole is initialised up to `begin` (see `capacity`), and the caller
            // promises the next `len` bytes.
            unsafe { self.buf.set_len(self.end) };
        }
    }
}

impl<B: IoBuf> Deref for Slice<B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: an `IoBuf` has `len` initialised bytes at `as_ptr`, unchanged while borrowed.
        unsafe { std::slice::from_raw_parts(IoBuf::as_ptr(self), IoBuf::len(self)) }
    }
}

/// Refuses a part that reaches beyond the buffer: less than was meant would look like all of it.
#[inline]
pub(crate) fn check_whole(is_whole: bool) -> io::Result<()> {
    if is_whole { Ok(()) } else { Err(beyond()) }
}

#[cold]
fn beyond() -> io::Error {
    let text = "a part of a buffer reaches beyond what is there";
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// An operation on a buffer did not succeed; the buffer comes back with the error.
///
/// `?` turns it into an [`Error`] and drops the buffer.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BufError<B> {
    /// What went wrong.
    #[source]
    pub error: Error,
    /// How many bytes were transferred all the same (rule D2).
    pub done: usize,
    /// The buffer.
    pub buf: B,
}

impl<B> BufError<B> {
    pub(crate) fn new(error: impl Into<Error>, done: usize, buf: B) -> Self {
        BufError { error: error.into(), done, buf }
    }
}

impl<B> From<BufError<B>> for Error {
    fn from(failed: BufError<B>) -> Error {
        failed.error
    }
}

impl<B> From<BufError<B>> for std::io::Error {
    fn from(failed: BufError<B>) -> std::io::Error {
        failed.error.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_of_a_vector_fills_only_its_part_and_grows_the_content() {
        let mut vec = Vec::with_capacity(8);
        vec.extend_from_slice(b"abcd");
        let mut part = vec.slice(2..6);
        assert_eq!((&part[..], IoBufMut::capacity(&part)), (&b"cd"[..], 4));
        // SAFETY: four bytes of room from `as_mut_ptr` on, written before they are claimed.
        unsafe {
            part.as_mut_ptr().copy_from_nonoverlapping(b"wxyz".as_ptr(), 4);
            IoBufMut::set_len(&mut part, 3);
        }
        assert_eq!(&part[..], b"wxy");
        assert_eq!(part.into_inner(), b"abwxy");
    }

    #[test]
    fn a_slice_that_leaves_a_gap_has_no_room() {
        let part = Vec::<u8>::with_capacity(8).slice(2..6);
        assert_eq!((IoBufMut::capacity(&part), IoBuf::len(&part)), (0, 0));
    }

    #[test]
    fn a_slice_beyond_the_whole_has_no_room_and_not_all_its_bytes() {
        let mut vec = Vec::with_capacity(8);
        vec.extend_from_slice(b"abcd");
        let room = vec.capacity();
        for (part, has_room, is_whole) in [
            (vec.clone().slice(1..4), true, true),
            (vec.clone().slice(..1000), false, false),
            (vec.clone().slice(5..), false, false),
            (vec.clone().slice(..=usize::MAX), false, false),
            (vec.slice(..room), true, false),
        ] {
            assert_eq!(IoBufMut::capacity(&part) > 0, has_room, "{part:?}");
            assert_eq!(part.is_whole(), is_whole, "{part:?}");
        }
        assert!(!"text".slice(..5).slice(..).is_whole());
    }

    #[test]
    #[should_panic(expected = "ends before it begins")]
    fn a_slice_that_ends_before_it_begins_is_refused() {
        #[allow(clippy::reversed_empty_ranges)]
        let _ = vec![1, 2, 3].slice(3..2);
    }
}
