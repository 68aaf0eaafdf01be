//! OPENAT2, FSYNC, reads of files: what can be stopped, and what a FIFO does to an open.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::ring::Ring;
use crate::world::{CANCELLED, MODES, NOT_FOUND, names, note};

/// What slips out of a worker that was interrupted.
const RESTART: i32 = -512;

/// A path of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("trine-facts-{}-{number}", process::id());
        Scratch(std::env::temp_dir().join(name))
    }

    fn fifo() -> Scratch {
        let scratch = Scratch::new();
        let path = CString::new(scratch.0.as_os_str().as_bytes()).unwrap();
        // SAFETY: a path with a zero byte at its end.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        scratch
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

fn own(fd: i32) -> OwnedFd {
    assert!(fd >= 0, "an open failed: {fd}");
    // SAFETY: just made by the kernel for this test.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The first attempt does not block, and that means something else to a FIFO.
#[test]
fn an_open_of_a_fifo_is_tried_without_blocking_unless_it_is_asynchronous() {
    for mode in MODES {
        let fifo = Scratch::fifo();
        let mut ring = Ring::new(mode);
        let write = ring.open(fifo.path(), libc::O_WRONLY, false);
        let write = ring.result(write);
        let read = ring.open(fifo.path(), libc::O_RDONLY, false);
        let read = ring.result(read);
        note("open(FIFO), no other end", mode, format!("write {}, read ok", names(&[write])));
        assert_eq!(write, -libc::ENXIO);
        drop(own(read));

        let waiting = ring.open(fifo.path(), libc::O_RDONLY, true);
        ring.submit();
        assert!(ring.is_quiet(waiting));
        let writer = ring.open(fifo.path(), libc::O_WRONLY, true);
        drop(own(ring.result(writer)));
        drop(own(ring.result(waiting)));
    }
}

#[test]
fn an_open_of_a_fifo_that_waits_in_a_worker_is_interrupted() {
    for mode in MODES {
        let fifo = Scratch::fifo();
        let mut ring = Ring::new(mode);
        let open = ring.open(fifo.path(), libc::O_RDONLY, true);
        ring.submit();
        // The worker sleeps in open(2) by then; before that it is found in the queue.
        thread::sleep(Duration::from_millis(20));
        let (cancel, target) = ring.pair("open(FIFO) in a worker", open);
        let allowed = [RESTART, -libc::EINTR, CANCELLED];
        assert!(cancel == -libc::EALREADY || cancel == 0, "{cancel}");
        assert!(allowed.contains(&target), "{target}");
    }
}

#[test]
fn an_open_that_has_ended_brings_its_descriptor_whatever_the_cancel_says() {
    for mode in MODES {
        let scratch = Scratch::new();
        fs::write(scratch.path(), "x").unwrap();
        let mut ring = Ring::new(mode);
        let open = ring.open(scratch.path(), libc::O_RDONLY, false);
        let (cancel, target) = ring.pair("open, cached, cancelled in one batch", open);
        assert_eq!(cancel, NOT_FOUND);
        drop(own(target));
    }
}

/// A worker does it: what has not begun is stopped, what has begun is not.
#[test]
fn an_fsync_is_stopped_in_the_queue_or_done() {
    for mode in MODES {
        let scratch = Scratch::new();
        let file = File::create(scratch.path()).unwrap();
        let mut ring = Ring::new(mode);
        for pause in [0, 1] {
            fs::write(scratch.path(), vec![7; 1 << 20]).unwrap();
            let sync = ring.fsync(&file);
            ring.submit();
            thread::sleep(Duration::from_millis(pause));
            let seen = ring.pair("fsync", sync);
            let allowed = [(0, CANCELLED), (-libc::EALREADY, 0), (NOT_FOUND, 0)];
            // An interruption may slip out where it was about to begin.
            assert!(allowed.contains(&seen) || seen == (-libc::EALREADY, CANCELLED), "{seen:?}");
        }
    }
}

#[test]
fn a_read_of_a_cached_file_has_ended_before_its_cancel() {
    for mode in MODES {
        let scratch = Scratch::new();
        fs::write(scratch.path(), "content").unwrap();
        let file = File::open(scratch.path()).unwrap();
        let mut ring = Ring::new(mode);
        let read = ring.read(&file, 7);
        assert_eq!(ring.pair("read of a cached file", read), (NOT_FOUND, 7));
        assert_eq!(ring.bytes(read, 7), b"content");
    }
}

/// An offset beyond what a file can have is refused; -1 is no offset but the file's position.
#[test]
fn a_descriptor_that_appends_minds_no_offset() {
    for mode in MODES {
        let scratch = Scratch::new();
        fs::write(scratch.path(), "one").unwrap();
        let file = OpenOptions::new().append(true).open(scratch.path()).unwrap();
        let mut ring = Ring::new(mode);
        let write = ring.write_at(&file, b"two", 0);
        assert_eq!(ring.result(write), 3);
        assert_eq!(fs::read(scratch.path()).unwrap(), b"onetwo");
        let refused = ring.write_at(&file, b"x", u64::MAX - 1);
        assert_eq!(ring.result(refused), -libc::EINVAL);
    }
}
