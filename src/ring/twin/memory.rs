//! How the kernel touches memory that it was lent.
//!
//! All of it is here, and all of it goes through the raw pointers that a real kernel would get. Whoever
//! makes a [`Region`] promises that its memory stays until the terminal completion; these functions are
//! called from the push until then, so an interpreter that checks pointers checks the promise.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::ptr;

use super::super::address::SockAddr;
use super::super::control::{self, MOST_DESCRIPTORS};
use super::super::message::{CONTROL, Head, PAYLOAD};
use super::super::pieces;
use super::super::request::Region;

/// Copies `bytes` to the region, `at` bytes from its start.
pub(super) fn write(region: Region, at: usize, bytes: &[u8]) {
    assert!(at + bytes.len() <= region.len() as usize, "the twin writes behind a region");
    // SAFETY: within the region, which its maker lets us write until the terminal completion; it does
    // not overlap with memory of our own.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), region.address().add(at), bytes.len()) };
}

/// The bytes of a region that is sent from, from `at` on, at most `most`.
///
/// The slice must be gone before anybody else's code runs.
pub(super) fn read<'a>(region: Region, at: usize, most: usize) -> &'a [u8] {
    let len = (region.len() as usize).saturating_sub(at).min(most);
    if len == 0 {
        return &[];
    }
    // SAFETY: within the region, whose maker promised that it is initialised where it is sent from, and
    // that nobody writes it until the terminal completion. The slice does not live that long: callers
    // copy from it and let go.
    unsafe { std::slice::from_raw_parts(region.address().add(at), len) }
}

/// A number that changes if the memory does.
pub(super) fn fingerprint(region: Region) -> u64 {
    let bytes = read(region, 0, usize::MAX);
    let blocks = bytes.chunks_exact(32);
    let mut last = [0; 32];
    last[..blocks.remainder().len()].copy_from_slice(blocks.remainder());
    // Four sums side by side, since one multiplication need not wait for another then.
    let mut sums = [1_u64, 2, 3, 4];
    for block in blocks.chain([&last[..]]) {
        for (sum, word) in sums.iter_mut().zip(block.chunks_exact(8)) {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            *sum = (*sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
    }
    sums.into_iter().fold(0, |all, sum| all.rotate_left(17) ^ sum)
}

/// Fills the region with nonsense, in places: what lies in it before the completion means nothing.
pub(super) fn scribble(region: Region, byte: u8) {
    let len = region.len() as usize;
    let most = SCRIBBLED.min(len);
    // SAFETY: the start and the end of a region that its maker lets us write.
    unsafe {
        ptr::write_bytes(region.address(), byte, most);
        ptr::write_bytes(region.address().add(len - most), byte, most);
    }
}

const SCRIBBLED: usize = 64;

/// Writes what is there over itself: at the terminal completion the memory must still be ours.
pub(super) fn rewrite(region: Region) {
    let Some(last) = (region.len() as usize).checked_sub(1) else { return };
    for at in [0, last] {
        // SAFETY: within the region, which is still ours to write. It may not be initialised, and need
        // not be for a copy as `MaybeUninit`.
        unsafe {
            let place = region.address().cast::<MaybeUninit<u8>>().add(at);
            place.write(place.read());
        }
    }
}

/// The path in the region: what comes before a zero byte.
pub(super) fn read_path(region: Region) -> Vec<u8> {
    let bytes = read(region, 0, usize::MAX);
    let end = bytes.iter().position(|byte| *byte == 0).expect("a path ends with a zero byte");
    bytes[..end].to_vec()
}

/// Two paths, the second of which begins at byte `second`.
pub(super) fn read_two_paths(region: Region, second: u32) -> (Vec<u8>, Vec<u8>) {
    (read_path(region), read_path(region.after(second)))
}

/// So many bytes, and the path behind them.
pub(super) fn read_split(region: Region, at: usize) -> (Vec<u8>, Vec<u8>) {
    (read(region, 0, at).to_vec(), read_path(region.after(at as u32)))
}

/// The list of pieces that a header points to.
pub(super) fn list_of(header: Region) -> Region {
    // SAFETY: a request names the header of pieces.
    unsafe { pieces::list_of(header) }
}

/// The pieces of memory that a list names.
fn pieces_of(list: Region) -> impl Iterator<Item = Region> {
    // SAFETY: a request names a list of pieces.
    (0..).map_while(move |number| unsafe { pieces::piece_of(list, number) })
}

/// The first piece stands for all of them where the memory is looked at.
pub(super) fn first_of(list: Region) -> Option<Region> {
    pieces_of(list).next()
}

/// How much fits into the pieces.
pub(super) fn room(list: Region) -> usize {
    pieces_of(list).map(|piece| piece.len() as usize).sum()
}

/// What lies in the pieces from byte `at` on.
pub(super) fn gather(list: Region, mut at: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces_of(list) {
        bytes.extend_from_slice(read(piece, at, usize::MAX));
        at = at.saturating_sub(piece.len() as usize);
    }
    bytes
}

/// Copies bytes into the pieces, one behind the other.
pub(super) fn scatter(list: Region, mut bytes: &[u8]) {
    for piece in pieces_of(list) {
        let (here, rest) = bytes.split_at(bytes.len().min(piece.len() as usize));
        write(piece, 0, here);
        bytes = rest;
    }
}

/// The bytes of a message, whose `msghdr` lies in the region.
pub(super) fn message_bytes(message: Region) -> Region {
    let header = message.address().cast::<libc::msghdr>();
    // SAFETY: the maker of the region promised that a header lies there, which points to one piece of
    // memory under the same promise.
    unsafe {
        let piece = (*header).msg_iov.read();
        Region::new(piece.iov_base.cast(), piece.iov_len)
    }
}

/// The address that a message is for, if it names one.
pub(super) fn message_address(message: Region) -> Option<SockAddr> {
    let header = message.address().cast::<libc::msghdr>();
    // SAFETY: as above, of the name.
    let name = unsafe {
        let (name, len) = ((*header).msg_name, (*header).msg_namelen as usize);
        (!name.is_null()).then(|| Region::new(name.cast(), len))
    };
    name.map(read_name)
}

/// Says who has sent the message that was received.
pub(super) fn write_sender(message: Region, from: &SockAddr) {
    let header = message.address().cast::<libc::msghdr>();
    // SAFETY: as above; the name has room for an internet address, and may be written.
    unsafe {
        let room = (*header).msg_namelen as usize;
        let place = (*header).msg_name.cast::<u8>();
        place.copy_from_nonoverlapping(from.bytes().as_ptr(), from.len().min(room));
        (*header).msg_namelen = from.len() as libc::socklen_t;
    }
}

/// The control data of a message: what it has beside its bytes, or room for that.
fn control_of(message: Region) -> Option<Region> {
    let header = message.address().cast::<libc::msghdr>();
    // SAFETY: as above, of the control data.
    unsafe {
        let (place, len) = ((*header).msg_control, (*header).msg_controllen);
        (!place.is_null()).then(|| Region::new(place.cast(), len))
    }
}

/// The descriptors that go with a message.
pub(super) fn message_descriptors(message: Region) -> Vec<RawFd> {
    control_of(message).map_or_else(Vec::new, |room| control::decode(read(room, 0, usize::MAX)))
}

/// How many descriptors there is room for.
pub(super) fn room_for_descriptors(message: Region) -> usize {
    if control_of(message).is_some() { MOST_DESCRIPTORS } else { 0 }
}

/// Whether buffers that are picked for messages are to have room for control data.
pub(super) fn has_room_for_control(message: Region) -> bool {
    let header = message.address().cast::<libc::msghdr>();
    // SAFETY: as above.
    unsafe { (*header).msg_controllen > 0 }
}

/// Says what has come beside the bytes of a message: descriptors, whether others are lost, and how long each
/// of the datagrams is that were put together.
pub(super) fn write_control(message: Region, numbers: &[RawFd], lost: bool, segment: Option<u16>) {
    let mut told = [0; 2048];
    let mut len = control::encode(numbers, &mut told);
    if let Some(size) = segment {
        len += control::encode_segment(size, &mut told[len..]);
    }
    match control_of(message) {
        Some(room) => write(room, 0, &told[..len]),
        None => len = 0,
    }
    let header = message.address().cast::<libc::msghdr>();
    // SAFETY: as above: the header may be written.
    unsafe {
        (*header).msg_controllen = len;
        (*header).msg_flags = if lost { libc::MSG_CTRUNC } else { 0 };
    }
}

/// Puts a message into a buffer that was picked for it, as far as there is room, and says how much of the
/// buffer that took.
pub(super) fn write_message(
    into: Region,
    from: &SockAddr,
    segment: Option<u16>,
    bytes: &[u8],
) -> usize {
    let mut told = [0; PAYLOAD - CONTROL];
    let control_len = segment.map_or(0, |size| control::encode_segment(size, &mut told)) as u32;
    if control_len > 0 {
        write(into, CONTROL, &told);
    }
    let (name_len, payload_len) = (from.len() as u32, bytes.len() as u32);
    let head = Head { name_len, control_len, payload_len, flags: 0 }.bytes();
    write(into, 0, &head);
    write(into, head.len(), from.bytes());
    let room = into.len() as usize - PAYLOAD;
    let fits = &bytes[..bytes.len().min(room)];
    write(into, PAYLOAD, fits);
    PAYLOAD + fits.len()
}

/// The address of whatever family that lies in the region.
pub(super) fn read_name(region: Region) -> SockAddr {
    SockAddr::from_bytes(read(region, 0, usize::MAX))
}

/// The internet address that lies in the region.
pub(super) fn read_address(region: Region) -> io::Result<SocketAddr> {
    read_name(region).try_into()
}
