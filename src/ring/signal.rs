//! Signals: one handler, and seats for those who want to hear of them.
//!
//! The handler may do next to nothing: it notes in the seats what has come, and writes to the eventfd of
//! each. Who has heard it all takes the seat away, and with the last one of a signal the former handler is
//! back.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::bell::{self, Bell};
use super::socket::check;

/// Whether somebody sits there, and what has come for them.
struct Seat {
    /// Bit `n - 1` stands for signal `n`; nothing: the seat is free.
    wanted: AtomicU64,
    /// The eventfd that is written to.
    event: AtomicI32,
    came: AtomicU64,
    /// How many have come, each as often as it came.
    count: AtomicU32,
    /// Handlers that are looking at this seat: meanwhile the eventfd must not be closed.
    inside: AtomicU32,
}

/// The handler looks at every one of them, so there are not many.
const MOST: usize = 64;

static SEATS: [Seat; MOST] = [const { Seat::free() }; MOST];

/// Signals that have come and that nobody has taken.
static UNHEARD: AtomicU64 = AtomicU64::new(0);

/// Signals for which somebody else's handler was found in the place of ours, which perhaps calls ours.
static CHAINED: AtomicU64 = AtomicU64::new(0);

/// What one run counts down, and how many it still bears: a [`Claim`]. Handlers see both or neither.
static CLAIM: AtomicU32 = AtomicU32::new(0);
/// Handlers that are counting down.
static COUNTING: AtomicU32 = AtomicU32::new(0);

/// Whose handlers were replaced. Whoever takes or leaves a seat holds it.
static REPLACED: Mutex<Vec<Replaced>> = Mutex::new(Vec::new());

struct Replaced {
    signal: libc::c_int,
    former: libc::sigaction,
    /// Seats that want the signal.
    seats: usize,
}

impl Seat {
    const fn free() -> Seat {
        Seat {
            wanted: AtomicU64::new(0),
            event: AtomicI32::new(-1),
            came: AtomicU64::new(0),
            count: AtomicU32::new(0),
            inside: AtomicU32::new(0),
        }
    }

    /// Called by the handler; whether somebody sits there who wants the signal.
    fn hear(&self, bit: u64) -> bool {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let wants = self.wanted.load(Ordering::SeqCst) & bit != 0;
        if wants {
            self.came.fetch_or(bit, Ordering::SeqCst);
            self.count.fetch_add(1, Ordering::SeqCst);
            bell::ring(self.event.load(Ordering::SeqCst));
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
        wants
    }
}

/// A seat that is taken, until this is dropped.
struct Taken {
    seat: &'static Seat,
    signals: u64,
    /// What nobody has heard at the end is raised once more, for the former handler.
    raises: bool,
}

impl Taken {
    /// The eventfd must stay open for as long as the seat is taken.
    fn take(signals: u64, event: RawFd, raises: bool) -> io::Result<Taken> {
        let replaced = &mut *REPLACED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |seat: &&Seat| seat.wanted.load(Ordering::SeqCst) == 0;
        let seat = SEATS.iter().find(is_free).ok_or_else(|| {
            let text = "64 receivers of signals at a time are enough: drop one of them first";
            io::Error::new(io::ErrorKind::ResourceBusy, text)
        })?;
        seat.event.store(event, Ordering::SeqCst);
        seat.came.store(0, Ordering::SeqCst);
        seat.count.store(0, Ordering::SeqCst);
        seat.wanted.store(signals, Ordering::SeqCst);
        // Left again if a handler is refused.
        let mut taken = Taken { seat, signals: 0, raises };
        for signal in numbers(signals) {
            match replaced.iter_mut().find(|replaced| replaced.signal == signal) {
                Some(replaced) => replaced.seats += 1,
                None => match replace_handler(signal, &action(Handler::Ours)) {
                    Ok(former) => replaced.push(Replaced { signal, former, seats: 1 }),
                    Err(error) => {
                        taken.leave(replaced);
                        return Err(error);
                    }
                },
            }
            taken.signals |= bit(signal);
        }
        Ok(taken)
    }

    fn leave(&mut self, replaced: &mut Vec<Replaced>) {
        let signals = std::mem::take(&mut self.signals);
        // Whoever has set a handler since then has done so for good, and hears all by it.
        let others = numbers(signals).filter(|&signal| Handler::of(signal).is_none());
        let others = others.fold(0, |others, signal| others | bit(signal));
        CHAINED.fetch_or(others, Ordering::SeqCst);
        self.seat.wanted.store(0, Ordering::SeqCst);
        while self.seat.inside.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        let mut last = 0;
        replaced.retain_mut(|Replaced { signal, former, seats }| {
            if signals & bit(*signal) == 0 {
                return true;
            }
            *seats -= 1;
            let is_last = *seats == 0;
            if others & bit(*signal) == 0 {
                // Ours, if a run that has counted down has taken it away. There is nothing to do about a
                // failure: it was accepted once, so it is valid.
                let back = if is_last { former } else { &mut action(Handler::Ours) };
                let _ = replace_handler(*signal, back);
            }
            last |= if is_last { bit(*signal) } else { 0 };
            !is_last
        });
        let unheard = UNHEARD.fetch_and(!last, Ordering::SeqCst) & last;
        if self.raises {
            numbers(unheard & !others).for_each(raise);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.signals != 0 {
            self.leave(&mut REPLACED.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Somebody who waits for signals: a descriptor that can be read when some have come.
pub(crate) struct SignalReceiver {
    taken: Taken,
    event: OwnedFd,
}

impl SignalReceiver {
    /// Of these numbers; says what is wrong with them.
    pub(crate) fn new(signals: &[i32]) -> io::Result<SignalReceiver> {
        let mut wanted = 0;
        for &signal in signals {
            may_be_caught(signal)?;
            wanted |= bit(signal);
        }
        if wanted == 0 {
            let text = "none would be waited for for ever: name at least one signal";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        // SAFETY: no memory is involved.
        let event = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: just made, and nobody else has it.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        Ok(SignalReceiver { taken: Taken::take(wanted, event.as_raw_fd(), true)?, event })
    }

    /// One that has come: the next one behind `last`, so that each has its turn.
    pub(crate) fn take(&self, last: i32) -> Option<i32> {
        let mut strokes = [0_u8; 8];
        // SAFETY: eight bytes, as an eventfd wants them. That it had none is no matter.
        unsafe { libc::read(self.event.as_raw_fd(), strokes.as_mut_ptr().cast(), strokes.len()) };
        let came = self.taken.seat.came.load(Ordering::SeqCst);
        let turned = came.rotate_right(last as u32);
        if turned == 0 {
            return None;
        }
        let signal = (turned.trailing_zeros() as i32 + last) % 64 + 1;
        self.taken.seat.came.fetch_and(!bit(signal), Ordering::SeqCst);
        UNHEARD.fetch_and(!bit(signal), Ordering::SeqCst);
        Some(signal)
    }
}

impl AsRawFd for SignalReceiver {
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

/// Ctrl-C and termination: so many signals ring the bell of a run, the next one kills (rule P5).
pub(crate) struct StopSignals {
    /// Gone before the seat is left: who sits on has our handler back then, and nobody takes it away.
    _claim: Claim,
    taken: Taken,
    /// Keeps the descriptor open that the handler writes to.
    _bell: Arc<Bell>,
}

/// Which ones, and how many of them before the next one kills.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Catch {
    /// One Ctrl-C.
    Interrupt,
    /// Two of Ctrl-C and SIGTERM.
    Termination,
}

impl Catch {
    fn signals(self) -> u64 {
        match self {
            Catch::Interrupt => bit(libc::SIGINT),
            Catch::Termination => bit(libc::SIGINT) | bit(libc::SIGTERM),
        }
    }

    fn count(self) -> u32 {
        match self {
            Catch::Interrupt => 1,
            Catch::Termination => 2,
        }
    }
}

impl StopSignals {
    /// Fails if another run of this process catches signals already.
    pub(crate) fn catch(what: Catch, bell: Arc<Bell>) -> io::Result<StopSignals> {
        let Some(event) = bell.event() else {
            let text = "signals are of the real world, and a simulated kernel has none";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        };
        // What comes at the end concerns a run that has ended anyway.
        let taken = Taken::take(what.signals(), event, false)?;
        // Behind it, so that nothing is counted that this does not hear.
        let claim = Claim::make(what)?;
        Ok(StopSignals { _claim: claim, taken, _bell: bell })
    }

    /// How many have come since the last call.
    pub(crate) fn take(&self) -> u32 {
        let Taken { seat, signals, .. } = self.taken;
        if seat.count.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let count = seat.count.swap(0, Ordering::SeqCst);
        UNHEARD.fetch_and(!signals, Ordering::SeqCst);
        count
    }
}

/// To count signals down is the business of one run at a time.
struct Claim;

impl Claim {
    fn make(what: Catch) -> io::Result<Claim> {
        let claim = Claim::number(what, what.count());
        if CLAIM.compare_exchange(0, claim, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            let text = "another run of this process catches Ctrl-C already; let only one do so";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        Ok(Claim)
    }

    /// As it is in `CLAIM`, where zero is none.
    fn number(what: Catch, left: u32) -> u32 {
        let what = match what {
            Catch::Interrupt => 1,
            Catch::Termination => 2,
        };
        what << 8 | left
    }

    /// What is counted, and how many more are borne.
    fn of_number(number: u32) -> Option<(Catch, u32)> {
        let what = match number >> 8 {
            0 => return None,
            1 => Catch::Interrupt,
            _ => Catch::Termination,
        };
        Some((what, number & 0xff))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIM.store(0, Ordering::SeqCst);
        while COUNTING.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
    }
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn numbers(signals: u64) -> impl Iterator<Item = i32> {
    (1..=64).filter(move |signal| signals & bit(*signal) != 0)
}

/// Says why a signal cannot be waited for, if it cannot.
fn may_be_caught(signal: i32) -> io::Result<()> {
    let why = match signal {
        libc::SIGKILL | libc::SIGSTOP => "cannot be caught by anybody",
        libc::SIGSEGV
        | libc::SIGBUS
        | libc::SIGFPE
        | libc::SIGILL
        | libc::SIGSYS
        | libc::SIGTRAP => "says that this very thread has gone wrong: it cannot go on and wait",
        // The C library keeps the first ones for itself.
        1..=31 => return Ok(()),
        _ if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&signal) => return Ok(()),
        _ => "is none that a program may use",
    };
    let text = format!("signal {signal} {why}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

#[derive(Clone, Copy, PartialEq)]
enum Handler {
    Ours,
    Default,
}

impl Handler {
    /// Which one is there for a signal; `None`: somebody else's.
    fn of(signal: libc::c_int) -> Option<Handler> {
        let mut now = action(Handler::Default);
        // SAFETY: it only reads what is set, into a valid place.
        unsafe { libc::sigaction(signal, std::ptr::null(), &mut now) };
        [Handler::Ours, Handler::Default].into_iter().find(|one| one.address() == now.sa_sigaction)
    }

    fn address(self) -> libc::sighandler_t {
        match self {
            Handler::Ours => heard as extern "C" fn(_) as usize,
            Handler::Default => libc::SIG_DFL,
        }
    }
}

fn action(handler: Handler) -> libc::sigaction {
    // SAFETY: all zeros is a valid sigaction: default handler, empty mask, no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler.address();
    // What blocks in another thread need not hear of it: the eventfd wakes whoever wants to.
    action.sa_flags = libc::SA_RESTART;
    action
}

fn replace_handler(signal: libc::c_int, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut former = self::action(Handler::Default);
    // SAFETY: both point to valid sigactions; the handler does only what is allowed in one.
    check(unsafe { libc::sigaction(signal, action, &mut former) })?;
    Ok(former)
}

/// Raises a signal again: in this thread, which handles it at once, or, where that would only keep it, in
/// whichever thread does not block it.
fn raise(signal: libc::c_int) {
    let mut blocked = MaybeUninit::uninit();
    // SAFETY: a valid place for this thread's mask, which is written to before it is looked at; signals
    // concern no memory.
    unsafe {
        let asked = libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), blocked.as_mut_ptr());
        if asked == 0 && libc::sigismember(blocked.as_ptr(), signal) == 1 {
            libc::kill(libc::getpid(), signal);
        } else {
            libc::raise(signal);
        }
    }
}

/// The handler. Only atomics and system calls that are allowed in one.
extern "C" fn heard(signal: libc::c_int) {
    // SAFETY: the errno of the interrupted thread is its own place; it is put back.
    let errno = unsafe { *libc::__errno_location() };
    if is_borne(signal) {
        UNHEARD.fetch_or(bit(signal), Ordering::SeqCst);
        if !tell(signal) {
            tell_nobody(signal);
        }
    } else if Handler::of(signal).is_some() {
        // It came while the handlers were being taken away. (Somebody else's would only call this one again.)
        // SAFETY: allowed in a handler; it is delivered when this one has returned.
        unsafe { libc::raise(signal) };
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Tells all who want to hear of a signal; whether there is anybody.
fn tell(signal: libc::c_int) -> bool {
    SEATS.iter().filter(|seat| seat.hear(bit(signal))).count() > 0
}

/// What came while the last one who wanted it was leaving, on another thread, is for the former handler.
fn tell_nobody(signal: libc::c_int) {
    let bit = bit(signal);
    if Handler::of(signal) == Some(Handler::Ours) {
        // Whoever leaves puts the former one back first, and looks into `UNHEARD` only then. If they have
        // not, they will, or the handler is ours again, because somebody has come.
        if UNHEARD.load(Ordering::SeqCst) & bit != 0 {
            tell(signal);
        }
    } else if UNHEARD.fetch_and(!bit, Ordering::SeqCst) & bit != 0
        && CHAINED.load(Ordering::SeqCst) & bit == 0
    {
        // SAFETY: allowed in a handler; it is delivered when this one has returned.
        unsafe { libc::raise(signal) };
    }
}

/// Counts it down, if a run does that. After the last one that is borne, the next one kills, whichever it
/// is; `false`: this is it.
fn is_borne(signal: libc::c_int) -> bool {
    COUNTING.fetch_add(1, Ordering::SeqCst);
    let one_less = |claim| match Claim::of_number(claim) {
        Some((what, left)) if what.signals() & bit(signal) != 0 => {
            Some(Claim::number(what, left.saturating_sub(1)))
        }
        _ => None,
    };
    let counted = CLAIM.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
    let counted = counted.ok().and_then(Claim::of_number);
    if let Some((what, 0 | 1)) = counted {
        let is_ours = |signal: &i32| Handler::of(*signal) == Some(Handler::Ours);
        for signal in numbers(what.signals()).filter(is_ours) {
            let _ = replace_handler(signal, &action(Handler::Default));
        }
    }
    COUNTING.fetch_sub(1, Ordering::SeqCst);
    !matches!(counted, Some((_, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_has_ended_when_no_handler_counts_any_more() {
        let claim = Claim::make(Catch::Termination).unwrap();
        COUNTING.fetch_add(1, Ordering::SeqCst);
        let ends = thread::spawn(|| drop(claim));
        while CLAIM.load(Ordering::SeqCst) != 0 {
            thread::yield_now();
        }
        (0..100).for_each(|_| thread::yield_now());
        assert!(!ends.is_finished(), "a handler may take ours away");
        COUNTING.fetch_sub(1, Ordering::SeqCst);
        ends.join().unwrap();
    }

    #[test]
    fn a_claim_says_what_it_counts() {
        assert_eq!(Claim::of_number(0), None);
        for (what, left) in [(Catch::Interrupt, 0), (Catch::Interrupt, 1), (Catch::Termination, 2)]
        {
            assert_eq!(Claim::of_number(Claim::number(what, left)), Some((what, left)));
        }
    }
}
