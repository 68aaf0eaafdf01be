//! Running a program: [`run`], and [`Builder`] for what it may be told.

#[cfg(feature = "macros")]
pub(crate) mod entry;

use std::fmt;
use std::future::Future;
use std::ops::AsyncFnOnce;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use crate::cancel::{Label, What};
use crate::clock::Clock;
use crate::error::{Error, Result, Unavailable, Unwind};
#[cfg(feature = "testing")]
use crate::exec::Stage;
use crate::exec::{self, Draining, Drive, Limits, Run, Setting, Strictness};
use crate::op::{Pool, PoolLimits, Registry};
use crate::ring::{Catch, Ring, RingSize, StopSignals};

/// Runs `main` to its end on this thread, on a ring of its own.
///
/// It returns when every task has ended and the kernel has let go of every operation; only then is
/// the ring closed and memory freed (rule P1). `main` may borrow from outside.
///
/// # Errors
/// What `main` returns; [`Error::Unavailable`] if this machine gives no io_uring that can be used,
/// with the cause and the remedy. Needs Linux 6.1.
///
/// # Panics
/// Inside another run on the same thread (rule P3), and with the panic of a task.
///
/// ```
/// let greeting = String::from("hello");
/// let length = trine::run(async || {
///     trine::checkpoint().await?;
///     Ok(greeting.len())
/// })?;
/// assert_eq!(length, 5);
/// # Ok::<(), trine::Error>(())
/// ```
#[track_caller]
pub fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
    Builder::new().run(main)
}

/// [`run`](fn@run) for other error types.
pub(crate) mod generic {
    use super::*;

    /// [`run`](fn@crate::run) for any error type.
    ///
    /// # Errors
    /// As [`run`](fn@crate::run).
    ///
    /// # Panics
    /// As [`run`](fn@crate::run).
    #[track_caller]
    pub fn run<T, E: Unwind>(main: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E> {
        Builder::new().run_generic(main)
    }
}

/// How a run is made; [`run`](fn@run) takes the defaults.
///
/// Every size is a limit with a stated behaviour when it is reached: work waits, nothing fails, and
/// nothing grows without bound.
///
/// ```
/// let builder = trine::Builder::new().submissions(64).pool_most(64).ctrl_c(true);
/// builder.run(async || trine::nop().await)?;
/// # Ok::<(), trine::Error>(())
/// ```
#[must_use = "a builder does nothing until `run` is called"]
pub struct Builder {
    ring: RingSize,
    pool: PoolSize,
    registered: usize,
    ctrl_c: bool,
    drain: Option<Draining>,
    deadlock: Option<Strictness>,
    on_abandoned: Option<Abandoned>,
}

/// What was said of the pool; the rest depends on what the kernel can do.
#[derive(Clone, Copy, Debug)]
struct PoolSize {
    incremental: bool,
    buffer: Option<u32>,
    least: Option<u16>,
    most: Option<u16>,
}

impl PoolSize {
    /// Sizes of a pool whose buffers are filled piece by piece, or by one receive each.
    fn limits(self, incremental: bool) -> PoolLimits {
        let usual = if incremental { PoolLimits::INCREMENTAL } else { PoolLimits::PLAIN };
        let least = self.least.unwrap_or(usual.least.min(self.most.unwrap_or(u16::MAX)));
        let most = self.most.unwrap_or(usual.most).max(least);
        PoolLimits { buffer: self.buffer.unwrap_or(usual.buffer), least, most }
    }
}

/// Told where a task was spawned that had to be dropped.
type Abandoned = Box<dyn Fn(&'static Location<'static>)>;

impl Builder {
    /// The defaults.
    pub fn new() -> Builder {
        Builder {
            // One turn of a busy server queues some hundred requests; more only need another call.
            // So many FIFOs may be waited for. (A limit of 4 or of 256 made no difference to small files.)
            ring: RingSize { submissions: 256, completions: 8192, workers: 64 },
            pool: PoolSize { incremental: true, buffer: None, least: None, most: None },
            // An eighth of the usual limit on locked memory, from which all rings of the user take.
            registered: 1 << 20,
            ctrl_c: false,
            drain: None,
            deadlock: None,
            on_abandoned: None,
        }
    }

    /// Entries of the submission queue; 256 unless said otherwise. A turn that queues more makes a
    /// second system call.
    pub fn submissions(mut self, entries: u32) -> Builder {
        self.ring.submissions = entries.clamp(1, 32_768);
        self
    }

    /// Entries of the completion queue; 8,192 unless said otherwise, which is what gives the kernel
    /// its largest table to look cancels up in. Never fewer than of the submission queue. More
    /// completions than that at a time wait in the kernel.
    pub fn completions(mut self, entries: u32) -> Builder {
        self.ring.completions = entries.clamp(2, 65_536);
        self
    }

    /// Threads of the kernel, at most, that work for the run: they open and sync files and change names, for
    /// which the kernel has no other way than to block. 64 unless said otherwise. They come when they are
    /// needed and go when there is nothing to do; the limit on processes (`RLIMIT_NPROC`) counts them.
    ///
    /// When all of them are busy, more such work waits. Mostly that is short, but the opening of a FIFO keeps
    /// its thread until somebody opens the other end: where more of them are waited for than this, nothing
    /// else is opened. Reads and writes that find their data in memory need no thread.
    ///
    /// Beside them there are up to 512 threads for what may wait for anybody and cannot be waited for in another
    /// way: moves (splice(2)), and [datagrams](crate::net::UnixDatagram::send_to) to a socket that is full.
    pub fn kernel_threads(mut self, most: u32) -> Builder {
        self.ring.workers = most.clamp(1, 32_768);
        self
    }

    /// Whether the kernel fills each receive buffer piece by piece, with what comes for one receive
    /// after another, so that little messages lie close together and large ones come in large pieces.
    /// A buffer is used again when all that lies in it was dropped. On unless said otherwise, but only
    /// where the kernel has it in order (Linux 6.15).
    pub fn pool_incremental(mut self, incremental: bool) -> Builder {
        self.pool.incremental = incremental;
        self
    }

    /// Bytes of one receive buffer, rounded up to whole pages; unless said otherwise 256 KiB if they are
    /// filled [piece by piece](Builder::pool_incremental), else 16 KiB. Smaller than the usual message,
    /// it costs a receive and a send more for each.
    pub fn pool_buffer(mut self, bytes: u32) -> Builder {
        self.pool.buffer = Some(bytes.clamp(1, 1 << 30).next_multiple_of(4096));
        self
    }

    /// Receive buffers at the start, and what the pool never shrinks below; unless said otherwise 4 if
    /// they are filled piece by piece, else 64. Rounded up to a power of two. A small pool stays in the
    /// processor's cache; it doubles whenever a receive has found none, and shrinks when most of it lies
    /// idle.
    pub fn pool_least(mut self, buffers: u16) -> Builder {
        self.pool.least = Some(buffers.clamp(1, 1 << 15).next_power_of_two());
        self
    }

    /// Receive buffers at most; unless said otherwise 256 if they are filled piece by piece, else
    /// 4,096. Rounded up to a power of two. When all are in use, a receive gets memory of its own.
    pub fn pool_most(mut self, buffers: u16) -> Builder {
        self.pool.most = Some(buffers.clamp(1, 1 << 15).next_power_of_two());
        self
    }

    /// Bytes of buffers for direct reads and writes ([`File::direct_buf`](crate::fs::File::direct_buf)), at most,
    /// whose pages the kernel holds, which makes each read and write cheaper; 1 MiB unless said otherwise,
    /// and at most 1 GiB. They count towards the limit on locked memory (`ulimit -l`), from which all rings of
    /// the user take too; older kernels (Linux 6.1) may hold what was let go of up to a second longer. What a
    /// dropped buffer leaves is kept for the next one of its size, until others need the room. Buffers beyond
    /// this limit, or that of the kernel, are plain memory; with 0 all are. What the kernel has refused is
    /// tried again when some more buffers were made.
    pub fn registered_memory(mut self, bytes: usize) -> Builder {
        self.registered = bytes.min(1 << 30);
        self
    }

    /// Whether the first Ctrl-C cancels the main scope with reason `Interrupt`; a second one kills
    /// the process (rule P5). Off unless said otherwise.
    pub fn ctrl_c(mut self, catch: bool) -> Builder {
        self.ctrl_c = catch;
        self
    }

    /// Has signals end the program gracefully: the first SIGTERM or Ctrl-C
    /// [drains](crate::CancelScope::drain) the main scope with this grace, the second one cancels it, and a
    /// third one kills the process (rule P5). One that comes when the main future has ended changes nothing
    /// any more.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use trine::net::{TcpListener, serve};
    /// use trine::{Builder, idle};
    ///
    /// Builder::new().drain_on_signal(Duration::from_secs(30)).run(async || {
    ///     let listener = TcpListener::bind("127.0.0.1:7000").await?;
    ///     serve(&listener, 1000, async |stream, _peer| {
    ///         while let Some(Some(request)) = idle(stream.recv()).await? {
    ///             stream.write_all(request).await?;
    ///         }
    ///         stream.close().await
    ///     })
    ///     .await
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    #[track_caller]
    pub fn drain_on_signal(mut self, grace: Duration) -> Builder {
        self.drain = Some(Draining { grace, at: Location::caller() });
        self
    }

    /// Whether a run that nothing can wake any more ends with [`Error::Deadlock`], which shows the
    /// task tree, instead of sleeping for ever (rule P4). A waker of ours that somebody outside holds
    /// counts as something that could wake it. Off unless said otherwise.
    pub fn detect_deadlock(mut self, detect: bool) -> Builder {
        self.deadlock = detect.then_some(Strictness::Lenient);
        self
    }

    /// As [`detect_deadlock`](Builder::detect_deadlock), and wakers held outside do not count.
    pub fn detect_deadlock_strictly(mut self, detect: bool) -> Builder {
        self.deadlock = detect.then_some(Strictness::Strict);
        self
    }

    /// Calls `report` with the spawn location of every task that was dropped because it went on
    /// waiting for something foreign, or swallowed its cancellation over and over (rule F15).
    pub fn on_abandoned(
        mut self,
        report: impl Fn(&'static Location<'static>) + 'static,
    ) -> Builder {
        self.on_abandoned = Some(Box::new(report));
        self
    }

    /// Runs `main`, as [`run`](fn@run) does.
    ///
    /// # Errors
    /// As [`run`](fn@run).
    ///
    /// # Panics
    /// As [`run`](fn@run).
    #[track_caller]
    pub fn run<T>(self, main: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
        self.run_generic(main)
    }

    #[track_caller]
    pub(crate) fn run_generic<T, E: Unwind>(
        self,
        main: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let at = Location::caller();
        assert!(
            exec::current_or_none().is_none(),
            "trine::run inside a run: this thread has one already; spawn into a nursery instead",
        );
        let (run, drive) = self.prepare(at).map_err(E::from)?;
        run.drive(&drive, main()).map_err(E::from)?
    }

    fn prepare(self, at: &'static Location<'static>) -> Result<(Rc<Run>, Drive)> {
        #[cfg(feature = "testing")]
        if let Some(stage) = exec::stage() {
            return self.prepare_on(stage, at);
        }
        let ring = Ring::open(self.ring)?;
        self.start(ring, Setting { clock: Clock::Monotonic, shuffle: None }, at)
    }

    /// On what a test has set up.
    #[cfg(feature = "testing")]
    fn prepare_on(self, stage: Stage, at: &'static Location<'static>) -> Result<(Rc<Run>, Drive)> {
        let ring = match &stage.world {
            Some(world) => Ring::open_in(world, self.ring)?,
            None => Ring::open(self.ring)?,
        };
        let (run, mut drive) = self.start(ring, stage.setting, at)?;
        run.jump_after(stage.jump_after);
        drive.deadlock = drive.deadlock.or(stage.deadlock);
        drive.limits = stage.limits;
        Ok((run, drive))
    }

    fn start(
        self,
        mut ring: Ring,
        setting: Setting,
        at: &'static Location<'static>,
    ) -> Result<(Rc<Run>, Drive)> {
        let incremental = self.pool.incremental && ring.capabilities().incremental_buffers;
        let limits = self.pool.limits(incremental);
        let buffers = ring.register_buffers(limits.most, POOL_GROUP, incremental);
        let pool = Pool::new(Some(buffers.map_err(no_buffers)?), limits);
        if !pool.has_buffers() {
            return Err(no_memory(limits));
        }
        let catch = match (self.drain, self.ctrl_c) {
            (Some(_), _) => Some(Catch::Termination),
            (None, true) => Some(Catch::Interrupt),
            (None, false) => None,
        };
        let signals = catch.map(|what| StopSignals::catch(what, ring.bell())).transpose()?;
        let label = Label { what: What::Run, at };
        let registry = Registry::new(self.registered);
        let run = Run::new(ring, pool, registry, label, setting, self.on_abandoned);
        let (drain, deadlock, limits) = (self.drain, self.deadlock, Limits::default());
        Ok((run, Drive { signals, drain, deadlock, limits }))
    }
}

/// The group of provided buffers that receives take from.
pub(crate) const POOL_GROUP: u16 = 0;

fn no_buffers(error: std::io::Error) -> Error {
    let cause = "the kernel refused a ring of provided buffers";
    let remedy = "Use Linux 6.1 or newer; if memory is short, raise the limit on locked memory \
                  (ulimit -l) or ask for a smaller pool with Builder::pool_most";
    Unavailable::new(cause, remedy, error).into()
}

fn no_memory(PoolLimits { buffer, least, .. }: PoolLimits) -> Error {
    let cause = format!("there is no memory for {least} receive buffers of {buffer} bytes");
    let remedy = "Ask for fewer with Builder::pool_least or for smaller ones with \
                  Builder::pool_buffer";
    Unavailable::new(cause, remedy, std::io::ErrorKind::OutOfMemory.into()).into()
}

impl Default for Builder {
    fn default() -> Self {
        Builder::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("ring", &self.ring)
            .field("pool", &self.pool)
            .field("registered_memory", &self.registered)
            .field("ctrl_c", &self.ctrl_c)
            .field("drain_on_signal", &self.drain.map(|drain| drain.grace))
            .field("deadlock", &self.deadlock)
            .finish_non_exhaustive()
    }
}

/// Raises the process's limit on open descriptors towards `wanted`, as far as its hard limit allows,
/// and says what it is now.
///
/// # Errors
/// What the operating system says.
///
/// ```
/// let limit = trine::raise_descriptor_limit(256)?;
/// assert!(limit > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn raise_descriptor_limit(wanted: u64) -> std::io::Result<u64> {
    crate::ring::raise_descriptor_limit(wanted)
}

/// One round trip through the kernel that does nothing: for measurements and tests.
///
/// Cancel class: total.
///
/// # Errors
/// `Cancelled`; [`Error::NoRun`] outside of a run.
///
/// ```
/// trine::run(async || trine::nop().await)?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn nop() -> impl Future<Output = Result> {
    exec::submit_plain(crate::op::Submission::nop)
}
