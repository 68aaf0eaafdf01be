//! Messages in the form that the kernel reads: whom one goes to or comes from, and where its bytes lie.

use std::ptr;

use super::address::SockAddr;
use super::control::{self, Control, Descriptors, ROOM_FOR_SEGMENT};
use super::host::{Descriptor, Host};

/// What `sendmsg` and `recvmsg` are told, at a place of its own. It points into itself once it is
/// [linked](Envelope::link), and must not be moved from then on until the kernel has let go.
#[repr(C)]
pub(crate) struct Envelope {
    header: libc::msghdr,
    bytes: libc::iovec,
    name: SockAddr,
    /// Rare, and large.
    control: Option<Box<Control>>,
}

impl Envelope {
    /// For what is sent: to this address, or, by a socket that is connected, to its peer.
    pub(crate) fn to(name: Option<SockAddr>) -> Envelope {
        Envelope::new(name.unwrap_or(SockAddr::NONE))
    }

    /// For what is received. Who sent it is written here.
    pub(crate) fn from_anybody() -> Envelope {
        Envelope::new(SockAddr::with_room(NAME_ROOM))
    }

    /// For datagrams of the internet that are received into buffers of the kernel's choice: behind the name
    /// is room for how long each is of those that were put together.
    pub(crate) fn of_segments() -> Envelope {
        let mut envelope = Envelope::new(SockAddr::with_room(NAME_ROOM - ROOM_FOR_SEGMENT));
        envelope.header.msg_controllen = ROOM_FOR_SEGMENT;
        envelope
    }

    fn new(name: SockAddr) -> Envelope {
        // SAFETY: all zeros is a valid header: no name, no bytes, nothing beside them.
        let header = unsafe { std::mem::zeroed() };
        let bytes = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Envelope { header, bytes, name, control: None }
    }

    /// Sends these descriptors too, which stay open as long as the envelope.
    pub(crate) fn with_descriptors(self, descriptors: Vec<Descriptor>) -> Envelope {
        Envelope { control: Some(Box::new(Control::to_send(descriptors))), ..self }
    }

    /// Has room for what there may be beside the bytes.
    pub(crate) fn with_room_for_control(self) -> Envelope {
        Envelope { control: Some(Box::new(Control::to_fill())), ..self }
    }

    /// Has the header point to the name, and to the bytes of the message.
    ///
    /// # Safety
    /// The envelope may be written, and stays at this place.
    pub(crate) unsafe fn link(this: *mut Envelope, address: *mut u8, len: usize) {
        // SAFETY: the caller promises it. No reference is made, which would exclude the pointers.
        unsafe {
            (*this).bytes = libc::iovec { iov_base: address.cast(), iov_len: len };
            let name_len = (*this).name.len();
            (*this).header.msg_iov = &raw mut (*this).bytes;
            (*this).header.msg_iovlen = 1;
            if name_len > 0 {
                (*this).header.msg_name = (&raw mut (*this).name).cast();
                (*this).header.msg_namelen = name_len as libc::socklen_t;
            }
            if let Some(control) = &mut (*this).control {
                (*this).header.msg_control = control.as_mut_ptr().cast();
                (*this).header.msg_controllen = control.len;
            }
        }
    }

    /// The bytes of a linked envelope, and whom they go to (nobody: null), if there is nothing beside them.
    pub(super) fn plain(&self) -> Option<Plain> {
        let libc::msghdr { msg_name, msg_namelen, msg_controllen, .. } = self.header;
        let len = u32::try_from(self.bytes.iov_len).ok().filter(|_| msg_controllen == 0)?;
        Some(Plain {
            bytes: self.bytes.iov_base.cast(),
            len,
            to: msg_name.cast(),
            to_len: msg_namelen,
        })
    }

    /// Who sent what has been received.
    pub(crate) fn sender(&self) -> SockAddr {
        self.name.cut(self.header.msg_namelen as usize)
    }

    /// The length of each of the datagrams that were put together.
    pub(crate) fn segment(&self) -> Option<u16> {
        self.control.as_ref().and_then(|control| control.segment)
    }

    /// A message has come: the descriptors with it are ours from now on. To be called once for each.
    pub(crate) fn own_descriptors(&mut self, host: &Host) {
        if let Some(control) = &mut self.control {
            let lost = self.header.msg_flags & libc::MSG_CTRUNC != 0;
            control.own(self.header.msg_controllen, lost, host);
        }
    }

    /// Takes the descriptors out.
    pub(crate) fn take_descriptors(&mut self) -> Descriptors {
        let control = self.control.as_mut();
        control.map(|control| std::mem::take(&mut control.descriptors)).unwrap_or_default()
    }
}

/// A message as a plain send is told of it.
pub(super) struct Plain {
    pub(super) bytes: *const u8,
    pub(super) len: u32,
    pub(super) to: *const libc::sockaddr,
    pub(super) to_len: libc::socklen_t,
}

/// Bytes for the name of a sender, of whatever family: as many as make the bytes of a message begin on
/// a line of the processor's cache, behind the [`Head`] and the name.
const NAME_ROOM: usize = 112;

/// Where the bytes of a message begin in a buffer that the kernel picked for it.
pub(crate) const PAYLOAD: usize = size_of::<Head>() + NAME_ROOM;

/// What the kernel puts at the front of such a buffer (`struct io_uring_recvmsg_out`); the name is next.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) name_len: u32,
    pub(super) control_len: u32,
    pub(super) payload_len: u32,
    pub(super) flags: u32,
}

impl Head {
    fn of(buffer: &[u8]) -> Head {
        Head::read(buffer).expect("the kernel begins a message with its head")
    }

    fn read(buffer: &[u8]) -> Option<Head> {
        let word = |at: usize| Some(u32::from_ne_bytes(*buffer.get(at..)?.first_chunk()?));
        let (name_len, control_len) = (word(0)?, word(4)?);
        Some(Head { name_len, control_len, payload_len: word(8)?, flags: word(12)? })
    }

    #[cfg(feature = "testing")]
    pub(super) fn bytes(self) -> [u8; size_of::<Head>()] {
        let mut bytes = [0; size_of::<Head>()];
        let words = [self.name_len, self.control_len, self.payload_len, self.flags];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// Where control data begins, if there was room for it.
pub(super) const CONTROL: usize = PAYLOAD - ROOM_FOR_SEGMENT;

/// What lies before the bytes of a message in such a buffer.
pub(crate) struct Opened {
    /// How long the message was before it was put there.
    pub(crate) len: usize,
    /// The length of each of the datagrams that were put together.
    pub(crate) segment: Option<u16>,
}

impl Opened {
    pub(crate) fn read(buffer: &[u8]) -> Opened {
        let head = Head::of(buffer);
        let segment = match head.control_len {
            0 => None,
            _ => control::segment(&buffer[CONTROL..PAYLOAD]),
        };
        Opened { len: head.payload_len as usize, segment }
    }

    /// Who sent it.
    pub(crate) fn sender(buffer: &[u8]) -> SockAddr {
        let name = &buffer[size_of::<Head>()..PAYLOAD];
        SockAddr::from_bytes(&name[..(Head::of(buffer).name_len as usize).min(NAME_ROOM)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn a_linked_envelope_points_to_its_own_parts() {
        let to: SocketAddr = "127.0.0.1:7".parse().unwrap();
        let mut envelope = Envelope::to(Some(to.into()));
        let mut bytes = [1, 2, 3];
        let place = &raw mut envelope;
        // SAFETY: it stays where it is.
        unsafe { Envelope::link(place, bytes.as_mut_ptr(), bytes.len()) };
        // SAFETY: linked, and not moved.
        let (name, piece) = unsafe { ((*place).header.msg_name, *(*place).header.msg_iov) };
        assert_eq!(name.addr(), place.addr() + std::mem::offset_of!(Envelope, name));
        assert_eq!((piece.iov_base.cast(), piece.iov_len), (bytes.as_mut_ptr(), 3));
        assert_eq!(SocketAddr::try_from(envelope.sender()).unwrap(), to);
    }

    #[test]
    fn without_an_address_there_is_no_name() {
        let mut envelope = Envelope::to(None);
        // SAFETY: as above.
        unsafe { Envelope::link(&raw mut envelope, ptr::null_mut(), 0) };
        assert!(envelope.header.msg_name.is_null());
        assert_eq!(envelope.header.msg_namelen, 0);
    }
}
