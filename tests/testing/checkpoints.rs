//! `assert_checkpoints` and `assert_no_checkpoints`, and what trine's own operations are (A2, A3).

use std::future::Future;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use futures::FutureExt;
use trine::net::{TcpListener, TcpStream};
use trine::testing::{
    Sequencer, World, assert_checkpoints, assert_no_checkpoints, lockstep_stream_pair,
    memory_stream_pair, wait_all_tasks_blocked,
};
use trine::time::{Instant, sleep, sleep_until};
use trine::{
    CancelScope, Error, Result, checkpoint, checkpoint_if_cancelled, fail_after, move_on_after,
    nop, nursery, stats, yield_shielded,
};

use super::common::pair;

/// What it panics with.
async fn complaint<T>(body: impl Future<Output = T>) -> Option<String> {
    let panic = AssertUnwindSafe(body).catch_unwind().await.err()?;
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
}

// Trio: test_assert_checkpoints. What is neither, and what is only one half.
#[trine::test(kernel = "both")]
async fn what_is_no_checkpoint_is_found_out() -> Result {
    let nothing = complaint(assert_checkpoints(async { Ok::<_, Error>(()) })).await;
    assert!(nothing.unwrap().contains("no cancel point"));
    let schedules = complaint(assert_checkpoints(async {
        yield_shielded().await;
        Ok::<_, Error>(())
    }));
    assert!(schedules.await.unwrap().contains("no cancel point"));
    let cancels = complaint(assert_checkpoints(checkpoint_if_cancelled())).await;
    assert!(cancels.unwrap().contains("no schedule point"));
    assert_eq!(complaint(assert_checkpoints(checkpoint())).await, None);
    // The two halves may be apart.
    let halves = async {
        yield_shielded().await;
        checkpoint_if_cancelled().await
    };
    assert_eq!(complaint(assert_checkpoints(halves)).await, None);
    Ok(())
}

// Trio: the opposite fails on either half.
#[trine::test(kernel = "both")]
async fn what_is_half_a_checkpoint_is_not_none() -> Result {
    assert_eq!(complaint(assert_no_checkpoints(async { Ok::<_, Error>(1) })).await, None);
    let cancels = complaint(assert_no_checkpoints(checkpoint_if_cancelled())).await;
    assert!(cancels.unwrap().contains("was a cancel point"));
    let schedules = async {
        yield_shielded().await;
        Ok::<_, Error>(())
    };
    let schedules = complaint(assert_no_checkpoints(schedules)).await;
    assert!(schedules.unwrap().contains("was a schedule point"));
    assert!(complaint(assert_no_checkpoints(checkpoint())).await.is_some());
    Ok(())
}

// Trio: only a clean exit is judged.
#[trine::test(kernel = "both")]
async fn what_fails_is_not_judged() -> Result {
    let failed = assert_checkpoints(async { Err::<(), _>(Error::other("mine")) }).await;
    assert!(matches!(failed, Err(Error::Other(_))));
    let scope = CancelScope::new();
    scope.cancel();
    assert!(scope.run(async |_| assert_checkpoints(checkpoint()).await).await?.is_none());
    Ok(())
}

// It counts what the body does, and not what others do meanwhile.
#[trine::test(kernel = "both", runs = 20)]
async fn what_other_tasks_pass_does_not_count() -> Result {
    nursery(async |n| {
        n.spawn(async {
            for _ in 0..10 {
                checkpoint().await?;
                checkpoint_if_cancelled().await?;
            }
            Ok(())
        });
        let body = async {
            yield_shielded().await;
            yield_shielded().await;
            Ok::<_, Error>(())
        };
        let found = complaint(assert_checkpoints(body)).await;
        assert!(found.is_some_and(|text| text.contains("no cancel point")));
        Ok(())
    })
    .await
}

// They may be nested, and the error type is anyone's.
#[trine::test(kernel = "both")]
async fn they_pass_values_and_errors_on() -> Result {
    let value = assert_checkpoints(assert_checkpoints(async {
        checkpoint().await?;
        Ok::<_, Error>(5)
    }));
    assert_eq!(value.await?, 5);
    assert_eq!(assert_no_checkpoints(async { Err::<(), _>("no") }).await, Err("no"));
    Ok(())
}

#[test]
fn outside_of_a_run_they_say_so() {
    let mut outside = pin!(assert_checkpoints(async { Ok::<_, Error>(()) }));
    let mut cx = Context::from_waker(Waker::noop());
    let panic = catch_unwind(AssertUnwindSafe(|| drop(outside.as_mut().poll(&mut cx))));
    let text = *panic.unwrap_err().downcast::<String>().unwrap_or_default();
    assert!(text.is_empty() || text.contains("of a run"), "{text}");
}

// A2: whatever of ours is asynchronous and succeeds was both, also when it need not wait.
#[trine::test(kernel = "both")]
async fn what_is_asynchronous_and_succeeds_is_a_checkpoint() -> Result {
    assert_checkpoints(checkpoint()).await?;
    assert_checkpoints(nop()).await?;
    assert_checkpoints(sleep(Duration::ZERO)).await?;
    assert_checkpoints(sleep_until(Instant::MIN)).await?;
    assert_checkpoints(sleep_until(Instant::now())).await?;
    assert_checkpoints(wait_all_tasks_blocked()).await?;
    assert_checkpoints(Sequencer::new().at(0, async || Ok(()))).await?;
    let listener = assert_checkpoints(TcpListener::bind("127.0.0.1:0")).await?;
    let client = assert_checkpoints(TcpStream::connect_addr(listener.local_addr()?)).await?;
    let (server, _) = assert_checkpoints(listener.accept()).await?;
    assert_checkpoints(client.write(&b"x"[..])).await?;
    assert_checkpoints(client.write_all(&b""[..])).await?;
    assert_checkpoints(client.write_all(vec![1; 100])).await?;
    assert_checkpoints(server.read(vec![0; 1])).await?;
    assert_checkpoints(server.read_exact(vec![0; 5])).await?;
    assert_checkpoints(server.recv()).await?;
    assert_checkpoints(client.shutdown(Shutdown::Write)).await?;
    assert_checkpoints(client.shutdown(Shutdown::Write)).await?;
    while assert_checkpoints(server.recv()).await?.is_some() {}
    assert_checkpoints(server.recv()).await?;
    assert_checkpoints(server.read(vec![0; 1])).await?;
    assert_checkpoints(client.close()).await?;
    assert_checkpoints(server.close()).await?;
    assert_checkpoints(listener.close()).await
}

#[trine::test(kernel = "both", runs = 5)]
async fn streams_in_memory_are_checkpoints_too() -> Result {
    let (left, right) = memory_stream_pair();
    assert_checkpoints(left.send_all(b"")).await?;
    assert_checkpoints(left.send_all(b"abc")).await?;
    assert_checkpoints(right.receive_some(1)).await?;
    assert_checkpoints(left.send_eof()).await?;
    assert_checkpoints(left.send_eof()).await?;
    assert_checkpoints(right.receive_some(9)).await?;
    assert_checkpoints(right.receive_some(9)).await?;
    assert_checkpoints(right.close()).await?;
    let (left, right) = &lockstep_stream_pair();
    assert_checkpoints(left.send_all(b"")).await?;
    nursery(async |n| {
        n.spawn(async move { assert_checkpoints(left.send_all(b"abc")).await });
        assert_checkpoints(right.receive_some(9)).await?;
        Ok(())
    })
    .await
}

// A2: a scope is what its body is; a timeout that does nothing is no checkpoint.
#[trine::test(kernel = "both")]
async fn a_scope_is_what_its_body_is() -> Result {
    let second = Duration::from_secs(1);
    assert_no_checkpoints(move_on_after(second, async |_| Ok(()))).await?;
    assert_no_checkpoints(fail_after(second, async |_| Ok(()))).await?;
    assert_no_checkpoints(CancelScope::new().run(async |_| Ok(()))).await?;
    assert_checkpoints(move_on_after(second, async |_| checkpoint().await)).await?;
    Ok(())
}

// A3: synchronous functions are neither half.
#[trine::test(kernel = "both")]
async fn what_is_synchronous_is_no_checkpoint() -> Result {
    let (client, server) = pair().await?;
    assert_no_checkpoints(async {
        let scope = CancelScope::new();
        scope.set_deadline(Some(Instant::now()));
        scope.set_shield(true);
        scope.cancel();
        let _ = (scope.cancel_called(), scope.current_deadline());
        let _ = (stats(), trine::tree(), Instant::now(), trine::is_cancelled());
        let _ = trine::current_effective_deadline();
        let _ = (client.local_addr()?, client.peer_addr()?, client.nodelay()?);
        client.set_nodelay(true)?;
        drop(memory_stream_pair());
        drop(client);
        drop(server);
        Ok::<_, Error>(())
    })
    .await
}

// Trio: a failure is not judged by `assert_checkpoints`, but it can be asked for: refused at once is
// no checkpoint.
#[trine::test(kernel = "both")]
async fn a_refusal_comes_through_either() -> Result {
    let (client, _server) = pair().await?;
    client.shutdown(Shutdown::Write).await?;
    let refused = assert_checkpoints(client.write_all(&b"x"[..])).await;
    refused.expect_err("it was shut down");
    let refused = assert_checkpoints(client.read(Vec::new())).await;
    refused.expect_err("there is no room");
    let nobody = "127.0.0.1:1".parse().expect("an address");
    assert_checkpoints(TcpStream::connect_addr(nobody)).await.expect_err("nobody is there");
    Ok(())
}

#[trine::test]
fn a_complaint_fails_the_run() {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        World::tame().run(async || assert_checkpoints(async { Ok(()) }).await)
    }));
    assert!(ended.is_err());
}
