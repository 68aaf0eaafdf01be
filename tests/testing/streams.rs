//! The streams in memory, and the conformance suite on all streams there are.

use std::time::Duration;

use trine::net::{TcpStream, UnixStream};
use trine::testing::{
    MemoryStream, World, check_half_closeable_stream, check_one_way_stream, check_two_way_stream,
    lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked,
};
use trine::time::{Instant, sleep, sleep_forever};
use trine::{CancelScope, Error, Result, move_on_after, nursery};

use super::common::pair;

type Make = fn() -> std::future::Ready<Result<(MemoryStream, MemoryStream)>>;

// Trio: test_memory_stream_pair, which runs the suites too; they never clog.
#[trine::test(kernel = "both", runs = 3)]
async fn memory_streams_conform() -> Result {
    let make = async || Ok(memory_stream_pair());
    check_one_way_stream(make, None::<Make>).await?;
    check_two_way_stream(make, None::<Make>).await?;
    check_half_closeable_stream(make, None::<Make>).await
}

// Trio: test_lockstep_streams. Every send waits.
#[trine::test(kernel = "both", runs = 3)]
async fn lockstep_streams_conform() -> Result {
    let make = async || Ok(lockstep_stream_pair());
    check_one_way_stream(make, Some(make)).await?;
    check_two_way_stream(make, Some(make)).await?;
    check_half_closeable_stream(make, Some(make)).await
}

#[trine::test(kernel = "both", runs = 20, faults = "lossless")]
async fn connections_conform_in_one_direction() -> Result {
    check_one_way_stream(pair, Some(pair)).await
}

#[trine::test(kernel = "both", runs = 20, faults = "lossless")]
async fn connections_conform_in_both_directions() -> Result {
    check_two_way_stream(pair, Some(pair)).await
}

#[trine::test(kernel = "both", runs = 20, faults = "lossless")]
async fn connections_conform_when_they_are_half_closed() -> Result {
    check_half_closeable_stream(pair, Some(pair)).await
}

async fn unix_pair() -> Result<(UnixStream, UnixStream)> {
    UnixStream::pair()
}

#[trine::test(kernel = "both", runs = 20, faults = "lossless")]
async fn unix_streams_conform() -> Result {
    check_one_way_stream(unix_pair, Some(unix_pair)).await?;
    check_two_way_stream(unix_pair, Some(unix_pair)).await?;
    check_half_closeable_stream(unix_pair, Some(unix_pair)).await
}

// D4: what is interrupted now and then goes on for as long as it makes progress, however slowly.
#[trine::test(runs = 30)]
async fn a_long_transfer_survives_many_interruptions() -> Result {
    let (client, server) = &pair().await?;
    nursery(async |n| {
        n.spawn(async move {
            client.write_all(vec![1; 2000]).await?;
            Ok(())
        });
        assert_eq!(server.read_exact(vec![0; 2000]).await?, vec![1; 2000]);
        Ok(())
    })
    .await
}

// The suite takes streams over a slow network as they are.
#[trine::test(runs = 5)]
async fn connections_with_latency_conform() -> Result {
    World::current().set_latency(Duration::from_millis(80));
    let make = async || -> Result<(TcpStream, TcpStream)> { pair().await };
    check_half_closeable_stream(make, None::<fn() -> std::future::Pending<_>>).await
}

// Trio: test_memory_stream_one_way_pair.
#[trine::test(kernel = "both", runs = 10)]
async fn memory_streams_are_unlimited_and_keep_the_order() -> Result {
    let (left, right) = memory_stream_pair();
    for piece in [&b"abc"[..], b"", b"defgh"] {
        left.send_all(piece).await?;
    }
    assert_eq!(right.receive_some(2).await?, b"ab");
    assert_eq!(right.receive_some(100).await?, b"cdefgh");
    right.send_all(b"back").await?;
    assert_eq!(left.receive_some(4).await?, b"back");
    let waited = move_on_after(Duration::ZERO, async |_| left.receive_some(1).await).await?;
    assert_eq!(waited, None);
    Ok(())
}

// Trio: test_lockstep_one_way_stream.
#[trine::test(runs = 20)]
async fn a_lockstep_send_ends_when_all_of_it_was_received() -> Result {
    let (left, right) = &lockstep_stream_pair();
    let began = Instant::now();
    nursery(async |n| {
        n.spawn(async move {
            left.send_all(b"").await?;
            assert_eq!(began.elapsed(), Duration::ZERO, "nothing has been received at once");
            left.send_all(b"abc").await?;
            assert_eq!(began.elapsed(), Duration::from_secs(2), "the last byte of it");
            Ok(())
        });
        assert_eq!(right.receive_some(1).await?, b"a");
        sleep(Duration::from_secs(1)).await?;
        assert_eq!(right.receive_some(1).await?, b"b");
        sleep(Duration::from_secs(1)).await?;
        assert_eq!(right.receive_some(9).await?, b"c");
        Ok(())
    })
    .await
}

#[trine::test(kernel = "both", runs = 20)]
async fn a_lockstep_send_fails_when_the_receiver_goes_before_it_has_all() -> Result {
    let (left, right) = lockstep_stream_pair();
    nursery(async |n| {
        n.spawn(async {
            let sent = left.send_all(b"abc").await;
            assert!(matches!(sent, Err(Error::Broken(_))), "{sent:?}");
            let sent = left.send_all(b"more").await;
            assert!(matches!(sent, Err(Error::Broken(_))), "{sent:?}");
            Ok(())
        });
        assert_eq!(right.receive_some(2).await?, b"ab");
        right.close().await
    })
    .await
}

// M2: dropping closes; what was sent before can still be received.
#[trine::test(kernel = "both", runs = 20)]
async fn dropping_a_memory_stream_is_seen_at_the_other_end() -> Result {
    let (left, right) = memory_stream_pair();
    left.send_all(b"last").await?;
    drop(left);
    assert_eq!(right.receive_some(9).await?, b"last");
    assert_eq!(right.receive_some(9).await?, b"");
    let sent = right.send_all(b"x").await;
    assert!(matches!(sent, Err(Error::Broken(_))), "{sent:?}");
    Ok(())
}

// F: the half that a cancelled or dropped user had is free again.
#[trine::test(kernel = "both", runs = 20)]
async fn a_half_is_free_after_its_user_was_cancelled() -> Result {
    let (left, right) = &lockstep_stream_pair();
    for _ in 0..3 {
        let scope = CancelScope::new();
        nursery(async |n| {
            n.spawn(async { scope.run(async |_| left.receive_some(1).await).await.map(drop) });
            wait_all_tasks_blocked().await?;
            let busy = left.receive_some(1).await;
            assert!(matches!(busy, Err(Error::Busy(_))), "{busy:?}");
            scope.cancel();
            Ok(())
        })
        .await?;
    }
    nursery(async |n| {
        n.spawn(async { right.send_all(b"x").await });
        assert_eq!(left.receive_some(1).await?, b"x");
        Ok(())
    })
    .await
}

// P4: two who wait for each other in memory are a deadlock like any other.
#[trine::test]
fn a_receiver_to_whom_nobody_sends_is_a_deadlock() {
    let ended = World::tame().run(async || {
        let (left, _right) = memory_stream_pair();
        left.receive_some(1).await.map(drop)
    });
    assert!(matches!(ended, Err(Error::Deadlock(_))), "{ended:?}");
    let ended = World::tame().run(async || {
        let (left, _right) = lockstep_stream_pair();
        nursery(async |n| {
            n.spawn_daemon(async { sleep_forever().await });
            left.send_all(b"x").await
        })
        .await
    });
    assert!(matches!(ended, Err(Error::Deadlock(_))), "{ended:?}");
}

#[trine::test]
async fn a_memory_stream_shows_what_waits_in_it() -> Result {
    let (left, right) = memory_stream_pair();
    left.send_all(b"abc").await?;
    assert_eq!(format!("{right:?}"), "MemoryStream(Unlimited, 3 bytes to receive)");
    Ok(())
}
