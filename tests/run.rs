//! The run (section P): how it begins, what it waits for, and what it leaves behind.

mod common;
#[path = "run/deadlocks.rs"]
mod deadlocks;
#[path = "run/interrupts.rs"]
mod interrupts;
#[path = "run/leftovers.rs"]
mod leftovers;
#[path = "run/looks.rs"]
mod looks;
#[path = "run/sizes.rs"]
mod sizes;
#[path = "run/turns.rs"]
mod turns;

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::ops::AsyncFnOnce;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::process::Command;
use std::sync::Barrier;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use futures::poll;
use trine::net::{TcpListener, TcpStream};
use trine::time::{sleep, sleep_forever};
use trine::{
    Builder, Error, IoBuf, IoBufMut, Result, checkpoint, generic, move_on_after, nop, nursery,
    shield, stats,
};

use common::{Peer, in_kernel};

const HERE: &str = "127.0.0.1:0";
const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(2);

/// Runs a test. What nothing can wake any more is an error, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    run_with(Builder::new(), main)
}

#[track_caller]
fn run_with<T>(builder: Builder, main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = outcome(builder.detect_deadlock(true), main);
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// What a run ends with; the builder is taken as it is.
#[track_caller]
fn outcome<T>(builder: Builder, main: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
    common::within(20, || builder.run(main))
}

/// Descriptors are counted for the whole process: a test that counts them runs in one of its own,
/// which is this very program, run once more.
#[track_caller]
fn alone(name: &str, test: impl FnOnce()) {
    const ALONE: &str = "TRINE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return common::within(20, test);
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args([name, "--exact", "--nocapture"]).env(ALONE, name).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// A buffer that says what the kernel had when it was freed.
struct Watched {
    bytes: Vec<u8>,
    freed: &'static FreedWhen,
}

/// How many operations the kernel had when the buffer was freed.
type FreedWhen = thread::LocalKey<Cell<Option<usize>>>;

impl Drop for Watched {
    fn drop(&mut self) {
        self.freed.set(Some(stats().in_kernel));
    }
}

// SAFETY: the bytes are those of a vector that is owned.
unsafe impl IoBuf for Watched {
    fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: as above; `set_len` is the vector's own.
unsafe impl IoBufMut for Watched {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    unsafe fn set_len(&mut self, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.bytes.set_len(len) }
    }
}

// P1: a buffer is freed when its operation has had its terminal completion, and not before.
#[trine::test(kernel = "both")]
fn a_buffer_is_freed_when_the_kernel_has_let_go_of_it_and_not_before() {
    thread_local! {
        static DROPPED: Cell<Option<usize>> = const { Cell::new(None) };
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }
    // A simulated test is run twice.
    DROPPED.set(None);
    LEFT.set(None);
    let buffer = |freed| Watched { bytes: Vec::with_capacity(100), freed };
    let left_over = run(async || {
        let (first, _first_peer) = Peer::pair().await?;
        let (second, second_peer) = Peer::pair().await?;
        let mut left_over = Box::pin(async move { second.read(buffer(&LEFT)).await.map(drop) });
        assert!(poll!(left_over.as_mut()).is_pending());
        let mut dropped = Box::pin(first.read(buffer(&DROPPED)));
        assert!(poll!(dropped.as_mut()).is_pending());
        in_kernel(2).await?;
        drop(dropped);
        assert_eq!(DROPPED.get(), None, "the kernel has it still");
        Ok((left_over, second_peer))
    });
    assert_eq!(DROPPED.get(), Some(0), "the last completion of both has come");
    assert_eq!(LEFT.get(), None, "its owner lives");
    drop(left_over);
    assert_eq!(LEFT.get(), Some(0));
}

// P1: once the run has returned, no operation of it takes anything any more.
#[test]
fn what_arrives_after_the_run_is_not_taken_by_a_forgotten_receive() {
    for own_buffer in [false, true] {
        let (peer, mut again) = run(async || {
            let (stream, peer) = Peer::pair().await?;
            // SAFETY: the stream is open.
            let again = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }.try_clone_to_owned();
            let stream: &'static TcpStream = Box::leak(Box::new(stream));
            let mut receive: Pin<Box<dyn Future<Output = bool>>> = match own_buffer {
                true => Box::pin(async { stream.read(Vec::with_capacity(100)).await.is_ok() }),
                false => Box::pin(async { stream.recv().await.is_ok() }),
            };
            assert!(poll!(receive.as_mut()).is_pending());
            in_kernel(1).await?;
            std::mem::forget(receive);
            Ok((peer, std::net::TcpStream::from(again?)))
        });
        peer.send(b"after").unwrap();
        again.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut received = [0; 5];
        io::Read::read_exact(&mut again, &mut received).unwrap();
        assert_eq!(&received, b"after");
    }
}

// P1: also what hides behind a shield that nobody polls any more.
#[trine::test(kernel = "both", leaks = true)]
fn a_shield_that_is_left_over_does_not_hold_the_run_open() {
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        let mut shielded = Box::pin(shield(async move { stream.recv().await.map(drop) }));
        assert!(poll!(shielded.as_mut()).is_pending());
        let mut asleep = Box::pin(shield(sleep_forever()));
        assert!(poll!(asleep.as_mut()).is_pending());
        in_kernel(1).await?;
        std::mem::forget((shielded, asleep));
        Ok(())
    });
}

// P1: the registration of a ring with its thread keeps the ring, so it has to go, too.
#[test]
fn a_run_leaves_no_ring_registered_with_its_thread() {
    const REGISTERED_RING: libc::c_uint = 1 << 4;
    run(async || nop().await);
    for index in 0..16 {
        let nothing = std::ptr::null::<libc::c_void>();
        // SAFETY: nothing is submitted and nothing is waited for.
        let entered = unsafe {
            let flags = REGISTERED_RING;
            libc::syscall(libc::SYS_io_uring_enter, index, 0, 0, flags, nothing, 0)
        };
        assert_eq!(entered, -1, "ring {index} is still there");
        let error = io::Error::last_os_error();
        assert!(matches!(error.raw_os_error(), Some(libc::EBADF | libc::EINVAL)), "{error}");
    }
}

// P3: whoever tries learns what to do instead, and the run that is there goes on.
#[trine::test(kernel = "both")]
fn a_run_inside_a_run_is_refused_wherever_it_is_tried() {
    let refused = || {
        let thrown = catch_unwind(|| trine::run(async || nop().await)).map(drop).unwrap_err();
        let text = thrown.downcast_ref::<&str>().expect("a plain message");
        assert!(text.contains("trine::run inside a run"), "{text}");
        assert!(text.contains("spawn into a nursery instead"), "{text}");
    };
    /// Tries while it is dropped.
    struct OnDrop<F: Fn()>(F);
    impl<F: Fn()> Drop for OnDrop<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    run(async || {
        refused();
        nop().await?;
        nursery(async |n| {
            n.spawn(async {
                let _late = OnDrop(refused);
                move_on_after(LONG, async |_| {
                    refused();
                    nop().await
                })
                .await?;
                refused();
                sleep_forever().await
            });
            checkpoint().await?;
            nop().await?;
            n.cancel();
            Ok(())
        })
        .await?;
        // On another thread there is none, and Miri has no kernel for one.
        if !cfg!(miri) {
            thread::scope(|threads| {
                let other = threads.spawn(|| trine::run(async || nop().await));
                other.join().expect("no panic")
            })?;
        }
        nop().await
    });
    // And when it has ended, the next one may begin.
    run(async || nop().await);
}

// P3: main has ended, but the run has not.
#[trine::test(kernel = "both")]
fn a_run_is_refused_until_the_one_before_has_ended() {
    thread_local! {
        static REFUSED: Cell<u32> = const { Cell::new(0) };
    }
    struct Runs;
    impl Drop for Runs {
        fn drop(&mut self) {
            let ended = catch_unwind(|| trine::run(async || nop().await));
            REFUSED.set(REFUSED.get() + u32::from(ended.is_err()));
        }
    }
    // A simulated test is run twice.
    REFUSED.set(0);
    let runs = Runs;
    run(async move || {
        let _kept = &runs;
        nop().await
    });
    assert_eq!(REFUSED.get(), 1);
    drop(Runs);
    assert_eq!(REFUSED.get(), 1, "now there is none in the way");
}

#[trine::test(kernel = "both")]
fn a_run_returns_the_value_of_main_and_main_may_borrow() {
    let (text, seen) = (String::from("lent"), RefCell::new(Vec::new()));
    let lent = run(async || {
        nursery(async |n| {
            n.spawn(async {
                seen.borrow_mut().push(text.len());
                Ok(())
            });
            Ok(())
        })
        .await?;
        Ok(&text[1..])
    });
    assert_eq!((lent, seen.into_inner()), ("ent", vec![4]));
}

#[trine::test(kernel = "both")]
fn a_run_returns_the_error_of_main_as_it_is() {
    let failed: Result = outcome(Builder::new(), async || Err(io::Error::other("as it is").into()));
    let Err(Error::Io(error)) = failed else { panic!("{failed:?}") };
    assert_eq!(error.to_string(), "as it is");
    let failed = generic::run(async || -> io::Result<()> {
        nop().await?;
        Err(io::ErrorKind::AddrInUse.into())
    });
    assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

// P1: a panic of main is no way to leave anything behind.
#[test]
fn a_panic_of_main_comes_out_of_the_run_after_everything_was_taken_back() {
    alone("a_panic_of_main_comes_out_of_the_run_after_everything_was_taken_back", || {
        let before = descriptors();
        let thrown = catch_unwind(AssertUnwindSafe(|| {
            trine::run(async || -> Result {
                let (stream, _peer) = Peer::pair().await?;
                let mut receive = pin!(stream.recv());
                assert!(poll!(receive.as_mut()).is_pending());
                in_kernel(1).await?;
                std::panic::panic_any(7_u8)
            })
        }));
        assert_eq!(thrown.map(drop).unwrap_err().downcast_ref(), Some(&7_u8));
        assert_eq!(descriptors(), before);
        assert_eq!(stats(), trine::Stats::default(), "there is no run any more");
        assert!(trine::run(async || nop().await).is_ok());
    });
}

// Main need not wait for anything, and what it made without polling is simply dropped.
#[trine::test(kernel = "both")]
fn a_main_that_never_waits_is_a_run_too() {
    assert_eq!(run(async || Ok(1)), 1);
    run(async || {
        drop((nop(), checkpoint(), sleep(LONG), nursery(async |_| Ok(()))));
        Ok(())
    });
}

// P3, P6: each thread has a run of its own.
#[test]
fn runs_on_many_threads_at_once_do_not_mind_each_other() {
    const THREADS: usize = 16;
    let barrier = &Barrier::new(THREADS);
    thread::scope(|threads| {
        for number in 0..THREADS {
            threads.spawn(move || {
                let sum = run(async || {
                    barrier.wait();
                    let (stream, peer) = Peer::pair().await?;
                    nursery(async |n| {
                        let received = n.fork(async {
                            let mut sum = 0;
                            while let Some(chunk) = stream.recv().await? {
                                sum += chunk.iter().map(|&byte| usize::from(byte)).sum::<usize>();
                            }
                            Ok(sum)
                        });
                        for _ in 0..50 {
                            peer.write_all(&[number as u8]).await?;
                            nop().await?;
                            sleep(MOMENT / 20).await?;
                        }
                        drop(peer);
                        received.await
                    })
                    .await
                });
                assert_eq!(sum, 50 * number);
            });
        }
    });
}

// P1: with a bell, a ring, a pool and sockets each.
#[test]
fn a_hundred_runs_one_after_the_other_leave_no_descriptor() {
    alone("a_hundred_runs_one_after_the_other_leave_no_descriptor", || {
        let mut before = 0;
        for number in 0..100 {
            let ended: Result<usize> = trine::run(async || {
                let listener = TcpListener::bind(HERE).await?;
                let client = TcpStream::connect_addr(listener.local_addr()?).await?;
                let (server, _) = listener.accept().await?;
                let mut receive = pin!(server.recv());
                assert!(poll!(receive.as_mut()).is_pending());
                client.write_all("x").await?;
                // Every other one ends with something in the kernel, and every third with an error.
                if number % 2 == 0 {
                    in_kernel(2).await?;
                } else {
                    assert_eq!(receive.await?.expect("one byte")[..], *b"x");
                }
                if number % 3 == 0 { Err(Error::other("third")) } else { Ok(descriptors()) }
            });
            assert_eq!(ended.is_err(), number % 3 == 0);
            if number == 0 {
                before = descriptors();
            }
            assert_eq!(descriptors(), before, "after run {number}");
        }
    });
}

// P6: the bell is shared with the wakers, and goes with the last one.
#[test]
fn the_last_waker_of_an_ended_run_takes_the_bell_with_it() {
    alone("the_last_waker_of_an_ended_run_takes_the_bell_with_it", || {
        let before = descriptors();
        let waker: Result<Waker> = trine::run(async || {
            Ok(std::future::poll_fn(|cx| Poll::Ready(cx.waker().clone())).await)
        });
        let waker = waker.unwrap();
        assert_eq!(descriptors(), before + 1);
        let clone = waker.clone();
        drop(waker);
        clone.wake_by_ref();
        thread::spawn(move || drop(clone)).join().unwrap();
        assert_eq!(descriptors(), before);
    });
}
