//! The attributes of [trine](https://docs.rs/trine): [`#[trine::main]`](macro@main) and
//! [`#[trine::test]`](macro@test).
//!
//! Use them through `trine`, which exports both: what they write down names `::trine`.
//!
//! A mistake in an attribute is an error of the compiler that points to the wrong word and lists
//! what is allowed. All mistakes of one attribute are reported at once.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

use proc_macro::TokenStream;

mod arguments;
mod complaints;
mod duration;
mod function;
mod main_attr;
mod test_attr;

/// Runs `async fn main` as the program, and lets the first Ctrl-C cancel it.
///
/// The body is the main scope of a run with the usual settings, except that Ctrl-C is caught: the
/// first one cancels the main scope with reason `Interrupt`, a second one kills the process (rule
/// P5). It takes no arguments; for other settings write a plain `fn main` and use `trine::Builder`.
///
/// The function may return nothing, `trine::Result`, or the `Result` of another error type.
///
/// ```
/// # extern crate self as trine;
/// # pub use trine_macros::main;
/// # type Result = std::io::Result<()>;
/// # async fn checkpoint() -> Result { Ok(()) }
/// # #[doc(hidden)] pub mod __private {
/// #     use std::{pin::pin, task::{Context, Poll, Waker}};
/// #     pub fn main<R>(main: impl AsyncFnOnce() -> R) -> R {
/// #         match pin!(main()).poll(&mut Context::from_waker(Waker::noop())) {
/// #             Poll::Ready(outcome) => outcome,
/// #             Poll::Pending => panic!("nothing here waits"),
/// #         }
/// #     }
/// # }
/// #[trine::main]
/// async fn main() -> Result {
///     checkpoint().await?;
///     println!("hello");
///     Ok(())
/// }
/// ```
///
/// Another name, parameters, or a function that is not `async` do not compile:
///
/// ```compile_fail
/// #[trine_macros::main]
/// fn main() {}
/// ```
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    main_attr::expand(arguments.into(), item.into()).into()
}

/// A test that runs on the simulated kernel, on the real one, or on both.
///
/// It goes on an `async fn`, whose body is then the main scope of a run, or on a plain `fn`, where
/// the runs that it makes use the kernel and the clock asked for. The function may return nothing or
/// a `Result`; an error fails the test. Other attributes (`#[should_panic]`, `#[ignore]`, …) work as
/// they do with `#[test]`.
///
/// ```
/// # extern crate self as trine;
/// # pub use trine_macros::test;
/// # fn main() {}
/// # type Result = std::io::Result<()>;
/// # async fn checkpoint() -> Result { Ok(()) }
/// #[trine::test]
/// async fn a_checkpoint_returns() -> Result {
///     checkpoint().await
/// }
///
/// #[trine::test(faults = "lossless", runs = 100, timeout = "5s")]
/// async fn it_returns_whatever_the_kernel_does() -> Result {
///     checkpoint().await
/// }
///
/// #[trine::test(kernel = "both")]
/// async fn the_simulation_is_like_linux() -> Result {
///     checkpoint().await
/// }
/// ```
///
/// # Arguments
/// All may be left away.
///
/// | argument | values | meaning |
/// |---|---|---|
/// | `kernel` | `"sim"`, `"real"`, `"both"` | who answers the ring; `"sim"` unless said otherwise |
/// | `clock` | `"autojump"`, `"real"`, `"manual"` | who moves the time; `"autojump"` on the simulated kernel and `"real"` on the real one unless said otherwise |
/// | `seed` | a whole number | the first seed; then the tame tape is not tried. The real kernel has none |
/// | `runs` | a whole number from 1 | how many seeds to try, after the tame tape. On the real kernel a test runs once |
/// | `timeout` | `"5s"`, `"100ms"`, `"2m"`, `"1h"`, `"0.5s"` | how long a run may take, on its own clock; a minute unless said otherwise |
/// | `faults` | `"none"`, `"lossless"`, `"wild"` | what may go wrong in the simulated kernel; `"lossless"` unless said otherwise |
/// | `deterministic` | `true`, `false` | whether a seed must give the same run every time; `true` unless said otherwise |
/// | `leaks` | `true`, `false` | whether the test may leave descriptors open, with `mem::forget` say; `false` unless said otherwise |
///
/// `faults`, `deterministic` and `leaks` are about the simulated kernel: with `kernel = "real"` they are
/// refused, and with `"both"` the test on the real kernel goes without them.
///
/// Which seed or tape is tried can be said from outside, see `trine::testing`.
///
/// With `kernel = "both"` there are two tests, `name::real` and `name::sim`, of the one body.
///
/// # Errors
/// What cannot be meant does not compile:
///
/// ```compile_fail
/// #[trine_macros::test(kernel = "real", faults = "wild")]
/// async fn the_real_kernel_takes_no_orders() {}
/// ```
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    test_attr::expand(arguments.into(), item.into()).into()
}
