//! The calls that answer at once, and the descriptors they make, of whichever kernel it is.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
#[cfg(feature = "testing")]
use std::rc::Rc;

use super::address::SockAddr;
use super::datagram::Membership;
use super::pipe;
use super::socket::{Linux, OptionName, OptionValue};
#[cfg(feature = "testing")]
use super::twin::World;
use super::unix::{FileId, PeerIds, UnixKind};

/// Linux or a simulated world, as far as it answers at once.
#[derive(Clone)]
pub(crate) enum Host {
    Linux(Linux),
    #[cfg(feature = "testing")]
    Twin(Rc<World>),
}

/// Calls the same method of whichever it is.
macro_rules! of {
    ($host:expr, $either:ident => $call:expr) => {
        match $host {
            Host::Linux($either) => $call,
            #[cfg(feature = "testing")]
            Host::Twin($either) => $call,
        }
    };
}

impl Host {
    pub(crate) const LINUX: Host = Host::Linux(Linux);

    /// A TCP socket for addresses of this family.
    pub(crate) fn tcp_socket(&self, family: SocketAddr) -> io::Result<Descriptor> {
        of!(self, either => either.tcp_socket(family)).map(|raw| self.name(raw))
    }

    /// Gives a socket this address.
    pub(crate) fn bind(&self, fd: RawFd, address: SocketAddr) -> io::Result<()> {
        of!(self, either => either.bind(fd, address))
    }

    /// Has a bound socket listen.
    pub(crate) fn listen(&self, fd: RawFd, backlog: u32) -> io::Result<()> {
        of!(self, either => either.listen(fd, backlog))
    }

    /// The two ends of a pipe: what is read, and what is written to.
    pub(crate) fn pipe(&self) -> io::Result<(Descriptor, Descriptor)> {
        let (reader, writer) = of!(self, either => either.pipe())?;
        Ok((self.name(reader), self.name(writer)))
    }

    /// A duplicate of the standard input, output or error.
    pub(crate) fn standard(&self, number: RawFd) -> io::Result<Descriptor> {
        of!(self, either => either.standard(number)).map(|raw| self.name(raw))
    }

    /// Checks that a descriptor from elsewhere is an end of a pipe, of the kind with which the ring can
    /// wait.
    pub(crate) fn check_pipe(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Host::Linux(_) => pipe::check_end(fd),
            #[cfg(feature = "testing")]
            Host::Twin(_) => {
                let text = "a descriptor of Linux is none of a simulated kernel";
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        }
    }

    /// A UDP socket that is bound to `address`.
    pub(crate) fn udp_socket(&self, address: SocketAddr) -> io::Result<Descriptor> {
        of!(self, either => either.udp_socket(address)).map(|raw| self.name(raw))
    }

    /// Says who the only peer of a UDP socket is from now on.
    pub(crate) fn udp_connect(&self, fd: RawFd, peer: SocketAddr) -> io::Result<()> {
        of!(self, either => either.udp_connect(fd, peer))
    }

    pub(crate) fn change_membership(&self, fd: RawFd, membership: Membership) -> io::Result<()> {
        of!(self, either => either.change_membership(fd, membership))
    }

    /// A Unix socket without a name.
    pub(crate) fn unix_socket(&self, kind: UnixKind) -> io::Result<Descriptor> {
        of!(self, either => either.unix_socket(kind)).map(|raw| self.name(raw))
    }

    /// Two Unix sockets that are connected to each other.
    pub(crate) fn unix_pair(&self, kind: UnixKind) -> io::Result<(Descriptor, Descriptor)> {
        let (one, other) = of!(self, either => either.unix_pair(kind))?;
        Ok((self.name(one), self.name(other)))
    }

    /// A Unix socket that listens under this name.
    pub(crate) fn unix_listen(&self, name: &SockAddr, backlog: u32) -> io::Result<Descriptor> {
        of!(self, either => either.unix_listen(name, backlog)).map(|raw| self.name(raw))
    }

    /// A Unix socket for datagrams that has this name.
    pub(crate) fn unix_bound(&self, name: &SockAddr) -> io::Result<Descriptor> {
        of!(self, either => either.unix_bound(name)).map(|raw| self.name(raw))
    }

    /// Says who the only peer of a Unix socket for datagrams is from now on.
    pub(crate) fn unix_connect(&self, fd: RawFd, name: &SockAddr) -> io::Result<()> {
        of!(self, either => either.unix_connect(fd, name))
    }

    /// The address of a socket of whatever family.
    pub(crate) fn local_name(&self, fd: RawFd) -> io::Result<SockAddr> {
        of!(self, either => either.local_name(fd))
    }

    /// The address of the other end.
    pub(crate) fn peer_name(&self, fd: RawFd) -> io::Result<SockAddr> {
        of!(self, either => either.peer_name(fd))
    }

    /// Who has made the other end.
    pub(crate) fn peer_ids(&self, fd: RawFd) -> io::Result<PeerIds> {
        of!(self, either => either.peer_ids(fd))
    }

    /// Which file has this name.
    pub(crate) fn file_id(&self, path: &Path) -> io::Result<FileId> {
        of!(self, either => either.file_id(path))
    }

    /// Takes a name away.
    pub(crate) fn unlink(&self, path: &Path) -> io::Result<()> {
        of!(self, either => either.unlink(path))
    }

    pub(crate) fn local_addr(&self, fd: RawFd) -> io::Result<SocketAddr> {
        of!(self, either => either.local_addr(fd))
    }

    pub(crate) fn peer_addr(&self, fd: RawFd) -> io::Result<SocketAddr> {
        of!(self, either => either.peer_addr(fd))
    }

    /// Ends a connection at once, with a reset, and frees what it was to send.
    pub(crate) fn disconnect(&self, fd: RawFd) -> io::Result<()> {
        of!(self, either => either.disconnect(fd))
    }

    pub(crate) fn option(&self, fd: RawFd, of: OptionName) -> io::Result<OptionValue> {
        of!(self, either => either.option(fd, of))
    }

    pub(crate) fn set_option(
        &self,
        fd: RawFd,
        of: OptionName,
        value: OptionValue,
    ) -> io::Result<()> {
        of!(self, either => either.set_option(fd, of, value))
    }

    /// The addresses behind a name, where that takes no waiting: a simulated world knows its names.
    /// `None`: it has to be looked up in a thread.
    pub(crate) fn known_addresses(
        &self,
        _host: &str,
        _port: u16,
    ) -> Option<io::Result<Vec<SocketAddr>>> {
        match self {
            Host::Linux(_) => None,
            #[cfg(feature = "testing")]
            Host::Twin(world) => Some(world.lookup(_host, _port)),
        }
    }

    /// Whether it is Linux; a simulated kernel has no such thing as `what`.
    pub(crate) fn check_linux(&self, _what: &str) -> io::Result<()> {
        match self {
            Host::Linux(_) => Ok(()),
            #[cfg(feature = "testing")]
            Host::Twin(_) => {
                let text = format!("{_what} is of the real world, and a simulated kernel has none");
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        }
    }

    /// Closes at once: for descriptors that no run is left to close.
    pub(crate) fn close(&self, fd: RawFd) {
        of!(self, either => either.close(fd));
    }

    /// Owns a descriptor that this kernel has made.
    ///
    /// # Safety
    /// Nobody else owns it.
    pub(crate) unsafe fn own(&self, raw: RawFd) -> Descriptor {
        self.name(raw)
    }

    fn name(&self, raw: RawFd) -> Descriptor {
        Descriptor { raw, host: self.clone() }
    }
}

/// An owned descriptor of whichever kernel made it. Dropping it closes it at once.
pub(crate) struct Descriptor {
    raw: RawFd,
    host: Host,
}

impl Descriptor {
    /// Gives it up, with the host that can close it.
    pub(crate) fn into_parts(self) -> (RawFd, Host) {
        let parts = (self.raw, self.host.clone());
        // Only the share in the host is dropped.
        let mut this = self;
        this.raw = GIVEN_UP;
        parts
    }
}

const GIVEN_UP: RawFd = -1;

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.raw != GIVEN_UP {
            self.host.close(self.raw);
        }
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(fd: OwnedFd) -> Descriptor {
        Descriptor { raw: fd.into_raw_fd(), host: Host::LINUX }
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.raw
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fd {}", self.raw)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Host::Linux(_) => "Linux",
            #[cfg(feature = "testing")]
            Host::Twin(_) => "Twin",
        })
    }
}
