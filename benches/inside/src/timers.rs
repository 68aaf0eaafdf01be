//! Many that sleep at the same time.

use std::time::Duration;

use smol::Timer;
use tokio::task::JoinSet;
use trine::time::sleep;
use trine::{Result, checkpoint, nursery};

use crate::{clock, runs};

/// The same time for all.
pub fn same(_: usize) -> Duration {
    Duration::from_millis(100)
}

/// 100 to 200 ms, as good as random, the same for all sides and rounds.
pub fn mixed(at: usize) -> Duration {
    let scattered = (at as u32).wrapping_mul(0x9E37_79B1) >> 12;
    Duration::from_nanos(100_000_000 + u64::from(scattered) * 95)
}

/// Until it is cancelled.
const LONG: Duration = Duration::from_secs(3600);

/// Asleep at once until each has slept; only the thread's own time counts.
pub fn fired_by_trine<const COUNT: usize>(times: u64, length: fn(usize) -> Duration) -> Duration {
    async fn once(count: usize, length: fn(usize) -> Duration) -> Result {
        nursery(async |n| {
            for at in 0..count {
                n.spawn(async move { sleep(length(at)).await });
            }
            Ok(())
        })
        .await
    }
    runs::trine(async || {
        let began = clock::of_thread();
        for _ in 0..times {
            once(COUNT, length).await?;
        }
        Ok(clock::of_thread() - began)
    })
}

pub fn fired_by_tokio<const COUNT: usize>(times: u64, length: fn(usize) -> Duration) -> Duration {
    runs::tokio(async {
        let began = clock::of_thread();
        for _ in 0..times {
            let mut set = JoinSet::new();
            for at in 0..COUNT {
                set.spawn_local(async move { tokio::time::sleep(length(at)).await });
            }
            while let Some(joined) = set.join_next().await {
                joined.expect("a sleeping task ends well");
            }
        }
        clock::of_thread() - began
    })
}

/// smol's timers fire on a thread of their own, which is not counted here.
pub fn fired_by_smol<const COUNT: usize>(times: u64, length: fn(usize) -> Duration) -> Duration {
    runs::smol(async |executor| {
        let began = clock::of_thread();
        for _ in 0..times {
            let sleep = |at| Timer::after(length(at));
            let tasks: Vec<_> = (0..COUNT).map(|at| executor.spawn(sleep(at))).collect();
            for task in tasks {
                task.await;
            }
        }
        clock::of_thread() - began
    })
}

/// Asleep at once, and cancelled all together.
pub fn cancelled_by_trine<const COUNT: usize>(times: u64) -> Duration {
    runs::trine(async || {
        let began = clock::of_thread();
        for _ in 0..times {
            let cancelled = nursery(async |n| {
                for _ in 0..COUNT {
                    n.spawn(async { sleep(LONG).await });
                }
                checkpoint().await?;
                checkpoint().await?;
                n.cancel();
                Ok(())
            });
            match cancelled.await {
                Err(error) if !error.is_cancelled() => return Err(error),
                _ => {}
            }
        }
        Ok(clock::of_thread() - began)
    })
}

pub fn cancelled_by_tokio<const COUNT: usize>(times: u64) -> Duration {
    runs::tokio(async {
        let began = clock::of_thread();
        for _ in 0..times {
            let mut set = JoinSet::new();
            for _ in 0..COUNT {
                set.spawn_local(tokio::time::sleep(LONG));
            }
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            set.shutdown().await;
        }
        clock::of_thread() - began
    })
}
