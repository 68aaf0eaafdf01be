//! Random programs on a channel beside a naive model of it, compared after every step.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Poll;

use futures::poll;
use trine::sync::{Receiver, Sender, TryRecvError, TrySendError, channel};
use trine::{CancelScope, Error, Result, yield_shielded};

use crate::common::random::Random;

use super::{Item, Pending, Store};
use crate::common::fewer;

const PROGRAMS: u64 = fewer(300, 4);
const STEPS: usize = fewer(200, 60);
/// Waits there are at most.
const WAITS: usize = 7;

/// How a wait ended; a number stands for its item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    Sent,
    CameBack(u32),
    SendCancelled(u32),
    Received(u32),
    End,
    ReceiveCancelled,
}

/// How far a wait is in the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    NotPolled,
    Waiting,
    Handed(Ended),
}

#[derive(Clone, Copy, Debug)]
struct Twin {
    name: u32,
    /// What it sends; `None`: it receives.
    sends: Option<u32>,
    stage: Stage,
    cancelled: bool,
}

/// The channel as the rules describe it.
struct Model {
    capacity: usize,
    queue: VecDeque<u32>,
    /// Everything that was ever sent, in order.
    sent: Vec<u32>,
    peak: usize,
    senders: usize,
    receivers: usize,
    /// In the order in which they were polled first.
    waits: Vec<Twin>,
}

impl Model {
    /// The first one that can be handed something.
    fn first_waiting(&mut self, sends: bool) -> Option<&mut Twin> {
        let can_be = |twin: &&mut Twin| {
            twin.sends.is_some() == sends && twin.stage == Stage::Waiting && !twin.cancelled
        };
        self.waits.iter_mut().find(can_be)
    }

    /// J1: to a receiver that waits, else into the queue, unless others wait for room.
    fn give(&mut self, number: u32) -> Option<Ended> {
        if self.receivers == 0 {
            return Some(Ended::CameBack(number));
        }
        if let Some(receiver) = self.first_waiting(false) {
            receiver.stage = Stage::Handed(Ended::Received(number));
            self.sent.push(number);
            return Some(Ended::Sent);
        }
        if self.queue.len() >= self.capacity || self.first_waiting(true).is_some() {
            return None;
        }
        self.sent.push(number);
        self.push(number);
        Some(Ended::Sent)
    }

    fn push(&mut self, number: u32) {
        self.queue.push_back(number);
        self.peak = self.peak.max(self.queue.len());
    }

    fn take_from_sender(&mut self) -> Option<u32> {
        let sender = self.first_waiting(true)?;
        sender.stage = Stage::Handed(Ended::Sent);
        let number = sender.sends;
        self.sent.extend(number);
        number
    }

    /// J1, J3.
    fn take(&mut self) -> Option<Ended> {
        if let Some(first) = self.queue.pop_front() {
            if self.queue.len() < self.capacity {
                if let Some(number) = self.take_from_sender() {
                    self.push(number);
                }
            }
            return Some(Ended::Received(first));
        }
        match self.take_from_sender() {
            Some(number) => Some(Ended::Received(number)),
            None => (self.senders == 0).then_some(Ended::End),
        }
    }

    /// J3: those who wait are told of the end.
    fn drop_sender(&mut self) {
        self.senders -= 1;
        while self.senders == 0 {
            let Some(receiver) = self.first_waiting(false) else { return };
            receiver.stage = Stage::Handed(Ended::End);
        }
    }

    /// J4: those who wait have their values back.
    fn drop_receiver(&mut self) {
        self.receivers -= 1;
        while self.receivers == 0 {
            self.queue.clear();
            let Some(sender) = self.first_waiting(true) else { return };
            let number = sender.sends.expect("it sends");
            sender.stage = Stage::Handed(Ended::CameBack(number));
        }
    }

    /// The end that a wait owned is gone with it.
    fn drop_end_of(&mut self, gone: Twin) {
        match gone.sends {
            Some(_) => self.drop_sender(),
            None => self.drop_receiver(),
        }
    }

    fn poll(&mut self, name: u32) -> Option<Ended> {
        let at = self.waits.iter().position(|twin| twin.name == name).expect("it is there");
        let twin = self.waits[at];
        let ended = match (twin.stage, twin.cancelled, twin.sends) {
            // C4.
            (Stage::Handed(ended), _, _) => Some(ended),
            // J2.
            (_, true, Some(number)) => Some(Ended::SendCancelled(number)),
            (_, true, None) => Some(Ended::ReceiveCancelled),
            (Stage::Waiting, ..) => None,
            (Stage::NotPolled, false, Some(number)) => self.give(number),
            (Stage::NotPolled, false, None) => self.take(),
        };
        let mut twin = self.waits.remove(at);
        match ended {
            Some(_) => self.drop_end_of(twin),
            None if twin.stage == Stage::Waiting => self.waits.insert(at, twin),
            // From now on it stands in the line.
            None => {
                twin.stage = Stage::Waiting;
                self.waits.push(twin);
            }
        }
        ended
    }

    /// J1, J2: what it was handed goes to the next one, else back to its place in the order.
    fn drop_wait(&mut self, name: u32) {
        let at = self.waits.iter().position(|twin| twin.name == name).expect("it is there");
        let gone = self.waits.remove(at);
        if let Stage::Handed(Ended::Received(number)) = gone.stage {
            match self.first_waiting(false) {
                Some(next) => next.stage = Stage::Handed(Ended::Received(number)),
                None => {
                    let order = |wanted| self.sent.iter().position(|&number| number == wanted);
                    let is_later = |&other: &u32| order(other) > order(number);
                    let place = self.queue.iter().position(is_later);
                    self.queue.insert(place.unwrap_or(self.queue.len()), number);
                }
            }
        }
        self.drop_end_of(gone);
    }

    /// Items that are somewhere.
    fn alive(&self) -> usize {
        let held = |twin: &&Twin| match (twin.stage, twin.sends) {
            (Stage::Handed(Ended::Sent), _) => false,
            (Stage::Handed(Ended::Received(_)), _) => true,
            (_, sends) => sends.is_some(),
        };
        self.queue.len() + self.waits.iter().filter(held).count()
    }

    /// At least, and with those at most who were cancelled and may not have been passed over yet.
    fn waiting(&self, sends: bool) -> (usize, usize) {
        let stands = |twin: &&Twin| twin.sends.is_some() == sends && twin.stage == Stage::Waiting;
        let all = self.waits.iter().filter(stands);
        (all.clone().filter(|twin| !twin.cancelled).count(), all.count())
    }
}

struct Wait {
    name: u32,
    scope: Rc<CancelScope>,
    future: Pending<'static, Ended>,
}

/// The channel itself, and those who use it.
struct Program {
    model: Model,
    store: Store,
    senders: Vec<Sender<Item>>,
    receivers: Vec<Receiver<Item>>,
    waits: Vec<Wait>,
    names: u32,
    random: Random,
}

impl Program {
    fn new(seed: u64) -> Program {
        let capacity = (seed % 4) as usize;
        let (sender, receiver) = channel(capacity);
        let (queue, waits) = (VecDeque::new(), Vec::new());
        Program {
            model: Model {
                capacity,
                queue,
                sent: Vec::new(),
                peak: 0,
                senders: 1,
                receivers: 1,
                waits,
            },
            store: Store::default(),
            senders: vec![sender],
            receivers: vec![receiver],
            waits: Vec::new(),
            names: 0,
            random: Random(seed),
        }
    }

    /// Something to wait for, which has an end of its own.
    fn wait(&mut self, sends: bool) {
        let (name, scope) = (self.names, Rc::new(CancelScope::new()));
        let around = Rc::clone(&scope);
        self.names += 1;
        let future: Pending<'static, Ended> = if sends {
            let at = self.random.below(self.senders.len());
            let (sender, item) = (self.senders[at].clone(), self.store.item(name));
            self.model.senders += 1;
            Box::pin(async move {
                let sent = around.run(async |_| Ok(sender.send(item).await)).await;
                match sent.unwrap().unwrap() {
                    Ok(()) => Ended::Sent,
                    Err(refused) => match refused.error {
                        Error::Closed(_) => Ended::CameBack(refused.request.number),
                        Error::Cancelled(_) => Ended::SendCancelled(refused.request.number),
                        other => panic!("{other}"),
                    },
                }
            })
        } else {
            let at = self.random.below(self.receivers.len());
            let receiver = self.receivers[at].clone();
            self.model.receivers += 1;
            Box::pin(async move {
                let received = around.run(async |_| Ok(receiver.recv().await)).await;
                match received.unwrap().unwrap() {
                    Ok(Some(item)) => Ended::Received(item.number),
                    Ok(None) => Ended::End,
                    Err(Error::Cancelled(_)) => Ended::ReceiveCancelled,
                    Err(other) => panic!("{other}"),
                }
            })
        };
        self.waits.push(Wait { name, scope, future });
        let sends = sends.then_some(name);
        self.model.waits.push(Twin { name, sends, stage: Stage::NotPolled, cancelled: false });
    }

    async fn poll(&mut self, at: usize, story: &str) -> bool {
        let name = self.waits[at].name;
        let ended = match poll!(self.waits[at].future.as_mut()) {
            Poll::Ready(ended) => Some(ended),
            Poll::Pending => None,
        };
        assert_eq!(ended, self.model.poll(name), "{story}: wait {name}");
        if ended.is_some() {
            drop(self.waits.remove(at));
        }
        ended.is_some()
    }

    fn try_send(&mut self, story: &str) {
        let (at, number) = (self.random.below(self.senders.len()), self.names);
        self.names += 1;
        let sent = match self.senders[at].try_send(self.store.item(number)) {
            Ok(()) => Some(Ended::Sent),
            Err(TrySendError::Closed(item)) => Some(Ended::CameBack(item.number)),
            Err(TrySendError::Full(item)) => {
                assert_eq!(item.number, number, "{story}");
                None
            }
        };
        assert_eq!(sent, self.model.give(number), "{story}: try_send {number}");
    }

    fn try_recv(&mut self, story: &str) {
        let at = self.random.below(self.receivers.len());
        let received = match self.receivers[at].try_recv() {
            Ok(item) => Some(Ended::Received(item.number)),
            Err(TryRecvError::Closed) => Some(Ended::End),
            Err(TryRecvError::Empty) => None,
        };
        assert_eq!(received, self.model.take(), "{story}: try_recv");
    }

    async fn step(&mut self, story: &str) {
        let one_of = |random: &mut Random, many: usize| random.below(many.max(1));
        let at = one_of(&mut self.random, self.waits.len());
        let (has_sender, has_receiver) = (!self.senders.is_empty(), !self.receivers.is_empty());
        let (has_wait, has_place) = (!self.waits.is_empty(), self.waits.len() < WAITS);
        match self.random.below(24) {
            0..3 if has_sender && has_place => self.wait(true),
            3..6 if has_receiver && has_place => self.wait(false),
            6..12 if has_wait => drop(self.poll(at, story).await),
            12..14 if has_wait => {
                let Wait { name, scope, .. } = &self.waits[at];
                scope.cancel();
                for twin in self.model.waits.iter_mut().filter(|twin| twin.name == *name) {
                    twin.cancelled = true;
                }
            }
            14..16 if has_wait => {
                let Wait { name, future, .. } = self.waits.remove(at);
                drop(future);
                self.model.drop_wait(name);
            }
            16..18 if has_sender => self.try_send(story),
            18..20 if has_receiver => self.try_recv(story),
            20 if has_sender && self.senders.len() < 3 => {
                self.senders.push(self.senders[0].clone());
                self.model.senders += 1;
            }
            21 if has_receiver && self.receivers.len() < 3 => {
                self.receivers.push(self.receivers[0].clone());
                self.model.receivers += 1;
            }
            // The last one goes seldom, or the rest of the program would be short.
            22 if self.senders.len() > 1 || has_sender && self.random.below(12) == 0 => {
                drop(self.senders.pop());
                self.model.drop_sender();
            }
            23 if self.receivers.len() > 1 || has_receiver && self.random.below(12) == 0 => {
                drop(self.receivers.pop());
                self.model.drop_receiver();
            }
            _ => {}
        }
    }

    fn check(&self, story: &str) {
        let statistics = match (self.senders.first(), self.receivers.first()) {
            (Some(sender), _) => sender.statistics(),
            (None, Some(receiver)) => receiver.statistics(),
            (None, None) => return,
        };
        let model = &self.model;
        assert_eq!((statistics.len, statistics.peak), (model.queue.len(), model.peak), "{story}");
        let ends = (statistics.senders, statistics.receivers);
        assert_eq!(ends, (model.senders, model.receivers), "{story}");
        for (waiting, sends) in
            [(statistics.waiting_to_send, true), (statistics.waiting_to_receive, false)]
        {
            let (least, most) = model.waiting(sends);
            assert!((least..=most).contains(&waiting), "{story}: {waiting} wait (send: {sends})");
        }
        assert_eq!(self.store.alive(), model.alive(), "{story}");
    }
}

// J1 to J4, J8, C2, C4.
#[trine::test(kernel = "both")]
async fn the_channel_agrees_with_a_naive_one_after_every_step_of_random_programs() -> Result {
    let mut ended = 0;
    for seed in 0..PROGRAMS {
        let mut program = Program::new(seed);
        for step in 0..STEPS {
            let story = format!("seed {seed}, step {step}");
            program.step(&story).await;
            program.check(&story);
            // So that no poll is a schedule point (A2).
            if step % 8 == 0 {
                yield_shielded().await;
            }
        }
        // Whoever can end ends, and then everything goes.
        let mut at = 0;
        while at < program.waits.len() {
            let story = format!("seed {seed}, the rest");
            match program.poll(at, &story).await {
                true => (at, ended) = (0, ended + 1),
                false => at += 1,
            }
            program.check(&story);
            yield_shielded().await;
        }
        let Program { waits, senders, receivers, store, .. } = program;
        match seed % 3 {
            0 => drop((waits, senders, receivers)),
            1 => drop((receivers, senders, waits)),
            _ => drop((senders, waits, receivers)),
        }
        assert_eq!(store.alive(), 0, "seed {seed}");
    }
    assert!(ended > 0, "no wait ever ended in the end");
    Ok(())
}
