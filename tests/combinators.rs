//! Several futures at a time: `race`, `race_ok`, `join_all`, `try_join_all`, `map_concurrent`, `Limit`.

mod common;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use trine::sync::Event;
use trine::time::{Instant, sleep, sleep_forever};
use trine::{
    CancelScope, Error, Limit, Result, checkpoint, join_all, map_concurrent, move_on_after,
    nursery, race, race_ok, shield, stats, try_join_all, yield_shielded,
};

use common::{Peer, fewer};

const MOMENT: Duration = Duration::from_millis(2);

#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    common::within(20, || trine::run(main)).unwrap_or_else(|error| panic!("{error}"))
}

/// Counts those who are alive.
struct Alive<'a>(&'a Cell<usize>);

impl<'a> Alive<'a> {
    fn new(count: &'a Cell<usize>) -> Alive<'a> {
        count.set(count.get() + 1);
        Alive(count)
    }
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn after(moments: u32, value: u32) -> Result<u32> {
    sleep(MOMENT * moments).await?;
    Ok(value)
}

async fn failing(moments: u32, what: &'static str) -> Result<u32> {
    sleep(MOMENT * moments).await?;
    Err(Error::other(what))
}

fn text(error: &Error) -> String {
    error.to_string()
}

#[trine::test(kernel = "both")]
fn the_first_one_wins_and_the_others_are_cancelled_and_joined() {
    run(async || {
        let alive = Cell::new(0);
        let entrant = async |moments, value| {
            let _alive = Alive::new(&alive);
            after(moments, value).await
        };
        let race = race([entrant(30_000, 0), entrant(1, 1), entrant(40_000, 2)]).await?;
        assert_eq!((race.winner, race.index, race.late.len()), (1, 1, 0));
        assert_eq!(alive.get(), 0);
        Ok(())
    });
}

// What is in the kernel is let go of before the race is over.
#[trine::test(kernel = "both")]
fn losers_that_wait_for_the_kernel_are_joined() {
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        let receive = async |wins: bool| {
            if wins {
                checkpoint().await?;
                checkpoint().await?;
                return Ok(0);
            }
            stream.recv().await.map(|chunk| chunk.map_or(0, |chunk| chunk.len()))
        };
        let before = stats().in_kernel;
        assert_eq!(race([receive(false), receive(true)]).await?.index, 1);
        assert_eq!(stats().in_kernel, before);
        Ok(())
    });
}

// A loser that finished anyway hands its value over.
#[trine::test(kernel = "both")]
fn what_losers_have_finished_is_not_lost() {
    run(async || {
        let start = Event::new();
        let entrant = async |n: u32| {
            start.wait().await?;
            match n {
                // All are woken in the same turn.
                0..=2 => Ok(n),
                3 => shield(after(1, n)).await,
                4 => Err(Error::other("late")),
                _ => after(30_000, n).await,
            }
        };
        let racing = async {
            let race = race([0, 1, 2, 3, 4, 5].map(entrant)).await?;
            assert_eq!((race.winner, race.index), (0, 0));
            let late: Vec<_> =
                race.late.iter().map(|(n, end)| (*n, end.as_ref().ok().copied())).collect();
            assert_eq!(late, [(1, Some(1)), (2, Some(2)), (4, None), (3, Some(3))]);
            Ok(())
        };
        nursery(async |n| {
            n.spawn(racing);
            while start.statistics().waiting < 6 {
                checkpoint().await?;
            }
            start.set();
            Ok(())
        })
        .await
    });
}

#[trine::test(kernel = "both")]
fn one_that_fails_first_ends_a_race_and_drops_out_of_race_ok() {
    run(async || {
        let entrants = || [after(2, 0), after(30_000, 1)];
        let error = race([failing(1, "first"), failing(30_000, "second")]).await.unwrap_err();
        assert_eq!(text(&error), "first");
        let alive = Cell::new(0);
        let entrant = async |n: u32| {
            let _alive = Alive::new(&alive);
            if n == 0 { failing(1, "lame").await } else { after(n + 1, n).await }
        };
        let race = race_ok([entrant(0), entrant(30_000), entrant(1)]).await?;
        assert_eq!((race.winner, race.index, race.late.len(), alive.get()), (1, 2, 1, 0));
        assert_eq!(text(race.late[0].1.as_ref().unwrap_err()), "lame");
        assert_eq!(race_ok(entrants()).await?.winner, 0);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn if_all_fail_all_errors_are_told_in_the_order_of_failing() {
    run(async || {
        let error = race_ok([failing(3, "c"), failing(1, "a"), failing(2, "b")]).await.unwrap_err();
        let Error::Group(group) = error else { panic!("{error:?}") };
        assert_eq!(group.errors().iter().map(text).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(text(&race_ok([failing(1, "alone")]).await.unwrap_err()), "alone");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_race_without_anybody_is_refused_and_the_others_have_nothing_to_do() {
    run(async || {
        let nobody = || std::iter::empty::<std::future::Ready<Result<u32>>>();
        assert_eq!(race(nobody()).await.unwrap_err().io_kind(), Some(ErrorKind::InvalidInput));
        assert_eq!(race_ok(nobody()).await.unwrap_err().io_kind(), Some(ErrorKind::InvalidInput));
        assert!(join_all(nobody()).await?.is_empty() && try_join_all(nobody()).await?.is_empty());
        assert!(map_concurrent(0..0, 1, async |n| Ok(n)).await?.is_empty());
        Ok(())
    });
}

// E1: a cancellation from outside is nobody's defeat, and goes through.
#[trine::test(kernel = "both")]
fn a_cancellation_from_outside_cancels_all_and_goes_through() {
    run(async || {
        let alive = Cell::new(0);
        let forever = async |_: u32| -> Result<u32> {
            let _alive = Alive::new(&alive);
            sleep_forever().await?;
            Ok(0)
        };
        for which in 0..5 {
            let outcome = move_on_after(MOMENT, async |_| match which {
                0 => race([0, 1].map(forever)).await.map(drop),
                1 => race_ok([0, 1].map(forever)).await.map(drop),
                2 => join_all([0, 1].map(forever)).await.map(drop),
                3 => try_join_all([0, 1].map(forever)).await.map(drop),
                _ => map_concurrent(0..10, 3, forever).await.map(drop),
            });
            assert!(outcome.await?.is_none(), "{which}");
            assert_eq!(alive.get(), 0, "{which}");
        }
        // One that has ended before does not keep the others' cancellation from being told.
        let scope = CancelScope::new();
        let outcome = scope.run(async |_| race([after(30_000, 1)]).await);
        let mut outcome = pin!(outcome);
        assert!(poll!(outcome.as_mut()).is_pending());
        scope.cancel();
        assert!(outcome.await?.is_none());
        Ok(())
    });
}

// They work inside and outside of one another, and borrow what is around.
#[trine::test(kernel = "both")]
fn they_nest_and_borrow() {
    run(async || {
        let names = ["a".to_owned(), "b".to_owned()];
        let heard = RefCell::new(Vec::new());
        let say = async |name: &str, moments: u32| {
            after(moments, 0).await?;
            heard.borrow_mut().push(name.to_owned());
            Ok(moments)
        };
        let pair = async |first: u32| {
            let both = try_join_all([say(&names[0], first), say(&names[1], first + 1)]).await?;
            Ok(both.into_iter().sum::<u32>())
        };
        let race = race([pair(1), pair(20_000)]).await?;
        assert_eq!((race.winner, race.index), (3, 0));
        assert_eq!(*heard.borrow(), ["a", "b"]);
        let sums = map_concurrent(1..4, 2, async |n: u32| {
            let parts = map_concurrent(0..n, 2, async |m: u32| after(m, m).await).await?;
            Ok(parts.into_iter().sum::<u32>())
        });
        assert_eq!(sums.await?, [0, 1, 3]);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn join_all_tells_of_each_and_try_join_all_ends_with_the_first_error() {
    run(async || {
        let ends = join_all([failing(1, "x"), failing(3, "y")]).await?;
        assert_eq!(
            ends.iter().map(|end| text(end.as_ref().unwrap_err())).collect::<Vec<_>>(),
            ["x", "y"]
        );
        assert_eq!(try_join_all([after(3, 1), after(1, 2), after(2, 3)]).await?, [1, 2, 3]);
        let began = Instant::now();
        let alive = Cell::new(0);
        let entrant = async |n: u32| {
            let _alive = Alive::new(&alive);
            if n == 1 { failing(1, "broken").await } else { after(500_000, n).await }
        };
        let error = try_join_all([0, 1, 2].map(entrant)).await.unwrap_err();
        assert_eq!((text(&error), alive.get()), ("broken".to_owned(), 0));
        assert!(began.elapsed() < MOMENT * 400_000);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_map_keeps_the_order_the_limit_and_takes_no_item_too_early() {
    run(async || {
        const ITEMS: usize = fewer(200, 20);
        for limit in [0, 1, 3, ITEMS + 5] {
            let (alive, most, taken, done) =
                (Cell::new(0), Cell::new(0), Cell::new(0), Cell::new(0));
            let items = (0..ITEMS).inspect(|_| {
                taken.set(taken.get() + 1);
                // One is taken while it waits for room.
                assert!(taken.get() - done.get() <= limit.max(1) + 1, "limit {limit}");
            });
            let values = map_concurrent(items, limit, async |n: usize| {
                let _alive = Alive::new(&alive);
                most.set(most.get().max(alive.get()));
                for _ in 0..1 + n % 5 {
                    yield_shielded().await;
                }
                done.set(done.get() + 1);
                Ok(n * n)
            });
            assert_eq!(values.await?, (0..ITEMS).map(|n| n * n).collect::<Vec<_>>());
            assert_eq!(most.get(), limit.clamp(1, ITEMS), "limit {limit}");
        }
        let error = map_concurrent(0..ITEMS, 2, async |n| match n {
            5 => Err(Error::other("five")),
            6.. => panic!("nothing is begun after the failure"),
            _ => Ok(()),
        });
        assert_eq!(text(&error.await.unwrap_err()), "five");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_limit_keeps_spawners_waiting_and_can_be_moved() {
    run(async || {
        let (limit, alive) = (Limit::new(2), Cell::new(0));
        nursery(async |n| {
            for _ in 0..fewer(50, 10) {
                let child = async {
                    let _alive = Alive::new(&alive);
                    assert!(alive.get() <= 2);
                    checkpoint().await?;
                    checkpoint().await
                };
                limit.spawn(n, child).await?;
                assert!((1..=2).contains(&limit.living()));
            }
            Ok(())
        })
        .await?;
        assert_eq!(limit.living(), 0);
        limit.set(0);
        // F13: a spawner that is cancelled has spawned nothing.
        let spawned = Cell::new(false);
        nursery(async |n| {
            let child = async {
                spawned.set(true);
                Ok(())
            };
            let outcome = move_on_after(MOMENT, async |_| limit.spawn(n, child).await).await?;
            assert!(outcome.is_none());
            Ok(())
        })
        .await?;
        assert!(!spawned.get() && limit.living() == 0);
        Ok(())
    });
}

// F12: whoever is dropped half-way takes the children along.
#[trine::test(kernel = "both")]
fn a_combinator_that_is_dropped_drops_what_it_runs() {
    run(async || {
        let alive = Cell::new(0);
        let forever = async |_: u32| -> Result<u32> {
            let _alive = Alive::new(&alive);
            sleep_forever().await?;
            Ok(0)
        };
        {
            let mut race = pin!(race([0, 1].map(&forever)));
            let mut map = pin!(map_concurrent(0..9, 2, &forever));
            for _ in 0..3 {
                assert!(poll!(race.as_mut()).is_pending() && poll!(map.as_mut()).is_pending());
                yield_shielded().await;
            }
            assert_eq!(alive.get(), 4);
        }
        assert_eq!(alive.get(), 0);
        Ok(())
    });
}
