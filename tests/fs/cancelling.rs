//! Files, cancelled and dropped at every moment.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::poll;
use trine::fs::{File, OpenOptions};
use trine::testing::World;
use trine::{CancelScope, Error, Result, move_on_after, nursery, shield};

use super::common::turns;
use super::{assert_kind, content, descriptors, file_with, run, run_alone, set_disk_latency};

const MOMENT: Duration = Duration::from_millis(2);

/// Longer than anybody waits.
const SLOW: Duration = Duration::from_secs(10);

/// A8: the cancel point comes first, before anything has happened.
#[trine::test(kernel = "both")]
fn in_a_cancelled_scope_nothing_is_done() {
    run_alone(async |dir| {
        let path = dir.join("file");
        let file = file_with(&path, "content").await?;
        let before = descriptors();
        let scope = CancelScope::new();
        scope.cancel();
        let moved_on = scope.run(async |_| {
            assert!(File::open(&path).await.is_err_and(|error| error.is_cancelled()));
            assert!(File::create(dir.join("new")).await.is_err_and(|error| error.is_cancelled()));
            let failed = file.read_at(vec![0; 3], 0).await.unwrap_err();
            assert!(failed.error.is_cancelled() && failed.done == 0 && failed.buf == [0; 3]);
            let failed = file.write_all_at("CONTENT", 0).await.unwrap_err();
            assert!(failed.error.is_cancelled() && failed.done == 0 && failed.buf == "CONTENT");
            assert!(file.read_at(Vec::with_capacity(1), 0).await.is_err());
            assert!(file.write_at("", 0).await.is_err_and(|failed| failed.error.is_cancelled()));
            assert!(file.sync_all().await.is_err_and(|error| error.is_cancelled()));
            assert!(file.sync_range(1..1).await.is_err_and(|error| error.is_cancelled()));
            assert!(file.set_len(0).await.is_err_and(|error| error.is_cancelled()));
            assert!(file.metadata().await.is_err_and(|error| error.is_cancelled()));
            Ok(())
        });
        moved_on.await?;
        assert_eq!(descriptors(), before);
        assert_eq!(content(&file).await?, b"content");
        assert_kind(File::open(dir.join("new")).await, ErrorKind::NotFound);
        Ok(())
    });
}

/// What a disk has not begun with is stopped, and has not happened; the buffer comes back (D1).
#[trine::test]
fn what_has_not_begun_is_stopped() {
    run_alone(async |dir| {
        let path = dir.join("file");
        let file = file_with(&path, "content").await?;
        let before = descriptors();
        set_disk_latency(SLOW);
        let opened = move_on_after(MOMENT, async |_| File::open(&path).await).await?;
        let made = move_on_after(MOMENT, async |_| File::create(dir.join("new")).await).await?;
        assert!(opened.is_none() && made.is_none());
        let written = move_on_after(MOMENT, async |_| {
            let failed = file.write_all_at("CONTENT", 0).await.unwrap_err();
            assert_eq!((failed.done, failed.buf), (0, "CONTENT"));
            Err::<(), _>(failed.error)
        });
        assert!(written.await?.is_none());
        assert!(move_on_after(MOMENT, async |_| file.sync_all().await).await?.is_none());
        set_disk_latency(Duration::ZERO);
        assert_eq!(descriptors(), before);
        assert_eq!(content(&file).await?, b"content");
        assert_kind(File::open(dir.join("new")).await, ErrorKind::NotFound);
        Ok(())
    });
}

/// D4: what took place is returned, although the scope is cancelled before anybody looks.
#[trine::test(kernel = "both")]
fn what_has_happened_is_returned_whatever_was_cancelled_meanwhile() {
    run_alone(async |dir| {
        let path = dir.join("file");
        let file = file_with(&path, "content").await?;
        let scope = CancelScope::new();
        let happened = scope.run(async |scope| {
            let mut opening = pin!(File::open(&path));
            let mut reading = pin!(file.read_at(Vec::with_capacity(7), 0));
            assert!(poll!(opening.as_mut()).is_pending());
            assert!(poll!(reading.as_mut()).is_pending());
            // They end, and nobody asks them yet.
            shield(async {
                file.sync_all().await?;
                trine::time::sleep(Duration::from_millis(20)).await
            })
            .await?;
            scope.cancel();
            let (opened, read) = (opening.await, reading.await);
            Ok((opened.is_ok(), read.map(|read| !read.is_empty()).unwrap_or(false)))
        });
        assert_eq!(happened.await?, Some((true, true)));
        Ok(())
    });
}

/// D7: a descriptor that comes for a dropped future is closed; the scope waits for that.
#[trine::test(kernel = "both")]
fn a_dropped_open_leaves_no_descriptor() {
    run_alone(async |dir| {
        let path = dir.join("file");
        file_with(&path, "content").await?.close().await?;
        for ended_before in [false, true] {
            let before = descriptors();
            nursery(async |n| {
                n.spawn(async {
                    let mut opening = pin!(File::open(&path));
                    assert!(poll!(opening.as_mut()).is_pending());
                    if ended_before {
                        trine::time::sleep(Duration::from_millis(20)).await?;
                    }
                    Ok(())
                });
                Ok(())
            })
            .await?;
            assert_eq!(descriptors(), before);
        }
        Ok(())
    });
}

/// F12: the buffer of a dropped operation stays until the kernel has let go, and no longer than the scope.
#[trine::test(kernel = "both")]
fn a_dropped_write_keeps_its_buffer_until_it_is_done() {
    run_alone(async |dir| {
        let file = file_with(&dir.join("file"), "").await?;
        let bytes: Rc<[u8]> = Rc::from(&b"content"[..]);
        nursery(async |n| {
            n.spawn(async {
                let mut writing = pin!(file.write_all_at(Rc::clone(&bytes), 0));
                assert!(poll!(writing.as_mut()).is_pending());
                turns(1).await;
                Ok(())
            });
            Ok(())
        })
        .await?;
        assert_eq!(Rc::strong_count(&bytes), 1);
        let written = content(&file).await?;
        assert!(b"content".starts_with(&written), "all, a part or nothing: {written:?}");
        Ok(())
    });
}

/// A future may be moved and lie where it likes: what the kernel has does not lie in it.
#[trine::test(kernel = "both")]
fn a_read_that_was_begun_moves_on() {
    run(async |dir| {
        let file = file_with(&dir.join("file"), "content").await?;
        let mut reading = Box::new(file.read_at(Vec::with_capacity(7), 0));
        assert!(poll!(&mut *reading).is_pending());
        let moved = *reading;
        let read: Vec<u8> = moved.await?;
        assert!(b"content".starts_with(&read) && !read.is_empty());
        Ok(())
    });
}

/// M2.
#[trine::test(kernel = "both")]
fn a_cancelled_close_closes() {
    run_alone(async |dir| {
        let file = file_with(&dir.join("file"), "content").await?;
        let before = descriptors();
        let scope = CancelScope::new();
        scope.cancel();
        let closed = scope.run(async |_| file.close().await).await?;
        assert!(closed.is_none(), "it says that it was cancelled");
        assert_eq!(descriptors(), before - 1);
        Ok(())
    });
}

/// A file that is closed while a read is under way stays open for that read.
#[trine::test(kernel = "both")]
fn a_file_dropped_with_a_read_under_way_is_closed_behind_it() {
    run_alone(async |dir| {
        let before = descriptors();
        let file = file_with(&dir.join("file"), "content").await?;
        set_disk_latency(SLOW);
        {
            let mut reading = pin!(file.read_at(Vec::with_capacity(7), 0));
            assert!(poll!(reading.as_mut()).is_pending());
            turns(1).await;
        }
        drop(file);
        set_disk_latency(Duration::ZERO);
        trine::time::sleep(Duration::from_secs(20).min(patience())).await?;
        assert_eq!(descriptors(), before);
        Ok(())
    });
}

/// Virtual time costs nothing.
fn patience() -> Duration {
    if World::try_current().is_some() { Duration::MAX } else { Duration::from_millis(50) }
}

/// Every moment at which a program of opens, writes and reads may be cancelled: afterwards nothing is
/// left, and the file has what the writes said that they wrote.
#[trine::test(kernel = "both", runs = 40)]
fn a_program_cancelled_at_any_moment_leaves_nothing_and_lies_about_nothing() {
    run_alone(async |dir| {
        let before = descriptors();
        for moment in 0..12_u32 {
            let path = dir.join(format!("file-{moment}"));
            let mut told = 0;
            let scope = CancelScope::new();
            nursery(async |n| {
                n.spawn(async {
                    turns(moment as usize).await;
                    scope.cancel();
                    Ok(())
                });
                let told = &mut told;
                scope.run(async |_| write_and_tell(&path, told).await).await.map(drop)
            })
            .await?;
            match File::open(&path).await {
                Ok(file) => {
                    let written = content(&file).await?;
                    assert_eq!(written, b"0123456789"[..told], "cancelled in turn {moment}");
                    file.close().await?;
                }
                Err(error) => assert_eq!((error.io_kind(), told), (Some(ErrorKind::NotFound), 0)),
            }
        }
        assert_eq!(descriptors(), before);
        Ok(())
    });
}

/// Writes ten bytes in pieces, and says how many there are.
async fn write_and_tell(path: &std::path::Path, told: &mut usize) -> Result {
    let file = OpenOptions::new().write(true).create_new(true).open(path).await?;
    for piece in ["012", "3456", "789"] {
        match file.write_all_at(piece, *told as u64).await {
            Ok(_) => *told += piece.len(),
            Err(failed) => {
                *told += failed.done;
                return Err(failed.error);
            }
        }
        file.sync_data().await?;
    }
    file.close().await
}

/// What waits can be moved to another scope, and is cancelled with that one (B2).
#[trine::test]
fn a_read_is_cancelled_with_the_scope_that_awaits_it() {
    run(async |dir| {
        let file = file_with(&dir.join("file"), "content").await?;
        set_disk_latency(SLOW);
        let mut reading = pin!(file.read_at(Vec::with_capacity(7), 0));
        assert!(poll!(reading.as_mut()).is_pending());
        assert!(timely(reading.as_mut()).await?.is_none());
        Ok(())
    });
}

async fn timely<T, E: Into<Error>>(
    future: impl Future<Output = Result<T, E>>,
) -> Result<Option<T>> {
    move_on_after(MOMENT, async |_| future.await.map_err(Into::into)).await
}
