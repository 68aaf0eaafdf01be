//! A connection within the machine.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use crate::error::Result;
use crate::exec::{self, Operation, Run, Verdict, judge};
use crate::io::{Halves, owns_descriptor, reads, writes};
use crate::op::{Finished, Kind, Submission};
use crate::ring::{Descriptor, Host, PeerIds, SockAddr, UnixKind};

/// A connection over a Unix socket.
///
/// All methods take `&self`: one child may read while another writes. Two readers at a time, or two
/// writers, get [`Error::Busy`](crate::Error::Busy); a dropped one is none. Dropping the stream closes it
/// through the ring once the kernel has let go of its operations; the enclosing scope waits for that.
pub struct UnixStream {
    halves: Halves,
}

/// Who was at the other end when the connection was made: [`UnixStream::peer_cred`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Credentials {
    /// The process; 0 where it cannot be named from here (another namespace).
    pub process: i32,
    /// Its effective user.
    pub user: u32,
    /// Its effective group.
    pub group: u32,
}

impl UnixStream {
    /// Connects to the socket of this path. Where its backlog is full, this waits for room.
    ///
    /// Cancel class: terminal: a connection half-made is closed. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says: `NotFound` where there is no such file, `ConnectionRefused` where
    /// nobody listens any more, `InvalidInput` for a path that is too long (more than 107 bytes);
    /// `Cancelled`; [`Error::NoRun`](crate::Error::NoRun).
    ///
    /// ```
    /// use trine::net::{UnixListener, UnixStream};
    ///
    /// # let folder = std::env::temp_dir().join(format!("trine-doc-connect-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("socket");
    /// trine::run(async || {
    ///     let listener = UnixListener::builder().unlink_on_close(true).bind(&path).await?;
    ///     let client = UnixStream::connect(&path).await?;
    ///     let (server, _peer) = listener.accept().await?;
    ///     client.write_all("hello").await?;
    ///     assert_eq!(server.recv().await?.expect("not the end"), *b"hello");
    ///     listener.close().await
    /// })?;
    /// # std::fs::remove_dir(&folder)?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn connect(path: impl AsRef<Path>) -> Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_pathname(path)?).await
    }

    /// Connects to the socket of this address: of a path, or of an abstract name
    /// ([`SocketAddrExt::from_abstract_name`](std::os::linux::net::SocketAddrExt::from_abstract_name)).
    ///
    /// Cancel class: terminal, as [`connect`](UnixStream::connect). Linux 6.1.
    ///
    /// # Errors
    /// As [`connect`](UnixStream::connect); nobody under an abstract name is `ConnectionRefused`.
    pub async fn connect_addr(address: &SocketAddr) -> Result<UnixStream> {
        let run = exec::current()?;
        poll_fn(|_| run.cancel_point()).await?;
        let fd = run.adopt(run.host().unix_socket(UnixKind::Stream)?);
        let connect = Submission::connect(&fd, SockAddr::from(address));
        let Finished { result, .. } = Operation::finish(&run, connect).await;
        match poll_fn(|_| judge(&run, &Kind::CONNECT, result, &mut 0)).await {
            Verdict::Result(result) => result?,
            Verdict::Cancelled(cancelled) => return Err(cancelled.into()),
            Verdict::Again => unreachable!("a connect is not repeatable"),
        };
        Ok(UnixStream { halves: Halves::new(run, fd) })
    }

    /// Makes two streams that are connected to each other and have no name.
    ///
    /// # Errors
    /// `EMFILE` where there are too many descriptors; [`Error::NoRun`](crate::Error::NoRun).
    ///
    /// ```
    /// use trine::net::UnixStream;
    ///
    /// trine::run(async || {
    ///     let (one, other) = UnixStream::pair()?;
    ///     one.write_all("hello").await?;
    ///     assert_eq!(other.recv().await?.expect("not the end"), *b"hello");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn pair() -> Result<(UnixStream, UnixStream)> {
        let run = exec::current()?;
        let (one, other) = run.host().unix_pair(UnixKind::Stream)?;
        Ok((UnixStream::new(&run, one), UnixStream::new(&run, other)))
    }

    fn new(run: &Rc<Run>, socket: Descriptor) -> UnixStream {
        UnixStream { halves: Halves::new(Rc::clone(run), run.adopt(socket)) }
    }

    /// Makes a stream of a connection that a listener took.
    pub(super) fn accepted(
        run: &Rc<Run>,
        socket: Descriptor,
    ) -> io::Result<(UnixStream, SocketAddr)> {
        let peer = run.host().peer_name(socket.as_raw_fd())?.try_into()?;
        Ok((UnixStream::new(run, socket), peer))
    }

    fn host(&self) -> &Host {
        self.halves.run().host()
    }

    /// Shuts a half of the connection: with `Shutdown::Write` the other end sees the end of the stream,
    /// with `Shutdown::Read` its writes fail with `BrokenPipe`. Shutting a half twice is shutting it once.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// [`Error::Busy`](crate::Error::Busy) if a task is writing; `Cancelled`.
    pub async fn shutdown(&self, how: Shutdown) -> Result {
        self.halves.shutdown(how).await
    }

    /// Closes the connection and waits until that is done.
    ///
    /// In a cancelled scope it is closed all the same, and `Cancelled` is reported (rule M2).
    ///
    /// # Errors
    /// `Cancelled`, or what the operating system says; it is closed in any case.
    pub async fn close(self) -> Result {
        self.halves.close().await
    }

    /// The name of this end; mostly it has none.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.host().local_name(self.as_raw_fd())?.try_into()
    }

    /// The name of the other end: for who has connected, that of the listener.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.host().peer_name(self.as_raw_fd())?.try_into()
    }

    /// Who was at the other end when the connection was made (`SO_PEERCRED`): the kernel vouches for it.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// ```
    /// use trine::net::UnixStream;
    ///
    /// trine::run(async || {
    ///     let (one, _other) = UnixStream::pair()?;
    ///     assert_eq!(one.peer_cred()?.process as u32, std::process::id());
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn peer_cred(&self) -> io::Result<Credentials> {
        let PeerIds { process, user, group } = self.host().peer_ids(self.as_raw_fd())?;
        Ok(Credentials { process, user, group })
    }
}

reads! {
    /// Descriptors that somebody sends with the bytes are closed by the kernel.
    UnixStream, "`ConnectionReset` where the other end was closed with bytes that it had not read"
}
writes! {
    UnixStream, "`BrokenPipe` where the other end has gone or reads no more",
    |stream| stream.shutdown(Shutdown::Write)
}
owns_descriptor!(UnixStream, halves);
