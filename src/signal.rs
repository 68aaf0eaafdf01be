//! Signals that are sent to the process.
//!
//! To have a program end gracefully, [`Builder::drain_on_signal`](crate::Builder::drain_on_signal) is
//! enough. This is for the others: reload on SIGHUP, and the like.

use std::cell::Cell;
use std::fmt;
use std::io;

use crate::error::Result;
use crate::exec;
use crate::io::Readiness;
use crate::ring::SignalReceiver;

/// A signal, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

impl Signal {
    /// `SIGHUP`: the terminal has gone; by custom, read your settings anew.
    pub const HANGUP: Signal = Signal(libc::SIGHUP);
    /// `SIGINT`: Ctrl-C.
    pub const INTERRUPT: Signal = Signal(libc::SIGINT);
    /// `SIGQUIT`: Ctrl-\.
    pub const QUIT: Signal = Signal(libc::SIGQUIT);
    /// `SIGKILL`, which nobody can catch.
    pub const KILL: Signal = Signal(libc::SIGKILL);
    /// `SIGUSR1`.
    pub const USER_1: Signal = Signal(libc::SIGUSR1);
    /// `SIGUSR2`.
    pub const USER_2: Signal = Signal(libc::SIGUSR2);
    /// `SIGPIPE`, which programs in Rust ignore from their start on.
    pub const PIPE: Signal = Signal(libc::SIGPIPE);
    /// `SIGALRM`.
    pub const ALARM: Signal = Signal(libc::SIGALRM);
    /// `SIGTERM`: please end.
    pub const TERMINATE: Signal = Signal(libc::SIGTERM);
    /// `SIGCHLD`: a child has ended or stopped.
    pub const CHILD: Signal = Signal(libc::SIGCHLD);
    /// `SIGCONT`: go on.
    pub const CONTINUE: Signal = Signal(libc::SIGCONT);
    /// `SIGSTOP`, which nobody can catch.
    pub const STOP: Signal = Signal(libc::SIGSTOP);
    /// `SIGWINCH`: the terminal's window has another size.
    pub const WINDOW: Signal = Signal(libc::SIGWINCH);

    /// The signal of this number. Whether there is such a signal is seen when it is used.
    pub const fn from_raw(number: i32) -> Signal {
        Signal(number)
    }

    /// Its number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    fn name(self) -> Option<&'static str> {
        Some(match self {
            Signal::HANGUP => "SIGHUP",
            Signal::INTERRUPT => "SIGINT",
            Signal::QUIT => "SIGQUIT",
            Signal::KILL => "SIGKILL",
            Signal::USER_1 => "SIGUSR1",
            Signal::USER_2 => "SIGUSR2",
            Signal::PIPE => "SIGPIPE",
            Signal::ALARM => "SIGALRM",
            Signal::TERMINATE => "SIGTERM",
            Signal::CHILD => "SIGCHLD",
            Signal::CONTINUE => "SIGCONT",
            Signal::STOP => "SIGSTOP",
            Signal::WINDOW => "SIGWINCH",
            _ => return None,
        })
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What comes of some signals, one after another.
///
/// While it lives, none of them does what it would do otherwise; with the last one that wants a signal, the
/// former handler is back, unless somebody has set another one meanwhile. Whatever number of receivers there
/// are in a process, in one run or in several, each hears every signal it wants, and a run that [catches
/// Ctrl-C](crate::Builder::ctrl_c) does too. A process has at most 64 of them all.
///
/// A signal that comes again before it was received is received once. One that no receiver has received
/// when the last one is dropped is raised again, and does what it would have done: without a handler of
/// somebody else's, SIGTERM ends the process (rule of Trio's).
///
/// ```
/// use trine::signal::{Signal, Signals};
///
/// trine::run(async || {
///     let signals = Signals::new([Signal::HANGUP, Signal::USER_1])?;
///     # // SAFETY: no memory is involved.
///     # unsafe { libc::raise(libc::SIGHUP) };
///     loop {
///         match signals.next().await? {
///             Signal::HANGUP => break, // Read the settings anew.
///             other => println!("{other}"),
///         }
///     }
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct Signals {
    came: Readiness<SignalReceiver>,
    /// What was received last: the others have their turn first.
    last: Cell<Signal>,
}

impl Signals {
    /// Receives these signals from now on.
    ///
    /// # Errors
    /// `InvalidInput` for none at all; for SIGKILL and SIGSTOP, which cannot be caught; for SIGSEGV, SIGBUS,
    /// SIGFPE, SIGILL, SIGSYS and SIGTRAP, after which the thread cannot go on; for what is no signal.
    /// `ResourceBusy` if there are 64 receivers already; `Unsupported` on a simulated kernel;
    /// [`Error::NoRun`](crate::Error::NoRun).
    pub fn new(signals: impl IntoIterator<Item = Signal>) -> Result<Signals> {
        exec::current()?.host().check_linux("a signal")?;
        let numbers: Vec<_> = signals.into_iter().map(Signal::as_raw).collect();
        let came = Readiness::new(SignalReceiver::new(&numbers)?)?;
        Ok(Signals { came, last: Cell::new(Signal(0)) })
    }

    /// Waits for the next one. Of several that have come each has its turn.
    ///
    /// Cancel class: total: one that was dropped or cancelled has received nothing. Linux 6.1.
    ///
    /// # Errors
    /// [`Error::Busy`](crate::Error::Busy) if another task waits here; `Cancelled`.
    pub async fn next(&self) -> Result<Signal> {
        self.came
            .read_with(|receiver| {
                let signal = receiver.take(self.last.get().as_raw()).map(Signal);
                let signal = signal.ok_or(io::ErrorKind::WouldBlock)?;
                self.last.set(signal);
                Ok(signal)
            })
            .await
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("last", &self.last.get()).finish_non_exhaustive()
    }
}

/// Waits for Ctrl-C, from the first time it is polled on. When this has ended the next one kills again, if
/// nobody else catches it.
///
/// Cancel class: total.
///
/// # Errors
/// As [`Signals::new`] and [`Signals::next`].
///
/// ```no_run
/// use trine::{nursery, signal, time};
///
/// trine::run(async || {
///     nursery(async |n| {
///         n.spawn(async move {
///             signal::ctrl_c().await?;
///             n.cancel();
///             Ok(())
///         });
///         time::sleep_forever().await
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn ctrl_c() -> Result {
    Signals::new([Signal::INTERRUPT])?.next().await?;
    Ok(())
}
