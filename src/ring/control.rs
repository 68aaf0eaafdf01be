//! What goes with the bytes of a message and is none of them: descriptors, and how long the datagrams are that
//! the kernel has put together.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::host::{Descriptor, Host};

/// How many descriptors one message may have (`SCM_MAX_FD`).
pub(super) const MOST_DESCRIPTORS: usize = 253;

/// Descriptors that are sent, until the kernel has let go, or that have come; and what the kernel reads and
/// writes about them.
pub(super) struct Control {
    room: Room,
    /// How much of it is lent.
    pub(super) len: usize,
    pub(super) descriptors: Descriptors,
    /// Of datagrams that were put together.
    pub(super) segment: Option<u16>,
}

/// Descriptors that have come with a message, or go with one. They are closed with this.
#[derive(Default)]
pub(crate) struct Descriptors {
    list: Vec<Descriptor>,
    /// There were more, which could not be opened here.
    lost: bool,
}

impl Descriptors {
    /// All of them, or none.
    pub(crate) fn all(self) -> io::Result<Vec<Descriptor>> {
        if self.lost {
            let text = "not all descriptors that came with the bytes could be opened: there are too many \
                        already (EMFILE, ENFILE); those that could are closed again";
            return Err(io::Error::other(text));
        }
        Ok(self.list)
    }
}

/// `struct cmsghdr`, aligned, and what it announces; again and again.
#[repr(C, align(8))]
struct Room([u8; ROOM]);

/// All the descriptors that there can be, and what the kernel puts there if the socket was told to get it:
/// who sends (`SCM_CREDENTIALS`).
const ROOM: usize = space_of(MOST_DESCRIPTORS * size_of::<RawFd>()) + space_of(12);

const HEADER: usize = size_of::<libc::cmsghdr>();

const fn space_of(bytes: usize) -> usize {
    (HEADER + bytes).next_multiple_of(size_of::<usize>())
}

impl Control {
    /// Sends these. They stay open until this is dropped.
    pub(super) fn to_send(descriptors: Vec<Descriptor>) -> Control {
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let mut room = Room([0; ROOM]);
        let len = encode(&numbers, &mut room.0);
        let descriptors = Descriptors { list: descriptors, lost: false };
        Control { room, len, descriptors, segment: None }
    }

    /// Room for whatever comes.
    pub(super) fn to_fill() -> Control {
        let descriptors = Descriptors::default();
        Control { room: Room([0; ROOM]), len: ROOM, descriptors, segment: None }
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.room.0.as_mut_ptr()
    }

    /// Reads what has come, in the first `len` bytes, and owns the descriptors.
    pub(super) fn own(&mut self, len: usize, lost: bool, host: &Host) {
        let told = &self.room.0[..len.min(ROOM)];
        self.segment = segment(told);
        let came = decode(told);
        // SAFETY: the kernel has just made these descriptors for us; this is asked for once a message.
        let list = came.into_iter().map(|raw| unsafe { host.own(raw) }).collect();
        // Of whoever sent it, if the socket was told so elsewhere.
        // SAFETY: as above.
        all(PIDFD, told).for_each(|raw| drop(unsafe { host.own(raw) }));
        self.descriptors = Descriptors { list, lost };
    }
}

/// What a piece of control data says, by its level and its type.
type Kind = (libc::c_int, libc::c_int);

const RIGHTS: Kind = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
/// `SCM_PIDFD`.
const PIDFD: Kind = (libc::SOL_SOCKET, 4);
const SEGMENT: Kind = (libc::SOL_UDP, libc::UDP_GRO);

/// Writes what the kernel reads of these descriptors, or tells about them, and says how long it is.
pub(super) fn encode(numbers: &[RawFd], into: &mut [u8]) -> usize {
    if numbers.is_empty() { 0 } else { write(RIGHTS, numbers, into) }
}

/// The descriptors in what the kernel reads or has told; the rest of that is passed over.
pub(super) fn decode(control: &[u8]) -> Vec<RawFd> {
    all(RIGHTS, control).collect()
}

/// The numbers in all pieces of a kind.
fn all(kind: Kind, control: &[u8]) -> impl Iterator<Item = libc::c_int> {
    let those = pieces(control).filter(move |(other, _)| *other == kind);
    those.flat_map(|(_, data)| data.chunks_exact(4).filter_map(number))
}

/// Writes what the kernel tells of datagrams that it has put together, and says how long it is.
#[cfg(feature = "testing")]
pub(super) fn encode_segment(size: u16, into: &mut [u8]) -> usize {
    write(SEGMENT, &[size.into()], into)
}

/// The length of each of the datagrams that the kernel has put together; `None`: it is one.
pub(super) fn segment(control: &[u8]) -> Option<u16> {
    let (_, data) = pieces(control).find(|(kind, _)| *kind == SEGMENT)?;
    number(data)?.try_into().ok()
}

/// What [`segment`] needs.
pub(super) const ROOM_FOR_SEGMENT: usize = space_of(4);

fn write((level, what): Kind, words: &[libc::c_int], into: &mut [u8]) -> usize {
    let (header, data) = into.split_at_mut(HEADER);
    header[..SIZE].copy_from_slice(&(HEADER + size_of_val(words)).to_ne_bytes());
    header[SIZE..SIZE + 4].copy_from_slice(&level.to_ne_bytes());
    header[SIZE + 4..SIZE + 8].copy_from_slice(&what.to_ne_bytes());
    for (place, word) in data.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    space_of(size_of_val(words))
}

/// All the pieces there are.
fn pieces(mut control: &[u8]) -> impl Iterator<Item = (Kind, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from_ne_bytes(*control.first_chunk()?);
        let data = control.get(HEADER..len)?;
        let kind = (number(&control[SIZE..])?, number(&control[SIZE + 4..])?);
        control = control.get(space_of(data.len())..).unwrap_or_default();
        Some((kind, data))
    })
}

/// The first of these bytes as a number.
fn number(bytes: &[u8]) -> Option<libc::c_int> {
    bytes.first_chunk().map(|word| libc::c_int::from_ne_bytes(*word))
}

/// The bytes of a length in C.
const SIZE: usize = size_of::<usize>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_survive_the_way_to_the_kernels_form_and_back() {
        let mut room = [0; 128];
        let len = encode(&[7, 8, 9], &mut room);
        assert_eq!((len, decode(&room[..len])), (32, vec![7, 8, 9]));
        let more = len + encode(&[10], &mut room[len..]);
        assert_eq!(decode(&room[..more]), [7, 8, 9, 10]);
        assert_eq!(decode(&room), [7, 8, 9, 10], "zeros are the end");
    }

    #[test]
    fn what_is_none_is_passed_over() {
        let mut room = [0; 128];
        let len = encode(&[7], &mut room);
        // Credentials.
        room[SIZE + 4..SIZE + 8].copy_from_slice(&2_i32.to_ne_bytes());
        let more = len + encode(&[8], &mut room[len..]);
        assert_eq!(decode(&room[..more]), [8]);
        assert_eq!(decode(&room[..len + 3]), [], "cut in the middle of a header");
        assert_eq!(segment(&room), None);
    }

    #[test]
    fn a_length_of_datagrams_is_found() {
        let mut room = [0; 64];
        let len = encode(&[7], &mut room);
        let more = len + write(SEGMENT, &[1400], &mut room[len..]);
        assert_eq!((segment(&room[..more]), more - len), (Some(1400), ROOM_FOR_SEGMENT));
    }
}
