//! What a cancellation leaves of an operation: did it happen? (sections C8 and D).

use std::cell::Cell;
use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use trine::net::{TcpListener, TcpStream};
use trine::time::{Instant, sleep};
use trine::{
    CancelScope, Error, Result, checkpoint, is_cancelled, move_on_after, move_on_at, nop, nursery,
    shield, stats,
};

use crate::common::{fewer, spin_until};
use crate::{LONG, MOMENT, in_kernel, pair, run};
// C8: in one turn a completion beats a deadline.
#[trine::test(kernel = "both")]
fn a_completion_beats_a_deadline_of_the_same_turn() {
    run(async || {
        for _ in 0..5 {
            let deadline = Instant::now() + MOMENT * 5;
            let left = move_on_at(deadline, async |_| {
                let mut operation = pin!(nop());
                assert!(poll!(operation.as_mut()).is_pending());
                spin_until(deadline);
                operation.await?;
                assert!(is_cancelled(), "the deadline has passed in that turn");
                Ok("in time")
            });
            assert_eq!(left.await?, Some("in time"));
        }
        Ok(())
    });
}

// C8, D1: the bytes have come, so they are received although the time is over.
#[trine::test(kernel = "both")]
fn bytes_that_have_come_beat_a_deadline_of_the_same_turn() {
    run(async || {
        let (client, server) = pair().await?;
        client.write_all("in time").await?;
        let deadline = Instant::now() + MOMENT;
        let left = move_on_at(deadline, async |_| {
            let mut receive = pin!(server.recv());
            assert!(poll!(receive.as_mut()).is_pending());
            spin_until(deadline);
            receive.await
        });
        let chunk = left.await?.flatten().expect("received");
        assert_eq!(chunk, *b"in time");
        Ok(())
    });
}

// D1: what was cancelled did not happen: every byte is received or still there.
#[trine::test(kernel = "both")]
fn receives_that_race_with_their_deadlines_lose_no_byte() {
    const NUMBERS: u8 = fewer(200, 8);
    const LEN: usize = 3 * NUMBERS as usize;
    run(async || {
        let (client, server) = &pair().await?;
        let (sent, received) = (&Cell::new(0_usize), &Cell::new(0));
        nursery(async |n| {
            n.spawn(async move {
                for number in 0..NUMBERS {
                    client.write_all(vec![number; 3]).await?;
                    sent.set(sent.get() + 3);
                    if number % 4 == 0 {
                        sleep(Duration::from_micros(40)).await?;
                    }
                }
                client.shutdown(Shutdown::Write).await
            });
            let mut expected = (0..NUMBERS).flat_map(|number| [number; 3]);
            for round in 0_u64.. {
                let patience = Duration::from_micros(round % 7 * 10);
                let chunk = match move_on_after(patience, async |_| server.recv().await).await? {
                    Some(Some(chunk)) => chunk,
                    Some(None) => break,
                    None => continue,
                };
                for &byte in &*chunk {
                    assert_eq!(Some(byte), expected.next());
                    received.set(received.get() + 1);
                }
            }
            Ok(())
        })
        .await?;
        assert_eq!((sent.get(), received.get()), (LEN, LEN));
        Ok(())
    });
}

/// More than any socket takes at once.
const BIG: usize = fewer(32 << 20, 1 << 13);

// D2: a partial operation says how much was done, and that is how much the other end gets.
#[trine::test(kernel = "both")]
fn a_cancelled_write_says_how_much_went_out() {
    run(async || {
        let (client, server) = pair().await?;
        let big = vec![7_u8; BIG];
        let scope = CancelScope::new().timeout(MOMENT);
        let left = scope.run(async |_| {
            let cut = client.write_all(big).await.unwrap_err();
            let done = cut.done;
            assert_eq!(cut.buf.len(), BIG, "the buffer comes back");
            Ok(done)
        });
        let done = left.await?.expect("the body has finished");
        assert!(scope.cancel_called().is_some());
        assert!(done > 0 && done < BIG);
        client.close().await?;
        let mut received = 0;
        while let Some(chunk) = server.recv().await? {
            received += chunk.len();
        }
        assert_eq!(received, done);
        Ok(())
    });
}

/// An address where connecting takes for ever: its backlog is full. The rest keeps it so.
async fn overrun() -> Result<(SocketAddr, TcpListener, Vec<TcpStream>)> {
    let listener = TcpListener::builder().backlog(1).bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut connected = Vec::new();
    while let Some(stream) =
        move_on_after(2 * MOMENT, async |_| TcpStream::connect_addr(address).await).await?
    {
        connected.push(stream);
    }
    Ok((address, listener, connected))
}

// D2: a cancelled connect leaves nothing: its socket is closed, and the scope waits for that.
#[trine::test(kernel = "both")]
fn a_cancelled_connect_closes_its_socket() {
    run(async || {
        let (address, _listener, _connected) = overrun().await?;
        let submitted = stats().submitted;
        let left = move_on_after(MOMENT, async |_| {
            TcpStream::connect_addr(address).await?;
            Ok(())
        });
        assert!(left.await?.is_none());
        assert_eq!(stats().submitted, submitted + 2, "a connect and a close");
        assert_eq!((stats().in_kernel, stats().queued), (0, 0));
        Ok(())
    });
}

// D4: the connect was asked to cancel, and is awaited where nothing is cancelled. It cannot be begun
// again, and reports an ordinary error.
#[trine::test(kernel = "both")]
fn a_connect_that_left_a_cancelled_scope_is_an_aborted_connection() {
    run(async || {
        let (address, _listener, _connected) = overrun().await?;
        let mut connect = Box::pin(TcpStream::connect_addr(address));
        let left = move_on_after(LONG, async |scope| {
            assert!(poll!(connect.as_mut()).is_pending());
            in_kernel(1).await?;
            scope.cancel();
            Ok(())
        });
        assert!(left.await?.is_some());
        let aborted = connect.await.unwrap_err();
        assert_eq!(aborted.io_kind(), Some(std::io::ErrorKind::ConnectionAborted));
        Ok(())
    });
}

// D4: total operations are submitted again; a sleep keeps the deadline it had.
#[trine::test(kernel = "both")]
fn waits_that_left_a_cancelled_scope_go_on() {
    run(async || {
        let (client, server) = pair().await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let until = Instant::now() + 2 * MOMENT;
        let mut sleeping = pin!(sleep(2 * MOMENT));
        let mut accepting = pin!(listener.accept());
        let mut reading = pin!(server.read(Vec::with_capacity(8)));
        let left = move_on_after(LONG, async |scope| {
            assert!(poll!(sleeping.as_mut()).is_pending());
            assert!(poll!(accepting.as_mut()).is_pending());
            assert!(poll!(reading.as_mut()).is_pending());
            in_kernel(2).await?;
            scope.cancel();
            Ok(())
        });
        assert!(left.await?.is_some());
        sleeping.await?;
        assert!(Instant::now() >= until);
        assert!(until.elapsed() < MOMENT * 50, "not twice as long, at least");
        assert!(poll!(reading.as_mut()).is_pending(), "no stray cancellation");
        client.write_all("again").await?;
        assert_eq!(reading.await.map_err(Error::from)?, b"again");
        let _again = TcpStream::connect_addr(listener.local_addr()?).await?;
        accepting.await?;
        Ok(())
    });
}

// D4: a shield went on around the one who polls.
#[trine::test(kernel = "both")]
fn an_operation_that_was_asked_to_cancel_goes_on_behind_a_shield() {
    run(async || {
        let (client, server) = pair().await?;
        let left = move_on_after(LONG, async |scope| {
            let mut receive = pin!(server.recv());
            assert!(poll!(receive.as_mut()).is_pending());
            in_kernel(1).await?;
            scope.cancel();
            shield(async {
                assert!(poll!(receive.as_mut()).is_pending());
                client.write_all("behind").await?;
                let chunk = receive.await?.expect("bytes");
                assert_eq!(chunk, *b"behind");
                Ok::<_, Error>(())
            })
            .await?;
            checkpoint().await
        });
        assert!(left.await?.is_none());
        Ok(())
    });
}

// D4, A8: polled again after `Cancelled`, an operation starts anew.
#[trine::test(kernel = "both")]
fn a_cancelled_accept_can_be_awaited_again() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut accept = pin!(listener.accept());
        for _ in 0..3 {
            let left = move_on_after(MOMENT / 4, async |_| accept.as_mut().await).await?;
            assert!(left.is_none());
        }
        let _client = TcpStream::connect_addr(listener.local_addr()?).await?;
        accept.await?;
        Ok(())
    });
}

// D6: what has not been handed over is withdrawn: the kernel never sees it, and it ends at once.
#[trine::test(kernel = "both")]
fn an_operation_that_the_kernel_has_not_seen_is_withdrawn() {
    run(async || {
        let (_client, server) = pair().await?;
        let before = stats();
        let left = move_on_after(LONG, async |scope| {
            let mut receive = pin!(server.recv());
            assert!(poll!(receive.as_mut()).is_pending());
            assert_eq!(stats().queued, before.queued + 1);
            scope.cancel();
            let cancelled = poll!(receive.as_mut());
            assert!(matches!(cancelled, std::task::Poll::Ready(Err(_))), "at once");
            Ok(())
        });
        left.await?;
        let after = stats();
        assert_eq!(after.withdrawn, before.withdrawn + 1);
        assert_eq!((after.submitted, after.cancels_sent), (before.submitted, before.cancels_sent));
        Ok(())
    });
}
