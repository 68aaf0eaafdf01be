//! Something that is due again and again.

use std::fmt;
use std::time::Duration;

use crate::clock::Instant;
use crate::error::Result;

use super::sleep_until;

/// Ticks: now, and then once in every `period`.
///
/// With a period of zero it is always due; a tick then only lets others run.
///
/// ```
/// use std::time::Duration;
/// use trine::time::interval;
///
/// trine::run(async || {
///     let mut ticks = interval(Duration::from_millis(1));
///     for _ in 0..3 {
///         ticks.tick().await?;
///     }
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// As [`interval`], from `first` on.
pub fn interval_at(first: Instant, period: Duration) -> Interval {
    Interval { next: first, period, missed: MissedTicks::Burst }
}

/// What becomes of ticks for which nobody was there in time.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum MissedTicks {
    /// They come one right behind another until all have come: as many ticks as periods.
    #[default]
    Burst,
    /// The next one is a whole period after the late one: never two within a period.
    Delay,
    /// They are left out: the next one is when it would have been due anyway.
    Skip,
}

/// Made by [`interval`].
pub struct Interval {
    next: Instant,
    period: Duration,
    missed: MissedTicks,
}

impl Interval {
    /// With this in the place of [`MissedTicks::Burst`].
    #[must_use]
    pub fn missed_ticks(mut self, missed: MissedTicks) -> Interval {
        self.missed = missed;
        self
    }

    /// Waits for the next tick, and says when it was due.
    ///
    /// Cancel class: total. A cancelled or dropped one was no tick: the next one is due as it was.
    ///
    /// # Errors
    /// `Cancelled`; [`Error::NoRun`](crate::Error::NoRun) outside of a run.
    pub async fn tick(&mut self) -> Result<Instant> {
        let due = self.next;
        sleep_until(due).await?;
        self.next = self.after(due, Instant::now());
        Ok(due)
    }

    fn after(&self, due: Instant, now: Instant) -> Instant {
        let next = due + self.period;
        if next >= now {
            return next;
        }
        match self.missed {
            MissedTicks::Burst => next,
            MissedTicks::Delay => now + self.period,
            MissedTicks::Skip => {
                let late = (now - due).as_nanos();
                let into_period = late.checked_rem(self.period.as_nanos()).unwrap_or(0);
                let elapsed = Duration::from_nanos(u64::try_from(into_period).unwrap_or(u64::MAX));
                if into_period == 0 { now } else { now - elapsed + self.period }
            }
        }
    }

    /// When the next tick is due.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Makes the next tick due one period from now.
    pub fn reset(&mut self) {
        self.next = Instant::now() + self.period;
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interval { period, missed, .. } = self;
        f.debug_struct("Interval").field("period", period).field("missed", missed).finish()
    }
}
