//! Directories that paths cannot lead out of.

use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures::poll;
use trine::fs::{self, Dir, OpenOptions};
use trine::{CancelScope, Error, nursery};

use super::common::{fewer, turns};
use super::{assert_kind, content, descriptors, run, run_alone, set_disk_latency};

#[trine::test(kernel = "both")]
fn a_directory_is_worked_in() {
    run_alone(async |path| {
        let dir = Dir::open(path).await?;
        dir.create_dir("a").await?;
        dir.create_dir("a/b").await?;
        let new = OpenOptions::new().write(true).create_new(true);
        let file = dir.open_file_with("a/file", &new).await?;
        file.write_all_at("content", 0).await?;
        assert_eq!(content(&dir.open_file("a/file").await?).await?, b"content");
        assert_eq!(content(&dir.open_file("a/b/../file").await?).await?, b"content");
        assert_eq!(dir.metadata("a/file").await?.len(), 7);
        assert!(dir.metadata(".").await?.is_dir());

        let below = dir.open_dir("a").await?;
        below.rename("file", &dir, "a/b/moved").await?;
        below.rename("b/moved", &below, "again").await?;
        assert_kind(dir.open_file("a/file").await, ErrorKind::NotFound);
        let mut names = Vec::new();
        let mut entries = dir.read_dir("a").await?;
        while let Some(entry) = entries.next().await? {
            names.push(entry.path());
        }
        names.sort();
        assert_eq!(names, ["a/again", "a/b"].map(std::path::PathBuf::from));
        below.remove_file("again").await?;
        below.remove_dir("b").await?;
        assert_kind(dir.remove_file("a").await, ErrorKind::IsADirectory);
        dir.remove_dir("a").await?;
        assert_kind(below.create_dir("x").await, ErrorKind::NotFound);
        dir.close().await
    });
}

/// Neither upwards, nor absolutely, nor through links; and nothing outside is touched.
#[trine::test(kernel = "both")]
fn no_path_leads_out() {
    run_alone(async |path| {
        fs::create_dir(path.join("in")).await?;
        fs::create_dir(path.join("out")).await?;
        fs::write(path.join("out/file"), "secret").await?;
        fs::symlink("../out", path.join("in/up")).await?;
        fs::symlink("../out/file", path.join("in/file")).await?;
        fs::symlink(path.join("out"), path.join("in/absolute")).await?;
        fs::symlink(".", path.join("in/here")).await?;
        let dir = Dir::open(path.join("in")).await?;
        let absolute = path.join("out/file");
        let absolute = absolute.to_str().unwrap();
        let new = OpenOptions::new().write(true).create(true);
        let ways = ["up/file", absolute, "../out/file", "here/../../out/file", "absolute/file"];
        // Each takes minutes under Miri.
        for leads_out in &ways[..fewer(5, 1)] {
            assert_kind(dir.open_file(leads_out).await, ErrorKind::PermissionDenied);
            let made = dir.open_file_with(leads_out, &new).await;
            assert_kind(made, ErrorKind::PermissionDenied);
            assert_kind(dir.metadata(leads_out).await, ErrorKind::PermissionDenied);
            assert_kind(dir.remove_file(leads_out).await, ErrorKind::PermissionDenied);
            assert_kind(dir.remove_dir(leads_out).await, ErrorKind::PermissionDenied);
            assert_kind(dir.create_dir(leads_out).await, ErrorKind::PermissionDenied);
            let taken = dir.rename(leads_out, &dir, "x").await;
            assert_kind(taken, ErrorKind::PermissionDenied);
            let given = dir.rename("here", &dir, leads_out).await;
            assert_kind(given, ErrorKind::PermissionDenied);
        }
        assert_kind(dir.open_file("file").await, ErrorKind::PermissionDenied);
        assert_kind(dir.open_dir("..").await, ErrorKind::PermissionDenied);
        assert_kind(dir.read_dir("up").await, ErrorKind::PermissionDenied);
        for nameless in ["", "..", "here/.."] {
            assert_kind(dir.remove_dir(nameless).await, ErrorKind::InvalidInput);
        }
        assert!(dir.symlink_metadata("file").await?.is_symlink());
        assert!(dir.metadata("here/here").await?.is_dir(), "what stays within is followed");
        dir.remove_file("file").await?;
        assert_eq!(fs::read(path.join("out/file")).await?, b"secret");
        Ok(())
    });
}

/// The directory may be taken elsewhere; what is open stays open.
/// M2: also of the directory into which a dropped future moves something.
#[trine::test(kernel = "both")]
fn a_close_waits_for_what_is_being_moved() {
    run_alone(async |path| {
        for (close_target, at) in [(false, "0"), (true, "1")] {
            fs::create_dir(path.join(at)).await?;
            fs::write(path.join("file"), "").await?;
            let before = descriptors();
            let (from, to) = (Dir::open(path).await?, Dir::open(path.join(at)).await?);
            set_disk_latency(Duration::from_millis(10));
            {
                let mut moving = pin!(from.rename("file", &to, "moved"));
                assert!(poll!(moving.as_mut()).is_pending());
                turns(1).await;
            }
            let (first, second) = if close_target { (to, from) } else { (from, to) };
            first.close().await?;
            assert_eq!(descriptors(), before + 1);
            second.close().await?;
            assert_eq!(descriptors(), before);
        }
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_directory_is_the_same_wherever_it_is_moved() {
    run(async |path| {
        fs::create_dir(path.join("old")).await?;
        let dir = Dir::open(path.join("old")).await?;
        fs::rename(path.join("old"), path.join("new")).await?;
        dir.create_dir("inside").await?;
        assert!(fs::metadata(path.join("new/inside")).await?.is_dir());
        assert_kind(Dir::open(path.join("old")).await, ErrorKind::NotFound);
        fs::write(path.join("file"), "").await?;
        assert_kind(Dir::open(path.join("file")).await, ErrorKind::NotADirectory);
        Ok(())
    });
}

/// Somebody swaps a directory for a link that leads out, all the time: never is anything outside reached.
#[trine::test(kernel = "both", seed = 1)]
fn no_race_leads_out() {
    run(async |path| {
        fs::create_dir_all(path.join("in/real")).await?;
        fs::create_dir(path.join("out")).await?;
        fs::write(path.join("out/file"), "secret").await?;
        fs::symlink("../out", path.join("in/link")).await?;
        let dir = Dir::open(path.join("in")).await?;
        nursery(async |n| {
            n.spawn_daemon(async {
                loop {
                    dir.rename("real", &dir, "aside").await?;
                    dir.rename("link", &dir, "real").await?;
                    dir.rename("real", &dir, "link").await?;
                    dir.rename("aside", &dir, "real").await?;
                }
            });
            for _ in 0..fewer(300, 10) {
                let opened = dir.open_file("real/../real/file").await;
                let kind = opened.expect_err("nothing of this name is within").io_kind();
                let allowed = [ErrorKind::NotFound, ErrorKind::PermissionDenied];
                assert!(kind.is_some_and(|kind| allowed.contains(&kind)), "{kind:?}");
            }
            Ok(())
        })
        .await
    });
}

/// A8, D7, M2, P6.
#[trine::test(kernel = "both")]
fn a_directory_is_cancelled_dropped_and_closed_as_a_file_is() {
    let kept = run(async |path| {
        let dir = Dir::open(path).await?;
        let scope = CancelScope::new();
        scope.cancel();
        scope
            .run(async |_| {
                assert!(Dir::open(path).await.is_err_and(|error| error.is_cancelled()));
                assert!(dir.create_dir("x").await.is_err_and(|error| error.is_cancelled()));
                assert!(dir.metadata(".").await.is_err_and(|error| error.is_cancelled()));
                dir.read_dir(".").await.map(drop)
            })
            .await?;
        assert_kind(dir.metadata("x").await, ErrorKind::NotFound);
        nursery(async |n| {
            n.spawn(async {
                let mut opening = pin!(dir.open_dir("."));
                assert!(poll!(opening.as_mut()).is_pending());
                Ok(())
            });
            Ok(())
        })
        .await?;
        let closing = Dir::open(path).await?;
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.run(async |_| closing.close().await).await?.is_none());
        Ok(dir)
    });
    run(async |_| {
        assert!(matches!(kept.metadata(".").await, Err(Error::RunFinished)));
        assert!(matches!(kept.create_dir("x").await, Err(Error::RunFinished)));
        assert!(matches!(kept.close().await, Err(Error::RunFinished)));
        Ok(())
    });
}

/// Where somebody renames all the time the kernel cannot be sure that `..` stays within, and says "again".
#[test]
fn renames_elsewhere_disturb_nobody() {
    run(async |path| {
        fs::create_dir_all(path.join("in/a/b")).await?;
        fs::write(path.join("in/file"), "content").await?;
        std::fs::write(path.join("one"), "")?;
        let dir = Dir::open(path.join("in")).await?;
        let is_over = Arc::new(AtomicBool::new(false));
        let renaming = thread::spawn({
            let (is_over, one, two) = (Arc::clone(&is_over), path.join("one"), path.join("two"));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    std::fs::rename(&one, &two).unwrap();
                    std::fs::rename(&two, &one).unwrap();
                }
            }
        });
        let mut outcome = Ok(());
        for _ in 0..2000 {
            let opened = dir.open_file("a/b/../../a/b/../../a/../file").await;
            outcome = outcome.and(opened.map(drop));
        }
        is_over.store(true, Ordering::Relaxed);
        renaming.join().expect("it renames");
        outcome
    });
}
