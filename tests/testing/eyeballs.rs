//! Happy eyeballs, in virtual time: the schedules that Trio's tests of `open_tcp_stream` are made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use trine::net::{ConnectBuilder, TcpListener, TcpStream};
use trine::testing::{Faults, Tape, World};
use trine::{Error, Group, Result, fail_after, move_on_after};

use super::common::fewer;

const PORT: u16 = 80;
const SEEDS: u64 = fewer(20, 3);

/// What stands behind an address: how many milliseconds it takes to answer, and whether anybody listens.
#[derive(Clone, Copy)]
struct Target {
    is_ipv4: bool,
    takes: u64,
    listens: bool,
}

/// Whoever answers after so many milliseconds.
const fn ok(takes: u64) -> Target {
    Target { is_ipv4: true, takes, listens: true }
}

/// Whoever refuses after so many milliseconds.
const fn err(takes: u64) -> Target {
    Target { is_ipv4: true, takes, listens: false }
}

const fn v6(target: Target) -> Target {
    Target { is_ipv4: false, ..target }
}

/// The addresses of these targets in this world, and the listeners among them.
async fn place(world: &World, targets: &[Target]) -> Result<(Vec<SocketAddr>, Vec<TcpListener>)> {
    let (mut addresses, mut listeners) = (Vec::new(), Vec::new());
    for (target, number) in targets.iter().zip(1..) {
        let ip: IpAddr = match target.is_ipv4 {
            true => Ipv4Addr::new(10, 0, 0, number).into(),
            false => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()).into(),
        };
        // There and back.
        world.set_latency_of(ip, Duration::from_millis(target.takes) / 2);
        addresses.push((ip, PORT).into());
        if target.listens {
            listeners.push(TcpListener::bind((ip, PORT)).await?);
        }
    }
    Ok((addresses, listeners))
}

/// The milliseconds at which sockets were made, other than the listeners.
fn starts(world: &World, listeners: usize) -> Vec<u64> {
    let timeline = world.timeline();
    let made = timeline.lines().filter(|line| line.ends_with("made: socket"));
    made.skip(listeners).map(milliseconds).collect()
}

fn milliseconds(line: &str) -> u64 {
    let (seconds, _) = line.split_once(" s").expect("a line begins with its time");
    let seconds: f64 = seconds.trim().parse().expect("a number of seconds");
    let milliseconds = seconds * 1e3;
    assert!((milliseconds - milliseconds.round()).abs() < 1e-3, "between milliseconds: {line}");
    milliseconds.round() as u64
}

/// What happened: when the attempts began, who won, when it was over.
#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    starts: Vec<u64>,
    /// Counted from 0; or the errors, in words.
    winner: Result<usize, Vec<String>>,
    end: u64,
}

/// Connects in a world where nothing goes wrong that was not asked for, though in no particular order.
#[track_caller]
fn connect(seed: u64, delay: u64, targets: &[Target], prepare: impl Fn(&World)) -> Outcome {
    let world = World::from_tape(Tape::from_seed(seed), Faults::none());
    let outcome = world.run(async || {
        prepare(&world);
        let (addresses, listeners) = place(&world, targets).await?;
        let connected = builder(delay).connect(addresses.clone()).await;
        let end = world.elapsed().as_millis() as u64;
        let open = listeners.len() + usize::from(connected.is_ok());
        assert_eq!(world.census().descriptors, open, "losers are closed, seed {seed}");
        assert_eq!(world.census().in_flight, 0, "the kernel has nothing left, seed {seed}");
        let winner = match connected {
            Ok(stream) => {
                let peer = stream.peer_addr()?;
                Ok(addresses.iter().position(|address| *address == peer).expect("one of them"))
            }
            Err(Error::Group(group)) => Err(words(&group)),
            Err(error) => Err(vec![error.to_string()]),
        };
        Ok(Outcome { starts: starts(&world, listeners.len()), winner, end })
    });
    assert_eq!(world.finish(), Vec::<String>::new(), "seed {seed}");
    outcome.expect("nothing else fails")
}

fn builder(delay: u64) -> ConnectBuilder {
    TcpStream::builder().delay(Duration::from_millis(delay))
}

fn words(group: &Group) -> Vec<String> {
    group.errors().iter().map(Error::to_string).collect()
}

/// Starts and end in milliseconds; `winners` counts targets from 0.
#[track_caller]
fn check(delay: u64, targets: &[Target], starts: &[u64], winners: &[usize], end: u64) {
    check_with(delay, targets, |_| (), starts, winners, end);
}

#[track_caller]
fn check_with(
    delay: u64,
    targets: &[Target],
    prepare: impl Fn(&World),
    starts: &[u64],
    winners: &[usize],
    end: u64,
) {
    for seed in 0..SEEDS {
        let outcome = connect(seed, delay, targets, &prepare);
        assert_eq!((&*outcome.starts, outcome.end), (starts, end), "seed {seed}");
        let winner = outcome.winner.expect("somebody answers");
        assert!(winners.contains(&winner), "target {winner}, seed {seed}");
    }
}

// Trio: test_one_host_slow_success and those after it; the default delay of RFC 8305.
#[trine::test]
fn the_third_wins_since_it_is_quick() {
    check(250, &[ok(1000), ok(1000), ok(200)], &[0, 250, 500], &[2], 700);
}

// Trio: test_basic_fallthrough's successor. No further attempt starts once there is a winner.
#[trine::test]
fn the_second_wins_and_the_third_never_starts() {
    check(250, &[ok(1000), ok(100), ok(200)], &[0, 250], &[1], 350);
}

// Trio: test_custom_delay.
#[trine::test]
fn the_first_wins_if_the_others_start_late() {
    check(450, &[ok(1000), ok(1000), ok(200)], &[0, 450, 900], &[0], 1000);
}

// Trio: test_custom_errors_expedite.
#[trine::test]
fn a_failure_starts_the_next_one_at_once() {
    check(250, &[err(100), err(200), ok(10_000), ok(250)], &[0, 100, 300, 550], &[3], 800);
}

// Trio: test_all_fail. All errors are there, in the order in which they came, with their addresses.
#[trine::test]
fn when_all_fail_the_last_failure_ends_it() {
    let targets = [err(100), err(200), err(10_000), err(250)];
    for seed in 0..SEEDS {
        let Outcome { starts, winner, end } = connect(seed, 250, &targets, |_| ());
        assert_eq!((&*starts, end), (&[0, 100, 300, 550][..], 10_300), "seed {seed}");
        let said = winner.expect_err("nobody listens");
        let expected = [1, 2, 4, 3].map(|host| {
            format!("cannot connect to 10.0.0.{host}:80: Connection refused (os error 111)")
        });
        assert_eq!(said, expected, "seed {seed}");
    }
}

// Trio: test_multi_success.
#[trine::test]
fn of_several_winners_in_one_instant_one_is_kept() {
    let targets = [err(500), ok(10_000), ok(9_000), ok(8_000), err(500)];
    check(1000, &targets, &[0, 500, 1500, 2500, 3500], &[1, 2, 3], 10_500);
}

// Trio: test_does_reorder.
#[trine::test]
fn an_address_of_the_other_family_comes_second() {
    check(1000, &[err(10_000), ok(1000), v6(ok(500))], &[0, 1000], &[2], 1500);
}

// Trio: test_handles_no_ipv6: a socket that cannot be made fails at once.
#[trine::test]
fn addresses_that_cannot_be_tried_cost_no_time() {
    let targets = [v6(ok(10)), ok(10_000), v6(ok(10)), ok(100)];
    for seed in 0..SEEDS {
        let world = World::from_tape(Tape::from_seed(seed), Faults::none());
        let ended = world.run(async || {
            let (addresses, listeners) = place(&world, &targets).await?;
            world.refuse_ipv6(true);
            let stream = builder(1000).connect(&addresses[..]).await?;
            assert_eq!(stream.peer_addr()?, addresses[3], "seed {seed}");
            assert_eq!(starts(&world, listeners.len()), [0, 1000], "seed {seed}");
            Ok(())
        });
        ended.expect("one of them answers");
        assert_eq!(world.elapsed(), Duration::from_millis(1100), "seed {seed}");
        assert_eq!(world.finish(), Vec::<String>::new(), "seed {seed}");
    }
}

// Trio: test_cancel.
#[trine::test]
fn a_timeout_around_it_closes_every_socket() {
    for seed in 0..SEEDS {
        let world = World::from_tape(Tape::from_seed(seed), Faults::none());
        let ended = world.run(async || {
            let (addresses, listeners) = place(&world, &[ok(10_000); 4]).await?;
            let five = Duration::from_secs(5);
            let connect = async |_: &_| builder(250).connect(addresses).await;
            let error = fail_after(five, connect).await.expect_err("it takes ten seconds");
            assert!(error.is_too_slow(), "{error}");
            assert_eq!(world.elapsed(), five);
            assert_eq!(starts(&world, 4), [0, 250, 500, 750], "seed {seed}");
            let left = (world.census().descriptors, world.census().in_flight);
            assert_eq!(left, (listeners.len(), 0), "seed {seed}");
            Ok(())
        });
        ended.expect("nothing else fails");
        assert_eq!(world.finish(), Vec::<String>::new(), "seed {seed}");
    }
}

// D1: what has happened is told, what is cancelled has not happened. Never is anything left.
#[trine::test]
fn a_timeout_in_the_very_instant_of_the_answer_leaves_one_or_none() {
    let mut told = [0; 2];
    for seed in 0..fewer(50, 10) {
        let world = World::from_tape(Tape::from_seed(seed), Faults::lossless());
        let ended = world.run(async || {
            let (addresses, listeners) = place(&world, &[ok(1000), ok(750), v6(err(100))]).await?;
            let second = Duration::from_secs(1);
            let connect = async |_: &_| builder(250).connect(addresses).await;
            let stream = move_on_after(second, connect).await?;
            let open = listeners.len() + usize::from(stream.is_some());
            assert_eq!(world.census().descriptors, open, "seed {seed}");
            if let Some(stream) = &stream {
                stream.write_all("there").await?;
            }
            Ok(stream.is_some())
        });
        told[usize::from(ended.expect("nothing else fails"))] += 1;
        assert_eq!(world.finish(), Vec::<String>::new(), "seed {seed}");
    }
    assert!(!told.contains(&0), "{told:?}");
}

// Whatever the kernel does, and whoever is cancelled.
#[trine::test(runs = 50, faults = "wild")]
async fn nothing_is_left_on_a_kernel_that_breaks_everything() -> Result {
    let world = World::current();
    let (addresses, listeners) = place(&world, &[err(300), ok(700), v6(ok(600)), err(0)]).await?;
    let patience = Duration::from_millis(u64::from(world.choose(20)) * 50);
    let connect = async |_: &_| TcpStream::connect(addresses).await;
    let connected = move_on_after(patience, connect).await;
    let open = listeners.len() + usize::from(matches!(connected, Ok(Some(_))));
    assert_eq!(world.census().descriptors, open);
    Ok(())
}
