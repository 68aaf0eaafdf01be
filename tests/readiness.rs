//! `io::Readiness`: waiting until a descriptor that is somebody else's can be read or written.

mod common;

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::ops::AsyncFnOnce;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::Duration;

use futures::poll;
use trine::io::{Readiness, Ready};
use trine::net::{TcpListener, TcpStream};
use trine::pipe::pipe;
use trine::{
    Builder, CancelScope, Error, Result, checkpoint, move_on_after, nursery, stats, yield_shielded,
};

use common::{BUDGET, Peer, fewer, in_kernel, turns};

/// What a pipe or the simulated receiver holds; under Miri that takes its time over every byte.
const PIECE: usize = fewer(64 << 10, 4 << 10);
const MOMENT: Duration = Duration::from_millis(2);

#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(20, || Builder::new().detect_deadlock(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// One that waits in the kernel, and does not end by itself.
async fn begin(ready: Pin<&mut Ready<'_>>) {
    assert!(poll!(ready).is_pending());
    turns(2).await;
}

#[trine::test(kernel = "both", runs = 20)]
fn a_stream_is_readable_when_something_has_come_and_stays_so() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        let ready = Readiness::new(stream)?;
        assert!(move_on_after(MOMENT, async |_| ready.readable().await).await?.is_none());
        nursery(async |n| {
            n.spawn(async { ready.readable().await });
            in_kernel(1).await?;
            peer.write_all(b"x").await
        })
        .await?;
        // Level-triggered: nobody has read it.
        ready.readable().await?;
        assert_eq!(ready.get_ref().recv().await?.as_deref(), Some(&b"x"[..]));
        assert!(move_on_after(MOMENT, async |_| ready.readable().await).await?.is_none());
        ready.into_inner().close().await
    });
}

#[trine::test(kernel = "both", runs = 20)]
fn the_ends_of_a_pipe_are_ready_for_what_they_are_for() {
    run(async || {
        let (reader, writer) = pipe()?;
        let (reader, writer) = (Readiness::new(reader)?, Readiness::new(writer)?);
        writer.writable().await?;
        assert!(move_on_after(MOMENT, async |_| reader.readable().await).await?.is_none());
        nursery(async |n| {
            n.spawn(async { reader.readable().await });
            in_kernel(1).await?;
            writer.get_ref().write_all(vec![1; PIECE]).await?;
            Ok(())
        })
        .await?;
        assert!(move_on_after(MOMENT, async |_| writer.writable().await).await?.is_none());
        nursery(async |n| {
            n.spawn(async { writer.writable().await });
            in_kernel(1).await?;
            reader.get_ref().read_exact(Vec::with_capacity(PIECE)).await?;
            Ok(())
        })
        .await?;
        writer.into_inner().close().await?;
        reader.readable().await?;
        assert!(reader.get_ref().recv().await?.is_none());
        reader.into_inner().close().await
    });
}

#[trine::test(kernel = "both", runs = 20)]
fn a_listener_is_readable_when_somebody_has_knocked() {
    run(async || {
        let listener = Readiness::new(TcpListener::bind("127.0.0.1:0").await?)?;
        assert!(move_on_after(MOMENT, async |_| listener.readable().await).await?.is_none());
        let _peer = Peer::connect(listener.get_ref().local_addr()?)?;
        listener.readable().await?;
        listener.get_ref().accept().await?.0.close().await?;
        listener.into_inner().close().await
    });
}

/// Sends until there is no room.
async fn fill(ready: &Readiness<TcpStream>) -> Result<usize> {
    let mut sent = 0;
    loop {
        let write = async |_: &CancelScope| {
            let (count, _) = ready.get_ref().write(vec![1; PIECE]).await?;
            Ok(count)
        };
        match move_on_after(MOMENT, write).await? {
            Some(count) => sent += count,
            None => return Ok(sent),
        }
    }
}

/// Waits until there is room, which the peer makes.
async fn make_room(ready: &Readiness<TcpStream>, peer: &Peer, mut sent: usize) -> Result {
    nursery(async |n| {
        n.spawn(async { ready.writable().await });
        let mut piece = vec![0; PIECE];
        while sent > 0 {
            sent -= peer.read(&mut piece).await?;
        }
        Ok(())
    })
    .await
}

#[trine::test(kernel = "both", runs = 20)]
fn a_stream_is_writable_while_there_is_room_and_again_when_some_was_made() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        let ready = Readiness::new(stream)?;
        ready.writable().await?;
        let sent = fill(&ready).await?;
        assert!(move_on_after(MOMENT, async |_| ready.writable().await).await?.is_none());
        make_room(&ready, &peer, sent).await?;
        ready.into_inner().close().await
    });
}

// Linux ends each poll of a stream whose other end has finished sending.
#[trine::test(kernel = "both", runs = 20)]
fn a_stream_that_was_finished_by_its_peer_is_writable_only_when_there_is_room() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        let ready = Readiness::new(stream)?;
        let sent = fill(&ready).await?;
        peer.shutdown(Shutdown::Write)?;
        ready.readable().await?;
        assert!(move_on_after(MOMENT, async |_| ready.writable().await).await?.is_none());
        make_room(&ready, &peer, sent).await?;
        ready.into_inner().close().await
    });
}

#[trine::test(kernel = "both", runs = 20)]
fn the_end_of_a_stream_and_a_reset_count_as_ready() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        let ended = Readiness::new(stream)?;
        peer.shutdown(Shutdown::Write)?;
        ended.readable().await?;
        ended.readable().await?;
        assert!(ended.get_ref().recv().await?.is_none());
        ended.into_inner().close().await?;

        let (stream, peer) = Peer::pair().await?;
        let broken = Readiness::new(stream)?;
        nursery(async |n| {
            n.spawn(async { broken.readable().await });
            in_kernel(1).await?;
            peer.reset();
            Ok(())
        })
        .await?;
        broken.readable().await?;
        broken.writable().await?;
        drop(broken);
        Ok(())
    });
}

#[trine::test(kernel = "both", runs = 5)]
fn one_may_wait_to_read_and_one_to_write() {
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        let ready = Readiness::new(stream)?;
        {
            let mut first = pin!(ready.readable());
            begin(first.as_mut()).await;
            let refused = ready.readable().await.unwrap_err();
            assert!(matches!(refused, Error::Busy(_)), "{refused}");
            ready.writable().await?;
            // A8: the cancel point comes first.
            let scope = CancelScope::new();
            scope.cancel();
            assert!(scope.run(async |_| ready.readable().await).await?.is_none());
        }
        // A dropped one waits no more, whatever the kernel still does for it.
        assert!(move_on_after(MOMENT, async |_| ready.readable().await).await?.is_none());
        ready.into_inner().close().await
    });
}

// A8, D1: before anything has happened it raises; afterwards it does not.
#[trine::test(kernel = "both", runs = 20)]
fn a_cancelled_wait_says_so_unless_it_was_over() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        let ready = Readiness::new(stream)?;
        // During.
        let scope = CancelScope::new();
        nursery(async |n| {
            n.spawn(async {
                let outcome = scope
                    .run(async |_| {
                        let error = ready.readable().await.unwrap_err();
                        assert!(error.is_cancelled(), "{error}");
                        Err::<(), _>(error)
                    })
                    .await?;
                assert!(outcome.is_none());
                Ok(())
            });
            in_kernel(1).await?;
            scope.cancel();
            Ok(())
        })
        .await?;
        // Before.
        peer.write_all(b"x").await?;
        let scope = CancelScope::new();
        scope.cancel();
        let submitted = stats().submitted;
        assert!(scope.run(async |_| ready.readable().await).await?.is_none());
        assert_eq!(stats().submitted, submitted, "A8: nothing has happened");
        // After: it was ready when it was cancelled.
        let scope = CancelScope::new();
        let outcome = scope.run(async |scope| {
            let mut wait = pin!(ready.readable());
            assert!(poll!(wait.as_mut()).is_pending());
            let waited = wait.await;
            scope.cancel();
            waited
        });
        assert!(outcome.await?.is_some());
        ready.into_inner().close().await
    });
}

// What `Cancelled` has ended may be awaited again.
#[trine::test(kernel = "both", runs = 5)]
fn a_wait_that_was_cancelled_starts_anew() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        let ready = Readiness::new(stream)?;
        {
            let mut wait = pin!(ready.readable());
            assert!(move_on_after(MOMENT, async |_| wait.as_mut().await).await?.is_none());
            peer.write_all(b"x").await?;
            wait.await?;
        }
        ready.into_inner().close().await
    });
}

#[trine::test(kernel = "both", runs = 20)]
fn whoever_waits_hears_of_a_close_that_was_announced() {
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        let ready = Readiness::new(stream.as_raw_fd())?;
        nursery(async |n| {
            for direction in [0, 1] {
                let ready = &ready;
                n.spawn(async move {
                    let wait = if direction == 0 { ready.readable() } else { ready.writable() };
                    match wait.await {
                        // There is room from the beginning.
                        Ok(()) => assert_eq!(direction, 1),
                        Err(error) => assert!(matches!(error, Error::Closed(_)), "{error}"),
                    }
                    Ok(())
                });
            }
            checkpoint().await?;
            ready.notify_closing();
            stream.close().await
        })
        .await?;
        let submitted = stats().submitted;
        let refused = ready.readable().await.unwrap_err();
        assert!(matches!(refused, Error::Closed(_)), "{refused}");
        assert_eq!(stats().submitted, submitted, "the number may be somebody else's by now");
        Ok(())
    });
}

// E11: the scope is left when the kernel has let go.
#[trine::test(kernel = "both", runs = 20)]
fn a_dropped_wait_leaves_nothing_in_the_kernel() {
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        let ready = Readiness::new(stream)?;
        let before = stats().in_kernel;
        let scope = CancelScope::new();
        scope
            .run(async |_| {
                let mut wait = pin!(ready.readable());
                begin(wait.as_mut()).await;
                // It may have been interrupted already.
                assert!(stats().in_kernel <= before + 1);
                Ok(())
            })
            .await?;
        assert_eq!(stats().in_kernel, before);
        ready.into_inner().close().await
    });
}

#[test]
fn dropping_it_with_a_wait_under_way_closes_the_descriptor() {
    run(async || {
        let (ours, mut peer) = UnixStream::pair()?;
        peer.set_nonblocking(true)?;
        {
            let ready = Readiness::new(ours)?;
            let mut wait = Box::pin(ready.readable());
            begin(wait.as_mut()).await;
            drop(wait);
            drop(ready);
        }
        let blocked = peer.read(&mut [0]).unwrap_err();
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock, "the kernel still polls it");
        while peer.read(&mut [0]).is_err() {
            yield_shielded().await;
        }
        Ok(())
    });
}

#[test]
fn an_operation_is_tried_until_it_would_not_block() {
    run(async || {
        let (ours, mut peer) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = Readiness::new(ours)?;
        let mut tried = 0;
        nursery(async |n| {
            n.spawn(async {
                let mut bytes = [0; 8];
                let read = ours.read_with(|mut ours| {
                    tried += 1;
                    ours.read(&mut bytes)
                });
                assert_eq!(read.await?, 5);
                assert_eq!(&bytes[..5], b"hello");
                Ok(())
            });
            in_kernel(1).await?;
            Ok(peer.write_all(b"hello")?)
        })
        .await?;
        assert_eq!(tried, 2);
        assert_eq!(ours.write_with(|mut ours| ours.write(b"back")).await?, 4);
        let failed = ours.read_with(|_| Err::<(), _>(io::ErrorKind::AddrInUse.into())).await;
        assert_eq!(failed.unwrap_err().io_kind(), Some(io::ErrorKind::AddrInUse));
        Ok(())
    });
}

// A2: whoever need not wait lets the others run all the same. A8: the cancel point comes first.
#[test]
fn an_operation_that_never_blocks_spends_the_budget_and_is_not_begun_when_cancelled() {
    run(async || {
        let (ours, _peer) = UnixStream::pair()?;
        let ours = Readiness::new(ours)?;
        let before = stats().turns;
        for _ in 0..=BUDGET {
            ours.write_with(|_| Ok(())).await?;
        }
        assert!(stats().turns > before, "no turn went by");
        let scope = CancelScope::new();
        scope.cancel();
        let begun =
            scope.run(async |_| ours.write_with(|_| -> io::Result<()> { panic!("begun") }).await);
        assert!(begun.await?.is_none());
        Ok(())
    });
}

#[test]
fn what_is_always_ready_and_what_is_not_open() {
    run(async || {
        let file = Readiness::new(std::fs::File::open("/proc/self/stat")?)?;
        file.readable().await?;
        let number = {
            let (gone, _peer) = UnixStream::pair()?;
            gone.as_raw_fd() + 1000 // Nobody has so many here.
        };
        let error = Readiness::new(number)?.readable().await.unwrap_err();
        assert!(
            matches!(&error, Error::Io(io) if io.raw_os_error() == Some(libc::EBADF)),
            "{error}"
        );
        Ok(())
    });
}

// P6.
#[test]
fn it_is_of_its_run_only() {
    let (ours, _peer) = UnixStream::pair().unwrap();
    let refused = Readiness::new(ours.as_raw_fd()).unwrap_err();
    assert!(matches!(refused, Error::NoRun), "{refused}");
    let old = run(async || Readiness::new(ours.as_raw_fd()));
    let mut outside = pin!(old.readable());
    let polled = outside.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.map(|ended| ended.is_err()).is_ready());
    run(async || {
        let refused = old.readable().await.unwrap_err();
        assert!(matches!(refused, Error::RunFinished), "{refused}");
        Ok(())
    });
}
