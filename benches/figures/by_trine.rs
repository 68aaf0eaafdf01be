//! trine.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use trine::net::TcpListener;
use trine::time::sleep;
use trine::{Result, checkpoint, move_on_after, nursery, stats};

use super::clock::{self, mixed};
use super::crowd::{self, Crowd};
use super::scale::Scale;

fn run(main: impl AsyncFnOnce() -> Result<f64>) -> f64 {
    trine::run(main).expect("a run that ends well")
}

pub fn nop(scale: Scale) -> f64 {
    run(async || {
        let mut last = 0.0;
        for count in [scale.of(20_000), scale.of(200_000)] {
            let began = Instant::now();
            for _ in 0..count {
                trine::nop().await?;
            }
            last = began.elapsed().as_nanos() as f64 / count as f64;
        }
        Ok(last)
    })
}

pub fn spawn_many(scale: Scale) -> f64 {
    run(async || {
        spawn(scale.of(20), 1_000).await?;
        spawn(scale.of(300), 1_000).await
    })
}

pub fn spawn_one(scale: Scale) -> f64 {
    run(async || {
        spawn(scale.of(20_000), 1).await?;
        spawn(scale.of(200_000), 1).await
    })
}

async fn spawn(nurseries: usize, children: usize) -> Result<f64> {
    let began = Instant::now();
    for _ in 0..nurseries {
        nursery(async |n| {
            for _ in 0..children {
                n.spawn(async { Ok(()) });
            }
            Ok(())
        })
        .await?;
    }
    Ok(began.elapsed().as_nanos() as f64 / (nurseries * children) as f64)
}

pub fn cancel(scale: Scale) -> f64 {
    sweep(scale, false)
}

pub fn cancel_close(scale: Scale) -> f64 {
    sweep(scale, true)
}

fn sweep(scale: Scale, close: bool) -> f64 {
    let count = crowd::size(scale);
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let _crowd = Crowd::gather(listener.local_addr()?, count);
        let mut streams = Vec::with_capacity(count);
        while streams.len() < count {
            streams.push(Rc::new(listener.accept().await?.0));
        }
        drop(listener);
        let began = Cell::new(Instant::now());
        nursery(async |n| {
            for stream in &streams {
                let stream = Rc::clone(stream);
                n.spawn(async move {
                    stream.recv().await?;
                    Ok(())
                });
            }
            while stats().in_kernel < count {
                checkpoint().await?;
            }
            if close {
                // From here on each stream is its child's alone, and closed with it.
                streams.clear();
            }
            began.set(Instant::now());
            n.cancel();
            Ok(())
        })
        .await?;
        Ok(began.get().elapsed().as_nanos() as f64 / count as f64)
    })
}

pub fn timeout_ready(scale: Scale) -> f64 {
    run(async || {
        let mut last = 0.0;
        for count in [scale.of(20_000), scale.of(500_000)] {
            let began = Instant::now();
            for at in 0..count {
                let value = move_on_after(LONG, async |_| Ok(black_box(at))).await?;
                assert_eq!(value, Some(at));
            }
            last = began.elapsed().as_nanos() as f64 / count as f64;
        }
        Ok(last)
    })
}

pub fn timeout_yield(scale: Scale) -> f64 {
    run(async || {
        let mut last = 0.0;
        for count in [scale.of(20_000), scale.of(200_000)] {
            let began = Instant::now();
            for _ in 0..count {
                let value = move_on_after(LONG, async |_| checkpoint().await).await?;
                assert_eq!(value, Some(()));
            }
            last = began.elapsed().as_nanos() as f64 / count as f64;
        }
        Ok(last)
    })
}

pub fn sleep_same(scale: Scale) -> f64 {
    run(async || sleepers(scale.of(100_000), |_| Duration::from_millis(100)).await)
}

pub fn sleep_mixed(scale: Scale) -> f64 {
    run(async || sleepers(scale.of(100_000), mixed).await)
}

async fn sleepers(count: usize, length: fn(usize) -> Duration) -> Result<f64> {
    let began = clock::thread_time();
    nursery(async |n| {
        for at in 0..count {
            n.spawn(async move { sleep(length(at)).await });
        }
        Ok(())
    })
    .await?;
    Ok((clock::thread_time() - began).as_nanos() as f64 / count as f64)
}

/// A deadline that never comes.
const LONG: Duration = Duration::from_secs(3600);
