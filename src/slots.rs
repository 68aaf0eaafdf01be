//! A slab whose keys carry a generation: a key of something that has gone finds nothing,
//! even when its place is in use again.

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::num::NonZeroU32;

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
    generation: NonZeroU32,
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
        if self.free as usize == self.places.len() {
            self.add_place();
        }
        let place = &mut self.places[self.free as usize];
        let Content::Free { next } = place.content else { unreachable!("a free place is free") };
        place.content = Content::Value(value);
        let key = Key::new(self.free, place.generation);
        self.free = next;
        self.len += 1;
        key
    }

    #[cold]
    fn add_place(&mut self) {
        let next = self.free + 1;
        self.places.push(Place { generation: NonZeroU32::MIN, content: Content::Free { next } });
    }

    /// The key that the next value will get.
    #[inline]
    pub(crate) fn next_key(&self) -> Key<T> {
        let place = self.places.get(self.free as usize);
        Key::new(self.free, place.map_or(NonZeroU32::MIN, |place| place.generation))
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation || matches!(place.content, Content::Free { .. }) {
            return None;
        }
        place.generation = key.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let content = mem::replace(&mut place.content, Content::Free { next: self.free });
        self.free = key.index;
        self.len -= 1;
        match content {
            Content::Value(value) => Some(value),
            Content::Free { .. } => None,
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        match self.places.get(key.index as usize)? {
            Place { generation, content: Content::Value(value) } if *generation == key.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        match self.places.get_mut(key.index as usize)? {
            Place { generation, content: Content::Value(value) } if *generation == key.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| match &place.content {
            Content::Value(value) => Some((Key::new(index as u32, place.generation), value)),
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

    #[test]
    fn free_places_are_used_again_before_new_ones_are_made_and_the_next_key_is_known() {
        let mut slots = Slots::new();
        let mut keys: Vec<_> = (0..4).map(|value| slots.insert(value)).collect();
        for gone in [2, 0, 3] {
            assert_eq!(slots.remove(keys[gone]), Some(gone));
        }
        for (value, index) in [3, 0, 2, 4].into_iter().enumerate() {
            let next = slots.next_key();
            assert_eq!((slots.insert(value), next.index()), (next, index));
            keys.push(next);
        }
        assert_eq!(slots.len(), 5);
        let values: Vec<_> = slots.iter().map(|(key, value)| (key.index(), *value)).collect();
        assert_eq!(values, [(0, 1), (1, 1), (2, 2), (3, 0), (4, 3)]);
    }
}
