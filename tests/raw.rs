//! `io::submit`: operations that trine has no function for.

#![allow(unsafe_code, reason = "whoever makes an entry answers for what it points to")]

mod common;

use std::ffi::CString;
use std::fs;
use std::future::Future;
use std::io;
use std::ops::AsyncFnOnce;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::poll;
use trine::io::{Entry, RawOperation, submit};
use trine::testing::World;
use trine::time::Instant;
use trine::{Builder, CancelScope, Error, Result, move_on_after, nursery, stats};

use common::{in_kernel, pair, turns};

const NOP: u8 = 0;
const TIMEOUT: u8 = 11;
const OPENAT: u8 = 18;
const READ: u8 = 22;
const SEND_ZC: u8 = 47;

#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(20, || Builder::new().run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

fn nop<K: 'static>(keep: K, flags: u8) -> RawOperation<K> {
    // SAFETY: it points to nothing and completes once.
    unsafe { RawOperation::new(keep, |_| Entry { opcode: NOP, flags, ..Entry::default() }) }
}

/// Waits as long as its timespec says; that is in what is kept, and not behind a pointer.
fn wait<K: 'static>(seconds: i64, keep: K) -> RawOperation<(libc::timespec, K)> {
    let time = libc::timespec { tv_sec: seconds, tv_nsec: 1_000_000 };
    let entry = |(time, _): &mut (libc::timespec, K)| Entry {
        opcode: TIMEOUT,
        fd: -1,
        addr: (&raw const *time) as u64,
        len: 1,
        ..Entry::default()
    };
    // SAFETY: the time is kept where the entry says, and it completes once.
    unsafe { RawOperation::new((time, keep), entry) }
}

fn open(path: &str) -> RawOperation<CString> {
    let entry = |path: &mut CString| Entry {
        opcode: OPENAT,
        fd: libc::AT_FDCWD,
        addr: path.as_ptr() as u64,
        op_flags: libc::O_CLOEXEC as u32,
        ..Entry::default()
    };
    // SAFETY: the path is kept, and it completes once.
    unsafe { RawOperation::new(CString::new(path).unwrap(), entry) }.makes_descriptor()
}

/// Sends all of it, without a copy.
fn send_zero_copy(fd: RawFd, bytes: Vec<u8>) -> RawOperation<Vec<u8>> {
    let entry = |bytes: &mut Vec<u8>| Entry {
        opcode: SEND_ZC,
        fd,
        addr: bytes.as_ptr() as u64,
        len: bytes.len() as u32,
        ..Entry::default()
    };
    // SAFETY: the bytes are kept on the heap; it completes twice, as such a send may.
    unsafe { RawOperation::new(bytes, entry) }.once()
}

#[test]
fn its_result_and_what_was_kept_come_back() {
    run(async || {
        let (result, kept) = submit(nop("kept", 0)).await?;
        assert_eq!((result, kept), (0, "kept"));
        let (fd, path) = submit(open("/dev/null")).await?;
        assert_eq!(path.as_c_str(), c"/dev/null");
        // SAFETY: it was just made, for us.
        let file = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        assert_eq!(link.to_str(), Some("/dev/null"));
        Ok(())
    });
}

#[test]
fn an_error_brings_back_what_was_kept() {
    run(async || {
        let failed = submit(open("/does/not/exist")).await.unwrap_err();
        assert_eq!(failed.error.io_kind(), Some(io::ErrorKind::NotFound));
        assert_eq!(failed.buf.as_c_str(), c"/does/not/exist");
        let unknown = |_: &mut ()| Entry { opcode: 250, ..Entry::default() };
        // SAFETY: it points to nothing, and is refused.
        let failed = submit(unsafe { RawOperation::new((), unknown) }).await.unwrap_err();
        assert_eq!(failed.error.io_kind(), Some(io::ErrorKind::InvalidInput));
        let late = submit(wait(0, 'k')).await.unwrap_err();
        assert!(matches!(&late.error, Error::Io(e) if e.raw_os_error() == Some(libc::ETIME)));
        assert_eq!(late.buf.1, 'k');
        Ok(())
    });
}

// A link or a drain would wait for, or hold up, operations of everybody.
#[test]
fn a_flag_that_concerns_others_is_refused_by_name() {
    run(async || {
        let submitted = stats().submitted;
        for (bit, name) in [(1, "DRAIN"), (2, "LINK"), (3, "HARDLINK"), (5, "SELECT"), (6, "SKIP")]
        {
            let refused = submit(nop("kept", 1 << bit)).await.unwrap_err();
            assert_eq!(refused.error.io_kind(), Some(io::ErrorKind::InvalidInput));
            assert!(refused.error.to_string().contains(name), "{}", refused.error);
            assert_eq!(refused.buf, "kept");
        }
        assert_eq!(stats().submitted, submitted);
        submit(nop((), 1 << 4)).await?; // IOSQE_ASYNC
        Ok(())
    });
}

#[test]
fn a_scope_cancels_it_before_and_during() {
    run(async || {
        let scope = CancelScope::new();
        nursery(async |n| {
            n.spawn(async {
                let outcome = scope.run(async |_| {
                    let cancelled = submit(wait(3600, 'k')).await.unwrap_err();
                    assert_eq!(cancelled.buf.1, 'k');
                    let submitted = stats().submitted;
                    let before = submit(nop('k', 0)).await.unwrap_err();
                    assert!(before.error.is_cancelled(), "{}", before.error);
                    assert_eq!(stats().submitted, submitted, "A8");
                    Err::<(), _>(cancelled.error)
                });
                assert!(outcome.await?.is_none());
                Ok(())
            });
            in_kernel(1).await?;
            scope.cancel();
            Ok(())
        })
        .await
    });
}

// D5: what the kernel may read or write stays until it has let go.
#[test]
fn a_dropped_one_keeps_what_it_needs_until_the_kernel_has_let_go() {
    run(async || {
        let kept = Rc::new(());
        let scope = CancelScope::new();
        let before = stats().in_kernel;
        scope
            .run(async |_| {
                {
                    let mut waiting = pin!(submit(wait(3600, Rc::clone(&kept))));
                    assert!(poll!(waiting.as_mut()).is_pending());
                    turns(2).await;
                }
                assert_eq!(Rc::strong_count(&kept), 2, "the kernel still has it");
                Ok(())
            })
            .await?;
        assert_eq!((Rc::strong_count(&kept), stats().in_kernel), (1, before));
        drop(submit(wait(3600, Rc::clone(&kept))));
        assert_eq!(Rc::strong_count(&kept), 1, "it was never submitted");
        Ok(())
    });
}

// D7. No other test opens that file.
#[test]
fn a_descriptor_that_nobody_takes_is_closed() {
    run(async || {
        for polls in 0..100 {
            let mut opening = pin!(submit(open("/dev/zero")));
            assert!(poll!(opening.as_mut()).is_pending());
            turns(polls % 3).await;
        }
        Ok(())
    });
    let targets = fs::read_dir("/proc/self/fd").unwrap();
    let left = targets.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    assert_eq!(left.filter(|target| target.ends_with("zero")).count(), 0);
}

#[test]
fn a_zero_copy_send_ends_when_the_kernel_has_let_go_of_the_buffer() {
    run(async || {
        let (client, server) = pair().await?;
        let fd = client.as_raw_fd();
        let send = send_zero_copy(fd, b"without a copy".to_vec());
        nursery(async |n| {
            n.spawn(async {
                assert_eq!(server.recv().await?.as_deref(), Some(&b"without a copy"[..]));
                Ok(())
            });
            let (sent, buf) = submit(send).await?;
            assert_eq!(sent as usize, buf.len());
            Ok(())
        })
        .await?;
        client.close().await?;
        server.close().await
    });
}

/// Its memory is the kernel's until the peer has taken what was sent. A cancel finds nothing to stop then,
/// and is not asked for again and again.
#[test]
fn a_zero_copy_send_that_the_peer_does_not_take_is_asked_to_cancel_a_few_times_and_waited_for() {
    run(async || {
        let (client, server) = pair().await?;
        // So that the kernel has no room for all of it.
        client.set_option(trine::net::option::SEND_BUFFER, 20_000)?;
        let (fd, much, scope) = (client.as_raw_fd(), 8 << 20, CancelScope::new());
        nursery(async |n| {
            let sending = n.fork(async {
                scope
                    .run(async |_| {
                        // Twice: the second one finds the buffer full.
                        for _ in 0..2 {
                            if let Err(failed) = submit(send_zero_copy(fd, vec![7; much])).await {
                                assert_eq!(failed.buf.len(), much);
                                return Err(failed.error);
                            }
                        }
                        Ok(())
                    })
                    .await
            });
            in_kernel(1).await?;
            let before = stats();
            scope.cancel();
            turns(500).await;
            let cancels = stats().cancels_sent - before.cancels_sent;
            assert!(cancels <= 3, "{cancels} requests to cancel");
            // And it ends when the peer takes it.
            n.spawn_daemon(async {
                while server.recv().await?.is_some() {}
                Ok(())
            });
            sending.await?;
            Ok(())
        })
        .await?;
        client.close().await?;
        server.close().await
    });
}

/// It lies as `O_DIRECT` wants it.
#[repr(align(4096))]
#[derive(Clone)]
struct Page {
    _bytes: [u8; 4096],
}

/// Reads from a file, past its cache: in a disk's hands it cannot be stopped.
fn read_direct(file: fs::File, pages: usize) -> RawOperation<(Box<[Page]>, fs::File)> {
    let memory = vec![Page { _bytes: [0; 4096] }; pages].into_boxed_slice();
    let entry = |(memory, file): &mut (Box<[Page]>, fs::File)| Entry {
        opcode: READ,
        fd: file.as_raw_fd(),
        addr: memory.as_mut_ptr() as u64,
        len: (pages * size_of::<Page>()) as u32,
        ..Entry::default()
    };
    // SAFETY: the memory is kept on the heap, and the file with it; it completes once.
    unsafe { RawOperation::new((memory, file), entry) }
}

/// A cancel that cannot end it is not asked for in every turn. Where a disk is fast this says little.
#[test]
fn a_read_in_a_disks_hands_is_asked_to_cancel_now_and_then_and_waited_for() {
    const PAGES: usize = 8 << 10;
    let path = std::env::temp_dir().join(format!("trine-raw-direct-{}", std::process::id()));
    fs::write(&path, vec![7; PAGES * size_of::<Page>()]).unwrap();
    // What is still to be written would be waited for first, by a thread.
    fs::File::open(&path).unwrap().sync_all().unwrap();
    let file = fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(&path);
    fs::remove_file(&path).unwrap();
    let Ok(file) = file else { return println!("skipped: no O_DIRECT there") };
    run(async || {
        let scope = CancelScope::new();
        let before = stats();
        let took = nursery(async |n| {
            let read = submit(read_direct(file, PAGES));
            let reading = n.fork(scope.run(async move |_| Ok(read.await.is_ok())));
            turns(2).await;
            scope.cancel();
            let began = Instant::now();
            reading.await?;
            Ok(began.elapsed())
        })
        .await?;
        let asked = stats().cancels_sent - before.cancels_sent;
        let often = 3 + took.as_millis() as u64 / 10;
        assert!(asked <= often, "asked to cancel {asked} times in {took:?}");
        Ok(())
    });
}

#[test]
fn a_simulated_kernel_does_not_know_it() {
    World::tame()
        .run(async || {
            let refused = submit(nop('k', 0)).await.unwrap_err();
            assert_eq!(io::Error::from(refused.error).kind(), io::ErrorKind::Unsupported);
            Ok(())
        })
        .unwrap();
}

#[test]
fn outside_of_a_run_there_is_no_ring() {
    let mut outside = pin!(submit(nop('k', 0)));
    let waker = Waker::noop();
    match outside.as_mut().poll(&mut Context::from_waker(waker)) {
        Poll::Ready(Err(refused)) => {
            assert!(matches!(refused.error, Error::NoRun));
            assert_eq!(refused.buf, 'k');
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_deadline_ends_it() {
    run(async || {
        let moment = Duration::from_millis(2);
        let outcome =
            move_on_after(moment, async |_| Ok(submit(wait(3600, ())).await.map(drop)?));
        assert!(outcome.await?.is_none());
        Ok(())
    });
}
