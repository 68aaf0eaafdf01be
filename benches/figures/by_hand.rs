//! The ring used by hand: the limit.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

use io_uring::{opcode, squeue, types};

use super::crowd::{self, Crowd};
use super::scale::Scale;
use crate::hand::Ring;

pub fn nop(scale: Scale) -> f64 {
    let mut ring = Ring::open(8, 16).expect("a ring");
    let entry = opcode::Nop::new().build();
    let mut go = |count: usize| {
        let began = Instant::now();
        for _ in 0..count {
            // SAFETY: a NOP points to nothing.
            unsafe { ring.push(&entry) };
            ring.enter(1);
            let done = ring.io.completion().next().expect("a completion");
            assert_eq!(done.result(), 0);
        }
        began.elapsed().as_nanos() as f64 / count as f64
    };
    go(scale.of(20_000));
    go(scale.of(200_000))
}

pub fn cancel(scale: Scale) -> f64 {
    sweep(scale, false)
}

pub fn cancel_close(scale: Scale) -> f64 {
    sweep(scale, true)
}

/// One cancel by user_data for each receive, silent where it succeeds, a queue full at a time; each
/// system call waits for as many receives to end as it cancels, for the kernel runs no more of its
/// deferred work at a time than is waited for. (A queue of 16 to 16,384 entries, or waiting only at
/// the end, is at most as fast.)
fn sweep(scale: Scale, close: bool) -> f64 {
    let count = crowd::size(scale);
    let (_crowd, streams) = accept(count);
    let mut streams: Vec<_> = streams.into_iter().map(Some).collect();
    let mut ring = Ring::open(QUEUE as u32, 16_384).expect("a ring");
    let mut byte = 0_u8;
    for (at, stream) in streams.iter().flatten().enumerate() {
        let fd = types::Fd(stream.as_raw_fd());
        let entry = opcode::Recv::new(fd, &raw mut byte, 1).build().user_data(at as u64);
        // SAFETY: `byte` outlives the receives, which all end below. Nobody sends anything.
        unsafe { ring.push(&entry) };
    }
    ring.enter(0);

    let began = Instant::now();
    let mut left = count;
    let mut cancelled = 0;
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
            if close {
                streams[done.user_data() as usize] = None;
            }
            left -= 1;
        }
    }
    began.elapsed().as_nanos() as f64 / count as f64
}

const QUEUE: usize = 256;
const CANCEL: u64 = u64::MAX;

/// As many connections, and who holds their other ends.
pub fn accept(count: usize) -> (Crowd, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let crowd = Crowd::gather(listener.local_addr().expect("its address"), count);
    let accepted = (0..count).map(|_| listener.accept().expect("a connection").0);
    let streams = accepted.collect();
    (crowd, streams)
}
