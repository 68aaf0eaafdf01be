//! The tree of scopes. No algorithm here recurses (rule B4).

mod drain;
mod stuck;

use std::panic::Location;
use std::task::Waker;

use crate::clock::Instant;
use crate::error::Reason;
use crate::slots::{Key, Slots};

use super::deadlines::Timer;
use super::sweep::Sweep;

pub(crate) struct Tree {
    nodes: Slots<Node>,
    waits: Slots<Wait>,
}

/// One entered scope, nursery or child (rule B1).
pub(crate) struct Node {
    parent: Option<Key<Node>>,
    first_child: Option<Key<Node>>,
    previous: Option<Key<Node>>,
    next: Option<Key<Node>>,
    what: What,
    at: &'static Location<'static>,
    shield: bool,
    /// Where it was asked to end what is idle in it; never taken back.
    drained: Option<&'static Location<'static>>,
    /// Its own cancellation; never taken back (rule B6).
    cause: Option<Box<Cause>>,
    /// What B3 says, kept up to date: own, or the parent's unless shielded.
    effective: bool,
    pub(crate) deadline: Option<Instant>,
    pub(crate) timer: Option<Key<Timer>>,
    first_wait: Option<Key<Wait>>,
    /// Waits of this very node that have not ended.
    pending: u32,
    /// Those of them that nobody is waiting for any more.
    orphans: u32,
    /// How often the next turn is waited for here.
    pauses: u32,
    /// Whether it waits for its orphans to end.
    closing: bool,
    /// Who polls the body. `None`: it runs, or it has been woken and not been polled yet.
    body: Option<Whom>,
}

/// What a node stands for, and where in the program it was made.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    pub(crate) what: What,
    pub(crate) at: &'static Location<'static>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Run,
    Scope,
    /// A scope in which nothing is in hand.
    Idle,
    Nursery,
    Child,
    Daemon,
    /// A child that is cancelled after all others have ended.
    Service,
}

impl What {
    /// Whether it is polled on its own.
    pub(crate) fn is_child(self) -> bool {
        matches!(self, What::Child | What::Daemon | What::Service)
    }
}

/// What a node leaves behind.
#[derive(Default)]
pub(crate) struct Closed {
    pub(crate) timer: Option<Key<Timer>>,
    /// Where those who waited in it for the next turn wait now, if there are any.
    pub(crate) pauses_in: Option<Key<Node>>,
}

struct Cause {
    reason: Reason,
    at: Instant,
}

/// Whom to wake.
pub(crate) enum Whom {
    /// A task of the run, by its key; cheaper than its waker.
    Task(u64),
    Waker(Waker),
}

impl Whom {
    fn task(&self) -> Option<u64> {
        match self {
            Whom::Task(task) => Some(*task),
            Whom::Waker(_) => None,
        }
    }
}

/// One waiting thing, attached to exactly one node (rule B2).
pub(crate) struct Wait {
    node: Key<Node>,
    previous: Option<Key<Wait>>,
    next: Option<Key<Wait>>,
    subject: Subject,
    outcome: Outcome,
    orphan: bool,
    whom: Option<Whom>,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    /// An operation of the table, which ends when the kernel lets go of it.
    Operation(u64),
    /// Something that a cancellation ends at once.
    Park,
    /// Something that a cancellation does not end: the children.
    Shielded,
    /// A thread at work, which a cancellation does not end either; but it is told, and so is its owner.
    Thread(u64),
}

/// How far a wait is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Waiting,
    /// What was waited for has come.
    Fired,
    /// Aborted; only parks are (rule C2).
    Cancelled,
}

impl Tree {
    pub(crate) fn new() -> Tree {
        Tree { nodes: Slots::new(), waits: Slots::new() }
    }

    // Nodes.

    pub(crate) fn open(
        &mut self,
        parent: Option<Key<Node>>,
        label: Label,
        shield: bool,
    ) -> Key<Node> {
        let effective = !shield && parent.is_some_and(|parent| self.is_effective(parent));
        let key = self.nodes.insert_with(|_| Node {
            parent: None,
            first_child: None,
            previous: None,
            next: None,
            what: label.what,
            at: label.at,
            shield,
            drained: None,
            cause: None,
            effective,
            deadline: None,
            timer: None,
            first_wait: None,
            pending: 0,
            orphans: 0,
            pauses: 0,
            closing: false,
            body: None,
        });
        if let Some(parent) = parent {
            self.link_node(key, parent);
        }
        key
    }

    /// Takes a node out. What still waits in it and what is still open below it moves up to its
    /// parent; orphans are asked to end (rules E11, F12).
    pub(crate) fn close(&mut self, key: Key<Node>, sweep: &mut Sweep) -> Closed {
        let Some(node) = self.nodes.get(key) else { return Closed::default() };
        let (pauses, mut pauses_in) = (node.pauses, None);
        if let Some(parent) = node.parent {
            if node.first_child.is_some() || node.first_wait.is_some() {
                self.hand_up(key, parent, sweep);
            }
            self.unlink_node(key);
            if pauses > 0 {
                self.node_mut(parent).pauses += pauses;
                pauses_in = Some(parent);
            }
            self.lost_a_wait(parent, sweep);
        }
        let node = self.node_mut(key);
        sweep.bury(node.body.take());
        let timer = node.timer;
        self.nodes.discard(key);
        Closed { timer, pauses_in }
    }

    fn hand_up(&mut self, key: Key<Node>, parent: Key<Node>, sweep: &mut Sweep) {
        while let Some(child) = self.node(key).first_child {
            self.unlink_node(child);
            self.link_node(child, parent);
            self.recompute(child, sweep);
        }
        while let Some(wait) = self.node(key).first_wait {
            self.ask_orphan(wait, sweep);
            self.move_wait(wait, parent, sweep);
        }
    }

    /// Moves a node, with everything below it, under another parent (rule B2).
    pub(crate) fn adopt(&mut self, key: Key<Node>, parent: Key<Node>, sweep: &mut Sweep) {
        let Some(former) = self.nodes.get(key).map(|node| node.parent) else { return };
        if former == Some(parent) || self.is_within(parent, key) {
            return;
        }
        self.unlink_node(key);
        self.link_node(key, parent);
        self.recompute(key, sweep);
        if let Some(former) = former {
            self.lost_a_wait(former, sweep);
        }
    }

    fn is_within(&self, mut node: Key<Node>, ancestor: Key<Node>) -> bool {
        loop {
            if node == ancestor {
                return true;
            }
            match self.nodes.get(node).and_then(|node| node.parent) {
                Some(parent) => node = parent,
                None => return false,
            }
        }
    }

    pub(crate) fn parent(&self, key: Key<Node>) -> Option<Key<Node>> {
        self.nodes.get(key)?.parent
    }

    pub(crate) fn get(&self, key: Key<Node>) -> Option<&Node> {
        self.nodes.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: Key<Node>) -> Option<&mut Node> {
        self.nodes.get_mut(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    // Cancellation.

    /// Whether the node is effectively cancelled (rule B3). A node that has gone is.
    pub(crate) fn is_effective(&self, key: Key<Node>) -> bool {
        self.nodes.get(key).is_none_or(|node| node.effective)
    }

    /// Whether a cancellation comes from outside the node (*outer* in section E).
    pub(crate) fn is_outer(&self, key: Key<Node>) -> bool {
        let Some(node) = self.nodes.get(key) else { return true };
        !node.shield && node.parent.is_some_and(|parent| self.is_effective(parent))
    }

    /// First stroke: marks the subtree and collects what waits in it, stopping at shields. The first
    /// reason stays (rule L2); its timer comes back (rule F7).
    pub(crate) fn cancel(
        &mut self,
        key: Key<Node>,
        reason: Reason,
        now: Instant,
        sweep: &mut Sweep,
    ) -> Option<Key<Timer>> {
        let node = self.nodes.get_mut(key)?;
        if node.cause.is_some() {
            return None;
        }
        node.cause = Some(Box::new(Cause { reason, at: now }));
        let timer = node.timer.take();
        self.recompute(key, sweep);
        timer
    }

    /// Switches the shield; taking it away delivers at once (rule G2).
    pub(crate) fn set_shield(&mut self, key: Key<Node>, shield: bool, sweep: &mut Sweep) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.shield = shield;
            self.recompute(key, sweep);
        }
    }

    /// The node's own reason, else its parent's, as far as no shield is between (rule L3).
    pub(crate) fn reason(&self, mut key: Key<Node>) -> Reason {
        while let Some(node) = self.nodes.get(key) {
            match (&node.cause, node.parent) {
                (Some(cause), _) => return cause.reason.clone(),
                (None, Some(parent)) if !node.shield => key = parent,
                _ => break,
            }
        }
        Reason::Shutdown
    }

    /// Rule H1; `None`: there is none.
    pub(crate) fn effective_deadline(&self, mut key: Key<Node>) -> Option<Instant> {
        if self.is_effective(key) {
            return Some(Instant::MIN);
        }
        let mut earliest = None;
        while let Some(node) = self.nodes.get(key) {
            earliest = [earliest, node.deadline].into_iter().flatten().min();
            match node.parent {
                Some(parent) if !node.shield => key = parent,
                _ => break,
            }
        }
        earliest
    }

    /// Brings `effective` up to date from `top` downwards, stopping where nothing changed (rule B4).
    fn recompute(&mut self, top: Key<Node>, sweep: &mut Sweep) {
        let mut at = top;
        loop {
            let node = self.node(at);
            let inherited = !node.shield && node.parent.is_some_and(|up| self.is_effective(up));
            let effective = node.cause.is_some() || inherited;
            let changed = effective != node.effective;
            let first_child = node.first_child.filter(|_| changed);
            if changed {
                self.node_mut(at).effective = effective;
                if effective {
                    self.collect(at, sweep);
                }
            }
            match first_child.or_else(|| self.after(at, top)) {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    /// The next node of a walk below `top` that does not go into `at`.
    fn after(&self, mut at: Key<Node>, top: Key<Node>) -> Option<Key<Node>> {
        while at != top {
            let node = self.node(at);
            if node.next.is_some() {
                return node.next;
            }
            at = node.parent?;
        }
        None
    }

    /// Puts everything that waits in this very node on the list. A body that has an operation of its
    /// own is polled when that ends; every other one has to look for itself (rule F13).
    fn collect(&mut self, key: Key<Node>, sweep: &mut Sweep) {
        let mut has_operation = false;
        let mut at = self.node(key).first_wait;
        while let Some(wait) = at {
            has_operation |= self.abort(wait, sweep);
            at = self.wait(wait).next;
        }
        if !has_operation {
            self.wake_body(key, sweep);
        }
    }

    /// Asks one wait to end; says whether it is an operation that has not ended yet.
    fn abort(&mut self, key: Key<Wait>, sweep: &mut Sweep) -> bool {
        let wait = self.waits.get_mut(key).expect("attached waits exist");
        match (wait.subject, wait.outcome) {
            (Subject::Operation(operation), Outcome::Waiting) => {
                sweep.operations.push(operation);
                true
            }
            (Subject::Park, Outcome::Waiting) => {
                wait.outcome = Outcome::Cancelled;
                sweep.wake(wait.whom.take());
                let node = wait.node;
                self.node_mut(node).pending -= 1;
                false
            }
            (Subject::Thread(worker), Outcome::Waiting) => {
                sweep.wake(wait.whom.take());
                sweep.workers.push((worker, wait.node));
                false
            }
            _ => false,
        }
    }

    /// Has the body of a node polled again.
    pub(crate) fn wake_body(&mut self, key: Key<Node>, sweep: &mut Sweep) {
        let node = self.node_mut(key);
        match node.body {
            // A task stays where it is; waking it twice is waking it once.
            Some(Whom::Task(task)) => sweep.tasks.push(task),
            _ => sweep.wake(node.body.take()),
        }
    }

    /// Says who polls the body of a node from now on.
    #[inline]
    pub(crate) fn set_body(&mut self, key: Key<Node>, whom: Whom, sweep: &mut Sweep) {
        match self.nodes.get_mut(key) {
            Some(node) => sweep.bury(node.body.replace(whom)),
            None => sweep.bury(Some(whom)),
        }
    }

    /// A cancelled body may have been waiting for nothing else: it looks again (rule F13). One that
    /// runs, or was woken already, does so anyway.
    fn lost_a_wait(&mut self, key: Key<Node>, sweep: &mut Sweep) {
        if self.node(key).effective {
            self.wake_body(key, sweep);
        }
    }

    // Waits.

    #[inline]
    pub(crate) fn attach(
        &mut self,
        node: Key<Node>,
        subject: Subject,
        whom: Option<Whom>,
    ) -> Key<Wait> {
        let host = self.nodes.get_mut(node).expect("the caller's node exists");
        let (next, outcome) = (host.first_wait, Outcome::Waiting);
        let wait = Wait { node, previous: None, next, subject, outcome, orphan: false, whom };
        let key = self.waits.insert(wait);
        host.first_wait = Some(key);
        host.pending += 1;
        if let Some(next) = next {
            self.waits.get_mut(next).expect("attached waits exist").previous = Some(key);
        }
        key
    }

    /// Takes a wait out, whether it has ended or not.
    #[inline]
    pub(crate) fn detach(&mut self, key: Key<Wait>, sweep: &mut Sweep) {
        let Some(wait) = self.waits.get_mut(key) else { return };
        let (link, outcome, orphan) = (wait.link(), wait.outcome, wait.orphan);
        sweep.bury(wait.whom.take());
        self.waits.discard(key);
        let node = link.node;
        self.unlink_wait(link);
        if outcome == Outcome::Waiting {
            self.orphan_ended(node, orphan, sweep);
            self.lost_a_wait(node, sweep);
        }
    }

    /// What was waited for has come. `last`: nothing more will. Whoever waits is to be woken.
    #[inline]
    pub(crate) fn fire(&mut self, key: Key<Wait>, last: bool, sweep: &mut Sweep) {
        let Some(wait) = self.waits.get_mut(key) else { return };
        let whom = wait.whom.take();
        let woken = whom.as_ref().and_then(Whom::task);
        sweep.wake(whom);
        if !last || wait.outcome != Outcome::Waiting {
            return;
        }
        wait.outcome = Outcome::Fired;
        let (node, orphan) = (wait.node, wait.orphan);
        let host = self.node_mut(node);
        host.pending -= 1;
        host.orphans -= u32::from(orphan);
        // Mostly the body is who has just been woken.
        if (host.effective || host.closing) && !host.is_body(woken) {
            self.orphan_ended(node, orphan, sweep);
            self.lost_a_wait(node, sweep);
        }
    }

    /// Somebody in the node waits for the next turn, until [`end_pause`](Tree::end_pause). The node may
    /// have gone by then.
    pub(crate) fn pause(&mut self, key: Key<Node>) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.pauses += 1;
        }
    }

    /// The next turn has come: whoever waits is to be woken.
    pub(crate) fn end_pause(&mut self, key: Key<Node>, whom: Whom, sweep: &mut Sweep) {
        let woken = whom.task();
        sweep.wake(Some(whom));
        let Some(node) = self.nodes.get_mut(key) else { return };
        node.pauses -= 1;
        if node.effective && !node.is_body(woken) {
            self.wake_body(key, sweep);
        }
    }

    /// Notes who polls: the wait belongs where it is polled (rule B2), has a living owner, and wakes
    /// that one.
    pub(crate) fn polled(
        &mut self,
        key: Key<Wait>,
        node: Key<Node>,
        whom: Whom,
        sweep: &mut Sweep,
    ) {
        if self.waits.get(key).is_some_and(|wait| wait.orphan) {
            self.set_orphan(key, false, sweep);
        }
        if self.waits.get(key).is_some_and(|wait| wait.node != node) {
            self.move_wait(key, node, sweep);
        }
        let Some(wait) = self.waits.get_mut(key) else { return sweep.bury(Some(whom)) };
        match wait.outcome {
            Outcome::Waiting => sweep.bury(wait.whom.replace(whom)),
            // It ended when it was moved into a cancelled scope.
            _ => sweep.wake(Some(whom)),
        }
    }

    /// Where a wait is attached.
    pub(crate) fn node_of(&self, key: Key<Wait>) -> Option<Key<Node>> {
        self.waits.get(key).map(|wait| wait.node)
    }

    pub(crate) fn outcome(&self, key: Key<Wait>) -> Option<Outcome> {
        self.waits.get(key).map(|wait| wait.outcome)
    }

    /// Nobody waits for it any more, or somebody does again. The scope it is in does not end before
    /// its orphans have (rule E11).
    pub(crate) fn set_orphan(&mut self, key: Key<Wait>, orphan: bool, sweep: &mut Sweep) {
        let Some(wait) = self.waits.get_mut(key) else { return };
        if wait.orphan == orphan {
            return;
        }
        debug_assert!(
            matches!(wait.subject, Subject::Operation(_) | Subject::Thread(_)),
            "only what goes on by itself is orphaned"
        );
        wait.orphan = orphan;
        let (node, waiting) = (wait.node, wait.outcome == Outcome::Waiting);
        if waiting {
            let host = self.node_mut(node);
            host.orphans = if orphan { host.orphans + 1 } else { host.orphans - 1 };
            self.orphan_ended(node, !orphan, sweep);
        }
    }

    /// Asks the orphans of a node, and of what is still open below it, to end, and counts them: all
    /// of them are the node's own from now on.
    pub(crate) fn end_orphans(&mut self, key: Key<Node>, sweep: &mut Sweep) -> u32 {
        let node = self.node_mut(key);
        if node.first_child.is_none() && node.orphans == 0 {
            node.closing = true;
            return 0;
        }
        let mut at = key;
        loop {
            let mut wait = self.node(at).first_wait.filter(|_| self.node(at).orphans > 0);
            while let Some(this) = wait {
                wait = self.wait(this).next;
                self.ask_orphan(this, sweep);
                if at != key && self.wait(this).orphan {
                    self.move_wait(this, key, sweep);
                }
            }
            match self.node(at).first_child.or_else(|| self.after(at, key)) {
                Some(next) => at = next,
                None => break,
            }
        }
        let node = self.node_mut(key);
        node.closing = true;
        node.orphans
    }

    fn ask_orphan(&mut self, key: Key<Wait>, sweep: &mut Sweep) {
        let wait = self.wait(key);
        if let (true, Outcome::Waiting, Subject::Operation(operation)) =
            (wait.orphan, wait.outcome, wait.subject)
        {
            sweep.operations.push(operation);
        }
    }

    /// A scope that waits for its last orphan goes on.
    fn orphan_ended(&mut self, node: Key<Node>, ended: bool, sweep: &mut Sweep) {
        if ended && self.node(node).closing && self.node(node).orphans == 0 {
            self.wake_body(node, sweep);
        }
    }

    /// What waits in this very node.
    pub(crate) fn waits_of(&self, key: Key<Node>) -> impl Iterator<Item = &Wait> {
        let mut at = self.nodes.get(key).and_then(|node| node.first_wait);
        std::iter::from_fn(move || {
            let wait = self.waits.get(at?)?;
            at = wait.next;
            Some(wait)
        })
    }

    // Links.

    fn move_wait(&mut self, key: Key<Wait>, to: Key<Node>, sweep: &mut Sweep) {
        let link = self.wait(key).link();
        let (from, orphan) = (link.node, self.wait(key).orphan);
        self.unlink_wait(link);
        let was_effective = self.is_effective(from);
        self.link_wait(key, to);
        self.orphan_ended(from, orphan, sweep);
        if self.wait(key).outcome == Outcome::Waiting {
            if !was_effective && self.is_effective(to) {
                self.abort(key, sweep);
            }
            self.lost_a_wait(from, sweep);
        }
    }

    fn link_wait(&mut self, key: Key<Wait>, to: Key<Node>) {
        let first = self.node_mut(to).first_wait.replace(key);
        if let Some(first) = first {
            self.waits.get_mut(first).expect("attached waits exist").previous = Some(key);
        }
        let wait = self.waits.get_mut(key).expect("the caller's wait exists");
        (wait.node, wait.previous, wait.next) = (to, None, first);
        let Link { pending, orphans, .. } = wait.link();
        let node = self.node_mut(to);
        node.pending += pending;
        node.orphans += orphans;
    }

    #[inline]
    fn unlink_wait(&mut self, Link { node, previous, next, pending, orphans }: Link) {
        let host = self.nodes.get_mut(node).expect("linked nodes exist");
        host.pending -= pending;
        host.orphans -= orphans;
        match previous {
            Some(previous) => self.waits.get_mut(previous).expect("linked").next = next,
            None => host.first_wait = next,
        }
        if let Some(next) = next {
            self.waits.get_mut(next).expect("linked").previous = previous;
        }
    }

    fn link_node(&mut self, key: Key<Node>, parent: Key<Node>) {
        let first = self.node_mut(parent).first_child.replace(key);
        if let Some(first) = first {
            self.node_mut(first).previous = Some(key);
        }
        let node = self.node_mut(key);
        (node.parent, node.previous, node.next) = (Some(parent), None, first);
    }

    fn unlink_node(&mut self, key: Key<Node>) {
        let node = self.node_mut(key);
        let (parent, previous, next) = (node.parent.take(), node.previous.take(), node.next.take());
        match (previous, parent) {
            (Some(previous), _) => self.node_mut(previous).next = next,
            (None, Some(parent)) => self.node_mut(parent).first_child = next,
            (None, None) => {}
        }
        if let Some(next) = next {
            self.node_mut(next).previous = previous;
        }
    }

    fn node(&self, key: Key<Node>) -> &Node {
        self.nodes.get(key).expect("linked nodes exist")
    }

    #[inline(always)]
    fn node_mut(&mut self, key: Key<Node>) -> &mut Node {
        self.nodes.get_mut(key).expect("linked nodes exist")
    }

    fn wait(&self, key: Key<Wait>) -> &Wait {
        self.waits.get(key).expect("attached waits exist")
    }
}

impl Node {
    /// Whether the task that polls its body is this one.
    fn is_body(&self, task: Option<u64>) -> bool {
        task.is_some() && self.body.as_ref().and_then(Whom::task) == task
    }

    fn is_task_that(&self, predicate: impl Fn(u64) -> bool) -> bool {
        matches!(self.body, Some(Whom::Task(task)) if predicate(task))
    }

    pub(crate) fn label(&self) -> Label {
        Label { what: self.what, at: self.at }
    }

    pub(crate) fn is_shielded(&self) -> bool {
        self.shield
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.pauses > 0
    }

    /// Its own cancellation and when it came.
    pub(crate) fn cause(&self) -> Option<(&Reason, Instant)> {
        self.cause.as_ref().map(|cause| (&cause.reason, cause.at))
    }

    pub(crate) fn first_child(&self) -> Option<Key<Node>> {
        self.first_child
    }

    pub(crate) fn next_sibling(&self) -> Option<Key<Node>> {
        self.next
    }
}

/// Where a wait is linked, and what it counts for there.
struct Link {
    node: Key<Node>,
    previous: Option<Key<Wait>>,
    next: Option<Key<Wait>>,
    pending: u32,
    orphans: u32,
}

impl Wait {
    fn link(&self) -> Link {
        let Wait { node, previous, next, .. } = *self;
        let pending = u32::from(self.outcome == Outcome::Waiting);
        Link { node, previous, next, pending, orphans: pending * u32::from(self.orphan) }
    }

    pub(crate) fn subject(&self) -> Subject {
        self.subject
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome
    }

    pub(crate) fn is_orphan(&self) -> bool {
        self.orphan
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
