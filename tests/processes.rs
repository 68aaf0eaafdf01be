//! `process`: children of the operating system, which do not outlive their scope.

#![allow(unsafe_code, reason = "a process is asked for as a C library would")]

mod common;

use std::cell::Cell;
use std::fs;
use std::io;
use std::ops::AsyncFnOnce;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::pin::pin;
use std::process::Command as StdCommand;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use futures::poll;
use trine::process::{Child, Command, Failed, Stdio};
use trine::signal::Signal;
use trine::testing::World;
use trine::time::Instant;
use trine::{Builder, CancelScope, Error, Result, move_on_after, nursery, stats, tree};

use common::{BUDGET, turns};

const MOMENT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(60);

/// Descriptors and children are counted for the whole process: whoever counts them has to be alone.
static ALONE: RwLock<()> = RwLock::new(());

#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let _others = ALONE.read().unwrap_or_else(PoisonError::into_inner);
    watched(main)
}

/// Runs a test after which there have to be as many descriptors as before, and no children.
#[track_caller]
fn run_alone<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    let before = descriptors();
    let value = watched(main);
    // A thread that has started something keeps the bell of the run for a moment longer.
    let patience = std::time::Instant::now() + Duration::from_secs(2);
    while descriptors() != before && std::time::Instant::now() < patience {
        std::thread::yield_now();
    }
    assert_eq!(descriptors(), before, "descriptors after the run");
    assert_no_children();
    value
}

#[track_caller]
fn watched<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(180, || Builder::new().detect_deadlock(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Neither alive nor a zombie.
#[track_caller]
fn assert_no_children() {
    // SAFETY: no memory is involved.
    let waited = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    assert_eq!((waited, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ECHILD)));
}

fn shell(script: &str) -> Command {
    Command::new("/bin/sh").args(["-c", script])
}

/// The first line that it writes.
async fn first_line(child: &mut Child) -> Result<String> {
    let output = child.stdout.as_ref().expect("piped");
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.extend_from_slice(&output.recv().await?.expect("a line"));
    }
    Ok(String::from_utf8(line).expect("text").trim().to_owned())
}

/// Whether there is such a process, be it a zombie.
fn exists(id: i32) -> bool {
    fs::exists(format!("/proc/{id}")).unwrap()
}

/// Starts something that ignores being asked to end, and is ready to do so.
async fn stubborn(grace: Duration) -> Result<Child> {
    let script = "trap '' TERM; echo ready; while kill -0 $PPID; do sleep 0.01; done";
    let mut child = shell(script).stdout(Stdio::piped()).grace(grace).spawn().await?;
    assert_eq!(first_line(&mut child).await?, "ready");
    Ok(child)
}

#[test]
fn it_tells_how_it_has_ended() {
    run_alone(async || {
        let child = shell("exit 7").spawn().await?;
        assert!(child.id() > 1);
        assert_eq!(child.wait().await?.code(), Some(7));
        // As often as one likes.
        assert_eq!(child.wait().await?.code(), Some(7));
        assert_eq!(child.try_wait()?.and_then(|status| status.code()), Some(7));
        assert_eq!(shell("kill -USR1 $$").status().await?.signal(), Some(libc::SIGUSR1));
        Ok(())
    });
}

#[test]
fn several_tasks_may_wait_for_it() {
    run_alone(async || {
        let child = shell("sleep 0.05; exit 4").spawn().await?;
        assert!(child.try_wait()?.is_none());
        nursery(async |n| {
            for _ in 0..3 {
                n.spawn(async {
                    assert_eq!(child.wait().await?.code(), Some(4));
                    Ok(())
                });
            }
            Ok(())
        })
        .await
    });
}

#[test]
fn what_cannot_be_started_is_an_error_that_names_it() {
    run_alone(async || {
        let error = Command::new("/no/such/program").spawn().await.unwrap_err();
        assert_eq!(error.io_kind(), Some(io::ErrorKind::NotFound));
        assert!(error.to_string().starts_with("/no/such/program cannot be started"), "{error}");
        let error = Command::new("/proc/self/status").output().await.unwrap_err();
        assert_eq!(error.io_kind(), Some(io::ErrorKind::PermissionDenied));
        Ok(())
    });
}

#[test]
fn its_settings_reach_it() {
    run_alone(async || {
        let command = shell("pwd; echo $GREETING; echo ${HOME-none}; echo $0 $1")
            .args(["zero", "one"])
            .current_dir("/")
            .env("GREETING", "hello")
            .env_remove("HOME");
        assert_eq!(command.output().await?.stdout, b"/\nhello\nnone\nzero one\n");
        let mut std = StdCommand::new("/bin/sh");
        std.args(["-c", "echo $ONLY$PATH"]);
        let mut command = Command::from(std).env_clear();
        command.as_std_mut().env("ONLY", "this");
        assert!(command.output().await?.stdout.starts_with(b"this"));
        Ok(())
    });
}

#[test]
fn a_failed_child_is_an_error_with_its_status_and_what_it_said() {
    run_alone(async || {
        let error = shell("echo out; echo it is broken >&2; exit 9").run().await.unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh failed: exit status: 9: it is broken");
        let Error::Other(error) = error else { panic!("{error}") };
        let failed = error.downcast_ref::<Failed>().expect("it was started");
        assert_eq!(failed.output.status.code(), Some(9));
        assert_eq!(failed.output.stdout, b"out\n");
        let long = shell("yes x | head -c 100000 >&2; exit 1").run().await.unwrap_err();
        assert!(long.to_string().len() < 1100);
        assert!(shell("exit 0").run().await?.stderr.is_empty());
        Ok(())
    });
}

// Each of the streams is longer than a pipe holds, and so is the input.
#[test]
fn a_lot_on_all_three_streams_blocks_nobody() {
    run_alone(async || {
        const MUCH: usize = 1 << 20;
        let input = common::bytes(MUCH);
        let script = format!("head -c {MUCH} /dev/zero >&2; cat");
        let output = shell(&script).input(input.clone()).output().await?;
        assert!(output.status.success());
        assert_eq!(output.stderr.len(), MUCH);
        assert!(output.stdout == input);
        Ok(())
    });
}

#[test]
fn one_that_does_not_read_its_input_is_none_the_worse_for_it() {
    run_alone(async || {
        let output = shell("exec <&-; echo done").input(vec![0; 1 << 20]).run().await?;
        assert_eq!(output.stdout, b"done\n");
        // Somebody else keeps the input open, and does not read it either.
        let before = Instant::now();
        let left = shell("exec 3<&0; sleep 5 <&3 >/dev/null 2>&1 & echo left");
        let output = left.input(vec![0; 1 << 20]).run().await?;
        assert_eq!(output.stdout, b"left\n");
        assert!(Instant::now() - before < Duration::from_secs(4), "nobody waits for that");
        // With none at all it sees the end at once.
        let cat = || Command::new("cat");
        for cat in [cat(), cat().input(""), cat().stdin(Stdio::piped())] {
            assert_eq!(cat.run().await?.stdout, b"");
        }
        Ok(())
    });
}

#[test]
fn one_can_talk_to_it() {
    run_alone(async || {
        let cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
        let answer = cat.spawn_with(async |cat| {
            cat.stdin.as_ref().expect("piped").write_all("hello\n").await?;
            let line = first_line(cat).await?;
            // It ends because its input does, when the body is left.
            Ok((line, cat.stderr.is_none()))
        });
        assert_eq!(answer.await?, ("hello".to_owned(), true));
        Ok(())
    });
}

#[test]
fn waiting_has_an_end_by_a_deadline_and_the_child_lives_on() {
    run_alone(async || {
        let child = shell("exec sleep 1000").spawn().await?;
        assert!(move_on_after(MOMENT, async |_| child.wait().await).await?.is_none());
        {
            let mut dropped = pin!(child.wait());
            assert!(poll!(dropped.as_mut()).is_pending());
            turns(2).await;
        }
        assert!(child.try_wait()?.is_none());
        child.kill()?;
        assert_eq!(child.wait().await?.signal(), Some(libc::SIGKILL));
        // What has ended gets no signal, nor does whoever has its number now.
        child.terminate()?;
        child.send_signal(Signal::HANGUP)?;
        assert_eq!(child.stop().await?.signal(), Some(libc::SIGKILL));
        Ok(())
    });
}

#[test]
fn one_that_ignores_being_asked_is_killed_when_the_grace_is_over() {
    run_alone(async || {
        let grace = Duration::from_millis(50);
        let child = stubborn(grace).await?;
        let before = Instant::now();
        assert_eq!(child.stop().await?.signal(), Some(libc::SIGKILL));
        assert!(Instant::now() - before >= grace);
        Ok(())
    });
}

#[test]
fn one_that_cleans_up_when_asked_has_the_time_for_it() {
    run_alone(async || {
        let script =
            "trap 'sleep 0.05; exit 5' TERM; echo ready; while kill -0 $PPID; do sleep 0.01; done";
        let mut child = shell(script).stdout(Stdio::piped()).spawn().await?;
        first_line(&mut child).await?;
        // M2: also in a cancelled scope.
        let scope = CancelScope::new();
        scope.cancel();
        let stopped = scope.run(async |_| {
            let error = child.stop().await.unwrap_err();
            assert!(error.is_cancelled(), "{error}");
            Err::<(), _>(error)
        });
        assert!(stopped.await?.is_none());
        assert_eq!(child.try_wait()?.and_then(|status| status.code()), Some(5));
        Ok(())
    });
}

#[test]
fn a_body_that_is_cancelled_or_fails_has_its_child_stopped() {
    run_alone(async || {
        let grace = Duration::from_millis(20);
        let id = Cell::new(0);
        let script = "trap '' TERM; echo ready; while kill -0 $PPID; do sleep 0.01; done";
        let command = || shell(script).stdout(Stdio::piped()).grace(grace);
        let scope = CancelScope::new();
        let outcome = scope.run(async |scope| {
            let body = async |child: &mut Child| {
                first_line(child).await?;
                id.set(child.id() as i32);
                scope.cancel();
                child.wait().await
            };
            command().spawn_with(body).await
        });
        assert!(outcome.await?.is_none());
        assert!(!exists(id.get()));
        let failing = command().spawn_with(async |child| {
            id.set(child.id() as i32);
            Err::<(), _>(Error::other("no"))
        });
        assert_eq!(failing.await.unwrap_err().to_string(), "no");
        assert!(!exists(id.get()));
        Ok(())
    });
}

// A2, and the rule that nothing is left: cancelled in every stage, from the first poll on.
#[test]
fn wherever_it_is_cancelled_nothing_is_left() {
    run_alone(async || {
        let script =
            "head -c 300000 /dev/zero; cat >/dev/null; sleep 0.005; head -c 300000 /dev/zero >&2";
        let (mut cancelled, mut finished) = (0, 0);
        for microseconds in (0..60_000).step_by(600) {
            let time = Duration::from_micros(microseconds);
            let outcome =
                move_on_after(time, async |_| shell(script).input(vec![1; 300_000]).output().await);
            match outcome.await? {
                Some(output) => {
                    finished += 1;
                    assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 300_000));
                }
                None => cancelled += 1,
            }
            assert_no_children();
        }
        assert!(cancelled > 0, "{finished} of them have finished");
        Ok(())
    });
}

// E11: the scope waits until it is dead.
#[test]
fn a_dropped_child_is_killed_and_is_no_zombie_when_the_scope_is_left() {
    run_alone(async || {
        let id = Cell::new(0);
        let scope = CancelScope::new();
        scope
            .run(async |_| {
                let child = stubborn(LONG).await?;
                id.set(child.id() as i32);
                drop(child);
                Ok(())
            })
            .await?;
        assert!(!exists(id.get()));
        // In a cancelled scope, too.
        let scope = CancelScope::new();
        let outcome = scope.run(async |scope| {
            let child = stubborn(LONG).await?;
            id.set(child.id() as i32);
            scope.cancel();
            child.wait().await
        });
        assert!(outcome.await?.is_none());
        assert!(!exists(id.get()));
        // One that nobody has waited for although it has ended.
        let child = shell("exit").spawn().await?;
        assert!(move_on_after(LONG, async |_| child.wait().await).await?.is_some());
        let ended = shell("exit").spawn().await?;
        while !fs::read_to_string(format!("/proc/{}/stat", ended.id()))?.contains(") Z") {
            turns(1).await;
        }
        drop(ended);
        Ok(())
    });
}

#[test]
fn a_spawn_that_was_dropped_leaves_no_child() {
    run_alone(async || {
        for polls in 1..20 {
            let scope = CancelScope::new();
            scope
                .run(async |_| {
                    let mut spawning = pin!(shell("exec sleep 1000").spawn());
                    for _ in 0..polls {
                        if let std::task::Poll::Ready(child) = poll!(spawning.as_mut()) {
                            return child.map(drop);
                        }
                        turns(1).await;
                    }
                    Ok(())
                })
                .await?;
            assert_no_children();
        }
        Ok(())
    });
}

// P6: there is no ring to wait with.
#[test]
fn a_child_that_outlives_its_run_is_killed_when_it_is_dropped() {
    run_alone(async || Ok(()));
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    let child = watched(async || shell("exec sleep 1000").spawn().await);
    let id = child.id() as i32;
    assert!(exists(id));
    watched(async || {
        assert!(matches!(child.wait().await, Err(Error::RunFinished)));
        Ok(())
    });
    drop(child);
    assert!(!exists(id));
}

#[test]
fn signals_reach_the_group_that_it_leads() {
    run_alone(async || {
        // The grandchild would go on, and hold the pipe open.
        let script = "sleep 1000 & echo $!; wait";
        for leads in [true, false] {
            let command = shell(script).stdout(Stdio::piped());
            let command = if leads { command.process_group(0) } else { command };
            let mut child = command.spawn().await?;
            let grandchild: i32 = first_line(&mut child).await?.parse().expect("a number");
            child.stop().await?;
            let rest = child.stdout.as_ref().expect("piped");
            let ended = move_on_after(10 * MOMENT, async |_| rest.recv().await).await?;
            assert_eq!(ended.is_some(), leads);
            if !leads {
                // SAFETY: no memory is involved.
                unsafe { libc::kill(grandchild, libc::SIGKILL) };
                assert!(rest.recv().await?.is_none());
            }
        }
        Ok(())
    });
}

/// It has a child of its own in its group, which does not heed SIGTERM while the leader is there.
async fn leader_of_a_stubborn_one() -> Result<Child> {
    let script = "(trap '' TERM; echo ready; while kill -0 $PPID; do sleep 0.01; done) & wait";
    let mut child = shell(script).stdout(Stdio::piped()).process_group(0).spawn().await?;
    first_line(&mut child).await?;
    Ok(child)
}

// What does not end by itself when the leader does is killed before the leader's number is free.
#[test]
fn what_is_left_of_a_group_is_killed_with_its_leader() {
    run_alone(async || {
        let mut child = leader_of_a_stubborn_one().await?;
        assert_eq!(child.stop().await?.signal(), Some(libc::SIGTERM));
        let rest = child.stdout.take().expect("piped");
        assert!(rest.recv().await?.is_none());
        Ok(())
    });
}

#[test]
fn what_is_left_of_a_group_is_killed_whoever_else_asks_for_the_status_of_its_leader() {
    run_alone(async || {
        let child = leader_of_a_stubborn_one().await?;
        nursery(async |n| {
            let asking = n.fork(async {
                while child.try_wait()?.is_none() {
                    trine::checkpoint().await?;
                }
                child.wait().await
            });
            trine::checkpoint().await?;
            let stopped = child.stop().await?;
            assert_eq!((asking.await?, stopped.signal()), (stopped, Some(libc::SIGTERM)));
            Ok(())
        })
        .await?;
        assert_no_children();
        assert!(child.stdout.as_ref().expect("piped").recv().await?.is_none());
        Ok(())
    });
}

#[test]
fn many_short_ones_leave_nothing() {
    run_alone(async || {
        let before = descriptors();
        for round in 0..2000 {
            let child = Command::new("/bin/true").spawn().await?;
            if round % 2 == 0 {
                assert!(child.wait().await?.success());
            }
        }
        trine::checkpoint().await?;
        while stats().in_kernel > 0 {
            trine::checkpoint().await?;
        }
        assert_eq!(descriptors(), before);
        assert_no_children();
        Ok(())
    });
}

// A2.
#[test]
fn to_wait_for_what_has_ended_spends_the_budget() {
    run_alone(async || {
        let child = shell("exit").spawn().await?;
        child.wait().await?;
        let before = stats().turns;
        for _ in 0..=BUDGET {
            child.wait().await?;
        }
        assert!(stats().turns > before, "no turn went by");
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.run(async |_| child.wait().await).await?.is_none(), "A8");
        Ok(())
    });
}

#[test]
fn somebody_who_waits_for_all_children_is_noticed() {
    run_alone(async || {
        let child = shell("exit 1").spawn().await?;
        // SAFETY: no memory is involved.
        unsafe { libc::waitpid(child.id() as i32, std::ptr::null_mut(), 0) };
        let error = child.wait().await.unwrap_err();
        assert!(error.to_string().contains("somebody else"), "{error}");
        Ok(())
    });
}

/// Starts something that does nothing, under this number; `None` where that is not allowed.
fn start_as(id: i32) -> Option<i32> {
    // A `clone_args` up to `set_tid_size`: with the signal of its end, and one number that it is to have.
    let mut args = [0, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, &raw const id as u64, 1];
    let size = size_of_val(&args);
    // SAFETY: it is told how long `args` is, and the number outlives the call.
    let started = unsafe { libc::syscall(libc::SYS_clone3, args.as_mut_ptr(), size) } as i32;
    if started == 0 {
        // SAFETY: a child of a process with threads may do this, and does nothing else.
        unsafe {
            libc::pause();
            libc::_exit(0);
        }
    }
    (started == id).then_some(id)
}

#[test]
fn a_stranger_that_has_got_its_number_gets_no_signal_and_is_not_waited_for() {
    run_alone(async || {
        let child = shell("exit").process_group(0).spawn().await?;
        let id = child.id() as i32;
        // SAFETY: no memory is involved.
        unsafe { libc::waitpid(id, std::ptr::null_mut(), 0) };
        let Some(stranger) = start_as(id) else {
            eprintln!("not tested: numbers are not to be chosen");
            return Ok(());
        };
        // SAFETY: no memory is involved.
        unsafe { libc::setpgid(stranger, stranger) };
        child.kill()?;
        drop(child);
        trine::checkpoint().await?;
        let mut status = 0;
        // SAFETY: `status` outlives the calls. What it is killed with first is what it ends with.
        let waited = unsafe {
            libc::kill(stranger, libc::SIGTERM);
            libc::waitpid(stranger, &mut status, 0)
        };
        assert_eq!((waited, status), (stranger, libc::SIGTERM));
        Ok(())
    });
}

// What ends at once is gone before anybody could ask for its end.
#[test]
fn where_the_process_ignores_its_children_they_are_started_and_nobody_knows_how_they_end() {
    run_alone(async || {
        // SAFETY: nobody else has children meanwhile.
        let former = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        for _ in 0..100 {
            let mut command = shell("true").process_group(0);
            // SAFETY: this may be done there.
            unsafe { command.as_std_mut().pre_exec(|| libc::_exit(0)) };
            let child = command.spawn().await?;
            child.kill()?;
            let error = child.wait().await.unwrap_err();
            assert!(error.to_string().contains("ignores SIGCHLD"), "{error}");
        }
        // SAFETY: as before.
        unsafe { libc::signal(libc::SIGCHLD, former) };
        Ok(())
    });
}

// E11: the scope waits for it, and the thread of the run does not.
#[test]
fn what_a_spawn_has_started_before_it_was_dropped_is_reaped() {
    run_alone(async || {
        nursery(async |_| {
            let spawn = || shell("exec sleep 1000").spawn();
            let mut spawning = Box::pin(spawn());
            while poll!(spawning.as_mut()).is_ready() {
                spawning.set(spawn());
            }
            while stats().threads > 0 {
                turns(1).await;
            }
            drop(spawning);
            assert!(tree().contains("reap"), "{}", tree());
            Ok(())
        })
        .await?;
        assert_no_children();
        Ok(())
    });
}

/// Traces a process until its input ends.
const TRACE: &str = "import ctypes, os, sys
PTRACE_SEIZE = 0x4206
libc = ctypes.CDLL(None)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
if libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) == 0:
    os.write(1, b'x')
    sys.stdin.read()";

/// Something that does nothing, and whoever traces it as `gdb` and `strace` do; nothing where that cannot
/// be had.
async fn traced() -> Result<Option<(Child, Child)>> {
    let child = shell("exec sleep 1000").spawn().await?;
    let tracer = Command::new("python3").args(["-c", TRACE, &child.id().to_string()]);
    let tracer = tracer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().await;
    if let Ok(tracer) = tracer {
        if tracer.stdout.as_ref().expect("it is piped").recv().await?.is_some() {
            return Ok(Some((child, tracer)));
        }
    }
    eprintln!("not tested: nobody may trace it");
    Ok(None)
}

// E11: it is dead when the scope is left. It is a zombie for as long as its tracer likes.
#[test]
fn a_traced_child_that_is_dropped_holds_nobody_up() {
    run_alone(async || {
        let Some((child, tracer)) = traced().await? else { return Ok(()) };
        let stat = format!("/proc/{}/stat", child.id());
        nursery(async |_| {
            drop(child);
            Ok(())
        })
        .await?;
        assert!(fs::read_to_string(stat)?.contains(") Z"));
        tracer.kill()?;
        tracer.wait().await.map(drop)
    });
}

#[test]
fn to_wait_for_a_traced_child_takes_few_turns() {
    run_alone(async || {
        let Some((child, tracer)) = traced().await? else { return Ok(()) };
        child.kill()?;
        let before = stats().turns;
        assert!(move_on_after(20 * MOMENT, async |_| child.wait().await).await?.is_none());
        assert!(stats().turns - before < 50, "{}", stats().turns - before);
        tracer.kill()?;
        assert_eq!(child.wait().await?.signal(), Some(libc::SIGKILL));
        tracer.wait().await.map(drop)
    });
}

#[test]
fn the_tree_shows_what_is_waited_for() {
    run(async || {
        let child = shell("exec sleep 1000").spawn().await?;
        let mut waiting = pin!(child.wait());
        assert!(poll!(waiting.as_mut()).is_pending());
        turns(1).await;
        assert!(tree().contains("poll"), "{}", tree());
        Ok(())
    });
}

#[test]
fn a_simulated_kernel_has_no_processes() {
    World::tame()
        .run(async || {
            let refused = Command::new("true").status().await.unwrap_err();
            assert_eq!(refused.io_kind(), Some(io::ErrorKind::Unsupported));
            assert!(refused.to_string().starts_with("a process is of the real world"));
            Ok(())
        })
        .unwrap();
}

// E11: also one that has left the group that gets its signals.
#[test]
fn a_child_that_has_left_its_group_is_killed_all_the_same() {
    const LEAVE: &str = "import os, time
os.setpgid(0, os.getpgid(os.getppid()))
os.write(1, b'x')
time.sleep(1000)";
    run_alone(async || {
        // Not before: it is a child too.
        if StdCommand::new("python3").arg("--version").output().is_err() {
            eprintln!("not tested: there is no python3");
            return Ok(());
        }
        for stops in [false, true] {
            let command = Command::new("python3").args(["-c", LEAVE]).process_group(0);
            let child = command.grace(Duration::ZERO).stdout(Stdio::piped()).spawn().await?;
            assert!(child.stdout.as_ref().expect("it is piped").recv().await?.is_some());
            nursery(async |_| {
                if stops {
                    child.stop().await?;
                }
                drop(child);
                Ok(())
            })
            .await?;
        }
        Ok(())
    });
}
