//! What the run is doing, as numbers.

use std::time::Duration;

use super::current_or_none;

/// A record of the current run, from [`stats`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Living tasks: the main one, children, and bodies of nurseries.
    pub tasks: usize,
    /// Open scopes, nurseries and children.
    pub scopes: usize,
    /// Operations on our side that the kernel has not seen.
    pub queued: usize,
    /// Operations that the kernel has.
    pub in_kernel: usize,
    /// Operations that ever went to the kernel.
    pub submitted: u64,
    /// Operations that were taken back before they did (rule D6).
    pub withdrawn: u64,
    /// Completions that came, of operations, of cancel requests and of the bell.
    pub completions: u64,
    /// Requests to cancel that were sent.
    pub cancels_sent: u64,
    /// Those of them that found no such operation any more.
    pub cancels_missed: u64,
    /// Those of them that found it running, where it may or may not stop.
    pub cancels_running: u64,
    /// Tasks, scope bodies and nursery bodies that were dropped because they were cancelled and went
    /// on waiting for something foreign (rules F13, F14).
    pub abandoned: u64,
    /// Threads at work for the run, but for those that it does not wait for.
    pub threads: usize,
    /// Turns of the loop.
    pub turns: u64,
    /// System calls into the ring.
    pub enters: u64,
    /// Deadlines and sleeps that are set.
    pub timers: usize,
    /// Until the earliest of them; zero if it has passed.
    pub next_deadline: Option<Duration>,
    /// Receive buffers that the kernel may take, or goes on filling.
    pub pool_free: usize,
    /// Receive buffers of which something is out on a lease. One that the kernel goes on filling counts
    /// as free too.
    pub pool_leased: usize,
    /// Receive buffers laid aside; they cost no memory.
    pub pool_spare: usize,
    /// Bytes of memory for direct reads and writes that the kernel knows beforehand
    /// ([`Builder::registered_memory`](crate::Builder::registered_memory)).
    pub registered: usize,
}

/// Numbers about the run of this thread; all zero outside of one.
///
/// ```
/// trine::run(async || {
///     trine::nop().await?;
///     assert_eq!(trine::stats().submitted, 1);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn stats() -> Stats {
    let Some(run) = current_or_none() else { return Stats::default() };
    let now = run.now();
    let (pool_free, pool_leased, pool_spare) = run.pools.census();
    run.look(|core| {
        let traffic = core.ring.as_ref().map(|ring| ring.traffic()).unwrap_or_default();
        let (submitted, withdrawn) = core.table.counts();
        Stats {
            tasks: core.tasks.len(),
            scopes: core.tree.len(),
            queued: core.table.queued(),
            in_kernel: core.table.in_kernel(),
            submitted,
            withdrawn,
            completions: traffic.completions,
            cancels_sent: traffic.cancels_sent,
            cancels_missed: traffic.cancels_missed,
            cancels_running: traffic.cancels_running,
            abandoned: core.abandoned,
            threads: core.workers.awaited(),
            turns: core.turn(),
            enters: traffic.enters,
            timers: core.deadlines.len(),
            next_deadline: core.deadlines.next().map(|at| at.saturating_duration_since(now)),
            pool_free,
            pool_leased,
            pool_spare,
            registered: run.registry.bytes(),
        }
    })
}
