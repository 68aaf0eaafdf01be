//! How each side runs a main future: on the current thread, with tasks that need not be `Send`.

use std::future::Future;
use std::time::{Duration, Instant};

use smol::LocalExecutor;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use trine::Result;

pub fn trine<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    trine::run(main).expect("a run that ends well")
}

pub fn tokio<F: Future>(main: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, main)
}

/// The executor that smol's local tasks are spawned on.
pub type Executor = LocalExecutor<'static>;

pub fn smol<T>(main: impl AsyncFnOnce(&Executor) -> T) -> T {
    let executor = Executor::new();
    smol::block_on(executor.run(main(&executor)))
}

/// How long `what` takes `times` times, after a tenth of that to get warm.
pub async fn timed(times: u64, mut what: impl AsyncFnMut()) -> Duration {
    for _ in 0..times / 10 {
        what().await;
    }
    let began = Instant::now();
    for _ in 0..times {
        what().await;
    }
    began.elapsed()
}
