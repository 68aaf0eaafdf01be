//! The real kernel, through the `io-uring` crate.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use super::bell::Bell;
use super::buffers::BufferRing;
use super::file;
use super::message::{Envelope, Plain};
use super::request::{Course, HERE, Region, Request, Spot};
use super::{Completion, Picked, RingSize, Token, TokenKind, Unavailable, refusal};

pub(super) struct Kernel {
    ring: IoUring,
    door: Door,
    bell: Arc<Bell>,
    /// The bell's descriptor.
    event: Fd,
    /// Where the kernel counts the bell's strokes while `bell_armed`. Leaked, not freed, if the ring
    /// is dropped while it is armed.
    strokes: NonNull<u64>,
    bell_armed: bool,
}

impl Kernel {
    pub(super) fn open(size: RingSize) -> Result<Kernel, Unavailable> {
        let ring = open_ring(size).map_err(refusal::explain)?;
        check_operations(&ring)?;
        limit_workers(&ring, size.workers).map_err(refusal::explain)?;
        let bell = Bell::new().map_err(refusal::explain)?;
        let event = Fd(bell.event().expect("a new bell has an eventfd"));
        let door = Door::open(&ring);
        let strokes = NonNull::from(Box::leak(Box::new(0_u64)));
        Ok(Kernel { ring, door, bell: Arc::new(bell), event, strokes, bell_armed: false })
    }

    pub(super) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    #[inline]
    pub(super) fn push(&mut self, token: Token, request: &Request) -> bool {
        // What goes out for each message is written to where it goes; through the table of all it would
        // be copied twice.
        if let Request::Send { fd, from, all } = *request {
            return self.push_entry(&send_for(fd, from, all).user_data(token.bits()));
        }
        self.push_entry(&entry_for(request).user_data(token.bits()))
    }

    pub(super) fn push_cancel(&mut self, token: Token) -> bool {
        let entry = cancel_for(token).user_data(token.for_cancel().bits());
        self.push_entry(&entry)
    }

    #[inline]
    fn push_entry(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the memory an entry names is a `Region`, whose maker promised that it stays valid
        // until the terminal completion, or `self.strokes`, which lives until that of the bell.
        unsafe { self.ring.submission().push(entry).is_ok() }
    }

    /// One `io_uring_enter`: submits everything queued, runs what is ready, waits for `want`
    /// completions at most `timeout`, and a little longer.
    pub(super) fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        // Without the bell no wait may begin: a wake from another thread would be missed.
        let want = if self.arm_bell()? { want } else { 0 };
        self.call(want, timeout.filter(|_| want > 0).map(with_slack))
    }

    fn call(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        let queued = self.unsubmitted();
        match self.door.enter(queued, want, timeout) {
            Ok(()) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Time is up, a signal came, or the kernel wants its completions drained first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Has the ring read the bell. If the queue stays full it cannot be, and the answer is `false`.
    fn arm_bell(&mut self) -> io::Result<bool> {
        if !self.bell_armed && !self.push_bell() {
            self.call(0, None)?;
            self.push_bell();
        }
        Ok(self.bell_armed)
    }

    fn push_bell(&mut self) -> bool {
        let (bell, strokes) = (self.event, self.strokes.as_ptr().cast());
        let token = Token::new(TokenKind::Bell, 0, 0);
        let entry = opcode::Read::new(bell, strokes, 8).build().user_data(token.bits());
        self.bell_armed = self.push_entry(&entry);
        self.bell_armed
    }

    pub(super) fn unsubmitted(&mut self) -> u32 {
        self.ring.submission().len() as u32
    }

    pub(super) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Hands out what has arrived; says whether the bell was rung.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Completion)) -> bool {
        let mut rung = false;
        for entry in self.ring.completion() {
            let token = Token::from_bits(entry.user_data());
            if token.kind() == TokenKind::Bell {
                rung = true;
                self.bell_armed = false;
                continue;
            }
            each(Completion {
                token,
                result: entry.result(),
                more: cqueue::more(entry.flags()),
                buffer: picked(entry.flags()),
            });
        }
        rung
    }

    /// They came with Linux 6.12, with mistakes that were mended in what followed; 6.15 has the feature
    /// that is looked for here, and them in order.
    pub(super) fn fills_incrementally(&self) -> bool {
        self.ring.params().is_feature_no_iowait()
    }

    pub(super) fn register_buffers(
        &self,
        entries: u16,
        group: u16,
        incremental: bool,
    ) -> io::Result<BufferRing> {
        let flags = if incremental { sys::PBUF_RING_INC } else { 0 };
        let buffers = BufferRing::new(entries)?;
        // SAFETY: the memory is page-aligned, large enough for the entries, and lives in the
        // `BufferRing`, which the pool keeps until nothing is in flight and the ring is closed.
        unsafe {
            self.ring.submitter().register_buf_ring_with_flags(
                buffers.address(),
                entries,
                group,
                flags,
            )?;
        }
        Ok(buffers)
    }

    pub(super) fn make_places(&self, places: u16) -> io::Result<()> {
        self.ring.submitter().register_buffers_sparse(places.into())
    }

    pub(super) fn remove_places(&self) -> io::Result<()> {
        self.ring.submitter().unregister_buffers()
    }

    pub(super) fn register(&self, place: u16, memory: Option<Region>) -> io::Result<()> {
        let nothing = (std::ptr::null_mut(), 0);
        let (iov_base, iov_len) =
            memory.map_or(nothing, |memory| (memory.address().cast(), memory.len() as usize));
        let memory = libc::iovec { iov_base, iov_len };
        // SAFETY: the kernel holds the pages for itself, and goes to them only for requests, which bring
        // regions of their own.
        unsafe { self.ring.submitter().register_buffers_update(place.into(), &[memory], None) }
    }

    /// Ends the ring's read of the bell, by ringing it, so that its memory can be freed.
    pub(super) fn close(mut self) {
        if self.bell_armed {
            self.bell.ring();
        }
        while self.bell_armed {
            if self.call(1, None).is_err() {
                return;
            }
            self.drain(|_| {});
        }
    }
}

/// How much later than asked for a wait may end. It is what Linux gives every thread that sleeps
/// (`PR_SET_TIMERSLACK`) but not the waits of a ring: so deadlines that lie close together cost one
/// waking up.
const SLACK: Duration = Duration::from_micros(50);

/// What is not to wait does not.
fn with_slack(timeout: Duration) -> Duration {
    if timeout.is_zero() { timeout } else { timeout.saturating_add(SLACK) }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.door.close(&self.ring);
        if !self.bell_armed {
            // SAFETY: made by `Box::leak` in `open`; the kernel's read of the bell has ended, so
            // nobody else has it.
            drop(unsafe { Box::from_raw(self.strokes.as_ptr()) });
        }
    }
}

/// How `io_uring_enter` is called. The crate's own way asks for the plain descriptor each time; a
/// registered one saves the kernel a look-up.
struct Door {
    /// The ring's descriptor, or its index among the thread's registered rings.
    fd: libc::c_uint,
    flags: libc::c_uint,
}

impl Door {
    fn open(ring: &IoUring) -> Door {
        let no_iowait = if ring.params().is_feature_no_iowait() { sys::NO_IOWAIT } else { 0 };
        let flags = sys::GETEVENTS | no_iowait;
        let mut update =
            sys::RingUpdate { offset: u32::MAX, resv: 0, data: ring.as_raw_fd() as u64 };
        // SAFETY: one valid update, which the kernel reads and whose offset it fills in.
        let registered = unsafe {
            let (fd, update) = (ring.as_raw_fd(), &raw mut update);
            libc::syscall(libc::SYS_io_uring_register, fd, sys::REGISTER_RING_FDS, update, 1)
        };
        if registered == 1 {
            return Door { fd: update.offset, flags: flags | sys::REGISTERED_RING };
        }
        Door { fd: ring.as_raw_fd() as libc::c_uint, flags }
    }

    /// Takes the registration back. It would keep the ring for as long as the thread lives, and a
    /// thread has only few.
    fn close(&self, ring: &IoUring) {
        if self.flags & sys::REGISTERED_RING == 0 {
            return;
        }
        let mut update = sys::RingUpdate { offset: self.fd, resv: 0, data: 0 };
        // SAFETY: one valid update, which the kernel reads. There is nothing to do about a failure.
        unsafe {
            let (fd, update) = (ring.as_raw_fd(), &raw mut update);
            libc::syscall(libc::SYS_io_uring_register, fd, sys::UNREGISTER_RING_FDS, update, 1);
        }
    }

    fn enter(&self, submit: u32, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        let Some(timeout) = timeout else {
            return self.call(submit, want, self.flags, std::ptr::null(), 0);
        };
        let timeout = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timeout);
        let (place, size) = (&raw const args, size_of::<SubmitArgs<'_, '_>>());
        self.call(submit, want, self.flags | sys::EXT_ARG, place.cast(), size)
    }

    fn call(
        &self,
        submit: u32,
        want: u32,
        flags: u32,
        arg: *const libc::c_void,
        size: usize,
    ) -> io::Result<()> {
        // SAFETY: `arg` is null, or with EXT_ARG what that announces, alive across the call.
        let entered = unsafe {
            libc::syscall(libc::SYS_io_uring_enter, self.fd, submit, want, flags, arg, size)
        };
        if entered < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Of `linux/io_uring.h`; the crate keeps its own to itself.
mod sys {
    pub(super) const GETEVENTS: u32 = 1 << 0;
    pub(super) const EXT_ARG: u32 = 1 << 3;
    pub(super) const REGISTERED_RING: u32 = 1 << 4;
    pub(super) const NO_IOWAIT: u32 = 1 << 7;
    pub(super) const PBUF_RING_INC: u16 = 2;
    pub(super) const REGISTER_RING_FDS: u32 = 20;
    pub(super) const UNREGISTER_RING_FDS: u32 = 21;

    /// `struct io_uring_rsrc_update`.
    #[repr(C)]
    pub(super) struct RingUpdate {
        pub(super) offset: u32,
        pub(super) resv: u32,
        pub(super) data: u64,
    }
}

/// What every kernel from Linux 6.1 on takes, and what newer ones take besides. A kernel answers
/// an unknown flag with EINVAL.
fn open_ring(size: RingSize) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_clamp()
        // The kernel refuses a completion queue that is the smaller one.
        .setup_cqsize(size.completions.max(size.submissions))
        .dontfork();
    let plain = builder.clone();
    match builder.setup_no_sqarray().build(size.submissions) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => plain.build(size.submissions),
        opened => opened,
    }
}

/// It has two limits. This is the one on work that ends by itself, as the kernel sees it, which is all
/// work on files and names; without it they are four for each processor, and the opening of a FIFO takes
/// one of them. The other one is on what may wait for anybody: moves (splice(2)), and what a socket takes without
/// telling when, as one for datagrams that is full and not connected. Without it they are as many as the user may have
/// processes. Whoever is one too many waits for one of the others, which can all be cancelled.
fn limit_workers(ring: &IoUring, most: u32) -> io::Result<()> {
    ring.submitter().register_iowq_max_workers(&mut [most, WAITING_WORKERS])
}

/// More than programs have of such waits, and no burden: 512 stacks of 16 KiB.
const WAITING_WORKERS: u32 = 512;

#[inline]
fn picked(flags: u32) -> Option<Picked> {
    let id = cqueue::buffer_select(flags)?;
    Some(Picked { id, unfinished: cqueue::buffer_more(flags) })
}

/// All operations of the floor exist in Linux 6.1; a kernel built without one says so here.
fn check_operations(ring: &IoUring) -> Result<(), Unavailable> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(refusal::explain)?;
    let needed = [
        ("NOP", opcode::Nop::CODE),
        ("READ", opcode::Read::CODE),
        ("WRITE", opcode::Write::CODE),
        ("ACCEPT", opcode::Accept::CODE),
        ("CONNECT", opcode::Connect::CODE),
        ("RECV", opcode::Recv::CODE),
        ("SEND", opcode::Send::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("RECVMSG", opcode::RecvMsg::CODE),
        ("SHUTDOWN", opcode::Shutdown::CODE),
        ("CLOSE", opcode::Close::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel2::CODE),
    ];
    match needed.iter().find(|(_, code)| !probe.is_supported(*code)) {
        None => Ok(()),
        Some((name, _)) => Err(refusal::missing(name)),
    }
}

/// By user_data only, which is a hash look-up in the kernel, and silent when it hits.
fn cancel_for(token: Token) -> squeue::Entry {
    opcode::AsyncCancel2::new(CancelBuilder::user_data(token.bits()))
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
}

#[inline]
fn send_for(fd: RawFd, from: Region, all: bool) -> squeue::Entry {
    let flags = if all { libc::MSG_NOSIGNAL | libc::MSG_WAITALL } else { libc::MSG_NOSIGNAL };
    opcode::Send::new(Fd(fd), from.address(), from.len()).flags(flags).build()
}

#[inline(never)]
fn entry_for(request: &Request) -> squeue::Entry {
    match *request {
        Request::Nop => opcode::Nop::new().build(),
        Request::Accept { fd, multishot: true } => {
            opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC).build()
        }
        Request::Accept { fd, multishot: false } => {
            let nobody = std::ptr::null_mut();
            opcode::Accept::new(Fd(fd), nobody, nobody.cast()).flags(libc::SOCK_CLOEXEC).build()
        }
        Request::Connect { fd, to } => {
            opcode::Connect::new(Fd(fd), to.address().cast(), to.len()).build()
        }
        Request::Recv { fd, into } => opcode::Recv::new(Fd(fd), into.address(), into.len()).build(),
        Request::RecvPool { fd, group, multishot: true } => {
            opcode::RecvMulti::new(Fd(fd), group).build()
        }
        Request::RecvPool { fd, group, multishot: false } => {
            // Length 0: as much as the buffer that is picked holds.
            opcode::Recv::new(Fd(fd), std::ptr::null_mut(), 0)
                .buf_group(group)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT)
        }
        Request::Read { fd, into, at } => {
            opcode::Read::new(Fd(fd), into.address(), into.len()).offset(at).build()
        }
        Request::ReadRegistered { fd, into, spot: Spot { at, place } } => {
            opcode::ReadFixed::new(Fd(fd), into.address(), into.len(), place).offset(at).build()
        }
        Request::ReadPool { fd, group, multishot: true } => {
            opcode::ReadMulti::new(Fd(fd), 0, group).offset(HERE).build()
        }
        Request::ReadPool { fd, group, multishot: false } => {
            opcode::Read::new(Fd(fd), std::ptr::null_mut(), 0)
                .offset(HERE)
                .buf_group(group)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT)
        }
        Request::Write { fd, from, at } => {
            opcode::Write::new(Fd(fd), from.address(), from.len()).offset(at).build()
        }
        Request::WriteRegistered { fd, from, spot: Spot { at, place } } => {
            opcode::WriteFixed::new(Fd(fd), from.address(), from.len(), place).offset(at).build()
        }
        Request::Send { fd, from, all } => send_for(fd, from, all),
        Request::SendZeroCopy { fd, from } => {
            opcode::SendZc::new(Fd(fd), from.address(), from.len())
                .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
                .build()
        }
        Request::WritePieces { fd, list, at } => {
            opcode::Writev::new(Fd(fd), list.address().cast(), count_of(list)).offset(at).build()
        }
        Request::ReadPieces { fd, list, at } => {
            opcode::Readv::new(Fd(fd), list.address().cast(), count_of(list)).offset(at).build()
        }
        Request::SendPieces { fd, header } => opcode::SendMsg::new(Fd(fd), header.address().cast())
            .flags((libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32)
            .build(),
        Request::Splice { from, to, at, len, course } => splice_for(from, to, at, len, course),
        Request::File(request) => file::entry_for(&request),
        Request::Poll { fd, events } => opcode::PollAdd::new(Fd(fd), events).build(),
        Request::SendMsg { fd, message } => message_for(fd, message),
        // With MSG_TRUNC the result is the length of the message, also where it did not fit.
        Request::RecvMsg { fd, message } => opcode::RecvMsg::new(Fd(fd), message.address().cast())
            .flags((libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC) as u32)
            .build(),
        Request::RecvMsgPool { fd, group, message } => {
            opcode::RecvMsgMulti::new(Fd(fd), message.address().cast(), group)
                .flags(libc::MSG_TRUNC as u32)
                .build()
        }
        Request::Shutdown { fd, how } => opcode::Shutdown::new(Fd(fd), how).build(),
        // SAFETY: an `Entry`, which has the same layout, lies there for as long as the request is known.
        Request::Raw { entry } => unsafe { entry.address().cast::<squeue::Entry>().read() },
        Request::Close { fd, may_block } => {
            // Else the kernel closes in this thread, and a socket that lingers would stop it for as
            // long.
            let how = if may_block { squeue::Flags::ASYNC } else { squeue::Flags::empty() };
            opcode::Close::new(Fd(fd)).build().flags(how)
        }
    }
}

/// What has nothing beside its bytes goes out as a plain send, which spares the kernel the reading of a header
/// and a list.
fn message_for(fd: RawFd, message: Region) -> squeue::Entry {
    // SAFETY: a linked `Envelope` lies there for as long as the request is known, and nobody writes it.
    let envelope = unsafe { &*message.address().cast::<Envelope>() };
    match envelope.plain() {
        Some(Plain { bytes, len, to, to_len }) => opcode::Send::new(Fd(fd), bytes, len)
            .flags(libc::MSG_NOSIGNAL)
            .dest_addr(to)
            .dest_addr_len(to_len)
            .build(),
        None => opcode::SendMsg::new(Fd(fd), message.address().cast())
            .flags(libc::MSG_NOSIGNAL as u32)
            .build(),
    }
}

fn splice_for(from: RawFd, to: RawFd, at: u64, len: u32, course: Course) -> squeue::Entry {
    let (from_at, to_at) = if course == Course::Out { (HERE, at) } else { (at, HERE) };
    let flags = if course == Course::InAtOnce { libc::SPLICE_F_NONBLOCK } else { 0 };
    opcode::Splice::new(Fd(from), from_at as i64, Fd(to), to_at as i64, len).flags(flags).build()
}

/// How many pieces of memory a list names.
fn count_of(list: Region) -> u32 {
    list.len() / size_of::<libc::iovec>() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wait_is_made_longer() {
        assert_eq!(with_slack(Duration::ZERO), Duration::ZERO);
        assert_eq!(with_slack(Duration::from_micros(1)), Duration::from_micros(51));
        assert_eq!(with_slack(Duration::MAX), Duration::MAX);
    }
}
