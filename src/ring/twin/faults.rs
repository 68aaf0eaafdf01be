//! What may go wrong, and how often.

use super::tape::{Lane, Tape};

/// The chance of each kind of fault, out of 256 each time it could strike.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Faults {
    /// A completion comes later than its effect.
    pub delay: u8,
    /// Completions come in another order.
    pub reorder: u8,
    /// A transfer moves less than it could, or a connection has a small buffer.
    pub short: u8,
    /// An enter returns early: interrupted, or because the kernel is busy.
    pub interrupt: u8,
    /// An enter takes only a part of the queue.
    pub submit_less: u8,
    /// An operation is interrupted although nobody asked.
    pub spurious: u8,
    /// A multishot ends with a good result.
    pub multishot_ends: u8,
    /// A cancel does not simply hit.
    pub cancel_odd: u8,
    /// An accept fails; the connection stays.
    pub accept_errors: u8,
    /// A connection breaks.
    pub reset: u8,
    /// A connect fails.
    pub connect_fails: u8,
    /// A receive finds the pool empty, although it is not.
    pub empty_pool: u8,
    /// The kernel writes nonsense into memory that it has.
    pub scribble: u8,
    /// The network loses a datagram.
    pub lose: u8,
    /// It delivers one twice.
    pub duplicate: u8,
    /// The kernel knows no multishots, and refuses them (`EINVAL`). This is drawn once.
    pub no_multishots: u8,
}

impl Faults {
    /// A kernel that does what it is asked, at once.
    pub fn none() -> Faults {
        Faults::default()
    }

    /// Everything that Linux allows, often, but nothing so often that nothing else happens.
    pub fn wild() -> Faults {
        Faults {
            delay: 64,
            reorder: 128,
            short: 64,
            interrupt: 32,
            submit_less: 32,
            spurious: 16,
            multishot_ends: 32,
            cancel_odd: 160,
            accept_errors: 16,
            reset: 2,
            connect_fails: 12,
            empty_pool: 16,
            scribble: 96,
            lose: 16,
            duplicate: 16,
            no_multishots: 48,
        }
    }

    /// The same without what breaks connections and loses datagrams: what was sent arrives, once, and only
    /// the way varies.
    pub fn lossless() -> Faults {
        Faults {
            reset: 0,
            connect_fails: 0,
            accept_errors: 0,
            lose: 0,
            duplicate: 0,
            ..Faults::wild()
        }
    }

    /// Swarm testing: half of the kinds are switched off and the others made rarer, by the tape's
    /// choice, since faults that strike together hide each other.
    ///
    /// An odd byte switches a kind off and zero leaves it as it is, so that a tape written by hand need
    /// not say anything here; what the tame tape leaves on never strikes, because that is chosen too.
    pub(super) fn swarm(mut self, tape: &mut Tape) -> Faults {
        for kind in self.kinds() {
            let byte = tape.choose(Lane::Fault, 256);
            let rarer = (u32::from(*kind) * (256 - byte)).div_ceil(256);
            *kind = if byte % 2 == 1 { 0 } else { rarer as u8 };
        }
        self
    }

    /// Those that may strike again and again.
    fn kinds(&mut self) -> [&mut u8; 15] {
        [
            &mut self.delay,
            &mut self.reorder,
            &mut self.short,
            &mut self.interrupt,
            &mut self.submit_less,
            &mut self.spurious,
            &mut self.multishot_ends,
            &mut self.cancel_odd,
            &mut self.accept_errors,
            &mut self.reset,
            &mut self.connect_fails,
            &mut self.empty_pool,
            &mut self.scribble,
            &mut self.lose,
            &mut self.duplicate,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_the_swarm() {
        // One byte for each kind, and one that is drawn once.
        assert_eq!(size_of::<Faults>(), Faults::none().kinds().len() + 1);
        let mut faults = Faults { no_multishots: 9, ..Faults::none() };
        faults.kinds().into_iter().for_each(|kind| *kind = 9);
        assert!(!format!("{faults:?}").contains(": 0"), "{faults:?}");
    }

    #[test]
    fn about_half_of_the_kinds_are_off_and_the_tame_tape_leaves_all() {
        assert_eq!(Faults::wild().swarm(&mut Tape::tame()), Faults::wild());
        let mut off = 0;
        for seed in 0..100 {
            let mut faults = Faults::wild().swarm(&mut Tape::from_seed(seed));
            off += faults.kinds().iter().filter(|kind| ***kind == 0).count();
        }
        assert!((600..900).contains(&off), "{off} of 1500");
    }

    #[test]
    fn what_cannot_happen_is_not_switched_on() {
        for seed in 0..20 {
            assert_eq!(Faults::none().swarm(&mut Tape::from_seed(seed)), Faults::none());
        }
    }
}
