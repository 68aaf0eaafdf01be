//! What a nursery knows: its children, and how it will end.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{self, AssertUnwindSafe, Location};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::cancel::{Label, Node, What};
use crate::error::{Reason, Result, Unwind};
use crate::exec::{Nest, Panics, Payload, Ready, Run, Task};
use crate::scope::absorb;
use crate::slots::{Key, Slots};

use super::shared::Erased;
use super::start::Starting;

pub(super) struct Core<T, E: 'static> {
    at: &'static Location<'static>,
    /// Where it was entered; children spawned before wait for that.
    home: RefCell<Option<Home>>,
    children: RefCell<Slots<ChildEntry<E>>>,
    /// Children that keep it open.
    living: Cell<usize>,
    daemons: Cell<usize>,
    services: Cell<usize>,
    /// Real errors, in order of arrival.
    errors: RefCell<Vec<E>>,
    /// The first cancellation that arrived when the nursery was cancelled (rule E12).
    cancelled: RefCell<Option<E>>,
    /// Whether that one came from a child.
    cut_short: Cell<bool>,
    value: RefCell<Option<T>>,
    /// The value is `finish`'s, and final.
    finished: Cell<bool>,
    panics: RefCell<Panics>,
    /// It is being dropped: what is spawned now is dropped unpolled.
    closing: Cell<bool>,
}

#[derive(Clone)]
pub(super) struct Home {
    pub(super) run: Rc<Run>,
    pub(super) node: Key<Node>,
    pub(super) nest: Key<Nest>,
}

/// What its end means to the nursery.
pub(super) enum Role<E: 'static> {
    Ordinary,
    Daemon,
    /// Cancelled when all others have ended, and not before.
    Service,
    /// Its end before it is ready concerns only whoever waits in `start`.
    Starting(Rc<Starting<E>>),
}

struct ChildEntry<E: 'static> {
    /// Out while it is being polled, as is its seat.
    future: Option<Erased<E>>,
    seat: Option<Seat>,
    role: Role<E>,
    at: &'static Location<'static>,
}

/// A child's place in the run.
pub(super) struct Seat {
    pub(super) node: Key<Node>,
    pub(super) task: Key<Task>,
    pub(super) waker: Waker,
}

/// The place of the body in its nest. A child's is its key, which is never zero.
pub(super) const BODY: u64 = 0;

impl<T, E> Core<T, E> {
    pub(super) fn new(at: &'static Location<'static>) -> Core<T, E> {
        Core {
            at,
            home: RefCell::new(None),
            children: RefCell::new(Slots::new()),
            living: Cell::new(0),
            daemons: Cell::new(0),
            services: Cell::new(0),
            errors: RefCell::new(Vec::new()),
            cancelled: RefCell::new(None),
            cut_short: Cell::new(false),
            value: RefCell::new(None),
            finished: Cell::new(false),
            panics: RefCell::default(),
            closing: Cell::new(false),
        }
    }

    pub(super) fn label(&self) -> Label {
        Label { what: What::Nursery, at: self.at }
    }

    pub(super) fn home(&self) -> Option<Home> {
        self.home.borrow().clone()
    }

    /// The nursery is being polled for the first time: seats who was spawned before.
    pub(super) fn move_in(&self, home: Home) {
        if self.finished.get() {
            home.run.cancel(home.node, Reason::Finished);
        }
        let early: Vec<_> = self.children.borrow().iter().map(|(key, _)| key).collect();
        *self.home.borrow_mut() = Some(home.clone());
        for key in early {
            self.seat(&home, key);
        }
    }

    /// Whether a child is left that keeps it open.
    pub(super) fn has_living(&self) -> bool {
        self.living.get() > 0
    }

    /// Those that do not keep it open are to end now, first the daemons, then the services (rule N18).
    /// Whether there are any left.
    #[inline]
    pub(super) fn dismisses_somebody(&self) -> bool {
        match (self.daemons.get(), self.services.get()) {
            (0, 0) => return false,
            (0, _) => self.dismiss(|role| matches!(role, Role::Service)),
            _ => self.dismiss(|role| matches!(role, Role::Daemon)),
        }
        true
    }

    pub(super) fn spawn<'a>(
        &self,
        future: impl Future<Output = Result<(), E>> + 'a,
        role: Role<E>,
        at: &'static Location<'static>,
    ) {
        if self.closing.get() {
            return;
        }
        self.count(&role).set(self.count(&role).get() + 1);
        let future = Some(Erased::new(future));
        let key = self.children.borrow_mut().insert(ChildEntry { future, seat: None, role, at });
        if let Some(home) = &*self.home.borrow() {
            self.seat(home, key);
        }
    }

    /// Gives a child its node in the tree and its task, and wakes it. Nothing is borrowed while it is
    /// woken.
    fn seat(&self, home: &Home, key: Key<ChildEntry<E>>) {
        let (label, starting) = match self.children.borrow().get(key) {
            Some(child) => (child.label(), child.starting()),
            None => return,
        };
        let (node, task, waker) = home.run.add_child(home.node, home.nest, key.to_bits(), label);
        if let Some(starting) = starting {
            starting.seated(&home.run, node);
        }
        if let Some(child) = self.children.borrow_mut().get_mut(key) {
            child.seat = Some(Seat { node, task, waker });
        }
    }

    fn count(&self, role: &Role<E>) -> &Cell<usize> {
        match role {
            Role::Ordinary | Role::Starting(_) => &self.living,
            Role::Daemon => &self.daemons,
            Role::Service => &self.services,
        }
    }

    fn dismiss(&self, is_dismissed: impl Fn(&Role<E>) -> bool) {
        let Some(home) = self.home() else { return };
        let nodes: Vec<_> = {
            let children = self.children.borrow();
            let dismissed = children.iter().filter(|(_, child)| is_dismissed(&child.role));
            dismissed.filter_map(|(_, child)| child.node()).collect()
        };
        for node in nodes {
            home.run.cancel(node, Reason::Finished);
        }
    }

    pub(super) fn finish(&self, value: T) {
        if self.finished.replace(true) {
            return;
        }
        let former = self.value.borrow_mut().replace(value);
        drop(former);
        if let Some(Home { run, node, .. }) = self.home() {
            run.cancel(node, Reason::Finished);
        }
    }

    /// Marks it as closing and drops all children, and those that their drops bring about.
    pub(super) fn drop_children(&self) -> Option<Payload> {
        self.closing.set(true);
        let mut panics = Panics::default();
        let is_service = |key| {
            let children = self.children.borrow();
            children.get(key).is_some_and(|child| matches!(child.role, Role::Service))
        };
        let mut left: Vec<_> = self.children.borrow().iter().map(|(key, _)| key).collect();
        // Services last, as ever.
        left.sort_by_key(|&key| is_service(key));
        for key in left {
            let entry = self.children.borrow_mut().remove(key);
            if let Some(ChildEntry { future, seat, .. }) = entry {
                panics.catch(|| drop(future));
                panics.catch(|| self.unseat(seat));
            }
        }
        panics.into_first()
    }

    fn unseat(&self, seat: Option<Seat>) {
        if let (Some(Seat { node, task, waker }), Some(home)) = (seat, &*self.home.borrow()) {
            home.run.remove_child(node, task, waker);
        }
    }
}

impl<T, E: Unwind> Core<T, E> {
    /// Polls a woken child; if it ends, deals with its end.
    pub(super) fn poll_child(&self, run: &Run, Ready { place, strikes, cancelled }: Ready) {
        let Some(key) = Key::from_bits(place) else { return };
        let Some((mut future, seat)) = self.take_out(key) else { return };
        let mut cx = Context::from_waker(&seat.waker);
        let entered = run.enter_task(seat.node, seat.task, strikes, &cx);
        let polled = panic::catch_unwind(AssertUnwindSafe(|| future.poll(&mut cx)));
        run.keep_strikes(seat.task, strikes);
        let mut end = match polled {
            Ok(Poll::Ready(result)) => Ok(result),
            Ok(Poll::Pending) if cancelled && run.is_stuck(seat.node, seat.task, false) => {
                run.report_stuck(seat.node);
                Ok(Err(E::from(run.cancelled(seat.node))))
            }
            Ok(Poll::Pending) => {
                drop(entered);
                return self.put_back(key, future, seat);
            }
            Err(payload) => Err(payload),
        };
        // Where it was polled, so that what it leaves behind is its own.
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(future))) {
            end = Err(payload);
        }
        drop(entered);
        self.child_ended(run, key, seat, end);
    }

    fn take_out(&self, key: Key<ChildEntry<E>>) -> Option<(Erased<E>, Seat)> {
        let mut children = self.children.borrow_mut();
        let child = children.get_mut(key)?;
        Some((child.future.take()?, child.seat.take()?))
    }

    fn put_back(&self, key: Key<ChildEntry<E>>, future: Erased<E>, seat: Seat) {
        if let Some(child) = self.children.borrow_mut().get_mut(key) {
            (child.future, child.seat) = (Some(future), Some(seat));
        }
    }

    fn child_ended(
        &self,
        run: &Run,
        key: Key<ChildEntry<E>>,
        seat: Seat,
        end: Result<Result<(), E>, Payload>,
    ) {
        let Some(ChildEntry { role, at, .. }) = self.children.borrow_mut().remove(key) else {
            return;
        };
        let count = self.count(&role);
        count.set(count.get() - 1);
        // Daemons and services run in scopes of their own, which absorb their own cancellation.
        let end = match (end, &role) {
            (Ok(Err(error)), Role::Daemon | Role::Service) => {
                Ok(absorb(run, seat.node, error).map_or(Ok(()), Err))
            }
            (end, _) => end,
        };
        self.unseat(Some(seat));
        match (end, role) {
            (Err(payload), role) => {
                self.panicked(payload, at);
                if let Role::Starting(starting) = role {
                    starting.ended(Ok(()));
                }
            }
            (Ok(result), Role::Starting(starting)) if !starting.is_ready() => {
                starting.ended(result)
            }
            (Ok(Err(error)), _) => self.failed(error, at, true),
            (Ok(Ok(())), _) => {}
        }
    }

    /// The body has ended.
    pub(super) fn body_ended(&self, end: Result<Result<T, E>, Payload>) {
        match end {
            Ok(Ok(value)) if !self.finished.get() => *self.value.borrow_mut() = Some(value),
            Ok(Ok(_late)) => {}
            Ok(Err(error)) => self.failed(error, self.at, false),
            Err(payload) => self.panicked(payload, self.at),
        }
    }

    /// An error has arrived. What it means is decided now (rule E12): a cancellation that arrives
    /// when the nursery is not cancelled is as real an error as any.
    fn failed(&self, error: E, at: &'static Location<'static>, is_child: bool) {
        let Some(Home { run, node, .. }) = self.home() else { return };
        let effective = run.look(|core| core.tree.is_effective(node));
        if effective && error.cancelled().is_some() {
            return self.was_cancelled(error, is_child);
        }
        let leaves = if error.cancelled().is_some() { vec![error] } else { error.scatter() };
        let mut is_real = false;
        for leaf in leaves {
            if effective && leaf.cancelled().is_some() {
                self.was_cancelled(leaf, is_child);
            } else {
                is_real = true;
                self.errors.borrow_mut().push(leaf);
            }
        }
        if is_real {
            run.cancel(node, Reason::SiblingFailed { child: at });
        }
    }

    /// Of mere cancellations the first one is kept.
    fn was_cancelled(&self, error: E, is_child: bool) {
        let mut first = self.cancelled.borrow_mut();
        if first.is_none() {
            *first = Some(error);
            self.cut_short.set(is_child);
        }
    }

    fn panicked(&self, payload: Payload, at: &'static Location<'static>) {
        // Taken out meanwhile: dropping one that is not the first is other people's code.
        let mut panics = self.panics.take();
        panics.keep(payload);
        self.panics.replace(panics);
        if let Some(Home { run, node, .. }) = self.home() {
            run.cancel(node, Reason::SiblingFailed { child: at });
        }
    }

    /// Everything has been joined: how it ends (rules N5, N7, N20).
    pub(super) fn conclude(&self) -> Result<T, E> {
        self.panics.take().resume();
        let errors = self.errors.take();
        if !errors.is_empty() {
            return Err(E::gather(errors));
        }
        let cancelled = self.cancelled.take().filter(|_| !self.finished.get());
        match (cancelled, self.value.take()) {
            (Some(cancelled), _) => Err(cancelled),
            (None, Some(value)) => Ok(value),
            (None, None) => {
                panic!("the nursery opened at {} was polled after it had ended", self.at)
            }
        }
    }

    /// Whether the outcome is a cancellation that a child brought: nobody has counted it yet.
    pub(super) fn is_cut_short(&self) -> bool {
        self.cut_short.get() && self.errors.borrow().is_empty() && !self.finished.get()
    }
}

impl<E> ChildEntry<E> {
    fn label(&self) -> Label {
        let what = match self.role {
            Role::Ordinary | Role::Starting(_) => What::Child,
            Role::Daemon => What::Daemon,
            Role::Service => What::Service,
        };
        Label { what, at: self.at }
    }

    fn starting(&self) -> Option<Rc<Starting<E>>> {
        match &self.role {
            Role::Starting(starting) => Some(Rc::clone(starting)),
            _ => None,
        }
    }

    fn node(&self) -> Option<Key<Node>> {
        self.seat.as_ref().map(|seat| seat.node)
    }
}
