//! A TCP connection.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use crate::error::Result;
use crate::exec::Run;
use crate::io::{Halves, fds_of_a_part, owns_descriptor, reads, take, writes};
use crate::op::Fd;
use crate::ring::{Descriptor, FdKind, Host};

use super::address::Address;
use super::connect::ConnectBuilder;
use super::option::{self, SocketOption};

/// A TCP connection.
///
/// All methods take `&self`: one child may read while another writes. Two readers at a time, or two
/// writers, get [`Error::Busy`](crate::Error::Busy); a dropped one is none. Dropping the stream closes it
/// through the ring once the kernel has let go of its operations; the enclosing scope waits for that.
pub struct TcpStream {
    halves: Halves,
}

impl TcpStream {
    /// Connects to an address, with `TCP_NODELAY` set.
    ///
    /// Cancel class: terminal: a connection half-made is closed. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says; `Cancelled`; [`Error::NoRun`](crate::Error::NoRun).
    ///
    /// ```
    /// use trine::net::{TcpListener, TcpStream};
    ///
    /// trine::run(async || {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let client = TcpStream::connect_addr(listener.local_addr()?).await?;
    ///     let (server, peer) = listener.accept().await?;
    ///     assert_eq!(peer, client.local_addr()?);
    ///     client.write_all("hello").await?;
    ///     assert_eq!(server.recv().await?.expect("not the end"), *b"hello");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn connect_addr(address: SocketAddr) -> Result<TcpStream> {
        TcpStream::builder().attempt(address).await
    }

    /// Connects to an address (`"127.0.0.1:7000"`, a [`SocketAddr`]), or by name
    /// (`"example.org:80"`, `("example.org", 80)`), with `TCP_NODELAY` set.
    ///
    /// Of several addresses the first that answers wins ("happy eyeballs", RFC 8305): they are tried in
    /// the order of the look-up, except that the first one of the other family comes second. The next one
    /// is tried when the one before has failed, or beside it after 250 ms. When there is a winner the
    /// other attempts are cancelled, and by the time that this returns the kernel has let go of them and
    /// they are closed.
    ///
    /// Cancel class: terminal: what is half-made is closed. A look-up is left to itself. Linux 6.1.
    ///
    /// # Errors
    /// Of one address: what the operating system says of it. Of several: all that, in the order of the
    /// failures, in an [`Error::Group`](crate::Error::Group). What [`Address::resolve`] says; `Cancelled`;
    /// [`Error::NoRun`](crate::Error::NoRun).
    ///
    /// ```
    /// use trine::net::{TcpListener, TcpStream};
    ///
    /// trine::run(async || {
    ///     let listener = TcpListener::bind("localhost:0").await?;
    ///     let port = listener.local_addr()?.port();
    ///     let client = TcpStream::connect(("localhost", port)).await?;
    ///     assert_eq!(client.peer_addr()?, listener.local_addr()?);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn connect(address: impl Into<Address>) -> Result<TcpStream> {
        TcpStream::builder().connect(address).await
    }

    /// For more options than [`connect`](TcpStream::connect) has.
    ///
    /// ```
    /// use std::time::Duration;
    /// use trine::net::{TcpListener, TcpStream, option};
    ///
    /// trine::run(async || {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let builder = TcpStream::builder()
    ///         .delay(Duration::from_millis(100))
    ///         .local_address([127, 0, 0, 1].into())
    ///         .option(option::RECEIVE_BUFFER, 32 << 10);
    ///     let client = builder.connect(listener.local_addr()?).await?;
    ///     assert!(client.option(option::RECEIVE_BUFFER)? >= 32 << 10);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn builder() -> ConnectBuilder {
        ConnectBuilder::new()
    }

    /// Takes a descriptor from elsewhere: one that was sent, or inherited. Its options stay as they are.
    ///
    /// # Errors
    /// `InvalidInput` for what is no connected TCP socket, and for a non-blocking one, with which the ring
    /// cannot wait; [`Error::NoRun`](crate::Error::NoRun).
    pub fn from_fd(fd: impl Into<Descriptor>) -> Result<TcpStream> {
        let (run, fd) = take(fd, FdKind::TcpStream)?;
        let stream = TcpStream::new(Rc::clone(&run), run.adopt(fd));
        // Who has set it is not known here, and closing has to know.
        stream.set_linger(stream.linger()?)?;
        Ok(stream)
    }

    pub(super) fn new(run: Rc<Run>, fd: Fd) -> TcpStream {
        TcpStream { halves: Halves::new(run, fd) }
    }

    /// Makes a stream of a connection that a listener took.
    pub(super) fn accepted(
        run: &Rc<Run>,
        socket: Descriptor,
        lingers: bool,
    ) -> io::Result<(TcpStream, SocketAddr)> {
        let peer = run.host().peer_addr(socket.as_raw_fd())?;
        let fd = run.adopt(socket);
        fd.set_lingers(lingers);
        Ok((TcpStream::new(Rc::clone(run), fd), peer))
    }

    fn host(&self) -> &Host {
        self.halves.run().host()
    }

    /// Has [`write_all`](TcpStream::write_all) send what is at least so many bytes long from where it
    /// is, without copying it first (`MSG_ZEROCOPY`); `None`, as it is unless said otherwise: never.
    ///
    /// Such a write ends when the peer's machine has acknowledged the bytes, since the buffer is in use
    /// until then. It pays for large pieces and a fast network; over loopback the kernel copies all the
    /// same. Where it cannot be done (`EOPNOTSUPP`), or not at the moment (`ENOMEM`, `ENOBUFS`), the
    /// bytes are copied.
    ///
    /// Cancel class of such a write: terminal. A peer that takes nothing would keep the buffer for ever,
    /// so to cancel or drop the write resets the connection as soon as anything went out. Linux 6.1.
    ///
    /// # Errors
    /// `InvalidInput` for 0 bytes.
    ///
    /// ```
    /// use trine::net::{TcpListener, TcpStream};
    ///
    /// trine::run(async || {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let client = TcpStream::connect_addr(listener.local_addr()?).await?;
    ///     client.set_zero_copy(Some(32 << 10))?;
    ///     let (server, _peer) = listener.accept().await?;
    ///     client.write_all(vec![1; 100_000]).await?;
    ///     assert_eq!(server.read_exact(Vec::with_capacity(100_000)).await?, [1; 100_000]);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn set_zero_copy(&self, least: Option<usize>) -> io::Result<()> {
        if least == Some(0) {
            let text = "nothing cannot be sent without a copy: say from how many bytes on";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.halves.set_zero_copy(least);
        Ok(())
    }

    /// Shuts a half of the connection: with `Shutdown::Write` the peer sees the end of the stream.
    /// Shutting a half twice is shutting it once.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// What the operating system says, `NotConnected` for one; [`Error::Busy`](crate::Error::Busy) if a task is writing;
    /// `Cancelled`.
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

    /// The address of this end.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.host().local_addr(self.as_raw_fd())
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// What the operating system says, `NotConnected` after a reset for one.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.host().peer_addr(self.as_raw_fd())
    }

    /// Whether small segments go out at once (`TCP_NODELAY`); on unless said otherwise.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.option(option::NODELAY)
    }

    /// Sets whether small segments go out at once (`TCP_NODELAY`).
    ///
    /// # Errors
    /// What the operating system says.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.set_option(option::NODELAY, on)
    }

    /// After how long an idle connection is probed (`SO_KEEPALIVE`, `TCP_KEEPIDLE`); `None`: never.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn keepalive(&self) -> io::Result<Option<Duration>> {
        match self.option(option::KEEPALIVE)? {
            true => self.option(option::KEEPALIVE_IDLE).map(Some),
            false => Ok(None),
        }
    }

    /// Sets after how long an idle connection is probed, in whole seconds, rounded up.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn set_keepalive(&self, idle: Option<Duration>) -> io::Result<()> {
        self.set_option(option::KEEPALIVE, idle.is_some())?;
        idle.map_or(Ok(()), |idle| self.set_option(option::KEEPALIVE_IDLE, idle))
    }

    /// How long closing waits for unsent data (`SO_LINGER`); `None`: it does not wait.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.option(option::LINGER)
    }

    /// Sets how long closing waits for unsent data, in whole seconds, rounded up; zero makes closing
    /// reset the connection. It is the kernel that waits, on a thread of its own: the run goes on.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn set_linger(&self, time: Option<Duration>) -> io::Result<()> {
        self.set_option(option::LINGER, time)?;
        self.halves.fd().set_lingers(option::waits(time));
        Ok(())
    }

    /// The value of an [option](mod@super::option).
    ///
    /// # Errors
    /// What the operating system says.
    pub fn option<T>(&self, option: SocketOption<T>) -> io::Result<T> {
        option.get(self.host(), self.as_raw_fd())
    }

    /// Sets an [option](mod@super::option).
    ///
    /// # Errors
    /// What the operating system says: that it does not know the option, or that the value will not do.
    pub fn set_option<T>(&self, option: SocketOption<T>, value: T) -> io::Result<()> {
        option.set(self.host(), self.as_raw_fd(), value)
    }

    /// Takes the error of the connection that no operation has reported yet (`SO_ERROR`).
    ///
    /// # Errors
    /// What the operating system says.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.option(option::ERROR)
    }
}

reads!(TcpStream, "What the operating system says, `ConnectionReset` for one");
writes! {
    TcpStream, "What the operating system says, `BrokenPipe` for one",
    |stream| stream.shutdown(Shutdown::Write)
}
owns_descriptor!(TcpStream, halves);
fds_of_a_part!(TcpStream, halves);
