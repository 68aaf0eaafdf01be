//! One waiter of a channel in every state, with every ending, alone and with somebody behind it.

use futures::poll;
use trine::sync::{Receiver, TryRecvError, TrySendError, channel, unbounded};
use trine::{CancelScope, Error, Result, checkpoint, move_on_after, nursery, yield_shielded};

use super::{Ending, Item, State, Store, cases, inside, is_cancelled};
use crate::common::{BUDGET, turns};

/// Numbers that are sent in each case, from 1 on.
const ALL: u32 = 5;

fn number(received: Result<Option<Item>>) -> u32 {
    received.expect("received").expect("not at its end").number
}

// J1: whoever waits owns an item the moment it is sent. J2: cancelled it loses nothing; dropped it passes
// on what it was handed. C4: what it was woken with it keeps. J8: nothing of it stays.
#[trine::test(kernel = "both")]
async fn a_receiver_that_ends_in_any_state_loses_nothing_and_keeps_the_order() -> Result {
    for (state, ending) in cases() {
        for capacity in [0, 1, 3, usize::MAX] {
            for is_followed in [false, true] {
                let story = format!("{state:?}, {ending:?}, {capacity}, followed: {is_followed}");
                let numbers = end_a_receiver(state, ending, capacity, is_followed, &story).await?;
                assert_eq!(numbers, (1..=ALL).collect::<Vec<_>>(), "{story}");
            }
        }
    }
    Ok(())
}

/// The numbers in the order in which they were owned.
async fn end_a_receiver(
    state: State,
    ending: Ending,
    capacity: usize,
    is_followed: bool,
    story: &str,
) -> Result<Vec<u32>> {
    let store = &Store::default();
    let (sender, receiver) = channel(capacity);
    let scope = CancelScope::new();
    let mut first = Some(inside(&scope, receiver.recv()));
    let mut second = Box::pin(receiver.recv());
    if state != State::NotPolled {
        assert!(poll!(first.as_mut().unwrap()).is_pending(), "{story}");
    }
    if is_followed {
        assert!(poll!(second.as_mut()).is_pending(), "{story}");
    }
    let mut sent = 0;
    if state == State::Handed {
        // Also where there is no room at all.
        sender.try_send(store.item(1)).expect("somebody waits");
        assert_eq!((receiver.statistics().len, receiver.statistics().peak), (0, 0), "{story}");
        assert_eq!(receiver.try_recv().unwrap_err(), TryRecvError::Empty, "{story}: J1");
        sent = 1;
    }
    let mut owned = Vec::new();
    match ending {
        Ending::Dropped => drop(first.take()),
        Ending::Cancelled => {
            scope.cancel();
            let received = first.take().unwrap().await;
            match state {
                State::Handed => owned.push(number(received)),
                _ => assert!(is_cancelled(&received), "{story}: {received:?}"),
            }
        }
        Ending::Finished => {}
    }
    let waiting = receiver.statistics().waiting_to_receive;
    let first_waits = usize::from(first.is_some() && state == State::Parked);
    // One that was handed something waits no more.
    let second_waits =
        usize::from(is_followed && !(state == State::Handed && ending == Ending::Dropped));
    assert_eq!(waiting, first_waits + second_waits, "{story}: J8");
    nursery(async |n| {
        n.spawn(async move {
            for number in sent + 1..=ALL {
                sender.send(store.item(number)).await?;
            }
            Ok(())
        });
        // In the order in which they have come to wait.
        if let Some(first) = first.take_if(|_| state != State::NotPolled) {
            owned.push(number(first.await));
        }
        if is_followed {
            owned.push(number(second.as_mut().await));
        }
        if let Some(first) = first {
            owned.push(number(first.await));
        }
        while let Some(item) = receiver.recv().await? {
            owned.push(item.number);
        }
        Ok(())
    })
    .await?;
    assert_eq!(store.alive(), 0, "{story}");
    assert_eq!(receiver.statistics().waiting_to_receive, 0, "{story}: J8");
    Ok(owned)
}

// J1: a waiting sender owns the slot. J2: cancelled it has its value back; dropped before it was sent, the
// value is dropped with it, and afterwards it is in the channel. C4, J8.
#[trine::test(kernel = "both")]
async fn a_sender_that_ends_in_any_state_loses_nothing_and_keeps_the_order() -> Result {
    for (state, ending) in cases() {
        for capacity in 0..3 {
            for is_followed in [false, true] {
                end_a_sender(state, ending, capacity, is_followed).await?;
            }
        }
    }
    Ok(())
}

async fn end_a_sender(state: State, ending: Ending, capacity: usize, is_followed: bool) -> Result {
    const FIRST: u32 = 100;
    const SECOND: u32 = 200;
    let story = &format!("{state:?}, {ending:?}, {capacity}, followed: {is_followed}");
    let store = &Store::default();
    let (sender, receiver) = channel(capacity);
    let mut expected: Vec<u32> = (0..capacity as u32).collect();
    for &number in &expected {
        sender.try_send(store.item(number)).expect("there is room");
    }
    let scope = CancelScope::new();
    let mut first = Some(inside(&scope, sender.send(store.item(FIRST))));
    let mut second = Box::pin(sender.send(store.item(SECOND)));
    if state != State::NotPolled {
        assert!(poll!(first.as_mut().unwrap()).is_pending(), "{story}");
    }
    if is_followed {
        assert!(poll!(second.as_mut()).is_pending(), "{story}");
    }
    let mut received = Vec::new();
    if state == State::Handed {
        received.push(receiver.try_recv().expect("there are some").number);
        assert_eq!(sender.statistics().len, capacity, "{story}: the slot is taken at once");
        let full = sender.try_send(store.item(0)).unwrap_err();
        assert!(matches!(full, TrySendError::Full(_)), "{story}: {full:?}");
    }
    // Where the first one's value has its place.
    let is_sent = state == State::Handed || ending == Ending::Finished;
    match (is_followed, state) {
        (true, State::NotPolled) => {
            expected.push(SECOND);
            expected.extend(is_sent.then_some(FIRST));
        }
        _ => {
            expected.extend(is_sent.then_some(FIRST));
            expected.extend(is_followed.then_some(SECOND));
        }
    }
    let alive = store.alive();
    match ending {
        Ending::Dropped => {
            drop(first.take());
            let gone = usize::from(!is_sent);
            assert_eq!(store.alive(), alive - gone, "{story}");
        }
        Ending::Cancelled => {
            scope.cancel();
            match first.take().unwrap().await {
                Ok(()) => assert!(is_sent, "{story}: D1"),
                Err(refused) => {
                    assert!(!is_sent && refused.error.is_cancelled(), "{story}: {refused:?}");
                    assert_eq!(refused.request.number, FIRST, "{story}");
                }
            }
        }
        Ending::Finished => {}
    }
    let first_waits = first.is_some() && state == State::Parked;
    let waiting = usize::from(first_waits) + usize::from(is_followed);
    assert_eq!(sender.statistics().waiting_to_send, waiting, "{story}: J8");
    nursery(async |n| {
        n.spawn(async {
            while received.len() < expected.len() {
                received.push(number(receiver.recv().await));
            }
            Ok(())
        });
        if is_followed {
            second.as_mut().await?;
        }
        if let Some(first) = first {
            first.await?;
        }
        Ok(())
    })
    .await?;
    assert_eq!(received, expected, "{story}");
    drop(second);
    assert_eq!(receiver.try_recv().unwrap_err(), TryRecvError::Empty, "{story}");
    assert_eq!(store.alive(), 0, "{story}");
    Ok(())
}

// J2: handed on from one that goes to the next, and in the end back to the front.
#[trine::test(kernel = "both")]
async fn an_item_wanders_past_all_who_go_and_comes_back_to_the_front() -> Result {
    let (sender, receiver) = channel(2);
    let mut waits: Vec<_> = (0..5).map(|_| Box::pin(receiver.recv())).collect();
    for wait in &mut waits {
        assert!(poll!(wait).is_pending());
    }
    sender.try_send(1).expect("somebody waits");
    for wait in waits {
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "somebody still owns it");
        drop(wait);
    }
    for number in [2, 3] {
        match sender.try_send(number) {
            Ok(()) => assert_eq!(number, 2),
            Err(full) => assert_eq!(full, TrySendError::Full(3)),
        }
    }
    assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(1), Ok(2)));
    Ok(())
}

// J2: over capacity if need be, and until it is below again nobody is let in.
#[trine::test(kernel = "both")]
async fn what_comes_back_goes_in_over_capacity() -> Result {
    for capacity in [0, 1, 2] {
        let (sender, receiver) = channel(capacity);
        let mut handed = Box::pin(receiver.recv());
        assert!(poll!(handed.as_mut()).is_pending());
        sender.try_send(0).expect("somebody waits");
        for number in 1..=capacity {
            sender.try_send(number).expect("there is room");
        }
        let mut waits = Box::pin(sender.send(capacity + 1));
        assert!(poll!(waits.as_mut()).is_pending());
        drop(handed);
        assert_eq!(sender.statistics().len, capacity + 1);
        assert!(poll!(waits.as_mut()).is_pending(), "there is less room than before");
        assert_eq!(receiver.try_recv(), Ok(0));
        assert_eq!(sender.statistics().len, capacity);
        // Only what is at the front of the queue, or of the senders, leaves.
        let rest: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        assert_eq!(rest, (1..=capacity + 1).collect::<Vec<_>>());
        waits.await?;
    }
    Ok(())
}

// J1: nobody who comes later takes anything away from one who waits.
#[trine::test(kernel = "both")]
async fn many_receivers_are_served_in_the_order_in_which_they_came() -> Result {
    let (sender, receiver) = unbounded();
    let mut waits: Vec<_> = (0..20).map(|_| Box::pin(receiver.recv())).collect();
    for wait in &mut waits {
        assert!(poll!(wait).is_pending());
    }
    for number in 0..20 {
        sender.send(number).await?;
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    }
    // Whichever is polled first.
    let mut received = vec![None; 20];
    for (place, wait) in waits.into_iter().enumerate().rev() {
        received[place] = wait.await?;
    }
    assert_eq!(received, (0..20).map(Some).collect::<Vec<_>>());
    Ok(())
}

// C2, J8: those who are cancelled are passed over before they know it themselves.
#[trine::test(kernel = "both")]
async fn the_cancelled_are_passed_over_though_they_have_not_been_polled_yet() -> Result {
    let store = Store::default();
    let (sender, receiver) = channel(0);
    let scopes: Vec<_> = (0..6).map(|_| CancelScope::new()).collect();
    let mut waits: Vec<_> = scopes.iter().map(|scope| inside(scope, receiver.recv())).collect();
    for wait in &mut waits {
        assert!(poll!(wait).is_pending());
    }
    for odd in scopes.iter().skip(1).step_by(2) {
        odd.cancel();
    }
    for number in [0, 2, 4] {
        sender.try_send(store.item(number)).expect("somebody waits");
    }
    let full = sender.try_send(store.item(9)).unwrap_err();
    assert!(matches!(full, TrySendError::Full(_)), "only the cancelled are left: {full:?}");
    for (place, wait) in waits.into_iter().enumerate() {
        let received = wait.await;
        match place % 2 {
            0 => assert_eq!(number(received), place as u32),
            _ => assert!(is_cancelled(&received)),
        }
    }
    // The same with senders.
    let scopes: Vec<_> = (0..6).map(|_| CancelScope::new()).collect();
    let send = |(number, scope)| inside(scope, sender.send(store.item(number)));
    let mut waits: Vec<_> = (0..).zip(&scopes).map(send).collect();
    for wait in &mut waits {
        assert!(poll!(wait).is_pending());
    }
    for even in scopes.iter().step_by(2) {
        even.cancel();
    }
    for expected in [1, 3, 5] {
        assert_eq!(receiver.try_recv().expect("one waits").number, expected);
    }
    assert_eq!(
        receiver.try_recv().unwrap_err(),
        TryRecvError::Empty,
        "only the cancelled are left"
    );
    for (place, wait) in (0..).zip(waits) {
        match wait.await {
            Ok(()) => assert_eq!(place % 2, 1),
            Err(refused) => assert_eq!((refused.request.number, place % 2), (place, 0)),
        }
    }
    drop(full);
    assert_eq!(store.alive(), 0);
    Ok(())
}

// C4: the next cancel point raises, this wait does not.
#[trine::test(kernel = "both")]
async fn one_that_was_handed_something_sees_its_cancellation_at_its_next_cancel_point() -> Result {
    let (sender, receiver) = channel::<u32>(1);
    let scope = CancelScope::new();
    let mut task = Box::pin(scope.run(async |_| {
        let received = receiver.recv().await;
        assert_eq!(received.expect("C4"), Some(7));
        assert!(is_cancelled(&receiver.recv().await));
        let refused = sender.send(8).await.unwrap_err();
        assert!(refused.error.is_cancelled());
        assert_eq!(refused.request, 8);
        checkpoint().await
    }));
    assert!(poll!(task.as_mut()).is_pending());
    sender.try_send(7).expect("somebody waits");
    scope.cancel();
    assert!(task.await?.is_none());
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "B7: nothing was sent");
    Ok(())
}

// A8, D1: in a cancelled scope nothing is taken though it could be had at once.
#[trine::test(kernel = "both")]
async fn in_a_cancelled_scope_nothing_is_taken_and_nothing_is_sent() -> Result {
    for capacity in [1, 2, usize::MAX] {
        let (sender, receiver) = channel(capacity);
        sender.try_send(1).expect("there is room");
        let scope = CancelScope::new();
        scope.cancel();
        let left = scope.run(async |_| {
            assert!(is_cancelled(&receiver.recv().await));
            let refused = sender.send(2).await.unwrap_err();
            assert!(refused.error.is_cancelled());
            assert_eq!(refused.request, 2);
            // A3: what does not wait is no cancel point.
            assert_eq!(receiver.try_recv(), Ok(1));
            sender.try_send(3).expect("there is room");
            Err::<(), Error>(refused.into())
        });
        assert!(left.await?.is_none());
        assert_eq!(receiver.recv().await?, Some(3));
    }
    Ok(())
}

// J2: at a schedule point, before anything was taken, being dropped loses nothing either.
#[trine::test(kernel = "both")]
async fn a_wait_that_is_dropped_at_its_schedule_point_has_taken_nothing() -> Result {
    let (sender, receiver) = unbounded();
    sender.try_send(0).expect("there is room");
    let mut next = 0;
    let mut dropped = 0;
    for _ in 0..3 * BUDGET {
        let mut receive = Box::pin(receiver.recv());
        match poll!(receive.as_mut()) {
            std::task::Poll::Ready(received) => {
                assert_eq!(received?, Some(next));
                next += 1;
                sender.try_send(next).expect("there is room");
            }
            std::task::Poll::Pending => {
                drop(receive);
                dropped += 1;
                yield_shielded().await;
            }
        }
    }
    assert!((2..=4).contains(&dropped), "{dropped} schedule points");
    assert_eq!(receiver.try_recv(), Ok(next));
    Ok(())
}

// The doc of `channel`: with capacity 0 a value goes from task to task.
#[trine::test(kernel = "both")]
async fn without_capacity_a_send_ends_only_when_somebody_has_taken_its_value() -> Result {
    let (sender, receiver) = channel(0);
    assert_eq!(sender.try_send(0), Err(TrySendError::Full(0)), "nobody waits");
    let mut send = Box::pin(sender.send(1));
    for _ in 0..5 {
        assert!(poll!(send.as_mut()).is_pending());
        turns(1).await;
    }
    assert_eq!((sender.statistics().len, sender.statistics().waiting_to_send), (0, 1));
    assert_eq!(receiver.recv().await?, Some(1), "at once: the sender has waited for it");
    assert!(poll!(send.as_mut()).is_ready());
    // And the other way round.
    let mut receive = Box::pin(receiver.recv());
    assert!(poll!(receive.as_mut()).is_pending());
    assert!(poll!(Box::pin(sender.send(2))).is_ready());
    assert_eq!(receive.await?, Some(2));
    assert_eq!(sender.statistics().peak, 0, "nothing ever lay in it");
    Ok(())
}

// J1: also from the queue, room goes to the one who has waited longest.
#[trine::test(kernel = "both")]
async fn nobody_gets_in_ahead_of_senders_that_wait() -> Result {
    let (sender, receiver) = channel(1);
    sender.try_send(0).expect("there is room");
    let mut waits: Vec<_> = (1..4).map(|number| Box::pin(sender.send(number))).collect();
    for wait in &mut waits {
        assert!(poll!(wait).is_pending());
    }
    for number in 0..4 {
        assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
        assert_eq!(receiver.try_recv(), Ok(number));
    }
    for wait in waits {
        wait.await?;
    }
    sender.try_send(9).expect("now there is room");
    Ok(())
}

// D4: a wait that was cancelled by one scope and goes on in another asks anew, and loses nothing.
#[trine::test(kernel = "both")]
async fn a_wait_that_leaves_a_cancelled_scope_in_time_goes_on() -> Result {
    let store = Store::default();
    let (sender, receiver) = channel(0);
    let mut receive = Box::pin(receiver.recv());
    let mut send = None;
    for step in 0..2 {
        let scope = CancelScope::new();
        scope
            .run(async |scope| {
                match &mut send {
                    None => assert!(poll!(receive.as_mut()).is_pending()),
                    Some(send) => assert!(poll!(std::pin::Pin::new(send)).is_pending()),
                }
                scope.cancel();
                Ok(())
            })
            .await?;
        if step == 0 {
            assert!(sender.try_send(store.item(0)).is_err(), "it is passed over");
            assert!(poll!(receive.as_mut()).is_pending(), "it waits again");
            sender.try_send(store.item(1)).expect("it can be handed something");
            assert_eq!(number(receive.as_mut().await), 1);
            send = Some(Box::pin(sender.send(store.item(2))));
        }
    }
    let mut send = send.expect("made above");
    assert_eq!(receiver.try_recv().unwrap_err(), TryRecvError::Empty, "it is passed over");
    assert!(poll!(send.as_mut()).is_pending(), "it waits again");
    assert_eq!(receiver.try_recv().expect("it waits").number, 2);
    send.await?;
    assert_eq!(store.alive(), 0);
    Ok(())
}

/// Receives until nothing has come for a moment.
async fn all(receiver: &Receiver<Item>) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    let moment = std::time::Duration::from_millis(1);
    while let Some(item) = move_on_after(moment, async |_| receiver.recv().await).await? {
        numbers.push(item.expect("the sender is there").number);
    }
    Ok(numbers)
}

// J2, with real scopes and tasks: a time limit around a receive.
#[trine::test(kernel = "both")]
async fn a_time_limit_takes_nothing_away() -> Result {
    let store = Store::default();
    let (sender, receiver) = channel(4);
    nursery(async |n| {
        n.spawn(async {
            for number in 0..20 {
                sender.send(store.item(number)).await?;
            }
            Ok(())
        });
        let mut numbers = Vec::new();
        while numbers.len() < 20 {
            numbers.extend(all(&receiver).await?);
        }
        assert!(numbers.is_sorted() && numbers.len() == 20, "{numbers:?}");
        Ok(())
    })
    .await?;
    assert_eq!((store.alive(), receiver.statistics().waiting_to_receive), (0, 0));
    Ok(())
}
