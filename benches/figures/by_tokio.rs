//! tokio: a runtime on the current thread, tasks that need not be `Send`, a `JoinSet`.

use std::cell::Cell;
use std::future::{Future, ready};
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::{JoinSet, LocalSet, yield_now};
use tokio::time::{sleep, timeout};

use super::by_hand::accept;
use super::clock::{self, mixed};
use super::crowd;
use super::scale::Scale;

fn run<F: Future>(main: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, main)
}

pub fn spawn_many(scale: Scale) -> f64 {
    run(async {
        spawn(scale.of(20), 1_000).await;
        spawn(scale.of(300), 1_000).await
    })
}

pub fn spawn_one(scale: Scale) -> f64 {
    run(async {
        spawn(scale.of(20_000), 1).await;
        spawn(scale.of(200_000), 1).await
    })
}

async fn spawn(sets: usize, children: usize) -> f64 {
    let began = Instant::now();
    for _ in 0..sets {
        let mut set = JoinSet::new();
        for _ in 0..children {
            set.spawn_local(async {});
        }
        while let Some(joined) = set.join_next().await {
            joined.expect("an empty task ends well");
        }
    }
    began.elapsed().as_nanos() as f64 / (sets * children) as f64
}

pub fn cancel(scale: Scale) -> f64 {
    sweep(scale, false)
}

pub fn cancel_close(scale: Scale) -> f64 {
    sweep(scale, true)
}

fn sweep(scale: Scale, close: bool) -> f64 {
    let count = crowd::size(scale);
    let (_crowd, streams) = accept(count);
    run(async move {
        let adopt = |stream: std::net::TcpStream| {
            stream.set_nonblocking(true).expect("a socket that does not block");
            Rc::new(TcpStream::from_std(stream).expect("a stream"))
        };
        let mut streams: Vec<_> = streams.into_iter().map(adopt).collect();
        let waiting = Rc::new(Cell::new(0));
        let mut set = JoinSet::new();
        for stream in &streams {
            let (stream, waiting) = (Rc::clone(stream), Rc::clone(&waiting));
            set.spawn_local(async move {
                waiting.set(waiting.get() + 1);
                let _ = stream.readable().await;
            });
        }
        while waiting.get() < count {
            yield_now().await;
        }
        yield_now().await;
        if close {
            // From here on each stream is its task's alone, and closed with it.
            streams.clear();
        }

        let began = Instant::now();
        set.abort_all();
        while set.join_next().await.is_some() {}
        began.elapsed().as_nanos() as f64 / count as f64
    })
}

pub fn timeout_ready(scale: Scale) -> f64 {
    run(async {
        let mut last = 0.0;
        for count in [scale.of(20_000), scale.of(500_000)] {
            let began = Instant::now();
            for at in 0..count {
                let value = timeout(LONG, ready(black_box(at))).await;
                assert_eq!(value, Ok(at));
            }
            last = began.elapsed().as_nanos() as f64 / count as f64;
        }
        last
    })
}

pub fn timeout_yield(scale: Scale) -> f64 {
    run(async {
        let mut last = 0.0;
        for count in [scale.of(20_000), scale.of(200_000)] {
            let began = Instant::now();
            for _ in 0..count {
                assert_eq!(timeout(LONG, yield_now()).await, Ok(()));
            }
            last = began.elapsed().as_nanos() as f64 / count as f64;
        }
        last
    })
}

pub fn sleep_same(scale: Scale) -> f64 {
    run(sleepers(scale.of(100_000), |_| Duration::from_millis(100)))
}

pub fn sleep_mixed(scale: Scale) -> f64 {
    run(sleepers(scale.of(100_000), mixed))
}

async fn sleepers(count: usize, length: fn(usize) -> Duration) -> f64 {
    let began = clock::thread_time();
    let mut set = JoinSet::new();
    for at in 0..count {
        set.spawn_local(async move { sleep(length(at)).await });
    }
    while let Some(joined) = set.join_next().await {
        joined.expect("a sleeping task ends well");
    }
    (clock::thread_time() - began).as_nanos() as f64 / count as f64
}

/// A deadline that never comes.
const LONG: Duration = Duration::from_secs(3600);
