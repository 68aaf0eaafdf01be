//! Simulated worlds: a kernel, a network and a clock that a test owns.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::AsyncFnOnce;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::{Clock, VirtualClock};
use crate::error::Result;
use crate::exec::{Limits, Setting, Stage, StageSet, Strictness, current_or_none};
use crate::ring::Host;
use crate::ring::twin::{self, Census, Faults, Lane, Outside, Tape};

/// A simulated machine with its network, in virtual time.
///
/// Every run inside [`run`](World::run) gets this kernel instead of Linux: the same program, the same
/// operations, but time passes only when nothing can run (for a program that never stops running, a
/// little with each turn after some hundreds), and everything that may happen in this order
/// or that is drawn from a *tape*. The tame tape is an obedient kernel; a tape from a seed is not, and
/// the same seed does the same each time.
///
/// ```
/// use std::time::Duration;
/// use trine::testing::World;
/// use trine::time::{Instant, sleep};
///
/// World::tame().run(async || {
///     let began = Instant::now();
///     sleep(Duration::from_secs(3600)).await?; // takes no time
///     assert_eq!(began.elapsed(), Duration::from_secs(3600));
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Clone)]
pub struct World {
    world: Rc<twin::World>,
    clock: Rc<VirtualClock>,
    autojump: bool,
    limits: Limits,
}

impl World {
    /// A world where everything goes as it should.
    pub fn tame() -> World {
        World::from_tape(Tape::tame(), Faults::none())
    }

    /// A world that delays, reorders, shortens and interrupts as Linux may, drawn from a seed. Nothing
    /// breaks connections, connects or accepts ([`Faults::lossless`]); for that too, take
    /// `World::from_tape(Tape::from_seed(seed), Faults::wild())`.
    pub fn from_seed(seed: u64) -> World {
        World::from_tape(Tape::from_seed(seed), Faults::lossless())
    }

    /// A world that does what the tape says.
    pub fn from_tape(tape: Tape, faults: Faults) -> World {
        let clock = Rc::new(VirtualClock::new());
        let world = twin::World::new(Rc::clone(&clock), tape, faults);
        World { world, clock, autojump: true, limits: Limits::default() }
    }

    /// The world of the run on this thread.
    ///
    /// # Panics
    /// Outside of a run, and in one on the real kernel.
    pub fn current() -> World {
        World::try_current()
            .expect("World::current: there is no run on this thread, or it is on the real kernel")
    }

    /// The world of the run on this thread, if it is in one.
    pub fn try_current() -> Option<World> {
        let run = current_or_none()?;
        let (Host::Twin(world), Clock::Virtual(clock)) = (run.host(), run.clock()) else {
            return None;
        };
        Some(World {
            world: Rc::clone(world),
            clock: Rc::clone(clock),
            autojump: true,
            limits: Limits::default(),
        })
    }

    /// Virtual time stands still until [`advance`](World::advance) moves it. While a run ends it passes
    /// all the same, until the kernel has let go of everything.
    #[must_use]
    pub fn by_hand(mut self) -> World {
        self.autojump = false;
        self
    }

    /// A run that goes on for more turns than this ends with [`Error::Overrun`](crate::Error::Overrun).
    #[must_use]
    pub fn turns(mut self, most: u64) -> World {
        self.limits.turns = Some(most);
        self
    }

    /// A run that is still going on so much later than now, in virtual time, ends with [`Error::Overrun`](crate::Error::Overrun).
    #[must_use]
    pub fn timeout(mut self, most: Duration) -> World {
        self.limits.time = Some(self.clock.now() + most);
        self
    }

    /// Runs a program in this world, as [`run`](fn@crate::run) does on Linux. A run that nothing in
    /// this world can wake any more is a [`Deadlock`](crate::Error::Deadlock); while another thread holds
    /// a waker it is waited for, at most ten seconds of real time at a go.
    ///
    /// # Errors
    /// As [`run`](fn@crate::run).
    ///
    /// # Panics
    /// As [`run`](fn@crate::run).
    #[track_caller]
    pub fn run<T>(&self, main: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
        let _set = self.enter();
        crate::run(main)
    }

    /// Calls `f`; every run that it starts on this thread is in this world.
    pub fn during<T>(&self, f: impl FnOnce() -> T) -> T {
        let _set = self.enter();
        f()
    }

    pub(super) fn enter(&self) -> StageSet {
        let world = Rc::clone(&self.world);
        let shuffle = move |options: usize| world.choose(Lane::Schedule, options as u32) as usize;
        let stage = Stage {
            world: Some(Rc::clone(&self.world)),
            setting: Setting {
                clock: Clock::Virtual(Rc::clone(&self.clock)),
                shuffle: Some(Rc::new(shuffle)),
            },
            jump_after: self.autojump.then_some(Duration::ZERO),
            deadlock: Some(Strictness::Lenient),
            limits: self.limits,
        };
        stage.set()
    }

    /// Moves virtual time on by hand.
    pub fn advance(&self, by: Duration) {
        self.clock.advance_to(self.clock.now() + by);
    }

    /// How much virtual time has passed.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    // The network.

    /// What is sent from now on is under way for this long. Nothing at first.
    pub fn set_latency(&self, one_way: Duration) {
        self.world.set_latency(one_way);
    }

    /// The same for what goes from or to this address: it is farther away than the others, or nearer.
    ///
    /// ```
    /// use std::time::Duration;
    /// use trine::net::{TcpListener, TcpStream};
    /// use trine::testing::World;
    ///
    /// let world = World::tame();
    /// world.run(async || {
    ///     let listener = TcpListener::bind("10.0.0.1:7").await?;
    ///     world.set_latency_of("10.0.0.1".parse().unwrap(), Duration::from_millis(40));
    ///     TcpStream::connect("10.0.0.1:7").await?;
    ///     assert_eq!(world.elapsed(), Duration::from_millis(80)); // there and back
    ///     assert!(TcpStream::connect("10.0.0.2:7").await.is_err());
    ///     assert_eq!(world.elapsed(), Duration::from_millis(80)); // refused at once
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn set_latency_of(&self, address: IpAddr, one_way: Duration) {
        self.world.set_latency_of(address, one_way);
    }

    /// Sockets of IPv6 are refused from now on (`EAFNOSUPPORT`), as by a kernel without it, or no longer.
    pub fn refuse_ipv6(&self, refuse: bool) {
        self.world.refuse_ipv6(refuse);
    }

    /// Separates two addresses: what is sent between them is held back until they are
    /// [healed](World::heal), and connecting hangs.
    ///
    /// ```
    /// use std::time::Duration;
    /// use trine::net::{TcpListener, TcpStream};
    /// use trine::testing::World;
    ///
    /// World::tame().run(async || {
    ///     let listener = TcpListener::bind("10.0.0.1:7").await?;
    ///     let there = listener.local_addr()?;
    ///     let here = TcpStream::connect_addr(there).await?.local_addr()?;
    ///     World::current().partition(here.ip(), there.ip());
    ///     let patience = Duration::from_secs(5);
    ///     let connected = trine::move_on_after(patience, async |_| TcpStream::connect_addr(there).await);
    ///     assert!(connected.await?.is_none());
    ///     World::current().heal(here.ip(), there.ip());
    ///     TcpStream::connect_addr(there).await.map(drop)
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn partition(&self, a: IpAddr, b: IpAddr) {
        self.world.partition(a, b);
    }

    /// Ends a [partition](World::partition).
    pub fn heal(&self, a: IpAddr, b: IpAddr) {
        self.world.heal(a, b);
    }

    /// Cuts off one end: a listener's address, or one connection's
    /// [`local_addr`](crate::net::TcpStream::local_addr). An address that nobody has is ignored.
    pub fn isolate(&self, end: SocketAddr) {
        self.world.isolate(end);
    }

    /// Ends what [`isolate`](World::isolate) began.
    pub fn rejoin(&self, end: SocketAddr) {
        self.world.rejoin(end);
    }

    /// Cuts an address off from all others.
    pub fn isolate_ip(&self, ip: IpAddr) {
        self.world.isolate_ip(ip);
    }

    /// Ends what [`isolate_ip`](World::isolate_ip) began.
    pub fn rejoin_ip(&self, ip: IpAddr) {
        self.world.rejoin_ip(ip);
    }

    /// Breaks the connection with this local address: both ends see it reset. An address that nobody
    /// has is ignored.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use trine::net::{TcpListener, TcpStream};
    /// use trine::testing::World;
    ///
    /// World::tame().run(async || {
    ///     let listener = TcpListener::bind("10.0.0.1:7").await?;
    ///     let client = TcpStream::connect_addr(listener.local_addr()?).await?;
    ///     World::current().reset(client.local_addr()?);
    ///     assert_eq!(client.recv().await.unwrap_err().io_kind(), Some(ErrorKind::ConnectionReset));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn reset(&self, end: SocketAddr) {
        self.world.reset(end);
    }

    /// Connects to a listener in this world from outside of any run: a peer that a test plays itself.
    /// It may be used before, between and after the runs, too.
    ///
    /// # Errors
    /// What is known at once, `ConnectionRefused` for one. If the network takes its time, or the
    /// backlog is full, the [`Outside`] is there before its connection.
    pub fn connect(&self, to: SocketAddr) -> io::Result<Outside> {
        Outside::connect(&self.world, to)
    }

    /// Makes a name known.
    pub fn add_name(&self, name: &str, address: IpAddr) {
        self.world.add_name(name, address);
    }

    /// How many descriptors there are at most; beyond that, `EMFILE`.
    pub fn limit_descriptors(&self, most: usize) {
        self.world.limit_descriptors(most);
    }

    // The disk.

    /// How long each operation on files takes from now on. Nothing at first.
    pub fn set_disk_latency(&self, latency: Duration) {
        self.world.set_disk_latency(latency);
    }

    /// So many bytes of files fit on the disk; beyond that, `StorageFull`.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use trine::fs::File;
    /// use trine::testing::World;
    ///
    /// World::tame().run(async || {
    ///     World::current().set_disk_room(6);
    ///     let file = File::create("/tmp/file").await?;
    ///     let failed = file.write_all_at("too much", 0).await.unwrap_err();
    ///     assert_eq!(failed.done, 6);
    ///     assert_eq!(failed.error.io_kind(), Some(ErrorKind::StorageFull));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn set_disk_room(&self, bytes: u64) {
        self.world.set_disk_room(bytes);
    }

    /// Reads, writes and syncs of files fail with this error number, `EIO` (5) for one. `None` ends that.
    pub fn break_disk(&self, errno: Option<i32>) {
        self.world.break_disk(errno);
    }

    /// Multishot operations are refused from now on, as by a kernel that does not know them (`EINVAL`), or
    /// no longer: a program sees no difference.
    ///
    /// ```
    /// use trine::net::{TcpListener, TcpStream};
    /// use trine::testing::World;
    ///
    /// World::tame().run(async || {
    ///     World::current().refuse_multishots(true);
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let client = TcpStream::connect_addr(listener.local_addr()?).await?;
    ///     let (server, _) = listener.accept().await?;
    ///     client.write_all("x").await?;
    ///     assert_eq!(server.recv().await?.unwrap(), *b"x");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn refuse_multishots(&self, refuse: bool) {
        self.world.refuse_multishots(refuse);
    }

    /// Has the kernel refuse to send without a copy with `EOPNOTSUPP`, as it does on sockets that cannot;
    /// or not any more.
    ///
    /// ```
    /// use trine::net::{TcpListener, TcpStream};
    /// use trine::testing::World;
    ///
    /// World::tame().run(async || {
    ///     World::current().refuse_zero_copy(true);
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let client = TcpStream::connect_addr(listener.local_addr()?).await?;
    ///     client.set_zero_copy(Some(1))?;
    ///     client.write_all("copied").await?;
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn refuse_zero_copy(&self, refuse: bool) {
        self.world.refuse_zero_copy(refuse);
    }

    /// Has the kernel refuse to move bytes from a file to a stream by itself with `EINVAL`, as it does for file
    /// systems that cannot ([`File::send_to`](crate::fs::File::send_to)); or not any more.
    pub fn refuse_splice(&self, refuse: bool) {
        self.world.refuse_splice(refuse);
    }

    /// So many bytes of buffers may be registered; more is refused with `ENOMEM`, as by a kernel with a
    /// limit on locked memory ([`Builder::registered_memory`](crate::Builder::registered_memory)).
    ///
    /// ```
    /// use trine::fs::File;
    /// use trine::testing::World;
    ///
    /// World::tame().run(async || {
    ///     World::current().limit_locked_memory(0);
    ///     let file = File::create("/tmp/file").await?;
    ///     file.write_at(file.direct_buf(1).await?, 0).await?;
    ///     assert_eq!(trine::stats().registered, 0);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn limit_locked_memory(&self, most: usize) {
        self.world.limit_locked_memory(most);
    }

    /// Runs that begin from now on get no ring but this error number: `ENOSYS`, `EPERM`, `ENOMEM`.
    /// `None` ends that.
    ///
    /// ```
    /// use trine::{Error, testing::World};
    ///
    /// let world = World::tame();
    /// world.refuse_rings(Some(38)); // ENOSYS
    /// assert!(matches!(world.run(async || Ok(())), Err(Error::Unavailable(_))));
    /// world.refuse_rings(None);
    /// world.run(async || Ok(()))?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn refuse_rings(&self, errno: Option<i32>) {
        self.world.refuse_rings(errno);
    }

    // Looking at it.

    /// What there is in the world.
    pub fn census(&self) -> Census {
        self.world.census()
    }

    /// What the kernel found wrong: memory changed that was lent to it, descriptors used after they
    /// were closed. Always empty, unless trine is wrong.
    pub fn violations(&self) -> Vec<String> {
        self.world.violations()
    }

    /// The same at the end of a program, when every descriptor must be closed and every buffer back.
    pub fn finish(&self) -> Vec<String> {
        self.world.finish()
    }

    /// The choices made so far.
    pub fn tape(&self) -> Tape {
        self.world.tape()
    }

    /// A number that is the same exactly if the same things happened in the same order.
    pub fn trace(&self) -> u64 {
        self.world.trace_hash()
    }

    /// What happened last, as text.
    pub fn timeline(&self) -> String {
        self.world.timeline()
    }

    /// Adds a line of one's own to the timeline.
    pub fn note(&self, text: impl Into<String>) {
        self.world.note(text.into());
    }

    /// One of so many options, drawn from the tape; 0 on the tame one. For programs that a test makes
    /// up, so that they shrink with the rest.
    pub fn choose(&self, options: u32) -> u32 {
        self.world.choose(Lane::Program, options)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("elapsed", &self.elapsed())
            .field("census", &self.census())
            .finish_non_exhaustive()
    }
}
