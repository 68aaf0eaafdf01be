//! Ending what is idle, and nothing else.

use std::panic::Location;

use crate::clock::Instant;
use crate::error::Reason;
use crate::slots::Key;

use super::super::deadlines::Timer;
use super::super::sweep::Sweep;
use super::{Node, Tree, What};

impl Tree {
    /// Ends what is idle in the subtree, now and from now on, stopping at shields. The timers of the scopes
    /// that were cancelled come back.
    pub(crate) fn drain(
        &mut self,
        top: Key<Node>,
        at: &'static Location<'static>,
        now: Instant,
        sweep: &mut Sweep,
    ) -> Vec<Key<Timer>> {
        let mut timers = Vec::new();
        if let Some(node) = self.nodes.get_mut(top) {
            node.drained.get_or_insert(at);
        }
        let mut next = Some(top);
        while let Some(key) = next {
            let Some(node) = self.nodes.get(key) else { break };
            let hidden = key != top && node.shield;
            let (first_child, is_idle) = (node.first_child, node.what == What::Idle);
            if is_idle && !hidden {
                timers.extend(self.cancel(key, Reason::Drained { at }, now, sweep));
            }
            next = first_child.filter(|_| !hidden).or_else(|| self.after(key, top));
        }
        timers
    }

    /// Where a scope around, as far as no shield is between, was asked to end what is idle.
    pub(crate) fn drained(&self, mut key: Key<Node>) -> Option<&'static Location<'static>> {
        loop {
            let node = self.nodes.get(key)?;
            match (node.drained, node.parent) {
                (Some(at), _) => return Some(at),
                (None, Some(parent)) if !node.shield => key = parent,
                _ => return None,
            }
        }
    }
}
