//! Looking names up, and who does it.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::AsyncFn;
use std::pin::Pin;

use crate::error::{Error, Result};
use crate::exec;
use crate::local::RunLocal;
use crate::sync::CapacityLimiter;
use crate::thread;

/// Has `resolver` look names up from now on, in this run, in place of [`look_up`]: for tests, for a cache,
/// for whatever else knows where services are. It gets a host and a port.
///
/// # Errors
/// [`Error::NoRun`] outside of a run; [`Error::RunFinished`] while the run ends.
///
/// ```
/// use trine::net::{TcpListener, TcpStream, look_up, set_resolver};
///
/// trine::run(async || {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let database = listener.local_addr()?;
///     set_resolver(async move |host: &str, port| match host {
///         "database.internal" => Ok(vec![database]),
///         _ => look_up(host, port).await,
///     })?;
///     let stream = TcpStream::connect("database.internal:5432").await?;
///     assert_eq!(stream.peer_addr()?, database);
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub fn set_resolver(
    resolver: impl AsyncFn(&str, u16) -> Result<Vec<SocketAddr>> + 'static,
) -> Result {
    RESOLVER.set(Some(Box::new(resolver))).map(drop)
}

/// Asks the system for the addresses of a host, in the order in which they are best tried (`getaddrinfo`,
/// RFC 6724).
///
/// A thread asks, and is left to itself when the wait for it is cancelled: a look-up cannot be stopped and
/// changes nothing. At most 40 of a run ask at a time, beside those of [`thread::run`]: where nobody answers, names
/// wait for one another, and other work does not wait for them.
///
/// Cancel class: total.
///
/// # Errors
/// What the system says, with the name; `Cancelled`; [`Error::NoRun`] outside of a run.
///
/// ```
/// trine::run(async || {
///     let found = trine::net::look_up("localhost", 80).await?;
///     assert!(found.iter().all(|address| address.ip().is_loopback()));
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let run = exec::current()?;
    if let Some(known) = run.host().known_addresses(host, port) {
        run.answer_at_once().await?;
        return known.map_err(|error| not_found(host, error));
    }
    let name = (host.to_owned(), port);
    let ask = move || (name.0.as_str(), name.1).to_socket_addrs().map(Iterator::collect);
    let asking = thread::Builder::new().limiter(&ASKING.get()?).abandon_on_cancel(true);
    let found: io::Result<_> = asking.run(ask).await?;
    found.map_err(|error| not_found(host, error))
}

/// Abandoned look-ups keep their threads until the system gives up, which takes it many seconds.
static ASKING: RunLocal<CapacityLimiter> = RunLocal::new(|| CapacityLimiter::new(thread::THREADS));

/// Whoever does it in this run.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    match &*RESOLVER.get()? {
        Some(resolver) => resolver.resolve(host, port).await,
        None => look_up(host, port).await,
    }
}

fn not_found(host: &str, error: io::Error) -> Error {
    io::Error::new(error.kind(), format!("cannot look up {host}: {error}")).into()
}

static RESOLVER: RunLocal<Option<Box<dyn Resolver>>> = RunLocal::new(|| None);

type Found<'a> = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>>> + 'a>>;

/// An asynchronous closure whose type does not matter.
trait Resolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Found<'a>;
}

impl<F: AsyncFn(&str, u16) -> Result<Vec<SocketAddr>>> Resolver for F {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Found<'a> {
        Box::pin(self(host, port))
    }
}
