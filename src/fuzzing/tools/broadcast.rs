//! Values that everybody hears.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::Result;
use crate::sync::{BroadcastReceiver, BroadcastSender, BroadcastStatistics, Heard, broadcast};

use super::ends::{Hand, TwoEnded};
use super::judge::Judge;
use super::line::{Line, Outcome, Twin};
use super::task::{Family, Order};

pub(super) struct Radio {
    judge: Rc<Judge>,
    /// Until every task has ends of its own.
    first: RefCell<Option<(BroadcastSender<u32>, BroadcastReceiver<u32>)>>,
    twin: RefCell<Log>,
}

/// Everything that was ever sent, of which the last ones are kept.
struct Log {
    capacity: usize,
    sent: Vec<u32>,
    kept: usize,
    senders: usize,
    receivers: usize,
    line: Line<usize, ()>,
}

impl Log {
    /// Says how many get it.
    fn send(&mut self, value: u32) -> usize {
        self.line.refresh();
        if self.receivers > 0 {
            self.sent.push(value);
            self.kept = self.capacity.min(self.kept + 1);
            self.line.waiting().for_each(|waiter| waiter.hand(()));
        }
        self.receivers
    }

    /// What somebody hears next who has heard so many, and how many those are then.
    fn hear(&self, heard: usize) -> (Option<Heard<u32>>, usize) {
        let oldest = self.sent.len() - self.kept;
        match self.sent.get(heard) {
            _ if heard < oldest => (Some(Heard::Missed((oldest - heard) as u64)), oldest),
            Some(value) => (Some(Heard::Value(*value)), heard + 1),
            None => ((self.senders == 0).then_some(Heard::End), heard),
        }
    }

    fn sender_has_gone(&mut self) {
        self.line.refresh();
        self.senders -= 1;
        if self.senders == 0 {
            self.line.waiting().for_each(|waiter| waiter.hand(()));
        }
    }

    fn receiver_has_gone(&mut self) {
        self.receivers -= 1;
        if self.receivers == 0 {
            self.kept = 0;
        }
    }
}

/// One waits for something to be heard, with the number of what was heard before.
impl Twin for Log {
    type Ask = usize;
    type Got = ();

    fn line(&mut self) -> &mut Line<usize, ()> {
        &mut self.line
    }

    fn grant(&mut self, heard: &usize) -> Option<()> {
        self.hear(*heard).0.map(drop)
    }
}

/// A receiver, and how many values it has heard or missed.
pub(super) struct Listener {
    end: BroadcastReceiver<u32>,
    heard: usize,
}

impl TwoEnded for Radio {
    type Sender = BroadcastSender<u32>;
    type Receiver = Listener;

    fn judge(&self) -> &Judge {
        &self.judge
    }

    fn compare(&self, senders: &[BroadcastSender<u32>], listeners: &[Listener]) {
        let sender = senders.first().map(BroadcastSender::statistics);
        let listener = || listeners.first().map(|listener| listener.end.statistics());
        sender.or_else(listener).into_iter().for_each(|statistics| self.compare_with(statistics));
    }

    fn sender_has_gone(&self) {
        self.twin.borrow_mut().sender_has_gone();
    }

    fn receiver_has_gone(&self) {
        self.twin.borrow_mut().receiver_has_gone();
    }
}

impl Radio {
    fn add(&self, hand: &mut Hand<'_, Radio>, end: BroadcastReceiver<u32>, heard: usize) {
        self.twin.borrow_mut().receivers += 1;
        hand.receivers.push(Listener { end, heard });
    }

    fn compare_with(&self, statistics: BroadcastStatistics) {
        let BroadcastStatistics { sent, kept, senders, receivers, waiting, .. } = statistics;
        let twin = self.twin.borrow();
        let expected = (twin.sent.len(), twin.kept, twin.senders, twin.receivers);
        self.judge.check((sent as usize, kept, senders, receivers) == expected, || {
            format!("it is {statistics:?}, not {expected:?}")
        });
        let expected = twin.line.count(|_| true);
        self.judge
            .check(expected.contains(&waiting), || format!("J8: {waiting} wait, not {expected:?}"));
    }

    async fn receive(&self, listener: &mut Listener, order: &Order<'_>) -> Result {
        let Listener { end, heard } = listener;
        let ask = *heard;
        let receive = async {
            let received = end.recv().await;
            if let Ok(is) = &received {
                self.hears(Some(*is), heard);
            }
            Outcome::of(received, |_| ())
        };
        order.wait(&self.twin, ask, receive, || {}).await.map(drop)
    }

    /// Somebody has heard this.
    fn hears(&self, is: Option<Heard<u32>>, heard: &mut usize) {
        let (expected, now) = self.twin.borrow().hear(*heard);
        self.judge.check(is == expected, || {
            format!("after {heard} values {is:?} was heard, not {expected:?}")
        });
        if let Some(Heard::Missed(_)) = is {
            self.judge.mark("missed");
        }
        *heard = now;
    }
}

impl Family for Radio {
    type Hand<'a> = Hand<'a, Radio>;

    fn new(judge: &Rc<Judge>, shape: u8) -> Self {
        let capacity = usize::from(shape % 4);
        let (sent, line) = (Vec::new(), Line::new());
        let capacity_kept = capacity.max(1);
        let twin = Log { capacity: capacity_kept, sent, kept: 0, senders: 1, receivers: 1, line };
        Radio {
            judge: Rc::clone(judge),
            first: RefCell::new(Some(broadcast(capacity))),
            twin: RefCell::new(twin),
        }
    }

    fn hand(&self) -> Hand<'_, Radio> {
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
        twin.receiver_has_gone();
    }

    async fn act<'a>(&'a self, hand: &mut Hand<'a, Radio>, order: &Order<'a>) -> Result {
        let which = order.choose(hand.receivers.len());
        let has_room = hand.receivers.len() < 3;
        match (order.act % 14, hand.senders.first(), hand.receivers.get_mut(which)) {
            (0..=3, _, Some(listener)) => self.receive(listener, order).await?,
            (4, _, Some(Listener { end, heard })) => self.hears(end.try_recv(), heard),
            (5..=7, Some(sender), _) => {
                for _ in 0..=order.argument % 3 {
                    let value = self.judge.number();
                    let (is, expected) = (sender.send(value), self.twin.borrow_mut().send(value));
                    self.judge.check(is == expected, || format!("sent to {is}, not {expected}"));
                }
            }
            (8, Some(sender), _) if hand.senders.len() < 3 => {
                let more = sender.clone();
                self.twin.borrow_mut().senders += 1;
                hand.senders.push(more);
            }
            (9 | 10, Some(sender), _) if has_room => {
                let (more, heard) = (sender.subscribe(), self.twin.borrow().sent.len());
                self.add(hand, more, heard);
            }
            (11, _, Some(listener)) if has_room => {
                let (more, heard) = (listener.end.clone(), listener.heard);
                self.add(hand, more, heard);
            }
            (12, ..) => hand.drop_sender(),
            (13, ..) => hand.drop_receiver(),
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
