//! Memory that is known beforehand.

use super::super::super::request::{HERE, Spot};
use super::*;

const LEN: usize = 8;

/// A ring of two places, which knows this memory in the second one; and a pipe.
fn rig() -> (Rig, Memory, [RawFd; 2]) {
    let mut rig = Rig::tame();
    let memory = Memory::of(&[0; LEN]);
    rig.twin.make_places(2).unwrap();
    rig.twin.register(1, Some(memory.region())).unwrap();
    let (reader, writer) = rig.world.machine().pipe().unwrap();
    (rig, memory, [reader, writer])
}

fn read(fd: RawFd, into: Region, place: u16) -> Request {
    Request::ReadRegistered { fd, into, spot: Spot { at: HERE, place } }
}

#[test]
fn a_read_and_a_write_of_a_part_of_it_are_as_any() {
    let (mut rig, memory, [reader, writer]) = rig();
    memory.set(2, b'x');
    let from = memory.region().after(2).first(1);
    let write = Request::WriteRegistered { fd: writer, from, spot: Spot { at: HERE, place: 1 } };
    assert_eq!(rig.result(write), 1);
    assert_eq!(rig.result(read(reader, memory.region().after(5), 1)), 1);
    assert_eq!(memory.bytes(), b"\0\0x\0\0x\0\0");
    rig.finish(&[reader, writer]);
}

#[test]
fn what_goes_beyond_it_is_refused_and_noticed() {
    for place in [0, 1, 2] {
        let (mut rig, memory, [reader, writer]) = rig();
        let elsewhere = Memory::of(&[0; LEN]);
        let (into, known) = (elsewhere.region(), memory.region());
        let into = if place == 1 { into } else { known };
        assert_eq!(rig.result(read(reader, into, place)), -libc::EFAULT);
        assert_eq!(rig.world.violations().len(), 1, "{:?}", rig.world.violations());
        drop((rig, writer));
    }
}

#[test]
fn a_place_that_an_operation_uses_is_not_to_be_changed() {
    let (mut rig, memory, [reader, _]) = rig();
    rig.pending(read(reader, memory.region(), 1));
    rig.twin.register(0, None).unwrap();
    assert!(rig.world.violations().is_empty());
    rig.twin.register(1, None).unwrap();
    assert_eq!(rig.world.violations().len(), 1);
}

#[test]
fn there_is_a_limit_to_what_is_locked() {
    let (mut rig, memory, pipe) = rig();
    rig.world.limit_locked_memory(LEN);
    let refused = rig.twin.register(0, Some(memory.region())).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOMEM));
    rig.twin.register(1, None).unwrap();
    rig.twin.register(0, Some(memory.region())).unwrap();
    let beyond = rig.twin.register(2, None).unwrap_err();
    assert_eq!(beyond.raw_os_error(), Some(libc::EINVAL));
    rig.twin.remove_places().unwrap();
    rig.twin.make_places(1).unwrap();
    rig.twin.register(0, Some(memory.region())).unwrap();
    rig.finish(&pipe);
}
