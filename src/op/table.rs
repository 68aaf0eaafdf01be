//! The table of operations in flight.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use crate::ring::{
    Completion, Descriptor, Descriptors, FileRequest, Host, Request, Token, TokenKind,
};
use crate::slots::{Key, Slots};

use super::block::Storage;
use super::fd::{Fd, Sole};
use super::kind::{Disposer, Kind};
use super::message::Message;
use super::pool::Chunk;
use super::pools::Pools;
use super::queue::{Drained, Queue};
use super::state::{Event, Phase, State, Step};
use super::stubborn::Stubborn;
use super::submission::Submission;

/// Every operation from its submission until its result was taken or disposed of.
pub(crate) struct Table {
    slots: Slots<Slot>,
    pools: Pools,
    /// Whose descriptors the results are.
    host: Host,
    /// Requests that wait to be pushed, in order.
    queue: Queue,
    /// Operations whose cancel request waits to be pushed.
    cancels: Queue,
    stubborn: Stubborn,
    in_kernel: usize,
    submitted: u64,
    withdrawn: u64,
    #[cfg(feature = "testing")]
    planted: Option<Bug>,
}

/// Mistakes that can be planted to see whether tests find them.
#[cfg(feature = "testing")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// The kernel's answer to a cancel request is taken for the end of the operation.
    FreeOnCancelCompletion,
    /// A cancel request for which the queue has no room is forgotten.
    LoseCancelWhenFull,
    /// A descriptor that comes after its accept was cancelled is forgotten.
    LeakAcceptedDescriptor,
}

/// One operation.
pub(crate) struct Slot {
    state: State,
    kind: &'static Kind,
    request: Request,
    fd: Option<Fd>,
    storage: Option<Storage>,
    /// The oldest result that was not taken yet. Mostly it is the only one, and costs no memory.
    answer: Option<Answer>,
    /// Those after it. Only multishots ever have any, so they lie elsewhere.
    #[expect(clippy::box_collection, reason = "a slot is made anew for each operation")]
    later: Option<Box<VecDeque<Answer>>>,
    progress: Progress,
    /// Who waits, in the words of whoever submitted it.
    waiter: u64,
    /// In ticks of the coarse clock.
    since: u32,
}

/// How far an operation has come that has not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Begun,
    /// A request to cancel it has not found it.
    Missed,
    /// It has said that it did nothing, and only keeps its memory: the kernel finds nothing to cancel.
    DidNothing,
    /// The same of one that has sent something, so that the peer decides how long the memory is kept.
    Sent,
}

/// A completion that waits to be taken or disposed of: until then nobody owns the descriptor or the
/// buffer that it names.
#[derive(Clone, Copy, Debug)]
struct Answer {
    result: i32,
    more: bool,
    /// The pool buffer that the kernel picked. It may pick one without receiving anything.
    buffer: Option<u16>,
    /// Where in it the bytes begin.
    begin: u32,
}

/// The only result of an operation, and the memory that it had.
pub(crate) struct Finished {
    pub(crate) kind: &'static Kind,
    pub(crate) result: i32,
    pub(crate) storage: Option<Storage>,
}

/// A result of a multishot, and what came with it.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    /// A negative error number, or not.
    pub(crate) result: i32,
    pub(crate) value: Option<T>,
    /// More will follow.
    pub(crate) more: bool,
}

/// What has to be done after something happened to an operation.
pub(crate) enum Action {
    Nothing,
    /// A result is there: wake the waiter. `last`: the kernel has let go.
    Wake {
        waiter: u64,
        last: bool,
    },
    /// The slot is free: unlink the waiter, and drop the remains where no borrow is held, since they
    /// are other people's code.
    Freed {
        waiter: u64,
        remains: Remains,
    },
}

/// What a slot still kept when it was freed.
pub(crate) struct Remains {
    fd: Option<Fd>,
    storage: Option<Storage>,
}

impl Remains {
    /// The descriptor, if nobody else has a share in it: it is to be closed.
    pub(crate) fn take_sole_descriptor(&mut self) -> Option<Sole> {
        match self.fd.take()?.into_sole() {
            Ok(sole) => Some(sole),
            Err(shared) => {
                self.fd = Some(shared);
                None
            }
        }
    }

    /// The descriptors that have come with a message.
    pub(crate) fn take_descriptors(&mut self) -> Descriptors {
        self.storage.as_mut().map(Storage::take_descriptors).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fd.is_none() && self.storage.is_none()
    }
}

impl Table {
    pub(crate) fn new(pools: Pools, host: Host) -> Table {
        Table {
            slots: Slots::new(),
            pools,
            host,
            queue: Queue::default(),
            cancels: Queue::default(),
            stubborn: Stubborn::new(),
            in_kernel: 0,
            submitted: 0,
            withdrawn: 0,
            #[cfg(feature = "testing")]
            planted: None,
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn plant(&mut self, bug: Bug) {
        self.planted = Some(bug);
    }

    /// Takes an operation in; it goes to the kernel with the next [`pump`](Table::pump). `waiter`
    /// tells who waits for it. The submission is made where it is to stay: copying it would cost as
    /// much as all the rest.
    #[inline]
    pub(crate) fn submit(
        &mut self,
        submission: impl FnOnce() -> Submission,
        now: Duration,
        waiter: impl FnOnce(Key<Slot>) -> u64,
    ) -> Key<Slot> {
        let key = self.slots.insert_with(|key| {
            let waiter = waiter(key);
            let Submission { kind, request, fd, storage } = submission();
            Slot {
                state: State::new(kind.cancellable),
                kind,
                request,
                fd,
                storage,
                answer: None,
                later: None,
                progress: Progress::Begun,
                waiter,
                since: ticks(now),
            }
        });
        self.queue.push(key);
        key
    }

    /// Takes in an operation whose result nobody wants.
    pub(crate) fn submit_orphan(
        &mut self,
        submission: Submission,
        now: Duration,
        waiter: impl FnOnce(Key<Slot>) -> u64,
    ) -> Key<Slot> {
        let key = self.submit(|| submission, now, waiter);
        self.slots.get_mut(key).expect("just submitted").state.orphan = true;
        key
    }

    /// Pushes requests, then cancels: a cancel must not overtake its target. `false` if there was no
    /// room for all; flush, and call again.
    #[inline]
    pub(crate) fn pump(&mut self, mut push: impl FnMut(Pushed<'_>) -> bool) -> bool {
        #[cfg(feature = "testing")]
        let loses_cancels = self.planted == Some(Bug::LoseCancelWhenFull);
        let Table { slots, queue, cancels, in_kernel, submitted, .. } = self;
        let all = queue.drain(|key| {
            let Some(slot) = slots.get_mut(key).filter(|slot| slot.state.phase == Phase::Queued)
            else {
                return Drained::Stale;
            };
            if !push(Pushed::Request(token(key), &slot.request)) {
                return Drained::NoRoom;
            }
            let step = slot.state.step(Event::Pushed);
            debug_assert_eq!(step, Step::Nothing);
            *in_kernel += 1;
            *submitted += 1;
            Drained::Pushed
        });
        all && cancels.drain(|key| {
            let Some(slot) =
                slots.get_mut(key).filter(|slot| slot.state.phase == Phase::CancelQueued)
            else {
                return Drained::Stale;
            };
            let pushed = push(Pushed::Cancel(token(key)));
            #[cfg(feature = "testing")]
            let pushed = pushed || loses_cancels;
            if !pushed {
                return Drained::NoRoom;
            }
            let step = slot.state.step(Event::CancelPushed);
            debug_assert_eq!(step, Step::Nothing);
            Drained::Pushed
        })
    }

    /// Whether something waits to be pushed.
    pub(crate) fn has_queued(&self) -> bool {
        self.queue.len > 0 || self.cancels.len > 0
    }

    /// A completion has come. One of a token that is unknown or of a former life changes nothing.
    #[inline]
    pub(crate) fn complete(&mut self, completion: Completion) -> Action {
        let Some(key) = key(completion.token) else { return Action::Nothing };
        let Some(slot) = self.slots.get_mut(key) else { return Action::Nothing };
        #[cfg(feature = "testing")]
        let completion = match self.planted {
            Some(Bug::LeakAcceptedDescriptor) if slot.would_leak(completion) => {
                Completion { result: -libc::ECANCELED, ..completion }
            }
            _ => completion,
        };
        let event = if completion.more { Event::More } else { Event::Terminal };
        let had_queued_cancel = slot.state.phase == Phase::CancelQueued;
        let step = slot.state.step(event);
        if event == Event::Terminal && step != Step::Nothing {
            self.in_kernel -= 1;
            self.cancels.len -= usize::from(had_queued_cancel);
        }
        let answer = slot.answer_of(completion, &self.pools, &self.host);
        match step {
            Step::Deliver => {
                if answer.result == -libc::ENOBUFS {
                    self.pools.were_empty(slot.kind);
                }
                slot.deliver(answer);
                if event == Event::More {
                    if slot.request.answers_early() {
                        slot.answers(answer.result, &self.host);
                        return Action::Nothing;
                    }
                    if slot.is_to_be_paused() {
                        self.cancels.push(key);
                    }
                }
                Action::Wake { waiter: slot.waiter, last: event == Event::Terminal }
            }
            step => {
                slot.dispose(answer, &self.pools, &self.host);
                if step == Step::Dispose && slot.request.answers_early() {
                    slot.answers(answer.result, &self.host);
                }
                if step == Step::DisposeAndFree { self.free(key) } else { Action::Nothing }
            }
        }
    }

    /// A cancel request has not ended its operation: it found no such one, or one at work. If that has
    /// not ended meanwhile, it is asked again: at once where it may have been missed between two attempts, else
    /// after a while, since what is in a device's hands is missed until the very end.
    #[cold]
    pub(crate) fn missed(&mut self, cancel: Token, answer: i32, now: Duration) -> Action {
        let Some(key) = key(cancel) else { return Action::Nothing };
        #[cfg(feature = "testing")]
        if self.planted == Some(Bug::FreeOnCancelCompletion) {
            let (token, result) = (token(key), -libc::ECANCELED);
            return self.complete(Completion { token, result, more: false, buffer: None });
        }
        let Some(slot) = self.slots.get_mut(key) else { return Action::Nothing };
        match slot.progress {
            Progress::DidNothing | Progress::Sent => {}
            Progress::Begun if answer == -libc::ENOENT => {
                slot.progress = Progress::Missed;
                self.ask_again(key);
            }
            Progress::Begun | Progress::Missed => self.stubborn.push(key, now),
        }
        Action::Nothing
    }

    fn ask_again(&mut self, key: Key<Slot>) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.state.step(Event::CancelMissed) == Step::QueueCancel {
            self.cancels.push(key);
        }
    }

    /// When [`remind`](Table::remind) has something to do, on the coarse clock.
    #[inline]
    pub(crate) fn next_reminder(&self) -> Option<Duration> {
        self.stubborn.next()
    }

    /// Whether the kernel has something of which it is to be reminded.
    pub(crate) fn is_to_remind(&self) -> bool {
        let slots = &self.slots;
        self.stubborn.any(|key| slots.get(key).is_some_and(|slot| slot.state.in_kernel()))
    }

    /// Asks again for the end of what was told to stop a while ago.
    pub(crate) fn remind(&mut self, now: Duration) {
        let Table { stubborn, slots, .. } = self;
        let is_gone = |key| slots.get(key).is_none_or(|slot| !slot.state.in_kernel());
        let due: Vec<_> = std::iter::from_fn(|| stubborn.pop(now, is_gone)).collect();
        due.into_iter().for_each(|key| self.ask_again(key));
    }

    /// The operations in which a descriptor is used, and who waits for each. Those of dropped handles have
    /// one again. Nobody but whoever closes it asks: then it is worth looking at them all.
    #[cold]
    pub(crate) fn take_over(&mut self, fd: &Fd) -> Vec<(Key<Slot>, u64)> {
        let using = self.slots.iter().filter(|(_, slot)| slot.uses(fd.as_raw_fd()));
        let using: Vec<_> = using.map(|(key, slot)| (key, slot.waiter)).collect();
        for &(key, _) in &using {
            self.slots.get_mut(key).expect("just seen").state.orphan = false;
        }
        using
    }

    /// Asks for the end of an operation. Asking twice is asking once.
    pub(crate) fn cancel(&mut self, key: Key<Slot>) -> Action {
        self.end(key, Event::Cancel)
    }

    /// The operation's handle is dropped.
    pub(crate) fn orphan(&mut self, key: Key<Slot>) -> Action {
        if let Some(slot) = self.slots.get_mut(key) {
            // What nobody will take goes where it belongs at once.
            slot.dispose_of_answers(&self.pools, &self.host);
        }
        self.end(key, Event::Orphaned)
    }

    /// Its owner will not submit it again, whatever it comes to: what would only be needed for that goes when
    /// the kernel has let go.
    pub(crate) fn give_up(&mut self, key: Key<Slot>) {
        static MESSAGE: Kind = Kind { repeatable: false, ..Kind::SEND_MESSAGE };
        let Some(slot) = self.slots.get_mut(key) else { return };
        if let (Some(storage), Request::SendMsg { .. }) = (&mut slot.storage, &slot.request) {
            slot.kind = &MESSAGE;
            if slot.state.phase == Phase::Terminal {
                storage.end_send();
            }
        }
    }

    fn end(&mut self, key: Key<Slot>, event: Event) -> Action {
        let Some(slot) = self.slots.get_mut(key) else { return Action::Nothing };
        match slot.state.step(event) {
            Step::QueueCancel => {
                if slot.progress == Progress::Sent {
                    slot.break_off(&self.host);
                }
                self.cancels.push(key);
                Action::Nothing
            }
            Step::Withdraw => {
                let result = -libc::ECANCELED;
                slot.answer = Some(Answer { result, more: false, buffer: None, begin: 0 });
                let waiter = slot.waiter;
                self.withdraw();
                Action::Wake { waiter, last: true }
            }
            Step::WithdrawAndFree => {
                self.withdraw();
                self.free(key)
            }
            Step::Free => self.free(key),
            _ => Action::Nothing,
        }
    }

    /// What is withdrawn is not in its phase any more, and passed over by the queue.
    fn withdraw(&mut self) {
        self.queue.len -= 1;
        self.withdrawn += 1;
    }

    fn free(&mut self, key: Key<Slot>) -> Action {
        match self.slots.remove(key) {
            Some(Slot { waiter, fd, storage, .. }) => {
                Action::Freed { waiter, remains: Remains { fd, storage } }
            }
            None => Action::Nothing,
        }
    }

    /// Takes the last result of an operation that is no multishot, and the memory that it had.
    #[inline]
    pub(crate) fn take(&mut self, key: Key<Slot>) -> Option<Finished> {
        let slot = self.slots.get_mut(key)?;
        // What answers early keeps its memory until the last word.
        let answer = slot.answer.filter(|answer| !answer.more)?;
        debug_assert!(answer.buffer.is_none(), "{answer:?} is taken in another way");
        let (kind, storage) = (slot.kind, slot.storage.take());
        self.slots.discard(key);
        Some(Finished { kind, result: answer.result, storage })
    }

    /// The same of one whose memory nobody wants back.
    #[inline]
    pub(crate) fn take_number(&mut self, key: Key<Slot>) -> Option<(&'static Kind, i32)> {
        let slot = self.slots.get(key)?;
        let taken = (slot.kind, slot.answer.as_ref()?.result);
        self.slots.discard(key);
        Some(taken)
    }

    /// Takes the next result of an operation that makes descriptors.
    pub(crate) fn take_descriptor(&mut self, key: Key<Slot>) -> Option<Taken<Descriptor>> {
        let Answer { result, more, .. } = self.next_answer(key)?;
        Some(Taken { result, value: own(result, &self.host), more })
    }

    /// Takes the next result of a receive from the pool.
    #[inline]
    pub(crate) fn take_chunk(&mut self, key: Key<Slot>) -> Option<Taken<Chunk>> {
        let kind = self.slots.get(key)?.kind;
        let Answer { result, more, buffer, begin } = self.next_answer(key)?;
        let value = buffer.map(|id| self.pools.chunk(kind, id, begin, result));
        Some(Taken { result, value, more })
    }

    /// Takes the next result of whatever operation, and disposes of it (rule D7). With the last one comes
    /// the storage, which is other people's to drop.
    pub(crate) fn take_nothing(&mut self, key: Key<Slot>) -> Option<Taken<Storage>> {
        let slot = self.slots.get_mut(key)?;
        let answer = slot.answer?;
        slot.dispose(answer, &self.pools, &self.host);
        let value = slot.storage.take_if(|_| !answer.more);
        let Answer { result, more, .. } = self.next_answer(key)?;
        Some(Taken { result, value, more })
    }

    /// The next result. With the last one the slot is free.
    #[inline(always)]
    fn next_answer(&mut self, key: Key<Slot>) -> Option<Answer> {
        let slot = self.slots.get_mut(key)?;
        let answer = slot.answer.take()?;
        if answer.more {
            slot.answer = slot.later.as_mut().and_then(|later| later.pop_front());
        } else {
            self.slots.discard(key);
        }
        Some(answer)
    }

    /// Takes the last result of a receive whose buffer nobody wants back: its bytes alone.
    pub(crate) fn take_bytes(&mut self, key: Key<Slot>) -> Option<(i32, Vec<u8>, Remains)> {
        self.slots.get(key)?.answer.as_ref()?;
        let Slot { answer, fd, storage, .. } = self.slots.remove(key)?;
        let bytes = storage.as_ref().map_or_else(Vec::new, Storage::copy_filled);
        Some((answer?.result, bytes, Remains { fd, storage }))
    }

    /// The same for a message.
    pub(crate) fn take_message(&mut self, key: Key<Slot>) -> Option<(i32, Message, Remains)> {
        self.slots.get(key)?.answer.as_ref()?;
        let Slot { answer, fd, mut storage, .. } = self.slots.remove(key)?;
        let result = answer?.result;
        let message = storage.as_mut().map(|storage| Message::copied(storage, result))?;
        Some((result, message, Remains { fd, storage }))
    }

    pub(crate) fn get(&self, key: Key<Slot>) -> Option<&Slot> {
        self.slots.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<Slot>, &Slot)> {
        self.slots.iter()
    }

    /// Operations that the kernel has.
    pub(crate) fn in_kernel(&self) -> usize {
        self.in_kernel
    }

    /// Requests on our side.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len
    }

    /// Requests that ever went to the kernel, and that were taken back before they did.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.submitted, self.withdrawn)
    }
}

/// What [`Table::pump`] pushes.
pub(crate) enum Pushed<'a> {
    Request(Token, &'a Request),
    Cancel(Token),
}

impl Slot {
    pub(crate) fn kind(&self) -> &'static Kind {
        self.kind
    }

    pub(crate) fn fd(&self) -> Option<RawFd> {
        match self.request {
            Request::Close { fd, .. } | Request::Poll { fd, .. } => Some(fd),
            _ => self.fd.as_ref().map(AsRawFd::as_raw_fd),
        }
    }

    /// Whether it has a share in the open descriptor of that number.
    fn uses(&self, fd: RawFd) -> bool {
        let second = match self.request {
            Request::File(FileRequest::Rename { to_at, .. } | FileRequest::Link { to_at, .. }) => {
                Some(to_at)
            }
            _ => None,
        };
        [self.fd.as_ref().map(AsRawFd::as_raw_fd), second].contains(&Some(fd))
    }

    #[cfg(feature = "testing")]
    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// The result that its owner would get now.
    #[cfg(feature = "testing")]
    pub(crate) fn told(&self) -> Option<i32> {
        let told = self.answer.filter(|answer| !answer.more || !self.request.answers_early());
        told.map(|answer| answer.result)
    }

    /// How long ago it was submitted.
    pub(crate) fn age(&self, now: Duration) -> Duration {
        Duration::from_nanos(u64::from(ticks(now).wrapping_sub(self.since)) << TICK)
    }

    /// It has said what it did, before the kernel lets go of its memory.
    fn answers(&mut self, result: i32, host: &Host) {
        self.progress = if result > 0 { Progress::Sent } else { Progress::DidNothing };
        if result > 0 && self.is_asked_to_cancel() {
            self.break_off(host);
        }
    }

    /// Ends the connection whose peer does not take what was sent, since the kernel keeps the memory
    /// until it does. There is nothing to do about a failure: then it has ended already.
    #[cold]
    fn break_off(&self, host: &Host) {
        if let Some(fd) = &self.fd {
            let _ = host.disconnect(fd.as_raw_fd());
        }
    }

    /// Whether a request to cancel it was made and it has not ended.
    pub(crate) fn is_asked_to_cancel(&self) -> bool {
        matches!(self.state.phase, Phase::CancelQueued | Phase::CancelSent)
    }

    #[cfg(feature = "testing")]
    fn would_leak(&self, completion: Completion) -> bool {
        let makes_descriptor = self.kind.disposer == Disposer::CloseDescriptor;
        self.is_asked_to_cancel() && makes_descriptor && completion.result >= 0
    }

    /// Results that wait to be taken.
    pub(crate) fn unread(&self) -> usize {
        usize::from(self.answer.is_some()) + self.later.as_ref().map_or(0, |later| later.len())
    }

    fn unread_bytes(&self) -> usize {
        let bytes = |answer: &Answer| usize::try_from(answer.result).unwrap_or(0);
        let later = self.later.as_ref().map_or(0, |later| later.iter().map(bytes).sum());
        self.answer.as_ref().map_or(0, bytes) + later
    }

    /// Reads a completion: from now on the pool knows that the kernel has picked the buffer, and the
    /// storage what is in it.
    #[inline]
    fn answer_of(&mut self, completion: Completion, pools: &Pools, host: &Host) -> Answer {
        let Completion { result, more, buffer, .. } = completion;
        let begin = buffer.map_or(0, |picked| pools.was_picked(self.kind, picked, result));
        let count = usize::try_from(result).unwrap_or(0);
        match (&mut self.storage, &self.request) {
            (
                Some(storage),
                Request::Recv { .. }
                | Request::Read { .. }
                | Request::ReadRegistered { .. }
                | Request::ReadPieces { .. },
            ) => {
                storage.fill(count);
            }
            (Some(storage), Request::RecvMsg { .. }) => storage.end_receive(result, host),
            // If it was interrupted it may be sent again, with the same.
            (Some(storage), Request::SendMsg { .. }) if result >= 0 || !self.kind.repeatable => {
                storage.end_send();
            }
            _ => {}
        }
        Answer { result, more, buffer: buffer.map(|picked| picked.id), begin }
    }

    /// Keeps a result for whoever takes it.
    #[inline]
    fn deliver(&mut self, answer: Answer) {
        match &mut self.answer {
            None => self.answer = Some(answer),
            // The last word only says that the memory is free: what was done was told before.
            Some(told) if self.progress.has_told() => told.more = answer.more,
            Some(_) => self.later.get_or_insert_default().push_back(answer),
        }
    }

    fn dispose_of_answers(&mut self, pools: &Pools, host: &Host) {
        let later = self.later.take().map(|later| *later).unwrap_or_default();
        for answer in self.answer.take().into_iter().chain(later) {
            self.dispose(answer, pools, host);
        }
    }

    /// Rule D7: a descriptor is closed, a buffer goes back to the pool.
    fn dispose(&self, answer: Answer, pools: &Pools, host: &Host) {
        let Answer { result, buffer, begin, .. } = answer;
        if self.kind.disposer == Disposer::CloseDescriptor {
            let untaken = own(result, host);
            if self.fd.as_ref().is_some_and(Fd::lingers) {
                // It would stop this thread.
                untaken.iter().for_each(|socket| host.end_linger(socket.as_raw_fd()));
            }
        }
        if let Some(id) = buffer {
            drop(pools.chunk(self.kind, id, begin, result));
        }
    }

    /// A multishot that nobody reads is paused: its owner starts it anew when it has caught up. So
    /// one slow reader does not take the whole pool, nor an idle listener all descriptors.
    #[inline(always)]
    fn is_to_be_paused(&mut self) -> bool {
        let Kind { unread, unread_bytes, .. } = *self.kind;
        let is_too_much = self.unread() >= unread || self.unread_bytes() >= unread_bytes;
        is_too_much && self.state.step(Event::Cancel) == Step::QueueCancel
    }
}

impl Progress {
    /// Whether it has said what it did.
    fn has_told(self) -> bool {
        matches!(self, Progress::DidNothing | Progress::Sent)
    }
}

/// The descriptor that is a result, unless that is an error.
fn own(result: i32, host: &Host) -> Option<Descriptor> {
    // SAFETY: the kernel has just made this descriptor for us; a result is taken or disposed of once.
    (result >= 0).then(|| unsafe { host.own(result) })
}

/// Nanoseconds by a power of two, a little more than a millisecond: half as large as all of them. In seven
/// weeks they come round, which ages do not mind.
fn ticks(time: Duration) -> u32 {
    (time.as_nanos() as u64 >> TICK) as u32
}

const TICK: u32 = 20;

fn token(key: Key<Slot>) -> Token {
    Token::new(TokenKind::Operation, key.index(), key.generation())
}

fn key(token: Token) -> Option<Key<Slot>> {
    Some(Key::new(token.index(), token.generation().try_into().ok()?))
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
