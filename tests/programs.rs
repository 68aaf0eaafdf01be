//! Generated programs on the simulated kernel, beside a naive model of the rules.

mod common;
#[path = "programs/found.rs"]
mod found;

use trine::fuzzing;

/// `TRINE_SEED` and `TRINE_RUNS` choose others.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn programs_from_seeds_keep_every_rule_and_do_the_same_twice() {
    let first = number("TRINE_SEED").unwrap_or(0);
    let runs = number("TRINE_RUNS").unwrap_or(500);
    let figures = fuzzing::check_seeds(first..first + runs);
    println!("{figures:?}");
    assert_eq!(figures.programs, runs);
}

#[test]
#[ignore = "replays TRINE_TAPE"]
fn replay() {
    let tape = std::env::var("TRINE_TAPE").unwrap_or_default();
    println!("{}", fuzzing::show(&tape));
    match number("TRINE_PLANT") {
        Some(bug) => fuzzing::check_planted(bug, &tape),
        None => println!("{:?}", fuzzing::check_tape(&tape)),
    }
}

#[test]
#[ignore = "shows the programs of TRINE_SEED and those after it"]
fn show() {
    let first = number("TRINE_SEED").unwrap_or(0);
    for seed in first..first + number("TRINE_RUNS").unwrap_or(1) {
        println!("seed {seed}\n{}", fuzzing::show_seed(seed));
    }
}

/// Programs within which each planted bug has to be found.
const CANARY: u64 = 4000;

#[test]
fn each_planted_bug_is_found_and_shrinks_to_what_fits_on_a_screen() {
    let began = std::time::Instant::now();
    for found in fuzzing::canaries(CANARY) {
        println!("{}", found.transcript);
        assert!(found.bytes < 200, "{}: {} bytes", found.bug, found.bytes);
    }
    println!("all canaries in {:?}", began.elapsed());
}

// Sections B to H for one operation of each kind: not from seeds, but all there is. Ten operations, 37
// orders of two events at three distances with nine kinds of cancel, and all orders of more events; and
// ten of other devices at one distance.
const OTHERS: u64 = 10 * 37 * 9;

#[test]
fn every_order_of_what_may_happen_to_one_operation_keeps_every_rule() {
    assert_eq!(fuzzing::small_worlds(3), 10 * (37 * 3 * 9 + 157) + OTHERS);
}

#[test]
#[ignore = "takes half a minute without optimisation"]
fn every_order_of_all_that_may_happen_to_one_operation_keeps_every_rule() {
    assert_eq!(fuzzing::small_worlds(6), 10 * (37 * 3 * 9 + 1957) + OTHERS);
}

// The simulated kernel is kept honest by the real one.
#[test]
fn what_cancels_do_on_the_real_kernel_is_possible_in_the_simulated_one() {
    let differential = fuzzing::differential(0..40, 0..200);
    println!("{differential:?}");
    assert!(differential.seen.len() > 5, "too little was seen");
    assert!(differential.impossible.is_empty(), "{:?}", differential.impossible);
}

/// Bytes from a seed, as a fuzzer would give them.
fn bytes(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let length = 200 + usize::from(next()) * 3;
    (0..length).map(|_| next()).collect()
}

// What fuzzers call: with bytes from seeds, so that the targets are known to work.
#[test]
fn the_parts_agree_with_their_naive_accounts() {
    for seed in 0..150 {
        let data = bytes(seed);
        fuzzing::op_state(&data);
        fuzzing::timers(&data);
        fuzzing::buffers(&data);
        fuzzing::cancel_tree(&data);
    }
}

#[test]
fn the_tools_that_tasks_wait_at_agree_with_their_naive_twins() {
    let first = number("TRINE_SEED").unwrap_or(0);
    let runs = number("TRINE_RUNS").unwrap_or(2000);
    let marks = fuzzing::tools_from_seeds(first..first + runs);
    println!("{marks:?}");
    let happens =
        ["got although cancelled", "dropped when handed something", "asks anew", "missed"];
    for what in happens.into_iter().filter(|_| runs >= 2000) {
        assert!(marks.count(what) > 0, "never {what}: {marks:?}");
    }
}

#[test]
#[ignore = "measures; run it with --release"]
fn speed() {
    println!("{}", fuzzing::speed());
}
