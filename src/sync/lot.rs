//! The waiting primitive: a queue of tasks, first come first served, to whom something is handed.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::result;
use std::task::{Context, Poll, ready};

use crate::cancel::{Outcome, Subject, Wait};
use crate::error::{Error, Result};
use crate::exec::{self, Panics, Park, Pause, Run};
use crate::slots::{Key, Slots};

/// Tasks that wait for something that others hand to them, in the order in which they came: what all
/// tools of this module are made of, and your own can be.
///
/// A tool keeps its state and a lot, and is a [`Resource`]: it says what can be had without waiting, and
/// takes back what was handed to somebody who has gone. Whoever changes the state calls
/// [`hand`](ParkingLot::hand), and with that the first waiter *has* what it waits for: nobody who comes
/// later can take it away (rules J1, J7).
///
/// The contract of a cancellation (rules C2, J2, J8): it reaches the waiter and never the tool. A waiter
/// that was handed something keeps it; one that was not is passed over from then on, and gets its request
/// back with the error. If a waiter's future is dropped when something was handed to it and not yet
/// taken, that goes to [`reclaim`](Resource::reclaim). However a wait ends, nothing of it stays here.
///
/// ```
/// use std::cell::Cell;
/// use trine::sync::{ParkingLot, Resource, wait_for};
///
/// /// A door that lets one through each time that somebody opens it.
/// #[derive(Default)]
/// struct Turnstile {
///     lot: ParkingLot<(), ()>,
///     open: Cell<u32>,
/// }
///
/// impl Resource for Turnstile {
///     type Request = ();
///     type Grant = ();
///
///     fn lot(&self) -> &ParkingLot<(), ()> {
///         &self.lot
///     }
///
///     fn try_grant(&self, (): ()) -> Result<(), ()> {
///         self.open.set(self.open.get().checked_sub(1).ok_or(())?);
///         Ok(())
///     }
///
///     fn reclaim(&self, (): ()) {
///         self.let_one_through();
///     }
/// }
///
/// impl Turnstile {
///     fn let_one_through(&self) {
///         if !self.lot.hand(|()| ()) {
///             self.open.set(self.open.get() + 1);
///         }
///     }
/// }
///
/// trine::run(async || {
///     let door = Turnstile::default();
///     trine::nursery(async |n| {
///         n.spawn(async { Ok(wait_for(&door, ()).await?) });
///         trine::checkpoint().await?;
///         door.let_one_through();
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct ParkingLot<R = (), G = ()> {
    /// Made when somebody waits for the first time: mostly nobody ever does.
    queue: RefCell<Option<Box<Queue<R, G>>>>,
}

/// What tasks wait for in a [`ParkingLot`].
pub trait Resource {
    /// What a waiter asks for, or brings.
    type Request;
    /// What it gets.
    type Grant;

    /// Where it is waited for.
    fn lot(&self) -> &ParkingLot<Self::Request, Self::Grant>;

    /// Grants what can be had at once; else the request comes back, and waits.
    ///
    /// To be fair it refuses while others wait for the same.
    ///
    /// # Errors
    /// The request, which has to wait.
    fn try_grant(&self, request: Self::Request) -> result::Result<Self::Grant, Self::Request>;

    /// Takes back what was handed to a waiter that was dropped before it took it.
    fn reclaim(&self, grant: Self::Grant);

    /// A waiter has gone that was handed nothing: perhaps those behind it can be served now.
    fn left(&self) {}
}

/// A request that was not granted, and why. `?` turns it into an [`Error`] and drops the request.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct Refused<R> {
    /// What went wrong.
    #[source]
    pub error: Error,
    /// What was asked for, or brought.
    pub request: R,
}

impl<R> fmt::Debug for Refused<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<R> From<Refused<R>> for Error {
    fn from(refused: Refused<R>) -> Error {
        refused.error
    }
}

impl<R> From<Refused<R>> for std::io::Error {
    fn from(refused: Refused<R>) -> std::io::Error {
        refused.error.into()
    }
}

/// A doubly linked list, so that whoever leaves from the middle is out at once.
struct Queue<R, G> {
    waiters: Slots<Waiter<R, G>>,
    first: Option<Key<Waiter<R, G>>>,
    last: Option<Key<Waiter<R, G>>>,
    len: usize,
}

struct Waiter<R, G> {
    run: Rc<Run>,
    wait: Key<Wait>,
    /// `None` while it is being looked at.
    content: Option<Content<R, G>>,
    linked: bool,
    previous: Option<Key<Waiter<R, G>>>,
    next: Option<Key<Waiter<R, G>>>,
}

enum Content<R, G> {
    Request(R),
    Grant(G),
}

impl<R, G> Waiter<R, G> {
    /// Whether it can be handed something: it was not cancelled, and its run goes on.
    fn is_waiting(&self) -> bool {
        matches!(self.content, Some(Content::Request(_))) && self.run.is_waiting(self.wait)
    }
}

impl<R, G> Queue<R, G> {
    fn new() -> Queue<R, G> {
        Queue { waiters: Slots::new(), first: None, last: None, len: 0 }
    }

    fn push(&mut self, run: Rc<Run>, wait: Key<Wait>, request: R) -> Key<Waiter<R, G>> {
        let previous = self.last;
        let content = Some(Content::Request(request));
        let key =
            self.waiters.insert(Waiter { run, wait, content, linked: true, previous, next: None });
        match previous.and_then(|previous| self.waiters.get_mut(previous)) {
            Some(previous) => previous.next = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.len += 1;
        key
    }

    fn unlink(&mut self, key: Key<Waiter<R, G>>) {
        let Some(waiter) = self.waiters.get_mut(key).filter(|waiter| waiter.linked) else { return };
        waiter.linked = false;
        let (previous, next) = (waiter.previous.take(), waiter.next.take());
        match previous.and_then(|previous| self.waiters.get_mut(previous)) {
            Some(previous) => previous.next = next,
            None => self.first = next,
        }
        match next.and_then(|next| self.waiters.get_mut(next)) {
            Some(next) => next.previous = previous,
            None => self.last = previous,
        }
        self.len -= 1;
    }

    /// The first that is not cancelled; those before it are taken out, and so passed over once.
    fn first_waiting(&mut self) -> Option<Key<Waiter<R, G>>> {
        let mut at = self.first;
        while let Some(key) = at {
            let waiter = self.waiters.get(key)?;
            if waiter.is_waiting() {
                return Some(key);
            }
            at = waiter.next;
            // One that is being looked at perhaps waits on, in its place.
            if waiter.content.is_some() {
                self.unlink(key);
            }
        }
        None
    }
}

impl<R, G> ParkingLot<R, G> {
    /// One in which nobody waits.
    pub fn new() -> ParkingLot<R, G> {
        ParkingLot { queue: RefCell::new(None) }
    }

    /// Does something with the queue, if there ever was one.
    #[inline]
    fn with<T>(&self, act: impl FnOnce(&mut Queue<R, G>) -> T) -> Option<T> {
        self.queue.borrow_mut().as_deref_mut().map(act)
    }

    /// Whether nobody is in the queue, cancelled or not.
    #[inline]
    fn is_deserted(&self) -> bool {
        self.queue.borrow().as_ref().is_none_or(|queue| queue.len == 0)
    }

    /// Whether nobody waits who could be handed something.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.is_deserted() || self.with(Queue::first_waiting).flatten().is_none()
    }

    /// How many wait. Those count who were cancelled and have not been polled since.
    pub fn len(&self) -> usize {
        self.with(|queue| queue.len).unwrap_or(0)
    }

    /// How many wait who could be handed something. Takes time for each of them.
    pub fn waiting(&self) -> usize {
        let keys = self.keys();
        let is_waiting =
            |queue: &mut Queue<R, G>, key| queue.waiters.get(key).is_some_and(Waiter::is_waiting);
        let count = |queue: &mut Queue<R, G>| {
            keys.into_iter().filter(|&key| is_waiting(queue, key)).count()
        };
        self.with(count).unwrap_or(0)
    }

    /// Hands the first one that waits what `deal` makes of its request, and wakes it; `false`: nobody
    /// waits. `deal` may not touch the lot.
    #[inline]
    pub fn hand(&self, deal: impl FnOnce(R) -> G) -> bool {
        if self.is_deserted() {
            return false;
        }
        let mut deal = Some(deal);
        self.hand_if(|_| deal.take()).is_some()
    }

    /// Hands something to one after another as long as `grant`, which is shown the request of the first
    /// one, has something for it; says to how many. A waker that panics does not keep the others from being
    /// woken. `grant` may not touch the lot.
    #[inline]
    pub fn hand_while(&self, grant: impl FnMut(&R) -> Option<G>) -> usize {
        if self.is_deserted() { 0 } else { self.hand_to_those_who_wait(grant) }
    }

    fn hand_to_those_who_wait(&self, mut grant: impl FnMut(&R) -> Option<G>) -> usize {
        let mut panics = Panics::default();
        let mut handed = 0;
        let mut go_on = true;
        while go_on {
            panics.catch(|| {
                // Decided before anybody is woken.
                go_on = false;
                let dealt = self.hand_if(|request| {
                    let grant = grant(request)?;
                    (go_on, handed) = (true, handed + 1);
                    Some(|_| grant)
                });
                go_on = dealt.is_some();
            });
        }
        panics.resume();
        handed
    }

    /// Hands something to the first one if `decide`, shown its request, says what.
    fn hand_if<D: FnOnce(R) -> G>(&self, decide: impl FnOnce(&R) -> Option<D>) -> Option<()> {
        let handed = self.with(|queue| {
            let key = queue.first_waiting()?;
            let waiter = queue.waiters.get_mut(key)?;
            let Some(Content::Request(request)) = &waiter.content else { return None };
            let deal = decide(request)?;
            let Some(Content::Request(request)) = waiter.content.take() else { return None };
            waiter.content = Some(Content::Grant(deal(request)));
            let woken = (Rc::clone(&waiter.run), waiter.wait);
            queue.unlink(key);
            Some(woken)
        });
        let (run, wait) = handed.flatten()?;
        // With nothing borrowed: a waker may be other people's code (rule P2).
        run.unpark(wait);
        Some(())
    }

    /// Hands something to all that wait now, and says to how many. A waker that panics does not keep
    /// the others from being woken.
    #[inline]
    pub fn hand_all(&self, deal: impl FnMut(R) -> G) -> usize {
        if self.is_deserted() { 0 } else { self.hand_to_each(deal) }
    }

    fn hand_to_each(&self, mut deal: impl FnMut(R) -> G) -> usize {
        let mut panics = Panics::default();
        let mut left = self.len();
        let mut handed = 0;
        while left > 0 && !self.is_empty() {
            left -= 1;
            handed += 1;
            panics.catch(|| self.hand(&mut deal));
        }
        panics.resume();
        handed
    }

    /// Offers something to each that waits now, in order, and says how many took it. `offer` sees the
    /// request, which it may change. It may use the lot, but not poll or drop the wait that it is asked
    /// about.
    pub fn offer(&self, mut offer: impl FnMut(&mut R) -> Option<G>) -> usize {
        let mut panics = Panics::default();
        let mut taken = 0;
        for key in self.keys() {
            let request = self.with(|queue| {
                let waiter = queue.waiters.get_mut(key).filter(|waiter| waiter.is_waiting());
                waiter.and_then(|waiter| waiter.content.take())
            });
            let Some(Some(Content::Request(mut request))) = request else { continue };
            let mut grant = None;
            panics.catch(|| grant = offer(&mut request));
            taken += usize::from(grant.is_some());
            self.settle(key, request, grant, &mut panics);
        }
        panics.resume();
        taken
    }

    /// All that are in the queue now, in order.
    fn keys(&self) -> Vec<Key<Waiter<R, G>>> {
        let in_order = |queue: &mut Queue<R, G>| {
            let mut keys = Vec::with_capacity(queue.len);
            let mut at = queue.first;
            while let Some(waiter) = at.and_then(|at| queue.waiters.get(at)) {
                keys.extend(at);
                at = waiter.next;
            }
            keys
        };
        self.with(in_order).unwrap_or_default()
    }

    /// After an offer. The waiter may have left meanwhile.
    fn settle(&self, key: Key<Waiter<R, G>>, request: R, grant: Option<G>, panics: &mut Panics) {
        let granted = grant.is_some();
        let mut content = Some(grant.map_or_else(|| Content::Request(request), Content::Grant));
        let put_back = |queue: &mut Queue<R, G>| {
            let waiter = queue.waiters.get_mut(key)?;
            // What nobody wants any more is dropped when nothing is borrowed.
            waiter.content = content.take();
            let woken = (Rc::clone(&waiter.run), waiter.wait);
            if granted {
                queue.unlink(key);
            }
            Some(woken)
        };
        if let Some((run, wait)) = self.with(put_back).flatten().filter(|_| granted) {
            panics.catch(|| run.unpark(wait));
        }
    }

    fn remove(&self, key: Key<Waiter<R, G>>) -> Option<Content<R, G>> {
        let removed = self.with(|queue| {
            queue.unlink(key);
            queue.waiters.remove(key)
        });
        removed??.content
    }
}

impl<R, G> Default for ParkingLot<R, G> {
    fn default() -> Self {
        ParkingLot::new()
    }
}

impl<R, G> fmt::Debug for ParkingLot<R, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParkingLot({} waiting)", self.len())
    }
}

/// Asks for something, and waits for it where it cannot be had at once.
///
/// Cancel class: total. A cancelled wait gets nothing, and gives the request back.
///
/// # Errors
/// [`Refused`], with `Cancelled`, [`Error::NoRun`] outside of a run, or [`Error::RunFinished`].
pub fn wait_for<S: Resource + ?Sized>(resource: &S, request: S::Request) -> WaitFor<'_, S> {
    WaitFor { resource, request: Some(request), parked: None, pause: None }
}

/// The wait: [`wait_for`].
#[must_use = "nothing is asked for unless it is awaited"]
pub struct WaitFor<'a, S: Resource + ?Sized> {
    resource: &'a S,
    /// While it does not wait in the lot.
    request: Option<S::Request>,
    parked: Option<Parked<S::Request, S::Grant>>,
    pause: Option<Pause>,
}

/// What a wait comes to.
type Ended<S> = result::Result<<S as Resource>::Grant, Refused<<S as Resource>::Request>>;

struct Parked<R, G> {
    park: Park,
    key: Key<Waiter<R, G>>,
}

/// Nothing in it is pinned.
impl<S: Resource + ?Sized> Unpin for WaitFor<'_, S> {}

impl<S: Resource + ?Sized> WaitFor<'_, S> {
    /// Whether it waits in the lot: from now on it can be handed something.
    pub(super) fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// The wait in the lot has ended like this.
    fn unpark(&mut self) -> Option<Content<S::Request, S::Grant>> {
        let Parked { key, park } = self.parked.take()?;
        drop(park);
        let content = self.resource.lot().remove(key);
        if let Some(Content::Request(_)) = content {
            self.resource.left();
        }
        content
    }

    /// Waits in the lot. `None`: it was not meant to end; ask anew (rule D4).
    fn poll_parked(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended<S>>> {
        let Some(Parked { park, .. }) = &self.parked else { return Poll::Ready(None) };
        let run = park.run();
        let error = match exec::check_running(run) {
            Err(finished) => Some(finished),
            Ok(()) => match ready!(park.poll(cx)) {
                Outcome::Cancelled => ready!(run.wait_cancelled()).err().map(Error::from),
                _ => {
                    run.progress();
                    None
                }
            },
        };
        Poll::Ready(match (self.unpark(), error) {
            // What it was handed it keeps (rule C4).
            (Some(Content::Grant(grant)), _) => Some(Ok(grant)),
            (Some(Content::Request(request)), Some(error)) => Some(Err(Refused { error, request })),
            (Some(Content::Request(request)), None) => {
                self.request = Some(request);
                None
            }
            (None, _) => None,
        })
    }
}

impl<S: Resource + ?Sized> Future for WaitFor<'_, S> {
    type Output = Ended<S>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(request) = this.request.take_if(|_| this.pause.is_none()) {
            match at_once(this.resource, request) {
                Ok(grant) => return Poll::Ready(Ok(grant)),
                Err(request) => this.request = Some(request),
            }
        }
        loop {
            if let Some(ended) = ready!(this.poll_parked(cx)) {
                return Poll::Ready(ended);
            }
            assert!(this.request.is_some(), "a wait is not polled after its end");
            let refused = |this: &mut Self, error: Error| {
                let request = this.request.take().expect("looked at above");
                Poll::Ready(Err(Refused { error, request }))
            };
            let run = match exec::current() {
                Ok(run) => run,
                Err(error) => return refused(this, error),
            };
            if let Err(cancelled) = ready!(run.cancel_point()) {
                return refused(this, cancelled.into());
            }
            // Before anything is taken, so that being dropped here loses nothing.
            ready!(run.poll_budget(&mut this.pause, cx));
            let request = this.request.take().expect("looked at above");
            match this.resource.try_grant(request) {
                Ok(grant) => {
                    run.progress();
                    return Poll::Ready(Ok(grant));
                }
                Err(request) => {
                    let park = Park::new(&run, Subject::Park);
                    let queue = &mut *this.resource.lot().queue.borrow_mut();
                    let queue = queue.get_or_insert_with(|| Box::new(Queue::new()));
                    let key = queue.push(run, park.key(), request);
                    this.parked = Some(Parked { park, key });
                }
            }
        }
    }
}

impl<S: Resource + ?Sized> Drop for WaitFor<'_, S> {
    fn drop(&mut self) {
        if let Some(Content::Grant(grant)) = self.unpark() {
            self.resource.reclaim(grant);
        }
    }
}

impl<S: Resource + ?Sized> fmt::Debug for WaitFor<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitFor").field("parked", &self.parked.is_some()).finish_non_exhaustive()
    }
}

/// Asks for what takes nothing to ask for, and makes something of it. Awaited again after its end, it asks
/// anew.
pub(super) fn ask<'a, S, T, Q, M>(
    resource: &'a S,
    request: Q,
    make: M,
) -> impl Future<Output = Result<T>> + use<'a, S, T, Q, M>
where
    S: Resource,
    Q: Fn() -> S::Request,
    M: Fn(S::Grant) -> Result<T>,
{
    let mut wait: Option<WaitFor<'a, S>> = None;
    poll_fn(move |cx| {
        if wait.is_none() {
            if let Ok(grant) = at_once(resource, request()) {
                return Poll::Ready(make(grant));
            }
        }
        let waiting = wait.get_or_insert_with(|| wait_for(resource, request()));
        let ended = ready!(Pin::new(waiting).poll(cx));
        wait = None;
        Poll::Ready(match ended {
            Ok(grant) => make(grant),
            Err(refused) => Err(refused.error),
        })
    })
}

/// Grants what can be had at once, where nothing else is to be done before; else the request comes back.
#[inline]
fn at_once<S: Resource + ?Sized>(
    resource: &S,
    request: S::Request,
) -> result::Result<S::Grant, S::Request> {
    if exec::with_current(|run| !run.is_cancelled() && run.spend_budget()) != Some(true) {
        return Err(request);
    }
    let granted = resource.try_grant(request);
    if granted.is_ok() {
        exec::with_current(Run::progress);
    }
    granted
}
