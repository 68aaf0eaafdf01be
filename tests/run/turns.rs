//! One turn after the other (rule P2).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::channel::oneshot;
use futures::poll;
use futures::stream::{FuturesUnordered, StreamExt};
use trine::time::{sleep, sleep_forever};
use trine::{
    IoBuf, Result, checkpoint, is_cancelled, move_on_after, nop, nursery, stats, yield_shielded,
};

use super::common::fewer;
use super::{LONG, Peer, in_kernel, run};

// P2: everything queued in a turn goes to the kernel in one system call, which also waits.
#[trine::test(kernel = "both")]
fn a_turn_is_one_system_call() {
    const ALONE: u64 = fewer(50, 5);
    const TOGETHER: u64 = fewer(200, 40);
    run(async || {
        nop().await?;
        let before = stats();
        for _ in 0..ALONE {
            nop().await?;
        }
        let after = stats();
        assert_eq!(after.turns - before.turns, after.enters - before.enters);
        assert!(after.turns - before.turns <= ALONE + 1);
        let before = stats();
        nursery(async |n| {
            for _ in 0..TOGETHER {
                n.spawn(nop());
            }
            Ok(())
        })
        .await?;
        let after = stats();
        assert_eq!(after.submitted, before.submitted + TOGETHER);
        // The kernel runs some twenty completions in one pass where only one is waited for.
        assert!(
            after.enters - before.enters <= TOGETHER / 20 + 2,
            "{}",
            after.enters - before.enters
        );
        Ok(())
    });
}

// P2: with nothing in the kernel and nothing to wait for there is nothing to call it for.
#[trine::test(kernel = "both")]
fn a_turn_with_nothing_for_the_kernel_makes_no_system_call() {
    const TURNS: u64 = fewer(100, 10);
    run(async || {
        checkpoint().await?;
        let before = stats();
        for _ in 0..TURNS {
            checkpoint().await?;
        }
        assert_eq!(stats().turns, before.turns + TURNS);
        assert_eq!(stats().enters, before.enters);
        Ok(())
    });
}

// P2: whoever is woken runs in a later turn, wherever it stands in the queue.
#[trine::test(kernel = "both")]
fn whoever_is_woken_runs_in_the_next_turn() {
    run(async || {
        let turns = &RefCell::new(Vec::new());
        nursery(async |n| {
            let (to_first, at_first) = oneshot::channel();
            let (to_last, at_last) = oneshot::channel();
            let wait = async |what: &'static str, receiver: oneshot::Receiver<u64>| {
                let sent = receiver.await.expect("sent");
                turns.borrow_mut().push((what, stats().turns - sent));
                Ok(())
            };
            n.spawn(wait("first", at_first));
            n.spawn(async move {
                yield_shielded().await;
                to_first.send(stats().turns).expect("received");
                to_last.send(stats().turns).expect("received");
                Ok(())
            });
            n.spawn(wait("last", at_last));
            Ok(())
        })
        .await?;
        assert_eq!(*turns.borrow(), [("first", 1), ("last", 1)]);
        Ok(())
    });
}

// P2: each of a chain of wakes is a turn, so that none of it starves the ring.
#[trine::test(kernel = "both")]
fn a_task_that_wakes_itself_is_polled_once_in_a_turn() {
    run(async || {
        let first = stats().turns;
        let polls = Cell::new(0);
        poll_fn(|cx| {
            assert_eq!(stats().turns, first + polls.get());
            polls.set(polls.get() + 1);
            cx.waker().wake_by_ref();
            if polls.get() > fewer(50, 10) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        Ok(())
    });
}

// P2: executors of others poll twice in one turn; a schedule point does not end by that.
#[trine::test(kernel = "both")]
fn a_schedule_point_that_is_polled_again_and_again_ends_in_the_next_turn() {
    run(async || {
        let begun = stats().turns;
        let ended = &RefCell::new(Vec::new());
        let mut points: Vec<_> = (0..4)
            .map(|which| {
                Box::pin(async move {
                    match which {
                        0 => checkpoint().await.expect("not cancelled"),
                        1 => yield_shielded().await,
                        2 => sleep(Duration::ZERO).await.expect("not cancelled"),
                        _ => nop().await.expect("not cancelled"),
                    }
                    ended.borrow_mut().push(stats().turns);
                })
            })
            .collect();
        poll_fn(|cx| {
            for _ in 0..10 {
                let polled: Vec<_> =
                    points.iter_mut().map(|point| point.as_mut().poll(cx)).collect();
                assert!(polled.iter().all(Poll::is_pending));
            }
            Poll::Ready(())
        })
        .await;
        assert_eq!(stats().turns, begun);
        points.into_iter().collect::<FuturesUnordered<_>>().collect::<()>().await;
        assert_eq!(ended.borrow().len(), 4);
        assert!(ended.borrow().iter().all(|&turn| turn > begun), "{ended:?} after {begun}");
        Ok(())
    });
}

// P2: a batch takes only entries of earlier turns, however often a nursery is polled.
#[trine::test(kernel = "both")]
fn children_run_once_in_a_turn_however_often_their_nursery_is_polled() {
    run(async || {
        let turns = &RefCell::new(Vec::new());
        let mut children = pin!(nursery(async |n| {
            n.spawn(poll_fn(|cx| {
                turns.borrow_mut().push(stats().turns);
                cx.waker().wake_by_ref();
                if turns.borrow().len() > 20 { Poll::Ready(Ok(())) } else { Poll::Pending }
            }));
            Ok(())
        }));
        let ended = poll_fn(|cx| {
            for _ in 0..5 {
                if let Poll::Ready(ended) = children.as_mut().poll(cx) {
                    return Poll::Ready(ended);
                }
            }
            Poll::Pending
        });
        ended.await?;
        let turns = turns.borrow();
        assert!(turns.windows(2).all(|pair| pair[1] == pair[0] + 1), "{turns:?}");
        Ok(())
    });
}

// P2: tasks run after the completions, and those woken first run first.
#[trine::test(kernel = "both")]
fn tasks_run_in_the_order_in_which_they_were_woken() {
    run(async || {
        let order = &RefCell::new(Vec::new());
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..10).map(|_| oneshot::channel::<()>()).unzip();
        nursery(async |n| {
            for (number, receiver) in receivers.into_iter().enumerate() {
                n.spawn(async move {
                    receiver.await.expect("sent");
                    order.borrow_mut().push(number);
                    Ok(())
                });
            }
            checkpoint().await?;
            for sender in senders.into_iter().rev() {
                sender.send(()).expect("received");
            }
            Ok(())
        })
        .await?;
        assert_eq!(*order.borrow(), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
        Ok(())
    });
}

/// A waker that calls something when it is woken or dropped.
struct Calls<F: Fn(&str) + Send + Sync + 'static>(F);

impl<F: Fn(&str) + Send + Sync> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        (self.0)("woken");
    }
}

impl<F: Fn(&str) + Send + Sync> Drop for Calls<F> {
    fn drop(&mut self) {
        (self.0)("dropped");
    }
}

// P2: wakers are woken and dropped with nothing borrowed and in no scope.
#[trine::test(kernel = "both")]
fn a_waker_may_ask_the_run_anything_while_it_is_woken_and_dropped() {
    run(async || {
        let called = Arc::new(std::sync::Mutex::new(Vec::new()));
        let left = move_on_after(LONG, async |scope| {
            let note = Arc::clone(&called);
            let waker = Waker::from(Arc::new(Calls(move |what: &str| {
                assert!(trine::tree().starts_with("run at"));
                assert!(stats().turns > 0 && !is_cancelled());
                drop(Box::pin(checkpoint()).as_mut().poll(&mut Context::from_waker(Waker::noop())));
                note.lock().unwrap().push(what.to_owned());
            })));
            let mut asleep = pin!(sleep_forever());
            assert!(asleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            scope.cancel();
            assert!(is_cancelled(), "it is the scope again afterwards");
            Ok(())
        });
        assert!(left.await?.is_some());
        assert_eq!(*called.lock().unwrap(), ["woken", "dropped"]);
        Ok(())
    });
}

// P2: a panic of a waker is kept until all have been woken, and comes out of the run then.
#[trine::test(kernel = "both")]
fn a_waker_that_panics_when_an_operation_ends_keeps_no_other_from_being_woken() {
    let woken = Arc::new(std::sync::Mutex::new(Vec::new()));
    let thrown = catch_unwind(AssertUnwindSafe(|| {
        run(async || {
            let mut nops: Vec<_> = (0..5).map(|_| Box::pin(nop())).collect();
            for (number, nop) in nops.iter_mut().enumerate() {
                let woken = Arc::clone(&woken);
                let waker = Waker::from(Arc::new(Calls(move |what: &str| {
                    if what == "woken" {
                        woken.lock().unwrap().push(number);
                        assert!(number % 2 == 0, "waker {number} panics");
                    }
                })));
                assert!(nop.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
            sleep_forever().await
        })
    }));
    let thrown = thrown.unwrap_err();
    assert_eq!(thrown.downcast_ref(), Some(&"waker 1 panics".to_owned()), "the first one");
    let mut woken = woken.lock().unwrap().clone();
    woken.sort_unstable();
    assert_eq!(woken, [0, 1, 2, 3, 4]);
    run(async || nop().await);
}

/// A buffer that panics when it is freed.
struct Brittle {
    text: &'static str,
    freed: Rc<Cell<u32>>,
}

impl Drop for Brittle {
    fn drop(&mut self) {
        assert!(!is_cancelled(), "no scope is the current one");
        self.freed.set(self.freed.get() + 1);
        panic!("{} is freed", self.text);
    }
}

// SAFETY: the bytes are static.
unsafe impl IoBuf for Brittle {
    fn as_ptr(&self) -> *const u8 {
        self.text.as_ptr()
    }

    fn len(&self) -> usize {
        self.text.len()
    }
}

// P2: what died in the kernel is other people's code as well: all of it is dropped, then the panic of
// the first goes on.
#[trine::test(kernel = "both")]
fn resources_that_panic_when_they_are_freed_are_all_freed() {
    let freed = Rc::new(Cell::new(0));
    let thrown = catch_unwind(AssertUnwindSafe(|| {
        run(async || {
            let mut streams = Vec::new();
            for _ in 0..3 {
                streams.push(Peer::pair().await?);
            }
            for (stream, _peer) in &streams {
                let buffer = Brittle { text: "a buffer", freed: Rc::clone(&freed) };
                let mut write = Box::pin(stream.write(buffer));
                assert!(poll!(write.as_mut()).is_pending());
            }
            assert_eq!(freed.get(), 0, "not in the middle of the sweep");
            in_kernel(0).await?;
            sleep_forever().await
        })
    }));
    assert_eq!(thrown.unwrap_err().downcast_ref(), Some(&"a buffer is freed".to_owned()));
    assert_eq!(freed.get(), 3);
    run(async || nop().await);
}

// P2: a schedule point gives everybody a turn, also those that come later.
#[trine::test(kernel = "both")]
fn between_two_schedule_points_every_task_that_is_awake_runs() {
    run(async || -> Result {
        let counts: [Cell<u32>; 3] = Default::default();
        nursery(async |n| {
            for count in &counts {
                n.spawn_daemon(async {
                    loop {
                        count.set(count.get() + 1);
                        checkpoint().await?;
                    }
                });
            }
            for turns in 1..=20 {
                checkpoint().await?;
                assert_eq!(counts.each_ref().map(Cell::get), [turns; 3]);
            }
            Ok(())
        })
        .await
    });
}
