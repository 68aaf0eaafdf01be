//! Every value to everybody.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use futures::poll;
use trine::sync::{BroadcastReceiver, BroadcastSender, Heard, Missed, broadcast};
use trine::{CancelScope, Result, checkpoint, nursery};

use crate::common::random::Random;

use super::{Ending, State, cases, inside, is_cancelled};
use crate::common::fewer;

// J1, J2, C4, J8: a wait for the next value in every state.
#[trine::test(kernel = "both")]
async fn a_wait_that_ends_in_any_state_loses_nothing() -> Result {
    for (state, ending) in cases() {
        let story = format!("{state:?}, {ending:?}");
        let (sender, mut receiver) = broadcast(4);
        let scope = CancelScope::new();
        let mut wait = inside(&scope, receiver.recv());
        if state != State::NotPolled {
            assert!(poll!(wait.as_mut()).is_pending(), "{story}");
            assert_eq!(sender.statistics().waiting, 1, "{story}");
        }
        if state == State::Handed {
            assert_eq!(sender.send(1), 1);
            assert_eq!(sender.statistics().waiting, 0, "{story}");
        }
        let mut heard = Vec::new();
        match ending {
            Ending::Dropped => drop(wait),
            Ending::Cancelled => {
                scope.cancel();
                let received = wait.await;
                match state {
                    State::Handed => heard.push(received?),
                    _ => assert!(is_cancelled(&received), "{story}"),
                }
            }
            Ending::Finished => {
                if state != State::Handed {
                    sender.send(1);
                }
                heard.push(wait.await?);
            }
        }
        assert_eq!(sender.statistics().waiting, 0, "{story}: J8");
        if heard.is_empty() && state != State::Handed {
            sender.send(1);
        }
        sender.send(2);
        drop(sender);
        while heard.last() != Some(&Heard::End) {
            heard.push(receiver.recv().await?);
        }
        assert_eq!(heard, [Heard::Value(1), Heard::Value(2), Heard::End], "{story}");
        assert_eq!(receiver.recv().await?, Heard::End, "{story}: J3, for good");
    }
    Ok(())
}

// The doc of `broadcast`: a receiver that lags behind is told by how many, and goes on with the oldest.
#[trine::test(kernel = "both")]
async fn one_that_lags_behind_is_told_exactly_how_many_it_has_missed() -> Result {
    for capacity in 0..4_u64 {
        let kept = capacity.max(1);
        for sent in 0..9_u64 {
            let (sender, mut receiver) = broadcast(capacity as usize);
            for number in 0..sent {
                assert_eq!(sender.send(number), 1);
            }
            let missed = sent.saturating_sub(kept);
            if missed > 0 {
                assert_eq!(receiver.recv().await?, Heard::Missed(missed));
            }
            for number in missed..sent {
                assert_eq!(receiver.recv().await?, Heard::Value(number));
            }
            assert_eq!(receiver.try_recv(), None);
        }
    }
    Ok(())
}

// The same for one that waits: woken by a value that is gone when it looks.
#[trine::test(kernel = "both")]
async fn one_that_is_woken_too_late_is_told_so() -> Result {
    let (sender, mut receiver) = broadcast(2);
    let mut wait = Box::pin(receiver.recv());
    assert!(poll!(wait.as_mut()).is_pending());
    for number in 0..5 {
        sender.send(number);
    }
    assert_eq!(wait.await?, Heard::Missed(3));
    // Between being told and the next value it may lag behind again.
    sender.send(5);
    assert_eq!(receiver.recv().await?, Heard::Missed(1));
    assert_eq!(receiver.recv().await?, Heard::Value(4));
    drop(sender);
    assert_eq!(receiver.recv().await?, Heard::Value(5));
    assert_eq!(receiver.recv().await?, Heard::End);
    Ok(())
}

// The docs of `subscribe` and `clone`.
#[trine::test(kernel = "both")]
async fn a_late_subscriber_hears_what_comes_and_a_clone_what_is_left() -> Result {
    let (sender, mut first) = broadcast(3);
    sender.send("a");
    sender.send("b");
    let mut late = sender.subscribe();
    assert_eq!(first.recv().await?, Heard::Value("a"));
    let mut clone = first.clone();
    assert_eq!(sender.send("c"), 3);
    for receiver in [&mut first, &mut clone] {
        assert_eq!(receiver.recv().await?, Heard::Value("b"));
        assert_eq!(receiver.recv().await?, Heard::Value("c"));
    }
    assert_eq!(late.recv().await?, Heard::Value("c"));
    // Nobody listens: it goes to nobody, and one who comes then has not missed it.
    drop((first, clone, late));
    assert_eq!((sender.send("d"), sender.statistics().kept), (0, 0));
    let mut later = sender.subscribe();
    assert_eq!(later.try_recv(), None);
    sender.send("e");
    assert_eq!(later.recv().await?, Heard::Value("e"));
    Ok(())
}

// J3: all who wait hear the end, and others what is left before it.
#[trine::test(kernel = "both")]
async fn when_the_last_sender_goes_all_who_wait_hear_the_end() -> Result {
    let (sender, receiver) = broadcast::<u32>(2);
    let other = sender.clone();
    let mut receivers: Vec<_> = (0..3).map(|_| receiver.clone()).collect();
    let mut waits: Vec<_> = receivers.iter_mut().map(|one| Box::pin(one.recv())).collect();
    for wait in &mut waits {
        assert!(poll!(wait).is_pending());
    }
    drop(sender);
    assert!(poll!(&mut waits[0]).is_pending());
    drop(other);
    for wait in waits {
        assert_eq!(wait.await?, Heard::End);
    }
    for mut receiver in receivers {
        assert_eq!(receiver.try_recv(), Some(Heard::End));
        assert_eq!(receiver.clone().recv().await?, Heard::End);
    }
    Ok(())
}

// A8: in a cancelled scope nothing is taken, though it is there.
#[trine::test(kernel = "both")]
async fn in_a_cancelled_scope_nothing_is_heard() -> Result {
    let (sender, mut receiver) = broadcast(2);
    sender.send(1);
    let scope = CancelScope::new();
    scope.cancel();
    let left = scope.run(async |_| {
        assert!(is_cancelled(&receiver.recv().await));
        receiver.recv().await.map(drop)
    });
    assert!(left.await?.is_none());
    assert_eq!(receiver.recv().await?, Heard::Value(1));
    Ok(())
}

/// A value that sends once more when its last copy is dropped.
#[derive(Clone)]
struct Echo(Rc<Inner>);

struct Inner {
    sender: RefCell<Option<BroadcastSender<Echo>>>,
    dropped: Rc<Cell<u32>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.dropped.set(self.dropped.get() + 1);
        if let Some(sender) = self.sender.take() {
            assert!(sender.statistics().kept <= 2);
            sender.send(Echo::silent(&self.dropped));
        }
    }
}

impl Echo {
    fn silent(dropped: &Rc<Cell<u32>>) -> Echo {
        Echo(Rc::new(Inner { sender: RefCell::default(), dropped: Rc::clone(dropped) }))
    }

    fn new(sender: &BroadcastSender<Echo>, dropped: &Rc<Cell<u32>>) -> Echo {
        let echo = Echo::silent(dropped);
        *echo.0.sender.borrow_mut() = Some(sender.clone());
        echo
    }
}

// P2: what is thrown away is dropped when nothing is borrowed.
#[trine::test(kernel = "both")]
async fn a_value_may_send_another_while_it_is_thrown_away() -> Result {
    let dropped = Rc::new(Cell::new(0));
    let (sender, receiver) = broadcast(2);
    for _ in 0..3 {
        sender.send(Echo::new(&sender, &dropped));
    }
    // The third one threw the first away, which sent a silent one, which threw the second away, whose
    // silent one threw the third away, and so on: two silent ones are left.
    assert_eq!(sender.statistics().kept, 2);
    assert_eq!((dropped.get(), sender.statistics().sent), (4, 6));
    drop(receiver);
    assert_eq!((dropped.get(), sender.statistics().kept), (6, 0));
    let receiver = sender.subscribe();
    sender.send(Echo::new(&sender, &dropped));
    drop(receiver);
    assert_eq!(dropped.get(), 8, "it sent one to nobody, which is gone too");
    Ok(())
}

/// A receiver as the docs describe it.
struct Twin {
    receiver: BroadcastReceiver<u64>,
    next: u64,
}

// The doc of `broadcast`, in random programs.
#[trine::test(kernel = "both")]
async fn the_broadcast_agrees_with_a_naive_one_after_every_step_of_random_programs() -> Result {
    for seed in 0..fewer(200, 3) {
        let mut random = Random(seed);
        let capacity = random.below(4);
        let (sender, receiver) = broadcast(capacity);
        let mut senders = vec![sender];
        let mut twins = vec![Twin { receiver, next: 0 }];
        let (mut kept, mut sent) = (VecDeque::new(), 0);
        for step in 0..fewer(150, 40) {
            let story = format!("seed {seed}, step {step}");
            let at = random.below(twins.len().max(1));
            match random.below(12) {
                0..4 if !senders.is_empty() => {
                    assert_eq!(senders[0].send(sent), twins.len(), "{story}");
                    if !twins.is_empty() {
                        kept.push_back(sent);
                        sent += 1;
                        if kept.len() > capacity.max(1) {
                            kept.pop_front();
                        }
                    }
                }
                4..9 if !twins.is_empty() => {
                    let twin = &mut twins[at];
                    let oldest = sent - kept.len() as u64;
                    let expected = if twin.next < oldest {
                        let missed = oldest - twin.next;
                        twin.next = oldest;
                        Some(Heard::Missed(missed))
                    } else if twin.next < sent {
                        twin.next += 1;
                        Some(Heard::Value(twin.next - 1))
                    } else {
                        senders.is_empty().then_some(Heard::End)
                    };
                    let heard = match (random.below(2), expected) {
                        (0, Some(_)) => Some(twin.receiver.recv().await?),
                        (1, None) => {
                            assert!(poll!(Box::pin(twin.receiver.recv())).is_pending(), "{story}");
                            None
                        }
                        _ => twin.receiver.try_recv(),
                    };
                    assert_eq!(heard, expected, "{story}");
                }
                9 if !twins.is_empty() && twins.len() < 5 => {
                    let Twin { receiver, next } = &twins[at];
                    let twin = Twin { receiver: receiver.clone(), next: *next };
                    twins.push(twin);
                }
                10 if !senders.is_empty() && twins.len() < 5 => {
                    twins.push(Twin { receiver: senders[0].subscribe(), next: sent });
                }
                11 if !twins.is_empty() && random.below(2) == 0 => {
                    twins.swap_remove(at);
                    if twins.is_empty() {
                        kept.clear();
                    }
                }
                11 if senders.len() < 2 && !senders.is_empty() => senders.push(senders[0].clone()),
                11 if senders.len() > 1 || random.below(8) == 0 => drop(senders.pop()),
                _ => {}
            }
            if let Some(sender) = senders.first() {
                let statistics = sender.statistics();
                assert_eq!((statistics.sent, statistics.kept), (sent, kept.len()), "{story}");
                assert_eq!(statistics.receivers, twins.len(), "{story}");
                assert_eq!((statistics.senders, statistics.waiting), (senders.len(), 0), "{story}");
            }
            if step % 8 == 0 {
                trine::yield_shielded().await;
            }
        }
    }
    Ok(())
}

// In tasks: with a capacity that suffices everybody hears everything in order.
#[trine::test(kernel = "both", runs = 5)]
async fn everybody_hears_everything_in_order() -> Result {
    let count = fewer(60, 6);
    let (sender, receiver) = broadcast(count as usize);
    let ended = &Cell::new(0);
    nursery(async |n| {
        for _ in 0..4 {
            let mut receiver = receiver.clone();
            n.spawn(async move {
                for number in 0..count {
                    assert_eq!(receiver.recv().await?, Heard::Value(number));
                }
                assert_eq!(receiver.recv().await?, Heard::End);
                ended.set(ended.get() + 1);
                Ok(())
            });
        }
        for number in 0..count {
            assert_eq!(sender.send(number), 5);
            if number % 3 == 0 {
                checkpoint().await?;
            }
        }
        drop(sender);
        Ok(())
    })
    .await?;
    assert_eq!(ended.get(), 4);
    Ok(())
}

// The docs of `Heard`, `Missed` and `BroadcastStatistics`.
#[trine::test(kernel = "both")]
async fn a_broadcast_knows_how_it_is() -> Result {
    assert_eq!(Heard::Value(1).value(), Ok(Some(1)));
    assert_eq!(Heard::<u32>::End.value(), Ok(None));
    assert_eq!(Heard::<u32>::Missed(3).value(), Err(Missed(3)));
    let text = Missed(3).to_string();
    assert_eq!(text, "lagged behind: 3 values were thrown away before they were heard");
    let (sender, mut receiver) = broadcast(0);
    let _other = sender.clone();
    {
        let mut wait = Box::pin(receiver.recv());
        assert!(poll!(wait.as_mut()).is_pending());
        assert_eq!(sender.statistics().waiting, 1);
    }
    sender.send(1);
    sender.send(2);
    let statistics = sender.statistics();
    assert_eq!(statistics, receiver.statistics());
    assert_eq!((statistics.sent, statistics.kept, statistics.capacity), (2, 1, 1));
    assert_eq!((statistics.senders, statistics.receivers, statistics.waiting), (2, 1, 0));
    assert_eq!(format!("{sender:?}"), format!("BroadcastSender({statistics:?})"));
    assert_eq!(format!("{receiver:?}"), format!("BroadcastReceiver({statistics:?})"));
    Ok(())
}
