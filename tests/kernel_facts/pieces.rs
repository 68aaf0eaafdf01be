//! SENDMSG, WRITEV and READV of several pieces: the result counts over all of them, and what was cut short was cut
//! anywhere.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};

use libc::{MSG_NOSIGNAL, MSG_WAITALL};

use crate::ring::{Ring, Token};
use crate::sockets::{
    Family, bound_buffers, check, end_writes, everywhere, fill, has_arrived, packet_pair, pipe,
    put, read_to_end, waiting,
};
use crate::world::{CANCELLED, MODES, note, since};

/// Three pieces. The sockets and pipes below hold the first one and not the second.
static FIRST: [u8; 1000] = [1; 1000];
static SECOND: [u8; 1 << 20] = [2; 1 << 20];
static THIRD: [u8; 1000] = [3; 1000];

const ALL: [&[u8]; 3] = [&FIRST, &SECOND, &THIRD];
const TOTAL: usize = 2000 + (1 << 20);

/// Where a descriptor stands.
const HERE: u64 = u64::MAX;

#[test]
fn a_send_of_several_pieces_counts_all_of_them() {
    for (mode, family) in everywhere() {
        for flags in [0, MSG_WAITALL] {
            let (near, far) = family.pair();
            let mut ring = Ring::new(mode);
            let send =
                ring.send_pieces(&near, &[b"on", b"", b"e an", b"d two"], flags | MSG_NOSIGNAL);
            assert_eq!(ring.result(send), 11);
            end_writes(&near);
            assert_eq!(all_of(&far), b"one and two");
        }
    }
}

// So do the bounds: they are one message.
#[test]
fn several_pieces_are_one_message() {
    for mode in MODES {
        let (near, far) = packet_pair();
        let mut ring = Ring::new(mode);
        let send = ring.send_pieces(&near, &[b"one", b" and ", b"two"], MSG_NOSIGNAL);
        assert_eq!(ring.result(send), 11);
        put(&near, b"three");
        assert_eq!(
            (waiting(&far, 64), waiting(&far, 64)),
            (b"one and two".to_vec(), b"three".to_vec())
        );
    }
}

#[test]
fn a_send_of_several_pieces_without_waitall_completes_short_within_one() {
    for (mode, family) in everywhere() {
        let (near, far) = family.pair();
        let mut ring = Ring::new(mode);
        let send = start(&mut ring, &near, &far, 0);
        let sent = ring.result(send);
        note(&format!("sendmsg of 1000, 1048576, 1000 ({family})"), mode, sent);
        assert_short_and_all_there(sent, &near, &far);
    }
}

#[test]
fn a_waitall_send_of_several_pieces_goes_on_where_it_was_cut() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let mut ring = Ring::new(mode);
        let send = start(&mut ring, &near, &far, MSG_WAITALL);
        let mut came = Vec::new();
        while came.len() < TOTAL {
            assert!(has_arrived(&far), "{} of {TOTAL} bytes", came.len());
            came.extend(waiting(&far, 65536));
            // What there is room for now.
            ring.enter(0);
        }
        assert_eq!(ring.result(send), TOTAL as i32);
        assert_eq!(came, ALL.concat());
    }
}

#[test]
fn a_waitall_send_of_several_pieces_cancelled_half_way_reports_its_bytes() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let mut ring = Ring::new(mode);
        let send = start(&mut ring, &near, &far, MSG_WAITALL);
        let (cancel, sent) = ring.pair("sendmsg WAITALL, part of 1000, 1048576, 1000", send);
        assert_eq!(cancel, 0);
        assert_short_and_all_there(sent, &near, &far);
    }
}

#[test]
fn a_send_of_several_pieces_without_a_byte_is_cancelled() {
    for mode in MODES {
        for flags in [0, MSG_WAITALL] {
            let (near, far) = Family::Unix.pair();
            let filled = fill(&near);
            let mut ring = Ring::new(mode);
            let send = ring.send_pieces(&near, &[b"mo", b"re"], flags | MSG_NOSIGNAL);
            ring.submit();
            assert_eq!(ring.pair("sendmsg of two pieces, nothing yet", send), (0, CANCELLED));
            end_writes(&near);
            assert_eq!(read_to_end(&far), filled);
        }
    }
}

#[test]
fn a_write_of_several_pieces_to_a_file_counts_all_of_them() {
    for mode in MODES {
        let mut file = file();
        let mut ring = Ring::new(mode);
        let write = ring.write_pieces(&file, &[b"on", b"", b"e an", b"d two"], 3);
        assert_eq!(ring.result(write), 11);
        let mut content = Vec::new();
        file.read_to_end(&mut content).expect("a read");
        assert_eq!(content, b"\0\0\0one and two");
    }
}

// Until Linux 6.4 a worker writes to a pipe, and waits for room.
#[test]
fn a_write_of_several_pieces_to_a_pipe_completes_short_within_one() {
    for mode in MODES.into_iter().filter(|_| since(6, 4)) {
        let (reader, writer) = pipe();
        let mut ring = Ring::new(mode);
        let write = ring.write_pieces(&writer, &ALL, HERE);
        let written = ring.result(write);
        note("writev of 1000, 1048576, 1000 (pipe)", mode, written);
        let written = usize::try_from(written).expect("a count");
        assert!(FIRST.len() < written && written < TOTAL - THIRD.len(), "{written}");
        drop(writer);
        assert_eq!(rest_of(reader), ALL.concat()[..written]);
    }
}

#[test]
fn a_write_of_several_pieces_to_a_full_pipe_is_cancelled() {
    for mode in MODES.into_iter().filter(|_| since(6, 4)) {
        let (reader, writer) = pipe();
        let mut ring = Ring::new(mode);
        let fill = ring.write_pieces(&writer, &ALL, HERE);
        let filled = ring.result(fill);
        let write = ring.write_pieces(&writer, &[b"mo", b"re"], HERE);
        ring.submit();
        assert_eq!(ring.pair("writev, nothing yet (pipe)", write), (0, CANCELLED));
        drop(writer);
        assert_eq!(rest_of(reader).len(), filled as usize);
    }
}

#[test]
fn a_read_into_several_pieces_fills_one_after_the_other() {
    for mode in MODES {
        let mut file = file();
        file.write_all(b"0123456789").expect("a write");
        let mut ring = Ring::new(mode);
        // All of it, none of the last one, and the end within the second one.
        for (sizes, at, found) in
            [([2, 3, 5], 0, &b"0123456789"[..]), ([0, 4, 1], 1, b"12345"), ([2, 3, 5], 7, b"789")]
        {
            let read = ring.read_pieces(&file, &sizes, at);
            let result = ring.result(read);
            assert_eq!(ring.in_places(read, 3, result), found);
        }
        let read = ring.read_pieces(&file, &[2, 3], 10);
        assert_eq!(ring.result(read), 0, "the end");
    }
}

#[test]
fn a_read_into_several_pieces_takes_what_a_pipe_has() {
    for mode in MODES {
        let (reader, writer) = pipe();
        let mut ring = Ring::new(mode);
        let read = ring.read_pieces(&reader, &[2, 30], HERE);
        ring.submit();
        put(&writer, b"hello");
        assert_eq!(ring.result(read), 5);
        assert_eq!(ring.in_places(read, 2, 5), b"hello");
        let read = ring.read_pieces(&reader, &[2, 30], HERE);
        ring.submit();
        assert_eq!(ring.pair("readv idle (pipe)", read), (0, CANCELLED));
        put(&writer, b"later");
        drop(writer);
        assert_eq!(rest_of(reader), b"later", "nothing was taken");
    }
}

/// Submits a send of more than the two sockets hold.
fn start(ring: &mut Ring, near: &OwnedFd, far: &OwnedFd, flags: i32) -> Token {
    bound_buffers(near, far);
    let send = ring.send_pieces(near, &ALL, flags | MSG_NOSIGNAL);
    ring.submit();
    send
}

/// A part was sent that ends within the second piece, and the peer gets exactly that.
fn assert_short_and_all_there(sent: i32, near: &OwnedFd, far: &OwnedFd) {
    let sent = usize::try_from(sent).expect("a count");
    assert!(FIRST.len() < sent && sent < TOTAL - THIRD.len(), "{sent}");
    end_writes(near);
    assert_eq!(all_of(far), ALL.concat()[..sent]);
}

/// What comes to the end of a stream.
fn all_of(socket: &OwnedFd) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        assert!(has_arrived(socket), "neither bytes nor the end");
        match waiting(socket, 65536) {
            none if none.is_empty() => return all,
            bytes => all.extend(bytes),
        }
    }
}

/// What is left in a pipe that nobody writes to.
fn rest_of(reader: OwnedFd) -> Vec<u8> {
    let mut rest = Vec::new();
    File::from(reader).read_to_end(&mut rest).expect("a read");
    rest
}

/// An empty file without a name.
fn file() -> File {
    // SAFETY: a string with a zero byte at its end.
    let fd = check(unsafe { libc::memfd_create(c"facts".as_ptr(), libc::MFD_CLOEXEC) });
    // SAFETY: new and ours.
    unsafe { File::from_raw_fd(fd) }
}
