//! Time: instants and sleeps. Timeouts are scopes (rule H4): [`move_on_after`](crate::move_on_after),
//! [`fail_after`](crate::fail_after).

mod interval;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::cancel::{Due, Subject, Timer};
use crate::error::Result;
use crate::exec::{self, Park, Pause, Run};
use crate::slots::Key;

pub use crate::clock::Instant;
pub use interval::{Interval, MissedTicks, interval, interval_at};

impl Instant {
    /// Now, on the clock of this thread's run, or on the machine's monotonic clock outside of one.
    pub fn now() -> Instant {
        exec::now()
    }

    /// How long ago this was; zero if it is to come.
    pub fn elapsed(self) -> Duration {
        Instant::now().saturating_duration_since(self)
    }
}

/// Sleeps for `duration`, and never less (rule H3). Zero is a checkpoint.
///
/// Cancel class: total.
///
/// # Errors
/// `Cancelled`; [`Error::NoRun`](crate::Error::NoRun) outside of a run.
///
/// ```
/// use std::time::Duration;
///
/// trine::run(async || trine::time::sleep(Duration::from_millis(1)).await)?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { until: Until::After(duration), state: State::New }
}

/// Sleeps until `deadline`. One that has passed is a checkpoint.
///
/// Cancel class: total.
///
/// # Errors
/// As [`sleep`].
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { until: Until::At(deadline), state: State::New }
}

/// Sleeps until it is cancelled.
///
/// Cancel class: total.
///
/// # Errors
/// As [`sleep`]; it always ends with one.
pub async fn sleep_forever() -> Result {
    loop {
        sleep_until(Instant::MAX).await?;
    }
}

/// A sleep. Polled again after its end, it sleeps anew.
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep {
    until: Until,
    state: State,
}

#[derive(Debug)]
enum Until {
    /// From the first poll on.
    After(Duration),
    At(Instant),
}

enum State {
    New,
    Asleep(Asleep),
    /// It was over before it began, and only lets others run.
    Pausing(Pause, Rc<Run>),
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sleep").field(&self.until).finish()
    }
}

/// A park with a timer.
struct Asleep {
    park: Park,
    deadline: Instant,
    timer: Option<Key<Timer>>,
}

impl Asleep {
    fn new(run: &Rc<Run>, deadline: Instant) -> Asleep {
        let park = Park::new(run, Subject::Park);
        let due = Due::Sleep(park.key());
        let timer =
            (deadline < Instant::MAX).then(|| run.act(|core| core.deadlines.insert(deadline, due)));
        Asleep { park, deadline, timer }
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.park.run().act(|core| core.deadlines.remove(timer));
        }
    }
}

impl Future for Sleep {
    type Output = Result;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result> {
        let this = &mut *self;
        loop {
            match &this.state {
                State::New => {
                    let run = exec::current()?;
                    let now = run.now();
                    let deadline = match this.until {
                        Until::After(duration) => now + duration,
                        Until::At(deadline) => deadline,
                    };
                    this.state = if deadline <= now {
                        State::Pausing(Pause::new(&run), run)
                    } else {
                        ready!(run.cancel_point())?;
                        State::Asleep(Asleep::new(&run, deadline))
                    };
                }
                State::Asleep(asleep) => {
                    let woken = ready!(asleep.park.poll_cancellable(cx));
                    let deadline = asleep.deadline;
                    this.state = State::New;
                    match woken {
                        Some(result) => return Poll::Ready(result),
                        // A stray cancellation (rule D4): sleep on, to the same deadline.
                        None => {
                            let run = exec::current()?;
                            this.state = State::Asleep(Asleep::new(&run, deadline));
                        }
                    }
                }
                // Schedule first, then check (rule A5).
                State::Pausing(pause, run) => {
                    pause.check_running()?;
                    ready!(pause.poll(cx));
                    let delivered = ready!(run.cancel_point());
                    this.state = State::New;
                    return Poll::Ready(Ok(delivered?));
                }
            }
        }
    }
}
