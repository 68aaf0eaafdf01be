//! `#[trine::test]` and `#[trine::main]`, on the real crate.

use std::cell::Cell;
use std::time::Duration;

use trine::net::TcpStream;
use trine::testing::World;
use trine::time::{Instant, sleep};
use trine::{Error, Result, checkpoint, nop};

use super::reports::{Ended, run_test};

fn is_simulated() -> bool {
    World::try_current().is_some()
}

// What the function may be, and may return.

#[trine::test]
async fn nothing_said_is_the_simulated_kernel() {
    assert!(is_simulated());
    nop().await.unwrap();
}

#[trine::test]
async fn a_result_of_ours_is_an_outcome() -> Result {
    checkpoint().await
}

#[trine::test]
async fn a_result_of_somebody_elses_is_an_outcome() -> std::io::Result<()> {
    Ok(checkpoint().await?)
}

#[trine::test(kernel = "both")]
async fn a_boxed_error_is_an_outcome() -> Result<(), Box<dyn std::error::Error>> {
    let number: u32 = "7".parse()?;
    assert_eq!(number, 7);
    Ok(nop().await?)
}

#[trine::test]
fn a_plain_function_makes_its_own_runs() -> Result {
    assert!(!is_simulated(), "there is no run yet");
    for _ in 0..2 {
        trine::run(async || {
            assert!(is_simulated());
            nop().await
        })?;
    }
    Ok(())
}

#[trine::test(kernel = "real")]
fn a_plain_function_may_have_the_real_kernel() {
    trine::run(async || {
        assert!(!is_simulated());
        Ok(())
    })
    .unwrap();
}

#[trine::test(kernel = "real")]
async fn the_real_kernel_is_linux() -> Result {
    assert!(!is_simulated());
    nop().await
}

#[trine::test(kernel = "both")]
async fn both_kernels_get_the_one_body() -> Result {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let expected = if is_simulated() { "::sim" } else { "::real" };
    assert!(name.ends_with(expected), "{name}");
    nop().await
}

// The body stays a function that others may call.
#[trine::test]
async fn a_test_for_both_kernels_is_still_a_function() -> Result {
    both_kernels_can_be_called(true).await
}

async fn both_kernels_can_be_called(simulated: bool) -> Result {
    assert_eq!(is_simulated(), simulated);
    nop().await
}

// What it may be told.

#[trine::test(clock = "autojump")]
async fn autojump_is_a_clock() -> Result {
    let began = Instant::now();
    sleep(Duration::from_secs(30)).await?;
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    Ok(())
}

#[trine::test(kernel = "both", clock = "manual")]
async fn manual_is_a_clock() -> Result {
    let began = Instant::now();
    trine::testing::advance(Duration::from_secs(30));
    sleep(Duration::ZERO).await?;
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    Ok(())
}

#[trine::test(kernel = "real", clock = "real")]
async fn real_is_a_clock() -> Result {
    let (began, outside) = (Instant::now(), std::time::Instant::now());
    sleep(Duration::from_millis(2)).await?;
    assert!(began.elapsed() <= outside.elapsed() + Duration::from_millis(1));
    Ok(())
}

#[trine::test(timeout = "2h", runs = 2)]
async fn a_timeout_may_be_long() -> Result {
    sleep(Duration::from_secs(7199)).await
}

#[trine::test(timeout = "1.5s")]
#[should_panic(expected = "still running")]
async fn a_timeout_may_be_short() -> Result {
    sleep(Duration::from_secs(2)).await
}

#[trine::test(kernel = "real", clock = "autojump", timeout = "1m")]
#[should_panic(expected = "still running")]
async fn a_timeout_is_for_the_real_kernel_too() -> Result {
    sleep(Duration::from_secs(61)).await
}

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

// The tame tape and each seed, and each of them twice; the thread is of this test alone.
#[trine::test]
fn as_many_runs_are_made_as_were_asked_for() {
    if std::env::var_os("TRINE_RUNS").is_some() || std::env::var_os("TRINE_SEED").is_some() {
        return;
    }
    for (expected, arguments) in
        [(2, (0, None)), (8, (3, None)), (2, (0, Some(7))), (6, (3, Some(7)))]
    {
        CALLS.set(0);
        let mut plan = trine::testing::Plan::new("testing::counted").runs(arguments.0);
        if let Some(seed) = arguments.1 {
            plan = plan.seed(seed);
        }
        plan.check(|| async {
            CALLS.set(CALLS.get() + 1);
            nop().await
        });
        assert_eq!(CALLS.get(), expected, "{arguments:?}");
    }
}

// With a seed nothing is tame: the choices are drawn, from the first run on.
#[trine::test(seed = 5, faults = "none")]
async fn a_seed_is_where_the_choices_come_from() {
    let drawn: u32 = (0..20).map(|_| World::current().choose(256)).sum();
    assert!(drawn > 0);
}

#[trine::test(runs = 10, faults = "none")]
async fn without_faults_every_transfer_is_whole() -> Result {
    let (client, server) = super::common::pair().await?;
    client.write_all(vec![1; 1000]).await?;
    assert_eq!(server.read(vec![0; 1000]).await?.len(), 1000);
    Ok(())
}

// With wild faults a connect may be refused for no reason; some seed does it.
#[trine::test(runs = 300, faults = "wild", deterministic = false)]
fn wild_faults_break_connections() {
    thread_local! {
        static BROKEN: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    }
    let outcome = trine::run(async || {
        let listener = trine::net::TcpListener::bind("127.0.0.1:0").await?;
        for _ in 0..5 {
            TcpStream::connect_addr(listener.local_addr()?).await?;
        }
        Ok(())
    });
    let (runs, broken) = BROKEN.get();
    BROKEN.set((runs + 1, broken + u32::from(outcome.is_err())));
    assert!(runs < 300 || broken > 0, "no connect of {runs} runs was broken");
}

#[trine::test(leaks = true, runs = 3)]
async fn what_leaks_may_be_allowed() -> Result {
    let (client, server) = super::common::pair().await?;
    std::mem::forget(client);
    server.close().await
}

#[trine::test(deterministic = false)]
async fn what_others_have_a_hand_in_may_be_allowed() -> Result {
    let outside = std::time::Instant::now();
    sleep(Duration::from_nanos(outside.elapsed().as_nanos() as u64)).await
}

#[trine::test(kernel = "both")]
#[should_panic(expected = "as it should")]
async fn other_attributes_go_to_both_tests() {
    nop().await.unwrap();
    panic!("it panics as it should");
}

#[trine::test(runs = 20)]
#[should_panic(expected = "drew")]
async fn a_panic_that_is_expected_is_one_of_the_test() {
    let drawn = World::current().choose(256);
    assert_eq!(drawn, 0, "drew another number");
}

#[trine::test]
#[should_panic(expected = "mine")]
async fn an_error_fails_the_test() -> Result {
    nop().await?;
    Err(Error::other("this one is mine"))
}

#[trine::test]
#[ignore = "it is looked for in the list of tests"]
#[expect(unreachable_code, reason = "an attribute for the function")]
async fn an_ignored_test_is_not_run() -> Result {
    panic!("it runs");
    nop().await
}

#[test]
fn every_attribute_does_what_it_does_elsewhere() {
    let Ended { is_ok, text } = run_test("attributes::an_ignored_test_is_not_run", &[]);
    assert!(is_ok && text.contains("ignored"), "{text}");
}

// `#[trine::main]` is an ordinary function called `main`, wherever it stands.

mod value {
    #[trine::main]
    pub(super) async fn main() -> trine::Result<u32> {
        trine::nop().await?;
        Ok(7)
    }
}

mod foreign {
    #[trine::main]
    pub(super) async fn main() -> std::io::Result<()> {
        trine::nop().await?;
        Err(std::io::ErrorKind::NotFound.into())
    }
}

mod nothing {
    #[trine::main]
    pub(super) async fn main() {
        trine::nop().await.unwrap();
    }
}

/// Nothing can be returned, so the process says it.
mod stuck {
    #[trine::main]
    pub(super) async fn main() {
        trine::time::sleep(std::time::Duration::from_secs(9)).await.unwrap();
    }
}

#[test]
fn a_main_returns_what_its_body_does() {
    assert_eq!(value::main().unwrap(), 7);
    assert_eq!(foreign::main().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    nothing::main();
}

#[test]
fn a_main_that_cannot_return_an_error_ends_the_process() {
    if super::reports::is_armed() {
        let plan = trine::testing::Plan::new("testing::stuck").timeout(Duration::from_secs(1));
        let plan = plan.kernel(trine::testing::Kernel::Real);
        plan.clock(trine::testing::Clock::Autojump).check_plain(stuck::main);
        unreachable!("it has ended the process");
    }
    let name = "attributes::a_main_that_cannot_return_an_error_ends_the_process";
    let Ended { is_ok, text } = run_test(name, &[("TRINE_TESTS_ARMED", "1")]);
    assert!(!is_ok && text.contains("Error: still running"), "{text}");
    assert!(!text.contains("it has ended the process"), "{text}");
}
