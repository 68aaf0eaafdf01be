//! The pool of receive buffers beside a ledger, on the simulated kernel.

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::Result;
use crate::exec::stats;
use crate::net::{TcpListener, TcpStream};
use crate::op::Chunk;
use crate::ring::twin::Faults;
use crate::runtime::Builder;
use crate::scope::move_on_after;
use crate::testing::World;

use super::trial;

/// Sends, receives, keeps what was received, gives it back in any order, and closes, as the bytes
/// say; the kernel does what other bytes say.
///
/// # Panics
/// If a lease changes, a byte is lost, or a buffer does not come back.
pub fn buffers(data: &[u8]) {
    let Some((&[sizes], steps)) = data.split_first_chunk() else { return };
    let world = World::from_tape(trial::spread(steps), Faults::lossless()).turns(1_000_000);
    let most = 1 << (sizes % 6);
    let builder = Builder::new().pool_least(1 << (sizes / 6 % 3)).pool_most(most);
    let kept = world.during(|| builder.run(async || exercise(steps).await));
    let kept = kept.unwrap_or_else(|error| panic!("buffers: {error}"));
    // Rule P6: what is leased outlives its run.
    for (chunk, from) in kept {
        check(&chunk, from);
    }
    let wrong = world.finish();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Leases, each with the number of its first byte.
type Leases = VecDeque<(Chunk, u64)>;

async fn exercise(steps: &[u8]) -> Result<Leases> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let writer = TcpStream::connect_addr(listener.local_addr()?).await?;
    let (reader, _) = listener.accept().await?;
    let (mut sent, mut received) = (0, 0);
    let mut leases = Leases::new();
    for pair in steps.chunks_exact(2).take(400) {
        let number = usize::from(pair[1]);
        match pair[0] % 6 {
            0 | 1 => {
                let bytes: Vec<u8> = (sent..=sent + number as u64 * 8).map(byte).collect();
                // Nobody receives meanwhile: what does not go in at once is cut off (rule E5).
                let write = move_on_after(Duration::from_millis(20), async |_| {
                    let written = writer.write_all(bytes).await;
                    Ok(written.map_or_else(|failed| failed.done, |bytes| bytes.len()))
                });
                sent += write.await?.unwrap_or(0) as u64;
            }
            2 | 3 if received < sent => {
                let patience = Duration::from_millis(number as u64 % 3 * 20);
                let receive = move_on_after(patience, async |_| reader.recv().await);
                if let Some(Some(chunk)) = receive.await? {
                    check(&chunk, received);
                    let from = received;
                    received += chunk.len() as u64;
                    leases.push_back((chunk, from));
                }
            }
            4 if !leases.is_empty() => drop(leases.remove(number % leases.len())),
            _ => leases.iter().for_each(|(chunk, from)| check(chunk, *from)),
        }
        assert!(stats().pool_leased <= leases.len() + ARRIVED, "a lease was lost");
    }
    drop(writer);
    while let Some(chunk) = reader.recv().await? {
        check(&chunk, received);
        received += chunk.len() as u64;
    }
    assert_eq!(received, sent, "D7: bytes were lost");
    reader.close().await?;
    listener.close().await?;
    let held = leases.iter().filter(|(chunk, _)| !chunk.is_empty()).count();
    assert!(stats().pool_leased <= held, "D7: a buffer did not come back");
    Ok(leases)
}

/// Buffers that a multishot fills before it is paused, and some that were on their way then.
const ARRIVED: usize = 64;

fn byte(n: u64) -> u8 {
    (n % 251) as u8
}

fn check(chunk: &Chunk, from: u64) {
    for (at, got) in chunk.iter().enumerate() {
        assert_eq!(*got, byte(from + at as u64), "byte {at} of the lease from {from} has changed");
    }
}
