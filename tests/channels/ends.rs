//! The ends of a channel come and go; and what each end says.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;

use futures::poll;
use trine::sync::{
    Receiver, Refused, Sender, TryRecvError, TrySendError, channel, oneshot, unbounded,
};
use trine::{CancelScope, Error, Result, nursery};

use crate::common::wakers::{Bell, poll_with, text};

use super::{Item, OnDrop, Store, inside, is_cancelled};

// J3: all who wait are told, and all who come.
#[trine::test(kernel = "both")]
async fn when_the_last_sender_goes_all_who_wait_are_told() -> Result {
    for capacity in [0, 1, usize::MAX] {
        let (sender, receiver) = channel::<u32>(capacity);
        let others: Vec<_> = (0..3).map(|_| sender.clone()).collect();
        let ears: Vec<_> = (0..4).map(|_| receiver.clone()).collect();
        let mut waits: Vec<_> = ears.iter().map(|ear| Box::pin(ear.recv())).collect();
        for wait in &mut waits {
            assert!(poll!(wait).is_pending());
        }
        drop(sender);
        for (left, other) in (1..=3).rev().zip(others) {
            assert_eq!(receiver.statistics().senders, left);
            assert!(poll!(&mut waits[0]).is_pending());
            drop(other);
        }
        assert_eq!(receiver.statistics().waiting_to_receive, 0);
        for wait in waits {
            assert_eq!(wait.await?, None);
        }
        for _ in 0..3 {
            assert_eq!(receiver.recv().await?, None, "for good");
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed), "for good");
        }
    }
    Ok(())
}

// J3: first what is left, of the queue and of those who have been handed something.
#[trine::test(kernel = "both")]
async fn receivers_drain_before_they_come_to_the_end() -> Result {
    let store = Store::default();
    let (sender, receiver) = channel(3);
    let mut handed = Box::pin(receiver.recv());
    assert!(poll!(handed.as_mut()).is_pending());
    for number in 0..4 {
        sender.try_send(store.item(number)).expect("somebody waits, or there is room");
    }
    drop(sender);
    assert_eq!(receiver.recv().await?.expect("left").number, 1);
    drop(handed);
    for number in [0, 2, 3] {
        assert_eq!(receiver.recv().await?.expect("left").number, number);
    }
    assert!(receiver.recv().await?.is_none());
    assert_eq!(store.alive(), 0);
    Ok(())
}

// J3, J2: a waiter that was told of the end, and goes, has nothing to pass on.
#[trine::test(kernel = "both")]
async fn one_that_was_told_of_the_end_may_be_cancelled_or_dropped() -> Result {
    let (sender, receiver) = channel::<u32>(1);
    let scope = CancelScope::new();
    let mut cancelled = inside(&scope, receiver.recv());
    let mut dropped = Box::pin(receiver.recv());
    assert!(poll!(cancelled.as_mut()).is_pending());
    assert!(poll!(dropped.as_mut()).is_pending());
    drop(sender);
    scope.cancel();
    drop(dropped);
    assert_eq!(cancelled.await?, None, "C4: it was woken with the end");
    assert_eq!((receiver.try_recv(), receiver.statistics().len), (Err(TryRecvError::Closed), 0));
    Ok(())
}

// J4: everybody gets the own value back, whether it waits or comes later.
#[trine::test(kernel = "both")]
async fn when_the_last_receiver_goes_every_sender_has_its_value_back() -> Result {
    for capacity in 0..3 {
        let store = Store::default();
        let (sender, receiver) = channel(capacity);
        let other = receiver.clone();
        for number in 0..capacity as u32 {
            sender.try_send(store.item(number)).expect("there is room");
        }
        let send = |number| Box::pin(sender.send(store.item(number)));
        let mut waits: Vec<_> = (10..14).map(send).collect();
        for wait in &mut waits {
            assert!(poll!(wait).is_pending());
        }
        drop(receiver);
        assert!(!sender.is_closed());
        assert!(poll!(&mut waits[0]).is_pending());
        drop(other);
        assert!(sender.is_closed());
        assert_eq!(store.alive(), 4, "what was in the queue is gone");
        assert_eq!((sender.statistics().len, sender.statistics().waiting_to_send), (0, 0));
        // One of them is dropped with its value.
        drop(waits.pop());
        for (number, wait) in (10..).zip(waits) {
            assert_eq!(closed(wait.await), number);
        }
        for number in 20..23 {
            assert_eq!(closed(sender.send(store.item(number)).await), number, "for good");
            let error = sender.try_send(store.item(number)).unwrap_err();
            assert!(matches!(error, TrySendError::Closed(_)), "{error:?}");
            assert_eq!(error.into_inner().number, number);
        }
        assert_eq!(store.alive(), 0);
    }
    Ok(())
}

/// What came back because nobody will receive it.
#[track_caller]
fn closed(sent: Result<(), Refused<Item>>) -> u32 {
    let refused = sent.expect_err("nobody receives it");
    assert!(matches!(refused.error, Error::Closed("the channel")), "{:?}", refused.error);
    refused.request.number
}

// J4, C4: a sender that was told that its value is in, or that it has it back, and was cancelled then.
#[trine::test(kernel = "both")]
async fn a_sender_that_knows_not_yet_that_the_receiver_is_gone_may_be_cancelled() -> Result {
    let store = Store::default();
    let (sender, receiver) = channel(1);
    sender.try_send(store.item(0)).expect("there is room");
    let scopes = [CancelScope::new(), CancelScope::new(), CancelScope::new()];
    let send = |(number, scope)| inside(scope, sender.send(store.item(number)));
    let mut waits: Vec<_> = (1..).zip(&scopes).map(send).collect();
    for wait in &mut waits {
        assert!(poll!(wait).is_pending());
    }
    assert_eq!(receiver.try_recv().expect("it is in").number, 0);
    // The last one is cancelled before.
    scopes[2].cancel();
    drop(receiver);
    scopes[0].cancel();
    scopes[1].cancel();
    let mut waits = waits.into_iter();
    let mut next = async || waits.next().expect("there are three").await;
    assert!(next().await.is_ok(), "it was sent, and is gone with the channel");
    assert_eq!(closed(next().await), 2);
    let refused = next().await.expect_err("it was cancelled");
    assert!(refused.error.is_cancelled(), "{refused:?}");
    assert_eq!(refused.request.number, 3);
    drop(refused);
    assert_eq!(store.alive(), 0);
    Ok(())
}

/// A value that uses its channel once more when it is dropped.
struct Nosy {
    sender: Sender<Nosy>,
    seen: Rc<Cell<usize>>,
    again: bool,
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.seen.set(self.seen.get() + 1);
        let statistics = self.sender.statistics();
        assert!(statistics.len <= 3, "{:?}", self.sender);
        if self.again {
            let (sender, seen) = (self.sender.clone(), Rc::clone(&self.seen));
            let sent = self.sender.try_send(Nosy { sender, seen, again: false });
            drop(sent);
        }
    }
}

// J4, P2: other people's values are dropped when nothing is borrowed.
#[trine::test(kernel = "both")]
async fn a_value_may_use_its_channel_while_it_is_dropped_with_it() -> Result {
    for capacity in [0, 2] {
        let seen = Rc::new(Cell::new(0));
        let (sender, receiver) = channel(capacity);
        let nosy = |again| Nosy { sender: sender.clone(), seen: Rc::clone(&seen), again };
        for _ in 0..capacity {
            assert!(sender.try_send(nosy(true)).is_ok());
        }
        // One waits when the receiver goes, one is dropped before, one afterwards.
        let mut waits = [0, 1, 2].map(|_| Box::pin(sender.send(nosy(true))));
        for wait in &mut waits {
            assert!(poll!(wait).is_pending());
        }
        let [before, during, after] = waits;
        drop(before);
        assert_eq!(seen.get(), 2, "it, and what it could not send");
        drop(receiver);
        assert_eq!(seen.get(), 2 + 2 * capacity);
        drop(after);
        assert_eq!(seen.get(), 4 + 2 * capacity);
        let refused = during.await.expect_err("nobody receives it");
        assert!(matches!(refused.error, Error::Closed(_)));
        drop(refused);
        assert_eq!(seen.get(), 6 + 2 * capacity);
        assert_eq!(Rc::strong_count(&seen), 1, "none is left anywhere");
    }
    Ok(())
}

// J3: the end is told by a value that is dropped with its channel, too: the channels end one in another.
#[trine::test(kernel = "both")]
async fn a_channel_inside_a_channel_ends_with_it() -> Result {
    let (outer, outer_end) = unbounded();
    let (inner, inner_end) = channel::<u32>(0);
    let mut wait = Box::pin(inner_end.recv());
    assert!(poll!(wait.as_mut()).is_pending());
    assert!(outer.try_send(inner).is_ok());
    assert!(poll!(wait.as_mut()).is_pending());
    drop(outer_end);
    assert_eq!(wait.await?, None);
    drop(outer);
    Ok(())
}

// P2: the value of one that panics while it is dropped does not keep others from being told.
#[trine::test(kernel = "both")]
async fn a_value_that_panics_when_it_is_dropped_keeps_nobody_waiting() -> Result {
    let (sender, receiver) = channel(1);
    let good = || OnDrop(Box::new(|| {}) as Box<dyn FnMut()>);
    let bad = OnDrop(Box::new(|| -> () { panic!("dropped") }) as Box<dyn FnMut()>);
    assert!(sender.try_send(bad).is_ok());
    let mut wait = Box::pin(sender.send(good()));
    assert!(poll!(wait.as_mut()).is_pending());
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(receiver)));
    assert_eq!(*dropped.unwrap_err().downcast::<&str>().unwrap(), "dropped");
    assert!(matches!(wait.await.unwrap_err().error, Error::Closed(_)));
    Ok(())
}

// J3, J4: ends that are cloned and dropped again in between change nothing.
#[trine::test(kernel = "both")]
async fn a_clone_of_the_last_end_keeps_the_channel_open() -> Result {
    let (mut sender, mut receiver) = channel(1);
    for round in 0..10 {
        let mut wait = Box::pin(receiver.recv());
        assert!(poll!(wait.as_mut()).is_pending());
        sender = sender.clone();
        assert!(poll!(wait.as_mut()).is_pending());
        sender.try_send(round).expect("somebody waits");
        assert_eq!(wait.await?, Some(round));
        sender.try_send(round).expect("there is room");
        let mut wait = Box::pin(sender.send(round + 1));
        assert!(poll!(wait.as_mut()).is_pending());
        receiver = receiver.clone();
        assert!(poll!(wait.as_mut()).is_pending());
        assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(round), Ok(round + 1)));
        wait.await?;
        assert_eq!((sender.statistics().senders, sender.statistics().receivers), (1, 1));
    }
    Ok(())
}

// J3: an end that is sent through its own channel, and received at the last moment.
#[trine::test(kernel = "both")]
async fn the_last_sender_may_come_out_of_the_channel_itself() -> Result {
    struct Link(Option<Sender<Link>>);
    let (sender, receiver) = unbounded();
    let clone = sender.clone();
    assert!(sender.try_send(Link(Some(clone))).is_ok());
    drop(sender);
    let Link(inner) = receiver.recv().await?.expect("it is in");
    let mut wait = Box::pin(receiver.recv());
    assert!(poll!(wait.as_mut()).is_pending(), "there is still a sender");
    assert!(inner.as_ref().expect("sent").try_send(Link(None)).is_ok());
    drop(inner);
    assert!(wait.await?.expect("it was handed over").0.is_none());
    assert!(receiver.recv().await?.is_none());
    Ok(())
}

// The docs of the errors: each says what it is, and `?` makes an `Error` of it.
#[trine::test(kernel = "both")]
async fn errors_say_what_they_are() -> Result {
    let (sender, receiver) = channel(1);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(TryRecvError::Empty.to_string(), "the channel is empty");
    assert!(matches!(Error::from(TryRecvError::Empty), Error::WouldBlock));
    sender.try_send("a").expect("there is room");
    let full = sender.try_send("b").expect_err("it is full");
    assert_eq!((full, full.into_inner()), (TrySendError::Full("b"), "b"));
    assert_eq!(full.to_string(), "the channel is full");
    assert_eq!(format!("{full:?}"), "Full(..)");
    assert!(matches!(Error::from(full), Error::WouldBlock));
    let kept = receiver.clone();
    drop((receiver, kept));
    let closed = sender.try_send("c").expect_err("it is closed");
    assert_eq!((closed, closed.into_inner()), (TrySendError::Closed("c"), "c"));
    assert_eq!(closed.to_string(), "the channel is closed: all receivers are gone");
    assert_eq!(format!("{closed:?}"), "Closed(..)");
    assert!(matches!(Error::from(closed), Error::Closed("the channel")));
    let refused = sender.send("d").await.expect_err("it is closed");
    assert_eq!(refused.to_string(), Error::Closed("the channel").to_string());
    assert!(std::error::Error::source(&refused).is_some());
    assert!(matches!(Error::from(refused), Error::Closed("the channel")));
    let (sender, receiver) = channel::<u32>(1);
    drop(sender);
    let closed = receiver.try_recv().expect_err("it is closed");
    assert_eq!(closed.to_string(), "the channel is closed: all senders are gone");
    assert!(matches!(Error::from(closed), Error::Closed("the channel")));
    Ok(())
}

// The docs of the errors: a cancellation stays one on its way through `Refused`.
#[trine::test(kernel = "both")]
async fn a_refusal_that_is_passed_on_is_absorbed_by_its_scope() -> Result {
    let (sender, _receiver) = channel(0);
    let scope = CancelScope::new();
    let left = scope.run(async |scope| {
        scope.cancel();
        sender.send(1).await?;
        Ok(())
    });
    assert!(left.await?.is_none());
    Ok(())
}

// The doc of `ChannelStatistics`.
#[trine::test(kernel = "both")]
async fn a_channel_knows_how_it_is() -> Result {
    let (sender, receiver) = channel(2);
    let numbers = |sender: &Sender<u32>| {
        let now = sender.statistics();
        (now.len, now.peak, now.waiting_to_send, now.waiting_to_receive)
    };
    assert_eq!((sender.statistics(), sender.statistics().capacity), (receiver.statistics(), 2));
    assert_eq!(numbers(&sender), (0, 0, 0, 0));
    let mut receive = Box::pin(receiver.recv());
    assert!(poll!(receive.as_mut()).is_pending());
    assert_eq!(numbers(&sender), (0, 0, 0, 1));
    sender.try_send(1).expect("somebody waits");
    assert_eq!(numbers(&sender), (0, 0, 0, 0), "it never lay in the queue");
    receive.await?;
    for number in 2..4 {
        sender.try_send(number).expect("there is room");
    }
    let mut send = Box::pin(sender.send(4));
    assert!(poll!(send.as_mut()).is_pending());
    assert_eq!(numbers(&sender), (2, 2, 1, 0));
    let statistics = sender.statistics();
    assert_eq!(format!("{sender:?}"), format!("Sender({statistics:?})"));
    assert_eq!(format!("{receiver:?}"), format!("Receiver({statistics:?})"));
    assert!(format!("{sender:?}").contains("len: 2, capacity: 2, peak: 2, senders: 1"));
    receiver.try_recv().expect("there are some");
    assert_eq!(numbers(&sender), (2, 2, 0, 0));
    while receiver.try_recv().is_ok() {}
    assert_eq!(numbers(&sender), (0, 2, 0, 0), "the peak stays");
    send.await?;
    let (sender, _receiver) = unbounded();
    for number in 0..1000 {
        sender.send(number).await?;
    }
    let statistics = sender.statistics();
    assert_eq!((statistics.capacity, statistics.peak, statistics.len), (usize::MAX, 1000, 1000));
    Ok(())
}

// The example of the docs, with every job seen once.
#[trine::test(kernel = "both", runs = 5)]
async fn workers_share_jobs_and_come_to_their_end() -> Result {
    let done = RefCell::new(Vec::new());
    let count = crate::common::fewer(200, 20);
    nursery(async |n| {
        let (jobs, queue): (Sender<u32>, Receiver<u32>) = channel(3);
        for _ in 0..4 {
            let (queue, done) = (queue.clone(), &done);
            n.spawn(async move {
                while let Some(job) = queue.recv().await? {
                    done.borrow_mut().push(job);
                }
                Ok(())
            });
        }
        drop(queue);
        for job in 0..count {
            jobs.send(job).await?;
        }
        Ok(())
    })
    .await?;
    let mut done = done.into_inner();
    done.sort_unstable();
    assert_eq!(done, (0..count).collect::<Vec<_>>());
    Ok(())
}

// J4: answers over a oneshot in a request that is dropped with the channel.
#[trine::test(kernel = "both")]
async fn whoever_asked_a_server_that_goes_away_is_told() -> Result {
    let (requests, server) = channel(4);
    let (answer, question) = oneshot::<u32>();
    assert!(requests.try_send(answer).is_ok());
    let scope = CancelScope::new();
    let mut wait = inside(&scope, question.recv());
    assert!(poll!(wait.as_mut()).is_pending());
    drop(server);
    let told = wait.await;
    assert!(!is_cancelled(&told) && matches!(told, Err(Error::Closed("the oneshot"))), "{told:?}");
    Ok(())
}

// P2: a waker that panics while a value is taken loses neither that one nor the one whose sender it wakes.
#[trine::test(kernel = "both")]
async fn a_waker_that_panics_takes_no_value_with_it() -> Result {
    for capacity in [0, 1] {
        let (sender, receiver) = channel(capacity);
        for number in 0..capacity {
            sender.try_send(number)?;
        }
        let (bell, waker) = Bell::new(true);
        let mut sending = Box::pin(sender.send(capacity));
        assert!(poll_with(sending.as_mut(), &waker).is_pending());
        let thrown = catch_unwind(AssertUnwindSafe(|| receiver.try_recv())).unwrap_err();
        assert_eq!((text(&*thrown), bell.rung()), ("a waker panics".to_owned(), 1));
        assert!(matches!(poll!(&mut sending), Poll::Ready(Ok(()))), "it was sent");
        for number in 0..=capacity {
            assert_eq!(receiver.try_recv(), Ok(number), "capacity {capacity}");
        }
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    }
    Ok(())
}
