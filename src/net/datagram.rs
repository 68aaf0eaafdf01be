//! What all sockets for datagrams have in common: each send is a message, and each receive brings one.
//!
//! Datagrams that arrive for nobody wait with the socket: a multishot goes on between two receives.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::error::{Error, Result};
use crate::exec::{self, OneShot, Operation, Pause, Run, Verdict, judge};
use crate::io::{self as streams, Half, IntoFdError};
use crate::op::{
    BufError, Fd, IoBuf, IoBufMut, Kind, MESSAGE_GROUP, Message, Storage, Submission, Taken,
};
use crate::ring::{Descriptor, Descriptors, SockAddr};

/// A socket for datagrams, of whatever family.
pub(super) struct Datagrams {
    run: Rc<Run>,
    fd: Fd,
    /// It is of the internet: the kernel may put datagrams together.
    segments: bool,
    receiving: Half<Receiving>,
}

#[derive(Default)]
struct Receiving {
    /// What has arrived for futures that were dropped, oldest first: messages, and errors of former sends.
    stash: VecDeque<Result<Message, i32>>,
    active: Active,
    /// The pool was empty and may not grow: the next receive brings its own memory.
    short: bool,
}

/// What the kernel is doing for the socket.
#[derive(Default)]
enum Active {
    #[default]
    Nothing,
    /// It receives into the pool, again and again.
    Pool(Operation),
    /// It receives into memory of its own; the message is wanted, the buffer is not.
    Owned(Operation),
}

impl Datagrams {
    pub(super) fn new(run: Rc<Run>, socket: Descriptor) -> Datagrams {
        let fd = run.adopt(socket);
        Datagrams { run, fd, segments: false, receiving: Half::default() }
    }

    /// One of the internet.
    pub(super) fn with_segments(self) -> Datagrams {
        Datagrams { segments: true, ..self }
    }

    pub(super) fn run(&self) -> &Rc<Run> {
        &self.run
    }

    pub(super) fn recv(&self) -> RecvMessage<'_> {
        RecvMessage { socket: self, waiting: false, attempts: 0, pause: None }
    }

    pub(super) fn recv_into<B: IoBufMut, A>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<(B, A), BufError<B>>> + use<'_, B, A>
    where
        A: TryFrom<SockAddr, Error = io::Error>,
    {
        let storage = Storage::message_to_fill(buf, self.run.shelf());
        let mut receive = RecvInto::new(self, storage, false);
        poll_fn(move |cx| Pin::new(&mut receive).poll(cx).map_ok(|(buf, _, from)| (buf, from)))
    }

    pub(super) fn recv_fds<B: IoBufMut, A>(&self, buf: B) -> RecvInto<'_, B, A> {
        let storage = Storage::message_and_control_to_fill(buf, self.run.shelf());
        RecvInto::new(self, storage, true)
    }

    pub(super) fn send<B: IoBuf>(&self, buf: B, to: Option<SockAddr>) -> SendMessage<'_, B> {
        let shelf = self.run.shelf();
        // To the peer, and with nothing beside the bytes: they are the message.
        let storage = match to {
            Some(to) => Storage::message_to_send(buf, to, shelf),
            None => Storage::to_send(buf, shelf),
        };
        SendMessage::new(self, storage)
    }

    pub(super) fn send_fds<B: IoBuf>(
        &self,
        buf: B,
        fds: Vec<Descriptor>,
        to: Option<SockAddr>,
    ) -> SendMessage<'_, B> {
        let refused = self.run.host().check_to_send(&fds).err();
        let storage = Storage::message_with_descriptors(buf, to, fds, self.run.shelf());
        let send = SendMessage::new(self, storage);
        SendMessage { refused: refused.or(send.refused), ..send }
    }

    /// Gives the descriptor away, if no datagram would be lost.
    pub(super) async fn into_fd(self) -> Result<Descriptor, IntoFdError<Datagrams>> {
        match self.settle().await {
            Ok(()) => {}
            Err(error) => return Err(IntoFdError::new(error, self)),
        }
        let Datagrams { run, fd, segments, receiving } = self;
        streams::give(fd).map_err(|kept| kept.of(|fd| Datagrams { run, fd, segments, receiving }))
    }

    async fn settle(&self) -> Result {
        exec::check_run(&self.run)?;
        self.run.answer_at_once().await?;
        poll_fn(|cx| self.receiving.with(|half| half.poll_nothing(&self.run, cx))).await
    }

    pub(super) async fn close(self) -> Result {
        let left = match self.receiving.into_inner().active {
            Active::Nothing => Vec::new(),
            Active::Pool(operation) | Active::Owned(operation) => vec![operation],
        };
        streams::close(&self.run, self.fd, left).await
    }
}

impl AsRawFd for Datagrams {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fd.fmt(f)
    }
}

impl Receiving {
    /// Puts what has arrived on the stash. Pending while the kernel still works and nothing has come; an
    /// error concerns the receive that is being made.
    fn poll_arrival(
        &mut self,
        run: &Rc<Run>,
        attempts: &mut u8,
        cx: &mut Context<'_>,
    ) -> Poll<Result> {
        match &mut self.active {
            Active::Nothing => Poll::Ready(Ok(())),
            Active::Pool(operation) => {
                let Taken { result, value, more } = ready!(operation.poll_chunk(cx));
                let is_refusal = operation.is_refusal(result);
                if !more {
                    self.active = Active::Nothing;
                }
                if let Some(chunk) = value.filter(|_| result >= 0) {
                    *attempts = 0;
                    self.stash.push_back(Ok(Message::open(chunk)));
                    return Poll::Ready(Ok(()));
                }
                if is_refusal {
                    run.lacks(|capabilities| capabilities.multishot_recvmsg = false);
                    return Poll::Ready(Ok(()));
                }
                if result == EMPTY_POOL {
                    let pool = run.message_pool();
                    self.short = !pool.has_buffers() && !pool.grow();
                    return Poll::Ready(Ok(()));
                }
                judge_receive(run, &Kind::RECV_MESSAGES, result, attempts)
            }
            Active::Owned(operation) => {
                let (result, message, remains) = ready!(operation.poll_message(cx));
                self.active = Active::Nothing;
                // To drop the buffer is other people's code, which may panic: until then the message
                // lies in the stash.
                if result >= 0 {
                    self.stash.push_back(Ok(message));
                } else if !exec::is_interruption(-result) {
                    self.stash.push_back(Err(-result));
                }
                drop(remains);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Ends what the kernel does, and keeps what has come. `false`: it does nothing.
    fn poll_former(
        &mut self,
        run: &Rc<Run>,
        attempts: &mut u8,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool>> {
        match &self.active {
            Active::Nothing => return Poll::Ready(Ok(false)),
            Active::Pool(operation) | Active::Owned(operation) => operation.cancel(),
        }
        self.poll_arrival(run, attempts, cx).map_ok(|()| true)
    }

    /// The same until it does nothing; an error if something has come that nobody has taken.
    fn poll_nothing(&mut self, run: &Rc<Run>, cx: &mut Context<'_>) -> Poll<Result> {
        while ready!(self.poll_former(run, &mut 0, cx))? {}
        Poll::Ready(match self.stash.is_empty() {
            true => Ok(()),
            false => Err(streams::unread("datagrams have come")),
        })
    }

    /// Has the kernel receive.
    fn arm(&mut self, socket: &Datagrams, cx: &Context<'_>) {
        let run = &socket.run;
        let multishot = run.capabilities().multishot_recvmsg;
        self.active = if mem::take(&mut self.short) || !multishot {
            let (own, shelf) = (Vec::with_capacity(OWN), run.shelf());
            let own = match socket.segments {
                true => Storage::message_and_control_to_fill(own, shelf),
                false => Storage::message_to_fill(own, shelf),
            };
            let receive = Submission::recv_message(&socket.fd, own);
            Active::Owned(Operation::start(run, cx, || receive))
        } else {
            // Made when it is first asked for.
            run.message_pool();
            let receive = Submission::recv_messages(&socket.fd, MESSAGE_GROUP, socket.segments);
            Active::Pool(Operation::start_repeating(run, cx, receive))
        };
    }

    /// Nobody waits any more; what the kernel does goes on.
    fn rest(&self) {
        if let Active::Pool(operation) | Active::Owned(operation) = &self.active {
            operation.rest();
        }
    }
}

/// What the end of a receive without a message means: once more, or an error.
fn judge_receive(run: &Run, kind: &Kind, result: i32, attempts: &mut u8) -> Poll<Result> {
    Poll::Ready(match ready!(judge(run, kind, result, attempts)) {
        Verdict::Again | Verdict::Result(Ok(_)) => Ok(()),
        Verdict::Cancelled(cancelled) => Err(cancelled.into()),
        Verdict::Result(Err(error)) => Err(error),
    })
}

const EMPTY_POOL: i32 = -libc::ENOBUFS;

/// Bytes that a receive has room for when the pool has none: no datagram of UDP is larger.
const OWN: usize = 64 << 10;

const RECEIVER: &str = "the receiving side of the socket";

/// The wait for a message.
pub(super) struct RecvMessage<'a> {
    socket: &'a Datagrams,
    waiting: bool,
    attempts: u8,
    pause: Option<Pause>,
}

impl RecvMessage<'_> {
    fn poll_recv(&mut self, half: &mut Receiving, cx: &mut Context<'_>) -> Poll<Result<Message>> {
        let run = &self.socket.run;
        loop {
            if !half.stash.is_empty() {
                ready!(run.poll_budget(&mut self.pause, cx));
            }
            if let Some(arrived) = half.stash.pop_front() {
                run.progress();
                return Poll::Ready(arrived.map_err(os_error));
            }
            if let Active::Nothing = half.active {
                ready!(run.cancel_point())?;
                half.arm(self.socket, cx);
                return Poll::Pending;
            }
            ready!(half.poll_arrival(run, &mut self.attempts, cx))?;
        }
    }
}

impl Future for RecvMessage<'_> {
    type Output = Result<Message>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Message>> {
        let socket = self.socket;
        ready!(socket.receiving.poll_wait(&socket.run, &mut self.waiting, RECEIVER))?;
        let received = ready!(socket.receiving.with(|half| self.poll_recv(half, cx)));
        socket.receiving.leave();
        (self.waiting, self.attempts) = (false, 0);
        Poll::Ready(received.and_then(|message| match message.bytes().len() {
            room if message.len > room => Err(cut(message.len, room).into()),
            _ => Ok(message),
        }))
    }
}

impl Drop for RecvMessage<'_> {
    /// The kernel goes on receiving, for the next one who waits, until the scope ends.
    fn drop(&mut self) {
        if self.waiting {
            self.socket.receiving.with(|half| half.rest());
            self.socket.receiving.leave();
        }
    }
}

/// The receive of a message into a caller's buffer, with descriptors if there is room for them.
///
/// Written by hand: an `async fn` would point into itself, and whoever only looks at it would break the
/// rules of references.
pub(super) struct RecvInto<'a, B, A> {
    receiver: Receiver<'a>,
    /// Descriptors are asked for. Else those that come are closed, and it is no error if some were lost.
    with_fds: bool,
    buffer: PhantomData<fn() -> (B, A)>,
}

impl<'a, B, A> RecvInto<'a, B, A> {
    fn new(socket: &'a Datagrams, storage: Storage, with_fds: bool) -> RecvInto<'a, B, A> {
        let once = OneShot::new(Some(storage));
        let receiver = Receiver { socket, entered: false, once, pause: None };
        RecvInto { receiver, with_fds, buffer: PhantomData }
    }
}

impl<B: IoBufMut, A: TryFrom<SockAddr, Error = io::Error>> Future for RecvInto<'_, B, A> {
    /// The buffer with the message, the descriptors, and who sent it.
    type Output = Result<(B, Vec<Descriptor>, A), BufError<B>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let RecvInto { receiver, with_fds, .. } = &mut *self;
        let outcome = ready!(receiver.poll(cx));
        let storage = receiver.once.take_storage().expect("nothing is in flight");
        let begun = receiver.entered;
        receiver.leave();
        let (done, shelf) = (storage.filled(), receiver.socket.run.shelf());
        // One that did not begin leaves the content as it was.
        let buf = if begun { storage.into_message(shelf) } else { storage.into_message_buf(shelf) };
        let whole = outcome.and_then(|(from, came)| {
            let fds = if *with_fds { came.all()? } else { Vec::new() };
            Ok((A::try_from(from)?, fds))
        });
        Poll::Ready(match whole {
            Ok((from, fds)) => Ok((buf, fds, from)),
            Err(error) => Err(BufError::new(error, done, buf)),
        })
    }
}

/// Whoever receives into a buffer. Dropping it leaves what comes with the socket.
struct Receiver<'a> {
    socket: &'a Datagrams,
    /// It has the receiving side.
    entered: bool,
    once: OneShot,
    pause: Option<Pause>,
}

impl Receiver<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(SockAddr, Descriptors)>> {
        let run = &self.socket.run;
        if !self.entered {
            if self.once.storage().len() == 0 {
                let text = "the buffer has no room to receive into";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, text).into()));
            }
            exec::check_run(run)?;
            self.socket.receiving.enter(RECEIVER)?;
            self.entered = true;
            ready!(run.cancel_point())?;
        }
        loop {
            if self.once.is_in_flight() {
                if let Some(len) = ready!(self.once.poll_end(run, cx))? {
                    let storage = self.once.storage();
                    let (room, came) =
                        (storage.len(), (storage.sender(), storage.take_descriptors()));
                    return Poll::Ready(whole(len as usize, room, came));
                }
            }
            if self.socket.receiving.with(|half| !half.stash.is_empty()) {
                ready!(run.poll_budget(&mut self.pause, cx));
                run.progress();
            }
            if let Some(arrived) = self.socket.receiving.with(|half| half.stash.pop_front()) {
                let message = arrived.map_err(os_error)?;
                let storage = self.once.storage();
                storage.append(message.bytes());
                // It may have been cut already, for whoever was dropped.
                let (room, there) = (storage.len(), message.bytes().len());
                let room = if message.len > there { room.min(there) } else { room };
                let came = (message.sender(), message.descriptors);
                return Poll::Ready(whole(message.len, room, came));
            }
            ready!(run.cancel_point())?;
            if !ready!(self.poll_former(cx))? {
                let fd = &self.socket.fd;
                self.once.start(run, cx, |storage| {
                    Submission::recv_message(fd, storage.expect("looked at above"))
                });
                return Poll::Pending;
            }
        }
    }

    /// Ends what the kernel still does for former receives: it would take the message that this one is
    /// to have. `false`: there is nothing.
    fn poll_former(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        let (run, attempts) = (&self.socket.run, self.once.attempts());
        self.socket.receiving.with(|half| half.poll_former(run, attempts, cx))
    }

    /// Leaves what it does to the socket.
    fn leave(&mut self) {
        if !mem::replace(&mut self.entered, false) {
            return;
        }
        let operation = self.once.take_operation();
        self.socket.receiving.with(|half| {
            if let Some(operation) = operation {
                operation.cancel();
                half.active = Active::Owned(operation);
            }
            half.rest();
        });
        self.socket.receiving.leave();
    }
}

impl Drop for Receiver<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A message that is being sent. Several may be at a time, since each goes out as a whole.
pub(super) struct SendMessage<'a, B> {
    socket: &'a Datagrams,
    once: OneShot,
    /// Why it is not sent.
    refused: Option<io::Error>,
    buffer: PhantomData<fn() -> B>,
}

impl<'a, B> SendMessage<'a, B> {
    fn new(socket: &'a Datagrams, storage: Storage) -> SendMessage<'a, B> {
        let refused = storage.check_whole().err();
        let once = OneShot::new(Some(storage));
        SendMessage { socket, once, refused, buffer: PhantomData }
    }
}

impl<B: IoBuf> Future for SendMessage<'_, B> {
    type Output = Result<B, BufError<B>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let SendMessage { socket, once, refused, .. } = &mut *self;
        assert!(once.is_in_flight() || once.has_storage(), "a send is not polled after its end");
        let refused = refused.take().map_or(Ok(()), |error| Err(error.into()));
        let outcome = match exec::check_run(&socket.run).and(refused) {
            Ok(()) => ready!(once.poll(cx, |storage| {
                Submission::send_message(&socket.fd, storage.expect("looked at above"))
            })),
            Err(finished) => Err(finished),
        };
        let storage = once.take_storage().expect("nothing is in flight");
        let buf = storage.into_message_buf(socket.run.shelf());
        Poll::Ready(match outcome {
            Ok(_) => Ok(buf),
            Err(error) => Err(BufError::new(error, 0, buf)),
        })
    }
}

/// A message of this length came, for which there was so much room.
fn whole<T>(len: usize, room: usize, came: T) -> Result<T> {
    if len > room { Err(cut(len, room).into()) } else { Ok(came) }
}

/// A message was longer than what there was room for.
fn cut(len: usize, room: usize) -> io::Error {
    let text = format!(
        "a datagram of {len} bytes came, and there was room for {room}: the rest is lost; \
         receive into a larger buffer"
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn os_error(errno: i32) -> Error {
    io::Error::from_raw_os_error(errno).into()
}
