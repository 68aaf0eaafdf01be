//! The tree of the run as text, so that a shutdown that is stuck explains itself.

use std::fmt::Write;

use crate::cancel::{Node, Outcome, Subject, Wait, What};
use crate::clock::Instant;
use crate::op::Slot;
use crate::slots::Key;

use super::{Core, Run, current_or_none};

/// The run of this thread as a picture: every scope, nursery and child, where it was opened, its
/// deadline and shield, why it is cancelled, and what it waits for.
///
/// ```
/// trine::run(async || {
///     trine::nursery(async |n| {
///         n.spawn(async { trine::time::sleep_forever().await });
///         trine::checkpoint().await?;
///         assert!(trine::tree().contains("child spawned at"));
///         n.cancel();
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn tree() -> String {
    match current_or_none() {
        Some(run) => dump(&run),
        None => "no trine run on this thread\n".to_owned(),
    }
}

pub(super) fn dump(run: &Run) -> String {
    let now = run.now();
    run.look(|core| Dump { core, now, text: String::new() }.of(run.root()))
}

struct Dump<'a> {
    core: &'a Core,
    now: Instant,
    text: String,
}

impl Dump<'_> {
    /// Walks the tree without recursion (rule B4).
    fn of(mut self, root: Key<Node>) -> String {
        let mut open = vec![(root, 0)];
        while let Some((key, depth)) = open.pop() {
            let Some(node) = self.core.tree.get(key) else { continue };
            self.node(node, depth);
            if node.is_paused() {
                let _ =
                    writeln!(self.text, "{:indent$}waits for its turn", "", indent = depth * 2 + 2);
            }
            for wait in self.core.tree.waits_of(key) {
                self.wait(wait, depth + 1);
            }
            // Children are linked newest first, so the oldest ends on top, where it belongs.
            let mut child = node.first_child();
            while let Some(key) = child {
                open.push((key, depth + 1));
                child = self.core.tree.get(key).and_then(Node::next_sibling);
            }
        }
        self.text
    }

    fn node(&mut self, node: &Node, depth: usize) {
        let label = node.label();
        let what = match label.what {
            What::Run => "run",
            What::Scope => "scope",
            What::Idle => "idle",
            What::Nursery => "nursery",
            What::Child => "child spawned",
            What::Daemon => "daemon spawned",
            What::Service => "service spawned",
        };
        let _ = write!(self.text, "{:indent$}{what} at {}", "", label.at, indent = depth * 2);
        if let Some(deadline) = node.deadline {
            if deadline > self.now {
                let left = deadline.saturating_duration_since(self.now);
                let _ = write!(self.text, ", deadline in {left:.1?}");
            } else {
                let late = self.now.saturating_duration_since(deadline);
                let _ = write!(self.text, ", deadline {late:.1?} ago");
            }
        }
        if node.is_shielded() {
            self.text.push_str(", shielded");
        }
        if let Some((reason, at)) = node.cause() {
            let ago = self.now.saturating_duration_since(at);
            let _ = write!(self.text, ", cancelled {ago:.1?} ago: {reason}");
        }
        self.text.push('\n');
    }

    fn wait(&mut self, wait: &Wait, depth: usize) {
        let indent = depth * 2;
        let _ = match (wait.subject(), wait.outcome()) {
            (_, Outcome::Fired | Outcome::Cancelled) => return,
            (Subject::Park, _) => writeln!(self.text, "{:indent$}waits to be woken", ""),
            (Subject::Shielded, _) => writeln!(self.text, "{:indent$}waits for a child to end", ""),
            (Subject::Thread(_), _) if wait.is_orphan() => {
                let text = "waits for a thread (nobody wants its value)";
                writeln!(self.text, "{:indent$}{text}", "")
            }
            (Subject::Thread(_), _) => writeln!(self.text, "{:indent$}waits for a thread", ""),
            (Subject::Operation(key), _) => {
                let slot = Key::from_bits(key).and_then(|key| self.core.table.get(key));
                slot.map_or(Ok(()), |slot| self.operation(slot, wait.is_orphan(), indent))
            }
        };
    }

    fn operation(&mut self, slot: &Slot, orphan: bool, indent: usize) -> std::fmt::Result {
        let kind = slot.kind();
        write!(self.text, "{:indent$}waits for {}", "", kind.name)?;
        if let Some(fd) = slot.fd() {
            write!(self.text, " fd {fd}")?;
        }
        let age = slot.age(self.core.coarse_now());
        write!(self.text, " since {age:.1?}")?;
        if slot.is_asked_to_cancel() {
            self.text.push_str(", asked to cancel");
        }
        if !kind.cancellable {
            self.text.push_str(" (cannot be interrupted)");
        }
        if orphan {
            self.text.push_str(" (nobody wants its result)");
        }
        writeln!(self.text)
    }
}
