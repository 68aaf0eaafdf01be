//! Messages in a stream.

use std::io::ErrorKind;

use trine::io::{BufReader, BufWriter, Prefix, Write, duplex};
use trine::testing::wait_all_tasks_blocked;
use trine::{Result, nursery};

use super::common::{fewer, pair, random::Random};
use super::{assert_kind, once};

#[trine::test(kernel = "both", runs = 3)]
async fn a_prefix_is_big_endian_and_says_lengths_up_to_its_own() -> Result {
    for (prefix, most, before) in [
        (Prefix::U8, 255, &[255][..]),
        (Prefix::U16, 65_535, &[255, 255]),
        (Prefix::U32, 65_536, &[0, 1, 0, 0]),
    ] {
        let (here, there) = duplex(usize::MAX);
        let (reader, writer) = (BufReader::new(here), BufWriter::new(there));
        writer.write_frame(prefix, "").await?;
        writer.write_frame(prefix, vec![7; most]).await?;
        if prefix != Prefix::U32 {
            let refused = writer.write_frame(prefix, vec![7; most + 1]).await;
            assert_kind(refused, ErrorKind::InvalidInput, "too long for U");
        }
        writer.finish().await?;
        let frame = reader.read_frame(prefix, 0).await?.expect("there is one");
        assert!(frame.is_empty(), "{frame:?}");
        assert_eq!(reader.peek(before.len()).await?, before);
        let frame = reader.read_frame(prefix, most).await?.expect("there is one");
        assert_eq!(frame[..], vec![7; most]);
        assert!(reader.read_frame(prefix, most).await?.is_none(), "nothing of what was refused");
    }
    Ok(())
}

// It is refused before it has come: nobody can have as much memory filled as four bytes can say.
#[trine::test(kernel = "both", runs = 3)]
async fn a_frame_over_the_limit_is_refused_by_its_length_and_stays() -> Result {
    let (here, there) = duplex(usize::MAX);
    let reader = BufReader::new(here);
    there.write_all([255, 255, 255, 255]).await?;
    let refused = reader.read_frame(Prefix::U32, 1000).await;
    assert_kind(refused, ErrorKind::InvalidData, "4294967295 bytes, where the limit is 1000");
    assert_eq!(reader.skip(2).await?, 2);
    there.write_all("x").await?;
    assert_kind(reader.read_frame(Prefix::U8, 9).await, ErrorKind::InvalidData, "255 bytes");
    Ok(())
}

#[trine::test(kernel = "both", runs = 3)]
async fn the_end_of_the_stream_within_a_frame_is_an_error() -> Result {
    for (sent, says) in [
        (&b"\0"[..], "within the length of a frame, after 1 of 2 bytes"),
        (b"\0\x03ab", "within a frame, after 2 of 3 bytes"),
        (b"\0\x03", "within a frame, after 0 of 3 bytes"),
    ] {
        let (here, there) = duplex(99);
        there.write_all(sent).await?;
        drop(there);
        let reader = BufReader::new(here);
        for _ in 0..2 {
            let refused = reader.read_frame(Prefix::U16, 99).await;
            assert_kind(refused, ErrorKind::UnexpectedEof, says);
        }
        assert_eq!(reader.peek(99).await?, sent, "what has come is still there");
    }
    Ok(())
}

#[trine::test(kernel = "both", runs = 3)]
async fn a_delimiter_may_be_several_bytes_and_is_left_out() -> Result {
    let (here, there) = duplex(usize::MAX);
    there.write_all("one\r\n\r\n\r\n\r\n\r\r\n\r\n\r\n").await?;
    let reader = BufReader::new(here);
    for part in [&b"one"[..], b"", b"\r"] {
        let frame = reader.read_delimited(b"\r\n\r\n", 7).await?;
        assert_eq!(&frame.expect("there is one")[..], part);
    }
    assert_eq!(reader.buffered(), 2);
    Ok(())
}

// D7: it may be dropped at every byte.
#[trine::test(kernel = "both", runs = 3)]
async fn frames_that_are_dropped_at_every_step_lose_no_byte() -> Result {
    let (here, there) = duplex(99);
    let (reader, mut frames) = (BufReader::new(here), Vec::new());
    for byte in b"\x03abc\0\x02de" {
        there.write_all([*byte]).await?;
        frames.extend(once(reader.read_frame(Prefix::U8, 9)).await?.flatten().map(|f| f.to_vec()));
    }
    assert_eq!(frames, [&b"abc"[..], b"", b"de"]);
    let mut frames = Vec::new();
    for byte in b"ab--c----d--" {
        there.write_all([*byte]).await?;
        frames.extend(once(reader.read_delimited(b"--", 9)).await?.flatten().map(|f| f.to_vec()));
    }
    assert_eq!(frames, [&b"ab"[..], b"c", b"", b"d"]);
    Ok(())
}

#[trine::test(kernel = "both", runs = 3)]
async fn a_delimiter_is_missed_at_the_end_and_beyond_the_limit() -> Result {
    let (here, there) = duplex(99);
    let reader = BufReader::new(here);
    there.write_all("ab--cde-").await?;
    assert_kind(reader.read_delimited(b"", 9).await, ErrorKind::InvalidInput, "no bytes");
    assert_kind(reader.read_delimited(b"--", 3).await, ErrorKind::InvalidData, "within 3 bytes");
    assert_eq!(reader.read_delimited(b"--", 4).await?.expect("it fits"), *b"ab");
    nursery(async |n| {
        n.spawn(async {
            let refused = reader.read_delimited(b"--", 9).await;
            assert_kind(refused, ErrorKind::UnexpectedEof, "after 4 bytes without \"--\"");
            Ok(())
        });
        wait_all_tasks_blocked().await?;
        there.finish().await
    })
    .await?;
    assert_eq!(reader.skip(9).await?, 4);
    assert!(reader.read_delimited(b"--", 9).await?.is_none());
    Ok(())
}

#[trine::test(kernel = "both", runs = 10, faults = "lossless")]
async fn frames_of_all_sizes_go_over_a_connection() -> Result {
    let (client, server) = &pair().await?;
    let sizes = || {
        let mut random = Random(5);
        (0..fewer(60, 5)).map(move |_| random.below(10_000))
    };
    nursery(async |n| {
        n.spawn(async move {
            let writer = BufWriter::with_capacity(3000, client);
            for size in sizes() {
                writer.write_frame(Prefix::U16, vec![size as u8; size]).await?;
            }
            writer.finish().await
        });
        let reader = BufReader::new(server);
        for size in sizes() {
            let frame = reader.read_frame(Prefix::U16, 10_000).await?.expect("there are more");
            assert!(frame.len() == size && frame.iter().all(|&byte| byte == size as u8));
        }
        assert!(reader.read_frame(Prefix::U16, 10_000).await?.is_none());
        Ok(())
    })
    .await
}
