//! Child processes, which do not outlive the scope that they were started in.

mod child;
mod ward;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::ops::AsyncFnOnce;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command as StdCommand;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::exec;
use crate::nursery::nursery;
use crate::pipe::{PipeReader, PipeWriter};
use crate::ring::Process;
use crate::thread;

pub use child::Child;
pub use std::process::{ExitStatus, Output, Stdio};

use ward::Ward;

/// How a child process is to be started: [`std::process::Command`], whose other settings are to be had with
/// [`as_std_mut`](Command::as_std_mut).
///
/// ```
/// use trine::process::Command;
///
/// trine::run(async || {
///     let output = Command::new("tr").args(["a-z", "A-Z"]).input("shout").run().await?;
///     assert_eq!(output.stdout, b"SHOUT");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[must_use = "a command does nothing until it is spawned or run"]
pub struct Command {
    std: StdCommand,
    input: Option<Vec<u8>>,
    /// Whether somebody has said what the standard input, output and error are to be.
    set: [bool; 3],
    grace: Duration,
}

/// What a child gets to end by itself: Trio's.
const GRACE: Duration = Duration::from_secs(5);

impl Command {
    /// A command that runs this program, looked for in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        let std = StdCommand::new(program);
        Command { std, input: None, set: [false; 3], grace: GRACE }
    }

    /// With one more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Command {
        self.std.arg(arg);
        self
    }

    /// With more arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        self.std.args(args);
        self
    }

    /// With a variable in its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Command {
        self.std.env(name, value);
        self
    }

    /// Without a variable that it would inherit.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Command {
        self.std.env_remove(name);
        self
    }

    /// Without any variable that it would inherit.
    pub fn env_clear(mut self) -> Command {
        self.std.env_clear();
        self
    }

    /// In this directory.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Command {
        self.std.current_dir(dir);
        self
    }

    /// With this standard input. Unless it is said, a child that is [spawned](Command::spawn) inherits ours,
    /// and one that is [run](Command::run) has none.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Command {
        self.std.stdin(stdin);
        self.set[0] = true;
        self
    }

    /// With this standard output. Unless it is said, a child inherits ours, but what is
    /// [run](Command::run) is asked for its output.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Command {
        self.std.stdout(stdout);
        self.set[1] = true;
        self
    }

    /// With this standard error; as [`stdout`](Command::stdout).
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Command {
        self.std.stderr(stderr);
        self.set[2] = true;
        self
    }

    /// With these bytes as its standard input, for [`status`](Command::status),
    /// [`output`](Command::output) and [`run`](Command::run). A child that does not read them all is none
    /// the worse for it.
    pub fn input(self, bytes: impl Into<Vec<u8>>) -> Command {
        let mut command = self.stdin(Stdio::piped());
        command.input = Some(bytes.into());
        command
    }

    /// In this process group; 0 is a new one, which it leads. Then all of the group get the signals that
    /// it is sent.
    pub fn process_group(mut self, group: i32) -> Command {
        self.std.process_group(group);
        self
    }

    /// How long it may take to end when it was asked to, before it is killed: 5 seconds unless said
    /// otherwise.
    pub fn grace(mut self, grace: Duration) -> Command {
        self.grace = grace;
        self
    }

    /// The command of the standard library, for all its other settings.
    pub fn as_std_mut(&mut self) -> &mut StdCommand {
        &mut self.std
    }

    /// Starts it, in a thread (it takes a moment until the program runs).
    ///
    /// A child that is dropped is killed; see [`Child`]. What it needs to end by itself it gets in
    /// [`spawn_with`](Command::spawn_with).
    ///
    /// To Linux its parent is that thread, which is one of [those that are kept](crate::thread):
    ///
    /// - `PR_SET_PDEATHSIG` tells of the end of the thread, not of the process: the child gets its signal when
    ///   the thread has had nothing to do for ten seconds. Give the child a pipe to read instead, whose other
    ///   end you keep: it sees the end of that when this process ends, however it does.
    /// - It inherits the cores and the nice value of the thread, not those of the caller. Set them in `pre_exec`
    ///   (of the [standard command](Command::as_std_mut)) where they matter.
    ///
    /// Cancel class: total: one that was dropped or cancelled has left no child. Linux 6.1; not on a
    /// simulated kernel.
    ///
    /// # Errors
    /// `NotFound` if there is no such program, `PermissionDenied`, and whatever else the operating system
    /// says; `Unsupported` on a simulated kernel; `Cancelled`; [`Error::NoRun`]. Where the process ignores
    /// SIGCHLD a child is started all the same; how it ends is not to be had.
    ///
    /// ```
    /// use trine::process::{Command, Stdio};
    ///
    /// trine::run(async || {
    ///     let mut cat = Command::new("cat")
    ///         .stdin(Stdio::piped())
    ///         .stdout(Stdio::piped())
    ///         .spawn()
    ///         .await?;
    ///     let (input, output) = (cat.stdin.take().expect("piped"), cat.stdout.take().expect("piped"));
    ///     input.write_all("meow").await?;
    ///     assert_eq!(output.recv().await?.expect("not the end"), *b"meow");
    ///     input.close().await?;
    ///     assert!(cat.wait().await?.success());
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn spawn(self) -> Result<Child> {
        let Command { mut std, grace, .. } = self;
        let run = exec::current()?;
        run.host().check_linux("a process")?;
        let spawned = thread::run(move || {
            Process::spawn(&mut std).map(Ward::new).map_err(|error| {
                let text =
                    format!("{} cannot be started: {error}", std.get_program().to_string_lossy());
                io::Error::new(error.kind(), text)
            })
        });
        Child::new(run, spawned.await??, grace)
    }

    /// Starts it for as long as `body` takes, and returns when both have ended: what the body has left of the
    /// pipes is closed then, and the child is waited for.
    ///
    /// If the body fails, or either wait is cancelled, the child is [stopped](Child::stop): asked to end, and
    /// killed when its [grace](Command::grace) is over. It does not outlive this call.
    ///
    /// Cancel class: total, as far as the body is; a child that has begun is ended.
    ///
    /// # Errors
    /// Those of [`spawn`](Command::spawn); what the body returns; `Cancelled`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use trine::move_on_after;
    /// use trine::process::Command;
    ///
    /// trine::run(async || {
    ///     let served = move_on_after(Duration::from_millis(5), async |_| {
    ///         let server = Command::new("sleep").arg("1000");
    ///         server.spawn_with(async |server| server.wait().await).await
    ///     });
    ///     assert!(served.await?.is_none(), "it was asked to end, and has");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn spawn_with<T>(self, body: impl AsyncFnOnce(&mut Child) -> Result<T>) -> Result<T> {
        let mut child = self.spawn().await?;
        let mut outcome = body(&mut child).await;
        drop((child.stdin.take(), child.stdout.take(), child.stderr.take()));
        if outcome.is_ok() {
            outcome = child.wait().await.and(outcome);
        }
        if outcome.is_err() {
            // What went wrong first is what is told.
            let _ = child.stop().await;
        }
        outcome
    }

    /// Runs it to its end, and says how it ended. It inherits our standard input, output and error unless
    /// something else was said.
    ///
    /// Cancel class: as [`spawn_with`](Command::spawn_with).
    ///
    /// # Errors
    /// As [`spawn`](Command::spawn).
    ///
    /// ```
    /// use trine::process::Command;
    ///
    /// trine::run(async || {
    ///     assert!(!Command::new("false").status().await?.success());
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn status(self) -> Result<ExitStatus> {
        Ok(self.collect().await?.status)
    }

    /// Runs it to its end, with its standard output and error collected, however long they are. It has no
    /// standard input unless something else was said.
    ///
    /// Cancel class: as [`spawn_with`](Command::spawn_with); what was collected is lost.
    ///
    /// # Errors
    /// As [`spawn`](Command::spawn).
    ///
    /// ```
    /// use trine::process::Command;
    ///
    /// trine::run(async || {
    ///     let output = Command::new("sh").args(["-c", "echo out; echo err >&2"]).output().await?;
    ///     assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn output(mut self) -> Result<Output> {
        let [stdin, stdout, stderr] = self.set;
        if !stdin {
            self.std.stdin(Stdio::null());
        }
        if !stdout {
            self.std.stdout(Stdio::piped());
        }
        if !stderr {
            self.std.stderr(Stdio::piped());
        }
        self.collect().await
    }

    /// As [`output`](Command::output), and a child that says it has failed is an error.
    ///
    /// Cancel class: as [`output`](Command::output).
    ///
    /// # Errors
    /// [`Failed`], as an [`Error::Other`], with what was collected, if it did not end with status 0; those of
    /// [`spawn`](Command::spawn).
    ///
    /// ```
    /// use trine::Error;
    /// use trine::process::{Command, Failed};
    ///
    /// trine::run(async || {
    ///     match Command::new("ls").arg("/no/such/place").run().await {
    ///         Err(Error::Other(error)) => {
    ///             let failed = error.downcast_ref::<Failed>().expect("it was started");
    ///             assert_eq!(failed.output.status.code(), Some(2));
    ///             assert!(failed.to_string().contains("/no/such/place"));
    ///         }
    ///         other => panic!("{other:?}"),
    ///     }
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn run(self) -> Result<Output> {
        let program = self.std.get_program().to_string_lossy().into_owned();
        let output = self.output().await?;
        if output.status.success() {
            Ok(output)
        } else {
            Err(Error::other(Failed { program, output }))
        }
    }

    /// Feeds it, and collects what comes through pipes.
    async fn collect(mut self) -> Result<Output> {
        let input = self.input.take().unwrap_or_default();
        self.spawn_with(async |child| {
            let (stdin, stdout, stderr) =
                (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let child = &*child;
            nursery(async |n| {
                // Whoever the child has left its input to need not read that.
                n.spawn_daemon(feed(stdin, input));
                let stdout = n.fork(read_to_end(stdout));
                let stderr = n.fork(read_to_end(stderr));
                let (stdout, stderr) = (stdout.await?, stderr.await?);
                let status = child.wait().await?;
                Ok(Output { status, stdout, stderr })
            })
            .await
        })
        .await
    }
}

async fn feed(stdin: Option<PipeWriter>, input: Vec<u8>) -> Result {
    let Some(stdin) = stdin else { return Ok(()) };
    match stdin.write_all(input).await.map_err(Error::from) {
        // It need not read everything.
        Err(error) if error.io_kind() == Some(io::ErrorKind::BrokenPipe) => {}
        written => drop(written?),
    }
    stdin.close().await
}

async fn read_to_end(output: Option<PipeReader>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(output) = output {
        while let Some(chunk) = output.recv().await? {
            bytes.extend_from_slice(&chunk);
        }
        output.close().await?;
    }
    Ok(bytes)
}

/// A child did not end with status 0: [`Command::run`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Failed {
    /// The program that was run.
    pub program: String,
    /// Its status, and what it wrote.
    pub output: Output,
}

/// Bytes of the standard error that are shown: its end tells most.
const SHOWN: usize = 1000;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Output { status, stderr, .. } = &self.output;
        write!(f, "{} failed: {status}", self.program)?;
        let shown = String::from_utf8_lossy(&stderr[stderr.len().saturating_sub(SHOWN)..]);
        match shown.trim() {
            "" => Ok(()),
            shown => write!(f, ": {shown}"),
        }
    }
}

impl std::error::Error for Failed {}

/// As it is; what its standard input, output and error are to be is only known if it is said here.
impl From<StdCommand> for Command {
    fn from(std: StdCommand) -> Command {
        Command { std, input: None, set: [true, false, false], grace: GRACE }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Command").field(&self.std).finish()
    }
}
