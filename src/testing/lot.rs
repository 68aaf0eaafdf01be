//! Where the tools of this module wait for each other.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::cancel::{Subject, Wait};
use crate::error::Result;
use crate::exec::{self, Panics, Park, Pause, Run};
use crate::slots::Key;

/// Tasks that wait for something to become true. Whoever makes it so wakes all of them, and each looks
/// for itself. Keys of waits that have gone wake nobody.
#[derive(Default)]
pub(super) struct Lot {
    waiting: RefCell<Vec<(Rc<Run>, Key<Wait>)>>,
}

impl Lot {
    /// Waits until `look` finds something.
    pub(super) async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> Result<T> {
        let mut wait = Waiting { park: None, pause: None, found: None };
        poll_fn(|cx| wait.poll(self, &mut look, cx)).await
    }

    pub(super) fn wake_all(&self) {
        // A waker is other people's code: all are woken, whatever one of them does (rule P2).
        let mut panics = Panics::default();
        for (run, wait) in self.waiting.take() {
            panics.catch(|| run.unpark(wait));
        }
        panics.resume();
    }
}

struct Waiting<T> {
    park: Option<Park>,
    pause: Option<Pause>,
    found: Option<T>,
}

impl<T> Waiting<T> {
    fn poll(
        &mut self,
        lot: &Lot,
        look: &mut impl FnMut() -> Option<T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T>> {
        let run = exec::current()?;
        if self.park.is_none() && self.found.is_none() {
            ready!(run.cancel_point())?;
        }
        loop {
            if self.found.is_none() {
                self.found = look();
            }
            if self.found.is_some() {
                self.park = None;
                ready!(run.poll_budget(&mut self.pause, cx));
                run.progress();
                return Poll::Ready(Ok(self.found.take().expect("just seen")));
            }
            let park = match &self.park {
                Some(park) => park,
                None => {
                    let park = Park::new(&run, Subject::Park);
                    lot.waiting.borrow_mut().push((Rc::clone(&run), park.key()));
                    self.park.insert(park)
                }
            };
            let woken = ready!(park.poll_cancellable(cx));
            self.park = None;
            woken.transpose()?;
        }
    }
}
