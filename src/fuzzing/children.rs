//! Children of a program's nurseries: spawned, forked, started.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::nursery::{Child, Started};

use super::adapters::{Local, Out, Stand};
use super::ends::{End, Leaf, leaves};
use super::family::Kin;
use super::interpret::{Hand, block};
use super::machine::Machine;
use super::model::{Id, Model, Why};
use super::program::Block;

pub(super) fn spawn<'s>(
    machine: &Rc<Machine>,
    hand: &Hand<'s, '_>,
    kin: Kin,
    body: Local<'s, Out>,
) {
    let child = born(machine, hand, kin, body, |_| {});
    let child = async move { child.await.map(drop) };
    match kin {
        Kin::Child => hand.nursery.spawn(child),
        Kin::Daemon => hand.nursery.spawn_daemon(child),
    }
}

/// A child whose end is told to its family, and before that to `first`.
fn born<'s>(
    machine: &Rc<Machine>,
    hand: &Hand<'s, '_>,
    kin: Kin,
    body: Local<'s, Out>,
    first: impl FnOnce(&End) + 's,
) -> Stand<'s> {
    let family = Rc::clone(&hand.family);
    let node = machine.model.open_child(family.node());
    family.born(node, kin);
    Stand::new(&machine.model, node, body, move |end| {
        first(&end);
        family.child_ended(node, kin, end);
    })
}

/// A forked child, and how it ended.
pub(super) struct Forked<'s> {
    handle: Child<'s, u8>,
    end: Rc<RefCell<Option<End>>>,
}

pub(super) fn fork<'s>(
    machine: &Rc<Machine>,
    hand: &Hand<'s, '_>,
    body: Local<'s, Out>,
) -> Forked<'s> {
    let end = Rc::<RefCell<Option<End>>>::default();
    let told = Rc::clone(&end);
    let first = move |end: &End| *told.borrow_mut() = Some(end.clone());
    let child = born(machine, hand, Kin::Child, body, first);
    Forked { handle: hand.nursery.fork(child), end }
}

/// Awaits a forked child (rule N19).
pub(super) async fn join(machine: &Rc<Machine>, forked: Forked<'_>) -> Result {
    let Forked { handle, end } = forked;
    let joined = handle.await;
    let (model, end) = (&machine.model, end.take());
    match &joined {
        Ok(value) => model.check(end == Some(End::Value(*value)), || {
            format!("N19: a handle yielded {value}, but its child ended with {end:?}")
        }),
        Err(error) if error.is_cancelled() => {
            model.delivered();
            let without = end.is_some() && !matches!(end, Some(End::Value(_)));
            model.check(without || model.is_cancelled_here(), || {
                format!("N19: a handle was cancelled; its child has ended with {end:?}")
            });
        }
        Err(error) => model.violated(format_args!("N19: a handle has failed: {error}")),
    }
    joined.map(drop)
}

/// What `start` and its child have told so far.
#[derive(Default)]
struct Gate {
    child: Cell<Option<Id>>,
    ready: Cell<bool>,
    /// How the child ended before it was ready.
    end: RefCell<Option<End>>,
    /// The caller was cancelled, and the child with it.
    cancelled: Cell<bool>,
}

impl Gate {
    fn is_over(&self) -> bool {
        self.ready.get() || self.end.borrow().is_some()
    }

    /// How `start` has to end (rules N42 to N44).
    fn expected(&self) -> End {
        if self.ready.get() {
            return End::Value(VALUE);
        }
        match (&*self.end.borrow(), self.cancelled.get()) {
            (Some(End::Failed(leaves)), _) => End::Failed(leaves.clone()),
            (_, true) => End::Failed(vec![Leaf::Cancelled]),
            _ => End::Failed(vec![Leaf::NeverReady]),
        }
    }
}

/// What children say when they are ready.
const VALUE: u8 = 7;

pub(super) async fn start<'s, 'e: 's>(
    machine: &Rc<Machine>,
    hand: &Hand<'s, 'e>,
    before: &'s Block,
    sets: bool,
    after: &'s Block,
) -> Result {
    let gate = Rc::new(Gate::default());
    let child = |started: Started<u8>| {
        let gate = Rc::clone(&gate);
        let family = Rc::clone(&hand.family);
        let node = machine.model.open_child(family.node());
        family.born(node, Kin::Child);
        gate.child.set(Some(node));
        let body = starting(Rc::clone(machine), hand.clone(), before, (sets, started), after);
        let body = body(Rc::clone(&gate));
        let stand = Stand::new(&machine.model, node, body, move |end| {
            if gate.ready.get() {
                return family.child_ended(node, Kin::Child, end);
            }
            family.ended_early(&end);
            *gate.end.borrow_mut() = Some(end);
        });
        async move { stand.await.map(drop) }
    };
    let future = Box::pin(hand.nursery.start(child));
    let model = Rc::clone(&machine.model);
    let started = Starting { model, gate: Rc::clone(&gate), future, over: false }.await;
    let ended = match &started {
        Ok(value) => End::Value(*value),
        Err(error) => End::Failed(leaves(error)),
    };
    let model = &machine.model;
    if gate.child.get().is_none() {
        model.check(
            ended == End::Failed(vec![Leaf::Cancelled]) && model.is_cancelled_here(),
            || format!("N42: start has spawned no child and ended with {ended:?}"),
        );
        model.delivered();
    } else {
        model.check(gate.is_over(), || "N56: start has returned before its child".to_owned());
        let expected = gate.expected();
        model.check(ended == expected, || {
            format!("N43: start has ended with {ended:?}, not {expected:?}")
        });
    }
    started.map(drop)
}

/// The body of a started child.
fn starting<'s, 'e: 's>(
    machine: Rc<Machine>,
    hand: Hand<'s, 'e>,
    before: &'s Block,
    (sets, started): (bool, Started<u8>),
    after: &'s Block,
) -> impl FnOnce(Rc<Gate>) -> Local<'s, Out> {
    move |gate| {
        Box::pin(async move {
            block(Rc::clone(&machine), before, hand.clone()).await?;
            if sets {
                // Rule N42: a cancelled child is not released by that.
                gate.ready.set(!machine.model.is_cancelled_here());
                started.set(VALUE);
            }
            block(machine, after, hand).await
        })
    }
}

/// The caller's wait in `start`.
struct Starting<'a> {
    model: Rc<Model>,
    gate: Rc<Gate>,
    future: Pin<Box<dyn Future<Output = Result<u8>> + 'a>>,
    over: bool,
}

impl Future for Starting<'_> {
    type Output = Result<u8>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<u8>> {
        let this = &mut *self;
        let polled = this.future.as_mut().poll(cx);
        if polled.is_ready() {
            this.over = true;
            return polled;
        }
        // Rule N42: the child answers to the caller's scopes too.
        if let (Some(child), true) = (this.gate.child.get(), this.model.is_cancelled_here()) {
            if !this.gate.is_over() && !this.gate.cancelled.replace(true) {
                let why = this.model.reason_here().unwrap_or(Why::Shutdown);
                this.model.cancel(child, why);
            }
        }
        polled
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        let child = self.gate.child.get().filter(|_| !self.over && !self.gate.is_over());
        if let Some(child) = child {
            self.model.cancel(child, Why::Finished);
        }
    }
}
