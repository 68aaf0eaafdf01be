//! Closing: by `close` and by dropping, in a cancelled scope, and with something under way.

use std::fs;
use std::future::Future;
use std::io;
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::PoisonError;
use std::time::Duration;

use futures::poll;
use trine::net::{TcpListener, TcpStream};
use trine::testing::World;
use trine::time::{Instant, sleep};
use trine::{Builder, CancelScope, Error, Result, nursery, shield, stats};

use crate::common::fewer;
use crate::{
    DESCRIPTORS, HERE, LONG, MOMENT, Peer, assert_pattern, descriptors, pair, pattern, run,
    run_alone, run_with, too_much, turns, watched,
};

/// In a simulated world none but the one asked for is ever open here.
fn is_open(fd: RawFd) -> bool {
    match World::try_current() {
        Some(world) => world.census().descriptors > 0,
        None => fs::exists(format!("/proc/self/fd/{fd}")).unwrap(),
    }
}

/// What is closed, by what is under way in it. That was begun by futures that were dropped: nobody can
/// be waiting for what somebody closes.
const KINDS: &[&str] = fewer(
    &["idle listener", "accepting listener", "idle stream", "recv", "read", "write_all"],
    &["accepting listener", "recv", "write_all"],
);

enum Object {
    Listener(TcpListener),
    /// With its other end.
    Stream(TcpStream, Peer),
}

impl Object {
    async fn make(kind: &str) -> Result<Object> {
        if kind.ends_with("listener") {
            let listener = TcpListener::bind(HERE).await?;
            if kind.starts_with("accepting") {
                begin(listener.accept()).await;
            }
            return Ok(Object::Listener(listener));
        }
        let (stream, peer) = Peer::pair().await?;
        match kind {
            "recv" => begin(stream.recv()).await,
            "read" => begin(stream.read(Vec::with_capacity(10))).await,
            "write_all" => begin(stream.write_all(vec![1; too_much()])).await,
            _ => {}
        }
        Ok(Object::Stream(stream, peer))
    }

    fn fd(&self) -> RawFd {
        match self {
            Object::Listener(listener) => listener.as_raw_fd(),
            Object::Stream(stream, _) => stream.as_raw_fd(),
        }
    }

    /// Closes it; the other end must hear of it.
    fn close(self) -> Pin<Box<dyn Future<Output = Result>>> {
        match self {
            Object::Listener(listener) => Box::pin(listener.close()),
            Object::Stream(stream, peer) => Box::pin(async move {
                let closed = stream.close().await;
                peer.read_to_end().await?;
                closed
            }),
        }
    }
}

/// Hands an operation to the kernel, and drops its future.
async fn begin(operation: impl Future) {
    let mut operation = pin!(operation);
    assert!(poll!(operation.as_mut()).is_pending());
    turns(1).await;
}

// The doc of `close`: when it returns, it is closed, and the kernel has let go of everything.
#[trine::test(kernel = "both", runs = 5)]
fn when_close_returns_the_descriptor_is_closed_and_nothing_is_under_way() {
    run_alone(async || {
        for kind in KINDS {
            let before = (descriptors(), stats().in_kernel);
            let object = Object::make(kind).await?;
            let fd = object.fd();
            assert!(is_open(fd));
            object.close().await?;
            assert!(!is_open(fd), "{kind}");
            assert_eq!((descriptors(), stats().in_kernel), before, "{kind}");
        }
        Ok(())
    });
}

// The doc of `TcpListener::close`.
#[trine::test(kernel = "both")]
fn a_listener_that_was_closed_refuses_connections() {
    run_alone(async || {
        let listener = TcpListener::bind(HERE).await?;
        let at = listener.local_addr()?;
        let waiting = Peer::connect(at)?;
        listener.close().await?;
        let refused = Peer::connect(at).map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        // Whoever was still in the backlog is sent away.
        let ended = waiting.read(&mut [0]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        Ok(())
    });
}

// M2: in a cancelled scope it is closed all the same, and `Cancelled` is what it says.
#[trine::test(kernel = "both", runs = 5)]
fn a_close_in_a_cancelled_scope_closes_and_says_cancelled() {
    run_alone(async || {
        for kind in KINDS {
            let before = (descriptors(), stats().in_kernel);
            let object = Object::make(kind).await?;
            let fd = object.fd();
            let scope = CancelScope::new();
            scope.cancel();
            let closed = scope.run(async |_| {
                let error = object.close().await.expect_err(kind);
                assert!(error.is_cancelled(), "{kind}: {error}");
                assert!(!is_open(fd), "{kind}: still open when it returned");
                Err::<(), _>(error)
            });
            assert!(closed.await?.is_none());
            assert_eq!((descriptors(), stats().in_kernel), before, "{kind}");
        }
        Ok(())
    });
}

// M2: the same if the cancellation comes at any moment of it.
#[trine::test(kernel = "both")]
fn a_close_that_is_cancelled_on_the_way_closes_and_says_cancelled() {
    run_alone(async || {
        let delayed = KINDS.iter().flat_map(|kind| (0..3).map(move |delay| (kind, delay)));
        for (kind, delay) in delayed.step_by(fewer(1, 4)) {
            let before = (descriptors(), stats().in_kernel);
            let object = Object::make(kind).await?;
            let fd = object.fd();
            let scope = CancelScope::new();
            let closed = scope.run(async |scope| {
                let mut close = object.close();
                assert!(poll!(&mut close).is_pending(), "{kind}");
                turns(delay).await;
                scope.cancel();
                let closed = close.await;
                assert!(!is_open(fd), "{kind}, {delay}: still open when it returned");
                closed
            });
            assert!(closed.await?.is_none(), "{kind}, {delay}");
            assert_eq!((descriptors(), stats().in_kernel), before, "{kind}, {delay}");
        }
        Ok(())
    });
}

// G1, M2: behind a shield there is nothing to say.
#[trine::test(kernel = "both", runs = 5)]
fn a_shielded_close_in_a_cancelled_scope_succeeds() {
    run_alone(async || {
        for kind in KINDS {
            let object = Object::make(kind).await?;
            let fd = object.fd();
            let scope = CancelScope::new();
            scope.cancel();
            let closed = scope.run(async |_| shield(object.close()).await);
            assert_eq!(closed.await?, Some(()), "{kind}");
            assert!(!is_open(fd), "{kind}");
        }
        Ok(())
    });
}

// F12, E11: a `close` that is dropped closes too, by the time that the scope around is left.
#[trine::test(kernel = "both", runs = 5)]
fn a_close_that_is_dropped_on_the_way_closes() {
    run_alone(async || {
        let polled = KINDS.iter().flat_map(|kind| (0..4).map(move |polls| (kind, polls)));
        for (kind, polls) in polled.step_by(fewer(1, 5)) {
            let before = (descriptors(), stats().in_kernel);
            nursery(async |_| {
                let mut close = Object::make(kind).await?.close();
                for _ in 0..polls {
                    if poll!(&mut close).is_ready() {
                        break;
                    }
                    turns(1).await;
                }
                Ok(())
            })
            .await?;
            assert_eq!((descriptors(), stats().in_kernel), before, "{kind}, {polls}");
        }
        Ok(())
    });
}

// E11, F12: what is dropped is closed by the time that the scope around is left, cancelled or not.
#[trine::test(kernel = "both", runs = 5)]
fn a_scope_is_left_only_when_what_was_dropped_in_it_is_closed() {
    run_alone(async || {
        let cancelled = KINDS.iter().flat_map(|kind| [false, true].map(|how| (kind, how)));
        for (kind, cancel) in cancelled.step_by(fewer(1, 3)) {
            let before = (descriptors(), stats().in_kernel);
            let scope = CancelScope::new();
            let left = scope.run(async |scope| {
                let object = Object::make(kind).await?;
                if cancel {
                    scope.cancel();
                }
                drop(object);
                Ok(())
            });
            assert_eq!(left.await?, Some(()), "E5");
            assert_eq!((descriptors(), stats().in_kernel), before, "{kind}, {cancel}");
        }
        Ok(())
    });
}

// P1: what is dropped with nothing but the run around it is closed when the run returns.
#[trine::test(kernel = "both", runs = 5)]
fn a_run_returns_only_when_what_was_dropped_in_it_is_closed() {
    for kind in KINDS {
        run_alone(async || {
            drop(Object::make(kind).await?);
            Ok(())
        });
    }
}

// D5: the number of a descriptor is not given to anybody else while the kernel works on it.
#[trine::test(kernel = "both")]
fn a_dropped_stream_keeps_its_descriptor_until_the_kernel_has_let_go() {
    run_alone(async || {
        for kind in ["recv", "read", "write_all"] {
            let object = Object::make(kind).await?;
            let (fd, waiting) = (object.fd(), stats().in_kernel);
            drop(object);
            assert_eq!((is_open(fd), stats().in_kernel), (true, waiting), "{kind}");
            turns(5).await;
            assert_eq!((is_open(fd), stats().in_kernel), (false, waiting - 1), "{kind}");
        }
        Ok(())
    });
}

// A close waits for nobody at the other end: what was written goes out by itself.
#[trine::test(kernel = "both", runs = 5)]
fn everything_that_was_written_arrives_before_the_end() {
    const LEN: usize = fewer(1 << 20, 8 << 10);
    run(async || {
        for drop_it in [false, true] {
            let (stream, peer) = Peer::pair().await?;
            let (sent, _) = stream.write(pattern(0, LEN)).await?;
            if drop_it {
                nursery(async |_| {
                    drop(stream);
                    Ok(())
                })
                .await?;
            } else {
                stream.close().await?;
            }
            let bytes = peer.read_to_end().await?;
            assert_eq!(bytes.len(), sent);
            assert_pattern(0, &bytes);
        }
        Ok(())
    });
}

// Half-closed: the one end has said everything, the other one answers, then both close.
#[trine::test(kernel = "both")]
fn a_half_closed_connection_carries_the_answer() {
    run(async || {
        let (client, server) = pair().await?;
        nursery(async |n| {
            n.spawn(async move {
                let mut question = Vec::new();
                while let Some(chunk) = server.recv().await? {
                    question.extend_from_slice(&chunk);
                }
                assert_eq!(question, b"how much is the fish?");
                server.write_all(question.len().to_string()).await?;
                server.close().await
            });
            client.write_all("how much ").await?;
            client.write_all("is the fish?").await?;
            client.shutdown(Shutdown::Write).await?;
            assert_eq!(client.recv().await?.unwrap(), *b"21");
            assert!(client.recv().await?.is_none());
            client.close().await
        })
        .await
    });
}

// D7: only when the object is gone is what it kept disposed of.
#[trine::test(kernel = "both")]
fn bytes_that_nobody_read_go_back_to_the_pool_with_their_stream() {
    let plain = Builder::new().pool_incremental(false);
    run_with(plain, async || {
        for drop_it in [false, true] {
            nursery(async |_| {
                let (stream, peer) = Peer::pair().await?;
                begin(stream.recv()).await;
                for piece in [b"abc", b"def"] {
                    peer.write_all(piece).await?;
                    turns(2).await;
                }
                assert_eq!(stats().pool_leased, 2, "both wait for a reader");
                if drop_it {
                    drop(stream);
                    return Ok(());
                }
                stream.close().await?;
                assert_eq!((stats().pool_leased, stats().in_kernel), (0, 0));
                Ok(())
            })
            .await?;
            assert_eq!((stats().pool_leased, stats().in_kernel), (0, 0));
        }
        Ok(())
    });
}

// However a connection has ended, closing what is left of it is no error.
#[trine::test(kernel = "both")]
fn a_connection_that_has_ended_is_closed_without_an_error() {
    run(async || {
        // Reset, unnoticed and noticed.
        for notice in [false, true] {
            let (stream, peer) = Peer::pair().await?;
            peer.reset();
            if notice {
                let error = stream.recv().await.unwrap_err();
                assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionReset));
            }
            stream.close().await?;
        }
        // Shut on both ends.
        let (stream, peer) = Peer::pair().await?;
        stream.shutdown(Shutdown::Both).await?;
        drop(peer);
        stream.close().await?;
        // Broken.
        let (stream, _peer) = Peer::pair().await?;
        begin(stream.write_all(vec![0; too_much()])).await;
        turns(1).await;
        let broken = stream.write_all("x").await.unwrap_err();
        assert!(matches!(broken.error, Error::Broken(_)));
        stream.close().await
    });
}

// A peer that does not read keeps a writer waiting, and neither a close nor the end of a run.
#[trine::test(kernel = "both")]
fn closing_does_not_wait_for_a_peer_that_does_not_read() {
    let _others = DESCRIPTORS.read().unwrap_or_else(PoisonError::into_inner);
    let peer = watched(Builder::new(), async || {
        let (stream, peer) = Peer::pair().await?;
        begin(stream.write_all(vec![1; too_much()])).await;
        stream.close().await?;
        Ok(peer)
    });
    watched(Builder::new(), async || {
        let bytes = peer.read_to_end().await?;
        assert!((1..too_much()).contains(&bytes.len()), "{}", bytes.len());
        Ok(())
    });
}

fn lingering(time: Duration) -> libc::linger {
    libc::linger { l_onoff: 1, l_linger: time.as_secs() as i32 }
}

/// Sets what the standard library does not.
fn set<T: Copy>(socket: &impl AsRawFd, name: i32, value: T) {
    let (fd, size) = (socket.as_raw_fd(), size_of::<T>() as u32);
    // SAFETY: the value is of the length that is said, and what it points to is still there.
    let set =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, (&raw const value).cast(), size) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// A client that answers nothing any more once it is connected, and so keeps whoever lingers waiting.
fn mute_client(at: SocketAddr) -> io::Result<net::TcpStream> {
    let client = net::TcpStream::connect(at)?;
    let mut nothing =
        libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    let filter = libc::sock_fprog { len: 1, filter: &raw mut nothing };
    set(&client, libc::SO_ATTACH_FILTER, filter);
    // It ends with a reset, so that nobody lingers longer than it is there.
    set(&client, libc::SO_LINGER, lingering(Duration::ZERO));
    Ok(client)
}

// The same of a connection that inherits it of a listener from elsewhere.
#[test]
fn what_a_lingering_listener_accepts_holds_nobody_up() {
    run(async || {
        let inherited = net::TcpListener::bind(HERE)?;
        set(&inherited, libc::SO_LINGER, lingering(LONG));
        let listener = TcpListener::from_fd(OwnedFd::from(inherited))?;
        let client = TcpStream::connect_addr(listener.local_addr()?).await?;
        let (stream, _) = listener.accept().await?;
        assert_eq!(stream.linger()?, Some(LONG));
        begin(stream.write_all(vec![0; too_much()])).await;
        turns(1).await;
        let began = Instant::now();
        drop(stream);
        turns(2).await;
        assert!(began.elapsed() < LONG / 2, "it lingered here");
        assert!(!client.recv().await?.expect("what went out before arrives").is_empty());
        Ok(())
    });
}

// The same of connections that nobody has taken when the listener goes.
#[test]
fn what_nobody_takes_of_a_lingering_listener_holds_nobody_up() {
    run(async || {
        for way in ["drop", "close", "into_fd"] {
            let inherited = net::TcpListener::bind(HERE)?;
            set(&inherited, libc::SO_LINGER, lingering(LONG));
            let at = inherited.local_addr()?;
            let clients: Vec<_> = (0..3).map(|_| mute_client(at)).collect::<io::Result<_>>()?;
            let listener = TcpListener::from_fd(OwnedFd::from(inherited))?;
            begin(listener.accept()).await;
            turns(1).await;
            let began = Instant::now();
            match way {
                "drop" => drop(listener),
                "close" => listener.close().await?,
                _ => drop(listener.into_fd().await.expect_err("there are connections")),
            }
            turns(2).await;
            assert!(began.elapsed() < LONG / 2, "{way}: it lingered here");
            drop(clients);
        }
        Ok(())
    });
}

// The doc of `set_linger`: nobody waits for the peer in the run's thread.
#[trine::test(kernel = "both")]
fn a_close_that_lingers_holds_nobody_up() {
    run(async || {
        let (stream, peer) = Peer::pair().await?;
        stream.set_linger(Some(LONG))?;
        begin(stream.write_all(vec![0; too_much()])).await;
        turns(1).await;
        let began = Instant::now();
        stream.close().await?;
        sleep(MOMENT).await?;
        assert!(began.elapsed() < LONG / 2, "it lingered here");
        assert!(!peer.read_to_end().await?.is_empty(), "what went out before arrives");
        Ok(())
    });
}

/// Somebody else can shut a listener, as no program does to its own: the kernel calls that an invalid argument,
/// and that is no lack of the kernel's.
#[test]
fn a_listener_that_was_shut_elsewhere_costs_the_others_nothing() {
    run(async || {
        let listener = TcpListener::bind(HERE).await?;
        let duplicate = std::net::TcpStream::from(listener.duplicate()?.into_owned_fd()?);
        let mut accept = pin!(listener.accept());
        assert!(poll!(accept.as_mut()).is_pending());
        turns(2).await;
        duplicate.shutdown(Shutdown::Both)?;
        let error = accept.await.unwrap_err();
        assert_eq!(error.io_kind(), Some(io::ErrorKind::InvalidInput));
        let other = TcpListener::bind(HERE).await?;
        let before = stats().submitted;
        let mut connections = Vec::new();
        for _connection in 0..5 {
            let peer = Peer::connect(other.local_addr()?)?;
            connections.push((other.accept().await?, peer));
        }
        assert_eq!(stats().submitted - before, 1, "one accept for all of them");
        Ok(())
    });
}
