//! A value that changes, and those who look at it.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use futures::poll;
use trine::sync::{WatchSender, watch};
use trine::{CancelScope, Error, Result, checkpoint, nursery};

use super::{Ending, OnDrop, Pending, State, cases, inside, is_cancelled};

fn is_closed<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Closed("the watch")))
}

// The doc of `wait_for`: every value is shown to those who wait for one, though it is gone at once.
#[trine::test(kernel = "both")]
async fn a_value_that_is_changed_back_at_once_is_not_missed() -> Result {
    let (sender, receiver) = watch(0);
    let mut receivers: Vec<_> = (0..5).map(|_| receiver.clone()).collect();
    let mut waits: Vec<_> = (1..)
        .zip(&mut receivers)
        .map(|(wanted, receiver)| Box::pin(receiver.wait_for(move |&value| value == wanted)))
        .collect();
    for wait in &mut waits {
        assert!(poll!(wait).is_pending());
    }
    for value in [3, 0, 5, 1, 4, 2, 0] {
        sender.send(value);
    }
    for (wanted, wait) in (1..).zip(waits) {
        assert_eq!(wait.await?, wanted, "what it was then, and not what it is now");
    }
    assert_eq!(*sender.borrow(), 0);
    // What they have seen is what they waited for: the rest is news.
    assert!(receivers.iter().filter(|receiver| receiver.has_changed()).count() == 5);
    Ok(())
}

// J2, C4, J8: a wait for a value in every state.
#[trine::test(kernel = "both")]
async fn a_wait_for_a_value_may_end_in_any_state() -> Result {
    for (state, ending) in cases() {
        let story = format!("{state:?}, {ending:?}");
        let (sender, mut receiver) = watch(0);
        let scope = CancelScope::new();
        let asked = Rc::new(Cell::new(0));
        let count = Rc::clone(&asked);
        let mut wait = inside(
            &scope,
            receiver.wait_for(move |&value| {
                count.set(count.get() + 1);
                value == 1
            }),
        );
        if state != State::NotPolled {
            assert!(poll!(wait.as_mut()).is_pending(), "{story}");
            assert_eq!(sender.statistics().waiting, 1, "{story}");
        }
        if state == State::Handed {
            sender.send(1);
            sender.send(2);
            assert_eq!(sender.statistics().waiting, 0, "{story}");
        }
        match ending {
            Ending::Dropped => drop(wait),
            Ending::Cancelled => {
                scope.cancel();
                // One that is cancelled is not asked any more.
                let before = asked.get();
                sender.send(1);
                assert_eq!(asked.get(), before, "{story}");
                match (state, wait.await) {
                    (State::Handed, ended) => assert_eq!(ended?, 1, "{story}"),
                    (_, ended) => assert!(is_cancelled(&ended), "{story}"),
                }
            }
            Ending::Finished => {
                if state != State::Handed {
                    sender.send(1);
                }
                assert_eq!(wait.await?, 1, "{story}");
            }
        }
        let before = asked.get();
        sender.send(1);
        assert_eq!(asked.get(), before, "{story}: nobody asks for one that has gone");
        assert_eq!(sender.statistics().waiting, 0, "{story}: J8");
        assert_eq!(Rc::strong_count(&asked), 1, "{story}: nor is anything of it left");
        assert_eq!(receiver.wait_for(|&value| value == 1).await?, 1, "{story}");
    }
    Ok(())
}

// The doc of `changed`, in every state of the wait.
#[trine::test(kernel = "both")]
async fn a_change_that_was_not_seen_is_told_again() -> Result {
    for (state, ending) in cases() {
        let story = format!("{state:?}, {ending:?}");
        let (sender, mut receiver) = watch(0);
        let scope = CancelScope::new();
        let mut wait = inside(&scope, receiver.changed());
        if state != State::NotPolled {
            assert!(poll!(wait.as_mut()).is_pending(), "{story}");
        }
        if state == State::Handed {
            sender.send(1);
        }
        let mut is_seen = false;
        match ending {
            Ending::Dropped => drop(wait),
            Ending::Cancelled => {
                scope.cancel();
                is_seen = !is_cancelled(&wait.await);
                assert_eq!(is_seen, state == State::Handed, "{story}");
            }
            Ending::Finished => {
                if state != State::Handed {
                    sender.send(1);
                }
                wait.await?;
                is_seen = true;
            }
        }
        assert_eq!(receiver.has_changed(), state == State::Handed && !is_seen, "{story}");
        if !is_seen {
            if state != State::Handed {
                sender.send(1);
            }
            receiver.changed().await?;
        }
        assert!(!receiver.has_changed(), "{story}");
        assert!(poll!(Box::pin(receiver.changed())).is_pending(), "{story}");
        assert_eq!(sender.statistics().waiting, 0, "{story}: J8");
    }
    Ok(())
}

// The docs of `changed`, `borrow`, `borrow_and_update`, `has_changed`, `subscribe` and `clone`.
#[trine::test(kernel = "both")]
async fn each_receiver_knows_what_it_has_seen() -> Result {
    let (sender, mut receiver) = watch("a");
    assert!(!receiver.has_changed(), "the first value counts as seen");
    sender.send("b");
    sender.send("c");
    assert_eq!(*receiver.borrow(), "c");
    assert!(receiver.has_changed(), "looking is not seeing");
    let mut clone = receiver.clone();
    let mut late = sender.subscribe();
    assert!(clone.has_changed() && !late.has_changed());
    receiver.changed().await?;
    assert!(!receiver.has_changed(), "two changes were seen as one");
    assert_eq!(*clone.borrow_and_update(), "c");
    assert!(!clone.has_changed());
    sender.send_modify(|value| *value = "d");
    assert_eq!(late.wait_for(|&value| value == "d").await?, "d");
    assert!(receiver.has_changed() && clone.has_changed() && !late.has_changed());
    // A change that comes after the one it was woken by is another one.
    let mut wait = Box::pin(late.changed());
    assert!(poll!(wait.as_mut()).is_pending());
    sender.send("e");
    sender.send("f");
    wait.await?;
    assert_eq!((*late.borrow(), late.has_changed()), ("f", true));
    late.changed().await?;
    assert!(!late.has_changed());
    Ok(())
}

// J3: what was changed before the end is still told; then the end, for good.
#[trine::test(kernel = "both")]
async fn when_the_last_sender_goes_all_who_wait_are_told() -> Result {
    let (sender, mut receiver) = watch(0);
    let (mut changed, mut fitting, mut behind) =
        (receiver.clone(), receiver.clone(), receiver.clone());
    let other = sender.clone();
    sender.send(1);
    changed.changed().await?;
    let mut waits: [Pending<'_, Result>; 2] = [
        Box::pin(changed.changed()),
        Box::pin(async { fitting.wait_for(|&value| value == 2).await.map(drop) }),
    ];
    for wait in &mut waits {
        assert!(poll!(wait).is_pending());
    }
    drop(sender);
    assert!(poll!(&mut waits[0]).is_pending());
    drop(other);
    for wait in waits {
        assert!(is_closed(&wait.await));
    }
    assert_eq!((receiver.statistics().senders, receiver.statistics().waiting), (0, 0));
    behind.changed().await?;
    assert!(is_closed(&behind.changed().await) && is_closed(&behind.changed().await));
    // The value stays, and whoever wants it as it is has it.
    assert_eq!(receiver.wait_for(|&value| value == 1).await?, 1);
    assert!(is_closed(&receiver.wait_for(|&value| value == 2).await));
    assert_eq!(*receiver.borrow(), 1);
    Ok(())
}

// A8: in a cancelled scope nothing is seen, though it is there.
#[trine::test(kernel = "both")]
async fn in_a_cancelled_scope_nothing_is_seen() -> Result {
    let (sender, mut receiver) = watch(0);
    sender.send(1);
    let scope = CancelScope::new();
    scope.cancel();
    let left = scope.run(async |_| {
        assert!(is_cancelled(&receiver.wait_for(|_| panic!("nobody asks")).await));
        receiver.changed().await
    });
    assert!(left.await?.is_none());
    assert!(receiver.has_changed());
    assert_eq!(receiver.wait_for(|_| true).await?, 1);
    Ok(())
}

// P2: a predicate that panics does so in whoever changes the value; the others are told all the same.
#[trine::test(kernel = "both")]
async fn a_predicate_that_panics_keeps_nobody_from_being_told() -> Result {
    let (sender, receiver) = watch(0);
    let mut receivers: Vec<_> = (0..4).map(|_| receiver.clone()).collect();
    let [first, bad, last, any] = &mut receivers[..] else { unreachable!("there are four") };
    let mut first = Box::pin(first.wait_for(|&value| value == 1));
    let mut bad =
        Box::pin(bad.wait_for(|&value| if value == 1 { panic!("asked") } else { value == 2 }));
    let mut last = Box::pin(last.wait_for(|&value| value == 1));
    let mut any = Box::pin(any.changed());
    assert!(poll!(first.as_mut()).is_pending() && poll!(bad.as_mut()).is_pending());
    assert!(poll!(last.as_mut()).is_pending() && poll!(any.as_mut()).is_pending());
    let sent = catch_unwind(AssertUnwindSafe(|| sender.send(1)));
    assert_eq!(*sent.unwrap_err().downcast::<&str>().unwrap(), "asked");
    assert_eq!((first.await?, last.await?), (1, 1));
    assert!(poll!(any.as_mut()).is_ready(), "nor those who wait for any change");
    assert!(poll!(bad.as_mut()).is_pending(), "it was told nothing, and waits on");
    sender.send(2);
    assert_eq!(bad.await?, 2);
    // At its first poll it panics in the one who waits, and nothing stays borrowed.
    let mut receiver = receiver;
    let mut wait = Box::pin(receiver.wait_for(|_| panic!("asked")));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let polled = catch_unwind(AssertUnwindSafe(|| wait.as_mut().poll(&mut cx).is_ready()));
    assert!(polled.is_err());
    drop(wait);
    sender.send(3);
    assert_eq!((*sender.borrow(), sender.statistics().waiting), (3, 0));
    Ok(())
}

// A change that panics half-way leaves the value usable.
#[trine::test(kernel = "both")]
async fn a_change_that_panics_leaves_nothing_borrowed() -> Result {
    let (sender, receiver) = watch(0);
    let changed = catch_unwind(AssertUnwindSafe(|| sender.send_modify(|_| panic!("half-way"))));
    assert!(changed.is_err());
    sender.send(1);
    assert_eq!(*receiver.borrow(), 1);
    Ok(())
}

// A predicate may cancel the one that it is asked for, or drop it, and look at the watch.
#[trine::test(kernel = "both")]
async fn a_predicate_may_end_the_wait_that_it_belongs_to() -> Result {
    let (sender, receiver) = watch(0);
    let sender = Rc::new(sender);
    for (is_dropped, fits) in [(false, true), (true, true), (true, false)] {
        let around = Rc::new(CancelScope::new());
        let cancels = Rc::clone(&around);
        let slot: Rc<RefCell<Option<Pending<'static, Result<u32>>>>> = Rc::default();
        let (inner, looks) = (Rc::downgrade(&slot), Rc::clone(&sender));
        // It is dropped last of all, wherever that may be.
        let last = {
            let looks = Rc::clone(&sender);
            OnDrop(move || assert_eq!(looks.statistics().senders, 1))
        };
        let mut receiver = receiver.clone();
        *slot.borrow_mut() = Some(Box::pin(async move {
            let scope = &*around;
            let wait = async {
                receiver
                    .wait_for(move |&value| {
                        let _kept = &last;
                        assert!(looks.statistics().receivers > 0);
                        if value == 0 {
                            return false;
                        }
                        match is_dropped {
                            true => drop(inner.upgrade().map(|slot| slot.take())),
                            false => cancels.cancel(),
                        }
                        fits
                    })
                    .await
            };
            scope.run(async |_| Ok(wait.await)).await.unwrap().unwrap()
        }));
        // The slot is not borrowed while the wait is polled.
        let mut wait = slot.take().expect("put there");
        assert!(poll!(wait.as_mut()).is_pending());
        *slot.borrow_mut() = Some(wait);
        sender.send(1);
        let left = slot.take();
        match left {
            None => assert!(is_dropped),
            // C4: the cancellation came first, and yet it got something: that it keeps.
            Some(wait) => assert_eq!(wait.await?, 1),
        }
        assert_eq!(sender.statistics().waiting, 0);
        sender.send(0);
    }
    Ok(())
}

/// A value and a predicate's belonging that look at their watch while they are dropped.
fn looks_when_dropped<T: 'static>(
    sender: &Rc<RefCell<Option<WatchSender<T>>>>,
    seen: &Rc<Cell<u32>>,
) -> OnDrop<impl FnMut() + use<T>> {
    let (sender, seen) = (Rc::downgrade(sender), Rc::clone(seen));
    OnDrop(move || {
        seen.set(seen.get() + 1);
        let Some(sender) = sender.upgrade() else { return };
        // Nobody may hold the slot while it sends, but the watch itself is free.
        if let Ok(sender) = sender.try_borrow() {
            if let Some(sender) = &*sender {
                assert!(sender.statistics().changes < 100);
            }
        }
    })
}

// P2: what a predicate owns is dropped when nothing is borrowed, however its wait ends.
#[trine::test(kernel = "both")]
async fn what_a_predicate_owns_may_look_at_the_watch_while_it_is_dropped() -> Result {
    for ending in 0..4 {
        let (sender, mut receiver) = watch(0);
        let looker = Rc::new(receiver.clone());
        let seen = Rc::new(Cell::new(0));
        let count = Rc::clone(&seen);
        let owned = OnDrop(move || {
            count.set(count.get() + 1);
            assert!(looker.statistics().waiting <= 1);
            assert!(*looker.borrow() < 9);
        });
        let mut wait = Box::pin(receiver.wait_for(move |&value| {
            let _owned = &owned;
            value == 1
        }));
        assert!(poll!(wait.as_mut()).is_pending());
        match ending {
            0 => {
                sender.send(1);
                assert_eq!(wait.await?, 1);
            }
            1 => {
                drop(sender);
                assert!(is_closed(&wait.await));
            }
            2 => drop(wait),
            _ => {
                let scope = CancelScope::new();
                scope.cancel();
                let left = scope.run(async |_| wait.await);
                assert!(left.await?.is_none());
            }
        }
        assert_eq!(seen.get(), 1, "ending {ending}");
    }
    Ok(())
}

// P2: the former value is dropped when nothing is borrowed.
#[trine::test(kernel = "both")]
async fn a_former_value_may_look_at_the_watch_while_it_is_dropped() -> Result {
    type Boxed = OnDrop<Box<dyn FnMut()>>;
    let slot: Rc<RefCell<Option<WatchSender<Boxed>>>> = Rc::default();
    let seen = Rc::new(Cell::new(0));
    let value = || {
        let mut inner = looks_when_dropped(&slot, &seen);
        OnDrop(Box::new(move || (inner.0)()) as Box<dyn FnMut()>)
    };
    let (sender, receiver) = watch(value());
    *slot.borrow_mut() = Some(sender);
    for _ in 0..3 {
        let new = value();
        slot.borrow().as_ref().expect("put there").send(new);
    }
    assert!(seen.get() >= 3, "{}", seen.get());
    drop(slot.take());
    drop(receiver);
    // Each value says it twice: itself, and what it owns.
    assert_eq!(seen.get(), 8);
    Ok(())
}

// The doc of `watch`, in tasks: a state machine whose short states are all seen.
#[trine::test(kernel = "both", runs = 5)]
async fn a_task_follows_every_step_of_another() -> Result {
    let (sender, receiver) = watch(0);
    let seen = &RefCell::new(Vec::new());
    nursery(async |n| {
        for _ in 0..3 {
            let mut receiver = receiver.clone();
            n.spawn(async move {
                for step in 1..=20 {
                    let value = receiver.wait_for(move |&value| value >= step).await?;
                    seen.borrow_mut().push(value);
                }
                Ok(())
            });
        }
        for step in 1..=20 {
            checkpoint().await?;
            sender.send(step);
        }
        Ok(())
    })
    .await?;
    let seen = seen.borrow();
    assert_eq!(seen.iter().filter(|&&value| value == 20).count(), 3);
    assert_eq!(seen.len(), 60);
    Ok(())
}

// The doc of `WatchStatistics`.
#[trine::test(kernel = "both")]
async fn a_watch_knows_how_it_is() -> Result {
    let (sender, mut receiver) = watch(7);
    let other = (sender.clone(), receiver.clone(), sender.subscribe());
    sender.send(8);
    sender.send_modify(|value| *value += 1);
    receiver.changed().await?;
    {
        let mut wait = Box::pin(receiver.changed());
        assert!(poll!(wait.as_mut()).is_pending());
        let statistics = sender.statistics();
        assert_eq!((statistics.changes, statistics.waiting), (2, 1));
        assert_eq!((statistics.senders, statistics.receivers), (2, 3));
    }
    drop(other);
    let statistics = receiver.statistics();
    assert_eq!(statistics, sender.statistics());
    assert_eq!((statistics.senders, statistics.receivers, statistics.waiting), (1, 1, 0));
    let shown = format!("{sender:?}");
    assert_eq!(shown, format!("WatchSender {{ value: 9, statistics: {statistics:?} }}"));
    assert!(format!("{receiver:?}").starts_with("WatchReceiver { value: 9, "));
    sender.send_modify(|_| assert!(format!("{receiver:?}").contains("<being changed>")));
    Ok(())
}
