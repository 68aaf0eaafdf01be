//! Standard input, output and error.

use std::fmt;
use std::os::fd::RawFd;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::exec;
use crate::local::RunLocal;
use crate::op::{BufError, Chunk, IoBuf};
use crate::sync::Mutex;

use super::Write;
use super::halves::Halves;

/// The standard input of the process: a terminal, a pipe, a file, whatever descriptor 0 is.
///
/// Each read is one operation, and nothing is read ahead: a program that is started while nobody
/// reads here gets what is typed then. What comes all the same for a read that was dropped or
/// cancelled is what the next one of this run returns, by whichever handle.
///
/// In a simulated world it is at its end.
///
/// Linux 6.1.
///
/// # Errors
/// What the operating system says, `EBADF` where there is none; `InvalidInput` for a file or a socket that
/// somebody has made non-blocking, with which the ring cannot wait; [`Error::NoRun`].
///
/// ```no_run
/// use trine::io::{self, BufReader};
///
/// trine::run(async || {
///     let lines = BufReader::new(io::stdin()?);
///     while let Some(line) = lines.read_line(4096).await? {
///         io::stdout()?.write_all(format!("you said: {line}\n")).await?;
///     }
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn stdin() -> Result<Stdin> {
    Ok(Stdin { halves: shared(&INPUT, || open(libc::STDIN_FILENO))? })
}

/// The standard output of the process. A write waits for those of other tasks of this run: what is
/// written by one call stays together, and comes in the order of the calls.
///
/// Nothing is kept in a buffer; make a [`BufWriter`](super::BufWriter) of it for much in little pieces.
/// `println!` has a buffer of its own, of which this knows nothing.
///
/// In a simulated world what is written is gone, and noted in the report of a failed test.
///
/// Linux 6.1.
///
/// # Errors
/// As those of [`stdin`].
///
/// ```
/// trine::run(async || {
///     trine::io::stdout()?.write_all("hello, world\n").await?;
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn stdout() -> Result<Stdout> {
    Ok(Stdout { output: Output::of(&OUTPUT, libc::STDOUT_FILENO)? })
}

/// The standard error of the process; in all else as [`stdout`].
///
/// # Errors
/// As those of [`stdin`].
pub fn stderr() -> Result<Stderr> {
    Ok(Stderr { output: Output::of(&ERRORS, libc::STDERR_FILENO)? })
}

type Shared<T> = RunLocal<std::cell::RefCell<Option<Rc<T>>>>;

static INPUT: Shared<Halves> = RunLocal::new(Default::default);
static OUTPUT: Shared<Output> = RunLocal::new(Default::default);
static ERRORS: Shared<Output> = RunLocal::new(Default::default);

/// What all handles of a run have in common.
fn shared<T>(place: &'static Shared<T>, open: impl FnOnce() -> Result<T>) -> Result<Rc<T>> {
    let place = place.get()?;
    let mut place = place.borrow_mut();
    if let Some(there) = &*place {
        return Ok(Rc::clone(there));
    }
    Ok(Rc::clone(place.insert(Rc::new(open()?))))
}

/// Another descriptor, so that closing it leaves that one open.
fn open(number: RawFd) -> Result<Halves> {
    let run = exec::current()?;
    let fd = run.adopt(run.host().standard(number)?).through_pipe();
    Ok(Halves::new(run, fd))
}

/// The standard input: [`stdin`].
#[derive(Clone)]
pub struct Stdin {
    halves: Rc<Halves>,
}

/// Bytes that one read brings at most. A terminal gives a line at a time.
const PIECE: usize = 16 << 10;

impl Stdin {
    /// Reads what has come. `None` is the end, which stays.
    ///
    /// Cancel class: total. What has come for a dropped one is kept for the next. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says; [`Error::Busy`] if another task reads; `Cancelled`.
    pub async fn recv(&self) -> Result<Option<Chunk>> {
        let bytes = self.read(Vec::with_capacity(PIECE)).await?;
        Ok((!bytes.is_empty()).then(|| Chunk::from_vec(bytes)))
    }
}

super::reads_into!(Stdin);

/// What is written to, by one task after another.
struct Output {
    number: RawFd,
    halves: Mutex<Halves>,
}

impl Output {
    fn of(place: &'static Shared<Output>, number: RawFd) -> Result<Rc<Output>> {
        shared(place, || Ok(Output { number, halves: Mutex::new(open(number)?) }))
    }

    async fn write_all<B: IoBuf>(&self, buf: B) -> Result<B, BufError<B>> {
        let mut halves = match self.halves.lock().await {
            Ok(halves) => halves,
            Err(error) => return Err(BufError::new(error, 0, buf)),
        };
        match halves.write_all(buf).await {
            // A part of what another task wrote is out, and its end is not: no reason to be silent.
            Err(BufError { error: Error::Broken(_), buf, .. }) => {
                match open(self.number) {
                    Ok(anew) => *halves = anew,
                    Err(error) => return Err(BufError::new(error, 0, buf)),
                }
                halves.write_all(buf).await
            }
            outcome => outcome,
        }
    }

    /// Waits until those who came before have written.
    async fn settle(&self) -> Result {
        self.halves.lock().await.map(drop)
    }
}

/// The standard output: [`stdout`].
#[derive(Clone)]
pub struct Stdout {
    output: Rc<Output>,
}

/// The standard error: [`stderr`].
#[derive(Clone)]
pub struct Stderr {
    output: Rc<Output>,
}

/// The two are written to alike.
macro_rules! written_to {
    ($($handle:ident),*) => {$(
        impl $handle {
            /// Writes all of `buf`, when those who came before have written: nothing of another task of
            /// this run gets in between.
            ///
            /// Cancel class: partial: [`done`](BufError::done) says how much was written. The buffer comes
            /// back, also with the error. Dropped half-way it leaves a part written, and others go on.
            /// Linux 6.1.
            ///
            /// # Errors
            /// What the operating system says, `BrokenPipe` for one; `Cancelled`.
            pub async fn write_all<B: IoBuf>(&self, buf: B) -> Result<B, BufError<B>> {
                self.output.write_all(buf).await
            }
        }

        impl Write for $handle {
            /// Writes all of it.
            async fn write<B: IoBuf>(&self, buf: B) -> Result<(usize, B), BufError<B>> {
                let buf = self.output.write_all(buf).await?;
                Ok((buf.len(), buf))
            }

            async fn write_all<B: IoBuf>(&self, buf: B) -> Result<B, BufError<B>> {
                self.output.write_all(buf).await
            }

            /// Waits for those who came before. It stays open: the descriptor belongs to the process.
            async fn finish(&self) -> Result {
                self.output.settle().await
            }
        }

        impl fmt::Debug for $handle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($handle))
            }
        }
    )*};
}

written_to!(Stdout, Stderr);

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stdin")
    }
}
