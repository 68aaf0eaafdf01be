//! Who may stop whom: the tree of scopes, what waits in it, and the deadlines.
//!
//! Plain data. Nothing here runs anybody's code: what has to be woken or asked to end is put on a
//! [`Sweep`], which `exec` carries out. So the tree is never seen half-cancelled (rule B5).

mod deadlines;
mod sweep;
mod tree;

pub(crate) use deadlines::{Deadlines, Due, Timer};
pub(crate) use sweep::Sweep;
pub(crate) use tree::{Closed, Label, Node, Outcome, Subject, Tree, Wait, What, Whom};
