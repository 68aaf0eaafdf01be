//! SPLICE, which a worker does: what an interruption leaves where.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use crate::ring::{Ring, Token};
use crate::sockets::{Family, bound_buffers, end_writes, fill, pipe, read_to_end};
use crate::world::{CANCELLED, MODES};

/// What slips out of a worker that was interrupted.
const RESTART: i32 = -512;

const MUCH: usize = 60_000;

/// Moves so many bytes out of a pipe, and waits until a worker sleeps over it.
fn start(ring: &mut Ring, to: &OwnedFd) -> (Token, File, File) {
    let (reader, writer) = pipe();
    let (reader, mut writer) = (File::from(reader), File::from(writer));
    writer.write_all(&[7; MUCH]).unwrap();
    let splice = ring.splice(&reader, to, MUCH as u32);
    ring.submit();
    thread::sleep(Duration::from_millis(20));
    (splice, reader, writer)
}

fn left(mut reader: File, writer: File) -> usize {
    drop(writer);
    reader.read_to_end(&mut Vec::new()).unwrap()
}

#[test]
fn a_splice_that_waits_is_interrupted_and_moves_nothing() {
    for mode in MODES {
        let (near, far) = Family::Unix.pair();
        let filled = fill(&near);
        let mut ring = Ring::new(mode);
        let (splice, reader, writer) = start(&mut ring, &near);
        let (cancel, target) = ring.pair("splice, nothing yet", splice);
        assert!(cancel == -libc::EALREADY || cancel == 0, "{cancel}");
        assert!([RESTART, -libc::EINTR, CANCELLED].contains(&target), "{target}");
        assert_eq!(left(reader, writer), MUCH, "it stays in the pipe");
        end_writes(&near);
        assert_eq!(read_to_end(&far), filled);
    }
}

#[test]
fn a_splice_interrupted_half_way_tells_what_it_moved() {
    for mode in MODES {
        let (near, far) = Family::Tcp.pair();
        bound_buffers(&near, &far);
        let filled = fill(&near);
        // Room for a part of it.
        let mut some = File::from(far.try_clone().unwrap());
        some.read_exact(&mut vec![0; filled / 4]).unwrap();
        let mut ring = Ring::new(mode);
        let (splice, reader, writer) = start(&mut ring, &near);
        let (_, target) = ring.pair("splice, part of 60000 (tcp)", splice);
        let moved = usize::try_from(target).unwrap_or(0);
        assert!(target > 0 || [RESTART, -libc::EINTR, CANCELLED].contains(&target), "{target}");
        assert_eq!(left(reader, writer), MUCH - moved, "the rest stays in the pipe");
        end_writes(&near);
        assert_eq!(read_to_end(&far), filled - filled / 4 + moved);
    }
}

/// What is there goes into the pipe, and it is not waited for more.
#[test]
fn a_splice_from_a_socket_moves_what_is_there() {
    for family in [Family::Tcp, Family::Unix] {
        for mode in MODES {
            let (near, far) = family.pair();
            File::from(near.try_clone().unwrap()).write_all(&[7; 5000]).unwrap();
            thread::sleep(Duration::from_millis(20));
            let (reader, writer) = pipe();
            let mut ring = Ring::new(mode);
            let splice = ring.divert(&far, &writer, MUCH as u32);
            assert_eq!(ring.result(splice), 5000);
            assert_eq!(left(File::from(reader), File::from(writer)), 5000);
        }
    }
}

/// Of TCP it waits for it in a worker, whatever the flag says; a cancel ends that, and takes no byte.
#[test]
fn a_splice_from_an_empty_socket_is_refused_or_waits() {
    for mode in MODES {
        let (_near, far) = Family::Unix.pair();
        let (_reader, writer) = pipe();
        let mut ring = Ring::new(mode);
        let splice = ring.divert(&far, &writer, MUCH as u32);
        assert_eq!(ring.result(splice), -libc::EAGAIN);

        let (near, far) = Family::Tcp.pair();
        let splice = ring.divert(&far, &writer, MUCH as u32);
        ring.submit();
        thread::sleep(Duration::from_millis(20));
        let (_, target) = ring.pair("splice, an empty connection", splice);
        assert!([RESTART, -libc::EINTR, CANCELLED].contains(&target), "{target}");
        File::from(near).write_all(b"later").unwrap();
        assert_eq!(read_to_end(&far), 5);
    }
}
