//! From one stream into another, and two ways as one.

use std::io::ErrorKind;
use std::pin::pin;

use futures::poll;
use trine::io::{self, BufReader, BufWriter, Close, Duplex, Joined, Read, Write, duplex};
use trine::testing::{check_half_closeable_stream, wait_all_tasks_blocked};
use trine::{BufError, CancelScope, Error, Result, nursery, pipe};

use super::common::{fewer, pair, turns};
use super::once;

#[trine::test(kernel = "both", runs = 10, faults = "lossless")]
async fn all_that_comes_is_written_until_the_end() -> Result {
    let volume = fewer(100_000, 3_000);
    let (client, server) = &pair().await?;
    let (receiver, sender) = &pipe::pipe()?;
    nursery(async |n| {
        n.spawn(async move {
            for n in 0..volume / 100 {
                client.write_all(vec![n as u8; 100]).await?;
            }
            client.finish().await
        });
        let copied = n.fork(async move {
            let copied = io::copy(server, &BufWriter::new(sender)).await?;
            sender.finish().await?;
            Ok(copied)
        });
        let mut at = 0;
        while let Some(chunk) = receiver.recv().await? {
            for &byte in &chunk[..] {
                assert_eq!(byte, (at / 100) as u8, "byte {at}");
                at += 1;
            }
        }
        assert_eq!((at, copied.await?), (volume, volume as u64));
        Ok(())
    })
    .await
}

// D1, D2: what was read and not written comes back with the cancellation.
#[trine::test(kernel = "both", runs = 3)]
async fn a_cancelled_copy_loses_no_byte() -> Result {
    let ((from, feeder), (to, taker)) = (duplex(99), duplex(4));
    feeder.write_all("abcdefghij").await?;
    let scope = CancelScope::new();
    let mut left = None;
    nursery(async |n| {
        n.spawn(async {
            let copied = scope.run(async |_| {
                let BufError { error, done, buf } = io::copy(&from, &to).await.expect_err("stuck");
                left = Some((done, buf.expect("it was read").to_vec()));
                Err::<(), _>(error)
            });
            copied.await.map(drop)
        });
        wait_all_tasks_blocked().await?;
        assert_eq!(taker.read(Vec::with_capacity(2)).await?, b"ab");
        wait_all_tasks_blocked().await?;
        scope.cancel();
        Ok(())
    })
    .await?;
    assert_eq!(taker.recv().await?.expect("it was written"), *b"cdef");
    assert_eq!(left, Some((6, b"ghij".to_vec())));
    // Nothing was read: nothing comes back, and nothing is missing.
    assert!(once(async { Ok(io::copy(&from, &to).await?) }).await?.is_none());
    feeder.write_all("kl").await?;
    feeder.close().await?;
    assert_eq!(io::copy(&from, &to).await?, 2);
    Ok(())
}

/// Writes until nothing more goes out.
async fn fill(to: &impl Write) -> Result {
    let scope = CancelScope::new();
    nursery(async |n| {
        n.spawn(async {
            let filling = scope.run(async |_| {
                let failed = to.write_all(vec![0; 4 << 20]).await.expect_err("nobody takes it all");
                assert!(failed.error.is_cancelled() && failed.done > 0);
                Ok(())
            });
            filling.await.map(drop)
        });
        wait_all_tasks_blocked().await?;
        scope.cancel();
        Ok(())
    })
    .await
}

/// Drops a copy to a full stream when it has read something: the stream says that it is missing.
async fn drop_with_bytes(to: &impl Write) -> Result {
    let (from, feeder) = duplex(99);
    feeder.write_all("first ").await?;
    {
        let mut copying = pin!(io::copy(&from, to));
        for _ in 0..4 {
            assert!(poll!(copying.as_mut()).is_pending());
            turns(1).await;
        }
    }
    feeder.write_all("second").await?;
    let failed = io::copy(&from, to).await.expect_err("there is a gap before it");
    assert!(matches!(failed.error, Error::Broken(_)), "{}", failed.error);
    assert_eq!((failed.done, &failed.buf.expect("it was read")[..]), (0, &b"second"[..]));
    Ok(())
}

// D7: it has lost what it had read, and nobody takes what comes behind the gap for all of it.
#[trine::test(kernel = "both", runs = 3)]
async fn a_dropped_copy_leaves_no_gap_without_a_word() -> Result {
    let (to, _taker) = duplex(1);
    fill(&to).await?;
    drop_with_bytes(&to).await?;
    let (_taker, to) = pipe::pipe()?;
    fill(&to).await?;
    drop_with_bytes(&to).await?;
    let (_taker, to) = pipe::pipe()?;
    fill(&to).await?;
    let to = BufWriter::with_capacity(1, &to);
    to.write("x").await?;
    drop_with_bytes(&BufReader::new(io::join((), to))).await
}

// What comes back of a cancelled one nobody gets.
#[trine::test(kernel = "both", runs = 3)]
async fn a_cancelled_passing_on_leaves_no_gap_without_a_word() -> Result {
    let ((a, far), (b, _slow)) = (duplex(99), duplex(4));
    far.write_all("abcdefghij").await?;
    let scope = CancelScope::new();
    nursery(async |n| {
        n.spawn(async {
            let passing = scope.run(async |_| Ok(io::copy_bidirectional(&a, &b).await?));
            passing.await.map(drop)
        });
        wait_all_tasks_blocked().await?;
        scope.cancel();
        Ok(())
    })
    .await?;
    assert!(matches!(b.write("x").await.unwrap_err().error, Error::Broken(_)));
    assert_eq!(a.write("x").await?.0, 1, "nothing is missing there");
    Ok(())
}

#[trine::test(kernel = "both", runs = 3)]
async fn a_copy_fails_as_either_stream_does() -> Result {
    let ((from, feeder), (to, taker)) = (duplex(99), duplex(4));
    feeder.write_all("abc").await?;
    taker.close().await?;
    let failed = io::copy(&from, &to).await.expect_err("nobody takes it");
    assert_eq!(failed.error.io_kind(), Some(ErrorKind::BrokenPipe));
    assert_eq!((failed.done, &failed.buf.expect("it was read")[..]), (0, &b"abc"[..]));
    Ok(())
}

// Each end goes on its way alone; the other direction is not cut off.
#[trine::test(kernel = "both", runs = 10, faults = "lossless")]
async fn a_proxy_passes_on_both_ways_and_each_end_for_itself() -> Result {
    let ((client, front), (back, server)) = (&pair().await?, &pair().await?);
    nursery(async |n| {
        let proxy = n.fork(async move { Ok(io::copy_bidirectional(front, back).await?) });
        n.spawn(async move {
            client.write_all(vec![1; 5000]).await?;
            client.finish().await
        });
        let question = server.read_exact(Vec::with_capacity(5000)).await?;
        assert_eq!(question, [1; 5000]);
        assert!(server.recv().await?.is_none(), "the end was passed on");
        n.spawn(async move {
            server.write_all(vec![2; 7000]).await?;
            server.finish().await
        });
        assert_eq!(client.read_exact(Vec::with_capacity(7000)).await?, [2; 7000]);
        assert!(client.recv().await?.is_none());
        assert_eq!(proxy.await?, (5000, 7000));
        Ok(())
    })
    .await
}

#[trine::test(kernel = "both", runs = 3)]
async fn an_error_or_a_cancellation_ends_both_directions_and_both_numbers_are_told() -> Result {
    for is_cancelled in [true, false] {
        let ((client, front), (back, server)) = (duplex(9), duplex(9));
        let scope = CancelScope::new();
        let mut told = None;
        nursery(async |n| {
            n.spawn(async {
                let proxied = scope.run(async |_| {
                    let failed = io::copy_bidirectional(&front, &back).await.expect_err("ended");
                    told = Some((failed.done, failed.buf));
                    Err::<(), _>(failed.error)
                });
                match proxied.await {
                    Err(error) if !is_cancelled => {
                        assert_eq!(error.io_kind(), Some(ErrorKind::BrokenPipe));
                        Ok(())
                    }
                    outcome => outcome.map(drop),
                }
            });
            client.write_all("abc").await?;
            server.write_all("defgh").await?;
            wait_all_tasks_blocked().await?;
            match is_cancelled {
                true => scope.cancel(),
                false => {
                    drop(server);
                    client.write_all("for nobody").await?;
                }
            }
            Ok(())
        })
        .await?;
        assert_eq!(told, Some((8, (3, 5))));
    }
    Ok(())
}

/// Two streams, each made of an end of two.
fn crossed() -> (Joined<Duplex, BufWriter<Duplex>>, Joined<BufReader<Duplex>, Duplex>) {
    let ((left, right), (down, up)) = (duplex(99), duplex(99));
    (io::join(left, BufWriter::new(down)), io::join(BufReader::new(up), right))
}

#[trine::test(kernel = "both", runs = 3)]
async fn joined_streams_read_one_and_write_the_other() -> Result {
    let (here, there) = crossed();
    here.write_all("abc").await?;
    here.flush().await?;
    assert_eq!(there.recv().await?.expect("not the end"), *b"abc");
    there.write_all("de").await?;
    assert_eq!(here.read(Vec::with_capacity(9)).await?, b"de");
    here.finish().await?;
    assert!(there.recv().await?.is_none());
    assert_eq!(there.get_ref().0.buffered(), 0);
    drop(there.into_parts());
    assert!(here.recv().await?.is_none());
    Ok(())
}

#[trine::test(kernel = "both", runs = 3)]
async fn joined_pipes_conform() -> Result {
    let make = async || {
        let ((there, here), (taker, giver)) = (pipe::pipe()?, pipe::pipe()?);
        Ok((io::join(there, giver), io::join(taker, here)))
    };
    check_half_closeable_stream(make, Some(make)).await
}

/// Something that cannot be closed as it should be.
struct Stubborn;

impl Close for Stubborn {
    async fn close(self) -> Result {
        Err(Error::other("it does not close"))
    }
}

// M4: a cancellation does not hide what is really wrong.
#[trine::test(kernel = "both", runs = 3)]
async fn closing_tells_of_an_error_rather_than_of_the_cancellation() -> Result {
    let (write, _other) = duplex(9);
    let scope = CancelScope::new();
    scope.cancel();
    let closed = scope.run(async |_| io::join(Stubborn, write).close().await).await;
    assert!(closed.is_err_and(|error| error.to_string() == "it does not close"));
    Ok(())
}

// M2: both are closed, also in a cancelled scope.
#[trine::test(kernel = "both", runs = 3)]
async fn closing_a_joined_stream_closes_both() -> Result {
    let ((read, other), (write, another)) = (duplex(9), duplex(9));
    let scope = CancelScope::new();
    scope.cancel();
    let closed = scope.run(async |_| io::join(read, write).close().await).await?;
    assert!(closed.is_none(), "it says that it was cancelled");
    assert!(another.recv().await?.is_none());
    let refused = other.write_all("x").await.map_err(Error::from);
    super::assert_kind(refused, ErrorKind::BrokenPipe, "");
    Ok(())
}
