//! The naive account of one nursery.

use std::cell::RefCell;
use std::rc::Rc;

use super::ends::{End, Leaf};
use super::model::{Id, Model, Why};

/// What has happened in a nursery so far.
pub(super) struct Family {
    model: Rc<Model>,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Known from its entry on.
    node: Option<Id>,
    body_ended: bool,
    /// Those that keep it open.
    living: usize,
    daemons: Vec<Id>,
    /// Real errors, in order of arrival (rule N5).
    errors: Vec<Leaf>,
    cancelled: bool,
    value: Option<u8>,
    finished: bool,
    panicked: bool,
}

impl Inner {
    fn is_joined(&self) -> bool {
        self.body_ended && self.living == 0 && self.daemons.is_empty()
    }
}

/// What a child is to its nursery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kin {
    Child,
    Daemon,
}

impl Family {
    pub(super) fn new(model: &Rc<Model>) -> Rc<Family> {
        Rc::new(Family { model: Rc::clone(model), inner: RefCell::default() })
    }

    pub(super) fn entered(&self, node: Id) {
        self.inner.borrow_mut().node = Some(node);
    }

    pub(super) fn node(&self) -> Id {
        self.inner.borrow().node.expect("its body runs")
    }

    pub(super) fn born(&self, child: Id, kin: Kin) {
        let mut inner = self.inner.borrow_mut();
        match kin {
            Kin::Child => inner.living += 1,
            Kin::Daemon => inner.daemons.push(child),
        }
    }

    /// A child has ended, and how that concerns the nursery.
    pub(super) fn child_ended(&self, child: Id, kin: Kin, end: End) {
        {
            let mut inner = self.inner.borrow_mut();
            match kin {
                Kin::Child => inner.living -= 1,
                Kin::Daemon => inner.daemons.retain(|&daemon| daemon != child),
            }
        }
        // Rule N18: a daemon's scope absorbs.
        let absorbs = kin == Kin::Daemon && self.model.absorbs(child);
        self.arrived(if absorbs { end.absorbed() } else { end });
    }

    pub(super) fn body_ended(&self, end: End) {
        {
            let mut inner = self.inner.borrow_mut();
            inner.body_ended = true;
            if let (End::Value(value), false) = (&end, inner.finished) {
                inner.value = Some(*value);
            }
        }
        self.arrived(end);
    }

    /// A child ended before it said that it was ready: only its panic concerns the nursery (N43).
    pub(super) fn ended_early(&self, end: &End) {
        self.inner.borrow_mut().living -= 1;
        if *end == End::Panicked {
            self.arrived(End::Panicked);
        }
    }

    /// Rule E12: what an error means is decided when it arrives.
    fn arrived(&self, end: End) {
        let node = self.node();
        let was_cancelled = self.model.is_cancelled(node);
        let is_real = {
            let mut inner = self.inner.borrow_mut();
            match end {
                End::Value(_) | End::MovedOn => false,
                End::Panicked => {
                    inner.panicked = true;
                    true
                }
                End::Failed(leaves) => {
                    let before = inner.errors.len();
                    for leaf in leaves {
                        match leaf {
                            Leaf::Cancelled if was_cancelled => inner.cancelled = true,
                            leaf => inner.errors.push(leaf),
                        }
                    }
                    inner.errors.len() > before
                }
            }
        };
        if is_real {
            self.model.cancel(node, Why::SiblingFailed);
        }
    }

    pub(super) fn finish(&self, value: u8) {
        {
            let mut inner = self.inner.borrow_mut();
            if std::mem::replace(&mut inner.finished, true) {
                return;
            }
            inner.value = Some(value);
        }
        self.model.cancel(self.node(), Why::Finished);
    }

    /// The nursery was polled. When nobody else is left its daemons are cancelled (rule N18). Whether
    /// nobody is left at all.
    pub(super) fn polled(&self) -> bool {
        let dismissed = {
            let inner = self.inner.borrow();
            let over = inner.body_ended && inner.living == 0;
            if over { inner.daemons.clone() } else { Vec::new() }
        };
        for daemon in dismissed {
            self.model.cancel(daemon, Why::Finished);
        }
        self.inner.borrow().is_joined()
    }

    /// How it has to end now that everything was joined (rules N5, N7, N20).
    pub(super) fn conclusion(&self) -> End {
        let inner = self.inner.borrow();
        self.model.check(inner.is_joined(), || {
            let (living, daemons) = (inner.living, inner.daemons.len());
            format!(
                "N4: a nursery has returned with {living} children and {daemons} daemons alive, and \
                 its body {}",
                if inner.body_ended { "ended" } else { "alive" }
            )
        });
        if inner.panicked {
            return End::Panicked;
        }
        if !inner.errors.is_empty() {
            return End::Failed(inner.errors.clone());
        }
        match inner.value {
            Some(value) if inner.finished || !inner.cancelled => End::Value(value),
            _ => End::Failed(vec![Leaf::Cancelled]),
        }
    }
}
