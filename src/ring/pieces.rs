//! Several pieces of memory for one operation, in the form that the kernel reads.

#[cfg(feature = "testing")]
use std::ptr;

use super::request::Region;

/// Where the pieces lie, and what of them is still to be transferred: the header that `sendmsg` is told, and the
/// list to which it points.
pub(crate) struct Pieces {
    header: libc::msghdr,
    /// Those before `next` are done, and what is done of that one is cut off.
    list: Vec<libc::iovec>,
    next: usize,
    done: usize,
    len: usize,
}

/// More the kernel does not take in one operation (`IOV_MAX`).
const MOST: usize = 1024;

impl Pieces {
    pub(crate) fn new() -> Pieces {
        // SAFETY: all zeros is a valid header: no name, no bytes, nothing beside them.
        let header = unsafe { std::mem::zeroed() };
        Pieces { header, list: Vec::new(), next: 0, done: 0, len: 0 }
    }

    /// Adds a piece; one without bytes is none.
    pub(crate) fn push(&mut self, address: *mut u8, len: usize) {
        if len > 0 {
            self.list.push(libc::iovec { iov_base: address.cast(), iov_len: len });
            self.len += len;
        }
    }

    /// Bytes of all pieces.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Says that the first `done` bytes are transferred: what is told to the kernel is the rest, as much as it
    /// takes at a time.
    pub(crate) fn go_on_from(&mut self, done: usize) {
        assert!(self.done <= done && done <= self.len, "byte {done} of {}", self.len);
        let mut more = done - self.done;
        self.done = done;
        while more > 0 {
            let piece = &mut self.list[self.next];
            let cut = more.min(piece.iov_len);
            piece.iov_base = piece.iov_base.wrapping_byte_add(cut);
            piece.iov_len -= cut;
            self.next += usize::from(piece.iov_len == 0);
            more -= cut;
        }
        let left = &mut self.list[self.next..];
        (self.header.msg_iovlen, self.header.msg_iov) = (left.len().min(MOST), left.as_mut_ptr());
    }

    /// The header, to be lent to the kernel.
    ///
    /// # Safety
    /// As for [`Region::new`], of the pieces; and these stay at this place.
    pub(crate) unsafe fn header(&mut self) -> Region {
        // SAFETY: the caller promises it; the list is our own.
        unsafe { Region::new((&raw mut self.header).cast(), size_of::<libc::msghdr>()) }
    }

    /// The list alone.
    ///
    /// # Safety
    /// As for [`header`](Pieces::header).
    pub(crate) unsafe fn list(&mut self) -> Region {
        let len = self.header.msg_iovlen * size_of::<libc::iovec>();
        // SAFETY: as above.
        unsafe { Region::new(self.header.msg_iov.cast(), len) }
    }
}

/// The list that a header points to.
///
/// # Safety
/// The header of [`Pieces`] lies in the region.
#[cfg(feature = "testing")]
pub(super) unsafe fn list_of(header: Region) -> Region {
    let header = header.address().cast::<libc::msghdr>();
    // SAFETY: the caller promises it; its maker promised the same of the list as of the header.
    unsafe {
        let (list, count) = ((*header).msg_iov, (*header).msg_iovlen);
        Region::new(list.cast(), count * size_of::<libc::iovec>())
    }
}

/// The piece with this number in a list, if there are so many.
///
/// # Safety
/// A list of [`Pieces`] lies in the region.
#[cfg(feature = "testing")]
pub(super) unsafe fn piece_of(list: Region, number: usize) -> Option<Region> {
    if number >= list.len() as usize / size_of::<libc::iovec>() {
        return None;
    }
    // SAFETY: within the list; its maker made the promise for the pieces too.
    unsafe {
        let piece = ptr::read(list.address().cast::<libc::iovec>().add(number));
        Some(Region::new(piece.iov_base.cast(), piece.iov_len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(pieces: &Pieces) -> Vec<usize> {
        let count = pieces.header.msg_iovlen;
        pieces.list[pieces.next..][..count].iter().map(|piece| piece.iov_len).collect()
    }

    #[test]
    fn what_is_done_is_cut_off_and_what_is_empty_was_never_there() {
        let mut bytes = [0_u8; 9];
        let start = bytes.as_mut_ptr();
        let mut pieces = Pieces::new();
        for (at, len) in [(0, 2), (2, 0), (2, 3), (5, 4)] {
            pieces.push(start.wrapping_add(at), len);
        }
        assert_eq!(pieces.len(), 9);
        for (done, left) in [(0, &[2, 3, 4][..]), (1, &[1, 3, 4]), (5, &[4]), (7, &[2]), (9, &[])] {
            pieces.go_on_from(done);
            assert_eq!(lens(&pieces), left, "after {done} bytes");
        }
    }

    #[test]
    fn the_kernel_is_told_as_many_as_it_takes() {
        let mut byte = 0_u8;
        let mut pieces = Pieces::new();
        (0..MOST + 5).for_each(|_| pieces.push(&raw mut byte, 1));
        pieces.go_on_from(0);
        assert_eq!(lens(&pieces).len(), MOST);
        pieces.go_on_from(MOST);
        assert_eq!(lens(&pieces).len(), 5);
    }
}
