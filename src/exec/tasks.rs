//! Tasks, their wakers, and the queues of those that were woken.
//!
//! A nursery polls its own children (rule N16), so each has a queue of its own: a *nest*. Waking a
//! task puts it into its nest's queue and wakes whoever polls the nest, up to the first one that is
//! already awake: ten thousand wakes in one nursery are one walk up.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::cancel::{Label, Node, Sweep, Tree, What, Whom};
use crate::primitives::{AtomicBool, AtomicU64, Ordering};
use crate::slots::{Key, Slots};

use super::inbox::Inbox;
use super::{Bindings, Chore, Core, Run, RunId, Shuffle, context};

/// One child, one nursery's body, or the main future: what is polled on its own.
pub(crate) struct Task {
    /// The scope that it runs in.
    node: Key<Node>,
    nest: Key<Nest>,
    /// Which one of its nest it is, in the nest owner's words.
    place: u64,
    queued: bool,
    /// In which turn it was last woken.
    woken: u64,
    /// Rule F14, kept while the task is not polled.
    pub(crate) strikes: u16,
    /// How often it woke itself while it was cancelled and waited for nothing of ours (rule F14).
    pub(crate) restless: u16,
    waker: Option<Arc<TaskWaker>>,
    /// The values that it has inherited.
    bindings: Bindings,
}

/// A task whose turn has come.
pub(crate) struct Ready {
    /// Which one of its nest.
    pub(crate) place: u64,
    pub(crate) strikes: u16,
    /// Its scope is cancelled, as its poll begins.
    pub(crate) cancelled: bool,
}

/// The tasks that one nursery polls.
pub(crate) struct Nest {
    /// Woken tasks, with the turn in which that happened (rule P2).
    ready: VecDeque<(Key<Task>, u64)>,
    /// Whoever polls the nest. `None`: it is awake already.
    parent: Option<Whom>,
}

pub(crate) struct Tasks {
    tasks: Slots<Task>,
    nests: Slots<Nest>,
    /// Wakers of ended tasks that nobody else has any more, to be used again.
    retired: Vec<(Arc<TaskWaker>, Waker)>,
    shuffle: Option<Shuffle>,
}

/// How many unused wakers are kept.
const RETIRED: usize = 1024;

impl Tasks {
    pub(super) fn new(shuffle: Option<Shuffle>) -> Tasks {
        Tasks { tasks: Slots::new(), nests: Slots::new(), retired: Vec::new(), shuffle }
    }

    pub(crate) fn open_nest(&mut self) -> Key<Nest> {
        self.nests.insert(Nest { ready: VecDeque::new(), parent: None })
    }

    pub(crate) fn close_nest(&mut self, nest: Key<Nest>, sweep: &mut Sweep) {
        if let Some(nest) = self.nests.remove(nest) {
            sweep.bury(nest.parent);
        }
    }

    #[inline]
    fn add(&mut self, node: Key<Node>, nest: Key<Nest>, place: u64) -> Key<Task> {
        self.tasks.insert(Task {
            node,
            nest,
            place,
            queued: false,
            woken: 0,
            strikes: 0,
            restless: 0,
            waker: None,
            bindings: None,
        })
    }

    /// A task has ended. Its waker is used again unless somebody else has a share; else it comes back. Its
    /// values are other people's to drop.
    fn remove(
        &mut self,
        key: Key<Task>,
        waker: Waker,
        chores: &mut VecDeque<Chore>,
    ) -> Option<Waker> {
        let Some(task) = self.tasks.remove(key) else { return Some(waker) };
        let Task { waker: shared, bindings, .. } = task;
        if let Some(bindings) = bindings {
            chores.push_back(Chore::Unbind(bindings));
        }
        match shared {
            Some(shared) if Arc::strong_count(&shared) == OURS && self.retired.len() < RETIRED => {
                self.retired.push((shared, waker));
                None
            }
            _ => Some(waker),
        }
    }

    /// The values that a task has inherited.
    pub(super) fn bindings(&self, key: Key<Task>) -> Bindings {
        self.tasks.get(key)?.bindings.clone()
    }

    /// It had none so far.
    pub(super) fn set_bindings(&mut self, key: Key<Task>, bindings: Bindings) {
        if let Some(task) = self.tasks.get_mut(key) {
            task.bindings = bindings;
        }
    }

    /// Wakes a task, and whoever polls it, and so on up. One that is awake, or has ended, is left alone.
    #[inline]
    pub(super) fn wake(&mut self, mut key: Key<Task>, turn: u64, sweep: &mut Sweep) {
        loop {
            let Some(task) = self.tasks.get_mut(key) else { return };
            if mem::replace(&mut task.queued, true) {
                return;
            }
            task.woken = turn;
            let Some(nest) = self.nests.get_mut(task.nest) else { return };
            nest.ready.push_back((key, turn));
            match nest.parent {
                // Told each time: it may keep the nest without polling it. Being awake already costs it
                // nothing.
                Some(Whom::Task(parent)) => match Key::from_bits(parent) {
                    Some(parent) => key = parent,
                    None => return,
                },
                _ => return sweep.wake(nest.parent.take()),
            }
        }
    }

    /// Whether a task was woken in a former turn and has not been polled since: nobody polls its nest.
    pub(super) fn is_left_lying(&self, task: u64, turn: u64) -> bool {
        let task = Key::from_bits(task).and_then(|task| self.tasks.get(task));
        task.is_some_and(|task| task.queued && task.woken < turn)
    }

    /// Whether a task was woken in this turn, and runs in the next one.
    pub(super) fn is_awake(&self, task: u64, turn: u64) -> bool {
        let task = Key::from_bits(task).and_then(|task| self.tasks.get(task));
        task.is_some_and(|task| task.queued && task.woken >= turn)
    }

    pub(crate) fn is_queued(&self, key: Key<Task>) -> bool {
        self.tasks.get(key).is_some_and(|task| task.queued)
    }

    pub(crate) fn get_mut(&mut self, key: Key<Task>) -> Option<&mut Task> {
        self.tasks.get_mut(key)
    }

    /// The next task of a nest that was woken before `turn`.
    #[inline]
    pub(super) fn next(&mut self, nest: Key<Nest>, turn: u64, tree: &Tree) -> Option<Ready> {
        let nest = self.nests.get_mut(nest)?;
        if let Some(shuffle) = &self.shuffle {
            let may_run = nest.ready.partition_point(|&(_, woken)| woken < turn);
            if may_run > 1 {
                nest.ready.swap(0, shuffle(may_run));
            }
        }
        loop {
            let &(key, woken) = nest.ready.front()?;
            if woken >= turn {
                return None;
            }
            nest.ready.pop_front();
            if let Some(task) = self.tasks.get_mut(key) {
                task.queued = false;
                let Task { place, strikes, .. } = *task;
                return Some(Ready { place, strikes, cancelled: tree.is_effective(task.node) });
            }
        }
    }

    /// Whether a task of the nest was woken.
    pub(crate) fn has_ready(&self, nest: Key<Nest>) -> bool {
        self.nests.get(nest).is_some_and(|nest| !nest.ready.is_empty())
    }

    /// The nest sleeps until one of its tasks is woken; then `parent` is. If one was woken already in
    /// this turn, `parent` comes back: it has to be woken in the next one.
    pub(crate) fn sleep(
        &mut self,
        nest: Key<Nest>,
        parent: Whom,
        sweep: &mut Sweep,
    ) -> Option<Whom> {
        let Some(nest) = self.nests.get_mut(nest) else { return Some(parent) };
        if nest.ready.is_empty() {
            sweep.bury(nest.parent.replace(parent));
            None
        } else {
            Some(parent)
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether somebody outside has a waker of ours.
    pub(super) fn has_foreign_wakers(&self) -> bool {
        self.tasks.iter().any(|(_, task)| {
            task.waker.as_ref().is_some_and(|waker| Arc::strong_count(waker) > OURS)
        })
    }
}

/// Shares in a task's waker that we hold ourselves: the task's, and the nursery's as a `Waker`.
const OURS: usize = 2;

/// The waker of one task.
#[derive(Debug)]
pub(super) struct TaskWaker {
    run: RunId,
    inbox: Arc<Inbox>,
    /// The task's key. It changes when the waker is used for another task, which happens only when
    /// nobody else has a share in it.
    task: AtomicU64,
    /// It lies in the inbox.
    posted: AtomicBool,
}

impl TaskWaker {
    pub(super) fn new(run: RunId, inbox: &Arc<Inbox>) -> TaskWaker {
        TaskWaker {
            run,
            inbox: Arc::clone(inbox),
            task: AtomicU64::new(0),
            posted: AtomicBool::new(false),
        }
    }

    pub(super) fn belong_to(&self, task: Key<Task>) {
        self.task.store(task.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn task(&self) -> Option<Key<Task>> {
        Key::from_bits(self.task.load(Ordering::Relaxed))
    }

    /// Taken out of the inbox: the next wake from another thread posts again. A swap and not a store:
    /// it must be over before the task looks for what it was woken for, and it must see what the
    /// waking thread did before a swap of its own that found the letter posted.
    pub(super) fn collected(&self) {
        self.posted.swap(false, Ordering::AcqRel);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if self.wake_here() {
            return;
        }
        if !self.posted.swap(true, Ordering::AcqRel) {
            let inbox = Arc::clone(&self.inbox);
            inbox.wake(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.wake_here() {
            Arc::clone(self).wake();
        }
    }
}

impl TaskWaker {
    /// On the run's own thread no lock is taken. "Own" means that the run is the current one.
    fn wake_here(&self) -> bool {
        let woken = context::with_current(|run| {
            let own = run.id == self.run;
            if let Some(task) = self.task().filter(|_| own) {
                run.wake_task(task);
            }
            own
        });
        woken == Some(true)
    }
}

impl Run {
    /// Opens a child's node, and a task for it that is woken. A service is behind a shield.
    #[inline]
    pub(crate) fn add_child(
        &self,
        nursery: Key<Node>,
        nest: Key<Nest>,
        place: u64,
        label: Label,
    ) -> (Key<Node>, Key<Task>, Waker) {
        let (node, task, waker) = self.act(|core| {
            let node = core.tree.open(Some(nursery), label, label.what == What::Service);
            let (task, waker) = self.add(core, node, nest, place);
            core.tree.set_body(node, Whom::Task(task.to_bits()), &mut core.sweep);
            core.tasks.wake(task, core.turn, &mut core.sweep);
            (node, task, waker)
        });
        self.inherit(task);
        (node, task, waker)
    }

    /// Adds the task of a nursery's body, which is not woken: it is polled at once.
    pub(crate) fn add_body(
        &self,
        nursery: Key<Node>,
        nest: Key<Nest>,
        place: u64,
    ) -> (Key<Task>, Waker) {
        let (task, waker) = self.act(|core| {
            let (task, waker) = self.add(core, nursery, nest, place);
            core.tree.set_body(nursery, Whom::Task(task.to_bits()), &mut core.sweep);
            (task, waker)
        });
        self.inherit(task);
        (task, waker)
    }

    #[inline]
    fn add(
        &self,
        core: &mut Core,
        node: Key<Node>,
        nest: Key<Nest>,
        place: u64,
    ) -> (Key<Task>, Waker) {
        let key = core.tasks.add(node, nest, place);
        let (shared, waker) = core.tasks.retired.pop().unwrap_or_else(|| {
            let shared = Arc::new(TaskWaker::new(self.id, &self.inbox));
            (Arc::clone(&shared), Waker::from(shared))
        });
        shared.belong_to(key);
        if let Some(task) = core.tasks.get_mut(key) {
            task.waker = Some(shared);
        }
        (key, waker)
    }

    /// A child has ended: takes out its node and its task.
    pub(crate) fn remove_child(&self, node: Key<Node>, task: Key<Task>, waker: Waker) {
        let unused = self.act(|core| {
            core.close_node(node);
            core.tasks.remove(task, waker, &mut core.chores)
        });
        drop(unused);
    }

    /// The body of a nursery has ended.
    pub(crate) fn remove_body(&self, task: Key<Task>, waker: Waker) {
        let unused = self.act(|core| core.tasks.remove(task, waker, &mut core.chores));
        drop(unused);
    }

    pub(crate) fn wake_task(&self, task: Key<Task>) {
        self.act(|core| core.tasks.wake(task, core.turn, &mut core.sweep));
    }

    /// The next task of a nest that was woken before `turn`.
    #[inline]
    pub(crate) fn next_task(&self, nest: Key<Nest>, turn: u64) -> Option<Ready> {
        let core = &mut *self.core.borrow_mut();
        core.tasks.next(nest, turn, &core.tree)
    }
}

#[cfg(all(test, loom))]
#[path = "tasks_loom.rs"]
mod loom_tests;
