//! One value, once.

use std::cell::Cell;
use std::rc::Rc;

use futures::poll;
use trine::sync::oneshot;
use trine::{CancelScope, Error, Result, nursery};

use super::{Ending, OnDrop, State, Store, cases, inside, is_cancelled};

fn is_closed<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Closed("the oneshot")))
}

// J1, J2, C4: the value is had once, whatever has become of the first wait for it.
#[trine::test(kernel = "both")]
async fn the_value_survives_a_wait_that_ends_in_any_state() -> Result {
    for (state, ending) in cases() {
        let story = format!("{state:?}, {ending:?}");
        let store = Store::default();
        let (sender, receiver) = oneshot();
        let mut sender = Some(sender);
        let scope = CancelScope::new();
        let mut wait = inside(&scope, receiver.recv());
        if state != State::NotPolled {
            assert!(poll!(wait.as_mut()).is_pending(), "{story}");
        }
        if state == State::Handed {
            sender.take().unwrap().send(store.item(1)).expect("it is wanted");
        }
        let mut had = None;
        match ending {
            Ending::Dropped => drop(wait),
            Ending::Cancelled => {
                scope.cancel();
                let received = wait.await;
                match state {
                    State::Handed => had = Some(received?),
                    _ => assert!(is_cancelled(&received), "{story}"),
                }
            }
            Ending::Finished => {
                if let Some(sender) = sender.take() {
                    sender.send(store.item(1)).expect("it is wanted");
                }
                had = Some(wait.await?);
            }
        }
        if let Some(sender) = sender {
            assert!(matches!(receiver.try_recv(), Err(Error::WouldBlock)), "{story}");
            sender.send(store.item(1)).expect("it is wanted");
        }
        // What was left is asked for again.
        let had = match had {
            Some(had) => had,
            None => receiver.recv().await?,
        };
        assert_eq!((had.number, store.alive()), (1, 1), "{story}");
        assert!(is_closed(&receiver.recv().await), "{story}: it was taken");
        assert!(is_closed(&receiver.try_recv()), "{story}: it was taken");
    }
    Ok(())
}

// J3: a sender that has nothing to say says so.
#[trine::test(kernel = "both")]
async fn a_sender_that_goes_without_a_word_ends_the_wait() -> Result {
    let (sender, receiver) = oneshot::<u32>();
    let mut wait = Box::pin(receiver.recv());
    assert!(poll!(wait.as_mut()).is_pending());
    drop(sender);
    assert!(is_closed(&wait.await));
    assert!(is_closed(&receiver.recv().await) && is_closed(&receiver.try_recv()), "for good");
    Ok(())
}

// J3: all who wait, whether the value goes to one of them or there is none.
#[trine::test(kernel = "both")]
async fn of_several_waits_one_has_the_value_and_none_waits_for_ever() -> Result {
    for is_sent in [true, false] {
        let (sender, receiver) = oneshot();
        let mut waits = [0, 1, 2].map(|_| Box::pin(receiver.recv()));
        for wait in &mut waits {
            assert!(poll!(wait).is_pending());
        }
        match is_sent {
            true => sender.send(5).expect("it is wanted"),
            false => drop(sender),
        }
        let [first, second, third] = waits;
        // J2: what the first one was handed goes to the next.
        drop(first);
        let second = second.await;
        match is_sent {
            true => assert_eq!(second?, 5),
            false => assert!(is_closed(&second)),
        }
        assert!(is_closed(&third.await), "sent: {is_sent}");
    }
    Ok(())
}

// J4: nobody wants it any more, and the value comes back.
#[trine::test(kernel = "both")]
async fn what_nobody_wants_comes_back() -> Result {
    let store = Store::default();
    let (sender, receiver) = oneshot();
    assert!(!sender.is_closed());
    drop(receiver);
    assert!(sender.is_closed());
    let back = sender.send(store.item(3)).expect_err("nobody wants it");
    assert_eq!(back.number, 3);
    drop(back);
    // And what was sent and not received is dropped with the receiver.
    let (sender, receiver) = oneshot();
    sender.send(store.item(4)).expect("it is wanted");
    assert_eq!(store.alive(), 1);
    drop(receiver);
    assert_eq!(store.alive(), 0);
    Ok(())
}

// J8, C4: waiting for the receiver to go, in every state.
#[trine::test(kernel = "both")]
async fn closed_ends_when_the_receiver_goes() -> Result {
    for (state, ending) in cases() {
        let story = format!("{state:?}, {ending:?}");
        let (sender, receiver) = oneshot::<u32>();
        let mut receiver = Some(receiver);
        let scope = CancelScope::new();
        let mut wait = inside(&scope, sender.closed());
        if state != State::NotPolled {
            assert!(poll!(wait.as_mut()).is_pending(), "{story}");
        }
        if state == State::Handed {
            drop(receiver.take());
        }
        match ending {
            Ending::Dropped => drop(wait),
            Ending::Cancelled => {
                scope.cancel();
                assert_eq!(is_cancelled(&wait.await), state != State::Handed, "{story}");
            }
            Ending::Finished => {
                drop(receiver.take());
                wait.await?;
            }
        }
        if receiver.is_some() {
            assert!(poll!(Box::pin(sender.closed())).is_pending(), "{story}");
            drop(receiver);
        }
        sender.closed().await?;
        assert!(sender.is_closed(), "{story}");
    }
    Ok(())
}

// The doc of `closed`: work that nobody wants is stopped.
#[trine::test(kernel = "both")]
async fn a_worker_stops_when_nobody_wants_its_answer() -> Result {
    let stopped = Cell::new(false);
    nursery(async |n| {
        let (answer, question) = oneshot::<u32>();
        let stopped = &stopped;
        n.spawn(async move {
            answer.closed().await?;
            stopped.set(true);
            Ok(())
        });
        trine::checkpoint().await?;
        assert!(!stopped.get());
        drop(question);
        Ok(())
    })
    .await?;
    assert!(stopped.get());
    Ok(())
}

// A8: in a cancelled scope the value stays where it is.
#[trine::test(kernel = "both")]
async fn in_a_cancelled_scope_nothing_is_received() -> Result {
    let (sender, receiver) = oneshot();
    sender.send(1).expect("it is wanted");
    let (gone, other) = oneshot::<u32>();
    drop(other);
    let scope = CancelScope::new();
    scope.cancel();
    let left = scope.run(async |_| {
        assert!(is_cancelled(&receiver.recv().await));
        assert!(is_cancelled(&gone.closed().await));
        receiver.recv().await.map(drop)
    });
    assert!(left.await?.is_none());
    assert_eq!(receiver.recv().await?, 1);
    Ok(())
}

// P2: the value may do anything when it is dropped.
#[trine::test(kernel = "both")]
async fn a_value_may_use_its_oneshot_while_it_is_dropped_with_it() -> Result {
    let (first, first_end) = oneshot();
    let first_end = Rc::new(first_end);
    let (second, second_end) = oneshot::<u32>();
    let second = Rc::new(second);
    let watched = Rc::clone(&second);
    let seen = Rc::new(Cell::new(0));
    let count = Rc::clone(&seen);
    // One that looks at another oneshot, whose receiver it owns.
    let mut held = Some(second_end);
    let value = OnDrop(move || {
        drop(held.take());
        assert!(watched.is_closed());
        count.set(count.get() + 1);
    });
    assert!(first.send(value).is_ok());
    let mut wait = Box::pin(second.closed());
    assert!(poll!(wait.as_mut()).is_pending());
    drop(first_end);
    assert_eq!(seen.get(), 1);
    wait.await
}

// The ends show what they know.
#[trine::test(kernel = "both")]
async fn a_oneshot_shows_how_it_is() -> Result {
    let (sender, receiver) = oneshot();
    assert_eq!(format!("{sender:?}"), "OneshotSender { closed: false }");
    assert_eq!(format!("{receiver:?}"), "OneshotReceiver(waiting)");
    sender.send(1).expect("it is wanted");
    assert_eq!(format!("{receiver:?}"), "OneshotReceiver(sent)");
    receiver.recv().await?;
    assert_eq!(format!("{receiver:?}"), "OneshotReceiver(closed)");
    let (sender, receiver) = oneshot::<u32>();
    drop(receiver);
    assert_eq!(format!("{sender:?}"), "OneshotSender { closed: true }");
    Ok(())
}
