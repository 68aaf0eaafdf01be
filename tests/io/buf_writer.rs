//! Writing little by little.

use std::io::ErrorKind;
use std::time::Duration;

use trine::io::{BufReader, BufWriter, Close, Read, Write, duplex};
use trine::net::TcpStream;
use trine::testing::{World, check_half_closeable_stream, wait_all_tasks_blocked};
use trine::{CancelScope, Error, Result, move_on_after, nursery};

use super::common::{fewer, pair, random::Random};
use super::{assert_kind, once};

const MOMENT: Duration = Duration::from_millis(2);

#[trine::test(kernel = "both", runs = 3)]
async fn nothing_is_sent_before_there_is_enough() -> Result {
    let (here, there) = duplex(usize::MAX);
    let writer = BufWriter::with_capacity(10, &here);
    writer.write("1234").await?;
    writer.write("5678").await?;
    assert!(once(there.recv()).await?.is_none());
    writer.write("more than ten at once").await?;
    assert_eq!((writer.buffered(), writer.capacity()), (29, 10), "it was taken as it is");
    assert!(once(there.recv()).await?.is_none());
    writer.write(b"x").await?;
    assert_eq!(there.recv().await?.expect("not the end"), *b"12345678more than ten at once");
    assert_eq!(writer.buffered(), 1);
    writer.flush().await?;
    assert_eq!(there.recv().await?.expect("not the end"), *b"x");
    writer.flush().await?;
    write!(writer, "{}-b", 1).await?;
    writer.finish().await?;
    assert_eq!(there.recv().await?.expect("finishing flushes"), *b"1-b");
    assert!(there.recv().await?.is_none());
    writer.write("after the end").await?;
    assert!(matches!(writer.flush().await, Err(Error::Closed(_))));
    assert_eq!(writer.into_parts().1, b"after the end", "it was kept");
    Ok(())
}

// D2: what went out is known, and the rest kept, however often it is cancelled.
#[trine::test(kernel = "both", runs = 3)]
async fn a_cancelled_flush_goes_on_where_it_was() -> Result {
    let (here, there) = duplex(3);
    let (writer, reader) = (BufWriter::new(here), BufReader::new(there));
    writer.write("abcdefghijkl").await?;
    let mut got = Vec::new();
    for left in [9, 7, 5] {
        assert!(move_on_after(MOMENT, async |_| writer.flush().await).await?.is_none());
        assert_eq!(writer.buffered(), left);
        got.extend_from_slice(&reader.take_exact(3).await?);
        writer.write("!").await?; // It comes behind what is left.
    }
    nursery(async |n| {
        n.spawn(async { writer.close().await });
        while let Some(chunk) = reader.recv().await? {
            got.extend_from_slice(&chunk);
        }
        Ok(())
    })
    .await?;
    assert_eq!(got, b"abcdefghijkl!!!");
    Ok(())
}

/// Numbers one after another, in uneven pieces.
fn piece(from: usize, random: &mut Random) -> Vec<u8> {
    (from..from + 1 + random.below(3000)).map(|n| (n % 251) as u8).collect()
}

async fn write_much(stream: &TcpStream, volume: usize) -> Result<usize> {
    let (writer, mut random, mut at) = (BufWriter::with_capacity(8000, stream), Random(3), 0);
    while at < volume {
        let bytes = piece(at, &mut random);
        let patience = Duration::from_micros(random.below(100) as u64);
        let written = move_on_after(patience, async |_| writer.write(&bytes).await).await?;
        if written.is_some() {
            at += bytes.len();
        }
        if random.one_in(5) {
            move_on_after(patience, async |_| writer.flush().await).await?;
        }
    }
    writer.finish().await?;
    Ok(at)
}

// D1: cancelled again and again over a connection; each byte arrives once.
#[trine::test(kernel = "both", runs = 20, faults = "lossless")]
async fn writes_over_a_connection_survive_time_limits() -> Result {
    let (client, server) = &pair().await?;
    let volume = if World::try_current().is_some() { fewer(60_000, 5_000) } else { 10 << 20 };
    nursery(async |n| {
        let written = n.fork(async move { write_much(client, volume).await });
        let mut at = 0;
        while let Some(chunk) = server.recv().await? {
            for &byte in &chunk[..] {
                assert_eq!(byte, (at % 251) as u8, "byte {at}");
                at += 1;
            }
        }
        assert_eq!(at, written.await?);
        Ok(())
    })
    .await
}

// D7: a send that is dropped has the bytes, and nobody knows how many of them went out.
#[trine::test(kernel = "both", runs = 3)]
async fn a_dropped_flush_breaks_it() -> Result {
    let (here, there) = duplex(3);
    let writer = BufWriter::new(here);
    writer.write("abcdef").await?;
    assert!(once(writer.flush()).await?.is_none());
    for refused in [writer.write("x").await, writer.flush().await, writer.finish().await] {
        assert!(matches!(refused, Err(Error::Broken("the buffered writer"))), "{refused:?}");
    }
    assert!(writer.close().await.is_err());
    assert_eq!(there.recv().await?.expect("it went out"), *b"abc");
    Ok(())
}

#[trine::test(kernel = "both", runs = 3)]
async fn two_writers_are_one_too_many() -> Result {
    let (here, there) = duplex(3);
    let writer = BufWriter::new(here);
    writer.write("abcdef").await?;
    nursery(async |n| {
        n.spawn(async { writer.flush().await });
        wait_all_tasks_blocked().await?;
        for refused in [writer.write("x").await, writer.finish().await] {
            assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
        }
        assert_eq!(there.read_exact(Vec::with_capacity(6)).await?, b"abcdef");
        Ok(())
    })
    .await
}

// A8, M2: nothing happens in a cancelled scope, but for closing.
#[trine::test(kernel = "both", runs = 3)]
async fn a_cancelled_write_writes_nothing_and_a_cancelled_close_closes() -> Result {
    let (here, there) = duplex(99);
    let writer = BufWriter::new(here);
    writer.write("kept").await?;
    let scope = CancelScope::new();
    scope.cancel();
    let written = scope.run(async |_| {
        assert!(writer.write("x").await.is_err_and(|error| error.is_cancelled()));
        assert!(writer.write_all("x").await.is_err_and(|failed| failed.error.is_cancelled()));
        assert_eq!(writer.buffered(), 4);
        writer.close().await
    });
    assert!(written.await?.is_none(), "it says that it was cancelled");
    assert!(there.recv().await?.is_none(), "it is closed, and what was not sent is lost");
    Ok(())
}

// M4: closing tells of what is real rather than of the cancellation; a write error keeps the bytes.
#[trine::test(kernel = "both", runs = 3)]
async fn an_error_keeps_what_was_not_sent() -> Result {
    let (here, there) = duplex(3);
    let writer = BufWriter::new(here);
    writer.write("abcdef").await?;
    nursery(async |n| {
        n.spawn(async {
            assert_kind(writer.flush().await, ErrorKind::BrokenPipe, "");
            Ok(())
        });
        wait_all_tasks_blocked().await?;
        there.close().await
    })
    .await?;
    assert_eq!(writer.buffered(), 3);
    assert_kind(writer.close().await, ErrorKind::BrokenPipe, "");
    Ok(())
}

/// What is buffered on both ways, around whatever stream.
fn buffered<S: Read + Write + Close>(stream: S) -> BufReader<BufWriter<S>> {
    BufReader::new(BufWriter::with_capacity(100, stream))
}

#[trine::test(kernel = "both", runs = 2)]
async fn buffered_streams_in_memory_conform() -> Result {
    let make = async || {
        let (left, right) = duplex(999);
        Ok((buffered(left), buffered(right)))
    };
    check_half_closeable_stream(make, Some(make)).await
}

#[trine::test(kernel = "both", runs = 5, faults = "lossless")]
async fn buffered_connections_conform() -> Result {
    let make = async || {
        let (left, right) = pair().await?;
        Ok((buffered(left), buffered(right)))
    };
    check_half_closeable_stream(make, Some(make)).await
}

/// What the trait says of a write holds for it too: the buffer comes back.
#[trine::test(kernel = "both", runs = 3)]
async fn as_a_stream_it_gives_buffers_back() -> Result {
    async fn through(to: &impl Write) -> Result<(usize, Vec<u8>)> {
        let (count, buf) = to.write(b"abc".to_vec()).await?;
        to.flush().await?;
        Ok((count, buf))
    }
    let (here, there) = duplex(99);
    assert_eq!(through(&BufWriter::new(here)).await?, (3, b"abc".to_vec()));
    assert_eq!(there.recv().await?.expect("it was flushed"), *b"abc");
    Ok(())
}
