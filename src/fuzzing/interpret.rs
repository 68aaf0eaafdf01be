//! Runs programs with trine, beside the naive model.

use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::panic;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::nursery::{Nursery, nursery};
use crate::scope::{CancelScope, fail_after, is_cancelled, move_on_after};
use crate::time::Instant;

use super::adapters::{Catch, Flag, Follow, Local, Out, Planned, Stand, poll_times};
use super::children;
use super::ends::{End, Leaf, Numbered};
use super::family::{Family, Kin};
use super::machine::{Machine, end_of};
use super::model::{Id, Why, said};
use super::program::{Block, Step};
use super::watched::Watched;

/// The nursery around, and the account of it.
#[derive(Clone)]
pub(super) struct Hand<'s, 'e> {
    pub(super) nursery: Nursery<'s, 'e, u8>,
    pub(super) family: Rc<Family>,
}

impl Hand<'_, '_> {
    pub(super) fn finish(&self, value: u8) {
        self.nursery.finish(value);
        self.family.finish(value);
    }
}

/// A whole program, with someone who ends it when its time is over.
pub(super) async fn whole(machine: &Rc<Machine>, body: &Block) -> Result {
    let ended = in_nursery(machine, async |hand| {
        let watch = Rc::clone(machine).watch(hand.clone());
        children::spawn(machine, &hand, Kin::Daemon, Box::pin(watch));
        // In one of its own, whose daemons may outlive its body and have children.
        let inner = in_nursery(machine, async |hand| {
            let body = block(Rc::clone(machine), body, hand);
            let ended = run_named(machine, machine.root_name(), body).await;
            Ok(ended?.unwrap_or(0))
        });
        inner.await.unwrap_or_else(|payload| panic::resume_unwind(payload))
    });
    match ended.await {
        // What the program ends with concerns nobody.
        Ok(Ok(_) | Err(_)) | Err(_) => Ok(()),
    }
}

/// What goes on after a step.
enum Flow {
    On,
    Return(u8),
}

/// Runs a block; its value is 0 unless it returns another.
pub(super) fn block<'s, 'e: 's>(
    machine: Rc<Machine>,
    block: &'s Block,
    hand: Hand<'s, 'e>,
) -> Local<'s, Out> {
    Box::pin(async move {
        for step in block {
            machine.check_place();
            machine.model.step();
            if let Flow::Return(value) = run(&machine, step, &hand).await? {
                return Ok(value);
            }
        }
        Ok(0)
    })
}

async fn run<'s, 'e: 's>(
    machine: &Rc<Machine>,
    step: &'s Step,
    hand: &Hand<'s, 'e>,
) -> Result<Flow> {
    let inner = |body: &'s Block| block(Rc::clone(machine), body, hand.clone());
    match step {
        Step::Do { action, swallows } => {
            let result = machine.finish(machine.start(*action)).await;
            if !swallows {
                result?;
            }
        }
        Step::Insist(action) => loop {
            match machine.finish(machine.start(*action)).await {
                Err(error) if error.is_cancelled() => {}
                other => break other?,
            }
        },
        Step::Drop { action, polls } => {
            if let Ok(result) = poll_times(machine.start(*action), *polls).await {
                machine.passed_on(result)?;
            }
        }
        Step::Forget(action) => match poll_times(machine.start(*action), 1).await {
            Ok(result) => machine.passed_on(result)?,
            Err(operation) => {
                operation.lay_aside();
                std::mem::forget(operation);
            }
        },
        Step::Race { first, second, own_wakers } => {
            let (first, second) = (machine.start(*first), machine.start(*second));
            machine.passed_on(race(first, second, *own_wakers).await)?;
        }
        Step::Keep { slot, action } => machine.keep(*slot, *action).await?,
        Step::AwaitKept(slot) => {
            if let Some(operation) = machine.take(*slot) {
                machine.finish(operation).await?;
            }
        }
        Step::Lend { slot, action } => machine.lend(*slot, *action).await?,
        Step::DropKept(slot) => drop(machine.take(*slot)),
        Step::Foreign => pending().await,
        Step::Restless(times) => restless(*times).await,
        Step::Scope { name, body, swallows } => {
            let ended = run_named(machine, *name, inner(body)).await;
            if !swallows {
                ended?;
            }
        }
        Step::FailAfter { timeout, cancels, body, swallows } => {
            let ended = run_timed(machine, *timeout, *cancels, true, inner(body)).await;
            if !swallows {
                ended?;
            }
        }
        Step::MoveOnAfter { timeout, cancels, body, swallows } => {
            let ended = run_timed(machine, *timeout, *cancels, false, inner(body)).await;
            if !swallows {
                ended?;
            }
        }
        Step::Nursery { body, catches, swallows } => {
            let body =
                in_nursery(machine, async |hand| block(Rc::clone(machine), body, hand).await);
            match body.await {
                Err(payload) if !catches => panic::resume_unwind(payload),
                Ok(ended) if !swallows => drop(ended?),
                _ => {}
            }
        }
        Step::DropBlock { polls, body } => {
            if let Ok(ended) = poll_times(inner(body), *polls).await {
                ended?;
            }
        }
        Step::MoveBlock { polls, body, name, swallows } => {
            let ended = match poll_times(inner(body), *polls).await {
                Ok(ended) => ended.map(Some),
                Err(part) => run_named(machine, *name, part).await,
            };
            if !swallows {
                ended?;
            }
        }
        Step::Spawn { daemon, body } => {
            let kin = if *daemon { Kin::Daemon } else { Kin::Child };
            children::spawn(machine, hand, kin, inner(body));
        }
        Step::Fork { body, meanwhile, awaits } => {
            let child = children::fork(machine, hand, inner(body));
            inner(meanwhile).await?;
            if *awaits {
                children::join(machine, child).await?;
            }
        }
        Step::Start { before, sets, after, swallows } => {
            let started = children::start(machine, hand, before, *sets, after).await;
            if !swallows {
                started?;
            }
        }
        Step::Finish(value) => hand.finish(*value),
        Step::Cancel(name) => machine.cancel(*name),
        Step::Shield { name, on } => machine.set_shield(*name, *on),
        Step::Deadline { name, to } => machine.set_deadline(*name, *to),
        Step::Fail(number) => return Err(Error::other(Numbered(*number))),
        Step::Panic(_) => panic::panic_any(Planned),
        Step::Return(value) => return Ok(Flow::Return(*value)),
    }
    machine.check_place();
    Ok(Flow::On)
}

/// Polls two until one has ended, and drops the other.
async fn race(first: Watched, second: Watched, own_wakers: bool) -> Result {
    let mut both = [first, second];
    let mut flags = None;
    poll_fn(move |cx: &mut Context<'_>| {
        let flags = flags.get_or_insert_with(|| [(); 2].map(|()| Flag::new(cx.waker())));
        for (operation, flag) in both.iter_mut().zip(&*flags) {
            let polled = if !own_wakers {
                pin!(operation).poll(cx)
            } else if flag.take() {
                let waker = Waker::from(std::sync::Arc::clone(flag));
                pin!(operation).poll(&mut Context::from_waker(&waker))
            } else {
                Poll::Pending
            };
            if polled.is_ready() {
                return polled;
            }
        }
        Poll::Pending
    })
    .await
}

/// Wakes itself so often, and goes on for ever when it is cancelled (rule F14).
async fn restless(times: u8) {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 && !is_cancelled() {
            return Poll::Ready(());
        }
        left = left.saturating_sub(1);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// How a scope has to end, once its body has.
type Expected = Rc<RefCell<Option<End>>>;

fn has_ended(expected: &Expected) -> impl Fn() -> bool + use<> {
    let expected = Rc::clone(expected);
    move || expected.borrow().is_some()
}

/// The body of a scope, and how that has to end when it has arrived at the exit (rule E12).
fn stand<'s>(
    machine: &Rc<Machine>,
    node: Id,
    body: Local<'s, Out>,
    expected: &Expected,
) -> Stand<'s> {
    let (model, expected) = (Rc::clone(&machine.model), Rc::clone(expected));
    Stand::new(&machine.model, node, body, move |end| {
        let end = if model.absorbs(node) { end.absorbed() } else { end };
        *expected.borrow_mut() = Some(end);
    })
}

pub(super) async fn run_named(
    machine: &Rc<Machine>,
    name: u8,
    body: Local<'_, Out>,
) -> Result<Option<u8>> {
    let named = machine.enter(name);
    let expected = Expected::default();
    let scope = named.scope.run(async |_| stand(machine, named.node(), body, &expected).await);
    let model = &machine.model;
    let ended = Follow::new(model, || named.open(model), has_ended(&expected), scope).await;
    machine.check_end(&format!("s{name}"), &end_of(&ended), expected.take());
    ended
}

async fn run_timed(
    machine: &Rc<Machine>,
    timeout: u8,
    cancels: bool,
    fails: bool,
    body: Local<'_, Out>,
) -> Result<Option<u8>> {
    let time = Duration::from_millis(timeout.into());
    let (model, node) = (&machine.model, std::cell::Cell::new(None));
    let expected = Expected::default();
    let open = || {
        let opened = model.open(false, Some(Instant::now() + time), None);
        node.set(Some(opened));
        opened
    };
    let body = async |scope: &CancelScope| {
        let node = node.get().expect("its body runs");
        if cancels {
            scope.cancel_because(&said(u32::MAX));
            model.cancel(node, Why::Explicit(u32::MAX));
        }
        stand(machine, node, body, &expected).await
    };
    let (ended, expected) = if fails {
        let run = async { fail_after(time, body).await.map(Some) };
        let ended = Follow::new(model, open, has_ended(&expected), run).await;
        // Rule E9: what it absorbs is an error.
        let why = node.get().and_then(|node| model.own_reason(node));
        let failed = || End::Failed(vec![Leaf::TooSlow(why.unwrap_or(Why::Shutdown))]);
        let expected = expected.take();
        (ended, expected.map(|end| if end == End::MovedOn { failed() } else { end }))
    } else {
        let run = move_on_after(time, body);
        (Follow::new(model, open, has_ended(&expected), run).await, expected.take())
    };
    machine.check_end("a scope with a timeout", &end_of(&ended), expected);
    ended
}

/// Runs a nursery; a planned panic that comes out of it is the outer error.
async fn in_nursery<'e, B>(machine: &Rc<Machine>, body: B) -> std::thread::Result<Out>
where
    B: for<'s> AsyncFnOnce(Hand<'s, 'e>) -> Out,
{
    let model = &machine.model;
    let family = Family::new(model);
    let run = nursery(async |n| {
        let hand = Hand { nursery: n, family: Rc::clone(&family) };
        let ended = Rc::clone(&family);
        let body = Box::pin(body(hand));
        Stand::new(model, family.node(), body, move |end| ended.body_ended(end)).await
    });
    let open = || {
        let node = model.open(false, None, None);
        family.entered(node);
        node
    };
    let ended = Follow::new(model, open, || family.polled(), Catch::new(run)).await;
    let end = match &ended {
        Ok(result) => End::of(result),
        Err(_) => End::Panicked,
    };
    machine.check_end("a nursery", &end, Some(family.conclusion()));
    ended
}
