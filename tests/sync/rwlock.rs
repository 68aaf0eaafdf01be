//! Locks for many readers or one writer.

use std::cell::{Cell, RefCell};

use futures::join;
use trine::sync::{ReadGuard, RwLock};
use trine::time::sleep_forever;
use trine::{CancelScope, Result, checkpoint, nursery};

use crate::common::wakers::thrown;
use crate::common::{fewer, turns};
use crate::{Waiter, is_poisoned, shown, would_block};

/// Readers, whether there is a writer, who waits.
fn counts<T>(lock: &RwLock<T>) -> (usize, bool, usize) {
    let statistics = lock.statistics();
    (statistics.readers, statistics.writer, statistics.waiting)
}

// Readers are in together, and a writer alone.
#[trine::test(kernel = "both", runs = 5)]
async fn readers_are_together_and_writers_alone() -> Result {
    const TASKS: usize = fewer(60, 6);
    let lock = &RwLock::new(0);
    let (readers, most, writers) = (&Cell::new(0), &Cell::new(0), &Cell::new(0));
    nursery(async |n| {
        for task in 0..TASKS {
            n.spawn(async move {
                if task % 3 == 0 {
                    let mut guard = lock.write().await?;
                    assert_eq!((readers.get(), writers.replace(1)), (0, 0));
                    let before = *guard;
                    turns(task % 4).await;
                    *guard = before + 1;
                    writers.set(0);
                } else {
                    let guard = lock.read().await?;
                    readers.set(readers.get() + 1);
                    most.set(most.get().max(readers.get()));
                    let before = *guard;
                    turns(task % 4 + 1).await;
                    assert_eq!((*guard, writers.get()), (before, 0));
                    readers.set(readers.get() - 1);
                }
                Ok(())
            });
        }
        Ok(())
    })
    .await?;
    assert_eq!(*lock.read().await?, TASKS / 3);
    assert!(most.get() > 1, "no two readers were in at a time");
    assert_eq!(counts(lock), (0, false, 0));
    Ok(())
}

// J7: a writer that waits lets no later reader past, and those behind it go in together.
#[trine::test(kernel = "both")]
async fn a_waiting_writer_lets_no_later_reader_past() -> Result {
    let lock = RwLock::new(0);
    let reads = lock.read().await?;
    assert!(lock.try_read().is_ok());
    let mut writer = Waiter::waiting(lock.write()).await;
    assert!(would_block(&lock.try_read()));
    let mut one = Waiter::waiting(lock.read()).await;
    let mut two = Waiter::waiting(lock.read()).await;
    let mut last = Waiter::waiting(lock.write()).await;
    assert_eq!(counts(&lock), (1, false, 4));
    drop(reads);
    assert_eq!(counts(&lock), (0, true, 3));
    *writer.look().await.has() = 1;
    assert_eq!(counts(&lock), (2, false, 1));
    let (one, two) = (one.look().await.has(), two.look().await.has());
    assert_eq!((*one, *two), (1, 1));
    drop(one);
    assert!(last.look().await.waits());
    drop(two);
    *last.look().await.has() = 2;
    assert_eq!(counts(&lock), (0, false, 0));
    assert_eq!(*lock.try_read()?, 2);
    Ok(())
}

// J8: when the writer has gone, the readers behind it go in beside the one who is.
#[trine::test(kernel = "both")]
async fn readers_go_in_when_the_writer_before_them_is_cancelled_or_dropped() -> Result {
    for drops in [false, true] {
        let lock = RwLock::new(0);
        let reads = lock.read().await?;
        let mut writer = Waiter::waiting(lock.write()).await;
        let mut one = Waiter::waiting(lock.read()).await;
        let mut two = Waiter::waiting(lock.read()).await;
        let mut last = Waiter::waiting(lock.write()).await;
        if drops {
            drop(writer);
        } else {
            writer.cancel();
            assert!(writer.look().await.is_cancelled());
        }
        assert_eq!(counts(&lock), (3, false, 1));
        let readers = (one.look().await.has(), two.look().await.has());
        assert!(last.look().await.waits());
        drop((readers, reads));
        drop(last.look().await.has());
        assert_eq!(counts(&lock), (0, false, 0));
    }
    Ok(())
}

// J8: a later reader does not wait for a writer that is cancelled and does not know it yet.
#[trine::test(kernel = "both")]
async fn a_cancelled_writer_holds_no_later_reader_up() -> Result {
    let lock = RwLock::new(0);
    let reads = lock.read().await?;
    let mut writer = Waiter::waiting(lock.write()).await;
    writer.cancel();
    assert!(lock.try_read().is_ok());
    drop(Waiter::new(lock.read()).look().await.has());
    assert!(writer.look().await.is_cancelled());
    drop(reads);
    assert_eq!(counts(&lock), (0, false, 0));
    Ok(())
}

// J8: the same with tasks, of which nobody releases anything.
#[trine::test(kernel = "both")]
async fn readers_that_are_tasks_go_in_when_the_writer_is_cancelled() -> Result {
    let (lock, scope, inside) = (&RwLock::new(0), &CancelScope::new(), &Cell::new(0));
    nursery(async |n| {
        let reads = lock.read().await?;
        n.spawn(async {
            assert!(scope.run(async |_| lock.write().await.map(drop)).await?.is_none());
            Ok(())
        });
        while lock.statistics().waiting == 0 {
            checkpoint().await?;
        }
        for _ in 0..3 {
            n.spawn(async {
                let _reads = lock.read().await?;
                inside.set(inside.get() + 1);
                while inside.get() < 3 {
                    checkpoint().await?;
                }
                Ok(())
            });
        }
        while lock.statistics().waiting < 4 {
            checkpoint().await?;
        }
        scope.cancel();
        while inside.get() < 3 {
            checkpoint().await?;
        }
        drop(reads);
        Ok(())
    })
    .await?;
    assert_eq!(counts(lock), (0, false, 0));
    Ok(())
}

/// A lock that is being changed, with two readers and a writer waiting, one behind the other.
async fn handed_to_readers<'a>(lock: &'a RwLock<u32>) -> [Waiter<'a, ReadGuard<'a, u32>>; 2] {
    let writes = lock.write().await.expect("nobody has it");
    let one = Waiter::waiting(lock.read()).await;
    let two = Waiter::waiting(lock.read()).await;
    drop(writes);
    assert_eq!(counts(lock), (2, false, 0));
    [one, two]
}

// C4: a reader that was let in and is cancelled is in; the writer behind waits for it.
#[trine::test(kernel = "both")]
async fn a_reader_that_is_cancelled_after_the_hand_over_is_in() -> Result {
    let lock = RwLock::new(0);
    let [mut one, mut two] = handed_to_readers(&lock).await;
    one.cancel();
    let mut writer = Waiter::waiting(lock.write()).await;
    drop(two.look().await.has());
    assert!(writer.look().await.waits());
    drop(one.look().await.has());
    drop(writer.look().await.has());
    assert_eq!(counts(&lock), (0, false, 0));
    Ok(())
}

// J2: readers that were let in and are dropped before they knew have gone, and the writer comes next.
#[trine::test(kernel = "both")]
async fn what_was_handed_to_readers_that_are_dropped_goes_to_the_writer() -> Result {
    let lock = RwLock::new(0);
    let [one, two] = handed_to_readers(&lock).await;
    two.cancel();
    let mut writer = Waiter::waiting(lock.write()).await;
    drop(one);
    assert_eq!(counts(&lock), (1, false, 1));
    assert!(writer.look().await.waits());
    drop(two);
    assert_eq!(counts(&lock), (0, true, 0));
    drop(writer.look().await.has());
    assert_eq!(counts(&lock), (0, false, 0));
    Ok(())
}

// J2: and what was handed to a writer goes to all the readers behind it.
#[trine::test(kernel = "both")]
async fn what_was_handed_to_a_writer_that_is_dropped_goes_to_the_readers() -> Result {
    let lock = RwLock::new(0);
    let writes = lock.write().await?;
    let writer = Waiter::waiting(lock.write()).await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(Waiter::waiting(lock.read()).await);
    }
    drop(writes);
    assert_eq!(counts(&lock), (0, true, 3));
    drop(writer);
    assert_eq!(counts(&lock), (3, false, 0));
    for reader in &mut readers {
        drop(reader.look().await.has());
    }
    assert_eq!(counts(&lock), (0, false, 0));
    Ok(())
}

// J8: readers that wait and are cancelled or dropped are passed over.
#[trine::test(kernel = "both")]
async fn readers_that_are_cancelled_or_dropped_are_passed_over() -> Result {
    let lock = RwLock::new(0);
    let writes = lock.write().await?;
    let mut cancelled = Waiter::waiting(lock.read()).await;
    let dropped = Waiter::waiting(lock.read()).await;
    let mut stays = Waiter::waiting(lock.read()).await;
    cancelled.cancel();
    drop(dropped);
    drop(writes);
    assert_eq!(counts(&lock), (1, false, 0));
    assert!(cancelled.look().await.is_cancelled());
    drop(stays.look().await.has());
    assert_eq!(counts(&lock), (0, false, 0));
    // A6: and in a cancelled scope nobody goes in.
    let mut cancelled = Waiter::new(lock.read());
    cancelled.cancel();
    assert!(cancelled.look().await.is_cancelled());
    assert_eq!(counts(&lock), (0, false, 0));
    Ok(())
}

// J7: a writer does not starve among readers that are always there.
#[trine::test(kernel = "both")]
async fn a_writer_does_not_starve_among_readers() -> Result {
    let (lock, reads) = (&RwLock::new(false), &Cell::new(0));
    nursery(async |n| {
        for _ in 0..3 {
            n.spawn(async {
                // There is always one inside, until the writer was.
                while !*lock.read().await? {
                    let _again = lock.try_read();
                    reads.set(reads.get() + 1);
                    checkpoint().await?;
                }
                Ok(())
            });
        }
        while reads.get() < 10 {
            checkpoint().await?;
        }
        let before = reads.get();
        *lock.write().await? = true;
        assert!(reads.get() - before <= 6, "{} reads got past", reads.get() - before);
        Ok(())
    })
    .await
}

// Branches of one task: two readers together, the writer between them alone.
#[trine::test(kernel = "both")]
async fn waits_that_are_joined_in_one_task_are_served_in_order() -> Result {
    let (lock, order) = (RwLock::new(0), RefCell::new(Vec::new()));
    let read = async |name| {
        let _guard = lock.read().await?;
        order.borrow_mut().push(name);
        checkpoint().await
    };
    let write = async {
        *lock.write().await? += 1;
        order.borrow_mut().push("writer");
        Ok::<_, trine::Error>(())
    };
    let (one, writer, two) = join!(read("one"), write, read("two"));
    one.and(writer).and(two)?;
    assert_eq!(*order.borrow(), ["one", "writer", "two"]);
    Ok(())
}

// N20: a writer that panics poisons it, and a reader does not: it has changed nothing.
#[trine::test(kernel = "both")]
async fn a_panic_of_a_writer_poisons_it_and_one_of_a_reader_does_not() -> Result {
    let mut lock = RwLock::new(1);
    for writes in [false, true] {
        let told = thrown(nursery::<(), _>(async |n| {
            n.spawn(async {
                if writes {
                    let _guard = lock.write().await?;
                    panic!("half-way")
                }
                let _guard = lock.read().await?;
                panic!("half-way")
            });
            sleep_forever().await
        }));
        assert_eq!(told.await, "half-way");
        assert_eq!(lock.is_poisoned(), writes);
        assert_eq!(is_poisoned(&lock.read().await), writes);
        assert_eq!(is_poisoned(&lock.write().await), writes);
        assert_eq!(is_poisoned(&lock.try_read()), writes);
        assert_eq!(is_poisoned(&lock.try_write()), writes);
        // J8: nobody is in, in spite of the failures.
        assert_eq!(counts(&lock), (0, false, 0));
    }
    lock.clear_poison();
    assert!(!lock.is_poisoned());
    *lock.write().await? += 1;
    *lock.get_mut() += 1;
    assert_eq!(*lock.read().await?, 3);
    assert_eq!(lock.into_inner(), 3);
    Ok(())
}

#[trine::test(kernel = "both")]
async fn a_lock_shows_itself() -> Result {
    let lock = RwLock::new(7);
    let reads = lock.read().await?;
    assert_eq!(shown(&reads), "7");
    assert_eq!(shown(&lock), "RwLock { value: 7, waiting: 0, poisoned: false }");
    drop(reads);
    let writes = lock.write().await?;
    let _waiter = Waiter::waiting(lock.read()).await;
    assert_eq!(shown(&writes), "7");
    assert_eq!(shown(&lock), "RwLock { value: <locked>, waiting: 1, poisoned: false }");
    let statistics = shown(&lock.statistics());
    assert_eq!(statistics, "RwLockStatistics { readers: 0, writer: true, waiting: 1 }");
    Ok(())
}
