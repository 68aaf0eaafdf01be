//! Ten thousand pending receives cancelled at once: every one is asked to end, and every one unwinds.

mod common;

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use trine::net::TcpListener;
use trine::testing::{Outside, World};
use trine::{Builder, Result, nursery, stats, time::sleep};

use common::Peer;

/// The other ends live in another process, because a process may have only so many descriptors. In a
/// simulated world they take none.
const ROLE: &str = "TRINE_TEST_PEERS";

enum Peers {
    Process(Child),
    World(Vec<Outside>),
}

impl Peers {
    /// Has `count` connections made to `to`; on Linux by this very test program, run once more.
    fn connect(to: SocketAddr, count: usize) -> Peers {
        if let Some(world) = World::try_current() {
            return Peers::World((0..count).map(|_| world.connect(to).unwrap()).collect());
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["the_other_ends", "--exact", "--nocapture"])
            .env(ROLE, format!("{count} {to}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().flush().unwrap();
        Peers::Process(child)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        match self {
            Peers::Process(child) => {
                // Its standard input ends, and so does it.
                drop(child.stdin.take());
                let _ = child.wait();
            }
            Peers::World(peers) => peers.clear(),
        }
    }
}

/// Not a test of its own: plays the peers when it is asked to.
#[test]
fn the_other_ends() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (count, to) = role.split_once(' ').unwrap();
    let count: usize = count.parse().unwrap();
    trine::raise_descriptor_limit(count as u64 + 64).unwrap();
    let to: SocketAddr = to.parse().unwrap();
    let peers: Vec<_> = (0..count).map_while(|_| TcpStream::connect(to).ok()).collect();
    let _ = BufReader::new(std::io::stdin()).lines().count();
    drop(peers);
}

/// Opens as many pending receives as wanted and the limits allow, cancels them all in one nursery,
/// and says how many there were.
fn cancel_receives(builder: Builder, wanted: usize) -> usize {
    let limit = trine::raise_descriptor_limit(wanted as u64 + 200).unwrap() as usize;
    let allowed = wanted.min(limit.saturating_sub(200));
    let pending = Cell::new(0);
    let unwound = &Cell::new(0_usize);
    let ended = common::within(60, || {
        builder.run(async || {
            let count = if World::try_current().is_some() { wanted } else { allowed };
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let _peers = Peers::connect(listener.local_addr()?, count);
            let mut streams = Vec::new();
            for _ in 0..count {
                streams.push(listener.accept().await?.0);
            }
            let streams = &streams;
            let before = stats();
            nursery(async |n| {
                for stream in streams {
                    n.spawn(async move {
                        let received = stream.recv().await;
                        unwound.set(unwound.get() + 1);
                        received.map(drop)
                    });
                }
                while stats().submitted < before.submitted + count as u64 {
                    sleep(Duration::from_micros(100)).await?;
                }
                pending.set(stats().in_kernel);
                n.cancel();
                Ok(())
            })
            .await?;
            let after = stats();
            assert_eq!(unwound.get(), count, "not all have unwound");
            let asked = after.cancels_sent - before.cancels_sent;
            assert!(asked >= count as u64, "{asked} cancel requests for {count} receives");
            // What is left is the accept, which belongs to the listener.
            assert!(after.in_kernel + after.queued <= 1, "{after:?}");
            assert_eq!(after.pool_leased, 0);
            Ok(count)
        })
    });
    let count = ended.unwrap();
    assert!(pending.get() >= count, "only {} of {count} were pending", pending.get());
    count
}

// B5: one request for every operation, though the queue for them is far smaller than their number.
#[trine::test(kernel = "both")]
fn ten_thousand_receives_are_cancelled_through_a_queue_of_64() {
    let count = cancel_receives(Builder::new().submissions(64), 10_000);
    println!("{count} pending receives were cancelled and have unwound");
    let allowed = trine::raise_descriptor_limit(0).unwrap() as usize;
    assert!(
        count == 10_000 || allowed < 10_200,
        "{count}, though {allowed} descriptors are allowed"
    );
}

// D5: completions that do not fit into their queue are not lost.
#[trine::test(kernel = "both")]
fn a_completion_queue_that_overflows_loses_no_completion() {
    let builder = Builder::new().submissions(32).completions(64);
    assert!(cancel_receives(builder, 1_000) > 500);
}

// E11: what is dropped instead of cancelled is waited for as well.
#[trine::test(kernel = "both")]
async fn hundreds_of_dropped_receives_are_let_go_before_the_nursery_returns() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut peers = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..300 {
        peers.push(Peer::connect(listener.local_addr()?)?);
        streams.push(listener.accept().await?.0);
    }
    nursery(async |_| {
        let mut receives: Vec<_> = streams.iter().map(|stream| stream.recv()).collect();
        for receive in &mut receives {
            assert!(futures::poll!(receive).is_pending());
        }
        trine::checkpoint().await?;
        assert!(stats().in_kernel >= 300);
        Ok(())
    })
    .await?;
    assert!(stats().in_kernel + stats().queued <= 1, "{:?}", stats());
    for peer in &peers {
        assert!(peer.receive(&mut [0]).is_err(), "nothing was sent to the peers");
    }
    Ok(())
}
