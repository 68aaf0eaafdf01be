//! Happy eyeballs, in virtual time: the schedules that Trio's tests of `open_tcp_stream` are made of.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};
use std::time::Duration;

use trine::testing::World;
use trine::time::{Instant, sleep};
use trine::{Error, Result, fail_after, move_on_after, nursery};

/// What is signalled once: somebody else's primitive, as far as the runtime knows.
#[derive(Default)]
struct Event {
    is_set: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Event {
    fn set(&self) {
        self.is_set.set(true);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    fn wait(&self) -> impl Future<Output = Result> {
        poll_fn(|cx| {
            if self.is_set.get() {
                return Poll::Ready(Ok(()));
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
    }
}

/// How an attempt goes: how many milliseconds it takes, and whether it succeeds.
#[derive(Clone, Copy)]
struct Attempt(u64, bool);

/// What the attempts did, and what is left of them.
#[derive(Default)]
struct Net {
    /// When each attempt began, in milliseconds.
    starts: RefCell<Vec<u64>>,
    open: Cell<u32>,
    opened: Cell<u32>,
}

struct Socket<'a> {
    net: &'a Net,
    attempt: usize,
}

impl Drop for Socket<'_> {
    fn drop(&mut self) {
        self.net.open.set(self.net.open.get() - 1);
    }
}

impl Net {
    async fn connect(
        &self,
        began: Instant,
        attempt: usize,
        Attempt(takes, succeeds): Attempt,
    ) -> Result<Socket<'_>> {
        self.starts.borrow_mut().push(began.elapsed().as_millis() as u64);
        self.open.set(self.open.get() + 1);
        self.opened.set(self.opened.get() + 1);
        let socket = Socket { net: self, attempt };
        sleep(Duration::from_millis(takes)).await?;
        if succeeds { Ok(socket) } else { Err(Error::other("refused")) }
    }
}

/// The program of the design, word for word, with a `connect` that is made up.
async fn connect<'a>(
    net: &'a Net,
    stagger: Duration,
    attempts: &[Attempt],
) -> Result<Option<Socket<'a>>> {
    let began = Instant::now();
    let failed: Vec<Event> = attempts.iter().map(|_| Event::default()).collect();
    nursery(async |n| {
        for (i, &attempt) in attempts.iter().enumerate() {
            if i > 0 {
                move_on_after(stagger, async |_| failed[i - 1].wait().await).await?;
            }
            let failed = &failed[i];
            n.spawn(async move {
                match net.connect(began, i, attempt).await {
                    Ok(socket) => n.finish(Some(socket)),
                    Err(error) if error.is_cancelled() => return Err(error),
                    Err(_) => failed.set(),
                }
                Ok(())
            });
        }
        Ok(None)
    })
    .await
}

/// Starts and end in milliseconds; `winners` counts attempts from 0, and is empty if all fail.
#[track_caller]
fn check(stagger: u64, attempts: &[(u64, bool)], starts: &[u64], winners: &[usize], end: u64) {
    let attempts: Vec<Attempt> = attempts.iter().map(|&(ms, ok)| Attempt(ms, ok)).collect();
    for seed in 0..10 {
        let world = if seed == 0 { World::tame() } else { World::from_seed(seed) };
        let net = Net::default();
        let winner = world.run(async || {
            let winner = connect(&net, Duration::from_millis(stagger), &attempts).await?;
            assert_eq!(net.open.get(), u32::from(winner.is_some()), "losers are closed");
            Ok(winner.map(|socket| socket.attempt))
        });
        let winner = winner.expect("no attempt is cancelled from outside");
        assert_eq!(*net.starts.borrow(), starts, "seed {seed}");
        assert_eq!(world.elapsed(), Duration::from_millis(end), "seed {seed}");
        match winner {
            Some(winner) => assert!(winners.contains(&winner), "attempt {winner}, seed {seed}"),
            None => assert!(winners.is_empty(), "none, seed {seed}"),
        }
        assert_eq!((net.open.get(), world.finish()), (0, vec![]));
    }
}

// Trio: test_one_host_slow_success and those after it; the default stagger of RFC 6555.
#[trine::test]
fn the_third_wins_since_it_is_quick() {
    let attempts = [(1000, true), (1000, true), (200, true)];
    check(250, &attempts, &[0, 250, 500], &[2], 700);
}

// Trio: test_basic_fallthrough's successor. No further attempt starts once there is a winner.
#[trine::test]
fn the_second_wins_and_the_third_never_starts() {
    check(250, &[(1000, true), (100, true), (200, true)], &[0, 250], &[1], 350);
}

// Trio: test_custom_delay.
#[trine::test]
fn the_first_wins_if_the_others_start_late() {
    let attempts = [(1000, true), (1000, true), (200, true)];
    check(450, &attempts, &[0, 450, 900], &[0], 1000);
}

// Trio: test_custom_errors_expedite.
#[trine::test]
fn a_failure_starts_the_next_one_at_once() {
    let attempts = [(100, false), (200, false), (10_000, true), (250, true)];
    check(250, &attempts, &[0, 100, 300, 550], &[3], 800);
}

// Trio: test_all_fail.
#[trine::test]
fn when_all_fail_the_last_failure_ends_it() {
    let attempts = [(100, false), (200, false), (10_000, false), (250, false)];
    check(250, &attempts, &[0, 100, 300, 550], &[], 10_300);
}

// Trio: test_multi_success.
#[trine::test]
fn of_several_winners_in_one_instant_one_is_kept() {
    let attempts = [(500, false), (10_000, true), (9000, true), (8000, true), (500, false)];
    check(1000, &attempts, &[0, 500, 1500, 2500, 3500], &[1, 2, 3], 10_500);
}

// Trio: test_does_reorder; the addresses come here in the order that it makes.
#[trine::test]
fn an_address_of_the_other_family_wins() {
    check(1000, &[(10_000, false), (500, true), (1000, true)], &[0, 1000], &[1], 1500);
}

// Trio: test_handles_no_ipv6: a socket that cannot be made fails at once.
#[trine::test]
fn addresses_that_cannot_be_tried_cost_no_time() {
    let attempts = [(0, false), (10_000, true), (0, false), (100, true)];
    check(1000, &attempts, &[0, 0, 1000, 1000], &[3], 1100);
}

// Trio: test_cancel.
#[trine::test(runs = 20)]
async fn a_timeout_around_it_closes_every_socket() -> Result {
    let (net, began) = (Net::default(), Instant::now());
    let stagger = Duration::from_millis(250);
    let outcome = fail_after(Duration::from_secs(5), async |_| {
        connect(&net, stagger, &[Attempt(10_000, true); 4]).await.map(|winner| winner.is_some())
    })
    .await;
    assert!(matches!(outcome, Err(Error::TooSlow(_))), "{outcome:?}");
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert_eq!(*net.starts.borrow(), [0, 250, 500, 750]);
    assert_eq!((net.opened.get(), net.open.get()), (4, 0));
    Ok(())
}
