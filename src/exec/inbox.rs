//! What other threads want of a run: that it wakes tasks, and that it calls something.

use std::fmt;
use std::sync::Arc;

use crate::primitives::{AtomicBool, Mutex, Ordering, lock};
use crate::ring::Bell;

use super::Run;
use super::tasks::TaskWaker;

/// Where other threads leave the tasks they wake and the calls they want made. Every waker owns a share
/// of it, and with it of the bell (rule P6).
#[derive(Debug)]
pub(super) struct Inbox {
    letters: Mutex<Letters>,
    /// The bell was rung for what is in the box. The run takes this back *before* it empties the
    /// box, so whatever is put in later rings again: a wake cannot be missed.
    rung: AtomicBool,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Letters {
    mail: Mail,
    accepts: Accepts,
}

/// What has come.
#[derive(Default)]
pub(super) struct Mail {
    pub(super) tasks: Vec<Arc<TaskWaker>>,
    pub(super) calls: Vec<Call>,
}

/// Something to be called on the run's thread.
pub(crate) type Call = Box<dyn FnOnce() + Send>;

/// Who may call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    /// Anybody.
    Anyone,
    /// A thread that the run waits for.
    Worker,
}

/// What may still be put in. Whatever was accepted is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Accepts {
    #[default]
    Everything,
    /// The main future has ended: no more calls but those of threads that the run waits for.
    Workers,
    /// The run has ended and will not look again.
    Nothing,
}

/// A share in the inbox of somebody who may call: as long as there is one, somebody may wake the run.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    inbox: Arc<Inbox>,
    held: Arc<()>,
}

impl Door {
    pub(super) fn new(inbox: &Arc<Inbox>) -> Door {
        Door { inbox: Arc::clone(inbox), held: Arc::default() }
    }

    /// Whether somebody else has a share, or has left something. In this order: whoever gave up a share
    /// in between has left everything before.
    pub(super) fn is_used_elsewhere(&self) -> bool {
        Arc::strong_count(&self.held) > 1 || !self.inbox.is_empty()
    }

    /// Leaves a call, from any thread. One that will not be made any more comes back.
    pub(crate) fn call(&self, caller: Caller, call: Call) -> Result<(), Call> {
        self.inbox.call(caller, call)
    }

    pub(crate) fn is_of(&self, run: &Run) -> bool {
        Arc::ptr_eq(&self.inbox, &run.inbox)
    }
}

impl Inbox {
    pub(super) fn new(bell: Arc<Bell>) -> Inbox {
        Inbox { letters: Mutex::new(Letters::default()), rung: AtomicBool::new(false), bell }
    }

    /// Leaves a task, from any thread.
    pub(super) fn wake(&self, task: Arc<TaskWaker>) {
        let mut letters = lock(&self.letters);
        if letters.accepts == Accepts::Nothing {
            return;
        }
        letters.mail.tasks.push(task);
        drop(letters);
        self.ring();
    }

    fn call(&self, caller: Caller, call: Call) -> Result<(), Call> {
        let mut letters = lock(&self.letters);
        match (letters.accepts, caller) {
            (Accepts::Everything, _) | (Accepts::Workers, Caller::Worker) => {
                letters.mail.calls.push(call);
            }
            _ => return Err(call),
        }
        drop(letters);
        self.ring();
        Ok(())
    }

    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// Empties the box. Between lock and lock a store would do as well as a swap, but is no cheaper; and the
    /// checker knows no order between a store and a swap of another thread, and so reports what cannot be.
    pub(super) fn take(&self) -> Mail {
        self.rung.swap(false, Ordering::AcqRel);
        std::mem::take(&mut lock(&self.letters).mail)
    }

    /// Whether something is in it, or under way.
    pub(super) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        let mail = &lock(&self.letters).mail;
        mail.tasks.is_empty() && mail.calls.is_empty()
    }

    /// From now on calls are refused, but for those of threads that the run waits for.
    pub(super) fn refuse_calls(&self) {
        lock(&self.letters).accepts = Accepts::Workers;
    }

    pub(super) fn close(&self) {
        let mut letters = lock(&self.letters);
        letters.accepts = Accepts::Nothing;
        let late = std::mem::take(&mut letters.mail);
        drop(letters);
        drop(late);
    }
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wakes, {} calls", self.tasks.len(), self.calls.len())
    }
}

#[cfg(all(test, loom))]
#[path = "inbox_loom.rs"]
mod loom_tests;
