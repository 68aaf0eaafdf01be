//! What tasks of one thread wait for each other with. tokio's may be used from any thread, and pay for it.

use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync as by_tokio;
use tokio::task::spawn_local;
use trine::{nursery, sync};

use crate::runs::{self, timed};

pub fn lock_by_trine(times: u64) -> Duration {
    runs::trine(async || {
        let mutex = sync::Mutex::new(0_u64);
        Ok(timed(times, async || *mutex.lock().await.expect("a lock") += 1).await)
    })
}

pub fn lock_by_tokio(times: u64) -> Duration {
    runs::tokio(async {
        let mutex = by_tokio::Mutex::new(0_u64);
        timed(times, async || *mutex.lock().await += 1).await
    })
}

pub fn semaphore_by_trine(times: u64) -> Duration {
    runs::trine(async || {
        let semaphore = sync::Semaphore::new(8);
        Ok(timed(times, async || drop(semaphore.acquire().await.expect("a permit"))).await)
    })
}

pub fn semaphore_by_tokio(times: u64) -> Duration {
    runs::tokio(async {
        let semaphore = by_tokio::Semaphore::new(8);
        timed(times, async || drop(semaphore.acquire().await.expect("a permit"))).await
    })
}

pub fn oneshot_by_trine(times: u64) -> Duration {
    runs::trine(async || {
        Ok(timed(times, async || {
            let (sender, receiver) = sync::oneshot();
            sender.send(black_box(1_u64)).expect("a receiver");
            assert_eq!(receiver.recv().await.expect("a value"), 1);
        })
        .await)
    })
}

pub fn oneshot_by_tokio(times: u64) -> Duration {
    runs::tokio(timed(times, async || {
        let (sender, receiver) = by_tokio::oneshot::channel();
        sender.send(black_box(1_u64)).expect("a receiver");
        assert_eq!(receiver.await.expect("a value"), 1);
    }))
}

pub fn thread_by_trine(times: u64) -> Duration {
    runs::trine(async || {
        Ok(timed(times, async || {
            let value = trine::thread::run(|| black_box(1_u64)).await;
            assert_eq!(value.expect("a value"), 1);
        })
        .await)
    })
}

pub fn thread_by_tokio(times: u64) -> Duration {
    runs::tokio(timed(times, async || {
        let value = tokio::task::spawn_blocking(|| black_box(1_u64)).await;
        assert_eq!(value.expect("a value"), 1);
    }))
}

/// Values that fit into the channel.
const CAPACITY: usize = 64;

pub fn channel_by_trine<const SENDERS: u64>(times: u64) -> Duration {
    runs::trine(async || {
        let began = Instant::now();
        nursery(async |n| {
            let (sender, receiver) = sync::channel(CAPACITY);
            for _ in 0..SENDERS {
                let sender = sender.clone();
                n.spawn(async move {
                    for value in 0..times / SENDERS {
                        sender.send(value).await?;
                    }
                    Ok(())
                });
            }
            drop(sender);
            let mut came = 0;
            while receiver.recv().await?.is_some() {
                came += 1;
            }
            assert_eq!(came, times / SENDERS * SENDERS);
            Ok(())
        })
        .await?;
        Ok(began.elapsed())
    })
}

pub fn channel_by_tokio<const SENDERS: u64>(times: u64) -> Duration {
    runs::tokio(async {
        let began = Instant::now();
        let (sender, mut receiver) = by_tokio::mpsc::channel(CAPACITY);
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let sender = sender.clone();
                spawn_local(async move {
                    for value in 0..times / SENDERS {
                        sender.send(value).await.expect("a receiver");
                    }
                })
            })
            .collect();
        drop(sender);
        let mut came = 0;
        while receiver.recv().await.is_some() {
            came += 1;
        }
        assert_eq!(came, times / SENDERS * SENDERS);
        for sender in senders {
            sender.await.expect("an end");
        }
        began.elapsed()
    })
}

/// Tasks that share a lock, each of which holds it for a turn.
const SHARERS: u64 = 8;

pub fn contended_by_trine(times: u64) -> Duration {
    runs::trine(async || {
        let began = Instant::now();
        let mutex = sync::Mutex::new(0_u64);
        nursery(async |n| {
            for _ in 0..SHARERS {
                n.spawn(async {
                    for _ in 0..times / SHARERS {
                        let mut value = mutex.lock().await?;
                        trine::checkpoint().await?;
                        *value += 1;
                    }
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        Ok(began.elapsed())
    })
}

pub fn contended_by_tokio(times: u64) -> Duration {
    runs::tokio(async {
        let began = Instant::now();
        let mutex = Rc::new(by_tokio::Mutex::new(0_u64));
        let sharers: Vec<_> = (0..SHARERS)
            .map(|_| {
                let mutex = Rc::clone(&mutex);
                spawn_local(async move {
                    for _ in 0..times / SHARERS {
                        let mut value = mutex.lock().await;
                        tokio::task::yield_now().await;
                        *value += 1;
                    }
                })
            })
            .collect();
        for sharer in sharers {
            sharer.await.expect("an end");
        }
        began.elapsed()
    })
}
