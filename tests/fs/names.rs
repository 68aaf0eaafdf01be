//! Names and directories.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures::poll;
use trine::fs::{self, File, TempDir, TempFile};
use trine::testing::World;
use trine::{CancelScope, Result, move_on_after, nursery};

use super::common::{fewer, turns};
use super::{assert_kind, content, run, run_alone, set_disk_latency};

async fn read(path: impl AsRef<Path>) -> Result<String> {
    fs::read_to_string(path).await
}

/// The names in a directory, with what they are.
async fn list(path: impl AsRef<Path>) -> Result<BTreeMap<String, String>> {
    let mut entries = fs::read_dir(path).await?;
    let mut names = BTreeMap::new();
    while let Some(entry) = entries.next().await? {
        let kind = format!("{:?}", entry.file_type().await?);
        names.insert(entry.file_name().to_str().unwrap().to_owned(), kind);
    }
    assert!(entries.next().await?.is_none(), "the end is the end");
    Ok(names)
}

#[trine::test(kernel = "both")]
fn a_file_gets_another_name_and_replaces_what_had_that() {
    run(async |dir| {
        let (old, new) = (dir.join("old"), dir.join("new"));
        fs::write(&old, "old").await?;
        fs::rename(&old, &new).await?;
        assert_kind(File::open(&old).await, ErrorKind::NotFound);
        fs::write(&old, "newer").await?;
        let open = File::open(&new).await?;
        fs::rename(&old, &new).await?;
        assert_eq!(read(&new).await?, "newer");
        assert_eq!(content(&open).await?, b"old", "whoever has it open has what it was");
        assert_eq!(open.metadata().await?.nlink(), 0);
        assert_kind(fs::rename(&old, &new).await, ErrorKind::NotFound);

        fs::create_dir(dir.join("a")).await?;
        fs::create_dir(dir.join("b")).await?;
        fs::rename(&new, dir.join("a/inside")).await?;
        assert_kind(fs::rename(dir.join("a"), dir.join("a/b")).await, ErrorKind::InvalidInput);
        assert_kind(fs::rename(dir.join("a/inside"), dir.join("b")).await, ErrorKind::IsADirectory);
        let onto_full = fs::rename(dir.join("b"), dir.join("a")).await;
        assert_kind(onto_full, ErrorKind::DirectoryNotEmpty);
        fs::rename(dir.join("a"), dir.join("b")).await?;
        assert_eq!(read(dir.join("b/inside")).await?, "newer");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_file_has_several_names_and_goes_with_the_last() {
    run(async |dir| {
        let (one, two) = (dir.join("one"), dir.join("two"));
        fs::write(&one, "content").await?;
        fs::hard_link(&one, &two).await?;
        let (first, second) = (fs::metadata(&one).await?, fs::metadata(&two).await?);
        assert_eq!((first.ino(), first.nlink()), (second.ino(), 2));
        assert_kind(fs::hard_link(&one, &two).await, ErrorKind::AlreadyExists);
        fs::rename(&one, &two).await?;
        assert!(fs::try_exists(&one).await?, "two names of one file: nothing happens");
        fs::remove_file(&one).await?;
        assert_eq!(read(&two).await?, "content");
        fs::remove_file(&two).await?;
        assert_kind(fs::remove_file(&two).await, ErrorKind::NotFound);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn symbolic_links_are_followed_or_looked_at() {
    run(async |dir| {
        let (link, file) = (dir.join("link"), dir.join("file"));
        fs::symlink("file", &link).await?;
        assert!(!fs::try_exists(&link).await?, "it leads nowhere");
        assert!(fs::symlink_metadata(&link).await?.is_symlink());
        fs::write(&link, "through the link").await?;
        assert_eq!(read(&file).await?, "through the link");
        assert!(fs::metadata(&link).await?.is_file());
        assert_eq!(fs::read_link(&link).await?, Path::new("file"));
        assert_kind(fs::read_link(&file).await, ErrorKind::InvalidInput);
        let there = fs::canonicalize(dir.join("./link")).await?;
        assert_eq!(there, fs::canonicalize(&file).await?);
        assert!(there.is_absolute() && there.ends_with("file"));
        assert_kind(fs::symlink("x", &link).await, ErrorKind::AlreadyExists);
        fs::symlink("loop", dir.join("loop")).await?;
        let looped = std::io::Error::from(read(dir.join("loop")).await.unwrap_err());
        assert_eq!(looped.raw_os_error(), Some(libc::ELOOP));
        fs::remove_file(&link).await?;
        assert!(fs::try_exists(&file).await?, "the link went, not what it leads to");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn directories_are_made_listed_and_removed() {
    run(async |dir| {
        let below = dir.join("a/b/c");
        assert_kind(fs::create_dir(&below).await, ErrorKind::NotFound);
        fs::create_dir_all(&below).await?;
        fs::create_dir_all(&below).await?;
        fs::create_dir_all("").await?;
        assert_kind(fs::create_dir(dir.join("a")).await, ErrorKind::AlreadyExists);
        fs::write(dir.join("a/file"), "x").await?;
        fs::symlink("b", dir.join("a/link")).await?;
        let names = list(dir.join("a")).await?;
        let names: Vec<_> = names.iter().map(|(name, kind)| format!("{name}: {kind}")).collect();
        assert_eq!(names, ["b: directory", "file: regular file", "link: symbolic link"]);
        assert_kind(fs::read_dir(dir.join("a/file")).await, ErrorKind::NotADirectory);
        assert_kind(fs::create_dir_all(dir.join("a/file")).await, ErrorKind::AlreadyExists);
        assert_kind(fs::remove_dir(dir.join("a")).await, ErrorKind::DirectoryNotEmpty);
        assert_kind(fs::remove_dir(dir.join("a/file")).await, ErrorKind::NotADirectory);
        assert_kind(fs::remove_file(dir.join("a/b")).await, ErrorKind::IsADirectory);
        fs::remove_dir(&below).await?;
        assert!(list(dir.join("a/b")).await?.is_empty());
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_large_directory_is_listed_completely_and_removed() {
    run_alone(async |dir| {
        let (tree, count) = (dir.join("tree"), fewer(1500, 20));
        fs::create_dir_all(tree.join("deep/er")).await?;
        for n in 0..count {
            File::create(tree.join(format!("a-name-that-takes-some-place-{n:05}"))).await?;
        }
        assert_eq!(list(&tree).await?.len(), count + 1);
        fs::write(dir.join("kept"), "kept").await?;
        fs::symlink(dir.join("kept"), tree.join("deep/link")).await?;
        fs::symlink(dir, tree.join("deep/er/up")).await?;
        fs::remove_dir_all(&tree).await?;
        assert_kind(fs::remove_dir_all(&tree).await, ErrorKind::NotFound);
        assert_eq!(read(dir.join("kept")).await?, "kept", "links are not followed");
        assert_kind(fs::remove_dir_all(dir.join("kept")).await, ErrorKind::NotADirectory);
        fs::create_dir(&tree).await?;
        fs::write(tree.join("file"), "precious").await?;
        // The kernel follows a link with a slash behind it.
        for link in ["link", "link/", "link//", "link/.", "link/./"] {
            fs::symlink(&tree, dir.join("link")).await?;
            fs::remove_dir_all(dir.join(link)).await?;
            assert_kind(fs::symlink_metadata(dir.join("link")).await, ErrorKind::NotFound);
            assert_eq!(
                read(tree.join("file")).await?,
                "precious",
                "a link goes, not what it leads to"
            );
        }
        fs::remove_dir_all(dir.join("tree/./")).await?;
        assert!(!fs::try_exists(&tree).await?);
        Ok(())
    });
}

/// What an entry is called stays in its directory, wherever that goes.
#[trine::test(kernel = "both")]
fn an_entry_is_looked_up_in_the_directory_that_was_read() {
    run(async |dir| {
        fs::create_dir(dir.join("old")).await?;
        fs::write(dir.join("old/file"), "seven b").await?;
        let mut entries = fs::read_dir(dir.join("old")).await?;
        let entry = entries.next().await?.expect("there is a file");
        fs::rename(dir.join("old"), dir.join("new")).await?;
        assert_eq!(entry.path(), dir.join("old/file"));
        let metadata = entry.metadata().await?;
        assert_eq!((metadata.len(), metadata.ino()), (7, entry.ino()));
        fs::remove_file(dir.join("new/file")).await?;
        assert_kind(entry.metadata().await, ErrorKind::NotFound);
        assert!(entry.file_type().await?.is_file(), "that was told with the name");
        Ok(())
    });
}

/// D7: names that come when nobody waits belong to the object.
#[trine::test(kernel = "both", deterministic = false)]
fn a_dropped_next_loses_no_name() {
    run_alone(async |dir| {
        let count = fewer(300, 10);
        for n in 0..count {
            File::create(dir.join(format!("{n}"))).await?;
        }
        let mut entries = fs::read_dir(dir).await?;
        let mut found = 0;
        for n in 0.. {
            if n % 3 == 0 {
                let mut dropped = pin!(entries.next());
                if let std::task::Poll::Ready(entry) = poll!(dropped.as_mut()) {
                    found += usize::from(entry?.is_some());
                }
                turns(n % 2).await;
                continue;
            }
            match entries.next().await? {
                Some(_) => found += 1,
                None => break,
            }
        }
        assert_eq!(found, count);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn permissions_are_set() {
    run(async |dir| {
        let path = dir.join("file");
        fs::write(&path, "x").await?;
        fs::set_permissions(&path, Permissions::from_mode(0o640)).await?;
        assert_eq!(fs::metadata(&path).await?.permissions().mode() & 0o7777, 0o640);
        let file = File::open(&path).await?;
        file.set_permissions(Permissions::from_mode(0o400)).await?;
        assert_eq!(file.metadata().await?.mode() & 0o7777, 0o400);
        let absent = fs::set_permissions(dir.join("no"), Permissions::from_mode(0o600)).await;
        assert_kind(absent, ErrorKind::NotFound);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn whole_files_are_read_written_and_copied() {
    run_alone(async |dir| {
        let (from, to) = (dir.join("from"), dir.join("to"));
        let bytes: Vec<u8> = (0..fewer(700_000_u32, 9000)).map(|n| (n ^ n >> 8) as u8).collect();
        fs::write(&from, bytes.clone()).await?;
        assert_eq!(fs::read(&from).await?, bytes);
        fs::set_permissions(&from, Permissions::from_mode(0o751)).await?;
        assert_eq!(fs::copy(&from, &to).await?, bytes.len() as u64);
        assert_eq!(fs::read(&to).await?, bytes);
        assert_eq!(fs::metadata(&to).await?.mode() & 0o777, 0o751);

        fs::write(&from, "shorter").await?;
        fs::copy(&from, &to).await?;
        assert_eq!(read(&to).await?, "shorter");
        fs::write(&to, vec![0xff]).await?;
        assert_kind(read(&to).await, ErrorKind::InvalidData);
        fs::write(&to, "").await?;
        assert_eq!(fs::read(&to).await?, b"");
        assert_kind(fs::copy(&from, &from).await, ErrorKind::InvalidInput);
        assert_eq!(read(&from).await?, "shorter", "it is still there");
        assert_kind(fs::copy(dir, &to).await, ErrorKind::InvalidInput);
        assert_kind(fs::copy(dir.join("no"), &to).await, ErrorKind::NotFound);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_file_is_replaced_as_a_whole_with_its_permissions() {
    run_alone(async |dir| {
        let path = dir.join("file");
        fs::write_atomic(&path, "one").await?;
        assert_eq!(read(&path).await?, "one");
        let reader = File::open(&path).await?;
        fs::set_permissions(&path, Permissions::from_mode(0o662)).await?;
        fs::write_atomic(&path, "another").await?;
        assert_eq!(read(&path).await?, "another");
        assert_eq!(fs::metadata(&path).await?.mode() & 0o7777, 0o662);
        assert_eq!(content(&reader).await?, b"one", "who has the old one open reads that");
        assert_kind(fs::write_atomic("/", "x").await, ErrorKind::InvalidInput);
        assert_kind(fs::write_atomic(dir.join(".."), "x").await, ErrorKind::InvalidInput);
        assert_kind(fs::write_atomic(dir, "x").await, ErrorKind::IsADirectory);
        let nowhere = fs::write_atomic(dir.join("no/file"), "x").await;
        assert_kind(nowhere, ErrorKind::NotFound);
        assert_eq!(list(dir).await?.len(), 1, "nothing lies beside it");
        Ok(())
    });
}

/// At every moment at which it may be cancelled or dropped: all of the old content or all of the new.
/// `Cancelled` means the old one, and that nothing else lies there.
#[trine::test(kernel = "both", runs = 40)]
fn a_replacement_cancelled_at_any_moment_has_happened_or_not() {
    run_alone(async |dir| {
        let path = dir.join("file");
        for moment in 0..40_usize {
            fs::write(&path, "old").await?;
            let is_dropped = moment % 2 == 1;
            let scope = CancelScope::new();
            let mut outcome = None;
            nursery(async |n| {
                n.spawn(async {
                    turns(moment / 2).await;
                    scope.cancel();
                    Ok(())
                });
                outcome = Some(if is_dropped {
                    drop_after(moment / 2, fs::write_atomic(&path, "new")).await
                } else {
                    scope.run(async |_| fs::write_atomic(&path, "new").await).await?.is_some()
                });
                Ok(())
            })
            .await?;
            let has = read(&path).await?;
            let finished = outcome.expect("it has an end");
            match (finished, is_dropped) {
                (true, _) => assert_eq!(has, "new"),
                (false, false) => assert_eq!(has, "old", "cancelled in turn {moment}"),
                (false, true) => assert!(has == "old" || has == "new", "{has}"),
            }
            // Dropped while the file beside it was being made, that may be left lying; it is told.
            let beside = list(dir).await?.into_keys().filter(|name| name != "file");
            for left in beside.collect::<Vec<_>>() {
                assert!(is_dropped && !finished, "{left} lies beside it");
                fs::remove_file(dir.join(left)).await?;
            }
        }
        Ok(())
    });
}

/// Polls a future in so many turns, then drops it. Whether it has ended.
async fn drop_after(count: usize, future: impl Future<Output = Result>) -> bool {
    let mut future = pin!(future);
    for _ in 0..count {
        if poll!(future.as_mut()).is_ready() {
            return true;
        }
        turns(1).await;
    }
    false
}

#[trine::test(kernel = "both")]
fn a_temporary_file_has_no_name_until_it_gets_one() {
    run_alone(async |dir| {
        let file = TempFile::new_in(dir).await?;
        file.write_all_at("content", 0).await?;
        assert_eq!(file.metadata().await?.nlink(), 0);
        assert!(list(dir).await?.is_empty());
        let path = dir.join("file");
        let file = file.persist(&path).await?;
        assert_eq!((file.metadata().await?.nlink(), &read(&path).await?[..]), (1, "content"));
        let again = TempFile::new_in(dir).await?.persist(&path).await;
        assert_kind(again, ErrorKind::AlreadyExists);
        assert_kind(TempFile::new_in(&path).await, ErrorKind::NotADirectory);
        assert_eq!(list(dir).await?.len(), 1);
        Ok(())
    });
}

/// It is named by the number of its descriptor, which is its own until that has happened: also if it was
/// dropped meanwhile, and everybody else opens files.
#[trine::test(kernel = "both", runs = 30)]
fn a_temporary_file_that_is_dropped_while_it_gets_a_name_gives_it_to_no_other() {
    run_alone(async |dir| {
        for attempt in 0..fewer(20, 3) {
            let path = &dir.join(format!("{attempt}"));
            let file = TempFile::new_in(dir).await?;
            file.write_all_at("mine", 0).await?;
            set_disk_latency(Duration::from_millis(5));
            nursery(async |n| {
                {
                    let mut naming = pin!(file.persist(path));
                    assert!(poll!(naming.as_mut()).is_pending());
                    turns(attempt % 3).await;
                }
                set_disk_latency(Duration::ZERO);
                n.spawn(async {
                    let others = [(); 4].map(|()| TempFile::new_in(dir));
                    let others = trine::try_join_all(others).await?;
                    trine::time::sleep(Duration::from_millis(10)).await?;
                    drop(others);
                    Ok(())
                });
                Ok(())
            })
            .await?;
            if fs::try_exists(path).await? {
                assert_eq!(read(path).await?, "mine");
            }
        }
        Ok(())
    });
}

/// M2: it goes also in a cancelled scope.
#[trine::test(kernel = "both")]
fn a_temporary_directory_goes_with_all_that_is_in_it() {
    run_alone(async |dir| {
        for is_cancelled in [false, true] {
            let temp = TempDir::new_in(dir).await?;
            assert_eq!(fs::metadata(temp.path()).await?.mode() & 0o777, 0o700);
            fs::create_dir_all(temp.path().join("a/b")).await?;
            fs::write(temp.path().join("a/file"), "content").await?;
            let scope = CancelScope::new();
            if is_cancelled {
                scope.cancel();
            }
            let closed = scope.run(async |_| temp.close().await).await?;
            assert_eq!(closed.is_none(), is_cancelled);
            assert!(list(dir).await?.is_empty());
        }
        nursery(async |_| {
            let dropped = TempDir::new_in(dir).await?;
            assert!(fs::try_exists(dropped.path()).await?);
            Ok(())
        })
        .await?;
        assert!(list(dir).await?.is_empty(), "an empty one goes when it is dropped");
        let kept = TempDir::new_in(dir).await?.keep();
        assert!(fs::try_exists(kept).await?);
        Ok(())
    });
}

/// A8, D1: names are not touched in a cancelled scope, nor by what a slow disk has not begun with.
#[trine::test]
fn cancelled_names_stay_as_they_are() {
    run(async |dir| {
        let (file, other) = (dir.join("file"), dir.join("other"));
        fs::write(&file, "content").await?;
        World::current().set_disk_latency(Duration::from_secs(1));
        let moment = Duration::from_millis(3);
        for which in 0..7 {
            let done = move_on_after(moment, async |_| match which {
                0 => fs::rename(&file, &other).await,
                1 => fs::remove_file(&file).await,
                2 => fs::hard_link(&file, &other).await,
                3 => fs::symlink(&file, &other).await,
                4 => fs::create_dir(&other).await,
                5 => fs::metadata(&file).await.map(drop),
                _ => fs::create_dir_all(other.join("below")).await,
            });
            assert!(done.await?.is_none(), "number {which}");
        }
        let scope = CancelScope::new();
        scope.cancel();
        scope
            .run(async |_| {
                assert!(fs::read_dir(dir).await.is_err_and(|error| error.is_cancelled()));
                assert!(fs::canonicalize(dir).await.is_err_and(|error| error.is_cancelled()));
                assert!(fs::read_link(dir).await.is_err_and(|error| error.is_cancelled()));
                fs::remove_dir_all(dir).await
            })
            .await?;
        World::current().set_disk_latency(Duration::ZERO);
        assert_eq!(list(dir).await?.into_keys().collect::<Vec<_>>(), ["file"]);
        Ok(())
    });
}

// D7: a name that was taken from the kernel belongs to the listing, whoever waits.
#[trine::test(kernel = "both", runs = 3)]
fn a_listing_loses_no_name_to_a_dropped_wait() {
    let many = fewer(600, 40);
    run(async |dir| {
        let dir = dir.join("many");
        fs::create_dir(&dir).await?;
        for number in 0..many {
            fs::write(dir.join(number.to_string()), "").await?;
        }
        let (mut listing, mut seen) = (fs::read_dir(&dir).await?, 0);
        loop {
            let polled = poll!(pin!(listing.next()).as_mut());
            match polled {
                Poll::Ready(entry) => match entry? {
                    Some(_) => seen += 1,
                    None => break,
                },
                Poll::Pending => turns(1).await,
            }
        }
        assert_eq!(seen, many);
        Ok(())
    });
}
