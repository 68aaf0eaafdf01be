//! `trine::testing` as those who test with it know it, on both kernels where there are two answers.

mod common;

#[path = "testing/attributes.rs"]
mod attributes;
#[path = "testing/checkpoints.rs"]
mod checkpoints;
#[path = "testing/clocks.rs"]
mod clocks;
#[path = "testing/eyeballs.rs"]
mod eyeballs;
#[path = "testing/mutants.rs"]
mod mutants;
#[path = "testing/outside.rs"]
mod outside;
#[path = "testing/plan.rs"]
mod plan;
#[path = "testing/quiet.rs"]
mod quiet;
#[path = "testing/reports.rs"]
mod reports;
#[path = "testing/sequencer.rs"]
mod sequencer;
#[path = "testing/streams.rs"]
mod streams;
#[path = "testing/world.rs"]
mod world;
