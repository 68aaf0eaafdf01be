//! A value that is sent once.

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::sync::{OneshotReceiver, OneshotSender, oneshot};

use super::judge::Judge;
use super::line::{Line, Outcome, Twin};
use super::task::{Family, Order};

pub(super) struct Shot {
    judge: Rc<Judge>,
    /// Tasks that wait at an end keep it.
    sender: RefCell<Option<Rc<Sender>>>,
    receiver: RefCell<Option<Rc<Receiver>>>,
    twin: Rc<RefCell<Once>>,
    alive: Rc<Cell<usize>>,
}

/// The sender, of which the twin is told when it goes.
struct Sender {
    end: Option<OneshotSender<Item>>,
    twin: Rc<RefCell<Once>>,
}

struct Receiver {
    end: Option<OneshotReceiver<Item>>,
    twin: Rc<RefCell<Once>>,
}

struct Item(Rc<Cell<usize>>);

impl Drop for Item {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            drop(end);
            self.twin.borrow_mut().sender_has_gone();
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.end.take());
        self.twin.borrow_mut().receiver_has_gone();
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Ask {
    Value,
    /// That the receiver goes.
    Closed,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Got {
    Value,
    Nothing,
    Closed,
}

struct Once {
    has_value: bool,
    may_come: bool,
    is_wanted: bool,
    line: Line<Ask, Got>,
}

impl Once {
    /// Says whether somebody may get it.
    fn send(&mut self) -> bool {
        self.line.refresh();
        if !self.is_wanted {
            return false;
        }
        self.may_come = false;
        self.reclaim(Got::Value);
        true
    }

    fn sender_has_gone(&mut self) {
        self.line.refresh();
        if mem::take(&mut self.may_come) {
            self.tell(Ask::Value, Got::Nothing);
        }
    }

    fn receiver_has_gone(&mut self) {
        self.line.refresh();
        (self.is_wanted, self.has_value) = (false, false);
        self.tell(Ask::Closed, Got::Closed);
    }

    fn tell(&mut self, whom: Ask, what: Got) {
        let all = self.line.waiting().filter(|waiter| waiter.ask == whom);
        all.for_each(|waiter| waiter.hand(what));
    }
}

impl Twin for Once {
    type Ask = Ask;
    type Got = Got;

    fn line(&mut self) -> &mut Line<Ask, Got> {
        &mut self.line
    }

    fn grant(&mut self, ask: &Ask) -> Option<Got> {
        match ask {
            Ask::Value if mem::take(&mut self.has_value) => Some(Got::Value),
            Ask::Value => (!self.may_come).then_some(Got::Nothing),
            Ask::Closed => (!self.is_wanted).then_some(Got::Closed),
        }
    }

    /// Rule J2.
    fn reclaim(&mut self, got: Got) {
        if got != Got::Value {
            return;
        }
        match self.line.waiting().find(|waiter| waiter.ask == Ask::Value) {
            Some(next) => next.hand(Got::Value),
            None => self.has_value = true,
        }
    }

    /// For all others who wait nothing is left.
    fn told(&mut self, got: &Got) {
        if *got != Got::Closed {
            self.tell(Ask::Value, Got::Nothing);
        }
    }
}

impl Shot {
    // Who waits keeps the end at which it waits, and only that one.

    async fn receive(&self, order: &Order<'_>) -> Result {
        let kept = self.receiver.borrow().clone();
        let Some(end) = kept.as_ref().and_then(|kept| kept.end.as_ref()) else { return Ok(()) };
        let receive = async {
            match end.recv().await {
                Ok(_item) => Outcome::Got(Got::Value, ()),
                Err(Error::Closed(_)) => Outcome::Got(Got::Nothing, ()),
                Err(error) => Outcome::Failed(error),
            }
        };
        order.wait(&self.twin, Ask::Value, receive, || self.compare()).await.map(drop)
    }

    async fn closed(&self, order: &Order<'_>) -> Result {
        let kept = self.sender.borrow().clone();
        let Some(end) = kept.as_ref().and_then(|kept| kept.end.as_ref()) else { return Ok(()) };
        let closed = async { Outcome::of(end.closed().await, |()| Got::Closed) };
        order.wait(&self.twin, Ask::Closed, closed, || self.compare()).await.map(drop)
    }

    fn try_receive(&self) {
        let kept = self.receiver.borrow().clone();
        let Some(end) = kept.as_ref().and_then(|kept| kept.end.as_ref()) else { return };
        let received = match end.try_recv() {
            Ok(_item) => Some(Got::Value),
            Err(Error::Closed(_)) => Some(Got::Nothing),
            Err(_) => None,
        };
        let expected = self.twin.borrow_mut().grant(&Ask::Value);
        self.judge.check(received == expected, || {
            format!("J7: received was {received:?}, not {expected:?}")
        });
    }

    /// If nobody waits with it for the receiver to go.
    fn send(&self) {
        let Some(sender) = self.sender.take() else { return };
        let mut sender = match Rc::try_unwrap(sender) {
            Ok(sender) => sender,
            Err(kept) => return *self.sender.borrow_mut() = Some(kept),
        };
        let Some(end) = sender.end.take() else { return };
        self.alive.set(self.alive.get() + 1);
        let is_sent = end.send(Item(Rc::clone(&self.alive))).is_ok();
        let expected = self.twin.borrow_mut().send();
        self.judge.check(is_sent == expected, || format!("J4: it is sent: {is_sent}"));
    }

    /// Another pair, unless tasks still wait at an end of this one.
    fn renew(&self) {
        drop((self.sender.take(), self.receiver.take()));
        if Rc::strong_count(&self.twin) > 1 {
            return;
        }
        let twin = Once { has_value: false, may_come: true, is_wanted: true, line: Line::new() };
        *self.twin.borrow_mut() = twin;
        let (sender, receiver) = oneshot();
        let sender = Sender { end: Some(sender), twin: Rc::clone(&self.twin) };
        let receiver = Receiver { end: Some(receiver), twin: Rc::clone(&self.twin) };
        *self.sender.borrow_mut() = Some(Rc::new(sender));
        *self.receiver.borrow_mut() = Some(Rc::new(receiver));
    }

    fn compare(&self) {
        let twin = self.twin.borrow();
        let handed = twin.line.handed().filter(|got| **got == Got::Value).count();
        let (alive, expected) = (self.alive.get(), usize::from(twin.has_value) + handed);
        self.judge
            .check(alive == expected, || format!("J2: there are {alive} values, not {expected}"));
    }
}

impl Family for Shot {
    type Hand<'a> = ();

    fn new(judge: &Rc<Judge>, _: u8) -> Self {
        let twin = Once { has_value: false, may_come: true, is_wanted: true, line: Line::new() };
        let shot = Shot {
            judge: Rc::clone(judge),
            sender: RefCell::default(),
            receiver: RefCell::default(),
            twin: Rc::new(RefCell::new(twin)),
            alive: Rc::default(),
        };
        shot.renew();
        shot
    }

    fn hand(&self) {}

    async fn act<'a>(&'a self, (): &mut (), order: &Order<'a>) -> Result {
        let has_sent = self.sender.borrow().is_none();
        match order.act % 16 {
            0..=6 => self.receive(order).await?,
            7 => self.try_receive(),
            8..=9 => self.closed(order).await?,
            15 => self.renew(),
            10.. if has_sent => self.renew(),
            10..=12 => self.send(),
            // Each ends the best part, so they are rare.
            13 if order.argument % 4 == 0 => drop(self.sender.take()),
            14 if order.argument % 4 == 0 => drop(self.receiver.take()),
            _ => {}
        }
        self.compare();
        Ok(())
    }

    fn refresh(&self) {
        self.twin.borrow_mut().line.refresh();
    }

    fn end(&self) {
        drop((self.sender.take(), self.receiver.take()));
        self.compare();
        let alive = self.alive.get();
        self.judge.check(alive == 0, || format!("J2: {alive} values are left"));
        self.judge.check(self.twin.borrow().line.is_empty(), || "J8: somebody waits".to_owned());
    }
}
