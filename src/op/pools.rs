//! The two pools of a run: one for bytes, and one for whole messages.

use std::cell::OnceCell;
use std::rc::Rc;

use crate::ring::Picked;

use super::kind::{Disposer, Kind};
use super::pool::{Chunk, Pool};

/// The group of provided buffers that messages are received into. (Bytes: `runtime::POOL_GROUP`.)
pub(crate) const MESSAGE_GROUP: u16 = 1;

/// A message must fit into one buffer, which is wasteful for bytes; so messages have a pool of their own,
/// which is made when the first of them is to be received.
#[derive(Clone)]
pub(crate) struct Pools {
    bytes: Rc<Pool>,
    messages: Rc<OnceCell<Rc<Pool>>>,
}

impl Pools {
    pub(crate) fn new(bytes: Rc<Pool>) -> Pools {
        Pools { bytes, messages: Rc::default() }
    }

    pub(crate) fn bytes(&self) -> &Rc<Pool> {
        &self.bytes
    }

    /// The pool for messages, if it was made.
    pub(crate) fn messages(&self) -> Option<&Rc<Pool>> {
        self.messages.get()
    }

    /// The same; `make` makes it.
    pub(crate) fn messages_or(&self, make: impl FnOnce() -> Rc<Pool>) -> &Rc<Pool> {
        self.messages.get_or_init(make)
    }

    /// The one that operations of this kind take from.
    #[inline]
    fn of(&self, kind: &Kind) -> &Rc<Pool> {
        match (kind.disposer, self.messages.get()) {
            (Disposer::ReturnMessage, Some(messages)) => messages,
            _ => &self.bytes,
        }
    }

    #[inline]
    pub(super) fn was_picked(&self, kind: &Kind, picked: Picked, result: i32) -> u32 {
        self.of(kind).was_picked(picked, result)
    }

    #[inline]
    pub(super) fn chunk(&self, kind: &Kind, id: u16, begin: u32, result: i32) -> Chunk {
        self.of(kind).chunk(id, begin, result)
    }

    /// An operation has ended because there was no buffer, if it takes any.
    #[cold]
    pub(super) fn were_empty(&self, kind: &Kind) {
        if matches!(kind.disposer, Disposer::ReturnBuffer | Disposer::ReturnMessage) {
            self.of(kind).was_empty();
        }
    }

    /// The ring is closed.
    pub(crate) fn close(&self) {
        self.bytes.close();
        if let Some(messages) = self.messages.get() {
            messages.close();
        }
    }

    /// Buffers with the kernel, on lease at least in part, and laid aside.
    pub(crate) fn census(&self) -> (usize, usize, usize) {
        let (free, leased, spare) = self.bytes.census();
        let more = self.messages.get().map(|messages| messages.census()).unwrap_or_default();
        (free + more.0, leased + more.1, spare + more.2)
    }
}
