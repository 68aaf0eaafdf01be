//! The naive model: a tree of plain nodes that is asked from scratch each time.
//!
//! It hears of everything that a program does, knows the rules, and shares no code with the crate.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::Reason;
use crate::exec;
use crate::time::Instant;

use super::program::{Action, Carrier};

/// A node's number.
pub(super) type Id = usize;

/// The root of every run.
pub(super) const ROOT: Id = 0;

pub(super) struct Model {
    /// Connections may break.
    pub(super) loses: bool,
    /// What its pipes are.
    pub(super) pipes: Vec<Carrier>,
    inner: RefCell<Inner>,
}

struct Inner {
    nodes: Vec<Node>,
    /// The innermost scope that is being polled.
    current: Id,
    /// The turn in which deadlines were looked at last.
    turn: u64,
    violations: Vec<String>,
    /// Operations that were polled and neither ended nor were dropped.
    live: Vec<Live>,
    next_live: u64,
    /// Where operations were polled last that were dropped then, or that have failed: those may have
    /// left something behind that is closed.
    orphans: Vec<Id>,
    /// Where each connection was received from last.
    receiving: BTreeMap<u8, Id>,
    /// How often `Cancelled` was delivered.
    delivered: u32,
    pairs: BTreeSet<Pair>,
    /// Steps that were begun.
    steps: u64,
}

/// An operation that waited in a scope when that was cancelled, on what, and how it ended.
pub(super) type Pair = (&'static str, &'static str, &'static str);

/// An operation that waits.
struct Live {
    number: u64,
    /// Where it was polled last; `None`: nobody polls it.
    at: Option<Id>,
    /// It is the kernel that it waits for.
    in_kernel: bool,
}

struct Node {
    parent: Option<Id>,
    cancelled: Option<Why>,
    shield: bool,
    deadline: Option<Instant>,
    place: Place,
    /// It is a child of the nursery above it, not a scope in that one's body.
    is_child: bool,
    /// The turn since which there is nothing to wait for at its exit.
    idle: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Inside,
    Left,
    /// Its future was dropped half-way (rule F12).
    Dropped,
}

impl Node {
    fn new(parent: Option<Id>, cancelled: Option<Why>) -> Node {
        let (shield, deadline, place) = (false, None, Place::Inside);
        Node { parent, cancelled, shield, deadline, place, is_child: false, idle: None }
    }
}

/// Why a node was cancelled, as far as the model knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    Deadline,
    /// By the call with this number.
    Explicit(u32),
    SiblingFailed,
    Finished,
    Shutdown,
}

impl Model {
    pub(super) fn new(loses: bool, pipes: &[Carrier]) -> Model {
        let root = Node::new(None, None);
        let inner = Inner {
            nodes: vec![root],
            current: ROOT,
            turn: 0,
            violations: Vec::new(),
            live: Vec::new(),
            next_live: 0,
            orphans: Vec::new(),
            receiving: BTreeMap::new(),
            delivered: 0,
            pairs: BTreeSet::new(),
            steps: 0,
        };
        Model { loses, pipes: pipes.to_vec(), inner: RefCell::new(inner) }
    }

    /// Expires deadlines first if a new turn has begun (rule C8): all that one asks or tells comes
    /// after that.
    fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        let inner = &mut *self.inner.borrow_mut();
        if let Some(run) = exec::current_or_none() {
            let turn = run.turn_number();
            if turn != inner.turn {
                inner.turn = turn;
                inner.expire(run.now());
            }
        }
        f(inner)
    }

    // What happens to the tree.

    /// A scope is entered under whatever is being polled (rule B1).
    pub(super) fn open(&self, shield: bool, deadline: Option<Instant>, before: Option<Why>) -> Id {
        let now = Instant::now();
        self.with(|inner| {
            let parent = Some(inner.current);
            // Rule L2: who came first stays. Rule F3: a deadline that has passed cancels at once.
            let late = deadline.filter(|&at| now >= at).map(|_| Why::Deadline);
            let cancelled = before.or(late);
            inner.nodes.push(Node { shield, deadline, ..Node::new(parent, cancelled) });
            inner.nodes.len() - 1
        })
    }

    /// A child comes to be under its nursery, wherever it was spawned (rule N11).
    pub(super) fn open_child(&self, nursery: Id) -> Id {
        self.with(|inner| {
            inner.nodes.push(Node { is_child: true, ..Node::new(Some(nursery), None) });
            inner.nodes.len() - 1
        })
    }

    /// What is polled elsewhere moves there (rule B2).
    pub(super) fn follow(&self, node: Id) {
        self.with(|inner| inner.nodes[node].parent = Some(inner.current));
    }

    /// Polls happen in `node` from now on; the former one comes back.
    pub(super) fn enter(&self, node: Id) -> Id {
        self.with(|inner| std::mem::replace(&mut inner.current, node))
    }

    pub(super) fn cancel(&self, node: Id, why: Why) {
        self.with(|inner| inner.cancel(node, why));
    }

    pub(super) fn set_shield(&self, node: Id, on: bool) {
        self.with(|inner| inner.nodes[node].shield = on);
    }

    pub(super) fn set_deadline(&self, node: Id, to: Option<Instant>) {
        self.with(|inner| inner.nodes[node].deadline = to);
    }

    /// The scope has returned. Nothing of it is left (rule E11).
    pub(super) fn leave(&self, node: Id) {
        self.with(|inner| {
            inner.nodes[node].place = Place::Left;
            let nodes = &inner.nodes;
            inner.orphans.retain(|&orphan| first_open(nodes, orphan, node) != Some(node));
        });
    }

    /// The scope's future is about to be dropped half-way.
    pub(super) fn drop_node(&self, node: Id) {
        self.with(|inner| inner.nodes[node].place = Place::Dropped);
    }

    // What one may ask.

    pub(super) fn current(&self) -> Id {
        self.with(|inner| inner.current)
    }

    /// Rule B3.
    pub(super) fn is_cancelled(&self, node: Id) -> bool {
        self.with(|inner| inner.is_cancelled(node))
    }

    pub(super) fn is_cancelled_here(&self) -> bool {
        self.with(|inner| inner.is_cancelled(inner.current))
    }

    /// Whether an error that arrives at the exit of `node` now loses its cancellation (rule E1).
    pub(super) fn absorbs(&self, node: Id) -> bool {
        self.with(|inner| {
            let Node { parent, shield, .. } = inner.nodes[node];
            let outer = !shield && parent.is_some_and(|parent| inner.is_cancelled(parent));
            inner.is_cancelled(node) && !outer
        })
    }

    /// Why the node itself was cancelled.
    pub(super) fn own_reason(&self, node: Id) -> Option<Why> {
        self.with(|inner| inner.nodes[node].cancelled)
    }

    /// Why a cancel point here raises (rules L1 to L3).
    pub(super) fn reason_here(&self) -> Option<Why> {
        self.with(|inner| {
            let mut at = inner.current;
            loop {
                let Node { parent, cancelled, shield, .. } = inner.nodes[at];
                match (cancelled, parent) {
                    (Some(why), _) => return Some(why),
                    (None, Some(parent)) if !shield => at = parent,
                    _ => return None,
                }
            }
        })
    }

    /// Rule H1; `None`: there is none.
    pub(super) fn effective_deadline_here(&self) -> Option<Instant> {
        self.with(|inner| inner.effective_deadline(inner.current))
    }

    /// Whether the node, or one around it, is being dropped or has gone.
    pub(super) fn is_dropped(&self, node: Id) -> bool {
        self.with(|inner| {
            let mut at = Some(node);
            while let Some(node) = at {
                if inner.nodes[node].place == Place::Dropped {
                    return true;
                }
                at = inner.nodes[node].parent;
            }
            false
        })
    }

    // Operations.

    /// An operation begins to wait.
    pub(super) fn begin(&self, in_kernel: bool) -> u64 {
        self.with(|inner| {
            inner.next_live += 1;
            let (number, at) = (inner.next_live, Some(inner.current));
            inner.live.push(Live { number, at, in_kernel });
            number
        })
    }

    /// It is polled, here.
    pub(super) fn polled(&self, operation: u64) {
        self.with(|inner| {
            let here = inner.current;
            inner.live(operation).at = Some(here);
        });
    }

    /// Nobody polls it any more, but it is owned (rule B2): no scope's body waits for it.
    pub(super) fn lay_aside(&self, operation: u64) {
        self.with(|inner| inner.live(operation).at = None);
    }

    pub(super) fn end(&self, operation: u64) {
        self.with(|inner| inner.live.retain(|live| live.number != operation));
    }

    /// Something that nobody waits for may be under way in `node`: of an operation that was dropped
    /// or has failed there.
    pub(super) fn orphan(&self, node: Id) {
        self.with(|inner| inner.orphans.push(node));
    }

    /// Whether an operation that somebody polls waits in the body of `node`: children do not belong
    /// to it.
    pub(super) fn waits_below(&self, node: Id) -> bool {
        self.with(|inner| {
            inner.live.iter().filter_map(|live| live.at).any(|at| inner.is_below(at, node))
        })
    }

    /// How many operations the kernel may have at most, besides those that objects keep.
    pub(super) fn most_in_kernel(&self) -> usize {
        self.with(|inner| {
            inner.live.iter().filter(|live| live.in_kernel).count() + inner.orphans.len()
        })
    }

    /// The kernel receives for this connection, here.
    pub(super) fn receives(&self, pipe: u8) {
        self.with(|inner| inner.receiving.insert(pipe, inner.current));
    }

    /// What it receives there is wanted no more.
    pub(super) fn stops_receiving(&self, pipe: u8) {
        self.with(|inner| inner.orphans.extend(inner.receiving.get(&pipe)));
    }

    // Leaving.

    /// Everything in `node` has ended, and it was polled and has not returned. Rules E11, N8: it waits
    /// for orphans and for nothing else, not for what a living future owns; and for one turn at most
    /// if there are none.
    pub(super) fn stays(&self, node: Id) {
        if self.may_be_exhausted() {
            return;
        }
        let late = self.with(|inner| {
            let nodes = &inner.nodes;
            let has_orphans = inner.orphans.iter().any(|&at| goes_through(nodes, at, node));
            let turn = inner.turn;
            let idle = &mut inner.nodes[node].idle;
            *idle = idle.or(Some(turn)).filter(|_| !has_orphans);
            idle.is_some_and(|since| turn > since + 1)
        });
        self.check(!late, || "E11: a scope waits although nothing of it is left".to_owned());
    }

    /// Whether a scope was not even polled again after that.
    pub(super) fn someone_stays(&self) -> bool {
        self.with(|inner| {
            let turn = inner.turn;
            let mut inside = inner.nodes.iter().filter(|node| node.place == Place::Inside);
            inside.any(|node| node.idle.is_some_and(|since| turn > since + 2))
        })
    }

    /// `Cancelled` was delivered; it is counted as rule F14 does, but never set back.
    pub(super) fn delivered(&self) {
        self.with(|inner| inner.delivered += 1);
    }

    /// Whether a task may have swallowed so many cancellations that it is to be dropped (rule F14).
    pub(super) fn may_be_exhausted(&self) -> bool {
        let patience = u32::from(exec::PATIENCE);
        self.with(|inner| inner.delivered > patience - patience / 10)
    }

    // What was found.

    pub(super) fn pair(&self, action: Action, how: &'static str) {
        let pipe = action.pipe().map(|pipe| self.pipes[usize::from(pipe) % self.pipes.len()]);
        let pair = (pipe.map_or("", Carrier::name), action.name(), how);
        self.with(|inner| inner.pairs.insert(pair));
    }

    pub(super) fn step(&self) {
        self.with(|inner| inner.steps += 1);
    }

    pub(super) fn steps(&self) -> u64 {
        self.with(|inner| inner.steps)
    }

    pub(super) fn take_pairs(&self) -> BTreeSet<Pair> {
        self.with(|inner| std::mem::take(&mut inner.pairs))
    }

    /// Notes that a rule was broken.
    pub(super) fn violated(&self, what: impl fmt::Display) {
        let what = what.to_string();
        self.with(|inner| inner.violations.push(what));
    }

    pub(super) fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violated(what());
        }
    }

    pub(super) fn first_violation(&self) -> Option<String> {
        self.with(|inner| inner.violations.first().cloned())
    }
}

impl Inner {
    fn live(&mut self, operation: u64) -> &mut Live {
        let live = self.live.iter_mut().find(|live| live.number == operation);
        live.expect("it has begun")
    }

    fn expire(&mut self, now: Instant) {
        for node in &mut self.nodes {
            let due = node.deadline.is_some_and(|at| now >= at) && node.place == Place::Inside;
            if due {
                node.cancelled.get_or_insert(Why::Deadline);
            }
        }
    }

    fn cancel(&mut self, node: Id, why: Why) {
        if self.nodes[node].place == Place::Inside {
            self.nodes[node].cancelled.get_or_insert(why);
        }
    }

    fn is_cancelled(&self, node: Id) -> bool {
        let Node { parent, cancelled, shield, .. } = self.nodes[node];
        cancelled.is_some() || (!shield && parent.is_some_and(|parent| self.is_cancelled(parent)))
    }

    fn effective_deadline(&self, node: Id) -> Option<Instant> {
        if self.is_cancelled(node) {
            return Some(Instant::MIN);
        }
        let Node { parent, shield, deadline, .. } = self.nodes[node];
        let outer = parent.filter(|_| !shield).and_then(|parent| self.effective_deadline(parent));
        [deadline, outer].into_iter().flatten().min()
    }

    fn is_below(&self, node: Id, top: Id) -> bool {
        let Node { parent, is_child, .. } = self.nodes[node];
        let above = parent.filter(|parent| !is_child || *parent != top);
        node == top || above.is_some_and(|parent| self.is_below(parent, top))
    }
}

/// Whether `node` is `top` or below it, as a child or otherwise.
fn goes_through(nodes: &[Node], node: Id, top: Id) -> bool {
    let mut at = Some(node);
    while let Some(node) = at.filter(|node| *node != top) {
        at = nodes[node].parent;
    }
    at.is_some()
}

/// Who is responsible for what was left in `node`: the nearest one that lives (rule F12), or
/// `leaving` on the way there.
fn first_open(nodes: &[Node], node: Id, leaving: Id) -> Option<Id> {
    let mut at = Some(node);
    while let Some(node) = at {
        if node == leaving || nodes[node].place == Place::Inside {
            return Some(node);
        }
        at = nodes[node].parent;
    }
    None
}

impl Why {
    /// Whether a reason of the crate's says the same.
    pub(super) fn is(self, reason: &Reason) -> bool {
        match (self, reason) {
            (Why::Deadline, Reason::Deadline { .. })
            | (Why::SiblingFailed, Reason::SiblingFailed { .. })
            | (Why::Finished, Reason::Finished)
            | (Why::Shutdown, Reason::Shutdown) => true,
            (Why::Explicit(call), Reason::Explicit { because: Some(text), .. }) => {
                **text == *said(call)
            }
            _ => false,
        }
    }

    /// What a reason is to the model.
    pub(super) fn of(reason: &Reason) -> Why {
        match reason {
            Reason::Deadline { .. } => Why::Deadline,
            Reason::Explicit { because, .. } => {
                let call = because.as_deref().and_then(|text| text.strip_prefix("call "));
                Why::Explicit(call.and_then(|number| number.parse().ok()).unwrap_or(u32::MAX))
            }
            Reason::SiblingFailed { .. } => Why::SiblingFailed,
            Reason::Finished => Why::Finished,
            _ => Why::Shutdown,
        }
    }
}

/// What the program says when it cancels.
pub(super) fn said(call: u32) -> String {
    format!("call {call}")
}
