//! Values that belong to a run or to a task.

use std::any::Any;
use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;
use crate::slots::Key;

use super::{Panics, Run, Task, check_running};

/// Tells variables apart, wherever they lie: a static is numbered when it is first asked.
#[derive(Debug)]
pub(crate) struct Variable(AtomicU64);

impl Variable {
    pub(crate) const fn new() -> Variable {
        Variable(AtomicU64::new(0))
    }

    /// Its number, which no other one has.
    pub(crate) fn id(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        match self.0.load(Ordering::Relaxed) {
            0 => {
                let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
                let first = self.0.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed);
                first.map_or_else(|other| other, |_| fresh)
            }
            id => id,
        }
    }
}

/// One value of a task, and those that it was given before. Tasks share what they inherit.
pub(crate) struct Binding {
    variable: u64,
    value: Rc<dyn Any>,
    outer: Bindings,
}

pub(crate) type Bindings = Option<Rc<Binding>>;

impl Binding {
    /// `variable`: its [number](Variable::id).
    pub(crate) fn new(variable: u64, value: Rc<dyn Any>, outer: Bindings) -> Rc<Binding> {
        Rc::new(Binding { variable, value, outer })
    }
}

/// However many there are, they are dropped one after another.
impl Drop for Binding {
    fn drop(&mut self) {
        let mut outer = self.outer.take();
        while let Some(mut binding) = outer.and_then(Rc::into_inner) {
            outer = binding.outer.take();
        }
    }
}

/// The values of one run, and whose they are: few, and in the order in which they were made, which is
/// that in which they are dropped.
pub(super) struct RunValues(RefCell<Option<Vec<RunValue>>>);

type RunValue = (u64, Rc<dyn Any>);

impl RunValues {
    pub(super) fn new() -> RunValues {
        RunValues(RefCell::new(Some(Vec::new())))
    }
}

impl Run {
    /// The value of a variable of this run.
    pub(crate) fn value(&self, variable: &Variable) -> Option<Rc<dyn Any>> {
        let (values, id) = (self.values.0.borrow(), variable.id());
        let (_, value) = values.as_ref()?.iter().find(|(whose, _)| *whose == id)?;
        Some(Rc::clone(value))
    }

    /// Whether there may be any.
    pub(crate) fn check_values(&self) -> Result<(), Error> {
        check_running(self)?;
        if self.values.0.borrow().is_some() { Ok(()) } else { Err(Error::RunFinished) }
    }

    /// Sets it; the former value comes back. Refused while the run ends, when all values have gone.
    pub(crate) fn set_value(
        &self,
        variable: &Variable,
        value: Rc<dyn Any>,
    ) -> Result<Option<Rc<dyn Any>>, Error> {
        self.check_values()?;
        let mut values = self.values.0.borrow_mut();
        let values = values.as_mut().ok_or(Error::RunFinished)?;
        let id = variable.id();
        match values.iter_mut().find(|(whose, _)| *whose == id) {
            Some((_, former)) => Ok(Some(mem::replace(former, value))),
            None => {
                values.push((id, value));
                Ok(None)
            }
        }
    }

    /// Drops the values of this run, which are other people's; from now on there are none.
    pub(super) fn drop_values(&self, panics: &mut Panics) {
        let values = self.values.0.borrow_mut().take();
        for (_, value) in values.into_iter().flatten() {
            panics.catch(|| drop(value));
        }
    }

    /// The value of a variable of the task that is being polled.
    pub(crate) fn binding(&self, variable: &Variable) -> Option<Rc<dyn Any>> {
        let bindings = self.bindings();
        let mut at = bindings.as_ref();
        while let Some(binding) = at {
            if binding.variable == variable.id() {
                return Some(Rc::clone(&binding.value));
            }
            at = binding.outer.as_ref();
        }
        None
    }

    /// All values of the task that is being polled.
    pub(crate) fn bindings(&self) -> Bindings {
        self.context.given().or_else(|| {
            let task = self.context.task()?;
            self.core.borrow().tasks.bindings(task)
        })
    }

    /// A new task has what the task that is being polled has.
    #[inline]
    pub(super) fn inherit(&self, task: Key<Task>) {
        if self.context.has_bindings() {
            let bindings = self.bindings();
            self.core.borrow_mut().tasks.set_bindings(task, bindings);
        }
    }

    /// Polls something with these values until the guard goes.
    pub(crate) fn bind(&self, bindings: Bindings) -> Bound<'_> {
        Bound { run: self, former: Some(self.context.give(bindings)) }
    }
}

/// Puts the former values back.
pub(crate) struct Bound<'a> {
    run: &'a Run,
    former: Option<(Bindings, Option<Key<Task>>)>,
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        if let Some(former) = self.former.take() {
            self.run.context.take_back(former);
        }
    }
}
