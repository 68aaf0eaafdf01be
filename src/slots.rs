//! A slab whose keys carry a generation: a key of something that has gone finds nothing,
//! even when its place is in use again.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;

use slab::Slab;

/// Names one value of a [`Slots`]; outlives it harmlessly.
pub(crate) struct Key<T> {
    index: u32,
    generation: NonZeroU32,
    names: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    pub(crate) fn new(index: u32, generation: NonZeroU32) -> Self {
        Key { index, generation, names: PhantomData }
    }

    pub(crate) fn index(self) -> u32 {
        self.index
    }

    pub(crate) fn generation(self) -> NonZeroU32 {
        self.generation
    }

    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation.get()) << 32 | u64::from(self.index)
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU32::new((bits >> 32) as u32).map(|generation| Key::new(bits as u32, generation))
    }
}

/// Values under generational keys; the places of removed values are used again.
pub(crate) struct Slots<T> {
    slab: Slab<(NonZeroU32, T)>,
    /// The generation that the next value of each place will get.
    generations: Vec<NonZeroU32>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Slots { slab: Slab::new(), generations: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key<T> {
        let entry = self.slab.vacant_entry();
        let index = entry.key();
        if index == self.generations.len() {
            self.generations.push(NonZeroU32::MIN);
        }
        let generation = self.generations[index];
        entry.insert((generation, value));
        Key::new(index as u32, generation)
    }

    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        self.get(key)?;
        let index = key.index as usize;
        let next = self.generations[index].get().wrapping_add(1);
        self.generations[index] = NonZeroU32::new(next).unwrap_or(NonZeroU32::MIN);
        Some(self.slab.remove(index).1)
    }

    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        let (generation, value) = self.slab.get(key.index as usize)?;
        (*generation == key.generation).then_some(value)
    }

    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let (generation, value) = self.slab.get_mut(key.index as usize)?;
        (*generation == key.generation).then_some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.slab
            .iter()
            .map(|(index, (generation, value))| (Key::new(index as u32, *generation), value))
    }
}

// Written out: a derive would ask the same of `T`, which a key does not hold.
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.generation == other.generation
    }
}

impl<T> Eq for Key<T> {}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_value_until_it_is_removed_and_nothing_afterwards() {
        let mut slots = Slots::new();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(first.index(), second.index(), "the place is used again");
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"second"));
        assert_eq!(Key::from_bits(second.to_bits()), Some(second));
    }
}
