//! The accept loop that everybody needs.

use std::fmt;
use std::net::SocketAddr;
use std::ops::AsyncFn;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::nursery::nursery;
use crate::scope::idle;
use crate::sync::CapacityLimiter;
use crate::time::sleep;

use super::listener::TcpListener;
use super::stream::TcpStream;

/// Serves connections, at most `limit` at a time, each with a call of `handler`, until the scope around is
/// [drained](crate::CancelScope::drain) or cancelled.
///
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
/// `Cancelled`; what the listener fails with otherwise.
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
pub fn serve<H>(
    listener: &TcpListener,
    limit: usize,
    handler: H,
) -> impl Future<Output = Result> + use<'_, H>
where
    H: AsyncFn(TcpStream, SocketAddr) -> Result,
{
    let serve = Serve::new(limit);
    async move { serve.run(listener, handler).await }
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
    /// # Errors
    /// As [`serve`](serve()).
    pub async fn run<H>(&self, listener: &TcpListener, handler: H) -> Result
    where
        H: AsyncFn(TcpStream, SocketAddr) -> Result,
    {
        let room = CapacityLimiter::new(self.limit);
        nursery(async |n| {
            while let Some(token) = idle(room.acquire()).await? {
                let Some((stream, peer)) = self.accept(listener).await? else { break };
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

    /// The next connection; `None`: drained.
    async fn accept(&self, listener: &TcpListener) -> Result<Option<(TcpStream, SocketAddr)>> {
        loop {
            let error = match idle(listener.accept()).await {
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
