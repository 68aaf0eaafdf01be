//! What so many may have at a time, whatever it is.

use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::rc::Rc;

use crate::error::{Error, Result};

use super::judge::Judge;
use super::line::{Line, Outcome, Twin};
use super::task::{Family, Order};

/// A tool, and what it takes to be compared with its twin.
pub(super) trait Tool: Sized {
    type Need: Copy + Debug;
    type Held<'a>
    where
        Self: 'a;
    type Stock: Stock<Self::Need>;

    fn new(size: usize) -> (Self, Self::Stock);
    fn need(argument: u8) -> Self::Need;
    async fn take(&self, need: Self::Need) -> Result<Self::Held<'_>>;
    fn try_take(&self, need: Self::Need) -> Result<Self::Held<'_>>;

    /// Changes what there is; says whether that serves those who wait.
    fn change(&self, _stock: &mut Self::Stock, _argument: u8) -> bool {
        false
    }

    /// What is there, as the twin says it, and how many wait.
    fn look(&self) -> (Inside, usize);
}

/// Two numbers that say what is there, or who has it.
pub(super) type Inside = (usize, usize);

/// What is there, in the twin.
pub(super) trait Stock<Need> {
    /// Takes it if it is there.
    fn admit(&mut self, need: Need) -> bool;

    /// Says whether there is more now. If a rule is broken, perhaps nobody had it.
    fn give_back(&mut self, need: Need) -> bool;
    fn inside(&self) -> Inside;

    /// Whether nobody has anything.
    fn is_full(&self) -> bool;
}

pub(super) struct Counted<T: Tool> {
    judge: Rc<Judge>,
    tool: T,
    twin: RefCell<Counts<T::Need, T::Stock>>,
}

pub(super) struct Counts<Need, S> {
    stock: S,
    line: Line<Need, Grant<Need>>,
}

/// What was granted is what was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant<Need>(pub(super) Need);

impl<Need> PartialEq for Grant<Need> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<Need: Copy + Debug, S: Stock<Need>> Counts<Need, S> {
    pub(super) fn new(stock: S) -> Self {
        Counts { stock, line: Line::new() }
    }

    /// Rule J7: from the front, as far as it reaches.
    pub(super) fn serve(&mut self) {
        for waiter in self.line.waiting() {
            if !self.stock.admit(waiter.ask) {
                break;
            }
            waiter.hand(Grant(waiter.ask));
        }
    }

    /// What is there or who has it, and how many wait.
    pub(super) fn summary(&self) -> (Inside, RangeInclusive<usize>) {
        (self.stock.inside(), self.line.count(|_| true))
    }

    pub(super) fn give_back(&mut self, need: Need) {
        self.line.refresh();
        if self.stock.give_back(need) {
            self.serve();
        }
    }
}

impl<Need: Copy + Debug, S: Stock<Need>> Twin for Counts<Need, S> {
    type Ask = Need;
    type Got = Grant<Need>;

    fn line(&mut self) -> &mut Line<Need, Grant<Need>> {
        &mut self.line
    }

    /// Rule J7: nobody gets past those who wait.
    fn grant(&mut self, need: &Need) -> Option<Grant<Need>> {
        let is_first = self.line.waiting().next().is_none();
        (is_first && self.stock.admit(*need)).then_some(Grant(*need))
    }

    fn reclaim(&mut self, Grant(need): Grant<Need>) {
        self.stock.give_back(need);
        self.serve();
    }

    fn left(&mut self) {
        self.serve();
    }
}

impl<T: Tool> Counted<T> {
    fn compare(&self) {
        let (inside, waiting) = self.tool.look();
        let (expected, waits) = self.twin.borrow().summary();
        self.judge.check(inside == expected, || format!("J7: it is {inside:?}, not {expected:?}"));
        self.judge.check(waits.contains(&waiting), || format!("J8: {waiting} wait, not {waits:?}"));
    }

    fn release(&self, held: Held<T::Held<'_>, T::Need>) {
        self.judge.tell(|| format!("  gives back {:?}", held.need));
        drop(held.held);
        self.twin.borrow_mut().give_back(held.need);
        self.compare();
    }
}

pub(super) struct Held<H, Need> {
    held: H,
    need: Need,
}

/// What a task has, and gives back at its end.
pub(super) struct Hand<'a, T: Tool> {
    counted: &'a Counted<T>,
    held: Vec<Held<T::Held<'a>, T::Need>>,
}

impl<T: Tool> Drop for Hand<'_, T> {
    fn drop(&mut self) {
        for held in self.held.drain(..) {
            self.counted.release(held);
        }
    }
}

impl<T: Tool> Family for Counted<T> {
    type Hand<'a>
        = Hand<'a, T>
    where
        T: 'a;

    fn new(judge: &Rc<Judge>, shape: u8) -> Self {
        let (tool, stock) = T::new(usize::from(shape % 5));
        Counted { judge: Rc::clone(judge), tool, twin: RefCell::new(Counts::new(stock)) }
    }

    fn hand(&self) -> Hand<'_, T> {
        Hand { counted: self, held: Vec::new() }
    }

    async fn act<'a>(&'a self, hand: &mut Hand<'a, T>, order: &Order<'a>) -> Result {
        let need = T::need(order.argument);
        match order.act % 8 {
            0..=3 => {
                let take = async { Outcome::of(self.tool.take(need).await, |_| Grant(need)) };
                let taken = order.wait(&self.twin, need, take, || self.compare()).await?;
                hand.held.extend(taken.map(|held| Held { held, need }));
            }
            4 => {
                let expected = self.twin.borrow_mut().grant(&need).is_some();
                let taken = self.tool.try_take(need);
                let is_right = match &taken {
                    Ok(_) => expected,
                    Err(error) => matches!(error, Error::WouldBlock) && !expected,
                };
                self.judge.check(is_right, || format!("J7: it could be had: {expected}"));
                hand.held.extend(taken.ok().map(|held| Held { held, need }));
            }
            5 | 6 if !hand.held.is_empty() => {
                let place = order.choose(hand.held.len());
                self.release(hand.held.swap_remove(place));
            }
            7 => {
                let mut twin = self.twin.borrow_mut();
                if self.tool.change(&mut twin.stock, order.argument) {
                    twin.serve();
                }
            }
            _ => {}
        }
        self.compare();
        Ok(())
    }

    fn refresh(&self) {
        self.twin.borrow_mut().line.refresh();
    }

    fn end(&self) {
        self.compare();
        self.judge.check(self.twin.borrow().line.is_empty(), || "J8: somebody waits".to_owned());
        // What has to be there was compared; this says that nobody has anything.
        self.judge.check(self.twin.borrow().stock.is_full(), || "J2: something is lost".to_owned());
    }
}
