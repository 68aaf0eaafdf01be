//! A file's bytes to a stream, moved by the kernel where it can.

mod common;

use std::io::ErrorKind;
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use trine::fs::{self, File};
use trine::io::{self, Read, Write};
use trine::net::{TcpStream, option};
use trine::testing::World;
use trine::{CancelScope, Error, Result, move_on_after, nursery};

use common::{fewer, turns, within};

const MOMENT: Duration = Duration::from_millis(2);

/// More than a stream and a pipe hold.
fn much() -> u64 {
    if World::try_current().is_some() { fewer(500 << 10, 200 << 10) as u64 } else { 3 << 20 }
}

fn bytes(count: u64) -> Vec<u8> {
    common::bytes(count as usize)
}

/// Runs with a long file.
#[track_caller]
fn with_file(main: impl AsyncFnOnce(File) -> Result) {
    let run = async || {
        let dir = fs::TempDir::new().await?;
        let path = dir.path().join("file");
        fs::write(&path, bytes(much())).await?;
        main(File::open(&path).await?).await?;
        dir.close().await
    };
    within(30, || trine::Builder::new().detect_deadlock(true).run(run)).expect("main succeeds");
}

/// Everything up to the end.
async fn read_all(reader: &impl Read) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = reader.recv().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// Sends ranges of all kinds, and looks at what comes.
async fn all_kinds_of_ranges(file: &File, writer: &impl Write, reader: &impl Read) -> Result {
    let ranges =
        [0..0, 5..9, 100..much(), 1000..1000 + (256 << 10), much()..much() + 9, 0..much() + 1];
    let received = nursery(async |n| {
        n.spawn(async {
            for range in &ranges {
                let there = range.end.min(much()) - range.start;
                assert_eq!(file.send_to(writer, range.clone()).await?, there, "{range:?}");
            }
            writer.write_all("end").await?;
            writer.finish().await
        });
        read_all(reader).await
    });
    let received = received.await?;
    let whole = bytes(much());
    let parts = ranges.map(|range| &whole[range.start as usize..range.end.min(much()) as usize]);
    assert!(received == [&parts.concat()[..], b"end"].concat());
    Ok(())
}

/// A connection that holds less than is moved at a time.
async fn narrow() -> Result<(TcpStream, TcpStream)> {
    let (writer, reader) = common::pair().await?;
    writer.set_option(option::SEND_BUFFER, 32 << 10)?;
    reader.set_option(option::RECEIVE_BUFFER, 32 << 10)?;
    Ok((writer, reader))
}

/// The same for each kind of stream.
macro_rules! on_stream {
    ($kind:ident, $pair:expr) => {
        mod $kind {
            use super::*;

            #[trine::test(kernel = "both", runs = 3)]
            fn what_is_sent_is_what_the_file_has_there() {
                with_file(async |file| {
                    let (writer, reader) = $pair;
                    all_kinds_of_ranges(&file, &writer, &reader).await
                });
            }

            // D2, partial: what was taken from the file and not delivered is still in the file.
            #[trine::test(kernel = "both", runs = 3)]
            fn a_cancelled_one_says_how_much_went_out_and_can_be_continued() {
                with_file(async |file| {
                    let (writer, reader) = $pair;
                    let mut said = None;
                    move_on_after(MOMENT, async |_| {
                        let failed = file.send_to(&writer, 0..much()).await.unwrap_err();
                        said = Some(failed.done as u64);
                        Err::<(), _>(failed.into())
                    })
                    .await?;
                    let said = said.expect("it was cancelled");
                    assert!(said < much(), "{said}");
                    let received = nursery(async |n| {
                        n.spawn(async {
                            assert_eq!(file.send_to(&writer, said..much()).await?, much() - said);
                            writer.close().await
                        });
                        read_all(&reader).await
                    });
                    assert!(received.await? == bytes(much()));
                    Ok(())
                });
            }

            // A8: the cancel point comes first.
            #[trine::test(kernel = "both")]
            fn in_a_cancelled_scope_nothing_is_sent() {
                with_file(async |file| {
                    let (writer, reader) = $pair;
                    let scope = CancelScope::new();
                    scope.cancel();
                    let moved_on = scope.run(async |_| {
                        for range in [0..much(), 0..5, 3..3] {
                            let failed = file.send_to(&writer, range).await.unwrap_err();
                            assert!(failed.error.is_cancelled() && failed.done == 0);
                        }
                        Ok(())
                    });
                    moved_on.await?;
                    writer.close().await?;
                    assert!(reader.recv().await?.is_none());
                    Ok(())
                });
            }

            // D7: nobody knows how much of a dropped one went out; meanwhile the half is in use.
            #[trine::test(kernel = "both")]
            fn after_a_dropped_one_the_half_is_broken() {
                with_file(async |file| {
                    let (writer, reader) = $pair;
                    let mut first = vec![0; 1000];
                    {
                        let mut sending = pin!(file.send_to(&writer, 0..much()));
                        let mut reading = pin!(reader.read_exact(first));
                        first = loop {
                            assert!(poll!(sending.as_mut()).is_pending());
                            if let std::task::Poll::Ready(read) = poll!(reading.as_mut()) {
                                break read?;
                            }
                            turns(1).await;
                        };
                        // A piece is longer than what a stream holds, so it is under way; those of the
                        // simulated kernel are shorter, and there it does not take long until they fill it.
                        for _ in 0..50 {
                            turns(1).await;
                            assert!(poll!(sending.as_mut()).is_pending());
                        }
                        let busy = writer.write_all("x").await.unwrap_err();
                        assert!(matches!(busy.error, Error::Busy(_)), "{:?}", busy.error);
                    }
                    let broken = writer.write_all("more").await.unwrap_err();
                    assert!(matches!(broken.error, Error::Broken(_)), "{:?}", broken.error);
                    writer.close().await?;
                    let received = [first, read_all(&reader).await?].concat();
                    assert!(received[..] == bytes(much())[..received.len()]);
                    Ok(())
                });
            }

            #[trine::test(kernel = "both")]
            fn what_nobody_reads_fails() {
                with_file(async |file| {
                    let (writer, reader) = $pair;
                    reader.close().await?;
                    let failed = file.send_to(&writer, 0..much()).await.unwrap_err();
                    let kind = failed.error.io_kind().expect("an ordinary error");
                    assert!(
                        matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                        "{kind:?}"
                    );
                    assert!((failed.done as u64) < much());
                    Ok(())
                });
            }

            // As where the file system cannot.
            #[trine::test]
            fn what_the_kernel_does_not_move_is_read_and_written() {
                with_file(async |file| {
                    World::current().refuse_splice(true);
                    let (writer, reader) = $pair;
                    all_kinds_of_ranges(&file, &writer, &reader).await
                });
            }
        }
    };
}

on_stream!(tcp, narrow().await?);
on_stream!(unix, trine::net::UnixStream::pair()?);
on_stream!(pipes, {
    let (reader, writer) = trine::pipe::pipe()?;
    (writer, reader)
});

// What keeps its bytes is written to, and in order.
#[trine::test(kernel = "both")]
fn a_stream_of_another_kind_gets_them_too() {
    with_file(async |file| {
        let (near, far) = io::duplex(10_000);
        all_kinds_of_ranges(&file, &near, &far).await?;
        let (near, far) = common::pair().await?;
        all_kinds_of_ranges(&file, &io::BufWriter::new(near), &far).await
    });
}

// P1: neither the pipe nor what is in it outlives the call.
#[test]
fn no_descriptor_is_left() {
    with_file(async |file| {
        let (reader, writer) = trine::pipe::pipe()?;
        let before = std::fs::read_dir("/proc/self/fdinfo")?.count();
        for _ in 0..200 {
            let sent = nursery(async |n| {
                n.spawn_daemon(async { read_all(&reader).await.map(drop) });
                move_on_after(MOMENT / 4, async |_| Ok(file.send_to(&writer, 0..much()).await?))
                    .await
            });
            sent.await?;
        }
        let after = std::fs::read_dir("/proc/self/fdinfo")?.count();
        // Other tests run beside this one, and have some too.
        assert!(after < before + 200, "{before} descriptors became {after}");
        Ok(())
    });
}

// A file that cannot be read says so, and nothing is sent.
#[trine::test(kernel = "both")]
fn a_file_that_cannot_be_read_says_so() {
    with_file(async |_| {
        let dir = fs::TempDir::new().await?;
        let file = File::create(dir.path().join("file")).await?;
        file.write_all_at(bytes(much()), 0).await?;
        let (reader, writer) = trine::pipe::pipe()?;
        for range in [0..much(), 0..5] {
            let failed = file.send_to(&writer, range).await.unwrap_err();
            let Error::Io(error) = failed.error else { panic!("{:?}", failed.error) };
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        }
        writer.close().await?;
        assert!(reader.recv().await?.is_none());
        dir.close().await
    });
}

// What the kernel cannot splice from a place of is read and written.
#[test]
fn a_fifo_has_no_places_and_is_sent_all_the_same() {
    let sent = within(30, || {
        trine::run(async || {
            let dir = fs::TempDir::new().await?;
            let path = dir.path().join("fifo");
            let made = std::process::Command::new("mkfifo").arg(&path).status()?;
            assert!(made.success());
            let sent = nursery(async |n| {
                let filled = path.clone();
                n.spawn(async move {
                    Ok(trine::thread::run(move || std::fs::write(filled, bytes(300 << 10)))
                        .await??)
                });
                let fifo = File::open(&path).await?;
                let (writer, reader) = trine::net::UnixStream::pair()?;
                let received = n.fork(async move { read_all(&reader).await });
                let sent = fifo.send_to(&writer, 0..1 << 20).await?;
                writer.close().await?;
                assert!(received.await? == bytes(300 << 10));
                Ok(sent)
            });
            let sent = sent.await?;
            dir.close().await?;
            Ok(sent)
        })
    });
    assert_eq!(sent.expect("main succeeds"), 300 << 10);
}
