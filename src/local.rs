//! Variables that belong to a run or to a task.
//!
//! A static of one of these types has a value of its own in each run, or in each task. Within a run there
//! is one thread, so a value needs no lock: a `Cell` or a `RefCell` in it will do.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::exec::{self, Binding, Variable};
use crate::op::Carry;

/// One value per run, made when it is first asked for.
///
/// The values are dropped last, when everything else of the run has ended, in the order in which they were
/// made; then there are none any more.
///
/// ```
/// use std::cell::Cell;
/// use trine::local::RunLocal;
///
/// static SERVED: RunLocal<Cell<u64>> = RunLocal::new(|| Cell::new(0));
///
/// for _ in 0..2 {
///     trine::run(async || {
///         let served = SERVED.get()?;
///         served.set(served.get() + 1);
///         assert_eq!(SERVED.get()?.get(), 1, "another run has another one");
///         Ok(())
///     })?;
/// }
/// # Ok::<(), trine::Error>(())
/// ```
pub struct RunLocal<T: 'static> {
    variable: Variable,
    init: fn() -> T,
}

impl<T: 'static> RunLocal<T> {
    /// One whose value `init` makes, unless it is [set](RunLocal::set) before.
    pub const fn new(init: fn() -> T) -> RunLocal<T> {
        RunLocal { variable: Variable::new(), init }
    }

    /// The value of this thread's run.
    ///
    /// # Errors
    /// [`Error::NoRun`](crate::Error::NoRun) outside of a run; [`Error::RunFinished`](crate::Error::RunFinished)
    /// while the run ends.
    pub fn get(&self) -> Result<Rc<T>> {
        let run = exec::current()?;
        if let Some(value) = run.value(&self.variable) {
            return Ok(typed(value));
        }
        run.check_values()?;
        let value = Rc::new((self.init)());
        // `init` may have asked for it in a roundabout way: then there is one already.
        if let Some(first) = run.value(&self.variable) {
            return Ok(typed(first));
        }
        let former = run.set_value(&self.variable, Rc::clone(&value) as Rc<dyn Any>)?;
        drop(former);
        Ok(value)
    }

    /// Sets the value of this thread's run, and gives the former one back if there was one.
    ///
    /// # Errors
    /// As [`get`](RunLocal::get).
    pub fn set(&self, value: T) -> Result<Option<Rc<T>>> {
        let former = exec::current()?.set_value(&self.variable, Rc::new(value))?;
        Ok(former.map(typed))
    }
}

/// One value per task, given for as long as a future runs. Children inherit the values that whoever spawns
/// them has at that time (those that a nursery's body spawns before it first waits: whoever runs the nursery);
/// what they are given themselves does not come back. It is there while the future is polled, and not when
/// that is dropped half-way; nor has a [thread](crate::thread) any.
///
/// ```
/// use trine::local::TaskLocal;
/// use trine::nursery;
///
/// static REQUEST: TaskLocal<u64> = TaskLocal::new();
///
/// trine::run(async || {
///     let serving = REQUEST.scope(7, async {
///         nursery(async |n| {
///             n.spawn(async {
///                 assert_eq!(*REQUEST.get().expect("inherited"), 7);
///                 Ok(())
///             });
///             Ok(())
///         })
///         .await
///     });
///     serving.await?;
///     assert!(REQUEST.get().is_none());
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct TaskLocal<T: 'static> {
    variable: Variable,
    value: PhantomData<fn() -> T>,
}

impl<T: 'static> TaskLocal<T> {
    /// One without a value.
    pub const fn new() -> TaskLocal<T> {
        TaskLocal { variable: Variable::new(), value: PhantomData }
    }

    /// Runs `future` with this value; then the former one is back.
    pub fn scope<F: Future>(
        &self,
        value: T,
        future: F,
    ) -> impl Future<Output = F::Output> + use<T, F> {
        let variable = self.variable.id();
        let given = Given { variable, value: Rc::new(value), binding: None };
        Carry::new(given, Some(future))
    }

    /// The value of the task that is being polled.
    pub fn get(&self) -> Option<Rc<T>> {
        exec::current_or_none()?.binding(&self.variable).map(typed)
    }
}

/// A variable has values of its own type only.
fn typed<T: 'static>(value: Rc<dyn Any>) -> Rc<T> {
    value.downcast().expect("a variable has values of one type")
}

/// A value and, from the first poll on, the values around it.
struct Given {
    /// Its number.
    variable: u64,
    value: Rc<dyn Any>,
    binding: Option<Rc<Binding>>,
}

impl<F: Future> Future for Carry<Given, Option<F>> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (given, mut future) = self.parts();
        let run = exec::current_or_none();
        let bound = run.as_ref().map(|run| {
            let Given { variable, value, binding } = given;
            let make = || Binding::new(*variable, Rc::clone(value), run.bindings());
            run.bind(Some(Rc::clone(binding.get_or_insert_with(make))))
        });
        let polled = future.as_mut().as_pin_mut().expect("it has not ended").poll(cx);
        if polled.is_ready() {
            future.set(None);
        }
        drop(bound);
        polled
    }
}

impl<T> Default for TaskLocal<T> {
    fn default() -> Self {
        TaskLocal::new()
    }
}

impl<T> fmt::Debug for RunLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunLocal<{}>", std::any::type_name::<T>())
    }
}

impl<T> fmt::Debug for TaskLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskLocal<{}>", std::any::type_name::<T>())
    }
}
