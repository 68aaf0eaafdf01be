//! Buffers that the kernel knows beforehand. Nothing of them is to be seen but that they are.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use trine::fs::{File, OpenOptions};
use trine::testing::World;
use trine::{Builder, IoBuf, Result, stats, thread};

use super::common::turns;
use super::{content, run, run_with, set_disk_latency};

const PAGE: usize = 4096;

/// Whether this kernel has registered so much. The real one may have a limit of its own, then it has not.
fn has_registered(pages: usize) -> bool {
    let registered = stats().registered;
    registered == pages * PAGE || (registered == 0 && World::try_current().is_none())
}

async fn large_file(dir: &Path) -> Result<File> {
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(true);
    let file = options.open(dir.join("file")).await?;
    file.write_all_at("0123456789", 0).await?;
    file.set_len(3 * PAGE as u64).await?;
    Ok(file)
}

#[trine::test(kernel = "both")]
fn what_is_read_and_written_is_what_is_there() {
    run(async |dir| {
        let file = large_file(dir).await?;
        let buf = file.read_at(file.direct_buf(PAGE).await?, 0).await?;
        assert!(buf.starts_with(b"0123456789\0") && buf.len() == PAGE && has_registered(1));
        let part = file.read_exact_at(buf.slice(20..30), 0).await?;
        let mut buf = part.into_inner();
        assert_eq!(&buf[20..30], b"0123456789");
        buf[PAGE - 1] = b'!';
        let buf = file.write_all_at(buf.slice(PAGE - 3..), 4).await?.into_inner();
        let (written, buf) = file.write_at(buf.slice(20..23).slice(1..2), 0).await?;
        assert_eq!((written, &content(&file).await?[..10]), (1, &b"1123\0\0!789"[..]));
        // The end of the file is within the buffer.
        let buf = file.read_at(buf.into_inner().into_inner(), 3 * PAGE as u64 - 7).await?;
        assert_eq!(*buf, [0; 7]);
        assert!(file.read_exact_at(buf, 2 * PAGE as u64 + 1).await.is_err());
        file.close().await
    });
}

#[trine::test(kernel = "both")]
fn what_a_buffer_leaves_is_zeros_for_the_next_one_of_its_size() {
    run(async |dir| {
        let file = large_file(dir).await?;
        let mut buf = file.direct_buf(PAGE).await?;
        let place = buf.as_ptr();
        buf.fill(7);
        buf.resize(10);
        let _other = file.direct_buf(2 * PAGE).await?;
        drop(buf);
        assert!(has_registered(3));
        let buf = file.direct_buf(PAGE).await?;
        assert!(has_registered(3) && *buf == [0; PAGE]);
        assert!(buf.as_ptr() == place || stats().registered == 0);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn beyond_the_limit_a_buffer_is_as_good_and_what_came_back_makes_room() {
    run_with(Builder::new().registered_memory(3 * PAGE), async |dir| {
        let file = large_file(dir).await?;
        let mut bufs = Vec::new();
        for registered in [1, 2, 3, 3, 3] {
            let buf = file.read_at(file.direct_buf(PAGE).await?, 0).await?;
            assert!(buf.starts_with(b"0123456789\0") && has_registered(registered));
            bufs.push(buf);
        }
        drop(file.direct_buf(4 * PAGE).await?);
        assert!(has_registered(3), "it could never be registered");
        bufs.drain(..2);
        let large = file.direct_buf(2 * PAGE).await?;
        assert!(has_registered(3));
        drop((large, bufs));
        let mut large = file.read_at(file.direct_buf(3 * PAGE).await?, 0).await?;
        assert!(large.starts_with(b"0123456789\0") && has_registered(3));
        large.fill(b'x');
        file.write_all_at(large, 0).await?;
        assert!(content(&file).await? == [b'x'; 3 * PAGE]);
        file.close().await
    });
    run_with(Builder::new().registered_memory(0), async |dir| {
        let file = large_file(dir).await?;
        let buf = file.read_at(file.direct_buf(PAGE).await?, 0).await?;
        assert!(buf.starts_with(b"0123456789\0") && stats().registered == 0);
        Ok(())
    });
}

#[trine::test]
fn what_the_kernel_refuses_is_plain_memory() {
    run(async |dir| {
        World::current().limit_locked_memory(2 * PAGE);
        let file = large_file(dir).await?;
        let mut bufs = Vec::new();
        for registered in [1, 2, 2, 2] {
            let buf = file.read_at(file.direct_buf(PAGE).await?, 0).await?;
            assert!(buf.starts_with(b"0123456789\0") && has_registered(registered));
            bufs.push(buf);
        }
        drop(bufs);
        let buf = file.direct_buf(2 * PAGE).await?;
        assert!(buf.len() == 2 * PAGE && has_registered(2), "what came back made room");
        Ok(())
    });
}

#[trine::test]
fn a_refusal_that_has_passed_is_forgotten_in_time() {
    for given in [0, 1] {
        run(async |dir| {
            World::current().limit_locked_memory(given * PAGE);
            let file = large_file(dir).await?;
            let mut bufs = Vec::new();
            for _ in 0..given + 1 {
                bufs.push(file.direct_buf(PAGE).await?);
            }
            assert!(has_registered(given));
            World::current().limit_locked_memory(usize::MAX);
            let made = bufs.len();
            while has_registered(given) {
                bufs.push(file.read_at(file.direct_buf(PAGE).await?, 0).await?);
                assert!(bufs.len() < made + 100, "it is not tried again");
            }
            assert!(bufs.len() > made + 10, "each buffer asks the kernel");
            bufs.push(file.direct_buf(PAGE).await?);
            assert!(has_registered(given + 2));
            file.close().await
        });
    }
}

#[trine::test(kernel = "both")]
fn what_came_back_first_makes_room_first() {
    run_with(Builder::new().registered_memory(7 * PAGE), async |dir| {
        let file = large_file(dir).await?;
        let small = file.direct_buf(PAGE).await?;
        let large = file.direct_buf(4 * PAGE).await?;
        let middling = file.direct_buf(2 * PAGE).await?;
        assert!(has_registered(7));
        drop(small);
        drop(large);
        drop(middling);
        // That one leaves does not change the order of the others.
        let _small = file.direct_buf(PAGE).await?;
        let _other = file.direct_buf(3 * PAGE).await?;
        assert!(has_registered(6), "the large one was enough");
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn what_came_back_stays_if_it_would_not_be_room_enough() {
    run_with(Builder::new().registered_memory(4 * PAGE), async |dir| {
        let file = large_file(dir).await?;
        let _lent = file.direct_buf(2 * PAGE).await?;
        drop(file.direct_buf(PAGE).await?);
        let plain = file.read_at(file.direct_buf(3 * PAGE).await?, 0).await?;
        assert!(plain.starts_with(b"0123456789\0") && has_registered(3));
        Ok(())
    });
}

/// Its memory is known to another kernel, or was.
#[trine::test(kernel = "both")]
fn a_buffer_outlives_its_run_and_is_as_good_in_another_one() {
    let mut buf = run(async |dir| large_file(dir).await?.direct_buf(PAGE).await);
    buf[..3].copy_from_slice(b"new");
    run(async |dir| {
        let file = large_file(dir).await?;
        let mut ours = file.direct_buf(PAGE).await?;
        ours[..4].copy_from_slice(b"ours");
        let (theirs, ours) = (file.write_all_at(buf, 0).await?, file.write_all_at(ours, 5).await?);
        assert_eq!(&content(&file).await?[5..9], b"ours");
        let theirs = file.read_exact_at(theirs, 0).await?;
        assert!(theirs.starts_with(b"new\0\0ours"));
        drop((theirs, ours));
        assert!(has_registered(1));
        file.close().await
    });
}

// There are threads only on a real machine.
#[test]
fn a_buffer_goes_to_other_threads_and_returns_from_them() {
    run(async |dir| {
        let file = large_file(dir).await?;
        for _ in 0..5 {
            let buf = file.read_exact_at(file.direct_buf(PAGE).await?, 0).await?;
            let sum = thread::run(move || buf.iter().map(|byte| u32::from(*byte)).sum::<u32>());
            assert_eq!(sum.await?, b"0123456789".iter().map(|byte| u32::from(*byte)).sum());
            assert!(has_registered(1));
        }
        Ok(())
    });
}

/// D5: while the kernel has it, it is nobody else's, and its place neither.
#[trine::test(kernel = "both")]
fn the_buffer_of_a_dropped_read_returns_when_the_kernel_has_let_go() {
    run_with(Builder::new().registered_memory(2 * PAGE), async |dir| {
        let file = large_file(dir).await?;
        for turn in 0..10 {
            let (one, other) = (file.direct_buf(PAGE).await?, file.direct_buf(PAGE).await?);
            set_disk_latency(Duration::from_millis(3));
            {
                let mut dropped = pin!(file.read_at(one, 0));
                assert!(poll!(dropped.as_mut()).is_pending());
                turns(turn % 3).await;
            }
            let other = file.read_at(other, 0).await?;
            set_disk_latency(Duration::ZERO);
            assert!(other.starts_with(b"0123456789\0") && has_registered(2));
            let new = file.direct_buf(PAGE).await?;
            assert!(*new == [0; PAGE] && has_registered(2), "whatever was read into it before");
        }
        file.close().await
    });
}
