//! Children that do nothing: spawned, and joined.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use trine::{Result, nursery};

use crate::runs::{self, Executor, timed};

pub fn by_trine<const CHILDREN: usize>(times: u64) -> Duration {
    async fn once(children: usize) -> Result {
        nursery(async |n| {
            for _ in 0..children {
                n.spawn(async { Ok(()) });
            }
            Ok(())
        })
        .await
    }
    runs::trine(async || Ok(timed(times, async || once(CHILDREN).await.expect("children")).await))
}

pub fn by_tokio<const CHILDREN: usize>(times: u64) -> Duration {
    runs::tokio(timed(times, async || {
        let mut set = JoinSet::new();
        for _ in 0..CHILDREN {
            set.spawn_local(async {});
        }
        while let Some(joined) = set.join_next().await {
            joined.expect("an empty task ends well");
        }
    }))
}

pub fn by_smol<const CHILDREN: usize>(times: u64) -> Duration {
    async fn once(executor: &Executor, children: usize) {
        let tasks: Vec<_> = (0..children).map(|_| executor.spawn(async {})).collect();
        for task in tasks {
            task.await;
        }
    }
    runs::smol(async |executor| timed(times, async || once(executor, CHILDREN).await).await)
}

// One child whose value is awaited.

pub fn fork_by_trine(times: u64) -> Duration {
    runs::trine(async || {
        nursery(async |n| {
            let began = Instant::now();
            for at in 0..times {
                assert_eq!(n.fork(async move { Ok(at) }).await?, at);
            }
            Ok(began.elapsed())
        })
        .await
    })
}

pub fn fork_by_tokio(times: u64) -> Duration {
    runs::tokio(async {
        let began = Instant::now();
        for at in 0..times {
            assert_eq!(tokio::task::spawn_local(async move { at }).await.expect("a value"), at);
        }
        began.elapsed()
    })
}

pub fn fork_by_smol(times: u64) -> Duration {
    runs::smol(async |executor| {
        let began = Instant::now();
        for at in 0..times {
            assert_eq!(executor.spawn(async move { at }).await, at);
        }
        began.elapsed()
    })
}
