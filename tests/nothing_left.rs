//! Nothing left: random trees of scopes, nurseries and socket operations, cancelled or dropped at
//! random, and afterwards no operation in the kernel, no descriptor, no buffer, and no byte is lost.

mod common;

use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::poll;
use trine::net::{TcpListener, TcpStream};
use trine::time::sleep;
use trine::{
    CancelScope, Error, Nursery, Result, checkpoint, move_on_after, nursery, run, shield_for,
    stats, testing,
};

use common::fewer;
use common::random::Random;

/// One connection: `writer` counts upwards, and what `reader` gets has to count upwards too.
struct Pipe {
    writer: TcpStream,
    reader: TcpStream,
    /// Bytes that certainly went out, and that may have besides: those of dropped writes.
    sent: RefCell<(u64, u64)>,
    received: RefCell<Vec<u8>>,
}

/// The `n`-th byte of the stream.
fn byte(n: u64) -> u8 {
    (n % 251) as u8
}

impl Pipe {
    async fn open(listener: &TcpListener) -> Result<Pipe> {
        let writer = TcpStream::connect_addr(listener.local_addr()?).await?;
        let (reader, _) = listener.accept().await?;
        Ok(Pipe { writer, reader, sent: RefCell::default(), received: RefCell::default() })
    }

    async fn send(&self, len: u64) -> Result {
        let from = self.sent.borrow().0;
        let mut doubt = Doubt { pipe: self, len };
        match self.writer.write_all((from..from + len).map(byte).collect::<Vec<_>>()).await {
            Ok(_) => doubt.settle(len),
            Err(failed) => {
                // D2: a cancelled write says exactly how much went out.
                doubt.settle(failed.done as u64);
                return Err(failed.error);
            }
        }
        Ok(())
    }

    async fn receive(&self, random: u64) -> Result {
        let bytes = match random % 3 {
            0 => match self.reader.recv().await? {
                Some(chunk) => chunk.to_vec(),
                None => return Ok(()),
            },
            1 => self.reader.read(Vec::with_capacity(1 + random as usize % 5000)).await?,
            _ => match self.reader.read_exact(Vec::with_capacity(1 + random as usize % 3000)).await
            {
                Ok(bytes) => bytes,
                Err(failed) => {
                    self.received.borrow_mut().extend_from_slice(&failed.buf);
                    return Err(failed.error);
                }
            },
        };
        self.received.borrow_mut().extend_from_slice(&bytes);
        Ok(())
    }

    /// Receives what is left, and checks that every byte that was sent has come once and in order.
    async fn settle(self) -> Result {
        self.writer.shutdown(Shutdown::Write).await?;
        while let Some(chunk) = self.reader.recv().await? {
            self.received.borrow_mut().extend_from_slice(&chunk);
        }
        let received = self.received.into_inner();
        let (least, doubtful) = self.sent.into_inner();
        let count = received.len() as u64;
        assert!(
            least <= count && count <= least + doubtful,
            "{least}+{doubtful} sent, {count} came"
        );
        for (n, got) in received.iter().enumerate() {
            assert_eq!(*got, byte(n as u64), "byte {n} of {count}");
        }
        self.writer.close().await?;
        self.reader.close().await
    }
}

/// A write whose end has not been heard of: if it is dropped, nobody knows how much went out.
struct Doubt<'a> {
    pipe: &'a Pipe,
    len: u64,
}

impl Doubt<'_> {
    fn settle(&mut self, done: u64) {
        self.len = 0;
        self.pipe.sent.borrow_mut().0 += done;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.pipe.sent.borrow_mut().1 += self.len;
    }
}

/// What a tree is made of.
struct World {
    random: RefCell<Random>,
    listener: TcpListener,
    to: SocketAddr,
    pipes: Vec<Pipe>,
}

impl World {
    fn roll(&self, limit: u64) -> u64 {
        self.random.borrow_mut().below(limit as usize) as u64
    }

    /// Some operation, on whatever may be in use by another: then it is `Busy`, which is no failure.
    async fn operation(&self) -> Result {
        let pipe = &self.pipes[self.roll(self.pipes.len() as u64) as usize];
        let size = self.roll(fewer(400_000, 5_000)) + 1;
        let done = match self.roll(7) {
            0 => self.listener.accept().await.map(drop),
            1 => TcpStream::connect_addr(self.to).await.map(drop),
            2 | 3 => pipe.receive(size).await,
            4 => pipe.send(size).await,
            5 => sleep(Duration::from_micros(size % 300)).await,
            _ => shield_for(Duration::from_micros(size % 300), async |_| pipe.receive(size).await)
                .await
                .map(drop),
        };
        match done {
            Err(Error::Busy(_) | Error::Broken(_)) => checkpoint().await,
            done => done,
        }
    }

    /// A random tree: scopes, nurseries and operations inside one another.
    fn tree<'a>(&'a self, depth: u64) -> Pin<Box<dyn Future<Output = Result> + 'a>> {
        Box::pin(async move {
            for _ in 0..self.roll(3) + 1 {
                match self.roll(if depth == 0 { 1 } else { 5 }) {
                    0 | 1 => self.operation().await?,
                    2 => {
                        let patience = Duration::from_micros(self.roll(400));
                        move_on_after(patience, async |_| self.tree(depth - 1).await).await?;
                    }
                    3 => nursery(async |n| self.family(n, depth - 1).await).await?,
                    _ => {
                        let scope = CancelScope::new();
                        scope
                            .run(async |scope| {
                                if self.roll(4) == 0 {
                                    scope.cancel();
                                }
                                self.tree(depth - 1).await
                            })
                            .await?;
                    }
                }
            }
            Ok(())
        })
    }

    async fn family<'a>(&'a self, n: Nursery<'a, '_>, depth: u64) -> Result {
        for _ in 0..self.roll(4) {
            match self.roll(5) {
                0 => n.spawn_daemon(self.tree(depth)),
                _ => n.spawn(self.tree(depth)),
            }
        }
        if self.roll(3) == 0 {
            self.operation().await?;
            n.cancel();
        }
        Ok(())
    }
}

/// Descriptors are counted for the whole process, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn descriptors() -> usize {
    match testing::World::try_current() {
        Some(world) => world.census().descriptors,
        None => fs::read_dir("/proc/self/fd").unwrap().count(),
    }
}

/// One tree, ended by its scope or by being dropped after some polls.
async fn one(seed: u64) -> Result {
    let before = (descriptors(), stats().in_kernel + stats().queued);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let to = listener.local_addr()?;
    let mut pipes = Vec::new();
    for _ in 0..3 {
        pipes.push(Pipe::open(&listener).await?);
    }
    let world = Rc::new(World { random: RefCell::new(Random(seed)), listener, to, pipes });
    let patience = Duration::from_micros(world.roll(1500));
    // Whatever is dropped, the scope around waits until the kernel has let go (rules E11, F12).
    move_on_after(Duration::from_secs(20), async |_| {
        if seed % 2 == 0 {
            move_on_after(patience, async |_| world.tree(4).await).await?;
            return Ok(());
        }
        let mut tree = world.tree(4);
        for _ in 0..world.roll(12) {
            if poll!(tree.as_mut()).is_ready() {
                break;
            }
            sleep(Duration::from_micros(world.roll(120))).await?;
        }
        drop(tree);
        Ok(())
    })
    .await?;
    let World { listener, pipes, .. } = Rc::into_inner(world).expect("the tree is gone");
    for pipe in pipes {
        pipe.settle().await?;
    }
    listener.close().await?;
    let after = (descriptors(), stats().in_kernel + stats().queued);
    assert_eq!(after, before, "descriptors, and operations in the kernel or on their way");
    assert_eq!(stats().pool_leased, 0, "a receive buffer was not given back");
    Ok(())
}

#[trine::test(kernel = "both")]
fn two_hundred_random_trees_leave_nothing_behind() {
    let _alone = alone();
    let trees = fewer(200, 2);
    for seed in 0..trees {
        println!("seed {seed}");
        let ended = common::within(30, || run(async || one(seed).await));
        ended.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

// P1: what is alive or forgotten when the run ends is taken back from the kernel first.
#[trine::test(kernel = "both", leaks = true)]
fn a_run_ends_with_nothing_in_the_kernel_whatever_is_left_alive_or_forgotten() {
    let _alone = alone();
    let count = || run(async || Ok((descriptors(), testing::World::try_current().is_some())));
    let (before, simulated) = count().unwrap();
    let kept = common::within(30, || {
        run(async || {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let client = TcpStream::connect_addr(listener.local_addr()?).await?;
            let (server, _) = listener.accept().await?;
            let mut forgotten = Box::pin(async move { server.recv().await.map(drop) });
            assert!(poll!(forgotten.as_mut()).is_pending());
            std::mem::forget(forgotten);
            let mut kept =
                Box::pin(async move { client.read(Vec::with_capacity(64)).await.map(drop) });
            assert!(poll!(kept.as_mut()).is_pending());
            checkpoint().await?;
            Ok(kept)
        })
    });
    drop(kept.unwrap());
    // The forgotten stream keeps its descriptor, and its run the bell (which has none in a simulated
    // world), for ever: that is what forgetting means.
    let forgotten = if simulated { 1 } else { 2 };
    assert_eq!(count().unwrap().0, before + forgotten);
}
