//! Disks that are full, read-only or broken. Only root can make them; to others these tests say that they
//! did not take place.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use trine::fs::{self, File};

use super::{assert_kind, run};

/// A file system in memory, until this is dropped.
struct Mounted<'a>(&'a Path);

impl Mounted<'_> {
    fn at<'a>(path: &'a Path, size: &str) -> Option<Mounted<'a>> {
        let options = ["-t", "tmpfs", "-o", size, "none"];
        said(Command::new("mount").args(options).arg(path)).map(|_| Mounted(path))
    }

    fn make_read_only(&self) {
        said(Command::new("mount").args(["-o", "remount,ro"]).arg(self.0)).expect("it is ours");
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Lazily, so that nothing that is still open keeps it after the test.
        said(Command::new("umount").arg("-l").arg(self.0));
    }
}

/// A block device whose content is a file, until this is dropped.
struct Device(PathBuf);

impl Device {
    fn of(file: &Path) -> Option<Device> {
        let path = said(Command::new("losetup").args(["--find", "--show"]).arg(file))?;
        Some(Device(path.trim_end().into()))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        said(Command::new("losetup").arg("--detach").arg(&self.0));
    }
}

/// What a command printed; if it failed, that is said, and why.
fn said(command: &mut Command) -> Option<String> {
    let why = match command.output() {
        Ok(output) if output.status.success() => {
            return Some(String::from_utf8(output.stdout).expect("text"));
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("not tested: {}: {why}", command.get_program().to_string_lossy());
    None
}

/// A file system that gets full in the middle of a write.
#[test]
fn a_disk_that_gets_full_says_how_much_was_written() {
    run(async |dir| {
        let Some(_mounted) = Mounted::at(dir, "size=64k") else { return Ok(()) };
        let file = File::create(dir.join("file")).await?;
        let failed = file.write_all_at(vec![7; 100 << 10], 0).await.unwrap_err();
        assert_eq!((failed.done, file.metadata().await?.len()), (64 << 10, 64 << 10));
        assert_kind::<()>(Err(failed), ErrorKind::StorageFull);
        assert_kind(file.allocate(0..1 << 20).await, ErrorKind::StorageFull);
        file.close().await
    });
}

#[test]
fn a_read_only_file_system_takes_no_change() {
    run(async |dir| {
        let Some(mounted) = Mounted::at(dir, "size=64k") else { return Ok(()) };
        let (path, other) = (dir.join("file"), dir.join("other"));
        fs::write(&path, "kept").await?;
        mounted.make_read_only();
        let kind = ErrorKind::ReadOnlyFilesystem;
        assert_kind(fs::write(&path, "x").await, kind);
        assert_kind(fs::write_atomic(&path, "x").await, kind);
        assert_kind(File::options().append(true).open(&path).await, kind);
        assert_kind(fs::create_dir(&other).await, kind);
        assert_kind(fs::symlink(&path, &other).await, kind);
        assert_kind(fs::hard_link(&path, &other).await, kind);
        assert_kind(fs::rename(&path, &other).await, kind);
        assert_kind(fs::remove_file(&path).await, kind);
        assert_eq!(fs::read(&path).await?, b"kept");
        assert_eq!(std::fs::read_dir(dir)?.count(), 1);
        Ok(())
    });
}

const MEBIBYTE: u64 = 1 << 20;

/// A device that has lost its second half.
#[test]
fn what_a_broken_disk_cannot_read_is_an_error_beside_what_it_could() {
    run(async |dir| {
        const HALF: usize = (MEBIBYTE / 2) as usize;
        let path = dir.join("content");
        fs::write(&path, vec![7; MEBIBYTE as usize]).await?;
        let Some(device) = Device::of(&path) else { return Ok(()) };
        std::fs::File::options().write(true).open(&path)?.set_len(HALF as u64)?;

        let disk = File::open(&device.0).await?;
        let failed = disk.read_exact_at(Vec::with_capacity(2 * HALF), 0).await.unwrap_err();
        assert_eq!(failed.done, HALF);
        assert!(failed.buf == [7; HALF]);
        assert_broken(Err(failed.error));
        // It is not over for good.
        let again = disk.read_exact_at(vec![0; 100], HALF as u64 - 100).await?;
        assert_eq!(again, [7; 100]);
        disk.close().await?;

        let disk = File::options().read(true).direct(true).open(&device.0).await?;
        let buf = disk.read_exact_at(disk.direct_buf(HALF).await?, 0).await?;
        assert!(buf[..] == [7; HALF]);
        let failed = disk.read_at(buf, HALF as u64).await.unwrap_err();
        assert_eq!(failed.buf.len(), HALF, "the buffer, with whatever the device has left in it");
        assert_broken(Err(failed.error));
        disk.close().await
    });
}

/// What was written is in memory, and the device has no room for it: the sync says so, once.
#[test]
fn what_a_broken_disk_cannot_keep_is_the_error_of_the_sync() {
    run(async |dir| {
        let Some(_mounted) = Mounted::at(dir, "size=256k") else { return Ok(()) };
        let path = dir.join("content");
        std::fs::File::create(&path)?.set_len(MEBIBYTE)?;
        let Some(device) = Device::of(&path) else { return Ok(()) };
        let disk = File::options().write(true).open(&device.0).await?;
        disk.write_all_at(vec![7; MEBIBYTE as usize], 0).await?;
        assert_broken(disk.sync_all().await);
        disk.sync_all().await?;
        disk.close().await
    });
}

#[track_caller]
fn assert_broken(outcome: trine::Result) {
    let error = std::io::Error::from(outcome.unwrap_err());
    assert!(matches!(error.raw_os_error(), Some(libc::EIO | libc::ENOSPC)), "{error}");
}
