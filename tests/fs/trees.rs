//! Trees of files on a real disk, compared with what other programs see.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use trine::fs::{self, File};
use trine::{Result, nursery, try_join_all};

use super::{assert_kind, run, run_alone};

/// Copies a tree, each directory's files at a time.
async fn copy_tree(from: &Path, to: &Path) -> Result {
    fs::create_dir(to).await?;
    let mut entries = fs::read_dir(from).await?;
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    while let Some(entry) = entries.next().await? {
        let kind = entry.file_type().await?;
        let new = to.join(entry.file_name());
        if kind.is_dir() {
            directories.push((entry.path(), new));
        } else if kind.is_symlink() {
            fs::symlink(fs::read_link(entry.path()).await?, new).await?;
        } else {
            files.push((entry.path(), new));
        }
    }
    // So many files are open at a time.
    for files in files.chunks(64) {
        try_join_all(files.iter().map(async |(from, to)| fs::copy(from, to).await)).await?;
    }
    for (from, to) in directories {
        Box::pin(copy_tree(&from, &to)).await?;
    }
    Ok(())
}

/// Makes so many files in a tree, of many lengths.
async fn make_tree(path: &Path, count: usize) -> Result {
    fs::create_dir(path).await?;
    for group in (0..count).collect::<Vec<_>>().chunks(100) {
        let directory = path.join(format!("{}/{}", group[0] / 1000, group[0] / 100));
        fs::create_dir_all(&directory).await?;
        let write = async |n: &usize| -> Result {
            let content = format!("content of {n}\n").repeat(n % 97);
            fs::write(directory.join(format!("file-{n}")), content).await
        };
        for some in group.chunks(32) {
            try_join_all(some.iter().map(write)).await?;
        }
        fs::symlink("file-0", directory.join("link")).await?;
    }
    Ok(())
}

fn assert_same(one: &Path, other: &Path) {
    let compare = |options: &[&str]| Command::new("diff").args(options).args([one, other]).output();
    let mut diff = compare(&["-r", "--no-dereference"]).unwrap();
    if String::from_utf8_lossy(&diff.stderr).contains("unrecognized option") {
        // That of busybox follows links.
        diff = compare(&["-r"]).unwrap();
    }
    let (said, failed) = (String::from_utf8_lossy(&diff.stdout), diff.stderr);
    assert!(diff.status.success(), "{said}{}", String::from_utf8_lossy(&failed));
}

fn copy_compare_and_remove(count: usize) {
    run_alone(async |dir| {
        let (from, to) = (dir.join("from"), dir.join("to"));
        let mut began = Instant::now();
        let mut lap = |what| {
            let took = std::mem::replace(&mut began, Instant::now()).elapsed();
            println!("{count} files: {what} in {took:?}");
        };
        make_tree(&from, count).await?;
        lap("made");
        copy_tree(&from, &to).await?;
        lap("copied");
        assert_same(&from, &to);
        lap("compared with diff");
        fs::remove_dir_all(&to).await?;
        lap("removed");
        assert!(!to.exists());
        Ok(())
    });
}

#[test]
fn a_tree_that_was_copied_is_the_same() {
    copy_compare_and_remove(700);
}

/// By hand: `cargo test --release --test fs -- --ignored --nocapture twenty_thousand`.
#[test]
#[ignore = "takes its time"]
fn twenty_thousand_files_are_copied_and_the_same() {
    copy_compare_and_remove(20_000);
}

/// By hand: `cargo test --release --test fs -- --ignored --nocapture gibibyte`.
#[test]
#[ignore = "takes its time"]
fn a_gibibyte_is_copied_and_has_the_same_hash() {
    run(async |dir| {
        let (from, to) = (dir.join("from"), dir.join("to"));
        let file = File::create(&from).await?;
        let mut piece = vec![0_u8; 1 << 20];
        for at in 0..1024_u64 {
            piece.iter_mut().step_by(61).for_each(|byte| *byte = byte.wrapping_add(at as u8 | 1));
            piece = file.write_all_at(piece, at << 20).await?;
        }
        file.close().await?;
        let began = Instant::now();
        assert_eq!(fs::copy(&from, &to).await?, 1 << 30);
        println!("1 GiB copied in {:?}", began.elapsed());
        let sums = Command::new("sha256sum").args([&from, &to]).output()?;
        let sums = String::from_utf8_lossy(&sums.stdout).into_owned();
        let sums: Vec<_> = sums.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(sums.len() == 2 && sums[0] == sums[1], "{sums:?}");
        Ok(())
    });
}

/// Whoever removes a tree while somebody else does finds less of it, and no error.
#[test]
fn two_may_remove_a_tree_at_a_time() {
    run_alone(async |dir| {
        let tree = dir.join("tree");
        make_tree(&tree, 300).await?;
        nursery(async |n| {
            for _ in 0..2 {
                n.spawn(async {
                    match fs::remove_dir_all(&tree).await {
                        // The other one was done.
                        Err(error) if error.io_kind() == Some(ErrorKind::NotFound) => Ok(()),
                        outcome => outcome,
                    }
                });
            }
            Ok(())
        })
        .await?;
        assert!(!tree.exists());
        Ok(())
    });
}

/// A directory that is removed while it is used is an error, and nothing else.
#[test]
fn a_directory_that_has_vanished_is_an_error() {
    run_alone(async |dir| {
        let gone = dir.join("gone");
        fs::create_dir(&gone).await?;
        let mut entries = fs::read_dir(&gone).await?;
        let file = File::create(gone.join("file")).await?;
        fs::remove_dir_all(&gone).await?;
        file.write_all_at("still mine", 0).await?;
        assert_eq!(file.metadata().await?.nlink(), 0);
        assert!(entries.next().await?.is_none());
        assert_kind(fs::write(gone.join("file"), "x").await, ErrorKind::NotFound);
        assert_kind(fs::write_atomic(gone.join("file"), "x").await, ErrorKind::NotFound);
        assert_kind(fs::read_dir(&gone).await, ErrorKind::NotFound);
        Ok(())
    });
}

/// What may not be written is an error (but root may write everything).
#[test]
fn what_is_read_only_is_an_error() {
    run_alone(async |dir| {
        let sysfs = Path::new("/sys/kernel/notes");
        if sysfs.exists() {
            assert!(fs::write(sysfs, "x").await.is_err());
            assert!(fs::remove_file(sysfs).await.is_err());
        }
        let path = dir.join("file");
        fs::write(&path, "kept").await?;
        fs::set_permissions(&path, Permissions::from_mode(0o400)).await?;
        let is_root = std::fs::File::options().write(true).open(&path).is_ok();
        if !is_root {
            assert_kind(fs::write(&path, "x").await, ErrorKind::PermissionDenied);
        }
        assert_eq!(std::fs::read(&path)?, b"kept");
        Ok(())
    });
}
