//! Does one thing many times, for instructions to be counted: `trine-instructions <thing> <times>`.
//!
//! `.ci/instructions` runs this under callgrind, twice as often the second time, so that what a run
//! costs by itself drops out.

use std::hint::black_box;
use std::time::Duration;

use trine::fs::File;
use trine::net::{TcpListener, TcpStream};
use trine::sync::{Mutex, channel, oneshot};
use trine::{CancelScope, Result, checkpoint, move_on_after, nop, nursery};

fn main() -> Result {
    let mut arguments = std::env::args().skip(1);
    let (Some(thing), Some(Ok(times))) =
        (arguments.next(), arguments.next().map(|times| times.parse::<u32>()))
    else {
        panic!("which thing, and how often?");
    };
    // A run of its own for each, so that what one costs does not depend on what else there is.
    match thing.as_str() {
        "nop" => trine::run(async || nops(times).await),
        "yield" => trine::run(async || yields(times).await),
        "spawn" => trine::run(async || children(times / 1000, 1000).await),
        "nursery" => trine::run(async || children(times, 1).await),
        "scope" => trine::run(async || scopes(times).await),
        "timeout" => trine::run(async || timeouts(times).await),
        "cancel" => trine::run(async || cancelled(times).await),
        "echo" => trine::run(async || echo(1, times).await),
        "echo-64" => trine::run(async || echo(64, times / 64).await),
        "read-64" => trine::run(async || reads(64, times / 64).await),
        "lock" => trine::run(async || locks(times).await),
        "oneshot" => trine::run(async || oneshots(times).await),
        "channel" => trine::run(async || values(times).await),
        other => panic!("what is `{other}`?"),
    }
}

async fn nops(times: u32) -> Result {
    for _ in 0..times {
        nop().await?;
    }
    Ok(())
}

async fn yields(times: u32) -> Result {
    for _ in 0..times {
        checkpoint().await?;
    }
    Ok(())
}

/// Each is spawned and joined, and does nothing.
async fn children(nurseries: u32, each: u32) -> Result {
    for _ in 0..nurseries {
        nursery(async |n| {
            for _ in 0..each {
                n.spawn(async { Ok(()) });
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Around something that is ready at once.
async fn scopes(times: u32) -> Result {
    for _ in 0..times {
        CancelScope::new().run(async |_| Ok(())).await?;
    }
    Ok(())
}

/// Around something that has to wait for a turn.
async fn timeouts(times: u32) -> Result {
    for _ in 0..times {
        move_on_after(Duration::from_secs(60), async |_| nop().await).await?;
    }
    Ok(())
}

/// Of a lock that nobody else wants.
async fn locks(times: u32) -> Result {
    let mutex = Mutex::new(0);
    for _ in 0..times {
        *mutex.lock().await? += 1;
    }
    Ok(())
}

/// Sent before somebody waits.
async fn oneshots(times: u32) -> Result {
    for _ in 0..times {
        let (sender, receiver) = oneshot();
        sender.send(black_box(1)).expect("the receiver is there");
        black_box(receiver.recv().await?);
    }
    Ok(())
}

/// From one task to another.
async fn values(times: u32) -> Result {
    let (sender, receiver) = channel(64);
    nursery(async |n| {
        n.spawn(async move {
            for value in 0..times {
                sender.send(value).await?;
            }
            Ok(())
        });
        while let Some(value) = receiver.recv().await? {
            black_box(value);
        }
        Ok(())
    })
    .await
}

/// Receives that wait until they are cancelled, a hundred at a time.
async fn cancelled(times: u32) -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut pairs = Vec::new();
    for _ in 0..100 {
        pairs.push((TcpStream::connect_addr(address).await?, listener.accept().await?.0));
    }
    for _ in 0..times / 100 {
        nursery(async |n| {
            for (stream, _) in &pairs {
                n.spawn(async { stream.recv().await.map(drop) });
            }
            checkpoint().await?;
            checkpoint().await?;
            n.cancel();
            Ok(())
        })
        .await
        .or_else(|error| if error.is_cancelled() { Ok(()) } else { Err(error) })?;
    }
    Ok(())
}

/// Requests of 64 bytes that come back, on so many connections at a time.
async fn echo(connections: u32, times: u32) -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    nursery(async |n| {
        for _ in 0..connections {
            let client = TcpStream::connect_addr(listener.local_addr()?).await?;
            let (server, _) = listener.accept().await?;
            n.spawn(async move {
                while let Some(chunk) = server.recv().await? {
                    server.write_all(chunk).await?;
                }
                server.close().await
            });
            n.spawn(async move {
                let mut request = vec![7; 64];
                for _ in 0..times {
                    request = client.write_all(request).await?;
                    client.recv().await?;
                }
                client.close().await
            });
        }
        Ok(())
    })
    .await
}

/// Pages of a file that is in memory, by so many tasks at a time.
async fn reads(tasks: u32, times: u32) -> Result {
    let file = File::open("/proc/self/exe").await?;
    nursery(async |n| {
        for _ in 0..tasks {
            n.spawn(async {
                let mut page = Vec::with_capacity(4096);
                for at in 0..times {
                    page = file.read_at(page, u64::from(at % 16) * 4096).await?;
                }
                Ok(())
            });
        }
        Ok(())
    })
    .await
}
