//! The naive twin of the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;

use crate::cancel::tree::{Outcome, Subject, What};
use crate::clock::Instant;
use crate::error::Reason;

/// Nodes and waits under numbers that are never used again. It stores only what somebody said;
/// whatever follows from that is worked out from scratch each time.
#[derive(Clone, Default)]
pub(super) struct Twin {
    pub(super) nodes: BTreeMap<usize, TwinNode>,
    pub(super) waits: BTreeMap<usize, TwinWait>,
    /// Everybody who waits for the next turn, and in which node; it may have gone.
    pub(super) pauses: Vec<(usize, Who)>,
}

#[derive(Clone)]
pub(super) struct TwinNode {
    pub(super) parent: Option<usize>,
    pub(super) what: What,
    pub(super) shield: bool,
    pub(super) drained: Option<&'static Location<'static>>,
    pub(super) cause: Option<Reason>,
    pub(super) deadline: Option<Instant>,
    pub(super) closing: bool,
    pub(super) body: Option<Who>,
}

#[derive(Clone)]
pub(super) struct TwinWait {
    pub(super) node: usize,
    pub(super) subject: Subject,
    pub(super) outcome: Outcome,
    pub(super) orphan: bool,
    pub(super) whom: Option<Who>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Who {
    Task(u64),
    Waker(u64),
}

/// What a step asks of others. Asking an operation or waking a task twice is doing it once; a waker
/// is one thing in one place.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) operations: BTreeSet<u64>,
    pub(super) workers: BTreeSet<(u64, usize)>,
    pub(super) tasks: BTreeSet<u64>,
    pub(super) woken: BTreeSet<u64>,
    pub(super) dead: BTreeSet<u64>,
}

impl Asked {
    pub(super) fn wake(&mut self, who: Option<Who>) {
        match who {
            Some(Who::Task(task)) => drop(self.tasks.insert(task)),
            Some(Who::Waker(waker)) => drop(self.woken.insert(waker)),
            None => {}
        }
    }

    pub(super) fn bury(&mut self, who: Option<Who>) {
        if let Some(Who::Waker(waker)) = who {
            self.dead.insert(waker);
        }
    }
}

impl Twin {
    /// B3, word for word.
    pub(super) fn effective(&self, node: usize) -> bool {
        let Some(node) = self.nodes.get(&node) else { return true };
        node.cause.is_some()
            || (!node.shield && node.parent.is_some_and(|parent| self.effective(parent)))
    }

    /// *Outer* of section E, word for word.
    pub(super) fn outer(&self, node: usize) -> bool {
        let Some(node) = self.nodes.get(&node) else { return true };
        !node.shield && node.parent.is_some_and(|parent| self.effective(parent))
    }

    /// H1, word for word; `None` is "never".
    pub(super) fn effective_deadline(&self, key: usize) -> Option<Instant> {
        if self.effective(key) {
            return Some(Instant::MIN);
        }
        let node = &self.nodes[&key];
        match node.parent {
            Some(parent) if !node.shield => {
                [node.deadline, self.effective_deadline(parent)].into_iter().flatten().min()
            }
            _ => node.deadline,
        }
    }

    /// L3; `None` where nothing is cancelled.
    pub(super) fn reason(&self, key: usize) -> Option<Reason> {
        let node = self.nodes.get(&key)?;
        let inherited = node.parent.filter(|_| !node.shield);
        node.cause.clone().or_else(|| self.reason(inherited?))
    }

    pub(super) fn children(&self, key: usize) -> BTreeSet<usize> {
        self.nodes.iter().filter(|(_, n)| n.parent == Some(key)).map(|(&n, _)| n).collect()
    }

    pub(super) fn waits(&self, key: usize) -> BTreeSet<usize> {
        self.waits.iter().filter(|(_, w)| w.node == key).map(|(&w, _)| w).collect()
    }

    pub(super) fn count(&self, key: usize, counts: impl Fn(&TwinWait) -> bool) -> usize {
        let waiting = |w: &&TwinWait| w.node == key && w.outcome == Outcome::Waiting;
        self.waits.values().filter(waiting).filter(|w| counts(w)).count()
    }

    pub(super) fn pending(&self, key: usize) -> usize {
        self.count(key, |_| true)
    }

    pub(super) fn orphans(&self, key: usize) -> usize {
        self.count(key, |wait| wait.orphan)
    }

    pub(super) fn pauses(&self, key: usize) -> usize {
        self.pauses.iter().filter(|&&(node, _)| node == key).count()
    }

    /// *Own wait* of F13: something attached below, a schedule point, a shielded section, a child.
    pub(super) fn has_wait(&self, key: usize, but_children: bool) -> bool {
        self.pending(key) + self.pauses(key) > 0
            || self.children(key).into_iter().any(|child| {
                let node = &self.nodes[&child];
                match node.what {
                    What::Child | What::Daemon | What::Service => !but_children,
                    _ => node.shield || self.has_wait(child, false),
                }
            })
    }

    pub(super) fn subtree(&self, top: usize) -> BTreeSet<usize> {
        let mut all = BTreeSet::from([top]);
        all.extend(self.children(top).into_iter().flat_map(|child| self.subtree(child)));
        all
    }

    /// Changes what follows B3 by changing something else, and does what that asks for: exactly
    /// those that are newly cancelled and have not ended are asked to.
    pub(super) fn change(&mut self, asked: &mut Asked, change: impl FnOnce(&mut Twin)) {
        let before: BTreeMap<_, _> = self.nodes.keys().map(|&n| (n, self.effective(n))).collect();
        change(self);
        let now: Vec<_> = self.nodes.keys().copied().filter(|&n| self.effective(n)).collect();
        for node in now.into_iter().filter(|node| before.get(node) == Some(&false)) {
            for wait in self.waits(node) {
                self.abort(wait, asked);
            }
            // F13, and the exception that a body is polled anyway when its operation ends.
            if self.count(node, |w| matches!(w.subject, Subject::Operation(_))) == 0 {
                self.wake_body(node, asked);
            }
        }
    }

    pub(super) fn abort(&mut self, key: usize, asked: &mut Asked) {
        let wait = self.waits.get_mut(&key).unwrap();
        match (wait.outcome, wait.subject) {
            (Outcome::Waiting, Subject::Operation(operation)) => {
                asked.operations.insert(operation);
            }
            (Outcome::Waiting, Subject::Park) => {
                wait.outcome = Outcome::Cancelled;
                asked.wake(wait.whom.take());
            }
            // It goes on; whoever waits is to tell it.
            (Outcome::Waiting, Subject::Thread(worker)) => {
                asked.wake(wait.whom.take());
                asked.workers.insert((worker, wait.node));
            }
            _ => {}
        }
    }

    pub(super) fn wake_body(&mut self, key: usize, asked: &mut Asked) {
        let body = &mut self.nodes.get_mut(&key).unwrap().body;
        asked.wake(match *body {
            Some(Who::Task(_)) => *body,
            _ => body.take(),
        });
    }

    /// F13: what it has lost may have been all that a cancelled body was waiting for.
    pub(super) fn lost_a_wait(&mut self, key: usize, asked: &mut Asked) {
        if self.effective(key) {
            self.wake_body(key, asked);
        }
    }

    /// E11: the last orphan lets a node go that is being left.
    pub(super) fn lost_an_orphan(&mut self, key: usize, asked: &mut Asked) {
        if self.nodes[&key].closing && self.orphans(key) == 0 {
            self.wake_body(key, asked);
        }
    }

    pub(super) fn move_wait(&mut self, key: usize, to: usize, asked: &mut Asked) {
        let wait = self.waits.get_mut(&key).unwrap();
        let (from, orphan, outcome) = (wait.node, wait.orphan, wait.outcome);
        wait.node = to;
        if orphan {
            self.lost_an_orphan(from, asked);
        }
        if outcome == Outcome::Waiting {
            if !self.effective(from) && self.effective(to) {
                self.abort(key, asked);
            }
            self.lost_a_wait(from, asked);
        }
    }

    pub(super) fn close(&mut self, key: usize, asked: &mut Asked) {
        let Some(node) = self.nodes.get(&key) else { return };
        if let Some(parent) = node.parent {
            let (children, waits) = (self.children(key), self.waits(key));
            self.change(asked, |twin| {
                for child in children {
                    twin.nodes.get_mut(&child).unwrap().parent = Some(parent);
                }
            });
            for wait in waits {
                self.ask_orphan(wait, asked);
                self.move_wait(wait, parent, asked);
            }
            for (node, _) in self.pauses.iter_mut().filter(|(node, _)| *node == key) {
                *node = parent;
            }
            self.nodes.get_mut(&key).unwrap().parent = None;
            self.lost_a_wait(parent, asked);
        }
        asked.bury(self.nodes.remove(&key).unwrap().body);
    }

    pub(super) fn adopt(&mut self, key: usize, parent: usize, asked: &mut Asked) {
        let Some(node) = self.nodes.get(&key) else { return };
        let former = node.parent;
        if former == Some(parent) || self.subtree(key).contains(&parent) {
            return;
        }
        self.change(asked, |twin| twin.nodes.get_mut(&key).unwrap().parent = Some(parent));
        if let Some(former) = former {
            self.lost_a_wait(former, asked);
        }
    }

    pub(super) fn detach(&mut self, key: usize, asked: &mut Asked) {
        let Some(wait) = self.waits.remove(&key) else { return };
        asked.bury(wait.whom);
        if wait.outcome == Outcome::Waiting {
            if wait.orphan {
                self.lost_an_orphan(wait.node, asked);
            }
            self.lost_a_wait(wait.node, asked);
        }
    }

    pub(super) fn fire(&mut self, key: usize, last: bool, asked: &mut Asked) {
        let Some(wait) = self.waits.get_mut(&key) else { return };
        asked.wake(wait.whom.take());
        if last && wait.outcome == Outcome::Waiting {
            wait.outcome = Outcome::Fired;
            let (node, orphan) = (wait.node, wait.orphan);
            if orphan {
                self.lost_an_orphan(node, asked);
            }
            self.lost_a_wait(node, asked);
        }
    }

    /// A schedule point is over: whoever waited goes on, wherever that was.
    pub(super) fn end_pause(&mut self, number: usize, asked: &mut Asked) {
        let (node, who) = self.pauses.swap_remove(number);
        asked.wake(Some(who));
        if self.nodes.contains_key(&node) {
            self.lost_a_wait(node, asked);
        }
    }

    /// Cancels what is idle in `top`, as far as no shield is between, and says what that was; what had
    /// been cancelled before keeps its reason (L2).
    pub(super) fn drain(
        &mut self,
        top: usize,
        at: &'static Location<'static>,
        asked: &mut Asked,
    ) -> BTreeSet<usize> {
        let Some(node) = self.nodes.get_mut(&top) else { return BTreeSet::new() };
        node.drained.get_or_insert(at);
        let is_ended = |key: &usize| {
            let node = &self.nodes[key];
            node.what == What::Idle && node.cause.is_none() && self.is_open_to(*key, top)
        };
        let ended: BTreeSet<_> = self.nodes.keys().copied().filter(is_ended).collect();
        self.change(asked, |twin| {
            for key in &ended {
                twin.nodes.get_mut(key).unwrap().cause = Some(Reason::Drained { at });
            }
        });
        ended
    }

    /// Whether a node is in `top`, and no shield between hides it; that of `top` hides it from what is
    /// further out.
    fn is_open_to(&self, key: usize, top: usize) -> bool {
        let node = &self.nodes[&key];
        key == top || (!node.shield && node.parent.is_some_and(|up| self.is_open_to(up, top)))
    }

    /// Where it was said to the innermost node around that is drained.
    pub(super) fn drained(&self, key: usize) -> Option<&'static Location<'static>> {
        let node = self.nodes.get(&key)?;
        let inherited = node.parent.filter(|_| !node.shield);
        node.drained.or_else(|| self.drained(inherited?))
    }

    pub(super) fn polled(&mut self, key: usize, node: usize, whom: Who, asked: &mut Asked) {
        self.set_orphan(key, false, asked);
        if self.waits.get(&key).is_some_and(|wait| wait.node != node) {
            self.move_wait(key, node, asked);
        }
        match self.waits.get_mut(&key) {
            None => asked.bury(Some(whom)),
            Some(wait) if wait.outcome == Outcome::Waiting => asked.bury(wait.whom.replace(whom)),
            Some(_) => asked.wake(Some(whom)),
        }
    }

    pub(super) fn set_orphan(&mut self, key: usize, orphan: bool, asked: &mut Asked) {
        let Some(wait) = self.waits.get_mut(&key) else { return };
        let was = std::mem::replace(&mut wait.orphan, orphan);
        let (node, waiting) = (wait.node, wait.outcome == Outcome::Waiting);
        if was && !orphan && waiting {
            self.lost_an_orphan(node, asked);
        }
    }

    pub(super) fn ask_orphan(&mut self, key: usize, asked: &mut Asked) {
        if self.waits[&key].orphan && matches!(self.waits[&key].subject, Subject::Operation(_)) {
            self.abort(key, asked);
        }
    }

    pub(super) fn end_orphans(&mut self, key: usize, asked: &mut Asked) -> usize {
        for node in self.subtree(key) {
            // Those that have ended are picked up with those that have not.
            let waits = if self.orphans(node) > 0 { self.waits(node) } else { BTreeSet::new() };
            for wait in waits {
                self.ask_orphan(wait, asked);
                if node != key && self.waits[&wait].orphan {
                    self.move_wait(wait, key, asked);
                }
            }
        }
        self.nodes.get_mut(&key).unwrap().closing = true;
        self.orphans(key)
    }
}
