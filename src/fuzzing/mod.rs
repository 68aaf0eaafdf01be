//! Generated programs beside a naive model of the rules, and what fuzzers call.
//!
//! A `Program` is data, made up from bytes: scopes, nurseries and operations
//! inside one another, cancelled, dropped, forgotten and moved. It is run with trine, and
//! everything that happens is told to a `Model`, which knows the rules and
//! decides nothing by what the crate does. Where they disagree, one of them is wrong.
//!
//! Nothing here is stable: it is public for fuzz targets and tests.

mod adapters;
mod buffers;
mod canary;
mod children;
mod counted;
mod datagrams;
mod ends;
mod exhaustive;
mod family;
mod fates;
mod generate;
mod interpret;
mod links;
mod losses;
mod machine;
mod model;
mod objects;
mod op_state;
mod paper;
mod program;
mod real;
mod speed;
mod timers;
mod tools;
mod trial;
mod watched;

pub use buffers::buffers;
pub use canary::{Found, canaries, canary, check_planted};
pub use exhaustive::small_worlds;
pub use fates::{
    Fate, Fates, impossible, known, only_on_linux, real_fates, simulated_fates, wild_fates,
};
pub use op_state::op_state;
pub use real::{Differential, cancel_real, differential};
pub use speed::speed;
pub use timers::timers;
pub use tools::{Marks, tools, tools_from_seeds};
pub use trial::{Figures, cancel_tree, check_seeds, check_tape, show, show_seed};
