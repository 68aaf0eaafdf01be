//! A process that a run is to answer for.

use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::exec::{self, Run};
use crate::op::Submission;
use crate::ring::Process;

/// A process that is dropped on the thread of a run without making that wait: it is killed, and the scope
/// there waits until it is dead. Elsewhere it is waited for as it is dropped.
pub(super) struct Ward {
    /// Taken out by whoever drops this, and not before.
    process: Option<Process>,
}

impl Ward {
    pub(super) fn new(process: Process) -> Ward {
        Ward { process: Some(process) }
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        let process = self.process.take().filter(|process| !process.is_reaped());
        let is_on_linux = |run: &Rc<Run>| run.host().check_linux("a process").is_ok();
        let run = exec::current_or_none().filter(|run| !run.is_finished() && is_on_linux(run));
        let (Some(process), Some(run)) = (process, run) else { return };
        // For one that must not be killed no scope waits.
        if process.send(libc::SIGKILL).is_ok() {
            run.leave_behind(Submission::reap(process));
        }
    }
}

impl Deref for Ward {
    type Target = Process;

    fn deref(&self) -> &Process {
        self.process.as_ref().expect("it is not being dropped")
    }
}

impl DerefMut for Ward {
    fn deref_mut(&mut self) -> &mut Process {
        self.process.as_mut().expect("it is not being dropped")
    }
}
