//! Several futures at a time: children of a nursery of their own, joined before the value comes.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::ops::AsyncFn;
use std::panic::Location;

use crate::error::{Error, Result, Unwind};
use crate::exec::checkpoint_if_cancelled;
use crate::nursery::{Nursery, nursery};
use crate::sync::{CapacityLimiter, Semaphore};

/// How a [`race`] went.
#[derive(Debug)]
#[non_exhaustive]
pub struct Race<T> {
    /// The value of the first one.
    pub winner: T,
    /// Which one that was, counted from 0.
    pub index: usize,
    /// Those who ended all the same before the cancellation reached them, in the order of their ends:
    /// nothing that was done is lost.
    pub late: Vec<(usize, Result<T>)>,
}

/// Runs all of them until the first ends: the others are cancelled and joined.
///
/// Cancel class: that of each of them. When this returns all of them have ended, and what a loser had
/// finished anyway is in [`late`](Race::late). One that fails before anybody has won ends the race with its
/// error; see [`race_ok`] for one that only success ends.
///
/// # Errors
/// That of the first one, if it failed; `Cancelled`; `InvalidInput` if nobody runs.
///
/// ```
/// use std::time::Duration;
/// use trine::time::sleep;
///
/// trine::run(async || {
///     let slow = async |time| { sleep(Duration::from_millis(time)).await?; Ok(time) };
///     let race = trine::race([slow(20), slow(1), slow(30)]).await?;
///     assert_eq!((race.winner, race.index), (1, 1));
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[track_caller]
pub fn race<'env, T, F>(
    entrants: impl IntoIterator<Item = F> + 'env,
) -> impl Future<Output = Result<Race<T>>>
where
    T: 'env,
    F: Future<Output = Result<T>> + 'env,
{
    run_race(entrants, Location::caller(), true)
}

/// Runs all of them until the first succeeds: the others are cancelled and joined.
///
/// As [`race`], but those that fail drop out.
///
/// # Errors
/// If all have failed, all their errors, in the order in which they failed, gathered in a [`Group`](crate::Group) (one is
/// itself); `Cancelled`; `InvalidInput` if nobody runs.
///
/// ```
/// trine::run(async || {
///     let dial = async |port: u16| match port {
///         80 => Ok("connected"),
///         _ => Err(trine::Error::other("refused")),
///     };
///     assert_eq!(trine::race_ok([dial(81), dial(80), dial(82)]).await?.winner, "connected");
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[track_caller]
pub fn race_ok<'env, T, F>(
    entrants: impl IntoIterator<Item = F> + 'env,
) -> impl Future<Output = Result<Race<T>>>
where
    T: 'env,
    F: Future<Output = Result<T>> + 'env,
{
    run_race(entrants, Location::caller(), false)
}

async fn run_race<'env, T, F>(
    entrants: impl IntoIterator<Item = F> + 'env,
    at: &'static Location<'static>,
    any_end: bool,
) -> Result<Race<T>>
where
    T: 'env,
    F: Future<Output = Result<T>> + 'env,
{
    let ended: RefCell<Vec<(usize, Result<T>)>> = RefCell::default();
    let won = Cell::new(false);
    let entered = run_all(entrants, at, |index, end| {
        won.set(won.get() || any_end || end.is_ok());
        ended.borrow_mut().push((index, end));
        Ok(if won.get() { Others::Cancel } else { Others::GoOn })
    });
    if entered.await? == 0 {
        let text = "a race without anybody in it";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
    }
    let mut ended = ended.into_inner();
    let first = ended.iter().position(|(_, end)| any_end || end.is_ok());
    match first.map(|first| ended.remove(first)) {
        Some((index, end)) => Ok(Race { winner: end?, index, late: ended }),
        None => Err(Error::gather(ended.into_iter().filter_map(|(_, end)| end.err()).collect())),
    }
}

/// What becomes of the others when one has ended.
enum Others {
    GoOn,
    Cancel,
}

/// Runs all of them as children, and says how many that were. What each came to goes to `ended`, but for
/// cancellations: those did not happen, and go on to the scope that wanted them.
async fn run_all<'env, T, F>(
    futures: impl IntoIterator<Item = F>,
    at: &'static Location<'static>,
    ended: impl Fn(usize, Result<T>) -> Result<Others>,
) -> Result<usize>
where
    T: 'env,
    F: Future<Output = Result<T>> + 'env,
{
    let count = Cell::new(0);
    nursery(async |n| {
        for (index, future) in futures.into_iter().enumerate() {
            count.set(index + 1);
            let ended = &ended;
            let child = async move {
                let others = match future.await {
                    Err(error) if error.is_cancelled() => return Err(error),
                    end => ended(index, end)?,
                };
                if let Others::Cancel = others {
                    n.cancel();
                }
                Ok(())
            };
            n.spawn_at(child, at);
        }
        Ok(())
    })
    .await?;
    Ok(count.get())
}

/// Runs all of them to their ends, and returns what each came to, in their order. One that fails does not
/// disturb the others.
///
/// Cancel class: that of each of them.
///
/// # Errors
/// `Cancelled` if one of them was; the others' values are lost then.
///
/// ```
/// trine::run(async || {
///     let halve = async |n: u32| match n % 2 {
///         0 => Ok(n / 2),
///         _ => Err(trine::Error::other("odd")),
///     };
///     let halves = trine::join_all([halve(2), halve(3), halve(4)]).await?;
///     assert_eq!(halves.iter().filter(|half| half.is_ok()).count(), 2);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[track_caller]
pub fn join_all<'env, T, F>(
    futures: impl IntoIterator<Item = F> + 'env,
) -> impl Future<Output = Result<Vec<Result<T>>>>
where
    T: 'env,
    F: Future<Output = Result<T>> + 'env,
{
    let at = Location::caller();
    async move {
        let results = Results::default();
        run_all(futures, at, |index, end| {
            results.put(index, end);
            Ok(Others::GoOn)
        })
        .await?;
        Ok(results.into_vec())
    }
}

/// Runs all of them, and returns their values, in their order. The first that fails has the others
/// cancelled, and its error is the outcome.
///
/// Cancel class: that of each of them.
///
/// # Errors
/// That of the first one that failed (with others that failed all the same in a [`Group`](crate::Group));
/// `Cancelled`.
///
/// ```
/// trine::run(async || {
///     let double = async |n: u32| { trine::checkpoint().await?; Ok(2 * n) };
///     assert_eq!(trine::try_join_all([double(1), double(2)]).await?, [2, 4]);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[track_caller]
pub fn try_join_all<'env, T, F>(
    futures: impl IntoIterator<Item = F> + 'env,
) -> impl Future<Output = Result<Vec<T>>>
where
    T: 'env,
    F: Future<Output = Result<T>> + 'env,
{
    let at = Location::caller();
    async move {
        let results = Results::default();
        run_all(futures, at, |index, end| {
            results.put(index, end?);
            Ok(Others::GoOn)
        })
        .await?;
        Ok(results.into_vec())
    }
}

/// Does `work` for each item, for at most `limit` of them at a time (one at least), and returns the values
/// in the order of the items. Items are taken only when there is room: the iterator may be endless as far as
/// memory is concerned.
///
/// Cancel class: that of the work. The first that fails has the others cancelled.
///
/// # Errors
/// As [`try_join_all`].
///
/// ```
/// trine::run(async || {
///     let squares = trine::map_concurrent(1..=4, 2, async |n: u32| {
///         trine::checkpoint().await?;
///         Ok(n * n)
///     });
///     assert_eq!(squares.await?, [1, 4, 9, 16]);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[track_caller]
pub fn map_concurrent<'env, I, T, W>(
    items: impl IntoIterator<Item = I> + 'env,
    limit: usize,
    work: W,
) -> impl Future<Output = Result<Vec<T>>>
where
    I: 'env,
    T: 'env,
    W: AsyncFn(I) -> Result<T> + 'env,
{
    let at = Location::caller();
    async move {
        let (results, room) = (Results::default(), Semaphore::new(limit.max(1)));
        nursery(async |n| {
            for (index, item) in items.into_iter().enumerate() {
                let (results, work) = (&results, &work);
                let permit = room.acquire().await?;
                // It may be one that a failure has set free.
                checkpoint_if_cancelled().await?;
                let child = async move {
                    let value = work(item).await?;
                    drop(permit);
                    results.put(index, value);
                    Ok(())
                };
                n.spawn_at(child, at);
            }
            Ok(())
        })
        .await?;
        Ok(results.into_vec())
    }
}

/// Values in the order of those who made them.
struct Results<T>(RefCell<Vec<Option<T>>>);

impl<T> Default for Results<T> {
    fn default() -> Self {
        Results(RefCell::default())
    }
}

impl<T> Results<T> {
    fn put(&self, index: usize, value: T) {
        let results = &mut *self.0.borrow_mut();
        if results.len() <= index {
            results.resize_with(index + 1, || None);
        }
        results[index] = Some(value);
    }

    fn into_vec(self) -> Vec<T> {
        self.0.into_inner().into_iter().flatten().collect()
    }
}

/// How many children at a time: whoever spawns through it waits until there is room.
///
/// It is made outside of the nursery, and may be shared by several.
///
/// ```
/// use trine::{Limit, nursery};
///
/// trine::run(async || {
///     let limit = Limit::new(10);
///     nursery(async |n| {
///         for _ in 0..1000 {
///             limit.spawn(n, trine::checkpoint()).await?; // At most ten are alive.
///         }
///         Ok(())
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Debug)]
pub struct Limit {
    limiter: CapacityLimiter,
}

impl Limit {
    /// So many at a time.
    pub fn new(most: usize) -> Limit {
        Limit { limiter: CapacityLimiter::new(most) }
    }

    /// Waits until there is room, and spawns the child.
    ///
    /// Cancel class: total: a cancelled one has spawned nothing.
    ///
    /// # Errors
    /// `Cancelled`; [`Error::NoRun`] outside of a run.
    #[track_caller]
    pub fn spawn<'scope, 'env, T, C>(
        &'scope self,
        nursery: Nursery<'scope, 'env, T>,
        child: C,
    ) -> impl Future<Output = Result> + use<'scope, 'env, T, C>
    where
        C: Future<Output = Result> + 'scope,
    {
        let at = Location::caller();
        async move {
            let token = self.limiter.acquire().await?;
            let child = async move {
                let end = child.await;
                drop(token);
                end
            };
            nursery.spawn_at(child, at);
            Ok(())
        }
    }

    /// Moves the limit; those who are there stay.
    pub fn set(&self, most: usize) {
        self.limiter.set_total(most);
    }

    /// Children that are there.
    pub fn living(&self) -> usize {
        self.limiter.borrowed()
    }
}
