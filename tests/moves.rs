//! What a kernel moves from stream to stream, and from streams into files, while much waits there.

mod common;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use trine::fs::{self, File};
use trine::io::{self, BufReader, BufWriter, Read, Write};
use trine::net::{TcpListener, TcpStream, UnixStream, option};
use trine::pipe::{self, PipeReader, PipeWriter};
use trine::testing::{World, wait_all_tasks_blocked};
use trine::time::sleep;
use trine::{CancelScope, Chunk, Error, Result, checkpoint, move_on_after, nursery};

use common::random::Random;
use common::{BUDGET, descriptors, fewer, turns, within};

/// More than streams and pipes hold, and than has to go by before anything is moved.
fn much() -> usize {
    if World::try_current().is_some() { fewer(600 << 10, 60 << 10) } else { 20 << 20 }
}

/// A part of it, without which the rest is more than streams and pipes hold.
fn some() -> usize {
    much() / 4
}

/// Bytes of the sequence that is sent everywhere here.
fn bytes(from: usize, count: usize) -> Vec<u8> {
    let first: Vec<u8> = (0..=250).cycle().skip(from % 251).take(251).collect();
    let mut bytes = first.repeat(count.div_ceil(251));
    bytes.truncate(count);
    bytes
}

#[track_caller]
fn assert_sequence(all: &[u8], from: usize) {
    assert!(all == bytes(from, all.len()), "{} bytes from {from} on are others", all.len());
}

fn random() -> Random {
    Random(World::try_current().map_or(7, |world| world.choose(1 << 20).into()))
}

/// Writes `count` bytes in pieces of all sizes, and ends the stream.
async fn feed(to: &impl Write, count: usize) -> Result {
    let (mut random, mut at) = (random(), 0);
    while at < count {
        let longest = if random.one_in(3) { count / 4 } else { count / 200 };
        let piece = (1 + random.below(longest)).min(count - at);
        to.write_all(bytes(at, piece)).await?;
        at += piece;
    }
    to.finish().await
}

/// Everything up to the end, with rests in which the streams fill.
async fn take(from: &impl Read) -> Result<Vec<u8>> {
    let (mut random, mut all) = (random(), Vec::new());
    // Of the real kernel each rest takes its time.
    let often = if World::try_current().is_some() { 5 } else { 400 };
    wait_all_tasks_blocked().await?;
    while let Some(chunk) = from.recv().await? {
        all.extend_from_slice(&chunk);
        if random.one_in(often) {
            wait_all_tasks_blocked().await?;
        }
    }
    Ok(all)
}

/// Whether the kernel was asked to move anything. On Linux nobody knows.
fn has_moved() -> bool {
    World::try_current().is_none_or(|world| world.timeline().contains("splice"))
}

/// Two ends of a connection with room for much.
async fn tcp() -> Result<(TcpStream, TcpStream)> {
    let (one, other) = common::pair().await?;
    other.set_option(option::RECEIVE_BUFFER, 4 << 20)?;
    Ok((one, other))
}

async fn unix() -> Result<(UnixStream, UnixStream)> {
    UnixStream::pair()
}

async fn pipes() -> Result<(PipeWriter, PipeReader)> {
    let (reader, writer) = pipe::pipe()?;
    Ok((writer, reader))
}

/// Copies until it is cancelled, and puts back what comes back. Whether it came to the end.
async fn copy_for(
    moment: Duration,
    from: &impl Read,
    to: &impl Write,
    back: &RefCell<Option<Chunk>>,
) -> Result<bool> {
    let ended = move_on_after(moment, async |_| {
        io::copy(from, to).await.map_err(|mut failed| {
            back.replace(failed.buf.take());
            Error::from(failed)
        })
    });
    Ok(ended.await?.is_some())
}

/// The same for each kind of stream on either side.
macro_rules! between {
    ($kinds:ident, $from:expr, $to:expr) => {
        mod $kinds {
            use super::*;

            #[trine::test(kernel = "both", runs = 8, faults = "lossless")]
            async fn what_comes_out_is_what_went_in() -> Result {
                let ((feeder, from), (to, taker)) = (&$from.await?, &$to.await?);
                let received = nursery(async |n| {
                    n.spawn(feed(feeder, much()));
                    n.spawn(async move {
                        assert_eq!(io::copy(from, to).await?, much() as u64);
                        to.finish().await
                    });
                    take(taker).await
                });
                let received = received.await?;
                assert_eq!(received.len(), much());
                assert_sequence(&received, 0);
                Ok(())
            }

            #[trine::test(kernel = "sim", runs = 3)]
            async fn the_kernel_moves_it() -> Result {
                what_is_moved($from.await?, $to.await?).await?;
                assert!(has_moved());
                Ok(())
            }

            #[trine::test(kernel = "sim", runs = 3)]
            async fn what_it_does_not_move_is_received_and_written() -> Result {
                World::current().refuse_splice(true);
                what_is_moved($from.await?, $to.await?).await
            }

            // D1, D2: sent = arrived + returned + still in the stream, at whatever moment it is cancelled.
            #[trine::test(kernel = "both", runs = 8, faults = "lossless")]
            async fn cancelled_again_and_again_it_loses_no_byte() -> Result {
                let ((feeder, from), (to, taker)) = (&$from.await?, &$to.await?);
                let received = nursery(async |n| {
                    n.spawn(feed(feeder, much()));
                    n.spawn(async move {
                        let (mut random, back) = (random(), RefCell::new(None));
                        loop {
                            let moment = Duration::from_micros(random.below(4000) as u64);
                            let ended = copy_for(moment, from, to, &back).await?;
                            if let Some(chunk) = back.take() {
                                to.write_all(chunk).await?;
                            }
                            if ended {
                                return to.finish().await;
                            }
                        }
                    });
                    take(taker).await
                });
                let received = received.await?;
                assert_eq!(received.len(), much());
                assert_sequence(&received, 0);
                Ok(())
            }

            // D7: what a dropped one has not read is still to be received; no byte is there twice, and if one is
            // missing the stream says so.
            #[trine::test(kernel = "both", runs = 8, faults = "lossless")]
            async fn a_dropped_one_leaves_the_stream_in_order() -> Result {
                let ((feeder, from), (to, taker)) = (&$from.await?, &$to.await?);
                let rounds = random().below(400);
                let (head, tail) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
                let is_broken = Cell::new(false);
                nursery(async |n| {
                    n.spawn(feed(feeder, much()));
                    n.spawn(async {
                        *head.borrow_mut() = take(taker).await?;
                        Ok(())
                    });
                    {
                        let mut copying = pin!(io::copy(from, to));
                        for _ in 0..rounds {
                            if poll!(copying.as_mut()).is_ready() {
                                break;
                            }
                            turns(1).await;
                        }
                    }
                    // Its write has ended when the next one answers.
                    let next = to.write_all("").await.map(drop);
                    is_broken
                        .set(next.is_err_and(|failed| matches!(failed.error, Error::Broken(_))));
                    to.finish().await?;
                    while let Some(chunk) = from.recv().await? {
                        tail.borrow_mut().extend_from_slice(&chunk);
                    }
                    Ok(())
                })
                .await?;
                let (head, tail) = (head.into_inner(), tail.into_inner());
                assert_sequence(&head, 0);
                assert_sequence(&tail, much() - tail.len());
                let missing = much() - (head.len() + tail.len());
                assert!(missing == 0 || is_broken.get(), "{missing} bytes are missing");
                Ok(())
            }

            #[trine::test(kernel = "both", runs = 3)]
            async fn what_nobody_reads_comes_back() -> Result {
                let ((feeder, from), (to, taker)) = (&$from.await?, $to.await?);
                let sent = nursery(async |n| {
                    let scope = CancelScope::new();
                    n.spawn_daemon(async move { feed(feeder, much()).await });
                    n.spawn(async {
                        wait_all_tasks_blocked().await?;
                        // Much has gone, and now nobody takes more.
                        let taken = taker.read_exact(Vec::with_capacity(some())).await?;
                        wait_all_tasks_blocked().await?;
                        drop(taker);
                        Ok(drop(taken))
                    });
                    let failed = scope.run(async |_| Ok(io::copy(from, &to).await.unwrap_err()));
                    let failed = failed.await?.expect("it is not cancelled");
                    let kind = failed.error.io_kind().expect("an ordinary error");
                    assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset));
                    let back = failed.buf.expect("it was read");
                    assert_sequence(&back, failed.done);
                    let next = from.recv().await?.expect("there is more");
                    assert_sequence(&next, failed.done + back.len());
                    Ok(failed.done + back.len() + next.len())
                });
                assert!(sent.await? <= much());
                Ok(())
            }
        }
    };
}

/// Copies everything, with the streams full.
async fn what_is_moved(
    (feeder, from): (impl Write, impl Read),
    (to, taker): (impl Write, impl Read),
) -> Result {
    let received = nursery(async |n| {
        n.spawn(feed(&feeder, much()));
        n.spawn(async {
            io::copy(&from, &to).await?;
            to.finish().await
        });
        take(&taker).await
    });
    let received = received.await?;
    assert_eq!(received.len(), much());
    assert_sequence(&received, 0);
    Ok(())
}

between!(sockets, tcp(), tcp());
between!(local_sockets, unix(), unix());
between!(pipe_to_pipe, pipes(), pipes());
between!(socket_to_pipe, tcp(), pipes());
between!(pipe_to_socket, pipes(), unix());

// What keeps bytes or has no descriptor is received and written, and in order.
#[trine::test(kernel = "both", runs = 3)]
async fn streams_of_another_kind_are_copied_too() -> Result {
    let ((a, b), (c, d)) = (tcp().await?, tcp().await?);
    what_is_moved((a, BufReader::new(b)), (c, d)).await?;
    let ((a, b), (c, d)) = (tcp().await?, tcp().await?);
    what_is_moved((a, b), (BufWriter::new(c), d)).await?;
    let ((a, b), (c, d)) = (tcp().await?, io::duplex(10_000));
    what_is_moved((a, b), (c, d)).await?;
    let ((a, b), (c, d)) = (io::duplex(10_000), tcp().await?);
    what_is_moved((a, b), (c, d)).await?;
    assert!(World::try_current().is_none() || !has_moved());
    Ok(())
}

// A2: what is done at once lets others run now and then, also if it is nothing.
#[trine::test(kernel = "both")]
async fn nothing_to_receive_or_send_lets_others_run() -> Result {
    let dir = fs::TempDir::new().await?;
    let file = File::create(dir.path().join("file")).await?;
    let (_near, far) = &tcp().await?;
    let others = &Cell::new(0);
    nursery(async |n| {
        n.spawn_daemon(async {
            loop {
                others.set(others.get() + 1);
                checkpoint().await?;
            }
        });
        for _ in 0..4 * BUDGET {
            assert_eq!(file.receive_from(far, 9..9).await?, 0);
        }
        let before = others.get();
        assert!(before > 0, "receiving");
        for _ in 0..4 * BUDGET {
            assert_eq!(file.send_to(far, 9..9).await?, 0);
        }
        assert!(others.get() > before, "sending");
        Ok(())
    })
    .await?;
    dir.close().await
}

// Joined ones are those that they were made of.
#[trine::test(kernel = "both", runs = 3)]
async fn joined_streams_are_moved_too() -> Result {
    let ((a, b), (c, d), (_e, f)) = (tcp().await?, tcp().await?, io::duplex(9));
    what_is_moved((a, io::join(b, f)), (c, d)).await?;
    assert!(World::try_current().is_none() || has_moved());
    Ok(())
}

// Linux moves nothing from behind urgent data on, and says so with the 0 that means the end elsewhere.
#[test]
fn urgent_data_in_the_way_is_neither_an_end_nor_waited_for() {
    const MUCH: usize = 600_000;
    within(20, || {
        trine::run(async || {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let near = TcpStream::connect_addr(listener.local_addr()?).await?;
            let (far, _) = listener.accept().await?;
            far.set_option(option::RECEIVE_BUFFER, 4 << 20)?;
            set_urgent_inline(&far);
            send_urgently(&near, b'!');
            near.write_all(vec![b'.'; MUCH]).await?;
            near.finish().await?;
            let dir = fs::TempDir::new().await?;
            let path = dir.path().join("file");
            let file = File::create(&path).await?;
            assert_eq!(file.receive_from(&far, 0..1 << 30).await?, MUCH as u64 + 1);
            let written = fs::read(&path).await?;
            assert!(written[0] == b'!' && written[1..] == [b'.'].repeat(MUCH));
            dir.close().await
        })
    })
    .expect("main succeeds");
}

fn set_urgent_inline(stream: &TcpStream) {
    let (on, size) = (1_i32, size_of::<i32>() as u32);
    let (level, name) = (libc::SOL_SOCKET, libc::SO_OOBINLINE);
    // SAFETY: the value is of the length that is said.
    let set =
        unsafe { libc::setsockopt(stream.as_raw_fd(), level, name, (&raw const on).cast(), size) };
    assert_eq!(set, 0);
}

fn send_urgently(stream: &TcpStream, byte: u8) {
    // SAFETY: one byte is there.
    let sent =
        unsafe { libc::send(stream.as_raw_fd(), (&raw const byte).cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1);
}

#[trine::test(kernel = "both", runs = 5, faults = "lossless")]
async fn a_proxy_passes_much_on_both_ways() -> Result {
    let ((client, front), (back, server)) = (&tcp().await?, &tcp().await?);
    nursery(async |n| {
        let proxy = n.fork(async move { Ok(io::copy_bidirectional(front, back).await?) });
        n.spawn(feed(client, much()));
        n.spawn(feed(server, much() / 2));
        n.spawn(async move {
            let there = take(server).await?;
            assert_eq!(there.len(), much());
            assert_sequence(&there, 0);
            Ok(())
        });
        let back = take(client).await?;
        assert_eq!(back.len(), much() / 2);
        assert_sequence(&back, 0);
        assert_eq!(proxy.await?, (much() as u64, much() as u64 / 2));
        Ok(())
    })
    .await
}

#[trine::test(kernel = "both", runs = 5)]
async fn a_reset_in_the_middle_is_told_after_the_bytes_before_it() -> Result {
    let ((feeder, from), (to, taker)) = (tcp().await?, tcp().await?);
    let (from, taker, done) = (&from, &taker, Cell::new(0));
    feeder.set_linger(Some(Duration::ZERO))?;
    let received = nursery(async |n| {
        n.spawn(async move {
            let count = much();
            let fed = move_on_after(Duration::from_millis(15), async |_| {
                feeder.write_all(bytes(0, count)).await?;
                Ok(())
            });
            fed.await?;
            feeder.close().await
        });
        n.spawn(async {
            let to = to;
            let failed = io::copy(from, &to).await.expect_err("it was reset");
            assert_eq!(failed.error.io_kind(), Some(ErrorKind::ConnectionReset));
            assert!(failed.buf.is_none());
            done.set(failed.done);
            to.finish().await
        });
        take(taker).await
    });
    let received = received.await?;
    assert_sequence(&received, 0);
    assert_eq!(received.len(), done.get());
    Ok(())
}

// The pipe is there as long as much flows, and not longer.
#[trine::test(kernel = "both")]
async fn an_idle_copy_has_no_descriptors_of_its_own() -> Result {
    let ((feeder, from), (to, taker)) = (&tcp().await?, &tcp().await?);
    let before = World::try_current().map(|_| descriptors());
    let received = nursery(async |n| {
        n.spawn(async move {
            io::copy(from, to).await?;
            to.finish().await
        });
        let taking = n.fork(take(taker));
        feeder.write_all(bytes(0, 2 * much())).await?;
        wait_all_tasks_blocked().await?;
        assert_eq!(World::try_current().map(|_| descriptors()), before);
        feeder.write_all(bytes(2 * much(), 1000)).await?;
        feeder.finish().await?;
        taking.await
    });
    let received = received.await?;
    assert_eq!(received.len(), 2 * much() + 1000);
    assert_sequence(&received, 0);
    assert!(has_moved());
    Ok(())
}

// Whoever is stuck has a pipe and a worker of the kernel: that are not more than a few.
#[trine::test(kernel = "sim")]
async fn few_move_at_a_time() -> Result {
    const COPIES: usize = 40;
    let mut streams = Vec::new();
    for _ in 0..COPIES {
        streams.push((unix().await?, unix().await?));
    }
    let before = descriptors();
    nursery(async |n| {
        for ((feeder, from), (to, taker)) in &streams {
            n.spawn_daemon(async move { feed(feeder, 4 * much()).await });
            n.spawn_daemon(async move { Ok(io::copy(from, to).await.map(drop)?) });
            n.spawn_daemon(async move {
                for _ in 0..10 {
                    wait_all_tasks_blocked().await?;
                    taker.read_exact(Vec::with_capacity(some() / 10)).await?;
                }
                Ok(())
            });
        }
        sleep(Duration::from_secs(1)).await?;
        let more = descriptors() - before;
        assert!(more > 0 && more <= 2 * 16, "{more}");
        Ok(())
    })
    .await
}

#[track_caller]
fn with_file(main: impl AsyncFnOnce(&File) -> Result) {
    let run = async || {
        let dir = fs::TempDir::new().await?;
        let file = File::options().read(true).write(true).create(true);
        main(&file.open(dir.path().join("file")).await?).await?;
        dir.close().await
    };
    within(60, || trine::Builder::new().detect_deadlock(true).run(run)).expect("main succeeds");
}

async fn content(file: &File) -> Result<Vec<u8>> {
    let len = file.metadata().await?.len() as usize;
    Ok(file.read_exact_at(Vec::with_capacity(len), 0).await?)
}

/// The same for each kind of stream.
macro_rules! into_a_file {
    ($kind:ident, $from:expr) => {
        mod $kind {
            use super::*;

            #[trine::test(kernel = "both", runs = 5)]
            fn what_comes_is_in_the_range_and_the_rest_is_still_to_come() {
                with_file(async |file| {
                    let (feeder, from) = &$from.await?;
                    let most = (much() - 5000) as u64;
                    nursery(async |n| {
                        n.spawn(feed(feeder, much()));
                        wait_all_tasks_blocked().await?;
                        assert_eq!(file.receive_from(from, 100..100).await?, 0);
                        assert_eq!(file.receive_from(from, 100..100 + most).await?, most);
                        assert_eq!(file.receive_from(from, 0..3).await?, 3);
                        let tail = take(from).await?;
                        assert_eq!(tail.len(), 5000 - 3);
                        assert_sequence(&tail, much() - tail.len());
                        assert_eq!(file.receive_from(from, 0..3).await?, 0);
                        Ok(())
                    })
                    .await?;
                    let there = content(file).await?;
                    assert_eq!(there.len() as u64, 100 + most);
                    assert_sequence(&there[..3], most as usize);
                    assert_sequence(&there[100..], 0);
                    Ok(())
                });
            }

            // D1, D2: sent = written + returned + still in the stream.
            #[trine::test(kernel = "both", runs = 5)]
            fn cancelled_again_and_again_it_loses_no_byte() {
                with_file(async |file| {
                    let (feeder, from) = &$from.await?;
                    let mut at = 0;
                    nursery(async |n| {
                        n.spawn(feed(feeder, much()));
                        let mut random = random();
                        loop {
                            let moment = Duration::from_micros(random.below(3000) as u64);
                            let mut back = Vec::new();
                            let ended = move_on_after(moment, async |_| {
                                let received = file.receive_from(from, at..u64::MAX).await;
                                let (done, left) = match received {
                                    Ok(done) => (done, None),
                                    Err(failed) => (failed.done as u64, Some(failed)),
                                };
                                at += done;
                                let Some(failed) = left else { return Ok(()) };
                                back = failed.buf;
                                Err(failed.error)
                            });
                            let ended = ended.await?.is_some();
                            at += file.write_all_at(back, at).await?.len() as u64;
                            if ended {
                                return Ok(());
                            }
                        }
                    })
                    .await?;
                    let there = content(file).await?;
                    assert_eq!(there.len(), much());
                    assert_sequence(&there, 0);
                    Ok(())
                });
            }
        }
    };
}

into_a_file!(socket_to_file, tcp());
into_a_file!(pipe_to_file, pipes());

#[trine::test(kernel = "sim")]
fn the_kernel_moves_it_into_a_file_or_it_is_read_and_written() {
    for refuse in [false, true] {
        with_file(async |file| {
            World::current().refuse_splice(refuse);
            let (feeder, from) = &unix().await?;
            nursery(async |n| {
                n.spawn(feed(feeder, much()));
                wait_all_tasks_blocked().await?;
                assert_eq!(file.receive_from(from, 0..u64::MAX).await?, much() as u64);
                Ok(())
            })
            .await?;
            assert!(has_moved());
            assert_sequence(&content(file).await?, 0);
            Ok(())
        });
    }
}

#[trine::test(kernel = "both")]
fn a_range_that_no_file_has_gives_back_what_was_read() {
    with_file(async |file| {
        let (feeder, from) = &tcp().await?;
        feeder.write_all("hello").await?;
        let failed = file.receive_from(from, u64::MAX - 10..u64::MAX).await.unwrap_err();
        assert_eq!((failed.done, &failed.buf[..]), (0, &b"hello"[..]));
        assert_eq!(failed.error.io_kind(), Some(ErrorKind::InvalidInput));
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_file_that_cannot_be_written_gives_back_what_was_read() {
    within(60, || {
        trine::run(async || {
            let dir = fs::TempDir::new().await?;
            let path = dir.path().join("file");
            fs::write(&path, "x").await?;
            // What is opened to append has no places to write to.
            let appended = File::options().append(true).open(&path).await?;
            for file in [File::open(&path).await?, appended] {
                let (feeder, from) = &tcp().await?;
                feeder.write_all("hello").await?;
                feeder.finish().await?;
                let failed = file.receive_from(from, 0..99).await.unwrap_err();
                assert_eq!((failed.done, &failed.buf[..]), (0, &b"hello"[..]));
                assert!(failed.error.io_kind().is_some());
            }
            dir.close().await
        })
    })
    .expect("main succeeds");
}
