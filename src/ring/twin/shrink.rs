//! From a tape that shows a fault to a small one that still does.

use super::tape::{Lane, Tape};

/// Looks for the smallest tape for which `still_fails` is true, asking at most `budget` times.
///
/// Lanes are emptied, spans deleted and zeroed, bytes lowered, until nothing helps any more.
pub(crate) fn shrink(tape: &Tape, still_fails: impl FnMut(&Tape) -> bool, budget: usize) -> Tape {
    let mut search = Search { best: tape.recorded_whole(), still_fails, budget };
    loop {
        let before = search.best.clone();
        for lane in Lane::ALL {
            search.offer(lane, Vec::new());
        }
        for lane in Lane::ALL {
            search.cut(lane);
            search.delete_spans(lane);
            search.zero_spans(lane);
            search.lower(lane);
        }
        if search.best == before || search.budget == 0 {
            return search.best;
        }
    }
}

impl Tape {
    /// All its bytes, from the start, and no source of more.
    fn recorded_whole(&self) -> Tape {
        Lane::ALL
            .into_iter()
            .fold(Tape::tame(), |tape, lane| tape.with(lane, self.lane(lane).to_vec()))
    }
}

struct Search<F> {
    best: Tape,
    still_fails: F,
    budget: usize,
}

impl<F: FnMut(&Tape) -> bool> Search<F> {
    /// Takes the tape with these bytes in `lane`, if it is another one and still fails.
    fn offer(&mut self, lane: Lane, bytes: Vec<u8>) -> bool {
        let candidate = self.best.clone().with(lane, bytes);
        if self.budget == 0 || candidate == self.best {
            return false;
        }
        self.budget -= 1;
        let better = (self.still_fails)(&candidate);
        if better {
            self.best = candidate;
        }
        better
    }

    fn bytes(&self, lane: Lane) -> Vec<u8> {
        self.best.lane(lane).to_vec()
    }

    /// Halves the part that is cut off the end for as long as cutting fails.
    fn cut(&mut self, lane: Lane) {
        let mut part = self.bytes(lane).len();
        while part > 0 {
            let bytes = self.bytes(lane);
            let kept = bytes.len().saturating_sub(part);
            if bytes.is_empty() || !self.offer(lane, bytes[..kept].to_vec()) {
                part /= 2;
            }
        }
    }

    fn delete_spans(&mut self, lane: Lane) {
        self.spans(lane, |bytes, from, to| {
            let mut shorter = bytes.to_vec();
            shorter.drain(from..to);
            Some((shorter, true))
        });
    }

    fn zero_spans(&mut self, lane: Lane) {
        self.spans(lane, |bytes, from, to| {
            if bytes[from..to].iter().all(|&byte| byte == 0) {
                return None;
            }
            let mut tamer = bytes.to_vec();
            tamer[from..to].fill(0);
            Some((tamer, false))
        });
    }

    /// Offers what `change` makes of every span, the long ones first. `change` also says whether the
    /// span is gone, so that another one stands in its place.
    fn spans(
        &mut self,
        lane: Lane,
        change: impl Fn(&[u8], usize, usize) -> Option<(Vec<u8>, bool)>,
    ) {
        let mut size = self.bytes(lane).len().next_power_of_two();
        while size > 0 {
            let mut from = 0;
            loop {
                let bytes = self.bytes(lane);
                if from >= bytes.len() || self.budget == 0 {
                    break;
                }
                let to = (from + size).min(bytes.len());
                let stays = match change(&bytes, from, to) {
                    Some((changed, gone)) => !self.offer(lane, changed) || !gone,
                    None => true,
                };
                from = if stays { to } else { from };
            }
            size /= 2;
        }
    }

    fn lower(&mut self, lane: Lane) {
        for at in 0..self.bytes(lane).len() {
            let mut least = 0;
            // Zero was tried before. From here on it is a search between what was refused and the best.
            loop {
                let mut bytes = self.bytes(lane);
                let Some(&now) = bytes.get(at).filter(|&&byte| byte > least + 1) else { break };
                let middle = least + (now - least) / 2;
                bytes[at] = middle;
                if !self.offer(lane, bytes) {
                    least = middle;
                }
                if self.budget == 0 {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64) -> Tape {
        let mut tape = Tape::from_seed(seed);
        for lane in Lane::ALL {
            for _ in 0..if cfg!(miri) { 12 } else { 100 } {
                tape.choose(lane, 256);
            }
        }
        tape.recorded()
    }

    #[test]
    fn only_what_the_fault_needs_is_left() {
        // The fault: some byte of `cancel` from 40 on, and after it another one from 7 on.
        let fails = |tape: &Tape| {
            let bytes = tape.lane(Lane::Cancel);
            let first = bytes.iter().position(|&byte| byte >= 40);
            first.is_some_and(|at| bytes[at + 1..].iter().any(|&byte| byte >= 7))
        };
        let small = shrink(&drawn(3), fails, 2000);
        assert_eq!(small.to_string(), "cancel:2807");
    }

    #[test]
    fn what_always_fails_shrinks_to_the_tame_tape() {
        assert_eq!(shrink(&drawn(4), |_| true, 100), Tape::tame());
    }

    #[test]
    fn the_budget_is_kept() {
        let mut asked = 0;
        let tape = drawn(5);
        let small = shrink(
            &tape,
            |_| {
                asked += 1;
                false
            },
            17,
        );
        assert_eq!((small, asked), (tape, 17));
    }
}
