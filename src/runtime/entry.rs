//! What `#[trine::main]` calls.

use std::ops::AsyncFnOnce;

use crate::error::{Result, Unwind};

use super::Builder;

/// What a `main` may return.
pub trait MainOutcome: Sized {
    /// Runs `main` with Ctrl-C caught (rule P5).
    fn run(main: impl AsyncFnOnce() -> Self) -> Self;
}

impl<T, E: Unwind> MainOutcome for Result<T, E> {
    #[track_caller]
    fn run(main: impl AsyncFnOnce() -> Self) -> Self {
        Builder::new().ctrl_c(true).run_generic(main)
    }
}

impl MainOutcome for () {
    /// Nobody is left to return an error to: it is printed, and the process ends with status 1.
    #[track_caller]
    fn run(main: impl AsyncFnOnce()) {
        let outcome: Result = Builder::new().ctrl_c(true).run_generic(async || {
            main().await;
            Ok(())
        });
        if let Err(error) = outcome {
            eprintln!("Error: {error}");
            std::process::exit(1);
        }
    }
}

/// Runs `main`.
#[track_caller]
pub fn main<R: MainOutcome>(main: impl AsyncFnOnce() -> R) -> R {
    R::run(main)
}
