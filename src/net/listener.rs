//! Listening for TCP connections.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::exec::{self, Run};
use crate::io::{fds_of_a_part, owns_descriptor, take};
use crate::ring::{Descriptor, FdKind, Host};

use super::accept::{AcceptSocket, Acceptor, BACKLOG};
use super::address::Address;
use super::option::{self, Settings, SocketOption};
use super::stream::TcpStream;

/// A socket that listens for TCP connections.
///
/// One multishot accept serves all calls of [`accept`](TcpListener::accept); where the kernel has
/// none, single ones do. It is cancelled with the scope in which it was last awaited, and a connection
/// that arrives when nobody waits stays with the listener (rule D7) or in the kernel's backlog.
/// Dropping the listener closes it through the ring.
pub struct TcpListener {
    acceptor: Acceptor,
}

impl TcpListener {
    /// Listens at an address (`"127.0.0.1:7000"`, `"[::]:0"`, a [`SocketAddr`]) or a name
    /// (`"localhost:7000"`: the first of its addresses that works). `SO_REUSEADDR` is set; an IPv6
    /// listener takes IPv6 only.
    ///
    /// Cancel class: total. A name is looked up in a thread, which is left alone when the wait for it
    /// is cancelled.
    ///
    /// # Errors
    /// What the operating system says of the address; `Cancelled`; [`Error::NoRun`](crate::Error::NoRun).
    ///
    /// ```
    /// use trine::net::TcpListener;
    ///
    /// trine::run(async || {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     assert_ne!(listener.local_addr()?.port(), 0);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn bind(address: impl Into<Address>) -> Result<TcpListener> {
        TcpListener::builder().bind(address).await
    }

    /// Takes a descriptor from elsewhere: one that was inherited, say. Its options stay as they are.
    ///
    /// # Errors
    /// `InvalidInput` for what is no TCP socket that listens, and for a non-blocking one, with which the ring
    /// cannot wait; [`Error::NoRun`](crate::Error::NoRun).
    pub fn from_fd(fd: impl Into<Descriptor>) -> Result<TcpListener> {
        let (run, fd) = take(fd, FdKind::TcpListener)?;
        let listener = TcpListener::new(&run, fd);
        // What it accepts inherits that, and closing has to know.
        let linger = listener.option(option::LINGER)?;
        listener.acceptor.set_lingers(option::waits(linger));
        Ok(listener)
    }

    fn new(run: &Rc<Run>, socket: Descriptor) -> TcpListener {
        TcpListener { acceptor: Acceptor::new(Rc::clone(run), socket) }
    }

    /// For more options than [`bind`](TcpListener::bind) has.
    pub fn builder() -> ListenBuilder {
        let mut settings = Settings::default();
        settings.add(option::REUSE_ADDRESS, true);
        // What is accepted inherits it: one system call less for each connection.
        settings.add(option::NODELAY, true);
        ListenBuilder { backlog: BACKLOG, settings }
    }

    /// Takes the next connection, with `TCP_NODELAY` set.
    ///
    /// Errors of a connection that died in the queue, or of the network underneath, are passed over
    /// (rule of Trio's listener). Awaited again after `Cancelled`, it starts anew.
    ///
    /// Cancel class: total: a connection is returned, or stays with the listener or in the backlog.
    /// Linux 6.1.
    ///
    /// # Errors
    /// When no descriptor is left (`EMFILE`, `ENFILE`) or no memory; the connection stays queued and
    /// the listener usable. [`Error::Busy`](crate::Error::Busy) if another task waits here; `Cancelled`.
    pub fn accept(&self) -> Accept<'_> {
        Accept { sockets: self.acceptor.accept() }
    }

    /// The address it listens at.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.acceptor.run().host().local_addr(self.acceptor.as_raw_fd())
    }

    /// The value of an [option](mod@super::option).
    ///
    /// # Errors
    /// What the operating system says.
    pub fn option<T>(&self, option: SocketOption<T>) -> io::Result<T> {
        option.get(self.acceptor.run().host(), self.acceptor.as_raw_fd())
    }

    /// Sets an [option](mod@super::option); connections that are accepted later inherit it.
    ///
    /// # Errors
    /// What the operating system says: that it does not know the option, or that the value will not do.
    pub fn set_option<T>(&self, option: SocketOption<T>, value: T) -> io::Result<()> {
        option.set(self.acceptor.run().host(), self.acceptor.as_raw_fd(), value)
    }

    /// Closes the listener and waits until that is done.
    ///
    /// Cancel class: terminal. In a cancelled scope it is closed all the same, and `Cancelled` is reported
    /// (rule M2).
    ///
    /// # Errors
    /// `Cancelled`, or what the operating system says; it is closed in any case.
    pub async fn close(self) -> Result {
        self.acceptor.close().await
    }
}

/// How a listener is made: [`TcpListener::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `bind` is called"]
pub struct ListenBuilder {
    backlog: u32,
    settings: Settings,
}

impl ListenBuilder {
    /// How many connections may wait to be accepted; as many as the kernel allows unless said
    /// otherwise (`net.core.somaxconn` cuts it).
    pub fn backlog(mut self, connections: u32) -> ListenBuilder {
        self.backlog = connections;
        self
    }

    /// Whether several listeners, of several processes too, may share the address
    /// (`SO_REUSEPORT`). Off unless said otherwise.
    pub fn reuse_port(self, share: bool) -> ListenBuilder {
        self.option(option::REUSE_PORT, share)
    }

    /// Sets an [option](mod@super::option) of the socket before it listens.
    pub fn option<T>(mut self, option: SocketOption<T>, value: T) -> ListenBuilder {
        self.settings.add(option, value);
        self
    }

    /// Listens, as [`TcpListener::bind`] does.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub async fn bind(self, address: impl Into<Address>) -> Result<TcpListener> {
        let run = exec::current()?;
        let listen = |address| self.listen(run.host(), address);
        let socket = address.into().first_that_works(&run, listen).await?;
        Ok(TcpListener::new(&run, socket))
    }

    /// Listens at all addresses of a name, or with [`Address::any`] at all of this machine, each with a
    /// listener of its own; [`serve`](super::serve()) takes connections from all of them.
    ///
    /// What this machine has not (IPv6, say) is passed over, as long as something is left. With port 0
    /// each listener has a port of its own.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// As [`TcpListener::bind`]. Then nothing is listened at.
    ///
    /// ```
    /// use trine::net::{Address, TcpListener};
    ///
    /// trine::run(async || {
    ///     let listeners = TcpListener::builder().bind_all(Address::any(0)).await?;
    ///     for listener in &listeners {
    ///         assert!(listener.local_addr()?.ip().is_unspecified());
    ///     }
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn bind_all(self, address: impl Into<Address>) -> Result<Vec<TcpListener>> {
        let run = exec::current()?;
        let addresses = address.into().resolve().await?;
        run.schedule_point().await;
        let (mut sockets, mut lacking) = (Vec::new(), None);
        for address in addresses {
            match self.listen(run.host(), address) {
                Ok(socket) => sockets.push(socket),
                Err(error) if is_lacking(&error, address) => lacking = lacking.or(Some(error)),
                Err(error) => return Err(error.into()),
            }
        }
        match lacking {
            Some(error) if sockets.is_empty() => Err(error.into()),
            _ => Ok(sockets.into_iter().map(|socket| TcpListener::new(&run, socket)).collect()),
        }
    }

    fn listen(&self, host: &Host, address: SocketAddr) -> io::Result<Descriptor> {
        let socket = host.tcp_socket(address)?;
        let fd = socket.as_raw_fd();
        self.settings.apply(host, fd)?;
        if address.is_ipv6() {
            // So that 0.0.0.0 and [::] can be bound side by side, whatever the sysctl says.
            option::V6_ONLY.set(host, fd, true)?;
        }
        host.bind(fd, address)?;
        host.listen(fd, self.backlog)?;
        Ok(socket)
    }
}

/// The machine has no addresses of this family: the kernel was made without it, or it is switched off,
/// and then the loopback address is missing, which is there otherwise.
fn is_lacking(error: &io::Error, address: SocketAddr) -> bool {
    match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => true,
        Some(libc::EADDRNOTAVAIL) => address.is_ipv6() && address.ip().is_loopback(),
        _ => false,
    }
}

/// The wait for a connection: [`TcpListener::accept`].
#[must_use = "nothing is accepted unless it is awaited"]
pub struct Accept<'a> {
    sockets: AcceptSocket<'a>,
}

impl Future for Accept<'_> {
    type Output = Result<(TcpStream, SocketAddr)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lingers = self.sockets.lingers();
        self.sockets.poll(cx, |run, socket| TcpStream::accepted(run, socket, lingers))
    }
}

impl fmt::Debug for Accept<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accept").field("fd", &self.sockets).finish_non_exhaustive()
    }
}

impl AsRef<[TcpListener]> for TcpListener {
    /// One is a few: [`serve`](super::serve()) takes either.
    fn as_ref(&self) -> &[TcpListener] {
        std::slice::from_ref(self)
    }
}

owns_descriptor!(TcpListener, acceptor);
fds_of_a_part!(TcpListener, acceptor);
