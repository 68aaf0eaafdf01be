//! `signal`: receiving what is sent to the process.

#![allow(unsafe_code, reason = "signals are raised and handlers set as a C library would")]

mod common;

use std::fs;
use std::hint;
use std::io::{self, BufRead, BufReader};
use std::ops::AsyncFnOnce;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use futures::poll;
use trine::io::Readiness;
use trine::signal::{Signal, Signals, ctrl_c};
use trine::testing::World;
use trine::time::{sleep, sleep_forever};
use trine::{
    Builder, CancelScope, Error, Reason, Result, checkpoint, move_on_after, nursery, shield,
};

use common::{in_kernel, turns};

/// Handlers are the whole process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(20, || Builder::new().run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

fn raise(signal: Signal) {
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::raise(signal.as_raw()) }, 0);
}

/// From another thread, to whichever one the kernel picks.
fn send_from_elsewhere(signal: Signal) {
    // SAFETY: no memory is involved.
    let send = move || unsafe { libc::kill(process::id() as i32, signal.as_raw()) };
    assert_eq!(thread::spawn(send).join().unwrap(), 0);
}

/// Who handles a signal now.
fn handler_of(signal: Signal) -> usize {
    // SAFETY: all zeros is a valid sigaction, and it is only read into.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(signal.as_raw(), std::ptr::null(), &mut now), 0);
        now.sa_sigaction
    }
}

fn set_handler(signal: Signal, handler: usize) {
    // SAFETY: the handlers of this file only count.
    unsafe { libc::signal(signal.as_raw(), handler) };
}

#[test]
fn each_signal_that_has_come_is_received_once() {
    let _alone = alone();
    run(async || {
        let signals = Signals::new([Signal::USER_1, Signal::USER_2])?;
        raise(Signal::USER_2);
        raise(Signal::USER_1);
        raise(Signal::USER_1);
        assert_eq!(signals.next().await?, Signal::USER_1);
        // It comes again, but the other one has its turn.
        raise(Signal::USER_1);
        assert_eq!(signals.next().await?, Signal::USER_2);
        assert_eq!(signals.next().await?, Signal::USER_1);
        let moment = Duration::from_millis(2);
        assert!(move_on_after(moment, async |_| signals.next().await).await?.is_none());
        Ok(())
    });
}

#[test]
fn whoever_waits_is_woken() {
    let _alone = alone();
    run(async || {
        let signals = Signals::new([Signal::HANGUP])?;
        nursery(async |n| {
            let came = n.fork(signals.next());
            in_kernel(1).await?;
            send_from_elsewhere(Signal::HANGUP);
            assert_eq!(came.await?, Signal::HANGUP);
            Ok(())
        })
        .await
    });
}

// The doc of `Signals`: only what a run stops by falls back when it has stopped. If it were not so, this
// process would end here.
#[test]
fn what_a_run_does_not_stop_by_is_received_while_it_stops() {
    let _alone = alone();
    let stopped: Result = Builder::new().ctrl_c(true).run(async || {
        let signals = Signals::new([Signal::TERMINATE])?;
        raise(Signal::INTERRUPT);
        assert!(sleep_forever().await.unwrap_err().is_cancelled());
        raise(Signal::TERMINATE);
        let received = shield(signals.next()).await?;
        assert_eq!(received, Signal::TERMINATE);
        checkpoint().await
    });
    assert!(stopped.is_err());
}

#[test]
fn all_receivers_of_all_runs_hear_it() {
    let _alone = alone();
    let (ready, is_ready) = mpsc::channel();
    let other = thread::spawn(move || {
        run(async || {
            let signals = Signals::new([Signal::HANGUP, Signal::USER_1])?;
            ready.send(()).unwrap();
            signals.next().await
        })
    });
    is_ready.recv().unwrap();
    run(async || {
        let [first, second] = [Signals::new([Signal::HANGUP])?, Signals::new([Signal::HANGUP])?];
        let not_this = Signals::new([Signal::USER_2])?;
        send_from_elsewhere(Signal::HANGUP);
        assert_eq!((first.next().await?, second.next().await?), (Signal::HANGUP, Signal::HANGUP));
        assert!(poll!(pin!(not_this.next())).is_pending());
        Ok(())
    });
    assert_eq!(other.join().unwrap(), Signal::HANGUP);
}

#[test]
fn the_former_handler_is_back_when_the_last_receiver_has_gone() {
    let _alone = alone();
    set_handler(Signal::USER_1, libc::SIG_IGN);
    run(async || {
        let first = Signals::new([Signal::USER_1])?;
        let second = Signals::new([Signal::USER_1, Signal::USER_2])?;
        drop(first);
        assert_ne!(handler_of(Signal::USER_1), libc::SIG_IGN);
        raise(Signal::USER_1);
        assert_eq!(second.next().await?, Signal::USER_1);
        drop(second);
        assert_eq!(handler_of(Signal::USER_1), libc::SIG_IGN);
        assert_eq!(handler_of(Signal::USER_2), libc::SIG_DFL);
        Ok(())
    });
    set_handler(Signal::USER_1, libc::SIG_DFL);
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_signal: i32) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

// As Trio does it.
#[test]
fn what_nobody_has_received_goes_to_the_former_handler() {
    let _alone = alone();
    set_handler(Signal::USER_2, count as extern "C" fn(_) as usize);
    let handled = || HANDLED.swap(0, Ordering::SeqCst);
    run(async || {
        let [first, second] = [Signals::new([Signal::USER_2])?, Signals::new([Signal::USER_2])?];
        raise(Signal::USER_2);
        assert_eq!(first.next().await?, Signal::USER_2);
        drop((first, second));
        assert_eq!(handled(), 0, "one of them has received it");
        let [first, second] = [Signals::new([Signal::USER_2])?, Signals::new([Signal::USER_2])?];
        raise(Signal::USER_2);
        drop(first);
        assert_eq!(handled(), 0, "the other one may still receive it");
        drop(second);
        assert_eq!(handled(), 1);
        Ok(())
    });
    set_handler(Signal::USER_2, libc::SIG_DFL);
}

/// The thread that a signal has interrupted is not the one that drops the receiver: its handler may have begun
/// and noted nothing yet.
#[test]
fn none_is_lost_that_comes_while_the_last_receiver_leaves() {
    const OVER: u32 = u32::MAX;
    let _alone = alone();
    set_handler(Signal::USER_2, count as extern "C" fn(_) as usize);
    let round = AtomicU32::new(0);
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut raised = 0;
            while round.load(Ordering::SeqCst) < OVER {
                if round.load(Ordering::SeqCst) == raised {
                    hint::spin_loop();
                } else {
                    raised += 1;
                    raise(Signal::USER_2);
                }
            }
        });
        run(async || {
            let begun = Instant::now();
            // So long, not so often: on a busy machine a round takes milliseconds.
            for number in (1..OVER).take_while(|_| begun.elapsed() < Duration::from_millis(300)) {
                let signals = Signals::new([Signal::USER_2])?;
                round.store(number, Ordering::SeqCst);
                (0..number % 200).for_each(|_| hint::spin_loop());
                drop(signals);
                while HANDLED.load(Ordering::SeqCst) < number {
                    thread::yield_now();
                }
            }
            round.store(OVER, Ordering::SeqCst);
            Ok(())
        });
    });
    HANDLED.store(0, Ordering::SeqCst);
    set_handler(Signal::USER_2, libc::SIG_DFL);
}

#[test]
fn what_cannot_be_caught_is_refused_with_the_reason() {
    let _alone = alone();
    run(async || {
        let refused = [
            (vec![], "at least one"),
            (vec![Signal::KILL], "cannot be caught"),
            (vec![Signal::STOP], "cannot be caught"),
            (vec![Signal::USER_1, Signal::from_raw(libc::SIGSEGV)], "signal 11 says that"),
            (vec![Signal::from_raw(0)], "signal 0 is none"),
            (vec![Signal::from_raw(-1)], "is none"),
            (vec![Signal::from_raw(32)], "is none"),
            (vec![Signal::from_raw(65)], "is none"),
        ];
        for (signals, why) in refused {
            let error = Signals::new(signals).unwrap_err();
            assert_eq!(error.io_kind(), Some(io::ErrorKind::InvalidInput));
            assert!(error.to_string().contains(why), "{error}");
        }
        assert_eq!(handler_of(Signal::USER_1), libc::SIG_DFL);
        let real_time = Signal::from_raw(libc::SIGRTMAX());
        let signals = Signals::new([real_time])?;
        raise(real_time);
        assert_eq!(signals.next().await?, real_time);
        Ok(())
    });
    let refused = Signals::new([Signal::USER_1]).unwrap_err();
    assert!(matches!(refused, Error::NoRun), "{refused}");
}

#[test]
fn a_simulated_kernel_has_no_signals() {
    World::tame()
        .run(async || {
            let refused = Signals::new([Signal::USER_1]).unwrap_err();
            assert_eq!(refused.io_kind(), Some(io::ErrorKind::Unsupported));
            Ok(())
        })
        .unwrap();
}

// D1: cancelled or dropped, it has received nothing.
#[test]
fn a_wait_that_was_cancelled_or_dropped_loses_nothing() {
    let _alone = alone();
    run(async || {
        let signals = Signals::new([Signal::USER_1])?;
        {
            let mut dropped = pin!(signals.next());
            assert!(poll!(dropped.as_mut()).is_pending());
            let refused = signals.next().await.unwrap_err();
            assert!(matches!(refused, Error::Busy(_)), "{refused}");
            turns(1).await;
            raise(Signal::USER_1);
            turns(2).await;
        }
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.run(async |_| signals.next().await).await?.is_none());
        assert_eq!(signals.next().await?, Signal::USER_1);
        Ok(())
    });
}

#[test]
fn there_are_only_so_many_receivers_and_none_leaves_anything() {
    let _alone = alone();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    run(async || {
        let before = descriptors();
        for _ in 0..3 {
            let make = || Signals::new([Signal::USER_1]);
            let all: Vec<_> = (0..64).map(|_| make()).collect::<Result<_>>()?;
            let error = make().unwrap_err();
            assert_eq!(error.io_kind(), Some(io::ErrorKind::ResourceBusy), "{error}");
            raise(Signal::USER_1);
            for signals in &all {
                assert_eq!(signals.next().await?, Signal::USER_1);
            }
        }
        assert_eq!(descriptors(), before);
        Ok(())
    });
}

/// What the process that was run once more is to do.
const ROLE: &str = "TRINE_TEST_SIGNALS";

/// Not a test of its own: does what it is told to.
#[test]
fn what_is_sent_signals() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let ended = common::within(30, || be(&role));
    say(&ended.map_or_else(|error| error.to_string(), |()| "ended well".to_owned()));
}

fn be(role: &str) -> Result {
    match role {
        // The run is cancelled, and the receiver hears it too.
        "catches and receives" => Builder::new().ctrl_c(true).run(async || {
            let signals = Signals::new([Signal::INTERRUPT])?;
            say("ready");
            let error = sleep_forever().await.unwrap_err();
            let reason = error.cancelled().map(|cancelled| cancelled.reason());
            assert_eq!(reason, Some(&Reason::Interrupt));
            say(&trine::shield(signals.next()).await?.to_string());
            Err(error)
        }),
        "does not receive" => Builder::new().run(async || {
            let signals = Signals::new([Signal::TERMINATE])?;
            say("ready");
            // It is closed when the signal was sent.
            Readiness::new(0)?.readable().await?;
            say("dropping");
            drop(signals);
            // The thread that is to handle it may not have got round to it.
            sleep(Duration::from_secs(20)).await?;
            say("still there");
            Ok(())
        }),
        "waits for one Ctrl-C" => Builder::new().run(async || {
            nursery(async |n| {
                n.spawn(async {
                    ctrl_c().await?;
                    say("came");
                    Ok(())
                });
                in_kernel(1).await?;
                say("ready");
                sleep_forever().await
            })
            .await
        }),
        _ => panic!("unknown: {role}"),
    }
}

fn say(what: &str) {
    use std::io::Write;
    let mut out = io::stdout().lock();
    writeln!(out, "said: {what}").and_then(|()| out.flush()).expect("somebody listens");
}

/// Runs this program once more, sends it signals when it is ready and after each line, and says what it
/// said and what ended it.
fn perform(role: &str, signals: &[(&str, Signal)]) -> (Vec<String>, Option<i32>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["what_is_sent_signals", "--exact", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    let mut signals = signals.iter();
    let mut next = signals.next();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((_, what)) = line.split_once("said: ") else { continue };
        said.push(what.to_owned());
        if let Some((_, signal)) = next.filter(|(when, _)| *when == what) {
            // SAFETY: no memory is involved; the child has not been waited for.
            assert_eq!(unsafe { libc::kill(child.id() as i32, signal.as_raw()) }, 0);
            next = signals.next();
            drop(child.stdin.take());
        }
    }
    (said, child.wait().unwrap().signal())
}

#[test]
fn a_run_that_catches_ctrl_c_and_a_receiver_both_hear_it() {
    let (said, ended_by) = perform("catches and receives", &[("ready", Signal::INTERRUPT)]);
    assert_eq!(said[..2], ["ready", "SIGINT"]);
    assert!(said[2].contains("interrupt"), "{said:?}");
    assert_eq!(ended_by, None);
}

#[test]
fn a_signal_that_nobody_has_received_does_what_it_would_have_done() {
    let (said, ended_by) = perform("does not receive", &[("ready", Signal::TERMINATE)]);
    assert_eq!(said, ["ready", "dropping"]);
    assert_eq!(ended_by, Some(libc::SIGTERM));
}

#[test]
fn after_one_ctrl_c_the_next_one_kills() {
    let signals = [("ready", Signal::INTERRUPT), ("came", Signal::INTERRUPT)];
    let (said, ended_by) = perform("waits for one Ctrl-C", &signals);
    assert_eq!(said, ["ready", "came"]);
    assert_eq!(ended_by, Some(libc::SIGINT));
}
