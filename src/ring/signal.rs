//! Ctrl-C and termination: so many signals ring the bell, the next one kills (rule P5).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::bell::{self, Bell};

/// Catches the first signals while it lives; then the former handlers are back.
pub(crate) struct Signals {
    former: Vec<(libc::c_int, libc::sigaction)>,
    /// Keeps the descriptor alive that the handler writes to.
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
    fn signals(self) -> &'static [libc::c_int] {
        match self {
            Catch::Interrupt => &[libc::SIGINT],
            Catch::Termination => &[libc::SIGINT, libc::SIGTERM],
        }
    }

    fn count(self) -> u32 {
        match self {
            Catch::Interrupt => 1,
            Catch::Termination => 2,
        }
    }
}

/// Descriptor of the bell that the handler rings; -1: nobody listens.
static BELL: AtomicI32 = AtomicI32::new(-1);
/// Signals that have come and that nobody has taken.
static CAUGHT: AtomicU32 = AtomicU32::new(0);
/// Signals that will still be caught.
static LEFT: AtomicU32 = AtomicU32::new(0);

impl Signals {
    /// Fails if another run of this process catches signals already.
    pub(crate) fn catch(what: Catch, bell: Arc<Bell>) -> io::Result<Signals> {
        let Some(fd) = bell.event() else {
            let text = "signals are of the real world, and a simulated kernel has none";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        };
        if BELL.compare_exchange(-1, fd, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            let text = "another run of this process catches Ctrl-C already; let only one do so";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        CAUGHT.store(0, Ordering::SeqCst);
        LEFT.store(what.count(), Ordering::SeqCst);
        // Dropped if the second is refused, and puts the first one back.
        let mut signals = Signals { former: Vec::new(), _bell: bell };
        for &signal in what.signals() {
            let former = replace_handler(signal, &action(handler as extern "C" fn(_) as usize))?;
            signals.former.push((signal, former));
        }
        Ok(signals)
    }

    /// How many have come since the last call.
    pub(crate) fn take(&self) -> u32 {
        match CAUGHT.load(Ordering::Relaxed) {
            0 => 0,
            _ => CAUGHT.swap(0, Ordering::SeqCst),
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (signal, former) in &self.former {
            // It was accepted once, so it is valid; there is nothing to do about a failure here.
            let _ = replace_handler(*signal, former);
        }
        BELL.store(-1, Ordering::SeqCst);
    }
}

fn action(handler: usize) -> libc::sigaction {
    // SAFETY: all zeros is a valid sigaction: default handler, empty mask, no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    // What blocks in another thread need not hear of it: the bell wakes the run.
    action.sa_flags = libc::SA_RESTART;
    action
}

fn replace_handler(signal: libc::c_int, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut former = self::action(libc::SIG_DFL);
    // SAFETY: both point to valid sigactions; the handler does only what is allowed in one.
    if unsafe { libc::sigaction(signal, action, &mut former) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(former)
}

/// Only atomics and system calls that are allowed in a signal handler.
extern "C" fn handler(signal: libc::c_int) {
    // SAFETY: the errno of the interrupted thread is its own place; it is put back.
    let errno = unsafe { *libc::__errno_location() };
    let counted = LEFT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    let left = counted.unwrap_or(0);
    if left <= 1 {
        // The next one kills, whichever it is.
        for &signal in Catch::Termination.signals().iter().filter(|signal| is_caught(**signal)) {
            let _ = replace_handler(signal, &action(libc::SIG_DFL));
        }
    }
    if left == 0 {
        // It came while the handlers were being taken away.
        // SAFETY: allowed in a handler; it is delivered when this one has returned.
        unsafe { libc::raise(signal) };
    } else {
        CAUGHT.fetch_add(1, Ordering::SeqCst);
        let fd = BELL.load(Ordering::SeqCst);
        if fd >= 0 {
            bell::ring(fd);
        }
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Whether our handler is there for a signal.
fn is_caught(signal: libc::c_int) -> bool {
    let mut now = action(libc::SIG_DFL);
    // SAFETY: it only reads what is set, into a valid place.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &mut now) };
    asked == 0 && now.sa_sigaction == handler as extern "C" fn(_) as usize
}
