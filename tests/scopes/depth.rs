//! Scopes inside scopes inside scopes (B4).

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use trine::time::sleep_forever;
use trine::{CancelScope, Result, move_on_after, stats};

use crate::{LONG, MOMENT, run};

/// A waker that counts.
struct Bell(AtomicU32);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

// B4: no algorithm of the tree recurses. Each scope polls the next one just once, so the tree is a
// hundred thousand deep while the stack is not.
#[trine::test(kernel = "both")]
#[cfg_attr(miri, ignore = "too many scopes")]
fn a_tree_of_a_hundred_thousand_nested_scopes_is_cancelled_and_dropped() {
    const DEPTH: usize = 100_000;
    type Nested = Pin<Box<dyn Future<Output = Result<Option<()>>>>>;
    run(async || {
        let scopes: Vec<_> = (0..DEPTH).map(|_| Rc::new(CancelScope::new())).collect();
        let nested: Rc<RefCell<Vec<Nested>>> = Rc::default();
        let bell = Arc::new(Bell(AtomicU32::new(0)));
        let rung = || bell.0.load(Ordering::Relaxed) as usize;
        let waker = Waker::from(Arc::clone(&bell));
        for scope in scopes.iter().rev() {
            let (scope, inner) = (Rc::clone(scope), Rc::clone(&nested));
            let mut outer: Nested = Box::pin(async move {
                let polls_the_next_one_once = scope.run(async |_| {
                    poll_fn(|cx| {
                        let next = inner.borrow_mut().pop();
                        if let Some(mut next) = next {
                            assert!(next.as_mut().poll(cx).is_pending());
                            inner.borrow_mut().push(next);
                        }
                        Poll::Ready(())
                    })
                    .await;
                    pending().await
                });
                polls_the_next_one_once.await
            });
            let mut cx = Context::from_waker(&waker);
            assert!(outer.as_mut().poll(&mut cx).is_pending());
            nested.borrow_mut().push(outer);
        }
        assert_eq!((stats().scopes, rung()), (1 + DEPTH, 0));
        scopes[0].cancel();
        assert_eq!(rung(), DEPTH, "every body looks again, also the innermost");
        drop(nested.take());
        assert_eq!(stats().scopes, 1);
        Ok(())
    });
}

/// So many scopes, each entered in the body of the one before.
fn nest(depth: u32, tick: &Cell<u32>) -> Pin<Box<dyn Future<Output = Result<Option<()>>> + '_>> {
    Box::pin(move_on_after(LONG, async move |_| {
        if depth > 0 {
            nest(depth - 1, tick).await?;
        }
        tick.set(tick.get() + 1);
        sleep_forever().await
    }))
}

// B4, E6: futures that nest are on the user's stack, and that is enough for hundreds.
#[trine::test(kernel = "both")]
#[cfg_attr(miri, ignore = "too many scopes")]
fn hundreds_of_scopes_inside_each_other_unwind() {
    run(async || {
        let tick = &Cell::new(0);
        let left = move_on_after(MOMENT, async |_| nest(256, tick).await).await?;
        assert!(left.is_none());
        assert_eq!(tick.get(), 1, "only the innermost has come to its sleep");
        assert_eq!((stats().scopes, stats().timers), (1, 0));
        Ok(())
    });
}
