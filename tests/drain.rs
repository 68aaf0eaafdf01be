//! `CancelScope::drain` and `idle`: what is in hand comes to its end, what is idle ends at once.

mod common;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use trine::net::{TcpListener, TcpStream};
use trine::sync::Event;
use trine::time::{Instant, sleep, sleep_forever};
use trine::{
    CancelScope, Error, Reason, Result, checkpoint, idle, is_draining, nursery, shield, tree,
    yield_shielded,
};

use common::{Peer, fewer};

const MS: Duration = Duration::from_millis(1);
const GRACE: Duration = Duration::from_secs(10);

#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    common::within(20, || trine::run(main)).unwrap_or_else(|error| panic!("{error}"))
}

/// Answers requests of one byte, each of which takes a while.
async fn serve(listener: &TcpListener, answered: &Cell<usize>) -> Result {
    nursery(async |n| {
        while let Some((stream, _peer)) = idle(listener.accept()).await? {
            n.spawn(async move {
                while let Some(Some(request)) = idle(stream.recv()).await? {
                    sleep(5 * MS).await?;
                    stream.write_all(request).await?;
                    answered.set(answered.get() + 1);
                }
                stream.close().await
            });
        }
        Ok(())
    })
    .await
}

#[trine::test(kernel = "both")]
fn what_is_in_hand_is_finished_and_what_is_idle_ends() {
    const CLIENTS: usize = fewer(20, 4);
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (scope, answered) = (CancelScope::new(), Cell::new(0));
        let address = listener.local_addr()?;
        nursery(async |n| {
            n.spawn(async {
                let outcome = scope.run(async |_| serve(&listener, &answered).await).await?;
                assert!(outcome.is_some(), "it came to its end by itself");
                Ok(())
            });
            let mut clients = Vec::new();
            for _ in 0..CLIENTS {
                clients.push(TcpStream::connect_addr(address).await?);
            }
            // Half of them have a request under way, the others are silent.
            for client in &clients[..CLIENTS / 2] {
                client.write_all("?").await?;
            }
            sleep(2 * MS).await?;
            scope.drain(GRACE);
            for (number, client) in clients.iter().enumerate() {
                let answer = client.recv().await?;
                assert_eq!(answer.is_some(), number < CLIENTS / 2, "client {number}");
                if answer.is_some() {
                    assert!(client.recv().await?.is_none(), "no further request is taken");
                }
            }
            Ok(())
        })
        .await?;
        assert_eq!(answered.get(), CLIENTS / 2);
        Ok(())
    });
}

#[trine::test(kernel = "sim")]
async fn after_the_grace_the_rest_is_cancelled() -> Result {
    let (scope, began) = (CancelScope::new(), Instant::now());
    let outcome = scope.run(async |scope| {
        scope.drain(GRACE);
        assert!(scope.drain_called());
        assert!(idle(sleep_forever()).await?.is_none());
        assert_eq!(began.elapsed(), Duration::ZERO);
        sleep_forever().await
    });
    assert!(outcome.await?.is_none());
    assert_eq!(began.elapsed(), GRACE);
    assert!(matches!(scope.cancel_called(), Some(Reason::Deadline { .. })));
    Ok(())
}

// Of several the earliest end holds, and a deadline that is earlier than all stays.
#[trine::test(kernel = "sim")]
async fn drains_within_one_another_share_the_earliest_end() -> Result {
    for (outer, inner, deadline, end) in
        [(10, 20, 100, 10), (20, 10, 100, 10), (20, 10, 5, 5), (20, 20, 100, 20)]
    {
        let began = Instant::now();
        let around = CancelScope::new();
        let outcome = around.run(async |around| {
            let inside = CancelScope::new().timeout(deadline * MS);
            let ended = inside
                .run(async |inside| {
                    around.drain(outer * MS);
                    inside.drain(inner * MS);
                    // Later ones put nothing off.
                    inside.drain(GRACE);
                    around.drain(GRACE);
                    sleep_forever().await
                })
                .await?;
            assert!(ended.is_none());
            Ok(())
        });
        outcome.await?;
        assert_eq!(began.elapsed(), end * MS, "{outer} {inner} {deadline}");
    }
    Ok(())
}

#[trine::test(kernel = "both")]
fn what_becomes_idle_later_ends_at_once_and_takes_nothing() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        peer.write_all(b"abc").await?;
        sleep(MS).await?;
        let scope = CancelScope::new();
        let outcome = scope.run(async |scope| {
            scope.drain(GRACE);
            for _ in 0..3 {
                assert!(idle(stream.recv()).await?.is_none());
            }
            // What is in hand is not hindered.
            checkpoint().await?;
            sleep(MS).await
        });
        assert!(outcome.await?.is_some());
        assert_eq!(stream.recv().await?.expect("bytes"), *b"abc");
        Ok(())
    });
}

// What would be ready at once again and again, from a buffer of its own, say, is not even polled.
#[trine::test(kernel = "both")]
fn what_is_ready_is_not_begun_where_everything_idle_is_ended() {
    run(async || {
        let polled = Cell::new(0);
        let ready = async || {
            polled.set(polled.get() + 1);
            Ok(())
        };
        let scope = CancelScope::new();
        let body = scope.run(async |scope| {
            assert!(!is_draining());
            while idle(ready()).await?.is_some() {
                assert!(polled.get() < 4, "it goes on and on");
                if polled.get() == 3 {
                    scope.drain(GRACE);
                }
            }
            assert!(is_draining());
            // It is no cancellation: what is in hand goes on.
            checkpoint().await?;
            // Behind a shield the drain is not there.
            shield(async { assert!(!is_draining()) }).await;
            Ok(idle(ready()).await?.is_some())
        });
        assert_eq!(body.await?, Some(false));
        assert_eq!(polled.get(), 3);
        assert!(!is_draining());
        Ok(())
    });
    assert!(!is_draining());
}

#[trine::test(kernel = "both")]
fn a_scope_can_be_drained_before_it_is_entered() {
    run(async || {
        let scope = CancelScope::new();
        scope.drain(GRACE);
        let outcome = scope.run(async |_| idle(sleep_forever()).await).await?;
        assert!(outcome.expect("not cancelled").is_none());
        assert!(scope.cancel_called().is_none());
        Ok(())
    });
}

// G1, G2: a shield hides it, and taking the shield away lets it through.
#[trine::test(kernel = "both")]
fn a_shield_hides_a_drain_until_it_is_taken_away() {
    run(async || {
        let scope = CancelScope::new();
        scope
            .run(async |scope| {
                scope.drain(GRACE);
                assert_eq!(shield(async { idle(async { Ok(1) }).await }).await?, Some(1));
                let inner = CancelScope::new().shield(true);
                let mut waiting = pin!(inner.run(async |_| idle(sleep_forever()).await));
                for _ in 0..3 {
                    assert!(poll!(waiting.as_mut()).is_pending());
                    yield_shielded().await;
                }
                // Nor does a later one get through, which finds it waiting.
                scope.drain(GRACE);
                for _ in 0..3 {
                    assert!(poll!(waiting.as_mut()).is_pending());
                    yield_shielded().await;
                }
                inner.set_shield(false);
                assert!(waiting.await?.expect("not cancelled").is_none());
                Ok(())
            })
            .await?
            .expect("not cancelled");
        Ok(())
    });
}

// E1, E2: a real error and a cancellation from outside pass through; only the drain is absorbed.
#[trine::test(kernel = "both")]
fn errors_and_cancellations_from_outside_go_through() {
    run(async || {
        let failed = idle(async { Err::<(), _>(Error::other("broken")) }).await.unwrap_err();
        assert_eq!(failed.to_string(), "broken");
        assert_eq!(idle(async { Ok(7) }).await?, Some(7));
        let scope = CancelScope::new();
        scope.cancel();
        let outcome = scope.run(async |_| {
            let ended = idle(sleep_forever()).await;
            assert!(ended.as_ref().is_err_and(Error::is_cancelled), "{ended:?}");
            ended.map(drop)
        });
        assert!(outcome.await?.is_none());
        // Within one another: the outer one is told, the inner one is over.
        let scope = CancelScope::new();
        let outcome = scope.run(async |scope| {
            let mut both = pin!(idle(async { idle(sleep_forever()).await }));
            assert!(poll!(both.as_mut()).is_pending());
            scope.drain(GRACE);
            both.await
        });
        assert!(outcome.await?.expect("not cancelled").is_none());
        Ok(())
    });
}

// What was finished is finished: a value that came in the same turn is returned (E5).
#[trine::test(kernel = "both")]
fn what_has_come_when_the_drain_begins_is_returned() {
    run(async || {
        let (event, seen) = (Event::new(), RefCell::new(Vec::new()));
        let scope = CancelScope::new();
        scope
            .run(async |scope| {
                nursery(async |n| {
                    for _ in 0..3 {
                        n.spawn(async {
                            let came = idle(event.wait()).await?.is_some();
                            seen.borrow_mut().push(came);
                            Ok(())
                        });
                    }
                    checkpoint().await?;
                    event.set();
                    scope.drain(GRACE);
                    Ok(())
                })
                .await
            })
            .await?
            .expect("not cancelled");
        assert_eq!(*seen.borrow(), [true; 3]);
        Ok(())
    });
}

// B2: one that is moved into a drained scope is ended there.
#[trine::test(kernel = "both")]
fn what_is_moved_into_a_drained_scope_ends_there() {
    run(async || {
        let mut waiting = Box::pin(idle(sleep_forever()));
        assert!(poll!(&mut waiting).is_pending());
        let scope = CancelScope::new();
        scope.drain(GRACE);
        let outcome = scope.run(async |_| waiting.await).await?;
        assert!(outcome.expect("not cancelled").is_none());
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn the_tree_shows_what_is_idle_and_the_reason_says_where_it_was_drained() {
    run(async || {
        let scope = CancelScope::new();
        scope
            .run(async |scope| {
                let mut waiting = pin!(idle(async {
                    let ended = sleep_forever().await.unwrap_err();
                    let reason = ended.cancelled().expect("a cancellation").reason().clone();
                    assert!(
                        reason.to_string().starts_with("drained at tests/drain.rs:"),
                        "{reason}"
                    );
                    Err::<(), _>(ended)
                }));
                assert!(poll!(waiting.as_mut()).is_pending());
                assert!(tree().contains("idle at tests/drain.rs:"), "{}", tree());
                scope.drain(GRACE);
                assert!(waiting.await?.is_none());
                Ok(())
            })
            .await?
            .expect("not cancelled");
        Ok(())
    });
}
