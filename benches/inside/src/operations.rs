//! One operation of the kernel that does nothing, and one turn without any.

use std::time::{Duration, Instant};

use io_uring::opcode;
use trine::{checkpoint, nop, nursery};

use crate::hand::Ring;
use crate::runs::{self, timed};

/// Tasks that are at it at the same time.
const TASKS: u64 = 1000;

pub fn nop_by_hand(times: u64) -> Duration {
    nops_by_hand(times, 1)
}

pub fn nop_by_trine(times: u64) -> Duration {
    runs::trine(async || Ok(timed(times, async || nop().await.expect("a NOP")).await))
}

pub fn nops_of_many_by_hand(times: u64) -> Duration {
    nops_by_hand(times, TASKS as u32)
}

fn nops_by_hand(times: u64, batch: u32) -> Duration {
    let mut ring = Ring::open(1024, 2048).expect("a ring");
    let entry = opcode::Nop::new().build();
    let began = Instant::now();
    for _ in 0..times {
        for _ in 0..batch {
            // SAFETY: a NOP points to nothing.
            unsafe { ring.push(&entry) };
        }
        let mut left = batch;
        while left > 0 {
            ring.enter(left);
            for done in ring.io.completion() {
                assert_eq!(done.result(), 0);
                left -= 1;
            }
        }
    }
    began.elapsed()
}

pub fn nops_of_many_by_trine(times: u64) -> Duration {
    runs::trine(async || {
        let began = Instant::now();
        nursery(async |n| {
            for _ in 0..TASKS {
                n.spawn(async {
                    for _ in 0..times {
                        nop().await?;
                    }
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        Ok(began.elapsed())
    })
}

pub fn yield_by_trine(times: u64) -> Duration {
    runs::trine(async || Ok(timed(times, async || checkpoint().await.expect("a checkpoint")).await))
}

pub fn yield_by_tokio(times: u64) -> Duration {
    runs::tokio(timed(times, async || tokio::task::yield_now().await))
}

pub fn yield_by_smol(times: u64) -> Duration {
    runs::smol(async |_| timed(times, async || smol::future::yield_now().await).await)
}
