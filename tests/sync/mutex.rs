//! Mutexes: the value that is locked, and what becomes of it in a panic.

use std::cell::Cell;

use futures::FutureExt;
use trine::sync::Mutex;
use trine::time::sleep_forever;
use trine::{Result, checkpoint, nursery};

use crate::common::fewer;
use crate::common::wakers::thrown;
use crate::{Waiter, is_poisoned, shown, would_block};

// One at a time, also across an await.
#[trine::test(kernel = "both", runs = 5)]
async fn what_many_tasks_change_across_awaits_is_changed_by_one_at_a_time() -> Result {
    const TASKS: usize = fewer(50, 5);
    let mutex = &Mutex::new((0, Vec::new()));
    nursery(async |n| {
        for task in 0..TASKS {
            n.spawn(async move {
                let mut guard = mutex.lock().await?;
                let before = guard.0;
                checkpoint().await?;
                guard.0 = before + 1;
                guard.1.push(task);
                Ok(())
            });
        }
        Ok(())
    })
    .await?;
    let (count, mut tasks) = mutex.lock().await?.clone();
    tasks.sort_unstable();
    assert_eq!((count, tasks), (TASKS, (0..TASKS).collect()));
    Ok(())
}

/// A mutex whose holder, a child, has panicked.
async fn poisoned() -> Mutex<u32> {
    let mutex = Mutex::new(1);
    let told = thrown(nursery::<(), _>(async |n| {
        n.spawn(async {
            let mut guard = mutex.lock().await?;
            *guard = 2;
            checkpoint().await?;
            panic!("half-way")
        });
        sleep_forever().await
    }));
    assert_eq!(told.await, "half-way");
    mutex
}

// N20: a child that panics with the lock leaves it unlocked and poisoned; the others see that.
#[trine::test(kernel = "both")]
async fn a_panic_of_the_holder_poisons_it() -> Result {
    let mutex = poisoned().await;
    assert!(mutex.is_poisoned());
    assert!(is_poisoned(&mutex.lock().await));
    assert!(is_poisoned(&mutex.try_lock()));
    // J8: nobody has it in spite of the failures.
    let statistics = mutex.statistics();
    assert_eq!((statistics.held, statistics.waiting), (false, 0));
    mutex.clear_poison();
    assert!(!mutex.is_poisoned());
    assert_eq!(*mutex.lock().await?, 2);
    assert_eq!(*mutex.try_lock()?, 2);
    Ok(())
}

// The value can be had without a lock, whatever has become of it.
#[trine::test(kernel = "both")]
async fn the_value_comes_out_of_a_poisoned_mutex() -> Result {
    let mut mutex = poisoned().await;
    *mutex.get_mut() += 1;
    assert_eq!(mutex.into_inner(), 3);
    Ok(())
}

// J7: those who wait when the holder panics are told one after the other, and none is forgotten.
#[trine::test(kernel = "both")]
async fn all_who_wait_hear_of_the_panic() -> Result {
    const CROWD: usize = fewer(20, 5);
    let (mutex, told) = (&Mutex::new(()), &Cell::new(0));
    nursery(async |n| {
        for _ in 0..CROWD {
            n.spawn(async {
                while !mutex.statistics().held {
                    checkpoint().await?;
                }
                assert!(is_poisoned(&mutex.lock().await));
                told.set(told.get() + 1);
                Ok(())
            });
        }
        let holder = async {
            let _guard = mutex.lock().await?;
            while mutex.statistics().waiting < CROWD {
                checkpoint().await?;
            }
            panic!("with all of them waiting") as Result
        };
        assert_eq!(thrown(holder).await, "with all of them waiting");
        Ok(())
    })
    .await?;
    assert_eq!(told.get(), CROWD);
    assert!(!mutex.statistics().held);
    Ok(())
}

// A waiter that is swept away by a panic has not had the lock, and poisons nothing.
#[trine::test(kernel = "both")]
async fn a_panic_of_somebody_who_waits_or_was_handed_it_poisons_nothing() -> Result {
    let mutex = &Mutex::new(());
    let guard = mutex.lock().await?;
    let unwound = async {
        let _waits = Waiter::waiting(mutex.lock()).await;
        let _is_handed_it = Waiter::waiting(mutex.lock()).await;
        drop(guard);
        panic!("while it waits") as Result
    };
    assert_eq!(thrown(unwound).await, "while it waits");
    assert!(!mutex.is_poisoned());
    assert!(!mutex.statistics().held);
    drop(mutex.lock().await?);
    Ok(())
}

// J7: what is held cannot be had at once, and what is free can.
#[trine::test(kernel = "both")]
async fn try_lock_has_it_at_once_or_not_at_all() -> Result {
    let mutex = Mutex::new(5);
    let guard = mutex.try_lock()?;
    assert!(would_block(&mutex.try_lock()));
    assert!(mutex.lock().now_or_never().is_none());
    drop(guard);
    *mutex.try_lock()? += 1;
    assert_eq!(*mutex.try_lock()?, 6);
    Ok(())
}

#[trine::test(kernel = "both")]
async fn a_mutex_shows_itself() -> Result {
    let mutex = Mutex::new(7);
    assert_eq!(shown(&mutex), "Mutex { value: 7, waiting: 0, poisoned: false }");
    let guard = mutex.lock().await?;
    let _waiter = Waiter::waiting(mutex.lock()).await;
    assert_eq!(shown(&guard), "7");
    assert_eq!(shown(&mutex), "Mutex { value: <locked>, waiting: 1, poisoned: false }");
    assert_eq!(shown(&mutex.statistics()), "MutexStatistics { held: true, waiting: 1 }");
    assert!(shown(&poisoned().await).contains("poisoned: true"));
    Ok(())
}
