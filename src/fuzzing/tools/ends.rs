//! The ends that a task has of a tool with senders and receivers.

use super::judge::Judge;

/// A tool that values go into at one end and come out of at the other, with its twin.
pub(super) trait TwoEnded {
    type Sender;
    type Receiver;

    fn judge(&self) -> &Judge;

    /// Compares what the ends say of it with the twin.
    fn compare(&self, senders: &[Self::Sender], receivers: &[Self::Receiver]);

    /// The twin learns of it.
    fn sender_has_gone(&self);
    fn receiver_has_gone(&self);
}

/// Ends that a task has. Dropping them is told to the twin, one after another.
pub(super) struct Hand<'a, T: TwoEnded> {
    tool: &'a T,
    pub(super) senders: Vec<T::Sender>,
    pub(super) receivers: Vec<T::Receiver>,
}

impl<'a, T: TwoEnded> Hand<'a, T> {
    pub(super) fn new(tool: &'a T) -> Self {
        Hand { tool, senders: Vec::new(), receivers: Vec::new() }
    }

    pub(super) fn compare(&self) {
        self.tool.compare(&self.senders, &self.receivers);
    }

    pub(super) fn drop_sender(&mut self) {
        self.compare();
        if let Some(sender) = self.senders.pop() {
            self.tool.judge().tell(|| "  drops a sender".to_owned());
            drop(sender);
            self.tool.sender_has_gone();
        }
    }

    pub(super) fn drop_receiver(&mut self) {
        self.compare();
        if let Some(receiver) = self.receivers.pop() {
            self.tool.judge().tell(|| "  drops a receiver".to_owned());
            drop(receiver);
            self.tool.receiver_has_gone();
        }
    }
}

impl<T: TwoEnded> Drop for Hand<'_, T> {
    fn drop(&mut self) {
        while !self.senders.is_empty() {
            self.drop_sender();
        }
        while !self.receivers.is_empty() {
            self.drop_receiver();
        }
    }
}
