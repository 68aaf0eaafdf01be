//! The queue of deadlines beside a sorted vector, in random programs.

use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::random::Random;

const PROGRAMS: u64 = if cfg!(miri) { 4 } else { 300 };
const STEPS: usize = if cfg!(miri) { 150 } else { 600 };
/// Few instants make for many ties, and more than there are lines.
const INSTANTS: usize = 12;

/// Deadlines in the order in which they are due; equal ones in the order in which they were set.
type Twin = Vec<(Instant, Key<Timer>, Due)>;

#[test]
fn the_heap_agrees_with_a_sorted_vector_after_every_step_of_random_programs() {
    for seed in 0..PROGRAMS {
        let mut random = Random(seed);
        let (mut heap, mut twin, mut gone) = (Deadlines::new(), Twin::new(), Vec::new());
        for step in 0..STEPS {
            let story = format!("seed {seed}, step {step}");
            match random.below(8) {
                // Programs that mostly set and programs that mostly take out.
                0..=3 if seed % 2 == 0 || random.one_in(2) => {
                    set(&mut heap, &mut twin, &gone, instant(&mut random), step);
                }
                4 | 5 if !twin.is_empty() => {
                    let (_, key, due) = twin.remove(random.below(twin.len()));
                    assert_eq!(heap.remove(key), Some(due), "{story}");
                    gone.push(key);
                }
                6 if !gone.is_empty() => {
                    let key = gone[random.below(gone.len())];
                    assert_eq!(heap.remove(key), None, "{story}: taken out a second time");
                }
                _ => {
                    let now = instant(&mut random);
                    // H3: due is what is not later than now.
                    let first = twin.first().is_some_and(|&(at, ..)| at <= now);
                    let expected = first.then(|| twin.remove(0));
                    gone.extend(expected.map(|(_, key, _)| key));
                    assert_eq!(heap.pop(now), expected.map(|(.., due)| due), "{story}");
                }
            }
            check(&heap, &twin, &story);
        }
        for (at, _, due) in twin {
            assert_eq!((heap.next(), heap.pop(at)), (Some(at), Some(due)), "seed {seed}: the rest");
        }
        assert_eq!((heap.next(), heap.pop(Instant::MAX)), (None, None));
    }
}

fn set(heap: &mut Deadlines, twin: &mut Twin, gone: &[Key<Timer>], at: Instant, number: usize) {
    let due = match number % 2 {
        0 => Due::Scope(Key::new(number as u32, NonZeroU32::MIN)),
        _ => Due::Sleep(Key::new(number as u32, NonZeroU32::MIN)),
    };
    let key = heap.insert(at, due);
    let known = gone.contains(&key) || twin.iter().any(|&(_, other, _)| other == key);
    assert!(!known, "{key:?} was the name of another deadline");
    let after_equal_ones = twin.partition_point(|&(other, ..)| other <= at);
    twin.insert(after_equal_ones, (at, key, due));
}

fn check(heap: &Deadlines, twin: &Twin, story: &str) {
    assert_eq!(
        (heap.len(), heap.next()),
        (twin.len(), twin.first().map(|&(at, ..)| at)),
        "{story}"
    );
    assert_eq!(heap.timers.len(), twin.len(), "{story}");
    for &(_, key, due) in twin {
        let timer = heap.timers.get(key).unwrap_or_else(|| panic!("{story}: {key:?} is lost"));
        assert_eq!(timer.due, due, "{story}");
    }
    assert!(entries(heap) <= 2 * twin.len() + FEW, "{story}: {} lie here", entries(heap));
}

fn instant(random: &mut Random) -> Instant {
    Instant::MIN + Duration::from_nanos(random.below(INSTANTS) as u64)
}

#[test]
fn equal_deadlines_come_in_the_order_in_which_they_were_set_whatever_is_taken_out() {
    let mut heap = Deadlines::new();
    let name = |n| Due::Sleep(Key::new(n, NonZeroU32::MIN));
    let timers: Vec<_> = (0..100).map(|n| heap.insert(Instant::MAX, name(n))).collect();
    for &timer in timers.iter().step_by(3) {
        heap.remove(timer);
    }
    for n in (0..100).filter(|n| n % 3 > 0) {
        assert_eq!(heap.pop(Instant::MAX), Some(name(n)));
    }
    assert_eq!(heap.len(), 0);
}

/// What is taken back long before it is due must not fill the memory.
#[test]
fn what_was_taken_back_does_not_gather() {
    let mut heap = Deadlines::new();
    let name = Due::Sleep(Key::new(0, NonZeroU32::MIN));
    let soon = heap.insert(Instant::MIN, name);
    let mut last = heap.insert(Instant::MAX, name);
    for _ in 0..if cfg!(miri) { 200 } else { 100_000 } {
        let later = heap.insert(Instant::MAX, name);
        heap.remove(later);
        // Nor what is set behind one that stays.
        let stays = heap.insert(Instant::MAX, name);
        heap.remove(last);
        last = stays;
        assert!(entries(&heap) <= 4 + FEW, "{} of two", entries(&heap));
    }
    heap.remove(last);
    assert_eq!((heap.remove(soon), heap.next(), entries(&heap)), (Some(name), None, 0));
}

/// Those that are stale too.
fn entries(heap: &Deadlines) -> usize {
    heap.heap.len() + heap.lines.iter().map(VecDeque::len).sum::<usize>()
}
