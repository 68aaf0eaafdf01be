//! The tree beside a naive twin that works everything out from scratch, in random programs; and trees
//! that are too deep for any recursion.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::task::Wake;

use super::*;
use crate::random::Random;

#[path = "tree_twin.rs"]
mod twin;

use twin::{Asked, Twin, TwinNode, TwinWait, Who};

const PROGRAMS: u64 = if cfg!(miri) { 1 } else { 200 };
const STEPS: usize = if cfg!(miri) { 40 } else { 250 };
/// More nodes only make the programs slower, not stranger.
const MOST: usize = 16;
const KINDS: [What; 8] = [
    What::Scope,
    What::Scope,
    What::Idle,
    What::Idle,
    What::Nursery,
    What::Child,
    What::Daemon,
    What::Service,
];

#[test]
fn the_tree_agrees_with_its_twin_after_every_step_of_random_programs() {
    for seed in 0..PROGRAMS {
        let mut pair = Pair::new(seed);
        for step in 0..STEPS {
            let story = format!("seed {seed}, step {step}");
            pair.step(&story);
            pair.compare(&story);
        }
        pair.close_everything(&format!("seed {seed}, at the end"));
    }
}

// The tree and the twin together.

struct Pair {
    random: Random,
    tree: Tree,
    twin: Twin,
    /// The tree's name of each node and wait of the twin, also of those that have gone.
    nodes: Vec<Key<Node>>,
    waits: Vec<Key<Wait>>,
    /// Beside the twin's pauses.
    pauses: Vec<Whom>,
    sweep: Sweep,
    asked: Asked,
    log: Arc<Mutex<Log>>,
    /// Numbers of operations, tasks and wakers; none is given to two of them.
    next: u64,
}

/// What became of the wakers.
#[derive(Default)]
struct Log {
    woken: BTreeSet<u64>,
    dropped: BTreeSet<u64>,
}

struct Bell {
    number: u64,
    log: Arc<Mutex<Log>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.log.lock().unwrap().woken.insert(self.number);
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.log.lock().unwrap().dropped.insert(self.number);
    }
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let mut pair = Pair {
            random: Random(seed),
            tree: Tree::new(),
            twin: Twin::default(),
            nodes: Vec::new(),
            waits: Vec::new(),
            pauses: Vec::new(),
            sweep: Sweep::default(),
            asked: Asked::default(),
            log: Arc::default(),
            next: 0,
        };
        pair.open(None, What::Run, false);
        pair
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Somebody new, or the task that polls a body: mostly that waits itself.
    fn who(&mut self) -> (Who, Whom) {
        if self.random.one_in(4) {
            let node = self.node();
            if let Some(Who::Task(task)) = self.twin.nodes[&node].body {
                return (Who::Task(task), Whom::Task(task));
            }
        }
        let number = self.number();
        if self.random.one_in(2) {
            return (Who::Task(number), Whom::Task(number));
        }
        let bell = Bell { number, log: Arc::clone(&self.log) };
        (Who::Waker(number), Whom::Waker(Waker::from(Arc::new(bell))))
    }

    /// A living node; mostly one of the last, so that trees grow deep.
    fn node(&mut self) -> usize {
        let living: Vec<_> = self.twin.nodes.keys().copied().collect();
        let newest = if self.random.one_in(2) { living.len().min(3) } else { living.len() };
        living[living.len() - 1 - self.random.below(newest)]
    }

    /// A living node, or now and then one that may have gone.
    fn any_node(&mut self) -> usize {
        if self.random.one_in(20) { self.random.below(self.nodes.len()) } else { self.node() }
    }

    fn any_wait(&mut self) -> Option<usize> {
        let living: Vec<_> = self.twin.waits.keys().copied().collect();
        if living.is_empty() || self.random.one_in(20) {
            return (!self.waits.is_empty()).then(|| self.random.below(self.waits.len()));
        }
        Some(living[self.random.below(living.len())])
    }

    /// An operation, or a thread.
    fn goes_on_by_itself(&self, wait: usize) -> bool {
        let wait = self.twin.waits.get(&wait);
        wait.is_none_or(|wait| matches!(wait.subject, Subject::Operation(_) | Subject::Thread(_)))
    }

    fn open(&mut self, parent: Option<usize>, what: What, shield: bool) {
        let label = Label { what, at: Location::caller() };
        let key = self.tree.open(parent.map(|parent| self.nodes[parent]), label, shield);
        assert!(!self.nodes.contains(&key), "{key:?} was the name of another node");
        let (deadline, timer) = (self.deadline(), self.number() as u32);
        let node = self.tree.get_mut(key).unwrap();
        (node.deadline, node.timer) = (deadline, Some(Key::new(timer, NonZeroU32::MIN)));
        let (drained, cause, closing, body) = (None, None, false, None);
        let twin = TwinNode { parent, what, shield, drained, cause, deadline, closing, body };
        self.twin.nodes.insert(self.nodes.len(), twin);
        self.nodes.push(key);
    }

    fn deadline(&mut self) -> Option<Instant> {
        let at = Instant::MIN + std::time::Duration::from_secs(1 + self.random.below(9) as u64);
        self.random.one_in(2).then_some(at)
    }

    fn attach(&mut self, node: usize) {
        let subject = match self.random.below(6) {
            0 => Subject::Shielded,
            1 => Subject::Thread(self.number()),
            2 | 3 => Subject::Park,
            _ => Subject::Operation(self.number()),
        };
        let (who, whom) = (!self.random.one_in(5)).then(|| self.who()).unzip();
        let key = self.tree.attach(self.nodes[node], subject, whom);
        assert!(!self.waits.contains(&key), "{key:?} was the name of another wait");
        let outcome = Outcome::Waiting;
        let twin = TwinWait { node, subject, outcome, orphan: false, whom: who };
        self.twin.waits.insert(self.waits.len(), twin);
        self.waits.push(key);
    }

    /// Does one random thing to both, and compares what that asks of others.
    fn step(&mut self, story: &str) {
        let before = self.twin.clone();
        self.act(story);
        self.compare_asked(&before, story);
    }

    fn act(&mut self, story: &str) {
        let node = self.any_node();
        let key = self.nodes[node];
        let choice = self.random.below(20);
        let wait = if choice < 8 { None } else { self.any_wait() };
        match (choice, wait) {
            (16..=18, _) => self.pause_or_go_on(node),
            (19, _) => self.drain(node, story),
            (0 | 1, _) if self.twin.nodes.len() < MOST => {
                let (parent, what) = (self.node(), KINDS[self.random.below(KINDS.len())]);
                let shield = self.random.one_in(5);
                self.open(Some(parent), what, shield);
            }
            // The root is closed last.
            (0..=2, _) if node > 0 => {
                let timer = self.tree.get(key).and_then(|node| node.timer);
                let waits_for_its_turn = self.twin.pauses(node) > 0;
                let parent = self.twin.nodes.get(&node).and_then(|node| node.parent);
                let closed = self.tree.close(key, &mut self.sweep);
                assert_eq!(closed.timer, timer, "{story}: timer (F7)");
                let heir = parent.filter(|_| waits_for_its_turn).map(|parent| self.nodes[parent]);
                assert_eq!(closed.pauses_in, heir, "{story}: schedule points go on in the parent");
                self.twin.close(node, &mut self.asked);
            }
            (3, _) if self.random.one_in(3) => self.cancel(node, story),
            (4, _) => {
                let shield = self.random.one_in(2);
                self.tree.set_shield(key, shield, &mut self.sweep);
                self.twin.change(&mut self.asked, |twin| {
                    if let Some(node) = twin.nodes.get_mut(&node) {
                        node.shield = shield;
                    }
                });
            }
            (5, _) => {
                let parent = self.node();
                self.tree.adopt(key, self.nodes[parent], &mut self.sweep);
                self.twin.adopt(node, parent, &mut self.asked);
            }
            (6, _) => {
                let (who, whom) = self.who();
                self.tree.set_body(key, whom, &mut self.sweep);
                let body = self.twin.nodes.get_mut(&node).map(|node| &mut node.body);
                self.asked.bury(body.map_or(Some(who), |body| body.replace(who)));
            }
            (7, _) if self.twin.nodes.contains_key(&node) => {
                let orphans = self.tree.end_orphans(key, &mut self.sweep) as usize;
                let expected = self.twin.end_orphans(node, &mut self.asked);
                assert_eq!(orphans, expected, "{story}: orphans of node {node} (E11)");
            }
            (8, Some(wait)) if self.twin.waits.len() > MOST || self.random.one_in(2) => {
                self.tree.detach(self.waits[wait], &mut self.sweep);
                self.twin.detach(wait, &mut self.asked);
            }
            (9 | 10, Some(wait)) => {
                let last = !self.random.one_in(3);
                self.tree.fire(self.waits[wait], last, &mut self.sweep);
                self.twin.fire(wait, last, &mut self.asked);
            }
            (11 | 12, Some(wait)) => {
                let (here, (who, whom)) = (self.node(), self.who());
                self.tree.polled(self.waits[wait], self.nodes[here], whom, &mut self.sweep);
                self.twin.polled(wait, here, who, &mut self.asked);
            }
            // Only operations are ever orphans (E11).
            (13, Some(wait)) if self.goes_on_by_itself(wait) => {
                let orphan = !self.random.one_in(4);
                self.tree.set_orphan(self.waits[wait], orphan, &mut self.sweep);
                self.twin.set_orphan(wait, orphan, &mut self.asked);
            }
            _ if self.twin.waits.len() < 2 * MOST => {
                let node = self.node();
                self.attach(node);
            }
            _ => {}
        }
    }

    fn cancel(&mut self, node: usize, story: &str) {
        let (key, now) = (self.nodes[node], Instant::MIN + std::time::Duration::from_nanos(7));
        let because = Some(Arc::from(self.number().to_string()));
        let reason = Reason::Explicit { at: Location::caller(), because };
        let first = self.twin.nodes.get(&node).is_some_and(|node| node.cause.is_none());
        let timer = self.tree.get(key).and_then(|node| node.timer).filter(|_| first);
        // F7: its timer comes back, once.
        let given_back = self.tree.cancel(key, reason.clone(), now, &mut self.sweep);
        assert_eq!(given_back, timer, "{story}: timer of node {node}");
        self.twin.change(&mut self.asked, |twin| {
            // L2: the first reason stays.
            twin.nodes.get_mut(&node).map(|node| node.cause.get_or_insert(reason));
        });
    }

    fn pause_or_go_on(&mut self, node: usize) {
        if self.pauses.len() < MOST && self.random.one_in(2) {
            let (who, whom) = self.who();
            self.tree.pause(self.nodes[node]);
            self.twin.pauses.push((node, who));
            self.pauses.push(whom);
        } else if !self.pauses.is_empty() {
            let number = self.random.below(self.pauses.len());
            self.end_pause(number);
        }
    }

    fn end_pause(&mut self, number: usize) {
        let node = self.nodes[self.twin.pauses[number].0];
        self.tree.end_pause(node, self.pauses.swap_remove(number), &mut self.sweep);
        self.twin.end_pause(number, &mut self.asked);
    }

    fn drain(&mut self, node: usize, story: &str) {
        let places = [Location::caller(), Location::caller(), Location::caller()];
        let (at, now) = (places[self.random.below(places.len())], Instant::MIN);
        let timer = |&key: &Key<Node>| self.tree.get(key)?.timer;
        let timers: Vec<_> = self.nodes.iter().map(timer).collect();
        let mut given_back = self.tree.drain(self.nodes[node], at, now, &mut self.sweep);
        let ended = self.twin.drain(node, at, &mut self.asked);
        let mut expected: Vec<_> = ended.iter().filter_map(|&node| timers[node]).collect();
        given_back.sort_by_key(|timer| timer.index());
        expected.sort_by_key(|timer| timer.index());
        // F7: the timers of those that it ended come back, each once.
        assert_eq!(given_back, expected, "{story}: timers of what was idle in node {node}");
    }

    fn compare_asked(&mut self, before: &Twin, story: &str) {
        // P2: wakers are other people's code; inside the tree none is fired nor dropped.
        let quiet = self.log.lock().is_ok_and(|log| log.woken.is_empty() && log.dropped.is_empty());
        assert!(quiet, "{story}: a waker was used inside the tree");
        let sweep = std::mem::take(&mut self.sweep);
        assert_eq!(sweep.is_empty(), self.asked == Asked::default(), "{story}: emptiness");
        let number = |key| self.nodes.iter().position(|&node| node == key).unwrap();
        let mut told = Asked {
            operations: sweep.operations.into_iter().collect(),
            workers: sweep.workers.into_iter().map(|(worker, key)| (worker, number(key))).collect(),
            tasks: sweep.tasks.into_iter().collect(),
            ..Asked::default()
        };
        drop(sweep.dead);
        told.dead = std::mem::take(&mut self.log.lock().unwrap().dropped);
        sweep.wakers.into_iter().for_each(Waker::wake);
        let log = std::mem::take(&mut *self.log.lock().unwrap());
        assert_eq!(log.woken, log.dropped, "{story}: woken wakers were not the last of their kind");
        told.woken = log.woken;
        let asked = std::mem::take(&mut self.asked);
        assert_eq!(told, asked, "{story}: what the step asks of others");
        self.check_liveness(before, &asked, story);
    }

    /// F13, from the other side: a cancelled node that has lost its last wait is not forgotten.
    /// Somebody in its subtree was woken, or runs anyway; unless it is somebody else's turn, innermost
    /// first, and has been since before.
    fn check_liveness(&self, before: &Twin, asked: &Asked, story: &str) {
        let was_woken = |who: &Option<Who>| match who {
            Some(Who::Task(task)) => asked.tasks.contains(task),
            Some(Who::Waker(waker)) => asked.woken.contains(waker),
            None => true,
        };
        let stuck = |twin: &Twin, node| twin.effective(node) && !twin.has_wait(node, false);
        for &node in self.twin.nodes.keys().filter(|node| before.effective(**node)) {
            if before.nodes.contains_key(&node)
                && before.has_wait(node, false)
                && stuck(&self.twin, node)
            {
                let mut subtree = before.subtree(node).into_iter();
                let looks = subtree.any(|n| was_woken(&before.nodes[&n].body) || stuck(before, n));
                assert!(looks, "{story}: node {node} is forgotten");
            }
        }
    }

    fn compare(&self, story: &str) {
        let Pair { tree, twin, .. } = self;
        assert_eq!((tree.len(), tree.waits.len()), (twin.nodes.len(), twin.waits.len()), "{story}");
        for (node, &key) in self.nodes.iter().enumerate() {
            match twin.nodes.get(&node) {
                Some(expected) => {
                    self.compare_node(node, expected, &format!("{story}: node {node}"))
                }
                None => assert!(is_gone(tree, key), "{story}: node {node} is still there"),
            }
        }
        for (wait, &key) in self.waits.iter().enumerate() {
            let Some(expected) = twin.waits.get(&wait) else {
                assert_eq!(tree.outcome(key), None, "{story}: wait {wait} is still there");
                continue;
            };
            let actual = tree.wait(key);
            let told = (actual.node, actual.subject, actual.outcome, actual.orphan);
            let TwinWait { node, subject, outcome, orphan, .. } = *expected;
            let expected_whom = expected.whom.is_some();
            assert_eq!(told, (self.nodes[node], subject, outcome, orphan), "{story}: wait {wait}");
            assert_eq!(actual.whom.is_some(), expected_whom, "{story}: wait {wait}");
        }
    }

    fn compare_node(&self, node: usize, expected: &TwinNode, story: &str) {
        let Pair { tree, twin, .. } = self;
        let key = self.nodes[node];
        let actual = tree.get(key).unwrap_or_else(|| panic!("{story} has gone"));
        assert_eq!(tree.parent(key), expected.parent.map(|up| self.nodes[up]), "{story}: parent");
        assert_eq!(tree.is_effective(key), twin.effective(node), "{story}: eff (B3)");
        assert_eq!(tree.is_outer(key), twin.outer(node), "{story}: outer");
        let reason = twin.reason(node).unwrap_or(Reason::Shutdown);
        assert_eq!(tree.reason(key), reason, "{story}: reason (L3)");
        let deadline = twin.effective_deadline(node);
        assert_eq!(tree.effective_deadline(key), deadline, "{story}: deadline (H1)");
        assert_eq!(actual.cause().map(|(r, _)| r), expected.cause.as_ref(), "{story}: cause (L2)");
        assert_eq!(actual.timer.is_none(), expected.cause.is_some(), "{story}: timer (F7)");
        assert_eq!(actual.is_shielded(), expected.shield, "{story}: shield");
        assert_eq!(actual.drained, expected.drained, "{story}: drained itself");
        assert_eq!(tree.drained(key), twin.drained(node), "{story}: drained");
        assert_eq!(actual.pauses as usize, twin.pauses(node), "{story}: pauses");
        assert_eq!(actual.pending as usize, twin.pending(node), "{story}: pending");
        assert_eq!(actual.orphans as usize, twin.orphans(node), "{story}: orphans");
        assert_eq!(actual.closing, expected.closing, "{story}: closing");
        assert_eq!(actual.body.is_some(), expected.body.is_some(), "{story}: body");
        for but_children in [false, true] {
            let has_wait = twin.has_wait(node, but_children);
            assert_eq!(
                tree.has_wait(key, but_children, |_| false),
                has_wait,
                "{story}: has_wait (F13)"
            );
        }
        let name = |key| self.nodes.iter().rposition(|&k| k == key).unwrap();
        let children = siblings(tree, key).into_iter().map(name).collect::<BTreeSet<_>>();
        assert_eq!(children, twin.children(node), "{story}: children");
        let name = |key| self.waits.iter().rposition(|&k| k == key).unwrap();
        let waits = attached(tree, key).into_iter().map(name).collect::<BTreeSet<_>>();
        assert_eq!(waits, twin.waits(node), "{story}: waits");
        assert_eq!(tree.waits_of(key).count(), waits.len(), "{story}: waits_of");
    }

    /// Everything ends, in a random order; nothing is left in the tree.
    fn close_everything(&mut self, story: &str) {
        while self.twin.nodes.len() > 1 {
            let living: Vec<_> = self.twin.nodes.keys().copied().filter(|&n| n > 0).collect();
            let node = living[self.random.below(living.len())];
            let before = self.twin.clone();
            self.tree.close(self.nodes[node], &mut self.sweep);
            self.twin.close(node, &mut self.asked);
            self.compare_asked(&before, story);
            self.compare(story);
        }
        // E11: whatever was still owned by somebody is the root's now.
        assert_eq!(attached(&self.tree, self.nodes[0]).len(), self.twin.waits.len(), "{story}");
        for wait in 0..self.waits.len() {
            let before = self.twin.clone();
            self.tree.detach(self.waits[wait], &mut self.sweep);
            self.twin.detach(wait, &mut self.asked);
            self.compare_asked(&before, story);
        }
        // Pauses end with the turn, wherever they were.
        while !self.pauses.is_empty() {
            let before = self.twin.clone();
            self.end_pause(0);
            self.compare_asked(&before, story);
            self.compare(story);
        }
        self.tree.close(self.nodes[0], &mut self.sweep);
        assert_eq!((self.tree.len(), self.tree.waits.len()), (0, 0), "{story}");
    }
}

/// The children of a node, if the links of each agree with its neighbours'.
fn siblings(tree: &Tree, parent: Key<Node>) -> Vec<Key<Node>> {
    let mut all = Vec::new();
    let (mut previous, mut at) = (None, tree.node(parent).first_child());
    while let Some(key) = at {
        let node = tree.get(key).expect("no link dangles");
        assert_eq!((node.parent, node.previous), (Some(parent), previous));
        all.push(key);
        (previous, at) = (Some(key), node.next_sibling());
    }
    all
}

/// The same for the waits of a node.
fn attached(tree: &Tree, node: Key<Node>) -> Vec<Key<Wait>> {
    let mut all = Vec::new();
    let (mut previous, mut at) = (None, tree.node(node).first_wait);
    while let Some(key) = at {
        let wait = tree.waits.get(key).expect("no link dangles");
        assert_eq!((wait.node, wait.previous), (node, previous));
        all.push(key);
        (previous, at) = (Some(key), wait.next);
    }
    all
}

/// A name of a node that has gone finds nothing, whoever lives in its place now (B2).
fn is_gone(tree: &Tree, key: Key<Node>) -> bool {
    tree.get(key).is_none()
        && tree.parent(key).is_none()
        && tree.is_effective(key)
        && tree.is_outer(key)
        && !tree.has_wait(key, false, |_| false)
        && tree.drained(key).is_none()
        && tree.effective_deadline(key) == Some(Instant::MIN)
        && tree.waits_of(key).next().is_none()
}

// Depth.

const DEEP: usize = if cfg!(miri) { 200 } else { 100_000 };
/// A recursion over a hundred thousand nodes would need megabytes.
const SMALL_STACK: usize = 64 << 10;

fn on_a_small_stack(test: fn()) {
    let thread = std::thread::Builder::new().stack_size(SMALL_STACK).spawn(test).unwrap();
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// One node inside the other; each with a body, as where programs wait.
fn nested(sweep: &mut Sweep) -> (Tree, Vec<Key<Node>>) {
    let mut tree = Tree::new();
    let mut nodes: Vec<Key<Node>> = Vec::with_capacity(DEEP);
    for depth in 0..DEEP {
        let label = Label { what: What::Scope, at: Location::caller() };
        let node = tree.open(nodes.last().copied(), label, false);
        tree.set_body(node, Whom::Task(depth as u64), sweep);
        nodes.push(node);
    }
    (tree, nodes)
}

fn count_effective(tree: &Tree, nodes: &[Key<Node>]) -> usize {
    nodes.iter().filter(|&&node| tree.is_effective(node)).count()
}

#[test]
fn a_hundred_thousand_nested_nodes_are_cancelled_and_shielded_without_recursion() {
    on_a_small_stack(|| {
        let mut sweep = Sweep::default();
        let (mut tree, nodes) = nested(&mut sweep);
        let (root, middle, leaf) = (nodes[0], nodes[DEEP / 2], nodes[DEEP - 1]);
        assert!(!tree.has_wait(root, false, |_| false));
        let wait = tree.attach(leaf, Subject::Operation(7), None);
        assert!(tree.has_wait(root, false, |_| false));
        tree.get_mut(root).unwrap().deadline = Some(Instant::MAX);
        assert_eq!(tree.effective_deadline(leaf), Some(Instant::MAX));

        tree.set_shield(middle, true, &mut sweep);
        tree.cancel(root, Reason::Interrupt, Instant::MIN, &mut sweep);
        assert_eq!(count_effective(&tree, &nodes), DEEP / 2);
        assert_eq!((sweep.operations.len(), sweep.tasks.len()), (0, DEEP / 2));
        tree.set_shield(middle, false, &mut sweep);
        assert_eq!(count_effective(&tree, &nodes), DEEP);
        assert_eq!(sweep.operations, [7]);
        assert_eq!(tree.reason(leaf), Reason::Interrupt);

        tree.set_orphan(wait, true, &mut sweep);
        assert_eq!(tree.end_orphans(root, &mut sweep), 1);
        assert_eq!(attached(&tree, root), [wait]);
    });
}

#[test]
fn a_hundred_thousand_nested_nodes_are_closed_from_either_end_without_recursion() {
    on_a_small_stack(|| {
        for outermost_first in [false, true] {
            let mut sweep = Sweep::default();
            let (mut tree, nodes) = nested(&mut sweep);
            let (root, first, leaf) = (nodes[0], nodes[1], nodes[DEEP - 1]);
            let park = tree.attach(leaf, Subject::Park, None);
            tree.cancel(first, Reason::Finished, Instant::MIN, &mut sweep);
            assert_eq!(tree.outcome(park), Some(Outcome::Cancelled));
            let mut inner = nodes[1..].to_vec();
            if !outermost_first {
                inner.reverse();
            }
            for node in inner {
                tree.close(node, &mut sweep);
            }
            assert_eq!((tree.len(), attached(&tree, root)), (1, vec![park]));
            assert!(!tree.is_effective(root));
        }
    });
}

#[test]
fn moving_a_deep_tree_needs_no_recursion() {
    on_a_small_stack(|| {
        let mut sweep = Sweep::default();
        let (mut tree, nodes) = nested(&mut sweep);
        let (root, first, leaf) = (nodes[0], nodes[1], nodes[DEEP - 1]);
        let label = Label { what: What::Scope, at: Location::caller() };
        let cancelled = tree.open(Some(root), label, false);
        tree.cancel(cancelled, Reason::Finished, Instant::MIN, &mut sweep);
        tree.adopt(first, cancelled, &mut sweep);
        assert_eq!(count_effective(&tree, &nodes), DEEP - 1);
        // A node is never moved below itself.
        tree.adopt(first, leaf, &mut sweep);
        assert_eq!(tree.parent(first), Some(cancelled));
        tree.adopt(first, root, &mut sweep);
        assert_eq!(count_effective(&tree, &nodes), 0);
    });
}

#[test]
fn a_hundred_thousand_nested_nodes_are_drained_without_recursion() {
    on_a_small_stack(|| {
        let mut sweep = Sweep::default();
        let (mut tree, nodes) = nested(&mut sweep);
        let (root, leaf, at) = (nodes[0], nodes[DEEP - 1], Location::caller());
        let idle = tree.open(Some(leaf), Label { what: What::Idle, at }, false);
        tree.drain(root, at, Instant::MIN, &mut sweep);
        assert_eq!(tree.drained(idle), Some(at));
        assert_eq!(tree.get(idle).unwrap().cause(), Some((&Reason::Drained { at }, Instant::MIN)));
        assert_eq!(count_effective(&tree, &nodes), 0);
    });
}
