//! The pool behind a real ring: the kernel picks the buffers. What it owes is checked after every
//! step of random programs: no buffer is in two places, none is lost, and no lease changes.

use std::collections::{HashSet, VecDeque};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Weak;
use std::time::Duration;

use super::*;
use crate::op::{Action, Fd, Home, Pools, Pushed, Shelf, Sole, Storage, Submission, Table};
use crate::random::Random;
use crate::ring::{Ring, RingSize};
use crate::slots::Key;

const LIMITS: PoolLimits = PoolLimits { buffer: 4096, least: 4, most: 32 };
const GROUP: u16 = 7;

/// A ring, a pool, and a connection through which the kernel fills its buffers.
struct Bench {
    ring: Option<Ring>,
    pool: Rc<Pool>,
    table: Table,
    fd: Fd,
    peer: UnixStream,
    /// Leases, each with what it has to hold.
    leases: VecDeque<(Chunk, Vec<u8>)>,
    sent: u64,
}

impl Bench {
    fn new(incremental: bool) -> Bench {
        let size = RingSize { submissions: 8, completions: 64, workers: 1 };
        let mut ring = Ring::open(size).unwrap_or_else(|error| panic!("{error}"));
        let incremental = incremental && ring.capabilities().incremental_buffers;
        let buffers = ring.register_buffers(LIMITS.most, GROUP, incremental).unwrap();
        let pool = Pool::new(Some(buffers), LIMITS);
        let (ours, peer) = UnixStream::pair().unwrap();
        let fd = Fd::new(OwnedFd::from(ours).into(), Weak::<Nowhere>::new() as Weak<dyn Home>);
        let table = Table::new(Pools::new(Rc::clone(&pool)), ring.host());
        Bench { ring: Some(ring), pool, table, fd, peer, leases: VecDeque::new(), sent: 0 }
    }

    /// Has the kernel receive `len` bytes; `false`: it found no buffer, and the bytes wait.
    fn receive(&mut self, len: usize) -> bool {
        self.sent += 1;
        let content: Vec<u8> = (0..len as u64).map(|n| (self.sent * 31 + n) as u8).collect();
        self.peer.write_all(&content).unwrap();
        let chunk = self.receive_once();
        let came = chunk.as_ref().map_or(0, |chunk| chunk.len());
        // So that the next one finds its own. An incremental buffer may have had less room.
        self.drain(len - came);
        if let Some(chunk) = chunk {
            assert_eq!(chunk, content[..came]);
            self.leases.push_back((chunk, content[..came].to_vec()));
        }
        came > 0
    }

    fn submit(&mut self, multishot: bool) -> Key<crate::op::Slot> {
        let receive = Submission::recv_pool(&self.fd, GROUP, multishot);
        self.table.submit(|| receive, Duration::ZERO, |_| 0)
    }

    fn receive_once(&mut self) -> Option<Chunk> {
        let receive = self.submit(false);
        loop {
            self.turn();
            if let Some(answer) = self.table.take_chunk(receive) {
                let no_buffers = answer.result == -libc::ENOBUFS;
                assert_eq!(no_buffers, answer.value.is_none(), "{answer:?}");
                return answer.value;
            }
        }
    }

    fn drain(&mut self, len: usize) {
        if len == 0 {
            return;
        }
        let storage = Storage::to_fill(Vec::with_capacity(len), &Shelf::default());
        let receive = Submission::recv(&self.fd, storage);
        let receive = self.table.submit(|| receive, Duration::ZERO, |_| 0);
        while self.table.take(receive).is_none() {
            self.turn();
        }
    }

    /// Hands over and waits for what comes of it.
    fn turn(&mut self) -> Vec<Action> {
        let Bench { ring, table, .. } = self;
        let ring = ring.as_mut().unwrap();
        let all = table.pump(|pushed| match pushed {
            Pushed::Request(token, request) => ring.push(token, request),
            Pushed::Cancel(token) => ring.push_cancel(token),
        });
        assert!(all, "the queue is large enough");
        ring.turn(Some(Duration::from_secs(10))).unwrap();
        let mut actions = Vec::new();
        ring.drain(|completion| actions.push(table.complete(completion)));
        actions
    }

    fn check(&self, story: &str) {
        for (chunk, content) in &self.leases {
            assert_eq!(chunk, &**content, "{story}: a lease has changed");
        }
        let (provided, leased, spare) = self.pool.census();
        let inner = self.pool.inner.borrow();
        let ids: HashSet<u16> = self.leases.iter().map(|(chunk, _)| id(chunk)).collect();
        let away = ids.iter().filter(|&&id| inner.buffers[usize::from(id)].finished).count();
        assert_eq!(leased, ids.len(), "{story}: leases");
        assert_eq!(provided + away + spare, inner.buffers.len(), "{story}: a buffer is lost");
        assert!(inner.buffers.len() <= LIMITS.most.into(), "{story}: the pool is too large");
        assert_eq!(self.pool.has_buffers(), provided > 0, "{story}");
        // Each byte is in one place.
        assert!(!inner.spare.iter().any(|id| ids.contains(id)), "{story}: a lease is laid aside");
        let buffers = inner.buffers.iter().map(|buffer| (buffer.memory.addr().get(), 4096));
        let leases = self.leases.iter().map(|(chunk, _)| (chunk.as_ptr().addr(), chunk.len()));
        assert!(are_apart(buffers), "{story}: two buffers overlap");
        assert!(are_apart(leases), "{story}: two leases overlap");
    }
}

fn are_apart(pieces: impl Iterator<Item = (usize, usize)>) -> bool {
    let mut pieces: Vec<_> = pieces.collect();
    pieces.sort_unstable();
    pieces.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0)
}

fn id(chunk: &Chunk) -> u16 {
    match chunk.source {
        Source::Pool { id, .. } => id,
        Source::Heap(_) => panic!("not of the pool"),
    }
}

struct Nowhere;

impl Home for Nowhere {
    fn close(&self, fd: Sole) -> Result<(), Sole> {
        Err(fd)
    }
}

#[test]
#[cfg_attr(miri, ignore = "needs a kernel with io_uring")]
fn no_buffer_is_lost_or_lent_twice_and_no_lease_changes_in_random_programs() {
    for seed in 0..20 {
        let (mut bench, mut random) = (Bench::new(seed % 2 == 1), Random(seed));
        // How full it is kept changes, so that it grows and gets many back.
        let mut fullness = 0;
        for step in 0..2000 {
            let story = format!("seed {seed}, step {step}");
            if step % 100 == 0 {
                fullness = random.below(40);
            }
            if random.below(40) < fullness {
                let (before, len) = (bench.pool.has_buffers(), 1 + random.below(4096));
                assert_eq!(bench.receive(len), before, "{story}");
                if !before {
                    // All are away: the kernel had none to go on filling.
                    let (_, away, _) = bench.pool.census();
                    let grown = bench.pool.has_buffers();
                    assert_eq!(grown, away < LIMITS.most.into(), "{story}: it may grow");
                }
            } else if !bench.leases.is_empty() {
                let taken = random.below(bench.leases.len());
                let (mut chunk, mut content) = bench.leases.remove(taken).expect("it is there");
                // Some are cut in two, of which either may go first.
                if random.below(6) == 0 {
                    let at = random.below(chunk.len() + 1);
                    let rest = content.split_off(at);
                    bench.leases.push_back((chunk.split_to(at), content));
                    bench.leases.push_front((chunk, rest));
                }
            }
            bench.check(&story);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "needs a kernel with io_uring")]
fn the_pool_starts_small_doubles_when_it_was_empty_and_shrinks_when_most_of_it_lies_idle() {
    let mut bench = Bench::new(false);
    assert_eq!(bench.pool.census(), (4, 0, 0));
    for most in [8, 16, 32] {
        while bench.receive(1) {}
        assert_eq!(bench.pool.census(), (most / 2, most / 2, 0));
    }
    while bench.receive(1) {}
    assert!(!bench.pool.grow(), "at the limit");
    assert_eq!(bench.pool.census(), (0, 32, 0));
    bench.leases.clear();
    assert_eq!(bench.pool.census(), (32, 0, 0));
    // One at a time for two windows: nothing more is needed in the second.
    for _ in 0..2 * WINDOW + 64 {
        assert!(bench.receive(1));
        bench.leases.clear();
    }
    assert_eq!(bench.pool.census(), (4, 0, 28));
    bench.check("shrunk");
    while bench.receive(1) {}
    assert_eq!(bench.pool.census(), (4, 4, 24), "from what was laid aside");
    bench.check("grown again");
}

// A buffer that is filled piece by piece comes back when the kernel has filled it and all pieces are gone.
#[test]
#[cfg_attr(miri, ignore = "needs a kernel with io_uring")]
fn a_buffer_in_pieces_comes_back_when_it_is_full_and_nobody_has_a_piece() {
    let mut bench = Bench::new(true);
    if !bench.ring.as_ref().unwrap().capabilities().incremental_buffers {
        return; // An old kernel fills each buffer once.
    }
    for _ in 0..3 {
        assert!(bench.receive(1000));
    }
    assert_eq!(bench.pool.census(), (4, 1, 0), "all in one, which is not full");
    bench.leases.drain(..2);
    assert_eq!(bench.pool.census(), (4, 1, 0));
    assert!(bench.receive(1096), "exactly the rest");
    assert_eq!(bench.pool.census(), (3, 1, 0));
    assert!(bench.receive(1), "the next one is begun");
    assert_eq!(bench.pool.census(), (3, 2, 0));
    bench.leases.drain(..2);
    assert_eq!(bench.pool.census(), (4, 1, 0), "the first one is back");
    // One that nobody has a piece of any more, but that is not full, is gone on with.
    bench.leases.clear();
    assert_eq!(bench.pool.census(), (4, 0, 0));
    assert!(bench.receive(4095) && bench.leases[0].0.len() == 4095);
    bench.leases.clear();
    assert_eq!(bench.pool.census(), (4, 0, 0));
    bench.check("in pieces");
}

#[test]
#[cfg_attr(miri, ignore = "needs a kernel with io_uring")]
fn what_a_multishot_brought_for_nobody_goes_back_to_the_pool() {
    let mut bench = Bench::new(false);
    let receive = bench.submit(true);
    for byte in 0..3 {
        bench.peer.write_all(&[byte]).unwrap();
        bench.turn();
    }
    let (provided, leased, _) = bench.pool.census();
    assert_eq!((provided + leased, leased), (4, 3));
    let first = bench.table.take_chunk(receive).unwrap();
    assert!(matches!(bench.table.orphan(receive), Action::Nothing));
    assert_eq!(bench.pool.census(), (3, 1, 0), "all but the one that was taken");
    assert_eq!(first.value.as_ref().unwrap(), &[0]);
    // One more comes before the cancel request is there.
    bench.peer.write_all(b"late").unwrap();
    let is_freed = |action: &Action| matches!(action, Action::Freed { .. });
    while !bench.turn().iter().any(is_freed) {}
    assert_eq!((bench.pool.census(), bench.table.in_kernel()), ((3, 1, 0), 0));
    drop(first);
    assert_eq!(bench.pool.census(), (4, 0, 0));
}

#[test]
#[cfg_attr(miri, ignore = "needs a kernel with io_uring")]
fn a_lease_outlives_the_ring_and_everybody_else_who_has_the_pool() {
    let mut bench = Bench::new(false);
    assert!(bench.receive(4096));
    let Bench { ring, pool, table, mut leases, .. } = bench;
    ring.unwrap().close();
    pool.close();
    drop((table, pool));
    let (mut chunk, content) = leases.pop_front().unwrap();
    assert_eq!(chunk, *content);
    chunk[0] = !content[0];
    assert_eq!(chunk[1..], content[1..]);
}

/// Chunks can be forgotten, so nothing else keeps their number from coming round.
#[test]
#[cfg_attr(miri, ignore = "needs a kernel with io_uring")]
fn a_buffer_is_not_lent_so_often_that_its_count_comes_round() {
    let mut bench = Bench::new(false);
    assert!(bench.receive(4096));
    let (mut chunk, _) = bench.leases.pop_front().unwrap();
    let id = usize::from(id(&chunk));
    let set = |leases| bench.pool.inner.borrow_mut().buffers[id].leases = leases;
    set(u32::MAX / 2 - 1);
    std::mem::forget(chunk.split_to(1));
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| chunk.split_to(1)));
    let refused = again.expect_err("one more than can be counted");
    assert_eq!(refused.downcast_ref::<&str>(), Some(&"too many chunks of one buffer"));
    set(1);
    drop(chunk);
    assert_eq!(bench.pool.census(), (4, 0, 0));
}

#[test]
fn without_a_buffer_ring_the_pool_is_always_empty() {
    let pool = Pool::new(None, LIMITS);
    assert!(!pool.has_buffers() && !pool.grow());
    assert_eq!(pool.census(), (0, 0, 0));
}

#[test]
fn a_chunk_is_cut_as_its_bytes_are() {
    for seed in 0..if cfg!(miri) { 3 } else { 100 } {
        let mut random = Random(seed);
        let mut twin: Vec<u8> = (0..random.below(50) as u8).collect();
        let mut chunk = Chunk::from_vec(twin.clone());
        for _ in 0..20 {
            let count = random.below(twin.len() + 1);
            match random.below(3) {
                0 => {
                    chunk.advance(count);
                    twin.drain(..count);
                }
                1 => {
                    // More than there is changes nothing.
                    let len = [count, count + twin.len(), usize::MAX][random.below(3)];
                    chunk.truncate(len);
                    twin.truncate(len);
                }
                _ => {
                    chunk.iter_mut().chain(&mut twin).for_each(|byte| *byte = byte.wrapping_mul(3));
                }
            }
            assert_eq!(chunk, *twin, "seed {seed}");
            assert_eq!(chunk.as_ref(), &*twin, "seed {seed}");
        }
    }
}

#[test]
#[should_panic(expected = "cannot advance by 3: 2 bytes are left")]
fn a_chunk_is_not_advanced_beyond_its_end() {
    Chunk::from_vec(vec![1, 2]).advance(3);
}
