//! Listening for connections within the machine.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf, absolute};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::exec;
use crate::io::{IntoFdError, owns_descriptor, take};
use crate::ring::{Descriptor, FdKind, FileId, Host, SockAddr};

use super::super::accept::{AcceptSocket, Acceptor, BACKLOG};
use super::super::option::SocketOption;
use super::stream::UnixStream;

/// A Unix socket that listens for connections.
///
/// Bound to a path it makes a file there, which outlives it: the kernel takes it away with neither the
/// listener nor the process, and nobody else can be bound to the path until somebody removes the file.
/// [`unlink_on_close`](UnixListenBuilder::unlink_on_close) does that when the listener is closed or dropped;
/// what a process that was killed has left has to be removed before binding. Abstract names need none of
/// this: they are gone with the listener.
///
/// As with [`TcpListener`](crate::net::TcpListener) a connection that arrives when nobody waits stays with
/// the listener (rule D7) or in the kernel's backlog, and dropping closes it through the ring.
pub struct UnixListener {
    acceptor: Acceptor,
    file: Option<SocketFile>,
}

/// The file of a listener. It is removed with this, unless its name is somebody else's by then.
struct SocketFile {
    path: PathBuf,
    id: FileId,
    host: Host,
    /// The listener was given away.
    stays: bool,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        if self.host.file_id(&self.path).is_ok_and(|id| id == self.id) {
            // There is nobody to tell; who binds next hears of it.
            let _ = self.host.unlink(&self.path);
        }
    }
}

impl UnixListener {
    /// Listens at this path, and leaves the file there when it is closed.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// `AddrInUse` where there is a file already; `InvalidInput` for a path that is too long (more than 107
    /// bytes); what else the operating system says; `Cancelled`; [`Error::NoRun`](crate::Error::NoRun).
    ///
    /// See [`UnixStream::connect`] for an example.
    pub async fn bind(path: impl AsRef<Path>) -> Result<UnixListener> {
        UnixListener::builder().bind(path).await
    }

    /// Listens at this address: of a path, or an abstract name.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// As [`bind`](UnixListener::bind); `AddrInUse` where somebody has the abstract name.
    ///
    /// ```
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    /// use trine::net::{UnixListener, UnixStream};
    ///
    /// let name = SocketAddr::from_abstract_name(format!("trine-doc-{}", std::process::id()))?;
    /// trine::run(async || {
    ///     let listener = UnixListener::bind_addr(&name).await?;
    ///     let client = UnixStream::connect_addr(&name).await?;
    ///     let (server, peer) = listener.accept().await?;
    ///     assert!(peer.is_unnamed());
    ///     server.close().await?;
    ///     assert!(client.recv().await?.is_none());
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn bind_addr(address: &SocketAddr) -> Result<UnixListener> {
        UnixListener::builder().bind_addr(address).await
    }

    /// Takes a descriptor from elsewhere: one that was inherited, say. A file that it has stays.
    ///
    /// # Errors
    /// `InvalidInput` for what is no Unix stream socket that listens, and for a non-blocking one, with which the ring
    /// cannot wait; [`Error::NoRun`](crate::Error::NoRun).
    pub fn from_fd(fd: impl Into<Descriptor>) -> Result<UnixListener> {
        let (run, fd) = take(fd, FdKind::UnixListener)?;
        Ok(UnixListener { acceptor: Acceptor::new(run, fd), file: None })
    }

    /// For more options than [`bind`](UnixListener::bind) has.
    pub fn builder() -> UnixListenBuilder {
        UnixListenBuilder { backlog: BACKLOG, unlink: false }
    }

    /// Takes the next connection, and says what name its other end has; mostly none.
    ///
    /// Awaited again after `Cancelled`, it starts anew.
    ///
    /// Cancel class: total: a connection is returned, or stays with the listener or in the backlog.
    /// Linux 6.1.
    ///
    /// # Errors
    /// When no descriptor is left (`EMFILE`, `ENFILE`) or no memory; the connection stays queued and the
    /// listener usable. [`Error::Busy`](crate::Error::Busy) if another task waits here; `Cancelled`.
    pub fn accept(&self) -> UnixAccept<'_> {
        UnixAccept { sockets: self.acceptor.accept() }
    }

    /// The address it listens at.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.acceptor.run().host().local_name(self.as_raw_fd())?.try_into()
    }

    /// The value of an [option](mod@crate::net::option), of those for all sockets:
    /// [`RECEIVE_BUFFER`](crate::net::option::RECEIVE_BUFFER), say, or
    /// [`SEND_BUFFER`](crate::net::option::SEND_BUFFER), which limits what may be under way.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn option<T>(&self, option: SocketOption<T>) -> io::Result<T> {
        option.get(self.acceptor.run().host(), self.as_raw_fd())
    }

    /// Sets an [option](mod@crate::net::option).
    ///
    /// # Errors
    /// What the operating system says: `EOPNOTSUPP` for one that is of TCP or the internet, or that the value
    /// will not do.
    pub fn set_option<T>(&self, option: SocketOption<T>, value: T) -> io::Result<()> {
        option.set(self.acceptor.run().host(), self.as_raw_fd(), value)
    }

    /// Makes a second descriptor of the same, to be sent or handed to somebody.
    ///
    /// # Errors
    /// `EMFILE` where there are too many descriptors.
    pub fn duplicate(&self) -> io::Result<Descriptor> {
        self.acceptor.run().host().duplicate(self.as_raw_fd())
    }

    /// Gives the descriptor away. The accept that the kernel has is cancelled and waited for. A file that was
    /// to be removed on closing stays, since somebody else listens there now.
    ///
    /// Cancel class: total; but a dropped one closes it. Linux 6.1.
    ///
    /// # Errors
    /// With each of them the listener comes back as it was. `ResourceBusy` if connections were accepted that
    /// nobody has taken, since they would be lost: take them and try again. `Cancelled`.
    pub async fn into_fd(self) -> Result<Descriptor, IntoFdError<UnixListener>> {
        let UnixListener { acceptor, mut file } = self;
        match acceptor.into_fd().await {
            Ok(fd) => {
                file.iter_mut().for_each(|file| file.stays = true);
                Ok(fd)
            }
            Err(kept) => Err(kept.of(|acceptor| UnixListener { acceptor, file })),
        }
    }

    /// Closes the listener and waits until that is done; removes its file before, if that was asked for.
    ///
    /// Cancel class: terminal. In a cancelled scope it is closed all the same, and `Cancelled` is reported
    /// (rule M2).
    ///
    /// # Errors
    /// `Cancelled`, or what the operating system says; it is closed in any case.
    pub async fn close(self) -> Result {
        let UnixListener { acceptor, file } = self;
        drop(file);
        acceptor.close().await
    }
}

/// How a listener is made: [`UnixListener::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `bind` is called"]
pub struct UnixListenBuilder {
    backlog: u32,
    unlink: bool,
}

impl UnixListenBuilder {
    /// How many connections may wait to be accepted; as many as the kernel allows unless said otherwise.
    /// Those beyond wait in their `connect`.
    pub fn backlog(mut self, connections: u32) -> UnixListenBuilder {
        self.backlog = connections;
        self
    }

    /// Whether the file is removed when the listener is closed or dropped; not unless asked for. A file that
    /// another listener has put in its place meanwhile is left alone.
    pub fn unlink_on_close(mut self, unlink: bool) -> UnixListenBuilder {
        self.unlink = unlink;
        self
    }

    /// Listens, as [`UnixListener::bind`] does.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// As [`UnixListener::bind`].
    pub async fn bind(self, path: impl AsRef<Path>) -> Result<UnixListener> {
        self.bind_addr(&SocketAddr::from_pathname(path)?).await
    }

    /// Listens, as [`UnixListener::bind_addr`] does.
    ///
    /// Cancel class: total. Linux 6.1.
    ///
    /// # Errors
    /// As [`UnixListener::bind_addr`].
    pub async fn bind_addr(self, address: &SocketAddr) -> Result<UnixListener> {
        let run = exec::current()?;
        run.answer_at_once().await?;
        let host = run.host();
        let socket = host.unix_listen(&SockAddr::from(address), self.backlog)?;
        let file = match address.as_pathname().filter(|_| self.unlink) {
            Some(path) => {
                let id = host.file_id(path)?;
                // The working directory may change until then.
                Some(SocketFile { path: absolute(path)?, id, host: host.clone(), stays: false })
            }
            None => None,
        };
        Ok(UnixListener { acceptor: Acceptor::new(Rc::clone(&run), socket), file })
    }
}

/// The wait for a connection: [`UnixListener::accept`].
#[must_use = "nothing is accepted unless it is awaited"]
pub struct UnixAccept<'a> {
    sockets: AcceptSocket<'a>,
}

impl Future for UnixAccept<'_> {
    type Output = Result<(UnixStream, SocketAddr)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.sockets.poll(cx, UnixStream::accepted)
    }
}

impl fmt::Debug for UnixAccept<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixAccept").field("fd", &self.sockets).finish_non_exhaustive()
    }
}

impl AsRef<[UnixListener]> for UnixListener {
    /// One is a few: [`serve`](crate::net::serve()) takes either.
    fn as_ref(&self) -> &[UnixListener] {
        std::slice::from_ref(self)
    }
}

owns_descriptor!(UnixListener, acceptor);
