//! Two connected streams in memory.

use std::io::ErrorKind;
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use trine::io::{Close, Duplex, Read, Write, duplex};
use trine::testing::{check_half_closeable_stream, check_one_way_stream, wait_all_tasks_blocked};
use trine::{BufError, CancelScope, Error, IoBuf, Result, move_on_after, nursery};

use super::common::turns;

// However little fits: every write waits then.
#[trine::test(kernel = "both", runs = 2)]
async fn streams_in_memory_conform_whatever_their_capacity() -> Result {
    let smallest = async || Ok(duplex(1));
    check_one_way_stream(smallest, Some(smallest)).await?;
    for capacity in [999, 4096] {
        let make = async || Ok(duplex(capacity));
        check_half_closeable_stream(make, Some(make)).await?;
    }
    let endless = async || Ok(duplex(usize::MAX));
    let never = None::<fn() -> std::future::Pending<Result<(Duplex, Duplex)>>>;
    check_half_closeable_stream(endless, never).await
}

#[trine::test(kernel = "both", runs = 5)]
async fn a_direction_holds_no_more_than_its_capacity() -> Result {
    let (left, right) = duplex(10);
    assert_eq!(left.write("0123456789abc").await?.0, 10);
    let full = move_on_after(Duration::ZERO, async |_| left.write("x").await.map_err(Error::from));
    assert!(full.await?.is_none(), "there was no room");
    assert_eq!(left.write("").await?.0, 0, "nothing needs no room");
    assert_eq!(right.read(Vec::with_capacity(4)).await?, b"0123");
    assert_eq!(left.write("abcdefgh").await?.0, 4);
    assert_eq!(right.recv().await?.expect("not the end"), *b"456789abcd");
    let (left, right) = duplex(0);
    assert_eq!(left.write("ab").await?.0, 1, "no capacity is one of 1");
    assert_eq!(right.recv().await?.expect("not the end"), *b"a");
    Ok(())
}

// D2: a partial one says how much it has done.
#[trine::test(kernel = "both", runs = 5)]
async fn a_cancelled_write_says_how_much_went_out_and_the_next_one_goes_on() -> Result {
    let (left, right) = &duplex(4);
    let scope = &CancelScope::new();
    nursery(async |n| {
        n.spawn(async move {
            let mut rest = None;
            scope
                .run(async |_| {
                    let Err(BufError { error, done, buf }) = left.write_all("abcdefghi").await
                    else {
                        panic!("there was room")
                    };
                    rest = Some(buf.slice(done..));
                    Err::<(), _>(error)
                })
                .await?;
            left.write_all(rest.expect("it was cancelled")).await?;
            left.finish().await
        });
        wait_all_tasks_blocked().await?;
        assert_eq!(right.read(Vec::with_capacity(2)).await?, b"ab");
        wait_all_tasks_blocked().await?;
        scope.cancel();
        assert_eq!(right.read_exact(Vec::with_capacity(7)).await?, b"cdefghi");
        assert!(right.recv().await?.is_none());
        Ok(())
    })
    .await
}

// D7: how much of a dropped write went out nobody knows; of one that did not begin, nothing did.
#[trine::test(kernel = "both", runs = 5)]
async fn a_dropped_write_breaks_the_half_if_something_went_out() -> Result {
    let (left, right) = duplex(4);
    drop(left.write_all("never polled"));
    left.write_all("full").await?;
    {
        let mut waiting = pin!(left.write_all("nothing goes out"));
        assert!(poll!(waiting.as_mut()).is_pending());
    }
    assert_eq!(right.recv().await?.expect("not the end"), *b"full");
    {
        let mut halfway = pin!(left.write_all("more than fits"));
        assert!(poll!(halfway.as_mut()).is_pending());
    }
    let refused = left.write_all("x").await.expect_err("nobody knows how much went out");
    assert!(matches!(refused.error, Error::Broken(_)), "{refused:?}");
    assert_eq!(right.recv().await?.expect("it was sent"), *b"more");
    Ok(())
}

// D7: what a dropped read has taken is what the next one returns.
#[trine::test(kernel = "both", runs = 5)]
async fn a_dropped_read_gives_back_what_it_has_taken() -> Result {
    let (left, right) = duplex(4);
    left.write_all("abcd").await?;
    {
        let mut reading = pin!(right.read_exact(Vec::with_capacity(6)));
        assert!(poll!(reading.as_mut()).is_pending());
        left.write_all("ef").await?;
        turns(2).await;
    }
    assert_eq!(right.recv().await?.expect("not the end"), *b"abcdef");
    left.write_all("gh").await?;
    left.close().await?;
    let short = right.read_exact(Vec::with_capacity(6)).await.expect_err("the stream has ended");
    assert_eq!(short.error.io_kind(), Some(ErrorKind::UnexpectedEof));
    assert_eq!((short.done, &short.buf[..]), (2, &b"gh"[..]));
    Ok(())
}

#[trine::test(kernel = "both", runs = 5)]
async fn writing_to_a_closed_end_is_a_broken_pipe_and_after_the_end_it_is_closed() -> Result {
    let (left, right) = duplex(4);
    left.finish().await?;
    let refused = left.write("x").await.expect_err("after the end");
    assert!(matches!(refused.error, Error::Closed(_)), "{refused:?}");
    drop(left);
    let refused = right.write_all("x").await.expect_err("nobody is there");
    assert_eq!(refused.error.io_kind(), Some(ErrorKind::BrokenPipe));
    assert!(right.recv().await?.is_none());
    Ok(())
}
