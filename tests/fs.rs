//! Files: what they hold and how they are opened (this file, for both kernels), and what only a real
//! machine has (`fs/machine.rs`, `fs/disks.rs`).

#[path = "fs/cancelling.rs"]
mod cancelling;
mod common;
#[path = "fs/dirs.rs"]
mod dirs;
#[path = "fs/disks.rs"]
mod disks;
#[path = "fs/machine.rs"]
mod machine;
#[path = "fs/names.rs"]
mod names;
#[path = "fs/registered.rs"]
mod registered;
#[path = "fs/trees.rs"]
mod trees;

use std::io::ErrorKind;
use std::ops::AsyncFnOnce;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;
use std::{env, fs, process};

use trine::fs::{Advice, File, OpenOptions};
use trine::testing::World;
use trine::{Builder, Error, IoBuf, Result, try_join_all};

use common::{descriptors, fewer};

/// Descriptors are counted for the whole process: whoever counts them has to be alone.
static DESCRIPTORS: RwLock<()> = RwLock::new(());

/// Runs a test with a directory of its own.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce(&Path) -> Result<T>) -> T {
    run_with(Builder::new(), main)
}

/// The same with settings of its own.
#[track_caller]
fn run_with<T>(builder: Builder, main: impl AsyncFnOnce(&Path) -> Result<T>) -> T {
    let _others = DESCRIPTORS.read().unwrap_or_else(PoisonError::into_inner);
    watched(builder, main)
}

/// The same for a test that minds descriptors: afterwards there have to be as many as before.
#[track_caller]
fn run_alone<T>(main: impl AsyncFnOnce(&Path) -> Result<T>) -> T {
    let _alone = DESCRIPTORS.write().unwrap_or_else(PoisonError::into_inner);
    let before = descriptors();
    let value = watched(Builder::new(), main);
    common::assert_no_more(before);
    value
}

#[track_caller]
fn watched<T>(builder: Builder, main: impl AsyncFnOnce(&Path) -> Result<T>) -> T {
    let ended = common::within(60, || {
        builder.detect_deadlock(true).run(async || {
            let scratch = Scratch::new();
            main(&scratch.path).await
        })
    });
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// How long a simulated disk takes from now on.
fn set_disk_latency(latency: Duration) {
    if let Some(world) = World::try_current() {
        world.set_disk_latency(latency);
    }
}

/// A directory that is removed when the test ends. A simulated world goes as a whole.
struct Scratch {
    path: PathBuf,
    is_real: bool,
}

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if World::try_current().is_some() {
            return Scratch { path: PathBuf::from("/tmp"), is_real: false };
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("trine-test-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        Scratch { path, is_real: true }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_real {
            fs::remove_dir_all(&self.path).unwrap();
        }
    }
}

/// A file with this content, opened to be read and written.
async fn file_with(path: &Path, content: &'static str) -> Result<File> {
    let options = OpenOptions::new().read(true).write(true).create_new(true);
    let file = options.open(path).await?;
    file.write_all_at(content, 0).await?;
    Ok(file)
}

/// All that is in a file, whatever the kernel gives in one go.
async fn content(file: &File) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let part = file.read_at(Vec::with_capacity(1000), all.len() as u64).await?;
        if part.is_empty() {
            return Ok(all);
        }
        all.extend(part);
    }
}

#[track_caller]
fn assert_kind<T: std::fmt::Debug>(result: Result<T, impl Into<Error>>, kind: ErrorKind) {
    let error: Error = result.expect_err("it has to fail").into();
    assert_eq!(error.io_kind(), Some(kind), "{error}");
}

#[trine::test(kernel = "both")]
fn what_is_written_to_a_place_is_read_there_and_a_gap_is_zeros() {
    run(async |dir| {
        let file = file_with(&dir.join("file"), "hello").await?;
        file.write_all_at("world", 8).await?;
        assert_eq!(content(&file).await?, b"hello\0\0\0world");
        let part = file.read_exact_at(Vec::with_capacity(4), 7).await?;
        assert_eq!(part, b"\0wor");
        file.write_all_at("J", 0).await?;
        assert_eq!(content(&file).await?, b"Jello\0\0\0world");
        assert_eq!(file.read_at(vec![1; 9], 13).await?, b"", "the end of the file");
        assert_eq!(file.read_at(vec![1; 9], 1 << 40).await?, b"", "far behind the end");
        file.close().await
    });
}

/// A read replaces the content of the buffer, and a part of a buffer is filled alone.
#[trine::test(kernel = "both")]
fn a_part_of_a_buffer_is_read_into() {
    run(async |dir| {
        let file = file_with(&dir.join("file"), "0123456789").await?;
        let buf = file.read_exact_at(b"abcdef".to_vec().slice(2..5), 4).await?.into_inner();
        assert_eq!(buf, b"ab456f");
        Ok(())
    });
}

/// Less than was asked for would look like all of it.
#[trine::test(kernel = "both")]
fn a_part_that_a_buffer_does_not_have_is_refused() {
    const REFUSED: ErrorKind = ErrorKind::InvalidInput;
    run(async |dir| {
        let file = file_with(&dir.join("file"), "0123456789").await?;
        let part = || b"abcdef".to_vec().slice(2..1000);
        let failed = file.read_exact_at(part(), 0).await.unwrap_err();
        assert_eq!(failed.buf.into_inner(), b"abcdef");
        assert_kind(file.read_at(part(), 0).await, REFUSED);
        assert_kind(file.read_exact_vectored_at((vec![0; 2], part()), 0).await, REFUSED);
        assert_kind(file.read_vectored_at(vec![part()], 0).await, REFUSED);
        assert_kind(file.write_at(part(), 0).await, REFUSED);
        assert_kind(file.write_all_at("abc".slice(..4), 0).await, REFUSED);
        assert_kind(file.write_all_at("abc".slice(..=usize::MAX).slice(..), 0).await, REFUSED);
        assert_kind(file.write_all_vectored_at(("xy", part()), 0).await, REFUSED);
        assert_kind(file.write_vectored_at([part()], 0).await, REFUSED);
        assert_eq!(content(&file).await?, b"0123456789");
        Ok(())
    });
}

/// D2: the error says how much was read, and has it.
#[trine::test(kernel = "both")]
fn a_file_that_ends_too_early_is_an_error_with_what_there_was() {
    run(async |dir| {
        let file = file_with(&dir.join("file"), "short").await?;
        let failed = file.read_exact_at(Vec::with_capacity(9), 1).await.unwrap_err();
        assert_eq!((failed.done, &failed.buf[..]), (4, &b"hort"[..]));
        assert_kind::<()>(Err(failed), ErrorKind::UnexpectedEof);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn what_cannot_be_meant_is_refused_with_a_reason() {
    run(async |dir| {
        let file = file_with(&dir.join("file"), "x").await?;
        assert_kind(file.read_at(Vec::new(), 0).await, ErrorKind::InvalidInput);
        assert_kind(file.read_at(vec![0], u64::MAX).await, ErrorKind::InvalidInput);
        assert_kind(file.write_at("y", i64::MAX as u64).await, ErrorKind::InvalidInput);
        assert_kind(file.append("y").await, ErrorKind::InvalidInput);
        assert_eq!(file.write_at("", 7).await?.0, 0, "nothing is written, nowhere");
        assert_eq!(content(&file).await?, b"x");

        let options = OpenOptions::new;
        let refused = [
            options(),
            options().read(true).create(true),
            options().read(true).truncate(true),
            options().append(true).truncate(true),
            options().append(true).write(true).truncate(true),
        ];
        for options in refused {
            assert_kind(options.open(dir.join("new")).await, ErrorKind::InvalidInput);
        }
        assert_kind(File::open(dir.join("zero\0byte")).await, ErrorKind::InvalidInput);
        for long in [dir.join("x".repeat(256)), "x/".repeat(3000).into()] {
            let error = std::io::Error::from(File::open(long).await.unwrap_err());
            assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
        }
        assert_kind(File::open("").await, ErrorKind::NotFound);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_file_is_opened_as_the_options_say() {
    run(async |dir| {
        let path = dir.join("file");
        let options = OpenOptions::new;
        assert_kind(File::open(&path).await, ErrorKind::NotFound);
        assert_kind(options().write(true).open(&path).await, ErrorKind::NotFound);
        file_with(&path, "content").await?;
        let again = options().write(true).create_new(true).open(&path).await;
        assert_kind(again, ErrorKind::AlreadyExists);

        let kept = options().write(true).create(true).open(&path).await?;
        assert_eq!(kept.metadata().await?.len(), 7);
        assert!(kept.read_at(vec![0], 0).await.is_err(), "it was not opened to be read");
        let read_only = File::open(&path).await?;
        assert!(read_only.write_at("x", 0).await.is_err(), "it was not opened to be written");
        File::create(&path).await?;
        assert_eq!(read_only.metadata().await?.len(), 0, "made empty, while it is open");
        assert_kind(File::create(dir).await, ErrorKind::IsADirectory);
        assert_kind(File::open(path.join("below")).await, ErrorKind::NotADirectory);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn what_is_appended_comes_behind_all_that_is_there_by_then() {
    run(async |dir| {
        let path = dir.join("file");
        let appending = OpenOptions::new().append(true).create(true);
        let (one, two) = (appending.open(&path).await?, appending.open(&path).await?);
        one.append("one ").await?;
        two.append("two ").await?;
        one.append("three").await?;
        assert_kind(one.write_at("x", 0).await, ErrorKind::InvalidInput);
        assert_eq!(content(&File::open(&path).await?).await?, b"one two three");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn the_length_is_set_and_place_is_made_and_given_back() {
    run(async |dir| {
        let file = file_with(&dir.join("file"), "0123456789").await?;
        file.set_len(4).await?;
        assert_eq!(content(&file).await?, b"0123");
        file.set_len(6).await?;
        assert_eq!(content(&file).await?, b"0123\0\0");
        file.allocate(2..8).await?;
        assert_eq!(content(&file).await?, b"0123\0\0\0\0");
        file.allocate(0..3).await?;
        assert_eq!(file.metadata().await?.len(), 8, "it does not get shorter");
        file.punch_hole(1..3).await?;
        assert_eq!(content(&file).await?, b"0\0\x003\0\0\0\0");
        assert_kind(file.allocate(3..3).await, ErrorKind::InvalidInput);
        assert_kind(file.set_len(u64::MAX).await, ErrorKind::InvalidInput);
        let read_only = File::open(dir.join("file")).await?;
        assert_kind(read_only.set_len(1).await, ErrorKind::InvalidInput);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_file_is_synced_and_advice_is_taken() {
    run(async |dir| {
        let file = file_with(&dir.join("file"), "content").await?;
        file.sync_all().await?;
        file.sync_data().await?;
        file.sync_range(0..7).await?;
        file.sync_range(3..3).await?;
        file.sync_range(0..u64::MAX).await?;
        for advice in [
            Advice::Sequential,
            Advice::Random,
            Advice::WillNeed,
            Advice::DontNeed,
            Advice::NoReuse,
            Advice::Normal,
        ] {
            file.advise(0..7, advice).await?;
        }
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn the_metadata_tell_what_a_file_is() {
    run(async |dir| {
        let path = dir.join("file");
        let private = OpenOptions::new().write(true).create_new(true).mode(0o600);
        let file = private.open(&path).await?;
        file.write_all_at("seven b", 0).await?;
        let metadata = file.metadata().await?;
        assert!(metadata.is_file() && !metadata.is_dir() && !metadata.is_symlink());
        assert_eq!((metadata.len(), metadata.mode() & 0o777, metadata.nlink()), (7, 0o600, 1));
        assert_eq!(format!("{:?}", metadata.file_type()), "regular file");
        assert!(metadata.modified() >= metadata.created().unwrap_or(metadata.modified()));
        let same = File::open(&path).await?.metadata().await?;
        assert_eq!((same.ino(), same.dev()), (metadata.ino(), metadata.dev()));
        let directory = File::open(dir).await?.metadata().await?;
        assert!(directory.is_dir() && directory.ino() != metadata.ino());
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn many_reads_and_writes_are_under_way_at_a_time() {
    run(async |dir| {
        let file = file_with(&dir.join("file"), "").await?;
        const COUNT: u64 = fewer(64, 6);
        let place = |n: u64| (n * 37 % COUNT) * 10;
        let write = async |n| -> Result {
            file.write_all_at(format!("number {n:03}"), place(n)).await?;
            Ok(())
        };
        try_join_all((0..COUNT).map(write)).await?;
        let read = async |n| Ok(file.read_exact_at(Vec::with_capacity(10), place(n)).await?);
        let read = try_join_all((0..COUNT).map(read)).await?;
        for (n, bytes) in read.into_iter().enumerate() {
            assert_eq!(bytes, format!("number {n:03}").into_bytes());
        }
        Ok(())
    });
}

/// D2: what fitted is there, and the error says how much that was.
#[trine::test]
fn a_full_disk_is_an_error_that_says_how_much_was_written() {
    run(async |dir| {
        let file = file_with(&dir.join("file"), "").await?;
        World::current().set_disk_room(10);
        let failed = file.write_all_at("0123456789abcdef", 0).await.unwrap_err();
        assert_eq!(failed.done, 10);
        assert_kind::<()>(Err(failed), ErrorKind::StorageFull);
        assert_eq!(content(&file).await?, b"0123456789");
        assert_kind(file.allocate(0..11).await, ErrorKind::StorageFull);
        file.set_len(5).await?;
        file.write_all_at("56789", 5).await?;
        Ok(())
    });
}

#[trine::test]
fn a_broken_disk_is_an_error_of_whoever_uses_it() {
    run(async |dir| {
        let file = file_with(&dir.join("file"), "content").await?;
        World::current().break_disk(Some(libc::EIO));
        for failed in [
            file.read_at(vec![0; 7], 0).await.map(drop).map_err(Error::from),
            file.write_all_at("x", 0).await.map(drop).map_err(Error::from),
            file.sync_all().await,
        ] {
            let error = std::io::Error::from(failed.expect_err("the disk is broken"));
            assert_eq!(error.raw_os_error(), Some(libc::EIO));
        }
        World::current().break_disk(None);
        assert_eq!(content(&file).await?, b"content");
        Ok(())
    });
}

/// P6.
#[trine::test(kernel = "both")]
fn a_file_of_a_run_that_has_ended_is_of_no_use_and_closes() {
    let kept = run(async |dir| file_with(&dir.join("file"), "content").await);
    run(async |_| {
        let failed = kept.read_at(vec![0], 0).await.unwrap_err();
        assert!(matches!(failed.error, Error::RunFinished), "{failed}");
        assert!(matches!(kept.metadata().await, Err(Error::RunFinished)));
        assert!(matches!(kept.sync_all().await, Err(Error::RunFinished)));
        assert!(matches!(kept.close().await, Err(Error::RunFinished)));
        Ok(())
    });
}

#[trine::test]
fn a_slow_disk_takes_its_time() {
    run(async |dir| {
        World::current().set_disk_latency(Duration::from_millis(10));
        let before = World::current().elapsed();
        let file = file_with(&dir.join("file"), "content").await?;
        file.sync_all().await?;
        assert!(World::current().elapsed() - before >= Duration::from_millis(30));
        Ok(())
    });
}
