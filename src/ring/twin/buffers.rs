//! Provided buffers, and the ledger of where each is.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use crate::slots::Key;

use super::super::Picked;
use super::super::request::{Region, Request};
use super::machine::Machine;
use super::operations::Op;
use super::queue::RingState;
use super::world::World;

/// What [`BufferRing`](super::super::buffers::BufferRing) is for the real kernel: buffers are provided one by
/// one, and the kernel sees them when they are published. It picks them in that order.
pub(crate) struct PoolQueue {
    world: Rc<World>,
    ring: Key<RingState>,
    group: u16,
}

pub(super) struct Group {
    id: u16,
    entries: usize,
    /// Each buffer is filled piece by piece.
    incremental: bool,
    /// The first published one has been begun.
    begun: bool,
    /// Provided, and the kernel does not know yet.
    staged: VecDeque<(u16, Region)>,
    /// What is not filled of them.
    published: VecDeque<(u16, Region)>,
    /// By the numbers of the buffers.
    places: Vec<Place>,
}

/// Where a buffer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// The kernel never heard of it.
    Unknown,
    /// Staged or published.
    Provided,
    /// The kernel has put something into it and named it in a completion.
    Picked,
}

impl Group {
    pub(super) fn new(id: u16, entries: u16, incremental: bool) -> Group {
        Group {
            id,
            entries: entries.into(),
            incremental,
            begun: false,
            staged: VecDeque::new(),
            published: VecDeque::new(),
            places: Vec::new(),
        }
    }

    /// A buffer that the kernel has and nobody looks at.
    pub(super) fn published_at(&self, at: usize) -> Option<Region> {
        Some(self.published.get(at)?.1)
    }

    /// Buffers that were picked and not provided again. Those may lie in a pool's reserve.
    pub(super) fn picked(&self) -> usize {
        let finished = self.places.iter().filter(|place| **place == Place::Picked).count();
        finished + usize::from(self.begun)
    }

    /// Names the next buffer, into which `count` bytes were put, and takes it if that was all.
    fn pick(&mut self, count: u32) -> Option<Picked> {
        let (id, room) = self.published.front_mut()?;
        let id = *id;
        *room = room.after(count);
        let unfinished = self.incremental && room.len() > 0;
        self.begun = unfinished;
        if !unfinished {
            self.places[usize::from(id)] = Place::Picked;
            self.published.pop_front();
        }
        Some(Picked { id, unfinished })
    }

    /// Whether it may be provided; else what is wrong.
    fn provide(&mut self, id: u16, buffer: Region) -> Result<(), String> {
        let index = usize::from(id);
        if index >= self.places.len() {
            self.places.resize(index + 1, Place::Unknown);
        }
        let had = std::mem::replace(&mut self.places[index], Place::Provided);
        if had == Place::Provided {
            return Err(format!("buffer {id} was provided while the kernel had it"));
        }
        self.staged.push_back((id, buffer));
        if self.staged.len() + self.published.len() > self.entries {
            return Err(format!("more than {} buffers were provided", self.entries));
        }
        Ok(())
    }
}

impl Machine {
    pub(super) fn register_group(
        &mut self,
        ring: Key<RingState>,
        entries: u16,
        id: u16,
        incremental: bool,
    ) -> Result<(), i32> {
        let state = self.rings.get_mut(ring).ok_or(libc::EBADF)?;
        if !entries.is_power_of_two() || entries > 32_768 {
            return Err(libc::EINVAL);
        }
        if state.groups.iter().any(|group| group.id == id) {
            return Err(libc::EEXIST);
        }
        state.groups.push(Group::new(id, entries, incremental));
        Ok(())
    }

    fn group(&mut self, ring: Key<RingState>, id: u16) -> Option<&mut Group> {
        self.rings.get_mut(ring)?.groups.iter_mut().find(|group| group.id == id)
    }

    /// Whether it takes parts of buffers. Where a part begins is told only by the order in which parts
    /// are named, so Linux makes those completions visible in the order in which it took the parts.
    pub(super) fn fills_incrementally(&mut self, op: &Op) -> bool {
        let group = match op.request {
            Request::RecvPool { group, .. } | Request::ReadPool { group, .. } => group,
            _ => return false,
        };
        self.group(op.ring, group).is_some_and(|group| group.incremental)
    }

    /// What the next buffer of a group has room for.
    pub(super) fn next_buffer(&mut self, ring: Key<RingState>, group: u16) -> Option<Region> {
        self.group(ring, group)?.published.front().map(|&(_, room)| room)
    }

    /// Takes the next buffer of a group, or the part of it that was filled.
    pub(super) fn pick(&mut self, ring: Key<RingState>, group: u16, result: i32) -> Option<Picked> {
        self.group(ring, group)?.pick(u32::try_from(result).unwrap_or(0))
    }
}

impl PoolQueue {
    pub(super) fn new(world: Rc<World>, ring: Key<RingState>, group: u16) -> PoolQueue {
        PoolQueue { world, ring, group }
    }

    /// Gives the kernel a buffer under the name `id`; it sees it after [`publish`](Self::publish).
    pub(in crate::ring) fn provide(&mut self, id: u16, buffer: Region) {
        let machine = &mut *self.world.machine();
        let provided = machine.group(self.ring, self.group).map(|group| group.provide(id, buffer));
        if let Some(Err(text)) = provided {
            machine.violation(text);
        }
    }

    pub(in crate::ring) fn publish(&mut self) {
        let machine = &mut *self.world.machine();
        if let Some(group) = machine.group(self.ring, self.group) {
            group.published.append(&mut group.staged);
        }
    }
}

impl Drop for PoolQueue {
    /// The memory goes away: from here on the kernel must not touch it.
    fn drop(&mut self) {
        let machine = &mut *self.world.machine();
        if let Some(ring) = machine.rings.get_mut(self.ring) {
            ring.groups.retain(|group| group.id != self.group);
        }
    }
}

impl fmt::Debug for PoolQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolQueue").field("group", &self.group).finish_non_exhaustive()
    }
}
