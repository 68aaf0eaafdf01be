//! What both measuring programs need: taking turns, medians, and the machine.

mod machine;
mod samples;

pub use machine::{Cores, die_with_parent, pin, raise_descriptors, reset_on_close};
pub use samples::{Samples, ratio};
