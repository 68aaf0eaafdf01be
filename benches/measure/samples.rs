//! One number per round, and what to say about several.

/// What one side measured, in the order of the rounds.
#[derive(Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn median(&self) -> f64 {
        median(self.0.clone())
    }

    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// The median of the ratios round by round, not the ratio of the medians: the sides of one round
/// ran next to each other, so that what slows the machine down for a while slows both.
pub fn ratio(one: &Samples, other: &Samples) -> f64 {
    median(one.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
