//! Buffers and wakers whose code panics, or calls back: what is lost with them is theirs alone.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use futures::poll;
use trine::{Builder, Error, IoBuf, IoBufMut, Result, stats};

use crate::common::{BUDGET, Peer, turns, within};

/// A wait that nothing ends is an error here, and not a hang.
fn run(main: impl AsyncFnOnce() -> Result) {
    within(20, || Builder::new().detect_deadlock(true).run(main)).expect("the test's main failed");
}

/// A buffer that does something when it is dropped.
struct Noisy<F: FnMut() + 'static> {
    bytes: Vec<u8>,
    dropped: F,
}

fn noisy<F: FnMut()>(dropped: F) -> Noisy<F> {
    Noisy { bytes: vec![7; 16], dropped }
}

impl<F: FnMut()> Drop for Noisy<F> {
    fn drop(&mut self) {
        (self.dropped)();
    }
}

// SAFETY: the vector keeps the promises.
unsafe impl<F: FnMut() + 'static> IoBuf for Noisy<F> {
    fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: as above.
unsafe impl<F: FnMut() + 'static> IoBufMut for Noisy<F> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    unsafe fn set_len(&mut self, len: usize) {
        // SAFETY: the caller promises the same.
        unsafe { self.bytes.set_len(len) };
    }
}

/// Polls a future once, lets turns go by, and drops it.
async fn drop_on_the_way(future: impl Future) {
    let mut future = Box::pin(future);
    assert!(poll!(&mut future).is_pending());
    turns(2).await;
}

/// Does what is to panic.
fn panics<T>(what: impl FnOnce() -> T) {
    assert!(catch_unwind(AssertUnwindSafe(what)).is_err());
}

fn poll_once<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

// The promise of `IoBuf` says nothing of panics: the buffer is dropped as any other value is.
#[trine::test(kernel = "both")]
fn a_buffer_that_panics_when_it_is_asked_is_dropped() {
    struct Silent(#[expect(dead_code, reason = "held to be counted")] Rc<()>);
    // SAFETY: it never says anything.
    unsafe impl IoBuf for Silent {
        fn as_ptr(&self) -> *const u8 {
            panic!("it does not tell")
        }

        fn len(&self) -> usize {
            1
        }
    }
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        let shares = Rc::new(());
        panics(|| drop(stream.write(Silent(Rc::clone(&shares)))));
        assert_eq!(Rc::strong_count(&shares), 1);
        stream.write_all("x").await.map(drop).map_err(Error::from)
    });
}

// D7: what a receive has got stays with the stream, also if the waker panics that it is to wait with
// because the budget is spent (rule A2).
#[trine::test(kernel = "both")]
fn bytes_outlive_a_panic_of_the_waker() {
    const PANICS: RawWakerVTable =
        RawWakerVTable::new(|_| panic!("it is not cloned"), |_| {}, |_| {}, |_| {});
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        drop_on_the_way(stream.recv()).await;
        peer.write_all(b"one").await?;
        turns(3).await;
        for _ in 0..BUDGET {
            stream.write(Vec::new()).await?;
        }
        // SAFETY: no function of the table uses the pointer.
        let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &PANICS)) };
        let mut receive = stream.recv();
        panics(|| poll_once(&mut receive, &waker));
        drop(receive);
        peer.write_all(b"two").await?;
        assert_eq!(stream.recv().await?.unwrap(), *b"one");
        Ok(())
    });
}

// The doc of `TcpStream`: only a living writer makes another one `Busy`.
#[trine::test(kernel = "both")]
fn a_write_that_is_polled_after_its_end_does_not_hold_the_half() {
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        let mut ended = Box::pin(stream.write_all("x"));
        (&mut ended).await?;
        panics(|| poll_once(&mut ended, Waker::noop()));
        let other = stream.write_all("y").await;
        assert!(other.is_ok(), "{:?}", other.unwrap_err().error);
        drop(ended);
        Ok(())
    });
}

// E11: the half is given back first. The read waits for the end of a former one, so it has its buffer.
#[trine::test(kernel = "both")]
fn a_buffer_that_panics_with_a_dropped_read_leaves_the_half_free() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        drop_on_the_way(stream.recv()).await;
        let mut read = Box::pin(stream.read(noisy(|| panic!("dropped"))));
        assert!(poll!(&mut read).is_pending());
        panics(|| drop(read));
        peer.write_all(b"abc").await?;
        assert_eq!(stream.recv().await?.unwrap(), *b"abc");
        Ok(())
    });
}

// P2: nothing is borrowed while the buffer of a dropped read is dropped.
#[trine::test(kernel = "both")]
fn a_buffer_that_is_dropped_by_a_close_may_look_at_the_run() {
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        let seen = Rc::new(Cell::new(0));
        let count = Rc::clone(&seen);
        drop_on_the_way(stream.read(noisy(move || count.set(stats().tasks)))).await;
        stream.close().await?;
        assert_eq!(seen.get(), 1);
        Ok(())
    });
}

// D7: of a dropped write something went out, whatever its buffer does afterwards.
#[trine::test(kernel = "both")]
fn a_buffer_that_panics_with_a_dropped_write_leaves_the_half_broken() {
    run(async || {
        let (stream, _peer) = Peer::pair().await?;
        drop_on_the_way(stream.write_all(noisy(|| panic!("dropped")))).await;
        turns(2).await;
        let mut next = Box::pin(stream.write_all("y"));
        panics(|| poll_once(&mut next, Waker::noop()));
        drop(next);
        let third = stream.write_all("z").await.unwrap_err();
        assert!(matches!(third.error, Error::Broken(_)), "{third:?}");
        Ok(())
    });
}

// D7: the bytes of a dropped read stay with the stream, whatever its buffer does when it is dropped.
#[trine::test(kernel = "both")]
fn a_buffer_that_panics_with_a_dropped_read_loses_no_byte() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        peer.write_all(b"abc").await?;
        drop_on_the_way(stream.read(noisy(|| panic!("dropped")))).await;
        turns(2).await;
        let mut receive = stream.recv();
        panics(|| poll_once(&mut receive, Waker::noop()));
        drop(receive);
        assert_eq!(stream.recv().await?.unwrap(), *b"abc");
        Ok(())
    });
}
