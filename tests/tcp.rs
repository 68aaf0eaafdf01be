//! TCP: listening, accepting, connecting (this file), and what goes over a connection (those below).

#[path = "tcp/closing.rs"]
mod closing;
mod common;
#[path = "tcp/connecting.rs"]
mod connecting;
#[path = "tcp/options.rs"]
mod options;
#[path = "tcp/pool.rs"]
mod pool;
#[path = "tcp/receiving.rs"]
mod receiving;
#[path = "tcp/sending.rs"]
mod sending;
#[path = "tcp/zero_copy.rs"]
mod zero_copy;

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::ops::AsyncFnOnce;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::process::Command;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::poll;
use trine::net::{Address, TcpListener, TcpStream};
use trine::testing::World;
use trine::{Builder, CancelScope, Error, Result, move_on_after, nursery, stats};

use common::{Peer, descriptors, fewer, pair, turns};

const HERE: &str = "127.0.0.1:0";
const MOMENT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(60);

/// Descriptors are counted for the whole process: whoever counts them has to be alone.
static DESCRIPTORS: RwLock<()> = RwLock::new(());

/// Runs a test.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    run_with(Builder::new(), main)
}

#[track_caller]
fn run_with<T>(builder: Builder, main: impl AsyncFnOnce() -> Result<T>) -> T {
    let _others = DESCRIPTORS.read().unwrap_or_else(PoisonError::into_inner);
    watched(builder, main)
}

/// Runs a test that counts descriptors, or minds who else is given a port; afterwards there have to
/// be as many as before. (In a simulated world that is seen to anyway.)
#[track_caller]
fn run_alone<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let _alone = DESCRIPTORS.write().unwrap_or_else(PoisonError::into_inner);
    let before = descriptors();
    let value = watched(Builder::new(), main);
    common::assert_no_more(before);
    value
}

/// What nothing can wake any more is an error here, and not a hang.
#[track_caller]
fn watched<T>(builder: Builder, main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(20, || builder.detect_deadlock(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// More than the kernel takes for a peer that does not read. The simulated one takes 64 KiB, under Miri
/// 4 KiB, and looks more than once at every byte that it is lent.
fn too_much() -> usize {
    if World::try_current().is_some() { fewer(512 << 10, 5 << 10) } else { 24 << 20 }
}

/// A byte tells where in the stream it belongs, up to a period that no buffer's size divides.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let rest = &period()[(from + bytes.len()) % PERIOD..];
        bytes.extend_from_slice(&rest[..rest.len().min(len - bytes.len())]);
    }
    bytes
}

#[track_caller]
fn assert_pattern(from: usize, bytes: &[u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let rest = &period()[(from + at) % PERIOD..];
        let end = bytes.len().min(at + rest.len());
        assert!(bytes[at..end] == rest[..end - at], "wrong within {}..{}", from + at, from + end);
        at = end;
    }
}

/// Reads the pattern to its end, a piece at a time and with a pause after each; says how long it was.
async fn read_pattern(peer: &Peer, piece: usize, pause: impl AsyncFn() -> Result) -> Result<usize> {
    let (mut buf, mut at) = (vec![0; piece], 0);
    loop {
        let count = peer.read(&mut buf).await?;
        if count == 0 {
            return Ok(at);
        }
        assert_pattern(at, &buf[..count]);
        at += count;
        pause().await?;
    }
}

const PERIOD: usize = fewer(65_521, 1_021);

fn period() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut random = 1_u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 24) as u8
        };
        (0..PERIOD).map(|_| next()).collect()
    })
}

#[track_caller]
fn errno(error: &Error) -> i32 {
    match error {
        Error::Io(error) => error.raw_os_error().expect("of the operating system"),
        other => panic!("not of the operating system: {other}"),
    }
}

// The doc of `bind`, and of `Address`: every form of an address leads to a listener that is there.
#[trine::test(kernel = "both")]
fn a_listener_binds_to_addresses_and_names_of_every_form() {
    let here = IpAddr::from(Ipv4Addr::LOCALHOST);
    let v4: [Address; 5] = [
        SocketAddr::from((here, 0)).into(),
        (here, 0).into(),
        ("127.0.0.1", 0).into(),
        HERE.into(),
        String::from(HERE).into(),
    ];
    let names: [Address; 2] = [("localhost", 0).into(), "localhost:0".into()];
    run_alone(async || {
        for address in v4.into_iter().chain(names) {
            let said = format!("{address:?}");
            let listener = TcpListener::bind(address).await?;
            let to = listener.local_addr()?;
            assert!(to.ip().is_loopback() && to.port() != 0, "{said}: {to}");
            let client = TcpStream::connect_addr(to).await?;
            let (server, peer) = listener.accept().await?;
            assert_eq!((peer, to), (client.local_addr()?, client.peer_addr()?), "{said}");
            assert_eq!((peer, to), (server.peer_addr()?, server.local_addr()?), "{said}");
        }
        Ok(())
    });
}

/// Whether there is IPv6 here.
fn has_ipv6() -> bool {
    let simulated = World::try_current().is_some();
    let has = simulated || std::net::TcpListener::bind("[::1]:0").is_ok();
    if !has {
        println!("skipped: no IPv6 here");
    }
    has
}

// The docs of `local_addr` and `peer_addr`.
#[trine::test(kernel = "both")]
fn a_connection_over_ipv6_names_both_of_its_ends() {
    run(async || {
        for address in [Address::from("[::1]:0"), ("::1", 0).into()] {
            if !has_ipv6() {
                break;
            }
            let listener = TcpListener::bind(address).await?;
            let client = TcpStream::connect_addr(listener.local_addr()?).await?;
            let (server, peer) = listener.accept().await?;
            assert!(peer.is_ipv6());
            assert_eq!(peer, client.local_addr()?);
            assert_eq!(client.peer_addr()?, server.local_addr()?);
        }
        Ok(())
    });
}

// The doc of `bind`: an IPv6 listener takes IPv6 only.
#[trine::test(kernel = "both")]
fn all_of_ipv6_and_all_of_ipv4_are_listened_to_side_by_side() {
    run_alone(async || {
        if has_ipv6() {
            let six = TcpListener::bind("[::]:0").await?;
            let port = six.local_addr()?.port();
            let four = TcpListener::bind(("0.0.0.0", port)).await?;
            let peer = Peer::connect((Ipv4Addr::LOCALHOST, port).into())?;
            assert_eq!(four.accept().await?.1, peer.local_addr()?);
            let peer = Peer::connect((Ipv6Addr::LOCALHOST, port).into())?;
            assert_eq!(six.accept().await?.1, peer.local_addr()?);
        }
        Ok(())
    });
}

// The doc of `bind`: the error is what the operating system says of the address.
#[trine::test(kernel = "both")]
fn what_cannot_be_listened_to_is_an_error_and_leaves_no_descriptor() {
    run_alone(async || {
        let taken = TcpListener::bind(HERE).await?;
        let before = descriptors();
        let twice = TcpListener::bind(taken.local_addr()?).await.unwrap_err();
        assert_eq!(twice.io_kind(), Some(io::ErrorKind::AddrInUse));
        // An address for documentation, which nobody has; a simulated machine has every address.
        if World::try_current().is_none() {
            let foreign = TcpListener::bind("192.0.2.1:0").await.unwrap_err();
            assert_eq!(foreign.io_kind(), Some(io::ErrorKind::AddrNotAvailable));
        }
        for nonsense in ["", "127.0.0.1", "localhost:port", "localhost:65536"] {
            let error = TcpListener::bind(nonsense).await.unwrap_err();
            assert_eq!(error.io_kind(), Some(io::ErrorKind::InvalidInput), "{nonsense:?}");
        }
        assert_eq!(descriptors(), before);
        Ok(())
    });
}

// The doc of `reuse_port`. The tame kernel would give all of them to the first.
#[trine::test(kernel = "both", seed = 1, faults = "none")]
fn listeners_share_a_port_only_if_all_of_them_say_so() {
    run_alone(async || {
        let shared = || TcpListener::builder().reuse_port(true);
        let first = shared().bind(HERE).await?;
        let at = first.local_addr()?;
        let alone = shared().reuse_port(false).bind(at).await.unwrap_err();
        assert_eq!(alone.io_kind(), Some(io::ErrorKind::AddrInUse));
        let second = shared().bind(at).await?;
        assert_eq!(second.local_addr()?, at);
        // The kernel gives each of them some.
        let peers: Vec<_> =
            (0..fewer(64, 8)).map(|_| Peer::connect(at)).collect::<io::Result<_>>()?;
        let mut accepted = [0; 2];
        for (listener, accepted) in [&first, &second].into_iter().zip(&mut accepted) {
            while move_on_after(MOMENT, async |_| listener.accept().await).await?.is_some() {
                *accepted += 1;
            }
        }
        assert_eq!(accepted[0] + accepted[1], peers.len());
        assert!(!accepted.contains(&0), "{accepted:?}");
        // When one closes the port is the other's.
        first.close().await?;
        let peer = Peer::connect(at)?;
        assert_eq!(second.accept().await?.1, peer.local_addr()?);
        Ok(())
    });
}

// The doc of `bind`: `SO_REUSEADDR`, so that a server can be started again at once.
#[trine::test(kernel = "both")]
fn an_address_can_be_listened_to_again_while_old_connections_linger_there() {
    run_alone(async || {
        let listener = TcpListener::bind(HERE).await?;
        let at = listener.local_addr()?;
        let peer = Peer::connect(at)?;
        let (stream, _) = listener.accept().await?;
        // Whoever closes first has to keep the port for a minute.
        stream.close().await?;
        assert_eq!(peer.read(&mut [0]).await?, 0);
        drop(peer);
        listener.close().await?;
        let again = TcpListener::bind(at).await?;
        let peer = Peer::connect(at)?;
        assert_eq!(again.accept().await?.1, peer.local_addr()?);
        Ok(())
    });
}

// A8: in a cancelled scope nothing is bound, and no name is looked up.
#[trine::test(kernel = "both")]
fn in_a_cancelled_scope_nothing_is_listened_to() {
    run_alone(async || {
        let before = descriptors();
        for address in [HERE, "localhost:0"] {
            let scope = CancelScope::new();
            scope.cancel();
            let bound = scope.run(async |_| match poll!(pin!(TcpListener::bind(address))) {
                Poll::Ready(bound) => bound,
                Poll::Pending => panic!("something was begun for {address}"),
            });
            assert!(bound.await?.is_none());
        }
        assert_eq!(descriptors(), before);
        Ok(())
    });
}

// D2: total, and the thread that looks the name up is left alone (in a simulated world there is none).
#[test]
fn a_bind_that_is_cancelled_while_its_name_is_looked_up_has_bound_nothing() {
    run_alone(async || {
        // Now and then it is found before anybody looks.
        for _ in 0..100 {
            let scope = CancelScope::new();
            let bound = scope.run(async |scope| {
                let mut bind = pin!(TcpListener::bind("localhost:0"));
                if let Poll::Ready(bound) = poll!(bind.as_mut()) {
                    return bound;
                }
                scope.cancel();
                bind.await
            });
            match bound.await? {
                Some(bound) => bound.close().await?,
                None => return Ok(()),
            }
        }
        panic!("it was never cancelled");
    });
}

// The docs of `bind` and `connect_addr`.
#[trine::test(kernel = "both")]
fn outside_of_a_run_nothing_is_opened() {
    let mut cx = Context::from_waker(Waker::noop());
    let bound = pin!(TcpListener::bind(HERE)).poll(&mut cx);
    assert!(matches!(bound, Poll::Ready(Err(Error::NoRun))));
    let built = pin!(TcpListener::builder().backlog(3).bind("localhost:0")).poll(&mut cx);
    assert!(matches!(built, Poll::Ready(Err(Error::NoRun))));
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let connected = pin!(TcpStream::connect_addr(to)).poll(&mut cx);
    assert!(matches!(connected, Poll::Ready(Err(Error::NoRun))));
}

/// An address where nobody answers: the backlog is full, and the kernel drops what comes besides.
struct Silent {
    listener: TcpListener,
    waiting: Vec<Peer>,
}

impl Silent {
    async fn listen() -> Result<Silent> {
        let listener = TcpListener::builder().backlog(1).bind(HERE).await?;
        let to = listener.local_addr()?;
        let mut waiting = Vec::new();
        while let Ok(peer) = Peer::connect_within(MOMENT, to) {
            waiting.push(peer);
            assert!(waiting.len() < 10, "a backlog of one takes {} connections", waiting.len());
        }
        Ok(Silent { listener, waiting })
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

// The doc of `backlog`.
#[trine::test(kernel = "both")]
fn a_backlog_holds_as_many_connections_as_it_was_told_to() {
    run(async || {
        let small = Silent::listen().await?;
        assert!(!small.waiting.is_empty());
        for peer in &small.waiting {
            assert_eq!(small.listener.accept().await?.1, peer.local_addr()?);
        }
        let large = TcpListener::bind(HERE).await?;
        for _ in 0..fewer(50, 5) {
            Peer::connect_within(LONG, large.local_addr()?)?;
        }
        Ok(())
    });
}

// A multishot is paused when nobody takes its results, and goes on when somebody does.
#[trine::test(kernel = "both", runs = 5)]
fn hundreds_of_connections_are_accepted_each_once_and_in_order() {
    run(async || {
        let listener = TcpListener::bind(HERE).await?;
        let to = listener.local_addr()?;
        // Arms the multishot, and takes nothing of what it brings.
        let mut first = pin!(listener.accept());
        assert!(poll!(first.as_mut()).is_pending());
        let mut peers = Vec::new();
        for &count in fewer(&[1, 20, 80, 200][..], &[1, 17]) {
            for _ in 0..count {
                peers.push(Peer::connect(to)?);
            }
            turns(2).await;
        }
        let mut accepted = vec![first.await?];
        while accepted.len() < peers.len() {
            accepted.push(listener.accept().await?);
        }
        for (peer, (stream, address)) in peers.iter().zip(&accepted) {
            assert_eq!(peer.local_addr()?, *address);
            assert_eq!(stream.peer_addr()?, *address);
            assert!(stream.nodelay()?);
        }
        assert!(move_on_after(MOMENT, async |_| listener.accept().await).await?.is_none());
        Ok(())
    });
}

// The doc of `accept`: errors of a connection that died in the queue are passed over.
#[trine::test(kernel = "both")]
fn connections_that_reset_before_they_are_accepted_are_skipped_and_closed() {
    run_alone(async || {
        let listener = TcpListener::bind(HERE).await?;
        let to = listener.local_addr()?;
        let before = descriptors();
        for _ in 0..fewer(40, 5) {
            Peer::connect(to)?.reset();
        }
        let good = Peer::connect(to)?;
        Peer::connect(to)?.reset();
        let (accepted, address) = listener.accept().await?;
        assert_eq!(address, good.local_addr()?);
        // Only reset ones are left: they are no connections.
        assert!(move_on_after(MOMENT, async |_| listener.accept().await).await?.is_none());
        accepted.close().await?;
        drop(good);
        assert_eq!(descriptors(), before);
        Ok(())
    });
}

/// In a process of its own, because how many descriptors it may have is said for all of it.
const FEW_DESCRIPTORS: &str = "TRINE_TEST_FEW_DESCRIPTORS";

// The doc of `accept`: the connection stays queued and the listener usable.
#[test]
fn a_listener_without_free_descriptors_says_so_and_works_again_when_there_is_one() {
    let name = "a_listener_without_free_descriptors_says_so_and_works_again_when_there_is_one";
    if std::env::var_os(FEW_DESCRIPTORS).is_none() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 50 && exec \"$0\" \"$@\""]);
        let ours = shell.arg(std::env::current_exe().unwrap()).args([name, "--exact"]);
        // What comes out of it comes through descriptors of ours.
        let _others = DESCRIPTORS.read().unwrap_or_else(PoisonError::into_inner);
        let output = ours.env(FEW_DESCRIPTORS, "yes").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
        return;
    }
    run(async || {
        let listener = TcpListener::bind(HERE).await?;
        let to = listener.local_addr()?;
        let peers = [Peer::connect(to)?, Peer::connect(to)?];
        let mut hoard = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            hoard.push(file);
        }
        for _ in 0..3 {
            assert_eq!(errno(&listener.accept().await.unwrap_err()), libc::EMFILE);
        }
        assert_eq!(errno(&TcpListener::bind(HERE).await.unwrap_err()), libc::EMFILE);
        assert_eq!(errno(&TcpStream::connect_addr(to).await.unwrap_err()), libc::EMFILE);
        let mut accepted = Vec::new();
        for peer in &peers {
            hoard.pop();
            let next = match listener.accept().await {
                // Between two accepts the kernel tried on its own, before the one was free.
                Err(error) if errno(&error) == libc::EMFILE => listener.accept().await?,
                accepted => accepted?,
            };
            assert_eq!(next.1, peer.local_addr()?);
            accepted.push(next);
        }
        Ok(())
    });
}

// Rule D4: a kernel without multishots refuses one with what every kernel says of a listener that somebody
// has shut. Such an accept is tried once more, alone, and then that is what is wrong.
#[test]
fn an_accept_from_a_listener_that_was_shut_is_an_error() {
    run(async || {
        let listener = TcpListener::bind(HERE).await?;
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) }, 0);
        for _ in 0..2 {
            let accepted =
                move_on_after(Duration::from_secs(10), async |_| listener.accept().await);
            let refused = accepted.await.expect_err("it does not try for ever");
            assert_eq!(errno(&refused), libc::EINVAL);
        }
        Ok(())
    });
}

// The doc of `TcpStream` and `accept`: `Busy` for the second, and none after the first was dropped.
#[trine::test(kernel = "both", runs = 5)]
fn one_task_at_a_time_waits_for_a_connection() {
    run(async || {
        let listener = TcpListener::bind(HERE).await?;
        let mut peers = Vec::new();
        for _ in 0..3 {
            {
                let mut first = pin!(listener.accept());
                assert!(poll!(first.as_mut()).is_pending());
                assert!(matches!(listener.accept().await, Err(Error::Busy("the listener"))));
                turns(1).await;
                assert!(matches!(listener.accept().await, Err(Error::Busy(_))));
                peers.push(Peer::connect(listener.local_addr()?)?);
                assert_eq!(first.as_mut().await?.1, peers.last().unwrap().local_addr()?);
                // Awaited again, it waits again.
                assert!(poll!(first.as_mut()).is_pending());
                assert!(matches!(listener.accept().await, Err(Error::Busy(_))));
            }
            // The last one was dropped.
            peers.push(Peer::connect(listener.local_addr()?)?);
            assert_eq!(listener.accept().await?.1, peers.last().unwrap().local_addr()?);
        }
        Ok(())
    });
}

// D1, D2, D7: total. Cancelled means that no connection was taken away.
#[trine::test(kernel = "both", runs = 5)]
fn a_cancelled_accept_leaves_the_connection_to_the_next_one() {
    run(async || {
        let listener = TcpListener::bind(HERE).await?;
        let to = listener.local_addr()?;
        let mut waiting = pin!(listener.accept());
        let waited = move_on_after(MOMENT, async |_| waiting.as_mut().await).await?;
        assert!(waited.is_none());
        let peer = Peer::connect(to)?;
        // In a cancelled scope it is not even tried.
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.run(async |_| listener.accept().await).await?.is_none());
        // The one that was cancelled starts anew.
        assert_eq!(waiting.await?.1, peer.local_addr()?);
        Ok(())
    });
}

// D4, D7: the connection comes in the turn of the cancellation; whoever wins, it is not lost.
#[trine::test(kernel = "both", runs = 5)]
fn a_connection_that_comes_with_the_cancellation_is_not_lost() {
    run(async || {
        let listener = TcpListener::bind(HERE).await?;
        let to = listener.local_addr()?;
        for delay in 0..6 {
            let scope = CancelScope::new();
            let (mut peer, mut accepted) = (None, None);
            scope
                .run(async |scope| {
                    let mut waiting = pin!(listener.accept());
                    assert!(poll!(waiting.as_mut()).is_pending());
                    turns(delay / 2).await;
                    if delay % 2 == 0 {
                        scope.cancel();
                        peer = Some(Peer::connect(to)?);
                    } else {
                        peer = Some(Peer::connect(to)?);
                        scope.cancel();
                    }
                    accepted = Some(waiting.await?);
                    Ok(())
                })
                .await?;
            let (_, address) = match accepted {
                Some(accepted) => accepted,
                None => listener.accept().await?,
            };
            assert_eq!(address, peer.unwrap().local_addr()?, "{delay}");
        }
        Ok(())
    });
}

// D7: what nobody took is closed when the listener goes.
#[trine::test(kernel = "both")]
fn connections_that_nobody_took_are_closed_with_the_listener() {
    run_alone(async || {
        let before = descriptors();
        let listener = TcpListener::bind(HERE).await?;
        let mut waiting = Box::pin(listener.accept());
        assert!(poll!(&mut waiting).is_pending());
        let mut peers = Vec::new();
        for _ in 0..5 {
            peers.push(Peer::connect(listener.local_addr()?)?);
        }
        let connected = descriptors();
        turns(2).await;
        assert!(descriptors() > connected, "the multishot has taken none");
        drop(waiting);
        listener.close().await?;
        for peer in peers {
            assert!(matches!(peer.read(&mut [0]).await, Ok(0) | Err(_)), "still open");
        }
        assert_eq!(descriptors(), before);
        Ok(())
    });
}

// D4: an ordinary error is the result, and a connection that is none is closed.
#[trine::test(kernel = "both", runs = 5)]
fn a_refused_connect_says_so_and_leaves_no_descriptor() {
    run_alone(async || {
        let listener = TcpListener::bind(HERE).await?;
        let nobody = listener.local_addr()?;
        listener.close().await?;
        let before = descriptors();
        for _ in 0..3 {
            let error = TcpStream::connect_addr(nobody).await.unwrap_err();
            assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionRefused));
        }
        turns(2).await;
        assert_eq!(descriptors(), before);
        Ok(())
    });
}

// D2: terminal. Cancelled or dropped, the half-made connection is closed, and by the time that the
// scope returns (E11).
#[trine::test(kernel = "both", runs = 5)]
fn a_connect_that_is_cancelled_or_dropped_is_closed() {
    run_alone(async || {
        let silent = Silent::listen().await?;
        let before = (descriptors(), stats().in_kernel);
        for _ in 0..3 {
            let connect = async |_: &_| TcpStream::connect_addr(silent.address()).await;
            assert!(move_on_after(MOMENT, connect).await?.is_none());
            assert_eq!((descriptors(), stats().in_kernel), before);
        }
        for dropped_after in 0..3 {
            nursery(async |_| {
                let mut connect = Box::pin(TcpStream::connect_addr(silent.address()));
                assert!(poll!(&mut connect).is_pending());
                turns(dropped_after).await;
                Ok(())
            })
            .await?;
            assert_eq!((descriptors(), stats().in_kernel), before);
        }
        // Nobody got through unattended.
        let Silent { listener, waiting } = silent;
        for peer in &waiting {
            assert_eq!(listener.accept().await?.1, peer.local_addr()?);
        }
        assert!(move_on_after(MOMENT, async |_| listener.accept().await).await?.is_none());
        Ok(())
    });
}

// D4: connected is connected, and the cancellation waits for the next cancel point.
#[trine::test(kernel = "both")]
fn a_connect_that_went_through_is_not_cancelled_after_all() {
    run(async || {
        let listener = TcpListener::bind(HERE).await?;
        let to = listener.local_addr()?;
        let scope = CancelScope::new();
        let connected = scope.run(async |scope| {
            let mut connect = pin!(TcpStream::connect_addr(to));
            assert!(poll!(connect.as_mut()).is_pending());
            turns(2).await;
            scope.cancel();
            let stream = connect.await?;
            assert!(stream.recv().await.unwrap_err().is_cancelled());
            Ok(stream)
        });
        let stream = connected.await?.expect("a body that finished is finished");
        assert!(stream.nodelay()?);
        stream.write_all("good").await?;
        assert_eq!(listener.accept().await?.0.recv().await?.unwrap(), *b"good");
        Ok(())
    });
}

// D4: terminal. A connect that has left the scope whose cancellation ended it is not tried again.
#[trine::test(kernel = "both", runs = 5)]
fn a_connect_that_has_left_the_cancelled_scope_is_aborted_and_closed() {
    run_alone(async || {
        let silent = Silent::listen().await?;
        let before = descriptors();
        let mut connect = Box::pin(TcpStream::connect_addr(silent.address()));
        let scope = CancelScope::new();
        let left = scope.run(async |scope| {
            assert!(poll!(&mut connect).is_pending());
            turns(2).await;
            scope.cancel();
            Ok(())
        });
        left.await?;
        let error = connect.as_mut().await.unwrap_err();
        assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionAborted));
        drop(connect);
        turns(2).await;
        assert_eq!(descriptors(), before);
        Ok(())
    });
}

// A8: in a cancelled scope nothing is opened at all.
#[trine::test(kernel = "both")]
fn in_a_cancelled_scope_no_connection_is_begun() {
    run_alone(async || {
        let listener = TcpListener::bind(HERE).await?;
        let to = listener.local_addr()?;
        let (before, submitted) = (descriptors(), stats().submitted);
        let scope = CancelScope::new();
        scope.cancel();
        assert!(scope.run(async |_| TcpStream::connect_addr(to).await).await?.is_none());
        assert_eq!((descriptors(), stats().submitted), (before, submitted));
        Ok(())
    });
}

// P6: what outlives its run says so, and is closed when it is dropped.
#[trine::test(kernel = "both")]
fn what_outlives_its_run_answers_run_finished_and_is_closed_on_drop() {
    let _alone = DESCRIPTORS.write().unwrap_or_else(PoisonError::into_inner);
    let before = descriptors();
    let (listener, stream, peer) = watched(Builder::new(), async || {
        let listener = TcpListener::bind(HERE).await?;
        let (stream, peer) = Peer::pair().await?;
        Ok((listener, stream, peer))
    });
    peer.send(b"too late").unwrap();
    watched(Builder::new(), async || {
        assert!(matches!(listener.accept().await, Err(Error::RunFinished)));
        assert!(matches!(stream.recv().await, Err(Error::RunFinished)));
        let read = stream.read(Vec::with_capacity(3)).await.unwrap_err();
        assert!(matches!(read.error, Error::RunFinished) && read.buf.capacity() == 3);
        let written = stream.write_all("late").await.unwrap_err();
        assert!(matches!(written.error, Error::RunFinished) && written.buf == "late");
        for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
            assert!(matches!(stream.shutdown(how).await, Err(Error::RunFinished)), "{how:?}");
        }
        Ok(())
    });
    let at = listener.local_addr().unwrap();
    drop((listener, stream));
    let again = async || TcpListener::bind(at).await.map(drop);
    Builder::new().run(again).expect("the listener is still open");
    drop(peer);
    assert_eq!(descriptors(), before);
}

// P6: closing in another run closes too.
#[trine::test(kernel = "both")]
fn what_outlives_its_run_can_still_be_closed() {
    let _alone = DESCRIPTORS.write().unwrap_or_else(PoisonError::into_inner);
    let before = descriptors();
    let (listener, stream) = watched(Builder::new(), async || {
        Ok((TcpListener::bind(HERE).await?, Peer::pair().await?.0))
    });
    watched(Builder::new(), async || {
        assert!(matches!(listener.close().await, Err(Error::RunFinished)));
        assert!(matches!(stream.close().await, Err(Error::RunFinished)));
        Ok(())
    });
    assert_eq!(descriptors(), before);
}

// The descriptor is there for what trine does not offer, and is what a dump shows.
#[test]
fn the_raw_descriptor_is_that_of_the_socket() {
    run(async || {
        let listener = TcpListener::bind(HERE).await?;
        let stream = TcpStream::connect_addr(listener.local_addr()?).await?;
        assert_ne!(stream.as_raw_fd(), listener.as_raw_fd());
        for fd in [stream.as_raw_fd(), listener.as_raw_fd()] {
            let link = fs::read_link(format!("/proc/self/fd/{fd}"))?;
            assert!(link.to_str().unwrap().starts_with("socket:"), "{link:?}");
        }
        let said = format!("fd: fd {}", stream.as_raw_fd());
        assert!(format!("{stream:?} {:?}", stream.recv()).matches(&said).count() == 2, "{said}");
        let said = format!("fd: fd {}", listener.as_raw_fd());
        assert!(format!("{listener:?} {:?}", listener.accept()).matches(&said).count() == 2);
        Ok(())
    });
}
