//! Several buffers for one operation: gathered from, or scattered to.

use std::ptr::NonNull;

use crate::ring::{Pieces, Region};

use super::block::Storage;
use super::buf::{IoBuf, IoBufMut};
use super::shelf::Shelf;

/// Buffers that are written one behind the other, in one operation: a `Vec` or an array of them, or a tuple of
/// different ones.
///
/// ```
/// use trine::pipe;
///
/// trine::run(async || {
///     let (reader, writer) = pipe::pipe()?;
///     let (head, body) = (String::from("5\n"), vec![b'x'; 5]);
///     let (_head, body) = writer.write_all_vectored((head, body)).await?;
///     assert_eq!(reader.recv().await?.expect("not the end"), *b"5\nxxxxx");
///     assert_eq!(body.len(), 5, "they come back");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
///
/// # Safety
/// As for [`IoBuf`], of all the memory that `each` names.
pub unsafe trait IoBufs: 'static {
    /// Says of each buffer, in order, where its bytes are and how many.
    fn each(&self, name: &mut dyn FnMut(*const u8, usize));

    /// Whether each has all the bytes that it is to have.
    #[doc(hidden)]
    fn are_whole(&self) -> bool {
        true
    }
}

/// Buffers that are read into one behind the other, in one operation: a `Vec` or an array of them, or a tuple
/// of different ones.
///
/// # Safety
/// As for [`IoBufMut`], of all the memory that `each_room` names.
pub unsafe trait IoBufsMut: IoBufs {
    /// Says of each buffer, in order, where to write and how much there is room for.
    fn each_room(&mut self, name: &mut dyn FnMut(*mut u8, usize));
    /// Makes the first `len` bytes the content, as far as they reach: buffers behind them are empty.
    ///
    /// # Safety
    /// So many bytes of the rooms, in their order, are initialised.
    unsafe fn fill(&mut self, len: usize);

    /// Whether each has all the room that it is to have.
    #[doc(hidden)]
    fn have_room(&self) -> bool {
        true
    }
}

/// Makes the first bytes of a buffer its content, as far as `left` reaches, and takes them off.
///
/// # Safety
/// As for [`IoBufsMut::fill`], of this buffer.
unsafe fn fill_one<B: IoBufMut>(buf: &mut B, left: &mut usize) {
    let len = buf.capacity().min(*left);
    *left -= len;
    // SAFETY: the caller promises it.
    unsafe { buf.set_len(len) };
}

macro_rules! alike {
    ($([$($size:tt)*] $list:ty),*) => {$(
        // SAFETY: each buffer keeps its promise; the list does not change where they are.
        unsafe impl<B: IoBuf $($size)*> IoBufs for $list {
            fn each(&self, name: &mut dyn FnMut(*const u8, usize)) {
                self.iter().for_each(|buf| name(buf.as_ptr(), buf.len()));
            }

            fn are_whole(&self) -> bool {
                self.iter().all(IoBuf::is_whole)
            }
        }

        // SAFETY: as above.
        unsafe impl<B: IoBufMut $($size)*> IoBufsMut for $list {
            fn each_room(&mut self, name: &mut dyn FnMut(*mut u8, usize)) {
                self.iter_mut().for_each(|buf| name(buf.as_mut_ptr(), buf.capacity()));
            }

            unsafe fn fill(&mut self, mut len: usize) {
                // SAFETY: the caller promises it.
                self.iter_mut().for_each(|buf| unsafe { fill_one(buf, &mut len) });
            }

            fn have_room(&self) -> bool {
                self.iter().all(IoBufMut::has_room)
            }
        }
    )*};
}

alike!([] Vec<B>, [, const N: usize] [B; N]);

macro_rules! different {
    ($($buf:ident $at:tt),*) => {
        // SAFETY: as above.
        unsafe impl<$($buf: IoBuf),*> IoBufs for ($($buf,)*) {
            fn each(&self, name: &mut dyn FnMut(*const u8, usize)) {
                $(name(self.$at.as_ptr(), self.$at.len());)*
            }

            fn are_whole(&self) -> bool {
                true $(&& self.$at.is_whole())*
            }
        }

        // SAFETY: as above.
        unsafe impl<$($buf: IoBufMut),*> IoBufsMut for ($($buf,)*) {
            fn each_room(&mut self, name: &mut dyn FnMut(*mut u8, usize)) {
                $(name(self.$at.as_mut_ptr(), self.$at.capacity());)*
            }

            unsafe fn fill(&mut self, mut len: usize) {
                // SAFETY: the caller promises it.
                $(unsafe { fill_one(&mut self.$at, &mut len) };)*
            }

            fn have_room(&self) -> bool {
                true $(&& self.$at.has_room())*
            }
        }
    };
}

different!(A 0, B 1);
different!(A 0, B 1, C 2);
different!(A 0, B 1, C 2, D 3);

/// Buffers, and what the kernel is told about them.
struct Several<L> {
    pieces: Pieces,
    bufs: L,
}

impl Storage {
    /// Bytes to be sent, which lie in several buffers.
    pub(crate) fn several_to_send<L: IoBufs>(bufs: L, shelf: &Shelf) -> Storage {
        let are_whole = bufs.are_whole();
        let storage = Storage::several(bufs, shelf, |bufs, pieces| {
            bufs.each(&mut |address, len| pieces.push(address.cast_mut(), len));
        });
        storage.with_all(are_whole)
    }

    /// Room to be filled, in several buffers.
    pub(crate) fn several_to_fill<L: IoBufsMut>(bufs: L, shelf: &Shelf) -> Storage {
        let have_room = bufs.have_room();
        let storage = Storage::several(bufs, shelf, |bufs, pieces| {
            bufs.each_room(&mut |address, len| pieces.push(address, len));
        });
        storage.with_all(have_room)
    }

    fn several<L: 'static>(
        bufs: L,
        shelf: &Shelf,
        name: impl FnOnce(&mut L, &mut Pieces),
    ) -> Storage {
        let (mut place, nowhere) = (NonNull::dangling(), std::ptr::null_mut());
        let value = Several { pieces: Pieces::new(), bufs };
        let mut storage = Storage::new(value, shelf, |Several { pieces, bufs }| {
            name(bufs, pieces);
            let len = pieces.len();
            place = NonNull::from(pieces);
            (nowhere, len)
        });
        // SAFETY: that is where they are in the value.
        unsafe { storage.set_pieces(place) };
        storage
    }

    /// The header of what is left behind the first `done` bytes, to be lent to the kernel.
    pub(super) fn header_region(&mut self, done: usize) -> Region {
        let pieces = self.pieces();
        pieces.go_on_from(done);
        // SAFETY: the memory belongs to the value (the promise of `IoBufs`), as the pieces do, and the slot
        // keeps that, untouched, until the terminal completion.
        unsafe { pieces.header() }
    }

    /// The same without a header.
    pub(super) fn list_region(&mut self, done: usize) -> Region {
        let pieces = self.pieces();
        pieces.go_on_from(done);
        // SAFETY: as above.
        unsafe { pieces.list() }
    }

    /// Takes the buffers out, as they were.
    pub(crate) fn into_several<L: 'static>(self, shelf: &Shelf) -> L {
        self.into_inner::<Several<L>>(shelf).bufs
    }

    /// Takes the buffers out, with what was filled as their content.
    pub(crate) fn into_several_filled<L: IoBufsMut>(self, shelf: &Shelf) -> L {
        let filled = self.filled();
        let mut bufs: L = self.into_several(shelf);
        // SAFETY: so much was filled, one behind the other.
        unsafe { bufs.fill(filled) };
        bufs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_is_the_content_of_one_behind_the_other() {
        let shelf = Shelf::default();
        let bufs = [Vec::with_capacity(3), Vec::with_capacity(4), vec![7; 2]];
        let rooms = bufs.each_ref().map(|buf| buf.as_ptr().cast_mut());
        let mut storage = Storage::several_to_fill(bufs, &shelf);
        assert_eq!(storage.len(), 9);
        storage.list_region(0);
        // SAFETY: as the kernel does it: five bytes, in the rooms of the first two.
        unsafe {
            rooms[0].copy_from_nonoverlapping(b"abc".as_ptr(), 3);
            rooms[1].copy_from_nonoverlapping(b"de".as_ptr(), 2);
        }
        storage.fill(5);
        let [first, second, third]: [Vec<u8>; 3] = storage.into_several_filled(&shelf);
        assert_eq!((&first[..], &second[..], &third[..]), (&b"abc"[..], &b"de"[..], &b""[..]));
    }

    #[test]
    fn different_ones_come_back_as_they_were() {
        let shelf = Shelf::default();
        let storage = Storage::several_to_send(("head", vec![1, 2], [3_u8]), &shelf);
        assert_eq!(storage.len(), 7);
        let bufs: (&str, Vec<u8>, [u8; 1]) = storage.into_several(&shelf);
        assert_eq!(bufs, ("head", vec![1, 2], [3]));
    }
}
