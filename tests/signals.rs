//! `signal`: receiving what is sent to the process.

#![allow(unsafe_code, reason = "signals are raised and handlers set as a C library would")]

mod common;

use std::cell::RefCell;
use std::fs;
use std::hint;
use std::io::{self, BufRead, BufReader};
use std::mem;
use std::ops::{AsyncFnMut, AsyncFnOnce};
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
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

use common::{in_kernel, turns, within};

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

/// Has a signal counted by somebody else's handler while the test goes on, alone.
fn counting(signal: Signal, test: impl FnOnce()) {
    let _alone = alone();
    set_handler(signal, count as extern "C" fn(_) as usize);
    test();
    HANDLED.store(0, Ordering::SeqCst);
    set_handler(signal, libc::SIG_DFL);
}

// As Trio does it.
#[test]
fn what_nobody_has_received_goes_to_the_former_handler() {
    counting(Signal::USER_2, || {
        let handled = || HANDLED.swap(0, Ordering::SeqCst);
        run(async || {
            let [first, second] =
                [Signals::new([Signal::USER_2])?, Signals::new([Signal::USER_2])?];
            raise(Signal::USER_2);
            assert_eq!(first.next().await?, Signal::USER_2);
            drop((first, second));
            assert_eq!(handled(), 0, "one of them has received it");
            let [first, second] =
                [Signals::new([Signal::USER_2])?, Signals::new([Signal::USER_2])?];
            raise(Signal::USER_2);
            drop(first);
            assert_eq!(handled(), 0, "the other one may still receive it");
            drop(second);
            assert_eq!(handled(), 1);
            Ok(())
        });
    });
}

/// Raises a signal in a thread of its own, again and again: each time that `round`, which is given the number
/// of the round, has called what it is given, and so many moments later at most. For so long, not so often: on a busy machine
/// a round takes milliseconds.
fn raise_while(
    signal: Signal,
    late: u32,
    mut round: impl AsyncFnMut(u32, &(dyn Fn() + Sync)) -> Result,
) {
    const OVER: u32 = u32::MAX;
    let (number, raised) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|threads| {
        threads.spawn(|| {
            loop {
                match number.load(Ordering::SeqCst) {
                    OVER => break,
                    wanted if wanted == raised.load(Ordering::SeqCst) => hint::spin_loop(),
                    wanted => {
                        dawdle(wanted % late);
                        raise(signal);
                        raised.store(wanted, Ordering::SeqCst);
                    }
                }
            }
        });
        let begun = Instant::now();
        run(async || {
            for now in (1..OVER).take_while(|_| begun.elapsed() < Duration::from_millis(500)) {
                round(now, &|| number.store(now, Ordering::SeqCst)).await?;
                while raised.load(Ordering::SeqCst) < now {
                    thread::yield_now();
                }
            }
            number.store(OVER, Ordering::SeqCst);
            Ok(())
        });
    });
}

fn dawdle(moments: u32) {
    (0..moments).for_each(|_| hint::spin_loop());
}

/// The thread that a signal has interrupted is not the one that drops the receiver: its handler may have begun
/// and noted nothing yet.
#[test]
fn none_is_lost_that_comes_while_the_last_receiver_leaves() {
    counting(Signal::USER_2, || {
        raise_while(Signal::USER_2, 100, async |round, raise| {
            let signals = Signals::new([Signal::USER_2])?;
            raise();
            dawdle(round % 200);
            drop(signals);
            while HANDLED.load(Ordering::SeqCst) < round {
                thread::yield_now();
            }
            Ok(())
        });
    });
}

#[test]
fn none_is_withheld_that_comes_between_the_last_receiver_and_the_next_one() {
    counting(Signal::USER_2, || {
        raise_while(Signal::USER_2, 100, async |round, raise| {
            let handled = HANDLED.load(Ordering::SeqCst);
            let signals = Signals::new([Signal::USER_2])?;
            raise();
            dawdle(round % 400);
            drop(signals);
            let next = Signals::new([Signal::USER_2])?;
            while HANDLED.load(Ordering::SeqCst) == handled {
                if move_on_after(Duration::from_millis(1), async |_| next.next().await)
                    .await?
                    .is_some()
                {
                    break;
                }
            }
            Ok(())
        });
    });
}

/// The run has ended, and so has its count (rule P5): whoever else receives it does so still.
#[test]
fn a_run_that_ends_while_ctrl_c_comes_leaves_it_to_the_other_receivers() {
    let _alone = alone();
    set_handler(Signal::INTERRUPT, libc::SIG_IGN);
    let others = RefCell::new(None);
    raise_while(Signal::INTERRUPT, 4000, async |_, raise| {
        let other = Signals::new([Signal::INTERRUPT])?;
        let ends = || {
            let _ = Builder::new().ctrl_c(true).submissions(8).pool_most(1).run(async || {
                raise();
                Ok(())
            });
        };
        thread::scope(|threads| _ = threads.spawn(ends));
        assert_ne!(handler_of(Signal::INTERRUPT), libc::SIG_DFL, "the next one would kill");
        // It is to be there when the last signal comes.
        others.replace(Some(other));
        Ok(())
    });
    drop(others);
    set_handler(Signal::INTERRUPT, libc::SIG_DFL);
}

/// Signal-hook, for instance, and with it tokio, sets its handler once and for all. (It is remembered, so the other tests have other
/// signals.)
#[test]
fn a_handler_that_somebody_has_set_meanwhile_stays() {
    let _alone = alone();
    run(async || {
        for receivers in [1, 2] {
            set_handler(Signal::ALARM, libc::SIG_DFL);
            let make = || Signals::new([Signal::ALARM]);
            let mut all: Vec<_> = (0..receivers).map(|_| make()).collect::<Result<_>>()?;
            let theirs = count as extern "C" fn(_) as usize;
            set_handler(Signal::ALARM, theirs);
            drop(all.pop());
            assert_eq!(handler_of(Signal::ALARM), theirs, "{receivers} receivers, one has gone");
        }
        Ok(())
    });
    set_handler(Signal::ALARM, libc::SIG_DFL);
}

static OURS: AtomicUsize = AtomicUsize::new(0);

/// Counts, and calls the one that was there before.
extern "C" fn count_and_call(signal: i32) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: what was a handler.
    let former: extern "C" fn(i32) = unsafe { mem::transmute(OURS.load(Ordering::SeqCst)) };
    former(signal);
}

#[test]
fn a_handler_that_calls_ours_hears_each_signal_once() {
    let _alone = alone();
    run(async || {
        let first = Signals::new([Signal::WINDOW])?;
        OURS.store(handler_of(Signal::WINDOW), Ordering::SeqCst);
        set_handler(Signal::WINDOW, count_and_call as extern "C" fn(_) as usize);
        raise(Signal::WINDOW);
        assert_eq!(first.next().await?, Signal::WINDOW);
        raise(Signal::WINDOW);
        drop(first);
        assert_eq!(HANDLED.swap(0, Ordering::SeqCst), 2);
        raise(Signal::WINDOW);
        assert_eq!(HANDLED.swap(0, Ordering::SeqCst), 1, "nobody receives it");
        drop(Signals::new([Signal::WINDOW])?);
        raise(Signal::WINDOW);
        assert_eq!(HANDLED.swap(0, Ordering::SeqCst), 1, "nobody receives it any more");
        Ok(())
    });
    set_handler(Signal::WINDOW, libc::SIG_DFL);
}

#[test]
fn what_nobody_has_received_is_not_kept_by_a_thread_that_blocks_it() {
    counting(Signal::USER_2, || {
        let blocks = || {
            // SAFETY: all zeros is an empty mask, and it is this thread's own.
            unsafe {
                let mut mask = mem::zeroed();
                libc::sigaddset(&mut mask, libc::SIGUSR2);
                libc::pthread_sigmask(libc::SIG_BLOCK, &mask, std::ptr::null_mut());
            }
            run(async || {
                let signals = Signals::new([Signal::USER_2])?;
                trine::thread::run(|| raise(Signal::USER_2)).await?;
                drop(signals);
                Ok(())
            });
        };
        // A thread that a run has made blocks what it blocks, so somebody else is to make one first.
        run(async || trine::thread::run(|| ()).await);
        thread::scope(|threads| _ = threads.spawn(blocks));
        within(20, || {
            while HANDLED.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
        });
        assert_eq!(HANDLED.swap(0, Ordering::SeqCst), 1);
    });
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
