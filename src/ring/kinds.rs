//! What descriptors from elsewhere are of.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::host::{Descriptor, Host};
use super::pipe::{NON_BLOCKING, flags, mode, unusable};
use super::socket::{Linux, OptionName};

/// What a descriptor is to be of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FdKind {
    TcpStream,
    TcpListener,
    UdpSocket,
    UnixStream,
    UnixListener,
    UnixDatagram,
    PipeReader,
    PipeWriter,
    File,
}

impl FdKind {
    fn name(self) -> &'static str {
        match self {
            FdKind::TcpStream => "TCP socket that is connected",
            FdKind::TcpListener => "TCP socket that listens",
            FdKind::UdpSocket => "UDP socket",
            FdKind::UnixStream => "Unix stream socket that is connected",
            FdKind::UnixListener => "Unix stream socket that listens",
            FdKind::UnixDatagram => "Unix datagram socket",
            FdKind::PipeReader => "pipe that can be read",
            FdKind::PipeWriter => "pipe that can be written to",
            FdKind::File => "file",
        }
    }
}

impl Host {
    /// Checks that a descriptor from elsewhere is of this kernel and of this kind, and a blocking one: of others
    /// the kernel fails an operation instead of having it wait.
    pub(crate) fn check_kind(&self, descriptor: &Descriptor, kind: FdKind) -> io::Result<()> {
        self.check_own(descriptor)?;
        let fd = descriptor.as_raw_fd();
        let (is_it, blocks) = match self {
            Host::Linux(linux) => (linux.is_a(fd, kind)?, flags(fd)? & libc::O_NONBLOCK == 0),
            #[cfg(feature = "testing")]
            Host::Twin(world) => (world.is_a(fd, kind)?, true),
        };
        match (is_it, blocks || kind == FdKind::File) {
            (true, true) => Ok(()),
            (true, false) => Err(unusable(fd, NON_BLOCKING)),
            (false, _) => Err(unusable(fd, &format!("is no {}", kind.name()))),
        }
    }

    /// Whether what is written through it goes to the end of its file.
    pub(crate) fn appends(&self, descriptor: &Descriptor) -> io::Result<bool> {
        match self {
            Host::Linux(_) => Ok(flags(descriptor.as_raw_fd())? & libc::O_APPEND != 0),
            #[cfg(feature = "testing")]
            Host::Twin(world) => world.appends(descriptor.as_raw_fd()),
        }
    }
}

impl Linux {
    fn is_a(self, fd: RawFd, kind: FdKind) -> io::Result<bool> {
        let mode = mode(fd)?;
        let access = flags(fd)? & libc::O_ACCMODE;
        Ok(match kind {
            FdKind::PipeReader => mode == libc::S_IFIFO && access != libc::O_WRONLY,
            FdKind::PipeWriter => mode == libc::S_IFIFO && access != libc::O_RDONLY,
            FdKind::File => {
                let kinds =
                    [libc::S_IFREG, libc::S_IFDIR, libc::S_IFBLK, libc::S_IFCHR, libc::S_IFIFO];
                kinds.contains(&mode)
            }
            _ if mode != libc::S_IFSOCK => false,
            _ => self.socket_kind(fd)? == Some(kind),
        })
    }

    /// What a socket is, of those that there are here.
    fn socket_kind(self, fd: RawFd) -> io::Result<Option<FdKind>> {
        let option = |name| {
            let value = self.option(fd, OptionName { level: libc::SOL_SOCKET, name });
            value.map(|value| value.as_number())
        };
        let (domain, kind) = (option(libc::SO_DOMAIN)?, option(libc::SO_TYPE)?);
        let of_internet = matches!(domain, libc::AF_INET | libc::AF_INET6);
        let protocol = option(libc::SO_PROTOCOL)?;
        let (stream, listener) = match (domain, kind, protocol) {
            (libc::AF_UNIX, libc::SOCK_DGRAM, _) => return Ok(Some(FdKind::UnixDatagram)),
            (_, libc::SOCK_DGRAM, libc::IPPROTO_UDP) if of_internet => {
                return Ok(Some(FdKind::UdpSocket));
            }
            (libc::AF_UNIX, libc::SOCK_STREAM, _) => (FdKind::UnixStream, FdKind::UnixListener),
            (_, libc::SOCK_STREAM, libc::IPPROTO_TCP) if of_internet => {
                (FdKind::TcpStream, FdKind::TcpListener)
            }
            _ => return Ok(None),
        };
        if option(libc::SO_ACCEPTCONN)? != 0 {
            return Ok(Some(listener));
        }
        Ok(self.peer_name(fd).is_ok().then_some(stream))
    }
}
