//! Datagrams within the machine.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::error::Result;
use crate::exec::{self, Run};
use crate::io::{fds_of_a_part, owns_descriptor, take};
use crate::op::{BufError, Chunk, IoBuf, IoBufMut, Message};
use crate::ring::{Descriptor, FdKind, SockAddr, UnixKind};

use super::super::datagram::{Datagrams, RecvMessage};
use super::super::option::SocketOption;

/// A Unix socket for datagrams. They come whole, in order, and none is lost: a send waits while the receiver
/// has as many as it may have (`net.unix.max_dgram_qlen`, mostly ten).
///
/// All methods take `&self`. Several tasks may send at a time; of two that receive, the second one gets
/// [`Error::Busy`](crate::Error::Busy), and a dropped one is none. Dropping the socket closes it through the
/// ring; the file of a path that it is bound to stays, as with [`UnixListener`](crate::net::UnixListener).
pub struct UnixDatagram {
    socket: Datagrams,
}

impl UnixDatagram {
    /// Makes a socket that is bound to this path.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// As [`UnixListener::bind`](crate::net::UnixListener::bind).
    pub async fn bind(path: impl AsRef<Path>) -> Result<UnixDatagram> {
        UnixDatagram::bind_addr(&SocketAddr::from_pathname(path)?).await
    }

    /// Makes a socket that is bound to this address: a path, or an abstract name.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// As [`UnixListener::bind_addr`](crate::net::UnixListener::bind_addr).
    ///
    /// ```
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    /// use trine::net::UnixDatagram;
    ///
    /// let name = SocketAddr::from_abstract_name(format!("trine-doc-d{}", std::process::id()))?;
    /// trine::run(async || {
    ///     let server = UnixDatagram::bind_addr(&name).await?;
    ///     let client = UnixDatagram::unbound()?;
    ///     client.connect_addr(&name).await?;
    ///     client.send("hello").await?;
    ///     let (hello, from) = server.recv_from().await?;
    ///     assert_eq!(hello, *b"hello");
    ///     assert!(from.is_unnamed());
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn bind_addr(address: &SocketAddr) -> Result<UnixDatagram> {
        let run = exec::current()?;
        run.answer_at_once().await?;
        let socket = run.host().unix_bound(&SockAddr::from(address))?;
        Ok(UnixDatagram::new(&run, socket))
    }

    /// Makes a socket without a name: nobody can answer it.
    ///
    /// # Errors
    /// `EMFILE` where there are too many descriptors; [`Error::NoRun`](crate::Error::NoRun).
    pub fn unbound() -> Result<UnixDatagram> {
        let run = exec::current()?;
        let socket = run.host().unix_socket(UnixKind::Datagram)?;
        Ok(UnixDatagram::new(&run, socket))
    }

    /// Makes two sockets that are connected to each other and have no name.
    ///
    /// # Errors
    /// As [`unbound`](UnixDatagram::unbound).
    ///
    /// ```
    /// use trine::net::UnixDatagram;
    ///
    /// trine::run(async || {
    ///     let (one, other) = UnixDatagram::pair()?;
    ///     one.send("hello").await?;
    ///     assert_eq!(other.recv().await?, *b"hello");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn pair() -> Result<(UnixDatagram, UnixDatagram)> {
        let run = exec::current()?;
        let (one, other) = run.host().unix_pair(UnixKind::Datagram)?;
        Ok((UnixDatagram::new(&run, one), UnixDatagram::new(&run, other)))
    }

    /// Takes a descriptor from elsewhere.
    ///
    /// # Errors
    /// `InvalidInput` for what is no Unix datagram socket, and for a non-blocking one, with which the ring
    /// cannot wait; [`Error::NoRun`](crate::Error::NoRun).
    pub fn from_fd(fd: impl Into<Descriptor>) -> Result<UnixDatagram> {
        let (run, fd) = take(fd, FdKind::UnixDatagram)?;
        Ok(UnixDatagram::new(&run, fd))
    }

    fn new(run: &Rc<Run>, socket: Descriptor) -> UnixDatagram {
        UnixDatagram { socket: Datagrams::new(Rc::clone(run), socket) }
    }

    /// Makes the socket of this path the only one that this one sends to and receives from.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// `NotFound` where there is no such file, `ConnectionRefused` where nobody is bound to it any more;
    /// what else the operating system says; `Cancelled`.
    pub async fn connect(&self, path: impl AsRef<Path>) -> Result {
        self.connect_addr(&SocketAddr::from_pathname(path)?).await
    }

    /// The same for an address: a path, or an abstract name.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// As [`connect`](UnixDatagram::connect).
    pub async fn connect_addr(&self, address: &SocketAddr) -> Result {
        let run = self.socket.run();
        exec::check_run(run)?;
        run.answer_at_once().await?;
        Ok(run.host().unix_connect(self.as_raw_fd(), &SockAddr::from(address))?)
    }

    /// Sends a datagram to the socket that this one is [connected](UnixDatagram::connect) to, whole or not at
    /// all.
    ///
    /// Cancel class: total; a dropped send has sent its datagram or not. The buffer comes back, also with
    /// the error. Linux 6.1.
    ///
    /// # Errors
    /// `NotConnected` if it is not; `ConnectionRefused` where the other one has gone, once; `EMSGSIZE` if it
    /// is larger than the send buffer; `Cancelled`.
    pub fn send<B: IoBuf>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        self.socket.send(buf, None)
    }

    /// Sends a datagram to the socket of this address, whole or not at all.
    ///
    /// Where the receiver's queue is full each send that waits takes one of the kernel's threads, at most 512 in a
    /// run: further ones, and moves such as those of [`copy`](crate::io::copy()), wait for one of them. Whoever sends
    /// much to one socket [connects](UnixDatagram::connect) to it, and waits without a thread.
    ///
    /// Cancel class: total; a dropped send has sent its datagram or not. The buffer comes back, also with
    /// the error. Linux 6.1.
    ///
    /// # Errors
    /// `NotFound` and `ConnectionRefused` as for [`connect`](UnixDatagram::connect); `EMSGSIZE`; `Cancelled`.
    pub fn send_to<B: IoBuf>(
        &self,
        buf: B,
        address: &SocketAddr,
    ) -> impl Future<Output = Result<B, BufError<B>>> + use<'_, B> {
        self.socket.send(buf, Some(SockAddr::from(address)))
    }

    /// Receives a datagram, and says what name the sender has, if any. The kernel puts it into a buffer of
    /// 64 KiB of a pool when it comes: a waiting socket costs none. There is no end: where the other one has
    /// gone, this waits for somebody else.
    ///
    /// Awaited again after `Cancelled`, it starts anew. What arrives for a dropped or cancelled receive
    /// stays with the socket and is what the next one returns (rule D7).
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// `InvalidData` for a datagram that is larger than that, which is lost: larger ones are for
    /// [`recv_into`](UnixDatagram::recv_into); [`Error::Busy`](crate::Error::Busy) if another task receives;
    /// `Cancelled`.
    pub fn recv_from(&self) -> UnixRecvFrom<'_> {
        UnixRecvFrom { receive: self.socket.recv() }
    }

    /// As [`recv_from`](UnixDatagram::recv_from), where it does not matter who has sent it.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// As [`recv_from`](UnixDatagram::recv_from).
    pub fn recv(&self) -> impl Future<Output = Result<Chunk>> + use<'_> {
        let mut receive = self.socket.recv();
        poll_fn(move |cx| Pin::new(&mut receive).poll(cx).map_ok(Message::into_bytes))
    }

    /// Receives a datagram into `buf`: replaces its content, at most its capacity, and says what name the
    /// sender has.
    ///
    /// Cancel class: total; a dropped receive leaves what came for it with the socket. The buffer comes
    /// back with the error. Linux 6.1.
    ///
    /// # Errors
    /// As [`recv_from`](UnixDatagram::recv_from), `InvalidInput` for a buffer without room, and `InvalidData`
    /// for a datagram that is larger than the buffer: the error has what there was room for.
    pub fn recv_into<B: IoBufMut>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<(B, SocketAddr), BufError<B>>> + use<'_, B> {
        self.socket.recv_into(buf)
    }

    /// Sends a datagram, and descriptors with it, to the socket that this one is
    /// [connected](UnixDatagram::connect) to. They are closed when the send is over: as with
    /// [`UnixStream::send_fds`](crate::net::UnixStream::send_fds), but the datagram may be empty.
    ///
    /// Cancel class: total, as for [`send`](UnixDatagram::send). Linux 6.1.
    ///
    /// # Errors
    /// As [`send`](UnixDatagram::send); `InvalidInput` for more than 253 descriptors; `ETOOMANYREFS` where more
    /// are under way than this user may have open.
    ///
    /// ```
    /// use std::fs::File;
    /// use trine::net::UnixDatagram;
    ///
    /// trine::run(async || {
    ///     let (one, other) = UnixDatagram::pair()?;
    ///     one.send_fds("null", [File::open("/dev/null")?]).await?;
    ///     let (text, fds, _from) = other.recv_fds(Vec::with_capacity(16)).await?;
    ///     assert_eq!((&text[..], fds.len()), (&b"null"[..], 1));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn send_fds<B: IoBuf, F: Into<Descriptor>>(
        &self,
        buf: B,
        fds: impl IntoIterator<Item = F>,
    ) -> impl Future<Output = Result<B, BufError<B>>> {
        self.socket.send_fds(buf, fds.into_iter().map(Into::into).collect(), None)
    }

    /// The same to the socket of this address.
    ///
    /// Cancel class: total, as for [`send_to`](UnixDatagram::send_to). Linux 6.1.
    ///
    /// # Errors
    /// As [`send_fds`](UnixDatagram::send_fds) and [`send_to`](UnixDatagram::send_to).
    pub fn send_fds_to<B: IoBuf, F: Into<Descriptor>>(
        &self,
        buf: B,
        fds: impl IntoIterator<Item = F>,
        address: &SocketAddr,
    ) -> impl Future<Output = Result<B, BufError<B>>> {
        let (fds, to) = (fds.into_iter().map(Into::into).collect(), SockAddr::from(address));
        self.socket.send_fds(buf, fds, Some(to))
    }

    /// Receives a datagram into `buf`, as [`recv_into`](UnixDatagram::recv_into) does, and the descriptors that
    /// come with it. From then on they are this process's, closed on exec.
    ///
    /// Any other receive has the kernel close them, and [`recv`](UnixDatagram::recv) and
    /// [`recv_from`](UnixDatagram::recv_from) go on between two calls: where descriptors are expected, use this
    /// one and `recv_into`.
    ///
    /// Cancel class: total; what comes for a dropped one stays with the socket, and the next `recv_fds` returns
    /// it. The buffer comes back with the error. Linux 6.1.
    ///
    /// # Errors
    /// As [`recv_into`](UnixDatagram::recv_into), and then the descriptors are closed. If some were lost because
    /// there is no room for more (`EMFILE`), that is an error too.
    ///
    /// See [`send_fds`](UnixDatagram::send_fds) for an example.
    pub fn recv_fds<B: IoBufMut>(
        &self,
        buf: B,
    ) -> impl Future<Output = Result<(B, Vec<Descriptor>, SocketAddr), BufError<B>>> + use<'_, B>
    {
        self.socket.recv_fds(buf)
    }

    /// Closes the socket and waits until that is done.
    ///
    /// Cancel class: terminal. In a cancelled scope it is closed all the same, and `Cancelled` is reported
    /// (rule M2).
    ///
    /// # Errors
    /// `Cancelled`, or what the operating system says; it is closed in any case.
    pub async fn close(self) -> Result {
        self.socket.close().await
    }

    /// The value of an [option](mod@crate::net::option), of those for all sockets:
    /// [`RECEIVE_BUFFER`](crate::net::option::RECEIVE_BUFFER), say, or
    /// [`SEND_BUFFER`](crate::net::option::SEND_BUFFER), which limits what may be under way.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn option<T>(&self, option: SocketOption<T>) -> io::Result<T> {
        option.get(self.socket.run().host(), self.as_raw_fd())
    }

    /// Sets an [option](mod@crate::net::option).
    ///
    /// # Errors
    /// What the operating system says: `EOPNOTSUPP` for one that is of TCP or the internet, or that the value
    /// will not do.
    pub fn set_option<T>(&self, option: SocketOption<T>, value: T) -> io::Result<()> {
        option.set(self.socket.run().host(), self.as_raw_fd(), value)
    }

    /// The name of this socket, if it has one.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.run().host().local_name(self.as_raw_fd())?.try_into()
    }

    /// The name of the socket that this one is connected to.
    ///
    /// # Errors
    /// `NotConnected` if it is not.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.run().host().peer_name(self.as_raw_fd())?.try_into()
    }
}

/// The wait for a datagram: [`UnixDatagram::recv_from`].
#[must_use = "nothing is received unless it is awaited"]
pub struct UnixRecvFrom<'a> {
    receive: RecvMessage<'a>,
}

impl Future for UnixRecvFrom<'_> {
    type Output = Result<(Chunk, SocketAddr)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let message = ready!(Pin::new(&mut self.receive).poll(cx))?;
        let from = message.sender().try_into()?;
        Poll::Ready(Ok((message.into_bytes(), from)))
    }
}

impl fmt::Debug for UnixRecvFrom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixRecvFrom").finish_non_exhaustive()
    }
}

owns_descriptor!(UnixDatagram, socket);
fds_of_a_part!(UnixDatagram, socket);
