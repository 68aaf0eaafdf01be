//! Threads that work for the run.

use std::any::Any;
use std::sync::Arc;
use std::task::Context;

use crate::cancel::{Subject, Wait};
use crate::error::Reason;
use crate::slots::{Key, Slots};

use super::{Panics, Run, Wish};

/// A thread at work, from before it begins until it has told of its end.
pub(crate) struct Worker {
    wish: Arc<Wish>,
    /// Whether it may be left to itself.
    may_be_abandoned: bool,
    awaited: Awaited,
    /// Kept until it really ends: other people's, and dropped with nothing borrowed.
    keeps: Option<Box<dyn Any>>,
}

/// Who waits for a worker.
#[derive(Clone, Copy)]
enum Awaited {
    /// Somebody who wants its value.
    ByOwner(Key<Wait>),
    /// The same, and it has ended.
    Ended(Key<Wait>),
    /// The scope, since nobody wants its value.
    ByScope(Key<Wait>),
    /// Nobody (rule K3).
    No,
}

/// All of them.
pub(super) struct Workers {
    workers: Slots<Worker>,
    /// Those that the run waits for.
    awaited: usize,
}

impl Workers {
    pub(super) fn new() -> Workers {
        Workers { workers: Slots::new(), awaited: 0 }
    }

    pub(super) fn awaited(&self) -> usize {
        self.awaited
    }

    /// A scope around wants it to end.
    pub(super) fn wish(&self, worker: u64, reason: impl FnOnce() -> Reason) {
        let worker = Key::from_bits(worker).and_then(|worker| self.workers.get(worker));
        if let Some(worker) = worker.filter(|worker| !worker.wish.is_there()) {
            worker.wish.make(reason());
        }
    }
}

impl Run {
    /// A thread is about to work for what is being polled; the scope does not end before it.
    pub(crate) fn add_worker(
        &self,
        wish: &Arc<Wish>,
        may_be_abandoned: bool,
        keeps: Box<dyn Any>,
    ) -> Key<Worker> {
        let (node, wish) = (self.context.node(), Arc::clone(wish));
        self.act(|core| {
            core.workers.awaited += 1;
            let tree = &mut core.tree;
            core.workers.workers.insert_with(|worker| {
                let wait = tree.attach(node, Subject::Thread(worker.to_bits()), None);
                let awaited = Awaited::ByOwner(wait);
                Worker { wish, may_be_abandoned, awaited, keeps: Some(keeps) }
            })
        })
    }

    /// Notes who waits for its value.
    pub(crate) fn await_worker(&self, worker: Key<Worker>, cx: &Context<'_>) {
        let (node, whom) = (self.context.node(), self.context.whom(cx));
        self.act(|core| match core.workers.workers.get(worker).map(|worker| worker.awaited) {
            Some(Awaited::ByOwner(wait)) => {
                core.tree.polled(wait, node, whom, &mut core.sweep);
            }
            _ => core.sweep.wake(Some(whom)),
        });
    }

    /// It has told of its end.
    pub(crate) fn worker_ended(&self, worker: Key<Worker>) {
        let keeps = self.act(|core| {
            let ended = core.workers.workers.get_mut(worker)?;
            let keeps = ended.keeps.take();
            match ended.awaited {
                Awaited::ByOwner(wait) => {
                    ended.awaited = Awaited::Ended(wait);
                    core.workers.awaited -= 1;
                    core.tree.fire(wait, true, &mut core.sweep);
                }
                Awaited::ByScope(wait) => {
                    core.workers.workers.discard(worker);
                    core.workers.awaited -= 1;
                    core.tree.detach(wait, &mut core.sweep);
                }
                Awaited::Ended(_) => {}
                Awaited::No => core.workers.workers.discard(worker),
            }
            keeps
        });
        drop(keeps);
    }

    /// Its end is known, or it will not begin.
    pub(crate) fn forget_worker(&self, worker: Key<Worker>) {
        let keeps = self.act(|core| {
            let Worker { awaited, keeps, .. } = core.workers.workers.remove(worker)?;
            core.stop_waiting(awaited);
            keeps
        });
        drop(keeps);
    }

    /// It is left to itself (rule K3).
    pub(crate) fn abandon_worker(&self, worker: Key<Worker>) {
        self.act(|core| core.abandon(worker));
    }

    /// Nobody wants its value any more, but it has begun, and so the scope waits for it (rule K2).
    pub(crate) fn orphan_worker(&self, worker: Key<Worker>) {
        self.act(|core| {
            let Some(orphan) = core.workers.workers.get_mut(worker) else { return };
            match orphan.awaited {
                Awaited::ByOwner(wait) => {
                    orphan.awaited = Awaited::ByScope(wait);
                    core.tree.set_orphan(wait, true, &mut core.sweep);
                }
                Awaited::Ended(wait) => {
                    core.workers.workers.discard(worker);
                    core.tree.detach(wait, &mut core.sweep);
                }
                Awaited::ByScope(_) | Awaited::No => {}
            }
        });
    }

    /// The run ends: all are asked to end too, and those that may be left to themselves are.
    pub(super) fn dismiss_workers(&self) {
        self.act(|core| {
            let all: Vec<_> = core.workers.workers.iter().map(|(worker, _)| worker).collect();
            for worker in all {
                core.workers.wish(worker.to_bits(), || Reason::Shutdown);
                if core.workers.workers.get(worker).is_some_and(|worker| worker.may_be_abandoned) {
                    core.abandon(worker);
                }
            }
        });
    }

    /// Drops what is kept for those that the run did not wait for.
    pub(super) fn drop_workers(&self, panics: &mut Panics) {
        let left = self.act(|core| std::mem::replace(&mut core.workers, Workers::new()));
        panics.catch(|| drop(left));
    }
}

impl super::Core {
    fn abandon(&mut self, worker: Key<Worker>) {
        let Some(left) = self.workers.workers.get_mut(worker) else { return };
        let awaited = std::mem::replace(&mut left.awaited, Awaited::No);
        if matches!(awaited, Awaited::Ended(_)) {
            self.workers.workers.discard(worker);
        }
        self.stop_waiting(awaited);
    }

    fn stop_waiting(&mut self, awaited: Awaited) {
        match awaited {
            Awaited::ByOwner(wait) | Awaited::ByScope(wait) => {
                self.workers.awaited -= 1;
                self.tree.detach(wait, &mut self.sweep);
            }
            Awaited::Ended(wait) => self.tree.detach(wait, &mut self.sweep),
            Awaited::No => {}
        }
    }
}
