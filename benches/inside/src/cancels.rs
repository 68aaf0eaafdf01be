//! Receives that are pending on TCP streams, until all of them have unwound.

use std::cell::Cell;
use std::net::TcpListener as Listener;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use io_uring::{opcode, squeue, types};
use tokio::task::{JoinSet, yield_now};
use trine::net::{TcpListener, TcpStream};
use trine::{Nursery, Result, checkpoint, nursery, stats};

use crate::crowd::Crowd;
use crate::hand::Ring;
use crate::runs;

/// As many connections as asked for, and who holds their other ends.
fn accept(count: usize) -> (Crowd, Vec<std::net::TcpStream>) {
    let listener = Listener::bind("127.0.0.1:0").expect("a listener");
    let crowd = Crowd::gather(listener.local_addr().expect("its address"), count);
    let accepted = (0..count).map(|_| listener.accept().expect("a connection").0);
    let streams = accepted.collect();
    (crowd, streams)
}

/// The same through the ring of the run.
async fn accept_in_run(count: usize) -> Result<(Crowd, Vec<Rc<TcpStream>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let crowd = Crowd::gather(listener.local_addr()?, count);
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        streams.push(Rc::new(listener.accept().await?.0));
    }
    Ok((crowd, streams))
}

/// Waits until the kernel has this many operations.
async fn in_kernel(count: usize) -> Result {
    while stats().in_kernel < count {
        checkpoint().await?;
    }
    Ok(())
}

/// One cancel by user_data for each receive, silent where it succeeds, a queue full at a time; each
/// system call waits for as many receives to end as it cancels, for the kernel runs no more of its
/// deferred work at a time than is waited for. (A queue of 16 to 16,384 entries, or waiting only at
/// the end, is at most as fast.)
pub fn by_hand<const COUNT: usize>(times: u64) -> Duration {
    let (_crowd, streams) = accept(COUNT);
    let mut ring = Ring::open(QUEUE as u32, 16_384).expect("a ring");
    (0..times)
        .map(|_| sweep(&mut ring, streams.iter().map(|stream| stream.as_raw_fd()), |_| {}))
        .sum()
}

/// Each stream is closed as its receive ends.
pub fn and_close_by_hand<const COUNT: usize>(times: u64) -> Duration {
    let once = |_| {
        let (_crowd, streams) = accept(COUNT);
        let mut ring = Ring::open(QUEUE as u32, 16_384).expect("a ring");
        let fds: Vec<_> = streams.iter().map(|stream| stream.as_raw_fd()).collect();
        let mut streams: Vec<_> = streams.into_iter().map(Some).collect();
        sweep(&mut ring, fds.into_iter(), |ended| streams[ended] = None)
    };
    (0..times).map(once).sum()
}

fn sweep(
    ring: &mut Ring,
    fds: impl Iterator<Item = i32>,
    mut ended: impl FnMut(usize),
) -> Duration {
    let mut byte = 0_u8;
    let mut count = 0;
    for fd in fds {
        let entry = opcode::Recv::new(types::Fd(fd), &raw mut byte, 1).build();
        // SAFETY: `byte` outlives the receives, which all end below. Nobody sends anything.
        unsafe { ring.push(&entry.user_data(count as u64)) };
        count += 1;
    }
    ring.enter(0);
    let began = Instant::now();
    let (mut left, mut cancelled) = (count, 0);
    while left > 0 {
        let batch = QUEUE.min(count - cancelled);
        for at in cancelled..cancelled + batch {
            let entry = opcode::AsyncCancel::new(at as u64).build().user_data(CANCEL);
            // SAFETY: a cancel points to nothing.
            unsafe { ring.push(&entry.flags(squeue::Flags::SKIP_SUCCESS)) };
        }
        cancelled += batch;
        ring.enter(if cancelled < count { batch } else { left } as u32);
        for done in ring.io.completion() {
            assert_eq!((done.result(), done.user_data() != CANCEL), (-libc::ECANCELED, true));
            ended(done.user_data() as usize);
            left -= 1;
        }
    }
    began.elapsed()
}

const QUEUE: usize = 256;
const CANCEL: u64 = u64::MAX;

/// The receives are children of one nursery, or of `DEPTH` within one another.
pub fn by_trine<const COUNT: usize, const DEPTH: usize>(times: u64) -> Duration {
    runs::trine(async || {
        let (_crowd, streams) = accept_in_run(COUNT).await?;
        let mut took = Duration::ZERO;
        for _ in 0..times {
            let began = Cell::new(Instant::now());
            let swept = nursery(async |n| {
                n.spawn(below(&streams, COUNT / DEPTH));
                in_kernel(COUNT).await?;
                began.set(Instant::now());
                n.cancel();
                Ok(())
            });
            unless_cancelled(swept.await)?;
            took += began.get().elapsed();
        }
        Ok(took)
    })
}

/// Some receives here, the others further down.
fn below(
    streams: &[Rc<TcpStream>],
    here: usize,
) -> std::pin::Pin<Box<dyn Future<Output = Result> + '_>> {
    Box::pin(nursery(async move |n| {
        receive(n, &streams[..here.min(streams.len())]);
        match streams.get(here..) {
            Some(rest) if !rest.is_empty() => below(rest, here).await,
            _ => Ok(()),
        }
    }))
}

fn receive(n: Nursery<'_, '_, ()>, streams: &[Rc<TcpStream>]) {
    for stream in streams {
        let stream = Rc::clone(stream);
        n.spawn(async move { stream.recv().await.map(drop) });
    }
}

fn unless_cancelled(ended: Result) -> Result {
    ended.or_else(|error| if error.is_cancelled() { Ok(()) } else { Err(error) })
}

/// Each stream is its child's alone, and closed with it.
pub fn and_close_by_trine<const COUNT: usize>(times: u64) -> Duration {
    let once = || {
        runs::trine(async || {
            let (_crowd, mut streams) = accept_in_run(COUNT).await?;
            let began = Cell::new(Instant::now());
            let swept = nursery(async |n| {
                receive(n, &streams);
                in_kernel(COUNT).await?;
                streams.clear();
                began.set(Instant::now());
                n.cancel();
                Ok(())
            });
            unless_cancelled(swept.await)?;
            Ok(began.get().elapsed())
        })
    };
    (0..times).map(|_| once()).sum()
}

/// The futures of the receives are dropped, and the scope around waits for the kernel.
pub fn drop_by_trine<const COUNT: usize>(times: u64) -> Duration {
    runs::trine(async || {
        let (_crowd, streams) = accept_in_run(COUNT).await?;
        let mut took = Duration::ZERO;
        for _ in 0..times {
            let began = Cell::new(Instant::now());
            nursery(async |_| {
                let mut receives: Vec<_> =
                    streams.iter().map(|stream| Box::pin(stream.read(vec![0; 64]))).collect();
                std::future::poll_fn(|cx| {
                    let pending = receives.iter_mut().all(|one| one.as_mut().poll(cx).is_pending());
                    assert!(pending, "nobody sends anything");
                    std::task::Poll::Ready(())
                })
                .await;
                in_kernel(COUNT).await?;
                began.set(Instant::now());
                Ok(())
            })
            .await?;
            took += began.get().elapsed();
        }
        Ok(took)
    })
}

/// A run ends while each of its connections has a receive pending: until `run` returns.
pub fn shutdown_of_trine<const COUNT: usize>(times: u64) -> Duration {
    let once = || {
        let began = Cell::new(Instant::now());
        let crowd = runs::trine(async || {
            let (crowd, mut streams) = accept_in_run(COUNT).await?;
            let ended = nursery(async |n| {
                receive(n, &streams);
                in_kernel(COUNT).await?;
                streams.clear();
                began.set(Instant::now());
                Err::<(), _>(std::io::Error::other("that is enough").into())
            });
            assert!(ended.await.is_err());
            Ok(crowd)
        });
        let took = began.get().elapsed();
        drop(crowd);
        took
    };
    (0..times).map(|_| once()).sum()
}

pub fn by_tokio<const COUNT: usize>(times: u64) -> Duration {
    let (_crowd, streams) = accept(COUNT);
    runs::tokio(async move {
        let streams: Vec<_> = streams.into_iter().map(adopt).collect();
        let mut took = Duration::ZERO;
        for _ in 0..times {
            took += abort(waiting(&streams).await).await;
        }
        took
    })
}

pub fn and_close_by_tokio<const COUNT: usize>(times: u64) -> Duration {
    let once = || {
        let (_crowd, streams) = accept(COUNT);
        runs::tokio(async move {
            let streams: Vec<_> = streams.into_iter().map(adopt).collect();
            let set = waiting(&streams).await;
            drop(streams);
            abort(set).await
        })
    };
    (0..times).map(|_| once()).sum()
}

/// As a tokio server ends: the runtime is dropped with all its tasks.
pub fn shutdown_of_tokio<const COUNT: usize>(times: u64) -> Duration {
    let once = || {
        let (crowd, streams) = accept(COUNT);
        let began = runs::tokio(async move {
            let streams: Vec<_> = streams.into_iter().map(adopt).collect();
            let set = waiting(&streams).await;
            drop(streams);
            let began = Instant::now();
            drop(set);
            began
        });
        let took = began.elapsed();
        drop(crowd);
        took
    };
    (0..times).map(|_| once()).sum()
}

type Stream = Rc<tokio::net::TcpStream>;

fn adopt(stream: std::net::TcpStream) -> Stream {
    stream.set_nonblocking(true).expect("a socket that does not block");
    Rc::new(tokio::net::TcpStream::from_std(stream).expect("a stream"))
}

/// Tasks that all wait for their socket.
async fn waiting(streams: &[Stream]) -> JoinSet<()> {
    let waiting = Rc::new(Cell::new(0));
    let mut set = JoinSet::new();
    for stream in streams {
        let (stream, waiting) = (Rc::clone(stream), Rc::clone(&waiting));
        set.spawn_local(async move {
            waiting.set(waiting.get() + 1);
            let _ = stream.readable().await;
        });
    }
    while waiting.get() < streams.len() {
        yield_now().await;
    }
    yield_now().await;
    set
}

async fn abort(mut set: JoinSet<()>) -> Duration {
    let began = Instant::now();
    set.abort_all();
    while set.join_next().await.is_some() {}
    began.elapsed()
}
