//! One wake, from the same thread and from another one.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use trine::nursery;

use crate::runs;

/// What two tasks hand to one another.
#[derive(Default)]
struct Baton(RefCell<State>);

#[derive(Default)]
struct State {
    /// Who has it, of the two.
    holder: usize,
    waiting: [Option<Waker>; 2],
}

impl Baton {
    /// Waits until `me` has it.
    fn await_turn(&self, me: usize) -> impl Future<Output = ()> + '_ {
        poll_fn(move |cx| {
            let state = &mut *self.0.borrow_mut();
            if state.holder == me {
                return Poll::Ready(());
            }
            state.waiting[me] = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn pass(&self, from: usize) {
        let waker = {
            let state = &mut *self.0.borrow_mut();
            state.holder = 1 - from;
            state.waiting[1 - from].take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn run(&self, me: usize, times: u64) {
        for _ in 0..times {
            self.await_turn(me).await;
            self.pass(me);
        }
    }
}

/// There and back, each time.
pub fn here_by_trine(times: u64) -> Duration {
    runs::trine(async || {
        let (baton, began) = (Baton::default(), Instant::now());
        nursery(async |n| {
            for me in 0..2 {
                let baton = &baton;
                n.spawn(async move {
                    baton.run(me, times).await;
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        Ok(began.elapsed())
    })
}

pub fn here_by_tokio(times: u64) -> Duration {
    runs::tokio(async {
        let (baton, began) = (std::rc::Rc::new(Baton::default()), Instant::now());
        let other = std::rc::Rc::clone(&baton);
        let other = tokio::task::spawn_local(async move { other.run(1, times).await });
        baton.run(0, times).await;
        other.await.expect("the other one");
        began.elapsed()
    })
}

pub fn here_by_smol(times: u64) -> Duration {
    runs::smol(async |executor| {
        let (baton, began) = (std::rc::Rc::new(Baton::default()), Instant::now());
        let other = std::rc::Rc::clone(&baton);
        let other = executor.spawn(async move { other.run(1, times).await });
        baton.run(0, times).await;
        other.await;
        began.elapsed()
    })
}

/// A thread that fires each waker which it is sent; each is waited for.
async fn by_a_thread(times: u64) -> Duration {
    let (send, wakers) = mpsc::channel::<Waker>();
    let thread = thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
    let began = Instant::now();
    for _ in 0..times {
        let mut sent = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut sent, true) {
                return Poll::Ready(());
            }
            send.send(cx.waker().clone()).expect("the thread is there");
            Poll::Pending
        })
        .await;
    }
    let took = began.elapsed();
    drop(send);
    thread.join().expect("the thread ends well");
    took
}

pub fn elsewhere_by_trine(times: u64) -> Duration {
    runs::trine(async || Ok(by_a_thread(times).await))
}

pub fn elsewhere_by_tokio(times: u64) -> Duration {
    runs::tokio(by_a_thread(times))
}

pub fn elsewhere_by_smol(times: u64) -> Duration {
    runs::smol(async |_| by_a_thread(times).await)
}
