//! Memory that is known beforehand, and whether requests keep to it.

use crate::slots::Key;

use super::super::request::{Region, Request};
use super::machine::Machine;
use super::operations::{Op, Stage};
use super::queue::RingState;

impl Machine {
    pub(super) fn make_places(&mut self, ring: Key<RingState>, places: u16) -> Result<(), i32> {
        let known = &mut self.rings.get_mut(ring).ok_or(libc::EBADF)?.registered;
        if !known.is_empty() {
            return Err(libc::EBUSY);
        }
        if places == 0 || places > MOST_PLACES {
            return Err(libc::EINVAL);
        }
        known.resize(places.into(), None);
        Ok(())
    }

    pub(super) fn remove_places(&mut self, ring: Key<RingState>) -> Result<(), i32> {
        let state = self.rings.get_mut(ring).ok_or(libc::EBADF)?;
        let locked = state.locked_memory();
        if std::mem::take(&mut state.registered).is_empty() {
            return Err(libc::ENXIO);
        }
        self.locked_memory -= locked;
        Ok(())
    }

    pub(super) fn register(
        &mut self,
        ring: Key<RingState>,
        place: u16,
        memory: Option<Region>,
    ) -> Result<(), i32> {
        let uses = |op: &Op| {
            op.ring == ring
                && op.stage != Stage::Ended
                && registered(op).is_some_and(|(_, at)| at == place)
        };
        // Linux would let it end, and the pages go later.
        if self.ops.iter().any(|(_, op)| uses(op)) {
            self.violation(format!("place {place} was changed while an operation used it"));
        }
        let known = &self.rings.get(ring).ok_or(libc::EBADF)?.registered;
        let had = *known.get(usize::from(place)).ok_or(libc::EINVAL)?;
        let locked = self.locked_memory - len(had) + len(memory);
        if locked > self.most_locked_memory {
            return Err(libc::ENOMEM);
        }
        self.locked_memory = locked;
        if let Some(ring) = self.rings.get_mut(ring) {
            ring.registered[usize::from(place)] = memory;
        }
        Ok(())
    }

    /// What Linux says of an operation whose memory it does not know under the place that it names.
    pub(super) fn check_registered(&mut self, op: &Op) -> Result<(), i32> {
        let Some((region, place)) = registered(op) else { return Ok(()) };
        let known =
            self.rings.get(op.ring).and_then(|ring| *ring.registered.get(usize::from(place))?);
        if known.is_some_and(|known| known.has(region)) {
            return Ok(());
        }
        self.violation(format!(
            "a {} goes beyond the memory of place {place}",
            op.description.name
        ));
        Err(libc::EFAULT)
    }
}

/// What the kernel takes at most.
const MOST_PLACES: u16 = 1 << 14;

/// The memory and the place that an operation names.
fn registered(op: &Op) -> Option<(Region, u16)> {
    match op.request {
        Request::ReadRegistered { into: region, spot, .. }
        | Request::WriteRegistered { from: region, spot, .. } => Some((region, spot.place)),
        _ => None,
    }
}

fn len(memory: Option<Region>) -> usize {
    memory.map_or(0, |memory| memory.len() as usize)
}
