//! Operations that trine does not know, and what they need to stay alive.

use std::fmt;
use std::marker::PhantomData;

use crate::ring::{Entry, Request};

use super::block::Storage;
use super::kind::{Disposer, Kind};
use super::submission::Submission;

/// An operation that trine has no function for, to be carried out by [`submit`](crate::io::submit).
pub struct RawOperation<K> {
    storage: Storage,
    refused: Option<&'static str>,
    once: bool,
    makes_descriptor: bool,
    _keep: PhantomData<K>,
}

impl<K: 'static> RawOperation<K> {
    /// Puts `keep` where it stays until the kernel has let go, and has `entry` make the entry of what is
    /// there now: of buffers, paths, message headers, and of the owner of the descriptor.
    ///
    /// It may be repeated after an interruption that nobody has asked for, and its result is a number,
    /// unless [`once`](RawOperation::once) and [`makes_descriptor`](RawOperation::makes_descriptor) say
    /// otherwise.
    ///
    /// # Safety
    /// - What the entry points to is in `keep`, or owned by it at a place that does not change when it is
    ///   moved, or lives for ever; and nobody reads what the operation writes, or writes what it reads,
    ///   before [`submit`](crate::io::submit) has returned `keep`, or after it was dropped.
    /// - Its descriptor is open at least until it was handed to the kernel: best is to have it in `keep`.
    /// - It completes once, or, as a zero-copy send, once more when the kernel has let go of the memory. No
    ///   multishots.
    /// - It leaves the other operations of the ring alone, and the ring's buffers: no `ASYNC_CANCEL`,
    ///   `POLL_REMOVE`, `TIMEOUT_REMOVE`, `PROVIDE_BUFFERS`, `MSG_RING` and the like.
    pub unsafe fn new(keep: K, entry: impl FnOnce(&mut K) -> Entry) -> RawOperation<K> {
        let mut refused = None;
        let storage = Storage::raw(keep, |keep| {
            let entry = entry(keep);
            refused = entry.refused();
            entry
        });
        RawOperation { storage, refused, once: false, makes_descriptor: false, _keep: PhantomData }
    }

    /// It may not be repeated: interrupted, it may have had its effect (rule D4). An interruption that
    /// nobody has asked for is an error then.
    #[must_use]
    pub fn once(mut self) -> RawOperation<K> {
        self.once = true;
        self
    }

    /// What it ends with is a descriptor: closed if nobody is left to take it (rule D7).
    #[must_use]
    pub fn makes_descriptor(mut self) -> RawOperation<K> {
        self.makes_descriptor = true;
        self
    }

    /// The flag for which it is refused.
    pub(crate) fn refused(&self) -> Option<&'static str> {
        self.refused
    }

    pub(crate) fn kind(&self) -> &'static Kind {
        match (self.once, self.makes_descriptor) {
            (false, false) => &REPEATABLE,
            (true, false) => &ONCE,
            (false, true) => &DESCRIPTOR,
            (true, true) => &ONE_DESCRIPTOR,
        }
    }

    pub(crate) fn into_storage(self) -> Storage {
        self.storage
    }
}

#[cfg(feature = "testing")]
impl RawOperation<()> {
    /// One that ends when this can be read; it has to stay open until then.
    pub(crate) fn readable(what: &impl std::os::fd::AsRawFd) -> RawOperation<()> {
        let (opcode, op_flags) = (io_uring::opcode::PollAdd::CODE, libc::POLLIN as u32);
        let entry = Entry { opcode, fd: what.as_raw_fd(), op_flags, ..Entry::default() };
        // SAFETY: it points to nothing and completes once. A descriptor that were another's by then would
        // only be waited for.
        unsafe { RawOperation::new((), |_| entry) }
    }
}

const REPEATABLE: Kind = Kind::total("raw operation", Disposer::Forget);
const ONCE: Kind = Kind { repeatable: false, ..REPEATABLE };
const DESCRIPTOR: Kind = Kind { disposer: Disposer::CloseDescriptor, ..REPEATABLE };
const ONE_DESCRIPTOR: Kind = Kind { repeatable: false, ..DESCRIPTOR };

impl Submission {
    /// What [`RawOperation::new`] has put into the storage.
    pub(crate) fn raw(kind: &'static Kind, mut storage: Storage) -> Submission {
        let request = Request::Raw { entry: storage.region(0) };
        Submission { kind, request, fd: None, storage: Some(storage) }
    }
}

impl<K> fmt::Debug for RawOperation<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawOperation")
            .field("once", &self.once)
            .field("makes_descriptor", &self.makes_descriptor)
            .finish_non_exhaustive()
    }
}
