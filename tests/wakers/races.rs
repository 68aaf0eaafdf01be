//! Wakes that race with the run: with its going to sleep, its waking up, and one another.

use std::cell::Cell;
use std::future::poll_fn;
use std::hint;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use trine::{checkpoint, nursery};

use crate::run;

/// A number that others raise and a task waits for, made of what the standard library has.
#[derive(Default)]
struct Counter {
    value: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Counter {
    fn raise(&self) {
        self.value.fetch_add(1, Ordering::SeqCst);
        let waker = self.waker.lock().expect("sound").take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn reaches(&self, wanted: u64) {
        poll_fn(|cx| {
            *self.waker.lock().expect("sound") = Some(cx.waker().clone());
            if self.value.load(Ordering::SeqCst) >= wanted {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}

// P4: between the last look at the inbox and the sleep in the kernel no wake gets lost.
#[test]
fn thousands_of_ping_pongs_with_a_thread_lose_no_wake() {
    let rounds = Rounds::new(20_000);
    run(async || {
        let counter = Arc::new(Counter::default());
        let (ping, pings) = mpsc::channel::<()>();
        let thread = thread::spawn({
            let counter = Arc::clone(&counter);
            move || pings.iter().for_each(|()| counter.raise())
        });
        for round in rounds {
            ping.send(()).expect("the thread listens");
            counter.reaches(round).await;
        }
        drop(ping);
        thread.join().expect("no panic");
        Ok(())
    });
}

// P4: the run is about to go to sleep, or has just done so, when the thread fires: the thread waits
// without sleeping itself, and for another while in every round.
#[test]
fn wakes_that_race_with_the_run_going_to_sleep_are_not_missed() {
    let _processor = processor();
    let (asked, counter) = (Arc::new(AtomicU64::new(0)), Arc::new(Counter::default()));
    let thread = thread::spawn({
        let (asked, counter) = (Arc::clone(&asked), Arc::clone(&counter));
        move || {
            for round in 1.. {
                spin_until(|| asked.load(Ordering::Acquire) >= round);
                if asked.load(Ordering::Acquire) == END {
                    break;
                }
                (0..round * 13 % 2_000).for_each(|_| hint::spin_loop());
                counter.raise();
            }
        }
    });
    run(async || {
        for round in Rounds::new(10_000) {
            asked.store(round, Ordering::Release);
            counter.reaches(round).await;
        }
        asked.store(END, Ordering::Release);
        Ok(())
    });
    thread.join().expect("no panic");
}

/// Numbers from 1 on: as many as were asked for, or as a busy machine does within some seconds. So
/// what takes longer than that has lost a wake.
struct Rounds {
    next: std::ops::RangeInclusive<u64>,
    begun: Instant,
}

impl Rounds {
    fn new(most: u64) -> Rounds {
        Rounds { next: 1..=most, begun: Instant::now() }
    }
}

impl Iterator for Rounds {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.next.next().filter(|_| self.begun.elapsed() < Duration::from_secs(3))
    }
}

/// No round any more.
const END: u64 = u64::MAX;

/// Held by tests that have threads which do not sleep: on a small machine they would starve each other.
static PROCESSOR: Mutex<()> = Mutex::new(());

pub(super) fn processor() -> MutexGuard<'static, ()> {
    PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits without going to sleep, but lets others have the processor now and then.
fn spin_until(is_so: impl Fn() -> bool) {
    let mut spins = 0_u32;
    while !is_so() {
        spins += 1;
        if spins % 4_096 == 0 { thread::yield_now() } else { hint::spin_loop() }
    }
}

/// A thread fires the waker twice, the second time about when the run deals with the first. Nothing
/// but that second wake tells the task of the second number.
fn fire_in_pairs(rounds: u64, longest_gap: u64, busy: bool) {
    let _processor = processor();
    let (value, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (give, taken) = mpsc::channel::<Waker>();
    let thread = thread::spawn({
        let (value, seen) = (Arc::clone(&value), Arc::clone(&seen));
        move || {
            let waker = taken.recv().expect("a waker");
            for round in Rounds::new(rounds) {
                for number in [2 * round - 1, 2 * round] {
                    value.store(number, Ordering::Release);
                    waker.wake_by_ref();
                    // Another gap in every round.
                    (0..round * 7 % longest_gap).for_each(|_| hint::spin_loop());
                }
                spin_until(|| seen.load(Ordering::Acquire) >= 2 * round);
            }
            value.store(END, Ordering::Release);
            waker.wake();
        }
    });
    run(async || {
        nursery(async |n| {
            if busy {
                n.spawn_daemon(async {
                    loop {
                        checkpoint().await?;
                    }
                });
            }
            poll_fn(|cx| {
                if seen.load(Ordering::Relaxed) == 0 {
                    // A second one is not taken any more.
                    let _ = give.send(cx.waker().clone());
                }
                let number = value.load(Ordering::Acquire);
                seen.store(number, Ordering::Release);
                if number == END { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            Ok(())
        })
        .await
    });
    thread.join().expect("no panic");
}

// A wake that comes while the one before is being dealt with is a wake of its own.
#[test]
fn wakes_in_quick_succession_are_not_taken_for_one() {
    fire_in_pairs(20_000, 300, true);
    fire_in_pairs(2_000, 3_000, false);
}

// Many threads at once, each with many tasks: all of them run, and all wakes go through one inbox.
#[test]
fn wakes_from_many_threads_at_once_all_arrive() {
    const THREADS: u64 = 8;
    const TASKS: u64 = 25;
    const RAISES: u64 = 50;
    run(async || {
        let counters: Vec<_> = (0..TASKS).map(|_| Arc::new(Counter::default())).collect();
        let barrier = Arc::new(Barrier::new(THREADS as usize));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (counters, barrier) = (counters.clone(), Arc::clone(&barrier));
                thread::spawn(move || {
                    barrier.wait();
                    for _ in 0..RAISES {
                        counters.iter().for_each(|counter| counter.raise());
                    }
                })
            })
            .collect();
        let reached = &Cell::new(0);
        nursery(async |n| {
            for counter in &counters {
                n.spawn(async {
                    for wanted in 1..=THREADS * RAISES {
                        counter.reaches(wanted).await;
                    }
                    reached.set(reached.get() + 1);
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        assert_eq!(reached.get(), TASKS);
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        Ok(())
    });
}
