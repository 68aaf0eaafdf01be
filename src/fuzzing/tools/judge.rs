//! Who remembers the first rule that was broken, and what has happened.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Nothing in a program panics for a broken rule: that would unwind through what others wait for.
pub(super) struct Judge {
    failed: RefCell<Option<String>>,
    /// What has happened, if somebody wants to know.
    story: Option<RefCell<Vec<String>>>,
    marks: RefCell<Marks>,
    numbers: Cell<u32>,
}

/// What has happened, and how often: to see that programs get where they should.
#[derive(Default, Debug)]
pub struct Marks(BTreeMap<&'static str, u64>);

impl Marks {
    pub(super) fn add(&mut self, other: Marks) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// How often that was.
    pub fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}

impl Judge {
    pub(super) fn silent() -> Judge {
        Judge {
            failed: RefCell::default(),
            story: None,
            marks: RefCell::default(),
            numbers: Cell::new(0),
        }
    }

    pub(super) fn telling() -> Judge {
        Judge { story: Some(RefCell::default()), ..Judge::silent() }
    }

    /// After the first broken rule the twins mean nothing any more.
    pub(super) fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if holds || self.failed.borrow().is_some() {
            return;
        }
        let what = what();
        self.tell(|| format!("BROKEN: {what}"));
        *self.failed.borrow_mut() = Some(what);
    }

    /// The program came to no good end: what else was found may be the consequence of that.
    pub(super) fn breaks_off(&self, error: String) {
        let besides = self.failed.take().map(|what| format!("; besides: {what}"));
        *self.failed.borrow_mut() = Some(error + &besides.unwrap_or_default());
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if let Some(story) = &self.story {
            story.borrow_mut().push(what());
        }
    }

    pub(super) fn mark(&self, what: &'static str) {
        *self.marks.borrow_mut().0.entry(what).or_default() += 1;
    }

    /// One that nobody else has.
    pub(super) fn number(&self) -> u32 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    pub(super) fn failed(&self) -> Option<String> {
        self.failed.borrow().clone()
    }

    pub(super) fn marks(&self) -> Marks {
        self.marks.take()
    }

    pub(super) fn story(&self) -> String {
        let lines = self.story.iter().flat_map(|story| story.borrow().clone());
        lines.map(|line| line + "\n").collect()
    }
}
