//! The accept loop that everybody needs.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::AsyncFn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::nursery::nursery;
use crate::scope::idle;
use crate::sync::CapacityLimiter;
use crate::time::sleep;

use super::listener::{Accept, TcpListener};
use super::stream::TcpStream;

/// Serves the connections of a listener or of several, at most `limit` at a time, each with a call of
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
pub fn serve<L, H>(
    listeners: &L,
    limit: usize,
    handler: H,
) -> impl Future<Output = Result> + use<'_, L, H>
where
    L: AsRef<[TcpListener]> + ?Sized,
    H: AsyncFn(TcpStream, SocketAddr) -> Result,
{
    let serve = Serve::new(limit);
    async move { serve.run(listeners, handler).await }
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
        peer: SocketAddr,
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
    pub async fn run<L, H>(&self, listeners: &L, handler: H) -> Result
    where
        L: AsRef<[TcpListener]> + ?Sized,
        H: AsyncFn(TcpStream, SocketAddr) -> Result,
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
                    let end = handler(stream, peer).await;
                    drop(token);
                    self.ended(peer, end)
                });
            }
            Ok(())
        })
        .await
    }

    /// The next connection, of this listener if it has one, else of another; `None`: drained.
    async fn accept(
        &self,
        listeners: &[TcpListener],
        first: usize,
    ) -> Result<Option<(TcpStream, SocketAddr)>> {
        let (before, from_first) = listeners.split_at(first);
        loop {
            let in_turn = from_first.iter().chain(before);
            let mut accepts: Vec<Accept<'_>> = in_turn.map(TcpListener::accept).collect();
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
    fn ended(&self, peer: SocketAddr, end: Result) -> Result {
        match end {
            Err(error) if !error.is_cancelled() => {
                (self.on_trouble)(Trouble::Connection { peer, error: &error });
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
