//! Whether anybody will ever go on (rule F13).

use crate::slots::Key;

use super::{Node, Tree, What};

impl Tree {
    /// Whether anything in the subtree is still waited for, so that its body is not stuck (rule F13).
    /// Children of `key` itself do not count if `but_children`: that asks for a nursery's body. Nor do
    /// cancelled children of which `is_left_lying` says that nobody polls them: they have been woken,
    /// and their nursery is kept without being polled.
    pub(crate) fn has_wait(
        &self,
        key: Key<Node>,
        but_children: bool,
        is_left_lying: impl Fn(u64) -> bool,
    ) -> bool {
        let mut at = key;
        loop {
            let Some(node) = self.nodes.get(at) else { return false };
            let is_task = node.what.is_child();
            let skip = at != key && is_task && but_children && node.parent == Some(key);
            if node.pending + node.pauses > 0 && !skip {
                return true;
            }
            let counts =
                node.shield || (is_task && !(node.effective && node.is_task_that(&is_left_lying)));
            if at != key && !skip && counts {
                return true;
            }
            match node.first_child.filter(|_| !skip).or_else(|| self.after(at, key)) {
                Some(next) => at = next,
                None => return false,
            }
        }
    }

    /// Whether the body of a nursery below `key` has been woken, as `is_awake` says of tasks: it will be
    /// polled, and so nothing around it is stuck (rule F13). Children of `key` do not count if
    /// `but_children`.
    pub(crate) fn has_awake_body(
        &self,
        key: Key<Node>,
        but_children: bool,
        is_awake: impl Fn(u64) -> bool,
    ) -> bool {
        let mut at = key;
        loop {
            let Some(node) = self.nodes.get(at) else { return false };
            let is_task = node.what.is_child();
            let skip = at != key && is_task && but_children && node.parent == Some(key);
            let is_nursery = at != key && node.label().what == What::Nursery;
            if is_nursery && node.is_task_that(&is_awake) {
                return true;
            }
            match node.first_child.filter(|_| !skip).or_else(|| self.after(at, key)) {
                Some(next) => at = next,
                None => return false,
            }
        }
    }
}
