//! Scopes and timeouts that nothing happens to.

use std::future::ready;
use std::hint::black_box;
use std::time::{Duration, Instant};

use smol::Timer;
use tokio::task::yield_now;
use tokio::time::timeout;
use trine::{CancelScope, Result, checkpoint, move_on_after, nursery};

use crate::runs::{self, timed};

/// A deadline that never comes.
const LONG: Duration = Duration::from_secs(3600);

/// Scopes within one another, opened and closed again.
pub fn nested<const DEPTH: usize>(times: u64) -> Duration {
    fn go(depth: usize) -> std::pin::Pin<Box<dyn Future<Output = Result>>> {
        Box::pin(async move {
            match depth {
                0 => Ok(()),
                _ => CancelScope::new().run(async |_| go(depth - 1).await).await.map(drop),
            }
        })
    }
    runs::trine(async || Ok(timed(times, async || go(DEPTH).await.expect("scopes")).await))
}

pub fn scope(times: u64) -> Duration {
    runs::trine(async || {
        let once = async || CancelScope::new().run(async |_| Ok(())).await.expect("a scope");
        Ok(timed(times, async || assert_eq!(once().await, Some(()))).await)
    })
}

pub fn nursery_without_children(times: u64) -> Duration {
    runs::trine(async || {
        let once = async || nursery(async |_| Ok(())).await;
        Ok(timed(times, async || once().await.expect("a nursery")).await)
    })
}

// A timeout around what is ready.

pub fn ready_by_trine(times: u64) -> Duration {
    runs::trine(async || {
        let began = Instant::now();
        for at in 0..times {
            let value = move_on_after(LONG, async |_| Ok(black_box(at))).await?;
            assert_eq!(value, Some(at));
        }
        Ok(began.elapsed())
    })
}

pub fn ready_by_tokio(times: u64) -> Duration {
    runs::tokio(async {
        let began = Instant::now();
        for at in 0..times {
            assert_eq!(timeout(LONG, ready(black_box(at))).await, Ok(at));
        }
        began.elapsed()
    })
}

pub fn ready_by_smol(times: u64) -> Duration {
    runs::smol(async |_| {
        let began = Instant::now();
        for at in 0..times {
            let late = async {
                Timer::after(LONG).await;
                u64::MAX
            };
            assert_eq!(smol::future::or(ready(black_box(at)), late).await, at);
        }
        began.elapsed()
    })
}

// A timeout around what has to wait for a turn.

pub fn pending_by_trine(times: u64) -> Duration {
    runs::trine(async || {
        let once = async || move_on_after(LONG, async |_| checkpoint().await).await;
        Ok(timed(times, async || assert_eq!(once().await.expect("in time"), Some(()))).await)
    })
}

pub fn pending_by_tokio(times: u64) -> Duration {
    runs::tokio(timed(times, async || assert_eq!(timeout(LONG, yield_now()).await, Ok(()))))
}

pub fn pending_by_smol(times: u64) -> Duration {
    runs::smol(async |_| {
        let once = async || {
            let late = async {
                Timer::after(LONG).await;
                panic!("an hour has passed");
            };
            smol::future::or(smol::future::yield_now(), late).await;
        };
        timed(times, once).await
    })
}

// A deadline that is moved while it is set.

pub fn moved_by_trine(times: u64) -> Duration {
    runs::trine(async || {
        let took = move_on_after(LONG, async |scope| {
            checkpoint().await?; // now its timer is set
            let far = trine::time::Instant::now() + LONG;
            let began = Instant::now();
            for at in 0..times {
                scope.set_deadline(Some(far + Duration::from_nanos(at)));
            }
            Ok(began.elapsed())
        });
        Ok(took.await?.expect("an hour is enough"))
    })
}

pub fn moved_by_tokio(times: u64) -> Duration {
    runs::tokio(async {
        let mut sleep = std::pin::pin!(tokio::time::sleep(LONG));
        assert!(timeout(Duration::ZERO, sleep.as_mut()).await.is_err()); // now it is set
        let far = tokio::time::Instant::now() + LONG;
        let began = Instant::now();
        for at in 0..times {
            sleep.as_mut().reset(far + Duration::from_nanos(at));
        }
        began.elapsed()
    })
}
