//! Offers: each that waits is asked whether it takes something, and the asking may do anything.

use std::cell::{Cell, RefCell};
use std::result;

use trine::sync::{ParkingLot, Resource, wait_for};
use trine::{Result, checkpoint, nursery};

use crate::Waiter;
use crate::common::wakers::thrown;

/// Somebody who waits for a multiple of a number, and counts what it was offered.
#[derive(Debug)]
struct Multiple {
    of: u32,
    offered: u32,
}

/// Where numbers are called out.
#[derive(Default)]
struct Hall {
    lot: ParkingLot<Multiple, (u32, u32)>,
    reclaimed: Cell<u32>,
}

impl Resource for Hall {
    type Request = Multiple;
    type Grant = (u32, u32);

    fn lot(&self) -> &ParkingLot<Multiple, (u32, u32)> {
        &self.lot
    }

    fn try_grant(&self, request: Multiple) -> result::Result<(u32, u32), Multiple> {
        Err(request)
    }

    fn reclaim(&self, _: (u32, u32)) {
        self.reclaimed.set(self.reclaimed.get() + 1);
    }
}

impl Hall {
    async fn waiting(&self, of: u32) -> Waiter<'_, (u32, u32)> {
        let wait = async move { Ok(wait_for(self, Multiple { of, offered: 0 }).await?) };
        Waiter::waiting(wait).await
    }

    fn call(&self, number: u32) -> usize {
        self.lot.offer(|multiple| take(multiple, number))
    }
}

/// The number, and the how-manieth offer it was.
fn take(multiple: &mut Multiple, number: u32) -> Option<(u32, u32)> {
    multiple.offered += 1;
    (number % multiple.of == 0).then_some((number, multiple.offered))
}

// Each is asked, in order, and those who decline wait on, with what they have noted.
#[trine::test(kernel = "both")]
async fn an_offer_goes_to_each_that_takes_it() -> Result {
    let hall = Hall::default();
    let mut waiters = [
        hall.waiting(2).await,
        hall.waiting(3).await,
        hall.waiting(2).await,
        hall.waiting(5).await,
    ];
    assert_eq!(hall.call(1), 0);
    assert_eq!(hall.call(4), 2);
    assert_eq!(waiters[0].look().await.has(), (4, 2));
    assert_eq!(waiters[2].look().await.has(), (4, 2));
    assert!(waiters[1].look().await.waits());
    // C2, J8: nobody is asked who was cancelled or has gone.
    waiters[1].cancel();
    assert_eq!(hall.call(15), 1);
    assert!(waiters[1].look().await.is_cancelled());
    // C4: and what was taken is theirs.
    waiters[3].cancel();
    assert_eq!(waiters[3].look().await.has(), (15, 3));
    assert_eq!((hall.lot.len(), hall.call(30)), (0, 0));
    Ok(())
}

// J2: what one took who is dropped before it knows goes back to the tool.
#[trine::test(kernel = "both")]
async fn what_a_dropped_waiter_took_is_reclaimed() -> Result {
    let hall = Hall::default();
    let waiter = hall.waiting(2).await;
    assert_eq!(hall.call(2), 1);
    drop(waiter);
    assert_eq!((hall.reclaimed.get(), hall.lot.len()), (1, 0));
    Ok(())
}

// J8: looking at the lot meanwhile takes nobody out of it who waits on.
#[trine::test(kernel = "both")]
async fn whoever_looks_at_the_lot_during_an_offer_forgets_nobody() -> Result {
    let hall = Hall::default();
    let mut waiters = [hall.waiting(2).await, hall.waiting(3).await];
    let asked = hall.lot.offer(|multiple| {
        // As one that comes meanwhile does, or one that hands something over.
        assert!(!hall.lot.is_empty());
        take(multiple, 7)
    });
    assert_eq!((asked, hall.lot.len()), (0, 2));
    assert_eq!(hall.call(6), 2);
    assert_eq!(waiters[0].look().await.has(), (6, 2));
    assert_eq!(waiters[1].look().await.has(), (6, 2));
    // The only one that waits is the one that is asked.
    let mut only = hall.waiting(2).await;
    assert_eq!(
        hall.lot.offer(|multiple| {
            hall.lot.is_empty();
            take(multiple, 7)
        }),
        0
    );
    assert!(hall.lot.hand(|multiple| (multiple.of, multiple.offered)));
    assert_eq!(only.look().await.has(), (2, 1));
    Ok(())
}

// Something is handed over during an offer: to the first one that is not being asked.
#[trine::test(kernel = "both")]
async fn something_is_handed_over_during_an_offer() -> Result {
    let hall = Hall::default();
    let mut waiters = [hall.waiting(2).await, hall.waiting(3).await, hall.waiting(2).await];
    let mut hands = true;
    let taken = hall.lot.offer(|multiple| {
        if std::mem::take(&mut hands) {
            assert!(hall.lot.hand(|other| (other.of, 0)));
        }
        take(multiple, 9)
    });
    assert_eq!(taken, 0);
    assert_eq!(waiters[1].look().await.has(), (3, 0), "it was the next one, and is asked no more");
    assert_eq!(hall.call(2), 2);
    assert_eq!(waiters[0].look().await.has(), (2, 2));
    assert_eq!(waiters[2].look().await.has(), (2, 2));
    Ok(())
}

// Somebody else is dropped or cancelled by whoever is asked: they are asked no more.
#[trine::test(kernel = "both")]
async fn an_offer_that_drops_and_cancels_other_waiters_does_not_ask_them() -> Result {
    let hall = &Hall::default();
    let mut first = hall.waiting(2).await;
    let others = RefCell::new(vec![hall.waiting(2).await, hall.waiting(2).await]);
    let cancelled = others.borrow_mut().remove(0);
    let mut asked = 0;
    let taken = hall.lot.offer(|multiple| {
        asked += 1;
        cancelled.cancel();
        others.borrow_mut().clear();
        take(multiple, 2)
    });
    assert_eq!((asked, taken), (1, 1));
    assert_eq!(first.look().await.has(), (2, 1));
    drop(cancelled);
    assert_eq!((hall.lot.len(), hall.reclaimed.get()), (0, 0));
    Ok(())
}

// C4: one that takes it, and is cancelled by the very asking, has it.
#[trine::test(kernel = "both")]
async fn a_waiter_that_is_cancelled_while_it_is_asked_keeps_what_it_takes() -> Result {
    let hall = Hall::default();
    for number in [2, 3] {
        let mut waiter = hall.waiting(2).await;
        let taken = hall.lot.offer(|multiple| {
            waiter.cancel();
            take(multiple, number)
        });
        let look = waiter.look().await;
        match number {
            2 => assert_eq!((taken, look.has()), (1, (2, 1))),
            _ => assert!(taken == 0 && look.is_cancelled()),
        }
        assert_eq!(hall.lot.len(), 0);
    }
    Ok(())
}

// P2: an asking that panics keeps nobody else from being asked, and its waiter waits on.
#[trine::test(kernel = "both")]
async fn an_offer_that_panics_asks_the_others_too() -> Result {
    let hall = &Hall::default();
    let mut waiters = [hall.waiting(2).await, hall.waiting(3).await, hall.waiting(2).await];
    let panics = async {
        hall.lot.offer(|multiple| {
            assert!(multiple.of != 3, "no threes");
            take(multiple, 2)
        })
    };
    assert_eq!(thrown(panics).await, "no threes");
    assert_eq!(waiters[0].look().await.has(), (2, 1));
    assert_eq!(waiters[2].look().await.has(), (2, 1));
    assert!(waiters[1].look().await.waits());
    assert_eq!(hall.call(3), 1);
    assert_eq!(waiters[1].look().await.has(), (3, 1));
    Ok(())
}

// Each task takes the first number that fits, and ends with it.
#[trine::test(kernel = "both")]
async fn tasks_take_what_fits() -> Result {
    let hall = &Hall::default();
    let sum = &Cell::new(0);
    nursery(async |n| {
        for of in 1..=6 {
            n.spawn(async move {
                let (number, _) = wait_for(hall, Multiple { of, offered: 0 }).await?;
                sum.set(sum.get() + number);
                Ok(())
            });
        }
        while hall.lot.len() < 6 {
            checkpoint().await?;
        }
        // 1, 2, 3 and 6; then 4; then 5.
        assert_eq!([hall.call(6), hall.call(8), hall.call(10)], [4, 1, 1]);
        Ok(())
    })
    .await?;
    assert_eq!(sum.get(), 4 * 6 + 8 + 10);
    Ok(())
}
