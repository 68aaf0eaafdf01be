//! Nurseries, scopes and operations that are dropped half-way, or forgotten (N16, F12).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use futures::poll;
use trine::net::{TcpListener, TcpStream};
use trine::time::{sleep, sleep_forever};
use trine::{
    CancelScope, Error, Nursery, Result, checkpoint, is_cancelled, move_on_after, nop, nursery,
    stats,
};

use crate::common::{Peer, fewer, in_kernel};
use crate::{LONG, MOMENT, Story, run, with_prelude};

/// Two ends of a connection.
async fn pair(listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let peer = TcpStream::connect_addr(listener.local_addr()?).await?;
    Ok((listener.accept().await?.0, peer))
}

/// Says when it is dropped.
struct Tells<'a>(&'a Story, &'static str);

impl Drop for Tells<'_> {
    fn drop(&mut self) {
        self.0.tell(self.1);
    }
}

// N16: dropping the nursery drops the children: first the body, then them, then the value.
#[trine::test(kernel = "both")]
fn dropping_a_nursery_drops_its_body_its_children_and_its_value() {
    run(async || {
        let story = &Story::default();
        let base = stats();
        {
            let mut half_way = pin!(nursery(async |n| {
                n.spawn(async {
                    let _guard = Tells(story, "child");
                    trine::shield(sleep_forever()).await
                });
                n.spawn_daemon(async {
                    let _guard = Tells(story, "daemon");
                    trine::shield(sleep_forever()).await
                });
                let _guard = Tells(story, "body");
                checkpoint().await?;
                n.finish(Some(Tells(story, "value")));
                trine::shield(sleep_forever()).await?;
                Ok(None)
            }));
            for _ in 0..4 {
                assert!(poll!(half_way.as_mut()).is_pending());
                checkpoint().await?;
            }
            assert!(story.told().is_empty());
        }
        assert_eq!(story.told(), ["body", "child", "daemon", "value"]);
        let now = stats();
        assert_eq!((now.tasks, now.scopes, now.timers), (base.tasks, base.scopes, base.timers));
        checkpoint().await
    });
}

// N16: one that was never polled drops what was spawned before its body began.
#[trine::test(kernel = "both")]
fn dropping_a_nursery_that_was_never_polled_drops_the_children_unpolled() {
    run(async || {
        let story = &Story::default();
        let never = with_prelude::<(), _, _>(|n| {
            let guard = Tells(story, "child");
            n.spawn(async move {
                let _guard = guard;
                unreachable!("polled")
            });
            let guard = Tells(story, "body");
            async move {
                let _guard = guard;
                unreachable!("polled")
            }
        });
        checkpoint().await?;
        drop(never);
        assert_eq!(story.told(), ["body", "child"]);
        Ok(())
    });
}

// F12, E11: operations in flight are asked to cancel; the scope around waits for the kernel, and D7:
// what had come stays with the streams.
#[trine::test(kernel = "both")]
fn a_nursery_dropped_with_operations_in_flight_leaves_the_waiting_to_the_scope_around() {
    run(async || {
        let listener = &TcpListener::bind("127.0.0.1:0").await?;
        let (one, peer) = pair(listener).await?;
        let (two, _other) = pair(listener).await?;
        let (one, two) = (&one, &two);
        let left = move_on_after(LONG, async |_| {
            {
                let mut half_way = pin!(nursery(async |n| {
                    n.spawn(async move { one.recv().await.map(drop) });
                    n.spawn(async move {
                        nursery(async |inner| {
                            inner.spawn(async move {
                                two.read_exact(vec![0; 64]).await?;
                                Ok(())
                            });
                            listener.accept().await.map(drop)
                        })
                        .await
                    });
                    sleep_forever().await
                }));
                assert!(poll!(half_way.as_mut()).is_pending());
                let mut waiting = pin!(in_kernel(3));
                poll_fn(|cx| {
                    let _ = half_way.as_mut().poll(cx);
                    waiting.as_mut().poll(cx)
                })
                .await?;
                peer.write_all("late").await?;
            }
            // Nothing was waited for yet: dropping is synchronous.
            assert!(stats().in_kernel > 0);
            assert!(!is_cancelled());
            Ok(stats().scopes)
        });
        let scopes = left.await?.expect("not cancelled");
        assert_eq!(stats().in_kernel, 0);
        assert_eq!(stats().scopes, scopes - 1);
        assert_eq!(one.recv().await?.expect("bytes"), *b"late");
        Ok(())
    });
}

// F12: over and over, nothing piles up.
#[trine::test(kernel = "both")]
fn dropping_nurseries_over_and_over_leaves_nothing_behind() {
    run(async || {
        let (stream, peer) = pair(&TcpListener::bind("127.0.0.1:0").await?).await?;
        let (listener, stream) = (&TcpListener::bind("127.0.0.1:0").await?, &stream);
        while stats().in_kernel > 0 {
            nop().await?;
        }
        let base = stats();
        for round in 0..fewer(100_u8, 4) {
            let polls = round % 4;
            let left = move_on_after(LONG, async |_| {
                let mut half_way = pin!(nursery(async |n| {
                    n.spawn(async move { stream.recv().await.map(drop) });
                    n.spawn_daemon(sleep(LONG));
                    n.start(async |_: trine::Started<()>| listener.accept().await.map(drop)).await
                }));
                for _ in 0..polls {
                    assert!(poll!(half_way.as_mut()).is_pending());
                    checkpoint().await?;
                }
                Ok(())
            });
            left.await?.expect("not cancelled");
            let now = stats();
            assert_eq!(
                (now.tasks, now.scopes, now.in_kernel, now.timers),
                (base.tasks, base.scopes, 0, 0),
                "after {polls} polls"
            );
        }
        peer.write_all("still there").await?;
        assert_eq!(stream.recv().await?.expect("bytes"), *b"still there");
        Ok(())
    });
}

/// A child whose Drop spawns the next one.
struct Deep<'s, 'e> {
    n: Nursery<'s, 'e>,
    left: u32,
    polled: &'s Cell<u32>,
    dropped: &'s Cell<u32>,
}

impl Future for Deep<'_, '_> {
    type Output = Result;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result> {
        self.polled.set(self.polled.get() + 1);
        Poll::Pending
    }
}

impl Drop for Deep<'_, '_> {
    fn drop(&mut self) {
        self.dropped.set(self.dropped.get() + 1);
        if self.left > 0 {
            let next = Deep { left: self.left - 1, ..*self };
            match self.left % 3 {
                0 => self.n.spawn(next),
                1 => self.n.spawn_daemon(next),
                _ => drop(self.n.fork(next)),
            }
            self.n.cancel();
        }
    }
}

// N16: what a Drop spawns while the nursery is dropped is dropped unpolled, however deep.
#[trine::test(kernel = "both")]
fn children_whose_drops_spawn_four_deep_while_their_nursery_is_dropped_are_all_dropped() {
    run(async || {
        let (polled, dropped) = (&Cell::new(0), &Cell::new(0));
        let base = stats();
        {
            let mut half_way = pin!(nursery(async |n| {
                n.spawn(Deep { n, left: 4, polled, dropped });
                n.spawn(Deep { n, left: 4, polled, dropped });
                // The body's own Drop spawns as well.
                Deep { n, left: 4, polled, dropped }.await
            }));
            for _ in 0..3 {
                assert!(poll!(half_way.as_mut()).is_pending());
                checkpoint().await?;
            }
            assert_eq!((polled.get(), dropped.get()), (3, 0));
        }
        assert_eq!((polled.get(), dropped.get()), (3, 15));
        let now = stats();
        assert_eq!((now.tasks, now.scopes), (base.tasks, base.scopes));
        Ok(())
    });
}

// N2, N10: in a nursery that lives, what a Drop spawns is a child as any other.
#[trine::test(kernel = "both")]
fn children_that_a_drop_spawns_into_a_living_nursery_run() {
    run(async || {
        let (polled, dropped) = (&Cell::new(0), &Cell::new(0));
        nursery(async |n| {
            n.spawn(async move {
                // Cancelled by the first Drop; F13 drops the others, which only pend, one by one.
                drop(Deep { n, left: 4, polled, dropped });
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert_eq!((polled.get(), dropped.get()), (4, 5));
        Ok(())
    });
}

// N16: a handle of a child that was dropped with its nursery is not left hanging.
#[trine::test(kernel = "both")]
fn a_body_that_is_dropped_first_may_hold_handles_and_starts() {
    run(async || {
        let story = &Story::default();
        {
            let mut half_way = pin!(nursery(async |n| {
                let mut handle = n.fork(async {
                    let _guard = Tells(story, "child");
                    sleep_forever().await
                });
                let mut starting = pin!(n.start(async |started: trine::Started<()>| {
                    let _guard = Tells(story, "starting");
                    sleep_forever().await?;
                    started.set(());
                    Ok(())
                }));
                poll_fn(|cx| {
                    assert!(Pin::new(&mut handle).poll(cx).is_pending());
                    assert!(starting.as_mut().poll(cx).is_pending());
                    Poll::<()>::Pending
                })
                .await;
                Ok(())
            }));
            for _ in 0..3 {
                assert!(poll!(half_way.as_mut()).is_pending());
                checkpoint().await?;
            }
        }
        assert_eq!(story.told(), ["child", "starting"]);
        checkpoint().await
    });
}

// F12: forgetting leaks. The children are never polled again, though what they borrowed is gone and
// their wakers are fired; the scope around does not wait for them.
#[trine::test(kernel = "both")]
fn a_forgotten_nursery_is_never_polled_again() {
    run(async || {
        let polled = &Cell::new(0);
        let wakers = &RefCell::new(Vec::<Waker>::new());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let left = move_on_after(LONG, async |_| {
            let borrowed = Box::new(Cell::new(0));
            let mut forgotten = Box::pin(nursery(async |n| {
                n.spawn(poll_fn(|cx| {
                    wakers.borrow_mut().push(cx.waker().clone());
                    borrowed.set(borrowed.get() + 1);
                    polled.set(polled.get() + 1);
                    Poll::Pending
                }));
                n.spawn(async { listener.accept().await.map(drop) });
                n.spawn(sleep(MOMENT));
                sleep_forever().await
            }));
            for _ in 0..3 {
                assert!(poll!(forgotten.as_mut()).is_pending());
                checkpoint().await?;
            }
            mem::forget(forgotten);
            assert_eq!(polled.get(), 1);
            drop(borrowed);
            wakers.borrow().iter().for_each(Waker::wake_by_ref);
            sleep(MOMENT * 2).await
        });
        left.await?.expect("it does not wait for the forgotten");
        wakers.take().into_iter().for_each(Waker::wake);
        checkpoint().await?;
        checkpoint().await?;
        assert_eq!(polled.get(), 1);
        // P1: the run ends although the kernel still has the accept.
        assert_eq!(stats().in_kernel, 1);
        Ok(())
    });
}

// F12, C2: cancelling the scope that a forgotten nursery is in touches nothing that is gone.
#[trine::test(kernel = "both")]
fn a_forgotten_nursery_is_cancelled_in_peace() {
    run(async || {
        let left = move_on_after(LONG, async |scope| {
            let mut forgotten = Box::pin(nursery(async |n| {
                n.spawn(sleep_forever());
                n.spawn(sleep(LONG));
                sleep_forever().await
            }));
            for _ in 0..2 {
                assert!(poll!(forgotten.as_mut()).is_pending());
                checkpoint().await?;
            }
            mem::forget(forgotten);
            scope.cancel();
            checkpoint().await
        });
        assert!(left.await?.is_none());
        nop().await
    });
}

// F12, E11: a forgotten operation moves up when its scope is left; the peer is let go at the end.
#[trine::test(kernel = "both", leaks = true)]
fn a_forgotten_operation_holds_no_scope_open_and_ends_with_the_run() {
    let peer = run(async || {
        let (stream, peer) = Peer::pair().await?;
        let left = move_on_after(LONG, async |_| {
            let mut forgotten = Box::pin(stream.recv());
            assert!(poll!(forgotten.as_mut()).is_pending());
            mem::forget(forgotten);
            in_kernel(1).await
        });
        left.await?.expect("left");
        assert_eq!(stats().in_kernel, 1);
        // It still holds the read half, as far as anybody knows; the write half is free.
        assert!(matches!(stream.recv().await, Err(Error::Busy(_))));
        stream.write_all("bye").await?;
        drop(stream);
        Ok(peer)
    });
    assert_eq!(run(async || peer.read_to_end().await), b"bye");
}

// F12, D5: forgetting leaks the buffer that the kernel has, and frees it never; so not early either.
#[trine::test(kernel = "both", leaks = true)]
fn a_forgotten_write_is_finished_all_the_same() {
    let (stream, peer) = run(async || {
        let (stream, peer) = Peer::pair().await?;
        let mut forgotten = Box::pin(stream.write_all(vec![b'x'; fewer(4 << 20, 1 << 13)]));
        assert!(poll!(forgotten.as_mut()).is_pending());
        mem::forget(forgotten);
        checkpoint().await?;
        assert!(matches!(stream.write_all("y").await.map_err(Error::from), Err(Error::Busy(_))));
        Ok((stream, peer))
    });
    drop(stream);
    assert_eq!(run(async || peer.read_exact().await), [b'x'; 1024]);
}

// F12, F7: a forgotten scope's deadline passes, and it can be cancelled, to no effect on others.
#[trine::test(kernel = "both")]
fn a_forgotten_scope_may_expire_and_be_cancelled() {
    run(async || {
        let listener = &TcpListener::bind("127.0.0.1:0").await?;
        let scope = CancelScope::new().timeout(LONG);
        let mut forgotten = Box::pin(scope.run(async |_| listener.accept().await));
        assert!(poll!(forgotten.as_mut()).is_pending());
        mem::forget(forgotten);
        let mut timed = Box::pin(move_on_after(MOMENT, async |_| sleep_forever().await));
        assert!(poll!(timed.as_mut()).is_pending());
        mem::forget(timed);
        sleep(MOMENT * 2).await?;
        assert!(scope.cancel_called().is_none());
        scope.cancel_because("later");
        assert!(scope.cancel_called().is_some());
        while stats().in_kernel > 0 {
            checkpoint().await?;
        }
        nop().await
    });
}

// F12: a nursery that has been polled in one task may be dropped in another one.
#[trine::test(kernel = "both")]
fn a_nursery_may_be_dropped_by_another_task_than_the_one_that_polled_it() {
    run(async || {
        let story = &Story::default();
        let listener = &TcpListener::bind("127.0.0.1:0").await?;
        nursery(async |n| {
            let mut half_way = Box::pin(nursery(async |inner| {
                inner.spawn(async {
                    let _guard = Tells(story, "child");
                    listener.accept().await.map(drop)
                });
                sleep_forever().await
            }));
            for _ in 0..2 {
                assert!(poll!(half_way.as_mut()).is_pending());
                checkpoint().await?;
            }
            n.spawn(async move {
                drop(half_way);
                story.tell("dropped");
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert_eq!(story.told(), ["child", "dropped"]);
        assert_eq!(stats().in_kernel, 0);
        Ok(())
    });
}
