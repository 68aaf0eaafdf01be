//! The accept loop that everybody needs.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::AsyncFn;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net as unix;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::nursery::nursery;
use crate::scope::idle;
use crate::sync::CapacityLimiter;
use crate::time::sleep;

use super::listener::TcpListener;
use super::stream::TcpStream;
use super::unix::{UnixListener, UnixStream};

/// Serves the connections of a listener or of several, TCP or Unix, at most `limit` at a time, each with a call of
/// `handler`, until the scope around is [drained](crate::CancelScope::drain) or cancelled.
///
/// - Of several listeners each has its turn.
/// - Connections beyond the limit wait in the listener's queue.
/// - What `handler` fails with ends its connection and no other; it is told on standard error, or to whom
///   [`Serve::on_trouble`] says.
/// - When no descriptor or no memory is left it says so and tries again after 100 ms.
/// - Drained, it takes no more connections and waits for those that are served. The handler says what
///   is [`idle`](crate::idle()) in them. Those that nobody has taken are reset when the listener closes.
///
/// Cancel class: that of the handlers. A connection is served or stays in the queue.
///
/// # Errors
/// `Cancelled`; what the listener fails with otherwise; `InvalidInput` for no listener at all.
///
/// ```no_run
/// use trine::idle;
/// use trine::net::{TcpListener, serve};
///
/// trine::run(async || {
///     let listener = TcpListener::bind("127.0.0.1:7000").await?;
///     serve(&listener, 10_000, async |stream, _peer| {
///         while let Some(Some(request)) = idle(stream.recv()).await? {
///             stream.write_all(request).await?;
///         }
///         stream.close().await
///     })
///     .await
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn serve<L, A, H>(
    listeners: &L,
    limit: usize,
    handler: H,
) -> impl Future<Output = Result> + use<'_, L, A, H>
where
    L: AsRef<[A]> + ?Sized,
    A: Listen,
    H: AsyncFn(A::Stream, A::Address) -> Result,
{
    let serve = Serve::new(limit);
    async move { serve.run(listeners, handler).await }
}

/// What connections are taken from: [`TcpListener`], [`UnixListener`].
pub trait Listen: sealed::Sealed {
    /// A connection.
    type Stream;
    /// Where its other end is.
    type Address: Clone + Into<Peer>;

    /// Takes the next connection.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// As [`TcpListener::accept`].
    fn accept(&self) -> impl Future<Output = Result<(Self::Stream, Self::Address)>> + Unpin;
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    type Address = SocketAddr;

    fn accept(&self) -> impl Future<Output = Result<(TcpStream, SocketAddr)>> + Unpin {
        TcpListener::accept(self)
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    type Address = unix::SocketAddr;

    fn accept(&self) -> impl Future<Output = Result<(UnixStream, unix::SocketAddr)>> + Unpin {
        UnixListener::accept(self)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::TcpListener {}
    impl Sealed for super::UnixListener {}
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Peer {
    /// Somebody with this address.
    Internet(SocketAddr),
    /// A process of this machine, with this name; mostly it has none.
    Unix(unix::SocketAddr),
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer::Internet(address)
    }
}

impl From<unix::SocketAddr> for Peer {
    fn from(address: unix::SocketAddr) -> Peer {
        Peer::Unix(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Internet(address) => address.fmt(f),
            Peer::Unix(address) => match (address.as_pathname(), address.as_abstract_name()) {
                (Some(path), _) => path.display().fmt(f),
                (None, Some(name)) => write!(f, "@{}", name.escape_ascii()),
                (None, None) => f.write_str("a process without a name"),
            },
        }
    }
}

/// How [`serve`](serve()) goes about it.
pub struct Serve {
    limit: usize,
    on_trouble: Box<dyn Fn(Trouble<'_>)>,
}

/// What went wrong while connections were served; it goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Trouble<'a> {
    /// No connection can be taken at the moment.
    Accept {
        /// Why.
        error: &'a Error,
        /// When it is tried again.
        retry_after: Duration,
    },
    /// A connection has ended with an error.
    Connection {
        /// With whom it was.
        peer: Peer,
        /// The error.
        error: &'a Error,
    },
}

impl fmt::Display for Trouble<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Accept { error, retry_after } => {
                write!(f, "cannot take connections: {error}; trying again in {retry_after:?}")
            }
            Trouble::Connection { peer, error } => write!(f, "the connection with {peer}: {error}"),
        }
    }
}

/// How long to wait for better times.
const PAUSE: Duration = Duration::from_millis(100);

impl Serve {
    /// With at most so many connections at a time.
    pub fn new(limit: usize) -> Serve {
        Serve { limit, on_trouble: Box::new(|trouble| eprintln!("trine: {trouble}")) }
    }

    /// Tells this one what goes wrong.
    #[must_use]
    pub fn on_trouble(mut self, tell: impl Fn(Trouble<'_>) + 'static) -> Serve {
        self.on_trouble = Box::new(tell);
        self
    }

    /// Does it: [`serve`](serve()).
    ///
    /// Cancel class: that of the handlers.
    ///
    /// # Errors
    /// As [`serve`](serve()).
    pub async fn run<L, A, H>(&self, listeners: &L, handler: H) -> Result
    where
        L: AsRef<[A]> + ?Sized,
        A: Listen,
        H: AsyncFn(A::Stream, A::Address) -> Result,
    {
        let listeners = listeners.as_ref();
        if listeners.is_empty() {
            let text = "there is no listener to serve the connections of";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
        }
        let room = CapacityLimiter::new(self.limit);
        let mut turns = (0..listeners.len()).cycle();
        nursery(async |n| {
            while let Some(token) = idle(room.acquire()).await? {
                let first = turns.next().unwrap_or(0);
                let Some((stream, peer)) = self.accept(listeners, first).await? else { break };
                let handler = &handler;
                n.spawn(async move {
                    let end = handler(stream, peer.clone()).await;
                    drop(token);
                    self.ended(peer, end)
                });
            }
            Ok(())
        })
        .await
    }

    /// The next connection, of this listener if it has one, else of another; `None`: drained.
    async fn accept<A: Listen>(
        &self,
        listeners: &[A],
        first: usize,
    ) -> Result<Option<(A::Stream, A::Address)>> {
        let (before, from_first) = listeners.split_at(first);
        loop {
            let in_turn = from_first.iter().chain(before);
            let mut accepts: Vec<_> = in_turn.map(A::accept).collect();
            let accept = poll_fn(|cx| {
                let mut polled = accepts.iter_mut().map(|accept| Pin::new(accept).poll(cx));
                polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
            });
            let error = match idle(accept).await {
                Err(error) if is_shortage(&error) => error,
                ended => return ended,
            };
            (self.on_trouble)(Trouble::Accept { error: &error, retry_after: PAUSE });
            if idle(sleep(PAUSE)).await?.is_none() {
                return Ok(None);
            }
        }
    }

    /// A cancellation is no trouble, and goes on to the scope that wanted it.
    fn ended(&self, peer: impl Into<Peer>, end: Result) -> Result {
        match end {
            Err(error) if !error.is_cancelled() => {
                (self.on_trouble)(Trouble::Connection { peer: peer.into(), error: &error });
                Ok(())
            }
            end => end,
        }
    }
}

/// There is too little of something, and later there may be more.
fn is_shortage(error: &Error) -> bool {
    let Error::Io(error) = error else { return false };
    let shortages = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|errno| shortages.contains(&errno))
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("limit", &self.limit).finish_non_exhaustive()
    }
}
