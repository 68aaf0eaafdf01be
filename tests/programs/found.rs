//! What generated programs have found in the crate: each case by itself, so that it stays mended.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::Shutdown;
use std::task::Poll;
use std::time::Duration;

use futures::poll;
use trine::net::{TcpListener, TcpStream};
use trine::testing::World;
use trine::time::sleep;
use trine::{CancelScope, checkpoint, fuzzing, nop, nursery};

use super::common::pair;

// F13: the nursery's body was woken by the move into the cancelled scope, in the very poll after
// which that scope's body was judged. It has to run, and to see `Cancelled` (M1).
#[test]
fn a_scope_whose_nursery_has_a_woken_body_is_not_stuck() {
    let told = World::tame().run(async || {
        let told = Cell::new(false);
        let part = nursery(async |n| {
            n.spawn(async { Ok(()) });
            let slept = sleep(Duration::from_millis(1)).await;
            told.set(slept.is_err());
            slept
        });
        let mut part = Box::pin(part);
        assert!(poll!(part.as_mut()).is_pending());
        // The child was woken in an earlier turn, so it runs, and ends, in the poll that is judged.
        checkpoint().await?;
        let scope = CancelScope::new();
        scope.cancel();
        let ended = scope.run(async |_| part.as_mut().await).await?;
        assert!(ended.is_none());
        Ok(told.get())
    });
    assert!(told.unwrap(), "the sleep was dropped instead of cancelled");
}

// D4: "at most 8 times" is for one operation of the kernel; a `read_exact` makes as many as it
// takes, and each one that brings something begins anew. Here the kernel interrupts three times
// before each byte.
#[test]
fn a_read_exact_may_be_interrupted_more_than_eight_times_if_it_gets_on_meanwhile() {
    fuzzing::check_tape(
        "transfer:0000000000000001,fault:00000001000000000000000001000000000000000000000100010001000\
         0010001000100000100010001,program:0000020001b6913801000001000e7a01",
    );
}

// D7: the next operation of the write half waits for a shutdown whose future was dropped, and
// knows of it: it does not race with it in the kernel, and it is told `Closed`.
#[test]
fn a_write_after_a_dropped_shutdown_is_told_that_the_half_is_closed() {
    World::tame()
        .run(async || {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let client = TcpStream::connect_addr(listener.local_addr()?).await?;
            let (server, _) = listener.accept().await?;
            {
                let mut shutdown = Box::pin(client.shutdown(Shutdown::Write));
                assert!(poll!(shutdown.as_mut()).is_pending());
                checkpoint().await?;
            }
            let failed = client.write_all("too late").await.unwrap_err();
            assert!(matches!(failed.error, trine::Error::Closed(_)), "{}", failed.error);
            assert!(server.recv().await?.is_none());
            Ok(())
        })
        .unwrap();
}

// P2: time passes although nothing is in the kernel, when bytes are under way in the simulated network.
// The loop has to enter the simulated kernel for them, else they stay due at this very instant for ever.
#[test]
fn bytes_that_arrive_when_no_operation_waits_do_not_stop_the_time() {
    let world = World::tame().turns(10_000);
    world
        .run(async || {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let client = TcpStream::connect_addr(listener.local_addr()?).await?;
            let (_server, _) = listener.accept().await?;
            listener.close().await?;
            World::current().set_latency(Duration::from_millis(1));
            client.write_all("on its way").await?;
            sleep(Duration::from_millis(10)).await
        })
        .unwrap();
}

// The same as it was found: the network lane makes the way longer, and nobody receives.
#[test]
fn a_byte_under_way_to_nobody_does_not_stop_the_time() {
    fuzzing::check_tape("transfer:000000000000000001,network:01,program:000000010050000000019d0b");
}

// A kernel that refuses multishots does so to each of those that are under way when the first one is
// refused: none of them is an error of its own.
#[test]
fn several_multishots_in_flight_on_a_kernel_without_them_are_all_made_anew() {
    let world = World::tame();
    world.refuse_multishots(true);
    world
        .run(async || {
            let listeners =
                (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
            nursery(async |n| {
                n.spawn(async { listeners.0.accept().await?.0.close().await });
                n.spawn(async { listeners.1.accept().await?.0.close().await });
                TcpStream::connect_addr(listeners.0.local_addr()?).await?.close().await?;
                TcpStream::connect_addr(listeners.1.local_addr()?).await?.close().await
            })
            .await?;
            let (there, here) = (pair().await?, pair().await?);
            nursery(async |n| {
                for (client, server) in [&there, &here] {
                    n.spawn(async move {
                        assert_eq!(server.recv().await?.expect("a byte"), *b"x");
                        Ok(())
                    });
                    n.spawn(async move { Ok(client.write_all("x").await.map(drop)?) });
                }
                Ok(())
            })
            .await
        })
        .unwrap();
    assert_eq!(world.finish(), [] as [String; 0]);
}

// D7: a dropped `read_exact` had a byte when the connection broke. The byte comes first, then the
// error, then the end.
#[test]
fn an_error_does_not_overtake_what_a_dropped_read_had() {
    World::tame()
        .run(async || {
            let (client, server) = pair().await?;
            {
                let mut read = Box::pin(server.read_exact(Vec::with_capacity(5)));
                assert!(poll!(read.as_mut()).is_pending());
                client.write_all("x").await?;
                // It takes the byte, and wants more.
                for _ in 0..3 {
                    checkpoint().await?;
                    assert!(poll!(read.as_mut()).is_pending());
                }
                checkpoint().await?;
                World::current().reset(client.local_addr()?);
                checkpoint().await?;
            }
            assert_eq!(server.recv().await?.expect("a byte"), *b"x");
            let error = server.recv().await.unwrap_err();
            assert!(error.to_string().contains("reset"), "{error}");
            assert!(server.recv().await?.is_none());
            Ok(())
        })
        .unwrap();
}

// The same as it was found: the error came from `recv`, and then the byte.
#[test]
fn an_error_does_not_overtake_what_a_dropped_read_had_as_it_was_found() {
    fuzzing::check_tape(
        "fault:01,network:00000000000001,program:0000ac0000000000000001f449019b000100b0000000010\
         00000011b3d0100000000000174020136300000011970ae000101001a00011f00000001001000000000000000f8",
    );
}

// F14: a task that has swallowed too many cancellations is left to the scope that absorbs them. If its
// nursery's body wakes itself for ever, that scope saw a body about to run each time, so nobody
// dropped it.
#[test]
fn an_exhausted_task_whose_nursery_body_wakes_itself_is_ended() {
    let ended = World::tame().turns(20_000).run(async || {
        let scope = CancelScope::new();
        scope.cancel();
        let body = scope.run(async |_| {
            {
                let mut swallows = Box::pin(async {
                    loop {
                        let _ = nop().await;
                    }
                });
                assert!(poll!(swallows.as_mut()).is_pending());
            }
            nursery(async |_| {
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    Poll::<()>::Pending
                })
                .await;
                Ok(())
            })
            .await
        });
        body.await
    });
    assert!(ended.unwrap().is_none());
}

// The same as it was found.
#[test]
fn an_exhausted_task_whose_nursery_body_wakes_itself_is_ended_as_it_was_found() {
    fuzzing::check_tape(
        "program:0000390001230000af2ff4004d920049000000793df5000d55710000000d2ad1a100000000007cde",
    );
}
