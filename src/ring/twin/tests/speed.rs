//! How fast it is. To be run by hand, in release:
//! `cargo test --release --features testing --lib ring::twin::tests::speed -- --ignored --nocapture`.

use std::time::Instant as Real;

use super::*;

const ROUNDS: u32 = 100_000;
/// Operations of one enter.
const BATCH: u32 = 32;

fn report(what: &str, operations: u32, began: Real) {
    let each = began.elapsed().as_secs_f64() / f64::from(operations);
    println!("{what}: {:.2} million operations per second", 1e-6 / each);
}

fn token(n: u32) -> Token {
    Token::new(super::super::super::TokenKind::Operation, n % BATCH, n)
}

#[test]
#[ignore = "a measurement"]
fn nops() {
    let Rig { mut twin, world, .. } = Rig::tame();
    let began = Real::now();
    let mut ended = 0;
    for round in 0..ROUNDS {
        for n in 0..BATCH {
            assert!(twin.push(token(round * BATCH + n), &Request::Nop));
        }
        twin.enter(1).unwrap();
        twin.drain(|completion| ended += 1 + completion.result as u32);
    }
    assert_eq!(ended, ROUNDS * BATCH);
    report("nop, 32 an enter", ended, began);
    twin.close();
    assert_eq!(world.finish(), Vec::<String>::new());
}

#[test]
#[ignore = "a measurement"]
fn pairs_of_a_send_and_a_receive() {
    for (what, waits) in [("send then recv", false), ("recv that waits, then send", true)] {
        for len in [64, 4096] {
            let mut rig = Rig::tame();
            let pair = rig.pair();
            let [from, to] = [1, 0].map(|byte| Memory::of(&vec![byte; len]));
            let send = Request::Send { fd: pair[0], from: from.region(), all: true };
            let receive = Request::Recv { fd: pair[1], into: to.region() };
            let [first, second] = if waits { [receive, send] } else { [send, receive] };
            let began = Real::now();
            let mut ended = 0;
            for round in 0..ROUNDS {
                assert!(rig.twin.push(token(2 * round), &first));
                assert!(rig.twin.push(token(2 * round + 1), &second));
                rig.twin.enter(1).unwrap();
                rig.twin.drain(|completion| ended += u32::from(completion.result == len as i32));
            }
            assert_eq!(ended, 2 * ROUNDS);
            report(&format!("{what}, {len} bytes"), ended, began);
            rig.finish(&pair);
        }
    }
}
