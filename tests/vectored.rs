//! Several buffers in one operation: written to streams, and to and from files.

mod common;

use std::io::ErrorKind;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use trine::fs::{self, File};
use trine::io::Read;
use trine::testing::World;
use trine::{CancelScope, Error, IoBuf, Result, nursery};

use common::{bytes, fewer, turns, within};

/// More than a stream holds.
fn much() -> usize {
    if World::try_current().is_some() { fewer(300 << 10, 100 << 10) } else { 12 << 20 }
}

#[track_caller]
fn run(main: impl AsyncFnOnce() -> Result) {
    within(20, || trine::Builder::new().detect_deadlock(true).run(main)).expect("main succeeds");
}

/// Everything up to the end.
async fn read_all(reader: &impl Read) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = reader.recv().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// The same for each kind of stream: `$pair` is one that is written to, and one that is read.
macro_rules! on_stream {
    ($kind:ident, $pair:expr) => {
        mod $kind {
            use super::*;

            // D1: in order and complete, and the buffers come back.
            #[trine::test(kernel = "both", runs = 5)]
            fn they_come_out_one_behind_the_other() {
                run(async || {
                    let (writer, reader) = $pair;
                    let head = String::from("head,");
                    let sent = (head, Vec::new(), [b'b'; 3], bytes(9).slice(2..5));
                    let back = writer.write_all_vectored(sent).await?;
                    assert_eq!((&back.0[..], back.3.into_inner()), ("head,", bytes(9)));
                    assert!(writer.write_all_vectored(Vec::<Vec<u8>>::new()).await?.is_empty());
                    assert_eq!(writer.write_all_vectored(["", ""]).await?, ["", ""]);
                    writer.write_all_vectored(vec!["t", "he ", "", "end"]).await?;
                    writer.close().await?;
                    assert_eq!(read_all(&reader).await?, b"head,bbb\x02\x03\x04the end");
                    Ok(())
                });
            }

            // The kernel takes 1024 at a time, and a stream less than all this.
            #[trine::test(kernel = "both")]
            fn many_and_long_ones_arrive_whole() {
                run(async || {
                    let (writer, reader) = $pair;
                    let mut sent: Vec<Vec<u8>> = (0..2500).map(|at| bytes(at % 5)).collect();
                    sent.extend([bytes(much()), bytes(much() / 3)]);
                    let expected = sent.concat();
                    let received = nursery(async |n| {
                        n.spawn(async {
                            let back = writer.write_all_vectored(sent).await?;
                            assert_eq!(back.len(), 2502);
                            writer.close().await
                        });
                        read_all(&reader).await
                    });
                    assert!(received.await? == expected);
                    Ok(())
                });
            }

            // A8: the cancel point comes first.
            #[trine::test(kernel = "both")]
            fn in_a_cancelled_scope_nothing_is_written() {
                run(async || {
                    let (writer, reader) = $pair;
                    let scope = CancelScope::new();
                    scope.cancel();
                    let moved_on = scope.run(async |_| {
                        let failed =
                            writer.write_all_vectored(("never", vec![1])).await.unwrap_err();
                        assert!(failed.error.is_cancelled() && failed.done == 0);
                        assert_eq!(failed.buf, ("never", vec![1]));
                        assert!(writer.write_all_vectored([""; 0]).await.is_err());
                        Ok(())
                    });
                    moved_on.await?;
                    writer.close().await?;
                    assert!(reader.recv().await?.is_none());
                    Ok(())
                });
            }

            // D2, partial: the error says how much of all of them went out, and that is what arrives.
            #[trine::test(kernel = "both")]
            fn a_cancelled_one_says_how_much_went_out() {
                run(async || {
                    let (writer, reader) = $pair;
                    let scope = &CancelScope::new();
                    let sent = [bytes(5), bytes(much()), bytes(5)];
                    let (said, first) = nursery(async |n| {
                        let writing = n.fork(async {
                            let mut said = 0;
                            let cancelled = scope.run(async |_| {
                                let failed = writer.write_all_vectored(sent).await.unwrap_err();
                                assert_eq!(failed.buf.each_ref().map(Vec::len), [5, much(), 5]);
                                said = failed.done;
                                Err::<(), _>(failed.into())
                            });
                            cancelled.await?;
                            Ok(said)
                        });
                        // By now something went out.
                        let first = reader.read_exact(vec![9]).await?;
                        scope.cancel();
                        Ok((writing.await?, first))
                    })
                    .await?;
                    assert!((1..much() + 10).contains(&said), "{said}");
                    let received = nursery(async |n| {
                        n.spawn(async {
                            writer.write_all("more").await?;
                            writer.close().await
                        });
                        read_all(&reader).await
                    });
                    let received = [first, received.await?].concat();
                    let expected = [bytes(5), bytes(much()), bytes(5)].concat();
                    assert!(received[..said] == expected[..said], "{said} bytes were promised");
                    assert_eq!(&received[said..], b"more");
                    Ok(())
                });
            }

            // D7: nobody knows how much of a dropped one went out.
            #[trine::test(kernel = "both")]
            fn after_a_dropped_one_the_half_is_broken() {
                run(async || {
                    let (writer, reader) = $pair;
                    {
                        let mut write = pin!(writer.write_all_vectored((bytes(7), bytes(much()))));
                        assert!(poll!(write.as_mut()).is_pending());
                        assert_eq!(reader.read_exact(vec![9]).await?, [0]);
                        let busy = writer.write_all_vectored(["x"]).await.unwrap_err();
                        assert!(matches!(busy.error, Error::Busy(_)));
                    }
                    let broken = writer.write_all_vectored(["more"]).await.unwrap_err();
                    assert!(matches!(broken.error, Error::Broken(_)), "{:?}", broken.error);
                    assert_eq!(broken.buf, ["more"]);
                    writer.close().await?;
                    let received = read_all(&reader).await?;
                    let expected = [bytes(7), bytes(much())].concat();
                    assert!(received[..] == expected[1..][..received.len()]);
                    Ok(())
                });
            }

            #[trine::test(kernel = "both")]
            fn what_nobody_reads_fails_and_comes_back() {
                run(async || {
                    let (writer, reader) = $pair;
                    reader.close().await?;
                    let failed = loop {
                        // The first one may go out: the news of the close takes its time.
                        match writer.write_all_vectored(("a", vec![2; 9])).await {
                            Ok(_) => turns(1).await,
                            Err(failed) => break failed,
                        }
                    };
                    let kind = failed.error.io_kind().expect("an ordinary error");
                    assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset));
                    assert_eq!(failed.buf, ("a", vec![2; 9]));
                    Ok(())
                });
            }
        }
    };
}

on_stream!(tcp, common::pair().await?);
on_stream!(unix, trine::net::UnixStream::pair()?);
on_stream!(pipes, {
    let (reader, writer) = trine::pipe::pipe()?;
    (writer, reader)
});

/// Runs with a file of its own, that can be read and written.
#[track_caller]
fn with_file(main: impl AsyncFnOnce(&Path, File) -> Result) {
    run(async || {
        let dir = fs::TempDir::new().await?;
        let path = dir.path().join("file");
        let file = File::options().read(true).write(true).create(true).open(&path).await?;
        main(&path, file).await?;
        dir.close().await
    });
}

#[trine::test(kernel = "both", runs = 5)]
fn a_file_is_written_from_several_and_read_into_several() {
    with_file(async |path, file| {
        let sent = ("head", bytes(300), [b'!'; 2]);
        let back = file.write_all_vectored_at(sent, 3).await?;
        assert_eq!(back, ("head", bytes(300), [b'!'; 2]));
        let expected = [&[0; 3][..], b"head", &bytes(300), b"!!"].concat();
        assert!(fs::read(path).await? == expected, "a gap is zeros");

        let rooms = (Vec::with_capacity(7), Vec::with_capacity(0), vec![9; 200].slice(..100));
        let (first, none, part) = file.read_exact_vectored_at(rooms, 0).await?;
        assert_eq!((&first[..], none.len()), (&b"\0\0\0head"[..], 0));
        assert!(part.into_inner() == [&bytes(100)[..], &[9; 100]].concat());

        let (count, [some, rest]) =
            file.read_vectored_at([Vec::with_capacity(2), vec![1; 1000]], 304).await?;
        assert!(0 < count && count <= 5 && count == some.len() + rest.len(), "{count}");
        assert!(some[..] == expected[304..][..some.len()]);
        let (count, gone) = file.read_vectored_at([vec![1; 3]], 1 << 20).await?;
        assert_eq!((count, gone), (0, [vec![]]), "behind the end");
        file.close().await
    });
}

#[trine::test(kernel = "both")]
fn a_file_takes_more_buffers_than_the_kernel_does_at_a_time() {
    with_file(async |path, file| {
        let sent: Vec<Vec<u8>> = (0..2500).map(|at| bytes(at % 4)).collect();
        let expected = sent.concat();
        file.write_all_vectored_at(sent, 0).await?;
        assert!(fs::read(path).await? == expected);
        let rooms: Vec<Vec<u8>> = (0..2500).map(|at| Vec::with_capacity(at % 4)).collect();
        let all = file.read_exact_vectored_at(rooms, 0).await?;
        assert!(all.concat() == expected);
        let (count, _) = file.write_vectored_at(vec!["x"; 1500], 0).await?;
        assert!((1..=1024).contains(&count), "one operation: {count}");
        file.close().await
    });
}

// D2, partial: the buffers have what was there.
#[trine::test(kernel = "both")]
fn a_file_that_ends_too_early_says_how_much_there_was() {
    with_file(async |_, file| {
        file.write_all_at("12345", 0).await?;
        let rooms = [Vec::with_capacity(3), Vec::with_capacity(3), vec![7]];
        let short = file.read_exact_vectored_at(rooms, 0).await.unwrap_err();
        assert_eq!(short.error.io_kind(), Some(ErrorKind::UnexpectedEof));
        assert_eq!((short.done, short.buf), (5, [b"123".to_vec(), b"45".to_vec(), vec![]]));
        file.close().await
    });
}

#[trine::test(kernel = "both")]
fn what_cannot_be_meant_is_refused_and_what_is_cancelled_is_not_done() {
    with_file(async |path, file| {
        let none = file.read_vectored_at([Vec::new(), Vec::new()], 0).await.unwrap_err();
        assert_eq!(none.error.io_kind(), Some(ErrorKind::InvalidInput));
        let far = file.write_vectored_at(["x", "y"], i64::MAX as u64).await.unwrap_err();
        assert_eq!((far.error.io_kind(), far.buf), (Some(ErrorKind::InvalidInput), ["x", "y"]));
        assert_eq!(file.write_all_vectored_at(["", ""], 5).await?, ["", ""]);
        let appended = File::options().append(true).open(path).await?;
        let refused = appended.write_all_vectored_at(["x"], 0).await.unwrap_err();
        assert_eq!(refused.error.io_kind(), Some(ErrorKind::InvalidInput));
        appended.close().await?;

        let scope = CancelScope::new();
        scope.cancel();
        let moved_on = scope.run(async |_| {
            let failed = file.write_all_vectored_at(("a", "b"), 0).await.unwrap_err();
            assert!(failed.error.is_cancelled() && failed.buf == ("a", "b"));
            let failed = file.read_vectored_at([vec![4; 2]], 0).await.unwrap_err();
            assert!(failed.error.is_cancelled() && failed.buf == [[4; 2]]);
            Ok(())
        });
        moved_on.await?;
        assert!(fs::read(path).await?.is_empty());
        file.close().await
    });
}

// D7, D5: what is dropped is cancelled or done, and its buffers are kept until then.
#[trine::test(kernel = "both")]
fn a_dropped_one_leaves_nothing_behind() {
    with_file(async |path, file| {
        let kept = std::rc::Rc::<[u8]>::from(&b"content"[..]);
        if let Some(world) = World::try_current() {
            world.set_disk_latency(Duration::from_secs(1));
        }
        {
            let mut write = pin!(file.write_all_vectored_at([kept.clone(), kept.clone()], 0));
            assert!(poll!(write.as_mut()).is_pending());
        }
        {
            let mut write = pin!(file.write_all_vectored_at([kept.clone(), kept.clone()], 0));
            assert!(poll!(write.as_mut()).is_pending());
            turns(1).await;
        }
        file.close().await?;
        let written = fs::read(path).await?;
        assert!(written.is_empty() || b"contentcontent".starts_with(&written[..]));
        while std::rc::Rc::strong_count(&kept) > 1 {
            trine::checkpoint().await?;
        }
        Ok(())
    });
}
