//! Provided buffers, and the ledger of where each is.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use crate::slots::Key;

use super::super::request::Region;
use super::machine::Machine;
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
    /// Provided, and the kernel does not know yet.
    staged: VecDeque<(u16, Region)>,
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
    pub(super) fn new(id: u16, entries: u16) -> Group {
        Group {
            id,
            entries: entries.into(),
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
        self.places.iter().filter(|place| **place == Place::Picked).count()
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
    ) -> Result<(), i32> {
        let state = self.rings.get_mut(ring).ok_or(libc::EBADF)?;
        if !entries.is_power_of_two() || entries > 32_768 {
            return Err(libc::EINVAL);
        }
        if state.groups.iter().any(|group| group.id == id) {
            return Err(libc::EEXIST);
        }
        state.groups.push(Group::new(id, entries));
        Ok(())
    }

    fn group(&mut self, ring: Key<RingState>, id: u16) -> Option<&mut Group> {
        self.rings.get_mut(ring)?.groups.iter_mut().find(|group| group.id == id)
    }

    pub(super) fn has_buffer(&mut self, ring: Key<RingState>, group: u16) -> bool {
        self.group(ring, group).is_some_and(|group| !group.published.is_empty())
    }

    /// Takes the next buffer of a group.
    pub(super) fn pick(&mut self, ring: Key<RingState>, group: u16) -> Option<(u16, Region)> {
        let group = self.group(ring, group)?;
        let (id, buffer) = group.published.pop_front()?;
        group.places[usize::from(id)] = Place::Picked;
        Some((id, buffer))
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
