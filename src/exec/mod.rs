//! The one loop, and the one way to wait.
//!
//! [`Run`] is all that a run has: the ring, the table of operations, the tree of scopes, the
//! deadlines, the tasks. It is reached through the one thread-local of the crate, and changed only
//! inside [`Run::act`], which carries out what the change asks of others after the borrow has ended:
//! wakers and resources are other people's code (rule P2).

mod attendant;
mod checkpoint;
mod context;
mod dump;
mod employer;
mod end;
#[cfg(feature = "testing")]
mod idle;
mod inbox;
mod locals;
#[cfg(all(test, loom))]
pub(crate) mod loom_run;
mod one_shot;
mod operation;
mod panics;
mod park;
#[cfg(feature = "testing")]
mod stage;
mod stats;
mod tasks;
mod turn;
mod watch;
mod worker;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::cancel::{
    Closed, Deadlines, Due, Label, Node, Outcome, Subject, Sweep, Tree, Wait, Whom,
};
use crate::clock::{Clock, Instant};
use crate::error::{Cancelled, Reason};
use crate::op::{
    Action, AlignedBuf, Fd, Home, MESSAGE_GROUP, Pool, PoolLimits, Pools, Registry, Remains, Shelf,
    Slot, Sole, Submission, Table,
};
use crate::ring::{Capabilities, Descriptor, Host, Ring, Token};
use crate::slots::Key;

use attendant::Attendant;
pub(crate) use checkpoint::PATIENCE;
pub use checkpoint::{checkpoint, checkpoint_if_cancelled, yield_shielded};
use context::TaskContext;
pub(crate) use context::{
    Entered, check_run, check_running, current, current_or_none, now, with_current,
};
pub use dump::tree;
pub(crate) use employer::{Employer, Wish, enter_employer, with_employer};
#[cfg(feature = "testing")]
use idle::Idle;
use inbox::Inbox;
pub(crate) use inbox::{Caller, Door};
use locals::RunValues;
pub(crate) use locals::{Binding, Bindings, Variable};
pub(crate) use one_shot::{OneShot, submit, submit_plain};
pub(crate) use operation::{Operation, Verdict, is_interruption, judge};
pub(crate) use panics::{Panics, Payload};
pub(crate) use park::{Park, Pause};
#[cfg(feature = "testing")]
pub(crate) use stage::{Stage, StageSet, silence_panics, stage};
pub use stats::{Stats, stats};
use tasks::Tasks;
pub(crate) use tasks::{Nest, Ready, Task};
pub(crate) use turn::{Draining, Drive, Limits, Strictness};
pub(crate) use watch::Watch;
pub(crate) use worker::Worker;
use worker::Workers;

/// Everything one run has.
pub(crate) struct Run {
    id: RunId,
    core: RefCell<Core>,
    clock: Clock,
    host: Host,
    inbox: Arc<Inbox>,
    door: Door,
    pools: Pools,
    shelf: Shelf,
    registry: Registry,
    root: Key<Node>,
    /// Of the main future, and of the attendant.
    nest: Key<Nest>,
    attendant: RefCell<Option<Attendant>>,
    context: TaskContext,
    values: RunValues,
    /// Somebody is carrying chores out; whoever comes meanwhile leaves theirs to that one.
    carrying: Cell<bool>,
    finished: Cell<bool>,
    on_abandoned: Option<OnAbandoned>,
}

/// What a run is given to live in, beside its ring.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) clock: Clock,
    /// Picks which of so many woken tasks runs next; in order if there is none (rule N14).
    pub(crate) shuffle: Option<Shuffle>,
}

pub(crate) type Shuffle = Rc<dyn Fn(usize) -> usize>;

/// Told where a task was spawned that had to be dropped (rule F15).
type OnAbandoned = Box<dyn Fn(&'static Location<'static>)>;

/// Tells runs apart, also those that have ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RunId(u64);

/// The plain data of a run. Nothing in here runs other people's code.
pub(crate) struct Core {
    /// `None` once the run has ended.
    pub(crate) ring: Option<Ring>,
    pub(crate) table: Table,
    pub(crate) tree: Tree,
    pub(crate) deadlines: Deadlines,
    pub(crate) tasks: Tasks,
    pub(crate) sweep: Sweep,
    /// Whoever waits for the next turn, and where (schedule points).
    paused: VecDeque<(Key<Node>, Whom)>,
    /// Where those wait now who did so in a node that has gone.
    moved: HashMap<u64, Key<Node>>,
    /// Whoever is to be polled in the next turn for another reason.
    pub(crate) wake_later: VecDeque<Whom>,
    chores: VecDeque<Chore>,
    turn: u64,
    /// When this turn began, on the coarse clock: for the ages of operations.
    began: Duration,
    /// Tasks that were dropped because they were stuck (rule F13).
    abandoned: u64,
    workers: Workers,
    #[cfg(feature = "testing")]
    idle: Idle,
}

/// Something that runs other people's code, and so waits until nothing is borrowed.
enum Chore {
    Wake(Waker),
    Bury(#[expect(dead_code, reason = "held to be dropped")] Waker),
    Drop(#[expect(dead_code, reason = "held to be dropped")] Remains),
    Unbind(#[expect(dead_code, reason = "held to be dropped")] Rc<Binding>),
}

impl Run {
    pub(crate) fn new(
        ring: Ring,
        pool: Rc<Pool>,
        registry: Registry,
        at: Label,
        setting: Setting,
        on_abandoned: Option<OnAbandoned>,
    ) -> Rc<Run> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let Setting { clock, shuffle } = setting;
        let host = ring.host();
        let pools = Pools::new(pool);
        let inbox = Arc::new(Inbox::new(ring.bell()));
        let mut tree = Tree::new();
        let root = tree.open(None, at, false);
        let mut tasks = Tasks::new(shuffle);
        let nest = tasks.open_nest();
        let core = Core {
            ring: Some(ring),
            table: Table::new(pools.clone(), host.clone()),
            tree,
            deadlines: Deadlines::new(),
            tasks,
            sweep: Sweep::default(),
            paused: VecDeque::new(),
            moved: HashMap::new(),
            wake_later: VecDeque::new(),
            chores: VecDeque::new(),
            turn: 1,
            began: Duration::ZERO,
            abandoned: 0,
            workers: Workers::new(),
            #[cfg(feature = "testing")]
            idle: Idle::default(),
        };
        Rc::new(Run {
            id: RunId(NEXT.fetch_add(1, Ordering::Relaxed)),
            core: RefCell::new(core),
            clock,
            host,
            door: Door::new(&inbox),
            inbox,
            pools,
            shelf: Shelf::default(),
            registry,
            root,
            nest,
            attendant: RefCell::new(None),
            context: TaskContext::new(root),
            values: RunValues::new(),
            carrying: Cell::new(false),
            finished: Cell::new(false),
            on_abandoned,
        })
    }

    pub(crate) fn is_same(&self, other: &Run) -> bool {
        self.id == other.id
    }

    /// Whether the run has ended (rule P6).
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.get()
    }

    pub(crate) fn root(&self) -> Key<Node> {
        self.root
    }

    pub(crate) fn pool(&self) -> &Rc<Pool> {
        self.pools.bytes()
    }

    /// The buffers for messages. They are registered when they are first asked for; where the kernel
    /// refuses that, there are none, and each receive brings its own.
    pub(crate) fn message_pool(&self) -> &Rc<Pool> {
        if let Some(made) = self.pools.messages() {
            return made;
        }
        let most = PoolLimits::MESSAGES.most;
        let register = |ring: &mut Ring| ring.register_buffers(most, MESSAGE_GROUP, false).ok();
        let provided = self.act(|core| core.ring.as_mut().and_then(register));
        self.pools.messages_or(|| Pool::new(provided, PoolLimits::MESSAGES))
    }

    /// Where the storage of its operations comes from.
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Its registered memory.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Makes a buffer for direct reads and writes.
    #[cold]
    pub(crate) fn direct_buf(&self, len: usize, alignment: usize) -> AlignedBuf {
        match &mut self.core.borrow_mut().ring {
            Some(ring) => self.registry.buffer(len, alignment, ring),
            None => AlignedBuf::new(len, alignment),
        }
    }

    /// The clock that it lives by.
    #[cfg(feature = "testing")]
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The system calls that answer at once.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Counts a descriptor; it is closed through this run.
    pub(crate) fn adopt(self: &Rc<Run>, descriptor: Descriptor) -> Fd {
        let home: Rc<dyn Home> = Rc::clone(self) as _;
        Fd::new(descriptor, Rc::downgrade(&home))
    }

    /// Submits what nobody waits for but the current scope (rule E11). In a run that has ended nothing is done.
    pub(crate) fn submit_orphan(&self, submission: Submission) {
        if !self.is_finished() {
            let node = self.context.node();
            self.act(|core| core.submit_orphan(node, submission));
        }
    }

    /// What other threads reach it by.
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// What this kernel can do beyond the floor.
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.look(|core| core.ring.as_ref().map(Ring::capabilities)).unwrap_or_default()
    }

    /// The kernel has refused what it was thought to be able to do.
    pub(crate) fn lacks(&self, missing: impl FnOnce(&mut Capabilities)) {
        self.act(|core| core.ring.as_mut().map(|ring| ring.lacks(missing)));
    }

    /// The innermost scope that is being polled.
    pub(crate) fn node(&self) -> Key<Node> {
        self.context.node()
    }

    /// Makes `node` the innermost scope until the guard goes (rule B2).
    pub(crate) fn enter(&self, node: Key<Node>) -> Entered<'_> {
        self.context.enter(node)
    }

    /// Starts polling a task.
    pub(crate) fn enter_task(
        &self,
        node: Key<Node>,
        task: Key<Task>,
        strikes: u16,
        cx: &Context<'_>,
    ) -> Entered<'_> {
        self.context.enter_task(node, task, strikes, cx)
    }

    /// Whom to wake for what is polled with `cx`.
    pub(crate) fn whom(&self, cx: &Context<'_>) -> Whom {
        self.context.whom(cx)
    }

    pub(crate) fn turn_number(&self) -> u64 {
        self.look(Core::turn)
    }

    /// Whether the task that is being polled was woken meanwhile.
    fn is_task_queued(&self) -> bool {
        let task = self.context.task();
        task.is_some_and(|task| self.look(|core| core.tasks.is_queued(task)))
    }

    /// Changes the run, then carries out what the change asks of others.
    #[inline]
    pub(crate) fn act<R>(&self, change: impl FnOnce(&mut Core) -> R) -> R {
        let (result, settled) = {
            let core = &mut *self.core.borrow_mut();
            let result = change(core);
            core.settle();
            (result, core.chores.is_empty())
        };
        if !settled {
            self.carry_out();
        }
        result
    }

    /// Looks at the run.
    #[inline]
    pub(crate) fn look<R>(&self, at: impl FnOnce(&Core) -> R) -> R {
        at(&self.core.borrow())
    }

    /// Wakes and drops with nothing borrowed and no current scope. A panic is kept until the list is
    /// empty, and goes on then.
    fn carry_out(&self) {
        if self.carrying.replace(true) {
            return;
        }
        let outside = self.context.leave();
        let mut panics = Panics::default();
        while let Some(chore) = self.next_chore() {
            panics.catch(|| chore.carry_out());
        }
        drop(outside);
        self.carrying.set(false);
        panics.resume();
    }

    fn next_chore(&self) -> Option<Chore> {
        self.core.borrow_mut().chores.pop_front()
    }

    /// Cancels a scope (rules B5, L2).
    pub(crate) fn cancel(&self, node: Key<Node>, reason: Reason) {
        let now = self.now();
        self.act(|core| core.cancel(node, reason, now));
    }

    /// Ends what is idle in a scope.
    pub(crate) fn drain(&self, node: Key<Node>, at: &'static Location<'static>) {
        let now = self.now();
        self.act(|core| {
            for timer in core.tree.drain(node, at, now, &mut core.sweep) {
                core.deadlines.remove(timer);
            }
        });
    }

    /// Whether the node that is being polled is effectively cancelled.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        let node = self.context.node();
        self.look(|core| core.tree.is_effective(node))
    }

    /// The cancellation of a node, as it is raised there.
    pub(crate) fn cancelled(&self, node: Key<Node>) -> Cancelled {
        Cancelled::new(self.look(|core| core.tree.reason(node)))
    }

    /// Whether a cancelled task is to be dropped where it pends (rules F13, F14): it has no wait of
    /// its own, and either nobody has woken it meanwhile, or it has woken itself too often. Asked
    /// after a poll that began when it was cancelled already.
    pub(crate) fn is_stuck(&self, node: Key<Node>, task: Key<Task>, but_children: bool) -> bool {
        self.act(|core| {
            let waits = core.has_wait(node, but_children);
            let queued = core.tasks.is_queued(task);
            let Some(task) = core.tasks.get_mut(task) else { return false };
            task.restless = if waits || !queued { 0 } else { task.restless.saturating_add(1) };
            !waits && (!queued || task.restless >= checkpoint::PATIENCE)
        })
    }

    /// Says that a task had to be dropped because it was stuck (rule F15).
    pub(crate) fn report_stuck(&self, node: Key<Node>) {
        let at = self.act(|core| {
            core.abandoned += 1;
            core.tree.get(node).map(|node| node.label().at)
        });
        if let (Some(report), Some(at)) = (&self.on_abandoned, at) {
            report(at);
        }
    }

    /// Whether a wait has neither been ended nor been cancelled, and the run goes on.
    pub(crate) fn is_waiting(&self, wait: Key<Wait>) -> bool {
        let outcome = || self.look(|core| core.tree.outcome(wait));
        !self.is_finished() && outcome() == Some(Outcome::Waiting)
    }

    /// Submits what nobody waits for but the current scope (rule E11). The run has not ended.
    pub(crate) fn leave_behind(&self, submission: Submission) {
        let node = self.context.node();
        self.act(|core| core.submit_orphan(node, submission));
    }

    /// What was waited for outside the kernel has come. The token may be of a wait that has gone.
    pub(crate) fn unpark(&self, wait: Key<Wait>) {
        self.act(|core| core.tree.fire(wait, true, &mut core.sweep));
    }
}

impl Core {
    /// Whether anything below a cancelled node is still waited for (rule F13).
    pub(crate) fn has_wait(&self, node: Key<Node>, but_children: bool) -> bool {
        let is_left_lying = |task| self.tasks.is_left_lying(task, self.turn);
        let is_awake = |task| self.tasks.is_awake(task, self.turn);
        self.tree.has_wait(node, but_children, is_left_lying)
            || self.tree.has_awake_body(node, but_children, is_awake)
    }

    pub(crate) fn coarse_now(&self) -> Duration {
        self.ring.as_ref().map(Ring::coarse_now).unwrap_or_default()
    }

    pub(crate) fn turn(&self) -> u64 {
        self.turn
    }

    /// Somebody in `node` waits for the next turn.
    fn pause(&mut self, node: Key<Node>, whom: Whom) {
        self.tree.pause(node);
        self.paused.push_back((node, whom));
    }

    fn cancel(&mut self, node: Key<Node>, reason: Reason, now: Instant) {
        if let Some(timer) = self.tree.cancel(node, reason, now, &mut self.sweep) {
            self.deadlines.remove(timer);
        }
    }

    /// Takes a node out of the tree, and its timer out of the heap (rule F7). Schedule points in it go
    /// on in its parent.
    pub(crate) fn close_node(&mut self, node: Key<Node>) {
        let Closed { timer, pauses_in } = self.tree.close(node, &mut self.sweep);
        if let Some(timer) = timer {
            self.deadlines.remove(timer);
        }
        if let Some(parent) = pauses_in {
            self.moved.insert(node.to_bits(), parent);
        }
    }

    /// Moves, sets or takes away the deadline of an entered scope.
    pub(crate) fn set_deadline(&mut self, key: Key<Node>, deadline: Option<Instant>) {
        let Some(node) = self.tree.get_mut(key) else { return };
        node.deadline = deadline;
        if let Some(timer) = node.timer.take() {
            self.deadlines.remove(timer);
        }
        let Some(node) = self.tree.get_mut(key) else { return };
        if node.cause().is_none() {
            let at = deadline.filter(|&at| at < Instant::MAX);
            node.timer = at.map(|at| self.deadlines.insert(at, Due::Scope(key)));
        }
    }

    /// Submits an operation that `whom` waits for in `node`.
    #[inline]
    pub(crate) fn submit(
        &mut self,
        node: Key<Node>,
        submission: impl FnOnce() -> Submission,
        whom: Whom,
    ) -> (Key<Slot>, Key<Wait>) {
        let mut wait = None;
        let slot = self.table.submit(submission, self.began, |slot| {
            let subject = Subject::Operation(slot.to_bits());
            wait.insert(self.tree.attach(node, subject, Some(whom))).to_bits()
        });
        (slot, wait.expect("the table asks who waits"))
    }

    /// Submits an operation whose result nobody wants; the scope waits for it (rule E11).
    fn submit_orphan(&mut self, node: Key<Node>, submission: Submission) {
        self.hands().submit_orphan(node, submission);
    }

    /// Carries out what the table says, as far as it is plain data.
    pub(crate) fn follow(&mut self, action: Action) {
        self.hands().follow(action);
    }

    fn hands(&mut self) -> Hands<'_> {
        let Core { ring, table, tree, sweep, chores, began, .. } = self;
        Hands { is_open: ring.is_some(), table, tree, sweep, chores, began: *began }
    }

    /// The second stroke (rule B5): every cancel request is queued before any task is polled. What
    /// is other people's code becomes a chore.
    #[inline]
    fn settle(&mut self) {
        if !self.sweep.is_empty() {
            self.settle_sweep();
        }
    }

    fn settle_sweep(&mut self) {
        // In order: who was woken first runs first. Following one may add others.
        let mut at = 0;
        while let Some(&operation) = self.sweep.operations.get(at) {
            at += 1;
            if let Some(slot) = Key::from_bits(operation) {
                let action = self.table.cancel(slot);
                self.follow(action);
            }
        }
        self.sweep.operations.clear();
        if !self.sweep.workers.is_empty() {
            for (worker, node) in self.sweep.workers.drain(..) {
                self.workers.wish(worker, || self.tree.reason(node));
            }
        }
        at = 0;
        while let Some(&task) = self.sweep.tasks.get(at) {
            at += 1;
            if let Some(task) = Key::from_bits(task) {
                self.tasks.wake(task, self.turn, &mut self.sweep);
            }
        }
        self.sweep.tasks.clear();
        if !self.sweep.wakers.is_empty() {
            self.chores.extend(self.sweep.wakers.drain(..).map(Chore::Wake));
        }
        if !self.sweep.dead.is_empty() {
            self.chores.extend(self.sweep.dead.drain(..).map(Chore::Bury));
        }
    }
}

/// What is needed to follow the table while the ring is being drained.
struct Hands<'a> {
    /// The run can still submit.
    is_open: bool,
    table: &'a mut Table,
    tree: &'a mut Tree,
    sweep: &'a mut Sweep,
    chores: &'a mut VecDeque<Chore>,
    began: Duration,
}

impl Hands<'_> {
    #[cold]
    fn missed(&mut self, cancel: Token, answer: i32) {
        let action = self.table.missed(cancel, answer, self.began);
        self.follow(action);
    }

    #[inline]
    fn follow(&mut self, action: Action) {
        match action {
            Action::Nothing => {}
            Action::Wake { waiter, last } => {
                if let Some(wait) = Key::from_bits(waiter) {
                    self.tree.fire(wait, last, self.sweep);
                }
            }
            Action::Freed { waiter, mut remains } => {
                let Some(wait) = Key::from_bits(waiter) else { return };
                // The scope that waits for the operation waits for the close too.
                let node = self.tree.node_of(wait).filter(|_| self.is_open);
                if let Some(node) = node {
                    if let Some(fd) = remains.take_sole_descriptor() {
                        self.submit_orphan(node, Submission::close(fd));
                    }
                }
                self.tree.detach(wait, self.sweep);
                if !remains.is_empty() {
                    self.chores.push_back(Chore::Drop(remains));
                }
            }
        }
    }

    fn submit_orphan(&mut self, node: Key<Node>, submission: Submission) {
        self.table.submit_orphan(submission, self.began, |slot| {
            let wait = self.tree.attach(node, Subject::Operation(slot.to_bits()), None);
            self.tree.set_orphan(wait, true, self.sweep);
            wait.to_bits()
        });
    }
}

impl Chore {
    fn carry_out(self) {
        match self {
            Chore::Wake(waker) => waker.wake(),
            Chore::Bury(_) | Chore::Drop(_) | Chore::Unbind(_) => {}
        }
    }
}

impl Home for Run {
    /// Closes through the ring, as an operation that the current scope waits for.
    fn close(&self, fd: Sole) -> Result<(), Sole> {
        if self.is_finished() {
            return Err(fd);
        }
        self.leave_behind(Submission::close(fd));
        Ok(())
    }
}
