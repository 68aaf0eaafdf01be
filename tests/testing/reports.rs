//! What a failing test says, and that it is true: the tests in `programs` fail when they are armed, and
//! are run in a process of their own.

use std::env;
use std::process::Command;

/// Whether the tests that fail are to do so.
pub(super) fn is_armed() -> bool {
    env::var_os("TRINE_TESTS_ARMED").is_some()
}

/// How a test ended, and all that it has printed.
pub(super) struct Ended {
    pub(super) is_ok: bool,
    pub(super) text: String,
}

/// Runs one test of this file's program in a process of its own, with these variables.
pub(super) fn run_test(name: &str, variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(env::current_exe().expect("it is running"));
    for variable in
        ["TRINE_TAPE", "TRINE_SEED", "TRINE_RUNS", "TRINE_TESTS_ARMED", "RUST_BACKTRACE"]
    {
        command.env_remove(variable);
    }
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let output = command.envs(variables.iter().copied()).output().expect("it can be run again");
    let text = [output.stdout, output.stderr].concat();
    Ended { is_ok: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
}

const ARMED: (&str, &str) = ("TRINE_TESTS_ARMED", "1");

/// What an armed program prints when it fails.
#[track_caller]
fn failure(program: &str, variables: &[(&str, &str)]) -> String {
    let variables = [&[ARMED], variables].concat();
    let Ended { is_ok, text } = run_test(&format!("reports::programs::{program}"), &variables);
    assert!(!is_ok, "{program} did not fail: {text}");
    text
}

/// What stands between two pieces of a text.
#[track_caller]
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let from = text.find(before).unwrap_or_else(|| panic!("no {before:?} in {text}"));
    let rest = &text[from + before.len()..];
    rest.split(after).next().expect("split has at least one piece")
}

mod programs {
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::time::{Duration, Instant as Outside};

    use trine::testing::World;
    use trine::time::{sleep, sleep_forever};
    use trine::{Builder, Error, Result, checkpoint, nop, nursery, run};

    use super::super::common::pair;
    use super::is_armed;

    #[trine::test(runs = 100)]
    async fn takes_a_read_for_whole() -> Result {
        if !is_armed() {
            return Ok(());
        }
        let (client, server) = pair().await?;
        nursery(async |n| {
            n.spawn(async {
                client.write_all(vec![1; 1000]).await?;
                Ok(())
            });
            World::current().note("about to read");
            let read = server.read(vec![0; 1000]).await?;
            assert_eq!(read.len(), 1000, "a read was short");
            Ok(())
        })
        .await
    }

    #[trine::test(kernel = "both", runs = 100)]
    async fn takes_tasks_for_ordered() -> Result {
        if !is_armed() || World::try_current().is_none() {
            return Ok(());
        }
        let order = &Cell::new(0);
        nursery(async |n| {
            for number in 0..8 {
                n.spawn(async move {
                    assert_eq!(order.replace(number + 1), number, "out of order");
                    Ok(())
                });
            }
            Ok(())
        })
        .await
    }

    #[trine::test]
    async fn reads_the_clock_of_the_machine() -> Result {
        if !is_armed() {
            return Ok(());
        }
        let nanos = Outside::now().elapsed().as_nanos() as u64;
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), nanos);
        sleep(Duration::from_nanos(random % 1_000_000)).await
    }

    #[trine::test(runs = 3)]
    async fn goes_through_a_hash_map() -> Result {
        if !is_armed() {
            return Ok(());
        }
        let map: HashMap<u32, u32> = (0..100).map(|key| (key, key)).collect();
        map.keys().for_each(|key| World::current().note(format!("key {key}")));
        nop().await
    }

    #[trine::test]
    async fn forgets_a_stream() -> Result {
        if !is_armed() {
            return Ok(());
        }
        let (client, server) = pair().await?;
        std::mem::forget(client);
        server.close().await
    }

    #[trine::test(timeout = "3s")]
    async fn never_ends() -> Result {
        if !is_armed() {
            return Ok(());
        }
        nursery(async |n| {
            n.spawn(async {
                loop {
                    sleep(Duration::from_secs(1)).await?;
                }
            });
            Ok(())
        })
        .await
    }

    #[trine::test]
    async fn waits_for_nobody() -> Result {
        if is_armed() { sleep_forever().await } else { Ok(()) }
    }

    #[trine::test(runs = 2)]
    fn returns_an_error_from_a_plain_function() -> Result {
        run(async || if is_armed() { Err(Error::other("plainly wrong")) } else { Ok(()) })
    }

    #[trine::test(kernel = "real")]
    async fn fails_on_the_real_kernel() -> Result {
        if is_armed() { Err(Error::other("really wrong")) } else { Ok(()) }
    }

    #[trine::test(kernel = "real", timeout = "20ms")]
    fn never_ends_on_the_real_kernel() -> Result {
        Builder::new().run(async || if is_armed() { sleep_forever().await } else { Ok(()) })
    }

    // It says which seeds it was run with.
    #[trine::test(seed = 40, runs = 2)]
    async fn tells_its_choices() -> Result {
        checkpoint().await?;
        if is_armed() {
            println!("drew {}", World::current().choose(1_000_000));
        }
        Ok(())
    }

    // There is plenty to leave away, and no try is cheap.
    #[trine::test(seed = 1)]
    async fn draws_much() -> Result {
        if !is_armed() {
            return Ok(());
        }
        let drawn: Vec<u32> = (0..3000).map(|_| World::current().choose(256)).collect();
        let odd = drawn.iter().filter(|&&byte| byte % 2 == 1).count();
        assert!(odd < 1000, "{odd} of them are odd");
        Ok(())
    }
}

// The report names the seed, the failure, the tape and how to replay it.
#[test]
fn a_report_says_all_there_is_to_say() {
    let text = failure("takes_a_read_for_whole", &[]);
    assert!(
        text.contains("\ntesting::reports::programs::takes_a_read_for_whole failed on TRINE_SEED="),
        "{text}"
    );
    assert!(text.contains("what   panicked: assertion `left == right` failed: a read was short"));
    let small: usize = between(&text, "  tape   ", " bytes").parse().expect("a number");
    let before: usize = between(&text, "bytes, were ", " before").parse().expect("a number");
    let tries: usize = between(&text, " before ", " tries").parse().expect("a number");
    assert!(small <= 4, "one short transfer is enough: {text}");
    assert!(small < before && (1..=2000).contains(&tries), "{text}");
    let timeline = between(&text, "what happened last:\n", "\n\n");
    assert!(timeline.contains("s  about to read"), "{text}");
    assert!(timeline.lines().count() <= 31, "not more than a screen: {text}");
    assert_eq!(
        text.matches("a read was short").count(),
        2,
        "once as it happened, once in the report"
    );
}

// And doing what it says fails in the same way: on the smallest tape, at the first try.
#[test]
fn the_replay_command_replays_it() {
    for program in ["takes_a_read_for_whole", "takes_tasks_for_ordered::sim"] {
        let text = failure(program, &[]);
        let tape = between(&text, "  replay TRINE_TAPE='", "'");
        let name = between(&text, "cargo test -- --exact ", "\n");
        assert_eq!(name, format!("reports::programs::{program}"));
        let seed = between(&text, " failed on TRINE_SEED=", ",");
        let Ended { is_ok, text: again } = run_test(name, &[ARMED, ("TRINE_TAPE", tape)]);
        assert!(!is_ok, "the tape does not fail: {again}");
        assert!(again.contains("failed on TRINE_TAPE"), "{again}");
        let what = |text: &str| between(text, "  what   ", "  tape").to_owned();
        assert_eq!(what(&again), what(&text));
        assert_eq!(between(&again, "replay TRINE_TAPE='", "'"), tape, "it is as small as can be");
        // The seed does it as well.
        let Ended { is_ok, text: seeded } = run_test(name, &[ARMED, ("TRINE_SEED", seed)]);
        assert!(!is_ok && seeded.contains(&format!("failed on TRINE_SEED={seed},")), "{seeded}");
        assert_eq!(between(&seeded, "replay TRINE_TAPE='", "'"), tape, "and always in one way");
    }
}

#[test]
fn seeds_and_how_many_of_them_come_from_outside() {
    let drew = |variables: &[(&str, &str)]| -> Vec<String> {
        let variables = [&[ARMED], variables].concat();
        let Ended { is_ok, text } = run_test("reports::programs::tells_its_choices", &variables);
        assert!(is_ok, "{text}");
        let drew = text.lines().filter(|line| line.contains("drew "));
        drew.map(|line| line[line.find("drew").unwrap()..].to_owned()).collect()
    };
    // Every run is made twice.
    let own = drew(&[]);
    assert_eq!(own.len(), 4);
    assert_eq!((&own[0], &own[2]), (&own[1], &own[3]));
    assert_ne!(own[0], own[2]);
    assert_eq!(drew(&[("TRINE_SEED", "40")]), own, "as many as the test has");
    let more = drew(&[("TRINE_SEED", "41"), ("TRINE_RUNS", "5")]);
    assert_eq!((more.len(), &more[0]), (10, &own[2]));
    assert_eq!(drew(&[("TRINE_RUNS", "1")]), own[..2]);
    assert_eq!(drew(&[("TRINE_SEED", "18446744073709551615"), ("TRINE_RUNS", "2")]).len(), 4);
    assert_eq!(drew(&[("TRINE_TAPE", "tame")]), ["drew 0", "drew 0"]);
    assert_eq!(drew(&[("TRINE_TAPE", "program:0001")]), ["drew 256", "drew 256"]);
    assert_eq!(drew(&[("TRINE_TAPE", ""), ("TRINE_SEED", "")]), own, "empty is unset");
}

#[test]
fn nonsense_from_outside_is_refused_with_what_is_wrong() {
    for (name, value, part) in [
        ("TRINE_TAPE", "program:0g", "no tape: `0g` is not hexadecimal"),
        ("TRINE_TAPE", "colour:01", "there is no lane `colour`"),
        ("TRINE_TAPE", "nonsense", "no tape"),
        ("TRINE_SEED", "seven", "TRINE_SEED=seven is not a number"),
        ("TRINE_RUNS", "-1", "TRINE_RUNS=-1 is not a number"),
    ] {
        let text = failure("tells_its_choices", &[(name, value)]);
        assert!(text.contains(part), "{name}={value}: {text}");
    }
}

#[test]
fn a_program_that_does_not_do_the_same_twice_is_found_out() {
    for program in ["reads_the_clock_of_the_machine", "goes_through_a_hash_map"] {
        let text = failure(program, &[]);
        assert!(text.contains("the same tape did not do the same twice"), "{text}");
        assert!(text.contains("the order of a hash map"), "{text}");
    }
}

#[test]
fn what_was_left_open_is_reported() {
    let text = failure("forgets_a_stream", &[]);
    assert!(text.contains("failed on the tame tape"), "{text}");
    assert!(text.contains("is still open: a connection made from"), "{text}");
    assert!(text.contains("replay TRINE_TAPE='tame'"), "{text}");
}

// The tree, as it stood.
#[test]
fn a_test_that_does_not_end_shows_its_tree() {
    let text = failure("never_ends", &[]);
    assert!(text.contains("what   still running after all the turns or the time"), "{text}");
    let at = text.find("child spawned at").expect("a tree");
    assert!(text[at..].contains("reports.rs"), "{text}");
    let text = failure("waits_for_nobody", &[]);
    assert!(text.contains("deadlock") && text.contains("waits to be woken"), "{text}");
}

#[test]
fn an_error_is_a_failure_whoever_returns_it() {
    let text = failure("returns_an_error_from_a_plain_function", &[]);
    assert!(text.contains("plainly wrong") && text.contains("the tame tape"), "{text}");
    let text = failure("fails_on_the_real_kernel", &[]);
    assert!(text.contains("testing::reports::programs::fails_on_the_real_kernel: "), "{text}");
    assert!(text.contains("really wrong") && !text.contains("TRINE_TAPE"), "{text}");
    let text = failure("never_ends_on_the_real_kernel", &[]);
    assert!(text.contains("Overrun") && text.contains("waits to be woken"), "{text}");
}

#[test]
fn the_search_for_a_smaller_tape_ends_within_its_budget() {
    let text = failure("draws_much", &[]);
    let tries: usize = between(&text, " before ", " tries").parse().expect("a number");
    assert!((100..=2000).contains(&tries), "{text}");
    let small: usize = between(&text, "  tape   ", " bytes").parse().expect("a number");
    let before: usize = between(&text, "bytes, were ", " before").parse().expect("a number");
    assert!(small < before, "{text}");
}

#[test]
fn programs_that_are_not_armed_pass() {
    for program in ["takes_a_read_for_whole", "goes_through_a_hash_map", "never_ends"] {
        let Ended { is_ok, text } = run_test(&format!("reports::programs::{program}"), &[]);
        assert!(is_ok && text.contains("1 passed"), "{text}");
    }
}
