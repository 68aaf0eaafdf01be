//! Where the thread is: the current run, the node being polled, the task it belongs to.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::rc::Rc;
use std::task::Context;

use crate::cancel::{Node, Whom};
use crate::clock::{Clock, Instant};
use crate::error::Error;
use crate::slots::Key;

use super::{Bindings, Employer, Run, Task};

thread_local! {
    /// The one thread-local of the crate.
    static THREAD: Thread = const { Thread::new() };
}

pub(super) struct Thread {
    run: RefCell<Option<Rc<Run>>>,
    /// For whom it works, if it is one of a run's threads.
    pub(super) employer: RefCell<Option<Employer>>,
    #[cfg(feature = "testing")]
    pub(super) stage: RefCell<Option<super::Stage>>,
    /// Panics are expected, and not printed.
    #[cfg(feature = "testing")]
    pub(super) is_silent: Cell<bool>,
}

impl Thread {
    const fn new() -> Thread {
        Thread {
            run: RefCell::new(None),
            employer: RefCell::new(None),
            #[cfg(feature = "testing")]
            stage: RefCell::new(None),
            #[cfg(feature = "testing")]
            is_silent: Cell::new(false),
        }
    }
}

/// Calls `f` with what this thread has; `None` while it is being torn down.
pub(super) fn with_thread<R>(f: impl FnOnce(&Thread) -> R) -> Option<R> {
    THREAD.try_with(f).ok()
}

/// The run of this thread.
pub(crate) fn current() -> Result<Rc<Run>, Error> {
    current_or_none().ok_or_else(|| Error::NoRun)
}

/// The run of this thread; `None` if there is none, or while the thread is being torn down.
pub(crate) fn current_or_none() -> Option<Rc<Run>> {
    with_thread(|thread| thread.run.borrow().clone()).flatten()
}

/// Now, on the clock of this thread's run, or on the machine's monotonic clock outside of one.
pub(crate) fn now() -> Instant {
    current_or_none().map_or_else(|| Clock::Monotonic.now(), |run| run.now())
}

/// An object is used in the run that it belongs to, and nowhere else (rule P6).
#[inline]
pub(crate) fn check_run(run: &Rc<Run>) -> Result<(), Error> {
    match with_current(|current| current.is_same(run)) {
        Some(true) if !run.is_finished() => Ok(()),
        None if !run.is_finished() => Err(Error::NoRun),
        _ => Err(Error::RunFinished),
    }
}

/// The same for an object with which something is under way: then its run, if it has not ended, is
/// the current one.
pub(crate) fn check_running(run: &Run) -> Result<(), Error> {
    if run.is_finished() { Err(Error::RunFinished) } else { Ok(()) }
}

/// Calls `f` with the run of this thread if there is one.
#[inline]
pub(crate) fn with_current<R>(f: impl FnOnce(&Run) -> R) -> Option<R> {
    with_thread(|thread| thread.run.borrow().as_deref().map(f)).flatten()
}

/// Makes a run the current one until the guard goes. There is no other one (rule P3).
pub(super) fn install(run: &Rc<Run>) -> Installed {
    with_thread(|thread| *thread.run.borrow_mut() = Some(Rc::clone(run)));
    Installed
}

pub(super) struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        with_thread(|thread| thread.run.borrow_mut().take());
    }
}

/// What is being polled at the moment.
pub(crate) struct TaskContext {
    root: Key<Node>,
    /// The innermost scope; the root while nothing is polled.
    node: Cell<Key<Node>>,
    task: Cell<Option<Key<Task>>>,
    /// Where the task's own waker points, to tell it from the wakers of combinators.
    waker: Cell<*const ()>,
    /// Operations that may still return at once in this poll (rule A2).
    budget: Cell<u32>,
    /// How often `Cancelled` was delivered without anything in between (rule F14).
    strikes: Cell<u16>,
    /// Waits that were ended by a cancellation in which turn, by any task.
    pardons: Cell<(u64, u32)>,
    /// Values that a task was given since its poll began, and that task: any other one has those of its
    /// birth.
    given: RefCell<(Bindings, Option<Key<Task>>)>,
    /// Somebody was ever given a value; mostly nobody is.
    is_used: Cell<bool>,
    /// Cancel points and schedule points passed so far, by any task.
    #[cfg(feature = "testing")]
    points: Cell<(u64, u64)>,
}

/// So many waits that are ended in one turn set the counts of their tasks back (rule F14).
const PARDONS: u32 = if cfg!(miri) { 1 << 10 } else { 1 << 20 };

/// Operations a task may finish in one poll without yielding (rule A2). Few under Miri, where each of
/// them takes a millisecond.
const BUDGET: u32 = if cfg!(miri) { 16 } else { 128 };

impl TaskContext {
    pub(super) fn new(root: Key<Node>) -> TaskContext {
        TaskContext {
            root,
            node: Cell::new(root),
            task: Cell::new(None),
            waker: Cell::new(ptr::null()),
            budget: Cell::new(BUDGET),
            strikes: Cell::new(0),
            pardons: Cell::new((0, 0)),
            given: RefCell::default(),
            is_used: Cell::new(false),
            #[cfg(feature = "testing")]
            points: Cell::new((0, 0)),
        }
    }

    pub(crate) fn node(&self) -> Key<Node> {
        self.node.get()
    }

    /// Makes `node` the innermost scope until the guard goes (rule B2).
    pub(crate) fn enter(&self, node: Key<Node>) -> Entered<'_> {
        Entered { context: self, node: self.node.replace(node), task: None }
    }

    /// Starts polling a task that runs in `node`.
    #[inline]
    pub(crate) fn enter_task(
        &self,
        node: Key<Node>,
        task: Key<Task>,
        strikes: u16,
        cx: &Context<'_>,
    ) -> Entered<'_> {
        let former = Former {
            task: self.task.replace(Some(task)),
            waker: self.waker.replace(cx.waker().data()),
            budget: self.budget.replace(BUDGET),
            strikes: self.strikes.replace(strikes),
        };
        Entered { context: self, node: self.node.replace(node), task: Some(former) }
    }

    /// Leaves everything, to run other people's code.
    pub(super) fn leave(&self) -> Entered<'_> {
        let former = Former {
            task: self.task.take(),
            waker: self.waker.replace(ptr::null()),
            budget: self.budget.get(),
            strikes: self.strikes.get(),
        };
        Entered { context: self, node: self.node.replace(self.root), task: Some(former) }
    }

    /// Whether any task has values.
    #[inline]
    pub(super) fn has_bindings(&self) -> bool {
        self.is_used.get()
    }

    /// What the task that is being polled was given.
    pub(super) fn given(&self) -> Bindings {
        let given = self.given.borrow();
        given.0.clone().filter(|_| given.1 == self.task.get())
    }

    /// Gives values to the task that is being polled; the former ones come back, and whose they are.
    pub(super) fn give(&self, bindings: Bindings) -> (Bindings, Option<Key<Task>>) {
        self.is_used.set(true);
        self.given.replace((bindings, self.task.get()))
    }

    /// Puts the former ones back.
    pub(super) fn take_back(&self, former: (Bindings, Option<Key<Task>>)) {
        let given = self.given.replace(former);
        drop(given);
    }

    pub(super) fn task(&self) -> Option<Key<Task>> {
        self.task.get()
    }

    /// Whether `cx` holds the waker of the task itself, not of a combinator in it.
    pub(super) fn is_own(&self, cx: &Context<'_>) -> bool {
        self.task.get().is_some() && ptr::eq(self.waker.get(), cx.waker().data())
    }

    /// Whom to wake for what is polled with `cx`.
    #[inline]
    pub(crate) fn whom(&self, cx: &Context<'_>) -> Whom {
        match self.task.get() {
            Some(task) if self.is_own(cx) => Whom::Task(task.to_bits()),
            _ => Whom::Waker(cx.waker().clone()),
        }
    }

    /// Whether one more operation may return without yielding.
    pub(super) fn spend(&self) -> bool {
        let left = self.budget.get();
        self.budget.set(left.saturating_sub(1));
        #[cfg(feature = "testing")]
        self.count_points(0, 1);
        left > 0
    }

    #[cfg(feature = "testing")]
    pub(super) fn count_points(&self, cancel: u64, schedule: u64) {
        let (cancels, schedules) = self.points.get();
        self.points.set((cancels + cancel, schedules + schedule));
    }

    #[cfg(feature = "testing")]
    pub(super) fn points(&self) -> (u64, u64) {
        self.points.get()
    }

    pub(crate) fn strikes(&self) -> u16 {
        self.strikes.get()
    }

    /// Whether the end of one more wait, in this turn, sets the count back.
    pub(super) fn pardon(&self, turn: u64) -> bool {
        let (of, pardons) = self.pardons.get();
        let pardons = if of == turn { pardons.saturating_add(1) } else { 1 };
        self.pardons.set((turn, pardons));
        pardons <= PARDONS
    }

    pub(super) fn set_strikes(&self, strikes: u16) {
        self.strikes.set(strikes);
    }
}

/// Puts the former node, and for a task the former task, back.
pub(crate) struct Entered<'a> {
    context: &'a TaskContext,
    node: Key<Node>,
    task: Option<Former>,
}

#[derive(Clone, Copy)]
struct Former {
    task: Option<Key<Task>>,
    waker: *const (),
    budget: u32,
    strikes: u16,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.context.node.set(self.node);
        if let Some(former) = self.task {
            self.context.task.set(former.task);
            self.context.waker.set(former.waker);
            self.context.budget.set(former.budget);
            self.context.strikes.set(former.strikes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::cancel::{Label, Tree, What};

    #[test]
    fn only_so_many_ends_of_waits_in_one_turn_set_the_count_back() {
        let label = Label { what: What::Scope, at: Location::caller() };
        let context = TaskContext::new(Tree::new().open(None, label, false));
        for turn in [7, 8] {
            assert!((0..PARDONS).all(|_| context.pardon(turn)), "turn {turn}");
            assert!(!context.pardon(turn), "turn {turn}");
        }
    }
}
