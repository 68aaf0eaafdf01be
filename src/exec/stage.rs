//! The stage: which kernel and which clock the runs of this thread get under test.

use std::panic;
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use crate::ring::twin::World;

use super::turn::{Limits, Strictness};
use super::{Setting, context};

/// What every run that is started on this thread gets while the stage is set.
#[derive(Clone)]
pub(crate) struct Stage {
    /// `None`: the real kernel.
    pub(crate) world: Option<Rc<World>>,
    pub(crate) setting: Setting,
    /// After how much quiet virtual time jumps.
    pub(crate) jump_after: Option<Duration>,
    pub(crate) deadlock: Option<Strictness>,
    pub(crate) limits: Limits,
}

impl Stage {
    /// Sets it until the guard goes; then the former one is back.
    pub(crate) fn set(self) -> StageSet {
        StageSet {
            former: context::with_thread(|thread| thread.stage.replace(Some(self))).flatten(),
        }
    }
}

pub(crate) struct StageSet {
    former: Option<Stage>,
}

impl Drop for StageSet {
    fn drop(&mut self) {
        context::with_thread(|thread| thread.stage.replace(self.former.take()));
    }
}

/// The stage of this thread.
pub(crate) fn stage() -> Option<Stage> {
    context::with_thread(|thread| thread.stage.borrow().clone()).flatten()
}

/// Keeps the panics of this thread from being printed until the guard goes: a search for a smaller
/// failing program makes many.
pub(crate) fn silence_panics() -> Silence {
    static FILTER: Once = Once::new();
    FILTER.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if context::with_thread(|thread| thread.is_silent.get()) != Some(true) {
                print(info);
            }
        }));
    });
    Silence { former: context::with_thread(|thread| thread.is_silent.replace(true)) }
}

pub(crate) struct Silence {
    former: Option<bool>,
}

impl Drop for Silence {
    fn drop(&mut self) {
        context::with_thread(|thread| thread.is_silent.set(self.former == Some(true)));
    }
}
