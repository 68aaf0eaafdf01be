//! Channels.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::sync::{ChannelStatistics, Receiver, Sender, TryRecvError, TrySendError, channel};

use super::ends::{Hand, TwoEnded};
use super::judge::Judge;
use super::line::{Line, Outcome, Twin};
use super::task::{Family, Order};

pub(super) struct Pipe {
    judge: Rc<Judge>,
    /// Until every task has ends of its own.
    first: RefCell<Option<(Sender<Item>, Receiver<Item>)>>,
    twin: RefCell<Values>,
    alive: Rc<Cell<usize>>,
}

/// A value, which is counted as long as it is anywhere.
pub(super) struct Item {
    number: u32,
    alive: Rc<Cell<usize>>,
}

impl Item {
    fn new(number: u32, alive: &Rc<Cell<usize>>) -> Item {
        alive.set(alive.get() + 1);
        Item { number, alive: Rc::clone(alive) }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Ask {
    Send(u32),
    Receive,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Got {
    Sent,
    CameBack(u32),
    Value(u32),
    End,
}

/// The channel as the rules describe it.
struct Values {
    capacity: usize,
    queue: VecDeque<u32>,
    /// Everything that was ever sent, in order.
    sent: Vec<u32>,
    peak: usize,
    senders: usize,
    receivers: usize,
    line: Line<Ask, Got>,
}

impl Values {
    /// Rule J1: to a receiver that waits, else into the queue, unless others wait for room.
    fn give(&mut self, number: u32) -> Option<Got> {
        if self.receivers == 0 {
            return Some(Got::CameBack(number));
        }
        if let Some(receiver) = self.line.waiting().find(|waiter| waiter.ask == Ask::Receive) {
            receiver.hand(Got::Value(number));
            self.sent.push(number);
            return Some(Got::Sent);
        }
        let others_wait = self.line.waiting().any(|waiter| waiter.ask != Ask::Receive);
        if self.queue.len() >= self.capacity || others_wait {
            return None;
        }
        self.push(number);
        Some(Got::Sent)
    }

    fn push(&mut self, number: u32) {
        self.sent.push(number);
        self.queue.push_back(number);
        self.peak = self.peak.max(self.queue.len());
    }

    /// Whoever has waited longest to send has sent.
    fn take_from_sender(&mut self) -> Option<u32> {
        self.line.waiting().find_map(|waiter| match waiter.ask {
            Ask::Send(number) => {
                waiter.hand(Got::Sent);
                Some(number)
            }
            Ask::Receive => None,
        })
    }

    /// Rules J1, J3.
    fn take(&mut self) -> Option<Got> {
        if let Some(first) = self.queue.pop_front() {
            if self.queue.len() < self.capacity {
                let number = self.take_from_sender();
                number.into_iter().for_each(|number| self.push(number));
            }
            return Some(Got::Value(first));
        }
        if let Some(number) = self.take_from_sender() {
            self.sent.push(number);
            return Some(Got::Value(number));
        }
        (self.senders == 0).then_some(Got::End)
    }

    /// Rule J3: those who wait are told of the end.
    fn sender_has_gone(&mut self) {
        self.line.refresh();
        self.senders -= 1;
        if self.senders == 0 {
            let receivers = self.line.waiting().filter(|waiter| waiter.ask == Ask::Receive);
            receivers.for_each(|waiter| waiter.hand(Got::End));
        }
    }

    /// Rule J4: those who wait have their values back.
    fn receiver_has_gone(&mut self) {
        self.line.refresh();
        self.receivers -= 1;
        if self.receivers == 0 {
            self.queue.clear();
            for waiter in self.line.waiting() {
                if let Ask::Send(number) = waiter.ask {
                    waiter.hand(Got::CameBack(number));
                }
            }
        }
    }

    /// Items that are in the channel or with somebody who waits.
    fn alive(&self) -> usize {
        let with_senders = self.line.unserved().filter(|ask| **ask != Ask::Receive).count();
        let holds = |got: &&Got| matches!(got, Got::Value(_) | Got::CameBack(_));
        self.queue.len() + with_senders + self.line.handed().filter(holds).count()
    }
}

impl Twin for Values {
    type Ask = Ask;
    type Got = Got;

    fn line(&mut self) -> &mut Line<Ask, Got> {
        &mut self.line
    }

    fn grant(&mut self, ask: &Ask) -> Option<Got> {
        match ask {
            Ask::Send(number) => self.give(*number),
            Ask::Receive => self.take(),
        }
    }

    /// Rule J2: to the next one, else back to its place in the order.
    fn reclaim(&mut self, got: Got) {
        let Got::Value(number) = got else { return };
        match self.line.waiting().find(|waiter| waiter.ask == Ask::Receive) {
            Some(next) => next.hand(got),
            None => {
                let order = |wanted| self.sent.iter().position(|&number| number == wanted);
                let is_later = |&other: &u32| order(other) > order(number);
                let place = self.queue.iter().position(is_later);
                self.queue.insert(place.unwrap_or(self.queue.len()), number);
            }
        }
    }
}

impl TwoEnded for Pipe {
    type Sender = Sender<Item>;
    type Receiver = Receiver<Item>;

    fn judge(&self) -> &Judge {
        &self.judge
    }

    fn compare(&self, senders: &[Sender<Item>], receivers: &[Receiver<Item>]) {
        let sender = senders.first().map(Sender::statistics);
        let statistics = sender.or_else(|| receivers.first().map(Receiver::statistics));
        statistics.into_iter().for_each(|statistics| self.compare_with(statistics));
    }

    fn sender_has_gone(&self) {
        self.twin.borrow_mut().sender_has_gone();
    }

    fn receiver_has_gone(&self) {
        self.twin.borrow_mut().receiver_has_gone();
    }
}

impl Pipe {
    fn compare_with(&self, statistics: ChannelStatistics) {
        let ChannelStatistics { len, peak, senders, receivers, .. } = statistics;
        let twin = self.twin.borrow();
        let expected = (twin.queue.len(), twin.peak, twin.senders, twin.receivers);
        self.judge.check((len, peak, senders, receivers) == expected, || {
            format!("J1: it is {statistics:?}, not {expected:?}")
        });
        let (sending, receiving) = (statistics.waiting_to_send, statistics.waiting_to_receive);
        let expected = twin.line.count(|ask| *ask != Ask::Receive);
        self.judge.check(expected.contains(&sending), || {
            format!("J8: {sending} wait to send, not {expected:?}")
        });
        let expected = twin.line.count(|ask| *ask == Ask::Receive);
        self.judge.check(expected.contains(&receiving), || {
            format!("J8: {receiving} wait to receive, not {expected:?}")
        });
        let (alive, expected) = (self.alive.get(), twin.alive());
        self.judge
            .check(alive == expected, || format!("J2: there are {alive} values, not {expected}"));
    }

    async fn send(&self, sender: &Sender<Item>, order: &Order<'_>) -> Result {
        let number = self.judge.number();
        let send = async move {
            match sender.send(Item::new(number, &self.alive)).await {
                Ok(()) => Outcome::Got(Got::Sent, ()),
                Err(refused) => {
                    let back = refused.request.number;
                    self.judge.check(back == number, || {
                        format!("J2: {back} comes back to who has sent {number}")
                    });
                    match refused.error {
                        Error::Closed(_) => Outcome::Got(Got::CameBack(back), ()),
                        error => Outcome::Failed(error),
                    }
                }
            }
        };
        let compare = || self.compare_with(sender.statistics());
        order.wait(&self.twin, Ask::Send(number), send, compare).await.map(drop)
    }

    async fn receive(&self, receiver: &Receiver<Item>, order: &Order<'_>) -> Result {
        let name = |item: &Option<Item>| match item {
            Some(item) => Got::Value(item.number),
            None => Got::End,
        };
        let receive = async {
            // What has come is dropped at once, so that all that is alive is in the channel.
            match Outcome::of(receiver.recv().await, name) {
                Outcome::Got(got, _) => Outcome::Got(got, ()),
                Outcome::Failed(error) => Outcome::Failed(error),
            }
        };
        let compare = || self.compare_with(receiver.statistics());
        order.wait(&self.twin, Ask::Receive, receive, compare).await.map(drop)
    }

    fn try_send(&self, sender: &Sender<Item>) {
        let number = self.judge.number();
        let (sent, back) = match sender.try_send(Item::new(number, &self.alive)) {
            Ok(()) => (Some(Got::Sent), number),
            Err(TrySendError::Closed(item)) => (Some(Got::CameBack(item.number)), item.number),
            Err(TrySendError::Full(item)) => (None, item.number),
        };
        let expected = self.twin.borrow_mut().give(number);
        self.judge.check(sent == expected && back == number, || {
            format!("J7: {number} was sent: {sent:?}, not {expected:?}")
        });
    }

    fn try_receive(&self, receiver: &Receiver<Item>) {
        let received = match receiver.try_recv() {
            Ok(item) => Some(Got::Value(item.number)),
            Err(TryRecvError::Closed) => Some(Got::End),
            Err(TryRecvError::Empty) => None,
        };
        let expected = self.twin.borrow_mut().take();
        self.judge.check(received == expected, || {
            format!("J7: received was {received:?}, not {expected:?}")
        });
    }
}

impl Family for Pipe {
    type Hand<'a> = Hand<'a, Pipe>;

    fn new(judge: &Rc<Judge>, shape: u8) -> Self {
        let capacity = usize::from(shape % 4);
        let twin = Values {
            capacity,
            queue: VecDeque::new(),
            sent: Vec::new(),
            peak: 0,
            senders: 1,
            receivers: 1,
            line: Line::new(),
        };
        Pipe {
            judge: Rc::clone(judge),
            first: RefCell::new(Some(channel(capacity))),
            twin: RefCell::new(twin),
            alive: Rc::default(),
        }
    }

    fn hand(&self) -> Hand<'_, Pipe> {
        let ends = self.first.borrow().clone();
        let mut twin = self.twin.borrow_mut();
        (twin.senders, twin.receivers) = (twin.senders + 1, twin.receivers + 1);
        let mut hand = Hand::new(self);
        (hand.senders, hand.receivers) = ends.into_iter().unzip();
        hand
    }

    fn begin(&self) {
        drop(self.first.take());
        let mut twin = self.twin.borrow_mut();
        twin.sender_has_gone();
        twin.receiver_has_gone();
    }

    async fn act<'a>(&'a self, hand: &mut Hand<'a, Pipe>, order: &Order<'a>) -> Result {
        match (order.act % 14, hand.senders.first(), hand.receivers.first()) {
            (0..=2, Some(sender), _) => self.send(sender, order).await?,
            (3..=5, _, Some(receiver)) => self.receive(receiver, order).await?,
            (6 | 7, Some(sender), _) => self.try_send(sender),
            (8 | 9, _, Some(receiver)) => self.try_receive(receiver),
            (10, Some(sender), _) if hand.senders.len() < 3 => {
                let more = sender.clone();
                self.twin.borrow_mut().senders += 1;
                hand.senders.push(more);
            }
            (11, _, Some(receiver)) if hand.receivers.len() < 3 => {
                let more = receiver.clone();
                self.twin.borrow_mut().receivers += 1;
                hand.receivers.push(more);
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
        let alive = self.alive.get();
        self.judge.check(alive == 0, || format!("J2: {alive} values are left"));
        self.judge.check(self.twin.borrow().line.is_empty(), || "J8: somebody waits".to_owned());
    }
}
