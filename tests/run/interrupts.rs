//! Ctrl-C (rule P5), each time in a process of its own: this very test program, run once more.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use trine::time::sleep_forever;
use trine::{Builder, Error, Reason, checkpoint, idle, nop, nursery, shield};

use super::{LONG, common};

/// What the process that was run once more is to do.
const ROLE: &str = "TRINE_TEST_INTERRUPT";

/// Not a test of its own: does what it is told to, and says how far it is.
#[test]
fn what_is_interrupted() {
    let Ok(role) = std::env::var(ROLE) else { return };
    // It ends by itself if whoever has started it is gone.
    common::within(30, || be(&role));
}

fn be(role: &str) {
    let catching = || Builder::new().ctrl_c(true);
    let ended = match role {
        "waits" => catching().run(async || {
            nursery(async |n| {
                n.spawn(async {
                    let error = sleep_forever().await.unwrap_err();
                    let reason = error.cancelled().map(|cancelled| cancelled.reason());
                    assert_eq!(reason, Some(&Reason::Interrupt));
                    shield(nop()).await?;
                    say("cleaned up");
                    Err(error)
                });
                say("ready");
                sleep_forever().await
            })
            .await
        }),
        "cleans up for ever" => catching().run(async || {
            say("ready");
            let error = sleep_forever().await.unwrap_err();
            say("cleaning up");
            shield(sleep_forever()).await?;
            Err(error)
        }),
        "never waits" => catching().run(async || {
            say("ready");
            loop {
                checkpoint().await?;
            }
        }),
        "never yields" => catching().run(async || {
            say("ready");
            loop {
                std::hint::spin_loop();
            }
        }),
        "has not asked" => Builder::new().run(async || {
            say("ready");
            sleep_forever().await
        }),
        "has asked for once" => {
            let ended = catching().run(async || nop().await);
            say("ready");
            thread::sleep(LONG);
            ended
        }
        "asks twice" => catching().run(async || {
            let second = || Builder::new().ctrl_c(true).run(async || nop().await);
            let refused = thread::spawn(second).join().expect("no panic").unwrap_err();
            say(&refused.to_string());
            let plain = || Builder::new().run(async || nop().await);
            thread::spawn(plain).join().expect("no panic")?;
            say("ready");
            sleep_forever().await
        }),
        // Two connections' worth: one that waits for its next request, and one with work in hand.
        "serves" => Builder::new().drain_on_signal(LONG).run(async || {
            nursery(async |n| {
                n.spawn(async {
                    assert!(idle(sleep_forever()).await?.is_none());
                    say("idle ended");
                    Ok(())
                });
                n.spawn(async {
                    let error = sleep_forever().await.unwrap_err();
                    say(&error.to_string());
                    shield(sleep_forever()).await?;
                    Err(error)
                });
                checkpoint().await?;
                say("ready");
                Ok(())
            })
            .await
        }),
        "serves for a moment" => {
            Builder::new().drain_on_signal(Duration::from_millis(20)).run(async || {
                say("ready");
                assert!(idle(sleep_forever()).await?.is_none());
                let error = sleep_forever().await.unwrap_err();
                let reason = error.cancelled().map(|cancelled| cancelled.reason());
                assert!(matches!(reason, Some(Reason::Deadline { .. })), "{reason:?}");
                say("the grace is over");
                Ok(())
            })
        }
        "deadlocks" => catching().detect_deadlock_strictly(true).run(async || {
            say("ready");
            sleep_forever().await
        }),
        _ => panic!("unknown: {role}"),
    };
    match ended {
        Ok(()) => say("ended well"),
        Err(Error::Cancelled(cancelled)) => say(&cancelled.to_string()),
        Err(other) => say(&format!("another error: {other}")),
    }
}

/// Tells the one who watches, around whatever the test harness prints.
fn say(what: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "said: {what}").and_then(|()| out.flush()).expect("somebody listens");
}

/// A process that is about to be interrupted.
struct Victim {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    fn start(role: &str) -> Victim {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["interrupts::what_is_interrupted", "--exact", "--nocapture"])
            .env(ROLE, role)
            .stdout(Stdio::piped());
        // A shell that starts something in the background has it ignore Ctrl-C, and that is inherited.
        let default = || {
            for signal in [libc::SIGINT, libc::SIGTERM] {
                // SAFETY: there is no handler that could be missed.
                let former = unsafe { libc::signal(signal, libc::SIG_DFL) };
                assert_ne!(former, libc::SIG_ERR);
            }
            Ok(())
        };
        // SAFETY: between fork and exec it makes one system call, and touches no memory.
        let mut process = unsafe { command.pre_exec(default) }.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Victim { process, lines }
    }

    /// The next thing it says; `None`: it has ended.
    fn said(&mut self) -> Option<String> {
        loop {
            let line = self.lines.next()?.unwrap();
            if let Some((_, said)) = line.split_once("said: ") {
                return Some(said.to_owned());
            }
        }
    }

    fn expect(&mut self, what: &str) {
        assert_eq!(self.said().as_deref(), Some(what));
    }

    fn interrupt(&self) {
        self.send(libc::SIGINT);
    }

    fn send(&self, signal: libc::c_int) {
        // SAFETY: the process is a child that has not been waited for, so the number is its own.
        assert_eq!(unsafe { libc::kill(self.process.id() as i32, signal) }, 0);
    }

    /// Waits until the first signal has arrived: its handler is gone then.
    fn has_been_interrupted(&self) {
        let caught = || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (libc::SIGINT - 1) != 0
        };
        while caught() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn end(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    #[track_caller]
    fn was_killed(&mut self) {
        self.was_killed_by(libc::SIGINT);
    }

    #[track_caller]
    fn was_killed_by(&mut self, signal: libc::c_int) {
        assert_eq!(self.said(), None, "a killed process says nothing more");
        assert_eq!(self.end().signal(), Some(signal));
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It has ended already, unless the test has failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
fn victim(role: &str, test: impl FnOnce(&mut Victim)) {
    common::within(20, || test(&mut Victim::start(role)));
}

const INTERRUPTED: &str = "cancelled: interrupted by a signal";

// P5: the run sleeps in the kernel, and the signal goes to whichever thread the kernel likes.
#[test]
fn the_first_ctrl_c_cancels_the_main_scope_and_lets_it_clean_up() {
    victim("waits", |victim| {
        victim.expect("ready");
        victim.interrupt();
        victim.expect("cleaned up");
        victim.expect(INTERRUPTED);
        assert!(victim.end().success());
    });
}

// P5: whatever the first one has led to.
#[test]
fn the_second_ctrl_c_kills() {
    victim("cleans up for ever", |victim| {
        victim.expect("ready");
        victim.interrupt();
        victim.expect("cleaning up");
        victim.interrupt();
        victim.was_killed();
    });
}

#[test]
fn ctrl_c_reaches_a_task_that_never_waits() {
    victim("never waits", |victim| {
        victim.expect("ready");
        victim.interrupt();
        victim.expect(INTERRUPTED);
        assert!(victim.end().success());
    });
}

// P5: nothing can cancel a task that does not come back; the second one ends it all the same.
#[test]
fn a_task_that_never_yields_is_killed_by_the_second_ctrl_c() {
    victim("never yields", |victim| {
        victim.expect("ready");
        victim.interrupt();
        victim.has_been_interrupted();
        assert!(victim.process.try_wait().unwrap().is_none(), "the first one does not kill");
        victim.interrupt();
        victim.was_killed();
    });
}

// P5: opt-in.
#[test]
fn ctrl_c_kills_at_once_where_nobody_has_asked_for_it() {
    victim("has not asked", |victim| {
        victim.expect("ready");
        victim.interrupt();
        victim.was_killed();
    });
}

#[test]
fn after_the_run_ctrl_c_kills_again() {
    victim("has asked for once", |victim| {
        victim.expect("ready");
        victim.interrupt();
        victim.was_killed();
    });
}

// A process has one handler, so one run can have it.
#[test]
fn a_second_run_that_asks_for_ctrl_c_is_refused_and_the_first_keeps_it() {
    victim("asks twice", |victim| {
        let refused = victim.said().expect("a refusal");
        assert!(refused.contains("another run of this process catches Ctrl-C"), "{refused}");
        victim.expect("ready");
        victim.interrupt();
        victim.expect(INTERRUPTED);
        assert!(victim.end().success());
    });
}

// P4, P5: a signal is something that can wake a run.
#[test]
fn a_run_that_ctrl_c_can_wake_is_not_deadlocked() {
    victim("deadlocks", |victim| {
        victim.expect("ready");
        victim.interrupt();
        victim.expect(INTERRUPTED);
        assert!(victim.end().success());
    });
}

// P5: the first one of either kind ends what is idle, the second cancels the rest, the third kills.
#[test]
fn signals_drain_then_cancel_then_kill() {
    const ORDERS: [[libc::c_int; 3]; 2] =
        [[libc::SIGTERM, libc::SIGINT, libc::SIGTERM], [libc::SIGINT, libc::SIGINT, libc::SIGINT]];
    for [first, second, third] in ORDERS {
        victim("serves", |victim| {
            victim.expect("ready");
            victim.send(first);
            victim.expect("idle ended");
            victim.send(second);
            victim.expect(INTERRUPTED);
            victim.send(third);
            victim.was_killed_by(third);
        });
    }
}

// What is still in hand when the grace is over is cancelled.
#[test]
fn a_drain_by_signal_has_an_end() {
    victim("serves for a moment", |victim| {
        victim.expect("ready");
        victim.send(libc::SIGTERM);
        victim.expect("the grace is over");
        victim.expect("ended well");
        assert!(victim.end().success());
    });
}
