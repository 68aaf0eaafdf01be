//! The queue of deadlines beside a sorted vector.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::cancel::{Deadlines, Due, Timer};
use crate::slots::Key;
use crate::time::Instant;

/// Sets deadlines, takes them out and lets them pass, as the bytes say.
///
/// # Panics
/// If the heap and the vector disagree.
pub fn timers(data: &[u8]) {
    let mut heap = Deadlines::new();
    // In the order in which they are due; equal ones in the order in which they were set.
    let mut naive: Vec<(Instant, Key<Timer>, Due)> = Vec::new();
    let mut gone = Vec::new();
    for (number, pair) in data.chunks_exact(2).enumerate() {
        let at = Instant::MIN + Duration::from_secs((pair[1] % 32).into());
        match pair[0] % 8 {
            0..=3 => {
                let due = Due::Scope(Key::new(number as u32, NonZeroU32::MIN));
                let key = heap.insert(at, due);
                assert!(!gone.contains(&key), "a key was given out twice");
                let place = naive.partition_point(|(other, ..)| *other <= at);
                naive.insert(place, (at, key, due));
            }
            4 | 5 if !naive.is_empty() => {
                let (_, key, due) = naive.remove(usize::from(pair[1]) % naive.len());
                assert_eq!(heap.remove(key), Some(due), "the key names another deadline");
                gone.push(key);
            }
            6 if !gone.is_empty() => {
                let key = gone[usize::from(pair[1]) % gone.len()];
                assert_eq!(heap.remove(key), None, "a deadline was taken out a second time");
            }
            _ => {
                // Rule H3: due is what is not later than now.
                let is_due = naive.first().is_some_and(|(first, ..)| *first <= at);
                let expected = is_due.then(|| naive.remove(0));
                gone.extend(expected.map(|(_, key, _)| key));
                assert_eq!(heap.pop(at), expected.map(|(.., due)| due));
            }
        }
        assert_eq!(heap.next(), naive.first().map(|(at, ..)| *at));
        assert_eq!(heap.len(), naive.len());
    }
}
