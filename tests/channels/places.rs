//! Outside of a run, in the next one, and several waits in one task.

use std::cell::Cell;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, pin_mut, poll, select_biased};
use trine::sync::{Heard, TryRecvError, broadcast, channel, oneshot, unbounded, watch};
use trine::{Error, Result, checkpoint, nursery};

use super::{Pending, Store, run};
use crate::common::BUDGET;

/// Polls once where there is no run.
fn poll_outside<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn is_no_run<T>(polled: Poll<Result<T>>) -> bool {
    matches!(polled, Poll::Ready(Err(Error::NoRun)))
}

// P6: outside of a run nothing can be waited for, and nothing is taken.
#[test]
fn outside_of_a_run_a_wait_is_refused_and_takes_nothing() {
    let store = Store::default();
    let (sender, receiver) = channel(2);
    sender.try_send(store.item(1)).expect("there is room");
    assert!(is_no_run(poll_outside(receiver.recv())));
    match poll_outside(sender.send(store.item(2))) {
        Poll::Ready(Err(refused)) => {
            assert!(matches!(refused.error, Error::NoRun), "{refused:?}");
            assert_eq!(refused.request.number, 2);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((sender.statistics().len, store.alive()), (1, 1));
    // What does not wait needs no run.
    assert_eq!(receiver.try_recv().expect("it is in").number, 1);
    drop(sender);
    assert!(is_no_run(poll_outside(receiver.recv())));
    assert_eq!(receiver.try_recv().unwrap_err(), TryRecvError::Closed);

    let (sender, receiver) = oneshot();
    assert!(is_no_run(poll_outside(sender.closed())));
    sender.send(1).expect("it is wanted");
    assert!(is_no_run(poll_outside(receiver.recv())));
    assert_eq!(receiver.try_recv().expect("it is in"), 1);

    let (sender, mut receiver) = watch(1);
    sender.send(2);
    assert!(is_no_run(poll_outside(receiver.changed())));
    assert!(is_no_run(poll_outside(receiver.wait_for(|_| true))));
    assert_eq!((receiver.has_changed(), *receiver.borrow_and_update()), (true, 2));

    let (sender, mut receiver) = broadcast(1);
    sender.send(3);
    assert!(is_no_run(poll_outside(receiver.recv())));
    assert_eq!(receiver.try_recv(), Some(Heard::Value(3)));
}

// The doc of the module: nothing here is bound to a run.
#[trine::test(kernel = "both")]
fn what_was_sent_in_one_run_is_received_in_the_next() {
    let (sender, receiver) = channel(2);
    let (answer, question) = oneshot();
    let (state, mut watcher) = watch(0);
    let (radio, mut ear) = broadcast(2);
    run(async || {
        sender.send(1).await?;
        state.send(1);
        radio.send(1);
        answer.send(1).map_err(|_| Error::other("it is wanted"))
    });
    sender.try_send(2).expect("there is room");
    run(async || {
        assert_eq!((receiver.recv().await?, receiver.recv().await?), (Some(1), Some(2)));
        assert_eq!(question.recv().await?, 1);
        watcher.changed().await?;
        assert_eq!(watcher.wait_for(|&value| value == 1).await?, 1);
        assert_eq!(ear.recv().await?, Heard::Value(1));
        assert_eq!((sender.statistics().waiting_to_receive, radio.statistics().waiting), (0, 0));
        Ok(())
    });
}

// P6, J2: a wait whose run has ended is passed over, gives its value back, and keeps what it was handed.
#[trine::test(kernel = "both")]
fn a_wait_that_outlives_its_run_is_passed_over() {
    let store = Store::default();
    let (sender, receiver) = channel(0);
    let (other, other_end) = channel(0);
    let mut handed = Box::pin(receiver.recv());
    let mut parked = Box::pin(receiver.recv());
    let mut sending = Box::pin(other.send(store.item(5)));
    run(async || {
        assert!(poll!(handed.as_mut()).is_pending() && poll!(parked.as_mut()).is_pending());
        assert!(poll!(sending.as_mut()).is_pending());
        sender.try_send(store.item(1)).expect("somebody waits");
        Ok(())
    });
    assert!(sender.try_send(store.item(2)).is_err(), "nobody waits who can still be woken");
    assert_eq!(other_end.try_recv().unwrap_err(), TryRecvError::Empty);
    run(async || {
        assert_eq!(handed.await?.expect("C4").number, 1);
        assert!(matches!(parked.await, Err(Error::RunFinished)));
        let refused = sending.await.unwrap_err();
        assert!(matches!(refused.error, Error::RunFinished), "{refused:?}");
        assert_eq!(refused.request.number, 5);
        Ok(())
    });
    assert_eq!(sender.statistics().waiting_to_receive, 0, "J8");
    assert_eq!((other.statistics().waiting_to_send, store.alive()), (0, 0), "J8");
}

// J2: dropped after its run has ended, or within the next, it still passes on what it was handed.
#[trine::test(kernel = "both")]
fn a_wait_that_is_dropped_after_its_run_passes_on_what_it_was_handed() {
    let (sender, receiver) = unbounded();
    let mut handed = Box::pin(receiver.recv());
    run(async || {
        assert!(poll!(handed.as_mut()).is_pending());
        sender.send(1).await.map_err(Error::from)
    });
    run(async || {
        let mut next = Box::pin(receiver.recv());
        assert!(poll!(next.as_mut()).is_pending());
        drop(handed);
        assert_eq!(next.await?, Some(1));
        Ok(())
    });
}

// J1: both ends in one task.
#[trine::test(kernel = "both")]
async fn a_task_may_wait_at_both_ends_at_once() -> Result {
    for capacity in [0, 1, 2] {
        let (sender, receiver) = channel(capacity);
        for round in 0..5 {
            let (sent, received) = futures::join!(sender.send(round), receiver.recv());
            assert!(sent.is_ok());
            assert_eq!(received?, Some(round));
            let (received, sent) = futures::join!(receiver.recv(), sender.send(round));
            assert!(sent.is_ok());
            assert_eq!(received?, Some(round));
        }
    }
    let (answer, question) = oneshot();
    let (state, mut watcher) = watch(0);
    let (radio, mut ear) = broadcast(1);
    let (answered, reached, heard, ()) =
        futures::join!(question.recv(), watcher.wait_for(|&value| value == 1), ear.recv(), async {
            state.send(1);
            state.send(2);
            radio.send(3);
            answer.send(4).expect("it is wanted");
        });
    assert_eq!((answered?, reached?, heard?), (4, 1, Heard::Value(3)));
    Ok(())
}

// J2, D7: a loop of `select!` over several channels loses nothing, whichever branch wins.
#[trine::test(kernel = "both", runs = 5)]
async fn a_loop_of_select_over_two_channels_loses_nothing() -> Result {
    const EACH: u32 = 50;
    let (left, left_end) = channel(0);
    let (right, right_end) = channel(2);
    nursery(async |n| {
        // The channels stay open: the end of one would always win.
        let (left, right) = (&left, &right);
        n.spawn(async move {
            for number in 0..EACH {
                left.send(number).await?;
                right.send(number).await?;
                if number % 3 == 0 {
                    checkpoint().await?;
                }
            }
            Ok(())
        });
        let (mut from_left, mut from_right) = (Vec::new(), Vec::new());
        while from_left.len() + from_right.len() < 2 * EACH as usize {
            let (one, other) = (left_end.recv().fuse(), right_end.recv().fuse());
            pin_mut!(one, other);
            select_biased! {
                received = one => from_left.extend(received?),
                received = other => from_right.extend(received?),
            }
        }
        let all: Vec<_> = (0..EACH).collect();
        assert_eq!((from_left, from_right), (all.clone(), all));
        Ok(())
    })
    .await
}

// J1: with wakers of other people's executors in between.
#[trine::test(kernel = "both")]
async fn many_waits_in_a_futures_unordered_are_served_in_order() -> Result {
    let (sender, receiver) = unbounded();
    let mut waits: FuturesUnordered<_> =
        (0..10).map(|place| receiver.recv().map(move |received| (place, received))).collect();
    assert!(poll!(waits.next()).is_pending());
    for number in 0..10 {
        sender.send(number).await?;
    }
    let mut served = Vec::new();
    while let Some((place, received)) = waits.next().await {
        served.push((place, received?.expect("sent")));
    }
    let places: Vec<_> = served.iter().map(|&(place, _)| place).collect();
    let mut numbers: Vec<_> = served.iter().map(|&(_, number)| number).collect();
    numbers.sort_unstable();
    assert_eq!((places.len(), numbers), (10, (0..10).collect::<Vec<_>>()));
    Ok(())
}

// J2, J4: a wait that is awaited again after its end asks anew, where nothing is brought.
#[trine::test(kernel = "both")]
async fn a_receive_that_is_polled_again_after_its_end_receives_again() -> Result {
    let (sender, receiver) = unbounded();
    let mut again: Pending<'_, Result<Option<u32>>> = Box::pin(receiver.recv());
    for number in 0..3 {
        assert!(poll!(again.as_mut()).is_pending());
        sender.try_send(number).expect("somebody waits");
        assert_eq!(again.as_mut().await?, Some(number));
    }
    Ok(())
}

/// Does something that never has to wait, and counts how often another task runs meanwhile.
async fn lets_others_run(what: &str, mut once: impl AsyncFnMut() -> Result) -> Result {
    let times = Cell::new(0);
    let rounds = 10 * BUDGET;
    nursery(async |n| {
        n.spawn_daemon(async {
            loop {
                times.set(times.get() + 1);
                checkpoint().await?;
            }
        });
        for _ in 0..rounds {
            once().await?;
        }
        Ok(())
    })
    .await?;
    let times = times.get();
    assert!(times >= rounds / BUDGET - 1, "{what}: the other one ran {times} times");
    assert!(times < rounds / 4, "{what}: it is not at each operation: {times}");
    Ok(())
}

// A2: nobody who always finds what it wants keeps the others from running.
#[trine::test(kernel = "both")]
async fn one_that_never_has_to_wait_lets_others_run_now_and_then() -> Result {
    let (sender, receiver) = unbounded();
    lets_others_run("send", async || Ok(sender.send(0).await?)).await?;
    lets_others_run("receive", async || receiver.recv().await.map(drop)).await?;
    drop(sender);
    while receiver.try_recv().is_ok() {}
    lets_others_run("the end", async || receiver.recv().await.map(drop)).await?;
    let (sender, receiver) = oneshot::<u32>();
    drop(receiver);
    lets_others_run("closed", async || sender.closed().await).await?;
    let (sender, mut receiver) = watch(0);
    lets_others_run("wait_for", async || receiver.wait_for(|_| true).await.map(drop)).await?;
    let changed = async || {
        sender.send(1);
        receiver.changed().await
    };
    lets_others_run("changed", changed).await?;
    let (sender, mut receiver) = broadcast(1);
    let heard = async || {
        sender.send(1);
        receiver.recv().await.map(drop)
    };
    lets_others_run("a broadcast", heard).await
}
