//! The twin: a simulated kernel, which stands behind the door in place of the real one.
//!
//! A [`World`] has descriptors, a network, and a [`Tape`] of choices; a [`Twin`] is one ring in it. The
//! twin does what Linux does with the same requests, or was seen to do (it writes through the very
//! pointers that the kernel would get), but time stands still unless somebody moves the clock, and
//! whatever is not determined is decided by the tape. On the tame tape it is a kernel that does
//! everything at once and in order.
//!
//! It watches: a descriptor used after its close, a buffer changed or provided while the kernel has it, a
//! token used twice, registered memory left or changed, a ring closed with something in flight, a byte lost. What is wrong is kept as text
//! ([`World::violations`]), and what is left behind comes with [`World::finish`].
//!
//! An operation is one description in `operations`; a new one needs nothing else.
//!
//! # Divergence
//! Where it differs from Linux:
//! - An operation that can be done is done when it is submitted, also a multishot and a connect.
//! - The window of a connection is the receiver's buffer. There is no send buffer besides, and the
//!   news that room was made needs no time and passes through a cut network.
//! - A connection is established for the server as soon as the client's request has arrived.
//! - Nothing is retransmitted: what a cut network holds arrives when it is whole again, however long that
//!   takes, and an established connection never times out. A client whose request finds the backlog full
//!   is admitted as soon as there is room.
//! - Every address belongs to the one machine; a client that is not bound comes from `10.0.0.254` or
//!   `fd00::fe`, or from the loopback address.
//! - Shutdown and close are done at once, never in a worker, so that no cancel finds them (trine cancels
//!   neither).
//! - There is no `TIME_WAIT`: ports are free when both ends of a connection are closed.
//! - `close` never waits, whatever the linger time; only a linger of zero has a meaning.
//! - The completion queue has no overflow list: it grows. But a multishot ends when it is full.
//! - A send without a copy lets go of its memory soon, whatever the peer does with the bytes.
//! - A pipe holds 64 KiB whatever the pieces it was written in, and may be read by halves only where the
//!   tape says so.
//! - Options of a socket are remembered and do nothing, `TCP_NODELAY` and keep-alive too.
//! - A socket that is bound and does not listen keeps its port from nobody (trine listens at once).
//! - There is one file system, in memory: regular files, directories, symbolic links. It begins with
//!   `/tmp`, and the working directory is `/`. Permissions are remembered and not obeyed; the umask is
//!   022; files have no holes and no more than 1 GiB. There are no devices, FIFOs, mounts nor
//!   direct I/O, nothing in `/proc`, and nothing is lost that was not synced.
//! - A descriptor of a file has no position of its own.
//! - Of all that is done with files, a cancel stops what has not begun; what has begun is done.
//! - A poll finds room to write where there is any; Linux waits until a third of the buffer is free.
//! - A datagram that nobody is there for is answered without latency. Every group that is joined is heard
//!   on all interfaces, of which none is the loopback one. A send of one never waits, and a cut network drops
//!   them. Of the options broadcast, loop, the receive buffer and the segment size mean something.
//! - No network is between Unix sockets: nothing delays them, cuts them or breaks them. The paths of
//!   sockets are in no directory. Descriptors cannot be passed. A poll finds room for datagrams always.
//! - A ring that is closed with operations in flight stops them at once. That is a violation anyway.

mod buffers;
mod cancel;
mod datagram;
mod disk;
mod faults;
mod files;
mod filesystem;
mod journal;
mod machine;
mod memory;
mod moves;
mod network;
mod object;
mod operations;
mod options;
mod outside;
mod pipe;
mod queue;
mod registered;
mod rights;
mod shrink;
mod stream;
mod tape;
mod tcp;
mod unix;
mod world;

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::clock::Instant;
use crate::slots::Key;

use super::bell::Bell;
use super::request::{Region, Request};
use super::{Completion, RingSize, Token};

pub(crate) use buffers::PoolQueue;
pub use faults::Faults;
pub use outside::Outside;
pub(crate) use shrink::shrink;
pub(crate) use tape::Lane;
pub use tape::Tape;
pub use world::Census;
pub(crate) use world::World;

use queue::{Entry, RingState};

/// One ring of a world.
pub(super) struct Twin {
    world: Rc<World>,
    ring: Key<RingState>,
    bell: Arc<Bell>,
}

impl Twin {
    pub(super) fn open(world: &Rc<World>, size: RingSize) -> io::Result<Twin> {
        let mut machine = world.machine();
        let refusal = machine.setup_refusal.map_or(Ok(()), Err);
        let state = refusal.and_then(|()| RingState::new(size)).map_err(error)?;
        let ring = machine.rings.insert(state);
        let bell = Arc::new(Bell::twin());
        Ok(Twin { world: Rc::clone(world), ring, bell })
    }

    pub(super) fn world(&self) -> &Rc<World> {
        &self.world
    }

    pub(super) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    pub(super) fn now(&self) -> Instant {
        self.world.machine().now()
    }

    /// Queues a request; `false` if the queue is full.
    pub(super) fn push(&mut self, token: Token, request: &Request) -> bool {
        self.with(|ring| ring.push(Entry::Operation(token, *request)))
    }

    /// Queues a cancel of what was pushed under `token`. It answers only if it does not hit.
    pub(super) fn push_cancel(&mut self, token: Token) -> bool {
        self.with(|ring| ring.push(Entry::Cancel(token)))
    }

    pub(super) fn unsubmitted(&mut self) -> u32 {
        self.with(|ring| ring.queue.len() as u32)
    }

    /// Takes what is queued and runs what is due now: as much as Linux would in one pass, when so many
    /// completions are waited for. It never waits, and never moves the clock.
    ///
    /// # Errors
    /// None; what interrupts an enter on Linux has the same effect here, and the door hides it there.
    pub(super) fn enter(&mut self, want: u32) -> io::Result<()> {
        self.world.machine().enter(self.ring, want);
        Ok(())
    }

    pub(super) fn has_completions(&mut self) -> bool {
        self.with(|ring| !ring.visible.is_empty())
    }

    /// Hands out what has become visible; says whether the bell was rung.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Completion)) -> bool {
        // `each` may use the world, so nothing of it is borrowed meanwhile.
        let mut visible = self.with(|ring| std::mem::take(&mut ring.visible));
        visible.drain(..).for_each(&mut each);
        // The queue keeps its memory, unless something came in meanwhile.
        self.with(|ring| {
            if ring.visible.is_empty() {
                ring.visible = visible;
            }
        });
        match &*self.bell {
            Bell::Twin(struck) => struck.take(),
            Bell::Event(_) => false,
        }
    }

    pub(super) fn fills_incrementally(&self) -> bool {
        true
    }

    pub(super) fn register_buffers(
        &mut self,
        entries: u16,
        group: u16,
        incremental: bool,
    ) -> io::Result<PoolQueue> {
        let registered =
            self.world.machine().register_group(self.ring, entries, group, incremental);
        registered.map_err(error)?;
        Ok(PoolQueue::new(Rc::clone(&self.world), self.ring, group))
    }

    pub(super) fn make_places(&mut self, places: u16) -> io::Result<()> {
        self.world.machine().make_places(self.ring, places).map_err(error)
    }

    pub(super) fn remove_places(&mut self) -> io::Result<()> {
        self.world.machine().remove_places(self.ring).map_err(error)
    }

    pub(super) fn register(&mut self, place: u16, memory: Option<Region>) -> io::Result<()> {
        self.world.machine().register(self.ring, place, memory).map_err(error)
    }

    /// When something will happen by itself: now, if entering would bring something; `None`: never.
    pub(super) fn next_event(&self) -> Option<Instant> {
        let machine = &mut *self.world.machine();
        if machine.rings.get(self.ring).is_some_and(RingState::is_ready) {
            return Some(machine.now());
        }
        machine.next_event()
    }

    /// Closes the ring. Nothing may be in flight (rule P1).
    pub(super) fn close(self) {
        drop(self);
    }

    fn with<T>(&mut self, f: impl FnOnce(&mut RingState) -> T) -> T {
        let machine = &mut *self.world.machine();
        f(machine.rings.get_mut(self.ring).expect("a ring is open until its twin is dropped"))
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        self.world.machine().close_ring(self.ring);
    }
}

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

#[cfg(test)]
mod tests;
