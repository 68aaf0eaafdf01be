//! The door to the kernel: a [`Request`] under a [`Token`] goes in, [`Completion`]s come out.
//!
//! What stands behind the door owes this:
//! - Each token pushed gets one terminal completion, the first one without `more`, whatever is
//!   asked of it meanwhile. Until then the memory named by the request belongs to the kernel.
//! - A cancel pushed for a token makes its terminal completion come soon, if the kernel can. The
//!   answer to the cancel itself says nothing about the operation (rule D5).
//! - [`Ring::turn`] hands over everything pushed, waits, and times out, in one `io_uring_enter`, or two
//!   under load; a simulated kernel does not wait.
//! - Completions that name parts of one incremental buffer come in the order of the parts.
//! - The bell: a [`Bell`] rung on any thread ends the wait.
//! - [`Ring::close`] is called with nothing in flight, and only then is memory freed (rule P1).
//!
//! This is one of the crate's three islands of unsafe code: the memory shared with the kernel and
//! the system calls are here, behind safe functions. The promise that memory stays put while the
//! kernel has it is made where a [`Region`] is made, in `op`.

#![allow(unsafe_code)]

mod address;
mod bell;
mod buffers;
mod control;
mod datagram;
mod entry;
pub(crate) mod epoll;
mod file;
mod host;
mod kernel;
mod kinds;
mod limits;
mod listing;
mod message;
mod pieces;
mod pipe;
mod process;
mod refusal;
mod request;
mod signal;
mod socket;
#[cfg(feature = "testing")]
pub(crate) mod twin;
mod unix;

use std::io;
#[cfg(feature = "testing")]
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "testing")]
use crate::clock::Instant;
use crate::error::Unavailable;

pub(crate) use address::SockAddr;
pub(crate) use bell::Bell;
pub(crate) use buffers::Provided;
pub(crate) use control::Descriptors;
pub(crate) use datagram::Membership;
pub use entry::Entry;
pub(crate) use file::{FileRequest, OpenHow, Stamp, Stat, WORKING};
pub use host::Descriptor;
pub(crate) use host::Host;
pub(crate) use kinds::FdKind;
pub(crate) use limits::raise_descriptor_limit;
pub(crate) use listing::{Listed, list_some};
pub(crate) use message::{Envelope, Opened, PAYLOAD};
pub(crate) use pieces::Pieces;
pub(crate) use process::Process;
pub(crate) use request::{Course, HERE, Region, Request, Spot};
pub(crate) use signal::{Catch, SignalReceiver, StopSignals};
pub(crate) use socket::{OptionName, OptionValue};
pub(crate) use unix::{FileId, PeerIds, UnixKind};

use kernel::Kernel;
#[cfg(feature = "testing")]
use twin::{Twin, World};

/// What `user_data` says: whose completion this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token(u64);

/// What a token is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenKind {
    Operation = 0,
    /// The answer to a cancel request for the operation of the same index and generation.
    Cancel = 1,
    Bell = 2,
}

impl Token {
    /// Two bits of kind, thirty of index, thirty-two of generation.
    pub(crate) const INDEX_BITS: u32 = 30;

    pub(crate) fn new(kind: TokenKind, index: u32, generation: u32) -> Token {
        debug_assert!(index < 1 << Self::INDEX_BITS);
        Token((kind as u64) << 62 | u64::from(index) << 32 | u64::from(generation))
    }

    pub(crate) fn kind(self) -> TokenKind {
        match self.0 >> 62 {
            0 => TokenKind::Operation,
            1 => TokenKind::Cancel,
            _ => TokenKind::Bell,
        }
    }

    pub(crate) fn index(self) -> u32 {
        (self.0 >> 32) as u32 & ((1 << Self::INDEX_BITS) - 1)
    }

    pub(crate) fn generation(self) -> u32 {
        self.0 as u32
    }

    fn for_cancel(self) -> Token {
        Token::new(TokenKind::Cancel, self.index(), self.generation())
    }

    fn bits(self) -> u64 {
        self.0
    }

    fn from_bits(bits: u64) -> Token {
        Token(bits)
    }
}

/// One entry of the completion queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    /// A count or a descriptor, or a negative error number.
    pub(crate) result: i32,
    /// More completions of this token will follow.
    pub(crate) more: bool,
    /// The pool buffer that the kernel picked.
    pub(crate) buffer: Option<Picked>,
}

/// A buffer of the pool, as a completion names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Picked {
    pub(crate) id: u16,
    /// There is room left in it, which the kernel goes on filling: it is not given back yet.
    pub(crate) unfinished: bool,
}

/// How large the rings are, and what works for them. All is clamped by the kernel to what it can give.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingSize {
    /// Entries of the submission queue: what one turn hands over in one system call. A turn with
    /// more only needs a second call.
    pub(crate) submissions: u32,
    /// Entries of the completion queue, at least as many as of the other one. Eight thousand give
    /// the kernel its largest table of pending polls, which is what cancels are looked up in.
    pub(crate) completions: u32,
    /// Threads of the kernel, at most, that do what cannot be done without blocking.
    pub(crate) workers: u32,
}

/// What the kernel is taken to be able to do until it refuses it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Capabilities {
    pub(crate) multishot_accept: bool,
    pub(crate) multishot_recv: bool,
    /// Since Linux 6.7.
    pub(crate) multishot_read: bool,
    /// Since Linux 6.9.
    pub(crate) set_len: bool,
    pub(crate) multishot_recvmsg: bool,
    /// Whether the kernel can fill a buffer piece by piece.
    pub(crate) incremental_buffers: bool,
}

/// How often the ring was entered, and what went through the door.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Traffic {
    pub(crate) enters: u64,
    pub(crate) completions: u64,
    pub(crate) cancels_sent: u64,
    /// Cancel requests that the kernel answered with "no such operation".
    pub(crate) cancels_missed: u64,
    /// Cancel requests that the kernel answered with "running, will try".
    pub(crate) cancels_running: u64,
}

impl Traffic {
    /// Counts the answer to a cancel request, and says whether it has not ended its operation.
    #[cold]
    fn count_cancel(&mut self, result: i32) -> bool {
        match -result {
            libc::ENOENT => self.cancels_missed += 1,
            libc::EALREADY => self.cancels_running += 1,
            _ => return false,
        }
        true
    }
}

/// The kernel, or what plays it.
#[cfg_attr(
    feature = "testing",
    expect(
        clippy::large_enum_variant,
        reason = "a run has one, and the large one is the usual one"
    )
)]
enum Backend {
    Kernel(Kernel),
    #[cfg(feature = "testing")]
    Twin(Twin),
}

/// Calls the same method of whichever it is.
macro_rules! of {
    ($backend:expr, $either:ident => $call:expr) => {
        match $backend {
            Backend::Kernel($either) => $call,
            #[cfg(feature = "testing")]
            Backend::Twin($either) => $call,
        }
    };
}

/// The door.
pub(crate) struct Ring {
    backend: Backend,
    capabilities: Capabilities,
    traffic: Traffic,
    /// How many completions the last turns brought: what it pays to harvest in one pass.
    expected: u32,
}

impl Ring {
    pub(crate) fn open(size: RingSize) -> Result<Ring, Unavailable> {
        Ok(Ring::on(Backend::Kernel(Kernel::open(size)?)))
    }

    /// A ring of a simulated world.
    #[cfg(feature = "testing")]
    pub(crate) fn open_in(world: &Rc<World>, size: RingSize) -> Result<Ring, Unavailable> {
        let twin = Twin::open(world, size).map_err(refusal::explain)?;
        Ok(Ring::on(Backend::Twin(twin)))
    }

    fn on(backend: Backend) -> Ring {
        let incremental_buffers = of!(&backend, either => either.fills_incrementally());
        let capabilities = Capabilities {
            multishot_accept: true,
            multishot_recv: true,
            multishot_read: true,
            set_len: true,
            multishot_recvmsg: true,
            incremental_buffers,
        };
        Ring { backend, capabilities, traffic: Traffic::default(), expected: 1 }
    }

    /// What answers the calls that do not wait, on the same kernel.
    pub(crate) fn host(&self) -> Host {
        match &self.backend {
            Backend::Kernel(_) => Host::LINUX,
            #[cfg(feature = "testing")]
            Backend::Twin(twin) => Host::Twin(Rc::clone(twin.world())),
        }
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The kernel has refused what it was thought to be able to do.
    pub(crate) fn lacks(&mut self, missing: impl FnOnce(&mut Capabilities)) {
        missing(&mut self.capabilities);
    }

    /// A clock that is cheap to read and a few milliseconds coarse: for the ages of operations.
    pub(crate) fn coarse_now(&self) -> Duration {
        match &self.backend {
            Backend::Kernel(_) => limits::coarse_now(),
            #[cfg(feature = "testing")]
            Backend::Twin(twin) => twin.now() - Instant::MIN,
        }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic
    }

    pub(crate) fn bell(&self) -> Arc<Bell> {
        of!(&self.backend, either => either.bell())
    }

    /// Queues a request; `false` if the queue is full, which [`flush`](Ring::flush) cures.
    #[must_use]
    #[inline]
    pub(crate) fn push(&mut self, token: Token, request: &Request) -> bool {
        debug_assert_eq!(token.kind(), TokenKind::Operation);
        of!(&mut self.backend, either => either.push(token, request))
    }

    /// Queues a request to cancel what was pushed under `token`; `false` if the queue is full.
    #[must_use]
    pub(crate) fn push_cancel(&mut self, token: Token) -> bool {
        let pushed = of!(&mut self.backend, either => either.push_cancel(token));
        self.traffic.cancels_sent += u64::from(pushed);
        pushed
    }

    /// Whether something was pushed that the kernel has not taken.
    pub(crate) fn has_unsubmitted(&mut self) -> bool {
        of!(&mut self.backend, either => either.unsubmitted()) > 0
    }

    /// Hands over what is queued, without waiting.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.enter(0, Some(Duration::ZERO))
    }

    /// Hands over what is queued and waits for a completion, at most `timeout` (`None`: for ever).
    ///
    /// A simulated kernel does not wait: whoever moves its clock does ([`Ring::next_event`]).
    ///
    /// Since Linux 6.13 a pass runs at most max(20, number waited for) of the completions that are
    /// ready. Where the turn hands something over, waiting for one is best: what is handed over mostly
    /// completes at once, so the batches grow with the load by themselves (measured: an echo server
    /// pays 5 % more when it waits for as many as lately came). A turn that only receives has nothing
    /// to make it grow: under load it asks for as many as lately came, without waiting, and only when
    /// that finds nothing does a second pass wait.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return self.enter(0, timeout);
        }
        if self.expected >= PASS && !self.has_unsubmitted() {
            self.enter(self.expected, Some(Duration::ZERO))?;
            if of!(&mut self.backend, either => either.has_completions()) {
                return Ok(());
            }
        }
        self.enter(1, timeout)
    }

    fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        self.traffic.enters += 1;
        match &mut self.backend {
            Backend::Kernel(kernel) => kernel.enter(want, timeout),
            #[cfg(feature = "testing")]
            Backend::Twin(twin) => twin.enter(want),
        }
    }

    /// Hands every completion that has arrived to `each`: those of operations, and those of cancel
    /// requests that found no operation, or one at work. Whether the bell was rung comes back.
    #[inline]
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Completion)) -> bool {
        let traffic = &mut self.traffic;
        let before = traffic.completions;
        let rung = of!(&mut self.backend, either => either.drain(|completion| {
            traffic.completions += 1;
            if completion.token.kind() == TokenKind::Operation || traffic.count_cancel(completion.result) {
                each(completion);
            }
        }));
        // One completion, however often it was rung.
        traffic.completions += u64::from(rung);
        let came = (self.traffic.completions - before) as u32;
        // Half of the last batch and half of the history: follows the load within a few turns.
        self.expected = (self.expected + came).div_ceil(2).max(1);
        rung
    }

    /// Makes a ring of provided buffers known to the kernel under `group`. With `incremental` it fills
    /// each of them piece by piece.
    pub(crate) fn register_buffers(
        &mut self,
        entries: u16,
        group: u16,
        incremental: bool,
    ) -> io::Result<Provided> {
        match &mut self.backend {
            Backend::Kernel(kernel) => {
                kernel.register_buffers(entries, group, incremental).map(Provided::Kernel)
            }
            #[cfg(feature = "testing")]
            Backend::Twin(twin) => {
                twin.register_buffers(entries, group, incremental).map(Provided::Twin)
            }
        }
    }

    /// Makes so many places for memory that the kernel is to know beforehand.
    #[cold]
    pub(crate) fn make_places(&mut self, places: u16) -> io::Result<()> {
        of!(&mut self.backend, either => either.make_places(places))
    }

    /// Has the kernel hold the pages of this memory for requests that name the place; or of none any more.
    /// No request that does may be in flight.
    #[cold]
    pub(crate) fn register(&mut self, place: u16, memory: Option<Region>) -> io::Result<()> {
        of!(&mut self.backend, either => either.register(place, memory))
    }

    /// Lets go of all that memory. Nothing may be in flight.
    #[cold]
    pub(crate) fn remove_places(&mut self) -> io::Result<()> {
        of!(&mut self.backend, either => either.remove_places())
    }

    /// Whether something may complete by itself when `in_kernel` operations are in flight.
    pub(crate) fn may_complete(&self, in_kernel: usize) -> bool {
        match &self.backend {
            Backend::Kernel(_) => in_kernel > 0,
            #[cfg(feature = "testing")]
            Backend::Twin(twin) => twin.next_event().is_some(),
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self.backend, Backend::Twin(_))
    }

    /// When something next happens in a simulated kernel by itself. The real one does not tell.
    #[cfg(feature = "testing")]
    pub(crate) fn next_event(&self) -> Option<Instant> {
        match &self.backend {
            Backend::Kernel(_) => None,
            Backend::Twin(twin) => twin.next_event(),
        }
    }

    /// Closes the ring. Nothing may be in flight any more: closing is no barrier.
    pub(crate) fn close(self) {
        of!(self.backend, either => either.close());
    }
}

/// What the kernel runs in one pass although only one completion is waited for.
const PASS: u32 = 20;
