//! Values that change, and those who look at them.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::sync::{WatchReceiver, WatchSender, WatchStatistics, watch};

use super::ends::{Hand, TwoEnded};
use super::judge::Judge;
use super::line::{Line, Outcome, Twin};
use super::task::{Family, Order};

pub(super) struct Watch {
    judge: Rc<Judge>,
    /// Until every task has ends of its own.
    first: RefCell<Option<(WatchSender<u8>, WatchReceiver<u8>)>>,
    twin: RefCell<Value>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Ask {
    /// A change since that version.
    Change(u64),
    /// A value with this rest.
    Fit { divisor: u8, rest: u8 },
}

/// With the version, which a receiver does not say.
#[derive(Clone, Copy, Debug)]
enum Got {
    Version(Option<u64>),
    Value(Option<u64>, u8),
    Closed,
}

impl PartialEq for Got {
    fn eq(&self, other: &Got) -> bool {
        match (self, other) {
            (Got::Value(_, one), Got::Value(_, other)) => one == other,
            (Got::Version(_), Got::Version(_)) | (Got::Closed, Got::Closed) => true,
            _ => false,
        }
    }
}

struct Value {
    version: u64,
    value: u8,
    senders: usize,
    receivers: usize,
    /// The version that somebody was told of last.
    told: u64,
    line: Line<Ask, Got>,
}

fn fits(value: u8, divisor: u8, rest: u8) -> bool {
    value % divisor == rest
}

impl Value {
    /// No transition is missed by whoever waits for it.
    fn change(&mut self, value: u8) {
        self.line.refresh();
        (self.version, self.value) = (self.version + 1, value);
        for waiter in self.line.waiting() {
            match waiter.ask {
                Ask::Change(_) => waiter.hand(Got::Version(Some(self.version))),
                Ask::Fit { divisor, rest } if fits(value, divisor, rest) => {
                    waiter.hand(Got::Value(Some(self.version), value));
                }
                Ask::Fit { .. } => {}
            }
        }
    }

    fn sender_has_gone(&mut self) {
        self.line.refresh();
        self.senders -= 1;
        if self.senders == 0 {
            self.line.waiting().for_each(|waiter| waiter.hand(Got::Closed));
        }
    }
}

impl Twin for Value {
    type Ask = Ask;
    type Got = Got;

    fn line(&mut self) -> &mut Line<Ask, Got> {
        &mut self.line
    }

    fn grant(&mut self, ask: &Ask) -> Option<Got> {
        match *ask {
            Ask::Change(seen) if seen != self.version => Some(Got::Version(Some(self.version))),
            Ask::Fit { divisor, rest } if fits(self.value, divisor, rest) => {
                Some(Got::Value(Some(self.version), self.value))
            }
            _ => (self.senders == 0).then_some(Got::Closed),
        }
    }

    fn told(&mut self, got: &Got) {
        if let Got::Version(Some(version)) | Got::Value(Some(version), _) = got {
            self.told = *version;
        }
    }
}

/// A receiver, and the version that it has seen by the rules.
pub(super) struct Seer {
    end: WatchReceiver<u8>,
    seen: u64,
}

impl TwoEnded for Watch {
    type Sender = WatchSender<u8>;
    type Receiver = Seer;

    fn judge(&self) -> &Judge {
        &self.judge
    }

    fn compare(&self, senders: &[WatchSender<u8>], seers: &[Seer]) {
        let sender = senders.first().map(WatchSender::statistics);
        let seer = || seers.first().map(|seer| seer.end.statistics());
        sender.or_else(seer).into_iter().for_each(|statistics| self.compare_with(statistics));
        let version = self.twin.borrow().version;
        for Seer { end, seen } in seers {
            self.judge.check(end.has_changed() == (*seen != version), || {
                format!("what was seen last is {seen} of {version}, or so it should be")
            });
        }
    }

    fn sender_has_gone(&self) {
        self.twin.borrow_mut().sender_has_gone();
    }

    fn receiver_has_gone(&self) {
        self.twin.borrow_mut().receivers -= 1;
    }
}

impl Watch {
    fn add(&self, hand: &mut Hand<'_, Watch>, end: WatchReceiver<u8>, seen: u64) {
        self.twin.borrow_mut().receivers += 1;
        hand.receivers.push(Seer { end, seen });
    }

    fn compare_with(&self, statistics: WatchStatistics) {
        let WatchStatistics { changes, senders, receivers, waiting } = statistics;
        let twin = self.twin.borrow();
        let expected = (twin.version, twin.senders, twin.receivers);
        self.judge.check((changes, senders, receivers) == expected, || {
            format!("it is {statistics:?}, not {expected:?}")
        });
        let expected = twin.line.count(|_| true);
        self.judge
            .check(expected.contains(&waiting), || format!("J8: {waiting} wait, not {expected:?}"));
    }

    /// Waits for any change.
    async fn changed(&self, seer: &mut Seer, order: &Order<'_>) -> Result {
        let end = &mut seer.end;
        let changed = async {
            match end.changed().await {
                Ok(()) => Outcome::Got(Got::Version(None), true),
                Err(Error::Closed(_)) => Outcome::Got(Got::Closed, false),
                Err(error) => Outcome::Failed(error),
            }
        };
        let got = order.wait(&self.twin, Ask::Change(seer.seen), changed, || {}).await?;
        self.sees(seer, got == Some(true));
        Ok(())
    }

    /// Waits for a value that fits.
    async fn fitting(&self, seer: &mut Seer, order: &Order<'_>) -> Result {
        let (divisor, rest) = [(2, 0), (2, 1), (3, 2), (5, 4)][order.choose(4)];
        let end = &mut seer.end;
        let fitting = async {
            match end.wait_for(move |value| fits(*value, divisor, rest)).await {
                Ok(value) => Outcome::Got(Got::Value(None, value), true),
                Err(Error::Closed(_)) => Outcome::Got(Got::Closed, false),
                Err(error) => Outcome::Failed(error),
            }
        };
        let ask = Ask::Fit { divisor, rest };
        let got = order.wait(&self.twin, ask, fitting, || {}).await?;
        self.sees(seer, got == Some(true));
        Ok(())
    }

    /// What the twin was told of last, in this very poll.
    fn sees(&self, seer: &mut Seer, has_seen: bool) {
        if has_seen {
            seer.seen = self.twin.borrow().told;
        }
    }

    fn change(&self, sender: &WatchSender<u8>, value: u8) {
        if value % 2 == 0 {
            sender.send(value);
        } else {
            sender.send_modify(|current| *current = value);
        }
        self.twin.borrow_mut().change(value);
    }

    fn look(&self, seer: &mut Seer, counts: bool) {
        let value = if counts { *seer.end.borrow_and_update() } else { *seer.end.borrow() };
        let twin = self.twin.borrow();
        if counts {
            seer.seen = twin.version;
        }
        self.judge.check(value == twin.value, || format!("it is {value}, not {}", twin.value));
    }
}

impl Family for Watch {
    type Hand<'a> = Hand<'a, Watch>;

    fn new(judge: &Rc<Judge>, shape: u8) -> Self {
        let value = shape % 4;
        let line = Line::new();
        let twin = Value { version: 0, value, senders: 1, receivers: 1, told: 0, line };
        Watch {
            judge: Rc::clone(judge),
            first: RefCell::new(Some(watch(value))),
            twin: RefCell::new(twin),
        }
    }

    fn hand(&self) -> Hand<'_, Watch> {
        let mut hand = Hand::new(self);
        if let Some((sender, receiver)) = &*self.first.borrow() {
            self.twin.borrow_mut().senders += 1;
            hand.senders.push(sender.clone());
            self.add(&mut hand, receiver.clone(), 0);
        }
        hand
    }

    fn begin(&self) {
        drop(self.first.take());
        let mut twin = self.twin.borrow_mut();
        twin.sender_has_gone();
        twin.receivers -= 1;
    }

    async fn act<'a>(&'a self, hand: &mut Hand<'a, Watch>, order: &Order<'a>) -> Result {
        let which = order.choose(hand.receivers.len());
        let has_room = hand.receivers.len() < 3;
        match (order.act % 16, hand.senders.first(), hand.receivers.get_mut(which)) {
            (0..=2, _, Some(seer)) => self.changed(seer, order).await?,
            (3..=5, _, Some(seer)) => self.fitting(seer, order).await?,
            (6..=9, Some(sender), _) => self.change(sender, order.argument % 8),
            (10, _, Some(seer)) => self.look(seer, order.argument % 2 == 0),
            (11, Some(sender), _) if hand.senders.len() < 3 => {
                let more = sender.clone();
                self.twin.borrow_mut().senders += 1;
                hand.senders.push(more);
            }
            (12, Some(sender), _) if has_room => {
                let (more, version) = (sender.subscribe(), self.twin.borrow().version);
                self.add(hand, more, version);
            }
            (13, _, Some(seer)) if has_room => {
                let (more, seen) = (seer.end.clone(), seer.seen);
                self.add(hand, more, seen);
            }
            (14, ..) => hand.drop_sender(),
            (15, ..) => hand.drop_receiver(),
            _ => {}
        }
        hand.compare();
        Ok(())
    }

    fn refresh(&self) {
        self.twin.borrow_mut().line.refresh();
    }

    fn end(&self) {
        self.judge.check(self.twin.borrow().line.is_empty(), || "J8: somebody waits".to_owned());
    }
}
