//! A cancellation, and why it came.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// The work was cancelled by a scope around it: its effect did not happen (rule D1).
///
/// It carries a reason and no identity; which scope absorbs it is decided by the tree when it
/// reaches a scope's exit (rule B8). It has no public constructor (rule L4): a program passes it on
/// and never makes one.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cancelled: {reason}")]
pub struct Cancelled {
    reason: Reason,
}

impl Cancelled {
    pub(crate) fn new(reason: Reason) -> Self {
        Cancelled { reason }
    }

    /// Why: the own reason of the nearest cancelled scope around the place where it was raised.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }
}

/// Why a scope was cancelled (rule L1). The first reason stays (rule L2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The deadline of the scope opened at this place passed.
    Deadline {
        /// Where the scope was opened.
        scope: &'static Location<'static>,
    },
    /// Somebody called `cancel`.
    Explicit {
        /// Where.
        at: &'static Location<'static>,
        /// What was said, if anything.
        because: Option<Arc<str>>,
    },
    /// A child of the same nursery failed or panicked.
    SiblingFailed {
        /// Where that child was spawned (or, for the body, where the nursery was opened).
        child: &'static Location<'static>,
    },
    /// The result is there, and the rest is not needed: a nursery was finished, or only its
    /// daemons were left.
    Finished,
    /// A scope around is [drained](crate::CancelScope::drain), and here nothing was in hand.
    Drained {
        /// Where that was asked for.
        at: &'static Location<'static>,
    },
    /// A signal asked the program to stop (Ctrl-C).
    Interrupt,
    /// The run is over.
    Shutdown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Deadline { scope } => write!(f, "the deadline of the scope at {scope} passed"),
            Reason::Explicit { at, because: None } => write!(f, "cancelled at {at}"),
            Reason::Explicit { at, because: Some(text) } => write!(f, "cancelled at {at}: {text}"),
            Reason::SiblingFailed { child } => write!(f, "the sibling spawned at {child} failed"),
            Reason::Finished => f.write_str("the nursery has its result"),
            Reason::Drained { at } => write!(f, "drained at {at}"),
            Reason::Interrupt => f.write_str("interrupted by a signal"),
            Reason::Shutdown => f.write_str("the run is over"),
        }
    }
}
