//! A fixed order for the steps of several tasks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::AsyncFnOnce;

use crate::error::{Error, Result};

use super::lot::Lot;

/// Runs numbered steps in order, whichever tasks they are in: step 0 first, each when the one before it
/// has ended.
///
/// ```
/// use std::cell::RefCell;
/// use trine::testing::{Sequencer, World};
///
/// World::tame().run(async || {
///     let (steps, told) = (Sequencer::new(), RefCell::new(String::new()));
///     let (steps, told) = (&steps, &told);
///     let tell = async |text: &str| Ok(told.borrow_mut().push_str(text));
///     trine::nursery(async |n| {
///         n.spawn(async move {
///             steps.at(0, async || tell("a").await).await?;
///             steps.at(2, async || tell("c").await).await
///         });
///         n.spawn(async move { steps.at(1, async || tell("b").await).await });
///         Ok(())
///     })
///     .await?;
///     assert_eq!(*told.borrow(), "abc");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Default)]
pub struct Sequencer {
    /// The step that may run.
    next: Cell<u32>,
    claimed: RefCell<BTreeSet<u32>>,
    /// A step was cancelled before its turn: those after it would wait for ever.
    broken: Cell<bool>,
    lot: Lot,
}

impl Sequencer {
    /// Before step 0.
    pub fn new() -> Sequencer {
        Sequencer::default()
    }

    /// Waits for the steps before `step`, then runs `body`.
    ///
    /// # Errors
    /// Those of the body. `Cancelled` before its turn: then all later steps fail, since they could
    /// only wait for ever. A step that was claimed before is refused.
    pub async fn at<T>(&self, step: u32, body: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
        if !self.claimed.borrow_mut().insert(step) {
            return Err(Error::other(format!("step {step} of the sequence is claimed twice")));
        }
        let turn = Turn { sequencer: self, step };
        let broken = self
            .lot
            .until(|| match self.broken.get() {
                true => Some(true),
                false => (self.next.get() == step).then_some(false),
            })
            .await?;
        if broken {
            let text = format!("step {step} will never come: one before it was cancelled");
            return Err(Error::other(text));
        }
        let result = body().await;
        drop(turn);
        result
    }
}

/// One step. Its end, however it comes, lets the next one go, or none.
struct Turn<'a> {
    sequencer: &'a Sequencer,
    step: u32,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let sequencer = self.sequencer;
        match sequencer.next.get() == self.step {
            true => sequencer.next.set(self.step + 1),
            false => sequencer.broken.set(true),
        }
        sequencer.lot.wake_all();
    }
}

impl fmt::Debug for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequencer(next: {}, broken: {})", self.next.get(), self.broken.get())
    }
}
