//! What the attributes write down is compiled and run here, with a stand-in for what it names.

extern crate self as trine;

/// What [`trine_macros::test`] names: here a plan writes down what it is told.
mod testing {
    use std::fmt::Debug;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use std::cell::RefCell;

    thread_local! {
        static TOLD: RefCell<String> = const { RefCell::new(String::new()) };
    }

    /// What the plan of the test that runs on this thread was told.
    pub fn told() -> String {
        TOLD.take()
    }

    #[derive(Debug)]
    pub enum Kernel {
        Sim,
        Real,
    }

    #[derive(Debug)]
    #[allow(dead_code, reason = "not all are used here")]
    pub enum Clock {
        Autojump,
        Real,
        Manual,
    }

    #[derive(Debug)]
    pub struct Faults(&'static str);

    impl Faults {
        pub fn lossless() -> Faults {
            Faults("lossless")
        }
    }

    pub trait Outcome {
        fn check(self);
    }

    impl Outcome for () {
        fn check(self) {}
    }

    impl<E: Debug> Outcome for Result<(), E> {
        fn check(self) {
            self.expect("the test returned an error");
        }
    }

    pub struct Plan;

    impl Plan {
        pub fn new(path: &'static str) -> Plan {
            // The name that the test harness gives the test is the name of its thread, if it has
            // a thread of its own.
            if let Some(name) = std::thread::current().name().filter(|name| *name != "main") {
                assert_eq!(path, format!("expansion::{name}"));
            }
            Plan
        }

        fn tell(self, what: &str, value: impl Debug) -> Plan {
            TOLD.with_borrow_mut(|told| *told += &format!("{what} {value:?}; "));
            self
        }

        pub fn kernel(self, kernel: Kernel) -> Plan {
            self.tell("kernel", kernel)
        }

        pub fn clock(self, clock: Clock) -> Plan {
            self.tell("clock", clock)
        }

        pub fn seed(self, seed: u64) -> Plan {
            self.tell("seed", seed)
        }

        pub fn runs(self, runs: u32) -> Plan {
            self.tell("runs", runs)
        }

        pub fn timeout(self, timeout: Duration) -> Plan {
            self.tell("timeout", timeout)
        }

        pub fn faults(self, faults: Faults) -> Plan {
            self.tell("faults", faults.0)
        }

        pub fn deterministic(self, deterministic: bool) -> Plan {
            self.tell("deterministic", deterministic)
        }

        pub fn check<R: Outcome>(self, body: impl AsyncFn() -> R) {
            match pin!(body()).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => outcome.check(),
                Poll::Pending => panic!("nothing here waits"),
            }
        }

        pub fn check_plain<R: Outcome>(self, body: impl Fn() -> R) {
            body().check();
        }
    }
}

async fn add(a: u32, b: u32) -> u32 {
    a + b
}

#[trine_macros::test]
async fn nothing_said() {
    assert_eq!(add(1, 2).await, 3);
    assert_eq!(trine::testing::told(), "kernel Sim; ");
}

#[trine_macros::test(
    kernel = "sim",
    clock = "manual",
    seed = 7,
    runs = 100,
    timeout = "0.5s",
    faults = "lossless",
    deterministic = false
)]
async fn everything_said() -> Result<(), String> {
    let told = trine::testing::told();
    let expected = "kernel Sim; clock Manual; seed 7; runs 100; timeout 500ms; faults \"lossless\"; \
                    deterministic false; ";
    if told == expected { Ok(()) } else { Err(told) }
}

/// A story.
#[trine_macros::test]
#[should_panic(expected = "the test returned an error: \"on purpose\"")]
async fn an_error_fails_the_test() -> Result<(), &'static str> {
    Err("on purpose")
}

#[trine_macros::test]
#[ignore = "it would fail"]
async fn an_ignored_test() {
    unreachable!();
}

#[trine_macros::test]
#[cfg(any())]
async fn a_test_for_no_platform() -> NoSuchType {}

#[trine_macros::test(kernel = "real")]
fn a_plain_function() -> Result<(), std::fmt::Error> {
    assert_eq!(trine::testing::told(), "kernel Real; ");
    Ok(())
}

#[trine_macros::test]
async fn r#try() {}

mod inner {
    use super::add;

    /// A story of two kernels.
    #[trine_macros::test(kernel = "both", seed = 1, faults = "lossless")]
    async fn both_kernels() -> Result<(), String> {
        assert_eq!(super::add(1, 2).await, add(2, 1).await);
        match trine::testing::told().as_str() {
            "kernel Real; seed 1; " | "kernel Sim; seed 1; faults \"lossless\"; " => Ok(()),
            other => Err(other.into()),
        }
    }

    #[trine_macros::test(kernel = "both")]
    #[should_panic = "on purpose"]
    #[expect(clippy::assertions_on_constants)]
    #[allow(non_snake_case)]
    fn Both_kernels_and_a_plain_function() {
        assert!(false, "on purpose");
    }

    #[trine_macros::test(kernel = "both")]
    #[cfg(any())]
    async fn both_kernels_for_no_platform() -> NoSuchType {}

    #[trine_macros::test(kernel = "both")]
    #[cfg_attr(all(), ignore = "it would fail", allow(unused_variables))]
    async fn both_ignored() {
        let nothing = 0;
        unreachable!();
    }
}

macro_rules! tests {
    ($($name:ident $seed:literal $body:block)*) => {
        $(
            #[trine_macros::test(seed = $seed, kernel = "both")]
            async fn $name() -> Result<(), String> $body
        )*
    };
}

tests! {
    written_by_a_macro 3 {
        let told = trine::testing::told();
        if told.ends_with("seed 3; ") { Ok(()) } else { Err(told) }
    }
}
