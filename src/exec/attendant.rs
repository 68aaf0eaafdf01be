//! A future beside the main one: it serves what comes from outside.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe, Location};
use std::pin::Pin;
use std::task::{Context, Waker};

use crate::cancel::{Label, Node, What};
use crate::error::Reason;
use crate::slots::Key;

use super::{Panics, Ready, Run, Task};

/// Polled by the loop as the main future is. When that has ended it is cancelled, and awaited.
pub(super) struct Attendant {
    future: Pin<Box<dyn Future<Output = ()>>>,
    node: Key<Node>,
    task: Key<Task>,
    waker: Waker,
}

/// Places in the nest of the run.
pub(super) const MAIN: u64 = 0;
pub(super) const ATTENDANT: u64 = 1;

impl Run {
    /// Takes one in. There is at most one.
    pub(crate) fn attend(
        &self,
        future: Pin<Box<dyn Future<Output = ()>>>,
        at: &'static Location<'static>,
    ) {
        // Behind a shield: it ends when the main future has, and not before.
        let label = Label { what: What::Service, at };
        let (node, task, waker) = self.add_child(self.root, self.nest, ATTENDANT, label);
        let former = self.attendant.replace(Some(Attendant { future, node, task, waker }));
        debug_assert!(former.is_none(), "there is at most one attendant");
    }

    pub(super) fn has_attendant(&self) -> bool {
        self.attendant.borrow().is_some()
    }

    /// Nobody is left whom it could serve.
    pub(super) fn dismiss_attendant(&self) {
        let node = self.attendant.borrow().as_ref().map(|attendant| attendant.node);
        if let Some(node) = node {
            self.cancel(node, Reason::Shutdown);
        }
    }

    pub(super) fn poll_attendant(&self, Ready { strikes, .. }: Ready) {
        let Some(mut attendant) = self.attendant.take() else { return };
        let mut cx = Context::from_waker(&attendant.waker);
        let entered = self.enter_task(attendant.node, attendant.task, strikes, &cx);
        let future = attendant.future.as_mut();
        let polled = panic::catch_unwind(AssertUnwindSafe(|| future.poll(&mut cx)));
        self.keep_strikes(attendant.task, strikes);
        drop(entered);
        match polled {
            Ok(polled) if polled.is_pending() => *self.attendant.borrow_mut() = Some(attendant),
            polled => {
                let mut panics = Panics::default();
                self.remove_attendant(attendant, &mut panics);
                if let Err(payload) = polled {
                    panics.keep(payload);
                }
                panics.resume();
            }
        }
    }

    /// Drops it, if it has not ended.
    pub(super) fn drop_attendant(&self, panics: &mut Panics) {
        let attendant = self.attendant.take();
        if let Some(attendant) = attendant {
            self.remove_attendant(attendant, panics);
        }
    }

    fn remove_attendant(&self, attendant: Attendant, panics: &mut Panics) {
        let Attendant { future, node, task, waker } = attendant;
        panics.catch(|| drop(future));
        self.remove_child(node, task, waker);
    }
}
