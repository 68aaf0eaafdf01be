//! The sizes of a run, sensible and absurd: work waits, nothing fails, and what cannot be had is said.

use futures::stream::{FuturesUnordered, StreamExt};
use trine::net::TcpListener;
use trine::time::sleep_forever;
use trine::{Builder, Error, Result, move_on_after, nop, nursery, stats};

use super::common::fewer;
use super::{HERE, LONG, Peer, in_kernel, outcome, run_with};

/// Something of everything: many operations at once, cancellations, received bytes.
async fn work() -> Result {
    const NOPS: u64 = fewer(1_000, 10);
    const STREAMS: usize = fewer(20, 2);
    const LEN: usize = fewer(5_000, 50);
    let before = stats().submitted;
    nursery(async |n| {
        for _ in 0..NOPS {
            n.spawn(nop());
        }
        Ok(())
    })
    .await?;
    assert_eq!(stats().submitted, before + NOPS);
    let listener = &TcpListener::bind(HERE).await?;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(Peer::pair().await?);
    }
    let left = move_on_after(LONG, async |scope| {
        nursery(async |n| {
            n.spawn(async { listener.accept().await.map(drop) });
            for (stream, _) in &streams {
                n.spawn(async { stream.recv().await.map(drop) });
            }
            n.spawn(sleep_forever());
            in_kernel(STREAMS + 1).await?;
            scope.cancel();
            Ok(())
        })
        .await
    });
    assert!(left.await?.is_none());
    assert_eq!(stats().in_kernel, 0);
    for (_, peer) in &streams {
        peer.write_all(&[7].repeat(LEN)).await?;
    }
    let received = streams.iter().map(async |(stream, _)| {
        let mut received = 0;
        while received < LEN {
            received += stream.recv().await?.expect("not yet at its end").len();
        }
        Ok::<_, Error>(received)
    });
    let received: Vec<_> = received.collect::<FuturesUnordered<_>>().collect().await;
    assert!(received.into_iter().all(|received| received.is_ok_and(|bytes| bytes == LEN)));
    Ok(())
}

#[trine::test(kernel = "both")]
fn a_run_works_with_the_smallest_queues() {
    for &entries in fewer(&[0, 1, 2, 3, 7][..], &[3]) {
        run_with(Builder::new().submissions(entries), work);
        run_with(Builder::new().completions(entries), work);
        run_with(Builder::new().submissions(entries).completions(entries), work);
    }
}

#[trine::test(kernel = "both")]
fn a_run_works_with_queues_as_large_as_one_can_ask_for() {
    run_with(Builder::new().submissions(u32::MAX), work);
    run_with(Builder::new().completions(u32::MAX), work);
    run_with(Builder::new().submissions(u32::MAX).completions(u32::MAX), work);
}

// However the two sizes stand to each other.
#[trine::test(kernel = "both")]
fn a_run_works_with_more_submissions_than_completions() {
    let sizes = [(256, 2), (256, 255), (32_768, 8_192), (1, 65_536)];
    for (submissions, completions) in sizes.into_iter().step_by(fewer(1, 3)) {
        run_with(Builder::new().submissions(submissions).completions(completions), work);
    }
}

#[trine::test(kernel = "both")]
fn a_run_works_with_the_smallest_pools() {
    for &size in fewer(&[0, 1, 2, 3][..], &[0]) {
        run_with(Builder::new().pool_least(size), work);
        run_with(Builder::new().pool_most(size), work);
        run_with(Builder::new().pool_buffer(size.into()), work);
        let all = Builder::new().pool_least(size).pool_most(size).pool_buffer(size.into());
        run_with(all.submissions(1).completions(1), work);
    }
}

#[trine::test(kernel = "both")]
#[cfg_attr(miri, ignore = "buffers by the thousand")]
fn a_run_works_with_as_many_buffers_as_one_can_ask_for() {
    run_with(Builder::new().pool_least(u16::MAX).pool_buffer(1), async || {
        assert_eq!(stats().pool_free, 1 << 15);
        work().await
    });
    run_with(Builder::new().pool_most(u16::MAX), work);
}

// The most wins over the least; both are powers of two.
#[trine::test(kernel = "both")]
fn the_sizes_of_the_pool_are_rounded_up_and_agree() {
    for (least, most, free) in [(5, 64, 8), (8, 8, 8), (100, 1, 128), (0, 0, 1)] {
        run_with(Builder::new().pool_least(least).pool_most(most), async || {
            assert_eq!((stats().pool_free, stats().pool_leased), (free, 0), "{least} to {most}");
            Ok(())
        });
    }
}

// More memory than there can be is an error that says so, and no abort.
#[trine::test(kernel = "both")]
#[cfg_attr(miri, ignore = "Miri itself has no memory for it")]
fn a_pool_for_which_there_is_no_memory_is_refused_with_a_remedy() {
    let greedy = Builder::new().pool_buffer(u32::MAX).pool_least(u16::MAX);
    match outcome(greedy, async || nop().await) {
        Err(Error::Unavailable(why)) => {
            assert!(why.cause().contains("no memory for 32768 receive buffers"), "{why}");
            assert!(why.remedy().contains("Builder::pool_least"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    outcome(Builder::new(), async || nop().await).unwrap();
}

// One buffer may be large where there is memory for the least number of them.
#[trine::test(kernel = "both")]
fn a_pool_of_large_buffers_costs_only_what_is_used() {
    let large = Builder::new().pool_buffer(64 << 20).pool_least(1).pool_most(2);
    run_with(large, async || {
        let (stream, peer) = Peer::pair().await?;
        peer.write_all(b"little").await?;
        assert_eq!(stream.recv().await?.expect("bytes")[..], *b"little");
        Ok(())
    });
}

// A pool that cannot grow any more falls back to memory of the receive's own.
#[test]
fn a_pool_that_finds_no_memory_to_grow_does_not_fail_a_receive() {
    // Of address space. What is not written to costs nothing, but the kernel gives no piece that is
    // larger than all its memory.
    const GIBIBYTE: u32 = 1 << 30;
    let builder = Builder::new().pool_buffer(GIBIBYTE).pool_least(1).pool_most(u16::MAX);
    run_with(builder, async || {
        let mut chunks = Vec::new();
        for _ in 0..40 {
            let (stream, peer) = Peer::pair().await?;
            peer.write_all(b"x").await?;
            chunks.push(stream.recv().await?.expect("bytes"));
        }
        assert!(stats().pool_leased >= 1);
        assert!(chunks.iter().all(|chunk| chunk[..] == *b"x"));
        Ok(())
    });
}

#[test]
fn a_builder_shows_what_it_was_told() {
    let builder = Builder::new().submissions(64).completions(0).pool_least(3).ctrl_c(true);
    let text = format!("{builder:?}");
    for part in ["submissions: 64", "completions: 2", "least: Some(4)", "ctrl_c: true"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let default = format!("{:?}", Builder::default());
    for part in ["submissions: 256", "completions: 8192", "incremental: true", "least: None"] {
        assert!(default.contains(part), "{part} in {default}");
    }
    assert!(default.contains("ctrl_c: false"));
}
