//! How long answers took, as counts in buckets.

/// Buckets that widen with the value: sixty-four to each doubling, so 1.6 % wide at most.
pub struct Latency {
    counts: Vec<u32>,
    total: u64,
}

const STEPS: u64 = 64;

impl Latency {
    pub fn new() -> Latency {
        Latency { counts: vec![0; bucket(u64::MAX) + 1], total: 0 }
    }

    pub fn record(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// What so large a share of the answers did not exceed, in nanoseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share) as u64;
        let mut seen = 0;
        for (at, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen > rank {
                return least(at) as f64;
            }
        }
        f64::NAN
    }
}

fn bucket(value: u64) -> usize {
    let doublings = u64::from(value.max(STEPS).ilog2() - STEPS.ilog2());
    (doublings * STEPS + (value >> doublings)) as usize
}

/// The smallest value of a bucket.
fn least(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let doublings = bucket / STEPS - 1;
    (bucket - doublings * STEPS) << doublings
}
