//! What only a real machine has: FIFOs, devices, direct I/O.

use std::ffi::CString;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::time::Duration;

use futures::poll;
use trine::fs::{File, OpenOptions};
use trine::{Builder, Result, fail_after, move_on_after, nursery, thread, try_join_all};

use super::common::turns;
use super::{assert_kind, content, descriptors, run, run_alone, run_with};

const MOMENT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(20);

fn make_fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: a path with a zero byte at its end.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

/// Whoever opens a FIFO waits for its other end, the run goes on meanwhile, and a cancel ends the wait.
#[test]
fn opening_a_fifo_waits_for_its_other_end_and_is_cancelled() {
    run_alone(async |dir| {
        let path = dir.join("fifo");
        make_fifo(&path);
        let before = descriptors();
        let reader = move_on_after(MOMENT, async |_| File::open(&path).await).await?;
        assert!(reader.is_none(), "nobody writes");
        let writing = OpenOptions::new().write(true);
        let writer = move_on_after(MOMENT, async |_| writing.open(&path).await).await?;
        assert!(writer.is_none(), "nobody reads");
        {
            let mut dropped = pin!(File::open(&path));
            assert!(poll!(dropped.as_mut()).is_pending());
        }
        trine::time::sleep(MOMENT).await?;
        assert_eq!(descriptors(), before);

        nursery(async |n| {
            n.spawn(async {
                let writer = writing.open(&path).await?;
                writer.write_all_at("through", 0).await?;
                writer.close().await
            });
            let reader = File::open(&path).await?;
            let bytes = reader.read_exact_at(Vec::with_capacity(7), 0).await?;
            assert_eq!(bytes, b"through");
            Ok(())
        })
        .await
    });
}

/// However often and whenever: no cancel of an open is lost between the kernel's threads.
#[test]
fn a_cancel_finds_the_opening_of_a_fifo_whenever_it_comes() {
    run_alone(async |dir| {
        let path = dir.join("fifo");
        make_fifo(&path);
        for round in 0..300_u64 {
            let pause = Duration::from_micros(round % 60);
            let opened = move_on_after(pause, async |_| File::open(&path).await);
            assert!(opened.await?.is_none());
        }
        Ok(())
    });
}

/// P4: the cancel of an opening is remembered, in case the kernel does not heed it. That is no reason to wait for
/// ever afterwards.
#[test]
fn a_cancelled_opening_hides_no_deadlock() {
    run_alone(async |dir| {
        let path = dir.join("fifo");
        make_fifo(&path);
        for _ in 0..10 {
            let deadlock = std::thread::scope(|threads| {
                let stuck = threads.spawn(|| {
                    Builder::new().detect_deadlock(true).run(async || {
                        move_on_after(MOMENT, async |_| File::open(&path).await).await?;
                        trine::sync::Event::new().wait().await
                    })
                });
                stuck.join().expect("it does not panic")
            });
            assert!(matches!(deadlock, Err(trine::Error::Deadlock(_))), "{deadlock:?}");
        }
        Ok(())
    });
}

/// Each FIFO that is waited for keeps a thread of the kernel, of which there are enough for other work.
#[test]
fn files_are_opened_while_many_fifos_are_waited_for() {
    run_alone(async |dir| {
        let (fifo, file) = (dir.join("fifo"), dir.join("file"));
        make_fifo(&fifo);
        nursery(async |n| {
            for _ in 0..50 {
                n.spawn(async { File::open(&fifo).await.map(drop) });
            }
            turns(1).await;
            let file = fail_after(LONG, async |_| File::create(&file).await).await?;
            file.close().await?;
            n.cancel();
            Ok(())
        })
        .await
    });
}

#[test]
fn when_all_threads_of_the_kernel_are_busy_other_work_on_files_waits() {
    run_with(Builder::new().kernel_threads(2), async |dir| {
        let (fifo, file) = (dir.join("fifo"), dir.join("file"));
        make_fifo(&fifo);
        fs::write(&file, "content")?;
        nursery(async |n| {
            for _ in 0..2 {
                n.spawn(async { File::open(&fifo).await?.close().await });
            }
            turns(1).await;
            let opened = move_on_after(MOMENT, async |_| File::open(&file).await).await?;
            assert!(opened.is_none(), "there was a third thread");
            // Both readers are there, so this does not wait.
            let writer = fs::OpenOptions::new().write(true).open(&fifo)?;
            fail_after(LONG, async |_| File::open(&file).await).await?.close().await?;
            drop(writer);
            Ok(())
        })
        .await
    });
}

/// What says that it does not want to wait does not.
#[test]
fn a_fifo_is_opened_without_waiting_if_the_flags_say_so() {
    run(async |dir| {
        let path = dir.join("fifo");
        make_fifo(&path);
        let at_once = OpenOptions::new().custom_flags(libc::O_NONBLOCK);
        let refused = at_once.clone().write(true).open(&path).await.expect_err("nobody reads");
        let errno = std::io::Error::from(refused).raw_os_error();
        assert_eq!(errno, Some(libc::ENXIO));
        at_once.read(true).open(&path).await?.close().await
    });
}

#[test]
fn a_full_device_is_an_error_and_the_buffer_comes_back() {
    run(async |_| {
        let full = OpenOptions::new().write(true).open("/dev/full").await?;
        let failed = full.write_all_at("x", 0).await.unwrap_err();
        assert_eq!((failed.done, failed.buf), (0, "x"));
        let failed = full.write_at(vec![0; 10_000], 0).await.unwrap_err();
        assert_eq!(failed.buf.len(), 10_000);
        assert_kind::<()>(Err(failed), ErrorKind::StorageFull);
        Ok(())
    });
}

/// Past the page cache, with memory, offsets and lengths that the device takes.
#[test]
fn a_file_is_read_and_written_directly() {
    run_alone(async |dir| {
        let options = OpenOptions::new().read(true).write(true).create(true).direct(true);
        let file = match options.open(dir.join("file")).await {
            Err(error) if error.io_kind() == Some(ErrorKind::InvalidInput) => {
                eprintln!("not tested: this file system has no direct I/O");
                return Ok(());
            }
            opened => opened?,
        };
        let mut buf = file.direct_buf(10_000).await?;
        let len = buf.len();
        assert!(len >= 10_000 && len % 512 == 0, "{len}");
        assert_eq!(buf.as_ptr() as usize % 4096, 0, "as few pages as can be");
        buf.iter_mut().enumerate().for_each(|(n, byte)| *byte = (n % 251) as u8);
        let buf = file.write_all_at(buf, len as u64).await?;
        assert_eq!(file.metadata().await?.len(), 2 * len as u64);
        let again = file.read_exact_at(file.direct_buf(len).await?, len as u64).await?;
        assert!(again[..] == buf[..]);
        let end = file.read_at(again, 2 * len as u64).await?;
        assert!(end.is_empty(), "the end of the file");
        let before = file.read_exact_at(end, 0).await?;
        assert!(before.len() == len && before.iter().all(|byte| *byte == 0));
        assert_kind(file.read_at(before, 1).await, ErrorKind::InvalidInput);

        // D5: a device that is at it has the buffer, also of a dropped read.
        for _ in 0..50 {
            let mut dropped = pin!(file.read_at(file.direct_buf(len).await?, 0));
            assert!(poll!(dropped.as_mut()).is_pending());
            turns(1).await;
        }
        file.close().await
    });
}

/// What the kernel cannot do through the ring a thread does. (This kernel may know the operation: so the
/// thread is asked for here in another way, by a file that has no length to set.)
#[test]
fn the_length_of_what_has_none_cannot_be_set() {
    run(async |_| {
        let zero = OpenOptions::new().write(true).open("/dev/zero").await?;
        assert_kind(zero.set_len(1).await, ErrorKind::InvalidInput);
        Ok(())
    });
}

/// The same bytes as another program sees.
#[test]
fn a_file_has_the_hash_that_sha256sum_finds() {
    run(async |dir| {
        let path = dir.join("file");
        let bytes: Vec<u8> = (0..3_000_001_u32).map(|n| (n ^ n >> 9) as u8).collect();
        let file = File::create(&path).await?;
        const PIECE: usize = 100_003;
        let pieces = bytes.chunks(PIECE).enumerate().rev();
        let write = async |(n, piece): (usize, &[u8])| -> Result {
            file.write_all_at(piece.to_vec(), (n * PIECE) as u64).await?;
            Ok(())
        };
        try_join_all(pieces.map(write)).await?;
        file.close().await?;
        assert_eq!(fs::read(&path)?, bytes);
        let read = content(&File::open(&path).await?).await?;
        let theirs = thread::run(move || sha256sum(&fs::read(path).unwrap())).await?;
        assert_eq!(sha256sum(&read), theirs);
        Ok(())
    });
}

fn sha256sum(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let mut sum = String::new();
    child.stdout.take().unwrap().read_to_string(&mut sum).unwrap();
    assert!(child.wait().unwrap().success());
    sum
}
