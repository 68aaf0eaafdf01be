//! Calls into a run from other threads (rule K5).

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe, Location};
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::thread;

use crate::error::{Error, Result};
use crate::exec::{self, Caller, Door};
use crate::local::RunLocal;
use crate::nursery::nursery;
use crate::sync::{Receiver, Sender, unbounded};

/// A handle on a run that may be used in any thread: to have something called, or a future run, on the
/// run's own thread.
///
/// What is accepted is done, in the order in which it was accepted. When the main future has ended nothing
/// more is accepted: [`Error::RunFinished`].
///
/// ```
/// use trine::sync::oneshot;
/// use trine::thread::{self, Remote};
///
/// trine::run(async || {
///     let remote = Remote::current()?;
///     let outside = std::thread::spawn(move || {
///         // A future of this run, awaited by another thread.
///         remote.run(async || {
///             trine::checkpoint().await?;
///             Ok(trine::stats().turns)
///         })
///     });
///     let turns = thread::run(move || outside.join().expect("it does not panic")).await??;
///     assert!(turns > 0);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Clone)]
pub struct Remote {
    door: Door,
}

impl Remote {
    /// Of this thread's run; in a thread of [`run`](super::run()), of the run that it works for.
    ///
    /// # Errors
    /// [`Error::NoRun`] in other threads.
    pub fn current() -> Result<Remote> {
        match exec::current() {
            Ok(run) => Ok(Remote::new(run.door().clone())),
            Err(error) => {
                exec::with_employer(|employer| Remote::new(employer.door.clone())).ok_or(error)
            }
        }
    }

    pub(super) fn new(door: Door) -> Remote {
        Remote { door }
    }

    /// Has something called, and does not wait for it. Its panic is the run's.
    ///
    /// # Errors
    /// [`Error::RunFinished`].
    pub fn post(&self, call: impl FnOnce() + Send + 'static) -> Result {
        let call = Box::new(call);
        self.door.call(Caller::Anyone, call).map_err(|_refused| Error::RunFinished)
    }

    /// Has something called, and blocks this thread until that is done. On the run's own thread it is called
    /// at once.
    ///
    /// # Errors
    /// [`Error::RunFinished`].
    ///
    /// # Panics
    /// With the panic of `call`.
    pub fn call<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        if self.is_here() {
            return Ok(call());
        }
        let (tell, told) = mpsc::channel();
        self.post(move || drop(tell.send(panic::catch_unwind(AssertUnwindSafe(call)))))?;
        wait(&told)
    }

    /// Has a future run, and blocks this thread until it has ended. It runs beside the main future, in no
    /// scope of its tasks, not even of the one that a thread of [`run`](super::run()) works for: give it a timeout
    /// of its own if it may hang. When the main future has ended it is cancelled, and awaited.
    ///
    /// # Errors
    /// What the future ends with; [`Error::RunFinished`], also where the run has panicked before its end;
    /// [`Error::WouldBlock`] on the run's own thread, which would wait for itself: spawn it in a nursery there.
    ///
    /// # Panics
    /// With the panic of the future.
    pub fn run<T, F, M>(&self, make: M) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + 'static,
        M: FnOnce() -> F + Send + 'static,
    {
        if self.is_here() {
            return Err(Error::WouldBlock);
        }
        let (tell, told) = mpsc::channel();
        self.post(move || {
            let Ok(guests) = GUESTS.get() else { return };
            let guest = async move { drop(tell.send(caught(make).await)) };
            // Closed when the run has been given up; then `tell` is dropped, which says so.
            drop(guests.try_send(Box::pin(guest)));
        })?;
        wait(&told)?
    }

    /// Whether this thread is the one that would be called on.
    fn is_here(&self) -> bool {
        exec::with_current(|run| self.door.is_of(run)) == Some(true)
    }
}

/// What was done, unless the run was given up before.
fn wait<T>(told: &mpsc::Receiver<thread::Result<T>>) -> Result<T> {
    let end = told.recv().map_err(|_given_up| Error::RunFinished)?;
    Ok(end.unwrap_or_else(|payload| panic::resume_unwind(payload)))
}

/// Runs a future, and keeps its panic.
async fn caught<T, F: Future<Output = T>>(make: impl FnOnce() -> F) -> thread::Result<T> {
    let future = panic::catch_unwind(AssertUnwindSafe(make))?;
    let mut future = pin!(future);
    poll_fn(|cx| match panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(payload) => std::task::Poll::Ready(Err(payload)),
    })
    .await
}

type Guest = Pin<Box<dyn Future<Output = ()>>>;

/// Futures of other threads, on their way to whoever runs them.
static GUESTS: RunLocal<Sender<Guest>> = RunLocal::new(receive_guests);

fn receive_guests() -> Sender<Guest> {
    let (sender, receiver) = unbounded();
    let run = exec::current().expect("a value of a run is made in one");
    run.attend(Box::pin(run_guests(receiver)), Location::caller());
    sender
}

async fn run_guests(guests: Receiver<Guest>) {
    let served: Result = nursery(async |n| {
        let host = |guest: Guest| {
            n.spawn(async {
                guest.await;
                Ok(())
            });
        };
        let ended = loop {
            match guests.recv().await {
                Ok(Some(guest)) => host(guest),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        // Who was accepted is run, if only to its first cancel point.
        while let Ok(guest) = guests.try_recv() {
            host(guest);
        }
        ended
    })
    .await;
    // Dismissed, which is how it ends.
    drop(served);
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}
