//! What every stream of bytes must do: the same questions for TCP, for memory, and for a user's own.
//!
//! They are Trio's `check_one_way_stream`, `check_two_way_stream` and `check_half_closeable_stream`, as
//! far as Rust's types do not answer them: a stream that was closed cannot be used.
//!
//! They need a clock that moves, to see what is under way arrive.

use std::cell::Cell;
use std::future::Future;
use std::io::ErrorKind;
use std::ops::{AsyncFn, AsyncFnOnce};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::exec;
use crate::io;
use crate::nursery::nursery;
use crate::op::IoBuf;
use crate::scope::CancelScope;
use crate::time::sleep;

use super::checkpoints::assert_checkpoints;
use super::memory::MemoryStream;
use super::quiet::wait_all_tasks_blocked;

/// A stream of bytes, as the checks of this module see one: whatever has the traits of [`io`].
/// Implement those or this one for a stream of your own to have it checked.
///
/// # Errors
/// All of them raise `Cancelled` in a cancelled scope, and answer [`Error::Busy`] while another task uses
/// the same half.
pub trait ByteStream {
    /// Sends all of it; [`Error::Closed`] after [`send_eof`](ByteStream::send_eof).
    fn send_all(&self, bytes: &[u8]) -> impl Future<Output = Result>;
    /// Receives at least one byte and at most `most`; none are the end of the stream. `most` of 0 is
    /// an error.
    fn receive_some(&self, most: usize) -> impl Future<Output = Result<Vec<u8>>>;
    /// The other end sees the end of the stream; this one can still receive. Twice is once.
    fn send_eof(&self) -> impl Future<Output = Result>;
    /// Closes it in any case, also in a cancelled scope (rule M2).
    fn close(self) -> impl Future<Output = Result>;
}

/// Whatever has the traits of [`io`], sent at once.
impl<S: io::Read + io::Write + io::Close> ByteStream for S {
    async fn send_all(&self, bytes: &[u8]) -> Result {
        self.write_all(bytes.to_vec()).await?;
        self.flush().await
    }

    async fn receive_some(&self, most: usize) -> Result<Vec<u8>> {
        Ok(self.read(Vec::with_capacity(most).slice(..most)).await?.into_inner())
    }

    async fn send_eof(&self) -> Result {
        self.finish().await
    }

    async fn close(self) -> Result {
        io::Close::close(self).await
    }
}

impl ByteStream for MemoryStream {
    async fn send_all(&self, bytes: &[u8]) -> Result {
        MemoryStream::send_all(self, bytes).await
    }

    async fn receive_some(&self, most: usize) -> Result<Vec<u8>> {
        MemoryStream::receive_some(self, most).await
    }

    async fn send_eof(&self) -> Result {
        MemoryStream::send_eof(self).await
    }

    async fn close(self) -> Result {
        MemoryStream::close(self).await
    }
}

/// Checks one direction, from the first stream of a pair to the second. `make` makes a pair; `clogged`
/// makes one in which a send of the first end waits until the second receives, if there is such a thing.
///
/// # Errors
/// Those of making pairs.
///
/// # Panics
/// If the stream does not do what a stream must.
///
/// ```
/// use trine::testing::{World, check_one_way_stream, lockstep_stream_pair};
///
/// World::tame().run(async || {
///     let make = async || Ok(lockstep_stream_pair());
///     check_one_way_stream(make, Some(make)).await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn check_one_way_stream<S: ByteStream>(
    make: impl AsyncFn() -> Result<(S, S)>,
    clogged: Option<impl AsyncFn() -> Result<(S, S)>>,
) -> Result {
    let (sender, receiver) = make().await?;
    bytes_arrive(&sender, &receiver).await?;
    nothing_is_asked_for_nothing(&receiver).await;
    two_receivers_are_one_too_many(&sender, &receiver).await?;
    a_cancelled_receive_loses_nothing(&sender, &receiver).await?;
    a_dropped_receive_loses_nothing(&sender, &receiver).await?;
    nothing_happens_in_a_cancelled_scope(&sender, &receiver).await?;
    the_end_is_seen_and_stays(sender, receiver).await?;
    a_waiting_receiver_sees_the_end(make().await?).await?;
    sending_to_nobody_fails_in_the_end(make().await?).await?;
    a_cancelled_close_closes(make().await?).await?;
    if let Some(clogged) = clogged {
        two_senders_are_one_too_many(clogged().await?).await?;
        a_blocked_send_is_cancelled(clogged().await?).await?;
        a_blocked_send_fails_when_the_receiver_goes(clogged().await?).await?;
    }
    Ok(())
}

/// Checks both directions, each on its own and at the same time, with much more than fits into a buffer.
///
/// # Errors
/// Those of making pairs.
///
/// # Panics
/// If the stream does not do what a stream must.
///
/// ```
/// use trine::testing::{World, check_two_way_stream, lockstep_stream_pair, memory_stream_pair};
///
/// World::tame().run(async || {
///     let make = async || Ok(memory_stream_pair());
///     check_two_way_stream(make, Some(async || Ok(lockstep_stream_pair()))).await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn check_two_way_stream<S: ByteStream>(
    make: impl AsyncFn() -> Result<(S, S)>,
    clogged: Option<impl AsyncFn() -> Result<(S, S)>>,
) -> Result {
    let turned = async |pair: (S, S)| Ok((pair.1, pair.0));
    check_one_way_stream(&make, clogged.as_ref()).await?;
    let clogged = clogged.as_ref().map(|clogged| async || turned(clogged().await?).await);
    check_one_way_stream(async || turned(make().await?).await, clogged).await?;
    let (left, right) = make().await?;
    nursery(async |n| {
        for (seed, sender, receiver) in [(1, &left, &right), (2, &right, &left)] {
            n.spawn(async move { send_much(sender, seed).await });
            n.spawn(async move { receive_much(receiver, seed).await });
        }
        Ok(())
    })
    .await?;
    left.close().await?;
    right.close().await
}

/// Checks both directions, and that each can be ended alone.
///
/// # Errors
/// Those of making pairs.
///
/// # Panics
/// If the stream does not do what a stream must.
///
/// ```
/// use trine::net::{TcpListener, TcpStream};
/// use trine::testing::{World, check_half_closeable_stream};
///
/// World::tame().run(async || {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let make = async || {
///         let client = TcpStream::connect_addr(listener.local_addr()?).await?;
///         Ok((client, listener.accept().await?.0))
///     };
///     check_half_closeable_stream(make, Some(make)).await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn check_half_closeable_stream<S: ByteStream>(
    make: impl AsyncFn() -> Result<(S, S)>,
    clogged: Option<impl AsyncFn() -> Result<(S, S)>>,
) -> Result {
    check_two_way_stream(&make, clogged.as_ref()).await?;
    let (left, right) = make().await?;
    nursery(async |n| {
        n.spawn(async {
            left.send_all(b"last").await?;
            assert_checkpoints(left.send_eof()).await
        });
        assert_eq!(receive_all(&right).await?, b"last", "what was sent before the end arrives");
        Ok(())
    })
    .await?;
    left.send_eof().await.expect("ending twice is ending once");
    let refused = left.send_all(b"more").await;
    assert!(matches!(refused, Err(Error::Closed(_))), "sent after the end: {refused:?}");
    nursery(async |n| {
        n.spawn(async { right.send_all(b"answer").await });
        let mut got = Vec::new();
        while got.len() < 6 {
            let some = left.receive_some(100).await?;
            assert!(!some.is_empty(), "ending one direction ended the other");
            got.extend(some);
        }
        assert_eq!(got, b"answer", "the other direction goes on");
        Ok(())
    })
    .await?;
    right.send_eof().await?;
    assert_eq!(left.receive_some(1).await?, b"");
    if let Some(clogged) = clogged {
        let (left, right) = clogged().await?;
        with_a_blocked_send(&left, async |left| {
            let refused = left.send_eof().await;
            assert!(matches!(refused, Err(Error::Busy(_))), "ended while sending: {refused:?}");
            Ok(())
        })
        .await?;
        drop(right);
    }
    Ok(())
}

async fn bytes_arrive<S: ByteStream>(sender: &S, receiver: &S) -> Result {
    nursery(async |n| {
        n.spawn(async { assert_checkpoints(sender.send_all(b"x")).await });
        assert_eq!(assert_checkpoints(receiver.receive_some(1)).await?, b"x");
        Ok(())
    })
    .await?;
    // The first send has ended: it may do so after its bytes have arrived.
    nursery(async |n| {
        n.spawn(async {
            sender.send_all(b"").await?;
            sender.send_all(b"abc").await
        });
        let mut got = Vec::new();
        while got.len() < 3 {
            let some = receiver.receive_some(2).await?;
            assert!((1..=2).contains(&some.len()), "{} bytes for at most 2", some.len());
            got.extend(some);
        }
        assert_eq!(got, b"abc");
        Ok(())
    })
    .await
}

async fn nothing_is_asked_for_nothing<S: ByteStream>(receiver: &S) {
    let error = receiver.receive_some(0).await.expect_err("at most 0 bytes are no bytes");
    assert_eq!(error.io_kind(), Some(ErrorKind::InvalidInput), "{error}");
}

async fn two_receivers_are_one_too_many<S: ByteStream>(sender: &S, receiver: &S) -> Result {
    nursery(async |n| {
        n.spawn(async {
            assert_eq!(receiver.receive_some(1).await?, b"y");
            Ok(())
        });
        wait_all_tasks_blocked().await?;
        let refused = receiver.receive_some(1).await;
        assert!(matches!(refused, Err(Error::Busy(_))), "a second receiver: {refused:?}");
        sender.send_all(b"y").await
    })
    .await
}

async fn a_cancelled_receive_loses_nothing<S: ByteStream>(sender: &S, receiver: &S) -> Result {
    let scope = CancelScope::new();
    nursery(async |n| {
        n.spawn(async {
            let received = scope.run(async |_| receiver.receive_some(1).await).await?;
            assert_eq!(received, None, "nothing had come");
            Ok(())
        });
        wait_all_tasks_blocked().await?;
        scope.cancel();
        Ok(())
    })
    .await?;
    round_trip(sender, receiver).await
}

/// Rule D7: what arrives for a receive whose future is gone is there for the next one.
async fn a_dropped_receive_loses_nothing<S: ByteStream>(sender: &S, receiver: &S) -> Result {
    {
        let mut receive = pin!(receiver.receive_some(1));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(receive.as_mut().poll(&mut cx).is_pending(), "received what was never sent");
    }
    round_trip(sender, receiver).await
}

async fn round_trip<S: ByteStream>(sender: &S, receiver: &S) -> Result {
    nursery(async |n| {
        n.spawn(async { sender.send_all(b"z").await });
        assert_eq!(receiver.receive_some(1).await?, b"z");
        Ok(())
    })
    .await
}

/// Rule A8: a cancelled operation has no effect.
async fn nothing_happens_in_a_cancelled_scope<S: ByteStream>(sender: &S, receiver: &S) -> Result {
    let (sent, received) = (Cell::new(false), Cell::new(false));
    for (is_send, did) in [(true, &sent), (false, &received)] {
        let scope = CancelScope::new();
        scope.cancel();
        scope
            .run(async |_| {
                match is_send {
                    true => sender.send_all(b"never").await?,
                    false => drop(receiver.receive_some(1).await?),
                }
                did.set(true);
                Ok(())
            })
            .await?;
    }
    assert!(!sent.get(), "sent in a cancelled scope");
    assert!(!received.get(), "received in a cancelled scope");
    round_trip(sender, receiver).await
}

async fn the_end_is_seen_and_stays<S: ByteStream>(sender: S, receiver: S) -> Result {
    sender.close().await?;
    for _ in 0..2 {
        assert_eq!(receiver.receive_some(10).await?, b"", "the end stays");
    }
    receiver.close().await
}

async fn a_waiting_receiver_sees_the_end<S: ByteStream>((sender, receiver): (S, S)) -> Result {
    nursery(async |n| {
        n.spawn(async {
            assert_eq!(receiver.receive_some(10).await?, b"");
            Ok(())
        });
        wait_all_tasks_blocked().await?;
        sender.close().await
    })
    .await
}

async fn sending_to_nobody_fails_in_the_end<S: ByteStream>((sender, receiver): (S, S)) -> Result {
    receiver.close().await?;
    // What the first ones send may still fit into somebody's buffer, and the news may be under way.
    for _ in 0..1000 {
        match sender.send_all(&[0; 4096]).await {
            Ok(()) => sleep(Duration::from_millis(1)).await?,
            Err(error) => {
                assert!(!error.is_cancelled() && !matches!(error, Error::Busy(_)), "{error}");
                return Ok(());
            }
        }
    }
    panic!("4 MB were sent to a stream that is closed at the other end");
}

async fn a_cancelled_close_closes<S: ByteStream>((sender, receiver): (S, S)) -> Result {
    let scope = CancelScope::new();
    scope.cancel();
    let closed = scope.run(async |_| sender.close().await).await?;
    assert!(closed.is_none(), "a cancelled close did not say so");
    assert_eq!(receiver.receive_some(10).await?, b"", "a cancelled close did not close");
    Ok(())
}

async fn two_senders_are_one_too_many<S: ByteStream>((sender, _receiver): (S, S)) -> Result {
    with_a_blocked_send(&sender, async |sender| {
        let refused = sender.send_all(b"me too").await;
        assert!(matches!(refused, Err(Error::Busy(_))), "a second sender: {refused:?}");
        Ok(())
    })
    .await
}

/// Cancels a send that waits after `meanwhile`.
async fn with_a_blocked_send<S: ByteStream>(
    sender: &S,
    meanwhile: impl AsyncFnOnce(&S) -> Result,
) -> Result {
    let scope = CancelScope::new();
    nursery(async |n| {
        n.spawn(async {
            let sent = scope.run(async |_| sender.send_all(&vec![0; much()]).await).await?;
            assert_eq!(sent, None, "a send of much was not cancelled");
            Ok(())
        });
        wait_all_tasks_blocked().await?;
        meanwhile(sender).await?;
        scope.cancel();
        Ok(())
    })
    .await
}

async fn a_blocked_send_is_cancelled<S: ByteStream>((sender, receiver): (S, S)) -> Result {
    with_a_blocked_send(&sender, async |_| Ok(())).await?;
    drop(receiver);
    Ok(())
}

async fn a_blocked_send_fails_when_the_receiver_goes<S: ByteStream>(
    (sender, receiver): (S, S),
) -> Result {
    nursery(async |n| {
        n.spawn(async {
            let sent = sender.send_all(&vec![0; much()]).await;
            assert!(sent.is_err_and(|error| !error.is_cancelled()), "sent to nobody");
            Ok(())
        });
        wait_all_tasks_blocked().await?;
        receiver.close().await
    })
    .await
}

/// More than the buffers of a stream hold. Linux lets those of a TCP connection grow to some megabytes.
fn much() -> usize {
    if is_simulated() { 200_000 } else { 16 << 20 }
}

fn is_simulated() -> bool {
    exec::current_or_none().is_some_and(|run| run.is_simulated())
}

/// What goes through in each direction: less where it may go a byte at a time.
fn volume() -> usize {
    match is_simulated() {
        _ if cfg!(miri) => 2_000,
        true => 20_000,
        false => 1 << 20,
    }
}

/// Bytes that tell where in the stream they belong.
fn pattern(seed: u64, at: usize) -> u8 {
    (at as u64).wrapping_mul(seed * 2 + 1).wrapping_add(at as u64 >> 8) as u8
}

async fn send_much<S: ByteStream>(sender: &S, seed: u64) -> Result {
    let (mut at, volume) = (0, volume());
    while at < volume {
        // Uneven pieces, so that they lie across all buffers there are.
        let until = (at + 1 + at % 7919).min(volume);
        let piece: Vec<u8> = (at..until).map(|at| pattern(seed, at)).collect();
        sender.send_all(&piece).await?;
        at = until;
    }
    Ok(())
}

async fn receive_much<S: ByteStream>(receiver: &S, seed: u64) -> Result {
    let (mut at, volume) = (0, volume());
    while at < volume {
        let some = receiver.receive_some(1 + at % 10_007).await?;
        assert!(!some.is_empty(), "the stream ended at byte {at} of {volume}");
        for byte in some {
            assert_eq!(byte, pattern(seed, at), "byte {at} is another one");
            at += 1;
        }
    }
    Ok(())
}

async fn receive_all<S: ByteStream>(receiver: &S) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let some = receiver.receive_some(1000).await?;
        if some.is_empty() {
            return Ok(all);
        }
        all.extend(some);
    }
}
