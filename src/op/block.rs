//! The storage of one operation: heap held by raw pointer.

use std::any::TypeId;
use std::io;
use std::ptr::NonNull;

use crate::ring::{Descriptors, Entry, Envelope, Host, Pieces, Region, SockAddr};

use super::buf::{IoBuf, IoBufMut, check_whole};
use super::fd::Ends;
use super::names::Names;
use super::shelf::Shelf;

/// A buffer (or an address) that does not move until it is taken out, and what the kernel is told
/// about it.
///
/// It is held by raw pointer and not in a `Box`, because moving a `Box` claims to be the only one
/// who has a pointer into it, and while an operation is in flight the kernel has one too. Whatever
/// the value is, this is one word.
pub(crate) struct Storage {
    block: NonNull<Header>,
}

/// What lies before the value.
struct Header {
    value: TypeId,
    /// Frees the whole block.
    free: unsafe fn(NonNull<Header>),
    /// The memory that the kernel reads or writes: in the value or owned by it.
    start: *mut u8,
    len: usize,
    /// Bytes of it that were written by the kernel or by `append`, from its start on. Only
    /// completions and `append` raise it, so the memory is initialised up to here.
    filled: usize,
    /// What tells the kernel about a message, in the value.
    envelope: Option<NonNull<Envelope>>,
    /// What tells it where the memory lies if that is in several places, in the value. Then it has no start.
    pieces: Option<NonNull<Pieces>>,
    /// Some of the memory that was meant is none of the value.
    short: bool,
}

#[repr(C)]
struct Block<S> {
    header: Header,
    value: S,
}

/// An entry, and what it points to.
struct Raw<K> {
    entry: Entry,
    keep: K,
}

impl Storage {
    /// Bytes to be sent.
    #[inline]
    pub(crate) fn to_send<B: IoBuf>(buf: B, shelf: &Shelf) -> Storage {
        let is_whole = buf.is_whole();
        Storage::new(buf, shelf, |buf| (buf.as_ptr().cast_mut(), buf.len())).with_all(is_whole)
    }

    /// Room to be filled.
    #[inline]
    pub(crate) fn to_fill<B: IoBufMut>(buf: B, shelf: &Shelf) -> Storage {
        Storage::new(buf, shelf, |buf| (buf.as_mut_ptr(), buf.capacity()))
    }

    pub(crate) fn address(address: SockAddr) -> Storage {
        Storage::new(address, &Shelf::default(), |address| (address.as_mut_ptr(), address.len()))
    }

    /// Paths, and what lies beside them.
    pub(super) fn of_names(names: Names, shelf: &Shelf) -> Storage {
        Storage::new(names, shelf, Names::memory)
    }

    /// What is to be dropped when an operation has ended.
    pub(super) fn keep<K: 'static>(keep: K) -> Storage {
        Storage::new(keep, &Shelf::default(), |_| (std::ptr::null_mut(), 0))
    }

    /// A pipe that is kept, and how many bytes are to be moved out of it.
    pub(crate) fn piped(pipe: Ends, len: usize) -> Storage {
        Storage::new(pipe, &Shelf::default(), |_| (std::ptr::null_mut(), len))
    }

    /// What an operation is to find where it is, with the entry that was made of it there.
    pub(super) fn raw<K: 'static>(keep: K, entry: impl FnOnce(&mut K) -> Entry) -> Storage {
        let raw = Raw { entry: Entry::default(), keep };
        Storage::new(raw, &Shelf::default(), |raw| {
            raw.entry = entry(&mut raw.keep);
            ((&raw mut raw.entry).cast(), size_of::<Entry>())
        })
    }

    /// Takes out what was kept beside an entry.
    pub(crate) fn into_kept<K: 'static>(self) -> K {
        self.into_inner::<Raw<K>>(&Shelf::default()).keep
    }

    /// The memory is asked for once, when the value is where it is to stay.
    #[inline]
    pub(super) fn new<S: 'static>(
        value: S,
        shelf: &Shelf,
        memory: impl FnOnce(&mut S) -> (*mut u8, usize),
    ) -> Storage {
        let (value_type, start) = (TypeId::of::<S>(), std::ptr::null_mut());
        let free = free::<S>;
        let (envelope, pieces, short) = (None, None, false);
        let (len, filled) = (0, 0);
        let header =
            Header { value: value_type, free, start, len, filled, envelope, pieces, short };
        let mut block = shelf.take::<Block<S>>();
        // SAFETY: memory for it, which nobody else has.
        unsafe {
            block.write(Block { header, value });
        }
        // From here on the value is dropped also if asking for its memory panics.
        let mut storage = Storage { block: block.cast() };
        // SAFETY: written above; nobody else has a pointer to it yet.
        let (start, len) = memory(unsafe { &mut block.as_mut().value });
        let header = storage.header_mut();
        (header.start, header.len) = (start, len);
        storage
    }

    fn header(&self) -> &Header {
        // SAFETY: alive as long as this is; the kernel knows the memory, not the header.
        unsafe { self.block.as_ref() }
    }

    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as above.
        unsafe { self.block.as_mut() }
    }

    /// Says whether it has all the memory that was meant.
    #[inline]
    pub(super) fn with_all(mut self, is_whole: bool) -> Storage {
        if !is_whole {
            self.header_mut().short = true;
        }
        self
    }

    /// Refuses what has not.
    #[inline]
    pub(crate) fn check_whole(&self) -> io::Result<()> {
        check_whole(!self.header().short)
    }

    /// Bytes of memory.
    pub(crate) fn len(&self) -> usize {
        self.header().len
    }

    pub(crate) fn filled(&self) -> usize {
        self.header().filled
    }

    /// How much is not filled.
    pub(crate) fn room(&self) -> usize {
        self.len() - self.filled()
    }

    /// The memory from byte `from` on, to be lent to the kernel.
    #[inline]
    pub(super) fn region(&mut self, from: usize) -> Region {
        let &mut Header { start, len, .. } = self.header_mut();
        assert!(from <= len, "byte {from} of {len}");
        // SAFETY: the memory belongs to the value (the promise of `IoBuf`), which the slot keeps,
        // untouched, until the terminal completion. A send does not write.
        unsafe { Region::new(start.add(from), len - from) }
    }

    /// The kernel has written so many bytes behind what was filled.
    pub(super) fn fill(&mut self, count: usize) {
        self.header_mut().filled += count;
    }

    /// Has an envelope that lies in the value tell the kernel about the memory.
    ///
    /// # Safety
    /// The envelope is a part of the value, and the memory is none of it.
    pub(super) unsafe fn set_envelope(&mut self, envelope: NonNull<Envelope>) {
        let Header { start, len, .. } = *self.header();
        // SAFETY: the value does not move until it is taken out.
        unsafe { Envelope::link(envelope.as_ptr(), start, len) };
        self.header_mut().envelope = Some(envelope);
    }

    /// The envelope, to be lent to the kernel with the memory.
    pub(super) fn envelope_region(&mut self) -> Region {
        let envelope = self.header().envelope.expect("a message has an envelope");
        // SAFETY: it belongs to the value, as the memory does (see `region`).
        unsafe { Region::new(envelope.as_ptr().cast(), size_of::<Envelope>()) }
    }

    /// The envelope. The kernel has let go.
    pub(super) fn envelope(&self) -> &Envelope {
        let envelope = self.header().envelope.expect("a message has an envelope");
        // SAFETY: it lies in the value; nobody else writes it (`copy_filled` reads under the same promise).
        unsafe { envelope.as_ref() }
    }

    /// Whether it is a message.
    #[inline]
    pub(crate) fn is_message(&self) -> bool {
        self.header().envelope.is_some()
    }

    /// The envelope, to be changed. The kernel has let go.
    fn envelope_mut(&mut self) -> &mut Envelope {
        let mut envelope = self.header().envelope.expect("a message has an envelope");
        // SAFETY: as above; whoever has the storage alone has the value alone.
        unsafe { envelope.as_mut() }
    }

    /// The receive of a message has ended. The descriptors that came are ours: they are closed with the storage,
    /// unless they are taken out (rule D7).
    #[cold]
    pub(super) fn end_receive(&mut self, result: i32, host: &Host) {
        let Ok(len) = usize::try_from(result) else { return };
        // It may have been longer than the room.
        self.fill(len.min(self.room()));
        self.envelope_mut().own_descriptors(host);
    }

    /// A message was sent: the kernel has let go of its descriptors, however long the rest is kept.
    #[cold]
    pub(super) fn end_send(&mut self) {
        drop(self.take_descriptors());
    }

    /// Takes the descriptors of a message out; of what is none there are none.
    pub(crate) fn take_descriptors(&mut self) -> Descriptors {
        if self.is_message() {
            self.envelope_mut().take_descriptors()
        } else {
            Descriptors::default()
        }
    }

    /// Says that the memory lies in several places.
    ///
    /// # Safety
    /// The pieces are a part of the value, which has no memory else.
    pub(super) unsafe fn set_pieces(&mut self, pieces: NonNull<Pieces>) {
        self.header_mut().pieces = Some(pieces);
    }

    /// Where the memory lies. The kernel does not have it.
    pub(super) fn pieces(&mut self) -> &mut Pieces {
        let mut pieces = self.header().pieces.expect("it lies in several places");
        // SAFETY: they lie in the value, which is ours alone while nothing is in flight: storage that is not
        // inside a slot is not known to the kernel.
        unsafe { pieces.as_mut() }
    }

    /// Copies bytes behind what is filled, as many as fit, and says how many.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        let Header { start, filled, .. } = self.header_mut();
        // SAFETY: `count` bytes of room from `filled` on, in memory that is the value's alone:
        // storage that is not inside a slot is not known to the kernel.
        unsafe { start.add(*filled).copy_from_nonoverlapping(bytes.as_ptr(), count) };
        *filled += count;
        count
    }

    /// The bytes that are filled, copied out. The kernel has let go.
    pub(crate) fn copy_filled(&self) -> Vec<u8> {
        let &Header { start, filled, .. } = self.header();
        // SAFETY: the first `filled` bytes are initialised.
        unsafe { std::slice::from_raw_parts(start, filled) }.to_vec()
    }

    /// Takes the value out. The kernel has let go: storage comes out of the table only then.
    #[inline(always)]
    pub(crate) fn into_inner<S: 'static>(self, shelf: &Shelf) -> S {
        assert!(self.header().value == TypeId::of::<S>(), "an operation finds what it put in");
        let block = self.block;
        std::mem::forget(self);
        // SAFETY: the type was compared, and what is forgotten does not free it again.
        unsafe { take_apart(block, shelf) }
    }

    /// Takes the buffer out, with what was filled as its content.
    pub(crate) fn into_filled<B: IoBufMut>(self, shelf: &Shelf) -> B {
        let filled = self.filled();
        let mut buf: B = self.into_inner(shelf);
        // SAFETY: the first `filled` bytes are initialised, and they were within the capacity.
        unsafe { buf.set_len(filled) };
        buf
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let free = self.header().free;
        // SAFETY: `free` is for the type that the block was made of, and it was not taken out.
        unsafe { free(self.block) };
    }
}

/// Moves the value out and gives the memory back.
///
/// # Safety
/// The header is that of a `Block<S>` made by [`Storage::new`], which nobody uses any more.
#[inline]
unsafe fn take_apart<S>(block: NonNull<Header>, shelf: &Shelf) -> S {
    let block = block.cast::<Block<S>>();
    // SAFETY: the caller promises it. A header has nothing to drop.
    unsafe {
        let Block { value, .. } = block.read();
        shelf.put(block);
        value
    }
}

/// # Safety
/// As for [`take_apart`].
unsafe fn free<S>(block: NonNull<Header>) {
    // SAFETY: the caller promises it.
    drop::<S>(unsafe { take_apart(block, &Shelf::default()) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_stays_where_it_is_while_the_storage_moves() {
        let mut storage = Storage::to_send([1_u8, 2, 3], &Shelf::default());
        let inside = storage.region(1);
        let moved = Box::new(storage);
        // SAFETY: inside the array, which the block keeps at its place.
        assert_eq!(unsafe { inside.address().read() }, 2);
        assert_eq!(moved.into_inner::<[u8; 3]>(&Shelf::default()), [1, 2, 3]);
    }

    #[test]
    fn what_the_kernel_and_we_have_written_is_the_content() {
        let mut storage = Storage::to_fill(Vec::with_capacity(8), &Shelf::default());
        assert_eq!(storage.append(b"ab"), 2);
        let rest = storage.region(storage.filled());
        // SAFETY: inside the room of the vector.
        unsafe { rest.address().copy_from_nonoverlapping(b"cd".as_ptr(), 2) };
        storage.fill(2);
        assert_eq!(storage.append(b"efghij"), 4, "there is no more room");
        assert_eq!(storage.copy_filled(), b"abcdefgh");
        assert_eq!(storage.into_filled::<Vec<u8>>(&Shelf::default()), b"abcdefgh");
    }

    #[test]
    fn dropping_it_drops_the_value() {
        let dropped = std::rc::Rc::<[u8]>::from(*b"bytes");
        drop(Storage::to_send(std::rc::Rc::clone(&dropped), &Shelf::default()));
        assert_eq!(std::rc::Rc::strong_count(&dropped), 1);
    }

    #[test]
    fn an_entry_is_made_of_what_is_where_it_stays() {
        let mut storage = Storage::raw([7_u8, 8], |kept| {
            let (addr, len) = (kept.as_mut_ptr() as u64, kept.len() as u32);
            Entry { addr, len, ..Entry::default() }
        });
        let region = storage.region(0);
        let moved = Box::new(storage);
        // SAFETY: as the kernel does it: the entry lies there, and what it points to.
        unsafe {
            let entry = region.address().cast::<Entry>().read();
            let kept = std::ptr::with_exposed_provenance_mut::<u8>(entry.addr as usize);
            kept.write(kept.add(1).read() + entry.len as u8);
        }
        assert_eq!(moved.into_kept::<[u8; 2]>(), [10, 8]);
    }

    #[test]
    #[should_panic(expected = "finds what it put in")]
    fn it_is_not_taken_for_something_else() {
        let shelf = Shelf::default();
        let _ = Storage::to_send("text", &shelf).into_inner::<String>(&shelf);
    }
}
