//! A model of a wish that is made while the thread asks for it.

use std::sync::Arc;

use loom::thread;

use super::Wish;
use crate::error::Reason;
use crate::primitives::check_every_order;

/// A thread that sees that it is to come to an end sees why (rule K2), and the first reason stays (rule L2).
#[test]
fn who_sees_a_wish_sees_its_reason() {
    check_every_order(4, || {
        let wish = Arc::new(Wish::new());
        let asked = Arc::clone(&wish);
        let thread = thread::spawn(move || {
            if asked.is_there() {
                assert_eq!(asked.reason(), Some(Reason::Interrupt));
            }
        });
        wish.make(Reason::Interrupt);
        wish.make(Reason::Finished);
        thread.join().unwrap();
        assert_eq!(wish.reason(), Some(Reason::Interrupt));
    });
}
