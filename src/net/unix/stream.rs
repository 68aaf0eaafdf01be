//! A connection within the machine.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use crate::error::Result;
use crate::exec::{self, Run};
use crate::io::{Halves, fds_of_a_part, owns_descriptor, reads, take, writes};
use crate::op::{BufError, IoBuf, IoBufMut};
use crate::ring::{Descriptor, FdKind, Host, PeerIds, SockAddr, UnixKind};

use super::super::connect::connect;
use super::super::option::SocketOption;

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
        let socket = run.host().unix_socket(UnixKind::Stream)?;
        let fd = connect(&run, socket, SockAddr::from(address)).await?;
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

    /// Takes a descriptor from elsewhere: one that was sent, or inherited.
    ///
    /// # Errors
    /// `InvalidInput` for what is no connected Unix stream socket, and for a non-blocking one, with which the ring
    /// cannot wait; [`Error::NoRun`](crate::Error::NoRun).
    ///
    /// See [`Descriptor`] for an example.
    pub fn from_fd(fd: impl Into<Descriptor>) -> Result<UnixStream> {
        let (run, fd) = take(fd, FdKind::UnixStream)?;
        Ok(UnixStream::new(&run, fd))
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

    /// Sends all of `buf`, and descriptors with its first byte: of files, sockets, whatever there is. The other
    /// process gets its own, and these are closed when the send is over; to keep one, send a duplicate
    /// ([`duplicate`](UnixStream::duplicate), `try_clone`).
    ///
    /// Descriptors are between the bytes of a stream: one receive ends behind those with which some were
    /// sent. The other end has to know where it is to use [`recv_fds`](UnixStream::recv_fds).
    ///
    /// Cancel class: partial: [`done`](BufError::done) says how much was sent; if that is something, the
    /// descriptors were. As with [`write_all`](UnixStream::write_all) the buffer comes back, also with the
    /// error, and a dropped one of which something went out leaves the write half
    /// [`Broken`](crate::Error::Broken). The descriptors are closed in any case, when the kernel has let go of
    /// them. Linux 6.1.
    ///
    /// # Errors
    /// As [`write`](UnixStream::write); `InvalidInput` for an empty buffer, since descriptors cannot go alone,
    /// and for more than 253 of them; `ETOOMANYREFS` where more are under way than this user may have open.
    ///
    /// ```
    /// use std::fs::File;
    /// use trine::net::UnixStream;
    ///
    /// trine::run(async || {
    ///     let (one, other) = UnixStream::pair()?;
    ///     one.send_fds("null", [File::open("/dev/null")?]).await?;
    ///     let (text, fds) = other.recv_fds(Vec::with_capacity(16)).await?;
    ///     assert_eq!((&text[..], fds.len()), (&b"null"[..], 1));
    ///     for fd in fds {
    ///         let null = File::from(fd.into_owned_fd()?);
    ///         assert_eq!(null.metadata()?.len(), 0);
    ///     }
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn send_fds<B: IoBuf, F: Into<Descriptor>>(
        &self,
        buf: B,
        fds: impl IntoIterator<Item = F>,
    ) -> impl Future<Output = Result<B, BufError<B>>> {
        self.halves.send_fds(buf, fds.into_iter().map(Into::into).collect())
    }

    /// Receives into `buf`, as [`read`](UnixStream::read) does, and takes the descriptors that come with the
    /// bytes; mostly there are none. From then on they are this process's, closed on exec.
    ///
    /// Cancel class: total. What comes for a dropped one stays with the stream, bytes and descriptors together,
    /// and is what the next `recv_fds` returns; but any other receive takes the bytes and closes the
    /// descriptors. If the next one has less room, all descriptors come with the first of the bytes: nobody knows
    /// with which they were sent, so they may come before it, and are never behind it. The buffer comes back
    /// with the error. Linux 6.1.
    ///
    /// # Errors
    /// As [`read`](UnixStream::read). If descriptors were lost because there is no room for more (`EMFILE`),
    /// that is an error: the others are closed, and it has the bytes.
    ///
    /// See [`send_fds`](UnixStream::send_fds) for an example.
    pub fn recv_fds<B: IoBufMut>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<(B, Vec<Descriptor>), BufError<B>>> + use<'_, B> {
        self.halves.recv_fds(buf)
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
    /// Cancel class: terminal. In a cancelled scope it is closed all the same, and `Cancelled` is reported
    /// (rule M2).
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

    /// The value of an [option](mod@crate::net::option), of those for all sockets:
    /// [`RECEIVE_BUFFER`](crate::net::option::RECEIVE_BUFFER), say, or
    /// [`SEND_BUFFER`](crate::net::option::SEND_BUFFER), which limits what may be under way.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn option<T>(&self, option: SocketOption<T>) -> io::Result<T> {
        option.get(self.host(), self.as_raw_fd())
    }

    /// Sets an [option](mod@crate::net::option).
    ///
    /// # Errors
    /// What the operating system says: `EOPNOTSUPP` for one that is of TCP or the internet, or that the value
    /// will not do.
    pub fn set_option<T>(&self, option: SocketOption<T>, value: T) -> io::Result<()> {
        option.set(self.host(), self.as_raw_fd(), value)
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
    /// Descriptors that somebody sends with the bytes are closed by the kernel; and since it goes on
    /// receiving between two calls, also those for which [`recv_fds`](UnixStream::recv_fds) would have come
    /// too late. Where descriptors are expected, receive with that and [`read`](UnixStream::read), which
    /// take what is there when they are awaited.
    UnixStream, "`ConnectionReset` where the other end was closed with bytes that it had not read"
}
writes! {
    UnixStream, "`BrokenPipe` where the other end has gone or reads no more",
    |stream| stream.shutdown(Shutdown::Write)
}
owns_descriptor!(UnixStream, halves);
fds_of_a_part!(UnixStream, halves);
