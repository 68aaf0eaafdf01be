//! Addresses as a user writes them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use crate::error::Result;
use crate::exec::{self, Run};

use super::resolve;

/// An address, several of them, or a name with a port that has to be looked up.
///
/// Made from a [`SocketAddr`], from text (`"127.0.0.1:80"`, `"[::1]:80"`, `"localhost:80"`), from an
/// [`IpAddr`] or a name with a port, or from a list of addresses that somebody else has looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    form: Form,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Form {
    Known(SocketAddr),
    Several(Vec<SocketAddr>),
    Named {
        host: String,
        port: u16,
    },
    /// What is wrong with it is said when it is used.
    Wrong {
        text: String,
        what: &'static str,
    },
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Form::Known(address).into()
    }
}

impl From<Vec<SocketAddr>> for Address {
    fn from(addresses: Vec<SocketAddr>) -> Self {
        Form::Several(addresses).into()
    }
}

impl From<&[SocketAddr]> for Address {
    fn from(addresses: &[SocketAddr]) -> Self {
        addresses.to_vec().into()
    }
}

impl<const N: usize> From<[SocketAddr; N]> for Address {
    fn from(addresses: [SocketAddr; N]) -> Self {
        addresses.to_vec().into()
    }
}

impl From<(IpAddr, u16)> for Address {
    fn from(address: (IpAddr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(&str, u16)> for Address {
    fn from((host, port): (&str, u16)) -> Self {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(ip) => (ip, port).into(),
            Err(_) if bare.is_empty() => {
                let what = "the host is missing; Address::any is every address of this machine";
                Form::Wrong { text: format!(":{port}"), what }.into()
            }
            Err(_) => Form::Named { host: bare.to_owned(), port }.into(),
        }
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return address.into();
        }
        let wrong = |what| Form::Wrong { text: text.to_owned(), what }.into();
        let Some((host, port)) = text.rsplit_once(':') else {
            return wrong("the port is missing, as in \"localhost:80\"");
        };
        if host.contains(':') && !host.starts_with('[') {
            return wrong("an address of IPv6 stands in brackets, as in \"[::1]:80\"");
        }
        match port.parse::<u16>() {
            Ok(port) => (host, port).into(),
            Err(_) => wrong("the port is not a number up to 65535"),
        }
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<Form> for Address {
    fn from(form: Form) -> Self {
        Address { form }
    }
}

impl Address {
    /// Every address of this machine, of IPv4 and of IPv6: for
    /// [`bind_all`](super::ListenBuilder::bind_all).
    pub fn any(port: u16) -> Address {
        let ips: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        ips.map(|ip| SocketAddr::from((ip, port))).to_vec().into()
    }

    /// The addresses behind it, at least one. Only a name is looked up: by the
    /// [resolver](super::set_resolver) of the run, and if it has none, as
    /// [`look_up`](super::look_up()) does.
    ///
    /// Cancel class: total.
    ///
    /// # Errors
    /// `InvalidInput` for a text that is no address; what the look-up fails with; `NotFound` if there is no
    /// address; `Cancelled`; [`Error::NoRun`](crate::Error::NoRun) outside of a run.
    ///
    /// ```
    /// use trine::net::Address;
    ///
    /// trine::run(async || {
    ///     let found = Address::from("localhost:80").resolve().await?;
    ///     assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub async fn resolve(self) -> Result<Vec<SocketAddr>> {
        exec::current()?.answer_at_once().await?;
        let found = match &self.form {
            Form::Known(address) => vec![*address],
            Form::Several(addresses) => addresses.clone(),
            Form::Named { host, port } => resolve::resolve(host, *port).await?,
            Form::Wrong { what, .. } => {
                let text = format!("{self} is no address: {what}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
            }
        };
        if found.is_empty() {
            let text = format!("there is no address for {self}");
            return Err(io::Error::new(io::ErrorKind::NotFound, text).into());
        }
        Ok(found)
    }

    /// Does what does not wait with one address after another until it succeeds; else the last error
    /// is returned.
    pub(super) async fn first_that_works<T>(
        self,
        run: &Rc<Run>,
        mut work: impl FnMut(SocketAddr) -> io::Result<T>,
    ) -> Result<T> {
        let addresses = self.resolve().await?;
        run.schedule_point().await;
        let mut refused = None;
        for address in addresses {
            match work(address) {
                Ok(value) => return Ok(value),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.expect("there is at least one address").into())
    }

    /// How it is told to people, where it is more than an address.
    pub(super) fn name(&self) -> Option<String> {
        matches!(self.form, Form::Named { .. }).then(|| self.to_string())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            Form::Known(address) => address.fmt(f),
            Form::Several(addresses) => f.debug_list().entries(addresses).finish(),
            Form::Named { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Form::Named { host, port } => write!(f, "{host}:{port}"),
            Form::Wrong { text, .. } => write!(f, "{text:?}"),
        }
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
        assert!(matches!(Address::from(("[::1]", 80)).form, Form::Known(_)));
        for (text, said) in
            [("localhost:80", "localhost:80"), ("[fe80::1%lo]:80", "[fe80::1%lo]:80")]
        {
            let address = Address::from(text);
            assert!(matches!(address.form, Form::Named { port: 80, .. }), "{text}");
            assert_eq!(address.to_string(), said);
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, why) in [
            ("", "port is missing"),
            ("localhost", "port is missing"),
            (":80", "host is missing"),
            ("[]:80", "host is missing"),
            ("::1:80", "in brackets"),
            ("localhost:http", "not a number"),
            ("localhost:65536", "not a number"),
        ] {
            let Form::Wrong { what, .. } = Address::from(text).form else { panic!("{text}") };
            assert!(what.contains(why), "{text}: {what}");
        }
    }
}
