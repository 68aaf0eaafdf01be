//! Events and barriers.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::Result;
use crate::sync::{Barrier, Event};

use super::judge::Judge;
use super::line::{Line, Outcome, Twin};
use super::task::{Family, Order};

/// One of each.
pub(super) struct Meeting {
    judge: Rc<Judge>,
    event: Event,
    happened: RefCell<Happened>,
    barrier: Barrier,
    round: RefCell<Round>,
}

struct Happened {
    is_set: bool,
    line: Line<(), ()>,
}

/// Rule J10.
impl Twin for Happened {
    type Ask = ();
    type Got = ();

    fn line(&mut self) -> &mut Line<(), ()> {
        &mut self.line
    }

    fn grant(&mut self, (): &()) -> Option<()> {
        self.is_set.then_some(())
    }
}

struct Round {
    size: usize,
    line: Line<(), bool>,
    /// How many were let through, and how many of them were told that they are the last.
    through: usize,
    leaders: usize,
}

impl Twin for Round {
    type Ask = ();
    type Got = bool;

    fn line(&mut self) -> &mut Line<(), bool> {
        &mut self.line
    }

    /// The last one lets all in.
    fn grant(&mut self, (): &()) -> Option<bool> {
        let others = self.line.waiting().count();
        if others + 1 < self.size {
            return None;
        }
        self.line.waiting().for_each(|waiter| waiter.hand(false));
        (self.through, self.leaders) = (self.through + others + 1, self.leaders + 1);
        Some(true)
    }
}

impl Meeting {
    fn compare(&self) {
        let waiting = self.event.statistics().waiting;
        let expected = self.happened.borrow().line.count(|()| true);
        self.judge.check(expected.contains(&waiting), || {
            format!("J8: {waiting} wait for the event, not {expected:?}")
        });
        let waiting = self.barrier.statistics().waiting;
        let expected = self.round.borrow().line.count(|()| true);
        self.judge.check(expected.contains(&waiting), || {
            format!("J8: {waiting} wait at the barrier, not {expected:?}")
        });
        let Round { size, through, leaders, .. } = *self.round.borrow();
        self.judge.check(through == leaders * size.max(1), || {
            format!("{leaders} were the last of {through} at a barrier for {size}")
        });
    }
}

impl Family for Meeting {
    type Hand<'a> = ();

    fn new(judge: &Rc<Judge>, shape: u8) -> Self {
        let size = [2, 3, 2, 4, 2, 3, 1, 0][usize::from(shape % 8)];
        let line = Line::new();
        Meeting {
            judge: Rc::clone(judge),
            event: Event::new(),
            happened: RefCell::new(Happened { is_set: false, line: Line::new() }),
            barrier: Barrier::new(size),
            round: RefCell::new(Round { size, line, through: 0, leaders: 0 }),
        }
    }

    fn hand(&self) {}

    async fn act<'a>(&'a self, (): &mut (), order: &Order<'a>) -> Result {
        match order.act % 8 {
            0..=2 => {
                let wait = async { Outcome::of(self.event.wait().await, |()| ()) };
                order.wait(&self.happened, (), wait, || self.compare()).await?;
            }
            3 if order.argument % 4 == 0 => {
                self.event.set();
                let mut happened = self.happened.borrow_mut();
                happened.is_set = true;
                happened.line.waiting().for_each(|waiter| waiter.hand(()));
            }
            3 => {
                let is_set = self.happened.borrow().is_set;
                self.judge.check(self.event.is_set() == is_set, || {
                    format!("J10: it has happened: {is_set}")
                });
            }
            _ => {
                let wait = async { Outcome::of(self.barrier.wait().await, |is_last| *is_last) };
                order.wait(&self.round, (), wait, || self.compare()).await?;
            }
        }
        self.compare();
        Ok(())
    }

    fn refresh(&self) {
        self.happened.borrow_mut().line.refresh();
        self.round.borrow_mut().line.refresh();
    }

    fn end(&self) {
        self.compare();
        let is_empty =
            self.happened.borrow().line.is_empty() && self.round.borrow().line.is_empty();
        self.judge.check(is_empty, || "J8: somebody waits".to_owned());
    }
}
