//! A slab whose keys carry a generation: a key of something that has gone finds nothing,
//! even when its place is in use again.

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::num::{NonZeroU32, NonZeroU64};

/// Names one value of a [`Slots`]; outlives it harmlessly.
pub(crate) struct Key<T> {
    /// The place, and above it the generation, which is never zero.
    bits: NonZeroU64,
    names: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    pub(crate) fn new(index: u32, generation: NonZeroU32) -> Self {
        let bits = NonZeroU64::from(generation).get() << 32 | u64::from(index);
        Key { bits: NonZeroU64::new(bits).expect("a generation is not zero"), names: PhantomData }
    }

    pub(crate) fn index(self) -> u32 {
        self.bits.get() as u32
    }

    pub(crate) fn generation(self) -> u32 {
        (self.bits.get() >> 32) as u32
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.bits.get()
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(|bits| Key { bits, names: PhantomData })
    }

    /// Of the next value at the same place.
    fn next(self) -> Self {
        let generation = NonZeroU32::new(self.generation().wrapping_add(1));
        Key::new(self.index(), generation.unwrap_or(NonZeroU32::MIN))
    }
}

/// Values under generational keys; the places of removed values are used again, the last one first.
pub(crate) struct Slots<T> {
    places: Vec<Place<T>>,
    /// The first free place, which names the next one, and so on. The end is a place that does not
    /// exist yet.
    free: u32,
    len: usize,
}

struct Place<T> {
    /// Of the value that is here, or of the next one.
    key: Key<T>,
    content: Content<T>,
}

enum Content<T> {
    Value(T),
    Free { next: u32 },
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Slots { places: Vec::new(), free: 0, len: 0 }
    }

    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> Key<T> {
        self.insert_with(|_| value)
    }

    /// Makes a value at its place, which spares copying it there.
    #[inline]
    pub(crate) fn insert_with(&mut self, value: impl FnOnce(Key<T>) -> T) -> Key<T> {
        if self.free as usize == self.places.len() {
            self.add_place();
        }
        let place = &mut self.places[self.free as usize];
        let Content::Free { next } = place.content else { unreachable!("a free place is free") };
        // What was there is free: there is nothing to drop.
        mem::forget(mem::replace(&mut place.content, Content::Value(value(place.key))));
        self.free = next;
        self.len += 1;
        place.key
    }

    #[cold]
    fn add_place(&mut self) {
        let (key, next) = (Key::new(self.free, NonZeroU32::MIN), self.free + 1);
        self.places.push(Place { key, content: Content::Free { next } });
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        let (content, next) = self.vacate(key)?;
        match mem::replace(content, Content::Free { next }) {
            Content::Value(value) => Some(value),
            Content::Free { .. } => None,
        }
    }

    /// Drops a value where it is.
    #[inline(always)]
    pub(crate) fn discard(&mut self, key: Key<T>) {
        if let Some((content, next)) = self.vacate(key) {
            *content = Content::Free { next };
        }
    }

    /// Frees a place, and says what has to be put there.
    #[inline]
    fn vacate(&mut self, key: Key<T>) -> Option<(&mut Content<T>, u32)> {
        let place = self.places.get_mut(key.index() as usize)?;
        if place.key != key || matches!(place.content, Content::Free { .. }) {
            return None;
        }
        place.key = key.next();
        self.len -= 1;
        Some((&mut place.content, mem::replace(&mut self.free, key.index())))
    }

    #[inline]
    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        match self.places.get(key.index() as usize)? {
            Place { key: here, content: Content::Value(value) } if *here == key => Some(value),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        match self.places.get_mut(key.index() as usize)? {
            Place { key: here, content: Content::Value(value) } if *here == key => Some(value),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.places.iter().filter_map(|place| match &place.content {
            Content::Value(value) => Some((place.key, value)),
            Content::Free { .. } => None,
        })
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
        self.bits == other.bits
    }
}

impl<T> Eq for Key<T> {}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index(), self.generation())
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

    #[test]
    fn free_places_are_used_again_before_new_ones_are_made() {
        let mut slots = Slots::new();
        let mut keys: Vec<_> = (0..4).map(|value| slots.insert(value)).collect();
        for gone in [2, 0, 3] {
            assert_eq!(slots.remove(keys[gone]), Some(gone));
        }
        for (value, index) in [3, 0, 2, 4].into_iter().enumerate() {
            let key = slots.insert_with(|key| value * (key.index() == index) as usize);
            assert_eq!(key.index(), index);
            keys.push(key);
        }
        assert_eq!(slots.len(), 5);
        let values: Vec<_> = slots.iter().map(|(key, value)| (key.index(), *value)).collect();
        assert_eq!(values, [(0, 1), (1, 1), (2, 2), (3, 0), (4, 3)]);
    }
}
