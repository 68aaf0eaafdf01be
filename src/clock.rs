//! The door to time. Nothing above reads the time by itself.

#[cfg(feature = "testing")]
use std::cell::Cell;
use std::fmt;
use std::ops::{Add, AddAssign, Sub};
#[cfg(feature = "testing")]
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

/// A point on the clock of the run: monotonic, in nanoseconds, never going back.
///
/// Sums saturate at [`MIN`](Instant::MIN) and [`MAX`](Instant::MAX); a deadline at `MAX` never comes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// Before every other instant: what [`current_effective_deadline`](crate::current_effective_deadline)
    /// answers inside a cancelled scope.
    pub const MIN: Instant = Instant(0);
    /// After every other instant: a deadline that never comes.
    pub const MAX: Instant = Instant(u64::MAX);

    /// How long after `earlier` this is; zero if it is not later.
    pub fn saturating_duration_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_sub(nanos))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09} s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// Where instants come from.
#[derive(Clone)]
pub(crate) enum Clock {
    /// The machine's monotonic clock.
    Monotonic,
    /// One that stands still until it is moved.
    #[cfg(feature = "testing")]
    Virtual(Rc<VirtualClock>),
}

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        match self {
            Clock::Monotonic => monotonic(),
            #[cfg(feature = "testing")]
            Clock::Virtual(clock) => clock.now(),
        }
    }
}

/// The twin of the machine's clock: time passes when somebody says so.
#[cfg(feature = "testing")]
#[derive(Debug)]
pub(crate) struct VirtualClock {
    now: Cell<Instant>,
}

#[cfg(feature = "testing")]
impl VirtualClock {
    /// It begins at the same instant each time, so that what is traced is the same each time.
    pub(crate) fn new() -> VirtualClock {
        VirtualClock { now: Cell::new(Instant::MIN + HEAD_START) }
    }

    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Moves it on; it never goes back.
    pub(crate) fn advance_to(&self, at: Instant) {
        self.now.set(self.now.get().max(at));
    }

    /// What has passed since it was made.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now.get() - (Instant::MIN + HEAD_START)
    }
}

/// Keeps instants in the recent past from colliding with [`Instant::MIN`].
const HEAD_START: Duration = Duration::from_secs(1 << 20);

/// Nanoseconds since shortly before the first call in this process.
fn monotonic() -> Instant {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    Instant::MIN + HEAD_START + START.get_or_init(std::time::Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate_instead_of_wrapping_or_panicking() {
        assert_eq!(Instant::MAX + Duration::MAX, Instant::MAX);
        assert_eq!(Instant::MIN - Duration::MAX, Instant::MIN);
        assert_eq!(Instant::MIN - Instant::MAX, Duration::ZERO);
    }

    #[test]
    fn the_clock_does_not_go_back() {
        let first = Clock::Monotonic.now();
        assert!(Clock::Monotonic.now() >= first && first > Instant::MIN);
    }
}
