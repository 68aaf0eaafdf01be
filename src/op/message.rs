//! Messages: bytes that are sent and received as a whole, and who they are for or from.

use std::ptr::NonNull;

use crate::ring::{Descriptor, Descriptors, Envelope, Opened, PAYLOAD, SockAddr};

use super::block::Storage;
use super::buf::{IoBuf, IoBufMut};
use super::pool::Chunk;
use super::shelf::Shelf;

/// A message that has arrived. It is moved about on its way, and an address is large: so whom it is from lies
/// where it lay, and is read for whoever asks.
pub(crate) struct Message {
    /// What the kernel has put before the bytes, if it has, and the bytes.
    buffer: Chunk,
    /// Where they begin.
    begin: usize,
    /// Of one that was received into memory of its own.
    from: Option<Box<SockAddr>>,
    /// How long it was when it was sent; what did not fit is lost.
    pub(crate) len: usize,
    /// It is several datagrams of this length, and what is left of them.
    pub(crate) segment: Option<u16>,
    /// Those that came with it, if there was room for any.
    pub(crate) descriptors: Descriptors,
}

/// A buffer, and what the kernel is told about it.
struct Enveloped<B> {
    envelope: Envelope,
    buf: B,
}

impl Message {
    /// What the kernel has put into a buffer of the pool.
    pub(crate) fn open(buffer: Chunk) -> Message {
        let Opened { len, segment } = Opened::read(&buffer);
        let descriptors = Descriptors::default();
        Message { buffer, begin: PAYLOAD, from: None, len, segment, descriptors }
    }

    /// What it has put into storage whose buffer somebody else gets.
    pub(super) fn copied(storage: &mut Storage, result: i32) -> Message {
        let from = Some(Box::new(storage.envelope().sender()));
        let len = usize::try_from(result).unwrap_or(0);
        let (bytes, descriptors) = (storage.copy_filled(), storage.take_descriptors());
        let segment = storage.envelope().segment();
        Message { buffer: Chunk::from_vec(bytes), begin: 0, from, len, segment, descriptors }
    }

    /// Who sent it.
    pub(crate) fn sender(&self) -> SockAddr {
        self.from.as_ref().map_or_else(|| Opened::sender(&self.buffer), |from| **from)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.begin..]
    }

    pub(crate) fn into_bytes(mut self) -> Chunk {
        self.buffer.advance(self.begin);
        self.buffer
    }
}

impl Storage {
    /// A message to be sent to this address.
    pub(crate) fn message_to_send<B: IoBuf>(buf: B, to: SockAddr, shelf: &Shelf) -> Storage {
        Storage::enveloped_to_send(Envelope::to(Some(to)), buf, shelf)
    }

    /// The same with descriptors, which stay open until the kernel has let go.
    pub(crate) fn message_with_descriptors<B: IoBuf>(
        buf: B,
        to: Option<SockAddr>,
        descriptors: Vec<Descriptor>,
        shelf: &Shelf,
    ) -> Storage {
        Storage::enveloped_to_send(Envelope::to(to).with_descriptors(descriptors), buf, shelf)
    }

    fn enveloped_to_send<B: IoBuf>(envelope: Envelope, buf: B, shelf: &Shelf) -> Storage {
        let is_whole = buf.is_whole();
        let memory = |buf: &mut B| (buf.as_ptr().cast_mut(), buf.len());
        Storage::enveloped(envelope, buf, shelf, memory).with_all(is_whole)
    }

    /// Room for a message.
    pub(crate) fn message_to_fill<B: IoBufMut>(buf: B, shelf: &Shelf) -> Storage {
        Storage::enveloped(Envelope::from_anybody(), buf, shelf, |buf| {
            (buf.as_mut_ptr(), buf.capacity())
        })
    }

    /// Room for a message and for what there may be beside it.
    pub(crate) fn message_and_control_to_fill<B: IoBufMut>(buf: B, shelf: &Shelf) -> Storage {
        let envelope = Envelope::from_anybody().with_room_for_control();
        Storage::enveloped(envelope, buf, shelf, |buf| (buf.as_mut_ptr(), buf.capacity()))
    }

    /// What tells the kernel that messages are received into buffers of its own choice, and for what there
    /// is room in them.
    pub(super) fn empty_message(segments: bool) -> Storage {
        let nowhere = |_: &mut ()| (std::ptr::null_mut(), 0);
        let envelope = if segments { Envelope::of_segments() } else { Envelope::from_anybody() };
        Storage::enveloped(envelope, (), &Shelf::default(), nowhere)
    }

    fn enveloped<B: 'static>(
        envelope: Envelope,
        buf: B,
        shelf: &Shelf,
        memory: impl FnOnce(&mut B) -> (*mut u8, usize),
    ) -> Storage {
        let mut place = NonNull::dangling();
        let mut storage = Storage::new(Enveloped { envelope, buf }, shelf, |message| {
            let memory = memory(&mut message.buf);
            place = NonNull::from(&mut message.envelope);
            memory
        });
        // SAFETY: that is where it is in the value, and the memory belongs to the buffer beside it.
        unsafe { storage.set_envelope(place) };
        storage
    }

    /// Takes the buffer of a message out, as it was; also of one that is nothing but bytes.
    pub(crate) fn into_message_buf<B: 'static>(self, shelf: &Shelf) -> B {
        match self.is_message() {
            true => self.into_inner::<Enveloped<B>>(shelf).buf,
            false => self.into_inner(shelf),
        }
    }

    /// Takes the buffer of a message out, with the message as its content.
    pub(crate) fn into_message<B: IoBufMut>(self, shelf: &Shelf) -> B {
        let filled = self.filled();
        let mut buf: B = self.into_message_buf(shelf);
        // SAFETY: as in `into_filled`.
        unsafe { buf.set_len(filled) };
        buf
    }

    /// Who sent the message in it.
    pub(crate) fn sender(&self) -> SockAddr {
        self.envelope().sender()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_of_a_message_stays_beside_its_envelope_and_comes_back() {
        let shelf = Shelf::default();
        let mut sent = Storage::message_to_send([1_u8, 2, 3], SockAddr::NONE, &shelf);
        let bytes = sent.region(0);
        let moved = Box::new(sent);
        // SAFETY: inside the array, which stays where it is.
        assert_eq!(unsafe { bytes.address().add(2).read() }, 3);
        assert_eq!(moved.into_message_buf::<[u8; 3]>(&shelf), [1, 2, 3]);

        let mut room = Storage::message_to_fill(Vec::with_capacity(8), &shelf);
        assert_eq!(room.append(b"message, and more"), 8);
        assert_eq!(room.into_message::<Vec<u8>>(&shelf), b"message,");
    }
}
