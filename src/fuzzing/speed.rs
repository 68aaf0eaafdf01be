//! How fast simulated programs are.

use std::fmt::Write;
use std::time::{Duration, Instant as Real};

use crate::error::Result;
use crate::exec::stats;
use crate::net::{TcpListener, TcpStream};
use crate::nursery::nursery;
use crate::runtime::nop;
use crate::scope::move_on_after;
use crate::testing::World;
use crate::time::sleep;

/// Measures operations in a second, and an hour of virtual time with a thousand connections.
///
/// # Panics
/// If a program fails.
pub fn speed() -> String {
    let mut text = String::new();
    for (name, tasks) in [("nop, one task", 1), ("nop, 100 tasks", 100)] {
        let began = Real::now();
        let done = World::tame().run(async || nops(tasks, 2_000_000 / tasks).await);
        line(&mut text, name, done.unwrap_or_else(|error| panic!("{error}")), began.elapsed());
    }
    let began = Real::now();
    let done = World::tame().run(async || echo(100, 5_000).await);
    line(
        &mut text,
        "echo over 100 connections",
        done.unwrap_or_else(|e| panic!("{e}")),
        began.elapsed(),
    );
    let (began, world) = (Real::now(), World::tame());
    let done = world.run(async || hour(1_000).await).unwrap_or_else(|error| panic!("{error}"));
    line(&mut text, "an hour with 1,000 connections", done, began.elapsed());
    let _ = writeln!(text, "  of which {:?} have passed in the world", world.elapsed());
    text
}

fn line(text: &mut String, name: &str, operations: u64, time: Duration) {
    let rate = operations as f64 / time.as_secs_f64() / 1e6;
    let _ = writeln!(text, "{name}: {operations} operations in {time:.2?}: {rate:.2} million/s");
}

async fn nops(tasks: u64, each: u64) -> Result<u64> {
    nursery(async |n| {
        for _ in 0..tasks {
            n.spawn(async move {
                for _ in 0..each {
                    nop().await?;
                }
                Ok(())
            });
        }
        Ok(())
    })
    .await?;
    Ok(stats().submitted)
}

async fn connect(listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let client = TcpStream::connect_addr(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?.0))
}

async fn answer(server: TcpStream) -> Result {
    while let Some(chunk) = server.recv().await? {
        server.write_all(chunk).await?;
    }
    Ok(())
}

async fn ask(client: &TcpStream) -> Result {
    client.write_all("ping").await?;
    let answer = client.recv().await?;
    assert!(answer.is_some_and(|answer| answer == *b"ping"));
    Ok(())
}

/// Sends and receives; a receive is one operation each time that it brings something.
async fn echo(connections: u64, rounds: u64) -> Result<u64> {
    let talk = async |client: &TcpStream| {
        for _ in 0..rounds {
            ask(client).await?;
        }
        Ok(())
    };
    on_each(connections, talk).await?;
    Ok(connections * rounds * 4)
}

/// Each connection asks every ten seconds, and gives up on an answer after five.
async fn hour(connections: u64) -> Result<u64> {
    let talk = async |client: &TcpStream| {
        for _ in 0..360 {
            sleep(Duration::from_secs(10)).await?;
            move_on_after(Duration::from_secs(5), async |_| ask(client).await).await?;
        }
        Ok(())
    };
    on_each(connections, talk).await?;
    Ok(connections * 360 * 4)
}

/// Opens so many connections to a server, and talks on each of them.
async fn on_each(connections: u64, talk: impl AsyncFn(&TcpStream) -> Result) -> Result {
    let listener = TcpListener::bind("10.0.0.1:7").await?;
    nursery(async |n| {
        for _ in 0..connections {
            let (client, server) = connect(&listener).await?;
            let talk = &talk;
            n.spawn(answer(server));
            n.spawn(async move { talk(&client).await });
        }
        Ok(())
    })
    .await
}
