//! Models of work that begins while it is withdrawn, and ends while somebody looks.

use std::sync::Arc;

use loom::thread;

use super::Ticket;
use crate::primitives::check_every_order;

/// What was withdrawn never begins, and what has begun is not withdrawn (rules K1 and K2).
#[test]
fn either_it_begins_or_it_is_withdrawn() {
    check_every_order(4, || {
        let ticket = Arc::new(Ticket::<()>::new());
        let (shared, kept) = (Arc::clone(&ticket), Arc::new(()));
        let witness = Arc::downgrade(&kept);
        ticket.give(Box::new(move || drop(kept)));
        let thread = thread::spawn(move || shared.begin().is_some());
        let withdrawn = ticket.withdraw().is_some();
        assert!(
            !withdrawn || witness.strong_count() == 0,
            "what it would have worked with is gone"
        );
        let begun = thread.join().unwrap();
        assert!(begun != withdrawn);
        assert!(ticket.begin().is_none() && ticket.withdraw().is_none(), "it was decided");
    });
}

/// Work that has begun has a value (rule K2), and that is taken once, or dropped with the ticket.
#[test]
fn a_value_is_taken_once_or_dropped_once() {
    check_every_order(4, || {
        let ticket = Arc::new(Ticket::new());
        let (shared, value) = (Arc::clone(&ticket), Arc::new(()));
        let witness = Arc::downgrade(&value);
        ticket.give(Box::new(|| ()));
        let thread = thread::spawn(move || {
            let begun = shared.begin().is_some();
            if begun {
                shared.finish(Ok(value));
            }
            begun
        });
        let withdrawn = ticket.withdraw().is_some();
        let taken = ticket.take();
        assert!(!withdrawn || taken.is_none());
        let begun = thread.join().unwrap();
        assert_eq!(witness.strong_count(), usize::from(begun), "it was made, and is still there");
        if taken.is_some() {
            assert!(ticket.take().is_none());
        }
        drop((taken, ticket));
        assert_eq!(witness.strong_count(), 0);
    });
}
