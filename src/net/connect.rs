//! Connecting: to one address, or to the first that answers of those behind a name.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use crate::error::{Error, Result, Unwind};
use crate::exec::{self, Run};
use crate::io::close;
use crate::nursery::nursery;
use crate::op::{Fd, Submission};
use crate::ring::{Descriptor, SockAddr};
use crate::scope::move_on_after;
use crate::sync::Event;

use super::address::Address;
use super::option::{self, Settings, SocketOption};
use super::stream::TcpStream;

/// How a connection is made: [`TcpStream::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `connect` is called"]
pub struct ConnectBuilder {
    delay: Duration,
    local: Option<IpAddr>,
    settings: Settings,
}

impl ConnectBuilder {
    pub(super) fn new() -> ConnectBuilder {
        let mut settings = Settings::default();
        settings.add(option::NODELAY, true);
        ConnectBuilder { delay: DELAY, local: None, settings }
    }

    /// How long an attempt is given before the next address is tried beside it; 250 ms unless said
    /// otherwise (RFC 8305, section 8).
    pub fn delay(mut self, delay: Duration) -> ConnectBuilder {
        self.delay = delay;
        self
    }

    /// Connects from this address of the machine; the port is the kernel's choice
    /// (`IP_BIND_ADDRESS_NO_PORT`). An address of the other family is not tried then, and that is its error.
    pub fn local_address(mut self, ip: IpAddr) -> ConnectBuilder {
        self.local = Some(ip);
        self
    }

    /// Sets an [option](mod@super::option) of each socket before it connects.
    pub fn option<T>(mut self, option: SocketOption<T>, value: T) -> ConnectBuilder {
        self.settings.add(option, value);
        self
    }

    /// Connects, as [`TcpStream::connect`] does.
    ///
    /// Cancel class: terminal, as there. Linux 6.1.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    pub async fn connect(self, address: impl Into<Address>) -> Result<TcpStream> {
        let address = address.into();
        let name = address.name();
        let mut targets = address.resolve().await?;
        alternate(&mut targets);
        let told = |error, target| told(error, name.as_deref(), target);
        match targets[..] {
            [only] => self.attempt(only).await.map_err(|error| told(error, only)),
            _ => self.race(&targets, told).await,
        }
    }

    /// One attempt after the other, each a child, until one succeeds. Leaving the nursery ends the others.
    async fn race(
        &self,
        targets: &[SocketAddr],
        told: impl Fn(Error, SocketAddr) -> Error,
    ) -> Result<TcpStream> {
        let failed: Vec<Event> = targets.iter().map(|_| Event::new()).collect();
        let errors = RefCell::new(Vec::new());
        let winner = nursery(async |n| {
            for (&target, failed) in targets.iter().zip(&failed) {
                let (errors, told) = (&errors, &told);
                n.spawn(async move {
                    match self.attempt(target).await {
                        Ok(stream) => n.finish(Some(stream)),
                        Err(error @ Error::Io(_)) => {
                            errors.borrow_mut().push(told(error, target));
                            failed.set();
                        }
                        Err(error) => return Err(error),
                    }
                    Ok(())
                });
                move_on_after(self.delay, async |_| failed.wait().await).await?;
            }
            Ok(None)
        })
        .await?;
        winner.ok_or_else(|| Error::gather(errors.into_inner()))
    }

    /// Connects to one address.
    pub(super) async fn attempt(&self, to: SocketAddr) -> Result<TcpStream> {
        let run = exec::current()?;
        poll_fn(|_| run.cancel_point()).await?;
        let fd = connect(&run, self.socket(&run, to)?, SockAddr::from(to)).await?;
        Ok(TcpStream::new(run, fd))
    }

    /// A socket that is ready to connect there.
    fn socket(&self, run: &Run, to: SocketAddr) -> io::Result<Descriptor> {
        let host = run.host();
        if let Some(local) = self.local.filter(|local| local.is_ipv4() != to.is_ipv4()) {
            let text = format!("the local address {local} is of the other family");
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
        }
        let socket = host.tcp_socket(to)?;
        let fd = socket.as_raw_fd();
        self.settings.apply(host, fd)?;
        if let Some(local) = self.local {
            // Without it there are fewer ports to choose from, and that is all.
            let _ = option::BIND_WITHOUT_PORT.set(host, fd, true);
            host.bind(fd, (local, 0).into()).map_err(|error| {
                let text = format!("the local address {local} cannot be used: {error}");
                io::Error::new(error.kind(), text)
            })?;
        }
        Ok(socket)
    }
}

/// Connects a socket, of whatever family; one that could not be connected is closed.
pub(super) async fn connect(run: &Rc<Run>, socket: Descriptor, to: SockAddr) -> Result<Fd> {
    let fd = run.adopt(socket);
    match exec::submit(|| Submission::connect(&fd, to)).await {
        Ok(_) => Ok(fd),
        // The scope around waits for the socket to be closed.
        Err(cancelled) if cancelled.is_cancelled() => Err(cancelled),
        Err(error) => {
            // It is good for nothing else (rule D2), and what closing says is no news.
            drop(close(run, fd, Vec::new()).await);
            Err(error)
        }
    }
}

/// What RFC 8305 recommends.
const DELAY: Duration = Duration::from_millis(250);

/// Puts the first address of the second family behind the first address of the first (RFC 6555,
/// section 5.4): if one of the families does not work here, it costs one attempt.
fn alternate(targets: &mut [SocketAddr]) {
    let other = targets.iter().position(|target| target.is_ipv4() != targets[0].is_ipv4());
    if let Some(other) = other {
        targets[1..=other].rotate_right(1);
    }
}

/// Says which address it was that could not be connected to. A cancellation is no such failure.
fn told(error: Error, name: Option<&str>, target: SocketAddr) -> Error {
    let Error::Io(error) = error else { return error };
    let text = match name {
        Some(name) => format!("cannot connect to {name} at {target}: {error}"),
        None => format!("cannot connect to {target}: {error}"),
    };
    io::Error::new(error.kind(), text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Trio: test_reorder_for_rfc_6555_section_5_4.
    #[test]
    fn the_other_family_comes_second_and_the_rest_stays_in_order() {
        let order = |families: &str| {
            let mut targets: Vec<SocketAddr> = families
                .chars()
                .zip(1..)
                .map(|(family, port)| match family {
                    '4' => ([127, 0, 0, 1], port).into(),
                    _ => ([0, 0, 0, 0, 0, 0, 0, 1], port).into(),
                })
                .collect();
            alternate(&mut targets);
            targets.iter().map(SocketAddr::port).collect::<Vec<_>>()
        };
        assert_eq!(order("44466"), [1, 4, 2, 3, 5]);
        assert_eq!(order("6644"), [1, 3, 2, 4]);
        assert_eq!(order("4646"), [1, 2, 3, 4]);
        for same in ["4", "444", "6", "66"] {
            assert!(order(same).is_sorted(), "{same}");
        }
    }
}
