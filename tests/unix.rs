//! Unix sockets: listening and connecting by path, by abstract name and in pairs, and datagrams.

mod common;

use std::io::ErrorKind;
use std::net::Shutdown;
use std::ops::AsyncFnOnce;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs, process};

use futures::poll;
use trine::net::{UnixDatagram, UnixListener, UnixStream, option};
use trine::testing::World;
use trine::time::sleep_forever;
use trine::{Builder, CancelScope, Error, Result, move_on_after, nursery, stats};

use common::{fewer, in_kernel, turns};

const MOMENT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(60);

/// Runs a test; what nothing can wake any more is an error, and not a hang.
#[track_caller]
fn run<T>(main: impl AsyncFnOnce() -> Result<T>) -> T {
    let ended = common::within(20, || Builder::new().detect_deadlock(true).run(main));
    ended.unwrap_or_else(|error| panic!("the test's main failed: {error}"))
}

/// A folder of a test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("trine-unix-{}-{number}", process::id()));
        if !cfg!(miri) {
            fs::create_dir(&path).unwrap(); // There is no disk there.
        }
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A path of so many bytes.
    fn long_path(&self, len: usize) -> PathBuf {
        self.path(&"x".repeat(len - self.path("").as_os_str().len()))
    }

    /// What is in it; in a simulated world nothing ever is.
    fn files(&self) -> usize {
        if cfg!(miri) { 0 } else { fs::read_dir(&self.0).unwrap().count() }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !cfg!(miri) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// An abstract name that nobody else has.
fn hidden_name() -> SocketAddr {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from_abstract_name(format!("trine-test-{}-{number}", process::id())).unwrap()
}

#[track_caller]
fn assert_kind<T>(result: Result<T, impl Into<Error>>, kind: ErrorKind) {
    let error = result.err().map(Into::into).expect("an error");
    assert_eq!(error.io_kind(), Some(kind), "{error}");
}

#[trine::test(kernel = "both")]
fn a_connection_by_path_has_names_and_carries_bytes_both_ways() {
    let folder = Folder::new();
    run(async || {
        let path = folder.path("socket");
        let listener = UnixListener::bind(&path).await?;
        assert_eq!(listener.local_addr()?.as_pathname(), Some(&*path));
        let client = UnixStream::connect(&path).await?;
        let (server, peer) = listener.accept().await?;
        assert!(peer.is_unnamed() && client.local_addr()?.is_unnamed());
        assert_eq!(client.peer_addr()?.as_pathname(), Some(&*path));
        assert_eq!(server.local_addr()?.as_pathname(), Some(&*path));
        client.write_all("ping").await?;
        assert_eq!(server.read_exact(vec![0; 4]).await?, b"ping");
        server.write_all("pong").await?;
        assert_eq!(client.recv().await?.unwrap(), *b"pong");
        let (mine, theirs) = (client.peer_cred()?, server.peer_cred()?);
        assert_eq!((mine, mine.process as u32), (theirs, process::id()));
        server.close().await?;
        assert!(client.recv().await?.is_none());
        assert_kind(client.write_all("nobody").await, ErrorKind::BrokenPipe);
        client.close().await?;
        listener.close().await
    });
}

// The doc of `UnixListener`: what becomes of the file.
#[trine::test(kernel = "both")]
fn a_file_stays_unless_it_was_asked_to_go() {
    let folder = Folder::new();
    let is_real = run(async || {
        let (stays, goes) = (folder.path("stays"), folder.path("goes"));
        UnixListener::bind(&stays).await?.close().await?;
        assert_kind(UnixListener::bind(&stays).await, ErrorKind::AddrInUse);
        assert_kind(UnixStream::connect(&stays).await, ErrorKind::ConnectionRefused);
        let builder = UnixListener::builder().unlink_on_close(true);
        for drops in [false, true] {
            let listener = builder.clone().bind(&goes).await?;
            if drops {
                drop(listener);
            } else {
                listener.close().await?;
            }
            assert_kind(UnixStream::connect(&goes).await, ErrorKind::NotFound);
        }
        Ok(World::try_current().is_none())
    });
    assert_eq!(folder.files(), usize::from(is_real));
}

#[test]
fn a_file_that_somebody_else_has_put_there_is_left_alone() {
    let folder = Folder::new();
    let path = folder.path("socket");
    run(async || {
        let builder = UnixListener::builder().unlink_on_close(true);
        let first = builder.bind(&path).await?;
        fs::remove_file(&path)?;
        let second = UnixListener::bind(&path).await?;
        first.close().await?;
        UnixStream::connect(&path).await?;
        second.close().await
    });
    assert_eq!(folder.files(), 1);
}

#[trine::test(kernel = "both")]
fn an_abstract_name_goes_with_its_listener() {
    run(async || {
        let name = hidden_name();
        assert_kind(UnixStream::connect_addr(&name).await, ErrorKind::ConnectionRefused);
        let listener = UnixListener::bind_addr(&name).await?;
        assert_kind(UnixListener::bind_addr(&name).await, ErrorKind::AddrInUse);
        let client = UnixStream::connect_addr(&name).await?;
        let (server, _) = listener.accept().await?;
        let expected = name.as_abstract_name().unwrap();
        assert_eq!(client.peer_addr()?.as_abstract_name(), Some(expected));
        assert_eq!(server.local_addr()?.as_abstract_name(), Some(expected));
        listener.close().await?;
        UnixListener::bind_addr(&name).await?.close().await
    });
}

#[trine::test(kernel = "both")]
fn buffers_have_options_and_what_is_of_the_internet_is_refused() {
    run(async || {
        let listener = UnixListener::bind_addr(&hidden_name()).await?;
        let (one, _other) = UnixStream::pair()?;
        let (left, _right) = UnixDatagram::pair()?;
        assert!(listener.option(option::RECEIVE_BUFFER)? > 0);
        one.set_option(option::SEND_BUFFER, 8 << 10)?;
        assert_eq!(one.option(option::SEND_BUFFER)?, 16 << 10);
        left.set_option(option::SEND_BUFFER, 32 << 10)?;
        assert_eq!(left.option(option::SEND_BUFFER)?, 64 << 10);
        listener.set_option(option::RECEIVE_BUFFER, 32 << 10)?;
        for refused in [
            one.set_option(option::NODELAY, true),
            left.set_option(option::TTL, 3),
            listener.option(option::KEEPALIVE_COUNT).map(drop),
        ] {
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
        }
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_path_that_is_wrong_is_an_error_that_says_so() {
    let folder = Folder::new();
    run(async || {
        let nowhere = UnixStream::connect(folder.path("nowhere")).await;
        assert_kind(nowhere, ErrorKind::NotFound);
        let long = Path::new("/").join("x".repeat(200));
        assert_kind(UnixStream::connect(&long).await, ErrorKind::InvalidInput);
        assert_kind(UnixListener::bind(&long).await, ErrorKind::InvalidInput);
        assert_kind(UnixDatagram::bind(&long).await, ErrorKind::InvalidInput);
        Ok(())
    });
}

/// The longest names there are: of 107 bytes and a zero byte, or after one.
#[trine::test(kernel = "both")]
fn the_longest_names_are_names_like_others() {
    let folder = Folder::new();
    run(async || {
        let path = folder.long_path(107);
        let mut hidden = hidden_name().as_abstract_name().unwrap().to_vec();
        hidden.resize(107, b'x');
        for address in [SocketAddr::from_pathname(&path)?, SocketAddr::from_abstract_name(hidden)?]
        {
            let listener = UnixListener::builder().unlink_on_close(true);
            let listener = listener.bind_addr(&address).await?;
            let client = UnixStream::connect_addr(&address).await?;
            let (server, _) = listener.accept().await?;
            for told in [listener.local_addr()?, client.peer_addr()?, server.local_addr()?] {
                assert_eq!(told.as_pathname(), address.as_pathname());
                assert_eq!(told.as_abstract_name(), address.as_abstract_name());
            }
            listener.close().await?;
            let receiver = UnixDatagram::bind_addr(&address).await?;
            let sender = UnixDatagram::unbound()?;
            sender.connect_addr(&address).await?;
            sender.send("hello").await?;
            assert_eq!(receiver.recv().await?, *b"hello");
            // And it is the sender's.
            receiver.connect_addr(&address).await?;
            receiver.send("to myself").await?;
            let (bytes, from) = receiver.recv_from().await?;
            assert_eq!(bytes, *b"to myself");
            assert_eq!(from.as_pathname(), address.as_pathname());
            assert_eq!(from.as_abstract_name(), address.as_abstract_name());
            receiver.close().await?;
        }
        assert_kind(UnixStream::connect(folder.long_path(108)).await, ErrorKind::InvalidInput);
        Ok(())
    });
}

/// A name of 108 bytes has no zero byte at its end, and the kernel tells of one more than there is room for:
/// trine cannot make one, but a peer can. The standard library has no value for it.
#[test]
#[cfg_attr(miri, ignore = "there is no real kernel")]
fn a_peer_whose_name_has_108_bytes_is_one_without_a_name_and_its_datagrams_are_whole() {
    let folder = Folder::new();
    let foreign = std::os::unix::net::UnixDatagram::unbound().unwrap();
    bind_to(&foreign, &folder.long_path(108));
    run(async || {
        let ours = UnixDatagram::bind(folder.path("ours")).await?;
        for text in ["one", "another"] {
            foreign.send_to(text.as_bytes(), folder.path("ours"))?;
            let (bytes, from) = ours.recv_from().await?;
            assert_eq!(bytes, *text.as_bytes());
            assert!(from.is_unnamed(), "{from:?}");
            foreign.send_to(text.as_bytes(), folder.path("ours"))?;
            let (bytes, from) = ours.recv_into(Vec::with_capacity(20)).await?;
            assert_eq!(bytes, *text.as_bytes());
            assert!(from.is_unnamed(), "{from:?}");
        }
        ours.close().await
    });
}

/// Binds it to all of the path, without a zero byte behind it.
#[allow(unsafe_code, reason = "the standard library wants room for a zero byte")]
fn bind_to(socket: &impl AsRawFd, path: &Path) {
    // SAFETY: all zeros is an address, of no family.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    assert_eq!(bytes.len(), address.sun_path.len());
    for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = *byte as libc::c_char;
    }
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: an address of this length.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
}

// C3, D2, D7: an accept that is cancelled, dropped, and made by two.
#[trine::test(kernel = "both")]
fn a_connection_that_nobody_waits_for_stays_with_the_listener() {
    run(async || {
        let name = hidden_name();
        let listener = UnixListener::bind_addr(&name).await?;
        let waited = move_on_after(MOMENT, async |_| listener.accept().await).await?;
        assert!(waited.is_none());
        {
            let mut dropped = Box::pin(listener.accept());
            assert!(poll!(&mut dropped).is_pending());
            assert!(matches!(listener.accept().await, Err(Error::Busy(_))));
        }
        let first = UnixStream::connect_addr(&name).await?;
        let second = UnixStream::connect_addr(&name).await?;
        turns(2).await;
        for client in [&first, &second] {
            let (server, _) = listener.accept().await?;
            client.write_all("me").await?;
            assert_eq!(server.recv().await?.unwrap(), *b"me");
        }
        Ok(())
    });
}

// D2: terminal. With a full backlog the kernel waits in a worker, which a cancel interrupts.
#[trine::test(kernel = "both")]
fn a_connect_waits_for_room_in_the_backlog_and_is_cancelled_there() {
    run(async || {
        let name = hidden_name();
        let listener = UnixListener::builder().backlog(0).bind_addr(&name).await?;
        let first = UnixStream::connect_addr(&name).await?;
        let waited = move_on_after(MOMENT * 10, async |_| UnixStream::connect_addr(&name).await);
        assert!(waited.await?.is_none());
        nursery(async |n| {
            n.spawn(async {
                let second = UnixStream::connect_addr(&name).await?;
                second.write_all("second").await?;
                Ok(())
            });
            in_kernel(1).await?;
            let (server, _) = listener.accept().await?;
            first.write_all("first").await?;
            assert_eq!(server.recv().await?.unwrap(), *b"first");
            let (server, _) = listener.accept().await?;
            assert_eq!(server.recv().await?.unwrap(), *b"second");
            Ok(())
        })
        .await?;
        assert_eq!(stats().in_kernel, 1, "the accept alone");
        listener.close().await
    });
}

#[trine::test(kernel = "both")]
fn a_stream_closed_with_bytes_unread_is_reset_for_who_reads_and_broken_for_who_writes() {
    run(async || {
        let (one, other) = UnixStream::pair()?;
        other.write_all("answer").await?;
        one.write_all("never read").await?;
        other.close().await?;
        assert_kind(one.write_all("more").await, ErrorKind::BrokenPipe);
        assert_eq!(one.recv().await?.unwrap(), *b"answer");
        assert_kind(one.recv().await, ErrorKind::ConnectionReset);
        assert!(one.recv().await?.is_none());
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn who_reads_no_more_breaks_the_other_ends_writes() {
    run(async || {
        let (one, other) = UnixStream::pair()?;
        other.shutdown(Shutdown::Read).await?;
        assert_kind(one.write_all("for nobody").await, ErrorKind::BrokenPipe);
        other.write_all("still").await?;
        other.shutdown(Shutdown::Both).await?;
        other.shutdown(Shutdown::Both).await?;
        assert_eq!(one.recv().await?.unwrap(), *b"still");
        assert!(one.recv().await?.is_none());
        Ok(())
    });
}

// M2: also in a cancelled scope.
#[trine::test(kernel = "both")]
fn everything_is_closed_in_a_cancelled_scope_too() {
    run(async || {
        let listener = UnixListener::bind_addr(&hidden_name()).await?;
        let (one, other) = UnixStream::pair()?;
        let (left, right) = UnixDatagram::pair()?;
        let scope = CancelScope::new();
        let closed = scope.run(async |scope| {
            {
                let (mut a, mut b, mut c) =
                    (pin!(listener.accept()), pin!(one.recv()), pin!(left.recv()));
                assert!(poll!(&mut a).is_pending());
                assert!(poll!(&mut b).is_pending());
                assert!(poll!(&mut c).is_pending());
            }
            in_kernel(3).await?;
            scope.cancel();
            assert!(matches!(listener.close().await, Err(Error::Cancelled(_))));
            assert!(matches!(one.close().await, Err(Error::Cancelled(_))));
            left.close().await
        });
        assert!(closed.await?.is_none());
        assert_eq!(stats().in_kernel, 0);
        assert!(other.recv().await?.is_none());
        assert_kind(right.send("hello").await, ErrorKind::ConnectionRefused);
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn datagrams_come_whole_in_order_and_with_the_name_of_the_sender() {
    let folder = Folder::new();
    run(async || {
        let path = folder.path("server");
        let server = UnixDatagram::bind(&path).await?;
        let name = hidden_name();
        let client = UnixDatagram::bind_addr(&name).await?;
        let to = SocketAddr::from_pathname(&path)?;
        for text in ["one", "", "three"] {
            client.send_to(text, &to).await?;
        }
        let (one, from) = server.recv_from().await?;
        assert_eq!(one, *b"one");
        assert_eq!(from.as_abstract_name(), name.as_abstract_name());
        assert_eq!(server.recv().await?, *b"");
        let (three, from) = server.recv_into(Vec::with_capacity(16)).await?;
        assert_eq!(three, b"three");
        server.send_to(three, &from).await?;
        assert_eq!(client.recv().await?, *b"three");
        // From one without a name.
        let nobody = UnixDatagram::unbound()?;
        nobody.connect(&path).await?;
        assert_eq!(nobody.peer_addr()?.as_pathname(), Some(&*path));
        nobody.send("who?").await?;
        assert!(server.recv_from().await?.1.is_unnamed());
        assert_eq!(server.local_addr()?.as_pathname(), Some(&*path));
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_send_waits_for_room_and_nothing_is_lost() {
    run(async || {
        let (one, other) = UnixDatagram::pair()?;
        nursery(async |n| {
            n.spawn(async {
                for n in 0..100_u8 {
                    one.send([n]).await?;
                }
                Ok(())
            });
            // Until it has to wait.
            turns(30).await;
            for n in 0..100 {
                assert_eq!(other.recv().await?, [n]);
            }
            Ok(())
        })
        .await?;
        // A send that waits is cancelled, and has sent nothing.
        let full = async |_: &CancelScope| loop {
            one.send("again").await?;
        };
        assert!(move_on_after::<(), _>(MOMENT * 10, full).await?.is_none());
        let mut came = 0;
        while move_on_after(MOMENT, async |_| other.recv().await).await?.is_some() {
            came += 1;
        }
        assert!(came > 5, "{came}");
        one.send("last").await?;
        assert_eq!(other.recv().await?, *b"last");
        Ok(())
    });
}

/// Sends until there is no room, and drops the send that waits for it.
async fn leave_a_send(socket: &UnixDatagram) {
    loop {
        let mut send = pin!(socket.send("again"));
        let mut sent = poll!(send.as_mut()).is_ready();
        for _turn in 0..30 {
            if !sent {
                turns(1).await;
                sent = poll!(send.as_mut()).is_ready();
            }
        }
        if !sent {
            return;
        }
    }
}

// M2: a close waits for what dropped futures have left, then it closes, whatever is cancelled.
#[trine::test(kernel = "both", runs = 5)]
fn a_close_with_a_dropped_send_under_way_has_closed_when_it_returns() {
    run(async || {
        for cancel in [false, true] {
            let before = stats().in_kernel;
            let (one, other) = UnixDatagram::pair()?;
            leave_a_send(&one).await;
            assert!(stats().in_kernel > before, "the send waits");
            let scope = CancelScope::new();
            if cancel {
                scope.cancel();
            }
            let closed = scope.run(async |_| Ok(one.close().await)).await?.expect("a result");
            assert_eq!(closed.as_ref().is_err_and(Error::is_cancelled), cancel, "{closed:?}");
            assert!(cancel || closed.is_ok(), "{closed:?}");
            assert_eq!(stats().in_kernel, before);
            assert_kind(other.send("last").await, ErrorKind::ConnectionRefused);
        }
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_socket_for_datagrams_says_what_is_wrong() {
    run(async || {
        let name = hidden_name();
        let socket = UnixDatagram::unbound()?;
        assert_kind(socket.connect_addr(&name).await, ErrorKind::ConnectionRefused);
        assert_kind(socket.send_to("hello", &name).await, ErrorKind::ConnectionRefused);
        assert_kind(socket.send("hello").await, ErrorKind::NotConnected);
        assert_kind(socket.peer_addr().map_err(Error::from), ErrorKind::NotConnected);
        let listener = UnixListener::bind_addr(&name).await?;
        assert!(matches!(socket.connect_addr(&name).await, Err(Error::Io(_))), "of another type");
        listener.close().await?;
        let server = UnixDatagram::bind_addr(&name).await?;
        assert!(matches!(UnixStream::connect_addr(&name).await, Err(Error::Io(_))));
        socket.connect_addr(&name).await?;
        server.close().await?;
        assert_kind(socket.send("hello").await, ErrorKind::ConnectionRefused);
        let (one, _other) = UnixDatagram::pair()?;
        let Error::Io(large) = one.send(vec![0; 1 << 20]).await.unwrap_err().error else {
            panic!()
        };
        assert_eq!(large.raw_os_error(), Some(libc::EMSGSIZE));
        Ok(())
    });
}

#[trine::test(kernel = "both")]
fn a_large_datagram_needs_a_large_buffer() {
    // More than a buffer of the pool.
    const LEN: usize = fewer(150_000, 70_000);
    run(async || {
        let (one, other) = UnixDatagram::pair()?;
        one.send(vec![7; LEN]).await?;
        assert_eq!(other.recv_into(Vec::with_capacity(LEN)).await?.0, vec![7; LEN]);
        one.send(vec![7; LEN]).await?;
        assert_kind(other.recv().await, ErrorKind::InvalidData);
        one.send("next").await?;
        assert_eq!(other.recv().await?, *b"next");
        Ok(())
    });
}

// Each send to a full queue takes a thread of the kernel: there is a limit, and whoever is beyond it goes when there is
// room, or is cancelled, like the others.
#[test]
fn sends_to_a_full_receiver_take_only_so_many_threads() {
    const SENDS: usize = 600;
    if cfg!(miri) {
        return;
    }
    let folder = Folder::new();
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    run(async || {
        let server = UnixDatagram::bind(folder.path("socket")).await?;
        let client = UnixDatagram::unbound()?;
        let to = SocketAddr::from_pathname(folder.path("socket"))?;
        let before = threads();
        nursery(async |n| {
            for _ in 0..SENDS {
                n.spawn(async { client.send_to("x", &to).await.map(|_| ()).map_err(Error::from) });
            }
            in_kernel(SENDS / 2).await?;
            // They come one by one: until there have been no new ones for a while.
            let (mut most, mut looks) = (before, 0);
            while looks < 20 {
                move_on_after(MOMENT, async |_| sleep_forever().await).await?;
                let now = threads();
                (most, looks) = if now > most { (now, 0) } else { (most, looks + 1) };
            }
            assert!(most < before + 540, "{} threads", most - before);
            for _ in 0..SENDS {
                server.recv().await?;
            }
            Ok(())
        })
        .await
    });
}

#[test]
fn it_talks_to_other_programs() {
    if cfg!(miri) || Command::new("socat").arg("-V").output().is_err() {
        return;
    }
    let folder = Folder::new();
    let path = folder.path("socket");
    run(async || {
        let listener = UnixListener::builder().unlink_on_close(true).bind(&path).await?;
        let mut child = Command::new("socat")
            .arg(format!("UNIX-CONNECT:{}", path.display()))
            .arg("EXEC:cat")
            .spawn()?;
        let (stream, _) = trine::fail_after(LONG, async |_| listener.accept().await).await?;
        assert_eq!(stream.peer_cred()?.process as u32, child.id());
        for len in [1, 1000, 20_000] {
            let sent = stream.write_all(vec![b'x'; len]).await?;
            assert_eq!(stream.read_exact(vec![0; len]).await?, sent);
        }
        stream.shutdown(Shutdown::Write).await?;
        assert!(stream.recv().await?.is_none());
        child.wait()?;
        listener.close().await
    });
    assert_eq!(folder.files(), 0);
}
