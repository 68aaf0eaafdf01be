//! Wakers: fired by other threads and other executors, late, early, often, and by nobody in time.

mod common;
#[path = "wakers/races.rs"]
mod races;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::ops::AsyncFnOnce;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::channel::{mpsc as queue, oneshot};
use futures::poll;
use futures::stream::{FuturesUnordered, StreamExt};
use trine::net::TcpListener;
use trine::time::{sleep, sleep_forever};
use trine::{Builder, Error, Result, checkpoint, move_on_after, nop, nursery, stats};

use common::fewer;

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(1);
/// What a wake-up across threads takes at best, on a machine with other things to do.
const PROMPT: Duration = Duration::from_millis(5);

/// Runs a test. Wakes come from outside, so a lost one would be a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(20, || trine::run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// The shortest time of ten from the moment noted by whoever wakes to the moment the task runs. The
/// task sleeps in between, in the kernel, with nothing else that could wake it.
async fn shortest(wait: impl AsyncFn() -> Instant) -> Duration {
    let mut shortest = LONG;
    for _ in 0..10 {
        let woken = wait().await;
        shortest = shortest.min(woken.elapsed());
    }
    shortest
}

// P2, P4: a wake from another thread ends the run's sleep.
#[test]
fn a_future_woken_by_a_thread_runs_promptly() {
    run(async || {
        let latency = shortest(async || {
            let (sender, receiver) = oneshot::channel();
            thread::spawn(move || {
                thread::sleep(MOMENT);
                sender.send(Instant::now())
            });
            receiver.await.expect("sent")
        });
        let latency = latency.await;
        assert!(latency < PROMPT, "{latency:?}");
        Ok(())
    });
}

// The same, deep in the tree: each level is woken on the way up.
#[test]
fn a_future_woken_by_a_thread_deep_inside_nurseries_and_scopes_runs_promptly() {
    run(async || {
        let latency = shortest(async || {
            let (sender, receiver) = oneshot::channel();
            thread::spawn(move || {
                thread::sleep(MOMENT);
                sender.send(Instant::now())
            });
            let outcome = nursery(async |n| {
                n.spawn_daemon(sleep_forever());
                let child = n.fork(move_on_after(LONG, async |_| {
                    nursery(async |inner| {
                        inner.fork(async { receiver.await.map_err(Error::other) }).await
                    })
                    .await
                }));
                child.await
            });
            outcome.await.expect("no error").expect("in time")
        });
        let latency = latency.await;
        assert!(latency < PROMPT, "{latency:?}");
        Ok(())
    });
}

// The executors of others run beside ours, and wake us.
#[test]
fn a_future_woken_by_tokio_runs_promptly() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("tokio");
    let handle = tokio.handle().clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = thread::spawn(move || tokio.block_on(stopped));
    run(async || {
        let latency = shortest(async || {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            handle.spawn(async move {
                tokio::time::sleep(MOMENT).await;
                sender.send(Instant::now())
            });
            receiver.await.expect("sent")
        });
        let latency = latency.await;
        assert!(latency < PROMPT, "{latency:?}");
        // A tokio task's handle can be awaited as well, and its channels feed a child.
        let (sender, mut numbers) = tokio::sync::mpsc::channel(2);
        let sent = handle.spawn(async move {
            for number in 0..1_000_u32 {
                sender.send(number).await.expect("received");
                if number % 100 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            "done"
        });
        let sum = nursery(async |n| {
            let sum = n.fork(async {
                let mut sum = 0;
                while let Some(number) = numbers.recv().await {
                    sum += number;
                }
                Ok(sum)
            });
            assert_eq!(sent.await.expect("no panic"), "done");
            sum.await
        });
        assert_eq!(sum.await?, 499_500);
        Ok(())
    });
    stop.send(()).expect("tokio is running");
    thread.join().expect("no panic").expect("stopped");
}

// A channel of another crate, filled by a thread while the run does something else as well.
#[test]
fn everything_that_a_thread_sends_through_a_channel_arrives() {
    run(async || {
        let (sender, mut receiver) = queue::unbounded();
        let thread = thread::spawn(move || {
            for number in 0..10_000_u32 {
                sender.unbounded_send(number).expect("received");
                if number % 1_000 == 0 {
                    thread::sleep(MOMENT / 10);
                }
            }
        });
        let received = nursery(async |n| {
            n.spawn_daemon(async {
                loop {
                    nop().await?;
                }
            });
            let mut received = 0;
            while let Some(number) = receiver.next().await {
                assert_eq!(number, received);
                received += 1;
            }
            Ok(received)
        });
        assert_eq!(received.await?, 10_000);
        thread.join().expect("no panic");
        Ok(())
    });
}

// P4: the bell needs a place in the queue, too, and gets one before the run goes to sleep.
#[trine::test(kernel = "both", deterministic = false)]
fn a_wake_arrives_although_the_submission_queue_is_full() {
    const WAKES: u32 = fewer(20, 4);
    let main = async || {
        let mut listeners = Vec::new();
        for _ in 0..WAKES {
            listeners.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        let (sender, mut receiver) = queue::unbounded();
        let thread = thread::spawn(move || {
            for number in 0..WAKES {
                thread::sleep(MOMENT);
                sender.unbounded_send(number).expect("received");
            }
        });
        let mut accepts = Vec::new();
        for (listener, number) in listeners.iter().zip(0..) {
            // The only place is taken, in the very turn in which the bell has to be set up anew.
            let mut accept = Box::pin(listener.accept());
            assert!(poll!(accept.as_mut()).is_pending());
            accepts.push(accept);
            assert_eq!(receiver.next().await, Some(number));
        }
        thread.join().expect("no panic");
        Ok(())
    };
    let ended = common::within(20, || Builder::new().submissions(1).run(main));
    ended.expect("no error");
}

// P6: a waker is anybody's to clone and drop, on any thread, also the last of an ended run.
#[trine::test(kernel = "both", deterministic = false)]
fn wakers_are_cloned_compared_and_dropped_on_other_threads() {
    const ROUNDS: usize = fewer(2_000, 100);
    let wakers = run(async || {
        let wakers = Mutex::new(Vec::new());
        let ended = AtomicBool::new(false);
        let waker = &poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    let mut kept = Vec::new();
                    for round in 0..ROUNDS {
                        let clone = waker.clone();
                        assert!(clone.will_wake(waker));
                        match round % 4 {
                            0 => clone.wake(),
                            1 => clone.wake_by_ref(),
                            2 if round % 100 == 2 => kept.push(clone),
                            _ => drop(clone),
                        }
                    }
                    wakers.lock().expect("sound").append(&mut kept);
                    ended.store(true, Ordering::Relaxed);
                });
            }
        });
        assert!(ended.load(Ordering::Relaxed));
        nop().await?;
        Ok(wakers.into_inner().expect("sound"))
    });
    assert_eq!(wakers.len(), 4 * ROUNDS / 100);
    let threads: Vec<_> = wakers
        .into_iter()
        .map(|waker| {
            thread::spawn(move || {
                waker.wake_by_ref();
                drop(waker.clone());
                waker.wake();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

// P6: inside another run, on another thread, a waker is a foreign one: it goes through the inbox and
// wakes nobody there, although the tasks there have the same places.
#[test]
fn a_waker_fired_inside_another_run_on_another_thread_wakes_its_own_run_only() {
    run(async || {
        let (give, taken) = mpsc::channel::<Waker>();
        let thread = thread::spawn(move || {
            run(async || {
                let polls = &Cell::new(0);
                nursery(async |n| {
                    n.spawn_daemon(async {
                        counting(polls, &RefCell::default()).await;
                        Ok(())
                    });
                    checkpoint().await?;
                    for waker in taken.iter() {
                        waker.wake_by_ref();
                        waker.wake();
                        checkpoint().await?;
                        checkpoint().await?;
                        assert_eq!(polls.get(), 1);
                    }
                    Ok(())
                })
                .await
            });
        });
        let polls = &Cell::new(0);
        nursery(async |n| {
            n.spawn(poll_fn(|cx| {
                polls.set(polls.get() + 1);
                if polls.get() > fewer(100, 10) {
                    return Poll::Ready(Ok(()));
                }
                give.send(cx.waker().clone()).expect("taken");
                Poll::Pending
            }));
            Ok(())
        })
        .await?;
        drop(give);
        thread.join().expect("no panic");
        Ok(())
    });
}

// The wakers of a combinator of others lead to ours.
#[trine::test(kernel = "both", deterministic = false)]
fn a_thread_wakes_what_waits_inside_a_combinator_of_others() {
    const WAITING: usize = fewer(100, 10);
    run(async || {
        let (senders, receivers): (Vec<_>, FuturesUnordered<_>) =
            (0..WAITING).map(|_| oneshot::channel()).unzip();
        let thread = thread::spawn(move || {
            for (number, sender) in senders.into_iter().enumerate().rev() {
                sender.send(number).expect("received");
            }
        });
        let mut received: Vec<_> = receivers.map(|number| number.expect("sent")).collect().await;
        received.sort_unstable();
        assert_eq!(received, (0..WAITING).collect::<Vec<_>>());
        thread.join().expect("no panic");
        Ok(())
    });
}

// Fired during the very poll, by the task itself or by a thread: the task is polled once more.
#[trine::test(kernel = "both")]
fn a_waker_fired_during_its_own_poll_is_heard() {
    const POLLS: u32 = fewer(100, 5);
    run(async || {
        for by_thread in [false, true] {
            let polls = Cell::new(0);
            poll_fn(|cx| {
                polls.set(polls.get() + 1);
                if polls.get() > POLLS {
                    return Poll::Ready(());
                }
                let waker = cx.waker().clone();
                if by_thread {
                    // The poll goes on only when the waker has been fired.
                    thread::spawn(move || waker.wake()).join().expect("no panic");
                } else {
                    waker.wake_by_ref();
                    waker.wake();
                }
                Poll::Pending
            })
            .await;
            // P2: each of them in a turn of its own.
            assert_eq!(polls.get(), POLLS + 1);
        }
        Ok(())
    });
}

/// A future that leaves its waker, and then only counts its polls.
fn counting<'a>(
    polls: &'a Cell<u32>,
    wakers: &'a RefCell<Vec<Waker>>,
) -> impl Future<Output = ()> + 'a {
    poll_fn(move |cx| {
        polls.set(polls.get() + 1);
        wakers.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    })
}

// A task is polled when it was woken, and only then.
#[trine::test(kernel = "both")]
fn nobody_is_polled_who_was_not_woken() {
    run(async || {
        let (polls, wakers) = (&Cell::new(0), &RefCell::default());
        nursery(async |n| {
            n.spawn_daemon(async {
                counting(polls, wakers).await;
                Ok(())
            });
            for _ in 0..fewer(100, 10) {
                checkpoint().await?;
            }
            assert_eq!(polls.get(), 1);
            let waker = wakers.borrow()[0].clone();
            // Waking twice before the poll is waking once.
            waker.wake_by_ref();
            waker.wake();
            checkpoint().await?;
            checkpoint().await?;
            assert_eq!(polls.get(), 2);
            Ok(())
        })
        .await
    });
}

// A waker outlives its task; what is made in the task's place is not woken by it.
#[trine::test(kernel = "both")]
fn the_waker_of_a_task_that_has_ended_wakes_nobody() {
    const ENDED: u32 = fewer(100, 5);
    const LATER: u32 = 2 * ENDED;
    run(async || {
        let wakers = &RefCell::new(Vec::new());
        nursery(async |n| {
            for _ in 0..ENDED {
                n.spawn(async {
                    poll_fn(|cx| {
                        wakers.borrow_mut().push(cx.waker().clone());
                        Poll::Ready(Ok(()))
                    })
                    .await
                });
            }
            Ok(())
        })
        .await?;
        let (polls, unused) = (&Cell::new(0), &RefCell::default());
        nursery(async |n| {
            for _ in 0..LATER {
                n.spawn_daemon(async {
                    counting(polls, unused).await;
                    Ok(())
                });
            }
            checkpoint().await?;
            checkpoint().await?;
            assert_eq!(polls.get(), LATER);
            wakers.borrow().iter().for_each(Waker::wake_by_ref);
            let late = wakers.take();
            thread::spawn(move || late.into_iter().for_each(Waker::wake)).join().expect("no panic");
            nop().await?;
            checkpoint().await?;
            checkpoint().await?;
            assert_eq!(polls.get(), LATER);
            Ok(())
        })
        .await
    });
}

// P6: a waker outlives its run, too; fired in another run of the same thread it wakes nobody there.
#[trine::test(kernel = "both", deterministic = false)]
fn wakers_fired_after_their_run_has_ended_wake_nobody() {
    let wakers = RefCell::new(Vec::new());
    run(async || {
        nursery(async |n| {
            for _ in 0..10 {
                n.spawn(poll_fn(|cx| {
                    wakers.borrow_mut().push(cx.waker().clone());
                    Poll::Ready(Ok(()))
                }));
            }
            Ok(())
        })
        .await?;
        poll_fn(|cx| {
            wakers.borrow_mut().push(cx.waker().clone());
            Poll::Ready(Ok(()))
        })
        .await
    });
    wakers.borrow().iter().for_each(Waker::wake_by_ref);
    let late = wakers.borrow().clone();
    let thread = thread::spawn(move || {
        late.iter().for_each(Waker::wake_by_ref);
        late.iter().cloned().for_each(Waker::wake);
        late
    });
    run(async || {
        let (polls, unused) = (&Cell::new(0), &RefCell::default());
        nursery(async |n| {
            for _ in 0..20 {
                n.spawn_daemon(async {
                    counting(polls, unused).await;
                    Ok(())
                });
            }
            checkpoint().await?;
            checkpoint().await?;
            assert_eq!(polls.get(), 20);
            let turns = stats().turns;
            wakers.borrow().iter().for_each(Waker::wake_by_ref);
            wakers.take().into_iter().for_each(Waker::wake);
            sleep(MOMENT).await?;
            checkpoint().await?;
            assert_eq!(polls.get(), 20);
            // Nor does the run itself wake up for it.
            assert!(stats().turns - turns < 10, "{} turns", stats().turns - turns);
            Ok(())
        })
        .await
    });
    drop(thread.join().expect("no panic"));
}

// P6: "own thread" means that this run is the current one. Two runs on two threads play ping-pong.
#[test]
fn two_runs_on_two_threads_wake_each_other() {
    const ROUNDS: u32 = 2_000;
    let (to_one, mut at_one) = queue::unbounded::<u32>();
    let (to_two, mut at_two) = queue::unbounded::<u32>();
    let thread = thread::spawn(move || {
        run(async || {
            while let Some(number) = at_two.next().await {
                to_one.unbounded_send(number + 1).expect("received");
            }
            Ok(())
        });
    });
    run(async || {
        let mut number = 0;
        while number < ROUNDS {
            to_two.unbounded_send(number).expect("received");
            number = at_one.next().await.expect("an answer");
        }
        Ok(())
    });
    drop(to_two);
    thread.join().expect("no panic");
}

// The main future ends while another thread wakes tasks.
#[test]
fn a_run_may_end_while_threads_wake_its_tasks() {
    let _processor = races::processor();
    for round in 0..50 {
        let stop = Arc::new(AtomicBool::new(false));
        let (give, taken) = mpsc::channel::<Waker>();
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let wakers: Vec<_> = taken.iter().take(3).collect();
                while !stop.load(Ordering::Relaxed) {
                    wakers.iter().for_each(Waker::wake_by_ref);
                }
            }
        });
        run(async || {
            nursery(async |n| {
                for _ in 0..2 {
                    n.spawn(poll_fn(|cx| {
                        let _ = give.send(cx.waker().clone());
                        Poll::Ready(Ok(()))
                    }));
                }
                Ok(())
            })
            .await?;
            poll_fn(|cx| {
                let _ = give.send(cx.waker().clone());
                Poll::Ready(())
            })
            .await;
            for _ in 0..round {
                checkpoint().await?;
            }
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        thread.join().expect("no panic");
    }
}

// The same waker all the time: whoever keeps it need not clone it again.
#[trine::test(kernel = "both")]
fn a_task_is_polled_with_one_and_the_same_waker() {
    run(async || {
        let mut wakers: Vec<Waker> = Vec::new();
        let wakers = &mut wakers;
        nursery(async |n| {
            n.spawn(async {
                for _ in 0..3 {
                    poll_fn(|cx| {
                        wakers.push(cx.waker().clone());
                        Poll::Ready(())
                    })
                    .await;
                    sleep(MOMENT / 10).await?;
                }
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert!(wakers.iter().all(|waker| waker.will_wake(&wakers[0])));
        Ok(())
    });
}

// A wake is not a turn: a thread that fires like mad starves nobody, and wakes nobody else.
#[test]
fn a_thread_that_fires_like_mad_does_not_starve_the_run() {
    let _processor = races::processor();
    let stop = Arc::new(AtomicBool::new(false));
    let fired = Arc::new(AtomicU32::new(0));
    run(async || {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let thread = thread::spawn({
            let (stop, fired) = (Arc::clone(&stop), Arc::clone(&fired));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    waker.wake_by_ref();
                    fired.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let polls = &Cell::new(0);
        nursery(async |n| {
            n.spawn_daemon(async {
                counting(polls, &RefCell::default()).await;
                Ok(())
            });
            while fired.load(Ordering::Relaxed) == 0 {
                checkpoint().await?;
            }
            for _ in 0..200 {
                nop().await?;
            }
            sleep(MOMENT).await?;
            assert_eq!(polls.get(), 1);
            Ok(())
        })
        .await?;
        stop.store(true, Ordering::Relaxed);
        thread.join().expect("no panic");
        Ok(())
    });
}
