//! What a running program has: its objects, its named scopes, what it keeps.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::exec::stats;
use crate::scope::{CancelScope, current_effective_deadline, is_cancelled};
use crate::time::{Instant, sleep};

use super::adapters::{Local, Out};
use super::ends::{End, leaves};
use super::generate::SLOTS;
use super::interpret::{self, Hand};
use super::model::{Id, Model, Why, said};
use super::objects::Objects;
use super::program::{Action, Head, Program};
use super::watched::Watched;

pub(super) struct Machine {
    pub(super) model: Rc<Model>,
    pub(super) objects: Rc<Objects>,
    scopes: Vec<Named>,
    kept: RefCell<Vec<Option<Watched>>>,
    /// Who awaits what is kept, where it is.
    lent: RefCell<Option<Waker>>,
    /// The turn in which the program's time was over: whatever is entered from then on is
    /// cancelled.
    over: Cell<Option<u64>>,
    calls: Cell<u32>,
}

/// A scope that can be named, and what the model has to know of it before it is entered.
pub(super) struct Named {
    pub(super) scope: CancelScope,
    node: Cell<Option<Id>>,
    shield: Cell<bool>,
    timeout: Cell<Option<Duration>>,
    deadline: Cell<Option<Instant>>,
    before: Cell<Option<Why>>,
}

impl Named {
    fn new(head: Head) -> Named {
        let timeout = head.timeout.map(|time| Duration::from_millis(time.into()));
        let scope = CancelScope::new().shield(head.shield);
        let scope = if let Some(timeout) = timeout { scope.timeout(timeout) } else { scope };
        Named {
            scope,
            node: Cell::new(None),
            shield: Cell::new(head.shield),
            timeout: Cell::new(timeout),
            deadline: Cell::new(None),
            before: Cell::new(None),
        }
    }

    /// Tells the model of the entry.
    pub(super) fn open(&self, model: &Model) -> Id {
        let timeout = self.timeout.get().map(|timeout| Instant::now() + timeout);
        let node =
            model.open(self.shield.get(), timeout.or(self.deadline.get()), self.before.get());
        self.node.set(Some(node));
        node
    }

    pub(super) fn node(&self) -> Id {
        self.node.get().expect("its body runs")
    }
}

/// How long a program runs before all of it is cancelled.
const TIME: Duration = Duration::from_millis(300);
/// Turns that a cancelled program may take to end: tasks that swallow a thousand cancellations one
/// after the other (rule F14) take long.
const TURNS_TO_END: u64 = 40_000;

/// Runs a program from the beginning to the end, and everything around it that is checked at the
/// end.
pub(super) async fn main(program: &Program, model: &Rc<Model>) -> Result {
    let before = stats();
    // Whatever is dropped in these scopes, they wait until the kernel has let go (rules E11, F12).
    let scope = CancelScope::new();
    let opened = scope.run(async |_| Objects::open(model, &program.pipes).await).await?;
    let objects = Rc::new(opened.expect("nobody cancels it"));
    let machine = Rc::new(Machine::new(program, model, objects));
    let scope = CancelScope::new();
    let whole = scope.run(async |_| {
        interpret::whole(&machine, &program.body).await?;
        machine.kept.borrow_mut().clear();
        Ok(())
    });
    whole.await?;
    machine.check_kernel("the program");
    let turns = machine.over.get().map_or(0, |over| stats().turns - over);
    model.check(turns < TURNS_TO_END, || format!("F14: a cancelled program took {turns} turns"));
    let objects = Rc::clone(&machine.objects);
    drop(machine);
    let scope = CancelScope::new();
    scope.run(async |_| objects.settle().await).await?;
    if program.forgets {
        return Ok(());
    }
    Rc::into_inner(objects).expect("every operation has ended").close().await?;
    let after = stats();
    let left = (after.in_kernel + after.queued, after.tasks, after.scopes, after.timers);
    let expected = (0, before.tasks, before.scopes, before.timers);
    model.check(left == expected, || {
        format!("P1: (operations, tasks, scopes, timers) are {left:?} at the end, not {expected:?}")
    });
    model.check(after.pool_leased == 0, || "D7: a receive buffer did not come back".to_owned());
    Ok(())
}

impl Machine {
    fn new(program: &Program, model: &Rc<Model>, objects: Rc<Objects>) -> Machine {
        // The last one is the program's own.
        let heads = program.scopes.iter().copied().chain([Head::default()]);
        let machine = Machine {
            model: Rc::clone(model),
            objects,
            scopes: heads.map(Named::new).collect(),
            kept: RefCell::new((0..SLOTS).map(|_| None).collect()),
            lent: RefCell::new(None),
            over: Cell::new(None),
            calls: Cell::new(0),
        };
        for (name, head) in program.scopes.iter().enumerate() {
            if head.cancelled {
                machine.cancel(name as u8);
            }
        }
        machine
    }

    /// When the program's time is over: cancels every scope, and finishes the outermost nursery.
    pub(super) async fn watch(self: Rc<Self>, hand: Hand<'_, '_>) -> Out {
        sleep(TIME).await?;
        self.over.set(Some(stats().turns));
        let waits = self.model.someone_stays();
        self.model
            .check(!waits, || "E11: a scope waits for ever, though nothing is left".to_owned());
        for name in 0..self.scopes.len() as u8 {
            self.set_shield(name, false);
            self.cancel(name);
        }
        hand.finish(0);
        Ok(0)
    }

    pub(super) fn root_name(&self) -> u8 {
        (self.scopes.len() - 1) as u8
    }

    /// The named scope; a program may name one that does not exist.
    pub(super) fn named(&self, name: u8) -> Option<&Named> {
        self.scopes.get(usize::from(name))
    }

    /// The named scope, to be entered.
    pub(super) fn enter(&self, name: u8) -> &Named {
        if self.over.get().is_some() {
            self.cancel(name);
        }
        &self.scopes[usize::from(name)]
    }

    pub(super) fn cancel(&self, name: u8) {
        let Some(named) = self.named(name) else { return };
        let call = self.calls.replace(self.calls.get() + 1);
        named.scope.cancel_because(&said(call));
        let why = Why::Explicit(call);
        match named.node.get() {
            Some(node) => self.model.cancel(node, why),
            None => named.before.set(named.before.get().or(Some(why))),
        }
    }

    pub(super) fn set_shield(&self, name: u8, on: bool) {
        let Some(named) = self.named(name) else { return };
        named.scope.set_shield(on);
        named.shield.set(on);
        if let Some(node) = named.node.get() {
            self.model.set_shield(node, on);
        }
    }

    pub(super) fn set_deadline(&self, name: u8, to: Option<u8>) {
        let Some(named) = self.named(name) else { return };
        let at = to.map(|to| Instant::now() + Duration::from_millis(to.into()));
        named.scope.set_deadline(at);
        named.timeout.set(None);
        named.deadline.set(at);
        if let Some(node) = named.node.get() {
            self.model.set_deadline(node, at);
        }
    }

    // Operations.

    pub(super) fn start(&self, action: Action) -> Watched {
        let future: Local<'static, Result> = Box::pin(Rc::clone(&self.objects).act(action));
        Watched::new(&self.model, action, future)
    }

    /// Awaits one.
    pub(super) async fn finish(&self, operation: Watched) -> Result {
        let result = operation.await;
        self.check_place();
        self.passed_on(result)
    }

    /// What goes on after an operation: its cancellation, and what was lost where that may be.
    pub(super) fn passed_on(&self, result: Result) -> Result {
        match result {
            Err(error) if error.is_cancelled() => Err(error),
            Err(error @ Error::Io(_)) if self.model.loses => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Polls it once, and keeps it if that was not enough.
    pub(super) async fn keep(&self, slot: u8, action: Action) -> Result {
        let mut operation = Some(self.start(action));
        let polled = poll_fn(|cx| {
            let operation = pin!(operation.as_mut().expect("it is polled once"));
            Poll::Ready(Future::poll(operation, cx))
        })
        .await;
        let operation = operation.take().filter(|_| polled.is_pending());
        if let Some(operation) = &operation {
            operation.lay_aside();
        }
        let former = self.swap(slot, operation);
        drop(former);
        match polled {
            Poll::Ready(result) => self.passed_on(result),
            Poll::Pending => Ok(()),
        }
    }

    /// What is kept; nothing is from then on. Whoever it is lent to hears of that.
    pub(super) fn take(&self, slot: u8) -> Option<Watched> {
        if let Some(waker) = self.lent.borrow_mut().take() {
            waker.wake();
        }
        self.swap(slot, None)
    }

    /// Awaits one that others may take away meanwhile.
    pub(super) async fn lend(&self, slot: u8, action: Action) -> Result {
        let former = self.swap(slot, Some(self.start(action)));
        drop(former);
        let ended = poll_fn(|cx| {
            let Some(mut operation) = self.swap(slot, None) else { return Poll::Ready(Ok(())) };
            let polled = Future::poll(pin!(&mut operation), cx);
            if polled.is_pending() {
                *self.lent.borrow_mut() = Some(cx.waker().clone());
                self.swap(slot, Some(operation));
            }
            polled
        });
        let ended = ended.await;
        self.check_place();
        self.passed_on(ended)
    }

    fn swap(&self, slot: u8, operation: Option<Watched>) -> Option<Watched> {
        let mut kept = self.kept.borrow_mut();
        let slot = usize::from(slot) % kept.len();
        std::mem::replace(&mut kept[slot], operation)
    }

    // Checks.

    /// Rules B3 and H1, from where the program stands.
    pub(super) fn check_place(&self) {
        let (told, naive) = (is_cancelled(), self.model.is_cancelled_here());
        self.model.check(told == naive, || format!("B3: is_cancelled() is {told}, not {naive}"));
        let told = current_effective_deadline();
        let naive = self.model.effective_deadline_here();
        self.model.check(told == naive, || {
            format!("H1: current_effective_deadline() is {told:?}, not {naive:?}")
        });
    }

    /// Rule E11: the kernel has no more than what living futures, objects and open scopes answer
    /// for.
    pub(super) fn check_kernel(&self, what: &str) {
        let stats = stats();
        let (has, most) = (
            stats.in_kernel + stats.queued,
            self.model.most_in_kernel() + self.objects.keep_going(),
        );
        self.model.check(has <= most, || {
            format!(
                "E11: {what} has returned; {has} operations are under way, at most {most} may be"
            )
        });
    }

    /// Compares how something ended with how it had to.
    pub(super) fn check_end(&self, what: &str, ended: &End, expected: Option<End>) {
        self.model.check(Some(ended) == expected.as_ref(), || {
            format!("E: {what} has ended with {ended:?}, not {expected:?}")
        });
        self.check_kernel(what);
    }
}

/// How a scope ended.
pub(super) fn end_of(result: &Result<Option<u8>>) -> End {
    match result {
        Ok(Some(value)) => End::Value(*value),
        Ok(None) => End::MovedOn,
        Err(error) => End::Failed(leaves(error)),
    }
}
