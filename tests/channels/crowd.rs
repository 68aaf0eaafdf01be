//! Many producers and many consumers, whose waits are cut short at random.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures::{FutureExt, pin_mut, select_biased};
use trine::sync::{Receiver, Sender, channel};
use trine::time::sleep;
use trine::{Nursery, Result, checkpoint, move_on_after, nursery, yield_shielded};

use crate::common::random::Random;

use super::{Item, Store};
use crate::common::fewer;

const PRODUCERS: u32 = 4;
const CONSUMERS: u64 = 3;
const EACH: u32 = fewer(60, 6);

/// What has become of the items.
#[derive(Default)]
struct Ledger {
    store: Store,
    /// Per consumer.
    received: RefCell<Vec<Vec<u32>>>,
    came_back: RefCell<Vec<u32>>,
    cancellations: Cell<u32>,
}

/// How consumers lose their patience.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Cancelled,
    CancelledOrDropped,
}

fn patience(random: &mut Random) -> Duration {
    Duration::from_micros(random.below(40) as u64)
}

async fn pause(random: &mut Random) -> Result {
    match random.below(5) {
        0 => sleep(patience(random)).await,
        1 => checkpoint().await,
        2 => {
            yield_shielded().await;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Sends its numbers; what comes back it tries once more, or gives up.
async fn produce(producer: u32, sender: Sender<Item>, ledger: &Ledger) -> Result {
    let mut random = Random(u64::from(producer));
    for number in producer * EACH..(producer + 1) * EACH {
        let mut item = ledger.store.item(number);
        let mut tries = 0;
        loop {
            let sent =
                move_on_after(patience(&mut random), async |_| Ok(sender.send(item).await)).await?;
            match sent.expect("a send always says what has become of it") {
                Ok(()) => break,
                Err(refused) => {
                    assert!(refused.error.is_cancelled(), "{refused:?}");
                    assert_eq!(refused.request.number, number);
                    ledger.cancellations.set(ledger.cancellations.get() + 1);
                    item = refused.request;
                    tries += 1;
                    if tries > random.below(8) {
                        ledger.came_back.borrow_mut().push(number);
                        break;
                    }
                }
            }
        }
        pause(&mut random).await?;
    }
    Ok(())
}

/// Receives to the end, with little patience.
async fn consume(seed: u64, cut: Cut, receiver: Receiver<Item>, ledger: &Ledger) -> Result {
    let mut random = Random(seed);
    let mut received = Vec::new();
    loop {
        let patience = patience(&mut random);
        let next = match cut {
            Cut::CancelledOrDropped if random.below(2) == 0 => {
                let (receive, enough) = (receiver.recv().fuse(), sleep(patience).fuse());
                pin_mut!(receive, enough);
                // The sleep comes first, so that something may have been handed over that is not taken.
                select_biased! {
                    enough = enough => {
                        enough?;
                        None
                    }
                    next = receive => Some(next?),
                }
            }
            _ => move_on_after(patience, async |_| receiver.recv().await).await?,
        };
        match next {
            Some(Some(item)) => received.push(item.number),
            Some(None) => break,
            None => ledger.cancellations.set(ledger.cancellations.get() + 1),
        }
        pause(&mut random).await?;
    }
    ledger.received.borrow_mut().push(received);
    Ok(())
}

fn start<'a>(
    n: Nursery<'a, '_>,
    ledger: &'a Ledger,
    capacity: usize,
    consumers: u64,
    cut: Cut,
) -> Sender<Item> {
    let (sender, receiver) = channel(capacity);
    for consumer in 0..consumers {
        n.spawn(consume(1_000 + consumer, cut, receiver.clone(), ledger));
    }
    for producer in 0..PRODUCERS {
        n.spawn(produce(producer, sender.clone(), ledger));
    }
    sender
}

/// Each number was received once, or came back; nothing of any wait is left.
fn settle(ledger: Ledger, story: &str) {
    let mut all: Vec<u32> = ledger.received.take().into_iter().flatten().collect();
    all.extend(ledger.came_back.take());
    all.sort_unstable();
    assert_eq!(all, (0..PRODUCERS * EACH).collect::<Vec<_>>(), "{story}");
    assert_eq!(ledger.store.alive(), 0, "{story}");
    assert!(ledger.cancellations.get() > 0, "{story}: nobody ever lost patience");
}

// J1, J2, J3: whatever is cancelled or dropped, and when: nothing is lost, and nothing comes twice.
#[trine::test(kernel = "both", runs = 20)]
async fn everything_is_received_once_or_comes_back() -> Result {
    for capacity in 0..4 {
        let ledger = Ledger::default();
        nursery(async |n| {
            drop(start(n, &ledger, capacity, CONSUMERS, Cut::CancelledOrDropped));
            Ok(())
        })
        .await?;
        settle(ledger, &format!("capacity {capacity}"));
    }
    Ok(())
}

// J1: one that is cancelled changes nothing about the order in which the others get what was sent.
#[trine::test(kernel = "both", runs = 20)]
async fn each_consumer_sees_each_producer_in_order() -> Result {
    for (capacity, consumers) in [(0, 1), (0, 3), (1, 1), (1, 3), (3, 2)] {
        let ledger = Ledger::default();
        nursery(async |n| {
            drop(start(n, &ledger, capacity, consumers, Cut::Cancelled));
            Ok(())
        })
        .await?;
        for received in &*ledger.received.borrow() {
            for producer in 0..PRODUCERS {
                let of_one: Vec<_> =
                    received.iter().filter(|&&number| number / EACH == producer).collect();
                assert!(of_one.is_sorted(), "producer {producer}: {of_one:?}");
            }
        }
        settle(ledger, &format!("capacity {capacity}, consumers {consumers}"));
    }
    Ok(())
}

// J4, J8: everything is cancelled in the middle; afterwards nobody waits, and all values are accounted for.
#[trine::test(kernel = "both", runs = 20)]
async fn a_crowd_that_is_cancelled_in_the_middle_leaves_nobody_behind() -> Result {
    for capacity in 0..3 {
        let ledger = Ledger::default();
        let kept = Cell::new(None);
        let left = move_on_after(Duration::from_micros(300), async |_| {
            nursery(async |n| {
                let cut = Cut::CancelledOrDropped;
                kept.set(Some(start(n, &ledger, capacity, CONSUMERS, cut)));
                sleep(Duration::from_secs(600)).await
            })
            .await
        });
        assert!(left.await?.is_none());
        let sender = kept.take().expect("it was entered");
        let statistics = sender.statistics();
        assert_eq!((statistics.senders, statistics.receivers), (1, 0));
        assert_eq!((statistics.waiting_to_send, statistics.waiting_to_receive), (0, 0));
        assert_eq!((statistics.len, ledger.store.alive()), (0, 0));
    }
    Ok(())
}

// J1, J7: none of many equals is starved.
#[trine::test(kernel = "both", runs = 20)]
async fn of_many_who_always_wait_each_has_its_turn() -> Result {
    const TASKS: usize = 5;
    const ROUNDS: u32 = fewer(40, 5);
    let (sender, receiver) = channel(0);
    let counts = &RefCell::new([0_u32; TASKS]);
    nursery(async |n| {
        for task in 0..TASKS {
            let receiver = receiver.clone();
            n.spawn(async move {
                while let Some(()) = receiver.recv().await? {
                    counts.borrow_mut()[task] += 1;
                    checkpoint().await?;
                }
                Ok(())
            });
        }
        for _ in 0..ROUNDS * TASKS as u32 {
            sender.send(()).await?;
        }
        drop(sender);
        Ok(())
    })
    .await?;
    let counts = *counts.borrow();
    assert_eq!(counts.iter().sum::<u32>(), ROUNDS * TASKS as u32);
    assert!(counts.iter().all(|&count| count >= ROUNDS / 2), "{counts:?}");
    Ok(())
}
