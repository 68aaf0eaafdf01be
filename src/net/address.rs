//! Addresses as a user writes them.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker, ready};

use crate::cancel::Subject;
use crate::error::Result;
use crate::exec::{Park, Run};

/// An address, or a name with a port that has to be looked up.
///
/// Made from a [`SocketAddr`], from text (`"127.0.0.1:80"`, `"[::1]:80"`, `"localhost:80"`), or from an
/// [`IpAddr`] or a name with a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    form: Form,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Form {
    Known(SocketAddr),
    Named(String),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address { form: Form::Known(address) }
    }
}

impl From<(IpAddr, u16)> for Address {
    fn from(address: (IpAddr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(&str, u16)> for Address {
    fn from((host, port): (&str, u16)) -> Self {
        match host.parse::<IpAddr>() {
            Ok(ip) => (ip, port).into(),
            Err(_) => Address { form: Form::Named(format!("{host}:{port}")) },
        }
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        match text.parse() {
            Ok(address) => Address { form: Form::Known(address) },
            Err(_) => Address { form: Form::Named(text.to_owned()) },
        }
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl Address {
    /// The addresses behind it; only a name is looked up, in a thread. When the wait is cancelled the
    /// thread is left to itself: a look-up cannot be stopped and changes nothing.
    pub(super) async fn resolve(self, run: &Rc<Run>) -> Result<Vec<SocketAddr>> {
        poll_fn(|_| run.cancel_point()).await?;
        let name = match self.form {
            Form::Known(address) => return Ok(vec![address]),
            Form::Named(name) => name,
        };
        if let Some(known) = run.host().known_addresses(&name) {
            return Ok(known?);
        }
        let lookup = Arc::new(Mutex::new(Lookup::default()));
        let answer_to = Arc::clone(&lookup);
        let work = move || answer(&answer_to, name.to_socket_addrs().map(Iterator::collect));
        std::thread::Builder::new().name("trine-resolve".to_owned()).spawn(work)?;
        let mut park = None;
        poll_fn(|cx| {
            loop {
                {
                    let mut lookup = lookup.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(addresses) = lookup.addresses.take() {
                        run.progress();
                        return Poll::Ready(Ok(addresses?));
                    }
                    lookup.waker = Some(cx.waker().clone());
                }
                let waiting = match &park {
                    Some(waiting) => waiting,
                    None => {
                        ready!(run.cancel_point())?;
                        park.insert(Park::new(run, Subject::Park))
                    }
                };
                let woken = ready!(waiting.poll_cancellable(cx));
                park = None;
                woken.transpose()?;
            }
        })
        .await
    }
}

/// What the looking thread and the waiting task share.
#[derive(Default)]
struct Lookup {
    addresses: Option<io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}

fn answer(lookup: &Mutex<Lookup>, addresses: io::Result<Vec<SocketAddr>>) {
    let mut lookup = lookup.lock().unwrap_or_else(PoisonError::into_inner);
    lookup.addresses = Some(addresses);
    let waker = lookup.waker.take();
    drop(lookup);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_addresses_need_no_look_up() {
        for text in ["127.0.0.1:80", "[::1]:80"] {
            assert!(matches!(Address::from(text).form, Form::Known(_)), "{text}");
        }
        assert!(matches!(Address::from(("::1", 80)).form, Form::Known(_)));
        assert!(matches!(Address::from("localhost:80").form, Form::Named(_)));
    }
}
