//! How a test is run, as far as it can be seen from inside: what is tried, and in which order.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use trine::testing::{Clock, Faults, Kernel, Plan, World};
use trine::time::{Instant, sleep};
use trine::{Error, Result, nop, nursery};

use super::common::pair;

const SECOND: Duration = Duration::from_secs(1);

fn plan() -> Plan {
    Plan::new("testing::plan::a_test_in_a_test")
}

/// Whether the environment says what to try: then these tests cannot.
fn is_steered() -> bool {
    ["TRINE_TAPE", "TRINE_SEED", "TRINE_RUNS"].iter().any(|name| std::env::var_os(name).is_some())
}

/// What the test fails with.
fn failure(check: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(check)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.unwrap_or_else(|| panic.downcast_ref::<&str>().map_or("?", |text| text).to_owned()))
}

// Tapes that once showed a fault come first, then the tame one, then the seeds.
#[test]
fn tapes_that_were_found_are_tried_first() {
    if is_steered() {
        return;
    }
    let drawn = RefCell::new(Vec::new());
    let found = &["program:07", "program:09"];
    plan().tapes(found).runs(2).deterministic(false).check(|| async {
        drawn.borrow_mut().push(World::current().choose(256));
    });
    let drawn = drawn.take();
    assert_eq!(drawn.len(), 5);
    assert_eq!(drawn[..3], [7, 9, 0]);
    let failed = failure(|| {
        plan().tapes(found).check(|| async {
            let drawn = World::current().choose(256);
            assert_ne!(drawn, 9, "drew the nine");
        });
    });
    assert!(failed.unwrap().contains("drew the nine"));
    let refused = failure(|| plan().tapes(&["nonsense"]).check(|| async {}));
    assert!(refused.unwrap().contains("testing::plan::a_test_in_a_test: no tape"));
}

// The panic of the smallest failure is the one that the test ends with.
#[test]
fn a_failing_test_panics_with_the_smallest_failure() {
    if is_steered() {
        return;
    }
    let failed = failure(|| {
        plan().runs(200).check(|| async {
            let drawn = World::current().choose(256);
            assert!(drawn < 5, "drew {drawn}");
        });
    });
    assert_eq!(failed.unwrap(), "drew 5");
}

#[test]
fn every_run_is_in_a_world_of_its_own() {
    let worlds = Cell::new(0);
    plan().runs(3).check(|| async {
        worlds.set(worlds.get() + 1);
        assert_eq!(World::current().elapsed(), Duration::ZERO);
        assert_eq!(World::current().census().connections, 0);
        let _streams = pair().await?;
        sleep(SECOND).await
    });
    assert!(worlds.get() >= 2);
}

// The second time it does something else, or fails, with the same tape and the same events.
#[test]
fn a_test_that_fails_only_the_second_time_is_not_deterministic() {
    let calls = Cell::new(0);
    let body = || async {
        calls.set(calls.get() + 1);
        nop().await?;
        if calls.get() == 2 { Err(Error::other("the second time")) } else { Ok(()) }
    };
    let failed = failure(|| plan().check(body)).expect("it fails");
    assert!(failed.contains("did not do the same twice") && failed.contains("the second time"));
    calls.set(1);
    assert!(failure(|| plan().check(body)).is_some(), "the first failure counts, also alone");
    calls.set(2);
    plan().deterministic(false).check(body);
}

#[test]
fn a_test_that_sleeps_for_another_time_is_not_deterministic() {
    let calls = Cell::new(0);
    let body = || async {
        calls.set(calls.get() + 1);
        sleep(SECOND * calls.get()).await
    };
    let failed = failure(|| plan().check(body)).expect("it fails");
    assert!(failed.contains("did not do the same twice"), "{failed}");
}

#[test]
fn leaks_are_failures_unless_they_are_allowed() {
    let body = || async {
        let (client, server) = pair().await?;
        std::mem::forget(client);
        server.close().await
    };
    let failed = failure(|| plan().check(body)).expect("it fails");
    assert!(failed.contains("is still open"), "{failed}");
    plan().leaks(true).check(body);
}

#[test]
fn a_timeout_is_on_the_clock_of_the_run() {
    let body = || async { sleep(SECOND * 100).await };
    let failed = failure(|| plan().check(body)).expect("a minute is the usual time");
    assert!(failed.contains("still running") && failed.contains("run at"), "{failed}");
    plan().timeout(SECOND * 101).check(body);
    plan().kernel(Kernel::Real).clock(Clock::Autojump).timeout(SECOND * 101).check(body);
    let short = Duration::from_millis(5);
    let failed = failure(|| plan().kernel(Kernel::Real).timeout(short).check(body));
    assert!(failed.unwrap().contains("still running"));
}

// A test that goes round in circles ends by the clock, since time passes in a busy run as well.
#[test]
fn a_test_that_never_waits_is_stopped() {
    let short = Duration::from_millis(5);
    for kernel in [Kernel::Sim, Kernel::Real] {
        let failed = failure(|| {
            plan().kernel(kernel).timeout(short).check(|| async {
                loop {
                    trine::checkpoint().await?;
                }
                #[expect(unreachable_code, reason = "it says what type the body has")]
                Ok::<(), Error>(())
            });
        });
        assert!(failed.unwrap().contains("still running"));
    }
}

#[test]
fn a_clock_that_no_simulated_world_has_is_refused() {
    let refused = failure(|| plan().clock(Clock::Real).check(|| async {}));
    assert!(refused.unwrap().contains("use Clock::Autojump"));
}

#[test]
fn faults_are_those_that_were_asked_for() {
    if is_steered() {
        return;
    }
    let shortest = Cell::new(1000);
    let body = || async {
        let (client, server) = pair().await?;
        nursery(async |n| {
            n.spawn(async {
                client.write_all(vec![1; 1000]).await?;
                Ok(())
            });
            let read = server.read(vec![0; 1000]).await?.len();
            shortest.set(shortest.get().min(read));
            n.cancel();
            Ok(())
        })
        .await
    };
    plan().runs(100).faults(Faults::none()).check(body);
    assert_eq!(shortest.get(), 1000);
    plan().runs(100).check(body);
    assert!(shortest.get() < 1000, "lossless ones, unless said otherwise");
}

// A plain test has the stage to itself: each of its runs is in the same world.
#[test]
fn a_plain_test_may_make_many_runs() {
    let body = || -> Result {
        let began = trine::run(async || Ok(Instant::now()))?;
        trine::run(async || sleep(SECOND).await)?;
        trine::run(async || {
            assert_eq!(began.elapsed(), SECOND);
            Ok(())
        })
    };
    plan().runs(2).check_plain(body);
    plan().kernel(Kernel::Real).clock(Clock::Autojump).check_plain(body);
    assert!(World::try_current().is_none(), "and nothing of it is left");
    trine::run(async || {
        assert!(World::try_current().is_none());
        Ok(())
    })
    .unwrap();
}

// After a panic in a world, the thread is what it was.
#[test]
fn a_failing_test_leaves_nothing_behind_on_its_thread() {
    async fn fails() {
        panic!("as it should");
    }
    assert!(failure(|| plan().check(fails)).is_some());
    trine::run(async || {
        assert!(World::try_current().is_none());
        Ok(())
    })
    .unwrap();
    plan().check(|| async { nop().await });
}

// A panic of a thread that is looking for a smaller tape is not printed; the next one of it is.
#[test]
fn what_is_thrown_need_not_be_text() {
    async fn throws() {
        std::panic::panic_any(7_u32);
    }
    let failed = catch_unwind(AssertUnwindSafe(|| plan().check(throws)));
    assert_eq!(failed.unwrap_err().downcast_ref::<u32>(), Some(&7));
}
