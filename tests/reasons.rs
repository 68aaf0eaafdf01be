//! Why something was cancelled, what becomes of other errors meanwhile, and the picture of it all
//! (sections L and M).

mod common;
#[path = "reasons/errors.rs"]
mod errors;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::net::Shutdown;
use std::ops::AsyncFnOnce;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, Location};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures::{FutureExt, poll};
use trine::net::{TcpListener, TcpStream};
use trine::time::{Instant, sleep, sleep_forever, sleep_until};
use trine::{
    Builder, CancelScope, Error, Reason, Result, checkpoint, fail_after, move_on_after, move_on_at,
    nursery, shield, shield_for, stats, tree,
};

use common::{in_kernel, pair};

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(2);

/// Runs a test. What nothing can wake any more is an error here, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(10, || Builder::new().detect_deadlock_strictly(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// Sleeps until it is cancelled, and says why it was.
async fn why() -> Reason {
    let error = sleep_forever().await.unwrap_err();
    error.cancelled().expect("a cancellation").reason().clone()
}

/// The line of this file that a location names.
fn line_of(at: &Location<'_>) -> u32 {
    assert_eq!(at.file(), file!());
    at.line()
}

/// The line where the scope was opened whose deadline passed.
fn deadline_of(reason: &Reason) -> u32 {
    match reason {
        Reason::Deadline { scope } => line_of(scope),
        other => panic!("{other:?}"),
    }
}

// L1: a deadline's reason names the place where its scope was opened.
#[trine::test(kernel = "both")]
fn a_deadline_says_where_its_scope_was_opened() {
    run(async || {
        let first = line!() + 1;
        let after = move_on_after(MOMENT, async |_| Ok(why().await)).await?;
        let at = move_on_at(Instant::now(), async |_| Ok(why().await)).await?;
        let fail = fail_after(MOMENT, async |_| Ok(why().await)).await?;
        let shielded = shield_for(MOMENT, async |_| Ok(why().await)).await?;
        let scope = CancelScope::new().timeout(MOMENT);
        let made = scope.run(async |_| Ok(why().await)).await?;
        let scope = CancelScope::default();
        scope.set_deadline(Some(Instant::now()));
        let default = scope.run(async |_| Ok(why().await)).await?;
        let reasons = [after, at, Some(fail), shielded, made, default];
        let reasons = reasons.map(|reason| reason.expect("the body has finished"));
        let lines: Vec<_> = reasons.iter().map(deadline_of).collect();
        assert_eq!(lines, [0, 1, 2, 3, 4, 6].map(|line| first + line));
        Ok(())
    });
}

// L1: an explicit one names the caller, and says what the caller said.
#[trine::test(kernel = "both")]
fn an_explicit_cancellation_says_who_called_and_what_was_said() {
    run(async || {
        let first = line!() + 2;
        let quiet = CancelScope::new();
        quiet.cancel();
        let reason_of_quiet = quiet.run(async |_| Ok(why().await)).await?;
        let reason_of_loud = move_on_after(LONG, async |scope| {
            scope.cancel_because("no longer needed");
            Ok(why().await)
        });
        let reasons = [reason_of_quiet, reason_of_loud.await?].map(|it| it.expect("finished"));
        let told: Vec<_> = reasons.iter().map(ToString::to_string).collect();
        let (quiet, loud) = (first, first + 3);
        assert_eq!(told[0], format!("cancelled at {}:{quiet}:15", file!()));
        assert_eq!(told[1], format!("cancelled at {}:{loud}:19: no longer needed", file!()));
        Ok(())
    });
}

// L1: of a nursery, the place where the one was spawned that failed, or the nursery's own.
#[trine::test(kernel = "both")]
fn siblings_are_told_which_one_of_them_failed() {
    let failed = |how: u32| {
        run(async || {
            let reason = &RefCell::new(None);
            let expected = &Cell::new(0);
            let opened = line!() + 1;
            let ended = AssertUnwindSafe(nursery(async |n| {
                n.spawn(async move {
                    *reason.borrow_mut() = Some(why().await);
                    Ok(())
                });
                checkpoint().await?;
                expected.set(line!() + 1);
                n.spawn(async move {
                    match how {
                        0 => Err(Error::other("disk")),
                        1 => panic!("a child"),
                        _ => sleep_forever().await,
                    }
                });
                if how == 2 {
                    expected.set(opened);
                    return Err(Error::other("the body"));
                }
                sleep_forever().await
            }));
            let ended = ended.catch_unwind().await;
            assert_eq!(ended.is_err(), how == 1);
            let reason = reason.take().expect("the sibling was cancelled");
            let Reason::SiblingFailed { child } = reason else { panic!("{reason:?}") };
            assert_eq!(line_of(child), expected.get(), "case {how}");
            let text = format!("the sibling spawned at {child} failed");
            assert_eq!(reason.to_string(), text);
            Ok(())
        });
    };
    (0..3).for_each(failed);
}

// L1: `finish`, `cancel` and the end of all but the daemons.
#[trine::test(kernel = "both")]
fn what_is_not_needed_any_more_is_told_that_the_result_is_there() {
    run(async || {
        let reasons = &RefCell::new(Vec::new());
        let note = async || {
            let reason = why().await;
            reasons.borrow_mut().push(reason);
            Ok(())
        };
        let finished = nursery(async |n| {
            n.spawn(note());
            checkpoint().await?;
            n.finish(7);
            Ok(0)
        });
        assert_eq!(finished.await?, 7);
        nursery(async |n| {
            n.spawn(note());
            checkpoint().await?;
            n.cancel();
            Ok(())
        })
        .await?;
        nursery(async |n| {
            n.spawn_daemon(note());
            checkpoint().await
        })
        .await?;
        assert_eq!(*reasons.borrow(), [Reason::Finished, Reason::Finished, Reason::Finished]);
        Ok(())
    });
}

// L1, P5, F13: the first Ctrl-C cancels the main scope. One test, since a process has one handler.
#[test]
fn ctrl_c_cancels_the_main_scope_and_says_so() {
    let interrupt = || {
        // SAFETY: the run below has installed a handler, which only stores and writes.
        assert_eq!(unsafe { libc::raise(libc::SIGINT) }, 0);
    };
    let cancelled = common::within(10, || {
        Builder::new().ctrl_c(true).run(async || {
            nursery(async |n| {
                n.spawn(async { sleep_forever().await });
                checkpoint().await?;
                interrupt();
                sleep_forever().await
            })
            .await
        })
    });
    let error = cancelled.unwrap_err();
    assert_eq!(error.cancelled().map(|it| it.reason()), Some(&Reason::Interrupt));
    assert_eq!(error.to_string(), "cancelled: interrupted by a signal");
    let foreign = common::within(10, || {
        Builder::new().ctrl_c(true).run(async || {
            interrupt();
            pending::<Result>().await
        })
    });
    assert_eq!(foreign.unwrap_err().cancelled().map(|it| it.reason()), Some(&Reason::Interrupt));
    let busy = common::within(10, || {
        Builder::new().ctrl_c(true).run(async || {
            interrupt();
            for _ in 0..10_000 {
                checkpoint().await?;
            }
            Ok(())
        })
    });
    let error = busy.expect_err("a task that never waits is interrupted as well");
    assert_eq!(error.cancelled().map(|it| it.reason()), Some(&Reason::Interrupt));
}

/// A waker that looks at the tree when it is woken.
#[derive(Default)]
struct Witness(std::sync::Mutex<String>);

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() = tree();
    }
}

// L1, P1: what is left when main has ended is cancelled because the run is over.
#[trine::test(kernel = "both")]
fn what_outlives_main_is_told_that_the_run_is_over() {
    let witness = Arc::new(Witness::default());
    let mut left_over: Pin<Box<dyn Future<Output = Result>>> = Box::pin(sleep_forever());
    run(async || {
        let waker = Waker::from(Arc::clone(&witness));
        assert!(left_over.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        Ok(())
    });
    let seen = witness.0.lock().unwrap();
    assert!(seen.trim_end().ends_with("the run is over"), "{seen}");
}

// L2: the first reason stays.
#[trine::test(kernel = "both")]
fn the_first_reason_stays() {
    run(async || {
        let scope = CancelScope::new().timeout(MOMENT);
        let left = scope.run(async |scope| {
            scope.cancel_because("first");
            scope.cancel_because("second");
            sleep_until(Instant::now()).await.unwrap_err();
            shield(sleep(2 * MOMENT)).await?;
            Ok(why().await)
        });
        let seen = left.await?.expect("the body has finished");
        assert!(seen.to_string().ends_with(": first"), "{seen}");
        assert_eq!(scope.cancel_called(), Some(seen));
        let late = CancelScope::new().timeout(Duration::ZERO);
        late.cancel_because("before the deadline was looked at");
        late.run(async |_| Ok(())).await?;
        assert!(matches!(late.cancel_called(), Some(Reason::Explicit { .. })));
        let timed = CancelScope::new().timeout(Duration::ZERO);
        let left = timed.run(async |scope| {
            scope.cancel_because("afterwards");
            Ok(why().await)
        });
        assert!(matches!(left.await?, Some(Reason::Deadline { .. })));
        Ok(())
    });
}

// L3: a scope without its own shows its parent's; one with its own shows that; a shield hides both.
#[trine::test(kernel = "both")]
fn a_scope_without_a_reason_of_its_own_shows_its_parents() {
    run(async || {
        let texts = move_on_after(LONG, async |outer| {
            outer.cancel_because("outer");
            let inherited = move_on_after(LONG, async |inner| {
                assert_eq!(inner.cancel_called(), None, "not itself");
                let child = &RefCell::new(None);
                let joined = nursery(async |n| {
                    n.spawn(async move {
                        *child.borrow_mut() = Some(why().await);
                        Ok(())
                    });
                    Ok(())
                });
                joined.await?;
                Ok([why().await, child.take().expect("told")])
            });
            let own = move_on_after(LONG, async |inner| {
                inner.cancel_because("inner");
                Ok(why().await)
            });
            let hidden = CancelScope::new().shield(true);
            let hidden = hidden.run(async |hidden| {
                hidden.cancel_because("hidden");
                Ok(why().await)
            });
            let [body, child] = inherited.await?.expect("finished");
            let [own, hidden] = [own.await?, hidden.await?].map(|it| it.expect("finished"));
            Ok([body, child, own, hidden].map(|it| it.to_string()))
        });
        let texts = texts.await?.expect("finished");
        for (text, end) in texts.iter().zip([": outer", ": outer", ": inner", ": hidden"]) {
            assert!(text.ends_with(end), "{texts:?}");
        }
        Ok(())
    });
}

// M1: after a `Cancelled` code goes on; it can clean up and then return the error.
#[trine::test(kernel = "both")]
fn a_cancelled_task_can_say_good_bye_before_it_returns_the_error() {
    run(async || {
        let (client, server) = pair().await?;
        let left = move_on_after(MOMENT, async |_| {
            let cancelled = server.recv().await;
            let told = shield_for(LONG, async |_| {
                server.write_all("good bye").await?;
                server.shutdown(Shutdown::Write).await
            });
            assert!(told.await?.is_some());
            cancelled
        });
        assert!(left.await?.is_none());
        assert_eq!(client.recv().await?.expect("bytes"), *b"good bye");
        assert!(client.recv().await?.is_none());
        Ok(())
    });
}

// M2: closed whatever is cancelled, also with a receive of a dropped future in the kernel.
#[trine::test(kernel = "both")]
fn closing_in_a_cancelled_scope_closes_and_says_cancelled() {
    run(async || {
        let (client, server) = pair().await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let left = move_on_after(LONG, async |scope| {
            let mut receive = Box::pin(server.recv());
            assert!(poll!(receive.as_mut()).is_pending());
            in_kernel(1).await?;
            drop(receive);
            scope.cancel();
            assert!(listener.close().await.unwrap_err().is_cancelled());
            server.close().await
        });
        assert!(left.await?.is_none());
        assert_eq!(stats().in_kernel, 0);
        assert!(client.recv().await?.is_none(), "the other end sees it");
        let refused = TcpStream::connect_addr(address).await.unwrap_err();
        assert_eq!(refused.io_kind(), Some(std::io::ErrorKind::ConnectionRefused));
        Ok(())
    });
}

/// Makes a picture of the tree comparable: lines of this file count from `base` on, what is above it
/// is `above`, durations are `_`.
fn picture(base: u32) -> String {
    let word = |word: &str| {
        let bare = word.trim_end_matches([',', ':']);
        let end = &word[bare.len()..];
        if let Some(place) = bare.strip_prefix(file!()) {
            let line = place[1..].split(':').next().and_then(|line| line.parse::<u32>().ok());
            match line.and_then(|line| line.checked_sub(base)) {
                Some(line) => format!("+{line}{end}"),
                None => format!("above{end}"),
            }
        } else if bare.starts_with(|first: char| first.is_ascii_digit()) && bare.ends_with('s') {
            format!("_{end}")
        } else {
            word.to_owned()
        }
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    tree().lines().map(line).collect::<Vec<_>>().join("\n")
}

#[trine::test(kernel = "both")]
fn the_tree_shows_who_waits_for_what_under_which_deadline_and_why_it_ends() {
    run(async || {
        let (_client, server) = &pair().await?;
        let listener = &TcpListener::bind("127.0.0.1:0").await?;
        let (before, after) = (&RefCell::new(String::new()), &RefCell::new(String::new()));
        let base = line!();
        let hidden = &CancelScope::new().shield(true);
        let left = move_on_after(LONG, async |scope| {
            nursery(async |n| {
                n.spawn(async move { server.recv().await.map(drop) });
                n.spawn(async move {
                    hidden.run(async |_| listener.accept().await.map(drop)).await.map(drop)
                });
                n.spawn_daemon(async { sleep_forever().await });
                in_kernel(2).await?;
                *before.borrow_mut() = picture(base);
                scope.cancel_because("enough");
                *after.borrow_mut() = picture(base);
                hidden.cancel();
                Ok(())
            })
            .await
        });
        assert!(left.await?.is_none());
        let (receive, accept) = (server.as_raw_fd(), listener.as_raw_fd());
        let expected = format!(
            "\
run at above
  scope at +2, deadline in _
    nursery at +3
      child spawned at +4
        waits for recv fd {receive} since _
      child spawned at +5
        scope at +1, shielded
          waits for accept fd {accept} since _
      daemon spawned at +8
        waits to be woken"
        );
        assert_eq!(*before.borrow(), expected);
        let expected = format!(
            "\
run at above
  scope at +2, deadline in _, cancelled _ ago: cancelled at +11: enough
    nursery at +3
      child spawned at +4
        waits for recv fd {receive} since _, asked to cancel
      child spawned at +5
        scope at +1, shielded
          waits for accept fd {accept} since _
      daemon spawned at +8"
        );
        assert_eq!(*after.borrow(), expected);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn the_tree_shows_deadlines_that_have_passed_and_results_that_nobody_wants() {
    run(async || {
        let (_client, server) = pair().await?;
        let mut seen = String::new();
        let base = line!();
        let left = move_on_after(Duration::ZERO, async |_| {
            shield(async {
                let mut receive = Box::pin(server.recv());
                assert!(poll!(receive.as_mut()).is_pending());
                in_kernel(1).await?;
                drop(receive);
                seen = picture(base);
                Ok(())
            })
            .await
        });
        left.await?;
        let receive = server.as_raw_fd();
        let expected = format!(
            "\
run at above
  scope at +1, deadline _ ago, cancelled _ ago: the deadline of the scope at +1 passed
    scope at +2, shielded
      waits for recv fd {receive} since _ (nobody wants its result)"
        );
        assert_eq!(seen, expected);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn the_statistics_count_what_is_there_and_what_has_been() {
    run(async || {
        let (_client, server) = &pair().await?;
        let before = stats();
        assert_eq!((before.tasks, before.scopes, before.timers), (1, 1, 0));
        assert_eq!((before.queued, before.in_kernel, before.next_deadline), (0, 0, None));
        let left = move_on_after(LONG, async |scope| {
            nursery(async |n| {
                n.spawn(async move { server.recv().await.map(drop) });
                n.spawn(async move { sleep(2 * LONG).await });
                in_kernel(1).await?;
                let during = stats();
                assert_eq!((during.tasks, during.scopes, during.timers), (4, 5, 2));
                assert_eq!((during.in_kernel, during.submitted), (1, before.submitted + 1));
                let next = during.next_deadline.expect("the scope's");
                assert!(next <= LONG && next > LONG / 2);
                assert!(during.turns > before.turns && during.enters > before.enters);
                scope.cancel();
                Ok(())
            })
            .await
        });
        assert!(left.await?.is_none());
        let mut idle = pin!(server.recv());
        assert!(poll!(idle.as_mut()).is_pending());
        assert_eq!(stats().queued, 1);
        let after = stats();
        assert_eq!((after.tasks, after.scopes, after.timers, after.in_kernel), (1, 1, 0, 0));
        assert_eq!(after.cancels_sent, before.cancels_sent + 1);
        assert_eq!((after.withdrawn, after.abandoned), (before.withdrawn, 0));
        Ok(())
    });
}
