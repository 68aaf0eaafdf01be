//! The primitive itself: a tool of the test's own, and what its lot tells it.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::pin;
use std::result;

use futures::{FutureExt, poll, select_biased};
use trine::sync::{ParkingLot, Resource, wait_for};
use trine::time::sleep_forever;
use trine::{CancelScope, Error, Result, nursery};

use crate::common::wakers::{Bell, poll_with, thrown};
use crate::common::{fewer, turns};
use crate::{Look, Waiter, shown};

/// A door that lets one through each time that somebody opens it, and notes who came to nothing.
#[derive(Default)]
pub(crate) struct Turnstile {
    lot: ParkingLot<&'static str, String>,
    open: Cell<u32>,
    reclaimed: RefCell<Vec<String>>,
    left: Cell<u32>,
}

impl Resource for Turnstile {
    type Request = &'static str;
    type Grant = String;

    fn lot(&self) -> &ParkingLot<&'static str, String> {
        &self.lot
    }

    fn try_grant(&self, name: &'static str) -> result::Result<String, &'static str> {
        self.open.set(self.open.get().checked_sub(1).ok_or(name)?);
        Ok(format!("{name}, at once"))
    }

    fn reclaim(&self, grant: String) {
        self.reclaimed.borrow_mut().push(grant);
        self.let_one_through();
    }

    fn left(&self) {
        self.left.set(self.left.get() + 1);
    }
}

impl Turnstile {
    pub(crate) fn let_one_through(&self) {
        if !self.lot.hand(hand) {
            self.open.set(self.open.get() + 1);
        }
    }

    /// A wait that keeps what it was refused with.
    async fn enter(&self, name: &'static str) -> Result<String> {
        Ok(wait_for(self, name).await?)
    }

    async fn waiting(&self, name: &'static str) -> Waiter<'_, String> {
        Waiter::waiting(self.enter(name)).await
    }
}

fn hand(name: &str) -> String {
    format!("{name}, handed")
}

// J7: one after the other, and what nobody waits for is the tool's.
#[trine::test(kernel = "both")]
async fn waiters_are_handed_what_they_wait_for_in_order() -> Result {
    let door = Turnstile::default();
    assert!(door.lot.is_empty());
    let mut waiters = [door.waiting("a").await, door.waiting("b").await];
    assert_eq!((door.lot.len(), door.lot.waiting(), door.lot.is_empty()), (2, 2, false));
    for _ in 0..3 {
        door.let_one_through();
    }
    assert!(door.lot.is_empty());
    assert_eq!(waiters[0].look().await.has(), "a, handed");
    assert_eq!(waiters[1].look().await.has(), "b, handed");
    assert_eq!(wait_for(&door, "c").await?, "c, at once");
    assert!(door.waiting("d").await.look().await.waits());
    assert_eq!((door.open.get(), door.left.get()), (0, 1), "the last one has left");
    Ok(())
}

// J2: the request of a cancelled wait comes back with the error.
#[trine::test(kernel = "both")]
async fn a_cancelled_wait_gives_its_request_back() -> Result {
    let door = &Turnstile::default();
    // A6: in a cancelled scope, before it waits.
    door.let_one_through();
    let scope = CancelScope::new();
    let left = scope.run(async |scope| {
        scope.cancel();
        let refused = wait_for(door, "a").await.unwrap_err();
        assert!(refused.error.is_cancelled());
        assert_eq!((refused.request, door.left.get()), ("a", 0));
        Err::<(), _>(refused.error)
    });
    assert!(left.await?.is_none());
    assert_eq!(door.open.replace(0), 1);
    // And while it waits.
    let scope = &CancelScope::new();
    nursery(async |n| {
        n.spawn(async {
            let left = scope.run(async |_| {
                let refused = wait_for(door, "b").await.unwrap_err();
                assert_eq!(refused.request, "b");
                assert_eq!(refused.to_string(), refused.error.to_string());
                Err::<(), Error>(refused.into())
            });
            assert!(left.await?.is_none());
            Ok(())
        });
        while door.lot.is_empty() {
            turns(1).await;
        }
        scope.cancel();
        assert_eq!((door.lot.len(), door.lot.waiting()), (1, 0), "it has not been polled yet");
        Ok(())
    })
    .await?;
    assert_eq!((door.left.get(), door.lot.len()), (1, 0));
    assert!(door.reclaimed.borrow().is_empty());
    Ok(())
}

// C2: a lot looks for itself who was cancelled, and hands nothing to them.
#[trine::test(kernel = "both")]
async fn a_cancelled_waiter_is_handed_nothing() -> Result {
    let door = Turnstile::default();
    let mut waiters = [door.waiting("a").await, door.waiting("b").await, door.waiting("c").await];
    waiters[0].cancel();
    waiters[1].cancel();
    assert_eq!((door.lot.len(), door.lot.waiting()), (3, 1));
    door.let_one_through();
    assert_eq!(waiters[2].look().await.has(), "c, handed");
    assert!(!door.lot.hand(hand));
    assert_eq!(door.lot.hand_all(hand), 0);
    assert_eq!(door.left.get(), 0, "they do not know yet");
    assert!(waiters[0].look().await.is_cancelled());
    drop(waiters);
    assert_eq!((door.left.get(), door.lot.len(), door.open.get()), (2, 0, 0));
    Ok(())
}

// J2: only what was handed over and not taken goes back to the tool, once.
#[trine::test(kernel = "both")]
async fn what_was_handed_to_a_dropped_waiter_is_reclaimed_once() -> Result {
    let door = Turnstile::default();
    let (dropped, mut next) = (door.waiting("a").await, door.waiting("b").await);
    let waits = door.waiting("c").await;
    door.let_one_through();
    // C4: a cancellation that comes later changes nothing.
    dropped.cancel();
    drop(dropped);
    assert_eq!(*door.reclaimed.borrow(), ["a, handed"]);
    assert_eq!(next.look().await.has(), "b, handed");
    drop((next, waits));
    assert_eq!(*door.reclaimed.borrow(), ["a, handed"]);
    assert_eq!((door.left.get(), door.lot.len(), door.open.get()), (1, 0, 0));
    Ok(())
}

// As far as it reaches, and not past one for whom there is nothing.
#[trine::test(kernel = "both")]
async fn hand_while_stops_at_the_first_for_whom_there_is_nothing() -> Result {
    let door = Turnstile::default();
    let mut waiters = Vec::new();
    for name in ["a", "b", "large", "d"] {
        waiters.push(door.waiting(name).await);
    }
    let grant = |name: &&'static str| (*name != "large").then(|| hand(name));
    assert_eq!(door.lot.hand_while(grant), 2);
    assert_eq!(door.lot.hand_while(grant), 0);
    assert_eq!(waiters[1].look().await.has(), "b, handed");
    assert!(waiters[3].look().await.waits());
    assert_eq!(door.lot.hand_all(hand), 2);
    assert_eq!(waiters[2].look().await.has(), "large, handed");
    assert_eq!(waiters[3].look().await.has(), "d, handed");
    Ok(())
}

// J8: those in the middle of a long queue leave it at once, and the order of the others stays.
#[trine::test(kernel = "both")]
async fn leaving_from_the_middle_keeps_the_order_of_the_others() -> Result {
    const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let (door, order) = (&Turnstile::default(), &RefCell::new(Vec::new()));
    let mut waiters = Vec::new();
    for name in NAMES {
        waiters.push(Some(door.waiting(name).await));
    }
    for place in [4, 0, 8, 3, 5] {
        waiters[place] = None;
    }
    waiters.push(Some(door.waiting("z").await));
    assert_eq!(
        door.lot.hand_all(|name| {
            order.borrow_mut().push(name);
            hand(name)
        }),
        5
    );
    assert_eq!(*order.borrow(), ["b", "c", "g", "h", "z"]);
    for waiter in waiters.iter_mut().flatten() {
        assert!(matches!(waiter.look().await, Look::Has(_)));
    }
    Ok(())
}

// P2: wakers that panic keep nobody from being woken, whichever way it is handed over.
#[trine::test(kernel = "both")]
async fn a_waker_that_panics_keeps_nobody_from_being_handed_something() -> Result {
    let door = &Turnstile::default();
    for way in ["hand_all", "hand_while", "offer"] {
        // With as many operations ahead as a task has in a turn (rule A2).
        turns(1).await;
        let mut waits = Vec::new();
        for name in ["a", "b", "c"] {
            let (bell, waker) = Bell::new(name != "c");
            let mut wait = Box::pin(wait_for(door, name));
            assert!(poll_with(wait.as_mut(), &waker).is_pending());
            waits.push((bell, wait));
        }
        let hands_over = async {
            match way {
                "hand_all" => door.lot.hand_all(hand),
                "hand_while" => door.lot.hand_while(|name| Some(hand(name))),
                _ => door.lot.offer(|name| Some(hand(name))),
            }
        };
        assert_eq!(thrown(hands_over).await, "a waker panics", "{way}");
        for (bell, wait) in waits {
            assert_eq!(bell.rung(), 1, "{way}");
            assert!(wait.await?.ends_with("handed"), "{way}");
        }
    }
    assert!(door.lot.is_empty());
    Ok(())
}

// P2: what panics before anything is decided has handed nothing over.
#[trine::test(kernel = "both")]
async fn a_decision_that_panics_leaves_its_waiter_waiting() -> Result {
    let door = &Turnstile::default();
    let mut waiter = door.waiting("a").await;
    let panics = async { door.lot.hand_while(|_| panic!("it cannot decide")) };
    assert_eq!(thrown(panics).await, "it cannot decide");
    assert!(waiter.look().await.waits());
    door.let_one_through();
    assert_eq!(waiter.look().await.has(), "a, handed");
    Ok(())
}

// A select! that has found something else keeps nothing of the lot.
#[trine::test(kernel = "both")]
async fn a_select_in_a_loop_leaves_one_waiter_at_most() -> Result {
    let door = &Turnstile::default();
    for _ in 0..fewer(200, 10) {
        let (mut enter, mut tick) = (pin!(wait_for(door, "a").fuse()), pin!(turns(1).fuse()));
        select_biased! {
            entered = enter => panic!("nobody has opened: {entered:?}"),
            () = tick => assert_eq!(door.lot.len(), 1),
        }
    }
    assert_eq!((door.lot.len(), door.left.get()), (0, fewer(200, 10)));
    Ok(())
}

// A wait is fused by nobody: polled after its end it says so.
#[trine::test(kernel = "both")]
async fn a_wait_that_is_polled_after_its_end_panics() -> Result {
    let door = &Turnstile::default();
    door.let_one_through();
    let mut wait = wait_for(door, "a");
    assert_eq!((&mut wait).await?, "a, at once");
    let again = thrown(async { poll!(&mut wait).is_pending() });
    assert_eq!(again.await, "a wait is not polled after its end");
    assert!(door.lot.is_empty());
    Ok(())
}

#[trine::test(kernel = "both")]
async fn a_lot_a_wait_and_a_refusal_show_themselves() -> Result {
    let door = &Turnstile::default();
    let mut wait = wait_for(door, "a");
    assert_eq!(shown(&wait), "WaitFor { parked: false, .. }");
    assert!(poll!(&mut wait).is_pending());
    assert_eq!(shown(&wait), "WaitFor { parked: true, .. }");
    assert_eq!(shown(&door.lot), "ParkingLot(1 waiting)");
    drop(wait);
    assert_eq!(shown(&ParkingLot::<(), ()>::default()), "ParkingLot(0 waiting)");
    let scope = CancelScope::new();
    let left = scope.run(async |scope| {
        scope.cancel();
        let refused = wait_for(door, "a secret").await.unwrap_err();
        assert!(shown(&refused).starts_with("Refused { error: "));
        assert!(!shown(&refused).contains("secret"));
        let source = std::error::Error::source(&refused).expect("a source").to_string();
        assert_eq!(source, refused.to_string());
        // It becomes an error of whoever speaks another language, and is still a cancellation there.
        let error = Error::from(io::Error::from(refused));
        assert!(error.is_cancelled(), "{error:?}");
        sleep_forever().await
    });
    assert!(left.await?.is_none());
    Ok(())
}
