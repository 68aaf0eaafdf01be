//! The calls that answer at once, and the descriptors they make, of whichever kernel it is.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
#[cfg(feature = "testing")]
use std::rc::Rc;

use super::address::SockAddr;
use super::control::MOST_DESCRIPTORS;
use super::datagram::Membership;
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

    /// Has a pipe hold so many bytes if it may, and says how many it does.
    pub(crate) fn widen_pipe(&self, fd: RawFd, bytes: u32) -> u32 {
        of!(self, either => either.widen_pipe(fd, bytes))
    }

    /// What a pipe is to hold through which a kernel moves bytes: what everybody may have on Linux
    /// (`/proc/sys/fs/pipe-max-size`).
    pub(crate) fn widest_pipe(&self) -> u32 {
        match self {
            Host::Linux(_) => 1 << 20,
            #[cfg(feature = "testing")]
            Host::Twin(world) => world.widest_pipe(),
        }
    }

    /// How many bytes wait in a stream to be read; 0 if that is not known.
    pub(crate) fn unread(&self, fd: RawFd) -> u32 {
        of!(self, either => either.unread(fd))
    }

    /// Takes so many bytes out of a pipe in which they lie: it does not wait.
    pub(crate) fn drain(&self, pipe: RawFd, len: usize) -> io::Result<Vec<u8>> {
        of!(self, either => either.drain(pipe, len))
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

    /// Has closing wait for nobody: what is to be sent goes out all the same.
    #[cold]
    pub(crate) fn end_linger(&self, fd: RawFd) {
        let linger = OptionName { level: libc::SOL_SOCKET, name: libc::SO_LINGER };
        // What is no socket does not linger.
        let _ = self.set_option(fd, linger, OptionValue::pair([0, 0]));
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

    /// A second descriptor of the same.
    pub(crate) fn duplicate(&self, fd: RawFd) -> io::Result<Descriptor> {
        of!(self, either => either.duplicate(fd)).map(|raw| self.name(raw))
    }

    /// Checks that a descriptor is one of this kernel's.
    pub(super) fn check_own(&self, descriptor: &Descriptor) -> io::Result<()> {
        match (self, &descriptor.host) {
            (Host::Linux(_), Host::Linux(_)) => Ok(()),
            #[cfg(feature = "testing")]
            (Host::Twin(mine), Host::Twin(its)) if Rc::ptr_eq(mine, its) => Ok(()),
            #[cfg(feature = "testing")]
            _ => Err(of_another_kernel()),
        }
    }

    /// Checks that these descriptors may go with a message.
    pub(crate) fn check_to_send(&self, descriptors: &[Descriptor]) -> io::Result<()> {
        if descriptors.len() > MOST_DESCRIPTORS {
            let count = descriptors.len();
            let text = format!("{count} descriptors, and a message can have {MOST_DESCRIPTORS}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        descriptors.iter().try_for_each(|descriptor| self.check_own(descriptor))
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
        Descriptor { raw, host: self.clone(), of_its_thread: PhantomData }
    }
}

/// A descriptor and nothing else: not yet, or no longer, a socket, a pipe or a file of this crate.
///
/// It is made of anything that owns a descriptor (an [`OwnedFd`], a file or a socket of the standard library),
/// comes [with bytes](crate::net::UnixStream::recv_fds) from other processes, and is what `into_fd` and
/// `duplicate` of a socket, a pipe or a file make. `from_fd` makes one of those of it again.
///
/// In tests it may be of a simulated kernel, of which the operating system knows nothing; that is all in
/// which it differs from an [`OwnedFd`]. Dropping it closes it at once.
///
/// ```
/// use std::io::Write;
/// use trine::io::Descriptor;
/// use trine::net::UnixStream;
///
/// trine::run(async || {
///     let (mut foreign, ours) = std::os::unix::net::UnixStream::pair()?;
///     let stream = UnixStream::from_fd(ours)?;
///     foreign.write_all(b"hello")?;
///     assert_eq!(stream.read(Vec::with_capacity(16)).await?, b"hello");
///     let descriptor: Descriptor = stream.into_fd().await?;
///     let ours = std::os::unix::net::UnixStream::from(descriptor.into_owned_fd()?);
///     assert!(ours.peer_addr()?.is_unnamed());
///     Ok(())
/// })?;
/// # Ok::<(), trine::Error>(())
/// ```
pub struct Descriptor {
    raw: RawFd,
    host: Host,
    /// A simulated kernel's could not go to another thread.
    of_its_thread: PhantomData<*const ()>,
}

impl Descriptor {
    /// Makes it one of the standard library's, which may go to another thread.
    ///
    /// # Errors
    /// `Unsupported` for one of a simulated kernel.
    pub fn into_owned_fd(self) -> io::Result<OwnedFd> {
        self.host.check_linux("a descriptor for the standard library")?;
        let (raw, _) = self.into_parts();
        // SAFETY: it was owned here, of Linux, and is given up.
        Ok(unsafe { OwnedFd::from_raw_fd(raw) })
    }

    /// Makes a second descriptor of the same, as `dup` does; it is closed on exec.
    ///
    /// # Errors
    /// `EMFILE` where there are too many descriptors.
    pub fn duplicate(&self) -> io::Result<Descriptor> {
        self.host.duplicate(self.raw)
    }

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

impl<T: Into<OwnedFd>> From<T> for Descriptor {
    fn from(owner: T) -> Descriptor {
        let fd: OwnedFd = owner.into();
        Host::LINUX.name(fd.into_raw_fd())
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.raw
    }
}

#[cfg(feature = "testing")]
fn of_another_kernel() -> io::Error {
    let text = "a descriptor of Linux is none of a simulated kernel's, nor the other way round";
    io::Error::new(io::ErrorKind::Unsupported, text)
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
