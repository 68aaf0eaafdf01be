//! What tasks of one run wait for each other with: no atomics, first come first served, and safe to cancel.
//!
//! | to … | |
//! |---|---|
//! | say that something has happened | [`Event`] |
//! | share what one at a time may change | [`Mutex`], [`RwLock`], and [`Condition`] to wait for a change |
//! | let so many in | [`Semaphore`], [`CapacityLimiter`] |
//! | start together | [`Barrier`] |
//! | pass values on | [`channel`](channel()), [`oneshot`](oneshot()), [`watch`](watch()), [`broadcast`](broadcast()) |
//! | build the like | [`ParkingLot`], [`Resource`] |
//!
//! Whatever waits here is a cancel point, and of cancel class total: `Cancelled` means that nothing was
//! taken, and a value that was to be sent comes back with the error. What can be had at once is had at
//! once, but for a schedule point every now and then (rule A2). Nothing here is bound to a run, nor is it
//! `Send`: other threads wake tasks of a run by wakers.
//!
//! Each of them has `statistics()`, and shows itself by `Debug`.

mod barrier;
mod broadcast;
mod channel;
mod condition;
mod event;
mod limiter;
mod lot;
mod mutex;
mod oneshot;
mod rwlock;
mod semaphore;
mod watch;

pub use barrier::{Barrier, BarrierStatistics};
pub use broadcast::{
    BroadcastReceiver, BroadcastSender, BroadcastStatistics, Heard, Missed, broadcast,
};
pub use channel::{
    ChannelStatistics, Receiver, Sender, TryRecvError, TrySendError, channel, unbounded,
};
pub use condition::{Condition, ConditionStatistics, Locked};
pub use event::{Event, EventStatistics};
pub use limiter::{CapacityLimiter, CapacityLimiterStatistics, OwnedToken, Token};
pub use lot::{ParkingLot, Refused, Resource, WaitFor, wait_for};
pub use mutex::{Mutex, MutexGuard, MutexStatistics};
pub use oneshot::{OneshotReceiver, OneshotSender, oneshot};
pub use rwlock::{ReadGuard, RwLock, RwLockStatistics, WriteGuard};
pub use semaphore::{Permit, Semaphore, SemaphoreStatistics};
pub use watch::{WatchReceiver, WatchSender, WatchStatistics, watch};
