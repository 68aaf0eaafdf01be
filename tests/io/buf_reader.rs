//! Reading by lines and by counted bytes.

use std::io::ErrorKind;
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use trine::io::{BufReader, Duplex, Read, Write, duplex};
use trine::net::TcpStream;
use trine::testing::{World, wait_all_tasks_blocked};
use trine::time::sleep;
use trine::{CancelScope, Error, Result, move_on_after, nursery, stats};

use super::common::{BUDGET, fewer, pair, random::Random, turns};
use super::{assert_kind, once};

const LIMIT: usize = 1000;

/// A reader, and what it reads from.
async fn reader(text: &str) -> Result<(BufReader<Duplex>, Duplex)> {
    let (here, there) = duplex(usize::MAX);
    there.write_all(text.to_owned()).await?;
    Ok((BufReader::new(here), there))
}

#[trine::test(kernel = "both", runs = 3)]
async fn lines_end_with_a_line_feed_or_with_a_carriage_return_before_it() -> Result {
    let (reader, there) = reader("one\ntwo\r\n\n\r\nth\rree\r\r\nlast\r").await?;
    there.finish().await?;
    for line in ["one", "two", "", "", "th\rree\r", "last\r"] {
        assert_eq!(reader.read_line(LIMIT).await?.as_deref(), Some(line));
    }
    for _ in 0..2 {
        assert_eq!(reader.read_line(LIMIT).await?, None, "the end stays");
    }
    Ok(())
}

#[trine::test(kernel = "both", runs = 3)]
async fn reading_up_to_a_byte_includes_it_and_the_rest_comes_without() -> Result {
    let (reader, there) = reader("a;;bc;d").await?;
    there.finish().await?;
    for part in [&b"a;"[..], b";", b"bc;", b"d"] {
        assert_eq!(&reader.read_until(b';', LIMIT).await?.expect("there is more")[..], part);
    }
    assert!(reader.read_until(b';', LIMIT).await?.is_none());
    Ok(())
}

// A limit is kept, whether it all comes at once or a byte at a time; and nothing is taken then.
#[trine::test(kernel = "both", runs = 3)]
async fn a_line_over_the_limit_is_refused_and_stays() -> Result {
    for at_once in [true, false] {
        let (reader, there) = reader("").await?;
        nursery(async |n| {
            n.spawn(async {
                for piece in "12345\n123456\n".as_bytes().chunks(if at_once { 99 } else { 1 }) {
                    there.write_all(piece.to_vec()).await?;
                    wait_all_tasks_blocked().await?;
                }
                Ok(())
            });
            assert_eq!(reader.read_line(6).await?.as_deref(), Some("12345"), "with its end: 6");
            assert_kind(reader.read_line(6).await, ErrorKind::InvalidData, "within 6 bytes");
            assert_kind(reader.read_until(b'\n', 0).await, ErrorKind::InvalidData, "\"\\n\"");
            assert_eq!(reader.read_line(7).await?.as_deref(), Some("123456"), "nothing was taken");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[trine::test(kernel = "both", runs = 3)]
async fn a_line_that_is_not_utf_8_is_refused_and_can_be_had_as_bytes() -> Result {
    let (here, there) = duplex(99);
    there.write_all(b"a\xffb\nnext\n").await?;
    let reader = BufReader::new(here);
    assert_kind(reader.read_line(LIMIT).await, ErrorKind::InvalidData, "from index 1");
    assert_eq!(reader.read_until(b'\n', LIMIT).await?.expect("it is still there"), *b"a\xffb\n");
    assert_eq!(reader.read_line(LIMIT).await?.as_deref(), Some("next"));
    Ok(())
}

#[trine::test(kernel = "both", runs = 3)]
async fn counted_bytes_are_looked_at_taken_and_skipped() -> Result {
    let (reader, there) = reader("abcdefgh").await?;
    assert_eq!(reader.peek(3).await?, b"abc");
    assert_eq!(reader.take_exact(2).await?, *b"ab");
    assert_eq!((reader.buffered(), reader.skip(1).await?), (6, 1));
    there.write_all("ijk").await?;
    assert!(reader.fill().await?);
    assert_eq!(reader.buffered(), 8);
    assert_eq!(reader.take_exact(6).await?, *b"defghi", "across two pieces");
    assert_eq!(reader.take_exact(0).await?, *b"");
    there.finish().await?;
    assert_eq!(reader.peek(9).await?, b"jk", "all that there is");
    assert_kind(reader.take_exact(3).await, ErrorKind::UnexpectedEof, "after 2 of 3 bytes");
    assert_eq!(reader.skip(99).await?, 2);
    assert!(!reader.fill().await?);
    Ok(())
}

// It is a stream itself: what is here comes first, and then what comes from there.
#[trine::test(kernel = "both", runs = 3)]
async fn reading_it_as_a_stream_begins_with_what_was_kept() -> Result {
    let (reader, there) = reader("line\nabcdef").await?;
    reader.read_line(LIMIT).await?;
    assert_eq!(reader.read(Vec::with_capacity(2)).await?, b"ab");
    there.write_all("ghij").await?;
    assert_eq!(reader.read_exact(Vec::with_capacity(6)).await?, b"cdefgh");
    assert_eq!(reader.recv().await?.expect("there is more"), *b"ij");
    there.write_all("end").await?;
    assert_eq!(reader.peek(1).await?, b"e");
    there.finish().await?;
    let short = reader.read_exact(Vec::with_capacity(9)).await.expect_err("it has ended");
    assert_eq!((short.done, &short.buf[..]), (3, &b"end"[..]));
    assert_eq!(short.error.io_kind(), Some(ErrorKind::UnexpectedEof));
    let refused = reader.read(Vec::new()).await.map_err(Error::from);
    assert_kind(refused, ErrorKind::InvalidInput, "no room");
    reader.write_all("back").await?;
    assert_eq!(there.recv().await?.expect("not the end"), *b"back");
    Ok(())
}

// D7: what was copied into the buffer of a dropped read is still here.
#[trine::test(kernel = "both", runs = 3)]
async fn a_dropped_read_exact_loses_nothing() -> Result {
    let (reader, there) = reader("abc").await?;
    reader.fill().await?;
    {
        let mut reading = pin!(reader.read_exact(Vec::with_capacity(6)));
        assert!(poll!(reading.as_mut()).is_pending());
        there.write_all("de").await?;
        turns(2).await;
        assert!(poll!(reading.as_mut()).is_pending());
    }
    there.finish().await?;
    assert_eq!(reader.peek(9).await?, b"abcde");
    Ok(())
}

#[trine::test(kernel = "both", runs = 3)]
async fn two_readers_are_one_too_many() -> Result {
    let (reader, there) = reader("").await?;
    nursery(async |n| {
        n.spawn(async {
            assert_eq!(reader.read_line(LIMIT).await?.as_deref(), Some("x"));
            Ok(())
        });
        wait_all_tasks_blocked().await?;
        for refused in [reader.peek(1).await.map(drop), reader.recv().await.map(drop)] {
            assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
        }
        there.write_all("x\n").await?;
        Ok(())
    })
    .await
}

// A8: in a cancelled scope nothing is taken, though it is there.
#[trine::test(kernel = "both", runs = 3)]
async fn a_cancelled_read_takes_nothing() -> Result {
    let (reader, _there) = reader("here\n").await?;
    reader.fill().await?;
    let scope = CancelScope::new();
    scope.cancel();
    assert!(scope.run(async |_| reader.read_line(LIMIT).await).await?.is_none());
    assert_eq!(reader.buffered(), 5);
    Ok(())
}

// A2: a task that always finds a line lets others run all the same.
#[trine::test(kernel = "both", runs = 3)]
async fn lines_that_are_there_let_others_run() -> Result {
    let (reader, there) = reader(&"x\n".repeat(16 * BUDGET as usize)).await?;
    there.finish().await?;
    let began = stats().turns;
    while reader.read_line(LIMIT).await?.is_some() {}
    assert!(stats().turns - began >= 10, "{} turns", stats().turns - began);
    Ok(())
}

// D7, and the point of it all: a read may be dropped at every byte.
#[trine::test(kernel = "both", runs = 3)]
async fn a_read_that_is_dropped_at_every_step_loses_no_byte() -> Result {
    let (reader, there) = reader("").await?;
    let mut lines = Vec::new();
    let text = "one\r\ntwo\n\nthree four five\r\nsix\n";
    for byte in text.bytes() {
        assert!(once(reader.peek(reader.buffered() + 1)).await?.is_none());
        there.write_all([byte]).await?;
        assert!(once(reader.take_exact(99)).await?.is_none());
        lines.extend(once(reader.read_line(LIMIT)).await?.flatten());
    }
    assert_eq!(lines, ["one", "two", "", "three four five", "six"]);
    Ok(())
}

/// Sends numbered lines, cut anywhere.
async fn send_lines(stream: &TcpStream, count: usize, random: &mut Random) -> Result {
    let mut text = Vec::new();
    for n in 0..count {
        text.extend_from_slice(format!("{n} {}\n", "x".repeat(n * 37 % 3000)).as_bytes());
    }
    let mut rest = &text[..];
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(1 + random.below(4000)));
        stream.write_all(piece.to_vec()).await?;
        rest = behind;
        if random.one_in(4) {
            sleep(Duration::from_micros(100)).await?;
        }
    }
    stream.finish().await
}

#[track_caller]
fn assert_line(line: &str, n: usize) {
    assert_eq!(line, format!("{n} {}", "x".repeat(n * 37 % 3000)));
}

// D1, D7: over connections, cancelled and dropped again and again.
#[trine::test(kernel = "both", runs = 20, faults = "lossless")]
async fn lines_over_a_connection_survive_time_limits_and_selects() -> Result {
    let (client, server) = &pair().await?;
    let count = if World::try_current().is_some() { fewer(30, 4) } else { 300 };
    nursery(async |n| {
        n.spawn(async move { send_lines(client, count, &mut Random(7)).await });
        let (reader, mut random, mut at) = (BufReader::new(server), Random(9), 0);
        loop {
            let patience = Duration::from_micros(random.below(150) as u64);
            let line: Option<Option<String>> = if random.one_in(2) {
                move_on_after(patience, async |_| reader.read_line(5000).await).await?
            } else {
                let (line, pause) = (pin!(reader.read_line(5000)), pin!(sleep(patience)));
                match futures::future::select(line, pause).await {
                    futures::future::Either::Left((line, _)) => Some(line?),
                    futures::future::Either::Right(_) => None,
                }
            };
            match line {
                None => {}
                Some(Some(line)) => {
                    assert_line(&line, at);
                    at += 1;
                }
                Some(None) => break,
            }
        }
        assert_eq!(at, count);
        Ok(())
    })
    .await
}

// Rather a copy of a few bytes than a buffer of the pool that nobody else can have meanwhile.
#[trine::test(kernel = "both", runs = 3)]
async fn the_beginning_of_a_line_keeps_no_buffer_of_the_pool() -> Result {
    let (client, server) = &pair().await?;
    let reader = &BufReader::new(server);
    client.write_all("half a li").await?;
    assert!(reader.fill().await?);
    assert_eq!(stats().pool_leased, 1);
    nursery(async |n| {
        n.spawn(async move {
            assert_eq!(reader.read_line(LIMIT).await?.as_deref(), Some("half a line"));
            Ok(())
        });
        wait_all_tasks_blocked().await?;
        assert_eq!(stats().pool_leased, 0);
        client.write_all("ne\n").await?;
        Ok(())
    })
    .await
}
