//! One operation and its fate, from a fresh subject to nothing being left of it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::future::poll_fn;
use std::path::PathBuf;
use std::process;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use crate::error::Result;
use crate::exec::{self, Run, stats, yield_shielded};
use crate::nursery::{Child, nursery};
use crate::op::Slot;
use crate::scope::{CancelScope, move_on_after, shield};
use crate::slots::Key;
use crate::testing::World;
use crate::time::sleep;

use super::super::adapters::Local;
use super::Fate;
use super::known::named;
use super::subject::{Done, Law, Row, Subject};

/// What came of it.
#[derive(Default)]
pub(super) struct Played {
    pub(super) ending: &'static str,
    pub(super) kinds: BTreeSet<&'static str>,
    pub(super) requests: BTreeSet<String>,
    pub(super) wrong: Vec<String>,
}

impl Played {
    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }

    fn note(&mut self, slot: &Slot) {
        self.kinds.extend(named(slot.kind()));
        // The name of the variant; those about files are inside of one.
        let request = format!("{:?}", slot.request());
        let inner = request.strip_prefix("File(").unwrap_or(&request);
        self.requests.extend(inner.split([' ', '(']).next().map(str::to_owned));
        if inner != request {
            self.requests.insert("File".to_owned());
        }
    }
}

/// Tries the operation of a row, `gap` turns long before something happens to it.
pub(super) async fn play(row: &Row, fate: Fate, gap: usize) -> Played {
    let mut played = Played::default();
    let before = (exec::stats().in_kernel, descriptors());
    let scratch = Scratch::new();
    if let Err(error) = attempt(row, fate, gap, &scratch, &mut played).await {
        played.wrong.push(format!("around the operation: {error}"));
    }
    // What was dropped is closed by and by; so may be what helped to start a process before, so fewer are fine.
    let is_clean = || exec::stats().in_kernel == before.0 && descriptors() <= before.1;
    for _ in 0..1000 {
        if is_clean() {
            break;
        }
        let _ = sleep(Duration::from_millis(1)).await;
    }
    played.check(is_clean(), || {
        let after = (exec::stats().in_kernel, descriptors());
        format!("D7, P1: (operations, descriptors) were {before:?}, and {after:?} are left")
    });
    played
}

async fn attempt(
    row: &Row,
    fate: Fate,
    gap: usize,
    scratch: &Scratch,
    played: &mut Played,
) -> Result {
    let subject = (row.open)(scratch.path.clone()).await?;
    let has_ended = Cell::new(false);
    let (outcome, answered, rest) = nursery(async |n| {
        let (mut completed, mut answered) = (false, false);
        let scope = CancelScope::new();
        let ended = scope.run(async |_| {
            let mut trial = Trial::new(&*subject, played)?;
            if fate == Fate::Before {
                scope.cancel();
                return Ok(Some(trial.before(row.law).await));
            }
            trial.begin().await;
            // Dropped at once, it goes to the kernel together with what completes it.
            if fate == Fate::Orphaned && gap == 0 {
                trial.abandon();
            } else {
                turns(gap).await;
            }
            completed = matches!(fate, Fate::Undisturbed | Fate::After | Fate::Orphaned);
            if fate == Fate::Undisturbed {
                let completing = n.fork(little_by_little(row.law, &*subject, &has_ended));
                let outcome = trial.end().await;
                has_ended.set(true);
                in_time(completing).await?;
                return Ok(Some(outcome));
            }
            if completed {
                shield(in_time(n.fork(subject.complete()))).await?;
            }
            match fate {
                Fate::Undisturbed | Fate::Before => {}
                Fate::During => scope.cancel(),
                Fate::After => {
                    answered = shield(trial.is_answered()).await?;
                    scope.cancel();
                }
                Fate::Dropped | Fate::Orphaned => {
                    trial.abandon();
                    return Ok(None);
                }
            }
            Ok(Some(trial.end().await))
        });
        let outcome = ended.await?.flatten();
        if !completed {
            in_time(n.fork(subject.complete())).await?;
        }
        Ok((outcome, answered, subject.rest().await?))
    })
    .await?;
    judge(row, fate, answered, outcome.as_ref(), rest, played);
    Ok(())
}

/// What is done may take several times what is waited for: a worker of the kernel may be slower than whoever
/// takes it is patient.
async fn little_by_little(law: Law, subject: &dyn Subject, has_ended: &Cell<bool>) -> Result {
    loop {
        subject.complete().await?;
        if has_ended.get() || matches!(law, Law::Takes | Law::Asks | Law::Always) {
            return Ok(());
        }
        sleep(Duration::from_millis(1)).await?;
    }
}

/// Waits until it is done, unless somebody has to take something first.
async fn in_time(completing: Child<'_, ()>) -> Result {
    let time = Duration::from_secs(2);
    move_on_after(time, async |_| completing.await).await.map(drop)
}

/// An operation that is polled by hand.
struct Trial<'a> {
    run: Rc<Run>,
    /// Slots that are others'.
    others: Vec<Key<Slot>>,
    operation: Option<Local<'a, Done>>,
    ended: Option<Done>,
    played: &'a mut Played,
}

impl<'a> Trial<'a> {
    fn new(subject: &'a dyn Subject, played: &'a mut Played) -> Result<Trial<'a>> {
        let run = exec::current()?;
        let others = run.look(|core| core.table.iter().map(|(key, _)| key).collect());
        Ok(Trial { run, others, operation: Some(subject.start()), ended: None, played })
    }

    /// The first poll, which submits.
    async fn begin(&mut self) {
        poll_fn(|cx| {
            let polled = self.operation.as_mut().map(|operation| operation.as_mut().poll(cx));
            if let Some(Poll::Ready(done)) = polled {
                self.ended = Some(done);
            }
            Poll::Ready(())
        })
        .await;
        self.look();
    }

    async fn end(&mut self) -> Done {
        let done = match self.ended.take() {
            Some(done) => done,
            None => {
                poll_fn(|cx| {
                    let operation = self.operation.as_mut().expect("it was not abandoned");
                    let polled = operation.as_mut().poll(cx);
                    self.look();
                    polled
                })
                .await
            }
        };
        self.operation = None;
        done
    }

    /// All of it, in a scope that is cancelled: nothing may be submitted.
    async fn before(&mut self, law: Law) -> Done {
        let submitted = stats().submitted;
        self.begin().await;
        let done = self.end().await;
        let more = stats().submitted - submitted;
        self.played.check(law == Law::Always || more == 0, || {
            format!("A8: {more} operations were submitted in a scope that was cancelled before")
        });
        done
    }

    fn abandon(&mut self) {
        self.operation = None;
        self.look();
    }

    /// Notes what it has submitted.
    fn look(&mut self) {
        let Trial { run, others, played, .. } = self;
        run.look(|core| {
            let mine = core.table.iter().filter(|(key, _)| !others.contains(key));
            mine.for_each(|(_, slot)| played.note(slot));
        });
    }

    /// Waits until the kernel has nothing to say any more about what was submitted so far; whether that went
    /// well. If it did not, the operation may be tried again.
    async fn is_answered(&self) -> Result<bool> {
        let mine = self.run.look(|core| {
            let keys = core.table.iter().map(|(key, _)| key);
            keys.filter(|key| !self.others.contains(key)).collect::<Vec<_>>()
        });
        for _ in 0..PATIENCE {
            let told: Vec<_> = self.run.look(|core| {
                let slots = mine.iter().filter_map(|key| core.table.get(*key));
                slots.map(Slot::told).collect()
            });
            if told.iter().all(Option::is_some) {
                return Ok(told.iter().flatten().all(|result| *result >= 0));
            }
            sleep(Duration::from_millis(1)).await?;
        }
        Ok(false)
    }
}

/// Milliseconds that an operation may take whose end has been brought about.
const PATIENCE: u32 = 50;

async fn turns(count: usize) {
    for _ in 0..count {
        yield_shielded().await;
    }
}

/// Whether the end of an operation and what is seen of it agree.
fn judge(
    row: &Row,
    fate: Fate,
    answered: bool,
    outcome: Option<&Done>,
    rest: u64,
    played: &mut Played,
) {
    let whole = (row.whole)();
    let (ending, done) = match outcome {
        None => ("dropped", 0),
        Some(Ok(done)) => ("done", *done),
        Some(Err(stopped)) if !stopped.error.is_cancelled() => {
            return played.wrong.push(format!("it failed: {}", stopped.error));
        }
        Some(Err(stopped)) if stopped.done > 0 => ("cancelled when a part was done", stopped.done),
        Some(Err(_)) => ("cancelled", 0),
    };
    played.ending = ending;
    let is_possible = match fate {
        _ if row.law == Law::Always => true,
        Fate::After if row.law == Law::DoesLast => true,
        Fate::Undisturbed => ending == "done",
        Fate::Before => ending == "cancelled",
        Fate::During => true,
        // What takes several operations has done a part.
        Fate::After => !answered || ending != "cancelled",
        Fate::Dropped | Fate::Orphaned => ending == "dropped",
    };
    played.check(is_possible, || format!("A8, D4: it is {ending}"));
    let (holds, rule) = match row.law {
        Law::Asks => (true, ""),
        Law::Always => (rest == whole, "D7, M2"),
        Law::Takes => (done + rest == whole, "D1, D7"),
        // Whether a dropped one has done anything is not known; more than everything it has not.
        Law::Does | Law::DoesLast | Law::Lends if ending == "dropped" => (rest <= whole, "D7"),
        Law::Lends if ending != "done" => (rest <= whole, "D2"),
        Law::Does | Law::DoesLast | Law::Lends => {
            (rest == done && done <= whole && (ending != "done" || done > 0), "D2, D4")
        }
    };
    played.check(holds, || {
        format!("{rule}: it is {ending}, {done} of {whole}; and {rest} is seen of it afterwards")
    });
}

/// The descriptors of the process, or of the simulated world.
fn descriptors() -> usize {
    match World::try_current() {
        Some(world) => world.census().descriptors,
        None => fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
    }
}

/// A directory that is removed at the end. A simulated world goes as a whole.
struct Scratch {
    path: PathBuf,
    is_real: bool,
}

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if World::try_current().is_some() {
            return Scratch { path: PathBuf::from("/tmp"), is_real: false };
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("trine-fates-{}-{number}", process::id()));
        fs::create_dir(&path).expect("a directory for temporary files can be written");
        Scratch { path, is_real: true }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_real {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
