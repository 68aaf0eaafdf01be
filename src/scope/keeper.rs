//! Keeps one node of the tree: enters it, moves it along, leaves it.

use std::rc::Rc;
use std::task::{Context, Poll};

use crate::cancel::{Label, Node};
use crate::clock::Instant;
use crate::error::Error;
use crate::exec::{self, Run};
use crate::slots::Key;

/// A node and the future it belongs to. Dropping it half-way leaves what is below to the nearest
/// enclosing living scope (rule F12).
pub(crate) struct Keeper {
    place: Option<Place>,
}

#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) run: Rc<Run>,
    pub(crate) node: Key<Node>,
}

impl Keeper {
    pub(crate) fn new() -> Keeper {
        Keeper { place: None }
    }

    /// Opens the node under the one that is being polled (rule B1).
    pub(crate) fn open(&mut self, label: Label, shield: bool) -> Result<Place, Error> {
        Ok(self.open_in(exec::current()?, label, shield, None))
    }

    /// The same with a deadline, which the tree is told, and for which no timer is set yet.
    pub(super) fn open_in(
        &mut self,
        run: Rc<Run>,
        label: Label,
        shield: bool,
        deadline: Option<Instant>,
    ) -> Place {
        let parent = run.node();
        let node = run.act(|core| {
            let node = core.tree.open(Some(parent), label, shield);
            if let Some(node) = core.tree.get_mut(node).filter(|_| deadline.is_some()) {
                node.deadline = deadline;
            }
            node
        });
        let place = Place { run, node };
        self.place = Some(place.clone());
        place
    }

    /// The node, moved to where it is being polled now (rule B2).
    pub(crate) fn follow(&self) -> Result<Option<Place>, Error> {
        let Some(place) = &self.place else { return Ok(None) };
        let run = exec::current()?;
        if !run.is_same(&place.run) {
            return Err(Error::RunFinished);
        }
        let here = run.node();
        if run.look(|core| core.tree.parent(place.node)) != Some(here) {
            run.act(|core| core.tree.adopt(place.node, here, &mut core.sweep));
        }
        Ok(Some(place.clone()))
    }

    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Leaves the node once every orphan in its subtree has ended (rule E11).
    pub(crate) fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(Place { run, node }) = &self.place else { return Poll::Ready(()) };
        let whom = run.whom(cx);
        let left = run.act(|core| {
            if core.tree.end_orphans(*node, &mut core.sweep) > 0 {
                core.tree.set_body(*node, whom, &mut core.sweep);
                return false;
            }
            core.sweep.bury(Some(whom));
            core.close_node(*node);
            true
        });
        if !left {
            return Poll::Pending;
        }
        self.place = None;
        Poll::Ready(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(Place { run, node }) = self.place.take() {
            run.act(|core| core.close_node(node));
        }
    }
}
