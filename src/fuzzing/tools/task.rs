//! Tasks, and the scopes that they are in.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::Result;
use crate::exec::{checkpoint, yield_shielded};
use crate::scope::CancelScope;
use crate::time::{Instant, Sleep, sleep};

use super::judge::Judge;
use super::line::{Ended, Outcome, Twin, Wait};
use super::plan::{Cut, How, Step, Whose};

/// Tools of one kind, their twins, and what tasks do with them.
pub(super) trait Family: Sized {
    /// What a task has of it. What is dropped with the task is told to the twin.
    type Hand<'a>
    where
        Self: 'a;

    /// How many of them a program has. With two, a task may wait for one while it has the other.
    const TOOLS: usize = 2;

    fn new(judge: &Rc<Judge>, shape: u8) -> Self;
    fn hand(&self) -> Self::Hand<'_>;

    /// Every task has its hand.
    fn begin(&self) {}

    async fn act<'a>(&'a self, hand: &mut Self::Hand<'a>, order: &Order<'a>) -> Result;

    /// Learns who was cancelled meanwhile.
    fn refresh(&self);

    /// Every task has ended.
    fn end(&self);
}

pub(super) struct Stage<'a, F> {
    pub(super) tools: &'a [F; 2],
    pub(super) tasks: &'a [Task],
}

pub(super) struct Task {
    number: usize,
    judge: Rc<Judge>,
    /// The scopes it is in, from the outermost on.
    scopes: RefCell<Vec<Rc<CancelScope>>>,
    /// It may have spent what it can do in this turn.
    spent: Cell<bool>,
}

/// The scopes around a wait, from the outermost on.
pub(super) type Scopes = Rc<[Rc<CancelScope>]>;

/// Whether what is in these scopes is cancelled (rules B5, G1).
pub(super) fn are_cancelled(scopes: &Scopes) -> bool {
    for scope in scopes.iter().rev() {
        if scope.cancel_called().is_some() {
            return true;
        }
        if scope.is_shielded() {
            return false;
        }
    }
    false
}

/// When a task is cancelled at the latest. Not all at the same time.
fn patience(number: usize) -> Duration {
    Duration::from_millis(60 + 3 * (number as u64 / 2))
}

impl Task {
    pub(super) fn new(number: usize, judge: &Rc<Judge>) -> Task {
        let judge = Rc::clone(judge);
        Task { number, judge, scopes: RefCell::default(), spent: Cell::new(false) }
    }

    /// All its steps, and then it drops what it has.
    pub(super) async fn run<'a, F: Family>(
        &'a self,
        stage: &Stage<'a, F>,
        mut hand: [F::Hand<'a>; 2],
        steps: &[Step],
    ) -> Result {
        let scope = CancelScope::new().timeout(patience(self.number));
        let ended = self.within(scope, self.steps(stage, &mut hand, steps)).await;
        self.judge.check(ended.is_ok(), || format!("E1: task {} was cancelled", self.number));
        stage.tools.iter().for_each(F::refresh);
        self.judge.tell(|| format!("task {} ends", self.number));
        Ok(())
    }

    async fn within<T>(
        &self,
        scope: CancelScope,
        body: impl Future<Output = Result<T>>,
    ) -> Result<Option<T>> {
        let scope = &Rc::new(scope);
        let inside = scope.run(async |_| {
            self.scopes.borrow_mut().push(Rc::clone(scope));
            let ended = body.await;
            self.scopes.borrow_mut().pop();
            ended
        });
        inside.await
    }

    fn steps<'t, 'a: 't, F: Family>(
        &'a self,
        stage: &'t Stage<'a, F>,
        hand: &'t mut [F::Hand<'a>; 2],
        steps: &'t [Step],
    ) -> Pin<Box<dyn Future<Output = Result> + 't>> {
        Box::pin(async move {
            for step in steps {
                self.step(stage, hand, step).await?;
            }
            Ok(())
        })
    }

    async fn step<'a, F: Family>(
        &'a self,
        stage: &Stage<'a, F>,
        hand: &mut [F::Hand<'a>; 2],
        step: &Step,
    ) -> Result {
        // Shields come and go: who was cancelled before stays so (rule C2).
        let refresh = || stage.tools.iter().for_each(F::refresh);
        refresh();
        self.judge.tell(|| format!("{:?} task {} {step:?}", Instant::now(), self.number));
        match step {
            Step::Act { tool, act, argument, how } => {
                let order = Order { task: self, act: *act, argument: *argument, how: *how };
                let tool = tool % F::TOOLS;
                stage.tools[tool].act(&mut hand[tool], &order).await?;
            }
            Step::Scope { patience, shield, steps } => {
                let scope = CancelScope::new().timeout(*patience).shield(*shield);
                self.within(scope, self.steps(stage, hand, steps)).await?;
            }
            Step::Turns(count) => {
                for _ in 0..*count {
                    checkpoint().await?;
                }
            }
            Step::Sleep(duration) => sleep(*duration).await?,
            Step::Cancel(whose) => stage.with(*whose, CancelScope::cancel),
            Step::Shield { whose, on } => stage.with(*whose, |scope| scope.set_shield(*on)),
            Step::Hide { task } => {
                stage.with(Whose { task: *task, whole: true }, CancelScope::cancel);
                refresh();
                let innermost = Whose { task: *task, whole: false };
                stage.with(innermost, |scope| scope.set_shield(true));
            }
            Step::Deadline { whose, patience } => {
                let deadline = Instant::now() + *patience;
                stage.with(*whose, |scope| scope.set_deadline(Some(deadline)));
            }
        }
        refresh();
        Ok(())
    }
}

impl<F> Stage<'_, F> {
    fn with(&self, whose: Whose, act: impl FnOnce(&CancelScope)) {
        let scopes = &self.tasks[usize::from(whose.task) % self.tasks.len()].scopes;
        let scope = match (whose.whole, &**scopes.borrow()) {
            (true, [scope, ..]) | (false, [_, .., scope]) => Rc::clone(scope),
            _ => return,
        };
        act(&scope);
    }
}

/// What a task is to do with a tool.
pub(super) struct Order<'a> {
    task: &'a Task,
    pub(super) act: u8,
    pub(super) argument: u8,
    how: How,
}

impl<'a> Order<'a> {
    pub(super) fn judge(&self) -> &'a Judge {
        &self.task.judge
    }

    /// One of so many.
    pub(super) fn choose(&self, many: usize) -> usize {
        usize::from(self.argument) % many.max(1)
    }

    /// Waits for something; `None`: it was dropped, or cancelled and that is swallowed. Afterwards, and
    /// whenever it was polled, `compare` is called.
    pub(super) async fn wait<'w, T: Twin, V: 'w>(
        &self,
        twin: &'w RefCell<T>,
        ask: T::Ask,
        future: impl Future<Output = Outcome<T::Got, V>> + 'w,
        compare: impl Fn() + 'w,
    ) -> Result<Option<V>>
    where
        'a: 'w,
    {
        let judge = self.judge();
        let make =
            |place| Wait::new(judge, twin, (ask, place), Box::pin(future), Box::new(compare));
        self.wait_with(make).await
    }

    /// The same with a future that knows the twin itself, made in the scope where it is polled.
    pub(super) async fn wait_with<V, W>(&self, make: impl FnOnce(Place) -> W) -> Result<Option<V>>
    where
        W: Future<Output = Ended<V>> + Unpin,
    {
        let Order { task, how, .. } = self;
        if task.spent.replace(how.spends) {
            yield_shielded().await;
        }
        let body = async {
            let scopes = task.scopes.borrow().iter().cloned().collect();
            let wait = make(Place { task: task.number, scopes, spends: how.spends });
            match Cutting::new(wait, how.cut).await {
                Ended::Got(value) => Ok(Some(value)),
                Ended::Cancelled(_) if how.swallows => Ok(None),
                Ended::Cancelled(error) => Err(error),
                Ended::Dropped => Ok(None),
            }
        };
        let Some(patience) = how.patience else { return body.await };
        let scope = CancelScope::new().timeout(patience).shield(how.shield);
        Ok(task.within(scope, body).await?.flatten())
    }
}

/// Where somebody waits.
pub(super) struct Place {
    pub(super) task: usize,
    pub(super) scopes: Scopes,
    /// Before it is polled for the first time, nothing is left of what may return at once.
    pub(super) spends: bool,
}

/// A wait that is dropped at some time.
struct Cutting<W> {
    wait: Option<W>,
    /// So many polls are left.
    polls: Option<u8>,
    each_turn: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<W> Cutting<W> {
    fn new(wait: W, cut: Option<Cut>) -> Cutting<W> {
        let polls = match cut {
            Some(Cut::Woken(polls) | Cut::Turns(polls)) => Some(polls),
            _ => None,
        };
        let timer = match cut {
            Some(Cut::After(duration)) => Some(Box::pin(sleep(duration))),
            _ => None,
        };
        let each_turn = matches!(cut, Some(Cut::Turns(_)));
        Cutting { wait: Some(wait), polls, each_turn, timer }
    }
}

impl<V, W: Future<Output = Ended<V>> + Unpin> Future for Cutting<W> {
    type Output = Ended<V>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<V>> {
        let this = &mut *self;
        let is_late = this.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
        if is_late || this.polls == Some(0) {
            this.wait = None;
            return Poll::Ready(Ended::Dropped);
        }
        this.polls = this.polls.map(|polls| polls - 1);
        let Some(wait) = &mut this.wait else { return Poll::Ready(Ended::Dropped) };
        let polled = Pin::new(wait).poll(cx);
        if polled.is_pending() && this.each_turn {
            cx.waker().wake_by_ref();
        }
        polled
    }
}
