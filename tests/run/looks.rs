//! Looking into a run: `stats()` and `tree()`. The pictures of scopes are in the tests of reasons.

use std::future::Future;
use std::os::fd::AsRawFd;
use std::panic::Location;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;
use futures::poll;
use trine::sync::Event;
use trine::time::{Instant, sleep, sleep_forever};
use trine::{
    Builder, CancelScope, Error, Result, Started, Stats, checkpoint, move_on_after, nop, nursery,
    shield, stats, tree, yield_shielded,
};

use super::common::spin_until;
use super::{LONG, MOMENT, Peer, in_kernel, run, run_with};

#[trine::test(kernel = "both")]
fn outside_of_a_run_there_is_nothing_to_be_seen() {
    assert_eq!(stats(), Stats::default());
    assert_eq!(tree(), "no trine run on this thread\n");
    run(async || nop().await);
    assert_eq!(stats(), Stats::default());
}

#[trine::test(kernel = "both")]
fn a_run_is_shown_at_the_place_where_it_was_called() {
    let plain = (line!(), trine::run(async || Ok(tree())));
    let built = (line!(), Builder::new().run(async || Ok(tree())));
    let other = (line!(), trine::generic::run(async || Ok::<_, Error>(tree())));
    let lines = [plain, built, other];
    for (line, tree) in lines {
        let expected = format!("run at {}:{line}:", file!());
        assert!(tree.as_ref().unwrap().starts_with(&expected), "{tree:?}");
    }
}

// Tasks: main, the body of a nursery, and the children, daemons too, until they have ended.
#[trine::test(kernel = "both")]
fn the_statistics_count_tasks_and_scopes_while_they_live() {
    run(async || {
        assert_eq!((stats().tasks, stats().scopes), (1, 1));
        nursery(async |n| {
            assert_eq!((stats().tasks, stats().scopes), (2, 2));
            for _ in 0..10 {
                n.spawn(async { checkpoint().await });
                n.spawn_daemon(sleep_forever());
            }
            assert_eq!((stats().tasks, stats().scopes), (22, 22));
            while stats().tasks > 12 {
                checkpoint().await?;
            }
            assert_eq!(stats().scopes, 12);
            shield(async { assert_eq!((stats().tasks, stats().scopes), (12, 13)) }).await;
            Ok(())
        })
        .await?;
        assert_eq!((stats().tasks, stats().scopes), (1, 1));
        Ok(())
    });
}

// D6: what had not gone to the kernel is withdrawn, and costs neither a cancel nor a completion.
#[trine::test(kernel = "both")]
fn the_statistics_count_what_was_submitted_and_what_was_withdrawn() {
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        nop().await?;
        let before = stats();
        {
            let mut receive = pin!(stream.read(Vec::with_capacity(8)));
            assert!(poll!(receive.as_mut()).is_pending());
            assert_eq!((stats().queued, stats().in_kernel), (1, 0));
        }
        assert_eq!((stats().queued, stats().withdrawn), (0, before.withdrawn + 1));
        for _ in 0..5 {
            nop().await?;
        }
        let after = stats();
        assert_eq!(after.submitted, before.submitted + 5);
        assert_eq!(after.completions, before.completions + 5);
        assert_eq!(after.cancels_sent, before.cancels_sent);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn the_statistics_count_cancel_requests_and_those_that_came_too_late() {
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        let before = stats();
        let left = move_on_after(LONG, async |scope| {
            let mut receive = pin!(stream.recv());
            assert!(poll!(receive.as_mut()).is_pending());
            in_kernel(1).await?;
            scope.cancel();
            receive.await
        });
        assert!(left.await?.is_none());
        assert_eq!(stats().cancels_sent, before.cancels_sent + 1);
        assert_eq!(stats().cancels_missed, before.cancels_missed);
        // A nop has always ended before its cancel comes.
        let mut operation = Box::pin(nop());
        assert!(poll!(operation.as_mut()).is_pending());
        yield_shielded().await;
        drop(operation);
        yield_shielded().await;
        assert_eq!(stats().cancels_running, before.cancels_running);
        assert_eq!(stats().in_kernel, 0);
        Ok(())
    });
}

// The bell is one completion for all that came with it.
#[test]
fn the_statistics_count_the_bell_among_the_completions() {
    run(async || {
        let before = stats();
        let (sender, receiver) = oneshot::channel();
        let thread = thread::spawn(move || {
            thread::sleep(MOMENT);
            sender.send(())
        });
        receiver.await.expect("sent");
        thread.join().expect("no panic").expect("received");
        assert_eq!(stats().completions, before.completions + 1);
        assert_eq!(stats().submitted, before.submitted);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn the_statistics_count_timers_and_name_the_earliest() {
    run(async || {
        assert_eq!((stats().timers, stats().next_deadline), (0, None));
        let mut late = Box::pin(sleep(2 * LONG));
        let mut early = Box::pin(sleep(LONG));
        assert!(poll!(late.as_mut()).is_pending() && poll!(early.as_mut()).is_pending());
        assert_eq!(stats().timers, 2);
        assert!(stats().next_deadline.is_some_and(|left| left <= LONG && left > LONG / 2));
        drop(early);
        assert_eq!(stats().timers, 1);
        assert!(stats().next_deadline.is_some_and(|left| left > LONG));
        drop(late);
        assert_eq!((stats().timers, stats().next_deadline), (0, None));
        // One that has passed and has not been dealt with: nothing is left until then.
        let mut now = Box::pin(sleep(MOMENT / 20));
        assert!(poll!(now.as_mut()).is_pending());
        spin_until(Instant::now() + MOMENT / 10);
        assert_eq!(stats().next_deadline, Some(Duration::ZERO));
        now.await
    });
}

#[trine::test(kernel = "both")]
fn the_statistics_count_the_buffers_of_the_pool() {
    let builder = Builder::new().pool_least(4).pool_most(16);
    run_with(builder.pool_incremental(false), async || {
        let census = || (stats().pool_free, stats().pool_leased, stats().pool_spare);
        assert_eq!(census(), (4, 0, 0));
        let mut chunks = Vec::new();
        for number in 1..=4 {
            let (stream, peer) = Peer::pair().await?;
            peer.write_all(b"x").await?;
            chunks.push(stream.recv().await?.expect("a byte"));
            // After the last one the kernel may have looked for another, and made it grow.
            let fits = |buffers| census() == (buffers - number, number, 0);
            assert!(fits(4) || number == 4 && fits(8), "{number}: {:?}", census());
        }
        let (stream, peer) = Peer::pair().await?;
        peer.write_all(b"x").await?;
        chunks.push(stream.recv().await?.expect("a byte"));
        let (free, leased, spare) = census();
        assert_eq!((free + leased + spare, leased), (8, 5), "it has grown");
        drop(chunks);
        assert_eq!(stats().pool_leased, 0);
        Ok(())
    });
}

/// The line of the tree that begins with `what`, without what it is indented by.
fn line_with(what: &str) -> String {
    let tree = tree();
    let line = tree.lines().find(|line| line.trim_start().starts_with(what));
    line.unwrap_or_else(|| panic!("no {what:?} in\n{tree}")).trim_start().to_owned()
}

// The name of the operation, its descriptor, and for how long.
#[trine::test(kernel = "both")]
fn the_tree_shows_how_long_an_operation_has_been_under_way() {
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        checkpoint().await?;
        let mut receive = pin!(stream.recv());
        assert!(poll!(receive.as_mut()).is_pending());
        in_kernel(1).await?;
        // The clock of ages is coarse: it ticks every few milliseconds.
        sleep(10 * MOMENT).await?;
        let line = line_with("waits for recv");
        let expected = format!("waits for recv fd {} since ", stream.as_raw_fd());
        let age = line.strip_prefix(&expected).unwrap_or_else(|| panic!("{line}"));
        let age: f64 = age.strip_suffix("ms").unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        assert!((10.0..1_000.0).contains(&age), "{line}");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn the_tree_shows_schedule_points_and_what_cannot_be_interrupted() {
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        let fd = stream.as_raw_fd();
        let mut pause = pin!(yield_shielded());
        assert!(poll!(pause.as_mut()).is_pending());
        assert_eq!(line_with("waits for its turn"), "waits for its turn");
        let mut close = pin!(stream.close());
        assert!(poll!(close.as_mut()).is_pending());
        let line = line_with("waits for close");
        assert!(line.starts_with(&format!("waits for close fd {fd} since ")), "{line}");
        assert!(line.ends_with(" (cannot be interrupted)"), "{line}");
        close.await
    });
}

// N56: a cancelled `start` waits until its child has cleaned up.
#[trine::test(kernel = "both")]
fn the_tree_shows_who_waits_for_a_child_to_end() {
    const WAITS: &str = "waits for a child to end";
    run(async || {
        let (scope, cleaned) = (&CancelScope::new(), &Event::new());
        nursery(async |n| {
            n.spawn(async move {
                let left = scope.run(async |_| {
                    n.start(async |_started: Started<()>| {
                        let cancelled = sleep_forever().await;
                        shield(cleaned.wait()).await?;
                        cancelled
                    })
                    .await
                });
                assert!(left.await?.is_none());
                Ok(())
            });
            while stats().tasks < 4 {
                checkpoint().await?;
            }
            assert!(!tree().contains(WAITS), "until it is cancelled it waits to be woken");
            scope.cancel();
            for _ in 0..10 {
                checkpoint().await?;
            }
            let tree = tree();
            let mut below = tree.lines().skip_while(|line| !line.trim_start().starts_with("scope"));
            let scope = below.next().expect("the scope around the start");
            let indent = scope.len() - scope.trim_start().len() + 2;
            assert_eq!(below.next(), Some(format!("{:indent$}{WAITS}", "").as_str()), "{tree}");
            cleaned.set();
            Ok(())
        })
        .await?;
        assert_eq!(tree().lines().count(), 1);
        Ok(())
    });
}

// All in the words of whoever wrote the program: where, until when, and why not any longer.
#[trine::test(kernel = "both")]
fn the_tree_shows_deadlines_shields_and_reasons_of_scopes() {
    run(async || {
        let scope = CancelScope::new().timeout(LONG).shield(true);
        let here = |line| format!("at {}:{line}:", file!());
        let made = line!() - 2;
        let left = scope.run(async |scope| {
            let line = line_with("scope");
            assert!(line.contains(&here(made)), "{line}");
            assert!(line.contains(", deadline in 60.0s, shielded"), "{line}");
            scope.set_shield(false);
            scope.set_deadline(None);
            assert!(!line_with("scope").contains(", "), "{}", line_with("scope"));
            scope.cancel_because("enough");
            let said = format!("s ago: cancelled {}", here(line!() - 1));
            let line = line_with("scope");
            assert!(line.contains(", cancelled ") && line.contains(&said), "{line}");
            assert!(line.ends_with(": enough"), "{line}");
            checkpoint().await
        });
        assert!(left.await?.is_none());
        assert_eq!(tree().lines().count(), 1);
        Ok(())
    });
}

// A child is named by where it was spawned, also through a function that passes its caller on.
#[trine::test(kernel = "both")]
fn the_tree_names_children_by_the_place_of_the_call() {
    #[track_caller]
    fn spawned<'a>(n: trine::Nursery<'a, '_>) -> &'static Location<'static> {
        n.spawn(sleep_forever());
        Location::caller()
    }
    run(async || {
        nursery(async |n| {
            let at = spawned(n);
            assert_eq!(at.line(), line!() - 1);
            assert_eq!(line_with("child"), format!("child spawned at {at}"));
            n.cancel();
            Ok(())
        })
        .await
    });
}

// The tree may be asked for at any time, and is always in one piece.
#[trine::test(kernel = "both")]
fn the_tree_can_be_looked_at_from_within_a_poll_a_drop_and_a_waker() {
    struct Looks;
    impl Drop for Looks {
        fn drop(&mut self) {
            assert!(tree().starts_with("run at "));
        }
    }
    run(async || -> Result {
        let looks = Looks;
        let mut inner = Box::pin(async move {
            let _looks = looks;
            sleep_forever().await
        });
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(inner.as_mut().poll(&mut cx), Poll::Pending));
        let before = tree();
        assert!(before.contains("\n  waits to be woken\n"), "{before}");
        drop(inner);
        assert_eq!(tree().lines().count(), 1, "{}", tree());
        Ok(())
    });
}
