//! How much of a thing is done.

/// Whether this is to measure, or only to see that it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    Full,
    Smoke,
}

impl Scale {
    /// `full` times, or as often as is enough to see that it works.
    pub fn of(self, full: usize) -> usize {
        match self {
            Scale::Full => full,
            Scale::Smoke => full.min(50),
        }
    }
}
