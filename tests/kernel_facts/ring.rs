//! A ring that knows what it lent to the kernel.
//!
//! Requests are made by methods, so that every pointer the kernel sees belongs to the ring. An
//! operation's memory stays put until its terminal CQE; if a failing test leaves an operation in
//! the kernel the memory is leaked, because closing a ring is no barrier.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};

use crate::pool::Pool;
use crate::sockets::to_sockaddr;
use crate::world::{Mode, NOT_FOUND, row};

/// The one buffer group a test uses.
const GROUP: u16 = 0;

/// The user_data of one activation, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(u64);

/// A completion, copied out of the ring.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    pub token: Token,
    pub result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the activation goes on after this CQE.
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The pool buffer this CQE hands over.
    pub fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// What became of an operation that was asked to cancel.
#[derive(Debug)]
pub struct Outcome {
    /// The result of the cancel request.
    pub cancel: i32,
    /// All CQEs of the target not asked for before, the terminal one last.
    pub target: Vec<Completion>,
}

impl Outcome {
    pub fn results(&self) -> Vec<i32> {
        self.target.iter().map(|completion| completion.result).collect()
    }

    /// The cancel's result and the target's last.
    pub fn pair(&self) -> (i32, i32) {
        let last = self.target.last().expect("a target has a terminal CQE");
        (self.cancel, last.result)
    }
}

pub struct Ring {
    uring: IoUring,
    mode: Mode,
    tokens: u64,
    /// Activations that have not had their terminal CQE. While there are any, `blocks` and `pool`
    /// may be written by the kernel; so may what is registered.
    in_kernel: BTreeSet<Token>,
    /// Cancels that post a CQE only on failure.
    silent: BTreeSet<Token>,
    /// CQEs taken from the ring that no test has asked for yet.
    reaped: VecDeque<Completion>,
    /// Raw, not boxed: a box that moves would assert that nobody else writes.
    blocks: BTreeMap<Token, *mut [u8]>,
    pool: Option<Pool>,
    /// What the kernel knows beforehand, and may write while there are any as well.
    registered: Option<*mut [u8]>,
}

impl Ring {
    pub fn new(mode: Mode) -> Ring {
        Ring::sized(mode, 128, 256)
    }

    pub fn sized(mode: Mode, submissions: u32, completions: u32) -> Ring {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions);
        if mode == Mode::Defer {
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        }
        Ring {
            uring: builder.build(submissions).expect("io_uring with the flags of Linux 6.1"),
            mode,
            tokens: 0,
            in_kernel: BTreeSet::new(),
            silent: BTreeSet::new(),
            reaped: VecDeque::new(),
            blocks: BTreeMap::new(),
            pool: None,
            registered: None,
        }
    }

    /// Cancels `target`, drives both to their end, prints the row. The target has one CQE.
    pub fn pair(&mut self, what: &str, target: Token) -> (i32, i32) {
        let outcome = self.outcome(what, target);
        assert_eq!(outcome.target.len(), 1, "{what}, {}: {outcome:?}", self.mode);
        outcome.pair()
    }

    /// Cancels `target`, drives both to their end, prints the row.
    pub fn outcome(&mut self, what: &str, target: Token) -> Outcome {
        let cancel = self.cancel(target);
        let outcome = Outcome { cancel: self.result(cancel), target: self.finish(target) };
        row(what, self.mode, &[outcome.cancel], &outcome.results());
        outcome
    }

    /// Cancels `target` again and again, as long as it is not found and yet stays in the kernel;
    /// prints the row. Returns what the cancels said, and the target's one result.
    pub fn insist(&mut self, what: &str, target: Token) -> (Vec<i32>, i32) {
        let mut cancels = Vec::new();
        loop {
            let cancel = self.cancel(target);
            let said = self.result(cancel);
            cancels.push(said);
            if said != NOT_FOUND || !self.is_quiet(target) {
                break;
            }
            assert!(cancels.len() < 100, "{what}, {}: never found", self.mode);
        }
        let result = self.result(target);
        row(what, self.mode, &cancels, &[result]);
        (cancels, result)
    }

    /// The result of an operation that posts one CQE, waited for.
    pub fn result(&mut self, token: Token) -> i32 {
        let completion = self.next(token);
        assert!(!completion.more(), "a single shot goes on: {completion:?}");
        completion.result
    }

    /// All CQEs of `token` from here to the terminal one, waited for.
    pub fn finish(&mut self, token: Token) -> Vec<Completion> {
        let mut completions = vec![self.next(token)];
        while completions.last().is_some_and(Completion::more) {
            completions.push(self.next(token));
        }
        completions
    }

    /// The next CQE of `token`, waited for.
    pub fn next(&mut self, token: Token) -> Completion {
        loop {
            if let Some(completion) = self.take(token) {
                return completion;
            }
            let expected = self.in_kernel.contains(&token) || self.silent.contains(&token);
            assert!(expected, "{token:?} has ended");
            self.enter(1);
            self.reap();
        }
    }

    /// A CQE of `token` that was reaped already.
    pub fn take(&mut self, token: Token) -> Option<Completion> {
        let at = self.reaped.iter().position(|completion| completion.token == token)?;
        self.reaped.remove(at)
    }

    /// Lets the kernel do all it can do now, then says whether `token` got a CQE.
    pub fn is_quiet(&mut self, token: Token) -> bool {
        let fence = self.nop();
        assert_eq!(self.result(fence), 0);
        self.enter(0);
        self.reap();
        !self.reaped.iter().any(|completion| completion.token == token)
    }

    /// Submits what is queued, asking for no completions.
    pub fn submit(&mut self) {
        self.enter_raw(EnterFlags::empty(), 0);
    }

    /// Submits what is queued and asks for `wanted` completions, for a second at most.
    pub fn enter(&mut self, wanted: usize) {
        self.enter_raw(EnterFlags::GETEVENTS, wanted);
    }

    /// How many CQEs are in the ring, looking without a system call.
    pub fn visible(&mut self) -> usize {
        self.uring.completion().len()
    }

    /// Whether CQEs wait outside the full completion queue.
    pub fn overflowed(&mut self) -> bool {
        self.uring.submission().cq_overflow()
    }

    /// Whether the kernel says that there is deferred work.
    pub fn has_task_work(&mut self) -> bool {
        self.uring.submission().taskrun()
    }

    /// Takes all visible CQEs, without a system call; returns how many.
    pub fn reap(&mut self) -> usize {
        let before = self.reaped.len();
        for cqe in self.uring.completion() {
            let token = Token(cqe.user_data());
            let completion = Completion { token, result: cqe.result(), flags: cqe.flags() };
            let known = match completion.more() {
                true => self.in_kernel.contains(&token),
                false => self.in_kernel.remove(&token) || self.silent.remove(&token),
            };
            assert!(known, "a CQE after the terminal one: {completion:?}");
            self.reaped.push_back(completion);
        }
        self.reaped.len() - before
    }

    /// What a completed receive or read left in its block.
    pub fn bytes(&self, token: Token, len: i32) -> Vec<u8> {
        assert!(!self.in_kernel.contains(&token), "the kernel owns the block of {token:?}");
        let block = self.blocks[&token];
        let len = usize::try_from(len).expect("a count");
        assert!(len <= block.len());
        // SAFETY: the block lives as long as the ring; the assertions say that the terminal CQE
        // was reaped, so the kernel is done with it, and that `len` is inside.
        unsafe { std::slice::from_raw_parts(block.cast::<u8>(), len) }.to_vec()
    }

    fn enter_raw(&mut self, flags: EnterFlags, wanted: usize) {
        let second = Timespec::new().sec(1);
        let args = SubmitArgs::new().timespec(&second);
        let flags = flags | EnterFlags::EXT_ARG;
        loop {
            let queued = self.uring.submission().len() as u32;
            let submitter = self.uring.submitter();
            // SAFETY: EXT_ARG goes with `SubmitArgs`, which outlives the call; what the queued
            // entries point to is kept by `push`.
            let entered =
                unsafe { submitter.enter(queued, wanted as u32, flags.bits(), Some(&args)) };
            match entered {
                Ok(taken) => return assert_eq!(taken, queued as usize, "all entries are taken"),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} waiting for {wanted} of {:?}", self.in_kernel),
            }
        }
    }
}

/// Requests: each is queued under a token of its own, and submitted by the next enter.
impl Ring {
    pub fn nop(&mut self) -> Token {
        self.push(opcode::Nop::new().build())
    }

    pub fn accept(&mut self, listener: impl AsFd) -> Token {
        self.push(opcode::Accept::new(fd(&listener), ptr::null_mut(), ptr::null_mut()).build())
    }

    pub fn accept_multi(&mut self, listener: impl AsFd) -> Token {
        self.push(opcode::AcceptMulti::new(fd(&listener)).build())
    }

    pub fn connect(&mut self, socket: impl AsFd, to: SocketAddrV4) -> Token {
        let address = to_sockaddr(to);
        let block: *mut [u8] = Box::into_raw(Box::from(address));
        let len = address.len() as libc::socklen_t;
        self.push_with(block, opcode::Connect::new(fd(&socket), block.cast(), len).build())
    }

    pub fn recv(&mut self, socket: impl AsFd, len: usize, flags: i32) -> Token {
        let block = zeroed(len);
        let recv = opcode::Recv::new(fd(&socket), block.cast(), len as u32).flags(flags);
        self.push_with(block, recv.build())
    }

    pub fn send(&mut self, socket: impl AsFd, bytes: &[u8], flags: i32) -> Token {
        let block: *mut [u8] = Box::into_raw(Box::from(bytes));
        let send = opcode::Send::new(fd(&socket), block.cast(), bytes.len() as u32).flags(flags);
        self.push_with(block, send.build())
    }

    pub fn read(&mut self, file: impl AsFd, len: usize) -> Token {
        let block = zeroed(len);
        // -1: at the file's own position, as read(2).
        let read = opcode::Read::new(fd(&file), block.cast(), len as u32).offset(u64::MAX);
        self.push_with(block, read.build())
    }

    /// Writes at a place.
    pub fn write_at(&mut self, file: impl AsFd, bytes: &[u8], at: u64) -> Token {
        let block: *mut [u8] = Box::into_raw(Box::from(bytes));
        let write = opcode::Write::new(fd(&file), block.cast(), bytes.len() as u32).offset(at);
        self.push_with(block, write.build())
    }

    /// Sends to an address, as sendto(2).
    pub fn send_to(&mut self, socket: impl AsFd, bytes: &[u8], to: SocketAddrV4) -> Token {
        let address = to_sockaddr(to);
        let block: *mut [u8] = Box::into_raw([&address, bytes].concat().into_boxed_slice());
        let from = block.cast::<u8>().wrapping_add(address.len());
        let send = opcode::Send::new(fd(&socket), from, bytes.len() as u32)
            .dest_addr(block.cast())
            .dest_addr_len(address.len() as libc::socklen_t);
        self.push_with(block, send.build())
    }

    /// Sends what lies in several places.
    pub fn send_pieces(&mut self, socket: impl AsFd, pieces: &[&[u8]], flags: i32) -> Token {
        let block = in_pieces(pieces);
        let send = opcode::SendMsg::new(fd(&socket), block.cast()).flags(flags as u32);
        self.push_with(block, send.build())
    }

    /// Writes what lies in several places, to byte `at` (-1: to the file's own position).
    pub fn write_pieces(&mut self, file: impl AsFd, pieces: &[&[u8]], at: u64) -> Token {
        let block = in_pieces(pieces);
        let list = block.cast::<u8>().wrapping_add(size_of::<libc::msghdr>()).cast();
        let write = opcode::Writev::new(fd(&file), list, pieces.len() as u32).offset(at);
        self.push_with(block, write.build())
    }

    /// Reads into several places of these sizes, from byte `at` on.
    pub fn read_pieces(&mut self, file: impl AsFd, sizes: &[usize], at: u64) -> Token {
        let rooms: Vec<_> = sizes.iter().map(|&size| vec![0; size]).collect();
        let block = in_pieces(&rooms.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let list = block.cast::<u8>().wrapping_add(size_of::<libc::msghdr>()).cast();
        let read = opcode::Readv::new(fd(&file), list, sizes.len() as u32).offset(at);
        self.push_with(block, read.build())
    }

    /// What a finished read into so many pieces left in all of them, which lie one behind the other.
    pub fn in_places(&self, token: Token, pieces: usize, len: i32) -> Vec<u8> {
        let before = pieces_begin(pieces);
        self.bytes(token, before as i32 + len).split_off(before)
    }

    /// Opens a path (openat2); with `in_worker` not first without blocking.
    pub fn open(&mut self, path: &Path, flags: i32, in_worker: bool) -> Token {
        let how = [(flags | libc::O_CLOEXEC) as u64, 0, 0];
        let mut bytes: Vec<u8> = how.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(path.as_os_str().as_bytes());
        bytes.push(0);
        let block: *mut [u8] = Box::into_raw(bytes.into_boxed_slice());
        let path = block.cast::<libc::c_char>().wrapping_add(size_of_val(&how));
        let open = opcode::OpenAt2::new(Fd(libc::AT_FDCWD), path, block.cast()).build();
        let how = if in_worker { Flags::ASYNC } else { Flags::empty() };
        self.push_with(block, open.flags(how))
    }

    pub fn fsync(&mut self, file: impl AsFd) -> Token {
        self.push(opcode::Fsync::new(fd(&file)).build())
    }

    /// Moves bytes out of a pipe.
    pub fn splice(&mut self, pipe: impl AsFd, to: impl AsFd, len: u32) -> Token {
        self.push(opcode::Splice::new(fd(&pipe), -1, fd(&to), -1, len).build())
    }

    /// Moves what is there into a pipe, without waiting where the kernel heeds that.
    pub fn divert(&mut self, from: impl AsFd, pipe: impl AsFd, len: u32) -> Token {
        let splice = opcode::Splice::new(fd(&from), -1, fd(&pipe), -1, len);
        self.push(splice.flags(libc::SPLICE_F_NONBLOCK).build())
    }

    pub fn shutdown(&mut self, socket: impl AsFd) -> Token {
        self.push(opcode::Shutdown::new(fd(&socket), libc::SHUT_RDWR).build())
    }

    pub fn close(&mut self, file: impl Into<OwnedFd>) -> Token {
        self.push(opcode::Close::new(Fd(file.into().into_raw_fd())).build())
    }

    pub fn poll(&mut self, file: impl AsFd) -> Token {
        self.push(opcode::PollAdd::new(fd(&file), libc::POLLIN as u32).build())
    }

    pub fn poll_multi(&mut self, file: impl AsFd) -> Token {
        self.push(opcode::PollAdd::new(fd(&file), libc::POLLIN as u32).multi(true).build())
    }

    pub fn cancel(&mut self, target: Token) -> Token {
        self.push(opcode::AsyncCancel::new(target.0).build())
    }

    /// A cancel that posts a CQE only if it fails.
    pub fn cancel_silently(&mut self, target: Token) -> Token {
        let cancel = opcode::AsyncCancel::new(target.0).build().flags(Flags::SKIP_SUCCESS);
        let token = self.push(cancel);
        self.in_kernel.remove(&token);
        self.silent.insert(token);
        token
    }

    /// The token of the request that will be queued after the next one.
    pub fn token_after_next(&self) -> Token {
        Token(self.tokens + 2)
    }

    fn push_with(&mut self, block: *mut [u8], entry: Entry) -> Token {
        let token = self.push(entry);
        self.blocks.insert(token, block);
        token
    }

    /// `entry` points to nothing, to a block made for it, or into the pool.
    fn push(&mut self, entry: Entry) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        // SAFETY: blocks and pool are freed with the ring, and only if no operation is in the
        // kernel then; `in_kernel` holds this one until its terminal CQE.
        unsafe { self.uring.submission().push(&entry.user_data(token.0)) }.expect("queue space");
        self.in_kernel.insert(token);
        token
    }
}

/// Reads into memory that is known beforehand.
impl Ring {
    /// Makes so many places, and registers `len` bytes in the first of them.
    pub fn with_registered(mut self, places: u32, len: usize) -> Ring {
        self.try_register(places, len).expect("sparse tables are in Linux since 5.19");
        self
    }

    pub fn try_register(&mut self, places: u32, len: usize) -> io::Result<()> {
        self.uring.submitter().register_buffers_sparse(places)?;
        self.registered = Some(zeroed(len));
        self.try_register_again()
    }

    /// Registers the memory in the first place, whatever is known there.
    pub fn try_register_again(&mut self) -> io::Result<()> {
        let block = self.registered.expect("a ring with registered memory");
        let piece = libc::iovec { iov_base: block.cast(), iov_len: block.len() };
        // SAFETY: the block lives as long as the ring.
        unsafe { self.uring.submitter().register_buffers_update(0, &[piece], None) }
    }

    /// Nothing is known in the first place any more.
    pub fn unregister(&mut self) {
        let nothing = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: there is no memory.
        unsafe { self.uring.submitter().register_buffers_update(0, &[nothing], None) }.unwrap();
    }

    /// Reads from the start of a file to byte `to` of the registered memory; the request names this place.
    pub fn read_registered(&mut self, file: impl AsFd, place: u16, to: usize, len: u32) -> Token {
        // Where it is outside, the kernel has to refuse it.
        let into = self.registered.expect("registered memory").cast::<u8>().wrapping_add(to);
        self.push(opcode::ReadFixed::new(fd(&file), into, len, place).build())
    }

    /// What is in the registered memory, with which the kernel is done.
    pub fn registered(&self) -> Vec<u8> {
        assert!(self.in_kernel.is_empty(), "the kernel may write to it");
        // SAFETY: the block lives as long as the ring, and nothing is in the kernel.
        unsafe { (*self.registered.expect("registered memory")).to_vec() }
    }
}

/// Receives into the pool.
impl Ring {
    /// Registers a buffer ring with `count` buffers of `size` bytes.
    pub fn with_pool(mut self, count: u16, size: usize) -> Ring {
        let pool = Pool::new(count, size);
        self.register(&pool, 0).expect("buffer rings are in Linux since 5.19");
        let pool = self.pool.insert(pool);
        (0..count).for_each(|id| pool.provide(id));
        self
    }

    pub fn recv_select(&mut self, socket: impl AsFd) -> Token {
        let size = self.pool().size() as u32;
        let recv = opcode::Recv::new(fd(&socket), ptr::null_mut(), size).buf_group(GROUP);
        self.push(recv.build().flags(Flags::BUFFER_SELECT))
    }

    pub fn recv_multi(&mut self, socket: impl AsFd) -> Token {
        self.push(opcode::RecvMulti::new(fd(&socket), GROUP).build())
    }

    /// Receives messages with their senders' names, for each of which there is so much room.
    pub fn recv_messages(&mut self, socket: impl AsFd, name_room: u32) -> Token {
        self.recv_messages_with(socket, name_room, 0)
    }

    /// The same with room for control data behind that for the name.
    pub fn recv_messages_with(
        &mut self,
        socket: impl AsFd,
        name_room: u32,
        control_room: usize,
    ) -> Token {
        // SAFETY: all zeros is a valid header.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        (header.msg_namelen, header.msg_controllen) = (name_room, control_room);
        // SAFETY: a header without padding, as bytes.
        let bytes: [u8; size_of::<libc::msghdr>()] = unsafe { std::mem::transmute(header) };
        let block: *mut [u8] = Box::into_raw(Box::from(bytes));
        let recv = opcode::RecvMsgMulti::new(fd(&socket), block.cast(), GROUP);
        self.push_with(block, recv.flags(libc::MSG_TRUNC as u32).build())
    }

    /// Receives up to 16 bytes and control data: the block has a header, a piece, and from there on
    /// 64 bytes of control data, and the bytes.
    pub fn recv_control(&mut self, socket: impl AsFd) -> Token {
        const PIECE: usize = size_of::<libc::msghdr>();
        let block = zeroed(Ring::CONTROL + 64 + 16);
        let at = |offset| block.cast::<u8>().wrapping_add(offset);
        let piece = libc::iovec { iov_base: at(Ring::CONTROL + 64).cast(), iov_len: 16 };
        // SAFETY: all zeros is a valid header.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        (header.msg_iov, header.msg_iovlen) = (at(PIECE).cast(), 1);
        (header.msg_control, header.msg_controllen) = (at(Ring::CONTROL).cast(), 64);
        // SAFETY: both are within the block, which may not be aligned for them.
        unsafe {
            at(0).cast::<libc::msghdr>().write_unaligned(header);
            at(PIECE).cast::<libc::iovec>().write_unaligned(piece);
        }
        let recv = opcode::RecvMsg::new(fd(&socket), block.cast());
        self.push_with(block, recv.flags(libc::MSG_CMSG_CLOEXEC as u32).build())
    }

    /// Where the control data lies in the block of [`recv_control`](Ring::recv_control).
    pub const CONTROL: usize = size_of::<libc::msghdr>() + size_of::<libc::iovec>();

    /// The bytes in the buffer that `completion` handed over.
    pub fn lease(&mut self, completion: &Completion) -> Vec<u8> {
        let id = completion.buffer().expect("a buffer");
        let len = usize::try_from(completion.result).expect("a count");
        self.pool().read(id, len)
    }

    /// Gives the buffer of `completion` back to the kernel.
    pub fn give_back(&mut self, completion: &Completion) {
        let id = completion.buffer().expect("a buffer");
        self.pool().provide(id);
    }

    /// Whether the kernel takes a buffer ring with `flags`.
    pub fn try_pool(&self, flags: u16) -> io::Result<()> {
        let pool = Pool::new(1, 16);
        self.register(&pool, flags)?;
        self.uring.submitter().unregister_buf_ring(GROUP)
    }

    /// Whether the kernel takes its own descriptor as a registered one.
    pub fn try_registered(&self) -> io::Result<()> {
        let mut submitter = self.uring.submitter();
        submitter.register_ring_fd()?;
        submitter.unregister_ring_fd()
    }

    fn register(&self, pool: &Pool, flags: u16) -> io::Result<()> {
        let (entries, submitter) = (pool.entries(), self.uring.submitter());
        // SAFETY: the entries are page aligned and as many as stated. They live until the group
        // is unregistered (`try_pool`) or the ring is dropped (`with_pool`).
        unsafe { submitter.register_buf_ring_with_flags(entries, pool.slots(), GROUP, flags) }
    }

    fn pool(&mut self) -> &mut Pool {
        self.pool.as_mut().expect("a ring with a pool")
    }
}

impl Drop for Ring {
    /// A test ends with every activation ended and every CQE looked at.
    fn drop(&mut self) {
        // Leaked, unless it turns out that the kernel has let go of everything.
        let (blocks, pool) =
            (std::mem::take(&mut self.blocks), ManuallyDrop::new(self.pool.take()));
        let registered = self.registered.take();
        if std::thread::panicking() {
            return;
        }
        self.enter(0);
        self.reap();
        assert!(self.in_kernel.is_empty(), "no terminal CQE for {:?}", self.in_kernel);
        assert!(self.reaped.is_empty(), "nobody asked for {:?}", self.reaped);
        drop(ManuallyDrop::into_inner(pool));
        for block in blocks.into_values().chain(registered) {
            // SAFETY: made by `Box::into_raw`, freed once; nothing is in the kernel.
            drop(unsafe { Box::from_raw(block) });
        }
    }
}

fn fd(file: &impl AsFd) -> Fd {
    Fd(file.as_fd().as_raw_fd())
}

/// A header, the list of pieces that it points to, and behind them the pieces.
fn in_pieces(pieces: &[&[u8]]) -> *mut [u8] {
    let begin = pieces_begin(pieces.len());
    let block = zeroed(begin + pieces.iter().map(|piece| piece.len()).sum::<usize>());
    let at = |offset| block.cast::<u8>().wrapping_add(offset);
    // SAFETY: all zeros is a valid header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    let list = at(size_of::<libc::msghdr>()).cast::<libc::iovec>();
    (header.msg_iov, header.msg_iovlen) = (list, pieces.len());
    // SAFETY: it is within the block, which may not be aligned for it.
    unsafe { at(0).cast::<libc::msghdr>().write_unaligned(header) };
    let mut next = begin;
    for (index, piece) in pieces.iter().enumerate() {
        let entry = libc::iovec { iov_base: at(next).cast(), iov_len: piece.len() };
        // SAFETY: both are within the block, the list not aligned perhaps.
        unsafe {
            list.wrapping_add(index).write_unaligned(entry);
            at(next).copy_from_nonoverlapping(piece.as_ptr(), piece.len());
        }
        next += piece.len();
    }
    block
}

/// Where so many pieces begin in their block.
fn pieces_begin(count: usize) -> usize {
    size_of::<libc::msghdr>() + count * size_of::<libc::iovec>()
}

fn zeroed(len: usize) -> *mut [u8] {
    Box::into_raw(vec![0; len].into_boxed_slice())
}
