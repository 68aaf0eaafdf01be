//! Pipes: what comes through, what ends them, and what is not lost.

mod common;

use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use trine::io::{Close, Read, Write};
use trine::pipe::{self, PipeReader, PipeWriter};
use trine::testing::World;
use trine::{CancelScope, Error, Result, move_on_after, nursery, stats};

use common::{bytes, fewer, turns, within};

const MOMENT: Duration = Duration::from_millis(2);

/// What a pipe holds; the simulated one holds less under Miri.
const FULL: usize = fewer(64 << 10, 4 << 10);

#[track_caller]
fn run(main: impl AsyncFnOnce() -> Result) {
    within(20, || trine::Builder::new().detect_deadlock(true).run(main)).expect("main succeeds");
}

/// Everything up to the end.
async fn read_all(reader: &PipeReader) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = reader.recv().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// Receives so many bytes, in whatever pieces they come.
async fn receive(reader: &PipeReader, count: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend_from_slice(&reader.recv().await?.expect("not the end"));
    }
    Ok(all)
}

/// Polls a future once, lets the kernel have what it asks for, and drops it.
async fn begin(operation: impl Future) {
    let mut operation = pin!(operation);
    assert!(poll!(operation.as_mut()).is_pending());
    turns(1).await;
}

// D1: in order and complete, whatever the pieces.
#[trine::test(kernel = "both", runs = 5)]
fn what_is_written_comes_out_in_order_until_the_writer_goes() {
    run(async || {
        let (reader, writer) = pipe::pipe()?;
        let sent = bytes(3 * FULL + 77);
        let received = nursery(async |n| {
            let content = sent.clone();
            n.spawn(async move {
                writer.write_all(content).await?;
                writer.close().await
            });
            read_all(&reader).await
        })
        .await?;
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
        assert!(reader.recv().await?.is_none(), "the end stays");
        reader.close().await
    });
}

// The docs of `read` and `read_exact`.
#[trine::test(kernel = "both", runs = 5)]
fn reads_into_a_buffer_take_what_is_there_or_fill_it() {
    run(async || {
        let (reader, writer) = pipe::pipe()?;
        writer.write_all("abcdefgh").await?;
        let some = reader.read(Vec::with_capacity(3)).await?;
        assert!(!some.is_empty() && b"abc".starts_with(&some), "{some:?}");
        let rest = 8 - some.len();
        let exact = reader.read_exact(Vec::with_capacity(rest)).await?;
        assert_eq!([some, exact].concat(), b"abcdefgh");
        writer.write_all("end").await?;
        writer.finish().await?;
        let short = reader.read_exact(Vec::with_capacity(9)).await.unwrap_err();
        assert_eq!(short.done, 3);
        let Error::Io(ref error) = short.error else { panic!("{short:?}") };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        Ok(())
    });
}

// D4, D7: a receive that was cancelled, or dropped, leaves what comes to the next one.
#[trine::test(kernel = "both", runs = 5)]
fn a_receive_that_nobody_waits_for_any_more_loses_nothing() {
    run(async || {
        let (reader, writer) = pipe::pipe()?;
        assert!(move_on_after(MOMENT, async |_| reader.recv().await).await?.is_none());
        writer.write_all("one").await?;
        assert_eq!(receive(&reader, 3).await?, b"one");

        begin(reader.recv()).await;
        writer.write_all("two").await?;
        assert_eq!(reader.read_exact(Vec::with_capacity(3)).await?, b"two");

        begin(reader.read(Vec::with_capacity(9))).await;
        writer.write_all("three").await?;
        assert_eq!(receive(&reader, 5).await?, b"three");
        Ok(())
    });
}

// A8: in a cancelled scope nothing happens.
#[trine::test(kernel = "both")]
fn nothing_goes_through_in_a_cancelled_scope() {
    run(async || {
        let (reader, writer) = pipe::pipe()?;
        writer.write_all("kept").await?;
        let scope = CancelScope::new();
        scope.cancel();
        scope
            .run(async |_| {
                assert!(reader.recv().await.unwrap_err().is_cancelled());
                let refused = writer.write_all("lost").await.unwrap_err();
                assert!(refused.error.is_cancelled() && refused.done == 0);
                assert!(writer.finish().await.unwrap_err().is_cancelled());
                Ok(())
            })
            .await?;
        writer.finish().await?;
        assert_eq!(read_all(&reader).await?, b"kept");
        Ok(())
    });
}

// D2: partial: the error says how much went out, and that is what the reader gets.
#[trine::test(kernel = "both", runs = 5)]
fn a_cancelled_write_says_how_much_went_out() {
    run(async || {
        let (reader, writer) = pipe::pipe()?;
        let mut done = None;
        move_on_after(MOMENT, async |_| {
            let error = writer.write_all(bytes(3 * FULL)).await.unwrap_err();
            assert!(error.error.is_cancelled());
            done = Some(error.done);
            Err::<(), _>(error.into())
        })
        .await?;
        writer.finish().await?;
        let received = read_all(&reader).await?;
        assert_eq!(Some(received.len()), done);
        assert!(bytes(3 * FULL).starts_with(&received));
        Ok(())
    });
}

// D7: how much of a dropped write went out nobody knows.
#[trine::test(kernel = "both", runs = 5)]
fn a_dropped_write_breaks_the_writer_if_something_went_out() {
    run(async || {
        let (reader, writer) = pipe::pipe()?;
        writer.write_all(bytes(FULL)).await?;
        begin(writer.write_all("waits")).await;
        assert_eq!(reader.read_exact(Vec::with_capacity(FULL)).await?, bytes(FULL));
        match writer.write_all("next").await {
            // It went out before the cancel could stop it.
            Err(error) => {
                assert!(matches!(error.error, Error::Broken(_)), "{error}");
                drop(writer);
                assert_eq!(read_all(&reader).await?, b"waits");
            }
            Ok(_) => {
                drop(writer);
                assert_eq!(read_all(&reader).await?, b"next");
            }
        }
        Ok(())
    });
}

// The doc of `write`: small pieces of several writers are not mixed, and wait for room as a whole.
#[trine::test(kernel = "both", runs = 5)]
fn a_small_piece_goes_at_once_or_not_yet() {
    run(async || {
        let (reader, writer) = pipe::pipe()?;
        writer.write_all(bytes(FULL - 100)).await?;
        let mut piece = pin!(writer.write("x".repeat(1000)));
        assert!(poll!(piece.as_mut()).is_pending());
        turns(3).await;
        assert!(poll!(piece.as_mut()).is_pending(), "there is room for 100");
        reader.read_exact(Vec::with_capacity(FULL - 100)).await?;
        let (count, _) = piece.await?;
        assert_eq!(count, 1000);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_pipe_that_nobody_can_read_is_broken() {
    run(async || {
        let (reader, writer) = pipe::pipe()?;
        let waiting = nursery(async |n| {
            n.spawn(async {
                turns(3).await;
                reader.close().await
            });
            Ok(writer.write_all(bytes(2 * FULL)).await.unwrap_err())
        })
        .await?;
        let again = writer.write_all("more").await.unwrap_err();
        for error in [&waiting.error, &again.error] {
            let Error::Io(error) = error else { panic!("{error}") };
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
        assert_eq!(again.buf, "more", "the buffer comes back");
        Ok(())
    });
}

// The doc of `finish`.
#[trine::test(kernel = "both")]
fn after_the_end_nothing_is_written() {
    run(async || {
        let (reader, writer) = pipe::pipe()?;
        writer.write_all("last").await?;
        writer.finish().await?;
        writer.finish().await?;
        let late = writer.write_all("late").await.unwrap_err();
        assert!(matches!(late.error, Error::Closed(_)), "{late}");
        assert_eq!(read_all(&reader).await?, b"last");
        writer.close().await
    });
}

// One task at a time uses an end.
#[trine::test(kernel = "both")]
fn a_second_reader_and_a_second_writer_are_busy() {
    run(async || {
        let (reader, writer) = pipe::pipe()?;
        let mut first = pin!(reader.recv());
        assert!(poll!(first.as_mut()).is_pending());
        assert!(matches!(reader.recv().await.unwrap_err(), Error::Busy(_)));
        writer.write_all(bytes(FULL)).await?;
        let mut full = pin!(writer.write_all("more"));
        assert!(poll!(full.as_mut()).is_pending());
        assert!(matches!(writer.write("x").await.unwrap_err().error, Error::Busy(_)));
        assert!(matches!(writer.finish().await.unwrap_err(), Error::Busy(_)));
        Ok(())
    });
}

// M2: closed in any case; nothing is in the kernel afterwards.
#[trine::test(kernel = "both", runs = 5)]
fn a_close_in_a_cancelled_scope_closes_what_is_under_way() {
    async fn close_cancelled(end: impl Close) -> Result {
        let scope = CancelScope::new();
        scope.cancel();
        let closed = scope.run(async |_| end.close().await).await?;
        assert!(closed.is_none(), "and says Cancelled");
        Ok(())
    }
    run(async || {
        let before = stats().in_kernel;
        let (reader, writer) = pipe::pipe()?;
        begin(reader.recv()).await;
        close_cancelled(reader).await?;
        let broken = writer.write_all("x").await.unwrap_err();
        assert!(!broken.error.is_cancelled(), "{broken}");
        close_cancelled(writer).await?;

        let (reader, writer) = pipe::pipe()?;
        begin(writer.write_all(bytes(2 * FULL))).await;
        close_cancelled(writer).await?;
        assert!(bytes(2 * FULL).starts_with(&read_all(&reader).await?));
        reader.close().await?;
        assert_eq!(stats().in_kernel, before);
        Ok(())
    });
}

/// The same by the traits, as a program that does not know what it has.
#[trine::test(kernel = "both")]
fn the_traits_do_what_the_methods_do() {
    async fn through(reader: impl Read + Close, writer: impl Write) -> Result {
        writer.write_all("trait").await?;
        let (count, _) = writer.write("s").await?;
        writer.finish().await?;
        assert_eq!(count, 1);
        let first = reader.read_exact(Vec::with_capacity(2)).await?;
        let mut all = [first, reader.read(Vec::with_capacity(1)).await?].concat();
        while let Some(chunk) = reader.recv().await? {
            all.extend_from_slice(&chunk);
        }
        assert_eq!(all, b"traits");
        reader.close().await
    }
    run(async || {
        let (reader, writer) = pipe::pipe()?;
        through(reader, &writer).await?;
        writer.close().await
    });
}

// The kernel of Linux 6.1 reads once at a time.
#[test]
fn a_kernel_that_reads_only_once_is_asked_again() {
    let world = World::tame();
    world.refuse_multishots(true);
    let read = world.run(async || {
        let (reader, writer) = pipe::pipe()?;
        for piece in ["a", "b", "c"] {
            writer.write_all(piece).await?;
            assert_eq!(reader.recv().await?.expect("no end"), *piece.as_bytes());
        }
        Ok(())
    });
    read.expect("main succeeds");
}

// P6 of what comes from elsewhere: refused with a word about what is wrong.
#[test]
#[cfg_attr(miri, ignore = "the real kernel")]
fn only_blocking_pipes_are_taken() {
    run(async || {
        let (socket, _peer) = UnixStream::pair()?;
        let refused = PipeReader::from_fd(OwnedFd::from(socket)).unwrap_err().to_string();
        assert!(refused.ends_with("is no pipe that can be read"), "{refused}");
        let (_reader, writer) = linux_pipe(libc::O_NONBLOCK);
        let refused = PipeWriter::from_fd(writer).unwrap_err().to_string();
        assert!(refused.contains("clear O_NONBLOCK"), "{refused}");
        let (reader, writer) = linux_pipe(0);
        let (reader, writer) = (PipeReader::from_fd(reader)?, PipeWriter::from_fd(writer)?);
        writer.write_all("from elsewhere").await?;
        writer.close().await?;
        assert_eq!(read_all(&reader).await?, b"from elsewhere");
        Ok(())
    });
}

fn linux_pipe(flags: i32) -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which nobody else has.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | flags), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

#[test]
#[cfg_attr(miri, ignore = "the real kernel")]
fn an_end_from_linux_is_none_of_a_simulated_kernel() {
    let refused = World::tame().run(async || {
        let (reader, _writer) = linux_pipe(0);
        PipeReader::from_fd(reader).map(drop)
    });
    assert!(refused.unwrap_err().to_string().contains("simulated kernel"));
}

// D7: an end that is left open is found by the world, and one that is dropped is not.
#[test]
fn a_simulated_world_knows_its_pipes() {
    let world = World::tame();
    let run = world.run(async || {
        let (reader, _writer) = pipe::pipe()?;
        assert_eq!(World::current().census().descriptors, 2);
        drop(reader);
        turns(2).await;
        assert_eq!(World::current().census().descriptors, 1);
        World::current().limit_descriptors(2);
        let refused = pipe::pipe().unwrap_err();
        assert!(refused.to_string().contains("Too many open files"), "{refused}");
        assert_eq!(World::current().census().descriptors, 1, "of a failed one nothing is left");
        Ok(())
    });
    run.expect("main succeeds");
}
