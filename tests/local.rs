//! Variables of a run and of a task.

mod common;

use std::cell::{Cell, RefCell};
use std::ops::AsyncFnOnce;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;

use futures::{join, poll};
use trine::local::{RunLocal, TaskLocal};
use trine::net::TcpListener;
use trine::thread::Remote;
use trine::{Error, Result, Started, checkpoint, nursery, stats, yield_shielded};

#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    common::within(20, || trine::run(main)).unwrap_or_else(|error| panic!("{error}"))
}

static COUNT: RunLocal<Cell<u32>> = RunLocal::new(|| Cell::new(10));
static OTHER: RunLocal<Cell<u32>> = RunLocal::new(|| Cell::new(20));

#[trine::test(kernel = "both")]
fn a_run_has_one_value_of_each_variable_and_another_run_others() {
    for _ in 0..2 {
        run(async || {
            assert_eq!((COUNT.get()?.get(), OTHER.get()?.get()), (10, 20));
            COUNT.get()?.set(11);
            nursery(async |n| {
                n.spawn(async {
                    assert_eq!(COUNT.get()?.get(), 11, "one for all tasks");
                    COUNT.get()?.set(12);
                    Ok(())
                });
                Ok(())
            })
            .await?;
            assert_eq!((COUNT.get()?.get(), OTHER.get()?.get()), (12, 20));
            Ok(())
        });
    }
    assert!(matches!(COUNT.get(), Err(Error::NoRun)));
    assert!(matches!(COUNT.set(Cell::new(0)), Err(Error::NoRun)));
}

#[trine::test(kernel = "both")]
fn a_value_that_is_set_takes_the_place_of_the_former() {
    static NAME: RunLocal<String> =
        RunLocal::new(|| unreachable!("it is set before it is asked for"));
    run(async || {
        assert!(NAME.set("one".to_owned())?.is_none());
        let held = NAME.get()?;
        assert_eq!(NAME.set("two".to_owned())?.as_deref(), Some(&"one".to_owned()));
        assert_eq!((held.as_str(), NAME.get()?.as_str()), ("one", "two"));
        Ok(())
    });
}

// Whoever asks in a roundabout way, while the value is being made, has the one value too.
#[trine::test(kernel = "both")]
fn a_variable_whose_init_asks_for_it_has_one_value() {
    static ONE: RunLocal<Cell<u32>> = RunLocal::new(|| {
        let other = OTHER_ONE.get().map_or(0, |other| other.get());
        Cell::new(other + 1)
    });
    static OTHER_ONE: RunLocal<Cell<u32>> = RunLocal::new(|| {
        if !ASKED.replace(true) {
            ONE.get().expect("there is a run").set(100);
        }
        Cell::new(10)
    });
    thread_local! {
        static ASKED: Cell<bool> = const { Cell::new(false) };
    }
    ASKED.set(false);
    run(async || {
        assert_eq!(ONE.get()?.get(), 100);
        Ok(())
    });
}

/// Notes what it can still do when it is dropped.
struct Last {
    listener: RefCell<Option<TcpListener>>,
    seen: Rc<Cell<Option<bool>>>,
}

impl Drop for Last {
    fn drop(&mut self) {
        // The run is still there, its values are not, and what is closed now is closed through its ring.
        let refused = matches!(COUNT.get(), Err(Error::RunFinished));
        drop(self.listener.take());
        self.seen.set(Some(refused && stats().turns > 0));
    }
}

#[trine::test(kernel = "both")]
fn values_are_dropped_last_and_may_hold_what_belongs_to_the_run() {
    static LAST: RunLocal<Option<Last>> = RunLocal::new(|| None);
    let seen = Rc::new(Cell::new(None));
    let shared = Rc::clone(&seen);
    run(async || {
        COUNT.get()?;
        let listener = RefCell::new(Some(TcpListener::bind("127.0.0.1:0").await?));
        LAST.set(Some(Last { listener, seen: shared }))?;
        Ok(())
    });
    assert_eq!(seen.get(), Some(true));
}

// P2: a value that panics when it is dropped keeps nothing else from ending.
/// Says when it is dropped.
struct Named(&'static str);

thread_local! {
    static NAMES: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Named {
    fn drop(&mut self) {
        NAMES.with_borrow_mut(|dropped| dropped.push(self.0));
    }
}

static ANT: RunLocal<Named> = RunLocal::new(|| Named("a"));
static BEE: RunLocal<Named> = RunLocal::new(|| Named("b"));
static CAT: RunLocal<Named> = RunLocal::new(|| Named("c"));

// So that a simulated run in which they have descriptors does the same each time.
#[trine::test(kernel = "both")]
fn values_are_dropped_in_the_order_in_which_they_were_made() {
    for order in [[&CAT, &ANT, &BEE], [&ANT, &BEE, &CAT]] {
        let names = run(async || Ok([order[0].get()?.0, order[1].get()?.0, order[2].get()?.0]));
        assert_eq!(NAMES.take(), names);
    }
}

#[trine::test(kernel = "both")]
fn a_value_that_panics_at_the_end_is_a_panic_of_the_run() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("of a value");
        }
    }
    static PANICS: RunLocal<Option<Panics>> = RunLocal::new(|| None);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        run(async || {
            PANICS.set(Some(Panics))?;
            Ok(())
        })
    }));
    assert_eq!(*ended.unwrap_err().downcast::<&str>().unwrap(), "of a value");
    run(async || checkpoint().await);
}

static WHO: TaskLocal<&str> = TaskLocal::new();
static DEPTH: TaskLocal<u32> = TaskLocal::new();

fn who() -> Option<&'static str> {
    WHO.get().map(|who| *who)
}

#[trine::test(kernel = "both")]
fn a_task_has_a_value_for_as_long_as_a_future_runs() {
    run(async || {
        assert_eq!(who(), None);
        let inner = WHO.scope("outer", async {
            assert_eq!(who(), Some("outer"));
            checkpoint().await?;
            WHO.scope("inner", async {
                assert_eq!((who(), DEPTH.get()), (Some("inner"), None));
                DEPTH.scope(1, checkpoint()).await
            })
            .await?;
            checkpoint().await?;
            assert_eq!(who(), Some("outer"));
            Ok::<_, Error>(7)
        });
        assert_eq!((inner.await?, who()), (7, None));
        Ok(())
    });
}

// Futures beside each other in one task do not see each other's values, whichever is polled when.
#[trine::test(kernel = "both")]
fn futures_that_take_turns_have_values_of_their_own() {
    run(async || {
        let one = |name: &'static str| {
            WHO.scope(name, async move {
                for _ in 0..5 {
                    assert_eq!(who(), Some(name));
                    yield_shielded().await;
                }
            })
        };
        let nobody = async {
            for _ in 0..5 {
                assert_eq!(who(), None);
                yield_shielded().await;
            }
        };
        join!(one("left"), nobody, one("right"));
        assert_eq!(who(), None);
        Ok(())
    });
}

// A child has what whoever spawned it had at that time, wherever the nursery was opened, and keeps it.
#[trine::test(kernel = "both")]
fn children_inherit_from_whoever_spawns_them() {
    run(async || {
        let seen = &RefCell::new(Vec::new());
        let child = &async |name: &'static str| {
            for _ in 0..2 {
                yield_shielded().await;
                seen.borrow_mut().push((name, who()));
            }
            Ok(())
        };
        WHO.scope("opener", async {
            nursery(async |n| {
                n.spawn(child("of the opener"));
                WHO.scope("spawner", async {
                    n.spawn(child("of the spawner"));
                    n.spawn(WHO.scope("own", async move {
                        nursery(async |inner| {
                            inner.spawn_daemon(child("grandchild"));
                            n.spawn(child("nephew"));
                            yield_shielded().await;
                            yield_shielded().await;
                            yield_shielded().await;
                            Ok(())
                        })
                        .await
                    }));
                })
                .await;
                let start = WHO.scope(
                    "starter",
                    n.start(async |started: Started<_>| {
                        started.set(who());
                        Ok(())
                    }),
                );
                assert_eq!(start.await?, Some("starter"));
                Ok(())
            })
            .await
        })
        .await?;
        let mut seen = seen.take();
        seen.sort_unstable();
        let expected = [
            ("grandchild", Some("own")),
            ("nephew", Some("own")),
            ("of the opener", Some("opener")),
            ("of the spawner", Some("spawner")),
        ];
        assert_eq!(seen, expected.map(|seen| [seen, seen]).concat());
        Ok(())
    });
}

// What runs between tasks, or for another thread, is in no task and has no values.
#[trine::test(kernel = "both")]
fn calls_from_outside_have_no_values() {
    run(async || {
        let (tell, told) = futures::channel::oneshot::channel();
        WHO.scope("caller", async {
            Remote::current()?.post(move || tell.send(who()).expect("the task waits"))?;
            checkpoint().await
        })
        .await?;
        assert_eq!(told.await.expect("it is called"), None);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn values_are_dropped_with_the_last_who_has_them() {
    static SHARED: TaskLocal<Rc<()>> = TaskLocal::new();
    run(async || {
        let value = Rc::new(());
        nursery(async |n| {
            SHARED
                .scope(Rc::clone(&value), async {
                    n.spawn(async {
                        for _ in 0..3 {
                            yield_shielded().await;
                        }
                        assert!(SHARED.get().is_some());
                        Ok(())
                    });
                })
                .await;
            assert_eq!(Rc::strong_count(&value), 2, "the child has it");
            Ok(())
        })
        .await?;
        assert_eq!(Rc::strong_count(&value), 1);
        // A future that is dropped half-way, and one that was never polled.
        {
            let mut dropped = pin!(SHARED.scope(Rc::clone(&value), std::future::pending::<()>()));
            assert!(poll!(dropped.as_mut()).is_pending());
        }
        drop(SHARED.scope(Rc::clone(&value), async {}));
        assert_eq!(Rc::strong_count(&value), 1);
        Ok(())
    });
}

// However many values there are on top of one another, they are dropped without recursion.
#[test]
fn a_great_many_values_are_dropped_one_after_another() {
    static LEVEL: TaskLocal<u32> = TaskLocal::new();
    const LEVELS: u32 = common::fewer(100_000, 1_000);
    run(async || {
        nursery(async |n| {
            fn spawn(n: trine::Nursery<'_, '_>, level: u32) {
                // Each child has one value more than whoever spawned it.
                n.spawn(LEVEL.scope(level, async move {
                    assert_eq!(LEVEL.get().as_deref(), Some(&level));
                    if level < LEVELS {
                        spawn(n, level + 1);
                    }
                    Ok(())
                }));
            }
            spawn(n, 0);
            Ok(())
        })
        .await
    });
}

// Outside of a run a future runs as it would without, and has no value.
#[test]
fn outside_of_a_run_there_are_no_values() {
    let mut alone = pin!(WHO.scope("nobody", async { who() }));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(alone.as_mut().poll(&mut cx), std::task::Poll::Ready(None));
    assert_eq!(format!("{COUNT:?}"), "RunLocal<core::cell::Cell<u32>>");
    assert_eq!(format!("{WHO:?}"), "TaskLocal<&str>");
}
