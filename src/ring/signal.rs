//! Ctrl-C and termination: the first rings the bell, the second kills (rule P5).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::bell::{self, Bell};

/// Catches the first SIGINT while it lives; then the former handler is back.
pub(crate) struct CtrlC {
    former: libc::sigaction,
    /// Keeps the descriptor alive that the handler writes to.
    _bell: Arc<Bell>,
}

/// Descriptor of the bell that the handler rings; -1: nobody listens.
static BELL: AtomicI32 = AtomicI32::new(-1);
static CAUGHT: AtomicBool = AtomicBool::new(false);

impl CtrlC {
    /// Fails if another run of this process catches Ctrl-C already.
    pub(crate) fn catch(bell: Arc<Bell>) -> io::Result<CtrlC> {
        let Some(fd) = bell.event() else {
            let text = "signals are of the real world, and a simulated kernel has none";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        };
        if BELL.compare_exchange(-1, fd, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            let text = "another run of this process catches Ctrl-C already; let only one do so";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        CAUGHT.store(false, Ordering::SeqCst);
        match replace_handler(&caught_once()) {
            Ok(former) => Ok(CtrlC { former, _bell: bell }),
            Err(error) => {
                BELL.store(-1, Ordering::SeqCst);
                Err(error)
            }
        }
    }

    /// Whether the signal has come since the last call.
    pub(crate) fn take(&self) -> bool {
        CAUGHT.load(Ordering::Relaxed) && CAUGHT.swap(false, Ordering::SeqCst)
    }
}

impl Drop for CtrlC {
    fn drop(&mut self) {
        // It was accepted once, so it is valid; there is nothing to do about a failure here.
        let _ = replace_handler(&self.former);
        BELL.store(-1, Ordering::SeqCst);
    }
}

/// A handler that is gone after its first signal, so that the second one kills.
fn caught_once() -> libc::sigaction {
    // SAFETY: all zeros is a valid sigaction: default handler, empty mask, no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
    action.sa_flags = libc::SA_RESETHAND;
    action
}

fn replace_handler(action: &libc::sigaction) -> io::Result<libc::sigaction> {
    // SAFETY: as above.
    let mut former: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both point to valid sigactions; the handler does only what is allowed in one.
    if unsafe { libc::sigaction(libc::SIGINT, action, &mut former) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(former)
}

/// Only atomics and one write: allowed in a signal handler.
extern "C" fn handler(_signal: libc::c_int) {
    CAUGHT.store(true, Ordering::SeqCst);
    let fd = BELL.load(Ordering::SeqCst);
    if fd >= 0 {
        // SAFETY: the errno of the interrupted thread is its own place; it is put back.
        let errno = unsafe { *libc::__errno_location() };
        bell::ring(fd);
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };
    }
}
